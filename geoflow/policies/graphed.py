"""Graphed: a flow policy whose whole sampler is one CUDA graph, replayed for every chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow.policies.base import Policy
from geoflow.policies.compiled import CompiledStep
from geoflow.policies.fast import Fast
from geoflow.policies.sampler import ChunkSampler

WARM_UP = 3
"""Calls before a capture, in which cuBLAS and cuDNN choose and allocate."""


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    chunk: Tensor


class Graphed(Fast):
    """`policy.act` by a CUDA graph: one launch a chunk in place of a thousand, with the same noise and chunks.

        fast = gf.policies.graphed.Graphed(policy, nfe=4)
        broker = gf.ChunkBroker(fast)

    A graph is captured at the first call of each batch size, and kept; it reads and writes the same memory
    every time. The weights may change between calls (the graph reads them where they are), their storage may not:
    after `policy.to(...)` make a new one.

    Args:
        policy: A flow policy with a Gaussian prior, on a CUDA device.
        nfe: Network evaluations a chunk; the policy's own by default.
        compiled: Capture what torch.compile makes of a step: fewer kernels.

    Raises:
        ValueError: a policy that is told a text, or is not on a GPU, or that `ChunkSampler` does not
            take.
    """

    def __init__(self, policy: Policy, nfe: int | None = None, *, compiled: bool = False) -> None:
        # A text is encoded once for all who are told it, and where no text reaches no transformer looks.
        if "text" in policy.spec.kinds.values():
            raise ValueError(
                "this policy is told a text, of which it keeps as many tokens as there are; a CUDA graph keeps all its "
                "shapes. Use policy.act or Compiled."
            )
        device = policy.length.device
        if device.type != "cuda":
            raise ValueError(
                f"the policy is on {device}; CUDA graphs need a GPU: load_policy(..., device='cuda'). On a CPU, "
                "policy.act is the way, or Compiled, or geoflow export, whose ONNX graph is faster."
            )
        super().__init__(policy, nfe)
        self._step = CompiledStep(policy) if compiled else None
        self._captures: dict[Any, _Capture] = {}

    def _chunk(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> Tensor:
        key = (sampler.nfe, *(tuple(x.shape) for x in inputs))
        if key not in self._captures:
            self._captures[key] = self._capture(sampler, inputs)
        capture = self._captures[key]
        for static, given in zip(capture.inputs, inputs, strict=True):
            static.copy_(given)
        capture.graph.replay()
        return capture.chunk.clone()  # the next replay writes over it

    def _capture(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> _Capture:
        with torch.cuda.device(self.policy.length.device):
            static = tuple(x.clone() for x in inputs)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    sampler.sample(static, self._step)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                chunk = sampler.sample(static, self._step)
        return _Capture(graph, static, chunk)

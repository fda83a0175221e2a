"""Graphed: a flow policy whose whole sampler is one CUDA graph, replayed for every chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.noise import Generators
from geoflow.policies.base import Onward, Policy
from geoflow.policies.sampler import ChunkSampler

WARM_UP = 3
"""Calls before a capture, in which cuBLAS and cuDNN choose and allocate."""


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    chunk: Tensor


class Graphed:
    """`policy.act` by a CUDA graph: one launch a chunk in place of a thousand, with the same noise and chunks.

        fast = gf.policies.graphed.Graphed(policy, nfe=4)
        broker = gf.ChunkBroker(fast)

    A graph is captured at the first call of each batch size, and kept; it reads and writes the same memory
    every time. Noise is drawn outside, so that generators work as they do for `policy.act`. The weights may change
    between calls (the graph reads them where they are), their storage may not: after `policy.to(...)` make a new
    one. One thread at a time.

    Args:
        policy: A flow policy with a Gaussian prior, on a CUDA device.
        nfe: Network evaluations a chunk; the policy's own by default.
        compiled: Capture what torch.compile makes of the sampler: fewer kernels, a minute of compilation.

    Raises:
        ValueError: a policy that is not on a GPU, or that `ChunkSampler` does not take.
    """

    def __init__(self, policy: Policy, nfe: int | None = None, *, compiled: bool = False) -> None:
        device = policy.length.device
        if device.type != "cuda":
            raise ValueError(
                f"the policy is on {device}; CUDA graphs need a GPU: load_policy(..., device='cuda'). On a CPU, "
                "policy.act is the way, or geoflow export, whose ONNX graph is faster."
            )
        self.policy, self.config, self.spec = policy.eval(), policy.config, policy.spec
        self._compiled = compiled
        self._samplers: dict[int | None, ChunkSampler] = {}
        self._captures: dict[Any, _Capture] = {}
        self._nfe = self._sampler(nfe).nfe

    def act(
        self,
        obs: Mapping[str, Any],
        nfe: int | None = None,
        solver: str | None = None,
        generator: Generators = None,
        onward: Onward | None = None,
    ) -> Tensor:
        """The next chunk, as `policy.act` gives it.

        All observations must be there. Going on with a chunk is not in the graph: that is left to `policy.act`.

        Raises:
            ValueError: as `policy.act`; a solver that is not the policy's own; an observation is missing.
        """
        if onward is not None:
            return self.policy.act(obs, nfe or self._nfe, solver, generator, onward)
        sampler = self._sampler(nfe or self._nfe)
        if solver not in (None, "auto", sampler.solver):
            raise ValueError(
                f"solver={solver!r}; this graph is of {sampler.solver}. policy.act takes others."
            )
        batched, single = self.policy.batched(obs)
        absent = [name for name in sampler.names if name not in batched]
        if absent:
            raise ValueError(f"observations {absent} are missing; a graph takes all of {sampler.names}.")
        # Not in inference mode: a graph's memory is written to in later calls, which that forbids.
        with torch.no_grad():
            noise = sampler.noise(len(batched[sampler.names[0]]), generator)
            chunk = self._replay(sampler, (noise, *(batched[name] for name in sampler.names)))
        return chunk[0] if single else chunk

    def check_manner(self, *args: Any, **kwargs: Any) -> None:
        """As the policy's."""
        self.policy.check_manner(*args, **kwargs)

    def _sampler(self, nfe: int | None) -> ChunkSampler:
        if nfe not in self._samplers:
            self._samplers[nfe] = ChunkSampler(self.policy, nfe)
        return self._samplers[nfe]

    def _replay(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> Tensor:
        key = (sampler.nfe, *(tuple(x.shape) for x in inputs))
        if key not in self._captures:
            self._captures[key] = self._capture(sampler, inputs)
        capture = self._captures[key]
        for static, given in zip(capture.inputs, inputs, strict=True):
            static.copy_(given)
        capture.graph.replay()
        return capture.chunk.clone()  # the next replay writes over it

    def _capture(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> _Capture:
        sample = torch.compile(sampler, dynamic=False) if self._compiled else sampler
        with torch.cuda.device(self.policy.length.device):
            static = tuple(x.clone() for x in inputs)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    sample(*static)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                chunk = sample(*static)
        return _Capture(graph, static, chunk)

"""Compiled: a flow policy whose integration step is one compiled function of state, time and condition."""

from __future__ import annotations

from typing import Any

import torch
import torch._dynamo
from torch import Tensor

from geoflow.policies.base import Policy
from geoflow.policies.fast import Fast
from geoflow.policies.sampler import ChunkSampler

VERSIONS = 256
"""How many versions of a step may be compiled in a process, one a policy and batch size; torch's own limit, 8, is meant
for functions whose versions nobody foresaw, and is an error at the ninth batch size."""


class CompiledStep:
    """`Flow.step` of a policy by torch.compile. Time enters as a tensor: one function serves every step and grid.

    A batch size is compiled at its first call.

    Args:
        policy: A flow policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._compiled = torch.compile(self._step, dynamic=False, fullgraph=True)
        self._versions = torch._dynamo.config.patch(recompile_limit=VERSIONS)
        self._times: dict[tuple[float, float], Tensor] = {}

    def __call__(self, net: Any, x: Tensor, t: float, dt: float, cond: Any) -> Tensor:
        """x at t + dt; ``net`` is the policy's own."""
        if (t, dt) not in self._times:
            self._times[t, dt] = torch.tensor([t, dt], device=self._policy.length.device)
        with self._versions:
            return self._compiled(x, self._times[t, dt], cond)

    def _step(self, x: Tensor, times: Tensor, cond: Any) -> Tensor:
        policy: Any = self._policy
        return policy.flow.step(policy.evaluate_network, x, times[0], times[1], cond)


class Compiled(Fast):
    """`policy.act` with a compiled step: fewer calls, the same noise, and chunks that agree to rounding.

        fast = gf.policies.compiled.Compiled(policy, nfe=4)
        broker = gf.ChunkBroker(fast)

    The first chunk of each batch size waits for the compiler. The weights may change between calls.

    Args:
        policy: A flow policy with a Gaussian prior, on any device.
        nfe: Network evaluations a chunk; the policy's own by default.

    Raises:
        ValueError: a policy that `ChunkSampler` does not take, or that is not integrated by Euler steps.
    """

    def __init__(self, policy: Policy, nfe: int | None = None) -> None:
        super().__init__(policy, nfe)
        self._step = CompiledStep(policy)
        if not self._sampler(nfe).steps_of_euler:
            raise ValueError(
                f"the solver is {self._sampler(nfe).solver}; only the Euler steps of a policy of method Flow() are "
                "compiled. policy.act takes any."
            )

    def _chunk(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> Tensor:
        return sampler.sample(inputs, self._step)

"""Fast: a flow policy whose chunks are computed in another way than call by call, and which stands in for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.noise import Generators
from geoflow.policies.base import Onward, Policy
from geoflow.policies.sampler import ChunkSampler


class Fast(ABC):
    """`policy.act` with the same noise and chunks, for a broker in place of the policy.

    Noise is drawn outside, so that generators work as they do for `policy.act`. One thread at a time. A subclass says
    how a chunk is computed.

    Args:
        policy: A flow policy with a Gaussian prior.
        nfe: Network evaluations a chunk; the policy's own by default.

    Raises:
        ValueError: a policy that `ChunkSampler` does not take.
    """

    def __init__(self, policy: Policy, nfe: int | None = None) -> None:
        self.policy, self.config, self.spec = policy.eval(), policy.config, policy.spec
        self._samplers: dict[int | None, ChunkSampler] = {}
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

        All observations must be there. Going on with a chunk is left to `policy.act`.

        Raises:
            ValueError: as `policy.act`; a solver that is not the policy's own; an observation is missing.
        """
        nfe = self._nfe if nfe is None else nfe
        if onward is not None:
            return self.policy.act(obs, nfe, solver, generator, onward)
        sampler = self._sampler(nfe)
        if solver not in (None, "auto", sampler.solver):
            raise ValueError(
                f"solver={solver!r}; this is made for {sampler.solver}. policy.act takes others."
            )
        batched, single = self.policy.batched(obs)
        absent = [name for name in sampler.names if name not in batched]
        if absent:
            raise ValueError(
                f"observations {absent} are missing; a {type(self).__name__} takes all of {sampler.names}."
            )
        # Not in inference mode: a CUDA graph's memory is written to in later calls, which that forbids.
        with torch.no_grad():
            noise = sampler.noise(len(batched[sampler.names[0]]), generator)
            chunk = self._chunk(sampler, (noise, *(batched[name] for name in sampler.names)))
        return chunk[0] if single else chunk

    def check_manner(self, *args: Any, **kwargs: Any) -> None:
        """As the policy's."""
        self.policy.check_manner(*args, **kwargs)

    @abstractmethod
    def _chunk(self, sampler: ChunkSampler, inputs: tuple[Tensor, ...]) -> Tensor:
        """sampler(*inputs)."""

    def _sampler(self, nfe: int | None) -> ChunkSampler:
        if nfe not in self._samplers:
            self._samplers[nfe] = ChunkSampler(self.policy, nfe)
        return self._samplers[nfe]

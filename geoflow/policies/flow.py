"""FlowPolicy: action chunks by flow matching, on a Lie group or, for comparison, on flat features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geoflow.data.chunks import Chunks
from geoflow.flows import INTEGRATORS, Flow, FlowMap, WrappedGaussian
from geoflow.flows.inpainting import sample_onward
from geoflow.flows.integrators import Integrator, Steps
from geoflow.flows.integrators.grids import intervals
from geoflow.flows.noise import Generators
from geoflow.flows.timed import Timed
from geoflow.flows.warm_start import sample_from
from geoflow.policies.backbones import Condition
from geoflow.policies.base import Policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.given import Given, counted
from geoflow.policies.onward import Goal
from geoflow.policies.spec import PolicySpec
from geoflow.policies.toolbox import part

JUMP = "jump"
"""The solver of a flow map: one evaluation carries a chunk from one time of the grid to the next."""


class FlowPolicy(Policy):
    """Flow matching on SE(3) x R^k, on R^3 x SO(3) x R^k, or on position + 6D rotation + extras.

    The prior's centre and width, per chunk step, are those of the demonstrations; the network's predictions are
    in the same widths.

    Raises:
        ValueError: a method, prior, path, coupling, times, grid or solver that is unknown or does not fit the
            others.
    """

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        super().__init__(config, spec)
        solvers = (*INTEGRATORS, JUMP) if self.times(config) == 2 else INTEGRATORS
        if config.solver not in ("auto", *solvers):
            raise ValueError(f"policy.solver={config.solver!r}; it is auto or one of {', '.join(solvers)}.")
        prior = part("prior", config.prior)(self.space, mean=self.chunk_mean, scale=self.chunk_scale)
        self.flow: Flow = part("method", config.method)(
            self.space,
            prior,
            path=part("path", config.path),
            coupling=part("coupling", config.coupling),
            scale=self.chunk_scale,
            target=config.target,
            center=self.chunk_mean,
            times=part("times", config.times),
        )
        self.grid = part("grid", config.grid)

    @staticmethod
    def default_solver(config: PolicyConfig) -> str:
        """Euler steps of a velocity, jumps of a flow map."""
        return JUMP if FlowPolicy.times(config) == 2 else "euler"

    @classmethod
    def cells(cls, config: PolicyConfig, counts: Sequence[int]) -> list[tuple[int, str]]:
        """By its own solver, at the counts that are whole steps of it."""
        cells = super().cells(config, counts)
        solver = cells[0][1]
        each = INTEGRATORS[solver].evaluations if solver in INTEGRATORS else 1
        whole = [cell for cell in cells if cell[0] % each == 0]
        if not whole:
            raise ValueError(f"nfe={list(counts)}; {solver} takes a multiple of {each} evaluations.")
        return whole

    @staticmethod
    def times(config: PolicyConfig) -> int:
        """2 for a flow map."""
        return _times(config.method)

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations."""
        super().fit(chunks, samples)
        prior = self.flow.prior
        assert isinstance(prior, WrappedGaussian)
        prior.mean.copy_(self.chunk_mean)
        prior.scale.copy_(self.chunk_scale)
        self.flow.scale.copy_(self.chunk_scale)
        self.flow.center.copy_(self.chunk_mean)

    def chunk_loss(
        self,
        x_1: Tensor,
        cond: Tensor | Condition,
        generator: Generators,
        given: Given | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """The loss (B,) of the method: conditional flow matching by default."""
        counts = counted(given, counts)
        return self.flow.loss(self.network(given), x_1, cond, generator=generator, counts=counts)

    def check_onward(self) -> None:
        """Raise ValueError for a flow map: its jumps leave no velocity to guide."""
        if isinstance(self.flow, FlowMap):
            raise ValueError(
                f"a {type(self.flow).__name__} jumps, and has no way on which it could be guided; use the naive "
                "execution, or a policy of method Flow()."
            )

    def check_warm_start(self) -> None:
        """Raise ValueError for a flow map, which is not integrated."""
        if isinstance(self.flow, FlowMap):
            raise ValueError(
                f"a {type(self.flow).__name__} jumps to its end in few evaluations as it is; a warm start is for "
                "policies of method Flow()."
            )

    def sample_chunk(
        self,
        cond: Tensor | Condition,
        nfe: int,
        solver: str,
        generator: Generators,
        *,
        path: bool = False,
        goal: Goal | None = None,
        given: Given | None = None,
        warm_start: tuple[Tensor, float] | None = None,
    ) -> Tensor:
        """From noise to a chunk, ``nfe`` network evaluations in all.

        It is guided to go on with a ``goal``, shown what is ``given``, or begins from another chunk (B, T,
        point_dim) at a time t_0 (``warm_start``).
        """
        if solver == JUMP and isinstance(self.flow, FlowMap):
            method, each = None, 1
        elif solver in INTEGRATORS:
            method, each = INTEGRATORS[solver], INTEGRATORS[solver].evaluations
        else:
            raise ValueError(
                f"solver={solver!r}; this policy is sampled by one of {', '.join(INTEGRATORS)}"
                f"{f', {JUMP}' if isinstance(self.flow, FlowMap) else ''}."
            )
        if nfe % each:
            raise ValueError(f"nfe={nfe}; {solver} takes a multiple of {each} evaluations.")
        how: dict[str, Any] = {
            "steps": self.grid(nfe // each),
            "method": method,
            "generator": generator,
            "path": path,
        }
        net, horizon = self.network(given), self.config.horizon
        if goal is not None:
            return sample_onward(self.flow, net, *goal, cond, **how)
        if warm_start is not None:
            return sample_from(self.flow, net, *warm_start, cond, **how)
        told = self.told(cond, how["steps"], method)
        return self.flow.sample(net, told, horizon=horizon, batch=len(cond), **how)

    def told(self, cond: Tensor | Condition, steps: Steps, method: Integrator | None) -> Any:
        """The condition made ready for the times of the steps, where the backbone can do that and knows them."""
        if (
            method is not INTEGRATORS["euler"]
            or self.times(self.config) == 2
            or not hasattr(self.net, "ready")
        ):
            return cond
        times = [t for t, _ in intervals(steps)]
        # Filled, not copied from the host, which a CUDA graph must not do.
        grid = torch.cat([self.length.new_full((1,), t) for t in times])
        ready = self.net.ready(cond, grid)
        return Timed(cond, dict(zip(times, ready, strict=True)))


@lru_cache  # asked for before every chunk, and the same for ever
def _times(method: str) -> int:
    return 2 if issubclass(part("method", method).func, FlowMap) else 1

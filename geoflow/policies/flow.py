"""FlowPolicy: action chunks by flow matching, on a Lie group or, for comparison, on flat features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geoflow.data.chunks import Chunks
from geoflow.flows import INTEGRATORS, Flow, FlowMap, Path, Prior
from geoflow.flows.batches import over_inner
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
from geoflow.policies.toolbox import made_by, part

JUMP = "jump"
"""The solver of a flow map: one evaluation carries a chunk from one time of the grid to the next."""


class FlowPolicy(Policy):
    """Flow matching on SE(3) x R^k, on R^3 x SO(3) x R^k, or on position + 6D rotation + extras.

    The prior's centre and width, per chunk step, are those of the demonstrations; the network's predictions are
    in the same widths.

    Raises:
        ValueError: a method, prior, path, coupling, times, grid, solver or nfe that is unknown or does not fit the
            others.
    """

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        super().__init__(config, spec)
        self.flow: Flow = part("method", config.method)(
            self.space,
            self._prior(),
            path=part("path", config.path),
            coupling=part("coupling", config.coupling),
            scale=self.chunk_scale,
            target=config.target,
            center=self.chunk_mean,
            times=part("times", config.times),
        )
        self.grid = _grid(config.grid)
        self._check()

    @staticmethod
    def default_solver(config: PolicyConfig) -> str:
        """Euler steps of a velocity, jumps of a flow map."""
        return JUMP if FlowPolicy.times(config) == 2 else "euler"

    @classmethod
    def cells(cls, config: PolicyConfig, counts: Sequence[int]) -> list[tuple[int, str]]:
        """By its own solver, at the counts that are whole steps of it and that its grid takes."""
        cells = super().cells(config, counts)
        grid, taken, refusal = _grid(config.grid), [], None
        for nfe, solver in cells:
            try:
                steps_of(grid, solver, nfe)
                taken.append((nfe, solver))
            except ValueError as error:
                refusal = error
        if not taken:
            raise ValueError(f"none of nfe={list(counts)} will do: {refusal}") from refusal
        return taken

    @staticmethod
    def times(config: PolicyConfig) -> int:
        """2 for a flow map."""
        return _times(config.method)

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations."""
        super().fit(chunks, samples)
        self.flow.prior = self._prior()
        self.flow.scale.copy_(self.chunk_scale)
        self.flow.center.copy_(self.chunk_mean)

    def begin_from(self, other: Policy) -> None:
        """As `Policy.begin_from`; a flow map begins from a flow map only, of this method or another.

        Raises:
            ValueError: as there, or one of both is a flow map.
        """
        if self.times(self.config) != other.times(other.config):
            raise ValueError(
                f"policy.method={self.config.method!r}, and the policy to begin from has {other.config.method!r}: a "
                "network that jumps from one time to another reads times otherwise than one that moves at a time, so "
                "its weights mean something else."
            )
        super().begin_from(other)

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
        """Raise ValueError for a flow map, whose jumps leave no velocity to guide, and for a path of unknown end."""
        if isinstance(self.flow, FlowMap):
            raise ValueError(
                f"a {type(self.flow).__name__} jumps, and has no way on which it could be guided; use the naive "
                "execution, or a policy of method Flow()."
            )
        if type(self.flow.path).endpoint_of is Path.endpoint_of:
            raise ValueError(
                f"policy.path={self.config.path!r} does not say where a velocity leads, which guidance asks at every "
                "evaluation; a Geodesic does. Use the naive execution, or train with policy.given_steps."
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
            method = None
        elif solver in INTEGRATORS:
            method = INTEGRATORS[solver]
        else:
            raise ValueError(
                f"solver={solver!r}; this policy is sampled by one of {', '.join(INTEGRATORS)}"
                f"{f', {JUMP}' if isinstance(self.flow, FlowMap) else ''}."
            )
        how: dict[str, Any] = {
            "steps": steps_of(self.grid, solver, nfe),
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

    def _prior(self) -> Prior:
        """Noise about the present centre, as wide as the data."""
        text = self.config.prior
        make, shape = part("prior", text), self.chunk_mean.shape
        try:
            prior = make(self.space, mean=self.chunk_mean, scale=self.chunk_scale)
            drawn = prior.sample((1, shape[0]), torch.Generator()).shape[1:]
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"policy.prior={text!r} is no prior of chunks; it is called with a space, mean={tuple(shape)} and "
                f"scale={tuple(self.chunk_scale.shape)}, and what it gives with sample: {error}"
            ) from error
        if not isinstance(prior, Prior) or drawn != shape:
            raise ValueError(
                f"policy.prior={text!r} gives a {type(prior).__name__} that draws chunks {tuple(drawn)}; expected a "
                f"geoflow.flows.Prior that draws {tuple(shape)}."
            )
        return prior

    def _check(self) -> None:
        """Raise ValueError where choices, each fine alone, could never act together."""
        config, flow, jumps = self.config, self.flow, isinstance(self.flow, FlowMap)
        solvers = (*INTEGRATORS, JUMP) if jumps else INTEGRATORS
        if config.solver not in ("auto", *solvers):
            raise ValueError(f"policy.solver={config.solver!r}; it is auto or one of {', '.join(solvers)}.")
        solver = self.chosen(config.nfe, None)[1]
        steps_of(self.grid, solver, config.nfe)
        if solver in INTEGRATORS:
            flow.check_method(INTEGRATORS[solver])
        x = self.chunk_mean.unsqueeze(0)
        halfway = over_inner(x.new_full((1,), 0.5), x)
        try:
            flow.path(self.space, x, x, halfway, torch.Generator())
            if flow.target == "endpoint" and not jumps:
                flow.path.velocity_to(self.space, x, x, halfway)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(f"policy.path={config.path!r}: {error}") from error


def evaluations(solver: str) -> int:
    """Evaluations a step of a solver takes."""
    return INTEGRATORS[solver].evaluations if solver in INTEGRATORS else 1


def steps_of(grid: Callable[[int], Steps], solver: str, nfe: int) -> Steps:
    """The times of ``nfe`` evaluations; ValueError where they are no whole steps, or fewer than the grid takes."""
    each = evaluations(solver)
    if nfe % each:
        raise ValueError(f"nfe={nfe}; {solver} takes a multiple of {each} evaluations.")
    return grid(nfe // each)


# Both are asked for before every chunk, and the same for ever.


@lru_cache
def _grid(text: str) -> Callable[[int], Steps]:
    return part("grid", text)


@lru_cache
def _times(method: str) -> int:
    return 2 if issubclass(made_by(part("method", method)), FlowMap) else 1

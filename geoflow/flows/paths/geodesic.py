"""The conditional path x_t = x_0 Exp(kappa(t) xi), xi = Log(x_0^-1 x_1), with one clock or one for each factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from geoflow.flows.noise import Generators
from geoflow.flows.paths.base import Path, PathSample
from geoflow.flows.paths.scores import SHORTEST, prior_about, score_about
from geoflow.flows.priors.base import Prior
from geoflow.flows.schedules import Linear, Schedule, check_schedule
from geoflow.manifolds import SE3, Manifold, Product

Clock: TypeAlias = "Schedule | tuple[Clock, ...]"
"""One kappa for a space, or a tuple with one for each factor of a `Product` (nested as the product is)."""


@dataclass(frozen=True)
class Geodesic(Path):
    """The shortest way, at the pace of a clock kappa; the body velocity is kappa'(t) xi (Chen and Lipman 2023).

    The velocity that a network regresses is the derivative of the path itself, so that sampling needs no
    rescaling and walks at the pace that was trained. With a clock for each factor position, rotation and
    extras arrive at different times:

        space = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))
        path = Geodesic((Linear(), Exponential(5), Cosine()))

    The translation and the rotation of a screw are one motion: a factor `SE3` has one clock.

    Args:
        clock: kappa, or a tuple of clocks, one for each factor of the space.

    Raises:
        ValueError: a clock does not run from 0 to 1 or belies its derivative; when used, clocks that do not fit
            the space.
    """

    clock: Clock = field(default_factory=Linear)
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for schedule in _leaves(self.clock):
            check_schedule(schedule)

    def __call__(
        self, space: Manifold, x_0: Tensor, x_1: Tensor, t: Tensor, generator: Generators = None
    ) -> PathSample:
        """Points (..., point_dim) at times t, of the leading shape of x_0 or broadcastable to it."""

        def walk(factor: Manifold, clock: Schedule, x_0: Tensor, x_1: Tensor) -> tuple[Tensor, Tensor]:
            kappa, rate = clock(t)
            x_t, xi = factor.geodesic(x_0, x_1, kappa)
            return x_t, rate.to(xi.dtype).unsqueeze(-1) * xi

        return PathSample(*_by_factor(walk, space, self.clock, x_0, x_1))

    def velocity_to(self, space: Manifold, x_t: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """kappa'(t) / (1 - kappa(t)) Log(x_t^-1 x_1), (..., tangent_dim); for t < 1."""

        def rest(factor: Manifold, clock: Schedule, x_t: Tensor, x_1: Tensor) -> tuple[Tensor]:
            kappa, rate = clock(t)
            return (rate.unsqueeze(-1) * factor.log(x_t, x_1) / (1 - kappa).unsqueeze(-1),)

        return _by_factor(rest, space, self.clock, x_t, x_1)[0]

    def step_to(
        self,
        space: Manifold,
        x_t: Tensor,
        c: Tensor,
        v: Tensor,
        t: float | Tensor,
        dt: float | Tensor,
    ) -> Tensor:
        """x_t Exp(dt kappa'(t) / (1 - kappa(t)) Log(x_t^-1 x_1)); at the steady pace the last step is to x_1 itself."""
        if not isinstance(self.clock, Linear):
            return super().step_to(space, x_t, c, v, t, dt)
        share = dt / (1 - t)
        if not isinstance(share, Tensor) and share > 1 - 1e-9:
            return space.exp(c, v)
        return space.approach(x_t, c, v, share)

    def endpoint_of(self, space: Manifold, x_t: Tensor, v_t: Tensor, t: Tensor) -> Tensor:
        """x_t Exp((1 - kappa(t)) / kappa'(t) v_t): where the network sees the path end; for kappa'(t) > 0."""

        def ahead(factor: Manifold, clock: Schedule, x_t: Tensor, v_t: Tensor) -> tuple[Tensor]:
            kappa, rate = clock(t)
            return (factor.exp(x_t, ((1 - kappa) / rate).to(x_t.dtype).unsqueeze(-1) * v_t),)

        return _by_factor(ahead, space, self.clock, x_t, v_t, "split_tangents")[0]

    def spread(self, space: Manifold, t: Tensor) -> Tensor:
        """1 - kappa(t), of each factor its own."""

        def rest(factor: Manifold, clock: Schedule, x: Tensor, y: Tensor) -> tuple[Tensor]:
            r = (1 - clock(t)[0]).clamp(min=SHORTEST).unsqueeze(-1)
            return (r.expand(*r.shape[:-1], factor.tangent_dim),)

        e = space.identity(device=t.device)
        return _by_factor(rest, space, self.clock, e, e)[0]

    def conditional_score(
        self, space: Manifold, prior: Prior, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor
    ) -> Tensor:
        """Of x_t = x_1 Exp(-r xi) given x_1, with r = 1 - kappa(t) and x_0 = x_1 Exp(-xi) from the prior."""
        r = self.spread(space, t).to(x_t.dtype)
        return score_about(space, x_1, x_t, r, prior_about(space, prior, x_1))


def _by_factor(
    function: Callable[..., tuple[Tensor, ...]],
    space: Manifold,
    clock: Clock,
    x: Tensor,
    y: Tensor,
    split_y: str = "split_points",
) -> tuple[Tensor, ...]:
    """function(space, clock, x, y) where there is one clock, else on each factor, results one after the other.

    x are points; y are too, or tangents, as the product's method ``split_y`` says.
    """
    if not isinstance(clock, tuple):
        return function(space, clock, x, y)
    if not isinstance(space, Product):
        hint = (
            "the translation and the rotation of its screws are one motion. Product(Euclidean(3), SO3()) has "
            "the same storage and takes a clock for each."
            if isinstance(space, SE3)
            else "give one clock, or make the space a Product."
        )
        raise ValueError(f"{space} takes one clock, got {len(clock)}: {hint}")
    if len(clock) != len(space.factors):
        raise ValueError(
            f"{space} has {len(space.factors)} factors and takes one clock or {len(space.factors)}; "
            f"got {len(clock)}."
        )
    parts = zip(space.factors, clock, space.split_points(x), getattr(space, split_y)(y), strict=True)
    results = [_by_factor(function, *part, split_y) for part in parts]
    return tuple(torch.cat(columns, dim=-1) for columns in zip(*results, strict=True))


def _leaves(clock: Clock) -> Iterator[Schedule]:
    if isinstance(clock, tuple):
        for part in clock:
            yield from _leaves(part)
    else:
        yield clock

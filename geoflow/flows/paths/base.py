"""The contract of a conditional path: how x_t runs from noise x_0 to data x_1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from geoflow.flows.batches import over_batch, over_inner
from geoflow.flows.noise import Generators
from geoflow.flows.priors.base import Prior
from geoflow.manifolds import Manifold


@dataclass(frozen=True)
class PathSample:
    """A point of a conditional path and the velocity there.

    Attributes:
        x_t: Points, shape (..., point_dim).
        v_t: Velocities in the body frame at x_t, shape (..., tangent_dim): dx_t/dt = x_t v_t^.
    """

    x_t: Tensor
    v_t: Tensor


class Path(ABC):
    """Training asks for points and their velocities; sampling with end point predictions for `velocity_to`."""

    #: Whether it may draw noise of its own between the ends; a loss with a path that does not can be compiled.
    draws: ClassVar[bool] = True

    @abstractmethod
    def __call__(
        self, space: Manifold, x_0: Tensor, x_1: Tensor, t: Tensor, generator: Generators = None
    ) -> PathSample:
        """Points (..., point_dim) at times t, of the leading shape of x_0 or broadcastable to it.

        ``generator`` is for paths that are random between their ends.
        """

    def velocity_to(self, space: Manifold, x_t: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """The velocity (..., tangent_dim) at x_t, time t, of the path that ends at x_1."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say which velocity leads from x_t to x_1, which target='endpoint' "
            "needs. Give it a method velocity_to, or use target='velocity'."
        )

    def step_to(
        self,
        space: Manifold,
        x_t: Tensor,
        c: Tensor,
        v: Tensor,
        t: float | Tensor,
        dt: float | Tensor,
    ) -> Tensor:
        """The Euler step (..., point_dim) of dt from x_t at time t, on the path that ends at x_1 = exp(c, v)."""
        x_1 = space.exp(c, v)
        times = over_inner(over_batch(t, x_t), x_t)
        return space.exp(x_t, dt * self.velocity_to(space, x_t, x_1, times))

    def endpoint_of(self, space: Manifold, x_t: Tensor, v_t: Tensor, t: Tensor) -> Tensor:
        """Where the path through x_t with velocity v_t at time t ends: x_1 (..., point_dim)."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say where a velocity leads. Give it a method endpoint_of, or use "
            "Geodesic."
        )

    def spread(self, space: Manifold, t: Tensor) -> Tensor:
        """r (..., tangent_dim): how wide the noise of x_t still is, as a part of the whole; never 0."""
        raise NotImplementedError(self._no_score("spread"))

    def conditional_score(
        self, space: Manifold, prior: Prior, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor
    ) -> Tensor:
        """d/d delta log p_t(x_t Exp(delta)) (..., tangent_dim) at 0, of points given x_1, or given both ends."""
        raise NotImplementedError(self._no_score("conditional_score"))

    def _no_score(self, method: str) -> str:
        return (
            f"{type(self).__name__} does not say how its points are distributed, which scores need. Give it a method "
            f"{method}, or use Geodesic, Diffusion or BrownianBridge."
        )

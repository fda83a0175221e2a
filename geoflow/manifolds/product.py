"""The product of manifolds: points, tangents and features one after the other, metrics added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.manifolds.base import Manifold, check_last_axis


@dataclass(frozen=True, init=False)
class Product(Manifold):
    """``Product(SE3(), Euclidean(1))``: a pose and a gripper command, last axis 8, tangents 7."""

    factors: tuple[Manifold, ...]

    def __init__(self, *factors: Manifold) -> None:
        if not factors:
            raise ValueError("expected at least one factor, such as Product(SE3(), Euclidean(1)).")
        for factor in factors:
            if not isinstance(factor, Manifold):
                raise TypeError(f"expected factors that are Manifolds; got {factor!r}.")
        object.__setattr__(self, "factors", factors)

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"

    @property
    def point_dim(self) -> int:
        """The sum over the factors."""
        return sum(factor.point_dim for factor in self.factors)

    @property
    def tangent_dim(self) -> int:
        """The sum over the factors."""
        return sum(factor.tangent_dim for factor in self.factors)

    @property
    def feature_dim(self) -> int:
        """The sum over the factors."""
        return sum(factor.feature_dim for factor in self.factors)

    def split_points(self, x: Tensor) -> tuple[Tensor, ...]:
        """Points of each factor."""
        return self._split(x, [factor.point_dim for factor in self.factors], "points")

    def split_tangents(self, v: Tensor) -> tuple[Tensor, ...]:
        """Tangents of each factor."""
        return self._split(v, [factor.tangent_dim for factor in self.factors], "tangents")

    def split_features(self, f: Tensor) -> tuple[Tensor, ...]:
        """Features of each factor."""
        return self._split(f, [factor.feature_dim for factor in self.factors], "features")

    def _split(self, x: Tensor, sizes: Sequence[int], what: str) -> tuple[Tensor, ...]:
        check_last_axis(x, sum(sizes), what, self)
        return x.split_with_sizes(sizes, dim=-1)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Each factor's exp."""
        parts = zip(self.factors, self.split_points(x), self.split_tangents(v), strict=True)
        return torch.cat([factor.exp(a, b) for factor, a, b in parts], dim=-1)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Each factor's log."""
        parts = zip(self.factors, self.split_points(x), self.split_points(y), strict=True)
        return torch.cat([factor.log(a, b) for factor, a, b in parts], dim=-1)

    def miss(self, x: Tensor, v: Tensor, y: Tensor) -> Tensor:
        """Each factor's."""
        parts = zip(
            self.factors, self.split_points(x), self.split_tangents(v), self.split_points(y), strict=True
        )
        return torch.cat([factor.miss(a, b, c) for factor, a, b, c in parts], dim=-1)

    def approach(self, x: Tensor, c: Tensor, v: Tensor, share: float | Tensor) -> Tensor:
        """Each factor's."""
        parts = zip(
            self.factors, self.split_points(x), self.split_points(c), self.split_tangents(v), strict=True
        )
        return torch.cat([factor.approach(a, b, w, share) for factor, a, b, w in parts], dim=-1)

    def bracket(self, v: Tensor, w: Tensor) -> Tensor:
        """Each factor's bracket."""
        return self._of_tangents("bracket", v, w)

    def adjoint(self, w: Tensor, v: Tensor) -> Tensor:
        """Each factor's adjoint."""
        return self._of_tangents("adjoint", w, v)

    def jacobian(self, w: Tensor, v: Tensor) -> Tensor:
        """Each factor's Jacobian."""
        return self._of_tangents("jacobian", w, v)

    def jacobian_inverse(self, w: Tensor, v: Tensor) -> Tensor:
        """Each factor's inverse Jacobian."""
        return self._of_tangents("jacobian_inverse", w, v)

    def log_volume(self, w: Tensor) -> Tensor:
        """The sum over the factors."""
        parts = zip(self.factors, self.split_tangents(w), strict=True)
        return torch.stack([factor.log_volume(part) for factor, part in parts]).sum(0)

    def _of_tangents(self, method: str, w: Tensor, v: Tensor) -> Tensor:
        parts = zip(self.factors, self.split_tangents(w), self.split_tangents(v), strict=True)
        return torch.cat([getattr(factor, method)(a, b) for factor, a, b in parts], dim=-1)

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Each factor's geodesic, at the same time."""
        parts = zip(self.factors, self.split_points(x), self.split_points(y), strict=True)
        points, velocities = zip(*[factor.geodesic(a, b, t) for factor, a, b in parts], strict=True)
        return torch.cat(points, dim=-1), torch.cat(velocities, dim=-1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """The sum over the factors."""
        parts = zip(self.factors, self.split_tangents(v), strict=True)
        first, *rest = [factor.squared_norm(part) for factor, part in parts]
        for term in rest:
            first = first + term
        return first

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum over the factors."""
        parts = zip(self.factors, self.split_points(x), self.split_points(y), strict=True)
        first, *rest = [factor.squared_distances(a, b) for factor, a, b in parts]
        for term in rest:
            first = first + term
        return first

    def project(self, x: Tensor) -> Tensor:
        """Each factor's projection."""
        parts = zip(self.factors, self.split_points(x), strict=True)
        return torch.cat([factor.project(part) for factor, part in parts], dim=-1)

    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Each factor's identity."""
        return torch.cat(
            [factor.identity(*shape, dtype=dtype, device=device) for factor in self.factors], dim=-1
        )

    def random_uniform(
        self,
        *shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Each factor's uniform distribution, where all factors are compact."""
        return torch.cat(
            [f.random_uniform(*shape, generator=generator, dtype=dtype, device=device) for f in self.factors],
            dim=-1,
        )

    def features(self, x: Tensor) -> Tensor:
        """Each factor's features."""
        parts = zip(self.factors, self.split_points(x), strict=True)
        return torch.cat([factor.features(part) for factor, part in parts], dim=-1)

    def from_features(self, f: Tensor) -> Tensor:
        """Each factor's points."""
        parts = zip(self.factors, self.split_features(f), strict=True)
        return torch.cat([factor.from_features(part) for factor, part in parts], dim=-1)

    def check(self, x: Tensor) -> Tensor:
        """x itself, or a sentence about what is wrong with it."""
        for factor, part in zip(self.factors, self.split_points(x), strict=True):
            factor.check(part)
        return x

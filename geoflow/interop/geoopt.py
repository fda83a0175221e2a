"""Our manifolds as ``geoopt.Manifold``: RiemannianAdam learns poses, and finds Frechet means.

    from geoflow.interop.geoopt import GeooptManifold
    manifold = GeooptManifold(gf.Product(gf.SE3(length=0.1), gf.Euclidean(1)))
    anchor = geoopt.ManifoldParameter(start, manifold=manifold)            # (..., 8)
    optimiser = geoopt.optim.RiemannianAdam([anchor], lr=1e-2, stabilize=10)

geoopt stores a tangent with as many numbers as its point. Here that is the derivative (dp, dq, de) of the stored
numbers; body twists, which all of geoflow uses, are converted by ``to_ambient`` and ``to_body``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.lie import so3
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product
from geoflow.manifolds.base import UNIT_TOLERANCE

try:
    import geoopt
    from geoopt.utils import size2shape
except ImportError as error:  # geoopt is a dependency of geoflow: only a broken install comes here
    raise ImportError("geoflow.interop.geoopt needs geoopt: pip install 'geoopt>=0.5.1,<0.6'") from error


@dataclass(frozen=True)
class _Block:
    """One leaf of a product: its part of the stored numbers, of the body tangent, and what converts them."""

    point: slice
    body: slice
    weight: float  # squared norm of a unit tangent
    rotation: slice | None  # where the quaternion that turns or is turned is stored
    kind: str  # "flat", "turned" (a body vector in world axes) or "quaternion"


def _blocks(space: Manifold) -> list[_Block]:
    leaves = list(space.factors) if isinstance(space, Product) else [space]
    blocks, at, body = [], 0, 0
    for leaf in leaves:
        if isinstance(leaf, Product):
            inner = _blocks(leaf)
            blocks += [_shifted(block, at, body) for block in inner]
        elif isinstance(leaf, Euclidean):
            rows = slice(at, at + leaf.n), slice(body, body + leaf.n)
            blocks.append(_Block(*rows, 1 / leaf.scale**2, None, "flat"))
        elif isinstance(leaf, SO3):
            q = slice(at, at + 4)
            blocks.append(_Block(q, slice(body, body + 3), 1.0, q, "quaternion"))
        elif isinstance(leaf, SE3):
            p, q = slice(at, at + 3), slice(at + 3, at + 7)
            blocks.append(_Block(p, slice(body, body + 3), 1 / leaf.length**2, q, "turned"))
            blocks.append(_Block(q, slice(body + 3, body + 6), 1.0, q, "quaternion"))
        else:
            raise TypeError(
                f"expected Euclidean, SO3, SE3 or products of them; got {leaf!r}. A manifold of your own needs its "
                "own geoopt.Manifold: geoflow cannot know how its tangents move the stored numbers."
            )
        at, body = at + leaf.point_dim, body + leaf.tangent_dim
    return blocks


def _shifted(block: _Block, at: int, body: int) -> _Block:
    def move(part: slice, by: int) -> slice:
        return slice(part.start + by, part.stop + by)

    rotation = None if block.rotation is None else move(block.rotation, at)
    return _Block(move(block.point, at), move(block.body, body), block.weight, rotation, block.kind)


class GeooptManifold(geoopt.manifolds.base.Manifold):
    """A geoflow manifold for geoopt's optimisers and samplers.

    The metric is ``space.squared_norm`` of body tangents, left invariant. ``expmap`` and ``logmap`` are the
    space's own: for ``SE3`` screws, for ``Product(Euclidean(3), SO3())`` the Riemannian geodesics of the same
    metric. Vectors are transported by left translation (equal body components), an isometry. Adam's second
    moments are kept for each block (position, rotation, extras), not for the whole point.
    """

    ndim = 1
    reversible = True
    name = "geoflow"

    def __init__(self, space: Manifold) -> None:
        super().__init__()
        self.space = space
        self.blocks = _blocks(space)
        self.name = str(space)

    def to_ambient(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative (..., point_dim) of the stored numbers along body tangents v (..., tangent_dim) at x."""
        return self._join(x, v, _ambient)

    def to_body(self, x: Tensor, u: Tensor) -> Tensor:
        """The body tangent (..., tangent_dim) of ambient u (..., point_dim) at x; normal parts are dropped."""
        return self._split(x, u, _body)

    def _join(
        self, x: Tensor, v: Tensor, convert: Callable[[_Block, Tensor | None, Tensor], Tensor]
    ) -> Tensor:
        return torch.cat([convert(b, _rotation(b, x), v[..., b.body]) for b in self.blocks], dim=-1)

    def _split(
        self, x: Tensor, u: Tensor, convert: Callable[[_Block, Tensor | None, Tensor], Tensor]
    ) -> Tensor:
        return torch.cat([convert(b, _rotation(b, x), u[..., b.point]) for b in self.blocks], dim=-1)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """The inner product of two ambient tangents at x."""
        a = self.to_body(x, u)
        b = a if v is None else self.to_body(x, v)
        return self._weighted(a * b).sum(-1, keepdim=keepdim)

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """The inner product of each block, spread over the numbers that store it."""
        a = self.to_body(x, u)
        products = self._weighted(a * (a if v is None else self.to_body(x, v)))
        parts = [
            products[..., b.body]
            .sum(-1, keepdim=True)
            .expand(*products.shape[:-1], b.point.stop - b.point.start)
            for b in self.blocks
        ]
        return torch.cat(parts, dim=-1)

    def _weighted(self, products: Tensor) -> Tensor:
        return torch.cat([block.weight * products[..., block.body] for block in self.blocks], dim=-1)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The Riemannian gradient (ambient) from the gradient with respect to the stored numbers."""
        pulled = self._split(x, u, _pulled_back)
        raised = torch.cat([pulled[..., block.body] / block.weight for block in self.blocks], dim=-1)
        return self.to_ambient(x, raised)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """The tangent part of ambient numbers."""
        return self.to_ambient(x, self.to_body(x, u))

    def projx(self, x: Tensor) -> Tensor:
        """The nearest point."""
        return self.space.project(x)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """space.exp along an ambient tangent."""
        return self.space.exp(x, self.to_body(x, u))

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """The exponential: it costs little here."""
        return self.expmap(x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """space.log as an ambient tangent."""
        return self.to_ambient(x, self.space.log(x, y))

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Left translation: the same body components at y."""
        return self.to_ambient(y, self.to_body(x, v))

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """space.distance."""
        d = self.space.distance(x, y)
        return d.unsqueeze(-1) if keepdim else d

    def random(
        self,
        *size: int | tuple[int, ...],
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        **_: object,
    ) -> Tensor:
        """Standard normal numbers, projected: uniform rotations, Gaussian positions. ``size`` ends in point_dim."""
        shape = size2shape(*size)  # pyright: ignore[reportArgumentType]
        self._assert_check_shape(shape, "x")
        return self.space.project(torch.randn(*shape, dtype=dtype, device=device))

    def origin(
        self,
        *size: int | tuple[int, ...],
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        seed: int | None = 42,
    ) -> Tensor:
        """The identity. ``size`` ends in point_dim; ``seed`` is geoopt's, for manifolds without an identity."""
        shape = size2shape(*size)  # pyright: ignore[reportArgumentType]
        return self.space.identity(*shape[:-1], dtype=dtype, device=device)

    def _check_shape(self, shape: tuple[int, ...], name: str) -> tuple[bool, str | None]:
        if shape and shape[-1] == self.space.point_dim:
            return True, None
        return (
            False,
            f"'{name}' on {self.space} needs a last axis of {self.space.point_dim}; got {tuple(shape)}",
        )

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        worst = (self.space.project(x) - x).abs().max()
        if bool(worst <= max(atol, UNIT_TOLERANCE)):
            return True, None
        return False, f"a quaternion is {float(worst):.2g} away from unit norm (projx mends it)"

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        worst = (self.proju(x, u) - u).abs().max()
        if bool(worst <= atol + rtol * u.abs().max()):
            return True, None
        return False, f"u has a normal part of {float(worst):.2g} (proju removes it)"


def _rotation(block: _Block, x: Tensor) -> Tensor | None:
    return None if block.rotation is None else x[..., block.rotation]


def _ambient(block: _Block, q: Tensor | None, v: Tensor) -> Tensor:
    """e, R v, or q (0, omega)/2."""
    if q is None:
        return v
    if block.kind == "turned":
        return so3.act(q, v)
    return 0.5 * so3.compose(q, torch.nn.functional.pad(v, (1, 0)))


def _body(block: _Block, q: Tensor | None, u: Tensor) -> Tensor:
    """e, R^T dp, or the vector part of 2 q^-1 dq."""
    if q is None:
        return u
    if block.kind == "turned":
        return so3.act(so3.inverse(q), u)
    return 2 * so3.between(q, u)[..., 1:]


def _pulled_back(block: _Block, q: Tensor | None, gradient: Tensor) -> Tensor:
    """The transpose of ``_ambient``: what a gradient of stored numbers is along body tangents."""
    return _body(block, q, gradient) * (0.25 if block.kind == "quaternion" else 1.0)

"""Our manifolds under geoopt: the contract of its manifolds, and its optimisers doing work."""

from __future__ import annotations

import geoopt
import pytest
import torch
from torch import Tensor

from geoflow.interop.geoopt import GeooptManifold
from geoflow.lie import se3
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product, frechet_mean

SPACES = [
    SO3(),
    SE3(length=0.3),
    Product(SE3(length=0.2), Euclidean(2, scale=0.5)),
    Product(Product(Euclidean(3, scale=2.0), SO3()), Euclidean(1)),
]
spaces = pytest.mark.parametrize("space", SPACES, ids=str)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(space: Manifold, n: int = 8, seed: int = 0) -> tuple[GeooptManifold, Tensor, Tensor, Tensor]:
    x, y = (
        space.project(torch.randn(n, space.point_dim, dtype=torch.float64, generator=generator(seed + i)))
        for i in range(2)
    )
    v = torch.randn(n, space.tangent_dim, dtype=torch.float64, generator=generator(seed + 2))
    return GeooptManifold(space), x, y, v


@spaces
def test_ambient_tangents_are_derivatives(space):
    """to_ambient is d/ds exp(x, s v) at s = 0, and to_body inverts it."""
    manifold, x, _, v = draw(space)
    ambient = manifold.to_ambient(x, v)
    step = 1e-6
    difference = (space.exp(x, step * v) - space.exp(x, -step * v)) / (2 * step)
    assert torch.allclose(ambient, difference, rtol=0, atol=1e-8)
    assert torch.allclose(manifold.to_body(x, ambient), v, rtol=0, atol=1e-12)
    manifold.assert_check_point_on_manifold(x)
    manifold.assert_check_vector_on_tangent(x, ambient)
    assert not manifold.check_point_on_manifold(2 * x + 1)
    assert not manifold.check_point(x[..., 1:])


@spaces
def test_metric_gradient_and_transport(space):
    """inner is the space's norm; <egrad2rgrad(g), u> = g . u; transport is an isometry; log inverts exp."""
    manifold, x, y, v = draw(space)
    u = manifold.to_ambient(x, v)
    assert torch.allclose(manifold.inner(x, u), space.squared_norm(v))
    assert manifold.inner(x, u, keepdim=True).shape == (8, 1)
    g = torch.randn(x.shape, dtype=torch.float64, generator=generator(9))
    gradient = manifold.egrad2rgrad(x, g)
    assert torch.allclose(manifold.inner(x, gradient, u), (g * u).sum(-1))
    assert torch.allclose(manifold.proju(x, gradient), gradient, rtol=0, atol=1e-12)
    moved = manifold.transp(x, y, u)
    assert torch.allclose(manifold.inner(y, moved), manifold.inner(x, u))
    assert torch.allclose(space.features(manifold.expmap(x, manifold.logmap(x, y))), space.features(y))
    assert torch.allclose(manifold.dist(x, y), manifold.norm(x, manifold.logmap(x, y)))
    blocks = manifold.component_inner(x, u)
    assert blocks.shape == x.shape
    assert torch.equal(manifold.origin(2, space.point_dim), space.identity(2))


@pytest.mark.parametrize("space", [SE3(length=0.3), Product(SE3(), Euclidean(1))], ids=str)
def test_riemannian_adam_finds_the_frechet_mean(space):
    """Descent on the mean squared distance ends where the logarithms sum to zero (rotations bi-invariant)."""
    centre = space.project(torch.randn(space.point_dim, dtype=torch.float64, generator=generator(0)))
    noise = 0.3 * torch.randn(200, space.tangent_dim, dtype=torch.float64, generator=generator(1))
    x = space.exp(centre, noise)
    manifold = GeooptManifold(space)
    mean = geoopt.ManifoldParameter(x[0].clone(), manifold=manifold)
    optimiser = geoopt.optim.RiemannianAdam([mean], lr=0.3, stabilize=10)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.98)
    for _ in range(300):
        optimiser.zero_grad()
        loss = space.squared_norm(space.log(mean, x)).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    manifold.assert_check_point_on_manifold(mean.detach())
    group_mean = frechet_mean(space, x, tolerance=1e-10)
    best = space.squared_norm(space.log(group_mean, x)).mean()
    assert float(loss.detach()) < float(best) * (1 + 1e-4)
    assert float(space.distance(mean.detach(), centre)) < 0.15


def test_learns_an_anchor_pose_through_a_chain():
    """Recovers an unknown tool offset from x_i offset = y_i, by plain and by adaptive descent."""
    space = SE3(length=0.2)
    manifold = GeooptManifold(space)
    hand = se3.random_uniform(32, generator=generator(0), dtype=torch.float64)
    offset = space.exp(
        space.identity(dtype=torch.float64), torch.tensor([0.1, -0.2, 0.05, 0.7, -0.3, 0.4]).double()
    )
    tool = se3.compose(hand, offset)
    for build in (
        lambda p: geoopt.optim.RiemannianAdam(p, lr=0.1, stabilize=10),
        lambda p: geoopt.optim.RiemannianSGD(p, lr=0.1, momentum=0.5, stabilize=10),
    ):
        anchor = geoopt.ManifoldParameter(manifold.origin(7, dtype=torch.float64), manifold=manifold)
        optimiser = build([anchor])
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.98)
        for _ in range(400):
            optimiser.zero_grad()
            loss = space.squared_norm(space.log(se3.compose(hand, anchor), tool)).mean()
            loss.backward()
            optimiser.step()
            schedule.step()
        assert float(space.distance(anchor.detach(), offset)) < 1e-3


def test_product_manifold_of_geoopt_accepts_it():
    product = geoopt.ProductManifold((GeooptManifold(SE3()), 7), (geoopt.Euclidean(ndim=1), 3))
    x = product.random(5, 10)
    assert x.shape == (5, 10)
    assert torch.allclose(product.expmap(x, torch.zeros_like(x)), x, atol=1e-6)


def test_foreign_manifolds_are_refused():
    class Torus(Euclidean):
        pass

    GeooptManifold(Torus(2))

    class Strange(SO3.__mro__[1]):  # the abstract base
        pass

    Strange.__abstractmethods__ = frozenset()
    with pytest.raises(TypeError, match=r"own geoopt\.Manifold"):
        GeooptManifold(Strange())

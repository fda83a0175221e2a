"""One contract, many manifolds: the same laws for each, in both dtypes, over angles 0 to pi and metre translations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product

MANIFOLDS = [
    Euclidean(3),
    Euclidean(2, scale=0.5),
    SO3(),
    SE3(),
    SE3(length=0.2),
    Product(Euclidean(3), SO3()),
    Product(SE3(length=0.3), Euclidean(1)),
    Product(SO3(), Euclidean(2), SE3()),
]
ANGLES = [0.0, 1e-7, 1e-4, 3e-3, 0.1, 1.0, math.pi / 2, 3.1]
manifolds = pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
ROUNDING = {torch.float32: 2e-6, torch.float64: 4e-15}


def points(manifold: Manifold, dtype: torch.dtype, n: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return manifold.project(torch.randn(n, manifold.point_dim, dtype=dtype, generator=generator))


def tangents(manifold: Manifold, angle: float, dtype: torch.dtype, n: int = 16, seed: int = 1) -> Tensor:
    """Tangents whose rotation vectors all have the given angle; everything else is of metres."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(n, manifold.tangent_dim, dtype=dtype, generator=generator)
    start = 0
    for factor in manifold.factors if isinstance(manifold, Product) else (manifold,):
        if not isinstance(factor, Euclidean):
            part = v[:, start + factor.tangent_dim - 3 : start + factor.tangent_dim]
            part *= angle / part.norm(dim=-1, keepdim=True)
        start += factor.tangent_dim
    return v


def same(manifold: Manifold, x: Tensor, y: Tensor, tolerance: float) -> bool:
    return torch.allclose(manifold.features(x), manifold.features(y), rtol=0, atol=tolerance)


@manifolds
@dtypes
@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp(manifold, angle, dtype):
    """log(x, exp(x, v)) = v, also for tiny rotations carrying long translations."""
    x, v = points(manifold, dtype), tangents(manifold, angle, dtype)
    found = manifold.log(x, manifold.exp(x, v))
    assert torch.allclose(found, v, rtol=0, atol=20 * ROUNDING[dtype])


@manifolds
@dtypes
def test_exp_inverts_log(manifold, dtype):
    """exp(x, log(x, y)) = y for any two points."""
    x, y = points(manifold, dtype), points(manifold, dtype, seed=3)
    assert same(manifold, manifold.exp(x, manifold.log(x, y)), y, 10 * ROUNDING[dtype])


@manifolds
@dtypes
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_approach_is_a_share_of_the_way(manifold, dtype, share):
    """approach(x, c, log(c, y), s) lies on the geodesic from x to y at time s."""
    x, y, c = points(manifold, dtype), points(manifold, dtype, seed=3), points(manifold, dtype, seed=4)
    found = manifold.approach(x, c, manifold.log(c, y), share)
    assert same(manifold, found, manifold.geodesic(x, y, share)[0], 20 * ROUNDING[dtype])


@manifolds
@dtypes
def test_miss_is_the_rest_of_the_way(manifold, dtype):
    """exp(exp(x, v), miss(x, v, y)) = y, for v that leads elsewhere."""
    x, y, z = points(manifold, dtype), points(manifold, dtype, seed=3), points(manifold, dtype, seed=4)
    v = manifold.log(x, z)
    arrived = manifold.exp(manifold.exp(x, v), manifold.miss(x, v, y))
    assert same(manifold, arrived, y, 20 * ROUNDING[dtype])


@manifolds
@dtypes
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0, 1.5])
def test_geodesic(manifold, dtype, t):
    """geodesic(x, y, t) = (exp(x, t v), v) with v = log(x, y): both ends, constant velocity."""
    x, y = points(manifold, dtype), points(manifold, dtype, seed=3)
    x_t, v = manifold.geodesic(x, y, torch.full((16,), t, dtype=dtype))
    assert torch.allclose(v, manifold.log(x, y), rtol=0, atol=10 * ROUNDING[dtype])
    assert same(manifold, x_t, manifold.exp(x, t * v), 20 * ROUNDING[dtype])
    assert same(manifold, x_t, manifold.geodesic(x, y, t)[0], ROUNDING[dtype])


@manifolds
def test_velocity_is_the_derivative(manifold):
    """log(x_t, x_{t+h})/h -> v in the body frame of x_t."""
    x, y = points(manifold, torch.float64), points(manifold, torch.float64, seed=3)
    h = 1e-6
    now, v = manifold.geodesic(x, y, 0.4)
    later, _ = manifold.geodesic(x, y, 0.4 + h)
    assert torch.allclose(manifold.log(now, later) / h, v, rtol=0, atol=1e-8)


@manifolds
@dtypes
def test_chunks_are_powers(manifold, dtype):
    """A leading axis T is a power of the manifold; t broadcasts against the leading axes without a trailing 1."""
    x, y = points(manifold, dtype).reshape(2, 8, -1), points(manifold, dtype, seed=3).reshape(2, 8, -1)
    t = torch.tensor([0.2, 0.7], dtype=dtype)
    x_t, v = manifold.geodesic(x, y, t[:, None])
    assert x_t.shape == (2, 8, manifold.point_dim)
    assert v.shape == (2, 8, manifold.tangent_dim)
    assert same(manifold, x_t[1], manifold.geodesic(x[1], y[1], 0.7)[0], 5 * ROUNDING[dtype])
    assert manifold.log(x[:, :1], y).shape == v.shape
    assert manifold.exp(x[0, 0], v).shape == x_t.shape


@manifolds
@dtypes
def test_features(manifold, dtype):
    """from_features(features(x)) = x, and features are as many as promised."""
    x = points(manifold, dtype)
    f = manifold.features(x)
    assert f.shape == (16, manifold.feature_dim)
    assert same(manifold, manifold.from_features(f), x, 4 * ROUNDING[dtype])


@manifolds
@dtypes
def test_project_and_check(manifold, dtype):
    """project lands on the manifold, keeps what is there, and check agrees."""
    x = points(manifold, dtype)
    manifold.check(x)
    assert torch.allclose(manifold.project(x), x, rtol=0, atol=ROUNDING[dtype])
    one = manifold.identity(4, 3, dtype=dtype)
    assert one.shape == (4, 3, manifold.point_dim)
    assert one.dtype == dtype
    manifold.check(one)


@manifolds
@dtypes
@pytest.mark.parametrize("angle", [0.0, 1e-8, 3.1, math.pi])
def test_gradients_are_finite(manifold, angle, dtype):
    """Through exp, log, distance and the geodesic, at coincident points and at half turns."""
    x = points(manifold, dtype).requires_grad_()
    v = tangents(manifold, angle, dtype).requires_grad_()
    y = manifold.exp(x, v)
    x_t, u = manifold.geodesic(x, y, 0.3)
    loss = manifold.distance(x, y).sum() + manifold.features(x_t).sum() + manifold.squared_norm(u).sum()
    gradients = torch.autograd.grad(loss + manifold.distance(x, x).sum(), (x, v))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


@manifolds
@dtypes
def test_distance(manifold, dtype):
    """Symmetric, zero on the diagonal, |v| along a geodesic, and squared_norm is quadratic."""
    x, y = points(manifold, dtype), points(manifold, dtype, seed=3)
    d = manifold.distance(x, y)
    tolerance = 40 * ROUNDING[dtype]
    assert d.shape == (16,)
    assert torch.allclose(d, manifold.distance(y, x), rtol=tolerance, atol=0)
    assert torch.equal(manifold.distance(manifold.identity(2), manifold.identity(2)), torch.zeros(2))
    half, v = manifold.geodesic(x, y, 0.5)
    assert torch.allclose(manifold.distance(x, half), d / 2, rtol=tolerance, atol=tolerance)
    assert torch.allclose(manifold.squared_norm(2 * v), 4 * d**2, rtol=tolerance, atol=0)


@manifolds
def test_one_antipode_is_another_name(manifold):
    """q and -q: the same features, logarithm and geodesic."""
    x, y = points(manifold, torch.float64), points(manifold, torch.float64, seed=3)
    twin = _flipped(manifold, y)
    assert torch.equal(manifold.features(y), manifold.features(twin))
    assert torch.allclose(manifold.log(x, y), manifold.log(x, twin), rtol=0, atol=1e-15)
    assert same(manifold, manifold.geodesic(x, y, 0.3)[0], manifold.geodesic(x, twin, 0.3)[0], 1e-15)


def _flipped(manifold: Manifold, x: Tensor) -> Tensor:
    if isinstance(manifold, Product):
        parts = zip(manifold.factors, manifold.split_points(x), strict=True)
        return torch.cat([_flipped(factor, part) for factor, part in parts], dim=-1)
    if isinstance(manifold, Euclidean):
        return x
    return torch.cat([x[..., :-4], -x[..., -4:]], dim=-1)


@manifolds
def test_is_a_value(manifold):
    """Frozen, hashable, printable, equal to its twin; dimensions are consistent."""
    assert eval(repr(manifold)) == manifold
    assert hash(eval(repr(manifold))) == hash(manifold)
    assert len({manifold, Euclidean(99)}) == 2
    assert manifold.tangent_dim <= manifold.point_dim <= manifold.feature_dim


@manifolds
def test_traces_and_maps(manifold):
    """compile(fullgraph=True) and vmap over a training step's geometry."""

    def step(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        x_t, v = manifold.geodesic(x, y, t)
        x_t = manifold.exp(x_t, 0.1 * v)
        return manifold.features(x_t).sum(-1) + manifold.squared_norm(v)

    x, y, t = points(manifold, torch.float32), points(manifold, torch.float32, seed=3), torch.rand(16)
    expected = step(x, y, t)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, y, t), expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(torch.func.vmap(step)(x, y, t), expected, rtol=1e-4, atol=1e-5)


def test_decoupled_and_screw_paths_differ_in_position_only():
    """Product(Euclidean(3), SO3()) shares SE3's storage and rotations; its positions go straight."""
    screw, straight = SE3(), Product(Euclidean(3), SO3())
    x, y = points(screw, torch.float64), points(screw, torch.float64, seed=3)
    a, b = screw.geodesic(x, y, 0.5)[0], straight.geodesic(x, y, 0.5)[0]
    assert torch.allclose(a[:, 3:], b[:, 3:], rtol=0, atol=1e-14)
    assert torch.allclose(b[:, :3], (x[:, :3] + y[:, :3]) / 2, rtol=0, atol=1e-15)
    assert float((a[:, :3] - b[:, :3]).norm(dim=-1).min()) > 1e-3


def test_uniform_rotations():
    x = Product(SO3(), SO3()).random_uniform(
        5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert x.shape == (5, 2, 8)
    Product(SO3(), SO3()).check(x)


@manifolds
@pytest.mark.parametrize("angle", ANGLES)
def test_jacobian_is_the_derivative_of_exp(manifold, angle):
    """exp(x, w + h v) = exp(exp(x, w), h J_r(w) v), its inverse, its determinant and the adjoint."""
    x, w = points(manifold, torch.float64), tangents(manifold, angle, torch.float64)
    v, h = tangents(manifold, 1.0, torch.float64, seed=5), 1e-6
    end = manifold.exp(x, w)
    slope = (
        manifold.log(end, manifold.exp(x, w + h * v)) - manifold.log(end, manifold.exp(x, w - h * v))
    ) / (2 * h)
    torch.testing.assert_close(manifold.jacobian(w, v), slope, rtol=0, atol=1e-7)
    torch.testing.assert_close(manifold.jacobian_inverse(w, manifold.jacobian(w, v)), v, rtol=0, atol=1e-11)
    basis = torch.eye(manifold.tangent_dim, dtype=torch.float64).unsqueeze(1)
    columns = manifold.jacobian(w.expand(manifold.tangent_dim, *w.shape), basis.expand(-1, len(w), -1))
    logdet = torch.linalg.slogdet(columns.permute(1, 2, 0)).logabsdet
    torch.testing.assert_close(manifold.log_volume(w), logdet, rtol=0, atol=1e-8)
    # J_l = Ad(Exp(w)) J_r, and J_l(w) = J_r(-w).
    left = manifold.jacobian(-w, v)
    torch.testing.assert_close(manifold.adjoint(w, manifold.jacobian(w, v)), left, rtol=0, atol=1e-11)


@manifolds
@dtypes
@pytest.mark.parametrize("angle", ANGLES)
def test_squared_distances_of_all_pairs(manifold, angle, dtype):
    """squared_distances(x, y)[i, j] = |log(x_i, y_j)|^2, also of coincident points, for each chunk step."""
    x = points(manifold, dtype, 10).reshape(2, 5, -1)
    y = torch.cat([x[:, :2], manifold.exp(x, tangents(manifold, angle, dtype, 10).reshape(2, 5, -1))], dim=1)
    found = manifold.squared_distances(x, y)
    expected = manifold.squared_norm(manifold.log(x.unsqueeze(-2), y.unsqueeze(-3)))
    assert found.shape == (2, 5, 7)
    # A difference of squares: right to the rounding of the largest of them.
    assert torch.allclose(found, expected, rtol=0, atol=10 * ROUNDING[dtype] * float(expected.max()))


@manifolds
def test_autocast_leaves_geometry_alone(manifold):
    """A training step in bfloat16 may cast the network's products down, never those of the geometry."""
    x, y = points(manifold, torch.float32), points(manifold, torch.float32, seed=3)
    v, w = tangents(manifold, 1.0, torch.float32), tangents(manifold, 2.0, torch.float32, seed=5)

    def computed():
        f = manifold.features(x)
        return [
            manifold.exp(x, v), manifold.log(x, y), *manifold.geodesic(x, y, 0.3), manifold.adjoint(w, v),
            manifold.jacobian(w, v), manifold.jacobian_inverse(w, v), manifold.bracket(v, w), f,
            manifold.from_features(f), manifold.squared_distances(x, y), manifold.log_volume(w),
        ]  # fmt: skip

    plain = computed()
    with torch.autocast("cpu", torch.bfloat16):
        cast = computed()
    for a, b in zip(plain, cast, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert torch.equal(a, b)

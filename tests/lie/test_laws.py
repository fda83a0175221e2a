"""The laws of the groups on random elements: 5 850 hypothesis cases with independent oracles where there are any."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor

from geoflow.lie import se3, series, so3

CASES = settings(max_examples=450, deadline=None, derandomize=True, database=None)

unit = st.floats(-1, 1, allow_subnormal=False)
lengths = st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3])
angles = st.one_of(
    st.floats(0, math.pi - 1e-3),
    st.sampled_from([0.0, 1e-9, 1e-7, 1e-4, 3e-3, 0.1, 1.0, 3.1, math.pi - 1e-6]),
)


@st.composite
def vectors(draw: st.DrawFn, size: st.SearchStrategy[float]) -> list[float]:
    a = [draw(unit) for _ in range(3)]
    norm = math.hypot(*a)
    a = [c / norm for c in a] if norm > 1e-3 else [0.6, 0.0, -0.8]
    length = draw(size)
    return [length * c for c in a]


@st.composite
def twists(draw: st.DrawFn, largest: float = 1e3) -> Tensor:
    v = draw(vectors(lengths.filter(lambda length: length <= largest)))
    return torch.tensor(v + draw(vectors(angles)), dtype=torch.float64)


poses = twists().map(se3.exp)
short_poses = twists(largest=10.0).map(se3.exp)
times = st.floats(-1, 2)


def matrices_close(x: Tensor, y: Tensor, scale: float | Tensor = 1.0, tolerance: float = 1e-13) -> bool:
    a, b = (y if y.shape[-2:] == (4, 4) else se3.to_matrix(y) for y in (x, y))
    return bool(((a - b).abs() <= tolerance * (1 + scale)).all())


def size(*elements: Tensor) -> Tensor:
    return sum((element[..., :3].norm() for element in elements), torch.zeros((), dtype=torch.float64))


@CASES
@given(poses, poses, poses)
def test_group_axioms(x, y, z):
    """Associative, with a neutral element and inverses from both sides."""
    one = se3.identity(dtype=torch.float64)
    left, right = se3.compose(se3.compose(x, y), z), se3.compose(x, se3.compose(y, z))
    assert matrices_close(left, right, size(x, y, z))
    assert torch.equal(se3.compose(one, x), x)
    assert matrices_close(se3.compose(x, one), x, size(x))
    assert matrices_close(se3.compose(x, se3.inverse(x)), one, size(x))
    assert matrices_close(se3.compose(se3.inverse(x), x), one, size(x))


@CASES
@given(poses, poses)
def test_compose_multiplies_matrices(x, y):
    """Quaternion arithmetic is that of homogeneous matrices: product, inverse, and the z with x z = y."""
    assert matrices_close(se3.compose(x, y), se3.to_matrix(x) @ se3.to_matrix(y), size(x, y))
    R, p = se3.to_rotation_translation(x)
    assert torch.allclose(se3.act(x, y[:3]), R @ y[:3] + p, rtol=0, atol=float(1e-13 * (1 + size(x, y))))
    assert matrices_close(se3.inverse(x), torch.linalg.inv(se3.to_matrix(x)), 10 * size(x))
    seen = torch.linalg.solve(se3.to_matrix(x), se3.to_matrix(y))
    assert matrices_close(se3.between(x, y), seen, 10 * size(x, y))
    assert torch.allclose(so3.to_matrix(so3.between(x[3:], y[3:])), seen[:3, :3], rtol=0, atol=1e-13)


@CASES
@given(twists(largest=10.0))
def test_exp_is_the_matrix_exponential(xi):
    """Exp(xi) = expm(hat(xi)) by SciPy: torch.linalg.matrix_exp itself is wrong by up to 7e-11 in float64."""
    assert matrices_close(se3.exp(xi), torch.from_numpy(expm(se3.hat(xi).numpy())), size(xi))


@CASES
@given(twists())
def test_log_inverts_exp(xi):
    """Log(Exp(xi)) = xi for angles below pi, also for tiny rotations carrying long translations."""
    found = se3.log(se3.exp(xi))
    assert (found[3:] - xi[3:]).norm() <= 1e-14 * (1 + xi[3:].norm())
    assert (found[:3] - xi[:3]).norm() <= 1e-14 * (1 + xi[:3].norm())


@CASES
@given(poses)
def test_exp_inverts_log(x):
    """Exp(Log(x)) = x, and q, -q have the same logarithm to the last bit."""
    assert matrices_close(se3.exp(se3.log(x)), x, size(x))
    twin = torch.cat([x[:3], -x[3:]])
    assert torch.equal(se3.log(x), se3.log(twin))


@CASES
@given(short_poses, twists(largest=10.0))
def test_adjoint(x, xi):
    """x Exp(xi) x^-1 = Exp(Ad_x xi), and Ad is a homomorphism."""
    conjugate = se3.compose(se3.compose(x, se3.exp(xi)), se3.inverse(x))
    moved = se3.adjoint(x) @ xi
    assert matrices_close(se3.exp(moved), conjugate, size(x, xi))
    y = se3.exp(xi)
    product = se3.adjoint(x) @ se3.adjoint(y)
    assert torch.allclose(se3.adjoint(se3.compose(x, y)), product, rtol=0, atol=1e-12)


@CASES
@given(twists(largest=10.0))
def test_jacobians_against_differences(xi):
    """J_r and J_l are the derivatives of Exp seen from the right and from the left, by central differences."""
    step = 1e-6
    directions = step * torch.eye(6, dtype=torch.float64)
    plus, minus = se3.exp(xi + directions), se3.exp(xi - directions)
    x = se3.exp(xi)
    right = (se3.log(se3.compose(se3.inverse(x), plus)) - se3.log(se3.compose(se3.inverse(x), minus))) / (
        2 * step
    )
    left = (se3.log(se3.compose(plus, se3.inverse(x))) - se3.log(se3.compose(minus, se3.inverse(x)))) / (
        2 * step
    )
    tolerance = float(3e-8 * (1 + xi.norm()))
    assert torch.allclose(se3.jacobian_right(xi), right.mT, rtol=0, atol=tolerance)
    assert torch.allclose(se3.jacobian_left(xi), left.mT, rtol=0, atol=tolerance)


@CASES
@given(twists(largest=10.0))
def test_inverse_jacobians(xi):
    """J^-1 J = I on both sides of both groups, J_l(xi) = Ad J_r(xi), and J_r(xi) = J_l(-xi)."""
    eye = torch.eye(6, dtype=torch.float64)
    tolerance = float(1e-12 * (1 + xi.norm() ** 2))
    left, right = se3.jacobian_left(xi), se3.jacobian_right(xi)
    assert torch.allclose(se3.jacobian_left_inverse(xi) @ left, eye, rtol=0, atol=tolerance)
    assert torch.allclose(se3.jacobian_right_inverse(xi) @ right, eye, rtol=0, atol=tolerance)
    assert torch.allclose(se3.adjoint(se3.exp(xi)) @ right, left, rtol=0, atol=tolerance)
    omega = xi[3:]
    J = so3.jacobian_left(omega)
    assert torch.allclose(so3.jacobian_left_inverse(omega) @ J, eye[:3, :3], rtol=0, atol=1e-13)
    assert torch.allclose(so3.jacobian_right(omega), J.mT, rtol=0, atol=1e-14)


@CASES
@given(poses, poses, twists())
def test_left_invariance(g, x, xi):
    """exp(g x, xi) = g exp(x, xi) and log(g x, g y) = log(x, y): nothing depends on the world frame."""
    y = se3.compose(x, se3.exp(xi))
    moved = se3.compose(se3.compose(g, x), se3.exp(xi))
    assert matrices_close(moved, se3.compose(g, y), size(g, x, xi))
    at_x = se3.log(se3.compose(se3.inverse(x), y))
    at_gx = se3.log(se3.compose(se3.inverse(se3.compose(g, x)), se3.compose(g, y)))
    if xi[3:].norm() < 3.1:  # nearer to a half turn rounding may choose the other way round
        assert torch.allclose(at_x, at_gx, rtol=0, atol=float(1e-12 * (1 + size(g, x, xi))))


@CASES
@given(poses, twists())
def test_geodesic_ends(x, xi):
    """x_t is x_0 at t = 0 and x_1 at t = 1, and its twist is Log(x_0^-1 x_1)."""
    y = se3.compose(x, se3.exp(xi))
    scale = size(x, y)
    start, twist = se3.geodesic(x, y, 0.0)
    end, _ = se3.geodesic(x, y, 1.0)
    assert matrices_close(start, x, scale)
    assert matrices_close(end, y, scale)
    if xi[3:].norm() < 3.1:
        assert torch.allclose(twist, xi, rtol=0, atol=float(1e-13 * (1 + scale)))


@CASES
@given(poses, poses, times)
def test_geodesic_is_a_screw_of_constant_speed(x, y, t):
    """x_t = x_0 Exp(t xi) at any real time, and the twist does not depend on t."""
    x_t, xi = se3.geodesic(x, y, torch.tensor(t, dtype=torch.float64))
    assert matrices_close(x_t, se3.compose(x, se3.exp(t * xi)), 10 * size(x, y))
    assert torch.equal(xi, se3.geodesic(x, y, 0.5)[1])


@CASES
@given(poses, poses, times)
def test_rotation_of_a_screw_is_the_rotation_geodesic(x, y, t):
    """The rotation part of a screw is the geodesic of SO(3), and unit quaternions stay of unit norm."""
    x_t, xi = se3.geodesic(x, y, t)
    q_t, omega = so3.geodesic(x[3:], y[3:], t)
    assert torch.allclose(so3.to_matrix(x_t[3:]), so3.to_matrix(q_t), rtol=0, atol=1e-14)
    assert torch.allclose(xi[3:], omega, rtol=0, atol=1e-15)
    assert abs(float(q_t.norm()) - 1) < 1e-14


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8), (-0.48, 0.6, 0.64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_exact_half_turns(axis, dtype):
    """With qw = 0 exactly, q and -q agree to the last bit, in the logarithm and in the geodesic."""
    q = torch.tensor([0.0, *axis], dtype=dtype)
    assert torch.equal(so3.log(q), so3.log(-q))
    assert torch.allclose(so3.log(q).norm(), torch.tensor(math.pi, dtype=dtype))
    one = so3.identity(dtype=dtype)
    a, b = so3.geodesic(one, q, 0.3), so3.geodesic(one, -q, 0.3)
    assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("angle", [3.5, 2 * math.pi, 7.0, 40.0])
def test_exp_beyond_a_half_turn(angle):
    """Exp holds for any angle: the matrix exponential says so."""
    xi = torch.tensor([0.3, -2.0, 0.5, 0.48 * angle, -0.6 * angle, 0.64 * angle], dtype=torch.float64)
    assert matrices_close(se3.exp(xi), torch.from_numpy(expm(se3.hat(xi).numpy())), angle)


def test_hat_and_vee():
    """vee inverts hat, and hat(omega) a = omega x a."""
    xi, a = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(se3.vee(se3.hat(xi)), xi)
    assert torch.equal(so3.vee(so3.hat(xi[:, 3:])), xi[:, 3:])
    crossed = torch.linalg.cross(xi[:, 3:], a)
    assert torch.allclose((so3.hat(xi[:, 3:]) @ a[..., None])[..., 0], crossed)


@CASES
@given(poses, twists())
def test_plus_and_minus(x, xi):
    """plus(x, xi) = x Exp(xi) and minus(y, x) = Log(x^-1 y), for poses and for their rotations."""
    y = se3.plus(x, xi)
    assert matrices_close(y, se3.compose(x, se3.exp(xi)), size(x, xi))
    between = se3.log(se3.compose(se3.inverse(x), y))
    assert torch.allclose(so3.to_matrix(so3.plus(x[3:], xi[3:])), so3.to_matrix(y[3:]), rtol=0, atol=1e-14)
    if xi[3:].norm() < 3.1:
        assert torch.allclose(se3.minus(y, x), between, rtol=0, atol=float(1e-13 * (1 + size(x, y))))
        assert torch.allclose(so3.minus(y[3:], x[3:]), between[3:], rtol=0, atol=1e-13)


def test_gradients_after_an_inference():
    """What an inference leaves in the caches of the series serves training as well."""
    series._columns.cache_clear()
    twists = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    with torch.inference_mode():
        se3.log(se3.exp(twists))
    x = twists.clone().requires_grad_()
    se3.log(se3.exp(x)).sum().backward()
    assert x.grad is not None

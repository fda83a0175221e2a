"""Integrators: exact where the velocity is constant, and of the order they claim."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

import geoflow as gf
from geoflow.flows import INTEGRATORS, Adaptive, cf4, dense_jump, euler, integrate, rkmk4
from geoflow.lie import se3

ORDER = {"euler": 1, "midpoint": 2, "rkmk3": 3, "rkmk4": 4, "cf4": 4}
PRODUCT = gf.Product(gf.SE3(), gf.Euclidean(1))


def curved(space):
    """A smooth body velocity that depends on point and time and whose directions do not commute."""
    matrix = torch.randn(
        space.tangent_dim, space.feature_dim, generator=torch.Generator().manual_seed(3)
    ).double()
    return lambda x, t: torch.sin(space.features(x) @ matrix.T + 2 * t)


@pytest.mark.parametrize("method", INTEGRATORS.values(), ids=lambda m: m.name)
@pytest.mark.parametrize("space", [gf.Euclidean(2), gf.SO3(), gf.SE3(), PRODUCT], ids=str)
def test_order_of_convergence(space, method):
    """Halving the step divides the error by 2^order; the reference takes 256 steps of the other method."""
    x_0 = gf.HaarUniform(space).double().sample((20,), torch.Generator().manual_seed(0))
    exact = integrate(space, curved(space), x_0, 256, rkmk4 if method is cf4 else cf4)
    errors = [space.distance(integrate(space, curved(space), x_0, n, method), exact).mean() for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDER[method.name], abs=0.15)


@pytest.mark.parametrize("method", [rkmk4, cf4, Adaptive(1e-8)], ids=lambda m: m.name)
def test_a_flow_on_poses_is_that_of_the_matrix_equation(method):
    """dp/dt = R v, dR/dt = R omega^, solved by scipy's order 8 method in matrix entries."""
    space, field = gf.SE3(), curved(gf.SE3())
    x_0 = gf.HaarUniform(space).double().sample((1,), torch.Generator().manual_seed(0))[0]

    def entries(t, flat):
        T = torch.eye(4).double()
        T[:3] = torch.as_tensor(flat).reshape(3, 4)
        return (T @ se3.hat(field(se3.from_matrix(T), t)))[:3].reshape(-1).numpy()

    start = se3.to_matrix(x_0)[:3].reshape(-1).numpy()
    end = solve_ivp(entries, (0, 1), start, method="DOP853", rtol=1e-8, atol=1e-8).y[:, -1]
    T = se3.to_matrix(integrate(space, field, x_0, 60, method))
    torch.testing.assert_close(T[:3].reshape(-1), torch.as_tensor(end), atol=1e-6, rtol=0)


@pytest.mark.parametrize("space", [gf.Euclidean(2), gf.SO3(), gf.SE3(), PRODUCT], ids=str)
def test_the_error_of_the_adaptive_method_follows_its_tolerance(space):
    """The global error stays within a few tolerances, and a tighter one takes more steps."""
    x_0 = gf.HaarUniform(space).double().sample((20,), torch.Generator().manual_seed(0))
    exact = integrate(space, curved(space), x_0, 256, cf4)
    steps = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        states = integrate(space, curved(space), x_0, 2, Adaptive(tolerance), path=True)
        assert space.distance(states[-1], exact).max() < 30 * tolerance
        steps.append(len(states))
    assert steps[0] < steps[1] < steps[2]


def test_the_adaptive_method_spends_its_steps_where_the_field_turns():
    """A burst within a fifth of the time takes more than half of the evaluations."""
    space, seen = gf.SO3(), []

    def burst(x, t):
        seen.append(t)
        return curved(space)(x, t) * (1 + 15 * math.exp(-(((t - 0.7) / 0.05) ** 2)))

    integrate(space, burst, space.identity(1).double(), 20, Adaptive(1e-4))
    assert sum(0.6 < t < 0.8 for t in seen) > 0.5 * len(seen)


def test_rkmk4_in_4_steps_beats_euler_in_16_on_a_curved_field():
    """The same 16 evaluations."""
    space = gf.SO3()
    field = lambda x, t: 0.5 * curved(space)(x, t)  # noqa: E731
    x_0 = space.random_uniform(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = integrate(space, field, x_0, 256, cf4)
    error = [
        space.distance(integrate(space, field, x_0, *how), exact).mean() for how in ((4, rkmk4), (16, euler))
    ]
    assert error[0] < 0.2 * error[1]


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(), PRODUCT], ids=str)
def test_the_bracket_is_the_commutator(space):
    """Log(Exp(hv) Exp(hw) Exp(-hv) Exp(-hw)) / h^2 -> [v, w]."""
    v, w = torch.randn(2, 10, space.tangent_dim, generator=torch.Generator().manual_seed(0)).double()
    h, e = 1e-4, space.identity(10, dtype=torch.float64)
    x = space.exp(space.exp(space.exp(space.exp(e, h * v), h * w), -h * v), -h * w)
    torch.testing.assert_close(space.log(e, x) / h**2, space.bracket(v, w), atol=2e-3, rtol=0)


@pytest.mark.parametrize("method", INTEGRATORS.values(), ids=lambda m: m.name)
def test_a_grid_is_walked_as_given(method):
    """A uniform grid is the number of its steps; any grid ends where the flow does."""
    space = gf.SE3()
    x_0 = gf.HaarUniform(space).double().sample((5,), torch.Generator().manual_seed(0))
    walk = lambda steps: integrate(space, curved(space), x_0, steps, method)  # noqa: E731
    torch.testing.assert_close(walk(torch.linspace(0, 1, 5).double()), walk(4))
    fine = walk([i**2 / 100**2 for i in range(101)])
    assert space.distance(fine, walk(200)).max() < 0.1


def test_dense_jump_is_dense_and_then_jumps():
    assert dense_jump(5, 0.4) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 1])


@pytest.mark.parametrize(
    "grid", [[0, 0.5], [0.1, 1], [0, 0.6, 0.5, 1], [0, 0.5, 0.5, 1], [1], [0, float("nan"), 1]]
)
def test_grids_that_do_not_run_from_0_to_1_are_refused(grid):
    with pytest.raises(ValueError, match="increases from 0 to 1"):
        integrate(gf.SO3(), lambda x, t: x[..., :3], gf.SO3().identity(1), grid, euler)


def test_integrators_that_cannot_serve_say_what_would():
    class Alone(gf.SO3):
        bracket = gf.Manifold.bracket

    start, field = gf.SO3().identity(1), lambda x, t: x[..., :3]
    with pytest.raises(NotImplementedError, match="cf4, midpoint or euler"):
        integrate(Alone(), field, start, 2, rkmk4)
    assert integrate(Alone(), field, start, 2, cf4).isfinite().all()
    with pytest.raises(ValueError, match="rkmk3"):
        gf.Flow(gf.SO3(), target="endpoint").sample(lambda f, t, c: f[..., :3], batch=1, method=cf4)
    with pytest.raises(RuntimeError, match="larger tolerance"):
        integrate(gf.SO3(), lambda x, t: x[..., :3] / 0, start, 2, Adaptive())
    with pytest.raises(ValueError, match="jump between 0 and 1"):
        dense_jump(1)
    with pytest.raises(ValueError, match="tolerance=0"):
        Adaptive(0)


@pytest.mark.parametrize("method", INTEGRATORS.values(), ids=lambda m: m.name)
def test_constant_velocity_is_integrated_exactly(method):
    space = gf.SE3()
    x_0 = gf.HaarUniform(space).double().sample((20,), torch.Generator().manual_seed(0))
    xi = torch.randn(20, 6, generator=torch.Generator().manual_seed(1)).double()
    x_1 = integrate(space, lambda x, t: xi, x_0, 5, method)
    assert space.distance(x_1, space.exp(x_0, xi)).max() < 1e-12


def test_every_state_is_on_the_manifold_and_the_path_has_all_of_them():
    space = gf.SE3()
    x_0 = gf.HaarUniform(space).sample((20,), torch.Generator().manual_seed(0))
    field = curved(space)
    states = integrate(space, lambda x, t: field(x.double(), t).float(), x_0, 7, euler, path=True)
    assert states.shape == (8, 20, 7)
    torch.testing.assert_close(states[0], x_0)
    torch.testing.assert_close(states[..., 3:].norm(dim=-1), torch.ones(8, 20))


def test_no_step_is_refused():
    with pytest.raises(ValueError, match="at least 1 step"):
        integrate(gf.SO3(), lambda x, t: x, gf.SO3().identity(1), 0)

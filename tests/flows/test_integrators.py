"""Integrators: exact where the velocity is constant, and of the order they claim."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import INTEGRATORS, euler, integrate, midpoint

ORDER = {"euler": 1, "midpoint": 2}


def curved(space):
    """A smooth body velocity that depends on point and time and whose directions do not commute."""
    matrix = torch.randn(
        space.tangent_dim, space.feature_dim, generator=torch.Generator().manual_seed(3)
    ).double()
    return lambda x, t: torch.sin(space.features(x) @ matrix.T + 2 * t)


@pytest.mark.parametrize("method", INTEGRATORS.values(), ids=lambda m: m.name)
@pytest.mark.parametrize("space", [gf.Euclidean(2), gf.SO3(), gf.SE3()], ids=str)
def test_order_of_convergence(space, method):
    """Halving the step divides the error by 2^order; the reference takes 4096 midpoint steps."""
    x_0 = gf.HaarUniform(space).double().sample((20,), torch.Generator().manual_seed(0))
    exact = integrate(space, curved(space), x_0, 4096, midpoint)
    errors = [
        space.distance(integrate(space, curved(space), x_0, n, method), exact).mean() for n in (64, 128)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDER[method.name], abs=0.15)


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

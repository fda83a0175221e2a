"""The conditional path: its velocity is its derivative, and it runs from noise to data."""

import pytest
import torch

import geoflow as gf
from geoflow.flows import Geodesic, Power

SPACES = [
    gf.Euclidean(3),
    gf.SO3(),
    gf.SE3(),
    gf.Product(gf.SE3(), gf.Euclidean(1)),
    gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(2)),
]


def points(space, *shape, seed=0):
    """Random points all over the manifold, float64."""
    prior = gf.HaarUniform(space)
    return prior.double().sample(shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_velocity_is_the_derivative(space):
    """Log(x_t^-1 x_{t+h}) / h -> v_t."""
    x_0, x_1 = points(space, 50, seed=1), points(space, 50, seed=2)
    t, h = torch.full((50,), 0.37, dtype=torch.float64), 1e-6
    here, ahead = Geodesic()(space, x_0, x_1, t), Geodesic()(space, x_0, x_1, t + h)
    torch.testing.assert_close(space.log(here.x_t, ahead.x_t) / h, here.v_t, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_path_begins_at_noise_and_ends_at_data(space):
    x_0, x_1 = points(space, 50, 4, seed=1), points(space, 50, 4, seed=2)
    for t, end in ((0.0, x_0), (1.0, x_1)):
        x_t = Geodesic()(space, x_0, x_1, torch.full((50, 1), t, dtype=torch.float64)).x_t
        assert space.distance(x_t, end).max() < 1e-6


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_one_euler_step_is_exact_on_a_conditional_path(space):
    """The body velocity is xi at every t, so x_0 Exp(xi) = x_1."""
    x_0, x_1 = points(space, 50, seed=1), points(space, 50, seed=2)
    xi = Geodesic()(space, x_0, x_1, torch.full((50,), 0.8, dtype=torch.float64)).v_t
    assert space.distance(space.exp(x_0, xi), x_1).max() < 1e-6


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_velocity_says_where_the_path_ends(space):
    """endpoint_of inverts velocity_to, with one clock or with one for each factor."""
    x_0, x_1 = points(space, 50, seed=1), points(space, 50, seed=2)
    t = torch.full((50,), 0.37, dtype=torch.float64)
    clocks = [Power(2.0)]
    if isinstance(space, gf.Product):
        clocks.append(tuple(Power(1.0 + i) for i in range(len(space.factors))))
    for clock in clocks:
        path = Geodesic(clock)
        sample = path(space, x_0, x_1, t)
        assert space.distance(path.endpoint_of(space, sample.x_t, sample.v_t, t), x_1).max() < 1e-6
        assert torch.allclose(path.velocity_to(space, sample.x_t, x_1, t), sample.v_t, atol=1e-6)

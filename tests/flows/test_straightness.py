"""Straightness: zero on geodesics, known on a bent line, larger without transport."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import Cosine, Geodesic
from geoflow.flows.straightness import curvature, end_cost, path_cost

SPACES = [gf.Euclidean(3), gf.SO3(), gf.SE3(), gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))]


def walked(space, path, steps=200):
    """States (steps + 1, 10, 4, point_dim) of conditional paths between random chunks."""
    x_0, x_1 = gf.HaarUniform(space).double().sample((2, 10, 4), torch.Generator().manual_seed(0))
    return torch.stack(
        [
            path(space, x_0, x_1, torch.full((10, 1), i / steps, dtype=torch.float64)).x_t
            for i in range(steps + 1)
        ]
    )


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_geodesic_is_straight_and_costs_its_length(space):
    states = walked(space, Geodesic())
    assert curvature(space, states).shape == (10, 4)
    assert curvature(space, states).max() < 1e-12
    torch.testing.assert_close(path_cost(space, states), end_cost(space, states))
    torch.testing.assert_close(end_cost(space, states), space.distance(states[0], states[-1]) ** 2)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_clock_costs_its_unevenness(space):
    """For x_0 Exp(kappa(t) xi) it is |xi|^2 integral of (kappa' - 1)^2: pi^2/8 - 1 for the cosine."""
    states = walked(space, Geodesic(Cosine()))
    torch.testing.assert_close(
        curvature(space, states), (math.pi**2 / 8 - 1) * end_cost(space, states), rtol=1e-3, atol=0
    )


def test_on_flat_space_curvature_is_the_energy_above_the_straight_line():
    """A half circle of radius 1: energy pi^2, straight line 4."""
    angle = torch.linspace(0, math.pi, 401).double()
    states = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    space = gf.Euclidean(2)
    assert path_cost(space, states).item() == pytest.approx(math.pi**2, rel=1e-4)
    assert end_cost(space, states).item() == pytest.approx(4)
    assert curvature(space, states).item() == pytest.approx(math.pi**2 - 4, rel=1e-4)


def test_states_without_steps_are_refused():
    with pytest.raises(ValueError, match="path=True"):
        curvature(gf.SO3(), gf.SO3().identity(1))

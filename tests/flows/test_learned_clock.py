"""The learned clock: equal steps on a straight way, equal errors on a bent one, better than uniform on a stiff one."""

import math
from itertools import pairwise

import pytest
import torch

import geoflow as gf
from geoflow.flows import cf4, euler, integrate, learned_clock, midpoint

SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(), gf.Product(gf.SE3(), gf.Euclidean(1))]


def starts(space, n=30):
    return gf.HaarUniform(space).double().sample((n,), torch.Generator().manual_seed(0))


def bent(space, when, strength=12.0):
    """A smooth field that turns fast for a twentieth of the time."""
    matrix = torch.randn(
        space.feature_dim, space.tangent_dim, generator=torch.Generator().manual_seed(3)
    ).double()

    def velocity(x, t):
        burst = 0.3 + strength * math.exp(-(((t - when) / 0.05) ** 2))
        return burst * torch.sin(space.features(x) @ matrix)

    return velocity


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_straight_way_is_walked_in_equal_steps(space, order):
    x_0 = starts(space)
    xi = torch.randn(30, space.tangent_dim, generator=torch.Generator().manual_seed(1)).double()
    for dtype in (torch.float64, torch.float32):
        v = xi.to(dtype)
        states = integrate(space, lambda y, t, v=v: v, x_0.to(dtype), 40, path=True)
        grid = learned_clock(space, states, 8, order=order)
        assert grid == pytest.approx([i / 8 for i in range(9)], abs=2e-2)


def test_the_steps_are_those_of_the_closed_form():
    """x = t^3 has a = 6t and speed 3/sqrt 5: Euler's steps are dense as (6t + 0.01 speed)^(1/2), but for a tenth."""
    states = torch.linspace(0, 1, 2001).double()[:, None, None] ** 3
    floor = 0.01 * 3 / math.sqrt(5)
    integral = lambda t: (6 * t + floor) ** 1.5 - floor**1.5  # noqa: E731
    grid = learned_clock(gf.Euclidean(1), states, 10)
    share = [0.1 * t + 0.9 * integral(t) / integral(1) for t in grid]
    assert share == pytest.approx([i / 10 for i in range(11)], abs=1e-4)


def test_points_at_rest_are_walked_in_equal_steps():
    assert learned_clock(gf.SO3(), gf.SO3().identity(9, 5), 4) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("when", [0.15, 0.5, 0.85])
@pytest.mark.parametrize(("method", "order"), [(euler, 1), (midpoint, 2)], ids=["euler", "midpoint"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_beats_equal_steps_where_a_part_is_stiff(space, method, order, when):
    """The mean error at the end, learned on other trajectories than it is judged on."""
    field, x_0 = bent(space, when), starts(space, 60)
    states = integrate(space, field, x_0[:30], 200, path=True)
    exact = integrate(space, field, x_0[30:], 400, cf4)
    for steps in (8, 16, 32):
        grid = learned_clock(space, states, steps, order=order)
        ours, equal = (
            space.distance(integrate(space, field, x_0[30:], g, method), exact).mean() for g in (grid, steps)
        )
        assert ours < 0.7 * equal


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_grid_runs_from_0_to_1_and_no_step_is_too_long(space):
    states = integrate(space, bent(space, 0.5, 100.0), starts(space), 100, path=True)
    for steps in (1, 2, 7, 150):
        grid = learned_clock(space, states, steps)
        assert len(grid) == steps + 1
        assert (grid[0], grid[-1]) == (0.0, 1.0)
        assert all(0 < b - a <= 10 / steps + 1e-9 for a, b in pairwise(grid))


def test_states_and_steps_that_teach_nothing_are_refused():
    space = gf.SO3()
    with pytest.raises(ValueError, match="path=True"):
        learned_clock(space, space.identity(3, 5), 4)
    with pytest.raises(ValueError, match="at least 1 of both"):
        learned_clock(space, space.identity(9, 5), 0)

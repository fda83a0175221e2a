"""Distances between samples and data, against closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows.distances import mmd, wasserstein

SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(), gf.Product(gf.SO3(), gf.Euclidean(1))]


def points(space, n, seed=0, scale=0.7):
    return gf.WrappedGaussian(space, scale=scale).sample((n,), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_shuffled_copy_is_at_distance_zero(space):
    x = points(space, 60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert wasserstein(space, x, x[order]) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_wasserstein_on_the_line_is_that_of_sorted_samples(order):
    """In one dimension the best pairing is by rank, for every p."""
    x, y = torch.randn(2, 100, 1, generator=torch.Generator().manual_seed(0))
    gaps = (x.sort(0).values - y.sort(0).values).abs()
    expected = gaps.pow(order).mean() ** (1 / order)
    assert wasserstein(gf.Euclidean(1), x, y, order) == pytest.approx(float(expected), rel=1e-3)


def test_wasserstein_of_a_shift_is_its_length():
    """Narrow clouds and a common small turn: every point moves by the angle, and nothing does better."""
    space = gf.SO3()
    turn = torch.tensor([0.0, 0.0, 0.8])
    x = points(space, 40, scale=1e-3)
    assert wasserstein(space, x, space.exp(x, turn)) == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize("distance", [wasserstein, mmd])
def test_distances_do_not_depend_on_the_world_frame(distance):
    """Left invariance: d(g x, g y) = d(x, y)."""
    space = gf.SE3()
    x, y = points(space, 50), points(space, 50, seed=1, scale=0.4)
    g = points(space, 1, seed=2)

    def moved(p):
        return space.exp(g.expand_as(p), space.log(space.identity().expand_as(p), p))

    assert distance(space, moved(x), moved(y)) == pytest.approx(distance(space, x, y), abs=1e-3)


def test_mmd_of_two_gaussians_on_the_line():
    """E exp(-|z| / h) for z ~ N(m, s^2) has a closed form in the error function."""

    def expected_kernel(m, s, h):
        def half(sign):
            return (
                math.exp(0.5 * (s / h) ** 2 + sign * m / h)
                * 0.5
                * math.erfc((s * s / h + sign * m) / (s * math.sqrt(2)))
            )

        return half(1) + half(-1)

    h, s = 0.5, math.sqrt(2)
    expected = 2 * expected_kernel(0.0, s, h) - 2 * expected_kernel(1.5, s, h)
    x, y = torch.randn(2, 3000, 1, generator=torch.Generator().manual_seed(0))
    assert mmd(gf.Euclidean(1), x, y + 1.5, bandwidth=h) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_mmd_is_unbiased(space):
    """Over independent pairs of sample sets of one distribution its mean is 0 within its standard error."""
    values = torch.tensor(
        [mmd(space, points(space, 40, 2 * i), points(space, 40, 2 * i + 1)) for i in range(60)]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(60)
    assert (values < 0).any()


def test_bad_input_is_told():
    space = gf.SO3()
    x = points(space, 5)
    with pytest.raises(ValueError, match="as many noise points"):
        wasserstein(space, x, x[:4])
    with pytest.raises(ValueError, match="at least two"):
        mmd(space, x[:1], x[:1])
    with pytest.raises(ValueError, match="bandwidth=0"):
        mmd(space, x, x, bandwidth=0)
    with pytest.raises(ValueError, match=r"order=0\.5"):
        wasserstein(space, x, x, order=0.5)

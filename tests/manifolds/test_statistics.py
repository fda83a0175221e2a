"""Frechet mean and tangent covariance recover what the data were drawn from."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from geoflow.lie import so3
from geoflow.manifolds import SE3, SO3, Euclidean, Product, frechet_mean, tangent_covariance

SPACES = [Euclidean(3), SO3(), SE3(), Product(Euclidean(3), SO3()), Product(SE3(), Euclidean(1))]


def sample(space, n: int = 400):
    generator = torch.Generator().manual_seed(0)
    centre = space.project(torch.randn(space.point_dim, dtype=torch.float64, generator=generator))
    mixing = 0.12 * torch.randn(
        space.tangent_dim, space.tangent_dim, dtype=torch.float64, generator=generator
    )
    v = torch.randn(n, space.tangent_dim, dtype=torch.float64, generator=generator) @ mixing.mT
    v = torch.cat([v, -v])  # so the centre is the mean exactly
    return centre, v, space.exp(centre, v)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_mean_is_the_zero_of_the_logarithms(space):
    """sum_i log(m, x_i) = 0, and symmetric samples have their centre as mean."""
    centre, _, x = sample(space)
    mean = frechet_mean(space, x, tolerance=1e-12)
    assert float(space.log(mean, x).mean(0).abs().max()) < 1e-12
    assert float(space.distance(mean, centre)) < 1e-9


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_covariance_is_that_of_the_tangents(space):
    centre, v, x = sample(space)
    found = tangent_covariance(space, x, centre)
    assert torch.allclose(found, v.mT @ v / len(v), rtol=0, atol=1e-10)


def test_rotation_mean_minimises_the_squared_distance():
    """No nearby rotation has a smaller mean squared distance; scipy's chordal mean is close but not it."""
    space = SO3()
    _, _, x = sample(space, 50)
    x = x[:60]
    mean = frechet_mean(space, x, tolerance=1e-12)
    best = (space.distance(mean, x) ** 2).mean()
    for d in 1e-3 * torch.eye(3, dtype=torch.float64):
        assert (space.distance(space.exp(mean, d), x) ** 2).mean() > best
        assert (space.distance(space.exp(mean, -d), x) ** 2).mean() > best
    chordal = torch.from_numpy(Rotation.from_quat(so3.to_xyzw(x).numpy()).mean().as_quat())
    assert float(space.distance(mean, so3.from_xyzw(chordal))) < 0.05


def test_weights_and_batches():
    """Weights count repetitions; trailing batch axes are averaged one by one; the mean is equivariant."""
    space = SE3()
    _, _, x = sample(space, 20)
    weights = torch.tensor([1.0, 2.0] * 20)
    repeated = torch.cat([x, x[1::2]])
    weighted = frechet_mean(space, x, weights, tolerance=1e-12)
    assert float(space.distance(weighted, frechet_mean(space, repeated, tolerance=1e-12))) < 1e-10
    both = frechet_mean(
        space, torch.stack([x, space.exp(x, torch.zeros(6, dtype=torch.float64))], 1), tolerance=1e-12
    )
    assert both.shape == (2, 7)
    assert float(space.distance(both[0], both[1])) < 1e-10
    covariance = tangent_covariance(space, x, weighted, weights)
    assert covariance.shape == (6, 6)
    assert bool((torch.linalg.eigvalsh(covariance) >= -1e-12).all())


def test_refusals():
    with pytest.raises(ValueError, match="N >= 1"):
        frechet_mean(SO3(), torch.ones(4))
    with pytest.raises(ValueError, match="one a point"):
        frechet_mean(SO3(), SO3().identity(3), torch.ones(2))
    with pytest.raises(RuntimeError, match="did not settle"):
        frechet_mean(SO3(), sample(SO3())[2], iterations=0)

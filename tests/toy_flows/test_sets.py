"""The toy distributions: points of their spaces, modes that can be told, densities that are theirs."""

from __future__ import annotations

import math

import pytest
import torch
from toy.sets import SETS, _box_centres, _peak_centres

import geoflow as gf
from geoflow.lie import densities, so3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("toy", SETS.values(), ids=lambda toy: toy.name)
def test_points_lie_in_the_space_and_know_their_mode(toy):
    x, mode = toy.sample(400, generator())
    toy.space.check(x)
    assert x.dtype == torch.float32
    assert set(mode.tolist()) == set(range(toy.modes))
    assert (
        float((toy.mode_of(x) == mode).float().mean()) > 0.75
    )  # sectors that touch are told apart less surely
    assert float(toy.weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("toy", SETS.values(), ids=lambda toy: toy.name)
def test_draws_repeat(toy):
    assert torch.equal(toy.sample(20, generator(3))[0], toy.sample(20, generator(3))[0])


@pytest.mark.parametrize("name", ["peaks", "hole"])
def test_densities_of_rotations_integrate_to_one(name):
    """The mean of p over Haar measure, times the volume 8 pi^2."""
    q = so3.random_uniform(200_000, generator=generator(), dtype=torch.float64)
    integral = float(SETS[name].log_density(q).exp().mean()) * 8 * math.pi**2
    assert integral == pytest.approx(1, abs=0.02)


def test_the_density_of_the_box_is_that_of_its_samples():
    """E_p[f / p] = 1 for every normalised f within p: here the same mixture, narrower."""
    toy = SETS["box"]
    x = toy.draw(4000, generator())[0].double()
    narrow = torch.diag(torch.tensor([0.05, 0.05, 0.05, 0.08, 0.08, 0.08], dtype=torch.float64) ** 2)
    terms = [densities.WrappedGaussian(c, narrow).log_prob(x) - math.log(8) for c in _box_centres()]
    ratio = torch.logsumexp(torch.stack(terms), 0) - toy.log_density(x)
    assert float(ratio.exp().mean()) == pytest.approx(1, abs=0.15)


def test_the_entropy_is_that_of_separate_peaks():
    """Peaks that do not overlap: the entropy of the choice plus that of a Gaussian of the same width, nearly."""
    weights = torch.tensor([0.30, 0.20, 0.15, 0.15, 0.12, 0.08])
    apart = gf.SO3().distance(_peak_centres()[:, None], _peak_centres())
    assert float((apart + 9 * torch.eye(6)).min()) > 1.2
    expected = -float((weights * weights.log()).sum()) + 1.5 * math.log(2 * math.pi * math.e * 0.25**2)
    assert SETS["peaks"].entropy() == pytest.approx(expected, abs=0.05)


def test_the_hole_is_empty_and_only_tags_are_conditions():
    q, mode = SETS["hole"].sample(500, generator())
    assert float(so3.log(q).norm(dim=-1).min()) > math.pi / 2
    assert SETS["hole"].condition(mode) is None
    tags = SETS["sine_tags"].condition(torch.tensor([3]))
    assert tags is not None
    assert tags.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]


def test_grasps_of_the_cylinder_approach_its_axis():
    """The approach, the gripper's z, points to the axis and is level; flips turn about it."""
    x, mode = SETS["cylinder"].sample(500, generator())
    R = so3.to_matrix(x[:, 3:])
    towards = -torch.nn.functional.normalize(x[:, :3] * torch.tensor([1.0, 1, 0]), dim=-1)
    assert float((R[:, :, 2] * towards).sum(-1).min()) > 0.9
    jaws = torch.linalg.cross(torch.tensor([0.0, 0, 1]).expand(500, 3), -towards)
    side = (R[:, :, 1] * jaws).sum(-1)
    assert bool(((side > 0.9) == (mode < 4)).all())

"""Chunks joined to what was executed: they leave with its velocity, bend gently, come back; wherever the scene is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.experiments.smoothness import Jumps
from geoflow.lie import se3
from geoflow.policies.joining import bounds, changes, coming_back, join

T, HZ = 16, 20.0
SPACE = gf.SE3()
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def walks(n, seed, noise=0.001, spread=0.02, dtype=torch.float64):
    """Chunks (n, T, 8) that begin about the same pose, with steady twists and noise on every step."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    about = se3.exp(torch.tensor([0.3, -0.2, 0.5, 1.0, 0.4, -1.0], dtype=torch.float64))
    poses = [SPACE.exp(about.expand(n, 7), spread * normal(n, 6))]
    step = spread * normal(n, 6)
    for _ in range(T - 1):
        poses.append(se3.compose(poses[-1], se3.exp(step + noise * normal(n, 6))))
    return torch.cat([torch.stack(poses, 1), torch.full((n, T, 1), float(seed))], -1).to(dtype)


def whole(executed, left):
    """Poses from two commands before the border on."""
    return torch.cat([executed, left], 1)[..., :7]


@DTYPES
@pytest.mark.parametrize("first", [1, 2, 6, T - 1])
def test_it_ends_as_itself(first, dtype):
    chunk, going = walks(20, 1, dtype=dtype), walks(20, 2, dtype=dtype)
    left = join(chunk, going[:, :2], first, HZ)
    assert left.shape == (20, T - first, 8)
    assert left.dtype == dtype
    assert torch.equal(left[..., 7:], chunk[:, first:, 7:])
    assert SPACE.distance(left[:, -1, :7], chunk[:, -1, :7]).max() < 1e-3


@DTYPES
@pytest.mark.parametrize("size", [1e-4, 2e-3, 1e-2, 3e-2])
def test_no_step_changes_by_more_than_the_chunk_and_the_bound(size, dtype):
    """At the border and after it, in translation and in rotation; else it takes all of the chunk to come back."""
    chunk = walks(200, 1, 0.004, 0.01, dtype=dtype)
    moved = SPACE.exp(chunk[..., :7], size * torch.randn(200, 1, 6, dtype=dtype).expand(-1, T, -1))
    executed, first = torch.cat([moved, chunk[..., 7:]], -1)[:, 4:6], 6
    left = join(chunk, executed, first, HZ)
    allowed = changes(chunk[:, 4:, :7]) + bounds(T - first, HZ).to(dtype)
    gentle = (changes(whole(executed, left)) <= allowed * (1 + 1e-3)).all(-1).all(-1)
    late = SPACE.distance(left[:, -2, :7], chunk[:, -2, :7]) > 0
    assert (gentle | late).all()
    assert gentle.float().mean() > 0.8 if size < 1e-2 else late.any()


def test_a_large_disagreement_bends_as_the_quintic_says():
    """Steady chunks x apart, over all n steps left: at most 5.8 x / n^2 inside, 10 x / n^3 at the border."""
    chunk = walks(1, 3, noise=0.0)
    first, x = 6, 0.12
    executed = chunk[:, first - 2 : first].clone()
    executed[..., 2] += x
    n = T - first
    change = changes(whole(executed, join(chunk, executed, first, HZ)))[0, :, 0]
    assert change[0] < 10.1 * x / n**3
    assert change.max() < 5.8 * x / n**2


def test_the_bounds_are_what_they_are_said_to_be():
    """At 20 Hz 2 mm and 0.4 degrees a step at the border, twice that on the way back."""
    expected = [[2.0, 0.4], [4.0, 0.8], [4.0, 0.8]]
    found = bounds(3, HZ) * torch.tensor([1e3, 180 / torch.pi])
    torch.testing.assert_close(found, torch.tensor(expected), atol=5e-3, rtol=0)
    torch.testing.assert_close(bounds(3, 2 * HZ), bounds(3, HZ) / 4)


def test_small_disagreements_vanish_sooner():
    chunk = walks(300, 4, 0.002, 0.01)
    far = []
    for size in (1e-3, 8e-3, 4e-2):
        moved = SPACE.exp(chunk[..., :7], size * torch.ones(6, dtype=torch.float64).expand(300, T, 6))
        left = join(chunk, torch.cat([moved, chunk[..., 7:]], -1)[:, 4:6], 6, HZ)
        apart = SPACE.distance(left[..., :7], chunk[:, 6:, :7]) > 1e-9
        far.append(float(apart.sum(1).double().mean()))
    assert far[0] < far[1] < far[2] - 1


@pytest.mark.parametrize("first", [1, 6])
def test_a_chunk_that_agrees_stays_as_it_is(first):
    chunk = walks(5, 1, noise=0.0)
    going = torch.cat(
        [2 * chunk[:, :1] - chunk[:, 1:2], chunk], 1
    )  # extras alone are wrong, and do not matter
    going[:, 0, :7] = se3.compose(chunk[:, 0, :7], se3.compose(se3.inverse(chunk[:, 1, :7]), chunk[:, 0, :7]))
    left = join(chunk, going[:, first - 1 : first + 1], first, HZ)
    assert SPACE.distance(left[..., :7], chunk[:, first:, :7]).max() < 1e-6


def test_the_quintic():
    """Value and slope at 0, neither at n, no curvature at both: by automatic differentiation."""
    value, slope = torch.randn(2, 6, dtype=torch.float64)
    n = torch.tensor(5.0, dtype=torch.float64)

    def at(j):
        return coming_back(value, slope, j, n)

    def derivative(f):
        return lambda j: torch.autograd.functional.jacobian(f, j, create_graph=True)

    zero = torch.zeros(6, dtype=torch.float64)
    for j, expected in ((0.0, (value, slope, zero)), (5.0, (zero, zero, zero))):
        j = torch.tensor(j, dtype=torch.float64)
        for f, y in zip((at, derivative(at), derivative(derivative(at))), expected, strict=True):
            torch.testing.assert_close(f(j), y)
    assert at(torch.tensor(6.0, dtype=torch.float64)).abs().max() < 1e-12


def test_changes_are_those_that_are_reported():
    """What is bounded is what an evaluation measures at chunk borders and inside."""
    chunk = walks(1, 5)[0]
    new = np.arange(T) == 7
    jumps = Jumps.of(chunk.numpy(), new)
    mm, rad = changes(chunk[..., :7]).unbind(-1)
    np.testing.assert_allclose(
        jumps.border[0, 2:], [1e3 * float(mm[5]), np.degrees(float(rad[5]))], rtol=1e-6
    )


@DTYPES
def test_moving_the_scene_moves_what_is_joined(dtype):
    g = se3.exp(torch.tensor([0.3, -2.0, 0.5, 1.0, 0.4, -1.0], dtype=torch.float64)).to(dtype)

    def moved(x):
        return torch.cat([se3.compose(g.expand_as(x[..., :7]), x[..., :7]), x[..., 7:]], -1)

    chunk, going = walks(20, 1, dtype=dtype), walks(20, 2, dtype=dtype)[:, :2]
    there, here = join(moved(chunk), moved(going), 4, HZ), join(chunk, going, 4, HZ)
    near = SPACE.distance(there[..., :7], moved(here)[..., :7]).amax(1)
    assert near.median() < 1e-3 if dtype == torch.float32 else near.max() < 1e-6


def test_each_of_two_arms_is_joined():
    """Two arms at once are each arm alone, and grippers are the chunk's own."""
    chunk, going, other_chunk, other_going = (walks(5, seed) for seed in (3, 4, 5, 6))
    pair, goes = (
        torch.cat([x[..., :7], y[..., :7], x[..., 7:], y[..., 7:]], -1)
        for x, y in ((chunk, other_chunk), (going[:, :2], other_going[:, :2]))
    )
    both = join(pair, goes, 4, HZ, arms=2)
    left, right = join(chunk, going[:, :2], 4, HZ), join(other_chunk, other_going[:, :2], 4, HZ)
    expected = torch.cat([left[..., :7], right[..., :7], left[..., 7:], right[..., 7:]], -1)
    torch.testing.assert_close(both, expected, rtol=0, atol=0)

"""Chunks joined to what is executed: begun as it, left with its velocity, come back; the same wherever the scene is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.lie import se3
from geoflow.policies.base import Onward, PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution, Executor
from geoflow.policies.joining import coming_back, join

T, BACK = 16, 8
SPACE = gf.SE3()


def screws(n, seed, spread=0.02):
    """Chunks (n, T, 8) of steady body twists from about the same pose: their second differences are zero."""
    generator = torch.Generator().manual_seed(seed)
    start = se3.exp(torch.randn(6, generator=torch.Generator().manual_seed(7), dtype=torch.float64))
    start = SPACE.exp(
        start.expand(n, 7), spread * torch.randn(n, 6, generator=generator, dtype=torch.float64)
    )
    xi = spread * torch.randn(n, 1, 6, generator=generator, dtype=torch.float64)
    steps = torch.arange(T, dtype=torch.float64)[:, None] * xi
    pose = se3.compose(start[:, None], se3.exp(steps))
    return torch.cat([pose, torch.full((n, T, 1), float(seed), dtype=torch.float64)], -1)


@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_it_begins_as_what_goes_on_and_ends_as_itself(d):
    chunk, going = screws(20, 1), screws(20, 2)[:, :10]
    out = join(chunk, going, d, BACK)
    assert torch.equal(out[:, :d], going[:, :d])
    assert torch.equal(out[:, d:, 7:], chunk[:, d:, 7:])
    assert SPACE.distance(out[:, d - 1 + BACK :, :7], chunk[:, d - 1 + BACK :, :7]).sum() < 1e-6


def test_nothing_to_join():
    """Without delay a chunk stays as it is, and so does one that is the chunk under way."""
    chunk = screws(5, 1)
    assert join(chunk, screws(5, 2), 0) is chunk
    assert SPACE.distance(join(chunk, chunk, 6)[..., :7], chunk[..., :7]).max() < 1e-7


def test_it_leaves_with_the_velocity_it_has():
    """Where it takes over it changes its step by as little as a cubic bends; put in its place, a chunk jumps."""
    chunk, going, d = screws(200, 1, 0.01), screws(200, 2, 0.01), 6

    def change(x):
        pose = x[..., :7]
        step = se3.compose(se3.inverse(pose[:, d - 2]), pose[:, d - 1])
        return SPACE.distance(se3.compose(pose[:, d - 1], step), pose[:, d])

    joined, put = join(chunk, going, d, BACK), torch.cat([going[:, :d], chunk[:, d:]], 1)
    assert (change(joined) < 0.3 * change(put)).all()
    assert change(joined).mean() < 0.15 * change(put).mean()


def test_the_cubic():
    """Value and slope at 0, none of both at BACK: by finite differences; a line before."""
    value, slope = torch.randn(2, 4, 1, 6, dtype=torch.float64)
    h = 1e-6
    j = torch.tensor([0, h, -h, BACK - h, BACK, -3.0], dtype=torch.float64)
    at = coming_back(value, slope, j, BACK)
    torch.testing.assert_close(at[:, 0], value[:, 0])
    torch.testing.assert_close((at[:, 1] - at[:, 2]) / (2 * h), slope[:, 0], atol=1e-5, rtol=1e-5)
    assert at[:, 4].abs().max() == 0
    assert ((at[:, 3] - at[:, 4]) / h).abs().max() < 1e-5
    torch.testing.assert_close(at[:, 5], (value - 3 * slope)[:, 0])


def test_moving_the_scene_moves_what_is_joined():
    g = se3.exp(torch.tensor([0.3, -2.0, 0.5, 1.0, 0.4, -1.0], dtype=torch.float64))

    def moved(x):
        return torch.cat([se3.compose(g.expand_as(x[..., :7]), x[..., :7]), x[..., 7:]], -1)

    chunk, going = screws(20, 1), screws(20, 2)
    there, here = join(moved(chunk), moved(going), 4), join(chunk, going, 4)
    assert SPACE.distance(there[..., :7], moved(here)[..., :7]).max() < 1e-6


@pytest.mark.parametrize("kind", ["flow", "ddpm", "regression"])
def test_every_policy_can_be_joined(demos, kind):
    """What the policy would do anyway, joined to what is executed."""
    torch.manual_seed(0)
    config = PolicyConfig(type=kind, width=32, depth=1, horizon=8, execute=4, nfe=1 + (kind == "ddpm"))
    chunks = Chunks(demos, horizon=8, observation_steps=1)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    policy.eval()
    batch = chunks.sample(3)
    going = policy.act(batch.obs, generator=torch.Generator().manual_seed(1))
    free = policy.act(batch.obs, generator=torch.Generator().manual_seed(2))
    how = Onward(going[:, 2:], 3, "joined")
    joined = policy.act(batch.obs, generator=torch.Generator().manual_seed(2), onward=how)
    assert torch.equal(joined, join(free, going[:, 2:], 3))
    executor = Executor(policy, Execution(4, delay=3, manner="joined"), 3)
    actions = [executor.act(batch.obs, range(3)) for _ in range(9)]
    assert executor.predicted == 9
    assert np.isfinite(actions).all()


def test_each_of_two_arms_is_joined():
    """Two arms at once are each arm alone, and grippers are the chunk's own."""
    chunk, going, other_chunk, other_going = (screws(5, seed) for seed in (3, 4, 5, 6))
    pair, goes = (
        torch.cat([x[..., :7], y[..., :7], x[..., 7:], y[..., 7:]], -1)
        for x, y in ((chunk, other_chunk), (going, other_going))
    )
    both = join(pair, goes, 4, arms=2)
    left, right = join(chunk, going, 4), join(other_chunk, other_going, 4)
    expected = torch.cat([left[..., :7], right[..., :7], left[..., 7:], right[..., 7:]], -1)
    torch.testing.assert_close(both, expected, rtol=0, atol=0)

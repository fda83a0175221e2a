"""executed = action * Exp(xi), smooth bursts, undisturbed stretches between them, the share that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geoflow.experiments import disturbance
from geoflow.experiments.disturbance import ANGLE, DISTANCE, MOST, REST, Disturbance


def play(share: float, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A constant action, what was executed instead, and where it says that differs."""
    action = np.array([0.3, -0.2, 0.4, 0.8, 0, 0.6, 0, -1], np.float32)
    noise = Disturbance(share, np.random.default_rng(seed))
    executed, differs = zip(*(noise.apply(action) for _ in range(steps)), strict=True)
    return action, np.stack(executed), np.array(differs)


def stretches(flags: np.ndarray) -> list[tuple[bool, int]]:
    edges = np.flatnonzero(np.diff(flags.astype(int))) + 1
    return [(bool(part[0]), len(part)) for part in np.split(flags, edges)]


def test_no_disturbance_changes_nothing():
    action, executed, differs = play(0, 100)
    assert not differs.any()
    assert (executed == action).all()


@pytest.mark.parametrize("share", [0.1, 0.2, MOST])
def test_the_share_of_disturbed_steps_is_the_one_asked_for(share):
    _, _, differs = play(share, 30_000)
    assert abs(differs.mean() - share) < 0.02


@pytest.mark.parametrize("share", [0.1, MOST])
def test_between_bursts_there_is_room_for_a_clean_chunk(share):
    _, _, differs = play(share, 10_000)
    inner = stretches(differs)[1:-1]
    assert min(n for disturbed, n in inner if not disturbed) >= REST >= 16
    lengths = [n for disturbed, n in inner if disturbed]
    assert (min(lengths), max(lengths)) == disturbance.BURST


def test_a_disturbance_is_a_small_motion_in_the_frame_of_the_action():
    action, executed, differs = play(0.2, 10_000)
    frame = Rotation.from_quat(np.roll(action[3:7], -1).astype(float))
    turn = (frame.inv() * Rotation.from_quat(np.roll(executed[:, 3:7].astype(float), -1, -1))).magnitude()
    way = np.linalg.norm(executed[:, :3] - action[:3], axis=-1)
    assert (executed[:, 7] == -1).all()  # extras are untouched
    assert np.allclose(np.linalg.norm(executed[:, 3:7], axis=-1), 1, atol=1e-6)
    assert turn[differs].max() <= ANGLE + 1e-5
    assert turn[differs].max() > 0.8 * ANGLE
    # |V(omega) v| <= |v|
    assert way[differs].max() <= DISTANCE + 1e-6
    assert way[differs].max() > 0.8 * DISTANCE
    assert (executed[~differs] == action).all()


def test_a_burst_rises_smoothly():
    """No single step takes more than half of the largest motion."""
    _, executed, differs = play(0.2, 10_000)
    rise = np.linalg.norm(np.diff(executed[:, :3], axis=0), axis=-1)[differs[1:]]
    assert rise.max() < 0.51 * DISTANCE


def test_the_same_seed_gives_the_same_disturbance():
    assert (play(0.2, 500, 1)[1] == play(0.2, 500, 1)[1]).all()
    assert (play(0.2, 500, 1)[1] != play(0.2, 500, 2)[1]).any()


@pytest.mark.parametrize("share", [-0.1, 0.9, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="the share of disturbed steps, between 0 and"):
        Disturbance(share, np.random.default_rng())

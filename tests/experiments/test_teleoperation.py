"""Keys move the hand by the equation they promise; what succeeds is recorded, and a file grows over sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Meta
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env
from geoflow.experiments.task_names import task_id
from geoflow.experiments.teleoperation import (
    DISCARD,
    GRIPPER,
    KEYS,
    LEAVE,
    MOVES,
    OTHER,
    PATIENCE,
    SAVE,
    STEPS,
    Hand,
    Session,
    Takes,
    _meta,
)

REACH = "tests.reach_env:tests/Reach-v0"
KINDS = {"tcp": "pose", "gripper": "vector", "target": "pose"}
LOW, HIGH = np.array([-1.0, -1, -1]), np.array([1.0, 1, 1])


def rotation(pose: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.roll(pose[3:7], -1))


def hand() -> Hand:
    return Hand(np.r_[0.1, 0.2, 0.3, np.roll(Rotation.from_rotvec([0.4, -0.3, 1.1]).as_quat(), 1)], LOW, HIGH)


# --- keys ---


@pytest.mark.parametrize("key", MOVES)
@pytest.mark.parametrize("step", STEPS)
def test_a_key_moves_along_the_world_or_turns_about_the_hand(key: str, step: str):
    """p + d in the world, R Exp(omega) about the hand's own axes, one of the two at a time."""
    moved, before = hand(), hand()
    moved.press(step)
    assert moved.press(key)
    entry, sign = MOVES[key]
    metres, angle = STEPS[step]
    d, omega = np.zeros(3), np.zeros(3)
    (d if entry < 3 else omega)[entry % 3] = sign * (metres if entry < 3 else angle)
    np.testing.assert_allclose(moved.pose[:3], before.pose[:3] + d, atol=1e-12)
    expected = rotation(before.pose) * Rotation.from_rotvec(omega)
    assert (expected.inv() * rotation(moved.pose)).magnitude() < 1e-9
    assert moved.action.dtype == np.float32
    np.testing.assert_allclose(moved.action, np.append(moved.pose, -1), atol=1e-6)


def test_every_key_has_its_opposite_and_words():
    for key, (entry, sign) in MOVES.items():
        (other,) = [k for k, move in MOVES.items() if move == (entry, -sign)]
        moved = hand()
        moved.press(key)
        moved.press(other)
        np.testing.assert_allclose(moved.pose, hand().pose, atol=1e-12)
        assert {key, other} <= set(KEYS)
    assert set(KEYS) == {*MOVES, *STEPS, GRIPPER, OTHER, SAVE, DISCARD, LEAVE}


def test_the_gripper_turns_over_and_other_keys_mean_nothing():
    one = hand()
    assert [one.press(GRIPPER) and one.gripper for _ in range(3)] == [1.0, -1.0, 1.0]
    before = one.action
    assert not one.press("Z")
    assert not one.press("")
    np.testing.assert_array_equal(one.action, before)


def test_the_target_stays_in_the_workspace_and_a_unit_quaternion():
    one = hand()
    one.press("3")
    for i in range(2000):
        one.press("W")
        one.press("LOI"[i % 3])
    assert one.pose[0] == 1.0
    assert np.linalg.norm(one.pose[3:]) == pytest.approx(1, abs=1e-12)
    one.press("S")
    assert one.pose[0] == pytest.approx(0.97)  # no stored-up way back


# --- recording ---


def takes(path: Path, **changes: Any) -> Takes:
    fields: dict[str, Any] = {
        "env_id": REACH,
        "env_kwargs": {},
        "control_hz": 20.0,
        "observation_kinds": KINDS,
    }
    return Takes(path, Meta(**(fields | changes)))


def session(kept: Takes, seed: int = 0, **kwargs: Any) -> Session:
    env = make_env(EnvConfig(REACH, {"tolerance": 0.03, "steps": 2000, **kwargs}))
    return Session(env, kept, seed, REACH)


def keys_towards(one: Session, target: np.ndarray) -> list[str]:
    """The keys that a patient person would press now: the largest error first."""
    d = target[:3] - one.hand.pose[:3]
    omega = (rotation(one.hand.pose).inv() * rotation(target)).as_rotvec()
    off = np.r_[d / one.hand.step[0], omega / one.hand.step[1]]
    entry = int(np.abs(off).argmax())
    if abs(off[entry]) < 0.6:
        return [] if one.hand.gripper > 0 else [GRIPPER]
    return [key for key, move in MOVES.items() if move == (entry, np.sign(off[entry]))]


def solve(one: Session) -> None:
    for _ in range(400):
        one.tick(keys_towards(one, one._obs["target"]))
        if one.solved:
            return
    raise AssertionError("not solved")


def test_what_keys_solve_is_recorded_as_it_was_played(tmp_path: Path):
    """Replaying the recorded actions from the recorded seed gives the recorded observations and succeeds."""
    path = tmp_path / "mine.h5"
    kept = takes(path)
    one = session(kept)
    solve(one)
    one.tick(["W"])  # after the end, only saving and discarding count
    one.tick([SAVE])
    assert len(kept) == 1
    assert "saved" in one.marks.text
    with Demonstrations(path) as demos:
        (episode,) = demos
        assert (episode.seed, episode.success, demos.meta.attempts) == (0, True, 1)
        assert not episode.disturbed.any()
    env = make_env(EnvConfig(REACH, {"tolerance": 0.03, "steps": 2000}))
    obs, info = env.reset(seed=episode.seed)
    for t, action in enumerate(episode.actions):
        for name in KINDS:
            np.testing.assert_array_equal(obs[name], episode.obs[name][t])
        assert not info.get("is_success", False)
        obs, _, _, _, info = env.step(action)
    assert info["is_success"]


def test_time_stands_still_when_nobody_presses(tmp_path: Path):
    one = session(takes(tmp_path / "x.h5"))
    for _ in range(30):
        one.tick([])
    assert one._steps == []
    one.tick(["W"])
    for _ in range(50):
        one.tick([])
    assert len(one._steps) == PATIENCE
    one.tick(["Z"])  # no key of ours: still
    assert len(one._steps) == PATIENCE


def test_unsolved_episodes_are_discarded_and_counted(tmp_path: Path):
    path = tmp_path / "mine.h5"
    kept = takes(path)
    one = session(kept, seed=2)
    assert one.seed == 20_000
    one.tick(["W", SAVE])
    assert "not solved yet" in one.marks.text
    assert not path.exists()
    one.tick([DISCARD])
    assert one.seed == 20_001
    solve(one)
    one.tick([DISCARD])
    solve(one)
    one.tick([SAVE])
    with Demonstrations(path) as demos:
        assert [episode.seed for episode in demos] == [20_002]
        assert (demos.meta.attempts, demos.meta.failures) == (3, {"discarded": 2})
    one.tick([LEAVE])
    assert one.left


@pytest.mark.parametrize(
    ("seed", "attempts", "says"),
    [
        (100, 0, "held out for evaluation"),
        (-1, 0, "between 0 and 99"),
        (99, 10_000, "10000 attempts are done"),
    ],
)
def test_scenes_of_evaluations_are_not_recorded(tmp_path: Path, seed: int, attempts: int, says: str):
    with pytest.raises(ValueError, match=says):
        session(takes(tmp_path / "x.h5", attempts=attempts), seed)


def test_an_episode_that_fails_makes_room_for_the_next(tmp_path: Path):
    kept = takes(tmp_path / "x.h5")
    one = session(kept, steps=5)
    one.tick(["W"])
    for _ in range(4):
        one.tick([])
    assert one.seed == 1
    assert kept.attempts == 1
    assert "no grasp" in one.marks.text
    assert not one._steps


def test_a_second_session_adds_to_the_file(tmp_path: Path):
    path = tmp_path / "mine.h5"
    one = session(takes(path))
    solve(one)
    one.tick([SAVE])
    again = takes(path)
    assert (len(again), again.attempts) == (1, 1)
    two = session(again)
    assert two.seed == 1
    solve(two)
    two.tick([SAVE])
    with Demonstrations(path) as demos:
        assert [episode.seed for episode in demos] == [0, 1]
        assert demos.meta.attempts == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": "geoflow/KeyTurn-v0"}, "recorded in tests.reach_env"),
        ({"env_kwargs": {"tolerance": 0.1}}, r"recorded with env_kwargs \{\}, and this would be .*0.1"),
        ({"settings": {"source": "teleoperation"}}, "recorded with settings"),
        ({"control_hz": 10.0}, "20 actions a second"),
    ],
    ids=str,
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, changes: dict[str, Any], message: str):
    path = tmp_path / "mine.h5"
    one = session(takes(path))
    solve(one)
    one.tick([SAVE])
    before = path.read_bytes()
    with pytest.raises(DemonstrationError, match=message):
        takes(path, **changes)
    assert path.read_bytes() == before


def test_an_env_without_hands_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"actions of shape \(1,\) .* the keyboard moves hands"):
        Session(make_env(EnvConfig("Pendulum-v1")), takes(tmp_path / "x.h5"), 0, "Pendulum-v1")


def test_a_hand_that_begins_with_something_in_it_stays_closed(tmp_path: Path):
    env = make_env(EnvConfig(task_id("TiltedPegInsert"), {"level": 0, "in_hand": True}))
    kinds = dict(env.unwrapped.observation_kinds)  # type: ignore[attr-defined]
    one = Session(env, takes(tmp_path / "x.h5", observation_kinds=kinds), 0, "peg")
    assert one.hand.gripper == 1.0
    np.testing.assert_allclose(one.hand.pose, one._obs["tcp"])
    for _ in range(3):
        one.tick(["R"])
    base: Any = env.unwrapped
    assert base.lifted
    env.close()


def test_two_hands_are_moved_one_at_a_time(tmp_path: Path):
    """H takes the other hand; the action holds both poses, then both grippers."""
    env = make_env(EnvConfig(task_id("BimanualPeg"), {"level": 0}))
    kinds = dict(env.unwrapped.observation_kinds)  # type: ignore[attr-defined]
    one = Session(env, takes(tmp_path / "x.h5", observation_kinds=kinds), 0, "BimanualPeg")
    begin = one.action
    assert begin.shape == (16,)
    np.testing.assert_allclose(begin[:14], np.r_[one._obs["tcp_left"], one._obs["tcp_right"]])
    np.testing.assert_array_equal(begin[14:], (1, 1))  # each holds something
    assert "left hand" in one.marks.text
    one.tick(["R"])
    one.tick([OTHER, "W", GRIPPER])
    assert "right hand" in one.marks.text
    moved = np.flatnonzero(np.abs(one.action - begin) > 1e-6)
    np.testing.assert_array_equal(moved, (2, 7, 15))
    assert one.action[15] == -1
    one.tick([OTHER])
    assert "left hand" in one.marks.text
    assert one._obs["tcp_left"][2] > begin[2] + 0.002
    # What is recorded says so; as one arm's, the second pose would be nine extras.
    assert _meta(EnvConfig(task_id("BimanualPeg")), env).arms == 2
    env.close()

"""BimanualPeg: two hands, relative goals, a free meeting place."""

from __future__ import annotations

from math import degrees
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks.bimanual_peg import DEPTH, MEETING, VIA, BimanualPeg, meeting, meeting_axis
from geoflow_envs.tasks.peg import PEG, SYMMETRIES


def make(**kwargs: Any) -> gym.Env:
    return gym.make("geoflow_envs:geoflow/BimanualPeg-v0", disable_env_checker=True, **kwargs)


def core(env: gym.Env) -> BimanualPeg:
    task = env.unwrapped
    assert isinstance(task, BimanualPeg)
    return task


def random_pose(rng: np.random.Generator, low: float = 0.2, high: float = 0.4) -> np.ndarray:
    return poses.pose(rng.uniform(low, high, 3), rng.uniform(-3, 3, 3))


def still(env: gym.Env) -> np.ndarray:
    """The action that holds both hands where they are, closed."""
    return np.append(core(env).state().tcp, [1.0, 1.0]).astype(np.float32)


def test_an_action_is_two_poses_then_two_grippers_and_moves_the_hand_it_names() -> None:
    env = make()
    env.reset(seed=0)
    assert env.action_space.shape == (16,)
    for arm in (0, 1):
        before = core(env).state().tcp
        action = still(env)
        action[7 * arm + 2] += 0.02
        for _ in range(5):
            observation = env.step(action)[0]
        after = np.stack([observation["tcp_left"], observation["tcp_right"]])
        moved = np.linalg.norm(after[:, :3] - before[:, :3], axis=1)
        assert moved[arm] == pytest.approx(0.02, abs=0.002)
        assert moved[1 - arm] < 0.002


def test_each_gripper_obeys_its_own_command() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    for arm in (0, 1):
        action = still(env)
        action[14 + arm] = -1.0
        before = observation["gripper"].copy()
        for _ in range(4):
            observation = env.step(action)[0]
        assert observation["gripper"].shape == (2,)
        assert observation["gripper"][arm] < before[arm] - 0.2
        if arm == 0:
            assert observation["gripper"][1] == pytest.approx(before[1], abs=0.02)
    assert core(env).failure_kind() == "dropped"


@pytest.mark.parametrize("level", range(4))
def test_the_rotation_to_the_nearest_insertion_is_the_levels(level: int) -> None:
    """An oracle of its own: the least angle over the symmetries, from rotation matrices."""
    env = make(level=level)
    low, high = (degrees(angle) for angle in core(env).rotation)
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        angles = []
        for symmetry in SYMMETRIES:
            R = poses.matrix(observation["block"].astype(float)).T @ poses.matrix(
                poses.compose(observation["peg"].astype(float), symmetry)
            )
            angles.append(degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))))
        assert low - 1.5 < min(angles) < high + 1.5  # the peg settles a little in the fingers


def test_both_ends_go_in_and_either_half_turn() -> None:
    """From one scene the random expert reaches several insertions, those that the reset counted."""
    env = make(level=1)
    reached = set()
    for draw in range(12):
        _, info = env.reset(seed=2)
        expert = core(env).expert("random", draw)
        over = False
        while not over:
            _, _, terminated, truncated, last = env.step(expert.act())
            over = terminated or truncated
        assert last["is_success"]
        reached.add(last["mode"])
    assert reached == set(core(env).modes)
    assert len(reached) == info["mode_count"] >= 2


def test_the_meeting_lines_up_the_two_however_they_stand() -> None:
    """At the goals the peg's frame is the block's, moved along its z axis."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        peg_goal, block_goal = meeting(random_pose(rng), random_pose(rng), VIA)
        between = poses.between(block_goal, peg_goal)
        np.testing.assert_allclose(between[:3], (0, 0, VIA), atol=1e-9)
        assert poses.norm(poses.rotvec(block_goal, peg_goal)) < 1e-6


def test_the_meeting_moves_with_the_scene() -> None:
    """A rigid motion in the plane that keeps the two within the box moves the goals by the same motion."""
    rng = np.random.default_rng(1)
    centre = MEETING.mean(axis=0)
    move = poses.compose(poses.pose(centre, (0, 0, 1.1)), poses.pose(-centre))
    for _ in range(20):
        peg, block = (poses.pose(centre + rng.uniform(-0.1, 0.1, 3), rng.uniform(-3, 3, 3)) for _ in range(2))
        moved = meeting(poses.compose(move, peg), poses.compose(move, block), 0.1)
        for goal, other in zip(meeting(peg, block, 0.1), moved, strict=True):
            expected = poses.compose(move, goal)
            np.testing.assert_allclose(other[:3], expected[:3], atol=1e-9)
            assert poses.norm(poses.rotvec(other, expected)) < 1e-6


def test_the_meeting_axis_passes_smoothly_from_the_way_to_the_holes_own() -> None:
    block = poses.pose((0.5, 0.0, 0.3))
    peg = poses.compose(block, poses.pose((0.05, 0, 0.02), (0.2, 0, 0)))
    path = [poses.compose(poses.pose((0, 0, height)), peg) for height in np.linspace(0, 0.3, 300)]
    axes = np.array([meeting_axis(T, block) for T in path])
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1.0, atol=1e-9)
    assert np.linalg.norm(np.diff(axes, axis=0), axis=1).max() < 0.02
    own = poses.rotate(block, (0, 0, 1)) + poses.rotate(peg, (0, 0, 1))
    np.testing.assert_allclose(axes[0], own / np.linalg.norm(own), atol=1e-9)


def test_a_peg_put_into_the_hole_is_success_and_one_beside_it_is_not() -> None:
    env = make(level=1)
    env.reset(seed=0)
    task = core(env)
    state = task.state()
    for symmetry in SYMMETRIES:
        inside = poses.compose(poses.compose(state.block, poses.pose((0, 0, PEG[2] - DEPTH))), symmetry)
        assert task.succeeded(type(state)(state.tcp, state.opening, inside, state.block))
        half_in = poses.compose(poses.compose(state.block, poses.pose((0, 0, PEG[2] - 0.02))), symmetry)
        there = type(state)(state.tcp, state.opening, half_in, state.block)
        assert not task.succeeded(there)
        assert task.aligned(there)
        beside = poses.compose(poses.compose(state.block, poses.pose((0.03, 0, PEG[2] - DEPTH))), symmetry)
        assert not task.succeeded(type(state)(state.tcp, state.opening, beside, state.block))


def test_a_dropped_block_ends_the_episode() -> None:
    env = make()
    env.reset(seed=0)
    action = still(env)
    action[15] = -1.0
    for _ in range(40):
        _, _, terminated, _, info = env.step(action)
        if terminated:
            break
    assert info["failure"] == "dropped"


def test_hands_that_hold_still_keep_what_they_hold() -> None:
    env = make()
    env.reset(seed=1)
    task, action = core(env), still(env)
    before = task.state()
    for _ in range(60):
        env.step(action)
    after = task.state()
    for name in ("peg", "block"):
        assert np.linalg.norm(getattr(after, name)[:3] - getattr(before, name)[:3]) < 0.003


def test_each_hand_has_a_camera_of_its_own() -> None:
    cameras = [core(make()).model.camera(i).name for i in range(core(make()).model.ncam)]
    assert {"front", "wrist_left", "wrist_right"} <= set(cameras)
    env = make(observations="both", image_size=32)
    assert {"wrist_left_rgb", "wrist_right_rgb"} <= set(core(env).observation_kinds)
    assert core(env).observation_kinds["tcp_right"] == "pose"


def test_the_arm_is_no_robot_of_this_task_and_clearance_has_bounds() -> None:
    with pytest.raises(ValueError, match="robot must be one of 'free'; got 'panda'"):
        BimanualPeg(robot="panda")
    with pytest.raises(ValueError, match=r"clearance is per side .*, from 0\.0005 to 0\.012; got 0\.1"):
        BimanualPeg(clearance=0.1)


def test_one_hand_of_the_pair_is_the_free_gripper() -> None:
    """The same bodies, masses and inertias as in the tasks of one hand."""
    pair, one = core(make()).model, gym.make("geoflow/KeyTurn-v0", disable_env_checker=True).unwrapped.model  # type: ignore[attr-defined]
    for side in ("_left", "_right"):
        for name in ("hand", "finger_left", "finger_right"):
            a, b = pair.body(f"{name}{side}"), one.body(name)
            np.testing.assert_allclose(a.mass, b.mass)
            np.testing.assert_allclose(a.inertia, b.inertia)
    assert pair.opt.timestep == one.opt.timestep
    assert pair.neq == 2 * one.neq
    assert mujoco.mj_name2id(pair, mujoco.mjtObj.mjOBJ_BODY, "hand") == -1

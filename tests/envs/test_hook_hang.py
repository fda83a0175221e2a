"""HookHang: a ring that is on a hook or is not, what counts as hung, failure kinds, and an expert that does it."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks.hook_hang import (
    FLIP,
    HANDLE,
    HEIGHT,
    HOOKS,
    LENGTH,
    MODES,
    ROD,
    HookHang,
    grasp,
    height_on,
    seat_on,
)

ROBOTS = ("free", "panda")


def make(**knobs: Any) -> HookHang:
    return HookHang(**knobs)


def hold(env: HookHang, gripper: float = -1.0) -> np.ndarray:
    return np.append(env.state().tcp, gripper).astype(np.float32)


def held_at(env: HookHang, ring: np.ndarray, opening: float = float(HANDLE[1])) -> None:
    """Put the ring at a pose and the hand around its handle."""
    env.put("ring", ring)
    env.robot.reset(env.data, poses.compose(ring, grasp(env.radius, False, False)), opening, 1.0)
    mujoco.mj_kinematics(env.model, env.data)


# --- the scene ---


@pytest.mark.parametrize("level", range(4))
def test_a_rod_of_the_stated_radius_passes_the_ring(level: int) -> None:
    """Rays from the middle of the ring meet nothing nearer than its inner radius, and something not much farther."""
    env = make(level=level)
    env.reset(seed=0)
    held_at(env, poses.pose((0.4, 0.0, 0.4)))
    geom = np.zeros(1, np.int32)
    distances = [
        mujoco.mj_ray(
            env.model, env.data, env.state().ring[:3], np.array([np.cos(a), np.sin(a), 0]), None, 1, -1, geom
        )
        for a in np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ]
    radius = env.levels[level].radius
    assert min(distances) == pytest.approx(radius, abs=1e-6)
    assert max(distances) < radius / np.cos(np.pi / 8) + 1e-6
    assert radius > ROD + 0.005


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_scene_has_three_hooks_within_the_tilt_and_a_ring_on_the_table_either_face_up(robot: str) -> None:
    env = make(robot=robot, rotation_range=(30, 40))
    faces = set()
    for seed in range(8):
        _, info = env.reset(seed=seed)
        state = env.state()
        assert 1 <= info["mode_count"] <= len(MODES)
        for hook in state.hooks:
            assert 29.9 < np.degrees(poses.axis_angle(hook, poses.IDENTITY)) < 40.1
        assert state.ring[2] == pytest.approx(HEIGHT, abs=2e-3)
        faces.add(env.below(state))
        assert env.on_hook(state) is None
    assert faces == {False, True}


# --- the rules ---


def test_a_rod_passes_through_the_ring_or_beside_it() -> None:
    hook = poses.pose((0.5, 0.1, 0.15), (0.5, -0.4, 0.2))
    for height in (0.01, 0.04, 0.069):
        on = poses.compose(hook, poses.pose((0.004, -0.003, height), (0.2, 0.1, 2.0)))
        for ring in (on, poses.compose(on, FLIP)):
            found = height_on(hook, ring, 0.02)
            assert found == pytest.approx(height, abs=2e-3)
    beside = poses.compose(hook, poses.pose((0.05, 0, 0.04)))
    over = poses.compose(hook, poses.pose((0, 0, LENGTH + 0.01)))
    under = poses.compose(hook, poses.pose((0, 0, -0.01)))
    for ring in (beside, over, under):
        assert height_on(hook, ring, 0.02) is None


@pytest.mark.parametrize("hook", range(HOOKS))
def test_success_is_a_ring_on_a_hook_at_rest_and_let_go(hook: int) -> None:
    env = make(rotation_range=(0, 10))
    env.reset(seed=0)
    held_at(env, seat_on(env.state().hooks[hook], 0.0))
    state = env.state()
    assert env.mode(state) == hook
    assert not env.succeeded(state)
    assert env.failure_kind() == "not_released"
    away = poses.compose(state.tcp, poses.pose((0, 0, -0.15)))
    for _ in range(60):
        observation, reward, terminated, _, info = env.step(np.append(away, -1.0).astype(np.float32))
        if terminated:
            break
    assert info["is_success"]
    assert reward == 1
    assert info["mode"] == hook
    # it still hangs two seconds later
    for _ in range(40):
        observation, _, _, _, info = env.step(np.append(observation["tcp"], -1.0).astype(np.float32))
    assert info["is_success"]


def test_a_ring_in_the_hand_is_not_on_a_hook_and_one_let_go_is_dropped() -> None:
    env = make()
    env.reset(seed=0)
    held_at(env, poses.pose((0.4, 0.0, 0.3)))
    env.step(hold(env, 1.0))
    assert env.failure_kind() == "not_on_hook"
    for _ in range(30):
        env.step(hold(env, -1.0))
    assert env.failure_kind() == "dropped"


def test_a_held_ring_stays_held() -> None:
    """Five seconds of holding still creep less than 2 mm and 2 degrees."""
    env = make()
    env.reset(seed=1)
    held_at(env, poses.pose((0.4, 0.0, 0.3)))
    for _ in range(10):
        env.step(hold(env, 1.0))
    action, before = hold(env, 1.0), poses.between(env.state().tcp, env.state().ring)
    for _ in range(100):
        env.step(action)
    after = poses.between(env.state().tcp, env.state().ring)
    assert poses.norm(after[:3] - before[:3]) < 0.002
    assert np.degrees(poses.norm(poses.rotvec(before, after))) < 2


# --- the expert ---

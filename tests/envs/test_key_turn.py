"""KeyTurn: the slot and the key that fits it, what counts as turned, failure kinds, and an expert that does it."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks.key_turn import BLADE, BOW, DEPTH, FLIP, MODES, KeyTurn, Mode, fit, grasp

ROBOTS = ("free", "panda")


def make(**knobs: Any) -> KeyTurn:
    return KeyTurn(**knobs)


def hold(env: KeyTurn, gripper: float = 1.0) -> np.ndarray:
    return np.append(env.state().tcp, gripper).astype(np.float32)


def inserted(env: KeyTurn, hinge: float, depth: float = DEPTH, flip: bool = False) -> None:
    """Put the key into the slot and the hand around its bow, with the hinge at an angle."""
    state = env.state()
    key = poses.compose(state.lock, poses.pose((0, 0, DEPTH - depth), (0, 0, hinge)))
    env.put("key", poses.compose(key, FLIP) if flip else key)
    env.data.qpos[env.model.joint("hinge").qposadr[0]] = hinge
    env.robot.reset(env.data, poses.compose(key, grasp(False)), float(BOW[1]), 1.0)
    mujoco.mj_kinematics(env.model, env.data)


# --- the scene ---


@pytest.mark.parametrize("level", range(4))
def test_the_slot_takes_the_blade_with_the_stated_clearance(level: int) -> None:
    """A ray across the slot is as long as the blade is wide plus twice the clearance."""
    env = make(level=level)
    env.reset(seed=0)
    rotor = env.state().rotor
    middle = poses.transform(rotor, (0, 0, -DEPTH / 2))
    geom = np.zeros(1, np.int32)
    for axis in (0, 1):
        width = 0.0
        for sign in (1, -1):
            direction = poses.rotate(rotor, sign * np.eye(3)[axis])
            width += mujoco.mj_ray(env.model, env.data, middle, direction, None, 1, -1, geom)
        assert width == pytest.approx(2 * BLADE[axis] + 2 * env.levels[level].clearance, abs=1e-6)


def test_both_half_turns_fit_and_a_quarter_turn_does_not() -> None:
    rotor = poses.pose((0.5, 0.1, 0.17), (0.4, -0.3, 1.0))
    for symmetry, key in enumerate((rotor, poses.compose(rotor, FLIP))):
        stands = fit(key, rotor)
        assert stands.symmetry == symmetry
        assert stands.depth == pytest.approx(DEPTH)
        assert stands.lateral == pytest.approx(0.0, abs=1e-9)
        assert stands.tilt == pytest.approx(0.0, abs=1e-6)
    assert [mode.index for mode in MODES] == [0, 1, 2, 3]


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_scene_starts_with_the_key_between_the_pads_and_its_angles_within_the_knobs(robot: str) -> None:
    env = make(robot=robot, rotation_range=(70, 80), tilt_range=(10, 20))
    turns = set()
    for seed in range(8):
        observation, info = env.reset(seed=seed)
        state = env.state()
        assert 1 <= info["mode_count"] <= len(MODES)
        assert 70 <= np.degrees(observation["turn"][0]) <= 80
        assert observation["hinge"][0] == pytest.approx(0.0, abs=1e-3)
        assert 9.9 < np.degrees(poses.axis_angle(state.lock, poses.IDENTITY)) < 20.1
        assert poses.norm(state.key[:3] - state.tcp[:3]) < 0.03
        turns.add(float(observation["turn"][0]))
    assert len(turns) == 8


# --- the rules ---


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("direction", [1, -1])
def test_success_is_a_key_in_the_slot_and_a_hinge_past_the_angle(direction: int, flip: bool) -> None:
    env = make(rotation_range=(60, 60))
    env.reset(seed=0)
    for degrees, done in ((58.0, False), (62.0, True)):
        inserted(env, direction * np.radians(degrees), flip=flip)
        state = env.state()
        assert env.succeeded(state) == done
        assert env.mode(state) == Mode(int(flip), direction).index
    inserted(env, direction * np.radians(62), depth=0.025, flip=flip)
    assert not env.succeeded(env.state())


def test_the_hinge_turns_with_the_key_alone_and_stays_where_it_is_left() -> None:
    """A step at the seat: the key carries the hinge along; without the key friction holds it."""
    env = make(rotation_range=(60, 60), tilt_range=(0, 0))
    env.reset(seed=0)
    inserted(env, 0.0)
    start = env.state()
    for angle in np.linspace(0, 0.9, 25):
        turned = poses.compose(poses.integrate(start.lock, (0, 0, angle)), grasp(False))
        env.step(np.append(turned, 1.0).astype(np.float32))
    carried = env.state().hinge
    assert 0.5 < carried < 1.0
    for _ in range(25):
        env.step(hold(env, -1.0))
    assert env.state().hinge == pytest.approx(carried, abs=0.05)


@pytest.mark.parametrize(
    ("depth", "kind"), [(0.04, "not_turned"), (0.02, "not_deep_enough"), (-0.05, "not_deep_enough")]
)
def test_a_key_in_place_is_named_for_what_it_lacks(depth: float, kind: str) -> None:
    env = make()
    env.reset(seed=0)
    inserted(env, 0.3, depth=depth)
    assert env.failure_kind() == kind


# --- the expert ---


def test_the_expert_ends_in_the_mode_it_chose() -> None:
    env = make(level=1)
    for seed in range(6):
        env.reset(seed=seed)
        expert, terminated, info = env.expert("random", seed), False, {}
        while not terminated:
            _, _, terminated, _, info = env.step(expert.act())
        assert info["is_success"]
        assert info["mode"] == expert.mode.index


def test_the_expert_comes_back_to_a_key_it_left_in_the_slot() -> None:
    env = make(rotation_range=(60, 60), tilt_range=(0, 30))
    env.reset(seed=1)
    inserted(env, 0.4)
    for _ in range(20):
        away = poses.compose(env.state().tcp, poses.pose((0, 0, -0.02)))
        env.step(np.append(away, -1.0).astype(np.float32))
    expert = env.expert()
    for _ in range(150):
        _, _, terminated, _, info = env.step(expert.act())
        if terminated:
            break
    assert info["is_success"]

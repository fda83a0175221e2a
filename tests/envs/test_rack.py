"""RackSlot: its geometry, its six right ends, its failure kinds, an expert that does the task and recovers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks import rack as task
from geoflow_envs.tasks.rack import BLADE, DEPTH, FLIPS, HANDLE_HEIGHT, LEVELS, PLATE, RackSlot, fit, slots

# pyright: reportAttributeAccessIssue=false

SEAT = poses.pose((0, 0, PLATE[2] - DEPTH))


def make(**kwargs: Any) -> gym.Env:
    return gym.make("geoflow_envs:geoflow/RackSlot-v0", disable_env_checker=True, **kwargs)


def rack_env(env: gym.Env) -> RackSlot:
    assert isinstance(env.unwrapped, RackSlot)
    return env.unwrapped


def settled(env: gym.Env, plate: np.ndarray, tcp: np.ndarray | None = None) -> RackSlot:
    """The plate put somewhere, the hand elsewhere."""
    core = rack_env(env)
    core.put("plate", plate)
    core.robot.reset(core.data, core.state().tcp if tcp is None else tcp, 0.016, -1.0)
    mujoco.mj_kinematics(core.model, core.data)
    return core


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_every_slot_takes_the_blade_with_the_stated_clearance(level: int) -> None:
    env = make(level=level)
    env.reset(seed=0)
    core, geom = rack_env(env), np.zeros(1, np.int32)
    for index in range(3):
        mouth = core.slot(core.state(), index)
        middle = poses.transform(mouth, (0, 0, -DEPTH + 0.004))
        for axis in (0, 1):
            width = 0.0
            for sign in (1, -1):
                ray = poses.rotate(mouth, sign * np.eye(3)[axis])
                width += mujoco.mj_ray(core.model, core.data, middle, ray, None, 1, -1, geom)
            assert width == pytest.approx(2 * BLADE[axis] + 2 * LEVELS[level].clearance, abs=1e-6)


def test_the_six_seats_are_the_six_modes() -> None:
    T_rack_slots, rack = slots(0.3), poses.pose((0.5, 0.1, 0.15), (0.4, -0.3, 1.0))
    for index, T_rack_slot in enumerate(T_rack_slots):
        for flip, turn in enumerate(FLIPS):
            seated = poses.compose(poses.compose(rack, T_rack_slot), poses.compose(SEAT, turn))
            found = fit(seated, rack, T_rack_slots)
            assert (found.slot, found.flip) == (index, flip)
            assert found.depth == pytest.approx(DEPTH)
            assert found.rotation == pytest.approx(0.0, abs=1e-6)
            assert found.lateral == pytest.approx(0.0, abs=1e-9)


def test_the_slots_of_a_fan_lean_apart() -> None:
    for level in LEVELS:
        turned = [poses.rotvec(poses.IDENTITY, slot)[1] for slot in slots(level.fan)]
        np.testing.assert_allclose(turned, (-level.fan, 0, level.fan), atol=1e-12)


@pytest.mark.parametrize("slot", range(3))
def test_a_plate_in_a_slot_with_the_hand_away_is_success(slot: int) -> None:
    env = make(level=2)
    env.reset(seed=0)
    state = rack_env(env).state()
    core = settled(env, poses.compose(rack_env(env).slot(state, slot), SEAT))
    far = np.append(core.state().tcp, -1.0).astype(np.float32)
    _, reward, terminated, _, info = env.step(far)
    assert info["is_success"]
    assert terminated
    assert reward == 1.0
    assert info["mode"] // 2 == slot


@pytest.mark.parametrize(
    ("where", "hand", "lifted", "kind"),
    [
        ("table", "away", False, "no_grasp"),
        ("table", "away", True, "dropped"),
        ("seat", "at", True, "not_released"),
        ("half in", "at", True, "not_deep_enough"),
        ("beside", "at", True, "misaligned"),
    ],
)
def test_an_end_is_named_for_what_it_lacks(where: str, hand: str, lifted: bool, kind: str) -> None:
    env = make(level=2)
    env.reset(seed=0)
    core = rack_env(env)
    state = core.state()
    mouth = core.slot(state, 1)
    plate = {
        "table": state.plate,
        "seat": poses.compose(mouth, SEAT),
        "half in": poses.compose(mouth, poses.compose(SEAT, poses.pose((0, 0, 0.025)))),
        "beside": poses.compose(mouth, poses.pose((0.06, 0, 0.1), (0.8, 0, 0))),
    }[where]
    tcp = poses.compose(plate, task.GRASPS[0]) if hand == "at" else state.tcp
    settled(env, plate, tcp)
    core._lifted = lifted
    assert core.failure_kind() == kind
    assert kind in core.failures


def test_the_plate_lies_still_on_its_face() -> None:
    env = make()
    for seed in range(5):
        state = rack_env(env).state() if env.reset(seed=seed) else None
        assert state is not None
        normal = poses.rotate(state.plate, (1, 0, 0))
        assert abs(normal[2]) > 0.99
        assert poses.transform(state.plate, (0, 0, HANDLE_HEIGHT))[2] == pytest.approx(0.010, abs=0.002)
        assert np.abs(rack_env(env).data.qvel).max() < 0.02

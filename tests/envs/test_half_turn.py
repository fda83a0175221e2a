"""HalfTurnStand: the turning it asks for, its four right ends, its failure kinds, an expert that recovers."""

from __future__ import annotations

from itertools import pairwise
from math import degrees, radians
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks import half_turn as task
from geoflow_envs.tasks.half_turn import BODY, LEVELS, QUARTERS, HalfTurnStand, stand

# pyright: reportAttributeAccessIssue=false

ON_MARK = poses.pose((0, 0, BODY[2]))


def make(**kwargs: Any) -> gym.Env:
    return gym.make("geoflow_envs:geoflow/HalfTurnStand-v0", disable_env_checker=True, **kwargs)


def stand_env(env: gym.Env) -> HalfTurnStand:
    assert isinstance(env.unwrapped, HalfTurnStand)
    return env.unwrapped


def settled(env: gym.Env, bottle: np.ndarray, tcp: np.ndarray | None = None) -> HalfTurnStand:
    """The bottle put somewhere, the hand elsewhere."""
    core = stand_env(env)
    core.put("bottle", bottle)
    core.robot.reset(core.data, core.state().tcp if tcp is None else tcp, 0.02, -1.0)
    mujoco.mj_kinematics(core.model, core.data)
    return core


@pytest.mark.parametrize(
    ("knobs", "low", "high"),
    [({"level": 0}, 90, 120), ({"level": 2}, 120, 180), ({"rotation_range": (170, 175)}, 170, 175)],
)
def test_the_start_is_turned_from_upright_by_the_levels_angle(
    knobs: dict[str, Any], low: float, high: float
) -> None:
    env = make(**knobs)
    for seed in range(8):
        bottle = env.reset(seed=seed)[0]["bottle"].astype(float)
        angle = degrees(poses.axis_angle(bottle, poses.IDENTITY))
        assert low - 7 < angle < high + 7  # it settles within the holder's play


def test_every_quarter_turn_is_right_and_an_eighth_is_not() -> None:
    mark = poses.pose((0.5, 0.1, 0.1), (0, 0, 0.7))
    for index, quarter in enumerate(QUARTERS):
        found = stand(poses.compose(poses.compose(mark, ON_MARK), poses.inverse(quarter)), mark)
        assert found.quarter == index
        assert found.height == pytest.approx(0.0, abs=1e-12)
        assert found.offset == pytest.approx(0.0, abs=1e-12)
        assert found.rotation == pytest.approx(0.0, abs=1e-6)
    eighth = poses.compose(poses.compose(mark, ON_MARK), poses.pose(rotvec=(0, 0, np.pi / 4)))
    assert stand(eighth, mark).rotation == pytest.approx(np.pi / 4)


@pytest.mark.parametrize("quarter", range(4))
def test_a_bottle_on_the_mark_with_the_hand_away_is_success(quarter: int) -> None:
    env = make(level=3)
    env.reset(seed=0)
    mark = stand_env(env).state().mark
    core = settled(env, poses.compose(mark, poses.compose(ON_MARK, poses.inverse(QUARTERS[quarter]))))
    _, reward, terminated, _, info = env.step(np.append(core.state().tcp, -1.0).astype(np.float32))
    assert info["is_success"]
    assert terminated
    assert reward == 1.0
    assert info["mode"] == quarter


@pytest.mark.parametrize(
    ("where", "hand", "lifted", "kind"),
    [
        ("holder", "away", False, "no_grasp"),
        ("table", "away", True, "dropped"),
        ("mark", "at", True, "not_released"),
        ("yawed", "at", True, "misaligned"),
        ("upside down", "at", True, "misaligned"),
        ("beside", "at", True, "misplaced"),
    ],
)
def test_an_end_is_named_for_what_it_lacks(where: str, hand: str, lifted: bool, kind: str) -> None:
    env = make(level=2)
    env.reset(seed=0)
    core = stand_env(env)
    state = core.state()
    right = poses.compose(state.mark, ON_MARK)
    bottle = {
        "holder": state.bottle,
        "table": poses.pose((0.5, 0.0, 0.023), (0, np.pi / 2, 0)),
        "mark": right,
        "yawed": poses.compose(right, poses.pose(rotvec=(0, 0, 0.5))),
        "upside down": poses.compose(right, poses.pose(rotvec=(np.pi, 0, 0))),
        "beside": poses.compose(right, poses.pose((0.02, 0, 0))),
    }[where]
    settled(env, bottle, poses.compose(bottle, task.GRASPS[0]) if hand == "at" else state.tcp)
    core._lifted = lifted
    assert core.failure_kind() == kind
    assert kind in core.failures


def test_the_bottle_stays_in_its_holder_until_it_is_taken() -> None:
    env = make(level=0, rotation_range=(90, 95))
    for seed in range(4):
        observation, _ = env.reset(seed=seed)
        still = np.append(observation["tcp"], -1.0).astype(np.float32)
        for _ in range(40):
            after = env.step(still)[0]
        assert poses.norm((after["bottle"] - observation["bottle"])[:3].astype(float)) < 0.003


def test_limits_grow_tighter_with_the_level() -> None:
    for easier, harder in pairwise(LEVELS):
        assert harder.offset < easier.offset
        assert harder.turn < easier.turn
        assert harder.rotation[1] >= easier.rotation[1]
    assert LEVELS[-1].rotation == (radians(150), radians(180))

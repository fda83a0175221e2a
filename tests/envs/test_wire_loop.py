"""WireLoop: wires of the stated bend, a loop that is on the wire or not, touching, and an expert that does it."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.tasks.hook_hang import HANDLE
from geoflow_envs.tasks.wire_loop import (
    APART,
    LEANS,
    LENGTH,
    MODES,
    SEGMENT,
    SEGMENTS,
    STEEPEST,
    Mode,
    Wire,
    WireLoop,
    grasp,
)

ROBOTS = ("free", "panda")


def make(**knobs: Any) -> WireLoop:
    return WireLoop(**knobs)


def hold(env: WireLoop, gripper: float = 1.0) -> np.ndarray:
    return np.append(env.state().tcp, gripper).astype(np.float32)


def threaded(env: WireLoop, part: float, mode: Mode = MODES[0], aside: float = 0.0) -> None:
    """Put the loop on the wire at a part of its length and the hand around its handle."""
    loop = poses.compose(env.state().path.frame(part * LENGTH, mode), poses.pose((aside, 0, 0)))
    env.put("loop", loop)
    env.robot.reset(env.data, poses.compose(loop, grasp(env.radius, False)), float(HANDLE[1]), 1.0)
    mujoco.mj_forward(env.model, env.data)


# --- the scene ---


@pytest.mark.parametrize("bend", [0, 40, 110, 170])
def test_a_wire_bends_by_the_stated_angle_and_is_not_steep_or_near_itself(bend: float) -> None:
    env = make(rotation_range=(bend, bend))
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        points = observation["bends"].reshape(-1, 3).astype(float)
        pieces = np.diff(points, axis=0) / SEGMENT
        np.testing.assert_allclose(np.linalg.norm(pieces, axis=1), 1.0, atol=1e-4)
        np.testing.assert_allclose(points[1], (0, 0, SEGMENT), atol=1e-6)  # the frame's z is the first piece
        cosines = np.clip((pieces[:-1] * pieces[1:]).sum(axis=1), -1, 1)
        assert np.degrees(np.arccos(cosines).sum()) == pytest.approx(bend, abs=1.0)
        path = env.state().path
        rises = np.diff(path.points, axis=0)[:, 2] / SEGMENT
        assert np.abs(rises).max() < np.sin(STEEPEST) + 1e-9
        for index in range(SEGMENTS - 6):
            assert np.linalg.norm(path.points[index + 7 :] - path.points[index], axis=1).min() > APART


def test_the_bodies_lie_where_the_observation_says() -> None:
    env = make(level=2)
    observation, _ = env.reset(seed=4)
    wire = observation["wire"].astype(float)
    points = [poses.transform(wire, point) for point in observation["bends"].reshape(-1, 3).astype(float)]
    for index in range(SEGMENTS):
        body = env.data.body(f"wire_{index}")
        np.testing.assert_allclose(body.xpos, (points[index] + points[index + 1]) / 2, atol=1e-5)
        axis = body.xmat.reshape(3, 3)[:, 2]
        np.testing.assert_allclose(axis, (points[index + 1] - points[index]) / SEGMENT, atol=1e-4)
    np.testing.assert_allclose(env.data.body("post").xpos, points[-1], atol=1e-5)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_scene_starts_with_the_loop_in_the_hand_in_front_of_the_free_end(robot: str) -> None:
    env = make(robot=robot)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert 1 <= info["mode_count"] <= len(MODES)
        state = env.state()
        assert observation["progress"][0] == 0
        assert not env.touches()
        assert poses.norm(state.loop[:3] - state.tcp[:3]) < 0.12
        assert 0.06 < poses.norm(state.loop[:3] - state.wire[:3]) < 0.16


# --- the wire ---


def arc(radius: float = 0.2) -> Wire:
    """A circular wire in the plane z = 0.2, from angle 0 on."""
    step = 2 * np.arcsin(SEGMENT / 2 / radius)
    angles = step * np.arange(SEGMENTS + 1)
    return Wire(np.stack([radius * np.cos(angles), radius * np.sin(angles), 0.2 + 0 * angles], axis=1))


def test_tangents_and_points_are_those_of_the_circle() -> None:
    wire = arc()
    for s in np.linspace(0.03, LENGTH - 0.03, 30):
        point, tangent = wire.at(s)
        assert np.hypot(point[0], point[1]) == pytest.approx(0.2, abs=3e-4)
        assert point @ tangent == pytest.approx(0.0, abs=2e-3)
        assert np.linalg.norm(tangent) == pytest.approx(1.0)
    for s in (-0.05, LENGTH + 0.05):  # straight on
        end = wire.points[0 if s < 0 else -1]
        assert np.linalg.norm(wire.at(s)[0] - end) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_frame_is_square_to_the_wire_with_the_handle_leaning_as_the_mode_has_it(mode: Mode) -> None:
    wire = arc()
    for s in (0.03, 0.15, 0.3):
        point, tangent = wire.at(s)
        frame = wire.frame(s, mode)
        np.testing.assert_allclose(frame[:3], point)
        R = poses.matrix(frame)
        np.testing.assert_allclose(R[:, 2], -tangent if mode.face else tangent, atol=1e-9)
        off = LEANS[mode.lean] - (LEANS[mode.lean] @ tangent) * tangent
        np.testing.assert_allclose(R[:, 0], off / np.linalg.norm(off), atol=1e-9)
        assert wire.crossing(frame, 0.02) == pytest.approx(s, abs=1e-3)


def test_a_loop_beside_or_beyond_the_wire_is_not_on_it() -> None:
    wire = arc()
    assert wire.crossing(poses.compose(wire.frame(0.1, MODES[0]), poses.pose((0.03, 0, 0))), 0.02) is None
    assert wire.crossing(wire.frame(-0.02, MODES[0]), 0.02) is None
    assert wire.crossing(wire.frame(LENGTH + 0.02, MODES[0]), 0.02) is None


# --- the rules ---


@pytest.mark.parametrize("mode", MODES[:2], ids=str)
def test_success_is_a_loop_at_the_end_of_the_wire(mode: Mode) -> None:
    env = make(level=0)
    env.reset(seed=1)
    for part, done in ((0.5, False), (0.84, False), (0.86, True)):
        threaded(env, part, mode)
        state = env.state()
        assert state.progress == pytest.approx(part, abs=5e-3)
        assert env.succeeded(state) == done
        assert env.mode(state) == mode.face
        assert not env.touches()


def test_touching_the_wire_ends_the_episode() -> None:
    env = make(level=1)
    env.reset(seed=1)
    threaded(env, 0.4)
    assert not env.step(hold(env))[2]
    threaded(env, 0.4, aside=env.radius - 0.002)
    assert env.touches()
    _, reward, terminated, _, info = env.step(hold(env))
    assert terminated
    assert reward == 0
    assert info["failure"] == "touched"


def test_a_loop_on_the_way_is_not_at_the_end() -> None:
    env = make()
    env.reset(seed=0)
    threaded(env, 0.3)
    assert env.failure_kind() == "not_at_end"


# --- the expert ---


def test_the_expert_recovers_from_where_it_was_pushed() -> None:
    """Off the wire's middle by half of the play, and turned: it comes back and goes on."""
    env = make(level=0)
    for seed in range(4):
        env.reset(seed=seed)
        threaded(env, 0.3, aside=0.012)
        expert = env.expert()
        for _ in range(150):
            _, _, terminated, _, info = env.step(expert.act())
            if terminated:
                break
        assert info["is_success"], seed

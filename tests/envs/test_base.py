"""What tasks share: draws of the splits, the feedback laws of experts, the check of actions, cameras as geometry."""

from __future__ import annotations

from math import pi, radians
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from geoflow_envs import poses, scene
from geoflow_envs.robot import MAX_OPENING
from geoflow_envs.spaces import checked_action
from geoflow_envs.tasks import motion
from geoflow_envs.tasks.motion import AHEAD, AHEAD_ANGLE, CLOSE, OPEN, Obstacle
from geoflow_envs.tasks.peg import PEG, TiltedPegInsert

NOWHERE = poses.pose((9.0, 9.0, 0.0))


def peg_env(**kwargs: Any) -> TiltedPegInsert:
    env = gym.make("geoflow_envs:geoflow/TiltedPegInsert-v0", disable_env_checker=True, **kwargs).unwrapped
    assert isinstance(env, TiltedPegInsert)
    return env


# --- actions ---


@pytest.mark.parametrize("arms", [1, 2])
def test_a_checked_action_has_unit_quaternions_and_leaves_the_given_one_alone(arms: int) -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal(8 * arms)
    for arm in range(arms):
        quaternion = slice(7 * arm + 3, 7 * arm + 7)
        given[quaternion] *= rng.uniform(0.9, 1.1) / np.linalg.norm(given[quaternion])
    kept = given.copy()
    checked = checked_action(given, arms)
    np.testing.assert_array_equal(given, kept)
    for arm in range(arms):
        quaternion = slice(7 * arm + 3, 7 * arm + 7)
        assert np.linalg.norm(checked[quaternion]) == pytest.approx(1.0)
        np.testing.assert_array_equal(checked[7 * arm : 7 * arm + 3], given[7 * arm : 7 * arm + 3])
    np.testing.assert_array_equal(checked[7 * arms :], given[7 * arms :])


def test_the_second_arm_is_checked_too() -> None:
    action = np.concatenate([poses.IDENTITY, poses.IDENTITY, [0.0, 0.0]])
    action[10] = 0.0
    with pytest.raises(ValueError, match=r"entries 10 to 13\) .* got 0"):
        checked_action(action, arms=2)
    with pytest.raises(ValueError, match=r"has shape \(16,\): 2 x .*; got \(8,\)"):
        checked_action(action[:8], arms=2)


# --- splits ---


def test_the_range_split_draws_only_what_training_cannot() -> None:
    env = peg_env(split="range")
    low, high, beyond = np.array([0.0, -1.0, 2.0]), np.array([1.0, 1.0, 3.0]), np.array([0.5, 0.2, 0.0])
    draws = np.array([env.draw(low, high, beyond) for _ in range(300)])
    outside = (draws < low) | (draws > high)
    assert outside[:, :2].any(axis=1).all()
    assert not outside[:, 2].any()
    assert (draws >= low - beyond).all()
    assert (draws <= high + beyond).all()
    assert outside[:, 0].mean() > 0.3
    assert outside[:, 1].mean() > 0.3


@pytest.mark.parametrize("robot", ["free", "panda"])
def test_the_frame_split_moves_the_scene_as_one_rigid_body(robot: str) -> None:
    """Before it is moved, a scene is one of training: its TCP points down within the start's 0.15 rad an axis."""
    env = peg_env(robot=robot, split="frame")
    headings = []
    for seed in range(6):
        env.reset(seed=seed)
        tcp = env.state().tcp
        approach = poses.rotate(tcp, (0, 0, 1))
        assert approach[2] < -0.95  # the plane stays the plane
        x = poses.rotate(tcp, (1, 0, 0))
        headings.append(abs(np.arctan2(x[1], x[0])))
    low, high = (10, 30) if robot == "panda" else (60, 180)
    assert min(headings) > radians(low) - 0.3
    assert max(headings) < radians(high) + 0.3


def test_rotation_range_and_the_pegs_tilt_range_are_one_knob() -> None:
    assert peg_env(tilt_range=(40, 50)).rotation == peg_env(rotation_range=(40, 50)).rotation
    assert peg_env(tilt_range=(40, 50)).rotation == (radians(40), radians(50))


# --- feedback laws ---


def follow(tcp: np.ndarray, goal_of: Any, steps: int) -> list[np.ndarray]:
    """A hand that does exactly what it is told."""
    path = [tcp]
    for _ in range(steps):
        path.append(goal_of(path[-1]))
    return path


def test_advance_goes_at_most_one_look_ahead() -> None:
    start, goal = poses.pose((0, 0, 0.3)), poses.pose((1, 0, 0.3), (0, 0, 2.0))
    moved = motion.advance(start, goal, AHEAD)
    assert poses.norm(moved[:3] - start[:3]) == pytest.approx(AHEAD)
    assert poses.norm(poses.rotvec(start, moved)) == pytest.approx(AHEAD_ANGLE)
    still = motion.advance(start, goal, AHEAD, moving=0.0, turning=0.0)
    np.testing.assert_allclose(still, start, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_grasp_law_converges_along_the_approach(seed: int) -> None:
    """From anywhere it ends at the grasp; within 3 cm it has lined up to millimetres, so that fingers pass beside."""
    rng = np.random.default_rng(seed)
    at = poses.pose((0.5, 0.1, 0.05), (pi, 0, 0))
    at = poses.compose(at, poses.pose(rotvec=rng.uniform(-0.5, 0.5, 3)))
    tcp = poses.pose(
        rng.uniform((0.3, -0.3, 0.3), (0.7, 0.3, 0.5)), np.array((pi, 0, 0)) + rng.uniform(-0.5, 0.5, 3)
    )
    commands = []

    def goal(T: np.ndarray) -> np.ndarray:
        target, command = motion.grasp(T, MAX_OPENING, at, 0.01, [Obstacle(NOWHERE, 0.1)])
        commands.append(command)
        return target

    path = follow(tcp, goal, 150)
    assert poses.norm(path[-1][:3] - at[:3]) < 1e-6
    assert poses.norm(poses.rotvec(path[-1], at)) < 1e-6
    assert commands[0] == OPEN
    assert commands[-1] == CLOSE
    for T in path:
        off = poses.between(at, T)
        if off[2] > -0.03:
            assert np.hypot(off[0], off[1]) < 0.01


def test_an_obstacle_is_passed_above_or_aside() -> None:
    """The straight way goes through it; the path keeps 5 cm off or 10 cm above."""
    obstacle = Obstacle(poses.pose((0.5, 0.0, 0.15)), over=0.15)
    at = poses.pose((0.5, 0.3, 0.05), (pi, 0, 0))
    tcp = poses.pose((0.5, -0.3, 0.15), (pi, 0, 0))
    path = follow(tcp, lambda T: motion.grasp(T, MAX_OPENING, at, 0.01, [obstacle])[0], 200)
    assert poses.norm(path[-1][:3] - at[:3]) < 1e-6
    for T in path:
        aside = np.hypot(*(T[:2] - obstacle.at[:2]))
        assert aside > 0.05 or T[2] - obstacle.at[2] > 0.10


@pytest.mark.parametrize("depth", [0.0, 0.06])
def test_the_insertion_law_goes_in_only_when_lined_up(depth: float) -> None:
    mouth = poses.pose((0.5, 0.0, 0.2), (0.3, 0.4, 1.0))
    T_peg_tcp = motion.side_grasp(0, False, 0.03, 0.4)
    peg = poses.pose((0.4, 0.2, 0.3), (1.5, -0.3, 0.2))
    play = 0.003

    def goal(tcp: np.ndarray) -> np.ndarray:
        body = poses.compose(tcp, poses.inverse(T_peg_tcp))
        return motion.insert(tcp, body, mouth, PEG, depth, play, 0.15)

    path = follow(poses.compose(peg, T_peg_tcp), goal, 250)
    pegs = [poses.compose(tcp, poses.inverse(T_peg_tcp)) for tcp in path]
    for body in pegs:
        tip = poses.transform(poses.between(mouth, body), (0, 0, -PEG[2]))
        if tip[2] < -0.001:
            assert np.hypot(tip[0], tip[1]) < play
    end = poses.between(mouth, pegs[-1])
    np.testing.assert_allclose(end[:3], (0, 0, PEG[2] - depth), atol=1e-4)
    assert poses.norm(poses.rotvec(end, poses.IDENTITY)) < 1e-3


def test_side_grasps_close_on_the_axis_and_lean_down_it() -> None:
    for quarter in range(4):
        for swap in (False, True):
            T = motion.side_grasp(quarter, swap, 0.03, 0.4)
            approach = poses.rotate(T, (0, 0, 1))
            np.testing.assert_allclose(T[:3], (0, 0, 0.03), atol=1e-12)
            assert approach[2] == pytest.approx(-np.sin(0.4))
            assert abs(poses.rotate(T, (0, 1, 0))[2]) < 1e-12
            assert motion.across(T) == (1 if quarter % 2 == 0 else 0)


def test_a_grip_is_known_by_geometry_alone() -> None:
    T, span = motion.side_grasp(0, False, 0.03, 0.4), (-PEG[2], PEG[2])
    assert motion.grips(T, PEG[1], PEG, span)
    assert not motion.grips(T, PEG[1] + 0.005, PEG, span)  # open
    assert not motion.grips(poses.compose(T, poses.pose(rotvec=(0.4, 0, 0))), PEG[1], PEG, span)  # crooked
    assert not motion.grips(poses.compose(poses.pose((0, 0.01, 0)), T), PEG[1], PEG, span)  # beside
    assert not motion.grips(poses.compose(poses.pose((0, 0, 0.04)), T), PEG[1], PEG, span)  # past the end


# --- the scene ---


def test_a_well_is_as_wide_and_deep_as_asked() -> None:
    """Rays from its middle meet walls and floor where they should, also turned within its body."""
    import mujoco

    at = poses.pose((0.02, 0, 0.01), (0, 0.3, 0))
    body = scene.placed_body("well", scene.placed(at.tolist(), scene.well(0.012, 0.03, 0.05, 0.005)))
    model = mujoco.MjModel.from_xml_string(scene.mjcf([body]))  # type: ignore[attr-defined]
    data = mujoco.MjData(model)  # type: ignore[attr-defined]
    data.mocap_pos[0] = (0.4, 0.1, 0.3)
    mujoco.mj_forward(model, data)  # type: ignore[attr-defined]
    mouth = poses.compose(poses.pose((0.4, 0.1, 0.3)), at)
    middle, geom = poses.transform(mouth, (0, 0, -0.02)), np.zeros(1, np.int32)
    for direction, distance in (((1, 0, 0), 0.012), ((0, -1, 0), 0.03), ((0, 0, -1), 0.03)):
        ray = poses.rotate(mouth, direction)
        found = mujoco.mj_ray(model, data, middle, ray, None, 1, -1, geom)  # type: ignore[attr-defined]
        assert found == pytest.approx(distance, abs=1e-6)


def test_the_lowest_point_of_a_box_is_its_lowest_corner() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        T, half = poses.pose(rng.standard_normal(3), rng.standard_normal(3)), rng.uniform(0.1, 1, 3)
        signs = (np.array(list(np.ndindex(2, 2, 2))) * 2 - 1) * half
        corners = [poses.transform(T, corner)[2] for corner in signs]
        assert poses.lowest_point(T, half) == pytest.approx(min(corners))


# --- cameras ---


@pytest.fixture(scope="module")
def seen() -> Any:
    env = peg_env(
        observations="both",
        cameras=("front", "wrist", "side"),
        depth=True,
        segmentation=True,
        point_cloud=3000,
        image_size=128,
    )
    try:
        observation, _ = env.reset(seed=1)
    except RuntimeError as error:
        assert "rendering needs OpenGL" in str(error)  # noqa: PT017
        pytest.skip("no OpenGL here")
    yield env, observation
    env.close()


def test_points_lie_on_the_table_and_on_the_bodies(seen: Any) -> None:
    """Most points of the cloud are the table's, at height 0 to 2 mm, and some lie on the peg's surface."""
    env, observation = seen
    points = observation["points"].astype(float)
    assert np.mean(np.abs(points[:, 2]) < 0.002) > 0.4
    T_peg_w = poses.inverse(env.state().peg)
    local = np.array([poses.transform(T_peg_w, point) for point in points])
    near = (np.abs(local) < PEG + 0.003).all(axis=1)
    assert near.sum() > 5
    inside = (np.abs(local) < PEG - 0.003).all(axis=1)
    assert not inside.any()


def test_depth_and_segmentation_agree_with_rays(seen: Any) -> None:
    """A ray of MuJoCo's through a pixel meets the labelled thing at the pixel's depth."""
    import mujoco

    env, observation = seen
    size, geom, rng = 128, np.zeros(1, np.int32), np.random.default_rng(0)
    groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # those that are drawn
    agreeing = []
    for camera in ("front", "wrist", "side"):
        index = env.model.camera(camera).id
        half = np.tan(radians(env.model.cam_fovy[index]) / 2)
        rotation, origin = env.data.cam_xmat[index].reshape(3, 3), env.data.cam_xpos[index]
        for row, column in rng.integers(0, size, (60, 2)):
            u, v = ((column + 0.5) / size * 2 - 1) * half, (1 - (row + 0.5) / size * 2) * half
            direction = rotation @ np.array([u, v, -1.0])  # one metre of depth a unit
            found = mujoco.mj_ray(env.model, env.data, origin, direction, groups, 1, -1, geom)  # type: ignore[attr-defined]
            depth = observation[f"{camera}_depth"][row, column, 0]
            label = observation[f"{camera}_segmentation"][row, column, 0]
            right_label = label == (env._sensors.labels[geom[0]] if found >= 0 else 0)
            agreeing.append(right_label and (found < 0 or abs(depth - found) < 0.01))
    assert np.mean(agreeing) > 0.95  # the rest are pixels on an edge


def test_the_wrist_camera_sees_the_fingers_and_moves_with_the_hand(seen: Any) -> None:
    env, observation = seen
    assert np.mean(observation["wrist_segmentation"] == 2) > 0.05
    before = observation["wrist_rgb"]
    action = np.append(env.state().tcp, -1.0)
    action[:3] += (0.05, 0.0, -0.05)
    for _ in range(5):
        observation = env.step(action.astype(np.float32))[0]
    assert np.abs(observation["wrist_rgb"].astype(int) - before).mean() > 1


def test_pictures_change_nothing_of_the_physics() -> None:
    plain = peg_env()
    pictured = peg_env(observations="both", cameras=("front",), image_size=16)
    try:
        pictured.reset(seed=3)
    except RuntimeError:
        pytest.skip("no OpenGL here")
    plain.reset(seed=3)
    expert = plain.expert()
    for _ in range(20):
        action = expert.act()
        a, b = plain.step(action)[0], pictured.step(action)[0]
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    pictured.close()

"""The bare arm against MuJoCo's whole model and finite differences; the laws of its inverse."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.kinematics import LEAN, MAX_STEP, Arm, inside
from geoflow_envs.poses import Array
from geoflow_envs.robot import CLEARANCE, PandaRobot, _nearest

LIMITS = inside(0.02)


def angles(rng: np.random.Generator, margin: float = 0.3) -> Array:
    low, high = inside(margin)
    return rng.uniform(low, high)


@pytest.mark.parametrize("seed", range(5))
def test_the_bare_arm_is_the_arm_of_the_task(seed: int) -> None:
    """Pose of the hand, origins of the outer links and Jacobian agree with those of the simulated model."""
    env = gym.make("geoflow_envs:geoflow/KeyTurn-v0", robot="panda", disable_env_checker=True).unwrapped
    robot, model, data = env.robot, env.model, env.data
    assert isinstance(robot, PandaRobot)
    q, arm = angles(np.random.default_rng(seed)), Arm()
    data.qpos[robot.joints] = q
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    np.testing.assert_allclose(arm.forward(q), robot.tcp(data), atol=1e-12)
    np.testing.assert_allclose(arm.links(), [data.body(f"link{i}").xpos for i in (4, 5, 6, 7)], atol=1e-12)
    whole = np.zeros((6, model.nv))
    mujoco.mj_jacBody(model, data, whole[:3], whole[3:], model.body("hand").id)
    dofs = [model.joint(f"joint{i}").dofadr[0] for i in range(1, 8)]
    np.testing.assert_allclose(arm.jacobian(q), whole[:, dofs], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_jacobian_is_the_derivative_of_the_pose(seed: int) -> None:
    """J dq = (velocity, angular velocity) of the TCP in the world, by central differences."""
    arm, q, step = Arm(), angles(np.random.default_rng(seed)), 1e-6
    J, T = arm.jacobian(q), arm.forward(q)
    for joint, dq in enumerate(step * np.eye(7)):
        after, before = arm.forward(q + dq), arm.forward(q - dq)
        linear = (after[:3] - before[:3]) / (2 * step)
        angular = poses.rotate(T, poses.rotvec(before, after)) / (2 * step)
        np.testing.assert_allclose(J[:, joint], [*linear, *angular], atol=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_the_inverse_reaches_what_the_arm_reaches_nearby(seed: int) -> None:
    """From angles 0.2 rad off, a pose that the arm can take is taken again, within the limits."""
    rng, arm = np.random.default_rng(seed), Arm()
    q = angles(rng)
    T = arm.forward(q)
    found, reached = arm.inverse(T, q + rng.uniform(-0.2, 0.2, 7), LIMITS)
    now = arm.forward(found)
    assert reached
    assert poses.norm(now[:3] - T[:3]) < 1e-4
    assert poses.norm(poses.rotvec(now, T)) < 1e-3
    assert ((found >= LIMITS[0]) & (found <= LIMITS[1])).all()


def test_a_pose_out_of_reach_is_said_to_be() -> None:
    arm = Arm()
    _, reached = arm.inverse(poses.pose((1.2, 0.0, 0.4)), arm.home, LIMITS)
    assert not reached


def test_a_solution_again_is_the_solution() -> None:
    """Where nothing is missing nothing moves: leaning home comes with a motion only."""
    arm, q = Arm(), angles(np.random.default_rng(0))
    found, reached = arm.inverse(arm.forward(q), q, LIMITS)
    assert reached
    np.testing.assert_array_equal(found, q)


def test_the_null_space_leans_home() -> None:
    """A pose moved by a hair: along the direction that leaves the TCP, the joints go LEAN of the way home."""
    arm = Arm()
    q = arm.home + np.array([0.2, 0.1, -0.2, 0.1, 0.2, -0.1, 0.1])
    T = arm.forward(q)
    T[0] += 0.001
    found, _ = arm.inverse(T, q, LIMITS)
    null = np.linalg.svd(arm.jacobian(q))[2][-1]
    assert null @ (found - arm.home) == pytest.approx((1 - LEAN) * null @ (q - arm.home), rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_an_approach_goes_straight_by_bounded_steps(seed: int) -> None:
    """From pose to pose no joint makes more than MAX_STEP at once, and the TCP keeps near the straight way."""
    rng, arm = np.random.default_rng(seed), Arm()
    start = arm.forward(arm.home)
    end = poses.integrate(start, rng.uniform(-0.4, 0.4, 3))
    end[:3] += rng.uniform(-0.15, 0.15, 3)
    way, before = end[:3] - start[:3], arm.home
    for q, missing in arm.approach(end, arm.home, LIMITS):
        assert np.abs(q - before).max() < MAX_STEP + 1e-12
        off = arm.forward(q)[:3] - start[:3]
        assert poses.norm(off - (off @ way) / (way @ way) * way) < 0.03
        before = q
        if missing < 1e-6:
            break
    np.testing.assert_allclose(arm.forward(before)[:3], end[:3], atol=1e-6)


# --- what the arm may pass ---


def test_nearest_is_the_distance_from_the_chain() -> None:
    """Against points strewn densely over the segments."""
    rng = np.random.default_rng(0)
    chains, obstacle = rng.standard_normal((3, 4, 3)), 2 * rng.standard_normal((2, 3))
    part = np.linspace(0, 1, 2001)[:, None, None, None]
    strewn = (1 - part) * chains[:, :-1] + part * chains[:, 1:]
    expected = min(np.linalg.norm(strewn - point, axis=-1).min() for point in obstacle)
    assert _nearest(chains, obstacle) == pytest.approx(expected, abs=1e-3)


def panda() -> PandaRobot:
    env = gym.make("geoflow_envs:geoflow/KeyTurn-v0", robot="panda", disable_env_checker=True).unwrapped
    assert isinstance(env.robot, PandaRobot)
    return env.robot


FAR = np.array([0.0, 3.0, 0.0])


def test_a_way_is_reachable_if_it_is_clear_of_what_stands_there() -> None:
    robot = panda()
    start = robot.arm.forward(robot.angles)
    end = start.copy()
    end[:3] += (0.08, 0.10, -0.05)
    assert robot.reachable([start, end], FAR)
    elbow = robot.arm.links()[0]
    assert not robot.reachable([start, end], elbow + np.array([0.0, 0.0, 0.9 * CLEARANCE]))
    assert not robot.reachable([start, end], np.array([FAR, elbow]))


def test_no_way_leads_out_of_the_arms_reach_or_through_a_flip() -> None:
    robot = panda()
    start = robot.arm.forward(robot.angles)
    far = start.copy()
    far[:3] = 0.9, 0.3, 0.3
    assert not robot.reachable([start, far], FAR)
    assert not robot.reachable([start, far, start], FAR)
    behind = start * (-1, 1, 1, 1, 1, 1, 1)  # over the base, where the arm would have to turn about itself
    assert not robot.reachable([start, behind], FAR)


def test_whether_a_way_is_reachable_does_not_depend_on_what_was_asked_before() -> None:
    rng = np.random.default_rng(0)
    fresh, used = panda(), panda()
    start = used.arm.forward(used.angles)
    answers = []
    for _ in range(60):
        keys = [start]
        for _ in range(3):
            key = poses.integrate(keys[-1], rng.uniform(-0.8, 0.8, 3))
            key[:3] += rng.uniform(-0.2, 0.2, 3)
            keys.append(key)
        answers.append(used.reachable(keys, FAR))
        fresh._legs.clear()
        assert answers[-1] == fresh.reachable(keys, FAR)
    assert 5 < sum(answers) < 55

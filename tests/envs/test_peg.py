"""TiltedPegInsert: the gymnasium contract, bad input, determinism, physics, and an expert that does the task."""

from __future__ import annotations

import warnings
from typing import Any

import geoflow_envs
import gymnasium as gym
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.robot import CONTROL_HZ, MAX_ANGULAR_SPEED, MAX_OPENING, MAX_SPEED, WORKSPACE
from geoflow_envs.tasks import peg as task
from geoflow_envs.tasks.peg import LEVELS, MODES, PEG, SYMMETRIES, TiltedPegInsert, fit
from gymnasium.utils.env_checker import check_env

ENV_ID = "geoflow_envs:geoflow/TiltedPegInsert-v0"
ROBOTS = ("free", "panda")
FAILURES = {"no_grasp", "dropped", "misaligned", "not_deep_enough", "physics"}


def make(**kwargs: Any) -> gym.Env:
    return gym.make(ENV_ID, disable_env_checker=True, **kwargs)


def peg_env(env: gym.Env) -> TiltedPegInsert:
    assert isinstance(env.unwrapped, TiltedPegInsert)
    return env.unwrapped


def play(env: gym.Env, seed: int, choice: str = "greedy") -> dict[str, Any]:
    """One episode of the expert: the last info, with the number of steps."""
    env.reset(seed=seed)
    expert = peg_env(env).expert(choice, seed)
    for step in range(1, 1000):
        _, _, terminated, truncated, info = env.step(expert.act())
        if terminated or truncated:
            return {**info, "steps": step}
    raise AssertionError("the episode did not end")


def hold(observation: dict[str, np.ndarray], gripper: float = -1.0) -> np.ndarray:
    return np.append(observation["tcp"], gripper).astype(np.float32)


# --- the gymnasium contract ---


@pytest.mark.parametrize("in_hand", [False, True])
@pytest.mark.parametrize("robot", ROBOTS)
def test_check_env_finds_nothing(robot: str, in_hand: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An absolute pose in metres is no box of [-1, 1], on purpose.
        warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")
        env = peg_env(make(robot=robot, in_hand=in_hand))
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("name", geoflow_envs.TASKS)
def test_a_registered_task_says_what_a_policy_needs(name: str) -> None:
    env = gym.make(name, disable_env_checker=True)
    unwrapped: Any = env.unwrapped
    observation, info = env.reset(seed=0)
    assert set(unwrapped.observation_kinds) == set(observation)
    assert set(unwrapped.observation_kinds.values()) <= {"pose", "vector", "image"}
    assert unwrapped.control_hz == env.metadata["render_fps"] == CONTROL_HZ
    assert all(value.dtype == np.float32 for value in observation.values())
    assert info["mode_count"] >= 1
    for key, kind in unwrapped.observation_kinds.items():
        if kind == "pose":
            assert np.linalg.norm(observation[key][3:]) == pytest.approx(1.0, abs=1e-6)


def test_the_datasheet_states_the_numbers_of_the_code() -> None:
    text = TiltedPegInsert.__doc__ or ""
    assert "{" not in text
    for number in (
        "20 x 32 x 120",
        f"{MAX_SPEED:.2f} m/s",
        f"{MAX_ANGULAR_SPEED:.2f} rad/s",
        "8 mm with a chamfered",
    ):
        assert number in text


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_same_seed_gives_the_same_bits(robot: str) -> None:
    first, second = make(robot=robot), make(robot=robot)
    second.reset(seed=99)  # a history must leave no trace
    second.step(hold(second.reset(seed=5)[0]))
    for env in (first, second):
        env.action_space.seed(3)
    observations = [env.reset(seed=7)[0] for env in (first, second)]
    for _ in range(12):
        for key in observations[0]:
            np.testing.assert_array_equal(observations[0][key], observations[1][key])
        observations = [env.step(env.action_space.sample())[0] for env in (first, second)]


def test_seeds_differ() -> None:
    env = make()
    sockets = [env.reset(seed=seed)[0]["socket"] for seed in range(5)]
    assert len({socket.tobytes() for socket in sockets}) == 5


@pytest.mark.parametrize("vector", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_vector_environments_play_what_single_ones_play(vector: Any) -> None:
    single = make(in_hand=True)
    envs = vector([lambda: make(in_hand=True)] * 2)
    observations, _ = envs.reset(seed=[4, 9])
    observation, _ = single.reset(seed=9)
    for _ in range(3):
        action = hold(observation)
        actions = np.stack([np.append(observations["tcp"][0], -1).astype(np.float32), action])
        observations, _, _, _, infos = envs.step(actions)
        observation = single.step(action)[0]
    np.testing.assert_array_equal(observations["peg"][1], observation["peg"])
    assert not infos["is_success"].any()
    envs.close()


def test_action_samples_are_poses_within_the_workspace() -> None:
    space = make().action_space
    space.seed(0)
    samples = np.array([space.sample() for _ in range(500)])
    assert samples.dtype == np.float32
    assert all(space.contains(sample) for sample in samples)
    np.testing.assert_allclose(np.linalg.norm(samples[:, 3:7], axis=1), 1.0, atol=1e-5)
    # uniform on SO(3): E[w^2] = 1/4 and both signs are drawn
    assert np.mean(samples[:, 3] ** 2) == pytest.approx(0.25, abs=0.04)
    assert abs(np.mean(samples[:, 3])) < 0.1


@pytest.mark.parametrize("robot", ROBOTS)
def test_random_actions_break_nothing(robot: str) -> None:
    env = make(robot=robot, level=2)
    env.action_space.seed(1)
    env.reset(seed=1)
    for _ in range(60):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert all(np.isfinite(value).all() for value in observation.values())
        assert info["failure"] != "physics"
        if terminated or truncated:
            env.reset()


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:7], r"shape \(8,\).*got \(7,\)"),
        (lambda a: np.tile(a, (16, 1)), r"shape \(8,\).*got \(16, 8\).*not a chunk"),
        (lambda a: a * np.nan, "finite"),
        (lambda a: np.append(a[:7], np.inf), "finite"),
        (lambda a: np.concatenate([a[:3], np.zeros(4), a[7:]]), r"norm within \[0.9, 1.1\]; got 0"),
        (lambda a: np.concatenate([a[:3], 1.3 * a[3:7], a[7:]]), r"norm within \[0.9, 1.1\]; got 1.3"),
    ],
    ids=["shape", "chunk", "nan", "inf", "zero norm", "norm"],
)
def test_a_bad_action_raises_and_changes_nothing(change: Any, message: str) -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    core = peg_env(env)
    before = (core.data.qpos.copy(), core.data.ctrl.copy(), core.data.time, core.robot.target.copy())
    with pytest.raises(ValueError, match=message):
        core.step(change(hold(observation)))
    after = (core.data.qpos, core.data.ctrl, core.data.time, core.robot.target)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("scale", [0.92, 1.08])
def test_a_quaternion_a_little_off_is_normalised(scale: float) -> None:
    results = []
    for factor in (1.0, scale):
        env = make()
        action = hold(env.reset(seed=0)[0]).astype(np.float64)
        action[:3] += 0.02
        action[3:7] *= factor
        results.append(peg_env(env).step(action)[0]["tcp"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"level": 4}, "level must be one of 0, 1, 2, 3; got 4"),
        ({"level": True}, "level must be one of 0, 1, 2, 3; got True"),
        ({"robot": "ur5"}, "robot must be one of 'free', 'panda'; got 'ur5'"),
        ({"clearance": 5}, "in metres, from 0.0005 to 0.02; got 5"),
        ({"clearance": 0.0}, "in metres, from 0.0005 to 0.02; got 0.0"),
        ({"tilt_range": (30, 10)}, r"0 <= low <= high <= 90; got \(30, 10\)"),
        ({"tilt_range": (0, 120)}, r"0 <= low <= high <= 90; got \(0, 120\)"),
        ({"tilt_range": (10,)}, r"two angles in degrees"),
        ({"camera": "top"}, "camera must be one of 'front', 'side'; got 'top'"),
    ],
    ids=str,
)
def test_knobs_out_of_range_name_what_is_valid(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TiltedPegInsert(**knobs)


def test_an_unknown_render_mode_and_expert_choice_name_what_is_valid() -> None:
    with pytest.raises(ValueError, match="render_mode must be None or 'rgb_array'; got 'ansi'"):
        TiltedPegInsert(render_mode="ansi")
    with pytest.raises(ValueError, match="choice must be 'greedy' or 'random'; got 'best'"):
        TiltedPegInsert().expert("best")


def test_knobs_override_the_level() -> None:
    env = peg_env(make(level=1, clearance=0.003, tilt_range=(40, 50)))
    assert env.clearance == 0.003
    for seed in range(20):
        socket = env.reset(seed=seed)[0]["socket"].astype(float)
        tilt = np.degrees(poses.axis_angle(socket, poses.IDENTITY))
        assert 39.9 < tilt < 50.1


# --- the scene and the rules ---


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_the_socket_takes_the_peg_with_the_stated_clearance(level: int) -> None:
    """A ray across the mouth, between the walls, is as long as the peg is wide plus twice the clearance."""
    import mujoco

    env = peg_env(make(level=level, tilt_range=(0, 0)))
    env.reset(seed=0)
    socket = env.state().socket
    middle = poses.transform(socket, (0, 0, -0.03))
    geom = np.zeros(1, np.int32)
    for axis in (0, 1):
        width = 0.0
        for sign in (1, -1):
            direction = poses.rotate(socket, sign * np.eye(3)[axis])
            width += mujoco.mj_ray(env.model, env.data, middle, direction, None, 1, -1, geom)
        assert width == pytest.approx(2 * PEG[axis] + 2 * LEVELS[level].clearance, abs=1e-6)


def test_every_symmetric_insertion_fits_and_a_quarter_turn_does_not() -> None:
    socket = poses.pose((0.5, 0.1, 0.17), (0.4, -0.3, 1.0))
    for index, symmetry in enumerate(SYMMETRIES):
        inserted = fit(poses.compose(socket, symmetry), socket)
        assert inserted.symmetry == index
        assert inserted.depth == pytest.approx(task.DEPTH)
        assert inserted.tilt == pytest.approx(0.0, abs=1e-6)
        assert inserted.lateral == pytest.approx(0.0, abs=1e-9)
    assert len(MODES) == 32


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_controller_limits_its_speed_and_stays_in_the_workspace(robot: str) -> None:
    env = make(robot=robot)
    observation, _ = env.reset(seed=2)
    action = hold(observation)
    action[:3] = (5.0, 5.0, -5.0)
    core = peg_env(env)
    for _ in range(50):
        before = core.robot.target.copy()
        env.step(action)
        assert poses.norm(core.robot.target[:3] - before[:3]) <= MAX_SPEED / CONTROL_HZ + 1e-9
    assert (core.robot.target[:3] >= WORKSPACE[0] - 1e-9).all()
    assert (core.robot.target[:3] <= WORKSPACE[1] + 1e-9).all()


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_hand_goes_where_it_is_sent(robot: str) -> None:
    """After a second at rest the TCP stands within 1 mm and 0.01 rad of the action."""
    env = make(robot=robot)
    start = env.reset(seed=3)[0]["tcp"].astype(float)
    goal = poses.integrate(start, (0.1, -0.2, 0.3))
    goal[:3] += (0.04, -0.05, 0.03)
    for _ in range(25):
        tcp = env.step(np.append(goal, -1).astype(np.float32))[0]["tcp"].astype(float)
    assert poses.norm(tcp[:3] - goal[:3]) < 1e-3
    assert poses.norm(poses.rotvec(tcp, goal)) < 0.01


def test_the_gripper_reports_its_opening() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    assert observation["gripper"][0] == pytest.approx(-1, abs=0.01)
    for _ in range(15):
        observation = env.step(hold(observation, gripper=1.0))[0]
    assert observation["gripper"][0] == pytest.approx(1, abs=0.05)
    assert peg_env(env).robot.opening(peg_env(env).data) < 0.05 * MAX_OPENING


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_held_peg_stays_held(robot: str) -> None:
    """Five seconds of holding still creep less than 2 mm and 2 degrees."""
    env = make(robot=robot, in_hand=True)
    observation, _ = env.reset(seed=1)
    core = peg_env(env)
    action, before = hold(observation, 1.0), poses.between(core.state().tcp, core.state().peg)
    for _ in range(5 * CONTROL_HZ):
        env.step(action)
    after = poses.between(core.state().tcp, core.state().peg)
    assert poses.norm(after[:3] - before[:3]) < 0.002
    assert np.degrees(poses.norm(poses.rotvec(before, after))) < 2


@pytest.mark.parametrize(
    ("knobs", "steps"), [({}, 400), ({"in_hand": True}, 260), ({"max_episode_steps": 7}, 7)]
)
def test_the_step_limit_follows_the_start_unless_one_is_asked_for(knobs: dict[str, Any], steps: int) -> None:
    env = make(**knobs)
    action = hold(env.reset(seed=0)[0])
    for step in range(1, steps + 1):
        _, _, terminated, truncated, info = env.step(action)
        assert not terminated
        assert truncated == (step == steps)
        assert (info["failure"] in FAILURES) == truncated
    assert env.spec is not None
    assert env.spec.max_episode_steps == steps


def test_a_hand_that_does_nothing_has_no_grasp() -> None:
    env = make(max_episode_steps=3)
    action = hold(env.reset(seed=0)[0])
    infos = [env.step(action)[4] for _ in range(3)]
    assert [info["failure"] for info in infos] == ["", "", "no_grasp"]
    assert not infos[-1]["is_success"]


def test_a_peg_let_go_in_the_air_is_dropped() -> None:
    env = make(in_hand=True, max_episode_steps=30)
    action = hold(env.reset(seed=0)[0], gripper=-1.0)
    infos = [env.step(action)[4] for _ in range(30)]
    assert infos[-1]["failure"] == "dropped"


def test_a_peg_held_in_the_air_is_misaligned() -> None:
    env = make(in_hand=True, max_episode_steps=3)
    action = hold(env.reset(seed=0)[0], gripper=1.0)
    infos = [env.step(action)[4] for _ in range(3)]
    assert infos[-1]["failure"] == "misaligned"


@pytest.mark.parametrize(
    ("height", "kind"), [(0.03, "not_deep_enough"), (0.0, "not_deep_enough"), (0.2, "dropped")]
)
def test_a_peg_put_into_place_by_hand_is_named_for_what_it_lacks(height: float, kind: str) -> None:
    """Half in, fully in but with the hand beside it, and over the socket with the hand far away."""
    env = peg_env(make(in_hand=True))
    env.reset(seed=0)
    state = env.state()
    peg = poses.compose(state.socket, poses.pose((0, 0, height)))
    env.data.qpos[env._peg_joint : env._peg_joint + 7] = peg
    if kind == "not_deep_enough":
        env.robot.reset(env.data, poses.compose(peg, task.grasp(0, False)), 0.016, 1.0)
    import mujoco

    mujoco.mj_kinematics(env.model, env.data)
    assert env.failure_kind() == kind


def test_an_instability_ends_the_episode_as_physics() -> None:
    env = make(max_episode_steps=50)
    action = hold(env.reset(seed=0)[0])
    core = peg_env(env)
    core.data.qvel[:] = np.nan
    _, reward, terminated, _, info = env.step(action)
    assert terminated
    assert reward == 0
    assert info["failure"] == "physics"
    env.reset(seed=0)
    assert env.step(action)[4]["failure"] == ""


@pytest.mark.parametrize("robot", ROBOTS)
def test_in_hand_starts_with_the_peg_between_the_pads(robot: str) -> None:
    env = peg_env(make(robot=robot, in_hand=True))
    grasps = []
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        state = env.state()
        assert poses.norm(state.tcp[:3] - state.peg[:3]) < 0.05
        assert observation["peg"][2] > 0.05
        assert info["mode_count"] in (1, 2)
        grasps.append(poses.between(state.peg, state.tcp))
    assert np.std([abs(grasp[2]) for grasp in grasps]) > 1e-3  # held a little differently each time


# --- the expert ---


def test_the_expert_depends_on_the_state_alone() -> None:
    """An expert that saw the whole episode and one made this moment, with the same mode, act alike."""
    env = make(level=2)
    env.reset(seed=11)
    core = peg_env(env)
    expert = core.expert()
    for _ in range(70):
        action = expert.act()
        fresh = core.expert()
        fresh.mode, fresh._episode = expert.mode, core.episode
        np.testing.assert_array_equal(fresh.act(), action)
        np.testing.assert_array_equal(expert.act(), action)
        env.step(action)


def test_a_random_choice_is_seeded_and_varies() -> None:
    env = make()
    core = peg_env(env)
    env.reset(seed=0)

    def chosen(seed: int) -> np.ndarray:
        expert = core.expert("random", seed)
        expert.act()
        assert expert.mode is not None
        return np.append(expert.mode.T_peg_tcp, expert.mode.symmetry)

    np.testing.assert_array_equal(chosen(1), chosen(1))
    assert len({chosen(seed).tobytes() for seed in range(20)}) > 2


@pytest.mark.parametrize("in_hand", [False, True], ids=["table", "in hand"])
@pytest.mark.parametrize("level", range(4))
def test_the_expert_succeeds_with_the_free_gripper(level: int, in_hand: bool) -> None:
    env = make(level=level, in_hand=in_hand)
    for seed in range(4):
        info = play(env, seed)
        assert info["is_success"], f"seed {seed}: {info}"
        assert info["failure"] == ""
        assert info["steps"] < 200


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["greedy", "random"])
def test_the_expert_rarely_fails_with_the_free_gripper(choice: str) -> None:
    env = make(level=2)
    assert sum(play(env, 500 + seed, choice)["is_success"] for seed in range(40)) >= 39


@pytest.mark.slow
@pytest.mark.parametrize("in_hand", [False, True], ids=["table", "in hand"])
def test_the_expert_rarely_fails_with_the_arm(in_hand: bool) -> None:
    env = make(level=1, robot="panda", in_hand=in_hand)
    assert sum(play(env, 500 + seed)["is_success"] for seed in range(20)) >= 18


@pytest.mark.slow
def test_the_expert_recovers_from_disturbances() -> None:
    """Bursts of up to 3 cm and 20 degrees for 5 to 8 steps, about one every 25 steps."""
    env = make(level=2, in_hand=True)
    successes = 0
    for seed in range(30):
        env.reset(seed=seed)
        expert, rng, left, offset = peg_env(env).expert(), np.random.default_rng(seed), 0, poses.IDENTITY
        while True:
            action = expert.act().astype(float)
            if left == 0 and rng.random() < 0.06:
                left = int(rng.integers(5, 9))
                direction = rng.standard_normal((2, 3))
                direction /= np.linalg.norm(direction, axis=1, keepdims=True)
                turn = direction[1] * rng.uniform(0, np.radians(20))
                offset = poses.pose(direction[0] * rng.uniform(0, 0.03), turn)
            if left:
                left -= 1
                action[:7] = poses.compose(action[:7], offset)
            _, _, terminated, truncated, info = env.step(action.astype(np.float32))
            if terminated or truncated:
                break
        successes += info["is_success"]
    assert successes >= 28


# --- pictures ---


def test_no_picture_without_a_render_mode() -> None:
    env = peg_env(make())
    env.reset(seed=0)
    assert env.render() is None


def test_a_frame_shows_the_scene_or_says_what_is_missing() -> None:
    env = peg_env(make(render_mode="rgb_array", width=96, height=64))
    env.reset(seed=0)
    try:
        frame = env.render()
    except RuntimeError as error:
        assert "rendering needs OpenGL" in str(error)  # noqa: PT017
        assert "libegl1" in str(error)  # noqa: PT017
    else:
        assert frame is not None
        assert frame.shape == (64, 96, 3)
        assert frame.std() > 10
    env.close()

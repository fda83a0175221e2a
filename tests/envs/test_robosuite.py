"""The Robosuite tasks: the frame of the hand, poses held and reached, gymnasium's contract, experts, the command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import geoflow_envs
import gymnasium as gym
import numpy as np
import pytest
from geoflow_envs import poses
from geoflow_envs.robosuite_tasks import library
from geoflow_envs.robosuite_tasks.base import LEAD, LEAD_ANGLE
from gymnasium.utils.env_checker import check_env

TASKS = tuple(geoflow_envs.ROBOSUITE_TASKS)
SQUARE, TOOL_HANG, TWO_ARMS, DOOR = TASKS
WITH_EXPERT = (SQUARE, TWO_ARMS, DOOR)
MISSING = library.obstacles()

UP, LEFT = np.array([[0, 0, 0.05, 0, 0, 0, 0], [0, 0.05, 0, 0, 0, 0, 0]])  # of a pose

WITHOUT = pytest.mark.skipif(not MISSING, reason="robosuite is installed")
HERE = pytest.mark.skipif(bool(MISSING), reason=f"make test-robosuite runs these: {MISSING}")
EVERY_TASK = pytest.mark.parametrize("name", TASKS)


@cache
def made(name: str) -> gym.Env:
    """One env of each task for all tests: building robosuite's model takes a second, and a reset leaves no trace."""
    return gym.make(f"geoflow_envs:{name}", disable_env_checker=True)


@pytest.fixture(scope="module", autouse=True)
def close() -> Iterator[None]:
    yield
    made.cache_clear()


def core(env: gym.Env) -> Any:
    return env.unwrapped


def stay(env: gym.Env, command: float = -1.0) -> np.ndarray:
    """The action that commands the present poses."""
    task = core(env)
    return np.append(task.state().tcp, [command] * task.arms)


def apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Distance [mm] and angle [degrees] of two poses."""
    return 1000 * poses.norm(a[:3] - b[:3]), float(np.degrees(poses.norm(poses.rotvec(a, b))))


def observed(env: gym.Env, robot: int, rotation: str) -> np.ndarray:
    """Pose of a hand by robosuite's own observations, x y z w turned into w x y z."""
    seen = core(env).sim_env._get_observations(force_update=True)
    return np.append(seen[f"robot{robot}_eef_pos"], np.roll(seen[f"robot{robot}_{rotation}"], 1))


def play(env: gym.Env, seed: int, choice: str = "greedy") -> dict[str, Any]:
    """One episode of the expert: the last info, with the number of steps."""
    env.reset(seed=seed)
    expert = core(env).expert(choice, seed)
    for step in range(1, 2000):
        _, _, terminated, truncated, info = env.step(expert.act())
        if terminated or truncated:
            return {**info, "steps": step}
    raise AssertionError("the episode did not end")


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def digest(name: str) -> str:
    """Of what is seen in a scene and in ten random steps from it."""
    env = made(name)
    seen = [env.reset(seed=11)[0]]
    env.action_space.seed(5)
    seen += [env.step(env.action_space.sample())[0] for _ in range(10)]
    parts = (values[key].tobytes() for values in seen for key in sorted(values))
    return hashlib.sha256(b"".join(parts)).hexdigest()


# --- without robosuite ---


@WITHOUT
@EVERY_TASK
def test_one_sentence_says_what_to_install_and_what_is_in_the_way(name: str) -> None:
    with pytest.raises(gym.error.DependencyNotInstalled) as error:
        gym.make(f"geoflow_envs:{name}")
    text = str(error.value)
    assert text.startswith(
        "the Robosuite tasks need robosuite 1.5.2, mujoco below 3.10 and numpy below 2; here "
    )
    assert f"here {MISSING}. " in text
    assert "pip install -c constraints-robosuite.txt -e '.[all,robosuite]' (docs/robosuite.md)" in text
    assert "\n" not in text


@WITHOUT
def test_the_command_says_that_sentence_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    from geoflow.cli import main

    with pytest.raises(SystemExit):
        main(["collect", "--env", f"geoflow_envs:{SQUARE}", "--episodes", "1"])
    text = " ".join(capsys.readouterr().err.split())
    assert text.endswith("pip install -c constraints-robosuite.txt -e '.[all,robosuite]' (docs/robosuite.md)")
    assert "TiltedPegInsert" not in text


@WITHOUT
def test_the_obstacles_are_named_with_their_versions() -> None:
    import mujoco

    if tuple(int(part) for part in mujoco.__version__.split(".")[:2]) >= (3, 10):
        assert f"mujoco {mujoco.__version__} is in the way" in MISSING
    if int(np.__version__.split(".")[0]) >= 2:
        assert f"numpy {np.__version__} is in the way" in MISSING


def test_importing_geoflow_envs_does_not_import_robosuite() -> None:
    code = "import geoflow_envs, sys; print([name for name in sys.modules if 'robosuite' in name])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@HERE
def test_robosuites_import_is_quiet_and_leaves_the_choice_of_opengl() -> None:
    code = "from geoflow_envs.robosuite_tasks.library import load; load(); import os; print(os.environ['MUJOCO_GL'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "MUJOCO_GL": "disable"},
    )
    assert done.stdout.split() == ["disable"]
    assert "WARNING" not in done.stderr


# --- the frame of the hand ---


@HERE
@EVERY_TASK
def test_the_observed_hand_is_robosuites_site(name: str) -> None:
    env = made(name)
    observation, _ = env.reset(seed=1)
    task = core(env)
    for hand, robot in zip(task.hands, task.order, strict=True):
        distance, angle = apart(observed(env, robot, "eef_quat_site"), observation[hand].astype(float))
        assert distance < 1e-3
        assert angle < 1e-3


@HERE
@EVERY_TASK
def test_the_present_pose_holds_the_arm_still(name: str) -> None:
    """Commanding robosuite's `eef_quat_site` for two seconds: under 0.5 mm and 0.2 degrees."""
    env = made(name)
    env.reset(seed=2)
    task = core(env)
    held = np.array([observed(env, robot, "eef_quat_site") for robot in task.order])
    for _ in range(40):
        env.step(np.append(held, [-1.0] * task.arms))
    for before, after in zip(held, np.reshape(task.state().tcp, (-1, 7)), strict=True):
        distance, angle = apart(before, after)
        assert distance < 0.5
        assert angle < 0.2


@HERE
@EVERY_TASK
def test_eef_quat_is_another_frame_and_commanding_it_turns_the_hand(name: str) -> None:
    """`eef_quat` differs from `eef_quat_site` by one fixed turn of 90 degrees, whatever the arm does."""
    env = made(name)
    env.reset(seed=3)
    env.action_space.seed(3)
    task = core(env)
    turns = []
    for _ in range(3):
        for robot in task.order:
            body, site = (observed(env, robot, key) for key in ("eef_quat", "eef_quat_site"))
            turns.append(poses.rotvec(body, site))
        for _ in range(5):
            env.step(env.action_space.sample())
    np.testing.assert_allclose(turns, np.tile(turns[0], (len(turns), 1)), atol=1e-3)
    assert np.degrees(poses.norm(turns[0])) == pytest.approx(90, abs=0.1)

    env.reset(seed=3)
    wrong = np.array([observed(env, robot, "eef_quat") for robot in task.order])
    start = np.reshape(task.state().tcp, (-1, 7))
    for _ in range(10):
        env.step(np.append(wrong, [-1.0] * task.arms))
    for before, after in zip(start, np.reshape(task.state().tcp, (-1, 7)), strict=True):
        assert apart(before, after)[1] > 20


@HERE
@EVERY_TASK
def test_a_commanded_pose_is_reached(name: str) -> None:
    """5 cm up and 0.4 rad aside, by robosuite's own word, within 2 mm and 0.5 degrees after two seconds."""
    env = made(name)
    env.reset(seed=4)
    task = core(env)
    start = np.reshape(task.state().tcp, (-1, 7))
    goals = np.array([poses.integrate(T + UP, (0.3, 0.0, 0.26)) for T in start])
    for _ in range(40):
        env.step(np.append(goals, [-1.0] * task.arms))
    for goal, robot in zip(goals, task.order, strict=True):
        distance, angle = apart(goal, observed(env, robot, "eef_quat_site"))
        assert distance < 2
        assert angle < 0.5


@HERE
@pytest.mark.parametrize(
    ("shift", "turn", "share"), [(5, 0.0, 0.7), (0, 3.1, 0.3)], ids=["25 cm away", "half a turn away"]
)
def test_a_far_goal_is_approached_at_the_speed_of_the_lead(shift: int, turn: float, share: float) -> None:
    """A critically damped arm with kp 150 moves at sqrt(150) / 2 leads a second; half a turn away it still turns."""
    env = made(DOOR)
    env.reset(seed=0)
    start = core(env).state().tcp
    goal = poses.integrate(start + shift * LEFT, (0.0, 0.0, turn))
    passed = []
    for step in range(16):
        env.step(np.append(goal, -1.0))
        if step in (5, 15):
            passed.append(core(env).state().tcp)
    distance, angle = apart(*passed)
    gone = distance / (1000 * LEAD) if shift else angle / np.degrees(LEAD_ANGLE)
    assert share < gone / (np.sqrt(150) / 2 * 10 / 20) < 1.1


@HERE
@pytest.mark.parametrize("name", [SQUARE, TOOL_HANG, DOOR])
def test_the_gripper_closes_at_plus_one_and_opens_at_minus_one(name: str) -> None:
    env = made(name)
    observation, _ = env.reset(seed=0)
    assert observation["gripper"] == pytest.approx([-1.0], abs=0.1)
    for command in (1.0, -1.0):
        for _ in range(20):
            observation = env.step(stay(env, command))[0]
        assert observation["gripper"] == pytest.approx([command], abs=0.1)


@HERE
def test_left_and_right_are_the_arms_at_plus_and_minus_y_and_grippers_are_ignored() -> None:
    env = made(TWO_ARMS)
    observation, _ = env.reset(seed=0)
    assert observation["tcp_left"][1] > 0 > observation["tcp_right"][1]
    # The plate is on the left hand, the peg on the right one: rigidly.
    fixed = {"tcp_left": "plate", "tcp_right": "peg"}
    action = stay(env)
    action[1] += 0.05
    for _ in range(30):
        later = env.step(action)[0]
    assert 1000 * (later["tcp_left"] - observation["tcp_left"])[1] == pytest.approx(50, abs=3)
    np.testing.assert_allclose(later["tcp_right"], observation["tcp_right"], atol=5e-3)
    for hand, body in fixed.items():
        before, after = (
            poses.between(*(seen[key].astype(float) for key in (hand, body))) for seen in (observation, later)
        )
        distance, angle = apart(before, after)
        assert distance < 1e-2
        assert angle < 1e-2
    ends = []
    for grippers in ((-1, -1), (1, -1), (1, 1)):
        env.reset(seed=0)
        for _ in range(5):
            end = env.step(np.append(action[:14], grippers))[0]
        ends.append(end)
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


# --- the gymnasium contract ---


@HERE
@EVERY_TASK
def test_check_env_finds_nothing(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An absolute pose in metres is no box of [-1, 1], on purpose.
        warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")
        check_env(core(made(name)), skip_render_check=True, skip_close_check=True)


@HERE
@EVERY_TASK
def test_a_task_says_what_a_policy_and_a_reader_need(name: str) -> None:
    env = made(name)
    task = core(env)
    observation, info = env.reset(seed=0)
    assert set(task.observation_kinds) == set(observation) == set(env.observation_space.spaces)  # type: ignore[attr-defined]
    assert env.observation_space.contains(observation)
    for key, kind in task.observation_kinds.items():
        if kind == "pose":
            assert observation[key].shape == (7,)
            assert np.linalg.norm(observation[key][3:]) == pytest.approx(1.0, abs=1e-6)
        else:
            assert key == "gripper"
            assert observation[key].shape == (task.arms,)
    assert env.action_space.shape == (8 * task.arms,)
    assert task.control_hz == env.metadata["render_fps"] == 20
    assert info | {"mode": 0, "mode_count": 0} == {
        "is_success": False,
        "failure": "",
        "mode": 0,
        "mode_count": 0,
    }
    assert info["mode_count"] >= 1
    datasheet = type(task).__doc__ or ""
    assert "{" not in datasheet
    assert all(f"| {key} |" in datasheet for key in observation)
    assert all(f"`{kind}`" in datasheet for kind in task.failures)
    assert all(f"`{body}`" in datasheet for body in task.bodies.values())


@HERE
@EVERY_TASK
def test_the_same_seed_gives_the_same_bits_whatever_was_before(name: str) -> None:
    env = made(name)
    first = digest(name)
    env.reset(seed=99)
    for _ in range(3):
        env.step(env.action_space.sample())
    assert digest(name) == first


@HERE
def test_the_same_seed_gives_the_same_bits_in_another_process() -> None:
    code = "from tests.envs.test_robosuite import TASKS, digest; print(*map(digest, TASKS))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == [digest(name) for name in TASKS], done.stderr


@HERE
@EVERY_TASK
def test_seeds_differ(name: str) -> None:
    env = made(name)
    scenes = [env.reset(seed=seed)[0] for seed in range(4)]
    for key in core(env).poses if name != TWO_ARMS else core(env).hands:
        if key not in ("peg", "stand"):  # robosuite keeps those at their places
            assert len({scene[key].tobytes() for scene in scenes}) == 4, key


@HERE
@EVERY_TASK
def test_wild_actions_leave_a_valid_state(name: str) -> None:
    """300 random, huge, far and rejected actions: the observation stays in its space and no end is silent."""
    env, rng = made(name), np.random.default_rng(1)
    env.action_space.seed(1)
    env.reset(seed=1)
    task = core(env)
    for step in range(300):
        action = env.action_space.sample()
        if step % 5 == 1:
            action[:3] = rng.uniform(-1e6, 1e6, 3)
        if step % 5 == 2:
            action[-1] = 1e9
        if step % 5 == 3:
            before = task.data.qpos.copy()
            with pytest.raises(ValueError, match="finite"):
                env.step(np.where(rng.random(len(action)) < 0.5, np.nan, np.inf).astype(np.float32))
            np.testing.assert_array_equal(task.data.qpos, before)
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert reward in (0.0, 1.0)
        assert info["failure"] != "physics"
        if terminated or truncated:
            assert info["is_success"] or info["failure"] in task.failures
            env.reset()


@HERE
@EVERY_TASK
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a[:-1], "shape"),
        (lambda a: np.tile(a, (16, 1)), "not a chunk"),
        (lambda a: np.append(a[:-1], np.inf), "finite"),
        (lambda a: np.concatenate([a[:3], 1.3 * a[3:7], a[7:]]), "norm"),
    ],
    ids=["shape", "chunk", "inf", "norm"],
)
def test_a_bad_action_raises_and_changes_nothing(name: str, spoil: Any, message: str) -> None:
    env = made(name)
    env.reset(seed=0)
    before = core(env).data.qpos.copy()
    with pytest.raises(ValueError, match=message):
        core(env).step(spoil(stay(env)))
    np.testing.assert_array_equal(core(env).data.qpos, before)


@HERE
@EVERY_TASK
def test_the_sign_of_a_quaternion_means_nothing(name: str) -> None:
    env, ends = made(name), []
    for sign in (1.0, -1.0):
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(5):
            action = env.action_space.sample()
            for arm in range(core(env).arms):
                action[7 * arm + 3 : 7 * arm + 7] *= sign
            end = env.step(action)[0]
        ends.append(end)
    assert_same(*ends)


@HERE
@EVERY_TASK
def test_an_instability_ends_the_episode_as_physics_and_leaves_no_trace(name: str) -> None:
    env = made(name)
    observation, _ = env.reset(seed=0)
    core(env).data.qvel[:] = np.nan
    _, reward, terminated, _, info = env.step(env.action_space.sample())
    assert terminated
    assert reward == 0
    assert info["failure"] == "physics"
    assert_same(env.reset(seed=0)[0], observation)


@HERE
@EVERY_TASK
def test_a_hand_that_stays_away_fails_by_name_at_the_step_limit(name: str) -> None:
    env = gym.make(f"geoflow_envs:{name}", disable_env_checker=True, max_episode_steps=3)
    env.reset(seed=0)
    infos = [env.step(stay(env))[4] for _ in range(3)]
    assert [info["failure"] for info in infos[:-1]] == [""] * 2
    assert infos[-1]["failure"] in (core(env).failures[0], "not_deep_enough")


@HERE
@EVERY_TASK
@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"render_mode": "human"}, "render_mode must be None or 'rgb_array'; got 'human'"),
        ({"camera": "top"}, "camera must be one of 'frontview', .*; got 'top'"),
    ],
    ids=str,
)
def test_knobs_out_of_range_name_what_is_valid(name: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        type(core(made(name)))(**knobs)
    with pytest.raises(TypeError, match="level"):
        type(core(made(name)))(level=1)


@HERE
@EVERY_TASK
def test_a_frame_shows_the_scene(name: str) -> None:
    env = gym.make(
        f"geoflow_envs:{name}", disable_env_checker=True, render_mode="rgb_array", width=96, height=64
    )
    env.reset(seed=0)
    try:
        frame: Any = env.render()
    except RuntimeError as error:
        assert "rendering needs OpenGL" in str(error)  # noqa: PT017
        pytest.skip("no OpenGL here")
    assert frame.shape == (64, 96, 3)
    assert frame.std() > 10
    env.close()


# --- the experts and the command ---


@HERE
@pytest.mark.parametrize("name", WITH_EXPERT)
def test_the_expert_succeeds_by_robosuites_word(name: str) -> None:
    env = made(name)
    for seed in range(2):
        info = play(env, seed)
        assert info["is_success"], f"seed {seed}: {info}"
        assert core(env).sim_env._check_success()
        assert info["steps"] < core(env).steps


@HERE
@pytest.mark.parametrize("name", [TWO_ARMS, DOOR])
def test_a_random_expert_is_seeded_and_chooses(name: str) -> None:
    env = made(name)
    reached = {play(env, seed, "random")["mode"] for seed in range(3)}
    assert reached == {0, 1}
    env.reset(seed=0)
    actions = [core(env).expert("random", 3).act() for _ in range(2)]
    np.testing.assert_array_equal(*actions)
    with pytest.raises(ValueError, match="choice must be 'greedy' or 'random'; got 'best'"):
        core(env).expert("best")


@HERE
@pytest.mark.slow
def test_the_command_collects_trains_and_evaluates(tmp_path: Path) -> None:
    """What docs/robosuite.md shows, with a policy of seconds."""
    pytest.importorskip("torch")
    from geoflow.cli import main

    env = f"geoflow_envs:{DOOR}"
    demos, run = tmp_path / "demos.h5", tmp_path / "run"
    main(["collect", "--env", env, "--episodes", "2", "--workers", "1", "--out", str(demos)])
    options = {"demos": demos, "steps": 2, "batch-size": 8, "warmup": 1}
    words = [f"--train.{key}={value}" for key, value in options.items()]
    words += ["--policy.width=16", "--policy.depth=1"]
    main(["train", "--env", env, *words, "--device", "cpu", "--out", str(run)])
    judge = ["--episodes", "1", "--nfe", "1", "--workers", "1", "--device", "cpu"]
    main(["evaluate", str(run), *judge])
    assert (run / "eval.json").is_file() or list(run.rglob("eval*.json"))

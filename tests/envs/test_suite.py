"""What every registered task keeps: gymnasium's contract, determinism, spaces, bad actions, an expert that succeeds."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import geoflow_envs
import gymnasium as gym
import numpy as np
import pytest
from geoflow_envs.poses import compose, matrix
from gymnasium.utils.env_checker import check_env

from geoflow.experiments.disturbance import Disturbance

TASKS = tuple(geoflow_envs.TASKS)
EVERY_TASK = pytest.mark.parametrize("name", TASKS)
Knobs = tuple[tuple[dict[str, Any], str], ...]


@dataclass(frozen=True)
class Row:
    """What tells a task from the others here; a new task adds one.

    Attributes:
        idle: The failure of a hand that waits.
        ends: How many right ends the random expert reaches, numbered from 0 ...
        draws: ... in so many episodes.
        steps: Within how many the expert is done.
        arm: The levels at which the arm's expert is sure of its first scenes.
        in_hand: Whether an episode begins with something in the hand, and is over when that falls.
        sheet: What the datasheet must say, in the numbers of the code.
        recovers: Of eight disturbed episodes so many end well at least.
        knobs: Knobs of its own, out of their range, and what is said of them.
    """

    idle: str
    ends: int
    draws: int
    steps: int
    arm: tuple[int, ...] = ()
    in_hand: bool = False
    sheet: tuple[str, ...] = ()
    recovers: int = 7
    knobs: Knobs = ()


ANGLES = "must be two angles in degrees, {} <= low <= high <= {}; got"
ROWS = {
    "geoflow/TiltedPegInsert-v0": Row(
        "no_grasp",
        4,
        16,
        200,
        arm=(0, 1),
        sheet=("20 x 32 x 120 mm", "400 steps"),
        knobs=(
            ({"rotation_range": (0, 91)}, ANGLES.format(0, 90)),
            ({"clearance": 0.1}, "from 0.0005 to 0.02; got 0.1"),
        ),
    ),
    "geoflow/HalfTurnStand-v0": Row(
        "no_grasp",
        4,
        16,
        200,
        sheet=("40 x 40 x 110 mm", "0: 90 to 120 degrees, 20 mm and 20 degrees", "400 steps"),
        knobs=(({"rotation_range": (80, 120)}, ANGLES.format(90, 180)),),
    ),
    "geoflow/RackSlot-v0": Row(
        "no_grasp",
        6,
        24,
        200,
        arm=(0, 1),
        sheet=("8 x 52 x 90 mm", "has 3 slots, 40 mm deep", "so 6 ends", "400 steps"),
        knobs=(({"rotation_range": (0, 91)}, ANGLES.format(0, 90)),),
    ),
    "geoflow/KeyTurn-v0": Row(
        "misaligned",
        4,
        20,
        200,
        arm=(0, 1, 2, 3),
        in_hand=True,
        sheet=(
            "12 x 4.4 x 40",
            "deeper than\n    32 mm",
            "10 to 150",
            "0: 45 to 60 degrees, 3 mm",
            "260 steps",
        ),
        knobs=(
            ({"rotation_range": (0, 90)}, ANGLES.format(10, 150)),
            ({"rotation_range": (90, 170)}, ANGLES.format(10, 150)),
            ({"tilt_range": (30, 10)}, "tilt_range must be two angles in degrees"),
            ({"clearance": 0.1}, "clearance is per side in metres, from 0.0005 to 0.005; got 0.1"),
        ),
    ),
    "geoflow/HookHang-v0": Row(
        "no_grasp",
        3,
        12,
        200,
        arm=(0, 1, 2, 3),
        sheet=(
            "72 x 12 x 10 mm",
            "10 mm thick that stand 70 mm",
            "0: 0 to 20 degrees, 24 mm",
            "0 to 80",
            "320 steps",
        ),
        knobs=(
            ({"rotation_range": (0, 90)}, ANGLES.format(0, 80)),
            ({"radius": 0.1}, "radius is the ring's inner one in metres, from 0.008 to 0.03; got 0.1"),
        ),
    ),
    "geoflow/WireLoop-v0": Row(
        "not_entered",
        2,
        10,
        150,
        arm=(0, 1, 2, 3),
        in_hand=True,
        # A burst of up to 3 cm throws a loop with 18 mm of play against the wire, and a touch ends the episode within
        # the burst: none of 48 failures in 120 episodes of three levels came after one, when an expert could recover.
        recovers=4,
        sheet=(
            "320 mm long, 6 mm thick, 16 pieces",
            "0: 0 to 30 degrees, 28 mm",
            "85% of it",
            "240 steps",
            "| 51 |",
        ),
        knobs=(
            ({"rotation_range": (0, 300)}, ANGLES.format(0, 200)),
            ({"radius": 0.002}, "radius is the loop's inner one in metres, from 0.008 to 0.03; got 0.002"),
        ),
    ),
    "geoflow/BimanualPeg-v0": Row(
        "not_deep_enough",
        4,
        16,
        150,
        in_hand=True,
        knobs=(({"clearance": 0.1}, "clearance is per side .*, from 0.0005 to 0.012; got 0.1"),),
    ),
}


def test_every_task_has_its_row() -> None:
    assert set(ROWS) == set(TASKS)


def make(name: str, **kwargs: Any) -> gym.Env:
    return gym.make(f"geoflow_envs:{name}", disable_env_checker=True, **kwargs)


def core(env: gym.Env) -> Any:
    return env.unwrapped


def play(env: gym.Env, seed: int, choice: str = "greedy", disturbance: float = 0.0) -> dict[str, Any]:
    """One episode of the expert: the last info, with the number of steps."""
    env.reset(seed=seed)
    expert = core(env).expert(choice, seed)
    noise = Disturbance(disturbance, np.random.default_rng([seed, 1]), poses_in(env.action_space.sample()))
    for step in range(1, 2000):
        _, _, terminated, truncated, info = env.step(noise.apply(expert.act())[0])
        if terminated or truncated:
            return {**info, "steps": step}
    raise AssertionError("the episode did not end")


def snapshot(env: gym.Env) -> list[np.ndarray]:
    data = core(env).data
    return [getattr(data, name).copy() for name in ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat")]


def poses_in(action: np.ndarray) -> int:
    """How many poses an action holds: 8 entries an arm."""
    assert len(action) % 8 == 0
    return len(action) // 8


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


# --- the gymnasium contract ---


@EVERY_TASK
def test_check_env_finds_nothing(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An absolute pose in metres is no box of [-1, 1], on purpose.
        warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")
        check_env(core(make(name)), skip_render_check=True)


@EVERY_TASK
def test_a_task_says_what_a_policy_and_a_reader_need(name: str) -> None:
    env = make(name)
    task = core(env)
    observation, info = env.reset(seed=0)
    assert set(task.observation_kinds) == set(observation) == set(env.observation_space.spaces)  # type: ignore[attr-defined]
    assert env.observation_space.contains(observation)
    for key, kind in task.observation_kinds.items():
        shape = observation[key].shape
        assert kind in ("pose", "vector")
        assert len(shape) == 1
        if kind == "pose":
            assert shape == (7,)
            assert np.linalg.norm(observation[key][3:]) == pytest.approx(1.0, abs=1e-6)
    assert task.control_hz == env.metadata["render_fps"]
    assert {"is_success", "failure", "mode"} <= set(info)
    assert not info["is_success"]
    assert info["failure"] == ""
    assert info["mode_count"] >= 1
    assert "physics" in task.failures
    datasheet = type(task).__doc__ or ""
    assert "{" not in datasheet.replace("{-", "")
    assert all(f"| {key} |" in datasheet or f"{key}" in datasheet for key in observation)
    assert all(f"`{kind}`" in datasheet for kind in task.failures)
    assert all(number in datasheet for number in ROWS[name].sheet)


@EVERY_TASK
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    first, second = make(name), make(name)
    second.reset(seed=99)  # a history must leave no trace
    for _ in range(3):
        second.step(second.action_space.sample())
    for env in (first, second):
        env.action_space.seed(3)
    observations = [env.reset(seed=7)[0] for env in (first, second)]
    for _ in range(10):
        assert_same(*observations)
        observations = [env.step(env.action_space.sample())[0] for env in (first, second)]


@EVERY_TASK
def test_seeds_differ(name: str) -> None:
    env = make(name)
    scenes = [env.reset(seed=seed)[0] for seed in range(4)]
    assert len({b"".join(scene[key].tobytes() for key in sorted(scene)) for scene in scenes}) == 4


@EVERY_TASK
def test_vector_environments_in_other_processes_play_what_single_ones_play(name: str) -> None:
    single = make(name)
    envs = gym.vector.AsyncVectorEnv([lambda: make(name)] * 2)
    try:
        observations, _ = envs.reset(seed=[4, 9])
        observation, _ = single.reset(seed=9)
        single.action_space.seed(0)
        for _ in range(2):
            action = single.action_space.sample()
            observations, _, _, _, infos = envs.step(np.stack([action, action]))
            observation, _, _, _, info = single.step(action)
        assert_same({key: value[1] for key, value in observations.items()}, observation)
        assert infos["mode"][1] == info["mode"]
    finally:
        envs.close()


@EVERY_TASK
def test_a_spec_survives_pickling(name: str) -> None:
    spec = make(name, level=2).spec
    again = gym.make(pickle.loads(pickle.dumps(spec)), disable_env_checker=True)
    assert core(again).level == 2
    assert_same(again.reset(seed=1)[0], make(name, level=2).reset(seed=1)[0])


# --- actions, good and bad ---


@EVERY_TASK
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a[:-1], "shape"),
        (lambda a: np.tile(a, (16, 1)), "not a chunk"),
        (lambda a: a * np.nan, "finite"),
        (lambda a: np.append(a[:-1], np.inf), "finite"),
        (lambda a: np.concatenate([a[:3], np.zeros(4), a[7:]]), "norm"),
        (lambda a: np.concatenate([a[:3], 1.3 * a[3:7], a[7:]]), "norm"),
    ],
    ids=["shape", "chunk", "nan", "inf", "zero norm", "norm"],
)
def test_a_bad_action_raises_and_changes_nothing(name: str, spoil: Any, message: str) -> None:
    env = make(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    before = snapshot(env)
    with pytest.raises(ValueError, match=message):
        core(env).step(spoil(action))
    for old, new in zip(before, snapshot(env), strict=True):
        np.testing.assert_array_equal(old, new)


@EVERY_TASK
def test_the_sign_of_a_quaternion_means_nothing(name: str) -> None:
    """q and -q are one rotation: the expert's actions with random signs give the same trajectory, bit for bit."""
    env, flipped, rng = make(name), make(name), np.random.default_rng(0)
    env.reset(seed=5)
    flipped.reset(seed=5)
    expert = core(env).expert()
    for _ in range(40):
        action = expert.act()
        other = action.copy()
        for arm in range(poses_in(action)):
            other[7 * arm + 3 : 7 * arm + 7] *= rng.choice((-1, 1))
        observation = env.step(action)[0]
        assert_same(observation, flipped.step(other)[0])


@EVERY_TASK
def test_an_instability_ends_the_episode_as_physics_and_leaves_no_trace(name: str) -> None:
    env = make(name)
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    core(env).data.qvel[:] = np.nan
    _, reward, terminated, _, info = env.step(env.action_space.sample())
    assert terminated
    assert reward == 0
    assert info["failure"] == "physics"
    assert_same(env.reset(seed=0)[0], observation)


@EVERY_TASK
def test_a_hand_that_waits_fails_by_name_at_the_step_limit(name: str) -> None:
    env = make(name, max_episode_steps=5)
    env.reset(seed=0)
    action = core(env).expert().act()
    infos = [env.step(action)[4] for _ in range(5)]
    assert [info["failure"] for info in infos[:-1]] == [""] * 4
    assert infos[-1]["failure"] == ROWS[name].idle
    assert infos[-1]["failure"] in core(env).failures


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.in_hand])
def test_what_is_let_go_is_dropped_and_ends_the_episode(name: str) -> None:
    env = make(name)
    env.reset(seed=0)
    hands = np.reshape(core(env).robot.tcp(core(env).data), -1)
    action = np.append(hands, -np.ones(poses_in(env.action_space.sample()))).astype(np.float32)
    terminated, info = False, {}
    for _ in range(40):
        if not terminated:
            _, _, terminated, _, info = env.step(action)
    assert terminated
    assert info["failure"] == "dropped"
    assert not info["is_success"]


@EVERY_TASK
@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"level": 9}, "level must be one of 0, 1, 2, 3; got 9"),
        ({"level": -1}, "level must be one of 0, 1, 2, 3; got -1"),
        ({"level": "1"}, "level must be one of 0, 1, 2, 3; got '1'"),
        ({"robot": "ur5"}, "robot must be one of .*; got 'ur5'"),
        ({"split": "test"}, "split must be one of 'train', 'range', 'frame'; got 'test'"),
        ({"observations": "rgb"}, "observations must be one of 'state', 'pixels', 'both'; got 'rgb'"),
        ({"observations": "both", "cameras": ("top",)}, r"cameras must be .*; got \('top',\)"),
        ({"observations": "both", "image_size": 3}, "image_size is in pixels a side, from 16 .*; got 3"),
        ({"depth": True}, "observations='pixels' or observations='both'"),
        ({"render_mode": "ansi"}, "render_mode must be None or 'rgb_array'; got 'ansi'"),
        ({"rotation_range": (30, 10)}, r"two angles in degrees, .* got \(30, 10\)"),
        ({"width": 0}, "width is in pixels, from 16 to 1280; got 0"),
        ({"robot": ["free"]}, r"robot must be one of .*; got \['free'\]"),
        ({"rotation_range": 5}, "two angles in degrees, .* got 5"),
        ({"rotation_range": ("a", "b")}, r"two angles in degrees, .* got \('a', 'b'\)"),
        ({"rotation_range": (0, 1000)}, r"two angles in degrees, .* got \(0, 1000\)"),
    ],
    ids=str,
)
def test_knobs_out_of_range_name_what_is_valid(name: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **knobs)


@pytest.mark.parametrize(
    ("name", "knobs", "message"), [(name, *case) for name, row in ROWS.items() for case in row.knobs]
)
def test_a_tasks_own_knobs_out_of_range_name_what_is_valid(
    name: str, knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **knobs)


# --- the expert and the splits ---


@pytest.mark.parametrize(
    ("name", "robot", "level"),
    [(name, "free", level) for name in TASKS for level in range(4)]
    + [(name, "panda", level) for name, row in ROWS.items() for level in row.arm],
)
def test_the_expert_succeeds(name: str, robot: str, level: int) -> None:
    env = make(name, level=level, robot=robot)
    for seed in range(2):
        info = play(env, seed)
        assert info["is_success"], f"seed {seed}: {info}"
        assert info["failure"] == ""
        assert info["steps"] < ROWS[name].steps


@EVERY_TASK
def test_the_expert_depends_on_the_state_alone(name: str) -> None:
    """An expert that saw the whole episode and one made this moment, with the same mode, act alike."""
    env = make(name, level=2)
    env.reset(seed=11)
    expert, over = core(env).expert(), False
    for _ in range(80):
        action = expert.act()
        fresh = core(env).expert()
        fresh.mode, fresh._episode = expert.mode, core(env).episode
        np.testing.assert_array_equal(fresh.act(), action)
        _, _, over, _, _ = env.step(action)
        if over:
            break
    assert over or not ROWS[name].in_hand


@pytest.mark.slow
@EVERY_TASK
def test_the_expert_recovers_from_disturbances(name: str) -> None:
    """A fifth of the steps is disturbed, as in demonstrations: by up to 3 cm and 20 degrees."""
    env = make(name, level=1)
    assert sum(play(env, 700 + seed, "random", 0.2)["is_success"] for seed in range(8)) >= ROWS[name].recovers


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.in_hand])
def test_the_expert_recovers_from_a_lost_grasp(name: str) -> None:
    """Eight steps of an open gripper in mid-air: it takes up what fell."""
    env, successes = make(name, level=1), 0
    for seed in range(8):
        env.reset(seed=seed)
        task, opened, over, info = core(env), 0, False, {}
        expert = task.expert()
        while not over:
            action = expert.act()
            # Not on the way up from the table: there it would only be laid down.
            if opened < 8 and (opened or (task.lifted and task.body_pose(task.held)[2] > 0.10)):
                action[7], opened = -1.0, opened + 1
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        assert opened == 8
        successes += info["is_success"]
    assert successes >= 7


@pytest.mark.slow
@EVERY_TASK
def test_the_expert_rarely_fails_with_the_arm(name: str) -> None:
    if "panda" not in core(make(name)).robots:
        pytest.skip("a task for two free grippers")
    env = make(name, level=1, robot="panda")
    assert sum(play(env, 300 + seed)["is_success"] for seed in range(8)) >= 7


@EVERY_TASK
def test_a_random_expert_is_seeded_and_chooses(name: str) -> None:
    env = make(name, level=1)
    infos = [play(env, seed, "random") for seed in range(ROWS[name].draws)]
    assert {info["mode"] for info in infos if info["is_success"]} == set(range(ROWS[name].ends))
    env.reset(seed=0)
    actions = [core(env).expert("random", 3).act() for _ in range(2)]
    np.testing.assert_array_equal(*actions)
    with pytest.raises(ValueError, match="choice must be 'greedy' or 'random'; got 'best'"):
        core(env).expert("best")


@EVERY_TASK
@pytest.mark.parametrize("split", ["range", "frame"])
def test_held_out_scenes_differ_from_training_and_can_be_done(name: str, split: str) -> None:
    env, trained = make(name, split=split), make(name)
    for seed in range(2):
        scene, train = env.reset(seed=seed)[0], trained.reset(seed=seed)[0]
        assert any(not np.array_equal(scene[key], train[key]) for key in scene)
    assert sum(play(env, 50 + seed)["is_success"] for seed in range(5)) >= 4


# --- cameras ---


@EVERY_TASK
def test_cameras_see_what_the_space_says(name: str) -> None:
    env = make(name, observations="pixels", depth=True, segmentation=True, point_cloud=64, image_size=32)
    try:
        observation, _ = env.reset(seed=0)
    except RuntimeError as error:
        assert "rendering needs OpenGL" in str(error)  # noqa: PT017
        pytest.skip("no OpenGL here")
    task = core(env)
    assert env.observation_space.contains(observation)
    assert set(task.observation_kinds) == set(observation)
    kinds = {key.rpartition("_")[2] for key, kind in task.observation_kinds.items() if kind == "image"}
    assert kinds == {"rgb", "depth", "segmentation"}
    assert task.observation_kinds["points"] == "points"
    assert observation["front_rgb"].std() > 10
    assert set(task.camera_places) == {key for key, kind in task.observation_kinds.items() if kind == "image"}
    for picture, place in task.camera_places.items():
        camera = picture.rpartition("_")[0]
        body = task.data.body(task.model.camera(camera).bodyid[0])
        stands = compose(np.concatenate([body.xpos, body.xquat]), np.array(place[:7]))
        np.testing.assert_allclose(stands[:3], task.data.camera(camera).xpos, atol=1e-9)
        np.testing.assert_allclose(matrix(stands).ravel(), task.data.camera(camera).xmat, atol=1e-9)
    assert {1, 2} <= set(np.unique(observation["front_segmentation"]))
    assert not any(key in observation for key in getattr(task, "poses", ()))
    env.close()

"""Evaluation: the same episodes however they are played, nothing lost when interrupted, errors that teach."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

import geoflow as gf
from geoflow.experiments.config import EnvConfig, EvaluateConfig
from geoflow.experiments.evaluation import (
    evaluate,
    measure_latency,
    read_asked,
    read_evaluation,
    solvers,
    trained_env,
)
from geoflow.experiments.proportions import wilson_interval
from geoflow.experiments.rollout import Freeze, Solver
from geoflow.experiments.viewing import view
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution
from tests.experiments.conftest import REACH
from tests.reach_env import Reach

TWELVE = EvaluateConfig(episodes=12, nfe=(2,), workers=1)
PROMISED = {
    "policy",
    "manifold",
    "nfe",
    "solver",
    "level",
    "robot",
    "episodes",
    "successes",
    "ci_low",
    "ci_high",
}
PROMISED |= {"latency_ms_median", "latency_ms_p95", "train_seconds", "parameters"}


@pytest.fixture
def run(reach_run, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(reach_run, tmp_path / "run")


@pytest.fixture(scope="module")
def evaluated(reach_run, tmp_path_factory):
    """Twelve scenes, in this process."""
    return evaluate(reach_run, TWELVE, out=tmp_path_factory.mktemp("eval") / "eval.json")


def test_a_record_says_what_was_promised(evaluated):
    (record,) = read_evaluation(evaluated)
    assert record.keys() >= PROMISED
    episodes = record["episode_records"]
    assert [episode["seed"] for episode in episodes] == list(range(1_000_000, 1_000_012))
    assert record["successes"] == sum(episode["success"] for episode in episodes) >= 6
    assert (record["ci_low"], record["ci_high"]) == wilson_interval(record["successes"], 12)
    assert sum(record["failures"].values()) == 12 - record["successes"]
    assert all(episode["success"] != bool(episode["failure"]) for episode in episodes)
    assert 0 < record["latency_ms_median"] <= record["latency_ms_p95"]
    assert record["latency_calls"] >= 50
    assert record["policy"] == "SE(3) flow"


def test_a_block_plays_what_a_single_env_plays(reach_run, evaluated):
    """Each scene alone, one observation at a time, ends as it did in the batch."""
    (record,) = read_evaluation(evaluated)
    policy = gf.load_policy(reach_run)
    env = gym.make(REACH.id, **REACH.kwargs)
    for episode in record["episode_records"]:
        generator = torch.Generator().manual_seed(episode["seed"])
        broker = gf.ChunkBroker(policy, record["execute"], nfe=2, generator=generator)
        obs, info = env.reset(seed=episode["seed"])
        steps, over = 0, False
        while not over:
            obs, _, terminated, truncated, info = env.step(broker.act(obs))
            steps, over = steps + 1, terminated or truncated
        assert (info["is_success"], steps) == (episode["success"], episode["steps"])


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(reach_run, evaluated, tmp_path):
    two = evaluate(reach_run, replace(TWELVE, workers=2), out=tmp_path / "two.json")
    assert read_evaluation(two)[0]["episode_records"] == read_evaluation(evaluated)[0]["episode_records"]


def test_finished_cells_are_kept_and_new_ones_added(run):
    path = evaluate(run, replace(TWELVE, episodes=3))
    (first,) = read_evaluation(path)
    evaluate(run, replace(TWELVE, episodes=3, nfe=(1, 2)))
    kept, added = read_evaluation(path)
    assert kept == first
    assert added["nfe"] == 1
    evaluate(run, replace(TWELVE, episodes=2))  # fewer than there are
    assert read_evaluation(path) == [kept, added]
    evaluate(run, replace(TWELVE, episodes=4))
    more = read_evaluation(path)[-1]
    assert (more["nfe"], more["episodes"]) == (2, 4)
    assert more["episode_records"][:3] == first["episode_records"]
    evaluate(run, replace(TWELVE, episodes=3), env=EnvConfig(REACH.id, {"tolerance": 0.5}))
    assert len(read_evaluation(path)) == 3
    evaluate(run, replace(TWELVE, episodes=2), overwrite=True)
    assert sorted(record["episodes"] for record in read_evaluation(path)) == [2, 3, 3]


def test_what_was_asked_for_is_read_and_nothing_else(run):
    """A file holds what was ever played; other scenes, manners and envs are other measurements."""
    one = replace(TWELVE, episodes=1)
    easy = EnvConfig(REACH.id, {"tolerance": 0.5})
    for config in (one, replace(one, nfe=(1,)), replace(one, first_seed=900_000), replace(one, delay=2)):
        evaluate(run, config)
        (record,) = read_asked(run, config)
        assert (record["nfe"], record["delay"]) == (config.nfe[0], config.delay)
        assert record["episode_records"][0]["seed"] == config.first_seed
    path = evaluate(run, one, env=easy)
    assert read_asked(run, one, path, easy)[0]["env_kwargs"] == easy.kwargs
    assert read_asked(run, one)[0]["env_kwargs"] == REACH.kwargs
    assert read_asked(run, replace(one, execute=3)) == []
    assert len(read_asked(run, replace(one, nfe=(1, 2)))) == 2
    assert len(read_evaluation(path)) == 5


def test_records_of_other_weights_are_dropped(run):
    path = evaluate(run, replace(TWELVE, episodes=2))
    weights = load_file(run / "model.safetensors")
    save_file(
        {name: x * 1.01 if "net" in name else x for name, x in weights.items()}, run / "model.safetensors"
    )
    evaluate(run, replace(TWELVE, episodes=2, nfe=(1,)))
    assert [record["nfe"] for record in read_evaluation(path)] == [1]


def test_a_policy_that_gives_nan_fails_its_episodes(run):
    weights = load_file(run / "model.safetensors")
    save_file(
        {name: x * torch.nan if name.startswith("net") else x for name, x in weights.items()},
        run / "model.safetensors",
    )
    (record,) = read_evaluation(evaluate(run, replace(TWELVE, episodes=2)))
    assert (record["successes"], record["failures"]) == (0, {"invalid_action": 2})


class Odd(Reach):
    """A task whose info holds what JSON does not."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        odd = {"depth": np.float32("nan"), "axis": np.ones(3), "image": np.zeros((9, 9)), "env": self}
        return obs, reward, terminated, truncated, info | odd


gym.register("tests/Odd-v0", Odd)


def test_an_info_is_kept_as_far_as_json_goes(run):
    one = replace(TWELVE, episodes=1, transfer=True)
    (record,) = read_evaluation(evaluate(run, one, env=EnvConfig("tests/Odd-v0")))
    assert record["policy"] == "SE(3) flow, trained on tests/Reach-v0"
    final = record["episode_records"][0]["final"]
    assert (final["depth"], final["axis"]) == ("nan", [1, 1, 1])
    assert not {"image", "env"} & final.keys()


def test_a_frozen_env_stays_where_it_ended():
    env = Freeze(gym.make(REACH.id, steps=3))
    first, _ = env.reset(seed=0)
    for _ in range(5):
        obs, *_ = env.step(env.action_space.sample() * 0 + [0.1, 0, 0, 1, 0, 0, 0, -1])
    assert (env.over, env.steps) == (True, 3)
    assert env.last_info["failure"] == "no_grasp"
    assert abs(obs["tcp"][0] - first["tcp"][0]) > 0
    again, _ = env.reset(seed=0)
    assert (again["tcp"] == first["tcp"]).all()


@pytest.mark.parametrize(
    ("execution", "told"),
    [
        (Execution(4), None),
        (Execution(4, delay=2, manner="joined"), None),
        (Execution(4, candidates=2), None),
        (Execution(4, delay=2, manner="guided"), (2, "guided", None)),
        (Execution(5, warm_start=0.5), (0, "naive", 0.5)),
        (Execution(8, manner="guided"), None),
    ],
    ids=str,
)
def test_latency_is_of_chunks_as_they_are_executed(reach_run, execution, told, monkeypatch):
    """What the executor tells a prediction of the chunk under way, the timed calls are told."""
    policy, timed, env = gf.load_policy(reach_run), [], gym.make(REACH.id, **REACH.kwargs)
    act = policy.act
    monkeypatch.setattr(policy, "act", lambda *a, **k: timed.append(k.get("onward")) or act(*a, **k))
    measure_latency(policy, env, Solver(2, "euler"), execution, calls=2)
    for onward in timed[1:]:
        assert (onward and (onward.delay, onward.manner, onward.warm_start)) == told
        assert onward is None or len(onward.actions) == 8 - execution.execute


def test_guidance_is_timed(reach_run):
    """It takes a gradient of the network for every evaluation."""
    policy, env = gf.load_policy(reach_run), gym.make(REACH.id, **REACH.kwargs)
    naive, guided = (
        measure_latency(policy, env, Solver(10, "euler"), Execution(4, delay=2, manner=manner), calls=20)
        for manner in ("naive", "guided")
    )
    assert guided["latency_ms_median"] > 1.5 * naive["latency_ms_median"]


# Which cells.


def test_a_diffusion_is_sampled_fairly():
    cells = solvers(PolicyConfig(type="ddpm"), (1, 4, 10, 100))
    assert [cell for cell in cells if cell.nfe == 100] == [Solver(100, "ddpm")]
    for name in ("ddim", "dpmsolver++"):
        assert [cell.nfe for cell in cells if cell.name == name] == [1, 4, 10]


def test_a_flow_is_sampled_by_its_own_integrator():
    assert solvers(PolicyConfig(), (10, 1, 1)) == [Solver(1, "euler"), Solver(10, "euler")]
    assert solvers(PolicyConfig(solver="midpoint"), (1, 2, 5, 10)) == [
        Solver(2, "midpoint"),
        Solver(10, "midpoint"),
    ]
    assert solvers(PolicyConfig(grid="dense_jump(0.5)"), (1, 2)) == [Solver(2, "euler")]


@pytest.mark.parametrize(
    ("policy", "nfe", "words"),
    [
        (PolicyConfig(), (0,), "at least 1"),
        (PolicyConfig(), (), "at least 1"),
        (PolicyConfig(solver="midpoint"), (1, 3), "multiple of 2"),
        (PolicyConfig(grid="dense_jump(0.5)"), (1,), "at least 2 steps"),
        (PolicyConfig(type="ddpm"), (200,), "at most its 100"),
    ],
)
def test_an_impossible_nfe_is_refused(policy, nfe, words):
    with pytest.raises(ValueError, match=words):
        solvers(policy, nfe)


# Bad input: one sentence that names what was given and what would work, and nothing written.


class Elsewhere(gym.Env):
    """An env that offers no target."""

    observation_space = gym.spaces.Dict(
        {"tcp": gym.spaces.Box(-1, 1, (7,)), "gripper": gym.spaces.Box(-1, 1, (1,))}
    )
    action_space = gym.spaces.Box(-1, 1, (8,))


gym.register("tests/Elsewhere-v0", Elsewhere)


class Speaking(Elsewhere):
    """An env whose text is no array."""

    observation_space = gym.spaces.Dict({"tcp": gym.spaces.Box(-1, 1, (7,)), "say": gym.spaces.Text(5)})


gym.register("tests/Speaking-v0", Speaking)


@pytest.mark.parametrize(
    ("changes", "env", "words"),
    [
        ({"nfe": (0,)}, None, "nfe=.0.; a chunk needs at least 1"),
        ({"episodes": 0}, None, "episodes=0"),
        ({"execute": 9}, None, "execute=9; it lies between 1 and the policy's horizon 8"),
        ({}, EnvConfig("tests.reach_env:tests/Reech-v0"), "Reech.*Reach"),
        ({}, EnvConfig("no_such_module:A/B-v0"), "no_such_module"),
        ({}, EnvConfig(REACH.id, {"wings": 2}), "wings"),
        (
            {},
            EnvConfig("tests/Elsewhere-v0"),
            "offers the observations gripper .1., tcp .7.; the policy.*target",
        ),
        ({}, EnvConfig("tests/Speaking-v0"), r"observes 'say' as Text\(1, 5.*expected arrays"),
        ({}, EnvConfig("CartPole-v1"), "offers the observations Box"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(run, changes, env, words):
    with pytest.raises(ValueError, match=words):
        evaluate(run, replace(TWELVE, **changes), env=env)
    assert not (run / "eval.json").exists()


class Robots(Reach):
    """The same task with a choice of robots."""

    def __init__(self, robot="free", **kwargs):
        super().__init__(**kwargs)


gym.register("tests/Robots-v0", Robots)


def test_another_task_is_played_only_if_one_says_so(run, tmp_path):
    """Its observations have the same names and shapes, and mean something else."""
    with pytest.raises(
        ValueError, match=r"'tests/Odd-v0': the policy was trained on .*Reach-v0.* --transfer"
    ):
        evaluate(run, TWELVE, env=EnvConfig("tests/Odd-v0"))
    with pytest.raises(
        ValueError, match=r"'tests/Odd-v0': the policy was trained on .*Reach-v0.* --transfer"
    ):
        view("tests/Odd-v0", policy=run, out=tmp_path / "odd.gif")


def test_another_robot_is_played_only_if_one_says_so(run):
    """The robot counts as its demonstrations had it, the env's default where they did not say."""
    meta = json.loads((run / "config.json").read_text())
    meta["spec"]["tasks"] = [{**meta["spec"]["tasks"][0], "env_id": "tests/Robots-v0"}]
    meta["config"]["env"] = {"id": "tests/Robots-v0", "kwargs": {}}
    one, arm = replace(TWELVE, episodes=1), EnvConfig("tests/Robots-v0", {"robot": "arm"})
    (run / "config.json").write_text(json.dumps(meta))
    with pytest.raises(
        ValueError, match=r"has the robot 'arm'; the policy was trained on 'free'\. .* --transfer"
    ):
        evaluate(run, one, env=arm)
    assert evaluate(run, replace(one, transfer=True), env=arm)
    meta["spec"]["tasks"][0]["env_kwargs"] = {"robot": "arm"}
    (run / "config.json").write_text(json.dumps(meta))
    evaluate(run, one)
    assert [record["robot"] for record in read_evaluation(run / "eval.json")] == ["arm"]
    with pytest.raises(ValueError, match="has the robot 'free'; the policy was trained on 'arm'"):
        evaluate(run, one, env=EnvConfig("tests/Robots-v0"))


def test_a_camera_that_was_moved_is_noticed(run):
    """A policy cannot know that it looks from elsewhere; pictures it was not trained on do not matter."""
    meta = json.loads((run / "config.json").read_text())
    task = {**meta["spec"]["tasks"][0], "env_id": "tests/Robots-v0"}
    stood = [*Robots.camera_places["target"][:2], 0.5, *Robots.camera_places["target"][3:]]
    one, env = replace(TWELVE, episodes=1), EnvConfig("tests/Robots-v0")
    for cameras, moved in (
        ({"target": stood}, True),
        ({"target": Robots.camera_places["target"]}, False),
        ({"wrist_rgb": stood}, False),
    ):
        meta["spec"]["tasks"] = [{**task, "cameras": cameras}]
        (run / "config.json").write_text(json.dumps(meta))
        if moved:
            with pytest.raises(
                ValueError, match=r"target from \[1.0, 0.0, 0.9.* from \[1.0, 0.0, 0.5.* --transfer"
            ):
                evaluate(run, one, env=env)
        assert evaluate(run, replace(one, transfer=moved), env=env)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("", {}, ("A:lab/Peg-v0", {"level": 2, "robot": "arm"})),
        ("", {"level": 3}, ("A:lab/Peg-v0", {"level": 3, "robot": "arm"})),
        ("lab/Peg-v0", {}, ("lab/Peg-v0", {"level": 2, "robot": "arm"})),
        ("lab/Key-v0", {"level": 1}, ("lab/Key-v0", {"level": 1})),
    ],
)
def test_a_task_is_made_as_for_its_demonstrations(name, changes, expected):
    """The file's kwargs, what the training said beside, and what is changed now; another task has its own defaults."""
    task = {"env_id": "A:lab/Peg-v0", "env_kwargs": {"robot": "arm", "level": 0}}
    meta = {
        "config": {"env": {"id": "A:lab/Peg-v0", "kwargs": {"level": 2}}},
        "spec": {"env_id": "", "tasks": [task]},
    }
    env = trained_env(meta, name, changes)
    assert (env.id, env.kwargs) == expected


def test_another_control_rate_is_refused(run):
    meta = json.loads((run / "config.json").read_text())
    meta["spec"]["control_hz"] = 10.0
    (run / "config.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="runs at 20 actions a second; the policy was trained at 10"):
        evaluate(run, TWELVE)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_with_a_missing_file_is_refused(run, name):
    (run / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        evaluate(run, TWELVE)


def test_a_foreign_config_is_refused(run):
    (run / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="does not describe a geoflow policy of this version"):
        evaluate(run, TWELVE)


@pytest.mark.parametrize(("content", "words"), [("{", "not valid JSON"), ('{"a": 1}', "is no evaluation")])
def test_a_broken_evaluation_is_not_overwritten(run, content, words):
    (run / "eval.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        evaluate(run, TWELVE)
    assert (run / "eval.json").read_text() == content


def test_where_nothing_can_be_written_is_said_at_once(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        evaluate(run, TWELVE, out=tmp_path / "file" / "eval.json")


# Interruptions.

CHILD = """
import sys
from geoflow.experiments.config import EnvConfig, EvaluateConfig
from geoflow.experiments.evaluation import evaluate
if __name__ == "__main__":
    env = EnvConfig("tests.reach_env:tests/Reach-v0", {"pause": 0.01})
    evaluate(sys.argv[1], EvaluateConfig(episodes=12, nfe=(1, 2, 4, 8), workers=2), env=env)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_evaluation_continues(run, tmp_path, stop):
    """The first cells stay as they were, no process is left behind, and the same call does the rest."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    }
    process = subprocess.Popen([sys.executable, str(script), str(run)], env=environment)
    deadline = time.monotonic() + 120
    while not (run / "eval.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(stop)
    assert process.wait(30) != 0
    _, left = psutil.wait_procs(workers, timeout=30)
    assert not left
    before = read_evaluation(run / "eval.json")
    assert 1 <= len(before) < 4
    env = EnvConfig(REACH.id, {"pause": 0.01})
    path = evaluate(run, EvaluateConfig(episodes=12, nfe=(1, 2, 4, 8), workers=1), env=env)
    after = read_evaluation(path)
    assert after[: len(before)] == before
    assert sorted(record["nfe"] for record in after) == [1, 2, 4, 8]
    assert [file.name for file in run.iterdir() if file.name.endswith(".tmp")] == []


@pytest.mark.slow
def test_a_process_that_dies_is_reported(run):
    env = EnvConfig(REACH.id, {"crash": 1_000_011})
    with pytest.raises(ChildProcessError, match="same command with fewer workers"):
        evaluate(run, replace(TWELVE, workers=2), env=env)

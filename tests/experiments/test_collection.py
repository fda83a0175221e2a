"""The same file for any number of processes and interruptions; failures are counted; nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoflow.data.demonstrations import Demonstrations
from geoflow.experiments import collection
from geoflow.experiments.collection import SEEDS, CollectionError, collect, run_expert
from geoflow.experiments.config import CollectConfig, EnvConfig
from geoflow.experiments.environments import make_env
from geoflow.experiments.provenance import versions
from tests.reach_env import Reach, compose, inverse

ROOT = Path(__file__).parents[2]
REACH = "tests.reach_env:tests/Reach-v0"
CLUMSY = EnvConfig(REACH, {"clumsy": 0.3, "hold": 10, "steps": 120})
CONFIG = CollectConfig(episodes=12, disturbance=0.2, workers=1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve demonstrations, in one process, uninterrupted."""
    path = tmp_path_factory.mktemp("reference") / "demos.h5"
    collect(CLUMSY, CONFIG, path, seed=2)
    return path


def test_successes_are_recorded_and_failures_counted(reference):
    with Demonstrations(reference) as demonstrations:
        meta = demonstrations.meta
        seeds = [episode.seed for episode in demonstrations]
        assert all(episode.success for episode in demonstrations)
    assert len(seeds) == 12
    assert seeds == sorted(seeds)
    assert seeds[0] >= 2 * SEEDS
    # Independently: which scenes the expert gets wrong is drawn by the env's own generator.
    env: Any = make_env(CLUMSY)
    wrong = [seed for seed in range(2 * SEEDS, seeds[-1]) if (env.reset(seed=seed), env.unwrapped.wrong)[1]]
    assert meta.failures == {"no_grasp": len(wrong)}
    assert meta.attempts == 12 + len(wrong)
    assert (meta.env_kwargs, meta.control_hz) == (CLUMSY.kwargs, 20)
    assert meta.cameras == Reach.camera_places
    assert meta.settings == {"seed": 2, "episodes": 12, "choice": "random", "disturbance": 0.2}


def test_the_settings_and_where_they_come_from_stand_beside_the_file(reference):
    found = json.loads(reference.with_name("demos.h5.json").read_text())
    assert found["settings"]["env"] == {"id": REACH, "kwargs": CLUMSY.kwargs}
    assert found["settings"]["seed"] == 2
    assert found["versions"]["numpy"] == np.__version__
    assert {"commit", "command", "hardware", "time"} <= found.keys()
    assert sorted(os.listdir(reference.parent)) == ["demos.h5", "demos.h5.json"]


def test_recorded_actions_are_the_experts_and_executed_ones_may_differ(reference):
    """Replayed in the env: an undisturbed step leads to the next observation, a disturbed one elsewhere."""
    with Demonstrations(reference) as demonstrations:
        episode = next(e for e in demonstrations if e.disturbed.any())
    env: Any = make_env(CLUMSY)
    task = env.unwrapped
    env.reset(seed=episode.seed)
    expert = task.expert(seed=episode.seed)
    moved = []
    for t in range(len(episode) - 1):
        np.testing.assert_allclose(expert.act(), episode.actions[t], atol=1e-6)
        following = env.step(episode.actions[t])[0]
        seen = {name: x[t + 1] for name, x in episode.obs.items()}
        moved.append(np.abs(following["tcp"] - seen["tcp"]).max())
        # Go on from the state that was recorded: by the motion that leads there.
        task._tcp = seen["tcp"].astype(float)
        task._tcp[3:] /= np.linalg.norm(task._tcp[3:])
    disturbed = episode.disturbed[:-1]
    assert np.max(np.array(moved)[~disturbed]) < 1e-6
    assert np.min(np.array(moved)[disturbed]) > 1e-5


def test_oracle_poses_of_the_test_task_agree_with_the_library():
    import torch

    from geoflow.lie import se3

    rng = np.random.default_rng(0)
    a, b = (np.concatenate([x[:3], x[3:] / np.linalg.norm(x[3:])]) for x in rng.normal(size=(2, 7)))
    for ours, theirs in (
        (compose(a, b), se3.compose(torch.tensor(a), torch.tensor(b)).numpy()),
        (inverse(a), se3.inverse(torch.tensor(a)).numpy()),
    ):
        np.testing.assert_allclose(ours[:3], theirs[:3], atol=1e-12)
        assert abs(abs(ours[3:] @ theirs[3:]) - 1) < 1e-12


def test_the_file_does_not_depend_on_the_number_of_processes(reference, tmp_path):
    summary = collect(CLUMSY, replace(CONFIG, workers=3), tmp_path / "demos.h5", seed=2)
    assert (tmp_path / "demos.h5").read_bytes() == reference.read_bytes()
    assert summary.episodes == 12
    assert summary.new_steps >= summary.steps
    assert not multiprocessing.active_children()


def test_a_complete_file_is_left_alone(reference):
    before = reference.stat().st_mtime_ns
    summary = collect(CLUMSY, CONFIG, reference, seed=2)
    assert (summary.episodes, summary.new_steps) == (12, 0)
    assert reference.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("env", "config", "seed", "words"),
    [
        (CLUMSY, CONFIG, 3, "seed 2 there, 3 asked for"),
        (CLUMSY, replace(CONFIG, episodes=13), 2, "episodes 12 there, 13 asked for"),
        (CLUMSY, replace(CONFIG, disturbance=0.0), 2, "disturbance 0.2 there, 0.0 asked for"),
        (EnvConfig(REACH), CONFIG, 2, "clumsy 0.3 there, None asked for"),
    ],
)
def test_a_file_with_other_settings_is_not_overwritten(reference, env, config, seed, words):
    before = reference.read_bytes()
    with pytest.raises(CollectionError) as caught:
        collect(env, config, reference, seed)
    assert words in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert str(reference) in str(caught.value)
    assert reference.read_bytes() == before


def test_a_file_of_something_else_is_overwritten_only_when_asked(tmp_path):
    path = tmp_path / "demos.h5"
    path.write_text("my notes")
    small = replace(CONFIG, episodes=1)
    with pytest.raises(CollectionError, match=r"is not an HDF5 file.*--overwrite"):
        collect(CLUMSY, small, path)
    assert path.read_text() == "my notes"
    assert collect(CLUMSY, small, path, overwrite=True).episodes == 1


@pytest.mark.parametrize(
    ("env", "config", "seed", "words"),
    [
        (
            EnvConfig("tests.reach_env:tests/Rech-v0"),
            CONFIG,
            0,
            "`Rech` doesn't exist in namespace tests. Did you mean",
        ),
        (EnvConfig("no_such_module:My/Env-v0"), CONFIG, 0, "no_such_module"),
        (EnvConfig(REACH, {"levle": 1}), CONFIG, 0, "unexpected keyword argument 'levle'"),
        (EnvConfig("CartPole-v1"), CONFIG, 0, "no env.unwrapped.expert"),
        (CLUMSY, replace(CONFIG, episodes=SEEDS + 1), 0, "use several files"),
        (CLUMSY, replace(CONFIG, disturbance=0.9), 0, "disturbance=0.9"),
        (CLUMSY, replace(CONFIG, choice="best"), 0, "choice='best'"),
        (CLUMSY, CONFIG, -1, "seed=-1; it lies between 0 and 99"),
        (CLUMSY, CONFIG, 100, "held out for evaluation"),
    ],
)
def test_what_cannot_be_collected_is_refused_before_anything_is_written(tmp_path, env, config, seed, words):
    with pytest.raises(ValueError, match=r".") as caught:
        collect(env, config, tmp_path / "demos.h5", seed)
    assert words in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_expert_that_never_succeeds_ends_with_its_failures(tmp_path):
    env = EnvConfig(REACH, {"clumsy": 1.0, "steps": 3})
    with pytest.raises(
        CollectionError, match=r"only 0 of 1\d\d attempts succeeded \(failed: no_grasp 1\d\d\)"
    ):
        collect(env, replace(CONFIG, episodes=2), tmp_path / "demos.h5")


def test_no_attempt_is_a_scene_of_another_seed(tmp_path, monkeypatch):
    """Processes are kept busy with attempts beyond those that are wanted, but never beyond the seeds there are."""
    monkeypatch.setattr(collection, "SEEDS", 3)
    env, played = EnvConfig(REACH, {"clumsy": 1.0, "steps": 3}), []
    run = collection.run_expert
    monkeypatch.setattr(collection, "run_expert", lambda *a: (played.append(a[1]), run(*a))[1])
    with pytest.raises(CollectionError, match="only 0 of 3 attempts"):
        collect(env, replace(CONFIG, episodes=2), tmp_path / "demos.h5", seed=1)
    assert played == [3, 4, 5]


def test_it_is_continued_under_another_numpy_but_not_under_another_mujoco(tmp_path, monkeypatch):
    """Every demonstration of a file is of one simulator; what else changed between two runs does not matter."""
    env, out = EnvConfig(REACH, {"clumsy": 1.0, "steps": 3}), tmp_path / "demos.h5"

    def collect_under(**changed: str) -> str:
        monkeypatch.setattr(collection, "versions", lambda: {**versions(), **changed})
        with pytest.raises(CollectionError) as caught:
            collect(env, replace(CONFIG, episodes=1), out)
        return str(caught.value)

    assert "only 0 of" in collect_under(mujoco="3.1.0")
    assert "only 0 of" in collect_under(mujoco="3.1.0", numpy="0.0.1", torch="0.0.1", python="3.99")
    assert "begun with other settings (mujoco 3.1.0 there, 3.2.0 asked for)" in collect_under(mujoco="3.2.0")


def test_a_process_that_dies_is_named_and_nothing_is_lost(tmp_path):
    env = EnvConfig(REACH, {"crash": 5})
    with pytest.raises(CollectionError, match="a collecting process died"):
        collect(env, CollectConfig(episodes=12, workers=2), tmp_path / "demos.h5")
    assert len(list((tmp_path / "demos.h5.partial").glob("*.h5"))) >= 2


def test_an_episode_holds_what_was_seen_before_each_action():
    env = make_env(EnvConfig(REACH))
    episode = run_expert(env, seed=4)
    first, _ = env.reset(seed=4)
    for name, x in episode.obs.items():
        np.testing.assert_array_equal(x[0], first[name])
    assert episode.actions.dtype == np.float32
    assert not episode.disturbed.any()
    assert len(episode.obs["tcp"]) == len(episode.actions)


def test_the_test_task_refuses_what_tasks_refuse():
    env: Any = make_env(EnvConfig(REACH))
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    with pytest.raises(ValueError, match="unit quaternion"):
        env.step(np.zeros(8, np.float32))


# A real collect in a process of its own, slow enough to be interrupted. Every attempt takes about 0.3 s.
SLOW = {"env": {"id": REACH, "kwargs": {**CLUMSY.kwargs, "pause": 0.012}}}


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    config = out.with_name("slow.yaml")
    config.write_text(json.dumps({**SLOW, "collect": {"episodes": 12, "disturbance": 0.2, "workers": 2}}))
    command = [sys.executable, "-m", "geoflow.cli", "collect", str(config), "--seed", "2", "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for_attempts(out: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if len(list(out.with_name(out.name + ".partial").glob("[0-9]*"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("no attempt was finished in 300 s")


def members(group: int) -> list[int]:
    """Processes of a process group that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def assert_group_ends(group: int) -> None:
    """Its processes end by themselves, though not in the same moment."""
    deadline = time.monotonic() + 20
    while members(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(group) == []


@pytest.mark.slow
def test_killed_and_continued_it_ends_in_the_same_file(reference, tmp_path):
    """kill -9 of the command alone, twice, at different moments; its processes must end by themselves."""
    out = tmp_path / "demos.h5"
    for count in (2, 7):
        process = start(out)
        wait_for_attempts(out, count)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert_group_ends(process.pid)
        assert not out.exists()
    before = len(list((tmp_path / "demos.h5.partial").glob("[0-9]*")))
    stdout, stderr = (process := start(out)).communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert before >= 7
    assert stdout.splitlines()[-1] == str(out)
    assert sorted(os.listdir(tmp_path)) == ["demos.h5", "demos.h5.json", "slow.yaml"]
    with Demonstrations(out) as found, Demonstrations(reference) as expected:
        assert found.meta.failures == expected.meta.failures
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.actions, b.actions)
            np.testing.assert_array_equal(a.disturbed, b.disturbed)
            np.testing.assert_array_equal(a.obs["tcp"], b.obs["tcp"])


@pytest.mark.slow
def test_ctrl_c_ends_in_one_sentence_and_leaves_no_process(tmp_path):
    out = tmp_path / "demos.h5"
    process = start(out)
    wait_for_attempts(out, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("geoflow: interrupted; the same command continues from the ")
    assert "Traceback" not in stderr
    assert_group_ends(process.pid)
    assert not out.exists()


@pytest.mark.slow
def test_ctrl_c_while_processes_begin_ends_in_one_sentence(tmp_path):
    """They import for seconds, and in that time know of no parent that answers for them."""
    out = tmp_path / "demos.h5"
    process = start(out)
    deadline = time.monotonic() + 300
    while len(members(process.pid)) < 3 and time.monotonic() < deadline:  # the command and two more
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.strip().splitlines()[-1].startswith("geoflow: interrupted; the same command continues")
    assert "Traceback" not in stderr
    assert_group_ends(process.pid)


@pytest.mark.slow
def test_without_room_it_ends_in_one_sentence(tmp_path):
    """A file may have a thousand bytes: as with a full disk, the first attempt cannot be written."""
    out = tmp_path / "demos.h5"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
    code = limit + "from geoflow.cli import main; main()"
    command = [sys.executable, "-c", code, "collect", "--env", REACH, "--episodes", "4", "--workers", "2"]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"geoflow: {out}.partial/")
    assert "File too large; choose another --out" in last
    assert "Traceback" not in done.stderr
    assert not out.exists()

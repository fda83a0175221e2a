"""Training: it learns, it resumes to the same weights bit for bit, and it refuses what does not fit."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.data.demonstrations import DemonstrationError, Demonstrations, write
from geoflow.experiments import training
from geoflow.experiments.config import Config, EnvConfig, TrainConfig
from geoflow.experiments.training import TrainingError, learning_rate, train
from geoflow.policies.checkpoint import CheckpointError
from geoflow.policies.config import PolicyConfig
from geoflow.policies.flow import FlowPolicy
from tests.walks import write_walks


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return write_walks(tmp_path_factory.mktemp("demos") / "walk.h5")


def small(demos, **changes):
    """A run of seconds."""
    settings = TrainConfig(
        demos=str(demos), steps=6, batch_size=32, warmup=2, log_every=1, checkpoint_every=2
    )
    policy = PolicyConfig(width=32, depth=1, horizon=8, execute=4)
    return Config(env=EnvConfig("tests/Walk-v0"), policy=policy, train=replace(settings, **changes))


def state(folder):
    path = folder / "training" / "state.safetensors"
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"]), load_file(path)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


CHILD = """
import json, sys
from pathlib import Path
from geoflow.experiments import training
from geoflow.experiments.config import Config, EnvConfig, TrainConfig
from geoflow.experiments.training import train
from geoflow.policies.config import PolicyConfig
c = json.loads(sys.argv[1])
config = Config(EnvConfig(**c["env"]), policy=PolicyConfig(**c["policy"]), train=TrainConfig(**c["train"]))
train(config, Path(sys.argv[2]), seed=3, device="cpu")
"""


def begin(config, out, until):
    """Train in a process of its own until ``until(out)``; the process."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(asdict(config)), str(out)])
    deadline = time.monotonic() + 120
    while not until(out) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flow", "ddpm"])
def test_a_killed_run_resumes_to_the_same_weights(demos, tmp_path, kind):
    """kill -9 in mid-training, then resume: parameters, average and optimiser equal an uninterrupted run's."""
    config = small(demos, steps=400, checkpoint_every=20)
    config = replace(config, policy=replace(config.policy, type=kind))
    process = begin(
        config, tmp_path / "parts", lambda out: (out / "training" / "state.safetensors").is_file()
    )
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    step, _ = state(tmp_path / "parts")
    assert 0 < step < 400
    train(config, tmp_path / "parts", seed=3, device="cpu")
    train(config, tmp_path / "whole", seed=3, device="cpu")
    assert_same(state(tmp_path / "parts")[1], state(tmp_path / "whole")[1])
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, 401))


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_weights(demos, tmp_path):
    """Broken off at step 4 and taken up again; and its losses are those of an eager run to rounding."""
    config = small(demos, compile=True)
    # The Euclidean flow, which compiles in seconds; tests/flows/test_compiled_loss.py has the others.
    config = replace(config, policy=replace(config.policy, manifold="Euclidean"))
    original = training._Run.save

    def break_off(self, policy, average, optimizer, step, seconds):
        original(self, policy, average, optimizer, step, seconds)
        if step == 4:
            raise RuntimeError("broken off")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Run, "save", break_off)
        with pytest.raises(RuntimeError, match="broken off"):
            train(config, tmp_path / "parts", seed=3, device="cpu")
    train(config, tmp_path / "parts", seed=3, device="cpu")
    train(config, tmp_path / "whole", seed=3, device="cpu")
    assert_same(state(tmp_path / "parts")[1], state(tmp_path / "whole")[1])
    config = replace(config, train=replace(config.train, compile=False))
    eager = train(config, tmp_path / "eager", seed=3, device="cpu")
    found, expected = (
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "whole", eager)
    )
    assert found == pytest.approx(expected, rel=1e-3)
    assert gf.load_policy(tmp_path / "whole").parameter_count > 0


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_first(demos, tmp_path):
    config = small(demos, steps=100_000, checkpoint_every=100_000)
    logged = lambda out: (out / "metrics.jsonl").is_file() and (out / "metrics.jsonl").stat().st_size > 0  # noqa: E731
    process = begin(config, tmp_path / "run", logged)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert state(tmp_path / "run")[0] > 0


def test_a_run_folder_is_a_checkpoint(demos, tmp_path):
    run = train(small(demos), tmp_path / "run", seed=1, device="cpu")
    policy = gf.load_policy(run)
    obs = {name: x[0] for name, x in Chunks(demos, 8).sample(1).obs.items()}
    assert policy.act(obs).shape == (8, 8)
    content = json.loads((run / "config.json").read_text())
    assert content["seed"] == 1
    assert content["parameters"] == policy.parameter_count
    assert "library_name: geoflow" in (run / "README.md").read_text()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_finished_run_is_left_alone(demos, tmp_path):
    run = train(small(demos), tmp_path / "run", device="cpu")
    before = (run / "model.safetensors").stat().st_mtime_ns
    train(small(demos), tmp_path / "run", device="cpu")
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_demonstrations_are_the_same_by_another_path(demos, tmp_path, monkeypatch):
    run = train(small(demos), tmp_path / "run", device="cpu")
    before = (run / "model.safetensors").stat().st_mtime_ns
    monkeypatch.chdir(demos.parent)
    train(small(Path(demos.name)), run, device="cpu")
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_with_other_settings_is_refused_by_name(demos, tmp_path):
    train(small(demos), tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.001 there, 0\.5 asked for"):
        train(small(demos, learning_rate=0.5), tmp_path / "run", device="cpu")


class Bursting(FlowPolicy):
    """Its loss is as it should be for four steps, and then no number."""

    steps = 0

    def chunk_loss(self, *what, **more):
        self.steps += 1
        loss = super().chunk_loss(*what, **more)
        return loss if self.steps <= 4 else loss * math.nan


@pytest.mark.parametrize(
    ("log_every", "checkpoint_every", "says"),
    [
        (
            1,
            2,
            r"step 5: the loss is nan; the checkpoint of step 4 is as it was\. .* smaller train.learning_rate",
        ),
        (100, 4, r"step 8: the sum of the weights is nan; the checkpoint of step 4"),
        (100, 100, r"step 100: the loss is nan; nothing was saved"),
    ],
)
def test_what_is_no_number_ends_a_run_before_it_is_saved(demos, tmp_path, log_every, checkpoint_every, says):
    config = small(demos, steps=100, log_every=log_every, checkpoint_every=checkpoint_every)
    config = replace(config, policy=replace(config.policy, type=f"{__name__}:Bursting"))
    with pytest.raises(TrainingError, match=says):
        train(config, tmp_path / "run", device="cpu")
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        assert math.isfinite(json.loads(line)["loss"])
    if checkpoint_every < 100:
        step, tensors = state(tmp_path / "run")
        assert step == 4
        for name, x in {**tensors, **load_file(tmp_path / "run" / "model.safetensors")}.items():
            assert x.isfinite().all(), name


def test_the_average_follows_the_weights(demos, tmp_path):
    """With decay 1 - n^-power the average is the recursion written out in float64."""
    config = small(demos, steps=5, checkpoint_every=1, ema_power=0.75)
    expected, trajectory = None, []
    original = training._Run.save

    def record(self, policy, average, optimizer, step, seconds):
        trajectory.append(policy.net.enter.weight.detach().double().clone())
        original(self, policy, average, optimizer, step, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Run, "save", record)
        run = train(config, tmp_path / "run", device="cpu")
    for n, weight in enumerate(trajectory):
        # The first two updates copy.
        decay = 0.0 if n < 2 else 1 - n**-0.75
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    assert expected is not None
    averaged = load_file(run / "model.safetensors")["net.enter.weight"].double()
    torch.testing.assert_close(averaged, expected, atol=1e-6, rtol=1e-5)


def test_schedule_warms_up_and_ends_at_zero():
    settings = TrainConfig(steps=100, warmup=10, learning_rate=2.0)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.slow
def test_a_policy_learns_the_walk(demos, tmp_path):
    """After a short training, chunks of a fresh walk are within a few centimetres of the true ones."""
    config = small(
        demos, steps=1500, batch_size=128, learning_rate=2e-3, checkpoint_every=1500, log_every=500
    )
    config = replace(config, policy=replace(config.policy, width=128, depth=2))
    policy = gf.load_policy(train(config, tmp_path / "run", device="cpu"))
    fresh = Chunks(write_walks(tmp_path / "fresh.h5", range(1000, 1010)), 8).sample(100)
    chunk = policy.act(fresh.obs, nfe=8, generator=torch.Generator().manual_seed(0))
    space = gf.SE3()
    error = space.distance(chunk[..., :7], fresh.actions[..., :7]).median()
    scale = space.distance(fresh.obs["tcp"], fresh.actions[..., :7]).median()
    assert error < 0.5 * scale


def test_windows_never_contain_a_disturbed_action(demos, tmp_path):
    """Chunks start only where the next T actions are the expert's own."""
    with Demonstrations(demos) as source:
        meta, episodes = source.meta, list(source)
    flags = np.zeros(len(episodes[0]), bool)
    flags[10:13] = True
    write(tmp_path / "d.h5", meta, [replace(e, disturbed=flags) for e in episodes[:3]])
    chunks = Chunks(tmp_path / "d.h5", 6)
    # Starts 0..4 end before step 10; starts 13..23 are after it (the end is padded).
    assert len(chunks) == 3 * (5 + 11)
    flags = np.ones(len(episodes[0]), bool)
    write(tmp_path / "e.h5", meta, [replace(e, disturbed=flags) for e in episodes[:3]])
    with pytest.raises(DemonstrationError, match="no window of 24 undisturbed actions"):
        Chunks(tmp_path / "e.h5", 24)


def test_windows_repeat_at_the_ends(demos):
    """Before the first observation the first is repeated, after the last action the last."""
    chunks = Chunks(demos, horizon=40, observation_steps=3)
    batch = chunks.batch(np.array([0]))
    assert torch.equal(batch.obs["tcp"][0, 0], batch.obs["tcp"][0, 2])
    assert torch.equal(batch.actions[0, 23], batch.actions[0, 39])
    assert not torch.equal(batch.actions[0, 22], batch.actions[0, 23])


def test_every_epoch_visits_every_window_once(demos):
    chunks = Chunks(demos, 8)
    n = len(chunks)
    seen = np.concatenate([chunks.shuffled(step, 32, 0) for step in range(math.ceil(2 * n / 32))])
    assert np.array_equal(np.sort(seen[:n]), np.arange(n))
    assert np.array_equal(np.sort(seen[n : 2 * n]), np.arange(n))
    assert not np.array_equal(seen[:n], seen[n : 2 * n])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "config.json").unlink(), "config.json is missing"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda run: (run / "config.json").write_text("{"), "not valid JSON"),
        (
            lambda run: (run / "config.json").write_text('{"model": "other"}'),
            "does not describe a geoflow policy",
        ),
        (lambda run: (run / "model.safetensors").write_bytes(b"abc"), "does not fit"),
        (lambda run: os.truncate(run / "model.safetensors", 2000), "does not fit"),
    ],
)
def test_a_broken_checkpoint_is_refused_in_a_sentence(demos, tmp_path, spoil, words):
    run = train(small(demos), tmp_path / "run", device="cpu")
    spoil(run)
    with pytest.raises(CheckpointError, match=words) as caught:
        gf.load_policy(run)
    assert "\n" not in str(caught.value)


def test_no_folder_and_no_hub_id_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        gf.load_policy(Path(tmp_path) / "nothing")


def test_demonstrations_of_another_task_are_refused(demos, tmp_path):
    config = replace(small(demos), env=EnvConfig("tests/Other-v0"))
    with pytest.raises(DemonstrationError, match=r"recorded in tests/Walk-v0, but tests/Other-v0"):
        train(config, tmp_path / "run", device="cpu")


@pytest.fixture
def afterwards_on_the_cpu():
    yield
    training._accelerator("cpu", "no")


@pytest.mark.usefixtures("afterwards_on_the_cpu")
def test_trainings_of_one_process_may_differ_in_device(monkeypatch):
    """Each is on the device asked for, its index too; where there is a launcher, that decides."""
    asked = ["cpu", "meta", "cuda:1", "cpu"]
    assert [str(training._accelerator(device, "no").device) for device in asked] == asked
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert str(training._accelerator("cuda:1", "no").device) == "cpu"


def test_a_run_says_where_it_was_trained_and_leaves_no_file_open(demos, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(training, "provenance", lambda device: {"hardware": f"a {device}"})
    monkeypatch.setattr(training.SummaryWriter, "close", lambda board: closed.append(board))
    run = train(small(demos), tmp_path / "run", device="cpu")
    assert json.loads((run / "config.json").read_text())["hardware"] == "a cpu"
    assert len(closed) == 1


def test_what_a_run_began_with_is_needed_once(demos, tmp_path):
    """From its first checkpoint on it holds all weights itself."""
    first = train(small(demos, steps=1), tmp_path / "first", device="cpu")
    config = small(demos, start=str(first))
    original = training._Run.save

    def break_off(self, *what):
        original(self, *what)
        raise RuntimeError("broken off")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Run, "save", break_off)
        with pytest.raises(RuntimeError, match="broken off"):
            train(config, tmp_path / "parts", device="cpu")
    train(config, tmp_path / "whole", device="cpu")
    shutil.rmtree(first)
    train(config, tmp_path / "parts", device="cpu")
    assert_same(state(tmp_path / "parts")[1], state(tmp_path / "whole")[1])


def test_trainings_of_one_process_may_differ_in_precision(demos, tmp_path):
    """accelerate keeps the first precision of a process; a training takes its own."""
    for i, precision in enumerate(("float32", "bfloat16", "float32")):
        run = train(small(demos, steps=1, precision=precision), tmp_path / str(i), device="cpu")
        assert json.loads((run / "config.json").read_text())["config"]["train"]["precision"] == precision
    first, last = (load_file(tmp_path / i / "model.safetensors") for i in ("0", "2"))
    assert_same(first, last)

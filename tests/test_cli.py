"""The command: help with defaults and an example, options that win over files, one sentence for what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoflow.cli import COMMANDS, main
from geoflow.data.demonstrations import Demonstrations, Meta, write
from geoflow.experiments.collection import run_expert
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env
from tests.walks import write_walks

ROOT = Path(__file__).parents[1]
REACH = "tests.reach_env:tests/Reach-v0"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `geoflow WORDS`, in this process."""
    try:
        main([str(word) for word in words])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def plain(text: str) -> str:
    """Without colours, boxes and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six demonstrations of the test task."""
    path = tmp_path_factory.mktemp("demos") / "reach.h5"
    env = make_env(EnvConfig(REACH))
    kinds = {"tcp": "pose", "gripper": "vector", "target": "pose"}
    write(path, Meta(REACH, {}, 20.0, kinds), (run_expert(env, seed) for seed in range(6)))
    return path


@pytest.fixture(scope="module")
def tiny(demos: Path) -> list[str]:
    """Options of a training of seconds."""
    options = {"demos": demos, "steps": 4, "batch-size": 8, "checkpoint-every": 2, "warmup": 1}
    words = [f"--train.{key}={value}" for key, value in options.items()]
    return [
        *words,
        "--policy.width=16",
        "--policy.depth=1",
        "--policy.horizon=8",
        "--policy.execute=4",
        "--env",
        REACH,
    ]


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "reach"
    main(["train", *tiny, "--out", str(out), "--device", "cpu"])
    return out


def test_help_lists_every_command(capsys):
    for words in ((), ("--help",), ("-h",)):
        code, out, _ = run(capsys, *words)
        assert code == 0
        for name, command in COMMANDS.items():
            assert re.search(rf"^  {name} +{command.summary}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example_and_defaults(capsys, name):
    code, out, _ = run(capsys, *name.split(), "--help")
    text = plain(out)
    assert code == 0
    assert COMMANDS[name].example in text
    assert COMMANDS[name].example.startswith(f"geoflow {name} ")
    assert name.startswith("data ") or "--out PATH" in text.replace("{None}|", "")
    assert name == "data info" or "(default: " in text


UNSEEDED = ("data info", "data convert", "compare", "export")
"""Nothing in them is drawn."""
SIMULATED = ("collect", "bench env", "view", "teleop")
"""The expert acts in a simulator, on processors."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in UNSEEDED])
def test_every_command_that_computes_has_a_seed_and_a_device(capsys, name):
    text = plain(run(capsys, *name.split(), "--help")[1])
    assert "--seed INT" in text
    assert name in SIMULATED or "--device STR" in text


def test_examples_use_options_that_exist(tmp_path, monkeypatch):
    """Each example is parsed as a user would type it, in the repository."""
    from geoflow.cli import _command, _parse

    monkeypatch.chdir(ROOT)
    for name, command in COMMANDS.items():
        words = command.example.split()[1:]
        assert _command(words) == (name, command)
        assert isinstance(_parse(name, command, words[len(name.split()) :]), command)


def test_version(capsys):
    import geoflow

    assert run(capsys, "--version") == (0, f"geoflow {geoflow.__version__}\n", "")


def test_help_starts_fast_enough_to_have_loaded_nothing():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "geoflow.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert " torch" not in done.stderr


def test_files_set_the_defaults_and_options_win(capsys, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "train: {steps: 77, batch_size: 5}\npolicy: {manifold: Euclidean}\nenv: {kwargs: {level: 2}}\n"
    )
    text = plain(run(capsys, "train", file, "--train.steps", 88, "--help")[1])
    assert "Batch" not in text
    assert re.search(r"--train.batch-size INT [^()]*\(default: 5\)", text)
    from geoflow.cli import _parse

    options = _parse(
        "train", COMMANDS["train"], [str(file), "--train.steps", "88", "--env-kwargs", "robot=panda"]
    )
    assert (options.train.steps, options.train.batch_size, options.policy.manifold) == (88, 5, "Euclidean")
    assert options.task.config().kwargs == {"level": 2, "robot": "panda"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["colect"], "unknown command 'colect'; did you mean collect?"),
        (["fly"], "unknown command 'fly'; known are demo, collect"),
        (["data"], "geoflow data needs one more word: data info, data convert."),
        (["data", "info", "nothing.h5"], "nothing.h5 does not exist; expected a demonstration file"),
        (["train", "nothing.yaml"], "nothing.yaml does not exist; expected a YAML file"),
        (["train", "--train.demos", "nothing.h5", "--device", "cpu"], "nothing.h5 does not exist"),
        (["train", "--device", "cuda:7"], "device 'cuda:7' is not here; use auto or one of cpu"),
        (["evaluate", "runs/nothing", "--device", "cpu"], "runs/nothing"),
        (["compare", "runs/nothing"], "runs/nothing"),
        (["collect", "--env", "tests.reach_env:tests/Rech-v0"], "Did you mean"),
        (["collect", "--env", "CartPole-v1"], "no env.unwrapped.expert"),
        (["collect", "--env-kwargs", "level"], "--env-kwargs level: expected name=value"),
        (["collect", "--env", REACH, "--env-kwargs", "levle=1"], "'levle'"),
        (["collect", "--env", REACH, "--episodes", "0"], "collect.episodes=0; it is at least 1."),
        (["collect", "--env", REACH, "--disturbance", "0.9"], "disturbance=0.9"),
        (["collect", "--env", REACH, "--seed", "100"], "seed=100; it lies between 0 and 99"),
        (["train", "--seed", "-1"], "seed=-1; it is 0 or more."),
        (["evaluate", "runs/x", "--workers", "-1"], "evaluate.workers=-1; it is at least 0."),
    ],
)
def test_what_a_user_can_mend_ends_in_one_sentence(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("geoflow: ")
    assert message in last
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.h5*"))


@pytest.mark.parametrize("text", ["train: {step: 5}", "train: {steps: many}", "train: [5"])
def test_a_bad_file_ends_in_one_sentence(capsys, tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    code, _, err = run(capsys, "train", tmp_path / "x.yaml")
    assert code == 2
    assert err.startswith(f"geoflow: {tmp_path}/x.yaml")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--train.steps", "0"], "train.steps=0; it is at least 1."),
        (["train", "--train.learning-rate", "nan"], "train.learning_rate=nan; it is at least 0."),
        (
            ["train", "--train.precision", "float8"],
            "train.precision='float8'; it is one of auto, float32, bfloat16.",
        ),
        (["train", "--policy.horizon", "0"], "policy.horizon=0; it is at least 1."),
        (["train", "--policy.execute", "17"], "policy.execute=17; a chunk has only policy.horizon=16 steps"),
        (["train", "--train.steps", "many"], "--train.steps: invalid literal for int() with base 10: 'many'"),
        (["evaluate"], "Missing from geoflow evaluate: RUN"),
    ],
)
def test_a_bad_option_is_named_in_a_box(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message in plain(err)
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_an_unknown_option_is_named(capsys):
    code, _, err = run(capsys, "train", "--train.stepz", "5")
    assert code == 2
    assert "--train.stepz" in plain(err)


@pytest.mark.parametrize("option", [["--debug"], []])
def test_debug_shows_where_it_was_raised(monkeypatch, option):
    if not option:
        monkeypatch.setenv("GEOFLOW_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        main(["data", "info", "nothing.h5", *option])


def test_collect_writes_the_file_and_ends_with_its_path(capsys, tmp_path):
    out = tmp_path / "demos.h5"
    words = [
        "collect",
        "--env",
        REACH,
        "--env-kwargs",
        "hold=3",
        "--episodes",
        3,
        "--workers",
        1,
        "--out",
        out,
    ]
    code, stdout, _ = run(capsys, *words, "--seed", 4)
    assert code == 0
    assert "hold: 3" in stdout
    assert "episodes: 3" in stdout
    assert re.search(r"3 demonstrations of \d+ steps from 3 attempts .* steps/s", stdout)
    assert stdout.splitlines()[-1] == str(out)
    with Demonstrations(out) as demonstrations:
        assert demonstrations.meta.env_kwargs == {"hold": 3}
        assert [episode.seed for episode in demonstrations] == [40_000, 40_001, 40_002]
    code, stdout, _ = run(capsys, *words, "--seed", 4)
    assert code == 0
    assert "complete already" in stdout


def test_data_info_describes(capsys, demos):
    code, stdout, _ = run(capsys, "data", "info", demos)
    assert code == 0
    assert REACH in stdout
    assert re.search(r"demonstrations +6,", stdout)


def test_train_evaluate_and_report(capsys, trained, tiny, tmp_path):
    assert {"config.json", "model.safetensors", "README.md"} <= set(os.listdir(trained))
    assert json.loads((trained / "config.json").read_text())["config"]["env"]["id"] == REACH
    code, stdout, _ = run(capsys, "train", *tiny, "--out", trained, "--device", "cpu")
    assert code == 0
    assert stdout.splitlines()[-1] == str(trained)
    code, stdout, err = run(
        capsys, "evaluate", trained, "--episodes", 2, "--nfe", 1, 2, "--workers", 1, "--device", "cpu",
        "--env-kwargs", "steps=5", "--out", tmp_path / "eval.json", "--seed", 1,
    )  # fmt: skip
    assert code == 0, err
    records = json.loads((tmp_path / "eval.json").read_text())["records"]
    assert [record["nfe"] for record in records] == [1, 2]
    assert {record["episodes"] for record in records} == {2}
    assert records[0]["env_kwargs"] == {"steps": 5}
    assert records[0]["episode_records"][0]["seed"] == 1_100_000


def test_an_export_measures_over_the_policys_own_task(capsys, trained, tmp_path):
    """Whatever is wrong with the demonstrations is said before anything is exported."""
    other = write_walks(tmp_path / "walks.h5", range(2))
    out = tmp_path / "out" / "policy.onnx"
    code, _, err = run(capsys, "export", trained, "--out", out, "--weights", "int8", "--demos", other)
    assert code == 2
    assert err.startswith(f"geoflow: {other} was recorded in tests/Walk-v0; give demonstrations of {REACH}")
    assert not out.parent.exists()


@pytest.mark.slow
def test_an_export_that_is_refused_ends_in_one_sentence(capsys, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("geoflow.policies.export.TOLERANCE", -1)
    code, _, err = run(capsys, "export", trained, "--out", tmp_path / "policy.pt2", "--nfe", 1)
    assert code == 2
    assert err.splitlines()[-1].startswith("geoflow: the exported graph differs from the policy by")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def interrupt(words: list[object], when: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Press Ctrl-C in `geoflow WORDS`, a process of its own, once ``when`` holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "geoflow.cli", *map(str, words)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300  # on a machine that has much else to do
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def assert_interrupted(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "geoflow: interrupted; the same command continues where it was."


@pytest.mark.slow
def test_ctrl_c_of_a_training_is_continued_by_the_same_command(capsys, tiny, tmp_path):
    out = tmp_path / "run"
    words = [
        "train",
        *tiny,
        "--train.steps=800",
        "--train.checkpoint-every=100",
        "--out",
        out,
        "--device",
        "cpu",
    ]
    assert_interrupted(interrupt(words, (out / "training" / "state.safetensors").exists))
    code, stdout, err = run(capsys, *words)
    assert code == 0, err
    assert stdout.splitlines()[-1] == str(out)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 800


@pytest.mark.slow
def test_ctrl_c_of_an_evaluation_is_continued_by_the_same_command(capsys, trained, tmp_path):
    out = tmp_path / "eval.json"
    words = [
        "evaluate",
        trained,
        "--episodes",
        40,
        "--nfe",
        1,
        2,
        "--workers",
        2,
        "--device",
        "cpu",
        "--out",
        out,
    ]
    words += ["--env-kwargs", "pause=0.02", "steps=20", "tolerance=0"]
    assert_interrupted(interrupt(words, out.exists))  # the file appears with the first of the two cells
    first = json.loads(out.read_text())["records"]
    assert len(first) == 1
    code, _, err = run(capsys, *words)
    assert code == 0, err
    records = json.loads(out.read_text())["records"]
    assert first[0] in records
    assert {record["nfe"] for record in records} == {1, 2}


def test_training_on_another_task_is_refused(capsys, demos, tiny, tmp_path):
    words = [word for word in tiny if word not in ("--env", REACH)]
    code, _, err = run(
        capsys, "train", *words, "--env", "my:Lab/Cup-v0", "--out", tmp_path / "run", "--device", "cpu"
    )
    assert code == 2
    assert f"{demos} was recorded in {REACH}, but my:Lab/Cup-v0 was asked for" in err


def test_a_damaged_training_is_not_continued(capsys, trained, tiny, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    state = out / "training" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    code, _, err = run(capsys, "train", *tiny, "--out", out, "--device", "cpu")
    assert code == 2
    assert err.strip().splitlines()[-1].startswith(f"geoflow: {state} is damaged")


@pytest.mark.parametrize(
    "option",
    [
        f"--policy.{x}"
        for x in ("type=foo", "manifold=SE4", "frame=gripper", "backbone=foo", "prior=foo", "solver=foo")
    ],
)
def test_an_unknown_part_of_a_policy_is_refused_before_training(capsys, tiny, tmp_path, option):
    code, _, err = run(capsys, "train", *tiny, option, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 2
    key, value = option.removeprefix("--").split("=")
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"geoflow: {key}={value!r}; it is ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bad", ["truncated", "nan"])
def test_training_on_a_bad_file_is_refused(capsys, demos, tiny, tmp_path, bad):
    path = tmp_path / "bad.h5"
    shutil.copy(demos, path)
    if bad == "truncated":
        path.write_bytes(path.read_bytes()[:4000])
    else:
        import h5py

        with h5py.File(path, "a") as file:
            file["data/demo_2/actions"][3, 1] = np.nan
    words = [*tiny, f"--train.demos={path}", "--out", tmp_path / "run", "--device", "cpu"]
    code, _, err = run(capsys, "train", *words)
    assert code == 2
    assert err.strip().splitlines()[-1].startswith(f"geoflow: {path}")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("where", ["file", "proc"])
def test_where_nothing_can_be_written_it_says_so(capsys, tmp_path, where):
    """Also for a superuser, whom no permission stops: a file in the way, and a system that has no such folder."""
    (tmp_path / "x").write_text("")
    out = {"file": tmp_path / "x" / "demos.h5", "proc": Path("/proc/demos/peg.h5")}[where]
    code, _, err = run(capsys, "collect", "--env", REACH, "--episodes", 1, "--workers", 1, "--out", out)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("geoflow: /")
    assert "choose another" in last or "a folder of the path is missing" in last


WITHOUT_PERMISSION = """
import os, sys
from geoflow.cli import main
folder, words = sys.argv[1], ["collect", "--env", {env!r}, "--episodes", "1", "--workers", "1", "--out"]
main([*words, folder + "/first.h5"])  # imports all that it needs, which another user may not be able to read
os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.setuid(65534)  # no permission stops the superuser
main([*words, folder + "/second.h5"])
"""


def test_without_permission_it_says_so():
    with tempfile.TemporaryDirectory() as folder:
        code = WITHOUT_PERMISSION.format(env=REACH)
        command = [sys.executable, "-c", code, folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        os.chmod(folder, 0o755)
        assert sorted(os.listdir(folder)) == ["first.h5", "first.h5.json"]
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"geoflow: {folder}/second.h5")
    assert "Permission denied; choose another --out" in last


@pytest.mark.parametrize(
    ("module", "words"), [("h5py", ["data", "info", "x.h5"]), ("gymnasium", ["collect"])]
)
def test_a_missing_extra_is_named_with_its_install_line(module, words):
    """A fresh interpreter in which the module cannot be imported, as in the light install."""
    code = f"import sys; sys.modules[{module!r}] = None; from geoflow.cli import main; main({words!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    extra = {"h5py": "train", "gymnasium": "sim"}[module]
    assert done.stderr.strip() == (
        f"geoflow: this command needs {module}; install it with: pip install 'geoflow[{extra}]'"
    )


def test_without_tyro_the_command_says_what_to_install():
    code = "import sys; sys.modules['tyro'] = None; import geoflow.cli"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "geoflow: the command needs tyro; install it with: pip install 'geoflow[all]'"
    )


def test_bench_measures_float32(capsys, tmp_path):
    out = tmp_path / "lie.json"
    code, stdout, _ = run(
        capsys, "bench", "lie", "--batch", 64, "--repeats", 2, "--out", out, "--device", "cpu"
    )
    assert code == 0
    assert stdout.splitlines()[-1] == str(out)
    records = json.loads(out.read_text())["records"]
    assert {record["operation"] for record in records} == {"exp", "log", "compose", "inverse", "geodesic"}
    assert all(0 < record["error"] < 1e-5 for record in records)

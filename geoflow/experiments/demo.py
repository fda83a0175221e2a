"""The demo: collect, train three policies, evaluate them on the same scenes, report. Interrupted, it continues."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

import geoflow
from geoflow.data.atomic import write_text
from geoflow.experiments.collection import Summary, collect
from geoflow.experiments.comparison import read_comparison
from geoflow.experiments.config import Config, ConfigError, load
from geoflow.experiments.devices import resolve_device
from geoflow.experiments.evaluation import evaluate, read_evaluation
from geoflow.experiments.json_files import read_json, write_json
from geoflow.experiments.report import render, take_pictures
from geoflow.experiments.stages import Stages
from geoflow.experiments.training import train

POLICIES = {"se3_flow": "SE(3) flow", "euclidean_flow": "Euclidean flow", "ddpm": "DDPM"}
FILM = "film rollouts, sample chunks"


def demo(
    out: Path | str = Path("runs/demo"),
    *,
    seed: int = 0,
    device: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    videos: bool = True,
) -> Path:
    """From nothing to a report that compares an SE(3) flow with its baselines.

    Settings are configs/env/demo.yaml and configs/policy/*.yaml. Each stage that is finished is skipped, one
    that was interrupted goes on where it was; time and memory of all stages stand in stages.json.

    Args:
        out: The folder of everything it makes.
        seed: Of demonstrations and trainings.
        device: auto, cpu, cuda, ...
        overrides: Settings to change, such as {"train.steps": 100, "evaluate.episodes": 10}.
        videos: Film rollouts, where OpenGL can be had.

    Returns:
        The path of the report.

    Raises:
        ConfigError: ``out`` holds a demo with other settings; the message says which.
        FileNotFoundError: the configuration files are not installed.
    """
    out, device = Path(out), resolve_device(device)
    changes = {"train.demos": str(out / "demonstrations.h5"), **(overrides or {})}
    folder = configs_folder()
    task = folder / "env" / "demo.yaml"
    configs = {name: load([task, folder / "policy" / f"{name}.yaml"], changes) for name in POLICIES}
    _agree(out / "settings.json", {"seed": seed, **{name: _settings(c) for name, c in configs.items()}})
    stages = Stages(out / "stages.json")

    common = next(iter(configs.values()))
    (demonstrations,) = common.train.files
    jobs = [
        _Job(
            f"collect {common.collect.episodes} demonstrations",
            demonstrations,
            lambda: _collection_speed(collect(common.env, common.collect, demonstrations, seed)),
        )
    ]
    for name, config in configs.items():
        run = out / name
        jobs.append(
            _Job(
                f"train {POLICIES[name]}",
                run,
                lambda c=config, r=run: _training_speed(train(c, r, seed, device)),
            )
        )
    for name, config in configs.items():
        run = out / name
        jobs.append(
            _Job(
                f"evaluate {POLICIES[name]}",
                run / "eval.json",
                lambda c=config.evaluate, r=run: _evaluation_speed(evaluate(r, c, device)),
            )
        )
    count = len(jobs) + 1
    for number, job in enumerate(jobs, 1):
        done = stages.finished(job.name) and job.result.exists()
        tqdm.write(f"[{number}/{count}] {job.name}{': done before' if done else ''}", file=sys.stderr)
        if not done:
            with stages.measure(job.name) as stage:
                stage.speed = job.work()

    report = out / "report.html"
    done = stages.finished(FILM) and report.exists()
    tqdm.write(f"[{count}/{count}] {FILM}{': done before' if done else ''}", file=sys.stderr)
    if not done:
        comparison = read_comparison([out / name for name in POLICIES])
        write_json(out / "comparison.json", list(comparison.records))
        with stages.measure(FILM):
            pictures = take_pictures(comparison, videos=videos)
        write_text(report, render(comparison, pictures, list(stages), [_command(out, seed)]))
    return report


def configs_folder() -> Path:
    """Where the YAML configurations are: in the checkout, or where the wheel has put them.

    Raises:
        FileNotFoundError: neither; the message names both places.
    """
    places = [
        Path(geoflow.__file__).parents[1] / "configs",
        Path(sys.prefix) / "share" / "geoflow" / "configs",
    ]
    for place in places:
        if (place / "env" / "demo.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"the demo's settings, env/demo.yaml, are neither in {places[0]} nor in {places[1]}; "
        "run it in a clone of the repository, or install the wheel with pip into an environment."
    )


@dataclass(frozen=True)
class _Job:
    """A stage: its name, what it makes, and the work, which returns its speed in words."""

    name: str
    result: Path
    work: Callable[[], str]


def _agree(path: Path, settings: dict[str, Any]) -> None:
    """Keep the settings of a demo, and refuse to mix two."""
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    before = _flat(read_json(path))
    now = _flat(settings)
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        words = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in differ[:3])
        raise ConfigError(
            f"{path.parent} holds a demo with other settings ({words}); choose another --out, or remove the folder."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _settings(config: Config) -> dict[str, Any]:
    """What decides the result; the number of processes does not."""
    values = asdict(config)
    for part in ("collect", "evaluate"):
        del values[part]["workers"]
    return values


def _collection_speed(summary: Summary) -> str:
    speed = summary.new_steps / max(summary.seconds, 1e-9)
    return f"{speed:,.0f} env steps/s, {summary.episodes} of {summary.attempts} attempts succeeded"


def _training_speed(run: Path) -> str:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return f"{statistics.median(json.loads(line)['samples_per_second'] for line in lines):,.0f} samples/s"


def _evaluation_speed(path: Path) -> str:
    """Over all cells and processes: what the machine does, not one process."""
    records = read_evaluation(path)
    seconds = sum(record["evaluate_seconds"] for record in records)
    steps = sum(record["mean_steps"] * record["episodes"] for record in records)
    return f"{steps / seconds:,.0f} env steps/s"


def _command(out: Path, seed: int) -> str:
    return f"geoflow demo --out {shlex.quote(str(out))} --seed {seed}"

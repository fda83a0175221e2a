"""Comparison: evaluations of several runs side by side, and in words what their intervals allow to say."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoflow.experiments.conclusions import Finding, Record, conclude
from geoflow.experiments.evaluation import read_evaluation
from geoflow.experiments.json_files import read_json
from geoflow.experiments.policy_names import policy_name
from geoflow.experiments.proportions import wilson_interval
from geoflow.policies.config import PolicyConfig

SEEDS_FOR_A_CLAIM = 3
EPISODES_FOR_A_CLAIM = 100
BUSY = 1.5
"""Processes a core beyond which a latency is doubtful."""

MANNER = {
    "execute": "{} steps of a chunk executed",
    "delay": "{} steps of delay",
    "manner": "{} execution",
    "ensemble": "ensemble {}",
    "warm_start": "warm start at {}",
    "candidates": "the likeliest of {} chunks",
    "disturbance": "{:.0%} of steps disturbed",
    "first_seed": "scenes from seed {}",
}
"""How a task was played, where it was played in several manners: results of two of them are not pooled."""


@dataclass(frozen=True)
class Run:
    """One training, evaluated.

    Attributes:
        folder: The run folder.
        policy: What a reader calls it; runs that differ in their seed alone share it.
        meta: Its config.json.
        metrics: Its metrics.jsonl, one dict a logged step.
        records: Its eval.json, one dict a cell.
    """

    folder: Path
    policy: str
    meta: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]
    records: Sequence[Record]

    @property
    def seed(self) -> int | None:
        """The training seed."""
        return self.meta.get("seed")


@dataclass(frozen=True)
class Comparison:
    """Everything a report says in numbers and words.

    Attributes:
        runs: The trainings.
        records: One dict a policy, task, solver and NFE; seeds pooled.
        findings: What may be concluded, by pair.
        caveats: Why it may be less than it seems: a smoke run, unequal treatment.
    """

    runs: Sequence[Run]
    records: Sequence[Record]
    findings: Sequence[Finding]
    caveats: Sequence[str]

    @property
    def policies(self) -> list[str]:
        """Names in the order given."""
        return list(dict.fromkeys(run.policy for run in self.runs))

    @property
    def tasks(self) -> list[str]:
        """Task names in the order met."""
        return list(dict.fromkeys(record["task"] for record in self.records))


def read_comparison(folders: Sequence[Path | str]) -> Comparison:
    """Read runs, pool seeds, and draw conclusions.

    Raises:
        ValueError: no runs, one that is given twice or copied, or that is not evaluated.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("no runs to compare; give run folders, such as runs/peg_se3 runs/peg_euclidean.")
    twice = [str(path) for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice; every run counts once.")
    runs = _named([_read_run(path) for path in paths])
    records = pool(runs)
    return Comparison(runs, records, conclude(records), caveats(runs, records))


def pool(runs: Sequence[Run]) -> list[Record]:
    """One record a policy, task, solver and NFE, over all its training seeds.

    Raises:
        ValueError: two of them are copies of one training, which would count twice.
    """
    records = [record for run in runs for record in run.records]
    manner = [key for key in MANNER if len({record[key] for record in records}) > 1]
    cells: dict[tuple[Any, ...], list[tuple[Run, Record]]] = {}
    for run in runs:
        for record in run.records:
            task = ", ".join([task_name(record), *(MANNER[key].format(record[key]) for key in manner)])
            cells.setdefault((task, run.policy, record["solver"], record["nfe"]), []).append((run, record))
    return [_pooled(task, policy, members) for (task, policy, *_), members in cells.items()]


def task_name(record: Mapping[str, Any]) -> str:
    """The task in words: its id without namespace, level, robot, what is grasped at the start."""
    name = record["env_id"].rsplit("/", 1)[-1]
    words = [f"level {record['level']}" if record.get("level") is not None else "", record.get("robot") or ""]
    words.append("peg in hand" if record.get("in_hand") else "")
    known = {"level", "robot", "in_hand"}
    words += [f"{key} {value}" for key, value in record["env_kwargs"].items() if key not in known]
    return ", ".join([name, *(word for word in words if word)])


def caveats(runs: Sequence[Run], records: Sequence[Record]) -> list[str]:
    """Why the numbers may mean less than they seem to: too few seeds or scenes, unequal treatment."""
    found = []
    seeds = min(len(set(record["seeds"])) for record in records)
    scenes = min(record["episodes"] // len(record["seeds"]) for record in records)
    if seeds < SEEDS_FOR_A_CLAIM or scenes < EPISODES_FOR_A_CLAIM:
        found.append(
            f"This is a smoke run: {_count(seeds, 'training seed')} a policy, {_count(scenes, 'scene')} each. "
            f"A claim needs at least {SEEDS_FOR_A_CLAIM} seeds and {EPISODES_FOR_A_CLAIM} scenes."
        )
    settings = {
        "demonstrations": lambda run: run.meta["config"]["train"]["demos"],
        "optimiser steps": lambda run: run.meta["config"]["train"]["steps"],
        "batch size": lambda run: run.meta["config"]["train"]["batch_size"],
        "learning rate": lambda run: run.meta["config"]["train"]["learning_rate"],
        "steps executed of a chunk": lambda run: _each(str(r["execute"]) for r in run.records),
        "scenes": lambda run: _each(f"{r['episodes']} from seed {r['first_seed']}" for r in run.records),
    }
    for what, value in settings.items():
        values = {run.policy: str(value(run)) for run in runs}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{policy} {value}" for policy, value in values.items())
            found.append(f"Not equal between the policies: {what} ({each}).")
    cells = [record for run in runs for record in run.records]
    busy = max((r["load"] / r["cores"] for r in cells if r.get("load") is not None), default=0.0)
    if busy > BUSY:
        found.append(
            f"Latency was measured on a busy machine, with up to {busy:.1f} processes a core: "
            "it is longer and varies more than it would alone."
        )
    sizes = {run.policy: run.records[0]["parameters"] for run in runs if run.records}
    if max(sizes.values()) > 1.05 * min(sizes.values()):
        each = ", ".join(f"{policy} {size:,}" for policy, size in sizes.items())
        found.append(f"The networks differ in size by more than 5 % ({each} parameters).")
    return found


def _each(values: Iterable[str]) -> str:
    """Different ones, in words."""
    return " and ".join(sorted(set(values)))


# Reading.


def _read_run(folder: Path) -> Run:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no run: it has no config.json; give folders of `geoflow train`.")
    meta = read_json(folder / "config.json")
    try:
        name = policy_name(PolicyConfig(**meta["config"]["policy"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} does not describe a geoflow policy ({error}).") from error
    records = read_evaluation(folder / "eval.json")
    if not records:
        raise ValueError(f"{folder / 'eval.json'} holds no result; `geoflow evaluate {folder}` continues it.")
    return Run(folder, name, meta, _read_metrics(folder / "metrics.jsonl"), records)


def _read_metrics(path: Path) -> list[dict[str, float]]:
    """Logged steps; a last line that a kill cut short is left out."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _named(runs: Sequence[Run]) -> list[Run]:
    """Runs whose policies differ in more than the seed get names that say in what."""
    settings = [_settings(run) for run in runs]
    named = []
    for run, own in zip(runs, settings, strict=True):
        namesakes = [s for other, s in zip(runs, settings, strict=True) if other.policy == run.policy]
        differ = [key for key, value in own.items() if any(s.get(key) != value for s in namesakes)]
        suffix = ", ".join(f"{key.split('.')[-1]} {own[key]}" for key in differ)
        name = f"{run.policy} ({suffix})" if suffix else run.policy
        named.append(Run(run.folder, name, run.meta, run.metrics, run.records))
    return named


def _settings(run: Run) -> dict[str, Any]:
    """What makes two runs the same policy: everything that is trained and on what, but for the seed."""
    config = run.meta["config"]
    silent = {"log_every", "checkpoint_every"}
    return {
        f"{part}.{key}": json.dumps(value) if isinstance(value, (dict, list)) else value
        for part in ("policy", "train", "env")
        for key, value in config.get(part, {}).items()
        if key not in silent
    }


# Pooling.


def _check_trainings(policy: str, members: Sequence[tuple[Run, Record]]) -> None:
    """Raise ValueError where two folders hold the same weights."""
    folders: dict[str, Path] = {}
    for run, record in members:
        other = folders.setdefault(record["weights"], run.folder)
        if other != run.folder:
            raise ValueError(
                f"{other} and {run.folder} hold the same weights of {policy}; give one of them: a training counts once."
            )


def _pooled(task: str, policy: str, members: Sequence[tuple[Run, Record]]) -> Record:
    _check_trainings(policy, members)
    records = [record for _, record in members]
    first = records[0]
    episodes = sum(record["episodes"] for record in records)
    successes = sum(record["successes"] for record in records)
    rates = [record["success_rate"] for record in records]
    low, high = wilson_interval(successes, episodes)
    seconds = [record["train_seconds"] for record in records if record["train_seconds"] is not None]
    alike = (
        "manifold",
        "frame",
        "nfe",
        "solver",
        "level",
        "robot",
        "in_hand",
        "env_id",
        "env_kwargs",
        "execute",
        "delay",
        "manner",
        "ensemble",
        "warm_start",
        "candidates",
        "disturbance",
    )
    alike += ("first_seed", "parameters", "device", "hardware", "commit", "versions")
    return {
        "policy": policy,
        "task": task,
        **{key: first.get(key) for key in alike},
        "episodes": episodes,
        "successes": successes,
        "success_rate": successes / episodes,
        "ci_low": low,
        "ci_high": high,
        "seeds": [run.seed for run, _ in members],
        "seed_rates": rates,
        "seed_spread": statistics.stdev(rates) if len(rates) > 1 else None,
        "latency_ms_median": statistics.median(record["latency_ms_median"] for record in records),
        "latency_ms_p95": max(record["latency_ms_p95"] for record in records),
        "train_seconds": statistics.fmean(seconds) if seconds else None,
        "mean_steps": sum(r["mean_steps"] * r["episodes"] for r in records) / episodes,
        "env_steps_per_second": statistics.fmean(record["env_steps_per_second"] for record in records),
        "chunks_per_second": statistics.fmean(record["chunks_per_second"] for record in records),
        "failures": dict(sum((Counter(record["failures"]) for record in records), Counter())),
        "modes": dict(sum((Counter(record["modes"]) for record in records), Counter())),
        "runs": [str(run.folder) for run, _ in members],
        "solved": [[e["seed"] for e in r["episode_records"] if e["success"]] for r in records],
    }


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"

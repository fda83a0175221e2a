"""Evaluation: success of a trained policy on held-out scenes, for each number of network evaluations."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from geoflow.experiments.config import EnvConfig, EvaluateConfig
from geoflow.experiments.devices import resolve_device
from geoflow.experiments.environments import knob, make_env
from geoflow.experiments.json_files import read_json, write_json
from geoflow.experiments.players import Game, Job, Played, play
from geoflow.experiments.policy_names import policy_name
from geoflow.experiments.progress import bar
from geoflow.experiments.proportions import wilson_interval
from geoflow.experiments.provenance import cores, provenance
from geoflow.experiments.rollout import BLOCK, Episode, Solver, check_env
from geoflow.experiments.smoothness import Jumps
from geoflow.policies.base import Policy
from geoflow.policies.checkpoint import CheckpointError, load_policy, policy_class
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution
from geoflow.policies.selection import check_density, likeliest

FORMAT, VERSION = "geoflow-evaluation", 1
LATENCY_CALLS = 50


def solvers(policy: PolicyConfig, nfe: tuple[int, ...]) -> list[Solver]:
    """The cells of an evaluation, as the policy's kind asks to be judged; see `Policy.cells`.

    Raises:
        ValueError: no nfe, one below 1, or none that the method can take.
    """
    if not nfe or min(nfe) < 1:
        raise ValueError(f"nfe={list(nfe)}; a chunk needs at least 1 evaluation; give such as 1 2 4 10.")
    counts = sorted(set(nfe))
    return [Solver(*cell) for cell in policy_class(policy.type).cells(policy, counts)]


def evaluate(
    run: Path | str,
    config: EvaluateConfig | None = None,
    device: str = "cpu",
    out: Path | str | None = None,
    env: EnvConfig | None = None,
    overwrite: bool = False,
) -> Path:
    """Roll a trained policy out on held-out scenes and keep every episode.

    A cell (nfe, solver) that is finished stays as it is, so an interrupted evaluation continues, and one with
    more nfe adds to it; cells of other weights are dropped. Results are the same for any number of processes.

    Args:
        run: The folder of a trained policy.
        config: How many scenes, which nfe; see `EvaluateConfig`.
        device: Where the network runs: cpu, cuda, or auto for a GPU if there is one. Latency is
            measured there too, on one processor thread.
        out: The JSON file; by default eval.json in the run's folder.
        env: Another env than the one trained on, such as a harder level; another task or robot needs
            ``config.transfer``.
        overwrite: Redo finished cells.

    Returns:
        The path of the JSON file.

    Raises:
        CheckpointError: the folder is no trained policy.
        ValueError: unknown env, one that the policy does not fit, nfe below 1, execute too long.
    """
    run, config = Path(run), config or EvaluateConfig()
    device = resolve_device(device)
    policy = load_policy(run, device)
    weights = _fingerprint(run / "model.safetensors")
    meta = read_json(run / "config.json")
    env = env or trained_env(meta)
    execution = _execution(config, policy)
    identity = _identities(policy, config, env, weights)
    path = _path(run, out)
    records = _finished(path, weights)
    enough = [_identity(record) for record in records if record["episodes"] >= config.episodes]
    todo = [cell for cell in identity if overwrite or identity[cell] not in enough]
    if not todo:
        tqdm.write(f"{path} holds all that was asked for; --overwrite does it again.")
        return path
    with _one_thread():
        probe = make_env(env)
        try:
            check_env(probe, policy, env, transfer=config.transfer)
            latency = {cell: measure_latency(policy, probe, cell, execution) for cell in todo}
            facts = _policy_facts(policy, meta, run, env) | _task_facts(probe, env)
            _check_writable(path.parent)
        finally:
            probe.close()
        facts |= {"device": device, "cores": cores(), "load": _load(), **provenance(device)}
        for cell, episodes, cost in _play(
            Game(str(run), device, env, execution, config.disturbance), todo, config
        ):
            record = facts | asdict(identity[cell]) | latency[cell] | cost | summary(episodes)
            record["episode_records"] = [asdict(episode) for episode in episodes]
            records = [old for old in records if _identity(old) != identity[cell]] + [record]
            write_json(path, {"format": FORMAT, "version": VERSION, "records": records})
    return path


def trained_env(
    meta: Mapping[str, Any], name: str = "", changes: Mapping[str, Any] | None = None
) -> EnvConfig:
    """The task that a policy was trained on, made as for its demonstrations; or another.

    Args:
        meta: The run's config.json.
        name: Which of several tasks, or another one; the one it was trained on by default.
        changes: What is made otherwise.

    Raises:
        ValueError: it was trained on several, and there is no name.
    """
    tasks = {task["env_id"].rpartition(":")[2]: task for task in reversed(meta["spec"].get("tasks", ()))}
    if not name and len(tasks) > 1:
        known = ", ".join(sorted(task["env_id"] for task in tasks.values()))
        raise ValueError(f"this policy was trained on several tasks; say which with --env: {known}.")
    env = meta["config"].get("env", {})
    own = EnvConfig(env.get("id", meta["spec"]["env_id"]), env.get("kwargs", {}))
    name = name or own.id
    made = dict(tasks.get(name.rpartition(":")[2], {"env_kwargs": {}})["env_kwargs"])
    if len(tasks) <= 1 and name.rpartition(":")[2] == own.id.rpartition(":")[2]:
        made |= own.kwargs
    return EnvConfig(name, made | dict(changes or {}))


def read_evaluation(path: Path) -> list[dict[str, Any]]:
    """The records of an evaluation file.

    Raises:
        ValueError: the file is missing, or is of another format.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; make it with `geoflow evaluate {path.parent}`.")
    content = read_json(path)
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path} is no evaluation; make one with `geoflow evaluate {path.parent}`.")
    # Files from before there were delays say only how many steps were executed.
    before = {"disturbance": 0.0}
    return [asdict(Execution(record["execute"])) | before | record for record in content["records"]]


def read_asked(
    run: Path | str, config: EvaluateConfig, out: Path | str | None = None, env: EnvConfig | None = None
) -> list[dict[str, Any]]:
    """What `evaluate` was asked for with the same arguments; its file may hold other scenes, manners and envs too.

    Raises:
        CheckpointError: the folder is no trained policy.
        ValueError: it was not evaluated.
    """
    run = Path(run)
    policy = load_policy(run)
    env = env or trained_env(read_json(run / "config.json"))
    asked = _identities(policy, config, env, _fingerprint(run / "model.safetensors")).values()
    return [record for record in read_evaluation(_path(run, out)) if _identity(record) in asked]


def summary(episodes: list[Episode]) -> dict[str, Any]:
    """Success with its 95 % interval, failure kinds, modes and steps."""
    successes = sum(episode.success for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "ci_low": low,
        "ci_high": high,
        "mean_steps": statistics.fmean(episode.steps for episode in episodes),
        "failures": dict(Counter(episode.failure for episode in episodes if not episode.success)),
        "modes": {str(mode): n for mode, n in sorted(Counter(e.mode for e in episodes if e.success).items())},
    }


def measure_latency(
    policy: Policy, env: Any, cell: Solver, execution: Execution, calls: int = LATENCY_CALLS
) -> dict[str, float]:
    """Time from one observation to one chunk in ms: median and 95th percentile over ``calls`` calls.

    Where an execution goes on with the last chunk, so do the chunks that are timed.
    """
    obs, _ = env.reset(seed=0)
    steps = policy.config.observation_steps
    window = {name: torch.as_tensor(value)[None].repeat_interleave(steps, 0) for name, value in obs.items()}
    options: dict[str, Any] = {"nfe": cell.nfe, "solver": cell.name}
    last = policy.act(window, **options).cpu()
    onward = execution.onward(last[execution.execute :], execution.delay)
    times = []
    for _ in range(calls + 5):
        begin = time.perf_counter()
        if execution.candidates > 1:
            likeliest(policy, window, execution.candidates, **options).cpu()
        else:
            policy.act(window, onward=onward, **options).cpu()
        times.append(1e3 * (time.perf_counter() - begin))
    times = times[5:]  # the first calls allocate
    return {
        "latency_ms_median": statistics.median(times),
        "latency_ms_p95": statistics.quantiles(times, n=20)[-1],
        "latency_calls": calls,
    }


@dataclass(frozen=True)
class _Identity:
    """What makes two cells the same measurement."""

    nfe: int
    solver: str
    env_id: str
    env_kwargs: dict[str, Any]
    execute: int
    delay: int
    manner: str
    ensemble: float | None
    warm_start: float | None
    candidates: int
    disturbance: float
    first_seed: int
    weights: str


def _play(
    game: Game, cells: list[Solver], config: EvaluateConfig
) -> Iterator[tuple[Solver, list[Episode], dict[str, Any]]]:
    """Every cell's episodes, cost and jumps, as cells finish; blocks of scenes go to whichever process is free."""
    seeds = tuple(range(config.first_seed, config.first_seed + config.episodes))
    blocks = [seeds[i : i + BLOCK] for i in range(0, len(seeds), BLOCK)]
    jobs = [Job(cell, block) for cell in cells for block in blocks]
    done: dict[Solver, dict[int, Played]] = {cell: {} for cell in cells}
    workers = min(config.workers or cores(), len(jobs))
    begin, steps = time.perf_counter(), 0
    name = f"evaluate {Path(game.run).name}"
    with bar(total=len(cells) * len(seeds), desc=name, unit="episode") as progress:
        for index, played in play(game, jobs, workers):
            cell = jobs[index].solver
            done[cell][index] = played
            steps += played.steps
            rate = steps / (time.perf_counter() - begin)
            progress.set_postfix_str(f"{cell.name}, NFE {cell.nfe}, {rate:.0f} env steps/s", refresh=False)
            progress.update(len(played.episodes))
            if len(done[cell]) == len(blocks):
                parts = [done[cell][i] for i in sorted(done[cell])]
                yield cell, [e for part in parts for e in part.episodes], _results(parts, workers)


def _results(parts: list[Played], workers: int) -> dict[str, Any]:
    return {**_cost(parts, workers), "jumps": Jumps.together([part.jumps for part in parts]).summary()}


def _cost(parts: list[Played], workers: int) -> dict[str, float]:
    """Speed of one process: simulation and network together."""
    seconds = sum(part.seconds for part in parts)
    return {
        "env_steps_per_second": sum(part.steps for part in parts) / seconds,
        "chunks_per_second": sum(part.chunks for part in parts) / seconds,
        "evaluate_seconds": seconds / workers,
        "workers": workers,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: a chunk is too small to gain from more, and rollouts already use every core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identities(
    policy: Policy, config: EvaluateConfig, env: EnvConfig, weights: str
) -> dict[Solver, _Identity]:
    """The cells of an evaluation."""
    kwargs = json.loads(json.dumps(env.kwargs))  # as it will be read back: a tuple is a list in JSON
    how: dict[str, Any] = asdict(_execution(config, policy)) | {"disturbance": config.disturbance}
    how |= {"first_seed": config.first_seed, "weights": weights}
    cells = solvers(policy.config, config.nfe)
    return {cell: _Identity(cell.nfe, cell.name, env.id, kwargs, **how) for cell in cells}


def _path(run: Path, out: Path | str | None) -> Path:
    return Path(out) if out is not None else run / "eval.json"


# Facts of a record.


def _policy_facts(policy: Policy, meta: Mapping[str, Any], run: Path, env: EnvConfig) -> dict[str, Any]:
    known = not policy.spec.tasks or policy.spec.trained_on(env.id)
    return {
        "policy": policy_name(policy.config) + ("" if known else f", trained on {policy.spec.tasks[0].name}"),
        "run": str(run),
        "manifold": policy.config.manifold,
        "frame": policy.config.frame,
        "seed": meta.get("seed"),
        "train_seconds": meta.get("train_seconds"),
        "parameters": policy.parameter_count,
    }


def _task_facts(env: Any, config: EnvConfig) -> dict[str, Any]:
    """Knobs that many tasks have."""
    return {name: knob(env, config.kwargs, name) for name in ("level", "robot", "in_hand")}


def _execution(config: EvaluateConfig, policy: Policy) -> Execution:
    execute = config.execute or policy.config.execute
    execution = Execution(
        execute, config.delay, config.manner, config.ensemble, config.warm_start, config.candidates
    )
    execution.check(policy.config.horizon)
    policy.check_manner(execution.manner, execution.delay, execution.warm_start)
    if execution.candidates > 1:
        check_density(policy)
    return execution


def _fingerprint(weights: Path) -> str:
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing; an evaluation needs a run folder on this machine.")
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def _load() -> float | None:
    """Processes that wanted a core in the last minute, ours included; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _check_writable(folder: Path) -> None:
    """Raise OSError now rather than after the first cell."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))


def _finished(path: Path, weights: str) -> list[dict[str, Any]]:
    """Records of these very weights; the others are of a policy that is no more."""
    if not path.exists():
        return []
    return [record for record in read_evaluation(path) if record["weights"] == weights]


def _identity(record: Mapping[str, Any]) -> _Identity:
    return _Identity(**{name: record[name] for name in _Identity.__dataclass_fields__})

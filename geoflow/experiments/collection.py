"""Collection: the scripted expert acts, successful episodes become demonstrations, failures are counted.

Attempt i is reset with a seed of its own and leaves a file of its own in ``<out>.partial/``: the episode, or
why it failed. The demonstrations are the first successes in the order of attempts, so the result depends
neither on the number of processes nor on interruptions.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta, write
from geoflow.experiments.config import CollectConfig, EnvConfig, EvaluateConfig
from geoflow.experiments.disturbance import Disturbance
from geoflow.experiments.environments import arms_of, cameras_of, make_env, require_expert
from geoflow.experiments.processes import processes
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import cores, versions, write_provenance

SEEDS = 10_000
"""Seeds that belong to one --seed: attempt i of seed s is reset with s * SEEDS + i."""
PATIENCE = 100
"""Attempts beyond ten a demonstration after which an expert is taken to be broken."""
DECISIVE = ("geoflow", "mujoco")
"""Packages whose version decides what an attempt comes to; a collection is continued under these very versions."""


class CollectionError(ValueError):
    """Demonstrations cannot be collected so; the message says what would work."""


def scene_seed(seed: int, attempt: int) -> int:
    """What an attempt of a --seed is reset with.

    Raises:
        CollectionError: it would be a scene that is held out for evaluation, or one of another --seed.
    """
    most = EvaluateConfig.first_seed // SEEDS - 1
    if not 0 <= seed <= most:
        raise CollectionError(
            f"seed={seed}; it lies between 0 and {most}: attempt i is reset with seed * {SEEDS} + i, "
            f"and scenes from {EvaluateConfig.first_seed} on are held out for evaluation."
        )
    if attempt >= SEEDS:
        raise CollectionError(
            f"{attempt} attempts are done; one seed gives at most {SEEDS}: use another one, and another file."
        )
    return seed * SEEDS + attempt


@dataclass(frozen=True)
class Summary:
    """What a collection came to."""

    path: Path
    episodes: int
    attempts: int
    failures: dict[str, int]
    steps: int
    disturbed: int
    """Steps of them at which something else than the recorded action was executed."""
    seconds: float
    """Of this run; an earlier, interrupted one is not counted."""
    new_steps: int
    """Steps simulated in this run."""

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.failures.items()))
        text = f"{self.episodes} demonstrations of {self.steps} steps from {self.attempts} attempts"
        text += f" ({100 * self.episodes / max(self.attempts, 1):.1f} % succeeded"
        text += f"; failed: {kinds})" if kinds else ")"
        if self.disturbed:
            text += f", {100 * self.disturbed / self.steps:.0f} % of the steps disturbed"
        if self.new_steps:
            text += f"; {self.seconds:.1f} s, {self.new_steps / self.seconds:.0f} steps/s"
        return text


def collect(
    env: EnvConfig, config: CollectConfig, out: Path | str, seed: int = 0, *, overwrite: bool = False
) -> Summary:
    """Record successful episodes of the expert in a demonstration file.

    Interrupted at any moment, the same call continues; finished, it does nothing. The file is the same for
    any number of processes, and however often it was interrupted.

    Args:
        env: The task; its env must offer ``expert(choice, seed)``, ``observation_kinds`` and ``control_hz``.
        config: How many, how disturbed, in how many processes.
        out: The file, as in demos/peg.h5.
        seed: 0 to 99; attempt i is reset with seed * 10 000 + i, below the seeds of the evaluation.
        overwrite: Replace what ``out`` holds, once the new file is complete.

    Raises:
        CollectionError: ``out`` holds other demonstrations, the expert fails, the settings are wrong.
        ValueError: an unknown env, or one without an expert.
        OSError: no permission, or no space left.
        KeyboardInterrupt: on Ctrl-C; what was collected is kept.
    """
    out = Path(out)
    task = _Task(env, config.choice, config.disturbance, seed, _partial(out))
    meta = _check(task, config)
    if out.exists() and not overwrite:
        return _finished(out, meta)
    _begin(task.folder, meta, overwrite)
    run = _Run(task, config.episodes)
    begin = time.perf_counter()
    try:
        _attempt_all(run, config.workers or cores())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; the same command continues from the {len(run.done)} attempts in {task.folder}"
        ) from None
    seconds = time.perf_counter() - begin
    numbers, failures = run.result()
    attempts = len(numbers) + sum(failures.values())
    meta = replace(meta, attempts=attempts, failures=dict(sorted(failures.items())))
    write(out, meta, (_read(task.success(i)) for i in numbers))
    write_provenance(out, {"env": asdict(env), "collect": asdict(config), "seed": seed})
    shutil.rmtree(task.folder)
    return replace(_summary(out), seconds=seconds, new_steps=run.steps)


@dataclass(frozen=True)
class _Task:
    """What a worker process needs to know."""

    env: EnvConfig
    choice: str
    disturbance: float
    seed: int
    folder: Path

    def success(self, attempt: int) -> Path:
        """The episode of a successful attempt."""
        return self.folder / f"{attempt:05d}.h5"

    def failure(self, attempt: int) -> Path:
        """Why an attempt failed."""
        return self.folder / f"{attempt:05d}.json"


@dataclass(frozen=True)
class _Outcome:
    """One attempt: its failure kind ("" for success), and its steps."""

    failure: str
    steps: int


class _Run:
    """Which attempts are done, and whether they suffice."""

    def __init__(self, task: _Task, episodes: int) -> None:
        self.task, self.episodes = task, episodes
        self.done = {int(path.stem): _outcome(path) for path in sorted(task.folder.glob("[0-9]*"))}
        self.steps = 0
        self._given = set(self.done)

    def next(self) -> int | None:
        """The first attempt that is neither done nor given to a worker; None where the seeds are used up."""
        attempt = next((i for i in range(SEEDS) if i not in self._given), None)
        if attempt is not None:
            self._given.add(attempt)
        return attempt

    def add(self, attempt: int, outcome: _Outcome) -> None:
        """Count an attempt."""
        self.done[attempt] = outcome
        self.steps += outcome.steps

    def result(self) -> tuple[list[int], Counter[str]]:
        """The first successful attempts, as many as are wanted, and the failures before the last of them."""
        numbers: list[int] = []
        failures: Counter[str] = Counter()
        attempt = 0
        while attempt in self.done and len(numbers) < self.episodes:
            kind = self.done[attempt].failure
            if kind:
                failures[kind] += 1
            else:
                numbers.append(attempt)
            attempt += 1
        return numbers, failures

    def complete(self) -> bool:
        """Enough successes, and every attempt before the last of them is done.

        Raises:
            CollectionError: so many failed that the expert must be broken, or the seeds are used up.
        """
        numbers, failures = self.result()
        if len(numbers) == self.episodes:
            return True
        attempts = len(numbers) + sum(failures.values())
        if attempts >= min(10 * self.episodes + PATIENCE, SEEDS):
            kinds = ", ".join(f"{kind} {n}" for kind, n in failures.most_common())
            raise CollectionError(
                f"only {len(numbers)} of {attempts} attempts succeeded (failed: {kinds}), {self.episodes} "
                f"demonstrations were asked for; ask for fewer, for less disturbance or an easier task "
                f"(they are kept in {self.task.folder})."
            )
        return False


def _attempt_all(run: _Run, workers: int) -> None:
    """Run attempts in ``workers`` processes until they suffice."""
    if run.complete():
        return
    workers = min(workers, run.episodes)
    pending: dict[Future[_Outcome], int] = {}
    with (
        bar(total=run.episodes, initial=len(run.result()[0]), desc="collect", unit="episode") as progress,
        _attempts(run.task, workers) as submit,
    ):
        while not run.complete():
            # One attempt more than there are processes keeps all of them busy.
            while len(pending) <= workers and (attempt := run.next()) is not None:
                pending[submit(attempt)] = attempt
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                run.add(pending.pop(future), future.result())
            successes = sum(not outcome.failure for outcome in run.done.values())
            progress.set_postfix_str(
                f"{100 * successes / len(run.done):.1f} % of {len(run.done)} attempts succeeded",
                refresh=False,
            )
            progress.update(min(successes, run.episodes) - progress.n)


def _check(task: _Task, config: CollectConfig) -> Meta:
    """The description of the file to be, after checks that cost little."""
    scene_seed(task.seed, 0)
    if config.episodes > SEEDS:
        raise CollectionError(
            f"episodes={config.episodes}; one seed gives at most {SEEDS}: use several files."
        )
    if config.choice not in ("greedy", "random"):
        raise CollectionError(f"choice={config.choice!r}; the expert chooses greedy or random.")
    Disturbance(task.disturbance, np.random.default_rng())
    env = make_env(task.env)
    try:
        require_expert(env, task.env.id)
        base: Any = env.unwrapped
        settings = {"seed": task.seed, "choice": task.choice, "disturbance": task.disturbance}
        return Meta(
            env_id=task.env.id,
            env_kwargs=task.env.kwargs,
            control_hz=float(base.control_hz),
            observation_kinds=dict(base.observation_kinds),
            versions=versions(),
            settings=settings | {"episodes": config.episodes},
            arms=arms_of(env),
            cameras=cameras_of(env),
        )
    finally:
        env.close()


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _begin(folder: Path, meta: Meta, overwrite: bool) -> None:
    """Make the folder of attempts, or check that the one that is there was begun with the same settings."""
    note = folder / "settings.json"
    settings = json.loads(json.dumps(_decisive(asdict(meta))))
    if note.is_file():
        differences = _differences(_decisive(json.loads(note.read_text())), settings)
        if not differences:
            return
        if not overwrite:
            raise CollectionError(
                f"{folder} holds a collection that was begun with other settings ({differences}); give those "
                "to continue it, use --overwrite, or choose another --out."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(settings, indent=1) + "\n")


def _decisive(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What attempts depend on: the task, how it is played, and the versions of what simulates it.

    The number of demonstrations is free: attempts are the same for any.
    """
    return {
        "env_id": meta.get("env_id"),
        "env_kwargs": meta.get("env_kwargs"),
        "settings": {key: x for key, x in meta.get("settings", {}).items() if key != "episodes"},
        "versions": {name: meta.get("versions", {}).get(name) for name in DECISIVE},
    }


def _finished(out: Path, meta: Meta) -> Summary:
    """The summary of a file that is there already, if it is the one that was asked for."""
    try:
        with Demonstrations(out) as demonstrations:
            found = demonstrations.meta
    except DemonstrationError as error:
        raise CollectionError(f"{error} Use --overwrite to replace it, or choose another --out.") from error
    keys = ("env_id", "env_kwargs", "settings")
    # Through JSON, which the file's attributes have been through: there, a tuple is a list.
    old, new = (json.loads(json.dumps({key: getattr(m, key) for key in keys})) for m in (found, meta))
    differences = _differences(old, new)
    if differences:
        raise CollectionError(
            f"{out} was collected with other settings ({differences}); use --overwrite to replace it, or "
            "choose another --out."
        )
    return _summary(out)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """In words, "" where there are none."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b))
        else:
            found.append(f"{key} {a} there, {b} asked for")
    return "; ".join(found)


def _summary(out: Path) -> Summary:
    with Demonstrations(out) as demonstrations:
        meta = demonstrations.meta
        steps, disturbed = 0, 0
        for episode in demonstrations:
            steps += len(episode)
            disturbed += int(episode.disturbed.sum())
        return Summary(
            out,
            len(demonstrations),
            meta.attempts,
            dict(meta.failures),
            steps,
            disturbed,
            seconds=0.0,
            new_steps=0,
        )


def _read(path: Path) -> Episode:
    with Demonstrations(path) as attempt:
        return attempt[0]


def _outcome(path: Path) -> _Outcome:
    if path.suffix == ".json":
        return _Outcome(**json.loads(path.read_text()))
    return _Outcome("", len(_read(path)))


# Processes. Each holds one env for its whole life.

_worker: _Worker | None = None


class _Worker:
    def __init__(self, task: _Task) -> None:
        self._task = task
        self._env: gym.Env | None = None

    def attempt(self, attempt: int) -> _Outcome:
        """Run an attempt and leave its file."""
        task = self._task
        self._env = self._env or make_env(task.env)
        episode = run_expert(self._env, scene_seed(task.seed, attempt), task.choice, task.disturbance)
        outcome = _Outcome(episode.failure, len(episode))
        if episode.success:
            base: Any = self._env.unwrapped
            kinds = dict(base.observation_kinds)
            arms = arms_of(self._env)
            meta = Meta(task.env.id, task.env.kwargs, float(base.control_hz), kinds, arms=arms)
            write(task.success(attempt), meta, [episode])
        else:
            write_text(task.failure(attempt), json.dumps(asdict(outcome)))
        return outcome

    def close(self) -> None:
        if self._env is not None:
            self._env.close()


@contextmanager
def _attempts(task: _Task, count: int) -> Iterator[Callable[[int], Future[_Outcome]]]:
    """A function that runs an attempt: in this process for a count of one, else in a pool.

    Its processes have one thread each. They may be stopped at any time: files are written whole or not at all.
    """
    if count == 1:
        worker = _Worker(task)
        try:
            yield lambda attempt: _done(worker.attempt(attempt))
        finally:
            worker.close()
        return
    try:
        with processes(count, _start_worker, task) as pool:
            yield lambda attempt: pool.submit(_attempt_in_worker, attempt)
    except BrokenProcessPool as error:
        raise CollectionError(
            "a collecting process died, perhaps for want of memory; the same command continues, with "
            "fewer --workers if need be."
        ) from error


def _done(outcome: _Outcome) -> Future[_Outcome]:
    future: Future[_Outcome] = Future()
    future.set_result(outcome)
    return future


def _start_worker(task: _Task) -> None:
    global _worker
    _worker = _Worker(task)


def _attempt_in_worker(attempt: int) -> _Outcome:
    assert _worker is not None
    return _worker.attempt(attempt)


def run_expert(env: gym.Env, seed: int, choice: str = "random", disturbance: float = 0.0) -> Episode:
    """One episode of the expert: what it saw and asked for at every step, whatever came of it.

    Args:
        env: A task with ``expert``, ``observation_kinds``.
        seed: Of the scene, the expert's choices and the disturbances.
        choice: greedy or random.
        disturbance: Share of steps at which something else than the expert's action is executed.
    """
    base: Any = env.unwrapped
    noise = Disturbance(disturbance, np.random.default_rng([seed, 1]), arms_of(env))
    observation, _ = env.reset(seed=seed)
    expert = base.expert(choice=choice, seed=seed)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in base.observation_kinds}
    actions, disturbed = [], []
    info: dict[str, Any] = {}
    over = False
    while not over:
        action = np.asarray(expert.act(), np.float32)
        executed, differs = noise.apply(action)
        for name, values in seen.items():
            values.append(np.array(observation[name]))
        actions.append(action)
        disturbed.append(differs)
        observation, _, terminated, truncated, info = env.step(executed)
        over = terminated or truncated
    success = bool(info.get("is_success", False))
    return Episode(
        obs={name: np.stack(values) for name, values in seen.items()},
        actions=np.stack(actions),
        disturbed=np.array(disturbed),
        seed=seed,
        success=success,
        failure="" if success else str(info.get("failure") or "unnamed"),
    )

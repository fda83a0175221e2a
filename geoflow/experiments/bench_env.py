"""Cost of a task against raw `mj_step` of the same model: env steps, expert, reset, observation, frame, demonstrations.

Times are CPU seconds of this process, which a busy machine stretches little. The physics is timed on the very
states that the episodes pass through, with the controls held, so both sides solve the same contacts.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import Episode, Meta, write
from geoflow.experiments.collection import run_expert
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import arms_of, make_env, require_expert
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.experiments.task_names import known_tasks, task_id

GOALS: dict[str, tuple[str, float]] = {
    "share_of_physics": (">=", 0.60),
    "times_real_time": (">=", 50.0),
    "reset_ms_median": ("<=", 5.0),
    "frame_ms": ("<=", 4.0),
    "cpu_minutes_per_1000": ("<=", 4.0),
}
"""Figure -> what it should be."""
FRAME = 84
"""Pixels a side of the timed frame."""
KEEP = 5
"""Of so many steps, one has its state kept."""


@dataclass(frozen=True)
class Cost:
    """What a task costs with one robot; milliseconds and seconds of CPU time.

    Attributes:
        task: The gymnasium id.
        robot: The embodiment, "" where the task has one.
        level: The rung of the task's ladder.
        episodes: Of the expert, drawn at random among the ways, as collection does.
        successes: How many of them succeeded.
        steps: Of all episodes.
        physics_steps_per_s: Control steps a second of nothing but `mj_step`.
        env_steps_per_s: Control steps a second of `env.step`: controller, physics, observation, rules.
        share_of_physics: The second over the first.
        times_real_time: Simulated time over the CPU time of `env.step` and `expert.act`.
        act_ms: One action of the expert, with what recording it takes.
        reset_ms_median: One reset, rejected scenes included.
        reset_ms_p95: The same, 95th percentile.
        observe_ms: One observation of poses.
        frame_ms: One observation with an image of `FRAME` pixels; None where there is no OpenGL.
        cpu_minutes_per_1000: To collect and write 1000 demonstrations, failed attempts included; None without any.
        time_in_physics: Part of the time of `env.step` that is `mj_step` itself. An arm that moves costs the solver
            more than the same states with the controls held, so this exceeds `share_of_physics`.
    """

    task: str
    robot: str
    level: int
    episodes: int
    successes: int
    steps: int
    physics_steps_per_s: float
    env_steps_per_s: float
    share_of_physics: float
    times_real_time: float
    act_ms: float
    reset_ms_median: float
    reset_ms_p95: float
    observe_ms: float
    frame_ms: float | None
    cpu_minutes_per_1000: float | None
    time_in_physics: float | None = None

    def missed(self) -> list[str]:
        """The figures that miss their goals."""
        values = asdict(self)
        return [
            name
            for name, (sign, goal) in GOALS.items()
            if values[name] is not None and (values[name] < goal if sign == ">=" else values[name] > goal)
        ]


def bench_env(
    out: Path,
    tasks: Sequence[str] = (),
    robots: Sequence[str] = ("free", "panda"),
    level: int = 1,
    episodes: int = 20,
    resets: int = 50,
    seed: int = 0,
    frames: bool = True,
) -> Path:
    """Measure tasks, print a table and write it as JSON with its provenance, after each task.

    Args:
        out: The JSON file.
        tasks: Short names or ids; all tasks of geoflow by default.
        robots: Those of them that a task takes.
        level: The rung of the ladder.
        episodes: Played by the expert.
        resets: Timed.
        seed: Of the first scene.
        frames: Render too.

    Raises:
        ValueError: an unknown task, one without an expert or without MuJoCo, numbers below 1.
    """
    if episodes < 1 or resets < 1:
        raise ValueError(f"episodes={episodes}, resets={resets}; both are 1 or more.")
    names = [task_id(name) for name in tasks] or list(known_tasks().values())
    costs: list[Cost] = []
    print(_header())
    for name in bar(names, desc="bench env", unit="task"):
        for kwargs in _settings(name, robots, level):
            costs.append(measure(EnvConfig(name, kwargs), episodes, resets, seed, frames))
            print(_row(costs[-1]), flush=True)
            goals = {figure: f"{sign} {goal:g}" for figure, (sign, goal) in GOALS.items()}
            records = [asdict(cost) | {"missed": cost.missed()} for cost in costs]
            content = {**provenance(), "seed": seed, "resets": resets, "goals": goals, "records": records}
            write_text(out, json.dumps(content, indent=1) + "\n")
    print(
        "! misses its goal: " + ", ".join(f"{name} {sign} {goal:g}" for name, (sign, goal) in GOALS.items())
    )
    return out


def measure(env: EnvConfig, episodes: int, resets: int, seed: int = 0, frames: bool = True) -> Cost:
    """The cost of one task in one setting.

    Raises:
        ValueError: the task has no expert, or no MuJoCo model.
    """
    made = Clocked(make_env(env))
    require_expert(made, env.id)
    base: Any = made.unwrapped
    try:
        _require_model(base, env.id)
        made.reset(seed=seed)  # what is built on first use
        made.step(base.expert().act())
        made.forget()
        played, total = [], 0.0
        with tempfile.TemporaryDirectory() as folder:
            kinds = dict(base.observation_kinds)
            meta = Meta(env.id, env.kwargs, float(base.control_hz), kinds, arms=arms_of(made))
            for attempt in range(episodes):
                begin = time.process_time()
                played.append(_collect(made, seed + attempt, Path(folder) / "demo.h5", meta))
                total += time.process_time() - begin - made.unclocked
                made.unclocked = 0.0
        steps, successes = sum(map(len, played)), sum(episode.success for episode in played)
        stepping, resetting = sum(made.steps), sum(made.resets)
        physics = sum(_physics(base, state) for state in made.states) / len(made.states)
        observe = 1000 * _observe(made, 200)
        acting = total - stepping - resetting
        for attempt in range(episodes, resets):
            made.reset(seed=seed + attempt)
        return Cost(
            task=env.id.partition(":")[2] or env.id,
            robot=str(env.kwargs.get("robot", "")),
            level=int(env.kwargs.get("level", 0)),
            episodes=episodes,
            successes=successes,
            steps=steps,
            physics_steps_per_s=1 / physics,
            env_steps_per_s=steps / stepping,
            share_of_physics=physics * steps / stepping,
            times_real_time=steps / base.control_hz / (stepping + acting),
            act_ms=1000 * acting / steps,
            reset_ms_median=1000 * float(np.median(made.resets)),
            reset_ms_p95=1000 * float(np.percentile(made.resets, 95)),
            observe_ms=observe,
            frame_ms=_frame(env, seed) if frames else None,
            cpu_minutes_per_1000=1000 * total / successes / 60 if successes else None,
            time_in_physics=sum(made.inside) / sum(made.steps[::KEEP]),
        )
    finally:
        made.close()


class Clocked(gym.Wrapper):
    """Keeps the CPU seconds of every reset and step; of every fifth step its state and its time in `mj_step`."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.resets: list[float] = []
        self.steps: list[float] = []
        self.states: list[np.ndarray] = []
        self.inside: list[float] = []
        self.unclocked = 0.0
        """CPU seconds that this wrapper took itself."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, by the clock."""
        begin = time.process_time()
        result = self.env.reset(**kwargs)
        self.resets.append(time.process_time() - begin)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, by the clock."""
        begin = time.process_time()
        kept = len(self.steps) % KEEP == 0
        if kept:
            self.states.append(_state(self.unwrapped))
        with _physics_clock() if kept else nullcontext([]) as inside:
            middle = time.process_time()
            result = self.env.step(action)
            self.steps.append(time.process_time() - middle)
        if kept:
            self.inside.append(sum(inside))
        self.unclocked += middle - begin
        return result


@contextmanager
def _physics_clock() -> Iterator[list[float]]:
    """The CPU seconds of each call of `mujoco.mj_step` while it lasts."""
    import mujoco

    seconds: list[float] = []
    step = mujoco.mj_step  # pyright: ignore[reportAttributeAccessIssue]

    def timed(*args: Any, **kwargs: Any) -> None:
        begin = time.process_time()
        step(*args, **kwargs)
        seconds.append(time.process_time() - begin)

    mujoco.mj_step = timed  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield seconds
    finally:
        mujoco.mj_step = step  # pyright: ignore[reportAttributeAccessIssue]


def _collect(env: gym.Env, seed: int, path: Path, meta: Meta) -> Episode:
    """One attempt, as `collect` makes it."""
    episode = run_expert(env, seed)
    if episode.success:
        write(path, meta, [episode])
    return episode


def _require_model(base: Any, name: str) -> None:
    if not hasattr(base, "model") or not hasattr(base, "data"):
        raise ValueError(
            f"env {name!r} has no env.unwrapped.model and .data of MuJoCo, whose raw speed it is compared with; "
            f"give one of {', '.join(known_tasks())}."
        )


def _state(base: Any) -> np.ndarray:
    """All that a physics step starts from: positions, velocities, controls, mocap poses, warm start."""
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION  # pyright: ignore[reportAttributeAccessIssue]
    state = np.empty(mujoco.mj_stateSize(base.model, kind))  # pyright: ignore[reportAttributeAccessIssue]
    mujoco.mj_getState(base.model, base.data, state, kind)  # pyright: ignore[reportAttributeAccessIssue]
    return state


def _physics(base: Any, state: np.ndarray) -> float:
    """CPU seconds of one control step of nothing but physics."""
    import mujoco

    substeps = round(1 / (base.control_hz * base.model.opt.timestep))
    kind = mujoco.mjtState.mjSTATE_INTEGRATION  # pyright: ignore[reportAttributeAccessIssue]
    mujoco.mj_setState(base.model, base.data, state, kind)  # pyright: ignore[reportAttributeAccessIssue]
    begin = time.process_time()
    mujoco.mj_step(base.model, base.data, nstep=substeps)  # pyright: ignore[reportAttributeAccessIssue]
    return time.process_time() - begin


def _observe(env: gym.Env, times: int) -> float:
    """CPU seconds of one observation."""
    base: Any = env.unwrapped
    begin = time.process_time()
    for _ in range(times):
        base._observation()
    return (time.process_time() - begin) / times


def _frame(env: EnvConfig, seed: int) -> float | None:
    """CPU milliseconds of an observation with one small image; None where there is no OpenGL."""
    seeing = make_env(env, observations="pixels", cameras=("front",), image_size=FRAME)
    try:
        seeing.reset(seed=seed)
    except RuntimeError:
        return None
    else:
        return 1000 * _observe(seeing, 30)
    finally:
        seeing.close()


def _settings(name: str, wanted: Sequence[str], level: int) -> list[dict[str, Any]]:
    """What to make the task with: its level, and those of the wanted robots that it takes (else its first)."""
    env = make_env(EnvConfig(name))
    levels = {"level": level} if hasattr(env.unwrapped, "levels") else {}
    takes = list(getattr(env.unwrapped, "robots", ()))
    env.close()
    robots = [robot for robot in wanted if robot in takes] or takes[:1]
    return [levels | {"robot": robot} for robot in robots] or [levels]


_COLUMNS = (
    ("task", 24),
    ("robot", 6),
    ("mj_step/s", 10),
    ("env/s", 7),
    ("share", 7),
    ("inside", 7),
    ("x real", 7),
    ("act ms", 7),
    ("reset ms", 9),
    ("p95", 6),
    ("obs ms", 7),
    (f"{FRAME} px", 6),
    ("min/1000", 9),
    ("solved", 8),
)


def _header() -> str:
    return "".join(f"{name:<{w}}" if i < 2 else f"{name:>{w}}" for i, (name, w) in enumerate(_COLUMNS))


def _row(cost: Cost) -> str:
    missed = cost.missed()

    def cell(figure: str, form: str, scale: float = 1.0) -> str:
        value = getattr(cost, figure)
        return "-" if value is None else f"{scale * value:{form}}" + "!" * (figure in missed)

    cells = (
        cost.task.rpartition("/")[2].rpartition("-v")[0] or cost.task,
        cost.robot,
        cell("physics_steps_per_s", ".0f"),
        cell("env_steps_per_s", ".0f"),
        cell("share_of_physics", ".0f", 100) + " %",
        cell("time_in_physics", ".0f", 100) + " %",
        cell("times_real_time", ".0f"),
        cell("act_ms", ".2f"),
        cell("reset_ms_median", ".1f"),
        cell("reset_ms_p95", ".0f"),
        cell("observe_ms", ".3f"),
        cell("frame_ms", ".1f"),
        cell("cpu_minutes_per_1000", ".1f"),
        f"{cost.successes}/{cost.episodes}",
    )
    pairs = zip(cells, _COLUMNS, strict=True)
    return "".join(f"{text:<{w}}" if i < 2 else f"{text:>{w}}" for i, (text, (_, w)) in enumerate(pairs))

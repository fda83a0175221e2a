"""Adversarial actions against every task: each is refused with the state untouched, or leads to a valid state."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from geoflow_envs import TASKS, poses  # before MuJoCo: it chooses OpenGL
from geoflow_envs.robot import WORKSPACE

from geoflow.experiments.json_files import write_json

import mujoco  # isort: skip

Action = Any  # also what is none
BURST, LONG = 40, 120
"""Most actions of one attack before the next one is drawn; of one that begins with the expert."""
LIMITS = {
    "speed": 10.0,
    "spin": 300.0,
    "energy": 150.0,
    "hinge_excess": 0.1,
    "slide_excess": 0.005,
    "penetration": 0.01,
}
"""What a valid state does not exceed: speed [m/s] and spin [rad/s] of a body, kinetic energy [J], how far a joint is
beyond its range [rad, m], how deep geoms are in one another [m]."""
STEPS = 300  # of an episode at most, so that many end without success
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION


class BrokenError(AssertionError):
    """A task did not keep what it promises; the message says which action showed it."""


# What actions there are. An attack is made anew for each burst and yields one action a step, from the present state.


@dataclass(frozen=True)
class Victim:
    """A task under attack."""

    env: gym.Env
    rng: np.random.Generator

    @property
    def task(self) -> Any:
        """The task itself."""
        return self.env.unwrapped

    @property
    def tcps(self) -> np.ndarray:
        """Present TCP poses, one an arm (arms, 7)."""
        return np.reshape(self.task.robot.tcp(self.task.data), (-1, 7))

    def action(self, goals: np.ndarray, command: Any = 1.0) -> np.ndarray:
        """Poses (arms, 7), or one for all arms, and gripper commands as an action (8 arms,)."""
        arms = len(self.tcps)
        each = np.broadcast_to(goals, (arms, 7)).ravel()
        return np.concatenate([each, np.broadcast_to(command, arms)]).astype(np.float32)

    def rotation(self) -> np.ndarray:
        """A random unit quaternion."""
        drawn = self.rng.standard_normal(4)
        return drawn / np.linalg.norm(drawn)

    def things(self) -> list[np.ndarray]:
        """Present positions of all bodies that are not a hand's."""
        data, model = self.task.data, self.task.model
        names = [model.body(i).name for i in range(1, model.nbody)]
        return [
            data.body(name).xpos.copy() for name in names if not name.startswith(("hand", "link", "finger"))
        ]


def uniform(victim: Victim) -> Iterator[Action]:
    """Anything in the box."""
    while True:
        yield victim.env.action_space.sample()


def walk(victim: Victim) -> Iterator[Action]:
    """A random walk of the hand."""
    goals, commands = victim.tcps.copy(), 0.0
    while True:
        goals = np.array([poses.integrate(T, victim.rng.normal(0, 0.2, 3)) for T in goals])
        goals[:, :3] += victim.rng.normal(0, 0.03, goals[:, :3].shape)
        commands = np.clip(commands + victim.rng.normal(0, 0.5), -1, 1)
        yield victim.action(goals, commands)


def teleport(victim: Victim) -> Iterator[Action]:
    """Targets from one end of the world to the other, up to 1e30 m away or a denormal number off zero."""
    sizes = (1e-42, 1e-3, 1.0, 1e6, 1e30, 3e38)
    for step in count():
        position = (-1) ** step * victim.rng.choice(sizes, 3) * victim.rng.choice((-1, 1), 3)
        yield victim.action(
            np.append(position, victim.rotation()), victim.rng.choice((-3e38, -1, 1e-42, 1e30))
        )


def flips(victim: Victim) -> Iterator[Action]:
    """The other sign of the quaternion at each step, its norm anywhere from 0.9 to 1.1, half turns in between."""
    T = victim.tcps.copy()
    half_turn = victim.rng.random() < 0.5
    for step in count():
        goals = np.array([poses.integrate(each, (np.pi * (step % 2) * half_turn, 0, 0)) for each in T])
        goals[:, 3:] *= (-1) ** step * victim.rng.uniform(0.901, 1.099)
        yield victim.action(goals, 1.0)


def spin(victim: Victim) -> Iterator[Action]:
    """Round and round as fast as it goes, with what is in the hand."""
    axis = victim.rng.standard_normal(3)
    axis *= 3.0 / np.linalg.norm(axis)
    while True:
        yield victim.action(np.array([poses.integrate(T, axis) for T in victim.tcps]), 1.0)


def chatter(victim: Victim) -> Iterator[Action]:
    """The gripper open and shut at every step, on the way to a thing."""
    things = victim.things()
    goal = np.append(things[victim.rng.integers(len(things))], victim.rotation())
    for step in count():
        yield victim.action(goal, (-1.0) ** step)


def table(victim: Victim) -> Iterator[Action]:
    """Into the table at full speed, from wherever the hand is."""
    target = np.append(victim.rng.uniform(WORKSPACE[0], WORKSPACE[1]) * (1, 1, -1), victim.rotation())
    command = victim.rng.choice((-1.0, 1.0))
    while True:
        yield victim.action(target, command)


def ram(victim: Victim) -> Iterator[Action]:
    """Through a thing from one side and back, at full speed; the hand points anywhere."""
    things, q = victim.things(), victim.rotation()
    index, along = victim.rng.integers(len(things)), victim.rng.standard_normal(3)
    along *= 0.15 / np.linalg.norm(along)
    for step in count():
        through = victim.things()[index] + along * (-1) ** (step // 12)
        yield victim.action(np.append(through, q), 1.0)


def sabotage(victim: Victim) -> Iterator[Action]:
    """The expert, interrupted by random actions."""
    expert = victim.task.expert("random", int(victim.rng.integers(1 << 30)))
    while True:
        sample = victim.env.action_space.sample()
        yield sample if victim.rng.random() < 0.03 else expert.act()


def smash(victim: Victim) -> Iterator[Action]:
    """What the expert has come to hold, into a thing with the hand shut."""
    expert = victim.task.expert("random", int(victim.rng.integers(1 << 30)))
    for _ in range(victim.rng.integers(LONG)):
        yield expert.act()
    things = victim.things()
    target = things[victim.rng.integers(len(things))]
    while True:
        yield victim.action(np.array([np.append(target, T[3:]) for T in victim.tcps]), 1.0)


def nonsense(victim: Victim) -> Iterator[Action]:
    """What is no action at all."""
    rng = victim.rng
    spoils: tuple[Callable[[np.ndarray], Action], ...] = (
        lambda a: _with(a, rng.integers(len(a)), np.nan),
        lambda a: _with(a, rng.integers(len(a)), rng.choice((-np.inf, np.inf))),
        lambda a: a * np.nan,
        lambda a: _with(a, _quaternion(rng, a), 0.0),
        lambda a: _with(a, _quaternion(rng, a), a[_quaternion(rng, a)] * 1e-42),
        lambda a: _with(a, _quaternion(rng, a), 2.0),
        lambda a: _with(a, _quaternion(rng, a), np.float32(3e38)),
        lambda a: _with(a.astype(float), _quaternion(rng, a), 1e308),
        lambda a: a[:-1],
        lambda a: np.append(a, 0),
        lambda a: np.tile(a, (16, 1)),
        lambda a: a[None],
        lambda a: np.array([]),
        lambda a: float(a[0]),
        lambda a: None,
        lambda a: "forward",
        lambda a: ["x"] * len(a),
        lambda a: a.astype(str),
        lambda a: [None] * len(a),
        lambda a: [{}] * len(a),
        lambda a: [*a[:-1], [0.0, 1.0]],
        lambda a: a.astype(complex) + 1j,
        lambda a: {"tcp": a},
    )
    while True:
        yield spoils[rng.integers(len(spoils))](victim.env.action_space.sample())


def _with(action: np.ndarray, index: Any, value: Any) -> np.ndarray:
    spoiled = action.copy()
    spoiled[index] = value
    return spoiled


def _quaternion(rng: np.random.Generator, action: np.ndarray) -> slice:
    """Where one of the action's quaternions is."""
    start = 7 * int(rng.integers(len(action) // 8)) + 3
    return slice(start, start + 4)


ATTACKS = (uniform, walk, teleport, flips, spin, chatter, table, ram, sabotage, smash, nonsense)


# What must hold.


@dataclass
class Account:
    """What came of the actions; `most` holds the largest values of what `LIMITS` bounds."""

    actions: int = 0
    refused: int = 0
    episodes: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    most: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))


def stress(name: str, robot: str, actions: int, seed: int = 0, level: int = 1) -> Account:
    """So many actions against one task, bursts of one attack after another.

    Raises:
        BrokenError: an action that should have been refused was not, or changed the state; or a state, an observation
            or an end of an episode is not as it should be.
    """
    env = gym.make(
        f"geoflow_envs:{name}", disable_env_checker=True, robot=robot, level=level, max_episode_steps=STEPS
    )
    victim, account = Victim(env, np.random.default_rng([seed, level])), Account()
    env.action_space.seed(seed)
    env.reset(seed=seed)
    attack, left, how = iter(()), 0, ""
    while account.actions < actions:
        if not left:
            chosen = ATTACKS[victim.rng.integers(len(ATTACKS))]
            most = LONG if chosen in (sabotage, smash) else BURST
            attack, left, how = chosen(victim), int(victim.rng.integers(1, most)), chosen.__name__
        action, left = next(attack), left - 1
        account.actions += 1
        where = f"{name} {robot} level {level} seed {seed}, action {account.actions} ({how}): {action!r}"
        try:
            over = refused(env, action, account) if how == "nonsense" else stepped(env, action, account)
        except Exception as error:
            raise BrokenError(f"{where}: {error}") from error
        if over:
            account.episodes += 1
            attack, left = iter(()), 0
            env.reset()
    env.close()
    return account


def refused(env: gym.Env, action: Action, account: Account) -> bool:
    """The step raises ValueError and leaves every bit of the simulation, also the robot's target."""
    task: Any = env.unwrapped
    before = bits(task)
    try:
        env.step(action)
    except ValueError:
        account.refused += 1
    else:
        raise BrokenError("what is no action was taken for one")
    if bits(task) != before:
        raise BrokenError("a refused action changed the state")
    return False


def stepped(env: gym.Env, action: Action, account: Account) -> bool:
    """The step is taken and leads to a valid state; whether the episode is over."""
    task: Any = env.unwrapped
    began = task.data.time
    observation, reward, terminated, truncated, info = env.step(action)
    warned = bool(task.data.warning.number.any())
    over = terminated or truncated
    if warned:
        _check(terminated and info["failure"] == "physics", f"MuJoCo warned, and {info}")
    else:
        elapsed = task.data.time - began
        _check(abs(elapsed - 1 / task.control_hz) < 1e-6, f"{elapsed} s went by: a silent reset")
        _check_state(task, account)
    _check_observation(env, observation)
    _check(reward == float(info["is_success"]), f"reward {reward}, {info}")
    if info["is_success"]:
        _check(terminated and not info["failure"], f"a success that goes on or failed: {info}")
    elif over:
        _check(info["failure"] in task.failures, f"an end without a name: {info}")
    else:
        _check(info["failure"] == "", f"a failure that goes on: {info}")
    if over:
        account.ends[info["failure"] or "success"] += 1
    return over


def bits(task: Any) -> bytes:
    """All that the next step depends on."""
    state = np.empty(mujoco.mj_stateSize(task.model, PHYSICS))
    mujoco.mj_getState(task.model, task.data, state, PHYSICS)
    robots = getattr(task.robot, "hands", (task.robot,))
    kept = [np.concatenate([robot.target, getattr(robot, "angles", np.zeros(0))]) for robot in robots]
    return b"".join(x.tobytes() for x in (state, task.data.warning.number, *kept))


def _check_observation(env: gym.Env, observation: dict[str, np.ndarray]) -> None:
    task: Any = env.unwrapped
    for name, kind in task.observation_kinds.items():
        values = observation[name]
        _check(np.isfinite(values).all(), f"{name} is {values}")
        if kind == "pose":
            length = float(np.linalg.norm(values[3:]))
            _check(abs(length - 1) < 1e-5, f"{name} has a quaternion of norm {length}")
    _check(env.observation_space.contains(observation), f"outside its space: {observation}")


def _check_state(task: Any, account: Account) -> None:
    model, data = task.model, task.data
    _check(np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all(), "the state is not finite")
    mujoco.mj_energyVel(model, data)
    found = {
        "speed": np.linalg.norm(data.cvel[:, 3:], axis=1).max(),
        "spin": np.linalg.norm(data.cvel[:, :3], axis=1).max(),
        "energy": data.energy[1],
        "hinge_excess": excess(model, data, mujoco.mjtJoint.mjJNT_HINGE),
        "slide_excess": excess(model, data, mujoco.mjtJoint.mjJNT_SLIDE),
        "penetration": -min(data.contact.dist.min(initial=0.0), 0.0),
    }
    for key, value in found.items():
        account.most[key] = max(account.most[key], float(value))
        _check(value < LIMITS[key], f"{key} {value:.3g}, more than {LIMITS[key]:g}")


def excess(model: Any, data: Any, kind: Any) -> float:
    """How far the worst joint of a kind is beyond its range [rad or m]."""
    limited = np.flatnonzero((model.jnt_limited == 1) & (model.jnt_type == kind))
    at = data.qpos[model.jnt_qposadr[limited]]
    low, high = model.jnt_range[limited].T
    return float(np.maximum(low - at, at - high).max(initial=0.0))


def _check(holds: Any, otherwise: str) -> None:
    if not holds:
        raise BrokenError(otherwise)


# The report.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--actions", type=int, default=10_000, help="for each task and robot, a quarter a level"
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/stress.json"))
    options = parser.parse_args()
    report = {
        "command": f"python scripts/stress.py --actions {options.actions} --seed {options.seed}",
        "versions": {name: version(name) for name in ("mujoco", "gymnasium", "numpy")},
        "python": platform.python_version(),
        "limits": LIMITS,
        "attacks": {attack.__name__: attack.__doc__ for attack in ATTACKS},
    }
    for name in options.tasks:
        for robot in robots(name):
            record = run(name, robot, options.actions, options.seed)
            print(json.dumps(record), flush=True)
            write_json(options.out, report | {"records": extended(options.out, record)})
    print(options.out)


def extended(out: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of the other tasks and robots in a file, and this one, in the order of the tasks."""
    found = json.loads(out.read_text())["records"] if out.is_file() else []
    others = [x for x in found if (x["task"], x["robot"]) != (record["task"], record["robot"])]
    return sorted([*others, record], key=lambda x: (list(TASKS).index(x["task"]), x["robot"]))


def robots(name: str) -> tuple[str, ...]:
    """Those that a task takes."""
    env = gym.make(f"geoflow_envs:{name}", disable_env_checker=True)
    task: Any = env.unwrapped
    return tuple(task.robots)


def run(name: str, robot: str, actions: int, seed: int) -> dict[str, Any]:
    """The record of one task and robot, over all levels."""
    begin = time.process_time()
    accounts = [stress(name, robot, actions // 4, seed, level) for level in range(4)]
    ends = sum((account.ends for account in accounts), Counter())
    return {
        "task": name,
        "robot": robot,
        "actions": sum(account.actions for account in accounts),
        "refused": sum(account.refused for account in accounts),
        "episodes": sum(account.episodes for account in accounts),
        "ends": dict(sorted(ends.items())),
        "most": {key: round(max(account.most[key] for account in accounts), 4) for key in LIMITS},
        "seconds": round(time.process_time() - begin, 1),
    }


if __name__ == "__main__":
    main()

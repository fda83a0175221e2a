"""Keyboard teleoperation: keys move the pose that the hand is asked for, and what solves the task is recorded.

T_target <- (p + d, R Exp(omega)): translations along the world's axes, rotations about the hand's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from math import radians
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta, write
from geoflow.experiments.collection import scene_seed
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import arms_of, cameras_of, make_env
from geoflow.experiments.provenance import versions, write_provenance
from geoflow.experiments.screens import Marks, choose, open_screen
from geoflow.experiments.task_names import task_id
from geoflow.experiments.viewing import Beat
from geoflow.lie import so3

MOVES: dict[str, tuple[int, int]] = {
    "W": (0, 1),
    "S": (0, -1),
    "A": (1, 1),
    "D": (1, -1),
    "R": (2, 1),
    "F": (2, -1),
    "L": (3, 1),
    "J": (3, -1),
    "I": (4, 1),
    "K": (4, -1),
    "O": (5, 1),
    "U": (5, -1),
}
"""Key -> entry of (d, omega), and its sign."""
STEPS: dict[str, tuple[float, float]] = {
    "1": (0.002, radians(2)),
    "2": (0.01, radians(6)),
    "3": (0.03, radians(15)),
}
"""Key -> what one press moves [m], [rad]."""
GRIPPER, OTHER, SAVE, DISCARD, LEAVE = "G", "H", "enter", "backspace", "escape"
KEYS: dict[str, str] = {
    "W": "away from the base (+x)",
    "S": "to the base (-x)",
    "A": "left (+y)",
    "D": "right (-y)",
    "R": "up (+z)",
    "F": "down (-z)",
    "L": "turn about the hand's x",
    "J": "turn back about the hand's x",
    "I": "turn about the hand's y",
    "K": "turn back about the hand's y",
    "O": "turn about the hand's z",
    "U": "turn back about the hand's z",
    GRIPPER: "open or close the gripper",
    OTHER: "take the other hand, where there are two",
    "1": "fine steps: 2 mm, 2 degrees",
    "2": "medium steps: 10 mm, 6 degrees",
    "3": "coarse steps: 30 mm, 15 degrees",
    SAVE: "save the solved episode",
    DISCARD: "discard the episode",
    LEAVE: "leave",
}
"""Key -> what it does, in words."""
PATIENCE = 10
"""Control steps that go on after the last key; then time stands still, and nothing is recorded."""


class Hand:
    """The pose that the hand is asked for, and the gripper command: what keys change.

    Args:
        pose: Where it begins, (7,) in the world.
        low: Least position [m].
        high: Greatest position [m].
    """

    def __init__(self, pose: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.pose = np.asarray(pose, np.float64).copy()
        self._low, self._high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        self.gripper = -1.0
        self.step = STEPS["2"]

    def press(self, key: str) -> bool:
        """Do what a key means; whether it means anything to the hand."""
        if key in STEPS:
            self.step = STEPS[key]
        elif key == GRIPPER:
            self.gripper = -self.gripper
        elif key in MOVES:
            self._move(*MOVES[key])
        else:
            return False
        return True

    @property
    def action(self) -> np.ndarray:
        """The action of one hand (8,)."""
        return np.append(self.pose, self.gripper).astype(np.float32)

    def _move(self, entry: int, sign: int) -> None:
        metres, angle = self.step
        if entry < 3:
            self.pose[entry] += sign * metres
            self.pose[:3] = np.clip(self.pose[:3], self._low, self._high)
            return
        omega = torch.zeros(3, dtype=torch.float64)
        omega[entry - 3] = sign * angle
        turned = so3.compose(torch.from_numpy(self.pose[3:]), so3.exp(omega))
        self.pose[3:] = (turned / turned.norm()).numpy()  # thousands of turns must not drift


@dataclass(frozen=True)
class Step:
    """What was seen, and what was asked for then."""

    obs: dict[str, np.ndarray]
    action: np.ndarray


class Session:
    """One person at a keyboard in one env: a control step a tick while keys move the hand, episode after episode.

    Each episode ends solved (then `SAVE` keeps it, `DISCARD` does not) or failed (it is discarded).

    Args:
        env: A task whose observations "tcp", or "tcp_left" and "tcp_right", are its hands' poses, and whose actions
            are a pose for each hand, then a gripper command for each.
        takes: Where solved episodes go.
        seed: Of the first scene; the others follow, past those recorded already.
        name: Of the env, for errors.

    Raises:
        ValueError: an env with other observations or actions; a seed whose scenes are held out or used up.
    """

    def __init__(self, env: gym.Env, takes: Takes, seed: int, name: str) -> None:
        space: Any = env.action_space
        shapes = getattr(env.observation_space, "spaces", {})
        self._names = [key for key in ("tcp", "tcp_left", "tcp_right") if key in shapes]
        if not self._names or space.shape != (8 * len(self._names),):
            raise ValueError(
                f"env {name!r} takes actions of shape {space.shape} and observes {sorted(shapes)}; the keyboard moves "
                "hands: actions of a pose and a gripper command for each, and an observation tcp, or tcp_left and "
                "tcp_right."
            )
        self._env, self._takes, self._seed = env, takes, seed
        self._bounds = space.low[:3], space.high[:3]
        self.left = False
        self._begin("")

    @property
    def hand(self) -> Hand:
        """The one that keys move."""
        return self.hands[self._active]

    @property
    def action(self) -> np.ndarray:
        """The action: a pose for each hand, then a gripper command for each (8 hands,)."""
        poses, grippers = np.split(np.stack([hand.action for hand in self.hands]), [7], axis=1)
        return np.concatenate([poses.ravel(), grippers.ravel()])

    def tick(self, keys: Sequence[str]) -> None:
        """One beat: obey keys, and step the env unless it stands still."""
        for key in keys:
            self._obey(key)
        if self.solved or self._idle >= PATIENCE:
            return
        self._idle += 1
        self._steps.append(Step(self._obs, self.action))
        obs, _, terminated, truncated, info = self._env.step(self.action)
        self._obs = obs
        if bool(info.get("is_success", False)):
            self.solved = True
        elif terminated or truncated:
            failure = str(info.get("failure") or "unnamed")
            self._takes.fail(failure)
            self._begin(f"the episode ended: {failure.replace('_', ' ')}; a new one begins")

    @property
    def marks(self) -> Marks:
        """What to draw: the pose asked for, and how things stand."""
        gripper = "closed" if self.hand.gripper > 0 else "open"
        which = f"{self._names[self._active].removeprefix('tcp_')} hand, " if len(self.hands) > 1 else ""
        metres, angle = self.hand.step
        press = f"{1000 * metres:g} mm, {np.degrees(angle):.0f} deg"
        lines = [
            f"{len(self._takes)} saved in {self._takes.path}",
            f"{len(self._steps)} steps, {which}gripper {gripper}, a press is {press}",
            "solved: enter saves, backspace discards" if self.solved else self.note,
        ]
        return Marks(frame=self.hand.pose, text="\n".join(filter(None, lines)))

    def _obey(self, key: str) -> None:
        if key == LEAVE:
            self.left = True
        elif key == DISCARD:
            self._takes.fail("discarded")
            self._begin("discarded; a new episode begins")
        elif key == SAVE:
            if self.solved:
                self._takes.add(self._episode())
                self._begin("saved; a new episode begins")
            else:
                self.note = "not solved yet: only a solved episode is saved"
        elif key == OTHER:
            self._active = (self._active + 1) % len(self.hands)
        elif not self.solved and self.hand.press(key):
            self._idle, self.note = 0, ""

    def _begin(self, note: str) -> None:
        self.seed = scene_seed(self._seed, self._takes.attempts)
        self._obs, _ = self._env.reset(seed=self.seed)
        self._active = 0
        self.hands = [Hand(np.asarray(self._obs[name]), *self._bounds) for name in self._names]
        openings = np.ravel(self._obs.get("gripper", -np.ones(len(self.hands))))
        for hand, opening in zip(self.hands, openings, strict=True):
            hand.gripper = 1.0 if opening > -0.9 else -1.0  # what is in the hand stays there
        self._steps: list[Step] = []
        self.solved, self.note, self._idle = False, note, PATIENCE

    def _episode(self) -> Episode:
        actions = np.stack([step.action for step in self._steps])
        return Episode(
            obs={
                name: np.stack([np.asarray(s.obs[name]) for s in self._steps]) for name in self._takes.kinds
            },
            actions=actions,
            disturbed=np.zeros(len(actions), bool),
            seed=self.seed,
        )


class Takes:
    """The demonstration file that grows: written anew, whole, at each saved episode, so it can be left at any time.

    Raises:
        DemonstrationError: `path` holds demonstrations of another task, or made with other knobs.
    """

    def __init__(self, path: Path, meta: Meta) -> None:
        self.path, self._meta, self._count = path, meta, 0
        if path.exists():
            with Demonstrations(path) as found:
                _check_same(path, found.meta, meta)
                old = found.meta
                self._meta = replace(meta, attempts=old.attempts, failures=dict(old.failures))
                self._count = len(found)

    def __len__(self) -> int:
        return self._count

    @property
    def attempts(self) -> int:
        """Episodes begun and ended so far, in all sessions."""
        return self._meta.attempts

    @property
    def kinds(self) -> Mapping[str, str]:
        """Observation name -> kind."""
        return self._meta.observation_kinds

    def fail(self, kind: str) -> None:
        """Count an episode that is not kept; the file says so from the next saved one on."""
        failures = dict(self._meta.failures)
        failures[kind] = failures.get(kind, 0) + 1
        self._meta = replace(self._meta, attempts=self.attempts + 1, failures=failures)

    def add(self, episode: Episode) -> None:
        """Append an episode to the file."""
        self._meta = replace(self._meta, attempts=self.attempts + 1)
        if self._count:
            with Demonstrations(self.path) as old:
                write(self.path, self._meta, [*old, episode])
        else:
            write(self.path, self._meta, [episode])
        self._count += 1


def teleoperate(
    task: str,
    kwargs: Mapping[str, Any] | None = None,
    *,
    out: Path,
    screen: str = "auto",
    seed: int = 0,
    port: int = 8080,
) -> Path | None:
    """Let somebody do a task with the keyboard, and record what succeeds; called again, it adds to the file.

    Args:
        task: Short name or id.
        kwargs: What to make it with.
        out: The demonstration file.
        screen: auto, window or browser.
        seed: 0 to 99; scenes are reset with seed * 10 000 + attempt, as for collecting.
        port: Of the page in the browser.

    Returns:
        The file, if anything was saved.

    Raises:
        ValueError: an unknown task, one without hands, no screen; the file holds another task; a seed whose scenes
            are held out for evaluation.
    """
    kind = choose(screen)
    config = EnvConfig(task_id(task), dict(kwargs or {}))
    with closing(make_env(config)) as env:
        base: Any = env.unwrapped
        takes = Takes(out, _meta(config, env))
        session = Session(env, takes, seed, config.id)
        print("\n".join(f"  {key:<10} {meaning}" for key, meaning in KEYS.items()))
        with closing(open_screen(kind, env, config.id, port)) as shown:
            shown.offer(KEYS)
            beat = Beat(1 / float(base.control_hz))
            while shown.running and not session.left:
                session.tick(shown.keys())
                shown.show(session.marks)
                beat.wait()
    if not len(takes):
        return None
    write_provenance(out, {"env": asdict(config), "teleoperation": True, "seed": seed})
    return out


def _meta(config: EnvConfig, env: gym.Env) -> Meta:
    """What the file is to say of itself."""
    base: Any = env.unwrapped
    return Meta(
        env_id=config.id,
        env_kwargs=config.kwargs,
        control_hz=float(base.control_hz),
        observation_kinds=dict(base.observation_kinds),
        versions=versions(),
        settings={"source": "teleoperation"},
        arms=arms_of(env),
        cameras=cameras_of(env),
    )


def _check_same(path: Path, found: Meta, asked: Meta) -> None:
    found.expect(asked.env_id, asked.control_hz, str(path))
    for name in ("env_kwargs", "settings", "observation_kinds", "arms", "cameras"):
        old, new = getattr(found, name), getattr(asked, name)
        if old != new:
            raise DemonstrationError(
                f"{path} was recorded with {name} {old}, and this would be {new}; give the same, or choose "
                "another --out."
            )

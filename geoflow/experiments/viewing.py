"""Watching a task being done by its expert or by a trained policy: in a window, in a browser, or on film."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env, require_expert
from geoflow.experiments.rollout import FAILURES, check_env
from geoflow.experiments.screens import Marks, Screen, check_film, choose, open_screen
from geoflow.experiments.screens.film import FilmScreen
from geoflow.experiments.task_names import task_id
from geoflow.policies.base import Policy
from geoflow.policies.checkpoint import load_policy
from geoflow.policies.chunking import ChunkBroker

PAUSE = 0.8
"""Seconds between two episodes."""


class Actor(ABC):
    """Who plays: an action for an observation, and the chunk it is taken from, if there is one."""

    name: str
    chunk: np.ndarray | None = None

    @abstractmethod
    def begin(self, env: gym.Env, seed: int) -> None:
        """An episode begins."""

    @abstractmethod
    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """The next action (7 + k,)."""


class ExpertActor(Actor):
    """The task's scripted expert; `choice`: greedy or random."""

    name = "expert"

    def __init__(self, choice: str = "greedy") -> None:
        self._choice = choice

    def begin(self, env: gym.Env, seed: int) -> None:
        """A new expert, seeded like the scene."""
        base: Any = env.unwrapped
        self._expert = base.expert(self._choice, seed)

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """What the expert does in the simulation's present state."""
        return self._expert.act()


class PolicyActor(Actor):
    """A trained policy in receding horizon; `chunk` is the one being executed, from its present step on."""

    def __init__(self, policy: Policy, name: str, execute: int | None = None, nfe: int | None = None) -> None:
        self.name, self.policy = name, policy
        self._generator = torch.Generator()
        self._broker = ChunkBroker(policy, execute, nfe=nfe, generator=self._generator)

    def begin(self, env: gym.Env, seed: int) -> None:
        """Forget the last episode."""
        self._broker.reset()
        self._generator.manual_seed(seed)

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """The present step of the chunk; a new one is predicted when it is due."""
        action = self._broker.act(obs)
        self.chunk = self._broker.left[:, : 7 * self.policy.spec.arms]
        return action


def view(
    task: str,
    kwargs: Mapping[str, Any] | None = None,
    *,
    policy: Path | str | None = None,
    out: Path | None = None,
    screen: str = "auto",
    episodes: int = 0,
    seed: int = 0,
    speed: float = 1.0,
    camera: str = "front",
    size: tuple[int, int] = (640, 480),
    choice: str = "greedy",
    execute: int | None = None,
    nfe: int | None = None,
    device: str = "cpu",
    transfer: bool = False,
    port: int = 8080,
) -> Path | None:
    """Play episodes of a task where somebody can watch, and print how each ended.

    Args:
        task: Short name or id.
        kwargs: What to make it with; where a policy acts, what differs from how its demonstrations were made.
        policy: A run folder; the task's expert by default.
        out: A film to make, .mp4 or .gif, instead of a screen.
        screen: auto, window or browser.
        episodes: How many; 0 means one on film, and on a screen as many as are watched.
        seed: Of the first scene; the others follow.
        speed: 1 for real time.
        camera: Of a film.
        size: Width and height of a film.
        choice: Of the expert, greedy or random.
        execute: Steps of a chunk executed before the next; the policy's own by default.
        nfe: Network evaluations a chunk; the policy's own by default.
        device: Of the policy.
        transfer: Whether it may be another task or robot than the policy was trained on.
        port: Of the page in the browser.

    Returns:
        The film, if one was made.

    Raises:
        ValueError: an unknown task, no display and no viser, no OpenGL, a policy of another task.
    """
    if speed <= 0 or episodes < 0:
        raise ValueError(f"speed={speed}, episodes={episodes}; speed is above 0 and episodes 0 or more.")
    if out:
        check_film(out)
    kind = "" if out else choose(screen)
    config = EnvConfig(task_id(task), dict(kwargs or {}))
    actor = _actor(policy, choice, execute, nfe, device)
    if isinstance(actor, PolicyActor):
        known = actor.policy.spec.trained_on(config.id)[:1]
        config = replace(config, kwargs={**(known[0].env_kwargs if known else {}), **config.kwargs})
    with closing(_make(config, film=out is not None)) as env:
        if isinstance(actor, ExpertActor):
            require_expert(env, config.id)
        elif isinstance(actor, PolicyActor):
            check_env(env, actor.policy, config, transfer=transfer)
        film = FilmScreen(env, out, _camera(env, camera), size) if out else None
        with closing(film or open_screen(kind, env, config.id, port)) as shown:
            beat = Beat(0.0 if out else 1 / (_rate(env) * speed))
            count = 0
            while shown.running and (not (episodes or out) or count < max(episodes, 1)):
                ending = play(env, actor, shown, seed + count, beat)
                print(f"seed {seed + count}: {ending}", flush=True)
                count += 1
            return film.write() if film else None


def play(env: gym.Env, actor: Actor, screen: Screen, seed: int, beat: Beat) -> str:
    """One episode on a screen; how it ended, in words."""
    obs, info = env.reset(seed=seed)
    actor.begin(env, seed)
    steps, over = 0, False
    beat.begin()
    while screen.running and not over:
        action = actor.act(obs)
        screen.show(_marks(actor, obs, f"{actor.name}, seed {seed}\nstep {steps}"))
        obs, _, terminated, truncated, info = env.step(action)
        steps, over = steps + 1, terminated or truncated
        beat.wait()
    if not over:
        return f"left after {steps / _rate(env):.1f} s"
    ending = f"{_ending(info)} after {steps / _rate(env):.1f} s"
    screen.show(replace(_marks(actor, obs, f"{actor.name}, seed {seed}\n{ending}"), chunk=None))
    beat.pause(PAUSE)
    return ending


class Beat:
    """Keeps time: `wait` returns `period` seconds after the last; at once for a period of 0."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.begin()

    def begin(self) -> None:
        """Start counting now."""
        self._next = time.monotonic() + self.period

    def wait(self) -> None:
        """Until the next beat; one that is late is not caught up with."""
        early = self._next - time.monotonic()
        if early > 0:
            time.sleep(early)
        self._next += self.period if early > 0 else self.period - early

    def pause(self, seconds: float) -> None:
        """Stand still for so long, where time is kept at all."""
        if self.period:
            time.sleep(seconds)


def _actor(
    policy: Path | str | None, choice: str, execute: int | None, nfe: int | None, device: str
) -> Actor:
    if policy is None:
        if choice not in ("greedy", "random"):
            raise ValueError(f"choice={choice!r}; the expert chooses greedy or random.")
        return ExpertActor(choice)
    return PolicyActor(load_policy(policy, device), Path(policy).name, execute, nfe)


def _make(config: EnvConfig, film: bool) -> Any:
    """The env; one without a MuJoCo model must render its film itself."""
    env = make_env(config)
    if not film or hasattr(env.unwrapped, "model"):
        return env
    env.close()
    return make_env(config, render_mode="rgb_array")


def _camera(env: Any, name: str) -> str | int:
    """The camera of that name; -1, a free one, in a model without cameras."""
    model = getattr(env.unwrapped, "model", None)
    return name if model is None or model.ncam else -1


def _marks(actor: Actor, obs: Mapping[str, Any], text: str) -> Marks:
    """The chunk, or where there is none the hands: the observations called tcp, or tcp and a side."""
    if actor.chunk is not None:
        return Marks(None, actor.chunk, text)
    names = [name for name in obs if name.partition("_")[0] == "tcp"] if isinstance(obs, Mapping) else []
    return Marks(np.concatenate([obs[name] for name in names]) if names else None, text=text)


def _rate(env: Any) -> float:
    return float(getattr(env.unwrapped, "control_hz", env.metadata.get("render_fps", 20)))


def _ending(info: Mapping[str, Any]) -> str:
    if info.get("is_success", False):
        return "solved"
    failure = str(info.get("failure") or "unnamed")
    return FAILURES.get(failure, failure.replace("_", " "))

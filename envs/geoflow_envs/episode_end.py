"""The end of an episode: the task's own step limit, and the name of what went wrong."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit


class EpisodeEnd(gym.Wrapper, RecordConstructorArgs):
    """Truncates at `env.unwrapped.episode_steps` unless a TimeLimit was asked for, and reports the failure.

    `gym.make(..., max_episode_steps=N)` puts gymnasium's TimeLimit inside this wrapper; without it the
    limit is the task's own, which may depend on its knobs (-1, gymnasium's "no limit", means that too). When
    an episode ends without success, `info["failure"]` is set to `env.unwrapped.failure_kind()`.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env if _time_limited(env) else TimeLimit(env, env.unwrapped.episode_steps))  # type: ignore[attr-defined]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; names the failure at an end without success."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and not info["is_success"]:
            info["failure"] = self.env.unwrapped.failure_kind()  # type: ignore[attr-defined]
        return observation, reward, terminated, truncated, info


def _time_limited(env: gym.Env) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            return True
        env = env.env
    return False

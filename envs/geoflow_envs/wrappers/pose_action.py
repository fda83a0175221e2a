"""Environments seen through a convention: foreign ones that take our actions, and ours that take foreign ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike

from ..poses import Array
from ..spaces import PoseBox
from .convention import ActionConvention

REFERENCES = ("achieved", "desired")
TCP = str | Callable[[Any], ArrayLike]
"""Where the TCP pose (7,), x y z qw qx qy qz in our world, stands: an observation's key, or a function of the
observation."""


class _Translated(gym.Wrapper):
    """An env whose actions go through a convention; keeps the reference that deltas start from."""

    def __init__(self, env: gym.Env, convention: ActionConvention, tcp: TCP | None, reference: str) -> None:
        super().__init__(env)
        if not isinstance(convention, ActionConvention):
            raise ValueError(
                f"convention must be an ActionConvention, for example ActionConvention(rotation='rotvec'); "
                f"got {convention!r}."
            )
        if reference not in REFERENCES:
            raise ValueError(f"reference must be one of 'achieved', 'desired'; got {reference!r}.")
        if tcp is None and convention.delta:
            raise ValueError(
                "deltas start from the TCP pose: name it as tcp, a key of the observation or a function of it "
                "that returns x y z qw qx qy qz."
            )
        if isinstance(tcp, str) and (
            not isinstance(env.observation_space, gym.spaces.Dict) or tcp not in env.observation_space.spaces
        ):
            keys = getattr(env.observation_space, "spaces", {})
            raise ValueError(
                f"tcp={tcp!r} is no key of the env's observation; it has {', '.join(map(repr, keys)) or 'no keys'}."
            )
        self.convention, self.tcp, self.reference = convention, tcp, reference
        self._reference: Array | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the env; the reference is the TCP pose it starts with."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._observe(observation)
        return observation, info

    def _advance(self, action: Any, ours: Array) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Send an action that means our action `ours`, and set the next reference."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.reference == "desired":
            self._reference = ours[:7]
        else:
            self._observe(observation)
        return observation, reward, terminated, truncated, info

    def _observe(self, observation: Any) -> None:
        if self.tcp is None:
            return
        T = np.array(self.tcp(observation) if callable(self.tcp) else observation[self.tcp], dtype=np.float64)
        if T.shape != (7,) or not abs(np.linalg.norm(T[3:]) - 1) < 1e-2:
            raise ValueError(
                f"tcp must give a pose (7,), x y z qw qx qy qz with a unit quaternion (w first); got {T.tolist()}."
            )
        T[3:] /= np.linalg.norm(T[3:])
        self._reference = T


class PoseActionWrapper(_Translated):
    """A foreign env that takes our action: absolute TCP pose in the world (x y z qw qx qy qz) and extras.

    `convention` says what the env's own actions mean, `tcp` where its observation holds the TCP pose (needed for
    deltas). Deltas start from the `reference`: the TCP pose "achieved", or the one last "desired" (robosuite's
    `goal_update_mode`). `workspace`: corners of the box of positions that `action_space` samples from [m]. Actions
    outside of the env's own bounds are clipped to them, as every such env does itself or refuses. For example, an
    env with robosuite's OSC_POSE deltas (5 cm and 0.5 rad a unit, at most one unit an entry):

        osc = ActionConvention("rotvec", delta=True, position_scale=0.05, rotation_scale=0.5, limit=1.0)
        env = PoseActionWrapper(env, osc, tcp=lambda observation: ...)  # x y z qw qx qy qz of the TCP

    Raises ValueError where the env's action space does not have the convention's layout; a step raises it for
    what is no pose action, before anything moves.
    """

    def __init__(
        self,
        env: gym.Env,
        convention: ActionConvention,
        tcp: TCP | None = None,
        reference: str = "achieved",
        workspace: Sequence[Sequence[float]] = ((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0)),
    ) -> None:
        super().__init__(env, convention, tcp, reference)
        space = env.action_space
        if not isinstance(space, gym.spaces.Box) or space.shape != (convention.size,):
            raise ValueError(
                f"the convention has {convention.describe()}; the env's action space is {space}. Change rotation or "
                "extras (the entries after the pose, such as the gripper) until they agree."
            )
        self._foreign_space = space
        self.action_space = PoseBox(np.array(workspace[0]), np.array(workspace[1]), convention.extras)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step with our action (7 + extras,)."""
        ours = _checked(action, 7 + self.convention.extras)
        foreign = self.convention.to_foreign(ours, self._reference)
        foreign = np.clip(foreign, self._foreign_space.low, self._foreign_space.high)
        if self.reference == "desired":  # what the env was really told, if it was shortened or clipped
            ours = self.convention.from_foreign(foreign, self._reference)
        return self._advance(foreign.astype(self._foreign_space.dtype), ours)


class ForeignActionWrapper(_Translated):
    """One of our envs that takes foreign actions, for policies and devices that speak another convention."""

    def __init__(
        self, env: gym.Env, convention: ActionConvention, tcp: TCP | None = "tcp", reference: str = "achieved"
    ) -> None:
        super().__init__(env, convention, tcp, reference)
        size = 7 + convention.extras
        if not isinstance(env.action_space, gym.spaces.Box) or env.action_space.shape != (size,):
            raise ValueError(
                f"the env must take our actions, a Box of shape ({size},): x y z qw qx qy qz and "
                f"{convention.extras} extras; its action space is {env.action_space}."
            )
        low, high = convention.bounds()
        self.action_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step with a foreign action (size,)."""
        foreign = np.asarray(action, dtype=np.float64)
        if foreign.shape == (self.convention.size,) and not np.isfinite(foreign).all():
            raise ValueError(f"an action must be finite; got {foreign.tolist()}.")
        ours = self.convention.from_foreign(foreign, self._reference)
        return self._advance(ours.astype(np.float32), ours)


def _checked(action: ArrayLike, size: int) -> Array:
    """Our action with a unit quaternion; raises ValueError for what is none."""
    ours = np.array(action, dtype=np.float64)
    if ours.shape != (size,):
        raise ValueError(
            f"an action has shape ({size},): x y z qw qx qy qz and {size - 7} extras; got {ours.shape}."
        )
    if not np.isfinite(ours).all():
        raise ValueError(f"an action must be finite; got {ours.tolist()}.")
    length = float(np.linalg.norm(ours[3:7]))
    if not 0.9 <= length <= 1.1:
        raise ValueError(
            "the action's quaternion (qw qx qy qz, entries 3 to 6) must have a norm within [0.9, 1.1]; "
            f"got {length:.3g}. Normalise it first."
        )
    ours[3:7] /= length
    return ours

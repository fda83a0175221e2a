"""gym.make with errors that teach: the task of a configuration, and what geoflow asks of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from geoflow.experiments.config import EnvConfig


def make_env(env: EnvConfig, **kwargs: Any) -> gym.Env:
    """The task of a config.

    Raises:
        ValueError: an unknown id, with the ids that are close, an argument the task does not take, or a library
            that it needs.
    """
    try:
        return gym.make(env.id, disable_env_checker=True, **{**env.kwargs, **kwargs})
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(f"env {env.id!r} cannot be made: {error}") from error
    except (gym.error.Error, ImportError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"env {env.id!r} cannot be made: {reason}. Give the id of a gymnasium env, with its module in "
            "front if nothing imports it, such as geoflow_envs:geoflow/TiltedPegInsert-v0."
        ) from error
    except TypeError as error:
        reason = str(error).partition(" was raised from the environment creator")[0]
        raise ValueError(f"env {env.id!r} does not take {env.kwargs}: {reason}.") from error


def require_expert(env: gym.Env, name: str) -> None:
    """Raise ValueError where an env cannot give demonstrations, naming what it lacks."""
    base = env.unwrapped
    for attribute, what in (
        ("expert", "a method expert(choice, seed) -> object with .act() -> action"),
        ("observation_kinds", 'a dict such as {"tcp": "pose", "gripper": "vector"}'),
        ("control_hz", "its actions a second"),
    ):
        if not hasattr(base, attribute):
            raise ValueError(
                f"env {name!r} gives no demonstrations: it has no env.unwrapped.{attribute}; add {what}."
            )
    shape, arms = env.action_space.shape, arms_of(env)
    if shape is None or len(shape) != 1 or shape[0] < 7 * arms:
        layout = (
            "(7 + k,): x y z qw qx qy qz" if arms == 1 else f"({7 * arms} + k,): {arms} x (x y z qw qx qy qz)"
        )
        raise ValueError(f"env {name!r} takes actions of shape {shape}; expected {layout}, then extras.")


def arms_of(env: gym.Env) -> int:
    """Poses in an action of an env: its attribute ``arms``, or 1."""
    return int(getattr(env.unwrapped, "arms", 1))


def cameras_of(env: gym.Env) -> dict[str, list[float]]:
    """Where an env's cameras are, as `Meta.cameras` has it: its attribute ``camera_places``, or nothing."""
    return dict(getattr(env.unwrapped, "camera_places", {}))


def knob(env: gym.Env, kwargs: Mapping[str, Any], name: str) -> Any:
    """What an env made with ``kwargs`` has for an argument of its class, its default included; None where it has none.

    A config states only what differs from the task's own defaults.
    """
    parameters = inspect.signature(type(env.unwrapped)).parameters
    return kwargs.get(name, parameters[name].default) if name in parameters else None

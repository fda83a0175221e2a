"""Names of tasks as one types them, TiltedPegInsert, and the gymnasium ids that they stand for."""

from __future__ import annotations

import importlib
from difflib import get_close_matches

import gymnasium as gym

from geoflow.experiments.config import EnvConfig

PACKAGE, _, _ID = EnvConfig.id.partition(":")
NAMESPACE = _ID.partition("/")[0]


def known_tasks() -> dict[str, str]:
    """Short name -> id that gym.make takes without another import, in the order of registration.

    Raises:
        ModuleNotFoundError: the tasks, or MuJoCo, are not installed.
    """
    importlib.import_module(PACKAGE)
    return {
        spec.name: f"{PACKAGE}:{spec.id}" for spec in gym.registry.values() if spec.namespace == NAMESPACE
    }


def task_id(name: str) -> str:
    """The id of a task that is given by its short name or by an id; an id that names its module is taken as it is.

    Raises:
        ValueError: nobody knows it; the message guesses and lists.
    """
    if ":" in name:
        return name
    known = known_tasks()
    ids = {full.partition(":")[2]: full for full in known.values()}
    if name in known or name in ids:
        return known.get(name) or ids[name]
    if name in gym.registry:
        return name
    lower = {word.lower(): word for word in (*known, *ids)}
    close = [lower[word] for word in get_close_matches(name.lower(), lower, 1, 0.5)]
    guess = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown task {name!r}; {guess}Known are {', '.join(known)}; or give the id of a gymnasium env "
        "with its module, as in my_lab.envs:Lab/Peg-v0."
    )

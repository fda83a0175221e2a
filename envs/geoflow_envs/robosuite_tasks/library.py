"""robosuite as a guest: imported late and without its chatter, or refused in a sentence that says what to install."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gymnasium.error import DependencyNotInstalled

VERSION = "1.5.2"
BELOW = {"mujoco": (3, 10), "numpy": (2, 0)}
"""Package -> the first version that robosuite does not work with: mj_fullM takes other arguments from mujoco 3.10 on
(robosuite #817), and its mink 0.0.5 wants numpy 1."""
INSTALL = "pip install -c constraints-robosuite.txt -e '.[all,robosuite]'"


def load() -> Any:
    """The module `robosuite`.

    Raises:
        DependencyNotInstalled: robosuite, or a version that it works with, is not here.
    """
    missing = obstacles()
    if missing:
        raise DependencyNotInstalled(
            f"the Robosuite tasks need robosuite {VERSION}, mujoco below 3.10 and numpy below 2; here {missing}. "
            f"Install them in a virtual environment of their own: {INSTALL} (docs/robosuite.md)"
        )
    logging.getLogger("robosuite_logs").addFilter(_is_error)
    chosen = os.environ.get("MUJOCO_GL")
    try:
        return import_module("robosuite")
    finally:  # its import sets MUJOCO_GL=egl, which child processes inherit, also where there is no EGL
        if chosen is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = chosen


def obstacles() -> str:
    """What keeps robosuite from working here, in words; empty if nothing does."""
    found = []
    try:
        if version("robosuite") != VERSION:
            found.append(f"robosuite {version('robosuite')} is installed")
    except PackageNotFoundError:
        found.append("robosuite is not installed")
    for name, limit in BELOW.items():
        present = version(name)
        if tuple(int(part) for part in present.split(".")[:2]) >= limit:
            found.append(f"{name} {present} is in the way")
    return ", ".join(found)


def _is_error(record: logging.LogRecord) -> bool:
    """Advice on private macro files and optional robots is for robosuite's own users."""
    return record.levelno >= logging.ERROR

"""Screens: where a scene is looked at, and which of them this machine has."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geoflow.experiments.screens.base import Marks, Screen

KINDS = ("auto", "window", "browser")
FILMS = (".mp4", ".gif")


def has_display() -> bool:
    """Whether a window can open here."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose(kind: str = "auto") -> str:
    """The kind of screen to open: "window", where there is a display, else "browser", where viser is installed.

    Raises:
        ValueError: an unknown kind, or one that this machine does not have, with what would work.
    """
    if kind not in KINDS:
        raise ValueError(f"screen must be one of {', '.join(KINDS)}; got {kind!r}.")
    browser = find_spec("viser") is not None
    if kind == "window" and not has_display():
        raise ValueError("screen='window' needs a display, and there is none here; try --screen browser.")
    if kind == "browser" and not browser:
        raise ValueError("screen='browser' needs viser; install it with: pip install 'geoflow[view]'.")
    if kind == "auto" and not has_display() and not browser:
        raise ValueError(
            "there is no display here, and no viser to show it in a browser: install it with "
            "pip install 'geoflow[view]', or make a film, as in geoflow view TASK --out film.mp4 (or .gif)."
        )
    return kind if kind != "auto" else "window" if has_display() else "browser"


def open_screen(kind: str, env: Any, name: str, port: int = 8080) -> Screen:
    """A screen that shows a MuJoCo task; `kind` is what `choose` gave.

    Raises:
        ValueError: the task has no MuJoCo model, or the window does not open.
    """
    base = env.unwrapped
    if not hasattr(base, "model") or not hasattr(base, "data"):
        raise ValueError(
            f"env {name!r} has no env.unwrapped.model and .data of MuJoCo to show; film it instead, with --out."
        )
    if kind == "window":
        from geoflow.experiments.screens.window import WindowScreen

        return WindowScreen(base.model, base.data)
    from geoflow.experiments.screens.browser import BrowserScreen

    return BrowserScreen(base.model, base.data, name, port)


def check_film(out: Path) -> None:
    """Raise ValueError where a film's name does not end as a film's does."""
    if out.suffix.lower() not in FILMS:
        raise ValueError(f"--out {out}: a film ends in {' or '.join(FILMS)}.")


__all__ = ["FILMS", "KINDS", "Marks", "Screen", "check_film", "choose", "has_display", "open_screen"]

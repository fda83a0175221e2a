"""Rendering without a display: pick software or GPU EGL before MuJoCo is imported, where it can be loaded."""

from __future__ import annotations

import ctypes
import os
import sys


def choose_opengl() -> None:
    """Set MUJOCO_GL on a Linux without display; a value set by the user stays.

    MuJoCo reads the variable once, at its import. Its own default (glfw) needs a display, and asking for an EGL
    that is not there would fail the import itself, so without EGL rendering is off and all else works.
    """
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_display:
        os.environ.setdefault("MUJOCO_GL", "egl" if _loads("libEGL.so.1") else "disable")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


choose_opengl()

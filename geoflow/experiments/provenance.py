"""Where a number comes from: commit, versions of what computed it, and the machine."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from geoflow.data.atomic import write_text

_PACKAGES = ("geoflow", "torch", "numpy", "mujoco", "gymnasium", "accelerate")


def commit() -> str:
    """The git commit of this source tree, with "+" where files differ from it; "" outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        # An installed wheel inside somebody else's repository is not of that repository's commit.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> str:
    """The machine in words: processor, cores, and the accelerator where one is used."""
    words = f"{_processor()}, {cores()} cores"
    if device.startswith("cuda"):
        import torch

        words += f", {torch.cuda.get_device_name(torch.device(device))}"
    return words


def cores() -> int:
    """Processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return " ".join(name.replace("(R)", "").replace("(TM)", "").replace("CPU", "").split())


def provenance(device: str = "cpu") -> dict[str, Any]:
    """What is written with every result: the command, the time, the machine, the commit, the versions."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": hardware(device),
        "commit": commit(),
        "versions": versions(),
    }


def write_provenance(result: Path, settings: Mapping[str, Any], device: str = "cpu") -> Path:
    """Write the resolved settings and their provenance beside a result, atomically.

    Args:
        result: A folder, which then holds provenance.json, or a file peg.h5, which gets peg.h5.json.
        settings: The resolved settings, such as ``dataclasses.asdict(config)``.
        device: Where it was computed.

    Returns:
        The path of the JSON file.
    """
    path = result / "provenance.json" if result.is_dir() else result.with_name(result.name + ".json")
    content = {**provenance(device), "settings": settings}
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")
    return path

"""HDF5 for several formats: opened with sentences for errors, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from geoflow.data.demonstrations import DemonstrationError, _Disk

UNREADABLE = (OSError, KeyError, RuntimeError, AttributeError, TypeError)
"""What h5py raises for a damaged file, and for a dataset or group that is missing or is the other one."""


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file to read.

    Raises:
        DemonstrationError: truncated, empty, or no HDF5.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except OSError as error:
        size = path.stat().st_size if path.is_file() else 0
        if "truncated" in str(error):
            problem = f"is truncated ({size} bytes are left); copy it again"
        else:
            problem = "is empty (0 bytes); copy it again" if size == 0 else "is not an HDF5 file"
        raise DemonstrationError(f"{path} {problem}.") from error
    with file:
        yield file


@contextmanager
def writing(path: Path) -> Iterator[h5py.File]:
    """Open a new file to write; a full disk is an OSError and no crash of HDF5."""
    with _Disk(path) as disk:
        with h5py.File(disk, "w") as file:
            yield file
        if disk.error is not None:
            raise OSError(disk.error.errno, os.strerror(disk.error.errno or 0), str(path)) from disk.error


def damaged(where: str, error: Exception) -> DemonstrationError:
    """A sentence for one of `UNREADABLE`."""
    reason = str(error).strip("'\"").split(",")[0].split(" (")[0]
    return DemonstrationError(f"{where}: cannot be read ({reason}); the file is damaged or incomplete.")


def numbered(group: Any, prefix: str) -> list[str]:
    """Names of the groups prefix<i>, in the order of i: 10 after 9, not after 1."""
    names = [name for name in group if name.startswith(prefix) and name.removeprefix(prefix).isdigit()]
    return sorted(names, key=lambda name: int(name.removeprefix(prefix)))


def arrays(group: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Every dataset of a group and of its groups, named a.b for b in a."""
    found: dict[str, np.ndarray] = {}
    for name, x in group.items():
        if isinstance(x, h5py.Group):
            found |= arrays(x, f"{prefix}{name}.")
        else:
            found[prefix + name] = np.asarray(x)
    return found


def write_column(group: h5py.Group, name: str, x: np.ndarray) -> None:
    """One dataset; images compressed, a frame a chunk, so that reading one does not decode its neighbours."""
    image = {"compression": "gzip", "compression_opts": 1, "chunks": (1, *x.shape[1:])}
    group.create_dataset(name, data=x, **(image if x.ndim == 4 else {}))

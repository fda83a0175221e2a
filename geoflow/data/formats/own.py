"""geoflow's own demonstration file, HDF5: see `geoflow.data.demonstrations`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from geoflow.data import demonstrations
from geoflow.data.demonstrations import Demonstrations, Episode, Meta
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.recording import Hints, Recording


def recognises(path: Path) -> bool:
    """Whether this is one of our files."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "data" in file and file["data"].attrs.get("format") == demonstrations.FORMAT
    except (OSError, KeyError, RuntimeError):
        return False


@contextmanager
def read(path: Path, hints: Hints) -> Iterator[Recording]:
    """Open a file; it says everything itself."""
    with Demonstrations(path) as found:
        hints.rate(found.meta.control_hz, str(path))
        yield Recording(found.meta, Actions(), found, own=True)


def write(path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
    """Write a file, whole or not at all."""
    assert actions == Actions(), "ours are absolute poses, wxyz"
    demonstrations.write(path, meta, episodes)

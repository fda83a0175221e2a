"""The table of formats: a new one is a file and a row."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.recording import Hints, Recording


class Reader(Protocol):
    """What the module of a format offers."""

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder is of this format, by a look."""
        ...

    def read(self, path: Path, hints: Hints) -> AbstractContextManager[Recording]:
        """Open it."""
        ...

    def write(self, path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
        """Write it, whole or not at all, ``actions`` of the episodes being in that convention already."""
        ...


@dataclass(frozen=True)
class Format:
    """One row.

    Attributes:
        title: What it is, for people.
        writes: The action convention it is written in unless another is asked for.
        assumes: The one a foreign file is read in where it does not say; "" asks the user.
        suffixes: Of destinations that can be nothing else.
        single: Whether it takes no other convention than ``writes``.
    """

    title: str
    writes: str
    assumes: str = ""
    suffixes: tuple[str, ...] = ()
    single: bool = False


FORMATS = {
    "geoflow": Format("geoflow's own HDF5", "absolute_wxyz", "absolute_wxyz", (".h5",), single=True),
    "robomimic": Format("robomimic HDF5", "absolute_rotvec"),
    "minari": Format("Minari dataset, HDF5 backend", "absolute_wxyz"),
    "lerobot": Format("LeRobot dataset v3", "absolute_wxyz"),
    "diffusion_policy": Format(
        "Diffusion Policy replay buffer", "absolute_6d_rows", "absolute_6d_rows", (".zarr",)
    ),
}
"""Name -> row. The module is geoflow.data.formats.<name>, but for our own."""


def module(name: str) -> Reader:
    """The module of a format."""
    return cast(Reader, import_module(f"geoflow.data.formats.{'own' if name == 'geoflow' else name}"))


def check_name(name: str) -> str:
    """``name``, if it is one of `FORMATS`; dashes count as underscores.

    Raises:
        DemonstrationError: it is not.
    """
    plain = name.replace("-", "_")
    if plain not in FORMATS:
        close = get_close_matches(plain, FORMATS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise DemonstrationError(f"unknown format {name!r}; {hint}known are {', '.join(FORMATS)}.")
    return plain


def recognise(path: Path) -> str:
    """The format of what is at ``path``.

    Raises:
        FileNotFoundError: nothing is there.
        DemonstrationError: no format recognises it.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected demonstrations of {', '.join(FORMATS)}.")
    for name in FORMATS:
        if module(name).recognises(path):
            return name
    what = "folder" if path.is_dir() else "file"
    empty = what == "file" and path.stat().st_size == 0
    raise DemonstrationError(
        f"{path} is {'an empty' if empty else 'a'} {what} of no known format, or it is damaged; known are "
        f"{', '.join(f'{name} ({row.title})' for name, row in FORMATS.items())}: name it with --from to see what is "
        "missing."
    )


def by_suffix(path: Path) -> str:
    """The format that the name of a destination tells.

    Raises:
        DemonstrationError: it tells none.
    """
    for name, row in FORMATS.items():
        if path.suffix in row.suffixes:
            return name
    raise DemonstrationError(
        f"the name {path.name} does not tell the format to write; give --to {' | '.join(FORMATS)}."
    )

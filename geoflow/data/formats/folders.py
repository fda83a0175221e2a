"""A folder appears whole or not at all: written beside its target, then moved to it in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield a new folder beside ``path``; on success it takes the place of ``path``, a folder or nothing.

    If the body raises, the new folder is removed and what stood at ``path`` is untouched; if the process is
    killed, a folder ``.<name>.<pid>.tmp`` is all that is left.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)  # a folder cannot be moved over one that is not empty
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

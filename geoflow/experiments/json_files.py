"""JSON files: written whole or not at all, read with an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geoflow.data.atomic import write_text


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: the file is no JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); move it away, and it is made anew.") from error

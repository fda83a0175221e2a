"""What the formats of others have no place for, as JSON: `Meta`, the action convention, a line an episode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats.actions import Actions

KEY = "geoflow"
"""The attribute, or the file, that holds it."""
VERSION = 1


@dataclass(frozen=True)
class Header:
    """What geoflow wrote into a file of another format.

    Attributes:
        meta: As of our own files.
        actions: How the actions are written.
        episodes: (seed, success, failure) of each, where the format itself does not hold them.
    """

    meta: Meta
    actions: Actions
    episodes: Sequence[tuple[int, bool, str]] = ()

    def outcome(self, index: int) -> dict[str, Any]:
        """Seed, success and failure of an episode, as keywords of `Episode`."""
        if index >= len(self.episodes):
            return {}
        return dict(zip(("seed", "success", "failure"), self.episodes[index], strict=True))


def outcome(episode: Episode) -> tuple[int, bool, str]:
    """The line of an episode."""
    return int(episode.seed), bool(episode.success), episode.failure


def to_json(header: Header) -> str:
    """As text."""
    meta = {name: getattr(header.meta, name) for name in Meta.__dataclass_fields__}
    plain = {key: dict(x) if hasattr(x, "keys") else x for key, x in meta.items()}
    return json.dumps(
        {
            "version": VERSION,
            "meta": plain,
            "actions": asdict(header.actions),
            "episodes": list(header.episodes),
        }
    )


def from_json(text: str, where: str) -> Header:
    """From text.

    Raises:
        DemonstrationError: not what `to_json` writes.
    """
    try:
        value = json.loads(text)
        if value["version"] != VERSION:
            raise DemonstrationError(
                f"{where} was written by another geoflow (version {value['version']} of its header, this one "
                f"reads {VERSION}); convert it with that one."
            )
        actions = value["actions"]
        return Header(
            Meta(**value["meta"]),
            Actions(**(actions | {"scale": tuple(actions["scale"])})),
            [(int(seed), bool(success), str(failure)) for seed, success, failure in value["episodes"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DemonstrationError):
            raise
        raise DemonstrationError(
            f"{where}: what geoflow noted in it is damaged ({error}); convert the original again."
        ) from error

"""From one format of demonstrations to another, an episode at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta, check
from geoflow.data.formats import table
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.recording import Hints, Recording


@dataclass(frozen=True)
class Asked:
    """What was asked for of a file's actions; None or "" is left to the file, or to the format.

    Attributes:
        convention: See `Actions`.
        gripper: See `Actions`.
        scale: See `Actions`.
        tcp: See `Actions`.
    """

    convention: str = ""
    gripper: str = ""
    scale: tuple[float, float] | None = None
    tcp: str = ""

    def over(self, actions: Actions) -> Actions:
        """``actions`` with what was asked for in its place."""
        return Actions(
            self.convention or actions.convention,
            self.gripper or actions.gripper,
            self.scale or actions.scale,
            self.tcp or actions.tcp,
        )


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        path: The destination.
        from_format: See `table.FORMATS`.
        to_format: See `table.FORMATS`.
        read: The convention of the source's actions.
        written: Of the destination's.
        episodes: How many.
        steps: Of all of them.
        meta: What holds for all of them.
    """

    path: Path
    from_format: str
    to_format: str
    read: Actions
    written: Actions
    episodes: int
    steps: int
    meta: Meta

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} ({kind})" for name, kind in self.meta.observation_kinds.items())
        return (
            f"{self.episodes} episodes, {self.steps} steps of {self.meta.env_id} at {self.meta.control_hz:g} Hz\n"
            f"{self.from_format} {_words(self.read)} -> {self.to_format} {_words(self.written)}\n"
            f"observations: {kinds}"
        )


def convert(
    source: Path | str,
    dest: Path | str,
    from_format: str = "",
    to_format: str = "",
    from_actions: Asked | None = None,
    to_actions: Asked | None = None,
    hints: Hints | None = None,
    overwrite: bool = False,
    progress: Callable[[], object] | None = None,
) -> Converted:
    """Write the demonstrations of ``source`` to ``dest``; memory holds one episode.

    Every episode passes through our own conventions and their checks, whatever the two formats are.

    Args:
        source: A file or folder of one of `table.FORMATS`.
        dest: What to write; it appears whole or not at all.
        from_format: The source's; "" recognises it.
        to_format: The destination's; "" takes it from the name.
        from_actions: The convention of the source's actions, where the source does not say.
        to_actions: The convention to write; "" for the format's own.
        hints: What else the source may not say.
        overwrite: Replace a destination that exists and is of a known format.
        progress: Called after every episode.

    Raises:
        DemonstrationError: the source cannot be used, does not say what is needed and was not asked for, or the
            destination exists.
        FileNotFoundError: no source.
        OSError: no permission, or no space left; what stood at ``dest`` is untouched.
    """
    source, dest = Path(source), Path(dest)
    hints = hints or Hints()
    from_name = table.check_name(from_format) if from_format else table.recognise(source)
    to_name = table.check_name(to_format) if to_format else table.by_suffix(dest)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; expected {table.FORMATS[from_name].title}.")
    _check_destination(source, dest, overwrite)
    with table.module(from_name).read(source, hints) as recording:
        read = _source_actions(recording, from_actions or Asked(), from_name, str(source))
        written = _destination_actions(recording.meta, to_actions or Asked(), to_name, str(dest))
        _check_arms(recording.meta, read, written, str(source))
        episodes = _Count(_pass(recording, read, written, hints.skip, str(source)), progress)
        meta = _meta(recording.meta, hints, str(source))
        _not_empty(episodes, str(source))
        table.module(to_name).write(dest, meta, episodes, written)
    return Converted(dest, from_name, to_name, read, written, episodes.count, episodes.steps, meta)


def _check_arms(meta: Meta, read: Actions, written: Actions, source: str) -> None:
    """Raise a DemonstrationError for the actions of several arms in another convention than ours."""
    if meta.arms > 1 and not read == written == Actions():
        raise DemonstrationError(
            f"{source} has actions of {meta.arms} arms, which are written in one convention alone: give --to-actions "
            f"{Actions().convention}."
        )


def _pass(
    recording: Recording, read: Actions, written: Actions, skip: tuple[str, ...], source: str
) -> Iterator[Episode]:
    """The episodes, checked, with actions as they are to be written, without the observations to skip."""
    kinds = recording.meta.observation_kinds
    for i, episode in enumerate(recording.episodes):
        where = f"{source}, episode {i}"
        ours = replace(episode, actions=read.decode(episode, where, recording.own))
        check(ours, kinds, where, recording.meta.arms)
        kept = {name: x for name, x in ours.obs.items() if name not in skip}
        yield replace(ours, obs=kept, actions=written.encode(ours, where))


class _Count:
    """Episodes, counted while they pass."""

    def __init__(self, episodes: Iterator[Episode], progress: Callable[[], object] | None) -> None:
        self._episodes, self._progress = episodes, progress
        self.count, self.steps = 0, 0
        self.first: Episode | None = None

    def __iter__(self) -> Iterator[Episode]:
        return self

    def __next__(self) -> Episode:
        episode = self.first if self.first is not None else next(self._episodes)
        self.first = None
        self.count, self.steps = self.count + 1, self.steps + len(episode)
        if self._progress is not None:
            self._progress()
        return episode

    def peek(self) -> Episode | None:
        """The first episode, which is still to come; None where there is none."""
        self.first = next(self._episodes, None)
        return self.first


def _not_empty(episodes: _Count, source: str) -> None:
    if episodes.peek() is None:
        raise DemonstrationError(f"{source} holds no episode; there is nothing to convert.")


def _meta(meta: Meta, hints: Hints, source: str) -> Meta:
    kinds = {name: kind for name, kind in meta.observation_kinds.items() if name not in hints.skip}
    if not kinds:
        raise DemonstrationError(
            f"{source}: --skip leaves no observation; its are {', '.join(meta.observation_kinds)}."
        )
    return replace(meta, env_id=hints.env_id or meta.env_id, observation_kinds=kinds)


def _source_actions(recording: Recording, asked: Asked, name: str, source: str) -> Actions:
    """What the file says; else what the user says; else what the format assumes."""
    kinds = recording.meta.observation_kinds
    said = recording.actions
    if said is not None:
        said = said.with_tcp(kinds, source)
        if asked.over(said).with_tcp(kinds, source) != said:
            raise DemonstrationError(
                f"{source} says of its actions: {_words(said)}; {_words(asked.over(said))} was asked for: leave "
                "--from-actions, --from-gripper, --from-scale and --tcp out."
            )
        return said
    assumed = table.FORMATS[name].assumes
    if not asked.convention and not assumed:
        raise DemonstrationError(
            f"{source} does not say how its actions are written; give --from-actions, one of "
            "absolute_wxyz, absolute_xyzw, absolute_rotvec, absolute_6d_rows, absolute_6d_columns, delta_rotvec."
        )
    return asked.over(Actions(asked.convention or assumed)).with_tcp(kinds, source)


def _destination_actions(meta: Meta, asked: Asked, name: str, dest: str) -> Actions:
    row = table.FORMATS[name]
    written = asked.over(Actions(row.writes)).with_tcp(meta.observation_kinds, dest)
    if row.single and written != Actions(row.writes):
        raise DemonstrationError(
            f"{row.title} is always {_words(Actions(row.writes))}; leave --to-actions, --to-gripper and --to-scale out."
        )
    return written


def _check_destination(source: Path, dest: Path, overwrite: bool) -> None:
    if (
        dest.exists()
        and source.exists()
        and (dest.samefile(source) or dest.resolve() in source.resolve().parents)
    ):
        raise DemonstrationError(f"{dest} is the source, or holds it; choose another destination.")
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return
    if not overwrite:
        raise DemonstrationError(
            f"{dest} exists; use --overwrite to replace it, or choose another destination."
        )
    if dest.is_dir():
        table.recognise(dest)  # never a folder that holds something else


def _words(actions: Actions) -> str:
    delta = f", scale {actions.scale[0]:g} m {actions.scale[1]:g} rad from {actions.tcp or '?'}"
    return f"{actions.convention}, gripper {actions.gripper}{delta if actions.convention == 'delta_rotvec' else ''}"

"""`geoflow data info` and `geoflow data convert`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import show
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class DataInfo:
    """Describe a demonstration file: task, conventions, episodes, failures, ranges."""

    summary: ClassVar[str] = "describe a demonstration file"
    example: ClassVar[str] = "geoflow data info demos/peg.h5"

    file: Positional[Path]
    """The demonstration file."""

    @classmethod
    def defaults(cls, config: Config) -> DataInfo:
        """A file must be given."""
        return cls(file=tyro.MISSING)

    def run(self) -> Path:
        """Describe."""
        from geoflow.data.info import describe

        print(describe(self.file))
        return self.file


@dataclass(frozen=True)
class DataConvert:
    """Convert demonstrations between geoflow, robomimic, minari, lerobot (v3) and diffusion_policy."""

    summary: ClassVar[str] = "convert demonstrations from and to the formats of others"
    example: ClassVar[str] = "geoflow data convert demos/peg.h5 datasets/peg --to lerobot"

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """The file or folder to read."""
    dest: Annotated[Positional[Path], arg(metavar="DEST")]
    """The file or folder to write."""
    from_format: Annotated[str, arg(name="from")] = ""
    """geoflow, robomimic, minari, lerobot, diffusion_policy; default: recognised."""
    to_format: Annotated[str, arg(name="to")] = ""
    """The same; default: by the name, .h5 is geoflow, .zarr is diffusion_policy."""
    from_actions: str = ""
    """How the source writes actions, where it does not say: absolute_wxyz, absolute_xyzw, absolute_rotvec,
    absolute_6d_rows, absolute_6d_columns, delta_rotvec."""
    to_actions: str = ""
    """How to write them; default: absolute_rotvec for robomimic, absolute_6d_rows for diffusion_policy,
    absolute_wxyz for the others."""
    from_gripper: str = ""
    """The source's gripper numbers: closed_positive (-1 open, 1 closed; the default), open_positive (1 open,
    -1 closed), closed_unit (0 open, 1 closed), open_unit (1 open, 0 closed)."""
    to_gripper: str = ""
    """The gripper numbers to write."""
    from_scale: tuple[float, float] | None = None
    """What a delta of 1 means in the source [m, rad], as in 0.05 0.5 of robosuite; default: 1 1."""
    to_scale: tuple[float, float] | None = None
    """What a delta of 1 shall mean."""
    tcp: str = ""
    """The pose observation that deltas start from; default: tcp, or the only pose."""
    control_hz: float | None = None
    """Actions a second, where the source does not say."""
    env: str = ""
    """The id of the task, where the source does not say."""
    poses: tuple[str, ...] = ()
    """Observations of a foreign file that are poses, as in --poses tcp goal:xyzw; quaternions wxyz if not said."""
    skip: tuple[str, ...] = ()
    """Observations to leave out."""
    overwrite: bool = False
    """Replace a destination that exists."""

    @classmethod
    def defaults(cls, config: Config) -> DataConvert:
        """Source and destination must be given."""
        return cls(source=tyro.MISSING, dest=tyro.MISSING)

    def run(self) -> Path:
        """Convert."""
        from dataclasses import asdict

        from geoflow.data.atomic import write_text
        from geoflow.data.formats.convert import Asked, convert
        from geoflow.data.formats.recording import Hints, pose_hints
        from geoflow.experiments.progress import bar
        from geoflow.experiments.provenance import provenance

        settings = {key: x for key, x in asdict(self).items() if x not in ("", None, (), False)}
        show(**settings)
        try:
            with bar(desc="convert", unit=" episodes") as shown:
                made = convert(
                    self.source,
                    self.dest,
                    self.from_format,
                    self.to_format,
                    Asked(self.from_actions, self.from_gripper, self.from_scale, self.tcp),
                    Asked(self.to_actions, self.to_gripper, self.to_scale, self.tcp),
                    Hints(self.control_hz, self.env, pose_hints(self.poses), self.skip),
                    overwrite=self.overwrite,
                    progress=shown.update,
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; nothing was written.") from None
        settings |= {"read": asdict(made.read), "written": asdict(made.written)}
        # Beside it, also of a folder: what others' libraries find in their folders is theirs.
        note = made.path.with_name(made.path.name + ".json")
        write_text(note, json.dumps(provenance() | {"settings": settings}, indent=2, default=str) + "\n")
        print(made)
        return made.path

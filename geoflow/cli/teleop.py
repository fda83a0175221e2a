"""`geoflow teleop`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import Flat, Scene
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class Teleop:
    """Do a task with the keyboard and record what succeeds; the same command adds to the file."""

    summary: ClassVar[str] = "do a task with the keyboard and record demonstrations"
    example: ClassVar[str] = "geoflow teleop TiltedPegInsert --level 0 --out demos/mine.h5"

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """A short name such as TiltedPegInsert, or a gymnasium id."""
    scene: Annotated[Scene, Flat] = field(default_factory=Scene)
    out: Path = Path("demos/mine.h5")
    """The demonstration file."""
    seed: int = 0
    """Attempt i is reset with seed * 10 000 + i."""

    @classmethod
    def defaults(cls, config: Config) -> Teleop:
        """A task must be given."""
        return cls(task=tyro.MISSING)

    def run(self) -> Path | None:
        """Record."""
        from geoflow.experiments.teleoperation import teleoperate

        try:
            return teleoperate(
                self.task,
                self.scene.kwargs(),
                out=self.out,
                screen=self.scene.screen,
                seed=self.seed,
                port=self.scene.port,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"left; what was saved is in {self.out}.") from None

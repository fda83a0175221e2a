"""`geoflow view`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import Flat, Scene
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class View:
    """Watch a task being done by its expert or a trained policy: in a window, in a browser, or as a film.

    A policy's task is made as for its demonstrations; --level, --robot and --env-kwargs change that.
    """

    summary: ClassVar[str] = "watch a task: in a window, in a browser, or as a film"
    example: ClassVar[str] = "geoflow view TiltedPegInsert --level 2 --robot panda --out film.mp4"

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """A short name such as TiltedPegInsert, or a gymnasium id."""
    scene: Annotated[Scene, Flat] = field(default_factory=Scene)
    policy: Path | None = None
    """A run folder; default: the task's expert."""
    out: Path | None = None
    """A film to make instead of showing it, .mp4 or .gif."""
    episodes: int = 0
    """How many; 0 means one on film, and as many as are watched on a screen."""
    seed: int = 0
    """Of the first scene."""
    speed: float = 1.0
    """1 for real time."""
    camera: str = "front"
    """Of a film: front, side, wrist."""
    size: tuple[int, int] = (640, 480)
    """Width and height of a film."""
    choice: str = "greedy"
    """Of the expert: greedy or random."""
    execute: int | None = None
    """Steps of a chunk executed before the next; the policy's own by default."""
    nfe: int | None = None
    """Network evaluations a chunk; the policy's own by default."""
    transfer: bool = False
    """Show another task or robot than the policy was trained on; it must offer the same observations."""
    device: str = "cpu"
    """Of the policy: auto, cpu, cuda, ..."""

    @classmethod
    def defaults(cls, config: Config) -> View:
        """A task must be given."""
        return cls(task=tyro.MISSING)

    def run(self) -> Path | None:
        """Show it."""
        from geoflow.experiments.devices import resolve_device
        from geoflow.experiments.viewing import view

        try:
            return view(
                self.task,
                self.scene.kwargs(),
                policy=self.policy,
                out=self.out,
                screen=self.scene.screen,
                episodes=self.episodes,
                seed=self.seed,
                speed=self.speed,
                camera=self.camera,
                size=self.size,
                choice=self.choice,
                execute=self.execute,
                nfe=self.nfe,
                device=resolve_device(self.device),
                transfer=self.transfer,
                port=self.scene.port,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("left.") from None

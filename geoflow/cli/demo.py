"""`geoflow demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from geoflow.cli.options import show
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class Demo:
    """The whole line: collect, train three policies, evaluate, compare; interrupted, it continues."""

    summary: ClassVar[str] = "the whole line: collect, train three policies, evaluate, report"
    example: ClassVar[str] = "geoflow demo --out runs/demo"

    out: Path = Path("runs/demo")
    """The folder of everything it makes."""
    seed: int = 0
    """Of demonstrations and trainings."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    videos: bool = True
    """Render rollouts; --no-videos where there is no OpenGL or no time."""

    @classmethod
    def defaults(cls, config: Config) -> Demo:
        """As declared."""
        return cls()

    def run(self) -> Path:
        """Run the demo."""
        from geoflow.experiments.demo import demo
        from geoflow.experiments.devices import resolve_device

        device = resolve_device(self.device)
        show(out=self.out, seed=self.seed, device=device)
        return demo(self.out, seed=self.seed, device=device, videos=self.videos)

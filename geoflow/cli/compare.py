"""`geoflow compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import show
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class Compare:
    """Put evaluated runs side by side: comparison.json and one self-contained report.html."""

    summary: ClassVar[str] = "put evaluated runs side by side in a report"
    example: ClassVar[str] = "geoflow compare runs/peg_se3 runs/peg_euclidean runs/peg_ddpm --out report/"

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...")]
    """Run folders that were evaluated."""
    out: Path = Path("report")
    """The folder of the report."""
    videos: bool = True
    """Render rollouts; --no-videos where there is no OpenGL or no time."""

    @classmethod
    def defaults(cls, config: Config) -> Compare:
        """Runs must be given."""
        return cls(runs=tyro.MISSING)

    def run(self) -> Path:
        """Compare."""
        from geoflow.experiments.report import compare

        show(runs=[str(run) for run in self.runs], out=self.out, videos=self.videos)
        return compare(self.runs, self.out, videos=self.videos)

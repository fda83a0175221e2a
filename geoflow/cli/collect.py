"""`geoflow collect`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from geoflow.cli.options import Files, Flat, Task, show
from geoflow.experiments.config import CollectConfig, Config, TrainConfig


@dataclass(frozen=True)
class Collect:
    """Record demonstrations of a task's scripted expert; interrupted, the same command continues."""

    summary: ClassVar[str] = "record demonstrations of a task's scripted expert"
    example: ClassVar[str] = (
        "geoflow collect --env geoflow_envs:geoflow/TiltedPegInsert-v0 --episodes 200 --out demos/peg.h5"
    )

    files: Files = ()
    """YAML files; options on the command line win."""
    task: Annotated[Task, Flat] = field(default_factory=Task)
    collect: Annotated[CollectConfig, Flat] = field(default_factory=CollectConfig)
    out: Path = TrainConfig().files[0]
    """The file to write."""
    seed: int = 0
    """Attempt i is reset with seed * 10 000 + i."""
    overwrite: bool = False
    """Replace a file that was collected otherwise."""

    @classmethod
    def defaults(cls, config: Config) -> Collect:
        """The options as the YAML files leave them."""
        task = Task(config.env.id, from_files=config.env.kwargs)
        return cls(task=task, collect=config.collect, out=config.train.files[0])

    def run(self) -> Path:
        """Collect."""
        from geoflow.experiments.collection import collect

        env = self.task.config()
        show(env=env, collect=self.collect, seed=self.seed, out=self.out)
        summary = collect(env, self.collect, self.out, self.seed, overwrite=self.overwrite)
        print(summary if summary.new_steps else f"complete already: {summary}")
        return summary.path

"""`geoflow train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from geoflow.cli.options import Files, Flat, Task, show
from geoflow.experiments.config import Config, TrainConfig
from geoflow.policies.config import PolicyConfig


@dataclass(frozen=True)
class Train:
    """Train a policy on demonstrations; interrupted, the same command continues to the identical weights."""

    summary: ClassVar[str] = "train a policy on demonstrations"
    example: ClassVar[str] = (
        "geoflow train configs/env/peg.yaml configs/policy/se3_flow.yaml --seed 1 --out runs/peg_se3"
    )

    files: Files = ()
    """YAML files, merged from left to right; options on the command line win."""
    task: Annotated[Task, Flat] = field(default_factory=Task)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    out: Path = Path("runs/train")
    """The run folder: a checkpoint with its history."""
    seed: int = 0
    """Of initial weights, the order of the data, and noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ...; under accelerate launch the launcher decides."""
    resume: bool = True
    """Continue what the folder holds; --no-resume refuses a folder that holds a run."""

    @classmethod
    def defaults(cls, config: Config) -> Train:
        """The options as the YAML files leave them."""
        task = Task(config.env.id, from_files=config.env.kwargs)
        return cls(task=task, policy=config.policy, train=config.train)

    def run(self) -> Path:
        """Train."""
        from geoflow.experiments.devices import resolve_device
        from geoflow.experiments.training import train

        env = self.task.config()
        config = Config(env=env, policy=self.policy, train=self.train)
        device = self.device if self.device == "auto" else resolve_device(self.device)
        show(env=env, policy=self.policy, train=self.train, seed=self.seed, device=device, out=self.out)
        return train(config, self.out, self.seed, device, resume=self.resume)

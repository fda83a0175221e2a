"""`geoflow evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import Files, Flat, from_words, show
from geoflow.experiments.config import Config, EnvConfig, EvaluateConfig


@dataclass(frozen=True)
class Evaluate:
    """Roll a trained policy out on held-out scenes; interrupted, the same command continues."""

    summary: ClassVar[str] = "success of a trained policy on held-out scenes"
    example: ClassVar[str] = "geoflow evaluate runs/peg_se3 --episodes 100 --nfe 1 2 4 10"

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    files: Files = ()
    """YAML files; options on the command line win."""
    evaluate: Annotated[EvaluateConfig, Flat] = field(default_factory=EvaluateConfig)
    env: str = ""
    """Which of several tasks, or with --transfer another one than it was trained on."""
    env_kwargs: tuple[str, ...] = ()
    """What to change of the task, as in --env-kwargs level=2."""
    out: Path | None = None
    """The JSON file; default: eval.json in the run folder."""
    seed: int = 0
    """Which held-out scenes: they begin at first_seed + 100 000 * seed."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    overwrite: bool = False
    """Measure again what is measured already."""

    @classmethod
    def defaults(cls, config: Config) -> Evaluate:
        """The options as the YAML files leave them; a run must be given."""
        # Not the task: that is the one trained on, unless the command line says otherwise.
        return cls(run_folder=tyro.MISSING, evaluate=config.evaluate)

    def run(self) -> Path:
        """Evaluate."""
        from geoflow.experiments.devices import resolve_device
        from geoflow.experiments.evaluation import evaluate

        device = resolve_device(self.device)
        config = replace(self.evaluate, first_seed=self.evaluate.first_seed + 100_000 * self.seed)
        env = self._env()
        show(run=self.run_folder, evaluate=config, env=env, device=device)
        return evaluate(self.run_folder, config, device, self.out, env, self.overwrite)

    def _env(self) -> EnvConfig | None:
        """The task; None where there is no run to read it from, which the evaluation will say."""
        from geoflow.experiments.evaluation import trained_env
        from geoflow.experiments.json_files import read_json
        from geoflow.experiments.task_names import task_id

        description = self.run_folder / "config.json"
        meta = read_json(description) if description.is_file() else {}
        if "spec" not in meta:
            return None
        return trained_env(meta, task_id(self.env) if self.env else "", from_words(self.env_kwargs))

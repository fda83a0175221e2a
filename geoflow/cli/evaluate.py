"""`geoflow evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

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
    """Another task than the one trained on, or which of several."""
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
        """None for the task as it was trained."""
        changes = from_words(self.env_kwargs)
        description = self.run_folder / "config.json"
        meta: dict[str, Any] = json.loads(description.read_text()) if description.is_file() else {}
        tasks = {task["env_id"]: task["env_kwargs"] for task in meta.get("spec", {}).get("tasks", ())}
        if self.env:
            # One of several tasks is as its demonstrations were; another task than the only one is as it is said.
            return EnvConfig(self.env, (tasks.get(self.env, {}) if len(tasks) > 1 else {}) | changes)
        if not changes or not meta or len(tasks) > 1:
            return None
        trained = meta["config"]["env"]
        return EnvConfig(trained["id"], trained["kwargs"] | changes)

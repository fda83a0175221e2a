"""`geoflow export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from geoflow.cli.options import show
from geoflow.experiments.config import Config


@dataclass(frozen=True)
class Export:
    """Write the whole sampler of a trained flow policy, from observation and noise to chunk, as one graph.

    What the graph gives is compared with the policy before the file is kept. See scripts/robot_loop.py for the
    robot's side, which needs onnxruntime and numpy only.
    """

    summary: ClassVar[str] = "a trained policy as an ONNX or torch.export graph"
    example: ClassVar[str] = "geoflow export runs/peg_se3 --out policy.onnx --nfe 4"

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    out: Path = Path("policy.onnx")
    """The file: .onnx for onnxruntime, .pt2 for torch.export.load."""
    nfe: int | None = None
    """Network evaluations a chunk, fixed in the graph; the policy's own by default."""
    weights: str = "float32"
    """float32; or int8, which is faster and moves chunks a little: by how much is measured and printed."""
    demos: Path | None = None
    """Demonstrations, over whose observations int8 weights are measured."""
    observations: int = 200
    """How many of them."""

    @classmethod
    def defaults(cls, config: Config) -> Export:
        """A run must be given."""
        return cls(run_folder=tyro.MISSING)

    def run(self) -> Path:
        """Export."""
        from geoflow.data.chunks import Chunks
        from geoflow.policies.checkpoint import load_policy
        from geoflow.policies.export import export

        policy = load_policy(self.run_folder)
        seen = None
        if self.demos is not None:
            chunks = Chunks(self.demos, policy.config.horizon, policy.config.observation_steps)
            recorded, tasks = chunks.metas[0].env_id, policy.spec.tasks
            if tasks and not policy.spec.trained_on(recorded):
                known = ", ".join(sorted({task.env_id for task in tasks}))
                raise ValueError(
                    f"{self.demos} was recorded in {recorded}; give demonstrations of {known}, as this policy was "
                    "trained on."
                )
            seen = chunks.sample(self.observations).obs
        show(**export(policy, self.out, self.nfe, self.weights, seen))
        return self.out

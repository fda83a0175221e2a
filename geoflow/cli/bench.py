"""`geoflow bench lie`, `geoflow bench train`, `geoflow bench sample` and `geoflow bench env`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from geoflow.experiments.config import Config


@dataclass(frozen=True)
class BenchLie:
    """Time the group operations, forward and backward, and measure their error in float32."""

    summary: ClassVar[str] = "time and error of the group operations"
    example: ClassVar[str] = "geoflow bench lie --batch 4096"

    batch: int = 4096
    """Poses in a batch."""
    repeats: int = 50
    """Timed calls of each operation."""
    out: Path = Path("runs/bench/lie.json")
    """The JSON file."""
    seed: int = 0
    """Of the poses."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""

    @classmethod
    def defaults(cls, config: Config) -> BenchLie:
        """As declared."""
        return cls()

    def run(self) -> Path:
        """Run the benchmark."""
        from geoflow.experiments.bench import bench_lie
        from geoflow.experiments.devices import resolve_device

        return bench_lie(self.out, self.batch, self.repeats, self.seed, resolve_device(self.device))


@dataclass(frozen=True)
class BenchTrain:
    """Time a training step of the SE(3) flow beside the Euclidean one: by network, eager and compiled."""

    summary: ClassVar[str] = "what a training step costs beside that of the Euclidean flow"
    example: ClassVar[str] = "geoflow bench train --backbone unet --ways eager --repeats 5"

    backbone: tuple[str, ...] = ("mlp", "unet", "transformer")
    """The policy's networks."""
    ways: tuple[str, ...] = ("eager", "compiled")
    """Of eager and compiled (train.compile)."""
    toolbox: bool = False
    """Time every option of the flow toolbox as well, eager."""
    batch: int = 256
    """Chunks a step."""
    width: int = 512
    """Channels of the network."""
    depth: int = 4
    """Blocks of the network."""
    repeats: int = 20
    """Timed rounds."""
    precision: str = "auto"
    """auto, float32 or bfloat16, as for training."""
    out: Path = Path("runs/bench/train.json")
    """The JSON file."""
    seed: int = 0
    """Of chunks and weights."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""

    @classmethod
    def defaults(cls, config: Config) -> BenchTrain:
        """As declared."""
        return cls()

    def run(self) -> Path:
        """Run the benchmark."""
        from geoflow.experiments.bench_training import bench_train
        from geoflow.experiments.devices import resolve_device

        return bench_train(
            self.out,
            self.backbone,
            self.ways,
            self.batch,
            self.width,
            self.depth,
            self.repeats,
            self.seed,
            resolve_device(self.device),
            self.precision,
            toolbox=self.toolbox,
        )


@dataclass(frozen=True)
class BenchSample:
    """Time a chunk of a flow policy by evaluations, batch and way of computing, beside DDPM on the same network."""

    summary: ClassVar[str] = "what a chunk costs: eager, compiled, exported, as a CUDA graph"
    example: ClassVar[str] = "geoflow bench sample --ways eager compiled onnx --batches 1"

    run_folder: Path | None = None
    """A trained flow policy; by default random weights on the observations of TiltedPegInsert."""
    backbone: str = "mlp"
    """The network where no policy is given: mlp, unet, ..."""
    nfe: tuple[int, ...] = (1, 2, 4, 10)
    """Network evaluations a chunk."""
    batches: tuple[int, ...] = (1, 256)
    """Chunks at once; an exported graph takes one."""
    ways: tuple[str, ...] = ("eager", "onnx")
    """Of eager, compiled, onnx, "onnx int8", graphed and "graphed compiled"; graphs need a GPU."""
    repeats: int = 50
    """Timed rounds."""
    threads: int = 1
    """CPU threads."""
    out: Path = Path("runs/bench/sample.json")
    """The JSON file."""
    seed: int = 0
    """Of weights, observations and noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""

    @classmethod
    def defaults(cls, config: Config) -> BenchSample:
        """As declared."""
        return cls()

    def run(self) -> Path:
        """Run the benchmark."""
        from geoflow.experiments.bench_sampling import bench_sample
        from geoflow.experiments.devices import resolve_device

        return bench_sample(
            self.out,
            self.run_folder,
            self.backbone,
            self.nfe,
            self.batches,
            self.ways,
            self.repeats,
            self.seed,
            resolve_device(self.device),
            self.threads,
        )


@dataclass(frozen=True)
class BenchEnv:
    """Measure tasks against raw physics of the same model: env steps, expert, reset, observation, frame, collection.

    Times are CPU times of one process; figures that miss their goals carry a "!".
    """

    summary: ClassVar[str] = "what a task costs against raw MuJoCo physics"
    example: ClassVar[str] = "geoflow bench env TiltedPegInsert --robots panda"

    tasks: Annotated[Positional[tuple[str, ...]], arg(metavar="TASK...")] = ()
    """Short names or gymnasium ids; all tasks by default."""
    robots: tuple[str, ...] = ("free", "panda")
    """Those of them that a task takes."""
    level: int = 1
    """The rung of the tasks' ladders."""
    episodes: int = 20
    """Played by the expert."""
    resets: int = 50
    """Timed."""
    frames: bool = True
    """Render too; --no-frames where there is no OpenGL."""
    out: Path = Path("runs/bench/env.json")
    """The JSON file."""
    seed: int = 0
    """Of the first scene."""

    @classmethod
    def defaults(cls, config: Config) -> BenchEnv:
        """As declared."""
        return cls()

    def run(self) -> Path:
        """Run the benchmark."""
        from geoflow.experiments.bench_env import bench_env

        return bench_env(
            self.out,
            self.tasks,
            self.robots,
            self.level,
            self.episodes,
            self.resets,
            self.seed,
            self.frames,
        )

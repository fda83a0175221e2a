"""The geoflow command: parse, build, call, print. What is interesting is in the library.

Nothing heavy is imported before it is known which command runs, so `geoflow --help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar

try:
    import tyro
    from tyro.conf import Fixed, Positional, Suppress, arg
except ModuleNotFoundError:  # the light install has no command
    raise SystemExit("geoflow: the command needs tyro; install it with: pip install 'geoflow[all]'") from None

from geoflow.experiments.config import (
    CollectConfig,
    Config,
    EnvConfig,
    EvaluateConfig,
    TrainConfig,
    load,
    to_yaml,
)
from geoflow.policies.config import PolicyConfig

Files = Annotated[Positional[tuple[Path, ...]], arg(metavar="YAML...")]
Flat = arg(name="")


@dataclass(frozen=True)
class Task:
    """Which environment, and what it is made with."""

    env: str = EnvConfig.id
    """The gymnasium id of the task, with the module that registers it in front."""
    env_kwargs: tuple[str, ...] = ()
    """What it is made with, as in --env-kwargs level=2 robot=panda; changes what a YAML file says."""
    from_files: Suppress[Fixed[dict[str, Any]]] = field(default_factory=dict)

    def config(self) -> EnvConfig:
        """As a value."""
        return EnvConfig(self.env, self.from_files | _from_words(self.env_kwargs))


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
    out: Path = Path(TrainConfig.demos)
    """The file to write."""
    seed: int = 0
    """Attempt i is reset with seed * 10 000 + i."""
    overwrite: bool = False
    """Replace a file that was collected otherwise."""

    @classmethod
    def defaults(cls, config: Config) -> Collect:
        """The options as the YAML files leave them."""
        task = Task(config.env.id, from_files=config.env.kwargs)
        return cls(task=task, collect=config.collect, out=Path(config.train.demos))

    def run(self) -> Path:
        """Collect."""
        from geoflow.experiments.collection import collect

        env = self.task.config()
        _show(env=env, collect=self.collect, seed=self.seed, out=self.out)
        summary = collect(env, self.collect, self.out, self.seed, overwrite=self.overwrite)
        print(summary if summary.new_steps else f"complete already: {summary}")
        return summary.path


@dataclass(frozen=True)
class DataInfo:
    """Describe a demonstration file: task, conventions, episodes, failures, ranges."""

    summary: ClassVar[str] = "describe a demonstration file"
    example: ClassVar[str] = "geoflow data info demos/peg.h5"

    file: Positional[Path]
    """The demonstration file."""

    @classmethod
    def defaults(cls, config: Config) -> DataInfo:
        """A file must be given."""
        return cls(file=tyro.MISSING)

    def run(self) -> Path:
        """Describe."""
        from geoflow.data.info import describe

        print(describe(self.file))
        return self.file


@dataclass(frozen=True)
class DataConvert:
    """Convert demonstrations between geoflow, robomimic, minari, lerobot (v3) and diffusion_policy."""

    summary: ClassVar[str] = "convert demonstrations from and to the formats of others"
    example: ClassVar[str] = "geoflow data convert demos/peg.h5 datasets/peg --to lerobot"

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """The file or folder to read."""
    dest: Annotated[Positional[Path], arg(metavar="DEST")]
    """The file or folder to write."""
    from_format: Annotated[str, arg(name="from")] = ""
    """geoflow, robomimic, minari, lerobot, diffusion_policy; default: recognised."""
    to_format: Annotated[str, arg(name="to")] = ""
    """The same; default: by the name, .h5 is geoflow, .zarr is diffusion_policy."""
    from_actions: str = ""
    """How the source writes actions, where it does not say: absolute_wxyz, absolute_xyzw, absolute_rotvec,
    absolute_6d_rows, absolute_6d_columns, delta_rotvec."""
    to_actions: str = ""
    """How to write them; default: absolute_rotvec for robomimic, absolute_6d_rows for diffusion_policy,
    absolute_wxyz for the others."""
    from_gripper: str = ""
    """The source's gripper numbers: closed_positive (-1 open, 1 closed; the default), open_positive (1 open,
    -1 closed), closed_unit (0 open, 1 closed), open_unit (1 open, 0 closed)."""
    to_gripper: str = ""
    """The gripper numbers to write."""
    from_scale: tuple[float, float] | None = None
    """What a delta of 1 means in the source [m, rad], as in 0.05 0.5 of robosuite; default: 1 1."""
    to_scale: tuple[float, float] | None = None
    """What a delta of 1 shall mean."""
    tcp: str = ""
    """The pose observation that deltas start from; default: tcp, or the only pose."""
    control_hz: float | None = None
    """Actions a second, where the source does not say."""
    env: str = ""
    """The id of the task, where the source does not say."""
    poses: tuple[str, ...] = ()
    """Observations of a foreign file that are poses, as in --poses tcp goal:xyzw; quaternions wxyz if not said."""
    skip: tuple[str, ...] = ()
    """Observations to leave out."""
    overwrite: bool = False
    """Replace a destination that exists."""

    @classmethod
    def defaults(cls, config: Config) -> DataConvert:
        """Source and destination must be given."""
        return cls(source=tyro.MISSING, dest=tyro.MISSING)

    def run(self) -> Path:
        """Convert."""
        from dataclasses import asdict

        from geoflow.data.atomic import write_text
        from geoflow.data.formats.convert import Asked, convert
        from geoflow.data.formats.recording import Hints, pose_hints
        from geoflow.experiments.progress import bar
        from geoflow.experiments.provenance import provenance

        settings = {key: x for key, x in asdict(self).items() if x not in ("", None, (), False)}
        _show(**settings)
        try:
            with bar(desc="convert", unit=" episodes") as shown:
                made = convert(
                    self.source,
                    self.dest,
                    self.from_format,
                    self.to_format,
                    Asked(self.from_actions, self.from_gripper, self.from_scale, self.tcp),
                    Asked(self.to_actions, self.to_gripper, self.to_scale, self.tcp),
                    Hints(self.control_hz, self.env, pose_hints(self.poses), self.skip),
                    overwrite=self.overwrite,
                    progress=shown.update,
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; nothing was written.") from None
        settings |= {"read": asdict(made.read), "written": asdict(made.written)}
        # Beside it, also of a folder: what others' libraries find in their folders is theirs.
        note = made.path.with_name(made.path.name + ".json")
        write_text(note, json.dumps(provenance() | {"settings": settings}, indent=2, default=str) + "\n")
        print(made)
        return made.path


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
        _show(env=env, policy=self.policy, train=self.train, seed=self.seed, device=device, out=self.out)
        return train(config, self.out, self.seed, device, resume=self.resume)


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
    """Another task than the one trained on."""
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
        _show(run=self.run_folder, evaluate=config, env=env, device=device)
        return evaluate(self.run_folder, config, device, self.out, env, self.overwrite)

    def _env(self) -> EnvConfig | None:
        """None for the task as it was trained."""
        changes = _from_words(self.env_kwargs)
        if self.env:
            return EnvConfig(self.env, changes)
        description = self.run_folder / "config.json"
        if not changes or not description.is_file():
            return None
        trained = json.loads(description.read_text())["config"]["env"]
        return EnvConfig(trained["id"], trained["kwargs"] | changes)


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
        from geoflow.experiments.comparison import compare

        _show(runs=[str(run) for run in self.runs], out=self.out, videos=self.videos)
        return compare(self.runs, self.out, videos=self.videos)


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
        _show(out=self.out, seed=self.seed, device=device)
        return demo(self.out, seed=self.seed, device=device, videos=self.videos)


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
    nfe: int = 0
    """Network evaluations a chunk, fixed in the graph; 0 means the policy's own."""

    @classmethod
    def defaults(cls, config: Config) -> Export:
        """A run must be given."""
        return cls(run_folder=tyro.MISSING)

    def run(self) -> Path:
        """Export."""
        from geoflow.policies.checkpoint import load_policy
        from geoflow.policies.export import export

        _show(**export(load_policy(self.run_folder), self.out, self.nfe or None))
        return self.out


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
    """Time a training step with each option of the flow toolbox, relative to the plain flow."""

    summary: ClassVar[str] = "what each option of the toolbox costs a training step"
    example: ClassVar[str] = "geoflow bench train --backbone unet --repeats 5"

    backbone: str = "mlp"
    """The policy's network: mlp, unet, ..."""
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

        device = resolve_device(self.device)
        return bench_train(
            self.out,
            self.backbone,
            self.batch,
            self.width,
            self.depth,
            self.repeats,
            self.seed,
            device,
            self.precision,
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


@dataclass(frozen=True)
class Scene:
    """Which task to look at, by its short name or its gymnasium id."""

    level: int | None = None
    """The rung of the task's ladder; the task's own by default."""
    robot: str | None = None
    """free or panda; the task's own by default."""
    env_kwargs: tuple[str, ...] = ()
    """What else it is made with, as in --env-kwargs split=range."""
    screen: str = "auto"
    """auto, window (MuJoCo's viewer), browser (viser)."""
    port: int = 8080
    """Of the page in the browser."""

    def kwargs(self) -> dict[str, Any]:
        """What to make the task with."""
        chosen = {"level": self.level, "robot": self.robot}
        return {key: x for key, x in chosen.items() if x is not None} | _from_words(self.env_kwargs)


@dataclass(frozen=True)
class View:
    """Watch a task being done by its expert or a trained policy: in a window, in a browser, or as a film."""

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
                port=self.scene.port,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("left.") from None


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


COMMANDS: dict[str, type[Any]] = {
    "demo": Demo,
    "collect": Collect,
    "data info": DataInfo,
    "data convert": DataConvert,
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "export": Export,
    "view": View,
    "teleop": Teleop,
    "bench lie": BenchLie,
    "bench train": BenchTrain,
    "bench env": BenchEnv,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `geoflow ARGUMENTS`; what a user can mend ends in one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("GEOFLOW_DEBUG", "") not in ("", "0")
    try:
        _run([word for word in words if word != "--debug"])
    except KeyboardInterrupt as error:
        sentence = str(error) or "interrupted; the same command continues where it was."
        print(f"\ngeoflow: {sentence}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"geoflow: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    if words[0] == "--version":
        from geoflow import __version__

        print(f"geoflow {__version__}")
        return
    name, command = _command(words)
    rest = words[len(name.split()) :]
    options = _parse(name, command, rest)
    if getattr(options, "seed", 0) < 0:
        raise ValueError(f"seed={options.seed}; it is 0 or more.")
    made = options.run()
    if made is not None:
        print(made)


def _parse(name: str, command: type[Any], words: list[str]) -> Any:
    """The command's options: defaults, changed by the YAML files among ``words``, then by the other words."""
    return tyro.cli(
        command,
        prog=f"geoflow {name}",
        description=f"{(command.__doc__ or '').strip()}\n\nExample: {command.example}",
        args=words,
        default=command.defaults(load(_yaml_files(words))),
    )


def _yaml_files(words: list[str]) -> list[Path]:
    """The words that are YAML files and not the value of an option."""
    found = []
    for before, word in zip(["", *words], words, strict=False):
        option = before.startswith("--") and "=" not in before
        if word.endswith((".yaml", ".yml")) and not word.startswith("-") and not option:
            found.append(Path(word))
    return found


def _command(words: list[str]) -> tuple[str, type[Any]]:
    """The command that the first one or two words name."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            return name, COMMANDS[name]
    below = [name for name in COMMANDS if name.startswith(words[0] + " ")]
    if below:
        raise ValueError(f"geoflow {words[0]} needs one more word: {', '.join(below)}.")
    close = get_close_matches(words[0], COMMANDS, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(COMMANDS)}."
    raise ValueError(f"unknown command {words[0]!r}; {hint}")


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: geoflow COMMAND [OPTIONS]",
            "",
            "Flow matching on Lie groups for robot action chunks.",
            "",
            *lines,
            "",
            "geoflow COMMAND --help shows a command's options; --debug, or GEOFLOW_DEBUG=1, shows tracebacks.",
        ]
    )


def _show(**values: Any) -> None:
    """Print what was resolved."""
    plain = {key: str(x) if isinstance(x, Path) else x for key, x in values.items() if x is not None}
    print(to_yaml(plain), end="", flush=True)


def _from_words(words: Sequence[str]) -> dict[str, Any]:
    """("level=2",) -> {"level": 2}."""
    import yaml

    kwargs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(
                f"--env-kwargs {word}: expected name=value, as in --env-kwargs level=2 robot=panda."
            )
        kwargs[key] = yaml.safe_load(value)
    return kwargs


_EXTRAS = {
    "sim": ("mujoco", "gymnasium", "imageio", "geoflow_envs"),
    "train": (
        "accelerate",
        "diffusers",
        "h5py",
        "huggingface_hub",
        "jinja2",
        "matplotlib",
        "yaml",
        "tensorboard",
        "tqdm",
    ),
    "view": ("viser",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "formats": ("pyarrow", "zarr", "numcodecs", "imageio_ffmpeg"),
}


def _sentence(error: Exception) -> str:
    """An error in one line, with what would work."""
    if isinstance(error, ImportError):
        module = (error.name or "").split(".")[0]
        extra = next((extra for extra, modules in _EXTRAS.items() if module in modules), "all")
        return f"this command needs {module or error}; install it with: pip install 'geoflow[{extra}]'"
    if isinstance(error, OSError) and error.errno is not None:
        return _system_sentence(error)
    return " ".join(str(error).split()) or type(error).__name__


def _system_sentence(error: OSError) -> str:
    """What the operating system refused."""
    where = f"{error.filename}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "free some space, or choose another --out; the same command continues",
        errno.EDQUOT: "free some space, or choose another --out; the same command continues",
        errno.EFBIG: "choose another --out; the same command continues",
        errno.EACCES: "choose another --out, or ask for permission",
        errno.EPERM: "choose another --out, or ask for permission",
        errno.EROFS: "choose another --out: nothing can be written there",
        errno.ENOENT: "a folder of the path is missing",
        errno.ENOTDIR: "a part of the path is a file: choose another path",
        errno.EEXIST: "a file is where a folder is needed: choose another path",
        errno.EISDIR: "that is a folder: give a file",
    }
    return f"{where}{error.strerror}; {advice.get(error.errno or 0, 'choose another path')}."


if __name__ == "__main__":
    main()

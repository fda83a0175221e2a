"""Training: one loop for every policy, resumable to the identical weights."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from geoflow.data.atomic import replacing, write_text
from geoflow.data.chunks import Chunks
from geoflow.experiments.config import Config, TrainConfig
from geoflow.experiments.devices import mixed_precision, resolve_device
from geoflow.experiments.model_card import model_card
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.policies.base import Policy, PolicySpec
from geoflow.policies.checkpoint import CheckpointError, build_policy, load_policy
from geoflow.policies.flow import FlowPolicy

LAUNCHERS = ("LOCAL_RANK", "ACCELERATE_USE_CPU")
"""Environment variables that a process has from torchrun or accelerate launch."""


class TrainingError(ValueError):
    """A training that cannot go on; the message says at which step, why, and what would help."""


def train(config: Config, out: Path, seed: int = 0, device: str = "auto", *, resume: bool = True) -> Path:
    """Train the policy of ``config`` on its demonstrations; the run folder ``out`` is a checkpoint.

    A run that was interrupted, even by kill -9, goes on from its last checkpoint and ends, on a CPU, in the
    same weights bit for bit; a finished run is left as it is.

    Args:
        config: The experiment.
        out: The run folder: config.json, model.safetensors (averaged weights), README.md, metrics.jsonl,
            tensorboard/, training/state.safetensors.
        seed: Of initial weights, order of the data, and noise.
        device: auto, cpu, cuda, cuda:1, ...; under `accelerate launch` the launcher decides.
        resume: False refuses a folder that already holds a run.

    Returns:
        ``out``.

    Raises:
        CheckpointError: the folder holds a run with other settings.
        DemonstrationError: the demonstrations cannot be read or do not fit.
        TrainingError: the loss, its gradient or the weights are not finite; the last checkpoint is as it was.
    """
    settings = config.train
    device = resolve_device(device)
    accelerator = _accelerator(device, mixed_precision(settings.precision, device))
    run = _Run(out, config, seed, str(accelerator.device), resume)
    if run.finished:
        tqdm.write(f"{out} is trained already ({settings.steps} steps).")
        return out
    chunks = Chunks(
        settings.files,
        config.policy.horizon,
        config.policy.observation_steps,
        config.policy.recorded,
        settings.windows,
    )
    if (
        len({meta.env_id for meta in chunks.metas}) == 1
    ):  # files of several tasks say which they are themselves
        chunks.metas[0].expect(env_id=config.env.id, where=str(settings.files[0]))
    torch.manual_seed(seed)
    policy = build_policy(config.policy, PolicySpec.of(chunks))
    policy.fit(chunks)
    if settings.start and not run.begun:
        policy.begin_from(load_policy(settings.start))
    policy.to(accelerator.device)
    average = AveragedModel(policy, multi_avg_fn=_warm_up_average(settings.ema_power))
    optimizer = torch.optim.AdamW(
        policy.parameters(),
        settings.learning_rate,
        betas=(0.95, 0.999),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if settings.compile:
        compile_loss(policy)
    model, optimizer = accelerator.prepare(policy, optimizer)
    done, seconds = run.restore(policy, average, optimizer)
    main = accelerator.is_main_process
    share = settings.batch_size // accelerator.num_processes
    window = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    progress = bar(
        total=settings.steps, initial=done, desc=f"train {out.name}", unit="step", disable=not main
    )
    losses: list[Tensor] = []
    recording = run.recording(policy, seconds, done) if main else nullcontext()
    with progress, recording, _deferred_interrupt() as interrupted:
        logged, started = time.perf_counter(), time.perf_counter() - seconds
        for step in range(done, settings.steps):
            batch = chunks.batch(chunks.shuffled(step, settings.batch_size, seed)[window]).to(
                accelerator.device
            )
            generator = _generator(seed, step, accelerator)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            loss = model(batch, generator).mean()
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(policy.parameters(), settings.gradient_clip or math.inf)
            assert norm is not None  # None is DeepSpeed's, which this loop does not run under
            optimizer.step()
            average.update_parameters(policy)
            losses.append(loss.detach())
            progress.update()
            last = step + 1 == settings.steps
            if (step + 1) % settings.log_every == 0 or last:
                elapsed, logged = time.perf_counter() - logged, time.perf_counter()
                record = {
                    "step": step + 1,
                    "loss": float(torch.stack(losses).mean()),
                    "lr": learning_rate(step, settings),
                    "gradient_norm": float(norm),
                    "samples_per_second": round(len(losses) * settings.batch_size / elapsed, 1),
                    "seconds": round(time.perf_counter() - started, 3),
                }
                run.check(step + 1, {"loss": record["loss"], "norm of its gradient": record["gradient_norm"]})
                if main:
                    run.log(record)
                progress.set_postfix(
                    loss=f"{record['loss']:.4f}",
                    samples_s=f"{record['samples_per_second']:.0f}",
                    refresh=False,
                )
                losses.clear()
            if main and ((step + 1) % settings.checkpoint_every == 0 or last or interrupted.is_set):
                run.save(policy, average, optimizer, step + 1, time.perf_counter() - started)
            if interrupted.is_set:
                raise KeyboardInterrupt
    return out


def _accelerator(device: str, precision: str) -> Accelerator:
    """accelerate's, on ``device``, or on the one that a launcher gives to this process.

    It keeps its first device and precision for the whole process, which may have trained something else before.
    """
    launched = any(name in os.environ for name in LAUNCHERS)
    AcceleratorState._reset_state(reset_partial_state=not launched)
    if not launched:
        PartialState(cpu=device == "cpu").device = torch.device(device)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision)


def compile_loss(policy: Policy) -> None:
    """Compile, in place and without a graph break, a flow's loss with its network, or another policy's network.

    Raises:
        ValueError: a flow whose loss cannot be compiled, see `geoflow.Flow.compile`.
    """
    compiled = policy.flow if isinstance(policy, FlowPolicy) else policy.net
    compiled.compile(fullgraph=True, dynamic=False)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * config.learning_rate * (1 + math.cos(math.pi * progress))


class _Run:
    """A run folder: what is written when, and how a run is taken up again."""

    def __init__(self, out: Path, config: Config, seed: int, device: str, resume: bool) -> None:
        self._out, self._config, self._seed, self._device = out, config, seed, device
        self._state = out / "training" / "state.safetensors"
        self._metrics = out / "metrics.jsonl"
        self._step = 0
        if not self._state.is_file():
            return
        if not resume:
            raise CheckpointError(f"{out} holds a run already; choose another --out, or resume it.")
        try:
            with safe_open(self._state, "pt") as file:
                saved = file.metadata()
        except SafetensorError as error:
            raise CheckpointError(
                f"{self._state} is damaged ({error}); remove {out} to train anew, or choose another --out."
            ) from error
        before, now = json.loads(saved["settings"]), self._settings()
        defaults = json.loads(json.dumps(asdict(Config())))
        for part in ("policy", "train"):  # options that there were not yet had no effect
            before[part] = {key: defaults[part][key] for key in now[part]} | before[part]
        for settings in (before, now):  # a file is the same one by whatever path
            files = TrainConfig(demos=settings["train"]["demos"]).files
            settings["train"]["demos"] = [str(path.resolve()) for path in files]
        differences = _differences(before, now)
        if differences:
            raise CheckpointError(
                f"{out} holds a run with other settings ({'; '.join(differences)}); choose another --out, or "
                "give the settings it was begun with."
            )
        self._step = int(saved["step"])

    @property
    def finished(self) -> bool:
        """The last step is done and its weights are written."""
        return self._step >= self._config.train.steps and (self._out / "model.safetensors").is_file()

    @property
    def begun(self) -> bool:
        """There is a checkpoint to go on from."""
        return self._step > 0

    def restore(self, policy: Policy, average: AveragedModel, optimizer: Any) -> tuple[int, float]:
        """Load the last checkpoint, if there is one; the steps done and the seconds they took."""
        if not self.begun:
            return 0, 0.0
        parts: dict[str, dict[str, Tensor]] = {"policy": {}, "average": {}, "optimizer": {}}
        with safe_open(self._state, "pt") as file:
            seconds = float(file.metadata()["seconds"])
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                part, name = key.split("/", 1)
                parts[part][name] = file.get_tensor(key)
        policy.load_state_dict(parts["policy"])
        average.load_state_dict(parts["average"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return self._step, seconds

    @contextmanager
    def recording(self, policy: Policy, seconds: float, done: int) -> Iterator[None]:
        """Open the run for `log` and `save`: what is known already is written, log lines beyond the checkpoint go."""
        self._out.mkdir(parents=True, exist_ok=True)
        self._describe(policy, seconds)
        lines = self._metrics.read_text().splitlines() if done and self._metrics.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= done]
        write_text(self._metrics, "".join(line + "\n" for line in kept))
        self._board = SummaryWriter(str(self._out / "tensorboard"), purge_step=done or None)
        with closing(self._board):
            yield

    def check(self, step: int, numbers: dict[str, float]) -> None:
        """Raise a TrainingError for a number that is not finite: from there no step brings the weights back."""
        settings = self._config.train
        for name, value in numbers.items():
            if not math.isfinite(value):
                kept = (
                    f"the checkpoint of step {self._step} is as it was" if self.begun else "nothing was saved"
                )
                raise TrainingError(
                    f"{self._out}, step {step}: the {name} is {value}; {kept}. Train anew with a smaller "
                    f"train.learning_rate ({settings.learning_rate:g}) or train.gradient_clip "
                    f"({settings.gradient_clip:g}; 0 clips nothing), and look for outliers in the demonstrations."
                )

    def log(self, record: dict[str, float]) -> None:
        """One line of metrics.jsonl, and the same to TensorBoard."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name in ("loss", "lr", "gradient_norm", "samples_per_second"):
            self._board.add_scalar(name, record[name], record["step"])

    def save(self, policy: Policy, average: AveragedModel, optimizer: Any, step: int, seconds: float) -> None:
        """A checkpoint: everything a resumed run needs in one file, replaced at once; then the averaged policy.

        Raises:
            TrainingError: a weight is not finite; nothing is written.
        """
        weights = torch.stack([x.detach().sum() for x in policy.parameters()])
        self.check(step, {"sum of the weights": float(weights.sum())})
        tensors = {f"policy/{name}": x for name, x in policy.state_dict().items()}
        tensors |= {f"average/{name}": x for name, x in average.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": x for name, x in moments.items()}
        metadata = {"step": str(step), "seconds": str(seconds), "settings": json.dumps(self._settings())}
        averaged = average.module
        assert isinstance(averaged, Policy)
        # The weights first: a finished state without its weights would be taken for a finished run.
        with replacing(self._out / "model.safetensors") as path:
            save_file(_contiguous(averaged.state_dict()), path)
        self._describe(averaged, seconds)
        with replacing(self._state) as path:
            save_file(_contiguous(tensors), path, metadata)
        self._step = step
        self._board.flush()

    def _describe(self, policy: Policy, seconds: float) -> None:
        description = {
            "config": asdict(self._config),
            "spec": policy.spec.to_dict(),
            "seed": self._seed,
            "train_seconds": round(seconds, 1),
            "parameters": policy.parameter_count,
            **provenance(self._device),
        }
        write_text(self._out / "config.json", json.dumps(description, indent=2) + "\n")
        write_text(self._out / "README.md", model_card(self._out.name, description))

    def _settings(self) -> dict[str, Any]:
        """What must agree between the beginning of a run and its continuation."""
        settings = asdict(self._config)
        free = ("log_every", "checkpoint_every")
        training = {key: value for key, value in settings["train"].items() if key not in free}
        return json.loads(json.dumps({"policy": settings["policy"], "train": training, "seed": self._seed}))


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} there, {b} asked for")
    return found


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu().contiguous() for name, x in tensors.items()}


def _warm_up_average(power: float, most: float = 0.9999) -> Any:
    """Averaging weights with decay 1 - n^-power after n updates, as Diffusion Policy does; the first two copy."""

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        decay = min(1 - float(count) ** -power, most)
        torch._foreach_lerp_(averages, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    return update


def _generator(seed: int, step: int, accelerator: Accelerator) -> torch.Generator:
    """Noise that depends on seed, step and process alone, so that a resumed run draws the same."""
    generator = torch.Generator(accelerator.device)
    return generator.manual_seed((seed * 1_000_003 + step) * 1_009 + accelerator.process_index)


class _Interrupt:
    is_set = False


@contextmanager
def _deferred_interrupt() -> Iterator[_Interrupt]:
    """Ctrl-C sets a flag instead of breaking off in mid-step, so that a checkpoint can be written first."""
    interrupt = _Interrupt()

    def on_signal(*_: object) -> None:
        interrupt.is_set = True

    try:
        before = signal.signal(signal.SIGINT, on_signal)
    except ValueError:  # not in the main thread: nobody can press Ctrl-C here
        yield interrupt
        return
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)

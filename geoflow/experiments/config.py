"""Config = env + collect + policy + train + evaluate: what an experiment is, as values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from geoflow.policies.config import PolicyConfig, at_least


@dataclass(frozen=True)
class EnvConfig:
    """A gymnasium environment whose action is a pose with extras."""

    id: str = "geoflow_envs:geoflow/TiltedPegInsert-v0"
    """The id that gymnasium.make takes, with the module that registers it in front."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """What it is made with, such as level and robot."""


@dataclass(frozen=True)
class CollectConfig:
    """Demonstrations of the scripted expert."""

    episodes: int = 200
    """Successful demonstrations to record."""
    choice: str = "random"
    """How the expert picks among feasible modes: greedy or random."""
    disturbance: float = 0.0
    """Share of steps, 0 to about 0.25, at which a correlated disturbance is added to what is executed."""
    workers: int = 0
    """Processes; 0 means one per core."""

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of its range."""
        at_least(self, "collect", episodes=1, disturbance=0, workers=0)


PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of a policy on demonstrations."""

    demos: str | tuple[str, ...] = "demos/peg.h5"
    """The demonstration file, or several, of one task or of many: --train.demos a.h5 b.h5."""
    start: str = ""
    """A run folder or Hub id whose weights and units it begins with; the policy is the same, but may learn to go on
    with given steps. None by default."""
    windows: str = "whole"
    """Which chunks of disturbed demonstrations are learned: whole, the undisturbed ones; begun, all, of each the
    actions up to the first disturbed step (long chunks have few undisturbed windows)."""
    steps: int = 7000
    """Optimiser steps."""
    batch_size: int = 256
    """Windows of demonstrations a step."""
    learning_rate: float = 1e-3
    """The highest; see ``warmup``."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    warmup: int = 200
    """Steps of linear warm-up; a cosine to zero follows."""
    ema_power: float = 0.75
    """Exponent of the warm-up of the moving average of the weights (Diffusion Policy uses 0.75)."""
    gradient_clip: float = 1.0
    """Largest norm of a gradient; 0 clips nothing."""
    precision: str = "auto"
    """float32, bfloat16 (mixed), or auto: bfloat16 where the processor or GPU multiplies it natively."""
    compile: bool = False
    """Compile a flow's loss with its network, or another policy's network (torch.compile): a minute or so before the
    first step, then faster ones. Not for flow maps, nor for paths that draw noise of their own."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints, from which an interrupted training goes on."""

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of its range, or an unknown precision."""
        at_least(self, "train", steps=1, batch_size=1, log_every=1, checkpoint_every=1)
        at_least(self, "train", learning_rate=0, weight_decay=0, warmup=0, ema_power=0, gradient_clip=0)
        if not self.files:
            raise ValueError("train.demos names no file; give one, such as demos/peg.h5, or several.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"train.precision={self.precision!r}; it is one of {', '.join(PRECISIONS)}.")

    @property
    def files(self) -> tuple[Path, ...]:
        """The demonstration files."""
        return tuple(map(Path, (self.demos,) if isinstance(self.demos, str) else self.demos))


@dataclass(frozen=True)
class EvaluateConfig:
    """Rollouts on held-out scenes."""

    episodes: int = 100
    """Scenes; give 100 for a claim."""
    first_seed: int = 1_000_000
    """Scenes are reset with first_seed, first_seed + 1, ...; demonstrations use seeds below 1 000 000."""
    nfe: tuple[int, ...] = (1, 2, 4, 10)
    """Network evaluations a chunk."""
    execute: int = 0
    """Steps executed of each chunk; 0 means the policy's own."""
    delay: int = 0
    """Control steps that pass until a chunk is computed, while the last one goes on; 0: the robot waits."""
    manner: str = "naive"
    """naive: a chunk knows nothing of the one that goes on meanwhile; joined: nor does it, but when it takes over it
    goes on from the last two commands, and comes back smoothly to what it was; guided: real-time chunking, it is
    pulled to begin as that goes on; given: it begins as that goes on, as policy.given_steps teaches."""
    ensemble: float | None = None
    """m >= 0: act on the mean of all chunks that reach the present step, weighted exp(-m i), oldest first."""
    warm_start: float | None = None
    """t_0 in (0, 1): begin to sample a chunk there, from what is left of the last one."""
    candidates: int = 1
    """Draw so many chunks each time, and execute the likeliest (flow policies)."""
    disturbance: float = 0.0
    """Share of steps at which something else is executed than was commanded, in bursts as in collect.disturbance."""
    transfer: bool = False
    """Play another task or robot than the policy was trained on; it must offer the same observations."""
    workers: int = 0
    """Processes; 0 means one per core."""

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of its range."""
        at_least(
            self,
            "evaluate",
            episodes=1,
            first_seed=0,
            execute=0,
            delay=0,
            disturbance=0,
            candidates=1,
            workers=0,
        )


@dataclass(frozen=True)
class Config:
    """One experiment. A YAML file states only what differs from these defaults."""

    env: EnvConfig = field(default_factory=EnvConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key, and what would work."""


def load(paths: Iterable[Path | str] = (), overrides: Mapping[str, Any] | None = None) -> Config:
    """The defaults, changed by YAML files from left to right, then by ``overrides``.

    Args:
        paths: YAML files. Each states what differs, by section: ``train: {steps: 100}``. A mapping such as
            env.kwargs is merged key by key, everything else is replaced.
        overrides: Dotted keys, as in ``{"train.steps": 100}``.

    Raises:
        ConfigError: an unknown key or section (the message suggests a known one), a wrong type, broken YAML.
        FileNotFoundError: there is no such file.
    """
    config = Config()
    for path in paths:
        config = _merge(config, _read_yaml(Path(path)), "", str(path))
    for key, value in (overrides or {}).items():
        for part in reversed(key.split(".")):
            value = {part: value}
        config = _merge(config, value, "", "overrides")
    return config


def to_yaml(values: Mapping[str, Any]) -> str:
    """Sections of a configuration (dataclasses or plain values) as YAML."""
    import yaml

    plain = {
        key: asdict(x) if is_dataclass(x) and not isinstance(x, type) else x for key, x in values.items()
    }
    return yaml.safe_dump(json.loads(json.dumps(plain, default=str)), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # the light install reads no configurations

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a YAML file, such as configs/env/peg.yaml.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _strict_loader())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {_words(content)}; expected sections such as `train:` with keys below."
        )
    return content


def _strict_loader() -> Any:
    """PyYAML's safe loader, but a key that stands twice is an error instead of the last one winning."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for i, key in enumerate(keys):
                if key in keys[:i]:
                    line = node.value[i][0].start_mark.line + 1
                    raise yaml.YAMLError(f"the key {key} stands twice, again in line {line}")
            return super().construct_mapping(node, deep)

    return Loader


def _merge(values: Any, changes: Any, prefix: str, where: str) -> Any:
    """A dataclass with ``changes`` merged in; ``prefix`` is its dotted name, ``where`` the file."""
    if not isinstance(changes, Mapping):
        known = ", ".join(f.name for f in fields(values))
        name = prefix.rstrip(".")
        raise ConfigError(f"{where}: {name} is {_words(changes)}; expected keys below it: {known}.")
    hints = get_type_hints(type(values))
    merged = {}
    for key, change in changes.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {name}; {_suggestion(str(key), prefix, hints)}")
        old = getattr(values, key)
        if is_dataclass(old):
            merged[key] = _merge(old, change, f"{name}.", where) if change is not None else old
        elif isinstance(old, dict) and isinstance(change, Mapping):
            merged[key] = {**old, **change}
        else:
            merged[key] = _convert(change, hints[key], name, where)
    try:
        return replace(values, **merged)
    except ValueError as error:  # a number out of its range
        raise ConfigError(f"{where}: {error}") from error


def _suggestion(key: str, prefix: str, hints: Mapping[str, Any]) -> str:
    """Which key was meant: one of this section, or of another."""
    close = get_close_matches(key, hints, 1)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    everywhere = {name.rsplit(".")[-1]: name for name in _names(Config(), "")}
    close = get_close_matches(key, everywhere, 1, 0.8)
    if close:
        return f"did you mean {everywhere[close[0]]}?"
    return f"known here: {', '.join(hints)}."


def _names(values: Any, prefix: str) -> Iterator[str]:
    for f in fields(values):
        value = getattr(values, f.name)
        yield from _names(value, f"{prefix}{f.name}.") if is_dataclass(value) else (prefix + f.name,)


def _convert(value: Any, hint: Any, name: str, where: str) -> Any:
    """``value`` as the type ``hint``: int, float, str, bool, dict, a tuple of those, or one of them or None."""
    if NoneType in get_args(hint):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
        if value is None:
            return None
    if isinstance(hint, UnionType):  # one, or a list of them
        several = isinstance(value, (list, tuple))
        hint = next(kind for kind in get_args(hint) if (get_origin(kind) is tuple) == several)
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(x, arguments[0], f"{name}[{i}]", where) for i, x in enumerate(value))
    if origin is float and isinstance(value, str):
        # YAML 1.1 takes 1e-3, without a dot, for a word.
        with suppress(ValueError):
            return float(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, origin) and (origin is bool or not isinstance(value, bool)):
        return value
    expected = f"a list of {arguments[0].__name__}" if origin is tuple else _TYPES[origin]
    raise ConfigError(f"{where}: {name} is {_words(value)}; expected {expected}.")


_TYPES = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    dict: "a mapping, as in {level: 1}",
}


def _words(value: Any) -> str:
    """A value as an error message calls it."""
    if value is None:
        return "empty"
    kinds = {dict: "a mapping", list: "the list", str: "the word", int: "the number", float: "the number"}
    return f"{kinds.get(type(value), '')} {value!r}".strip()

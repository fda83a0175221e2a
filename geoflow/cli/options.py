"""What several commands take: YAML files, a task, a scene to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Fixed, Positional, Suppress, arg

from geoflow.experiments.config import EnvConfig, to_yaml

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
        return EnvConfig(self.env, self.from_files | from_words(self.env_kwargs))


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
        return {key: x for key, x in chosen.items() if x is not None} | from_words(self.env_kwargs)


def show(**values: Any) -> None:
    """Print what was resolved."""
    plain = {key: str(x) if isinstance(x, Path) else x for key, x in values.items() if x is not None}
    print(to_yaml(plain), end="", flush=True)


def from_words(words: Sequence[str]) -> dict[str, Any]:
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

"""PolicySpec: what a policy acts on, task by task, as its demonstrations had it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from geoflow.data.chunks import Chunks
from geoflow.policies.foreign import hint


@dataclass(frozen=True)
class TaskSpec:
    """One task of a policy.

    Attributes:
        env_id: Its gymnasium id.
        env_kwargs: What it was made with when its demonstrations were recorded.
        observations: Names of what is observed in it.
        cameras: Where the cameras of its pictures were, as in `geoflow.data.demonstrations.Meta`.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    observations: tuple[str, ...]
    cameras: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id without the module that registers it."""
        return self.env_id.rpartition(":")[2]


@dataclass(frozen=True)
class PolicySpec:
    """What a policy acts on: fixed by the demonstrations it is trained on.

    Attributes:
        env_id: The gymnasium id of the task, the first of several.
        control_hz: Actions a second.
        kinds: Observation name -> "pose", "vector", "image", "points", "text" or "embedding", of all tasks together.
        shapes: Observation name -> shape of one observation.
        action_dim: 7 for each arm, and the extras.
        tasks: Each task, and what is observed in it.
        texts: Observation name -> every text it was trained with.
        arms: Poses in an action.
        dtypes: Picture -> "uint8", 0 to 255, or "float32", as it is; earlier checkpoints do not say.
    """

    env_id: str
    control_hz: float
    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    action_dim: int
    tasks: tuple[TaskSpec, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arms: int = 1
    dtypes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, chunks: Chunks) -> PolicySpec:
        """The spec of demonstration files."""
        tasks = [
            TaskSpec(meta.env_id, dict(meta.env_kwargs), tuple(meta.observation_kinds), dict(meta.cameras))
            for meta in chunks.metas
        ]
        texts = {name: tuple(sorted(said)) for name, said in chunks.texts.items()}
        return cls(
            tasks[0].env_id,
            chunks.metas[0].control_hz,
            dict(chunks.kinds),
            chunks.shapes,
            chunks.action_dim,
            tuple(task for i, task in enumerate(tasks) if task not in tasks[:i]),
            texts,
            chunks.metas[0].arms,
            chunks.dtypes,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolicySpec:
        """From the JSON of a checkpoint."""
        shapes = {name: tuple(shape) for name, shape in values["shapes"].items()}
        tasks = tuple(
            TaskSpec(**{**task, "observations": tuple(task["observations"])})
            for task in values.get("tasks", ())
        )
        texts = {name: tuple(said) for name, said in values.get("texts", {}).items()}
        return cls(**{**values, "shapes": shapes, "tasks": tasks, "texts": texts})

    def to_dict(self) -> dict[str, Any]:
        """For the JSON of a checkpoint."""
        return asdict(self)

    def only(self, names: Sequence[str]) -> PolicySpec:
        """The same with these observations alone, or with all where there are no names.

        Raises:
            ValueError: there is no such observation.
        """
        for name in names:
            if name not in self.kinds:
                raise ValueError(
                    f"policy.observations names {name!r}; recorded are {', '.join(self.kinds)}.{hint(name, self.kinds)}"
                )
        kept = [name for name in self.kinds if name in names or not names]
        return replace(
            self,
            kinds={name: self.kinds[name] for name in kept},
            shapes={name: self.shapes[name] for name in kept},
            tasks=tuple(
                replace(
                    task,
                    observations=tuple(name for name in task.observations if name in kept),
                    cameras={name: place for name, place in task.cameras.items() if name in kept},
                )
                for task in self.tasks
            ),
            texts={name: said for name, said in self.texts.items() if name in kept},
            dtypes={name: dtype for name, dtype in self.dtypes.items() if name in kept},
        )

    def in_bytes(self, name: str) -> bool | None:
        """Whether a picture is uint8, 0 to 255, or else numbers as they are; None where that is not known."""
        if name in self.dtypes:
            return self.dtypes[name] == "uint8"
        return True if self.shapes[name][-1] == 3 else None  # colours have never been anything else

    @property
    def partial(self) -> tuple[str, ...]:
        """Observations that not all of the tasks have."""
        return tuple(name for name in self.kinds if any(name not in task.observations for task in self.tasks))

    @property
    def several(self) -> bool:
        """Whether it is of more than one environment."""
        return len({task.name for task in self.tasks}) > 1

    def trained_on(self, env_id: str) -> tuple[TaskSpec, ...]:
        """The tasks of that id, with or without the module in front: one for each way its demonstrations were made."""
        return tuple(task for task in self.tasks if task.name == env_id.rpartition(":")[2])

    def task(self, env_id: str) -> TaskSpec:
        """The first task of that id.

        Raises:
            ValueError: there is none.
        """
        found = self.trained_on(env_id)
        if not found:
            known = ", ".join(sorted({task.env_id for task in self.tasks}))
            raise ValueError(f"env {env_id!r} is none of the tasks this policy was trained on: {known}.")
        return found[0]

    def require(self, given: Collection[str], optional: Collection[str] = ()) -> None:
        """Raise ValueError unless ``given`` names all that is observed in one of the tasks, ``optional`` ones aside."""
        # A task may be there in several ways: its demonstrations need not all have seen the same.
        tasks = [(task.name, task.observations) for task in self.tasks] or [(self.env_id, tuple(self.kinds))]
        needs = [(name, {*seen} - {*optional}) for name, seen in tasks]
        if any(need <= {*given} for _, need in needs):
            return
        need = needs[0][1]
        if all(other == need for _, other in needs):
            missing = next(name for name in self.kinds if name in need - {*given})
            raise ValueError(
                f"observation {missing!r} is missing ({self.kinds[missing]}, shape {tuple(self.shapes[missing])}); "
                f"this policy was trained on {sorted(self.kinds)} and was given {sorted(given)}."
            )
        each = "; ".join(f"{name}: {', '.join(sorted(need))}" for name, need in needs)
        raise ValueError(
            f"observations are missing; this policy needs all that one of its tasks has ({each}), and was given "
            f"{sorted(given)}."
        )

    def check_text(self, name: str, text: str) -> None:
        """Raise ValueError where a text has words that no demonstration had: a policy has no meaning for them."""
        known = {word for said in self.texts.get(name, ()) for word in said.split()}
        unknown = [word for word in text.split() if word not in known]
        if known and unknown:
            said = sorted(
                filter(None, self.texts[name]), key=lambda other: -len({*other.split()} & {*text.split()})
            )
            raise ValueError(
                f"{name} {text!r}: this policy never read {', '.join(map(repr, unknown))}; it was trained on such as "
                f"{', '.join(map(repr, said[:3]))}. (Given as bytes, a text is not checked.)"
            )

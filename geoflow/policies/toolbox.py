"""The flow toolbox by name: what policy.method, prior, path, coupling, times and grid may say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from geoflow import flows
from geoflow.policies.expressions import build


@dataclass(frozen=True)
class Later:
    """``kind`` with some named arguments, to be called when the data that give the others are known."""

    kind: Callable[..., Any]

    def __call__(self, **named: Any) -> partial[Any]:
        """Those arguments."""
        # Raises TypeError for an argument that it does not have.
        inspect.signature(self.kind).bind_partial(**named)
        return partial(self.kind, **named)


def even(steps: int) -> int:
    """Equal steps."""
    return steps


@dataclass(frozen=True)
class Dense:
    """Steps -> `geoflow.flows.dense_jump`."""

    jump: float

    def __post_init__(self) -> None:
        """Raise ValueError now rather than at the first chunk."""
        self(2)

    def __call__(self, steps: int) -> list[float]:
        """The times."""
        return flows.dense_jump(steps, self.jump)


CLOCKS = {kind.__name__: kind for kind in (flows.Linear, flows.Cosine, flows.Power, flows.Exponential)}
PARTS: Mapping[str, Mapping[str, Any]] = {
    "method": {
        kind.__name__: Later(kind) for kind in (flows.Flow, flows.MeanFlow, flows.Shortcut, flows.Consistency)
    },
    "prior": {
        "gaussian": flows.WrappedGaussian,
        "haar": flows.HaarUniform,
        "igso3": flows.IGSO3,
        "GaussianProcess": Later(flows.GaussianProcess),
        "Brownian": flows.Brownian,
        "OrnsteinUhlenbeck": flows.OrnsteinUhlenbeck,
        "SquaredExponential": flows.SquaredExponential,
    },
    "path": {
        "Geodesic": flows.Geodesic,
        **CLOCKS,
        "SigmaMin": flows.SigmaMin,
        "BrownianBridge": flows.BrownianBridge,
        "Diffusion": flows.Diffusion,
        "CosineVP": flows.CosineVP,
        "LinearVP": flows.LinearVP,
        "CondOT": flows.CondOT,
    },
    "coupling": {
        "independent": flows.independent,
        "OptimalTransport": flows.OptimalTransport,
        "ConditionalTransport": flows.ConditionalTransport,
    },
    "times": {"uniform": flows.uniform_times, "LogitNormal": flows.LogitNormal, "Beta": flows.Beta},
    "grid": {"uniform": even, "dense_jump": Dense},
}
"""Option -> name -> what it stands for. Own parts need no row: module:Name is imported."""


def made_by(maker: Any) -> Any:
    """The class that a method or a prior is of, before or after some arguments are given."""
    return maker.func if isinstance(maker, partial) else maker


def _makes(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(made_by(value), type) and issubclass(made_by(value), kind)


def _called(value: Any) -> bool:
    """A function, or what a class has made, as against the class."""
    return callable(value) and not isinstance(value, type)


FITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "method": (_makes(flows.Flow), "Flow() or MeanFlow()"),
    # A function of one's own may make a prior, too.
    "prior": (
        lambda value: _makes(flows.Prior)(value) or inspect.isfunction(value),
        "gaussian or GaussianProcess(kernel=Brownian())",
    ),
    "path": (lambda value: isinstance(value, flows.Path), "Geodesic(), Geodesic(Cosine()) or SigmaMin(0.01)"),
    "coupling": (_called, "independent or OptimalTransport()"),
    "times": (_called, "uniform or LogitNormal(0, 1)"),
    "grid": (_called, "uniform or dense_jump(0.5)"),
}
"""Option -> whether a value can be it, and what would."""


def part(option: str, text: str) -> Any:
    """What ``policy.<option>: text`` describes; see `geoflow.policies.expressions`.

    Raises:
        ValueError: it describes nothing known, or what is no such part; the message says what would.
    """
    value = build(f"policy.{option}", text, PARTS[option])
    fits, examples = FITS[option]
    if fits(value):
        return value
    try:
        forgotten = fits(value())
    except (TypeError, ValueError):
        forgotten = False
    write = f"{text.strip()}()" if forgotten else f"such as {examples}"
    raise ValueError(f"policy.{option}={text!r} is no {option}; write {write}.")

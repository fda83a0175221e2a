"""The flow toolbox by name: what policy.method, prior, path, coupling, times and grid may say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from geoflow import flows
from geoflow.policies.expressions import build


def later(kind: Callable[..., Any]) -> Callable[..., partial[Any]]:
    """``kind`` with some named arguments, to be called when the data that give the others are known."""

    def choose(**named: Any) -> partial[Any]:
        inspect.signature(kind).bind_partial(
            **named
        )  # raises TypeError for an argument that it does not have
        return partial(kind, **named)

    return choose


def dense(jump: float) -> Callable[[int], list[float]]:
    """Steps -> `geoflow.flows.dense_jump`."""
    flows.dense_jump(2, jump)  # raises ValueError now rather than at the first chunk
    return partial(flows.dense_jump, jump=jump)


CLOCKS = {kind.__name__: kind for kind in (flows.Linear, flows.Cosine, flows.Power, flows.Exponential)}
PARTS: Mapping[str, Mapping[str, Any]] = {
    "method": {
        kind.__name__: later(kind) for kind in (flows.Flow, flows.MeanFlow, flows.Shortcut, flows.Consistency)
    },
    "prior": {
        "gaussian": flows.WrappedGaussian,
        "haar": flows.HaarUniform,
        "igso3": flows.IGSO3,
        "GaussianProcess": later(flows.GaussianProcess),
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
    "grid": {"uniform": int, "dense_jump": dense},
}
"""Option -> name -> what it stands for. Own parts need no row: module:Name is imported."""


def part(option: str, text: str) -> Any:
    """What ``policy.<option>: text`` describes; see `geoflow.policies.expressions`.

    Raises:
        ValueError: it describes nothing known; the message says what would.
    """
    return build(f"policy.{option}", text, PARTS[option])

"""geoflow: flow matching on Lie groups for robot action chunks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoflow import lie
    from geoflow.flows import Flow, HaarUniform, WrappedGaussian
    from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product
    from geoflow.policies.checkpoint import load_policy
    from geoflow.policies.chunking import ChunkBroker
    from geoflow.policies.realtime import RealTimeBroker

__version__ = "0.1.0"

__all__ = [
    "SE3",
    "SO3",
    "ChunkBroker",
    "Euclidean",
    "Flow",
    "HaarUniform",
    "Manifold",
    "Product",
    "RealTimeBroker",
    "WrappedGaussian",
    "lie",
    "load_policy",
]

# Names are imported when they are first used: `geoflow --help` does not wait for torch, and whoever only
# wants a flow does not pay for checkpoints and demonstrations.
_HOMES = {
    "SE3": "manifolds",
    "SO3": "manifolds",
    "ChunkBroker": "policies.chunking",
    "Euclidean": "manifolds",
    "Flow": "flows",
    "HaarUniform": "flows",
    "Manifold": "manifolds",
    "Product": "manifolds",
    "RealTimeBroker": "policies.realtime",
    "WrappedGaussian": "flows",
    "load_policy": "policies.checkpoint",
    # the packages themselves
    "flows": "",
    "lie": "",
    "manifolds": "",
    "policies": "",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoflow' has no attribute {name!r}; it has {', '.join(__all__)}")
    home = _HOMES[name]
    value = getattr(import_module(f"geoflow.{home}"), name) if home else import_module(f"geoflow.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

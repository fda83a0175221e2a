"""geoflow: flow matching on Lie groups for robot action chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoflow import lie
from geoflow.flows import Flow, HaarUniform, WrappedGaussian
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product

if TYPE_CHECKING:
    from geoflow.policies.checkpoint import load_policy
    from geoflow.policies.chunking import ChunkBroker

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
    "WrappedGaussian",
    "lie",
    "load_policy",
]

# Policies read checkpoints and demonstrations; whoever only wants a flow does not pay for that.
_LAZY = {"load_policy": "geoflow.policies.checkpoint", "ChunkBroker": "geoflow.policies.chunking"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'geoflow' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)

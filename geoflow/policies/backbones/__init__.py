"""Backbones: networks (features, t, cond) -> output that know no geometry."""

from geoflow.policies.backbones.mlp import ResidualMLP

BACKBONES = {"mlp": ResidualMLP}

__all__ = ["BACKBONES", "ResidualMLP"]

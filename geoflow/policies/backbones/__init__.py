"""Backbones: networks (features, t, cond) -> output that know no geometry."""

from geoflow.policies.backbones.mlp import ResidualMLP
from geoflow.policies.backbones.unet import FiLMUNet

BACKBONES = {"mlp": ResidualMLP, "unet": FiLMUNet}

__all__ = ["BACKBONES", "FiLMUNet", "ResidualMLP"]

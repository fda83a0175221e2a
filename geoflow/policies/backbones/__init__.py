"""Backbones: networks (features, t, cond) -> output. All but `InvariantTransformer` know no geometry.

``cond`` is a vector (B, C) for the MLP and the U-Nets, a `Condition` of tokens for those that have
``takes_tokens``; their ``prepare`` makes of it, once a chunk, what no integration step changes.
"""

from geoflow.policies.backbones.condition import Condition
from geoflow.policies.backbones.diffusion_unet import DiffusionUNet
from geoflow.policies.backbones.expert import ActionExpert
from geoflow.policies.backbones.invariant import InvariantTransformer
from geoflow.policies.backbones.mlp import ResidualMLP
from geoflow.policies.backbones.transformer import DiffusionTransformer
from geoflow.policies.backbones.unet import FiLMUNet

BACKBONES = {
    "mlp": ResidualMLP,
    "unet": FiLMUNet,
    "diffusion_unet": DiffusionUNet,
    "transformer": DiffusionTransformer,
    "invariant": InvariantTransformer,
    "expert": ActionExpert,
}

__all__ = [
    "BACKBONES",
    "ActionExpert",
    "Condition",
    "DiffusionTransformer",
    "DiffusionUNet",
    "FiLMUNet",
    "InvariantTransformer",
    "ResidualMLP",
]

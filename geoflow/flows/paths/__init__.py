"""Conditional probability paths: how x_t runs from noise x_0 to data x_1."""

from geoflow.flows.paths.base import Path, PathSample
from geoflow.flows.paths.diffusion import Diffusion
from geoflow.flows.paths.geodesic import Geodesic
from geoflow.flows.paths.noisy import BrownianBridge, NoisyGeodesic, SigmaMin

__all__ = ["BrownianBridge", "Diffusion", "Geodesic", "NoisyGeodesic", "Path", "PathSample", "SigmaMin"]

"""Conditional probability paths: how x_t runs from noise x_0 to data x_1."""

from geoflow.flows.paths.base import Path, PathSample
from geoflow.flows.paths.geodesic import Geodesic

__all__ = ["Geodesic", "Path", "PathSample"]

"""Conditional probability paths: how x_t runs from noise x_0 to data x_1."""

from geoflow.flows.paths.geodesic import Geodesic, PathSample

__all__ = ["Geodesic", "PathSample"]

"""Lie groups as plain functions on tensors: SO(3) as quaternions, SE(3) as poses, densities on both."""

from geoflow.lie import densities, se3, so3

__all__ = ["densities", "se3", "so3"]

"""Lie groups as plain functions on tensors: SO(3) as quaternions, SE(3) as poses."""

from geoflow.lie import se3, so3

__all__ = ["se3", "so3"]

"""Encoders: observations -> the condition vector of a network."""

from geoflow.policies.encoders.vector import VectorEncoder

__all__ = ["VectorEncoder"]

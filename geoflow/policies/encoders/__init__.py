"""Encoders: observations -> tokens (B, steps, tokens a step, width) and which of them are there; no geometry.

Each is made from (shape of one observation, To, width), says how many ``steps`` and ``tokens`` it gives, and is
called with observations (B, To, *shape) and a source of randomness.
"""

from geoflow.policies.encoders.embedding import EmbeddingEncoder
from geoflow.policies.encoders.images import ImageEncoder
from geoflow.policies.encoders.points import PointEncoder
from geoflow.policies.encoders.text import TextEncoder, tokenise
from geoflow.policies.encoders.vector import HistoryEncoder, VectorEncoder

ENCODERS = {
    "vector": HistoryEncoder,
    "image": ImageEncoder,
    "points": PointEncoder,
    "text": TextEncoder,
    "embedding": EmbeddingEncoder,
}
"""Kind of an observation -> its encoder; poses are seen from each other instead, see `Policy.observation_vector`."""

__all__ = [
    "ENCODERS",
    "EmbeddingEncoder",
    "HistoryEncoder",
    "ImageEncoder",
    "PointEncoder",
    "TextEncoder",
    "VectorEncoder",
    "tokenise",
]

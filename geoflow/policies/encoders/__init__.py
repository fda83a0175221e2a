"""Encoders: observations -> tokens (B, steps, tokens a step, width) and which of them are there; no geometry.

`Encoder` says what they have in common.
"""

from geoflow.policies.encoders.base import Encoder
from geoflow.policies.encoders.blobs import BlobEncoder
from geoflow.policies.encoders.embedding import EmbeddingEncoder
from geoflow.policies.encoders.images import ImageEncoder
from geoflow.policies.encoders.points import PointEncoder
from geoflow.policies.encoders.text import TextEncoder, tokenise
from geoflow.policies.encoders.vector import HistoryEncoder, VectorEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "vector": HistoryEncoder,
    "image": ImageEncoder,
    "points": PointEncoder,
    "text": TextEncoder,
    "embedding": EmbeddingEncoder,
}
"""Kind of an observation -> its encoder; poses are seen from each other instead, see `StateFeatures`."""

PICTURES: dict[str, type[Encoder]] = {"keypoints": ImageEncoder, "blobs": BlobEncoder}
"""`PolicyConfig.pictures` -> the encoder of images."""

__all__ = [
    "ENCODERS",
    "PICTURES",
    "BlobEncoder",
    "EmbeddingEncoder",
    "Encoder",
    "HistoryEncoder",
    "ImageEncoder",
    "PointEncoder",
    "TextEncoder",
    "VectorEncoder",
    "tokenise",
]

"""TextEncoder: an instruction, byte by byte, through a small transformer. Nothing is downloaded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder

LAYERS = 2


class TextEncoder(Encoder):
    """Texts (B, To, L) of UTF-8 bytes, 0 after the end, to a token a byte and one before, (B, 1, 1 + L, width).

    The present text is read, the last of To.
    """

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        if len(shape) != 1:
            raise ValueError(
                f"a text has the shape {tuple(shape)}; expected (length,): bytes, as tokenise gives them."
            )
        self.steps, self.tokens = 1, 1 + shape[0]
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1 + shape[0], width))
        heads = max(width // 64, 1) if width % 64 == 0 else 1
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.net = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn. The token before the text is always there."""
        codes = nn.functional.pad(x[:, -1].long(), (1, 0))
        there = codes != 0
        there[:, 0] = True
        tokens = self.net(self.bytes(codes) + self.positions, src_key_padding_mask=~there)
        return tokens[:, None], there[:, None]


def tokenise(text: str, length: int) -> Tensor:
    """A text as bytes (length,), uint8, 0 after its end.

    Raises:
        ValueError: the text is longer, or contains a zero byte.
    """
    code = text.encode()
    if len(code) > length or 0 in code:
        problem = "contains a zero byte" if 0 in code else f"has {len(code)} bytes"
        raise ValueError(
            f"the text {text[:40]!r}... {problem}; this policy reads {length} at most, none of them 0."
        )
    return torch.tensor(list(code.ljust(length, b"\0")), dtype=torch.uint8)

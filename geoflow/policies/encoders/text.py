"""TextEncoder: an instruction, byte by byte, through a small transformer; a token a word. Nothing is downloaded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder

LAYERS = 2
WORDS = 16
"""Tokens of a text; what follows the last of so many words is part of it."""
SPACE = 32


class TextEncoder(Encoder):
    """Texts (B, To, L) of UTF-8 bytes, 0 after the end, to a token a word and one before, (B, 1, 1 + W, width).

    Bytes attend to each other, and the mean of a word's is its token. The present text is read, the last of To.
    """

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        if len(shape) != 1:
            raise ValueError(
                f"a text has the shape {tuple(shape)}; expected (length,): bytes, as tokenise gives them."
            )
        self.words = min(WORDS, (shape[0] + 1) // 2)
        self.steps, self.tokens = 1, 1 + self.words
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1 + shape[0], width))
        heads = max(width // 64, 1) if width % 64 == 0 else 1
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.net = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn. The token before the text is always there."""
        # A batch has few texts, each many times.
        texts, which = torch.unique(x[:, -1], dim=0, return_inverse=True)
        codes = nn.functional.pad(texts.long(), (1, 0))
        there = codes != 0
        there[:, 0] = True
        seen = self.net(self.bytes(codes) + self.positions, src_key_padding_mask=~there)
        member = nn.functional.one_hot(self._word(codes), 2 + self.words)[..., :-1].to(seen)
        count = member.sum(1)
        tokens = torch.einsum("blw,blc->bwc", member, seen) / count.clamp(min=1).unsqueeze(-1)
        return tokens[which][:, None], (count > 0)[which][:, None]

    def _word(self, codes: Tensor) -> Tensor:
        """Which token each byte (N, 1 + L) is part of: 0 before the text, then words; the one after all is none."""
        letter = (codes != 0) & (codes != SPACE)
        begins = letter[:, 1:] & ~letter[:, :-1]
        word = nn.functional.pad(begins.cumsum(1), (1, 0)).clamp(max=self.words)
        word = torch.where(letter, word, 1 + self.words)
        word[:, 0] = 0
        return word


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

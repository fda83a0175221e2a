"""Quaternion arithmetic in few operations of many numbers, for exported graphs: a runtime pays for each of them.

The same functions as in `_quaternion`, on components (n, ...). What is made of constants alone, such as the matrix
of a constant rotation, a runtime computes once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

# (q0 q1)_i = sum_k sign q0[index] (q1)_k: entry [k][i] says which of q0, and with which sign.
_LEFT = ((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))
_LEFT_SIGNS = ((1, 1, 1, 1), (-1, 1, 1, -1), (-1, -1, 1, 1), (-1, 1, -1, 1))
# R(q)[i][j] = [i == j] + sum of two products s q[a] q[b]: column by column, (a, b, s) of the first, of the second.
_FIRST = (
    (2, 2, -2),
    (1, 2, 2),
    (1, 3, 2),
    (1, 2, 2),
    (1, 1, -2),
    (2, 3, 2),
    (1, 3, 2),
    (2, 3, 2),
    (1, 1, -2),
)
_SECOND = (
    (3, 3, -2),
    (0, 3, 2),
    (0, 2, -2),
    (0, 3, -2),
    (3, 3, -2),
    (0, 1, 2),
    (0, 2, 2),
    (0, 1, -2),
    (2, 2, -2),
)
_KEY = (1.0, 1e-18, 1e-24, 1e-30)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """a x b."""
    forth, back = (_take(a, (1, 2, 0, 2, 0, 1)) * _take(b, (2, 0, 1, 1, 2, 0))).chunk(2)
    return forth - back


def multiply(q0: Tensor, q1: Tensor) -> Tensor:
    """The Hamilton product (4, ...)."""
    entries = [i for row in _LEFT for i in row]
    left = _take(q0, entries) * _column([s for row in _LEFT_SIGNS for s in row], q0)
    return (left.unflatten(0, (4, 4)) * q1.unsqueeze(1)).sum(0)


def columns(q: Tensor, count: int) -> Tensor:
    """The first columns of R(q), one after the other, (3 count, ...)."""
    a, b, s = zip(*_FIRST[: 3 * count], *_SECOND[: 3 * count], strict=True)
    first, second = (_take(q, a) * _take(q, b) * _column(s, q)).chunk(2)
    return first + second + _column([1.0, 0, 0, 0, 1, 0, 0, 0, 1][: 3 * count], q)


def rotate(q: Tensor, a: Tensor) -> Tensor:
    """R(q) a."""
    return (columns(q, 3).unflatten(0, (3, 3)) * a.unsqueeze(1)).sum(0)


def short_way(q: Tensor) -> Tensor:
    """The sign that turns q into the representative with w >= 0."""
    return torch.sign((q * _column(_KEY, q)).sum(0, keepdim=True))


def _take(x: Tensor, index: Sequence[int]) -> Tensor:
    return x.index_select(0, _constant(tuple(index), torch.int64, x.device))


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return _constant(tuple(values), like.dtype, like.device).reshape(-1, *[1] * (like.ndim - 1))


def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # What an export traces is a stand-in for a tensor, and must not be kept.
    make = _kept if not torch.compiler.is_compiling() else torch.tensor
    return make(values, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # What is kept must serve training too, even where an inference asks first.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)

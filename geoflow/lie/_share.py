"""sin(t phi) / sin(phi) and its kin for a fixed share t of a way, as polynomials of w = cos(phi), 0 <= w <= 1.

phi is half the angle between two rotations, w the scalar part of the quaternion that turns one into the other.
Each weight is analytic in w but for w <= -1, which is far from where it is asked: twelve coefficients give float32,
twenty-four float64, where the series of logarithm and exponential take two polynomials, a square root and a
division one after the other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from geoflow.lie import series

_COUNT = {torch.float32: 12, torch.float64: 24}


def weights(w: Tensor, share: float) -> tuple[Tensor, ...]:
    """At w (1, ...), with t = ``share`` from 0 to 1, r = 1 - t and s = sin(phi), each (1, ...):

    sin(r phi) / s,   sin(t phi) / s,   sin(t phi) cos(r phi) / s,
    ((t - r) s - sin((t - r) phi)) / (2 s^3),   sin(r phi) sin(t phi) / s^2.
    """
    return _rows(share, w.dtype)(w - 0.5).chunk(5)


@lru_cache(maxsize=1024)
def _rows(t: float, dtype: torch.dtype) -> series.Rows:
    """Of w - 1/2, lowest power first, one row for each weight: interpolation at Chebyshev nodes."""
    count = _COUNT[dtype]
    node = np.cos((np.arange(count) + 0.5) * np.pi / count)
    phi = np.arccos(0.5 + 0.5 * node)
    s, there, back = np.sin(phi), np.sin(t * phi), np.sin((1 - t) * phi)
    m = 2 * t - 1
    values = (
        back / s,
        there / s,
        there * np.cos((1 - t) * phi) / s,
        (m * s - np.sin(m * phi)) / (2 * s**3),
        back * there / s**2,
    )
    power = 2.0 ** np.arange(count)
    fitted = chebyshev.chebfit(node, np.stack(values, -1), count - 1)
    return series.Rows(tuple(tuple((power * chebyshev.cheb2poly(column)).tolist()) for column in fitted.T))

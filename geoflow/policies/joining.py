"""A chunk c joined to one that is executed, a: c_i Exp(xi_i), xi from Log(c^-1 a) back to zero along a cubic.

A chunk that was computed from a newer observation is right, but does not begin where the robot will be sent when it
takes over. Joined, it goes on from there with the same pose and velocity, and is itself again some steps later. This
costs nothing, needs no training, and does not depend on how chunks are made. The more steps, the smaller the jump, and
the longer an old plan is held on to; `scripts/real_time.py` measures what that costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.lie import se3

BACK = 2
"""Steps in which a chunk comes back."""


def coming_back(value: Tensor, slope: Tensor, j: Tensor, back: int) -> Tensor:
    """Twists at steps j of the cubic with this value and slope (a step) at j = 0, and zeros of both at ``back``.

    Before j = 0 it is the line they say, after ``back`` it is zero. Values and slopes (B, 1, 6), j (B, T) or (T,).
    """
    s = (j / back).clamp(0, 1)
    stay = torch.where(j > 0, 2 * s**3 - 3 * s**2 + 1, 1)
    lean = torch.where(j > 0, back * (s**3 - 2 * s**2 + s), j)
    return stay[..., None] * value + lean[..., None] * slope


def join(chunk: Tensor, going: Tensor, d: int, back: int = BACK, arms: int = 1) -> Tensor:
    """A chunk (B, T, 7 * arms + k) that begins with d steps of ``going``, itself again ``back`` steps later.

    The velocity with which it leaves is that of the last two of them; of one alone only the pose is known. Extras
    beyond the given steps are the chunk's own.
    """
    if d == 0:
        return chunk
    parts = [slice(7 * arm, 7 * arm + 7) for arm in range(arms)]
    poses = [_joined(chunk[..., part], going[:, :d, part], back) for part in parts]
    return torch.cat([going[:, :d], torch.cat([*poses, chunk[..., 7 * arms :]], -1)[:, d:]], 1)


def _joined(c: Tensor, a: Tensor, back: int) -> Tensor:
    """Poses c (B, T, 7) that go on from poses a (B, d, 7); the first d mean nothing."""
    d = a.shape[1]
    last = slice(max(d - 2, 0), d)
    xi = se3.log(se3.compose(se3.inverse(c[:, last]), a[:, last]))
    j = torch.arange(c.shape[1], device=c.device, dtype=c.dtype) - (d - 1)
    return se3.compose(c, se3.exp(coming_back(xi[:, -1:], xi[:, -1:] - xi[:, :1], j, back)))

"""A chunk c joined to what was executed, a: c_i Exp(q(i)), q a quintic from Log(c^-1 a) back to zero, soon but gently.

A chunk that was computed from a newer observation is right, but does not begin where the robot was sent last. Joined,
it goes on from there with the same pose and velocity, and is itself again n steps later. This costs nothing, needs no
training, does not depend on how chunks are made, and is done when the chunk takes over, to what was really executed.

n is the least with which no command departs from where the last step, made once more, would have led (its change of
step, c_(k-1) (c_(k-2)^-1 c_(k-1)) to c_k) by more than the chunk itself does there and a bound, of translation and of
rotation, half as large at the border as after it. So a small disagreement vanishes in two or three steps, where
precision matters, and a large one (another way to the goal, a new phase) over all that is left of the chunk: of a
quintic from the value x, at rest, the largest second difference is about 5.8 |x| / n^2, against 6 |x| / n^2 of a cubic,
and at the border itself it is of the order n^-3, since value, slope and curvature all meet (minimum jerk: Flash and
Hogan 1985).
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.lie import se3

ACCELERATION = (0.8, 2.8), (1.6, 5.6)
"""What joining may add [m/s^2, rad/s^2] at the border, and on the way back: at 20 Hz 2 mm and 0.4 degrees a step, and
twice that. Between the mean and the 95th percentile of the changes inside chunks of TiltedPegInsert; half of it costs
success, since old plans are held on to."""


def join(chunk: Tensor, executed: Tensor, first: int, hz: float, arms: int = 1) -> Tensor:
    """What is left of a chunk, going on from the last two commands: steps ``first`` to T, (B, T - first, 7 arms + k).

    Each arm comes back at its own time. Extras are the chunk's own.

    Args:
        chunk: c, shape (B, T, 7 arms + k), T at least 2.
        executed: The last two commands, the newest last, shape (B, 2, 7 arms + k).
        first: The step of the chunk that is due now: how many ticks ago it was asked for, 1 to T - 1. Of a chunk
            one tick old, where its last step but one would have been is taken from its first two.
        hz: Actions a second.
        arms: Poses at the beginning of an action.
    """
    hands = [slice(7 * arm, 7 * arm + 7) for arm in range(arms)]
    poses = [_joined(chunk[..., hand], executed[..., hand], first, hz) for hand in hands]
    return torch.cat([*poses, chunk[:, first:, 7 * arms :]], -1)


def changes(poses: Tensor) -> Tensor:
    """How far poses (..., N, 7) are from the step before repeated, in metres and radians: (..., N - 2, 2).

    The position and the rotation that separate c_k from c_(k-1) (c_(k-2)^-1 c_(k-1)).
    """
    before, last, now = poses[..., :-2, :], poses[..., 1:-1, :], poses[..., 2:, :]
    foreseen = se3.compose(last, se3.between(before, last))
    turn = se3.minus(now, foreseen)[..., 3:]
    return torch.stack([(now - foreseen)[..., :3].norm(dim=-1), turn.norm(dim=-1)], -1)


def bounds(steps: int, hz: float) -> Tensor:
    """What joining may add to the change of each of so many steps from the border on, (steps, 2): [m, rad]."""
    border, back = ACCELERATION
    return torch.tensor([border, *[back] * (steps - 1)]) / hz**2


def coming_back(value: Tensor, slope: Tensor, j: Tensor, n: Tensor) -> Tensor:
    """The quintic with this value and slope (a step) at j = 0, and zeros of both at n; no curvature at either.

    After n it is zero. Values and slopes (..., 6), steps j >= 0 and durations n that broadcast to their leading shape.
    """
    s = (j / n).clamp(max=1)
    stay = 1 - s**3 * (10 - s * (15 - 6 * s))
    lean = n * s * (1 - s**2 * (6 - s * (8 - 3 * s)))
    return stay[..., None] * value + lean[..., None] * slope


def _joined(c: Tensor, a: Tensor, first: int, hz: float) -> Tensor:
    """Steps ``first`` to T of poses c (B, T, 7), going on from poses a (B, 2, 7)."""
    if first == 1:
        back = se3.compose(c[:, :1], se3.between(c[:, 1:2], c[:, :1]))
        c = torch.cat([back, c], 1)
        first = 2
    c = c[:, first - 2 :]
    xi = se3.minus(a, c[:, :2])
    left = c.shape[1] - 2
    steps = torch.arange(1, left + 1, device=c.device, dtype=c.dtype)
    # Every n at once: (n, B, steps, 7).
    q = coming_back(xi[:, None, 1], (xi[:, 1] - xi[:, 0])[:, None], steps, steps[:, None, None])
    joined = se3.plus(c[:, 2:], q)
    whole = torch.cat([a.expand(left, -1, -1, -1), joined], 2)
    allowed = changes(c) + bounds(left, hz).to(c)
    gentle = (changes(whole) <= allowed).all(-1).all(-1)
    gentle[-1] = True  # at the latest at the end of the chunk
    soonest = gentle.to(torch.uint8).argmax(0)
    return joined[soonest, torch.arange(len(c), device=c.device)]

"""A grid of times learned from trajectories: short steps where they bend, long ones where they run straight."""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.manifolds import Manifold

#: Part of the grid that is spread evenly, whatever the trajectories say: no step is longer than 1 / (0.1 n).
_EVEN = 0.1
#: A change of velocity below this part of the speed itself is straight enough, and may be rounding.
_STRAIGHT = 0.01


def learned_clock(space: Manifold, states: Tensor, steps: int, *, order: int = 1) -> list[float]:
    """Times 0 = t_0 < ... < t_steps = 1 that spread the integrator's error evenly over its steps.

    A step h of a method of order p errs by about h^(p+1) |a|, with a = dv/dt the change of the body velocity
    along the trajectory; steps in proportion to |a|^(-1/(p+1)) make all these errors the same (equidistribution,
    de Boor 1973), and for p = 1 their sum least. Train as usual, then once:

        states = flow.sample(net, cond=cond, steps=100, path=True)
        grid = learned_clock(flow.space, states, 4)
        chunk = flow.sample(net, cond=cond, steps=grid)

    Args:
        space: The manifold.
        states: Trajectories (n + 1, ..., point_dim) in n equal steps, n >= 3 and several times ``steps``; all of
            them share the grid, by the root mean square of a over them.
        steps: Steps of the grid.
        order: p, the order of the method that will walk the grid: 1 for euler, 2 for midpoint. Above 1 |a| stands
            in for the higher derivative of which the error is made.

    Raises:
        ValueError: too few states, or no step.
    """
    n = len(states) - 1
    if states.dim() < 2 or n < 3:
        raise ValueError(
            f"expected states (n + 1, ..., {space.point_dim}) of at least 3 fine steps; got {tuple(states.shape)}. "
            "Draw them with flow.sample(..., steps=100, path=True)."
        )
    if steps < 1 or order < 1:
        raise ValueError(f"steps={steps}, order={order}; expected at least 1 of both.")
    v = n * space.log(states[:-1], states[1:])
    speed = space.squared_norm(v).double().mean().sqrt()
    a = space.squared_norm(n * v.diff(dim=0)).double().reshape(n - 1, -1).mean(-1).sqrt()
    # a is known between the steps; the first and the last step take their one neighbour's.
    a = torch.cat([a[:1], 0.5 * (a[:-1] + a[1:]), a[-1:]]) + (_STRAIGHT * speed).clamp(min=1e-30)
    density = a ** (1 / (order + 1))
    mass = _EVEN / n + (1 - _EVEN) * density / density.sum()
    reached = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
    times = _invert(
        reached / reached[-1], torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=a.device)
    )
    return [0.0, *times[1:-1].tolist(), 1.0]


def _invert(reached: Tensor, values: Tensor) -> Tensor:
    """t where the increasing, piecewise linear function with ``reached`` at equal steps of [0, 1] has ``values``."""
    n = len(reached) - 1
    right = torch.searchsorted(reached, values).clamp(1, n)
    low, high = reached[right - 1], reached[right]
    return (right - 1 + (values - low) / (high - low)) / n

"""Warm start: sample from x_t0 on the path to a guess, dx/ds = (1 - t_0) v(x, t_0 + (1 - t_0) s), s from 0 to 1."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Solver, Steps, euler, integrate
from geoflow.flows.noise import Generators


def sample_from(
    flow: Flow,
    net: Network,
    guess: Tensor,
    begin: float,
    cond: Any = None,
    *,
    steps: Steps = 10,
    method: Solver = euler,
    x_0: Tensor | None = None,
    generator: Generators = None,
    path: bool = False,
) -> Tensor:
    """Draw points that begin as noised guesses, such as what is left of the last chunk.

    x_t0 lies where the flow's own path would be at t_0 if it led to the guess, so the network meets there what it
    has seen in training; the rest of the way is integrated as always. The nearer t_0 is to 1, the fewer steps it
    takes, and the more of the guess is kept.

    Args:
        flow: The flow.
        net: The network.
        guess: Shape (B, ..., point_dim).
        begin: t_0, 0 <= t_0 < 1; 0 is `Flow.sample`.
        cond: Handed to the network as it is.
        steps: Integration steps of the rest of the way, or the grid of s.
        method: The integrator.
        x_0: The noise; drawn from the prior by default.
        generator: Source of randomness.
        path: Return all states, stacked in front.

    Raises:
        ValueError: a t_0 out of its range; a method that the target does not allow, as in `Flow.sample`.
    """
    if not 0 <= begin < 1:
        raise ValueError(f"a warm start at t={begin}; expected a time from 0 to below 1, such as 0.5.")
    flow.check_method(method)
    if x_0 is None:
        x_0 = flow.prior.sample(guess.shape[:-1], generator).to(guess.dtype)
    times = guess.new_full((len(guess),), begin)
    x = flow.path(flow.space, x_0, guess, over_inner(times, guess), generator).x_t

    def velocity(x: Tensor, s: float) -> Tensor:
        t = x.new_full((len(x),), begin + (1 - begin) * s)
        return (1 - begin) * flow.velocity(net, x, t, cond)

    return integrate(flow.space, velocity, x, steps, method, path=path)

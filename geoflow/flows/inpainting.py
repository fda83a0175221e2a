"""Sample a chunk that goes on as given: v + w(t) s^2 g, g pulled back from the residual Log(x_hat_1^-1 y).

Real-time chunking (Black, Galliker and Levine 2025, arXiv:2506.07339) on a manifold: while a policy computes, the
last chunk is still executed, so the new one has to begin as the last one went on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Solver, Steps, euler, integrate
from geoflow.flows.noise import Generators


def sample_onward(
    flow: Flow,
    net: Network,
    onward: Tensor,
    weights: Tensor,
    cond: Any = None,
    *,
    steps: Steps = 10,
    method: Solver = euler,
    strength: float = 5.0,
    x_0: Tensor | None = None,
    generator: Generators = None,
    path: bool = False,
) -> Tensor:
    """Draw chunks that stay near given ones where their weight is large, and agree with themselves.

    At every evaluation the end point x_hat_1 that the flow is heading for is compared with the given y, and the
    velocity corrected by the gradient, with respect to a body perturbation delta of x_t, of

        -1/2 sum_i W_i | Log(x_hat_1(x_t Exp(delta))_i^-1 y_i) / s |^2,

    which holds the right Jacobian of the logarithm and the network's own (pseudo-inverse guidance: Song et al.
    2023; Pokle et al. 2024), with the weight w(t) = min(strength, (t^2 + (1 - t)^2) / (t (1 - t))).

    Args:
        flow: Its scale s is the unit of residuals and tangents.
        net: The network, differentiable.
        onward: y, shape (B, T, point_dim): what the chunk should go on with.
        weights: W, shape (T,) or (B, T), 0 to 1; see `soft_mask`.
        cond: Handed to the network as it is.
        steps: Integration steps, or their grid of times.
        method: The integrator.
        strength: Bound of the weight of the guidance (beta).
        x_0: Where to start; drawn from the prior by default.
        generator: Source of randomness.
        path: Return all states, stacked in front.

    Raises:
        ValueError: weights that do not fit the chunk; a method that the target does not allow, as in `Flow.sample`.
        NotImplementedError: the path does not say where a velocity leads.
    """
    flow.check_method(method)
    if weights.shape not in (onward.shape[1:-1], onward.shape[:-1]):
        raise ValueError(
            f"expected weights of shape {tuple(onward.shape[1:-1])} or {tuple(onward.shape[:-1])}, one for each "
            f"step of the chunk; got {tuple(weights.shape)}."
        )
    space, batch = flow.space, onward.shape[0]
    if x_0 is None:
        x_0 = flow.prior.sample(onward.shape[:-1], generator).to(onward.dtype)

    def velocity(x: Tensor, t: float) -> Tensor:
        times = x.new_full((batch,), t)
        with torch.enable_grad():
            delta = x.new_zeros(*x.shape[:-1], space.tangent_dim, requires_grad=True)
            moved = space.exp(x, delta)
            v = flow.velocity(net, moved, times, cond)
            ahead = flow.path.endpoint_of(space, moved, v, over_inner(times, x))
            residual = space.log(ahead, onward) / flow.scale
            misfit = 0.5 * (weights * residual.square().sum(-1)).sum()
            (gradient,) = torch.autograd.grad(misfit, delta)
        return v.detach() - _gain(t, strength) * flow.scale**2 * gradient

    return integrate(space, velocity, x_0, steps, method, path=path)


def soft_mask(horizon: int, frozen: int, known: int) -> Tensor:
    """Weights (horizon,): 1 for steps that will have been executed, then falling to 0 where nothing is known.

    W_i = c_i (e^c_i - 1) / (e - 1), c_i = (known - i) / (known - frozen + 1), for frozen <= i < known (Black et
    al. 2025, eq. (5)): the nearer a step, the more the new chunk should keep to it.

    Args:
        horizon: T.
        frozen: Steps that are executed before the new chunk is there: the delay.
        known: Steps of the last chunk that are left, 0 to the horizon.

    Raises:
        ValueError: a delay longer than what is left of the last chunk.
    """
    if not 0 <= frozen <= known <= horizon:
        raise ValueError(
            f"a delay of {frozen} steps with {known} of {horizon} steps left; the delay may be at most what is left: "
            "execute fewer steps of a chunk, or train a longer horizon."
        )
    i = torch.arange(horizon, dtype=torch.get_default_dtype())
    c = (known - i) / (known - frozen + 1)
    falling = c * torch.expm1(c) / math.expm1(1.0)
    return torch.where(i < frozen, 1.0, torch.where(i < known, falling, 0.0))


def _gain(t: float, strength: float) -> float:
    spread = t * (1 - t)
    return strength if spread == 0 else min(strength, (t * t + (1 - t) ** 2) / spread)

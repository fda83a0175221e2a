"""MeanFlow on a Lie group: u = Ad(Exp(-w)) v + (r - t) J_r(w) Du/dt, w = (r - t) u (Geng et al. 2025 on R^n)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.flow import Network
from geoflow.flows.flow_maps.base import FlowMap
from geoflow.flows.noise import Generators
from geoflow.manifolds import Manifold


class MeanFlow(FlowMap):
    """The average velocity from its own derivative along the flow.

    Where a jump lands does not depend on where along its trajectory it starts: with r fixed, y = x_t Exp(w) and
    w = (r - t) u(x_t, t, r) stay put while x_t moves with the body velocity v. By the product rule y moves with

        y^-1 dy/dt = Ad(Exp(-w)) v + J_r(w) dw/dt = 0,    dw/dt = -u + (r - t) Du/dt,

    Du/dt = d/de u(x_t Exp(e v), t + e, r) at e = 0. As J_r(w) u = u for w parallel to u, this is

        u = Ad(Exp(-w)) v + (r - t) J_r(w) Du/dt,

    or, solved for the other side, u = J_l(w)^-1 v + (r - t) Du/dt with J_l(w) = J_r(-w): on R^n both are the
    identity u = v + (r - t) Du/dt of Geng et al. (eq. 6, times reversed). Training uses the first: its error is
    the velocity of the landing point, finite for jumps of any angle, where J_l^-1 has a pole at 2 pi. It is
    linear in v, so that the velocities of conditional paths average to the marginal one's target.

    The right side is taken without gradient; Du/dt is one Jacobian-vector product.
    """

    def errors(
        self, net: Network, x_0: Tensor, x_1: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u, its target, and t."""
        with torch.no_grad():
            t, r = self.draw_times(generator, x_1)
            x_t, v = self.field(x_0, x_1, t, cond, generator)

        def along(step: Tensor) -> Tensor:
            return self.average_velocity(net, self.space.exp(x_t, step * v), t + step, r, cond)

        zero = torch.zeros((), dtype=x_t.dtype, device=x_t.device)
        # In full precision: autocast does not cast dual numbers, which convolutions then refuse.
        with torch.autocast(x_t.device.type, enabled=False):
            u, slope = torch.func.jvp(along, (zero,), (torch.ones_like(zero),))[:2]
        with torch.no_grad():
            target = mean_velocity(self.space, u, v, slope, over_inner(r - t, x_t).unsqueeze(-1))
        return u, target, t


def mean_velocity(space: Manifold, u: Tensor, v: Tensor, slope: Tensor, span: Tensor) -> Tensor:
    """Ad(Exp(-w)) v + span J_r(w) slope, w = span u; all tangents (..., tangent_dim), span (..., 1)."""
    w = span * u
    return space.adjoint(-w, v) + span * space.jacobian(w, slope)

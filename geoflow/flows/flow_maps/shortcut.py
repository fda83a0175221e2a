"""Shortcut models on a Lie group: one jump equals two of half its length, Log(Exp(d u_1) Exp(d u_2)) / 2d."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.flow import Network
from geoflow.flows.flow_maps.base import FlowMap
from geoflow.flows.noise import Generators


class Shortcut(FlowMap):
    """The average velocity from two jumps of half the length (Frans et al. 2025, composed on the group).

    Velocities are learned at r = t from the path or the teacher; a jump from t to r learns from two, with the
    middle m: u_1 = u(x_t, t, m) and u_2 = u(x_t Exp((m - t) u_1), m, r), taken without gradient. Every jump is
    made of velocities, whose mean must be right: the default power is small.
    """

    default_power = 0.25

    def errors(
        self, net: Network, x_0: Tensor, x_1: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u, its target, and t."""
        with torch.no_grad():
            t, r = self.draw_times(generator, x_1)
            x_t, v = self.field(x_0, x_1, t, cond, generator)
            middle = (t + r) / 2
            landed = self.jump(net, self.jump(net, x_t, t, middle, cond), middle, r, cond)
            span = over_inner(r - t, x_t).unsqueeze(-1)
            # Replace the divisor before `where`: r = t.
            average = self.space.log(x_t, landed) / torch.where(span > 0, span, 1)
            target = torch.where(span > 0, average, v)
        return self.average_velocity(net, x_t, t, r, cond), target, t

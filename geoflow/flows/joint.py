"""Points and tokens under one clock: flow matching on SE(3) x R^k x {modes}.

Campbell et al. 2024 ("Generative flows on discrete state-spaces", Multiflow): both are noised independently at the
same time t, one network sees both and predicts for both, and both advance together, so that a pose can wait for the
gripper to decide and the gripper for the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.flows.batches import inner_axes
from geoflow.flows.discrete import DiscreteFlow, grid
from geoflow.flows.flow import Flow
from geoflow.flows.flow_maps import FlowMap
from geoflow.flows.integrators import Integrator, Steps, euler
from geoflow.flows.noise import Generators

Pair = tuple[Tensor, Tensor]
"""Points (B, ..., point_dim) and tokens (B, ...)."""
JointNetwork = Callable[[Pair, Tensor, Any], Pair]
"""net((features (B, ..., feature_dim), tokens (B, ...)), t (B,), cond) -> (tangents (B, ..., tangent_dim), logits
(B, ..., classes))."""


class JointFlow(nn.Module):
    """A `Flow` of points and a `DiscreteFlow` of tokens with one network.

        space = gf.Product(gf.SE3(), gf.Euclidean(1))
        joint = gf.flows.JointFlow(gf.Flow(space), gf.flows.DiscreteFlow(2))
        loss = joint.loss(net, (actions, gripper), cond=cond).mean()
        actions, gripper = joint.sample(net, cond=cond, horizon=16, steps=10)

    Times are those of the flow. The inner axes of points and tokens need not agree: a chunk may carry one token.

    Args:
        flow: Of the points; any prior, path, coupling and target. Its velocity: no flow map, which has two times.
        modes: Of the tokens.
        weight: How much the loss of the tokens counts beside that of the points.

    Raises:
        ValueError: a weight that is not positive; a flow map.
    """

    def __init__(self, flow: Flow, modes: DiscreteFlow, weight: float = 1.0) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(
                f"weight={weight}; tokens that do not count are not learned. Use the flow alone."
            )
        if isinstance(flow, FlowMap):
            raise ValueError(
                f"a {type(flow).__name__} jumps between two times, and tokens are noised at one; give a Flow."
            )
        self.flow, self.modes, self.weight = flow, modes, weight

    def loss(
        self, net: JointNetwork, data: Pair, cond: Any = None, *, generator: Generators = None
    ) -> Tensor:
        """The flow's loss + weight * the tokens', shape (B,).

        Args:
            net: The network.
            data: Points (B, ..., point_dim) and tokens (B, ...), integers.
            cond: Handed to the network as it is.
            generator: Source of randomness.

        Raises:
            ValueError: not as many tokens as points.
        """
        x_1, tokens_1 = data
        if len(x_1) != len(tokens_1):
            raise ValueError(
                f"got {len(x_1)} batch elements of points and {len(tokens_1)} of tokens; each point has its token."
            )
        of_tokens: list[Tensor] = []

        def tangents(features: Tensor, t: Tensor, cond: Any) -> Tensor:
            """The network as the flow knows it; tokens are noised to the time that the flow has drawn."""
            tokens = self.modes.corrupt(tokens_1, t, generator)
            v, logits = net((features, tokens), t, cond)
            of_tokens.append(self.modes.loss_of(logits, tokens_1, tokens, t))
            return v

        of_points = self.flow.loss(tangents, x_1, cond, generator=generator)
        return of_points + self.weight * of_tokens[0]

    @torch.no_grad()
    def sample(
        self,
        net: JointNetwork,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        modes: int | Sequence[int] | None = None,
        batch: int | None = None,
        steps: Steps = 10,
        method: Integrator = euler,
        temperature: float = 1.0,
        corrector: float = 0.0,
        generator: Generators = None,
        path: bool = False,
    ) -> Pair:
        """Draw points (B, *horizon, point_dim) and their tokens (B, *modes).

        A step moves the points by ``method``, with the tokens as they are, and the tokens by the logits of the
        method's first evaluation, with the points as they were: with Euler one evaluation serves both.

        Args:
            net: The network.
            cond: Handed to the network; its first axis gives B where it is a tensor.
            horizon: Inner axes of the points.
            modes: Inner axes of the tokens; those of the points by default.
            batch: B, where ``cond`` does not give it.
            steps: Equal steps, or their grid of times from 0 to 1.
            method: The integrator of the points, one of fixed steps.
            temperature: Of the tokens, as in `DiscreteFlow.sample`.
            corrector: Of the tokens, likewise.
            generator: Source of randomness, or one generator per batch element.
            path: Return all states, stacked in front of both.

        Raises:
            TypeError: an adaptive method.
            ValueError: as `Flow.sample` and `DiscreteFlow.sample`.
        """
        if not isinstance(method, Integrator):
            raise TypeError(
                f"{getattr(method, 'name', method)} chooses its own steps, and tokens jump at given ones; use euler, "
                "midpoint or another integrator of fixed steps."
            )
        self.flow.check_method(method)
        x = self.flow.start(cond, horizon=horizon, batch=batch, generator=generator)
        tokens = self.modes.start((len(x), *inner_axes(horizon if modes is None else modes)), generator)
        states = [(x, tokens)]
        for t, s in grid(steps):
            x, logits = self._advance(net, cond, method, x, tokens, t, s)
            tokens = self.modes.step(
                logits, tokens, t, s, temperature=temperature, corrector=corrector, generator=generator
            )
            states.append((x, tokens))
        if not path:
            return x, tokens
        points, symbols = zip(*states, strict=True)
        return torch.stack(points), torch.stack(symbols)

    def _advance(
        self, net: JointNetwork, cond: Any, method: Integrator, x: Tensor, tokens: Tensor, t: float, s: float
    ) -> Pair:
        """Points at time s, and the logits of the tokens at time t."""
        logits: list[Tensor] = []

        def tangents(features: Tensor, time: Tensor, cond: Any) -> Tensor:
            v, at_x = net((features, tokens), time, cond)
            logits.append(at_x)
            return v

        def velocity(x: Tensor, time: float) -> Tensor:
            return self.flow.velocity(tangents, x, x.new_full((len(x),), time), cond)

        return method.step(self.flow.space, velocity, x, t, s - t), logits[0]

"""(noise, observations) -> chunk: the whole sampler of a flow policy as one function, to export, compile or capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.flows import INTEGRATORS, FlowMap, WrappedGaussian
from geoflow.flows.integrators import euler
from geoflow.flows.noise import Generators, randn
from geoflow.flows.timed import told
from geoflow.lie import se3
from geoflow.policies.base import Policy
from geoflow.policies.flow import FlowPolicy, steps_of

Step = Callable[[Any, Tensor, float, float, Any], Tensor]
"""(net, x, t, dt, cond) -> x at t + dt, as `Flow.step`."""


class ChunkSampler(nn.Module):
    """(noise (B, T, tangent_dim), observations in the order of ``names``) -> chunks (B, T, 7 + k), world frame.

    The noise is standard normal; whoever calls draws it, so that the graph holds no random numbers.

    Args:
        policy: A trained flow policy.
        nfe: Network evaluations a chunk; the policy's own by default.

    Raises:
        ValueError: a policy that is no flow from a Gaussian prior, or an nfe that its solver cannot take.
    """

    def __init__(self, policy: Policy, nfe: int | None = None) -> None:
        super().__init__()
        if not isinstance(policy, FlowPolicy) or type(policy.flow.prior) is not WrappedGaussian:
            raise ValueError(
                "only flow policies whose prior is gaussian can be exported, compiled or graphed: their noise is one "
                f"input. This is a {type(policy).__name__} with prior {policy.config.prior!r}."
            )
        self.policy, self.names = policy, list(policy.spec.kinds)
        self.nfe, self.solver = policy.chosen(nfe, None)
        self.method = INTEGRATORS.get(self.solver)  # None: a flow map's jumps
        self.steps = steps_of(policy.grid, self.solver, self.nfe)
        self.outputs = policy.config.horizon * policy.space.tangent_dim

    def forward(self, noise: Tensor, *observations: Tensor) -> Tensor:
        """Sample."""
        return self.sample((noise, *observations))

    @property
    def steps_of_euler(self) -> bool:
        """Whether a chunk is made by Euler steps of the flow."""
        return self.method is euler and not isinstance(self.policy.flow, FlowMap)

    def sample(self, inputs: Sequence[Tensor], step: Step | None = None) -> Tensor:
        """`forward`, where ``step`` may take the place of the flow's Euler step."""
        noise, *observations = inputs
        policy, flow = self.policy, self.policy.flow
        obs = dict(zip(self.names, observations, strict=True))
        cond = policy.condition(obs)
        prior = flow.prior
        assert isinstance(prior, WrappedGaussian)
        x_0 = policy.space.exp(prior.mean, prior.scale * noise)
        cond = policy.told(cond, self.steps, self.method)
        how: dict[str, Any] = {"steps": self.steps, "x_0": x_0}
        if not isinstance(flow, FlowMap) or self.method is not None:
            how["method"] = self.method
        net = policy.network(None)
        if step is not None:
            assert self.steps_of_euler
            how["method"] = replace(euler, step=lambda _, __, x, t, dt: step(net, x, t, dt, told(cond, t)))
        return policy.from_space(obs, flow.sample(net, cond, **how))

    def noise(self, batch: int, generator: Generators = None) -> Tensor:
        """The noise that `policy.act` draws for ``batch`` chunks."""
        space = self.policy.space
        return randn(
            (batch, self.policy.config.horizon, space.tangent_dim), generator, like=self.policy.length
        )

    def example(self, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, as a graph takes them: float32, and colours as bytes.

        Raises:
            ValueError: a text, which is encoded once for all who are told it, as no graph can.
        """
        for name, kind in self.policy.spec.kinds.items():
            if kind == "text":
                raise ValueError(
                    f"observation {name!r} is a text; a policy that is told what to do cannot be exported or timed. "
                    "Use policy.act, or give it the sentence as an embedding."
                )
        generator = torch.Generator().manual_seed(seed)
        policy, spec = self.policy, self.policy.spec
        T, To = policy.config.horizon, policy.config.observation_steps
        inputs = [torch.randn(batch, T, policy.space.tangent_dim, generator=generator)]
        for name, kind in spec.kinds.items():
            drawn_as = "bytes" if kind == "image" and spec.in_bytes(name) else kind
            inputs.append(_drawn(drawn_as, (batch, To, *spec.shapes[name]), generator))
        return tuple(inputs)


def _drawn(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """An observation of a kind, or of "bytes"."""
    if kind == "bytes":
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    x = 0.3 * torch.randn(shape, generator=generator)
    return se3.exp(x[..., :6]) if kind == "pose" else x

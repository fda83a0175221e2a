"""FlowPolicy: action chunks by flow matching, on a Lie group or, for comparison, on flat features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geoflow.data.chunks import Chunks
from geoflow.flows import INTEGRATORS, Flow, HaarUniform, WrappedGaussian
from geoflow.flows.inpainting import sample_onward
from geoflow.flows.noise import Generators
from geoflow.policies.base import Goal, Policy, PolicySpec
from geoflow.policies.config import PolicyConfig

PRIORS = {"gaussian": WrappedGaussian, "haar": HaarUniform}


class FlowPolicy(Policy):
    """Flow matching on SE(3) x R^k, on R^3 x SO(3) x R^k, or on position + 6D rotation + extras.

    The prior is a wrapped Gaussian whose centre and width, per chunk step, are those of the demonstrations;
    the network's predictions are in the same widths.
    """

    default_solver = "euler"

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        super().__init__(config, spec)
        if config.solver not in ("auto", *INTEGRATORS):
            raise ValueError(
                f"policy.solver={config.solver!r}; it is auto or one of {', '.join(INTEGRATORS)}."
            )
        if config.prior not in PRIORS:
            raise ValueError(f"policy.prior={config.prior!r}; it is one of {', '.join(PRIORS)}.")
        prior = PRIORS[config.prior](self.space, self.chunk_mean, self.chunk_scale)
        self.flow = Flow(
            self.space, prior, scale=self.chunk_scale, target=config.target, center=self.chunk_mean
        )

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations."""
        super().fit(chunks, samples)
        prior = self.flow.prior
        assert isinstance(prior, WrappedGaussian)
        prior.mean.copy_(self.chunk_mean)
        prior.scale.copy_(self.chunk_scale)
        self.flow.scale.copy_(self.chunk_scale)
        self.flow.center.copy_(self.chunk_mean)

    def chunk_loss(self, x_1: Tensor, cond: Tensor, generator: Generators) -> Tensor:
        """Conditional flow matching loss (B,)."""
        return self.flow.loss(self.evaluate_network, x_1, cond, generator=generator)

    def check_onward(self) -> None:
        """A flow can always go on with a given chunk."""

    def sample_chunk(
        self,
        cond: Tensor,
        nfe: int,
        solver: str,
        generator: Generators,
        *,
        path: bool = False,
        goal: Goal | None = None,
    ) -> Tensor:
        """Integrate from the prior, guided to go on with ``goal``; ``nfe`` network evaluations in all."""
        if solver not in INTEGRATORS:
            raise ValueError(f"solver={solver!r}; a flow is integrated by one of {', '.join(INTEGRATORS)}.")
        method = INTEGRATORS[solver]
        if nfe % method.evaluations:
            raise ValueError(f"nfe={nfe}; {solver} takes a multiple of {method.evaluations} evaluations.")
        how: dict[str, Any] = {
            "steps": nfe // method.evaluations,
            "method": method,
            "generator": generator,
            "path": path,
        }
        if goal is not None:
            return sample_onward(self.flow, self.evaluate_network, *goal, cond, **how)
        return self.flow.sample(self.evaluate_network, cond, horizon=self.config.horizon, **how)

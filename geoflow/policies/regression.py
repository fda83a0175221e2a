"""RegressionPolicy: the chunk as a function of the observation, in one step or in two; no distribution is modelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.data.chunks import Chunks
from geoflow.flows.batches import mean_inner, over_inner
from geoflow.flows.flow import Network
from geoflow.flows.noise import Generators
from geoflow.flows.priors import WrappedGaussian
from geoflow.manifolds import Manifold
from geoflow.policies.backbones import Condition
from geoflow.policies.base import Policy
from geoflow.policies.config import PolicyConfig, check_unused
from geoflow.policies.expressions import build
from geoflow.policies.given import Given, counted
from geoflow.policies.spec import PolicySpec

SOLVER = "regression"
NORMS = ("l2", "l1")


@dataclass(frozen=True)
class Regression:
    """What a regression minimises, and in how many steps.

    Attributes:
        norm: "l2", |e|^2, or "l1", the sum of |e_i|, of the body twist e from the predicted to the true pose in
            units of the data's width.
        steps: 1, or 2: the network predicts from nothing, then again from its own prediction (MIP; Pan et al.
            2025, "Much Ado About Noising"). The second step is trained at ``level`` of the way from noise to the
            chunk, and is given, without noise, the point as far on the way to the first prediction.
        level: t of the second step.

    Raises:
        ValueError: an unknown norm, other steps than 1 or 2, a level outside (0, 1).
    """

    norm: str = "l2"
    steps: int = 1
    level: float = 0.9

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r}; it is one of {', '.join(NORMS)}.")
        if self.steps not in (1, 2):
            raise ValueError(f"steps={self.steps}; a regression takes 1 or 2.")
        if not 0 < self.level < 1:
            raise ValueError(f"level={self.level}; expected a time between 0 and 1, such as 0.9.")


class Regressor(nn.Module):
    """A regression onto points of a manifold: x_1 = c Exp(s net(features(x_t), t, cond)).

    The counterpart of `geoflow.flows.Flow` with target "endpoint" and without noise where it acts.

    Args:
        space: The manifold.
        prior: Its centre is c; its noise trains the second step.
        scale: s, unit of the network's output and of the loss.
        regression: What is minimised.
    """

    scale: Tensor

    def __init__(
        self, space: Manifold, prior: WrappedGaussian, scale: Tensor, regression: Regression
    ) -> None:
        super().__init__()
        self.space, self.prior, self.regression = space, prior, regression
        self.register_buffer("scale", scale.clone())

    def loss(
        self,
        net: Network,
        x_1: Tensor,
        cond: Any,
        *,
        generator: Generators = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Mean over steps and chunk steps of the error's norm, shape (B,); ``counts`` as in `Flow.loss`."""
        start = self.prior.mean.expand_as(x_1)
        total = self._error(net, start, 0.0, x_1, cond, counts)
        if self.regression.steps == 1:
            return total
        with torch.no_grad():
            x_0 = self.prior.sample(x_1.shape[:-1], generator).to(x_1.dtype)
            x_t, _ = self.space.geodesic(x_0, x_1, self._times(x_1))
        return (total + self._error(net, x_t, self.regression.level, x_1, cond, counts)) / 2

    def sample(self, net: Network, cond: Any, shape: Sequence[int], *, path: bool = False) -> Tensor:
        """Predictions (*shape, point_dim); with ``path`` the start and every prediction, stacked in front."""
        start = self.prior.mean.expand(*shape, self.space.point_dim)
        states = [start, self._predict(net, start, 0.0, cond)]
        if self.regression.steps == 2:
            x_t, _ = self.space.geodesic(start, states[-1], self._times(start))
            states.append(self._predict(net, x_t, self.regression.level, cond))
        return torch.stack(states) if path else states[-1]

    def _predict(self, net: Network, x: Tensor, t: float, cond: Any) -> Tensor:
        tangent = self.scale * net(self.space.features(x), x.new_full((len(x),), t), cond)
        return self.space.exp(self.prior.mean.expand_as(x), tangent)

    def _error(
        self, net: Network, x: Tensor, t: float, x_1: Tensor, cond: Any, counts: Tensor | None
    ) -> Tensor:
        error = self.space.log(self._predict(net, x, t, cond), x_1) / self.scale
        size = error.abs().sum(-1) if self.regression.norm == "l1" else self.space.squared_norm(error)
        return mean_inner(size, counts)

    def _times(self, x: Tensor) -> Tensor:
        return over_inner(x.new_full((len(x),), self.regression.level), x)


class RegressionPolicy(Policy):
    """Regression on SE(3) x R^k or on flat features: what is left when the generative model is taken away."""

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        check_unused(config, "prior", "path", "coupling", "times", "grid")
        for name, known in (("solver", ("auto", SOLVER)), ("target", ("endpoint",))):
            if getattr(config, name) not in known:
                raise ValueError(
                    f"policy.{name}={getattr(config, name)!r}; for a regression it is {' or '.join(known)}."
                )
        super().__init__(config, spec)
        prior = WrappedGaussian(self.space, self.chunk_mean, self.chunk_scale)
        self.regressor = Regressor(self.space, prior, self.chunk_scale, chosen(config))

    @staticmethod
    def default_solver(config: PolicyConfig) -> str:
        """There is one."""
        return SOLVER

    @classmethod
    def cells(cls, config: PolicyConfig, counts: Sequence[int]) -> list[tuple[int, str]]:
        """At its own number of steps, whatever was asked for."""
        return [(chosen(config).steps, SOLVER)]

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations."""
        super().fit(chunks, samples)
        self.regressor.prior.mean.copy_(self.chunk_mean)
        self.regressor.prior.scale.copy_(self.chunk_scale)
        self.regressor.scale.copy_(self.chunk_scale)

    def chunk_loss(
        self,
        x_1: Tensor,
        cond: Tensor | Condition,
        generator: Generators,
        given: Given | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """The regression's loss (B,)."""
        counts = counted(given, counts)
        return self.regressor.loss(self.network(given), x_1, cond, generator=generator, counts=counts)

    def sample_chunk(
        self,
        cond: Tensor | Condition,
        nfe: int,
        solver: str,
        generator: Generators,
        *,
        path: bool = False,
        given: Given | None = None,
    ) -> Tensor:
        """The prediction; it takes as many evaluations as the regression has steps."""
        if solver != SOLVER or nfe != self.regressor.regression.steps:
            raise ValueError(
                f"nfe={nfe}, solver={solver!r}; this regression predicts with solver {SOLVER!r} in "
                f"{self.regressor.regression.steps} evaluations."
            )
        batch = len(cond)
        shape = (batch, self.config.horizon)
        return self.regressor.sample(self.network(given), cond, shape, path=path)


def chosen(config: PolicyConfig) -> Regression:
    """The regression that ``policy.method`` describes; by default l2 in one step."""
    text = "Regression()" if config.method == "Flow()" else config.method
    regression = build("policy.method", text, {"Regression": Regression})
    if not isinstance(regression, Regression):
        raise ValueError(f"policy.method={text!r} is no regression; write such as Regression(steps=2).")
    return regression

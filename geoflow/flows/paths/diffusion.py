"""Diffusion as a flow: x_t = c Exp(alpha_t Log(c^-1 x_1)) Exp(sigma_t z) with z = Log(c^-1 x_0)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from geoflow.flows.noise import Generators
from geoflow.flows.paths.base import Path, PathSample
from geoflow.flows.paths.noisy import around
from geoflow.flows.paths.scores import SHORTEST, prior_about, score_about
from geoflow.flows.priors.base import Prior
from geoflow.flows.schedules import CosineVP, Mixture, check_mixture
from geoflow.manifolds import Manifold


@dataclass(frozen=True, eq=False)
class Diffusion(Path):
    """The probability flow of a diffusion (Song et al. 2021), trained by flow matching (Lipman et al. 2023).

    On R^n with c = 0 it is x_t = alpha_t x_1 + sigma_t x_0. On a group the data are drawn towards the centre c
    along a geodesic, and the noise is laid on in the body frame: a noisy path (see `noisy`) whose noise is x_0.

    It begins at x_0 as far as alpha_0 = 0, which `CosineVP` and `CondOT` have. `LinearVP` leaves 0.7 % of the data
    in, as its literature does. `VE` has alpha = 1: it begins at x_1 Exp(z), so the prior's width must be large
    against the data's (it is the sigma_max of variance exploding diffusion). With `HaarUniform` on SO(3)
    it begins at the prior exactly, because x_1 Exp(z) is uniform too.

    Args:
        mixture: alpha and sigma with their rates.
        center: c, shape (..., point_dim): the prior's mean; the identity by default.

    Raises:
        ValueError: a mixture that does not begin with sigma = 1 or end with alpha = 1, or belies its derivatives.
    """

    mixture: Mixture = field(default_factory=CosineVP)
    center: Tensor | None = None
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_mixture(self.mixture)

    def __call__(
        self, space: Manifold, x_0: Tensor, x_1: Tensor, t: Tensor, generator: Generators = None
    ) -> PathSample:
        """Points (..., point_dim) at times t, of the leading shape of x_0 or broadcastable to it."""
        mu, m, sigma, rate = self._curve(space, x_1, t)
        return around(space, mu, m, space.log(self._center(space, x_0), x_0), sigma, rate)

    def velocity_to(self, space: Manifold, x_t: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Ad(Exp(-w)) m_t + sigma'_t / sigma_t w, w = Log(mu_t^-1 x_t), (..., tangent_dim); for t < 1."""
        mu, m, sigma, rate = self._curve(space, x_1, t)
        w = space.log(mu, x_t)
        return space.adjoint(-w, m) + (rate / sigma).to(w.dtype).unsqueeze(-1) * w

    def spread(self, space: Manifold, t: Tensor) -> Tensor:
        """sigma_t."""
        sigma = self.mixture(t)[2].clamp(min=SHORTEST).unsqueeze(-1)
        return sigma.expand(*sigma.shape[:-1], space.tangent_dim)

    def conditional_score(
        self, space: Manifold, prior: Prior, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor
    ) -> Tensor:
        """Of x_t = mu_t Exp(sigma_t z) given x_1, with c Exp(z) from the prior."""
        mu, r = self._curve(space, x_1, t)[0], self.spread(space, t).to(x_t.dtype)
        return score_about(space, mu, x_t, r, prior_about(space, prior, self._center(space, x_t)))

    def _curve(self, space: Manifold, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """mu_t = c Exp(alpha_t y), its body velocity alpha'_t y, and sigma_t with its rate."""
        alpha, alpha_rate, sigma, rate = self.mixture(t)
        center = self._center(space, x_1)
        y = space.log(center, x_1)
        mu = space.exp(center, alpha.to(y.dtype).unsqueeze(-1) * y)
        return mu, alpha_rate.to(y.dtype).unsqueeze(-1) * y, sigma, rate

    def _center(self, space: Manifold, like: Tensor) -> Tensor:
        center = space.identity() if self.center is None else self.center
        return center.to(like).expand(*like.shape[:-1], space.point_dim)

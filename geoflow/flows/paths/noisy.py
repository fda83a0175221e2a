"""Noisy paths x_t = mu_t Exp(sigma_t z): a curve mu_t with body velocity m_t, and noise of width sigma_t around it.

For a fixed z the body velocity is, on every Lie group,

    v_t = Ad(Exp(-sigma_t z)) m_t + sigma'_t z.

Proof: with w = sigma_t z, d/dt (mu Exp(w)) = mu m^ Exp(w) + mu Exp(w) (J_r(w) w')^. Multiplied by (mu Exp(w))^-1
from the left, the first term is Ad(Exp(-w)) m; in the second w' is parallel to w, and J_r(w) w = w.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.flows.isotropic import isotropic
from geoflow.flows.noise import Generators
from geoflow.flows.paths.base import Path, PathSample
from geoflow.flows.paths.scores import score_about
from geoflow.flows.priors.base import Prior
from geoflow.manifolds import Manifold

#: What t (1 - t) is taken for, at least, where the rate of a bridge's width divides by its root.
MARGIN = 1e-4


def around(space: Manifold, mu: Tensor, m: Tensor, z: Tensor, sigma: Tensor, rate: Tensor) -> PathSample:
    """mu Exp(sigma z) and its velocity, for curve points and velocities (mu, m) and a width with its rate (...)."""
    w = sigma.to(z.dtype).unsqueeze(-1) * z
    return PathSample(space.exp(mu, w), space.adjoint(-w, m) + rate.to(z.dtype).unsqueeze(-1) * z)


class NoisyGeodesic(Path):
    """x_t = mu_t Exp(sigma_t z): the geodesic mu_t from x_0 to x_1, and z fresh for every point of it.

    z is isotropic in the metric of the space, and sigma_t is in its unit.
    """

    sigma: float

    @abstractmethod
    def width(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sigma_t and its rate sigma'_t."""

    def __call__(
        self, space: Manifold, x_0: Tensor, x_1: Tensor, t: Tensor, generator: Generators = None
    ) -> PathSample:
        """Points (..., point_dim) at times t, of the leading shape of x_0 or broadcastable to it."""
        mu, m = space.geodesic(x_0, x_1, t)
        return around(space, mu, m, isotropic(space, mu.shape[:-1], generator, mu), *self.width(t))

    def velocity_to(self, space: Manifold, x_t: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """Unknown: x_t and x_1 do not say which part of the way between them is noise.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"the velocity of {self} depends on its noise, not only on where it ends. Use target='velocity', or the "
            "path Diffusion, whose velocity an end point determines; a BrownianBridge with target='endpoint' is "
            "sampled as the process it is by geoflow.flows.sample_bridge."
        )

    def spread(self, space: Manifold, t: Tensor) -> Tensor:
        """sigma_t, at least a hundredth of sigma."""
        sigma = self.width(t)[0].clamp(min=self.sigma * MARGIN**0.5).unsqueeze(-1)
        return sigma.expand(*sigma.shape[:-1], space.tangent_dim)

    def conditional_score(
        self, space: Manifold, prior: Prior, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor
    ) -> Tensor:
        """Of x_t = mu_t Exp(sigma_t z) given both ends, for sigma_t well below pi: no turn beyond it is counted."""
        mu, r = space.geodesic(x_0, x_1, t)[0], self.spread(space, t).to(x_t.dtype)
        return score_about(space, mu, x_t, r, lambda u: -0.5 * space.squared_norm(u))


@dataclass(frozen=True)
class SigmaMin(NoisyGeodesic):
    """sigma_t = sigma t: begins at its noise and ends in a Gaussian of width ``sigma`` around the data.

    What the field calls sigma_min: flow matching smooths every data point to N(x_1, sigma_min^2) (Lipman et al.
    2023, eq. (20)-(23)), whose path on R^n is this one with z = x_0 in place of a fresh z; `Diffusion` with
    `CondOT` is theirs to the letter. A constant width (Tong et al. 2024) would widen the prior too, and sampling
    would begin where training never was.

    Args:
        sigma: Width at t = 1 in the metric of the space, >= 0; 0 is the plain geodesic.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise ValueError(f"sigma={self.sigma}; expected a width >= 0 in the metric of the space.")

    def width(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sigma t and sigma."""
        return self.sigma * t, self.sigma * torch.ones_like(t)


@dataclass(frozen=True)
class BrownianBridge(NoisyGeodesic):
    """sigma_t = sigma sqrt(t (1 - t)): where Brownian motion from x_0 that ends at x_1 is at time t.

    With coupling by optimal transport it is the Schrodinger bridge's path (Tong et al. 2024, SF2M; Shi et al.
    2023). On curved groups the Gaussian around the geodesic is the bridge to first order in sigma^2, as in Bose
    et al. 2024 (FoldFlow-SFM), which simulates `drift_to`. The velocity is that of the flow with the same marginals.

    sigma'_t is infinite at both ends, although the velocity that a network learns, the mean over z, is not: its
    rate is bounded by taking t (1 - t) for at least 1e-4. A sample then ends within 4e-3 sigma of where it would.

    Args:
        sigma: Diffusion of the process in the metric of the space, > 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(
                f"sigma={self.sigma}; expected a diffusion > 0. Without noise the bridge is Geodesic()."
            )

    def width(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sigma sqrt(t (1 - t)) and, away from the ends, its derivative."""
        product = t * (1 - t)
        rate = 0.5 * self.sigma * (1 - 2 * t) / product.clamp(min=MARGIN).sqrt()
        return self.sigma * product.clamp(min=0).sqrt(), rate

    def drift_to(self, space: Manifold, x_t: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """b (..., tangent_dim) of the process dx = x (b dt + sigma dW)^ that ends at x_1: Log(x_t^-1 x_1) / (1 - t).

        For t < 1. Its mean over x_1 given x_t is the drift of the mixture of bridges: a network that predicts
        end points can be sampled with it.
        """
        return space.log(x_t, x_1) / (1 - t).to(x_t.dtype).unsqueeze(-1)

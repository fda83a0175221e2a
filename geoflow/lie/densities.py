"""Probability densities on the groups: Haar, the heat kernel IGSO(3), wrapped and plain Gaussians, products.

Every density has ``sample(*shape, generator=)`` -> (*shape, point_dim) and ``log_prob(x)`` -> (...), takes
dtype and device from its parameters, and is normalised with respect to one volume: Lebesgue measure [m^3] for
positions, the bi-invariant Riemannian measure of |omega|^2 for rotations (SO(3) has volume 8 pi^2), and their
product for poses. So the uniform density of rotations is 1 / (8 pi^2), and a narrow density looks like a Gaussian
of the rotation vector.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geoflow.lie import se3, series, so3

#: log of the volume of SO(3), 8 pi^2.
LOG_VOLUME = math.log(8 * math.pi**2)
#: Where the heat kernel changes from its image sum to its character sum; both are exact to rounding there.
_SWITCH = 1.0
_CHARACTERS = 14
_GRID = 8192


class Density(ABC):
    """A distribution of points (..., point_dim)."""

    @property
    @abstractmethod
    def point_dim(self) -> int:
        """Numbers that store a point."""

    @abstractmethod
    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent points (*shape, point_dim)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (...) at points (..., point_dim)."""


@dataclass(frozen=True)
class Haar(Density):
    """The uniform distribution of rotations."""

    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    @property
    def point_dim(self) -> int:
        """4: wxyz."""
        return 4

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform rotations (*shape, 4)."""
        return so3.random_uniform(*shape, generator=generator, dtype=self.dtype, device=self.device)

    def log_prob(self, x: Tensor) -> Tensor:
        """-log(8 pi^2) everywhere."""
        return torch.full(x.shape[:-1], -LOG_VOLUME, dtype=x.dtype, device=x.device)


@dataclass(frozen=True, eq=False)
class IGSO3(Density):
    """The isotropic Gaussian of SO(3): where Brownian motion of variance sigma^2 per axis is after unit time.

    The heat kernel f(theta) = sum_l (2l + 1) exp(-l (l+1) sigma^2 / 2) sin((l + 1/2) theta) / sin(theta/2) with
    respect to normalised Haar measure (Nikolayev and Savyolov 1997; papers that write exp(-l (l+1) eps^2) mean
    eps = sigma / sqrt 2). Above sigma = 1 that sum is used, below it the image sum that Poisson's formula makes
    of it: exact to rounding from sigma = 0.01 to 3 and beyond, for sigma a number or a tensor of widths.

    Args:
        sigma: Width(s) [rad], broadcast against the leading axes of points.
        mean: Centre (..., 4), the identity by default.
    """

    sigma: Tensor
    mean: Tensor

    def __init__(self, sigma: Tensor | float, mean: Tensor | None = None) -> None:
        if mean is None:
            like = sigma if isinstance(sigma, Tensor) else torch.zeros(())
            mean = so3.identity(dtype=like.dtype, device=like.device)
        width = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device)
        if not bool((width > 0).all()):
            raise ValueError(f"expected widths sigma > 0 [rad]; got {sigma}.")
        object.__setattr__(self, "sigma", width)
        object.__setattr__(self, "mean", mean)

    @classmethod
    def fit(cls, q: Tensor, mean: Tensor) -> IGSO3:
        """The density of the samples' width about ``mean`` (4,), from rotations (N, 4).

        Uses E[trace R] = 3 exp(-sigma^2), which holds at every width (the first character decays so).
        """
        u = so3.between(mean, q)[..., 1:]
        spread = 4 / 3 * (u * u).sum(-1).mean()
        if not bool((spread > 0) & (spread < 1)):
            raise ValueError(
                f"expected rotations with a spread between a point and uniform; got mean trace "
                f"{float(3 * (1 - spread)):.3g} about the mean (3 is a point, 0 is uniform: use Haar)."
            )
        return cls((-torch.log1p(-spread)).sqrt(), mean)

    @property
    def point_dim(self) -> int:
        """4: wxyz."""
        return 4

    def log_prob(self, x: Tensor) -> Tensor:
        """log f(theta) - log(8 pi^2), theta the angle between x and the mean."""
        omega = so3.minus(x, self.mean)
        return _log_heat_kernel((omega * omega).sum(-1), self.sigma) - LOG_VOLUME

    def score(self, x: Tensor) -> Tensor:
        """Gradient (..., 3) of log_prob along body rotations: d/d delta of log_prob(x Exp(delta)) at 0."""
        omega = so3.minus(x, self.mean)
        squared = (omega * omega).sum(-1)
        squared, sigma = torch.broadcast_tensors(squared, self.sigma)
        ones = torch.ones_like(squared)
        slope = torch.func.jvp(lambda y: _log_heat_kernel(y, sigma), (squared,), (ones,))[1]
        return 2 * slope.unsqueeze(-1) * omega

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Rotations (*shape, *sigma.shape, 4): a uniform axis, and the angle by inversion of its distribution."""
        shape = (*shape, *self.sigma.shape)
        like = self.mean
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=like.device)
        axis = torch.randn(*shape, 3, generator=generator, dtype=like.dtype, device=like.device)
        axis = axis / (axis * axis).sum(-1, keepdim=True).sqrt()
        angle = igso3_angles(self.sigma.double(), uniform).to(like.dtype)
        return so3.compose(self.mean, so3.exp(angle.unsqueeze(-1) * axis))


def _log_heat_kernel(squared: Tensor, sigma: Tensor) -> Tensor:
    """log f at theta^2, smooth in theta^2."""
    narrow = _log_images(squared, sigma.clamp(max=_SWITCH))
    wide = _log_characters(squared, sigma.clamp(min=_SWITCH))
    return torch.where(sigma < _SWITCH, narrow, wide)


def _log_images(squared: Tensor, sigma: Tensor) -> Tensor:
    """exp(s/8) sqrt(2 pi) s^(-3/2) sum_k (-1)^k (theta + 2 pi k) exp(-(theta + 2 pi k)^2/2s) / sin(theta/2).

    With the term k = 0 in front, k = -1 and 1 follow as a correction 1 + r; the rest is below 1e-16 for s <= 1.
    """
    s = sigma * sigma
    (sinc,) = series.evaluate(("sinc",), (0.25 * squared,))
    # Near theta = 0 the correction is constant and below 1e-6: the clamp costs no digit and saves the 0/0.
    theta = squared.clamp(min=1e-8).sqrt()
    near = torch.exp(-2 * math.pi / s * (math.pi - theta))
    far = torch.exp(-2 * math.pi / s * (math.pi + theta))
    r = 2 * math.pi / theta * (near - far) - (near + far)
    front = (
        s / 8 + 0.5 * math.log(2 * math.pi) - 3 * sigma.log() + math.log(2) - sinc.log() - 0.5 * squared / s
    )
    return front + torch.log1p(r)


def _log_characters(squared: Tensor, sigma: Tensor) -> Tensor:
    """log sum_l (2l + 1) exp(-l (l+1) s/2) chi_l, with chi_{l+1} = 2 cos(theta) chi_l - chi_{l-1}."""
    s = sigma * sigma
    (cos,) = series.evaluate(("cos",), (squared,))
    before, chi = torch.full_like(cos, -1.0), torch.ones_like(cos)
    total = torch.ones_like(cos) + 0 * s
    for order in range(1, _CHARACTERS):
        before, chi = chi, 2 * cos * chi - before
        total = total + (2 * order + 1) * torch.exp(-0.5 * order * (order + 1) * s) * chi
    return total.log()


def igso3_angles(sigma: Tensor, uniform: Tensor) -> Tensor:
    """Angles whose distribution function, density f(theta) (1 - cos theta)/pi, has the given values."""
    flat = sigma.reshape(-1, 1)
    top = (12 * flat).clamp(max=math.pi)
    knots = torch.linspace(0, 1, 2 * _GRID + 1, dtype=torch.float64, device=sigma.device) * top
    density = _log_heat_kernel(knots * knots, flat).exp() * (0.5 * knots).sin() ** 2
    # Simpson's rule on pairs of intervals.
    pieces = density[:, :-2:2] + 4 * density[:, 1::2] + density[:, 2::2]
    cdf = torch.nn.functional.pad(pieces.cumsum(-1), (1, 0))
    cdf = cdf / cdf[:, -1:]
    ends = knots[:, ::2].contiguous()
    values = uniform.reshape(-1, flat.shape[0]).mT.contiguous()
    right = torch.searchsorted(cdf, values).clamp(1, _GRID)
    low, high = cdf.gather(1, right - 1), cdf.gather(1, right)
    fraction = (values - low) / (high - low).clamp(min=1e-300)
    left_angle, right_angle = ends.gather(1, right - 1), ends.gather(1, right)
    return (left_angle + fraction * (right_angle - left_angle)).mT.reshape(uniform.shape)


@dataclass(frozen=True, eq=False)
class Gaussian(Density):
    """A Gaussian of R^n.

    Args:
        mean: Centre (n,).
        covariance: (n, n), positive definite.
    """

    mean: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        _check_covariance(self.covariance, self.mean.shape[-1])

    @property
    def point_dim(self) -> int:
        """n."""
        return self.mean.shape[-1]

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """mean + L eps with L L^T = covariance."""
        return self.mean + _noise(self.covariance, shape, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """-(d^T covariance^-1 d + log det + n log 2 pi)/2, d = x - mean."""
        return _log_normal(x - self.mean, self.covariance)


@dataclass(frozen=True, eq=False)
class WrappedGaussian(Density):
    """x = mean Exp(xi), xi ~ N(0, covariance): a Gaussian of tangents, wrapped around SO(3) or SE(3).

    The density at x is the sum over all xi_k with mean Exp(xi_k) = x of N(xi_k) / |det J_r(xi_k)|; the volume
    factor det J_r is sinc^2(theta/2) for rotations and sinc^4(theta/2) for poses. Besides the logarithm itself
    the ways with ``wraps`` more turns in both senses are summed (their weight is exp(-pi^2 / 2 sigma^2) at a half
    turn and far less elsewhere). With them belongs a true, integrable pole at the mean, invisible below
    sigma = 1.

    Args:
        mean: Centre, (4,) for rotations or (7,) for poses.
        covariance: (3, 3) or (6, 6) of the body tangent, positive definite.
        wraps: Full turns summed in each sense.
    """

    mean: Tensor
    covariance: Tensor
    wraps: int = 1

    def __post_init__(self) -> None:
        if self.mean.shape not in ((4,), (7,)):
            raise ValueError(f"expected a mean rotation (4,) or pose (7,); got {tuple(self.mean.shape)}.")
        _check_covariance(self.covariance, 3 if self.group == "SO3" else 6)

    @property
    def group(self) -> Literal["SO3", "SE3"]:
        """The group that the mean belongs to."""
        return "SO3" if self.mean.shape[-1] == 4 else "SE3"

    @property
    def point_dim(self) -> int:
        """4 or 7."""
        return self.mean.shape[-1]

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """mean Exp(L eps) with L L^T = covariance."""
        xi = _noise(self.covariance, shape, generator)
        if self.group == "SO3":
            return so3.compose(self.mean, so3.exp(xi))
        return se3.compose(self.mean, se3.exp(xi))

    def log_prob(self, x: Tensor) -> Tensor:
        """log sum_k N(xi_k; covariance) / |det J_r(xi_k)|."""
        if self.group == "SO3":
            omega = so3.minus(x, self.mean)
            xi, p, power = omega, None, 2
        else:
            relative = se3.between(self.mean, x)
            xi, p, power = se3.log(relative), relative[..., :3], 4
            omega = xi[..., 3:]
        squared = (omega * omega).sum(-1)
        terms = [_log_normal(xi, self.covariance) - power * series.log_sinc(squared)]
        # The axis of a longer way round is that of omega; at theta = 0 there is none, and any will do.
        theta = squared.clamp(min=1e-12).sqrt()
        for k in range(1, self.wraps + 1):
            for turn in (-k, k):
                angle = theta + 2 * math.pi * turn
                longer = (angle / theta).unsqueeze(-1) * omega
                if p is not None:
                    v = (so3.jacobian_left_inverse(longer) * p.unsqueeze(-2)).sum(-1)
                    longer = torch.cat([v, longer], dim=-1)
                terms.append(_log_normal(longer, self.covariance) - power * series.log_sinc(angle * angle))
        return torch.logsumexp(torch.stack(terms), dim=0)


@dataclass(frozen=True, init=False, eq=False)
class Independent(Density):
    """Independent factors, their points one after the other: Independent(Gaussian(...), IGSO3(...)) is of poses."""

    factors: tuple[Density, ...]

    def __init__(self, *factors: Density) -> None:
        if not factors:
            raise ValueError("expected at least one factor, such as Independent(Gaussian(...), IGSO3(...)).")
        object.__setattr__(self, "factors", factors)

    @property
    def point_dim(self) -> int:
        """The sum over the factors."""
        return sum(factor.point_dim for factor in self.factors)

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Each factor's sample."""
        return torch.cat([factor.sample(*shape, generator=generator) for factor in self.factors], dim=-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """The sum of the factors' log densities."""
        if x.shape[-1] != self.point_dim:
            raise ValueError(f"expected points with last axis {self.point_dim}; got shape {tuple(x.shape)}.")
        parts = x.split([factor.point_dim for factor in self.factors], dim=-1)
        terms = [factor.log_prob(part) for factor, part in zip(self.factors, parts, strict=True)]
        return torch.stack(terms).sum(0)


def _check_covariance(covariance: Tensor, n: int) -> None:
    if covariance.shape != (n, n):
        raise ValueError(f"expected a covariance ({n}, {n}); got {tuple(covariance.shape)}.")
    if not bool((torch.linalg.cholesky_ex(covariance).info == 0).all()):
        raise ValueError(
            "expected a positive definite covariance; add a small multiple of the identity to it."
        )


def _noise(covariance: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    n = covariance.shape[-1]
    factor = torch.linalg.cholesky(covariance)
    eps = torch.randn(*shape, n, generator=generator, dtype=covariance.dtype, device=covariance.device)
    return (factor * eps.unsqueeze(-2)).sum(-1)


def _log_normal(d: Tensor, covariance: Tensor) -> Tensor:
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, d.unsqueeze(-1), upper=False).squeeze(-1)
    log_det = factor.diagonal().log().sum()
    return -0.5 * (white * white).sum(-1) - log_det - 0.5 * d.shape[-1] * math.log(2 * math.pi)

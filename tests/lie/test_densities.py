"""Densities integrate to 1, their samples follow them, and their scores are their gradients."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch
from scipy import stats

from geoflow.lie import densities, se3, so3

SIGMAS = [0.01, 0.05, 0.2, 0.7, 0.999, 1.001, 1.5, 3.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def about_the_mean(theta: torch.Tensor) -> torch.Tensor:
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=theta.dtype)
    return so3.exp(theta.unsqueeze(-1) * axis)


def heat_kernel(theta: float, sigma: float) -> mp.mpf:
    """The character sum in 50 digits, as many terms as it takes."""
    with mp.workdps(50):
        t, s = mp.mpf(theta), mp.mpf(sigma) ** 2
        terms = int(15 / sigma) + 15
        return mp.fsum(
            (2 * k + 1) * mp.exp(-k * (k + 1) * s / 2) * mp.sin((k + mp.mpf(1) / 2) * t) / mp.sin(t / 2)
            for k in range(terms)
        )


@pytest.mark.parametrize("sigma", SIGMAS)
def test_igso3_is_the_heat_kernel(sigma):
    """log f against the character sum in 50 digits, from the centre into the tails."""
    angles = [
        c
        for c in [1e-6, 0.3 * sigma, sigma, 3 * sigma, 6 * sigma, 3.0, math.pi]
        if c <= min(math.pi, 8 * sigma)
    ]
    density = densities.IGSO3(torch.tensor(sigma, dtype=torch.float64))
    found = density.log_prob(about_the_mean(torch.tensor(angles, dtype=torch.float64)))
    for theta, value in zip(angles, found.tolist(), strict=True):
        # At 6e-17 from pi the sum's own last digit decides; take it at the stored angle of the rotation.
        true = mp.log(heat_kernel(theta, sigma)) - mp.log(8 * mp.pi**2)
        assert abs(value - float(true)) < 1e-12 * (1 + abs(float(true)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_igso3_integrates_to_one(sigma, dtype):
    """The integral of f(theta) (1 - cos theta)/pi over the angle."""
    theta = torch.linspace(0, min(math.pi, 12 * sigma), 20001, dtype=dtype)
    density = densities.IGSO3(torch.tensor(sigma, dtype=dtype))
    f = (density.log_prob(about_the_mean(theta)) + densities.LOG_VOLUME).exp()
    total = torch.trapezoid(f * 2 * (theta / 2).sin() ** 2 / math.pi, theta)
    assert abs(float(total) - 1) < (2e-4 if dtype == torch.float32 else 1e-7)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_igso3_score_is_the_gradient(sigma):
    """score = d/d delta log_prob(x Exp(delta)), by reverse mode and by central differences."""
    mean = so3.random_uniform(generator=generator(), dtype=torch.float64)
    density = densities.IGSO3(torch.tensor(sigma, dtype=torch.float64), mean)
    theta = torch.tensor([0.0, 1e-7, 0.5 * sigma, 2 * sigma]).clamp(max=3.1).double()
    x = so3.compose(mean, about_the_mean(theta))
    delta = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(density.log_prob(so3.compose(x, so3.exp(delta))).sum(), delta)
    score = density.score(x)
    assert torch.allclose(score, gradient, rtol=1e-10, atol=1e-10)
    step = 1e-5 * sigma
    for axis in range(3):
        d = torch.zeros(3, dtype=torch.float64)
        d[axis] = step
        plus, minus = (density.log_prob(so3.compose(x, so3.exp(e))) for e in (d, -d))
        assert torch.allclose(score[:, axis], (plus - minus) / (2 * step), rtol=1e-5, atol=1e-5 / sigma)


def test_igso3_score_is_accurate_in_float32():
    """The float32 score agrees with the float64 one, at the mean and in the tail."""
    for sigma in SIGMAS:
        x = about_the_mean(torch.tensor([1e-6, 0.1 * sigma, sigma, 4 * sigma]).clamp(max=3.1))
        single = densities.IGSO3(torch.tensor(sigma)).score(x).double()
        double = densities.IGSO3(torch.tensor(sigma, dtype=torch.float32).double()).score(x.double())
        assert torch.allclose(single, double, rtol=5e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 3.0])
def test_igso3_samples_follow_the_density(sigma):
    """Kolmogorov-Smirnov of the angle against the integrated density; axes are uniform; the width is found again."""
    mean = so3.random_uniform(generator=generator(3), dtype=torch.float64)
    density = densities.IGSO3(sigma, mean)
    q = density.sample(20000, generator=generator(1))
    omega = so3.log(so3.compose(so3.inverse(mean), q))
    theta = omega.norm(dim=-1)
    grid = torch.linspace(0, min(math.pi, 12 * sigma), 40001, dtype=torch.float64)
    centred = densities.IGSO3(torch.tensor(sigma, dtype=torch.float64))
    pdf = (
        (centred.log_prob(about_the_mean(grid)) + densities.LOG_VOLUME).exp()
        * 2
        * (grid / 2).sin() ** 2
        / math.pi
    )
    cdf = torch.cumulative_trapezoid(pdf, grid)
    at = cdf[(torch.searchsorted(grid, theta) - 1).clamp(0, len(cdf) - 1)]
    assert stats.kstest(at.numpy(), "uniform").pvalue > 1e-3
    axis = omega / theta.unsqueeze(-1)
    assert float(axis.mean(0).abs().max()) < 4 / math.sqrt(3 * 20000)
    if sigma < 3:  # at 3 the samples are uniform to 4 digits
        fitted = densities.IGSO3.fit(q, mean)
        assert abs(float(fitted.sigma) / sigma - 1) < 0.03


def test_igso3_widths_in_a_batch():
    """A tensor of widths broadcasts in log_prob and score, and samples each width."""
    sigma = torch.tensor([0.02, 0.5, 2.0])
    density = densities.IGSO3(sigma)
    q = density.sample(4000, generator=generator())
    assert q.shape == (4000, 3, 4)
    assert density.log_prob(q).shape == (4000, 3)
    assert density.score(q).shape == (4000, 3, 3)
    for i, width in enumerate(sigma.tolist()):
        alone = densities.IGSO3(width)
        assert torch.allclose(density.log_prob(q)[:, i], alone.log_prob(q[:, i]), rtol=1e-5, atol=1e-5)
        assert abs(float(densities.IGSO3.fit(q[:, i], alone.mean).sigma) / width - 1) < 0.1


def test_narrow_igso3_is_a_gaussian_and_wide_is_haar():
    x = about_the_mean(torch.tensor([0.0, 0.01, 0.02], dtype=torch.float64))
    narrow = densities.IGSO3(torch.tensor(0.01, dtype=torch.float64)).log_prob(x)
    flat = densities.Gaussian(torch.zeros(3).double(), 1e-4 * torch.eye(3).double()).log_prob(so3.log(x))
    assert torch.allclose(narrow, flat, rtol=0, atol=1e-4)
    wide = densities.IGSO3(torch.tensor(6.0, dtype=torch.float64)).log_prob(x)
    assert torch.allclose(wide, densities.Haar().log_prob(x), rtol=0, atol=1e-6)
    assert densities.Haar(torch.float64).sample(5).dtype == torch.float64


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_wrapped_gaussian_of_rotations_integrates_to_one(scale):
    """Mean over Haar-uniform rotations times the volume (anisotropic covariance, 4 standard errors)."""
    covariance = scale**2 * torch.tensor([[1.0, 0.3, 0], [0.3, 0.8, 0.1], [0, 0.1, 0.5]], dtype=torch.float64)
    density = densities.WrappedGaussian(
        so3.random_uniform(generator=generator(), dtype=torch.float64), covariance
    )
    if scale == 0.1:  # uniform rotations hardly ever hit it: draw from a wider one of the same kind
        proposal = densities.IGSO3(0.15, density.mean)
    else:
        proposal = densities.Haar(torch.float64)
    q = proposal.sample(50_000, generator=generator(1))
    weights = (density.log_prob(q) - proposal.log_prob(q)).exp()
    error = float(weights.std()) / math.sqrt(len(weights))
    assert error < 0.05
    assert abs(float(weights.mean()) - 1) < 4 * error


@pytest.mark.parametrize("scale", [0.2, 0.8])
def test_wrapped_gaussian_of_poses_integrates_to_one(scale):
    """The same for poses, against a product of a Gaussian and Haar (or IGSO(3)) that covers it."""
    A = torch.randn(6, 6, dtype=torch.float64, generator=generator(5))
    covariance = scale**2 * (0.1 * A @ A.mT + 0.5 * torch.eye(6, dtype=torch.float64))
    mean = se3.random_uniform(generator=generator(), dtype=torch.float64)
    density = densities.WrappedGaussian(mean, covariance)
    wide = densities.Gaussian(mean[:3], 4 * scale**2 * torch.eye(3, dtype=torch.float64))
    turn = densities.IGSO3(1.6 * scale, mean[3:])
    proposal = densities.Independent(wide, turn)
    x = proposal.sample(50_000, generator=generator(1))
    weights = (density.log_prob(x) - proposal.log_prob(x)).exp()
    error = float(weights.std()) / math.sqrt(len(weights))
    assert error < 0.05
    assert abs(float(weights.mean()) - 1) < 4 * error


def test_wrapped_gaussian_samples_follow_the_density():
    """Importance weights of its own samples average to the volume ratio: E[u(x)/p(x)] = 1 for a uniform u."""
    mean = so3.random_uniform(generator=generator(), dtype=torch.float64)
    density = densities.WrappedGaussian(mean, 0.81 * torch.eye(3, dtype=torch.float64))
    q = density.sample(50_000, generator=generator(2))
    inner = densities.IGSO3(0.4, mean)
    weights = (inner.log_prob(q) - density.log_prob(q)).exp()
    assert abs(float(weights.mean()) - 1) < 4 * float(weights.std()) / math.sqrt(len(weights))
    omega = so3.log(
        so3.compose(
            so3.inverse(mean),
            densities.WrappedGaussian(mean, torch.diag(torch.tensor([0.04, 0.01, 0.09])).double()).sample(
                20000, generator=generator(4)
            ),
        )
    )
    assert torch.allclose(omega.std(0), torch.tensor([0.2, 0.1, 0.3]).double(), rtol=0.03)


def test_volume_factor():
    """det J_r is what the density divides by: sinc^2(theta/2) for rotations, sinc^4 for poses."""
    xi = torch.randn(20, 6, dtype=torch.float64, generator=generator())
    half = xi[:, 3:].norm(dim=-1) / 2
    sinc = half.sin() / half
    assert torch.allclose(torch.linalg.det(so3.jacobian_right(xi[:, 3:])), sinc**2)
    assert torch.allclose(torch.linalg.det(se3.jacobian_right(xi)), sinc**4)


def test_gradients_are_finite_everywhere():
    for theta in (0.0, 1e-8, 1.0, math.pi):
        q = about_the_mean(torch.tensor(theta)).requires_grad_()
        x = torch.cat([torch.tensor([0.1, 0, 1e-6]), q])
        pose = densities.WrappedGaussian(se3.identity(), 0.25 * torch.eye(6))
        total = densities.IGSO3(0.5).log_prob(q) + densities.IGSO3(2.0).log_prob(q) + pose.log_prob(x)
        (gradient,) = torch.autograd.grad(total, q)
        assert bool(torch.isfinite(gradient).all())


def test_refusals():
    with pytest.raises(ValueError, match="sigma > 0"):
        densities.IGSO3(0.0)
    with pytest.raises(ValueError, match="use Haar"):
        densities.IGSO3.fit(torch.tensor([[0.0, 1.0, 0.0, 0.0]] * 2), so3.identity())
    with pytest.raises(ValueError, match=r"\(4,\) or pose \(7,\)"):
        densities.WrappedGaussian(torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match=r"covariance \(6, 6\)"):
        densities.WrappedGaussian(se3.identity(), torch.eye(3))
    with pytest.raises(ValueError, match="positive definite"):
        densities.Gaussian(torch.zeros(2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="at least one"):
        densities.Independent()
    with pytest.raises(ValueError, match="last axis 4"):
        densities.Independent(densities.Haar()).log_prob(torch.zeros(3))

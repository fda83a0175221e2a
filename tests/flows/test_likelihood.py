"""Likelihoods: closed forms on R^n, unit mass on SO(3), and agreement with the samples."""

import math

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.flows import GaussianProcess, RandomWalk, euler
from geoflow.flows.likelihood import log_prob, velocity_and_divergence
from geoflow.lie import densities, so3
from tests.flows.known_peaks import PEAKS, Peaks

PRODUCT = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def curved(space, strength=0.6):
    """A smooth field that turns with the point and with time."""
    matrix = torch.randn(space.feature_dim, space.tangent_dim, generator=seeded(3)).double()

    def net(f, t, cond):
        return strength * torch.sin(f @ matrix + t.reshape(-1, *(1,) * (f.dim() - 1)))

    return net


def rotation_grid(n=10):
    """Quadrature of normalised Haar measure in Euler angles z-y-z: exact for smooth functions at this size."""
    x, w = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(n))
    turn = 2 * math.pi * torch.arange(2 * n).double() / (2 * n)
    a, b, c = torch.meshgrid(turn, x.arccos(), turn, indexing="ij")
    axis = lambda angle, i: so3.exp(angle.reshape(-1, 1) * torch.eye(3).double()[i])  # noqa: E731
    q = so3.compose(so3.compose(axis(a, 2), axis(b, 1)), axis(c, 2))
    return q, (w / 2)[None, :, None].expand(a.shape).reshape(-1) / (2 * n) ** 2


def test_a_gaussian_flow_has_the_density_of_its_gaussian():
    """The marginal field of independent coupling, from N(0, 1) to N(2, 0.3^2), in closed form."""

    def net(x, t, cond):
        t = t.reshape(-1, 1)
        variance = (1 - t) ** 2 + (0.3 * t) ** 2
        return 2.0 + (0.09 * t - (1 - t)) / variance * (x - 2.0 * t)

    flow = gf.Flow(gf.Euclidean(1)).double()
    x = torch.linspace(1, 3, 9).double()[:, None]
    expected = torch.distributions.Normal(2.0, 0.3).log_prob(x[:, 0])
    torch.testing.assert_close(log_prob(flow, net, x, steps=60), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_the_density_of_an_earlier_time_is_that_of_noisy_data(t):
    """x_t = (1 - t) x_0 + t x_1 is normal; a prediction of the end point, E[x_1 | x_t], has the same density."""

    def field(x, s):
        variance = (1 - s) ** 2 + (0.3 * s) ** 2
        return 2.0 + (0.09 * s - (1 - s)) / variance * (x - 2.0 * s)

    velocity = lambda x, s, cond: field(x, s.reshape(-1, 1))  # noqa: E731
    endpoint = lambda x, s, cond: x + (1 - s.reshape(-1, 1)) * velocity(x, s, cond)  # noqa: E731
    x = torch.linspace(0, 3, 9).double()[:, None]
    expected = torch.distributions.Normal(2.0 * t, math.hypot(1 - t, 0.3 * t)).log_prob(x[:, 0])
    for net, target in ((velocity, "velocity"), (endpoint, "endpoint")):
        flow = gf.Flow(gf.Euclidean(1), target=target).double()
        torch.testing.assert_close(log_prob(flow, net, x, at=t, steps=40), expected, atol=1e-5, rtol=0)


def test_rotations_are_ranked_as_their_mixture_ranks_them():
    """Three known peaks on SO(3) with noise: p_t from the flow alone orders points as the mixture does."""
    known, t = Peaks(), 0.8
    flow = gf.Flow(gf.SO3(), known.prior).double()
    x = torch.cat([PEAKS, known.draw(30, t, 3)])
    points, peaks = x.repeat_interleave(3, 0), PEAKS.repeat(len(x), 1)
    eta = known.space.log(peaks, points)
    u = eta / (1 - t)
    prior = known.prior.log_prob(known.space.exp(peaks, u))
    logs = prior + known.space.log_volume(u) - known.space.log_volume(eta) - 3 * math.log(1 - t)
    logs = torch.where(u.square().sum(-1) < math.pi**2, logs, -torch.inf)  # no noise is so far
    expected = logs.reshape(-1, 3).logsumexp(-1)
    found = log_prob(flow, known.velocity, x, at=t, steps=30)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    clear = (expected[:, None] - expected) > 0.5
    assert ((found[:, None] - found)[clear] > 0).all()


def test_a_linear_field_has_the_density_of_its_matrix():
    """x_1 = exp(A) x_0: N(0, exp(A) exp(A)^T), also with correlated chunk noise underneath."""
    A = torch.randn(3, 3, generator=seeded()).double()
    flow, M = gf.Flow(gf.Euclidean(3)).double(), torch.linalg.matrix_exp(A)
    x = torch.randn(7, 3, generator=seeded(1)).double()
    expected = torch.distributions.MultivariateNormal(torch.zeros(3).double(), M @ M.T).log_prob(x)
    torch.testing.assert_close(log_prob(flow, lambda f, t, c: f @ A.T, x), expected, atol=1e-5, rtol=0)
    chunks = gf.Flow(gf.Euclidean(3), GaussianProcess(gf.Euclidean(3))).double()
    x_0 = chunks.prior.sample((7, 4), seeded(2))
    expected = chunks.prior.log_prob(x_0) - 4 * A.trace()
    torch.testing.assert_close(
        log_prob(chunks, lambda f, t, c: f @ A.T, x_0 @ M.T), expected, atol=2e-3, rtol=1e-5
    )


@pytest.mark.parametrize(
    "prior", [gf.HaarUniform(gf.SO3()), gf.flows.IGSO3(gf.SO3(), None, 1.2)], ids=["haar", "heat"]
)
def test_densities_on_rotations_integrate_to_1(prior):
    flow = gf.Flow(gf.SO3(), prior).double()
    q, weights = rotation_grid()
    logs = log_prob(flow, curved(gf.SO3(), 0.3), q, steps=5)
    assert logs.std() > 0.2
    total = (weights * logs.exp()).sum() * math.exp(densities.LOG_VOLUME)
    assert float(total) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(), PRODUCT], ids=str)
def test_samples_follow_the_density(space):
    """E_p[q / p] = 1 with q a known density inside the flow's."""
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, 0.6)).double()
    net = curved(space, 0.25)
    x = flow.sample(net, batch=4000, steps=5, method=gf.flows.cf4, generator=seeded())
    center = gf.flows.integrate(
        space, lambda y, t: flow.velocity(net, y, y.new_full((1,), t)), space.identity(1).double(), 5
    )
    q = gf.WrappedGaussian(space, center[0], 0.4).double()
    ratio = (q.log_prob(x) - log_prob(flow, net, x, steps=5)).exp()
    error = float(ratio.std()) / math.sqrt(len(x))
    assert error < 0.06
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3()], ids=str)
def test_the_divergence_is_that_of_finite_differences(space):
    """sum_i (v_i(x Exp(h e_i)) - v_i(x Exp(-h e_i))) / 2h; for chunks, of every step with itself."""
    x = gf.HaarUniform(space).double().sample((6, 3), seeded())
    net, d, h = curved(space), space.tangent_dim, 1e-5
    field = lambda y, t: net(space.features(y), y.new_full((6,), t), None)  # noqa: E731
    basis = torch.eye(3 * d).double().reshape(-1, 1, 3, d).expand(-1, 6, 3, d)
    v, div = velocity_and_divergence(space, field, x, 0.3, basis)
    e = torch.eye(d).double()
    numeric = sum((field(space.exp(x, h * a), 0.3) - field(space.exp(x, -h * a), 0.3)) @ a for a in e) / (
        2 * h
    )
    torch.testing.assert_close(v, field(x, 0.3))
    torch.testing.assert_close(div, numeric, atol=1e-8, rtol=1e-6)


def test_hutchinson_is_right_on_average():
    space, flow = gf.SE3(), gf.Flow(gf.SE3()).double()
    x = flow.prior.sample((1, 2), seeded())
    exact = log_prob(flow, curved(space), x, steps=4)
    many = x.expand(600, 2, 7)
    guess = log_prob(flow, curved(space), many, steps=4, probes=2, generator=seeded(1))
    error = guess.std() / math.sqrt(600)
    assert error > 0
    assert float(guess.mean()) == pytest.approx(float(exact), abs=4 * float(error))


def test_conditions_chunks_and_group_priors_work_together():
    """A constant turn is a change of variables of volume 1: the density is the prior's at x Exp(-c)."""
    prior = RandomWalk(gf.SE3(), None, 0.3).double()
    flow, x = gf.Flow(gf.SE3(), prior), prior.sample((5, 4), seeded())
    cond = torch.randn(5, 6, generator=seeded(1)).double()
    net = lambda f, t, c: c[:, None].expand(5, 4, 6)  # noqa: E731
    moved = gf.SE3().exp(x, cond[:, None].expand(5, 4, 6))
    torch.testing.assert_close(log_prob(flow, net, moved, cond, steps=1, method=euler), prior.log_prob(x))


def test_what_has_no_likelihood_says_why():
    x = gf.SO3().identity(2)
    net = lambda f, t, c: f[..., :3]  # noqa: E731
    with pytest.raises(ValueError, match="target='velocity'"):
        log_prob(gf.Flow(gf.SO3(), target="endpoint"), net, x)
    with pytest.raises(ValueError, match="at least 1"):
        log_prob(gf.Flow(gf.SO3()), net, x, probes=0)
    with pytest.raises(NotImplementedError, match="RandomWalk"):
        log_prob(gf.Flow(gf.SO3(), GaussianProcess(gf.SO3())), net, gf.SO3().identity(2, 3), steps=1)

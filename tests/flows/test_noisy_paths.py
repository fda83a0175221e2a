"""Noisy paths: the velocity is the derivative for fixed noise, the marginals are the textbook's, bad input teaches."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import (
    VE,
    BrownianBridge,
    CondOT,
    CosineVP,
    Diffusion,
    Geodesic,
    LinearVP,
    SigmaMin,
    midpoint,
)
from geoflow.flows.isotropic import units

SPACES = [
    gf.Euclidean(3),
    gf.Euclidean(2, scale=0.3),
    gf.SO3(),
    gf.SE3(length=0.2),
    gf.Product(gf.SE3(), gf.Euclidean(1)),
    gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(2)),
]
MIXTURES = [CosineVP(), LinearVP(), VE(), CondOT(), CondOT(0.05)]
PATHS = [SigmaMin(0.3), BrownianBridge(0.5), *map(Diffusion, MIXTURES)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(space, *shape, seed=0):
    """Random points all over the manifold, float64."""
    return gf.HaarUniform(space).double().sample(shape, seeded(seed))


def at(path, space, x_0, x_1, t, seed=7):
    """The path with the same noise at every call."""
    return path(space, x_0, x_1, t, seeded(seed))


def name(path):
    return str(path.mixture) if isinstance(path, Diffusion) else str(path)


@pytest.mark.parametrize("path", PATHS, ids=name)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_velocity_is_the_derivative_for_fixed_noise(space, path):
    """(Log(x_t^-1 x_{t+h}) - Log(x_t^-1 x_{t-h})) / 2h -> v_t, on chunks and all the way from noise to data."""
    x_0, x_1 = points(space, 20, 3, seed=1), points(space, 20, 3, seed=2)
    t, h = torch.linspace(0.02, 0.98, 20, dtype=torch.float64)[:, None], 1e-6
    here, ahead, behind = (at(path, space, x_0, x_1, s) for s in (t, t + h, t - h))
    numeric = (space.log(here.x_t, ahead.x_t) - space.log(here.x_t, behind.x_t)) / (2 * h)
    torch.testing.assert_close(numeric, here.v_t, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("path", PATHS, ids=name)
@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3()], ids=str)
def test_it_is_so_for_half_turns(space, path):
    """From noise to data, and from the centre to both, at angles of pi - 1e-4."""
    axis = torch.nn.functional.normalize(torch.randn(20, 3, generator=seeded()).double(), dim=-1)
    turn = torch.cat([torch.zeros(20, space.tangent_dim - 3).double(), (math.pi - 1e-4) * axis], -1)
    e = space.identity(20, dtype=torch.float64)
    t, h = torch.linspace(0.02, 0.98, 20, dtype=torch.float64), 1e-6
    for x_0, x_1 in (
        (e, space.exp(e, turn)),
        (space.exp(e, turn), e),
        (space.exp(e, turn), space.exp(e, -turn)),
    ):
        here, ahead, behind = (at(path, space, x_0, x_1, s) for s in (t, t + h, t - h))
        numeric = (space.log(here.x_t, ahead.x_t) - space.log(here.x_t, behind.x_t)) / (2 * h)
        torch.testing.assert_close(numeric, here.v_t, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_paths_begin_at_noise_and_end_at_data(space):
    """As far as each says: LinearVP keeps 0.0066 of the data at t = 0, SigmaMin a width at t = 1."""
    x_0, x_1 = points(space, 200, 4, seed=1), points(space, 200, 4, seed=2)
    start, end = (torch.full((200, 1), t, dtype=torch.float64) for t in (0.0, 1.0))
    far = space.distance(x_0, x_1).max()
    for path in PATHS:
        begun, ended = at(path, space, x_0, x_1, start), at(path, space, x_0, x_1, end)
        assert begun.v_t.isfinite().all()
        assert ended.v_t.isfinite().all()
        mixture = path.mixture if isinstance(path, Diffusion) else None
        if not isinstance(mixture, VE):
            kept = 0.0066 * far if isinstance(mixture, LinearVP) else 0.0
            assert space.distance(begun.x_t, x_0).max() < 3 * kept + 1e-6
        if isinstance(path, SigmaMin):
            off = space.distance(x_1, ended.x_t).square().mean()
            assert float(off) == pytest.approx(0.09 * space.tangent_dim, rel=0.1)
        else:
            left = mixture(end)[2].max() if mixture is not None else 0.0
            assert space.distance(ended.x_t, x_1).max() <= 30 * left + 1e-6


def test_ve_on_rotations_begins_uniform_under_haar():
    """x_1 Exp(z) with uniform z: the mean trace is 0 and the mean angle pi/2 + 2/pi."""
    space, x_0 = gf.SO3(), points(gf.SO3(), 20_000, seed=1)
    x_1 = points(space, 1, seed=2).expand_as(x_0)
    x = Diffusion(VE())(space, x_0, x_1, torch.zeros(20_000).double()).x_t
    angle = space.distance(space.identity(dtype=torch.float64).expand_as(x), x)
    assert (1 + 2 * angle.cos()).mean() == pytest.approx(0, abs=0.03)
    assert angle.mean() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_marginals_on_flat_space_are_the_textbook_ones(t):
    """Given x_1, with x_0 ~ N(0, 1): N(alpha x_1, sigma^2), and N(t x_1, (1-t)^2 + sigma_t^2) with fresh noise."""
    n, space, x_1 = 200_000, gf.Euclidean(1), 1.7
    s = 1 - t
    alpha = math.exp(-0.5 * (0.1 * s + 0.5 * 19.9 * s * s))
    expected = [
        (t * x_1, s**2 + 0.09 * t**2),
        (t * x_1, s**2 + 0.25 * t * s),
        (math.sin(math.pi * t / 2) * x_1, math.cos(math.pi * t / 2) ** 2),
        (alpha * x_1, 1 - alpha**2),
        (x_1, 1e-6**t),
        (t * x_1, s**2),
        (t * x_1, (1 - 0.95 * t) ** 2),
    ]
    x_0 = torch.randn(n, 1, generator=seeded()).double()
    for path, (mean, variance) in zip(PATHS, expected, strict=True):
        x = at(path, space, x_0, torch.full((n, 1), x_1).double(), torch.full((n,), t).double()).x_t
        assert x.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / n))
        assert x.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_the_bridge_is_the_brownian_bridge_and_its_drift_that_of_its_velocity_and_score():
    """v + sigma^2/2 grad log p_t(x | x_0, x_1) = (x_1 - x) / (1 - t) (Tong et al. 2024, SF2M)."""
    space, sigma, n = gf.Euclidean(2), 0.7, 100
    x_0, x_1 = torch.randn(2, n, 2, generator=seeded()).double()
    t = torch.linspace(0.05, 0.95, n).double()
    bridge = BrownianBridge(sigma)
    sample = at(bridge, space, x_0, x_1, t)
    mu = x_0 + t[:, None] * (x_1 - x_0)
    score = -(sample.x_t - mu) / (sigma**2 * t * (1 - t))[:, None]
    drift = bridge.drift_to(space, sample.x_t, x_1, t)
    torch.testing.assert_close(drift, sample.v_t + 0.5 * sigma**2 * score)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_noise_is_isotropic_in_the_metric(space):
    """The covariance of Log(mu_t^-1 x_t) is sigma_t^2 l_i^2 in each direction."""
    x_0, x_1 = (points(space, 1, seed=s).expand(20_000, -1) for s in (1, 2))
    t = torch.full((20_000,), 0.5).double()
    mu = Geodesic()(space, x_0, x_1, t).x_t
    w = space.log(mu, at(BrownianBridge(0.2), space, x_0, x_1, t).x_t) / units(space, mu)
    torch.testing.assert_close(w.T.cov() / 0.01, torch.eye(space.tangent_dim).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(
        space.squared_norm(torch.diag(units(space, mu))), torch.ones(len(w[0])).double()
    )


@pytest.mark.parametrize("mixture", MIXTURES, ids=str)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_knowing_the_end_gives_the_velocity_of_a_diffusion(space, mixture):
    """velocity_to(x_t, x_1) = v_t, with any centre: both targets of a network mean the same field."""
    x_0, x_1 = points(space, 20, 3, seed=1), points(space, 20, 3, seed=2)
    path = Diffusion(mixture, center=points(space, 3, seed=3))
    t = torch.linspace(0.05, 0.95, 20).double()[:, None]
    sample = path(space, x_0, x_1, t)
    torch.testing.assert_close(path.velocity_to(space, sample.x_t, x_1, t), sample.v_t, atol=1e-6, rtol=1e-6)


def test_the_straight_mixture_is_the_geodesic_on_flat_space():
    space = gf.Euclidean(3)
    x_0, x_1 = points(space, 50, seed=1), points(space, 50, seed=2)
    t = torch.rand(50, generator=seeded()).double()
    a, b = Diffusion(CondOT())(space, x_0, x_1, t), Geodesic()(space, x_0, x_1, t)
    torch.testing.assert_close(a.x_t, b.x_t)
    torch.testing.assert_close(a.v_t, b.v_t)


@pytest.mark.parametrize("target", ["velocity", "endpoint"])
@pytest.mark.parametrize("mixture", [CosineVP(), LinearVP(), CondOT(), VE(1e-2)], ids=str)
def test_the_closed_form_field_of_a_diffusion_gives_the_target_gaussian(mixture, target):
    """x_1 ~ N(0.4, 0.3^2): E[x_1 | x_t] and E[x_0 | x_t] are linear, and both targets sample N(0.4, 0.3^2)."""
    mean, std = 0.4, 0.3
    width = 30.0 if isinstance(mixture, VE) else 1.0

    def net(x, t, cond):
        alpha, alpha_rate, sigma, rate = (value[:, None] for value in mixture(t))
        pull = (x - alpha * mean) / ((alpha * std) ** 2 + (sigma * width) ** 2)
        x_1, x_0 = mean + alpha * std**2 * pull, sigma * width**2 * pull
        return x_1 if target == "endpoint" else alpha_rate * x_1 + rate * x_0

    space = gf.Euclidean(1)
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, width), Diffusion(mixture), target=target).double()
    left = float(mixture(torch.ones(1).double())[2]) * width
    x = flow.sample(net, batch=20_000, steps=300, method=midpoint, generator=seeded())
    assert x.mean() == pytest.approx(mean, abs=0.03)
    assert x.std() == pytest.approx(math.hypot(std, left), abs=0.02)
    data = mean + std * torch.randn(20_000, 1, generator=seeded(1)).double()
    assert flow.loss(net, data, generator=seeded(2)).isfinite().all()


@pytest.mark.parametrize("path", [SigmaMin(0.2), BrownianBridge(0.4)], ids=str)
def test_the_closed_form_field_of_a_noisy_geodesic_gives_the_smoothed_gaussian(path):
    """E[m + sigma' z | x_t] for x_0 ~ N(0, 1) and x_1 ~ N(1, 0.5^2) ends in N(1, 0.5^2 + sigma_1^2)."""

    def net(x, t, cond):
        t = t[:, None]
        sigma, rate = path.width(t)
        variance = (1 - t) ** 2 + (0.5 * t) ** 2 + sigma**2
        return 1.0 + (0.25 * t - (1 - t) + sigma * rate) / variance * (x - t)

    flow = gf.Flow(gf.Euclidean(1), path=path).double()
    x = flow.sample(net, batch=20_000, steps=200, method=midpoint, generator=seeded())
    assert x.mean() == pytest.approx(1.0, abs=0.02)
    assert x.std() == pytest.approx(math.hypot(0.5, 0.2 if isinstance(path, SigmaMin) else 0.0), abs=0.01)
    data = 1 + 0.5 * torch.randn(20_000, 1, generator=seeded(1)).double()
    ours = flow.loss(net, data, generator=seeded(2)).mean()
    for wrong in (0.9, 1.1):
        off = flow.loss(lambda f, t, c, k=wrong: k * net(f, t, c), data, generator=seeded(2)).mean()
        assert ours < off


def test_each_batch_element_has_its_own_noise():
    """One generator per element: the first of eight is what it is alone."""
    space, path = gf.SE3(), BrownianBridge(0.5)
    x_0, x_1 = points(space, 8, 4, seed=1), points(space, 8, 4, seed=2)
    t = torch.full((8, 1), 0.4).double()
    many = path(space, x_0, x_1, t, [seeded(i) for i in range(8)])
    alone = path(space, x_0[:1], x_1[:1], t[:1], [seeded(0)])
    torch.testing.assert_close(alone.x_t[0], many.x_t[0])


def test_bad_widths_mixtures_and_targets_say_what_would_work():
    with pytest.raises(ValueError, match="width >= 0"):
        SigmaMin(-0.1)
    with pytest.raises(ValueError, match=r"Geodesic\(\)"):
        BrownianBridge(0.0)
    with pytest.raises(ValueError, match="beta_min <= beta_max"):
        LinearVP(0.1, 2.0)
    with pytest.raises(ValueError, match=r"between 0 and 0\.1"):
        VE(2.0)
    with pytest.raises(ValueError, match=r"below 0\.1"):
        CondOT(0.5)
    with pytest.raises(ValueError, match=r"sigma\(0\) = 2.*belongs to the prior"):
        Diffusion(lambda t: (t, torch.ones_like(t), 2 - 2 * t, -2 * torch.ones_like(t)))
    with pytest.raises(ValueError, match=r"sigma' = 1 at t = 0\.5"):
        Diffusion(lambda t: (t, torch.ones_like(t), 1 - t, torch.ones_like(t)))
    with pytest.raises(TypeError, match="four tensors"):
        Diffusion(lambda t: (t, torch.ones_like(t)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="CosineVP"):
        Diffusion("cosine")  # pyright: ignore[reportArgumentType]
    flow = gf.Flow(gf.SO3(), path=SigmaMin(0.1), target="endpoint")
    with pytest.raises(NotImplementedError, match="target='velocity'"):
        flow.sample(lambda f, t, c: f[..., :3], batch=2)

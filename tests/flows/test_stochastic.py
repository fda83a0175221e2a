"""Scores and the SDE: Stein's identity, closed-form Gaussians, rotations whose p_t is known, and what noise mends."""

import math

import pytest
import torch
from scipy.stats import ks_2samp

import geoflow as gf
from geoflow.flows import (
    IGSO3,
    BrownianBridge,
    CondOT,
    Cosine,
    CosineVP,
    Diffusion,
    Exponential,
    Geodesic,
    OptimalTransport,
    SigmaMin,
    gaussian_score,
    learned_score,
    sample_bridge,
    sample_sde,
    score_loss,
)
from geoflow.flows.isotropic import units
from tests.flows.known_peaks import PEAKS, Peaks

POSE = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))
SPACES = [gf.Euclidean(2, scale=0.5), gf.SO3(), gf.SE3(length=0.3), POSE]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def near(space, *shape, seed=0, spread=0.4):
    """Points near the identity, float64."""
    return gf.WrappedGaussian(space, None, spread).double().sample(shape, seeded(seed))


# Scores


@pytest.mark.parametrize("t", [0.3, 0.8])
@pytest.mark.parametrize(
    "path",
    [
        Geodesic(),
        Geodesic(Exponential(2)),
        Geodesic((Cosine(), Exponential(2), Cosine())),
        Diffusion(CosineVP()),
        BrownianBridge(0.6),
        SigmaMin(0.5),
    ],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_conditional_score_obeys_steins_identity(space, path, t):
    """E[E_i f(x_t)] = -E[f(x_t) s_i(x_t)] for every f: an oracle that knows samples but no density."""
    if isinstance(path, Geodesic) and isinstance(path.clock, tuple) and space is not POSE:
        path = Geodesic()
    n = 30_000
    prior = gf.WrappedGaussian(space, near(space, 1, seed=1)[0], 0.5).double()
    x_1 = near(space, 1, seed=2).expand(n, -1)
    # A path that holds both ends is tried for one start.
    x_0 = prior.sample((n,), seeded(3))
    if isinstance(path, BrownianBridge | SigmaMin):
        x_0 = x_0[:1].expand(n, -1)
    times = torch.full((n,), t).double()
    x_t = path(space, x_0, x_1, times, seeded(4)).x_t
    s = path.conditional_score(space, prior, x_0, x_1, x_t, times)
    f, slope = smooth(space, x_t)
    terms = slope + f[:, None] * s
    error = terms.std(0) / math.sqrt(n)
    assert (terms.mean(0).abs() < 4.5 * error).all()
    assert (slope.mean(0).abs() > 5 * error).any()


def smooth(space, x):
    """A function f (n,) of points and its derivatives E_i f (n, tangent_dim)."""
    weights = torch.randn(space.feature_dim, generator=seeded(5)).double()
    delta = torch.zeros(len(x), space.tangent_dim).double().requires_grad_()
    f = torch.sin(space.features(space.exp(x, delta)) @ weights + 0.5)
    return f.detach(), torch.autograd.grad(f.sum(), delta)[0]


def missing(path, prior, n=60_000):
    """The part of E[E_i f(x_t)] that -E[f s] does not explain, for data at a turn of 0.8 rad."""
    space = gf.SO3()
    e = space.identity(1, dtype=torch.float64)
    x_1 = space.exp(e, torch.tensor([[0.48, 0.64, 0]]).double()).expand(n, -1)
    x_0, t = prior.sample((n,), seeded(3)), torch.full((n,), 0.5).double()
    x_t = path(space, x_0, x_1, t, seeded(4)).x_t
    s = path.conditional_score(space, prior, x_0, x_1, x_t, t)
    f, slope = smooth(space, x_t)
    return float((slope + f[:, None] * s).mean(0).norm() / slope.mean(0).norm())


def test_priors_that_reach_half_a_turn_lose_score_unless_both_ends_are_held():
    """What `score_loss` warns of: nothing at 0.5 rad, 12 % at 1 rad, most under Haar; never for the bridge."""
    heat = lambda width: IGSO3(gf.SO3(), None, torch.tensor(width).double()).double()  # noqa: E731
    haar = gf.HaarUniform(gf.SO3()).double()
    assert missing(Geodesic(), heat(0.5)) < 0.02
    assert missing(Geodesic(), heat(1.0)) == pytest.approx(0.12, abs=0.03)
    assert missing(Geodesic(), haar) > 0.5
    assert missing(BrownianBridge(1.0), haar) < 0.04


MEAN, STD = torch.tensor([0.8, -0.5]).double(), torch.tensor([0.3, 0.6]).double()


def gaussian_net(path, width, target="velocity", center=0.0):
    """E[x_1 | x_t] or E[v | x_t] for x_0 ~ N(center, width^2) and x_1 ~ N(MEAN, STD^2)."""

    def net(x, t, cond):
        if isinstance(path, Diffusion):
            alpha, alpha_rate, sigma, rate = (value[:, None] for value in path.mixture(t))
        else:
            alpha, alpha_rate = (value[:, None] for value in path.clock(t))
            sigma, rate = 1 - alpha, -alpha_rate
        pull = (x - alpha * MEAN - sigma * center) / ((alpha * STD) ** 2 + (sigma * width) ** 2)
        x_1, x_0 = MEAN + alpha * STD**2 * pull, center + sigma * width**2 * pull
        return x_1 if target == "endpoint" else alpha_rate * x_1 + rate * x_0

    return net


FLAT = [
    (Geodesic(), "velocity", 1.0),
    (Geodesic(), "endpoint", 1.0),
    (Geodesic(Cosine()), "velocity", 0.5),
    (Diffusion(CosineVP()), "velocity", 1.0),
    (Diffusion(CosineVP()), "endpoint", 0.7),
    (Diffusion(CondOT()), "velocity", 0.7),
]


@pytest.mark.parametrize(("path", "target", "width"), FLAT)
def test_the_velocity_of_a_flow_of_vectors_knows_its_score(path, target, width):
    """-(x - mean_t) / var_t, for all three of the closed form, its inputs and autograd through log p_t."""
    space = gf.Euclidean(2)
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, width), path, target=target).double()
    net, x = gaussian_net(path, width, target), torch.randn(50, 2, generator=seeded()).double()
    for t in (0.1, 0.5, 0.9):
        times = torch.full((50,), t).double()
        alpha = float(path.mixture(times)[0][0] if isinstance(path, Diffusion) else path.clock(times)[0][0])
        sigma = float(path.mixture(times)[2][0]) if isinstance(path, Diffusion) else 1 - alpha
        expected = -(x - alpha * MEAN) / ((alpha * STD) ** 2 + (sigma * width) ** 2)
        s = gaussian_score(flow)(x, times, None, flow.velocity(net, x, times))
        torch.testing.assert_close(s, expected)


@pytest.mark.parametrize("path", [Geodesic(), Diffusion(CosineVP()), BrownianBridge(0.5)], ids=str)
def test_denoising_is_least_at_the_score(path):
    """On R^1 with the target N(0.8, 0.3^2): the loss at the true score is below that at nearby ones."""
    space, n = gf.Euclidean(1), 100_000
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, 0.7), path, scale=0.4).double()
    x_1 = 0.8 + 0.3 * torch.randn(n, 1, generator=seeded()).double()

    def net(x, t, cond, shift=0.0, factor=1.0):
        t = t[:, None]
        extra = path.width(t)[0] ** 2 if isinstance(path, BrownianBridge) else 0.0
        alpha, sigma = (path.mixture(t)[0], path.mixture(t)[2]) if isinstance(path, Diffusion) else (t, 1 - t)
        s = -(x - 0.8 * alpha) / ((0.3 * alpha) ** 2 + (0.7 * sigma) ** 2 + extra)
        return 0.4 * path.spread(space, t[:, 0]) * (factor * s + shift)

    best = score_loss(flow, net, x_1, generator=seeded(1))
    assert best.shape == (n,)
    for wrong in ({"shift": 0.15}, {"shift": -0.15}, {"factor": 0.9}, {"factor": 1.1}):
        off = score_loss(flow, lambda *a, w=wrong: net(*a, **w), x_1, generator=seeded(1))
        assert best.mean() < off.mean()
    v = torch.zeros(3, 1).double()
    x, t = torch.randn(3, 1, generator=seeded()).double(), torch.full((3,), 0.6).double()
    s = learned_score(flow, net)(x, t, None, v)
    torch.testing.assert_close(s * 0.4 * path.spread(space, t), net(x, t, None))


# The SDE on vectors


@pytest.mark.parametrize("noise", [0.0, 0.5, lambda t: 0.8 * math.sin(math.pi * t)], ids=["0", "0.5", "sin"])
@pytest.mark.parametrize(("path", "target", "width"), FLAT)
def test_every_noise_level_has_the_marginals_of_the_flow(path, target, width, noise):
    """N(alpha mean, alpha^2 std^2 + sigma^2 width^2) at several times, whatever g."""
    space, n, steps = gf.Euclidean(2), 10_000, 100
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, width), path, target=target).double()
    net = gaussian_net(path, width, target)
    states = sample_sde(
        flow, net, gaussian_score(flow), batch=n, noise=noise, steps=steps, generator=seeded(), path=True
    )
    assert states.shape == (steps + 1, n, 2)
    for i in (25, 50, 75, 100):
        t = torch.tensor([i / steps]).double()
        alpha = float(path.mixture(t)[0] if isinstance(path, Diffusion) else path.clock(t)[0])
        sigma = float(path.mixture(t)[2]) if isinstance(path, Diffusion) else 1 - alpha
        std = ((alpha * STD) ** 2 + (sigma * width) ** 2).sqrt()
        torch.testing.assert_close(states[i].mean(0), alpha * MEAN, atol=0.045, rtol=0)
        torch.testing.assert_close(states[i].std(0), std, atol=0.045, rtol=0)


def test_noise_follows_the_metric():
    """On Euclidean(2, scale=0.5) and with the metric's gradient the marginals are the same as with scale 1."""
    space = gf.Euclidean(2, scale=0.5)
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, 0.7)).double()
    draw = {"batch": 20_000, "noise": 0.8, "generator": seeded(), "steps": 100}
    x = sample_sde(flow, gaussian_net(flow.path, 0.7), gaussian_score(flow), **draw)
    torch.testing.assert_close(x.mean(0), MEAN, atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(0), STD, atol=0.02, rtol=0)
    still = gf.Flow(gf.SE3(length=0.2)).double()
    zero = lambda f, t, c: torch.zeros(len(f), 6).double()  # noqa: E731
    flat = lambda x, t, c, v: torch.zeros_like(v)  # noqa: E731
    e = gf.SE3().identity(20_000, dtype=torch.float64)
    y = sample_sde(still, zero, flat, x_0=e, noise=lambda t: 0.1, steps=2, generator=seeded())
    widths = gf.SE3().log(e, y).std(0) / (0.1 * math.sqrt(0.5))
    torch.testing.assert_close(widths, units(gf.SE3(length=0.2), e), rtol=0.03, atol=0)


def test_noise_mends_a_wrong_start():
    """From N(1.5, 1) in place of N(0, 1) the flow ends off by 1.5 std_1; noise contracts that by its own integral."""
    space, n = gf.Euclidean(2), 10_000
    flow = gf.Flow(space).double()
    net, start = gaussian_net(Geodesic(), 1.0), 1.5 + torch.randn(n, 2, generator=seeded()).double()
    off = []
    for noise in (0.0, 0.5, 1.0):
        x = sample_sde(
            flow, net, gaussian_score(flow), noise=noise, x_0=start, steps=100, generator=seeded(1)
        )
        off.append((x.mean(0) - MEAN).abs())
        t = (torch.arange(2000).double()[:, None] + 0.5) / 2000
        rate = 0.5 * noise**2 * (1 - t) / ((t * STD) ** 2 + (1 - t) ** 2)
        torch.testing.assert_close(off[-1], 1.5 * STD * torch.exp(-rate.mean(0)), atol=0.03, rtol=0)
    assert (off[2] < off[1]).all()
    assert (off[1] < off[0]).all()


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(length=0.4)], ids=str)
def test_on_groups_the_noise_and_its_score_keep_a_density(space):
    """v = 0: noise leaves samples of p where they are distributed, and leads others there.

    So the increments are left-invariant, their density is against Haar, and both follow the metric.
    """
    n, width = 3000, 0.5 * units(space, torch.zeros(1).double())
    p = gf.WrappedGaussian(space, near(space, 1, seed=1)[0], width).double()
    flow = gf.Flow(space, p).double()
    still = lambda f, t, c: torch.zeros(len(f), space.tangent_dim).double()  # noqa: E731

    def score(x, t, cond, v):
        with torch.enable_grad():
            delta = torch.zeros_like(v).requires_grad_()
            return torch.autograd.grad(p.log_prob(space.exp(x, delta)).sum(), delta)[0]

    truth = space.log(p.mean.expand(n, -1), p.sample((n,), seeded(9))) / width
    for start in (p.sample((n,), seeded(2)), p.mean.expand(n, -1)):
        x = sample_sde(flow, still, score, x_0=start, noise=lambda t: 1.2, steps=40, generator=seeded(3))
        w = space.log(p.mean.expand(n, -1), x) / width
        torch.testing.assert_close(w.mean(0), truth.mean(0), atol=0.08, rtol=0)
        torch.testing.assert_close(w.T.cov(), truth.T.cov(), atol=0.13, rtol=0)


# Rotations: data at three points, where p_t is a mixture of three known densities


@pytest.fixture(scope="module")
def peaks():
    return Peaks()


def apart(space, x, y):
    """The largest Kolmogorov-Smirnov distance of the angles to each peak and to the identity."""
    marks = [*PEAKS, space.identity(dtype=torch.float64)]
    angles = [(space.distance(m.expand_as(x), x), space.distance(m.expand_as(y), y)) for m in marks]
    return max(ks_2samp(a, b).statistic for a, b in angles)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.7, lambda t: 0.7 * math.sin(math.pi * t)], ids=["0", "0.7", "sin"])
def test_on_rotations_every_noise_level_has_the_marginals_of_the_path(peaks, noise):
    """Angles at t = 0.3, 0.6, 0.9 against x_t drawn as in training; 3000 of each differ by 0.05 at the 1/1000 level."""
    flow, n = gf.Flow(gf.SO3(), peaks.prior).double(), 3000
    states = sample_sde(
        flow, peaks.velocity, peaks.score, batch=n, noise=noise, steps=60, generator=seeded(), path=True
    )
    for i in (18, 36, 54):
        assert apart(peaks.space, states[i], peaks.draw(n, i / 60, 10 + i)) < 0.05
    torch.testing.assert_close(states.norm(dim=-1), torch.ones(61, n).double())


def test_without_its_score_the_noise_spoils_the_marginals(peaks):
    """The check above can fail: the same noise with no score is found out."""
    flow, n = gf.Flow(gf.SO3(), peaks.prior).double(), 3000
    nothing = lambda x, t, c, v: torch.zeros_like(v)  # noqa: E731
    states = sample_sde(
        flow, peaks.velocity, nothing, batch=n, noise=0.8, steps=60, generator=seeded(), path=True
    )
    assert apart(peaks.space, states[36], peaks.draw(n, 0.6, 46)) > 0.1


def test_on_rotations_noise_mends_a_wrong_start(peaks):
    """Started about a wrong centre, the flow keeps the error and the SDE forgets most of it."""
    flow, n = gf.Flow(gf.SO3(), peaks.prior).double(), 2000
    wrong = gf.SO3().exp(
        peaks.prior.sample((n,), seeded(1)), torch.tensor([0.5, 0.3, 0]).double().expand(n, 3)
    )
    truth = peaks.draw(n, 0.9, 5)
    off = [
        apart(
            peaks.space,
            sample_sde(
                flow,
                peaks.velocity,
                peaks.score,
                noise=noise,
                x_0=wrong,
                steps=40,
                generator=seeded(),
                path=True,
            )[36],
            truth,
        )
        for noise in (0.0, 0.6, 1.2)
    ]
    assert off[1] < 0.85 * off[0]
    assert off[2] < 0.5 * off[0]


def test_noise_is_a_knob_of_diversity(peaks):
    """From one start the flow has one end; the more noise, the more evenly the peaks are reached."""
    flow, n = gf.Flow(gf.SO3(), peaks.prior).double(), 600
    start = peaks.prior.sample((1,), seeded(3)).expand(n, 4)
    most = []
    for noise in (0.0, 0.4, 1.0):
        x = sample_sde(
            flow, peaks.velocity, peaks.score, noise=noise, x_0=start, steps=60, generator=seeded(4)
        )
        away = peaks.space.distance(x[:, None].expand(n, 3, 4), PEAKS.expand(n, 3, 4))
        assert away.min(-1).values.quantile(0.95) < 0.1
        most.append(float(torch.bincount(away.argmin(-1), minlength=3).max()) / n)
    assert most[0] == 1
    assert most[2] < most[1]
    assert most[2] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("path", [Geodesic(), BrownianBridge(0.5)], ids=str)
def test_a_trained_score_samples_the_peaks(path):
    """Velocity and score as two heads of one small network; the SDE covers the three peaks and stays near them."""
    torch.manual_seed(0)
    space = gf.SO3()
    flow = gf.Flow(space, gf.WrappedGaussian(space, None, 0.6), path)
    heads = torch.nn.Sequential(
        torch.nn.Linear(7, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, 6)
    )  # fmt: skip
    call = lambda f, t, c: heads(torch.cat([f, t[:, None]], -1))  # noqa: E731
    net, score_net = (lambda f, t, c: call(f, t, c)[..., :3]), (lambda f, t, c: call(f, t, c)[..., 3:])
    optimizer = torch.optim.Adam(heads.parameters(), 3e-3)
    for _ in range(400):
        x_1 = PEAKS.float()[torch.randint(3, (256,))]
        loss = flow.loss(net, x_1).mean() + score_loss(flow, score_net, x_1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x = sample_sde(flow, net, learned_score(flow, score_net), batch=1500, noise=0.5, generator=seeded())
        y = flow.sample(net, batch=1500, steps=50, generator=seeded())
    off, which = space.distance(x[:, None].expand(-1, 3, 4), PEAKS.float().expand(1500, 3, 4)).min(-1)
    flow_off = space.distance(y[:, None].expand(-1, 3, 4), PEAKS.float().expand(1500, 3, 4)).min(-1).values
    assert off.median() < 0.4
    assert off.mean() < 1.1 * flow_off.mean()
    assert (torch.bincount(which, minlength=3) / 1500).min() > 0.2


def test_the_bridge_process_ends_in_the_data_of_a_gaussian():
    """With E[x_1 | x_t] in closed form dx = (x_1 - x)/(1 - t) dt + sigma dW samples N(MEAN, STD^2)."""
    sigma, n = 0.8, 20_000
    flow = gf.Flow(gf.Euclidean(2), path=BrownianBridge(sigma), target="endpoint").double()

    def net(x, t, cond):
        t = t[:, None]
        variance = (t * STD) ** 2 + (1 - t) ** 2 + sigma**2 * t * (1 - t)
        return MEAN + t * STD**2 / variance * (x - t * MEAN)

    states = sample_bridge(flow, net, batch=n, steps=200, generator=seeded(), path=True)
    for i in (60, 140, 200):
        t = i / 200
        std = ((t * STD) ** 2 + (1 - t) ** 2 + sigma**2 * t * (1 - t)).sqrt()
        torch.testing.assert_close(states[i].mean(0), t * MEAN, atol=0.03, rtol=0)
        torch.testing.assert_close(states[i].std(0), std, atol=0.03, rtol=0)


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(), POSE], ids=str)
def test_the_bridge_process_ends_where_its_network_says(space):
    target = near(space, 1, seed=3)
    flow = gf.Flow(space, path=BrownianBridge(0.5), target="endpoint").double()
    u = space.log(space.identity(1, dtype=torch.float64), target)
    x = sample_bridge(
        flow, lambda f, t, c: u.expand(*f.shape[:-1], -1), batch=20, horizon=3, steps=9, generator=seeded()
    )
    assert space.distance(x, target.expand_as(x)).max() < 1e-6


def test_each_episode_has_its_own_noise_and_g_0_is_the_flow():
    space = gf.SE3()
    flow = gf.Flow(space)
    net = lambda f, t, c: torch.sin(f[..., :6])  # noqa: E731
    score = lambda x, t, c, v: -v  # noqa: E731
    alone = sample_sde(flow, net, score, batch=1, horizon=4, generator=[seeded(0)])
    many = sample_sde(flow, net, score, batch=8, horizon=4, generator=[seeded(i) for i in range(8)])
    torch.testing.assert_close(alone[0], many[0])
    still = sample_sde(flow, net, score, batch=5, noise=0.0, steps=7, generator=seeded())
    torch.testing.assert_close(still, flow.sample(net, batch=5, steps=7, generator=seeded()))


def test_what_has_no_score_says_what_would_work():
    space, x_1 = gf.SO3(), gf.SO3().identity(4)
    net = lambda f, t, c: f[..., :3]  # noqa: E731
    with pytest.raises(ValueError, match="score_loss and use learned_score"):
        gaussian_score(gf.Flow(space))
    with pytest.raises(ValueError, match="score_loss"):
        gaussian_score(gf.Flow(gf.Euclidean(2), path=BrownianBridge(0.1)))
    with pytest.raises(ValueError, match="BrownianBridge"):
        score_loss(gf.Flow(space, gf.HaarUniform(space)), net, x_1)
    with pytest.raises(ValueError, match="BrownianBridge"):
        score_loss(gf.Flow(space, coupling=OptimalTransport()), net, x_1)
    with pytest.raises(ValueError, match="BrownianBridge"):
        score_loss(gf.Flow(space), net, x_1, x_0=x_1)
    haar = gf.Flow(space, gf.HaarUniform(space), BrownianBridge(0.3))
    assert score_loss(haar, net, x_1, x_0=x_1).isfinite().all()
    with pytest.raises(ValueError, match="noise=-1"):
        sample_sde(gf.Flow(space), net, lambda x, t, c, v: v, batch=2, noise=-1)
    with pytest.raises(ValueError, match="target='endpoint'"):
        sample_bridge(gf.Flow(space), net, batch=2)

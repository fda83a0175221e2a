"""Diffusion on the group: the noise is the heat kernel, the score its gradient, and exact scores sample the target."""

import math

import pytest
import scipy.stats
import torch

import geoflow as gf
from geoflow.flows import midpoint, rkmk4
from geoflow.flows.diffusion import GroupDiffusion
from geoflow.flows.rotation_noise import score_rms, turns
from geoflow.lie import densities, so3
from geoflow.manifolds import Manifold

SPACES = [gf.SO3(), gf.SE3(), gf.Product(gf.SE3(), gf.Euclidean(2)), gf.Product(gf.Euclidean(3), gf.SO3())]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def angle_cdf(sigma):
    """The distribution function of IGSO(3)'s angle, by fine quadrature of its density."""
    theta = torch.linspace(0, math.pi, 20_001).double()
    q = so3.exp(torch.stack([theta, 0 * theta, 0 * theta], -1))
    density = (densities.IGSO3(torch.tensor(sigma).double()).log_prob(q) + densities.LOG_VOLUME).exp()
    total = torch.cumulative_trapezoid(density * (1 - theta.cos()) / math.pi, theta)
    assert float(total[-1]) == pytest.approx(1, abs=1e-5)
    return lambda a: torch.nn.functional.pad(total, (1, 0)).numpy()[
        (a / math.pi * 20_000).round().astype(int)
    ]


def far(space, generator=None):
    """Points with positions of metres and any rotation."""
    return gf.HaarUniform(space, None, 2.0).double().sample((), generator)


@pytest.mark.parametrize("sigma", [0.03, 0.4, 0.83, 1.6, 4.0])
def test_tabulated_rotations_follow_igso3(sigma):
    """Kolmogorov and Smirnov on 40 000 angles; axes are those of the normal numbers."""
    eps = torch.randn(40_000, 3, generator=seeded()).double()
    omega = turns(torch.tensor(sigma).double(), eps)
    angles = so3.log(so3.exp(omega)).norm(dim=-1)
    assert scipy.stats.kstest(angles.numpy(), angle_cdf(sigma)).pvalue > 0.01
    cosine = torch.cosine_similarity(omega, eps, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.5, 1.0, 2.0, 3.0])
def test_the_expected_norm_of_the_score_is_that_of_samples(sigma):
    """(E|score|^2 / 3)^1/2 against Monte Carlo."""
    sigma = torch.tensor(sigma).double()
    kernel = densities.IGSO3(sigma)
    squares = kernel.score(kernel.sample(40_000, generator=seeded())).square().sum(-1) / 3
    mean, error = float(squares.mean()), float(squares.std()) / 200
    assert float(score_rms(sigma)) ** 2 == pytest.approx(mean, abs=4 * error)


def test_the_expected_norm_of_the_score_has_its_limits():
    """1 / sigma in the flat limit, 6^1/2 exp(-sigma^2) where one character is left, also in float32."""
    narrow, wide = torch.tensor([0.001, 0.02]), torch.tensor([2.5, 3.3, 4.0, 5.5])
    torch.testing.assert_close(score_rms(narrow), 1 / narrow, rtol=2e-4, atol=0)
    torch.testing.assert_close(score_rms(wide), 6**0.5 * (-(wide**2)).exp(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_the_score_is_the_gradient_of_the_density_in_the_body(space, t):
    """log N(p; p_1, sigma^2) + log IGSO3(R; R_1, sigma) at x Exp(h e_i), by central differences."""
    diffusion = GroupDiffusion(space).double()
    sigma = diffusion.sigma(torch.tensor(t).double())
    x_1 = far(space, seeded())
    x = diffusion.noised(x_1.expand(20, -1), sigma, seeded(1))

    def log_density(x):
        total = torch.zeros(20).double()
        point, tangent = 0, 0
        for factor in getattr(space, "factors", (space,)):
            width = sigma[tangent]
            a, b = (p[..., point : point + factor.point_dim] for p in (x, x_1))
            if isinstance(factor, gf.Euclidean | gf.SE3):
                n = min(factor.point_dim, 3)
                total = total - (a[..., :n] - b[..., :n]).square().sum(-1) / (2 * width**2)
            if isinstance(factor, gf.SO3 | gf.SE3):
                total = total + densities.IGSO3(width, b[..., -4:]).log_prob(a[..., -4:])
            point, tangent = point + factor.point_dim, tangent + factor.tangent_dim
        return total

    h = 1e-5
    eye = torch.eye(space.tangent_dim).double()
    numeric = torch.stack(
        [(log_density(space.exp(x, h * e)) - log_density(space.exp(x, -h * e))) / (2 * h) for e in eye], -1
    )
    scale = diffusion.score_scale(torch.tensor(t).double())
    torch.testing.assert_close(
        diffusion.score_to(x, x_1, sigma) / scale, numeric / scale, atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_noise_has_its_widths_in_world_and_body(space):
    """Chunks with positions N(p_1, sigma^2 I); rotations from the datum of width sigma; no direction preferred."""
    widths = torch.full((space.tangent_dim,), 0.3)
    diffusion = GroupDiffusion(space).double()
    x_1 = far(space, seeded())
    x = diffusion.noised(x_1.expand(5000, 4, -1), widths.double(), seeded(1))
    space.check(x)
    point = 0
    for factor in getattr(space, "factors", (space,)):
        a, b = (p[..., point : point + factor.point_dim] for p in (x, x_1))
        if isinstance(factor, gf.Euclidean | gf.SE3):
            n = min(factor.point_dim, 3)
            covariance = (a - b)[..., :n].reshape(-1, n).T.cov()
            torch.testing.assert_close(covariance, 0.09 * torch.eye(n).double(), atol=0.004, rtol=0)
        if isinstance(factor, gf.SO3 | gf.SE3):
            omega = so3.log(so3.compose(so3.inverse(b[..., -4:]), a[..., -4:])).reshape(-1, 3)
            assert scipy.stats.kstest(omega.norm(dim=-1).numpy(), angle_cdf(0.3)).pvalue > 0.01
            assert omega.mean(0).abs().max() < 0.01
        point += factor.point_dim


def points(diffusion, features, t):
    """The points x that a network is shown, back from their features."""
    x = diffusion.space.from_features(features)
    t = t.reshape(-1, *(1,) * (x.dim() - 2))
    unit = (diffusion.sigma(t) ** 2 + diffusion.spread**2).sqrt()
    point, tangent = 0, 0
    for factor in getattr(diffusion.space, "factors", (diffusion.space,)):
        n = {gf.SO3: 0, gf.SE3: 3}.get(type(factor), factor.point_dim)
        columns = slice(point, point + n)
        x[..., columns] = x[..., columns] * unit[..., tangent : tangent + n] + diffusion.center[columns]
        point, tangent = point + factor.point_dim, tangent + factor.tangent_dim
    return x


def exact(diffusion, data, weights):
    """The network of the mixture sum_i w_i p_sigma(x | data_i): its score, the posterior mean of theirs."""
    space = diffusion.space

    def net(features, t, cond):
        x, sigma = points(diffusion, features, t), diffusion.sigma(t)
        scores, logs = [], []
        for datum, weight in zip(data, weights, strict=True):
            scores.append(diffusion.score_to(x, datum, sigma))
            log = weight.log().expand(len(x))
            point, tangent = 0, 0
            for factor in getattr(space, "factors", (space,)):
                a, b = (p[..., point : point + factor.point_dim] for p in (x, datum))
                if isinstance(factor, gf.Euclidean | gf.SE3):
                    n = min(factor.point_dim, 3)
                    log = log - ((a - b)[..., :n] / sigma[:, tangent, None]).square().sum(-1) / 2
                if isinstance(factor, gf.SO3 | gf.SE3):
                    last = tangent + factor.tangent_dim - 1
                    log = log + densities.IGSO3(sigma[:, last], b[..., -4:]).log_prob(a[..., -4:])
                point, tangent = point + factor.point_dim, tangent + factor.tangent_dim
            logs.append(log)
        share = torch.softmax(torch.stack(logs), 0).unsqueeze(-1)
        score = (share * torch.stack(scores)).sum(0)
        return score if diffusion.target == "score" else -score / diffusion.score_scale(t)

    return net


SAMPLERS = {
    "flow": ({"noise": 0.0}, "epsilon", 40),
    "half": ({"noise": 0.5}, "epsilon", 40),
    "diffusion": ({"noise": 1.0}, "epsilon", 40),
    "score": ({"noise": 1.0}, "score", 40),
    "more": ({"noise": 1.3}, "epsilon", 40),
    "midpoint": ({"noise": 0.0, "method": midpoint}, "epsilon", 25),
    "rkmk4": ({"noise": 0.0, "method": rkmk4}, "score", 15),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_exact_scores_sample_a_mixture_on_rotations(name):
    """Two IGSO(3) of width 0.3, 2.5 rad apart, 3 : 7. Flow and diffusion agree: shares, and angles by KS."""
    how, target, steps = SAMPLERS[name]
    diffusion = GroupDiffusion(gf.SO3(), 0.3, 4.0, target).double()
    data = so3.exp(torch.tensor([[0.0, 0, 0], [0, 2.5, 0]]).double())
    net = exact(diffusion, data, torch.tensor([0.3, 0.7]).double())
    x = diffusion.sample(net, batch=1500, steps=steps, generator=seeded(), **how)
    turn = so3.log(so3.compose(so3.inverse(data)[:, None], x)).norm(dim=-1)
    nearest, which = turn.min(0)
    assert float((which == 1).double().mean()) == pytest.approx(0.7, abs=0.035)
    # They hardly overlap, so the angle from the nearer one is that of IGSO(3).
    # Steps of first order leave it a little wide.
    allowed = 0.045 if "method" in how else 0.06
    assert scipy.stats.kstest(nearest.numpy(), angle_cdf(0.3)).statistic < allowed


@pytest.mark.parametrize(("space", "noise"), [(SPACES[1], 0.0), (SPACES[2], 1.0), (SPACES[3], 0.0)], ids=str)
def test_exact_scores_sample_poses(space, noise):
    """A mixture of two poses at metres from the origin: positions in the world, rotations and extras as noised."""
    high = torch.full((space.tangent_dim,), 60.0)
    turning = slice(3, 6)
    high[turning] = 4.0
    diffusion = GroupDiffusion(space, 0.2, high).double()
    data = torch.stack([far(space, seeded(i)) for i in (3, 4)])
    net = exact(diffusion, data, torch.tensor([0.4, 0.6]).double())
    x = diffusion.sample(net, batch=1200, steps=60, noise=noise, generator=seeded())
    space.check(x)
    which = torch.stack([space.distance(x, datum.expand_as(x)) for datum in data]).argmin(0)
    assert float((which == 1).double().mean()) == pytest.approx(0.6, abs=0.045)
    # The score of its own datum, in units of its expected size.
    score = diffusion.score_to(x, data[which], diffusion.sigma_min) / diffusion.score_scale(x.new_ones(1))
    torch.testing.assert_close(score.square().mean(0), torch.ones_like(score[0]), atol=0.17, rtol=0)
    assert score.mean(0).abs().max() < 0.12  # 4 standard errors


def test_one_step_from_any_width_is_exact_for_one_datum_on_vectors():
    """On R^n a single datum: x = x_1 + sigma_min eps after 1 step as after 20, for every amount of noise."""
    diffusion = GroupDiffusion(gf.Euclidean(2), 0.1, 20.0).double()
    net = lambda f, t, c: (points(diffusion, f, t) - 3.0) / diffusion.sigma(t)  # noqa: E731
    for noise in (0.0, 0.5, 1.0, 3.0):
        for steps in (1, 20, [0, 0.1, 0.9, 1]):
            diffusion.center.fill_(3.0)
            x = diffusion.sample(net, batch=20_000, steps=steps, noise=noise, generator=seeded())
            assert float(x.mean()) == pytest.approx(3, abs=0.005)
            assert float(x.std()) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("target", ["epsilon", "score"])
def test_the_exact_score_has_no_loss_for_one_datum(space, target):
    """Chunks of one datum: denoising is certain. And a network that predicts nothing has loss tangent_dim."""
    diffusion = GroupDiffusion(space, target=target).double()
    datum = far(space, seeded())

    def net(features, t, cond):
        x, t = points(diffusion, features, t), t[:, None]
        score = diffusion.score_to(x, datum, diffusion.sigma(t).expand(500, 3, -1))
        return score if target == "score" else -score / diffusion.score_scale(t)

    x_1 = datum.expand(500, 3, -1)
    loss = diffusion.loss(net, x_1, generator=seeded())
    assert loss.shape == (500,)
    assert loss.max() < 1e-6
    zero = lambda f, t, c: torch.zeros(*f.shape[:-1], space.tangent_dim).double()  # noqa: E731
    assert float(diffusion.loss(zero, x_1, generator=seeded()).mean()) == pytest.approx(
        space.tangent_dim, rel=0.03
    )


def test_the_start_is_uniform_on_rotations():
    """After no step at all: E R = 0, E (e . R e)^2 = 1/3."""
    diffusion = GroupDiffusion(gf.SE3()).double()
    x = diffusion.sample(
        lambda f, t, c: torch.zeros(len(f), 6).double(), batch=20_000, steps=1, noise=0.0,
        generator=seeded(), path=True,
    )  # fmt: skip
    assert x.shape == (2, 20_000, 7)
    R = so3.to_matrix(x[0, :, 3:])
    assert R.mean(0).abs().max() < 0.02
    assert (R.square().mean(0) - 1 / 3).abs().max() < 0.01
    assert float(x[0, :, :3].std()) == pytest.approx(4.0, rel=0.02)


def test_samples_of_an_episode_do_not_depend_on_its_batch():
    diffusion = GroupDiffusion(gf.SE3())
    net = lambda f, t, c: torch.sin(f[..., :6])  # noqa: E731
    alone = diffusion.sample(net, batch=1, horizon=4, steps=5, generator=[seeded()])
    together = diffusion.sample(net, batch=4, horizon=4, steps=5, generator=[seeded(i) for i in range(4)])
    torch.testing.assert_close(alone[0], together[0])


@pytest.mark.slow
def test_a_trained_diffusion_finds_both_modes_of_a_grasp():
    """Two symmetric grasps, half a turn apart: flow and diffusion cover both and end close to one of them."""
    torch.manual_seed(0)
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    modes = torch.tensor([[0.1, 0, 0, 1, 0, 0, 0, 1], [0.1, 0, 0, 0, 0, 0, 1, -1.0]])
    layers = torch.nn.Sequential(
        torch.nn.Linear(space.feature_dim + 9, 128), torch.nn.SiLU(),
        torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, space.tangent_dim),
    )  # fmt: skip

    def net(features, t, cond):
        waves = t[:, None] * torch.tensor([0.5, 1, 2, 4]) * math.pi
        return layers(torch.cat([features, t[:, None], waves.sin(), waves.cos()], -1))

    diffusion = GroupDiffusion(space, 0.02)
    optimizer = torch.optim.Adam(layers.parameters(), 5e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 800)
    for _ in range(800):
        x_1 = space.exp(modes[torch.randint(2, (128,))], 0.02 * torch.randn(128, 7))
        optimizer.zero_grad()
        diffusion.loss(net, x_1).mean().backward()
        optimizer.step()
        decay.step()
    for noise, near in ((0.0, 0.3), (1.0, 0.15)):
        x = diffusion.sample(net, batch=1000, steps=40, noise=noise, generator=seeded())
        nearest, which = torch.stack([space.distance(x, m.expand_as(x)) for m in modes]).min(0)
        assert nearest.median() < near
        assert 0.35 < which.float().mean() < 0.65


class Sphere(Manifold):
    """Of somebody else's manifold, what is asked before it is refused."""

    point_dim, tangent_dim, feature_dim = 3, 2, 3

    def identity(self, *shape, dtype=None, device=None):
        return torch.tensor([0.0, 0, 1]).expand(*shape, 3)


Sphere.__abstractmethods__ = frozenset()


def test_what_a_diffusion_cannot_do_is_refused():
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    with pytest.raises(ValueError, match="epsilon, score"):
        GroupDiffusion(space, target="velocity")
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        GroupDiffusion(space, 5.0)
    with pytest.raises(ValueError, match="is uniform"):
        GroupDiffusion(space, sigma_max=1.0)
    with pytest.raises(ValueError, match="each tangent axis"):
        GroupDiffusion(space, sigma_max=20.0)
    with pytest.raises(ValueError, match="spread > 0"):
        GroupDiffusion(space, spread=0.0)
    with pytest.raises(ValueError, match="axes 0 to 2"):
        GroupDiffusion(space, torch.tensor([0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]))
    with pytest.raises(NotImplementedError, match="A Flow takes any manifold"):
        GroupDiffusion(Sphere())
    diffusion = GroupDiffusion(gf.SO3())
    net = lambda f, t, c: f[..., :3]  # noqa: E731
    with pytest.raises(ValueError, match="noise=0"):
        diffusion.sample(net, batch=2, method=rkmk4)
    with pytest.raises(ValueError, match="probability flow"):
        diffusion.sample(net, batch=2, noise=-1.0)
    with pytest.raises(ValueError, match=r"batch=\.\.\."):
        diffusion.sample(net)


def test_positions_may_have_widths_of_their_own():
    """The way out that the errors name."""
    sigma_max = torch.tensor([20.0] * 3 + [4.0] * 3)
    diffusion = GroupDiffusion(gf.SE3(), 0.01, sigma_max)
    assert torch.equal(diffusion.sigma(torch.zeros(())), sigma_max)
    GroupDiffusion(gf.Product(gf.Euclidean(3), gf.SO3()), 0.01, torch.tensor([1.0, 2, 3, 4, 4, 4]))

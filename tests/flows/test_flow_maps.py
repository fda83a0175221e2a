"""Flow maps: exact average velocities satisfy every training rule, and a small network learns to jump."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import Consistency, MeanFlow, Shortcut, integrate, midpoint, rkmk4
from geoflow.flows.flow_maps.mean_flow import mean_velocity
from geoflow.policies.backbones import ResidualMLP

SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(0.5), gf.Product(gf.SE3(), gf.Euclidean(1))]
RULES = [MeanFlow, Shortcut, Consistency]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def single(space):
    """Data at one point, and u(x, t, r) = Log(x^-1 x_1) / (1 - t) for all r: geodesics at constant speed."""
    target = gf.HaarUniform(space).double().sample((1,), generator(5))

    def net(features, times, cond):
        x = space.from_features(features)
        rest = (1 - times[:, 0]).clamp(min=1e-9).reshape(-1, *(1,) * (x.dim() - 1))
        return space.log(x, target.expand_as(x)) / rest

    return target, net


def curved(space):
    """A field with no symmetry, and by numbers its average velocity: integrated from t to r, then divided."""
    weights = 0.5 * torch.randn(space.tangent_dim, space.feature_dim, generator=generator(1)).double()

    def velocity(x, t, cond=None):
        features = space.features(x)
        return torch.sin(features @ weights.T + 2 * t) + 0.5 * torch.cos(3 * t) * features.mean(
            -1, keepdim=True
        )

    def average(x, t, r, steps=40):
        end = integrate(space, lambda y, s: (r - t) * velocity(y, t + s * (r - t)), x, steps, rkmk4)
        far = r - t > 1e-3
        return torch.where(far, space.log(x, end) / torch.where(far, r - t, 1), velocity(x, t))

    return velocity, average


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(("t", "r"), [(0.0, 0.3), (0.2, 0.9), (0.0, 1.0)])
def test_the_identity_holds_for_the_average_velocity_of_a_curved_field(space, t, r):
    """u = Ad(Exp(-w)) v + (r - t) J_r(w) Du/dt = J_l(w)^-1 v + (r - t) Du/dt, Du/dt by central differences."""
    velocity, average = curved(space)
    x, h = gf.WrappedGaussian(space).double().sample((20,), generator()), 1e-4
    t, r = torch.tensor([[t], [r]], dtype=torch.float64).unsqueeze(1)
    v, u, span = velocity(x, t), average(x, t, r), r - t
    assert (u - v).abs().max() > 0.05
    slope = (average(space.exp(x, h * v), t + h, r) - average(space.exp(x, -h * v), t - h, r)) / (2 * h)
    torch.testing.assert_close(mean_velocity(space, u, v, slope, span), u, rtol=0, atol=1e-4)
    solved = space.jacobian_inverse(-span * u, v) + span * slope
    torch.testing.assert_close(solved, u, rtol=0, atol=1e-4)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("inner", [(), (3,)], ids=["points", "chunks"])
def test_the_exact_map_has_no_loss_and_no_gradient(space, rule, inner):
    """For one datum from noise around it; the scale's factor is there to have something to differentiate."""
    target, net = single(space)
    prior = gf.WrappedGaussian(space, target[0], 0.4).double()
    flow_map = rule(space, prior, power=0).double()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    x_1 = target.expand(100, *inner, -1)
    loss = flow_map.loss(lambda f, t, c: factor * net(f, t, c), x_1, generator=generator(7))
    assert loss.shape == (100,)
    assert loss.max() < 1e-16
    loss.mean().backward()
    assert factor.grad is not None
    assert factor.grad.abs() < 1e-8
    wrong = flow_map.loss(lambda f, t, c: 1.1 * net(f, t, c), x_1, generator=generator(7))
    assert wrong.mean() > 1e-4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("space", [gf.Euclidean(2), gf.SO3(), gf.SE3()], ids=str)
def test_the_exact_map_of_a_teacher_has_no_loss(rule, space):
    """A curved teacher on any data: jumps by numbers, which `MeanFlow` differentiates through the integrator."""
    velocity, average = curved(space)

    def net(features, times, cond):
        return average(space.from_features(features), times[:, :1], times[:, 1:], steps=5)

    teacher = lambda x, t, cond: velocity(x, t[:, None])  # noqa: E731
    gap = {"gap": 1e-4, "settle": 0} if rule is Consistency else {}
    flow_map = rule(space, power=0, teacher=teacher, **gap).double()
    x_1 = gf.WrappedGaussian(space).double().sample((20,), generator(2))
    loss = flow_map.loss(net, x_1, generator=generator(3))
    assert loss.max() < 1e-5
    other = rule(space, power=0, **gap).double().loss(net, x_1, generator=generator(3))
    assert other.mean() > 0.1


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_derivative_along_the_flow_is_that_of_finite_differences(space):
    """u's target of `MeanFlow` on a network, against two more evaluations of the network."""
    torch.manual_seed(0)
    net = network(space).double()
    flow_map = MeanFlow(space, instant=0, target="endpoint").double()
    x_0, x_1 = gf.WrappedGaussian(space, scale=0.5).double().sample((2, 30), generator(4))
    u, target, t = flow_map.errors(net, x_0, x_1, None, generator(6))
    t_again, r = flow_map.draw_times(generator(6), x_1)
    assert torch.equal(t, t_again)
    sample, h = flow_map.path(space, x_0, x_1, t), 1e-6
    at = lambda e: flow_map.average_velocity(net, space.exp(sample.x_t, e * sample.v_t), t + e, r)  # noqa: E731
    slope = (at(h) - at(-h)) / (2 * h)
    expected = mean_velocity(space, at(0), sample.v_t, slope, (r - t)[:, None])
    torch.testing.assert_close(u, at(0))
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)
    assert not target.requires_grad


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", ["velocity", "endpoint"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_rule_trains_conditional_chunks(rule, target, space):
    """Finite losses and gradients at all times, also the last, with one generator per batch element."""
    torch.manual_seed(0)
    net = ResidualMLP(
        horizon=4, inputs=space.feature_dim, outputs=space.tangent_dim, cond=3, width=32, depth=1, times=2
    )
    width, center = torch.full((4, space.tangent_dim), 0.5), space.identity(4)
    late = lambda batch, generator, like: torch.linspace(0, 1, batch)  # noqa: E731
    flow_map = rule(space, scale=width, center=center, target=target, times=late)
    x_1 = gf.WrappedGaussian(space).sample((12, 4), generator())
    loss = flow_map.loss(net, x_1, torch.randn(12, 3), generator=[generator(i) for i in range(12)])
    assert loss.shape == (12,)
    loss.mean().backward()
    for weight in net.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()
    states = flow_map.sample(net, torch.randn(5, 3), horizon=4, steps=[0, 0.3, 1], path=True)
    assert states.shape == (3, 5, 4, space.point_dim)
    space.check(states)


def test_integrators_and_jumps_agree_on_a_straight_flow():
    """Where u does not depend on r, jumps are Euler steps; both end on the datum."""
    target, net = single(gf.SO3())
    flow_map = MeanFlow(gf.SO3()).double()
    x_0 = flow_map.start(batch=20, generator=generator())
    jumped = flow_map.sample(net, x_0=x_0, steps=2, path=True)
    walked = flow_map.sample(net, x_0=x_0, steps=2, method=gf.flows.euler, path=True)
    torch.testing.assert_close(jumped, walked)
    assert gf.SO3().distance(jumped[-1], target).max() < 1e-6


def test_a_consistency_model_steps_back_to_the_path():
    """Between its jumps to the datum stand points of the path from fresh noise to it."""
    space = gf.Euclidean(1)
    target, net = single(space)
    flow_map = Consistency(space).double()
    states = flow_map.sample(net, batch=4000, steps=[0, 0.4, 1], generator=generator(), path=True)
    torch.testing.assert_close(states[2], target.expand(4000, 1))
    assert (states[1].mean() - 0.4 * target).abs() < 0.05
    assert states[1].std().item() == pytest.approx(0.6, abs=0.03)
    assert abs(torch.corrcoef(states[:2, :, 0])[0, 1]) < 0.1
    with pytest.raises(ValueError, match=r"instant=0\.25"):
        Consistency(space, instant=0).sample(net, batch=2, method=midpoint)


def test_the_gap_shrinks_with_training_and_is_resumed():
    flow_map = Consistency(gf.Euclidean(1), gap=0.1, settle=4)
    net = lambda f, t, c: f  # noqa: E731
    for _ in range(2):
        flow_map.loss(net, torch.zeros(4, 1))
    flow_map.eval().loss(net, torch.zeros(4, 1))
    again = Consistency(gf.Euclidean(1), gap=0.1, settle=4)
    again.load_state_dict(flow_map.state_dict())
    assert again._gap().item() == pytest.approx(0.3)
    for _ in range(5):
        again._gap()
    assert again._gap().item() == pytest.approx(0.1)


def test_half_the_batch_is_instant_and_times_are_in_order():
    flow_map = MeanFlow(gf.SO3(), instant=0.3)
    t, r = flow_map.draw_times(generator(), torch.zeros(1000, 4))
    assert (r >= t).all()
    assert (r == t).sum().item() == pytest.approx(300, abs=2)


def test_weights_tame_large_errors():
    """p = 1 makes every error count alike, p = 0 leaves squares."""
    space, x = gf.Euclidean(1), torch.linspace(1, 9, 50)[:, None]
    zero = lambda f, t, c: torch.zeros_like(f)  # noqa: E731
    plain = MeanFlow(space, power=0).loss(zero, x, x_0=torch.zeros(50, 1))
    torch.testing.assert_close(plain, x[:, 0] ** 2)
    tamed = MeanFlow(space, power=1).loss(zero, x, x_0=torch.zeros(50, 1))
    torch.testing.assert_close(tamed, torch.ones(50), rtol=2e-3, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_one_jump_of_a_trained_map_lands_on_both_peaks(rule):
    torch.manual_seed(0)
    space = gf.SO3()
    peaks = gf.lie.so3.exp(torch.tensor([[1.2, 0, 0], [-1.2, 0, 0]]))
    flow_map = rule(
        space, gf.WrappedGaussian(space, scale=0.5), **({"settle": 300} if rule is Consistency else {})
    )
    net, steps = network(space), 500
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        x_1 = space.exp(peaks[torch.randint(2, (256,))], 0.05 * torch.randn(256, 3))
        loss = flow_map.loss(net, x_1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x = flow_map.sample(net, batch=1000, steps=1)
    nearest, which = torch.stack([space.distance(x, peak.expand_as(x)) for peak in peaks]).min(0)
    # The peaks are 2.4 rad apart and the noise stands halfway.
    assert nearest.median() < 0.4
    assert 0.35 < which.float().mean() < 0.65


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"instant": 1.5}, "from 0 to 1"),
        ({"power": -1}, "power >= 0"),
        ({"target": "score"}, "velocity, endpoint"),
        ({"gap": 0}, "at most 0.5"),
        ({"settle": -1}, "constant gap"),
    ],
)
def test_bad_settings_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Consistency(gf.SO3(), **given)


def test_a_space_without_group_structure_says_what_is_missing():
    class Flat(gf.Euclidean):
        adjoint = gf.manifolds.Manifold.adjoint

    with pytest.raises(NotImplementedError, match=r"adjoint\(w, v\)"):
        MeanFlow(Flat(1)).loss(lambda f, t, c: f, torch.zeros(4, 1))


def network(space, width=64):
    net = ResidualMLP(
        horizon=1, inputs=space.feature_dim, outputs=space.tangent_dim, cond=0, width=width, depth=2, times=2
    )

    class Points(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, features, times, cond):
            return self.net(features[:, None], times, features.new_zeros(len(features), 0))[:, 0]

    return Points()


@pytest.mark.parametrize("kind", [MeanFlow, Shortcut, Consistency])
def test_a_convolution_learns_in_bfloat16(kind):
    """A training step under autocast has the gradient of one in float32, to the rounding of bfloat16."""
    torch.manual_seed(0)
    space = gf.SE3()
    conv = torch.nn.Conv1d(space.feature_dim + 2, space.tangent_dim, 3, padding=1)

    def net(features, t, cond):
        times = t[:, None].expand(-1, features.shape[1], -1)
        return conv(torch.cat([features, times], -1).transpose(1, 2)).transpose(1, 2)

    x_1 = gf.WrappedGaussian(space, scale=0.5).sample((64, 4), torch.Generator().manual_seed(1))
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = kind(space).loss(net, x_1, generator=torch.Generator().manual_seed(2)).mean()
        loss.backward()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.flatten().clone())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99

"""Flow: known velocity fields give known losses and known distributions."""

import pytest
import torch

import geoflow as gf
from geoflow.flows import midpoint


def gaussian_velocity(mean, std):
    """The marginal velocity from N(0, 1) to N(mean, std^2) with independent coupling, in closed form.

    x_t ~ N(t m, (1-t)^2 + t^2 s^2) and v = E[x_1 - x_0 | x_t].
    """

    def net(x, t, cond):
        t = t.reshape(-1, *(1,) * (x.dim() - 1))
        variance = (1 - t) ** 2 + (t * std) ** 2
        return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)

    return net


def test_sampling_the_closed_form_field_gives_the_target_gaussian():
    flow = gf.Flow(gf.Euclidean(1))
    net = gaussian_velocity(2.0, 0.3)
    x = flow.sample(net, batch=20_000, steps=100, method=midpoint, generator=torch.Generator().manual_seed(0))
    assert x.mean() == pytest.approx(2.0, abs=0.01)
    assert x.std() == pytest.approx(0.3, abs=0.01)


def test_loss_of_the_closed_form_field_is_its_conditional_variance():
    """The least loss is E Var(x_1 - x_0 | x_t) = integral of s^2 / ((1-t)^2 + t^2 s^2) dt."""
    std, flow = 0.3, gf.Flow(gf.Euclidean(1))
    x_1 = 2.0 + std * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    loss = flow.loss(gaussian_velocity(2.0, std), x_1, generator=torch.Generator().manual_seed(1)).mean()
    t = (torch.arange(10_000) + 0.5) / 10_000
    least = (std**2 / ((1 - t) ** 2 + (t * std) ** 2)).mean()
    assert float(loss) == pytest.approx(float(least), rel=0.02)


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(), gf.Product(gf.SE3(), gf.Euclidean(1))], ids=str)
def test_single_target_is_reached_from_anywhere(space):
    """For data at one point the marginal velocity is Log(x^-1 x_1) / (1 - t), and Euler ends exactly there."""
    target = gf.HaarUniform(space).sample((1,), torch.Generator().manual_seed(5))
    flow = gf.Flow(space, gf.HaarUniform(space))

    def net(features, t, cond):
        x = space.from_features(features)
        return space.log(x, target.expand_as(x)) / (1 - t)[:, None]

    x = flow.sample(net, batch=500, steps=8, generator=torch.Generator().manual_seed(6))
    assert space.distance(x, target).max() < 1e-4
    loss = flow.loss(net, target.expand(500, -1), generator=torch.Generator().manual_seed(7))
    assert loss.median() < 1e-6


def test_predicting_the_endpoint_samples_what_predicting_the_velocity_does():
    """On R^n E[x_1 | x_t] = x_t + (1 - t) E[v | x_t]: both targets integrate the same field."""
    velocity, mean, std = gaussian_velocity(2.0, 0.3), torch.tensor([0.7]), torch.tensor([0.4])

    def endpoint(x, t, cond):
        x_1 = x + (1 - t).reshape(-1, 1) * velocity(x, t, cond)
        return (x_1 - mean) / std

    flow = gf.Flow(gf.Euclidean(1), scale=std, target="endpoint", center=mean)
    draw = {"batch": 50, "steps": 20}
    x = flow.sample(endpoint, **draw, generator=torch.Generator().manual_seed(0))
    y = gf.Flow(gf.Euclidean(1)).sample(velocity, **draw, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, y)
    data = torch.randn(50, 1, generator=torch.Generator().manual_seed(1))
    error = flow.loss(endpoint, data, generator=torch.Generator().manual_seed(2))
    assert error.isfinite().all()


@pytest.mark.parametrize("space", [gf.SO3(), gf.SE3(), gf.Product(gf.SE3(), gf.Euclidean(1))], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_known_endpoint_is_reached_in_any_number_of_steps(space, steps):
    """A network that predicts x_1 = c Exp(s u) ends exactly there, from noise anywhere on the group."""
    prior = gf.HaarUniform(space)
    center, target = prior.sample((2, 1), torch.Generator().manual_seed(0))
    scale = torch.full((space.tangent_dim,), 0.3)
    flow = gf.Flow(space, prior, scale=scale, target="endpoint", center=center[0])
    u = space.log(center, target) / scale
    net = lambda f, t, c: u.expand(len(f), -1)  # noqa: E731
    x = flow.sample(net, batch=200, steps=steps, generator=torch.Generator().manual_seed(1))
    assert space.distance(x, target).max() < 1e-4
    assert flow.loss(net, target.expand(200, -1)).max() < 1e-6


def test_unknown_targets_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="velocity, endpoint"):
        gf.Flow(gf.SO3(), target="score")


def test_scale_is_only_a_unit():
    """A network that predicts v / s with scale s samples what one that predicts v does."""
    space, s = gf.SE3(), torch.tensor([0.1, 0.1, 0.1, 0.5, 0.5, 0.5])
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    plain, scaled = gf.Flow(space), gf.Flow(space, scale=s)
    x = plain.sample(lambda f, t, c: f @ matrix.T, batch=30, generator=torch.Generator().manual_seed(1))
    y = scaled.sample(lambda f, t, c: f @ matrix.T / s, batch=30, generator=torch.Generator().manual_seed(1))
    assert space.distance(x, y).max() < 1e-4


def test_samples_of_an_episode_do_not_depend_on_its_batch():
    """One generator per batch element: the first of eight is what it is alone."""
    space = gf.SE3()
    flow = gf.Flow(space)
    net = lambda f, t, c: torch.sin(f[..., :6])  # noqa: E731
    alone = flow.sample(net, batch=1, horizon=4, generator=[torch.Generator().manual_seed(0)])
    many = [torch.Generator().manual_seed(i) for i in range(8)]
    together = flow.sample(net, batch=8, horizon=4, generator=many)
    torch.testing.assert_close(alone[0], together[0])


@pytest.mark.slow
def test_a_trained_flow_finds_both_modes_of_a_grasp():
    """Two symmetric grasps, half a turn apart: samples cover both and lie close to one of them."""
    torch.manual_seed(0)
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    modes = torch.tensor([[0.1, 0, 0, 1, 0, 0, 0, 1], [0.1, 0, 0, 0, 0, 0, 1, -1.0]])
    net = torch.nn.Sequential(
        torch.nn.Linear(space.feature_dim + 1, 128), torch.nn.SiLU(),
        torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, space.tangent_dim),
    )  # fmt: skip
    call = lambda f, t, c: net(torch.cat([f, t[:, None]], -1))  # noqa: E731
    flow = gf.Flow(space)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(1500):
        x_1 = modes[torch.randint(2, (256,))]
        x_1 = space.exp(x_1, 0.02 * torch.randn(256, 7))
        loss = flow.loss(call, x_1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = flow.sample(call, batch=1000, steps=20).detach()
    distance = torch.stack([space.distance(x, mode.expand_as(x)) for mode in modes])
    nearest, which = distance.min(0)
    assert nearest.median() < 0.2
    assert 0.35 < which.float().mean() < 0.65


def test_sample_without_a_batch_says_what_to_give():
    with pytest.raises(ValueError, match=r"batch=\.\.\."):
        gf.Flow(gf.SO3()).sample(lambda f, t, c: f, horizon=4)


def test_given_starts_take_the_place_of_the_prior():
    """Sampling from the x_0 that the prior would draw is sampling; a loss of given pairs walks between them."""
    space = gf.SE3()
    flow = gf.Flow(space, coupling=gf.flows.OptimalTransport())
    net = lambda f, t, c: torch.sin(f[..., :6])  # noqa: E731
    seeded = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    x_0 = flow.start(batch=6, horizon=4, generator=seeded())
    assert torch.equal(flow.sample(net, x_0=x_0), flow.sample(net, batch=6, horizon=4, generator=seeded()))
    v = 0.1 * torch.randn(1, 1, 6, generator=seeded())
    x_1 = space.exp(x_0, v.expand(6, 4, 6))
    assert flow.loss(lambda f, t, c: v, x_1, x_0=x_0).max() < 1e-9
    assert flow.loss(lambda f, t, c: v, x_1).min() > 1e-2


def test_starts_of_the_wrong_shape_are_refused():
    flow, x = gf.Flow(gf.SO3()), gf.SO3().identity(5, 4)
    net = lambda f, t, c: f[..., :3]  # noqa: E731
    with pytest.raises(ValueError, match=r"x_0 for each x_1.*\(5, 4, 4\).*\(3, 4, 4\)"):
        flow.loss(net, x, x_0=x[:3])
    with pytest.raises(ValueError, match=r"shape \(6, \.\.\., 4\)"):
        flow.sample(net, x_0=x, batch=6)
    with pytest.raises(ValueError, match=r"shape \(B, 3, 4\)"):
        flow.sample(net, x_0=x, horizon=3)
    with pytest.raises(ValueError, match="last axis 4"):
        flow.sample(net, x_0=torch.zeros(5, 3))

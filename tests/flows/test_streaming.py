"""Starts at the present action: streaming along the trajectory, and chunks whose noise is centred on the pose."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import Streaming, midpoint
from geoflow.flows.isotropic import units

SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(length=0.3), gf.Product(gf.SE3(), gf.Euclidean(1))]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def demonstration(space, batch, horizon, seed=0):
    """A present pose and a random walk of actions from it, float64."""
    walk = gf.flows.RandomWalk(space, None, 0.4).double().sample((batch, horizon + 1), seeded(seed))
    return walk[:, 0], walk[:, 1:]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_velocity_is_the_derivative_for_fixed_noise(space):
    present, chunk = demonstration(space, 40, 5)
    streaming, h = Streaming(space, 0.3, 2.0), 1e-6
    t = torch.linspace(0.013, 0.983, 40).double()
    here, ahead, behind = (streaming.at(present, chunk, s, seeded(1)) for s in (t, t + h, t - h))
    numeric = (space.log(here.x_t, ahead.x_t) - space.log(here.x_t, behind.x_t)) / (2 * h)
    torch.testing.assert_close(numeric, here.v_t, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_begins_at_the_present_and_passes_the_actions_ever_closer(space):
    """The width around xi_t is sigma e^(-k t) in the metric; at t = i / T xi_t is action i."""
    n = 20_000
    present, chunk = demonstration(space, 1, 4)
    way = torch.cat([present[:, None], chunk], 1)[0]
    streaming = Streaming(space, 0.2, 2.0)
    for i in range(5):
        t = torch.full((n,), i / 4).double()
        x = streaming.at(present.expand(n, -1), chunk.expand(n, 4, -1), t, seeded(i)).x_t
        w = space.log(way[i].expand_as(x), x) / units(space, x)
        width = torch.full_like(w[0], 0.2 * math.exp(-i / 2))
        torch.testing.assert_close(w.std(0), width, rtol=0.03, atol=0)


def test_the_closed_form_field_streams_two_demonstrations():
    """On R^1, up or down at random: E[v | x, t] in closed form; samples follow either and gather around it."""
    space, sigma, k, horizon = gf.Euclidean(1), 0.1, 2.0, 8

    def net(x, t, cond):
        width = sigma * torch.exp(-k * t)[:, None]
        ways = torch.tensor([1.0, -1.0]) * t[:, None]
        chance = (-0.5 * ((x - ways) / width) ** 2).softmax(-1)
        return (chance * (torch.tensor([1.0, -1.0]) - k * (x - ways))).sum(-1, keepdim=True)

    streaming = Streaming(space, sigma, k)
    draw = {"horizon": horizon, "substeps": 20, "method": midpoint, "generator": seeded()}
    actions = torch.stack(list(streaming.stream(net, torch.zeros(4000, 1), **draw)), 1)
    assert actions.shape == (4000, horizon, 1)
    end = actions[:, -1, 0]
    assert (end > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (end.abs() - 1).std() == pytest.approx(sigma * math.exp(-k), rel=0.15)
    data = torch.linspace(0, 1, horizon + 1)[1:, None] * (
        1 - 2 * torch.randint(2, (4000, 1, 1), generator=seeded())
    )
    present = torch.zeros(4000, 1)
    best = streaming.loss(net, present, data, generator=seeded(1))
    assert best.shape == (4000,)
    off = streaming.loss(lambda f, t, c: 0.9 * net(f, t, c), present, data, generator=seeded(1))
    assert best.mean() < off.mean()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_field_of_one_demonstration_streams_its_actions(space):
    """Without noise and with the demonstration's own velocity in its unit, Euler passes every action exactly."""
    present, chunk = demonstration(space, 6, 7)
    way = torch.cat([present[:, None], chunk], 1)
    rows = torch.arange(6)

    def net(f, t, cond):
        i = (t * 7 + 0.5).long()
        return 7 * space.log(way[rows, i], way[rows, i + 1]) / 0.3

    streaming = Streaming(space, 0.0, 2.0, scale=0.3)
    stream = streaming.stream(net, present, horizon=7)
    for i, action in enumerate(stream):
        assert space.distance(action, chunk[:, i]).max() < 1e-6
    t = torch.arange(6).double() / 7
    exact = Streaming(space, 0.0, scale=0.3, times=lambda batch, generator, like: t)
    assert exact.loss(net, present, chunk).max() < 1e-12


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_chunks_start_near_the_present_pose_alike_in_training_and_sampling(space):
    """A prior about each element's pose, given as x_0 to both: the loss of the field that samples reach is zero."""
    present, chunk = demonstration(space, 5, 4)
    around = gf.WrappedGaussian(space, mean=present[:, None], scale=0.02).double()
    start = around.sample((5, 4), seeded(1))
    assert space.distance(start, present[:, None].expand_as(start)).max() < 0.3
    flow = gf.Flow(space).double()

    def net(f, t, cond):
        x = space.from_features(f)
        return space.log(x, cond) / (1 - t)[:, None, None]

    assert flow.loss(net, chunk, chunk, x_0=start, generator=seeded(2)).max() < 1e-10
    x = flow.sample(net, chunk, x_0=start, steps=3)
    assert space.distance(x, chunk).max() < 1e-6


def test_bad_widths_and_shapes_say_what_is_expected():
    with pytest.raises(ValueError, match="expected both >= 0"):
        Streaming(gf.SO3(), -0.1)
    present, chunk = demonstration(gf.SO3(), 3, 4)
    with pytest.raises(ValueError, match=r"present poses \(B, 4\)"):
        Streaming(gf.SO3()).loss(lambda f, t, c: f[..., :3], present[:2], chunk)

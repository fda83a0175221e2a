"""The examples run, learn, and are the flow that they say: their four functions are those of geoflow.Flow."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import geoflow as gf

FOLDER = Path(__file__).parents[1] / "examples"
SPACE = gf.Product(gf.SE3(), gf.Euclidean(1))


def load(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


unet, pi0 = load("diffusion_policy_unet"), load("pi0_head")


def trajectories(batch, horizon):
    """Features (B, T, 10) of random poses and gripper commands, and the points themselves."""
    points = gf.WrappedGaussian(SPACE).sample((batch, horizon))
    return SPACE.features(points), points


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_plain_flow_learns_both_ways():
    result = load("plain_flow").main(steps=300)
    assert result["samples"] < 0.25 * result["noise"]
    assert 0.2 < result["left"] < 0.8


@pytest.mark.parametrize("process", [unet.Diffusion(), unet.SE3Flow()], ids=lambda p: type(p).__name__)
def test_the_u_net_learns_by_either_process(process):
    result = unet.main(process, steps=60)
    assert result["samples"] < 0.6 * result["noise"]


@pytest.mark.parametrize("process", [pi0.Pi0(), pi0.SE3Flow()], ids=lambda p: type(p).__name__)
def test_the_head_learns_by_either_process(process):
    result = pi0.main(process, steps=60)
    assert result["samples"] < 0.8 * result["noise"]


def test_the_four_functions_of_the_u_net_are_the_loss_of_the_flow():
    """For the same x_0, x_1 and t; the network has ten numbers for seven, over which the mean is taken."""
    trajectory, x_1 = trajectories(8, unet.HORIZON)
    process, k = unet.SE3Flow(), torch.randint(100, (8,))
    noise = process.noise(trajectory)
    x_t = process.interpolant(noise, trajectory, k)
    net = lambda features, t, cond: torch.sin(3 * features)[..., :7]  # noqa: E731
    ours = torch.nn.functional.mse_loss(
        torch.nn.functional.pad(net(x_t, None, None), (0, 3)), process.target(noise, trajectory)
    )
    flow = gf.Flow(SPACE, times=lambda batch, generator, like: 1 - (k + 1) / 100)
    theirs = flow.loss(net, x_1, x_0=SPACE.from_features(noise)).mean()
    torch.testing.assert_close(10 * ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_loop_of_the_u_net_is_the_sampler_of_the_flow():
    policy = unet.UNetPolicy(unet.SE3Flow(), cond=3)
    obs, start = torch.randn(4, 3), None
    torch.manual_seed(1)
    chunk = policy.predict_action(obs)
    torch.manual_seed(1)
    start = SPACE.from_features(policy.process.noise(torch.zeros(4, unet.HORIZON, 10)))

    def net(features, t, cond):
        return policy.net(features, 99 - 100 * t, cond)[..., :7]

    with torch.no_grad():
        theirs = gf.Flow(SPACE).sample(net, obs, x_0=start, steps=unet.NFE)
    torch.testing.assert_close(chunk, SPACE.features(theirs), atol=1e-4, rtol=1e-4)
    quaternions = SPACE.from_features(chunk)[..., 3:7]
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(4, unet.HORIZON))
    # What comes out is what goes in: columns of a rotation, of length 1 and at right angles.
    a, b = chunk[..., 3:6], chunk[..., 6:9]
    torch.testing.assert_close((a * b).sum(-1), torch.zeros(4, unet.HORIZON), atol=1e-5, rtol=0)


def robots(batch=6):
    """Padded chunks of one, two and three arms."""
    return pi0.demonstrations(1 + torch.arange(batch) % 3)[1]


def test_padding_stays_zero_and_what_is_learned_of_it_is_zero():
    process, actions = pi0.SE3Flow(), robots()
    noise = process.noise(actions)
    t = torch.rand(len(actions), 1)
    empty = ~pi0.present(actions).expand(-1, -1, -1, 10).flatten(-2)
    stepped = process.step(noise, torch.randn_like(noise), -0.1)
    for x in (noise, process.interpolant(noise, actions, t), process.target(noise, actions), stepped):
        assert x.shape == (6, 50, 32)
        assert not x[..., 30:].any()
        assert not x[..., :30][empty].any()
    assert pi0.arms(stepped)[..., 3:7].norm(dim=-1).sub(1).abs().max() < 1e-5


def test_loss_is_taken_of_what_a_robot_has_and_of_nothing_else():
    """Also of numbers that happen to be zero in its actions, such as those of a turn about one axis."""
    head, actions, state = pi0.Head(pi0.SE3Flow(), state=13), robots(), torch.randn(6, 13)
    one_arm = actions * (torch.arange(32) < 10)

    def loss(place, shift):
        with torch.no_grad():
            head.action_out.bias[place] += shift
            torch.manual_seed(1)
            value = float(head.compute_loss(state, one_arm))
            head.action_out.bias[place] -= shift
        return value

    for place in range(32):
        assert (loss(place, 0.0) != pytest.approx(loss(place, 100.0))) == (place < 10)


def test_reversed_time_is_ours_under_one_minus_t():
    """openpi's t is 1 - t here, and its velocity, noise - actions, ours with the other sign."""
    process, actions = pi0.SE3Flow(), robots()
    noise, t = process.noise(actions), torch.rand(len(actions), 1)
    ours = gf.Flow(SPACE).path(SPACE, pi0.arms(noise), pi0.arms(actions), 1 - t[..., None])
    torch.testing.assert_close(
        pi0.arms(process.interpolant(noise, actions, t)), canonical(ours.x_t), atol=1e-4, rtol=1e-4
    )
    target = process.target(noise, actions)[..., :30].unflatten(-1, (3, 10))[..., :7]
    torch.testing.assert_close(-target, ours.v_t, atol=1e-4, rtol=1e-4)


def test_the_flat_process_is_the_euclidean_flow():
    process, actions = pi0.Pi0(), robots()
    noise, t = process.noise(actions), torch.rand(len(actions), 1)
    ours = gf.Flow(gf.Euclidean(32)).path(gf.Euclidean(32), noise, actions, 1 - t)
    torch.testing.assert_close(process.interpolant(noise, actions, t), ours.x_t)
    torch.testing.assert_close(-process.target(noise, actions), ours.v_t)


def test_the_loop_of_the_head_is_the_sampler_of_the_flow():
    """Ten steps from t = 1 down to 0 with dt = -0.1 are ten Euler steps of the flow with the negative velocity."""
    head, actions, state = pi0.Head(pi0.SE3Flow(), state=13), robots(), torch.randn(6, 13)
    torch.manual_seed(1)
    chunk = head.sample_actions(state, actions)
    torch.manual_seed(1)
    start = pi0.arms(head.process.noise(actions))

    def net(features, t, cond):
        velocity = head(cond, pi0.padded(actions, features), 1 - t[:, None])
        return -velocity[..., :30].unflatten(-1, (3, 10))[..., :7] * pi0.present(actions)

    with torch.no_grad():
        theirs = gf.Flow(SPACE).sample(net, state, x_0=start, steps=10)
    torch.testing.assert_close(chunk, pi0.padded(actions, SPACE.features(theirs)), atol=1e-3, rtol=1e-3)


def canonical(x):
    """Points through features and back, so that q and -q are one."""
    return SPACE.from_features(SPACE.features(x))

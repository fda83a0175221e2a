"""Chunks that go on as given: the mask, the exact case, and the pull of the guidance."""

import pytest
import torch

import geoflow as gf
from geoflow.flows import Flow, WrappedGaussian, cf4, rkmk4
from geoflow.flows.inpainting import sample_onward, soft_mask

SPACES = [gf.Euclidean(3), gf.SO3(), gf.SE3(), gf.Product(gf.SE3(), gf.Euclidean(1))]


def test_soft_mask_is_one_then_falls_to_zero():
    """1 where executed, then falling, 0 where nothing is known; Black et al. 2025, eq. (5), by hand."""
    W = soft_mask(8, 2, 6)
    assert W[:2].tolist() == [1, 1]
    assert W[6:].tolist() == [0, 0]
    assert bool((W[2:6].diff() < 0).all())
    c = torch.tensor(4 / 5)  # i = 2: (6 - 2) / (6 - 2 + 1)
    torch.testing.assert_close(W[2], c * (c.exp() - 1) / (torch.tensor(1.0).exp() - 1))


@pytest.mark.parametrize(("frozen", "known"), [(5, 4), (-1, 3), (2, 9)])
def test_a_delay_longer_than_what_is_left(frozen, known):
    with pytest.raises(ValueError, match="delay"):
        soft_mask(8, frozen, known)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("target", ["velocity", "endpoint"])
def test_guidance_pulls_towards_what_goes_on(space, target):
    """A flow that can go anywhere ends nearer to y where W = 1, and where it always was where W = 0."""
    flow = Flow(space, WrappedGaussian(space, scale=0.3), target=target)
    generator = torch.Generator().manual_seed(0)
    onward = flow.prior.sample((32, 6), generator)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

    def net(features, t, cond):
        # The point stays where its noise was: every chunk is as good as any other.
        x = space.from_features(features)
        if target == "velocity":
            return torch.zeros_like(space.log(x, x))
        return space.log(space.identity(), x)

    def draw(W):
        g = torch.Generator().manual_seed(1)
        return sample_onward(flow, net, onward, W, steps=10, generator=g)

    free, pulled = draw(torch.zeros(6)), draw(weights)
    start = flow.prior.sample((32, 6), torch.Generator().manual_seed(1))
    assert space.distance(free, start).max() < 1e-4
    before, after = space.distance(free, onward), space.distance(pulled, onward)
    assert (after[:, :3].mean() < 0.2 * before[:, :3].mean()).item()
    torch.testing.assert_close(after[:, 3:], before[:, 3:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_gradient_is_that_of_finite_differences(space):
    """The correction is -s^2 d(misfit)/d(delta), through the network and the logarithm."""
    torch.manual_seed(0)
    dtype = torch.float64
    flow = Flow(space, WrappedGaussian(space, scale=0.5), scale=0.7).double()
    layer = torch.nn.Linear(space.feature_dim, space.tangent_dim, dtype=dtype)

    def net(features, t, cond):
        return layer(features).tanh()

    x_0 = flow.prior.sample((1, 2), torch.Generator().manual_seed(3))
    onward = flow.prior.sample((1, 2), torch.Generator().manual_seed(4))
    W = torch.tensor([1.0, 0.5], dtype=dtype)
    with torch.no_grad():
        pulled = sample_onward(flow, net, onward, W, steps=1, strength=2.0, x_0=x_0)

        def misfit(delta):
            x = space.exp(x_0, delta)
            ahead = space.exp(x, flow.velocity(net, x, torch.zeros(1, dtype=dtype)))
            residual = space.log(ahead, onward) / flow.scale
            return 0.5 * (W * residual.square().sum(-1)).sum()

        h, zero = 1e-6, torch.zeros(1, 2, space.tangent_dim, dtype=dtype)
        gradient = zero.clone()
        for i in range(zero.numel()):
            step = zero.clone()
            step.view(-1)[i] = h
            gradient.view(-1)[i] = (misfit(step) - misfit(-step)) / (2 * h)
        v = flow.velocity(net, x_0, torch.zeros(1, dtype=dtype)) - 2.0 * flow.scale**2 * gradient
        assert space.distance(pulled, space.exp(x_0, v)).max() < 1e-7


@pytest.mark.parametrize("method", [rkmk4, cf4], ids=lambda m: m.name)
def test_methods_that_ask_where_the_way_has_ended(method):
    flow = Flow(gf.SE3(), target="endpoint")
    with pytest.raises(ValueError, match=f"{method.name} evaluates the velocity at t = 1"):
        sample_onward(
            flow, lambda f, t, c: f[..., :6], gf.SE3().identity(2, 6), torch.ones(6), steps=1, method=method
        )


def test_weights_that_do_not_fit():
    flow = Flow(gf.SE3())
    with pytest.raises(ValueError, match=r"weights of shape \(6,\)"):
        sample_onward(flow, lambda f, t, c: f[..., :6], gf.SE3().identity(2, 6), torch.ones(5))

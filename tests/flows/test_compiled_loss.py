"""Flow.compile: the loss with its network in one graph, equal to the eager loss, drawing the same noise."""

import pytest
import torch
from torch import nn

import geoflow as gf
from geoflow.flows import (
    IGSO3,
    BrownianBridge,
    Diffusion,
    FullGaussian,
    GaussianProcess,
    HaarUniform,
    MeanFlow,
    RandomWalk,
    WrappedGaussian,
)

SPACE = gf.Product(gf.SE3(), gf.Euclidean(1))
FLAT = gf.Euclidean(SPACE.feature_dim)
DECOUPLED = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))


class Net(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.layer = nn.Linear(space.feature_dim + 2, space.tangent_dim)

    def forward(self, features, t, cond):
        told = torch.stack([t, cond], -1).unsqueeze(1).expand(*features.shape[:-1], 2)
        return self.layer(torch.cat([features, told], -1))


def result(flow, net, x_1, **more):
    """Loss (B,) and gradient, from the same seed."""
    generator = torch.Generator().manual_seed(3)
    loss = flow.loss(net, x_1, torch.ones(len(x_1)), generator=generator, **more)
    return loss.detach(), torch.autograd.grad(loss.mean(), net.layer.weight)[0]


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (SPACE, {"target": "endpoint", "scale": 0.5}),
        (SPACE, {"target": "velocity"}),
        (DECOUPLED, {"target": "endpoint"}),
        (FLAT, {"target": "endpoint"}),
        (SPACE, {"path": Diffusion()}),
        (SPACE, {"prior": HaarUniform(SPACE)}),
    ],
)
def test_one_graph_with_the_eager_values_and_gradients(space, options):
    torch.manual_seed(0)
    flow, net = gf.Flow(space, **options), Net(space)
    x_1 = space.from_features(torch.randn(4, 3, space.feature_dim))
    expected, before = result(flow, net, x_1), set(flow.state_dict())
    flow.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(result(flow, net, x_1), expected, atol=2e-5, rtol=2e-5)
    assert set(flow.state_dict()) == before


def test_starts_that_are_given_and_steps_that_do_not_count():
    flow, net = gf.Flow(SPACE), Net(SPACE)
    x_0, x_1 = (SPACE.from_features(torch.randn(4, 3, SPACE.feature_dim)) for _ in range(2))
    more = {"x_0": x_0, "counts": torch.arange(3).expand(4, 3) > 0}
    expected = result(flow, net, x_1, **more)
    flow.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(result(flow, net, x_1, **more), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    "flow", [gf.Flow(SPACE, path=BrownianBridge(0.1)), MeanFlow(SPACE)], ids=["path", "map"]
)
def test_what_draws_as_it_goes_is_refused(flow):
    with pytest.raises(ValueError, match="draws noise as it goes"):
        flow.compile()


@pytest.mark.parametrize(
    "prior",
    [
        WrappedGaussian(SPACE, scale=0.3),
        GaussianProcess(SPACE),
        HaarUniform(SPACE),
        IGSO3(DECOUPLED),
        RandomWalk(SPACE),
        FullGaussian(SPACE, SPACE.identity(), torch.eye(SPACE.tangent_dim)),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_a_draw_is_its_noise_put_in_place(prior):
    drawn = prior.sample((5, 4), torch.Generator().manual_seed(0))
    assert torch.equal(prior.place(prior.noise((5, 4), torch.Generator().manual_seed(0))), drawn)


class Still(WrappedGaussian):
    """A prior of one's own that says how to sample, and no more."""

    def sample(self, shape, generator=None):
        return self.mean.expand(super().sample(shape, generator).shape)


def test_a_prior_that_only_says_how_to_sample_is_sampled_so():
    """All its starts are the mean: the loss is that of starts given there."""
    prior = Still(SPACE, SPACE.identity())
    assert not prior.places_noise
    assert WrappedGaussian(SPACE).places_noise
    assert HaarUniform(SPACE).places_noise
    assert not RandomWalk(SPACE).places_noise
    seen = []

    def net(features, t, cond):
        seen.append(features[t < 0.25])
        return features.new_zeros(*features.shape[:-1], SPACE.tangent_dim)

    x_1 = SPACE.identity(8, 3)
    gf.Flow(SPACE, prior).loss(net, x_1)
    torch.testing.assert_close(seen[0], SPACE.features(SPACE.identity(2, 3)))

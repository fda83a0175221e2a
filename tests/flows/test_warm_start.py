"""Warm starts: from the right marginal the flow keeps its law, whatever the time it begins at."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import Flow, midpoint, rkmk4
from geoflow.flows.warm_start import sample_from

MEAN, WIDTH = 2.0, 0.3


def gaussian_net(features, t, cond):
    """The exact velocity from N(0, 1) to N(MEAN, WIDTH^2) along x_t = (1 - t) x_0 + t x_1, by hand."""
    t = t[:, None]
    variance = (1 - t) ** 2 + (t * WIDTH) ** 2
    return MEAN + (t * WIDTH**2 - (1 - t)) / variance * (features - t * MEAN)


@pytest.mark.parametrize("begin", [0.0, 0.3, 0.8])
def test_samples_as_guesses_keep_their_law(begin):
    """x_t0 from data is distributed as the flow's own x_t0: what comes out is N(MEAN, WIDTH^2) again."""
    flow, generator = Flow(gf.Euclidean(1)), torch.Generator().manual_seed(0)
    guess = MEAN + WIDTH * torch.randn(20_000, 1, generator=generator)
    x = sample_from(flow, gaussian_net, guess, begin, steps=20, method=midpoint, generator=generator)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(WIDTH, abs=0.01)


@pytest.mark.parametrize("begin", [0.2, 0.9])
def test_a_wrong_guess_is_forgotten_the_more_the_earlier_it_begins(begin):
    """Linear flow: the error of a guess comes out as factor t_0 sigma_1 / sigma_t0 of it."""
    flow, x_0 = Flow(gf.Euclidean(1)), torch.zeros(1, 1)
    ends = [
        sample_from(flow, gaussian_net, torch.tensor([[guess]]), begin, steps=200, method=midpoint, x_0=x_0)
        for guess in (MEAN, MEAN + 1)
    ]
    factor = begin * WIDTH / math.sqrt((1 - begin) ** 2 + (begin * WIDTH) ** 2)
    assert float(ends[1] - ends[0]) == pytest.approx(factor, rel=1e-3)


def test_from_noise_it_is_the_flow():
    space = gf.SE3()
    flow, net = Flow(space), torch.nn.Linear(9, 6)
    x_0 = flow.prior.sample((4, 3), torch.Generator().manual_seed(0))
    guess = flow.prior.sample((4, 3), torch.Generator().manual_seed(1))
    with torch.no_grad():
        warm = sample_from(flow, lambda f, t, c: net(f), guess, 0.0, steps=5, x_0=x_0)
        plain = flow.sample(lambda f, t, c: net(f), batch=4, horizon=3, steps=5, x_0=x_0)
    assert space.distance(warm, plain).max() < 1e-5


def test_times_and_methods_that_cannot_be():
    guess = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="below 1"):
        sample_from(Flow(gf.Euclidean(3)), lambda f, t, c: f, guess, 1.0)
    with pytest.raises(ValueError, match="t = 1"):
        sample_from(Flow(gf.Euclidean(3), target="endpoint"), lambda f, t, c: f, guess, 0.5, method=rkmk4)

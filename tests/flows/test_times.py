"""Training times: the distribution that is named, evenly covered, from the generator that is given."""

import pytest
import scipy.stats
import torch
from scipy.special import expit

import geoflow as gf
from geoflow.flows.times import Beta, LogitNormal, uniform_times

TIMES = [
    (uniform_times, scipy.stats.uniform().cdf),
    (LogitNormal(), lambda t: scipy.stats.norm(0, 1).cdf(scipy.special.logit(t))),
    (LogitNormal(-0.8, 0.5), lambda t: scipy.stats.norm(-0.8, 0.5).cdf(scipy.special.logit(t))),
    (Beta(1.0, 1.5), scipy.stats.beta(1.0, 1.5).cdf),
    (Beta(2.0, 0.7), scipy.stats.beta(2.0, 0.7).cdf),
]


@pytest.mark.parametrize(("times", "cdf"), TIMES, ids=lambda x: str(x)[:20])
def test_times_follow_their_distribution_evenly(times, cdf):
    """The empirical distribution function of a stratified batch of B is within 1/B of the true one."""
    like = torch.zeros((), dtype=torch.float64)
    t = times(500, torch.Generator().manual_seed(0), like)
    assert t.shape == (500,)
    assert t.dtype == torch.float64
    assert scipy.stats.kstest(t.numpy(), cdf).statistic <= 1 / 500 + 1e-9
    again = times(500, torch.Generator().manual_seed(0), like)
    assert torch.equal(t, again)
    assert abs(torch.corrcoef(torch.stack([t, torch.arange(500).double()]))[0, 1]) < 0.15  # shuffled


@pytest.mark.parametrize("times", [LogitNormal(3.0, 2.0), Beta(0.3, 0.3)], ids=str)
def test_times_stay_within_0_and_1_in_float32(times):
    t = times(4096, torch.Generator().manual_seed(0), torch.zeros(()))
    assert t.dtype == torch.float32
    assert ((t >= 0) & (t <= 1)).all()


def test_a_flow_trains_at_the_times_it_is_given():
    """A network that notes its times sees the logit-normal's median, and no loss is lost."""
    seen = []
    flow = gf.Flow(gf.SE3(), times=LogitNormal(1.0, 0.3))

    def net(features, t, cond):
        seen.append(t)
        return features[..., :6]

    loss = flow.loss(net, gf.SE3().identity(256, 4), generator=torch.Generator().manual_seed(0))
    assert loss.shape == (256,)
    assert seen[0].median() == pytest.approx(expit(1.0), abs=0.01)


def test_impossible_distributions_are_refused():
    with pytest.raises(ValueError, match="width > 0"):
        LogitNormal(0.0, 0.0)
    with pytest.raises(ValueError, match="both > 0"):
        Beta(0.0, 1.0)

"""Regression: the minimiser of its loss, and the second step that is given the first."""

import pytest
import torch

import geoflow as gf
from geoflow.flows import WrappedGaussian
from geoflow.policies.regression import Regression, Regressor

SPACE = gf.Product(gf.SE3(), gf.Euclidean(1))


def regressor(**options):
    prior = WrappedGaussian(SPACE, SPACE.identity(4), torch.full((4, 7), 0.5))
    return Regressor(SPACE, prior, prior.scale, Regression(**options))


class Constant(torch.nn.Module):
    """Predicts one chunk whatever it is given, and remembers the times and features."""

    def __init__(self, start=None):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(4, 7) if start is None else start)
        self.asked = []

    def forward(self, features, t, cond):
        self.asked.append((features, t))
        return self.value.expand(len(features), 4, 7)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_truth_has_no_loss(norm):
    """A network that predicts the chunk has loss 0, also at the second step."""
    model = regressor(norm=norm, steps=2)
    tangent = 0.3 * torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    x_1 = SPACE.exp(SPACE.identity(4), 0.5 * tangent).expand(3, 4, 8)
    assert model.loss(Constant(tangent), x_1, torch.zeros(3, 1)).max() < 1e-4
    assert model.loss(Constant(), x_1, torch.zeros(3, 1)).min() > 1e-3


def test_l2_finds_the_mean_and_l1_the_median():
    """Of three chunks the one in the middle is the median; the mean lies elsewhere."""
    found = {}
    for norm in ("l2", "l1"):
        model, net = regressor(norm=norm), Constant()
        tangents = torch.zeros(3, 4, 7)
        tangents[:, :, 0] = torch.tensor([0.0, 0.2, 1.0])[:, None]
        x_1 = SPACE.exp(SPACE.identity(3, 4), 0.5 * tangents)
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 300)
            optimizer.zero_grad()
            model.loss(net, x_1, torch.zeros(3, 1)).mean().backward()
            optimizer.step()
        found[norm] = net.value[:, 0].detach()
    torch.testing.assert_close(found["l2"], torch.full((4,), 0.4), atol=5e-3, rtol=0)
    torch.testing.assert_close(found["l1"], torch.full((4,), 0.2), atol=2e-2, rtol=0)


def test_the_second_step_starts_from_the_first():
    """It sees the point at 0.9 of the way from the centre to the first prediction, without noise."""
    tangent = 0.3 * torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    model, net = regressor(steps=2), Constant(tangent)
    states = model.sample(net, torch.zeros(2, 1), (2, 4), path=True)
    assert states.shape == (3, 2, 4, 8)
    (first, t_0), (second, t_1) = net.asked
    assert t_0.tolist() == [0, 0]
    torch.testing.assert_close(t_1, torch.full((2,), 0.9))
    torch.testing.assert_close(first, SPACE.features(SPACE.identity(2, 4)))
    torch.testing.assert_close(
        second, SPACE.features(SPACE.exp(SPACE.identity(2, 4), 0.45 * tangent.expand(2, 4, 7)))
    )


@pytest.mark.parametrize("options", [{"norm": "l3"}, {"steps": 3}, {"level": 1.0}], ids=str)
def test_impossible_regressions(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Regression(**options)

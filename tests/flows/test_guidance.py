"""Guidance: the ends of its scale, a case in closed form, and what training sees."""

import pytest
import torch

import geoflow as gf
from geoflow.flows.guidance import drop_condition, guided

SPACE = gf.Product(gf.SE3(), gf.Euclidean(1))
NULL = torch.zeros(2)


def net(features, t, cond):
    """Something nonlinear in everything."""
    matrix = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    c = cond.reshape(len(cond), *(1,) * (features.dim() - 2), 2).expand(*features.shape[:-1], 2)
    return torch.sin(torch.cat([features, c], -1) @ matrix) * (1 + t).reshape(
        -1, *(1,) * (features.dim() - 1)
    )


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_guidance_is_the_line_through_both_predictions(weight):
    f, t, cond = torch.randn(5, 4, 10), torch.rand(5), torch.randn(5, 2)
    a, b = net(f, t, cond), net(f, t, NULL.expand(5, 2))
    torch.testing.assert_close(guided(net, NULL, weight)(f, t, cond), (1 - weight) * b + weight * a)


def test_guided_samples_are_on_the_manifold_and_weight_1_changes_nothing():
    flow, cond = gf.Flow(SPACE), torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    draw = lambda n: flow.sample(n, cond, horizon=4, generator=torch.Generator().manual_seed(2))  # noqa: E731
    torch.testing.assert_close(draw(guided(net, NULL, 1.0)), draw(net))
    SPACE.check(draw(guided(net, NULL, 4.0)))


def test_guidance_moves_a_gaussian_by_its_weight():
    """With v = mean(cond), samples are N(0, 1) shifted by w mean(cond) where mean(null) = 0: on R^n exactly."""
    shift = lambda f, t, cond: cond[:, :1]  # noqa: E731
    flow, cond = gf.Flow(gf.Euclidean(1)), torch.tensor([[1.0, 0.0]]).expand(50, 2)
    draw = lambda n: flow.sample(n, cond, generator=torch.Generator().manual_seed(0))  # noqa: E731
    torch.testing.assert_close(draw(guided(shift, NULL, 2.5)), draw(shift) + 1.5)


def test_conditions_are_dropped_whole_and_as_often_as_asked():
    cond = 1 + torch.rand(10_000, 2)
    kept = drop_condition(cond, NULL, 0.2, torch.Generator().manual_seed(0))
    gone = (kept == NULL).all(-1)
    assert torch.equal(kept[~gone], cond[~gone])
    assert gone.float().mean() == pytest.approx(0.2, abs=0.015)
    assert torch.equal(drop_condition(cond, NULL, 0.0), cond)


def test_conditions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Encode conditions"):
        guided(net, NULL, 2.0)(torch.randn(3, 10), torch.rand(3), None)
    with pytest.raises(ValueError, match=r"\(3, 5\)"):
        drop_condition(torch.zeros(3, 5), NULL, 0.1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        drop_condition(torch.zeros(3, 2), NULL, 1.5)

"""Couplings: the cheapest pairing, and under conditions a prior that stays what it was."""

from itertools import permutations

import pytest
import torch

import geoflow as gf
from geoflow.flows import ConditionalTransport, OptimalTransport, independent
from geoflow.flows.transport import transport_cost

SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(), gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))]


def points(space, *shape, seed=0):
    return gf.HaarUniform(space).double().sample(shape, torch.Generator().manual_seed(seed))


def chunk_cost(space, x_0, x_1):
    """Mean squared distance of pairs (B, T, point_dim), one number for the batch."""
    return (space.distance(x_0, x_1) ** 2).mean()


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("inner", [(), (4,)])
def test_transport_is_the_cheapest_of_all_pairings(space, inner):
    """Against brute force over the 120 pairings of five chunks."""
    x_0, x_1 = points(space, 5, *inner, seed=1), points(space, 5, *inner, seed=2)
    paired, data = OptimalTransport()(space, x_0, x_1, None)
    best = min(chunk_cost(space, x_0[list(p)], x_1) for p in permutations(range(5)))
    assert torch.equal(data, x_1)
    torch.testing.assert_close(chunk_cost(space, paired, data), best)
    assert {tuple(x.flatten().tolist()) for x in paired} == {tuple(x.flatten().tolist()) for x in x_0}


def test_the_cost_does_not_depend_on_how_it_is_cut_into_blocks():
    space = gf.SE3()
    x_0, x_1 = points(space, 70, 16, seed=1), points(space, 70, 16, seed=2)  # 70 * 70 * 16 > 2^16
    cost = transport_cost(space, x_0, x_1)
    i, j = torch.tensor([0, 17, 57, 58, 59, 69]), torch.tensor([3, 69, 5, 0, 20, 69])
    torch.testing.assert_close(cost[i, j], (space.distance(x_0[j], x_1[i]) ** 2).mean(-1))


def tagged(generator):
    """Two observations whose data lie apart: x_1 ~ N(+-2, 0.1^2)."""
    tags = torch.randint(2, (128,), generator=generator)
    x_1 = (4.0 * tags - 2)[:, None] + 0.1 * torch.randn(128, 1, generator=generator)
    return tags, x_1, torch.randn(128, 1, generator=generator)


def test_conditional_transport_leaves_each_observation_the_whole_prior():
    """E[x_0 | tag] = 0 and Var = 1 with it; plain transport hands noise > 0 to one tag, noise < 0 to the other."""
    generator, space = torch.Generator().manual_seed(0), gf.Euclidean(1)
    kept, skewed, free = [], [], []
    for _ in range(40):
        tags, x_1, x_0 = tagged(generator)
        a = ConditionalTransport()(space, x_0, x_1, tags)[0]
        b = OptimalTransport()(space, x_0, x_1, tags)[0]
        kept.append(a[tags == 1])
        skewed.append(b[tags == 1])
        free.append([chunk_cost(space, x, x_1) for x in (b, a, x_0)])
    kept, skewed = torch.cat(kept), torch.cat(skewed)
    assert kept.mean() == pytest.approx(0, abs=0.06)
    assert kept.std() == pytest.approx(1, abs=0.05)
    assert skewed.mean() > 0.7
    plain, conditional, none = torch.tensor(free).mean(0)
    assert plain < conditional < none


def test_new_observations_are_coupled_independently_and_all_alike_ones_freely():
    space = gf.SE3()
    x_0, x_1, cond = points(space, 16, 4, seed=1), points(space, 16, 4, seed=2), torch.randn(16, 3)
    assert torch.equal(ConditionalTransport()(space, x_0, x_1, cond)[0], x_0)
    free = OptimalTransport()(space, x_0, x_1, None)[0]
    assert torch.equal(ConditionalTransport(radius=1e3)(space, x_0, x_1, cond)[0], free)
    assert torch.equal(ConditionalTransport()(space, x_0, x_1, torch.full((16, 300), 0.1))[0], free)


def test_transport_straightens_the_training_of_a_flow():
    """Under transport the best constant explains more: the loss of the zero network is the mean cost."""
    space = gf.SO3()
    x_1, zero = points(space, 128, seed=3).float(), lambda f, t, c: f[..., :3] * 0
    losses = [
        gf.Flow(space, gf.HaarUniform(space), coupling=c).loss(
            zero, x_1, generator=torch.Generator().manual_seed(0)
        )
        for c in (independent, OptimalTransport())
    ]
    assert losses[1].mean() < 0.5 * losses[0].mean()


def test_couplings_that_cannot_be_are_refused_with_what_would_work():
    space, x = gf.SO3(), gf.SO3().identity(4)
    with pytest.raises(ValueError, match="as many noise points"):
        OptimalTransport()(space, x[:3], x, None)
    with pytest.raises(ValueError, match="use OptimalTransport"):
        ConditionalTransport()(space, x, x, None)
    with pytest.raises(ValueError, match=r"\(4, \.\.\.\)"):
        ConditionalTransport()(space, x, x, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="radius=-1"):
        ConditionalTransport(-1)

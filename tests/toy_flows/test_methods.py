"""Every row learns and samples; seeds that train side by side do not touch one another."""

from __future__ import annotations

import pytest
import torch
from toy.methods import METHODS, EachSeed, Problem
from toy.nets import StackedMLP
from toy.sets import SETS
from toy.training import Budget, Data, train

from geoflow import flows
from geoflow.manifolds import SO3

SEEDS = 2


def blank(toy, learner, seed=0):
    tags = learner.tokens + 1 if learner.tokens else toy.modes if toy.tagged else 0
    net = StackedMLP(
        seeds=SEEDS,
        inputs=learner.inputs,
        outputs=learner.outputs,
        times=learner.times,
        tags=tags,
        width=16,
        depth=1,
    )
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=generator)
    return net


def problem(toy):
    def network(name):
        return blank(toy, METHODS[name].build(problem(toy))).requires_grad_(False)

    return Problem(Data.draw(toy, 64, SEEDS), network)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_learns_and_samples(name, monkeypatch):
    monkeypatch.setattr("toy.methods.PAIRS", 32)
    method = METHODS[name]
    toy = SETS[method.sets[-1]]
    given = problem(toy)
    learner = method.build(given)
    net = blank(toy, learner)
    if learner.loss is not None:
        before = [p.clone() for p in net.parameters()]
        trained = train(net, learner.loss, given.data, Budget(steps=2, batch=8), modes=learner.tokens > 0)
        assert any(not torch.equal(p, q) for p, q in zip(before, trained.parameters(), strict=True))
        net = trained
    cond = toy.condition(torch.zeros(6, dtype=torch.long))
    nfe = method.nfes[-1] if len(method.nfes) == 1 else 4
    with torch.no_grad():
        x = learner.draw(net.seed(1), cond, 6, nfe, torch.Generator().manual_seed(0))
        states = learner.draw(net.seed(1), cond, 6, nfe, torch.Generator().manual_seed(0), True)
    toy.space.check(x)
    assert x.shape == (6, toy.space.point_dim)
    assert torch.equal(states[-1], x)
    if learner.log_prob is not None and not toy.tagged:
        assert bool(torch.isfinite(learner.log_prob(net.seed(0), toy.sample(3, torch.Generator())[0])).all())


def test_stacked_networks_are_the_single_ones():
    learner = METHODS["plain"].build(problem(SETS["peaks"]))
    net = blank(SETS["peaks"], learner)
    f, t = torch.randn(5, SEEDS, learner.inputs), torch.rand(5, SEEDS)
    both = net(f.flatten(0, 1), t.flatten()).unflatten(0, (5, SEEDS))
    for s in range(SEEDS):
        torch.testing.assert_close(net.seed(s)(f[:, s], t[:, s]), both[:, s])


def test_gradients_stay_within_a_seed():
    learner = METHODS["plain"].build(problem(SETS["peaks"]))
    net = blank(SETS["peaks"], learner)
    out = net(torch.randn(6, learner.inputs), torch.rand(6))
    out[::SEEDS].square().sum().backward()
    for W in net.weights:
        assert float(W.grad[0].abs().sum()) > 0
        assert float(W.grad[1].abs().sum()) == 0


def test_noise_and_data_are_paired_within_a_seed():
    space = SO3()
    x_0 = space.random_uniform(12, generator=torch.Generator().manual_seed(0))
    x_1 = space.random_uniform(12, generator=torch.Generator().manual_seed(1))
    paired, data = EachSeed(flows.OptimalTransport(), 3)(space, x_0, x_1)
    assert torch.equal(data, x_1)
    for s in range(3):
        alone = flows.OptimalTransport()(space, x_0[s::3], x_1[s::3])[0]
        assert torch.equal(paired[s::3], alone)


def test_sources_are_rows_that_are_measured_wherever_they_are_needed():
    for method in METHODS.values():
        if method.source is not None:
            assert set(method.sets) <= set(METHODS[method.source].sets), method.name

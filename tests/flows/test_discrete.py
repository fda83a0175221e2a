"""Discrete flows: every step keeps the closed-form marginals, and the loss bounds the likelihood."""

import math
from itertools import pairwise

import pytest
import scipy.stats
import torch

from geoflow.flows import guided
from geoflow.flows.discrete import DiscreteFlow
from geoflow.flows.schedules import Cosine, Exponential, Linear, Power

SCHEDULES = [Linear(), Cosine(), Power(2.0), Exponential(5.0), Exponential(-3.0)]
SOURCES = ["mask", "uniform"]
Q = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(x, t, cond):
    """The logits of a single token's data: nothing else tells of it."""
    return Q.log().to(torch.get_default_dtype()).expand(*x.shape, len(Q))


def marginal(flow, t):
    """p_t = (1 - kappa) p_0 + kappa q over all states."""
    kappa = flow.schedule(torch.tensor(t, dtype=torch.float64))[0]
    q = torch.nn.functional.pad(Q, (0, flow.states - len(Q)))
    p_0 = torch.zeros_like(q)
    p_0[len(Q) :] = 1
    return (1 - kappa) * (p_0 if flow.source == "mask" else torch.full_like(q, 0.25)) + kappa * q


def chain(flow, t, s, corrector=0.0):
    """The matrix P[y, x] of one step with the exact posterior."""
    y = torch.arange(flow.states)
    p_1 = flow.posterior(Q.log().expand(flow.states, -1), y, flow._kappa(t)).exp()
    return flow.transition(p_1, y, t, s, corrector=corrector)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("corrector", [0.0, 0.5, 20.0])
def test_steps_of_any_length_keep_the_marginals(source, schedule, corrector):
    """p_s = p_t P for the exact posterior of a single token: in one step, in seven, and with the corrector."""
    flow = DiscreteFlow(4, source, schedule)
    for times in ([0, 1], [0, 0.01, 0.2, 0.21, 0.5, 0.9, 0.999, 1]):
        p = marginal(flow, 0)
        for t, s in pairwise(times):
            P = chain(flow, t, s, corrector)
            assert (P >= 0).all()
            torch.testing.assert_close(P.sum(-1), torch.ones(flow.states).double())
            p = p @ P
            torch.testing.assert_close(p, marginal(flow, s), atol=1e-8, rtol=0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("corrector", [0.0, 3.0])
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Exponential(5.0)], ids=str)
def test_samples_follow_the_marginal_at_every_time(source, corrector, schedule):
    """Chi-square of 20 000 tokens at each of 5 times against p_t."""
    flow = DiscreteFlow(4, source, schedule)
    states = flow.sample(
        exact, batch=5000, horizon=4, steps=5, corrector=corrector, generator=seeded(), path=True
    )
    assert states.shape == (6, 5000, 4)
    for t, x in zip((0, 0.2, 0.4, 0.6, 0.8, 1), states, strict=True):
        expected = 20_000 * marginal(flow, t)
        possible = expected > 0
        counts = torch.bincount(x.flatten(), minlength=flow.states).double()
        assert counts[~possible].sum() == 0
        if possible.sum() > 1:
            assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("corrector", [0.0, 0.7])
def test_short_steps_have_the_rates_of_the_paper(source, schedule, corrector):
    """(P - 1) / h -> (1 + c) kappa'/(1 - kappa) (p(x_1 | x_t) - [x_t]) + c kappa'/kappa (p_0 - [x_t])."""
    flow, t, h = DiscreteFlow(4, source, schedule), 0.4, 1e-6
    kappa, speed = (float(a) for a in flow.schedule(torch.tensor(t, dtype=torch.float64)))
    eye = torch.eye(flow.states).double()
    p_0 = marginal(flow, 0).expand(flow.states, -1)
    likelihood = (1 - kappa) * p_0.T[:, : len(Q)] + kappa * eye[:, : len(Q)]
    p_1 = likelihood * Q / (likelihood * Q).sum(-1, keepdim=True)
    p_1 = torch.nn.functional.pad(p_1, (0, flow.states - len(Q)))
    forward, backward = speed / (1 - kappa) * (p_1 - eye), speed / kappa * (p_0 - eye)
    rates = (chain(flow, t, t + h, corrector) - eye) / h
    torch.testing.assert_close(rates, (1 + corrector) * forward + corrector * backward, atol=1e-4, rtol=1e-4)
    # The added part carries nothing away from p_t.
    assert (marginal(flow, t) @ (forward + backward)).abs().max() < 1e-12


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_no_mask_remains_whatever_the_network_says(source, schedule):
    """Wild logits, few steps, strong correctors: tokens end below K, and probabilities stay probabilities."""
    flow = DiscreteFlow(3, source, schedule)
    wild = lambda x, t, c: 1e4 * torch.sin(37.0 * x[..., None] + torch.arange(3))  # noqa: E731
    for steps in (1, 2, 9, [0, 1e-7, 1 - 1e-7, 1]):
        for corrector in (0.0, 1.0, 1e3):
            x = flow.sample(wild, batch=50, horizon=(3, 2), steps=steps, corrector=corrector)
            assert x.shape == (50, 3, 2)
            assert ((x >= 0) & (x < 3)).all()


def test_tokens_that_are_no_mask_are_kept_unless_corrected():
    flow = DiscreteFlow(4)
    x = flow.sample(exact, batch=2000, steps=10, generator=seeded(), path=True)
    changed = (x[1:] != x[:-1]) & (x[:-1] < 4)
    assert not changed.any()
    x = flow.sample(exact, batch=2000, steps=10, corrector=1.0, generator=seeded(), path=True)
    assert ((x[1:] != x[:-1]) & (x[:-1] < 4)).any()


def curved(x, t, cond):
    """A network that is wrong in its own way at every state and time."""
    phase = torch.tensor([0.3, 1.7, 2.9])
    t = t.to(torch.get_default_dtype()).reshape(-1, *(1,) * x.dim())
    return 1.5 * torch.sin(phase * (x[..., None] + 1) + 2 * t)


def model_likelihood(flow, net, count=3000):
    """p(X_1) of the chain with the rates r p(x_1 | x_t), by matrix exponentials over short intervals."""
    y = torch.arange(flow.states)
    p = flow.source_probabilities.double()
    # kappa in equal parts of log(1 - kappa): the last part jumps surely.
    edges = 1 - torch.exp(-torch.linspace(0, 18, count + 1).double())
    for a, b in pairwise(edges):
        t = float((a + b) / 2)  # Linear: kappa = t
        p_1 = flow.posterior(net(y, torch.full((flow.states,), t), None).double(), y, t).exp()
        p_1 = torch.nn.functional.pad(p_1, (0, flow.states - flow.classes))
        rate = torch.log((1 - a) / (1 - b)) * (p_1 - torch.eye(flow.states).double())
        p = p @ torch.linalg.matrix_exp(rate)
    return p[: flow.classes]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("timeless", [True, False])
def test_the_divergence_of_rates_bounds_the_likelihood(source, timeless):
    """E_t[loss(x_1)] >= -log p(x_1) for a wrong network; from the mask, without a view of t, they are equal."""
    flow = DiscreteFlow(3, source, objective="kl")
    net = (lambda x, t, c: curved(x, 0.3 * torch.ones_like(t), c)) if timeless else curved
    p = model_likelihood(flow, net)
    assert float(p.sum()) == pytest.approx(1, abs=1e-6)
    n = 200_000
    for x_1 in range(3):
        loss = flow.loss(net, torch.full((n,), x_1), generator=seeded()).double()
        error = float(loss.std()) / math.sqrt(n)
        bound, truth = float(loss.mean()), -math.log(float(p[x_1]))
        assert bound > truth - 4 * error
        if source == "mask" and timeless:
            assert bound == pytest.approx(truth, abs=4 * error + 1e-3)
        if source == "uniform":
            assert bound > truth + 0.01


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("objective", ["cross_entropy", "kl"])
def test_the_exact_posterior_has_the_least_loss(source, objective):
    """The gradient with respect to the logits vanishes at log q, and any other logits lose more."""
    flow = DiscreteFlow(4, source, Cosine(), objective)
    x_1 = torch.multinomial(Q.float(), 400_000, replacement=True, generator=seeded())

    def at(logits):
        logits = logits.float().requires_grad_()
        loss = flow.loss(lambda x, t, c: logits.expand(len(x), -1), x_1, generator=seeded(1)).mean()
        return float(loss.detach()), torch.autograd.grad(loss, logits)[0]

    least, gradient = at(Q.log())
    assert gradient.abs().max() < 5e-3
    other, slope = at(Q.log() + torch.tensor([0.5, -0.5, 0.3, 0.0]))
    assert other > least + 0.01
    assert slope.abs().max() > 0.03


def test_tokens_that_depend_on_each_other_need_steps():
    """Two tokens that are always equal: independent in one step, equal after many, from both sources."""

    def share(source, steps, corrector=0.0):
        flow = DiscreteFlow(2, source)

        def other_token(x, t, cond):
            """log p(x_t^j | x_1^i = k), j the other token: it was chosen as x_1^i was."""
            other, kappa = x.flip(-1).unsqueeze(-1), t.reshape(-1, 1, 1)
            chance = flow.source_probabilities[other]
            return ((1 - kappa) * chance + kappa * (other == torch.arange(2))).log()

        x = flow.sample(
            other_token, batch=4000, horizon=2, steps=steps, corrector=corrector, generator=seeded()
        )
        assert 0.45 < float(x.float().mean()) < 0.55
        return float((x[:, 0] == x[:, 1]).float().mean())

    for source in SOURCES:
        assert share(source, 1) == pytest.approx(0.5, abs=0.03)
        assert share(source, 100) > 0.97


def test_temperature_sharpens():
    """Logits divided by T: probabilities q^(1/T), normalised."""
    flow = DiscreteFlow(4)
    x = flow.sample(exact, batch=20_000, steps=3, temperature=0.5, generator=seeded())
    expected = 20_000 * Q**2 / (Q**2).sum()
    assert scipy.stats.chisquare(torch.bincount(x, minlength=4).double(), expected).pvalue > 1e-3


def test_samples_of_an_episode_do_not_depend_on_its_batch():
    for source in SOURCES:
        flow = DiscreteFlow(4, source)
        alone = flow.sample(exact, batch=1, horizon=5, generator=[seeded(3)])
        together = flow.sample(exact, batch=4, horizon=5, generator=[seeded(3 + i) for i in range(4)])
        assert torch.equal(alone[0], together[0])


def test_conditions_reach_the_network_and_can_be_guided():
    """Guidance of logits: weight 3 is the odds to the third power."""
    flow, null = DiscreteFlow(2), torch.zeros(1)
    net = lambda x, t, c: torch.cat([c, -c], -1)  # noqa: E731
    cond = torch.full((20_000, 1), 0.2)
    share = lambda n: float((flow.sample(n, cond, generator=seeded()) == 0).float().mean())  # noqa: E731
    assert share(net) == pytest.approx(1 / (1 + math.exp(-0.4)), abs=0.015)
    assert share(guided(net, null, 3.0)) == pytest.approx(1 / (1 + math.exp(-1.2)), abs=0.015)


@pytest.mark.parametrize("objective", ["cross_entropy", "kl"])
@pytest.mark.parametrize("source", SOURCES)
def test_losses_and_gradients_are_finite_at_both_ends(source, objective):
    flow = DiscreteFlow(3, source, Exponential(10.0), objective)
    x_1 = torch.tensor([[0, 1], [2, 1], [1, 1]])
    t = torch.tensor([0.0, 1 - 1e-7, 1.0])
    logits = torch.randn(3, 2, 3, generator=seeded()).requires_grad_()
    x_t = flow.corrupt(x_1, t, seeded())
    assert torch.equal(x_t[2], x_1[2])
    loss = flow.loss_of(logits, x_1, x_t, t)
    assert loss.shape == (3,)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    assert (loss >= 0).all()


def test_what_a_discrete_flow_cannot_do_is_refused():
    flow = DiscreteFlow(3)
    with pytest.raises(ValueError, match="at least 2"):
        DiscreteFlow(1)
    with pytest.raises(ValueError, match="mask, uniform"):
        DiscreteFlow(3, "gaussian")
    with pytest.raises(ValueError, match="cross_entropy, kl"):
        DiscreteFlow(3, objective="mse")
    with pytest.raises(ValueError, match="runs back"):
        DiscreteFlow(3, schedule=lambda t: (3 * t**2 - 2 * t, 6 * t - 2))
    with pytest.raises(ValueError, match="from 0 to 1"):
        DiscreteFlow(3, schedule=lambda t: (2 * t, torch.full_like(t, 2.0)))
    with pytest.raises(TypeError, match=r"x\.long"):
        flow.loss(exact, torch.zeros(3))
    with pytest.raises(ValueError, match="0 to 2"):
        flow.loss(exact, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="mask is no class"):
        flow.loss(exact, torch.tensor([0, 2]))
    three = lambda x, t, c: torch.zeros(*x.shape, 3)  # noqa: E731
    with pytest.raises(ValueError, match="temperature"):
        flow.sample(three, batch=2, temperature=0.0)
    with pytest.raises(ValueError, match="corrector"):
        flow.sample(three, batch=2, corrector=-0.5)
    with pytest.raises(ValueError, match=r"batch=\.\.\."):
        flow.sample(three)
    with pytest.raises(ValueError, match="4 rows"):
        flow.sample(three, torch.zeros(4, 1), batch=3)

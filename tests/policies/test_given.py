"""Chunks that go on with given steps: the prefix is kept, unlearned, moves with the scene, and is used."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.lie import se3
from geoflow.policies.backbones import BACKBONES
from geoflow.policies.base import Onward, PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution, Executor
from geoflow.policies.flow import FlowPolicy
from geoflow.policies.given import Given, delays, mark
from geoflow.policies.realtime import RealTimeBroker

HORIZON, MOST = 8, 5
CONFIG = PolicyConfig(width=64, depth=1, horizon=HORIZON, execute=4, nfe=2, given_steps=MOST)
KINDS = {
    "SE3": CONFIG,
    "R3xSO3 velocity": replace(CONFIG, manifold="R3xSO3", target="velocity"),
    "Euclidean": replace(CONFIG, manifold="Euclidean"),
    "midpoint": replace(CONFIG, solver="midpoint"),
    "MeanFlow": replace(CONFIG, method="MeanFlow()", target="velocity"),
    "regression": replace(CONFIG, type="regression", nfe=1),
    "regression 2": replace(CONFIG, type="regression", method="Regression(steps=2)"),
    "ddpm": replace(CONFIG, type="ddpm", manifold="Euclidean"),
}


def build(demos, config):
    """A fitted policy whose parameters are all at work: gates that begin at zero are moved off it."""
    torch.manual_seed(0)
    chunks = Chunks(demos, horizon=config.horizon, observation_steps=1)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    for parameter in policy.net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return policy.eval(), chunks


@pytest.fixture(params=KINDS)
def kind(request, demos):
    return build(demos, KINDS[request.param])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_prefix_is_returned_as_it_is(kind):
    policy, chunks = kind
    batch = chunks.sample(5)
    chunk = policy.act(batch.obs, generator=seeded(), onward=Onward(batch.actions[:, :6], 4, "given"))
    assert torch.equal(chunk[:, :4], batch.actions[:, :4])
    assert chunk.isfinite().all()


def test_what_is_given_decides_how_a_chunk_goes_on(kind):
    """Steps that are given matter to those that are not; the others of the chunk under way do not."""
    policy, chunks = kind
    batch = chunks.sample(5)

    def act(actions):
        return policy.act(batch.obs, generator=seeded(), onward=Onward(actions, 3, "given"))

    near, far = batch.actions.clone(), batch.actions.clone()
    near[:, 1, 0] += 0.3
    far[:, 3:, 0] += 0.3
    assert not torch.allclose(act(near)[:, 3:], act(batch.actions)[:, 3:], atol=1e-5)
    assert torch.equal(act(far)[:, 3:], act(batch.actions)[:, 3:])


def test_nothing_given_is_the_plain_policy(kind):
    policy, chunks = kind
    batch = chunks.sample(3)
    going = policy.act(batch.obs, generator=seeded(), onward=Onward(batch.actions, 0, "given"))
    assert torch.equal(going, policy.act(batch.obs, generator=seeded()))


def test_no_given_steps_no_channel(demos):
    """given_steps=0 is the network without the channel, and its loss draws no number more."""
    policy, chunks = build(demos, replace(CONFIG, given_steps=0))
    told, _ = build(demos, CONFIG)
    inputs = {name: x.shape for name, x in told.state_dict().items()}
    other = {name for name, x in policy.state_dict().items() if x.shape != inputs[name]}
    assert other == {"net.enter.weight"}
    batch = chunks.sample(4)
    x_1, cond = policy.to_space(batch.obs, batch.actions), policy.condition(batch.obs)
    assert isinstance(policy, FlowPolicy)
    expected = policy.flow.loss(policy.evaluate_network, x_1, cond, generator=seeded())
    assert torch.equal(policy(batch, seeded()), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_noise_of_given_steps_is_not_learned_from(demos, backbone):
    """The gradient of the loss is the same, whatever the noise where steps are given."""
    policy, chunks = build(demos, replace(CONFIG, backbone=backbone))
    batch = chunks.sample(6)
    x_1 = policy.to_space(batch.obs, batch.actions)
    mask = torch.arange(HORIZON) < torch.tensor([0, 1, 2, 3, 4, 5])[:, None]
    given = Given(policy.standardise(policy.space.features(x_1)), mask)
    assert isinstance(policy, FlowPolicy)
    flow = policy.flow
    x_0, other = (flow.prior.sample(x_1.shape[:-1], seeded(seed)) for seed in (1, 2))

    def gradient(x_0):
        policy.zero_grad()
        cond = policy.condition(batch.obs)
        net = policy.network(given)
        flow.loss(net, x_1, cond, x_0=x_0, generator=seeded(), counts=~mask).mean().backward()
        gradients = [parameter.grad for parameter in policy.parameters()]
        return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])

    first = gradient(x_0)
    torch.testing.assert_close(gradient(torch.where(mask[..., None], other, x_0)), first)
    assert not torch.allclose(gradient(other), first)


def test_every_kind_learns_from_the_others_alone(kind):
    """A network that is right but at given steps has no loss: what it says there counts nothing."""
    policy, chunks = kind
    batch = chunks.sample(4)
    x_1 = policy.to_space(batch.obs, batch.actions)
    mask = (torch.arange(HORIZON) < 3).expand(4, -1)
    given = Given(policy.standardise(policy.space.features(x_1)), mask)
    said = []
    run = policy.run_network

    def wrong(x, t, cond, given=None):
        out = run(x, t, cond, given)
        said.append(out)
        assert given is not None
        return torch.where(given.mask[..., None], out + 100, out)

    plain = policy.chunk_loss(x_1, policy.condition(batch.obs), seeded(), given)
    policy.run_network = wrong
    torch.testing.assert_close(
        policy.chunk_loss(x_1, policy.condition(batch.obs), seeded(), given), plain, rtol=1e-4, atol=1e-6
    )
    assert said


def test_moving_the_scene_moves_how_it_goes_on(demos):
    """act(g obs, g prefix) = g act(obs, prefix), for g that keeps gravity: the prefix is seen in the chunk's frame."""
    for config in (CONFIG, replace(CONFIG, manifold="Euclidean"), replace(CONFIG, backbone="invariant")):
        policy, chunks = build(demos, config)
        batch = chunks.sample(4)
        g = se3.exp(torch.tensor([0.3, -0.2, 0.0, 0.0, 0.0, 1.0]))

        def moved(x, g=g):
            return torch.cat([se3.compose(g.expand_as(x[..., :7]), x[..., :7]), x[..., 7:]], -1)

        there = {n: moved(x) if policy.spec.kinds[n] == "pose" else x for n, x in batch.obs.items()}
        chunk = policy.act(batch.obs, generator=seeded(), onward=Onward(batch.actions, 3, "given"))
        other = policy.act(there, generator=seeded(), onward=Onward(moved(batch.actions), 3, "given"))
        space = gf.Product(gf.SE3(), gf.Euclidean(1))
        assert space.distance(other, moved(chunk)).max() < 1e-3


def test_delays_are_drawn_evenly():
    """d = 0, 1, ..., D, each as often; the mask is a prefix of d steps."""
    d = delays(6000, MOST, seeded(), torch.zeros(1))
    mask = Given.first(torch.zeros(6000, HORIZON, 3), d).mask
    assert torch.equal(mask.sum(1), d.long())
    assert torch.equal(mask, torch.arange(HORIZON) < d[:, None])
    shares = torch.bincount(d.long(), minlength=HORIZON) / 6000
    torch.testing.assert_close(shares, torch.tensor([1 / 6] * 6 + [0.0] * (HORIZON - 6)), atol=0.02, rtol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_policy_may_begin_as_one_that_was_not_told(demos, backbone):
    """Weights of a policy without given steps: it acts the same at first, whatever is given."""
    before, chunks = build(demos, replace(CONFIG, backbone=backbone, given_steps=0))
    policy, _ = build(demos, replace(CONFIG, backbone=backbone))
    policy.begin_from(before)
    obs = chunks.sample(3).obs
    expected = before.act(obs, generator=seeded())
    torch.testing.assert_close(policy.act(obs, generator=seeded()), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="another shape"):
        policy.begin_from(build(demos, replace(CONFIG, backbone=backbone, width=128))[0])


def test_it_learns_to_go_on(demos):
    """Chunks that stay at a random pose, of which observations say nothing: given two steps, the rest is known."""
    policy, chunks = build(demos, replace(CONFIG, width=128, depth=2))
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    space, scale = policy.space, policy.chunk_scale.mean(0)
    generator = seeded()
    cond = policy.condition(chunks.sample(256).obs)
    assert isinstance(cond, torch.Tensor)
    cond = cond.detach()

    def draw(n):
        xi = torch.randn(n, 1, space.tangent_dim, generator=generator)
        return space.exp(policy.chunk_mean.expand(n, -1, -1), scale * xi.expand(-1, HORIZON, -1))

    for _ in range(150):
        x_1 = draw(256)
        given = Given.first(policy.standardise(space.features(x_1)), delays(256, MOST, generator, x_1))
        loss = policy.chunk_loss(x_1, cond, generator, given).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x_1 = draw(256)
        mask = (torch.arange(HORIZON) < 2).expand(256, -1)
        given = Given(policy.standardise(space.features(x_1)), mask)
        free = policy.sample_chunk(cond, 4, "euler", seeded())
        going = policy.sample_chunk(cond, 4, "euler", seeded(), given=given)

    def away(x):
        return (space.log(x, x_1)[:, 2:] / scale).norm(dim=-1).mean()

    assert away(going) < 0.3 * away(free)


def test_the_channel_says_which():
    x, known = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[True, False, False], [True, True, False]])
    out = mark(x, Given(known, mask))
    assert torch.equal(out[..., -1], mask.float())
    assert torch.equal(out[..., :-1][mask], known[mask])
    assert torch.equal(out[..., :-1][~mask], x[~mask])
    assert torch.equal(mark(x, None), torch.cat([x, torch.zeros(2, 3, 1)], -1))


def test_what_cannot_be(demos):
    with pytest.raises(ValueError, match="given_steps=8"):
        replace(CONFIG, given_steps=HORIZON)
    untold, _ = build(demos, replace(CONFIG, given_steps=0))
    with pytest.raises(ValueError, match="not trained"):
        Executor(untold, Execution(4, delay=2, manner="given"))
    policy, _ = build(demos, replace(CONFIG, given_steps=2))
    with pytest.raises(ValueError, match="delay of 3"):
        Executor(policy, Execution(4, delay=3, manner="given"))


# Executed.


class Late:
    """A policy whose predictions after the first end when the test says so."""

    def __init__(self, policy):
        self.config, self.spec, self.check_manner = policy.config, policy.spec, policy.check_manner
        self.policy, self.go, self.told = policy, threading.Semaphore(1), []

    def act(self, obs, onward=None, **options):
        self.go.acquire()
        self.told.append(onward)
        return self.policy.act(obs, onward=onward, **options)


def test_a_thread_goes_on_with_what_was_executed(demos):
    """With as much delay as foreseen, a chunk begins as was commanded while it was computed, bit for bit."""
    policy, chunks = build(demos, CONFIG)
    late, delay = Late(policy), 3
    obs = {name: x[0, -1].numpy() for name, x in chunks.sample(1).obs.items()}
    commands = []
    with RealTimeBroker(late, execute=4, manner="given", generator=seeded()) as broker:  # pyright: ignore[reportArgumentType]
        for tick in range(24):
            if tick >= 4 and tick % 4 == delay and broker._pending is not None:
                late.go.release()
                broker._pending[1].result(timeout=10)
            commands.append(torch.from_numpy(broker.act(obs)))
            if tick and tick % 4 == delay:
                plan = broker._plan
                assert plan is not None
                done = torch.stack(commands[plan.start : tick])
                foreseen = 0 if late.told[-1] is None else late.told[-1].delay
                assert torch.equal(torch.from_numpy(plan.actions[:foreseen]), done[:foreseen])
        assert broker.waits == 0
    assert [onward.delay for onward in late.told[1:]] == [1, 3, 3, 3, 3]
    assert {onward.manner for onward in late.told[1:]} == {"given"}


def test_more_delay_than_was_trained_for_is_given_as_far_as_it_was(demos):
    policy, chunks = build(demos, replace(CONFIG, given_steps=2))
    late = Late(policy)
    obs = {name: x[0, -1].numpy() for name, x in chunks.sample(1).obs.items()}
    with RealTimeBroker(late, execute=2, manner="given", generator=seeded()) as broker:  # pyright: ignore[reportArgumentType]
        for tick in range(12):
            if tick > 2 and tick % 4 == 2 and broker._pending is not None:
                late.go.release()
                broker._pending[1].result(timeout=10)
            broker.act(obs)
        assert max(broker.delays) > 2
        late.go.release()
    assert late.told[-1].delay == 2

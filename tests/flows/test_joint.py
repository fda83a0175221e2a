"""Joint flows: points and tokens that belong together are drawn together."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import Adaptive, Geodesic, euler, midpoint, rkmk4
from geoflow.flows.discrete import DiscreteFlow
from geoflow.flows.joint import JointFlow
from geoflow.flows.schedules import Cosine

SHARE, MEANS, STD = torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 1.0]), 0.2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(modes):
    """E[v | x_t, k_t] and the logits of k_1 given x_t, for k_1 ~ SHARE, x_1 ~ N(MEANS[k_1], STD^2)."""

    def net(seen, t, cond):
        (x, tokens), t = seen, t.reshape(-1, *(1,) * (seen[0].dim() - 1))
        variance = (1 - t) ** 2 + (t * STD) ** 2
        logits = SHARE.log() - (x - t * MEANS) ** 2 / (2 * variance)
        kappa = modes.schedule(t[..., 0])[0]
        weight = modes.posterior(logits, tokens, kappa.expand(tokens.shape)).exp()
        v = MEANS + (t * STD**2 - (1 - t)) / variance * (x - t * MEANS)
        return (weight * v).sum(-1, keepdim=True), logits

    return net


@pytest.mark.parametrize("source", ["mask", "uniform"])
@pytest.mark.parametrize(("method", "steps"), [(euler, 60), (midpoint, 60)])
def test_the_exact_fields_sample_the_joint_distribution(source, method, steps):
    """Tokens in their shares, points of each token its Gaussian, and no point with the other's token."""
    joint = JointFlow(gf.Flow(gf.Euclidean(1)), DiscreteFlow(2, source, Cosine()))
    x, k = joint.sample(exact(joint.modes), batch=20_000, steps=steps, method=method, generator=seeded())
    assert x.shape == (20_000, 1)
    assert k.shape == (20_000,)
    assert float((k == 1).float().mean()) == pytest.approx(0.7, abs=0.015)
    for token in (0, 1):
        own = x[k == token, 0]
        # Outliers are points whose token decided otherwise in the last steps.
        near = (own - MEANS[token]).abs() < 1
        assert near.float().mean() > 0.99
        assert float(own[near].mean()) == pytest.approx(float(MEANS[token]), abs=0.02)
        assert float(own[near].std()) == pytest.approx(STD, rel=0.08)


def test_the_loss_is_the_sum_of_both_at_one_time():
    """With a network that ignores the tokens, the flow's own loss; and tokens are noised to the flow's times."""
    seen = []
    flow, modes = gf.Flow(gf.SE3()), DiscreteFlow(2)
    x_1, k_1 = gf.HaarUniform(gf.SE3()).sample((5000,), seeded()), torch.ones(5000, 3, dtype=torch.long)

    def net(pair, t, cond):
        seen.append((pair[1], t))
        return pair[0][..., :6], torch.zeros(5000, 3, 2)

    loss = JointFlow(flow, modes, 0.5).loss(net, (x_1, k_1), generator=seeded(1))
    of_points = flow.loss(lambda f, t, c: f[..., :6], x_1, generator=seeded(1))
    tokens, t = seen[0]
    masked = (tokens == 2).float().mean(-1)
    torch.testing.assert_close(loss, of_points + 0.5 * masked * math.log(2))
    early = t < 0.5
    assert float(masked[early].mean()) == pytest.approx(0.75, abs=0.02)
    assert float(masked[~early].mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [("mask", "velocity"), ("uniform", "endpoint")])
def test_trained_poses_and_grippers_agree(source, target):
    """Two grasps, half a turn and 0.8 m apart, one with an open and one with a closed gripper, a third of them open."""
    torch.manual_seed(0)
    space = gf.SE3()
    grasps = torch.tensor([[-0.4, 0, 0, 1, 0, 0, 0], [0.4, 0, 0, 0, 0, 0, 1.0]])
    width, hidden = space.feature_dim + 3 + 1, 96
    layers = torch.nn.Sequential(
        torch.nn.Linear(width, hidden), torch.nn.SiLU(),
        torch.nn.Linear(hidden, hidden), torch.nn.SiLU(), torch.nn.Linear(hidden, 6 + 2),
    )  # fmt: skip

    def net(pair, t, cond):
        features, tokens = pair
        out = layers(torch.cat([features, torch.nn.functional.one_hot(tokens, 3), t[:, None]], -1))
        return out[:, :6], out[:, 6:]

    joint = JointFlow(gf.Flow(space, target=target), DiscreteFlow(2, source))
    optimizer = torch.optim.Adam(layers.parameters(), 5e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 900)
    for _ in range(900):
        k_1 = (torch.rand(256) < 2 / 3).long()
        x_1 = space.exp(grasps[k_1], 0.03 * torch.randn(256, 6))
        optimizer.zero_grad()
        joint.loss(net, (x_1, k_1)).mean().backward()
        optimizer.step()
        decay.step()
    x, k = joint.sample(net, batch=2000, steps=30, generator=seeded())
    nearest = torch.stack([space.distance(x, g.expand_as(x)) for g in grasps]).argmin(0)
    assert float((nearest == k).float().mean()) > 0.95  # drawn apart they agree at 5 in 9
    assert float((k == 1).float().mean()) == pytest.approx(2 / 3, abs=0.12)
    assert float(space.distance(x, grasps[k]).median()) < 0.25


def test_chunks_may_carry_one_token_and_paths_are_returned():
    joint = JointFlow(gf.Flow(gf.SE3(), path=Geodesic(Cosine())), DiscreteFlow(3))
    net = lambda pair, t, c: (pair[0][..., :6], torch.zeros(4, 1, 3) + c[:, None, :1])  # noqa: E731
    x, k = joint.sample(net, torch.zeros(4, 2), horizon=5, modes=1, steps=[0, 0.3, 1], path=True)
    assert x.shape == (3, 4, 5, 7)
    assert k.shape == (3, 4, 1)
    assert (k[0] == 3).all()
    assert (k[-1] < 3).all()
    alone = joint.sample(net, torch.zeros(4, 2), horizon=5, modes=1, generator=[seeded(i) for i in range(4)])
    again = joint.sample(net, torch.zeros(4, 2), horizon=5, modes=1, generator=[seeded(i) for i in range(4)])
    torch.testing.assert_close(alone, again)


def test_what_a_joint_flow_cannot_do_is_refused():
    joint = JointFlow(gf.Flow(gf.Euclidean(1), target="endpoint"), DiscreteFlow(2))
    net = lambda pair, t, c: (pair[0], torch.zeros(*pair[1].shape, 2))  # noqa: E731
    with pytest.raises(TypeError, match="given ones"):
        joint.sample(net, batch=2, method=Adaptive())
    with pytest.raises(ValueError, match="t = 1"):
        joint.sample(net, batch=2, method=rkmk4)
    with pytest.raises(ValueError, match="each point has its token"):
        joint.loss(net, (torch.zeros(3, 1), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match="the flow alone"):
        JointFlow(joint.flow, joint.modes, 0.0)
    with pytest.raises(ValueError, match="a MeanFlow jumps between two times"):
        JointFlow(gf.flows.MeanFlow(gf.Euclidean(1)), joint.modes)

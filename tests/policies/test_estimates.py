"""Estimates of poses that are not observed: tensors of the frame, blind to half turns, learned, not needed to act."""

from dataclasses import replace

import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.lie import se3
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.estimates import NUMBERS, PARTS, Estimator
from geoflow.policies.spec import PolicySpec

CONFIG = PolicyConfig(
    width=32, depth=1, horizon=8, observations=("tcp", "gripper"), estimated=("goal",), execute=4
)


def poses(*shape, seed=0):
    return se3.exp(torch.randn(*shape, 6, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(params=["mlp", "transformer", "invariant", "expert"])
def policy(request, demos):
    torch.manual_seed(0)
    config = replace(CONFIG, backbone=request.param)
    chunks = Chunks(demos, config.horizon, observations=config.recorded)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy, chunks


def test_estimates_follow_when_the_frame_is_changed():
    """What is to be estimated in the frame r is the same as of the poses T_rw T, in the world."""
    estimator, T, T_wr = Estimator(4, ["a", "b"], 8), poses(5, 2), poses(5, seed=1)
    identity = se3.identity(5)
    seen = estimator.true({"a": T[:, :1], "b": T[:, 1:]}, T_wr)
    local = se3.compose(se3.inverse(T_wr)[:, None], T)
    told = estimator.true({"a": local[:, :1], "b": local[:, 1:]}, identity)
    assert seen.shape == (5, 2, 2, NUMBERS)
    torch.testing.assert_close(seen[:, 1], told[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_change_the_columns_alone(axis):
    estimator, T, T_wr = Estimator(4, ["a"], 8), poses(5, 1), poses(5, seed=1)
    half = torch.zeros(7)
    half[4 + axis] = 1
    before, after = (estimator.true({"a": x}, T_wr) for x in (T, se3.compose(T, half)))
    position, columns, outer = PARTS
    torch.testing.assert_close(after[..., position], before[..., position])
    torch.testing.assert_close(after[..., outer], before[..., outer], atol=1e-5, rtol=0)
    assert (after[..., columns] - before[..., columns]).abs().max() > 0.5


def test_estimates_learn_what_can_be_known():
    """A body that stands still in the world, of which the position in the tool's frame is known, and no more."""
    torch.manual_seed(0)
    T, T_wr = poses(256, 1), poses(256, seed=1)
    obs = {"a": T}
    estimator = Estimator(3, ["a"], 64)
    estimator.fit(obs, T_wr)
    known = estimator.true(obs, T_wr)[:, 1, 0, :3]
    optimizer = torch.optim.Adam(estimator.parameters(), 3e-3)
    for _ in range(300):
        loss = estimator.loss(estimator(known, T_wr)[0], obs, T_wr).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    y, told = estimator(known, T_wr)
    errors = ((y - estimator.true(obs, T_wr)) / estimator.scale).square().mean((0, 2))
    assert told.shape == (256, 64)
    assert errors[1, PARTS[0]].mean() < 0.05


def test_who_acts_needs_no_estimated_pose(policy, demos):
    policy, chunks = policy
    obs = chunks.sample(3).obs
    assert set(policy.spec.kinds) == {"tcp", "gripper"}
    assert set(obs) == {"tcp", "gripper", "goal"}
    policy.eval()
    shown = {name: obs[name] for name in ("tcp", "gripper")}
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    a, b = (policy.act(x, generator=g) for x, g in zip((shown, obs), generators, strict=True))
    assert torch.equal(a, b)


def test_their_error_is_part_of_the_loss(policy):
    """With other true poses the loss is another by their error alone; every parameter is at work."""
    policy, chunks = policy
    batch = chunks.sample(6)
    moved = replace(batch, obs={**batch.obs, "goal": batch.obs["goal"].roll(1, 0)})
    losses = [policy(x, torch.Generator().manual_seed(0)) for x in (batch, moved)]
    with torch.no_grad():
        _, y = policy._conditioned(batch.obs)
        errors = [policy.conditioning.estimator.loss(y, x.obs, x.obs["tcp"][:, -1]) for x in (batch, moved)]
    torch.testing.assert_close(losses[1] - losses[0], errors[1] - errors[0], atol=1e-4, rtol=1e-4)
    losses[0].mean().backward()
    for name, parameter in policy.conditioning.estimator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "given",
    [{"observations": ()}, {"observations": ("tcp", "gripper", "goal")}],
)
def test_what_is_estimated_is_not_shown(given):
    with pytest.raises(ValueError, match=r"policy\.estimated=\['goal'\] beside policy\.observations"):
        replace(CONFIG, **given)
    with pytest.raises(ValueError, match=r"policy\.pictures='grid'; it is keypoints or blobs"):
        replace(CONFIG, pictures="grid")


def test_an_unknown_pose_is_named(demos):
    config = replace(CONFIG, estimated=("gaol",))
    chunks = Chunks(demos, 8, observations=config.recorded)
    policy = build_policy(config, PolicySpec.of(chunks))
    with pytest.raises(ValueError, match=r"policy\.estimated names 'gaol'.*goal"):
        policy.fit(chunks)


def test_a_policy_says_what_it_estimates(policy, demos):
    policy, chunks = policy
    obs = chunks.sample(3).obs
    y = policy.estimates({name: obs[name] for name in ("tcp", "gripper")})
    assert y.shape == (3, 2, 1, NUMBERS)
    assert y.isfinite().all()
    blind = build_policy(replace(CONFIG, estimated=()), PolicySpec.of(chunks))
    with pytest.raises(ValueError, match="estimates no poses"):
        blind.estimates(obs)

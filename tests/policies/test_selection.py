"""The likeliest of several chunks, on a policy whose density is known: two normal modes, a narrow and a wide one."""

import math
from dataclasses import replace

import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution, Executor
from geoflow.policies.selection import AT, PROBES, STEPS, likeliest, log_density, score_chunks
from geoflow.policies.spec import PolicySpec

SMALL = PolicyConfig(manifold="Euclidean", target="velocity", horizon=4, execute=2, width=16, depth=1, nfe=10)
MODES, WIDTHS = (1.5, -1.5), (0.2, 0.5)


def parts(u, t):
    """Of x_t for each mode, in units of the prior: log density (B, 2) and velocity (B, 2, T, D)."""
    logs, velocities = [], []
    for mode, width in zip(MODES, WIDTHS, strict=True):
        variance = (1 - t) ** 2 + (width * t) ** 2
        off = u - t * mode
        logs.append(
            (-0.5 * (off.square() / variance + (2 * math.pi * variance).log())).sum((1, 2)) - math.log(2)
        )
        velocities.append(mode + (width**2 * t - (1 - t)) / variance * off)
    return torch.stack(logs, 1), torch.stack(velocities, 1)


@pytest.fixture(scope="module")
def known(demos):
    """A policy with the velocity of the mixture in place of its network, in double precision; and observations."""
    torch.manual_seed(0)
    chunks = Chunks(demos, SMALL.horizon)
    policy = build_policy(SMALL, PolicySpec.of(chunks))
    policy.fit(chunks)
    policy.double().eval()

    def evaluate(features, t, cond, given=None):
        logs, velocities = parts((features - policy.chunk_mean) / policy.chunk_scale, t.reshape(-1, 1, 1))
        return (logs.softmax(1)[:, :, None, None] * velocities).sum(1)

    policy.evaluate_network = evaluate
    return policy, chunks.sample(24).obs


def units(policy, obs, chunk):
    """Chunks in units of the prior."""
    batched, _ = policy.batched(obs)
    return (policy.to_space(batched, chunk) - policy.chunk_mean) / policy.chunk_scale


def generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_densities_are_those_of_the_mixture(known):
    """With all directions and many steps; points about a mode keep their order with the few that are taken."""
    policy, obs = known
    cond = policy.condition(policy.batched(obs)[0])
    noise = torch.randn(24, 4, 10, generator=torch.Generator().manual_seed(1)).double()
    u = AT * MODES[0] + torch.linspace(0.1, 0.3, 24)[:, None, None] * noise
    points = policy.chunk_mean + policy.chunk_scale * u
    expected = parts(u, torch.tensor(AT).double())[0].logsumexp(1) - policy.chunk_scale.log().sum()
    exact = score_chunks(policy, points, cond, AT, 50, None)
    quick = score_chunks(policy, points, cond, AT, STEPS, PROBES)
    assert torch.corrcoef(torch.stack([exact, expected]))[0, 1] > 0.995
    assert torch.corrcoef(torch.stack([quick, expected]))[0, 1] > 0.97


def test_the_likeliest_chunk_is_of_the_narrow_mode(known):
    """Either mode is drawn as often; the narrow one has the larger density, and is taken where it was drawn."""
    policy, obs = known
    first = units(policy, obs, policy.act(obs, generator=generators(24))).mean((1, 2))
    best = units(policy, obs, likeliest(policy, obs, 16, generator=generators(24))).mean((1, 2))
    assert 4 < int((first > 0).sum()) < 20
    assert (best > 0).all()
    one = {name: x[5] for name, x in obs.items()}
    alone = likeliest(policy, one, 16, generator=generators(24)[5:6])
    torch.testing.assert_close(
        units(policy, {n: x[None] for n, x in one.items()}, alone[None]).mean(), best[5]
    )


def test_one_candidate_is_the_chunk_of_the_policy(known):
    policy, obs = known
    torch.testing.assert_close(
        likeliest(policy, obs, 1, generator=generators(24)), policy.act(obs, generator=generators(24))
    )


def test_an_execution_takes_the_likeliest(known):
    policy, obs = known
    executor = Executor(policy, Execution(2, candidates=16), size=24)
    actions = torch.from_numpy(executor.act(obs, range(24), generators(24)))
    torch.testing.assert_close(actions, likeliest(policy, obs, 16, generator=generators(24))[:, 0])


@pytest.mark.parametrize("target", ["endpoint", "velocity"])
@pytest.mark.parametrize("backbone", ["mlp", "expert"])
def test_every_flow_policy_has_densities(demos, target, backbone):
    """On the group as well, for vectors and for tokens; a chunk of its own is likelier than one far off."""
    config = replace(SMALL, manifold="SE3", target=target, backbone=backbone, width=64)
    chunks = Chunks(demos, SMALL.horizon)
    torch.manual_seed(0)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    batch = chunks.sample(6)
    near = likeliest(policy.eval(), batch.obs, 3, nfe=4, generator=generators(6))
    far = near.clone()
    far[..., :3] += 10.0
    assert near.shape == batch.actions.shape
    assert (log_density(policy, batch.obs, near) > log_density(policy, batch.obs, far)).all()


def test_what_has_no_density_is_said(known, demos):
    policy, obs = known
    for change, words in (
        ({"type": "ddpm", "target": "endpoint"}, "a DDPMPolicy does not say how likely"),
        ({"type": "regression", "target": "endpoint"}, "a RegressionPolicy does not"),
        ({"method": "MeanFlow()", "manifold": "SE3"}, "a MeanFlow does not"),
    ):
        other = build_policy(replace(SMALL, **change), policy.spec)
        with pytest.raises(ValueError, match=words):
            likeliest(other, obs, 4)
        with pytest.raises(ValueError, match=words):
            Executor(other, Execution(2, candidates=4))
    with pytest.raises(ValueError, match="candidates=0; give at least 1"):
        likeliest(policy, obs, 0)
    with pytest.raises(ValueError, match="candidates=0; give at least 1"):
        Execution(2, candidates=0)
    with pytest.raises(ValueError, match=r"candidates=4 with manner='guided'.* use naive"):
        Execution(2, manner="guided", candidates=4)
    with pytest.raises(ValueError, match=r"expected chunks of shape \(24, 4, 8\)"):
        log_density(policy, obs, torch.zeros(24, 3, 8))

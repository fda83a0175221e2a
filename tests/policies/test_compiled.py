"""A compiled step: the chunks of policy.act, for any number of evaluations, by one function."""

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import geoflow as gf
from geoflow.policies import compiled
from geoflow.policies.compiled import Compiled
from tests.policies.test_export import small
from tests.policies.test_graphed import observations


def drawn():
    return torch.Generator().manual_seed(3)


@pytest.mark.slow
def test_the_chunks_are_those_of_the_policy(demos):
    """Generated code, one step and several, two batch sizes."""
    policy = small(demos)
    fast = Compiled(policy, nfe=3)
    for batch, nfe in ((1, 1), (1, None), (1, 4), (3, 2)):
        obs = observations(policy, batch, seed=1)
        expected = policy.act(obs, nfe=nfe or 3, generator=drawn())
        torch.testing.assert_close(fast.act(obs, nfe=nfe, generator=drawn()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"manifold": "Euclidean"},
        {"backbone": "unet"},
        {"target": "velocity"},
        {"path": "Geodesic(Cosine())"},
    ],
    ids=str,
)
def test_one_function_serves_every_step_and_grid(demos, options, monkeypatch):
    """What is traced for the first step is run for all others: times are no constants of it."""
    counter, plain = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(compiled.torch, "compile", lambda f, **how: plain(f, backend=counter, **how))
    torch.compiler.reset()
    policy = small(demos, **options)
    fast, obs = Compiled(policy), observations(policy, 1, seed=2)
    for nfe in (1, 2, 5):
        expected = policy.act(obs, nfe=nfe, generator=drawn())
        torch.testing.assert_close(fast.act(obs, nfe=nfe, generator=drawn()), expected, atol=1e-4, rtol=0)
    assert counter.frame_count == 1


def test_any_number_of_batch_sizes(demos, monkeypatch):
    """As an evaluation has them, whose scenes end one by one: each is compiled once, also beyond torch's limit of 8."""
    counter, plain = CompileCounterWithBackend("eager"), torch.compile
    monkeypatch.setattr(compiled.torch, "compile", lambda f, **how: plain(f, backend=counter, **how))
    torch.compiler.reset()
    policy = small(demos)
    fast, sizes = Compiled(policy, nfe=1), range(1, 13)
    for batch in (*sizes, *sizes):
        obs = observations(policy, batch, seed=2)
        expected = policy.act(obs, nfe=1, generator=drawn())
        torch.testing.assert_close(fast.act(obs, generator=drawn()), expected, atol=1e-5, rtol=0)
    assert counter.frame_count == len(sizes)
    assert torch._dynamo.config.recompile_limit < len(sizes)


def test_a_broker_takes_it_for_a_policy(demos, monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", lambda f, **how: f)
    policy = small(demos)
    obs = {name: x[0, -1].numpy() for name, x in observations(policy, 1, seed=0).items()}
    actors: list[Any] = [policy, Compiled(policy)]
    alike = [gf.ChunkBroker(actor, generator=drawn()).act(obs) for actor in actors]
    torch.testing.assert_close(torch.from_numpy(alike[0]), torch.from_numpy(alike[1]), atol=1e-5, rtol=0)


def test_what_cannot_be_compiled(demos):
    with pytest.raises(ValueError, match="the solver is midpoint; only the Euler steps"):
        Compiled(small(demos, solver="midpoint"))
    with pytest.raises(ValueError, match="only the Euler steps of a policy of method"):
        Compiled(small(demos, method="MeanFlow()"))
    policy = small(demos)
    obs = observations(policy, 1, seed=0)
    with pytest.raises(ValueError, match=r"observations \['gripper'\] are missing|observation"):
        Compiled(policy).act({name: x for name, x in obs.items() if name != "gripper"})
    with pytest.raises(ValueError, match="this is made for euler"):
        Compiled(policy).act(obs, solver="midpoint")
    with pytest.raises(ValueError, match="nfe=0"):
        Compiled(policy).act(obs, nfe=0)

"""CUDA graphs: the chunks of policy.act, for every batch size, generator and number of evaluations."""

from typing import Any

import pytest
import torch

import geoflow as gf
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.graphed import Graphed
from geoflow.policies.sampler import ChunkSampler
from tests.policies.test_export import small

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def observations(policy, batch, seed):
    sampler = ChunkSampler(policy, 1)
    seen = (x.to(policy.length.device) for x in sampler.example(batch, seed)[1:])
    return dict(zip(sampler.names, seen, strict=True))


def test_without_a_gpu_the_error_says_what_is_fast_there(demos):
    with pytest.raises(ValueError, match="the policy is on cpu; CUDA graphs need a GPU"):
        Graphed(small(demos))


def seeing(backbone, shapes):
    """A policy that observes more than poses."""
    kinds = {"tcp": "pose"} | {name: name for name in shapes}
    spec = PolicySpec("walk", 20.0, kinds, {"tcp": (7,)} | shapes, 8)
    return build_policy(PolicyConfig(backbone=backbone, width=64, depth=1, horizon=4, execute=2), spec)


def test_a_text_is_refused():
    with pytest.raises(ValueError, match=r"told a text, .* policy\.act or Compiled"):
        Graphed(seeing("mlp", {"text": (8,)}))


@pytest.mark.parametrize("backbone", ["mlp", "unet", "transformer"])
def test_a_sampler_copies_nothing_from_the_host(demos, backbone, monkeypatch):
    """What a capture refuses is found without a GPU: tensors made of numbers inside the sampler."""
    replayed_without_the_host(small(demos, backbone=backbone), monkeypatch)


@pytest.mark.parametrize("backbone", ["mlp", "transformer", "expert"])
def test_nor_does_one_that_sees(backbone, monkeypatch):
    policy = seeing(backbone, {"points": (16, 3), "image": (16, 16, 3), "embedding": (8,)})
    replayed_without_the_host(policy.eval(), monkeypatch)


def replayed_without_the_host(policy, monkeypatch):
    sampler = ChunkSampler(policy, 2)
    inputs = sampler.example(batch=2)
    with torch.no_grad():
        expected = sampler(*inputs)  # warms up, as a capture does: tables are made in the first call

        def refuse(*args, **kwargs):
            raise AssertionError("a tensor was made of numbers of the host")

        for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")):
            monkeypatch.setattr(owner, name, refuse)
        for name in ("item", "tolist", "__bool__", "__float__"):
            monkeypatch.setattr(torch.Tensor, name, refuse)
        again = sampler(*inputs)
    monkeypatch.undo()
    torch.testing.assert_close(again, expected)


@needs_gpu
@pytest.mark.parametrize("manifold", ["SE3", "Euclidean"])
def test_the_chunks_are_those_of_the_policy(demos, manifold):
    """Two batch sizes, two numbers of evaluations, twice each: no capture is disturbed by another."""
    policy = small(demos, manifold=manifold).cuda()
    fast = Graphed(policy, nfe=4)
    for seed in (1, 2):
        for batch in (1, 3):
            for nfe in (1, 4):
                obs = observations(policy, batch, seed)
                draw = [torch.Generator().manual_seed(seed) for _ in range(2)]
                expected = policy.act(obs, nfe=nfe, generator=draw[0])
                torch.testing.assert_close(
                    fast.act(obs, nfe=nfe, generator=draw[1]), expected, atol=1e-5, rtol=0
                )


@needs_gpu
def test_a_chunk_survives_the_next_and_weights_may_change(demos):
    policy = small(demos).cuda()
    fast, obs = Graphed(policy, nfe=2), observations(policy, 2, seed=0)
    first = fast.act(obs, generator=torch.Generator().manual_seed(0))
    kept = first.clone()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    second = fast.act(obs, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first, kept)
    assert not torch.allclose(first, second)
    expected = policy.act(obs, nfe=2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(second, expected, atol=1e-5, rtol=0)


@needs_gpu
def test_a_broker_takes_it_for_a_policy(demos):
    policy = small(demos).cuda()
    alike, actors = [], [policy, Graphed(policy)]
    actor: Any
    for actor in actors:
        broker = gf.ChunkBroker(actor, generator=torch.Generator().manual_seed(0))
        obs = {name: x[0, -1].cpu().numpy() for name, x in observations(policy, 1, seed=0).items()}
        alike.append(torch.from_numpy(broker.act(obs)))
    torch.testing.assert_close(*alike, atol=1e-5, rtol=0)


@needs_gpu
def test_256_chunks_are_256_single_chunks():
    spec = PolicySpec("walk", 20.0, {"tcp": "pose"}, {"tcp": (7,)}, action_dim=8)
    torch.manual_seed(0)
    policy = build_policy(PolicyConfig(width=64, depth=2), spec).cuda().eval()
    fast, obs = Graphed(policy, nfe=4), observations(policy, 256, seed=0)
    generators = [torch.Generator().manual_seed(i) for i in range(256)]
    chunks = fast.act(obs, generator=generators)
    for i in (0, 100, 255):
        alone = fast.act({"tcp": obs["tcp"][i : i + 1]}, generator=[torch.Generator().manual_seed(i)])
        torch.testing.assert_close(alone[0], chunks[i], atol=1e-5, rtol=0)

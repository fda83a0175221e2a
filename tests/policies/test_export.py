"""Exported samplers: the same chunks as the policy, metadata for a robot, and nothing left of a failure."""

import json

import numpy as np
import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.export import ChunkSampler, export
from scripts.robot_loop import Robot


def small(demos, **options):
    torch.manual_seed(0)
    chunks = Chunks(demos, 4, options.get("observation_steps", 1))
    policy = build_policy(
        PolicyConfig(width=16, depth=1, horizon=4, execute=2, **options), PolicySpec.of(chunks)
    )
    policy.fit(chunks)
    return policy.eval()


def test_the_sampler_is_the_policy(demos):
    """Given the noise that the policy draws, ChunkSampler gives the policy's chunk."""
    policy = small(demos)
    noise, *observations = ChunkSampler(policy, 3).example(batch=2)
    noise = torch.randn(noise.shape, generator=torch.Generator().manual_seed(5))
    obs = dict(zip(policy.spec.kinds, observations, strict=True))
    with torch.no_grad():
        expected = policy.act(obs, nfe=3, generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(ChunkSampler(policy, 3)(noise, *observations), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"manifold": "Euclidean", "observation_steps": 2}], ids=["SE3", "Euclidean"]
)
def test_onnx_gives_the_same_chunks_to_a_robot(demos, tmp_path, options):
    policy = small(demos, **options)
    facts = export(policy, tmp_path / "policy.onnx", nfe=1)
    assert facts["largest_difference"] < 1e-4
    robot = Robot(str(tmp_path / "policy.onnx"))
    assert robot.facts["execute"] == 2
    noise, *observations = ChunkSampler(policy, 1).example()
    window = {name: x[0].numpy() for name, x in zip(policy.spec.kinds, observations, strict=True)}
    drawn = np.random.default_rng(0).standard_normal(noise.shape).astype(np.float32)
    with torch.no_grad():
        expected = ChunkSampler(policy, 1)(torch.from_numpy(drawn), *observations)[0]
    np.testing.assert_allclose(robot.chunk(window), expected.numpy(), atol=1e-4)
    commands = []
    robot.run(lambda: {name: past[-1] for name, past in window.items()}, commands.append, steps=4)
    assert np.isfinite(commands).all()
    assert len(commands) == 4


@pytest.mark.slow
def test_torch_export(demos, tmp_path):
    facts = export(small(demos), tmp_path / "policy.pt2", nfe=1)
    assert facts["largest_difference"] < 1e-5
    assert (tmp_path / "policy.pt2").stat().st_size > 0
    json.dumps(facts)


@pytest.mark.parametrize(
    ("options", "name", "nfe", "says"),
    [
        ({"type": "ddpm", "manifold": "Euclidean"}, "policy.onnx", 2, "only flow policies"),
        ({"prior": "haar"}, "policy.onnx", 2, "prior 'haar'"),
        ({}, "policy.pt", 2, r"\.onnx or \.pt2"),
        ({"solver": "midpoint", "nfe": 10}, "policy.onnx", 3, "multiple of 2"),
    ],
)
def test_what_cannot_be_exported(demos, tmp_path, options, name, nfe, says):
    policy = small(demos, **options)
    with pytest.raises(ValueError, match=says):
        export(policy, tmp_path / name, nfe)
    assert not list(tmp_path.iterdir())

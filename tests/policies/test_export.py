"""Exported samplers: the same chunks as the policy, metadata for a robot, and nothing left of a failure."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.export import ChunkSampler, export
from geoflow.policies.int8 import blocks
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


def bare(control_hz=1000.0, steps=1, execute=4):
    """A robot's loop without a graph, that sees a number x and a pose."""
    robot = Robot.__new__(Robot)
    inputs = {"x": [1, steps, 1], "tcp": [1, steps, 7]}
    robot.facts = {"execute": execute, "control_hz": control_hz, "inputs": inputs, "poses": ["tcp"]}
    robot.types, robot.steps = {"x": np.float32, "tcp": np.float32}, steps
    robot.chunk = lambda window: np.zeros((6, 8))
    robot.reset()
    return robot


SEEN = {"x": np.zeros(1), "tcp": np.eye(7)[3]}


def test_a_robot_is_commanded_at_the_rate_of_its_policy():
    """An observation that is there at once makes it no faster; a slow one is not caught up with."""
    times, period = [], 0.02
    seen = iter([0, 0, 0, 5 * period, 0, 0, 0])

    def observe():
        time.sleep(next(seen))
        return SEEN

    robot, begin = bare(1 / period), time.perf_counter()
    robot.run(observe, lambda action: times.append(time.perf_counter()), steps=7)
    assert (times[:4] >= begin + period * np.arange(4)).all()
    assert times[4] - times[3] >= period
    assert times[6] - times[3] >= 3 * period


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": None}, "'x' is None; expected finite numbers of shape (1,)"),
        ({"x": np.zeros(2)}, "'x' is array([0., 0.]); expected finite numbers of shape (1,)"),
        ({"x": np.array([np.nan])}, "'x' is array([nan])"),
        ({"x": np.array(["a"])}, "'x' is array(['a']"),
        ({"tcp": np.zeros(7)}, "the last four a unit quaternion"),
    ],
)
def test_a_robot_refuses_what_is_no_observation(change, says):
    """Also while a chunk is executed; what was refused is not remembered."""
    robot = bare(steps=2)
    robot.act(SEEN)
    for obs in ({**SEEN, **change}, {name: x for name, x in SEEN.items() if name not in change}):
        with pytest.raises(ValueError, match=re.escape(says) if obs.keys() == SEEN.keys() else "is None"):
            robot.act(obs)
    assert len(robot.past) == 2
    assert len(robot.plan) == 3


def test_a_robot_observes_before_every_command_and_stops_in_time():
    """Windows are of consecutive ticks, whatever is executed of a chunk; an episode begins with its first repeated."""
    robot = bare(steps=3)
    windows, commands = [], []
    robot.chunk = lambda window: windows.append(window["x"].ravel().tolist()) or np.full((6, 8), len(windows))
    for _ in range(2):
        robot.run(lambda: {**SEEN, "x": np.array([len(commands)])}, commands.append, steps=9)
    assert windows == [[0, 0, 0], [2, 3, 4], [6, 7, 8], [9, 9, 9], [11, 12, 13], [15, 16, 17]]
    assert [command[0] for command in commands] == [1] * 4 + [2] * 4 + [3] + [4] * 4 + [5] * 4 + [6]


@pytest.mark.slow
def test_int8_weights_are_smaller_and_what_they_move_is_told(demos, tmp_path):
    """The facts say how far chunks are moved over real observations, and a robot's chunks are moved as far."""
    torch.manual_seed(0)
    chunks = Chunks(demos, 4)
    policy = build_policy(PolicyConfig(width=256, depth=2, horizon=4, execute=2), PolicySpec.of(chunks))
    policy.fit(chunks)
    seen = chunks.sample(5).obs
    facts = export(policy.eval(), tmp_path / "policy.onnx", 2, "int8", seen)
    size = sum(x.numel() for x in policy.parameters())
    assert (tmp_path / "policy.onnx").stat().st_size < 0.8 * 4 * size
    assert facts["weights"] == "int8"
    assert facts["moved"]["observations"] == 5
    robot = Robot(str(tmp_path / "policy.onnx"))
    assert robot.facts == json.loads(json.dumps(facts))
    noise = ChunkSampler(policy, 2).noise(5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = ChunkSampler(policy, 2)(noise, *(seen[name] for name in policy.spec.kinds))
    ways = []
    for i in range(5):
        feeds = {name: seen[name][i : i + 1].numpy() for name in policy.spec.kinds}
        found = robot.session.run(None, {"noise": noise[i : i + 1].numpy(), **feeds})[0]
        ways.append(np.linalg.norm(found[0, :, :3] - exact[i, :, :3].numpy(), axis=-1).max())
    assert facts["moved"]["worst_m"] == pytest.approx(max(ways), rel=1e-3)
    assert facts["moved"]["median_m"] == pytest.approx(np.median(ways), rel=1e-3)
    assert 1e-6 < max(ways) < 5e-3


def test_blocks_are_as_near_as_their_steps():
    """w = s (q - 128) up to s / 2; a block of zeros stays zero."""
    W = np.random.default_rng(0).standard_normal((5, 96)).astype(np.float32)
    W[2, 32:64] = 0
    q, s = blocks(W)
    steps = s.reshape(5, 3, 1)
    back = (steps * (q.astype(np.float32) - 128)).reshape(5, 96)
    assert (np.abs(back - W).reshape(5, 3, 32) <= 0.5001 * steps).all()
    assert not back[2, 32:64].any()


@pytest.mark.slow
def test_torch_export_leaves_the_policy_as_it_is(demos, tmp_path):
    policy = small(demos).train()
    count = policy.parameter_count
    facts = export(policy, tmp_path / "policy.pt2", nfe=1)
    assert policy.training
    assert policy.parameter_count == count > 0
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


def seeing(kind, shape):
    spec = PolicySpec("x/Y-v0", 20.0, {"tcp": "pose", "seen": kind}, {"tcp": (7,), "seen": shape}, 8)
    return build_policy(PolicyConfig(width=16, depth=1, horizon=4, execute=2), spec).eval()


@pytest.mark.slow
def test_a_robot_shows_pictures_as_they_are(tmp_path):
    """As bytes, like the policy's own: the graph knows what they mean."""
    policy, rng = seeing("image", (16, 16, 3)), np.random.default_rng(0)
    export(policy, tmp_path / "policy.onnx", 1)
    robot, noise = Robot(str(tmp_path / "policy.onnx")), ChunkSampler(policy, 1).noise(1)
    robot.rng = SimpleNamespace(standard_normal=lambda shape: noise.numpy())  # pyright: ignore[reportAttributeAccessIssue]
    picture = rng.integers(256, size=(1, 16, 16, 3), dtype=np.uint8)
    tcp = np.eye(1, 7, 3, dtype=np.float32)
    seen = (torch.from_numpy(x)[None] for x in (tcp, picture))
    expected = ChunkSampler(policy, 1)(noise, *seen)[0]
    np.testing.assert_allclose(robot.chunk({"tcp": tcp, "seen": picture}), expected.detach(), atol=1e-5)


def test_what_is_told_in_words_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="'seen' is a text"):
        export(seeing("text", (8,)), tmp_path / "policy.onnx", 1)
    assert not list(tmp_path.iterdir())


def test_observations_of_another_policy_are_refused_before_the_export(demos, tmp_path):
    policy = small(demos)
    seen = Chunks(demos, 4).sample(3).obs
    for wrong, says in (
        ({name: x for name, x in seen.items() if name != "goal"}, "'goal' is missing"),
        ({**seen, "goal": seen["goal"][..., :6]}, "'goal' has shape"),
    ):
        with pytest.raises(ValueError, match=says):
            export(policy, tmp_path / "policy.onnx", 2, "int8", wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("policy.onnx", "int4", "one of float32, int8"),
        ("policy.onnx", "int8", "give observations"),
        ("policy.pt2", "int8", r"for \.onnx files"),
    ],
)
def test_weights_that_cannot_be(demos, tmp_path, name, weights, says):
    with pytest.raises(ValueError, match=says):
        export(small(demos), tmp_path / name, 2, weights)
    assert not list(tmp_path.iterdir())

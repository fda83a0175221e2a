"""What is no observation is refused in a sentence, and what a broker is not given it holds."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.chunking import ObservationHistory
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution
from geoflow.policies.flow import FlowPolicy
from geoflow.policies.onward import Onward
from geoflow.policies.selection import likeliest
from geoflow.policies.spec import PolicySpec

SMALL = PolicyConfig(width=16, depth=1, horizon=8, execute=4)


@pytest.fixture(scope="module")
def chunks(demos):
    return Chunks(demos, SMALL.horizon)


def built(chunks, **options):
    torch.manual_seed(0)
    policy = build_policy(replace(SMALL, **options), PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy


@pytest.fixture(scope="module")
def policy(chunks):
    return built(chunks)


@pytest.fixture
def obs(chunks):
    return {name: x[0, -1].numpy() for name, x in chunks.sample(1).obs.items()}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.full(7, np.nan), "'tcp' has a number that is not finite"),
        (np.array([np.inf, 0, 0, 1, 0, 0, 0]), "'tcp' has a number that is not finite"),
        (np.zeros(7), "'tcp' has a quaternion of norm 0; expected poses"),
        (np.array([0, 0, 0, 0.5, 0.5, 0, 0]), "'tcp' has a quaternion of norm 0.707"),
        ([[1.0, 2.0], [1.0]], "'tcp' is no array"),
        (object(), "'tcp' is object"),
        (torch.zeros(7, dtype=torch.complex64), "'tcp' is torch.complex64"),
        (np.eye(4), r"'tcp' has shape \(1, 4, 4\); this policy was trained on \(B, 1, 7\)"),
        (None, r"'tcp' is missing \(pose, shape \(7,\)\)"),
    ],
)
def test_what_is_no_pose_is_refused(policy, obs, value, says):
    with pytest.raises(ValueError, match=says) as refusal:
        policy.act({**obs, "tcp": value})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("off", [0.91, 1.004, 1.09])
def test_a_quaternion_of_few_digits_is_one_of_norm_one(policy, obs, off):
    """The same rotation: the same chunk, whose quaternions have norm one; a unit one stays as it is, to the bit."""
    longer = {**obs, "tcp": np.concatenate([obs["tcp"][:3], off * obs["tcp"][3:]])}
    chunks = [policy.act(o, generator=torch.Generator().manual_seed(0)) for o in (obs, longer)]
    torch.testing.assert_close(*chunks, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chunks[1][:, 3:7].norm(dim=-1), torch.ones(SMALL.horizon))
    taken = policy.batched({name: np.stack([x, longer[name]])[:, None] for name, x in obs.items()})[0]
    np.testing.assert_array_equal(taken["tcp"][0, 0].numpy(), obs["tcp"])
    np.testing.assert_allclose(taken["tcp"][1, 0].numpy(), obs["tcp"], atol=1e-6)


def test_infinity_says_nothing_of_what_may_be_missing(chunks, obs):
    policy = built(chunks, optional=("gripper",))
    assert policy.act({**obs, "gripper": np.array([np.nan])}).isfinite().all()
    for value in (np.inf, -np.inf):
        with pytest.raises(
            ValueError, match=r"'gripper' has a number that is infinite; .* give None, or NaN"
        ):
            policy.act({**obs, "gripper": np.array([value])})


@pytest.mark.parametrize("given", [None, np.zeros(7), [{}], "tcp"])
def test_observations_come_by_name(policy, given):
    with pytest.raises(TypeError, match=r"expected observations by name, such as \{'"):
        policy.act(given)
    with pytest.raises(TypeError, match="expected an observation by name"):
        gf.ChunkBroker(policy).act(given)


@pytest.mark.parametrize("nfe", [0, -1, 1.5, "4"])
def test_an_impossible_nfe_is_refused(policy, obs, nfe):
    with pytest.raises(ValueError, match="a chunk needs at least 1 network evaluation"):
        policy.act(obs, nfe=nfe)
    with pytest.raises(ValueError, match="a chunk needs at least 1 network evaluation"):
        likeliest(policy, obs, 2, nfe=nfe)


def test_a_seed_is_no_generator(policy, obs):
    with pytest.raises(TypeError, match="generator=3; expected a"):
        policy.act(obs, generator=3)


def test_a_folder_is_no_policy():
    with pytest.raises(TypeError, match=r"ChunkBroker\(load_policy\('runs/peg'\)\)"):
        gf.ChunkBroker("runs/peg")


def test_a_folder_of_runs_says_which_are_in_it(tmp_path):
    (tmp_path / "seed_1").mkdir()
    (tmp_path / "seed_1" / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"config.json is missing; .*, such as .*seed_1\."):
        gf.load_policy(tmp_path)


def test_a_checkpoint_of_another_version_names_what_is_unknown(tmp_path):
    (tmp_path / "model.safetensors").touch()
    config = {"config": {"policy": {"type": "flow", "drift": 2}}, "spec": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"of another version of geoflow; this one has no policy\.drift\."):
        gf.load_policy(tmp_path)


def history(steps, **shapes):
    """Of a policy that sees vectors of these shapes."""
    spec = PolicySpec(
        "x/Y-v0", 20.0, {"tcp": "pose"} | dict.fromkeys(shapes, "vector"), {"tcp": (7,)} | shapes, 8
    )
    return ObservationHistory(build_policy(replace(SMALL, observation_steps=steps), spec))


def pushed(history, **obs):
    """The window of an observation, which is kept."""
    window = history.window({name: None if x is None else np.array(x) for name, x in obs.items()})
    history.append(window)
    return window


def test_what_is_missing_in_between_stays_as_it_was():
    """A camera that is slower than the robot: None, or not there; what is not there now is not given."""
    seen = history(3, a=(1,), b=(1,))
    pushed(seen, a=[1])
    pushed(seen, a=[2], b=[5])
    assert pushed(seen, a=[3], b=[6])["b"].ravel().tolist() == [5, 5, 6]
    assert set(pushed(seen, a=[4], b=None)) == {"a"}
    window = pushed(seen, a=[5], b=[8])
    assert window["a"].ravel().tolist() == [3, 4, 5]
    assert window["b"].ravel().tolist() == [6, 6, 8]


def test_a_history_keeps_what_was_not_what_a_buffer_holds_now():
    seen, buffer = history(2, a=(1,)), np.zeros(1)
    seen.append(seen.window({"a": buffer}))
    buffer[:] = 1
    np.testing.assert_array_equal(seen.window({"a": buffer})["a"], [[0], [1]])


def test_what_the_policy_does_not_use_keeps_its_shape():
    seen = history(2, a=(1,))
    pushed(seen, a=[0], b=[0, 0])
    with pytest.raises(ValueError, match=r"'b' has shape \(3,\), in the history \[\(2,\)\]"):
        pushed(seen, a=[1], b=[0, 0, 0])
    assert pushed(seen, a=[1], b=[1, 1])["b"].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("broker", [gf.ChunkBroker, gf.RealTimeBroker])
@pytest.mark.parametrize("tick", [0, 1, 2])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros(6), r"'tcp' has shape"),
        (np.full(7, np.nan), "'tcp' has a number that is not finite"),
        (np.zeros(7), "'tcp' has a quaternion of norm 0"),
    ],
    ids=["shape", "nan", "norm"],
)
def test_what_is_refused_is_not_remembered(demos, broker, tick, bad, says):
    """At a tick of a prediction or between two, a broker goes on as if it had not been there."""
    chunks = Chunks(demos, SMALL.horizon, 2)
    policy = built(chunks, observation_steps=2, execute=2)
    obs = {name: x[0, -1].numpy() for name, x in chunks.sample(1).obs.items()}
    acted = []
    for bad_ticks in ((), (tick,)):
        acting = broker(policy, generator=torch.Generator().manual_seed(0))
        acted.append([])
        for now in range(5):
            if now in bad_ticks:
                with pytest.raises(ValueError, match=says):
                    acting.act({**obs, "tcp": bad})
            if getattr(acting, "_pending", None) is not None:
                acting._pending[1].result(timeout=10)
            acted[-1].append(acting.act(obs))
    np.testing.assert_array_equal(*acted)


def test_what_misses_something_is_not_remembered_where_a_chunk_was_due(demos):
    chunks = Chunks(demos, SMALL.horizon, 2)
    policy = built(chunks, observation_steps=2)
    first, second = ({n: x[i, -1].numpy() for n, x in chunks.sample(2).obs.items()} for i in range(2))
    brokers = [gf.ChunkBroker(policy, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    with pytest.raises(ValueError, match="missing"):
        brokers[0].act({"tcp": first["tcp"]})
    np.testing.assert_array_equal(*(broker.act(second) for broker in brokers))


def test_observations_are_batched_all_or_none(policy, obs):
    mixed = {name: x if name == "tcp" else x[None, None] for name, x in obs.items()}
    with pytest.raises(ValueError, match=r"\['tcp'\] are of one scene and"):
        policy.act(mixed)
    batches = {name: np.stack([x[None]] * (3 if name == "tcp" else 2)) for name, x in obs.items()}
    with pytest.raises(ValueError, match="expected as many of each observation"):
        policy.act(batches)


class Unguided(FlowPolicy):
    """A policy of somebody else's that knows nothing of chunks under way."""

    def sample_chunk(self, cond, nfe, solver, generator, *, path=False):
        return super().sample_chunk(cond, nfe, solver, generator, path=path)


class Short(FlowPolicy):
    """One whose loss does not take given steps."""

    def chunk_loss(self, x_1, cond, generator):
        return super().chunk_loss(x_1, cond, generator)


def test_methods_that_take_too_little_are_named(chunks, obs):
    """When the policy is made where it will need them, when it is used so where it may do without."""
    policy = built(chunks, type=f"{__name__}:Unguided")
    chunk = policy.act(obs, generator=torch.Generator().manual_seed(0))
    for manner, warm_start, name in (("guided", None, "goal"), ("naive", 0.5, "warm_start")):
        with pytest.raises(ValueError, match=f"Unguided.sample_chunk does not take {name}"):
            policy.act(obs, onward=Onward(chunk, 2, manner, warm_start))
    with pytest.raises(ValueError, match="sample_chunk does not take given"):
        built(chunks, type=f"{__name__}:Unguided", given_steps=2)
    with pytest.raises(ValueError, match="chunk_loss does not take given"):
        built(chunks, type=f"{__name__}:Short", given_steps=2)
    assert built(chunks, type=f"{__name__}:Short")(chunks.sample(2)).shape == (2,)


def test_steps_are_whole_and_manners_known():
    for options in ({"execute": 1.5}, {"execute": 4, "delay": 0.5}, {"execute": 4, "candidates": "2"}):
        with pytest.raises(ValueError, match="expected a whole number"):
            Execution(**options)
    with pytest.raises(ValueError, match="manner='fast'; it is one of naive, joined, guided, given"):
        Onward(torch.zeros(4, 8), 2, "fast")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"manifold": "R3xSO3"}, "policy.manifold='SE3', and the policy to begin from has 'R3xSO3'"),
        ({"frame": "world"}, "policy.frame='tcp', and the policy to begin from has 'world'"),
        ({"target": "velocity"}, "policy.target='endpoint'"),
        ({"type": "ddpm", "manifold": "Euclidean"}, "policy.type='flow'"),
        (
            {"method": "MeanFlow()"},
            r"policy.method='Flow\(\)', and the policy to begin from has 'MeanFlow\(\)'",
        ),
        ({"width": 32}, "a policy of another shape to begin from"),
    ],
)
def test_weights_that_mean_something_else_are_no_beginning(chunks, policy, options, says):
    with pytest.raises(ValueError, match=says):
        policy.begin_from(built(chunks, **options))


def test_a_flow_map_begins_from_a_flow_map(chunks, policy):
    """Their networks mean the same, whatever rule taught them; one of a velocity alone reads times otherwise."""
    shortcut, mean_flow = (built(chunks, method=f"{name}()") for name in ("Shortcut", "MeanFlow"))
    for parameter in mean_flow.parameters():
        parameter.data += 0.1
    shortcut.begin_from(mean_flow)
    assert all(torch.equal(x, y) for x, y in zip(shortcut.parameters(), mean_flow.parameters(), strict=True))
    with pytest.raises(ValueError, match="reads times otherwise"):
        mean_flow.begin_from(policy)


def test_weights_that_saw_something_else_are_no_beginning(chunks, policy):
    other = built(chunks)
    names = {name: "hole" if name == "goal" else name for name in other.spec.kinds}
    other.spec = replace(other.spec, kinds={names[name]: kind for name, kind in other.spec.kinds.items()})
    with pytest.raises(
        ValueError, match=r"sees .*goal \(pose\).*; the one to begin from sees .*hole \(pose\)"
    ):
        policy.begin_from(other)
    other.spec = replace(policy.spec, control_hz=10.0)
    with pytest.raises(ValueError, match="actions a second: 20"):
        policy.begin_from(other)

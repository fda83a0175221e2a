"""One policy of several tasks: windows of several files, observations that a task lacks, what it needs and was told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.data.demonstrations import DemonstrationError, Meta, write
from geoflow.experiments.config import Config, TrainConfig, load
from geoflow.experiments.training import train
from geoflow.policies.backbones import BACKBONES
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import VectorEncoder, tokenise
from geoflow.policies.spec import PolicySpec
from tests import walks

SMALL = PolicyConfig(width=64, depth=1, horizon=4, execute=2, nfe=2, optional=("instruction",))
LAMP = "bring light"


def lamps(seed):
    """A walk to a lamp: as `walks.episode`, but the goal has another name, there is a vector more, and a text."""
    walk = walks.episode(seed)
    n = len(walk)
    text = tokenise(LAMP, 12).numpy()
    obs = {"lamp" if name == "goal" else name: x for name, x in walk.obs.items()}
    return replace(
        walk, obs={**obs, "watts": np.full((n, 2), seed, np.float32), "instruction": np.stack([text] * n)}
    )


LAMP_KINDS = {"tcp": "pose", "lamp": "pose", "gripper": "vector", "watts": "vector", "instruction": "text"}


def write_lamps(path, seeds=range(20), **changes):
    meta = {
        "env_id": "tests/Lamp-v0",
        "env_kwargs": {"level": 1},
        "control_hz": 20.0,
        "observation_kinds": LAMP_KINDS,
    }
    write(path, Meta(**{**meta, **changes}), (lamps(seed) for seed in seeds))
    return path


@pytest.fixture(scope="module")
def both(demos, tmp_path_factory):
    return demos, write_lamps(tmp_path_factory.mktemp("demos") / "lamp.h5")


def fitted(paths, config):
    torch.manual_seed(0)
    chunks = Chunks(paths, config.horizon, config.observation_steps)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy, chunks


def awake(policy):
    for parameter in policy.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    return policy.eval()


def generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_windows_of_several_files_are_those_of_each(both):
    """First the windows of one file, then of the other; what a file does not have is not there."""
    walk, lamp, together = Chunks(both[0], 6), Chunks(both[1], 6), Chunks(both, 6)
    assert len(together) == len(walk) + len(lamp)
    for alone, start in ((walk, 0), (lamp, len(walk))):
        index = np.arange(0, len(alone), 7)
        one, batch = alone.batch(index), together.batch(start + index)
        torch.testing.assert_close(batch.actions, one.actions, rtol=0, atol=0)
        for name, x in batch.obs.items():
            if name in one.obs:
                torch.testing.assert_close(x, one.obs[name], rtol=0, atol=0)
            elif name == "instruction":
                assert not x.any()
            else:
                assert x.isnan().all()
    assert together.texts == {"instruction": {LAMP}}


def test_only_what_is_asked_for_is_read(both):
    chunks = Chunks(both, 6, observations=("tcp", "watts"))
    assert chunks.batch(np.array([0, len(chunks) - 1])).obs.keys() == {"tcp", "watts"}
    assert chunks.kinds == {**walks.KINDS, **LAMP_KINDS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control_hz": 10.0}, "recorded at 10 actions a second"),
        ({"observation_kinds": {**LAMP_KINDS, "gripper": "embedding"}}, "'gripper' as embedding of shape"),
    ],
)
def test_files_that_do_not_go_together_are_refused(demos, tmp_path, changes, words):
    path = write_lamps(tmp_path / "other.h5", range(2), **changes)
    with pytest.raises(DemonstrationError, match=words):
        Chunks([demos, path], 6)


def test_pictures_are_in_all_files_or_in_none(demos, tmp_path):
    episode = walks.episode(0)
    episode = replace(episode, obs={**episode.obs, "camera": np.zeros((len(episode), 20, 20, 3), np.uint8)})
    kinds = {**walks.KINDS, "camera": "image"}
    write(tmp_path / "seen.h5", Meta("tests/Walk-v0", {}, 20.0, kinds), [episode])
    paths = [demos, tmp_path / "seen.h5"]
    with pytest.raises(DemonstrationError, match="has no pictures 'camera'"):
        Chunks(paths, 6)
    assert len(Chunks(paths, 6, observations=("tcp",)))


def test_numbers_that_are_not_there_leave_no_trace():
    """Mean and spread are those of the rows that are; the mean stands for what is not."""
    torch.manual_seed(0)
    encoder, x = VectorEncoder(3, 8), torch.randn(50, 3)
    gaps = x.clone()
    gaps[:20, 1] = torch.nan
    encoder.fit(gaps)
    torch.testing.assert_close(encoder.mean, torch.stack([x[:, 0].mean(), x[20:, 1].mean(), x[:, 2].mean()]))
    torch.testing.assert_close(encoder.scale, torch.stack([x[:, 0].std(), x[20:, 1].std(), x[:, 2].std()]))
    filled = torch.where(gaps.isnan(), encoder.mean, gaps)
    torch.testing.assert_close(encoder(gaps), encoder(filled))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_learns_and_acts_in_both_tasks(both, backbone):
    """Finite gradients on a mixed batch; in each task the names of the other need not be given."""
    policy, chunks = fitted(both, replace(SMALL, backbone=backbone))
    assert {*policy.spec.partial} == {"goal", "lamp", "watts", "instruction"}
    batch = chunks.sample(12)
    policy(batch, torch.Generator().manual_seed(0)).mean().backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    awake(policy)
    mixed = policy.act(batch.obs, generator=generators(12))
    assert mixed.isfinite().all()
    for i in range(12):
        there = {name: x[i] for name, x in batch.obs.items() if not x[i].isnan().any()}
        alone = policy.act(there, generator=generators(12)[i : i + 1])
        torch.testing.assert_close(alone, mixed[i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["transformer", "expert"])
def test_a_token_of_another_task_says_nothing(both, backbone):
    """Whatever the encoder of a pose that is not there holds, the chunk is the same."""
    policy, chunks = fitted(both, replace(SMALL, backbone=backbone))
    obs = awake(policy) and {name: x[:1] for name, x in chunks.batch(np.array([3])).obs.items()}
    before = policy.act(obs, generator=generators(1))
    lamp = policy.conditioning.state.poses.index("lamp")
    for parameter in policy.conditioning.encoder.encoders[lamp].parameters():
        parameter.data += 1.0
    torch.testing.assert_close(policy.act(obs, generator=generators(1)), before, rtol=0, atol=0)


def test_one_policy_of_two_tasks_is_trained_saved_and_read_back(both, tmp_path):
    config = Config(policy=SMALL, train=TrainConfig(demos=tuple(map(str, both)), steps=2, batch_size=8))
    policy = gf.load_policy(train(config, tmp_path / "run", device="cpu"))
    assert [task.env_id for task in policy.spec.tasks] == ["tests/Walk-v0", "tests/Lamp-v0"]
    assert policy.spec.several
    assert policy.spec.task("somewhere:tests/Lamp-v0").env_kwargs == {"level": 1}
    assert policy.spec.texts == {"instruction": (LAMP,)}
    with pytest.raises(ValueError, match=r"none of the tasks .*: tests/Lamp-v0, tests/Walk-v0"):
        policy.spec.task("tests/Peg-v0")
    obs = {name: x[0] for name, x in lamps(3).obs.items()}
    assert policy.act({**obs, "instruction": "light bring"}).shape == (4, 8)
    assert policy.act({name: x for name, x in obs.items() if name != "instruction"}).shape == (4, 8)
    needs = (
        r"tests/Walk-v0: goal, gripper, tcp; tests/Lamp-v0: gripper, lamp, tcp, watts\), and was given \['gri"
    )
    with pytest.raises(ValueError, match=needs):
        policy.act({name: x for name, x in obs.items() if name != "watts"})
    with pytest.raises(ValueError, match=f"never read 'dark'; it was trained on such as '{LAMP}'"):
        policy.act({**obs, "instruction": "bring dark"})


@pytest.mark.parametrize("felt_first", [True, False])
def test_demonstrations_of_one_task_may_see_more_than_others(demos, tmp_path, felt_first):
    """A policy of both takes either's observations, in whatever order the files were named."""
    felt = replace(walk := walks.episode(0), obs={**walk.obs, "force": np.zeros((len(walk), 3), np.float32)})
    kinds = {**walks.KINDS, "force": "vector"}
    write(tmp_path / "force.h5", Meta("tests/Walk-v0", {}, 20.0, kinds), [felt])
    paths = [tmp_path / "force.h5", demos] if felt_first else [demos, tmp_path / "force.h5"]
    policy, _ = fitted(paths, replace(SMALL, optional=()))
    obs = {name: x[0] for name, x in felt.obs.items()}
    for force in ({}, {"force": np.ones(3)}):
        assert policy.act({**{name: obs[name] for name in walks.KINDS}, **force}).isfinite().all()
    with pytest.raises(
        ValueError, match=r"all that one of its tasks has \(tests/Walk-v0: .*; tests/Walk-v0: "
    ):
        policy.act({"tcp": obs["tcp"]})


def test_a_pose_of_some_tasks_is_a_pose_where_it_is_there(both):
    """A row of NaN says that it is not; infinity and a quaternion that is none are refused."""
    policy, chunks = fitted(both, replace(SMALL, backbone="transformer"))
    obs = chunks.batch(np.array([3, len(chunks) - 1])).obs
    assert obs["lamp"].isnan().any(-1).flatten().tolist() == [True, False]
    assert policy.act(obs).isfinite().all()
    for factor, says in ((1.5, "'lamp' has a quaternion of norm 1.5"), (torch.inf, "'lamp' .* infinite")):
        with pytest.raises(ValueError, match=says):
            policy.act({**obs, "lamp": obs["lamp"] * torch.tensor([1, 1, 1, *[factor] * 4])})


def test_frames_must_be_seen_in_all_tasks(both):
    with pytest.raises(ValueError, match=r"'lamp'.* not observed in all the tasks"):
        fitted(both, replace(SMALL, frame="lamp"))


def test_demonstrations_are_one_file_or_a_list(tmp_path):
    (tmp_path / "one.yaml").write_text("train: {demos: a.h5}\n")
    (tmp_path / "two.yaml").write_text("train: {demos: [a.h5, b.h5]}\n")
    assert [str(path) for path in load([tmp_path / "one.yaml"]).train.files] == ["a.h5"]
    assert [str(path) for path in load([tmp_path / "two.yaml"]).train.files] == ["a.h5", "b.h5"]
    with pytest.raises(ValueError, match=r"train.demos names no file"):
        load(overrides={"train.demos": []})
    with pytest.raises(ValueError, match=r"train.demos is the number 3; expected a word"):
        load(overrides={"train.demos": 3})

"""Policies that see: pictures, clouds, texts and embeddings, on every backbone, and what they do without."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.data.demonstrations import DemonstrationError, Episode, Meta, write
from geoflow.experiments.config import Config, EnvConfig, TrainConfig
from geoflow.experiments.training import train
from geoflow.policies.backbones import BACKBONES, Condition
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import VectorEncoder, tokenise
from geoflow.policies.sampler import ChunkSampler
from geoflow.policies.spec import PolicySpec

KINDS = {
    "tcp": "pose",
    "socket": "pose",
    "camera": "image",
    "cloud": "points",
    "instruction": "text",
    "clip": "embedding",
    "touch": "vector",
}
SENSES = ("camera", "cloud", "instruction", "clip", "touch")
STEPS, SIDE, REACH = 6, 20, 0.2
WEIGHTS = "model.safetensors"
SMALL = PolicyConfig(width=64, depth=1, horizon=4, execute=2)


def scene(generator):
    """A tool pose, where to go in its frame [m], and how each sense shows it (the text: left or right alone)."""
    tcp = gf.SE3().exp(gf.lie.se3.identity(), torch.randn(6, generator=generator))
    aim = REACH * (2 * torch.rand(2, generator=generator) - 1)
    aim[0] = REACH * aim[0].sign()
    goal = gf.lie.se3.compose(tcp, torch.cat([aim, torch.tensor([0.0, 1, 0, 0, 0])]))
    pixel = ((aim / REACH + 1) / 2 * (SIDE - 5) + 2).round().int().tolist()
    camera = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)
    camera[pixel[1] - 2 : pixel[1] + 3, pixel[0] - 2 : pixel[0] + 3] = 255
    cloud = goal[:3] + 0.02 * torch.randn(30, 3, generator=generator)
    return {
        "tcp": tcp,
        "socket": goal,
        "camera": camera,
        "cloud": cloud,
        "instruction": tokenise("go right" if aim[0] > 0 else "go left", 10),
        "clip": torch.stack([torch.cat([aim, aim.flip(0)]), torch.ones(4)]) / REACH,
        "touch": aim,
    }


def episode(seed):
    obs = scene(torch.Generator().manual_seed(seed))
    path, _ = gf.SE3().geodesic(
        obs["tcp"].expand(STEPS, 7), obs["socket"].expand(STEPS, 7), torch.linspace(0.5, 1, STEPS)
    )
    seen = {name: np.stack([x.numpy()] * STEPS) for name, x in obs.items()}
    actions = torch.cat([path, torch.ones(STEPS, 1)], -1).numpy()
    return Episode(seen, actions, np.zeros(STEPS, bool), seed)


@pytest.fixture(scope="module")
def senses(tmp_path_factory):
    path = tmp_path_factory.mktemp("demos") / "senses.h5"
    meta = Meta(env_id="tests/Senses-v0", env_kwargs={}, control_hz=20.0, observation_kinds=KINDS)
    write(path, meta, (episode(seed) for seed in range(40)))
    return path


def fitted(path, config):
    torch.manual_seed(0)
    chunks = Chunks(path, config.horizon, config.observation_steps)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy, chunks


def awake(policy):
    """With gates and scales that begin at zero moved off it."""
    for parameter in policy.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    return policy.eval()


def generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", ["flow", "ddpm"])
def test_every_method_runs_on_every_backbone_with_every_sense(senses, backbone, kind):
    """Loss, gradients for every parameter, chunks that do not depend on the batch, one observation or many."""
    config = replace(SMALL, backbone=backbone, type=kind, observation_steps=2)
    policy, chunks = fitted(senses, config)
    batch = chunks.sample(8)
    loss = policy(batch, torch.Generator().manual_seed(0))
    assert loss.shape == (8,)
    loss.mean().backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    awake(policy)
    together = policy.act(batch.obs, nfe=2, generator=generators(8))
    assert together.shape == (8, 4, 8)
    one = {name: x[3].numpy() for name, x in batch.obs.items()}
    one["instruction"] = bytes(one["instruction"][-1]).rstrip(b"\0").decode()
    alone = policy.act(one, nfe=2, generator=[torch.Generator().manual_seed(3)])
    torch.testing.assert_close(alone, together[3], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mlp", "transformer"])
@pytest.mark.parametrize("name", SENSES)
def test_every_sense_is_seen_and_can_be_missing(senses, backbone, name):
    """Another observation gives another chunk; a missing one stands for itself, whatever would have been there."""
    policy, chunks = fitted(senses, replace(SMALL, backbone=backbone, optional=(name,)))
    awake(policy)
    obs = chunks.sample(6).obs
    act = lambda obs: policy.act(obs, nfe=1, generator=generators(6))  # noqa: E731
    other = {**obs, name: obs[name].flip(0)}
    assert (act(other) - act(obs)).abs().max() > 1e-5
    without = act({key: x for key, x in obs.items() if key != name})
    torch.testing.assert_close(act({**obs, name: None}), without, rtol=0, atol=0)
    assert (without - act(obs)).abs().max() > 1e-5


def test_what_is_hidden_in_training_is_missing(senses):
    """Hidden, as often as was said, is as good as absent; when the policy acts nothing is hidden."""
    config = replace(SMALL, observations=("tcp", "touch"), optional=("touch",), hidden=0.3)
    for backbone in ("mlp", "transformer"):
        policy, chunks = fitted(senses, replace(config, backbone=backbone))
        policy.train()
        obs = {name: x[:1].expand(2000, *x.shape[1:]) for name, x in chunks.sample(1).obs.items()}
        told = lambda obs: Condition.of(policy.condition(obs, torch.Generator().manual_seed(0))).mean()  # noqa: B023, E731
        absent = told({name: x for name, x in obs.items() if name != "touch"})
        hidden = ((told(obs) - absent).abs() < 1e-5).all(-1)
        assert float(hidden.float().mean()) == pytest.approx(0.3, abs=0.04)
        policy.eval()
        assert not ((told(obs) - absent).abs() < 1e-5).all(-1).any()


def test_a_policy_sees_what_it_is_told_to(senses):
    """With policy.observations the others may be absent, and change nothing."""
    policy, chunks = fitted(senses, replace(SMALL, observations=("tcp", "camera")))
    assert policy.spec.kinds == {"camera": "image", "tcp": "pose"}
    awake(policy)
    obs = chunks.sample(3).obs
    some = {name: obs[name] for name in ("tcp", "camera")}
    torch.testing.assert_close(
        policy.act(some, generator=generators(3)), policy.act(obs, generator=generators(3))
    )


def test_pictures_alone(senses):
    """Without a pose or vector there is no state; chunks are in the world frame."""
    for backbone in ("mlp", "transformer"):
        config = replace(SMALL, observations=("camera",), frame="world", backbone=backbone)
        policy, chunks = fitted(senses, config)
        assert policy.act(chunks.sample(3).obs).shape == (3, 4, 8)


LEARNED = [(name, "mlp") for name in SENSES]
LEARNED += [("camera", "transformer"), ("cloud", "invariant"), ("instruction", "expert")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone"), LEARNED)
def test_what_is_seen_is_learned(senses, name, backbone):
    """The goal is shown to one sense alone: after seconds, chunks of new scenes end near it."""
    config = replace(SMALL, observations=("tcp", name), backbone=backbone, nfe=2)
    policy, chunks = fitted(senses, config)
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    losses = []
    for step in range(120):
        batch = chunks.batch(chunks.shuffled(step, 32, 0))
        loss = policy(batch, torch.Generator().manual_seed(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.35 * np.mean(losses[:3])
    policy.eval()
    new = [scene(torch.Generator().manual_seed(1000 + i)) for i in range(40)]
    obs = {key: torch.stack([s[key] for s in new])[:, None] for key in new[0]}
    ends = policy.act(obs, generator=generators(40))[:, -1, :7]
    off = gf.lie.se3.compose(gf.lie.se3.inverse(obs["tcp"][:, 0]), ends)[:, :2]
    aim = obs["touch"][:, 0]
    seen = slice(0, 1) if name == "instruction" else slice(0, 2)  # the text says left or right alone
    error, spread = ((x[:, seen].square().mean().sqrt()) for x in (off - aim, aim))
    assert error < 0.4 * spread


@pytest.mark.parametrize("backbone", ["transformer", "invariant", "expert"])
def test_observations_are_computed_once_a_chunk(senses, backbone, monkeypatch):
    """Sampling encodes once and steps many times, and gives what encoding at every step would give."""
    policy, chunks = fitted(senses, replace(SMALL, backbone=backbone))
    awake(policy)
    obs = chunks.sample(3).obs
    calls = {"prepare": 0, "forward": 0}
    net, prepare, forward = policy.net, policy.net.prepare, policy.net.forward

    def counted(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(net, "prepare", counted("prepare", prepare))
        patch.setattr(net, "forward", counted("forward", forward))
        chunk = policy.act(obs, nfe=7, generator=generators(3))
    assert calls == {"prepare": 1, "forward": 7}
    with monkeypatch.context() as patch:  # no memory: every evaluation computes it again, and at its own time
        patch.setattr(policy, "told", lambda cond, steps, method: cond)
        patch.setattr(net, "prepare", lambda cond: cond if not cond.memory else prepare(cond))
        patch.setattr(net, "forward", lambda f, t, cond: forward(f, t, prepare(replace(cond, memory=()))))
        again = policy.act(obs, nfe=7, generator=generators(3))
    torch.testing.assert_close(again, chunk, rtol=1e-5, atol=1e-5)


def test_the_invariant_transformer_needs_no_frame(senses):
    """In the world frame, body velocities stay as they are when scene and chunk are moved; other networks' do not."""
    names = ("tcp", "socket", "touch")
    config = replace(SMALL, observations=names, frame="world", gravity=False, target="velocity")
    g = gf.lie.se3.exp(torch.tensor([0.3, -0.2, 0.5, 1.0, -0.7, 0.4]))
    changes = {}
    for backbone in ("invariant", "transformer"):
        policy, chunks = fitted(senses, replace(config, backbone=backbone))
        awake(policy)
        batch = chunks.sample(5)
        moved = {k: gf.lie.se3.compose(g, x) if KINDS[k] == "pose" else x for k, x in batch.obs.items()}
        actions = torch.cat([gf.lie.se3.compose(g, batch.actions[..., :7]), batch.actions[..., 7:]], -1)
        t, out = torch.rand(5), []
        for obs, x in ((batch.obs, batch.actions), (moved, actions)):
            net, cond = policy.evaluate_network, policy.condition(obs)
            out.append(policy.flow.velocity(net, policy.to_space(obs, x), t, cond))
        changes[backbone] = float(((out[1] - out[0]) / policy.chunk_scale).detach().abs().max())
    assert changes["invariant"] < 1e-4
    assert changes["transformer"] > 1e-2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "the target 'endpoint' on 'SE3'"),
        ({"manifold": "R3xSO3", "target": "velocity"}, "the target 'velocity' on 'R3xSO3'"),
        ({"observations": (), "target": "velocity"}, "and sees the cloud 'cloud' there"),
        ({"type": "regression"}, "such as tcp"),
        ({"type": "ddpm", "target": "noise"}, "the target 'noise'"),
    ],
)
def test_an_invariant_network_gives_nothing_that_is_fixed_in_the_world(senses, options, says):
    """With a frame that moves with the scene it does."""
    config = replace(SMALL, observations=("tcp", "socket"), backbone="invariant")
    spec = PolicySpec.of(Chunks(senses, 4))
    with pytest.raises(ValueError, match=f"predicts the same wherever the scene is.*{says}"):
        build_policy(replace(config, frame="world", **options), spec)
    build_policy(replace(config, **options), spec)


def test_policies_of_states_are_as_they_were(demos):
    """A vector network with poses and vectors alone has one encoder, its names, and nothing drawn for senses."""
    torch.manual_seed(0)
    policy, chunks = fitted(demos, SMALL)
    after = torch.rand(1)
    torch.manual_seed(0)
    dim = policy.conditioning.state.vector(chunks.sample(1).obs).shape[1]
    encoder = VectorEncoder(dim, 32)
    net = BACKBONES["mlp"](horizon=4, inputs=10, outputs=7, cond=32, width=64, depth=1)
    assert float(after) == float(torch.rand(1))
    expected = {f"conditioning.encoder.{k}" for k in encoder.state_dict()} | {
        f"net.{k}" for k in net.state_dict()
    }
    names = {k for k in policy.state_dict() if k.startswith(("conditioning.", "net."))}
    assert names == expected
    for key, value in net.state_dict().items():
        torch.testing.assert_close(policy.net.state_dict()[key], value, rtol=0, atol=0)
    obs = chunks.sample(4).obs
    cond = policy.condition(obs, torch.Generator().manual_seed(0))
    assert isinstance(cond, torch.Tensor)
    torch.testing.assert_close(
        cond, policy.conditioning.encoder(policy.conditioning.state.vector(obs)), rtol=0, atol=0
    )


def test_trained_saved_and_read_back(senses, tmp_path):
    """One loop trains it, bit for bit the same after an interruption, and the run folder gives it back."""
    config = Config(
        env=EnvConfig("tests/Senses-v0"),
        policy=replace(
            SMALL, backbone="expert", observations=("tcp", "camera", "instruction"), optional=("camera",)
        ),
        train=TrainConfig(demos=str(senses), steps=4, batch_size=8, checkpoint_every=2, precision="float32"),
    )
    whole = gf.load_policy(train(config, tmp_path / "whole", device="cpu"))
    train(replace(config, train=replace(config.train, steps=4)), tmp_path / "again", device="cpu")
    again = gf.load_policy(tmp_path / "again")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)
    former = {
        name.removeprefix("conditioning."): x for name, x in load_file(tmp_path / "again" / WEIGHTS).items()
    }
    assert former.keys() != whole.state_dict().keys()
    save_file(former, tmp_path / "again" / WEIGHTS)
    again = gf.load_policy(tmp_path / "again")  # as it was named before
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)
    obs = {name: x[0, -1].numpy() for name, x in Chunks(senses, 4).sample(1).obs.items()}
    obs["instruction"] = "go left"
    actions = gf.ChunkBroker(whole, generator=torch.Generator().manual_seed(0)).act(obs)
    assert actions.shape == (8,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera": None}, "'camera' is missing"),
        ({"camera": np.zeros(7, np.float32)}, r"'camera' is torch.float32 of shape \(7,\); .* uint8 from 0 to 255"),
        ({"camera": np.zeros((64, 64, 3), np.uint8)}, r"'camera' has shape .*64, 3\).* on \(B, 1, 20, 20, 3\)"),
        ({"cloud": np.zeros((10, 3), np.float32)}, r"'cloud' has shape"),
        ({"instruction": "far too long an instruction"}, "has 27 bytes; this policy reads 10"),
        ({"clip": "text"}, "'clip' is <U4; this policy was trained on numbers"),
        ({"touch": np.zeros((3, 1, 2), np.float32)}, r"of one scene and \['touch'\] of a batch"),
    ],
)  # fmt: skip
def test_wrong_observations_are_named(senses, change, words):
    policy, chunks = fitted(senses, SMALL)
    obs = {name: x[0, 0].numpy() for name, x in chunks.sample(1).obs.items()}
    with pytest.raises(ValueError, match=words) as refusal:
        policy.act({**obs, **change})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observations": ("tcp", "kamera")}, r"recorded are .*\. Did you mean camera\?"),
        ({"optional": ("tcp",)}, "no pose"),
        ({"optional": ("wrist",)}, "what may be missing is camera"),
        ({"observations": ("camera",)}, "world or a pose observation"),
        ({"backbone": "transformer", "width": 100}, "give a multiple"),
    ],
)
def test_unknown_choices_are_refused(senses, change, words):
    with pytest.raises(ValueError, match=words):
        build_policy(replace(SMALL, **change), PolicySpec.of(Chunks(senses, 4)))
    with pytest.raises(ValueError, match="expected a list of names"):
        PolicyConfig(observations="camera")
    with pytest.raises(ValueError, match="below 1"):
        PolicyConfig(hidden=1.0)


@pytest.mark.parametrize("pictures", ["keypoints", "blobs"])
def test_pictures_are_seen_in_double_precision(senses, pictures):
    config = replace(SMALL, observations=("tcp", "camera"), pictures=pictures)
    policy, chunks = fitted(senses, config)
    obs = awake(policy) and chunks.sample(3).obs
    single = policy.condition(obs)
    double = policy.double().condition(policy.batched(obs)[0])
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-5)


def grey(path, dtypes):
    """Demonstrations that see the camera in grey, each as another type of number."""
    meta = Meta("tests/Grey-v0", {}, 20.0, {"tcp": "pose", "camera": "image"})
    episodes = []
    for seed, dtype in enumerate(dtypes):
        seen = episode(seed)
        obs = {"tcp": seen.obs["tcp"], "camera": seen.obs["camera"][..., :1].astype(dtype)}
        episodes.append(replace(seen, obs=obs))
    write(path, meta, episodes)
    return path


@pytest.mark.parametrize(
    ("recorded", "other", "words"),
    [
        (np.uint8, np.float32, "is torch.float32 .* of bytes, uint8 from 0 to 255"),
        (np.float32, np.uint8, "is torch.uint8 .* of numbers, float32 as they are"),
    ],
)
def test_grey_is_shown_as_it_was_recorded(tmp_path, recorded, other, words):
    """Bytes are scaled and numbers are not, so that one for the other would be another picture."""
    policy, chunks = fitted(grey(tmp_path / "grey.h5", [recorded] * 3), SMALL)
    assert PolicySpec.from_dict(policy.spec.to_dict()) == policy.spec
    obs = {name: x[0, 0].numpy() for name, x in chunks.sample(1).obs.items()}
    assert policy.act(obs).isfinite().all()
    with pytest.raises(ValueError, match=f"'camera' {words}"):
        policy.act({**obs, "camera": obs["camera"].astype(other)})
    drawn = ChunkSampler(policy, 1).example()[1 + [*policy.spec.kinds].index("camera")]
    assert (drawn.dtype == torch.uint8) == (recorded == np.uint8)
    policy.intake = replace(policy.intake, spec=replace(policy.spec, dtypes={}))  # an earlier checkpoint's
    assert policy.act({**obs, "camera": obs["camera"].astype(other)}).isfinite().all()


def test_bytes_and_numbers_do_not_mix(tmp_path):
    with pytest.raises(DemonstrationError, match="obs/camera is uint8 in some demonstrations and float32 in"):
        Chunks(grey(tmp_path / "grey.h5", [np.uint8, np.float32]), 4)


def test_unknown_kinds_are_refused(demos):
    spec = PolicySpec.of(Chunks(demos, 4))
    with pytest.raises(ValueError, match="of the kind 'smell'; a policy takes pose, vector, image"):
        build_policy(SMALL, replace(spec, kinds={**spec.kinds, "gripper": "smell"}))
    with pytest.raises(ValueError, match=r"'gripper': an image observation has the shape \(1,\)"):
        build_policy(SMALL, replace(spec, kinds={**spec.kinds, "gripper": "image"}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cloud", lambda x: np.where(np.arange(30)[:, None] == 3, np.nan, x), "every number must be finite"),
        ("camera", lambda x: x.astype(np.float32), "expected colours as uint8, 0 to 255"),
        ("cloud", lambda x: x[..., :2], r"expected \(N, P, 3 \+ c\)"),
        ("instruction", lambda x: x.astype(np.float32), r"expected \(N, L\) bytes"),
        ("clip", lambda x: x[:, None, None], r"expected \(N, d\) or \(N, n, d\)"),
    ],
)
def test_bad_senses_are_not_written(tmp_path, name, value, words):
    good = episode(0)
    bad = replace(good, obs={**good.obs, name: value(good.obs[name])})
    meta = Meta(env_id="tests/Senses-v0", env_kwargs={}, control_hz=20.0, observation_kinds=KINDS)
    with pytest.raises(DemonstrationError, match=words):
        write(tmp_path / "x.h5", meta, [bad])

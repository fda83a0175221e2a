"""Diffusion Policy as published (Chi et al. 2023): docs/diffusion_policy.md, checked against formulas and settings."""

import math
from pathlib import Path

import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.experiments.config import load
from geoflow.experiments.training import _warm_up_average, learning_rate
from geoflow.policies.backbones import DiffusionUNet, InvariantTransformer
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.denoising import squared_cosine
from geoflow.policies.diffusion_policy import DiffusionPolicy
from geoflow.policies.encoders.images import ImageEncoder
from geoflow.policies.spec import PolicySpec

CONFIG = Path(__file__).parents[2] / "configs" / "policy" / "diffusion_policy.yaml"
PUBLISHED = {
    "policy": {
        "target": "noise", "frame": "world", "horizon": 16, "observation_steps": 2, "execute": 8,
        "backbone": "diffusion_unet", "width": 512, "depth": 4, "solver": "ddpm", "nfe": 100,
    },
    "train": {
        "batch_size": 256, "learning_rate": 1e-4, "weight_decay": 1e-6, "warmup": 500, "ema_power": 0.75,
        "gradient_clip": 0, "precision": "float32",
    },
}  # fmt: skip
"""train_diffusion_unet_lowdim_workspace.yaml, in our words."""


@pytest.mark.parametrize("section", PUBLISHED)
def test_the_configuration_is_the_published_one(section):
    config = getattr(load([CONFIG]), section)
    assert {name: getattr(config, name) for name in PUBLISHED[section]} == PUBLISHED[section]


def parameters(inputs, cond, dims, time, kernel=5):
    """Of the conditional U-Net with two blocks a level, FiLM with scale and shift, by counting its layers."""
    linear = lambda a, b: a * b + b  # noqa: E731
    convolution = lambda a, b, k: a * b * k + b  # noqa: E731
    normed = lambda a, b: convolution(a, b, kernel) + 2 * b  # noqa: E731
    seen = time + cond

    def block(a, b):
        skip = convolution(a, b, 1) if a != b else 0
        return normed(a, b) + normed(b, b) + linear(seen, 2 * b) + skip

    a, b, c = dims
    down = [block(inputs, a), block(a, a), block(a, b), block(b, b), block(b, c), block(c, c)]
    shrink = [convolution(n, n, 3) for n in (a, b)]
    up = [block(2 * c, b), block(b, b), block(2 * b, a), block(a, a)]
    grow = [convolution(n, n, 4) for n in (b, a)]
    leave = [normed(a, a), convolution(a, inputs, 1)]
    embed = [linear(time, 4 * time), linear(4 * time, time)]
    return sum([*down, *shrink, *up, *grow, *leave, *embed, 2 * block(c, c)])


@pytest.mark.parametrize(
    ("width", "dims"), [(512, (256, 512, 1024)), (1024, (512, 1024, 2048))], ids=["state", "image"]
)
def test_the_network_has_their_channels(width, dims):
    """At the sizes of the state and image configurations, for ten actions and two observations of 59 numbers."""
    with torch.device("meta"):
        net = DiffusionUNet(horizon=16, inputs=10, outputs=10, cond=118, width=width, depth=4)
    assert sum(p.numel() for p in net.parameters()) == parameters(10, 118, dims, 256)


def test_the_formula_counts_what_the_authors_print():
    """Their notebook: 2 inputs, 1028 conditions, 7.994727e+07 parameters."""
    assert f"{parameters(2, 1028, (256, 512, 1024), 256):e}" == "7.994727e+07"


def test_the_noise_schedule_is_the_squared_cosine():
    """f(t) = cos^2((t + 0.008) / 1.008 pi / 2), beta_k = min(1 - f((k+1)/100) / f(k/100), 0.999)."""
    f = [math.cos((k / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(101)]
    keep, product = [], 1.0
    for k in range(100):
        product *= 1 - min(1 - f[k + 1] / f[k], 0.999)
        keep.append(product)
    torch.testing.assert_close(squared_cosine().double(), torch.tensor(keep).double(), atol=1e-6, rtol=1e-3)
    assert keep[99] < 1e-6 < 0.999 < keep[0]


def test_the_average_decays_as_theirs():
    """Theirs, update n = 0, 1, ...: s = max(0, n - 1), decay 0 for s = 0, else min(1 - (1 + s)^-0.75, 0.9999)."""
    update, average, expected = _warm_up_average(0.75), torch.zeros(()).double(), 0.0
    for n in range(1, 200):  # update 0 copies: that is torch's own
        s = max(0, n - 1)
        decay = min(1 - (1 + s) ** -0.75, 0.9999) if s else 0.0
        value = math.sin(n)
        expected = decay * expected + (1 - decay) * value
        update([average], [torch.tensor(value).double()], n)
        assert float(average) == pytest.approx(expected, abs=1e-6)
    # "decay factor 0.999 at 10K steps, 0.9999 at 215.4K", and no more.
    for n, decay in ((10_000, 0.999), (215_443, 0.9999), (10_000_000, 0.9999)):
        one = torch.ones(()).double()
        update([one], [torch.zeros(()).double()], n)
        assert float(one) == pytest.approx(decay, abs=1e-6)


def test_the_learning_rate_warms_up_and_ends_at_zero():
    train = load([CONFIG], {"train.steps": 2000}).train
    rates = [learning_rate(step, train) for step in (249, 499, 500, 1250, 1999)]
    assert rates[:4] == pytest.approx([0.5e-4, 1e-4, 1e-4, 0.5e-4])
    assert rates[4] < 1e-9


@pytest.fixture
def policy(demos):
    """A small one of the published configuration, on the walks."""
    config = load(
        [CONFIG], {"policy.width": 32, "policy.depth": 2, "policy.horizon": 8, "policy.execute": 4}
    ).policy
    chunks = Chunks(demos, 8, 2)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy, chunks.sample(8192)


def test_limits_are_at_plus_and_minus_one_and_rotations_as_they_are(policy):
    policy, batch = policy
    assert isinstance(policy, DiffusionPolicy)
    x = policy.to_space(batch.obs, batch.actions)
    y = (x - policy.chunk_mean) / policy.chunk_scale
    positions = y[..., :3].flatten(0, 1)
    torch.testing.assert_close(positions.amax(0), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(positions.amin(0), -torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y[..., 3:9], x[..., 3:9])
    assert float(y.abs().max()) <= 1 + 1e-5
    assert float(policy.clip) == 1
    # One scale for every step of a chunk: that it is the same number at each says what a normaliser of theirs says.
    assert bool((policy.chunk_scale == policy.chunk_scale[:1]).all())


@pytest.mark.parametrize("kind", ["ddpm", "diffusion_policy"])
def test_an_invariant_network_has_the_poses_back(demos, kind):
    """It undoes the very standardisation by which it is shown them."""
    chunks = Chunks(demos, 4)
    config = PolicyConfig(type=kind, backbone="invariant", width=64, depth=1, horizon=4, execute=2)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    batch, net = chunks.sample(8), policy.net
    assert isinstance(net, InvariantTransformer)
    x = policy.to_space(batch.obs, batch.actions)
    back = policy.standardise(x)[..., :9] * net.scale + net.mean
    torch.testing.assert_close(back, x[..., :9], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["diffusion_policy", "ddpm"])
def test_every_demonstrated_chunk_is_within_the_clip(demos, kind):
    """Of all windows, not of those alone that gave the means."""
    chunks = Chunks(demos, 4)
    config = PolicyConfig(type=kind, width=64, depth=1, horizon=4, execute=2)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks, samples=5)
    batch = chunks.sample(len(chunks))
    y = (policy.to_space(batch.obs, batch.actions) - policy.chunk_mean) / policy.chunk_scale
    assert float(y.abs().max()) == pytest.approx(float(policy.clip), rel=1e-5)


def test_it_trains_and_acts(policy):
    policy, batch = policy
    loss = policy(batch, torch.Generator().manual_seed(0))
    assert loss.shape == (len(batch.actions),)
    loss.mean().backward()
    chunk = policy.act({name: x[0] for name, x in batch.obs.items()}, nfe=2, solver="ddim")
    assert chunk.shape == (8, 8)
    torch.testing.assert_close(chunk[:, 3:7].norm(dim=-1), torch.ones(8))


def test_pictures_of_84_pixels_are_cropped_to_76():
    encoder = ImageEncoder((84, 84, 3), 2, 16)
    assert encoder.size == [76, 76]
    assert not [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_chunks_are_padded_by_repeating(demos):
    """Before an episode its first observation, after it its last action."""
    chunks = Chunks(demos, 16, 2)
    first = chunks.batch(torch.tensor([0]).numpy())
    assert all(torch.equal(x[:, 0], x[:, 1]) for x in first.obs.values())
    last = chunks.batch(torch.tensor([len(chunks) - 1]).numpy()).actions
    assert torch.equal(last[:, 1:], last[:, :-1])

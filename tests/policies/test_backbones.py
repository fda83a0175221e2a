"""Every backbone keeps one contract: (features, t, cond) -> output, all three used, gradients finite."""

from dataclasses import replace

import pytest
import torch

import geoflow as gf
from geoflow.policies.backbones import BACKBONES, Condition, DiffusionUNet, InvariantTransformer
from geoflow.policies.backbones.time import TimeEmbedding

SIZES = {"horizon": 8, "inputs": 10, "outputs": 7, "cond": 12, "width": 64, "depth": 2}
TOKENS = [name for name, kind in BACKBONES.items() if hasattr(kind, "takes_tokens")]


def build(name, **changes):
    """A backbone whose parameters are all at work: gates and scales that begin at zero are moved off it."""
    torch.manual_seed(0)
    net = BACKBONES[name](**{**SIZES, **changes})
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def inputs(batch=5):
    return torch.randn(batch, 8, 10), torch.rand(batch)


def tokens(batch=5, count=4, seed=0):
    """A condition of which the last token of every row is missing; the second is nowhere."""
    generator = torch.Generator().manual_seed(seed)
    poses = gf.lie.se3.random_uniform(batch, count, generator=generator)
    frames = gf.SE3().features(poses)
    frames[:, 1] = 0
    mask = torch.ones(batch, count, dtype=torch.bool)
    mask[:, -1] = False
    return Condition(torch.randn(batch, count, 12, generator=generator), mask, frames)


@pytest.mark.parametrize("name", BACKBONES)
def test_contract(name):
    net = build(name)
    f, t = inputs()
    given = [x.requires_grad_() for x in (f, t, torch.randn(5, 12))]
    out = net(*given)
    assert out.shape == (5, 8, 7)
    out.square().sum().backward()
    for x in given:
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert (x.grad != 0).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_mixed_precision_says_nothing_and_changes_little(name):
    net, (f, t) = build(name), inputs()
    cond = tokens() if name in TOKENS else torch.randn(5, 12)
    expected = net(f, t, cond)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(f, t, cond)
    torch.testing.assert_close(found.float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_parameter_is_at_work(name):
    net, (f, t) = build(name), inputs()
    net(f, t, tokens() if name in TOKENS else torch.randn(5, 12)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key


@pytest.mark.parametrize("name", BACKBONES)
def test_two_times(name):
    """With times=2 a backbone takes (t, r), and has a derivative along them, which flow maps train through."""
    net = build(name, times=2)
    f, t = inputs()
    times, cond = torch.stack([t, 0.5 + 0.5 * t], -1), torch.randn(5, 12)
    along = (torch.zeros_like(f), torch.ones_like(times))
    value, slope = torch.func.jvp(lambda f, t: net(f, t, cond), (f, times), along)
    h = 1e-3
    finite = (net(f, times + h, cond) - net(f, times - h, cond)) / (2 * h)
    assert value.shape == slope.shape == (5, 8, 7)
    torch.testing.assert_close(slope, finite, atol=5e-2, rtol=5e-2)
    with pytest.raises(ValueError, match=r"times of shape \(B, 2\)"):
        net(f, t, cond)


@pytest.mark.parametrize("name", TOKENS)
def test_what_is_masked_changes_nothing(name):
    """Another missing token, even NaN, gives the same; another token that is there does not."""
    net, (f, t), cond = build(name), inputs(), tokens()
    assert cond.frames is not None
    out = net(f, t, cond)
    for value in (7.0, float("nan")):
        other, frames = cond.tokens.clone(), cond.frames.clone()
        other[:, -1], frames[:, -1] = value, value
        torch.testing.assert_close(net(f, t, replace(cond, tokens=other, frames=frames)), out, rtol=0, atol=0)
    other = cond.tokens.clone()
    other[:, 1] += torch.randn(12)
    assert (net(f, t, replace(cond, tokens=other)) - out).abs().max() > 1e-3
    shorter = cond.map(lambda x: x[:, :-1])
    torch.testing.assert_close(net(f, t, shorter), out)


@pytest.mark.parametrize("name", TOKENS)
def test_what_is_remembered_is_what_would_be_computed(name):
    """Keys and values kept between steps give what computing them again gives, at any time and features."""
    net, cond = build(name), tokens()
    kept = net.prepare(cond)
    assert len(kept.memory) == SIZES["depth"]
    for _ in range(3):
        f, t = inputs()
        torch.testing.assert_close(net(f, t, kept), net(f, t, cond), rtol=0, atol=0)
    rows = torch.tensor([3, 0])
    some = kept.map(lambda x: x[rows])
    torch.testing.assert_close(net(f[rows], t[rows], some), net(f, t, cond)[rows])
    assert len(some) == 2


@pytest.mark.parametrize("name", TOKENS)
def test_a_vector_is_one_token(name):
    net, (f, t), cond = build(name), inputs(), torch.randn(5, 12)
    torch.testing.assert_close(net(f, t, cond), net(f, t, cond[:, None]))
    torch.testing.assert_close(net(f, t, cond), net(f, t, Condition.of(cond)))


@pytest.mark.parametrize("name", ["transformer", "invariant"])
def test_blocks_begin_as_the_identity(name):
    """AdaLN-zero: at first no block changes a chunk, so depth makes no difference."""
    torch.manual_seed(0)
    net, (f, t), cond = BACKBONES[name](**SIZES), inputs(), tokens()
    before = net(f, t, cond)
    net.blocks = net.blocks[:1]
    torch.testing.assert_close(net(f, t, cond), before)


def test_moving_the_scene_changes_nothing():
    """f(g chunk, g observations) = f(chunk, observations) for every rigid g; for either alone it is another."""
    torch.manual_seed(0)
    net = build("invariant").double()
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    poses = gf.lie.se3.random_uniform(5, 8, dtype=torch.float64)
    tools = gf.lie.se3.random_uniform(5, 4, dtype=torch.float64)
    tools[..., :3] += 3.0
    cond, t = tokens().map(lambda x: x.double() if x.is_floating_point() else x), torch.rand(5).double()
    nowhere = torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None]  # the second token has no frame
    mean, scale = 0.3 * torch.randn(8, 10).double(), torch.rand(8, 10).double() + 0.5
    net.fit(mean, scale)

    def ask(poses, tools):
        features = (space.features(torch.cat([poses, torch.ones(5, 8, 1)], -1)) - mean) / scale
        return net(features, t, replace(cond, frames=gf.SE3().features(tools) * nowhere))

    out = ask(poses, tools)
    for g in gf.lie.se3.random_uniform(4, dtype=torch.float64):
        g = g.clone()
        g[:3] *= 10.0
        moved = [gf.lie.se3.compose(g, x) for x in (poses, tools)]
        torch.testing.assert_close(ask(*moved), out, atol=1e-9, rtol=1e-7)
        assert (ask(moved[0], tools) - out).abs().max() > 1e-3
        assert (ask(poses, moved[1]) - out).abs().max() > 1e-3


def test_the_invariant_transformer_needs_a_pose():
    with pytest.raises(ValueError, match="pose of 9 features"):
        InvariantTransformer(**{**SIZES, "inputs": 7})


def test_the_u_net_of_diffusion_policy_has_its_size():
    """The authors' notebook prints 7.994727e+07 for 2 inputs and two frames of 512 + 2 numbers."""
    net = DiffusionUNet(horizon=16, inputs=2, outputs=2, cond=2 * (512 + 2), width=512, depth=4)
    assert f"{sum(p.numel() for p in net.parameters()):e}" == "7.994727e+07"


@pytest.mark.parametrize("name", ["unet", "diffusion_unet"])
def test_unets_say_which_horizons_they_take(name):
    with pytest.raises(ValueError, match="multiple of 4"):
        BACKBONES[name](**{**SIZES, "horizon": 6})


@pytest.mark.parametrize("name", [*TOKENS, "unet", "diffusion_unet"])
def test_widths_that_do_not_divide_are_refused(name):
    with pytest.raises(ValueError, match=r"policy\.width=90; .* give a multiple"):
        BACKBONES[name](**{**SIZES, "width": 90})


def test_chunks_of_fifty():
    """The expert's chunk is that of pi0."""
    net = BACKBONES["expert"](**{**SIZES, "horizon": 50})
    assert net(torch.randn(2, 50, 10), torch.rand(2), torch.randn(2, 12)).shape == (2, 50, 7)


@pytest.mark.parametrize("name", BACKBONES)
def test_two_times_are_both_used_and_can_be_differentiated(name):
    """Flow maps take the derivative along (t, r); weights have the shapes of a network of one time."""
    net = build(name, times=2).double()
    net.load_state_dict(build(name).state_dict())
    f, t, cond = torch.randn(5, 8, 10).double(), torch.rand(5, 2).double(), torch.randn(5, 12).double()
    slope = torch.func.jvp(lambda t: net(f, t, cond), (t,), (torch.ones_like(t),))[1]
    h = 1e-5
    difference = (net(f, t + h, cond) - net(f, t - h, cond)) / (2 * h)
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-6)
    for moved in (t + torch.tensor([0.1, 0]), t + torch.tensor([0, 0.1])):
        assert (net(f, moved, cond) - net(f, t, cond)).abs().max() > 1e-3


@pytest.mark.parametrize("name", BACKBONES)
def test_the_wrong_number_of_times_is_refused(name):
    f, cond = torch.randn(5, 8, 10), torch.randn(5, 12)
    with pytest.raises(ValueError, match=r"\(B,\); got \(5, 2\)"):
        BACKBONES[name](**SIZES)(f, torch.rand(5, 2), cond)
    with pytest.raises(ValueError, match=r"\(B, 2\); got \(5,\)"):
        BACKBONES[name](**SIZES, times=2)(f, torch.rand(5), cond)
    with pytest.raises(ValueError, match="times=3"):
        BACKBONES[name](**SIZES, times=3)


def test_one_time_is_embedded_as_it_was():
    """Checkpoints hold no frequencies: 1/4 to 64, cosines before sines."""
    t = torch.tensor([0.0, 0.3])
    f = 2.0 ** torch.linspace(-2, 6, 32)
    angle = 2 * torch.pi * f * t[:, None]
    torch.testing.assert_close(
        TimeEmbedding(64)(t), torch.cat([angle.cos(), angle.sin()], -1), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", [name for name, kind in BACKBONES.items() if hasattr(kind, "ready")])
def test_a_condition_made_ready_gives_the_same(name, times):
    """net(x, t_k, ready_k) = net(x, t_k, cond), for all times of a grid made ready at once."""
    net, (f, _) = build(name, times=times), inputs()
    cond, grid = torch.randn(5, 12), torch.rand(3, times).squeeze(-1)
    for t, ready in zip(grid, net.ready(cond, grid), strict=True):
        t = t.expand(5, *t.shape)
        torch.testing.assert_close(net(f, t, ready), net(f, t, cond))

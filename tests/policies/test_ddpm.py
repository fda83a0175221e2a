"""DDPM: with the exact prediction for Gaussian data, every solver gives that Gaussian back, whatever is predicted."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoflow.data.chunks import Chunks
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.ddpm import DDPM, SOLVERS
from geoflow.policies.denoising import DIFFUSION_STEPS, NOISE, falling
from geoflow.policies.spec import PolicySpec

MEAN, STD = 0.2, 0.3
TARGETS = ["noise", "endpoint", "v"]


def keep(t):
    """a_k of the squared cosine at the time that the network is told, from its own formula."""
    k = torch.round((1 - t) * DIFFUSION_STEPS).long()
    bar = torch.cos((torch.arange(101).double() / 100 + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - (1 - bar[1:] / bar[:-1]).clamp(max=0.999)).cumprod(0)[k]


def exact(target, mean=0.0, std=1.0):
    """y_k = sqrt(a) y + sqrt(1 - a) eps with y ~ N(mean, std^2): E[y | y_k] is linear in y_k, and so is the rest."""

    def net(noisy, t, cond):
        a = keep(t).to(noisy).reshape(-1, *(1,) * (noisy.dim() - 1))
        y = mean + a.sqrt() * std**2 / (a * std**2 + 1 - a) * (noisy - a.sqrt() * mean)
        eps = (noisy - a.sqrt() * y) / (1 - a).sqrt()
        return {"noise": eps, "endpoint": y, "v": a.sqrt() * eps - (1 - a).sqrt() * y}[target]

    return net


def plain(target):
    """A diffusion of data that it does not standardise."""
    one = torch.ones(2).double()
    return DDPM(target, 0 * one, one, torch.tensor(10.0))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("solver", "nfe", "tolerance"), [("ddpm", 100, 0.03), ("ddim", 50, 0.03), ("dpmsolver++", 20, 0.06)]
)
def test_exact_predictions_sample_the_data(target, solver, nfe, tolerance):
    net = exact(target, MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    x = plain(target).sample(net, batch=4000, nfe=nfe, solver=solver, generator=generator)
    assert x.shape == (4000, 2)
    assert float(x.mean()) == pytest.approx(MEAN, abs=tolerance)
    assert float(x.std()) == pytest.approx(STD, abs=tolerance)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmsolver++"])
@pytest.mark.parametrize("nfe", [1, 4, 10])
def test_noise_endpoint_and_v_are_one_denoiser_in_three_words(solver, nfe):
    """From the same noise the exact denoiser takes the same steps, whatever it predicts."""
    noise, endpoint, v = (
        plain(target).sample(
            exact(target, MEAN, STD),
            batch=50,
            horizon=3,
            nfe=nfe,
            solver=solver,
            generator=torch.Generator().manual_seed(0),
            path=True,
        )
        for target in TARGETS
    )
    assert noise.shape == (nfe + 1, 50, 3, 2)
    torch.testing.assert_close(endpoint, v, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(endpoint, noise, atol=1e-3, rtol=1e-3)  # epsilon is divided by sqrt(a) = 5e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_error_of_the_noise_is_not_amplified_beyond_the_range_of_the_data(solver):
    """At k = 99 an error of 0.01 in the noise is one of 20 in y, so estimates are clipped to the range of the data."""

    def net(noisy, t, cond):
        return 0.99 * exact("noise", MEAN, STD)(noisy, t, cond)

    diffusion = DDPM("noise", torch.zeros(2).double(), torch.ones(2).double(), torch.tensor(1.2))
    x = diffusion.sample(net, batch=500, nfe=10, solver=solver, generator=torch.Generator().manual_seed(0))
    assert float(x.abs().max()) < 1.5
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 7, 10, 16, 34, 60, 75, 99, 100])
def test_every_number_of_evaluations_begins_in_noise_and_ends_in_data(solver, nfe):
    """The mean of the data comes back from any; so does their width from many evaluations."""
    steps = falling(solver, nfe)
    assert len(steps) == nfe
    assert all(a > b for a, b in pairwise(steps))
    assert steps[0] >= (90 if nfe != 7 or solver == "dpmsolver++" else NOISE)
    generator = torch.Generator().manual_seed(0)
    x = plain("endpoint").sample(
        exact("endpoint", 1.0, STD), batch=4000, nfe=nfe, solver=solver, generator=generator
    )
    # Diffusion Policy's own steps take y_90 and y_84 for noise, which they are not quite.
    assert float(x.mean()) == pytest.approx(1.0, abs=0.03 if steps[0] > 90 else 0.07)
    if nfe >= 34:
        assert float(x.std()) == pytest.approx(STD, abs=0.06)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("solver", "nfe"),
    [
        *(("ddim", nfe) for nfe in (8, 10, 16, 100)),
        *(("ddpm", nfe) for nfe in (10, 100)),
        *(("dpmsolver++", nfe) for nfe in (1, 2, 10, 99)),
    ],
)
def test_states_are_those_of_diffusers(target, solver, nfe):
    """From the same noise, with a denoiser that is exact but for a wave; theirs clips as ours where it can clip."""

    def net(noisy, t, cond):
        return exact(target, MEAN, STD)(noisy, t, cond) + 0.1 * torch.sin(3 * noisy)

    clip = 1e6 if solver == "dpmsolver++" else 0.5
    one = torch.ones(2).double()
    states = DDPM(target, 0 * one, one, torch.tensor(clip)).sample(
        net, batch=20, nfe=nfe, solver=solver, generator=torch.Generator().manual_seed(0), path=True
    )
    theirs = scheduler(solver, target, clip)
    theirs.set_timesteps(nfe)
    assert [int(k) for k in theirs.timesteps] == falling(solver, nfe)
    generator, draws = torch.Generator().manual_seed(0), {}
    y = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(y, states[0], atol=0, rtol=0)
    if solver == "ddpm":
        draws["generator"] = generator
    for k, expected in zip(theirs.timesteps, states[1:], strict=True):
        y = theirs.step(net(y, 1 - k.expand(20) / 100, None), k, y, **draws).prev_sample
        torch.testing.assert_close(expected, y, atol=2e-3, rtol=2e-3)  # its a_k are float32


def scheduler(solver, target, clip):
    """That of diffusers."""
    diffusers = pytest.importorskip("diffusers")
    word = {"noise": "epsilon", "endpoint": "sample", "v": "v_prediction"}[target]
    shared = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "prediction_type": word}
    if solver == "dpmsolver++":
        return diffusers.DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++")
    kind = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler}[solver]
    return kind(**shared, clip_sample=True, clip_sample_range=clip)


def test_what_it_keeps_decides_how_it_samples():
    """Of a straight schedule the exact denoiser, told its a, gives the data back; and the squared cosine does not."""
    straight = torch.linspace(0.999, 1e-6, 100).double()

    def net(noisy, t, cond):
        a = straight[torch.round((1 - t) * DIFFUSION_STEPS).long()].reshape(-1, 1)
        return 1 + a.sqrt() * STD**2 / (a * STD**2 + 1 - a) * (noisy - a.sqrt())

    one = torch.ones(2).double()
    for solver in SOLVERS:
        diffusion = DDPM("endpoint", 0 * one, one, torch.tensor(10.0), straight)
        x = diffusion.sample(
            net, batch=4000, nfe=100, solver=solver, generator=torch.Generator().manual_seed(0)
        )
        assert float(x.mean()) == pytest.approx(1.0, abs=0.02)
        assert float(x.std()) == pytest.approx(STD, abs=0.04)


def test_a_loss_of_one_generator_each_does_not_depend_on_the_batch():
    x_1 = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    generators = lambda: [torch.Generator().manual_seed(i) for i in range(4)]  # noqa: E731
    net = exact("v", MEAN, STD)
    together = plain("v").loss(net, x_1, generator=generators())
    alone = plain("v").loss(net, x_1[2:3], generator=generators()[2:3])
    torch.testing.assert_close(together[2:3], alone, atol=0, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_of_the_exact_prediction_is_its_conditional_variance(target):
    """Var(y | y_k) = s^2 (1 - a) / (a s^2 + 1 - a); of eps that times a / (1 - a), of v that over 1 - a."""
    x_1 = MEAN + STD * torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)).double()
    loss = plain(target).loss(exact(target, MEAN, STD), x_1, generator=torch.Generator().manual_seed(1))
    a = keep(1 - torch.arange(100).double() / 100)
    of_y = STD**2 * (1 - a) / (a * STD**2 + 1 - a)
    least = {"noise": of_y * a / (1 - a), "endpoint": of_y, "v": of_y / (1 - a)}[target].mean()
    assert loss.shape == (100_000,)
    assert float(loss.mean()) == pytest.approx(float(least), rel=0.02)


def test_fitted_units_are_undone():
    """The network sees data of mean 0 and width 1; samples come in the units of the data."""
    generator = torch.Generator().manual_seed(0)
    x_1 = torch.tensor([5.0, -1.0]) + torch.tensor([0.1, 30.0]) * torch.randn(4000, 2, generator=generator)
    x = DDPM.fit(x_1, "v").sample(exact("v"), torch.zeros(4000, 1), nfe=50, generator=generator)
    torch.testing.assert_close(x.mean(0), x_1.mean(0), atol=1.5, rtol=0.02)
    torch.testing.assert_close(x.std(0), x_1.std(0), atol=0, rtol=0.05)


def test_what_a_diffusion_does_not_know_is_refused():
    with pytest.raises(ValueError, match="noise, endpoint, v"):
        plain("velocity")
    with pytest.raises(ValueError, match="ddpm, ddim"):
        plain("v").sample(exact("v"), batch=1, solver="euler")
    for nfe in (0, 101):
        with pytest.raises(ValueError, match="1 to 100"):
            plain("v").sample(exact("v"), batch=1, nfe=nfe)
    with pytest.raises(ValueError, match=r"batch=\.\.\."):
        plain("v").sample(exact("v"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_policy_samples_its_chunks_by_the_diffusion(demos, target):
    """In the units of the policy; and a checkpoint holds the statistics under the names it always had."""
    config = PolicyConfig(
        type="ddpm", manifold="Euclidean", target=target, width=32, depth=1, horizon=8, execute=4
    )
    policy = build_policy(config, PolicySpec.of(Chunks(demos, 8)))
    policy.fit(Chunks(demos, 8))
    names = {"clip", "alphas_cumprod", "chunk_mean", "chunk_scale"}
    assert names <= set(policy.state_dict())
    assert not any("diffusion" in name for name in policy.state_dict())
    policy.net = Whole(exact(target))
    chunks = policy.sample_chunk(torch.zeros(400, 1), 50, "ddim", torch.Generator().manual_seed(0))
    y = (chunks - policy.chunk_mean) / policy.chunk_scale
    assert float(y.mean()) == pytest.approx(0, abs=0.03)
    # What the data never reach is clipped, so the width falls a little short of 1.
    assert 0.9 < float(y.std()) < 1.03


class Whole(torch.nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_checkpoints_of_before_the_third_target_load(demos, tmp_path):
    """The tensors of an earlier policy, named one by one, fit the present one."""
    config = PolicyConfig(type="ddpm", manifold="Euclidean", width=32, depth=1, horizon=8, execute=4)
    build = lambda: build_policy(config, PolicySpec.of(Chunks(demos, 8)))  # noqa: E731
    old = {
        name: x for name, x in build().state_dict().items() if not name.startswith(("net.", "conditioning."))
    }
    assert set(old) == {
        "length", "extras_mean", "extras_scale", "chunk_mean", "chunk_scale", "feature_mean", "feature_scale",
        "clip", "alphas_cumprod",
    }  # fmt: skip
    policy = build()
    policy.clip.fill_(3.0)
    save_file(policy.state_dict(), tmp_path / "model.safetensors")
    again = build()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert float(again.diffusion.clip) == 3.0

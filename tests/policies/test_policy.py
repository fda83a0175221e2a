"""Policies: frames and units invert each other, the scene may be moved, and noise is per episode."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.experiments.config import Config, EnvConfig, TrainConfig
from geoflow.experiments.training import train
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.flow import FlowPolicy
from geoflow.policies.spec import PolicySpec
from geoflow.policies.statistics import ChunkStatistics, center

CONFIGS = [
    PolicyConfig(manifold="SE3", width=64, depth=1, horizon=8, execute=4),
    PolicyConfig(manifold="R3xSO3", width=64, depth=1, horizon=8, execute=4, observation_steps=2),
    PolicyConfig(manifold="SE3", prior="haar", gravity=False, width=64, depth=1, horizon=8, execute=4),
    PolicyConfig(
        manifold="Euclidean", backbone="unet", width=64, depth=1, horizon=8, execute=4, frame="world"
    ),
    PolicyConfig(type="ddpm", manifold="Euclidean", width=64, depth=1, horizon=8, execute=4),
    PolicyConfig(type="ddpm", manifold="Euclidean", target="noise", width=64, depth=1, horizon=8, execute=4),
    PolicyConfig(manifold="SE3", target="velocity", width=64, depth=1, horizon=8, execute=4),
]


@pytest.fixture(params=CONFIGS, ids=lambda c: f"{c.type}-{c.manifold}-{c.target}-{c.frame}-{c.prior}")
def fitted(request, demos):
    torch.manual_seed(0)
    chunks = Chunks(demos, request.param.horizon, request.param.observation_steps)
    policy = build_policy(request.param, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy, chunks


def distance(a, b):
    return gf.Product(gf.SE3(), gf.Euclidean(1)).distance(a, b)


def test_space_and_back(fitted):
    """from_space(to_space(actions)) = actions."""
    policy, chunks = fitted
    batch = chunks.sample(64)
    back = policy.from_space(batch.obs, policy.to_space(batch.obs, batch.actions))
    assert distance(back, batch.actions).max() < 1e-3


def test_loss_trains_every_parameter(fitted):
    policy, chunks = fitted
    loss = policy(chunks.sample(32), torch.Generator().manual_seed(0))
    assert loss.shape == (32,)
    loss.mean().backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_chunk_is_made_of_poses_and_does_not_depend_on_the_batch(fitted):
    """Four episodes together give what each gives alone, each with its own generator."""
    policy, chunks = fitted
    policy.eval()
    obs = chunks.sample(4).obs
    together = policy.act(obs, nfe=4, generator=[torch.Generator().manual_seed(i) for i in range(4)])
    assert together.shape == (4, 8, 8)
    torch.testing.assert_close(together[..., 3:7].norm(dim=-1), torch.ones(4, 8))
    for i in range(4):
        one = {name: x[i] for name, x in obs.items()}
        alone = policy.act(one, nfe=4, generator=[torch.Generator().manual_seed(i)])
        assert alone.shape == (8, 8)
        torch.testing.assert_close(alone, together[i], atol=1e-4, rtol=1e-4)


def test_moving_the_scene_moves_the_chunk(fitted):
    """In an end-effector frame: act(g obs) = g act(obs), for g that keeps gravity; in the world frame not."""
    policy, chunks = fitted
    policy.eval()
    obs = chunks.sample(16).obs
    tilt = [0.0, 0.0] if policy.config.gravity else [1.0, 2.0]
    g = gf.lie.se3.exp(torch.tensor([0.4, -1.0, 0.0 if policy.config.gravity else 0.3, *tilt, -1.5]))
    moved = {k: gf.lie.se3.compose(g, x) if policy.spec.kinds[k] == "pose" else x for k, x in obs.items()}
    generators = lambda: [torch.Generator().manual_seed(i) for i in range(16)]  # noqa: E731
    chunk, other = policy.act(obs, generator=generators()), policy.act(moved, generator=generators())
    expected = torch.cat([gf.lie.se3.compose(g, chunk[..., :7]), chunk[..., 7:]], -1)
    assert (distance(other, expected).max() < 1e-3) == (policy.config.frame == "tcp")


def test_path_runs_from_noise_to_the_chunk(fitted):
    policy, chunks = fitted
    policy.eval()
    obs = {name: x[0] for name, x in chunks.sample(4).obs.items()}
    states = policy.sample_path(obs, nfe=5, generator=torch.Generator().manual_seed(1))
    assert states.shape == (6, 8, 8)
    torch.testing.assert_close(states[-1], policy.act(obs, nfe=5, generator=torch.Generator().manual_seed(1)))


def test_missing_and_misshapen_observations_are_named(fitted):
    policy, chunks = fitted
    obs = chunks.sample(2).obs
    with pytest.raises(ValueError, match="'goal' is missing"):
        policy.act({name: x for name, x in obs.items() if name != "goal"})
    with pytest.raises(ValueError, match=r"'goal' has shape .* trained on"):
        policy.act({**obs, "goal": obs["goal"][..., :3]})
    with pytest.raises(ValueError, match="at least 1"):
        policy.act(obs, nfe=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manifold": "SE4"}, r"one of SE3, .* or module:Class of your own\. Did you mean SE3\?"),
        ({"backbone": "rnn"}, "one of mlp"),
        ({"frame": "hand"}, "world or a pose observation: goal, tcp"),
        ({"prior": "cauchy"}, "one of gaussian"),
        ({"type": "gan"}, "one of flow, ddpm, diffusion_policy, regression, or module:Class of your own"),
        ({"type": "dppm"}, "Did you mean ddpm"),
        (
            {"type": "no_such_lab.policies:Mine"},
            "module 'no_such_lab.policies' cannot be imported .* PYTHONPATH",
        ),
        ({"type": ":Mine"}, "module '' cannot be imported"),
        ({"type": ".policies:Mine"}, "module '.policies' cannot be imported"),
        ({"type": f"{__name__}:Straigth"}, "has no 'Straigth'. Did you mean Straight"),
        ({"type": f"{__name__}:Chunks"}, "expected a subclass of geoflow.policies.base.Policy"),
        ({"type": "json:loads"}, "expected a subclass of geoflow.policies.base.Policy"),
        ({"manifold": f"{__name__}:Straight"}, "expected a subclass of geoflow.manifolds.base.Manifold"),
        ({"manifold": "geoflow:SO3"}, "stores a point in 4 numbers; a pose has 7"),
        ({"manifold": "geoflow:Euclidean"}, "made without arguments .*'n'"),
        ({"manifold": "geoflow:Manifold"}, "is abstract; it still lacks exp, "),
        (
            {"type": "geoflow.policies.base:Policy"},
            "is abstract; it still lacks chunk_loss, default_solver, sample_chunk",
        ),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(demos, change, words):
    spec = PolicySpec.of(Chunks(demos, 8))
    with pytest.raises(ValueError, match=words):
        build_policy(PolicyConfig(**change), spec)


class Still(gf.flows.Prior):
    """A prior of somebody else's, which draws its centre."""

    def __init__(self, space, mean, scale):
        super().__init__()
        self.space, self.middle = space, mean.clone()

    def sample(self, shape, generator=None):
        return self.middle.expand(*shape[:-1], *self.middle.shape)


def test_a_prior_of_ones_own_is_fitted_too(demos):
    chunks = Chunks(demos, 8)
    config = PolicyConfig(prior=f"{__name__}:Still", width=16, depth=1, horizon=8)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    assert isinstance(policy, FlowPolicy)
    torch.testing.assert_close(policy.flow.prior.sample((2, 8)), policy.chunk_mean.expand(2, 8, -1))
    assert policy.act(chunks.sample(2).obs).isfinite().all()


def test_a_path_that_does_not_say_where_it_leads_is_not_guided(demos):
    config = PolicyConfig(path="Diffusion(CosineVP())", width=16, depth=1, horizon=8)
    policy = build_policy(config, PolicySpec.of(Chunks(demos, 8)))
    with pytest.raises(ValueError, match=r"does not say where a velocity leads.* a Geodesic does"):
        policy.check_manner("guided")


class Straight(FlowPolicy):
    """A policy of somebody else's: every chunk is the mean chunk of the demonstrations."""

    def sample_chunk(self, cond, nfe, solver, generator, *, path=False, goal=None):
        chunk = self.chunk_mean.expand(len(cond), *self.chunk_mean.shape)
        return chunk.expand(nfe + 1, *chunk.shape) if path else chunk


@dataclass(frozen=True)
class DoubleLength(gf.SE3):
    """A geometry of somebody else's."""

    length: float = 2.0


def test_a_policy_and_a_geometry_of_ones_own_need_no_edit(demos, tmp_path):
    """Both are named module:Class, trained by the one loop, and read back from the run folder."""
    foreign = PolicyConfig(
        type=f"{__name__}:Straight", manifold=f"{__name__}:DoubleLength", width=16, depth=1, horizon=8
    )
    settings = TrainConfig(demos=str(demos), steps=1, batch_size=4)
    config = Config(env=EnvConfig("tests/Walk-v0"), policy=foreign, train=settings)
    policy = gf.load_policy(train(config, tmp_path / "run", device="cpu"))
    assert type(policy) is Straight
    assert policy.pose_space.factors[0] == DoubleLength()
    obs = Chunks(demos, 8).sample(3).obs
    in_frame = policy.to_space(obs, policy.act(obs))
    assert policy.space.distance(in_frame, policy.chunk_mean.expand_as(in_frame)).max() < 1e-3


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]], ids=lambda c: c.type)
def test_unknown_solvers_are_refused(demos, config):
    chunks = Chunks(demos, 8)
    policy = build_policy(config, PolicySpec.of(chunks))
    with pytest.raises(ValueError, match="one of"):
        policy.act(chunks.sample(2).obs, solver="rk45")


def test_broker_executes_the_first_steps_of_each_chunk(demos):
    chunks = Chunks(demos, 8, 2)
    policy = build_policy(CONFIGS[1], PolicySpec.of(chunks)).eval()
    obs = {name: x[0, -1].numpy() for name, x in chunks.sample(2).obs.items()}
    broker = gf.ChunkBroker(policy, execute=3, generator=torch.Generator().manual_seed(0))
    actions = [broker.act(obs) for _ in range(6)]
    history = {name: torch.tensor(x).expand(2, -1) for name, x in obs.items()}
    generator = torch.Generator().manual_seed(0)
    expected = torch.cat([policy.act(history, generator=generator)[:3] for _ in range(2)])
    torch.testing.assert_close(torch.from_numpy(np.stack(actions)), expected)
    with pytest.raises(ValueError, match="between 1 and"):
        gf.ChunkBroker(policy, execute=9)


def test_rotations_spread_over_the_whole_group_still_have_a_centre():
    """Haar-uniform rotations have no unique Frechet mean; a policy is fitted all the same."""
    x = gf.lie.se3.random_uniform(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    middle = center(gf.SE3(), x)
    torch.testing.assert_close(middle[:, 3:].norm(dim=-1), torch.ones(4, dtype=torch.float64))
    assert middle.isfinite().all()


def test_a_single_chunk_has_statistics():
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    found = ChunkStatistics.of(space, space.identity(1, 4), arms=1, extras=1)
    assert found.feature_scale.isfinite().all()
    assert (found.feature_scale > 0).all()


TOOLBOX = [
    {"method": "MeanFlow(instant=0.5)", "target": "velocity"},
    {"method": "Shortcut()"},
    {"method": "Consistency()", "manifold": "R3xSO3"},
    {"prior": "igso3", "path": "Geodesic(Exponential(3))", "times": "Beta(1, 1.5)"},
    {"prior": "GaussianProcess(kernel=OrnsteinUhlenbeck(4))", "coupling": "OptimalTransport()"},
    {"path": "Geodesic(((Linear(), Cosine()), Power(2)))", "manifold": "R3xSO3", "grid": "dense_jump(0.5)"},
    {"path": "BrownianBridge(0.1)", "target": "velocity", "coupling": "ConditionalTransport(0.1)"},
    {"type": "regression"},
    {"type": "regression", "method": "Regression(norm='l1', steps=2)", "manifold": "Euclidean"},
    {"path": "Diffusion(CosineVP())", "manifold": "Euclidean", "times": "LogitNormal(0, 1)"},
]


@pytest.mark.parametrize("options", TOOLBOX, ids=str)
def test_the_toolbox_by_name(demos, options):
    """Every option trains, samples finite chunks in few evaluations, and comes back from its configuration."""
    torch.manual_seed(0)
    config = PolicyConfig(width=64, depth=1, horizon=8, execute=4, **options)
    chunks = Chunks(demos, 8, 1)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    batch = chunks.sample(16)
    policy(batch, torch.Generator().manual_seed(0)).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters())
    nfe = policy.cells(config, [2])[0][0]
    acted = policy.act(batch.obs, nfe=nfe)
    assert acted.shape == batch.actions.shape
    assert acted.isfinite().all()
    again = build_policy(PolicyConfig(**config.__dict__), policy.spec)
    again.load_state_dict(policy.state_dict())
    torch.testing.assert_close(
        again.act(batch.obs, nfe=nfe, generator=torch.Generator().manual_seed(1)),
        policy.act(batch.obs, nfe=nfe, generator=torch.Generator().manual_seed(1)),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "Geodesic(Exponent(3))"}, "Did you mean Exponential"),
        ({"method": "MeanFlow(share=0.5)"}, "unexpected keyword argument 'share'"),
        ({"method": "Meanflow()"}, "Did you mean MeanFlow"),
        ({"prior": "cauchy"}, "gaussian, haar"),
        ({"solver": "jump"}, "auto or one of euler"),
        ({"grid": "dense_jump(2)"}, "jump between 0 and 1"),
        ({"solver": "rkmk4", "target": "velocity"}, "nfe=10; rkmk4 takes a multiple of 4"),
        ({"solver": "cf4", "nfe": 4}, "cf4 evaluates the velocity at t = 1"),
        ({"grid": "dense_jump(0.5)", "nfe": 1}, "expected at least 2 steps"),
        ({"path": "BrownianBridge(0.1)"}, "policy.path='BrownianBridge(0.1)': the velocity of"),
        ({"path": "SigmaMin(0.01)"}, "Use target='velocity'"),
        ({"path": "Geodesic((Linear(),))"}, "takes one clock"),
        ({"prior": "GaussianProcess(kernel=SquaredExponential(0))"}, "positive definite"),
        ({"prior": "geoflow.flows:FullGaussian"}, "'geoflow.flows:FullGaussian' is no prior of chunks"),
        ({"prior": "GaussianProcess(kernel=Brownian)"}, "expected a kernel T -> covariance"),
        ({"path": "Geodesic(Power)"}, "expected a clock t -> (kappa, kappa')"),
        ({"path": "Diffusion(CosineVP)"}, "expected a mixture t -> "),
        ({"method": "MeanFlow"}, "policy.method='MeanFlow' is no method; write MeanFlow()."),
        ({"path": "Geodesic"}, "write Geodesic()."),
        ({"times": "LogitNormal"}, "write LogitNormal()."),
        ({"coupling": "OptimalTransport"}, "write OptimalTransport()."),
        ({"prior": "GaussianProcess"}, "write GaussianProcess()."),
        ({"grid": "dense_jump"}, "write such as uniform or dense_jump(0.5)."),
        ({"path": "BrownianBridge"}, "is no path; write such as Geodesic(), "),
        ({"path": "Linear()"}, "'Linear()' is no path"),
        ({"prior": "Brownian()"}, "'Brownian()' is no prior"),
        ({"grid": "3"}, "'3' is no grid"),
        ({"type": "ddpm", "nfe": 200}, "at most its 100 steps"),
        ({"observations": ("tcp",), "gravity": False}, "there is nothing to tell of it"),
        ({"type": "ddpm", "method": "MeanFlow()"}, "policy.type='ddpm' has no use for it"),
        ({"type": "regression", "path": "Geodesic(Cosine())"}, "Leave it at 'Geodesic()'"),
        ({"type": "regression", "method": "Regression"}, "write such as Regression(steps=2)"),
        ({"type": "regression", "solver": "euler"}, "auto or regression"),
        ({"type": "regression", "target": "velocity"}, "for a regression it is endpoint"),
    ],
)
def test_options_that_do_not_exist(demos, options, says):
    chunks = Chunks(demos, 8, 1)
    config = PolicyConfig(width=64, depth=1, horizon=8, execute=4, **options)
    with pytest.raises(ValueError, match=re.escape(says)):
        build_policy(config, PolicySpec.of(chunks))

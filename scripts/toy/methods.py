"""Every method as one row: what its network learns, and how it is sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from geoflow import flows
from geoflow.flows.diffusion import GroupDiffusion
from geoflow.flows.flow import Network
from geoflow.flows.integrators import Solver
from geoflow.flows.integrators.learned_clock import learned_clock
from geoflow.flows.reflow import Pairs, StepTimes
from geoflow.manifolds import Euclidean, Manifold
from geoflow.policies.ddpm import DDPM

from .nets import StackedMLP
from .sets import SETS, ToySet
from .training import Data, Loss

NFES = (1, 2, 4, 10, 50)
MAIN = ("moons", "peaks", "box")
"""One set of each kind of space."""
GROUPS = ("peaks", "box")
"""One on each group."""
GRASPS = ("cylinder", "box")
FIRST = ("peaks",)
"""Where every row runs; elsewhere those that answer a question about the set."""
CURVED = ("cone", "peaks", "line", "hole", "cylinder", "box")
"""Sets with rotations, where features differ from points."""
PAIRS = 16384
"""Pairs that reflow draws for each seed."""


@dataclass(frozen=True)
class Problem:
    """What a method is given: data, and trained networks of other methods."""

    data: Data
    network: Callable[[str], StackedMLP]

    @property
    def toy(self) -> ToySet:
        """The set."""
        return self.data.toy

    @property
    def space(self) -> Manifold:
        """Its manifold."""
        return self.data.toy.space

    @property
    def points(self) -> Tensor:
        """Training data (n, point_dim) of the first seed."""
        return self.data.x[:, 0]


@dataclass(frozen=True)
class Learner:
    """A method on one set.

    Attributes:
        draw: (net, cond, n, nfe, generator, path=False) -> points (n, point_dim) of the set's space, or with
            ``path`` all states (steps + 1, n, point_dim).
        loss: None where the network of the method's source is used as it is.
        inputs: Features of the network.
        outputs: Numbers that it predicts.
        times: 1, or 2 for (t, r).
        log_prob: (net, x) -> log densities, where there are some.
        curves: Whether its states are trajectories of a velocity field, whose straightness means something.
        tokens: How many classes of tokens are generated beside the points; the loss is then given the modes.
        extra: (net, seed) -> further numbers of the record.
    """

    draw: Callable[..., Tensor]
    loss: Loss | None
    inputs: int
    outputs: int
    times: int = 1
    log_prob: Callable[[StackedMLP, Tensor], Tensor] | None = None
    curves: bool = True
    tokens: int = 0
    extra: Callable[[StackedMLP, int], dict[str, float]] | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: As on the command line.
        family: Rows that belong together.
        about: One line.
        build: The learner on a problem.
        source: The method whose network it samples, starts from or is taught by.
        warm: Whether its network begins as the source's.
        nfes: Evaluations at which it is measured.
        sets: Where it is defined; everywhere by default.
    """

    name: str
    family: str
    about: str
    build: Callable[[Problem], Learner]
    source: str | None = None
    warm: bool = False
    nfes: tuple[int, ...] = NFES
    sets: tuple[str, ...] = tuple(SETS)


@dataclass(frozen=True)
class EachSeed:
    """A coupling within each seed's own part of a stacked batch."""

    coupling: flows.Coupling
    seeds: int

    def __call__(self, space: Manifold, x_0: Tensor, x_1: Tensor, cond: Any = None) -> tuple[Tensor, Tensor]:
        """x_0 and x_1 (B * seeds, point_dim), paired."""
        paired = [
            self.coupling(
                space,
                x_0[s :: self.seeds],
                x_1[s :: self.seeds],
                None if cond is None else cond[s :: self.seeds],
            )
            for s in range(self.seeds)
        ]
        return tuple(torch.stack(parts, 1).flatten(0, 1) for parts in zip(*paired, strict=True))  # type: ignore[return-value]


def transport(problem: Problem) -> flows.Coupling:
    """Minibatch optimal transport, among equal tags where there are some."""
    coupling = flows.ConditionalTransport() if problem.toy.tagged else flows.OptimalTransport()
    return EachSeed(coupling, problem.data.seeds)


# From a flow to a learner.

MakeFlow = Callable[[Problem], flows.Flow]


def of_flow(
    flow: flows.Flow,
    space: Manifold,
    method: Solver = flows.euler,
    *,
    train: bool = True,
    grid: Callable[[StackedMLP, int], Any] | None = None,
) -> Learner:
    """A flow on ``space``, or on Euclidean(space.feature_dim) whose samples are then projected."""
    flat = flow.space != space
    two_times = isinstance(flow, flows.FlowMap)
    cost = getattr(method, "evaluations", 1)

    def draw(
        net: StackedMLP, cond: Tensor | None, n: int, nfe: int, generator: torch.Generator, path: bool = False
    ) -> Tensor:
        steps = nfe // cost if grid is None else grid(net, nfe // cost)
        given: dict[str, Any] = {} if two_times else {"method": method}
        x = flow.sample(net, cond, batch=n, steps=steps, generator=generator, path=path, **given)
        return space.from_features(x) if flat else x

    def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
        return flow.loss(net, space.features(x_1) if flat else x_1, cond, generator=generator)

    def log_prob(net: StackedMLP, x: Tensor) -> Tensor:
        return flows.log_prob(flow, net, x, steps=12)

    return Learner(
        draw,
        loss if train else None,
        flow.space.feature_dim,
        flow.space.tangent_dim,
        times=2 if two_times else 1,
        log_prob=log_prob if flow.target == "velocity" and not flat and _has_density(flow) else None,
    )


def _has_density(flow: flows.Flow) -> bool:
    try:
        flow.prior.log_prob(flow.space.identity(1))
    except NotImplementedError:
        return False
    return True


def flow_row(name: str, family: str, about: str, make: MakeFlow, **more: Any) -> Method:
    """A row that trains the flow which ``make`` describes."""
    return Method(name, family, about, lambda problem: of_flow(make(problem), problem.space), **more)


def solver_row(method: flows.Integrator, about: str, sets: tuple[str, ...]) -> Method:
    """A row that samples a trained plain flow with another integrator."""
    nfes = tuple(nfe for nfe in NFES if nfe >= method.evaluations)

    def build(problem: Problem) -> Learner:
        return replace(
            of_flow(plain(problem), problem.space, method, train=False), log_prob=None, curves=False
        )

    return Method(method.name, "solvers", about, build, source="plain", nfes=nfes, sets=sets)


def pairs_row(
    name: str, source: str, about: str, steps: int | None = None, sets: tuple[str, ...] = tuple(SETS)
) -> Method:
    """A row that trains on a source's pairs and begins as its network: reflow, or a distillation into ``steps``."""

    def build(problem: Problem) -> Learner:
        return _reflow(problem, source) if steps is None else _few_steps(problem, steps, source)

    nfes = NFES if steps is None else (steps,)
    return Method(name, "few steps", about, build, source, warm=True, nfes=nfes, sets=sets)


def source_row(
    name: str,
    family: str,
    about: str,
    build: Callable[[Problem], Learner],
    source: str,
    sets: tuple[str, ...],
) -> Method:
    """A row that samples, in its own way, a network that another has trained."""

    def sampler(problem: Problem) -> Learner:
        return replace(build(problem), loss=None, curves=False)

    return Method(name, family, about, sampler, source, sets=sets)


def plain(problem: Problem) -> flows.Flow:
    """Geodesic paths from a unit wrapped Gaussian, independent coupling, velocities."""
    return flows.Flow(problem.space)


# Flows.


def _fitted(problem: Problem) -> flows.Flow:
    prior = flows.FullGaussian.fit(problem.space, problem.points[:4000])
    return flows.Flow(problem.space, prior)


def _variance_exploding(problem: Problem) -> flows.Flow:
    space = problem.space
    prior = flows.HaarUniform(space, scale=3.0)
    return flows.Flow(space, prior, flows.Diffusion(flows.VE()))


def _features(problem: Problem) -> flows.Flow:
    return flows.Flow(Euclidean(problem.space.feature_dim))


def _clock(problem: Problem) -> Learner:
    """Euler on a grid learned from the flow's own trajectories."""
    flow = plain(problem)

    def grid(net: StackedMLP, steps: int) -> list[float]:
        cond = None
        if problem.toy.tagged:
            cond = problem.toy.condition(problem.data.mode[:256, 0])
        states = flow.sample(
            net, cond, batch=256, steps=100, path=True, generator=torch.Generator().manual_seed(5)
        )
        return learned_clock(flow.space, states, steps)

    learner = of_flow(flow, problem.space, train=False, grid=grid)
    return replace(learner, log_prob=None, curves=False)


# Few steps.


def _pairs(problem: Problem, flow: flows.Flow, name: str) -> Callable[[int, torch.Generator], Any]:
    """Batches (x_0, x_1, cond) of where the trained flow ``name`` carries its noise, drawn when first asked for."""
    seeds = problem.data.seeds

    @cache
    def pairs() -> Pairs:
        generator = torch.Generator().manual_seed(11)
        cond = None
        if problem.toy.tagged:
            rows = torch.randint(len(problem.data.mode), (PAIRS,), generator=generator)
            cond = problem.toy.condition(problem.data.mode[rows].flatten())
        net = problem.network(name)
        # What has been straightened once is walked in fewer steps of order 3.
        steps = 16 if name == "plain" else 4
        return Pairs.draw(
            flow, net, PAIRS * seeds, cond, steps=steps, batch=2048 * seeds, generator=generator
        )

    def batch(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        rows = torch.randint(PAIRS, (size, seeds), generator=generator)
        flat = (rows * seeds + torch.arange(seeds)).flatten()
        x_0, x_1, cond = pairs().x_0, pairs().x_1, pairs().cond
        return x_0[flat], x_1[flat], None if cond is None else cond[flat]

    return batch


def _on_pairs(problem: Problem, flow: flows.Flow, source: str) -> Learner:
    """A flow trained on the pairs of another, with the same network to begin with."""
    batch = _pairs(problem, plain(problem), source)

    def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
        start, end, cond = batch(len(x_1) // net.seeds, generator)
        return flow.loss(net, end, cond, x_0=start, generator=generator)

    return replace(of_flow(flow, problem.space), loss=loss)


def _reflow(problem: Problem, source: str, times: flows.Times = flows.uniform_times) -> Learner:
    return _on_pairs(problem, flows.Flow(problem.space, times=times), source)


def _few_steps(problem: Problem, steps: int, source: str) -> Learner:
    """Reflow pairs distilled into the given number of Euler steps, and no others."""
    learner = _reflow(problem, source, StepTimes(steps))
    return replace(learner, log_prob=None, curves=False)


def _taught(problem: Problem, kind: Callable[..., flows.FlowMap], **options: Any) -> flows.Flow:
    """A flow map that learns from the velocities of the trained plain flow."""
    teacher = partial(plain(problem).velocity, problem.network("plain"))
    return kind(problem.space, teacher=teacher, **options)


# Diffusion.


def _ddpm(target: str, solver: str) -> Callable[[Problem], Learner]:
    def build(problem: Problem) -> Learner:
        space = problem.space
        diffusion = DDPM.fit(space.features(problem.points), target)

        def draw(
            net: StackedMLP,
            cond: Tensor | None,
            n: int,
            nfe: int,
            generator: torch.Generator,
            path: bool = False,
        ) -> Tensor:
            x = diffusion.sample(net, cond, batch=n, nfe=nfe, solver=solver, generator=generator, path=path)
            return space.from_features(x)

        def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
            return diffusion.loss(net, space.features(x_1), cond, generator=generator)

        return Learner(draw, loss, space.feature_dim, space.feature_dim, curves=solver == "ddim")

    return build


def _group_diffusion(noise: float) -> Callable[[Problem], Learner]:
    """Denoising score matching on the group; 0 samples the probability flow, 1 the reverse diffusion."""

    def build(problem: Problem) -> Learner:
        space = problem.space
        diffusion = GroupDiffusion(space, sigma_min=0.02)

        def draw(
            net: StackedMLP,
            cond: Tensor | None,
            n: int,
            nfe: int,
            generator: torch.Generator,
            path: bool = False,
        ) -> Tensor:
            return diffusion.sample(
                net, cond, batch=n, steps=nfe, noise=noise, generator=generator, path=path
            )

        def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
            return diffusion.loss(net, x_1, cond, generator=generator)

        return Learner(draw, loss, space.feature_dim, space.tangent_dim, curves=noise == 0)

    return build


# Noise on the way.


def _stochastic(noise: float) -> Callable[[Problem], Learner]:
    """A Brownian bridge whose network has two heads, velocity and score; sampled with noise of the given level."""

    def build(problem: Problem) -> Learner:
        flow = flows.Flow(problem.space, path=flows.BrownianBridge(0.3))
        d = problem.space.tangent_dim

        def heads(net: Network) -> tuple[Network, Network]:
            return (lambda f, t, c: net(f, t, c)[..., :d]), (lambda f, t, c: net(f, t, c)[..., d:])

        def draw(
            net: StackedMLP,
            cond: Tensor | None,
            n: int,
            nfe: int,
            generator: torch.Generator,
            path: bool = False,
        ) -> Tensor:
            velocity, score = heads(net)
            # Both heads are one evaluation of one network.
            return flows.sample_sde(
                flow, velocity, flows.learned_score(flow, score), cond,
                noise=noise, batch=n, steps=nfe, generator=generator, path=path,
            )  # fmt: skip

        def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
            velocity, score = heads(net)
            of_score = flows.score_loss(flow, score, x_1, cond, generator=generator)
            return flow.loss(velocity, x_1, cond, generator=generator) + of_score

        return Learner(draw, loss, problem.space.feature_dim, 2 * d, curves=noise == 0)

    return build


# Tokens.


def _joint(problem: Problem) -> Learner:
    """Points and their mode as a token, generated together."""
    space, classes = problem.space, problem.toy.modes
    joint = flows.JointFlow(plain(problem), flows.DiscreteFlow(classes))

    def of(net: StackedMLP) -> Any:
        def both(inputs: tuple[Tensor, Tensor], t: Tensor, cond: Any) -> tuple[Tensor, Tensor]:
            features, tokens = inputs
            out = net(features, t, torch.nn.functional.one_hot(tokens, classes + 1).to(features))
            return out[..., : space.tangent_dim], out[..., space.tangent_dim :]

        return both

    def draw(
        net: StackedMLP, cond: Tensor | None, n: int, nfe: int, generator: torch.Generator, path: bool = False
    ) -> Tensor:
        return joint.sample(of(net), batch=n, steps=nfe, generator=generator, path=path)[0]

    def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
        assert cond is not None
        return joint.loss(of(net), (x_1, cond.argmax(-1)), generator=generator)

    def extra(net: StackedMLP, seed: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        x, tokens = joint.sample(of(net), batch=768, steps=50, generator=generator)
        return {"token": float((problem.toy.mode_of(x) == tokens).float().mean())}

    outputs = space.tangent_dim + classes
    return Learner(draw, loss, space.feature_dim, outputs, curves=False, tokens=classes, extra=extra)


# Conditions.


def _guided(problem: Problem, weight: float, *, train: bool) -> Learner:
    """Tags dropped in a fifth of the training; samples drawn with classifier-free guidance."""
    flow, null = plain(problem), torch.zeros(problem.toy.modes)

    def draw(
        net: StackedMLP, cond: Tensor | None, n: int, nfe: int, generator: torch.Generator, path: bool = False
    ) -> Tensor:
        follow = flows.guided(net, null, weight)
        return flow.sample(follow, cond, batch=n, steps=nfe, generator=generator, path=path)

    def loss(net: StackedMLP, x_1: Tensor, cond: Tensor | None, generator: torch.Generator) -> Tensor:
        assert cond is not None
        return flow.loss(net, x_1, flows.drop_condition(cond, null, 0.2, generator), generator=generator)

    return Learner(draw, loss if train else None, flow.space.feature_dim, flow.space.tangent_dim)


# The registry.

_ROWS = [
    flow_row("plain", "flow", "geodesic paths, velocities, independent coupling", plain),
    flow_row(
        "ot",
        "coupling",
        "minibatch optimal transport with the geodesic cost",
        lambda p: flows.Flow(p.space, coupling=transport(p)),
    ),
    flow_row(
        "endpoint",
        "target",
        "the network predicts x_1",
        lambda p: flows.Flow(p.space, target="endpoint"),
        sets=FIRST,
    ),
    flow_row(
        "haar",
        "prior",
        "rotations from Haar measure",
        lambda p: flows.Flow(p.space, flows.HaarUniform(p.space)),
        sets=GROUPS,
    ),
    flow_row(
        "igso3",
        "prior",
        "rotations from the heat kernel",
        lambda p: flows.Flow(p.space, flows.IGSO3(p.space)),
        sets=FIRST,
    ),
    flow_row("fitted", "prior", "Frechet mean and covariance of the data", _fitted, sets=("moons",)),
    flow_row(
        "cosine",
        "schedule",
        "kappa = sin^2(pi t / 2)",
        lambda p: flows.Flow(p.space, path=flows.Geodesic(flows.Cosine())),
        sets=FIRST,
    ),
    flow_row(
        "exponential",
        "schedule",
        "kappa = (1 - e^(-5 t)) / (1 - e^-5)",
        lambda p: flows.Flow(p.space, path=flows.Geodesic(flows.Exponential(5.0))),
        sets=FIRST,
    ),
    flow_row(
        "logit_normal",
        "times",
        "times in the middle more often",
        lambda p: flows.Flow(p.space, times=flows.LogitNormal()),
        sets=FIRST,
    ),
    flow_row(
        "sigma_min",
        "path",
        "a Gaussian of width 0.05 around each path's end",
        lambda p: flows.Flow(p.space, path=flows.SigmaMin(0.05)),
        sets=FIRST,
    ),
    flow_row(
        "bridge",
        "path",
        "Brownian bridge, diffusion 0.3",
        lambda p: flows.Flow(p.space, path=flows.BrownianBridge(0.3)),
        sets=MAIN,
    ),
    flow_row(
        "bridge_ot",
        "path",
        "Brownian bridge with optimal transport",
        lambda p: flows.Flow(p.space, path=flows.BrownianBridge(0.3), coupling=transport(p)),
        sets=FIRST,
    ),
    flow_row(
        "vp",
        "path",
        "variance preserving diffusion as a flow",
        lambda p: flows.Flow(p.space, path=flows.Diffusion()),
        sets=(*MAIN, "sine_tags"),
    ),
    flow_row(
        "ve", "path", "variance exploding diffusion as a flow", _variance_exploding, sets=("moons", "peaks")
    ),
    flow_row("features", "baseline", "Euclidean flow on features, projected", _features, sets=GROUPS),
    solver_row(flows.midpoint, "explicit midpoint", GROUPS),
    solver_row(flows.rkmk4, "Munthe-Kaas of order 4", tuple(SETS)),
    solver_row(flows.cf4, "commutator-free of order 4", GROUPS),
    Method(
        "clock", "solvers", "Euler on a grid learned from trajectories", _clock, source="plain", sets=GROUPS
    ),
    pairs_row("reflow", "plain", "trained on the plain flow's pairs"),
    pairs_row("reflow2", "reflow", "a second round", sets=GROUPS),
    pairs_row("reflow_1step", "reflow", "the second round's pairs, distilled into one step", steps=1),
    pairs_row("reflow_2step", "reflow", "the second round's pairs, distilled into two steps", steps=2),
    pairs_row("ot_reflow", "ot", "trained on the pairs of the flow with optimal transport", sets=GRASPS),
    pairs_row(
        "ot_1step",
        "ot",
        "the pairs of the flow with optimal transport, distilled into one step",
        steps=1,
        sets=GRASPS,
    ),
    pairs_row("ot_2step", "ot", "the same, distilled into two steps", steps=2, sets=GRASPS),
    pairs_row(
        "plain_2step", "plain", "the plain flow's pairs, distilled into two steps", steps=2, sets=GRASPS
    ),
    flow_row(
        "meanflow",
        "few steps",
        "average velocities, from scratch",
        lambda p: flows.MeanFlow(p.space),
        sets=GROUPS,
    ),
    flow_row(
        "meanflow_ot",
        "few steps",
        "average velocities with optimal transport",
        lambda p: flows.MeanFlow(p.space, coupling=transport(p)),
        sets=("peaks", *GRASPS),
    ),
    flow_row(
        "meanflow_taught",
        "few steps",
        "average velocities of the plain flow",
        lambda p: _taught(p, flows.MeanFlow),
        source="plain",
        sets=GROUPS,
    ),
    Method(
        "meanflow_pairs",
        "few steps",
        "average velocities on reflow's pairs, beginning as its network",
        lambda p: replace(_on_pairs(p, flows.MeanFlow(p.space), "reflow"), log_prob=None),
        source="reflow",
        warm=True,
        sets=CURVED,
    ),
    flow_row(
        "shortcut",
        "few steps",
        "two half jumps make one, from scratch",
        lambda p: flows.Shortcut(p.space),
        sets=FIRST,
    ),
    flow_row(
        "shortcut_taught",
        "few steps",
        "two half jumps make one, of the plain flow",
        lambda p: _taught(p, flows.Shortcut),
        source="plain",
        sets=GROUPS,
    ),
    flow_row(
        "consistency",
        "few steps",
        "jumps along a trajectory agree, from scratch",
        lambda p: flows.Consistency(p.space),
        sets=FIRST,
    ),
    flow_row(
        "consistency_taught",
        "few steps",
        "jumps along the plain flow agree",
        lambda p: _taught(p, flows.Consistency),
        source="plain",
        sets=CURVED,
    ),
    Method(
        "ddpm_noise",
        "diffusion",
        "DDPM on features, predicts noise, DDIM",
        _ddpm("noise", "ddim"),
        sets=FIRST,
    ),
    Method(
        "ddpm_endpoint",
        "diffusion",
        "DDPM on features, predicts x_1, DDIM",
        _ddpm("endpoint", "ddim"),
        sets=FIRST,
    ),
    Method("ddpm_v", "diffusion", "DDPM on features, predicts v, DDIM", _ddpm("v", "ddim"), sets=MAIN),
    source_row(
        "ddpm_ancestral", "diffusion", "the v network, ancestral sampling", _ddpm("v", "ddpm"), "ddpm_v", MAIN
    ),
    source_row(
        "ddpm_solver", "diffusion", "the v network, DPM-Solver++", _ddpm("v", "dpmsolver++"), "ddpm_v", MAIN
    ),
    Method(
        "group_diffusion",
        "diffusion",
        "score matching on the group, probability flow",
        _group_diffusion(0.0),
        sets=GROUPS,
    ),
    source_row(
        "group_reverse",
        "diffusion",
        "the same network, reverse diffusion",
        _group_diffusion(1.0),
        "group_diffusion",
        GROUPS,
    ),
    Method(
        "bridge_score",
        "stochastic",
        "Brownian bridge, velocity and score, no noise",
        _stochastic(0.0),
        sets=MAIN,
    ),
    source_row("sde", "stochastic", "the same network, noise 0.3", _stochastic(0.3), "bridge_score", MAIN),
    source_row(
        "sde_strong", "stochastic", "the same network, noise 0.8", _stochastic(0.8), "bridge_score", MAIN
    ),
    Method("joint", "tokens", "points and their mode as a token, one flow", _joint, sets=FIRST),
    Method(
        "guided_1",
        "guidance",
        "tags dropped in training, weight 1",
        lambda p: _guided(p, 1.0, train=True),
        sets=("sine_tags",),
    ),
    Method(
        "guided_2",
        "guidance",
        "classifier-free guidance, weight 2",
        lambda p: _guided(p, 2.0, train=False),
        source="guided_1",
        sets=("sine_tags",),
    ),
]
METHODS = {row.name: row for row in _ROWS}

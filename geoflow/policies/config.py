"""What a policy is, as values: the part of a configuration that travels with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PolicyConfig:
    """A policy over pose chunks; every field is a free choice, none is derived from data."""

    type: str = "flow"
    """flow, ddpm, diffusion_policy (ddpm in the range of the data), regression, or module:Class, a subclass of
    geoflow.policies.base.Policy of your own."""
    manifold: str = "SE3"
    """Geometry of the pose: SE3 (screw geodesics), R3xSO3 (decoupled), Euclidean (position + 6D rotation), or
    module:Class, a geoflow.Manifold of your own on poses, position first in tangents and features."""
    frame: str = "tcp"
    """The pose observation in which chunks are expressed, or world; with several arms it may be the beginning of one
    name an arm, and each arm's chunk is in its own: tcp for tcp_left and tcp_right."""
    gravity: bool = True
    """Show heights above z = 0 and which way is up. An end-effector frame then keeps its invariance to turns
    about the vertical and horizontal shifts of the scene, not to tilting it, which gravity and a table forbid."""
    horizon: int = 16
    """T, the steps of a predicted chunk."""
    observation_steps: int = 1
    """To, the observations a policy sees, the present one last."""
    execute: int = 8
    """Steps of a chunk that are executed before the next one is predicted."""
    observations: tuple[str, ...] = ()
    """What the policy sees, by name; everything that was recorded, by default."""
    optional: tuple[str, ...] = ()
    """Observations other than poses that may be missing when the policy acts."""
    hidden: float = 0.1
    """How often each of the optional observations is hidden in training, so that the policy learns to do without."""
    estimated: tuple[str, ...] = ()
    """Poses that are in the demonstrations and not in ``observations``, to be estimated from these: their error is
    added to the loss, and the network is told the estimates instead of pictures. Whoever acts needs none of them."""
    pictures: str = "keypoints"
    """How pictures are encoded: keypoints (a ResNet and where its channels are bright, by random crops), or blobs
    (whole pictures; where, how large and how turned is what each channel sees)."""
    backbone: str = "mlp"
    """The network: mlp (chunk as one vector), unet (1-D, FiLM), diffusion_unet (the same as Diffusion Policy has it,
    in its sizes at the default width and depth), transformer (AdaLN-zero, attends to observations), invariant (attends
    by relative poses), expert (as pi0: a transformer for observations, computed once, and one for actions)."""
    width: int = 512
    """Channels of the network."""
    depth: int = 4
    """Residual blocks of the network."""
    method: str = "Flow()"
    """flow: Flow() learns velocities; MeanFlow(), Shortcut() and Consistency() learn jumps, for one or two
    evaluations. regression: Regression(norm="l1", steps=2). This and the next five are names or calls with
    literal arguments, such as MeanFlow(instant=0.25), or module:Name of your own."""
    prior: str = "gaussian"
    """Where noise starts, as wide as the data: gaussian (wrapped), haar (uniform rotations), igso3 (heat kernel), or
    GaussianProcess(kernel=SquaredExponential(4)) and its kernels Brownian(), OrnsteinUhlenbeck(4), smooth in time."""
    path: str = "Geodesic()"
    """From noise to data: Geodesic(clock) with Linear(), Cosine(), Power(2), Exponential(5) or a tuple of one for
    each factor of the space; SigmaMin(0.01), BrownianBridge(0.1), Diffusion(CosineVP())."""
    coupling: str = "independent"
    """Which noise goes with which chunk: independent, ConditionalTransport(radius) or OptimalTransport()."""
    times: str = "uniform"
    """Times trained at: uniform, LogitNormal(0, 1) or Beta(1, 1.5)."""
    grid: str = "uniform"
    """Times stepped through: uniform, or dense_jump(0.5) for a single step from there."""
    given_steps: int = 0
    """D: train to go on with a given prefix of 0 to D steps, those that are executed while a chunk is computed
    (Black et al. 2025); it can then be executed in the manner "given" at delays up to D. 0: without."""
    target: str = "endpoint"
    """What the network predicts: endpoint (the chunk where the path ends), velocity (flow only), noise or v (the
    epsilon and the v of DDPM, ddpm only)."""
    solver: str = "auto"
    """flow: euler, midpoint, rkmk3, rkmk4, cf4. flow maps: those, and jump. ddpm: ddpm, ddim, dpmsolver++. auto: euler,
    jump, ddim."""
    nfe: int = 10
    """Network evaluations a chunk, unless the call says otherwise."""

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of its range."""
        for name in ("observations", "optional", "estimated"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ValueError(f"policy.{name}={value!r}; expected a list of names, such as [{value}].")
            object.__setattr__(self, name, tuple(value))  # JSON has lists
        if self.estimated and (not self.observations or {*self.estimated} & {*self.observations}):
            raise ValueError(
                f"policy.estimated={list(self.estimated)} beside policy.observations={list(self.observations)}; the "
                "latter names what the policy is shown, the former other poses that were recorded."
            )
        if self.pictures not in ("keypoints", "blobs"):
            raise ValueError(f"policy.pictures={self.pictures!r}; it is keypoints or blobs.")
        at_least(self, "policy", horizon=1, observation_steps=1, execute=1, width=1, depth=1, nfe=1)
        at_least(self, "policy", hidden=0, given_steps=0)
        if not self.hidden < 1:
            raise ValueError(f"policy.hidden={self.hidden}; it is a share below 1.")
        if not self.given_steps < self.horizon:
            raise ValueError(
                f"policy.given_steps={self.given_steps}; of a chunk of policy.horizon={self.horizon} steps one at "
                "least is to be learned."
            )
        if self.execute > self.horizon:
            raise ValueError(
                f"policy.execute={self.execute}; a chunk has only policy.horizon={self.horizon} steps to execute."
            )

    @property
    def recorded(self) -> tuple[str, ...]:
        """What training reads of demonstrations, by name; empty: everything."""
        return (*self.observations, *self.estimated)


def check_unused(config: PolicyConfig, *names: str) -> None:
    """Raise ValueError, naming the key, where one of ``names``, of no use to the policy, is not as by default."""
    for name in names:
        value, default = getattr(config, name), PolicyConfig.__dataclass_fields__[name].default
        if value != default:
            raise ValueError(
                f"policy.{name}={value!r}; policy.type={config.type!r} has no use for it. Leave it at {default!r}, or "
                "use type flow."
            )


def at_least(values: Any, section: str, **bounds: float) -> None:
    """Raise ValueError, naming the key, where a field of ``values`` is below its bound."""
    for name, bound in bounds.items():
        value = getattr(values, name)
        if not value >= bound:
            raise ValueError(f"{section}.{name}={value}; it is at least {bound}.")

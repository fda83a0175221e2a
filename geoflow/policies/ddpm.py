"""DDPM on R^n, and DDPMPolicy: Diffusion Policy on position + 6D rotation + extras, the baseline.

The recipe of Chi et al. 2023: 100 training steps, squared-cosine schedule, clipped samples. Theirs predicts the
noise (target "noise"); with the target "endpoint" the network predicts what it predicts in a flow, and the two
differ in the path alone; "v" lies between (Salimans and Ho 2022). Here and in denoising.py alone diffusion steps
k = 99 ... 0 are counted; the network is told t = 1 - k / 100, so that t = 1 is data as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from geoflow.data.chunks import Chunks
from geoflow.flows.batches import mean_inner, sample_shape
from geoflow.flows.flow import Network
from geoflow.flows.noise import Generators, rand, randn
from geoflow.policies.backbones import Condition, InvariantTransformer
from geoflow.policies.base import Policy
from geoflow.policies.config import PolicyConfig, check_unused
from geoflow.policies.denoising import DIFFUSION_STEPS, ancestral, ddim, dpm_solver, falling, squared_cosine
from geoflow.policies.given import Given, counted
from geoflow.policies.spec import PolicySpec

FEW_STEP_SOLVERS = ("ddim", "dpmsolver++")
SOLVERS = ("ddpm", *FEW_STEP_SOLVERS)
TARGETS = ("noise", "endpoint", "v")
"""What the network predicts; epsilon, sample and v_prediction in diffusers."""


@dataclass(frozen=True, eq=False)
class DDPM:
    """Denoising diffusion of vectors (Ho et al. 2020): y_k = sqrt(a_k) y + sqrt(1 - a_k) eps, y = (x_1 - mean) / scale.

    The counterpart of ``Flow(Euclidean(n))``, with the same network and the same calls.

        diffusion = DDPM.fit(data, target="v")
        loss = diffusion.loss(net, data, cond=cond).mean()
        x = diffusion.sample(net, cond=cond, nfe=10, solver="dpmsolver++")

    The network sees y_k (B, ..., n) and t = 1 - k / 100, and predicts, for a = a_k,
    "noise": eps; "endpoint": y; "v": sqrt(a) eps - sqrt(1 - a) y (Salimans and Ho 2022, appendix D).

    Args:
        target: noise, endpoint or v.
        mean: Centre of the data, shape (..., n).
        scale: Width of the data, likewise.
        clip: Largest |y| of the data, to which estimates of y are clipped. At k = 99 an error of a predicted noise
            is one 2000 times as large of y.
        keep: a_k for k = 0 ... 99, falling; the squared cosine (Nichol and Dhariwal 2021) by default.

    Raises:
        ValueError: an unknown target.
    """

    target: str
    mean: Tensor
    scale: Tensor
    clip: Tensor
    keep: Tensor = field(default_factory=squared_cosine)

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target={self.target!r}; a diffusion predicts one of {', '.join(TARGETS)}.")

    @classmethod
    def fit(cls, x_1: Tensor, target: str = "noise") -> DDPM:
        """For data x_1 (N, ..., n): its mean, width and range."""
        mean, scale = x_1.mean(0), x_1.std(0).clamp(min=1e-6)
        return cls(target, mean, scale, ((x_1 - mean) / scale).abs().max())

    def loss(
        self,
        net: Network,
        x_1: Tensor,
        cond: Any = None,
        *,
        generator: Generators = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Squared error of the prediction, mean over all but the batch, shape (B,); Ho et al. 2020, eq. (14).

        Args:
            net: The network.
            x_1: Data, shape (B, ..., n).
            cond: Handed to the network as it is.
            generator: Source of randomness.
            counts: Which points count, bool of shape (B, ...); all by default.
        """
        y = (x_1 - self.mean) / self.scale
        eps = randn(y.shape, generator, like=y)
        k = (DIFFUSION_STEPS * rand((len(y),), generator, like=y)).long()
        keep = self.keep.to(y)[k].reshape(-1, *(1,) * (y.dim() - 1))
        noisy = keep.sqrt() * y + (1 - keep).sqrt() * eps
        wanted = {
            "noise": eps,
            "endpoint": y,
            "v": keep.sqrt() * eps - (1 - keep).sqrt() * y,
        }[self.target]
        t = 1 - k.to(y.dtype) / DIFFUSION_STEPS
        return mean_inner((net(noisy, t, cond) - wanted).square().mean(-1), counts)

    def sample(
        self,
        net: Network,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        nfe: int = 10,
        solver: str = "ddim",
        generator: Generators = None,
        path: bool = False,
    ) -> Tensor:
        """Denoise from N(0, I) to points of shape (B, *horizon, n).

        Args:
            net: The network.
            cond: Handed to the network; its first axis gives B where it is a tensor.
            horizon: Inner axes of a sample.
            batch: B, where ``cond`` does not give it.
            nfe: Network evaluations, one a step.
            solver: ddpm (ancestral, stochastic), ddim (deterministic) or dpmsolver++ (of second order).
            generator: Source of randomness, or one generator per batch element.
            path: Return all states, shape (nfe + 1, B, *horizon, n).

        Raises:
            ValueError: B is not given; an unknown solver; fewer than 1 or more than 100 evaluations.
        """
        if solver not in SOLVERS:
            raise ValueError(f"solver={solver!r}; a diffusion is sampled by one of {', '.join(SOLVERS)}.")
        if not 1 <= nfe <= DIFFUSION_STEPS:
            raise ValueError(f"nfe={nfe}; this diffusion is sampled in 1 to {DIFFUSION_STEPS} steps.")
        shape = sample_shape(cond, batch, horizon)
        y = randn((*shape, self.mean.shape[-1]), generator, like=self.mean)
        keep, states = self.keep.tolist(), [y]
        before: tuple[Tensor, float] | None = None
        ks = falling(solver, nfe)
        for k, j in zip(ks, [*ks[1:], None], strict=True):
            a = keep[k]
            predicted = net(y, y.new_full((len(y),), 1 - k / DIFFUSION_STEPS), cond)
            estimate = self._estimate(predicted, y, a)
            clipped = estimate.clamp(-self.clip, self.clip)
            if j is None:
                y = clipped
            elif solver == "ddpm":
                y = ancestral(y, clipped, a, keep[j], generator)
            elif solver == "ddim":
                y = ddim(clipped, (y - sqrt(a) * estimate) / sqrt(1 - a), keep[j])
            else:
                y, before = dpm_solver(y, clipped, a, keep[j], before), (clipped, a)
            states.append(y)
        y = torch.stack(states) if path else y
        return y * self.scale + self.mean

    def _estimate(self, predicted: Tensor, noisy: Tensor, a: float) -> Tensor:
        """y, from what the network predicts of y_k."""
        if self.target == "endpoint":
            return predicted
        if self.target == "v":
            return sqrt(a) * noisy - sqrt(1 - a) * predicted
        return (noisy - sqrt(1 - a) * predicted) / sqrt(a)


class DDPMPolicy(Policy):
    """Denoising diffusion of the standardised features of a chunk."""

    clip: Tensor
    alphas_cumprod: Tensor

    @staticmethod
    def default_solver(config: PolicyConfig) -> str:
        """DDIM."""
        return "ddim"

    @classmethod
    def cells(cls, config: PolicyConfig, counts: Sequence[int]) -> list[tuple[int, str]]:
        """Fairly: by DDIM and DPM-Solver++ where evaluations are few, and by all ancestral steps."""
        if counts[-1] > DIFFUSION_STEPS:
            raise ValueError(
                f"nfe={counts[-1]}; a diffusion policy takes at most its {DIFFUSION_STEPS} steps."
            )
        few = [(n, name) for name in FEW_STEP_SOLVERS for n in counts if n < DIFFUSION_STEPS]
        return [*few, (DIFFUSION_STEPS, "ddpm")]

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        if config.solver not in ("auto", *SOLVERS):
            raise ValueError(f"policy.solver={config.solver!r}; it is auto or one of {', '.join(SOLVERS)}.")
        if config.target not in TARGETS:
            raise ValueError(f"policy.target={config.target!r}; for ddpm it is one of {', '.join(TARGETS)}.")
        check_unused(config, "method", "prior", "path", "coupling", "times", "grid")
        self.cells(config, [config.nfe])  # raises ValueError for more evaluations than it has steps
        super().__init__(replace(config, manifold="Euclidean"), spec)
        self.register_buffer("clip", torch.ones(()))
        self.register_buffer("alphas_cumprod", squared_cosine())

    @property
    def diffusion(self) -> DDPM:
        """The diffusion of chunks, with the present statistics."""
        return DDPM(self.config.target, self.chunk_mean, self.chunk_scale, self.clip, self.alphas_cumprod)

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres, widths and the range of the data from demonstrations."""
        super().fit(chunks, samples)
        seen = set() if self.frames.in_world else set(self.frames.names)
        # All of them, in pieces: what is clipped to the range of a part can never do the rest.
        pieces = (self.to_space(batch.obs, batch.actions) for batch in chunks.pieces(samples, seen))
        low, high = zip(*((x.amin(0), x.amax(0)) for x in pieces), strict=True)
        self.fit_range(torch.stack(low).amin(0), torch.stack(high).amax(0))
        if isinstance(self.net, InvariantTransformer):
            self.net.fit(self.chunk_mean, self.chunk_scale)

    def fit_range(self, low: Tensor, high: Tensor) -> None:
        """Take what estimates are clipped to from the least and largest chunks (T, point_dim) of the demonstrations."""
        self.clip.copy_(((torch.stack([low, high]) - self.chunk_mean) / self.chunk_scale).abs().max())

    def standardise(self, features: Tensor) -> Tensor:
        """In the centre and width of the diffusion itself."""
        return (features - self.chunk_mean) / self.chunk_scale

    def chunk_loss(
        self,
        x_1: Tensor,
        cond: Tensor | Condition,
        generator: Generators,
        given: Given | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Denoising loss (B,)."""
        net, counts = partial(self.run_network, given=given), counted(given, counts)
        return self.diffusion.loss(net, x_1, cond, generator=generator, counts=counts)

    def sample_chunk(
        self,
        cond: Tensor | Condition,
        nfe: int,
        solver: str,
        generator: Generators,
        *,
        path: bool = False,
        given: Given | None = None,
    ) -> Tensor:
        """Denoise from N(0, I) in ``nfe`` steps of ``solver``: ddpm, ddim or dpmsolver++."""
        return self.diffusion.sample(
            partial(self.run_network, given=given),
            cond,
            horizon=self.config.horizon,
            batch=len(cond),
            nfe=nfe,
            solver=solver,
            generator=generator,
            path=path,
        )

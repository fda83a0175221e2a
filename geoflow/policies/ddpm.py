"""DDPMPolicy: Diffusion Policy on position + 6D rotation + extras, the baseline.

The recipe of Chi et al. 2023: 100 training steps, squared-cosine schedule, clipped samples. Theirs predicts the
noise (target "noise"); with the target "endpoint" the network predicts what it predicts in a flow, and the two
differ in the path alone. This is the only file that counts diffusion steps k = 99 ... 0; the network is told
t = 1 - k / 100, so that t = 1 is data as everywhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geoflow.data.chunks import Chunks
from geoflow.flows.noise import Generators, randn
from geoflow.policies.base import Policy, PolicySpec
from geoflow.policies.config import PolicyConfig

DIFFUSION_STEPS = 100
SOLVERS = ("ddpm", "ddim", "dpmsolver++")
PREDICTIONS = {"noise": "epsilon", "endpoint": "sample"}
"""What the network predicts: our word -> the word of diffusers."""


class DDPMPolicy(Policy):
    """Denoising diffusion of the standardised features of a chunk; solvers from diffusers."""

    clip: Tensor
    alphas_cumprod: Tensor
    default_solver = "ddim"

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        if config.solver not in ("auto", *SOLVERS):
            raise ValueError(f"policy.solver={config.solver!r}; it is auto or one of {', '.join(SOLVERS)}.")
        if config.target not in PREDICTIONS:
            raise ValueError(
                f"policy.target={config.target!r}; for ddpm it is one of {', '.join(PREDICTIONS)}."
            )
        super().__init__(replace(config, manifold="Euclidean"), spec)
        self.register_buffer("clip", torch.ones(()))
        self.register_buffer("alphas_cumprod", _scheduler("ddpm", "sample", 1.0).alphas_cumprod.clone())

    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres, widths and the range of the data from demonstrations."""
        super().fit(chunks, samples)
        batch = chunks.sample(samples)
        self.clip.copy_(self._standardised(self.to_space(batch.obs, batch.actions)).abs().max())

    def chunk_loss(self, x_1: Tensor, cond: Tensor, generator: Generators) -> Tensor:
        """| eps_theta - eps |^2, or the same of the chunk, mean over it, shape (B,); Ho et al. 2020, eq. (14)."""
        y = self._standardised(x_1)
        eps = randn(y.shape, generator, like=y)
        single = generator if isinstance(generator, torch.Generator) else None
        k = torch.randint(DIFFUSION_STEPS, (len(y),), generator=single, device=single and single.device).to(
            y.device
        )
        keep = self.alphas_cumprod[k][:, None, None]
        noisy = keep.sqrt() * y + (1 - keep).sqrt() * eps
        wanted = eps if self.config.target == "noise" else y
        return (self._predict(noisy, k, cond) - wanted).square().mean((1, 2))

    def sample_chunk(
        self, cond: Tensor, nfe: int, solver: str, generator: Generators, *, path: bool = False
    ) -> Tensor:
        """Denoise from N(0, I) in ``nfe`` steps of ``solver``: ddpm, ddim or dpmsolver++."""
        if solver not in SOLVERS:
            raise ValueError(
                f"solver={solver!r}; a diffusion policy is sampled by one of {', '.join(SOLVERS)}."
            )
        if nfe > DIFFUSION_STEPS:
            raise ValueError(
                f"nfe={nfe}; this diffusion has {DIFFUSION_STEPS} steps, the most that can be taken."
            )
        scheduler = _scheduler(solver, PREDICTIONS[self.config.target], float(self.clip))
        scheduler.set_timesteps(nfe, device=cond.device)
        y = randn((len(cond), *self.chunk_mean.shape), generator, like=self.chunk_mean)
        # diffusers draws from one generator or a list of them; only the ancestral solver draws at all.
        draws: dict[str, Any] = {}
        if solver == "ddpm":
            several = generator is not None and not isinstance(generator, torch.Generator)
            draws["generator"] = list(generator) if several else generator  # type: ignore[arg-type]
        states = [y]
        for k in scheduler.timesteps:
            predicted = self._predict(y, k.expand(len(y)), cond)
            y = scheduler.step(predicted, k, y, **draws).prev_sample
            states.append(y)
        y = torch.stack(states) if path else y
        return y * self.chunk_scale + self.chunk_mean

    def _standardised(self, x_1: Tensor) -> Tensor:
        return (x_1 - self.chunk_mean) / self.chunk_scale

    def _predict(self, noisy: Tensor, k: Tensor, cond: Tensor) -> Tensor:
        return self.net(noisy, 1 - k.to(noisy.dtype) / DIFFUSION_STEPS, cond)


def _scheduler(solver: str, prediction: str, clip: float) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    shared: dict[str, Any] = {"num_train_timesteps": DIFFUSION_STEPS, "beta_schedule": "squaredcos_cap_v2"}
    shared["prediction_type"] = prediction
    if solver == "dpmsolver++":
        return DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++")
    scheduler = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[solver]
    return scheduler(**shared, clip_sample=True, clip_sample_range=clip)

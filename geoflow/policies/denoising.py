"""y_k -> y_j, k > j: ancestral, DDIM and DPM-Solver++ steps of a diffusion, down a grid of its 100 steps.

y_k = sqrt(a) y + sqrt(1 - a) eps, and y_j likewise with b > a. After the last step there is data, the estimate of y
itself. Written here, and not taken from diffusers, because its DDIM begins in the middle for many numbers of
evaluations (`falling`), and its DPM-Solver++ takes no 100 steps. The tests hold all three against it elsewhere.
"""

from __future__ import annotations

from math import expm1, log, sqrt

import numpy as np
import torch
from torch import Tensor

from geoflow.flows.noise import Generators, randn

DIFFUSION_STEPS = 100
NOISE = 80
"""From here up y_k is taken for noise, as Diffusion Policy does, whose DDIM of 8 evaluations begins at k = 84."""


def squared_cosine() -> Tensor:
    """a_k for k = 0 ... 99, of the squared cosine with steps of 0.999 at most (Nichol and Dhariwal 2021, eq. 17)."""
    bar = np.cos((np.arange(DIFFUSION_STEPS + 1) / DIFFUSION_STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    return torch.tensor((1 - (1 - bar[1:] / bar[:-1]).clip(max=0.999)).cumprod(), dtype=torch.float32)


def falling(solver: str, nfe: int) -> list[int]:
    """The ``nfe`` steps k at which a solver asks the network, from noise down.

    Ancestral sampling and DDIM take every (100 // nfe)th step and end at 0, as in Diffusion Policy ("leading" in
    diffusers), unless that would begin below `NOISE`: with 1, 2 and 4 evaluations at 0, 50 and 75, where the noise
    itself would be taken for a chunk. Then, and for DPM-Solver++, they are spread from 99 ("linspace").
    """
    every = DIFFUSION_STEPS // nfe
    if nfe == DIFFUSION_STEPS or (solver != "dpmsolver++" and every * (nfe - 1) >= NOISE):
        return [every * i for i in reversed(range(nfe))]
    last = DIFFUSION_STEPS - 1
    return [round(last * i / nfe) for i in range(nfe, 0, -1)]


def ancestral(y_k: Tensor, y: Tensor, a: float, b: float, generator: Generators) -> Tensor:
    """A draw of y_j given y_k and y (Ho et al. 2020, eqs. 6 and 7, over several steps at once)."""
    step, left = a / b, (1 - b) / (1 - a)
    mean = sqrt(b) * (1 - step) / (1 - a) * y + sqrt(step) * left * y_k
    return mean + sqrt(left * (1 - step)) * randn(y.shape, generator, like=y)


def ddim(y: Tensor, eps: Tensor, b: float) -> Tensor:
    """sqrt(b) y + sqrt(1 - b) eps (Song, Meng and Ermon 2020, eq. 12 with sigma = 0)."""
    return sqrt(b) * y + sqrt(1 - b) * eps


def dpm_solver(y_k: Tensor, y: Tensor, a: float, b: float, before: tuple[Tensor, float] | None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), given the estimate and the a of the step ``before``, if any."""
    h = _log_snr(b) - _log_snr(a)
    if before is not None:
        y = y + h / (2 * (_log_snr(a) - _log_snr(before[1]))) * (y - before[0])
    return sqrt((1 - b) / (1 - a)) * y_k - sqrt(b) * expm1(-h) * y


def _log_snr(a: float) -> float:
    """log(sqrt(a) / sqrt(1 - a))."""
    return log(a / (1 - a)) / 2

"""A flow on SO(3) whose p_t, velocity and score are known: data at three rotations, noise from a heat kernel."""

import math

import torch

import geoflow as gf
from geoflow.flows import IGSO3, Geodesic

PEAKS = gf.SO3().exp(
    gf.SO3().identity(3, dtype=torch.float64),
    torch.tensor([[0.9, 0, 0], [-0.3, 0.8, 0.2], [0, -0.6, -0.7]]).double(),
)
WIDTH = 0.6


class Peaks:
    """Velocity and score of p_t = mean_k p_t(x | x_1 = peak k), from the density of x = peak Exp(eta)."""

    def __init__(self):
        self.space, self.path = gf.SO3(), Geodesic()
        self.prior = IGSO3(self.space, None, torch.tensor(WIDTH).double()).double()

    def parts(self, x, t):
        """The chance (n, 3) of each peak given x; points, peaks and times (3n, ...), each point with each peak."""
        points, times = x.repeat_interleave(3, 0), t.repeat_interleave(3)
        peaks, rest = PEAKS.repeat(len(x), 1), (1 - times)[:, None]
        eta = self.space.log(peaks, points)
        u = eta / rest
        prior = self.prior.log_prob(self.space.exp(peaks, u))
        logs = prior + self.space.log_volume(u) - self.space.log_volume(eta) - 3 * rest[:, 0].log()
        # Beyond half a turn of noise no peak can be the cause; the nearest comes closest to it.
        far = self.space.squared_norm(u)
        logs = torch.where(far < math.pi**2, logs, -50 * far)
        return logs.reshape(-1, 3).softmax(-1)[..., None], points, peaks, times

    def velocity(self, f, t, cond):
        chance, points, peaks, times = self.parts(self.space.from_features(f), t)
        v = self.path.velocity_to(self.space, points, peaks, times)
        return (chance * v.reshape(-1, 3, 3)).sum(-2)

    def score(self, x, t, cond, v):
        chance, points, peaks, times = self.parts(x, t)
        s = self.path.conditional_score(self.space, self.prior, points, peaks, points, times)
        return (chance * s.reshape(-1, 3, 3)).sum(-2)

    def draw(self, n, t, seed):
        """x_t (n, 4) drawn as training draws it: the truth."""
        generator = torch.Generator().manual_seed(seed)
        x_0 = self.prior.sample((n,), generator)
        x_1 = PEAKS[torch.randint(3, (n,), generator=generator)]
        return self.path(self.space, x_0, x_1, torch.full((n,), t).double()).x_t

"""Diffusion on a Lie group: noise of a growing width sigma, and a network that knows the way back.

Denoising score matching (Leach et al. 2022 and Jagvaral et al. 2024 on SO(3), Corso et al. 2023 on R^3 x SO(3), Urain
et al. 2023 on SE(3)) with the kernel

    p_sigma(x | x_1) = N(p; p_1, sigma_p^2 I) IGSO3(R; R_1, sigma_R),

whose two factors are independent: rotations do Brownian motion from R_1, positions and extras from p_1, in the world
or in the body, which is the same for an isotropic sigma_p. It is the kernel of the left-invariant Brownian motion
dx = x (sigma dB)^ on R^n, SO(3), SE(3) and their products. Scores are body tangents: s = d/d delta of
log p(x Exp(delta)) at 0, so that on SE(3) a position's score is R^T (p_1 - p) / sigma_p^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.flows.batches import mean_inner, over_inner, sample_shape
from geoflow.flows.discrete import grid
from geoflow.flows.flow import Network
from geoflow.flows.integrators import Solver, Steps, integrate
from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.rotation_noise import WIDEST, score_rms, turns
from geoflow.flows.times import Times, uniform_times
from geoflow.lie import densities, so3
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product

TARGETS = ("epsilon", "score")
#: A rotation of this width [rad] is Haar to 3e-3 in total variation, of 4 rad to 2e-7.
WIDE_ENOUGH = 2.5


class GroupDiffusion(nn.Module):
    """Variance-exploding diffusion on ``space`` (Song et al. 2021), sigma(t) = sigma_max^(1-t) sigma_min^t.

    t = 0 is noise and t = 1 is data, as everywhere, up to noise of width sigma_min that stays. The same calls as
    `Flow`, for a comparison of diffusion and flow that differs in nothing else:

        space = gf.Product(gf.SE3(), gf.Euclidean(1))
        diffusion = gf.flows.GroupDiffusion(space)
        loss = diffusion.loss(net, actions, cond=cond).mean()
        chunk = diffusion.sample(net, cond=cond, horizon=16, steps=50)

    Args:
        space: Made of Euclidean, SO3 and SE3 by Product.
        sigma_min: Least width in tangent units [m, rad], a number or shape (tangent_dim,).
        sigma_max: Largest width, likewise. Rotations must end uniform (2.5 to 6 rad); positions and extras
            several times wider than the data, because they start from N(center, sigma_max^2).
        target: What the network predicts. "epsilon": -score / rms(score), of unit size at every sigma, on R^n
            the noise itself. "score": the score.
        center: Where positions and extras start about, shape (..., point_dim); the identity by default.
        spread: Width of the data's positions and extras about it, a number or shape (tangent_dim,). The network
            sees them in units of (sigma^2 + spread^2)^1/2 (Karras et al. 2022), of unit size at every sigma.
        times: Which times it trains at; uniform by default.

    Raises:
        NotImplementedError: another manifold, whose heat kernel is not known.
        ValueError: an unknown target; widths that do not grow, that end rotations before they are uniform, or that
            differ among the axes of a rotation or of a position in SE3; a spread that is not positive.
    """

    sigma_min: Tensor
    sigma_max: Tensor
    spread: Tensor
    center: Tensor

    def __init__(
        self,
        space: Manifold,
        sigma_min: Tensor | float = 0.01,
        sigma_max: Tensor | float = 4.0,
        target: str = "epsilon",
        center: Tensor | None = None,
        spread: Tensor | float = 1.0,
        times: Times = uniform_times,
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"target={target!r}; a network predicts one of {', '.join(TARGETS)}.")
        self.space, self.target, self.times = space, target, times
        dtype = torch.get_default_dtype()
        for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max), ("spread", spread)):
            width = torch.as_tensor(value, dtype=dtype).expand(space.tangent_dim)
            self.register_buffer(name, width.clone())
        self.register_buffer("center", space.identity() if center is None else center.clone())
        self._rotations = list(factors.rotations(space))
        self._positions = list(_positions(space))
        self._check()

    # What the noise does.

    def sigma(self, t: Tensor) -> Tensor:
        """Widths (..., tangent_dim) at times t (...): geometric from sigma_max to sigma_min."""
        return self.sigma_max * (self.sigma_min / self.sigma_max) ** t.unsqueeze(-1)

    def noised(self, x_1: Tensor, sigma: Tensor, generator: Generators = None) -> Tensor:
        """x ~ p_sigma(. | x_1), points like x_1 (..., point_dim); sigma (..., tangent_dim)."""
        noise = randn((*x_1.shape[:-1], self.space.tangent_dim), generator, like=x_1)
        flat = sigma * noise
        for _, tangent in self._rotations:
            flat[..., tangent] = 0
        x = self.space.exp(x_1, flat)
        for point, tangent in self._rotations:
            omega = turns(sigma[..., tangent.start], noise[..., tangent])
            x[..., point] = so3.compose(x[..., point], so3.exp(omega))
        return x

    def score_to(self, x: Tensor, x_1: Tensor, sigma: Tensor) -> Tensor:
        """The score (..., tangent_dim) of p_sigma(x | x_1) in the body of x; sigma (..., tangent_dim)."""
        # From x to x_1's position at x's own rotation: on SE3 that is (R^T (p_1 - p), 0).
        level = x_1.expand_as(x).clone()
        for point, _ in self._rotations:
            level[..., point] = x[..., point]
        score = self.space.log(x, level) / sigma**2
        for point, tangent in self._rotations:
            kernel = densities.IGSO3(sigma[..., tangent.start], x_1[..., point])
            score[..., tangent] = kernel.score(x[..., point])
        return score

    def score_scale(self, t: Tensor) -> Tensor:
        """Root mean square (..., tangent_dim) of the score's components at times t (...); 1 / sigma on R^n."""
        sigma = self.sigma(t)
        scale = 1 / sigma
        for _, tangent in self._rotations:
            scale[..., tangent] = score_rms(sigma[..., tangent])
        return scale

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network sees (B, ..., feature_dim) of x (B, ..., point_dim) at times t (B,)."""
        unit = (self.sigma(over_inner(t, x)) ** 2 + self.spread**2).sqrt()
        seen = x.clone()
        for point, tangent in self._positions:
            seen[..., point] = (x[..., point] - self.center[..., point]) / unit[..., tangent]
        return self.space.features(seen)

    # Training.

    def loss(self, net: Network, x_1: Tensor, cond: Any = None, *, generator: Generators = None) -> Tensor:
        """| (score_theta(x, t, cond) - score(x | x_1)) / rms(score) |^2, mean over inner axes, shape (B,).

        Vincent 2011; the weight makes every sigma count alike.

        Args:
            net: The network.
            x_1: Data, shape (B, ..., point_dim).
            cond: Handed to the network as it is.
            generator: Source of randomness.
        """
        with torch.no_grad():
            t = self.times(len(x_1), generator, x_1)
            sigma = self.sigma(over_inner(t, x_1)).expand(*x_1.shape[:-1], -1)
            x = self.noised(x_1, sigma, generator)
            score = self.score_to(x, x_1, sigma)
            scale = self.score_scale(over_inner(t, x))
        predicted = net(self.features(x, t), t, cond)
        predicted = -predicted if self.target == "epsilon" else predicted / scale
        error = predicted - score / scale
        return mean_inner(error.square().sum(-1))

    # Sampling.

    def score(self, net: Network, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """The network's score, body tangents (B, ..., tangent_dim) at x (B, ..., point_dim), t (B,)."""
        predicted = net(self.features(x, t), t, cond)
        return predicted if self.target == "score" else -self.score_scale(over_inner(t, x)) * predicted

    def velocity(self, net: Network, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """The probability flow (B, ..., tangent_dim): -1/2 d sigma^2/dt score, with the SDE's marginals."""
        half = self.sigma(over_inner(t, x)) ** 2 * (self.sigma_max / self.sigma_min).log()
        return half * self.score(net, x, t, cond)

    @torch.no_grad()
    def sample(
        self,
        net: Network,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        steps: Steps = 50,
        noise: float = 1.0,
        method: Solver | None = None,
        generator: Generators = None,
        path: bool = False,
    ) -> Tensor:
        """Draw points of shape (B, *horizon, point_dim), one network evaluation a step.

        A step is a geodesic random walk, x Exp(a score + b eps), with the a and b that carry a Gaussian of
        width sigma_t about one datum to width sigma_s exactly (on R^n: DDIM for noise 0, the ancestral sampler for
        noise 1; Song et al. 2021).

        Args:
            net: The network.
            cond: Handed to the network; its first axis gives B where it is a tensor.
            horizon: Inner axes of a sample.
            batch: B, where ``cond`` does not give it.
            steps: Equal steps, or their grid of times from 0 to 1.
            noise: 0 follows the probability flow, 1 the reverse diffusion; between and above, more or less fresh
                noise with the same marginals.
            method: An integrator of the probability flow, with noise=0.
            generator: Source of randomness, or one generator per batch element.
            path: Return all states, shape (steps + 1, B, *horizon, point_dim).

        Raises:
            ValueError: B is not given; noise < 0; a method with noise.
        """
        if not noise >= 0:
            raise ValueError(
                f"noise={noise}; expected 0 (probability flow), 1 (reverse diffusion) or the like."
            )
        if method is not None and noise != 0:
            raise ValueError(f"{method.name} integrates the probability flow; give noise=0 with it.")
        shape = sample_shape(cond, batch, horizon)
        wide = self.sigma_max.expand(*shape, -1)
        x = self.noised(self.center.expand(*shape, -1), wide, generator)
        if method is not None:

            def velocity(x: Tensor, t: float) -> Tensor:
                return self.velocity(net, x, x.new_full((len(x),), t), cond)

            return integrate(self.space, velocity, x, steps, method, path=path)
        states = [x]
        for t, s in grid(steps):
            now, then = self.sigma(x.new_tensor(t)), self.sigma(x.new_tensor(s))
            fresh = (noise * then * (1 - (then / now) ** 2).sqrt()).minimum(then)
            kept = (then**2 - fresh**2).clamp(min=0).sqrt()
            tangent = now * (now - kept) * self.score(net, x, x.new_full((len(x),), t), cond)
            if noise > 0:
                tangent = tangent + fresh * randn(tangent.shape, generator, like=tangent)
            x = self.space.exp(x, tangent)
            states.append(x)
        return torch.stack(states) if path else x

    def _check(self) -> None:
        low, high = self.sigma_min, self.sigma_max
        blocks = list(_blocks(self.space))
        if not bool(((low > 0) & (low < high)).all()):
            raise ValueError(f"expected 0 < sigma_min < sigma_max; got {low.tolist()} and {high.tolist()}.")
        if not bool((self.spread > 0).all()):
            raise ValueError(f"expected a spread > 0 of the data; got {self.spread.tolist()}.")
        for block in blocks:
            for width in (low[block], high[block]):
                if not bool((width == width[0]).all()):
                    raise ValueError(
                        f"got the widths {width.tolist()} for the axes {block.start} to {block.stop - 1} of "
                        f"{self.space}; a rotation, and a position that turns with one, has one width. Outside SE3 "
                        "positions may have three: Product(Euclidean(3), SO3())."
                    )
        for _, tangent in self._rotations:
            if not WIDE_ENOUGH <= float(high[tangent.start]) <= WIDEST:
                raise ValueError(
                    f"sigma_max={float(high[tangent.start]):.3g} for a rotation; at {WIDE_ENOUGH} to {WIDEST:g} rad it "
                    "is uniform, which is where sampling starts. Give sigma_max for each tangent axis, such as "
                    "torch.tensor([1.0] * 3 + [4.0] * 3), where positions need another."
                )


def _positions(space: Manifold, point: int = 0, tangent: int = 0) -> Iterator[tuple[slice, slice]]:
    """Where points hold positions and extras, and where tangents hold their widths."""
    if isinstance(space, Product):
        for factor in space.factors:
            yield from _positions(factor, point, tangent)
            point, tangent = point + factor.point_dim, tangent + factor.tangent_dim
    elif not isinstance(space, SO3):
        n = 3 if isinstance(space, SE3) else space.point_dim
        yield slice(point, point + n), slice(tangent, tangent + n)


def _blocks(space: Manifold, start: int = 0) -> Iterator[slice]:
    """Axes of the tangent that must share one width."""
    if isinstance(space, Product):
        for factor in space.factors:
            yield from _blocks(factor, start)
            start += factor.tangent_dim
    elif isinstance(space, (SO3, SE3)):
        for i in range(start, start + space.tangent_dim, 3):
            yield slice(i, i + 3)
    elif not isinstance(space, Euclidean):
        raise NotImplementedError(
            f"no heat kernel is known on {space}, which the noise needs; a diffusion lives on Euclidean, SO3, SE3 and "
            "their Product. A Flow takes any manifold."
        )

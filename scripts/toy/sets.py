"""Toy distributions on R^2, SO(3) and SE(3): how to draw them, which modes they have, where their density is known.

Positions of the SE(3) sets are in decimetres, so that an object is about one unit wide and SE3() weighs one unit
like one radian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

import geoflow as gf
from geoflow.lie import densities, se3, so3

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""(n, generator) -> points (n, point_dim), and the mode (n,) of each."""

REFERENCE = 768
"""Labelled points by which `ToySet.mode_of` finds the nearest mode."""


@dataclass(frozen=True)
class ToySet:
    """A distribution.

    Attributes:
        name: As on the command line.
        about: One line for tables.
        space: Where it lives.
        modes: How many modes, or equal parts of a connected set.
        draw: Points and their modes.
        log_density: Where it is known.
        tagged: Whether the mode is given to the network as a condition.
    """

    name: str
    about: str
    space: gf.Manifold
    modes: int
    draw: Draw
    log_density: Callable[[Tensor], Tensor] | None = None
    tagged: bool = False

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points (n, point_dim) and their modes (n,)."""
        x, mode = self.draw(n, generator)
        return x.float(), mode

    def mode_of(self, x: Tensor) -> Tensor:
        """The mode (n,) of the nearest of `REFERENCE` labelled points."""
        points, labels = self._reference
        nearest = [
            self.space.squared_norm(self.space.log(part.unsqueeze(1), points)).argmin(1)
            for part in x.split(256)
        ]
        return labels[torch.cat(nearest)]

    @cached_property
    def weights(self) -> Tensor:
        """Share (modes,) of each mode, from the reference points."""
        return torch.bincount(self._reference[1], minlength=self.modes) / REFERENCE

    @cached_property
    def _reference(self) -> tuple[Tensor, Tensor]:
        return self.sample(REFERENCE, torch.Generator().manual_seed(271828))

    def entropy(self, n: int = 20000) -> float | None:
        """-E log p [nats], by Monte Carlo, where the density is known: no model's NLL is lower on average."""
        if self.log_density is None:
            return None
        x, _ = self.draw(n, torch.Generator().manual_seed(314159))
        return -float(self.log_density(x.double()).mean())

    def condition(self, mode: Tensor, *, always: bool = False) -> Tensor | None:
        """One-hot tags (n, modes), or None where the set has none; the zero vector stands for no tag."""
        return torch.nn.functional.one_hot(mode, self.modes).float() if self.tagged or always else None


# R^2.


def _sine(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    u = torch.rand(n, generator=generator)
    noise = 0.05 * torch.randn(n, 2, generator=generator)
    x = torch.stack([3.4 * u - 1.7, torch.sin(2 * math.pi * u)], -1) + noise
    return x, (10 * u).long().clamp(max=9)


def _moons(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mode = torch.randint(2, (n,), generator=generator)
    angle = math.pi * torch.rand(n, generator=generator)
    arc = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], -1)
    arc = torch.where(mode[:, None] == 0, arc, -arc)
    return 1.2 * (arc + 0.06 * torch.randn(n, 2, generator=generator)), mode


# SO(3).

_TILT = math.radians(50)
_PEAK_WEIGHTS = torch.tensor([0.30, 0.20, 0.15, 0.15, 0.12, 0.08])
_PEAK_WIDTH = 0.25
_HOLE = 0.5 * math.pi


def _about(axis: int, angle: Tensor) -> Tensor:
    """Rotations (..., 4) by ``angle`` about a coordinate axis."""
    return so3.exp(angle.unsqueeze(-1) * torch.eye(3, dtype=angle.dtype)[axis])


def _cone(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tool axes on a cone about the vertical, free to spin: a torus, in eight sectors of its azimuth."""
    azimuth, spin = 2 * math.pi * torch.rand(2, n, generator=generator)
    tilt = _TILT + 0.05 * torch.randn(n, generator=generator)
    q = so3.compose(so3.compose(_about(2, azimuth), _about(1, tilt)), _about(2, spin))
    return q, (azimuth * 8 / (2 * math.pi)).long().clamp(max=7)


def _peak_centres() -> Tensor:
    """Six rotations that are far from one another and in general position."""
    generator = torch.Generator().manual_seed(8)
    q = so3.random_uniform(4000, generator=generator, dtype=torch.float64)
    chosen = [q[0]]
    for _ in range(5):
        nearest = torch.stack([gf.SO3().distance(c, q) for c in chosen]).amin(0)
        chosen.append(q[nearest.argmax()])
    return torch.stack(chosen)


def _peaks(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mode = torch.multinomial(_PEAK_WEIGHTS, n, replacement=True, generator=generator)
    turn = densities.IGSO3(_PEAK_WIDTH).sample(n, generator=generator)
    return so3.compose(_peak_centres().float()[mode], turn), mode


def _peaks_density(x: Tensor) -> Tensor:
    terms = [
        weight.log() + densities.IGSO3(torch.tensor(_PEAK_WIDTH, dtype=x.dtype), centre.to(x)).log_prob(x)
        for weight, centre in zip(_PEAK_WEIGHTS.to(x), _peak_centres(), strict=True)
    ]
    return torch.logsumexp(torch.stack(terms), 0)


def _line(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All turns about one axis, a closed line, 0.08 rad thick; in eight arcs."""
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    axis = torch.tensor([1.0, 1.0, 1.0]) / math.sqrt(3)
    q = so3.exp(angle[:, None] * axis)
    return so3.plus(q, 0.08 * torch.randn(n, 3, generator=generator)), (angle * 4 / math.pi).long().clamp(
        max=7
    )


def _hole(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform outside a ball of 90 degrees about the identity, in the eight octants of the rotation axis."""
    q = so3.random_uniform(2 * n + 64, generator=generator)
    q = q[so3.log(q).norm(dim=-1) > _HOLE][:n]
    assert len(q) == n
    return q, _octant(so3.log(q))


def _hole_density(x: Tensor) -> Tensor:
    inside = (_HOLE - math.sin(_HOLE)) / math.pi  # Haar measure of the ball
    outside = so3.log(x).norm(dim=-1) > _HOLE
    return torch.where(outside, -densities.LOG_VOLUME - math.log(1 - inside), -math.inf)


def _octant(v: Tensor) -> Tensor:
    return ((v > 0).long() * torch.tensor([1, 2, 4])).sum(-1)


# SE(3): grasps, the gripper's z axis its approach, y the direction in which the jaws close.

CYLINDER_RADIUS, CYLINDER_HEIGHT = 0.35, 2.4
BOX_HALF = torch.tensor([0.42, 0.34, 0.75])
REACH = 0.45
"""From the object's surface back to the wrist [dm]."""
_GRASP_WIDTH = (0.08, 0.08, 0.08, 0.12, 0.12, 0.12)


def _cylinder(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Side grasps at any azimuth and height, jaws level, either way up: two loops in four sectors each."""
    azimuth = 2 * math.pi * torch.rand(n, generator=generator)
    height = 0.75 * CYLINDER_HEIGHT * (torch.rand(n, generator=generator) - 0.5)
    flip = torch.randint(2, (n,), generator=generator)
    # Approach along -x of a frame that looks outwards, then the half turn about the approach.
    q = so3.compose(_about(2, azimuth), _about(1, torch.tensor(-0.5 * math.pi)))
    q = so3.compose(q, _about(2, math.pi * flip))
    out = CYLINDER_RADIUS + REACH
    p = torch.stack([out * azimuth.cos(), out * azimuth.sin(), height], -1)
    noise = torch.randn(n, 6, generator=generator) * torch.tensor([0.04, 0.04, 0.04, 0.08, 0.08, 0.08])
    sector = (azimuth * 2 / math.pi).long().clamp(max=3)
    return se3.plus(torch.cat([p, q], -1), noise), 4 * flip + sector


def _box_centres() -> Tensor:
    """Eight poses (8, 7): towards each of four sides, jaws level or upright being one family and its flip."""
    poses = []
    for k in range(4):
        azimuth = torch.tensor(0.5 * math.pi * k, dtype=torch.float64)
        out = float(BOX_HALF[k % 2]) + REACH
        p = out * torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)])
        q = so3.compose(_about(2, azimuth), _about(1, torch.tensor(-0.5 * math.pi, dtype=torch.float64)))
        for flip in (0.0, math.pi):
            turn = _about(2, torch.tensor(flip, dtype=torch.float64))
            poses.append(torch.cat([p, so3.compose(q, turn)]))
    return torch.stack(poses)


def _box(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mode = torch.randint(8, (n,), generator=generator)
    noise = torch.randn(n, 6, generator=generator) * torch.tensor(_GRASP_WIDTH)
    return se3.plus(_box_centres().float()[mode], noise), mode


def _box_density(x: Tensor) -> Tensor:
    covariance = torch.diag(torch.tensor(_GRASP_WIDTH, dtype=x.dtype) ** 2)
    terms = [densities.WrappedGaussian(centre.to(x), covariance).log_prob(x) for centre in _box_centres()]
    return torch.logsumexp(torch.stack(terms), 0) - math.log(8)


R2, SO3, SE3 = gf.Euclidean(2), gf.SO3(), gf.SE3()
SETS = {
    toy.name: toy
    for toy in (
        ToySet("sine", "a sine curve", R2, 10, _sine),
        ToySet("sine_tags", "a sine curve, each tenth under its own tag", R2, 10, _sine, tagged=True),
        ToySet("moons", "two moons", R2, 2, _moons),
        ToySet("cone", "tool axes on a cone, free spin", SO3, 8, _cone),
        ToySet("peaks", "six IGSO(3) peaks of unequal weight", SO3, 6, _peaks, _peaks_density),
        ToySet("line", "all turns about one axis", SO3, 8, _line),
        ToySet("hole", "uniform but for a ball of 90 degrees", SO3, 8, _hole, _hole_density),
        ToySet("cylinder", "side grasps of a cylinder, two ways up", SE3, 8, _cylinder),
        ToySet("box", "eight grasp families of a box", SE3, 8, _box, _box_density),
    )
}

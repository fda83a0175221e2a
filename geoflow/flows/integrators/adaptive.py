"""Steps as long as a tolerance allows: Bogacki and Shampine's pair 3(2) in the Lie algebra."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from geoflow.flows.integrators.base import Velocity
from geoflow.flows.integrators.grids import Steps, intervals
from geoflow.flows.integrators.munthe_kaas import BOGACKI_SHAMPINE, combine, inverse_dexp, slopes
from geoflow.manifolds import Manifold

#: Weights of order 3 minus those of order 2, over the four slopes of which the last is the next step's first.
_ERROR = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0


@dataclass(frozen=True)
class Adaptive:
    """An embedded Munthe-Kaas method with error control: order 3, error of order 2, three evaluations a step.

    The estimated local error of the worst point, in the metric of the space, is kept below ``tolerance``. All
    points share their steps: samples depend (within the tolerance) on what else is in the batch.

    Args:
        tolerance: Largest local error of a step, in the unit of ``space.distance``.
        shortest: Shortest step before it gives up.
    """

    tolerance: float = 1e-3
    shortest: float = 1e-5
    name: str = "adaptive"
    reaches_end: bool = True

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance}; expected an error > 0.")

    def states(self, space: Manifold, velocity: Velocity, x_0: Tensor, steps: Steps) -> list[Tensor]:
        """x after every step that was accepted; the first step tried is the first of ``steps``.

        Raises:
            RuntimeError: the tolerance cannot be kept.
        """
        t, x, dt = 0.0, x_0, intervals(steps)[0][1]
        states, first = [x], velocity(x, 0.0)
        while t < 1:
            # The last step ends at 1 exactly, and does not leave a crumb behind it.
            dt = 1 - t if t + 1.001 * dt >= 1 else dt
            ks = slopes(space, BOGACKI_SHAMPINE, velocity, x, t, dt, first)
            u = dt * combine(BOGACKI_SHAMPINE.weights, ks)
            ahead = space.exp(x, u)
            last = velocity(ahead, t + dt)
            error = dt * combine(_ERROR, [*ks, inverse_dexp(space, u, last)])
            ratio = float(space.squared_norm(error).max().sqrt()) / self.tolerance
            if ratio <= 1:
                t, x, first = (1.0 if dt == 1 - t else t + dt), ahead, last
                states.append(x)
            elif dt <= self.shortest or not t + dt > t:
                raise RuntimeError(
                    f"the error stays above tolerance={self.tolerance:g} in steps of {dt:.2g} at t = {t:.6g}: the "
                    f"velocity jumps or is not finite there, or rounding of {x.dtype} exceeds it. Use a larger "
                    "tolerance, float64, or a method of fixed steps such as midpoint."
                )
            # An error that is not a number takes the shortest way down.
            factor = _SAFETY * max(ratio, 1e-9) ** (-1 / 3) if ratio == ratio else _SHRINK
            dt *= min(max(factor, _SHRINK), _GROW)
        return states

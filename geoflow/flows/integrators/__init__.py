"""Integrators of dx/dt = x v(x, t)^ that stay on the manifold, and the grids of time they step through."""

from geoflow.flows.integrators.adaptive import Adaptive
from geoflow.flows.integrators.base import Integrator, Solver, Velocity
from geoflow.flows.integrators.commutator_free import cf4
from geoflow.flows.integrators.grids import Steps, dense_jump
from geoflow.flows.integrators.learned_clock import learned_clock
from geoflow.flows.integrators.loop import integrate
from geoflow.flows.integrators.low_order import euler, midpoint
from geoflow.flows.integrators.munthe_kaas import rkmk3, rkmk4

INTEGRATORS = {method.name: method for method in (euler, midpoint, rkmk3, rkmk4, cf4)}

__all__ = [
    "INTEGRATORS",
    "Adaptive",
    "Integrator",
    "Solver",
    "Steps",
    "Velocity",
    "cf4",
    "dense_jump",
    "euler",
    "integrate",
    "learned_clock",
    "midpoint",
    "rkmk3",
    "rkmk4",
]

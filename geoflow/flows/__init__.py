"""Flow matching: priors, paths, couplings, integrators, and the Flow that joins them."""

from geoflow.flows.couplings import independent
from geoflow.flows.flow import Flow
from geoflow.flows.integrators import INTEGRATORS, Integrator, euler, integrate, midpoint
from geoflow.flows.paths import Geodesic, PathSample
from geoflow.flows.priors import HaarUniform, Prior, WrappedGaussian

__all__ = [
    "INTEGRATORS",
    "Flow",
    "Geodesic",
    "HaarUniform",
    "Integrator",
    "PathSample",
    "Prior",
    "WrappedGaussian",
    "euler",
    "independent",
    "integrate",
    "midpoint",
]

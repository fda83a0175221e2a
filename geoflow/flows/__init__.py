"""Flow matching: priors, paths, couplings, integrators, and the Flow that joins them."""

from geoflow.flows.couplings import independent
from geoflow.flows.flow import Flow
from geoflow.flows.integrators import INTEGRATORS, Integrator, euler, integrate, midpoint
from geoflow.flows.paths import Geodesic, Path, PathSample
from geoflow.flows.priors import HaarUniform, Prior, WrappedGaussian
from geoflow.flows.schedules import Cosine, Exponential, Linear, Power

__all__ = [
    "INTEGRATORS",
    "Cosine",
    "Exponential",
    "Flow",
    "Geodesic",
    "HaarUniform",
    "Integrator",
    "Linear",
    "Path",
    "PathSample",
    "Power",
    "Prior",
    "WrappedGaussian",
    "euler",
    "independent",
    "integrate",
    "midpoint",
]

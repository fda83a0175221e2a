"""Flow matching: priors, paths, couplings, integrators, and the Flow that joins them."""

from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.flow import Flow
from geoflow.flows.integrators import INTEGRATORS, Integrator, euler, integrate, midpoint
from geoflow.flows.paths import Geodesic, Path, PathSample
from geoflow.flows.priors import HaarUniform, Prior, WrappedGaussian
from geoflow.flows.schedules import Cosine, Exponential, Linear, Power
from geoflow.flows.times import Beta, LogitNormal, Times, uniform_times
from geoflow.flows.transport import ConditionalTransport, OptimalTransport

__all__ = [
    "INTEGRATORS",
    "Beta",
    "ConditionalTransport",
    "Cosine",
    "Coupling",
    "Exponential",
    "Flow",
    "Geodesic",
    "HaarUniform",
    "Integrator",
    "Linear",
    "LogitNormal",
    "OptimalTransport",
    "Path",
    "PathSample",
    "Power",
    "Prior",
    "Times",
    "WrappedGaussian",
    "euler",
    "independent",
    "integrate",
    "midpoint",
    "uniform_times",
]

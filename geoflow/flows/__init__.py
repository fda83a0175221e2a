"""Flow matching: priors, paths, couplings, integrators, and the Flow that joins them."""

from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.flow import Flow
from geoflow.flows.guidance import drop_condition, guided
from geoflow.flows.integrators import (
    INTEGRATORS,
    Adaptive,
    Integrator,
    cf4,
    dense_jump,
    euler,
    integrate,
    midpoint,
    rkmk3,
    rkmk4,
)
from geoflow.flows.likelihood import log_prob
from geoflow.flows.paths import Geodesic, Path, PathSample
from geoflow.flows.priors import (
    IGSO3,
    Brownian,
    FullGaussian,
    GaussianProcess,
    HaarUniform,
    OrnsteinUhlenbeck,
    Prior,
    RandomWalk,
    SquaredExponential,
    WrappedGaussian,
)
from geoflow.flows.schedules import Cosine, Exponential, Linear, Power
from geoflow.flows.times import Beta, LogitNormal, Times, uniform_times
from geoflow.flows.transport import ConditionalTransport, OptimalTransport

__all__ = [
    "IGSO3",
    "INTEGRATORS",
    "Adaptive",
    "Beta",
    "Brownian",
    "ConditionalTransport",
    "Cosine",
    "Coupling",
    "Exponential",
    "Flow",
    "FullGaussian",
    "GaussianProcess",
    "Geodesic",
    "HaarUniform",
    "Integrator",
    "Linear",
    "LogitNormal",
    "OptimalTransport",
    "OrnsteinUhlenbeck",
    "Path",
    "PathSample",
    "Power",
    "Prior",
    "RandomWalk",
    "SquaredExponential",
    "Times",
    "WrappedGaussian",
    "cf4",
    "dense_jump",
    "drop_condition",
    "euler",
    "guided",
    "independent",
    "integrate",
    "log_prob",
    "midpoint",
    "rkmk3",
    "rkmk4",
    "uniform_times",
]

"""Where a flow starts: x_0 ~ p_0 on a manifold, for single points and for chunks."""

from geoflow.flows.priors.base import Prior
from geoflow.flows.priors.chunks import (
    Brownian,
    GaussianProcess,
    OrnsteinUhlenbeck,
    RandomWalk,
    SquaredExponential,
)
from geoflow.flows.priors.full import FullGaussian
from geoflow.flows.priors.haar import HaarUniform
from geoflow.flows.priors.heat import IGSO3
from geoflow.flows.priors.wrapped import WrappedGaussian

__all__ = [
    "IGSO3",
    "Brownian",
    "FullGaussian",
    "GaussianProcess",
    "HaarUniform",
    "OrnsteinUhlenbeck",
    "Prior",
    "RandomWalk",
    "SquaredExponential",
    "WrappedGaussian",
]

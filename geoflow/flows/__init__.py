"""Flow matching: priors, paths, couplings, integrators, and the Flow that joins them."""

from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.diffusion import GroupDiffusion
from geoflow.flows.discrete import DiscreteFlow
from geoflow.flows.distances import mmd, wasserstein
from geoflow.flows.flow import Flow
from geoflow.flows.flow_maps import Consistency, FlowMap, MeanFlow, Shortcut
from geoflow.flows.guidance import drop_condition, guided
from geoflow.flows.integrators import (
    INTEGRATORS,
    Adaptive,
    Integrator,
    cf4,
    dense_jump,
    euler,
    integrate,
    learned_clock,
    midpoint,
    rkmk3,
    rkmk4,
)
from geoflow.flows.joint import JointFlow
from geoflow.flows.likelihood import log_prob
from geoflow.flows.paths import BrownianBridge, Diffusion, Geodesic, Path, PathSample, SigmaMin
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
from geoflow.flows.reflow import Pairs, StepTimes
from geoflow.flows.schedules import VE, CondOT, Cosine, CosineVP, Exponential, Linear, LinearVP, Power
from geoflow.flows.scores import gaussian_score, learned_score, score_loss
from geoflow.flows.stochastic import sample_bridge, sample_sde
from geoflow.flows.streaming import Streaming
from geoflow.flows.times import Beta, LogitNormal, Times, uniform_times
from geoflow.flows.transport import ConditionalTransport, OptimalTransport

__all__ = [
    "IGSO3",
    "INTEGRATORS",
    "VE",
    "Adaptive",
    "Beta",
    "Brownian",
    "BrownianBridge",
    "CondOT",
    "ConditionalTransport",
    "Consistency",
    "Cosine",
    "CosineVP",
    "Coupling",
    "Diffusion",
    "DiscreteFlow",
    "Exponential",
    "Flow",
    "FlowMap",
    "FullGaussian",
    "GaussianProcess",
    "Geodesic",
    "GroupDiffusion",
    "HaarUniform",
    "Integrator",
    "JointFlow",
    "Linear",
    "LinearVP",
    "LogitNormal",
    "MeanFlow",
    "OptimalTransport",
    "OrnsteinUhlenbeck",
    "Pairs",
    "Path",
    "PathSample",
    "Power",
    "Prior",
    "RandomWalk",
    "Shortcut",
    "SigmaMin",
    "SquaredExponential",
    "StepTimes",
    "Streaming",
    "Times",
    "WrappedGaussian",
    "cf4",
    "dense_jump",
    "drop_condition",
    "euler",
    "gaussian_score",
    "guided",
    "independent",
    "integrate",
    "learned_clock",
    "learned_score",
    "log_prob",
    "midpoint",
    "mmd",
    "rkmk3",
    "rkmk4",
    "sample_bridge",
    "sample_sde",
    "score_loss",
    "uniform_times",
    "wasserstein",
]

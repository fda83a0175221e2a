"""Clocks: from 0 to 1, with their own derivative, and the path that walks at their pace."""

import re

import pytest
import torch

import geoflow as gf
from geoflow.flows import Cosine, Exponential, Geodesic, Linear, Power, integrate, midpoint

SCHEDULES = [Linear(), Cosine(), Power(1), Power(2.5), Exponential(10), Exponential(-3)]
POSE = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))
NESTED = gf.Product(gf.Product(gf.Euclidean(3), gf.SO3()), gf.Euclidean(1))
CLOCKED = [(space, clock) for space in (gf.Euclidean(3), gf.SO3(), gf.SE3(), POSE) for clock in SCHEDULES]
CLOCKED += [
    (POSE, (Linear(), Exponential(4), Cosine())),
    (NESTED, (Linear(), Cosine())),
    (NESTED, ((Linear(), Exponential(4)), Power(2))),
    (gf.Product(gf.SE3(), gf.Euclidean(1)), (Exponential(4), lambda t: (t**3, 3 * t**2))),
]


def points(space, *shape, seed=0):
    return gf.HaarUniform(space).double().sample(shape, torch.Generator().manual_seed(seed))


def name(value):
    """The same in every process: the text of a lambda holds its address, which pytest-xdist compares."""
    return re.sub(r" at 0x\w+", "", str(value))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_clock_grows_from_0_to_1_at_the_rate_it_says(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    kappa, rate = schedule(t)
    assert kappa[0] == pytest.approx(0, abs=1e-15)
    assert kappa[-1] == pytest.approx(1, abs=1e-15)
    assert (kappa.diff() > 0).all()
    middle, h = t[1:-1], 1e-6
    slope = (schedule(middle + h)[0] - schedule(middle - h)[0]) / (2 * h)
    torch.testing.assert_close(rate[1:-1], slope, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("space", "clock"), CLOCKED, ids=name)
def test_the_velocity_is_the_derivative_of_the_clocked_path(space, clock):
    """Log(x_t^-1 x_{t+h}) / h -> v_t: nothing is left to rescale when sampling. On chunks too."""
    path, h = Geodesic(clock), 1e-6
    x_0, x_1 = points(space, 20, 3, seed=1), points(space, 20, 3, seed=2)
    t = torch.linspace(0.05, 0.9, 20, dtype=torch.float64)[:, None]
    here, ahead, behind = (path(space, x_0, x_1, s) for s in (t, t + h, t - h))
    numeric = (space.log(here.x_t, ahead.x_t) - space.log(here.x_t, behind.x_t)) / (2 * h)
    torch.testing.assert_close(numeric, here.v_t, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("space", "clock"), CLOCKED, ids=name)
def test_knowing_the_end_gives_the_velocity_of_the_path(space, clock):
    """velocity_to(x_t, x_1) = v_t: both targets of a network mean the same field."""
    x_0, x_1 = points(space, 20, 3, seed=1), points(space, 20, 3, seed=2)
    t = torch.linspace(0.05, 0.9, 20, dtype=torch.float64)[:, None]
    sample = Geodesic(clock)(space, x_0, x_1, t)
    torch.testing.assert_close(
        Geodesic(clock).velocity_to(space, sample.x_t, x_1, t), sample.v_t, atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize(("space", "clock"), CLOCKED[-4:], ids=name)
def test_sampling_walks_the_clocked_path_that_was_trained(space, clock):
    """For data at one point the learned field is velocity_to; its flow passes every x_t of the path."""
    path, x_0 = Geodesic(clock), points(space, 10, seed=1)
    x_1 = points(space, 1, seed=2).expand_as(x_0)
    full = lambda t: torch.full((10,), t, dtype=torch.float64)  # noqa: E731
    velocity = lambda x, t: path.velocity_to(space, x, x_1, full(t))  # noqa: E731
    states = integrate(space, velocity, x_0, 100, midpoint, path=True)
    for i in (25, 50, 75):
        assert space.distance(states[i], path(space, x_0, x_1, full(i / 100)).x_t).max() < 2e-3


@pytest.mark.parametrize("target", ["velocity", "endpoint"])
def test_a_flow_with_clocks_trains_and_samples_to_its_data(target):
    """The exact network of data at one point has no loss, and samples end at the data."""
    path = Geodesic((Linear(), Exponential(3), Power(2)))
    flow = gf.Flow(POSE, gf.HaarUniform(POSE), path=path, target=target)
    x_1 = points(POSE, 1, seed=2).float()

    def net(features, t, cond):
        x = POSE.from_features(features)
        if target == "endpoint":
            return POSE.log(POSE.identity(len(x)), x_1.expand_as(x))
        return path.velocity_to(POSE, x, x_1.expand_as(x), t)

    assert flow.loss(net, x_1.expand(200, -1), generator=torch.Generator().manual_seed(0)).median() < 1e-6
    with torch.inference_mode():
        x = flow.sample(net, batch=50, steps=100, generator=torch.Generator().manual_seed(1))
    assert POSE.distance(x, x_1.expand_as(x)).max() < 0.01


@pytest.mark.parametrize("clock", [lambda t: (1 - t, -1 + 0 * t), lambda t: (2 * t, 2 + 0 * t)])
def test_a_clock_that_does_not_run_from_0_to_1_is_refused(clock):
    with pytest.raises(ValueError, match="must run from 0 to 1"):
        Geodesic((Linear(), clock))


def test_clocks_that_cannot_be_are_refused_with_what_would_work():
    x = points(gf.SE3(), 2)
    t = torch.zeros(2)
    with pytest.raises(ValueError, match=r"Product\(Euclidean\(3\), SO3\(\)\)"):
        Geodesic((Linear(), Cosine()))(gf.SE3(), x, x, t)
    with pytest.raises(ValueError, match="takes one clock or 2"):
        Geodesic((Linear(),))(gf.Product(gf.Euclidean(3), gf.SO3()), x, x, t)
    with pytest.raises(ValueError, match="one clock"):
        Geodesic((Linear(), Cosine()))(gf.Euclidean(7), x, x, t)
    with pytest.raises(ValueError, match="Exponential"):
        Power(0.5)
    with pytest.raises(ValueError, match="Linear"):
        Exponential(0)
    with pytest.raises(ValueError, match="grows there at"):
        Geodesic(lambda t: (t**3, t**2))
    with pytest.raises(TypeError, match=r"expected \(kappa"):
        Geodesic(lambda t: t**3)
    with pytest.raises(TypeError, match="expected a clock"):
        Geodesic("cosine")


def test_a_path_without_velocity_to_says_what_needs_it():
    class Bare(gf.flows.Path):
        def __call__(self, space, x_0, x_1, t, generator=None):
            return Geodesic()(space, x_0, x_1, t)

    flow = gf.Flow(gf.SO3(), path=Bare(), target="endpoint")
    with pytest.raises(NotImplementedError, match="target='velocity'"):
        flow.sample(lambda f, t, c: f[..., :3], batch=2)

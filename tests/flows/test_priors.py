"""Priors: what they draw is what their log_prob says, against the densities of the Lie core."""

import math

import pytest
import torch

import geoflow as gf
from geoflow.flows import (
    IGSO3,
    Brownian,
    FullGaussian,
    GaussianProcess,
    HaarUniform,
    OrnsteinUhlenbeck,
    RandomWalk,
    SquaredExponential,
    WrappedGaussian,
)
from geoflow.lie import densities

PRODUCT = gf.Product(gf.Euclidean(3), gf.SO3(), gf.Euclidean(1))
SPACES = [gf.Euclidean(2), gf.SO3(), gf.SE3(), PRODUCT, gf.Product(gf.SE3(), gf.Euclidean(1))]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def somewhere(space, seed=5):
    return HaarUniform(space).double().sample((1,), seeded(seed))[0]


def full(space, mean):
    root = 0.6 * torch.eye(space.tangent_dim).double() + 0.05 * torch.ones(
        space.tangent_dim, space.tangent_dim
    )
    covariance = root @ root.mT
    if isinstance(space, gf.Product):
        blocks = [torch.ones(f.tangent_dim, f.tangent_dim) for f in space.factors]
        covariance = covariance * torch.block_diag(*blocks)
    return FullGaussian(space, mean, covariance)


MAKERS = {
    "wrapped": lambda space, mean: WrappedGaussian(space, mean, 0.6),
    "haar": lambda space, mean: HaarUniform(space, mean, 0.6),
    "heat": lambda space, mean: IGSO3(space, mean, 0.6),
    "full": full,
}
WITH_DENSITY = [
    (name, space)
    for name in MAKERS
    for space in SPACES
    if not (name == "haar" and "SE3" in str(space))
]  # fmt: skip


@pytest.mark.parametrize(("name", "space"), WITH_DENSITY, ids=str)
def test_samples_follow_the_density(name, space):
    """E_p[q / p] = 1 for a normalised q inside p: a wrong sampler or a wrong density both break it."""
    mean = somewhere(space)
    prior = MAKERS[name](space, mean).double()
    x = prior.sample((20_000,), seeded())
    assert prior.log_prob(x).shape == (20_000,)
    ratio = (WrappedGaussian(space, mean, 0.4).double().log_prob(x) - prior.log_prob(x)).exp()
    error = ratio.std() / math.sqrt(len(x))
    assert error < 0.06
    assert ratio.mean() == pytest.approx(1, abs=4 * float(error))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_density_of_a_chunk_is_the_product_over_its_steps(space):
    """With a centre and a width of its own for every step."""
    mean = HaarUniform(space).double().sample((4,), seeded(1))
    scale = torch.rand(4, space.tangent_dim, generator=seeded(2)).double() + 0.2
    prior = WrappedGaussian(space, mean, scale)
    x = prior.sample((7, 4), seeded())
    steps = [WrappedGaussian(space, mean[i], scale[i]).log_prob(x[:, i]) for i in range(4)]
    torch.testing.assert_close(prior.log_prob(x), torch.stack(steps).sum(0))


def test_the_heat_prior_is_the_heat_kernel_of_the_lie_core():
    mean = somewhere(gf.SO3())
    x = gf.SO3().random_uniform(50, generator=seeded(), dtype=torch.float64)
    expected = densities.IGSO3(torch.tensor(0.7).double(), mean).log_prob(x)
    torch.testing.assert_close(IGSO3(gf.SO3(), mean, 0.7).log_prob(x), expected)
    drawn = IGSO3(gf.SO3(), mean, 0.7).sample((20_000,), seeded())
    assert float(densities.IGSO3.fit(drawn, mean).sigma) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_fitted_prior_has_the_mean_and_covariance_of_its_data(space):
    mean, true = somewhere(space), full(space, somewhere(space))
    data = FullGaussian(space, mean, 0.1 * true.root @ true.root.mT).sample((5000, 2), seeded())
    prior = FullGaussian.fit(space, data, floor=0)
    x = prior.sample((20_000, 2), seeded(1))
    again = FullGaussian.fit(space, x, floor=0)
    assert space.distance(prior.mean, again.mean).max() < 0.02
    torch.testing.assert_close(again.root, prior.root, atol=0.02, rtol=0.05)


def test_a_fit_lives_with_directions_in_which_data_do_not_vary():
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    data = space.identity(10, 3)
    prior = FullGaussian.fit(space, data, floor=0.01)
    assert space.distance(prior.sample((50, 3), seeded()), prior.mean.expand(50, 3, 8)).max() < 0.1


KERNELS = [SquaredExponential(3.0), OrnsteinUhlenbeck(3.0), Brownian()]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_chunk_noise_has_its_kernel_along_the_chunk(space, kernel):
    """Covariance of log(m, x_i) and log(m, x_j) is s^2 K_ij in every direction, for narrow noise."""
    mean, scale = somewhere(space), torch.full((space.tangent_dim,), 0.1).double()
    x = GaussianProcess(space, mean, scale, kernel).double().sample((20_000, 6), seeded())
    v = space.log(mean.expand_as(x), x) / scale
    K = torch.einsum("bid,bjd->ijd", v, v) / len(v)
    torch.testing.assert_close(K, kernel(6)[..., None].expand_as(K), atol=0.05, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_density_of_flat_chunk_noise_is_the_joint_gaussian(kernel):
    prior = GaussianProcess(gf.Euclidean(1), torch.tensor([0.3]).double(), 0.5, kernel)
    x = prior.sample((8, 6), seeded())
    joint = torch.distributions.MultivariateNormal(torch.full((6,), 0.3).double(), 0.25 * kernel(6))
    torch.testing.assert_close(prior.log_prob(x), joint.log_prob(x[..., 0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("space", [gf.Euclidean(1), gf.SO3()], ids=str)
def test_a_random_walk_follows_its_density(space):
    """E_p[q / p] = 1 over chunks, q a narrower walk."""
    mean = somewhere(space)
    p, q = RandomWalk(space, mean, 0.5, 0.6).double(), RandomWalk(space, mean, 0.4, 0.5).double()
    x = p.sample((20_000, 3), seeded())
    ratio = (q.log_prob(x) - p.log_prob(x)).exp()
    error = ratio.std() / math.sqrt(len(x))
    assert error < 0.03
    assert ratio.mean() == pytest.approx(1, abs=4 * float(error))


def test_a_flat_random_walk_is_the_brownian_process():
    """Steps of s / sqrt(T) make the Gaussian process with the Brownian kernel."""
    walk = RandomWalk(gf.Euclidean(2), None, 0.5 / math.sqrt(5)).double()
    process = GaussianProcess(gf.Euclidean(2), None, 0.5, Brownian()).double()
    x = walk.sample((9, 5), seeded())
    torch.testing.assert_close(walk.log_prob(x), process.log_prob(x))


@pytest.mark.parametrize(
    "prior",
    [IGSO3(PRODUCT), GaussianProcess(PRODUCT), RandomWalk(PRODUCT), full(PRODUCT, PRODUCT.identity())],
)
def test_one_generator_per_element_and_a_flow_from_every_prior(prior):
    """The first of three chunks is what it is alone, and a Flow draws from it."""
    prior = prior.float()
    alone = prior.sample((1, 4), [seeded(0)])
    together = prior.sample((3, 4), [seeded(i) for i in range(3)])
    torch.testing.assert_close(alone[0], together[0])
    x = gf.Flow(PRODUCT, prior).sample(lambda f, t, c: 0 * f[..., :7], batch=2, horizon=4)
    assert PRODUCT.check(x).shape == (2, 4, 8)


def test_what_has_no_density_or_cannot_be_drawn_says_what_would_work():
    space = gf.Product(gf.SE3(), gf.Euclidean(1))
    x = space.identity(2, 3)
    with pytest.raises(NotImplementedError, match="RandomWalk"):
        GaussianProcess(space).log_prob(x)
    with pytest.raises(NotImplementedError, match=r"Product\(Euclidean\(3\), SO3\(\)\)"):
        HaarUniform(space).log_prob(x)
    with pytest.raises(NotImplementedError, match="across=False"):
        FullGaussian(space, space.identity(), torch.eye(7) + 0.1).log_prob(x)
    with pytest.raises(ValueError, match="horizon=T"):
        GaussianProcess(space).sample((3,))
    with pytest.raises(ValueError, match="positive definite"):
        GaussianProcess(space, kernel=lambda T: torch.ones(T, T)).sample((3, 4))
    with pytest.raises(ValueError, match="positive definite"):
        FullGaussian(space, space.identity(), torch.zeros(7, 7))
    with pytest.raises(ValueError, match="N >= 2"):
        FullGaussian.fit(space, space.identity(1))

    class Unknown(gf.flows.Prior):
        space = gf.SO3()

        def sample(self, shape, generator=None):
            return gf.SO3().identity(*shape)

    with pytest.raises(NotImplementedError, match="WrappedGaussian"):
        Unknown().log_prob(gf.SO3().identity(2))

"""Meta's flow_matching accepts our manifold in its path class, where it is installed (CC-BY-NC: no dependency)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geoflow.interop.geoopt import GeooptManifold
from geoflow.manifolds import SE3, Euclidean, Product

manifolds = pytest.importorskip("flow_matching.utils.manifolds")
path = pytest.importorskip("flow_matching.path")
scheduler = pytest.importorskip("flow_matching.path.scheduler")


class Adapter(manifolds.Manifold):
    """Its tangents have as many numbers as its points, as geoopt's: the same conversion serves."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = GeooptManifold(Product(SE3(), Euclidean(1)))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self.inner.expmap(x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner.logmap(x, y)

    def projx(self, x: Tensor) -> Tensor:
        return self.inner.projx(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self.inner.proju(x, u)


def test_its_geodesic_path_is_ours():
    """GeodesicProbPath (vmap of jvp of expmap) gives our point, and our body twist as an ambient derivative."""
    adapter = Adapter()
    space = adapter.inner.space
    generator = torch.Generator().manual_seed(0)
    x_0, x_1 = (space.project(torch.randn(32, 8, dtype=torch.float64, generator=generator)) for _ in range(2))
    t = torch.rand(32, dtype=torch.float64, generator=generator)
    sample = path.GeodesicProbPath(scheduler=scheduler.CondOTScheduler(), manifold=adapter).sample(
        x_0, x_1, t
    )
    x_t, v_t = space.geodesic(x_0, x_1, t)
    assert torch.allclose(space.features(sample.x_t), space.features(x_t), rtol=0, atol=1e-12)
    assert torch.allclose(adapter.inner.to_body(sample.x_t, sample.dx_t), v_t, rtol=0, atol=1e-10)

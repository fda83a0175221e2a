"""Manifolds: objects that describe the last axis of a tensor, one contract in base.py."""

from geoflow.manifolds.base import Manifold
from geoflow.manifolds.euclidean import Euclidean
from geoflow.manifolds.product import Product
from geoflow.manifolds.se3 import SE3
from geoflow.manifolds.so3 import SO3
from geoflow.manifolds.statistics import frechet_mean, tangent_covariance

__all__ = ["SE3", "SO3", "Euclidean", "Manifold", "Product", "frechet_mean", "tangent_covariance"]

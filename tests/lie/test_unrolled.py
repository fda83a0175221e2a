"""What a compiler gets of se3.geodesic and se3.miss, number by number, against what runs eagerly."""

import math

import pytest
import torch

from geoflow.lie import _unrolled as unrolled
from geoflow.lie import se3


def poses(*shape, seed=0, dtype=torch.float64):
    return se3.random_uniform(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def twists(angle, *shape, dtype=torch.float64):
    xi = torch.randn(*shape, 6, generator=torch.Generator().manual_seed(2), dtype=dtype)
    omega = angle * xi[..., 3:] / xi[..., 3:].norm(dim=-1, keepdim=True)
    return torch.cat([xi[..., :3], omega], -1)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.1, 3.0, math.pi - 1e-6])
def test_the_path_is_the_same_at_every_angle_and_time(angle):
    x = poses(5, 1)
    y = se3.plus(x, twists(angle, 5, 1))
    t = torch.tensor([-1.0, 0.0, 0.3, 1.0, 2.5], dtype=torch.float64)
    (found, xi), (expected, velocity) = unrolled.geodesic(x, y, t), se3.geodesic(x, y, t)
    torch.testing.assert_close(se3.to_matrix(found), se3.to_matrix(expected))
    torch.testing.assert_close(xi, velocity, atol=1e-9, rtol=1e-9)


def test_q_and_minus_q_are_one_pose_also_at_a_half_turn():
    x = poses(4)
    y = se3.plus(x, twists(math.pi, 4))
    flipped = torch.cat([y[:, :3], -y[:, 3:]], -1)
    torch.testing.assert_close(unrolled.geodesic(x, flipped, 0.5)[1], unrolled.geodesic(x, y, 0.5)[1])


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.5, 4.0])
def test_the_miss_and_its_gradient_are_the_same(angle):
    x, y, xi = poses(3, 1), poses(3, 5, seed=1), twists(angle, 5).requires_grad_()
    found, expected = unrolled.miss(x, xi, y), se3.miss(x, xi, y)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(e.square().sum(), xi)[0] for e in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_single_precision_keeps_its_digits_for_tiny_angles_and_long_translations():
    x = se3.identity(64)
    y = se3.exp(twists(1e-4, 64, dtype=torch.float32) * torch.tensor([10.0, 10, 10, 1, 1, 1]))
    found, exact = unrolled.geodesic(x, y, 0.3)[0], se3.geodesic(x.double(), y.double(), 0.3)[0]
    torch.testing.assert_close(found.double(), exact, atol=1e-7, rtol=1e-6)

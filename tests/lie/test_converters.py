"""Converters against scipy and against values that PyTorch3D 0.7.9 computed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from geoflow.lie import se3, so3

GOLDEN = np.load(Path(__file__).parents[1] / "interop" / "pytorch3d_transforms.npz")


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def rotations(n: int = 200) -> torch.Tensor:
    q = so3.random_uniform(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half_turns = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [-1, 0, 0, 0]])
    return torch.cat([q, half_turns.double()])


def scipy(q: torch.Tensor) -> Rotation:
    return Rotation.from_quat(so3.to_xyzw(q).numpy())


def test_matrix_and_rotation_vector_match_scipy():
    q = rotations()
    assert np.abs(so3.to_matrix(q).numpy() - scipy(q).as_matrix()).max() < 1e-14
    omega = so3.to_rotvec(q)
    assert np.abs(so3.to_matrix(so3.from_rotvec(omega)).numpy() - scipy(q).as_matrix()).max() < 1e-14
    assert np.abs(omega.numpy()[:200] - scipy(q).as_rotvec()[:200]).max() < 1e-13


@pytest.mark.parametrize("order", ["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"])
def test_euler_angles_match_scipy(order):
    q = rotations()[:200]
    assert np.abs(so3.to_euler(q, order).numpy() - scipy(q).as_euler(order.upper())).max() < 1e-12


def test_matrix_to_quaternion_at_every_corner():
    """R(from_matrix(R)) = R where each of the four quaternion components is the largest."""
    q = rotations()
    R = so3.to_matrix(q)
    assert torch.allclose(so3.to_matrix(so3.from_matrix(R)), R, rtol=0, atol=1e-14)
    assert bool((so3.from_matrix(R)[:, 0] >= -1e-15).all())


def test_matrix_to_quaternion_has_finite_gradients():
    R = so3.to_matrix(rotations()).requires_grad_()
    (gradient,) = torch.autograd.grad(so3.from_matrix(R).sum(), R)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("by", ["columns", "rows"])
def test_6d_is_two_columns_or_rows(by):
    q = rotations()
    R = so3.to_matrix(q)
    two = (R.mT if by == "columns" else R)[:, :2].flatten(1)
    assert torch.allclose(so3.to_6d(q, by=by), two, rtol=0, atol=1e-15)
    assert torch.allclose(so3.to_matrix(so3.from_6d(two, by=by)), R, rtol=0, atol=1e-14)
    stretched = two * torch.tensor([2.0, 2, 2, 0.3, 0.3, 0.3])
    assert torch.allclose(so3.to_matrix(so3.from_6d(stretched, by=by)), R, rtol=0, atol=1e-14)


def test_pose_converters_round_trip():
    x = torch.cat([torch.randn(205, 3, dtype=torch.float64), rotations()], dim=-1)
    T = se3.to_matrix(x)
    assert torch.equal(se3.from_xyzw(se3.to_xyzw(x)), x)
    assert torch.equal(se3.to_xyzw(x)[:, 6], x[:, 3])
    for back in (
        se3.from_matrix(T),
        se3.from_rotation_translation(*se3.to_rotation_translation(x)),
        se3.from_rotvec(se3.to_rotvec(x)),
        se3.from_6d(se3.to_6d(x, by="columns"), by="columns"),
        se3.from_6d(se3.to_6d(x, by="rows"), by="rows"),
    ):
        assert torch.allclose(se3.to_matrix(back), T, rtol=0, atol=1e-14)
    assert torch.equal(T[:, 3], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(205, 4))


def test_golden_rotations():
    """PyTorch3D's own numbers: so3_exp_map, quaternion_to_matrix, rotation_6d (rows), axis_angle."""
    omega = golden("so3_omega")
    far = omega.norm(dim=-1) > 1e-2  # below, PyTorch3D's clamp shows; the accuracy tests cover it
    assert torch.allclose(so3.to_matrix(so3.exp(omega))[far], golden("so3_exp_map")[far], rtol=0, atol=1e-12)
    q = golden("quat_wxyz")
    R = golden("quaternion_to_matrix")
    assert torch.allclose(so3.to_matrix(q), R, rtol=0, atol=1e-14)
    assert torch.allclose(so3.to_6d(q, by="rows"), golden("matrix_to_rotation_6d"), rtol=0, atol=1e-14)
    theirs = golden("matrix_to_quaternion")
    ours = so3.from_matrix(R)
    agree = torch.sign((ours * theirs).sum(-1, keepdim=True))
    assert torch.allclose(ours, agree * theirs, rtol=0, atol=1e-13)
    axis_angle = golden("matrix_to_axis_angle")
    assert torch.allclose(so3.to_matrix(so3.exp(axis_angle)), R, rtol=0, atol=1e-12)


def test_golden_poses():
    """se3_exp_map and Transform3d: row vectors there, so transposed here."""
    xi = golden("se3_log_in")
    far = xi[:, 3:].norm(dim=-1) > 1e-2
    assert torch.allclose(se3.to_matrix(se3.exp(xi))[far], golden("se3_exp_map").mT[far], rtol=0, atol=1e-11)
    A, B = se3.from_matrix(golden("A").mT), se3.from_matrix(golden("B").mT)
    # A.compose(B) applies A first: for columns that is B after A.
    assert torch.allclose(se3.to_matrix(se3.compose(B, A)), golden("A_compose_B").mT, rtol=0, atol=1e-13)
    assert torch.allclose(se3.to_matrix(se3.inverse(A)), golden("A_inverse").mT, rtol=0, atol=1e-13)
    moved = se3.act(A[:, None], golden("points"))
    assert torch.allclose(moved, golden("A_transform_points"), rtol=0, atol=1e-13)


def test_random_uniform_is_haar():
    """Angles have density (1 - cos theta)/pi and axes have mean zero (Kolmogorov-Smirnov at 1e-3)."""
    q = so3.random_uniform(20000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    omega = so3.log(q)
    theta = omega.norm(dim=-1).sort().values
    cdf = (theta - theta.sin()) / math.pi
    empirical = torch.arange(1, 20001, dtype=torch.float64) / 20000
    assert float((cdf - empirical).abs().max()) < 1.95 / math.sqrt(20000)
    assert float((omega / omega.norm(dim=-1, keepdim=True)).mean(0).abs().max()) < 4 / math.sqrt(3 * 20000)
    x = se3.random_uniform(1000, generator=torch.Generator().manual_seed(2))
    assert float(x[:, :3].abs().max()) <= 1
    assert x.shape == (1000, 7)

"""Matrices of the groups: skew matrices, rotation matrices to and from quaternions, Jacobians.

Products of 3 x 3 matrices are written as sums of products: matmul would be cast down by autocast and TF32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.lie import series


def check_square(matrix: Tensor, n: int) -> None:
    """Raise unless matrix is a floating tensor (..., n, n)."""
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        what = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
        raise TypeError(f"expected matrices as a floating tensor; got {what}.")
    if matrix.shape[-2:] != (n, n):
        raise ValueError(f"expected matrices (..., {n}, {n}); got shape {tuple(matrix.shape)}.")


def check_by(by: str) -> str:
    """Raise unless by is "columns" or "rows"."""
    if by not in ("columns", "rows"):
        raise ValueError(
            f'by must be "columns" (Zhou et al. 2019) or "rows" (PyTorch3D, Diffusion Policy); got {by!r}.'
        )
    return by


def stack_matrix(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """A matrix (..., n, m) from its entries (...)."""
    entries = [entry for row in rows for entry in row]
    stacked = torch.stack(torch.broadcast_tensors(*entries), dim=-1)
    return stacked.unflatten(-1, (len(rows), len(rows[0])))


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b for small matrices, never in reduced precision."""
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b for large matrices, not cast down by autocast."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def apply(matrix: Tensor, v: Tensor) -> Tensor:
    """matrix v (..., n) for small matrices (..., n, n), never in reduced precision."""
    return (matrix * v.unsqueeze(-2)).sum(-1)


def skew(a: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3) with skew(a) b = a x b."""
    x, y, z = a.unbind(-1)
    o = torch.zeros_like(x)
    return stack_matrix([[o, -z, y], [z, o, -x], [-y, x, o]])


def unskew(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 3), the mean of the two entries that carry each component."""
    m = matrix
    pairs = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1])
    return 0.5 * torch.stack(pairs, dim=-1)


def from_quaternion(q: Tensor) -> Tensor:
    """R(q) (..., 3, 3) of unit quaternions wxyz."""
    dtype = q.dtype
    w, x, y, z = promote(q).unbind(-1)
    xx, yy, zz = 2 * x * x, 2 * y * y, 2 * z * z
    xy, xz, yz, wx, wy, wz = 2 * x * y, 2 * x * z, 2 * y * z, 2 * w * x, 2 * w * y, 2 * w * z
    return stack_matrix(
        [
            [1 - yy - zz, xy - wz, xz + wy],
            [xy + wz, 1 - xx - zz, yz - wx],
            [xz - wy, yz + wx, 1 - xx - yy],
        ]
    ).to(dtype)


def to_quaternion(R: Tensor) -> Tensor:
    """Unit quaternions wxyz of rotation matrices: the best conditioned of four candidate rows.

    The outer product 4 q q^T is linear in R; the row with the largest diagonal entry, divided by twice the square
    root of that entry, is q (Shepperd 1978). That entry is at least 1, so no gradient is ever singular.
    """
    dtype = R.dtype
    R = promote(R)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = R.flatten(-2).unbind(-1)
    wx, wy, wz = r21 - r12, r02 - r20, r10 - r01
    xy, xz, yz = r10 + r01, r02 + r20, r21 + r12
    diagonal = (1 + r00 + r11 + r22, 1 + r00 - r11 - r22, 1 - r00 + r11 - r22, 1 - r00 - r11 + r22)
    ww, xx, yy, zz = diagonal
    outer = stack_matrix([[ww, wx, wy, wz], [wx, xx, xy, xz], [wy, xy, yy, yz], [wz, xz, yz, zz]])
    best = torch.stack(diagonal, dim=-1).argmax(dim=-1, keepdim=True)
    row = outer.gather(-2, best.unsqueeze(-1).expand(*best.shape, 4)).squeeze(-2)
    sign = torch.where(row[..., :1] < 0, -1.0, 1.0)
    return (row * (sign / (row * row).sum(-1, keepdim=True).sqrt())).to(dtype)


def gram_schmidt(features: Tensor) -> Tensor:
    """The rotation matrix whose first two columns are features (..., 6), made orthonormal."""
    a, b = promote(features).unflatten(-1, (2, 3)).unbind(-2)
    a = a / (a * a).sum(-1, keepdim=True).sqrt()
    b = b - (a * b).sum(-1, keepdim=True) * a
    b = b / (b * b).sum(-1, keepdim=True).sqrt()
    return torch.stack([a, b, torch.linalg.cross(a, b)], dim=-1).to(features.dtype)


def euler_angles(R: Tensor, order: str) -> Tensor:
    """Intrinsic Tait-Bryan angles (..., 3) of R = R_a R_b R_c for order "abc"."""
    i, j, k = ("xyz".index(axis) for axis in order)
    parity = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = torch.atan2(parity * R[..., i, k], torch.hypot(R[..., i, i], R[..., i, j]))
    first = torch.atan2(-parity * R[..., j, k], R[..., k, k])
    last = torch.atan2(-parity * R[..., i, j], R[..., i, i])
    return torch.stack([first, middle, last], dim=-1)


def promote(x: Tensor) -> Tensor:
    """Half precision to float32, all else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _scaled(weight: Tensor, matrix: Tensor) -> Tensor:
    return weight[..., None, None] * matrix


def _jacobian_weights(omega: Tensor, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """((1 - cos theta)/theta^2, named functions of theta^2)."""
    s = (omega * omega).sum(-1)
    sinc, *others = series.evaluate(("sinc", *names), (0.25 * s, *[s] * len(names)))
    return (0.5 * sinc * sinc, *others)


def rotation_jacobian(omega: Tensor) -> Tensor:
    """J_l = I + (1 - cos theta)/theta^2 W + e(theta^2) W^2, also called V."""
    dtype, omega = omega.dtype, promote(omega)
    a, e = _jacobian_weights(omega, ("e",))
    W = skew(omega)
    return (_eye_like(W) + _scaled(a, W) + _scaled(e, product(W, W))).to(dtype)


def rotation_jacobian_inverse(omega: Tensor) -> Tensor:
    """J_l^-1 = I - W/2 + d(theta^2/4)/(4 sinc(theta^2/4)) W^2."""
    dtype, omega = omega.dtype, promote(omega)
    quarter = 0.25 * (omega * omega).sum(-1)
    d, sinc = series.evaluate(("d", "sinc"), (quarter, quarter))
    W = skew(omega)
    return (_eye_like(W) - 0.5 * W + _scaled(0.25 * d / sinc, product(W, W))).to(dtype)


def coupling(v: Tensor, omega: Tensor) -> Tensor:
    """Q(v, omega), the upper right block of the left Jacobian of SE(3) for tangents (v, omega).

    Barfoot and Furgale 2014, eq. (102), with W V W = -(omega . v) W:
    Q = V/2 + e (W V + V W - c W) - f (W^2 V + V W^2 + 3 c W) - ... , c = omega . v, V = hat(v), W = hat(omega).
    """
    s = (omega * omega).sum(-1)
    e, f, g = series.evaluate(("e", "f", "g"), (s, s, s))
    V, W = skew(v), skew(omega)
    c = (omega * v).sum(-1)
    W2 = product(W, W)
    mixed = product(W, V) + product(V, W)
    return (
        0.5 * V
        + _scaled(e, mixed - _scaled(c, W))
        + _scaled(f, product(W2, V) + product(V, W2) + 3 * _scaled(c, W))
        - _scaled(2 * g * c, W2)
    )


def block_upper(diagonal: Tensor, corner: Tensor) -> Tensor:
    """[[A, C], [0, A]] (..., 6, 6)."""
    diagonal, corner = torch.broadcast_tensors(diagonal, corner)
    top = torch.cat([diagonal, corner], dim=-1)
    bottom = torch.cat([torch.zeros_like(diagonal), diagonal], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def _eye_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)

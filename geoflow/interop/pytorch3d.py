"""Poses to and from PyTorch3D: ``Transform3d`` and its matrices for ROW vectors, p' = p M.

PyTorch3D multiplies row vectors from the right: its 4 x 4 matrix is the transpose of ours, the translation in
the last row, and ``A.compose(B)`` applies A first, which is ``se3.compose(B, A)`` here. The matrix functions need no
PyTorch3D; the two with ``Transform3d`` import it when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from geoflow.lie import se3

if TYPE_CHECKING:
    Transform3d = Any

_INSTALL = (
    "Transform3d needs PyTorch3D, which has no wheels on PyPI for Linux. Its transforms need no compiler: "
    "PYTORCH3D_NO_EXTENSION=1 pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/pytorch3d.git@v0.7.9'. Without it, to_row_matrix and from_row_matrix "
    "exchange the same numbers."
)


def to_row_matrix(x: Tensor) -> Tensor:
    """Matrices (..., 4, 4) for row vectors, as ``Transform3d.get_matrix`` and ``se3_exp_map`` give them."""
    return se3.to_matrix(x).mT


def from_row_matrix(M: Tensor) -> Tensor:
    """Poses (..., 7) from matrices (..., 4, 4) for row vectors."""
    return se3.from_matrix(M.mT)


def to_transform3d(x: Tensor) -> Transform3d:
    """A ``Transform3d`` of poses (N, 7) or (7,)."""
    if x.ndim > 2:
        raise ValueError(f"Transform3d holds one batch axis: expected (N, 7) or (7,); got {tuple(x.shape)}.")
    matrix = to_row_matrix(x)
    return _transform3d()(matrix=matrix, device=x.device, dtype=x.dtype)


def from_transform3d(transform: Transform3d) -> Tensor:
    """Poses (N, 7) of a rigid ``Transform3d``; scales and shears are refused."""
    matrix = transform.get_matrix()
    R = matrix[..., :3, :3]
    defect = float((R @ R.mT - R.new_ones(3).diag()).abs().max())
    if defect > 1e-3:
        raise ValueError(
            f"expected a rigid transform; R R^T differs from the identity by {defect:.3g}. "
            "Compose rotations and translations only, or take the pose out of the matrix yourself."
        )
    return from_row_matrix(matrix)


def _transform3d() -> Any:
    try:
        from pytorch3d.transforms import Transform3d as Class  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    return Class

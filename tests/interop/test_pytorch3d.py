"""Row-vector matrices against values PyTorch3D 0.7.9 computed, and live against it where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from geoflow.interop import pytorch3d
from geoflow.lie import se3

GOLDEN = np.load(Path(__file__).parent / "pytorch3d_transforms.npz")


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def test_row_matrices():
    """from_row_matrix inverts to_row_matrix, and the translation sits in the last row."""
    A = golden("A")
    x = pytorch3d.from_row_matrix(A)
    assert torch.allclose(pytorch3d.to_row_matrix(x), A, rtol=0, atol=1e-13)
    assert torch.equal(pytorch3d.to_row_matrix(x)[:, 3, :3], x[:, :3])


def test_compose_is_in_the_other_order():
    """A.compose(B) of PyTorch3D applies A first: se3.compose(B, A)."""
    a, b = pytorch3d.from_row_matrix(golden("A")), pytorch3d.from_row_matrix(golden("B"))
    assert torch.allclose(
        pytorch3d.to_row_matrix(se3.compose(b, a)), golden("A_compose_B"), rtol=0, atol=1e-12
    )
    assert torch.allclose(pytorch3d.to_row_matrix(se3.inverse(a)), golden("A_inverse"), rtol=0, atol=1e-12)
    moved = se3.act(a.unsqueeze(1), golden("points"))
    assert torch.allclose(moved, golden("A_transform_points"), rtol=0, atol=1e-12)


def test_exponential_map():
    """se3_exp_map takes our tangents (v, omega) and gives row matrices; exact where its clamp does not bite."""
    xi = golden("se3_log_in")
    far = xi[:, 3:].norm(dim=-1) > 1e-2
    found = pytorch3d.to_row_matrix(se3.exp(xi))
    assert torch.allclose(found[far], golden("se3_exp_map")[far], rtol=0, atol=1e-11)
    near = (found[~far] - golden("se3_exp_map")[~far]).abs().max()
    assert float(near) < 1e-6  # its small-angle error, documented in docs/benchmarks.md


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="one batch axis"):
        pytorch3d.to_transform3d(torch.zeros(2, 3, 7))


@pytest.mark.skipif(find_spec("pytorch3d") is not None, reason="PyTorch3D is installed: tested live below")
def test_the_error_says_how_to_install_it():
    with pytest.raises(ImportError, match="PYTORCH3D_NO_EXTENSION=1 pip install"):
        pytorch3d.to_transform3d(se3.identity(2))


class RigidStub:
    """What from_transform3d needs of a Transform3d: its row matrix."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    def get_matrix(self) -> torch.Tensor:
        return self.matrix


def test_from_transform3d_reads_the_row_matrix():
    x = pytorch3d.from_transform3d(RigidStub(golden("A")))
    assert torch.allclose(pytorch3d.to_row_matrix(x), golden("A"), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="rigid"):
        pytorch3d.from_transform3d(RigidStub(2 * golden("A")))


def test_live():
    """The objects themselves, both ways, where PyTorch3D is installed."""
    transforms = pytest.importorskip("pytorch3d.transforms")
    x = se3.random_uniform(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.randn(10, 4, 3, dtype=torch.float64)
    theirs = pytorch3d.to_transform3d(x)
    assert isinstance(theirs, transforms.Transform3d)
    assert torch.allclose(theirs.transform_points(points), se3.act(x.unsqueeze(1), points))
    back = pytorch3d.from_transform3d(theirs.inverse())
    assert torch.allclose(se3.to_matrix(back), se3.to_matrix(se3.inverse(x)))

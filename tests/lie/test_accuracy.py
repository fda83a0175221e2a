"""Forward values and first derivatives against 60-digit arithmetic, over the whole grid of angles and lengths."""

from __future__ import annotations

import math
from functools import cache

import mpmath as mp
import pytest
import torch
from torch import Tensor

from geoflow.lie import se3, so3
from tests.lie import reference

ANGLES = [0.0, *[10.0**-k for k in range(12, 1, -1)], 0.1, 1.0, math.pi / 2, 3.0]
ANGLES += [*[math.pi - 10.0**-k for k in range(2, 9)], math.pi]
LENGTHS = [1e-6, 1e-3, 1.0, 1e3]
AXES = [(1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.48, -0.6, 0.64), (-2 / 3, 2 / 3, 1 / 3)]
DIRECTIONS = [(1.0, 0.0, 0.0), (0.6, 0.0, 0.8), (0.48, -0.6, 0.64)]
TOLERANCE = {torch.float32: 5e-7, torch.float64: 5e-14}
DTYPES = [torch.float32, torch.float64]


def twists(dtype: torch.dtype) -> Tensor:
    """Every angle with every length; axes and directions take turns, so that all pairs occur."""
    rows = []
    for i, angle in enumerate(ANGLES):
        for j, length in enumerate(LENGTHS):
            for k in range(2):
                axis = AXES[(i + j + 2 * k) % len(AXES)]
                direction = DIRECTIONS[(i + 2 * j + k) % len(DIRECTIONS)]
                rows.append([length * c for c in direction] + [angle * c for c in axis])
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


@cache
def references(dtype: torch.dtype) -> dict[str, list]:
    """The oracle's answers for the numbers as stored in dtype; computed once."""
    xi = twists(dtype)
    poses = se3.exp(xi)
    numbers = [reference.exact(row) for row in xi.tolist()]
    stored = [reference.exact(row) for row in poses.tolist()]
    zero = [mp.mpf(0)] * 6
    return {
        "exp": [reference.exp(row) for row in numbers],
        "dexp": [reference.jacobian(reference.exp, row) for row in numbers],
        "log": [reference.log(row) for row in stored],
        "dlog": [
            reference.jacobian(lambda d, x=row: reference.log(reference.compose(x, reference.exp(d))), zero)
            for row in stored
        ],
    }


def worst(found: Tensor, expected: list, block: tuple[slice, ...]) -> float:
    """Largest relative error |found - expected| / |expected| of a block, over the grid."""
    errors = []
    for row, true in zip(found.double().tolist(), expected, strict=True):
        a, b = _flat(row, block), _flat(true, block)
        size = mp.sqrt(mp.fsum(abs(y) ** 2 for y in b))
        gap = mp.sqrt(mp.fsum(abs(mp.mpf(x) - y) ** 2 for x, y in zip(a, b, strict=True)))
        errors.append(float(gap / size) if size > 0 else float(gap))
    assert all(map(math.isfinite, errors))
    return max(errors)


def _flat(row: list, block: tuple[slice, ...]) -> list:
    if len(block) == 1:
        return list(row[block[0]])
    return [entry for line in row[block[0]] for entry in line[block[1]]]


V, OMEGA, P, Q = slice(0, 3), slice(3, 6), slice(0, 3), slice(3, 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exp(dtype):
    """Position and quaternion of Exp(xi)."""
    found = se3.exp(twists(dtype))
    assert worst(found, references(dtype)["exp"], (P,)) < TOLERANCE[dtype]
    assert worst(found, references(dtype)["exp"], (Q,)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "columns"), [(P, V), (P, OMEGA), (Q, OMEGA)], ids=["dp/dv", "dp/dw", "dq/dw"]
)
def test_exp_gradient(dtype, rows, columns):
    """Reverse-mode derivatives of Exp, block by block, also at theta = 0 and at half turns."""
    found = torch.func.vmap(torch.func.jacrev(se3.exp))(twists(dtype))
    assert worst(found, references(dtype)["dexp"], (rows, columns)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_log(dtype, sign):
    """v and omega of Log(x), for both quaternions of each pose."""
    x = se3.exp(twists(dtype))
    x = torch.cat([x[:, :3], sign * x[:, 3:]], dim=1)
    assert worst(se3.log(x), references(dtype)["log"], (V,)) < TOLERANCE[dtype]
    assert worst(se3.log(x), references(dtype)["log"], (OMEGA,)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "columns"), [(V, V), (V, OMEGA), (OMEGA, OMEGA)], ids=["dv/dv", "dv/dw", "dw/dw"]
)
def test_log_gradient(dtype, rows, columns):
    """Derivatives of Log(x Exp(d)) by d at d = 0: reverse mode through log, compose and exp."""
    x = se3.exp(twists(dtype))
    jacobian = torch.func.jacrev(lambda d, y: se3.log(se3.compose(y, se3.exp(d))))
    found = torch.func.vmap(jacobian)(torch.zeros(len(x), 6, dtype=dtype), x)
    assert worst(found, references(dtype)["dlog"], (rows, columns)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rotations_alone(dtype):
    """SO(3): exp, log and their derivatives agree with the rotation part of the oracle."""
    omega = twists(dtype)[:, 3:]
    q = so3.exp(omega)
    assert worst(q, [row[3:] for row in references(dtype)["exp"]], (slice(0, 4),)) < TOLERANCE[dtype]
    found = torch.func.vmap(torch.func.jacrev(so3.exp))(omega)
    expected = [[line[3:] for line in matrix[3:]] for matrix in references(dtype)["dexp"]]
    assert worst(found, expected, (slice(0, 4), slice(0, 3))) < TOLERANCE[dtype]
    assert worst(so3.log(q), [row[3:] for row in references(dtype)["log"]], (slice(0, 3),)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("t", [0.3, 0.5, 1.0])
def test_geodesic_from_the_identity(dtype, t):
    """Exp(t Log(x)) and Log(x) in one pass, without loss at any angle."""
    x = se3.exp(twists(dtype))
    start = se3.identity(len(x), dtype=dtype)
    x_t, xi = se3.geodesic(start, x, t)
    logs = references(dtype)["log"]
    assert worst(xi, logs, (V,)) < TOLERANCE[dtype]
    assert worst(xi, logs, (OMEGA,)) < TOLERANCE[dtype]
    factor = mp.mpf(torch.tensor(t, dtype=dtype).item())
    points = [reference.exp([factor * c for c in row]) for row in logs]
    assert worst(_same_sign(x_t, points), points, (Q,)) < TOLERANCE[dtype]
    assert worst(x_t, points, (P,)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_geodesic_gradient(dtype):
    """Reverse-mode derivatives of the twist and of the midpoint by the end point, along its tangents."""
    x = se3.exp(twists(dtype))
    start = se3.identity(len(x), dtype=dtype)

    def ends(d: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x_t, xi = se3.geodesic(a, se3.compose(b, se3.exp(d)), 0.5)
        return x_t, xi

    _, twist = torch.func.vmap(torch.func.jacrev(ends))(torch.zeros(len(x), 6, dtype=dtype), start, x)
    for block in [(V, V), (V, OMEGA), (OMEGA, OMEGA)]:
        assert worst(twist, references(dtype)["dlog"], block) < TOLERANCE[dtype]


def _same_sign(found: Tensor, expected: list) -> Tensor:
    true = torch.tensor([[float(c) for c in row[3:]] for row in expected], dtype=found.dtype)
    sign = torch.sign((found[:, 3:] * true).sum(-1, keepdim=True))
    return torch.cat([found[:, :3], sign * found[:, 3:]], dim=1)

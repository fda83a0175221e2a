"""The polynomial tables against their definitions in 60 digits, inside their range and beyond it."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch

from geoflow.lie import series

DEFINITIONS = {
    "sinc": lambda x: mp.sin(mp.sqrt(x)) / mp.sqrt(x),
    "cos": lambda x: mp.cos(mp.sqrt(x)),
    "d": lambda x: (mp.sin(mp.sqrt(x)) - mp.sqrt(x) * mp.cos(mp.sqrt(x))) / mp.sqrt(x) ** 3,
    "e": lambda x: (mp.sqrt(x) - mp.sin(mp.sqrt(x))) / mp.sqrt(x) ** 3,
    "f": lambda x: (x / 2 + mp.cos(mp.sqrt(x)) - 1) / x**2,
    "g": lambda x: (
        (2 * mp.sqrt(x) - 3 * mp.sin(mp.sqrt(x)) + mp.sqrt(x) * mp.cos(mp.sqrt(x))) / (2 * mp.sqrt(x) ** 5)
    ),
}
OF_Z = {"atan_z": lambda z: mp.atan(mp.sqrt(z)) / mp.sqrt(z)}
OF_Z |= {f"{name}_z": lambda z, name=name: DEFINITIONS[name](16 * mp.atan(mp.sqrt(z)) ** 2) for name in "de"}
ROUNDING = {torch.float32: 4e-7, torch.float64: 1e-15}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_value_and_derivative(name, dtype):
    """f(x) and f'(x) at arguments from 0 to 40, through the change to the closed form at pi^2."""
    points = [1e-30, 1e-12, 1e-3, 0.1, 1.0, 2.4, 5.0, 9.8, 9.87, 12.0, 25.0, 40.0]
    x = torch.tensor(points, dtype=dtype, requires_grad=True)
    (value,) = series.evaluate((name,), (x,))
    (slope,) = torch.autograd.grad(value.sum(), x)
    with mp.workdps(240):
        f = DEFINITIONS[name]
        for point, y, s in zip(x.tolist(), value.tolist(), slope.tolist(), strict=True):
            scale = abs(f(mp.mpf("1e-40"))) + mp.mpf("0.1")
            assert abs(y - f(mp.mpf(point))) < 2 * ROUNDING[dtype] * scale
            step = mp.mpf(point) * mp.mpf("1e-20")
            true = (f(point + step) - f(point - step)) / (2 * step)
            assert abs(s - true) < 4 * ROUNDING[dtype] * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", sorted(OF_Z))
def test_functions_of_the_quarter_angle(name, dtype):
    """Every rotation up to a half turn has z = tan^2(pi/8) or less."""
    x = torch.linspace(1e-12, math.tan(math.pi / 8) ** 2, 30, dtype=dtype)
    ((value,),) = series.polynomials((name,), x[None])
    with mp.workdps(60):
        for point, y in zip(x.tolist(), value.tolist(), strict=True):
            true = OF_Z[name](mp.mpf(point))
            assert abs(y - true) < ROUNDING[dtype] * true

"""Even functions of an angle as polynomials of its square: smooth at 0, no sqrt for autograd to trip over.

Autograd through sin(theta)/theta and its kin loses every digit near theta = 0, whatever the forward pass
does. As functions of x = theta^2 they are entire, so one polynomial serves every principal rotation, and its
derivative is as exact as its value. With r = sqrt(x), on 0 <= x <= pi^2:

    sinc(x) = sin(r) / r          cos(x) = cos(r)
    d(x) = (sin r - r cos r) / r^3                e(x) = (r - sin r) / r^3
    f(x) = (x/2 + cos r - 1) / x^2                g(x) = (2 r - 3 sin r + r cos r) / (2 r^5)

and, as functions of z = tan^2(phi/4) for half rotation angles 0 <= phi <= pi/2 (so z <= 0.172):

    atan_z(z) = atan(sqrt z) / sqrt z             d_z(z) = d(phi^2), e_z(z) = e(phi^2), phi = 4 atan(sqrt z)

Coefficients: interpolation at Chebyshev nodes in 120-digit arithmetic, lowest power first, one row for
float32 (error below 2e-9) and one for float64 (below 1e-18).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

#: Largest x = theta^2 for which the rows above hold.
X_MAX = 9.8696044

# fmt: off
_TABLES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "sinc": (
        (
            0.9999999999930645,
            -0.16666666657678939,
            0.008333333142063963,
            -0.00019841254317657812,
            2.7556699564683275e-06,
            -2.5038642919281647e-08,
            1.5896163965273792e-10,
            -6.609156552211935e-13,
        ),
        (
            1.0,
            -0.16666666666666666,
            0.008333333333333333,
            -0.0001984126984126984,
            2.7557319223985782e-06,
            -2.505210838543428e-08,
            1.605904383649267e-10,
            -7.647163722073681e-13,
            2.8114570566611674e-15,
            -8.220607705088002e-18,
            1.957034754088029e-20,
            -3.852372236581398e-23,
            5.882492246456586e-26,
        ),
    ),
    "cos": (
        (
            0.9999999998837066,
            -0.4999999984928939,
            0.04166666345890998,
            -0.0013888862847182802,
            2.4800547305883614e-05,
            -2.753470229888847e-07,
            2.0602810605767947e-09,
            -9.720116511801613e-12,
        ),
        (
            1.0,
            -0.5,
            0.041666666666666664,
            -0.0013888888888888887,
            2.480158730158701e-05,
            -2.755731922396592e-07,
            2.0876756986984973e-09,
            -1.1470745571561349e-11,
            4.779476801527167e-14,
            -1.56191329930553e-16,
            4.109620786127226e-19,
            -8.854321542122403e-22,
            1.4598254685893877e-24,
        ),
    ),
    "d": (
        (
            0.3333333332883207,
            -0.033333332886676635,
            0.0011904754658497649,
            -2.2045413775054133e-05,
            2.503925927419906e-07,
            -1.9077990449964474e-09,
            9.253443163233033e-12,
        ),
        (
            0.3333333333333333,
            -0.03333333333333333,
            0.0011904761904761904,
            -2.2045855379188653e-05,
            2.505210838543581e-07,
            -1.9270852603845387e-09,
            1.0706029212100725e-11,
            -4.4983313073317374e-14,
            1.4797095291139542e-16,
            -3.9140763121793043e-19,
            8.475360981241747e-22,
            -1.411813428110518e-24,
        ),
    ),
    "e": (
        (
            0.16666666635532562,
            -0.008333331063159758,
            0.00019841001041360817,
            -2.7545646375175738e-06,
            2.482183356820272e-08,
            -1.3940369325394278e-10,
        ),
        (
            0.16666666666666666,
            -0.008333333333333333,
            0.00019841269841269817,
            -2.7557319223981988e-06,
            2.505210838512543e-08,
            -1.6059043821862393e-10,
            7.647163290521286e-13,
            -2.8114488869511044e-15,
            8.219614588121504e-18,
            -1.9495404812781975e-20,
            3.5328381427588036e-23,
        ),
    ),
    "f": (
        (
            0.04166666664696954,
            -0.0013888887452738292,
            2.4801417305840696e-05,
            -2.75499416571989e-07,
            2.073139086489296e-09,
            -1.0136662096286276e-11,
        ),
        (
            0.041666666666666664,
            -0.001388888888888889,
            2.480158730158729e-05,
            -2.755731922398438e-07,
            2.087675698774579e-09,
            -1.147074559194544e-11,
            4.779477161773143e-14,
            -1.5619174625068188e-16,
            4.1099232168990013e-19,
            -8.866845267778915e-22,
            1.4823623156319472e-24,
        ),
    ),
    "g": (
        (
            0.008333333325240624,
            -0.00039682533781947054,
            8.267125918606351e-06,
            -1.0017811682455188e-07,
            7.969773502438764e-10,
            -4.039711740984522e-12,
        ),
        (
            0.008333333333333333,
            -0.0003968253968253968,
            8.267195767195763e-06,
            -1.0020843354176017e-07,
            8.02952191835648e-10,
            -4.588298236522634e-12,
            1.968020002257538e-14,
            -6.576493830467585e-17,
            1.7613894962627407e-19,
            -3.854867006432325e-22,
            6.516844792086893e-25,
        ),
    ),
    "atan_z": (
        (
            0.9999999999781153,
            -0.3333333208388429,
            0.19999882799135166,
            -0.14281559393382512,
            0.11040124377585614,
            -0.08454123640250732,
            0.0470298077665473,
        ),
        (
            1.0,
            -0.33333333333333326,
            0.19999999999996954,
            -0.14285714285322665,
            0.11111111084901926,
            -0.09090908044291952,
            0.07692280773217584,
            -0.06666200506063899,
            0.05876787979157546,
            -0.052170189352543625,
            0.04498315187466662,
            -0.033360380355545415,
            0.0150860188878227,
        ),
    ),
    "d_z": (
        (
            0.3333333330002447,
            -0.5333331431000707,
            0.6602995846631597,
            -0.7686056908017279,
            0.8565616337162909,
            -0.8592431186388522,
            0.567606070143436,
        ),
        (
            0.3333333333333333,
            -0.5333333333333332,
            0.6603174603173969,
            -0.7692416225654736,
            0.8674939867524998,
            -0.9584164857577918,
            1.0438768348251324,
            -1.125031666258856,
            1.2024206401757322,
            -1.274180008145396,
            1.325189810108296,
            -1.292091982094338,
            1.0319294793661147,
            -0.47831571245250915,
        ),
    ),
    "e_z": (
        (
            0.16666666661383425,
            -0.1333333031616196,
            0.13967970543557484,
            -0.14705972826889088,
            0.15285680232965534,
            -0.14608496993070122,
            0.09369477671488377,
        ),
        (
            0.16666666666666666,
            -0.1333333333333333,
            0.1396825396825311,
            -0.147160493825877,
            0.1545871411534539,
            -0.1617502215466078,
            0.16862024103294465,
            -0.17520950304940414,
            0.1815079990714292,
            -0.1872119701612497,
            0.19024599336599776,
            -0.18205013205189258,
            0.1434386031421198,
            -0.0659115443874881,
        ),
    ),
}
# fmt: on


@dataclass(frozen=True, eq=False)
class Rows:
    """Polynomials by their coefficients, a row each, lowest power first. Equal to itself alone: a quick key."""

    coefficients: tuple[tuple[float, ...], ...]

    def __call__(self, x: Tensor) -> Tensor:
        """All of them (n, ...) at x (1, ...)."""
        if torch.compiler.is_exporting():
            return _by_powers(self, x)
        if torch.compiler.is_compiling():
            # Scalars fold into the generated code, tensors of coefficients would be loads.
            return torch.cat([_horner(row, x) for row in self.coefficients])
        return _by_columns(self, x)


def _horner(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    highest, second, *rest = reversed(coefficients)
    value = x * highest + second
    for c in rest:
        value = value * x + c
    return value


def _by_columns(rows: Rows, x: Tensor) -> Tensor:
    """All rows at x (1, ...), or row i at x[i]: one fused step serves all of them."""
    highest, second, *rest = _columns(rows, x.dtype, x.device, x.ndim - 1)
    value = torch.addcmul(second, highest, x)
    for c in rest:
        value = torch.addcmul(c, value, x)
    return value


def _by_powers(rows: Rows, x: Tensor) -> Tensor:
    """All rows at x (1, ...), in few operations: an exported graph runs them one by one."""
    ones = [1] * (x.ndim - 1)
    table = torch.tensor(rows.coefficients, dtype=x.dtype, device=x.device)
    powers = x ** torch.arange(table.shape[1], dtype=x.dtype, device=x.device).reshape(-1, *ones)
    return (table.reshape(*table.shape, *ones) * powers).sum(1)


@lru_cache(maxsize=1024)
def _columns(rows: Rows, dtype: torch.dtype, device: torch.device, ndim: int) -> list[Tensor]:
    """Coefficients as tensors (n, 1, ...), highest power first."""
    # What is kept must serve training too, even where an inference asks first.
    with torch.inference_mode(False):
        table = torch.tensor(rows.coefficients, dtype=dtype, device=device)
        shaped = table.reshape(*table.shape, *[1] * ndim)
        return [shaped[:, k] for k in reversed(range(table.shape[1]))]


@lru_cache(maxsize=256)
def _named(names: tuple[str, ...], double: bool) -> Rows:
    """The tables of these functions, of one length."""
    found = [_TABLES[name][double] for name in names]
    longest = max(len(row) for row in found)
    return Rows(tuple(row + (0.0,) * (longest - len(row)) for row in found))


def polynomials(names: tuple[str, ...], x: Tensor) -> tuple[Tensor, ...]:
    """The named functions at x (1, ...), each (1, ...)."""
    double = x.dtype == torch.float64
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return tuple(_horner(_TABLES[name][double], x) for name in names)
    return _named(names, double)(x).chunk(len(names))


def evaluate(names: tuple[str, ...], xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The i-th named function at xs[i] >= 0 of any size: the row up to pi^2, the closed form beyond."""
    if torch.compiler.is_compiling():
        double = xs[0].dtype == torch.float64
        return tuple(
            torch.where(x <= X_MAX, _horner(_TABLES[name][double], x), _closed(name, x.clamp(min=X_MAX)))
            for name, x in zip(names, xs, strict=True)
        )
    x = torch.stack(xs)
    value = _by_columns(_named(names, x.dtype == torch.float64), x)
    # A safe argument first, then where: autograd visits both branches.
    safe = x.clamp(min=X_MAX).unbind(0)
    closed = torch.stack([_closed(name, argument) for name, argument in zip(names, safe, strict=True)])
    return torch.where(x <= X_MAX, value, closed).unbind(0)


def _half_angle(double: bool) -> Rows:
    cos, sinc, e = (_TABLES[name][double] for name in ("cos", "sinc", "e"))
    halved = [tuple(c / 4**k for k, c in enumerate(row)) for row in (cos, sinc)]
    longest = max(len(cos), len(sinc), len(e))
    table = (halved[0], tuple(0.5 * c for c in halved[1]), e)
    return Rows(tuple(row + (0.0,) * (longest - len(row)) for row in table))


OF_HALF_ANGLE = (_half_angle(False), _half_angle(True))
"""cos(theta/2), sin(theta/2)/theta and e(theta^2), at x = theta^2 up to pi^2; for float32 and for float64."""


def _closed(name: str, x: Tensor) -> Tensor:
    """The closed forms, well conditioned beyond pi^2."""
    r = x.sqrt()
    if name == "cos":
        return r.cos()
    sinc = r.sin() / r
    if name == "sinc":
        return sinc
    if name == "e":
        return (1 - sinc) / x
    cos = r.cos()
    if name == "d":
        return (sinc - cos) / x
    if name == "f":
        return (0.5 + (cos - 1) / x) / x
    assert name == "g"
    return (2 - 3 * sinc + cos) / (2 * x * x)


def log_sinc(squared: Tensor) -> Tensor:
    """log |sin(theta/2) / (theta/2)| from theta^2."""
    (sinc,) = evaluate(("sinc",), (0.25 * squared,))
    return sinc.abs().clamp(min=1e-12).log()

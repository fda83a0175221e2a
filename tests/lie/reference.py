"""SO(3) and SE(3) in 60-digit arithmetic, from the definitions: the oracle of the accuracy tests.

Nothing here is shared with the library: sines and cosines of theta, the series of V(omega) summed as matrices,
and derivatives by central differences of step 1e-20 at 60 digits (error near 1e-40).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath as mp

DIGITS = 60
STEP = mp.mpf("1e-20")
Numbers = Sequence[mp.mpf]

mp.mp.dps = DIGITS


def exact(values: Sequence[float]) -> list[mp.mpf]:
    """Floats as they are stored, without rounding."""
    return [mp.mpf(float(value)) for value in values]


def dot(a: Numbers, b: Numbers) -> mp.mpf:
    return mp.fsum(x * y for x, y in zip(a, b, strict=True))


def cross(a: Numbers, b: Numbers) -> list[mp.mpf]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _weights(theta: mp.mpf) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
    """sin(theta/2)/theta, (1 - cos theta)/theta^2 and (theta - sin theta)/theta^3."""
    if theta < mp.mpf("1e-15"):
        s = theta**2  # the next terms are below 1e-60
        return mp.mpf(1) / 2 - s / 48, mp.mpf(1) / 2 - s / 24, mp.mpf(1) / 6 - s / 120
    with mp.workdps(DIGITS + 40):  # 1 - cos and theta - sin cancel
        return (
            mp.sin(theta / 2) / theta,
            (1 - mp.cos(theta)) / theta**2,
            (theta - mp.sin(theta)) / theta**3,
        )


def exp(xi: Numbers) -> list[mp.mpf]:
    """Pose of a twist: V v and the quaternion of omega."""
    v, omega = xi[:3], xi[3:]
    theta = mp.sqrt(dot(omega, omega))
    h, a, b = _weights(theta)
    once = cross(omega, v)
    twice = cross(omega, once)
    p = [v[i] + a * once[i] + b * twice[i] for i in range(3)]
    return [*p, mp.cos(theta / 2), *[h * o for o in omega]]


def log(x: Numbers) -> list[mp.mpf]:
    """Twist of a pose by inverting V as a 3 x 3 matrix; the quaternion is normalised first."""
    q = list(x[3:])
    norm = mp.sqrt(dot(q, q))
    q = [c / norm for c in q]
    if q[0] < 0:
        q = [-c for c in q]
    n = mp.sqrt(dot(q[1:], q[1:]))
    half = mp.atan2(n, q[0])
    scale = 2 * half / n if n > 0 else mp.mpf(2)
    omega = [scale * c for c in q[1:]]
    _, a, b = _weights(2 * half)
    W = mp.matrix([[0, -omega[2], omega[1]], [omega[2], 0, -omega[0]], [-omega[1], omega[0], 0]])
    V = mp.eye(3) + a * W + b * W * W
    return [*mp.lu_solve(V, mp.matrix(list(x[:3]))), *omega]


def multiply(a: Numbers, b: Numbers) -> list[mp.mpf]:
    turned = cross(a[1:], b[1:])
    u = [a[0] * b[1 + i] + b[0] * a[1 + i] + turned[i] for i in range(3)]
    return [a[0] * b[0] - dot(a[1:], b[1:]), *u]


def rotate(q: Numbers, a: Numbers) -> list[mp.mpf]:
    norm2 = dot(q, q)
    conjugate = [q[0], -q[1], -q[2], -q[3]]
    return [c / norm2 for c in multiply(multiply(q, [mp.mpf(0), *a]), conjugate)[1:]]


def compose(x: Numbers, y: Numbers) -> list[mp.mpf]:
    moved = rotate(x[3:], y[:3])
    return [*[x[i] + moved[i] for i in range(3)], *multiply(x[3:], y[3:])]


def inverse(x: Numbers) -> list[mp.mpf]:
    q = [x[3], -x[4], -x[5], -x[6]]
    return [*[-c for c in rotate(q, x[:3])], *q]


def jacobian(f: Callable[[Numbers], list[mp.mpf]], x: Numbers) -> list[list[mp.mpf]]:
    """Rows of d f_i / d x_j by central differences."""
    columns = []
    for j in range(len(x)):
        plus, minus = list(x), list(x)
        plus[j] += STEP
        minus[j] -= STEP
        pairs = zip(f(plus), f(minus), strict=True)
        columns.append([(a - b) / (2 * STEP) for a, b in pairs])
    return [list(row) for row in zip(*columns, strict=True)]

"""The functions under torch's transformations: compile, vmap, jvp, export, autocast, double backward, broadcasting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geoflow.lie import se3, so3

G = torch.Generator().manual_seed(0)


def poses(*shape: int) -> Tensor:
    return se3.random_uniform(*shape, generator=G)


def twists(*shape: int) -> Tensor:
    return torch.randn(*shape, 6, generator=G)


FUNCTIONS = {
    "se3.exp": (se3.exp, lambda: (twists(5),)),
    "se3.log": (se3.log, lambda: (poses(5),)),
    "se3.compose": (se3.compose, lambda: (poses(5), poses(5))),
    "se3.inverse": (se3.inverse, lambda: (poses(5),)),
    "se3.act": (se3.act, lambda: (poses(5), torch.randn(5, 3, generator=G))),
    "se3.adjoint": (se3.adjoint, lambda: (poses(5),)),
    "se3.geodesic": (se3.geodesic, lambda: (poses(5), poses(5), torch.rand(5, generator=G))),
    "se3.jacobian_right": (se3.jacobian_right, lambda: (twists(5),)),
    "se3.jacobian_left_inverse": (se3.jacobian_left_inverse, lambda: (twists(5),)),
    "se3.hat": (se3.hat, lambda: (twists(5),)),
    "se3.to_matrix": (se3.to_matrix, lambda: (poses(5),)),
    "se3.from_matrix": (se3.from_matrix, lambda: (se3.to_matrix(poses(5)),)),
    "se3.to_6d": (lambda x: se3.to_6d(x, by="columns"), lambda: (poses(5),)),
    "se3.from_6d": (lambda x: se3.from_6d(x, by="rows"), lambda: (torch.randn(5, 9, generator=G),)),
    "so3.exp": (so3.exp, lambda: (torch.randn(5, 3, generator=G),)),
    "so3.log": (so3.log, lambda: (so3.random_uniform(5, generator=G),)),
    "so3.geodesic": (
        so3.geodesic,
        lambda: (
            so3.random_uniform(5, generator=G),
            so3.random_uniform(5, generator=G),
            torch.rand(5, generator=G),
        ),
    ),
    "so3.jacobian_left": (so3.jacobian_left, lambda: (torch.randn(5, 3, generator=G),)),
    "so3.to_euler": (so3.to_euler, lambda: (so3.random_uniform(5, generator=G),)),
}
each = pytest.mark.parametrize("name", FUNCTIONS)


def close(a, b, tolerance: float = 2e-6) -> bool:
    a, b = (y if isinstance(y, tuple) else (y,) for y in (a, b))
    return all(torch.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in zip(a, b, strict=True))


@each
def test_traces_without_a_graph_break(name):
    """compile(fullgraph=True), forward and backward (along a quaternion itself no derivative is defined)."""
    f, arguments = FUNCTIONS[name]
    args = arguments()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    assert close(compiled(*args), f(*args))
    gradients = (map(_along_the_group, args, _gradient(g, args)) for g in (compiled, f))
    assert close(*map(tuple, gradients), 1e-4)


def _along_the_group(x: Tensor, gradient: Tensor) -> Tensor:
    """Without what a change of a quaternion's norm would do: formulas that agree on unit quaternions differ there."""
    if x.shape[-1] not in (4, 7):
        return gradient
    q, g = x[..., -4:], gradient[..., -4:]
    return torch.cat([gradient[..., :-4], g - (g * q).sum(-1, keepdim=True) * q], -1)


def _gradient(f, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [a.clone().requires_grad_() for a in args]
    out = f(*leaves)
    outputs = out if isinstance(out, tuple) else (out,)
    total = sum((y * torch.arange(y.numel()).reshape(y.shape)).sum() for y in outputs)
    return torch.autograd.grad(total, leaves)


@each
def test_vmap_and_jvp(name):
    """vmap over the batch equals the batch; forward mode equals central differences."""
    f, arguments = FUNCTIONS[name]
    args = arguments()
    assert close(torch.func.vmap(f)(*args), f(*args))
    tangents = tuple(torch.randn(a.shape, generator=G) for a in args)
    _, forward = torch.func.jvp(f, args, tangents)
    assert close(forward, _directional(f, args, tangents), 1e-4)


def _directional(f, args: tuple[Tensor, ...], tangents: tuple[Tensor, ...]):
    """Directional derivative by central differences in float64."""
    step = 1e-6
    x = [a.double() for a in args]
    v = [a.double() for a in tangents]
    plus = f(*[a + step * b for a, b in zip(x, v, strict=True)])
    minus = f(*[a - step * b for a, b in zip(x, v, strict=True)])
    pairs = zip(plus, minus, strict=True) if isinstance(plus, tuple) else [(plus, minus)]
    out = tuple(((p - m) / (2 * step)).float() for p, m in pairs)
    return out if isinstance(plus, tuple) else out[0]


@each
def test_exports(name):
    """torch.export writes a program that gives the same numbers."""
    f, arguments = FUNCTIONS[name]
    args = arguments()

    class Module(torch.nn.Module):
        def forward(self, *inputs: Tensor):
            return f(*inputs)

    program = torch.export.export(Module(), args)
    assert close(program.module()(*args), f(*args))


@each
def test_autocast_computes_in_float32(name):
    """Under autocast nothing loses precision, and bfloat16 inputs are computed in float32 and handed back."""
    f, arguments = FUNCTIONS[name]
    args = arguments()
    plain = f(*args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert close(f(*args), plain)
    rounded = tuple(a.bfloat16() for a in args)
    found, expected = f(*rounded), f(*[a.float() for a in rounded])
    found, expected = (y if isinstance(y, tuple) else (y,) for y in (found, expected))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.allclose(a.float(), b, rtol=8e-3, atol=2e-2)


@each
def test_leading_shapes(name):
    """Any leading shape: (2, 3, n), (n,) and an empty batch."""
    f, arguments = FUNCTIONS[name]
    args = arguments()
    first = tuple(a[0] for a in args)
    whole = f(*args)
    single = f(*first)
    assert close(single, tuple(y[0] for y in whole) if isinstance(whole, tuple) else whole[0])
    stacked = tuple(
        torch.stack([torch.stack([a[0], a[1], a[2]]), torch.stack([a[3], a[4], a[0]])]) for a in args
    )
    grid = f(*stacked)
    corner = tuple(y[1, 1] for y in grid) if isinstance(grid, tuple) else grid[1, 1]
    assert close(corner, tuple(y[4] for y in whole) if isinstance(whole, tuple) else whole[4])
    empty = f(*[a[:0] for a in args])
    assert all(y.shape[0] == 0 for y in (empty if isinstance(empty, tuple) else (empty,)))


@each
def test_second_derivatives_are_finite(name):
    """Double backward, at random elements and at the identity."""
    f, arguments = FUNCTIONS[name]

    def scalar(*inputs: Tensor) -> Tensor:
        out = f(*inputs)
        return sum((y**2).sum() for y in (out if isinstance(out, tuple) else (out,)))

    leaves = [a[:2].clone().requires_grad_() for a in arguments()]
    gradients = torch.autograd.grad(scalar(*leaves), leaves, create_graph=True)
    total = sum((g**2).sum() for g in gradients)
    if total.requires_grad:
        second = torch.autograd.grad(total, leaves, allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in second)


def test_broadcasting():
    """Leading axes broadcast as in torch, between points, twists and times."""
    x, y, t = poses(4, 1), poses(3), torch.rand(4, 3, generator=G)
    x_t, xi = se3.geodesic(x, y, t)
    assert x_t.shape == (4, 3, 7)
    assert xi.shape == (4, 3, 6)
    full = se3.geodesic(x.expand(4, 3, 7), y.expand(4, 3, 7), t)
    assert close((x_t, xi), full)
    assert se3.compose(x, y[0]).shape == (4, 1, 7)
    assert se3.geodesic(y, y, t)[0].shape == (4, 3, 7)
    assert se3.geodesic(y[0], y[1], torch.rand(5))[1].shape == (5, 6)
    assert so3.geodesic(y[0, 3:], y[1, 3:], torch.rand(5))[1].shape == (5, 3)
    assert se3.act(x[..., :7], torch.randn(2, 1, 1, 3)).shape == (2, 4, 1, 3)


def test_large_batches_agree_with_small_ones():
    """The paths chosen for throughput give the numbers of the paths chosen for small batches."""
    x, y, t = poses(6000), poses(6000), torch.rand(6000, generator=G)
    whole = (*se3.geodesic(x, y, t), se3.log(x), se3.compose(x, y), se3.inverse(x))
    part = slice(100, 116)
    few = (
        *se3.geodesic(x[part], y[part], t[part]),
        se3.log(x[part]),
        se3.compose(x[part], y[part]),
        se3.inverse(x[part]),
    )
    assert close(tuple(a[part] for a in whole), few)
    assert all(a.is_contiguous() for a in whole)


@pytest.mark.slow
def test_inductor_and_dynamic_batch():
    """The compiled geodesic computes the same, also when the batch size changes."""
    compiled = torch.compile(se3.geodesic, fullgraph=True, dynamic=True)
    for n in (64, 33):
        x, y, t = poses(n), poses(n), torch.rand(n, generator=G)
        assert close(compiled(x, y, t), se3.geodesic(x, y, t))

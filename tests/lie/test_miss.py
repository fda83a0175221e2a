"""se3.miss(x, xi, y) = Log((x Exp(xi))^-1 y): value and every derivative, against plain composition of exp and log."""

import pytest
import torch

from geoflow.lie import se3


def plain(x, xi, y):
    return se3.minus(y, se3.plus(x, xi))


def poses_and_twists(spread, n=6):
    generator = torch.Generator().manual_seed(0)
    x, y = (se3.random_uniform(n, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, spread * torch.randn(n, 6, generator=generator, dtype=torch.float64), y


@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.5, 4.0])
def test_value_and_gradients_of_two_orders(spread):
    """Twists of no angle, of a tiny one, and of more than half a turn."""
    x, xi, y = poses_and_twists(spread)
    torch.testing.assert_close(se3.miss(x, xi, y), plain(x, xi, y))
    xi.requires_grad_()
    assert torch.autograd.gradcheck(lambda xi: se3.miss(x, xi, y), (xi,))
    assert torch.autograd.gradgradcheck(lambda xi: se3.miss(x, xi, y), (xi,))


def test_a_prediction_that_is_right_has_a_gradient_all_the_same():
    """At e = 0 the derivative in xi is -J_r(xi), not NaN."""
    x, xi, _ = poses_and_twists(0.5)
    y = se3.plus(x, xi)
    jacobian = torch.func.vmap(torch.func.jacrev(se3.miss, argnums=1))(x, xi, y)
    torch.testing.assert_close(jacobian, -se3.jacobian_right(xi), atol=1e-7, rtol=1e-7)


def test_forward_derivatives_in_every_argument():
    x, xi, y = poses_and_twists(0.5)
    d = torch.randn(3, *xi.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def slope(function):
        def along(s):
            return function(se3.plus(x, s * d[0]), xi + s * d[1], se3.plus(y, s * d[2]))

        return torch.func.jvp(along, (zero,), (one,))[1]

    torch.testing.assert_close(slope(se3.miss), slope(plain))


def test_gradients_reach_poses_that_are_learned():
    inputs = [a.requires_grad_() for a in poses_and_twists(0.5)]
    found, expected = (torch.autograd.grad(f(*inputs).square().sum(), inputs) for f in (se3.miss, plain))
    torch.testing.assert_close(found, expected)


def test_broadcasts_a_centre_and_a_twist():
    x, xi, y = poses_and_twists(0.5)
    xi = xi[:1].requires_grad_()
    y = y.expand(4, *y.shape)
    found, expected = (torch.autograd.grad(f(x, xi, y).square().sum(), xi)[0] for f in (se3.miss, plain))
    torch.testing.assert_close(found, expected)


def test_float32_gradients_are_as_exact_as_those_of_autograd():
    x, xi, y = poses_and_twists(0.5, n=512)
    small, large = xi.float().requires_grad_(), xi.requires_grad_()
    (found,) = torch.autograd.grad(se3.miss(x.float(), small, y.float()).square().sum(), small)
    (exact,) = torch.autograd.grad(plain(x, large, y).square().sum(), large)
    torch.testing.assert_close(found.double(), exact, atol=2e-4, rtol=2e-5)


def test_compiles_in_one_graph():
    x, xi, y = poses_and_twists(0.5)
    xi.requires_grad_()
    compiled = torch.compile(se3.miss, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(f(x, xi, y).square().sum(), xi)[0] for f in (compiled, plain))
    torch.testing.assert_close(found, expected)

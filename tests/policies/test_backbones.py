"""Every backbone keeps one contract: (features, t, cond) -> output, all three used, gradients finite."""

import pytest
import torch

from geoflow.policies.backbones import BACKBONES

SIZES = {"horizon": 8, "inputs": 10, "outputs": 7, "cond": 12, "width": 64, "depth": 2}


@pytest.mark.parametrize("name", BACKBONES)
def test_contract(name):
    torch.manual_seed(0)
    net = BACKBONES[name](**SIZES)
    f, t, cond = torch.randn(5, 8, 10), torch.rand(5), torch.randn(5, 12)
    inputs = [x.requires_grad_() for x in (f, t, cond)]
    out = net(*inputs)
    assert out.shape == (5, 8, 7)
    out.square().sum().backward()
    for x in inputs:
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert (x.grad != 0).any()


def test_unet_says_which_horizons_it_takes():
    with pytest.raises(ValueError, match="multiple of 4"):
        BACKBONES["unet"](**{**SIZES, "horizon": 6})

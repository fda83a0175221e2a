"""DDPM: with the exact prediction for Gaussian data, every solver gives that Gaussian back, whatever is predicted."""

import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig

MEAN, STD = 0.2, 0.3


@pytest.mark.parametrize("target", ["noise", "endpoint"])
@pytest.mark.parametrize(
    ("solver", "nfe", "tolerance"), [("ddpm", 100, 0.03), ("ddim", 50, 0.03), ("dpmsolver++", 20, 0.06)]
)
def test_exact_predictions_sample_the_data(demos, target, solver, nfe, tolerance):
    """y_k = sqrt(a) y + sqrt(1 - a) eps with y ~ N(m, s^2): E[y | y_k] and E[eps | y_k] are linear in y_k."""
    config = PolicyConfig(
        type="ddpm", manifold="Euclidean", target=target, width=32, depth=1, horizon=8, execute=4
    )
    policy = build_policy(config, PolicySpec.of(Chunks(demos, 8)))
    policy.clip.fill_(10.0)

    def exact(noisy, k, cond):
        a = policy.alphas_cumprod[k][:, None, None]
        y = MEAN + a.sqrt() * STD**2 / (a * STD**2 + 1 - a) * (noisy - a.sqrt() * MEAN)
        return y if target == "endpoint" else (noisy - a.sqrt() * y) / (1 - a).sqrt()

    policy._predict = exact
    chunks = policy.sample_chunk(torch.zeros(400, 1), nfe, solver, torch.Generator().manual_seed(0))
    assert float(chunks.mean()) == pytest.approx(MEAN, abs=tolerance)
    assert float(chunks.std()) == pytest.approx(STD, abs=tolerance)

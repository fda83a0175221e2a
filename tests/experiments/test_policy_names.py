"""Policies are called as a person would call them."""

import pytest

from geoflow.experiments.policy_names import policy_name
from geoflow.policies.config import PolicyConfig


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "SE(3) flow"),
        ({"manifold": "R3xSO3"}, "R³×SO(3) flow"),
        ({"manifold": "Euclidean"}, "Euclidean flow"),
        ({"manifold": "my_lab.spaces:Dual"}, "Dual flow"),
        ({"target": "velocity"}, "SE(3) flow, predicts velocity"),
        ({"method": "MeanFlow(instant=0.5)", "target": "velocity"}, "SE(3) MeanFlow"),
        ({"method": "my_lab.flows:Mine()"}, "SE(3) Mine"),
        ({"type": "ddpm", "manifold": "Euclidean"}, "DDPM"),
        ({"type": "ddpm", "manifold": "Euclidean", "target": "noise"}, "DDPM, predicts noise"),
        ({"type": "diffusion_policy", "manifold": "Euclidean", "target": "noise"}, "Diffusion Policy"),
        (
            {"type": "diffusion_policy", "manifold": "Euclidean", "target": "v"},
            "Diffusion Policy, predicts v",
        ),
        ({"type": "regression"}, "SE(3) regression"),
        ({"type": "regression", "method": 'Regression(norm="l1")'}, "SE(3) L1 regression"),
        (
            {"type": "regression", "manifold": "Euclidean", "method": "Regression(steps=2)"},
            "Euclidean two-step regression",
        ),
        ({"type": "my_lab.policies:Mine"}, "SE(3) Mine"),
    ],
)
def test_a_policy_is_called(options, name):
    assert policy_name(PolicyConfig(**options)) == name

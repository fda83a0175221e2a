"""What a reader calls a policy: SE(3) flow, Euclidean flow, SE(3) MeanFlow, two-step regression, Diffusion Policy."""

from __future__ import annotations

from geoflow.policies.config import PolicyConfig
from geoflow.policies.regression import chosen

_GEOMETRIES = {"SE3": "SE(3)", "R3xSO3": "R³×SO(3)"}
_DIFFUSIONS = {"ddpm": ("DDPM", "endpoint"), "diffusion_policy": ("Diffusion Policy", "noise")}
"""Type -> name, and what it predicts unless it says otherwise."""


def policy_name(policy: PolicyConfig) -> str:
    """The name of a kind of policy: its geometry and method, and what it predicts where that is unusual."""
    if policy.type in _DIFFUSIONS:
        name, usual = _DIFFUSIONS[policy.type]
        return f"{name}{_predicts(policy, usual)}"
    geometry = _GEOMETRIES.get(policy.manifold, policy.manifold.rpartition(":")[2])
    if policy.type == "regression":
        regression = chosen(policy)
        norm = "L1 " if regression.norm == "l1" else ""
        return f"{geometry} {'two-step ' if regression.steps == 2 else ''}{norm}regression"
    method = policy.method.partition("(")[0].rpartition(":")[2]
    if policy.type == "flow" and method != "Flow":
        return f"{geometry} {method}"
    return f"{geometry} {policy.type.rpartition(':')[2]}{_predicts(policy, 'endpoint')}"


def _predicts(policy: PolicyConfig, usual: str) -> str:
    return "" if policy.target == usual else f", predicts {policy.target}"

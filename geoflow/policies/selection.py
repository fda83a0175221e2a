"""The likeliest of several chunks: argmax_k log p_t(x_k | observation), under the flow that drew them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geoflow.flows import FlowMap, euler
from geoflow.flows.likelihood import log_prob
from geoflow.flows.noise import Generators
from geoflow.policies.base import Policy
from geoflow.policies.flow import FlowPolicy

AT = 0.9
"""The time whose density is asked for: with a tenth of the noise. Policies that predict end points have none at 1,
and peaks that are narrower than this are no reason to prefer a chunk."""
STEPS = 10
PROBES = 8
"""Random directions of Hutchinson's estimate, the same for all chunks, so that what they share cancels. On a known
mixture the estimate keeps the order of chunks with 8 (correlation 0.998), and not with 2 (0.7)."""


def check_density(policy: Policy) -> FlowPolicy:
    """The policy, if its chunks have a density that can be computed.

    Raises:
        ValueError: it is no flow, or one that jumps.
    """
    if not isinstance(policy, FlowPolicy) or isinstance(policy.flow, FlowMap):
        kind = type(policy.flow).__name__ if isinstance(policy, FlowPolicy) else type(policy).__name__
        raise ValueError(
            f"a {kind} does not say how likely a chunk is; choose among candidates with a flow policy of method Flow()."
        )
    return policy


def log_density(
    policy: Policy,
    obs: Mapping[str, Any],
    actions: Tensor,
    *,
    at: float = AT,
    steps: int = STEPS,
    probes: int | None = PROBES,
) -> Tensor:
    """How likely chunks are, given observations: log densities (B,), or () for one observation.

    They compare chunks of one policy after one observation, or one policy's observations with each other: how far an
    observation or a chunk is from what was demonstrated. Units are the policy's own.

    Args:
        policy: A flow policy.
        obs: As for `Policy.act`.
        actions: Chunks (B, T, 7 + k) in the world frame, or (T, 7 + k) for one observation.
        at: The time of the density; see `geoflow.flows.likelihood.log_prob`.
        steps: Euler steps from chunk to noise.
        probes: Random directions, None for the exact divergence: T * tangent_dim backward passes a step.

    Raises:
        ValueError: a policy without a density, chunks of another shape, observations that do not fit.
    """
    flow = check_density(policy)
    batched, single = flow.batched(obs)
    actions = actions.to(flow.length)
    actions = actions.unsqueeze(0) if single and actions.dim() == 2 else actions
    batch = len(next(iter(batched.values())))
    expected = (batch, flow.config.horizon, flow.spec.action_dim)
    if actions.shape != expected:
        raise ValueError(
            f"expected chunks of shape {expected}, one an observation; got {tuple(actions.shape)}."
        )
    with torch.no_grad():
        cond = flow.condition(batched)
        score = score_chunks(flow, flow.to_space(batched, actions), cond, at, steps, probes)
    return score[0] if single else score


def likeliest(
    policy: Policy,
    obs: Mapping[str, Any],
    candidates: int,
    nfe: int | None = None,
    solver: str | None = None,
    generator: Generators = None,
) -> Tensor:
    """As `Policy.act`, but of ``candidates`` chunks for each observation the one of the largest density.

    Observations are encoded once; all chunks are drawn, and then run back to noise, in one batch.

    Raises:
        ValueError: fewer than 1 candidate, or what `Policy.act` and `log_density` raise.
    """
    if candidates < 1:
        raise ValueError(f"candidates={candidates}; give at least 1.")
    flow = check_density(policy)
    batched, single = flow.batched(obs)
    nfe, solver = flow.chosen(nfe, solver)
    if generator is not None and not isinstance(generator, torch.Generator):
        generator = [each for each in generator for _ in range(candidates)]
    with torch.no_grad():
        cond = flow.condition(batched)
        repeat = lambda x: x.repeat_interleave(candidates, 0)  # noqa: E731
        cond = repeat(cond) if isinstance(cond, Tensor) else cond.map(repeat)
        points = flow.sample_chunk(cond, nfe, solver, generator)
        score = score_chunks(flow, points, cond, AT, STEPS, PROBES).unflatten(0, (-1, candidates))
        points = points.unflatten(0, (-1, candidates))
        best = score.argmax(1)
        chunk = flow.from_space(batched, points[torch.arange(len(best), device=best.device), best])
    return chunk[0] if single else chunk


def score_chunks(
    policy: FlowPolicy, points: Tensor, cond: Any, at: float, steps: int, probes: int | None
) -> Tensor:
    """Log densities (B,) of points (B, T, point_dim) of the policy's space."""
    # One seed for all: the same directions, so that chunks differ by what they are.
    directions = [torch.Generator().manual_seed(0) for _ in points] if probes is not None else None
    return log_prob(
        policy.flow,
        policy.evaluate_network,
        points,
        cond,
        at=at,
        steps=steps,
        method=euler,
        probes=probes,
        generator=directions,
    )

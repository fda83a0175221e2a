"""Batches: the leading shape (B, *horizon) of what is drawn, times for it, and the mean of errors over all but B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def inner_axes(horizon: int | Sequence[int]) -> tuple[int, ...]:
    """The axes of a sample between its batch and its point: 16 is one axis, () none."""
    return (horizon,) if isinstance(horizon, int) else tuple(horizon)


def sample_shape(cond: Any, batch: int | None, horizon: int | Sequence[int]) -> tuple[int, ...]:
    """(B, *horizon), B from ``batch`` or else from the first axis of ``cond``.

    Raises:
        ValueError: neither says how many, or they disagree.
    """
    inner = inner_axes(horizon)
    if not isinstance(cond, Tensor):
        if batch is None:
            raise ValueError("how many samples? Give batch=..., or cond as a tensor of shape (B, ...).")
        return (batch, *inner)
    if batch not in (None, len(cond)):
        raise ValueError(
            f"batch={batch}, but cond has {len(cond)} rows; leave batch out, or repeat cond with "
            "cond.repeat_interleave."
        )
    return (len(cond), *inner)


def mean_inner(errors: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean of errors (B, ...) over all but the first axis, shape (B,); with ``counts`` (bool, as the errors) the
    others are zero. They stay in the number that is divided by, so that every counted error weighs alike.
    """
    errors = errors if counts is None else torch.where(counts, errors, 0)
    return errors.reshape(len(errors), -1).mean(-1)


def over_batch(t: float | Tensor, x: Tensor) -> Tensor:
    """A time, a number or a tensor of no axis, for each of the points x (B, ..., point_dim): shape (B,)."""
    return t.expand(len(x)) if isinstance(t, Tensor) else x.new_full((len(x),), t)


def over_inner(t: Tensor, x: Tensor) -> Tensor:
    """Times (B,) in a shape that broadcasts against the leading axes of points (B, ..., point_dim)."""
    return t.reshape(-1, *(1,) * (x.dim() - 2))

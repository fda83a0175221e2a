"""Onward: the chunk that is being executed, and how the next is to go on with it (real-time chunking)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Goal = tuple[Tensor, Tensor]
"""Points (B, T, point_dim) that a chunk should go on with, and the weight (T,) of each step."""

MANNERS = ("naive", "joined", "guided", "given")
"""How chunks follow one another while the robot moves; see `geoflow.policies.execution.Execution`."""
UNTOLD = ("naive", "joined")
"""Manners in which a prediction knows nothing of the chunk that goes on meanwhile."""


@dataclass(frozen=True)
class Onward:
    """The chunk that is executed while the next is computed, and that the next should go on with.

    Attributes:
        actions: What is left of it from now on, world frame, shape (n, 7 + k) or (B, n, 7 + k), n up to the horizon.
        delay: Steps of it that will have been executed when the next chunk is there, 0 to n.
        manner: How the next goes on: "guided" is pulled towards it, the nearer a step the more; "given" has its
            first ``delay`` steps as they are, for a policy that was trained so; "naive" does not.
        warm_start: None, or the time t_0 at which sampling begins, from this chunk with as much noise as there is
            then. What it does not reach is taken to stay where it ends.

    Raises:
        ValueError: an unknown manner.
    """

    actions: Tensor
    delay: int
    manner: str = "guided"
    warm_start: float | None = None

    def __post_init__(self) -> None:
        if self.manner not in MANNERS:
            raise ValueError(f"manner={self.manner!r}; it is one of {', '.join(MANNERS)}.")

    def batched(self, batch: int, horizon: int, dim: int, like: Tensor) -> Tensor:
        """The actions as (B, n, dim), of the dtype and device of ``like``.

        Raises:
            ValueError: they are of another shape, or more than the horizon.
        """
        actions = self.actions.to(like)
        actions = actions if actions.dim() == 3 else actions.unsqueeze(0)
        if actions.shape[0] != batch or not 1 <= actions.shape[1] <= horizon or actions.shape[2] != dim:
            raise ValueError(
                f"the chunk to go on with has shape {tuple(self.actions.shape)}; expected ({batch}, n, {dim}) with n "
                f"from 1 to the horizon {horizon}."
            )
        return actions

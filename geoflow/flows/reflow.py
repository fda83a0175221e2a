"""Reflow: pairs (x_0, x_1) of a trained flow, from which the next flow learns to go straight (Liu et al. 2023).

    pairs = Pairs.draw(flow, net, 20_000, steps=50)             # x_1 is where the flow carries x_0
    straight = Flow(space, prior)
    batch = pairs.sample(256)
    loss = straight.loss(net_2, batch.x_1, batch.cond, x_0=batch.x_0).mean()

Trajectories of the trained flow do not cross, so the paths of its pairs cross less than those of independent ones;
on R^n transport costs never rise (theorem 3.5), and a flow that has become straight needs one step. For few steps
the same pairs are distilled by training only at the times that those steps ask for: Flow(..., times=StepTimes(2)).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Solver, Steps, rkmk3
from geoflow.flows.noise import Generators
from geoflow.flows.times import uniform_times
from geoflow.manifolds import Manifold
from geoflow.manifolds.base import check_last_axis

FORMAT = "geoflow-pairs"


@dataclass(frozen=True)
class Pairs:
    """Noise and where a flow carries it, a coupling that can be kept in a file.

    Attributes:
        space: The manifold.
        x_0: Starts, shape (N, ..., point_dim).
        x_1: Ends, the same shape.
        cond: The condition of each, shape (N, ...), or None.

    Raises:
        ValueError: unequal counts, or numbers that are no points of the space.
    """

    space: Manifold
    x_0: Tensor
    x_1: Tensor
    cond: Tensor | None = None

    def __post_init__(self) -> None:
        for name, x in (("x_0", self.x_0), ("x_1", self.x_1)):
            check_last_axis(x, self.space.point_dim, name, self.space)
        conditions = len(self.x_1) if self.cond is None else len(self.cond)
        if self.x_0.shape != self.x_1.shape or self.x_0.dim() < 2 or conditions != len(self.x_1):
            given = "" if self.cond is None else f" and {conditions} conditions"
            raise ValueError(
                f"expected as many starts as ends (N, ..., {self.space.point_dim}) and conditions; got x_0 "
                f"{tuple(self.x_0.shape)}, x_1 {tuple(self.x_1.shape)}{given}."
            )

    def __len__(self) -> int:
        return len(self.x_0)

    @classmethod
    def draw(
        cls,
        flow: Flow,
        net: Network,
        n: int | None = None,
        cond: Tensor | None = None,
        *,
        horizon: int | Sequence[int] = (),
        steps: Steps = 20,
        method: Solver = rkmk3,
        batch: int = 4096,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        """Noise from the flow's prior, each carried to its end.

        Args:
            flow: The trained flow.
            net: Its network.
            n: How many; as many as conditions by default.
            cond: Conditions (n, ...), one a pair.
            horizon: Inner axes of a sample, such as the 16 steps of a chunk.
            steps: Integration steps; what they miss, the next flow learns.
            method: The integrator.
            batch: How many are integrated at a time.
            generator: Source of randomness.

        Raises:
            ValueError: neither n nor conditions, or counts of them that differ.
        """
        count = n if cond is None else len(cond)
        if count is None or count < 1 or n not in (None, count):
            raise ValueError(
                f"n={n} pairs with {'no' if cond is None else len(cond)} conditions; expected n >= 1, or one "
                "condition for each pair."
            )
        starts, ends = [], []
        with torch.no_grad():
            for i in range(0, count, batch):
                part = None if cond is None else cond[i : i + batch]
                size = min(batch, count - i)
                starts.append(flow.start(part, horizon=horizon, batch=size, generator=generator))
                ends.append(flow.sample(net, part, x_0=starts[-1], steps=steps, method=method))
        return cls(flow.space, torch.cat(starts), torch.cat(ends), cond)

    def sample(self, batch: int, generator: torch.Generator | None = None) -> Pairs:
        """A random batch, drawn with replacement."""
        source = generator.device if generator is not None else self.x_0.device
        i = torch.randint(len(self), (batch,), generator=generator, device=source).to(self.x_0.device)
        return Pairs(self.space, self.x_0[i], self.x_1[i], None if self.cond is None else self.cond[i])

    def to(self, device: torch.device | str) -> Pairs:
        """The same on another device."""
        cond = None if self.cond is None else self.cond.to(device)
        return Pairs(self.space, self.x_0.to(device), self.x_1.to(device), cond)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, whole or not at all; its header says what and of which space it is."""
        from safetensors.torch import save_file  # late: most users of flows save nothing here

        path = Path(path)
        tensors = {"x_0": self.x_0, "x_1": self.x_1} | ({} if self.cond is None else {"cond": self.cond})
        header = {"format": FORMAT, "version": "1", "space": str(self.space), "pairs": str(len(self))}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, temporary, header)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str, space: Manifold) -> Pairs:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no file of pairs, or one of another space.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{path} is no safetensors file ({error}); expected what Pairs.save wrote."
            ) from error
        if header.get("format") != FORMAT or not {"x_0", "x_1"} <= tensors.keys():
            raise ValueError(
                f"{path} holds no pairs: its header says {json.dumps(header)}; expected what Pairs.save wrote."
            )
        if header.get("space") != str(space):
            raise ValueError(
                f"{path} holds pairs of {header.get('space')}; they cannot pair points of {space}."
            )
        return cls(space, tensors["x_0"], tensors["x_1"], tensors.get("cond"))


@dataclass(frozen=True)
class StepTimes:
    """t in {0, 1/k, ..., (k-1)/k}, the times at which k Euler steps ask for a velocity.

    A flow trained there on `Pairs` is their distillation into k steps (Liu et al. 2023: k = 1): the
    network may forget all other times.

    Args:
        steps: k.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}; a flow is distilled into at least 1 step.")

    def __call__(self, batch: int, generator: Generators, like: Tensor) -> Tensor:
        """Times (B,), each as often as the others."""
        step = (uniform_times(batch, generator, like) * self.steps).floor()
        return step.clamp(max=self.steps - 1) / self.steps  # rounding may give t = 1

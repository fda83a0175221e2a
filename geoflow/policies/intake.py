"""Observations as whoever acts has them -> tensors (B, To, ...) as the policy was trained on, or an error that says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.policies.encoders import tokenise
from geoflow.policies.spec import PolicySpec

NORM = 0.1
"""How far the norm of an observed quaternion may be from 1: more is a mistake, not a driver's few digits."""
ROUNDING = 1e-6
"""How far it is of float32's rounding; such quaternions stay as they are, bit for bit."""


@dataclass(frozen=True)
class Intake:
    """What a policy takes in.

    Attributes:
        spec: What was observed in the demonstrations.
        steps: To, observations of a history.
        optional: Names of those that may be missing.
    """

    spec: PolicySpec
    steps: int
    optional: tuple[str, ...]

    def batched(self, obs: Mapping[str, Any], like: Tensor) -> tuple[dict[str, Tensor], bool]:
        """Observations as (B, To, d) tensors of the dtype and device of ``like``, and whether they came unbatched.

        Quaternions come out with norm 1. (Exported graphs do not pass here, and take observations as they are.)

        Raises:
            ValueError: one is missing, or of another shape or type than in the demonstrations, or has numbers that
                none of them has: infinities, quaternions far from norm 1, NaN in what may not be missing.
        """
        if not isinstance(obs, Mapping):
            raise TypeError(
                f"expected observations by name, such as {{{self._some()!r}: ...}}, as the task gives them; got "
                f"{type(obs).__name__}."
            )
        batched: dict[str, Tensor] = {}
        singles: dict[str, bool] = {}
        given = [name for name in self.spec.kinds if obs.get(name) is not None]
        self.spec.require(given, self.optional)
        for name in given:
            shape = tuple(self.spec.shapes[name])
            x = self._tensor(name, obs[name], like)
            singles[name] = x.dim() <= len(shape) + 1
            if x.shape == shape and self.steps == 1:
                x = x[None, None]
            elif singles[name]:
                x = x[None]
            if x.dim() != len(shape) + 2 or x.shape[1:] != (self.steps, *shape):
                raise ValueError(
                    f"observation {name!r} has shape {tuple(x.shape)}; this policy was trained on (B, {self.steps}, "
                    f"{', '.join(map(str, shape))}), and takes one unbatched as well."
                )
            self._check_finite(name, x)
            batched[name] = self._unit(name, x) if self.spec.kinds[name] == "pose" else x
        if len(set(singles.values())) > 1:
            one, many = ([name for name in given if singles[name] is kind] for kind in (True, False))
            raise ValueError(f"{one} are of one scene and {many} of a batch; give all in one of both ways.")
        sizes = {name: len(x) for name, x in batched.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"expected as many of each observation, one at least; got {sizes}.")
        absent = {*self.spec.partial} - {*given, *self.optional}
        batch = max(sizes.values())
        return batched | {name: self._absent(name, batch, like) for name in absent}, singles[given[0]]

    def _absent(self, name: str, batch: int, like: Tensor) -> Tensor:
        """What stands for an observation of another task: NaN, or an empty text."""
        text = self.spec.kinds[name] == "text"
        x = like.new_full((), 0 if text else torch.nan, dtype=torch.uint8 if text else None)
        return x.expand(batch, self.steps, *self.spec.shapes[name])

    def _tensor(self, name: str, x: Any, like: Tensor) -> Tensor:
        """An observation on the policy's device: pictures and texts as bytes, the rest in its dtype."""
        kind, shape = self.spec.kinds[name], tuple(self.spec.shapes[name])
        if not isinstance(x, Tensor):
            try:
                x = np.asarray(x)
            except ValueError as error:
                raise ValueError(f"observation {name!r} is no array ({error}).") from error
            if kind == "text" and x.dtype.kind == "U":
                return self._codes(name, x, shape[0]).to(like.device)
            if x.dtype.kind not in "fiub":
                raise ValueError(
                    f"observation {name!r} is {x.dtype}; this policy was trained on numbers ({kind})."
                )
            x = torch.as_tensor(x)
        if x.is_complex():
            raise ValueError(
                f"observation {name!r} is {x.dtype}; this policy was trained on real numbers ({kind})."
            )
        in_bytes = self.spec.in_bytes(name) if kind == "image" else None
        if in_bytes is not None and in_bytes != (x.dtype == torch.uint8):
            raise ValueError(
                f"observation {name!r} is {x.dtype} of shape {tuple(x.shape)}; this policy was trained on pictures "
                f"{shape} of {'bytes, uint8 from 0 to 255' if in_bytes else 'numbers, float32 as they are'}."
            )
        code = kind == "text" or (kind == "image" and x.dtype == torch.uint8)
        return x.to(like.device) if code else x.to(like)

    def _check_finite(self, name: str, x: Tensor) -> None:
        """Raise ValueError for numbers that are not finite; NaN may say that an observation is missing."""
        # A sum is as finite as its numbers, and one call for them all: this runs before every chunk.
        if not x.is_floating_point() or math.isfinite(float(x.sum())):
            return
        if name not in (*self.optional, *self.spec.partial):
            raise ValueError(
                f"observation {name!r} has a number that is not finite; only what policy.optional names may be missing."
            )
        if x.isinf().any():
            raise ValueError(
                f"observation {name!r} has a number that is infinite; where it is missing give None, or NaN throughout."
            )

    def _unit(self, name: str, x: Tensor) -> Tensor:
        """Poses (..., 7) with unit quaternions; ValueError where one is far from it. What is NaN stays NaN."""
        q = x[..., 3:]
        norm = q.norm(dim=-1, keepdim=True)
        off = (norm - 1).abs()
        if not (off > ROUNDING).any():
            return x
        if (off > NORM).any():
            raise ValueError(
                f"observation {name!r} has a quaternion of norm {float(norm[off > NORM][0]):.3g}; expected poses "
                "(x y z qw qx qy qz), metres and unit quaternions."
            )
        return torch.cat([x[..., :3], torch.where(off > ROUNDING, q / norm, q)], -1)

    def _some(self) -> str:
        """The name of an observation, for messages."""
        return next(iter(self.spec.kinds))

    def _codes(self, name: str, texts: np.ndarray, length: int) -> Tensor:
        """Texts (...) as bytes (..., length); a single one holds for the whole history."""
        codes = [tokenise(str(text), length) for text in texts.ravel()]
        for text in texts.ravel():
            self.spec.check_text(name, str(text))
        codes = torch.stack(codes).reshape(*texts.shape, length)
        return codes if texts.ndim else codes.expand(self.steps, -1)

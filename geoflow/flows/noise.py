"""Standard normal and uniform draws, from one generator or from one generator per batch element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Where randomness comes from: the global generator, one generator, or one per element of the first axis."""


def randn(shape: Sequence[int], generator: Generators = None, *, like: Tensor | None = None) -> Tensor:
    """Standard normal numbers of ``shape``, in the dtype and on the device of ``like``.

    With a sequence of generators, element i of the first axis is drawn from generator i alone, so an
    episode's noise does not depend on what else is in the batch.

    Raises:
        ValueError: the number of generators is not the length of the first axis.
        TypeError: what is no generator.
    """
    dtype = like.dtype if like is not None else None
    device = like.device if like is not None else None
    if generator is None or isinstance(generator, torch.Generator):
        # A generator lives on one device; drawing there and moving keeps results the same on every device.
        source = generator.device if generator is not None else device
        return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=source).to(device)
    if not isinstance(generator, Sequence):
        raise TypeError(
            f"generator={generator!r}; expected a torch.Generator, such as torch.Generator().manual_seed(0), one for "
            "each batch element, or none."
        )
    if len(generator) != shape[0]:
        raise ValueError(
            f"got {len(generator)} generators for a batch of {shape[0]}; give one per batch element."
        )
    return torch.stack([randn(shape[1:], g, like=like) for g in generator])


def rand(shape: Sequence[int], generator: Generators = None, *, like: Tensor | None = None) -> Tensor:
    """Uniform numbers in [0, 1), drawn as those of `randn` are."""
    u = torch.special.ndtr(randn(shape, generator, like=like))
    return u.clamp(max=1 - torch.finfo(u.dtype).eps)

"""Instruction: what a task is told to do, a sentence as bytes, which may ask for one of several right ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INSTRUCTIONS = ("none", "task", "goal")
"""None is given; it says what the task is; it asks for one of the task's ends, which is then the only right one."""

LENGTH = 40
"""Bytes of an observed instruction; 0 stands after its end."""

NOT_AS_TOLD = "not_as_told"
"""The failure of an episode that ended well, but not as it was told to."""


def encode(sentence: str) -> NDArray[np.uint8]:
    """A sentence as `LENGTH` bytes of UTF-8, zeros after its end; raises ValueError for one that is longer."""
    code = sentence.encode()
    if len(code) > LENGTH:
        raise ValueError(f"an instruction has at most {LENGTH} bytes; {sentence!r} has {len(code)}.")
    return np.frombuffer(code.ljust(LENGTH, b"\0"), np.uint8).copy()

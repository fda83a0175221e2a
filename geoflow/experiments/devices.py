"""auto, cpu, cuda, cuda:1, mps: the name of a device, checked before anything is computed."""

from __future__ import annotations


def resolve_device(name: str) -> str:
    """The device that ``name`` stands for; auto is a GPU where there is one.

    Raises:
        ValueError: no such device here; the message says which there are.
    """
    import torch

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    known = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in known and not (name == "cuda" and gpus):
        raise ValueError(f"device {name!r} is not here; use auto or one of {', '.join(known)}.")
    return name

"""auto, cpu, cuda, cuda:1, mps: the name of a device, checked before anything is computed."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> str:
    """The device that ``name`` stands for; auto is a GPU where there is one.

    Raises:
        ValueError: no such device here; the message says which there are.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    known = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in known and not (name == "cuda" and gpus):
        raise ValueError(f"device {name!r} is not here; use auto or one of {', '.join(known)}.")
    return name


def mixed_precision(precision: str, device: str) -> str:
    """accelerate's word for "float32", "bfloat16" or "auto": bf16 where it is multiplied natively, else no."""
    if precision != "auto":
        return {"float32": "no", "bfloat16": "bf16"}[precision]
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # On processors without matrix units for it, bfloat16 is slower than float32. Torch before 2.10 cannot say.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if device == "cpu" and capabilities.get("amx_bf16", False) else "no"

"""The door of the Lie functions: rows (..., n) outside, components (n, ...) inside, float32 at least.

Arithmetic on whole components is several times faster than on strided columns, eager and compiled. The
transposition is done here once on the way in and once on the way out, together with what makes bad input a
sentence.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LAYOUTS = {
    "rotations": (4, "unit quaternion qw qx qy qz"),
    "poses": (7, "x y z qw qx qy qz"),
    "rotation vectors": (3, "rx ry rz"),
    "twists": (6, "vx vy vz wx wy wz"),
    "points": (3, "x y z"),
}
_HALF = (torch.float16, torch.bfloat16)
_LARGE = 4096


def check_rows(x: Tensor, kind: str, size: int, layout: str) -> None:
    """Raise unless x is a floating tensor whose last axis holds ``size`` numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"expected {kind} as a torch.Tensor; got {type(x).__name__}. Wrap it in torch.as_tensor."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"expected {kind} of a floating dtype; got {x.dtype}. Convert with x.float() or x.double()."
        )
    if x.ndim == 0 or x.shape[-1] != size:
        hint = ""
        if size == 7 and x.ndim and x.shape[-1] > 7:
            hint = " Pose plus extras? Pass x[..., :7], or use Product(SE3(), Euclidean(k))."
        elif x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            hint = " Matrices? Convert them with from_matrix first."
        raise ValueError(f"expected {kind}, last axis {size} ({layout}); got shape {tuple(x.shape)}.{hint}")


def common_dtype(*tensors: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """(dtype to compute in, dtype to return), or a sentence about what does not go together.

    Half precision (what autocast hands over) is computed in float32; float32 beside float64 is refused, since
    one of the two is a mistake.
    """
    first = tensors[0]
    result = first.dtype
    for x in tensors[1:]:
        if x.device != first.device:
            raise ValueError(
                f"all tensors must be on one device; got {first.device} and {x.device}. Use x.to(device)."
            )
        if x.dtype != result:
            if x.dtype not in _HALF and result not in _HALF:
                raise TypeError(
                    f"all tensors must have one dtype; got {result} and {x.dtype}. Use x.to(dtype)."
                )
            result = torch.promote_types(result, x.dtype)
    return (torch.float32 if result in _HALF else result), result


def enter(*rows: tuple[Tensor, str], t: Tensor | float = 0.0) -> tuple[list[Tensor], torch.dtype]:
    """Contiguous components (n, ...) of rows (..., n), padded to one rank, and the dtype to return.

    Each argument is (tensor, kind) with kind "rotations", "poses", "rotation vectors", "twists" or "points".
    Times ``t`` without a component axis may have more axes than the rows.
    """
    for x, kind in rows:
        check_rows(x, kind, *_LAYOUTS[kind])
    tensors = [x for x, _ in rows]
    compute, result = common_dtype(*tensors)
    rank = max(x.ndim for x in tensors)
    if isinstance(t, Tensor):
        rank = max(rank, t.ndim + 1)
    return [_to_components(x if x.dtype == compute else x.to(compute), rank) for x in tensors], result


def _to_components(x: Tensor, rank: int) -> Tensor:
    if x.ndim < rank:
        x = x.reshape(*[1] * (rank - x.ndim), *x.shape)
    if generates_code():
        # A stack is a buffer of its own for the compiler: what follows reads it contiguously and vectorises,
        # where a fused transposition would read with stride n everywhere (measured: 2 to 3 times slower).
        return torch.stack(x.unbind(-1))
    return _turned(x, -1, 0)


def generates_code() -> bool:
    """Whether a compiler will fuse what is traced; an exported graph runs as it is, one node after the other."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def _turned(x: Tensor, source: int, target: int) -> Tensor:
    """A contiguous copy of x with one axis moved from one end to the other."""
    if x.ndim == 2 and x.numel() > _LARGE:
        # torch transposes large matrices through a path that is twice as slow as its general copy.
        return x.unsqueeze(0).mT.contiguous().squeeze(0)
    return x.movedim(source, target).contiguous()


def enter_time(t: Tensor | float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Times in the computing dtype; they broadcast against the leading axes and have no component axis."""
    if not isinstance(t, Tensor):
        return torch.full((), float(t), dtype=dtype, device=like.device)
    if not t.is_floating_point():
        raise TypeError(f"expected times of a floating dtype; got {t.dtype}. Convert with t.float().")
    return t.to(dtype)


def leave(dtype: torch.dtype, *parts: Tensor) -> Tensor:
    """Rows (..., n) of the given component-first parts (n_i, ...), in the given dtype."""
    if generates_code():
        return torch.stack([component for part in parts for component in part.unbind(0)], dim=-1).to(dtype)
    rows = _turned(parts[0] if len(parts) == 1 else torch.cat(parts), 0, -1)
    return rows if rows.dtype == dtype else rows.to(dtype)

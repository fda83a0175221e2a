"""Differentiable optimisation of a predicted chunk with Theseus: smoother poses, and joints that reach them.

Both functions solve a small least-squares problem and are differentiable by the implicit function theorem (with
Gauss-Newton's Hessian, as Theseus does: gradients are exact up to the size of the residual), so a loss after the
refinement trains what came before it. They cost a fraction of a second to seconds on a CPU: for
inference and offline work, not for every training step.

Theseus 0.2.3 asks in its metadata for a compiler and scikit-sparse and needs neither for what is used here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from geoflow.lie import se3

INSTALL = """geoflow.interop.theseus needs theseus-ai and torchkin. After `pip install geoflow`:
    pip install setuptools wheel
    THESEUS_FORCE_CUDA=0 pip install --no-build-isolation --no-deps theseus-ai==0.2.3
    pip install torchlie==0.1.0 torchkin==0.1.1 semantic-version==2.10.0
(with uv, in a checkout: uv pip install -e '.[theseus]')"""

try:
    with warnings.catch_warnings():
        # It warns about its Cholmod solver, which is not used here.
        warnings.filterwarnings("ignore", message=".*cholmod.*")
        th: Any = import_module("theseus")
        torchkin: Any = import_module("torchkin")
except ImportError as error:
    raise ImportError(INSTALL) from error


def refine_chunk(
    chunk: Tensor,
    *,
    smoothness: Tensor | float = 1.0,
    nearness: Tensor | float = 1.0,
    length: float = 0.1,
    iterations: int = 5,
) -> Tensor:
    """Poses near the given ones whose body velocity changes less.

    Minimises nearness |log(x_t^-1 y_t)|^2 + smoothness |xi_{t+1} - xi_t|^2 summed over the chunk, where y are the
    refined poses and xi_t = log(y_t^-1 y_{t+1}) their steps: second differences on the group, so a screw of
    constant speed is left alone.

    Args:
        chunk: Poses (T, 7) or (B, T, 7) with T >= 3.
        smoothness: Weight of the second differences; a tensor receives a gradient.
        nearness: Weight of staying near; a tensor receives a gradient.
        length: Metres that count as one radian.
        iterations: Gauss-Newton steps; the problem is nearly quadratic.

    Returns:
        Refined poses of the same shape, differentiable by ``chunk`` and by both weights.
    """
    x = chunk.unsqueeze(0) if chunk.ndim == 2 else chunk
    if x.ndim != 3 or x.shape[-1] != 7 or x.shape[1] < 3:
        raise ValueError(f"expected poses (T, 7) or (B, T, 7) with T >= 3; got {tuple(chunk.shape)}.")
    batch, horizon, _ = x.shape
    units = _units(length, x)

    def residual(optim_vars: Sequence[Any], aux_vars: Sequence[Any]) -> Tensor:
        offset = optim_vars[0].tensor.unflatten(-1, (horizon, 6))
        start, smooth, near = (variable.tensor for variable in aux_vars)
        steps = _steps(se3.compose(start.unflatten(-1, (horizon, 7)), se3.exp(offset)))
        bend = (steps[..., 1:, :] - steps[..., :-1, :]) * units
        return torch.cat([near * (offset * units).flatten(-2), smooth * bend.flatten(-2)], dim=-1)

    roots = [_root(weight, name, x) for weight, name in ((smoothness, "smoothness"), (nearness, "nearness"))]
    inputs = {
        "offset": x.new_zeros(batch, 6 * horizon),
        "chunk": x.flatten(1),
        "smoothness": roots[0].expand(batch, 1),
        "nearness": roots[1].expand(batch, 1),
    }
    size = 6 * horizon + 6 * (horizon - 2)
    solution = _solve(residual, inputs, "offset", size, iterations, damping=0.0)
    refined = se3.compose(x, se3.exp(solution.unflatten(-1, (horizon, 6))))
    return refined.reshape(chunk.shape)


def chunk_to_joints(
    chunk: Tensor,
    robot: Any,
    link: str,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    smoothness: float = 1e-3,
    length: float = 0.1,
    iterations: int = 20,
) -> Tensor:
    """A joint trajectory within limits whose link follows the poses of a chunk.

    Minimises |log(x_t^-1 fk(q_t))|^2 + smoothness |q_t - q_{t-1}|^2 + a wall beyond the limits, over all steps
    together, by Levenberg-Marquardt from ``start``; what is left beyond a limit is clipped to it.

    Args:
        chunk: Poses of the link in the frame of the robot's base, (T, 7) or (B, T, 7).
        robot: ``torchkin.Robot.from_urdf_file(path, dtype=...)`` with n joints.
        link: The link that has to follow.
        start: Joint positions before the first step, (n,) or (B, n).
        lower: Lower limits (n,) [rad or m].
        upper: Upper limits (n,).
        smoothness: Weight of joint steps against pose errors.
        length: Metres that count as one radian.
        iterations: Levenberg-Marquardt steps.

    Returns:
        Joint positions (T, n) or (B, T, n), differentiable by ``chunk`` and ``start``.
    """
    x = chunk.unsqueeze(0) if chunk.ndim == 2 else chunk
    n = robot.dof
    if x.ndim != 3 or x.shape[-1] != 7:
        raise ValueError(f"expected poses (T, 7) or (B, T, 7); got {tuple(chunk.shape)}.")
    if link not in robot.link_map:
        raise ValueError(f"{robot.name} has no link {link!r}; it has {', '.join(robot.link_map)}.")
    for name, value in (("start", start), ("lower", lower), ("upper", upper)):
        if value.shape[-1] != n:
            raise ValueError(f"{robot.name} has {n} joints; got {name} of shape {tuple(value.shape)}.")
    batch, horizon, _ = x.shape
    first = start.expand(batch, n)
    units = _units(length, x)
    forward_kinematics = torchkin.get_forward_kinematics_fns(robot, [link])[0]
    weight = smoothness**0.5

    def residual(optim_vars: Sequence[Any], aux_vars: Sequence[Any]) -> Tensor:
        joints = optim_vars[0].tensor.unflatten(-1, (horizon, n))
        target, before = (variable.tensor for variable in aux_vars)
        (reached,) = forward_kinematics(joints.flatten(0, -2))
        pose = se3.from_rotation_translation(reached[..., :3], reached[..., 3])
        goal = target.unflatten(-1, (horizon, 7))
        error = se3.minus(pose.reshape(goal.shape), goal) * units
        moved = joints - torch.cat([before.unsqueeze(-2), joints[..., :-1, :]], dim=-2)
        beyond = torch.relu(lower - joints) + torch.relu(joints - upper)
        return torch.cat([error.flatten(-2), weight * moved.flatten(-2), beyond.flatten(-2)], dim=-1)

    inputs = {
        "joints": first.repeat(1, horizon),
        "chunk": x.flatten(1),
        "start": first,
    }
    solution = _solve(residual, inputs, "joints", horizon * (6 + 2 * n), iterations, damping=1e-3)
    joints = solution.unflatten(-1, (horizon, n)).clamp(lower, upper)
    return joints.reshape(*chunk.shape[:-1], n)


def _solve(
    residual: Any, inputs: dict[str, Tensor], unknown: str, size: int, iterations: int, damping: float
) -> Tensor:
    """The least-squares solution of the variable ``unknown``; the others are constants with gradients."""
    first = inputs[unknown]
    variable = th.Vector(tensor=first.detach().clone(), name=unknown)
    constants = [th.Variable(tensor=value, name=name) for name, value in inputs.items() if name != unknown]
    weight = th.ScaleCostWeight(first.new_ones(1, 1))
    objective = th.Objective(dtype=first.dtype)
    objective.add(
        th.AutoDiffCostFunction(
            [variable], residual, size, cost_weight=weight, aux_vars=constants, name="residual"
        )
    )
    layer = th.TheseusLayer(
        th.LevenbergMarquardt(
            objective, linear_solver_cls=th.CholeskyDenseSolver, max_iterations=iterations, vectorize=True
        )
    )
    options: dict[str, Any] = {"backward_mode": "implicit", "damping": damping}
    if damping > 0:
        options["adaptive_damping"] = True
    solution, _ = layer.forward(inputs, optimizer_kwargs=options)
    return solution[unknown]


def _steps(x: Tensor) -> Tensor:
    """Body twists from each pose to the next, (..., T - 1, 6)."""
    return se3.minus(x[..., 1:, :], x[..., :-1, :])


def _units(length: float, like: Tensor) -> Tensor:
    if not length > 0:
        raise ValueError(f"expected a positive length [m]; got {length}.")
    return like.new_tensor([1 / length] * 3 + [1.0] * 3)


def _root(weight: Tensor | float, name: str, like: Tensor) -> Tensor:
    value = torch.as_tensor(weight, dtype=like.dtype, device=like.device)
    if not bool((value > 0).all()):
        raise ValueError(f"expected a positive {name}; got {weight}.")
    return value.sqrt().reshape(-1, 1)

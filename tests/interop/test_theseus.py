"""Chunk refinement and joint trajectories with Theseus, where it is installed; the install lines where it is not."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from geoflow.lie import se3

INSTALLED = find_spec("theseus") is not None
needs_theseus = pytest.mark.skipif(not INSTALLED, reason="theseus-ai is an optional extra")
ARM = """<robot name="arm"><link name="base"/>{}</robot>"""
JOINT = """<link name="link{i}"/><joint name="joint{i}" type="revolute"><parent link="{parent}"/>
<child link="link{i}"/><origin xyz="{xyz}" rpy="0 0 0"/><axis xyz="{axis}"/>
<limit lower="-2.5" upper="2.5" effort="1" velocity="1"/></joint>"""
AXES = ["0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1"]
OFFSETS = ["0 0 0.3", "0 0 0.1", "0 0 0.25", "0.05 0 0.1", "-0.05 0 0.25", "0 0 0.1", "0.08 0 0.1"]


@pytest.mark.skipif(INSTALLED, reason="theseus-ai is installed: tested for real below")
def test_the_error_says_how_to_install_it():
    with pytest.raises(
        ImportError, match="THESEUS_FORCE_CUDA=0 pip install --no-build-isolation --no-deps theseus-ai"
    ):
        import_module("geoflow.interop.theseus")


def noisy_chunks(batch: int, horizon: int) -> tuple[Tensor, Tensor]:
    """A screw of constant speed, and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    start = se3.random_uniform(batch, 1, generator=generator, dtype=torch.float64)
    twist = torch.tensor([0.02, 0.01, 0.0, 0.0, 0.03, 0.05], dtype=torch.float64)
    time = torch.arange(horizon, dtype=torch.float64)[:, None]
    clean = se3.compose(start, se3.exp(time * twist))
    noise = torch.randn(batch, horizon, 6, dtype=torch.float64, generator=generator)
    return clean, se3.compose(clean, se3.exp(noise * torch.tensor([0.005] * 3 + [0.05] * 3)))


def spread(x: Tensor, y: Tensor) -> Tensor:
    d = se3.log(se3.compose(se3.inverse(x), y))
    return ((d * torch.tensor([10.0] * 3 + [1.0] * 3)) ** 2).sum(-1).mean()


@needs_theseus
def test_refinement_removes_noise_and_keeps_screws():
    from geoflow.interop.theseus import refine_chunk

    clean, noisy = noisy_chunks(4, 16)
    refined = refine_chunk(noisy, smoothness=30.0)
    assert refined.shape == noisy.shape
    assert float(spread(clean, refined)) < 0.4 * float(spread(clean, noisy))
    assert float(spread(clean, refine_chunk(clean, smoothness=30.0))) < 1e-12
    assert torch.allclose(refine_chunk(noisy[0]), refine_chunk(noisy)[0], rtol=0, atol=1e-8)
    assert float(spread(noisy, refine_chunk(noisy, smoothness=1e-9))) < 1e-9


@needs_theseus
def test_refinement_is_the_minimum_and_its_gradient_is_right():
    """Gradients by the weight and by the chunk agree with finite differences, up to Gauss-Newton's Hessian."""
    from geoflow.interop.theseus import refine_chunk

    clean, noisy = noisy_chunks(2, 6)
    weight = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    move = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def loss(w: Tensor, d: Tensor) -> Tensor:
        first = se3.compose(noisy[:, :1], se3.exp(d))
        return spread(clean, refine_chunk(torch.cat([first, noisy[:, 1:]], 1), smoothness=w, iterations=15))

    by_weight, by_move = torch.autograd.grad(loss(weight, move), (weight, move))
    step = 1e-4
    with torch.no_grad():
        difference = (loss(weight + step, move) - loss(weight - step, move)) / (2 * step)
        unit = torch.zeros(6, dtype=torch.float64)
        unit[4] = step
        along = (loss(weight, move + unit) - loss(weight, move - unit)) / (2 * step)
    assert abs(float(by_weight / difference) - 1) < 3e-2
    assert abs(float(by_move[4] / along) - 1) < 3e-2


@needs_theseus
def test_refusals():
    from geoflow.interop.theseus import refine_chunk

    with pytest.raises(ValueError, match="T >= 3"):
        refine_chunk(se3.identity(2))
    with pytest.raises(ValueError, match="positive smoothness"):
        refine_chunk(se3.identity(4), smoothness=0.0)


@needs_theseus
def test_joints_follow_the_chunk_within_limits(tmp_path):
    """A 7-joint arm tracks poses it can reach; where a limit is in the way it stays inside."""
    import torchkin

    from geoflow.interop.theseus import chunk_to_joints

    parts = [
        JOINT.format(i=i, parent="base" if i == 0 else f"link{i - 1}", xyz=OFFSETS[i], axis=AXES[i])
        for i in range(7)
    ]
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(ARM.format("".join(parts)))
    robot = torchkin.Robot.from_urdf_file(str(urdf), dtype=torch.float64)
    forward_kinematics = torchkin.get_forward_kinematics_fns(robot, ["link6"])[0]

    def reach(q: Tensor) -> Tensor:
        (T,) = forward_kinematics(q.reshape(-1, 7))
        return se3.from_rotation_translation(T[..., :3], T[..., 3]).reshape(*q.shape[:-1], 7)

    start = torch.tensor([0.2, 0.5, -0.3, 1.0, 0.1, 0.6, 0.0], dtype=torch.float64)
    speed = torch.tensor([0.03, -0.02, 0.02, 0.03, 0.0, -0.02, 0.05], dtype=torch.float64)
    time = torch.arange(1, 7, dtype=torch.float64)[:, None]
    wanted = torch.stack([start + time * speed, start - time * speed])
    chunk = reach(wanted).detach().requires_grad_()
    limit = torch.full((7,), 2.5, dtype=torch.float64)
    joints = chunk_to_joints(chunk, robot, "link6", start, -limit, limit, smoothness=1e-6)
    assert joints.shape == (2, 6, 7)
    assert float(spread(reach(joints), chunk).detach()) < 1e-6
    (gradient,) = torch.autograd.grad(joints.sum(), chunk)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0

    upper = limit.clone()
    upper[3] = 1.05  # the elbow would go to 1.18
    bounded = chunk_to_joints(chunk.detach(), robot, "link6", start, -limit, upper)
    assert bool((bounded <= upper).all() and (bounded >= -limit).all())
    with pytest.raises(ValueError, match="no link 'hand'; it has base"):
        chunk_to_joints(chunk, robot, "hand", start, -limit, limit)
    with pytest.raises(ValueError, match="has 7 joints"):
        chunk_to_joints(chunk, robot, "link6", start[:6], -limit, limit)

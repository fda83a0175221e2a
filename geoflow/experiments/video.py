"""Video: episodes of a policy as MP4 and as a strip of frames, rendered in a process of its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geoflow.experiments.config import EnvConfig
from geoflow.experiments.encoding import mp4
from geoflow.experiments.environments import make_env
from geoflow.experiments.processes import processes
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import cores
from geoflow.experiments.rollout import FAILURES, Solver
from geoflow.policies.checkpoint import load_policy
from geoflow.policies.chunking import ChunkBroker
from geoflow.policies.execution import Execution

WIDTH, HEIGHT = 400, 300
STRIP_FRAMES, STRIP_HEIGHT = 7, 150
EVERY = 2
"""Every second step is a frame: software OpenGL takes longer than the policy and the physics together."""
QUALITY = 27
"""Of a film, as `mp4` takes it: a report holds many."""


@dataclass(frozen=True)
class Shot:
    """An episode to film."""

    run: str
    policy: str
    env: EnvConfig
    execution: Execution
    solver: Solver
    seed: int


@dataclass(frozen=True)
class Clip:
    """A filmed episode: MP4 (H.264), a strip of its frames (JPEG), and how it ended, in words."""

    shot: Shot
    mp4: bytes
    strip: bytes
    ending: str


class NoPictures(RuntimeError):  # noqa: N818 (no error: the rest of a report does without)
    """Nothing can be rendered here; the message says why and what would help."""


def film(shots: Sequence[Shot]) -> list[Clip]:
    """Film episodes, in as many processes as there are cores.

    Raises:
        NoPictures: the env renders no rgb_array, or there is no OpenGL or no video encoder here.
    """
    if not shots:
        return []
    # Processes of their own: OpenGL is chosen when MuJoCo is imported, and a broken driver may take them down.
    with _headless_opengl(), processes(min(cores(), len(shots)), torch.set_num_threads, 1) as pool:
        try:
            return list(bar(pool.map(_film, shots), total=len(shots), desc="film", unit="episode"))
        except BrokenProcessPool as error:
            raise NoPictures("rendering crashed here, as it does with a broken OpenGL driver.") from error


def _film(shot: Shot) -> Clip:
    try:
        env = _make(shot.env)
    except Exception as error:  # each task and driver raises kinds of its own
        raise NoPictures(str(error)) from error
    try:
        frames, ending = _play(env, shot)
        fps = _rate(env) / EVERY
    except (RuntimeError, ImportError, AttributeError, OSError) as error:
        raise NoPictures(str(error)) from error
    finally:
        env.close()
    return Clip(shot, _encode(frames, fps), _strip(frames), ending)


def _make(config: EnvConfig) -> Any:
    """The env with pictures, of the report's size where it can be chosen."""
    try:
        return make_env(config, render_mode="rgb_array", width=WIDTH, height=HEIGHT)
    except ValueError:
        return make_env(config, render_mode="rgb_array")


def _rate(env: Any) -> float:
    """Steps a second."""
    return float(env.metadata.get("render_fps", 20))


def _play(env: Any, shot: Shot) -> tuple[list[np.ndarray], str]:
    policy = load_policy(shot.run)
    generator = torch.Generator().manual_seed(shot.seed)
    broker = ChunkBroker(
        policy, shot.execution, nfe=shot.solver.nfe, solver=shot.solver.name, generator=generator
    )
    obs, info = env.reset(seed=shot.seed)
    frames, steps, over = [_frame(env)], 0, False
    while not over:
        obs, _, terminated, truncated, info = env.step(broker.act(obs))
        steps, over = steps + 1, terminated or truncated
        if over or steps % EVERY == 0:
            frames.append(_frame(env))
    failure = str(info.get("failure") or "unnamed")
    solved = bool(info.get("is_success", False))
    ending = "solved" if solved else FAILURES.get(failure, failure)
    return frames, f"{ending} after {steps / _rate(env):.1f} s"


def _frame(env: Any) -> np.ndarray:
    """A frame, scaled to the report's width; even sides, as H.264 wants them."""
    from PIL import Image

    image = env.render()
    if image is None:
        raise NoPictures(f"the env {env.spec.id if env.spec else env!r} renders no rgb_array.")
    picture = Image.fromarray(image)
    height = round(picture.height * WIDTH / picture.width / 2) * 2
    return np.asarray(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))


def _encode(frames: Sequence[np.ndarray], fps: float) -> bytes:
    try:
        return mp4(frames, fps, QUALITY)
    except (ImportError, OSError, ValueError) as error:
        raise NoPictures(f"no video can be encoded here ({error}); pip install 'imageio[ffmpeg]'.") from error


def _strip(frames: Sequence[np.ndarray]) -> bytes:
    """Frames at equal times side by side, the last one the end."""
    from PIL import Image

    index = np.linspace(0, len(frames) - 1, STRIP_FRAMES).round().astype(int)
    pictures = [Image.fromarray(frames[i]) for i in index]
    width = round(pictures[0].width * STRIP_HEIGHT / pictures[0].height)
    strip = Image.new("RGB", (len(pictures) * (width + 4) - 4, STRIP_HEIGHT), "white")
    for i, picture in enumerate(pictures):
        strip.paste(picture.resize((width, STRIP_HEIGHT), Image.Resampling.LANCZOS), (i * (width + 4), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


@contextmanager
def _headless_opengl() -> Iterator[None]:
    """MUJOCO_GL=egl for the processes begun here, on a Linux without a screen where nothing is chosen."""
    chosen = "MUJOCO_GL" in os.environ or "DISPLAY" in os.environ or not sys.platform.startswith("linux")
    if not chosen:
        os.environ["MUJOCO_GL"] = "egl"
    try:
        yield
    finally:
        if not chosen:
            del os.environ["MUJOCO_GL"]

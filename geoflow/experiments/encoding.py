"""Frames as the bytes of a film, MP4 (H.264) or GIF; the last frame stays for a second."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

END_SECONDS = 1.0
"""How long the last frame stays: time to see how it ended before it begins again."""


def mp4(frames: Sequence[np.ndarray], fps: float, quality: int = 23) -> bytes:
    """Frames (height, width, 3) uint8, sides even, as MP4; a lower `quality` is better (x264's constant rate factor).

    Raises:
        ImportError, OSError, ValueError: no encoder here; `pip install 'imageio[ffmpeg]'` brings one.
    """
    import imageio.v2 as imageio

    options = ["-crf", str(quality), "-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        imageio.mimwrite(
            path, _ended(frames, fps), fps=fps, codec="libx264", macro_block_size=2, output_params=options
        )
        return path.read_bytes()


def gif(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """Frames (height, width, 3) uint8 as GIF that repeats."""
    from PIL import Image

    # One palette for all frames, from the first, the middle and the last, so that nothing flickers; by coverage,
    # as the table would take all colours if they were counted.
    chosen = np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])
    palette = Image.fromarray(chosen).quantize(200, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    pictures = [
        Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in _ended(frames, fps)
    ]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def _ended(frames: Sequence[np.ndarray], fps: float) -> list[Any]:
    return [*frames, *[frames[-1]] * round(END_SECONDS * fps)]

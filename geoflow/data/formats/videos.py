"""mp4, a frame at a time in both directions, through the ffmpeg that imageio brings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.data.demonstrations import DemonstrationError

QUALITY = "18"
"""x264's constant rate factor: the loss is hardly to be seen."""


class Writer:
    """One growing mp4 of H.264 in yuv420p, every second frame a key frame, so that any frame is near one.

    Args:
        path: The file.
        shape: Of a frame: height, width (even), 3.
        rate: Frames a second.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], rate: float) -> None:
        import imageio_ffmpeg

        height, width = shape[:2]
        self.path, self.frames = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pipe: Any = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=rate,  # type: ignore[arg-type] (ffmpeg takes fractions)
            codec="libx264",
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            macro_block_size=1,
            output_params=["-crf", QUALITY, "-g", "2", "-bf", "0"],
        )
        self._pipe.send(None)

    def append(self, frames: np.ndarray) -> None:
        """Add (N, H, W, 3) uint8."""
        for frame in frames:
            self._pipe.send(np.ascontiguousarray(frame))
        self.frames += len(frames)

    def close(self) -> None:
        """Finish the file."""
        self._pipe.close()


class Frames:
    """The frames of an mp4, taken in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = 0
        self._source = self._decode()

    def take(self, start: int, count: int) -> np.ndarray:
        """Frames (count, H, W, 3) from number ``start`` on; it may not lie before what was taken already.

        Raises:
            DemonstrationError: the video ends before, or cannot be decoded.
        """
        if start < self._next:
            self.close()
            self._next, self._source = 0, self._decode()
        frames = []
        while self._next < start + count:
            frame = next(self._source, None)
            if frame is None:
                raise DemonstrationError(
                    f"{self.path} ends after {self._next} frames, {start + count} are needed; it is incomplete: "
                    "copy it again."
                )
            if self._next >= start:
                frames.append(frame)
            self._next += 1
        return np.stack(frames)

    def close(self) -> None:
        """Stop decoding."""
        self._source.close()

    def _decode(self) -> Generator[np.ndarray, None, None]:
        import imageio_ffmpeg

        if not self.path.is_file():
            raise DemonstrationError(f"{self.path} is missing; copy the dataset again.")
        # Every frame as it is stored: none doubled or dropped to even out the rate.
        pipe: Any = imageio_ffmpeg.read_frames(
            str(self.path), pix_fmt="rgb24", output_params=["-fps_mode", "passthrough"]
        )
        with closing(pipe):
            try:
                width, height = next(pipe)["size"]
                for frame in pipe:
                    yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
            except (OSError, RuntimeError, StopIteration) as error:
                reason = " ".join(str(error).split())[-200:]
                raise DemonstrationError(
                    f"{self.path} cannot be decoded ({reason}); copy it again."
                ) from error

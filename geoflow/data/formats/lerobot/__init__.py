"""LeRobot dataset v3: meta/{info.json, stats.json, tasks.parquet, episodes/}, data/*.parquet, videos/*.mp4.

huggingface.co/docs/lerobot/lerobot-dataset-v3. Many episodes share a file; meta/episodes says which rows of ``index``
are whose. Poses and vectors are written as one ``observation.state`` with a name a number (tcp.x, ..., tcp.qz,
gripper.0), points and the like as features of their own, images as ``observation.images.<name>``: mp4 (H.264, lossy)
where LeRobot's cameras are, which is three channels and even sides, else PNG inside the parquet files, exact. Needs
pyarrow; lerobot itself is not needed.
"""

from __future__ import annotations

from geoflow.data.formats.lerobot.reading import read, recognises
from geoflow.data.formats.lerobot.writing import write

__all__ = ["read", "recognises", "write"]

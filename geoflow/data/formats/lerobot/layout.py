"""Where a LeRobot dataset keeps what: paths, and names of features."""

from __future__ import annotations

VERSION = "v3.0"
INFO, STATS, TASKS, HEADER = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/geoflow.json"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{FILE}.parquet"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = "videos/{video_key}/" + f"{FILE}.mp4"
STATE, IMAGES, ACTION, DISTURBED = "observation.state", "observation.images.", "action", "disturbed"
DONE, SUCCESS = "next.done", "next.success"
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")

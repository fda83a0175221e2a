"""Stages: what each part of a job took, in time and in memory, kept across interruptions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from geoflow.experiments.json_files import read_json, write_json


@dataclass(frozen=True)
class Stage:
    """A part of a job.

    Attributes:
        name: In words.
        seconds: Time it took, interrupted attempts included.
        peak_mb: Largest sum of resident memory over this process and its children [MB].
        speed: Its throughput, in words.
        finished: Whether it came to its end.
    """

    name: str
    seconds: float = 0.0
    peak_mb: float = 0.0
    speed: str = ""
    finished: bool = False


class Stages:
    """The stages of a job, in a JSON file that an interrupted job is continued from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content = read_json(path) if path.exists() else []
        self._stages = {values["name"]: Stage(**values) for values in content}

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages.values())

    def finished(self, name: str) -> bool:
        """Whether a stage came to its end, now or in an earlier attempt."""
        return self._stages.get(name, Stage(name)).finished

    @contextmanager
    def measure(self, name: str) -> Iterator[Measurement]:
        """Measure the block; what an interrupted one took is added to what its continuation will take."""
        before, begin = self._stages.get(name, Stage(name)), time.perf_counter()
        measurement, finished = Measurement(), False
        with _peak_memory() as peak:
            try:
                yield measurement
                finished = True
            finally:
                seconds = before.seconds + time.perf_counter() - begin
                peak_mb = max(before.peak_mb, peak())
                self._stages[name] = Stage(name, seconds, peak_mb, measurement.speed, finished)
                write_json(self._path, [asdict(stage) for stage in self])


@dataclass
class Measurement:
    """What a stage can say of itself while it runs: its throughput, in words."""

    speed: str = ""


@contextmanager
def _peak_memory(period: float = 0.25) -> Iterator[_Peak]:
    peak = _Peak()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(period):
            peak.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


class _Peak:
    """The largest resident memory seen [MB]; pages that processes share count for each."""

    def __init__(self) -> None:
        self._process, self._megabytes = psutil.Process(), 0.0
        self.look()

    def look(self) -> None:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended while we looked
                continue
        self._megabytes = max(self._megabytes, total / 1e6)

    def __call__(self) -> float:
        self.look()
        return self._megabytes

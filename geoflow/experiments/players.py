"""Players: processes that roll a policy out, each on one core, for as long as there are scenes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from geoflow.experiments.config import EnvConfig
from geoflow.experiments.processes import processes
from geoflow.experiments.rollout import Episode, Solver, make_block, run_block
from geoflow.experiments.smoothness import Jumps
from geoflow.policies.checkpoint import load_policy
from geoflow.policies.execution import Execution


@dataclass(frozen=True)
class Game:
    """Who plays what: everything a process needs to begin."""

    run: str
    device: str
    env: EnvConfig
    execution: Execution
    disturbance: float = 0.0


@dataclass(frozen=True)
class Job:
    """A block of scenes, and how chunks are sampled in it."""

    solver: Solver
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Played:
    """What a job gave, and what it cost."""

    episodes: list[Episode]
    chunks: int
    jumps: Jumps
    seconds: float

    @property
    def steps(self) -> int:
        """Environment steps."""
        return sum(episode.steps for episode in self.episodes)


class Player:
    """One policy and one block of envs."""

    def __init__(self, game: Game) -> None:
        self._policy, self._how = load_policy(game.run, game.device), (game.execution, game.disturbance)
        self._block = make_block(game.env)

    def play(self, job: Job) -> Played:
        """Play a block of scenes to the end."""
        begin = time.perf_counter()
        episodes, chunks, jumps = run_block(self._block, self._policy, job.seeds, job.solver, *self._how)
        return Played(episodes, chunks, jumps, time.perf_counter() - begin)

    def close(self) -> None:
        """Close the envs."""
        self._block.close()


def play(game: Game, jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Played]]:
    """Index and result of each job, as they finish; one worker plays in this process.

    Raises:
        ChildProcessError: a process died, as it does when the system runs out of memory.
    """
    if workers <= 1:
        player = Player(game)
        try:
            for index, job in enumerate(jobs):
                yield index, player.play(job)
        finally:
            player.close()
        return
    try:
        with processes(workers, _start, game) as pool:
            running = {pool.submit(_play, job): index for index, job in enumerate(jobs)}
            for future in as_completed(running):
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "an evaluation process died, perhaps for want of memory; what is finished is kept, and the same "
            "command with fewer workers continues."
        ) from error


_player: Player | None = None


def _start(game: Game) -> None:
    global _player
    _player = Player(game)


def _play(job: Job) -> Played:
    assert _player is not None
    return _player.play(job)

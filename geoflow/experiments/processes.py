"""Processes that end with their parent: a pool that Ctrl-C, an error or kill -9 leaves nothing of."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any


@contextmanager
def processes(workers: int, start: Callable[..., object], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes begin with ``start(*arguments)`` and are gone when the block is left."""
    # Spawn: a forked copy of a process in which torch or OpenGL has started threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (start, arguments))
    try:
        yield pool
    finally:
        children = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        for child in children:
            child.join()


def _begin(start: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    # The parent answers Ctrl-C; and a parent that was killed outright leaves no process behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    start(*arguments)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)

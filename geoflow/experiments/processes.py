"""Processes of one thread that end with their parent: a pool that Ctrl-C, an error or kill -9 leaves nothing of."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

import torch

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def processes(workers: int, start: Callable[..., object], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that begin with ``start(*arguments)``, have one thread each, and end with the block."""
    # Spawn: a forked copy of a process in which torch or OpenGL has started threads may hang.
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # now: it would let interrupts through where the first process begins
    pool = _Pool(workers, context, _begin, (start, arguments))
    try:
        with _one_thread():
            yield pool
    finally:
        children = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        for child in children:
            child.join()


class _Pool(ProcessPoolExecutor):
    """One whose processes, which begin as they are needed, are born deaf to Ctrl-C: they import for seconds."""

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """As its class; an interrupt of this process waits until the call has ended."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process has the same mask
        try:
            return super().submit(*arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Children that start here load a BLAS of one thread, unless the user has said otherwise."""
    names = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _begin(start: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    # The parent answers Ctrl-C; and a parent that was killed outright leaves no process behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(1)
    start(*arguments)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)

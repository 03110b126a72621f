"""Worker processes of a DataLoader that live and die as the process that started them wants it, whatever signals come.

Ctrl-C and batch systems send a signal to the whole process group. It is meant for the process that was started, which may want
to save what it has and needs its workers for that. So workers ignore SIGINT, SIGTERM and SIGHUP, and what is left of them when their
parent ends is killed: they only read.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

from vpngen.errors import RunError, VpngenError
from vpngen.stream.memory import Sharing, lacks_shm
from vpngen.stream.place import watched

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST_WAIT: Final = 0.1
"""Seconds that a worker has to end by itself; it only reads."""

_STARTED: weakref.WeakKeyDictionary[BaseProcess, int] = weakref.WeakKeyDictionary()
"""Workers of this module -> the process that started them."""


def iteration(loader: DataLoader[Any]) -> Iterator[Any]:
    """An iterator of a DataLoader whose `worker_init_fn` is `begin`."""
    if not loader.num_workers:
        return watched(loader, iter(loader))
    if (loader.multiprocessing_context or torch.multiprocessing).get_start_method() != "fork":
        resource_tracker.ensure_running()  # begins with letting signals through again
    before = set(multiprocessing.active_children())
    # Signals are delivered later, and not to processes that are started meanwhile: a child blocks what its parent blocks.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        made = watched(loader, iter(loader))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for worker in set(multiprocessing.active_children()) - before:
        _STARTED[worker] = os.getpid()
        worker.join = functools.partial(_join, worker.join)  # type: ignore[method-assign]
        worker.terminate = worker.kill  # type: ignore[method-assign]  # what torch does to one that hangs
    return made


def _join(join: Callable[[float | None], None], timeout: float | None = None) -> None:
    """Wait for a worker that was told to end: torch would wait five seconds for each that is in the middle of a batch."""
    join(None if timeout is None else min(timeout, LAST_WAIT))


def begin(_: int) -> None:
    """Ignore the signals; called in each worker when it begins."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def alone(error: VpngenError) -> VpngenError:
    """The error without what led to it, to be sent.

    Where tblib is in use, as it is once Dask is imported, tracebacks are sent with errors. Those that arrive hold the frames that
    fetched them, and so the loader and its workers, until garbage is collected.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def lost_worker(error: BaseException) -> VpngenError | None:
    """What an error that means a worker ended should be; None for any other. Torch raises it wherever the parent happens to be."""
    text = str(error)
    if not (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        return None
    if lacks_shm(error):  # a bus error
        return Sharing(max(1, len(_STARTED))).error()
    less = "a worker process ended, often for lack of memory; fewer workers, or smaller batches, need less"
    return RunError(f"{less}: {text.splitlines()[0]}")


def _end() -> None:
    """Kill the workers that are left. Multiprocessing would ask them to end, and wait."""
    mine = [worker for worker, parent in _STARTED.items() if parent == os.getpid()]
    if mine:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for one that is killed
    for worker in mine:
        worker.kill()
        worker.join()


# Handlers run last in, first out: this one before those of multiprocessing, after those that torch adds with its first workers.
atexit.register(_end)

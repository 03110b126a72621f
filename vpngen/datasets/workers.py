"""Worker processes of a DataLoader that live and die as the process that started them wants it, whatever signals come.

Ctrl-C and batch systems send a signal to the whole process group. It is meant for the process that was started, which may want
to save what it has and needs its workers for that. So workers ignore SIGINT, and SIGTERM unless their parent sent it.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
TIMEOUTS: Final = (0.2, 5.0)
"""Seconds until a worker is asked again to end, and until it is killed."""

_STARTED: weakref.WeakKeyDictionary[BaseProcess, int] = weakref.WeakKeyDictionary()
"""Workers of this module -> the process that started them."""


def iteration(loader: DataLoader[Any]) -> Iterator[Any]:
    """An iterator of a DataLoader whose `worker_init_fn` is `begin`."""
    if not loader.num_workers:
        return iter(loader)
    if (loader.multiprocessing_context or torch.multiprocessing).get_start_method() != "fork":
        resource_tracker.ensure_running()  # begins with letting signals through again
    before = set(multiprocessing.active_children())
    with _signals_wait():
        made = iter(loader)
    for worker in set(multiprocessing.active_children()) - before:
        _STARTED[worker] = os.getpid()
    return made


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals are delivered later, and not to processes that are started meanwhile: a child blocks what its parent blocks."""
    if not hasattr(signal, "sigwaitinfo"):  # see `begin`
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(_: int) -> None:
    """Take signals from the parent alone; called in each worker when it begins."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or not hasattr(signal, "sigwaitinfo"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_obey, args=(parent.pid,), name="signals", daemon=True).start()


def _obey(parent: int) -> None:
    while True:
        sent = signal.sigwaitinfo(SIGNALS)
        if sent.si_signo == signal.SIGTERM and sent.si_pid == parent:
            os._exit(0)  # with another code, torch would report a worker that failed


def lost_worker(error: BaseException) -> str | None:
    """The message for an error that means a worker ended; None for any other. Torch raises it wherever the parent happens to be."""
    text = str(error)
    if not (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        return None
    return (
        f"a worker process ended, often for lack of memory; fewer workers, or smaller batches, need less: "
        f"{text.splitlines()[0]}"
    )


def _end() -> None:
    """End the workers that are left, as multiprocessing would, also where a signal was lost because another was pending."""
    mine = [worker for worker, parent in _STARTED.items() if parent == os.getpid()]
    last = time.monotonic() + TIMEOUTS[1]
    if mine and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for one that has to be killed
    for worker in mine:
        while worker.is_alive():
            if time.monotonic() < last:
                worker.terminate()
            else:
                worker.kill()
            worker.join(TIMEOUTS[0])


# Handlers run last in, first out: this one before those of multiprocessing, after those that torch adds with its first workers.
atexit.register(_end)

"""Worker processes of a DataLoader that live and die as the process that started them wants it, whatever signals come.

A signal to a whole process group, as Ctrl-C and batch systems send it, is for the process that was started. It may want to
save what it has, and needs its workers for that; so they heed no SIGINT, and SIGTERM only where it is their parent's.
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
PATIENCE: Final = (0.2, 5.0)
"""Seconds until a worker that was told to end is told again, and until it is killed."""

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
    """Signals come later, and never to processes that are started meanwhile: who is started blocks what its starter blocks."""
    if not hasattr(signal, "sigwaitinfo"):  # see `begin`
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(_: int) -> None:
    """Heed the parent alone; called in each worker when it begins."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or not hasattr(signal, "sigwaitinfo"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_heed, args=(parent.pid,), name="signals", daemon=True).start()


def _heed(parent: int) -> None:
    while True:
        sent = signal.sigwaitinfo(SIGNALS)
        if sent.si_signo == signal.SIGTERM and sent.si_pid == parent:
            os._exit(0)  # with another code, torch would tell of a worker that failed


def lost_worker(error: BaseException) -> str | None:
    """What to say of an error that is a worker's end; None for any other. Torch raises it wherever the parent happens to be."""
    text = str(error)
    if not (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        return None
    return (
        f"a process that made batches is gone, which is often a want of memory; fewer of them, or smaller batches, take less: "
        f"{text.splitlines()[0]}"
    )


def _end() -> None:
    """End the workers that are left, as multiprocessing would, but for a signal that came while another was pending."""
    mine = [worker for worker, parent in _STARTED.items() if parent == os.getpid()]
    last = time.monotonic() + PATIENCE[1]
    if mine and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for one that has to be killed
    for worker in mine:
        while worker.is_alive():
            if time.monotonic() < last:
                worker.terminate()
            else:
                worker.kill()
            worker.join(PATIENCE[0])


# Handlers run last in, first out: this one before those of multiprocessing, after those that torch adds with its first workers.
atexit.register(_end)

"""Waiting for batches: whether to go on waiting is asked meanwhile, by whoever wants to."""

from __future__ import annotations

import contextlib
import math
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from torch.utils.data import get_worker_info

POLL: Final = 0.5
"""Seconds between two questions."""

_ASK: ContextVar[Callable[[], None] | None] = ContextVar("vpngen_ask", default=None)


@contextlib.contextmanager
def asking(question: Callable[[], object]) -> Iterator[None]:
    """While a batch is waited for in here, `question` is called twice a second; what it raises ends the wait."""
    last = time.monotonic()

    def ask_now_and_then() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= POLL:
            last = now
            question()

    token = _ASK.set(ask_now_and_then)
    try:
        yield
    finally:
        _ASK.reset(token)


def ask() -> None:
    """Ask what `asking` says; called by whatever takes long to make a batch, as often as it likes. Worker processes do not ask."""
    if (question := _ASK.get()) is not None and get_worker_info() is None:
        question()


def polled(iterator: Any) -> Any:
    """The iterator of a DataLoader, which asks while it waits for its workers."""
    if hasattr(iterator, "_try_get_data"):  # torch asks this every five seconds whether workers live
        weak, wait = weakref.ref(iterator), type(iterator)._try_get_data

        def wait_a_little(timeout: float = POLL) -> Any:
            ask()
            return wait(weak(), timeout)

        iterator._try_get_data = wait_a_little
    return iterator


def arrived(there: Callable[[], bool], stop: Callable[[], bool], timeout: float = 60.0) -> bool:
    """Wait until `there`; once `stop` says yes, `timeout` seconds at most.

    The GPU is polled: a wait in its driver would hear no signal, and would not end if another rank is gone.
    """
    wished = math.inf
    while not there():
        now = time.monotonic()
        if wished == math.inf and stop():
            wished = now
        if now - wished > timeout:
            return False
        time.sleep(0.0005)
    return True

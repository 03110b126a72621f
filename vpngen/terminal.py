"""What the commands say while they work: progress on a terminal, a line a minute elsewhere. All of it goes to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from vpngen.units import duration_text, number_text, size_text

if TYPE_CHECKING:
    from vpngen.store import Progress

QUIET_SECONDS = 60.0
"""Between two lines where there is no terminal."""
NOTICE_SECONDS = 1.5
"""What a load of kernels that were compiled before stays under."""
WIDE = 78
"""Columns that the bytes a second and a bar of use need beside the rest."""

Show = Callable[[int, int, int | None], None]
"""Called with what is done, what there is to do, and the bytes of what is done."""


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Say what is going on, where kernels are not ready at once."""

    def say() -> None:
        click.echo(
            "Preparing the kernels; the first time on a machine they are compiled, which takes about ten seconds ...",
            err=True,
        )

    notice = threading.Timer(NOTICE_SECONDS, say)
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


@contextlib.contextmanager
def videos_progress() -> Iterator[Callable[[Progress], None]]:
    """A function that shows how many videos were rendered."""
    with _shown("videos") as show:
        yield lambda p: show(p.done, p.total, p.nbytes)


@contextlib.contextmanager
def shards_progress() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many shards were checked."""
    with _shown("shards") as show:
        yield lambda done, total: show(done, total, None)


@contextlib.contextmanager
def systems_progress() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many categories were searched for, or tried; where none has to be, nothing is shown."""
    with contextlib.ExitStack() as shown:
        waiting, show = shown.enter_context(contextlib.ExitStack()), None
        waiting.enter_context(compiling())

        def progress(done: int, total: int) -> None:
            nonlocal show
            if show is None:
                waiting.close()
                show = shown.enter_context(_shown("categories"))
            show(done, total, None)

        yield progress


@contextlib.contextmanager
def _shown(what: str) -> Iterator[Show]:
    if sys.stderr is None:  # closed by whoever started us
        yield lambda *_: None
    elif sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        with _bar(what) as show:
            yield show
    else:
        yield _lines(what)


def _lines(what: str) -> Show:
    start = last = time.monotonic()

    def show(done: int, total: int, nbytes: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < QUIET_SECONDS:
            return
        last = now
        rate = done / (now - start)
        size = f"{size_text(nbytes)}, " if nbytes is not None else ""
        left = duration_text((total - done) / rate)
        click.echo(f"{done:,} of {total:,} {what}, {number_text(rate)} a second, {size}{left} left", err=True)

    return show


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = [
        BarColumn(None),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
    ]
    with Progress(*columns, console=console, expand=True, transient=True, speed_estimate_period=60) as bar:
        task = bar.add_task("starting", total=None, left="")
        start = time.monotonic()

        def show(done: int, total: int, nbytes: int | None) -> None:
            seconds = max(time.monotonic() - start, 1e-9)
            text = f"{done:,} of {total:,} {what}  {number_text(done / seconds)}/s"
            if nbytes is not None and console.width >= WIDE:
                text += f"  {size_text(nbytes / seconds)}/s"
            bar.update(task, completed=done, total=total, description=text, left="left")

        yield show

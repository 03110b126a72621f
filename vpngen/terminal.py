"""What the commands say while they work: progress on a terminal, a line a minute elsewhere. All of it goes to stderr."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from vpngen.units import duration_text, size_text

if TYPE_CHECKING:
    from vpngen.store import Progress

QUIET_SECONDS = 60.0
"""Between two lines where there is no terminal."""
NOTICE_SECONDS = 1.5
"""What a load of kernels that were compiled before stays under."""


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Say what is going on, where kernels are not ready at once."""

    def say() -> None:
        click.echo("Preparing the kernels; the first time on a machine they are compiled, which takes about ten seconds ...", err=True)

    notice = threading.Timer(NOTICE_SECONDS, say)
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


@contextlib.contextmanager
def progress_of(videos: int, video_bytes: int) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far a run of at most `videos` videos is."""
    if sys.stderr.isatty():
        with _bar("{task.completed:,.0f} of {task.total:,.0f} videos", "{task.fields[rate]}") as update:
            start = time.monotonic()

            def show(p: Progress) -> None:
                seconds = max(time.monotonic() - start, 1e-9)
                update(p.done, p.total, rate=f"{p.done / seconds:.1f} videos/s  {size_text(p.nbytes / seconds)}/s")

            yield show
        return
    yield _quiet("videos")


def _quiet(what: str) -> Callable[[Progress], None]:
    start = last = time.monotonic()

    def show(p: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < QUIET_SECONDS:
            return
        last = now
        rate = p.done / (now - start)
        click.echo(
            f"{p.done:,} of {p.total:,} {what}, {rate:.1f} a second, {size_text(p.nbytes)}, "
            f"{duration_text((p.total - p.done) / rate)} left",
            err=True,
        )

    return show


@contextlib.contextmanager
def shards_progress() -> Iterator[Callable[[int, int], None] | None]:
    """A function that shows how many shards were checked; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bar("{task.completed:,.0f} of {task.total:,.0f} shards", "{task.fields[rate]}") as update:
        yield lambda done, total: update(done, total, rate="")


@contextlib.contextmanager
def _bar(counts: str, rate: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [BarColumn(), TextColumn(counts), TextColumn(rate), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=None, rate="", start=True)

        def update(done: int, total: int, rate: str) -> None:
            bar.update(task, completed=done, total=total, rate=rate)

        yield update

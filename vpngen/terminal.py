"""What the commands say while they work: progress on a terminal, a line a minute elsewhere. All of it goes to stderr."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vpngen.units import duration_text, number_text, size_text

if TYPE_CHECKING:
    from vpngen import train
    from vpngen.executors.base import Progress
    from vpngen.train import Evaluation, Summary

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
def scoring_progress() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many videos were evaluated."""
    with _shown("videos") as show:
        yield lambda done, total: show(done, total, None)


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[[train.Progress], None]]:
    """A function that shows how far a run is: a line at the end of each epoch, and a bar, or a line a minute, meanwhile."""
    if sys.stderr is None:
        yield lambda _: None
    elif sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        with _training_bar() as show:
            yield show
    else:
        last = time.monotonic()

        def show_line(p: train.Progress) -> None:
            nonlocal last
            if p.row is not None:
                click.echo(epoch_text(p), err=True)
            elif time.monotonic() - last < QUIET_SECONDS:
                return
            else:
                click.echo(step_text(p), err=True)
            last = time.monotonic()

        yield show_line


def step_text(p: train.Progress) -> str:
    """Where a run is inside an epoch."""
    at = f"epoch {p.epoch}/{p.epochs} {p.step:,}/{p.steps:,}"
    if p.phase == "val":
        return f"{at} of validation"
    left = f"  {duration_text((p.steps - p.step) * p.step_seconds)} left" if p.step < p.steps else ""
    if math.isnan(p.loss):  # the metrics of a step are read when the next is under way
        return at
    return (
        f"{at}  loss {p.loss:.3f}  {_metrics(p.metrics)}  lr {p.lr:g}  {number_text(p.clips_per_second)} clips/s  "
        f"{p.data_wait:.1%} waiting for data{left}"
    )


def _metrics(found: Mapping[str, Any]) -> str:
    return "  ".join(f"{name.replace('top', 'top-')} {value:.1%}" for name, value in found.items())


def epoch_text(p: train.Progress) -> str:
    """What an epoch came to."""
    row = p.row or {}
    seen = {name: row.get(f"val_{name}") for name in p.metrics}
    val = "" if row.get("val_loss") is None else f"val loss {row['val_loss']:.3f}  {_metrics(seen)}  "
    return (
        f"epoch {p.epoch}/{p.epochs}  {val}train loss {p.loss:.3f}  {_metrics(p.metrics)}  lr {p.lr:g}  "
        f"{number_text(p.clips_per_second)} clips/s  {p.data_wait:.1%} waiting for data"
    )


@contextlib.contextmanager
def _training_bar() -> Iterator[Callable[[train.Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    with Progress(BarColumn(20), TextColumn("{task.description}"), console=console, expand=True, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(p: train.Progress) -> None:
            if p.row is not None:
                console.print(epoch_text(p), highlight=False)
            bar.update(task, completed=p.step, total=p.steps, description=step_text(p))

        yield show


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


# --- evaluations


def evaluation_text(found: Evaluation) -> str:
    """The metrics of an evaluation as a table, in percent, and what there is to say about single videos."""
    unreadable, damaged = found.unreadable, found.damaged
    total = f"{len(found.videos):,}"
    rows = [("%", "top-1", f"top-{found.k}", "average", "of"), ("videos", *_percents(found.all), total)]
    if unreadable:
        rows.append(("videos read", *_percents(found.read), f"{len(found.videos) - len(unreadable):,}"))
    rows.append(("windows", *_percents(found.by_window), f"{found.windows[0]:,}"))
    lines = [aligned(rows)]
    if unreadable:
        lines += [f"{_videos(len(unreadable))} of {total} could not be read and count as wrong:", *_some(unreadable)]
    if damaged:
        lines += [f"{_videos(len(damaged))} damaged in places, scored by what could be read:", *_some(damaged)]
    if found.short:
        lines.append(f"{_videos(len(found.short))} shorter than a window: looped")
    return "\n".join(lines)


def summary_text(found: Summary) -> str:
    """The metrics of a summary as tables, in percent."""
    rows = [("%", "top-1", f"top-{found.k}", "average")]
    for what, prefix in (("videos", ""), ("windows", "window_")):
        row = [what]
        for metric in (f"{prefix}{name}" for name in ("top1", "top5", "average")):
            std = found.std(metric)
            row.append(_percent(found.mean(metric)) + ("" if std is None else f" ± {_percent(std)}"))
        rows.append((row[0], row[1], row[2], row[3]))
    splits = f"the mean of {len(found.splits)} splits" if len(found.splits) > 1 else f"split {found.splits[0]}"
    count = len(found.seeds)
    about = f"n = 1: {splits}; an std needs two seeds"
    if count > 1:
        about = f"n = {count} seeds, each {splits}: mean ± sample standard deviation"
    top1 = found.table("top1")
    table = [("top-1 of videos, %", *(f"split {split}" for split in found.splits), "mean")]
    for name, values in [
        *((f"seed {n}", row) for n, row in zip(found.seeds, top1, strict=True)),
        ("mean", top1.mean(0)),
    ]:
        table.append((name, *map(_percent, values), _percent(values.mean())))
    lines = [aligned(rows), about, "", aligned(table)]
    for (split, seed), one in sorted(found.evaluations.items()):
        if one.unreadable:
            which = f"split {split}, seed {seed}"
            lines.append(f"{_videos(len(one.unreadable))} of {which} could not be read and count as wrong")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _percents(shares: tuple[float, float, float] | None) -> tuple[str, str, str]:
    first, among, mean = map(_percent, shares or (None, None, None))
    return first, among, mean


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count:,} videos"


def _some(videos: Mapping[str, str]) -> list[str]:
    """A line for each of the first ten."""
    more = [f"  and {len(videos) - 10:,} more"] if len(videos) > 10 else []
    return [f"  {name}: {why}" for name, why in list(videos.items())[:10]] + more

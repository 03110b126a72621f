"""What the commands say while they work: progress on a terminal, a line a minute elsewhere. All of it goes to stderr."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vpngen.errors import plain
from vpngen.units import count_text, duration_text, number_text, size_text

if TYPE_CHECKING:
    from vpngen.train import Evaluation, Progress, Retrieval, Summary

QUIET_SECONDS = 60.0
"""Between two lines where there is no terminal."""
NOTICE_SECONDS = 1.5
"""What a load of kernels that were compiled before stays under."""
NOTICE = "Preparing the kernels; the first time on a machine they are compiled, which takes about ten seconds ..."


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Say what is going on, where kernels are not ready at once."""
    notice = threading.Timer(NOTICE_SECONDS, functools.partial(click.echo, NOTICE, err=True))
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


@contextlib.contextmanager
def counted(what: str) -> Iterator[Callable[..., None]]:
    """A function that shows how many are done: it gets that number, that of all, the bytes of those done, and of how many shards others are at work."""
    with _display() as show:
        waited = 0

        def count(done: int, total: int, nbytes: int | None = None, waiting: int = 0) -> None:
            nonlocal waited
            line = (
                f"waiting for {count_text(waiting, 'shard')} that other runs have claimed" if waiting > waited else None
            )
            waited = waiting
            show(done, total, functools.partial(_count_text, what, done, total, nbytes), line)

        yield count


@contextlib.contextmanager
def systems_progress() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many categories were searched for, or tried; where none has to be, nothing is shown."""
    with contextlib.ExitStack() as shown:
        shown.enter_context(compiling())

        @functools.cache
        def opened() -> Callable[..., None]:
            shown.close()
            return shown.enter_context(counted("categories"))

        yield lambda done, total: opened()(done, total)


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far a run is, and leaves a line for each epoch."""
    with _display() as show:
        yield lambda p: show(p.step, p.steps, lambda _: _step_text(p), None if p.row is None else _epoch_text(p))


@contextlib.contextmanager
def _display() -> Iterator[Callable[..., None]]:
    """Shows what is done of a whole: `text` for the seconds since the start, and `line` above it for good."""
    start = last = time.monotonic()

    def show_line(done: int, total: int, text: Callable[[float], str], line: str | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if line is not None or now - last >= QUIET_SECONDS:
            last = now
            click.echo(text(now - start) if line is None else line, err=True)

    def show_bar(done: int, total: int, text: Callable[[float], str], line: str | None = None) -> None:
        if line is not None:
            console.print(line, highlight=False)
        bar.update(task, completed=done, total=total, description=text(time.monotonic() - start))

    if sys.stderr is None:  # closed by whoever started us
        yield lambda *_: None
    elif not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield show_line
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        columns = (BarColumn(None), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=console, expand=True, transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield show_bar


def _count_text(what: str, done: int, total: int, nbytes: int | None, seconds: float) -> str:
    """The bytes come last, as narrow terminals cut the end off."""
    seconds = max(seconds, 1e-9)
    left = f", {duration_text((total - done) * seconds / done)} left" if done else ""
    size = "" if nbytes is None else f", {size_text(nbytes / seconds)}/s"
    return f"{done:,} of {total:,} {what}, {number_text(done / seconds)}/s{left}{size}"


def _step_text(p: Progress) -> str:
    at = f"epoch {p.epoch}/{p.epochs} {p.step:,}/{p.steps:,}"
    if p.phase == "val":
        return f"{at} of validation"
    if math.isnan(p.loss):  # the metrics of a step are read when the next is under way
        return at
    left = f"  {duration_text((p.steps - p.step) * p.step_seconds)} left" if p.step < p.steps else ""
    return f"{at}  {_trained_text(p)}{left}"


def _epoch_text(p: Progress) -> str:
    row = p.row or {}
    seen = {name: row.get(f"val_{name}") for name in p.metrics}
    val = "" if row.get("val_loss") is None else f"val loss {row['val_loss']:.3f}  {_metrics(seen)}  "
    return f"epoch {p.epoch}/{p.epochs}  {val}train {_trained_text(p)}"


def _trained_text(p: Progress) -> str:
    speed = f"{number_text(p.clips_per_second)} clips/s  {p.data_wait:.1%} waiting for data"
    return f"loss {p.loss:.3f}  {_metrics(p.metrics)}  lr {p.lr:g}  {speed}"


def _metrics(found: Mapping[str, Any]) -> str:
    return "  ".join(f"{name.replace('top', 'top-')} {value:.1%}" for name, value in found.items())


# --- evaluations


def evaluation_text(found: Evaluation) -> str:
    """The metrics of an evaluation as a table, in percent, and what there is to say about single videos."""
    unreadable, total = found.unreadable, f"{len(found.videos):,}"
    rows = [["%", "top-1", f"top-{found.k}", "average", "of"], ["videos", *map(_percent, found.all), total]]
    none = (None, None, None)
    if unreadable:
        rows.append(["videos read", *map(_percent, found.read or none), f"{len(found.videos) - len(unreadable):,}"])
    rows.append(["windows", *map(_percent, found.by_window or none), f"{found.windows[0]:,}"])
    lines = [aligned(rows)]
    asked = found.metadata.get("evaluated")  # as a file says it
    learned = asked.get("linear") if isinstance(asked, Mapping) else None
    if isinstance(learned, Mapping) and isinstance(lost := learned.get("unreadable"), Mapping) and lost:
        lines += [f"{count_text(len(lost), 'training video')} could not be read:", *_some(lost)]
    return "\n".join([*lines, *_single_videos(found)])


def _single_videos(found: Evaluation | Retrieval) -> list[str]:
    """What there is to say about single videos."""
    unreadable, damaged, lines = found.unreadable, found.damaged, list[str]()
    if unreadable:
        lines += [
            f"{count_text(len(unreadable), 'video')} of {len(found.videos):,} could not be read and count as wrong:",
            *_some(unreadable),
        ]
    if damaged:
        lines += [
            f"{count_text(len(damaged), 'video')} damaged in places, scored by what could be read:",
            *_some(damaged),
        ]
    if found.short:
        lines.append(f"{count_text(len(found.short), 'video')} shorter than a window: looped")
    return lines


def retrieval_text(found: Retrieval) -> str:
    """How often a class is found among the nearest videos, as a table, in percent."""
    metrics = found.metrics
    rows = [
        ["%", *(f"R@{k}" for k in found.by_video), "of"],
        ["videos", *_found(metrics), f"{len(found.videos):,}"],
        ["clips", *_found(metrics, "clip_"), f"{len(found.videos) * found.clips:,}"],
        ["chance", *_found(metrics, "chance_"), ""],
    ]
    lines = [aligned(rows), f"among {count_text(sum(found.gallery), 'training video')}"]
    if lost := found.unreadable_gallery:
        lines += [f"{count_text(len(lost), 'training video')} could not be read, and nobody finds them:", *_some(lost)]
    return "\n".join([*lines, *_single_videos(found)])


def retrievals_text(found: Mapping[str, Retrieval], mean: Mapping[str, float] | None = None) -> str:
    """Those of several networks as tables, a line for each, by its name, and one for their mean if it is given."""
    ks = [f"R@{k}" for k in next(iter(found.values())).by_video]
    lines = list[str]()
    for what, prefix in (("videos", ""), ("clips", "clip_"), ("chance", "chance_")):
        rows = [[f"{what}, %", *ks], *([name, *_found(one.metrics, prefix)] for name, one in found.items())]
        lines += [aligned([*rows, *([["mean", *_found(mean, prefix)]] if mean else [])]), ""]
    for name, one in found.items():
        if count := len(one.unreadable):
            lines.append(plain(f"{count_text(count, 'video')} of {name} could not be read and count as wrong"))
        if count := len(one.unreadable_gallery):
            lines.append(plain(f"{count_text(count, 'training video')} of {name} could not be read"))
    return "\n".join(lines).rstrip()


def _found(metrics: Mapping[str, float], prefix: str = "") -> list[str]:
    """Those of one kind of `Retrieval.metrics`, in percent."""
    return [_percent(share) for name, share in metrics.items() if name.startswith(f"{prefix}r")]


def summary_text(found: Summary) -> str:
    """The metrics of a summary as tables, in percent."""
    metrics = found.to_dict()["metrics"].values()
    cells = [_percent(m["mean"]) + ("" if m["std"] is None else f" ± {_percent(m['std'])}") for m in metrics]
    rows = [["%", "top-1", f"top-{found.k}", "average"], ["videos", *cells[:3]], ["windows", *cells[3:]]]
    splits = f"the mean of {len(found.splits)} splits" if len(found.splits) > 1 else f"split {found.splits[0]}"
    count = len(found.seeds)
    about = f"n = 1: {splits}; an std needs two seeds"
    if count > 1:
        about = f"n = {count} seeds, each {splits}: mean ± sample standard deviation"
    top1 = found.table("top1")
    table = [["top-1 of videos, %", *(f"split {split}" for split in found.splits), "mean"]]
    for name, values in zip([*(f"seed {n}" for n in found.seeds), "mean"], [*top1, top1.mean(0)], strict=True):
        table.append([name, *map(_percent, values), _percent(values.mean())])
    lines = [aligned(rows), about, "", aligned(table)]
    for (split, seed), one in sorted(found.evaluations.items()):
        if count := len(one.unreadable):
            lines.append(
                f"{count_text(count, 'video')} of split {split}, seed {seed} could not be read and count as wrong"
            )
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _some(videos: Mapping[str, str]) -> list[str]:
    """A line for each of the first ten."""
    more = [f"  and {len(videos) - 10:,} more"] if len(videos) > 10 else []
    return [plain(f"  {name}: {why}") for name, why in list(videos.items())[:10]] + more

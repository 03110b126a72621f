"""`vpngen export`: a set as files that everybody opens."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    EXIT_CODES,
    Real,
    Row,
    Stop,
    StorePath,
    Whole,
    backend_option,
    cli,
    digits,
    format_option,
    no_storage_options,
    place,
    reader,
    report,
    show,
    storage_option,
    threads_option,
)
from vpngen.cli.dataset import advise, dataset_options, no_dataset, read_spec_file, take_spec, warm
from vpngen.cli.pictures import index_ranges, source_of
from vpngen.errors import ArgumentError
from vpngen.files import local, url_of
from vpngen.units import count_text, duration_text, size_text

if TYPE_CHECKING:
    from vpngen.preview import Source
    from vpngen.spec import Spec

KINDS = ("mp4", "ffv1", "gif", "frames", "npz", "webdataset")
LAYOUTS = ("folders", "ucf101")


def _set(source: str | None, backend: str, options: dict[str, Any]) -> tuple[Spec, Any]:
    """What is exported, and what gives the pixels of its splits: a store, a spec in a file, a preset, or the dataset options."""
    from vpngen.rendering import render
    from vpngen.spec import Spec, presets
    from vpngen.terminal import compiling

    if source is not None and (os.path.isdir(source) or url_of(source) is not None):
        from vpngen import store

        no_dataset(dict(options), "SOURCE")
        spec = store.read_spec(place(source))[0]
        take = functools.partial(source_of, source, backend)
        return spec, lambda split: take(split, dict(options))[1]
    no_storage_options()
    if source is None:
        spec = take_spec(options)[0]
    else:
        no_dataset(dict(options), "SOURCE")
        if source != "-" and not os.path.exists(source) and source not in presets():
            raise ArgumentError("is no store, no file and no preset; see: vpngen info --presets", "source", source)
        spec = read_spec_file(source) if source == "-" or os.path.exists(source) else Spec.preset(source)
    with compiling():
        warm(spec, backend)
    pixels: Source = functools.partial(render, spec, backend=backend, threads=1)
    return spec, lambda split: pixels


@cli.command(epilog=EXIT_CODES)
@click.argument("paths", metavar="[SOURCE] OUT", nargs=-1, type=StorePath())
@storage_option
@click.option(
    "--to",
    type=click.Choice(KINDS),
    default="mp4",
    show_default=True,
    help="mp4 is slightly lossy; all others are exact.",
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="folders",
    show_default=True,
    help="Folders of classes, or UCF-101's, with its lists.",
)
@click.option(
    "--split", type=click.Choice(["train", "val", "all"]), default="all", show_default=True, help="Of which split."
)
@click.option(
    "--indices",
    callback=reader(index_ranges, "numbers and rising ranges, such as 0,5,8-11"),
    metavar="I,J-K,...",
    help="Which videos of each split.  [default: all]",
)
@click.option(
    "--clip",
    callback=reader(lambda value: digits(value, "x", 3), "TxHxW, such as 16x112x112"),
    metavar="TxHxW",
    help="What is cut from the middle of each.  [default: all of it]",
)
@click.option(
    "--size",
    callback=reader(lambda value: digits(value, "x", 2), "HxW, such as 112x112"),
    metavar="HxW",
    help="To what that is resized, between pixels.",
)
@click.option("--fps", type=Real(), default=25, show_default=True, help="Frames a second.")
@click.option("--shard-videos", type=Whole(), default=32, show_default=True, help="Videos in a shard of webdataset.")
@click.option("--slice", default="1/1", metavar="I/N", help="Do slice I of N; the slices may run anywhere, at once.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, in videos, bytes and time, and do nothing.")
@backend_option
@threads_option
@dataset_options
@format_option
def export(
    paths: tuple[str, ...], to: str, layout: str, split: str, indices: tuple[range, ...] | None, clip: Any, size: Any, fps: float,
    shard_videos: int, slice: str, dry_run: bool, backend: str, threads: int | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Write a set as videos, images, arrays or WebDataset shards.

    SOURCE is a store, a spec as JSON or a preset; without it the options say what the dataset is. OUT is a folder: the folder of a class
    says its label, and metadata.csv (and .parquet) has the label, category and every parameter of each video. A stopped run goes on when
    the same command is given again.

    Examples:
      vpngen export set.zarr videos                 mp4 in folders of classes
      vpngen export set.zarr ucf --layout ucf101    as UCF-101, with its lists
      vpngen export drift-64x512 frames --to frames --clip 16x112x112
      vpngen export --categories 16 shards --to webdataset
    """
    from vpngen import export as exporting
    from vpngen import store
    from vpngen.checks import thread_count
    from vpngen.terminal import counted

    alone = len(paths) == 1 and all(value in (None, ()) for value in options.values())
    if not 1 <= len(paths) <= 2 or alone:
        given = f", not {' '.join(map(repr, paths))} alone" if paths else ""
        raise ArgumentError(f"SOURCE and OUT are needed, or OUT beside options of a dataset{given}")
    out, chosen = local(paths[-1], "out"), store.parse_slice(slice)
    spec, sources = _set(paths[0] if len(paths) == 2 else None, backend, options)
    if split != "all" and split not in spec.splits:
        raise ArgumentError("holds no videos", "split", split)
    if indices is not None:  # before a range is written out
        for name in spec.splits if split == "all" else (split,):
            spec.indices([i for some in indices for i in (some[0], some[-1])], name)
    asked = exporting.Export(
        spec, to, () if split == "all" else (split,), None if indices is None else tuple(i for some in indices for i in some),
        clip, size, fps, layout, shard_videos,
    )  # fmt: skip
    exporting.check(asked, out)
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            size, seconds = exporting.estimate(asked, sources, Path(folder))
        jobs = [len(job.indices) for job in exporting.pending(asked, out, chosen)]
        nbytes, threads, videos = round(size * sum(jobs)), thread_count(threads), sum(jobs)
        kept = sum(len(job.indices) for job in asked.jobs(chosen)) - videos
        free, there = store.LocalTarget(out).free_bytes(), f", {kept:,} are there" if kept else ""
        took = seconds * videos / threads
        rows: list[Row] = [
            ("out", click.format_filename(out), {"path": str(out), "fingerprint": spec.fingerprint}),
            ("videos", f"{videos:,} of {' x '.join(map(str, asked.shape))} to write as {to}{there}", {"videos": videos, "kept": kept, "to": to}),
            ("files", f"{len(jobs):,}", {"files": len(jobs)}),
            ("stored", f"about {size_text(nbytes)}; {size_text(free)} are free", {"estimated_bytes": nbytes, "free_bytes": free}),
            ("fits", "yes" if nbytes <= free else "NO", {"fits": nbytes <= free}),
            ("time", f"about {duration_text(took)} with {threads} threads", {"estimated_seconds": round(took, 1), "threads": threads}),
        ]  # fmt: skip
        report(form, rows)
        return
    advise(spec)
    try:
        with counted("videos") as count:
            done = exporting.write(asked, out, sources, slice=chosen, threads=threads, progress=count)
    except Stop as stop:
        stop.advice = " What was finished stays; give the same command again to go on."
        raise
    parquet = (out / "metadata.parquet").exists()
    fields = {
        "path": str(out),
        "fingerprint": spec.fingerprint,
        "written": done.written,
        "kept": done.kept,
        "bytes": done.nbytes,
        "parquet": parquet,
    }
    text = (
        f"{count_text(done.written, 'video')} written ({size_text(done.nbytes)})" if done.written else "nothing to do"
    )
    text += f", {done.kept:,} were there" if done.kept else ""
    text += "" if parquet else "; metadata.parquet needs pyarrow: pip install 'vpngen[export]'"
    show(form, fields, f"{click.format_filename(out)}: {text}")

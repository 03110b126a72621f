"""`vpngen preview` and `mosaic`: what a set looks like."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    LocalPath,
    Real,
    StorePath,
    Whole,
    backend_option,
    bundle,
    cli,
    digits,
    no_storage_options,
    place,
    reader,
    storage_option,
)
from vpngen.cli.dataset import dataset_options, no_dataset, take_spec, warm
from vpngen.errors import ArgumentError, ConflictError, RunError, quoted
from vpngen.units import count_text

if TYPE_CHECKING:
    from vpngen.preview import Source
    from vpngen.spec import Spec


def source_of(store_path: str | None, backend: str, split: str, options: dict[str, Any]) -> tuple[Spec, Source]:
    """Where a picture takes its pixels from: a store, or the formula."""
    import numpy as np

    from vpngen.rendering import render as render_pixels
    from vpngen.terminal import compiling

    if store_path is None:
        no_storage_options()
        spec, _ = take_spec(options)
        if split not in spec.splits:
            raise ArgumentError("holds no videos; give --val-instances", "split", split)
        with compiling():
            warm(spec, backend)
        return spec, functools.partial(render_pixels, spec, backend=backend)
    no_dataset(options, "STORE")
    from vpngen import store

    view = store.open(place(store_path), split)
    if not view.finished():
        raise ConflictError(f"{store_path!r} is not complete: complete it with `vpngen render`, or preview the options")

    def stored(index: int, window: Any, *, split: str) -> Any:
        (t0, _, y0, x0, _), (t, y, x) = window.pack(view.spec.shape)
        try:
            return np.asarray(view.video[index, t0 : t0 + t, y0 : y0 + y, x0 : x0 + x])
        except (ValueError, OSError, RuntimeError) as error:  # of zarr and its codecs
            shard = store.Shard(split, index // view.layout.shard_videos, 0, 0).key
            if shard in str(error):
                raise
            where = f"{store_path}/{shard}, video {index} of the {split} split"
            raise RunError(
                f"{where}: {str(error).partition(';')[0]}; look at it with: vpngen verify {quoted(store_path)}"
            ) from error

    return view.spec, stored


def index_ranges(value: str) -> tuple[range, ...]:
    """The ranges of 0,5,8-11. Raises ValueError."""
    ends = [digits(part, "-", 2 if "-" in part else 1) for part in value.split(",")]
    found = tuple(range(some[0], some[-1] + 1) for some in ends)
    if not all(found):
        raise ValueError(value)
    return found


picture_options = bundle(
    click.argument("store_path", metavar="[STORE]", required=False, type=StorePath()),
    storage_option,
    click.option("--frames", callback=reader(lambda value: digits(value, ":", 2), "START:STOP, such as 0:64"), metavar="START:STOP", help="Which frames.  [default: all; mosaic: what shows the motion]"),
    click.option("--fps", type=Real(), default=25, show_default=True, help="Frames a second."),
    click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True, help="Of which split."),
    backend_option,
    dataset_options,
)  # fmt: skip


preview_options = bundle(
    click.option("-o", "--out", default="preview.png", show_default=True, type=LocalPath(), help=".png contact sheet, .mp4, .gif, or .mkv: lossless FFV1."),
    click.option("--indices", callback=reader(index_ranges, "numbers and rising ranges, such as 0,5,8-11"), metavar="I,J-K,...", help="Which videos, such as 0,5,8-11.  [default: 8 over the set]"),
    click.option("--columns", type=Whole(), help="Frames in a strip of a sheet, or videos in a row."),
)  # fmt: skip
mosaic_options = bundle(
    click.option("-o", "--out", default="mosaic.png", show_default=True, type=LocalPath(), help=".png still, .mp4, .gif or .mkv."),
    click.option("--instance", type=Whole(), default=0, show_default=True, help="Which instance of each category."),
    click.option("--show-d", type=Whole(), help="Which D, where a plane has several."),
    click.option("--tile", type=Whole(), help="Pixels of a tile.  [default: 60; on pages alone what fills them]"),
    click.option("--crop", is_flag=True, help="Tiles show a corner of the frame pixel by pixel, not the whole of it reduced."),
    click.option("--columns", type=Whole(), help="Tiles in a row of a page."),
    click.option("--per-page", type=Whole(), help="Categories on a page.  [default: 400]"),
    click.option("--page", type=Whole(), help="Which page, where there are more.  [default: 1]"),
)  # fmt: skip


@cli.command()
@picture_options
@preview_options
def preview(
    store_path: str | None, frames: tuple[int, int] | None, fps: float, split: str, backend: str, out: str,
    indices: tuple[range, ...] | None, columns: int | None, **options: Any,
) -> None:  # fmt: skip
    """Show chosen videos of a store, or straight from the formula.

    Examples:
      vpngen preview vpn-256x512.zarr --indices 0,17,250-255 -o eight.png
      vpngen preview --preset vpn-slow -o slow.mp4 --frames 0:96
    """
    from vpngen import preview as pictures

    pictures.check(out, fps)
    if re.fullmatch("[0-9]+([-,][0-9]+)*", store_path or "") and not os.path.exists(store_path or ""):
        raise ArgumentError(
            f"is no store; for the videos of these numbers give --indices {store_path}", "store_path", store_path
        )
    spec, source = source_of(store_path, backend, split, options)
    n = spec.n_videos(split)
    if indices is None:
        chosen = sorted({i * (min(n, spec.n_categories) - 1) // 7 for i in range(8)})
    else:
        spec.indices([i for some in indices for i in (some[0], some[-1])], split)  # before a range is written out
        chosen = [i for some in indices for i in some]
    pictures.preview(out, spec, source, chosen, split=split, frames=frames, columns=columns, fps=fps)
    click.echo(f"{click.format_filename(out)}: videos {', '.join(map(str, chosen))} of {split}")


@cli.command()
@picture_options
@mosaic_options
def mosaic(
    store_path: str | None, out: str, fps: float, split: str, backend: str, show_d: int | None, **options: Any
) -> None:
    """Draw all categories: a tile for each.

    Those of perlin lie on a plane, W growing to the right, H downward: Figure 2 of the paper. Those of others fill
    pages, and a mixture has both.

    Examples:
      vpngen mosaic --categories 400 -o figure2.png
      vpngen mosaic --categories 64 -o figure2.mp4
      vpngen mosaic --generator fractal -o fractals.png
      vpngen mosaic --generator fractal --categories 16 -o growing.mp4
    """
    from vpngen import preview as pictures

    pictures.check(out, fps)
    spec, source = source_of(store_path, backend, split, options)
    drawn = pictures.preview_mosaic(out, spec, source, split=split, temporal=show_d, fps=fps, **options)
    left = ""
    if drawn < spec.n_categories:
        paged = any(part.plane(None) is None for _, part in spec.generator.members())
        more = "--page and --per-page show others" if paged else "--show-d shows those of another D"
        left = f" of {spec.n_categories:,}; {more}"
    click.echo(f"{click.format_filename(out)}: {count_text(drawn, 'category')}{left}")

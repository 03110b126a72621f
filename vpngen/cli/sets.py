"""`vpngen info` and `verify`: sets that are stored, and what they hold."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    EXIT_CODES,
    LocalPath,
    Row,
    StorePath,
    backend_option,
    cli,
    fields_of,
    format_option,
    no_storage_options,
    place,
    report,
    show,
    storage_option,
    table,
    threads_option,
)
from vpngen.cli.dataset import advice_rows, dataset_options, no_dataset, read_spec_file, take_spec
from vpngen.errors import ArgumentError, RunError, plain
from vpngen.units import count_text, size_text

if TYPE_CHECKING:
    from vpngen.spec import Spec
    from vpngen.store import Problem


@cli.command()
@click.argument("store_path", metavar="[STORE]", required=False, type=StorePath())
@storage_option
@dataset_options
@click.option("--presets", is_flag=True, help="List the presets.")
@format_option
def info(store_path: str | None, presets: bool, form: str, **options: Any) -> None:
    """Say what a store, a preset or any options of `render` hold.

    STORE is a folder or a URL.

    Examples:
      vpngen info --presets
      vpngen info --preset vpn-256x512
      vpngen info vpn-256x512.zarr
      vpngen info vpn-256x512.zarr --format json > set.json
      vpngen info --spec set.json
    """
    from vpngen.spec import Spec
    from vpngen.spec import presets as all_presets

    if presets:
        if store_path is not None:
            raise ArgumentError("STORE cannot be given beside --presets; leave one of them out")
        no_dataset(options, "--presets")
        rows = [("preset", f"{'labels':>6}  {'instances':>9}  {'videos':>9}  {'pixels':>8}  place in the paper")]
        listed = {}
        for name, preset in all_presets().items():
            spec = Spec.preset(name)
            sizes = f"{spec.n_categories:>6,}  {spec.instances:>9,}  {spec.n_videos():>9,}  {size_text(spec.nbytes):>8}"
            rows.append((name, f"{sizes}  {preset['about']}"))
            listed[name] = {**fields_of(_facts(spec)), "about": preset["about"]}
            del listed[name]["spec"]
        show(form, listed, table(rows))
        return
    if store_path is None:
        no_storage_options()
        report(form, _facts(take_spec(options)[0]))
        return
    no_dataset(options, "STORE")
    from vpngen import store

    where = place(store_path)
    spec, layout = store.read_spec(where)
    plan, target = store.store_plan(spec, layout), store.target_of(where)
    left, total = len(target.pending(plan)), len(plan.shards)
    size = target.stored_bytes()
    state = f"{left:,} of {total:,} shards are pending: give `vpngen render` again" if left else "complete"
    on_disk = f"{size_text(size)}, codec {layout.codec}, {count_text(layout.shard_videos, 'video')} a shard"
    on_disk += f", with {', '.join(plan.arrays[1:])}" if layout.motion else ""
    shards = {"path": store_path, "shards": total, "shards_pending": left, "finished": not left}
    head = ("store", f"{click.format_filename(store_path)}: {state}", shards)
    report(
        form,
        [
            head,
            *_facts(spec),
            ("stored", on_disk, {"codec": layout.codec, "with_motion": layout.motion, "stored_bytes": size}),
        ],
    )


def _facts(spec: Spec) -> list[Row]:
    frames, height, width = spec.shape
    train, val, each = spec.n_videos(), spec.n_videos("val"), spec.val_instances
    also = f"; val {val:,} ({each:,} a category)" if each else ""
    counts = {"videos": train + val, "instances": spec.instances, "val_instances": each}
    kind = f"{spec.generator.name}, format version {spec.format_version}, seed {spec.seed}"
    return [
        ("generator", kind, {"generator": spec.generator.name}),
        ("categories", f"{spec.n_categories:,}", {"categories": spec.n_categories}),
        ("videos", f"train {train:,} ({spec.instances:,} a category){also}", counts),
        (
            "video",
            f"{count_text(frames, 'frame')} of {height} x {width} pixels, uint8, {size_text(spec.video_bytes)}",
            {},
        ),
        ("bytes", f"{size_text(spec.nbytes)} of pixels ({spec.nbytes:,})", {"bytes": spec.nbytes}),
        ("fingerprint", spec.fingerprint, {"fingerprint": spec.fingerprint, "spec": spec.to_dict()}),
        *((name, text, {}) for name, text in spec.generator.facts(spec.shape)),
        *advice_rows(spec),
    ]


@cli.command(epilog=EXIT_CODES)
@click.argument("store_path", metavar="STORE", type=StorePath())
@click.option("--render", "compare", is_flag=True, help="Also render every video and compare the pixels.")
@click.option("--repair", is_flag=True, help="Render the damaged videos again and repair the files.")
@click.option(
    "--spec",
    "spec_file",
    type=LocalPath(allow_dash=True),
    help="What it holds, as JSON, where its root zarr.json is damaged.",
)
@backend_option
@threads_option
@storage_option
@format_option
def verify(
    store_path: str, compare: bool, repair: bool, spec_file: str | None, backend: str, threads: int | None, form: str
) -> None:
    """Check every file of a store, a folder or a URL, and repair what is damaged.

    Metadata, labels, completion records, digests, and the checksum of each chunk; with --render every pixel. Without it
    a shard of other pixels passes where somebody made a record for it. What is not rendered yet is pending, not damaged;
    the exit code is 1 until the store is whole.

    Examples:
      vpngen verify vpn-256x512.zarr
      vpngen verify vpn-256x512.zarr --render --repair
      vpngen verify vpn-256x512.zarr --repair --spec set.json
    """
    from vpngen import store
    from vpngen.terminal import counted

    spec = None if spec_file is None else read_spec_file(spec_file)
    with counted("shards") as bar:
        found = store.verify(
            place(store_path), render=compare, repair=repair, backend=backend, threads=threads, spec=spec, progress=bar
        )
    damaged, pending = found.videos_of(pending=False), found.videos_of(pending=True)
    fields = {"path": store_path, "videos": found.videos, "bytes": found.nbytes, "whole": found.whole}
    fields |= {"damaged": found.damaged, "damaged_videos": damaged, "pending_videos": pending}
    fields |= {"being_written": found.being_written, "problems": [_problem(p) for p in found.problems]}
    lines = []
    for p in found.problems:
        videos = f" (videos {ranges(p.videos)} of {p.split})" if p.videos else ""
        state = "repaired" if p.repaired else "pending " if p.pending else "damaged "
        lines.append(plain(f"{state}  {p.path}: {p.what}{videos}"))
    verdict = "whole" if found.whole else "NOT whole" if repair else "NOT whole; --repair renders what is damaged again"
    if not found.whole and not found.damaged:
        verdict = "not complete; " + ("it is being written" if found.being_written else "give `vpngen render` again")
    if pending:
        verdict = f"{count_text(pending, 'video')} not rendered yet; {verdict}"
    path = click.format_filename(store_path)
    lines.append(f"{path}: {count_text(found.videos, 'video')}, {size_text(found.nbytes)} read; {verdict}")
    show(form, fields, "\n".join(lines))
    if not found.whole:
        sys.exit(RunError.exit_code)


def _problem(problem: Problem) -> dict[str, Any]:
    """The fields of a problem; of several missing shards it says the first and the last video in place of all."""
    fields, videos = asdict(problem), problem.videos
    if isinstance(videos, range):
        fields |= {"videos": [], "first_video": videos[0], "last_video": videos[-1]}
    return fields


def ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    if isinstance(numbers, range):
        return f"{numbers[0]}-{numbers[-1]}"
    groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    spans = [[n for _, n in group] for _, group in groups]
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)

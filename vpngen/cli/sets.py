"""`vpngen render`, `info` and `verify`: sets on disk, and what they hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import EXIT_CODES, Stop, backend_option, cli, format_option, show, table, workers_option
from vpngen.cli.dataset import dataset_options, no_dataset, take_spec, warm
from vpngen.errors import ArgumentError, RunError, VpngenError

if TYPE_CHECKING:
    from vpngen.backends import Backend
    from vpngen.spec import Spec
    from vpngen.store import Plan


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=click.Path(), required=False)
@dataset_options
@click.option(
    "--codec",
    type=click.Choice(["none", "zstd", "formula"]),
    default="none",
    show_default=True,
    help="zstd packs the pixels; formula stores recipes, which readers with vpngen render.",
)
@backend_option
@workers_option
@click.option(
    "--slice", "part", default="1/1", metavar="I/N", help="Do part I of N; the parts may run anywhere, at once."
)
@click.option("--shard-videos", type=int, help="Videos in a shard file.  [default: 32; formula: 1024]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, in videos, bytes and time, and do nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the store at OUT.")
@format_option
def render(
    out: str | None, codec: str, backend: str, workers: int | None, part: str, shard_videos: int | None, dry_run: bool,
    overwrite: bool, form: str, **options: Any,
) -> None:  # fmt: skip
    """Write a labelled dataset as sharded Zarr, or complete it.

    OUT is the store, by default named after the dataset, in the current folder. A stopped or killed run goes on where
    it was when the same command is given again.

    Examples:
      vpngen render                                     the paper's main set
      vpngen render --preset vpn-low-freq --codec zstd  144 categories, compressed
      vpngen render --codec formula                     its recipes, 18 MB
      vpngen render --preset vf-1000x1000               a million fractals, 13 TB
      vpngen render big.zarr --slice 3/8                one of eight jobs
      vpngen render --categories 64 --dry-run           how large, how long
    """
    from vpngen import store
    from vpngen.terminal import compiling, videos_progress
    from vpngen.units import number_text

    spec, name = take_spec(options)
    path = Path(f"{name}.zarr" if out is None else out)
    slices = store.parse_slice(part)
    plan = store.store_plan(spec, store.Layout(codec, shard_videos), slices)
    crew = store.worker_count(workers)
    if dry_run:
        store.check_place(path, plan, overwrite)
    with compiling():
        renderer = warm(spec, backend)
    if dry_run:
        _dry_run(path, plan, renderer, crew, overwrite, form)
        return
    try:
        with videos_progress() as progress:
            done = store.write(
                spec, path, codec=codec, backend=backend, workers=crew, part=slices, overwrite=overwrite,
                shard_videos=shard_videos, progress=progress,
            )  # fmt: skip
    except Stop as stop:
        again = "the same command without --overwrite" if overwrite else "the same command again"
        stop.advice = f" What was finished stays; give {again} to go on."
        raise
    finished = store.is_complete(path)
    fields = {
        "path": str(path), "fingerprint": spec.fingerprint, "rendered": done.rendered, "kept": done.kept,
        "elsewhere": done.elsewhere, "bytes": done.nbytes, "seconds": round(done.seconds, 3), "finished": finished,
    }  # fmt: skip
    text = "nothing to do" if not done.rendered else (
        f"{done.rendered:,} videos rendered ({store.size_text(done.nbytes)} in {done.seconds:.1f} s, "
        f"{number_text(done.rendered / max(done.seconds, 1e-9))} a second)"
    )  # fmt: skip
    kept = f", {done.kept:,} were there" if done.kept else ""
    kept += (
        f", {done.elsewhere:,} were rendered meanwhile by another process on the same store" if done.elsewhere else ""
    )
    owed = "" if finished else "; the store is not complete yet: other slices are owed"
    show(form, fields, f"{click.format_filename(path)}: {text}{kept}{owed}")


def _dry_run(path: Path, plan: Plan, renderer: Backend, workers: int, overwrite: bool, form: str) -> None:
    from vpngen import store
    from vpngen.units import duration_text

    owed = store.owed(path, plan) if path.is_dir() and not overwrite else list(plan.shards)
    videos = sum(s.count for s in owed)
    kept = plan.videos - videos
    raw = videos * plan.spec.video_bytes
    guess = store.estimate(plan, owed, renderer, workers)
    reclaimed = store.stored_bytes(path) if overwrite else 0
    free = store.free_bytes(path)
    try:
        store.check_space(path, plan, owed, guess.nbytes, reclaimed)
        problem = None
    except VpngenError as error:
        problem = str(error)
    fields = {
        "path": str(path), "fingerprint": plan.spec.fingerprint, "videos": videos, "kept": kept, "raw_bytes": raw,
        "estimated_bytes": guess.nbytes, "estimated_seconds": round(guess.seconds, 1), "free_bytes": free,
        "reclaimed_bytes": reclaimed, "workers": workers, "fits": problem is None, "problem": problem,
    }  # fmt: skip
    replaced = f", {store.size_text(reclaimed)} are replaced" if reclaimed else ""
    rows = [
        ("store", click.format_filename(path)),
        ("videos", f"{videos:,} to render" + (f", {kept:,} are there" if kept else "")),
        ("pixels", store.size_text(raw)),
        ("on disk", f"about {store.size_text(guess.nbytes)}; {store.size_text(free)} are free{replaced}"),
        ("fits", "yes" if problem is None else f"NO: {problem}"),
        ("time", f"about {duration_text(guess.seconds)} with {workers} workers, if the disk keeps up"),
    ]
    show(form, fields, table(rows))


@cli.command()
@click.argument("store_path", metavar="[STORE]", required=False, type=click.Path())
@dataset_options
@click.option("--presets", is_flag=True, help="List the presets.")
@format_option
def info(store_path: str | None, presets: bool, form: str, **options: Any) -> None:
    """Say what a store, a preset or any options of `render` hold.

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
        known = {name: Spec.preset(name) for name in all_presets()}
        about = {name: fields["about"] for name, fields in all_presets().items()}
        listed = {n: {**_facts(s), "about": about[n]} for n, s in known.items()}
        head = ("preset", f"{'labels':>6}  {'instances':>9}  {'videos':>9}  {'pixels':>8}  place in the paper")
        show(form, listed, table([head, *((n, _preset_line(s, about[n])) for n, s in known.items())]))
        return
    if store_path is None:
        spec, _ = take_spec(options)
        show(form, {**_facts(spec), "spec": spec.to_dict()}, table(_fact_rows(spec)))
        return
    no_dataset(options, "STORE")
    from vpngen import store

    spec, layout = store.read_spec(store_path)
    plan = store.store_plan(spec, layout)
    left = store.owed(Path(store_path), plan)
    size = store.stored_bytes(Path(store_path))
    state = (
        "complete" if not left else f"{len(left):,} of {len(plan.shards):,} shards are owed: give `vpngen render` again"
    )
    fields = {
        **_facts(spec), "spec": spec.to_dict(), "path": store_path, "codec": layout.codec, "stored_bytes": size,
        "shards": len(plan.shards), "shards_owed": len(left), "finished": not left,
    }  # fmt: skip
    rows = [
        ("store", f"{click.format_filename(store_path)}: {state}"),
        *_fact_rows(spec),
        ("on disk", f"{store.size_text(size)}, codec {layout.codec}, {layout.shard_videos} videos a shard"),
    ]
    show(form, fields, table(rows))


def _facts(spec: Spec) -> dict[str, Any]:
    return {
        "generator": spec.generator.name,
        "categories": spec.n_categories,
        "instances": spec.instances,
        "val_instances": spec.val_instances,
        "videos": spec.n_videos("train") + spec.n_videos("val"),
        "bytes": spec.nbytes,
        "fingerprint": spec.fingerprint,
    }


def _preset_line(spec: Spec, about: str) -> str:
    from vpngen.units import size_text

    return f"{spec.n_categories:>6,}  {spec.instances:>9,}  {spec.n_videos():>9,}  {size_text(spec.nbytes):>8}  {about}"


def _fact_rows(spec: Spec) -> list[tuple[str, str]]:
    from vpngen.units import size_text

    frames, height, width = spec.shape
    val = f"; val {spec.n_videos('val'):,} ({spec.val_instances:,} a category)" if spec.val_instances else ""
    return [
        ("generator", f"{spec.generator.name}, format version {spec.format_version}, seed {spec.seed}"),
        ("categories", f"{spec.n_categories:,}"),
        ("videos", f"train {spec.n_videos():,} ({spec.instances:,} a category){val}"),
        ("video", f"{frames} frames of {height} x {width} pixels, uint8, {size_text(spec.video_bytes)}"),
        ("bytes", f"{size_text(spec.nbytes)} of pixels ({spec.nbytes:,})"),
        ("fingerprint", spec.fingerprint),
        *spec.generator.facts(spec.shape),
    ]


@cli.command(epilog=EXIT_CODES)
@click.argument("store_path", metavar="STORE", type=click.Path())
@click.option("--render", "compare", is_flag=True, help="Also render every video and compare the pixels.")
@click.option("--repair", is_flag=True, help="Render the damaged videos again and mend the files.")
@backend_option
@workers_option
@format_option
def verify(store_path: str, compare: bool, repair: bool, backend: str, workers: int | None, form: str) -> None:
    """Check every file of a store, and mend what is damaged.

    Metadata, labels, completion records, digests, and the checksum of each chunk; with --render every pixel.

    Examples:
      vpngen verify vpn-256x512.zarr
      vpngen verify vpn-256x512.zarr --render --repair
    """
    from vpngen import store
    from vpngen.terminal import shards_progress

    with shards_progress() as progress:
        found = store.verify(
            store_path, render=compare, repair=repair, backend=backend, workers=workers, progress=progress
        )
    fields = {
        "path": store_path, "videos": found.videos, "bytes": found.nbytes, "whole": found.whole,
        "problems": [{"path": p.path, "what": p.what, "split": p.split, "videos": list(p.videos), "repaired": p.repaired}
                     for p in found.problems],
    }  # fmt: skip
    lines = []
    for p in found.problems:
        videos = f" (videos {ranges(p.videos)} of {p.split})" if p.videos else ""
        lines.append(f"{'repaired' if p.repaired else 'damaged '}  {p.path}: {p.what}{videos}")
    verdict = "whole" if found.whole else "NOT whole" if repair else "NOT whole; --repair mends what was rendered here"
    lines.append(
        f"{click.format_filename(store_path)}: {found.videos:,} videos, {store.size_text(found.nbytes)} read; {verdict}"
    )
    show(form, fields, "\n".join(lines))
    if not found.whole:
        sys.exit(RunError.exit_code)


def ranges(numbers: tuple[int, ...]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)

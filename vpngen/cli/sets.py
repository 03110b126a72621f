"""`vpngen render`, `info` and `verify`: sets on disk, and what they hold."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    EXIT_CODES,
    LocalPath,
    SectionOption,
    Stop,
    StorePath,
    Whole,
    backend_option,
    cli,
    format_option,
    no_storage_options,
    place,
    show,
    storage_option,
    storage_options,
    table,
    threads_option,
)
from vpngen.cli.dataset import advise, dataset_options, no_dataset, read_spec_file, take_spec, warm
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError, plain, renamed
from vpngen.units import count_text, duration_text, number_text, size_text

if TYPE_CHECKING:
    from vpngen.spec import Spec
    from vpngen.store import Problem

WHERE = "Where it runs"
Row = tuple[str, str, dict[str, Any]]
"""What is found, in one line: its name and text for people, and its fields for machines."""


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=StorePath(), required=False)
@dataset_options
@click.option(
    "--codec",
    type=click.Choice(["none", "zstd", "formula"]),
    default="none",
    show_default=True,
    help="zstd packs the pixels; formula stores the parameters, which readers with vpngen render.",
)
@backend_option
@threads_option
@click.option("--slice", default="1/1", metavar="I/N", help="Do slice I of N; the slices may run anywhere, at once.")
@click.option("--shard-videos", type=Whole(), help="Videos in a shard file.  [default: 32; formula: 1024]")
@click.option("--with-motion", is_flag=True, help="Store the flow of every pixel too, of drift, clouds and leaves.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, in videos, bytes and time, and do nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the store at OUT.")
@click.option("--executor", cls=SectionOption, section=WHERE, type=click.Choice(["threads", "dask", "slurm"]), default="threads", show_default=True, help="Threads of this process, workers of a Dask cluster, or a job array.")  # fmt: skip
@click.option("--scheduler", cls=SectionOption, section=WHERE, metavar="ADDRESS", help="Of dask, such as tcp://host:8786; or local, for processes of this machine.")  # fmt: skip
@click.option(
    "--array",
    cls=SectionOption,
    section=WHERE,
    type=Whole(1),
    metavar="N",
    help="Of slurm: write an sbatch script of N jobs.",
)
@click.option("--sbatch", cls=SectionOption, section=WHERE, multiple=True, metavar="NAME=VALUE", help="Of slurm: what the script asks for, such as partition=cpu.")  # fmt: skip
@click.option("--submit", cls=SectionOption, section=WHERE, is_flag=True, help="Of slurm: submit the script.")
@storage_option
@format_option
def render(
    out: str | None, codec: str, backend: str, threads: int | None, slice: str, shard_videos: int | None, with_motion: bool,
    dry_run: bool, overwrite: bool, executor: str, scheduler: str | None, array: int | None, sbatch: tuple[str, ...], submit: bool,
    form: str, **options: Any,
) -> None:  # fmt: skip
    """Write a labelled dataset as sharded Zarr, or complete it.

    OUT is the store, a folder or a URL (s3://, gs://, az://), by default named after the dataset, in the current folder. A stopped or killed run goes on where
    it was when the same command is given again. More instances over a store of fewer add what is new.

    Examples:
      vpngen render                                     the paper's main set
      vpngen render --preset vpn-low-freq --codec zstd  144 categories, compressed
      vpngen render --codec formula                     its parameters, 18 MB
      vpngen render --preset vf-1000x1000               a million fractals, 13 TB
      vpngen render --generator leaves --with-motion    pixels, and where they go
      vpngen render big.zarr --slice 3/8                one of eight jobs
      vpngen render s3://bucket/big.zarr                objects; any jobs at once
      vpngen render s3://b/x.zarr --executor dask --scheduler tcp://host:8786
      vpngen render s3://b/x.zarr --executor slurm --array 64 --sbatch mem=8G
      vpngen render --categories 64 --dry-run           how large, how long
    """
    from vpngen import store
    from vpngen.checks import thread_count
    from vpngen.executors import check_space, estimate, write
    from vpngen.terminal import compiling, counted

    spec, name = take_spec(options)
    path = f"{name}.zarr" if out is None else out
    where = place(path)
    chosen = store.parse_slice(slice)
    plan = store.store_plan(spec, store.Layout(codec, shard_videos, motion=with_motion), chosen)
    _fits(executor, scheduler=scheduler, array=array, sbatch=sbatch, submit=submit)
    if executor == "slurm":
        if overwrite or chosen != (1, 1):
            raise ArgumentError(
                "makes the shares of its jobs itself, so --slice and --overwrite cannot be given with it",
                "executor",
                executor,
            )
        more = {"--codec": codec, "--backend": backend, "--shard-videos": shard_videos}
        asked = [text for name, value in more.items() if value is not None for text in (name, str(value))]
        _job_array(
            spec, path, array or 1, [*asked, *(["--with-motion"] if with_motion else [])], sbatch, submit, dry_run, form
        )
        return
    if threads is not None and executor == "dask" and scheduler != "local":
        raise ArgumentError(
            "is of this machine; workers have the threads that they were started with", "threads", threads
        )
    threads = thread_count(threads)
    target = store.target_of(where)
    if dry_run:
        target.check(plan, overwrite)
    with compiling():
        renderer = warm(spec, backend)
    if dry_run:
        pending = plan.shards if overwrite else target.pending(plan)
        videos = plan.only(pending).videos
        kept, raw = plan.videos - videos, videos * spec.video_bytes
        beside = raw * sum(store.SHARDED[name].pixel_bytes for name in plan.arrays[1:])
        nbytes, seconds = estimate(plan, pending, renderer, threads)
        reclaimed, free, problem = target.stored_bytes() if overwrite else 0, target.free_bytes(), None
        try:
            check_space(target, plan, pending, nbytes, reclaimed)
        except MissingError as error:
            problem = str(error)
        disk = {"estimated_bytes": nbytes, "free_bytes": free, "reclaimed_bytes": reclaimed}
        there = f", {kept:,} are there" if kept else ""
        replaced = f", {size_text(reclaimed)} are replaced" if reclaimed else ""
        keeps_up = "the disk" if free is not None else "the server"
        time = f"about {duration_text(seconds)} with {threads} threads, if {keeps_up} keeps up"
        there_now = None if overwrite else target.beginning(plan)
        rows: list[Row] = [
            ("store", click.format_filename(path), {"path": str(path), "fingerprint": spec.fingerprint}),
            ("videos", f"{videos:,} to render{there}", {"videos": videos, "kept": kept}),
            *_growth(there_now, spec),
            ("pixels", size_text(raw), {"raw_bytes": raw}),
            (
                "motion" if beside else "",
                f"{size_text(beside)} of {', '.join(plan.arrays[1:])}",
                {"raw_motion_bytes": beside},
            ),
            (
                "stored",
                f"about {size_text(nbytes)}{'' if free is None else f'; {size_text(free)} are free'}{replaced}",
                disk,
            ),
            (
                "fits" if free is not None else "",
                f"NO: {problem}" if problem else "yes",
                {"fits": not problem, "problem": problem},
            ),
            ("time", time, {"estimated_seconds": round(seconds, 1), "threads": threads}),
            *_advice(spec),
        ]
        report(form, rows)
        return
    advise(spec)
    try:
        with counted("videos") as count, _client(executor, scheduler, threads) as client:
            done = write(
                spec, where, codec=codec, backend=backend, threads=threads, slice=chosen, overwrite=overwrite,
                shard_videos=shard_videos, with_motion=with_motion, client=client, progress=lambda p: count(p.done, p.total, p.nbytes, p.waiting),
            )  # fmt: skip
    except Stop as stop:
        again = "the same command without --overwrite" if overwrite else "the same command again"
        stop.advice = f" What was finished stays; give {again} to go on."
        raise
    finished = chosen == (1, 1) or store.is_complete(where)
    fields = {
        "path": str(path), "fingerprint": spec.fingerprint, "rendered": done.rendered, "kept": done.kept,
        "elsewhere": done.elsewhere, "bytes": done.nbytes, "seconds": round(done.seconds, 3), "finished": finished,
    }  # fmt: skip
    speed = number_text(done.rendered / max(done.seconds, 1e-9))
    took = f"({size_text(done.nbytes)} in {done.seconds:.1f} s, {speed} a second)"
    text = f"{count_text(done.rendered, 'video')} rendered {took}" if done.rendered else "nothing to do"
    text += f", {done.kept:,} were there" if done.kept else ""
    if done.elsewhere:
        text += f", {done.elsewhere:,} were rendered meanwhile by another process on the same store"
    text += "" if finished else "; the store is not complete yet: other slices are pending"
    show(form, fields, f"{click.format_filename(path)}: {text}")


def _fits(executor: str, **given: Any) -> None:
    """Raise ArgumentError where options are of another executor, or one lacks what it needs."""
    of = {"scheduler": "dask", "array": "slurm", "sbatch": "slurm", "submit": "slurm"}
    for name, value in given.items():
        if value and executor != of[name]:
            raise ArgumentError(f"is of --executor {of[name]}", name)
    for needs, name in (("dask", "scheduler"), ("slurm", "array")):
        if executor == needs and not given[name]:
            raise ArgumentError(f"is needed for --executor {needs}", name)


def _client(executor: str, scheduler: str | None, threads: int) -> contextlib.AbstractContextManager[Any]:
    """What a Dask cluster is asked through, if one is to be."""
    if executor != "dask" or scheduler is None:
        return contextlib.nullcontext()
    from vpngen.executors.dask import connected

    @contextlib.contextmanager
    def client() -> Iterator[Any]:
        with connected(scheduler, threads) as made:
            if not made.nthreads():
                click.echo(f"waiting for workers: none is at {scheduler} yet", err=True)
                made.wait_for_workers(1)
            yield made

    return client()


def _job_array(
    spec: Spec, path: str, jobs: int, options: list[str], sbatch: tuple[str, ...], submit: bool, dry_run: bool, form: str
) -> None:  # fmt: skip
    """Write the script of a job array, show it, or submit it."""
    from vpngen import files
    from vpngen.executors import slurm

    if wrong := [pair for pair in sbatch if "=" not in pair]:
        raise ArgumentError("must be NAME=VALUE, such as partition=cpu", "sbatch", wrong[0])
    asked = {name: value for name, _, value in (pair.partition("=") for pair in sbatch)}
    with renamed(storage_options="--storage-option"):
        text = slurm.script(spec, path, jobs, options, asked, storage_options())
    if dry_run:
        show(form, {"script": text}, text.rstrip())
        return
    file = Path(f"{Path(path).stem}.sbatch")
    if file.exists() and file.read_bytes() != text.encode():
        raise ConflictError(
            f"{str(file)!r} is there, and is another script; it was left untouched: rename or remove it"
        )
    files.write(file, text.encode())
    said = slurm.submit(file) if submit else f"submit it with: sbatch {file}"
    show(form, {"path": str(file), "jobs": jobs, "submitted": submit}, f"{file}: {count_text(jobs, 'job')}; {said}")


def _growth(there: Spec | None, spec: Spec) -> list[Row]:
    """What a run adds to a store that holds the beginning of a set; for people nothing where it holds all of it, or none."""
    if there is None or there == spec:
        return [("", "", {"grows_from": None, "new_videos": 0})]
    counts = [(name, getattr(there, name), getattr(spec, name)) for name in ("instances", "val_instances")]
    new = sum(spec.n_videos(split) - there.n_videos(split) for split in spec.splits)
    text = ", ".join(f"from {before:,} to {now:,} {name}" for name, before, now in counts if before != now)
    text += f": {count_text(new, 'video')} more; a last shard that was not full is rendered again"
    return [("grows", text, {"grows_from": {name: before for name, before, _ in counts}, "new_videos": new})]


def report(form: str, rows: list[Row]) -> None:
    """Print what was found, for people or machines."""
    show(form, fields_of(rows), table([(name, text) for name, text, _ in rows if name]))


def fields_of(rows: list[Row]) -> dict[str, Any]:
    """The fields of all rows."""
    return {key: value for _, _, fields in rows for key, value in fields.items()}


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
        *_advice(spec),
    ]


def _advice(spec: Spec) -> list[Row]:
    """What of the options is probably not meant."""
    said = spec.generator.advice(spec.shape)
    return [("advice", "; ".join(said), {"advice": said})] if said else []


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

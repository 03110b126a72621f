"""`vpngen render`: a set is written, on this machine or on many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    EXIT_CODES,
    Row,
    SectionOption,
    Stop,
    StorePath,
    Whole,
    backend_option,
    cli,
    format_option,
    place,
    report,
    show,
    storage_option,
    storage_options,
    threads_option,
)
from vpngen.cli.dataset import advice_rows, advise, dataset_options, take_spec, warm
from vpngen.errors import ArgumentError, ConflictError, MissingError, renamed
from vpngen.units import count_text, duration_text, number_text, size_text

if TYPE_CHECKING:
    from vpngen.backends import Backend
    from vpngen.spec import Spec
    from vpngen.store import Plan
    from vpngen.store.targets.base import Target

WHERE = "Where it runs"


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
    from vpngen.executors import write
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
        report(form, _forecast(path, plan, target, renderer, threads, overwrite))
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


def _forecast(path: str, plan: Plan, target: Target, renderer: Backend, threads: int, overwrite: bool) -> list[Row]:
    """What a run would do: videos, bytes, time, and whether that fits."""
    from vpngen import store
    from vpngen.executors import check_space, estimate

    spec = plan.spec
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
    return [
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
        *advice_rows(spec),
    ]


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

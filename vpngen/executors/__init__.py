"""Writes a dataset: plan, target and executor put together. Resumable at any moment, byte-identical however often it was stopped.

An executor is a way to run a plan: `base` says what each must do, and each of the others is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vpngen import backends
from vpngen.backends import Backend
from vpngen.checks import thread_count
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.executors.base import Executor, Progress
from vpngen.executors.threads import Threads
from vpngen.spec import Spec
from vpngen.store.layout import Layout, Plan, Shard, store_plan
from vpngen.store.packing import INDEX_BYTES, encoding, encodings
from vpngen.store.places import Where
from vpngen.store.targets import target_of
from vpngen.store.targets.base import Target
from vpngen.store.targets.local import busy
from vpngen.units import count_text, size_text

if TYPE_CHECKING:
    import distributed

TRIAL_VIDEOS: Final = 48
TRIAL_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Written:
    """What a run did: videos rendered, videos there before, videos that another process rendered meanwhile, bytes, wall seconds."""

    rendered: int
    kept: int
    elsewhere: int
    nbytes: int
    seconds: float


def write(
    spec: Spec,
    where: Where,
    *,
    codec: str = "none",
    backend: str = "auto",
    threads: int | None = None,
    slice: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    shard_videos: int | None = None,
    with_motion: bool = False,
    client: distributed.Client | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Written:
    """Write the videos of `spec` as a sharded Zarr v3 store, or complete the one that is there.

    A store of fewer instances, all else equal, is the beginning of this one, and is grown to it. What it holds stays readable, and shards
    that were full are kept; the last one of a split is rendered again. Meanwhile it is a store that is not finished.

    Args:
        spec: the dataset.
        where: the store: a folder, a URL such as s3://bucket/set.zarr, or a store of obstore.
        codec: `none`, `zstd`, or `formula`: parameters in place of pixels, for readers that have vpngen.
        backend: as for `vpngen.render`.
        threads: CPU threads, each with a shard of its own; None for all that this process may use.
        slice: (I, N): do slice I of N; the slices of a store may run at the same time, on one machine or many.
        overwrite: replace a store that vpngen made, whatever is in it; not together with a slice.
        shard_videos: videos in a shard file; None for what is usual for the codec.
        with_motion: store beside the pixels where each goes to the next frame, as `vpngen.motion` has it, 8 bytes a pixel; of dead leaves
            also which shape it shows, and whether the next frame hides that. Not with codec `formula`.
        client: a `distributed.Client`, whose workers render, each thread a shard at a time: with cuda where they have it and `backend` is
            auto. They write to `where` themselves, a URL or a folder that all of them see; `threads` is of no use then.
        progress: called from the calling thread after each video, and when it waits for others; with a client after some shards.

    Returns:
        What was done. A store that was finished renders nothing.

    Raises:
        ArgumentError: an argument out of range.
        ConflictError: there is something else, or another process is writing shards of this run; the rest is done.
        MissingError: the backend cannot run here, the disk is too small, or nothing may be written there.
        RunError: the disk, the object store or the cluster failed, or a disk filled up; what was finished stays, and the same call goes on from there.
    """
    start = time.monotonic()
    executor: Executor
    if client is None:
        executor = Threads(backends.choose(backend, spec.generator), thread_count(threads))
    else:
        from vpngen.executors.dask import Dask

        executor = Dask(client, backends.known(backend))
    plan = store_plan(spec, Layout(codec, shard_videos, motion=with_motion), slice)
    if overwrite and slice[1] > 1:
        how = f"`slice` (={slice[0]}/{slice[1]}); remove the store by hand, then start the slices"
        raise ArgumentError(f"replaces what the other slices did too, so it cannot be given with {how}", "overwrite")
    target = target_of(where)
    target.check(plan, overwrite)
    pending = plan.shards if overwrite else target.pending(plan)
    reclaimed = target.stored_bytes() if overwrite else 0
    try:
        check_space(target, plan, pending, reclaimed=reclaimed)
    except MissingError:  # it may fit when compressed: that takes a trial to know
        if all(how.exact for how in encodings(plan)):
            raise
        check_space(
            target, plan, pending, estimate(plan, pending, backends.choose(backend, spec.generator))[0], reclaimed
        )
    target.prepare(plan, overwrite)
    done = executor.run(plan, target, progress, pending)
    target.settle(plan)
    if done.missing and client is None:
        raise busy(f"{target}/{done.missing[0].key}")
    if done.missing:
        names = ", ".join(shard.key for shard in done.missing[:8]) + (", ..." if len(done.missing) > 8 else "")
        why = f" ({done.why})" if done.why else ""
        raise RunError(
            f"{count_text(len(done.missing), 'shard')} of {target} are missing: {names}{why}; give the same command again to go on"
        )
    elsewhere = plan.videos - done.rendered - done.kept
    return Written(done.rendered, done.kept, elsewhere, done.nbytes, time.monotonic() - start)


def check_space(
    target: Target, plan: Plan, pending: Sequence[Shard], needed: int | None = None, reclaimed: int = 0
) -> None:
    """Raise MissingError unless a target has room for what is to be rendered; the message names what would fit.

    `needed` is the estimate in bytes, None for the most that it can be; `reclaimed` is what --overwrite frees.
    """
    videos, free = sum(s.count for s in pending), target.free_bytes()
    needed = videos * sum(how.most_bytes for how in encodings(plan)) if needed is None else needed
    if free is None or needed <= free + reclaimed:
        return
    free += reclaimed
    fits = free / (needed / videos * plan.spec.n_categories)
    ideas = [f"--instances {int(fits)} fits"] if fits >= 1 else []
    if plan.layout.codec == "none":
        ideas.append(f"--codec zstd takes about half, so up to --instances {int(fits * 2)}")
    if plan.layout.motion:
        ideas.append(f"without --with-motion it is {size_text(videos * encoding(plan).most_bytes)} at most")
    elif plan.layout.codec != "formula":
        params = videos * encoding(Plan(plan.spec, Layout("formula"), ())).most_bytes
        ideas.append(f"--codec formula takes {size_text(params)}, for readers that have vpngen")
    ideas.append("fewer --categories take less; vpngen.render() needs no disk at all")
    what = f"{count_text(videos, 'video')} ({size_text(videos * plan.spec.video_bytes)} of pixels)"
    room = f"{size_text(free)} are free for {str(target)!r}"
    raise MissingError(f"{size_text(needed)} are needed for {what}, but {room}. {'; '.join(ideas)}")


def estimate(plan: Plan, pending: Sequence[Shard], backend: Backend, threads: int = 1) -> tuple[int, float]:
    """Bytes on disk and wall seconds for the shards `pending`, from rendering and encoding some of their videos, drawn at random.

    Videos compress to between 0.2 and 0.9 of their size, so with 48 of them the estimate is good to about a twentieth.
    """
    videos = sum(s.count for s in pending)
    if not videos:
        return 0, 0.0
    stored, seconds, count, ways = 0, 0.0, 0, encodings(plan)
    for how in ways:
        next(how.contents(pending[0].split, [pending[0].first], backend))  # compiled and warm from here on
    rng = np.random.default_rng(0)
    for _ in range(TRIAL_VIDEOS):
        shard = pending[int(rng.integers(len(pending)))]
        start = time.perf_counter()
        some = shard.videos[int(rng.integers(shard.count)) :][: ways[0].together]
        for how in ways:
            for content in how.contents(shard.split, some, backend):
                stored += sum(len(payload) + len(checksum) + INDEX_BYTES for payload, checksum in how.encode(content))
        seconds += time.perf_counter() - start
        count += len(some)
        if seconds > TRIAL_SECONDS:
            break
    return round(stored / count * videos), seconds / count * videos / threads

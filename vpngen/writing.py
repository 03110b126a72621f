"""Writes a dataset: plan, target and executor put together. Resumable at any moment, byte-identical however often it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vpngen import backends
from vpngen.checks import thread_count
from vpngen.errors import ArgumentError, ConflictError
from vpngen.executors.base import Progress
from vpngen.executors.threads import Threads
from vpngen.spec import Spec
from vpngen.store import place
from vpngen.store.layout import Layout, store_plan
from vpngen.store.targets.local import LocalTarget


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
    path: str | Path,
    *,
    codec: str = "none",
    backend: str = "auto",
    threads: int | None = None,
    slice: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    shard_videos: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Written:
    """Write the videos of `spec` as a sharded Zarr v3 store, or complete the one that is there.

    Args:
        spec: the dataset.
        path: the store, a folder.
        codec: `none`, `zstd`, or `formula`: parameters in place of pixels, for readers that have vpngen.
        backend: as for `vpngen.render`.
        threads: CPU threads, each with a shard of its own; None for all that this process may use.
        slice: (I, N): do slice I of N; the slices of a store may run at the same time, on one machine or many.
        overwrite: replace a store that vpngen made, whatever is in it; not together with a slice.
        shard_videos: videos in a shard file; None for what is usual for the codec.
        progress: called from the calling thread after each video.

    Returns:
        What was done. A store that was finished renders nothing.

    Raises:
        ArgumentError: an argument out of range.
        ConflictError: `path` holds something else, or another process is writing shards of this run; the rest is done.
        MissingError: the backend cannot run here, or the disk is too small.
        RunError: the disk failed or filled up; what was finished stays, and the same call goes on from there.
    """
    start = time.monotonic()
    executor = Threads(backends.choose(backend, spec.generator), thread_count(threads))
    plan = store_plan(spec, Layout(codec, shard_videos), slice)
    if overwrite and slice[1] > 1:
        raise ArgumentError(
            f"replaces the whole store, also what the other slices did, so it cannot be given with "
            f"`slice` (={slice[0]}/{slice[1]}); remove the store by hand, then start the slices",
            "overwrite",
        )
    target = LocalTarget(path)
    place.check(target, plan, executor.backend, overwrite)
    target.prepare(plan, overwrite)
    done = executor.run(plan, target, progress)
    if done.missing:
        raise ConflictError(
            f"another process is writing {target}/{done.missing[0].key}; wait until it is done, or give each process "
            f"its own share with --slice 1/2 and --slice 2/2"
        )
    return Written(
        done.rendered, done.kept, plan.videos - done.rendered - done.kept, done.nbytes, time.monotonic() - start
    )

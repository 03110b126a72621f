"""Before a run: whether it may write where it is to write, whether that is large enough, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vpngen.backends import Backend
from vpngen.errors import MissingError
from vpngen.store.encoding import encoding
from vpngen.store.layout import Layout, Plan, Shard
from vpngen.store.packing import INDEX_BYTES
from vpngen.store.targets.base import Target
from vpngen.units import size_text

TRIAL_VIDEOS: Final = 48


@dataclass(frozen=True)
class Estimate:
    """What a run will take: bytes on disk, wall seconds, and stored bytes for each byte of pixels."""

    nbytes: int
    seconds: float
    ratio: float


def check(target: Target, plan: Plan, backend: Backend, overwrite: bool) -> None:
    """Raise what keeps a plan from being written; changes nothing. See `Target.check` and `check_space`."""
    target.check(plan, overwrite)
    pending = plan.shards if overwrite else target.pending(plan)
    reclaimed = target.stored_bytes() if overwrite else 0
    try:
        check_space(target, plan, pending, reclaimed=reclaimed)
    except MissingError:  # it may fit when compressed: that takes a trial to know
        if encoding(plan).exact:
            raise
        check_space(target, plan, pending, estimate(plan, pending, backend).nbytes, reclaimed)


def check_space(
    target: Target, plan: Plan, pending: Sequence[Shard], needed: int | None = None, reclaimed: int = 0
) -> None:
    """Raise MissingError unless a target has room for what is to be rendered; the message names what would fit.

    `needed` is the estimate in bytes, None for the most that it can be; `reclaimed` is what --overwrite frees.
    """
    videos, free = sum(s.count for s in pending), target.free_bytes()
    if needed is None:
        needed = videos * encoding(plan).most_bytes
    if free is None or needed <= free + reclaimed:
        return
    free += reclaimed
    each = needed / videos * plan.spec.n_categories
    fits = int(free / each)
    ideas = [f"--instances {fits} fits"] if fits else []
    if plan.layout.codec == "none":
        ideas.append(f"--codec zstd takes about half, so up to --instances {int(free / each * 2)}")
    if plan.layout.codec != "formula":
        params = videos * encoding(Plan(plan.spec, Layout("formula"), ())).most_bytes
        ideas.append(f"--codec formula takes {size_text(params)}, for readers that have vpngen")
    ideas.append("fewer --categories take less; vpngen.render() needs no disk at all")
    raise MissingError(
        f"{size_text(needed)} are needed for {videos:,} videos ({size_text(videos * plan.spec.video_bytes)} of pixels), "
        f"but {size_text(free)} are free for {str(target)!r}. " + "; ".join(ideas)
    )


def estimate(
    plan: Plan, pending: Sequence[Shard], backend: Backend, threads: int = 1, trial_seconds: float = 3.0
) -> Estimate:
    """Bytes and time for the shards `pending`, from rendering and encoding some of their videos, drawn at random.

    Videos compress to between 0.2 and 0.9 of their size, so with 48 of them the estimate is good to about a twentieth.
    """
    videos = sum(s.count for s in pending)
    if not videos:
        return Estimate(0, 0.0, 0.0)
    stored, seconds, count = 0, 0.0, 0
    how = encoding(plan)
    next(how.contents(pending[0].split, [pending[0].first], backend))  # compiled and warm from here on
    rng = np.random.default_rng(0)
    for _ in range(TRIAL_VIDEOS):
        shard = pending[int(rng.integers(len(pending)))]
        start = time.perf_counter()
        some = shard.videos[int(rng.integers(shard.count)) :][: how.together]
        for content in how.contents(shard.split, some, backend):
            stored += sum(len(payload) + len(checksum) + INDEX_BYTES for payload, checksum in how.encode(content))
        seconds += time.perf_counter() - start
        count += len(some)
        if seconds > trial_seconds:
            break
    return Estimate(
        round(stored / count * videos), seconds / count * videos / threads, stored / count / plan.spec.video_bytes
    )

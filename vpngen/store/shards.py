"""One shard, rendered: a pure function of plan and shard, whatever the backend. Executors call it, targets store it."""

from __future__ import annotations

from collections.abc import Callable

from vpngen.backends import Backend
from vpngen.store.encoding import encoding
from vpngen.store.layout import Plan, Shard
from vpngen.store.packing import ShardData


def render_shard(
    plan: Plan, shard: Shard, backend: Backend, threads: int = 1, each: Callable[[int], object] | None = None
) -> ShardData:
    """The bytes of a shard, rendered as they are taken, and then its record.

    Args:
        plan: what the shard is of.
        shard: one of its shards.
        backend: what renders.
        threads: CPU threads.
        each: called with the bytes of a video when they have been taken, before the next video is rendered.
    """
    how = encoding(plan)
    videos = how.contents(shard.split, shard.videos, backend, threads)
    return ShardData(plan, shard, map(how.encode, videos), each)

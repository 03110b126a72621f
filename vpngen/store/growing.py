"""A store of a smaller set becomes one of a larger, at any place: what of it stays, and what is made anew."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from vpngen.errors import ArgumentError, ConflictError
from vpngen.spec import Spec
from vpngen.store.layout import (
    RECORD,
    Plan,
    Shard,
    growing,
    read_record,
    read_store,
    record,
    recorded,
    shards_there,
    skeleton,
    table_files,
)
from vpngen.store.places import Place

ROOT: Final = "zarr.json"
"""The root metadata, which says what a store holds."""


def beginning(place: Place, plan: Plan) -> Spec | None:
    """What the store at a place holds of the set of a plan, if it holds any of it."""
    try:
        spec, layout, _ = read_store(place)
    except (ArgumentError, ConflictError):
        return None
    return spec if spec.begins(plan.spec) and layout == plan.layout else None


def grown(place: Place, plan: Plan) -> bool:
    """Whether a store is of the set of a plan, with nothing left of a smaller one."""
    spec, _, earlier = read_store(place)
    return spec == plan.spec and not earlier


def grow(
    place: Place,
    plan: Plan,
    write: Callable[[str, bytes], None],
    check: Callable[[tuple[Spec, ...]], None],
    last: Callable[[], None] = lambda: None,
) -> None:
    """Make an unfinished store of the plan from one of a smaller set, or go on where that was stopped.

    The root metadata comes first: it says what the store holds from now on, and of which smaller sets there may still be files
    (`grown_from`), until the last of them is gone. Shards that stay get their new record; the last one of a split, if it was not
    full, keeps the old one until it is rendered anew.

    Args:
        place: of the store.
        plan: of all of the set.
        write: writes a small file, whole or not at all.
        check: is asked before a store becomes one of another set, with the sets that it was being grown from; it may raise.
        last: makes what was written last, before the root metadata says so.
    """
    spec, _, earlier = read_store(place)
    if spec == plan.spec and not earlier:
        return
    documents = dict(skeleton(plan.spec, plan.layout)[0])
    root = documents.pop(ROOT)
    if spec != plan.spec:
        check(earlier)
        earlier = (*earlier, spec)
        write(ROOT, growing(root, plan, earlier))
    for name, data in itertools.chain(documents.items(), table_files(plan.spec, earlier)):
        renew(place, name, data, write)
    if _renew_records(place, plan, write):
        last()
        write(ROOT, root)


def renew(place: Place, name: str, data: bytes, write: Callable[[str, bytes], None]) -> None:
    """Write a small file where it is not there, or another."""
    with contextlib.suppress(OSError):
        if place.read(name, len(data)) == data:
            return
    write(name, data)


def _renew_records(place: Place, plan: Plan, write: Callable[[str, bytes], None]) -> bool:
    """Give shards that are the same in a smaller set the records of a plan. Whether that is all that is left of that set."""

    def renewed(shard: Shard) -> bool:
        if (fields := read_record(place, plan, shard)) is None:
            return True  # it counts for nothing
        if fields["shard"]["count"] != shard.count:
            return False
        files = {array: recorded(fields, array) for array in plan.arrays}
        if fields["fingerprint"] != plan.spec.fingerprint:
            renew(place, shard.record, record(plan, shard, files), write)
        return True

    every = True
    with ThreadPoolExecutor(place.in_flight) as pool:
        for split in plan.spec.splits:
            shards = (plan.shard(split, number) for number in sorted(shards_there(place, split, RECORD)))
            every = all(list(pool.map(renewed, shards))) and every
    return every

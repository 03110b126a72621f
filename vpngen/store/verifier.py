"""Checks a store against what it says it is, and with rendering against the formula; repairs what is damaged."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from vpngen import backends
from vpngen.backends import Backend
from vpngen.checks import thread_count
from vpngen.store.encoding import encoding
from vpngen.store.layout import Plan, Shard, read_record, read_spec, skeleton, store_plan
from vpngen.store.locks import PARTIAL, is_live
from vpngen.store.packing import CRC_BYTES, Chunk, ShardData, read_chunk, read_index, shard_digest
from vpngen.store.shards import render_shard
from vpngen.store.targets.local import LocalTarget, disk_errors, write_file


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the file, within the store.
        what: what is wrong with it.
        split: of the videos it concerns; empty where it concerns none.
        videos: the indices of the damaged videos.
        repaired: whether it was repaired.
    """

    path: str
    what: str
    split: str = ""
    videos: tuple[int, ...] = ()
    repaired: bool = False


@dataclass(frozen=True)
class Verified:
    """What a check found: videos and bytes read, and the problems; none means that the store is whole."""

    videos: int
    nbytes: int
    problems: tuple[Problem, ...]

    @property
    def whole(self) -> bool:
        """No problem is left."""
        return all(p.repaired for p in self.problems)


def verify(
    path: str | Path,
    *,
    render: bool = False,
    repair: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Check every file of a store: metadata, labels and parameters, records, digests, each chunk's checksum.

    Args:
        path: the store.
        render: also render every video and compare all its pixels with the stored ones; with codec `formula`, compare
            its parameters.
        repair: render the damaged videos again and repair the files; the intact ones are kept as they are.
        backend: as for `vpngen.render`.
        threads: CPU threads; None for all that this process may use.
        progress: called with (shards done, shards).

    Raises:
        ArgumentError: there is nothing at `path`, or `threads` is out of range.
        ConflictError: it is no store of ours, its root metadata is damaged, or a shard to be repaired is being written.
        MissingError: the backend cannot run here.
        RunError: the disk failed during a repair.
    """
    root = Path(path)
    spec, layout = read_spec(root)
    plan = store_plan(spec, layout)
    renderer = backends.choose(backend, spec.generator) if render or repair else None
    problems = _check_skeleton(root, plan, repair)
    nbytes = 0
    with ThreadPoolExecutor(thread_count(threads)) as pool:
        checks = [pool.submit(_check_shard, root, plan, s, renderer if render else None) for s in plan.shards]
        for done, (shard, check) in enumerate(zip(plan.shards, checks, strict=True), start=1):
            problem, size = check.result()
            nbytes += size
            if problem is not None and repair:
                assert renderer is not None
                fields = None if render else read_record(root, plan, shard)  # compared with the formula: trusted
                digest = fields["digest"] if fields is not None else None
                _repair_shard(root, plan, shard, renderer, set(shard.videos) - set(problem.videos), digest)
                problem = replace(problem, repaired=True)
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(plan.shards))
    return Verified(plan.videos, nbytes, tuple(problems))


def _check_shard(root: Path, plan: Plan, shard: Shard, renderer: Backend | None) -> tuple[Problem | None, int]:
    def bad(what: str, videos: tuple[int, ...] = tuple(shard.videos)) -> Problem:
        return Problem(shard.key, what, shard.split, videos)

    try:
        fd = os.open(root / shard.key, os.O_RDONLY)
    except FileNotFoundError:
        return bad("the shard is missing"), 0
    except OSError as error:
        return bad(f"the shard cannot be read: {error.strerror}"), 0
    try:
        size = os.fstat(fd).st_size
        fields = read_record(root, plan, shard)
        try:
            index, index_bytes = read_index(fd, plan)
        except ValueError as error:
            return bad(str(error)), size
        except OSError as error:
            return bad(f"the shard cannot be read: {error.strerror}"), 0
        if fields is None:
            return bad("the completion record is missing, damaged, or of another dataset"), size
        if fields["size"] != size:
            return bad(f"the file has {size} bytes, its record says {fields['size']}"), size
        how, damaged, sums = encoding(plan), [], []
        expected = iter(()) if renderer is None else how.contents(shard.split, shard.videos, renderer)
        for i, video in enumerate(shard.videos):
            content = next(expected, None)
            try:
                stored = []
                for entry in index[i]:
                    data = read_chunk(fd, entry)
                    sums.append(data[-CRC_BYTES:])
                    stored.append(data)
                found = how.decode(stored)
                if content is not None and not how.agree(found, content):
                    damaged.append(video)
            except (ValueError, OSError):
                damaged.append(video)
        if damaged:
            return bad("damaged videos", tuple(damaged)), size
        if fields["digest"] != shard_digest(sums, index_bytes):
            return bad("the digest does not match the record: a shard of another place or dataset"), size
        return None, size
    finally:
        os.close(fd)


def _repair_shard(root: Path, plan: Plan, shard: Shard, renderer: Backend, keep: set[int], digest: str | None) -> None:
    """Write a shard anew: the chunks of the videos `keep` are copied from the old file, the others are rendered.

    `digest` is what the repaired shard has to come to. Where it does not, the videos kept were intact but not those of
    this shard, and all are rendered; None trusts them.

    Raises:
        ConflictError: another process is writing this shard.
        RunError: the disk failed; the old shard is still there.
    """
    target = LocalTarget(root)
    with disk_errors(root / shard.key):
        (root / shard.key).parent.mkdir(parents=True, exist_ok=True)
    target.claim(shard)
    try:
        data = render_shard(plan, shard, renderer)
        if keep:
            data = ShardData(plan, shard, _refilled(root / shard.key, plan, shard, renderer, keep))
        target.put(shard, data)
        if keep and digest not in (None, data.digest):
            data = render_shard(plan, shard, renderer)
            target.put(shard, data)
    except BaseException:
        target.release(shard)
        raise
    target.publish(shard, data.record)


def _refilled(old: Path, plan: Plan, shard: Shard, renderer: Backend, keep: set[int]) -> Iterator[list[Chunk]]:
    """The chunks of each video of a shard, of those in `keep` as they are stored."""
    how = encoding(plan)
    with open(old, "rb") as file:
        index, _ = read_index(file.fileno(), plan)
        for i, video in enumerate(shard.videos):
            if video in keep:
                stored = [read_chunk(file.fileno(), entry) for entry in index[i]]
                yield [(data[:-CRC_BYTES], data[-CRC_BYTES:]) for data in stored]
            else:
                yield how.encode(next(how.contents(shard.split, [video], renderer)))


# --- everything that is no shard


def _check_skeleton(root: Path, plan: Plan, repair: bool) -> list[Problem]:
    """Compare metadata and small arrays with freshly made ones; report files that do not belong to the store."""
    problems = []
    fresh, _ = skeleton(plan.spec, plan.layout)
    for name in sorted(fresh):
        if what := _compare(root / name, fresh[name]):
            if repair:
                with disk_errors(root / name):
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    write_file(root / name, fresh[name])
            problems.append(Problem(name, what, repaired=repair))
    there = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() or p.is_symlink()}
    for name in sorted(there.difference(fresh, *((s.key, s.record) for s in plan.shards))):
        if name.endswith(PARTIAL):
            live = False
            with disk_errors(root / name) if repair else contextlib.suppress(OSError):
                live = is_live(root / name, remove=repair)
            if live:
                problems.append(Problem(name, "is being written by a process that is running"))
            else:
                problems.append(Problem(name, "left by a writer that was killed", repaired=repair))
        else:
            problems.append(Problem(name, "does not belong to this store; remove it by hand"))
    return problems


def _compare(there: Path, expected: bytes) -> str:
    """What is wrong with a file, or nothing. Other versions of zarr may space their JSON otherwise: that is no damage."""
    try:
        data = there.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if data == expected:
        return ""
    if there.name != "zarr.json":
        return "labels or parameters are damaged"
    try:
        same = json.loads(data) == json.loads(expected)
    except ValueError:
        same = False
    return "" if same else "the metadata is damaged"

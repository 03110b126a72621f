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
from vpngen.store.formula import CRC_BYTES, DamageError
from vpngen.store.layout import Plan, Shard, read_record, read_spec, skeleton, store_plan
from vpngen.store.packing import Chunk, ShardData, encoding, read_chunk, read_index, render_shard, shard_digest
from vpngen.store.targets.local import PARTIAL, LocalTarget, disk_errors, is_live, write_file


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
        checks = pool.map(lambda s: _check_shard(root, plan, s, renderer if render else None), plan.shards)
        for done, (shard, (problem, size)) in enumerate(zip(plan.shards, checks, strict=True), start=1):
            nbytes += size
            if problem is not None and repair:
                assert renderer is not None
                fields = None if render else read_record(root, plan, shard)  # compared with the formula: trusted
                digest = None if fields is None else fields["digest"]
                _repair_shard(root, plan, shard, renderer, set(shard.videos) - set(problem.videos), digest)
                problem = replace(problem, repaired=True)
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(plan.shards))
    return Verified(plan.videos, nbytes, tuple(problems))


def _check_shard(root: Path, plan: Plan, shard: Shard, renderer: Backend | None) -> tuple[Problem | None, int]:
    """What is wrong with a shard, and the bytes of its file."""
    size, damaged = 0, []
    try:
        with open(root / shard.key, "rb") as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            fields = read_record(root, plan, shard)
            index, index_bytes = read_index(fd, plan)
            if fields is None:
                raise DamageError("the completion record is missing, damaged, or of another dataset")
            if fields["size"] != size:
                raise DamageError(f"the file has {size} bytes, its record says {fields['size']}")
            how, sums = encoding(plan), []
            expected = iter(()) if renderer is None else how.contents(shard.split, shard.videos, renderer)
            for i, video in enumerate(shard.videos):
                content = next(expected, None)
                try:
                    stored = [read_chunk(fd, entry) for entry in index[i]]
                    sums += [data[-CRC_BYTES:] for data in stored]
                    found = how.decode(stored)
                    if content is not None and not how.agree(found, content):
                        damaged.append(video)
                except (ValueError, OSError):
                    damaged.append(video)
            if damaged:
                raise DamageError("damaged videos")
            if fields["digest"] != shard_digest(sums, index_bytes):
                raise DamageError("the digest does not match the record: a shard of another place or dataset")
    except FileNotFoundError:
        what = "the shard is missing"
    except OSError as error:
        what = f"the shard cannot be read: {error.strerror}"
    except DamageError as error:
        what = str(error)
    else:
        return None, size
    return Problem(shard.key, what, shard.split, tuple(damaged or shard.videos)), size


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


def _check_skeleton(root: Path, plan: Plan, repair: bool) -> list[Problem]:
    """Compare metadata and small arrays with freshly made ones; report files that do not belong to the store."""
    problems = []
    fresh, _ = skeleton(plan.spec, plan.layout)
    for name in sorted(fresh):
        metadata = name.endswith("zarr.json")
        what = "the metadata is damaged" if metadata else "labels or parameters are damaged"
        try:
            data = (root / name).read_bytes()
            # Other versions of zarr may space their JSON otherwise: that is no damage.
            if data == fresh[name] or (metadata and json.loads(data) == json.loads(fresh[name])):
                continue
        except (OSError, ValueError) as error:
            what = f"cannot be read: {getattr(error, 'strerror', error)}"
        if repair:
            with disk_errors(root / name):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                write_file(root / name, fresh[name])
        problems.append(Problem(name, what, repaired=repair))
    there = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() or p.is_symlink()}
    for name in sorted(there.difference(fresh, *((s.key, s.record) for s in plan.shards))):
        what, repaired = "does not belong to this store; remove it by hand", False
        if name.endswith(PARTIAL):
            what, repaired = "left by a writer that was killed", repair
            with disk_errors(root / name) if repair else contextlib.suppress(OSError):
                if is_live(root / name, remove=repair):
                    what, repaired = "is being written by a process that is running", False
        problems.append(Problem(name, what, repaired=repaired))
    return problems

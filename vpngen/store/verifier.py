"""Checks a store against what it says it is, and with rendering against the formula; repairs what is damaged."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vpngen import backends
from vpngen.backends import Backend
from vpngen.store import layout as _layout
from vpngen.store import writer as _writer
from vpngen.store.encoding import encoding
from vpngen.store.layout import RECORD, Plan, Shard, read_record, read_spec, store_plan
from vpngen.store.locks import PARTIAL, live_partials, remove_dead
from vpngen.store.shard import CRC_BYTES, read_chunk, read_index, shard_digest


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the file, within the store.
        what: what is wrong with it.
        split: of the videos it concerns; empty where it concerns none.
        videos: the indices of the damaged videos.
        repaired: whether it was mended.
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
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Check every file of a store: metadata, labels and parameters, records, digests, each chunk's checksum.

    Args:
        path: the store.
        render: also render every video and compare all its pixels with the stored ones; with codec `formula`, draw
            every recipe and compare it with the stored one.
        repair: render the damaged videos again and mend the files; the intact ones are kept as they are.
        backend: as for `vpngen.render`.
        workers: threads; None for all processors that this process may use.
        progress: called with (shards done, shards).

    Raises:
        ArgumentError: there is nothing at `path`.
        ConflictError: it is no store of ours, its root metadata is damaged, or a shard to be repaired is being written.
        MissingError: the backend cannot run here.
        RunError: the disk failed during a repair.
    """
    root = Path(path)
    spec, layout = read_spec(root)
    plan = store_plan(spec, layout)
    renderer = backends.choose(backend) if render or repair else None
    problems = _check_skeleton(root, plan, repair)
    nbytes = 0
    with ThreadPoolExecutor(_writer.worker_count(workers)) as pool:
        checks = [pool.submit(_check_shard, root, plan, s, renderer if render else None) for s in plan.shards]
        for done, (shard, check) in enumerate(zip(plan.shards, checks, strict=True), start=1):
            problem, size = check.result()
            nbytes += size
            if problem is not None and repair:
                assert renderer is not None
                fields = None if render else read_record(root, plan, shard)  # compared with the formula: trusted
                digest = fields["digest"] if fields is not None else None
                _writer.rewrite_shard(root, plan, shard, renderer, set(shard.videos) - set(problem.videos), digest)
                problem = _mended(problem)
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(plan.shards))
    return Verified(plan.videos, nbytes, tuple(problems))


def _mended(p: Problem) -> Problem:
    return Problem(p.path, p.what, p.split, p.videos, repaired=True)


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
        per_video, chunks = plan.chunks_a_video, plan.layout.shard_videos * plan.chunks_a_video
        try:
            index, index_bytes = read_index(fd, chunks)
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
                for entry in index[i * per_video : (i + 1) * per_video]:
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


# --- everything that is no shard


def _check_skeleton(root: Path, plan: Plan, repair: bool) -> list[Problem]:
    """Compare metadata and small arrays with freshly made ones; report files that do not belong to the store."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "fresh"
        with _writer.disk_errors(fresh):
            _layout.build_skeleton(fresh, plan.spec, plan.layout)
        expected = _layout.skeleton_files(fresh)
        for name in sorted(expected):
            what = _compare(root / name, fresh / name)
            if what:
                if repair:
                    with _writer.disk_errors(root / name):
                        (root / name).parent.mkdir(parents=True, exist_ok=True)
                        _writer.write_synced(root / name, (fresh / name).read_bytes())
                problems.append(Problem(name, what, repaired=repair))
    live = dict(p for f in {(root / s.key).parent for s in plan.shards} for p in live_partials(f))
    expected |= {s.key for s in plan.shards} | {f"{s.key}{RECORD}" for s in plan.shards}
    for name in sorted(_layout.skeleton_files(root) - expected):
        if name.endswith(PARTIAL):
            alive = live.get(root / name, False)
            if repair and not alive:
                with _writer.disk_errors(root / name):
                    alive = not remove_dead(root / name)
            if alive:
                problems.append(Problem(name, "is being written by a process that is running"))
            else:
                problems.append(Problem(name, "left by a writer that was killed", repaired=repair))
        else:
            problems.append(Problem(name, "does not belong to this store; remove it by hand"))
    return problems


def _compare(there: Path, fresh: Path) -> str:
    """What is wrong with a file, or nothing. Other versions of zarr may space their JSON otherwise: that is no damage."""
    try:
        data = there.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    expected = fresh.read_bytes()
    if data == expected:
        return ""
    if fresh.name == "zarr.json":
        try:
            if json.loads(data) == json.loads(expected):
                return ""
        except ValueError:
            pass
        return "the metadata is damaged"
    return "labels or parameters are damaged"

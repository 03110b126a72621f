"""Renders the shards that a store is owed: resumable at any moment, byte-identical however often it was stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vpngen import backends
from vpngen.backends import Backend
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
from vpngen.generators import Pixels
from vpngen.rendering import recipes
from vpngen.spec import Spec
from vpngen.store import layout as _layout
from vpngen.store.layout import RECORD, Layout, Plan, Shard, is_finished, read_spec, store_plan
from vpngen.store.locks import PARTIAL, live_partials, open_partial
from vpngen.store.shard import CRC_BYTES, ShardWriter, encode_video, read_chunk, read_index
from vpngen.units import size_text, usable_cpus

SPARE_BYTES: Final = 64 * 2**20
"""Disk space that a run leaves free."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: videos done and to do in it, bytes that have gone to disk."""

    done: int
    total: int
    nbytes: int


@dataclass(frozen=True)
class Written:
    """What a run did: videos rendered, videos that were there before, bytes written, wall seconds."""

    rendered: int
    kept: int
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run will take: bytes on disk, wall seconds, and stored bytes for each byte of pixels."""

    nbytes: int
    seconds: float
    ratio: float


def write(
    spec: Spec,
    path: str | Path,
    *,
    codec: str = "none",
    backend: str = "auto",
    workers: int | None = None,
    part: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    shard_videos: int = _layout.SHARD_VIDEOS,
    progress: Callable[[Progress], None] | None = None,
) -> Written:
    """Write the videos of `spec` as a sharded Zarr v3 store, or complete the one that is there.

    Args:
        spec: the dataset.
        path: the store, a folder.
        codec: `none` or `zstd`.
        backend: as for `vpngen.render`.
        workers: threads, each with a shard of its own; None for all processors that this process may use.
        part: (I, N): do slice I of N; the slices of a store may run at the same time, on one machine or many.
        overwrite: replace a store that vpngen made, whatever is in it.
        shard_videos: videos in a shard file.
        progress: called from the calling thread after each video.

    Returns:
        What was done. A store that was finished renders nothing.

    Raises:
        ArgumentError: an argument out of range.
        ConflictError: `path` holds something else, or another process is writing the same shards.
        MissingError: the backend cannot run here, or the disk is too small.
        RunError: the disk failed or filled up; what was finished stays, and the same call goes on from there.
    """
    start = time.monotonic()
    threads = worker_count(workers)
    renderer = backends.choose(backend)
    plan = store_plan(spec, Layout(codec, shard_videos), part)
    root = Path(path)
    _check_place(root, plan, overwrite)
    todo = list(plan.shards) if overwrite else owed(root, plan)
    needed = estimate(plan, todo, renderer).nbytes if codec != "none" and todo else None
    check_space(root, plan, todo, needed, reclaimed=stored_bytes(root) if overwrite else 0)
    with _disk_errors(root):
        _prepare(root, plan, overwrite)
    todo = owed(root, plan)
    run = _Run(root, plan, renderer)
    try:
        run.go(todo, threads, progress)
    except BaseException:
        run.drop()
        raise
    return Written(run.videos, plan.videos - sum(s.count for s in todo), run.nbytes, time.monotonic() - start)


def owed(root: Path, plan: Plan) -> list[Shard]:
    """The shards of the plan that have no valid record at `root`."""
    return [s for s in plan.shards if not is_finished(root, plan, s)]


def worker_count(workers: int | None) -> int:
    """`workers`, or the processors that this process may use. Raises ArgumentError."""
    if workers is None:
        return usable_cpus()
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024:
        raise ArgumentError(f"`workers` (={workers!r}) must be an integer from 1 to 1024")
    return workers


# --- before the run


def _check_place(root: Path, plan: Plan, overwrite: bool) -> None:
    try:
        os.fsencode(root)
        str(root).encode()
    except (UnicodeEncodeError, ValueError):
        raise ArgumentError(f"`path` (={str(root)!r}) is not valid UTF-8; Zarr stores need a path that is") from None
    try:
        if (root.is_dir() and not any(root.iterdir())) or not root.exists():
            _check_writable(root)
            return
    except OSError as error:
        raise MissingError(f"`path` (={str(root)!r}) cannot be used: {error.strerror}") from None
    try:
        there, layout = read_spec(root)
    except ConflictError as error:
        raise ConflictError(f"{error}; it was left untouched: choose another path, or remove it by hand") from None
    if overwrite:
        for folder in root.glob("*/video"):
            for partial, alive in live_partials(folder):
                if alive:
                    raise ConflictError(f"another process is writing {partial}; it was left untouched")
        return
    different = _layout.differences(
        {**there.to_dict(), **asdict(layout)}, {**plan.spec.to_dict(), **asdict(plan.layout)}
    )
    if different:
        raise ConflictError(
            f"{str(root)!r} holds another dataset; it was left untouched. The difference:\n  "
            + "\n  ".join(different)
            + "\nChoose another path, or give --overwrite to replace it"
        )
    _check_writable(root)


def _check_writable(root: Path) -> None:
    folder = root if root.is_dir() else _existing(root.absolute().parent)
    if not folder.is_dir():
        raise ArgumentError(f"`path` (={str(root)!r}): {str(folder)!r} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MissingError(f"`path` (={str(root)!r}): no permission to write in {str(folder)!r}; choose another path")


def free_bytes(root: Path) -> int:
    """What a store at `root` may take of its disk, in bytes."""
    return max(shutil.disk_usage(_existing(root.absolute())).free - SPARE_BYTES, 0)


def stored_bytes(root: Path) -> int:
    """Bytes of all files below `root`."""
    return sum(p.stat().st_size for p in root.rglob("*") if p.is_file())


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_space(root: Path, plan: Plan, todo: list[Shard], needed: int | None = None, reclaimed: int = 0) -> None:
    """Raise MissingError unless the disk of `root` holds what is to be rendered; the message names what would fit.

    `needed` is the estimate in bytes, None for uncompressed videos; `reclaimed` is what --overwrite frees.
    """
    videos = sum(s.count for s in todo)
    raw = videos * plan.spec.video_bytes
    if needed is None:
        needed = raw + videos * plan.chunks_a_video * 20
    free = free_bytes(root) + reclaimed
    if needed <= free:
        return
    each = needed / videos * plan.spec.n_categories
    fits = max(int(free / each), 0)
    ideas = [f"--instances {fits} fits"] if fits else []
    if plan.layout.codec == "none":
        ideas.append(f"--codec zstd takes about half, so up to --instances {int(free / each * 2)}")
    ideas.append("fewer --categories take less; vpngen.render() needs no disk at all")
    raise MissingError(
        f"{size_text(needed)} are needed for {videos:,} videos ({size_text(raw)} of pixels), but {size_text(free)} "
        f"are free at {str(_existing(root.absolute()))!r}. " + "; ".join(ideas)
    )


def estimate(
    plan: Plan, todo: list[Shard], renderer: Backend, workers: int = 1, trial_seconds: float = 1.0
) -> Estimate:
    """Bytes and time for the shards `todo`, from rendering and encoding a few videos spread over them."""
    videos = sum(s.count for s in todo)
    if not videos:
        return Estimate(0, 0.0, 0.0)
    stored, seconds, count = 0, 0.0, 0
    video = np.empty(plan.spec.shape, np.uint8)
    _render_into(plan, todo[0].split, todo[0].first, renderer, video)  # compiled and warm from here on
    for i in np.random.default_rng(0).permutation(min(videos, 16)):
        shard = todo[int(i) * len(todo) // min(videos, 16)]
        start = time.perf_counter()
        _render_into(plan, shard.split, shard.first + int(i) * shard.count // 16 % shard.count, renderer, video)
        chunks = encode_video(video, plan.layout.codec, plan.layout.chunk_frames)
        seconds += time.perf_counter() - start
        stored += sum(len(payload) + len(checksum) + 16 for payload, checksum in chunks)
        count += 1
        if seconds > trial_seconds:
            break
    return Estimate(
        round(stored / count * videos), seconds / count * videos / workers, stored / count / plan.spec.video_bytes
    )


def _render_into(plan: Plan, split: str, index: int, renderer: Backend, video: Pixels) -> None:
    rows = recipes(plan.spec, np.array([index]), split, renderer, 1)
    renderer.render(plan.spec.generator.name, rows, WHOLE, video[None], 1)


WHOLE: Final = np.array([[0, 1, 0, 0, 0]], np.int32)


def _prepare(root: Path, plan: Plan, overwrite: bool) -> None:
    """Make the store without its shards, in one step: it is built beside its place and renamed into it."""
    exists = root.is_dir() and any(root.iterdir())
    if exists and not overwrite:
        return
    root.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = root.absolute().parent / f".{root.name}.{uuid.uuid4().hex[:8]}"
    try:
        _layout.build_skeleton(beside, plan.spec, plan.layout)
        old = None
        if exists:
            old = beside.with_name(beside.name + ".old")
            os.rename(root, old)
        try:
            os.rename(beside, root)
        except OSError as error:  # another process made the store since we looked
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _check_place(root, plan, False)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk of {str(path)!r} is full. What was finished stays; free some space and give the same command again"
            ) from error
        raise RunError(
            f"{error.filename or str(path)!r}: {error.strerror or error}. What was finished stays; the same command goes on from there"
        ) from error


# --- the run


class _Run:
    """The workers of one call: each takes the next shard, renders its videos and hands the file over to be synced."""

    def __init__(self, root: Path, plan: Plan, renderer: Backend) -> None:
        self.root, self.plan, self.renderer = root, plan, renderer
        self.videos = 0
        self.nbytes = 0
        self._stop = threading.Event()
        self._news: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._crew: ThreadPoolExecutor | None = None
        self._syncers: ThreadPoolExecutor | None = None

    def go(self, todo: list[Shard], threads: int, progress: Callable[[Progress], None] | None) -> None:
        """Render the shards; returns when all are on disk, raises the first error of any worker."""
        total = sum(s.count for s in todo)
        waiting: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in todo:
            waiting.put(shard)
        threads = min(threads, len(todo))
        if not threads:
            return
        self._crew = ThreadPoolExecutor(threads, "vpngen-render")
        self._syncers = ThreadPoolExecutor(threads, "vpngen-sync")
        inner = max(1, worker_count(None) // threads) if len(todo) <= threads else 1
        work: list[Future[None]] = [self._crew.submit(self._work, waiting, inner) for _ in range(threads)]
        while not all(w.done() for w in work) or not self._news.empty():
            try:
                nbytes = self._news.get(timeout=0.2)
            except queue.Empty:
                continue
            if nbytes is None:
                continue
            self.videos += 1
            self.nbytes += nbytes
            if progress is not None:
                progress(Progress(self.videos, total, self.nbytes))
        for w in work:
            w.result()
        self._crew.shutdown()
        self._syncers.shutdown()

    def drop(self) -> None:
        """Stop the workers; the shards in their hands are dropped."""
        self._stop.set()
        for pool in (self._crew, self._syncers):
            if pool is not None:
                pool.shutdown()

    def _work(self, waiting: queue.SimpleQueue[Shard], threads: int) -> None:
        assert self._syncers is not None
        video = np.empty(self.plan.spec.shape, np.uint8)
        syncing: Future[None] | None = None
        try:
            while not self._stop.is_set():
                try:
                    shard = waiting.get_nowait()
                except queue.Empty:
                    break
                with _disk_errors(self.root / shard.key):
                    done = self._render(shard, video, threads)
                if syncing is not None:
                    syncing.result()
                    syncing = None
                if done is not None:
                    syncing = self._syncers.submit(publish, self.root, self.plan, shard, *done)
            if syncing is not None:
                syncing.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._news.put(None)

    def _render(self, shard: Shard, video: Pixels, threads: int) -> tuple[int, int, str] | None:
        """Write the partial file of a shard: (open file, size, digest), or None if it is finished or was dropped."""
        final = self.root / shard.key
        fd = open_partial(final)
        try:
            finished = is_finished(self.root, self.plan, shard)  # by another process, since this one made its list
            done = None if finished else self._fill(shard, fd, video, threads)
            if done is None:
                os.unlink(f"{final}{PARTIAL}")
                os.close(fd)
                return None
            return (fd, *done)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(f"{final}{PARTIAL}")
            os.close(fd)
            raise

    def _fill(self, shard: Shard, fd: int, video: Pixels, threads: int) -> tuple[int, str] | None:
        plan = self.plan
        out = ShardWriter(fd, plan.layout.shard_videos * plan.chunks_a_video)
        indices = np.arange(shard.first, shard.first + shard.count)
        rows = recipes(plan.spec, indices, shard.split, self.renderer, threads)
        for i in range(shard.count):
            if self._stop.is_set():
                return None
            self.renderer.render(plan.spec.generator.name, rows[i : i + 1], WHOLE, video[None], threads)
            before = out.size
            out.add(encode_video(video, plan.layout.codec, plan.layout.chunk_frames))
            self._news.put(out.size - before)
        return out.finish()


def publish(root: Path, plan: Plan, shard: Shard, fd: int, size: int, digest: str) -> None:
    """Sync a partial file and give it its name, then its record; closes `fd`, which holds the lock to the end."""
    final = root / shard.key
    try:
        with _disk_errors(final):
            os.fsync(fd)
            with contextlib.suppress(FileNotFoundError):  # a record that speaks of another file
                os.unlink(f"{final}{RECORD}")
            os.replace(f"{final}{PARTIAL}", final)
            sync_folder(final.parent)
            write_synced(Path(f"{final}{RECORD}"), _layout.record(plan, shard, size, digest))
    finally:
        os.close(fd)


def rewrite_shard(root: Path, plan: Plan, shard: Shard, renderer: Backend, keep: set[int]) -> None:
    """Write a shard anew: the chunks of the videos `keep` are copied from the old file, the others are rendered.

    Raises:
        ConflictError: another process is writing this shard.
        RunError: the disk failed; the old shard is still there.
    """
    final = root / shard.key
    with _disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        fd = open_partial(final)
        old = os.open(final, os.O_RDONLY) if keep else -1
        try:
            out = ShardWriter(fd, plan.layout.shard_videos * plan.chunks_a_video)
            index = read_index(old, plan.layout.shard_videos * plan.chunks_a_video)[0] if keep else None
            video = np.empty(plan.spec.shape, np.uint8)
            for i in range(shard.count):
                if shard.first + i in keep and index is not None:
                    entries = index[i * plan.chunks_a_video : (i + 1) * plan.chunks_a_video]
                    stored = [read_chunk(old, entry) for entry in entries]
                    out.add([(data[:-CRC_BYTES], data[-CRC_BYTES:]) for data in stored])
                else:
                    _render_into(plan, shard.split, shard.first + i, renderer, video)
                    out.add(encode_video(video, plan.layout.codec, plan.layout.chunk_frames))
            size, digest = out.finish()
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(f"{final}{PARTIAL}")
            os.close(fd)
            raise
        finally:
            if old >= 0:
                os.close(old)
    publish(root, plan, shard, fd, size, digest)


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file under a temporary name, sync it, give it its name and sync the folder. Raises OSError."""
    temporary = path.with_name(path.name + PARTIAL)
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

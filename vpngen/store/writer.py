"""Renders the shards that a store is owed: resumable at any moment, byte-identical however often it was stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import re
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
from vpngen.spec import Spec
from vpngen.store import layout as _layout
from vpngen.store.encoding import encoding
from vpngen.store.layout import RECORD, Layout, Plan, Shard, is_finished, read_spec, store_plan
from vpngen.store.locks import PARTIAL, live_partials, lock_folder, open_partial
from vpngen.store.shard import CRC_BYTES, INDEX_BYTES, ShardWriter, read_chunk, read_index
from vpngen.units import size_text, usable_cpus

TRIAL_VIDEOS: Final = 48
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
    """What a run did: videos rendered, videos there before, videos that another process rendered meanwhile, bytes, wall seconds."""

    rendered: int
    kept: int
    elsewhere: int
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
    shard_videos: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Written:
    """Write the videos of `spec` as a sharded Zarr v3 store, or complete the one that is there.

    Args:
        spec: the dataset.
        path: the store, a folder.
        codec: `none`, `zstd`, or `formula`: recipes in place of pixels, for readers that have vpngen.
        backend: as for `vpngen.render`.
        workers: threads, each with a shard of its own; None for all processors that this process may use.
        part: (I, N): do slice I of N; the slices of a store may run at the same time, on one machine or many.
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
    threads = worker_count(workers)
    renderer = backends.choose(backend)
    plan = store_plan(spec, Layout(codec, shard_videos), part)
    if overwrite and part[1] > 1:
        raise ArgumentError(
            f"replaces the whole store, also what the other slices did, so it cannot be given with "
            f"`slice` (={part[0]}/{part[1]}); remove the store by hand, then start the slices",
            "overwrite",
        )
    _check_name(path)
    root = Path(os.path.realpath(path))  # a link to a folder on another disk stays, the store comes where it points
    check_place(root, plan, overwrite)
    todo = list(plan.shards) if overwrite else owed(root, plan)
    reclaimed = stored_bytes(root) if overwrite else 0
    try:
        check_space(root, plan, todo, reclaimed=reclaimed)
    except MissingError:  # it may fit when compressed: that takes a trial to know
        if encoding(plan).exact:
            raise
        check_space(root, plan, todo, estimate(plan, todo, renderer).nbytes, reclaimed)
    with disk_errors(root):
        _prepare(root, plan, overwrite)
    todo = owed(root, plan)
    run = _Run(root, plan, renderer)
    try:
        run.go(todo, threads, progress)
    except BaseException:
        run.drop()
        raise
    wanted = sum(s.count for s in todo)
    return Written(run.videos, plan.videos - wanted, wanted - run.videos, run.nbytes, time.monotonic() - start)


def owed(root: Path, plan: Plan) -> list[Shard]:
    """The shards of the plan that have no valid record at `root`."""
    return [s for s in plan.shards if not is_finished(root, plan, s)]


def worker_count(workers: int | None) -> int:
    """`workers`, or the processors that this process may use. Raises ArgumentError."""
    if workers is None:
        return usable_cpus()
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024:
        raise ArgumentError("must be an integer from 1 to 1024", "workers", workers)
    return workers


# --- before the run


def _check_name(path: str | Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ArgumentError("is not valid UTF-8; Zarr stores need a path that is", "path", str(path)) from None
    if "\0" in str(path):
        raise ArgumentError("must not contain a zero byte", "path", str(path))


def check_place(root: Path, plan: Plan, overwrite: bool) -> None:
    """Raise as `write` does where it would not take the place `root` for this plan; changes nothing."""
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
        raise ArgumentError(f"cannot be made: {str(folder)!r} is a file, not a folder", "path", root)
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

    `needed` is the estimate in bytes, None for the most that it can be; `reclaimed` is what --overwrite frees.
    """
    videos = sum(s.count for s in todo)
    raw = videos * plan.spec.video_bytes
    if needed is None:
        needed = videos * encoding(plan).most_bytes
    free = free_bytes(root) + reclaimed
    if needed <= free:
        return
    each = needed / videos * plan.spec.n_categories
    fits = max(int(free / each), 0)
    ideas = [f"--instances {fits} fits"] if fits else []
    if plan.layout.codec == "none":
        ideas.append(f"--codec zstd takes about half, so up to --instances {int(free / each * 2)}")
    if plan.layout.codec != "formula":
        recipes = videos * encoding(Plan(plan.spec, Layout("formula"), ())).most_bytes
        ideas.append(f"--codec formula takes {size_text(recipes)}, for readers that have vpngen")
    ideas.append("fewer --categories take less; vpngen.render() needs no disk at all")
    raise MissingError(
        f"{size_text(needed)} are needed for {videos:,} videos ({size_text(raw)} of pixels), but {size_text(free)} "
        f"are free at {str(_existing(root.absolute()))!r}. " + "; ".join(ideas)
    )


def estimate(
    plan: Plan, todo: list[Shard], renderer: Backend, workers: int = 1, trial_seconds: float = 3.0
) -> Estimate:
    """Bytes and time for the shards `todo`, from rendering and encoding some of their videos, drawn at random.

    Videos compress to between 0.2 and 0.9 of their size, so with 48 of them the estimate is good to about a twentieth.
    """
    videos = sum(s.count for s in todo)
    if not videos:
        return Estimate(0, 0.0, 0.0)
    stored, seconds, count = 0, 0.0, 0
    how = encoding(plan)
    next(how.contents(todo[0].split, [todo[0].first], renderer))  # compiled and warm from here on
    rng = np.random.default_rng(0)
    for _ in range(TRIAL_VIDEOS):
        shard = todo[rng.integers(len(todo))]
        start = time.perf_counter()
        some = shard.videos[int(rng.integers(shard.count)) :][: how.together]
        for content in how.contents(shard.split, some, renderer):
            chunks = how.encode(content)
            stored += sum(len(payload) + len(checksum) + INDEX_BYTES for payload, checksum in chunks)
        seconds += time.perf_counter() - start
        count += len(some)
        if seconds > trial_seconds:
            break
    return Estimate(
        round(stored / count * videos), seconds / count * videos / workers, stored / count / plan.spec.video_bytes
    )


def _prepare(root: Path, plan: Plan, overwrite: bool) -> None:
    """Make the store without its shards, in one step: it is built beside its place and renamed into it."""
    _sweep(root)
    exists = root.is_dir() and any(root.iterdir())
    if exists and not overwrite:
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    beside, lock = _new_folder_beside(root)
    old, old_lock = beside.with_name(beside.name + ".old"), None
    try:
        _layout.build_skeleton(beside, plan.spec, plan.layout)
        sync_tree(beside)
        if exists:
            old_lock = lock_folder(root)
            os.rename(root, old)
        try:
            os.rename(beside, root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if exists:
                    os.rename(old, root)
                raise
            check_place(root, plan, False)  # another process made the store since we looked
        sync_folder(root.parent)
        if exists:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for fd in (lock, old_lock):
            if fd is not None:
                os.close(fd)


def _new_folder_beside(root: Path) -> tuple[Path, int | None]:
    """A new folder in the place of `root`, locked where the system can, so that `_sweep` knows it from a killed run's."""
    while True:
        folder = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.vpngen"
        folder.mkdir()
        lock = lock_folder(folder)
        if folder.exists():  # else another process swept it before it was locked
            return folder, lock
        if lock is not None:
            os.close(lock)


def _sweep(root: Path) -> None:
    """Remove what killed runs left beside the store: half-made skeletons, and stores that were being replaced."""
    ours = re.compile(rf"\.{re.escape(root.name)}\.[0-9a-f]{{8}}\.vpngen(\.old)?")
    with contextlib.suppress(OSError):
        for folder in root.parent.iterdir():
            if ours.fullmatch(folder.name) and (lock := lock_folder(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Whatever the operating system refuses becomes a RunError that says how to go on."""
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
        self._held: list[tuple[Shard, ConflictError]] = []
        self._crew: ThreadPoolExecutor | None = None
        self._syncers: ThreadPoolExecutor | None = None

    def go(self, todo: list[Shard], threads: int, progress: Callable[[Progress], None] | None) -> None:
        """Render the shards; returns when all are on disk, raises the first error of any worker.

        Shards that another process is writing are left for the end: by then it has finished them, or it was killed and
        they are rendered here, or it is at them still, which is an error. Runs that are told so have nothing left to do, and
        together all runs complete the set.
        """
        total = sum(s.count for s in todo)
        self._round(todo, threads, total, progress)
        before: list[Shard] = []
        while held := [(shard, error) for shard, error in self._held if not is_finished(self.root, self.plan, shard)]:
            again, self._held = [shard for shard, _ in held], []
            if again == before:
                raise held[0][1]
            before = again
            self._round(again, threads, total, progress)

    def _round(self, todo: list[Shard], threads: int, total: int, progress: Callable[[Progress], None] | None) -> None:
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
        while threads:
            try:
                nbytes = self._news.get(timeout=0.2)  # not for ever: a signal could not be handled meanwhile everywhere
            except queue.Empty:
                continue
            if nbytes is None:  # the last word of each worker
                threads -= 1
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
        syncing: Future[None] | None = None
        try:
            while not self._stop.is_set():
                try:
                    shard = waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    with disk_errors(self.root / shard.key):
                        done = self._render(shard, threads)
                except ConflictError as error:
                    self._held.append((shard, error))
                    continue
                if done is not None:
                    before, syncing = syncing, self._syncers.submit(publish, self.root, self.plan, shard, *done)
                    if before is not None:
                        before.result()
            if syncing is not None:
                syncing.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._news.put(None)

    def _render(self, shard: Shard, threads: int) -> tuple[int, int, str] | None:
        """Write the partial file of a shard: (open file, size, digest), or None if it is finished or was dropped."""
        final = self.root / shard.key
        fd = open_partial(final)
        try:
            finished = is_finished(self.root, self.plan, shard)  # by another process, since this one made its list
            done = None if finished else self._fill(shard, fd, threads)
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

    def _fill(self, shard: Shard, fd: int, threads: int) -> tuple[int, str] | None:
        how = encoding(self.plan)
        out = ShardWriter(fd, self.plan.layout.shard_videos * self.plan.chunks_a_video)
        for content in how.contents(shard.split, shard.videos, self.renderer, threads):
            if self._stop.is_set():
                return None
            before = out.size
            out.add(how.encode(content))
            self._news.put(out.size - before)
        return out.finish()


def publish(root: Path, plan: Plan, shard: Shard, fd: int, size: int, digest: str) -> None:
    """Sync a partial file and give it its name, then its record; closes `fd`, which holds the lock to the end."""
    final = root / shard.key
    try:
        with disk_errors(final):
            os.fsync(fd)
            with contextlib.suppress(FileNotFoundError):  # a record that speaks of another file
                os.unlink(f"{final}{RECORD}")
            os.replace(f"{final}{PARTIAL}", final)
            sync_folder(final.parent)
            write_synced(Path(f"{final}{RECORD}"), _layout.record(plan, shard, size, digest))
    except BaseException:
        with contextlib.suppress(OSError):  # gone already where it has its name
            if os.path.samestat(os.stat(f"{final}{PARTIAL}"), os.fstat(fd)):
                os.unlink(f"{final}{PARTIAL}")
        raise
    finally:
        os.close(fd)


def rewrite_shard(
    root: Path, plan: Plan, shard: Shard, renderer: Backend, keep: set[int], digest: str | None = None
) -> None:
    """Write a shard anew: the chunks of the videos `keep` are copied from the old file, the others are rendered.

    `digest` is what the mended shard has to come to. Where it does not, the videos kept were intact but not those of
    this shard, and all are rendered; None trusts them.

    Raises:
        ConflictError: another process is writing this shard.
        RunError: the disk failed; the old shard is still there.
    """
    final = root / shard.key
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        fd = open_partial(final)
        try:
            size, made = _refill(fd, final, plan, shard, renderer, keep)
            if keep and digest not in (None, made):
                os.ftruncate(fd, 0)
                os.lseek(fd, 0, os.SEEK_SET)
                size, made = _refill(fd, final, plan, shard, renderer, set())
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(f"{final}{PARTIAL}")
            os.close(fd)
            raise
    publish(root, plan, shard, fd, size, made)


def _refill(fd: int, old: Path, plan: Plan, shard: Shard, renderer: Backend, keep: set[int]) -> tuple[int, str]:
    per_video, chunks = plan.chunks_a_video, plan.layout.shard_videos * plan.chunks_a_video
    how, out = encoding(plan), ShardWriter(fd, chunks)
    with open(old, "rb") if keep else contextlib.nullcontext() as file:
        index = read_index(file.fileno(), chunks)[0] if file else None
        for i, video in enumerate(shard.videos):
            if video in keep and file and index is not None:
                stored = [read_chunk(file.fileno(), e) for e in index[i * per_video : (i + 1) * per_video]]
                out.add([(data[:-CRC_BYTES], data[-CRC_BYTES:]) for data in stored])
            else:
                out.add(how.encode(next(how.contents(shard.split, [video], renderer))))
    return out.finish()


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file under a temporary name, sync it, give it its name and sync the folder. Raises OSError."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Make all files below a folder durable. Raises OSError."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "r+b") as file:
                os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

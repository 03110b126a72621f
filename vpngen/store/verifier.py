"""Checks a store against what it says it is, and with rendering against the formula; repairs what is damaged."""

from __future__ import annotations

import errno
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from vpngen import backends
from vpngen.backends import Backend
from vpngen.checks import thread_count
from vpngen.errors import ConflictError, RunError
from vpngen.files import DEEPEST, Folder, parse_json
from vpngen.spec import SPLITS, Spec
from vpngen.store.formula import CRC_BYTES, DamageError
from vpngen.store.layout import (
    RECORD,
    TABLE_CHUNK,
    VIDEO,
    Layout,
    Plan,
    Shard,
    Shards,
    all_shards,
    differences,
    growing,
    packed_tables,
    read_record,
    read_store,
    recorded,
    recorded_layout,
    shards_there,
    skeleton,
    store_plan,
)
from vpngen.store.packing import (
    MISSING,
    Chunk,
    ShardData,
    UnfinishedError,
    check_record,
    encoding,
    index_bytes,
    read_chunks,
    read_index,
    render_shard,
    shard_digest,
    shard_record,
)
from vpngen.store.places import Place, Where, place_of
from vpngen.store.targets import target_of
from vpngen.store.targets.base import Target
from vpngen.store.targets.local import IN_THE_WAY, disk_errors

READERS: Final = 16
"""Threads that read objects, at least: most of the time they wait."""
WRITING: Final = "is being written by a process that is running"
_Found = tuple["Problem | None", int]
"""What is wrong with a shard, and the bytes of its files."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the file, within the store; of shards that are missing one after the other, the first.
        what: what is wrong with it.
        split: of the videos it concerns; empty where it concerns none.
        videos: the indices of the damaged videos: a tuple, or the range of several missing shards.
        repaired: whether it was repaired.
        pending: whether it is no damage: what is not rendered yet, which the next run does, or is being written.
    """

    path: str
    what: str
    split: str = ""
    videos: Sequence[int] = ()
    repaired: bool = False
    pending: bool = False


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

    @property
    def damaged(self) -> bool:
        """A problem is left that another run does not end."""
        return not all(p.repaired or p.pending for p in self.problems)

    @property
    def being_written(self) -> bool:
        """A process is writing it."""
        return any(p.what == WRITING for p in self.problems)

    def videos_of(self, pending: bool) -> int:
        """The number of videos that are not there: damaged, or pending."""
        return sum(len(p.videos) for p in self.problems if p.pending is pending and not p.repaired)


def verify(
    where: Where,
    *,
    render: bool = False,
    repair: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    spec: Spec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Check every file of a store: metadata, labels and parameters, records, digests, each chunk's checksum.

    Without `render` the pixels are not compared with the formula: a shard of other pixels passes if its record was made for it.

    Args:
        where: the store: its path, a URL, or a store of obstore.
        render: also render every video and compare all its pixels with the stored ones; with codec `formula`, compare
            its parameters.
        repair: render the damaged videos again and repair the files; the intact ones are kept as they are. What has a
            link or a folder in its place stays a problem.
        backend: as for `vpngen.render`.
        threads: CPU threads; None for all that this process may use.
        spec: what the store holds, for one whose root metadata is damaged; the records of its shards must agree.
        progress: called with (shards done, shards).

    Raises:
        ArgumentError: nothing is there, no such backend, or `threads` is out of range.
        ConflictError: it is no store of ours, its root metadata is damaged, it holds another set than `spec`, or a shard
            to be repaired is being written.
        MissingError: the backend cannot run here.
        RunError: the disk failed during a repair, or the object store.
    """
    place, backend = place_of(where, argument="store"), backends.known(backend)
    spec, layout, earlier = _held(place, spec)
    plan, target = store_plan(spec, layout), target_of(place)
    if earlier and repair:
        target.prepare(plan)
        earlier = read_store(place)[2]
    renderer = backends.choose(backend, plan.spec.generator) if render or repair else None
    threads = thread_count(threads)
    work = _Work(plan, target, renderer if render else None, renderer if repair else None, earlier)
    problems = [*work.metadata(), *work.tables(), *work.strangers()]
    nbytes, done = 0, 0
    threads = threads if isinstance(place, Folder) else max(threads, READERS)
    with ThreadPoolExecutor(threads) as pool:
        for shards, (problem, size) in _in_order(pool, work.look, work.runs(), 4 * threads):
            nbytes += size
            if problem is not None:
                problems.append(work.repaired(shards[0], problem) if repair else problem)
            done += len(shards)
            if progress is not None:
                progress(done, len(plan.shards))
    if earlier:
        if repair:
            target.settle(plan)
        repaired = repair and not read_store(place)[2]
        problems.insert(0, Problem("zarr.json", _growth(plan.spec, earlier), repaired=repaired, pending=True))
    return Verified(plan.videos, nbytes, tuple(problems))


def _growth(spec: Spec, earlier: Sequence[Spec]) -> str:
    """What is said of a set that is being grown."""
    name = "instances" if earlier[-1].instances != spec.instances else "val_instances"
    return f"the set is being grown from {getattr(earlier[-1], name):,} to {getattr(spec, name):,} {name}"


def _held(place: Place, spec: Spec | None) -> tuple[Spec, Layout, tuple[Spec, ...]]:
    """What a store holds, see `read_store`; where its root metadata is damaged, what `spec` and the records say. Raises as `verify`."""
    try:
        found, layout, earlier = read_store(place)
    except ConflictError as error:
        if spec is not None and (recorded := recorded_layout(place, spec)) is not None:
            return spec, recorded, ()
        if not any(_numbers(place, split, RECORD) for split in SPLITS):
            raise
        remedy = "`vpngen render` with the options that made it mends it, and `vpngen verify --repair --spec FILE`"
        other = "" if spec is None else "; the records of its shards are of another spec, or damaged"
        raise ConflictError(f"{error}{other}; {remedy}") from None
    if spec is not None and spec != found:
        lines = "\n  ".join(differences(found.to_dict(), spec.to_dict()))
        raise ConflictError(f"{str(place)!r} holds another dataset than `spec`. The difference:\n  {lines}")
    return found, layout, earlier


def _numbers(place: Place, split: str, suffix: str = "") -> set[int]:
    """As `shards_there`; none where the folder cannot be read."""
    try:
        return shards_there(place, split, suffix)
    except OSError:
        return set()


def _in_order(
    pool: Executor, look: Callable[[Shards], _Found], runs: Iterable[Shards], ahead: int
) -> Iterator[tuple[Shards, _Found]]:
    """Each run of shards and what is found of it, in order; as many as `ahead` are looked at meanwhile."""
    waiting: deque[tuple[Shards, Future[_Found]]] = deque()
    for run in runs:
        waiting.append((run, pool.submit(look, run)))
        if len(waiting) > ahead:
            first, found = waiting.popleft()
            yield first, found.result()
    for first, found in waiting:
        yield first, found.result()


@dataclass(frozen=True)
class _Work:
    """A store that is checked: compared with `renderer` where there is one, and repaired with `repairer`.

    Of the sets in `earlier`, which it is being grown from, metadata and tables may still be there.
    """

    plan: Plan
    target: Target
    renderer: Backend | None
    repairer: Backend | None
    earlier: tuple[Spec, ...] = ()

    @property
    def place(self) -> Place:
        return self.target.place

    def metadata(self) -> Iterator[Problem]:
        """What is wrong with the `zarr.json` files."""
        before = [skeleton(spec, self.plan.layout)[0] for spec in self.earlier]
        for name, fresh in sorted(skeleton(self.plan.spec, self.plan.layout)[0].items()):
            right = [fresh, *(documents[name] for documents in before if name in documents)]
            if name == "zarr.json" and self.earlier:
                right.append(growing(fresh, self.plan, self.earlier))
            try:
                data = self.place.read(name)
                # Other versions of zarr may space their JSON otherwise: that is no damage.
                if data in right or parse_json(data) in map(parse_json, right):
                    continue
                what = "the metadata is damaged"
            except (OSError, ValueError, RecursionError) as error:
                if isinstance(error, FileNotFoundError) and len(right) <= len(before) and name != "zarr.json":
                    continue  # it comes with a split that was not there
                what = f"cannot be read: {getattr(error, 'strerror', error)}"
            yield self.written(Problem(name, what), fresh)

    def written(self, problem: Problem, data: bytes) -> Problem:
        """A problem of a small file, which is repaired where it may be. Raises RunError."""
        if self.repairer is None:
            return problem
        try:
            self.target.write(problem.path, data)
        except RunError as error:
            return replace(problem, what=f"{problem.what}; {_in_the_way(error)}")
        return replace(problem, repaired=True)

    def tables(self) -> Iterator[Problem]:
        """What is wrong with labels and parameters, which are made again a chunk at a time."""
        spec, what = self.plan.spec, "labels or parameters are damaged"
        for split, counts in self._tables().items():
            there = {}
            for table, count in counts.items():
                try:
                    names = set(self.place.names(f"{split}/{table}"))
                except OSError:
                    names = set()
                found = (re.fullmatch(r"c\.(0|[1-9][0-9]{0,11})((?:\.0)*)", name) for name in names)
                rest = ".0" * (len(count) - 1)
                there[table] = {int(m[1]) for m in found if m and m[2] == rest and int(m[1]) < count[0]}
            chunks = next(iter(counts.values()))[0]
            begun = min((-(-s.n_videos(split) // TABLE_CHUNK) for s in self.earlier), default=chunks)
            if self.repairer is None:
                for table, numbers in there.items():
                    for first, last in _gaps([n for n in sorted(numbers) if n < begun], begun):
                        name, until = (
                            f"{split}/{table}/c.{n}" + ".0" * (len(counts[table]) - 1) for n in (first, last)
                        )
                        some = f"{last - first + 1:,} files are missing, up to {until}"
                        yield Problem(name, f"{what}: {some if last > first else 'the file is missing'}")
            for number in sorted(set().union(*there.values())) if self.repairer is None else range(chunks):
                for table, fresh in packed_tables(spec, split, number).items():
                    if number not in there[table] and self.repairer is None:
                        continue
                    name = f"{split}/{table}/c.{number}" + ".0" * (len(counts[table]) - 1)
                    before = [
                        packed_tables(s, split, number)[table]
                        for s in self.earlier
                        if number * TABLE_CHUNK < s.n_videos(split)
                    ]
                    try:
                        if self.place.read(name, max(map(len, (fresh, *before)))) in (fresh, *before):
                            continue
                        problem = Problem(name, what)
                    except OSError as error:
                        large = error.errno == errno.EFBIG
                        problem = Problem(name, what if large else f"cannot be read: {error.strerror}")
                    yield self.written(problem, fresh)

    def _tables(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Split -> table -> its chunks along each axis."""
        _, counts = skeleton(self.plan.spec, self.plan.layout)
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, count in counts.items():
            split, _, table = name.partition("/")
            if table not in self.plan.arrays:
                found.setdefault(split, {})[table] = count
        return found

    def strangers(self) -> Iterator[Problem]:
        """What does not belong to the store, and what writers left."""
        documents, counts = skeleton(self.plan.spec, self.plan.layout)
        folders = {name.rpartition("/")[0] for name in documents}

        def belongs(name: str) -> bool:
            if name in documents:
                return True
            folder, _, last = name.rpartition("/")
            if folder not in counts:
                return False
            split, _, array = folder.partition("/")
            number = re.fullmatch(
                r"c\.(0|[1-9][0-9]{0,11})" + r"\.0" * (len(counts[folder]) - 1), last.removesuffix(RECORD)
            )
            if number is None or (array != VIDEO and last.endswith(RECORD)):
                return False
            count = -(-self.plan.spec.n_videos(split) // self.plan.layout.shard_videos)
            return int(number[1]) < (count if array in self.plan.arrays else counts[folder][0])

        for name, kind in sorted(self.target.walk()):
            if belongs(name) or (name in folders and kind == "folder"):
                continue  # what it holds, or that it is no file, is found elsewhere
            what, repaired, pending = "does not belong to this store; remove it by hand", False, False
            file = self.target.written(name) if kind == "file" else None
            if name in folders:
                what = "a link or a file in the place of a folder; remove it by hand"
            elif kind == "folder":
                if name.count("/") < DEEPEST and self.place.names(name):
                    continue
                what = f"a folder that {what}"
            elif file is not None and belongs(file):
                what, repaired = "left by a writer that was killed", self.repairer is not None
                pending = self._goes_on(file)
                with disk_errors(f"{self.target}/{name}"):
                    try:
                        if self.target.is_live(name, remove=repaired):
                            what, repaired, pending = WRITING, False, True
                    except FileNotFoundError:
                        continue  # its writer ended meanwhile
                    except OSError:
                        if repaired:
                            raise
            yield Problem(name, what, repaired=repaired, pending=pending)

    def _goes_on(self, name: str) -> bool:
        """Whether a run that goes on writes a file: a shard without a record, or what belongs to a set that grows."""
        folder, _, last = name.rpartition("/")
        split, _, array = folder.partition("/")
        unrecorded = array in self.plan.arrays and last.startswith("c.")
        if unrecorded:
            unrecorded = not _is_there(self.place, Shard(split, int(last.split(".")[1]), 0, 0).record)
        return unrecorded or bool(self.earlier) or name == "zarr.json"

    def runs(self) -> Iterator[Shards]:
        """The shards: those that are there, or to be repaired, one by one, the others as they follow each other."""
        shards = all_shards(self.plan.spec, self.plan.layout)
        there = {s: _numbers(self.place, s) | _numbers(self.place, s, RECORD) for s in self.plan.spec.splits}
        for found, run in shards.runs(there):
            if found or self.repairer is None:
                yield run
            else:
                yield from (run[i : i + 1] for i in range(len(run)))

    def look(self, shards: Shards) -> _Found:
        """What is wrong with shards, of which several are missing; and the bytes of their files."""
        first, last = shards[0], shards[-1]
        if len(shards) == 1:
            return _check_shard(self.place, self.plan, first, self.renderer)
        what = f"{len(shards):,} shards are not rendered yet, up to {last.key}"
        return Problem(first.key, what, first.split, range(first.first, last.videos.stop), pending=True), 0

    def repaired(self, shard: Shard, problem: Problem) -> Problem:
        """A problem of a shard, repaired where it may be. Raises ConflictError, RunError."""
        assert self.repairer is not None
        trusted = self.renderer is not None  # compared with the formula
        fields = None if trusted else read_record(self.place, self.plan, shard)
        keep = set(shard.videos).difference(problem.videos)
        digests = {} if fields is None else {array: recorded(fields, array)[1] for array in self.plan.arrays}
        try:
            _repair_shard(self.target, self.plan, shard, self.repairer, keep, digests)
        except RunError as error:
            return replace(problem, what=f"{problem.what}; {_in_the_way(error)}")
        return replace(problem, repaired=True)


def _in_the_way(error: RunError) -> str:
    """What is said of a link or folder that keeps a file from being repaired. Raises any other error."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno not in IN_THE_WAY:
        raise error
    return f"not repaired, as {str(cause.filename)!r} is in the way ({cause.strerror}): remove it by hand"


def _gaps(numbers: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    """First and last of each run of those below `end` that are not among ascending `numbers`."""
    for before, after in itertools.pairwise([-1, *numbers, end]):
        if after - before > 1:
            yield before + 1, after - 1


def _check_shard(place: Place, plan: Plan, shard: Shard, renderer: Backend | None) -> _Found:
    """What is wrong with a shard, and the bytes of its files. Without a record it is no shard yet, whatever the files are."""
    found = [_check_file(place, plan, shard, array, renderer) for array in plan.arrays]
    size, problems = sum(nbytes for _, nbytes in found), [problem for problem, _ in found if problem is not None]
    if not problems:
        return None, size
    damaged = [problem for problem in problems if not problem.pending]
    first, *others = damaged or problems[:1]
    what = "; ".join([first.what, *(f"{other.path}: {other.what}" for other in others)])
    videos = tuple(sorted(set().union(*(problem.videos for problem in problems))))
    return replace(first, what=what, videos=videos), size


def _check_file(place: Place, plan: Plan, shard: Shard, array: str, renderer: Backend | None) -> _Found:
    """What is wrong with a file of a shard, and its bytes."""
    size, damaged = 0, []
    pending = not _is_there(place, shard.record)
    try:
        with place.file(shard.file(array), index_bytes(plan)) as file:
            size = file.size
            if pending:
                raise DamageError("not rendered to its end: it has no completion record")
            index, packed = read_index(file, plan)
            fields = check_record(place, plan, shard, size, array)
            there = shard.videos[: fields["shard"]["count"]]
            how, sums = encoding(plan, array), []
            expected = iter(()) if renderer is None else how.contents(shard.split, there, renderer)
            for i, video in enumerate(there):
                content = next(expected, None)
                try:
                    stored = read_chunks(file, index[i], plan.most_chunk(array))
                    sums += [data[-CRC_BYTES:] for data in stored]
                    found = how.decode(stored)
                    if content is not None and not how.agree(found, content):
                        damaged.append(video)
                except (ValueError, OSError):
                    damaged.append(video)
            if damaged:
                raise DamageError("damaged videos")
            if recorded(fields, array)[1] != shard_digest(sums, packed):
                raise DamageError("the digest does not match the record: a shard of another place or dataset")
            if len(there) < shard.count:
                pending, damaged = True, list(shard.videos[len(there) :])
                raise DamageError("not rendered to its end yet: it is that of a smaller set")
    except FileNotFoundError:
        what = "not rendered yet" if pending else "the shard is missing"
    except OSError as error:
        what = f"the shard cannot be read: {error.strerror}"
    except DamageError as error:
        what, pending = str(error), pending or isinstance(error, UnfinishedError)
    else:
        return None, size
    return Problem(shard.file(array), what, shard.split, tuple(damaged or shard.videos), pending=pending), size


def _is_there(place: Place, name: str) -> bool:
    try:
        place.size(name)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _repair_shard(
    target: Target, plan: Plan, shard: Shard, renderer: Backend, keep: set[int], digests: Mapping[str, str]
) -> None:
    """Write a shard anew: the chunks of the videos `keep` are copied from the old files, the others are rendered.

    `digests` are what the repaired files have to come to. Where one does not, the videos kept were intact but not those of
    this shard, and all are rendered; one that is not there is trusted.

    Raises:
        ConflictError: another process is writing this shard.
        RunError: the disk failed; the old shard is still there.
    """
    target.claim(shard, plan.arrays)
    try:
        files = {}
        for array in plan.arrays:
            data = render_shard(plan, shard, renderer, array=array)
            if keep:
                data = ShardData(plan, partial(_refilled, target.place, plan, shard, array, renderer, keep))
            target.put(shard, data, array)
            if keep and digests.get(array) not in (None, data.digest):
                data = render_shard(plan, shard, renderer, array=array)
                target.put(shard, data, array)
            files[array] = data
    except BaseException:
        target.release(shard)
        raise
    target.publish(shard, shard_record(plan, shard, files))


def _refilled(
    place: Place, plan: Plan, shard: Shard, array: str, renderer: Backend, keep: set[int]
) -> Iterator[list[Chunk]]:
    """The chunks of each video of a file of a shard, of those in `keep` as they are stored."""
    how = encoding(plan, array)
    with place.file(shard.file(array), index_bytes(plan)) as file:
        index, _ = read_index(file, plan)
        for i, video in enumerate(shard.videos):
            if video in keep and index[i, 0, 0] != MISSING:  # as in a shard of a smaller set
                stored = read_chunks(file, index[i], plan.most_chunk(array))
                yield [(data[:-CRC_BYTES], data[-CRC_BYTES:]) for data in stored]
            else:
                yield how.encode(next(how.contents(shard.split, [video], renderer)))

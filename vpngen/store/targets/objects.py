"""Objects below a URL: no locks, no renames; claims that run out, objects that are there whole or not at all, records that are created once.

A shard is one idempotent PUT, in parts where it is large, and its record one after it. Whoever renders a shard first creates
`claims/train.7`, and renews it while it works; it is removed at the end. Another run that finds it does other shards, and looks again: if it
stays as it is for as long as its lease, by the watch of who looks, or was of a process of the same machine that is gone, its writer is dead. Clocks are not compared. A claim saves work and no
more: where two render a shard, they store the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

from vpngen.errors import ArgumentError, ConflictError, RunError, VpngenError
from vpngen.files import parse_json
from vpngen.spec import Spec
from vpngen.store.growing import ROOT, beginning, grow
from vpngen.store.layout import (
    TABLE_CHUNK,
    VIDEO,
    Plan,
    Shard,
    conflict,
    packed_tables,
    pending,
    read_store,
    recorded_layout,
    skeleton,
)
from vpngen.store.places import CLAIMS, PART, TRIES, Objects
from vpngen.store.targets.base import Kind, Target

LEASE: Final = 60.0
PAUSES: Final = (1.0, 5.0, 20.0, 40.0)
"""Seconds before what failed is done again in the middle of a run, each request of it having been sent often enough: servers are started anew."""
T = TypeVar("T")


class ObjectTarget(Target):
    """The store below a URL."""

    lease: ClassVar[float | None] = LEASE

    def __init__(self, place: Objects) -> None:
        self.place: Objects = place
        self._claims = Claims(place)
        self._spec: Spec | None = None
        """That of the last plan that was asked of this target."""

    def __str__(self) -> str:
        return str(self.place)

    def check(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.check`. That nothing may be written here is seen when it is tried."""
        try:
            spec, layout, _ = read_store(self.place)
        except ArgumentError:  # nothing is there
            return
        except ConflictError as error:
            if recorded_layout(self.place, plan.spec) != plan.layout:
                raise ConflictError(
                    f"{error}; it was left untouched: choose another URL, or remove it by hand"
                ) from None
            spec, layout = plan.spec, plan.layout
        if overwrite:
            for name in self.place.sizes(CLAIMS):
                with contextlib.suppress(FileNotFoundError):
                    if self.is_live(f"{CLAIMS}/{name}"):
                        what = f"another process is writing {self}/{self.written(f'{CLAIMS}/{name}')}, or was until some seconds ago"
                        raise ConflictError(f"{what}; it was left untouched")
        elif not spec.begins(plan.spec) or layout != plan.layout:
            raise conflict(self, spec, layout, plan)

    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.prepare`. The root metadata is created first, and once: it decides what is here. What a killed run left out is made."""
        self._spec = plan.spec
        documents, counts = skeleton(plan.spec, plan.layout)
        if overwrite:
            self._clear(documents[ROOT])
        try:
            read_store(self.place)
        except (ArgumentError, ConflictError) as error:
            self.check(plan)
            try:
                self.place.put(ROOT, documents[ROOT], create=isinstance(error, ArgumentError))
            except FileExistsError:  # another process made a store meanwhile
                self.check(plan)
        self._grow(plan)
        packed = functools.lru_cache(2)(packed_tables)
        for name in self._missing(plan, documents, counts):
            folder, _, last = name.rpartition("/")
            split, _, table = folder.partition("/")
            data = documents.get(name) or packed(plan.spec, split, int(last.split(".")[1]))[table]
            self.place.put(name, data)

    def _grow(self, plan: Plan) -> None:
        """See `growing.grow`: of several runs that change the root metadata at once one goes on, and the others look again."""
        for _ in range(TRIES):
            head = self.place.head(ROOT)

            def write(name: str, data: bytes) -> None:
                nonlocal head
                made = self.place.put(name, data, over=head if name == ROOT else None)
                head = made if name == ROOT else head

            try:
                grow(self.place, plan, write, lambda _: self.check(plan))
                return
            except FileExistsError:
                continue
        raise RunError(f"other runs change what {self} holds again and again; give the same command again to go on")

    def _missing(self, plan: Plan, documents: dict[str, bytes], counts: dict[str, tuple[int, ...]]) -> list[str]:
        """The small files of a store that are not here."""
        tables = {folder: count for folder, count in counts.items() if folder.partition("/")[2] not in plan.arrays}
        wanted = {name: None for name in documents if name.rpartition("/")[0] not in tables}
        left = [name for name in wanted if name != ROOT and not self._is_here(name)]
        for folder, count in tables.items():
            here = self.place.sizes(folder)
            rest = ".0" * (len(count) - 1)
            names = [
                "zarr.json",
                *(
                    f"c.{number}{rest}"
                    for number in range(-(-plan.spec.n_videos(folder.partition("/")[0]) // TABLE_CHUNK))
                ),
            ]
            left += (f"{folder}/{name}" for name in names if name not in here)
        return left

    def _is_here(self, name: str) -> bool:
        try:
            self.place.head(name)
        except FileNotFoundError:
            return False
        return True

    def _clear(self, root: bytes) -> None:
        """Remove what is here, and then put the new root metadata over the old: until then it is a store that --overwrite replaces."""
        names = (name for name, _ in self.place.walk() if name != ROOT)
        while some := list(itertools.islice(names, 100)):
            self.place.delete(*some)
        self.place.put(ROOT, root)

    def settle(self, plan: Plan) -> None:
        """See `Target.settle`."""
        spec, layout, _ = read_store(self.place)
        if spec == plan.spec:
            self._grow(plan)
        elif not plan.spec.begins(spec) or layout != plan.layout:
            raise conflict(self, spec, layout, plan)
        for name in self.place.sizes(CLAIMS):  # of a run that was killed when it had published the record
            split, _, number = name.partition(".")
            with contextlib.suppress(ValueError):
                if split in plan.spec.splits and not self.pending(plan.only([plan.shard(split, int(number))])):
                    self.place.delete(f"{CLAIMS}/{name}")

    def beginning(self, plan: Plan) -> Spec | None:
        """See `Target.beginning`."""
        return beginning(self.place, plan)

    def pending(self, plan: Plan) -> Sequence[Shard]:
        """See `Target.pending`."""
        self._spec = plan.spec
        return pending(self.place, plan)

    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        """See `Target.claim`."""
        if not self._patiently(self._claims.take, _claim_of(shard)):
            raise ConflictError(
                f"another process is writing {self}/{shard.key}, or was until some seconds ago; give the command again"
            )

    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        """See `Target.put`. What a server refuses although it was asked often is sent whole again.

        Raises ConflictError where another run has made another set of this one meanwhile.
        """
        if not self._patiently(self._holds, shard):
            raise self._changed()
        for pause in (*self._pauses, None):
            source = _Source(data)
            try:
                self._send(shard.file(array), source)
                return
            except RunError:
                if pause is None or source.failed:
                    raise
                time.sleep(pause)

    def _send(self, name: str, data: Iterable[bytes]) -> None:
        pieces, first, size = iter(data), [], 0
        for piece in pieces:
            first.append(piece)
            size += len(piece)
            if size >= PART:
                self.place.put(name, itertools.chain(first, pieces))
                return
        self.place.put(name, b"".join(first))

    @property
    def _pauses(self) -> tuple[float, ...]:
        return PAUSES if self.place.patient else ()

    def _patiently(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """What a call gives; a server that does not answer for a while is asked again some times, later and later."""
        for pause in self._pauses:
            try:
                return call(*args, **options)
            except RunError:
                time.sleep(pause)
        return call(*args, **options)

    def publish(self, shard: Shard, record: bytes) -> None:
        """See `Target.publish`. A record of the same shard that another writer created is the same.

        Raises ConflictError as `put`; then the shard has no record, whatever it is now.
        """
        try:
            for _ in range(TRIES):
                with contextlib.suppress(FileExistsError):
                    self._patiently(self.place.put, shard.record, record, create=True)
                    return
                with contextlib.suppress(FileNotFoundError):  # what refused it is gone
                    if self.place.read(shard.record) == record:
                        return
                    if not self._holds(shard):
                        self.place.delete(shard.record)
                        raise self._changed()
                    self.place.put(shard.record, record)  # over that of a smaller set, or a damaged one
                    return
            raise RunError(
                f"{f'{self}/{shard.record}'!r} can neither be created nor be read; give the same command again to go on"
            )
        finally:
            self.release(shard)

    def _holds(self, shard: Shard) -> bool:
        """Whether the store is still of the plan's set, or of one that has this shard likewise."""
        mine = self._spec
        try:
            spec, layout, _ = read_store(self.place)
        except (ArgumentError, ConflictError):
            return False
        same = Plan(spec, layout, ()).shard(shard.split, shard.number)
        return mine is None or spec == mine or (mine.begins(spec) and same == shard)

    def _changed(self) -> ConflictError:
        return ConflictError(
            f"another run has made another set of {str(self)!r} meanwhile; what this one was rendering was dropped"
        )

    def release(self, shard: Shard) -> None:
        """See `Target.release`. What was put stays, and does not count."""
        self._claims.drop(_claim_of(shard))

    def write(self, name: str, data: bytes) -> None:
        """See `Target.write`."""
        self.place.put(name, data)

    def walk(self) -> Iterator[tuple[str, Kind]]:
        """See `Target.walk`."""
        for name, _ in self.place.walk():
            yield name, "file"

    def written(self, name: str) -> str | None:
        """See `Target.written`."""
        found = re.fullmatch(rf"{CLAIMS}/(\w+)\.(0|[1-9][0-9]{{0,11}})", name)
        return None if found is None else Shard(found[1], int(found[2]), 0, 0).key

    def is_live(self, name: str, remove: bool = False) -> bool:
        """See `Target.is_live`. Whether a claim of another machine is renewed is seen by waiting."""
        live = self._claims.is_live(name.removeprefix(f"{CLAIMS}/"), wait=True)
        if remove and not live:
            self.place.delete(name)
        return live

    def free_bytes(self) -> None:
        """See `Target.free_bytes`."""
        return

    def stored_bytes(self) -> int:
        """See `Target.stored_bytes`."""
        return sum(size for _, size in self.place.walk())


class _Source:
    """Pieces that are kept, each a copy; and whether asking for them `failed`."""

    def __init__(self, data: Iterable[bytes | memoryview]) -> None:
        self._data, self.failed = data, False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from map(bytes, self._data)
        except BaseException:
            self.failed = True
            raise


def _claim_of(shard: Shard) -> str:
    return f"{shard.split}.{shard.number}"


class Claims:
    """The claims at a place: those of this process, which a thread renews, and what is known of those of others."""

    def __init__(self, place: Objects) -> None:
        self.place = place
        self._mine: dict[str, dict[str, Any]] = {}
        self._tried: dict[str, dict[str, Any]] = {}
        """Those that may have been created though no answer came: they are tried again as they are."""
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Of a claim of another its bytes, and since when they are what they are, by this process's own watch."""
        self._lock = threading.Lock()
        self._renewing = False

    def take(self, name: str) -> bool:
        """Claim a shard; False where another process has it."""
        new = {"owner": uuid.uuid4().hex, **_process(), "lease": LEASE, "renewed": 0}
        about = self._tried.setdefault(name, new)
        if not self._create(name, about):
            try:
                if self.is_live(name):
                    self._tried.pop(name)
                    return False
            except FileNotFoundError:
                pass  # released meanwhile
            else:
                self.place.delete(f"{CLAIMS}/{name}")
            if not self._create(name, about):
                self._tried.pop(name)
                return False
        with self._lock:
            self._mine[name] = self._tried.pop(name)
            if not self._renewing:
                self._renewing = True
                threading.Thread(target=self._renew, name="vpngen-claims", daemon=True).start()
        return True

    def _create(self, name: str, about: dict[str, Any]) -> bool:
        data = json.dumps(about).encode()
        try:
            self.place.put(f"{CLAIMS}/{name}", data, create=True)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # asked again after an answer was lost
                return self.place.read(f"{CLAIMS}/{name}") == data
            return False
        return True

    def is_live(self, name: str, wait: bool = False) -> bool:
        """Whether a claim's writer lives, as far as can be seen.

        One of this machine that is gone is dead at once; of any other it is seen whether its claim changes within a lease. Until then it
        counts as alive; with `wait` that is waited for.

        Raises:
            FileNotFoundError: there is no such claim.
        """
        if wait:  # all at once: the next ones are known then
            for other in self.place.sizes(CLAIMS):
                with contextlib.suppress(FileNotFoundError):
                    self._look(other)
        while True:
            live, left = self._look(name)
            if not (live and wait) or left is None:
                return live
            time.sleep(min(1.0, left + 0.01))

    def _look(self, name: str) -> tuple[bool, float | None]:
        """Whether the writer of a claim lives, and if nobody knows yet, the seconds until it will be known."""
        data, now = self.place.read(f"{CLAIMS}/{name}"), time.monotonic()
        try:
            about = parse_json(data)
            lease, gone = min(max(float(about["lease"]), 0.0), LEASE), _is_gone(about)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False, None  # damaged: nobody's
        with self._lock:
            if name in self._mine:
                return True, None
            before, since = self._seen.get(name, (None, now))
            self._seen[name] = (data, since if data == before else now)
        if gone or (data == before and now - since > lease):
            return False, None
        changed = before is not None and data != before
        return True, None if changed else lease - (now - since)

    def drop(self, name: str) -> None:
        """Release a shard that this process claimed."""
        with self._lock:
            self._mine.pop(name, None)
        with contextlib.suppress(VpngenError, OSError):  # it runs out by itself
            self.place.delete(f"{CLAIMS}/{name}")

    def _renew(self) -> None:
        """Renew what is claimed, until nothing is. What cannot be renewed runs out: that is only work twice."""
        while True:
            time.sleep(LEASE / 4)
            with self._lock:
                mine = dict(self._mine)
                if not mine:
                    self._renewing = False
                    return
            with ThreadPoolExecutor(min(len(mine), 16)) as pool:
                list(pool.map(self._renew_one, mine, mine.values()))

    def _renew_one(self, name: str, about: dict[str, Any]) -> None:
        about["renewed"] += 1
        with contextlib.suppress(VpngenError, OSError):
            if name in self._mine:
                self.place.put(f"{CLAIMS}/{name}", json.dumps(about).encode())
            if name not in self._mine:  # dropped meanwhile
                self.place.delete(f"{CLAIMS}/{name}")


def _process() -> dict[str, Any]:
    """What names this process among all, as well as its system can tell."""
    return {"machine": _machine(), "pid": (pid := os.getpid()), "started": _started(pid)}


@functools.cache
def _machine() -> str:
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        with contextlib.suppress(OSError), open(path) as file:
            parts.append(file.read().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """When a process began, in the system's own ticks; None where none runs, or nobody can tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" or len(fields) < 19 else fields[18]


def _is_gone(about: dict[str, Any]) -> bool:
    """Whether the writer of a claim was a process of this machine, and runs no more."""
    if about["machine"] != _machine() or about["started"] is None:
        return False
    return bool(_started(int(about["pid"])) != about["started"])

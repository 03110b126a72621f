"""Objects below a URL: no locks, no renames; claims that run out, objects that are there whole or not at all, records that are created once.

A shard is one idempotent PUT, in parts where it is large, and its record one after it. Whoever renders a shard first creates
`claims/train.7`, and renews it while it works; it is removed at the end. Another run that finds it does other shards, and looks again: if it
stays as it is for as long as its lease, by the watch of who looks, its writer is dead. Clocks are not compared. A claim saves work and no
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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
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
from vpngen.store.places import PART, Objects
from vpngen.store.targets.base import Kind, Target

CLAIMS: Final = "claims"
"""The folder of the claims, while there are any."""
LEASE: Final = 60.0
TRIES: Final = 3
"""Times that a shard is sent whole, after each request has been sent often enough."""


class ObjectTarget(Target):
    """The store below a URL."""

    lease: ClassVar[float | None] = LEASE

    def __init__(self, place: Objects) -> None:
        self.place: Objects = place
        self._claims = Claims(place)

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
                    if self._claims.is_live(name, LEASE):
                        what = f"another process is writing {self}/{self.written(f'{CLAIMS}/{name}')}, or was until some seconds ago"
                        raise ConflictError(f"{what}; it was left untouched")
        elif not spec.begins(plan.spec) or layout != plan.layout:
            raise conflict(self, spec, layout, plan)

    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.prepare`. The root metadata is created first, and once: it decides what is here. What a killed run left out is made."""
        documents, counts = skeleton(plan.spec, plan.layout)
        if overwrite:
            self._clear()
        try:
            read_store(self.place)
        except (ArgumentError, ConflictError) as error:
            self.check(plan)
            try:
                self.place.put(ROOT, documents[ROOT], create=isinstance(error, ArgumentError))
            except FileExistsError:  # another process made a store meanwhile
                self.check(plan)
        grow(self.place, plan, self.write, lambda _: self.check(plan))
        for name in self._missing(plan, documents, counts):
            folder, _, last = name.rpartition("/")
            split, _, table = folder.partition("/")
            data = documents.get(name) or packed_tables(plan.spec, split, int(last.split(".")[1]))[table]
            self.place.put(name, data)

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

    def _clear(self) -> None:
        """Remove what is here, the root metadata last: until then it is a store, which --overwrite replaces."""
        names = (name for name, _ in self.place.walk() if name != ROOT)
        while some := list(itertools.islice(names, 1000)):
            self.place.delete(*some)
        self.place.delete(ROOT)

    def settle(self, plan: Plan) -> None:
        """See `Target.settle`."""
        if self.beginning(plan) == plan.spec:  # else another run grew it further
            grow(self.place, plan, self.write, lambda _: None)
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
        return pending(self.place, plan)

    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        """See `Target.claim`."""
        if not self._claims.take(_claim_of(shard)):
            raise ConflictError(
                f"another process is writing {self}/{shard.key}, or was until some seconds ago; give the command again"
            )

    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        """See `Target.put`. What a server refuses although it was asked often is sent whole again."""
        for tries in range(TRIES):
            source = _Source(data)
            try:
                self._send(shard.file(array), source)
                return
            except RunError:
                if tries == TRIES - 1 or source.failed:
                    raise
                time.sleep(2.0**tries)

    def _send(self, name: str, data: Iterable[bytes]) -> None:
        pieces, first, size = iter(data), [], 0
        for piece in pieces:
            first.append(piece)
            size += len(piece)
            if size >= PART:
                self.place.put(name, itertools.chain(first, pieces))
                return
        self.place.put(name, b"".join(first))

    def publish(self, shard: Shard, record: bytes) -> None:
        """See `Target.publish`. A record of the same shard that another writer created is the same."""
        try:
            self.place.put(shard.record, record, create=True)
        except FileExistsError:
            if self.place.read(shard.record) != record:  # that of a smaller set, or a damaged one
                self.place.put(shard.record, record)
        finally:
            self.release(shard)

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
        last = name.removeprefix(f"{CLAIMS}/")
        live = self._claims.is_live(last, LEASE)
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
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Of a claim of another its bytes, and since when they are what they are, by this process's own watch."""
        self._lock = threading.Lock()
        self._renewing = False

    def take(self, name: str) -> bool:
        """Claim a shard; False where another process has it."""
        about = {"owner": uuid.uuid4().hex, **_process(), "lease": LEASE, "renewed": 0}
        if not self._create(name, about):
            try:
                if self.is_live(name):
                    return False
            except FileNotFoundError:
                pass  # released meanwhile
            else:
                self.place.delete(f"{CLAIMS}/{name}")
            if not self._create(name, about):
                return False
        with self._lock:
            self._mine[name] = about
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

    def is_live(self, name: str, wait: float = 0.0) -> bool:
        """Whether a claim's writer lives: one of this machine is looked for, of another it is seen whether it renews its claim.

        With `wait` that is watched for so many seconds at most; without, from one question to the next.

        Raises:
            FileNotFoundError: there is no such claim.
        """
        end = time.monotonic() + wait
        while True:
            data, now = self.place.read(f"{CLAIMS}/{name}"), time.monotonic()
            try:
                about = parse_json(data)
                lease, here = float(about["lease"]), _is_here(about)
            except (ValueError, KeyError, TypeError, AttributeError):
                return False  # damaged: nobody's
            with self._lock:
                if here is not None or name in self._mine:
                    return bool(here) or name in self._mine
                before, since = self._seen.get(name, (b"", now))
                self._seen[name] = (data, since if data == before else now)
            if data == before and now - since > lease:
                return False
            if now >= end or (before and data != before):
                return True
            time.sleep(min(1.0, max(end - now, 0.01)))

    def drop(self, name: str) -> None:
        """Release a shard that this process claimed."""
        with self._lock:
            self._mine.pop(name, None)
        with contextlib.suppress(RunError, MissingError):  # it runs out by itself
            self.place.delete(f"{CLAIMS}/{name}")

    def _renew(self) -> None:
        """Renew what is claimed, until nothing is."""
        while True:
            time.sleep(LEASE / 4)
            with self._lock:
                mine = dict(self._mine)
                if not mine:
                    self._renewing = False
                    return
            for name, about in mine.items():
                about["renewed"] += 1
                with (
                    self._lock,
                    contextlib.suppress(RunError, MissingError),
                ):  # the next time, or it runs out: that is only work twice
                    if name in self._mine:
                        self.place.put(f"{CLAIMS}/{name}", json.dumps(about).encode())


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
    """When a process began, in the system's own ticks; None where there is none, or nobody can tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_here(about: dict[str, Any]) -> bool | None:
    """Whether the writer of a claim is a process of this machine that runs; None where it is one of another machine."""
    if about["machine"] != _machine() or about["started"] is None:
        return None
    return bool(_started(int(about["pid"])) == about["started"])

"""Where a stream is: which epoch comes next, in this process and in the workers of a DataLoader alike; and states of that."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, default_collate, get_worker_info

from vpngen.checks import integer, is_integer
from vpngen.errors import ArgumentError, ConflictError, shown
from vpngen.stream.waiting import polled

STATE_FORM: Final = 1
MOST_WORKERS: Final = 1024
"""Workers of one DataLoader that are told apart."""
MOST_EPOCHS: Final = 2**31 - 1


_LOADERS: weakref.WeakSet[DataLoader[Any]] = weakref.WeakSet()
_ITERATORS: weakref.WeakSet[Any] = weakref.WeakSet()


def watched(loader: DataLoader[Any], iterator: Iterator[Any]) -> Iterator[Any]:
    """`iterator` of a DataLoader, whose workers stay those of this process: a forked child neither asks nor ends them."""
    _LOADERS.add(loader)
    _ITERATORS.add(iterator)
    return polled(iterator) if not loader.timeout else iterator


def _leave_to_parent() -> None:
    for iterator in list(_ITERATORS):
        iterator._shutdown = True  # else its end here would end the workers
    for loader in list(_LOADERS):
        loader._iterator = None


os.register_at_fork(after_in_child=_leave_to_parent)


def same_process(began: int) -> None:
    """That this is the process in which an iteration began. Raises ConflictError."""
    if os.getpid() != began:
        raise ConflictError(
            f"this iteration began in process {began}, whose threads and workers a forked child does not have; begin another "
            f"in this process, with iter(...)"
        )


SPLITTERS: Final = ("DataLoaderDispatcher", "IterableDatasetShard")
"""Classes of Accelerate and Transformers that deal out to all ranks what they take from a data set on one, or on each."""


def check_consumer(stream: Any, ranks: int) -> None:
    """That who asks for the batches of a stream takes them as they are. Nothing but the call itself tells who asks.

    Raises:
        ArgumentError: they would be stacked to batches of batches, or shared among the ranks a second time.
    """
    frame = sys._getframe(1)
    while frame is not None:
        local = frame.f_locals
        stacks = local.get("auto_collation") is True and local.get("collate_fn") is default_collate
        if stacks and local.get("dataset") is stream:
            how = "DataLoader(stream, batch_size=None), or vpngen.loader(stream)"
            raise ArgumentError(
                f"of a DataLoader must be None, since every batch of a stream is whole: {how}", "batch_size"
            )
        if ranks > 1 and (name := type(local.get("self")).__name__) in SPLITTERS:
            raise ArgumentError(
                f"this stream is shared among {ranks} ranks already, and {name} would share what one rank has among them "
                f"again: give vpngen.loader(...) in place of a DataLoader, or rank=0 and world_size=1 to the stream"
            )
        frame = frame.f_back  # type: ignore[assignment]


@dataclass(frozen=True)
class Position:
    """A place in an epoch: the samples that all ranks have seen; of a worker, where it began, which it is, and its batches since."""

    epoch: int
    sample: int
    worker: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Owner:
    """What has states: its kind, its data, the arguments that decide which samples come, and the largest epoch and sample."""

    kind: str
    key: str
    fingerprint: str
    settings: Mapping[str, Any]
    epoch: int
    sample: int

    def state(self, epoch: int, sample: int) -> dict[str, Any]:
        """A place as plain values."""
        known = {self.key: STATE_FORM, "fingerprint": self.fingerprint, "settings": {**self.settings}}
        return {**known, "epoch": epoch, "sample": sample}

    def place(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Epoch and sample of a state.

        Raises:
            ArgumentError: not a state of this kind and form, or a damaged one.
            ConflictError: a state of other data, or with other arguments.
        """
        if not isinstance(state, Mapping) or not is_integer(form := state.get(self.key)) or form != STATE_FORM:
            raise ArgumentError(f"is not that of a {self.kind} of this vpngen: {shown(state, 200)}", "state")
        theirs, there = shown(state.get("fingerprint")).strip("'"), state.get("settings")
        if not isinstance(there, Mapping) or set(there) != set(self.settings):
            raise ArgumentError(f"is damaged: its settings are {shown(there)}", "state")
        if theirs != self.fingerprint:
            raise ConflictError(
                f"the state is of another set: its fingerprint is {theirs[:12]}..., that of this one {self.fingerprint[:12]}..."
            )
        both = {k: (_plain(there[k]), _plain(v)) for k, v in self.settings.items()}
        if different := [f"{k}: {a} there, {b} here" for k, (a, b) in both.items() if a != b]:
            raise ConflictError(f"the state is of a {self.kind} with other arguments:\n  " + "\n  ".join(different))
        try:
            return integer("epoch", state["epoch"], 0, self.epoch), integer("sample", state["sample"], 0, self.sample)
        except (KeyError, ArgumentError) as error:
            raise ArgumentError(f"is damaged: {error}", "state") from None


def _plain(value: Any) -> str:
    """A value of a state, which is one of JSON, as text; lists and tuples alike."""
    try:
        return shown(json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError):
        return shown(value)


def _pack(tag: int, serial: int, count: int) -> int:
    return tag << 39 | (serial & 255) << 31 | count


def _unpack(word: int) -> tuple[int, int, int]:
    return word >> 39, word >> 31 & 255, word & 2**31 - 1


class Control:
    """Which epoch comes next, in memory that the workers of a DataLoader share with the process that started them.

    One word tells it, so that it is read and written whole, without a lock: the count of epochs that have begun, the tag of
    who began the last, and a serial number that tells one beginning from the next. The workers of one iteration have one
    tag. The first of them to come begins the next epoch; the others find a beginning of theirs in which they had no part
    yet, and join it. Workers that come at once find the same and write the same. What `place` displaces is kept beside it,
    for workers of that iteration who come late.
    """

    MAIN: Final = 1

    def __init__(self) -> None:
        # word, epoch and sample of the place that was set; the same three before the last `place`; the last beginning of
        # each worker
        self._shared = torch.zeros(6 + MOST_WORKERS, dtype=torch.int64, device="cpu")
        self._share()
        self.process = os.getpid()
        self.resume: Position | None = None

    def own(self) -> Control:
        """That of this process: in a forked child that is no worker, a copy, so that its epochs are not those of its parent."""
        if self.process == os.getpid() or get_worker_info() is not None:
            return self
        copy = Control()
        copy._shared.copy_(self._shared)
        copy.resume = self.resume
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()  # if it was unpickled elsewhere than in a worker

    def _share(self) -> None:
        shared: Any = self._shared
        with contextlib.suppress(RuntimeError):  # without shared memory there are no workers
            shared.share_memory_()

    @staticmethod
    def tag(seed: int) -> int:
        """The tag of the workers of the DataLoader that has this seed."""
        return 2 + zlib.crc32(str(seed).encode()) % (2**24 - 2)

    def place(self, epoch: int, sample: int) -> None:
        """The next iteration begins there."""
        self.resume = None
        tag, serial, _ = _unpack(int(self._shared[0]))
        if tag > self.MAIN:
            self._shared[3:6] = self._shared[:3].clone()
        self._shared[1], self._shared[2] = epoch, sample
        self._shared[0] = _pack(0, serial + 1, epoch)

    def pending(self) -> tuple[bool, tuple[int, int]]:
        """Whether no iteration has begun since `place`, and the (epoch, sample) of that place."""
        return not _unpack(int(self._shared[0]))[0], (int(self._shared[1]), int(self._shared[2]))

    def untouched(self) -> bool:
        """Whether no iteration has begun and no place was set, ever."""
        return not self._shared[:3].any()

    def in_workers(self) -> bool:
        """Whether the last epoch that began, began in workers."""
        return _unpack(int(self._shared[0]))[0] > self.MAIN

    def _find(self, tag: int | None, worker: int) -> tuple[int, int, int | None, int]:
        """Epoch and first sample of the iteration that would begin now; the beginning that it joins, if any; the word."""

        def first_sample(epoch: int, at: int) -> int:
            return int(self._shared[at + 2]) if epoch == int(self._shared[at + 1]) else 0

        now, displaced = int(self._shared[0]), int(self._shared[3])
        who, _, count = _unpack(now)
        if tag is not None:
            mine = int(self._shared[6 + worker % MOST_WORKERS])
            if who == tag and mine != now:
                return count - 1, first_sample(count - 1, 0), now, now
            old, _, old_count = _unpack(displaced)
            if who == 0 and old == tag and mine != displaced:
                return old_count - 1, first_sample(old_count - 1, 3), displaced, now
        return count, first_sample(count, 0), None, now

    def peek(self, tag: int | None = None, worker: int = 0) -> Position:
        """The place of the iteration that would begin now."""
        return self.resume or Position(*self._find(tag, worker)[:2])

    def claim(self, tag: int | None = None, worker: int = 0) -> Position:
        """Begin an iteration."""
        epoch, sample, joined, now = self._find(tag, worker)
        resumed, self.resume = self.resume, None
        if resumed is not None:
            epoch = resumed.epoch
            joined = joined if joined is not None and _unpack(joined)[2] == epoch + 1 else None
        if tag is None:
            # the place is taken: who comes to this epoch again gets all of it
            self._shared[1], self._shared[2] = epoch, 0
        if joined is None:
            joined = _pack(self.MAIN if tag is None else tag, _unpack(now)[1] + 1, epoch + 1)
            self._shared[0] = joined
        if tag is not None:
            self._shared[6 + worker % MOST_WORKERS] = joined
        return resumed or Position(epoch, sample)

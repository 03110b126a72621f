"""Memory for batches, used again when nobody holds the batch any more: fresh memory costs as much as rendering into it.

Torch makes shared memory anew for every tensor that a worker sends, and for a batch of clips the system takes as long to
clear it as the kernel takes to render. In a `Ring` the slots are made before the workers start. A worker fills a free one and
sends its number; where that arrives, a tensor over the slot comes out of the queue, and the slot is free again when nobody
holds that tensor any more, nor anything made of its memory.
"""

from __future__ import annotations

import math
import os
import sys
import uuid
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_convert, get_worker_info

from vpngen.errors import MissingError
from vpngen.units import size_text

SHM: Final = "/dev/shm"
"""Where Linux keeps the memory that processes share."""
SPARE_BYTES: Final = 2**20
"""Of shared memory beside the clips: what comes with them takes a page or two."""
MOST_BYTES: Final = 2**30
"""Memory of a ring, at most; with less, some batches go the way of any tensor."""
FREE_BUFFERS: Final = 8
_RINGS: weakref.WeakValueDictionary[str, Ring] = weakref.WeakValueDictionary()


class Buffers:
    """Memory for batches that stay in this process."""

    def __init__(self) -> None:
        self._free: dict[int, deque[npt.NDArray[np.uint8]]] = defaultdict(lambda: deque(maxlen=FREE_BUFFERS))

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, its contents undefined."""
        nbytes = math.prod(shape) * dtype.itemsize
        free = self._free[nbytes]
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(nbytes, np.uint8)
        lent = memory[:]  # the tensor keeps this view of it alive, and its end gives the memory back
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)


class Ring:
    """Slots of `nbytes` for batches of each of `workers`, in shared memory."""

    def __init__(self, workers: int, slots: int, nbytes: int) -> None:
        self.slots = min(slots, MOST_BYTES // (workers * nbytes))
        self.key, self.nbytes, self.process = uuid.uuid4().hex, nbytes, os.getpid()
        self.memory = [shared_bytes(nbytes) for _ in range(workers * self.slots)]
        self.busy = torch.zeros(workers * self.slots, dtype=torch.uint8, device="cpu")
        self.busy.share_memory_()  # type: ignore[no-untyped-call]
        _RINGS[self.key] = self


class Shared:
    """Memory for batches that leave a worker: a slot of the ring, or if none is free shared memory of its own."""

    def __init__(self, ring: Ring | None, worker: int) -> None:
        self._ring = ring
        self._mine = range(0) if ring is None else range(worker * ring.slots, (worker + 1) * ring.slots)
        self._taken: dict[int, int] = {}  # where a tensor begins -> its slot

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, its contents undefined."""
        nbytes, ring = math.prod(shape) * dtype.itemsize, self._ring
        for slot in self._mine:
            if ring is not None and not ring.busy[slot] and nbytes <= ring.nbytes:
                ring.busy[slot] = 1
                self._taken[ring.memory[slot].data_ptr()] = slot
                return ring.memory[slot][:nbytes].view(dtype).view(shape)
        try:
            return shared_bytes(nbytes).view(dtype).view(shape)
        except RuntimeError as error:
            info = get_worker_info()
            raise Sharing(1 if info is None else info.num_workers, 1, nbytes).error() from error

    def parcel(self, made: torch.Tensor) -> torch.Tensor | Parcel:
        """What is sent for a tensor over memory taken here."""
        slot = self._taken.pop(made.data_ptr(), None)
        return made if slot is None or self._ring is None else Parcel(self._ring, slot, made)


class Parcel:
    """A batch of clips on its way out of a worker: what is sent is where it lies, what arrives is a tensor."""

    def __init__(self, ring: Ring, slot: int, made: torch.Tensor) -> None:
        shape = tuple(made[:, :1].shape if made.stride(1) == 0 else made.shape)
        self._where = ring.key, slot, shape, made.dtype, made.shape[1]

    def __reduce__(self) -> tuple[Callable[..., torch.Tensor], tuple[Any, ...]]:
        return _arrive, self._where


def _arrive(key: str, slot: int, shape: tuple[int, ...], dtype: torch.dtype, channels: int) -> torch.Tensor:
    """The tensor that a worker made, in the process that made the ring; its end frees the slot."""
    ring = _RINGS[key]
    lent = ring.memory[slot].numpy()[: math.prod(shape) * dtype.itemsize]
    weakref.finalize(lent, _free, ring, slot, os.getpid()).atexit = False
    return torch.from_numpy(lent).view(dtype).view(shape).expand(-1, channels, -1, -1, -1)


def _free(ring: Ring, slot: int, process: int) -> None:
    if process == os.getpid():  # a forked child has no say in what its parent lent
        ring.busy[slot] = 0


@dataclass(frozen=True)
class Sharing:
    """What the workers of a DataLoader may have in shared memory at once: `batches` of `nbytes`; None where it is not known."""

    num_workers: int
    batches: int | None = None
    nbytes: int | None = None

    @classmethod
    def of(cls, num_workers: int, prefetch_factor: int | None, steps: int | None, nbytes: int) -> Sharing:
        """That of a DataLoader with so many batches in an epoch: those that are made ahead, and the one in use."""
        ahead = num_workers * (prefetch_factor or 2) + 1
        return cls(num_workers, ahead if steps is None else min(ahead, steps), nbytes)

    @property
    def needed(self) -> int:
        """Bytes, over the ranks of this machine, each of which has as many workers."""
        each = (self.batches or 0) * (self.nbytes or 0) + SPARE_BYTES
        return each * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def check(self) -> None:
        """That there is as much. Raises MissingError."""
        if self.num_workers and not has_room(self.needed):
            raise self.error()

    def error(self) -> MissingError:
        """What there is, what is needed, and what to do."""
        room, what = shm_room(), "worker processes send batches through shared memory"
        if self.batches and self.nbytes:
            what += f", {self.batches} x {size_text(self.nbytes)}, which takes {size_text(self.needed)}"
        there = room if isinstance(room, str) else f"has {size_text(room[0])} free of {size_text(room[1])}"
        size = f"{max(1, -(-self.needed // 2**30))}g"
        remedies = f"fewer `num_workers` (={self.num_workers}) or 0, a smaller `batch_size`, or a larger {SHM}"
        return MissingError(f"{what}, and {SHM} {there}; give {remedies}, as with docker run --shm-size={size}")


def shm_room() -> tuple[float, float] | str:
    """Bytes of shared memory that are free, and that there are; or why there are none."""
    if not sys.platform.startswith("linux"):
        return math.inf, math.inf
    try:
        found = os.statvfs(SHM)
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    if found.f_flag & os.ST_RDONLY or not os.access(SHM, os.W_OK):
        return "cannot be written"
    if not found.f_blocks:  # without a limit
        return math.inf, math.inf
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def has_room(nbytes: int) -> bool:
    """Whether so much shared memory is free."""
    room = shm_room()
    return not isinstance(room, str) and room[0] >= nbytes


_NO_SHM: Final = ("shared memory", "unable to resize file </torch", "Bus error")


def lacks_shm(error: object) -> bool:
    """Whether an error of torch, here or from a worker, means that there is too little shared memory."""
    text = str(error)
    return any(words in text for words in _NO_SHM) and "Too many open files" not in text


def shared(batch: Any) -> Any:
    """What a worker sends, put into shared memory, or the error that there is none; anywhere else, as it is.

    Torch would do so in a thread, which can only print that error, and whoever waits for the batch would wait for ever.
    """
    batch = default_convert(batch)  # type: ignore[no-untyped-call]
    if get_worker_info() is None or not isinstance(batch, (list, tuple)):
        return batch
    try:
        for part in batch:
            for each in part.values() if isinstance(part, dict) else (part,):
                if isinstance(each, torch.Tensor) and each.numel():
                    each.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if not lacks_shm(error):
            raise
        return MissingError(str(error))
    return batch


def shared_bytes(nbytes: int) -> torch.Tensor:
    """uint8 (nbytes,) in memory that goes to other processes without being copied. Raises RuntimeError where there is none."""
    storage: Any = torch.UntypedStorage._new_shared(nbytes, device="cpu")  # type: ignore[no-untyped-call] # as torch's collation
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage, 0, (nbytes,), (1,))

"""Memory for batches, used again when nobody holds the batch any more: fresh memory costs as much as rendering into it.

Torch makes shared memory anew for every tensor that a worker sends, and for a batch of clips the system takes as long to
clear it as the kernel takes to render. In a `Ring` the slots are made before the workers start. A worker fills a free one and
sends its number; where that arrives, a tensor over the slot comes out of the queue, and the slot is free again when nobody
holds that tensor any more, nor anything made of its memory.
"""

from __future__ import annotations

import math
import os
import uuid
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

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
        return shared_bytes(nbytes).view(dtype).view(shape)

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


def shared_bytes(nbytes: int) -> torch.Tensor:
    """uint8 (nbytes,) in memory that goes to other processes without being copied. Raises RuntimeError where there is none."""
    storage: Any = torch.UntypedStorage._new_shared(nbytes, device="cpu")  # type: ignore[no-untyped-call] # as torch's collation
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage, 0, (nbytes,), (1,))

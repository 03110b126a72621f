"""Memory in which worker processes make batches and this process lends them out: shared, made once, used again.

Torch makes shared memory anew for every tensor that a worker sends, and for a batch of clips the system takes as long to
clear it as the kernel takes to render. Here the slots are made before the workers start. A worker fills a free one and sends
its number; where that arrives, a tensor over the slot comes out of the queue, and the slot is free again when nobody holds
that tensor any more, nor anything made of its memory.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

MOST_BYTES: Final = 2**30
"""Memory of a ring, at most; with less, some batches go the way of any tensor."""
_RINGS: weakref.WeakValueDictionary[str, Ring] = weakref.WeakValueDictionary()


class Ring:
    """Slots of `nbytes` for batches of each of `workers`."""

    def __init__(self, workers: int, slots: int, nbytes: int) -> None:
        self.slots = min(slots, MOST_BYTES // (workers * nbytes))
        self.key, self.nbytes = uuid.uuid4().hex, nbytes
        self._memory = [shared_bytes(nbytes) for _ in range(workers * self.slots)]
        self._busy = torch.zeros(workers * self.slots, dtype=torch.uint8, device="cpu")
        self._busy.share_memory_()  # type: ignore[no-untyped-call]
        _RINGS[self.key] = self

    def take(self, worker: int, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, int] | None:
        """In a worker: a tensor over one of its free slots and the number of the slot, if there is one large enough."""
        nbytes = int(np.prod(shape)) * dtype.itemsize
        for slot in range(worker * self.slots, (worker + 1) * self.slots):
            if not self._busy[slot] and nbytes <= self.nbytes:
                self._busy[slot] = 1
                return self._memory[slot][:nbytes].view(dtype).view(shape), slot
        return None

    def lend(self, slot: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """In the process that made the ring: the tensor that a worker made; its end frees the slot."""
        lent = self._memory[slot].numpy()[: int(np.prod(shape)) * dtype.itemsize]
        weakref.finalize(lent, _free, self, slot, os.getpid()).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)


def _free(ring: Ring, slot: int, process: int) -> None:
    if process == os.getpid():  # a forked child has no say in what its parent lent
        ring._busy[slot] = 0


class Parcel:
    """A batch of clips on its way out of a worker: what is sent is where it lies, what arrives is a tensor."""

    def __init__(self, ring: Ring, slot: int, made: torch.Tensor) -> None:
        self._where = ring.key, slot, tuple(made[:, :1].shape if made.stride(1) == 0 else made.shape), made.dtype
        self._channels = made.shape[1]

    def __reduce__(self) -> tuple[Callable[..., torch.Tensor], tuple[Any, ...]]:
        return _arrive, (*self._where, self._channels)


def _arrive(key: str, slot: int, shape: tuple[int, ...], dtype: torch.dtype, channels: int) -> torch.Tensor:
    return _RINGS[key].lend(slot, shape, dtype).expand(-1, channels, -1, -1, -1)


def shared_bytes(nbytes: int) -> torch.Tensor:
    """uint8 (nbytes,) in memory that goes to other processes without being copied. Raises RuntimeError where there is none."""
    storage: Any = torch.UntypedStorage._new_shared(nbytes, device="cpu")  # type: ignore[no-untyped-call] # as torch's collation
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage, 0, (nbytes,), (1,))

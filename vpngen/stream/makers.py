"""How batches are made: on the CPU, in a thread of its own where they are to be ahead; on a card, on a stream of its own."""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from vpngen import backends
from vpngen.generators import Params
from vpngen.stream.ring import Parcel, Ring, shared_bytes
from vpngen.units import usable_cpus

if TYPE_CHECKING:
    from vpngen.stream.dataset import ClipStream

LAUNCH_CLIPS: Final = 1024
LAUNCH_BYTES: Final = 2**28
"""A card renders several batches at once, up to these: a launch costs the host as much as hundreds of clips."""
LAUNCHES_AHEAD: Final = 2
"""Launches by which the host may be ahead of the consumer's stream, whose memory cannot be used again before."""
FREE_BUFFERS: Final = 8


@dataclass(frozen=True)
class Batch:
    """What a batch is made of: videos (N,), their packed windows (N, 5), the `Sampling.sides` each has (N,), recipes (N,)."""

    samples: int
    index: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int32]
    side: npt.NDArray[np.int64]
    rows: Params


class Processor:
    """Makes batches on the CPU, in a thread of its own where they are to be ahead."""

    planned: Final = 4096
    """Samples whose recipes and windows are worked out at once: NumPy's cost per call is spread over them."""

    def __init__(self, stream: ClipStream, device: torch.device) -> None:
        self.stream, self.device = stream, device
        worker = get_worker_info()
        self.backend = None if stream._reader is not None else backends.load("cpu")
        self.threads = stream.threads or (1 if worker is not None else usable_cpus())
        self.buffers = Buffers()
        self.outgoing: Buffers | Shared = Shared(stream._ring, worker.id) if worker is not None else self.buffers

    def batches(self, plans: Iterator[Batch], ahead: int) -> Generator[tuple[Any, ...]]:
        """The batches, up to `ahead` of them made while the last is in use."""
        if not ahead:
            yield from (self.deliver(self.make(plan)) for plan in plans)
            return
        with ThreadPoolExecutor(1, "vpngen-stream") as crew:
            coming: deque[Any] = deque()
            try:
                while True:
                    while len(coming) < ahead and (plan := next(plans, None)) is not None:
                        coming.append(crew.submit(self.make, plan))
                    if not coming:
                        return
                    made = coming.popleft().result()
                    if (another := next(plans, None)) is not None:
                        coming.append(crew.submit(self.make, another))
                    yield self.deliver(made)
            finally:
                for one in coming:
                    one.cancel()

    def make(self, plan: Batch) -> tuple[Any, ...]:
        """One batch in host memory: pinned if it goes on to a card, shared if it goes to another process."""
        with torch.inference_mode(False):  # what is made ahead may be used outside of where it was asked for
            return self._make(plan)

    def _make(self, plan: Batch) -> tuple[Any, ...]:
        stream = self.stream
        shape = (plan.samples, *stream.sampling.clip)
        to_card, plain = self.device.type == "cuda", stream.dtype == torch.uint8
        if to_card:
            clips = torch.empty(shape, dtype=torch.uint8, pin_memory=True, device="cpu")
        else:
            clips = (self.outgoing if plain else self.buffers).take(shape, torch.uint8)
        stream._fill(plan, clips, self.backend, self.threads)
        if not to_card:
            clips = stream._finish(clips, self.outgoing)
        return (clips, stream._labels(plan), *([stream._recipe(plan)] if stream.parameters else []))

    def deliver(self, made: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch where it was asked for, or in a worker, as it is sent from there."""
        if isinstance(self.outgoing, Shared):
            return (self.outgoing.parcel(made[0]), *made[1:])
        if self.device.type != "cuda":
            return made
        moved = [to_device(part, self.device) for part in made]
        moved[0] = self.stream._finish(moved[0])
        return tuple(moved)


class Card:
    """Makes batches on a card, on a stream of its own, so that they are ready when the consumer's stream gets there.

    Torch owns all memory: what was filled on one stream and is used on another is known to its allocator (`record_stream`).
    The host waits for nothing but a consumer that is launches behind; and for videos with `grey="stretch"`, whose extremes
    it must see.
    """

    planned: Final = 1024
    """As `Processor.planned`; in the thread of the consumer."""

    def __init__(self, stream: ClipStream, device: torch.device) -> None:
        self.stream, self.device = stream, device
        self.backend = backends.choose(f"cuda:{device.index}")
        self.side = _side_stream(device.index)
        pixels = max(height * width for height, width in (*stream.sampling.sides, stream.sampling.clip[1:]))
        clip_bytes = stream.sampling.clip[0] * pixels * max(stream.dtype.itemsize, 4 if stream.sampling.scaled else 1)
        self.group = max(1, min(LAUNCH_CLIPS // stream.batch_size, LAUNCH_BYTES // (clip_bytes * stream.batch_size)))

    def batches(self, plans: Iterator[Batch], ahead: int) -> Generator[tuple[Any, ...]]:
        """The batches, up to `ahead` of them or the rest of a launch made while the last is in use."""
        coming: deque[tuple[tuple[Any, ...], Any]] = deque()
        marks: deque[Any] = deque()
        group = 1  # the first batch is not kept waiting for others
        while True:
            while len(coming) <= ahead:
                some = [plan for plan in (next(plans, None) for _ in range(group)) if plan is not None]
                if not some:
                    break
                marks.append(torch.cuda.current_stream(self.device).record_event())
                if len(marks) > LAUNCHES_AHEAD:
                    marks.popleft().synchronize()
                coming.extend(self.make(some))
                group = min(group * 2, self.group if ahead else 1)
            if not coming:
                return
            made, ready = coming.popleft()
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready)
            for tensor in (t for part in made for t in (part.values() if isinstance(part, dict) else [part])):
                tensor.record_stream(current)
            yield made

    def make(self, plans: list[Batch]) -> list[tuple[tuple[Any, ...], Any]]:
        """Several batches from one launch, each with the event after which it is there."""
        stream = self.stream
        whole = Batch(
            sum(p.samples for p in plans),
            np.concatenate([p.index for p in plans]),
            np.concatenate([p.windows for p in plans]),
            np.concatenate([p.side for p in plans]),
            np.concatenate([p.rows for p in plans]),
        )
        with torch.inference_mode(False), torch.cuda.device(self.device), torch.cuda.stream(self.side):
            clips = torch.empty((whole.samples, *stream.sampling.clip), dtype=torch.uint8, device=self.device)
            stream._fill(whole, clips, self.backend, 1)
            clips = stream._finish(clips)
            labels = to_device(stream._labels(whole), self.device)
            recipe = to_device(stream._recipe(whole), self.device) if stream.parameters else {}
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self.side)
        made, first = [], 0
        for plan in plans:
            one = slice(first, first + plan.samples)
            extra = [{name: value[one] for name, value in recipe.items()}] if stream.parameters else []
            made.append(((clips[one], labels[one], *extra), ready))
            first += plan.samples
        return made


@functools.cache
def _side_stream(card: int) -> torch.cuda.Stream:
    """One stream for all iterations: what memory a stream has used, the allocator keeps for that stream."""
    return torch.cuda.Stream(card)  # type: ignore[no-untyped-call]


class Buffers:
    """Memory for batches, used again when nobody holds the batch any more: fresh memory costs as much as rendering into it."""

    def __init__(self) -> None:
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, its contents undefined."""
        nbytes = int(np.prod(shape)) * dtype.itemsize
        free = self._free.setdefault(nbytes, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(nbytes, np.uint8)
        lent = memory[:]  # the tensor keeps this view of it alive, and its end gives the memory back
        weakref.finalize(lent, _give_back, free, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)


class Shared:
    """Memory for batches that leave a worker: a slot of the ring, or if there is none shared memory of its own."""

    def __init__(self, ring: Ring | None, worker: int) -> None:
        self._ring, self._worker = ring, worker
        self._slots: dict[int, int] = {}

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, its contents undefined."""
        taken = self._ring.take(self._worker, shape, dtype) if self._ring is not None else None
        if taken is None:
            return shared_bytes(int(np.prod(shape)) * dtype.itemsize).view(dtype).view(shape)
        self._slots[taken[0].data_ptr()] = taken[1]
        return taken[0]

    def parcel(self, made: torch.Tensor) -> torch.Tensor | Parcel:
        """What is sent for a tensor over memory taken here."""
        slot = self._slots.pop(made.data_ptr(), None)
        return made if slot is None or self._ring is None else Parcel(self._ring, slot, made)


def _give_back(free: list[npt.NDArray[np.uint8]], memory: npt.NDArray[np.uint8]) -> None:
    if len(free) < FREE_BUFFERS:
        free.append(memory)


def to_device(part: Any, device: torch.device) -> Any:
    """A tensor, or each of a dictionary, on that device; the host does not wait."""
    if isinstance(part, dict):
        return {name: to_device(value, device) for name, value in part.items()}
    return part.to(device, non_blocking=True)


def resized(clips: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (N, T, Y, X) at another size (y, x): bilinear with antialiasing, as image libraries do it.

    On a card the levels are rounded once and not after each axis, and may differ by one from those of a processor.
    """
    n, frames, *there = clips.shape
    if tuple(there) == size:
        return clips

    def scaled(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(images, list(size), mode="bilinear", antialias=True)

    if clips.is_cuda:
        return scaled(clips.float()).round_().clamp_(0, 255).to(torch.uint8)
    flat = clips.reshape(n * frames, *there)
    most = n * frames // 4 * 4
    fours = scaled(flat[:most].view(-1, 4, *there)).view(
        -1, *size
    )  # four frames as the channels of one image: 7 times faster
    rest = scaled(flat[most:].view(-1, 1, *there)).view(-1, *size)
    return torch.cat([fours, rest]).view(n, frames, *size)

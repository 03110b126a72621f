"""How batches are made: on the CPU, in a thread of their own where they are made ahead; on a GPU, on a CUDA stream of their own."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch
from torch.utils.data import get_worker_info

from vpngen import backends
from vpngen.stream.batches import Batch, Content
from vpngen.stream.memory import Buffers, Ring, Shared
from vpngen.units import usable_cpus

LAUNCH_CLIPS: Final = 1024
LAUNCH_BYTES: Final = 2**28
"""A GPU renders several batches at once, up to these: a launch costs the host as much as hundreds of clips."""
LAUNCHES_AHEAD: Final = 2
"""Launches by which the host may be ahead of the consumer's CUDA stream, whose memory cannot be used again before."""
PLANNED_CPU: Final = 4096
PLANNED_GPU: Final = 1024
"""Samples whose windows and params are computed at once; for a GPU in the thread of the consumer."""


class CpuMaker:
    """Makes batches on the CPU, in a thread of its own where they are made ahead."""

    def __init__(self, content: Content, device: torch.device, threads: int | None, ring: Ring | None) -> None:
        self.content, self.device = content, device
        worker = get_worker_info()
        self.backend = None if content.reader is not None else backends.load("cpu")
        self.threads = threads or (1 if worker is not None else usable_cpus())
        self.buffers = Buffers()
        self.outgoing: Buffers | Shared = self.buffers if worker is None else Shared(ring, worker.id)

    def batches(self, plans: Iterator[Batch], ahead: int) -> Generator[tuple[Any, ...]]:
        """The batches, up to `ahead` of them made while the last is in use."""
        if not ahead:
            yield from (self.deliver(self.make(plan)) for plan in plans)
            return
        with ThreadPoolExecutor(1, "vpngen-stream") as pool:
            coming: deque[Any] = deque()
            try:
                while True:
                    while len(coming) <= ahead and (plan := next(plans, None)) is not None:
                        coming.append(pool.submit(self.make, plan))
                    if not coming:
                        return
                    yield self.deliver(coming.popleft().result())
            finally:
                for one in coming:
                    one.cancel()

    def make(self, plan: Batch) -> tuple[Any, ...]:
        """One batch in host memory: pinned if it goes on to a GPU, shared if it goes to another process."""
        content, to_gpu = self.content, self.device.type == "cuda"
        shape = (len(plan), *content.sampling.clip)
        with torch.inference_mode(False):  # what is made ahead may be used outside of where it was asked for
            if to_gpu:
                clips = torch.empty(shape, dtype=torch.uint8, pin_memory=True, device="cpu")
            else:
                plain = content.dtype == torch.uint8
                clips = (self.outgoing if plain else self.buffers).take(shape, torch.uint8)
            content.fill(plan, clips, self.backend, self.threads)
            if not to_gpu:
                clips = content.shown(clips, self.outgoing.take)
            return (clips, *content.beside(plan))

    def deliver(self, made: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch where it was asked for, or in a worker, as it is sent from there."""
        if isinstance(self.outgoing, Shared):
            return (self.outgoing.parcel(made[0]), *made[1:])
        if self.device.type != "cuda":
            return made
        clips, *rest = self.content.moved(made, self.device)
        return (self.content.shown(clips), *rest)


class GpuMaker:
    """Makes batches on a GPU, on a CUDA stream of its own, so that they are ready when the consumer's stream gets there.

    Torch owns all memory: what was filled on one stream and is used on another is known to its allocator (`record_stream`).
    The host waits for nothing but a consumer that is launches behind; and for videos with `grey="stretch"`, whose extremes
    it must see.
    """

    def __init__(self, content: Content, device: torch.device) -> None:
        self.content, self.device = content, device
        self.backend = backends.choose(f"cuda:{device.index}")
        self.side = _side_stream(device.index)
        sampling, size = content.sampling, content.batch_size
        pixels = max(height * width for height, width in (*sampling.sides, sampling.clip[1:]))
        clip_bytes = sampling.clip[0] * pixels * max(content.dtype.itemsize, 4 if sampling.scaled else 1)
        self.group = max(1, min(LAUNCH_CLIPS // size, LAUNCH_BYTES // (clip_bytes * size)))

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
                if tensor.is_cuda:
                    tensor.record_stream(current)
            yield made

    def make(self, plans: list[Batch]) -> list[tuple[tuple[Any, ...], Any]]:
        """Several batches from one launch, each with the event after which it is there."""
        content, whole = self.content, Batch.joined(plans)
        with torch.inference_mode(False), torch.cuda.device(self.device), torch.cuda.stream(self.side):
            clips = torch.empty((len(whole), *content.sampling.clip), dtype=torch.uint8, device=self.device)
            content.fill(whole, clips, self.backend, 1)
            parts = [content.shown(clips), *content.moved(content.beside(whole), self.device)]
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self.side)
        made, first = [], 0
        for plan in plans:
            one = slice(first, first + len(plan))
            made.append((tuple(_part(part, one) for part in parts), ready))
            first += len(plan)
        return made


def _part(part: Any, one: slice) -> Any:
    return {name: value[one] for name, value in part.items()} if isinstance(part, dict) else part[one]


@functools.cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """One stream for all iterations: what memory a stream has used, the allocator keeps for that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

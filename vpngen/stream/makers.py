"""What a batch is, and how it is made: on the CPU, in a thread of its own where it is made ahead; on a GPU, on a CUDA stream."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from vpngen import backends, rendering
from vpngen.generators import Params
from vpngen.sampling import Deal, Sampling
from vpngen.spec import Spec
from vpngen.stream.memory import Buffers, Ring, Shared
from vpngen.stream.tensors import Take, normalised, resized, to_device
from vpngen.units import usable_cpus

if TYPE_CHECKING:
    from vpngen.store import ClipReader

LAUNCH_CLIPS: Final = 1024
LAUNCH_BYTES: Final = 2**28
"""A GPU renders several batches at once, up to these: a launch costs the host as much as hundreds of clips."""
LAUNCHES_AHEAD: Final = 2
"""Launches by which the host may be ahead of the consumer's CUDA stream, whose memory cannot be used again before."""
PLANNED_CPU: Final = 4096
PLANNED_GPU: Final = 1024
"""Samples whose windows and params are computed at once; for a GPU in the thread of the consumer."""


@dataclass(frozen=True)
class Batch:
    """The samples of a batch: all that decides its pixels.

    Attributes:
        numbers: (N, 3), the epoch, the number in it, and the video.
        index: (N,), the videos.
        windows: (N, 5), packed; of several segments (N, segments, 5).
        side: (N,), which of `Sampling.sides` each has.
        params: (N,), of the videos.
    """

    numbers: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int32]
    side: npt.NDArray[np.int64]
    params: Params

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: slice | npt.NDArray[np.int64]) -> Batch:
        return Batch(*(part[chosen] for part in vars(self).values()))

    def apart(self) -> Batch:
        """The segments of all samples, in order, as samples of their own."""
        each = Batch(*(np.repeat(part, self.windows.shape[1], axis=0) for part in vars(self).values()))
        return dataclasses.replace(each, windows=self.windows.reshape(-1, self.windows.shape[-1]))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """One batch of the samples of several."""
        return cls(*(np.concatenate(parts) for parts in zip(*(vars(b).values() for b in batches), strict=True)))


@dataclass(frozen=True)
class Content:
    """What the batches of a stream hold: the arguments of `ClipStream`, once they are checked.

    `reader` reads the clips from a store; None renders them.
    """

    spec: Spec
    split: str
    sampling: Sampling
    reader: ClipReader | None
    batch_size: int
    channels: int
    dtype: torch.dtype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: str
    parameters: bool
    flow: bool
    numbers: bool

    @property
    def remote(self) -> bool:
        """Whether the clips are read from objects, by connections that do not survive a fork."""
        return self.reader is not None and self.reader.remote

    @property
    def elsewhere(self) -> bool:
        """Whether other processes can read it."""
        return self.reader is None or self.reader.elsewhere

    @property
    def batch_bytes(self) -> int:
        """Bytes of the clips of a whole batch, as they are in memory."""
        alike = self.dtype == torch.uint8 or len({*zip(self.mean, self.std, strict=True)}) == 1
        pixels = self.batch_size * int(np.prod(self.sampling.clip))
        return pixels * (1 if alike else self.channels) * self.dtype.itemsize

    def batches(self, epoch: int, deal: Deal, rank: int, first: int, every: int, most: int) -> Iterator[Batch]:
        """The batches of a rank from step `first` on, of each `every`-th step.

        Planned some at a time, few at first, then up to `most` samples: NumPy's cost per call is spread over them.
        """
        step, some = first, 1
        while deal.steps is None or step < deal.steps:
            last = step + some * every if deal.steps is None else min(step + some * every, deal.steps)
            parts = [deal.batch_of(k, rank) for k in range(step, last, every)]
            samples = np.concatenate([np.arange(a, b) for a, b in parts])
            numbers = self.sampling.numbers(epoch, samples)
            index = self.sampling.indices(numbers)
            known = np.stack([np.full_like(samples, epoch), samples, index], 1)
            planned = Batch(known, index, *self.sampling.windows(numbers), self.spec.params(index, self.split))
            begin = 0
            for a, b in parts:
                yield planned[begin : begin + b - a]
                begin += b - a
            step += len(parts) * every
            some = min(some * 2, max(most // self.batch_size, 1))

    def fill(self, batch: Batch, out: Any, backend: backends.Backend | None, threads: int) -> None:
        """Clips (N, T, Y, X) into `out`, a uint8 tensor of the CPU or, with the backend of a GPU, of that GPU."""
        sampling = self.sampling
        if batch.windows.ndim > 2:  # their parts lie one behind the other already
            batch, out = batch.apart(), out.view(-1, *sampling.part)
        if not sampling.scaled:
            self._cut(batch, out, backend, threads)
            return
        for i, (height, width) in enumerate(sampling.sides):
            chosen = np.flatnonzero(batch.side == i)
            if not len(chosen):
                continue
            cut = torch.empty((len(chosen), out.shape[1], height, width), dtype=torch.uint8, device=out.device)
            self._cut(batch[chosen], cut, backend, threads)
            out[to_device(torch.from_numpy(chosen), out.device)] = resized(cut, (sampling.clip[1], sampling.clip[2]))

    def _cut(self, batch: Batch, out: Any, backend: backends.Backend | None, threads: int) -> None:
        if self.reader is not None:
            self.reader.read(batch.index, batch.windows, out.numpy(), threads)
            return
        assert backend is not None
        name, params = self.spec.generator.name, rendering.completed(self.spec, batch.params, backend, threads)
        if out.is_cuda:
            rendering.paint(backend, name, params, batch.windows, out, threads, tuple(out.shape))
        else:
            rendering.paint(backend, name, params, batch.windows, out.numpy(), threads)

    def shown(self, clips: torch.Tensor, take: Take | None = None) -> torch.Tensor:
        """Grey (N, T, Y, X) as (N, C, T, Y, X) of the dtype asked for, on the device it is on."""
        clips = clips.unsqueeze(1).expand(-1, self.channels, -1, -1, -1)
        return clips if self.dtype == torch.uint8 else normalised(clips, self.mean, self.std, self.dtype, take)

    def beside(self, batch: Batch) -> list[Any]:
        """What comes with the clips, in host memory: targets and, where they are asked for, parameters, flow and numbers."""
        parts: list[Any] = [torch.from_numpy(TARGETS[self.target](self, batch))]
        if self.parameters:
            parts.append(self._parameters(batch))
        if self.flow:
            parts.append(self._flow(batch))
        if self.numbers:
            parts.append(torch.from_numpy(batch.numbers.copy()))
        return parts

    def moved(self, parts: Sequence[Any], device: torch.device) -> list[Any]:
        """The parts of a batch on a device; numbers stay in host memory, where random draws are made of them."""
        last = len(parts) - self.numbers
        return [*(to_device(part, device) for part in parts[:last]), *parts[last:]]

    def labels(self, batch: Batch) -> npt.NDArray[np.int64]:
        """The category ids, (N,)."""
        return self.spec.labels(batch.index, self.split)

    def factors(self, batch: Batch) -> npt.NDArray[np.int64]:
        """Which value of each factor they have, (N, factors)."""
        return self.spec.generator.factor_ids(self.labels(batch))

    def motion(self, batch: Batch) -> npt.NDArray[np.float32]:
        """The common motion of each clip, float32 (N, 6): see `vpngen.rendering.clip_motion`."""
        spec, sides = self.spec, np.array(self.sampling.sides)[batch.side]
        windows = batch.windows if batch.windows.ndim == 2 else batch.windows[:, 0]
        found = spec.generator.motion(spec.shape, batch.params, windows[:, 1])
        return rendering.clip_motion(found, windows, sides, self.sampling.clip[1:])

    def _flow(self, batch: Batch) -> torch.Tensor:
        """Where each pixel goes to the next frame of its clip, float32 (N, T, H, W, 2), in pixels of the clip."""
        if batch.windows.ndim > 2:
            return self._flow(batch.apart()).view(len(batch), *self.sampling.clip, 2)
        (frames, height, width), parts = self.sampling.part, []
        for window, side, params in zip(batch.windows, batch.side, batch.params, strict=True):
            cut = self.sampling.sides[side]
            found = torch.from_numpy(rendering.truth(self.spec, "motion", params, window, (frames, *cut)))
            if cut != (height, width):
                found = torch.nn.functional.interpolate(
                    found.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False
                ).permute(0, 2, 3, 1) * torch.tensor([width / cut[1], height / cut[0]], dtype=torch.float32)
            parts.append(found)
        return torch.stack(parts)

    def _parameters(self, batch: Batch) -> dict[str, torch.Tensor]:
        values = {"index": batch.index, "window": batch.windows, "side": np.array(self.sampling.sides)[batch.side]}
        for name, parameter in self.spec.generator.parameters(self.spec.shape, batch.params).items():
            wide = parameter.values.dtype.kind == "u" and parameter.values.dtype.itemsize > 1
            values[name] = parameter.values.astype(np.int64) if wide else parameter.values
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}


TARGETS: Final = {"label": Content.labels, "factors": Content.factors, "motion": Content.motion}
"""What comes beside the clips: by its name, a function of a `Content` and a batch."""


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
        pool, coming, process = ThreadPoolExecutor(1, "vpngen-stream"), deque[Any](), os.getpid()
        try:
            while True:
                while len(coming) <= ahead and (plan := next(plans, None)) is not None:
                    coming.append(pool.submit(self.make, plan))
                if not coming:
                    return
                yield self.deliver(coming.popleft().result())
        finally:
            if process == os.getpid():  # a forked child has no such thread, and its locks may never open
                pool.shutdown(cancel_futures=True)

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

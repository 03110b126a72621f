"""What a batch is and how it is filled: from sample numbers to videos, windows, params, and pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vpngen import backends, rendering
from vpngen.generators import Params
from vpngen.sampling import Deal, Sampling
from vpngen.spec import Spec
from vpngen.store import ClipReader
from vpngen.stream.tensors import Take, normalised, resized, to_device


@dataclass(frozen=True)
class Batch:
    """The samples of a batch: all that decides its pixels.

    Attributes:
        numbers: (N, 2), the epoch and the number in it.
        index: (N,), the videos.
        windows: (N, 5), packed.
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
    parameters: bool
    numbers: bool

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
            known = np.stack([np.full_like(samples, epoch), samples], 1)
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
        if not sampling.scaled:
            self._cut(batch, out, backend, threads)
            return
        for i, (height, width) in enumerate(sampling.sides):
            chosen = np.flatnonzero(batch.side == i)
            if not len(chosen):
                continue
            cut = torch.empty((len(chosen), sampling.clip[0], height, width), dtype=torch.uint8, device=out.device)
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
        """What comes with the clips, in host memory: labels and, where they are asked for, parameters and numbers."""
        parts: list[Any] = [torch.from_numpy(self.spec.labels(batch.index, self.split))]
        if self.parameters:
            parts.append(self._parameters(batch))
        if self.numbers:
            parts.append(torch.from_numpy(batch.numbers.copy()))
        return parts

    def moved(self, parts: Sequence[Any], device: torch.device) -> list[Any]:
        """The parts of a batch on a device; numbers stay in host memory, where random draws are made of them."""
        last = len(parts) - self.numbers
        return [*(to_device(part, device) for part in parts[:last]), *parts[last:]]

    def _parameters(self, batch: Batch) -> dict[str, torch.Tensor]:
        values = {"index": batch.index, "window": batch.windows, "side": np.array(self.sampling.sides)[batch.side]}
        for name, parameter in self.spec.generator.parameters(self.spec.shape, batch.params).items():
            wide = parameter.values.dtype.kind == "u" and parameter.values.dtype.itemsize > 1
            values[name] = parameter.values.astype(np.int64) if wide else parameter.values
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}

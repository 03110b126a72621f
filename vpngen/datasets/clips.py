"""Clips of real videos: at random to train with, and all of a video, window by window, to recognise it by.

Which clip comes when is decided by `vpngen.sampling`, as for a stream: sample `s` of epoch `e` is a function of the seed, `e`
and `s`, and of which files can be read. Workers only read, so their number changes nothing.

Crops are a part of the short side of the video, whatever its size, and are resized to the clip, with antialiasing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from vpngen import checks
from vpngen.checks import MAX_SIDE, SEEDS, Shape, flag, integer, one_of
from vpngen.datasets import decoding, workers
from vpngen.datasets.base import Video, VideoSet
from vpngen.datasets.decoding import Frames, UnreadableError
from vpngen.errors import ArgumentError, MissingError, RunError, VpngenError
from vpngen.sampling import Augment, Deal, Sampling, augmentation
from vpngen.stream.dataset import given_ranks, ranks_here
from vpngen.stream.memory import Sharing, lacks_shm, shared
from vpngen.stream.place import MOST_EPOCHS, Owner, same_process
from vpngen.stream.waiting import ask

X10_SCALE: Final = 7 / 8
"""What of the short side is cut where no scales are said, except from the centre. Kataoka et al., WACV 2022, cut 112 pixels; the usual
copy of a set has a short side of 128 to cut them from."""
MOST_CLIPS: Final = 2**16
"""Windows of a video that may be asked for."""
MOST_IN_A_ROW: Final = 100
"""Videos that may follow each other in a shuffled order and all be unreadable; where it is more, something else is wrong."""
DAMAGED: Final = "damaged: "
"""How the failure of a video begins of which something was read all the same."""
SHORT: Final = "too short: "
"""How that of a video begins that has too few frames and is not looped."""


class ShortError(UnreadableError):
    """A video that has fewer frames than what is cut from it, and is not looped."""


class _Loader:
    """What both loaders share: ranks, the workers that read, and the failures that they report."""

    def __init__(
        self, videos: VideoSet, batch_size: int, clip: Shape, rank: int | None, world_size: int | None,
        num_workers: int, multiprocessing_context: str | None, pin_memory: bool,
    ) -> None:  # fmt: skip
        self.videos = videos
        self.batch_size = integer("batch_size", batch_size, 1, 2**20)
        self._clip = checks.shape("clip", clip)
        self.failures: dict[str, str] = {}
        self._given = given_ranks(rank, world_size)
        self._sharing = Sharing(num_workers)
        if multiprocessing_context is not None:
            one_of("multiprocessing_context", multiprocessing_context, torch.multiprocessing.get_all_start_methods())
        self._reader = functools.partial(
            DataLoader[Any],
            batch_size=None,
            num_workers=integer("num_workers", num_workers, 0, 4096),
            multiprocessing_context=multiprocessing_context if num_workers else None,
            worker_init_fn=workers.begin,
            collate_fn=shared,
            # Of large clips a batch is a gigabyte, and there are two loaders: several workers are ahead enough with one each.
            prefetch_factor={0: None, 1: 2}.get(num_workers, 1),
            pin_memory=flag("pin_memory", pin_memory),
            # Of its own: a DataLoader draws from that of torch when it begins, where the model would feel it.
            generator=torch.Generator(),
        )

    def __repr__(self) -> str:
        clips = f"clips uint8 {(self.batch_size, 3, *self._clip)}"
        return f"{type(self).__name__}({self.videos!r}: {clips}, num_workers={self._reader.keywords['num_workers']})"

    def _batches(self, reader: DataLoader[Any]) -> Iterator[list[Any]]:
        """The entries of each batch; the failures that come with it are kept, and errors are raised here."""
        process = os.getpid()
        for batch in workers.iteration(reader):
            if isinstance(batch, MissingError) and lacks_shm(batch):
                raise self._sharing.error()
            if isinstance(batch, VpngenError):
                try:
                    raise batch
                finally:
                    del batch  # else it and this frame hold each other, and the workers, until garbage is collected
            *entries, failures = batch
            self.failures.update(failures)
            yield entries
            same_process(process)


class VideoLoader(_Loader):
    """Batches of clips from real videos, one of each video in an epoch, the same for the same arguments.

    Each iteration is an epoch: the first is epoch 0, the next one 1; `set_epoch` says which comes next. The ranks are read when
    an iteration begins, from torch.distributed or what torchrun sets, and share an epoch without overlap, in equal numbers of
    batches. One iteration at a time.

    A video that cannot be read is replaced by the next one of the order that can, and entered in `failures`. Where some frames of
    a clip cannot be decoded, the others are looped, and the video is entered as damaged.

    Args:
        videos: the set.
        batch_size: clips of a batch, on each rank.
        clip: (t, y, x) of a clip. Shorter videos are looped.
        augment: `multiscale` (four corners and centre at the scales 2^(-i/4) of the short side, mirrored or not: Hara, Kataoka,
            Satoh, CVPR 2018, section 3.3), `x10` (the same at 7/8 of the short side), `random` (any place, at 7/8), `jitter`
            (any place, at 224/320 to 224/256), `none` (the middle, and all of the short side), or a `vpngen.sampling.Augment`.
        seed: of order and windows, in [0, 2**64).
        shuffle: each epoch in an order of its own; else in the order of the set.
        drop_last: leave out the end of an epoch that does not fill a batch on every rank; else it makes smaller batches.
        loop: whether shorter videos are looped; else they cannot be used, and are named in `failures`.
        numbers: whether batches have a third entry, the epoch, the number and the video of each sample.
        num_workers: processes that read; 0 reads in this one. They stay from epoch to epoch. Each has one batch in hand, so
            about as many batches as workers wait in memory (a single worker has two).
        multiprocessing_context: of the workers, `fork`, `spawn` or `forkserver`; None for the system's own.
        pin_memory: put batches where a GPU fetches them without waiting; for machines with one.
        rank: this process among `world_size`, in place of what torch.distributed says; give both or neither.
        world_size: the number of ranks.

    Attributes:
        failures: id of a video -> why it could not be read, or what of it is damaged, as far as this process has seen.

    Yields:
        clips, uint8 RGB (N, 3, T, H, W); labels, int64 (N,), or None of a set without; with `numbers` also
        int64 (N, 3): the epoch, the number of the sample in it over all ranks, and which video of the set it is of.

    Raises:
        ArgumentError: an argument out of range.
        MissingError: too little shared memory for the batches of the workers.
        RunError: while iterating: a hundred videos in a row of a shuffled order, or all there are, cannot be read.
    """

    def __init__(
        self,
        videos: VideoSet,
        batch_size: int,
        *,
        clip: Shape = (16, 112, 112),
        augment: str | Mapping[str, Any] | Augment | None = "x10",
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        loop: bool = True,
        numbers: bool = False,
        num_workers: int = 0,
        multiprocessing_context: str | None = None,
        pin_memory: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(videos, batch_size, clip, rank, world_size, num_workers, multiprocessing_context, pin_memory)
        if not videos.videos:
            raise ArgumentError("is an empty set", "videos")
        self.drop_last = flag("drop_last", drop_last)
        shape, whole = self._clip, augmentation(augment)
        if whole.scales is None:  # of real videos every crop is a part of the short side
            whole = dataclasses.replace(whole, scales=(1.0,) if whole.crop == "center" else (X10_SCALE,))
        shuffle, seed = flag("shuffle", shuffle), integer("seed", seed, 0, SEEDS)
        numbers, loop = flag("numbers", numbers), flag("loop", loop)
        self._clips = _Clips.of(videos, shape, whole, shuffle, seed, numbers, loop)
        # What the DataLoader asks for. It knows nothing of this loader, so that one that is dropped is gone at once.
        self._plans: list[tuple[int, int, int]] = []
        self._kept = self._reader(self._clips, sampler=self._plans, persistent_workers=num_workers > 0)
        self._next = (0, 0)  # epoch and first sample of the next iteration
        self._at: tuple[int, int] | None = None  # of the one that runs
        deal = self._deal(0, (self._given or (0, 1))[1])
        nbytes = self.batch_size * 3 * math.prod(shape)
        self._sharing = Sharing.of(num_workers, self._kept.prefetch_factor, deal.steps, nbytes)
        self._sharing.check()

    def __len__(self) -> int:
        """The batches of a whole epoch on this rank."""
        return cast(int, self._deal(0, ranks_here(self._given)[1]).steps)

    def _deal(self, start: int, ranks: int) -> Deal:
        n = len(self.videos.videos)
        if self.drop_last and self.batch_size * ranks > n:
            problem = f"on each of {ranks} ranks is more than the {n} videos; give a smaller one, or drop_last=False"
            raise ArgumentError(problem, "batch_size", self.batch_size)
        return Deal(start, n, self.batch_size, ranks, self.drop_last)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches of the next epoch; it begins with the first that is asked for."""
        self._at = None
        return self._epoch()

    def _epoch(self) -> Iterator[tuple[torch.Tensor, ...]]:
        rank, ranks = ranks_here(self._given)
        epoch, sample = self._next
        deal = self._deal(sample, ranks)
        self._next, self._at = (epoch + 1, 0), (epoch, sample)
        self._plans[:] = [(epoch, *deal.batch_of(step, rank)) for step in range(cast(int, deal.steps))]
        for done, batch in enumerate(self._batches(self._kept), 1):
            self._at = (epoch, deal.bound(done))
            yield tuple(batch)
        self._at = None

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its beginning, or from where `load_state_dict` left it. Raises ArgumentError."""
        integer("epoch", epoch, 0, MOST_EPOCHS - 1)
        self._next = (epoch, self._next[1] if self._next[0] == epoch else 0)
        self._at = None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, in plain values: what all ranks have seen once they have taken as many batches."""
        return self._owner.state(*(self._at or self._next))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next iteration gives the samples that were left, on however many ranks and workers.

        Raises:
            ArgumentError: not a state of a VideoLoader.
            ConflictError: the state of another set of videos, or of a loader with other arguments.
        """
        self._next, self._at = self._owner.place(state), None

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the set, without where it lies: its ids, labels, segments and classes."""
        content = [self.videos.kind, self.videos.subset, self.videos.split, self.videos.classes]
        rows = [(v.id, v.label, v.segment, v.frames) for v in self.videos.videos]
        return hashlib.sha256(json.dumps([content, rows]).encode()).hexdigest()

    @functools.cached_property
    def _owner(self) -> Owner:
        settings = {**self._clips.order.settings(), "clip": list(self._clips.clip)}
        n = len(self.videos.videos)
        return Owner("VideoLoader", "vpngen_videos", self.fingerprint, settings, MOST_EPOCHS - 1, n)


@dataclass(frozen=True)
class _Clips(Dataset[Any]):
    """(epoch, first sample, one after the last) -> a batch, in any process."""

    videos: VideoSet
    clip: Shape
    order: Sampling
    numbers: bool
    loop: bool

    @classmethod
    def of(
        cls,
        videos: VideoSet,
        clip: Shape,
        augment: Augment,
        shuffle: bool = False,
        seed: int = 0,
        numbers: bool = False,
        loop: bool = True,
    ) -> _Clips:
        """Those of an order. Raises ArgumentError for a clip that cannot be divided into the segments."""
        n, common = len(videos.videos), math.gcd(*clip[1:])
        # The shape of videos plays no part in their order. With its sides in lowest terms, any video holds the clip.
        least = (clip[0], clip[1] // common, clip[2] // common)
        if clip[0] % augment.segments:
            raise ArgumentError(f"must have frames for each of the {augment.segments} segments alike", "clip", clip)
        held = (((clip[0] // augment.segments - 1) * max(augment.steps) + 1) * augment.segments, *clip[1:])
        return cls(videos, clip, Sampling(n, held, least, augment, n, shuffle, seed), numbers, loop)

    def __getitem__(self, plan: tuple[int, int, int]) -> Any:
        epoch, first, last = plan
        clips, shown, failures, missing = [], [], dict[str, str](), set[int]()
        numbers = self.order.numbers(epoch, np.arange(first, last))
        for number, index in zip(numbers.tolist(), self.order.indices(numbers).tolist(), strict=True):
            ask()
            try:
                clip, index = self._sample(number, index, failures, missing)
            except VpngenError as error:
                return workers.alone(error)  # raised from a worker, it would drag its traceback into the message
            clips.append(clip)
            shown.append(index)
        labels = torch.tensor([self.videos.videos[index].label for index in shown]) if self.videos.classes else None
        known = [(epoch, sample, index) for sample, index in zip(range(first, last), shown, strict=True)]
        extra = [torch.tensor(known)] if self.numbers else []
        return torch.stack(clips), labels, *extra, failures

    def _sample(self, number: int, index: int, failures: dict[str, str], missing: set[int]) -> tuple[torch.Tensor, int]:
        """The clip of a sample, from its video or the next of that pass that can be read, and the place of that in the set.

        Videos that cannot be read are added to `failures`, and those that are not there to `missing`, which are not tried. Raises RunError where none of many can be.
        """
        n = len(self.videos.videos)
        # In the order of a list, what is missing may be missing in a row: then all are tried.
        start, tried = number // n * n, min(n, MOST_IN_A_ROW) if self.order.shuffle else n
        short = 0
        for k in range(tried):
            if k == 1:
                nexts = self.order.indices(start + (number - start + np.arange(tried)) % n).tolist()
            if (index := nexts[k] if k else index) in missing:
                continue
            video = self.videos.videos[index]
            try:
                clip, notes = self.cut(video, number)
            except UnreadableError as error:
                failures[video.id] = f"{SHORT if isinstance(error, ShortError) else ''}{error}"
                short += isinstance(error, ShortError)
                if not os.path.exists(video.path):
                    missing.add(index)
                continue
            failures |= _damage(video, notes)
            return clip, index
        why = ", so the folder or the annotations are wrong"
        if short:
            why = f"; {short} are too short, so take fewer frames of each (a shorter clip or window), or longer videos"
        some = "\n  ".join([f"{why}:", *list(failures.values())[-3:]])
        raise RunError(f"none of {tried} videos in a row can be read{some}")

    def cut(self, video: Video, number: int) -> tuple[torch.Tensor, list[str]]:
        """The clip of a sample from a video, uint8 (3, T, H, W), and what was found damaged. Raises UnreadableError."""
        info, sample, augment = decoding.probe(video), np.array([number]), self.order.augment
        size, longest = (info.height, info.width), self.order.shape[0]
        if info.frames < longest and not self.loop:
            raise ShortError(f"{info.path}: has {info.frames} frames, and {longest} are needed")
        # A video that is shorter than the clip is shown again from its beginning, as often as it takes.
        try:
            sampling = dataclasses.replace(self.order, shape=(max(info.frames, longest), *size))
        except ArgumentError:
            raise UnreadableError(f"{video.path}: {size} pixels are too few to cut {self.clip[1:]} from") from None
        windows, (side,) = sampling.windows(sample)
        if info.frames < longest and len(augment.steps) > 1:  # it may hold a clip at the step that was drawn
            step = int(windows.flat[1])
            shape = (max(info.frames, self.order.span(step) * augment.segments), *size)
            one = dataclasses.replace(augment, step=step)
            windows, _ = dataclasses.replace(sampling, shape=shape, augment=one).windows(sample)
        windows = windows.reshape(-1, 5)
        step, y0, x0, flip = map(int, windows[0, 1:])
        height, width = sampling.sides[side]
        wanted = [(t0 + k * step) % info.frames for t0 in windows[:, 0].tolist() for k in range(sampling.part[0])]
        notes: list[str] = []
        found = {  # one whole frame in memory at a time
            k: _resized(frame[None, y0 : y0 + height, x0 : x0 + width], self.clip[1:])
            for k, frame in decoding.frames(info, wanted, notes)
        }
        if not found:
            which, why = f"{min(wanted)} to {max(wanted)}", f" ({notes[0]})" if notes else ""
            raise UnreadableError(f"{info.path}: none of the frames {which} can be decoded{why}")
        clip = _joined(found, wanted, notes)
        return clip.flip(-1) if flip else clip, notes


class WindowLoader(_Loader):
    """All windows of all videos, each file decoded once, from beginning to end, in little memory.

    A window is the whole of the short side, from the centre, of `clip[0]` frames; the next one begins `stride` frames later. The
    last one, where the video ends before it does, is looped (Hara, Kataoka, Satoh, CVPR 2018, section 3.3, Recognition). With `clips`, so
    many of each video, evenly from its beginning to its end.

    A video belongs to one rank, and there to one worker. Its windows come in order; with workers, those of different videos
    alternate. A video of which nothing can be read gives no windows.

    Args:
        videos: the set.
        batch_size: windows of a batch at most; a batch may span videos.
        clip: (t, y, x) of a window.
        stride: frames from one window to the next, a multiple of `frame_step`; None for so many that they do not overlap.
        frame_step: frames from one frame of a window to the next.
        segments: above 1, each video gives one window, of `clip[0]` frames from the middle of each of so many equal parts of it, one
            behind the other.
        clips: so many windows of each video in place of those above: the first begins with it, the last ends with it, and the others lie
            evenly between them, over each other in a short video, as public code of Xu et al., CVPR 2019, has ten. All windows of a video
            shorter than one are the same, looped.

    The other arguments are those of VideoLoader.

    Attributes:
        failures: as of VideoLoader.
        short: ids of the videos that have fewer frames than a window, and were looped.

    Yields:
        clips, uint8 RGB (n, 3, T, H, W); indices, int64 (n,): which video of the set each is of.

    Raises:
        ArgumentError: an argument out of range.
    """

    def __init__(
        self,
        videos: VideoSet,
        batch_size: int,
        *,
        clip: Shape = (16, 112, 112),
        stride: int | None = None,
        frame_step: int = 1,
        segments: int = 1,
        clips: int | None = None,
        num_workers: int = 0,
        multiprocessing_context: str | None = None,
        pin_memory: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(videos, batch_size, clip, rank, world_size, num_workers, multiprocessing_context, pin_memory)
        self.short: set[str] = set()
        shape = self._clip
        step = integer("frame_step", frame_step, 1, MAX_SIDE)
        if clips is not None and (stride is not None or segments != 1):
            raise ArgumentError(
                "say which windows there are; give no `stride` or `segments` beside them", "clips", clips
            )
        clips = clips if clips is None else integer("clips", clips, 1, MOST_CLIPS)
        stride = shape[0] * step if stride is None else integer("stride", stride, 1, MAX_SIDE)
        if stride % step:
            raise ArgumentError(f"must be a multiple of `frame_step` (={step})", "stride", stride)
        whole = Augment(time="center", crop="center", flip=0.0, step=step, scales=(1.0,), segments=segments)
        parts = _Clips.of(videos, (shape[0] * segments, *shape[1:]), whole) if segments > 1 else None
        Sharing(num_workers).check()  # how many windows there are is not known
        ahead = num_workers * (self._reader.keywords["prefetch_factor"] or 2) + 1
        self._sharing = Sharing(num_workers, ahead, self.batch_size * 3 * segments * math.prod(shape))
        self._windows = _Windows(videos, self.batch_size, shape, stride // step, step, parts, clips)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every window once. Each iteration is the same."""
        rank, ranks = ranks_here(self._given)
        mine = dataclasses.replace(self._windows, indices=range(rank, len(self.videos.videos), ranks))
        for clips, indices, short in self._batches(self._reader(mine)):
            self.short.update(short)
            if clips is not None:
                yield clips, indices


@dataclass(frozen=True)
class _Windows(IterableDataset[Any]):
    """The windows of the videos of a rank, or of those of them that a worker has."""

    videos: VideoSet
    batch_size: int
    clip: Shape
    stride: int
    step: int
    parts: _Clips | None
    count: int | None
    indices: range = range(0)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        mine = self.indices[worker.id :: worker.num_workers] if worker else self.indices
        clips, indices, short, failures = [], [], list[str](), dict[str, str]()
        for index in mine:
            video, notes = self.videos.videos[index], list[str]()
            try:
                for clip, looped in self._of(video, notes):
                    if looped:
                        short.append(video.id)
                    clips.append(clip)
                    indices.append(index)
                    if len(clips) == self.batch_size:
                        yield torch.stack(clips), torch.tensor(indices), short, failures
                        clips, indices, short, failures = [], [], [], {}
                failures |= _damage(video, notes)
            except UnreadableError as error:
                failures[video.id] = str(error)
            except VpngenError as error:
                yield workers.alone(error)
                return
        if clips or failures:
            yield torch.stack(clips) if clips else None, torch.tensor(indices), short, failures

    def _of(self, video: Video, notes: list[str]) -> Iterator[tuple[torch.Tensor, bool]]:
        """The windows of a video, uint8 (3, T, H, W), and whether it is shorter than one."""
        if self.parts is not None:
            clip, found = self.parts.cut(video, 0)
            notes += found
            yield clip, decoding.probe(video).frames < self.parts.order.shape[0]
            return
        if self.count is not None:
            yield from self._spread(video, self.count, notes)
            return
        frames, size = self.clip[0], self.clip[1:]
        held: deque[torch.Tensor] = deque(maxlen=frames)  # (3, 1, H, W) each
        seen = begin = 0
        for number, frame in enumerate(decoding.stream(video, notes)):
            ask()
            if number % self.step:
                continue
            seen += 1
            if seen > begin:
                held.append(_resized(_centre(frame, size)[None], size))
            if seen == begin + frames:
                yield torch.cat(list(held), 1), False
                begin += self.stride
        if seen > begin:
            rest = list(held)[-(seen - begin) :]
            yield torch.cat([rest[k % len(rest)] for k in range(frames)], 1), begin == 0

    def _spread(self, video: Video, count: int, notes: list[str]) -> Iterator[tuple[torch.Tensor, bool]]:
        """So many windows, evenly from the first to the last that there may be; those of which no frame can be decoded are left out."""
        info, size = decoding.probe(video), self.clip[1:]
        span = (self.clip[0] - 1) * self.step + 1
        begins = [k * max(info.frames - span, 0) // max(count - 1, 1) for k in range(count)]
        left = deque([(t0 + k * self.step) % info.frames for k in range(self.clip[0])] for t0 in begins)
        held: dict[int, torch.Tensor] = {}  # (3, 1, H, W), those that a window is still to have
        lost = 0
        for number, frame in itertools.chain(decoding.frames(info, set().union(*left), notes), [(info.frames, None)]):
            ask()
            while left and max(left[0]) < number:
                if held.keys() & (wanted := left.popleft()):
                    yield _joined(held, wanted, notes), info.frames < span
                else:
                    lost += 1
            held = {k: kept for k, kept in held.items() if left and k >= min(left[0])}
            if frame is not None:
                held[number] = _resized(_centre(frame, size)[None], size)
        if lost == count:
            raise UnreadableError(f"{info.path}: none of the frames of {count} windows can be decoded")
        if lost:
            notes.append(f"{lost} of {count} windows cannot be decoded")


def _joined(found: Mapping[int, torch.Tensor], wanted: Sequence[int], notes: list[str]) -> torch.Tensor:
    """The clip (3, T, H, W) of the frames (3, 1, H, W) of these numbers; those that were `found`, one at least, are looped, and `notes` say so."""
    clip = torch.cat([found[k] for k in wanted if k in found], 1)
    if (count := clip.shape[1]) < len(wanted):
        notes.append(f"{len(wanted) - count} of the {len(wanted)} frames of a clip cannot be decoded")
        clip = clip[:, torch.arange(len(wanted)) % count]
    return clip


def _centre(frame: Frames, size: tuple[int, int]) -> Frames:
    """The largest part of a frame (Y, X, 3) of the shape of `size`, from its centre."""
    common = math.gcd(*size)
    height, width = size[0] // common, size[1] // common
    fit = min(frame.shape[0] / height, frame.shape[1] / width)
    height, width = max(int(height * fit + 1e-9), 1), max(int(width * fit + 1e-9), 1)
    y0, x0 = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return frame[y0 : y0 + height, x0 : x0 + width]


def _resized(cut: Frames, size: tuple[int, int]) -> torch.Tensor:
    """Frames (T, Y, X, 3), a view too, at another size (H, W): uint8 (3, T, H, W), contiguous.

    Bilinear with antialiasing as Pillow has it, within one level, and four times as fast since colours stay together.
    """
    images = torch.from_numpy(cut).permute(0, 3, 1, 2)
    if tuple(images.shape[2:]) != size:
        images = torch.nn.functional.interpolate(images, list(size), mode="bilinear", antialias=True)
    return images.permute(1, 0, 2, 3).contiguous()


def _damage(video: Video, notes: list[str]) -> dict[str, str]:
    more = f", and {len(notes) - 1} more" if len(notes) > 1 else ""
    return {video.id: DAMAGED + notes[0] + more} if notes else {}

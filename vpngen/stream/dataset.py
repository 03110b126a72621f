"""The stream itself: its arguments, and its place."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import IterableDataset, get_worker_info

from vpngen import backends, store
from vpngen.checks import SEEDS, Shape, flag, integer, is_integer, is_number, one_of, shape
from vpngen.errors import ArgumentError, ConflictError, MissingError
from vpngen.sampling import MOST_SAMPLES, Augment, Deal, Sampling, augmentation
from vpngen.spec import Spec
from vpngen.store import ClipReader
from vpngen.stream.batches import Content
from vpngen.stream.makers import PLANNED_CPU, PLANNED_GPU, CpuMaker, GpuMaker
from vpngen.stream.place import MOST_EPOCHS, Control, Position
from vpngen.stream.ring import Ring
from vpngen.stream.tensors import device_of

DTYPES: Final = {str(d).removeprefix("torch."): d for d in (torch.uint8, torch.float16, torch.bfloat16, torch.float32)}
AHEAD: Final = 2
"""Batches made ahead in one process, where nothing else is asked for."""
STATE_FORM: Final = 1


class ClipStream(IterableDataset[tuple[torch.Tensor, ...]]):
    """Batches of clips and labels, the same for the same arguments, on any machine, ranks and workers.

    >>> import vpngen
    >>> stream = vpngen.ClipStream(vpngen.perlin(categories=4, instances=2), batch_size=8, device="cpu")
    >>> clips, labels = next(iter(stream))
    >>> clips.shape, clips.dtype, labels.shape
    (torch.Size([8, 3, 16, 112, 112]), torch.uint8, torch.Size([8]))

    Each iteration is an epoch: the first is epoch 0, the next one 1; `set_epoch` says which comes next. Every batch is
    whole, so give it to a DataLoader with `batch_size=None`, or use `vpngen.loader`. Ranks are read when an iteration
    begins, from torch.distributed or from what torchrun sets, and share an epoch without overlap, in equal numbers of
    batches.

    Args:
        source: a spec, whose clips are rendered, or the path of a store of it, whose clips are read: the same batches.
        batch_size: clips of a batch, on each rank.
        clip: (t, y, x) of a clip.
        split: `train` or `val`.
        augment: `x10` (four corners and centre, mirrored or not, any start), `multiscale` (the same at the scales 2^(-i/4),
            resized), `random` (any window), `none` (the one in the middle), or a `vpngen.sampling.Augment`.
        length: samples of an epoch, over all ranks: `epoch` for as many as the split has videos, `infinite`, or a number.
        shuffle: each pass over the videos in an order of its own; else in the order of the set.
        drop_last: leave out the end of an epoch that does not fill a batch on every rank; else it makes smaller batches.
        channels: 1, or 3 for the grey repeated, which takes no memory unless `mean` or `std` differ between channels.
        dtype: `uint8`, or `float16`, `bfloat16`, `float32` for (grey / 255 - mean) / std, computed in float32.
        mean: of grey in [0, 1], a number or one for each channel.
        std: likewise.
        parameters: whether batches have a further entry, a dictionary of tensors (N, ...): `index` of the video, `window` as
            (t0, step, y0, x0, flip), `side` as (height, width) of what is cut there, and the parameters of the video.
        numbers: whether batches have a last entry, int64 (N, 2) in host memory: the epoch of each sample and its number in
            that epoch, over all ranks. Random draws that are keyed by them are the same after a resume and on other ranks.
        seed: of order and augmentation, in [0, 2**64); the pixels depend on that of the spec.
        device: where batches are: `cpu`, `cuda`, `cuda:1`, or `auto` for the current GPU if there is one that renders.
        threads: CPU threads that render; None for all that this process may use, and one in a worker process.
        prefetch: batches made ahead; None for two, and none in a worker process, where the DataLoader sees to it.
        rank: this process among `world_size`, in place of what torch.distributed says; give both or neither.
        world_size: the number of ranks.

    Yields:
        clips, `dtype` (N, C, T, H, W); labels, int64 (N,); then `parameters` and `numbers`, where they are asked for.

    Several batches of a GPU may share memory: `clone` one that you keep. Videos of `grey="stretch"` cost a pass over each
    whole video; a store of codec `formula` has taken it once and for all. One iteration of a stream at a time.

    Raises:
        ArgumentError: an argument out of range.
        ConflictError: `source` is not a store of ours, or not finished.
        MissingError: the device asked for cannot be used.

    The recipe is that of Kataoka et al., WACV 2022, section 4: clips of 16 x 112 x 112 at a random time, from corners and
    centre, mirrored or not, in batches of 128.
    """

    def __init__(
        self,
        source: Spec | str | Path,
        batch_size: int = 128,
        *,
        clip: Shape = (16, 112, 112),
        split: str = "train",
        augment: str | Mapping[str, Any] | Augment | None = "x10",
        length: str | int = "epoch",
        shuffle: bool = True,
        drop_last: bool = False,
        channels: int = 3,
        dtype: str | torch.dtype = "uint8",
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        parameters: bool = False,
        numbers: bool = False,
        seed: int = 0,
        device: str | torch.device = "auto",
        threads: int | None = None,
        prefetch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.spec, reader = _source(source, split)
        self.batch_size = integer("batch_size", batch_size, 1, 2**20)
        videos = self.spec.n_videos(split)
        if not videos:
            raise ArgumentError(f"holds no videos; this set has {', '.join(self.spec.splits)}", "split", split)
        if isinstance(length, str) and length not in ("epoch", "infinite"):
            raise ArgumentError("must be epoch, infinite or a number of samples", "length", length)
        samples = {"epoch": videos, "infinite": None}[length] if isinstance(length, str) else length
        self.sampling = Sampling(
            videos,
            self.spec.shape,
            shape("clip", clip),
            augmentation(augment),
            None if samples is None else integer("length", samples, 1, 2**48),
            flag("shuffle", shuffle),
            integer("seed", seed, 0, SEEDS),
        )
        self.drop_last = flag("drop_last", drop_last)
        if not is_integer(channels) or channels not in (1, 3):
            raise ArgumentError("must be 1 or 3", "channels", channels)
        of_each = _each("mean", mean, channels), _each("std", std, channels)
        if not all(s > 0 for s in of_each[1]):
            raise ArgumentError("must be above 0", "std", std)
        self.content = Content(
            self.spec, split, self.sampling, reader, self.batch_size, channels,
            DTYPES[one_of("dtype", str(dtype).removeprefix("torch."), DTYPES)], *of_each, flag("parameters", parameters),
            flag("numbers", numbers),
        )  # fmt: skip
        self.device = _device(device)
        self.threads = None if threads is None else integer("threads", threads, 1, 4096)
        self.prefetch = None if prefetch is None else integer("prefetch", prefetch, 0, 4096)
        self._given = given_ranks(rank, world_size)
        self._sent: tuple[int, int] | None = None
        self._check_batch((self._given or (0, 1))[1])
        self._control = Control()
        self._ring: Ring | None = None
        self._at: Position | None = None

    # --- what is in it

    def __len__(self) -> int:
        """The batches of a whole epoch on this rank. Raises TypeError where the stream is endless."""
        steps = self._deal(0, self._ranks()[1]).steps
        if steps is None:
            raise TypeError("an infinite stream has no length")
        return steps

    def _deal(self, start: int, ranks: int) -> Deal:
        self._check_batch(ranks)
        return Deal(start, self.sampling.length, self.batch_size, ranks, self.drop_last)

    def _check_batch(self, ranks: int) -> None:
        length = self.sampling.length
        if length is not None and self.batch_size * ranks > length:
            on = f" on each of {ranks} ranks" if ranks > 1 else ""
            raise ArgumentError(
                f"is more than the epoch holds{on}, which is {length} samples", "batch_size", self.batch_size
            )

    def _ranks(self) -> tuple[int, int]:
        """(rank, world size) of this process; of a worker, those of the process that started it."""
        return ranks_here(self._given or (self._sent if get_worker_info() is not None else None))

    # --- where it is

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its beginning, or from where `load_state_dict` left it. Raises ArgumentError.

        Reaches the workers of a DataLoader, persistent ones too, when their next iteration begins.
        """
        epoch = integer("epoch", epoch, 0, self._last_epoch)
        untouched, at = self._control.pending()
        self._place(epoch, at[1] if untouched and at[0] == epoch else 0)

    @property
    def _last_epoch(self) -> int:
        return min(self.sampling.epochs, MOST_EPOCHS) - 1

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: what a later `load_state_dict` needs to go on with the next batch.

        Of plain values. In the process that iterates: after each batch, what all ranks have seen once they have taken as
        many. In a DataLoader's worker, for torchdata's StatefulDataLoader: the place of that worker.

        Raises:
            ConflictError: workers of a DataLoader iterate the stream, so this process does not know how far they are.
        """
        worker = get_worker_info()
        if worker is None and self._at is None and self._control.in_workers():
            raise ConflictError(
                "this stream is iterated by the workers of a DataLoader, whose place is not known here; take the state "
                "of vpngen.loader(...), or of torchdata's StatefulDataLoader"
            )
        at = self._at
        if at is None:
            at = self._control.peek(*self._who())
            if worker is not None:
                at = dataclasses.replace(at, worker=(worker.id, worker.num_workers), ranks=self._ranks()[1])
        return self._state(at)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next iteration gives the samples that were left, on however many ranks and workers.

        Raises:
            ArgumentError: not a state of a stream, or one that belongs to a worker of another arrangement.
            ConflictError: the state of another spec, or of a stream with other arguments.
        """
        at = self._read_state(state)
        worker = get_worker_info()
        if at.worker is not None:
            here = (worker.id, worker.num_workers) if worker is not None else None
            if here != at.worker or self._ranks()[1] != at.ranks:
                raise ArgumentError(
                    f"the state is that of worker {at.worker[0]} of {at.worker[1]} on {at.ranks} ranks, and cannot be "
                    f"loaded in another arrangement; the state of vpngen.loader(...) can"
                )
            self._control.resume, self._at = at, None
        else:
            self._place(at.epoch, at.sample)

    def _place(self, epoch: int, sample: int) -> None:
        self._control.place(epoch, sample)
        self._at = None

    def _settings(self) -> dict[str, Any]:
        """The arguments that decide which samples come."""
        return {"split": self.content.split, **self.sampling.settings()}

    def _state(self, at: Position) -> dict[str, Any]:
        state: dict[str, Any] = {
            "vpngen_stream": STATE_FORM,
            "fingerprint": self.spec.fingerprint,
            "settings": self._settings(),
            "epoch": at.epoch,
            "sample": at.sample,
        }
        if at.worker is not None:
            state["worker"] = {"id": at.worker[0], "of": at.worker[1], "ranks": at.ranks, "batches": at.batches}
        return state

    def _read_state(self, state: Mapping[str, Any]) -> Position:
        if not isinstance(state, Mapping) or "vpngen_stream" not in state:
            raise ArgumentError(f"is not that of a ClipStream: {str(state)[:200]}", "state")
        if state["vpngen_stream"] != STATE_FORM:
            raise ArgumentError(
                f"the state is of form {state['vpngen_stream']!r}, which this vpngen does not know; "
                f"upgrade with: pip install --upgrade vpngen"
            )
        check_state(state, self.spec.fingerprint, self._settings(), "dataset", "stream")
        try:
            most = MOST_SAMPLES if self.sampling.length is None else self.sampling.length
            at = Position(
                integer("epoch", state["epoch"], 0, self._last_epoch), integer("sample", state["sample"], 0, most)
            )
            if "worker" in state:
                w = state["worker"]
                done = integer("batches", w["batches"], 0, MOST_SAMPLES)
                at = dataclasses.replace(at, worker=(w["id"], w["of"]), ranks=w["ranks"], batches=done)
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"is damaged: {error}", "state") from None
        return at

    def _who(self) -> tuple[int | None, int]:
        """The tag and number of this worker, as `Control` asks for them; None outside of a DataLoader's workers."""
        worker = get_worker_info()
        return (None, 0) if worker is None else (Control.tag(worker.seed - worker.id), worker.id)

    def __getstate__(self) -> dict[str, Any]:
        sent = self._ranks() if self._given is None else None
        ring = self._ring if get_spawning_popen() is not None else None
        return {**self.__dict__, "_sent": sent, "_at": None, "_ring": ring}

    # --- iteration

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Batches of the next epoch; it begins with the first that is asked for."""
        self._at = None
        return self._epoch()

    def _epoch(self) -> Iterator[tuple[Any, ...]]:
        worker = get_worker_info()
        device = self._here()
        (rank, ranks), (share, shares) = self._ranks(), (worker.id, worker.num_workers) if worker else (0, 1)
        at = self._control.claim(*self._who())
        deal = self._deal(at.sample, ranks)
        if worker is not None:
            at = dataclasses.replace(at, worker=(share, shares), ranks=ranks)
        ahead = self.prefetch if self.prefetch is not None else 0 if worker is not None else AHEAD
        self._at = at
        maker: GpuMaker | CpuMaker
        if device.type == "cuda" and self.content.reader is None:
            maker, most = GpuMaker(self.content, device), PLANNED_GPU
        else:
            maker, most = CpuMaker(self.content, device, self.threads, self._ring), PLANNED_CPU
        plans = self.content.batches(at.epoch, deal, rank, share + at.batches * shares, shares, most)
        with contextlib.closing(maker.batches(plans, ahead)) as made:
            for done, batch in enumerate(made, start=at.batches + 1):
                if worker is not None:
                    self._at = dataclasses.replace(at, batches=done)
                else:
                    self._at = dataclasses.replace(at, sample=deal.bound(done))
                yield batch
        if worker is None:  # a worker stays at the end, so that a DataLoader that resumes there finds the epoch over
            self._at = None

    def _here(self) -> torch.device:
        """The device, with its number. Raises MissingError in a worker process that was to use a GPU."""
        if self.device.type != "cuda":
            return self.device
        if get_worker_info() is not None:
            raise MissingError(
                f"a stream on {self.device} cannot run in a worker process of a DataLoader: give num_workers=0 (batches are "
                f"made ahead on the GPU all the same), use vpngen.loader(...), or device='cpu'"
            )
        return torch.device("cuda", torch.cuda.current_device() if self.device.index is None else self.device.index)


# --- arguments


def _source(source: Any, split: str) -> tuple[Spec, ClipReader | None]:
    if isinstance(source, Spec):
        source.split_id(split)
        return source, None
    if not isinstance(source, (str, Path)):
        raise ArgumentError("must be a Spec, or the path of a store", "source", source)
    spec, layout = store.read_spec(source)
    spec.split_id(split)
    if not store.is_complete(source):
        raise ConflictError(
            f"the store {str(source)!r} is not finished, and would show videos that are missing as black; finish it by "
            f"giving the command that began it again, or stream its spec: vpngen.open(path).spec"
        )
    return spec, None if layout.codec == "formula" else ClipReader(source, split)


def _each(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One number a channel."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * channels
    if len(values) != channels or not all(map(is_number, values)):
        raise ArgumentError(f"must be a finite number, or {channels} of them, one for each channel", name, value)
    return tuple(map(float, values))


def given_ranks(rank: Any, world_size: Any) -> tuple[int, int] | None:
    """Both as integers; None where neither is given. Raises ArgumentError."""
    if (rank is None) != (world_size is None):
        raise ArgumentError(f"and `world_size` (={world_size!r}) go together; give both or neither", "rank", rank)
    return None if rank is None else _rank(rank, world_size)


def ranks_here(given: tuple[int, int] | None) -> tuple[int, int]:
    """(rank, world size) of this process: as given, else of torch.distributed, else of torchrun's environment.

    Raises:
        ArgumentError: an environment that makes no sense.
    """
    if given is not None:
        return given
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        try:
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        except ValueError:
            raise ArgumentError(
                f"RANK (={os.environ['RANK']!r}) and WORLD_SIZE (={os.environ['WORLD_SIZE']!r}) in the environment must be "
                f"integers; give `rank` and `world_size` in their place"
            ) from None
        return _rank(rank, size, "of the environment ")
    return 0, 1


def _rank(rank: Any, size: Any, where: str = "") -> tuple[int, int]:
    size = integer("world_size", size, 1, 2**31)
    if not is_integer(rank) or not 0 <= rank < size:
        raise ArgumentError(f"{where}must be an integer from 0 to {size - 1}, below `world_size`", "rank", rank)
    return int(rank), size


def check_state(state: Mapping[str, Any], fingerprint: str, settings: Mapping[str, Any], data: str, owner: str) -> None:
    """That a state is of the same data, and of the same arguments.

    Args:
        state: with a `fingerprint` and `settings`.
        fingerprint: of the data here.
        settings: the arguments here that decide which samples come.
        data: what the data are called.
        owner: what has such states.

    Raises:
        ArgumentError: a state without settings, or with others than there are.
        ConflictError: other data, or other arguments.
    """
    theirs, settings_there = state.get("fingerprint"), state.get("settings")
    if not isinstance(settings_there, Mapping) or set(settings_there) != set(settings):
        raise ArgumentError(f"is damaged: its settings are {settings_there!r}", "state")
    if theirs != fingerprint:
        raise ConflictError(
            f"the state is of another {data}: its fingerprint is {str(theirs)[:12]}..., that of this one "
            f"{fingerprint[:12]}..."
        )
    if different := [
        f"{k}: {settings_there[k]} there, {v} here" for k, v in settings.items() if settings_there[k] != v
    ]:
        raise ConflictError(f"the state is of a {owner} with other arguments:\n  " + "\n  ".join(different))


def _device(value: Any) -> torch.device:
    device = device_of(value)
    if device.type == "cuda":
        try:
            backends.choose(f"cuda:{torch.cuda.current_device() if value == 'auto' else device.index or 0}")
        except MissingError:
            if value != "auto":
                raise
            return torch.device("cpu")
    return device

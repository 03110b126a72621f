"""The stream itself, its arguments and its place; and `vpngen.loader`, the DataLoader that is right for its device."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vpngen import backends
from vpngen.checks import SEEDS, Shape, flag, integer, is_integer, is_list, known, one_of, shape
from vpngen.checks import numbers as number_list
from vpngen.errors import ArgumentError, ConflictError, MissingError, renamed, shown
from vpngen.sampling import MOST_SAMPLES, Augment, Deal, Sampling, augmentation
from vpngen.spec import Spec
from vpngen.stream.makers import PLANNED_CPU, PLANNED_GPU, TARGETS, Content, CpuMaker, GpuMaker
from vpngen.stream.memory import MOST_BYTES, SPARE_BYTES, Ring, Sharing, has_room, lacks_shm, shared
from vpngen.stream.place import MOST_EPOCHS, Control, Owner, Position, check_consumer, same_process, watched
from vpngen.stream.tensors import device_of
from vpngen.units import count_text

if TYPE_CHECKING:
    from vpngen.store import ClipReader, Where

DTYPES: Final = {str(d).removeprefix("torch."): d for d in (torch.uint8, torch.float16, torch.bfloat16, torch.float32)}
AHEAD: Final = 2
"""Batches made ahead in one process, where nothing else is asked for."""
SPARE_SLOTS: Final = 3
"""Memory of workers beside the batches made ahead: one in the making, and two in the hands of the consumer."""


class ClipStream(IterableDataset[tuple[torch.Tensor, ...]]):
    """Batches of clips and labels, the same for the same arguments, on any machine, ranks and workers.

    >>> import vpngen
    >>> stream = vpngen.ClipStream(vpngen.perlin(categories=4, instances=2), batch_size=8, device="cpu")
    >>> clips, labels = next(iter(stream))
    >>> clips.shape, clips.dtype, labels.shape
    (torch.Size([8, 3, 16, 112, 112]), torch.uint8, torch.Size([8]))

    Clips are grey, not colour: the three channels are equal, and views of one memory. Transforms of torchvision, which take
    (..., T, C, H, W), get `clips.transpose(1, 2)`; see examples/transforms.py.

    Each iteration is an epoch: the first is epoch 0, the next one 1; `set_epoch` says which comes next. Every batch is
    whole, so give it to a DataLoader with `batch_size=None`, or use `vpngen.loader`. Ranks are read when an iteration
    begins, from torch.distributed or from what torchrun sets, and share an epoch without overlap, in equal numbers of
    batches.

    Args:
        source: a spec, whose clips are rendered, or a store of it, whose clips are read: the same batches. A store is a path, a URL, or a store
            of obstore.
        batch_size: clips of a batch, on each rank.
        clip: (t, y, x) of a clip.
        split: `train` or `val`.
        augment: `x10` (four corners and centre, mirrored or not, any start), `multiscale` (the same at the scales 2^(-i/4),
            resized), `random` (any window), `jitter` (any, at 224/320 to 224/256, resized), `none` (the one in the middle), or a
            `vpngen.sampling.Augment`. Those with a name mirror no clip of a generator whose labels their mirror images do not have.
        length: samples of an epoch, over all ranks: `epoch` for as many as the split has videos, `infinite`, or a number.
        shuffle: each pass over the videos in an order of its own; else in the order of the set.
        drop_last: leave out the end of an epoch that does not fill a batch on every rank; else it makes smaller batches.
        channels: 1, or 3 for the grey repeated, which takes no memory unless `mean` or `std` differ between channels: the
            three are one in memory, and what is written into one of them is in all; `clone()` makes three of them.
        dtype: `uint8`, or `float16`, `bfloat16`, `float32` for (grey / 255 - mean) / std, computed in float32.
        mean: of grey in [0, 1], a number or one for each channel.
        std: likewise.
        target: what comes beside the clips: `label`, the category ids; `factors`, which value each factor of the category has, such
            as direction, speed and frequency, for a network with a head each; `motion`, the common motion of each clip.
        parameters: whether batches have a further entry, a dictionary of tensors (N, ...): `index` of the video, `window` as
            (t0, step, y0, x0, flip), `side` as (height, width) of what is cut there, and the parameters of the video.
        flow: whether batches have a further entry, the optical flow, float32 (N, T, H, W, 2): (dx, dy) in pixels of the clip to its
            next frame, x to the right and y downwards; of generators whose motion is known. It is made on the CPU.
        numbers: whether batches have a last entry, int64 (N, 3) in host memory: the epoch of each sample, its number in that
            epoch over all ranks, and which video of the split it is of. Random draws that are keyed by the first two are the same after a resume and on other ranks.
        seed: of order and augmentation, in [0, 2**64); the pixels depend on that of the spec.
        device: where batches are: `cpu`, `cuda`, `cuda:1`, or `auto` for the current GPU if there is one that renders.
        threads: CPU threads that render; None for all that this process may use, and one in a worker process.
        prefetch: batches made ahead; None for two, and none in a worker process, where the DataLoader sees to it.
        rank: this process among `world_size`, in place of what torch.distributed says; give both or neither.
        world_size: the number of ranks.

    Yields:
        clips, `dtype` (N, C, T, H, W); then what `target` says: labels, int64 (N,), or int64 (N, factors), or float32 (N, 6), see
        `vpngen.rendering.clip_motion`; then `parameters`, `flow` and `numbers`, where they are asked for.

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
        source: Spec | Where,
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
        target: str = "label",
        parameters: bool = False,
        flow: bool = False,
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
            videos, self.spec.shape, shape("clip", clip), augmentation(augment, self.spec.generator.handed),
            None if samples is None else integer("length", samples, 1, 2**48), flag("shuffle", shuffle),
            integer("seed", seed, 0, SEEDS),
        )  # fmt: skip
        self.drop_last = flag("drop_last", drop_last)
        if not is_integer(channels) or channels not in (1, 3):
            raise ArgumentError("must be 1 or 3", "channels", channels)
        of_each = _each("mean", mean, channels), _each("std", std, channels)
        if not all(s > 0 for s in of_each[1]):
            raise ArgumentError("must be above 0", "std", std)
        self.content = Content(
            self.spec, split, self.sampling, reader, self.batch_size, channels,
            DTYPES[one_of("dtype", str(dtype).removeprefix("torch."), DTYPES)], *of_each,
            one_of("target", target, TARGETS), flag("parameters", parameters), flag("flow", flow), flag("numbers", numbers),
        )  # fmt: skip
        if target == "motion" or flow:
            self.spec.generator.check_moves()
        self.device = _device(device)
        self.threads = None if threads is None else integer("threads", threads, 1, 4096)
        self.prefetch = None if prefetch is None else integer("prefetch", prefetch, 0, 4096)
        self._owner = Owner(
            "ClipStream", "vpngen_stream", self.spec.fingerprint, {"split": split, **self.sampling.settings()},
            min(self.sampling.epochs, MOST_EPOCHS) - 1, self.sampling.length or MOST_SAMPLES,
        )  # fmt: skip
        self._given = given_ranks(rank, world_size)
        self._sent: tuple[int, int] | None = None
        self._check_batch(
            (self._given or (0, 1))[1]
        )  # and not how an epoch is dealt: it may go on from a place that fits
        self._shared_control = Control()
        self._ring: Ring | None = None
        self._at: Position | None = None

    # --- what is in it

    def __repr__(self) -> str:
        content, spec = self.content, self.spec
        clips = (
            f"{str(content.dtype).removeprefix('torch.')} {(self.batch_size, content.channels, *self.sampling.clip)}"
        )
        length = (
            "endless" if self.sampling.length is None else f"epochs of {count_text(self.sampling.length, 'sample')}"
        )
        split = f"{content.split}, {count_text(self.sampling.videos, 'video')} of {count_text(spec.n_categories, 'category')}"
        return f"ClipStream({spec.generator.name} {split}: clips {clips} on {self.device}, {length})"

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
            problem = f"is more than the epoch holds{on}, which is {length} samples"
            raise ArgumentError(problem, "batch_size", self.batch_size)

    def _ranks(self) -> tuple[int, int]:
        """(rank, world size) of this process; of a worker, those of the process that started it."""
        return ranks_here(self._given or (self._sent if get_worker_info() is not None else None))

    # --- where it is

    @property
    def _control(self) -> Control:
        self._shared_control = self._shared_control.own()
        return self._shared_control

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its beginning, or from where `load_state_dict` left it. Raises ArgumentError.

        Reaches the workers of a DataLoader, persistent ones too, when their next iteration begins.
        """
        epoch = integer("epoch", epoch, 0, self._owner.epoch)
        untouched, at = self._control.pending()
        self._place(epoch, at[1] if untouched and at[0] == epoch else 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: what a later `load_state_dict` needs to go on with the next batch.

        Of plain values. In the process that iterates: after each batch, what all ranks have seen once they have taken as
        many. In a DataLoader's worker, for torchdata's StatefulDataLoader: the place of that worker.

        Raises:
            ConflictError: workers of a DataLoader iterate the stream, so this process does not know how far they are.
        """
        if get_worker_info() is None and self._at is None and self._control.in_workers():
            raise ConflictError(
                "this stream is iterated by the workers of a DataLoader, whose place is not known here; take the state "
                "of vpngen.loader(...), or of torchdata's StatefulDataLoader"
            )
        at = self._at or self._control.peek(*self._who())
        part = at.worker or self._worker()
        return self._owner.state(at.epoch, at.sample) | ({} if part is None else {"worker": {**part}})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next iteration gives the samples that were left, on however many ranks and workers.

        Raises:
            ArgumentError: not a state of a stream, or one that belongs to a worker of another arrangement.
            ConflictError: the state of another spec, or of a stream with other arguments.
        """
        epoch, sample = self._owner.place(state)
        if "worker" not in state:
            self._place(epoch, sample)
            return
        if not isinstance(state["worker"], Mapping):
            raise ArgumentError(f"is damaged: its worker is {shown(state['worker'], 200)}", "state")
        try:
            part = {
                name: integer(name, state["worker"][name], 0, MOST_EPOCHS) for name in ("id", "of", "ranks", "batches")
            }
        except (KeyError, ArgumentError) as error:
            raise ArgumentError(f"is damaged: {error}", "state") from None
        if {**part, "batches": 0} != self._worker():
            whose = "that of worker {id} of {of} on {ranks} ranks".format(**part)
            raise ArgumentError(f"is {whose}, and fits no other arrangement; that of vpngen.loader(...) does", "state")
        self._control.resume, self._at = Position(epoch, sample, part), None

    def _place(self, epoch: int, sample: int) -> None:
        self._control.place(epoch, sample)
        self._at = None

    def _worker(self) -> dict[str, int] | None:
        """Which worker this is, at its first batch; None outside of a DataLoader's workers."""
        worker = get_worker_info()
        if worker is None:
            return None
        return {"id": worker.id, "of": worker.num_workers, "ranks": self._ranks()[1], "batches": 0}

    def _who(self) -> tuple[int | None, int]:
        """The tag and number of this worker, as `Control` asks for them; None outside of a DataLoader's workers."""
        worker = get_worker_info()
        return (None, 0) if worker is None else (Control.tag(worker.seed - worker.id), worker.id)

    def __getstate__(self) -> dict[str, Any]:
        sent = self._ranks() if self._given is None else None
        ring = None
        if get_spawning_popen() is not None:  # on its way to a worker, which does not see who asked for it
            check_consumer(self, self._ranks()[1])
            ring = self._ring
        return {**self.__dict__, "_sent": sent, "_at": None, "_ring": ring}

    # --- iteration

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Batches of the next epoch; it begins with the first that is asked for."""
        check_consumer(self, self._ranks()[1])
        self._at = None
        return self._epoch()

    def _epoch(self) -> Iterator[tuple[Any, ...]]:
        device, (rank, ranks), at = self._here(), self._ranks(), self._control.claim(*self._who())
        process = os.getpid()
        deal = self._deal(at.sample, ranks)
        part = at.worker or self._worker()
        share, shares, begun = (0, 1, 0) if part is None else (part["id"], part["of"], part["batches"])
        ahead = self.prefetch if self.prefetch is not None else AHEAD if part is None else 0
        self._at = at = Position(at.epoch, at.sample, part)
        maker: GpuMaker | CpuMaker
        if device.type == "cuda" and self.content.reader is None:
            maker, most = GpuMaker(self.content, device), PLANNED_GPU
        else:
            maker, most = CpuMaker(self.content, device, self.threads, self._ring), PLANNED_CPU
        plans = self.content.batches(at.epoch, deal, rank, share + begun * shares, shares, most)
        with contextlib.closing(maker.batches(plans, ahead)) as made:
            for done, batch in enumerate(made, start=begun + 1):
                if part is None:
                    self._at = Position(at.epoch, deal.bound(done))
                else:
                    self._at = Position(at.epoch, at.sample, {**part, "batches": done})
                yield batch
                same_process(process)
        if part is None:  # a worker stays at the end, so that a DataLoader that resumes there finds the epoch over
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


# --- its DataLoader


class ClipLoader(DataLoader[tuple[torch.Tensor, ...]]):
    """A DataLoader over a ClipStream that knows where it is; `vpngen.loader` makes it.

    It is a DataLoader like any other, and beside that has the state of its stream: what was yielded here, not what
    workers have made ahead. One iteration at a time.
    """

    dataset: ClipStream
    # Accelerate would deal out the batches of a rank to all ranks again, and take the state of one that is a batch ahead.
    _is_accelerate_prepared = True
    use_stateful_dataloader = True

    def __init__(self, dataset: ClipStream, **options: Any) -> None:
        super().__init__(dataset, **{"collate_fn": shared, **options, "batch_size": None})
        self.sampler.set_epoch = functools.partial(_on_set_epoch, dataset)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"ClipLoader({self.dataset!r}, num_workers={self.num_workers})"

    def __len__(self) -> int:
        """As that of the stream."""
        return len(self.dataset)

    def __iter__(self) -> Any:
        """Batches of the next epoch."""
        return super().__iter__() if self.num_workers == 0 else self._from_workers()

    def _from_workers(self) -> Iterator[Any]:
        stream = self.dataset
        at = stream._control.peek()
        stream._place(at.epoch, at.sample)
        deal = stream._deal(at.sample, stream._ranks()[1])
        process, prefetch = os.getpid(), self.prefetch_factor
        sharing = Sharing.of(self.num_workers, prefetch, deal.steps, stream.content.batch_bytes)
        if stream._ring is None or stream._ring.process != process:
            sharing.check()
            slots, nbytes = (self.prefetch_factor or 2) + SPARE_SLOTS, stream.content.batch_bytes
            if has_room(min(self.num_workers * slots * nbytes, MOST_BYTES) + SPARE_BYTES):  # else as any tensor goes
                with contextlib.suppress(RuntimeError):
                    stream._ring = Ring(self.num_workers, slots, nbytes)
        for done, batch in enumerate(self._sent(sharing), start=1):
            stream._at = Position(at.epoch, deal.bound(done))
            yield batch
            same_process(process)
        if stream._control.pending()[0]:  # set_epoch was called meanwhile
            stream._at = None
        else:
            stream._place(at.epoch + 1, 0)

    def _sent(self, sharing: Sharing) -> Iterator[Any]:
        """What the workers send. Raises MissingError where shared memory is too small for it."""
        try:
            for batch in watched(self, super().__iter__()):
                if isinstance(batch, MissingError):
                    raise sharing.error()
                yield batch
        except (MissingError, RuntimeError) as error:
            if not lacks_shm(error):
                raise
            error.__traceback__ = None  # else it and a frame of torch hold each other, and the workers
            raise sharing.error() from None

    def set_epoch(self, epoch: int) -> None:
        """As `ClipStream.set_epoch`."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As `ClipStream.state_dict`, of the batches that this loader has yielded."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `ClipStream.load_state_dict`."""
        self.dataset.load_state_dict(state)


def _on_set_epoch(stream: ClipStream, epoch: int) -> None:
    """Lightning gives the epoch to samplers alone, and at the end of an epoch loads no state."""
    if stream._control.untouched():
        stream.set_epoch(epoch)


def loader(
    source: ClipStream | Spec | Where,
    batch_size: int | None = None,
    *,
    num_workers: int = 0,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> ClipLoader:
    """A DataLoader over a ClipStream, set up as its device wants it.

    On a GPU the batches are born there and made ahead on a CUDA stream of their own; on the CPU a thread makes them ahead
    with all cores, straight into the memory that is yielded; clips of a store, too, are read ahead by a thread. Worker
    processes are for those who need them: each of their batches goes through memory that the system has to make anew.

    Clips are (N, C, T, H, W) and grey, not colour: the three channels are equal, and views of one memory. `clone()` a batch before
    anything that writes into it.

    Accelerate's `prepare` gives the loader back as it is, and Lightning saves its state with its checkpoints; there give
    `length` a number, since it asks endless loaders for a batch more than it uses.

    >>> import vpngen
    >>> spec = vpngen.perlin(categories=4, instances=2)
    >>> for clips, labels in vpngen.loader(spec, batch_size=4, device="cpu"):
    ...     print(clips.shape[0], labels.tolist())  # doctest: +SKIP

    Args:
        source: a ClipStream, or what one is made from.
        batch_size: clips of a batch, on each rank; None for 128.
        num_workers: worker processes; they stay from epoch to epoch.
        multiprocessing_context: how they start, `fork`, `spawn` or `forkserver`; None for the system's own, and for `forkserver` where
            the store is objects.
        options: the other arguments of ClipStream, where `source` is none.

    Raises:
        ArgumentError: as ClipStream; or arguments of a stream beside a stream.
        MissingError: worker processes for a stream on a GPU.
    """
    if isinstance(source, ClipStream):
        if options or batch_size not in (None, source.batch_size):
            given = ", ".join(options) or "batch_size"
            raise ArgumentError(f"is a ClipStream already; give `{given}` where that is made", "source")
        stream = source
    else:
        own = {"num_workers", "multiprocessing_context", *inspect.signature(ClipStream).parameters}
        known("argument", options, own, "vpngen.loader")
        stream = ClipStream(source, 128 if batch_size is None else batch_size, **options)
    if not integer("num_workers", num_workers, 0, 4096):
        return ClipLoader(stream)
    if stream.device.type == "cuda":
        where = f"on {stream.device}, where batches are made ahead in one process; or give device='cpu'"
        raise MissingError(f"`num_workers` (={num_workers}) must be 0 {where}")
    if stream.content.remote and not stream.content.elsewhere:
        raise ArgumentError("must be 0 for a store in the memory of this process", "num_workers", num_workers)
    if stream.content.remote:  # the connections of this process would not survive a fork
        multiprocessing_context = multiprocessing_context or "forkserver"
        if multiprocessing_context == "fork":
            raise ArgumentError("must be forkserver or spawn for a store of objects", "multiprocessing_context", "fork")
    if multiprocessing_context is not None:
        one_of("multiprocessing_context", multiprocessing_context, torch.multiprocessing.get_all_start_methods())
    return ClipLoader(
        stream, num_workers=num_workers, persistent_workers=True, multiprocessing_context=multiprocessing_context
    )


# --- arguments


def _source(source: Any, split: str) -> tuple[Spec, ClipReader | None]:
    if isinstance(source, Spec):
        source.split_id(split)
        return source, None
    from vpngen import store  # late: what is rendered needs no zarr

    with renamed(store="source"):
        place = store.place_of(source, argument="source")
        spec, layout = store.read_spec(place)
    spec.split_id(split)
    if not store.is_complete(place):
        raise ConflictError(
            f"the store {str(place)!r} is not finished, and would show videos that are missing as black; finish it by "
            f"giving the command that began it again, or stream its spec: vpngen.open(path).spec"
        )
    return spec, None if layout.codec == "formula" else store.ClipReader(place, split)


def _each(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One number a channel."""
    values = number_list(name, value if is_list(value) else (value,) * channels)
    if len(values) != channels:
        raise ArgumentError(f"must be a number, or {channels} of them, one for each channel", name, value)
    return values


def given_ranks(rank: Any, world_size: Any) -> tuple[int, int] | None:
    """Both as integers; None where neither is given. Raises ArgumentError."""
    if (rank is None) != (world_size is None):
        raise ArgumentError(f"and `world_size` (={world_size!r}) go together; give both or neither", "rank", rank)
    if rank is None:
        return None
    size = integer("world_size", world_size, 1, 2**31)
    return integer("rank", rank, 0, size - 1), size


def ranks_here(given: tuple[int, int] | None) -> tuple[int, int]:
    """(rank, world size) of this process: as given, else of torch.distributed, else of torchrun's environment.

    Raises:
        ArgumentError: an environment that makes no sense.
    """
    if given is not None:
        return given
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    words = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if None in words:
        return 0, 1
    try:
        return given_ranks(*map(int, words)) or (0, 1)  # type: ignore[arg-type]
    except ValueError:
        raise ArgumentError(
            f"RANK (={words[0]!r}) and WORLD_SIZE (={words[1]!r}) of the environment must be integers, the first from 0 and "
            f"below the second; give `rank` and `world_size` in their place"
        ) from None


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

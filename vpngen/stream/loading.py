"""`vpngen.loader`: a DataLoader that is right for the device of its stream, and knows where it is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from vpngen.checks import integer, one_of
from vpngen.errors import ArgumentError, MissingError
from vpngen.spec import Spec
from vpngen.stream.dataset import ClipStream
from vpngen.stream.ring import Ring

SPARE_SLOTS = 3
"""Batches beside those made ahead: one in the making, and two in the hands of the consumer."""


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
        super().__init__(dataset, **{**options, "batch_size": None})
        self.sampler.set_epoch = functools.partial(_on_set_epoch, dataset)  # type: ignore[attr-defined]

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
        if stream._ring is None:
            with contextlib.suppress(RuntimeError):  # too little shared memory: then batches go as any tensor goes
                stream._ring = Ring(
                    self.num_workers, (self.prefetch_factor or 2) + SPARE_SLOTS, stream.content.batch_bytes
                )
        for done, batch in enumerate(super().__iter__(), start=1):
            stream._at = dataclasses.replace(at, sample=deal.bound(done))
            yield batch
        if stream._control.pending()[0]:  # set_epoch was called meanwhile
            stream._at = None
        else:
            stream._place(at.epoch + 1, 0)

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
    source: ClipStream | Spec | str | Path,
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
        multiprocessing_context: how they start, `fork`, `spawn` or `forkserver`; None for the system's own.
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
        stream = ClipStream(source, 128 if batch_size is None else batch_size, **options)
    if not integer("num_workers", num_workers, 0, 4096):
        return ClipLoader(stream)
    if stream.device.type == "cuda":
        raise MissingError(
            f"`num_workers` (={num_workers}) must be 0 on {stream.device}: CUDA belongs to one process, and batches are made "
            f"ahead on the GPU anyway. Leave it out, or give device='cpu'"
        )
    if multiprocessing_context is not None:
        one_of("multiprocessing_context", multiprocessing_context, torch.multiprocessing.get_all_start_methods())
    return ClipLoader(
        stream, num_workers=num_workers, persistent_workers=True, multiprocessing_context=multiprocessing_context
    )

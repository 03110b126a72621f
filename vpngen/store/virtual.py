"""A spec as a Zarr store that is nowhere: metadata, labels and parameters are made when they are asked for.

It reads as what `write(codec="formula")` would write, for sets of any size, through the same codec. `open` gives the
arrays of either.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import MemoryStore

from vpngen import backends
from vpngen.errors import ArgumentError
from vpngen.rendering import completed
from vpngen.spec import Spec
from vpngen.store.formula import BACKEND, encode_params
from vpngen.store.layout import FRESH_CHUNK, Layout, is_complete, read_spec, skeleton, table_chunk

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

LAYOUT: Final = Layout("formula", 1)
TOGETHER: Final = 64
"""Videos whose parameters are drawn at a time: that costs little more than for one, and the next videos are often read next."""
KEPT: Final = 256
"""Batches of parameters and chunks of tables that are kept, the ones read last: some megabytes."""


class SpecStore(Store):
    """A read-only Zarr v3 store with the groups and arrays of a spec. It is a value: copies and pickles are the spec.

    `zarr.open_group`, `xarray.open_zarr` and `dask.array.from_zarr` take it where they take a path.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, spec: Spec) -> None:
        super().__init__(read_only=True)
        self.spec = spec
        self._together = 1 if spec.generator.needs_extremes else TOGETHER
        self._documents, self._shapes = _skeleton(spec)
        self._batch = functools.lru_cache(KEPT)(self._draw_batch)
        self._table = functools.lru_cache(KEPT)(self._draw_table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpecStore) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash((SpecStore, self.spec))

    def __reduce__(self) -> tuple[type[SpecStore], tuple[Spec]]:
        return SpecStore, (self.spec,)

    def __str__(self) -> str:
        return f"vpngen://{self.spec.fingerprint}"

    def __repr__(self) -> str:
        return f"SpecStore({self.spec!r})"

    def with_read_only(self, read_only: bool = False) -> SpecStore:
        """This store again. Raises ArgumentError where it is to be written."""
        if read_only:
            return SpecStore(self.spec)
        make = "write one with vpngen.write(spec, path, codec='formula')"
        raise ArgumentError(f"a spec that is opened without a store cannot be changed; {make}")

    async def set(self, *_: Any, **__: Any) -> None:
        """Raises ArgumentError."""
        self.with_read_only(False)

    delete = set

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._documents or self._chunk(key) is not None

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of a key, or a range of them; None where there is no such key."""
        data = self._documents.get(key)
        if data is None:
            if (place := self._chunk(key)) is None:
                return None
            slow = place[1] == "video" and self.spec.generator.needs_extremes
            data = await asyncio.to_thread(self._bytes, *place) if slow else self._bytes(*place)
        held = MemoryStore({key: prototype.buffer.from_bytes(data)}, read_only=True)
        return await held.get(key, prototype, byte_range)

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Iterable[Any]) -> list[Buffer | None]:
        """The bytes of several ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _chunk(self, key: str) -> tuple[str, str, int] | None:
        """Split, array and number of the chunk that a key names, if there is one: train/label/c.5, train/video/c.7.0.0.0."""
        folder, _, name = key.rpartition("/")
        counts = self._shapes.get(folder, ())
        found = re.fullmatch(r"c\.(0|[1-9][0-9]{0,18})" + r"\.0" * (len(counts) - 1), name)
        if not counts or not found or int(found[1]) >= math.prod(counts):
            return None
        split, _, array = folder.partition("/")
        return split, array, int(found[1])

    def _bytes(self, split: str, array: str, number: int) -> bytes:
        if array != "video":
            return self._table(split, number, array != "label")[array]
        batch, i = divmod(number, self._together)
        return self._batch(split, batch)[i]

    def _draw_batch(self, split: str, batch: int) -> list[bytes]:
        indices = np.arange(batch * self._together, min((batch + 1) * self._together, self.spec.n_videos(split)))
        rows = completed(self.spec, self.spec.params(indices, split), backends.load(BACKEND), 1)
        return [b"".join(encode_params(rows[i : i + 1], self.spec.format_version)) for i in range(len(rows))]

    def _draw_table(self, split: str, number: int, parameters: bool) -> dict[str, bytes]:
        return table_chunk(self.spec, split, number, FRESH_CHUNK, parameters)

    def list(self) -> AsyncIterator[str]:
        """Every key: as many as there are videos, one after the other."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`."""
        for key in self._documents:
            if key.startswith(prefix):
                yield key
        for folder, counts in self._shapes.items():
            if f"{folder}/".startswith(prefix) or prefix.startswith(f"{folder}/"):
                for name in _chunk_names(counts):
                    if f"{folder}/{name}".startswith(prefix):
                        yield f"{folder}/{name}"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names of what lies in the folder `prefix`."""
        folder = prefix.rstrip("/")
        below = f"{folder}/" if folder else ""
        for name in dict.fromkeys(key[len(below) :].split("/")[0] for key in self._documents if key.startswith(below)):
            yield name
        for name in _chunk_names(self._shapes.get(folder, ())):
            yield name


def _chunk_names(counts: tuple[int, ...]) -> Iterable[str]:
    """The chunks of an array that is divided along its first axis alone."""
    rest = ".0" * (len(counts) - 1)
    return (f"c.{number}{rest}" for number in range(counts[0] if counts else 0))


_skeleton = functools.lru_cache(8)(functools.partial(skeleton, layout=LAYOUT, files=False))
"""See `layout.skeleton`; kept, as readers pickle and open stores again and again."""


@dataclass(frozen=True)
class View:
    """One split of a dataset.

    Attributes:
        path: the store; None where there is none, and everything is made as it is read.
        spec: the dataset it holds.
        layout: how it is laid into files.
        split: `train` or `val`.
        video: uint8 (sample, t, y, x).
        label: category ids (sample,).
        parameters: the other arrays by name, with the sample as axis 0.
    """

    path: Path | None
    spec: Spec
    layout: Layout
    split: str
    video: zarr.Array[Any]
    label: zarr.Array[Any]
    parameters: dict[str, zarr.Array[Any]]

    def finished(self) -> bool:
        """Whether every shard of this split is there; videos of the others would read as zeros."""
        return self.path is None or is_complete(self.path, self.split)


def open(path_or_spec: str | Path | Spec, split: str = "train") -> View:
    """A split of a dataset as zarr arrays: of the store at a path, or of a spec with no store at all.

    >>> import vpngen
    >>> view = vpngen.open(vpngen.perlin(categories=16, instances=2))
    >>> view.video.shape, view.video[31, :16, 64:176, 64:176].shape, int(view.label[31])
    ((32, 240, 240, 240), (16, 112, 112), 15)

    Args:
        path_or_spec: a store, or a spec: its videos are rendered when they are read, by the codec of formula stores.
        split: `train` or `val`.

    Raises:
        ArgumentError: nothing there, or no such split.
        ConflictError: not a store of vpngen, a damaged one, or one of a newer format version.
    """
    if isinstance(path_or_spec, Spec):
        path, spec, layout, where, store = None, path_or_spec, LAYOUT, "the spec", SpecStore(path_or_spec)
    else:
        path, (spec, layout), where, store = Path(path_or_spec), read_spec(path_or_spec), repr(str(path_or_spec)), None
    spec.split_id(split)
    if split not in spec.splits:
        raise ArgumentError(f"is empty in {where}; it has {', '.join(spec.splits)}", "split", split)
    arrays = dict(zarr.open_group(store or str(path), path=split, mode="r").arrays())
    video, label = arrays.pop("video"), arrays.pop("label")
    return View(path, spec, layout, split, video, label, arrays)

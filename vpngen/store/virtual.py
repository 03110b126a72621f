"""A spec as a Zarr store that is nowhere: metadata, labels and parameters are made when they are asked for.

It reads as what `write(codec="formula")` would write, for sets of any size, through the same codec. `open` gives the
arrays of either.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from vpngen import backends
from vpngen.errors import ArgumentError, quoted
from vpngen.files import Folder
from vpngen.rendering import completed
from vpngen.spec import Spec
from vpngen.store.formula import BACKEND, CRC_BYTES, DamageError, encode_params
from vpngen.store.layout import (
    FRESH_CHUNK,
    TABLE_CHUNK,
    VIDEO,
    Layout,
    Plan,
    Shard,
    is_complete,
    patiently,
    read_record,
    read_spec,
    skeleton,
    store_plan,
    table_chunk,
    tables,
)
from vpngen.store.packing import ZSTD_HEADER, check_record, decode_chunk, index_bytes, read_index, spans, zstd_content
from vpngen.store.places import Objects, Place, Where, place_of

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

LAYOUT: Final = Layout("formula", 1)
TOGETHER: Final = 64
"""Videos whose parameters are drawn at a time: that costs little more than for one, and the next videos are often read next."""
CHECKED: Final = 4096
"""Shards of which it is known that they are what their records say, the ones used last."""
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


class StoreFiles(Store):
    """The files of a store that may be somebody else's, read only: Zarr gets nothing to decode that could not be ours.

    The metadata is that of the spec, whatever lies there. Links below the store are not followed, and each shard is
    checked against its completion record when it is first used. A shard that has neither file nor record reads as zeros.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, place: Place, spec: Spec, layout: Layout) -> None:
        super().__init__(read_only=True)
        self.place, self.spec, self.layout = place, spec, layout
        self._plan = store_plan(spec, layout)
        self._documents, self._counts = _stored_skeleton(spec, layout)
        self._check = functools.lru_cache(CHECKED)(functools.partial(_check_shard, place, self._plan))

    def __reduce__(self) -> tuple[type[StoreFiles], tuple[Place, Spec, Layout]]:
        return StoreFiles, (self.place, self.spec, self.layout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreFiles) and self.__reduce__() == other.__reduce__()

    __hash__ = None  # type: ignore[assignment]  # as that of zarr's own

    def __str__(self) -> str:
        return str(self.place) if isinstance(self.place, Objects) else f"file://{self.place}"

    def __repr__(self) -> str:
        return f"StoreFiles({str(self)!r})"

    def with_read_only(self, read_only: bool = False) -> StoreFiles:
        """This store again. Raises ArgumentError where it is to be written."""
        if read_only:
            return self
        raise ArgumentError("what vpngen.open gives cannot be changed; open the path with zarr to do so")

    async def set(self, *_: Any, **__: Any) -> None:
        """Raises ArgumentError."""
        self.with_read_only(False)

    delete = set

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._documents or await asyncio.to_thread(self._there, key)

    def _there(self, key: str) -> bool:
        with contextlib.suppress(OSError):
            return self.place.size(key) >= 0
        return False

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a key, or a range of them; None where there is no such key. Raises DamageError."""
        data = self._bytes(key, byte_range)
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See `get_sync`."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Iterable[Any]) -> list[Buffer | None]:
        """The bytes of several ranges."""
        return await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges))

    def _bytes(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        if key.endswith("zarr.json"):
            return self._documents.get(key)
        folder, _, name = key.rpartition("/")
        counts = self._counts.get(folder, ())
        found = re.fullmatch(r"c\.(0|[1-9][0-9]{0,11})" + r"\.0" * (len(counts) - 1), name)
        if not counts or not found:
            return None
        split, _, array = folder.partition("/")
        try:
            if array in self._plan.arrays:
                shard = self._plan.shard(split, int(found[1]))
                return patiently(self.place, functools.partial(self._of_shard, shard, array, byte_range))
            size = TABLE_CHUNK * tables(self.spec, split, [0])[array].values.nbytes
            data = self.place.read(key, size + size // 256 + 128)
            decode_chunk(data, "none", len(data) - CRC_BYTES)
            if zstd_content(data) != size:
                raise DamageError(f"its zstd frame says {zstd_content(data)} bytes in place of {size}")
            return data
        except (OSError, DamageError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise DamageError(
                f"{f'{self.place}/{key}'!r}: {what}; look at it with: vpngen verify {quoted(self.place)}"
            ) from None

    def _of_shard(self, shard: Shard, array: str, byte_range: ByteRequest | None) -> bytes | None:
        """The bytes of a shard, or None where it is neither there nor recorded. Raises DamageError, OSError."""
        tail = index_bytes(self._plan)
        try:
            file = self.place.file(shard.file(array), tail)
        except FileNotFoundError:
            if read_record(self.place, self._plan, shard) is not None:
                raise
            return None
        with file:
            size = file.size
            held = self._check(shard, array, size)
            first, last = 0, size
            if isinstance(byte_range, RangeByteRequest):
                first, last = byte_range.start, min(byte_range.end, size)
            elif isinstance(byte_range, OffsetByteRequest):
                first = byte_range.offset
            elif isinstance(byte_range, SuffixByteRequest):
                first = max(0, size - byte_range.suffix)
            if last - first > (most := self._plan.most_shard(array)):
                raise DamageError(f"the file has {size:,} bytes, and such a shard {most:,} at most")
            data: bytes = file.read(last - first, first)
        if self.layout.codec == "zstd":
            for offset in held[(held >= first) & (held < last)].tolist():
                claimed = zstd_content(data[offset - first : offset - first + ZSTD_HEADER])
                if claimed != (decoded := self._plan.chunk_bytes(array)):
                    raise DamageError(f"a zstd frame says {claimed} bytes in place of {decoded}")
        return data

    async def list(self) -> AsyncIterator[str]:
        """Every key that is there."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`."""
        folders = dict.fromkeys(key.rpartition("/")[0] for key in self._documents)
        for folder in folders:
            if f"{folder}/".startswith(prefix) or prefix.startswith(f"{folder}/" if folder else ""):
                async for name in self.list_dir(folder):
                    key = f"{folder}/{name}" if folder else name
                    if key not in folders and key.startswith(prefix):
                        yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names of what lies in the folder `prefix`."""
        folder = prefix.rstrip("/")
        below = f"{folder}/" if folder else ""
        names = dict.fromkeys(key[len(below) :].split("/")[0] for key in self._documents if key.startswith(below))
        with contextlib.suppress(OSError):
            names |= dict.fromkeys(await asyncio.to_thread(self.place.sizes, folder) if folder in self._counts else ())
        for name in names:
            yield name


def _check_shard(place: Place, plan: Plan, shard: Shard, array: str, size: int) -> npt.NDArray[np.uint64]:
    """See that a file of a shard is that of its record, and that no chunk of it is larger than one can be; gives where those of zstd begin.

    Raises:
        DamageError: it is not.
        OSError: it cannot be read.
    """
    with place.file(shard.file(array), index_bytes(plan)) as file:
        fields = check_record(place, plan, shard, size, array)
        index, _ = read_index(file, plan)
        held = index[: min(shard.count, fields["shard"]["count"])].reshape(-1, 2)  # fewer before it was grown
        for _ in spans(file, held, plan.most_chunk(array)):
            pass
        return held[:, 0].copy() if plan.layout.codec == "zstd" else held[:0, 0].copy()


_stored_skeleton = functools.lru_cache(8)(skeleton)
_skeleton = functools.lru_cache(8)(functools.partial(skeleton, layout=LAYOUT, files=False))
"""See `layout.skeleton`; kept, as readers pickle and open stores again and again."""


@dataclass(frozen=True)
class View:
    """One split of a dataset.

    Attributes:
        path: the store, a path or a URL; None where there is none, and everything is made as it is read.
        spec: the dataset it holds.
        layout: how it is laid into files.
        split: `train` or `val`.
        video: uint8 (sample, t, y, x).
        label: category ids (sample,).
        parameters: the other arrays by name, with the sample as axis 0.
        truth: what is stored of every pixel beside it, by name: of a set written with motion, `motion`, float32 (sample, t, y, x, 2), the
            flow to the next frame, see `vpngen.motion`; of dead leaves also `shape`, int32, and `hidden`, bool, (sample, t, y, x).
    """

    path: Path | str | None
    spec: Spec
    layout: Layout
    split: str
    video: zarr.Array[Any]
    label: zarr.Array[Any]
    parameters: dict[str, zarr.Array[Any]]
    truth: dict[str, zarr.Array[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        where = "no store" if self.path is None else f"{str(self.path)!r}, codec {self.layout.codec}"
        arrays = f"video {self.video.dtype} {self.video.shape}, {', '.join([*self.truth, 'label', *self.parameters])}"
        return f"View({self.split} of {self.spec!r} in {where}: {arrays})"

    def finished(self) -> bool:
        """Whether every shard of this split is there; videos of the others would read as zeros."""
        store = self.video.store_path.store
        return not isinstance(store, StoreFiles) or is_complete(store.place, self.split)


def open(path_or_spec: Where | Spec, split: str = "train") -> View:
    """A split of a dataset as zarr arrays: of the store at a path, or of a spec with no store at all.

    >>> import vpngen
    >>> view = vpngen.open(vpngen.perlin(categories=16, instances=2))
    >>> view.video.shape, view.video[31, :16, 64:176, 64:176].shape, int(view.label[31])
    ((32, 240, 240, 240), (16, 112, 112), 15)

    Args:
        path_or_spec: a store: its path, a URL such as s3://bucket/set.zarr, or a store of obstore; or a spec, whose videos are rendered
            when they are read, by the codec of formula stores.
        split: `train` or `val`.

    Raises:
        ArgumentError: nothing there, or no such split.
        ConflictError: not a store of vpngen, a damaged one, or one of a newer format version.
        MissingError: obstore is not installed, or nothing may be read there.
        RunError: the object store failed.
    """
    path: Path | str | None = None
    store: Store
    if isinstance(path_or_spec, Spec):
        spec, layout, where, store = path_or_spec, LAYOUT, "the spec", SpecStore(path_or_spec)
    else:
        place = place_of(path_or_spec, argument="store")
        spec, layout = read_spec(place)
        path, where = (place.path if isinstance(place, Folder) else str(place)), repr(str(place))
        store = StoreFiles(place, spec, layout)
    spec.split_id(split)
    if split not in spec.splits:
        raise ArgumentError(f"is empty in {where}; it has {', '.join(spec.splits)}", "split", split)
    arrays = dict(zarr.open_group(store, path=split, mode="r").arrays())
    sharded = {name: arrays.pop(name) for name in Plan(spec, layout, ()).arrays}
    return View(path, spec, layout, split, sharded.pop(VIDEO), arrays.pop("label"), arrays, sharded)

"""A spec as a Zarr store that is nowhere: metadata, labels and parameters are made when they are asked for.

It reads as what `write(codec="formula")` would write, for sets of any size, through the same codec.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from zarr.abc.store import Store
from zarr.storage import MemoryStore

from vpngen import backends
from vpngen.errors import ArgumentError
from vpngen.rendering import completed
from vpngen.spec import Spec
from vpngen.store.formula import BACKEND, encode_params
from vpngen.store.layout import FRESH_CHUNK, Layout, label_table, skeleton

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
        return SpecStore(self.spec) if read_only else _refuse()

    # --- what there is

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._documents or self._chunk(key) is not None

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of a key, or a range of them; None where there is no such key."""
        data = self._documents.get(key)
        if data is None:
            place = self._chunk(key)
            if place is None:
                return None
            slow = place[1] == "video" and self.spec.generator.needs_extremes
            data = await asyncio.to_thread(self._bytes, *place) if slow else self._bytes(*place)
        held = MemoryStore({key: prototype.buffer.from_bytes(data)}, read_only=True)
        return await held.get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The bytes of several ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _chunk(self, key: str) -> tuple[str, str, int] | None:
        """Split, array and number of the chunk that a key names, if there is one: train/label/c.5, train/video/c.7.0.0.0."""
        folder, _, name = key.rpartition("/")
        letter, *numbers = name.split(".")
        counts = self._shapes.get(folder)
        if counts is None or letter != "c" or len(numbers) != len(counts):
            return None
        for number, count in zip(numbers, counts, strict=True):
            if not (number.isascii() and number.isdigit() and int(number) < count and str(int(number)) == number):
                return None
        split, _, array = folder.partition("/")
        return split, array, int(numbers[0])

    # --- what is in it

    def _bytes(self, split: str, array: str, number: int) -> bytes:
        if array != "video":
            return self._table(split, number, array == "label")[array]
        batch, i = divmod(number, 1 if self.spec.generator.needs_extremes else TOGETHER)
        return self._batch(split, batch)[i]

    def _draw_batch(self, split: str, batch: int) -> list[bytes]:
        size = 1 if self.spec.generator.needs_extremes else TOGETHER
        indices = np.arange(batch * size, min((batch + 1) * size, self.spec.n_videos(split)))
        rows = completed(self.spec, self.spec.params(indices, split), backends.load(BACKEND), 1)
        chunks = (encode_params(rows[i : i + 1], self.spec.format_version) for i in range(len(rows)))
        return [payload + checksum for payload, checksum in chunks]

    def _draw_table(self, split: str, number: int, labels: bool) -> dict[str, bytes]:
        first = number * FRESH_CHUNK
        indices = np.arange(first, min(first + FRESH_CHUNK, self.spec.n_videos(split)))
        made = {"label": label_table(self.spec, split, indices)} if labels else self.spec.parameters(indices, split)
        drawn = {}
        for name, (values, _, _) in made.items():
            chunk = np.zeros((FRESH_CHUNK, *values.shape[1:]), values.dtype.newbyteorder("<"))
            chunk[: len(values)] = values
            drawn[name] = chunk.tobytes()
        return drawn

    # --- lists

    async def list(self) -> AsyncIterator[str]:
        """Every key: as many as there are videos, one after the other."""
        async for key in self.list_prefix(""):
            yield key

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

    # --- what cannot be done

    async def set(self, key: str, value: Buffer) -> None:
        """Raises ArgumentError."""
        _refuse()

    async def delete(self, key: str) -> None:
        """Raises ArgumentError."""
        _refuse()


def _refuse() -> NoReturn:
    raise ArgumentError(
        "a spec that is opened without a store cannot be changed; write one with vpngen.write(spec, path, codec='formula')"
    )


def _chunk_names(counts: tuple[int, ...]) -> Iterable[str]:
    """The chunks of an array that is divided along its first axis alone."""
    rest = ".0" * (len(counts) - 1)
    return (f"c.{number}{rest}" for number in range(counts[0] if counts else 0))


@functools.lru_cache(8)
def _skeleton(spec: Spec) -> tuple[dict[str, bytes], dict[str, tuple[int, ...]]]:
    """See `layout.skeleton`; kept, as readers pickle and open stores again and again."""
    return skeleton(spec, LAYOUT, files=False)

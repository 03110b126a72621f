"""Windows of stored videos, read straight from the shard files: what a stream needs, without a chunk decoded twice a batch."""

from __future__ import annotations

import functools
import itertools
import resource
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from vpngen.errors import MissingError, RunError, quoted
from vpngen.files import Folder
from vpngen.generators import Pixels
from vpngen.store.layout import Plan, Shard, patiently, read_spec, store_plan
from vpngen.store.packing import check_record, decode_chunk, index_bytes, read_index, spans
from vpngen.store.places import Objects, Place, Where, place_of

OPEN_SHARDS: Final = 128
"""Shards that a reader holds open, at most; fewer where they would be more than an eighth of the files that a process may open."""
KNOWN_BYTES: Final = 2**26
"""The same of objects, of which only the index is held, in bytes."""
_READERS: weakref.WeakSet[ClipReader] = weakref.WeakSet()


class ClipReader:
    """Reads windows of one split of a finished store of codec `none` or `zstd`; each chunk's checksum is checked.

    May be used from several threads, pickled, and in forked processes where the store is a folder.
    """

    def __init__(self, where: Where, split: str) -> None:
        self.place, self.split = place_of(where, argument="store"), split
        if isinstance(self.place, Folder):
            self.place = Folder(self.place.path.absolute())
        self.spec, self.layout = read_spec(self.place)
        self._plan = store_plan(self.spec, self.layout)

        def opened(number: int) -> _OpenShard:
            return patiently(self.place, functools.partial(_OpenShard, self.place, self._plan, split, number))

        may = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        few = OPEN_SHARDS if may == resource.RLIM_INFINITY else min(max(may // 8, 1), OPEN_SHARDS)
        known = max(KNOWN_BYTES // index_bytes(self._plan), 1)
        self._shard = functools.lru_cache(few if isinstance(self.place, Folder) else known)(opened)
        self._mine = threading.local()
        _READERS.add(self)

    @property
    def remote(self) -> bool:
        """Whether the store is objects."""
        return isinstance(self.place, Objects)

    @property
    def elsewhere(self) -> bool:
        """Whether other processes can read it."""
        return not isinstance(self.place, Objects) or self.place.elsewhere

    def __reduce__(self) -> tuple[type[ClipReader], tuple[Place, str]]:
        return ClipReader, (self.place, self.split)

    def read(
        self, indices: npt.NDArray[np.int64], windows: npt.NDArray[np.int32], out: Pixels, threads: int = 1
    ) -> None:
        """Fill `out` (N, T, Y, X) with packed windows (N, 5) of the videos `indices` (N,), as `Backend.render` does.

        Of objects, as many are asked for at once as there are windows, up to 64.

        Raises:
            MissingError: this process may open too few files, or may not read the objects.
            RunError: a shard is damaged or cannot be read.
        """
        threads = min(max(threads, self.place.in_flight), len(indices))
        if threads <= 1:
            for video, window, place in zip(indices.tolist(), windows.tolist(), out, strict=True):
                self._read_one(video, window, place)
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._read_one, indices.tolist(), windows.tolist(), out):
                pass

    def _read_one(self, video: int, window: list[int], out: Pixels) -> None:
        t0, step, y0, x0, flip = window
        frames, height, width = self.spec.shape
        chunk_frames = min(self.layout.chunk_frames, frames)
        number, at = divmod(video, self.layout.shard_videos)
        key = Shard(self.split, number, 0, 0).key
        try:
            try:
                shard = self._shard(number)
            except (
                MissingError
            ):  # too many open files: those of all readers are closed, and opened again when they are read
                for reader in list(_READERS):
                    reader._shard.cache_clear()
                shard = self._shard(number)
            parts, i = [], 0
            while i < len(out):
                chunk, t = divmod(t0 + i * step, chunk_frames)
                parts.append((chunk, t, i))
                i += -(-(chunk_frames - t) // step)
            entries = shard.index[at, [chunk for chunk, _, _ in parts]]
            for (_, t, i), pixels in zip(parts, self._chunks(shard, entries), strict=True):
                part = pixels.reshape(chunk_frames, height, width)
                part = part[t::step, y0 : y0 + out.shape[1], x0 : x0 + out.shape[2]][: len(out) - i]
                out[i : i + len(part)] = part[:, :, ::-1] if flip else part
        except (OSError, ValueError) as error:
            where = f"{f'{self.place}/{key}'!r}, video {video} of the {self.split} split"
            raise RunError(f"{where}: {error}; look at it with: vpngen verify {quoted(self.place)}") from error

    def _chunks(self, shard: _OpenShard, entries: npt.NDArray[np.uint64]) -> Iterator[Pixels]:
        """The pixels of chunks, each until this thread asks for the next: in memory that is used again, since new costs more."""
        mine = self._mine
        for offset, sizes in spans(shard.file, entries, self._plan.most_chunk()):
            total = sum(sizes)
            if getattr(mine, "packed", None) is None or len(mine.packed) < total:
                mine.packed, mine.pixels = np.empty(total, np.uint8), np.empty(self._plan.chunk_bytes(), np.uint8)
            packed = memoryview(mine.packed)[:total]
            if shard.file.read_into(packed, offset) != total:
                raise ValueError("the chunk is cut short")
            for size, end in zip(sizes, itertools.accumulate(sizes), strict=True):
                yield decode_chunk(packed[end - size : end], self.layout.codec, self._plan.chunk_bytes(), mine.pixels)


class _OpenShard:
    """A file that is what its record says, and its index."""

    def __init__(self, place: Place, plan: Plan, split: str, number: int) -> None:
        shard = plan.shard(split, number)
        self.file = place.file(shard.key, tail=index_bytes(plan))
        check_record(place, plan, shard, self.file.size)
        self.index = read_index(self.file, plan)[0]
        self.file.forget()

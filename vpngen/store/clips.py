"""Windows of stored videos, read straight from the shard files: what a stream needs, without a chunk decoded twice a batch."""

from __future__ import annotations

import functools
import os
import resource
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vpngen.errors import MissingError, RunError, quoted
from vpngen.files import Folder, local, read_into
from vpngen.generators import Pixels
from vpngen.store.layout import Plan, Shard, patiently, read_spec, store_plan
from vpngen.store.packing import check_record, chunk_place, decode_chunk, read_index

OPEN_SHARDS: Final = 128
"""Shards that a reader holds open, at most; fewer where they would be more than an eighth of the files that a process may open."""
_READERS: weakref.WeakSet[ClipReader] = weakref.WeakSet()


class ClipReader:
    """Reads windows of one split of a finished store of codec `none` or `zstd`; each chunk's checksum is checked.

    May be used from several threads, in forked processes, and pickled.
    """

    def __init__(self, path: str | Path, split: str) -> None:
        self.path, self.split = local(path, "store").absolute(), split
        self.spec, self.layout = read_spec(self.path)
        self._plan = store_plan(self.spec, self.layout)
        folder = Folder(self.path)

        def opened(number: int) -> _OpenShard:
            return patiently(folder, functools.partial(_OpenShard, folder, self._plan, split, number))

        may = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        few = OPEN_SHARDS if may == resource.RLIM_INFINITY else max(may // 8, 1)
        self._shard = functools.lru_cache(min(few, OPEN_SHARDS))(opened)
        self._mine = threading.local()
        _READERS.add(self)

    def __reduce__(self) -> tuple[type[ClipReader], tuple[Path, str]]:
        return ClipReader, (self.path, self.split)

    def read(
        self, indices: npt.NDArray[np.int64], windows: npt.NDArray[np.int32], out: Pixels, threads: int = 1
    ) -> None:
        """Fill `out` (N, T, Y, X) with packed windows (N, 5) of the videos `indices` (N,), as `Backend.render` does.

        Raises:
            MissingError: this process may open too few files.
            RunError: a shard is damaged or cannot be read.
        """
        if threads == 1 or len(indices) == 1:
            for video, window, place in zip(indices.tolist(), windows.tolist(), out, strict=True):
                self._read_one(video, window, place)
            return
        with ThreadPoolExecutor(min(threads, len(indices))) as pool:
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
            i = 0
            while i < len(out):
                chunk, t = divmod(t0 + i * step, chunk_frames)
                entry = shard.index[at, chunk]
                pixels = self._chunk(shard.fd, entry).reshape(chunk_frames, height, width)
                part = pixels[t::step, y0 : y0 + out.shape[1], x0 : x0 + out.shape[2]][: len(out) - i]
                out[i : i + len(part)] = part[:, :, ::-1] if flip else part
                i += len(part)
        except (OSError, ValueError) as error:
            where = f"{str(self.path / key)!r}, video {video} of the {self.split} split"
            raise RunError(f"{where}: {error}; look at it with: vpngen verify {quoted(self.path)}") from error

    def _chunk(self, fd: int, entry: npt.NDArray[np.uint64]) -> Pixels:
        """The pixels of a chunk, until this thread asks for another: in memory that is used again, since new costs more."""
        offset, size = chunk_place(fd, entry, self._plan.most_chunk())
        mine = self._mine
        if getattr(mine, "packed", None) is None or len(mine.packed) < size:
            mine.packed, mine.pixels = np.empty(size, np.uint8), np.empty(self._plan.chunk_bytes(), np.uint8)
        packed = memoryview(mine.packed)[:size]
        if read_into(fd, packed, offset) != size:
            raise ValueError("the chunk is cut short")
        return decode_chunk(packed, self.layout.codec, self._plan.chunk_bytes(), mine.pixels)


class _OpenShard:
    """A file that is what its record says, and its index; closed when nobody holds it any more."""

    def __init__(self, folder: Folder, plan: Plan, split: str, number: int) -> None:
        shard = plan.shard(split, number)
        self.fd = folder.open(shard.key)
        check_record(folder, plan, shard, os.fstat(self.fd).st_size)
        self.index = read_index(self.fd, plan)[0]

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

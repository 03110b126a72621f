"""One shard file, packed and unpacked: chunks, each with its crc32c, then the index, as the Zarr v3 sharding codec asks.

A chunk of 16 frames is a contiguous piece of a rendered video, so at codec `none` it goes from the renderer's buffer to
the target without a copy, and no shard is ever held in memory.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from crc32c import crc32c as crc32c_of
from numcodecs import zstd

from vpngen.generators import Pixels
from vpngen.store.layout import ZSTD_LEVEL, Plan, Shard, record

Chunk = tuple[bytes | memoryview, bytes]
"""What is written of a chunk: payload and checksum."""
CRC_BYTES: Final = 4
INDEX_BYTES: Final = 16
"""Bytes of a chunk's entry in the index."""
MISSING: Final = 2**64 - 1
"""Offset and size of a chunk that is not there, in the index."""


def crc32c(data: bytes | memoryview) -> bytes:
    """The checksum that the Zarr crc32c codec appends: 4 bytes, little-endian."""
    return int(crc32c_of(data)).to_bytes(CRC_BYTES, "little")


def encode_video(video: Pixels, codec: str, chunk_frames: int) -> list[Chunk]:
    """The chunks of a video (T, Y, X), each as (payload, checksum); the last one padded with zeros."""
    frames = min(chunk_frames, len(video))
    chunks: list[Chunk] = []
    for t in range(0, len(video), frames):
        part = video[t : t + frames]
        if len(part) < frames:
            part = np.concatenate([part, np.zeros((frames - len(part), *video.shape[1:]), np.uint8)])
        payload: bytes | memoryview = part.reshape(-1).data
        if codec == "zstd":
            payload = zstd.compress(payload, ZSTD_LEVEL)
        chunks.append((payload, crc32c(payload)))
    return chunks


def decode_chunk(
    data: bytes | memoryview, codec: str, nbytes: int, into: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """The pixels (flat, nbytes) of a stored chunk with its checksum: a view of `data`, or of `into` if they are unpacked there.

    Raises:
        ValueError: it is damaged.
    """
    data = memoryview(data)
    payload, checksum = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if crc32c(payload) != checksum:
        raise ValueError("checksum does not match")
    if codec == "zstd":
        try:
            payload = memoryview(zstd.decompress(payload, into))
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    if len(payload) != nbytes:
        raise ValueError(f"{len(payload)} bytes in place of {nbytes}")
    return np.frombuffer(payload, np.uint8)


class ShardData:
    """The bytes of a shard file, piece by piece: the chunks of its videos as they come, then the index.

    A piece is valid until the next is asked for; a target copies what it keeps.

    The digest is the sha256 of the checksums of the chunks, in order, and the index: it pins every chunk without
    hashing the pixels twice.

    Attributes:
        size: bytes that have been taken.
        digest: the digest as hex, once all have been.
        record: the completion record, once all have been.
    """

    def __init__(
        self, plan: Plan, shard: Shard, videos: Iterable[Sequence[Chunk]], each: Callable[[int], object] | None = None
    ) -> None:
        """From the chunks of each video; `each` is called with the bytes of a video when they have been taken."""
        self._plan, self._shard, self._videos, self._each = plan, shard, videos, each
        self.size, self.digest, self.record = 0, "", b""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        places, checksums = np.full(self._plan.index_shape, MISSING, "<u8"), []
        for i, chunks in enumerate(self._videos):
            before = self.size
            for k, (payload, checksum) in enumerate(chunks):
                places[i, k] = self.size, len(payload) + CRC_BYTES
                checksums.append(checksum)
                self.size += len(payload) + CRC_BYTES
                with memoryview(payload) as piece:  # closed afterwards: renderers use their memory again
                    yield piece
                yield checksum
            if self._each is not None:
                self._each(self.size - before)
        index = places.tobytes()
        index += crc32c(index)
        self.size += len(index)
        self.digest = shard_digest(checksums, index)
        self.record = record(self._plan, self._shard, self.size, self.digest)
        yield index


def shard_digest(checksums: Sequence[bytes], index: bytes) -> str:
    """The digest of a shard from the checksums of its chunks, in order, and the bytes of its index."""
    return hashlib.sha256(b"".join(checksums) + index).hexdigest()


def read_index(fd: int, plan: Plan) -> tuple[npt.NDArray[np.uint64], bytes]:
    """The index of a shard (videos, chunks of a video, 2), offsets and sizes, and its bytes.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    length = math.prod(plan.index_shape) * 8 + CRC_BYTES
    size = os.fstat(fd).st_size
    if size < length:
        raise ValueError(f"the file has {size} bytes, fewer than its index")
    data = os.pread(fd, length, size - length)
    if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise ValueError("the index is damaged")
    return np.frombuffer(data[:-CRC_BYTES], "<u8").reshape(plan.index_shape), data


def read_chunk(fd: int, entry: npt.NDArray[np.uint64]) -> bytes:
    """A stored chunk with its checksum. Raises ValueError where the index points outside the file, OSError."""
    offset, size = chunk_place(fd, entry)
    return os.pread(fd, size, offset)


def chunk_place(fd: int, entry: npt.NDArray[np.uint64]) -> tuple[int, int]:
    """Offset and size of a stored chunk. Raises ValueError where the index points outside the file, OSError."""
    offset, size = int(entry[0]), int(entry[1])
    if offset == MISSING or size <= CRC_BYTES or offset + size > os.fstat(fd).st_size:
        raise ValueError("the chunk is missing")
    return offset, size

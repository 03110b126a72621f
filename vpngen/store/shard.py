"""One shard file, packed and unpacked: chunks, each with its crc32c, then the index, as the Zarr v3 sharding codec asks.

A chunk of 16 frames is a contiguous piece of a rendered video, so at codec `none` it goes from the renderer's buffer to
the file without a copy, and no shard is ever held in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from crc32c import crc32c as crc32c_of
from numcodecs import zstd

from vpngen.generators import Pixels
from vpngen.store.layout import ZSTD_LEVEL

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


class ShardWriter:
    """Chunks in, one shard file out, with its size and digest.

    The digest is the sha256 of the checksums of the chunks, in order, and the index: it pins every chunk without
    hashing the pixels twice.
    """

    def __init__(self, fd: int, chunks: int) -> None:
        self._fd = fd
        self._index = np.full((chunks, 2), MISSING, "<u8")
        self._next = 0
        self._sha = hashlib.sha256()
        self.size = 0

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Append the chunks of a video. Raises OSError."""
        for payload, checksum in chunks:
            self._index[self._next] = self.size, len(payload) + CRC_BYTES
            self._next += 1
            self._write(payload)
            self._write(checksum)
            self._sha.update(checksum)

    def finish(self) -> tuple[int, str]:
        """Write the index; returns (size of the file in bytes, digest as hex). Raises OSError."""
        index = self._index.tobytes()
        index += crc32c(index)
        self._write(index)
        self._sha.update(index)
        return self.size, self._sha.hexdigest()

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]


def shard_digest(checksums: Sequence[bytes], index: bytes) -> str:
    """The digest of a shard from the checksums of its chunks, in order, and the bytes of its index."""
    return hashlib.sha256(b"".join(checksums) + index).hexdigest()


def read_index(fd: int, chunks: int) -> tuple[npt.NDArray[np.uint64], bytes]:
    """The index (chunks, 2) of (offset, size) and its bytes. Raises ValueError where it is damaged, OSError."""
    length = chunks * INDEX_BYTES + CRC_BYTES
    size = os.fstat(fd).st_size
    if size < length:
        raise ValueError(f"the file has {size} bytes, fewer than its index")
    data = os.pread(fd, length, size - length)
    if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise ValueError("the index is damaged")
    return np.frombuffer(data[:-CRC_BYTES], "<u8").reshape(chunks, 2), data


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

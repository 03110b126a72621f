"""The files of a shard, rendered, packed and unpacked: chunks, each with its crc32c, then the index, as the Zarr v3 sharding codec asks.

What the chunks of a video are is said by its `Encoding`: pixels, packed or not, what is known of each, or the parameters that make
them. A chunk of 16 frames is a contiguous piece of a video, so at codec `none` pixels go from the renderer's buffer to the target
without a copy, and no shard is ever held in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numcodecs import zstd

from vpngen.backends import Backend
from vpngen.generators import Params, Pixels
from vpngen.rendering import Window, completed, truth, videos
from vpngen.store.formula import CRC_BYTES, DamageError, crc32c, decode_params, encode_params, params_bytes
from vpngen.store.layout import SHARDED, VIDEO, ZSTD_LEVEL, Plan, Shard, read_record, record, recorded
from vpngen.store.places import File, Place

Chunk = tuple[bytes | memoryview, bytes]
"""What is written of a chunk: payload and checksum."""
INDEX_BYTES: Final = 16
"""Bytes of a chunk's entry in the index."""
MISSING: Final = 2**64 - 1
"""Offset and size of a chunk that is not there, in the index."""
ZSTD_MAGIC: Final = (0xFD2FB528).to_bytes(4, "little")
ZSTD_HEADER: Final = 18
"""Bytes of the header of a zstd frame at most."""
TOGETHER: Final = 256
"""Videos whose parameters are drawn at a time: arithmetic on arrays, where one alone costs hundreds of times its share."""


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


def decode_chunk(data: bytes | memoryview, codec: str, nbytes: int, into: Pixels | None = None) -> Pixels:
    """The pixels (flat, nbytes) of a stored chunk with its checksum: a view of `data`, or of `into` if they are unpacked there.

    No more memory than that is taken, whatever the chunk claims.

    Raises:
        DamageError: it is damaged.
    """
    data = memoryview(data)
    payload, checksum = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if crc32c(payload) != checksum:
        raise DamageError("checksum does not match")
    if codec == "zstd":
        if (claimed := zstd_content(payload)) != nbytes:
            raise DamageError(f"its zstd frame says {claimed} bytes in place of {nbytes}")
        try:
            payload = memoryview(zstd.decompress(payload, into))
        except RuntimeError as error:
            raise DamageError(str(error)) from None
    if len(payload) != nbytes:
        raise DamageError(f"{len(payload)} bytes in place of {nbytes}")
    return np.frombuffer(payload, np.uint8)


def zstd_content(frame: bytes | memoryview) -> int | None:
    """The size that a zstd frame says its content has; None where it says none, or is no frame."""
    if len(frame) < 5 or bytes(frame[:4]) != ZSTD_MAGIC:
        return None
    flags = frame[4]
    single, kind = bool(flags & 0x20), flags >> 6
    size = (1 if single else 0, 2, 4, 8)[kind]
    first = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    if not size or len(frame) < first + size:
        return None
    return int.from_bytes(frame[first : first + size], "little") + (256 if kind == 1 else 0)


class ShardData:
    """The bytes of a file of a shard, piece by piece: the chunks of its videos as they come, then the index.

    A piece is valid until the next is asked for; a target copies what it keeps. Asked for again, all are made again.

    The digest is the sha256 of the checksums of the chunks, in order, and the index: it pins every chunk without
    hashing the pixels twice.

    Attributes:
        size: bytes that have been taken.
        digest: the digest as hex, once all have been.
    """

    def __init__(
        self, plan: Plan, videos: Callable[[], Iterable[Sequence[Chunk]]], each: Callable[[int], object] | None = None
    ) -> None:
        """From what makes the chunks of each video; `each` is called with the bytes of a video when they have been taken, once."""
        self._plan, self._videos, self._each = plan, videos, each
        self.size, self.digest, self._told = 0, "", 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        places, checksums = np.full(self._plan.index_shape, MISSING, "<u8"), []
        self.size = 0
        for i, chunks in enumerate(self._videos()):
            before = self.size
            for k, (payload, checksum) in enumerate(chunks):
                places[i, k] = self.size, len(payload) + CRC_BYTES
                checksums.append(checksum)
                self.size += len(payload) + CRC_BYTES
                with memoryview(payload) as piece:  # closed afterwards: renderers use their memory again
                    yield piece
                yield checksum
            if self._each is not None and i >= self._told:
                self._told = i + 1
                self._each(self.size - before)
        index = places.tobytes()
        index += crc32c(index)
        self.size += len(index)
        self.digest = shard_digest(checksums, index)
        yield index


@dataclass(frozen=True)
class Encoding:
    """How the videos of a plan become the chunks of an array, and chunks what they hold: pixels, in chunks of frames.

    What they hold, the content of a video, is its pixels (T, Y, X), or bytes of what is known of each; those of codec `formula`
    hold its parameters (1,).

    Attributes:
        plan: whose videos.
        array: of `Plan.arrays`.
        most_bytes: bytes that a video takes of a shard at most, with its checksums and its part of the index.
        exact: whether every video takes that much.
        together: how many contents are made at a time.
    """

    plan: Plan
    array: str
    most_bytes: int
    exact: bool = True
    together: int = 1

    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Any]:
        """The content of videos, one after the other; each is valid until the next is asked for."""
        spec = self.plan.spec
        rows = completed(spec, spec.params(np.array(indices), split), renderer, threads)
        return videos(renderer, spec.generator.name, rows, spec.shape, threads)

    def encode(self, content: Any) -> list[Chunk]:
        """The chunks of a video."""
        return encode_video(content, self.plan.layout.codec, self.plan.layout.chunk_frames)

    def decode(self, chunks: list[bytes]) -> Any:
        """What the stored chunks of a video hold: of pixels flat, with padding. Raises DamageError where one is damaged."""
        return [decode_chunk(chunk, self.plan.layout.codec, self.plan.chunk_bytes(self.array)) for chunk in chunks]

    def agree(self, stored: Any, content: Any) -> bool:
        """Whether what `decode` found is the content that belongs there."""
        flat = np.concatenate(stored)
        return np.array_equal(flat[: content.size], content.ravel()) and not flat[content.size :].any()


class _Truth(Encoding):
    """What is known of every pixel, the bytes of a pixel side by side: (T, Y, bytes of a row)."""

    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Pixels]:
        spec, dtype = self.plan.spec, SHARDED[self.array].dtype
        for params in spec.params(np.array(indices), split):
            found = truth(spec, self.array, params, Window().pack(spec.shape)[0], spec.shape)
            yield np.ascontiguousarray(found, dtype).view(np.uint8).reshape(*spec.shape[:2], -1)


class _Params(Encoding):
    """Codec `formula`: one chunk a video. Nothing is rendered, unless the parameters depend on the extremes of the video."""

    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Params]:
        for first in range(0, len(indices), self.together):
            some = np.array(indices[first : first + self.together])
            rows = completed(self.plan.spec, self.plan.spec.params(some, split), renderer, threads)
            for i in range(len(rows)):
                yield rows[i : i + 1]

    def encode(self, content: Params) -> list[Chunk]:
        return [encode_params(content, self.plan.spec.format_version)]

    def decode(self, chunks: list[bytes]) -> Params:
        (chunk,) = chunks
        return decode_params(chunk, self.plan.spec.generator.name, self.plan.spec.format_version)

    def agree(self, stored: Params, content: Params) -> bool:
        return stored.tobytes() == content.tobytes()


def encoding(plan: Plan, array: str = VIDEO) -> Encoding:
    """How an array of the videos of a plan is stored."""
    generator, codec = plan.spec.generator, plan.layout.codec
    if codec == "formula":
        together = 1 if generator.needs_extremes else TOGETHER
        return _Params(plan, array, params_bytes(generator.name) + INDEX_BYTES, together=together)
    most_bytes = plan.chunks_a_video * (plan.chunk_bytes(array) + CRC_BYTES + INDEX_BYTES)
    return (Encoding if array == VIDEO else _Truth)(plan, array, most_bytes, exact=codec == "none")


def encodings(plan: Plan) -> tuple[Encoding, ...]:
    """How each array of the videos of a plan is stored."""
    return tuple(encoding(plan, array) for array in plan.arrays)


def render_shard(
    plan: Plan,
    shard: Shard,
    backend: Backend,
    threads: int = 1,
    each: Callable[[int], object] | None = None,
    array: str = VIDEO,
) -> ShardData:
    """The bytes of a file of a shard of a plan, rendered as they are taken: a pure function of plan, shard and array.

    `each` is called with the bytes of a video when they have been taken, before the next video is rendered.
    """
    how = encoding(plan, array)

    def videos() -> Iterator[list[Chunk]]:
        return map(how.encode, how.contents(shard.split, shard.videos, backend, threads))

    return ShardData(plan, videos, each)


def shard_record(plan: Plan, shard: Shard, files: Mapping[str, ShardData]) -> bytes:
    """The completion record of a shard, once all its `files` have been taken."""
    return record(plan, shard, {array: (data.size, data.digest) for array, data in files.items()})


def shard_digest(checksums: Sequence[bytes], index: bytes) -> str:
    """The digest of a shard from the checksums of its chunks, in order, and the bytes of its index."""
    return hashlib.sha256(b"".join(checksums) + index).hexdigest()


def index_bytes(plan: Plan) -> int:
    """Bytes of the index of a shard, at its end."""
    return math.prod(plan.index_shape) * 8 + CRC_BYTES


def read_index(file: File, plan: Plan) -> tuple[npt.NDArray[np.uint64], bytes]:
    """The index of a shard (videos, chunks of a video, 2), offsets and sizes, and its bytes.

    Raises:
        DamageError: it is damaged.
        OSError: it cannot be read.
    """
    length, size = index_bytes(plan), file.size
    if size < length:
        raise DamageError(f"the file has {size} bytes, fewer than its index")
    data = file.read(length, size - length)
    if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise DamageError("the index is damaged")
    index = np.frombuffer(data[:-CRC_BYTES], "<u8").reshape(plan.index_shape)
    held = index[index[..., 0] != MISSING].astype(np.float64)
    held = held[np.argsort(held[:, 0])]
    if (held.sum(axis=1)[:-1] > held[1:, 0]).any() or held[:, 1].sum() > size:
        raise DamageError("the chunks of its index overlap, or are larger than the file")
    return index, data


def read_chunks(file: File, entries: npt.NDArray[np.uint64], most: int) -> list[bytes]:
    """Stored chunks with their checksums, see `spans`."""
    found: list[bytes] = []
    for offset, sizes in spans(file, entries, most):
        data = file.read(sum(sizes), offset)
        found += (data[end - size : end] for size, end in zip(sizes, itertools.accumulate(sizes), strict=True))
    return found


def spans(file: File, entries: npt.NDArray[np.uint64], most: int) -> Iterator[tuple[int, list[int]]]:
    """Where to read the chunks of entries (N, 2) of the index: an offset, and the sizes of the chunks that follow each other from there.

    Raises:
        DamageError: the index points outside the file, or a chunk would have more than `most` bytes, see `Plan.most_chunk`.
    """
    offset, sizes = 0, list[int]()
    for start, size in entries.tolist():
        if start == MISSING or size <= CRC_BYTES or start + size > file.size:
            raise DamageError("the chunk is missing")
        if size > most:
            raise DamageError(f"the index says {size:,} bytes of a chunk, which has {most:,} at most")
        if sizes and offset + sum(sizes) != start:
            yield offset, sizes
            sizes = []
        offset = offset if sizes else start
        sizes.append(size)
    if sizes:
        yield offset, sizes


class UnfinishedError(DamageError):
    """A shard of a set that grows, whose file is there and its record not yet."""


def check_record(place: Place, plan: Plan, shard: Shard, size: int, array: str = VIDEO) -> dict[str, Any]:
    """The fields of the record of a shard whose file of an array has `size` bytes. Raises DamageError unless both are of each other."""
    if (fields := read_record(place, plan, shard)) is None:
        raise DamageError("the completion record is missing, damaged, or of another dataset")
    if (there := recorded(fields, array)[0]) != size:
        if fields["shard"]["count"] < shard.count:
            raise UnfinishedError(
                f"the file has {size} bytes, and its record is that of a smaller set: it is being rendered anew"
            )
        raise DamageError(f"the file has {size} bytes, its record says {there}")
    return fields

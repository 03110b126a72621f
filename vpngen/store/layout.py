"""What a store looks like: groups, arrays, shards, records; and the plan, a pure function of spec and slice.

set.zarr/zarr.json                        group; attributes: spec, fingerprint, layout, version, licence, citation
set.zarr/train/video/zarr.json            (sample, t, y, x) uint8, sharded
set.zarr/train/video/c.7.0.0.0            shard 7: whole videos, or their parameters
set.zarr/train/video/c.7.0.0.0.done       its completion record
set.zarr/train/motion/c.7.0.0.0.0         of the same videos where their flow goes, if that was asked for; its record is that of the shard
set.zarr/train/label, frequency, ...      what is known of each video, small arrays
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import re
import threading
import time
import warnings
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from vpngen.checks import MAX_SIDE, flag, integer, is_integer, one_of
from vpngen.errors import ArgumentError, ConflictError, VpngenError
from vpngen.files import Folder, parse_json
from vpngen.generators import Parameter
from vpngen.spec import Spec
from vpngen.store.formula import CRC_BYTES, DamageError, FormulaCodec, crc32c, params_bytes
from vpngen.store.places import CLAIMS, Objects, Place, Where, place_of

T = TypeVar("T")
ZSTD_LEVEL: Final = 1
CHUNK_FRAMES: Final = 16
SHARD_VIDEOS: Final = 32
FORMULA_VIDEOS: Final = 1024
"""The same for codec `formula`. A read fetches the index, 16 bytes a video: more would cost it time, fewer are more files."""
_USUAL: Final = dict.fromkeys(("none", "zstd"), (SHARD_VIDEOS, CHUNK_FRAMES)) | {"formula": (FORMULA_VIDEOS, MAX_SIDE)}
"""Codec -> shard_videos and chunk_frames where nothing else is asked for."""
CODECS: Final = tuple(_USUAL)
MOST_SHARDS: Final = 2**22
MOST_CHUNKS: Final = 2**22
"""Chunks in a shard: its index is held in memory, 16 bytes a chunk."""
MOST_RECORD: Final = 2**16
"""Bytes of a completion record; one has some hundreds."""
RECORD: Final = ".done"
"""What the name of a completion record adds to that of its shard."""
GROWN: Final = "grown_from"
"""What the root metadata says beside the spec while a set is being grown: `instances` and `val_instances` of what was there."""
MOST_GROWN: Final = 256
"""Sets that it names, at most."""
ASKED: Final = 4096
"""Shards of which a thread pool is asked at a time."""
TABLE_CHUNK: Final = 65536
"""Samples in a chunk of the small arrays."""
FRESH_CHUNK: Final = 1024
"""The same where they are made when they are read."""
VIDEO: Final = "video"
"""The array of the pixels."""
LICENCE: Final = "CC0-1.0"
"""The pixels are made by formula; the project claims no right in them."""
CITATION: Final = (
    "H. Kataoka, K. Hara, R. Hayashi, E. Yamagata, N. Inoue. "
    "Spatiotemporal Initialization for 3D CNNs with Generated Motion Patterns. WACV 2022."
)


class Sharded(NamedTuple):
    """An array that lies in shards: sample, t, y, x, and what more axes each pixel has."""

    dtype: npt.DTypeLike
    rest: tuple[int, ...]
    dims: tuple[str, ...]
    about: str

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel."""
        return math.prod(self.rest) * np.dtype(self.dtype).itemsize


SHARDED: Final = {
    VIDEO: Sharded("uint8", (), (), "grey levels; index = instance * categories + category"),
    "motion": Sharded("<f4", (2,), ("axis",), "where each pixel goes to the next frame: (dx, dy) in pixels, x to the right, y downwards"),
    "shape": Sharded("<i4", (), (), "the shape that each pixel shows; -1 for what lies behind all"),
    "hidden": Sharded("bool", (), (), "whether the next frame hides what a pixel shows"),
}  # fmt: skip
"""Arrays that lie in shards; all but the first are what is known of every pixel, see `Generator.truth`."""


@dataclass(frozen=True, init=False)
class Layout:
    """How videos are laid into files.

    Attributes:
        codec: `none`, `zstd` (level 1) or `formula`; all carry a crc32c a chunk.
        shard_videos: videos in a shard file, at least 1.
        chunk_frames: frames in a chunk, the least that a reader decodes. A formula has whole videos for chunks, and
            renders of them what it is asked for.
        motion: whether the motion of every pixel is stored beside it, and what else is known of it.
    """

    codec: str
    shard_videos: int
    chunk_frames: int
    motion: bool

    def __init__(
        self,
        codec: str = "none",
        shard_videos: int | None = None,
        chunk_frames: int | None = None,
        motion: bool = False,
    ) -> None:
        """None: what is usual for the codec. Raises ArgumentError."""
        object.__setattr__(self, "codec", one_of("codec", codec, CODECS))
        given = {"shard_videos": shard_videos, "chunk_frames": chunk_frames}
        for (name, value), usual in zip(given.items(), _USUAL[codec], strict=True):
            object.__setattr__(self, name, integer(name, usual if value is None else value, 1, MAX_SIDE))
        if codec == "formula" and self.chunk_frames != MAX_SIDE:
            raise ArgumentError(f"must be {MAX_SIDE}, the whole video, for codec formula", "chunk_frames", chunk_frames)
        object.__setattr__(self, "motion", flag("with_motion", motion))
        if codec == "formula" and motion:
            instead = "vpngen.motion has it of any window, without a store"
            raise ArgumentError(f"cannot be given with codec formula, which stores no pixels: {instead}", "with_motion")

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metadata and records: `motion` where there is any."""
        return {name: value for name, value in asdict(self).items() if name != "motion" or value}


@dataclass(frozen=True)
class Shard:
    """Videos [first, first + count) of a split, in one file; one for each array of `Plan.arrays`."""

    split: str
    number: int
    first: int
    count: int

    def file(self, array: str) -> str:
        """The path of its file of an array of `SHARDED`, within the store."""
        return f"{self.split}/{array}/c.{self.number}.0.0.0" + ".0" * len(SHARDED[array].rest)

    @property
    def key(self) -> str:
        """The path of its pixels."""
        return self.file(VIDEO)

    @property
    def record(self) -> str:
        """The path of its completion record."""
        return f"{self.key}{RECORD}"

    @property
    def videos(self) -> range:
        """The indices of its videos."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class Shards(Sequence[Shard]):
    """Some or all shards of a store in order, each made when it is asked for.

    Attributes:
        splits: each split and its number of videos.
        shard_videos: videos in a shard.
        numbers: which shards, counted through all splits; ascending.
    """

    splits: tuple[tuple[str, int], ...]
    shard_videos: int
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> Shards: ...
    def __getitem__(self, index: int | slice) -> Shard | Shards:
        if isinstance(index, slice):
            return replace(self, numbers=self.numbers[index])
        number = int(self.numbers[index])
        for split, before, videos in self._parts():
            if number < before + -(-videos // self.shard_videos):
                first = (number - before) * self.shard_videos
                return Shard(split, number - before, first, min(self.shard_videos, videos - first))
        raise IndexError(number)

    def __iter__(self) -> Iterator[Shard]:
        return map(self.__getitem__, range(len(self)))  # no generator: several threads take from it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        if isinstance(other, Shards) and self.numbers is other.numbers:
            return (self.splits, self.shard_videos) == (other.splits, other.shard_videos)
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it is equal to lists

    def _parts(self) -> Iterator[tuple[str, int, int]]:
        """Each split, the shards before it, and its videos."""
        before = 0
        for split, videos in self.splits:
            yield split, before, videos
            before += -(-videos // self.shard_videos)

    @property
    def videos(self) -> int:
        """The number of their videos: every shard is full but the last one of a split."""
        found = len(self.numbers) * self.shard_videos
        for _, before, videos in self._parts():
            last = before + -(-videos // self.shard_videos) - 1
            at = bisect_left(self.numbers, last)
            if at < len(self.numbers) and self.numbers[at] == last:
                found -= -videos % self.shard_videos
        return found

    def of(self, split: str) -> Shards:
        """Those of a split."""
        return next(
            (replace(self, numbers=self.numbers[bisect_left(self.numbers, before) : bisect_left(self.numbers, before + -(-videos // self.shard_videos))])
             for name, before, videos in self._parts() if name == split),
            replace(self, numbers=()),
        )  # fmt: skip

    def runs(self, there: Mapping[str, set[int]]) -> Iterator[tuple[bool, Shards]]:
        """These shards in order, where they follow each other: each of those that are `there` alone, the others in runs."""
        for split, before, _ in self._parts():
            mine, done = self.of(split).numbers, 0
            for number in sorted(there.get(split, ())):
                at = bisect_left(mine, before + number)
                if at < len(mine) and mine[at] == before + number:
                    if at > done:
                        yield False, replace(self, numbers=mine[done:at])
                    yield True, replace(self, numbers=mine[at : at + 1])
                    done = at + 1
            if done < len(mine):
                yield False, replace(self, numbers=mine[done:])


@dataclass(frozen=True)
class Plan:
    """Which shards of a store a run is to make, in order. The same on every machine."""

    spec: Spec
    layout: Layout
    shards: Sequence[Shard]

    @property
    def videos(self) -> int:
        """The number of videos in the plan."""
        return self.shards.videos if isinstance(self.shards, Shards) else sum(s.count for s in self.shards)

    def shard(self, split: str, number: int) -> Shard:
        """A shard of the store, whether it is in this plan or not."""
        first = number * self.layout.shard_videos
        return Shard(split, number, first, min(self.layout.shard_videos, self.spec.n_videos(split) - first))

    def only(self, shards: Iterable[Shard]) -> Plan:
        """The plan with these of its shards alone."""
        return replace(self, shards=shards if isinstance(shards, Shards) else tuple(shards))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays that lie in shards; `SHARDED` has them."""
        return (VIDEO, *(self.spec.generator.truth if self.layout.motion else ()))

    @property
    def chunks_a_video(self) -> int:
        """The number of chunks along t."""
        return -(-self.spec.shape[0] // self.layout.chunk_frames)

    @property
    def index_shape(self) -> tuple[int, int, int]:
        """The shape of the index of a shard: videos, chunks of a video, and 2 for offset and size."""
        return self.layout.shard_videos, self.chunks_a_video, 2

    def chunk_bytes(self, array: str = VIDEO) -> int:
        """Bytes of a decoded chunk; the last one of a video is padded to that."""
        frames, height, width = self.spec.shape
        return min(self.layout.chunk_frames, frames) * height * width * SHARDED[array].pixel_bytes

    def most_chunk(self, array: str = VIDEO) -> int:
        """Bytes that a stored chunk has at most, with its checksum."""
        if self.layout.codec == "formula":
            return params_bytes(self.spec.generator.name)
        size = self.chunk_bytes(array)
        return size + (size // 256 + 64 if self.layout.codec == "zstd" else 0) + CRC_BYTES

    def most_shard(self, array: str = VIDEO) -> int:
        """Bytes that a shard file has at most."""
        return math.prod(self.index_shape[:2]) * (self.most_chunk(array) + 16) + CRC_BYTES


def parse_slice(text: str) -> tuple[int, int]:
    """(I, N) of `I/N`, with 1 <= I <= N. Raises ArgumentError."""
    parts = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if parts is not None and 1 <= int(parts[1]) <= int(parts[2]):
        return int(parts[1]), int(parts[2])
    raise ArgumentError("must be I/N with 1 <= I <= N, such as 1/4, 2/4, 3/4 and 4/4", "slice", text)


def checked_slice(slice: tuple[int, int]) -> tuple[int, int]:
    """`slice`, if it is (I, N) with 1 <= I <= N. Raises ArgumentError."""
    i, n = slice
    if not (is_integer(i) and is_integer(n) and 1 <= i <= n):
        raise ArgumentError("must be (I, N), integers with 1 <= I <= N", "slice", slice)
    return i, n


def all_shards(spec: Spec, layout: Layout) -> Shards:
    """Every shard of the store, split by split."""
    splits = tuple((split, spec.n_videos(split)) for split in spec.splits)
    count = sum(-(-videos // layout.shard_videos) for _, videos in splits)
    return Shards(splits, layout.shard_videos, range(count))


def store_plan(spec: Spec, layout: Layout, slice: tuple[int, int] = (1, 1)) -> Plan:
    """Slice I of N of the store, given as (I, N): every N-th shard from the I-th on. Raises ArgumentError, also where motion is not known."""
    i, n = checked_slice(slice)
    if layout.motion:
        spec.generator.check_moves()
    shards = all_shards(spec, layout)
    if len(shards) > MOST_SHARDS:
        less = f"fewer `instances` (={spec.instances}), or more `shard_videos` (={layout.shard_videos}) in a shard"
        raise ArgumentError(f"the store would have {len(shards):,} shard files, above {MOST_SHARDS:,}: ask for {less}")
    plan = Plan(spec, layout, shards[i - 1 :: n])
    if (chunks := math.prod(plan.index_shape[:2])) > MOST_CHUNKS:
        less = f"fewer `shard_videos` (={layout.shard_videos})"
        raise ArgumentError(f"a shard would have {chunks:,} chunks, above {MOST_CHUNKS:,}: ask for {less}")
    return plan


def _checksum(spec: Spec, layout: Layout, grown: Sequence[Any] = ()) -> str:
    """sha256 of what a plan is made from: a damaged digit of the layout must not pass for another layout."""
    made_from = [spec.to_dict(), layout.to_dict(), *([grown] if grown else [])]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def growing(document: bytes, plan: Plan, earlier: Sequence[Spec]) -> bytes:
    """The root metadata `document` of a plan while files of smaller sets are still there, which it was grown from."""
    fields = parse_json(document)
    grown = [[spec.instances, spec.val_instances] for spec in earlier]
    fields["attributes"]["vpngen"] |= {GROWN: grown, "checksum": _checksum(plan.spec, plan.layout, grown)}
    return json.dumps(fields, indent=2).encode()


_quietly = threading.Lock()
"""Warnings are of the process: one thread at a time turns them off."""


def skeleton(spec: Spec, layout: Layout, files: bool = True) -> tuple[dict[str, bytes], dict[str, tuple[int, ...]]]:
    """The metadata of a store.

    Returns:
        The `zarr.json` files by their path within the store; and of each array, `train/label`, the number of its chunks
        along each axis. With `files` they are to lie on disk: videos in shards, tables in large, compressed chunks, see
        `table_files`. Without, they are to be made when they are read: each chunk stands alone, tables have small ones.
    """
    documents: dict[str, Any] = {}
    counts: dict[str, tuple[int, ...]] = {}
    ours: dict[str, Any] = {"spec": spec.to_dict(), "fingerprint": spec.fingerprint, "layout": layout.to_dict()}
    ours |= {"format_version": spec.format_version, "checksum": _checksum(spec, layout)}
    about = {"vpngen": ours, "licence": LICENCE, "citation": CITATION}
    with _quietly, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = zarr.storage.MemoryStore(documents)
        group = zarr.create_group(memory, zarr_format=3, attributes=about)
        for split in spec.splits:
            counts |= _create_arrays(group.create_group(split), spec, layout, split, files)
            zarr.consolidate_metadata(memory, path=split)
        zarr.consolidate_metadata(memory)
    return {key: document.to_bytes() for key, document in documents.items()}, counts


def tables(spec: Spec, split: str, indices: npt.ArrayLike, parameters: bool = True) -> dict[str, Parameter]:
    """What is stored of videos (N,) beside their pixels: `label`, and the parameters of the generator."""
    label = Parameter(spec.labels(indices, split).astype(np.int32), (), "category id of each video")
    return {"label": label, **(spec.parameters(indices, split) if parameters else {})}


def table_chunk(spec: Spec, split: str, number: int, rows: int, parameters: bool = True) -> dict[str, bytes]:
    """A chunk of `rows` rows of each table of a split, unpacked; rows beyond the last video are zeros."""
    first, chunks = number * rows, {}
    indices = np.arange(first, min(first + rows, spec.n_videos(split)))
    for name, (values, _, _) in tables(spec, split, indices, parameters).items():
        chunk = np.zeros((rows, *values.shape[1:]), values.dtype.newbyteorder("<"))
        chunk[: len(values)] = values
        chunks[name] = chunk.tobytes()
    return chunks


def table_files(spec: Spec, earlier: Sequence[Spec] = ()) -> Iterator[tuple[str, bytes]]:
    """The files of all tables of a store, one chunk after the other, as zarr would write them.

    Those that are the same in a store of each set in `earlier`, beginnings of this one, are left out.
    """
    for split in spec.splits:
        axes = {name: table.values.ndim for name, table in tables(spec, split, [0]).items()}
        same = min((each.n_videos(split) for each in earlier), default=0) // TABLE_CHUNK
        for number in range(same, -(-spec.n_videos(split) // TABLE_CHUNK)):
            for name, data in packed_tables(spec, split, number).items():
                yield f"{split}/{name}/c.{number}" + ".0" * (axes[name] - 1), data


def packed_tables(spec: Spec, split: str, number: int) -> dict[str, bytes]:
    """The files of chunk `number` of each table of a split, by the table."""
    packed = {}
    for name, chunk in table_chunk(spec, split, number, TABLE_CHUNK).items():
        payload = bytes(zstd.compress(chunk, ZSTD_LEVEL))
        packed[name] = payload + crc32c(payload)
    return packed


def _create_arrays(group: zarr.Group, spec: Spec, layout: Layout, split: str, files: bool) -> dict[str, Any]:
    """The arrays of a split; gives the number of their chunks."""
    n, (frames, height, width) = spec.n_videos(split), spec.shape
    chunk_frames = min(layout.chunk_frames, frames)
    padded = -(-frames // chunk_frames) * chunk_frames
    zstd, checksum = ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()
    compressors = {"none": [checksum], "zstd": [zstd, checksum], "formula": []}[layout.codec]
    formula = layout.codec == "formula"
    serializer = FormulaCodec(spec.generator.name, spec.format_version) if formula else BytesCodec()

    def create(name: str, dims: tuple[str, ...], about: str, **options: Any) -> zarr.Array[Any]:
        names, keys = ("sample", *dims), {"name": "default", "separator": "."}
        options |= {"dimension_names": names, "attributes": {"about": about}, "chunk_key_encoding": keys}
        return group.create_array(name, filters=[], fill_value=0, **options)

    chunks, shard = (1, chunk_frames, height, width), (layout.shard_videos, padded, height, width)
    arrays = {}
    for name in Plan(spec, layout, ()).arrays:
        dtype, rest, dims, about = SHARDED[name]
        arrays[name] = create(
            name, ("t", "y", "x", *dims), about, dtype=dtype, shape=(n, frames, height, width, *rest), chunks=(*chunks, *rest),
            shards=(*shard, *rest) if files else None, compressors=compressors, serializer=serializer,
        )  # fmt: skip
    small: dict[str, Any] = {"serializer": BytesCodec(), "compressors": [zstd, checksum] if files else []}
    small["config"] = {"write_empty_chunks": True}
    for name, (values, dims, about) in tables(spec, split, [0]).items():
        rest, first = values.shape[1:], TABLE_CHUNK if files else FRESH_CHUNK
        arrays[name] = create(name, dims, about, shape=(n, *rest), chunks=(first, *rest), dtype=values.dtype, **small)
    return {f"{split}/{name}": array.cdata_shape for name, array in arrays.items()}


def record(plan: Plan, shard: Shard, files: Mapping[str, tuple[int, str]]) -> bytes:
    """The completion record of a shard: JSON, the same bytes for the same shard.

    `files` are size and digest of its files by their array; those of the pixels stand alone, the others by their name.
    """
    where = {name: getattr(shard, name) for name in ("split", "number", "first", "count")}
    fields: dict[str, Any] = {"fingerprint": plan.spec.fingerprint, "layout": plan.layout.to_dict(), "shard": where}
    for name, (size, digest) in files.items():
        about = {"size": size, "digest": digest}
        fields |= about if name == VIDEO else {name: about}
    return json.dumps(fields, sort_keys=True, indent=1).encode() + b"\n"


def recorded(fields: Mapping[str, Any], array: str) -> tuple[int, str]:
    """Size and digest of a file of a shard, as its record says. Raises KeyError, TypeError."""
    about = fields if array == VIDEO else fields[array]
    return about["size"], about["digest"]


def parse_record(plan: Plan, shard: Shard, data: bytes) -> dict[str, Any] | None:
    """The fields of a completion record, see `recorded`; None unless it is of this shard and plan."""
    try:
        fields = json.loads(data)
        expected = json.loads(record(plan, shard, {array: recorded(fields, array) for array in plan.arrays}))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return fields if fields == expected else None


def read_record(place: Place, plan: Plan, shard: Shard) -> dict[str, Any] | None:
    """The completion record of a shard of the store at a place, as `parse_record` gives it.

    It may be that of the same shard before the set was grown to this plan, or after it was grown from it: then it has another
    fingerprint, and maybe another `count` of videos.
    """
    try:
        data = place.read(shard.record, MOST_RECORD)
    except OSError:
        return None
    if (fields := parse_record(plan, shard, data)) is not None:
        return fields
    others = (replace(plan, spec=spec) for spec in _grown(place, plan))
    found = (parse_record(other, other.shard(shard.split, shard.number), data) for other in others)
    return next((fields for fields in found if fields is not None), None)


def _grown(place: Place, plan: Plan) -> Iterator[Spec]:
    """What the store at a place held before it was grown to a plan, and what it holds since it was grown from it."""
    try:
        spec, layout, earlier = _parse_root(place.read("zarr.json"))
    except (OSError, _Mismatch, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    if layout == plan.layout:
        yield from (each for each in (spec, *earlier) if each.family == plan.spec.family and each != plan.spec)


def patiently(place: Place, read: Callable[[], T]) -> T:
    """What `read` gives. While a set grows, a shard is for moments between its old record and its new one: then it is asked again."""
    for pause in (0.02, 0.1, 0.5, 2.0):
        try:
            return read()
        except DamageError:
            if not _is_growing(place):
                break
            time.sleep(pause)
    return read()  # it may have come to its end since


def _is_growing(place: Place) -> bool:
    try:
        return bool(read_store(place)[2])
    except (ArgumentError, ConflictError):
        return False


def is_finished(place: Place, plan: Plan, shard: Shard, sizes: Mapping[str, int] | None = None) -> bool:
    """Whether a shard has a valid record, of no fewer videos, and files of the recorded sizes.

    `sizes` are those of all files in the folders of its arrays by their path, if they are known.
    """
    fields = read_record(place, plan, shard)
    if fields is None or fields["shard"]["count"] < shard.count:
        return False
    try:
        return all(
            (place.size(name) if sizes is None else sizes.get(name)) == recorded(fields, array)[0]
            for array, name in ((array, shard.file(array)) for array in plan.arrays)
        )
    except OSError:
        return False


def finished(
    place: Place, plan: Plan, shards: Sequence[Shard], sizes: Mapping[str, int] | None = None
) -> Iterator[bool]:
    """`is_finished` of shards, in order; where it takes requests, several are asked for at once."""
    ask = functools.partial(is_finished, place, plan, sizes=sizes)
    if place.in_flight == 1 or len(shards) < 2:
        yield from map(ask, shards)
        return
    with ThreadPoolExecutor(min(place.in_flight, len(shards))) as pool:
        for first in range(0, len(shards), ASKED):
            yield from pool.map(ask, shards[first : first + ASKED])


_SHARD = re.compile(r"c\.(0|[1-9][0-9]{0,11})\.0\.0\.0")


def shards_there(place: Place, split: str, suffix: str = "") -> set[int]:
    """The numbers of the shards of a split whose file, or record for the suffix `RECORD`, is there, whatever it is.

    Raises OSError where the folder is a link or no folder; one that is not there has none.
    """
    try:
        return numbers(place.names(f"{split}/{VIDEO}"), suffix)
    except FileNotFoundError:
        return set()


def numbers(names: Iterable[str], suffix: str = "") -> set[int]:
    """The numbers of the shards whose files, or what the suffix names, are among the names in the folder of the pixels."""
    found = (_SHARD.fullmatch(name.removesuffix(suffix)) for name in names if name.endswith(suffix))
    return {int(match[1]) for match in found if match}


def pending(place: Place, plan: Plan) -> Sequence[Shard]:
    """The shards of a plan that are not finished. Those that are not there are not looked for one by one."""
    if not isinstance(plan.shards, Shards):
        return [s for s, done in zip(plan.shards, finished(place, plan, plan.shards), strict=True) if not done]
    left: list[Sequence[int]] = []
    there: dict[str, set[int]] = {}
    sizes: dict[str, int] = {}
    for split in plan.spec.splits:
        try:
            listed = {array: place.sizes(f"{split}/{array}") for array in plan.arrays}
        except OSError:  # nothing can be finished there; whoever writes it says why
            listed = {}
        there[split] = numbers(listed.get(VIDEO, ()), RECORD)
        sizes |= {f"{split}/{array}/{name}": size for array, found in listed.items() for name, size in found.items()}
    recorded: list[int] = []
    for with_record, run in plan.shards.runs(there):
        (recorded if with_record else left).append(run.numbers[0] if with_record else run.numbers)  # type: ignore[arg-type]
    found = replace(plan.shards, numbers=array("q", recorded))
    left.append(
        [number for number, done in zip(recorded, finished(place, plan, found, sizes), strict=True) if not done]
    )
    if sum(map(len, left)) == len(plan.shards):
        return plan.shards
    return replace(plan.shards, numbers=array("q", sorted(itertools.chain.from_iterable(left))))


def is_complete(where: Where, split: str | None = None) -> bool:
    """Whether every shard of the store at `where`, or of one split of it, is finished. Raises as `read_spec`."""
    place = place_of(where, argument="store")
    plan = store_plan(*read_spec(place))
    if split is not None:
        plan = plan.only(all_shards(plan.spec, plan.layout).of(split))
    return not pending(place, plan)


def recorded_layout(place: Place, spec: Spec) -> Layout | None:
    """How the store of a spec is laid out, as the completion records say of it; for one whose root metadata is damaged.

    None where there is no record, or one of another spec or layout.
    """
    layout = None
    for split in spec.splits:
        try:
            there = shards_there(place, split, RECORD)
        except OSError:
            return None
        for number in sorted(there):
            try:
                fields = json.loads(place.read(f"{Shard(split, number, 0, 0).record}", MOST_RECORD))
                found = Layout(**fields["layout"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # damaged
            if fields.get("fingerprint") != spec.fingerprint or layout not in (None, found):
                return None
            layout = found
    return layout


def read_spec(where: Where) -> tuple[Spec, Layout]:
    """The spec and layout of the store at `where`. Raises as `read_store`."""
    return read_store(where)[:2]


def read_store(where: Where) -> tuple[Spec, Layout, tuple[Spec, ...]]:
    """The spec and layout of the store at `where`; and of a set that is being grown the smaller ones whose files may still be there.

    Raises:
        ArgumentError: nothing is there, or it is a URL of no known kind.
        ConflictError: what is there is no store of ours, a damaged one, or one of a newer format version.
        MissingError: there is no permission to read it, or obstore is not installed.
        RunError: the object store failed.
    """
    place = place_of(where, argument="store")
    if isinstance(place, Folder) and not place.path.exists():
        raise ArgumentError("is not there", "store", place.path)
    damaged = f"{f'{place}/zarr.json'!r} is damaged"
    try:
        data = place.read("zarr.json")
        parse_json(data)["attributes"]
    except OSError as error:
        if isinstance(place, Objects) and isinstance(error, FileNotFoundError):
            if all(name.startswith(f"{CLAIMS}/") for name, _ in place.walk()):
                raise ArgumentError("is not there", "store", str(place)) from None
            with contextlib.suppress(FileNotFoundError):  # the root metadata comes first: another run made it since
                place.head("zarr.json")
                return read_store(place)
            alone = f"give the set a name of its own, such as {str(place).rstrip('/')}/NAME.zarr"
            raise ConflictError(
                f"{str(place)!r} is not a Zarr v3 store: it holds other objects, and no zarr.json; {alone}"
            ) from None
        what = f"is not a Zarr v3 store: zarr.json cannot be read ({error.strerror})"
        raise ConflictError(f"{str(place)!r} {what}") from None
    except VpngenError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConflictError(f"{damaged}, or not that of a Zarr v3 group") from None
    try:
        return _parse_root(data)
    except _Mismatch:
        raise ConflictError(f"{damaged}: its spec or layout does not match its fingerprint or checksum") from None
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ConflictError(f"{str(place)!r} is a Zarr store, but vpngen did not make it or it is damaged") from None
    except ValueError as error:  # ArgumentError, and what a damaged value makes Python say
        raise ConflictError(f"the spec of {str(place)!r} cannot be used: {error}") from None


class _Mismatch(Exception):
    """Root metadata whose fingerprint or checksum is not that of what it says."""


@functools.lru_cache(8)
def _parse_root(data: bytes) -> tuple[Spec, Layout, tuple[Spec, ...]]:
    """What the root metadata of a store says, see `read_store`.

    Raises:
        _Mismatch, ValueError, KeyError, TypeError, AttributeError, RecursionError: it is damaged, or no metadata of ours.
    """
    ours = parse_json(data)["attributes"]["vpngen"]
    spec, layout, grown = Spec.from_dict(ours["spec"]), Layout(**ours["layout"]), ours.get(GROWN, ())
    if (ours.get("fingerprint"), ours.get("checksum")) != (spec.fingerprint, _checksum(spec, layout, grown)):
        raise _Mismatch
    if layout.motion:
        spec.generator.check_moves()
    return spec, layout, tuple(replace(spec, instances=n, val_instances=val) for n, val in grown[-MOST_GROWN:])


def conflict(target: object, spec: Spec, layout: Layout, plan: Plan) -> ConflictError:
    """What is said where a target holds another set than that of a plan, or more of it."""
    there, wanted = ({**s.to_dict(), **asdict(how)} for s, how in ((spec, layout), (plan.spec, plan.layout)))
    lines = "\n  ".join(differences(there, wanted))
    what = f"{str(target)!r} holds another dataset; it was left untouched. The difference:\n  {lines}"
    more = layout == plan.layout and plan.spec.begins(spec)
    larger = "It has all that is asked for, and more: a set grows, but does not shrink. " if more else ""
    return ConflictError(f"{what}\n  {larger}Choose another place, or give --overwrite to replace it")


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two nested dictionaries disagree on, a line each."""
    lines = []
    for key in sorted(set(there) | set(wanted)):
        a, b = there.get(key), wanted.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            a, b = (t if len(t) <= 100 else f"{t[:80]} ... ({len(t)} characters)" for t in map(str, (a, b)))
            lines.append(f"{prefix}{key}: {a} there, {b} asked for")
    return lines

"""The formula codec: a chunk is the parameters of one video. Decoding renders it, a partial read only its window.

An encoded chunk is HEADER (magic, format version, bytes of the parameters), the parameters as the generator's `params_dtype` lays it out,
little-endian, and the crc32c of both. The checksum is part of the chunk because zarr decodes in part only where no
bytes-to-bytes codec follows.

Pixels that zarr asks for are host memory, and readers fork and start threads, so they are rendered by the numba backend,
one thread a chunk, whatever the machine has besides.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import numpy as np
import numpy.typing as npt
from crc32c import crc32c as crc32c_of
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin, ArrayBytesCodecPartialEncodeMixin
from zarr.registry import register_codec

from vpngen import backends
from vpngen.checks import MAX_SIDE, is_integer
from vpngen.errors import ArgumentError, RunError
from vpngen.generators import GENERATORS, Params
from vpngen.rendering import paint
from vpngen.spec import FORMAT_VERSION, check_version

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

NAME: Final = "vpngen.formula"
MAGIC: Final = b"vpng"
HEADER: Final = struct.Struct("<4sHH")
CRC_BYTES: Final = 4
BACKEND: Final = "cpu"
AT_ONCE: Final = 2**20
"""Pixels up to which zarr's own thread renders: a clip takes it less time than handing over to another thread."""


class DamageError(RunError, ValueError):
    """A chunk that is not what vpngen wrote; a ValueError as well, which is what zarr's own checksums raise."""


def crc32c(data: bytes | memoryview) -> bytes:
    """The checksum that the Zarr crc32c codec appends: 4 bytes, little-endian."""
    return int(crc32c_of(data)).to_bytes(CRC_BYTES, "little")


def params_bytes(generator: str) -> int:
    """The size of every chunk of a generator."""
    return HEADER.size + GENERATORS[generator].params_dtype.itemsize + CRC_BYTES


def encode_params(row: Params, version: int) -> tuple[bytes, bytes]:
    """The chunk of a video with parameters `row` (1,), as (payload, checksum)."""
    payload = HEADER.pack(MAGIC, version, row.dtype.itemsize) + row.tobytes()
    return payload, crc32c(payload)


def decode_params(chunk: bytes, generator: str, version: int) -> Params:
    """The parameters (1,) in a chunk, safe to hand to a kernel.

    Raises:
        ArgumentError: a newer format version.
        DamageError: anything else that is not a chunk of this generator and version.
    """
    kind = GENERATORS[generator]
    dtype, payload = kind.params_dtype, chunk[:-CRC_BYTES]
    expected, header = HEADER.pack(MAGIC, version, dtype.itemsize), payload[: HEADER.size]
    if crc32c(payload) != chunk[-CRC_BYTES:]:
        what = "its checksum does not match"
    elif header != expected:
        if header.startswith(MAGIC) and len(header) == HEADER.size:
            check_version(HEADER.unpack(header)[1])
        what = f"it begins with {header!r} in place of {expected!r}"
    elif len(chunk) != params_bytes(generator):
        what = f"it has {len(chunk)} bytes in place of {params_bytes(generator)}"
    else:
        # In memory of its own: aligned and writeable, as kernels are compiled for.
        row = np.frombuffer(bytearray(payload[HEADER.size :]), dtype)
        try:
            kind.check_params(row)
            return row
        except ArgumentError as error:
            what = str(error)
    raise DamageError(f"a formula chunk is damaged: {what}; `vpngen verify STORE --repair` repairs its video")


def _part(selection: Any, size: int, steps: bool) -> tuple[int, int, int, Any]:
    """The part of an axis of `size` that covers a selection; only with `steps` may it leave out what lies between.

    It has its first place, its step and its length, and the selection from among its places.
    """
    if isinstance(selection, slice):
        places = range(*selection.indices(size))
        if not places or places.step == 1 or (steps and places.step > 0):
            return (places.start, places.step, len(places), slice(None))
        first, last = min(places[0], places[-1]), max(places[0], places[-1])
        return (first, 1, last - first + 1, slice(None, None, places.step))
    rest: Any = 0
    if is_integer(selection):
        first = last = int(selection)
    else:
        chosen = np.asarray(selection)
        if chosen.dtype == bool:
            (chosen,) = chosen.nonzero()
        if not chosen.size:
            return (0, 1, 0, chosen)
        first, last = int(chosen.min()), int(chosen.max())
        rest = chosen - first
    if not 0 <= first <= last < size:
        raise IndexError(f"index {first if first < 0 else last} is outside an axis of {size}")
    return (first, 1, last - first + 1, rest)


def cut(selection: Any, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int32], tuple[int, ...], tuple[Any, ...]]:
    """The smallest window that covers a selection, as zarr makes them, from a video of `shape` (1, T, Y, X).

    Gives the packed window (1, 5), its extent (n, t, y, x), and the selection from it.

    Frames that a slice steps over are left out. Rows and columns between the chosen ones are not, nor is what lies
    between the places that arrays of integers or booleans name.

    Raises:
        IndexError: it names a place outside the video.
    """
    axes = selection if isinstance(selection, tuple) else (selection,)
    axes = (*axes, *[slice(None)] * (len(shape) - len(axes)))
    parts = [_part(s, size, steps=axis == 1) for axis, (s, size) in enumerate(zip(axes, shape, strict=True))]
    firsts, steps, lengths, rests = zip(*parts, strict=True)
    return np.array([[firsts[1], steps[1], firsts[2], firsts[3], 0]], np.int32), lengths, rests


@dataclass(frozen=True)
class FormulaCodec(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin, ArrayBytesCodecPartialEncodeMixin):
    """Zarr v3 array-to-bytes codec `vpngen.formula`, for uint8 chunks (1, T, Y, X) of one video each.

    Attributes:
        generator: the name of the generator whose rows the chunks hold.
        format_version: of the byte contract, the same in every chunk.

    Raises:
        ArgumentError: a generator or format version that this vpngen does not know.
    """

    is_fixed_size = True

    generator: str
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_version(self.format_version)
        if not isinstance(self.generator, str) or self.generator not in GENERATORS:
            must = f"of the codec {NAME} must be one of {', '.join(GENERATORS)}, newer ones after: pip install --upgrade vpngen"
            raise ArgumentError(must, "generator", self.generator)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ArgumentError where `data` is not the JSON of this codec."""
        fields = data.get("configuration")
        if isinstance(fields, Mapping) and "format_version" in fields:  # before the others: a newer one may have more
            check_version(fields["format_version"])
        if not isinstance(fields, Mapping) or set(fields) != {"generator", "format_version"}:
            raise ArgumentError(f"the codec {NAME} has `generator` and `format_version`, not {fields!r}")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """What stands in the metadata of an array."""
        return {"name": NAME, "configuration": asdict(self)}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Bytes of a chunk, whatever it decodes to."""
        return params_bytes(self.generator)

    async def _decode_partial_single(self, byte_getter: ByteGetter, selection: Any, chunk_spec: ArraySpec) -> NDBuffer:
        stored = await byte_getter.get(prototype=chunk_spec.prototype)
        if stored is None:
            raise DamageError("a formula chunk is missing; `vpngen verify STORE --repair` repairs its video")
        return await self._render(stored, selection, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await self._render(chunk_data, (), chunk_spec)

    async def _render(self, stored: Buffer, selection: Any, chunk_spec: ArraySpec) -> NDBuffer:
        shape, dtype = chunk_spec.shape, chunk_spec.dtype.to_native_dtype()
        # Asked when a chunk is read: before, zarr shows codecs other shapes too.
        if dtype != np.uint8 or len(shape) != 4 or shape[0] != 1 or not all(1 <= n <= MAX_SIDE for n in shape):
            must = f"is one video, uint8 (1, T, Y, X) with sides from 1 to {MAX_SIDE}, not {dtype} {shape}"
            raise ArgumentError(f"a chunk of the codec {NAME} {must}")
        row = decode_params(stored.to_bytes(), self.generator, self.format_version)
        window, extent, rest = cut(selection, shape)
        pixels = np.empty(extent, np.uint8)
        backend = backends.load(BACKEND)
        if pixels.size > AT_ONCE:
            await asyncio.to_thread(paint, backend, self.generator, row, window, pixels, 1)
        elif pixels.size:
            paint(backend, self.generator, row, window, pixels, 1)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels[rest])

    async def _encode_single(self, *_: Any, **__: Any) -> NoReturn:
        remedy = "with xarray by dataset.drop_encoding().to_zarr(path), with zarr by any other codec"
        makers = "vpngen.write(spec, path, codec='formula') and `vpngen render --codec formula`"
        what = f"pixels cannot be written with the codec {NAME}, whose chunks are parameters: store them {remedy}"
        raise ArgumentError(f"{what}. Parameters are written by {makers}")

    # Without this, zarr would take zeros that are written for the fill value, and remove the parameters.
    _encode_partial_single = _encode_single


# The entry point does this for an installed vpngen; one that is on the path alone has none.
register_codec(NAME, FormulaCodec)

"""What the chunks of a video are, one class for each kind: pixels, packed or not, or the parameters that make them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vpngen.backends import Backend
from vpngen.generators import Params, Pixels
from vpngen.rendering import completed, videos
from vpngen.store.formula import decode_params, encode_params, params_bytes
from vpngen.store.layout import Plan
from vpngen.store.packing import CRC_BYTES, INDEX_BYTES, Chunk, decode_chunk, encode_video

TOGETHER: Final = 256
"""Videos whose parameters are drawn at a time: arithmetic on arrays, where one alone costs hundreds of times its share."""


@dataclass(frozen=True)
class Encoding(ABC):
    """How the videos of a plan become chunks, and chunks what they hold.

    What they hold, the content of a video, is its pixels (T, Y, X), or its parameters (1,).

    Attributes:
        plan: whose videos.
        most_bytes: bytes that a video takes of a shard at most, with its checksums and its part of the index.
        exact: whether every video takes that much.
        together: how many contents are made at a time.
    """

    plan: Plan
    most_bytes: int
    exact: bool = True
    together: int = 1

    @abstractmethod
    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Any]:
        """The content of videos, one after the other; each is valid until the next is asked for."""

    @abstractmethod
    def encode(self, content: Any) -> list[Chunk]:
        """The chunks of a video."""

    @abstractmethod
    def decode(self, chunks: list[bytes]) -> Any:
        """The content of a video, from its stored chunks. Raises ValueError where one is damaged."""

    @abstractmethod
    def agree(self, stored: Any, content: Any) -> bool:
        """Whether what `decode` found is the content that belongs there."""


class PixelEncoding(Encoding):
    """Codecs `none` and `zstd`: chunks of frames."""

    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Pixels]:
        """See `Encoding.contents`."""
        spec = self.plan.spec
        rows = completed(spec, spec.params(np.array(indices), split), renderer, threads)
        return videos(renderer, spec.generator.name, rows, spec.shape, threads)

    def encode(self, content: Pixels) -> list[Chunk]:
        """See `Encoding.encode`."""
        return encode_video(content, self.plan.layout.codec, self.plan.layout.chunk_frames)

    def decode(self, chunks: list[bytes]) -> list[Pixels]:
        """See `Encoding.decode`; chunk by chunk, flat, with the padding of the last one."""
        return [decode_chunk(chunk, self.plan.layout.codec, self.plan.chunk_bytes) for chunk in chunks]

    def agree(self, stored: list[Pixels], content: Pixels) -> bool:
        """See `Encoding.agree`."""
        flat = np.concatenate(stored)
        return np.array_equal(flat[: content.size], content.ravel()) and not flat[content.size :].any()


class ParamsEncoding(Encoding):
    """Codec `formula`: one chunk a video. Nothing is rendered, unless the parameters depend on the extremes of the video."""

    def contents(self, split: str, indices: Sequence[int], renderer: Backend, threads: int = 1) -> Iterator[Params]:
        """See `Encoding.contents`."""
        for first in range(0, len(indices), self.together):
            some = np.array(indices[first : first + self.together])
            rows = completed(self.plan.spec, self.plan.spec.params(some, split), renderer, threads)
            for i in range(len(rows)):
                yield rows[i : i + 1]

    def encode(self, content: Params) -> list[Chunk]:
        """See `Encoding.encode`."""
        return [encode_params(content, self.plan.spec.format_version)]

    def decode(self, chunks: list[bytes]) -> Params:
        """See `Encoding.decode`."""
        (chunk,) = chunks
        return decode_params(chunk, self.plan.spec.generator.name, self.plan.spec.format_version)

    def agree(self, stored: Params, content: Params) -> bool:
        """See `Encoding.agree`."""
        return stored.tobytes() == content.tobytes()


def encoding(plan: Plan) -> Encoding:
    """How the videos of a plan are stored."""
    generator, codec = plan.spec.generator, plan.layout.codec
    if codec == "formula":
        together = 1 if generator.needs_extremes else TOGETHER
        return ParamsEncoding(plan, params_bytes(generator.name) + INDEX_BYTES, together=together)
    most_bytes = plan.chunks_a_video * (plan.chunk_bytes + CRC_BYTES + INDEX_BYTES)
    return PixelEncoding(plan, most_bytes, exact=codec == "none")

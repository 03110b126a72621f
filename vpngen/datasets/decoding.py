"""Frames of video files, by their numbers, and of folders of images.

The frames of a file are those that decoding it from its beginning gives, in the order they are shown, numbered from 0. Headers
are not believed about how many there are, nor about when they are shown: a pass over the packets of the file says it, without
decoding them, and is kept. A clip is then read from the last keyframe before it. Where the packets do not tell (several frames
in one, none in another, time stamps made up by the container), or a keyframe needs what came before it (a palette), the file is decoded once to count, and always from its
beginning. Either way what is read depends on the file alone; only where a file is damaged, what a decoder puts in the place of
what is missing may depend on where decoding began.

PyAV decodes, in one thread: the workers of a loader are the parallelism.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import math
import os
import struct
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from vpngen import files
from vpngen.datasets.base import IMAGE, Video, content
from vpngen.errors import MissingError, RunError

Frames = npt.NDArray[np.uint8]
"""RGB: (H, W, 3) of one frame, (T, H, W, 3) of several."""

ONE_EACH: Final = frozenset({
    "av1", "ffv1", "ffvhuff", "flv", "flv1", "h263", "h264", "hevc", "huffyuv", "libdav1d", "mjpeg", "mpeg1video",
    "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "png", "prores", "rawvideo", "utvideo", "vp8", "vp9",
    "wmv1", "wmv2",
})  # fmt: skip
"""Decoders known to give one frame for each packet that is shown; of other codecs the frames are counted by decoding."""
HEAD: Final = 8
"""Frames that are decoded to see whether the time stamps of the packets are those of the frames."""
NOTHING_CODED: Final = 16
"""Bytes. A packet of MPEG-4 below that may be one that stands for no frame."""
KEPT_BYTES: Final = 2**26
"""Of what is known about files, in each process."""
MOST_PIXELS: Final = 2**26
"""Of a frame, which takes three bytes for each: 8192 x 8192."""
MOST_IMAGES: Final = 2**18
"""Of a folder: three hours."""
MOST_MISSING: Final = 1000
"""Images at the beginning of a segment that may be missing."""
CONTAINERS: Final = (
    "asf,avi,flv,gif,h264,hevc,ivf,m4v,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo,ogg,mxf,yuv4mpegpipe,dv,rm,nut,wtv"
)
"""What is taken for a video, by its content. Playlists are not: they open other files, or the network."""
BOXES: Final = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"dinf", b"mvex", b"udta")
)
"""Of an MP4, those that hold boxes."""
MORE_THAN_IT_HOLDS: Final = "it lists more frames than a file of its size can hold"


class UnreadableError(RunError):
    """A video of which nothing, or not what was asked for, can be read."""


class Names(NamedTuple):
    """What the images of a folder are called: `image_00001.jpg`, ..., or `000001.PNG`, ..."""

    begin: str = "image_"
    digits: int = 5
    suffix: str = ".jpg"

    def __call__(self, number: int) -> str:
        """The name of one."""
        return f"{self.begin}{number:0{self.digits}}{self.suffix}"


NAMED: Final = Names()


@dataclass(frozen=True)
class VideoInfo:
    """What a video is made of: frames of a file or a folder.

    Attributes:
        path: the file, or a folder of images.
        first: the number of the first frame in the file; of a folder the number in the name of its first image.
        frames: how many there are.
        height: of the frames, in pixels.
        width: likewise.
        names: what the images of a folder are called.
    """

    path: Path
    first: int
    frames: int
    height: int
    width: int
    names: Names = NAMED


def probe(video: Video) -> VideoInfo:
    """The frames that a video has; of a segment, those that are on screen within it.

    Raises:
        UnreadableError: it is not there, is not a video, or holds nothing that can be decoded; a segment that is empty.
        MissingError: PyAV is not installed.
    """
    path = video.path
    if path.is_dir():
        names, numbers = NAMED, list[int]()
        if video.frames is None or not (path / names(video.frames[0])).exists():
            names, numbers = _images(path)
        first, last = video.frames or (min(numbers, default=0), max(numbers, default=-1) + 1)
        if last <= first:
            wanted = "image_00001.jpg, ..., or other names that end in numbers, .jpg or .png"
            raise UnreadableError(f"{path} holds no images to take: {wanted}; it has {content(path)}")
        if last - first > MOST_IMAGES:
            raise UnreadableError(f"{path} is said to hold {last - first:,} images; at most {MOST_IMAGES:,} are taken")
        for number in range(first, min(last, first + MOST_MISSING)):
            with contextlib.suppress(UnreadableError):
                height, width, _ = _image(path / names(number)).shape
                return VideoInfo(path, first, last - first, height, width, names)
        raise UnreadableError(
            f"{path}: none of the images {first} to {min(last, first + MOST_MISSING) - 1} can be read"
        )
    index = _index(path)
    first, last = (0, len(index.times)) if video.segment is None else _span(path, index.times, video.segment)
    return VideoInfo(path, first, last - first, *index.size)


def frames(info: VideoInfo, wanted: Collection[int], notes: list[str]) -> Iterator[tuple[int, Frames]]:
    """Frames of a video, ascending, each with its number; those that are damaged are left out.

    Args:
        info: of `probe`.
        wanted: their numbers within the video, one at least, from 0 to below `info.frames`.
        notes: gets a line for each thing found damaged in passing.

    Yields:
        number, and uint8 (H, W, 3) of the size that `info` has.

    Raises:
        UnreadableError: the file is not there any more.
    """
    if info.path.is_dir():
        for number in sorted(set(wanted)):
            try:
                yield number, _image(info.path / info.names(info.first + number), (info.height, info.width))
            except UnreadableError as error:
                notes.append(str(error))
        return
    index, convert, found = _index(info.path), _converter(), False
    # A time stamp identifies a frame; where it does not, the number of frames before it does.
    stamps, numbers = index.stamps, {info.first + number for number in wanted}
    marks = {number if stamps is None else int(stamps[number]): number for number in numbers}
    start, last = min(marks), max(marks)
    # From a keyframe to the first frame and, if that leads astray, from the beginning.
    at = bisect.bisect_right(index.keys, start, key=lambda key: key[0])
    for key in [*index.keys[max(at - 1, 1) : at], None]:
        heard, before = list[str](), -1
        with contextlib.suppress(_AstrayError):
            for count, frame in enumerate(_decoded(info.path, key, heard, None if stamps is None else start)):
                mark = count if stamps is None else frame.pts
                if (number := marks.get(mark, -1)) > before:
                    found, before = True, number
                    yield number - info.first, convert(frame, index.size, index.turn)
                if mark is not None and mark >= last:
                    break
        if found or key is None:
            notes.extend(heard)
            return


def stream(video: Video, notes: list[str]) -> Iterator[Frames]:
    """The frames of a video from its beginning, decoded once, one in memory at a time: uint8 (H, W, 3) of one size.

    Args:
        video: a file, a segment of it, or a folder of images.
        notes: gets a line for each thing found damaged, and where the video is shorter than it says.

    Raises:
        UnreadableError, MissingError: as of `probe`.
    """
    if video.segment is None and not video.path.is_dir():
        seen, convert = None, _converter()
        for frame in _decoded(video.path, None, notes):
            seen = seen or _upright(frame)
            yield convert(frame, *seen)
        if seen is None:
            raise UnreadableError(f"{video.path}: nothing in it can be decoded")
        return
    info, found = probe(video), 0
    for _, frame in frames(info, range(info.frames), notes):
        found += 1
        yield frame
    if not found:
        raise UnreadableError(f"{video.path}: none of its {info.frames} frames can be decoded")
    if found < info.frames:
        notes.append(f"{info.frames - found} of {info.frames} frames cannot be decoded")


def _images(folder: Path) -> tuple[Names, list[int]]:
    """What the images of a folder are called, and their numbers; `image_` and `img_` go before others. Raises UnreadableError."""
    try:
        with files.enough_files():
            listed = os.listdir(folder)
    except OSError as error:
        raise UnreadableError(f"{folder} cannot be read: {error.strerror}") from None
    kinds: dict[tuple[str, str], list[str]] = {}
    for found in filter(None, map(IMAGE.fullmatch, listed)):
        kinds.setdefault((found[1], found[3]), []).append(found[2])
    for begin in ("image_", "img_"):
        kinds = {kind: of for kind, of in kinds.items() if kind[0] == begin} or kinds
    if not kinds:
        return NAMED, []
    ((begin, suffix), texts), *others = kinds.items()
    names, numbers = Names(begin, min(map(len, texts)), suffix), [int(text) for text in texts]
    if others or sorted(f"{n:0{names.digits}}" for n in numbers) != sorted(texts):
        raise UnreadableError(
            f"{folder} holds images of several names, {content(folder)}; leave one series, of one suffix"
        )
    return names, numbers


def _image(path: Path, size: tuple[int, int] | None = None) -> Frames:
    try:
        with open(files.open_regular(path), "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("JPEG", "PNG")) as image:
                if math.prod(image.size) > MOST_PIXELS:
                    raise ValueError(f"{image.size} pixels are more than the {MOST_PIXELS:,} that are taken")
                colour = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"{path}: {error}") from None
    if size is not None and colour.size != (size[1], size[0]):
        colour = colour.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(colour)


class _Turn(NamedTuple):
    """How a frame is turned to be seen, in this order: one of eight orientations."""

    transposed: bool = False
    mirrored: bool = False  # left to right
    flipped: bool = False  # top to bottom


class _Index(NamedTuple):
    """What a pass over a file found."""

    times: npt.NDArray[np.float64]  # of each frame, in seconds from the first (N,)
    size: tuple[int, int]  # (height, width) of the first frame as it is to be seen
    turn: _Turn  # of the first frame
    stamps: npt.NDArray[np.int64] | None  # of each frame (N,), ascending; None where they do not tell the frames apart
    keys: tuple[tuple[int, int], ...]  # (stamp, decoding stamp) from which decoding can begin, ascending


_INDEXES: dict[tuple[str, int, int], _Index] = {}
"""(path, size, time of change) -> the index, the oldest first."""


def _index(path: Path) -> _Index:
    """The index of a file, made once in each process."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _INDEXES:
        _INDEXES[key] = _indexed(path)
        while len(_INDEXES) > 1 and sum(16 * len(i.times) + 100 * len(i.keys) for i in _INDEXES.values()) > KEPT_BYTES:
            del _INDEXES[next(iter(_INDEXES))]
    return _INDEXES[key]


def _indexed(path: Path) -> _Index:
    left = 2 * path.stat().st_size + 2**16  # what its packets may take: one that is listed often is read as often
    with _opened(path) as (container, video):
        shown, keys, head = (
            list[int | None](),
            list[tuple[int, int]](),
            list[tuple[int | None, tuple[int, int], _Turn]](),
        )
        highest: int | None = None
        coded, joined, alone = True, False, video.codec_context.pix_fmt != "pal8"
        codec = video.codec_context.name
        with contextlib.suppress(*_av()[1]):
            for packet in container.demux(video):
                if (left := left - packet.size - 1) < 0:
                    raise UnreadableError(f"{path} cannot be read: {MORE_THAN_IT_HOLDS}")
                if len(head) < HEAD:
                    with contextlib.suppress(*_av()[1]):
                        head += [(f.pts, *_upright(f)) for f in packet.decode()]
                if not packet.size:
                    continue
                # A palette or header that is sent once is lost to who begins after it.
                alone = alone and not any(map(packet.has_sidedata, ("palette", "new_extradata")))
                # VP8 marks frames that only serve to predict others
                visible = not packet.is_discard and (codec != "vp8" or bytes(packet)[0] & 0x10 != 0)
                stamp = packet.pts
                coded = coded and (codec != "mpeg4" or packet.size >= NOTHING_CODED)
                if visible:
                    shown.append(stamp)
                if stamp is not None:
                    if packet.is_keyframe and visible:
                        # A keyframe is shown after all that is decoded before it, unless recordings were joined there
                        # and the stamps begin anew, which would sort the frames into another order.
                        joined = joined or (highest is not None and stamp <= highest)
                        keys.append((stamp, stamp if packet.dts is None else packet.dts))
                    highest = stamp if highest is None else max(highest, stamp)
        # AVI has no time stamps, and Matroska none for the MPEG-4 that came from there: with B-frames they are guesses.
        guessed = video.codec_context.has_b_frames and (codec == "mpeg4" or "avi" in container.format.name.split(","))
        unit, rate = float(video.time_base or 1), video.average_rate
    stamps = sorted(stamp for stamp in shown if stamp is not None)
    apart = len(stamps) == len(shown) == len(set(stamps))
    first = [stamp for stamp, *_ in head[:HEAD]]
    if (
        first
        and codec in ONE_EACH
        and coded
        and apart
        and alone
        and not (guessed or joined)
        and first == stamps[: len(first)]
    ):
        ascending = np.array(stamps, np.int64)
        return _Index((ascending - ascending[0]) * unit, head[0][1], head[0][2], ascending, tuple(keys))
    seen, times = None, []
    for frame in _decoded(path, None, []):
        seen = seen or _upright(frame)
        times.append(frame.time)
    if seen is None:
        raise UnreadableError(f"{path}: nothing in it can be decoded")
    if any(t is None for t in times) or (np.diff(np.array(times, float)) <= 0).any():
        times = [k / float(rate or 25) for k in range(len(times))]
    return _Index(np.array(times) - times[0], *seen, None, ())


def _span(path: Path, times: npt.NDArray[np.float64], segment: tuple[float, float]) -> tuple[int, int]:
    """The frames [first, last) that are on screen at some time of a segment in seconds."""
    start, end = segment
    hair = 1e-6  # seconds: stamps and annotations are rounded differently
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if not end > start or start > times[-1] + usual or end <= 0:
        raise UnreadableError(f"{path}: the segment {start} to {end} of {times[-1] + usual:.2f} seconds holds no frame")
    first = max(int(np.searchsorted(times, start + hair, side="right")) - 1, 0)
    return first, max(int(np.searchsorted(times, end - hair, side="left")), first + 1)


class _AstrayError(Exception):
    """Decoding did not begin at the keyframe it should."""


@functools.cache
def _av() -> tuple[ModuleType, tuple[type[Exception], ...]]:
    """PyAV, and what it raises about a file."""
    try:
        import av
    except ImportError:
        raise MissingError("video files are decoded by PyAV, which is not here: pip install 'vpngen[train]'") from None
    return av, (av.FFmpegError, ValueError, OSError)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container of a file and its video stream. Raises UnreadableError."""
    av, errors = _av()
    try:
        # Titles of old files are in any encoding, and do not matter here. PyAV takes them all from 19 on.
        with open(files.open_regular(path), "rb") as file:
            if _claimed(file) > os.fstat(file.fileno()).st_size:
                raise ValueError(MORE_THAN_IT_HOLDS)
        titles = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
        local = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "max_pixels": str(MOST_PIXELS)}
        with files.enough_files():
            container = av.open(f"file:{path}", options=local, **titles)
    except errors as error:
        playlist = isinstance(error, av.ArgumentError)
        why = "not of a kind that holds videos" if playlist else getattr(error, "strerror", None) or error
        raise UnreadableError(f"{path} cannot be read: {why}") from None
    with container:
        covers = av.stream.Disposition.attached_pic
        videos = [s for s in container.streams.video if not s.disposition & covers]
        if not videos or videos[0].codec_context is None:
            raise UnreadableError(f"{path} has no video that could be decoded")
        videos[0].codec_context.thread_count = 1
        videos[0].codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        yield container, videos[0]


def _claimed(file: BinaryIO) -> int:
    """The samples that the tables of an MP4 speak of, for which FFmpeg takes memory before it looks for them; 0 of other files."""
    at, ends, claimed = 0, [os.fstat(file.fileno()).st_size], 0
    if file.read(8)[4:] not in (b"ftyp", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"styp", b"sidx"):
        return 0
    while ends:
        if at + 16 > ends[-1]:
            at = ends.pop()
            continue
        file.seek(at)
        size, kind, long = struct.unpack(">I4sQ", file.read(16))
        head = 16 if size == 1 else 8
        size = long if size == 1 else size or ends[-1] - at
        end = min(at + max(size, head), ends[-1])
        if kind in (b"stsz", b"trun"):
            file.seek(at + head)
            _, one, count = struct.unpack(">III", file.read(12).ljust(12, b"\0"))
            claimed += one if kind == b"trun" else count * bool(one)  # else each has its size in the table
        if kind in BOXES:
            ends.append(end)
        at = at + head if kind in BOXES else end
    return claimed


def _decoded(path: Path, key: tuple[int, int] | None, notes: list[str], wanted: int | None = None) -> Iterator[Any]:
    """The frames of a file as PyAV has them, as far as they can be decoded, from a keyframe or, with None, from its beginning.

    Of those before `wanted`, the stamp of the first that is wanted, the ones that none is predicted from may be left out, which
    can be half of them. Raises UnreadableError, and _AstrayError where decoding did not begin with `key`.
    """
    _, errors = _av()
    with _opened(path) as (container, video):
        packets = container.demux(video) if key is None else _sought(container, video, key)
        made, seen, skips, when = 0, 0, False, "the beginning"
        while True:
            try:
                packet = next(packets, None)  # that of a file that ends in an error is None after the error
                if packet is None:
                    break
                seen += packet.size > 0
                if wanted is not None and not packet.is_keyframe:
                    skip = packet.pts is not None and packet.pts < wanted and packet.size > 0
                    if skip != skips:
                        skips = skip
                        video.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
                found = packet.decode()
            except errors as error:
                notes.append(f"after {when}: {getattr(error, 'strerror', None) or error}")
                continue
            for frame in found:
                if key is not None:
                    if frame.pts is None or frame.pts < key[0]:
                        continue  # shown before the keyframe, and predicted from what is not here
                    if not made and not (frame.pts == key[0] and frame.key_frame):
                        raise _AstrayError
                made += 1
                when = f"frame {made}" if frame.time is None else f"{frame.time:.2f} seconds"
                if frame.is_corrupt:
                    notes.append(f"the picture at {when} is damaged")
                yield frame
        listed = len(video.index_entries) if "mp4" in container.format.name.split(",") else 0
        if key is None and seen < listed:
            notes.append(f"the file ends after {seen} of {listed} frames")


def _sought(container: Any, video: Any, key: tuple[int, int]) -> Iterator[Any]:
    """The packets from a keyframe on. Some containers seek by one stamp, some by the other, and some only roughly."""
    stamp, decoding = key
    for target in (stamp, decoding, decoding - int(2 / (video.time_base or 1))):
        with contextlib.suppress(*_av()[1]):
            container.seek(target, stream=video)
            packets = container.demux(video)
            for packet in packets:
                if packet.pts == stamp:
                    return itertools.chain([packet], packets)
                if packet.pts is None or packet.pts > stamp:
                    break
    raise _AstrayError


def _turn(frame: Any, usual: _Turn) -> _Turn:
    """How a frame says, beside its pixels, that it is turned to be seen; else `usual`.

    Angles are taken to the next quarter.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return usual
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    # Column x and row y are seen in column a x + c y and row b x + d y.
    return _Turn(True, c < 0, b < 0) if abs(b) > abs(a) else _Turn(False, a < 0, d < 0)


def _upright(frame: Any) -> tuple[tuple[int, int], _Turn]:
    """(height, width) of the first frame of a file as it is to be seen, and how it is turned for that."""
    size, turn = (frame.height, frame.width), _turn(frame, _Turn())
    return size[::-1] if turn.transposed else size, turn


def _converter() -> Callable[[Any, tuple[int, int], _Turn], Frames]:
    """A function of a frame, the size (H, W) to see it in, and the turn of the first frame, that gives RGB (H, W, 3).

    H.264 may say once, at the first frame, how all are turned.
    """
    reformatter = _av()[0].video.reformatter.VideoReformatter()  # keeps its tables from frame to frame

    def convert(frame: Any, size: tuple[int, int], usual: _Turn) -> Frames:
        turn = _turn(frame, usual)
        height, width = size[::-1] if turn.transposed else size
        other = {} if (height, width) == (frame.height, frame.width) else {"height": height, "width": width}
        pixels: Frames = reformatter.reformat(frame, format="rgb24", threads=1, **other).to_ndarray()
        if turn.transposed:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if turn.flipped else 1, :: -1 if turn.mirrored else 1])

    return convert

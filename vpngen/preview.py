"""Videos as pictures for people: a labelled grid that plays, a contact sheet, and figure 2 of the paper, the category plane.

A picture is uint8 (T, Y, X) like a video; a still has T = 1. `grid`, `contact_sheet` and `mosaic` lay out, `save` writes,
`preview` and `preview_mosaic` do both. Videos are shown pixel for pixel, except in the reduced tiles of the mosaic.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.generators import Perlin, Pixels
from vpngen.rendering import Window
from vpngen.spec import Spec

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    # Full range in, limited range out, as players expect of yuv420p; `faststart` lets a browser play while it loads.
    ".mp4": ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"),
    # Level 3 cuts the picture into slices: at a few pixels a side ffmpeg refuses, or up to 7.0 writes zeros and says
    # nothing. The larger context model saves 30 % on this noise.
    ".mkv": ("-c:v", "ffv1", "-level", "1", "-g", "1", "-coder", "1", "-context", "1", "-pix_fmt", "gray",
             "-f", "matroska"),
    ".gif": ("-c:v", "gif", "-pix_fmt", "gray", "-loop", "0", "-f", "gif"),
    ".png": (),
}  # fmt: skip
"""Suffix -> how ffmpeg writes it. mp4 is H.264, the smallest and slightly lossy; mkv (FFV1), png and gif (256 greys,
the largest) are lossless."""
MOST_FPS: Final = {".gif": 50.0}
"""Players slow a GIF down whose delay is below two hundredths of a second."""

STRIP_FRAMES: Final = 8
MOSAIC_FRAMES: Final = 64
PAPER, INK, FAINT = 246, 32, 112
MARGIN, GUTTER, TEXT, SMALL, LEAD = 20, 4, 17, 13, 6

Caption = tuple[str, str]


class Source(Protocol):
    """Where pixels come from: for a spec `functools.partial(vpngen.render, spec)`, for a store a function that reads it."""

    def __call__(self, index: int, window: Window, /, *, split: str) -> Pixels:
        """The window of video `index` of `split`: uint8 (T, Y, X)."""


# --- drawing


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _blank(height: int, width: int) -> Image.Image:
    return Image.new("L", (width, height), PAPER)


def _write(at: Image.Image, x: float, y: float, text: str, size: int, shade: int = INK, anchor: str = "la") -> None:
    ImageDraw.Draw(at).text((x, y), text, fill=shade, font=_font(size), anchor=anchor)


def _played(chrome: Image.Image, frames: int) -> Pixels:
    """The still surroundings, repeated (T, Y, X) and ready to be filled with videos."""
    return np.repeat(np.asarray(chrome, np.uint8)[None], frames, axis=0)


# --- layout


def caption(spec: Spec, index: int, split: str = "train") -> Caption:
    """Which video it is, and which category.

    >>> import vpngen
    >>> caption(vpngen.perlin(categories=16, instances=1), 5)
    ('train 5', 'category 5:  W=6  H=6  D=8')

    Raises:
        ArgumentError: no such split or video.
    """
    category_id = int(spec.indices(index, split)) % spec.n_categories
    meaning = str(spec.category(category_id))
    if isinstance(spec.generator, Perlin):
        meaning = "  ".join(f"{name}={n}" for name, n in zip("WHD", spec.category(category_id), strict=True))
    return f"{split} {index}", f"category {category_id}:  {meaning}"


def _check_videos(videos: Sequence[Pixels], captions: Sequence[Caption]) -> tuple[int, int, int]:
    if not len(videos):
        raise ArgumentError("`videos` is empty; give at least one")
    if len(captions) != len(videos):
        raise ArgumentError(f"`captions` has {len(captions)} entries for {len(videos)} videos; give one each")
    shapes = {v.shape for v in videos}
    if len(shapes) > 1 or any(v.dtype != np.uint8 or v.ndim != 3 or not v.size for v in videos):
        raise ArgumentError(
            f"`videos` must be uint8 (T, Y, X) of one shape, not {', '.join(sorted({f'{v.dtype} {v.shape}' for v in videos}))}"
        )
    t, y, x = shapes.pop()
    return t, y, x


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"`{name}` (={value!r}) must be an integer of at least 1")
    return int(value)


def grid(videos: Sequence[Pixels], captions: Sequence[Caption], columns: int | None = None) -> Pixels:
    """Videos side by side, playing together, each below its caption: uint8 (T, Y, X).

    Args:
        videos: uint8 (T, Y, X) each, of one shape.
        captions: the two lines of each, as `caption` gives them.
        columns: videos in a row; None for about as many as rows.

    Raises:
        ArgumentError: no videos, not one caption each, different shapes, `columns` below 1.
    """
    frames, height, width = _check_videos(videos, captions)
    columns = math.ceil(math.sqrt(len(videos))) if columns is None else min(_positive("columns", columns), len(videos))
    rows = -(-len(videos) // columns)
    head = TEXT + SMALL + 2 * LEAD
    cell_width = max(width, *(max(_length(a, TEXT), _length(b, SMALL)) for a, b in captions)) + MARGIN
    cell_height = head + height + MARGIN
    chrome = _blank(MARGIN + rows * cell_height, MARGIN + columns * cell_width)
    corners = [
        (MARGIN + i // columns * cell_height, MARGIN + i % columns * cell_width) for i in range(len(videos))
    ]  # (y, x) of each cell
    for (y, x), (name, category) in zip(corners, captions, strict=True):
        _write(chrome, x, y, name, TEXT)
        _write(chrome, x, y + TEXT + LEAD, category, SMALL, FAINT)
    picture = _played(chrome, frames)
    for (y, x), video in zip(corners, videos, strict=True):
        picture[:, y + head : y + head + height, x : x + width] = video
    return picture


def contact_sheet(strips: Sequence[Pixels], captions: Sequence[Caption], numbers: Sequence[int]) -> Pixels:
    """A film strip for each video, below its caption and above the numbers of the frames: uint8 (1, Y, X).

    Args:
        strips: uint8 (T, Y, X) each, of one shape: the frames to show, from left to right.
        captions: the two parts of each, as `caption` gives them.
        numbers: the T numbers of the frames.

    Raises:
        ArgumentError: no videos, not one caption each, not one number for each frame, different shapes.
    """
    frames, height, width = _check_videos(strips, captions)
    if len(numbers) != frames:
        raise ArgumentError(f"`numbers` has {len(numbers)} entries for strips of {frames} frames; give one each")
    head = TEXT + LEAD
    pitch = max(width, *(_length(str(n), SMALL) for n in numbers)) + GUTTER
    strip_height = head + height + LEAD + SMALL + MARGIN
    gap = 2 * TEXT
    widest = max(_length(a, TEXT) + gap + _length(b, TEXT) for a, b in captions)
    chrome = _blank(MARGIN + len(strips) * strip_height, 2 * MARGIN + max(frames * pitch - GUTTER, widest))
    for i, (name, category) in enumerate(captions):
        y = MARGIN + i * strip_height
        _write(chrome, MARGIN, y, name, TEXT)
        _write(chrome, MARGIN + _length(name, TEXT) + gap, y, category, TEXT, FAINT)
        for k, number in enumerate(numbers):
            text = f"frame {number}" if k == 0 and width > 60 else str(number)
            _write(chrome, MARGIN + k * pitch, y + head + height + LEAD, text, SMALL, FAINT)
    picture = _played(chrome, 1)
    for i, strip in enumerate(strips):
        y = MARGIN + i * strip_height + head
        for k, frame in enumerate(strip):
            x = MARGIN + k * pitch
            picture[0, y : y + height, x : x + width] = frame
    return picture


def _reduced(video: Pixels, height: int, width: int) -> Pixels:
    """The mean over the area of each smaller pixel. Picking pixels would show fine noise as coarse noise."""
    if video.shape[1:] == (height, width):
        return video
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in video])


def _plane(spec: Spec, temporal: int | None) -> tuple[Perlin, int]:
    """The generator, and the D of the plane to show."""
    g = spec.generator
    if not isinstance(g, Perlin):
        raise ArgumentError(f"a mosaic shows the categories (W, H, D) of a perlin set; this one is {g.name!r}")
    if temporal is None:
        return g, sorted(g.temporal)[len(g.temporal) // 2]
    if temporal not in g.temporal:
        raise ArgumentError(f"`temporal` (={temporal!r}) must be one of the D of this set: {g.temporal}")
    return g, int(temporal)


def _axes(
    title: str, about: str, ws: Sequence[int], hs: Sequence[int], height: int, width: int
) -> tuple[Image.Image, list[int], list[int]]:
    """The surroundings of the category plane, and where its tiles of (height, width) go: y for each H, x for each W."""
    x_axis, y_axis = "W, lattice cells along x", "H, lattice cells along y"
    size = max(9, min(SMALL + 2, width // 4))
    about_y = MARGIN + TEXT + LEAD
    axis_y = about_y + SMALL + 2 * LEAD
    y0 = axis_y + SMALL + LEAD + size + LEAD
    x0 = MARGIN + SMALL + LEAD + max(_length(str(h), size) for h in hs) + LEAD
    ys = [y0 + j * (height + GUTTER // 2) for j in range(len(hs))]
    xs = [x0 + i * (width + GUTTER // 2) for i in range(len(ws))]
    bottom = max(ys[-1] + height, y0 + _length(y_axis, SMALL))
    texts = (MARGIN + _length(title, TEXT), MARGIN + _length(about, SMALL), x0 + _length(x_axis, SMALL))
    right = max(xs[-1] + width, *texts)
    chrome = _blank(bottom + MARGIN, right + MARGIN)
    _write(chrome, MARGIN, MARGIN, title, TEXT)
    _write(chrome, MARGIN, about_y, about, SMALL, FAINT)
    _write(chrome, x0, axis_y, x_axis, SMALL, FAINT)
    for w, x in zip(ws, xs, strict=True):
        _write(chrome, x + width / 2, y0 - LEAD, str(w), size, anchor="ms")
    for h, y in zip(hs, ys, strict=True):
        _write(chrome, x0 - LEAD, y + height / 2, str(h), size, anchor="rm")
    upright = _blank(SMALL + LEAD, _length(y_axis, SMALL))
    _write(upright, 0, 0, y_axis, SMALL, FAINT)
    chrome.paste(upright.rotate(90, expand=True), (MARGIN, y0))
    return chrome, ys, xs


def mosaic(
    spec: Spec,
    source: Source,
    *,
    frames: tuple[int, int] | None = None,
    split: str = "train",
    instance: int = 0,
    temporal: int | None = None,
    tile: int = 60,
    crop: bool = False,
) -> Pixels:
    """Figure 2 of the paper: a tile for each category, W growing to the right, H downwards as y does: uint8 (T, Y, X).

    A tile is the whole frame, reduced by averaging, so that as many lattice cells are seen as W and H say; cells of
    less than a pixel of the tile fade into grey. `crop` shows the first pixels unreduced, true to the finest noise.

    Args:
        spec: a perlin set.
        source: its pixels.
        frames: (start, stop); None for the first 64.
        split: `train` or `val`.
        instance: which instance of each category.
        temporal: the D of the categories shown; None for the middle one of the set.
        tile: pixels of the longer side of a tile; videos are never enlarged.
        crop: show `tile` pixels of the frame rather than all of it.

    Raises:
        ArgumentError: not a perlin set; a value that the set does not hold; `tile` below 1.
    """
    g, temporal = _plane(spec, temporal)
    count = spec.n_videos(split) // g.n_categories
    if isinstance(instance, bool) or not isinstance(instance, (int, np.integer)) or not 0 <= instance < count:
        raise ArgumentError(f"`instance` (={instance!r}) must be in [0, {count}), the instances of the {split} split")
    tile = _positive("tile", tile)
    t = _span(spec, frames if frames is not None else (0, min(MOSAIC_FRAMES, spec.shape[0])))

    _, full_height, full_width = spec.shape
    if crop:
        height, width = min(tile, full_height), min(tile, full_width)
        window = Window(t=t, y=(0, height), x=(0, width))
        about = f"the first {width} x {height} pixels of {full_width} x {full_height}"
    else:
        scale = min(1.0, tile / max(full_height, full_width))
        height, width = max(1, round(full_height * scale)), max(1, round(full_width * scale))
        window = Window(t=t)
        about = f"{full_width} x {full_height} pixels" + (f" averaged to {width} x {height}" if scale < 1 else "")
    shown = f"frame {t[0]}" if t[1] - t[0] == 1 else f"frames {t[0]} to {t[1] - 1}"
    ws, hs = sorted(g.divisions_x), sorted(g.divisions_y)
    chrome, ys, xs = _axes(
        f"{len(ws)} x {len(hs)} categories of Video Perlin Noise, D = {temporal}",
        f"{split} instance {instance}, {shown}, {about}",
        ws, hs, height, width,
    )  # fmt: skip
    picture = _played(chrome, t[1] - t[0])
    for w, x in zip(ws, xs, strict=True):
        for h, y in zip(hs, ys, strict=True):
            index = instance * g.n_categories + g.category_id((w, h, temporal))
            picture[:, y : y + height, x : x + width] = _reduced(source(index, window, split=split), height, width)
    return picture


# --- files


def check(path: str | os.PathLike[str], fps: float = 25) -> Path:
    """`path`, if a picture can be written there; worth calling before long rendering.

    Raises:
        ArgumentError: an unknown suffix, a folder that is missing or closed to writing, `fps` out of range.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ArgumentError(f"`path` (={str(path)!r}) must end in one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ArgumentError(
            f"`path` (={str(path)!r}) lies in a folder that does not exist; create {str(path.parent)!r}"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError(f"`path` (={str(path)!r}) cannot be written: it is a folder, or its folder is read-only")
    most = MOST_FPS.get(suffix, 1000.0)
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0.1 <= fps <= most:
        raise ArgumentError(f"`fps` (={fps!r}) must be from 0.1 to {most:g} in a {suffix} file")
    return path


def save(path: str | os.PathLike[str], picture: npt.ArrayLike, fps: float = 25) -> None:
    """Write uint8 (T, Y, X) in the format of the suffix, see `FORMATS`; what exists is replaced once all is written.

    In an mp4 odd sizes grow by one pixel, a copy of the edge, as yuv420p needs even ones; nothing is ever resized.

    Args:
        path: ends in .mp4, .mkv, .gif or .png.
        picture: one or more frames; a png takes one.
        fps: frames a second, from 0.1 to 1000, in a GIF to 50.

    Raises:
        ArgumentError: as `check`; not such an array; several frames for a png.
        MissingError: there is no ffmpeg on this machine.
        RunError: writing failed; what was there before is untouched.
    """
    path = check(path, fps)
    suffix = path.suffix.lower()
    frames = np.asarray(picture)
    if frames.dtype != np.uint8 or frames.ndim != 3 or not frames.size:
        raise ArgumentError(
            f"`picture` must be uint8 (T, Y, X) with a pixel at least, not {frames.dtype} {frames.shape}"
        )
    if suffix == ".png" and len(frames) > 1:
        raise ArgumentError(
            f"`picture` has {len(frames)} frames; a png takes 1, the others (.mp4, .mkv, .gif) any number"
        )
    # In the same folder, so that the rename is atomic; the process number keeps two writers apart.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if suffix == ".png":
            Image.fromarray(frames[0]).save(partial, format="PNG", optimize=True)
        else:
            _encode(partial, frames, fps, FORMATS[suffix])
        os.replace(partial, path)
    except OSError as error:
        raise RunError(f"{path} could not be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, frames: Pixels, fps: float, options: Sequence[str]) -> None:
    """Run ffmpeg ourselves: `imageio_ffmpeg.write_frames` does not look at how ffmpeg ended."""
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise MissingError(
            "mp4, mkv and gif files need ffmpeg, and imageio-ffmpeg brings none for this machine; install ffmpeg or "
            "name one in IMAGEIO_FFMPEG_EXE; png files do without"
        ) from None
    if "yuv420p" in options:
        frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2)), mode="edge")
    _, height, width = frames.shape
    command = [
        ffmpeg, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}",
        "-framerate", str(fps), "-i", "pipe:0", *options, f"file:{path}",
    ]  # fmt: skip
    done = subprocess.run(command, input=np.ascontiguousarray(frames).data.cast("B"), capture_output=True)
    if done.returncode:
        raise OSError(f"ffmpeg ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")


# --- what the command line calls


def _span(spec: Spec, frames: tuple[int, int] | None) -> tuple[int, int]:
    """`frames` (start, stop) within the videos of `spec`; None for all. Raises ArgumentError."""
    length = spec.shape[0]
    if frames is None:
        return 0, length
    ok = (
        isinstance(frames, (tuple, list)) and len(frames) == 2 and all(isinstance(f, (int, np.integer)) for f in frames)
    )
    if not ok or not 0 <= frames[0] < frames[1] <= length:
        raise ArgumentError(f"`frames` (={frames!r}) must be (start, stop) with 0 <= start < stop <= {length}")
    return int(frames[0]), int(frames[1])


def preview(
    path: str | os.PathLike[str],
    spec: Spec,
    source: Source,
    indices: Sequence[int],
    *,
    split: str = "train",
    frames: tuple[int, int] | None = None,
    columns: int | None = None,
    fps: float = 25,
) -> None:
    """Write labelled videos: a contact sheet if `path` ends in .png, else a grid that plays.

    For example `preview("strips.png", spec, functools.partial(vpngen.render, spec), [0, 5, 10], frames=(0, 16))`.

    Args:
        path: .mp4, .mkv (lossless), .gif or .png.
        spec: what the videos are.
        source: their pixels.
        indices: the videos, in the order shown.
        split: `train` or `val`.
        frames: (start, stop); None for the whole video. The strips of a contact sheet are evenly spaced over these, with
            both ends; a few periods of D show the motion.
        columns: frames of a strip (None for 8, a video's own number at most), or videos in a row, as `grid`.
        fps: frames a second.

    Raises:
        ArgumentError: no videos, an index or frame that the set does not have, or as `check`.
        MissingError, RunError: as `save`, and what `source` raises.
    """
    path = check(path, fps)
    if not len(indices):
        raise ArgumentError("`indices` is empty; give at least one video")
    captions = [caption(spec, index, split) for index in indices]
    start, stop = _span(spec, frames)
    columns = None if columns is None else _positive("columns", columns)
    window = Window(t=(start, stop))
    if path.suffix.lower() == ".png":
        count = min(columns or STRIP_FRAMES, stop - start)
        chosen = np.rint(np.linspace(0, stop - start - 1, count)).astype(int)
        strips = [source(index, window, split=split)[chosen] for index in indices]
        picture = contact_sheet(strips, captions, [int(start + k) for k in chosen])
    else:
        picture = grid([source(index, window, split=split) for index in indices], captions, columns)
    save(path, picture, fps)


def preview_mosaic(
    path: str | os.PathLike[str],
    spec: Spec,
    source: Source,
    *,
    frames: tuple[int, int] | None = None,
    split: str = "train",
    instance: int = 0,
    temporal: int | None = None,
    tile: int = 60,
    crop: bool = False,
    fps: float = 25,
) -> None:
    """Write the category plane, see `mosaic`: animated, or if `path` ends in .png the first of `frames`.

    Without `frames` a still is taken half a lattice cell into the video: on a lattice plane the temporal gradients
    vanish, and the categories whose cells are single pixels are flat.

    Raises:
        ArgumentError, MissingError, RunError: as `mosaic` and `save`.
    """
    path = check(path, fps)
    if path.suffix.lower() == ".png":
        first, _ = _span(spec, frames)
        if frames is None:
            g, d = _plane(spec, temporal)
            cell = d if g.temporal_unit == "period" else spec.shape[0] // d
            first = min(cell // 2, spec.shape[0] - 1)
        frames = (first, first + 1)
    picture = mosaic(
        spec, source, frames=frames, split=split, instance=instance, temporal=temporal, tile=tile, crop=crop
    )
    save(path, picture, fps)

"""Videos as pictures for people: a labelled grid that plays, a contact sheet, and all categories at a glance.

The categories of Perlin noise lie on a plane, figure 2 of the paper; those of other generators fill pages.

A picture is uint8 (T, Y, X) like a video; a still has T = 1. `grid`, `contact_sheet` and `mosaic` lay out, `save` writes,
`preview` and `preview_mosaic` do both. Videos are shown pixel for pixel, except in the reduced tiles of the mosaic.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vpngen import checks, files
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.generators import Generator, Pixels, Plane
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

ARROWED: Final = "; arrows: where a frame takes each point, each video in a scale of its own"
STRIP_FRAMES: Final = 8
PER_PAGE: Final = 400
PLANE_TILE: Final = 60
PAGE_WIDTH: Final = 1200
MOST_TILE: Final = 240
PAPER, INK, FAINT = 246, 32, 112
ARROWS, OVERSAMPLED = 4, 4
"""Arrows along a side, and pixels of them for one of the picture."""
MARGIN, GUTTER, TEXT, SMALL, LEAD = 20, 4, 17, 13, 6

Caption = tuple[str, str]
Motion = npt.NDArray[np.float64]
"""(2, 3), see `vpngen.generators.Generator.motion`."""
_Layout = tuple[Image.Image, list[tuple[int, int]]]


class Source(Protocol):
    """Where pixels come from: for a spec `functools.partial(vpngen.render, spec)`, for a store a function that reads it."""

    def __call__(self, index: int, window: Window, /, *, split: str) -> Pixels:
        """The window of video `index` of `split`: uint8 (T, Y, X)."""


# --- layout


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _write(at: Image.Image, x: float, y: float, text: str, size: int, shade: int = INK, anchor: str = "la") -> None:
    ImageDraw.Draw(at).text((x, y), text, fill=shade, font=_font(size), anchor=anchor)


def _filled(chrome: Image.Image, videos: Iterable[Pixels], corners: Iterable[tuple[int, int]], frames: int) -> Pixels:
    """The surroundings, still, with a video of that many frames at each corner (y, x): uint8 (T, Y, X)."""
    picture = np.repeat(np.asarray(chrome, np.uint8)[None], frames, axis=0)
    for video, (y, x) in zip(videos, corners, strict=True):
        picture[:, y : y + video.shape[1], x : x + video.shape[2]] = video
    return picture


def _titled(title: str, about: str, height: int, width: int) -> Image.Image:
    """Paper of (height, width), wider where the two lines at its head need it."""
    width = max(width, _length(title, TEXT), _length(about, SMALL))
    chrome = Image.new("L", (width + 2 * MARGIN, height), PAPER)
    _write(chrome, MARGIN, MARGIN, title, TEXT)
    _write(chrome, MARGIN, MARGIN + TEXT + LEAD, about, SMALL, FAINT)
    return chrome


def caption(spec: Spec, index: int, split: str = "train") -> Caption:
    """Which video it is; which category, and what it shows.

    >>> import vpngen
    >>> caption(vpngen.perlin(categories=16, instances=1), 5)
    ('train 5', 'category 5:  W=6  H=6  D=8')

    Raises:
        ArgumentError: no such split or video.
    """
    label, params = spec.label(index, split), spec.params(index, split)
    return f"{split} {index}", f"category {label}:  {spec.generator.caption(label, params[0])}"


def _check_videos(videos: Sequence[Pixels], captions: Sequence[Caption]) -> tuple[int, int, int]:
    if not len(videos):
        raise ArgumentError("is empty; give at least one", "videos")
    if len(captions) != len(videos):
        raise ArgumentError(f"has {len(captions)} entries for {len(videos)} videos; give one each", "captions")
    shapes = {v.shape for v in videos}
    if len(shapes) > 1 or any(v.dtype != np.uint8 or v.ndim != 3 or not v.size for v in videos):
        given = ", ".join(sorted({f"{v.dtype} {v.shape}" for v in videos}))
        raise ArgumentError(f"must be uint8 (T, Y, X) of one shape, not {given}", "videos")
    t, y, x = shapes.pop()
    return t, y, x


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
    columns = min(checks.integer("columns", columns or math.ceil(math.sqrt(len(videos))), 1), len(videos))
    rows = -(-len(videos) // columns)
    head = TEXT + SMALL + 2 * LEAD
    cell_width = max(width, *(max(_length(a, TEXT), _length(b, SMALL)) for a, b in captions)) + MARGIN
    cell_height = head + height + MARGIN
    chrome = Image.new("L", (MARGIN + columns * cell_width, MARGIN + rows * cell_height), PAPER)
    cells = [divmod(i, columns) for i in range(len(videos))]
    corners = [(MARGIN + row * cell_height, MARGIN + column * cell_width) for row, column in cells]
    for (y, x), (name, category) in zip(corners, captions, strict=True):
        _write(chrome, x, y, name, TEXT)
        _write(chrome, x, y + TEXT + LEAD, category, SMALL, FAINT)
    return _filled(chrome, videos, [(y + head, x) for y, x in corners], frames)


def contact_sheet(strips: Sequence[Pixels], captions: Sequence[Caption], numbers: Sequence[int | str]) -> Pixels:
    """A film strip for each video, below its caption and above the numbers of the frames: uint8 (1, Y, X).

    Args:
        strips: uint8 (T, Y, X) each, of one shape: the frames to show, from left to right.
        captions: the two parts of each, as `caption` gives them.
        numbers: the T numbers of the frames, or what else they show.

    Raises:
        ArgumentError: no videos, not one caption each, not one number for each frame, different shapes.
    """
    frames, height, width = _check_videos(strips, captions)
    if len(numbers) != frames:
        raise ArgumentError(f"has {len(numbers)} entries for strips of {frames} frames; give one each", "numbers")
    head = TEXT + LEAD
    pitch = max(width, *(_length(str(n), SMALL) for n in numbers)) + GUTTER
    strip_height = head + height + LEAD + SMALL + MARGIN
    gap = 2 * TEXT
    widest = max(_length(a, TEXT) + gap + _length(b, TEXT) for a, b in captions)
    full_width = 2 * MARGIN + max(frames * pitch - GUTTER, widest)
    chrome = Image.new("L", (full_width, MARGIN + len(strips) * strip_height), PAPER)
    for i, (name, category) in enumerate(captions):
        y = MARGIN + i * strip_height
        _write(chrome, MARGIN, y, name, TEXT)
        _write(chrome, MARGIN + _length(name, TEXT) + gap, y, category, TEXT, FAINT)
        for k, number in enumerate(numbers):
            text = f"frame {number}" if k == 0 and width > 60 else str(number)
            _write(chrome, MARGIN + k * pitch, y + head + height + LEAD, text, SMALL, FAINT)
    cells = itertools.product(range(len(strips)), range(frames))
    corners = [(MARGIN + i * strip_height + head, MARGIN + k * pitch) for i, k in cells]
    return _filled(chrome, (frame[None] for strip in strips for frame in strip), corners, 1)


def _motion(spec: Spec, index: int, split: str) -> Motion | None:
    """Where a frame takes each pixel of a video, see `Generator.motion`; None where that is not known."""
    try:
        return np.asarray(spec.generator.motion(spec.shape, spec.params([index], split), 1)[0])
    except ArgumentError:
        return None


def _points(height: int, width: int) -> npt.NDArray[np.float64]:
    """Where arrows stand on a frame: (3, ARROWS^2), x, y and 1."""
    at = (np.arange(ARROWS) + 0.5) / ARROWS
    y, x = (part.ravel() for part in np.meshgrid(at * height - 0.5, at * width - 0.5, indexing="ij"))
    return np.stack([x, y, np.ones_like(x)])


def _arrows(motion: Motion | None, height: int, width: int, side: int) -> Pixels:
    """The motion of frames of (height, width) as arrows on a square of paper: uint8 (side, side).

    They stand where their middle is; the longest is as long as they are apart. Rest is a dot; what is not known is left blank.
    """
    large = side * OVERSAMPLED
    if motion is None:
        return np.full((side, side), PAPER, np.uint8)
    made, points = Image.new("L", (large, large), PAPER), _points(height, width)
    draw, pitch = ImageDraw.Draw(made), large / ARROWS
    places = (points[:2].T + 0.5) / (width, height) * large
    steps = (motion @ points).T
    fastest = np.hypot(*steps.T).max()
    steps = steps * (0.92 * pitch / fastest if fastest > 0 else 0.0)
    for place, step in zip(places, steps, strict=True):
        length = math.hypot(*step)
        thick = max(1, round(pitch / 16))
        if length < 2 * thick:
            draw.ellipse([*(place - thick), *(place + thick)], fill=INK)
            continue
        along = step / length
        across, tip, tail = np.array([-along[1], along[0]]), place + step / 2, place - step / 2
        head = min(length, pitch / 3)
        base = tip - head * along
        draw.line([*map(float, (*tail, *base))], fill=INK, width=thick)
        draw.polygon([*map(tuple, (tip, base + 0.45 * head * across, base - 0.45 * head * across))], fill=INK)
    return np.asarray(made.resize((side, side), Image.Resampling.BOX))


def _beside(video: Pixels, arrows: Pixels) -> Pixels:
    """A video with arrows to the right of it, in all frames."""
    frames, height, _ = video.shape
    panel = np.full((frames, height, GUTTER // 2 + arrows.shape[1]), PAPER, np.uint8)
    top = (height - len(arrows)) // 2
    panel[:, top : top + len(arrows), GUTTER // 2 :] = arrows
    return np.concatenate([video, panel], axis=2)


def _margins(picture: Pixels, height: int, width: int) -> list[tuple[int, int]]:
    """What makes a picture as large as a frame, all around."""
    room = height - picture.shape[0], width - picture.shape[1]
    return [(r // 2, r - r // 2) for r in room]


def _reduced(video: Pixels, height: int, width: int) -> Pixels:
    """The mean over the area of each smaller pixel. Picking pixels would show fine noise as coarse noise."""
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in video])


def _axes(plane: Plane, about: str, height: int, width: int) -> _Layout:
    """The surroundings of a category plane, and where its tiles of (height, width) go, row by row: (y, x)."""
    size = max(9, min(SMALL + 2, width // 4))
    axis_y = MARGIN + TEXT + LEAD + SMALL + 2 * LEAD
    y0 = axis_y + SMALL + LEAD + size + LEAD
    x0 = MARGIN + SMALL + LEAD + max(_length(str(n), size) for n in plane.ys) + LEAD
    ys = [y0 + j * (height + GUTTER // 2) for j in range(len(plane.ys))]
    xs = [x0 + i * (width + GUTTER // 2) for i in range(len(plane.xs))]
    bottom = max(ys[-1] + height, y0 + _length(plane.y_axis, SMALL))
    right = max(xs[-1] + width, x0 + _length(plane.x_axis, SMALL))
    chrome = _titled(plane.title, about, bottom + MARGIN, right - MARGIN)
    _write(chrome, x0, axis_y, plane.x_axis, SMALL, FAINT)
    for n, x in zip(plane.xs, xs, strict=True):
        _write(chrome, x + width / 2, y0 - LEAD, str(n), size, anchor="ms")
    for n, y in zip(plane.ys, ys, strict=True):
        _write(chrome, x0 - LEAD, y + height / 2, str(n), size, anchor="rm")
    upright = Image.new("L", (_length(plane.y_axis, SMALL), SMALL + LEAD), PAPER)
    _write(upright, 0, 0, plane.y_axis, SMALL, FAINT)
    chrome.paste(upright.rotate(90, expand=True), (MARGIN, y0))
    return chrome, list(itertools.product(ys, xs))


def _page(title: str, about: str, labels: Sequence[int], columns: int, height: int, width: int) -> _Layout:
    """The surroundings of a page of numbered tiles of (height, width), and where each goes: (y, x)."""
    size = max(9, min(SMALL, width // 5))
    head = size + LEAD // 2
    pitch = max(width, *(_length(str(label), size) for label in labels)) + GUTTER
    y0 = MARGIN + TEXT + LEAD + SMALL + 2 * LEAD
    cells = [divmod(i, columns) for i in range(len(labels))]
    corners = [(y0 + row * (head + height + LEAD) + head, MARGIN + column * pitch) for row, column in cells]
    chrome = _titled(title, about, corners[-1][0] + height + MARGIN, min(columns, len(labels)) * pitch - GUTTER)
    for label, (y, x) in zip(labels, corners, strict=True):
        _write(chrome, x, y - LEAD // 2, str(label), size, FAINT, anchor="ls")
    return chrome, corners


@dataclasses.dataclass(frozen=True)
class _Section:
    """The categories of one generator in a mosaic: where they lie and which are seen."""

    generator: Generator
    plane: Plane | None
    labels: list[int]  # those seen, of the set, row by row
    columns: int
    frames: tuple[int, int]


def _sections(
    spec: Spec, still: bool, frames: tuple[int, int] | None = None, temporal: int | None = None,
    columns: int | None = None, page: int | None = None, per_page: int | None = None,
) -> list[_Section]:  # fmt: skip
    """What a mosaic shows, from top to bottom. Raises ArgumentError."""
    own = [(first, part, part.plane(None)) for first, part in spec.generator.members()]
    listed = [part for _, part, plane in own if plane is None]
    if temporal is not None and len(listed) == len(own):
        raise ArgumentError(f"chooses a category plane, and {own[0][1].title} has none", "temporal", temporal)
    for name, value in (("columns", columns), ("page", page), ("per_page", per_page)):
        if value is not None:
            checks.integer(name, value, 1)
            if not listed:
                raise ArgumentError("is of pages, and all categories of this set lie on a plane", name, value)
    span = None if frames is None else _span(spec, frames)
    longest = max(part.moving(spec.shape) for _, part, _ in own)
    widest = max([len(plane.xs) for *_, plane in own if plane is not None], default=1)
    per_page, page = per_page or PER_PAGE, page or 1
    pages = max([-(-part.n_categories // per_page) for part in listed], default=1)
    if page > pages:
        raise ArgumentError(f"must be from 1 to {pages}: {per_page} categories fit on one", "page", page)
    found = []
    for first, part, plane in own:
        if plane is not None and (plane := part.plane(temporal)) is not None:
            labels, wide = [first + label for row in plane.categories for label in row], len(plane.xs)
        else:
            labels = [first + i for i in range(part.n_categories)[(page - 1) * per_page : page * per_page]]
            wide = columns or max(math.ceil(math.sqrt(min(part.n_categories, per_page))), widest)
        if labels:
            frame = part.still(spec.shape, span, temporal)
            found.append(_Section(part, plane, labels, wide, (frame, frame + 1) if still else span or (0, longest)))
    return found


def mosaic(
    spec: Spec,
    source: Source,
    *,
    frames: tuple[int, int] | None = None,
    still: bool = False,
    split: str = "train",
    instance: int = 0,
    temporal: int | None = None,
    tile: int | None = None,
    crop: bool = False,
    columns: int | None = None,
    page: int | None = None,
    per_page: int | None = None,
) -> Pixels:
    """A tile for each category: uint8 (T, Y, X).

    Those of Perlin noise are figure 2 of the paper, W growing to the right, H downwards as y does; those of other
    generators are numbered and fill pages; a mixture has one below the other.

    A tile is the whole frame, reduced by averaging, so that as many lattice cells are seen as W and H say; cells of
    less than a pixel of the tile fade into grey. `crop` shows the first pixels unreduced, true to the finest noise.

    Args:
        spec: the set.
        source: its pixels.
        frames: (start, stop); None for the first 64 of noise, for all of what grows.
        still: show one frame: the first of `frames`, or the last of what grows. Without `frames` noise is taken half a
            lattice cell into the video.
        split: `train` or `val`.
        instance: which instance of each category.
        temporal: the D of a category plane; None for the middle one of the set.
        tile: pixels of the longer side of a tile; None for 60, on a page for what fills it. Videos are never enlarged.
        crop: show `tile` pixels of the frame rather than all of it.
        columns: tiles in a row of a page; None for about as many as rows.
        page: which page, from 1.
        per_page: categories on a page; None for 400.

    Raises:
        ArgumentError: a value that the set does not hold; `tile`, `columns` or `per_page` below 1; an option of pages where
            there are none, or of a plane.
    """
    sections = _sections(spec, still, frames, temporal, columns, page, per_page)
    instance = checks.integer("instance", instance, 0, spec.n_videos(split) // spec.n_categories - 1)
    if tile is not None:
        checks.integer("tile", tile, 1)
    elif any(section.plane is not None for section in sections):
        tile = PLANE_TILE
    else:
        tile = max(PLANE_TILE, min(MOST_TILE, PAGE_WIDTH // max(section.columns for section in sections) - GUTTER))
        if max(spec.shape[1:]) <= 5 * tile // 4:  # reduced by so little, fine lines would flicker
            tile = max(spec.shape[1:])
    parts = [_drawn(spec, source, section, split, instance, tile, crop) for section in sections]
    if len(parts) == 1:
        return parts[0]
    width = max(part.shape[2] for part in parts)
    wide = [np.pad(p, ((0, 0), (0, 0), (0, width - p.shape[2])), constant_values=PAPER) for p in parts]
    return np.concatenate(wide, axis=1)


def _drawn(spec: Spec, source: Source, section: _Section, split: str, instance: int, tile: int, crop: bool) -> Pixels:
    """One section of a mosaic: uint8 (T, Y, X)."""
    t = section.frames
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
    about = f"{split} instance {instance}, {shown}, {about}"
    first, extent = instance * spec.n_categories, (height, width) if crop else (full_height, full_width)
    motions = {label: _motion(spec, first + label, split) for label in section.labels}
    moved, side = any(m is not None for m in motions.values()), min(height, width)
    wide = width + (GUTTER // 2 + side) * moved
    if section.plane is not None:
        chrome, corners = _axes(section.plane, about, height, wide)
    else:
        n, of = len(section.labels), section.generator.n_categories
        title = f"{n:,}{f' of {of:,}' if n < of else ''} categories of {section.generator.title}"
        chrome, corners = _page(title, about + ARROWED * moved, section.labels, section.columns, height, wide)

    def tile_of(label: int) -> Pixels:
        shown = _reduced(source(first + label, window, split=split), height, width)
        return _beside(shown, _arrows(motions[label], *extent, side)) if moved else shown

    return _filled(chrome, map(tile_of, section.labels), corners, t[1] - t[0])


# --- files


def check(path: str | os.PathLike[str], fps: float = 25) -> Path:
    """`path`, if a picture can be written there; worth calling before long rendering.

    Raises:
        ArgumentError: an unknown suffix, a folder that is missing or closed to writing, `fps` out of range.
    """
    name, path = os.fspath(path), files.local(os.fspath(path))
    suffix = path.suffix.lower()
    if suffix not in FORMATS or name.endswith(os.sep):
        what = "names a folder; it " if suffix in FORMATS else ""
        raise ArgumentError(f"{what}must end in one of {', '.join(FORMATS)}", "path", name)
    if not path.parent.is_dir():
        raise ArgumentError(f"lies in a folder that does not exist; create {str(path.parent)!r}", "path", str(path))
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError("cannot be written: it is a folder, or its folder is read-only", "path", str(path))
    most = (
        50.0 if suffix == ".gif" else 1000.0
    )  # players slow a GIF down whose delay is below two hundredths of a second
    checks.number("fps", fps, lambda v: 0.1 <= v <= most, f"from 0.1 to {most:g} in a {suffix} file")
    return path


def save(path: str | os.PathLike[str], picture: npt.ArrayLike, fps: float = 25, *, threads: int | None = None) -> None:
    """Write uint8 (T, Y, X) in the format of the suffix, see `FORMATS`; what exists is replaced once all is written.

    In an mp4 odd sizes grow by one pixel, a copy of the edge, as yuv420p needs even ones; nothing is ever resized.

    Args:
        path: ends in .mp4, .mkv, .gif or .png.
        picture: one or more frames; a png takes one.
        fps: frames a second, from 0.1 to 1000, in a GIF to 50.
        threads: of ffmpeg; None for as many as it takes.

    Raises:
        ArgumentError: as `check`; not such an array; several frames for a png.
        MissingError: there is no ffmpeg on this machine, or no space on the disk.
        RunError: writing failed; what was there before is untouched.
    """
    path = check(path, fps)
    suffix, frames = path.suffix.lower(), np.asarray(picture)
    if frames.dtype != np.uint8 or frames.ndim != 3 or not frames.size:
        raise ArgumentError(f"must be uint8 (T, Y, X) with a pixel, not {frames.dtype} {frames.shape}", "picture")
    if suffix == ".png" and len(frames) > 1:
        raise ArgumentError(f"has {len(frames)} frames; a png takes 1, .mp4, .mkv and .gif any number", "picture")
    try:
        with files.replace(path) as partial:
            if suffix == ".png":
                Image.fromarray(frames[0]).save(partial, format="PNG", optimize=True)
            else:
                limit = () if threads is None else ("-threads", str(threads))
                _encode(partial, frames, fps, (*FORMATS[suffix], *limit))
    except OSError as error:
        raise RunError(f"{path} could not be written: {error}") from None


def _encode(path: Path, frames: Pixels, fps: float, options: Sequence[str]) -> None:
    """Run ffmpeg ourselves: `imageio_ffmpeg.write_frames` does not look at how ffmpeg ended."""
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        advice = "install ffmpeg, name one in IMAGEIO_FFMPEG_EXE, or write a png"
        raise MissingError(f"imageio-ffmpeg brings no ffmpeg for this machine; {advice}") from None
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
    two = isinstance(frames, (tuple, list)) and len(frames) == 2 and all(map(checks.is_integer, frames))
    if not two or not 0 <= frames[0] < frames[1] <= length:
        raise ArgumentError(f"must be (start, stop) with 0 <= start < stop <= {length}", "frames", frames)
    return int(frames[0]), int(frames[1])


def _strip(start: int, stop: int, count: int, grow: bool) -> npt.NDArray[np.int64]:
    """`count` frames of [start, stop) from the first to the last, less `start`: evenly spaced, or in even proportions."""
    if not grow:
        return np.rint(np.linspace(0, stop - start - 1, count)).astype(np.int64)
    if count == 1:
        return np.array([stop - start - 1])
    spaced = np.rint(np.geomspace(start + 1, stop, count)).astype(np.int64) - 1 - start
    return np.maximum(spaced, np.arange(count))


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
        frames: (start, stop); None for the whole video. Where its motion is known, arrows show it beside a video. The strips of a contact sheet are evenly spaced over these, with
            both ends; a few periods of D show the motion. Where all videos grow, each frame of a strip shows a multiple of
            what the one before it shows.
        columns: frames of a strip (None for 8, a video's own number at most), or videos in a row, as `grid`.
        fps: frames a second.

    Raises:
        ArgumentError: no videos, an index or frame that the set does not have, or as `check`.
        MissingError, RunError: as `save`, and what `source` raises.
    """
    path = check(path, fps)
    if not len(indices):
        raise ArgumentError("is empty; give at least one video", "indices")
    captions = [caption(spec, index, split) for index in indices]
    start, stop = _span(spec, frames)
    columns = None if columns is None else checks.integer("columns", columns, 1)
    videos: Iterable[Pixels] = (source(index, Window(t=(start, stop)), split=split) for index in indices)
    motions = [_motion(spec, index, split) for index in indices]
    _, height, width = spec.shape
    known = any(motion is not None for motion in motions)
    arrows = [_arrows(motion, height, width, min(height, width)) for motion in motions] if known else None
    if path.suffix.lower() == ".png":
        members, labels = spec.generator.members(), [spec.label(index, split) for index in indices]
        grow = all([part.grows for first, part in members if first <= label][-1] for label in labels)
        chosen = _strip(start, stop, min(columns or STRIP_FRAMES, stop - start), grow)
        strips, names = [video[chosen] for video in videos], [str(start + k) for k in chosen]
        if arrows is not None:
            framed = (np.pad(drawn, _margins(drawn, height, width), constant_values=PAPER) for drawn in arrows)
            strips = [np.concatenate([strip, drawn[None]]) for strip, drawn in zip(strips, framed, strict=True)]
            names.append("motion")
        picture = contact_sheet(strips, captions, names)
    else:
        if arrows is not None:
            videos = map(_beside, videos, arrows)
        picture = grid([*videos], captions, columns)
    save(path, picture, fps)


def preview_mosaic(path: str | os.PathLike[str], spec: Spec, source: Source, *, fps: float = 25, **options: Any) -> int:
    """Write all categories: animated, or a still if `path` ends in .png; `options` are those of `mosaic`, but for `still`.

    Returns:
        How many categories are in the picture.

    Raises:
        ArgumentError, MissingError, RunError: as `mosaic` and `save`.
    """
    still = check(path, fps).suffix.lower() == ".png"
    save(path, mosaic(spec, source, still=still, **options), fps)
    paged = map(options.get, ("frames", "temporal", "columns", "page", "per_page"))
    return sum(len(section.labels) for section in _sections(spec, still, *paged))

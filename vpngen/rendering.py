"""Params, windows and a backend in; pixels out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vpngen import backends, checks
from vpngen.checks import MAX_SIDE
from vpngen.errors import ArgumentError
from vpngen.floats import F32
from vpngen.generators import Mixed, Params, Seen, Shape, mixed
from vpngen.rng import Integers
from vpngen.spec import Spec

WINDOW_FIELDS: Final = ("t0", "step", "y0", "x0", "flip")
"""The columns of a packed window; the extent is that of the output."""


def _span(name: str, value: Any, size: int) -> tuple[int, int, int]:
    """(start, stop, step) of a window along an axis of `size`; None for all of it, and only `t` has steps. Raises ArgumentError."""
    if value is None:
        return 0, size, 1
    listed = isinstance(value, (tuple, list)) and len(value) in ((2, 3) if name == "t" else (2,))
    start, stop, step = (*value, 1)[:3] if listed and all(map(checks.is_integer, value)) else (0, 0, 1)
    if not 0 <= start < stop <= size or not 1 <= step <= MAX_SIDE:
        form = f"(start, stop) or (start, stop, step), steps from 1 to {MAX_SIDE}" if name == "t" else "(start, stop)"
        raise ArgumentError(f"of a window must be {form}, integers, 0 <= start < stop <= {size}", name, value)
    return int(start), int(stop), int(step)


@dataclass(frozen=True)
class Window:
    """A part of a video: `video[t[0]:t[1]:t[2], y[0]:y[1], x[0]:x[1]]`, then mirrored left to right if `flip`.

    Attributes:
        t: frames (start, stop) or (start, stop, step); None for all.
        y: rows (start, stop); None for all.
        x: columns (start, stop); None for all.
        flip: mirror left to right.
    """

    t: tuple[int, int] | tuple[int, int, int] | None = None
    y: tuple[int, int] | None = None
    x: tuple[int, int] | None = None
    flip: bool = False

    def pack(self, shape: Shape) -> tuple[tuple[int, int, int, int, int], Shape]:
        """The numbers of `WINDOW_FIELDS` and the extent (T, Y, X) of this window on videos of `shape` (t, y, x).

        Raises:
            ArgumentError: the window leaves the video or is empty.
        """
        if self.flip not in (True, False):  # a stream has it as 0 or 1
            raise ArgumentError("of a window must be true or false", "flip", self.flip)
        t0, t1, step = _span("t", self.t, shape[0])
        y0, y1, _ = _span("y", self.y, shape[1])
        x0, x1, _ = _span("x", self.x, shape[2])
        return (t0, step, y0, x0, int(self.flip)), (-(-(t1 - t0) // step), y1 - y0, x1 - x0)

    def of(self, video: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The window as a view of a whole video (T, Y, X)."""
        (t0, step, y0, x0, flip), (t, y, x) = self.pack((video.shape[0], video.shape[1], video.shape[2]))
        part = video[t0 : t0 + (t - 1) * step + 1 : step, y0 : y0 + y, x0 : x0 + x]
        return part[:, :, ::-1] if flip else part


def completed(spec: Spec, params: Params, backend: backends.Backend, threads: int | None) -> Params:
    """`params` (N,), as `spec.params` gives them, with what only a pass over each video can tell."""
    if not spec.generator.needs_extremes:
        return params
    if not isinstance(spec.generator, Mixed):
        return spec.generator.with_extremes(params, *backend.extremes(spec.generator.name, params, spec.shape, threads))
    params = params.copy()
    for number, part in enumerate(spec.generator.parts):
        mine = params["part"] == number
        if part.needs_extremes and mine.any():
            theirs = mixed.unpack(params[mine], type(part))
            extremes = backend.extremes(part.name, theirs, spec.shape, threads)
            mixed.pack(params, mine, part.with_extremes(theirs, *extremes))
    return params


def paint(
    backend: backends.Backend,
    generator: str,
    params: Params,
    windows: npt.NDArray[np.int32],
    out: Any,
    threads: int | None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Fill `out` (N, T, Y, X) with windows (N, 5) of videos `params` (N,), of whatever generators; see `Backend.render`.

    `out` is a NumPy array; or, with its `shape`, an array of another kind, see `Backend.render_device`.
    """
    if generator != Mixed.name:
        if shape is None:
            backend.render(generator, params, windows, out, threads)
        else:
            backend.render_device(generator, params, windows, out, shape)
        return
    for kind, which, theirs in mixed.split(params):
        if len(which) == len(params):
            paint(backend, kind.name, theirs, windows, out, threads, shape)
        elif shape is None:
            part = np.empty((len(which), *out.shape[1:]), np.uint8)
            backend.render(kind.name, theirs, windows[which], part, threads)
            out[which] = part
        else:  # neighbours of one generator at a time, straight into their place
            for run in np.split(np.arange(len(which)), np.flatnonzero(np.diff(which) > 1) + 1):
                place = out[int(which[run[0]]) : int(which[run[-1]]) + 1]
                backend.render_device(kind.name, theirs[run], windows[which[run]], place, (len(run), *shape[1:]))


def videos(
    backend: backends.Backend, generator: str, params: Params, shape: Shape, threads: int | None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Whole videos, one after the other, of whatever generators; see `Backend.videos`."""
    if generator != Mixed.name:
        yield from backend.videos(generator, params, shape, threads)
        return
    for run in np.split(np.arange(len(params)), np.flatnonzero(np.diff(params["kind"])) + 1):
        for kind, _, theirs in mixed.split(params[run]):
            yield from backend.videos(kind.name, theirs, shape, threads)


def motion(
    spec: Spec, index: int, window: Window | None = None, *, split: str = "train", seen: bool = False
) -> F32 | tuple[F32, Seen]:
    """Where each pixel of a video goes: the optical flow to the next frame of the window, as the formula has it.

    >>> import vpngen
    >>> spec = vpngen.Spec.make("drift", instances=1, shape=(16, 64, 64))
    >>> vpngen.motion(spec, 0).shape
    (16, 64, 64, 2)

    Args:
        spec: the dataset.
        index: the video.
        window: the part of it; None for all. A mirrored one has the flow of the mirrored picture.
        split: `train` or `val`.
        seen: also which shape each pixel shows, and whether it is hidden in the next frame, where videos are of shapes.

    Returns:
        float32 (T, H, W, 2), (dx, dy) in pixels to the next frame of the window, x to the right and y downwards; that of the
        last frame leads to the one that would come next. With `seen` that and a `vpngen.generators.Seen`.

    Raises:
        ArgumentError: an index or window out of range, or a generator whose motion is not known.
    """
    params = spec.params([checks.integer("index", index, 0)], split)[0]
    packed, extent = (window or Window()).pack(spec.shape)
    found = truth(spec, "motion", params, packed, extent)
    if not seen:
        return found
    return found, Seen(*(truth(spec, name, params, packed, extent) for name in ("shape", "hidden")))


def places(window: Sequence[int], extent: Shape) -> tuple[Integers, Integers, Integers]:
    """The frames, rows and columns of a packed window of `extent` (T, Y, X), before it is mirrored."""
    t0, step, y0, x0, _ = map(int, window)
    return t0 + step * np.arange(extent[0]), y0 + np.arange(extent[1]), x0 + np.arange(extent[2])


def truth(spec: Spec, name: str, params: np.void, window: Sequence[int], extent: Shape) -> npt.NDArray[Any]:
    """What is known of each pixel of a packed window of `extent` (T, Y, X): one of `Generator.truth`, see `motion`.

    `motion` is float32 (T, Y, X, 2), `shape` int32 and `hidden` bool (T, Y, X).
    """
    generator = spec.generator
    if isinstance(generator, Mixed):
        generator, params = generator.part_of(params)
    cpu = backends.load("cpu")
    found = cpu.known(generator, name, spec.shape, params, *places(window, extent), int(window[1]))
    if window[4]:
        found = found[:, :, ::-1]
        found = found * np.array([-1, 1], np.float32) if name == "motion" else found
    return np.ascontiguousarray(found)


def clip_motion(
    motion: npt.NDArray[np.float64], windows: npt.NDArray[np.int32], sides: npt.NDArray[np.int64], size: tuple[int, int]
) -> F32:
    """The common motion of clips: velocity in their middle, and how it changes from there.

    Args:
        motion: of their videos, as `Generator.motion` gives it for the steps of the windows, (N, 2, 3).
        windows: packed, (N, 5).
        sides: (height, width) of what the windows cut, (N, 2).
        size: (height, width) to which that is resized.

    Returns:
        float32 (N, 6): u, v, du/dx, du/dy, dv/dx, dv/dy in pixels of the clip to its next frame, x to the right, y downwards.
    """
    y0, x0, flip = windows[:, 2:].T
    height, width = sides.T
    middle = np.stack([x0 + (width - 1) / 2, y0 + (height - 1) / 2, np.ones(len(motion))], axis=-1)
    velocity, change = np.einsum("nij,nj->ni", motion, middle), motion[..., :2].copy()
    scale = np.stack([size[1] / width * np.where(flip, -1, 1), size[0] / height], axis=-1)  # of the clip's pixels
    return np.concatenate(
        [velocity * scale, (change * scale[:, :, None] / scale[:, None, :]).reshape(-1, 4)], axis=1
    ).astype(np.float32)


def render(
    spec: Spec,
    index: int | Sequence[int] | npt.NDArray[np.integer],
    window: Window | Sequence[Window] | None = None,
    *,
    split: str = "train",
    backend: str = "auto",
    threads: int | None = None,
    out: Any = None,
) -> Any:
    """The pixels of videos.

    >>> import vpngen
    >>> spec = vpngen.perlin(categories=16, instances=1)
    >>> vpngen.render(spec, [0, 5], window=vpngen.Window(t=(0, 16), y=(64, 176), x=(64, 176))).shape
    (2, 16, 112, 112)

    Args:
        spec: the dataset.
        index: one video, or several (N,).
        window: the part to render: one for all, or one for each video (all of the same extent); None for whole videos.
        split: `train` or `val`.
        backend: `cuda` (or `cuda:1` for the second GPU), `numba`, `reference`, or `auto`: the fastest of this machine.
        threads: CPU threads; None for all that this process may use.
        out: a C-contiguous uint8 array of the result's shape to render into. With a `cuda` backend also a torch tensor,
            a CuPy array or anything that speaks DLPack or the CUDA array interface, on that GPU: it is filled on
            torch's current stream for its tensors, else on CuPy's, and the call returns without waiting.

    Returns:
        uint8, (T, Y, X) for an int index, (N, T, Y, X) for several. The same bytes whatever backend, threads or batch.

    Raises:
        ArgumentError: an index, window or argument out of range.
        MissingError: the backend asked for cannot run here.
    """
    single = np.ndim(index) == 0
    if np.ndim(index) > 1:
        raise ArgumentError(f"has shape {np.shape(index)}; it must be one video or a list of them", "index")
    if threads is not None:
        checks.integer("threads", threads, 1)
    indices = np.atleast_1d(spec.indices(index, split))
    one = window if isinstance(window, Window) else Window()
    windows = [one] * len(indices) if window is None or window is one else window
    if not isinstance(windows, (list, tuple)) or [type(w) for w in windows] != [Window] * len(indices):
        raise ArgumentError(f"must be a Window, or a list of {len(indices)}, one for each video", "window", window)
    packed = [w.pack(spec.shape) for w in windows]
    extents = {extent for _, extent in packed} or {one.pack(spec.shape)[1]}
    if len(extents) > 1:
        raise ArgumentError(f"the windows of one call must have the same extent, not {sorted(extents)}")
    shape = (len(indices), *extents.pop())
    target = shape[1:] if single else shape
    chosen = backends.choose(backend, spec.generator)
    origins = np.array([w for w, _ in packed], np.int32).reshape(-1, len(WINDOW_FIELDS))
    out = np.empty(target, np.uint8) if out is None else out
    here = isinstance(out, np.ndarray)
    fits = here and out.shape == target and out.dtype == np.uint8 and out.flags.c_contiguous and out.flags.writeable
    if here and not fits:
        raise ArgumentError(
            f"must be a writeable C-contiguous uint8 array {target}, not {out.dtype} {out.shape}", "out"
        )
    params = completed(spec, spec.params(indices, split), chosen, threads)
    into, kind = (out.reshape(shape), None) if here else (out, target)
    paint(chosen, spec.generator.name, params, origins, into, threads, kind)
    return out

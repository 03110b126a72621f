"""What is known of the pixels of dead leaves: which shape each shows, where that goes, and whether it is hidden there then.

It follows `shown`, `led_to` and `covered` of `vpngen.generators.leaves`; read those first. Where shapes are is computed by that module,
for several frames at once; only what is done for each pixel is done here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vpngen.backends.compiled import kernel
from vpngen.backends.simd import fma
from vpngen.generators import leaves
from vpngen.rng import Integers

f32 = np.float32
BLOCK: Final = 16
"""Frames whose shapes are placed at once."""
TILE = 16
"""Rows and columns for which shapes that may hide something there are listed."""
HALF = f32(0.5)


@kernel
def opacity(lines, forms, sharp, x, y):  # type: ignore[no-untyped-def]
    u = fma(lines[0], x, fma(lines[1], y, lines[2]))
    v = fma(lines[3], x, fma(lines[4], y, lines[5]))
    up = abs(v)
    d = max(fma(forms[1], up, forms[0] * u), fma(u, fma(forms[4], u, forms[2]), up * fma(forms[4], up, forms[3])))
    return min(max((sharp + HALF) - d, f32(0)), f32(1))


@kernel
def first_from(place, i0, count):  # type: ignore[no-untyped-def]
    """The first of rows or columns from `i0` on that is not before a place."""
    return int(min(max(np.ceil(np.float64(place)) - i0, 0.0), np.float64(count)))


@kernel
def fronts(lines, forms, sharp, sides, y0, x0, which, left):  # type: ignore[no-untyped-def]
    """The shape that each pixel of frames shows, the last one for the ground, into `which` (T, Y, X); `left` (Y, X) is for work."""
    frames, height, width = which.shape
    ground = lines.shape[1] - 1
    for t in range(frames):
        left[:] = f32(1)
        which[t] = ground
        for k in range(ground):
            first, last = first_from(sides[t, k, 0], x0, width), first_from(sides[t, k, 1], x0, width)
            top, bottom = first_from(sides[t, k, 2], y0, height), first_from(sides[t, k, 3], y0, height)
            for j in range(top, bottom):
                for i in range(first, last):
                    if left[j, i] > HALF:
                        w = left[j, i] * opacity(lines[t, k], forms[t, k], sharp[t, k], f32(x0 + i), f32(y0 + j))
                        left[j, i] -= w
                        if left[j, i] <= HALF:
                            which[t, j, i] = k


@kernel
def lead(to_x, to_y, which, y0, x0, target):  # type: ignore[no-untyped-def]
    """Where what pixels show goes: x and y into `target` (T, Y, X, 2)."""
    frames, height, width = which.shape
    for t in range(frames):
        for j in range(height):
            y = np.float64(y0 + j)
            for i in range(width):
                k, x = which[t, j, i], np.float64(x0 + i)
                target[t, j, i, 0] = to_x[t, k, 0] * x + (to_x[t, k, 1] * y + to_x[t, k, 2])
                target[t, j, i, 1] = to_y[t, k, 0] * x + (to_y[t, k, 1] * y + to_y[t, k, 2])


@kernel
def cover(lines, forms, sharp, sides, target, which, hidden, near):  # type: ignore[no-untyped-def]
    """Whether a shape lies before those that are seen, where they are by then; `near` (K,) is for work."""
    frames, height, width = which.shape
    for t in range(frames):
        for top in range(0, height, TILE):
            for first in range(0, width, TILE):
                rows, columns = range(top, min(top + TILE, height)), range(first, min(first + TILE, width))
                low_x, high_x, low_y, high_y, behind = np.inf, -np.inf, np.inf, -np.inf, 0
                for j in rows:
                    for i in columns:
                        low_x, high_x = min(low_x, target[t, j, i, 0]), max(high_x, target[t, j, i, 0])
                        low_y, high_y = min(low_y, target[t, j, i, 1]), max(high_y, target[t, j, i, 1])
                        behind = max(behind, which[t, j, i])
                found = 0
                for k in range(behind):
                    left, right, upper, lower = sides[t, k]
                    if high_x > left and low_x < right and high_y > upper and low_y < lower:
                        near[found] = k
                        found += 1
                for j in rows:
                    for i in columns:
                        x, y = target[t, j, i]
                        for n in range(found):
                            k = near[n]
                            if k >= which[t, j, i] or hidden[t, j, i]:
                                break
                            left, right, upper, lower = sides[t, k]
                            if x > left and x < right and y > upper and y < lower:
                                alpha = opacity(lines[t, k], forms[t, k], sharp[t, k], f32(x), f32(y))
                                hidden[t, j, i] = alpha >= HALF


def known(name: str, params: np.void, t: Integers, y: Integers, x: Integers, step: int) -> npt.NDArray[Any]:
    """See `Generator.known`; rows and columns follow each other."""
    first = _known(name, params, t[:BLOCK], y, x, step)
    found = np.empty((len(t), *first.shape[1:]), first.dtype)
    found[:BLOCK] = first
    for i in range(BLOCK, len(t), BLOCK):
        found[i : i + BLOCK] = _known(name, params, t[i : i + BLOCK], y, x, step)
    return found


def _known(name: str, params: np.void, t: Integers, y: Integers, x: Integers, step: int) -> npt.NDArray[Any]:
    size, y0, x0 = (len(t), len(y), len(x)), int(y[0]), int(x[0])
    slots = np.arange(int(params["slots"]) + 1)
    (generations, ages), s, at = _placed(params, slots, t)
    grown = leaves.coming(params, ages.ravel())
    which = np.empty(size, np.int32)
    fronts(*_packed(at, size[0]), y0, x0, which, np.empty(size[1:], np.float32))
    if name == "shape":
        ids = (slots + (len(slots) - 1) * generations).astype(np.int32)
        ids[:, -1] = -1
        return np.stack([one[seen] for one, seen in zip(ids, which, strict=True)])
    later = ages.ravel() + step
    gone = (later >= int(params["life"])) & (s.kind != leaves.GROUND)
    to = leaves.place(params, s, later, np.where(gone, grown, leaves.coming(params, later)))
    target = np.empty((*size, 2))
    lead(*(m.reshape(size[0], -1, 3) for m in leaves.carried(at, to)), which, y0, x0, target)
    if name == "motion":
        flow: npt.NDArray[np.float32] = (target - np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)).astype(
            np.float32
        )
        return flow
    hidden = np.stack([one[seen] for one, seen in zip(gone.reshape(ages.shape), which, strict=True)])
    cover(*_packed(_placed(params, slots, t + step)[2], size[0]), target, which, hidden, np.empty(len(slots), np.int64))
    return hidden


def _placed(
    params: np.void, slots: Integers, t: Integers
) -> tuple[tuple[Integers, Integers], leaves.Shapes, leaves.Places]:
    """Generations and ages (T, K) of shapes at frames `t`; and the shapes and their places, frame after frame (T * K,)."""
    generations, ages = leaves.lives(params, slots, t[:, None])
    s = leaves.draw(params, np.tile(slots, len(t)), generations.ravel())
    return (generations, ages), s, leaves.place(params, s, ages.ravel(), leaves.coming(params, ages.ravel()))


def _packed(at: leaves.Places, frames: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Of places what kernels take: (T, K, 6), (T, K, 5), (T, K) and (T, K, 4)."""
    lines = np.stack([at.au, at.bu, at.cu, at.av, at.bv, at.cv], axis=-1)
    sides = np.stack([at.left, at.right, at.top, at.bottom], axis=-1)
    packed = lines, at.forms, at.sharp, sides
    return tuple(np.ascontiguousarray(a.reshape(frames, -1, *a.shape[1:]), np.float32) for a in packed)

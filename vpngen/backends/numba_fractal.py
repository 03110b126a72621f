"""The Video Fractal kernel for numba. It follows `vpngen.generators.fractal` name by name; read that first.

What it adds is the order of the work. Sixteen chunks of an orbit run side by side, one a lane. The first-hit image of a
window holds, for each pixel, the first frame of the window that shows it, in a byte; points are drawn in it from the last
to the first, so that each simply writes over what comes later. Then every frame is one comparison of that image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpngen import rng
from vpngen.backends import simd
from vpngen.backends.compiled import kernel
from vpngen.backends.numba_perlin import aligned, philox, put_row
from vpngen.backends.simd import LANES, iadd, iand, iless, imul_low, isplat, isub, splat, vfma, vless, vselect, vstore
from vpngen.generators import Params, fractal

f32, i64, u8, u32 = np.float32, np.int64, np.uint8, np.uint32
BLOCK = 254
"""Frames of a task, at most: what a byte of the first-hit image tells apart."""
NEVER = 255
DIVISIBLE = False
"""Every task draws all points."""
CHUNK, WARM_UP, BOUND, LEAST_EXTENT = fractal.CHUNK, fractal.WARM_UP, fractal.BOUND, fractal.LEAST_EXTENT
ORBIT, PATCH = u32(rng.purpose_word(rng.PURPOSE_ORBIT, 0)), u32(rng.purpose_word(rng.PURPOSE_PATCH, 0))
MARGIN = 3
"""Pixels around a window, for the patches that it cuts, and one for a patch's fourth byte."""
SPREAD = np.array([sum(0xFF << 8 * b for b in range(3) if m >> b & 1) for m in range(8)], np.uint32)
"""The bytes of three pixels whose bits are set."""


@kernel
def within(values):  # type: ignore[no-untyped-def]
    return iand(vless(values, splat(BOUND)), vless(splat(-BOUND), values))


@kernel
def orbit(row, xs, ys, ends, impatient):  # type: ignore[no-untyped-def]
    """Points into xs and ys, at [(chunk // 16 * CHUNK + i) * 16 + chunk % 16]; the least and greatest x and y into `ends`.

    Returns how often chunks left the bound; if `impatient`, as soon as one has.
    """
    points = i64(row.frames) * i64(row.points_per_frame)
    chunks = (points + CHUNK - 1) // CHUNK
    maps, zero, nothing = row.maps, splat(f32(0)), isplat(u32(0))
    low_x, high_x = splat(f32(np.inf)), splat(f32(-np.inf))
    low_y, high_y = low_x, high_x
    counts = np.zeros(LANES, np.uint32)
    left = i64(0)
    for first in range(0, chunks, LANES):
        chunk = iadd(isplat(u32(first)), simd.iota())
        real = iless(chunk, isplat(u32(chunks)))
        full = (first + LANES) * CHUNK <= points
        x, y, stayed = zero, zero, nothing
        for j in range((WARM_UP + CHUNK) // 4):
            words = philox(isplat(u32(j)), chunk, nothing, isplat(ORBIT), row.key[0], row.key[1])
            for q in range(4):
                word = words[0] if q == 0 else (words[1] if q == 1 else (words[2] if q == 2 else words[3]))
                a, b, c = splat(maps[0, 0]), splat(maps[0, 1]), splat(maps[0, 2])
                d, e, f = splat(maps[0, 3]), splat(maps[0, 4]), splat(maps[0, 5])
                for m in range(1, row.count):
                    stay = iless(word, isplat(row.thresholds[m - 1]))
                    a, b = vselect(stay, a, splat(maps[m, 0])), vselect(stay, b, splat(maps[m, 1]))
                    c, d = vselect(stay, c, splat(maps[m, 2])), vselect(stay, d, splat(maps[m, 3]))
                    e, f = vselect(stay, e, splat(maps[m, 4])), vselect(stay, f, splat(maps[m, 5]))
                x, y = vfma(a, x, vfma(b, y, e)), vfma(c, x, vfma(d, y, f))
                stays = iand(within(x), within(y))
                x, y = vselect(stays, x, zero), vselect(stays, y, zero)
                stayed = iadd(stayed, iand(stays, isplat(u32(1))))
                i = 4 * j + q - WARM_UP
                if i < 0:
                    continue
                at = first * CHUNK + i * LANES
                vstore(xs, at, x)
                vstore(ys, at, y)
                if full:
                    low_x, high_x = vselect(vless(x, low_x), x, low_x), vselect(vless(high_x, x), x, high_x)
                    low_y, high_y = vselect(vless(y, low_y), y, low_y), vselect(vless(high_y, y), y, high_y)
                else:
                    used = iless(iadd(imul_low(chunk, isplat(u32(CHUNK))), isplat(u32(i))), isplat(u32(points)))
                    low_x = vselect(iand(used, vless(x, low_x)), x, low_x)
                    high_x = vselect(iand(used, vless(high_x, x)), x, high_x)
                    low_y = vselect(iand(used, vless(y, low_y)), y, low_y)
                    high_y = vselect(iand(used, vless(high_y, y)), y, high_y)
        vstore(counts, 0, iand(real, isub(isplat(u32(WARM_UP + CHUNK)), stayed)))
        for lane in range(LANES):
            left += counts[lane]
        if impatient and left:
            return left
    lanes = np.empty(4 * LANES, np.float32)
    vstore(lanes, 0, low_x)
    vstore(lanes, LANES, high_x)
    vstore(lanes, 2 * LANES, low_y)
    vstore(lanes, 3 * LANES, high_y)
    for k in range(2):
        low, high = f32(np.inf), f32(-np.inf)
        for lane in range(LANES):
            low, high = min(low, lanes[2 * k * LANES + lane]), max(high, lanes[(2 * k + 1) * LANES + lane])
        ends[2 * k], ends[2 * k + 1] = low, high
    return left


@kernel
def scale(low, high, pad, size):  # type: ignore[no-untyped-def]
    extent = high - low
    return f32(size - 2 * pad) / extent if extent > LEAST_EXTENT else f32(0)


@kernel
def place(row, xs, ys, ends, places):  # type: ignore[no-untyped-def]
    """X | Y << 16 of every point, after the flips."""
    n = len(xs)
    low_x, low_y, pad = splat(ends[0]), splat(ends[2]), isplat(u32(row.pad))
    scale_x = splat(scale(ends[0], ends[1], row.pad, row.width))
    scale_y = splat(scale(ends[2], ends[3], row.pad, row.height))
    last_x, last_y, half = isplat(u32(row.width - 1)), isplat(u32(row.height - 1)), isplat(u32(65536))
    for i in range(0, n, LANES):
        x = iadd(pad, simd.vtruncate(simd.vmul(simd.vsub(simd.vload(xs, i), low_x), scale_x)))
        y = iadd(pad, simd.vtruncate(simd.vmul(simd.vsub(simd.vload(ys, i), low_y), scale_y)))
        x, y = simd.iselect(iless(x, last_x), x, last_x), simd.iselect(iless(y, last_y), y, last_y)
        if row.flips & 1:
            x = isub(last_x, x)
        if not row.flips & 2:
            y = isub(last_y, y)
        vstore(places, i, iadd(x, imul_low(y, half)))


@kernel
def patches(row, masks):  # type: ignore[no-untyped-def]
    """The 9 bits of the patch of every point."""
    points = i64(row.frames) * i64(row.points_per_frame)
    chunks = (points + CHUNK - 1) // CHUNK
    low, shift, most, one = isplat(u32(0xFFFF)), isplat(u32(16)), isplat(u32(511)), isplat(u32(1))
    for first in range(0, chunks, LANES):
        chunk = iadd(isplat(u32(first)), simd.iota())
        for j in range(CHUNK // 8):
            words = philox(isplat(u32(j)), chunk, isplat(u32(0)), isplat(PATCH), row.key[0], row.key[1])
            for q in range(4):
                word = words[0] if q == 0 else (words[1] if q == 1 else (words[2] if q == 2 else words[3]))
                at = first * CHUNK + (8 * j + 2 * q) * LANES
                vstore(masks, at, iadd(one, simd.ishr(imul_low(iand(word, low), most), shift)))
                vstore(masks, at + LANES, iadd(one, simd.ishr(imul_low(simd.ishr(word, shift), most), shift)))


@kernel
def draw(row, places, masks, hits, x0, y0, width, height, frame, value):  # type: ignore[no-untyped-def]
    """The points of a frame into `hits`, the window with its margin: `value` at each pixel that they draw."""
    stride, frames = width + 2 * MARGIN, u32(value * 0x010101)
    first = frame * i64(row.points_per_frame)
    for p in range(first, first + i64(row.points_per_frame)):
        chunk = p // CHUNK
        at = (chunk // LANES * CHUNK + p % CHUNK) * LANES + chunk % LANES
        x, y = i64(places[at] & u32(0xFFFF)) - x0, i64(places[at] >> u32(16)) - y0
        if x < -1 or y < -1 or x > width or y > height:
            continue
        corner = (y - 1 + MARGIN) * stride + x - 1 + MARGIN
        if row.patch:
            mask = masks[at]
            simd.put_bytes(hits, corner, frames, SPREAD[mask & u32(7)])
            simd.put_bytes(hits, corner + stride, frames, SPREAD[mask >> u32(3) & u32(7)])
            simd.put_bytes(hits, corner + 2 * stride, frames, SPREAD[mask >> u32(6)])
        else:
            hits[corner + stride + 1] = u8(value)


@kernel
def compact(hits, width, height, flip):  # type: ignore[no-untyped-def]
    """The window without its margin, at the front of `hits`, mirrored if `flip`."""
    for y in range(height):
        source, target = (y + MARGIN) * (width + 2 * MARGIN) + MARGIN, y * width
        for x in range(width):  # what is read lies at what is written or beyond
            hits[target + x] = hits[source + x]
        if flip:
            for x in range(width // 2):
                other = target + width - 1 - x
                hits[target + x], hits[other] = hits[other], hits[target + x]


@kernel
def longest(rows):  # type: ignore[no-untyped-def]
    """Places for the points of the longest orbit, in whole groups of chunks."""
    most = i64(0)
    for n in range(len(rows)):
        most = max(most, i64(rows[n].frames) * i64(rows[n].points_per_frame))
    return (most + CHUNK * LANES - 1) // (CHUNK * LANES) * (CHUNK * LANES)


@kernel
def render(rows, windows, out, extent, size, first_task, last_task):  # type: ignore[no-untyped-def]
    """See `vpngen.backends.cpu`."""
    frames, height, width = extent
    blocks = (frames + size - 1) // size
    most = longest(rows)
    xs, ys = aligned(most), aligned(most)
    places, masks = xs.view(np.uint32), ys.view(np.uint32)  # in their place: fresh memory would cost more than it holds
    ends = np.empty(4, np.float32)
    stride = width + 2 * MARGIN
    hits = np.empty(stride * (height + 2 * MARGIN), np.uint8)
    line = np.zeros(width + 2 * LANES, np.uint8)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        step, y0, x0, flip = i64(windows[n, 1]), i64(windows[n, 2]), i64(windows[n, 3]), windows[n, 4]
        t_first, t_count = block * size, min(size, frames - block * size)
        begin, trail = i64(windows[n, 0]) + t_first * step, i64(row.trail)
        groups = longest(rows[n : n + 1])
        orbit(row, xs, ys, ends, False)
        place(row, xs[:groups], ys[:groups], ends, places)
        if row.patch:
            patches(row, masks)

        if trail == 0:
            hits[:] = NEVER
            for frame in range(min(begin + (t_count - 1) * step, i64(row.frames) - 1), -1, -1):
                shown = (max(frame - begin, 0) + step - 1) // step
                draw(row, places, masks, hits, x0, y0, width, height, frame, shown)
            compact(hits, width, height, flip)
        else:
            hits[:] = 0
        # With a trail a pixel holds the last frame that drew it, counted from `base` on; 0 is none.
        base = max(begin - trail + 1, 0)
        done = base
        for i in range(t_count):
            now = begin + i * step
            limit = u8(i)
            if trail:
                oldest = max(now - trail + 1, 0)
                if now - base + 1 > 255:
                    for at in range(len(hits)):
                        hits[at] = u8(max(i64(hits[at]) - (oldest - base), 0))
                    base = oldest
                for frame in range(max(done, oldest), min(now + 1, i64(row.frames))):
                    draw(row, places, masks, hits, x0, y0, width, height, frame, frame - base + 1)
                done, limit = now + 1, u8(oldest - base + 1)
            at = (n * frames + t_first + i) * height * width
            if trail == 0:
                simd.level_until(out, at, hits, 0, height * width, limit, u8(row.level))
                continue
            for y in range(height):
                source = (y + MARGIN) * stride + MARGIN
                target, place_in = (line, 0) if flip else (out, at)
                simd.level_since(target, place_in, hits, source, width, limit, u8(row.level))
                if flip:
                    put_row(line, out, at, width, flip)
                at += width


@kernel
def _fill(rows, found, enough):  # type: ignore[no-untyped-def]
    most = longest(rows)
    xs, ys = aligned(most), aligned(most)
    places = xs.view(np.uint32)
    ends = np.empty(4, np.float32)
    area = i64(0)
    for n in range(len(rows)):
        area = max(area, i64(rows[n].height) * i64(rows[n].width))
    canvas = np.empty(area, np.uint8)
    for n in range(len(rows)):
        row = rows[n]
        found[n, 0], found[n, 1] = orbit(row, xs, ys, ends, True), 0
        if found[n, 0]:
            continue
        place(row, xs[: longest(rows[n : n + 1])], ys, ends, places)
        canvas[:] = 0
        count = i64(0)
        for p in range(i64(row.frames) * i64(row.points_per_frame)):
            chunk = p // CHUNK
            where = places[(chunk // LANES * CHUNK + p % CHUNK) * LANES + chunk % LANES]
            at = i64(where >> u32(16)) * i64(row.width) + i64(where & u32(0xFFFF))
            count += i64(1) - i64(canvas[at])
            canvas[at] = 1
        found[n, 1] = count
        if count >= enough:
            return


def fill(params: Params, enough: int = 2**62) -> npt.NDArray[np.int64]:
    """What the search for fractals asks of params (N,), see `vpngen.generators.fractal.filled`: (N, 2).

    How often an orbit left the bound until that was noticed, and the pixels that its points fill, 0 where it left. What comes
    after the first that fills `enough` stays 0.
    """
    found = np.zeros((len(params), 2), np.int64)
    _fill(params, found, enough)
    return found

"""The Perlin kernel for numba. It follows `vpngen.generators.perlin` name by name; read that first.

What it adds is the order of the work. A task is one block of frames of one window. For each row of pixels it makes P
and Q of every lattice plane that the block touches, once, in scratch memory that stays in the cache; then each frame of
the block is a weighted sum of those rows. A weight of zero (a frame that lies on its lattice plane) is skipped: adding
fma(0, P, grey) would change no bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpngen import floats, rng
from vpngen.backends import simd
from vpngen.backends.compiled import kernel
from vpngen.backends.simd import LANES, iand, isplat, ixor, splat, spread, vfma, vload, vmul, vselect, vstore, vsub
from vpngen.generators import Params, perlin

f32, i64, u32 = np.float32, np.int64, np.uint32
BLOCK = 48
"""Frames of a task, at most: more of them share a lattice plane, fewer leave more tasks to share out."""
DIVISIBLE = True
TERMS = perlin.MAX_TERMS
MOST_WEIGHTS = 4 * TERMS
CACHE_LINE = 64
"""Bytes. A row is followed in memory by its frame's next one, whose turn comes after a row of each other frame of the block; asked
for ahead, its place in the output is in the cache by then. A video took 18 % less time."""
MARGIN = LANES
"""Floats before the first pixel of a row of P or Q, for the lanes of a cell that the window cuts."""

M0, M1 = u32(rng.MULTIPLIER_0), u32(rng.MULTIPLIER_1)
W0, W1 = u32(rng.WEYL_0), u32(rng.WEYL_1)
ROUNDS = rng.ROUNDS
LATTICE = rng.purpose_word(rng.PURPOSE_LATTICE, 0)
SPHERE, LINEAR = perlin.GRADIENTS.index("sphere"), perlin.FADES.index("linear")
S0, S1, S2, S3 = floats.SIN
C0, C1, C2, C3, C4 = floats.COS


@kernel
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """See `vpngen.rng.philox4x32`; the counter in lanes, the key in numbers."""
    m0, m1 = isplat(M0), isplat(M1)
    for _ in range(ROUNDS):
        high0, low0 = simd.imul_high(m0, c0), simd.imul_low(m0, c0)
        high1, low1 = simd.imul_high(m1, c2), simd.imul_low(m1, c2)
        c0, c1, c2, c3 = ixor(ixor(high1, c1), isplat(k0)), low1, ixor(ixor(high0, c3), isplat(k1)), low0
        k0, k1 = u32(k0 + W0), u32(k1 + W1)
    return c0, c1, c2, c3


@kernel
def lerp(a, b, s):  # type: ignore[no-untyped-def]
    return vfma(s, vsub(b, a), a)


@kernel
def fraction(phase, i, size):  # type: ignore[no-untyped-def]
    return (f32(i % size) + phase) / f32(size)


@kernel
def fade(kind, f):  # type: ignore[no-untyped-def]
    if kind == LINEAR:
        return f
    return f * f * f * simd.fma(f, simd.fma(f, f32(6), f32(-15)), f32(10))


@kernel
def sine_cosine(angle):  # type: ignore[no-untyped-def]
    f = vmul(vsub(simd.vfloat(iand(angle, isplat(u32(16383)))), splat(f32(8192))), splat(f32(1 / 16384)))
    return of_quadrant(f, iand(angle, isplat(u32(0x4000))), iand(angle, isplat(u32(0x8000))))


@kernel
def of_quadrant(f, quarter, half):  # type: ignore[no-untyped-def]
    z = vmul(f, f)
    s = vmul(f, vfma(z, vfma(z, vfma(z, splat(S3), splat(S2)), splat(S1)), splat(S0)))
    c = vfma(z, vfma(z, vfma(z, vfma(z, splat(C4), splat(C3)), splat(C2)), splat(C1)), splat(C0))
    s, c = vselect(quarter, c, s), vselect(quarter, simd.vneg(s), c)
    return vselect(half, simd.vneg(s), s), vselect(half, simd.vneg(c), c)


@kernel
def gradients(row, k, group, layer, points, q, words, line, stride):  # type: ignore[no-untyped-def]
    """gx, gy, gt of 4 * points lattice columns on line q, into line[0:], line[stride:], line[2 * stride:].

    Each of `points` hashes is that of four columns from 4 * group[i] on, in plane layer[i].
    """
    lattice, k0, k1, sphere = isplat(u32(LATTICE | k)), row.key[0], row.key[1], row.gradients == SPHERE
    qs = isplat(u32(q))
    for first in range(0, points, LANES):
        a, b, c, d = philox(vload(group, first), qs, vload(layer, first), lattice, k0, k1)
        simd.store_interleaved(words, 0, a, b, c, d)
        for i in range(0, min(4 * LANES, 4 * (points - first)), LANES):
            word, at = vload(words, i), 4 * first + i
            sin_theta, cos_theta = sine_cosine(iand(word, isplat(u32(0xFFFF))))
            high = simd.ishr(word, isplat(u32(16)))
            if sphere:
                cos_phi = vfma(simd.vfloat(high), splat(f32(2**-15)), splat(f32(2**-16 - 1)))
                sin_phi = simd.vsqrt(vfma(simd.vneg(cos_phi), cos_phi, splat(f32(1))))
            else:
                sin_phi, cos_phi = sine_cosine(high)
            vstore(line, at, vmul(sin_phi, cos_theta))
            vstore(line, stride + at, vmul(sin_phi, sin_theta))
            vstore(line, 2 * stride + at, cos_phi)


@kernel
def aligned(n):  # type: ignore[no-untyped-def]
    """Scratch that starts on a cache line: unaligned, the frame stage measured up to 1.5 times as long."""
    raw = np.empty(n + LANES, np.float32)
    skip = -(raw.ctypes.data // 4) % LANES
    return raw[skip : skip + n]


@kernel
def along_y(lines, low, high, stride, columns, fy, v, coefficients):  # type: ignore[no-untyped-def]
    """A, B, C of a row of pixels for each lattice column, then A1 - A0, B1 - A1 - B0, C1 - C0 for each cell.

    `low` and `high` are the places of the lattice lines below and above the row; six parts of `stride` are filled. The
    columns are those of all planes of a term, one after the other, since few planes have enough of them to fill the lanes.
    """
    vv, vfy, vfy1 = splat(v), splat(fy), splat(fy - f32(1))
    for i in range(0, columns, LANES):
        A = lerp(vload(lines, low + i), vload(lines, high + i), vv)
        B = lerp(vmul(vload(lines, low + stride + i), vfy), vmul(vload(lines, high + stride + i), vfy1), vv)
        C = lerp(vload(lines, low + 2 * stride + i), vload(lines, high + 2 * stride + i), vv)
        vstore(coefficients, i, A)
        vstore(coefficients, stride + i, B)
        vstore(coefficients, 2 * stride + i, C)
    for i in range(0, columns, LANES):
        A0, A1 = vload(coefficients, i), vload(coefficients, i + 1)
        B0, B1 = vload(coefficients, stride + i), vload(coefficients, stride + i + 1)
        C0, C1 = vload(coefficients, 2 * stride + i), vload(coefficients, 2 * stride + i + 1)
        vstore(coefficients, 3 * stride + i, vsub(A1, A0))
        vstore(coefficients, 4 * stride + i, vsub(vsub(B1, A1), B0))
        vstore(coefficients, 5 * stride + i, vsub(C1, C0))


def _cells_along_x(load, cells):  # type: ignore[no-untyped-def]
    """A variant of along_x for cells that fit into the lanes: `cells` at a time, whose coefficients `load` spreads."""

    @kernel
    def along(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth):  # type: ignore[no-untyped-def]
        fx, u = vload(table, 0), vload(table, len(table) // 2)
        for slot in range(planes):
            cell, at, wanted = c + slot * columns, begin, with_q[slot]
            while at < end:
                e0 = vfma(load(coefficients, cell), fx, load(coefficients, stride + cell))
                step = vfma(load(coefficients, 3 * stride + cell), fx, load(coefficients, 4 * stride + cell))
                vstore(out, at, vfma(u, step, e0))
                if wanted:
                    C0, dC = load(coefficients, 2 * stride + cell), load(coefficients, 5 * stride + cell)
                    vstore(out, breadth + at, vfma(u, dC, C0))
                cell, at = cell + cells, at + cells * sx
            begin, end = begin + 2 * breadth, end + 2 * breadth
        return 0

    return along


_cells_1 = _cells_along_x(vload, LANES)
_cells_2 = _cells_along_x(simd.vload_cells(2), LANES // 2)
_cells_3 = _cells_along_x(simd.vload_cells(3), LANES // 3)
_cells_4 = _cells_along_x(simd.vload_cells(4), LANES // 4)
_cells_5 = _cells_along_x(simd.vload_cells(5), LANES // 5)
_cells_6 = _cells_along_x(simd.vload_cells(6), LANES // 6)
_cells_8 = _cells_along_x(simd.vload_cells(8), LANES // 8)
_cells_n = _cells_along_x(spread, 1)


@kernel
def along_x(coefficients, stride, columns, planes, x0, width, sx, table, out, with_q, breadth):  # type: ignore[no-untyped-def]
    """P, and of `with_q` Q, of `width` pixels from x0 on, of all planes of a term.

    A plane has `columns` coefficients, the first that of the lattice column p // 4 * 4, where a hash begins. Its P is `breadth`
    floats of `out`, in which pixel x0 goes to MARGIN, and its Q the next. Lanes left and right of what is wanted spill into the
    margins, or into the next cell, which is written after it. `table` holds fx and u for each pixel of a cell, repeated to fill
    the lanes.
    """
    p = x0 // sx
    c, begin, end = p % 4, MARGIN + p * sx - x0, MARGIN + width
    if sx == 1:
        _cells_1(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 2:
        _cells_2(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 3:
        _cells_3(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 4:
        _cells_4(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 5:
        _cells_5(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 6:
        _cells_6(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx == 8:
        _cells_8(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    elif sx <= LANES:
        _cells_n(coefficients, stride, columns, planes, c, begin, end, sx, table, out, with_q, breadth)
    else:
        half = len(table) // 2
        for slot in range(planes):
            cell, place, wanted = c + slot * columns, begin, with_q[slot]
            while place < end:
                A0, dA = spread(coefficients, cell), spread(coefficients, 3 * stride + cell)
                B0, dB = spread(coefficients, stride + cell), spread(coefficients, 4 * stride + cell)
                C0, dC = spread(coefficients, 2 * stride + cell), spread(coefficients, 5 * stride + cell)
                j, stop = max(0, end - width - place), min(sx, end - place)
                while j < stop:
                    fx, u = vload(table, j), vload(table, half + j)
                    vstore(out, place + j, vfma(u, vfma(dA, fx, dB), vfma(A0, fx, B0)))
                    if wanted:
                        vstore(out, breadth + place + j, vfma(u, dC, C0))
                    j += LANES
                cell, place = cell + 1, place + sx
            begin, end = begin + 2 * breadth, end + 2 * breadth


@kernel
def next_row(out, at, width):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of the row of the same frame that follows the one at out[at:]."""
    for x in range(width, 2 * width, CACHE_LINE):
        simd.prefetch(out, at + x)


def _along_t(weighted_rows, mirrored):  # type: ignore[no-untyped-def]
    """along_t or its mirror image, from right to left: each a kernel of its own, since calls in between would take a third more."""

    @kernel
    def along(counts, frames, planes, starts, weights, bias, out, at, frame, width):  # type: ignore[no-untyped-def]
        """One row of each frame, `frame` bytes apart from out[at:] on: bias plus the weighted sum of counts[i] rows of planes.

        `width` is a multiple of 16. A term has four weights between its lattice planes and one on them, so most frames of three
        terms have 12, 9 or 6.
        """
        for i in range(frames):
            n, begin = counts[i], i * MOST_WEIGHTS
            next_row(out, at, width)
            if n == 12:
                weighted_rows(12, planes, starts, weights, begin, bias, out, at, width)
            elif n == 9:
                weighted_rows(9, planes, starts, weights, begin, bias, out, at, width)
            elif n == 6:
                weighted_rows(6, planes, starts, weights, begin, bias, out, at, width)
            elif n == 3:
                weighted_rows(3, planes, starts, weights, begin, bias, out, at, width)
            elif n == 4:
                weighted_rows(4, planes, starts, weights, begin, bias, out, at, width)
            elif n == 1:
                weighted_rows(1, planes, starts, weights, begin, bias, out, at, width)
            else:
                for x in range(0, width, LANES):
                    total = splat(bias)
                    for j in range(begin, begin + n):
                        total = vfma(splat(weights[j]), vload(planes, starts[j] + x), total)
                    if mirrored:
                        simd.vstore_mirrored(out, at + width - LANES - x, total)
                    else:
                        simd.vstore_bytes(out, at + x, total)
            at += frame

    return along


along_t, along_t_mirrored = _along_t(simd.weighted_rows, False), _along_t(simd.mirrored_rows, True)
_copy, _mirror = simd.vcopy_bytes(False), simd.vcopy_bytes(True)


@kernel
def put_row(row, out, at, width, flip):  # type: ignore[no-untyped-def]
    """The first `width` bytes of a row to out[at:], mirrored if `flip`; the last 16 lanes overlap those before."""
    if width < LANES:
        for x in range(width):
            out[at + x] = row[width - 1 - x] if flip else row[x]
        return
    x = 0
    while x < width:
        x = min(x, width - LANES)
        if flip:
            _mirror(out, at + width - LANES - x, row, x)
        else:
            _copy(out, at + x, row, x)
        x += LANES


@kernel
def extremes_along_t(n, planes, starts, weights, first, low, high, width):  # type: ignore[no-untyped-def]
    """The least and greatest value of one row of one frame, folded into `low` and `high`."""
    for x in range(width):
        v = f32(0)
        for j in range(first, first + n):
            v = simd.fma(weights[j], planes[starts[j] + x], v)
        low, high = min(low, v), max(high, v)
    return low, high


@kernel
def run(rows, windows, out, extent, extremes, size, first_task, last_task):  # type: ignore[no-untyped-def]
    """Tasks [first_task, last_task) of a batch; where `out` is empty, `extremes` takes the least and greatest value of each."""
    frames, height, width = extent
    blocks = (frames + size - 1) // size
    widest = 1
    for n in range(len(rows)):
        for k in range(rows[n].terms):
            widest = max(widest, rows[n].cell[k, 0])
    span = (widest + 2 * LANES) // LANES * LANES
    # Lattice planes that a block can touch: two for each of its frames, when the frame step skips planes.
    slots = 2 * min(size, frames)
    most_groups = (width + 8) // 4
    breadth = MARGIN + (width + 2 * LANES) // LANES * LANES
    rounded = (width + LANES - 1) // LANES * LANES
    tables = aligned(TERMS * 2 * span).reshape(TERMS, 2 * span)
    most_lines = 3 * (4 * slots * most_groups + 2 * LANES)
    lines = aligned(TERMS * 2 * most_lines)
    words = np.zeros(4 * LANES, np.uint32)
    coefficients = aligned(2 * most_lines)
    row_bytes = np.zeros(min(size, frames) * rounded, np.uint8)
    planes = aligned(TERMS * slots * 2 * breadth)
    plane_r = np.zeros((TERMS, slots), np.int64)
    plane_q = np.zeros((TERMS, slots), np.bool_)
    plane_n = np.zeros(TERMS, np.int64)
    groups = np.zeros(TERMS, np.int64)
    group_of = np.zeros((TERMS, slots * most_groups + LANES), np.uint32)
    layer_of = np.zeros((TERMS, slots * most_groups + LANES), np.uint32)
    loaded = np.zeros(TERMS, np.int64)
    starts = np.zeros(BLOCK * MOST_WEIGHTS, np.int64)
    weights = np.zeros(BLOCK * MOST_WEIGHTS, np.float32)
    count = np.zeros(BLOCK, np.int64)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        t0, step, y0, x0, flip = windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3], windows[n, 4]
        t_first, t_count = block * size, min(size, frames - block * size)

        # Which lattice planes the block touches, and the weights of its frames.
        plane_n[:] = 0
        count[:] = 0
        for k in range(row.terms):
            st = i64(row.cell[k, 2])
            whole = row.gain * row.amplitude[k]
            for i in range(t_count):
                t = i64(t0) + (t_first + i) * i64(step)
                r = t // st
                ft = fraction(row.phase, t, st)
                w2 = whole * fade(row.fade, ft)
                w0 = whole - w2
                w1, w3 = w0 * ft, w2 * (ft - f32(1))
                for c in range(2):
                    wp, wq = (w0, w1) if c == 0 else (w2, w3)
                    if wp == 0 and wq == 0:
                        continue
                    slot = max(0, plane_n[k] - 2)
                    while slot < plane_n[k] and plane_r[k, slot] != r + c:
                        slot += 1
                    if slot == plane_n[k]:
                        plane_r[k, slot], plane_q[k, slot] = r + c, False
                        plane_n[k] += 1
                    base = (k * slots + slot) * 2 * breadth
                    starts[i * MOST_WEIGHTS + count[i]], weights[i * MOST_WEIGHTS + count[i]] = base + MARGIN, wp
                    count[i] += 1
                    if wq != 0:
                        plane_q[k, slot] = True
                        starts[i * MOST_WEIGHTS + count[i]] = base + breadth + MARGIN
                        weights[i * MOST_WEIGHTS + count[i]] = wq
                        count[i] += 1
            sx = i64(row.cell[k, 0])
            for j in range(max(sx, LANES)):
                fx = fraction(row.phase, j, sx)
                tables[k, j], tables[k, span + j] = fx, fade(row.fade, fx)
            group = i64(x0) // sx // 4
            groups[k] = ((i64(x0) + width - 1) // sx + 1) // 4 + 1 - group
            for slot in range(plane_n[k]):
                r = plane_r[k, slot]
                if row.wrap[k] > 0:
                    r = r % row.wrap[k]
                for i in range(groups[k]):
                    at = slot * groups[k] + i
                    group_of[k, at], layer_of[k, at] = group + i, r
            loaded[k] = -2

        low, high = f32(np.inf), f32(-np.inf)
        for y in range(height):
            for k in range(row.terms):
                sx, sy = i64(row.cell[k, 0]), i64(row.cell[k, 1])
                q = (i64(y0) + y) // sy
                points = plane_n[k] * groups[k]
                stride = (4 * points + 2 * LANES) // LANES * LANES
                low_line, high_line = (2 * k + q % 2) * most_lines, (2 * k + (q + 1) % 2) * most_lines
                if loaded[k] != q:
                    if loaded[k] != q - 1:
                        gradients(row, k, group_of[k], layer_of[k], points, q, words, lines[low_line:], stride)
                    gradients(row, k, group_of[k], layer_of[k], points, q + 1, words, lines[high_line:], stride)
                    loaded[k] = q
                fy = fraction(row.phase, i64(y0) + y, sy)
                along_y(lines, low_line, high_line, stride, 4 * points, fy, fade(row.fade, fy), coefficients)
                along_x(
                    coefficients, stride, 4 * groups[k], plane_n[k], i64(x0), width, sx, tables[k],
                    planes[k * slots * 2 * breadth :], plane_q[k], breadth,
                )  # fmt: skip
            at, frame = ((n * frames + t_first) * height + y) * width, height * width
            if len(out) == 0:
                for i in range(t_count):
                    low, high = extremes_along_t(count[i], planes, starts, weights, i * MOST_WEIGHTS, low, high, width)
            elif width % LANES:
                along_t(count, t_count, planes, starts, weights, row.bias, row_bytes, 0, rounded, rounded)
                for i in range(t_count):
                    put_row(row_bytes[i * rounded :], out, at + i * frame, width, flip)
                    next_row(out, at + i * frame, width)
            elif flip:
                along_t_mirrored(count, t_count, planes, starts, weights, row.bias, out, at, frame, width)
            else:
                along_t(count, t_count, planes, starts, weights, row.bias, out, at, frame, width)
        if len(out) == 0:
            extremes[task, 0], extremes[task, 1] = low, high


NO_PIXELS, NO_EXTREMES = np.empty(0, np.uint8), np.empty((0, 2), np.float32)


def render(rows: Params, windows: Any, out: Any, extent: Any, size: int, first: int, last: int) -> None:
    """See `vpngen.backends.cpu`."""
    run(rows, windows, out, extent, NO_EXTREMES, size, first, last)


def extremes(rows: Params, windows: Any, found: Any, extent: Any, size: int, first: int, last: int) -> None:
    """See `vpngen.backends.cpu`."""
    run(rows, windows, NO_PIXELS, extent, found, size, first, last)

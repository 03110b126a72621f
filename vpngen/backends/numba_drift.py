"""The drift kernel for numba. It follows `vpngen.generators.drift` name by name; read that first.

What it adds is the order of the work. A task is a block of frames of one window. In each frame the lattice of each layer and
octave becomes a table of cells, with the twelve numbers through which the noise hangs on the place in a cell. A row of pixels is
placed in its cells first, sixteen pixels at a time, then valued by pieces of sixteen that lie in one cell, whose numbers are loaded
for all lanes at once. Frames with very many cells go in tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpngen import floats, rng
from vpngen.backends import simd
from vpngen.backends.compiled import kernel
from vpngen.backends.numba_perlin import aligned, philox, put_row, sine_cosine
from vpngen.backends.simd import LANES, iand, isplat, splat, spread, vfma, vload, vmul, vstore, vsub
from vpngen.generators import Params, drift

f32, i64, u32 = np.float32, np.int64, np.uint32
BLOCK = 16
"""Frames of a task, at most: they share nothing."""
DIVISIBLE = True
OCTAVES, LAYERS, FRACTION, WRAP = drift.MOST_OCTAVES, drift.LAYERS, drift.FRACTION, drift.WRAP
MASK, UNIT = u32(drift.MASK), f32(1 / (1 << drift.FRACTION))
ACROSS, ALONG = drift.ACROSS, drift.ALONG
DETAIL = rng.purpose_word(rng.PURPOSE_DRIFT, 0)
MOST_POINTS = 4096
"""Of the table of a layer and octave in a tile."""
ROOM = MOST_POINTS + 8 * LANES
NUMBERS = 12
"""Of a cell."""
DIVIDE_BITS = 20
DIVIDE = 1 << DIVIDE_BITS
"""Lattice points are hashed four at a time: n / (four points of a line) is n times DIVIDE over that, rounded up, over DIVIDE."""

S0, S1, S2, S3 = floats.SIN
C0, C1, C2, C3, C4 = floats.COS
E0, E1, E2, E3, E4, E5, E6, E7 = floats.EXP2


@kernel
def turn(angle):  # type: ignore[no-untyped-def]
    """See `vpngen.floats.turn`."""
    shifted = u32(angle + u32(1 << 29))
    f = f32(i64(shifted & u32(0x3FFFFFFF)) - i64(1 << 29)) * f32(2**-30)
    quadrant = shifted >> u32(30)
    z = f * f
    s = f * simd.fma(z, simd.fma(z, simd.fma(z, S3, S2), S1), S0)
    c = simd.fma(z, simd.fma(z, simd.fma(z, simd.fma(z, C4, C3), C2), C1), C0)
    if quadrant & u32(1):
        s, c = c, -s
    return (-s, -c) if quadrant >> u32(1) else (s, c)


@kernel
def exp2(x):  # type: ignore[no-untyped-def]
    """See `vpngen.floats.exp2`."""
    whole = np.floor(x + f32(0.5))
    f = x - whole
    p = simd.fma(simd.fma(simd.fma(E7, f, E6), f, E5), f, E4)
    p = simd.fma(simd.fma(simd.fma(simd.fma(p, f, E3), f, E2), f, E1), f, E0)
    for _ in range(i64(whole)):
        p = p * f32(2)
    for _ in range(-i64(whole)):
        p = p * f32(0.5)
    return p


@kernel
def phase(row, layer, t):  # type: ignore[no-untyped-def]
    life = i64(row.life)
    if life == 0:
        return f32(1), t, i64(0)
    age = t + i64(row.age) + layer * (life // 2)
    tau = age % life - life // 2
    _, weight = turn(u32(tau * i64(row.wane)))
    return weight, tau, age // life


@kernel
def axes(row, tau):  # type: ignore[no-untyped-def]
    steps = f32(tau)
    sine, cosine = turn(u32(i64(row.spin) * tau))
    shrunk = exp2(-row.zoom * steps)
    c, s = cosine * shrunk, sine * shrunk
    across, down = simd.fma(-row.shear[0], steps, -s), simd.fma(-row.shear[1], steps, s)
    ax = simd.fma(row.lattice[0, 0], c, row.lattice[0, 1] * down)
    bx = simd.fma(row.lattice[0, 0], across, row.lattice[0, 1] * c)
    ay = simd.fma(row.lattice[1, 0], c, row.lattice[1, 1] * down)
    by = simd.fma(row.lattice[1, 0], across, row.lattice[1, 1] * c)
    return rounded(ax), rounded(bx), rounded(ay), rounded(by)


@kernel
def rounded(value):  # type: ignore[no-untyped-def]
    return i64(np.floor(value + f32(0.5)))


@kernel
def fade(f):  # type: ignore[no-untyped-def]
    return f * f * f * simd.fma(f, simd.fma(f, f32(6), f32(-15)), f32(10))


@kernel
def vfade(f):  # type: ignore[no-untyped-def]
    inner = vfma(f, vfma(f, splat(f32(6)), splat(f32(-15))), splat(f32(10)))
    return vmul(vmul(vmul(f, f), f), inner)


@kernel
def gradient(word):  # type: ignore[no-untyped-def]
    sine, cosine = sine_cosine(iand(word, isplat(u32(0xFFFF))))
    gz = vfma(simd.vfloat(simd.ishr(word, isplat(u32(16)))), splat(f32(2**-15)), splat(f32(2**-16 - 1)))
    flat = simd.vsqrt(vfma(simd.vneg(gz), gz, splat(f32(1))))
    return vmul(flat, cosine), vmul(flat, sine), gz


@kernel
def extent_of(a, b, height, width):  # type: ignore[no-untyped-def]
    """The least and greatest of a x + b y over a tile from (0, 0) on."""
    along_x, along_y = a * (width - 1), b * (height - 1)
    return min(i64(0), along_x) + min(i64(0), along_y), max(i64(0), along_x) + max(i64(0), along_y)


@kernel
def points_of(step, octave, height, width):  # type: ignore[no-untyped-def]
    """How many lattice points a tile of so many rows and columns may need, as they are stored."""
    low_x, high_x = extent_of(step[0], step[1], height, width)
    low_y, high_y = extent_of(step[2], step[3], height, width)
    columns = ((high_x - low_x) >> (FRACTION - octave)) + 7
    lines = ((high_y - low_y) >> (FRACTION - octave)) + 3
    return (columns + 3) // 4 * 4 * lines


@kernel
def make_cells(row, layer, octave, gain, weight, generation, z, q, lines, group, stride, words, points, cells):  # type: ignore[no-untyped-def]
    """The numbers of each cell of a table of `lines` x `stride` lattice points, the first at (4 * group, q).

    They are three tables, of what depends on fx, on fy and on neither; in each a cell has four numbers: its value at the corner,
    how that changes to the right, how downwards, and how the one changes along the other.
    """
    z = (z << octave) & 0xFFFFFFFF
    r, fz = z >> FRACTION, f32(z & i64(MASK)) * UNIT
    s = fade(fz)
    rest, back = f32(1) - s, fz - f32(1)
    below, above = simd.fma(ALONG * fz, fz, ACROSS), simd.fma(ALONG * back, back, ACROSS)
    std = np.sqrt(simd.fma(s * s, above, rest * rest * below))
    w = gain * weight / std
    w1 = w * s
    w0 = w - w1
    vw0, vw1, vz0, vz1 = splat(w0), splat(w1), splat(w0 * fz), splat(w1 * back)
    detail, k0, k1 = isplat(u32(DETAIL | OCTAVES * layer + octave)), row.key[0], row.key[1]
    life = generation << (32 - FRACTION)
    r0, r1 = isplat(u32(r | life)), isplat(u32((r + 1) % WRAP | life))
    a_line, times = isplat(u32(stride // 4)), isplat(u32((DIVIDE - 1) // (stride // 4) + 1))
    whole = lines * stride
    for first in range(0, whole, 4 * LANES):
        number = simd.iadd(isplat(u32(first // 4)), simd.iota())
        line = simd.ishr(simd.imul_low(number, times), isplat(u32(DIVIDE_BITS)))
        groups = simd.iadd(isplat(u32(group)), simd.isub(number, simd.imul_low(line, a_line)))
        groups, line = (
            iand(groups, isplat(u32(WRAP // 4 - 1))),
            iand(simd.iadd(isplat(u32(q)), line), isplat(u32(WRAP - 1))),
        )
        a, b, c, d = philox(groups, line, r0, detail, k0, k1)
        simd.store_interleaved(words, 0, a, b, c, d)
        a, b, c, d = philox(groups, line, r1, detail, k0, k1)
        simd.store_interleaved(words, 4 * LANES, a, b, c, d)
        for i in range(0, 4 * LANES, LANES):
            gx0, gy0, gz0 = gradient(vload(words, i))
            gx1, gy1, gz1 = gradient(vload(words, 4 * LANES + i))
            vstore(points, first + i, vfma(vw1, gx1, vmul(vw0, gx0)))
            vstore(points, ROOM + first + i, vfma(vw1, gy1, vmul(vw0, gy0)))
            vstore(points, 2 * ROOM + first + i, vfma(vz1, gz1, vmul(vz0, gz0)))
    for at in range(0, whole - stride, LANES):
        for k in range(3):
            a, b = vload(points, k * ROOM + at), vload(points, k * ROOM + at + 1)
            c, d = vload(points, k * ROOM + at + stride), vload(points, k * ROOM + at + stride + 1)
            if k == 2:
                b = vsub(b, vload(points, at + 1))
                c = vsub(c, vload(points, ROOM + at + stride))
                d = vsub(vsub(d, vload(points, at + stride + 1)), vload(points, ROOM + at + stride + 1))
            right = vsub(b, a)
            simd.vstore_interleaved(cells, 4 * (k * ROOM + at), a, right, vsub(c, a), vsub(vsub(d, c), right))


@kernel
def place_row(X, Y, ax, ay, width, stride, places, indices, pieces):  # type: ignore[no-untyped-def]
    """fx, fy, u, v of a row of pixels, and the places of their cells in the table.

    Returns how many `pieces` the row has: one begins at each pixel that lies in another cell than the one before it, or is the
    first of sixteen.
    """
    far, count = len(indices), 0
    steps_x, steps_y = simd.imul_low(simd.iota(), isplat(u32(ax))), simd.imul_low(simd.iota(), isplat(u32(ay)))
    bits, mask, unit, line = isplat(u32(FRACTION)), isplat(MASK), splat(UNIT), isplat(u32(stride))
    before = simd.iota()
    for i in range(0, width, LANES):
        x, y = simd.iadd(isplat(u32(X + ax * i)), steps_x), simd.iadd(isplat(u32(Y + ay * i)), steps_y)
        fx, fy = vmul(simd.vfloat(iand(x, mask)), unit), vmul(simd.vfloat(iand(y, mask)), unit)
        vstore(places, i, fx)
        vstore(places, far + i, fy)
        vstore(places, 2 * far + i, vfade(fx))
        vstore(places, 3 * far + i, vfade(fy))
        index = simd.iadd(simd.ishr(x, bits), simd.imul_low(simd.ishr(y, bits), line))
        vstore(indices, i, index)
        starts = simd.ichanged(before, index) | 1
        if width - i < LANES:
            starts &= (1 << (width - i)) - 1
        before = index
        at, count = count, count + simd.set_bits(starts)
        while at < count:  # four at once: a loop over single ones would be mispredicted
            for _ in range(4):
                pieces[at] = i + simd.first_bit(starts)
                at += 1
                starts &= starts - 1
    return count


@kernel
def value_row(count, places, indices, pieces, cells, before, after):  # type: ignore[no-untyped-def]
    """`after` = `before` plus the noise of a row of pixels: a piece fills its sixteen to the end, and the next one writes over it."""
    far = len(indices)
    of_x, of_y, of_1 = cells, cells[4 * ROOM :], cells[8 * ROOM :]
    total = splat(f32(0))
    for k in range(count):
        start = pieces[k]
        i = start & -LANES
        c = 4 * i64(indices[start])
        fx, fy = vload(places, i), vload(places, far + i)
        u, v = vload(places, 2 * far + i), vload(places, 3 * far + i)
        here = vfma(fx, spread(of_x, c), vfma(fy, spread(of_y, c), spread(of_1, c)))
        right = vfma(fx, spread(of_x, c + 1), vfma(fy, spread(of_y, c + 1), spread(of_1, c + 1)))
        down = vfma(fx, spread(of_x, c + 2), vfma(fy, spread(of_y, c + 2), spread(of_1, c + 2)))
        twist = vfma(fx, spread(of_x, c + 3), vfma(fy, spread(of_y, c + 3), spread(of_1, c + 3)))
        one = simd.vadd(vload(before, i), vfma(v, vfma(u, twist, down), vfma(u, right, here)))
        total = simd.vselect(simd.iless(simd.iota(), isplat(u32(start - i))), total, one)
        vstore(after, i, total)


@kernel
def put_levels(grey, out, at, width):  # type: ignore[no-untyped-def]
    """The grey levels of a row as bytes, to a multiple of sixteen."""
    for i in range(0, width, LANES):
        level = simd.vmin(simd.vmax(vload(grey, i), splat(f32(0))), splat(f32(255)))
        simd.vstore_bytes(out, at + i, level)


@kernel
def run(rows, windows, out, extent, size, first_task, last_task):  # type: ignore[no-untyped-def]
    """Tasks [first_task, last_task) of a batch."""
    frames, height, width = extent
    blocks = (frames + size - 1) // size
    breadth = (width + 2 * LANES) // LANES * LANES
    layers_octaves = LAYERS * OCTAVES
    words = np.zeros(8 * LANES, np.uint32)
    points = aligned(3 * ROOM)
    cells = aligned(layers_octaves * NUMBERS * ROOM)
    places = aligned(4 * breadth)
    indices = np.zeros(breadth, np.uint32)
    pieces = np.zeros(breadth + 4, np.int64)
    bias, even, odd = aligned(breadth), aligned(breadth), aligned(breadth)
    row_bytes = np.zeros(breadth, np.uint8)
    step = np.zeros((LAYERS, 4), np.int64)
    weights = np.zeros(LAYERS, np.float32)
    generations = np.zeros(LAYERS, np.int64)
    start = np.zeros((layers_octaves, 2), np.int64)
    strides = np.zeros(layers_octaves, np.int64)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        for i in range(0, width, LANES):
            vstore(bias, i, splat(row.bias))
        layers, octaves = (1 if row.life == 0 else LAYERS), i64(row.octaves)
        y0, x0, flip = i64(windows[n, 2]) - row.centre[1], i64(windows[n, 3]) - row.centre[0], windows[n, 4] != 0
        for frame in range(block * size, min(frames, block * size + size)):
            t = i64(windows[n, 0]) + frame * i64(windows[n, 1])
            tile_rows, tile_columns = height, width
            for layer in range(layers):
                weights[layer], tau, generations[layer] = phase(row, layer, t)
                step[layer, 0], step[layer, 1], step[layer, 2], step[layer, 3] = axes(row, tau)
                while points_of(step[layer], octaves - 1, tile_rows, tile_columns) > MOST_POINTS:
                    if tile_rows > tile_columns:
                        tile_rows = (tile_rows + 1) // 2
                    else:
                        tile_columns = (tile_columns + 1) // 2
            X0 = i64(row.origin[0]) + i64(row.step[0]) * t
            Y0 = i64(row.origin[1]) + i64(row.step[1]) * t
            Z0 = i64(row.origin[2]) + i64(row.step[2]) * t
            for top in range(0, height, tile_rows):
                down = min(tile_rows, height - top)
                for left in range(0, width, tile_columns):
                    across = min(tile_columns, width - left)
                    for layer in range(layers):
                        ax, bx, ay, by = step[layer]
                        X1 = X0 + ax * (x0 + left) + bx * (y0 + top)
                        Y1 = Y0 + ay * (x0 + left) + by * (y0 + top)
                        low_x, high_x = extent_of(ax, bx, down, across)
                        low_y, high_y = extent_of(ay, by, down, across)
                        for octave in range(octaves):
                            k = layer * OCTAVES + octave
                            group, q = ((X1 + low_x) << octave) >> (FRACTION + 2), ((Y1 + low_y) << octave) >> FRACTION
                            columns = (((X1 + high_x) << octave) >> FRACTION) + 2 - 4 * group
                            lines = (((Y1 + high_y) << octave) >> FRACTION) + 2 - q
                            stride = (columns + 3) // 4 * 4
                            start[k, 0] = (X1 << octave) - (group << (FRACTION + 2))
                            start[k, 1] = (Y1 << octave) - (q << FRACTION)
                            strides[k] = stride
                            make_cells(
                                row, layer, octave, row.gain * f32(1 / (1 << octave)), weights[layer], generations[layer], Z0, q, lines, group, stride,
                                words, points, cells[k * NUMBERS * ROOM :],
                            )  # fmt: skip
                    for y in range(down):
                        before, after = bias, odd
                        for layer in range(layers):
                            ax, bx, ay, by = step[layer]
                            for octave in range(octaves):
                                k = layer * OCTAVES + octave
                                X, Y = start[k, 0] + ((bx * y) << octave), start[k, 1] + ((by * y) << octave)
                                count = place_row(
                                    X, Y, ax << octave, ay << octave, across, strides[k], places, indices, pieces
                                )
                                value_row(count, places, indices, pieces, cells[k * NUMBERS * ROOM :], before, after)
                                before, after = after, even if (layer * octaves + octave) & 1 == 0 else odd
                        at = ((n * frames + frame) * height + top + y) * width + (
                            width - left - across if flip else left
                        )
                        if flip or across % LANES:
                            put_levels(before, row_bytes, 0, across)
                            put_row(row_bytes, out, at, across, flip)
                        else:
                            put_levels(before, out, at, across)


def render(rows: Params, windows: Any, out: Any, extent: Any, size: int, first: int, last: int) -> None:
    """See `vpngen.backends.cpu`."""
    run(rows, windows, out, extent, size, first, last)

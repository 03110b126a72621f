"""The Perlin kernel for numba. It follows `vpngen.generators.perlin` name by name; read that first.

What it adds is the order of the work. A task is one block of frames of one window. For each row of pixels it makes P
and Q of every lattice plane that the block touches, once, in scratch memory that stays in the cache; then each frame of
the block is a weighted sum of those rows. A weight of zero (a frame that lies on its lattice plane) is skipped: adding
fma(0, P, grey) would change no bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vpngen import rng
from vpngen.backends.simd import LANES, fma, splat, vfma, vload, vmul, vstore, vstore_bytes, vsub
from vpngen.generators import perlin

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}

f32, i64, u32, u64 = np.float32, np.int64, np.uint32, np.uint64
BLOCK = 16
"""Frames of a task."""
SLOTS = 2 * BLOCK
"""Lattice planes that a block can touch: two for each of its frames, when the frame step skips planes."""
TERMS = perlin.MAX_TERMS
MOST_WEIGHTS = 4 * TERMS

M0, M1 = u64(rng.MULTIPLIER_0), u64(rng.MULTIPLIER_1)
W0, W1 = u32(rng.WEYL_0), u32(rng.WEYL_1)
ROUNDS = rng.ROUNDS
LATTICE = rng.purpose_word(rng.PURPOSE_LATTICE, 0)
SPHERE, LINEAR = perlin.GRADIENTS.index("sphere"), perlin.FADES.index("linear")
S0, S1, S2, S3 = perlin.SIN
C0, C1, C2, C3, C4 = perlin.COS


@njit(**_OPTIONS)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """See `vpngen.rng.philox4x32`."""
    for _ in range(ROUNDS):
        p0, p1 = M0 * u64(c0), M1 * u64(c2)
        c0, c1, c2, c3 = u32(p1 >> u64(32)) ^ c1 ^ k0, u32(p1), u32(p0 >> u64(32)) ^ c3 ^ k1, u32(p0)
        k0, k1 = u32(k0 + W0), u32(k1 + W1)
    return u32(c0), u32(c1), u32(c2), u32(c3)


@njit(**_OPTIONS)
def lerp(a, b, s):  # type: ignore[no-untyped-def]
    return fma(s, b - a, a)


@njit(**_OPTIONS)
def vlerp(a, b, s):  # type: ignore[no-untyped-def]
    return vfma(s, vsub(b, a), a)


@njit(**_OPTIONS)
def fraction(phase, i, size):  # type: ignore[no-untyped-def]
    return (f32(i % size) + phase) / f32(size)


@njit(**_OPTIONS)
def fade(kind, f):  # type: ignore[no-untyped-def]
    if kind == LINEAR:
        return f
    return f * f * f * fma(f, fma(f, f32(6), f32(-15)), f32(10))


@njit(**_OPTIONS)
def sine_cosine(angle):  # type: ignore[no-untyped-def]
    f = (f32(np.int32(angle & u32(16383))) - f32(8192)) * f32(1 / 16384)
    z = f * f
    s = f * fma(z, fma(z, fma(z, S3, S2), S1), S0)
    c = fma(z, fma(z, fma(z, fma(z, C4, C3), C2), C1), C0)
    if angle & u32(0x4000):
        s, c = c, -s
    if angle & u32(0x8000):
        s, c = -s, -c
    return s, c


@njit(**_OPTIONS)
def gradients(row, k, group, groups, q, r, words, line, stride):  # type: ignore[no-untyped-def]
    """gx, gy, gt of the lattice points of 4 * groups columns from 4 * group on, into line[0], [1], [2] * stride."""
    k0, k1 = row.key[0], row.key[1]
    for i in range(groups):
        a, b, c, d = philox(u32(group + i), u32(q), u32(r), u32(LATTICE | k), k0, k1)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d
    if row.gradients == SPHERE:
        for i in range(4 * groups):
            sin_theta, cos_theta = sine_cosine(words[i] & u32(0xFFFF))
            cos_phi = fma(f32(np.int32(words[i] >> u32(16))), f32(2**-15), f32(2**-16 - 1))
            sin_phi = np.sqrt(fma(-cos_phi, cos_phi, f32(1)))
            line[i], line[stride + i], line[2 * stride + i] = sin_phi * cos_theta, sin_phi * sin_theta, cos_phi
    else:
        for i in range(4 * groups):
            sin_theta, cos_theta = sine_cosine(words[i] & u32(0xFFFF))
            sin_phi, cos_phi = sine_cosine(words[i] >> u32(16))
            line[i], line[stride + i], line[2 * stride + i] = sin_phi * cos_theta, sin_phi * sin_theta, cos_phi


@njit(**_OPTIONS)
def along_y(lines, low, high, stride, columns, fy, v, coefficients):  # type: ignore[no-untyped-def]
    """A, B, C of a row of pixels for each lattice column, from the gradients of the lattice lines below and above it."""
    vv, vfy, vfy1 = splat(v), splat(fy), splat(fy - f32(1))
    for i in range(0, columns, LANES):
        A = vlerp(vload(lines, low + i), vload(lines, high + i), vv)
        B = vlerp(
            vmul(vload(lines, low + stride + i), vfy), vmul(vload(lines, high + stride + i), vfy1), vv
        )
        C = vlerp(vload(lines, low + 2 * stride + i), vload(lines, high + 2 * stride + i), vv)
        vstore(coefficients, i, A)
        vstore(coefficients, stride + i, B)
        vstore(coefficients, 2 * stride + i, C)


@njit(**_OPTIONS)
def along_x(coefficients, stride, first, x0, width, sx, table, out, with_q, q_at):  # type: ignore[no-untyped-def]
    """P, and Q where it is wanted, of `width` pixels from x0 on; `first` is the lattice column of coefficients[0].

    The lanes of a cell that is no multiple of 16 wide spill into the next cell, which is written after it.
    `table` holds fx, fx - 1 and u for each pixel of a cell.
    """
    span = len(table) // 3
    if sx == 1:  # every pixel is a cell
        fx, fx1, u = splat(table[0]), splat(table[span]), splat(table[2 * span])
        for i in range(0, width, LANES):
            c = x0 - first + i
            e0 = vfma(vload(coefficients, c), fx, vload(coefficients, stride + c))
            e1 = vfma(vload(coefficients, c + 1), fx1, vload(coefficients, stride + c + 1))
            vstore(out, i, vlerp(e0, e1, u))
            if with_q:
                g0, g1 = vload(coefficients, 2 * stride + c), vload(coefficients, 2 * stride + c + 1)
                vstore(out, q_at + i, vlerp(g0, g1, u))
        return
    p = x0 // sx
    while p * sx < x0 + width:
        c = p - first
        A0, A1 = splat(coefficients[c]), splat(coefficients[c + 1])
        B0, B1 = splat(coefficients[stride + c]), splat(coefficients[stride + c + 1])
        G0, G1 = splat(coefficients[2 * stride + c]), splat(coefficients[2 * stride + c + 1])
        start = p * sx
        j = max(0, x0 - start)
        stop = min(sx, x0 + width - start)
        while j < stop:
            u = vload(table, 2 * span + j)
            at = start + j - x0
            e0, e1 = vfma(A0, vload(table, j), B0), vfma(A1, vload(table, span + j), B1)
            vstore(out, at, vlerp(e0, e1, u))
            if with_q:
                vstore(out, q_at + at, vlerp(G0, G1, u))
            j += LANES
        p += 1


@njit(**_OPTIONS)
def along_t(planes, offsets, weights, n, bias, out, at, width):  # type: ignore[no-untyped-def]
    """One row of one frame: bias plus the weighted sum of n rows of planes, as bytes."""
    x = 0
    while x + 4 * LANES <= width:
        a = b = c = d = splat(bias)
        for j in range(n):
            w, o = splat(weights[j]), offsets[j] + x
            a = vfma(w, vload(planes, o), a)
            b = vfma(w, vload(planes, o + LANES), b)
            c = vfma(w, vload(planes, o + 2 * LANES), c)
            d = vfma(w, vload(planes, o + 3 * LANES), d)
        vstore_bytes(out, at + x, a)
        vstore_bytes(out, at + x + LANES, b)
        vstore_bytes(out, at + x + 2 * LANES, c)
        vstore_bytes(out, at + x + 3 * LANES, d)
        x += 4 * LANES
    while x < width:
        if x + LANES > width and width >= LANES:
            x = width - LANES
        a = splat(bias)
        for j in range(n):
            a = vfma(splat(weights[j]), vload(planes, offsets[j] + x), a)
        if width >= LANES:
            vstore_bytes(out, at + x, a)
        else:
            narrow = np.empty(LANES, np.uint8)
            vstore_bytes(narrow, 0, a)
            for i in range(width):
                out[at + i] = narrow[i]
        x += LANES


@njit(**_OPTIONS)
def extremes_along_t(planes, offsets, weights, n, bias, low, high, width):  # type: ignore[no-untyped-def]
    """The least and greatest value of one row of one frame, folded into `low` and `high`."""
    for x in range(width):
        a = bias
        for j in range(n):
            a = fma(weights[j], planes[offsets[j] + x], a)
        low, high = min(low, a), max(high, a)
    return low, high


@njit(**_OPTIONS)
def run(rows, windows, out, extent, extremes, first_task, last_task):  # type: ignore[no-untyped-def]
    """Tasks [first_task, last_task) of a batch.

    `out` is the flat uint8 output (N * T * Y * X), or empty: then `extremes` (N * blocks, 2) takes the least and
    greatest value of each task. `extent` is (T, Y, X); a video has ceil(T / BLOCK) tasks.
    """
    frames, height, width = extent
    blocks = (frames + BLOCK - 1) // BLOCK
    widest = 1
    for n in range(len(rows)):
        for k in range(rows[n].terms):
            widest = max(widest, rows[n].cell[k, 0])
    span = (widest + 2 * LANES) // LANES * LANES
    stride = (width + 8 + 2 * LANES) // LANES * LANES
    breadth = (width + 2 * LANES) // LANES * LANES
    tables = np.zeros((TERMS, 3 * span), np.float32)
    lines = np.zeros(TERMS * SLOTS * 2 * 3 * stride, np.float32)
    words = np.zeros(stride, np.uint32)
    coefficients = np.zeros(3 * stride, np.float32)
    planes = np.zeros(TERMS * SLOTS * 2 * breadth, np.float32)
    plane_r = np.zeros((TERMS, SLOTS), np.int64)
    plane_q = np.zeros((TERMS, SLOTS), np.bool_)
    plane_n = np.zeros(TERMS, np.int64)
    loaded = np.zeros(TERMS, np.int64)
    offsets = np.zeros((BLOCK, MOST_WEIGHTS), np.int64)
    weights = np.zeros((BLOCK, MOST_WEIGHTS), np.float32)
    count = np.zeros(BLOCK, np.int64)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        t0, step, y0, x0, flip = windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3], windows[n, 4]
        t_first, t_count = block * BLOCK, min(BLOCK, frames - block * BLOCK)

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
                    base = (k * SLOTS + slot) * 2 * breadth
                    offsets[i, count[i]], weights[i, count[i]] = base, wp
                    count[i] += 1
                    if wq != 0:
                        plane_q[k, slot] = True
                        offsets[i, count[i]], weights[i, count[i]] = base + breadth, wq
                        count[i] += 1
            sx = i64(row.cell[k, 0])
            for j in range(sx):
                fx = fraction(row.phase, j, sx)
                tables[k, j], tables[k, span + j], tables[k, 2 * span + j] = fx, fx - f32(1), fade(row.fade, fx)
            loaded[k] = -2

        low, high = f32(np.inf), f32(-np.inf)
        for y in range(height):
            for k in range(row.terms):
                sx, sy = i64(row.cell[k, 0]), i64(row.cell[k, 1])
                p, q = i64(x0) // sx, (i64(y0) + y) // sy
                group = p // 4
                groups = ((i64(x0) + width - 1) // sx + 1) // 4 + 1 - group
                fy = fraction(row.phase, i64(y0) + y, sy)
                v = fade(row.fade, fy)
                for slot in range(plane_n[k]):
                    line = (k * SLOTS + slot) * 2 * 3 * stride
                    low_line = line + q % 2 * 3 * stride
                    high_line = line + (q + 1) % 2 * 3 * stride
                    if loaded[k] != q:
                        r = plane_r[k, slot]
                        if row.wrap[k] > 0:
                            r = r % row.wrap[k]
                        if loaded[k] != q - 1:
                            gradients(row, k, group, groups, q, r, words, lines[low_line:], stride)
                        gradients(row, k, group, groups, q + 1, r, words, lines[high_line:], stride)
                    along_y(lines, low_line, high_line, stride, 4 * groups, fy, v, coefficients)
                    at = (k * SLOTS + slot) * 2 * breadth
                    along_x(
                        coefficients, stride, 4 * group, i64(x0), width, sx, tables[k], planes[at:],
                        plane_q[k, slot], breadth,
                    )  # fmt: skip
                loaded[k] = q
            for i in range(t_count):
                if len(out) == 0:
                    low, high = extremes_along_t(
                        planes, offsets[i], weights[i], count[i], row.bias, low, high, width
                    )
                    continue
                at = ((n * frames + t_first + i) * height + y) * width
                along_t(planes, offsets[i], weights[i], count[i], row.bias, out, at, width)
                if flip:
                    for j in range(width // 2):
                        out[at + j], out[at + width - 1 - j] = out[at + width - 1 - j], out[at + j]
        if len(out) == 0:
            extremes[task, 0], extremes[task, 1] = low, high

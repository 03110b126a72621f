"""The kernel of motion clouds for numba. It follows `vpngen.generators.clouds` name by name; read that first.

What it adds is the order of the work. Rows of pixels, of all frames of a task one after the other, come four at a time. For
these the tables of a block of columns are turned from those of the row, sixteen waves at a time; then the block is a matrix
product in registers.
"""

from __future__ import annotations

import numpy as np

from vpngen import floats, rng
from vpngen.backends import simd
from vpngen.backends.compiled import kernel
from vpngen.backends.numba_perlin import aligned, of_quadrant, philox, put_row
from vpngen.backends.simd import (
    LANES,
    iadd,
    iand,
    imul_low,
    iota,
    ishl,
    ishr,
    isplat,
    isub,
    splat,
    vfloat,
    vfma,
    vless,
    vload,
    vmul,
    vneg,
    vselect,
    vstore,
    vsub,
    vtruncate,
)  # fmt: skip
from vpngen.generators import clouds

f32, i64, u32 = np.float32, np.int64, np.uint32
BLOCK = 48
"""Frames of a task, at most."""
DIVISIBLE = True
ROWS = 4
"""Rows of a matrix product: two sums for each stay in registers. More of them gained nothing."""
HALF, MOST = clouds.HALF, clouds.MOST_WAVES
MEAN = 510
MOST_FREQUENCY, MOST_TURN = f32(clouds.MOST_FREQUENCY), f32(clouds.MOST_TURN)
FIRST, SECOND = u32(rng.purpose_word(rng.PURPOSE_CLOUDS, 0)), u32(1)
E0, E1, E2, E3, E4, E5, E6, E7 = floats.EXP2


@kernel
def turn(angle):  # type: ignore[no-untyped-def]
    """See `vpngen.floats.turn`."""
    shifted = iadd(angle, isplat(u32(1 << 29)))
    f = vmul(vfloat(isub(iand(shifted, isplat(u32(0x3FFFFFFF))), isplat(u32(1 << 29)))), splat(f32(2**-30)))
    return of_quadrant(f, iand(shifted, isplat(u32(1 << 30))), iand(shifted, isplat(u32(1 << 31))))


@kernel
def exp2(x):  # type: ignore[no-untyped-def]
    """See `vpngen.floats.exp2`."""
    whole = simd.vfloor(simd.vadd(x, splat(f32(0.5))))
    f = vsub(x, whole)
    p = vfma(vfma(vfma(vfma(splat(E7), f, splat(E6)), f, splat(E5)), f, splat(E4)), f, splat(E3))
    p = vfma(vfma(vfma(p, f, splat(E2)), f, splat(E1)), f, splat(E0))
    return vmul(p, simd.vbits(ishl(iadd(vtruncate(whole), isplat(u32(127))), isplat(u32(23)))))


@kernel
def scores(word):  # type: ignore[no-untyped-def]
    low = isplat(u32(255))
    parts = iadd(iand(word, low), iand(ishr(word, isplat(u32(8))), low))
    parts = iadd(parts, iadd(iand(ishr(word, isplat(u32(16))), low), ishr(word, isplat(u32(24)))))
    return isub(parts, isplat(u32(MEAN)))


@kernel
def turns(cycles):  # type: ignore[no-untyped-def]
    return ishl(vtruncate(vmul(cycles, splat(f32(2**30)))), isplat(u32(2)))


@kernel
def waves(row, made):  # type: ignore[no-untyped-def]
    """phase, kx_half, ky and w of all waves into the four parts of `made`, each of MOST."""
    for i in range(0, row.waves, LANES):
        k, nothing, k0, k1 = iadd(isplat(u32(i)), iota()), isplat(u32(0)), row.key[0], row.key[1]
        phase, of_theta, of_f, _ = philox(k, nothing, nothing, isplat(FIRST), k0, k1)
        of_speed, of_sway, of_w, _ = philox(k, isplat(SECOND), nothing, isplat(FIRST), k0, k1)
        theta = of_theta
        if row.oriented:
            spread = imul_low(scores(of_theta), isplat(u32(row.orientation_spread)))
            theta = iadd(isplat(row.orientation), spread)
        sway = imul_low(scores(of_sway), isplat(u32(row.direction_spread)))
        speed = vmul(splat(row.speed), exp2(vmul(vfloat(scores(of_speed)), splat(row.speed_spread))))
        octaves = vmul(vfloat(scores(of_f)), splat(row.frequency_spread))
        f = vmul(splat(row.frequency), exp2(octaves))
        aliases = simd.ior(vless(splat(MOST_FREQUENCY), f), vless(splat(MOST_TURN), vmul(f, speed)))
        octaves = vselect(aliases, vneg(octaves), octaves)
        f = vmul(splat(row.frequency), exp2(octaves))

        sine, cosine = turn(theta)
        kx, ky = vmul(f, cosine), vneg(vmul(f, sine))
        sine, cosine = turn(iadd(isplat(row.direction), sway))
        across = vfma(kx, vmul(speed, cosine), vmul(ky, vneg(vmul(speed, sine))))
        change = vfma(splat(row.change), vmul(f, speed), splat(row.boiling))
        w = vfma(vfloat(scores(of_w)), change, vneg(across))
        vstore(made, i, phase)
        vstore(made, MOST + i, turns(vmul(splat(f32(0.5)), kx)))
        vstore(made, 2 * MOST + i, turns(ky))
        vstore(made, 3 * MOST + i, turns(w))


@kernel
def render(rows, windows, out, extent, size, first_task, last_task):  # type: ignore[no-untyped-def]
    """See `vpngen.backends.cpu`."""
    frames, height, width = extent
    blocks = (frames + size - 1) // size
    most_across = (width - 1) // (2 * HALF) + 2
    pitch = most_across * 2 * HALF
    made = np.zeros(4 * MOST, np.uint32)
    columns = aligned(MOST * 2 * LANES)
    turned = aligned(most_across * 2 * MOST)
    of_rows, of_block = aligned(ROWS * 2 * MOST), aligned(ROWS * 2 * MOST)
    levels = np.zeros(ROWS * pitch, np.uint8)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        t0, step, y0, x0, flip = windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3], windows[n, 4]
        t_first, t_count = block * size, min(size, frames - block * size)
        first, across = x0 // (2 * HALF), (x0 + width - 1) // (2 * HALF) - x0 // (2 * HALF) + 1
        waves(row, made)
        odd_numbers = iadd(ishl(iota(), isplat(u32(1))), isplat(u32(1)))
        for k in range(row.waves):
            sine, cosine = turn(imul_low(isplat(made[MOST + k]), odd_numbers))
            vstore(columns, 2 * LANES * k, cosine)
            vstore(columns, 2 * LANES * k + LANES, sine)
        for j in range(across):
            for k in range(0, row.waves, LANES):
                sine, cosine = turn(imul_low(vload(made, MOST + k), isplat(u32(4 * HALF * (first + j)))))
                vstore(turned, 2 * j * MOST + k, vmul(splat(row.gain), cosine))
                vstore(turned, (2 * j + 1) * MOST + k, vmul(splat(row.gain), sine))

        count = t_count * height
        for start in range(0, count, ROWS):
            for r in range(ROWS):
                t, y = t0 + (t_first + (start + r) // height) * step, y0 + (start + r) % height
                for k in range(0, row.waves, LANES):
                    a = iadd(vload(made, k), imul_low(vload(made, 2 * MOST + k), isplat(u32(y))))
                    B, A = turn(iadd(a, imul_low(vload(made, 3 * MOST + k), isplat(u32(t)))))
                    vstore(of_rows, 2 * r * MOST + k, A)
                    vstore(of_rows, (2 * r + 1) * MOST + k, B)
            for j in range(across):
                for k in range(0, row.waves, LANES):
                    cosine, sine = vload(turned, 2 * j * MOST + k), vload(turned, (2 * j + 1) * MOST + k)
                    for r in range(ROWS):
                        a, b = vload(of_rows, 2 * r * MOST + k), vload(of_rows, (2 * r + 1) * MOST + k)
                        vstore(of_block, 2 * r * MOST + k, vfma(a, cosine, vneg(vmul(b, sine))))
                        vstore(of_block, (2 * r + 1) * MOST + k, vfma(b, cosine, vmul(a, sine)))
                simd.mirrored_sums(ROWS, of_block, MOST, columns, i64(row.waves), row.bias, levels, 2 * HALF * j, pitch)
            at = ((n * frames + t_first) * height + start) * width
            for r in range(min(ROWS, count - start)):
                put_row(levels[r * pitch + x0 % (2 * HALF) :], out, at + r * width, width, flip)

"""The kernel of dead leaves for numba. It follows `vpngen.generators.leaves` name by name; read that first.

What it adds is the order of the work. A task is one block of frames of one window. In each frame shapes are placed, sixteen slots in
the lanes; those in sight go to a table, front to back. Each band of rows has for each sixteen columns the list of the shapes that may
reach there. Then sixteen pixels at a time go through their list until nothing behind is seen, and one noise serves whatever they show.
"""

from __future__ import annotations

import numpy as np

from vpngen import floats, rng
from vpngen.backends import simd
from vpngen.backends.compiled import kernel
from vpngen.backends.numba_leaves_known import known as known
from vpngen.backends.numba_perlin import aligned, lerp, philox, put_row
from vpngen.backends.simd import (
    LANES,
    iadd,
    iand,
    iany,
    ishl,
    ishr,
    isplat,
    isub,
    ixor,
    splat,
    spread,
    vadd,
    vfloat,
    vfma,
    vless,
    vload,
    vmax,
    vmin,
    vmul,
    vneg,
    vselect,
    vstore,
    vsub,
    vtruncate,
)  # fmt: skip
from vpngen.generators import leaves

f32, i64, u32 = np.float32, np.int64, np.uint32
BLOCK = 48
"""Frames of a task, at most: all shapes are drawn for the first of them."""
DIVISIBLE = True
BAND, TILE = 64, 8
"""Rows that are binned together, and rows of a tile: sixteen columns that have one list of shapes."""

LEAVES = u32(rng.purpose_word(rng.PURPOSE_LEAVES, 0))
GOLDEN, HASH_X, HASH_Y, HASH_Z = u32(leaves.GOLDEN), u32(leaves.HASH_X), u32(leaves.HASH_Y), u32(leaves.HASH_Z)
BOX, TRIANGLE, GROUND = u32(leaves.BOX), u32(leaves.TRIANGLE), u32(leaves.GROUND)
EDGES, SHARPS, CORNERS, FORMS = leaves.EDGES, leaves.SHARP, leaves.CORNERS, leaves.FORMS
SLACK, ROOT_HALF, ROOT_3_HALVES = leaves.SLACK, leaves.ROOT_HALF, f32(leaves.ROOT_3 / 2)
S0, S1, S2, S3 = floats.SIN
C0, C1, C2, C3, C4 = floats.COS
E0, E1, E2, E3, E4, E5, E6, E7 = floats.EXP2
ONE, TWO, HALF = f32(1), f32(2), f32(0.5)
ALL = u32(0xFFFFFFFF)

# Of `drawn`, a row each: what `leaves.Shapes` has, and what follows from the kind. Of `words` likewise.
(
    X, Y, RADIUS, GREY, VELOCITY_X, VELOCITY_Y, GAIN_X, GAIN_Y, GROWTH, WIDE, HIGH, CELLS, AMPLITUDE, SHARP, CORNER, EDGE, DRAWN,
) = range(17)  # fmt: skip
ANGLE, SPIN, SEED, KIND, GENERATION, WORDS = range(6)
# Of a shape in the table, and the first eight of `placed`: what pixels need of it.
AU, BU, CU, AV, BV, CV, TEXTURE, TO_EDGE, LEVEL, OF_U, OF_V, OF_U_TOO, OF_V_TOO, CURVE = range(14)
RECORD = 16
# The rest of `placed`.
AT_X, AT_Y, LEFT, RIGHT, TOP, BOTTOM, INNER, PLACED = range(8, 16)


@kernel
def exp2(x):  # type: ignore[no-untyped-def]
    whole = simd.vfloor(vadd(x, splat(HALF)))
    f = vsub(x, whole)
    p = vfma(vfma(vfma(splat(E7), f, splat(E6)), f, splat(E5)), f, splat(E4))
    p = vfma(vfma(vfma(vfma(p, f, splat(E3)), f, splat(E2)), f, splat(E1)), f, splat(E0))
    return vmul(p, simd.vbits(ishl(iadd(vtruncate(whole), isplat(u32(127))), isplat(u32(23)))))


@kernel
def turn(angle):  # type: ignore[no-untyped-def]
    shifted = iadd(angle, isplat(u32(1 << 29)))
    f = vmul(vfloat(isub(iand(shifted, isplat(u32(0x3FFFFFFF))), isplat(u32(1 << 29)))), splat(f32(2**-30)))
    z = vmul(f, f)
    s = vmul(f, vfma(z, vfma(z, vfma(z, splat(S3), splat(S2)), splat(S1)), splat(S0)))
    c = vfma(z, vfma(z, vfma(z, vfma(z, splat(C4), splat(C3)), splat(C2)), splat(C1)), splat(C0))
    quarter, half = iand(shifted, isplat(u32(0x40000000))), iand(shifted, isplat(u32(0x80000000)))
    s, c = vselect(quarter, c, s), vselect(quarter, vneg(s), c)
    return vselect(half, vneg(s), s), vselect(half, vneg(c), c)


@kernel
def low_half(word):  # type: ignore[no-untyped-def]
    return vmul(vfloat(iand(word, isplat(u32(0xFFFF)))), splat(f32(2**-16)))


@kernel
def high_half(word):  # type: ignore[no-untyped-def]
    return vmul(vfloat(ishr(word, isplat(u32(16)))), splat(f32(2**-16)))


@kernel
def centred(u):  # type: ignore[no-untyped-def]
    return vfma(u, splat(TWO), splat(f32(-1)))


@kernel
def unit(word):  # type: ignore[no-untyped-def]
    return vmul(vfloat(ishr(word, isplat(u32(8)))), splat(f32(2**-24)))


@kernel
def peaked(word):  # type: ignore[no-untyped-def]
    return vsub(vadd(low_half(word), high_half(word)), splat(ONE))


@kernel
def of_kind(kind, values):  # type: ignore[no-untyped-def]
    found = splat(values[0])
    for i in range(1, len(values)):
        found = vselect(ixor(kind, isplat(u32(i))), found, splat(values[i]))
    return found


@kernel
def draw(row, slot, generation, drawn, words, size, at):  # type: ignore[no-untyped-def]
    """Sixteen shapes into drawn[at:], words[at:] and what follows after `size` each."""
    k0, k1, purpose = row.key[0], row.key[1], isplat(LEAVES)
    w0, w1, w2, w3 = philox(slot, generation, isplat(u32(0)), purpose, k0, k1)
    w4, w5, w6, w7 = philox(slot, generation, isplat(u32(1)), purpose, k0, k1)
    w8, w9, w10, w11 = philox(slot, generation, isplat(u32(2)), purpose, k0, k1)
    shape = ixor(slot, isplat(u32(row.slots)))  # 0 for the ground
    none, one = splat(f32(0)), splat(ONE)
    x, y = centred(unit(w0)), centred(unit(w1))
    p = row.place
    px = vfma(splat(p[1, 0]), x, vfma(splat(p[2, 0]), y, splat(p[0, 0])))
    py = vfma(splat(p[1, 1]), x, vfma(splat(p[2, 1]), y, splat(p[0, 1])))
    radius = simd.vdiv(one, simd.vsqrt(vfma(unit(w2), splat(row.inverse[1]), splat(row.inverse[0]))))
    stretch = vmul(splat(row.stretch), centred(low_half(w10)))
    amplitude = vfma(splat(row.texture[1]), low_half(w11), splat(row.texture[0]))
    amplitude = vselect(simd.iless(w11, isplat(row.textured)), amplitude, none)
    grey = vfma(splat(row.gain), centred(unit(w3)), splat(row.mean))
    cells = vfma(splat(row.cells[1]), high_half(w10), splat(row.cells[0]))
    vstore(drawn, X * size + at, vselect(shape, px, none))
    vstore(drawn, Y * size + at, vselect(shape, py, none))
    vstore(drawn, RADIUS * size + at, vselect(shape, radius, splat(row.ground[1])))
    vstore(drawn, GREY * size + at, vselect(shape, grey, splat(row.ground[0])))
    vstore(drawn, VELOCITY_X * size + at, vselect(shape, vmul(splat(row.own), peaked(w4)), none))
    vstore(drawn, VELOCITY_Y * size + at, vselect(shape, vmul(splat(row.own), peaked(w5)), none))
    vstore(drawn, GAIN_X * size + at, vselect(shape, vmul(splat(row.gathered), centred(low_half(w6))), none))
    vstore(drawn, GAIN_Y * size + at, vselect(shape, vmul(splat(row.gathered), centred(high_half(w6))), none))
    vstore(drawn, GROWTH * size + at, vselect(shape, vmul(splat(row.growth), centred(low_half(w8))), none))
    vstore(drawn, WIDE * size + at, vselect(shape, exp2(stretch), one))
    vstore(drawn, HIGH * size + at, vselect(shape, exp2(vneg(stretch)), one))
    vstore(drawn, CELLS * size + at, vselect(shape, cells, one))
    vstore(drawn, AMPLITUDE * size + at, vselect(shape, amplitude, splat(row.ground[2])))
    kind = simd.iselect(shape, ishr(w8, isplat(u32(30))), isplat(GROUND))
    vstore(drawn, SHARP * size + at, of_kind(kind, SHARPS))
    vstore(drawn, CORNER * size + at, of_kind(kind, CORNERS))
    vstore(drawn, EDGE * size + at, of_kind(kind, EDGES))
    vstore(words, ANGLE * size + at, w7)
    spin = vselect(shape, vmul(splat(row.turning), peaked(w9)), none)
    vstore(words, SPIN * size + at, vtruncate(spin))
    vstore(words, SEED * size + at, ixor(w7, w0))
    vstore(words, KIND * size + at, kind)
    vstore(words, GENERATION * size + at, generation)


@kernel
def extent(kind, a, b, outer):  # type: ignore[no-untyped-def]
    side, half = vmax(simd.vabs(a), simd.vabs(b)), splat(HALF)
    circle = simd.vsqrt(vadd(vmul(a, a), vmul(b, b)))
    root = vmul(splat(ROOT_3_HALVES), simd.vabs(b))
    other = vselect(ixor(kind, isplat(BOX)), circle, side)
    polygon = ixor(kind, isplat(TRIANGLE))  # 0 for a triangle
    high = vselect(polygon, other, vmax(vadd(vmul(half, a), root), vneg(a)))
    low = vselect(polygon, other, vmax(vsub(root, vmul(half, a)), a))
    slack = splat(SLACK)
    return vneg(vadd(vmul(outer, low), slack)), vadd(vmul(outer, high), slack)


@kernel
def place(row, age, shape, drawn, words, size, at, placed):  # type: ignore[no-untyped-def]
    """Where sixteen shapes are at an age, into placed[at:] and what follows after `size` each; `shape` is 0 for the ground."""
    one = splat(ONE)
    years = vadd(vfloat(age), splat(HALF))
    rest = vsub(splat(f32(row.life)), years)
    grown = vmin(vmul(vmin(years, rest), splat(row.ends)), one)

    steps = isub(iadd(age, age), isplat(u32(row.life - 1)))
    h = vfloat(steps)
    zoom = vmul(splat(row.zoom), h)
    sine, cosine = turn(simd.imul_low(steps, isplat(u32(row.spin))))
    across, down = vmul(splat(row.shear[0]), h), vmul(splat(row.shear[1]), h)
    qx = vfma(vload(drawn, GAIN_X * size + at), h, vload(drawn, VELOCITY_X * size + at))
    qy = vfma(vload(drawn, GAIN_Y * size + at), h, vload(drawn, VELOCITY_Y * size + at))
    qx, qy = vfma(qx, h, vload(drawn, X * size + at)), vfma(qy, h, vload(drawn, Y * size + at))
    rx, ry = vfma(across, qy, qx), vfma(down, qx, qy)
    scale = exp2(zoom)
    x = vfma(scale, vfma(cosine, rx, vmul(sine, ry)), vfma(splat(row.velocity[0]), h, splat(row.centre[0])))
    y = vfma(scale, vfma(cosine, ry, vneg(vmul(sine, rx))), vfma(splat(row.velocity[1]), h, splat(row.centre[1])))

    radius = vload(drawn, RADIUS * size + at)
    radius = vselect(shape, vmul(radius, grown), radius)
    smaller = simd.vdiv(exp2(vneg(vfma(vload(drawn, GROWTH * size + at), h, zoom))), radius)
    larger = simd.vdiv(one, smaller)
    spin = iadd(isplat(u32(row.spin)), vload(words, SPIN * size + at))
    sine, cosine = turn(iadd(vload(words, ANGLE * size + at), simd.imul_low(steps, spin)))
    wide, high = vload(drawn, WIDE * size + at), vload(drawn, HIGH * size + at)
    cells = vload(drawn, CELLS * size + at)
    of_u, of_v = vmul(vmul(smaller, high), cells), vmul(vmul(smaller, wide), cells)
    cu, su, sv, cv = vmul(cosine, of_u), vneg(vmul(sine, of_u)), vmul(sine, of_v), vmul(cosine, of_v)
    au, bu = vfma(vneg(down), su, cu), vfma(vneg(across), cu, su)
    av, bv = vfma(vneg(down), cv, sv), vfma(vneg(across), sv, cv)
    other, root = ixor(vload(words, KIND * size + at), isplat(BOX)), splat(ROOT_HALF)  # 0 for a box
    au, av = vselect(other, au, vmul(vadd(au, av), root)), vselect(other, av, vmul(vsub(av, au), root))
    bu, bv = vselect(other, bu, vmul(vadd(bu, bv), root)), vselect(other, bv, vmul(vsub(bv, bu), root))

    sharp = vselect(shape, vmul(larger, vload(drawn, SHARP * size + at)), one)
    kind = vload(words, KIND * size + at)
    det = vsub(vmul(au, bv), vmul(bu, av))
    outer = vmul(vmul(vload(drawn, CORNER * size + at), cells), vadd(one, simd.vdiv(splat(HALF), sharp)))
    outer = simd.vdiv(outer, simd.vabs(det))
    flip = vselect(vless(det, splat(f32(0))), splat(f32(-1)), one)
    left, right = extent(kind, vmul(bv, flip), vmul(vneg(bu), flip), outer)
    top, bottom = extent(kind, vmul(vneg(av), flip), vmul(au, flip), outer)
    least = simd.vdiv(vmin(wide, high), vadd(one, vadd(simd.vabs(across), simd.vabs(down))))
    inner = vsub(vmul(larger, vload(drawn, EDGE * size + at)), one)
    amplitude = vload(drawn, AMPLITUDE * size + at)
    vstore(placed, AU * size + at, au)
    vstore(placed, BU * size + at, bu)
    vstore(placed, CU * size + at, vneg(vfma(au, x, vmul(bu, y))))
    vstore(placed, AV * size + at, av)
    vstore(placed, BV * size + at, bv)
    vstore(placed, CV * size + at, vneg(vfma(av, x, vmul(bv, y))))
    vstore(placed, TEXTURE * size + at, vselect(shape, amplitude, vmul(amplitude, grown)))
    vstore(placed, TO_EDGE * size + at, sharp)
    vstore(placed, AT_X * size + at, x)
    vstore(placed, AT_Y * size + at, y)
    vstore(placed, LEFT * size + at, vadd(x, left))
    vstore(placed, RIGHT * size + at, vadd(x, right))
    vstore(placed, TOP * size + at, vadd(y, top))
    vstore(placed, BOTTOM * size + at, vadd(y, bottom))
    vstore(placed, INNER * size + at, vsub(vmul(least, inner), splat(SLACK)))


@kernel
def in_sight(row, placed, drawn, words, size, x0, y0, width, height, table, seeds, slots):  # type: ignore[no-untyped-def]
    """Shapes that may reach into a frame, front to back, and the ground after them, into the table. Returns how many, without it."""
    found = 0
    left, right, top, bottom = f32(x0), f32(x0 + width - 1), f32(y0), f32(y0 + height - 1)
    for k in range(row.slots + 1):
        if k < row.slots and not (
            placed[RIGHT * size + k] >= left and placed[LEFT * size + k] <= right
            and placed[BOTTOM * size + k] >= top and placed[TOP * size + k] <= bottom
        ):  # fmt: skip
            continue
        at, kind = found * RECORD, words[KIND * size + k]
        for i in range(TO_EDGE):
            table[at + i] = placed[i * size + k]
        sharp, finer = placed[TO_EDGE * size + k], ONE / drawn[CELLS * size + k]
        table[at + TO_EDGE] = sharp + HALF
        table[at + LEVEL] = drawn[GREY * size + k]
        for i in range(5):
            table[at + OF_U + i] = FORMS[kind, i] * (finer * sharp)
        table[at + CURVE] *= finer
        seeds[found], slots[found] = words[SEED * size + k], k
        found += 1
    return found - 1


@kernel
def tile_of(place, size):  # type: ignore[no-untyped-def]
    return i64(np.floor(place * f32(1 / size)))


@kernel
def bin_band(placed, size, slots, found, x0, y, rows, tiles, lists, capacity, counts, closed):  # type: ignore[no-untyped-def]
    """Into the list of each tile of a band the shapes that may reach there, front to back, until one hides all.

    A tile is sixteen columns of `TILE` rows; the band begins at row y and column x0, with `tiles` tiles across.
    """
    down_tiles = (rows + TILE - 1) // TILE
    for tile in range(tiles * down_tiles):
        counts[tile], closed[tile] = 0, False
    left, top = f32(x0), f32(y)
    for i in range(found):
        k = slots[i]
        x, y_ = placed[AT_X * size + k] - left, placed[AT_Y * size + k] - top
        first = max(tile_of(placed[LEFT * size + k] - left, LANES), 0)
        last = min(tile_of(placed[RIGHT * size + k] - left, LANES), tiles - 1)
        upper = max(tile_of(placed[TOP * size + k] - top, TILE), 0)
        lower = min(tile_of(placed[BOTTOM * size + k] - top, TILE), down_tiles - 1)
        inner = placed[INNER * size + k]
        for j in range(upper, lower + 1):
            dy = abs(y_ - f32(j * TILE + (TILE - 1) / 2)) + f32((TILE - 1) / 2)
            room = inner * inner - dy * dy if inner > dy else f32(0)
            for tile in range(j * tiles + first, j * tiles + last + 1):
                if closed[tile]:
                    continue
                lists[tile * capacity + counts[tile]] = i
                counts[tile] += 1
                dx = abs(x - f32((tile - j * tiles) * LANES + (LANES - 1) / 2)) + f32((LANES - 1) / 2)
                closed[tile] = dx * dx < room


@kernel
def at_corner(h):  # type: ignore[no-untyped-def]
    return vfloat(simd.imul_low(ixor(h, ishr(h, isplat(u32(15)))), isplat(HASH_Z)))


@kernel
def fade(f):  # type: ignore[no-untyped-def]
    return vmul(vmul(f, f), vfma(splat(f32(-2)), f, splat(f32(3))))


@kernel
def noise(u, v, seed):  # type: ignore[no-untyped-def]
    p, q = simd.vfloor(u), simd.vfloor(v)
    hx, hy = isplat(HASH_X), isplat(HASH_Y)
    h = iadd(iadd(simd.imul_low(vtruncate(p), hx), simd.imul_low(vtruncate(q), hy)), seed)
    hu, hv = iadd(h, hx), iadd(h, hy)
    su, sv = fade(vsub(u, p)), fade(vsub(v, q))
    near, far = lerp(at_corner(h), at_corner(hu), su), lerp(at_corner(hv), at_corner(iadd(hu, hy)), su)
    return lerp(near, far, sv)


@kernel
def paint(  # type: ignore[no-untyped-def]
    table, seeds, ground, lists, capacity, counts, closed, x0, y0, rows, tiles, of_rows, levels, out, at, width, flip
):
    """A band of rows into out[at:], from row y0 and column x0 on; `of_rows` is for what u and v of a shape are at column 0 of each row."""
    zero, one, half = splat(f32(0)), splat(ONE), splat(HALF)
    straight, breadth = width % LANES == 0 and not flip, tiles * LANES
    for first in range(0, rows, TILE):
        y = vfloat(iadd(isplat(u32(y0 + first)), simd.iota()))
        for i in range(tiles):
            tile = first // TILE * tiles + i
            count = counts[tile]
            for entry in range(count):
                c = i64(lists[tile * capacity + entry]) * RECORD
                vstore(of_rows, 2 * LANES * entry, vfma(spread(table, c + BU), y, spread(table, c + CU)))
                vstore(of_rows, 2 * LANES * entry + LANES, vfma(spread(table, c + BV), y, spread(table, c + CV)))
            x = vfloat(iadd(isplat(u32(x0 + i * LANES)), simd.iota()))
            for j in range(min(TILE, rows - first)):
                left, grey, weight, texture, u_seen, v_seen, seed = one, zero, zero, zero, zero, zero, isplat(u32(0))
                for entry in range(count):
                    k = i64(lists[tile * capacity + entry])
                    c = k * RECORD
                    u = vfma(spread(table, c + AU), x, spread(of_rows, 2 * LANES * entry + j))
                    v = vfma(spread(table, c + AV), x, spread(of_rows, 2 * LANES * entry + LANES + j))
                    up, curve = simd.vabs(v), spread(table, c + CURVE)
                    d = vfma(spread(table, c + OF_V), up, vmul(spread(table, c + OF_U), u))
                    bend = vmul(up, vfma(curve, up, spread(table, c + OF_V_TOO)))
                    d = vmax(d, vfma(u, vfma(curve, u, spread(table, c + OF_U_TOO)), bend))
                    w = vmul(left, vmin(vmax(vsub(spread(table, c + TO_EDGE), d), zero), one))
                    grey = vfma(w, spread(table, c + LEVEL), grey)
                    seen = vless(half, left)
                    weight, texture = vselect(seen, w, weight), vselect(seen, spread(table, c + TEXTURE), texture)
                    u_seen, v_seen = vselect(seen, u, u_seen), vselect(seen, v, v_seen)
                    seed = simd.iselect(seen, isplat(seeds[k]), seed)
                    left = vsub(left, w)
                if not closed[tile]:
                    c = ground * RECORD
                    u = vfma(
                        spread(table, c + AU),
                        x,
                        vfma(spread(table, c + BU), splat(f32(y0 + first + j)), spread(table, c + CU)),
                    )
                    v = vfma(
                        spread(table, c + AV),
                        x,
                        vfma(spread(table, c + BV), splat(f32(y0 + first + j)), spread(table, c + CV)),
                    )
                    grey, seen = vfma(left, spread(table, c + LEVEL), grey), vless(half, left)
                    weight, texture = vselect(seen, left, weight), vselect(seen, spread(table, c + TEXTURE), texture)
                    u_seen, v_seen = vselect(seen, u, u_seen), vselect(seen, v, v_seen)
                    seed = simd.iselect(seen, isplat(seeds[ground]), seed)
                weight = vmul(weight, texture)
                if iany(vless(zero, weight)):
                    grey = vfma(weight, noise(u_seen, v_seen, seed), grey)
                grey = vmin(vmax(grey, zero), splat(f32(255)))
                if straight:
                    simd.vstore_bytes(out, at + (first + j) * width + i * LANES, grey)
                else:
                    simd.vstore_bytes(levels, j * breadth + i * LANES, grey)
        if not straight:
            for j in range(min(TILE, rows - first)):
                put_row(levels[j * breadth :], out, at + (first + j) * width, width, flip)


@kernel
def render(rows, windows, out, extent, size, first_task, last_task):  # type: ignore[no-untyped-def]
    """See `vpngen.backends.cpu`."""
    frames, height, width = extent
    blocks = (frames + size - 1) // size
    tiles = (width + LANES - 1) // LANES
    most = 0
    for n in range(first_task // blocks, (last_task + blocks - 1) // blocks):
        most = max(most, rows[n].slots + 1)
    slots = (most + LANES - 1) // LANES * LANES
    drawn, placed = aligned(DRAWN * slots), aligned(PLACED * slots)
    words = np.zeros(WORDS * slots, np.uint32)
    table, seeds, in_slots = aligned(most * RECORD), np.zeros(most, np.uint32), np.zeros(most, np.int64)
    of_band = tiles * (min(BAND, height + TILE - 1) // TILE)
    lists, counts, closed = np.empty(of_band * most, np.int16), np.zeros(of_band, np.int64), np.zeros(of_band, np.bool_)
    levels, of_rows = np.zeros(TILE * tiles * LANES, np.uint8), aligned(2 * LANES * most)

    for task in range(first_task, last_task):
        n, block = task // blocks, task % blocks
        row = rows[n]
        t0, step, x0, y0, flip = (
            i64(windows[n, 0]),
            i64(windows[n, 1]),
            i64(windows[n, 3]),
            i64(windows[n, 2]),
            windows[n, 4],
        )
        words[GENERATION * slots :] = ALL
        for i in range(block * size, min((block + 1) * size, frames)):
            t = t0 + i * step
            whole, part, life = t // row.life, t % row.life, isplat(u32(row.life))
            for k in range(0, row.slots + 1, LANES):
                slot = iadd(isplat(u32(k)), simd.iota())
                ahead = iadd(simd.imul_high(simd.imul_low(slot, isplat(GOLDEN)), life), isplat(u32(part)))
                young = simd.iless(ahead, life)
                generation = simd.iselect(young, isplat(u32(whole)), isplat(u32(whole + 1)))
                age = simd.iselect(young, ahead, isub(ahead, life))
                if iany(ixor(generation, vload(words, GENERATION * slots + k))):
                    draw(row, slot, generation, drawn, words, slots, k)
                place(row, age, ixor(slot, isplat(u32(row.slots))), drawn, words, slots, k, placed)
            found = in_sight(row, placed, drawn, words, slots, x0, y0, width, height, table, seeds, in_slots)
            for y in range(0, height, BAND):
                count, at = min(BAND, height - y), ((n * frames + i) * height + y) * width
                bin_band(placed, slots, in_slots, found, x0, y0 + y, count, tiles, lists, most, counts, closed)
                paint(
                    table,
                    seeds,
                    found,
                    lists,
                    most,
                    counts,
                    closed,
                    x0,
                    y0 + y,
                    count,
                    tiles,
                    of_rows,
                    levels,
                    out,
                    at,
                    width,
                    flip,
                )

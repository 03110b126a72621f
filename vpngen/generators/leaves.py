"""Dead leaves in motion: opaque shapes that hide each other, carried by a common motion; categories, params and the reference formula.

The dead leaves model (Matheron 1968; Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001) with shapes that move, after
Yu, Chen and Gandelsman, "Learning Video Representations without Natural Videos" (2024). The category is the common motion, its speed and
the size of shapes.

Slot k of a video has one shape after the other, each for `life` frames; slots change at different frames. A shape is drawn from the
key, its slot and its generation, so any frame can be made alone, and the last frames of a video are like the first. It grows from
nothing and shrinks to nothing at the ends of its life. A translation carries it from one side of the frame to the other in a life.

The formula, in the order in which it is computed (float32; `fma` is the fused multiply-add), for frame t and slot k:

    n = t + phase_k,  g = n // life,  age = n % life        the generation, and the frames since its first
    h = 2 age - (life - 1)                                  half frames since the middle of its life
    q = place + (v + a h) h                                 its middle in the plane that the common motion carries
    centre = fixed point + V h + M(h) q                     in the frame; M rotates, zooms or shears
    (u, v) = S^-1 ((x, y) - centre)                         pixel (x, y) in the coordinates of the shape, in cells of its texture
    d = max(c u + s |v|, (r u + c') u + (r |v| + s') |v|)   S at its edge: pixels from there to the middle
    alpha = min(max(1/2 + S - d, 0), 1)                     so that edges are about a pixel wide
    w = left alpha,  grey += w G,  left -= w                front to back, from left = 1; slot 0 is in front
    grey += w amplitude noise(u, v)                         of the one that is seen: that at which left falls to 1/2 or below

Behind all of them lies a ground that fills the frame. Its texture is drawn anew as shapes are, and fades in and out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, field, keep
from vpngen.floats import F32, exp2, fma, lerp, turn
from vpngen.generators.base import Factor, Parameter, Progress, uniform
from vpngen.generators.motion import (
    F64,
    LN_2,
    Affine,
    Motion,
    Params,
    around,
    check_counts,
    motion_counts,
    span,
    values,
    view,
)  # fmt: skip
from vpngen.rng import Integers, Words

KINDS: Final = ("disc", "box", "triangle", "segment")
DISC, BOX, TRIANGLE, SEGMENT, GROUND = range(5)
"""A segment is what a chord leaves of a disc, at half its radius."""
EDGES: Final = np.array([1, 0.8862269254527579, 0.7775601507781073, 0.5574517453948062, 0], np.float32)
"""How far from the middle the nearest edge is, in parts of the radius: all kinds have the area of the disc."""
SHARP: Final = np.array([0.5, *EDGES[1:4], 0], np.float32)
"""Parts of the radius in a unit of d, at the edge."""
CORNERS: Final = np.array([1, 1.2533141373155003, 1.5551203015562145, 1.1149034907896125, 0], np.float32)
"""How far the farthest point is."""
FORMS: Final = np.array(
    [
        (0, 0, 0, 0, 1),
        (0.7978845608028653, 0.7978845608028653, -0.7978845608028653, 0.7978845608028653, 0),
        (1.2860741371574873, 0, -0.6430370685787437, 1.1137728739285364, 0),
        (1.7938772427589513, 0, 0, 0, 0.8044988905221144),
        (0, 0, 0, 0, 0),
    ],
    np.float32,
)
"""c, s, c', s', r of the edges of a kind, above its axis of symmetry; a box stands on a corner."""
ROOT_HALF: Final = np.float32(0.7071067811865476)

SLACK: Final = np.float32(0.25)
"""Pixels for what rounding does to bounds."""

HASH_X: Final = 0x9E3779B1
HASH_Y: Final = 0x85EBCA77
HASH_Z: Final = 0x2C1B3C6D
NOISE: Final = 2.34 / 2**31
"""One over the std of the noise, whose lattice has uniform 32-bit integers."""
GOLDEN: Final = 0x9E3779B1
"""How far, in parts of 2**32 of a life, the next slot is ahead: any number of slots is spread evenly."""

LEAST_LIFE: Final = 8
LONGEST_LIFE: Final = 4096
"""Frames."""
TURNING_LIFE: Final = 96
"""Frames in which shapes come and go where the motion is a rotation, which carries none of them out of sight."""
SPAN: Final = 1.4
"""In a life, shapes zoom by exp(SPAN) or shear by sqrt(2) SPAN: longer ones would leave the sizes of the category."""
ENDS: Final = 6
"""A shape grows for one part of so many of its life, and shrinks for one."""
COMING: Final = 1 - 4 / 3 / ENDS
"""The part of its area that a shape has in the mean over its life."""
CENTRE: Final = 5 / 32
"""How far the fixed point may be from the middle of the frame, in parts of the view."""
MARGIN: Final = 1.3
"""Beyond the frame, in parts of the largest radius: what is drawn there may reach into it."""
MOST_SLOTS: Final = 8192
ROOT_3: Final = 1.7320508075688772
DEGREES: Final = 2.0**32 / 360


class Shapes(NamedTuple):
    """What is drawn for shapes, once in a life: arrays (K,).

    `angle` and `spin` are in 2**-32 turns, the latter a half frame; `wide` is what u is stretched by, `high` its inverse; `cells`
    are those of its texture in its radius, `finer` is one over that.
    """

    kind: Integers
    x: F32
    y: F32
    radius: F32
    grey: F32
    velocity_x: F32
    velocity_y: F32
    gain_x: F32
    gain_y: F32
    angle: Words
    spin: npt.NDArray[np.int32]
    growth: F32
    wide: F32
    high: F32
    cells: F32
    finer: F32
    amplitude: F32
    seed: Words


class Places(NamedTuple):
    """Where shapes are in a frame: arrays (K,).

    (u, v) = (au x + bu y + cu, av x + bv y + cv). `forms` are the c, s, c', s', r of the edges, (K, 5); `sharp` is S. Alpha is 0 beyond
    `left`, `right`, `top` and `bottom`, and 1 nearer to the middle (x, y) than `inner`.
    """

    au: F32
    bu: F32
    cu: F32
    av: F32
    bv: F32
    cv: F32
    forms: F32
    sharp: F32
    amplitude: F32
    x: F32
    y: F32
    left: F32
    right: F32
    top: F32
    bottom: F32
    inner: F32


def unit(word: Words) -> F32:
    """In [0, 1)."""
    return (word >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def both(word: Words) -> F32:
    """In [-1, 1)."""
    return fma(unit(word), np.float32(2), np.float32(-1))


def low_half(word: Words) -> F32:
    """Of a word, in [0, 1)."""
    return (word & np.uint32(0xFFFF)).astype(np.float32) * np.float32(2**-16)


def high_half(word: Words) -> F32:
    """Of a word, in [0, 1)."""
    return (word >> np.uint32(16)).astype(np.float32) * np.float32(2**-16)


def centred(u: F32) -> F32:
    """In [-1, 1)."""
    return fma(u, np.float32(2), np.float32(-1))


def peaked(word: Words) -> F32:
    """In [-1, 1), values near 0 the likeliest: the sum of its halves."""
    return (low_half(word) + high_half(word)) - np.float32(1)


def phases(params: np.void, slots: Integers) -> Integers:
    """How many frames a life of slots (K,) is ahead."""
    word = slots.astype(np.uint32) * np.uint32(GOLDEN)
    return rng.choose(word, int(params["life"]))


def lives(params: np.void, slots: Integers, t: int | Integers) -> tuple[Integers, Integers]:
    """Generation and age of slots (K,) at a frame, or at frames (T, 1): (K,) or (T, K)."""
    n = t + phases(params, slots)
    return n // int(params["life"]), n % int(params["life"])


def draw(params: np.void, slots: Integers, generations: Integers) -> Shapes:
    """The shapes of slots (K,) in generations (K,)."""
    w = [rng.philox4x32(rng.counters(rng.PURPOSE_LEAVES, 0, slots, generations, i), params["key"]).T for i in range(3)]
    (w0, w1, w2, w3), (w4, w5, w6, w7), (w8, w9, w10, w11) = w
    ground = slots == params["slots"]
    base, first, second = params["place"]
    x, y = both(w0), both(w1)
    radius = np.float32(1) / np.sqrt(fma(unit(w2), params["inverse"][1], params["inverse"][0]))
    stretch = params["stretch"] * centred(low_half(w10))
    textured = w11 < params["textured"]
    amplitude = np.where(textured, fma(params["texture"][1], low_half(w11), params["texture"][0]), np.float32(0))
    cells = np.where(ground, np.float32(1), fma(params["cells"][1], high_half(w10), params["cells"][0]))
    none = np.float32(0)
    return Shapes(
        np.where(ground, GROUND, (w8 >> np.uint32(30)).astype(np.int64)),
        np.where(ground, none, fma(first[0], x, fma(second[0], y, base[0]))),
        np.where(ground, none, fma(first[1], x, fma(second[1], y, base[1]))),
        np.where(ground, params["ground"][1], radius),
        np.where(ground, params["ground"][0], fma(params["gain"], both(w3), params["mean"])),
        np.where(ground, none, params["own"] * peaked(w4)),
        np.where(ground, none, params["own"] * peaked(w5)),
        np.where(ground, none, params["gathered"] * centred(low_half(w6))),
        np.where(ground, none, params["gathered"] * centred(high_half(w6))),
        w7,
        np.where(ground, none, params["turning"] * peaked(w9)).astype(np.int32),
        np.where(ground, none, params["growth"] * centred(low_half(w8))),
        np.where(ground, np.float32(1), exp2(stretch)),
        np.where(ground, np.float32(1), exp2(-stretch)),
        cells,
        np.divide(np.float32(1), cells, dtype=np.float32),
        np.where(ground, params["ground"][2], amplitude),
        w7 ^ w0,
    )


def coming(params: np.void, ages: Integers) -> F32:
    """Of what is full-grown, at ages (K,): in (0, 1] while it lives."""
    age = ages.astype(np.float32) + np.float32(0.5)
    left = np.float32(params["life"]) - age
    return np.asarray(np.minimum(np.minimum(age, left) * params["ends"], np.float32(1)))


def place(params: np.void, s: Shapes, ages: Integers, grown: F32) -> Places:
    """Where shapes are at ages (K,), of which so much is `grown`."""
    ground = s.kind == GROUND
    steps = (2 * ages - (int(params["life"]) - 1)).astype(np.int32)
    h = steps.astype(np.float32)
    zoom = params["zoom"] * h
    sine, cosine = turn((steps * params["spin"]).astype(np.uint32))
    across, down = params["shear"][0] * h, params["shear"][1] * h
    qx, qy = fma(fma(s.gain_x, h, s.velocity_x), h, s.x), fma(fma(s.gain_y, h, s.velocity_y), h, s.y)
    rx, ry = fma(across, qy, qx), fma(down, qx, qy)
    scale = exp2(zoom)
    x = fma(scale, fma(cosine, rx, sine * ry), fma(params["velocity"][0], h, params["centre"][0]))
    y = fma(scale, fma(cosine, ry, -(sine * rx)), fma(params["velocity"][1], h, params["centre"][1]))

    size = np.where(ground, s.radius, s.radius * grown)
    smaller = np.divide(exp2(-fma(s.growth, h, zoom)), size, dtype=np.float32)
    larger = np.divide(np.float32(1), smaller, dtype=np.float32)
    sine, cosine = turn(s.angle + (steps * (params["spin"] + s.spin)).astype(np.uint32))
    of_u, of_v = (smaller * s.high) * s.cells, (smaller * s.wide) * s.cells
    cu, su, sv, cv = cosine * of_u, -(sine * of_u), sine * of_v, cosine * of_v
    au, bu = fma(-down, su, cu), fma(-across, cu, su)
    av, bv = fma(-down, cv, sv), fma(-across, sv, cv)
    box = s.kind == BOX
    au, av = np.where(box, (au + av) * ROOT_HALF, au), np.where(box, (av - au) * ROOT_HALF, av)
    bu, bv = np.where(box, (bu + bv) * ROOT_HALF, bu), np.where(box, (bv - bu) * ROOT_HALF, bv)

    sharp = np.where(ground, np.float32(1), larger * SHARP[s.kind])
    forms = FORMS[s.kind] * (s.finer * sharp)[:, None]
    forms[:, 4] *= s.finer
    det = au * bv - bu * av
    beyond = np.float32(1) + np.divide(np.float32(0.5), sharp, dtype=np.float32)
    outer = np.divide((CORNERS[s.kind] * s.cells) * beyond, np.abs(det), dtype=np.float32)
    flip = np.where(det < 0, np.float32(-1), np.float32(1))
    left, right = extent(s.kind, bv * flip, -bu * flip, outer)
    top, bottom = extent(s.kind, -av * flip, au * flip, outer)
    least = np.minimum(s.wide, s.high) / (np.float32(1) + (np.abs(across) + np.abs(down)))
    return Places(
        au, bu, -fma(au, x, bu * y), av, bv, -fma(av, x, bv * y),
        forms, sharp,
        np.where(ground, s.amplitude * grown, s.amplitude),
        x, y,
        x + left, x + right, y + top, y + bottom,
        least * (larger * EDGES[s.kind] - np.float32(1)) - SLACK,
    )  # fmt: skip


def extent(kind: Integers, a: F32, b: F32, outer: F32) -> tuple[F32, F32]:
    """From where to where shapes lie along an axis, from their middle; a and b are what u and v add to it."""
    half, root = np.float32(0.5) * a, np.float32(ROOT_3 / 2) * np.abs(b)
    other = np.where(kind == BOX, np.maximum(np.abs(a), np.abs(b)), np.sqrt(a * a + b * b))
    high = np.where(kind == TRIANGLE, np.maximum(half + root, -a), other)
    low = np.where(kind == TRIANGLE, np.maximum(root - half, a), other)
    return -(outer * low + SLACK), outer * high + SLACK


def opacity(at: Places, k: int, x: npt.ArrayLike, y: npt.ArrayLike) -> F32:
    """alpha of shape k at pixels, or between them."""
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    u, v = fma(at.au[k], x, fma(at.bu[k], y, at.cu[k])), fma(at.av[k], x, fma(at.bv[k], y, at.cv[k]))
    c, s, to_c, to_s, curve = at.forms[k]
    up = np.abs(v)
    d = np.maximum(fma(s, up, c * u), fma(u, fma(curve, u, to_c), up * fma(curve, up, to_s)))
    return np.asarray(np.minimum(np.maximum((at.sharp[k] + np.float32(0.5)) - d, np.float32(0)), np.float32(1)))


def noise(u: F32, v: F32, seed: Words) -> F32:
    """Value noise of the plane: random numbers on a lattice, between them smooth; its std is 1 / NOISE."""
    p, q = np.floor(u), np.floor(v)
    X, Y = np.uint32(HASH_X), np.uint32(HASH_Y)
    h = (p.astype(np.int32).view(np.uint32) * X + q.astype(np.int32).view(np.uint32) * Y) + seed
    near, near_x, far, far_x = (at_corner(corner) for corner in (h, h + X, h + Y, (h + X) + Y))
    su, sv = fade(u - p), fade(v - q)
    return lerp(lerp(near, near_x, su), lerp(far, far_x, su), sv)


def at_corner(h: Words) -> F32:
    """A signed 32-bit integer for each hash."""
    return ((h ^ (h >> np.uint32(15))) * np.uint32(HASH_Z)).view(np.int32).astype(np.float32)


def fade(f: F32) -> F32:
    """3 f^2 - 2 f^3."""
    return f * f * fma(np.float32(-2), f, np.float32(3))


def between(low: np.float32, high: np.float32, i: Integers) -> slice:
    """Those of ascending rows or columns `i` from low to high."""
    return slice(*np.searchsorted(i, (float(low), float(high))))


def shown(params: np.void, t: int, y: Integers, x: Integers) -> tuple[F32, Integers]:
    """A frame before it is clamped, and the slot that each pixel shows, the last for the ground: (Y, X) both."""
    slots = np.arange(int(params["slots"]) + 1)
    generations, ages = lives(params, slots, t)
    s = draw(params, slots, generations)
    at = place(params, s, ages, coming(params, ages))
    size = len(y), len(x)
    left, grey, weight = np.ones(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    which = np.full(size, -1)
    fx, fy = x.astype(np.float32), y.astype(np.float32)[:, None]
    near = (at.right >= x[0]) & (at.left <= x[-1]) & (at.bottom >= y[0]) & (at.top <= y[-1])
    for k in slots[near | (s.kind == GROUND)]:
        part = between(at.top[k], at.bottom[k], y), between(at.left[k], at.right[k], x)
        if s.kind[k] == GROUND:
            part = slice(None), slice(None)
        if not left[part].any():
            continue
        w = left[part] * opacity(at, k, fx[part[1]], fy[part[0]])
        grey[part] = fma(w, s.grey[k], grey[part])
        seen = left[part] > np.float32(0.5)
        weight[part] = np.where(seen, w * at.amplitude[k], weight[part])
        which[part] = np.where(seen, k, which[part])
        left[part] = left[part] - w
    u = fma(at.au[which], fx, fma(at.bu[which], fy, at.cu[which]))
    v = fma(at.av[which], fx, fma(at.bv[which], fy, at.cv[which]))
    return fma(weight, noise(u, v, s.seed[which]), grey), which


def led_to(
    params: np.void, t: int, step: int, y: Integers, x: Integers, which: Integers
) -> tuple[F64, npt.NDArray[np.bool]]:
    """Where what is seen at frame `t` is `step` frames later, (Y, X, 2) as x and y, and whether it is gone by then, (Y, X).

    The motion of a shape that is gone is that of its middle and turning, its size what the motion makes of it.
    """
    slots = np.arange(int(params["slots"]) + 1)
    generations, ages = lives(params, slots, t)
    s = draw(params, slots, generations)
    grown = coming(params, ages)
    gone = (ages + step >= int(params["life"])) & (s.kind != GROUND)
    at = place(params, s, ages, grown)
    to = place(params, s, ages + step, np.where(gone, grown, coming(params, ages + step)))
    to_x, to_y = carried(at, to)
    target = np.stack([m[which, 0] * x + (m[which, 1] * y[:, None] + m[which, 2]) for m in (to_x, to_y)], axis=-1)
    return target, gone[which]


def covered(params: np.void, t: int, target: F64, which: Integers) -> npt.NDArray[np.bool]:
    """Whether a shape lies before those that are seen, (Y, X), at frame `t` where they are then, (Y, X, 2)."""
    slots = np.arange(int(params["slots"]) + 1)
    hidden = np.zeros(which.shape, np.bool)
    generations, ages = lives(params, slots, t)
    s = draw(params, slots, generations)
    at = place(params, s, ages, coming(params, ages))
    for k in slots[:-1]:
        x_to, y_to = target[..., 0], target[..., 1]
        some = ~hidden & (which > k) & (x_to > at.left[k]) & (x_to < at.right[k])
        some &= (y_to > at.top[k]) & (y_to < at.bottom[k])
        hidden[some] = opacity(at, k, x_to[some], y_to[some]) >= np.float32(0.5)
    return hidden


def carried(at: Places, to: Places) -> tuple[F64, F64]:
    """The affine maps that take a pixel (x, y, 1) from where shapes are to where they are then: (K, 3) for x and for y."""
    a, b, c, d, e, f = (getattr(to, name).astype(np.float64) for name in ("au", "bu", "cu", "av", "bv", "cv"))
    det = a * e - b * d
    u = [m.astype(np.float64) for m in (at.au, at.bu, at.cu)]
    v = [m.astype(np.float64) for m in (at.av, at.bv, at.cv)]
    u[2], v[2] = u[2] - c, v[2] - f
    to_x = np.stack([(e * p - b * q) / det for p, q in zip(u, v, strict=True)], axis=-1)
    to_y = np.stack([(a * q - d * p) / det for p, q in zip(u, v, strict=True)], axis=-1)
    return to_x, to_y


def ln(x: float) -> float:
    """The natural logarithm of a number from 1 to 4096, by roots, which are the same everywhere."""
    for _ in range(16):
        x = math.sqrt(x)
    z = (x - 1) / (x + 1)
    return 2**17 * (z + z * z * z / 3)


SPEEDS: Final = (0.65, 1.6)
SIZES: Final = (7.6, 3.8)
"""Pixels a frame, and radii in pixels, in views of 32 pixels."""
PRESETS: Final[dict[str, dict[str, Any]]] = {
    "leaves-64x512": {"about": "sixteen motions at two speeds and two sizes"},
}


@dataclass(frozen=True)
class Leaves(Affine):
    """Dead leaves in motion. Categories are motion x speed x size, the motion varying slowest.

    Attributes:
        sizes: radii in pixels, each a value of the factor: the geometric middle of those of the shapes of a video.
        size_jitter: a video's own size lies between size / jitter and size * jitter.
        size_range: the largest radius of a video over the least; between them their density falls with the third power.
        coverage: how often shapes cover a place in the mean, those that are hidden among them.
        own: how fast shapes go beside the common motion, at most along x and along y, in parts of its speed.
        gathered: how much of that they gain or lose from the middle of their life to its end: acceleration.
        turning: how fast they turn beside it, at most, in degrees a frame.
        growth: by how much they grow or shrink from the middle of their life to its end, at most, as a power of two.
        stretch: how much longer than wide they are, at most.
        textured: the share of shapes that have a texture; the others are flat.
        texture: the range of its contrast, in parts of that of the video.
        cells: the range of its cells in a radius.

    Raises:
        ArgumentError: any field outside its range.
    """

    name: ClassVar[str] = "leaves"
    short: ClassVar[str] = "leaves"
    title: ClassVar[str] = "Dead Leaves"
    counts: ClassVar[tuple[Field, ...]] = motion_counts("Motions x speeds x sizes")
    made_from: ClassVar[tuple[Field, ...]] = (
        Field("speeds", "tuple[float, ...] | None", None, "Pixels a frame, each a value of the label; two that suit the frame."),
        Field("sizes", "tuple[float, ...] | None", None, "Radii in pixels, each a value of the label; two that suit the frame."),
        Field("radius", "float | None", None, "Pixels from the fixed point at which rotation, zoom and shear have their speed."),
    )  # fmt: skip
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    trial: ClassVar[Mapping[str, Any]] = {"instances": 1, "shape": (64, 80, 200)}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            ("key", "<u4", (2,)), ("slots", "<i4"), ("life", "<i4"), ("velocity", "<f4", (2,)), ("shear", "<f4", (2,)),
            ("centre", "<f4", (2,)), ("zoom", "<f4"), ("spin", "<i4"), ("place", "<f4", (3, 2)), ("inverse", "<f4", (2,)),
            ("own", "<f4"), ("gathered", "<f4"), ("turning", "<f4"), ("growth", "<f4"), ("stretch", "<f4"), ("ends", "<f4"),
            ("textured", "<u4"), ("texture", "<f4", (2,)), ("cells", "<f4", (2,)), ("gain", "<f4"), ("mean", "<f4"),
            ("ground", "<f4", (3,)), ("size", "<f4"),
        ],
        align=True,
    )  # fmt: skip
    """One video. Rates are of half a frame: `velocity`, `shear`, `zoom` (a power of two) and `spin` (2**-32 turns) of the common
    motion about `centre`; `own`, `gathered`, `turning`, `growth` of the shapes. `place` is where they are in the middle of their life,
    from the fixed point: a middle and two half axes. `inverse` is the least of 1 / radius^2, and how much more it can be. `texture` is
    in grey levels, `ground` the grey of the ground, its cells in pixels and its texture, `size` the geometric middle of the radii."""

    sizes: tuple[float, ...] = field((26.6, 13.3), "Radii in pixels, each a value of the label.")
    size_jitter: float = field(1.2, "A video's size lies between size / jitter and size * jitter.")
    size_range: float = field(3.0, "The largest radius of a video over the least.")
    coverage: float = field(0.9, "How often shapes cover a place in the mean.")
    own: float = field(0.35, "Speed of shapes beside the common motion, at most, in parts of its speed.")
    gathered: float = field(0.5, "How much of that speed they gain or lose in half a life, at most.")
    turning: float = field(2.0, "Degrees a frame by which they turn beside it, at most.")
    growth: float = field(0.3, "By which power of two they grow or shrink in half a life, at most.")
    stretch: float = field(1.6, "How much longer than wide they are, at most.")
    textured: float = field(0.5, "The share of shapes with a texture.")
    texture: tuple[float, ...] = field((0.3, 1.0), "Range of its contrast, in parts of that of the video.")
    cells: tuple[float, ...] = field((1.0, 3.0), "Range of its cells in a radius.")

    def __post_init__(self) -> None:
        super().__post_init__()
        number = checks.number
        keep(
            self,
            sizes=values("sizes", self.sizes, lambda v: 0.25 <= v <= 4096, "from 0.25 to 4096"),
            size_jitter=number("size_jitter", self.size_jitter, lambda v: 1 <= v <= 4, "from 1 to 4"),
            size_range=number("size_range", self.size_range, lambda v: 1 <= v <= 64, "from 1 to 64"),
            coverage=number("coverage", self.coverage, lambda v: 0 <= v <= 16, "from 0 to 16"),
            own=number("own", self.own, lambda v: 0 <= v <= 4, "from 0 to 4"),
            gathered=number("gathered", self.gathered, lambda v: 0 <= v <= 4, "from 0 to 4"),
            turning=number("turning", self.turning, lambda v: 0 <= v <= 90, "from 0 to 90"),
            growth=number("growth", self.growth, lambda v: 0 <= v <= 4, "from 0 to 4"),
            stretch=number("stretch", self.stretch, lambda v: 1 <= v <= 8, "from 1 to 8"),
            textured=number("textured", self.textured, lambda v: 0 <= v <= 1, "from 0 to 1"),
            texture=span("texture", self.texture, 0, 4),
            cells=span("cells", self.cells, 0.125, 16),
        )  # fmt: skip

    @classmethod
    def from_counts(
        cls,
        categories: int | None,
        shape: Shape,
        progress: Progress | None = None,
        *,
        speeds: Sequence[float] | None = None,
        sizes: Sequence[float] | None = None,
        radius: float | None = None,
        **fields: Any,
    ) -> Self:
        """See `Generator.from_counts`; speeds, sizes and radius are in proportion to the view of the videos where they are not given."""
        scale = view(shape) / 32
        made = cls(
            speeds=tuple(round(scale * v, 3) for v in SPEEDS) if speeds is None else speeds,  # type: ignore[arg-type]
            sizes=tuple(max(0.25 * (2 - i), round(scale * v, 3)) for i, v in enumerate(SIZES))
            if sizes is None
            else sizes,  # type: ignore[arg-type]
            radius=max(1.0, view(shape) * 3 / 8) if radius is None else radius,
            **fields,
        )
        check_counts(categories, made)
        return made

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Motion, speed and size."""
        return self.motion_factor(), self.speed_factor(), Factor("size", self.sizes, "pixels")

    def check(self, shape: Shape) -> None:
        """Raise ArgumentError unless videos of `shape` (t, y, x) can be made of shapes and speeds like these."""
        side = min(shape[1:])
        largest = max(self.sizes) * self.size_jitter * math.sqrt(self.size_range)
        if 2 * largest > max(side, 4):
            limit = side / (2 * self.size_jitter * math.sqrt(self.size_range))
            must = f"must be at most {limit:.4g} with this `size_jitter` and `size_range`: the largest shape, {2 * largest:.4g} pixels"
            raise ArgumentError(f"{must} across, is larger than frames of {shape[1]} x {shape[2]}", "sizes", self.sizes)
        fastest = max(self.speeds) * self.speed_jitter
        if fastest > max(side / 2, 1):
            must = f"must be at most {max(side / 2, 1) / self.speed_jitter:.4g} with this `speed_jitter`: what crosses half a frame of"
            raise ArgumentError(
                f"{must} {shape[1]} x {shape[2]} from one to the next is not seen to move", "speeds", self.speeds
            )
        most = self.most_shapes(shape)
        if most > MOST_SLOTS:
            must = f"take up to {most} shapes for frames of {shape[1]} x {shape[2]}, and {MOST_SLOTS} are allowed"
            raise ArgumentError(
                f"{must}; ask for larger ones, or less `coverage` ({self.coverage:g})", "sizes", self.sizes
            )

    def most_shapes(self, shape: Shape) -> int:
        """How many shapes a video of `shape` can have at a time."""
        ids = np.tile(np.arange(self.n_categories), 2)
        fast = np.arange(len(ids)) < self.n_categories  # and small; the others are slow
        u = np.where(fast[:, None], 0.999999, np.zeros((len(ids), 8)))
        u[:, 1] = 0
        return int(self._params(shape, np.zeros((len(ids), 2), np.uint32), ids, u)["slots"].max())

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        """See `Generator.params`."""
        u = np.concatenate([uniform(keys, rng.PURPOSE_PARAMETERS, slot) for slot in range(2)], axis=1)
        return self._params(shape, keys, np.asarray(category_ids), u)

    def _params(self, shape: Shape, keys: Words, category_ids: Integers, u: F64) -> Params:
        kinds, speed_ids, size_ids = self.factor_ids(category_ids).T
        speeds = self.drawn_speeds(speed_ids, u[:, 0])
        size = around(np.asarray(self.sizes)[size_ids], self.size_jitter, u[:, 1])
        motion = self.drawn_motions(kinds, speeds, u[:, 2])
        contrast, mean = self.greys(keys)
        params = np.zeros(len(keys), self.params_dtype)
        params["key"], params["size"] = keys, size
        params["velocity"], params["shear"] = motion.velocity / 2, motion.shear / np.float32(2)
        params["zoom"], params["spin"] = motion.zoom / np.float32(2), motion.spin // 2

        ratio = self.size_range
        least, largest = size / math.sqrt(ratio), size * math.sqrt(ratio)
        square = least * least * (2 * ln(ratio) / (1 - 1 / (ratio * ratio)) if ratio > 1.001 else 1)
        params["inverse"] = np.stack([1 / (largest * largest), 1 / (least * least) - 1 / (largest * largest)], axis=-1)
        off = CENTRE * view(shape) * (2 * u[:, 3:5] - 1)
        half = np.array([shape[2], shape[1]]) / 2
        params["centre"] = half - 0.5 + off
        life, places, total = region(motion, speeds, self.radius, half, off, MARGIN * largest)
        params["life"], params["place"] = life, places
        full = np.where(kinds < self.directions, 1, COMING)  # translations carry shapes out of sight before they shrink
        params["slots"] = np.floor(self.coverage * total / (math.pi * square * full) + 0.5)
        params["ends"] = ENDS / life
        params["own"] = self.own * speeds / 2
        params["gathered"] = self.own * speeds / 2 * self.gathered / life
        params["turning"] = self.turning * DEGREES / 2
        params["growth"] = self.growth / life
        params["stretch"] = ln(self.stretch) / LN_2
        params["textured"] = math.floor(self.textured * (2**32 - 1))
        params["texture"] = (
            np.stack([self.texture[0] * contrast, (self.texture[1] - self.texture[0]) * contrast], axis=-1) * NOISE
        )
        params["cells"] = self.cells[0], self.cells[1] - self.cells[0]
        params["gain"], params["mean"] = contrast * ROOT_3, mean
        params["ground"][:, 0] = mean + contrast * ROOT_3 * (2 * u[:, 5] - 1)
        params["ground"][:, 1] = size * (0.5 + u[:, 6])
        params["ground"][:, 2] = contrast * NOISE * u[:, 7]
        return params

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """`velocity`, `rotation`, `zoom`, `shear`, `centre`, `size`, `life`, `shapes`, `contrast`, `mean` and `key` of each video."""
        return {
            "velocity": Parameter(2 * params["velocity"], ("axis",), "of the fixed point in pixels a frame, x to the right, y downwards"),
            "rotation": Parameter((params["spin"] * (2 / DEGREES)).astype(np.float32), (), "degrees a frame, counter-clockwise"),
            "zoom": Parameter(2 * params["zoom"], (), "base-2 logarithm of the growth in a frame"),
            "shear": Parameter(2 * params["shear"], ("axis",), "d(dx)/dy and d(dy)/dx in a frame"),
            "centre": Parameter(params["centre"].copy(), ("axis",), "the fixed point in pixels from the first, x and y"),
            "size": Parameter(params["size"].copy(), (), "the geometric middle of radii, in pixels"),
            "life": Parameter(params["life"].copy(), (), "frames of a shape"),
            "shapes": Parameter(params["slots"].copy(), (), "how many there are at a time, those out of sight among them"),
            "contrast": Parameter((params["gain"] / np.float32(ROOT_3)).astype(np.float32), (), "std of the grey of shapes"),
            "mean": Parameter(params["mean"].copy(), (), "the mean of the grey of shapes"),
            "key": Parameter(params["key"].copy(), ("word",), "the Philox key of the video"),
        }  # fmt: skip

    @classmethod
    def check_params(cls, params: Params) -> None:
        """See `Generator.check_params`: counts in range, numbers finite, sizes above 0 and rates such that no power overflows."""
        for one in params:
            good = 0 <= one["slots"] <= MOST_SLOTS and LEAST_LIFE <= one["life"] <= LONGEST_LIFE
            floats = [name for name, (kind, *_) in (cls.params_dtype.fields or {}).items() if kind.base == np.float32]
            good = good and all(np.isfinite(one[name]).all() and (np.abs(one[name]) < 2.0**28).all() for name in floats)
            half = float(one["life"])
            good = (
                good
                and abs(one["zoom"]) * half < 40
                and 0 <= one["growth"] * half <= 40
                and 0 <= one["stretch"] <= 3.01
            )
            good = good and one["inverse"][0] > 2.0**-28 and one["inverse"][1] >= 0 and one["ground"][1] >= 0.0625
            good = good and 0 < one["ends"] <= 1 and (np.abs(one["shear"]) * half < 2.0**10).all()
            good = good and (np.abs(one["velocity"]) * half < 2.0**20).all() and 0 <= one["own"] * half < 2.0**20
            good = (
                good
                and 0 <= one["gathered"] * half * half < 2.0**20
                and (one["cells"] >= 0).all()
                and (one["cells"] <= 16).all()
            )
            good = good and 0 <= one["turning"] < 2.0**31 - 256
            if not good:
                fields = dict(zip(cls.params_dtype.names or (), one.tolist(), strict=True))
                raise ArgumentError(f"params of the {cls.name} generator have values that they never have: {fields}")

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        """See the formula of the module: float32 (T, Y, X), clamped to 0 and 255."""
        frames = [shown(params, int(i), y, x)[0] for i in t]
        return np.minimum(np.maximum(np.stack(frames), np.float32(0)), np.float32(255))

    # --- where things go

    @property
    def truth(self) -> tuple[str, ...]:
        return "motion", "shape", "hidden"

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> F64:
        """See `Generator.motion`: that of the ground, about which shapes have their own."""
        common = Motion(
            2 * params["velocity"].astype(np.float64), 2 * params["spin"].astype(np.int64), 2 * params["zoom"], 2 * params["shear"]
        )  # fmt: skip
        return common.about(params["centre"], steps)

    def known(
        self, name: str, shape: Shape, params: np.void, t: Integers, y: Integers, x: Integers, step: int
    ) -> npt.NDArray[Any]:
        """See `Generator.known`: motion is that of the shape which a pixel shows. A shape is its slot + its generation times the slots."""
        n = int(params["slots"])
        found: list[npt.NDArray[Any]] = []
        here = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)
        for frame in t.tolist():
            which = shown(params, frame, y, x)[1]
            if name == "shape":
                slots = np.arange(n)
                ids = np.append(slots + n * lives(params, slots, frame)[0], -1)
                found.append(ids[which].astype(np.int32))
                continue
            target, gone = led_to(params, frame, step, y, x, which)
            if name == "motion":
                found.append((target - here).astype(np.float32))
            else:
                found.append(gone | covered(params, frame + step, target, which))
        return np.stack(found)

    # --- how it is looked at

    def moving(self, shape: Shape) -> int:
        """See `Generator.moving`."""
        return min(32, shape[0])


def region(motion: Motion, speeds: F64, radius: float, half: F64, off: F64, margin: F64) -> tuple[Integers, F64, F64]:
    """How long shapes live, and where they are in the middle of their lives, so that they are as dense everywhere in the frame.

    Args:
        motion: of videos (N,).
        speeds: pixels a frame, (N,).
        radius: where rotation, zoom and shear have that speed.
        half: half the width and height of the frame, (2,).
        off: of the fixed point from its middle, (N, 2).
        margin: how far beyond the frame there are shapes, (N,).

    Returns:
        Frames (N,); the middle of the region and its two half axes, from the fixed point (N, 3, 2); pixels that the shapes share (N,).
    """
    moves = (motion.velocity[:, 0] != 0) | (motion.velocity[:, 1] != 0)
    way = np.where(moves[:, None], motion.velocity / np.where(speeds > 0, speeds, 1)[:, None], (1.0, 0.0))
    side = np.stack([-way[:, 1], way[:, 0]], axis=-1)
    path = 2 * (np.abs(way[:, 0]) * half[0] + np.abs(way[:, 1]) * half[1] + margin)
    # A translation: from one end of the path to the other in a life, or where that takes too long, from anywhere on it.
    crossing = np.clip(np.floor(path / np.maximum(speeds, 1e-3)) + 1, LEAST_LIFE, LONGEST_LIFE)
    still = crossing == LONGEST_LIFE
    along = np.where(still, (path + speeds * LONGEST_LIFE) / 2, 0)
    width = np.abs(side[:, 0]) * half[0] + np.abs(side[:, 1]) * half[1] + margin
    # Rotation: the circle around the frame. Zoom and shear: the frame at its largest.
    reach = half + np.abs(off)
    rate = speeds / radius
    brief = np.clip(np.floor(SPAN / np.maximum(rate, 1e-4)) + 1, LEAST_LIFE, LONGEST_LIFE)
    rotates = (motion.spin != 0) | (rate == 0)
    circle = np.sqrt(reach[:, 0] * reach[:, 0] + reach[:, 1] * reach[:, 1])
    zoomed = exp2((np.abs(motion.zoom) * brief / 2).astype(np.float32)).astype(np.float64)
    sheared = np.abs(motion.shear).astype(np.float64) * (brief / 2)[:, None]
    extents = (
        np.where(rotates[:, None], circle[:, None], reach * zoomed[:, None] + sheared * reach[:, ::-1])
        + margin[:, None]
    )

    life = np.where(moves, crossing, np.where(rotates, TURNING_LIFE, brief)).astype(np.int64)
    places = np.zeros((len(speeds), 3, 2))
    places[:, 0] = np.where(moves[:, None], -off, 0)
    places[:, 1] = np.where(moves[:, None], side * width[:, None], extents * (1, 0))
    places[:, 2] = np.where(moves[:, None], way * along[:, None], extents * (0, 1))
    total = np.where(moves, 2 * width * np.where(still, 2 * along, speeds * life), 4 * extents[:, 0] * extents[:, 1])
    return life, places, total

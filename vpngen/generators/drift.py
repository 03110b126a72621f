"""Drift: Perlin noise that is carried along by an affine motion, and changes slowly on its way. The motion is the label.

Noise after Perlin, "Improving noise", SIGGRAPH 2002, in three dimensions: two move with the picture, along the third the
noise changes. Seed for the labels: the future work of Kataoka et al., WACV 2022, section 6, motion in directions.

The formula, in the order in which it is computed (float32; `fma` is the fused multiply-add). Places in the lattice are unsigned
32-bit integers, 12 bits of cell and 20 of the place in it, that wrap: cells and places are exact, whatever window is made.

    tau                          frames since the middle of a layer's life; the frame itself where there is one layer
    [AX BX; AY BY]               2**20 cells a pixel, the inverse of what tau frames of the motion do, rounded to integers
    X = AX (x - cx) + BX (y - cy) + X0 + VX t      likewise Y; (cx, cy) is a pixel that only translations move
    Z = Z0 + DZ t                along the third axis: r its cell, fz its place in the cell, s = fade(fz)
    X, Y, Z << o                 of octave o, whose cells are so much smaller

    w = gain 2**-o cos(pi tau / life) / std(fz);  w1 = w s,  w0 = w - w1
    GX, GY = w0 gx0 + w1 gx1, w0 gy0 + w1 gy1      of each lattice point, (gx, gy, gz) its unit gradients on both planes
    G0 = (w0 fz) gz0 + (w1 (fz - 1)) gz1
    for each cell, of its corners:  n00, n10, n01, n11 = GX (fx - i) + GY (fy - j) + G0, linear in fx and fy
    for each pixel:              n = fma(v, fma(u, n11 - n01 - n10 + n00, n01 - n00), fma(u, n10 - n00, n00))
    grey = floor(clamp(bias + n of each layer and octave))

Zoom and shear would leave every scale behind in a long video. So their noise has two layers, each of which lives for `life`
frames, its middle half a life after that of the other, and is new in its next life; the squares of their weights sum to 1.
Division by the std keeps the contrast: between two planes of the third axis noise is weaker than on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, field, keep
from vpngen.floats import F32, exp2, fma, sine_cosine, turn
from vpngen.generators.base import Factor, Parameter, Params, Progress, uniform
from vpngen.generators.motion import (
    LN_2,
    VIEW,
    Affine,
    Motion,
    angle,
    around,
    check_counts,
    motion_counts,
    span,
    values,
    view,
)
from vpngen.rng import Integers, Words

FRACTION: Final = 20
"""Bits of the place in a cell."""
WRAP: Final = 1 << (32 - FRACTION)
"""Cells after which the lattice repeats, along each axis."""
MASK: Final = (1 << FRACTION) - 1
MOST_OCTAVES: Final = 4
MOST_CELL: Final = 1024.0
"""Pixels: of larger cells the steps from pixel to pixel would be too coarse."""
SPEEDS: Final = (2.2, 5.5)
CELLS: Final = (60.0, 30.0)
"""Where nothing is said, of videos whose `motion.view` is `VIEW`."""
OFF_CENTRE: Final = 5 / 32
"""How far the fixed point is from the middle of a frame, at most along each axis, in parts of its `motion.view`."""
STRETCH: Final = 0.2
"""A cell is up to 1 + this times as long along one axis of the lattice, and as much shorter along the other."""
MOST_RATE: Final = 0.4
"""Radians a frame, or growth: beyond, two frames have little in common."""
LEAST_LIFE: Final = 8
MOST_LIFE: Final = 64
ZOOM_SPAN: Final = 1.3862943611198906
"""The logarithm of the scale at the ends of a layer's life: it grows from 1/4 to 4, or shrinks."""
SHEAR_SPAN: Final = 1.5
"""The shear there."""
LAYERS: Final = 2
TILE: Final = 256
"""Rows and columns that the reference makes at once: the lattice around a long row is as high as it is wide."""

_A, _B = 181 / 462, 535 / 18018
"""The integrals over a cell of (1 - fade(f))^2, and of (1 - fade(f))^2 f^2: they give the variance of the noise."""
ACROSS: Final = np.float32(8 * _A * _B / 3)
ALONG: Final = np.float32(4 * _A * _A / 3)


@dataclass(frozen=True)
class Drift(Affine):
    """Perlin noise at moved coordinates.

    Attributes:
        cells: the sides of a lattice cell of the first octave, in pixels, each a value of the factor. Details are as large as that.
        cell_jitter: a video's own cells lie between cell / jitter and cell * jitter.
        octaves: how many a video may have, drawn from these; each has cells half as large as the one before, and half its contrast.
        change: the range of a video's own change, in cells of the first octave a frame.

    Raises:
        ArgumentError: any field outside its range, details too small to be seen, or speeds too high to be followed.
    """

    name: ClassVar[str] = "drift"
    short: ClassVar[str] = "drift"
    title: ClassVar[str] = "Drifting Noise"
    counts: ClassVar[tuple[Field, ...]] = motion_counts("Motions x speeds x cells")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "drift-64x512": {"about": "8 translations, rotation, zoom and shear both ways; 2 speeds, 2 sizes"},
        "drift-directions-32x512": {"motions": "directions", "about": "8 directions, 2 speeds, 2 sizes"},
    }
    trial: ClassVar[Mapping[str, Any]] = {"instances": 1, "shape": (64, 96, 208)}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            ("key", "<u4", (2,)), ("gain", "<f4"), ("bias", "<f4"), ("octaves", "<i4"), ("life", "<i4"), ("age", "<i4"),
            ("wane", "<u4"), ("centre", "<i4", (2,)), ("origin", "<u4", (3,)), ("step", "<i4", (3,)),
            ("lattice", "<f4", (2, 2)), ("velocity", "<f4", (2,)), ("spin", "<i4"), ("zoom", "<f4"), ("shear", "<f4", (2,)),
        ],
        align=True,
    )  # fmt: skip
    """One video: `gain` is the std of the first octave in grey levels, `life` that of a layer in frames or 0 where
    there is one layer without end, `age` that of the first one in frame 0, `wane` half a turn divided by `life`, `origin` where
    the centre lies in the lattice in frame 0 and `step` how far it moves in a frame (x, y, z; fixed point), `lattice` cells a pixel
    times 2**20, `velocity`, `spin`, `zoom` and `shear` its `Motion`."""

    speeds: tuple[float, ...] = field(
        SPEEDS, f"Pixels a frame, each a value of the label; in proportion in frames below {VIEW}."
    )
    speed_jitter: float = field(1.58, "A video's speed lies between speed / jitter and speed * jitter.")
    cells: tuple[float, ...] = field(
        CELLS, f"Pixels of a lattice cell, each a value of the label; in proportion in frames below {VIEW}."
    )
    cell_jitter: float = field(1.41, "A video's cells lie between cell / jitter and cell * jitter.")
    octaves: tuple[int, ...] = field((1, 2), "Octaves of noise, drawn for each video.")
    change: tuple[float, ...] = field((0.0, 0.06), "Range of a video's own change, in cells a frame.")

    def __post_init__(self) -> None:
        super().__post_init__()
        octaves = checks.integers("octaves", self.octaves, 1, MOST_OCTAVES)
        if not octaves or len(set(octaves)) != len(octaves):
            raise ArgumentError("must have a number, and none twice", "octaves", octaves)
        keep(
            self,
            cells=values("cells", self.cells, lambda v: 1 <= v <= MOST_CELL, f"from 1 to {MOST_CELL:g}"),
            cell_jitter=checks.number("cell_jitter", self.cell_jitter, lambda v: 1 <= v <= 4, "from 1 to 4"),
            octaves=octaves,
            change=span("change", self.change, 0, 1),
        )
        finer = self.cell_jitter * 2 ** (max(octaves) - 1)
        finest, fastest = min(self.cells) / finer, max(self.speeds) * self.speed_jitter
        if finest < 1:
            why = f"`cell_jitter` and {max(octaves)} octaves make details of {finest:.3g} pixels, and 1 is the least that is seen"
            raise ArgumentError(f"must be at least {finer:.3g}: {why}", "cells", self.cells)
        if fastest > finest:
            why = f"with `speed_jitter` that is half a period, {finest:.3g} pixels, of the finest detail, and what is faster seems slower"
            raise ArgumentError(f"must be at most {finest / self.speed_jitter:.3g}: {why}", "speeds", self.speeds)
        if self.motions == "affine" and fastest > MOST_RATE * self.radius:
            why = f"a speed of {fastest:.3g} there turns or grows by more than {MOST_RATE:g} a frame"
            raise ArgumentError(f"must be at least {fastest / MOST_RATE:.3g}: {why}", "radius", self.radius)

    @classmethod
    def from_counts(
        cls, categories: int | None, shape: Shape, progress: Progress | None = None, **options: Any
    ) -> Self:
        """See `Generator.from_counts`; lengths that are not given are in proportion to `motion.view` of `shape`."""
        scale = view(shape) / VIEW
        usual = {
            "speeds": tuple(_three_digits(v * scale) for v in SPEEDS),
            "cells": tuple(_three_digits(v * scale) for v in CELLS),
            "radius": max(1.0, _three_digits(VIEW * 3 / 8 * scale)),
        }
        made = cls(**{**usual, **options})
        check_counts(categories, made)
        return made

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The motion, its speed and the cells."""
        return self.motion_factor(), self.speed_factor(), Factor("cell", self.cells, "pixels")

    def check(self, shape: Shape) -> None:
        """Any shape will do."""

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        """See `Generator.params`; the instances of a category differ by their keys alone."""
        kinds, speed_ids, cell_ids = self.factor_ids(category_ids).T
        of_motion, of_lattice, of_centre = (uniform(keys, rng.PURPOSE_PARAMETERS, slot) for slot in range(3))
        speeds = self.drawn_speeds(speed_ids, of_motion[:, 0])
        motion = self.drawn_motions(kinds, speeds, of_motion[:, 1])
        sides = around(np.asarray(self.cells)[cell_ids], self.cell_jitter, of_motion[:, 2])
        octaves = np.asarray(self.octaves)[(of_motion[:, 3] * len(self.octaves)).astype(np.int64)]
        std, mean = self.greys(keys)

        params = np.zeros(len(keys), self.params_dtype)
        params["key"] = keys
        powers = (1 - 0.25 ** np.arange(MOST_OCTAVES + 1)) / 0.75  # of so many octaves, that of the first being 1
        params["gain"], params["bias"] = std / np.sqrt(powers[octaves]), mean
        params["octaves"] = octaves
        params["life"] = life = lives(motion)
        params["age"] = np.floor(of_lattice[:, 3] * life)
        params["wane"] = np.where(life > 0, 2.0**31 / np.maximum(life, 1) + 0.5, 0)
        _, height, width = shape
        middle, reach = np.array([width // 2, height // 2]), np.floor(OFF_CENTRE * view(shape))
        params["centre"] = middle + np.floor((2 * of_centre[:, :2] - 1) * reach + 0.5)
        sine, cosine = (v.astype(np.float64) for v in turn(angle(of_lattice[:, 0])))
        a = 1 + STRETCH * of_lattice[:, 1]
        lattice = np.stack([a * cosine, a * sine, -sine / a, cosine / a], axis=-1) * (2.0**FRACTION / sides)[:, None]
        lattice = lattice.reshape(-1, 2, 2)
        params["lattice"] = lattice
        params["origin"] = rng.philox4x32(rng.counters(rng.PURPOSE_PARAMETERS, 0, 3), keys)[:, :3]
        vx, vy = motion.velocity.T
        params["step"][:, 0] = np.floor(0.5 - (lattice[:, 0, 0] * vx + lattice[:, 0, 1] * vy))
        params["step"][:, 1] = np.floor(0.5 - (lattice[:, 1, 0] * vx + lattice[:, 1, 1] * vy))
        low, high = self.change
        params["step"][:, 2] = np.floor((low + (high - low) * of_lattice[:, 2]) * 2.0**FRACTION + 0.5)
        params["velocity"], params["spin"] = motion.velocity, motion.spin
        params["zoom"], params["shear"] = motion.zoom, motion.shear
        return params

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """The motion of each video, its cells, octaves, change, grey levels and key."""
        lattice = params["lattice"].astype(np.float64) / 2.0**FRACTION
        area = lattice[:, 0, 0] * lattice[:, 1, 1] - lattice[:, 0, 1] * lattice[:, 1, 0]  # cells a pixel
        powers = (1 - 0.25 ** np.arange(MOST_OCTAVES + 1)) / 0.75
        std = params["gain"] * np.sqrt(powers[params["octaves"]])
        xy = ("axis",)

        def number(value: npt.ArrayLike, about: str) -> Parameter:
            return Parameter(np.asarray(value, np.float32), (), about)

        return {
            "velocity": Parameter(params["velocity"].copy(), xy, "translation, (x, y) in pixels a frame, y downwards"),
            "rotation": number(params["spin"] * (360 / 2.0**32), "degrees a frame, counter-clockwise"),
            "zoom": number(exp2(params["zoom"]), "growth a frame"),
            "shear": Parameter(params["shear"].copy(), xy, "d(dx)/dy and d(dy)/dx of a frame"),
            "centre": Parameter(params["centre"].copy(), xy, "the pixel (x, y) that all but translation leaves in place"),
            "cell": number(1 / np.sqrt(area), "the side of a lattice cell of the first octave, in pixels"),
            "octaves": Parameter(params["octaves"].copy(), (), "of the noise"),
            "change": number(params["step"][:, 2] / 2.0**FRACTION, "the noise's own, in cells a frame"),
            "contrast": number(std, "the std of grey levels, before they are clamped"),
            "mean": Parameter(params["bias"].copy(), (), "the mean grey level"),
            "key": Parameter(params["key"].copy(), ("word",), "the Philox key of the video"),
        }  # fmt: skip

    @classmethod
    def check_params(cls, params: Params) -> None:
        """See `Generator.check_params`."""
        numbers = [
            params[name].reshape(len(params), -1) for name in ("gain", "bias", "lattice", "velocity", "zoom", "shear")
        ]
        finite = np.isfinite(np.concatenate(numbers, axis=1)).all(axis=1)
        with np.errstate(all="ignore"):
            half = params["life"] / 2
            stretch, shear = np.abs(params["zoom"]) * half, np.abs(params["shear"]).max(axis=1, initial=0) * half
            good = (params["octaves"] >= 1) & (params["octaves"] <= MOST_OCTAVES)
            good &= (half == 0) | (half >= LEAST_LIFE / 2) & (half <= MOST_LIFE / 2) & (half % 1 == 0)
            good &= (params["age"] >= 0) & (params["age"] <= params["life"])
            good &= (np.abs(params["centre"].astype(np.int64)) <= checks.MAX_SIDE).all(axis=1)
            finest = np.abs(params["lattice"]).max(axis=(1, 2)) * 2.0 ** (params["octaves"] - 1 - FRACTION)
            good &= (finest <= 1.3) & (stretch <= 2.5) & (shear <= 2.5)  # they are 1.2, 2.3 and 2.3 at most
            good &= (half > 0) | (params["zoom"] == 0) & (params["shear"] == 0).all(axis=1)
            good &= (np.abs(params["gain"]) <= 2**10) & (np.abs(params["bias"]) <= 2**10)
        if not (finite & good).all():
            fields = dict(zip(cls.params_dtype.names or (), params[~(finite & good)].tolist()[0], strict=True))
            raise ArgumentError(f"params of the {cls.name} generator have values that they never have: {fields}")

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """See `Generator.motion`."""
        moved = Motion(
            params["velocity"].astype(np.float64), params["spin"].astype(np.int64), params["zoom"], params["shear"]
        )
        return moved.about(params["centre"], steps)

    def advice(self, shape: Shape) -> list[str]:
        """Cells that are wider than the frame."""
        side = min(shape[1:])
        large = [f"{cell:g}" for cell in self.cells if cell > side]
        if not large:
            return []
        return [
            f"cells of {', '.join(large)} pixels are wider than frames of {shape[2]} x {shape[1]}: give smaller `cells`"
        ]

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        """The bias plus the noise of each layer and octave at frames `t`, rows `y`, columns `x`: float32 (T, Y, X)."""
        grey = np.empty((len(t), len(y), len(x)), np.float32)
        for i in range(0, len(y), TILE):
            for j in range(0, len(x), TILE):
                grey[:, i : i + TILE, j : j + TILE] = tile(params, t, y[i : i + TILE], x[j : j + TILE])
        return grey


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def lives(motion: Motion) -> Integers:
    """How many frames a layer lives, even; 0 for motions that leave all scales as they are."""
    zoom, shear = np.abs(motion.zoom) * LN_2, np.abs(motion.shear.astype(np.float64)).max(axis=1)
    half = np.where(zoom > 0, ZOOM_SPAN / np.maximum(zoom, 1e-9), SHEAR_SPAN / np.maximum(shear, 1e-9))
    life = 2 * np.clip(np.floor(half + 0.5), LEAST_LIFE // 2, MOST_LIFE // 2).astype(np.int64)
    return np.where((zoom > 0) | (shear > 0), life, 0)


def tile(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
    """`Drift.reference`, of few rows and columns."""
    grey = np.full((len(t), len(y), len(x)), params["bias"], np.float32)
    offset_x, offset_y = x - int(params["centre"][0]), (y - int(params["centre"][1]))[:, None]
    for layer in range(LAYERS if params["life"] else 1):
        weight, tau, generation = phase(params, layer, t)
        ax, bx, ay, by = axes(params, tau)
        for octave in range(int(params["octaves"])):
            at = [place(params, axis, t) for axis in range(3)]
            X = ax * offset_x + (bx * offset_y + at[0]) << octave
            Y = ay * offset_x + (by * offset_y + at[1]) << octave
            G = lattice_points(params, layer, octave, weight, generation, at[2], X, Y)
            grey = grey + noise(*G, X, Y)
    return grey


def phase(params: np.void, layer: int, t: Integers) -> tuple[F32, Integers, Integers]:
    """Weight, frames since the middle of its life, and number of the life, of a layer in frames `t` (T,)."""
    life = int(params["life"])
    if life == 0:
        return np.ones(len(t), np.float32), t, np.zeros_like(t)
    generation, tau = np.divmod(t + int(params["age"]) + layer * (life // 2), life)
    tau = tau - life // 2
    _, weight = turn((tau * int(params["wane"])).astype(np.uint32))
    return weight, tau, generation


def axes(params: np.void, tau: Integers) -> list[Integers]:
    """AX, BX, AY, BY (T, 1, 1): how far a pixel to the right and one downwards are in the lattice, in fixed point."""
    steps = tau.astype(np.float32)
    sine, cosine = turn((int(params["spin"]) * tau).astype(np.uint32))
    shrunk = exp2(-params["zoom"] * steps)
    c, s = cosine * shrunk, sine * shrunk
    across, down = fma(-params["shear"][0], steps, -s), fma(-params["shear"][1], steps, s)
    lattice = params["lattice"]
    of_x = [fma(along_x, c, along_y * down) for along_x, along_y in lattice]
    of_y = [fma(along_x, across, along_y * c) for along_x, along_y in lattice]
    found = of_x[0], of_y[0], of_x[1], of_y[1]
    return [np.floor(value + np.float32(0.5)).astype(np.int64)[:, None, None] for value in found]


def place(params: np.void, axis: int, t: Integers) -> Integers:
    """Where the centre is in the lattice along an axis (x, y, z) in frames `t`: (T, 1, 1), below 2**32."""
    return ((int(params["origin"][axis]) + int(params["step"][axis]) * t) % 2**32)[:, None, None]


def fade(f: F32) -> F32:
    """6 f^5 - 15 f^4 + 10 f^3."""
    return f * f * f * fma(f, fma(f, np.float32(6), np.float32(-15)), np.float32(10))


def in_cell(place: Integers) -> F32:
    """The place in its cell, in [0, 1)."""
    return np.asarray(place & MASK, np.float32) * np.float32(1 / (1 << FRACTION))


def gradients(
    params: np.void, layer: int, octave: int, p: Integers, q: Integers, r: Integers, generation: Integers
) -> tuple[F32, F32, F32]:
    """Unit gradients of lattice points, arrays of one shape, uniform on the sphere.

    One hash serves the four points with the same p // 4; of each 32-bit word the low half is theta, the high half z.
    """
    detail = rng.purpose_word(rng.PURPOSE_DRIFT, MOST_OCTAVES * layer + octave)
    counter = np.stack(np.broadcast_arrays(p >> 2, q, r | generation << (32 - FRACTION), detail), axis=-1)
    words = rng.philox4x32(counter, params["key"])
    word = np.take_along_axis(words, np.broadcast_to(p & 3, words.shape[:-1])[..., None], axis=-1)[..., 0]
    sine, cosine = sine_cosine(word & np.uint32(0xFFFF))
    gz = fma(np.asarray(word >> np.uint32(16), np.float32), np.float32(2**-15), np.float32(2**-16 - 1))
    flat = np.sqrt(fma(-gz, gz, np.float32(1)))
    return flat * cosine, flat * sine, gz


def lattice_points(
    params: np.void, layer: int, octave: int, weight: F32, generation: Integers, z: Integers, X: Integers, Y: Integers
) -> tuple[F32, F32, F32, Integers, Integers]:
    """GX, GY, G0 of the lattice points around places X, Y (T, Y, X): (T, Q, P); and the first p and q, (T, 1, 1)."""
    z = (z << octave) % 2**32
    r, fz = z >> FRACTION, in_cell(z)
    s = fade(fz)
    rest, back = np.float32(1) - s, fz - np.float32(1)
    below, above = fma(ALONG * fz, fz, ACROSS), fma(ALONG * back, back, ACROSS)
    std = np.sqrt(fma(s * s, above, rest * rest * below))
    w = params["gain"] * np.float32(0.5**octave) * weight[:, None, None] / std
    w1 = w * s
    w0 = w - w1
    p, q = (a.min(axis=(1, 2), keepdims=True) >> FRACTION for a in (X, Y))
    columns, lines = (int(((a >> FRACTION) - first).max()) + 2 for a, first in ((X, p), (Y, q)))
    at_p, at_q = (p + np.arange(columns)) % WRAP, (q + np.arange(lines)[:, None]) % WRAP
    gx0, gy0, gz0 = gradients(params, layer, octave, at_p, at_q, r, generation[:, None, None])
    gx1, gy1, gz1 = gradients(params, layer, octave, at_p, at_q, (r + 1) % WRAP, generation[:, None, None])
    return fma(w1, gx1, w0 * gx0), fma(w1, gy1, w0 * gy0), fma(w1 * back, gz1, w0 * fz * gz0), p, q


def noise(GX: F32, GY: F32, G0: F32, p: Integers, q: Integers, X: Integers, Y: Integers) -> F32:
    """The noise at places X, Y (T, Y, X)."""
    frame, i, j = np.arange(len(X))[:, None, None], (X >> FRACTION) - p, (Y >> FRACTION) - q
    fx, fy = in_cell(X), in_cell(Y)
    u, v = fade(fx), fade(fy)

    def differences(a: F32, b: F32, c: F32, d: F32) -> list[F32]:
        """Of the corners 00, 10, 01, 11: at the first; to the right; downwards; and how one changes along the other."""
        right = b - a
        return [part[frame, j, i] for part in (a, right, c - a, d - c - right)]

    of_x = differences(GX[:, :-1, :-1], GX[:, :-1, 1:], GX[:, 1:, :-1], GX[:, 1:, 1:])
    of_y = differences(GY[:, :-1, :-1], GY[:, :-1, 1:], GY[:, 1:, :-1], GY[:, 1:, 1:])
    of_1 = differences(
        G0[:, :-1, :-1], G0[:, :-1, 1:] - GX[:, :-1, 1:], G0[:, 1:, :-1] - GY[:, 1:, :-1],
        G0[:, 1:, 1:] - GX[:, 1:, 1:] - GY[:, 1:, 1:],
    )  # fmt: skip
    here, right, down, twist = (fma(fx, a, fma(fy, b, c)) for a, b, c in zip(of_x, of_y, of_1, strict=True))
    return fma(v, fma(u, twist, down), fma(u, right, here))

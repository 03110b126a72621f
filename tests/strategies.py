"""Hypothesis strategies: valid specs of each generator, small enough for the reference, and windows on their videos."""

from __future__ import annotations

import base64
import dataclasses
from math import gcd
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import vpngen
from vpngen import Spec, Window
from vpngen.generators import Fractal, Leaves, Mixed, clouds, drift, fractal, motion, perlin

thorough = settings(max_examples=3 * settings().max_examples)
"""For the tests that carry the byte contract: more examples than the profile asks for elsewhere."""
brief = settings(max_examples=max(1, settings().max_examples // 2))

HEIGHTS = st.integers(1, 24)
WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from((47, 48, 63, 64, 65, 80, 96, 130)))
FRAMES = st.one_of(st.integers(1, 20), st.sampled_from((31, 32, 33, 47, 48, 49)))
USUAL, LONG = st.tuples(FRAMES, HEIGHTS, WIDTHS), st.tuples(st.integers(50, 400), st.integers(1, 3), st.integers(1, 24))
SHAPES = st.sampled_from((USUAL, USUAL, USUAL, USUAL, USUAL, LONG)).flatmap(lambda shapes: shapes)
PERIODS = st.one_of(st.integers(1, 24), st.integers(25, 400))


def some_of(values: list[int], most: int) -> st.SearchStrategy[list[int]]:
    """From one to `most` different ones of `values`."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def perlin_specs(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> Spec:
    """Every field of `Perlin`; cells from one pixel to the whole width, odd shapes, short and long periods."""
    frames, height, width = draw(shapes)
    unit = draw(st.sampled_from(perlin.UNITS))
    loop = draw(st.booleans())
    noise_terms = draw(st.sampled_from((2, 2, 1, 0)))
    if unit == "period":
        temporal = draw(st.lists(PERIODS, min_size=1, max_size=2, unique=True))
        noise = draw(some_of(divisors(gcd(width, height)), 4))
        if loop and any(all(d % f for f in noise) for d in temporal):
            noise = [1, *noise]
    else:
        temporal = draw(some_of(divisors(frames), 2))
        noise = draw(some_of(divisors(gcd(width, height, frames)), 4))
    amplitude = st.one_of(
        st.sampled_from((0.01, 0.02, 0.05, 0.1, 0.2)), st.floats(0.001, 0.999 / (noise_terms + 1), width=64)
    )
    return vpngen.perlin(
        instances=draw(st.integers(1, 5)),
        val_instances=draw(st.integers(0, 3)),
        divisions_x=draw(some_of(divisors(width), 3)),
        divisions_y=draw(some_of(divisors(height), 3)),
        temporal=temporal,
        shape=(frames, height, width),
        seed=draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
        temporal_unit=unit,
        loop=loop,
        noise_terms=noise_terms,
        noise_frequencies=noise,
        noise_amplitudes=draw(st.lists(amplitude, min_size=1, max_size=4, unique=True)),
        gradients=draw(st.sampled_from(perlin.GRADIENTS)),
        fade=draw(st.sampled_from(perlin.FADES)),
        phase=draw(st.sampled_from(perlin.PHASES)),
        grey=draw(st.sampled_from(("fixed", "fixed", "stretch", "random"))),
    )


ATTEMPTS = (11, 70, 8)
"""What the search of seed 0 accepts for its first categories: of other numbers most systems leave or collapse."""
MOST_POINTS = 9000
"""Of a video: two groups of sixteen chunks, and a part of a third."""


@st.composite
def systems(draw: st.DrawFn, n: int) -> dict[str, object]:
    """The fields that give `n` categories their systems: a search, accepted or not, or a table of any numbers."""
    kind = draw(st.sampled_from(("accepted", "tried", "table", "table")))
    if kind == "accepted":
        return {"attempts": ATTEMPTS[:n]}
    if kind == "tried":
        tried = tuple(draw(st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n)))
        return {"attempts": tried, "search_seed": draw(st.integers(0, 2**64 - 1))}
    sizes = draw(st.lists(st.integers(1, 7), min_size=n, max_size=n))
    odd = st.sampled_from((0.0, 1.0, -1.0, 0.5, 3.0, 16.0, 1e-30, 1e-38))
    number = (
        st.one_of(*[st.floats(-1, 1, width=32)] * 7, odd) if draw(st.booleans()) else st.floats(-0.75, 0.75, width=32)
    )
    maps = [[*draw(st.tuples(*[number] * 6)), draw(st.sampled_from((1, 1, 0.3, 0)))] for _ in range(sum(sizes))]
    for end in np.cumsum(sizes):
        maps[end - 1][6] = max(maps[end - 1][6], 0.1)
    return {"table": base64.b64encode(np.array(maps, "<f4").tobytes()).decode(), "sizes": tuple(sizes)}


@st.composite
def fractal_specs(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> Spec:
    """Every field of `Fractal`: one point a frame and many chunks, systems that fill, leave or collapse, any trail."""
    frames, height, width = draw(shapes)
    n = draw(st.integers(1, 3))
    most = MOST_POINTS // frames
    per_frame = draw(st.one_of(st.integers(1, min(40, most)), st.integers(1, most)))
    for whole in (fractal.CHUNK, 16 * fractal.CHUNK):
        if whole // frames in range(1, most) and draw(st.integers(0, 5)) == 0:
            per_frame = whole // frames + draw(
                st.integers(0, 1)
            )  # the last chunk, or group of them, is full or hardly used
    generator = Fractal(
        tuple(draw(st.lists(st.integers(0, 2**24 - 1).map(lambda v: 2 * v + 1), min_size=n, max_size=n))),
        **draw(systems(n)),
        weight=draw(st.sampled_from((0.4, 0.4, 0.0, 0.1, 0.49))),
        flips=draw(st.booleans()),
        draw=draw(st.sampled_from(fractal.DRAWS)),
        points_per_frame=per_frame,
        trail=draw(st.one_of(st.just(0), st.integers(1, 12), st.integers(1, fractal.MOST_TRAIL))),
        pad=min(draw(st.sampled_from((0, 0, 1, 2, 6, 99))), (min(height, width) - 1) // 2),
        level=draw(st.sampled_from((127, 255, 1))),
        grey=draw(st.sampled_from(fractal.GREYS)),
    )
    return Spec(
        generator,
        draw(st.integers(1, 60)) if n == 1 else draw(st.integers(1, 5)),
        draw(st.integers(0, 3)),
        (frames, height, width),
        draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
    )


MOVED = st.tuples(st.one_of(st.integers(1, 10), st.just(17)), st.integers(1, 12), WIDTHS)


@st.composite
def drift_specs(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = MOVED, finest: float = 2) -> Spec:
    """Every field of `Drift`; details from `finest` pixels to cells larger than the frame, still to as fast as is allowed."""
    octaves = draw(st.sampled_from(((1,), (1,), (2, 1), (3,))))
    cell_jitter, speed_jitter = draw(st.sampled_from((1.0, 1.41, 2.0))), draw(st.sampled_from((1.0, 1.58)))
    finer = cell_jitter * 2 ** (max(octaves) - 1)
    cells = draw(st.lists(st.floats(finest * finer, 80), min_size=1, max_size=2, unique=True))
    motions, radius = draw(st.sampled_from(motion.MOTIONS)), draw(st.sampled_from((1.0, 9.0, 42.0)))
    fastest = min(min(cells) / finer, drift.MOST_RATE * radius if motions == "affine" else 99) / speed_jitter * 0.999
    speeds = draw(st.lists(st.sampled_from((0.0, 0.1, 0.3, 0.7, 1.0)), min_size=1, max_size=2, unique=True))
    least, most = sorted(draw(st.tuples(*[st.sampled_from((0.0, 0.02, 0.06, 0.3, 1.0))] * 2)))
    return vpngen.drift(
        instances=draw(st.integers(1, 3)),
        val_instances=draw(st.integers(0, 2)),
        shape=draw(shapes),
        seed=draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
        motions=motions,
        directions=draw(st.integers(1, 9)),
        direction_jitter=draw(st.sampled_from((0.0, 0.35))),
        radius=radius,
        speeds=[fastest * speed for speed in speeds],
        speed_jitter=speed_jitter,
        cells=cells,
        cell_jitter=cell_jitter,
        octaves=octaves,
        change=(least, most),
        grey=draw(st.sampled_from(motion.GREYS)),
        contrast=draw(st.sampled_from(((25, 70), (0, 0), (0, 255)))),
        mean=draw(st.sampled_from(((93, 163), (0, 255)))),
    )


FEW = st.tuples(
    st.one_of(st.integers(1, 9), st.sampled_from((47, 48, 49))),
    st.integers(1, 5),
    st.one_of(st.integers(1, 34), WIDTHS),
)
"""Shapes of few pixels, for what costs the reference most: a block of frames and some columns more or less."""


@st.composite
def clouds_specs(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[tuple[int, int, int]] = FEW,
    waves: tuple[int, ...] = (clouds.LEAST_WAVES, 9, 15, 16, 17, 32, clouds.MOST_WAVES),
) -> Spec:
    """Every field of `Clouds`: few waves and many, spreads that alias and none, speeds from 0 to the fastest that is allowed."""
    jitters = frequency_jitter, speed_jitter = draw(st.tuples(*[st.sampled_from((1.0, 1.2, 1.5))] * 2))
    speed_spread = draw(st.sampled_from((0.0, 0.1, 0.4)))
    several = st.lists(st.integers(1, 100), min_size=1, max_size=3, unique=True)
    frequencies = [v * clouds.MOST_FREQUENCY / 150 for v in draw(several)]
    most = 0.49 / max(frequencies) / np.prod(jitters) / 2.0 ** (speed_spread * clouds.MOST_STDS)
    speeds = [v / 100 * most for v in draw(several)]
    directions = draw(st.sampled_from((8, 3, 1)))
    return vpngen.clouds(
        instances=draw(st.integers(1, 3)),
        val_instances=draw(st.integers(0, 3)),
        shape=draw(shapes),
        seed=draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
        speeds=[0.0, *speeds] if directions == 1 else speeds,
        speed_jitter=speed_jitter,
        directions=directions,
        direction_jitter=draw(st.sampled_from((0.0, 0.35, 0.49))),
        grey=draw(st.sampled_from(("random", "random", "fixed"))),
        contrast=draw(st.sampled_from(((25, 70), (0, 0), (0, 255)))),
        mean=draw(st.sampled_from(((93, 163), (0, 255)))),
        frequencies=frequencies,
        frequency_jitter=frequency_jitter,
        frequency_spread=draw(st.sampled_from((0.5, 0.0, 4.0))),
        orientations=draw(st.sampled_from((0, 0, 1, 5))),
        oriented=draw(st.sampled_from((0.5, 0, 1))),
        orientation_spread=draw(st.sampled_from((20, 0, 45))),
        direction_spread=draw(st.sampled_from((8, 0, 45))),
        speed_spread=speed_spread,
        change=draw(st.sampled_from((0.03, 0, 0.5))),
        boiling=draw(st.sampled_from((0.004, 0, 0.1))),
        waves=draw(st.sampled_from(waves)),
    )


MOST_SHAPES = 10
"""Of a video: the reference takes them one by one."""


@st.composite
def leaves_specs(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] | None = None) -> Spec:
    """Every field of `Leaves`: all motions, shapes of a pixel and of the whole frame, lives that end within a video."""
    few = st.tuples(
        st.integers(1, 4), st.integers(1, 20), st.one_of(st.integers(1, 40), st.sampled_from((48, 63, 64, 65)))
    )
    shape = draw(few if shapes is None else shapes)
    side = min(shape[1:])
    number = st.floats(0, 1, width=32)
    speed_jitter, size_jitter, ratio = 1 + draw(number), 1 + draw(number), 1 + 5 * draw(number)
    largest = max(side, 4) / 2 / size_jitter / ratio**0.5 / 1.001
    fastest = max(side / 2, 1) / speed_jitter
    low, high = sorted((draw(number), draw(number)))
    fields: Any = {
        "speeds": sorted({fastest * draw(number) for _ in range(draw(st.integers(1, 2)))}),
        "sizes": sorted({max(0.25, largest * draw(st.sampled_from((0.25, 0.5, 1.0)))) for _ in range(draw(st.integers(1, 2)))}),
        "radius": max(1, side * (0.3 + draw(number))),
        "motions": draw(st.sampled_from(("affine", "affine", "directions"))),
        "directions": draw(st.integers(1, 9)),
        "direction_jitter": 0.49 * draw(number),
        "speed_jitter": speed_jitter, "size_jitter": size_jitter, "size_range": ratio,
        "own": 2 * draw(number), "gathered": draw(number), "turning": 40 * draw(number), "growth": draw(number),
        "stretch": 1 + 2 * draw(number), "textured": draw(st.sampled_from((0.0, 0.5, 1.0))),
        "texture": (low, high), "cells": (0.2 + 3 * low, 0.2 + 3 * high),
        "contrast": (100 * low, 100 * high), "mean": (255 * low, 255 * high),
        "grey": draw(st.sampled_from(("random", "random", "fixed"))),
    }  # fmt: skip
    counts: Any = {
        "instances": draw(st.integers(1, 5)), "val_instances": draw(st.integers(0, 3)), "shape": shape,
        "seed": draw(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))),
    }  # fmt: skip
    most = Leaves(**fields, coverage=1.0).most_shapes(shape)
    return vpngen.leaves(**counts, **fields, coverage=min(2.0, (MOST_SHAPES - 0.5) / most))


@st.composite
def mixed_specs(draw: st.DrawFn) -> Spec:
    """Parts of any kinds, some more than once."""
    shape = st.just(draw(SHAPES))
    one = st.one_of(
        perlin_specs(shape), fractal_specs(shape), drift_specs(shape), clouds_specs(shape), leaves_specs(shape)
    )
    specs = draw(st.lists(one, min_size=1, max_size=3))
    return dataclasses.replace(specs[0], generator=Mixed(tuple(spec.generator for spec in specs)))


SPECS: dict[str, st.SearchStrategy[Spec]] = {
    "perlin": perlin_specs(), "fractal": fractal_specs(), "mixed": mixed_specs(), "drift": drift_specs(), "clouds": clouds_specs(),
    "leaves": leaves_specs(),
}  # fmt: skip
"""Generator -> its specs; the suites run over all of them."""


@st.composite
def spans(draw: st.DrawFn, size: int) -> tuple[int, int] | None:
    """(start, stop) within an axis of `size`; None for all of it."""
    if draw(st.integers(0, 3)) == 0:
        return None
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, int, int]) -> Window:
    """Any part of a video of `shape`, with any frame step, mirrored or not."""
    t, y, x = (draw(spans(size)) for size in shape)
    if draw(st.booleans()):
        t = (*(t or (0, shape[0])), draw(st.integers(1, 9)))
    return Window(t=t, y=y, x=x, flip=draw(st.booleans()))


@st.composite
def alike_windows(draw: st.DrawFn, shape: tuple[int, int, int], n: int) -> list[Window]:
    """`n` windows of one extent at different places, as a batch of clips has them."""
    sizes = [draw(st.integers(1, size)) for size in shape]

    def place(axis: int) -> tuple[int, int]:
        start = draw(st.integers(0, shape[axis] - sizes[axis]))
        return start, start + sizes[axis]

    return [Window(t=place(0), y=place(1), x=place(2), flip=draw(st.booleans())) for _ in range(n)]

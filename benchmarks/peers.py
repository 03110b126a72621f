"""The same kind of video as other libraries make it: three Perlin noises, their weighted sum, grey levels; motion clouds; and dead leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

TERMS = ((16, 16, 8), (8, 16, 4), (4, 2, 8))
"""W and H in cells across the video, D in frames a cell; the cost of the peers does not depend on them."""
AMPLITUDES = (0.85, 0.1, 0.05)
SIDE = 240


def _grey(noises: list[npt.NDArray[Any]], out: npt.NDArray[np.uint8]) -> None:
    """floor(128 + 127.5 v) of the weighted sum, in place and without a copy: as quick as NumPy makes it."""
    for noise, amplitude in zip(noises, AMPLITUDES, strict=True):
        noise *= noise.dtype.type(127.5 * amplitude)
    total = noises[0]
    for noise in noises[1:]:
        total += noise
    total += total.dtype.type(128)
    np.copyto(out, total, casting="unsafe")


def fastnoise(threads: int = 1) -> Callable[[npt.NDArray[np.uint8], tuple[int, int, int]], None] | None:
    """A function (out, start) that fills `out` (t, y, x) with pyfastnoisesimd, or None where that is not installed."""
    if not hasattr(np, "product"):  # its last release still asks NumPy for the old name
        np.product = np.prod  # noqa: NPY003, NPY201
    try:
        import pyfastnoisesimd as fns
    except ImportError:
        return None
    np.ones(30 << 20, np.uint8)  # once freed, glibc keeps arrays of up to this size; else it maps fresh pages each time
    noises = []
    for seed, (w, h, d) in enumerate(TERMS):
        noise = fns.Noise(seed=seed, numWorkers=threads)
        noise.noiseType = fns.NoiseType.Perlin
        noise.frequency = 1.0
        noise.axesScales = (1 / d, h / SIDE, w / SIDE)
        noises.append(noise)

    def fill(out: npt.NDArray[np.uint8], start: tuple[int, int, int] = (0, 0, 0)) -> None:
        _grey([noise.genAsGrid(list(out.shape), start=list(start)) for noise in noises], out)

    return fill


def perlin_numpy() -> Callable[[npt.NDArray[np.uint8]], None] | None:
    """A function that fills `out` (240, 240, t) with perlin-numpy, or None where that is not installed."""
    try:
        from perlin_numpy import generate_perlin_noise_3d
    except ImportError:
        return None

    def fill(out: npt.NDArray[np.uint8]) -> None:
        _grey([generate_perlin_noise_3d(out.shape, (w, h, out.shape[2] // d)) for w, h, d in TERMS], out)

    return fill


def motion_clouds() -> Callable[[npt.NDArray[np.uint8]], None] | None:
    """A function that fills `out` (y, x, t) with the authors' MotionClouds, or None where that is not installed."""
    try:
        import MotionClouds
    except ImportError:
        return None

    def fill(out: npt.NDArray[np.uint8]) -> None:
        frequencies = MotionClouds.get_grids(*out.shape)
        envelope = MotionClouds.envelope_gabor(*frequencies, V_X=1.0, sf_0=0.05, B_sf=0.03, B_theta=np.pi)
        np.multiply(MotionClouds.rectif(MotionClouds.random_cloud(envelope, seed=1)), 255, out=out, casting="unsafe")

    return fill


def dead_leaves(shapes: int = 300) -> Callable[[npt.NDArray[np.uint8]], None]:
    """A function that fills `out` (t, y, x) with discs that move, by a loop over frames and, from back to front, over discs.

    `shapes` is about how many `vpngen.leaves` has at a time in frames of 240 x 240.
    """

    def fill(out: npt.NDArray[np.uint8]) -> None:
        rng, (_, height, width) = np.random.default_rng(1), out.shape
        place, velocity = rng.uniform(0, width, (shapes, 2)), rng.normal(0, 2, (shapes, 2))
        radius, grey = 8 * rng.random(shapes) ** -0.5, rng.integers(0, 256, shapes)
        y, x = np.mgrid[:height, :width]
        for t, frame in enumerate(out):
            for k in range(shapes):
                px, py = (place[k] + velocity[k] * t) % width
                frame[(x - px) ** 2 + (y - py) ** 2 < radius[k] ** 2] = grey[k]

    return fill

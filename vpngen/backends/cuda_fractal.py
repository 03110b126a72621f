"""How the CUDA backend launches the fractal kernels of `kernels/fractal.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np

from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.errors import ArgumentError
from vpngen.generators import Params, Shape
from vpngen.generators.fractal import CHUNK

# Of kernels/fractal.cuh: a test compares them.
CHUNKS: Final = 128
"""Of a block of the first kernel."""
FRAME_THREADS: Final = 512
MAPS_BYTES: Final = 272
PLACE_BYTES: Final = 48
ENDS_BYTES: Final = 16
POINT_BYTES: Final = 10
"""x, y and the word of a patch."""
MOST_RUN: Final = 72 * 1024
"""Pixels of a block, at most: every run of a window reads all points of the video again."""
LEAST_RUN: Final = 4096
"""Where a batch is too small for the GPU, its windows are cut into shorter runs, down to this."""
MOST_PIXELS: Final = 2**30
"""Of a frame."""
SCRATCH_BYTES: Final = 2**28
"""For the points of the windows of a launch; a larger batch goes in parts."""


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """Launches for windows of `extent` (T, Y, X) of the videos `params` (N,), as many at a time as the scratch has room for.

    Their numbers are the places for the points of a window, and the pixels of a block.

    Raises:
        ArgumentError: frames that are too large.
    """
    _, height, width = extent
    if height * width > MOST_PIXELS:
        raise ArgumentError(
            f"the cuda backend draws fractals in frames of up to {MOST_PIXELS} pixels, not {height} x {width}; "
            f"use backend='numba', or a smaller window"
        )
    points = params["frames"].astype(np.int64) * params["points_per_frame"]
    chunks = -(-int(points.max(initial=0)) // CHUNK)
    places = chunks * CHUNK
    of_a_window = places * POINT_BYTES + chunks * ENDS_BYTES
    most = max(1, SCRATCH_BYTES // max(1, of_a_window))
    longest = min(MOST_RUN, max(LEAST_RUN, (gpu.shared_bytes // 2 - 1024) // 16 * 16))
    plans = []
    for first in range(0, len(params), most):
        n = min(most, len(params) - first)
        runs = max(-(-height * width // longest), min(gpu.multiprocessors // n, height * width // LEAST_RUN))
        run = up(-(-height * width // runs), 16)
        shared = PLACE_BYTES + max(FRAME_THREADS * ENDS_BYTES, run + 16)
        steps = (
            Step("fractal_points", n * -(-chunks // CHUNKS), CHUNKS, MAPS_BYTES),
            Step("fractal_frames", n * -(-height * width // run), FRAME_THREADS, shared),
        )
        scratch = 8 * n * places, 2 * n * places, n * chunks * ENDS_BYTES
        plans.append(LaunchPlan(n, extent, steps, (places, run), scratch))
    return plans

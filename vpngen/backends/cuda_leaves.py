"""How the CUDA backend launches the kernels of dead leaves of `kernels/leaves.cu`."""

from __future__ import annotations

from typing import Final

from vpngen import floats
from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.generators import Params, Shape

# Of kernels/leaves.cuh: a test compares them.
THREADS: Final = 128
COLUMNS: Final = 32
ROWS: Final = 16
LEAF_BYTES: Final = 80
"""A shape in a frame."""
SCRATCH_BYTES: Final = 2**28
"""For the shapes of the windows of a launch; a larger batch goes in parts."""
MOST_BLOCKS: Final = 2**31 - 1

CONSTANTS: Final = {f"{s}_{i}": float(c) for s in ("SIN", "COS", "EXP2") for i, c in enumerate(getattr(floats, s))}


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """Launches for windows of `extent` (T, Y, X) of the videos `params` (N,), as many at a time as the scratch has room for.

    Their number is the places for the shapes of a frame, the ground among them.
    """
    frames, height, width = extent
    places = int(params["slots"].max(initial=0)) + 1
    tiles = -(-width // COLUMNS) * -(-height // ROWS)
    of_a_window = frames * places * LEAF_BYTES
    most = max(1, min(SCRATCH_BYTES // of_a_window, MOST_BLOCKS // (frames * max(tiles, -(-places // THREADS)))))
    plans = []
    for first in range(0, len(params), most):
        n = min(most, len(params) - first)
        words = up(-(-places // 32) + 1, 4)
        steps = (
            Step("leaves_shapes", n * frames * -(-places // THREADS), THREADS, 0),
            Step("leaves_frames", n * frames * tiles, THREADS, 8 * words + up(2 * places, 16)),
        )
        plans.append(LaunchPlan(n, extent, steps, (places,), (n * of_a_window,)))
    return plans

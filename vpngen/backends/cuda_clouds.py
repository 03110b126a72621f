"""How the CUDA backend launches the kernel of motion clouds, `kernels/clouds.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np

from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.generators import Params, Shape, clouds

# Of kernels/clouds.cuh: a test compares them.
THREADS: Final = 128
ROWS: Final = 64
STRIP: Final = 8
CHUNK: Final = 16
BLOCK_BYTES: Final = 64
WAVE_BYTES: Final = 720
"""Of shared memory, for each wave for which there is room."""
CHUNK_BYTES: Final = 16384

CONSTANTS: Final = {
    "CLOUDS_MOST_FREQUENCY": float(np.float32(clouds.MOST_FREQUENCY)),
    "CLOUDS_MOST_TURN": clouds.MOST_TURN,
}


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """The launch for windows of `extent` (T, Y, X) of the videos `params` (N,).

    Its number is that of the waves for which a block has shared memory.
    """
    frames, height, width = extent
    room = up(int(params["waves"].max(initial=clouds.LEAST_WAVES)), CHUNK)
    strips = -(-((width - 1) // (2 * clouds.HALF) + 2) // STRIP)
    blocks = len(params) * -(-frames * height // ROWS) * strips
    shared = BLOCK_BYTES + CHUNK_BYTES + room * WAVE_BYTES
    return [LaunchPlan(len(params), extent, (Step("clouds_render", blocks, THREADS, shared),), (room,))]

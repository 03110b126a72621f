"""How the CUDA backend launches the Perlin kernels of `kernels/perlin.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np

from vpngen import floats
from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.generators import Params, Shape, perlin

# Of kernels/perlin.cuh: a test compares them.
THREADS: Final = 256
PIXELS: Final = 4
FRAMES: Final = 16
TILE_WIDTH: Final = 256
BURST: Final = 4
BLOCK_BYTES: Final = 112
"""sizeof(Block)."""
TERMS: Final = perlin.MAX_TERMS
SHARED_POINTS: Final = 768
"""Lattice points for which a term's shared memory has room at least, where its block has use for them."""
MOST_ROWS: Final = 64
"""Rows of a block, at most: more of them would need more lattice lines than shared memory holds."""

CONSTANTS: Final = {f"{s}_{i}": float(c) for s in ("SIN", "COS") for i, c in enumerate(getattr(floats, s))}
EXTREMES: Final = "perlin_extremes"


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """The launch for windows of `extent` (T, Y, X) of the videos `params` (N,), mixed as they come.

    Its numbers are the rows of a block and, for each term, the lattice points that its shared memory holds.
    """
    frames, height, width = extent
    tile_width = min(width, TILE_WIDTH)
    fitting = min(max(1, THREADS // -(-tile_width // PIXELS)), MOST_ROWS)
    tile_rows = -(-height // -(-height // fitting))
    capacity = [0] * TERMS
    for k in range(int(params["terms"].max(initial=0))):
        sx, sy = params["cell"][:, k, 0].astype(np.int64), params["cell"][:, k, 1].astype(np.int64)
        columns = ((tile_width + sx - 2) // sx + 2 + 3 + 3) // 4 * 4  # from a multiple of 4 to a multiple of 4
        plane = columns * ((tile_rows + sy - 2) // sy + 2)
        capacity[k] = int(np.maximum(plane, np.minimum(plane * (FRAMES + 1), SHARED_POINTS)).max())
    across, down, along = -(-width // tile_width), -(-height // tile_rows), -(-frames // FRAMES)
    pitch = up(tile_width, 16)
    shared = up(BLOCK_BYTES, 16) + FRAMES * TERMS * 16 + BURST * tile_rows * pitch
    shared += 12 * (TERMS * (pitch + tile_rows) + sum(capacity))
    render = Step("perlin_render", len(params) * across * down * along, THREADS, shared)
    return [LaunchPlan(len(params), extent, (render,), (tile_rows, *capacity))]

"""How the CUDA backend launches the drift kernel of `kernels/drift.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np

from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.generators import Params, Shape, drift

# Of kernels/drift.cuh: a test compares them.
THREADS: Final = 128
PIXELS: Final = 4
GROUPS: Final = 4
BLOCK_BYTES: Final = 648
POINT_BYTES: Final = 12
CELL_BYTES: Final = 48

TILE: Final = (32, 64)
"""Rows and columns of a block, at most: all that its threads can have."""
SHARED_BYTES: Final = 32 * 1024
"""Beyond that tiles become smaller, so that a multiprocessor holds several blocks."""

CONSTANTS: Final = {
    "DRIFT_ACROSS": float(drift.ACROSS),
    "DRIFT_ALONG": float(drift.ALONG),
}


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """The launch for windows of `extent` (T, Y, X) of the videos `params` (N,).

    Its numbers are the rows and columns of a block, and the lattice points for which it has shared memory.
    """
    frames, height, width = extent
    rows, columns = min(TILE[0], height), min(TILE[1], up(width, PIXELS))
    each = POINT_BYTES + CELL_BYTES
    while (room := most_points(params, rows, columns)) * each > SHARED_BYTES and (rows, columns) > (1, PIXELS):
        tall = rows > columns or columns == PIXELS
        rows, columns = (-(-rows // 2), columns) if tall else (rows, up(columns // 2, PIXELS))
    shared = up(BLOCK_BYTES, 16) + room * CELL_BYTES + up(room * POINT_BYTES, 16)
    blocks = len(params) * frames * -(-height // rows) * -(-width // columns)
    return [LaunchPlan(len(params), extent, (Step("drift_render", blocks, THREADS, shared),), (rows, columns, room))]


def most_points(params: Params, rows: int, columns: int) -> int:
    """How many lattice points a tile may need, in the video that needs most."""
    half = params["life"] / 2
    scale = 2.0 ** (np.abs(params["zoom"]) * half) * (1 + np.abs(params["shear"]).max(axis=1, initial=0) * half)
    finest = scale * 2.0 ** (params["octaves"] - 1 - drift.FRACTION)
    diagonal = np.hypot(rows - 1, columns - 1)
    cells = (
        np.sqrt((params["lattice"].astype(np.float64) ** 2).sum(axis=2)) * (finest * 1.001 * diagonal)[:, None] + 0.01
    )
    across, lines = np.floor(cells).astype(np.int64).T
    return int(((across + 10) // 4 * 4 * (lines + 3)).max(initial=0))

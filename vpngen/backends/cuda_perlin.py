"""How the CUDA backend launches the Perlin kernels of `kernels/perlin.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np

from vpngen.backends.cuda import Gpu, LaunchPlan, Step, up
from vpngen.generators import Params, Shape, perlin

# Of kernels/perlin.cuh: a test compares them.
THREADS: Final = 384
PIXELS: Final = 4
ROWS: Final = 2
TERMS: Final = perlin.MAX_TERMS
BLOCK_BYTES: Final = 512
FRAME_BYTES: Final = 80
COLUMNS_BYTES: Final = 48
LINE_BYTES: Final = 12
CELL_BYTES: Final = 48
GRADIENTS_BYTES: Final = 48

TILE_FRAMES: Final = 120
"""Frames of a block, at most: more of them share what a block sets up, and the lattice planes at its ends."""
LEAST_FRAMES: Final = 16
"""Where a batch is too small for the GPU, its windows are cut into shorter blocks, down to this."""
TILE_COLUMNS: Final = 256
"""Columns of a block, at most."""

EXTREMES: Final = "perlin_extremes"


def plan(params: Params, extent: Shape, gpu: Gpu) -> list[LaunchPlan]:
    """The launch for windows of `extent` (T, Y, X) of the videos `params` (N,), mixed as they come.

    Its numbers are the threads of a block, its frames, rows and columns, and the bytes of shared memory that it has for
    gradients and cells.
    """
    frames, height, width = extent
    columns = up(-(-width // -(-width // TILE_COLUMNS)), PIXELS)
    most = min(THREADS * PIXELS // columns, -(-height // ROWS))
    pairs = -(-height // (ROWS * -(-height // (ROWS * most))))  # of rows, as alike as can be in all blocks
    along = max(
        -(-frames // TILE_FRAMES),
        min(-(-frames // LEAST_FRAMES), gpu.multiprocessors // max(1, len(params) * -(-height // (ROWS * pairs)))),
    )
    tile_frames = -(-frames // along)
    while True:
        groups = columns // PIXELS
        tables = up(BLOCK_BYTES, 16) + 2 * tile_frames * FRAME_BYTES + groups * TERMS * COLUMNS_BYTES
        tables += up(ROWS * pairs * TERMS * LINE_BYTES, 16)
        least = tables + plane_bytes(params, pairs, columns)
        if least <= gpu.shared_bytes or columns == PIXELS:
            break
        pairs, columns = (pairs - 1, columns) if pairs > 1 else (pairs, up(columns // 2, PIXELS))
    blocks = THREADS // up(groups * pairs, 32)  # of a multiprocessor: that many have registers
    threads = THREADS // blocks // 32 * 32  # those beyond the pixels help to fill shared memory
    # The blocks share its memory, less 1 kB that each of them takes.
    shared = max(least, (gpu.shared_bytes + 1024) // blocks - 1024) // 16 * 16
    across, down, along = -(-width // columns), -(-height // (ROWS * pairs)), -(-frames // tile_frames)
    render = Step("perlin_render", len(params) * across * down * along, threads, shared)
    return [LaunchPlan(len(params), extent, (render,), (threads, tile_frames, ROWS * pairs, columns, shared - tables))]


def plane_bytes(params: Params, pairs: int, columns: int) -> int:
    """Shared memory for the gradients and cells of a lattice plane of each term, for the video that needs most."""
    need = np.zeros(len(params), np.int64)
    for k in range(TERMS):
        sx, sy = (
            np.maximum(1, params["cell"][:, k, 0].astype(np.int64)),
            np.maximum(1, params["cell"][:, k, 1].astype(np.int64)),
        )
        cells, lines = (columns + sx - 2) // sx + 1, (ROWS * pairs + sy - 2) // sy + 2
        groups = (cells + 1 + 3 + 3) // 4 * lines
        of_cells = np.where((sx == 1) & (params["phase"] == 0), 0, pairs * cells * CELL_BYTES)
        need += np.where(k < params["terms"], of_cells + groups * GRADIENTS_BYTES, 0)
    return up(int(need.max(initial=0)), 16)

"""The NumPy reference: slow, and the definition of every byte."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vpngen.backends.base import Backend
from vpngen.floats import F32
from vpngen.generators import GENERATORS, Params, Pixels, Shape
from vpngen.generators.fractal import filled

BLOCK = 16
"""Frames formed at a time, to bound the memory."""


class Reference(Backend):
    """Renders with the generator's own `reference`."""

    name: ClassVar[str] = "reference"

    def render(
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Pixels, threads: int | None
    ) -> None:
        """See `Backend.render`; always one thread."""
        _, frames, height, width = out.shape
        for row, window, video in zip(rows, windows.tolist(), out, strict=True):
            t0, step, y0, x0, flip = window
            t, y, x = t0 + step * np.arange(frames), y0 + np.arange(height), x0 + np.arange(width)
            for i in range(0, frames, BLOCK):
                grey = GENERATORS[generator].reference(row, t[i : i + BLOCK], y, x)
                level = np.clip(np.floor(grey), 0, 255).astype(np.uint8)
                video[i : i + BLOCK] = level[:, :, ::-1] if flip else level

    def extremes(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`; always one thread."""
        plain = rows.copy()
        plain["gain"], plain["bias"] = 1, 0
        t, y, x = (np.arange(n) for n in shape)
        low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        for n, row in enumerate(plain):
            blocks = [GENERATORS[generator].reference(row, t[i : i + BLOCK], y, x) for i in range(0, len(t), BLOCK)]
            low[n], high[n] = min(b.min() for b in blocks), max(b.max() for b in blocks)
        return low, high

    def fill(self, rows: Params, enough: int | None = None) -> npt.NDArray[np.int64]:
        """See `Backend.fill`."""
        found = np.zeros((len(rows), 2), np.int64)
        for n, row in enumerate(rows):
            found[n] = filled(row)
            if enough is not None and found[n, 1] >= enough:
                break
        return found

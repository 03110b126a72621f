"""The NumPy reference: slow, and the definition of every byte."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from vpngen.backends.base import Backend, Windows
from vpngen.floats import F32
from vpngen.generators import GENERATORS, Params, Pixels, Shape

BLOCK = 16
"""Frames computed at a time, to bound the memory."""


class Reference(Backend):
    """Renders with the generator's own `reference`, so it has all generators."""

    name: ClassVar[str] = "reference"

    def require(self, generator: str) -> None:
        """See `Backend.require`."""

    def render(self, generator: str, params: Params, windows: Windows, out: Pixels, threads: int | None) -> None:
        """See `Backend.render`; always one thread."""
        _, frames, height, width = out.shape
        for one, window, video in zip(params, windows.tolist(), out, strict=True):
            t0, step, y0, x0, flip = window
            t, y, x = t0 + step * np.arange(frames), y0 + np.arange(height), x0 + np.arange(width)
            for i in range(0, frames, BLOCK):
                grey = GENERATORS[generator].reference(one, t[i : i + BLOCK], y, x)
                level = np.clip(np.floor(grey), 0, 255).astype(np.uint8)
                video[i : i + BLOCK] = level[:, :, ::-1] if flip else level

    def extremes(self, generator: str, params: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`; always one thread."""
        t, y, x = (np.arange(n) for n in shape)
        low, high = np.empty(len(params), np.float32), np.empty(len(params), np.float32)
        for n, one in enumerate(params):
            blocks = [GENERATORS[generator].reference(one, t[i : i + BLOCK], y, x) for i in range(0, len(t), BLOCK)]
            low[n], high[n] = min(b.min() for b in blocks), max(b.max() for b in blocks)
        return low, high

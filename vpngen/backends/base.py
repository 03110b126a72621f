"""What a backend does: it fills arrays with pixels. All backends give the same bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vpngen.errors import ArgumentError
from vpngen.floats import F32
from vpngen.generators import Params, Pixels, Shape

WHOLE: Final = np.array([[0, 1, 0, 0, 0]], np.int32)
"""The window of a whole video, packed; shape (1, 5)."""


class Backend(ABC):
    """One way to render. Stateless: nothing that is rendered depends on what was rendered before."""

    name: ClassVar[str]

    @abstractmethod
    def render(
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Pixels, threads: int | None
    ) -> None:
        """Fill `out` (N, T, Y, X), C-contiguous, with the windows (N, 5) of the videos `rows` (N,).

        The columns of a window are t0, step, y0, x0, flip: pixel (i, j, k) of its output is that of frame
        t0 + i * step, row y0 + j and column x0 + k, or x0 + X - 1 - k if flip is 1. Nothing is checked here.
        """

    def render_device(
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Any, shape: tuple[int, ...]
    ) -> None:
        """Fill `out`, an array of `shape` (..., T, Y, X) that is not NumPy's; raise ArgumentError where it cannot be."""
        raise ArgumentError(f"is a {type(out).__name__}; the {self.name} backend renders into NumPy arrays", "out")

    @abstractmethod
    def extremes(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """The least and greatest value (N,) of whole videos of `shape` (t, y, x) at gain 1 and bias 0."""

    def fill(self, rows: Params, enough: int | None = None) -> npt.NDArray[np.int64]:
        """What the search for fractals asks of rows (N,) of `fractal`: (N, 2), see `vpngen.generators.fractal.filled`.

        With `enough`, what comes after the first that fills so many pixels is not looked at and stays 0.
        """
        raise ArgumentError(f"the {self.name} backend does not search for fractals; use numba")

    def videos(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """Whole videos of `shape` (t, y, x), one after the other; each is valid until the next is asked for."""
        video = np.empty((1, *shape), np.uint8)
        for i in range(len(rows)):
            self.render(generator, rows[i : i + 1], WHOLE, video, threads)
            yield video[0]

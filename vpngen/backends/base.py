"""What a backend does: it fills arrays with pixels. All backends give the same bytes."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vpngen.errors import ArgumentError, MissingError
from vpngen.floats import F32
from vpngen.generators import Generator, Params, Pixels, Shape
from vpngen.rng import Integers

Windows = npt.NDArray[np.int32]
"""What a batch shows of each video, (N, 5): t0, step, y0, x0 and flip, see `Backend.render`."""
WHOLE: Final = np.array([[0, 1, 0, 0, 0]], np.int32)
"""The window of a whole video, packed; shape (1, 5)."""


def kernels(backend: str, generator: str, part: str | None = None) -> Any:
    """What a backend knows of a generator: the module `vpngen.backends.<backend>_<generator>`, or a `part` of it.

    What such a module holds is said in `vpngen.backends.cpu` and `vpngen.backends.cuda`.

    Raises:
        MissingError: there is no such module, or it has no such part.
    """
    name = f"vpngen.backends.{backend}_{generator}"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        problem = f"needs the package {error.name}, which cannot be imported: {error}; give: pip install {error.name}"
        if error.name == name:
            problem = f"does not have the {generator} generator; use backend='auto', or 'reference', which has all"
        raise MissingError(f"backend {backend!r} {problem}") from None
    if part is not None and not hasattr(module, part):
        problem = f"has no {part.lower()} of the {generator} generator; use backend='reference'"
        raise MissingError(f"backend {backend!r} {problem}")
    return getattr(module, part) if part is not None else module


class Backend(ABC):
    """One way to render. Stateless: nothing that is rendered depends on what was rendered before."""

    name: ClassVar[str]

    def require(self, generator: str) -> None:
        """Raise MissingError unless it can render the generator."""
        kernels(self.name, generator)

    @abstractmethod
    def render(self, generator: str, params: Params, windows: Windows, out: Pixels, threads: int | None) -> None:
        """Fill `out` (N, T, Y, X), C-contiguous, with the windows (N, 5) of the videos `params` (N,).

        The columns of a window are t0, step, y0, x0, flip: pixel (i, j, k) of its output is that of frame
        t0 + i * step, row y0 + j and column x0 + k, or x0 + X - 1 - k if flip is 1. Nothing is checked here.
        """

    def render_device(self, generator: str, params: Params, windows: Windows, out: Any, shape: tuple[int, ...]) -> None:
        """Fill `out`, an array of `shape` (..., T, Y, X) that is not NumPy's; raise ArgumentError where it cannot be."""
        raise ArgumentError(f"is a {type(out).__name__}; the {self.name} backend renders into NumPy arrays", "out")

    @abstractmethod
    def extremes(self, generator: str, params: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """The least and greatest value (N,), before it becomes a byte, of whole videos of `shape` (t, y, x).

        Args:
            generator: one that needs extremes.
            params: (N,), as its `params` gives them.
            shape: of the videos.
            threads: CPU threads; None for all.
        """

    def known(
        self, generator: Generator, name: str, shape: Shape, params: np.void, t: Integers, y: Integers, x: Integers, step: int
    ) -> npt.NDArray[Any]:  # fmt: skip
        """What is known of pixels, see `Generator.known`; rows and columns follow each other."""
        return generator.known(name, shape, params, t, y, x, step)

    def videos(self, generator: str, params: Params, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """Whole videos of `shape` (t, y, x), one after the other; each is valid until the next is asked for."""
        video = np.empty((1, *shape), np.uint8)
        for i in range(len(params)):
            self.render(generator, params[i : i + 1], WHOLE, video, threads)
            yield video[0]

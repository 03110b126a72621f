"""The numba backend: kernels that release the interpreter lock, driven by plain threads.

Tasks are a few milliseconds or less and handed out in small runs from a shared counter, so threads finish together
whatever mix of cheap and costly categories a batch holds. No numba threading layer is used: it would be unsafe in forked
loader workers and in several Python threads at once.
"""

from __future__ import annotations

import itertools
import platform
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from llvmlite import binding

from vpngen.backends import numba_fractal, numba_perlin
from vpngen.backends.base import Backend
from vpngen.floats import F32
from vpngen.generators import Params, Pixels, Shape
from vpngen.units import usable_cpus

_KERNELS: dict[str, Any] = {"perlin": numba_perlin, "fractal": numba_fractal}
"""Generator -> module with `BLOCK`, `DIVISIBLE` and `run`."""
_NO_PIXELS = np.empty(0, np.uint8)
_NO_EXTREMES = np.empty((0, 2), np.float32)
GRABS_A_THREAD = 8


def processor() -> tuple[str, bool]:
    """The name of the processor as the compiler knows it, and whether it has a fused multiply-add."""
    name, features = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    return name, features.get("fma", False) or platform.machine().lower() in ("aarch64", "arm64")


def block_size(kernel: Any, videos: int, frames: int, threads: int) -> int:
    """Frames of a task: the kernel's own size, or a third of it where that leaves a thread fewer than four tasks.

    Not for a kernel whose tasks all begin with the same work.
    """
    large: int = kernel.BLOCK
    few = threads > 1 and kernel.DIVISIBLE and videos * -(-frames // large) < 4 * threads
    return max(large // 3, 1) if few else large


class Numba(Backend):
    """Renders with the compiled kernels of `numba_*`."""

    name: ClassVar[str] = "numba"

    def render(
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Pixels, threads: int | None
    ) -> None:
        """See `Backend.render`."""
        self._run(generator, rows, windows, out.reshape(-1), out.shape[1:], _NO_EXTREMES, threads)

    def extremes(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`."""
        plain = rows.copy()
        plain["gain"], plain["bias"] = 1, 0
        blocks = -(-shape[0] // block_size(_KERNELS[generator], len(rows), shape[0], threads or usable_cpus()))
        found = np.empty((len(rows) * blocks, 2), np.float32)
        windows = np.tile(np.array([0, 1, 0, 0, 0], np.int32), (len(rows), 1))
        self._run(generator, plain, windows, _NO_PIXELS, shape, found, threads)
        each = found.reshape(len(rows), blocks, 2)
        return each[..., 0].min(axis=1), each[..., 1].max(axis=1)

    def fill(self, rows: Params, enough: int | None = None) -> npt.NDArray[np.int64]:
        """See `Backend.fill`; always one thread."""
        found = np.zeros((len(rows), 2), np.int64)
        numba_fractal.fill(rows, found, 0, len(rows), 2**62 if enough is None else enough)
        return found

    @staticmethod
    def _run(
        generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Pixels, extent: tuple[int, ...],
        extremes: F32, threads: int | None,
    ) -> None:  # fmt: skip
        kernel = _KERNELS[generator]
        size = block_size(kernel, len(rows), extent[0], threads or usable_cpus())
        tasks = len(rows) * -(-extent[0] // size)
        crew = min(threads or usable_cpus(), tasks)
        if crew <= 1:
            kernel.run(rows, windows, out, extent, extremes, size, 0, tasks)
            return
        grab = max(1, tasks // (crew * GRABS_A_THREAD))
        starts = itertools.count(0, grab)
        lock = threading.Lock()

        def work(_: int) -> None:
            while True:
                with lock:
                    start = next(starts)
                if start >= tasks:
                    return
                kernel.run(rows, windows, out, extent, extremes, size, start, min(start + grab, tasks))

        with ThreadPoolExecutor(crew) as pool:
            for done in [pool.submit(work, i) for i in range(crew)]:
                done.result()

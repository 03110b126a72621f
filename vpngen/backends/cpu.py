"""The numba backend: kernels that release the interpreter lock, driven by plain threads.

Tasks are a few milliseconds or less and handed out in small runs from a shared iterator, so threads finish together
whatever mix of cheap and costly categories a batch holds. No numba threading layer is used: it would be unsafe in forked
loader workers and in several Python threads at once.

The kernels of a generator are the module `numba_<generator>`, compiled by `vpngen.backends.compiled.kernel`. It holds:

    BLOCK       frames of a task, at most
    DIVISIBLE   whether smaller tasks are worth their while: not where all of them begin with the same work
    render(params, windows, out, extent, size, first, last)
                tasks [first, last) of a batch. `out` is the flat uint8 output (N * T * Y * X), `extent` (T, Y, X); a video
                has ceil(T / size) tasks, `size` at most BLOCK.
    extremes(params, windows, found, extent, size, first, last)
                where the generator needs them: the least and greatest value of each task into `found` (tasks, 2), float32.
    known(name, params, t, y, x, step)
                where the generator's own `known` would be slow: the same.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from llvmlite import binding

from vpngen.backends import compiled  # noqa: F401  # which says where nothing can be compiled
from vpngen.backends.base import WHOLE, Backend, Windows, kernels
from vpngen.floats import F32
from vpngen.generators import Generator, Params, Pixels, Shape
from vpngen.rng import Integers
from vpngen.units import usable_cpus

GRABS_A_THREAD = 8
MOST_AT_ONCE = 64
"""Tasks of one call of a kernel, during which no signal is heard: tenths of a second."""


def processor() -> tuple[str, bool]:
    """The name of the CPU as the compiler knows it, and whether it has a fused multiply-add."""
    name, features = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    return name, features.get("fma", False) or platform.machine().lower() in ("aarch64", "arm64")


def block_size(module: Any, videos: int, frames: int, threads: int) -> int:
    """Frames of a task: the module's own size, or a third of it where that leaves a thread fewer than four tasks."""
    large: int = module.BLOCK
    few = threads > 1 and module.DIVISIBLE and videos * -(-frames // large) < 4 * threads
    return max(large // 3, 1) if few else large


class Numba(Backend):
    """Renders with the compiled kernels of `numba_*`."""

    name: ClassVar[str] = "numba"

    def render(self, generator: str, params: Params, windows: Windows, out: Pixels, threads: int | None) -> None:
        """See `Backend.render`."""
        module, threads = kernels(self.name, generator), threads or usable_cpus()
        extent = out.shape[1:]
        size = block_size(module, len(params), extent[0], threads)
        work = functools.partial(module.render, params, windows, out.reshape(-1), extent, size)
        _share(work, len(params) * -(-extent[0] // size), threads)

    def extremes(self, generator: str, params: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`."""
        kernel, threads = kernels(self.name, generator, "extremes"), threads or usable_cpus()
        size = block_size(kernels(self.name, generator), len(params), shape[0], threads)
        found = np.empty((len(params), -(-shape[0] // size), 2), np.float32)
        flat, windows = found.reshape(-1, 2), np.repeat(WHOLE, len(params), axis=0)
        _share(functools.partial(kernel, params, windows, flat, shape, size), len(flat), threads)
        return found[..., 0].min(axis=1), found[..., 1].max(axis=1)

    def known(
        self, generator: Generator, name: str, shape: Shape, params: np.void, t: Integers, y: Integers, x: Integers, step: int
    ) -> npt.NDArray[Any]:  # fmt: skip
        """See `Backend.known`."""
        fast = getattr(kernels(self.name, generator.name), "known", None)
        if fast is None:
            return generator.known(name, shape, params, t, y, x, step)
        found: npt.NDArray[Any] = fast(name, params, t, y, x, step)
        return found


def _share(work: Callable[[int, int], None], tasks: int, threads: int) -> None:
    """work(first, last) for runs of `tasks`, by up to so many threads. An error or a signal ends it after the runs at hand."""
    threads = min(threads, tasks)
    grab = min(max(1, tasks // (max(threads, 1) * GRABS_A_THREAD)), MOST_AT_ONCE) if threads > 1 else MOST_AT_ONCE
    starts = iter(range(0, tasks, grab))  # one for all threads: the interpreter lock makes its steps atomic
    stopped = False

    def loop(_: int) -> None:
        for start in starts:
            if stopped:
                return
            work(start, min(start + grab, tasks))

    if threads <= 1:
        loop(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            list(pool.map(loop, range(threads)))
        except BaseException:
            stopped = True
            raise

"""The CUDA backend: the kernels of `kernels/`, compiled by NVRTC through CuPy, on any tensor of the card.

Rows (96 bytes a video) and windows (20 bytes) go up; gradients are hashed on the card and pixels are born there. The
arithmetic of a launch, `plan_launch`, needs no card and is tested without one.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vpngen.backends.base import F32, WHOLE, Backend
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.generators import Pixels, Rows, Shape
from vpngen.generators import perlin as _perlin

THREADS: Final = 256
PIXELS: Final = 4
FRAMES: Final = 16
TILE_WIDTH: Final = 256
BURST: Final = 4
BLOCK_BYTES: Final = 112
"""sizeof(Block). These six are the constants of kernels/perlin.cuh: a test compares them."""
TERMS: Final = _perlin.MAX_TERMS
SHARED_POINTS: Final = 768
"""Lattice points for which a term's shared memory has room at least, where its block has use for them."""
MOST_ROWS: Final = 64
"""Rows of a block, at most: more of them would need more lattice lines than shared memory holds."""
LEAST_CAPABILITY: Final = (7, 5)
INSTALL: Final = "pip install 'vpngen[cuda13]' (for CUDA 13 drivers) or 'vpngen[cuda12]'"
VIDEOS_A_PASS: Final = 4096
"""Whose extremes are taken in one launch."""
MEMORY_SHARE: Final = 0.5
"""Of the free memory of a card, what a batch that goes to the host may take."""


# --- what needs no card


@dataclass(frozen=True)
class LaunchPlan:
    """How a batch is cut into blocks; `kernels/perlin.cuh` cuts it the same way.

    Attributes:
        extent: (T, Y, X) of each window.
        tile_rows: rows of a block.
        capacity: lattice points that the shared memory of each term holds.
        blocks: the number of blocks.
        shared_bytes: dynamic shared memory of a block.
    """

    extent: Shape
    tile_rows: int
    capacity: tuple[int, int, int]
    blocks: int
    shared_bytes: int


def plan_launch(rows: Rows, extent: Shape) -> LaunchPlan:
    """The launch for windows of `extent` (T, Y, X) of the videos `rows` (N,), mixed as they come."""
    frames, height, width = extent
    tile_width = min(width, TILE_WIDTH)
    fitting = min(max(1, THREADS // -(-tile_width // PIXELS)), MOST_ROWS)
    tile_rows = -(-height // -(-height // fitting))
    capacity = [0] * TERMS
    for k in range(int(rows["terms"].max(initial=0))):
        sx, sy = rows["cell"][:, k, 0].astype(np.int64), rows["cell"][:, k, 1].astype(np.int64)
        columns = ((tile_width + sx - 2) // sx + 2 + 3 + 3) // 4 * 4  # from a multiple of 4 to a multiple of 4
        plane = columns * ((tile_rows + sy - 2) // sy + 2)
        capacity[k] = int(np.maximum(plane, np.minimum(plane * (FRAMES + 1), SHARED_POINTS)).max())
    across, down, along = -(-width // tile_width), -(-height // tile_rows), -(-frames // FRAMES)
    pitch = -(-tile_width // 16) * 16
    shared = (
        -(-BLOCK_BYTES // 16) * 16
        + FRAMES * TERMS * 16
        + BURST * tile_rows * pitch
        + TERMS * 12 * (pitch + tile_rows)
        + 12 * sum(capacity)
    )
    return LaunchPlan(
        extent, tile_rows, (capacity[0], capacity[1], capacity[2]), len(rows) * across * down * along, shared
    )


def kernel_folder() -> Path:
    """Where the CUDA sources are: in the installed package, or in the repository.

    Raises:
        MissingError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_kernels", package.parent / "kernels"):
        if (folder / "perlin.cu").is_file():
            return folder
    raise MissingError(
        "the CUDA sources are not in this installation; install it again: pip install --force-reinstall vpngen"
    )


def expanded_source(name: str) -> str:
    """A CUDA source with its own includes put in place, so that a compile cache keyed by text sees every change."""
    folder = kernel_folder()

    def expand(path: Path) -> str:
        text = path.read_text("utf-8")
        return re.sub(r'^#include "([^"]+)"$', lambda m: expand(folder / m[1]), text, flags=re.MULTILINE)

    return expand(folder / f"{name}.cu")


def compile_options() -> tuple[str, ...]:
    """Options of NVRTC and nvcc alike: no multiply-adds but those that are written, and the coefficients of sine and cosine.

    CuPy adds -ftz=true, which flushes subnormal numbers to zero, so it stands here too: what is tested is what runs. No byte
    depends on it: next to a grey level a subnormal number is nothing.
    """
    series = {"SIN": _perlin.SIN, "COS": _perlin.COS}
    defines = (f"-D{n}_{i}={float(c).hex()}f" for n, values in series.items() for i, c in enumerate(values))
    return ("--std=c++17", "--fmad=false", "-ftz=true", *defines)


# --- the card


@functools.cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingError(
            f"backend 'cuda' needs CuPy, which cannot be imported ({error}); install it with: {INSTALL}"
        ) from None
    except OSError as error:  # it makes its cache folder when it is imported
        raise MissingError(
            f"backend 'cuda' needs CuPy, which cannot make its cache folder ({error}); set CUPY_CACHE_DIR to a folder "
            f"that can be written"
        ) from None
    return cupy


def _check_process() -> None:
    if _born_in != os.getpid():
        raise MissingError(
            "backend 'cuda' cannot be used in a forked process: CUDA does not survive a fork. Start workers with the "
            "spawn method, or render on the CPU there (backend='numba')"
        )


_born_in = os.getpid()


class Cuda(Backend):
    """Renders on one card."""

    name: ClassVar[str] = "cuda"

    def __init__(self, device: int = 0) -> None:
        _check_process()
        cupy = _cupy()
        try:
            cards = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise MissingError(
                f"backend 'cuda' finds no usable driver or card ({error}); install the NVIDIA driver, or use backend='numba'"
            ) from None
        if not cards:
            raise MissingError("backend 'cuda' finds no card; use backend='numba'")
        if not 0 <= device < cards:
            raise ArgumentError(
                f"`backend` names card {device}, but this machine has {cards} (cuda:0 to cuda:{cards - 1})"
            )
        properties = cupy.cuda.runtime.getDeviceProperties(device)
        capability = (properties["major"], properties["minor"])
        if capability < LEAST_CAPABILITY:
            raise MissingError(
                f"card {device} ({properties['name'].decode()}) has compute capability {capability[0]}.{capability[1]}; "
                f"the kernels need {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} or newer; use backend='numba'"
            )
        try:
            cupy.cuda.nvrtc.getVersion()
        except Exception as error:  # the loader of the library raises what it likes
            raise MissingError(
                f"backend 'cuda' needs NVRTC, which does not load ({error}); install it with: {INSTALL}"
            ) from None
        self.device = device
        self.architecture = f"sm_{capability[0]}{capability[1]}"
        self._shared_limit = int(properties["sharedMemPerBlockOptin"])
        self._kernels: dict[str, Any] = {}

    @contextmanager
    def _on_card(self, what: str) -> Iterator[Any]:
        """CuPy, with this card as the current one; what CUDA raises within becomes an error that says what failed."""
        _check_process()
        cupy = _cupy()
        try:
            with cupy.cuda.Device(self.device):
                yield cupy
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise MissingError(
                f"card {self.device} is out of memory for {what}: {error}; render fewer videos at a time"
            ) from None
        except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
            raise RunError(f"{what} failed on card {self.device} ({self.architecture}): {error}") from error

    # --- the interface of every backend

    def render(
        self, generator: str, rows: Rows, windows: npt.NDArray[np.int32], out: Pixels, threads: int | None
    ) -> None:
        """See `Backend.render`; `threads` plays no part. A batch that the card cannot hold goes in pieces."""
        if not out.size:
            return
        extent = (out.shape[1], out.shape[2], out.shape[3])
        with self._on_card(f"perlin_render of {len(rows)} windows of {extent}") as cupy:
            free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
            step = max(1, min(len(rows), int(free * MEMORY_SHARE) // int(np.prod(extent))))
            pixels = cupy.empty((step, *extent), np.uint8)
            for i in range(0, len(rows), step):
                part = out[i : i + step]
                batch = self._prepare(rows[i : i + step], windows[i : i + step], extent)
                self._launch("perlin_render", batch, pixels[: len(part)])
                pixels[: len(part)].get(out=part)

    def render_device(
        self, generator: str, rows: Rows, windows: npt.NDArray[np.int32], out: Any, shape: tuple[int, ...]
    ) -> None:
        """See `Backend.render_device`: on torch's current stream for its tensors, else CuPy's, without waiting for it."""
        with (
            self._on_card(f"perlin_render of {len(rows)} windows into {shape}") as cupy,
            _stream_of(cupy, out, self.device),
        ):
            pixels = self._adopt(out, shape)
            if pixels.size:
                self._launch("perlin_render", self._prepare(rows, windows, (shape[-3], shape[-2], shape[-1])), pixels)

    def extremes(self, generator: str, rows: Rows, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`."""
        plain = rows.copy()
        plain["gain"], plain["bias"] = 1, 0
        low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        for i in range(0, len(rows), VIDEOS_A_PASS):
            some = plain[i : i + VIDEOS_A_PASS]
            with self._on_card(f"perlin_extremes of {len(some)} videos of {shape}") as cupy:
                batch = self._prepare(some, np.repeat(WHOLE, len(some), axis=0), shape)
                found = cupy.empty((batch.plan.blocks, 2), np.float32)
                self._launch("perlin_extremes", batch, found)
                each = found.get().reshape(len(some), -1, 2)
            low[i : i + VIDEOS_A_PASS], high[i : i + VIDEOS_A_PASS] = each[..., 0].min(axis=1), each[..., 1].max(axis=1)
        return low, high

    def videos(self, generator: str, rows: Rows, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """See `Backend.videos`: while the caller packs a video, the card renders the next into pinned memory."""
        what = f"perlin_render of videos of {shape} into pinned memory"
        buffers = min(2, len(rows))
        with self._on_card(what) as cupy:
            stream = cupy.cuda.Stream(non_blocking=True)
            pinned = [_pinned(cupy, shape) for _ in range(buffers)]
            card = [cupy.empty((1, *shape), np.uint8) for _ in range(buffers)]
            stream.wait_event(cupy.cuda.get_current_stream().record())  # on which the memory was had
        done: list[Any] = [None] * buffers
        try:
            for i in range(len(rows) + 1):
                with self._on_card(what) as cupy:
                    if i < len(rows):
                        with stream:
                            at = i % buffers
                            self._launch("perlin_render", self._prepare(rows[i : i + 1], WHOLE, shape), card[at])
                            card[at].get(out=pinned[at][None], stream=stream, blocking=False)
                            done[at] = stream.record(cupy.cuda.Event(block=True, disable_timing=True))
                    if i:
                        done[(i - 1) % buffers].synchronize()
                if i:
                    yield pinned[(i - 1) % buffers]
        finally:  # the buffers go back to their pools: nothing may be on its way into them
            with self._on_card(what):
                stream.synchronize()

    # --- device memory

    def prepare(self, rows: Rows, windows: npt.NDArray[np.int32], extent: Shape) -> Batch:
        """Rows (N,) and windows (N, 5) on the card, ready for `launch` on any stream, any number of times.

        The batch must live until its launches, and the CUDA graphs that captured them, are done.
        """
        with self._on_card(f"preparing {len(rows)} windows of {extent}") as cupy:
            self._kernel("perlin_render")  # loaded here, since a capture allows no loading
            batch = self._prepare(rows, windows, extent)
            cupy.cuda.get_current_stream().synchronize()
        return batch

    def launch(self, batch: Batch, out: Any) -> None:
        """Render a prepared batch into `out`, (N, T, Y, X) uint8 on this card; returns at once. May be captured in a graph.

        `out` is a torch tensor, a CuPy array, or anything else with the CUDA array interface or DLPack. The work goes to
        torch's current stream for its tensors, else to CuPy's current stream.

        Raises:
            ArgumentError: the wrong type, shape, strides or card.
            RunError: the launch failed.
        """
        with self._on_card(f"perlin_render of {batch.n} windows") as cupy, _stream_of(cupy, out, self.device):
            self._launch("perlin_render", batch, self._adopt(out, (batch.n, *batch.plan.extent)))

    def _prepare(self, rows: Rows, windows: npt.NDArray[np.int32], extent: Shape) -> Batch:
        plan = plan_launch(rows, extent)
        if plan.shared_bytes > self._shared_limit or plan.blocks >= 2**31:
            raise ArgumentError(
                f"{len(rows)} windows of {extent} need {plan.blocks} blocks with {plan.shared_bytes} bytes of shared memory; "
                f"card {self.device} has {self._shared_limit} bytes and takes {2**31 - 1} blocks"
            )
        cupy = _cupy()
        packed = cupy.asarray(np.ascontiguousarray(rows).view(np.uint8))
        return Batch(plan, len(rows), packed, cupy.asarray(np.ascontiguousarray(windows, np.int32)))

    def _adopt(self, out: Any, shape: tuple[int, ...]) -> Any:
        """`out` as a CuPy array that shares its memory. A copy would be filled in its place without a word."""
        cupy = _cupy()
        what = f"`out` must be a contiguous writeable uint8 array of shape {shape} on card {self.device}"
        try:
            if isinstance(out, cupy.ndarray):
                pixels = out
            elif getattr(out, "__cuda_array_interface__", None) is not None:
                pointer, fixed = out.__cuda_array_interface__["data"]
                home = cupy.cuda.runtime.pointerGetAttributes(pointer).device if pointer else self.device
                if home != self.device or fixed:
                    raise ArgumentError(f"{what}; it is {'read-only' if fixed else f'on card {home}'}")
                pixels = cupy.asarray(out)
            elif hasattr(out, "__dlpack__"):
                pixels = cupy.from_dlpack(out)
            else:
                raise ArgumentError(f"{what}, not a {type(out).__name__}")
        except ArgumentError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError, BufferError) as error:
            raise ArgumentError(f"{what}; this {type(out).__name__} cannot be taken: {error}") from None
        if pixels.device.id != self.device:
            raise ArgumentError(f"{what}; it is on card {pixels.device.id}")
        if pixels.dtype != np.uint8 or pixels.shape != shape or not pixels.flags.c_contiguous:
            raise ArgumentError(f"{what}, not {pixels.dtype} {pixels.shape} with strides {pixels.strides}")
        return pixels

    def _launch(self, name: str, batch: Batch, target: Any) -> None:
        plan = batch.plan
        if not plan.blocks:
            return
        numbers = (batch.n, *plan.extent, plan.tile_rows, *plan.capacity)
        arguments = (batch.rows, batch.windows, target, *(np.int32(v) for v in numbers))
        with self._on_card(f"{name} with {plan}, arguments {numbers},"):
            self._kernel(name)((plan.blocks,), (THREADS,), arguments, shared_mem=plan.shared_bytes)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            cupy = _cupy()
            try:
                module = cupy.RawModule(code=expanded_source("perlin"), options=compile_options(), backend="nvrtc")
                kernel = module.get_function(name)
                kernel.max_dynamic_shared_size_bytes = self._shared_limit
            except (cupy.cuda.compiler.CompileException, cupy.cuda.driver.CUDADriverError, OSError) as error:
                raise RunError(f"{name} does not compile or load for {self.architecture}: {error}") from error
            self._kernels[name] = kernel
        return self._kernels[name]


def describe() -> list[tuple[str, str]]:
    """What there is of NVRTC, driver and cards, as (name, value); empty where CuPy is missing. Raises nothing."""
    try:
        cupy = _cupy()
    except MissingError:
        return []
    facts = []
    try:
        facts.append(("NVRTC", ".".join(map(str, cupy.cuda.nvrtc.getVersion()))))
    except Exception as error:  # the loader of the library raises what it likes
        facts.append(("NVRTC", f"does not load: {error}"))
    try:
        version = cupy.cuda.runtime.driverGetVersion()
        facts.append(("CUDA driver", f"for CUDA {version // 1000}.{version % 1000 // 10}" if version else "none"))
        for i in range(cupy.cuda.runtime.getDeviceCount()):
            card = cupy.cuda.runtime.getDeviceProperties(i)
            gigabytes = card["totalGlobalMem"] / 1e9
            facts.append(
                (f"cuda:{i}", f"{card['name'].decode()}, sm_{card['major']}{card['minor']}, {gigabytes:.0f} GB")
            )
    except cupy.cuda.runtime.CUDARuntimeError as error:
        facts.append(("cards", f"none: {error}"))
    return facts


@dataclass(frozen=True)
class Batch:
    """Rows and windows of `n` videos on a card, and how to launch them."""

    plan: LaunchPlan
    n: int
    rows: Any
    windows: Any


def _pinned(cupy: Any, shape: Shape) -> Pixels:
    size = int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(size)
    return np.frombuffer(memory, np.uint8, size).reshape(shape)


def _stream_of(cupy: Any, out: Any, device: int) -> AbstractContextManager[Any]:
    """The stream that work on `out` belongs to: torch's current one for its tensors, else CuPy's."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(out, torch.Tensor) or not out.is_cuda:
        return nullcontext()
    pointer = torch.cuda.current_stream(device).cuda_stream
    if not pointer:
        stream = cupy.cuda.Stream.null
    elif hasattr(cupy.cuda.Stream, "from_external"):
        stream = cupy.cuda.Stream.from_external(_Handle(pointer))
    else:  # CuPy before 14
        stream = cupy.cuda.ExternalStream(pointer, device)
    return stream  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Handle:
    """A stream of another library, in the form of the CUDA stream protocol."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer

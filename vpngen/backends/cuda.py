"""The CUDA backend: the kernels of `kernels/`, compiled by NVRTC through CuPy, on any tensor of the card.

Params (at most 256 bytes a video) and windows (20 bytes) go up; what is random is hashed on the card and pixels are born
there. The arithmetic of launches, `plan_perlin` and `plan_fractal`, needs no card and is tested without one. A new generator
is a plan, a line in `PROGRAMS` and its files in `kernels/`.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vpngen import floats
from vpngen.backends.base import WHOLE, Backend
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.floats import F32
from vpngen.generators import GENERATORS, Params, Pixels, Shape
from vpngen.generators import fractal as _fractal
from vpngen.generators import perlin as _perlin

# Of kernels/perlin.cuh: a test compares them.
THREADS: Final = 256
PIXELS: Final = 4
FRAMES: Final = 16
TILE_WIDTH: Final = 256
BURST: Final = 4
BLOCK_BYTES: Final = 112
"""sizeof(Block)."""
TERMS: Final = _perlin.MAX_TERMS
SHARED_POINTS: Final = 768
"""Lattice points for which a term's shared memory has room at least, where its block has use for them."""
MOST_ROWS: Final = 64
"""Params of a block, at most: more of them would need more lattice lines than shared memory holds."""

# Of kernels/fractal.cuh: a test compares these too.
CHUNKS: Final = 128
"""Of a block of the first kernel."""
FRAME_THREADS: Final = 512
MAPS_BYTES: Final = 192
PLACE_BYTES: Final = 48
ENDS_BYTES: Final = 16
POINT_BYTES: Final = 10
"""x, y and the word of a patch."""
MOST_RUN: Final = 72 * 1024
"""Pixels of a block, at most: every run of a window reads all points of the video again."""
LEAST_RUN: Final = 4096
"""Where a batch is too small for the card, its windows are cut into shorter runs, down to this."""
MOST_PIXELS: Final = 2**30
"""Of a frame."""
SCRATCH_BYTES: Final = 2**28
"""For the points of the windows of a launch; a larger batch goes in parts."""

LEAST_CAPABILITY: Final = (7, 5)
INSTALL: Final = "pip install 'vpngen[cuda13]' (for CUDA 13 drivers) or 'vpngen[cuda12]'"
VIDEOS_A_PASS: Final = 4096
"""Whose extremes are taken in one launch."""
MEMORY_SHARE: Final = 0.5
"""Of the free memory of a card, what a batch that goes to the host may take."""


# --- what needs no card


@dataclass(frozen=True)
class Card:
    """What of a card decides how a batch is cut. The bytes hang on none of it.

    Attributes:
        processors: its multiprocessors.
        shared_bytes: the most shared memory that a block can have.
    """

    processors: int
    shared_bytes: int


@dataclass(frozen=True)
class Step:
    """One kernel of a launch."""

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True)
class LaunchPlan:
    """How some windows of a batch are rendered: kernels that follow one another, all with the same arguments.

    These are rows, windows, target, scratch, the number of windows, T, Y, X and `numbers`.

    Attributes:
        n: windows.
        extent: (T, Y, X) of each.
        steps: the kernels.
        numbers: how the windows are cut into blocks; the sources in `kernels/` cut them the same way.
        scratch: bytes of each buffer that the kernels share.
    """

    n: int
    extent: Shape
    steps: tuple[Step, ...]
    numbers: tuple[int, ...]
    scratch: tuple[int, ...] = ()


def plan_perlin(rows: Params, extent: Shape, card: Card) -> list[LaunchPlan]:
    """The launch for windows of `extent` (T, Y, X) of the videos `rows` (N,), mixed as they come.

    Its numbers are the rows of a block and, for each term, the lattice points that its shared memory holds.
    """
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
    render = Step("perlin_render", len(rows) * across * down * along, THREADS, shared)
    return [LaunchPlan(len(rows), extent, (render,), (tile_rows, *capacity))]


def plan_fractal(rows: Params, extent: Shape, card: Card) -> list[LaunchPlan]:
    """Launches for windows of `extent` (T, Y, X) of the videos `rows` (N,), as many at a time as the scratch has room for.

    Their numbers are the places for the points of a window, and the pixels of a block.

    Raises:
        ArgumentError: frames that are too large.
    """
    _, height, width = extent
    if height * width > MOST_PIXELS:
        raise ArgumentError(
            f"the cuda backend draws fractals in frames of up to {MOST_PIXELS} pixels, not {height} x {width}; "
            f"use backend='numba', or a smaller window"
        )
    points = rows["frames"].astype(np.int64) * rows["points_per_frame"]
    chunks = -(-int(points.max(initial=0)) // _fractal.CHUNK)
    of_a_window = chunks * (_fractal.CHUNK * POINT_BYTES + ENDS_BYTES)
    most = max(1, SCRATCH_BYTES // max(1, of_a_window))
    longest = min(MOST_RUN, max(LEAST_RUN, (card.shared_bytes // 2 - 1024) // 16 * 16))
    plans = []
    for first in range(0, len(rows), most):
        n = min(most, len(rows) - first)
        runs = max(-(-height * width // longest), min(card.processors // n, height * width // LEAST_RUN))
        run = -(-height * width // runs)
        run = -(-run // 16) * 16
        shared = PLACE_BYTES + max(FRAME_THREADS * ENDS_BYTES, run + 16)
        steps = (
            Step("fractal_points", n * -(-chunks // CHUNKS), CHUNKS, MAPS_BYTES),
            Step("fractal_frames", n * -(-height * width // run), FRAME_THREADS, shared),
        )
        places = chunks * _fractal.CHUNK
        plans.append(
            LaunchPlan(n, extent, steps, (places, run), (8 * n * places, 2 * n * places, n * chunks * ENDS_BYTES))
        )
    return plans


def _series() -> Iterator[str]:
    """The coefficients of sine and cosine."""
    for name, values in {"SIN": floats.SIN, "COS": floats.COS}.items():
        yield from (f"-D{name}_{i}={float(c).hex()}f" for i, c in enumerate(values))


@dataclass(frozen=True)
class Program:
    """What the card knows of a generator.

    Attributes:
        source: the name of its file in `kernels/`.
        plan: from rows, extent and card, the launches of a batch in the order of its windows.
        options: of the compiler, for this source.
    """

    source: str
    plan: Callable[[Params, Shape, Card], list[LaunchPlan]]
    options: tuple[str, ...] = ()


PROGRAMS: Final[dict[str, Program]] = {
    "perlin": Program("perlin", plan_perlin, tuple(_series())),
    "fractal": Program("fractal", plan_fractal),
}


def kernel_folder() -> Path:
    """Where the CUDA sources are: in the installed package, or in the repository.

    Raises:
        MissingError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_kernels", package.parent / "kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise MissingError(
        "the CUDA sources are not in this installation; install it again: pip install --force-reinstall vpngen"
    )


def expanded_source(generator: str) -> str:
    """The CUDA source of a generator with its includes put in place: a compile cache keyed by text sees every change."""
    folder = kernel_folder()

    def expand(path: Path) -> str:
        text = path.read_text("utf-8")
        return re.sub(r'^#include "([^"]+)"$', lambda m: expand(folder / m[1]), text, flags=re.MULTILINE)

    return expand(folder / f"{PROGRAMS[generator].source}.cu")


def compile_options(generator: str) -> tuple[str, ...]:
    """Options of NVRTC and nvcc alike: no multiply-adds but those that are written, and what a generator wants defined.

    CuPy adds -ftz=true, which flushes subnormal numbers to zero, so it stands here too: what is tested is what runs. No byte
    depends on it: next to a grey level a subnormal number is nothing, and the points of fractals do not heed it.
    """
    return ("--std=c++17", "--fmad=false", "-ftz=true", *PROGRAMS[generator].options)


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
                f"names card {device}, but this machine has {cards} (cuda:0 to cuda:{cards - 1})", "backend"
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
        self.card = Card(int(properties["multiProcessorCount"]), int(properties["sharedMemPerBlockOptin"]))
        self._modules: dict[str, Any] = {}
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
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Pixels, threads: int | None
    ) -> None:
        """See `Backend.render`; `threads` plays no part. A batch that the card cannot hold goes in pieces."""
        if not out.size:
            return
        extent = (out.shape[1], out.shape[2], out.shape[3])
        with self._on_card(f"{generator} of {len(rows)} windows of {extent}") as cupy:
            free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
            step = max(1, min(len(rows), int(free * MEMORY_SHARE) // int(np.prod(extent))))
            pixels = cupy.empty((step, *extent), np.uint8)
            for i in range(0, len(rows), step):
                part = out[i : i + step]
                batch = self._prepare(generator, rows[i : i + step], windows[i : i + step], extent)
                self._launch(batch, pixels[: len(part)])
                pixels[: len(part)].get(out=part)

    def render_device(
        self, generator: str, rows: Params, windows: npt.NDArray[np.int32], out: Any, shape: tuple[int, ...]
    ) -> None:
        """See `Backend.render_device`: on torch's current stream for its tensors, else CuPy's, without waiting for it."""
        with (
            self._on_card(f"{generator} of {len(rows)} windows into {shape}") as cupy,
            _stream_of(cupy, out, self.device),
        ):
            pixels = self._adopt(out, shape)
            if pixels.size:
                extent = (shape[-3], shape[-2], shape[-1])
                self._launch(self._prepare(generator, rows, windows, extent), pixels.reshape(-1, *extent))

    def extremes(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`; of perlin alone, the one generator that needs them."""
        plain = rows.copy()
        plain["gain"], plain["bias"] = 1, 0
        low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        for i in range(0, len(rows), VIDEOS_A_PASS):
            some = plain[i : i + VIDEOS_A_PASS]
            # A stream of its own: the default one is torch's too, and what is fetched would wait for the step under way there.
            with (
                self._on_card(f"perlin_extremes of {len(some)} videos of {shape}") as cupy,
                cupy.cuda.Stream(non_blocking=True),
            ):
                batch = self._prepare("perlin", some, np.repeat(WHOLE, len(some), axis=0), shape)
                (part,) = batch.parts
                (render,) = part.plan.steps
                found = cupy.empty((render.blocks, 2), np.float32)
                self._run("perlin", part, replace(render, kernel="perlin_extremes"), found)
                each = found.get().reshape(len(some), -1, 2)
            low[i : i + VIDEOS_A_PASS], high[i : i + VIDEOS_A_PASS] = each[..., 0].min(axis=1), each[..., 1].max(axis=1)
        return low, high

    def videos(self, generator: str, rows: Params, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """See `Backend.videos`: while the caller packs a video, the card renders the next into pinned memory."""
        what = f"{generator} of videos of {shape} into pinned memory"
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
                            self._launch(self._prepare(generator, rows[i : i + 1], WHOLE, shape), card[at])
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

    def prepare(self, rows: Params, windows: npt.NDArray[np.int32], extent: Shape, generator: str = "perlin") -> Batch:
        """Params (N,) and windows (N, 5) on the card, ready for `launch` on any stream, any number of times.

        The batch must live until its launches, and the CUDA graphs that captured them, are done. Where its generator has
        scratch memory (`fractal`), the batch holds it, so its launches must follow one another: on one stream, or with events.
        """
        with self._on_card(f"preparing {len(rows)} windows of {extent} for {generator}") as cupy:
            batch = self._prepare(generator, rows, windows, extent)
            for step in (step for part in batch.parts for step in part.plan.steps):
                self._kernel(generator, step.kernel)  # loaded here, since a capture allows no loading
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
        what = f"{batch.generator} of {batch.n} windows"
        with self._on_card(what) as cupy, _stream_of(cupy, out, self.device):
            self._launch(batch, self._adopt(out, (batch.n, *batch.extent)))

    def _prepare(self, generator: str, rows: Params, windows: npt.NDArray[np.int32], extent: Shape) -> Batch:
        """The batch, with memory of the current stream."""
        plans = PROGRAMS[generator].plan(rows, extent, self.card)
        for step in (step for plan in plans for step in plan.steps):
            if step.shared_bytes > self.card.shared_bytes or step.blocks >= 2**31:
                raise ArgumentError(
                    f"{len(rows)} windows of {extent} need {step.blocks} blocks of {step.kernel} with {step.shared_bytes} bytes "
                    f"of shared memory; card {self.device} has {self.card.shared_bytes} bytes and takes {2**31 - 1} blocks"
                )
        cupy = _cupy()
        buffers = zip(*(plan.scratch for plan in plans), strict=True)  # the parts follow one another: they share them
        scratch = tuple(cupy.empty(max(1, *sizes), np.uint8) for sizes in buffers)
        dtype = GENERATORS[generator].params_dtype  # the C struct; np.concatenate can drop bytes between fields
        packed = np.ascontiguousarray(rows, dtype).view(np.uint8).reshape(len(rows), dtype.itemsize)
        places = np.ascontiguousarray(windows, np.int32)
        parts, first = [], 0
        for plan in plans:
            mine = slice(first, first + plan.n)
            parts.append(Part(plan, cupy.asarray(packed[mine]), cupy.asarray(places[mine]), scratch))
            first += plan.n
        return Batch(generator, len(rows), extent, tuple(parts))

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

    def _launch(self, batch: Batch, target: Any) -> None:
        """Render into `target` (N, T, Y, X) on the current stream."""
        first = 0
        for part in batch.parts:
            for step in part.plan.steps:
                self._run(batch.generator, part, step, target[first : first + part.plan.n])
            first += part.plan.n

    def _run(self, generator: str, part: Part, step: Step, target: Any) -> None:
        if not step.blocks:
            return
        numbers = (part.plan.n, *part.plan.extent, *part.plan.numbers)
        arguments = (part.rows, part.windows, target, *part.scratch, *(np.int32(v) for v in numbers))
        with self._on_card(f"{step}, arguments {numbers},"):
            kernel = self._kernel(generator, step.kernel)
            kernel((step.blocks,), (step.threads,), arguments, shared_mem=step.shared_bytes)

    def _kernel(self, generator: str, name: str) -> Any:
        if name not in self._kernels:
            cupy = _cupy()
            try:
                if generator not in self._modules:
                    self._modules[generator] = cupy.RawModule(
                        code=expanded_source(generator), options=compile_options(generator), backend="nvrtc"
                    )
                kernel = self._modules[generator].get_function(name)
                kernel.max_dynamic_shared_size_bytes = self.card.shared_bytes
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
class Part:
    """Some windows of a batch on a card, and how to launch them."""

    plan: LaunchPlan
    rows: Any
    windows: Any
    scratch: tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """The rows and windows of `n` videos on a card, in the parts that are launched one after the other."""

    generator: str
    n: int
    extent: Shape
    parts: tuple[Part, ...]


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

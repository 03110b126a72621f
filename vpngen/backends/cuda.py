"""The CUDA backend: the kernels of `kernels/`, compiled by NVRTC through CuPy, on any tensor of the GPU.

Params (at most 256 bytes a video) and windows (20 bytes) go up; what is random is hashed on the GPU and pixels are born
there. Planning launches needs no GPU and is tested without one.

The kernels of a generator are `kernels/<generator>.cu` and the module `cuda_<generator>`. It holds:

    plan(params, extent, gpu)   the launches of a batch, a list of `LaunchPlan` in the order of its windows
    CONSTANTS                   optional: name -> float32, defined where the source is compiled
    EXTREMES                    where the generator needs them: the kernel that takes the place of the only step of a plan, and
                                in that of pixels the least and greatest value of each of its blocks, float32 (blocks, 2)
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from vpngen import floats
from vpngen.backends.base import WHOLE, Backend, Windows, kernels
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.floats import F32
from vpngen.generators import GENERATORS, Params, Pixels, Shape

LEAST_CAPABILITY: Final = (7, 5)
INSTALL: Final = "install it with: pip install 'vpngen[cuda13]' (for CUDA 13 drivers) or 'vpngen[cuda12]'"
VIDEOS_A_PASS: Final = 4096
"""Whose extremes are taken in one launch."""
MEMORY_SHARE: Final = 0.5
"""Of the free memory of a GPU, what a batch that goes to the host may take."""


# --- what needs no GPU


@dataclass(frozen=True)
class Gpu:
    """What of a GPU decides how a batch is cut. No byte depends on it.

    Attributes:
        multiprocessors: how many it has.
        shared_bytes: the most shared memory that a block can have.
    """

    multiprocessors: int
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

    These are params, windows, target, scratch, the number of windows, T, Y, X and `numbers`, as `arguments` puts them.

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

    def arguments(self, params: Any, windows: Any, target: Any, scratch: Sequence[Any]) -> tuple[Any, ...]:
        """Of its kernels, in their order."""
        return (params, windows, target, *scratch, *map(np.int32, (self.n, *self.extent, *self.numbers)))


def up(n: int, size: int) -> int:
    """`n` rounded up to a multiple of `size`."""
    return -(-n // size) * size


def kernel_folder() -> Path:
    """Where the CUDA sources are: in the installed package, or in the repository.

    Raises:
        MissingError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_kernels", package.parent / "kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise MissingError("the CUDA sources are not in this installation; run pip install --force-reinstall vpngen")


def expanded_source(generator: str) -> str:
    """The CUDA source of a generator with its includes put in place: a compile cache keyed by text sees every change."""
    folder = kernel_folder()

    def expand(path: Path) -> str:
        text = path.read_text("utf-8")
        return re.sub(r'^#include "([^"]+)"$', lambda m: expand(folder / m[1]), text, flags=re.MULTILINE)

    return expand(folder / f"{generator}.cu")


FLOATS: Final = {f"{s}_{i}": float(c) for s in ("SIN", "COS", "EXP2") for i, c in enumerate(getattr(floats, s))}
"""The coefficients of `kernels/floats.cuh`."""


def defines(generator: str) -> list[str]:
    """The compiler options that define the constants of `vpngen.floats` and of a generator, to the bit."""
    constants = FLOATS | getattr(kernels("cuda", generator), "CONSTANTS", {})
    return [f"-D{name}={value.hex()}f" for name, value in constants.items()]


def compile_options(generator: str) -> tuple[str, ...]:
    """Options of NVRTC and nvcc alike: no multiply-adds but those that are written, and the constants of the generator.

    CuPy adds -ftz=true, which flushes subnormal numbers to zero, so it stands here too: what is tested is what runs. No byte
    depends on it: next to a grey level a subnormal number is nothing, and the points of fractals do not heed it.
    """
    return ("--std=c++17", "--fmad=false", "-ftz=true", *defines(generator))


# --- the GPU


@functools.cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingError(f"backend 'cuda' needs CuPy, which cannot be imported ({error}); {INSTALL}") from None
    except OSError as error:  # it makes its cache folder when it is imported
        remedy = "set CUPY_CACHE_DIR to a folder that can be written"
        raise MissingError(
            f"backend 'cuda' needs CuPy, which cannot make its cache folder ({error}); {remedy}"
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
    """Renders on one GPU."""

    name: ClassVar[str] = "cuda"

    def __init__(self, device: int = 0) -> None:
        _check_process()
        cupy = _cupy()
        try:
            gpus = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            remedy = "install the NVIDIA driver, or use backend='numba'"
            raise MissingError(f"backend 'cuda' finds no usable driver or GPU ({error}); {remedy}") from None
        if not gpus:
            raise MissingError("backend 'cuda' finds no GPU; use backend='numba'")
        if device >= gpus:
            raise ArgumentError(f"names GPU {device}, but this machine has {gpus}; the first is cuda:0", "backend")
        properties = cupy.cuda.runtime.getDeviceProperties(device)
        self.device = device
        self.architecture = f"sm_{properties['major']}{properties['minor']}"
        if (properties["major"], properties["minor"]) < LEAST_CAPABILITY:
            raise MissingError(
                f"GPU {device} ({properties['name'].decode()}) has the architecture {self.architecture}; "
                f"the kernels need sm_{LEAST_CAPABILITY[0]}{LEAST_CAPABILITY[1]} or newer; use backend='numba'"
            )
        try:
            cupy.cuda.nvrtc.getVersion()
        except Exception as error:  # the loader of the library raises what it likes
            raise MissingError(f"backend 'cuda' needs NVRTC, which does not load ({error}); {INSTALL}") from None
        self.gpu = Gpu(int(properties["multiProcessorCount"]), int(properties["sharedMemPerBlockOptin"]))
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}

    @contextmanager
    def _on_gpu(self, what: str) -> Iterator[Any]:
        """CuPy, with this GPU as the current one; what CUDA raises within becomes an error that says what failed."""
        _check_process()
        cupy = _cupy()
        try:
            with cupy.cuda.Device(self.device):
                yield cupy
        except cupy.cuda.memory.OutOfMemoryError as error:
            remedy = "render fewer videos at a time"
            raise MissingError(f"GPU {self.device} is out of memory for {what}: {error}; {remedy}") from None
        except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
            raise RunError(f"{what} failed on GPU {self.device} ({self.architecture}): {error}") from error

    @functools.cached_property
    def _own_stream(self) -> Any:
        """For what the host waits for: the default one is torch's too, and would have it wait for the step under way there.

        One for all calls, as CuPy keeps the memory of a stream for that stream, also when it is gone.
        """
        return _cupy().cuda.Stream(non_blocking=True)

    # --- the interface of every backend

    def render(self, generator: str, params: Params, windows: Windows, out: Pixels, threads: int | None) -> None:
        """See `Backend.render`; `threads` plays no part. A batch that the GPU cannot hold goes in pieces."""
        if not out.size:
            return
        extent = (out.shape[1], out.shape[2], out.shape[3])
        with self._on_gpu(f"{generator} of {len(params)} windows of {extent}") as cupy:
            free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
            step = max(1, min(len(params), int(free * MEMORY_SHARE) // int(np.prod(extent))))
            pixels = cupy.empty((step, *extent), np.uint8)
            for i in range(0, len(params), step):
                part = out[i : i + step]
                batch = self._prepare(generator, params[i : i + step], windows[i : i + step], extent)
                self._launch(batch, pixels[: len(part)])
                pixels[: len(part)].get(out=part)

    def render_device(self, generator: str, params: Params, windows: Windows, out: Any, shape: tuple[int, ...]) -> None:
        """See `Backend.render_device`: on torch's current stream for its tensors, else CuPy's, without waiting for it."""
        what = f"{generator} of {len(params)} windows into {shape}"
        with self._on_gpu(what) as cupy, _stream_of(cupy, out, self.device):
            pixels = self._adopt(out, shape)
            if pixels.size:
                extent = (shape[-3], shape[-2], shape[-1])
                self._launch(self._prepare(generator, params, windows, extent), pixels.reshape(-1, *extent))

    def extremes(self, generator: str, params: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`; `threads` plays no part."""
        kernel = kernels(self.name, generator, "EXTREMES")
        low, high = np.empty(len(params), np.float32), np.empty(len(params), np.float32)
        for i in range(0, len(params), VIDEOS_A_PASS):
            some = params[i : i + VIDEOS_A_PASS]
            what = f"{kernel} of {len(some)} videos of {shape}"
            with self._on_gpu(what) as cupy, self._own_stream:
                batch = self._prepare(generator, some, np.repeat(WHOLE, len(some), axis=0), shape)
                (part,) = batch.parts
                (render,) = part.plan.steps
                found = cupy.empty((render.blocks, 2), np.float32)
                self._run(generator, part, replace(render, kernel=kernel), found)
                each = found.get().reshape(len(some), -1, 2)
            low[i : i + VIDEOS_A_PASS], high[i : i + VIDEOS_A_PASS] = each[..., 0].min(axis=1), each[..., 1].max(axis=1)
        return low, high

    def videos(self, generator: str, params: Params, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """See `Backend.videos`: while the caller packs a video, the GPU renders the next into pinned memory."""
        what = f"{generator} of videos of {shape} into pinned memory"
        buffers = min(2, len(params))
        with self._on_gpu(what) as cupy:
            stream = self._own_stream
            memory = [cupy.cuda.alloc_pinned_memory(int(np.prod(shape))) for _ in range(buffers)]
            pinned = [np.frombuffer(some, np.uint8, int(np.prod(shape))).reshape(shape) for some in memory]
            pixels = [cupy.empty((1, *shape), np.uint8) for _ in range(buffers)]
            stream.wait_event(cupy.cuda.get_current_stream().record())  # on which the memory was had
        done: list[Any] = [None] * buffers
        try:
            for i in range(len(params) + 1):
                with self._on_gpu(what) as cupy:
                    if i < len(params):
                        with stream:
                            at = i % buffers
                            self._launch(self._prepare(generator, params[i : i + 1], WHOLE, shape), pixels[at])
                            pixels[at].get(out=pinned[at][None], stream=stream, blocking=False)
                            done[at] = stream.record(cupy.cuda.Event(block=True, disable_timing=True))
                    if i:
                        done[(i - 1) % buffers].synchronize()
                if i:
                    yield pinned[(i - 1) % buffers]
        finally:  # the buffers go back to their pools: nothing may be on its way into them
            with self._on_gpu(what):
                stream.synchronize()

    # --- device memory

    def prepare(self, generator: str, params: Params, windows: Windows, extent: Shape) -> Batch:
        """Params (N,) and windows (N, 5) on the GPU, ready for `launch` on any stream, any number of times.

        The batch must live until its launches, and the CUDA graphs that captured them, are done. Where its generator has
        scratch memory (`fractal`), the batch holds it, so its launches must follow one another: on one stream, or with events.
        """
        with self._on_gpu(f"preparing {len(params)} windows of {extent} for {generator}") as cupy:
            batch = self._prepare(generator, params, windows, extent)
            for step in (step for part in batch.parts for step in part.plan.steps):
                self._kernel(generator, step.kernel)  # loaded here, since a capture allows no loading
            cupy.cuda.get_current_stream().synchronize()
        return batch

    def launch(self, batch: Batch, out: Any) -> None:
        """Render a prepared batch into `out`, (N, T, Y, X) uint8 on this GPU; returns at once. May be captured in a graph.

        `out` is a torch tensor, a CuPy array, or anything else with the CUDA array interface or DLPack. The work goes to
        torch's current stream for its tensors, else to CuPy's current stream.

        Raises:
            ArgumentError: the wrong type, shape, strides or GPU.
            RunError: the launch failed.
        """
        what = f"{batch.generator} of {batch.n} windows"
        with self._on_gpu(what) as cupy, _stream_of(cupy, out, self.device):
            self._launch(batch, self._adopt(out, (batch.n, *batch.extent)))

    def _prepare(self, generator: str, params: Params, windows: Windows, extent: Shape) -> Batch:
        """The batch, with memory of the current stream."""
        plans = kernels(self.name, generator, "plan")(params, extent, self.gpu)
        for step in (step for plan in plans for step in plan.steps):
            if step.shared_bytes > self.gpu.shared_bytes or step.blocks >= 2**31:
                raise ArgumentError(
                    f"{len(params)} windows of {extent} need {step.blocks} blocks of {step.kernel} with {step.shared_bytes} bytes "
                    f"of shared memory; GPU {self.device} has {self.gpu.shared_bytes} bytes and takes {2**31 - 1} blocks"
                )
        cupy = _cupy()
        buffers = zip(*(plan.scratch for plan in plans), strict=True)  # the parts follow one another: they share them
        scratch = tuple(cupy.empty(max(1, *sizes), np.uint8) for sizes in buffers)
        dtype = GENERATORS[generator].params_dtype  # the C struct; np.concatenate can drop bytes between fields
        packed = np.ascontiguousarray(params, dtype).view(np.uint8).reshape(len(params), dtype.itemsize)
        places = np.ascontiguousarray(windows, np.int32)
        parts, first = [], 0
        for plan in plans:
            mine = slice(first, first + plan.n)
            parts.append(Part(plan, cupy.asarray(packed[mine]), cupy.asarray(places[mine]), scratch))
            first += plan.n
        return Batch(generator, len(params), extent, tuple(parts))

    def _adopt(self, out: Any, shape: tuple[int, ...]) -> Any:
        """`out` as a CuPy array that shares its memory. A copy would be filled in its place without a word."""
        cupy = _cupy()
        what = f"must be a contiguous writeable uint8 array of shape {shape} on GPU {self.device}"
        try:
            if isinstance(out, cupy.ndarray):
                pixels = out
            elif (interface := getattr(out, "__cuda_array_interface__", None)) is None:
                pixels = cupy.from_dlpack(out)
            else:
                pointer, fixed = interface["data"]
                home = cupy.cuda.runtime.pointerGetAttributes(pointer).device if pointer else self.device
                if home != self.device or fixed:
                    raise ArgumentError(f"{what}; it is {'read-only' if fixed else f'on GPU {home}'}", "out")
                pixels = cupy.asarray(out)
        except ArgumentError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError, BufferError) as error:
            raise ArgumentError(f"{what}; this {type(out).__name__} cannot be taken: {error}", "out") from None
        if pixels.device.id != self.device:
            raise ArgumentError(f"{what}; it is on GPU {pixels.device.id}", "out")
        if pixels.dtype != np.uint8 or pixels.shape != shape or not pixels.flags.c_contiguous:
            raise ArgumentError(f"{what}, not {pixels.dtype} {pixels.shape} with strides {pixels.strides}", "out")
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
        arguments = part.plan.arguments(part.params, part.windows, target, part.scratch)
        with self._on_gpu(f"{step}, arguments {part.plan.extent} {part.plan.numbers},"):
            kernel = self._kernel(generator, step.kernel)
            kernel((step.blocks,), (step.threads,), arguments, shared_mem=step.shared_bytes)

    def _kernel(self, generator: str, name: str) -> Any:
        if (generator, name) not in self._kernels:
            cupy = _cupy()
            try:
                if generator not in self._modules:
                    source, options = expanded_source(generator), compile_options(generator)
                    self._modules[generator] = cupy.RawModule(code=source, options=options, backend="nvrtc")
                kernel = self._modules[generator].get_function(name)
                kernel.max_dynamic_shared_size_bytes = self.gpu.shared_bytes
                kernel.preferred_shared_memory_carveout = 100  # percent of what caches share with it
            except (cupy.cuda.compiler.CompileException, cupy.cuda.driver.CUDADriverError, OSError) as error:
                raise RunError(f"{name} does not compile or load for {self.architecture}: {error}") from error
            self._kernels[generator, name] = kernel
        return self._kernels[generator, name]


def describe() -> list[tuple[str, str]]:
    """What there is of NVRTC, driver and GPUs, as (name, value); empty where CuPy is missing. Raises nothing."""
    facts = []
    try:
        cuda = _cupy().cuda
        version = cuda.runtime.driverGetVersion()
        facts.append(("CUDA driver", f"for CUDA {version // 1000}.{version % 1000 // 10}" if version else "none"))
        for i in range(cuda.runtime.getDeviceCount()):
            gpu = cuda.runtime.getDeviceProperties(i)
            gigabytes = gpu["totalGlobalMem"] / 1e9
            facts.append((f"cuda:{i}", f"{gpu['name'].decode()}, sm_{gpu['major']}{gpu['minor']}, {gigabytes:.0f} GB"))
        facts.append(("NVRTC", ".".join(map(str, cuda.nvrtc.getVersion()))))
    except MissingError:
        pass
    except Exception as error:  # the loaders of the libraries raise what they like
        facts.append(("CUDA", f"cannot be used: {error}"))
    return facts


@dataclass(frozen=True)
class Part:
    """Some windows of a batch on a GPU, and how to launch them."""

    plan: LaunchPlan
    params: Any
    windows: Any
    scratch: tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """The params and windows of `n` videos on a GPU, in the parts that are launched one after the other."""

    generator: str
    n: int
    extent: Shape
    parts: tuple[Part, ...]


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

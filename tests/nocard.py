"""How CUDA kernels are built and run where there is no GPU: for all architectures, and for the host."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import ptx
from vpngen.backends import cuda

ARCHITECTURES = ("sm_75", "sm_90", "sm_120")
"""The oldest that the kernels run on, and later ones, to the newest."""
NVCC = shutil.which("nvcc")
GXX = shutil.which("g++")
GENERATORS_HERE = tuple(path.stem for path in sorted(cuda.kernel_folder().glob("*.cu")))
"""The generators that the CUDA backend has."""
BUILT = Path(__file__).parents[1] / ".pytest_cache" / "cuda"
"""What compilers made, by what went into it, for the other test files and for a later run."""
H200 = cuda.Gpu(132, 232448)
SMALLEST = cuda.Gpu(14, 64 * 1024)
"""The least that an architecture we support can give a block."""


def built(command: list[str], *sources: Path) -> tuple[Path, str]:
    """What a compiler makes of sources, and what it says of them; `command` is all but the output and the first source."""
    tool = Path(command[0]).resolve().stat()
    parts = [repr((command, tool.st_size, tool.st_mtime_ns)).encode(), *(source.read_bytes() for source in sources)]
    made = BUILT / hashlib.sha256(b"".join(parts)).hexdigest()[:24]
    if not made.with_suffix(".txt").exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            out = Path(folder) / "out"
            done = subprocess.run(
                [*command, "-o", str(out), str(sources[0])], capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            out.replace(made)
            (Path(folder) / "said").write_text(done.stderr)
            (Path(folder) / "said").replace(made.with_suffix(".txt"))
    return made, made.with_suffix(".txt").read_text()


def compiled(generator: str, folder: Path, architecture: str, *extra: str) -> tuple[Path, str]:
    """Compile with every warning an error, spills among them: what was made, and the assembler's report."""
    if NVCC is None:
        pytest.skip("no nvcc here: the CUDA sources are compiled by whoever has one")
    source = folder / f"{generator}.cu"
    source.write_text(cuda.expanded_source(generator))
    options = extra or ["-cubin", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
    command = [NVCC, f"-arch={architecture}", *options, "-Werror", "all-warnings", *cuda.compile_options(generator)]
    return built(command, source)


def kernels_of(report: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Kernel -> registers, and bytes of stack frame, spill stores and spill loads, from the assembler's report."""
    names = re.findall(r"Function properties for (\w+)", report)
    registers = re.findall(r"Used (\d+) registers", report)
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(names) == len(registers) == len(memory)
    return {name: (int(n), m) for name, n, m in zip(names, registers, memory, strict=True)}


@functools.cache
def host_library() -> ctypes.CDLL:
    """kernels/host.cpp."""
    if GXX is None:
        pytest.skip("no g++ here")
    machine = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text().split() else []
    defined = [option for generator in GENERATORS_HERE for option in cuda.defines(generator)]
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = [GXX, "-std=c++17", "-O2", *machine, "-ffp-contract=off", *strict, "-shared", "-fPIC", *defined]
    folder = cuda.kernel_folder()
    return ctypes.CDLL(str(built(command, folder / "host.cpp", *sorted(folder.glob("*.cuh")))[0]))


class PerlinLaunch(ctypes.Structure):
    """`Launch` of perlin.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out", "extremes")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width")),
        *((name, ctypes.c_int) for name in ("threads", "tile_frames", "tile_rows", "tile_columns", "pool")),
    ]


class FractalLaunch(ctypes.Structure):
    """`Launch` of fractal.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out", "points", "patches", "ends")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width", "places", "run")),
    ]


class DriftLaunch(ctypes.Structure):
    """`Launch` of drift.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width", "tile_rows", "tile_columns", "room")),
    ]


class CloudsLaunch(ctypes.Structure):
    """`Launch` of clouds.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width", "room")),
    ]


class LeavesLaunch(ctypes.Structure):
    """`Launch` of leaves.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out", "found")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width", "places")),
    ]


class SharedMemory:
    """What stands in for the shared memory of a block: poisoned anew for each, with a guard behind it."""

    def __init__(self, size: int) -> None:
        self._memory = np.empty(size + 64 + 16, np.uint8)
        self._start = -self._memory.ctypes.data % 64
        self._end = self._start + size

    def fresh(self) -> int:
        """Its address."""
        self._memory[:] = 0xFF
        return int(self._memory.ctypes.data) + self._start

    def check(self) -> None:
        assert (self._memory[self._end :] == 0xFF).all(), "written past the shared memory of the launch"


class Guarded:
    """An array of bytes with guards around it, full of a pattern that is no result."""

    GUARD = 64

    def __init__(self, shape: tuple[int, ...], offset: int = 0) -> None:
        """`offset`: how far its first byte is from a multiple of 64."""
        size = int(np.prod(shape))
        self._flat = np.full(size + 3 * self.GUARD, 0xAA, np.uint8)
        self._first = self.GUARD + (offset - self._flat.ctypes.data) % 64
        self._last = self._first + size
        self.array: npt.NDArray[np.uint8] = self._flat[self._first : self._last].reshape(shape)

    def check(self) -> None:
        around = (self._flat[: self._first] == 0xAA).all() and (self._flat[self._last :] == 0xAA).all()
        assert around, "written outside the output"


def address(array: Any) -> int | None:
    """Of the first byte."""
    return None if array is None else int(array.ctypes.data)


# --- CuPy, as far as the backend and its benchmark use it, with the host build as its GPU


class Memory(np.ndarray):
    """An array on a GPU that is none."""

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=0)

    @property
    def data(self) -> Any:
        return SimpleNamespace(memset_async=lambda value, size: self.fill(value))

    def get(self, stream: Any = None, out: Any = None, blocking: bool = True) -> Any:
        if out is None:
            return np.array(self)
        out[...] = self
        return out


class _Stream:
    """What is copied to the GPU arrives when this stream is waited for, or launches; other streams do not wait for it."""

    made: ClassVar[int] = 0
    current: ClassVar[list[_Stream]] = []

    def __init__(self, **options: Any) -> None:
        self.late: list[Callable[[], None]] = []
        _Stream.made += 1

    def __enter__(self) -> None:
        _Stream.current.append(self)

    def __exit__(self, *error: object) -> None:
        _Stream.current.pop()

    def record(self, event: Any = None) -> Any:
        return self

    def wait_event(self, event: Any) -> None:
        event.synchronize()

    def synchronize(self) -> None:
        while self.late:
            self.late.pop(0)()

    def begin_capture(self) -> None:
        pass

    def end_capture(self) -> Any:
        return SimpleNamespace(launch=lambda stream: None)


class _Event:
    """One that is over when it is recorded."""

    def __init__(self, **options: Any) -> None:
        self.seconds = 0.0

    def record(self, stream: Any) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass


def _perlin(name: str, *arguments: Any) -> None:
    rows, windows, target, *numbers = arguments
    extremes = name == "perlin_extremes"
    launch = PerlinLaunch(rows, windows, *((None, target) if extremes else (target, None)), *numbers)
    lib = host_library()
    lib.perlin_blocks.restype = ctypes.c_longlong
    pointer, memory = ctypes.byref(launch), SharedMemory(lib.perlin_shared(ctypes.byref(launch)))
    for block in range(lib.perlin_blocks(pointer)):
        lib.perlin_run(
            pointer, ctypes.c_longlong(block), ctypes.c_longlong(block + 1), 0, ctypes.c_void_p(memory.fresh())
        )
        memory.check()


def _in_steps(generator: str, launch: Any, kernel: int) -> None:
    """A kernel of a generator that has several."""
    lib = host_library()
    blocks, shared, run = (getattr(lib, f"{generator}_{name}") for name in ("blocks", "shared", "run"))
    blocks.restype = ctypes.c_longlong
    pointer = ctypes.byref(launch)
    memory = SharedMemory(shared(pointer, kernel))
    for block in range(blocks(pointer, kernel)):
        first, last = ctypes.c_longlong(block), ctypes.c_longlong(block + 1)
        run(pointer, kernel, first, last, 0, ctypes.c_void_p(memory.fresh()))
        memory.check()


def _drift(name: str, *arguments: Any) -> None:
    launch, lib = DriftLaunch(*arguments), host_library()
    lib.drift_blocks.restype = ctypes.c_longlong
    pointer = ctypes.byref(launch)
    memory = SharedMemory(lib.drift_shared(pointer))
    for block in range(lib.drift_blocks(pointer)):
        first, last = ctypes.c_longlong(block), ctypes.c_longlong(block + 1)
        lib.drift_run(pointer, first, last, 0, ctypes.c_void_p(memory.fresh()))
        memory.check()


def _clouds(name: str, *arguments: Any) -> None:
    launch, lib = CloudsLaunch(*arguments), host_library()
    lib.clouds_blocks.restype = ctypes.c_longlong
    pointer = ctypes.byref(launch)
    memory = SharedMemory(lib.clouds_shared(pointer))
    for block in range(lib.clouds_blocks(pointer)):
        first, last = ctypes.c_longlong(block), ctypes.c_longlong(block + 1)
        lib.clouds_run(pointer, first, last, 0, ctypes.c_void_p(memory.fresh()))
        memory.check()


def _fractal(name: str, *arguments: Any) -> None:
    _in_steps("fractal", FractalLaunch(*arguments), int(name == "fractal_frames"))


def _leaves(name: str, *arguments: Any) -> None:
    _in_steps("leaves", LeavesLaunch(*arguments), int(name == "leaves_frames"))


CORES = {"perlin": _perlin, "fractal": _fractal, "drift": _drift, "clouds": _clouds, "leaves": _leaves}
"""How the kernels of a source run in the host build."""


def in_host_build(source: str, options: Sequence[str], name: str, arguments: Any, step: cuda.Step) -> None:
    """Run what CuPy would launch in the library of kernels/host.cpp."""
    plain = [a.ctypes.data if isinstance(a, Memory) else int(a) for a in arguments]
    CORES[name.split("_")[0]](name, *plain)


class InPtx:
    """Runs what CuPy would launch as PTX of an `architecture`; `schedule` is one of `ptx.SCHEDULES`."""

    def __init__(self) -> None:
        if (missing := ptx.missing()) is not None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no PTX here: {missing}")
        self.schedule, self.architecture = ptx.SCHEDULES[0], "sm_90"

    def __call__(self, source: str, options: Sequence[str], name: str, arguments: Any, step: cuda.Step) -> None:
        arrays = [a for a in arguments if isinstance(a, Memory)]
        memory = [
            ptx.Memory(a, a.ctypes.data, k >= 2) for k, a in enumerate(arrays)
        ]  # params and windows are only read
        plain = [a.ctypes.data if isinstance(a, Memory) else int(a) for a in arguments]
        program = ptx.compiled(source, tuple(options), self.architecture).program(name)
        program.launch(step.blocks, step.threads, plain, memory, step.shared_bytes, schedule=self.schedule)


class _Kernel:
    """What CuPy would launch: its arguments, in their order, are all that it sees."""

    def __init__(
        self, name: str, run: Callable[[str, Any, cuda.Step], None], launches: list[str], stream: Callable[[], _Stream]
    ) -> None:
        self.name, self.run, self.launches, self.max_dynamic_shared_size_bytes = name, run, launches, 0
        self.stream, self.preferred_shared_memory_carveout = stream, -1
        self.kernel, self.attributes = SimpleNamespace(ptr=0), {"num_regs": 0, "local_size_bytes": 0}

    def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes and self.preferred_shared_memory_carveout == 100
        self.stream().synchronize()
        self.launches.append(self.name)
        self.run(self.name, arguments, cuda.Step(self.name, grid[0], block[0], shared_mem))


def cupy_on_the_host(gpu: cuda.Gpu = H200, free: int = 2**36, run: Callable[..., None] = in_host_build) -> Any:
    """A stand-in for the module; `launches` lists the kernels that ran, `free` is what its GPU has of memory.

    `run` takes a source, options of its compiler, the name of a kernel, its arguments and how it is launched.
    """

    class Trouble(Exception):
        pass

    launches: list[str] = []
    properties = {
        "major": 9, "minor": 0, "name": b"none", "multiProcessorCount": gpu.multiprocessors,
        "sharedMemPerBlockOptin": gpu.shared_bytes,
    }  # fmt: skip

    def empty(shape: Any, dtype: Any) -> Memory:
        return np.full(shape, 0xAA).astype(dtype).view(Memory)

    default = _Stream()

    def current() -> _Stream:
        return _Stream.current[-1] if _Stream.current else default

    def copied(array: Any) -> Memory:
        made = empty(np.shape(array), np.asarray(array).dtype)
        held = np.array(array)
        current().late.append(lambda: np.copyto(made, held))
        return made

    def module(code: str, options: Sequence[str], backend: str) -> Any:
        return SimpleNamespace(
            get_function=lambda name: _Kernel(name, functools.partial(run, code, options), launches, current)
        )

    return SimpleNamespace(
        __version__="none",
        launches=launches,
        ndarray=Memory,
        copyto=np.copyto,
        empty=empty,
        asarray=copied,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None),
        RawModule=module,
        cuda=SimpleNamespace(
            Device=contextlib.nullcontext,
            Stream=_Stream,
            Event=_Event,
            get_elapsed_time=lambda start, stop: 1e3 * (stop.seconds - start.seconds),
            set_allocator=lambda allocator: None,
            get_current_stream=current,
            alloc_pinned_memory=bytearray,
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            memory=SimpleNamespace(OutOfMemoryError=Trouble),
            driver=SimpleNamespace(CUDADriverError=Trouble, occupancyMaxActiveBlocksPerMultiprocessor=lambda *_: 1),
            compiler=SimpleNamespace(CompileException=Trouble),
            runtime=SimpleNamespace(
                CUDARuntimeError=Trouble,
                driverGetVersion=lambda: 0,
                runtimeGetVersion=lambda: 0,
                deviceGetPCIBusId=lambda device: "none",
                getDeviceCount=lambda: 1,
                getDeviceProperties=lambda device: properties,
                memGetInfo=lambda: (free, free),
            ),
        ),
    )

"""What only a GPU can say: are the bytes right, does the sanitizer find fault, how fast is it.

    python -m benchmarks.gpu [--minutes N] [--sections NAME ...] [--device N] [--out FOLDER]
    python -m benchmarks.gpu --dry          # without a GPU: what can be gone through, at tiny sizes; no figures
    python -m benchmarks.gpu --count        # instructions that the kernels issue, counted without a GPU (counts.py)

It needs the repository, a GPU, CuPy, NumPy and numba; torch for the peer and the streams. `SECTIONS` is all of it, what matters
most first. What a section found is on disk before the next begins, and one that fails leaves the others as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import itertools
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import vpngen
from benchmarks import common
from benchmarks.sections import RESULTS, Found, Run, Section, Worker, attempt
from vpngen import MissingError, Spec, Window, backends
from vpngen.backends.cuda import Batch, Cuda
from vpngen.generators import kinds as generators

CYCLES_A_MILLISECOND = 1.5e6
"""Of a GPU's clock, roughly."""
MOST_WRONG = 20
"""Differences that are told in full."""


LATER = generators()[2:]
"""The generators beside Perlin noise and fractals: those of motion."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything. The defaults are the measurement."""

    perlin: Mapping[str, Any] = field(default_factory=lambda: {"categories": 400, "instances": 64})
    fractal: Mapping[str, Any] = field(default_factory=lambda: {"categories": 1000, "instances": 100})
    clip: tuple[int, int, int] = (16, 112, 112)
    batch: int = 128  # clips
    many: int = 1024  # clips of a large batch
    videos: int = 24  # of a batch of whole ones: 332 MB of Perlin noise, several times the L2 cache of any GPU
    prepared: int = 32  # batches that a timing launches in turn
    buffers: int = 2**30  # bytes of the outputs that are filled in turn, so that no write stays in that cache
    fill: int = 2**28  # bytes of a memset
    settle: float = 1.0  # seconds of warm-up before a timing at least, a tenth of those at most
    span: float = 0.1  # seconds of a round of a timing
    rounds: int = 5  # of which the median counts
    pairs: int = 2000  # random windows that are compared with numba
    whole: int = 20  # whole videos of each generator that are
    categories: int = 100  # that are timed one by one
    equal: int = 32  # batches of a stream that are compared
    stream: int = 4000  # batches of a stream that are timed
    steps: int = 20  # of training, in a round
    model: str = "r3d18"
    width: float = 1.0


DRY = Sizes(
    perlin={"divisions_x": (2, 4), "divisions_y": (3, 6), "temporal": 4, "noise_frequencies": (1, 2, 4), "shape": (20, 36, 52),
            "categories": 4, "instances": 5},
    fractal={"categories": 3, "instances": 2, "shape": (12, 32, 48), "points_per_frame": 200},
    clip=(4, 24, 32), batch=2, many=3, videos=2, prepared=2, buffers=1, fill=64, settle=0, span=0, rounds=1, pairs=24, whole=1,
    categories=2, equal=1, stream=2, steps=1, model="r3d10", width=0.125,
)  # fmt: skip


class Nvml:
    """What the driver says of a GPU while it works; where its library is missing or does not know, None."""

    def __init__(self, bus: str) -> None:
        """`bus`: the place of the GPU, as CUDA names it."""
        self.nvml, self.gpu = None, ctypes.c_void_p()
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            where = (bus.encode(), ctypes.byref(self.gpu))
            if not library.nvmlInit_v2() and not library.nvmlDeviceGetHandleByPciBusId_v2(*where):
                self.nvml = library

    def ask(self, name: str, *arguments: int) -> int | None:
        """The number that nvmlDeviceGet<name> gives."""
        number = ctypes.c_ulonglong()  # some are 4 bytes
        call = getattr(self.nvml, f"nvmlDeviceGet{name}", None)
        return None if call is None or call(self.gpu, *arguments, ctypes.byref(number)) else number.value

    def driver(self) -> str | None:
        """The release of the driver."""
        text = ctypes.create_string_buffer(96)
        unknown = self.nvml is None or self.nvml.nvmlSystemGetDriverVersion(text, 96)
        return None if unknown else text.value.decode()

    def clock(self) -> int | None:
        """Of the multiprocessors, in MHz."""
        return self.ask("ClockInfo", 1)

    def state(self) -> dict[str, int | None]:
        """Clocks in MHz, degrees Celsius, milliwatts, and the bits that say what holds the clocks down."""
        return {
            "sm_mhz": self.clock(), "memory_mhz": self.ask("ClockInfo", 2), "celsius": self.ask("Temperature", 0),
            "milliwatts": self.ask("PowerUsage"), "held_down_by": self.ask("CurrentClocksThrottleReasons"),
        }  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What sections run on. What is asked for and not there is a MissingError.

    Attributes:
        number: of the GPU.
        sizes: how much of everything.
        dry: streams are those of the CPU, and no figure is one.
    """

    number: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    dry: bool = False

    @cached_property
    def gpu(self) -> Cuda:
        """The backend, the one that `vpngen.render` takes."""
        gpu = backends.load(f"cuda:{self.number}")
        assert isinstance(gpu, Cuda)
        return gpu

    @cached_property
    def cupy(self) -> Any:
        """The module."""
        import cupy

        return cupy

    @cached_property
    def numba(self) -> backends.Backend:
        """The backend that the bytes are compared with."""
        return backends.load("numba")

    @cached_property
    def torch(self) -> Any:
        """The module."""
        try:
            import torch
        except ImportError as error:
            raise MissingError(f"torch cannot be imported: {error}") from None
        return torch

    @cached_property
    def device(self) -> Any:
        """The GPU as torch names it; in a dry run the CPU."""
        if not self.dry and not self.torch.cuda.is_available():
            raise MissingError("torch finds no GPU")
        return self.torch.device("cpu") if self.dry else self.torch.device("cuda", self.number)

    @cached_property
    def sanitizer(self) -> str:
        """The program."""
        folders = [os.environ.get("PATH", ""), *map(str, Path("/usr/local").glob("cuda*/bin"))]
        if (found := shutil.which("compute-sanitizer", path=os.pathsep.join(folders))) is None:
            raise MissingError("compute-sanitizer is not here; it comes with the CUDA toolkit, not with its wheels")
        return found

    @cached_property
    def nvml(self) -> Nvml:
        """Clocks and the like."""
        return Nvml(self.cupy.cuda.runtime.deviceGetPCIBusId(self.number))

    @contextlib.contextmanager
    def around(self, found: Found) -> Iterator[None]:
        """Within it this GPU is the current one. What it was like before and after is put into `found`."""
        found["at"] = "no clock"
        try:
            number = self.gpu.device
        except MissingError:
            yield
            return
        found["before"] = self.nvml.state()
        with self.cupy.cuda.Device(number):
            yield
        found["after"] = self.nvml.state()
        found["at"] = clocks_text(found["before"]["sm_mhz"], found["after"]["sm_mhz"])
        self.cupy.get_default_memory_pool().free_all_blocks()

    def synchronize(self) -> None:
        """Wait for all that torch gave to the GPU."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def busy(self, milliseconds: float) -> None:
        """Keep torch's current stream from going on for about as long."""
        if self.device.type == "cuda" and milliseconds:
            with self.torch.cuda.device(self.device):
                self.torch.cuda._sleep(int(milliseconds * CYCLES_A_MILLISECOND))

    def perlin(self, **more: Any) -> Spec:
        """A set of Video Perlin Noise."""
        return vpngen.perlin(**{**self.sizes.perlin, **more})

    def fractal(self, **more: Any) -> Spec:
        """A set of fractals."""
        return vpngen.fractal(**{**self.sizes.fractal, **more})

    def moving(self) -> list[Spec]:
        """A set of each generator that came later: in frames like those of Perlin noise."""
        shape = self.sizes.perlin.get("shape", (240, 240, 240))
        return [Spec.make(kind.name, instances=16, shape=shape) for kind in LATER]

    def sets(self) -> list[Spec]:
        """A set of each generator."""
        return [self.perlin(), self.fractal(), *self.moving()]


# --- the machine


def machine(bench: Bench) -> Found:
    """What the figures depend on; the clocks are those of an idle GPU."""
    cuda, nvml = bench.cupy.cuda, bench.nvml
    properties = cuda.runtime.getDeviceProperties(bench.number)
    names = ("multiProcessorCount", "sharedMemPerBlockOptin", "sharedMemPerMultiprocessor", "regsPerMultiprocessor",
             "l2CacheSize", "totalGlobalMem", "memoryBusWidth", "ECCEnabled")  # fmt: skip
    return {
        "gpu": properties["name"].decode(), "architecture": bench.gpu.architecture,
        **{name: properties.get(name) for name in names},
        "driver": nvml.driver(), "driver_for_cuda": cuda.runtime.driverGetVersion(), "cuda": cuda.runtime.runtimeGetVersion(),
        "nvrtc": ".".join(map(str, cuda.nvrtc.getVersion())), "cupy": bench.cupy.__version__, **nvml.state(),
        "most_sm_mhz": nvml.ask("MaxClockInfo", 1), "most_memory_mhz": nvml.ask("MaxClockInfo", 2), "host": common.machine(),
    }  # fmt: skip


# --- are the bytes right


def differences(bench: Bench, spec: Spec, videos: Any, windows: list[Window]) -> list[Found]:
    """Where the bytes of the GPU are not those of numba: one entry for each window that differs."""
    ours, theirs = (vpngen.render(spec, videos, windows, backend=name) for name in (f"cuda:{bench.number}", "numba"))
    found = []
    for video, window, a, b in zip(videos, windows, ours, theirs, strict=True):
        if len(at := np.argwhere(a != b)):
            t, y, x = at[0]
            found.append({
                "spec": spec.to_json(), "video": int(video), "window": repr(window), "bytes": len(at), "of": a.size,
                "first": at[0].tolist(), "last": at[-1].tolist(), "least": at.min(0).tolist(), "most": at.max(0).tolist(),
                "ours": a[t, y, x : x + 16].tolist(), "theirs": b[t, y, x : x + 16].tolist(),
            })  # fmt: skip
    return found


def compared(windows: int, wrong: list[Found]) -> Found:
    """What a section says of windows that were compared."""
    return {"windows": windows, "wrong_windows": len(wrong), "wrong": wrong[:MOST_WRONG]}


def eight_windows(bench: Bench) -> Found:
    """Of each generator a clip at the origin and one at an odd place, mirrored; whole frames; a narrow window with steps."""
    rng, wrong, (frames, height, width) = np.random.default_rng(0), [], bench.sizes.clip
    origin = Window((0, frames), (0, height), (0, width))
    odd = Window((1, frames + 1), (3, height + 3), (5, width + 5), flip=True)
    sets = bench.sets()
    for spec in sets:
        t, _, x = spec.shape
        for windows in ([origin, odd], [Window((t - 3, t))], [Window((0, t, 5), (3, 20), (x - 7, x), flip=True)]):
            wrong += differences(bench, spec, rng.integers(spec.n_videos(), size=len(windows)), windows)
    return compared(4 * len(sets), wrong)


def random_pairs(bench: Bench) -> Found:
    """Random categories, windows and flips of specs of all kinds."""
    kinds: list[tuple[Callable[..., Spec], dict[str, Any]]] = [
        *((bench.perlin, choices) for choices in (
            {}, {"gradients": "sphere"}, {"fade": "linear"}, {"phase": "centre"}, {"loop": True}, {"noise_terms": 0},
            {"temporal_unit": "divisions"}, {"temporal": "full"}, {"grey": "stretch", "instances": 1})),
        *((bench.fractal, choices) for choices in (
            {}, {"trail": 1}, {"trail": 5}, {"trail": 254}, {"draw": "point"}, {"points_per_frame": 1}, {"points_per_frame": 257},
            {"points_per_frame": 3000}, {"pad": 0}, {"flips": False}, {"shape": (61, 113, 251)})),
        *((lambda spec=spec: spec, {}) for spec in bench.moving()),
        (lambda: vpngen.mixed(bench.perlin(instances=8), bench.fractal(instances=8, shape=bench.perlin().shape)), {}),
    ]  # fmt: skip
    rng, wrong, left, most = np.random.default_rng(1), [], bench.sizes.pairs, min(64, bench.sizes.pairs // len(kinds))
    for make, choices in itertools.cycle(kinds):
        spec = make(**choices)
        n = min(4 if spec.generator.needs_extremes else most, most, left)
        step = int(rng.integers(1, 4))
        frames = int(rng.integers(min(39, (spec.shape[0] - 1) // step + 1))) + 1
        extent = (frames - 1) * step + 1, *(int(rng.integers(side)) + 1 for side in spec.shape[1:])
        windows = [
            Window((t, t + extent[0], step), (y, y + extent[1]), (x, x + extent[2]), bool(rng.integers(2)))
            for t, y, x in rng.integers(np.subtract(spec.shape, extent) + 1, size=(n, 3)).tolist()
        ]
        wrong += differences(bench, spec, rng.integers(spec.n_videos(), size=n), windows)
        left -= n
        if not left:
            break
    return compared(bench.sizes.pairs, wrong)


def whole_videos_equal(bench: Bench) -> Found:
    """Whole videos, of categories spread over all."""
    wrong, sets = [], bench.sets()
    for spec in sets:
        for category in np.linspace(0, spec.n_categories - 1, bench.sizes.whole).astype(int).tolist():
            wrong += differences(bench, spec, [category], [Window()])
    return compared(len(sets) * bench.sizes.whole, wrong)


def small(bench: Bench) -> None:
    """A few blocks of every kind, for the sanitizer: narrow, wide, flipped, with tails; and the extremes."""
    bench.cupy.cuda.set_allocator(None)  # a pool would hide an overrun in its slack
    render = partial(vpngen.render, backend=f"cuda:{bench.number}")
    spec = vpngen.perlin(categories=400, instances=1)
    for width, flip in ((240, False), (113, True), (7, False)):
        render(spec, [0, 139, 399], Window((3, 22), (5, 31), (0, width), flip))
    tiny = vpngen.perlin(
        divisions_x=(2, 48), divisions_y=(3,), shape=(9, 24, 48), noise_frequencies=(1, 2, 4, 8), grey="stretch"
    )
    render(tiny, [0, 1])
    for trail, width, flip in ((0, 362, False), (3, 113, True), (0, 7, False)):
        spec = vpngen.fractal(categories=3, instances=2, shape=(12, 362, 362), trail=trail)
        render(spec, [0, 4, 5], Window((2, 11), (5, 31), (0, width), flip))
    for kind in LATER:
        spec = Spec.make(kind.name, instances=1)
        for width, flip in ((240, False), (113, True), (7, False)):
            render(spec, [0, 35, 63], Window((3, 8), (5, 31), (0, width), flip))


def sanitize(tool: str, bench: Bench) -> Found:
    """What compute-sanitizer says of `small`, in a process of its own."""
    quiet = ["--report-api-errors", "no"] if tool == "memcheck" else []  # CuPy asks things that may be answered no
    command = ["timeout", "-s", "KILL", "240", bench.sanitizer, "--tool", tool, *quiet, "--error-exitcode", "9"]
    work = [sys.executable, "-m", "benchmarks.gpu", "--small", "--device", str(bench.number)]
    done = subprocess.run([*command, *work], capture_output=True, text=True)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()] or ["nothing"]
    if done.returncode not in (0, 9):  # its own troubles: GPUs that it does not know, machines that do not let it
        return {"said": f"did not run ({done.returncode}): {lines[-1]}"}
    said = next((line.strip("= ") for line in lines if "SUMMARY" in line), "no complaint")
    return {"said": said, "wrong": lines[-100:] if done.returncode else []}


# --- how fast


def timed(bench: Bench, work: Callable[[int], object], settle: float | None = None) -> Found:
    """Seconds of a call on the current stream, by events: the median of rounds of many calls, `work(0)`, `work(1)` and so on.

    Before them the same work warms the GPU up for `settle` seconds and until its clock stands, for ten times as long at most.
    The clocks are read while the GPU is at it, at the end of the warm-up and of the rounds.
    """
    cuda, sizes, number = bench.cupy.cuda, bench.sizes, itertools.count()
    settle = sizes.settle if settle is None else settle
    stream = cuda.get_current_stream()

    def span(repeats: int) -> tuple[float, int | None]:
        start, stop = cuda.Event(), cuda.Event()
        start.record(stream)
        for _ in range(repeats):
            work(next(number))
        stop.record(stream)
        clock = bench.nvml.clock()
        stop.synchronize()
        return cuda.get_elapsed_time(start, stop) / 1e3 / repeats, clock

    def repeats(each: float) -> int:
        return max(1, min(10_000, int(sizes.span / max(each, 1e-6))))

    (each, clock), clocks, begun = span(1), [], time.perf_counter()
    while True:
        each, clock = span(repeats(each))
        clocks.append(clock or 0)
        spent, stands = time.perf_counter() - begun, len(clocks) > 2 and min(clocks[-3:]) >= 0.99 * max(clocks[-3:])
        if spent >= settle and (stands or spent >= 10 * settle):
            break
    turns = [span(repeats(each)) for _ in range(sizes.rounds)]
    seconds = common.spread(each for each, _ in turns)
    return {
        "seconds": seconds["median"], "least": seconds["least"], "most": seconds["most"], "repeats": repeats(each),
        "sm_mhz": [clock, turns[-1][1]], "at": clocks_text(clock, turns[-1][1]), "warm_up": spent, "clock_stood": stands,
    }  # fmt: skip


def clocks_text(before: int | None, after: int | None) -> str:
    """For the report."""
    return f"{before or '?'} to {after or '?'} MHz"


@dataclass(frozen=True)
class Load:
    """Prepared batches, launched in turn into outputs that together are much larger than the L2 cache."""

    bench: Bench
    batches: Sequence[Batch]
    outs: Sequence[Any]

    def __call__(self, i: int) -> None:
        self.bench.gpu.launch(self.batches[i % len(self.batches)], self.outs[i % len(self.outs)])

    def rate(self, settle: float | None = None) -> Found:
        """What one batch costs."""
        found, batch = timed(self.bench, self, settle), self.batches[0]
        each = found["seconds"] / batch.n
        speed = math.prod(batch.extent) / each / 1e12
        return {**found, "tb_a_second": speed, "a_second": 1 / each, "microseconds": 1e6 * found["seconds"]}


def outputs(bench: Bench, shape: Sequence[int]) -> list[Any]:
    """Arrays to be filled in turn."""
    return [bench.cupy.empty(shape, np.uint8) for _ in range(max(2, -(-bench.sizes.buffers // math.prod(shape))))]


def load(
    bench: Bench, spec: Spec, n: int, extent: tuple[int, int, int], count: int | None = None, videos: Any = None
) -> Load:
    """Batches of `n` random windows of `extent` of random videos, mirrored or not; of whole videos, if that is their shape."""
    rng, batches = np.random.default_rng(2), []
    videos = np.arange(spec.n_videos()) if videos is None else videos
    for _ in range(count or bench.sizes.prepared):
        t, y, x = rng.integers(np.subtract(spec.shape, extent) + 1, size=(n, 3)).T
        flip = rng.integers(2, size=n) * (extent != spec.shape)
        windows = np.stack([t, np.ones(n, int), y, x, flip], axis=1).astype(np.int32)
        batches.append(bench.gpu.prepare(spec.generator.name, spec.params(rng.choice(videos, n)), windows, extent))
    return Load(bench, batches, outputs(bench, (n, *extent)))


def memset(bench: Bench) -> Found:
    """TB a second of a plain memset, and of a copy counted both ways."""
    size, buffers = bench.sizes.fill, outputs(bench, (bench.sizes.fill,))
    fill = timed(bench, lambda i: buffers[i % len(buffers)].data.memset_async(i % 251, size))
    copy = timed(bench, lambda i: bench.cupy.copyto(buffers[i % len(buffers)], buffers[(i + 1) % len(buffers)]))
    return {"fill": {**fill, "tb_a_second": size / fill["seconds"] / 1e12},
            "copy": {**copy, "tb_a_second": 2 * size / copy["seconds"] / 1e12}}  # fmt: skip


def whole_videos(bench: Bench) -> Found:
    """Whole videos of Perlin noise, categories mixed."""
    spec = bench.perlin()
    found = load(bench, spec, bench.sizes.videos, spec.shape, 17).rate()
    return {**found, "seconds_for_131072": 131072 / found["a_second"]}


def clips(bench: Bench) -> Found:
    """A training batch of random clips, launched one by one."""
    some = load(bench, bench.perlin(), bench.sizes.batch, bench.sizes.clip)
    found, calls = some.rate(), 8 * bench.sizes.prepared
    start = time.perf_counter()
    for i in range(calls):
        some(i)
    found["microseconds_of_host"] = 1e6 * (time.perf_counter() - start) / calls
    bench.cupy.cuda.get_current_stream().synchronize()
    return found


def clips_in_a_graph(bench: Bench) -> Found:
    """The same in a CUDA graph."""
    some = load(bench, bench.perlin(), bench.sizes.batch, bench.sizes.clip)
    stream = bench.cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for i in range(bench.sizes.prepared):
            some(i)
        graph = stream.end_capture()
        found = timed(bench, lambda i: graph.launch(stream))
    return {**found, "microseconds": 1e6 * found["seconds"] / bench.sizes.prepared}


def kernels(bench: Bench) -> Found:
    """Registers, local and shared memory of each kernel, and how many of its blocks a multiprocessor holds."""
    found, sizes = {}, bench.sizes
    for spec in bench.sets():
        for what, n, extent in (("whole", sizes.videos, spec.shape), ("clips", sizes.batch, sizes.clip)):
            (batch,) = load(bench, spec, n, extent, 1).batches
            for step in (step for part in batch.parts for step in part.plan.steps):
                kernel = bench.gpu._kernel(batch.generator, step.kernel)
                blocks = bench.cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                    kernel.kernel.ptr, step.threads, step.shared_bytes
                )
                found[f"{step.kernel}, {what}"] = {
                    **kernel.attributes, **dataclasses.asdict(step),
                    "blocks_a_multiprocessor": blocks, "warps_a_multiprocessor": blocks * step.threads // 32,
                }  # fmt: skip
    text = "{0}: {1[num_regs]} registers, {1[local_size_bytes]} B local, {1[warps_a_multiprocessor]} warps a multiprocessor"
    return {"kernels": found, "text": "; ".join(text.format(*item) for item in found.items())}


def categories(bench: Bench) -> Found:
    """Whole videos, each batch of one category."""
    spec, found = bench.perlin(), {}
    for category in np.linspace(0, spec.n_categories - 1, bench.sizes.categories).astype(int).tolist():
        its = category + spec.n_categories * np.arange(spec.instances)
        name = "x".join(map(str, spec.category(category)))
        found[name] = load(bench, spec, bench.sizes.videos, spec.shape, 4, its).rate(bench.sizes.settle / 10)
    rates = {name: each["tb_a_second"] for name, each in found.items()}
    slowest, mean = min(rates, key=rates.__getitem__), 1 / float(np.mean([1 / rate for rate in rates.values()]))
    return {"mean": mean, "slowest": slowest, "slowest_over_mean": rates[slowest] / mean, "by_category": found}


DRAWN: dict[str, dict[str, Any]] = {"patches": {}, "points": {"draw": "point"}, "trail": {"trail": 5}}
"""What the fractals that are timed draw."""


def fractals(bench: Bench) -> Found:
    """Whole videos and random clips."""
    found = {}
    for name, choices in DRAWN.items():
        spec, sizes = bench.fractal(**choices), bench.sizes
        some = {
            "videos": (sizes.videos, spec.shape),
            "clips": (sizes.batch, sizes.clip),
            "many": (sizes.many, sizes.clip),
        }
        for what, (n, extent) in some.items():
            found[f"{name}_{what}"] = load(bench, spec, n, extent, 8).rate(sizes.settle / 4)
    return found


def moving(bench: Bench) -> Found:
    """Whole videos and random clips of the generators of motion."""
    found, sizes = {}, bench.sizes
    for spec in bench.moving():
        for what, n, extent in (("videos", sizes.videos, spec.shape), ("clips", sizes.batch, sizes.clip)):
            found[f"{spec.generator.name}_{what}"] = load(bench, spec, n, extent, 8).rate(sizes.settle / 4)
    return found


def torch_peer(bench: Bench) -> Found:
    """Perlin-numpy's algorithm written with torch tensors on the GPU: what one would write today."""
    torch, where = bench.torch, bench.device
    shape = bench.sizes.perlin.get("shape", (240, 240, 240))

    def noise(res: tuple[int, int, int]) -> Any:
        axes = [torch.arange(size, device=where) for size in shape]
        cells = [-(-size // r) for size, r in zip(shape, res, strict=True)]
        theta, phi = (2 * torch.pi * torch.rand([r + 1 for r in res], device=where) for _ in range(2))
        gradients = torch.stack([phi.sin() * theta.cos(), phi.sin() * theta.sin(), phi.cos()], dim=-1)
        low = [a // c for a, c in zip(axes, cells, strict=True)]
        inside = [(a % c) / c for a, c in zip(axes, cells, strict=True)]
        fades = [f * f * f * (f * (f * 6 - 15) + 10) for f in inside]
        total = torch.zeros(shape, device=where)
        for corner in np.ndindex(2, 2, 2):
            at = torch.meshgrid(*[i + c for i, c in zip(low, corner, strict=True)], indexing="ij")
            away = torch.meshgrid(*[f - c for f, c in zip(inside, corner, strict=True)], indexing="ij")
            weight = torch.meshgrid(*[s if c else 1 - s for s, c in zip(fades, corner, strict=True)], indexing="ij")
            g = gradients[at]
            dots = g[..., 0] * away[0] + g[..., 1] * away[1] + g[..., 2] * away[2]
            total += dots * weight[0] * weight[1] * weight[2]
        return total

    def video() -> Any:
        v = 0.8 * noise((30, 16, 16)) + 0.1 * noise((15, 4, 8)) + 0.1 * noise((60, 2, 16))
        return (127.5 * v + 128).floor().clamp(0, 255).to(torch.uint8)

    seconds = []
    for _ in range(1 + bench.sizes.rounds):
        bench.synchronize()
        start = time.perf_counter()
        for _ in range(bench.sizes.steps):
            video()
        bench.synchronize()
        seconds.append((time.perf_counter() - start) / bench.sizes.steps)
    return {"tb_a_second": math.prod(shape) / float(np.median(seconds[1:])) / 1e12}


# --- streams


def stream_of(bench: Bench, device: Any = None, **options: Any) -> vpngen.ClipStream:
    """An endless stream over the set of the paper; with a GPU it is rendered there."""
    sizes, spec = bench.sizes, Spec.preset("vpn-256x512")
    return vpngen.ClipStream(
        spec, sizes.batch, device=device or bench.device, length="infinite", clip=sizes.clip, **options
    )


def stream_equal(bench: Bench) -> Found:
    """Batches of each kind, their labels and parameters against those of the CPU."""
    torch = bench.torch
    kinds: list[dict[str, Any]] = [
        {"parameters": True}, {"channels": 1, "augment": "random"}, {"dtype": "bfloat16"},
        {"dtype": "float32", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)},
    ]  # fmt: skip
    wrong = []
    for kind in kinds:
        ours, theirs = (iter(stream_of(bench, where, **kind)) for where in (bench.device, torch.device("cpu")))
        for number in range(bench.sizes.equal):
            for got, expected in zip(next(ours), next(theirs), strict=True):
                pairs = [(got, expected)] if not isinstance(got, dict) else [(got[k], expected[k]) for k in expected]
                for a, b in pairs:
                    if a.device != bench.device or a.dtype != b.dtype or not torch.equal(a.cpu(), b):
                        wrong.append(f"batch {number} of a stream with {kind}")
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"batches": bench.sizes.equal * len(kinds), "wrong": wrong[:MOST_WRONG], "versions": versions}


def stream_consumers(bench: Bench) -> Found:
    """Batches used on a stream of the consumer's own.

    A slow consumer has given a batch up long before its GPU reads it; a fast one reads while it is still being made. A wait
    that is missing, or memory that is used again too early, shows as wrong bytes.
    """
    torch, device, batches, wrong = bench.torch, bench.device, bench.sizes.equal, []
    reference = iter(stream_of(bench, torch.device("cpu")))
    expected = [next(reference) for _ in range(batches)]
    for slow in (True, False):
        stream = stream_of(bench)
        if not slow:

            def late(*arguments: Any, fill: Callable[..., None] = stream.content.fill) -> None:
                bench.busy(5)
                fill(*arguments)

            object.__setattr__(stream.content, "fill", late)
        own = torch.cuda.Stream(device) if device.type == "cuda" else None
        kept = []
        with torch.cuda.stream(own):  # which does nothing with None
            iterator = iter(stream)
            for _ in range(batches):
                clips, labels = next(iterator)
                if slow:
                    bench.busy(5)
                kept.append((clips[:, 0].clone(), labels.clone()))
                del clips, labels
        bench.synchronize()
        for number, ((clips, labels), (pixels, classes)) in enumerate(zip(kept, expected, strict=True)):
            if not torch.equal(clips.cpu(), pixels[:, 0]) or not torch.equal(labels.cpu(), classes):
                wrong.append(f"batch {number}, {'a slow consumer' if slow else 'a late producer'}")
    return {"batches": 2 * batches, "wrong": wrong[:MOST_WRONG]}


def stream_rate(bench: Bench, **options: Any) -> Found:
    """Clips a second on the wall, nothing done with them; the first batches are not counted."""
    iterator, sizes, rates = iter(stream_of(bench, **options)), bench.sizes, []
    for turn in range(sizes.rounds + 1):
        bench.synchronize()
        start = time.perf_counter()
        for _ in range(sizes.stream):
            next(iterator)
        bench.synchronize()
        if turn:
            rates.append(sizes.stream * sizes.batch / (time.perf_counter() - start))
    return common.spread(rates)


def stream_rates(bench: Bench) -> Found:
    """As bytes, and normalised."""
    return {"uint8": stream_rate(bench), "bfloat16": stream_rate(bench, dtype="bfloat16", channels=3)}


def stream_memory(wait: float, bench: Bench) -> Found:
    """MB that torch has reserved after a tenth of the batches and after all, read by a consumer that is never waited for.

    `wait` is in milliseconds a batch: with it the GPU falls behind, and what was made ahead piles up if nothing holds it back.
    """
    torch, device, gpu = bench.torch, bench.device, bench.device.type == "cuda"
    batches, reserved = bench.sizes.stream // (4 if wait else 1) + 1, []
    bench.synchronize()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    iterator, total = iter(stream_of(bench)), torch.zeros((), dtype=torch.int64, device=device)
    for number in range(batches):
        clips, _ = next(iterator)
        bench.busy(wait)
        total += clips[0, 0, 0].sum()
        if number in (batches // 10, batches - 1):
            reserved.append(torch.cuda.memory_reserved(device) / 1e6 if gpu else 0)
    bench.synchronize()
    most = torch.cuda.max_memory_allocated(device) / 1e6 if gpu else 0
    return {"batches": batches, "early": reserved[0], "late": reserved[-1], "most_in_use": most}


def training(bench: Bench) -> Found:
    """Steps fed by the stream over those on one constant batch that lies ready, pair by pair.

    A step is one of SGD: bfloat16 by autocast, channels last.
    """
    torch, sizes, device = bench.torch, bench.sizes, bench.device
    layout = torch.channels_last_3d
    half = device.type == "cuda"  # on CPUs torch 2.13 corrupts its memory with tiny clips in bfloat16
    torch.backends.cudnn.benchmark = True
    model: Any = vpngen.create_model(sizes.model, 256, width=sizes.width)
    model.to(device, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    stream = iter(stream_of(bench, dtype="bfloat16" if half else "float32", channels=3))
    clips, labels = next(stream)
    constant = (clips.clone(memory_format=layout), labels.clone())

    def seconds(source: Iterator[Any]) -> float:
        bench.synchronize()
        start = time.perf_counter()
        for clips, labels in itertools.islice(source, sizes.steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = torch.nn.functional.cross_entropy(model(clips.contiguous(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
        bench.synchronize()
        return time.perf_counter() - start

    feeds = {"constant": itertools.repeat(constant), "stream": stream}
    times: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(-1, sizes.rounds):
        for name in list(feeds) if turn % 2 else reversed(feeds):
            times[name].append(seconds(feeds[name]))
    counted = {name: each[1:] for name, each in times.items()}  # but for the first turn
    return {
        "ratio": common.spread(a / b for a, b in zip(counted["constant"], counted["stream"], strict=True)),
        "steps_a_second": {name: sizes.steps / float(np.median(each)) for name, each in counted.items()},
    }


# --- all of it


SECTIONS = (
    Section("machine", machine, ("gpu",), 5, (
        ("GPU", "{gpu}, driver {driver}, NVRTC {nvrtc}, CuPy {cupy}, SM {sm_mhz} of {most_sm_mhz} MHz when idle", ""),)),
    Section("eight_windows", eight_windows, ("gpu", "numba"), 30, (
        ("first windows equal to numba", "{windows}, {wrong_windows} wrong", "none"),)),
    Section("memset", memset, ("gpu",), 5, (
        ("plain memset", "{fill[tb_a_second]:.2f} TB/s at {fill[at]}", "the bound"),
        ("copy, both ways", "{copy[tb_a_second]:.2f} TB/s at {copy[at]}", ""))),
    Section("whole_videos", whole_videos, ("gpu",), 5, (
        ("whole videos, categories mixed", "{tb_a_second:.2f} TB/s at {at}", "1 TB/s, aim 2"),
        ("the 131,072-video set", "{seconds_for_131072:.2f} s of kernel time", "2"))),
    Section("clips", clips, ("gpu",), 5, (
        ("128 clips of 16 x 112 x 112", "{microseconds:.0f} us at {at}; {microseconds_of_host:.0f} us for the host", "60"),)),
    Section("clips_in_a_graph", clips_in_a_graph, ("gpu",), 5, (
        ("... in a graph", "{microseconds:.0f} us at {at}", "60"),)),
    Section("kernels", kernels, ("gpu",), 5, (
        ("kernels", "{text}", "12 warps, no local memory"),)),
    Section("memcheck", partial(sanitize, "memcheck"), ("gpu", "sanitizer"), 60, (
        ("memcheck", "{said}", "no complaint"),)),
    Section("racecheck", partial(sanitize, "racecheck"), ("gpu", "sanitizer"), 60, (
        ("racecheck", "{said}", "no complaint"),)),
    Section("random_pairs", random_pairs, ("gpu", "numba"), 90, (
        ("random windows equal to numba", "{windows}, {wrong_windows} wrong", "none"),)),
    Section("whole_videos_equal", whole_videos_equal, ("gpu", "numba"), 15, (
        ("whole videos equal to numba", "{windows}, {wrong_windows} wrong", "none"),)),
    Section("stream_equal", stream_equal, ("device",), 60, (
        ("stream: batches equal to the CPU's", "{batches}; torch {versions[torch]}, cuDNN {versions[cudnn]}", "all"),)),
    Section("stream_consumers", stream_consumers, ("device",), 30, (
        ("... slow consumer or late producer, another stream", "{batches}", "all"),)),
    Section("stream_rates", stream_rates, ("device",), 60, (
        ("... uint8 delivered", "{uint8[median]:,.0f} clips/s at {at}", "500,000"),
        ("... bfloat16 in three channels delivered", "{bfloat16[median]:,.0f} clips/s at {at}", "200,000"))),
    Section("stream_memory", partial(stream_memory, 0.0), ("device",), 10, (
        ("... memory reserved early and late", "{early:,.0f} MB, {late:,.0f} MB after {batches:,} batches", "no growth"),)),
    Section("stream_memory_behind", partial(stream_memory, 1.0), ("device",), 10, (
        ("... the same with the GPU behind by 1 ms a batch", "{early:,.0f} MB, {late:,.0f} MB after {batches:,} batches", "no growth"),)),
    Section("training", training, ("device",), 60, (
        ("training step fed by the stream, over a constant batch",
         "{ratio[median]:.1%} of {steps_a_second[constant]:.1f} steps/s at {at}", "99 %"),)),
    Section("categories", categories, ("gpu",), 90, (
        ("whole videos, mean over categories", "{mean:.2f} TB/s at {at}", "1 TB/s, aim 2"),
        ("slowest category", "{slowest}: {slowest_over_mean:.2f} of the mean", "0.25"))),
    Section("fractals", fractals, ("gpu",), 15, tuple(
        (f"fractals: {drawn}, {what}", f"{{{drawn}_{what}[a_second]:,.0f}} a second, {{{drawn}_{what}[tb_a_second]:.2f}} TB/s "
         f"at {{{drawn}_{what}[at]}}", "the memset") for drawn in DRAWN for what in ("videos", "clips", "many"))),
    Section("moving", moving, ("gpu",), 30, tuple(
        (f"{kind.name}: {what}", f"{{{kind.name}_{what}[a_second]:,.0f}} a second, {{{kind.name}_{what}[tb_a_second]:.2f}} TB/s "
         f"at {{{kind.name}_{what}[at]}}", "the memset") for kind in LATER for what in ("videos", "clips"))),
    Section("torch_peer", torch_peer, ("device",), 20, (
        ("perlin-numpy's algorithm in torch", "{tb_a_second:.4f} TB/s at {at}", "a hundredth of ours"),)),
)  # fmt: skip
"""In the order in which they are run. The seconds are guesses for a GPU of 2023: none has run this yet."""


def plot(results: Found, folder: Path) -> None:
    """The rate of each category over the plane of (W, H)."""
    figure, axes = common.canvas(1, 6, 5)
    rates = results["sections"]["categories"]["by_category"]
    w, h = (np.array([int(name.split("x")[i]) for name in rates]) for i in range(2))
    dots = axes.scatter(w, h, c=np.array([each["tb_a_second"] for each in rates.values()]), s=60)
    axes.set(xscale="log", yscale="log", xlabel="W", ylabel="H", title=results["sections"]["machine"]["gpu"])
    figure.colorbar(dots, label="TB/s of pixels")
    figure.savefig(folder / "gpu.png")


def main() -> None:
    """The command. It exits with 1 if a section failed."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=math.inf, help="skip what would not end in time")
    parser.add_argument("--sections", nargs="+", metavar="NAME", choices=names, default=names, help=", ".join(names))
    parser.add_argument(
        "--dry", action="store_true", help="without a GPU: what runs, printed, at tiny sizes; no figures"
    )
    parser.add_argument("--count", action="store_true", help="count the instructions of the kernels, without a GPU")
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", type=int, default=0, metavar="N", help="the GPU; 0 is the first")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="for gpu.json, gpu.md and gpu.png")
    options = parser.parse_args()
    if options.count:
        from benchmarks import counts

        counts.main(options.dry, options.out)
        return
    sections = [section for section in SECTIONS if section.name in options.sections]
    try:
        if options.dry:
            run = Run("On a GPU", sections, partial(attempt, Bench(options.device, DRY, dry=True)), dry=True)
        else:
            Cuda(options.device)  # there is one
            if options.small:
                small(Bench(options.device))
                return
            run = Run("On a GPU", sections, Worker(Bench(options.device)), options.out / "gpu", options.minutes)
        results = run()
    except vpngen.VpngenError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    print(run.report(results))
    if run.out is not None:
        with contextlib.suppress(ImportError, LookupError):  # no matplotlib, or not those sections
            plot(results, options.out)
    if failed := [name for name, found in results["sections"].items() if found["status"] == "failed"]:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

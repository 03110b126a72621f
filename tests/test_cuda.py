"""The CUDA kernels, proven without a GPU; what is particular to fractals is in test_cuda_fractal.py.

The sources compile for every architecture without spills; their core, built for the host and driven over the blocks and
threads of a launch, gives the bytes of the reference; the arithmetic of the launch holds. The compiled code runs in test_ptx.py.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nocard import (
    ARCHITECTURES,
    GENERATORS_HERE,
    H200,
    SMALLEST,
    Guarded,
    PerlinLaunch,
    SharedMemory,
    address,
    compiled,
    cupy_on_the_host,
    host_library,
    kernels_of,
)

import vpngen
from vpngen import Window, backends
from vpngen.backends import cuda, cuda_clouds, cuda_drift, cuda_fractal, cuda_leaves, cuda_perlin
from vpngen.errors import ArgumentError, MissingError
from vpngen.generators import Fractal, Perlin

KERNELS = {
    "perlin": {"perlin_render": cuda_perlin.THREADS, "perlin_extremes": cuda_perlin.THREADS},
    "drift": {"drift_render": cuda_drift.THREADS},
    "clouds": {"clouds_render": cuda_clouds.THREADS},
    "fractal": {"fractal_points": cuda_fractal.CHUNKS, "fractal_frames": cuda_fractal.FRAME_THREADS},
    "leaves": {"leaves_shapes": cuda_leaves.THREADS, "leaves_frames": cuda_leaves.THREADS},
}
"""The kernels of each source, and the threads of their blocks."""
LEAST_WARPS = 12
"""That a multiprocessor holds of each kernel."""


# --- the sources compile


def test_every_generator_is_listed_here() -> None:
    assert set(KERNELS) == set(GENERATORS_HERE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("generator", KERNELS)
def test_kernels_stay_in_registers(generator: str, architecture: str, tmp_path: Path) -> None:
    found = kernels_of(compiled(generator, tmp_path, architecture)[1])
    assert set(found) == set(KERNELS[generator])
    for name, (registers, memory) in found.items():
        assert memory == ("0", "0", "0"), f"stack or spills in {name}"
        # Warps are dealt out to the four parts of a multiprocessor, each with a quarter of its registers.
        each = 65536 // 4 // (-(-registers // 8) * 8 * 32)
        assert 4 * each >= LEAST_WARPS, f"{4 * each} warps of {name} fit a multiprocessor"
        assert -(-KERNELS[generator][name] // 128) <= each, f"a block of {name} must fit a multiprocessor"


@pytest.mark.parametrize("generator", KERNELS)
def test_sources_include_nothing_from_outside(generator: str) -> None:
    assert "#include" not in cuda.expanded_source(generator)


# --- the core, built for the host


def plan_of(rows: Any, extent: tuple[int, int, int], gpu: cuda.Gpu = H200) -> cuda.LaunchPlan:
    (plan,) = cuda_perlin.plan(rows, extent, gpu)
    return plan


class Host:
    """The Perlin core in the library of kernels/host.cpp."""

    def __init__(self) -> None:
        self.lib = host_library()
        self.lib.perlin_blocks.restype = ctypes.c_longlong
        self.lib.perlin_run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_longlong,
            ctypes.c_longlong,
            ctypes.c_int,
            ctypes.c_void_p,
        ]

    def sizes(self) -> list[int]:
        sizes = (ctypes.c_int * 16)()
        return list(sizes[: self.lib.perlin_sizes(sizes)])

    def launch(self, rows: Any, windows: Any, plan: cuda.LaunchPlan, out: Any, extremes: Any) -> PerlinLaunch:
        arrays = (address(array) for array in (rows, windows, out, extremes))
        return PerlinLaunch(*arrays, len(rows), *plan.extent, *plan.numbers)

    def blocks_and_shared(self, launch: PerlinLaunch) -> tuple[int, int]:
        pointer = ctypes.byref(launch)
        return self.lib.perlin_blocks(pointer), self.lib.perlin_shared(pointer)

    def run(self, launch: PerlinLaunch, order: int, blocks: Sequence[int] | None = None) -> None:
        """All blocks, or those given; poison in shared memory shows what is read before it is written."""
        total, shared = self.blocks_and_shared(launch)
        memory = SharedMemory(shared)
        for block in range(total) if blocks is None else blocks:
            self.lib.perlin_run(ctypes.byref(launch), block, block + 1, order, memory.fresh())
            memory.check()

    def render(
        self,
        rows: Any,
        windows: Any,
        extent: tuple[int, int, int],
        order: int = 0,
        gpu: cuda.Gpu = H200,
        offset: int = 0,
    ) -> npt.NDArray[np.uint8]:
        out = Guarded((len(rows), *extent), offset)
        self.run(self.launch(rows, windows, plan_of(rows, extent, gpu), out.array, None), order)
        out.check()
        return out.array


@pytest.fixture(scope="module")
def host() -> Host:
    return Host()


def test_structs_are_those_of_python(host: Host) -> None:
    ours = cuda_perlin
    row, window, launch, *numbers = host.sizes()
    assert row == Perlin.params_dtype.itemsize
    assert window == 5 * 4
    assert launch == ctypes.sizeof(PerlinLaunch)
    assert numbers[:4] == [ours.THREADS, ours.PIXELS, ours.ROWS, ours.TERMS]
    tables = [ours.BLOCK_BYTES, ours.FRAME_BYTES, ours.COLUMNS_BYTES, ours.LINE_BYTES]
    assert numbers[4:] == [*tables, ours.CELL_BYTES, ours.GRADIENTS_BYTES]


SHAPE = (40, 48, 120)
TIGHT = cuda.Gpu(14, 24 * 1024)
"""Has room for few planes at a time: shared memory is filled again and again."""
DIVISIONS_X, DIVISIONS_Y = (1, 2, 5, 8, 15, 24, 40, 60, 120), (1, 2, 3, 8, 16, 24, 48)


@st.composite
def batches(draw: st.DrawFn) -> tuple[vpngen.Spec, list[int], list[Window]]:
    """A spec of any kind, some of its videos, and windows of one extent anywhere in them."""
    unit = draw(st.sampled_from(["period", "divisions"]))
    spec = vpngen.perlin(
        instances=3,
        shape=SHAPE,
        divisions_x=draw(st.lists(st.sampled_from(DIVISIONS_X), min_size=1, max_size=4, unique=True)),
        divisions_y=draw(st.lists(st.sampled_from(DIVISIONS_Y), min_size=1, max_size=4, unique=True)),
        temporal=draw(st.sampled_from([4, 8, 16] if unit == "period" else [4, 8, 20])),
        temporal_unit=unit,
        loop=draw(st.booleans()),
        noise_terms=draw(st.integers(0, 2)),
        noise_frequencies=draw(st.sampled_from([(1, 2, 4, 8), (1, 8), (4,), (2, 4)])),
        gradients=draw(st.sampled_from(["angles", "sphere"])),
        fade=draw(st.sampled_from(["quintic", "linear"])),
        phase=draw(st.sampled_from(["corner", "centre"])),
        seed=draw(st.integers(0, 2**64 - 1)),
    )
    step = draw(st.integers(1, 5))
    frames = draw(st.integers(1, (SHAPE[0] - 1) // step + 1))
    height, width = draw(st.integers(1, SHAPE[1])), draw(st.integers(1, SHAPE[2]))
    windows, videos = [], []
    for _ in range(draw(st.integers(1, 3))):
        t = draw(st.integers(0, SHAPE[0] - ((frames - 1) * step + 1)))
        y, x = draw(st.integers(0, SHAPE[1] - height)), draw(st.integers(0, SHAPE[2] - width))
        windows.append(
            Window((t, t + (frames - 1) * step + 1, step), (y, y + height), (x, x + width), flip=draw(st.booleans()))
        )
        videos.append(draw(st.integers(0, spec.n_videos() - 1)))
    return spec, videos, windows


def packed(spec: vpngen.Spec, windows: Sequence[Window]) -> tuple[npt.NDArray[np.int32], tuple[int, int, int]]:
    pairs = [w.pack(spec.shape) for w in windows]
    return np.array([p for p, _ in pairs], np.int32), pairs[0][1]


@settings(max_examples=60)
@given(batches(), st.integers(0, 2), st.sampled_from([H200, SMALLEST, TIGHT]), st.sampled_from([0, 1, 4]))
@example(
    (
        vpngen.perlin(divisions_x=(120,), divisions_y=(48,), shape=SHAPE, noise_frequencies=(1, 2, 4, 8)),
        [0],
        [Window()],
    ),
    1,
    SMALLEST,
    0,
)
def test_host_build_gives_the_bytes_of_the_reference(
    host: Host, batch: tuple[vpngen.Spec, list[int], list[Window]], order: int, gpu: cuda.Gpu, offset: int
) -> None:
    """Whatever shared memory holds, all of a block's planes or one of each term, and wherever the output begins."""
    spec, videos, windows = batch
    rows = spec.params(videos)
    packs, extent = packed(spec, windows)
    expected = vpngen.render(spec, videos, windows, backend="reference")
    assert np.array_equal(host.render(rows, packs, extent, order, gpu, offset), expected)


def test_subnormal_numbers_decide_no_byte(host: Host) -> None:
    """The device flushes them to zero. A noise of 1e-40 has hardly any others, yet the grey level beside it is normal."""
    spec = vpngen.perlin(
        divisions_x=(2, 24),
        divisions_y=(3, 48),
        shape=SHAPE,
        noise_frequencies=(1, 2, 8),
        noise_amplitudes=(1e-40, 0.2),
    )
    rows = spec.params(np.arange(32))
    assert (rows["amplitude"][:, 1:] < 1e-38).any()
    packs, extent = packed(spec, [Window()] * 32)
    kept = host.render(rows, packs, extent)
    try:
        if not host.lib.host_flush(1):
            pytest.skip("this processor cannot flush subnormal numbers")
        flushed = host.render(rows, packs, extent)
    finally:
        host.lib.host_flush(0)
    assert np.array_equal(flushed, kept)
    assert np.array_equal(kept, vpngen.render(spec, np.arange(32), backend="numba", threads=1))


def test_wide_windows_take_several_tiles(host: Host) -> None:
    spec = vpngen.perlin(divisions_x=(2, 300), divisions_y=(3,), shape=(5, 6, 600), noise_frequencies=(1, 2, 3))
    for flip in (False, True):
        windows = [Window(x=(1, 599), flip=flip)] * 2
        packs, extent = packed(spec, windows)
        expected = vpngen.render(spec, [0, 1], windows, backend="reference")
        assert np.array_equal(host.render(spec.params([0, 1]), packs, extent), expected)


def test_whole_videos_and_clips_of_the_paper(host: Host) -> None:
    spec = vpngen.perlin(categories=400, instances=4)
    rng = np.random.default_rng(5)
    videos = rng.integers(spec.n_videos(), size=48)
    windows = [
        Window((t, t + 16), (y, y + 112), (x, x + 112), bool(f))
        for t, y, x, f in rng.integers([225, 129, 129, 2], size=(48, 4)).tolist()
    ]
    packs, extent = packed(spec, windows)
    expected = vpngen.render(spec, videos, windows, backend="numba", threads=1)
    assert np.array_equal(host.render(spec.params(videos), packs, extent, order=2), expected)
    for video in (0, 189, 399):
        whole = host.render(spec.params([video]), *packed(spec, [Window()]))
        assert np.array_equal(whole[0], vpngen.render(spec, video, backend="numba"))


def test_batches_beyond_two_gigabytes_land_where_they_should(host: Host) -> None:
    """The last blocks of a launch whose output has more than 2**32 bytes; the memory is reserved, hardly any is touched."""
    spec = vpngen.perlin(categories=4, instances=100)
    n = 320
    rows, windows = spec.params(np.arange(n)), np.tile(np.array([0, 1, 0, 0, 0], np.int32), (n, 1))
    plan = plan_of(rows, spec.shape)
    out = np.zeros((n, *spec.shape), np.uint8)
    assert out.nbytes > 2**32
    host.run(
        host.launch(rows, windows, plan, out, None), 0, blocks=[plan.steps[0].blocks - 1, plan.steps[0].blocks // 2]
    )
    last = vpngen.render(spec, n - 1, backend="numba")
    _, tile_frames, tile_rows, *_ = plan.numbers
    end = (spec.shape[1] - 1) // tile_rows * tile_rows  # where the last rows begin
    assert np.array_equal(out[-1, -tile_frames:, end:], last[-tile_frames:, end:])
    per_video = plan.steps[0].blocks // n
    assert plan.steps[0].blocks // 2 % per_video == 0
    middle = vpngen.render(spec, n // 2, Window(t=(0, tile_frames), y=(0, tile_rows)), backend="numba")
    assert np.array_equal(out[n // 2, :tile_frames, :tile_rows], middle)
    assert not out[n // 2 + 1 : n - 1, 0, 0, 0].any()


# --- the arithmetic of a launch


@given(batches(), st.integers(1, 3))
def test_launch_plan_agrees_with_the_header(host: Host, batch: Any, repeat: int) -> None:
    spec, videos, windows = batch
    rows = spec.params(videos * repeat)
    packs, extent = packed(spec, windows * repeat)
    plan = plan_of(rows, extent)
    launch = host.launch(rows, packs, plan, np.empty(1, np.uint8), None)
    assert host.blocks_and_shared(launch) == (plan.steps[0].blocks, plan.steps[0].shared_bytes)
    threads, _, rows, columns, _ = plan.numbers
    assert -(-rows // cuda_perlin.ROWS) * columns // cuda_perlin.PIXELS <= threads <= cuda_perlin.THREADS
    assert plan.steps[0].shared_bytes <= H200.shared_bytes


@pytest.mark.parametrize(
    "extent", [(1, 1, 1), (240, 240, 240), (16, 112, 112), (128, 256, 256), (3, 700, 1031), (16, 65536, 8)]
)
def test_finest_lattices_fit_the_smallest_shared_memory(extent: tuple[int, int, int]) -> None:
    rows = np.zeros(2, Perlin.params_dtype)
    rows["terms"], rows["cell"] = 3, 1
    (plan,) = cuda_perlin.plan(rows, extent, SMALLEST)
    assert plan.steps[0].shared_bytes <= SMALLEST.shared_bytes


# --- the backend, with the host build in the place of a GPU

A_SPEC_OF_EACH = [
    vpngen.perlin(
        instances=5, shape=(20, 36, 52), divisions_x=(2, 4), divisions_y=(3, 6), temporal=4, noise_frequencies=(1, 2, 4)
    ),
    vpngen.Spec(Fractal((2**25 - 1,) * 4, attempts=(0, 1, 2, 3), points_per_frame=200), 5, 0, (20, 36, 52), 0),
    vpngen.drift(instances=5, shape=(20, 36, 52)),
]


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What stands in for CuPy."""
    fake = cupy_on_the_host()
    monkeypatch.setattr(cuda, "_cupy", lambda: fake)
    return fake


@pytest.mark.parametrize("spec", A_SPEC_OF_EACH, ids=lambda spec: spec.generator.name)
def test_the_backend_gives_kernels_what_they_take(
    on_the_host: Any, spec: vpngen.Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ways of rendering, in whatever parts the memory asks for."""
    gpu, name = cuda.Cuda(), spec.generator.name
    videos = [0, 7, 3, 7, 12]
    windows = [Window((i, i + 9, 2), (i, i + 30), (2 * i, 2 * i + 43), flip=i % 2 == 0) for i in range(5)]
    packs, extent = packed(spec, windows)
    rows, expected = spec.params(videos), vpngen.render(spec, videos, windows, backend="numba", threads=1)
    whole = vpngen.render(spec, videos[:3], backend="numba", threads=1)
    for scratch, memory in ((cuda_fractal.SCRATCH_BYTES, 2**36), (20_000, 2**36), (20_000, 4 * expected[0].size)):
        monkeypatch.setattr(cuda_fractal, "SCRATCH_BYTES", scratch)
        on_the_host.cuda.runtime.memGetInfo = lambda memory=memory: (memory, memory)
        out = np.full_like(expected, 0xAA)
        gpu.render(name, rows, packs, out, None)
        assert np.array_equal(out, expected)
        device = on_the_host.empty(expected.shape, np.uint8)
        gpu.render_device(name, rows, packs, device, expected.shape)
        assert np.array_equal(device, expected)
        batch = gpu.prepare(name, rows, packs, extent)
        for _ in range(2):
            device = on_the_host.empty(expected.shape, np.uint8)
            gpu.launch(batch, device)
            assert np.array_equal(device, expected)
        for video, ours in zip(whole, gpu.videos(name, rows[:3], spec.shape, None), strict=True):
            assert np.array_equal(ours, video)
    one = on_the_host.empty(expected.shape[1:], np.uint8)
    gpu.render_device(name, rows[:1], packs[:1], one, one.shape)
    assert np.array_equal(one, expected[0])


def test_extremes_come_from_their_own_kernel(on_the_host: Any) -> None:
    spec = vpngen.perlin(
        divisions_x=(2, 24), divisions_y=(3, 48), shape=SHAPE, noise_frequencies=(1, 2, 8), grey="stretch"
    )
    rows = spec.params(np.arange(4))
    low, high = cuda.Cuda().extremes("perlin", rows, spec.shape, None)
    least, most = backends.load("reference").extremes("perlin", rows, spec.shape, None)
    assert np.array_equal(low, least) and np.array_equal(high, most)
    assert set(on_the_host.launches) == {"perlin_extremes"}


def test_a_batch_is_used_on_another_stream_than_it_was_made_on(on_the_host: Any) -> None:
    """Its params have arrived by then; and what the host waits for has one stream for all calls."""
    spec = vpngen.perlin(4, 2, shape=(4, 16, 16), divisions=[1, 2])
    params, windows = spec.params(np.arange(3)), np.array([[0, 1, 0, 0, 0]] * 3, np.int32)
    gpu, wanted = cuda.Cuda(), np.empty((3, 4, 16, 16), np.uint8)
    backends.load("numba").render("perlin", params, windows, wanted, 1)
    with (first := on_the_host.cuda.Stream()):
        batch = gpu.prepare("perlin", params, windows, spec.shape)
    assert not first.late
    out = on_the_host.empty(wanted.shape, np.uint8)
    with on_the_host.cuda.Stream():
        gpu.launch(batch, out)
    assert np.array_equal(out, wanted)
    before = on_the_host.cuda.Stream.made
    for _ in range(3):
        gpu.extremes("perlin", params, spec.shape, None)
        assert all(
            np.array_equal(a, b) for a, b in zip(gpu.videos("perlin", params, spec.shape, None), wanted, strict=True)
        )
    assert on_the_host.cuda.Stream.made == before + 1


def test_extremes_that_a_generator_does_not_have(on_the_host: Any) -> None:
    spec = A_SPEC_OF_EACH[1]
    for backend in (cuda.Cuda(), backends.load("numba")):
        with pytest.raises(
            MissingError, match=rf"'{backend.name}' has no extremes of the fractal generator.*reference"
        ):
            backend.extremes("fractal", spec.params([0]), spec.shape, None)


def test_a_batch_that_no_gpu_can_take_is_an_error(on_the_host: Any) -> None:
    rows = A_SPEC_OF_EACH[0].params([0] * 4)
    with pytest.raises(ArgumentError, match=r"blocks of perlin_render.*GPU 0"):
        cuda.Cuda()._prepare("perlin", rows, np.zeros((4, 5), np.int32), (65536, 65536, 65536))


# --- the backend without a GPU


def no_gpu() -> bool:
    try:
        backends.load("cuda")
    except MissingError:
        return True
    return False


@pytest.mark.skipif(not no_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_missing_gpu_is_a_clear_error(name: str) -> None:
    with pytest.raises(MissingError, match=r"backend 'cuda'.*(install|numba)"):
        vpngen.render(vpngen.perlin(), 0, Window(t=(0, 1)), backend=name)


@pytest.mark.skipif(not no_gpu(), reason="this machine has a GPU")
def test_auto_takes_the_fastest_that_runs_here() -> None:
    assert {backends.Auto(devices=True).of(generator).name for generator in KERNELS} == {"numba"}


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "numba:0", "cuda0", "CUDA"])
def test_bad_device_names(name: str) -> None:
    with pytest.raises(ArgumentError, match="`backend`"):
        backends.choose(name)


def test_a_forked_process_gets_an_error() -> None:
    code = (
        "import os\nfrom vpngen.backends import cuda\nos.fork() and os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    code += "try:\n    cuda.Cuda()\nexcept Exception as e:\n    os._exit(7 if 'fork' in str(e) and 'spawn' in str(e) else 8)\n"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 7


def test_host_arrays_are_no_output_for_the_wrong_backend() -> None:
    class Tensor:
        __cuda_array_interface__ = None

    with pytest.raises(ArgumentError, match="`out`"):
        vpngen.render(vpngen.perlin(), 0, Window(t=(0, 1)), backend="numba", out=Tensor())  # type: ignore[arg-type]

"""The CUDA kernels, proven without a card.

The sources compile for every architecture without spills; their core, built for the host and driven over the blocks and
threads of a launch, gives the bytes of the reference; the arithmetic of the launch holds.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
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

import vpngen
from vpngen import Window, backends
from vpngen.backends import cuda
from vpngen.errors import ArgumentError, MissingError
from vpngen.generators import Perlin

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
NVCC = shutil.which("nvcc")
GXX = shutil.which("g++")


# --- the sources compile


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Architecture -> the assembler's report; one run of the compiler for all of them."""
    if NVCC is None:
        pytest.skip("no nvcc here: the CUDA sources are compiled by whoever has one")
    folder = tmp_path_factory.mktemp("cubin")
    source = folder / "perlin.cu"
    source.write_text(cuda.expanded_source("perlin"))
    reports = {}
    for architecture in ARCHITECTURES:
        done = subprocess.run(
            [NVCC, f"-arch={architecture}", "-cubin", "-o", str(folder / architecture), "-Werror", "all-warnings",
             "-Xptxas", "-v,-warn-spills,-warn-lmem-usage", *cuda.compile_options(), str(source)],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{architecture}: {done.stderr}"
        reports[architecture] = done.stderr
    return reports


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_in_registers(compiled: dict[str, str], architecture: str) -> None:
    report = compiled[architecture]
    names = re.findall(r"Function properties for (\w+)", report)
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", report)]
    assert sorted(names) == ["perlin_extremes", "perlin_render"]
    assert memory == [("0", "0", "0")] * 2, "stack or spills in a hot kernel"
    assert len(registers) == 2
    assert all(n * cuda.THREADS * 2 <= 65536 for n in registers), "two blocks must fit a multiprocessor"


def test_nvrtc_compiles_the_very_text_that_cupy_is_given() -> None:
    nvrtc = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError).cuda.nvrtc
    try:
        program = nvrtc.createProgram(cuda.expanded_source("perlin"), "perlin.cu", (), ())
    except Exception as error:  # the library behind it is a package of its own
        pytest.skip(f"no NVRTC: {error}")
    try:
        nvrtc.compileProgram(program, (*cuda.compile_options(), "--gpu-architecture=sm_90"))
    except nvrtc.NVRTCError as error:
        pytest.fail(f"{error}: {nvrtc.getProgramLog(program)}")


def test_sources_include_nothing_from_outside() -> None:
    assert "#include" not in cuda.expanded_source("perlin")


# --- the core, built for the host


class Launch(ctypes.Structure):
    """`Launch` of perlin.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "windows", "out", "extremes")),
        *((name, ctypes.c_int) for name in ("n", "frames", "height", "width", "tile_rows")),
        ("capacity", ctypes.c_int * 3),
    ]


class Host:
    """The library of kernels/host.cpp."""

    def __init__(self, library: Path) -> None:
        self.lib = ctypes.CDLL(str(library))
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

    def launch(self, rows: Any, windows: Any, plan: cuda.LaunchPlan, out: Any, extremes: Any) -> Launch:
        return Launch(
            rows.ctypes.data, windows.ctypes.data, None if out is None else out.ctypes.data,
            None if extremes is None else extremes.ctypes.data, len(rows), *plan.extent, plan.tile_rows,
            (ctypes.c_int * 3)(*plan.capacity),
        )  # fmt: skip

    def blocks_and_shared(self, launch: Launch) -> tuple[int, int]:
        pointer = ctypes.byref(launch)
        return self.lib.perlin_blocks(pointer), self.lib.perlin_shared(pointer)

    def run(self, launch: Launch, order: int, blocks: Sequence[int] | None = None) -> None:
        """All blocks, or those given; poison in shared memory shows what is read before it is written."""
        total, shared = self.blocks_and_shared(launch)
        memory = np.empty(shared + 64 + 16, np.uint8)
        start = -memory.ctypes.data % 64
        for block in range(total) if blocks is None else blocks:
            memory[:] = 0xFF
            self.lib.perlin_run(ctypes.byref(launch), block, block + 1, order, memory.ctypes.data + start)
            assert (memory[start + shared :] == 0xFF).all(), "written past the shared memory of the launch"

    def render(self, rows: Any, windows: Any, extent: tuple[int, int, int], order: int = 0) -> npt.NDArray[np.uint8]:
        plan = cuda.plan_launch(rows, extent)
        guard = 64
        flat = np.full(len(rows) * int(np.prod(extent)) + 2 * guard, 0xAA, np.uint8)
        out = flat[guard:-guard]
        self.run(self.launch(rows, windows, plan, out, None), order)
        assert (flat[:guard] == 0xAA).all() and (flat[-guard:] == 0xAA).all(), "written outside the output"
        return out.reshape(len(rows), *extent)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    if GXX is None:
        pytest.skip("no g++ here")
    library = tmp_path_factory.mktemp("host") / "perlin.so"
    machine = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text().split() else []
    options = [o for o in cuda.compile_options() if o.startswith("-D")]
    subprocess.run(
        [GXX, "-std=c++17", "-O2", *machine, "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
         "-shared", "-fPIC", *options, "-o", str(library), str(cuda.kernel_folder() / "host.cpp")],
        check=True,
    )  # fmt: skip
    return Host(library)


def test_structs_are_those_of_python(host: Host) -> None:
    row, window, launch, threads, pixels, frames, tile_width, terms, burst, block = host.sizes()
    assert row == Perlin.row_dtype.itemsize
    assert window == 5 * 4
    assert launch == ctypes.sizeof(Launch)
    assert (threads, pixels, frames, tile_width) == (cuda.THREADS, cuda.PIXELS, cuda.FRAMES, cuda.TILE_WIDTH)
    assert (terms, burst, block) == (cuda.TERMS, cuda.BURST, cuda.BLOCK_BYTES)


SHAPE = (40, 48, 120)
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
@given(batches(), st.integers(0, 2))
@example(
    (
        vpngen.perlin(divisions_x=(120,), divisions_y=(48,), shape=SHAPE, noise_frequencies=(1, 2, 4, 8)),
        [0],
        [Window()],
    ),
    1,
)
def test_host_build_gives_the_bytes_of_the_reference(
    host: Host, batch: tuple[vpngen.Spec, list[int], list[Window]], order: int
) -> None:
    spec, videos, windows = batch
    rows = spec.rows(videos)
    packs, extent = packed(spec, windows)
    expected = vpngen.render(spec, videos, windows, backend="reference")
    assert np.array_equal(host.render(rows, packs, extent, order), expected)


def test_subnormal_numbers_decide_no_byte(host: Host) -> None:
    """The device flushes them to zero. A noise of 1e-40 has hardly any others, yet the grey level beside it is normal."""
    spec = vpngen.perlin(
        divisions_x=(2, 24),
        divisions_y=(3, 48),
        shape=SHAPE,
        noise_frequencies=(1, 2, 8),
        noise_amplitudes=(1e-40, 0.2),
    )
    rows = spec.rows(np.arange(32))
    assert (rows["amplitude"][:, 1:] < 1e-38).any()
    packs, extent = packed(spec, [Window()] * 32)
    kept = host.render(rows, packs, extent)
    try:
        if not host.lib.perlin_flush(1):
            pytest.skip("this processor cannot flush subnormal numbers")
        flushed = host.render(rows, packs, extent)
    finally:
        host.lib.perlin_flush(0)
    assert np.array_equal(flushed, kept)
    assert np.array_equal(kept, vpngen.render(spec, np.arange(32), backend="numba", threads=1))


def test_wide_windows_take_several_tiles(host: Host) -> None:
    spec = vpngen.perlin(divisions_x=(2, 300), divisions_y=(3,), shape=(5, 6, 600), noise_frequencies=(1, 2, 3))
    for flip in (False, True):
        windows = [Window(x=(1, 599), flip=flip)] * 2
        packs, extent = packed(spec, windows)
        expected = vpngen.render(spec, [0, 1], windows, backend="reference")
        assert np.array_equal(host.render(spec.rows([0, 1]), packs, extent), expected)


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
    assert np.array_equal(host.render(spec.rows(videos), packs, extent, order=2), expected)
    for video in (0, 189, 399):
        whole = host.render(spec.rows([video]), *packed(spec, [Window()]))
        assert np.array_equal(whole[0], vpngen.render(spec, video, backend="numba"))


def test_extremes(host: Host) -> None:
    spec = vpngen.perlin(
        divisions_x=(2, 24), divisions_y=(3, 48), shape=SHAPE, noise_frequencies=(1, 2, 8), grey="stretch"
    )
    rows = spec.rows(np.arange(4))
    plan = cuda.plan_launch(rows, spec.shape)
    found = np.empty((plan.blocks, 2), np.float32)
    plain = rows.copy()
    plain["gain"], plain["bias"] = 1, 0
    windows = np.tile(np.array([0, 1, 0, 0, 0], np.int32), (4, 1))
    host.run(host.launch(plain, windows, plan, None, found), order=1)
    each = found.reshape(4, -1, 2)
    low, high = backends.load("reference").extremes("perlin", rows, spec.shape, None)
    assert np.array_equal(each[..., 0].min(axis=1), low)
    assert np.array_equal(each[..., 1].max(axis=1), high)


def test_batches_beyond_two_gigabytes_land_where_they_should(host: Host) -> None:
    """The last blocks of a launch whose output has more than 2**32 bytes; the memory is reserved, hardly any is touched."""
    spec = vpngen.perlin(categories=4, instances=100)
    n = 320
    rows, windows = spec.rows(np.arange(n)), np.tile(np.array([0, 1, 0, 0, 0], np.int32), (n, 1))
    plan = cuda.plan_launch(rows, spec.shape)
    out = np.zeros((n, *spec.shape), np.uint8)
    assert out.nbytes > 2**32
    host.run(host.launch(rows, windows, plan, out, None), 0, blocks=[plan.blocks - 1, plan.blocks // 2])
    last = vpngen.render(spec, n - 1, backend="numba")
    assert np.array_equal(out[-1, -16:, -plan.tile_rows :], last[-16:, -plan.tile_rows :])
    per_video = plan.blocks // n
    assert plan.blocks // 2 % per_video == 0
    middle = vpngen.render(spec, n // 2, Window(t=(0, 16), y=(0, plan.tile_rows)), backend="numba")
    assert np.array_equal(out[n // 2, :16, : plan.tile_rows], middle)
    assert not out[n // 2 + 1 : n - 1, 0, 0, 0].any()


# --- the arithmetic of a launch


@given(batches(), st.integers(1, 3))
def test_launch_plan_agrees_with_the_header(host: Host, batch: Any, repeat: int) -> None:
    spec, videos, windows = batch
    rows = spec.rows(videos * repeat)
    packs, extent = packed(spec, windows * repeat)
    plan = cuda.plan_launch(rows, extent)
    launch = host.launch(rows, packs, plan, np.empty(1, np.uint8), None)
    assert host.blocks_and_shared(launch) == (plan.blocks, plan.shared_bytes)
    groups = -(-min(extent[2], cuda.TILE_WIDTH) // cuda.PIXELS)
    assert plan.tile_rows * groups <= cuda.THREADS
    assert plan.shared_bytes <= 64 * 1024, "the least that an architecture we support can give a block"


@pytest.mark.parametrize(
    "extent", [(1, 1, 1), (240, 240, 240), (16, 112, 112), (128, 256, 256), (3, 700, 1031), (16, 65536, 8)]
)
def test_finest_lattices_fit_the_smallest_shared_memory(extent: tuple[int, int, int]) -> None:
    rows = np.zeros(2, Perlin.row_dtype)
    rows["terms"], rows["cell"] = 3, 1
    assert cuda.plan_launch(rows, extent).shared_bytes <= 64 * 1024


# --- the backend without a card


def no_card() -> bool:
    try:
        backends.load("cuda")
    except MissingError:
        return True
    return False


@pytest.mark.skipif(not no_card(), reason="this machine has a card")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_missing_card_is_a_clear_error(name: str) -> None:
    with pytest.raises(MissingError, match=r"backend 'cuda'.*(install|numba)"):
        vpngen.render(vpngen.perlin(), 0, Window(t=(0, 1)), backend=name)


@pytest.mark.skipif(not no_card(), reason="this machine has a card")
def test_auto_takes_the_fastest_that_runs_here() -> None:
    assert backends.choose("auto").name == "numba"


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "numba:0", "cuda0", "CUDA"])
def test_bad_device_names(name: str) -> None:
    with pytest.raises(ArgumentError, match="`backend`"):
        backends.choose(name)


def test_forked_process_is_told() -> None:
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

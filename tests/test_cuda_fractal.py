"""The CUDA kernels of fractals, proven without a GPU; what holds for the kernels of any generator is in test_cuda.py."""

from __future__ import annotations

import base64
import ctypes
import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nocard import H200, SMALLEST, FractalLaunch, Guarded, SharedMemory, address, compiled, host_library

from vpngen import backends
from vpngen.backends import cuda, cuda_fractal
from vpngen.errors import ArgumentError
from vpngen.generators import fractal
from vpngen.generators.fractal import Fractal

Extent = tuple[int, int, int]
WHOLE = (0, 1, 0, 0, 0)
POINTS, FRAMES = 0, 1
"""The kernels, in the order in which they run."""


def system(*maps: Sequence[float]) -> dict[str, Any]:
    """Fields of a Fractal with one category, of maps (a, b, c, d, e, f, probability)."""
    table = base64.b64encode(np.array(maps, "<f4").tobytes()).decode()
    return {"table": table, "sizes": (len(maps),), "variants": (1,), "attempts": ()}


def rows_of(shape: Extent, category: int = 0, instance: int = 0, key: tuple[int, int] = (1, 2), **fields: Any) -> Any:
    """One row (1,) of a Fractal with `fields`; by default four candidates of a search, good or not, with all variants."""
    made = Fractal(**{"variants": (2**25 - 1,) * 4, "attempts": (0, 1, 2, 3), **fields})
    made.check(shape)
    return made.params(shape, np.array([key], np.uint32), np.array([category]), np.array([instance]))


def joined(rows: list[Any]) -> Any:
    return np.concatenate(rows, dtype=Fractal.params_dtype)


def reference(rows: Any, windows: Any, extent: Extent, backend: str = "reference") -> npt.NDArray[np.uint8]:
    out = np.empty((len(rows), *extent), np.uint8)
    backends.load(backend).render("fractal", rows, windows, out, 1)
    return out


class Host:
    """The fractal core in the library of kernels/host.cpp."""

    def __init__(self) -> None:
        self.lib = host_library()
        self.lib.fractal_blocks.restype = ctypes.c_longlong
        self.lib.fractal_run.argtypes = [
            ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip

    def sizes(self) -> list[int]:
        sizes = (ctypes.c_int * 16)()
        return list(sizes[: self.lib.fractal_sizes(sizes)])

    def steps(self, launch: FractalLaunch) -> list[tuple[int, int]]:
        """Blocks and shared memory of each kernel."""
        pointer = ctypes.byref(launch)
        return [(self.lib.fractal_blocks(pointer, k), self.lib.fractal_shared(pointer, k)) for k in (POINTS, FRAMES)]

    def run(self, launch: FractalLaunch, kernel: int, order: int, blocks: Sequence[int] | None = None) -> None:
        """All blocks of a kernel, or those given, in that order."""
        total, shared = self.steps(launch)[kernel]
        memory = SharedMemory(shared)
        every = range(total)[:: -1 if order == 1 else 1]
        for block in every if blocks is None else blocks:
            self.lib.fractal_run(ctypes.byref(launch), kernel, block, block + 1, order, memory.fresh())
            memory.check()

    def launch(self, rows: Any, windows: Any, plan: cuda.LaunchPlan, out: Any, scratch: Sequence[Any]) -> FractalLaunch:
        arrays = (address(array) for array in (rows, windows, out, *scratch))
        return FractalLaunch(*arrays, len(rows), *plan.extent, *plan.numbers)

    def render(
        self,
        rows: Any,
        windows: npt.ArrayLike,
        extent: Extent,
        order: int = 0,
        run: int | None = None,
        offset: int = 0,
        gpu: cuda.Gpu = H200,
    ) -> npt.NDArray[np.uint8]:
        """A batch in its parts, with `run` pixels a block where that is given; scratch memory is full of what is no point."""
        windows = np.ascontiguousarray(windows, np.int32)
        out, first = Guarded((len(rows), *extent), offset), 0
        for plan in cuda_fractal.plan(rows, extent, gpu):
            mine = slice(first, first + plan.n)
            scratch = [Guarded((size,)) for size in plan.scratch]
            for buffer in scratch:
                buffer.array[:] = 0xFF
            arrays = [buffer.array for buffer in scratch]
            launch = self.launch(rows[mine], windows[mine], plan, out.array[mine], arrays)
            if run is None:
                assert self.steps(launch) == [(step.blocks, step.shared_bytes) for step in plan.steps]
            else:
                launch.run = run
            self.run(launch, POINTS, order)
            self.run(launch, FRAMES, order)
            for buffer in (out, *scratch):
                buffer.check()
            first += plan.n
        assert first == len(rows)
        return out.array


@pytest.fixture(scope="module")
def host() -> Host:
    return Host()


# --- the sources


def test_structs_and_constants_are_those_of_python(host: Host) -> None:
    row, launch, ends, chunk, chunks, threads, warm_up, maps, place = host.sizes()
    assert (row, launch) == (Fractal.params_dtype.itemsize, ctypes.sizeof(FractalLaunch))
    assert (chunk, warm_up) == (fractal.CHUNK, fractal.WARM_UP)
    assert (chunks, threads) == (cuda_fractal.CHUNKS, cuda_fractal.FRAME_THREADS)
    assert (ends, maps, place) == (cuda_fractal.ENDS_BYTES, cuda_fractal.MAPS_BYTES, cuda_fractal.PLACE_BYTES)


def test_kernels_take_their_arguments_in_the_order_of_the_struct() -> None:
    text = cuda.expanded_source("fractal")
    kernels = re.findall(r"(fractal_\w+)\(([^)]*)\) \{\n    Launch a = \{([^}]*)\}", text)
    assert [name for name, _, _ in kernels] == ["fractal_points", "fractal_frames"]
    for _, parameters, fields in kernels:
        names = [parameter.split()[-1].lstrip("*") for parameter in parameters.split(",")]
        assert names == [field.strip() for field in fields.split(",")] == [name for name, _ in FractalLaunch._fields_]


def test_points_keep_subnormal_numbers(tmp_path: Path) -> None:
    """CuPy's -ftz=true must not reach their arithmetic. Comparisons may flush: a subnormal number is within any bound."""
    text = compiled("fractal", tmp_path, "sm_90", "-ptx")[0].read_text()
    arithmetic = re.findall(r"\t((?:add|sub|mul|fma|mad|div|rcp|min|max|neg)\.[.\w]*f32)", text)
    assert {name.split(".")[0] for name in arithmetic} == {"sub", "mul", "fma", "div", "min", "max"}
    assert not [name for name in arithmetic if "ftz" in name or "approx" in name or "full" in name]
    flushing = {name.split(".")[0] for name in re.findall(r"\t(\w+\.[.\w]*ftz[.\w]*)", text)}
    assert flushing <= {"setp", "abs", "cvt"}
    assert re.findall(r"\t(cvt\.[.\w]*ftz[.\w]*)", text) == re.findall(r"\t(cvt\.rzi\.ftz\.s32\.f32)", text)


# --- the core, built for the host

SIERPINSKI = system((0.5, 0, 0, 0.5, 0, 0, 1), (0.5, 0, 0, 0.5, 0.5, 0, 1), (0.5, 0, 0, 0.5, 0.25, 0.5, 1))
SYSTEMS = [
    {},
    SIERPINSKI,
    system((0.5, 0.1, -0.2, 0.4, 1, 2, 1)),  # one map: one point
    system((1.5, 0.5, -1.5, 1.25, 1, 1, 3), (0.5, 0, 0, 0.5, -1, 0, 1)),  # leaves the bound
    system((16, -16, 16, 16, 16, -16, 1), (0.5, 0, 0, 0.5, 0, 1, 1)),  # again and again
    system((0.5, 0, 0, 0.5, 2.0**-101, 0, 1), (0.5, 0, 0, 0.5, 0, 2.0**-99, 1)),  # a dot in x, and nearly one in y
    system(*[(0.3, 0.1 * i, -0.2, 0.3, i - 3, (i * i) % 5, i % 3) for i in range(7)]),  # seven maps, some never taken
    system((-0.5, -0.0, 0.0, 0.5, -0.0, 0, 1), (-0.25, -0.0, 0, -0.5, 0.0, -0.0, 1)),  # zeros of both signs
]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, list[tuple[int, ...]], Extent]:
    """Params of different generators and sizes, and windows of one extent anywhere in them."""
    step = draw(st.sampled_from([1, 1, 2, 3, 7]))
    frames, height, width = draw(st.integers(1, 8)), draw(st.integers(1, 40)), draw(st.integers(1, 60))
    rows, windows = [], []
    for _ in range(draw(st.integers(1, 3))):
        per_frame = draw(st.sampled_from([1, 2, 7, 100, 255, 256, 257, 600]))
        span = (frames - 1) * step + 1
        t, y, x = draw(st.integers(0, 6)), draw(st.integers(0, 20)), draw(st.integers(0, 20))
        pad = draw(st.integers(0, 6))
        shape = (
            t + span + draw(st.integers(0, 2)),
            max(y + height + draw(st.integers(0, 9)), 2 * pad + 1),
            max(x + width + draw(st.integers(0, 9)), 2 * pad + 1),
        )
        rows.append(
            rows_of(
                shape,
                instance=draw(st.integers(0, 99)),
                key=(draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1))),
                points_per_frame=per_frame,
                trail=draw(st.sampled_from([0, 0, 1, 2, 3, 5, 254])),
                pad=pad,
                level=draw(st.sampled_from([1, 127, 128, 255])),
                draw=draw(st.sampled_from(fractal.DRAWS)),
                **draw(st.sampled_from(SYSTEMS)),
            )
        )
        windows.append((t, step, y, x, draw(st.integers(0, 1))))
    return joined(rows), windows, (frames, height, width)


@settings(max_examples=120)
@given(batches(), st.integers(0, 2), st.sampled_from([None, None, 16, 48, 272, 4096]), st.integers(0, 15))
def test_host_build_gives_the_bytes_of_numba(
    host: Host, batch: tuple[Any, list[tuple[int, ...]], Extent], order: int, run: int | None, offset: int
) -> None:
    rows, windows, extent = batch
    Fractal.check_params(rows)
    expected = reference(rows, np.array(windows, np.int32), extent, "numba")
    assert np.array_equal(host.render(rows, windows, extent, order, run, offset), expected)


@pytest.mark.parametrize("trail", [0, 3])
@pytest.mark.parametrize("number", range(len(SYSTEMS)))
def test_host_build_and_numba_give_the_bytes_of_the_reference(host: Host, number: int, trail: int) -> None:
    """Of each of the systems above, in patches and in points."""
    rows = joined(
        [rows_of((7, 30, 44), points_per_frame=257, trail=trail, draw=d, **SYSTEMS[number]) for d in fractal.DRAWS]
    )
    windows = np.array([(1, 2, 3, 4, 0), (0, 2, 5, 0, 1)], np.int32)
    expected = reference(rows, windows, (3, 25, 40))
    assert np.array_equal(reference(rows, windows, (3, 25, 40), "numba"), expected)
    assert np.array_equal(host.render(rows, windows, (3, 25, 40)), expected)


@pytest.mark.parametrize("trail", [0, 3])
def test_more_points_than_a_block_draws(host: Host, trail: int) -> None:
    """Several blocks of chunks, the last one far from full, and more chunks than a block of frames has threads."""
    for per_frame, most in ((9001, cuda_fractal.CHUNKS), (33333, cuda_fractal.FRAME_THREADS)):
        rows = joined([rows_of((5, 30, 40), i, points_per_frame=per_frame, trail=trail) for i in range(2)])
        assert int(rows["frames"][0] * rows["points_per_frame"][0]) > most * fractal.CHUNK
        windows = np.array([WHOLE, (0, 1, 0, 0, 1)], np.int32)
        found = host.render(rows, windows, (5, 30, 40), order=2)
        assert np.array_equal(found, reference(rows, windows, (5, 30, 40), "numba"))


@example(254, 1)
@example(254, 255)
@example(200, 199)
@example(1, 300)
@given(st.integers(1, 254), st.integers(1, 300))
@settings(max_examples=20)
def test_long_trails_and_large_steps(host: Host, trail: int, step: int) -> None:
    shape = (3 * step + 270, 24, 20)
    rows = rows_of(shape, points_per_frame=3, trail=trail, **SIERPINSKI)
    windows = np.array([(260, step, 2, 1, 0)], np.int32)
    assert np.array_equal(host.render(rows, windows, (4, 20, 19)), reference(rows, windows, (4, 20, 19), "numba"))


def test_orbits_that_shrink_into_subnormal_numbers_and_grow_out_of_them(host: Host) -> None:
    """Flushed to zero they would stay there."""
    down = 2.0**-64
    deep = system((down, 0, 0, down, 0, 0, 5), (15, -9, 9, 15, 0, 0, 90), (0, 0, 0, 0, 0.5, 0.25, 5))
    shape = (6, 200, 200)
    rows = rows_of(shape, points_per_frame=9000, **deep)
    x, _, _ = fractal.orbit(rows[0])
    small = np.abs(x) < np.finfo(np.float32).tiny
    assert (small & (x != 0)).any()
    windows = np.array([WHOLE], np.int32)
    expected = reference(rows, windows, shape)
    assert np.array_equal(host.render(rows, windows, shape), expected)
    try:
        if host.lib.host_flush(1):
            flushed = host.render(rows, windows, shape)
            assert not np.array_equal(flushed, expected), "an orbit on which this test says nothing"
    finally:
        host.lib.host_flush(0)


@pytest.mark.parametrize("y0", [0, 1, 32767, 65535])
@pytest.mark.parametrize("draw", fractal.DRAWS)
def test_frames_of_2_to_the_32_pixels_do_not_wrap(host: Host, y0: int, draw: str) -> None:
    """In a window as wide as such a frame, the last row is 2**32 pixels after the one above the first."""
    side = 65536
    rows = rows_of((2, side, side), points_per_frame=3000, pad=0, draw=draw, **SIERPINSKI)
    at, frame = fractal.drawn(rows[0].tobytes())
    assert (at // side).min() == 0 and (at // side).max() == side - 1
    expected = np.zeros((2, side), np.uint8)
    for now in range(2):
        mine = (at // side == y0) & (frame <= now)
        expected[now, at[mine] % side] = rows["level"][0]
    found = host.render(rows, [(0, 1, y0, 0, 0)], (2, 1, side))
    assert np.array_equal(found[0, :, 0], expected)


def test_whole_videos_and_clips(host: Host) -> None:
    """The shape of FractalDB's images: rows of 362 bytes start anywhere in a piece of 16."""
    shape = (100, 362, 362)
    rng = np.random.default_rng(5)
    rows = joined(
        [rows_of(shape, instance=i, key=(i, 7), trail=5 * (i == 2), **(SIERPINSKI if i % 2 else {})) for i in range(12)]
    )
    whole = np.array([WHOLE], np.int32)
    for i in (0, 1, 2):
        some = rows[i : i + 1]
        assert np.array_equal(host.render(some, whole, shape), reference(some, whole, shape, "numba"))
    t, y, x, flip = rng.integers([85, 251, 251, 2], size=(12, 4)).T
    windows = np.stack([t, np.ones(12, int), y, x, flip], axis=1).astype(np.int32)
    found = host.render(rows, windows, (16, 112, 112), order=1)
    assert np.array_equal(found, reference(rows, windows, (16, 112, 112), "numba"))


def test_a_batch_in_parts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = joined([rows_of((3, 20, 30), i % 4, key=(i, i), points_per_frame=300 + i) for i in range(7)])
    windows, extent = np.array([(0, 1, 1, i, i % 2) for i in range(7)], np.int32), (3, 18, 24)
    whole = host.render(rows, windows, extent)
    of_a_chunk = fractal.CHUNK * cuda_fractal.POINT_BYTES + cuda_fractal.ENDS_BYTES
    monkeypatch.setattr(cuda_fractal, "SCRATCH_BYTES", 3 * 4 * of_a_chunk)
    assert [plan.n for plan in cuda_fractal.plan(rows, extent, H200)] == [3, 3, 1]
    assert np.array_equal(host.render(rows, windows, extent), whole)
    assert np.array_equal(whole, reference(rows, windows, extent))


def reserved(size: int) -> npt.NDArray[np.uint8]:
    """Zeros that take memory only where they are touched."""
    no_reserve = 0x4000  # of Linux; Python has no name for it before 3.13
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    return np.frombuffer(memory, np.uint8)


def test_batches_beyond_two_gigabytes_land_where_they_should(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last window of a launch whose points and bytes are more than 2**31: hardly any of the memory is touched."""
    shape, n = (100, 362, 362), 340
    rows = np.repeat(rows_of(shape, points_per_frame=70000, **SIERPINSKI), n)
    windows = np.tile(np.array(WHOLE, np.int32), (n, 1))
    monkeypatch.setattr(cuda_fractal, "SCRATCH_BYTES", 2**60)
    (plan,) = cuda_fractal.plan(rows, shape, H200)
    out, scratch = reserved(n * int(np.prod(shape))), [reserved(size) for size in plan.scratch]
    assert out.nbytes > 2**32 and plan.scratch[0] > 8 * 2**31
    launch = host.launch(rows, windows, plan, out, scratch)
    for kernel, step in enumerate(plan.steps):
        each = step.blocks // n
        host.run(launch, kernel, 0, range((n - 1) * each, n * each))
    videos = out.reshape(n, *shape)
    assert np.array_equal(videos[-1:], reference(rows[-1:], windows[-1:], shape, "numba"))
    assert not videos[:-1, 0, 180].any()


# --- the arithmetic of launches


@given(
    n=st.integers(1, 3000),
    extent=st.tuples(st.integers(1, 300), st.integers(1, 2000), st.integers(1, 2000)),
    points=st.lists(st.integers(1, 2**24), min_size=1, max_size=3),
    gpu=st.sampled_from([H200, SMALLEST]),
)
def test_plans_hold_what_they_promise(host: Host, n: int, extent: Extent, points: list[int], gpu: cuda.Gpu) -> None:
    rows = np.zeros(n, Fractal.params_dtype)
    rows["frames"], rows["points_per_frame"] = 1, np.resize(points, n)
    plans = cuda_fractal.plan(rows, extent, gpu)
    assert sum(plan.n for plan in plans) == n
    for plan in plans:
        places, run = plan.numbers
        assert places % fractal.CHUNK == 0 and places >= max(points[:n]) and run % 16 == 0
        launch = host.launch(rows[: plan.n], np.zeros((plan.n, 5), np.int32), plan, None, [None] * 3)
        assert host.steps(launch) == [(step.blocks, step.shared_bytes) for step in plan.steps]
        assert all(step.shared_bytes <= gpu.shared_bytes and step.blocks < 2**31 for step in plan.steps)
        assert plan.steps[1].shared_bytes * 2 <= gpu.shared_bytes, "two blocks must fit a multiprocessor"
        assert sum(plan.scratch) <= cuda_fractal.SCRATCH_BYTES
    assert cuda_fractal.plan(rows[:0], extent, gpu) == []


def test_frames_that_are_too_large_are_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"1 x 1073741825.*numba"):
        cuda_fractal.plan(np.zeros(1, Fractal.params_dtype), (1, 1, 2**30 + 1), H200)


def test_large_batches_are_not_cut_finer_than_they_need_and_small_ones_are() -> None:
    rows = np.repeat(rows_of((100, 362, 362)), 200)

    def runs(n: int, extent: Extent) -> int:
        (plan,) = cuda_fractal.plan(rows[:n], extent, H200)
        return plan.steps[1].blocks // n

    assert [runs(n, (100, 362, 362)) for n in (1, 24, 64, 200)] == [31, 5, 2, 2]
    assert runs(128, (16, 112, 112)) == 1

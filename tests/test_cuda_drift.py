"""The CUDA kernel of drift, proven without a GPU; what holds for the kernels of any generator is in test_cuda.py."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from nocard import H200, SMALLEST, DriftLaunch, Guarded, SharedMemory, address, host_library
from strategies import alike_windows, drift_specs

import vpngen
from vpngen import Window, backends
from vpngen.backends import cuda, cuda_drift
from vpngen.generators import Drift

HEIGHTS = st.one_of(st.integers(1, 10), st.just(34))
SHAPES = st.tuples(st.integers(1, 2), HEIGHTS, st.sampled_from((1, 7, 24, 63, 70)))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, Any, tuple[int, int, int]]:
    """Params of some videos, windows of one extent anywhere in them, and that extent."""
    spec = draw(drift_specs(SHAPES, finest=6))
    videos = draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=2))
    packs = [window.pack(spec.shape) for window in draw(alike_windows(spec.shape, len(videos)))]
    return spec.params(videos), np.array([pack for pack, _ in packs], np.int32), packs[0][1]


def rendered(params: Any, windows: Any, extent: Any, backend: str = "reference") -> npt.NDArray[np.uint8]:
    out = np.empty((len(params), *extent), np.uint8)
    backends.load(backend).render("drift", params, windows, out, 1)
    return out


def in_blocks(params: Any, windows: Any, extent: Any, gpu: cuda.Gpu, order: int, offset: int) -> npt.NDArray[np.uint8]:
    """What the core in the library of kernels/host.cpp makes of a batch."""
    lib = host_library()
    lib.drift_blocks.restype = ctypes.c_longlong
    (plan,) = cuda_drift.plan(params, extent, gpu)
    out = Guarded((len(params), *extent), offset)
    launch = DriftLaunch(*map(address, (params, windows, out.array)), len(params), *extent, *plan.numbers)
    pointer, (step,) = ctypes.byref(launch), plan.steps
    assert (step.blocks, step.shared_bytes) == (lib.drift_blocks(pointer), lib.drift_shared(pointer))
    assert step.shared_bytes <= gpu.shared_bytes
    memory = SharedMemory(step.shared_bytes)
    for block in range(step.blocks):
        first, last = ctypes.c_longlong(block), ctypes.c_longlong(block + 1)
        lib.drift_run(pointer, first, last, order, ctypes.c_void_p(memory.fresh()))
        memory.check()
    out.check()
    return out.array


def test_structs_are_those_of_python() -> None:
    sizes = (ctypes.c_int * 16)()
    row, launch, *numbers = sizes[: host_library().drift_sizes(sizes)]
    assert (row, launch) == (Drift.params_dtype.itemsize, ctypes.sizeof(DriftLaunch))
    ours = cuda_drift
    assert numbers == [ours.THREADS, ours.PIXELS, ours.GROUPS, ours.BLOCK_BYTES, ours.POINT_BYTES, ours.CELL_BYTES]
    assert ours.TILE[0] * ours.TILE[1] == ours.THREADS * ours.PIXELS * ours.GROUPS


@settings(max_examples=25)
@given(batches(), st.integers(0, 2), st.sampled_from([H200, SMALLEST]), st.sampled_from([0, 1, 4]))
def test_blocks_give_the_bytes_of_the_reference(batch: Any, order: int, gpu: cuda.Gpu, offset: int) -> None:
    params, windows, extent = batch
    assert np.array_equal(in_blocks(params, windows, extent, gpu, order, offset), rendered(*batch))


def test_the_finest_details_have_room() -> None:
    """Details of a pixel, at the ends of the lives of layers that zoom and shear: most cells a tile, of a block and of a task."""
    spec = vpngen.drift(
        instances=1, shape=(64, 90, 200), cells=(16.0,), cell_jitter=2.0, octaves=(4,), speeds=(0.6,), speed_jitter=1.0,
        radius=1.5,
    )  # fmt: skip
    params = spec.params(np.arange(8, 16))
    windows = np.zeros((8, 5), np.int32)
    windows[:, 0] = params["life"] - params["age"] + 1  # where both layers are young or old
    windows[:, 1], windows[:, 4] = 1, [0, 1] * 4
    extent = (1, 90, 200)
    expected = rendered(params, windows, extent)
    assert cuda_drift.plan(params, extent, SMALLEST)[0].numbers[:2] < cuda_drift.TILE
    assert np.array_equal(in_blocks(params, windows, extent, SMALLEST, 0, 0), expected)
    assert np.array_equal(rendered(params, windows, extent, "numba"), expected)
    params["lattice"] = 1.2 * 2.0**17 * np.eye(2)  # with all octaves the finest there are, at the largest scale
    params["zoom"] = np.where(params["zoom"], 2.29 / np.maximum(params["life"] / 2, 1), 0)
    assert cuda_drift.plan(params, extent, SMALLEST)[0].steps[0].shared_bytes <= SMALLEST.shared_bytes
    window = Window((0, 1), (3, 88), (5, 199), flip=True)
    whole = vpngen.render(spec, 10, Window((0, 1)), backend="numba")
    assert np.array_equal(vpngen.render(spec, 10, window, backend="numba"), whole[:, 3:88, 198:4:-1])


def test_the_lattice_wraps() -> None:
    """Along each axis, in the midst of a window and of a video; with several videos and windows in one batch."""
    spec = vpngen.drift(instances=1, shape=(6, 40, 40), cells=(9.0,), speeds=(2.0,), speed_jitter=1.0, octaves=(2,))
    params = spec.params(np.arange(16))
    params["origin"] = -(2**19) + np.arange(48).reshape(16, 3) * 2**15 & 2**32 - 1
    params["step"][:, 2] = 2**18
    windows = np.zeros((16, 5), np.int32)
    windows[:, 1], windows[::3, 4] = 1, 1
    extent = (6, 40, 40)
    expected = rendered(params, windows, extent)
    assert np.array_equal(rendered(params, windows, extent, "numba"), expected)
    assert np.array_equal(in_blocks(params, windows, extent, SMALLEST, 1, 0), expected)
    r = (params["origin"][:, 2:] + np.uint32(2**18) * np.arange(6, dtype=np.uint32)) >> np.uint32(20)
    assert (r == 4095).any() and (r == 0).any()

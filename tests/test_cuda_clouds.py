"""The CUDA kernel of motion clouds, proven without a GPU; what holds for the kernels of any generator is in test_cuda.py."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nocard import H200, SMALLEST, CloudsLaunch, Guarded, SharedMemory, address, host_library
from strategies import alike_windows, clouds_specs

from vpngen import backends
from vpngen.backends import cuda, cuda_clouds
from vpngen.generators import Clouds

SHAPES = st.tuples(
    st.integers(1, 9), st.integers(1, 12), st.one_of(st.integers(1, 34), st.sampled_from((64, 96, 132, 260)))
)


@st.composite
def batches(draw: st.DrawFn, *waves: int) -> tuple[Any, Any, tuple[int, int, int]]:
    """Params of some videos, windows of one extent anywhere in them, and that extent."""
    spec = draw(clouds_specs(SHAPES, waves))
    videos = draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=2))
    packs = [window.pack(spec.shape) for window in draw(alike_windows(spec.shape, len(videos)))]
    return spec.params(videos), np.array([pack for pack, _ in packs], np.int32), packs[0][1]


def test_structs_are_those_of_python() -> None:
    sizes = (ctypes.c_int * 16)()
    row, launch, *numbers = sizes[: host_library().clouds_sizes(sizes)]
    assert (row, launch) == (Clouds.params_dtype.itemsize, ctypes.sizeof(CloudsLaunch))
    ours = cuda_clouds
    assert numbers == [ours.THREADS, ours.ROWS, ours.STRIP, ours.CHUNK, ours.BLOCK_BYTES]


@settings(max_examples=25)
@given(batches(8, 15, 16, 17, 33, 64), st.integers(0, 2), st.sampled_from([H200, SMALLEST]), st.sampled_from([0, 1, 4]))
def test_blocks_give_the_bytes_of_the_reference(batch: Any, order: int, gpu: cuda.Gpu, offset: int) -> None:
    params, windows, extent = batch
    lib = host_library()
    lib.clouds_blocks.restype = ctypes.c_longlong
    (plan,) = cuda_clouds.plan(params, extent, gpu)
    out = Guarded((len(params), *extent), offset)
    launch = CloudsLaunch(*map(address, (params, windows, out.array)), len(params), *extent, *plan.numbers)
    pointer, (step,) = ctypes.byref(launch), plan.steps
    assert (step.blocks, step.shared_bytes) == (lib.clouds_blocks(pointer), lib.clouds_shared(pointer))
    assert step.shared_bytes <= gpu.shared_bytes
    memory = SharedMemory(step.shared_bytes)
    for block in range(step.blocks):
        first, last = ctypes.c_longlong(block), ctypes.c_longlong(block + 1)
        lib.clouds_run(pointer, first, last, order, ctypes.c_void_p(memory.fresh()))
        memory.check()
    out.check()
    expected = np.empty(out.array.shape, np.uint8)
    backends.load("reference").render("clouds", params, windows, expected, 1)
    assert np.array_equal(out.array, expected)

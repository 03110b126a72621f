"""The CUDA kernels of dead leaves, proven without a GPU; what holds for the kernels of any generator is in test_cuda.py."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nocard import H200, SMALLEST, Guarded, LeavesLaunch, SharedMemory, address, host_library
from strategies import alike_windows, leaves_specs

import vpngen
from vpngen import Window, backends
from vpngen.backends import cuda, cuda_leaves
from vpngen.generators import Leaves

Batch = tuple[Any, npt.NDArray[np.int32], tuple[int, int, int]]


def packed(spec: vpngen.Spec, windows: list[Window]) -> tuple[npt.NDArray[np.int32], Any]:
    pairs = [w.pack(spec.shape) for w in windows]
    return np.array([p for p, _ in pairs], np.int32), pairs[0][1]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Params, windows and extent of a few videos of any set."""
    spec = draw(leaves_specs())
    videos = draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=3))
    return spec.params(videos), *packed(spec, draw(alike_windows(spec.shape, len(videos))))


class Host:
    """The core of dead leaves in the library of kernels/host.cpp."""

    def __init__(self) -> None:
        self.lib = host_library()
        self.lib.leaves_blocks.restype = ctypes.c_longlong
        self.lib.leaves_run.argtypes = [
            ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip

    def steps(self, launch: LeavesLaunch) -> list[tuple[int, int]]:
        """Blocks and shared memory of each kernel."""
        pointer = ctypes.byref(launch)
        return [(self.lib.leaves_blocks(pointer, k), self.lib.leaves_shared(pointer, k)) for k in (0, 1)]

    def render(self, params: Any, windows: Any, extent: Any, order: int = 0, offset: int = 0) -> npt.NDArray[np.uint8]:
        """A batch in its parts; scratch memory is full of what is no shape."""
        out, first = Guarded((len(params), *extent), offset), 0
        for plan in cuda_leaves.plan(params, extent, H200):
            mine = slice(first, first + plan.n)
            scratch = Guarded(plan.scratch)
            scratch.array[:] = 0xFF
            arrays = params[mine].copy(), windows[mine].copy(), out.array[mine], scratch.array
            launch = LeavesLaunch(*map(address, arrays), plan.n, *plan.extent, *plan.numbers)
            assert self.steps(launch) == [(step.blocks, step.shared_bytes) for step in plan.steps]
            for kernel, (blocks, shared) in enumerate(self.steps(launch)):
                memory = SharedMemory(shared)
                for block in range(blocks)[:: -1 if order == 1 else 1]:
                    self.lib.leaves_run(ctypes.byref(launch), kernel, block, block + 1, order, memory.fresh())
                    memory.check()
            out.check()
            scratch.check()
            first += plan.n
        assert first == len(params)
        return out.array


@pytest.fixture(scope="module")
def host() -> Host:
    return Host()


def test_structs_and_constants_are_those_of_python(host: Host) -> None:
    sizes = (ctypes.c_int * 8)()
    found = list(sizes[: host.lib.leaves_sizes(sizes)])
    assert found == [
        Leaves.params_dtype.itemsize, ctypes.sizeof(LeavesLaunch), cuda_leaves.LEAF_BYTES, cuda_leaves.THREADS,
        cuda_leaves.COLUMNS, cuda_leaves.ROWS,
    ]  # fmt: skip


def test_kernels_take_their_arguments_in_the_order_of_the_struct() -> None:
    kernels = re.findall(r"(leaves_\w+)\(([^)]*)\) \{\n    Launch a = \{([^}]*)\}", cuda.expanded_source("leaves"))
    assert [name for name, _, _ in kernels] == ["leaves_shapes", "leaves_frames"]
    for _, parameters, fields in kernels:
        names = [parameter.split()[-1].lstrip("*") for parameter in parameters.split(",")]
        assert names == [field.strip() for field in fields.split(",")] == [name for name, _ in LeavesLaunch._fields_]


@settings(max_examples=25)
@given(batches(), st.integers(0, 2), st.integers(0, 15))
def test_host_build_gives_the_bytes_of_the_reference(host: Host, batch: Batch, order: int, offset: int) -> None:
    params, windows, extent = batch
    Leaves.check_params(params)
    expected = np.empty((len(params), *extent), np.uint8)
    backends.load("reference").render("leaves", params, windows, expected, 1)
    assert np.array_equal(host.render(params, windows, extent, order, offset), expected)


def test_clips_of_the_default_set_and_a_batch_in_parts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of shapes, more than a block places; flushing subnormal numbers changes nothing."""
    spec = vpngen.leaves(instances=4)
    videos = [k for label in (0, 33, 39, 43, 55, 63) for k in range(256) if spec.label(k) == label][::4]
    windows = [Window((t, t + 5, 2), (9, 121), (t, t + 111), bool(t % 2)) for t in range(20, 20 + len(videos))]
    params, (packs, extent) = spec.params(videos), packed(spec, windows)
    assert params["slots"].max() > 2 * cuda_leaves.THREADS
    expected = vpngen.render(spec, videos, windows, backend="numba")
    assert np.array_equal(host.render(params, packs, extent), expected)
    monkeypatch.setattr(
        cuda_leaves, "SCRATCH_BYTES", 2 * extent[0] * (int(params["slots"].max()) + 1) * cuda_leaves.LEAF_BYTES
    )
    assert [plan.n for plan in cuda_leaves.plan(params, extent, SMALLEST)] == [2] * (len(videos) // 2)
    try:
        host.lib.host_flush(1)
        assert np.array_equal(host.render(params, packs, extent), expected)
    finally:
        host.lib.host_flush(0)

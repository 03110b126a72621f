"""The compiled kernels, run without a GPU: the PTX that NVRTC makes of them gives the bytes of the reference.

`benchmarks/ptx.py` runs it. That a kernel which does what no kernel may do is found out is tested here on small ones.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import test_cuda
import test_cuda_clouds
import test_cuda_drift
import test_cuda_fractal
import test_cuda_leaves
from hypothesis import given, settings
from hypothesis import strategies as st
from nocard import GENERATORS_HERE, H200, SMALLEST, Guarded, InPtx, cupy_on_the_host, host_library
from nocard import Memory as OnGpu

import vpngen
from benchmarks import counts, ptx
from vpngen import backends
from vpngen.backends import cuda, cuda_perlin
from vpngen.backends.base import kernels

MOST_PIXELS = 20_000
"""Of a batch that random tests draw."""


@pytest.fixture(scope="module")
def in_ptx() -> InPtx:
    return InPtx()


@pytest.fixture(autouse=True)
def compiler(in_ptx: InPtx) -> None:
    """Skips where there is none, and fails in CI."""


# --- the kernels of the generators


def render(
    in_ptx: InPtx, monkeypatch: pytest.MonkeyPatch, generator: str, params: Any, windows: Any, shape: Any, offset: int = 0,
    gpu: cuda.Gpu = H200,
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """What the CUDA backend makes of a batch, where its output begins `offset` bytes after a multiple of 64."""
    with monkeypatch.context() as patched:
        fake = cupy_on_the_host(gpu, run=in_ptx)
        patched.setattr(cuda, "_cupy", lambda: fake)
        out = Guarded(shape, offset)
        cuda.Cuda().render_device(generator, params, windows, out.array.view(OnGpu), shape)
    out.check()
    return out.array


batches_of_perlin = test_cuda.batches().map(lambda b: (b[0].params(b[1]), *test_cuda.packed(b[0], b[2])))
batches = {
    "perlin": batches_of_perlin,
    "drift": test_cuda_drift.batches(),
    "clouds": test_cuda_clouds.batches(8, 17),
    "fractal": test_cuda_fractal.batches().map(lambda b: (b[0], np.array(b[1], np.int32), b[2])),
    "leaves": test_cuda_leaves.batches(),
}
"""Of each generator, as (params, windows, extent)."""


def test_every_generator_is_listed_here() -> None:
    assert set(batches) == set(GENERATORS_HERE)


@pytest.mark.parametrize("generator", batches)
def test_ptx_gives_the_bytes_of_the_reference(generator: str, in_ptx: InPtx, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=12)
    @given(
        batches[generator].filter(lambda b: len(b[0]) * np.prod(b[2]) <= MOST_PIXELS),
        st.sampled_from(ptx.SCHEDULES),
        st.sampled_from([0, 1, 4, 8]),
        st.sampled_from([H200, SMALLEST]),
    )
    def each(batch: Any, schedule: str, offset: int, gpu: cuda.Gpu) -> None:
        params, windows, extent = batch
        in_ptx.schedule = schedule
        expected = np.empty((len(params), *extent), np.uint8)
        backends.load("reference").render(generator, params, windows, expected, 1)
        found = render(in_ptx, monkeypatch, generator, params, windows, expected.shape, offset, gpu)
        assert np.array_equal(found, expected)

    each()


@pytest.mark.parametrize("offset", [0, 1, 4, 8])
@pytest.mark.parametrize("generator", batches)
def test_clips_of_the_papers(generator: str, offset: int, in_ptx: InPtx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows of 112 bytes, with a stride in time and mirrored, beside those of an odd width."""
    spec = {
        "perlin": vpngen.perlin(categories=400, instances=4),
        "drift": vpngen.drift(instances=2),
        "clouds": vpngen.clouds(instances=2),
        "fractal": vpngen.fractal(categories=20, instances=4),
        "leaves": vpngen.leaves(instances=4, coverage=0.1, textured=0.1),
    }
    videos = [13 + offset, 79]
    for width in (112, 111):
        windows = [
            vpngen.Window((t, t + 16, 3), (9, 121), (x, x + width), flip)
            for t, x, flip in ((31, 5, False), (40, 64 - offset, True))
        ]
        packs, extent = test_cuda.packed(spec[generator], windows)
        in_ptx.schedule = ptx.SCHEDULES[(offset + width) % 2]
        params = spec[generator].params(videos)
        found = render(in_ptx, monkeypatch, generator, params, packs, (2, *extent), offset)
        assert np.array_equal(found, vpngen.render(spec[generator], videos, windows, backend="reference"))


def test_gpus_before_sm_80(in_ptx: InPtx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes without float16 numbers, and values of a warp without its reduction."""
    spec = vpngen.perlin(categories=400, instances=4)
    packs, extent = test_cuda.packed(spec, [vpngen.Window((30, 36), (9, 21), (x, x + 43), x > 5) for x in (5, 64)])
    with monkeypatch.context() as patched:
        patched.setattr(in_ptx, "architecture", "sm_75")
        found = render(in_ptx, monkeypatch, "perlin", spec.params([13, 79]), packs, (2, *extent))
    expected = np.empty_like(found)
    backends.load("reference").render("perlin", spec.params([13, 79]), packs, expected, 1)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("schedule", ptx.SCHEDULES[1::3])
def test_extremes(schedule: str, in_ptx: InPtx, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = vpngen.perlin(
        divisions_x=(3, 15),
        divisions_y=(3, 12),
        shape=(12, 24, 45),
        temporal=4,
        noise_frequencies=(1, 3),
        grey="stretch",
    )
    fake = cupy_on_the_host(run=in_ptx)
    in_ptx.schedule = schedule
    monkeypatch.setattr(cuda, "_cupy", lambda: fake)
    params = spec.params(np.arange(4))
    found = cuda.Cuda().extremes("perlin", params, spec.shape, None)
    expected = backends.load("reference").extremes("perlin", params, spec.shape, None)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert fake.launches == [cuda_perlin.EXTREMES]


@pytest.mark.parametrize("generator", batches)
def test_windows_at_the_ends_of_an_output_of_five_gigabytes(generator: str) -> None:
    """The first, the last and those around bytes 2**31 and 2**32. There is memory for them alone: any other store fails."""
    spec = {
        "perlin": vpngen.perlin(categories=400, instances=300),
        "drift": vpngen.drift(instances=700),
        "clouds": vpngen.clouds(instances=700),
        "fractal": vpngen.fractal(categories=100, instances=1000, shape=(5, 240, 240), points_per_frame=50),
        "leaves": vpngen.leaves(instances=1000, shape=(5, 240, 240), coverage=0.01),
    }[generator]
    extent, size = (2, 240, 240), 2 * 240 * 240
    n = 5 * 10**9 // size + 1
    videos = np.arange(n)
    params, windows = spec.params(videos), np.tile(np.array([1, 2, 0, 0, 1], np.int32), (n, 1))
    (plan,) = kernels("cuda", generator, "plan")(params, extent, H200)
    chosen = [0, 2**31 // size, 2**32 // size, n - 1]
    address = 1 << 45
    out = {w: np.full(size, 0xAA, np.uint8) for w in chosen}
    ptx.run(
        generator,
        plan,
        params,
        windows,
        [ptx.Memory(array, address + w * size, True) for w, array in out.items()],
        address,
        blocks={s.kernel: [w * (s.blocks // n) + b for w in chosen for b in range(s.blocks // n)] for s in plan.steps},
        races=False,
    )
    expected = np.empty((len(chosen), *extent), np.uint8)
    backends.load("reference").render(generator, params[chosen], windows[chosen], expected, 1)
    assert np.array_equal(np.stack(list(out.values())).reshape(expected.shape), expected)


# --- floor and pack

FOUR_LEVELS = """
extern "C" __global__ void levels(const float *grey, unsigned *words, int as_halves) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    words[i] = as_halves ? four_levels<true>(grey + 4 * i) : four_levels<false>(grey + 4 * i);
}
"""
UP_TO_256 = 0x43800000
"""Bits of the float32 numbers from 0 on."""


def greys(more: bool) -> npt.NDArray[np.float32]:
    """Numbers in [0, 256): 64 on each side of every integer, the ends of all binades, random ones; `more`: all from 128 on."""
    rng = np.random.default_rng(3)
    integers = np.arange(1, 257, dtype=np.float32).view(np.uint32)
    bits = [
        (integers[:, None] + np.arange(-64, 64)).ravel(),
        ((np.arange(UP_TO_256 >> 23)[:, None] << 23) + [0, 1, 2, 0x7FFFFD, 0x7FFFFE, 0x7FFFFF]).ravel(),
        np.arange(0x43000000 if more else 0x437FC000, UP_TO_256),
        (256 * rng.random(2**15)).astype(np.float32).view(np.uint32),
        rng.integers(UP_TO_256, size=2**15),
    ]
    found = np.concatenate(bits)
    found = found[found < UP_TO_256].astype(np.uint32)
    return found[: len(found) // 1024 * 1024].view(np.float32)


def halves(a: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of what `cvt.rz.f16.f32` makes of numbers: NumPy rounds to nearest, and what became too large goes one down."""
    nearest = a.astype(np.float16)
    return nearest.view(np.uint16) - (nearest.astype(np.float32) > a)


def sums_rounded_down(a: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Bits of what `add.rm.f32` makes of numbers and 1/2."""
    nearest = a + np.float32(0.5)
    return nearest.view(np.uint32) - (nearest > a.astype(np.float64) + 0.5)


@pytest.mark.parametrize("as_halves", [True, False])
def test_levels_are_floored(as_halves: bool) -> None:
    """In the arithmetic of IEEE numbers, in the host build and in PTX: by both ways the bytes are the integer parts."""
    for more in (True, False):
        grey = greys(more)
        scaled, expected = grey * np.float32(2**-24), np.floor(grey).astype(np.uint8)
        bits = halves(scaled) if as_halves else sums_rounded_down(scaled)
        assert np.array_equal(bits.astype(np.uint8), expected)
        words = np.zeros(len(grey) // 4, np.uint32)
        host_library().perlin_levels(
            *map(ctypes.c_void_p, (scaled.ctypes.data, words.ctypes.data)), ctypes.c_longlong(len(words)), as_halves
        )
        assert np.array_equal(words.view(np.uint8), expected)
    source = cuda.expanded_source("perlin").partition("extern __shared__")[0] + FOUR_LEVELS
    program = ptx.compiled(source, cuda.compile_options("perlin")).program("levels")
    words[:] = 0
    memory = [ptx.Memory(scaled, 1 << 40), ptx.Memory(words, 1 << 41, True)]
    program.launch(len(words) // 256, 256, (1 << 40, 1 << 41, as_halves), memory, races=False)
    assert np.array_equal(words.view(np.uint8), expected)


# --- the runner: what it computes, and what it does not let pass

HEAD = """
.version 8.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 memory[];
.visible .entry kernel(.param .u64 kernel_param_0, .param .u32 kernel_param_1)
{
    .reg .pred %p<9>;
    .reg .f32 %f<9>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    ld.param.u64 %rd1, [kernel_param_0];
    ld.param.u32 %r8, [kernel_param_1];
    mov.u32 %r1, %tid.x;                   // this thread
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;              // its word of the output
    shl.b32 %r2, %r1, 2;
    mov.u32 %r3, memory;
    add.s32 %r2, %r3, %r2;                 // its word of shared memory
"""
THREADS = 64


def run(body: str, schedule: str = ptx.SCHEDULES[0], threads: int = THREADS, number: int = 5) -> list[int]:
    """The words that a block of a kernel leaves in its output."""
    out = np.zeros(threads, np.uint32)
    program = ptx.Module(f"{HEAD}{body}\n ret;\n}}\n").program("kernel")
    program.launch(1, threads, (1 << 32, number), [ptx.Memory(out, 1 << 32, True)], 4 * threads, schedule=schedule)
    return out.tolist()


@pytest.mark.parametrize("schedule", ptx.SCHEDULES)
def test_threads_exchange_words_over_a_barrier(schedule: str) -> None:
    body = """
        st.shared.u32 [%r2], %r1;
        bar.sync 0;
        sub.s32 %r4, 252, %r2;
        ld.shared.u32 %r5, [%r4];
        mad.lo.s32 %r5, %r5, %r8, 1;
        st.global.u32 [%rd3], %r5;"""
    assert run(body, schedule) == [5 * (THREADS - 1 - t) + 1 for t in range(THREADS)]


@pytest.mark.parametrize("schedule", ptx.SCHEDULES)
def test_lanes_that_part_ways_meet_again(schedule: str) -> None:
    """Each goes round its own number of times; then they add up over the warp, of which the last is half empty."""
    body = """
        and.b32 %r4, %r1, 3;
        mov.u32 %r5, 0;
    $next:
        add.s32 %r5, %r5, %r4;
        setp.ge.s32 %p1, %r5, 6;
        @%p1 bra $out;
        setp.eq.s32 %p2, %r4, 0;
        @!%p2 bra $next;
    $out:
        shfl.sync.bfly.b32 %r6|%p3, %r5, 1, 31, 65535;
        add.s32 %r6, %r6, %r5;
        st.global.u32 [%rd3], %r6;"""
    rounds = [0, 6, 6, 6]
    assert run(body, schedule, threads=16) == [rounds[t % 4] + rounds[t % 4 ^ 1] for t in range(16)]


def test_operations() -> None:
    """Those in which a host and a GPU could differ: a row is a PTX expression of a, b and c, and its result."""
    tiny, nan = 0x00400000, 0x7FC00000
    rows = [
        ("add.rm.ftz.f32 d, a, b", (0x42280000, 0x4B000000, 0), 0x4B00002A),  # 42 + 2**23
        ("add.rm.ftz.f32 d, a, b", (0xB0000000, 0x4B000000, 0), 0x4AFFFFFF),  # a little less than 2**23
        ("add.rp.f32 d, a, b", (0x30000000, 0x4B000000, 0), 0x4B000001),
        ("add.rn.ftz.f32 d, a, b", (tiny, 0, 0), 0), ("add.rn.f32 d, a, b", (tiny, 0, 0), tiny),
        ("fma.rn.f32 d, a, b, c", (0x3F800001, 0x3F800001, 0xBF800002), 0x28800000),  # not rounded in between
        ("min.f32 d, a, b", (0, 0x80000000, 0), 0x80000000), ("max.f32 d, a, b", (nan, 0x3F800000, 0), 0x3F800000),
        ("cvt.rzi.ftz.s32.f32 d, a", (0xC0200000, 0, 0), 2**32 - 2), ("cvt.rzi.ftz.s32.f32 d, a", (nan, 0, 0), 0),
        ("cvt.rzi.ftz.s32.f32 d, a", (0x7F800000, 0, 0), 2**31 - 1),
        ("cvt.rz.f16x2.f32 d, a, b", (0x33FFFFFF, 0x37000000, 0), 0x00010080),  # subnormal float16 numbers
        ("cvt.rz.f16x2.f32 d, a, b", (0x477FFFFF, 0xC7800000, 0), 0x7BFFFBFF),
        ("prmt.b32 d, a, b, c", (0x33221100, 0x778855AA, 0x0C65), 0x00FF8855),
        ("div.s32 d, a, b", (2**32 - 7, 2, 0), 2**32 - 3), ("rem.s32 d, a, b", (2**32 - 7, 2, 0), 2**32 - 1),
        ("shr.s32 d, a, b", (2**31, 40, 0), 2**32 - 1), ("shl.b32 d, a, b", (1, 32, 0), 0),
        ("shf.r.wrap.b32 d, a, b, c", (0x44332211, 0x88776655, 40), 0x55443322),
        ("mul.hi.u32 d, a, b", (2**31, 6, 0), 3), ("bfe.u32 d, a, b, c", (0xABCD, 4, 8), 0xBC),
        ("min.s32 d, a, b", (2**32 - 1, 1, 0), 2**32 - 1), ("lop3.b32 d, a, b, c, 150", (12, 10, 6), 12 ^ 10 ^ 6),
    ]  # fmt: skip
    for text, given_bits, expected in rows:
        name, operands = text.split(None, 1)
        floats = name.endswith("f32")
        body, known = [], {"d": "%f4" if floats and not name.startswith("cvt") else "%r4"}
        for k, (letter, bits) in enumerate(zip("abc", given_bits, strict=True)):
            known[letter] = f"%f{k}" if floats else ("%r5", "%r6", "%r7")[k]
            body.append(f"mov.b32 {known[letter]}, {bits if floats else bits - 2**32 * (bits >= 2**31)};")
        made = ", ".join(known.get(o, o) for o in operands.split(", "))
        body.append(f"{name} {made}; st.global.b32 [%rd3], {known['d']};")
        assert run("\n".join(body), threads=1) == [expected], (text, [hex(b) for b in given_bits])


FAULTS = {
    "no barrier": (r"a race: .* block 0, thread \d+$", "st.shared.u32 [%r2], %r1; ld.shared.u32 %r5, [memory+40];"),
    "no barrier before it is written again": (
        "a race.*read by another thread", "ld.shared.u32 %r5, [memory]; st.shared.u32 [%r2], %r1;",
    ),
    "a barrier for half a warp": (
        "bar.sync 0: .*(only some threads|does not reach|different barriers)",
        "setp.lt.u32 %p1, %r1, 16; @%p1 bra $past; bar.sync 0; \n$past:",
    ),
    "a barrier for half a block": (
        "does not reach: it has ended; block 0, thread 32", "setp.ge.u32 %p1, %r1, 32; @%p1 ret; bar.sync 0;",
    ),
    "two barriers in one place": (
        "only some threads|different barriers", "setp.lt.u32 %p1, %r1, 16; @%p1 bra $a; bar.sync 0; bra $b; \n$a: bar.sync 0; \n$b:",
    ),
    "a lane that does not come": (
        "only some threads|do not come|takes no part|not named",
        "setp.lt.u32 %p1, %r1, 16; @%p1 bra $past; shfl.sync.bfly.b32 %r5|%p2, %r1, 1, 31, -1; \n$past:",
    ),
    "one past the end": (r"st.global.u32 \[%rd3\+4\].*: a store of 4 bytes.*block 0, thread 63$", "st.global.u32 [%rd3+4], %r1;"),
    "a load before the beginning": ("a load of 4 bytes.*thread 0$", "ld.global.u32 %r5, [%rd3+-4];"),
    "not aligned": ("no multiple of the 16 bytes.*thread 1$", "st.global.v4.u32 [%rd3], {%r1, %r1, %r1, %r1};"),
    "past shared memory": ("4 bytes at 256, outside the 256 bytes of shared memory.*thread 63$", "st.shared.u32 [%r2+4], %r1;"),
    "shared memory by a generic address": (
        "outside the 256 bytes", "cvt.u64.u32 %rd4, %r2; cvta.shared.u64 %rd4, %rd4; st.u32 [%rd4+4], %r1;",
    ),
}  # fmt: skip
"""What no kernel may do: how it is said, and a body that does it."""


@pytest.mark.parametrize("schedule", [ptx.SCHEDULES[0], ptx.SCHEDULES[3]])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_kernel_may_do_is_found(fault: str, schedule: str) -> None:
    said, body = FAULTS[fault]
    if schedule != ptx.SCHEDULES[0]:
        said = re.sub(r"(, |\.\*)thread \d+\$", "", said)  # the last comes first
    with pytest.raises(ptx.PtxError, match=said):
        run(body, schedule)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sin.approx.f32 %f1, %f2;", "instruction sin.approx.f32 is not known: sin.approx.f32 %f1, %f2"),
        ("mov.u32 %r4, %clock;", "operand %clock is not known"),
        ("cvt.u64.u32 %r4, %r5;", "the width of %r4 is not known"),
        ("bar.sync 1, 32;", "a barrier of some of the threads"),
        ("ld.global.u32 %r4, [%r5+%r6];", "an address that cannot be read"),
    ],
)
def test_what_is_not_known_is_named(body: str, said: str) -> None:
    with pytest.raises(ptx.PtxError, match=re.escape(said)):
        run(body)


def test_shared_memory_is_poisoned_and_what_is_read_only_stays() -> None:
    assert run("ld.shared.u32 %r5, [%r2]; st.global.u32 [%rd3], %r5;") == [0xA5A5A5A5] * THREADS
    program = ptx.Module(f"{HEAD} st.global.u32 [%rd3], %r1; ret; }}").program("kernel")
    with pytest.raises(ptx.PtxError, match="read-only"):
        program.launch(1, 1, (1 << 32, 0), [ptx.Memory(np.zeros(1, np.uint32), 1 << 32)])


# --- counts


def test_a_warp_issues_both_ways_of_a_branch_and_what_follows_once() -> None:
    body = """
        and.b32 %r4, %r1, 1;
        setp.eq.s32 %p1, %r4, 0;
        @%p1 bra $even;
        mul.lo.s32 %r5, %r1, 3;
    $again:
        sub.s32 %r5, %r5, 32;
        setp.gt.s32 %p2, %r5, 0;
        @%p2 bra $again;
        bra $on;
    $even:
        mov.u32 %r5, 7;
    $on:
        st.global.u32 [%rd3], %r5;"""
    program = ptx.Module(f"{HEAD}{body} ret; }}").program("kernel")
    out = ptx.Memory(np.zeros(64, np.uint32), 1 << 32, True)
    found = program.launch(1, 64, (1 << 32, 0), [out], 256)
    issued = {i.text.split()[0]: int(n) for i, n in zip(program.kernel.instructions, found, strict=True) if n}
    most = [max(-(-3 * thread // 32) for thread in lanes) for lanes in (range(1, 32, 2), range(33, 64, 2))]
    assert issued["mul.lo.s32"] == issued["st.global.u32"] == issued["ret"] == 2
    assert issued["sub.s32"] == sum(most)


def test_counts_are_those_of_the_formula() -> None:
    """The multiply-adds and the loads of PTX are those of the machine code; so is the whole, nearly, by the table of weights."""
    counter = counts.Counter("perlin")
    spec = vpngen.perlin(categories=400, instances=4)
    found = counts.measure(counter, spec, counts.CLIP, [189], 1)
    assert sum(found["kinds"].values()) == pytest.approx(found["mean"]) and not found["kinds"]["other"]
    assert found["by_weights"] == pytest.approx(found["mean"], rel=0.25)
    rng, videos = np.random.default_rng(0), np.arange(2)
    windows = counts.windows_of(spec, videos, counts.CLIP, rng)
    ((_, of_kernels),) = counts.launches(spec, videos, windows, counts.CLIP, 1, rng)
    for name, times in of_kernels.items():
        kernel = counter.module.kernels[name]
        fused = sum(n for n, i in zip(times, kernel.instructions, strict=True) if i.name.startswith("fma."))
        assert fused * counts.PIXELS / np.prod(counts.CLIP) > 9.3 * 4
        if counter.machine:
            issued = counts.issued(kernel, counter.machine[name], times)
            assert sum(i.times for i in issued if i.name == "FFMA") == pytest.approx(fused, rel=0.1)

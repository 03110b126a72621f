"""Where do the cycles of a whole video go? `python -m benchmarks.cycles [VIDEOS]`: cycles a pixel beside the least that the formula asks for.

Counters of the CPU are not needed. The clock is that of a chain of squares, each plus one: four cycles a step on x86. The
rate of fused multiply-adds is measured too, with the lanes that the kernel uses. The floor is the multiply-adds of the frames
alone: for each pixel and term four between lattice planes, one on them. The stages are what calls of the same kernels on
the same sizes take by themselves; the frame stage, with what it writes, is the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import vpngen
from benchmarks.common import cpu_seconds, table
from vpngen.backends import numba_perlin, simd
from vpngen.backends.compiled import kernel
from vpngen.generators import Params

SIDE, CHAINS = 240, 8
STEPS = 4_000_000
CASES = tuple((terms, period) for terms in (1, 3) for period in (4, 8, 16))


@kernel
def chain(n: Any) -> Any:
    x = np.uint64(88172645463325252)
    for _ in range(n):
        x = x * x + np.uint64(1)
    return x


@kernel
def multiply_adds(n, out):  # type: ignore[no-untyped-def]
    """`CHAINS` * n of sixteen lanes; as many chains as hide the latency."""
    s = simd.vload(out, 0)
    a, b, c, d, e, f, g, h = s, s, s, s, s, s, s, s
    for _ in range(n):
        a, b, c, d = simd.vfma(a, s, s), simd.vfma(b, s, s), simd.vfma(c, s, s), simd.vfma(d, s, s)
        e, f, g, h = simd.vfma(e, s, s), simd.vfma(f, s, s), simd.vfma(g, s, s), simd.vfma(h, s, s)
    for i, lanes in enumerate((a, b, c, d, e, f, g, h)):
        simd.vstore(out, 16 * i, lanes)


@kernel
def hashing(row, k, group, layer, points, lines, words, stride, n):  # type: ignore[no-untyped-def]
    for q in range(n):
        numba_perlin.gradients(row, k, group, layer, points, q, words, lines, stride)


@kernel
def along_y(lines, coefficients, stride, columns, n):  # type: ignore[no-untyped-def]
    for _ in range(n):
        numba_perlin.along_y(lines, 0, 3 * stride, stride, columns, np.float32(0.3), np.float32(0.2), coefficients)


@kernel
def along_x(coefficients, stride, columns, planes, sx, tables, out, with_q, breadth, n):  # type: ignore[no-untyped-def]
    for _ in range(n):
        numba_perlin.along_x(coefficients, stride, columns, planes, 0, SIDE, sx, tables, out, with_q, breadth)


def best(call: Callable[[], Any]) -> float:
    call()
    return min(cpu_seconds(call) for _ in range(5))


def stages(params: Params) -> tuple[float, float, float, float]:
    """Of one video: multiply-adds of a frame pixel; CPU seconds of hashing, along y and along x."""
    row, block = params[0], numba_perlin.BLOCK
    adds, seconds = 0.0, [0.0, 0.0, 0.0]
    for k in range(row["terms"]):
        sx, sy, st = (int(n) for n in row["cell"][k])
        adds += (1 + 4 * (st - 1)) / st
        blocks = SIDE // block
        planes = block if st == 1 else -(-block // st) + 1
        with_q, groups = np.full(planes, st > 1), SIDE // sx // 4 + 1
        columns, points = 4 * groups, planes * groups
        group, layer = (np.zeros(points + 16, np.uint32) for _ in range(2))
        group[:points], layer[:points] = np.tile(np.arange(groups), planes), np.repeat(np.arange(planes), groups)
        stride = (4 * points + 32) // 16 * 16
        lines, coefficients = (numba_perlin.aligned(6 * stride + 32) for _ in range(2))
        lines[:] = coefficients[:] = 0.5
        tables, words = np.zeros(2 * (max(sx, 16) + 32), np.float32), np.zeros(64, np.uint32)
        breadth = SIDE + 48
        out = numba_perlin.aligned(planes * 2 * breadth)
        line = group, layer, points, lines, words, stride, blocks * (SIDE // sy + 1)
        seconds[0] += best(lambda r=row, k=k, e=line: hashing(r, k, *e))
        each = coefficients, stride
        seconds[1] += best(lambda e=each, i=lines, c=4 * points, n=blocks * SIDE: along_y(i, *e, c, n))
        last = columns, planes, sx, tables, out, with_q, breadth, blocks * SIDE
        seconds[2] += best(lambda e=each, a=last: along_x(*e, *a))
    return adds, *seconds


def main() -> None:
    videos = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    clock = 4 * STEPS / best(lambda: chain(STEPS))
    lanes = np.zeros(16 * CHAINS, np.float32)
    rate = CHAINS * STEPS / best(lambda: multiply_adds(STEPS, lanes)) / clock
    print(f"{clock / 1e9:.2f} GHz, {16 * rate:.1f} multiply-adds a cycle\n")
    rng, rows = np.random.default_rng(0), []
    out = np.ones((SIDE,) * 3, np.uint8)
    for terms, period in CASES:
        spec = vpngen.perlin(categories=400, instances=16, temporal=period, noise_terms=terms - 1)
        found = []
        for index in rng.integers(0, spec.n_videos(), videos):
            whole = best(lambda i=int(index), s=spec: vpngen.render(s, i, threads=1, out=out))
            adds, *parts = stages(spec.params([index]))
            found.append((whole, adds / 16 / rate / clock * out.size, *parts, whole - sum(parts)))
        mean = np.mean(found, axis=0)
        rows.append((f"{terms}, D = {period}", f"{1e3 * mean[0]:.2f}", *(f"{n * clock / out.size:.2f}" for n in mean)))
    print(
        table(("terms", "CPU ms a video", "cycles a pixel", "floor", "hashing", "along y", "along x", "frames"), rows)
    )


if __name__ == "__main__":
    main()

"""How long until something happens, and how much memory does it take? Measured on fresh processes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import table

TITLE = "Starting up, and memory"

FIRST = "import vpngen; vpngen.render(vpngen.perlin(), 0, threads=1)"
STORE = "import sys, vpngen; vpngen.write(vpngen.perlin(categories=64, instances=1), sys.argv[1], codec=sys.argv[2])"
PEAK = """
import atexit
def peak():
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
atexit.register(peak)
"""
"""The peak of this program itself, in kB: ru_maxrss of a child starts from what its parent held."""
SCRATCH = """
import sys, numpy as np, vpngen
threads = int(sys.argv[1])
def resident(field):
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith(field)))
spec = vpngen.perlin(categories=400, instances=1)
out = np.ones((8, *spec.shape), np.uint8)
tiny = vpngen.perlin(divisions=[1], categories=1, instances=2, shape=(2, 1, 1), noise_terms=0)
vpngen.render(tiny, [0, 1], threads=threads)
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = resident("VmRSS:")
for first in range(0, 50, 4):
    vpngen.render(spec, range(first, 400, 50), threads=threads, out=out)
print(resident("VmHWM:") - before)
"""
"""kB that rendering adds to a process whose kernels and output are in memory already."""


def run(quick: bool, folder: Path) -> dict[str, Any]:
    runs = 2 if quick else 9
    module = [sys.executable, "-m", "vpngen", "--help"]
    fresh = folder / "kernels"
    cached = {**os.environ, "NUMBA_CACHE_DIR": str(fresh)}

    def code(text: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", text, *arguments]

    found: dict[str, Any] = {"first_compile_s": _wall(code(FIRST), cached)}
    found["cached_first_render_s"] = median(_wall(code(FIRST), cached) for _ in range(runs))
    found["python_s"] = median(_wall(code("pass")) for _ in range(runs))
    found["import_s"] = median(_wall(code("import vpngen")) for _ in range(runs))
    if importlib.util.find_spec("vpngen.__main__") is not None:
        found["help_s"] = median(_wall(module) for _ in range(runs))
    if Path("/proc/self/clear_refs").exists():
        found["scratch_mb"] = {n: _kilobytes(code(SCRATCH, str(n))) / 1e3 / n for n in (1, 2)}
        found["peak_mb"] = {
            codec: _kilobytes(code(PEAK + STORE, str(folder / f"{codec}.zarr"), codec)) / 1e3
            for codec in ("none", "zstd")
        }
    return found


def _wall(command: list[str], environment: dict[str, str] | None = None) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _kilobytes(command: list[str]) -> int:
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) * 1024 // 1000


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [("`import vpngen`, Python's own start included", "0.2 s", f"{r['import_s']:.2f} s")]
    if "help_s" in r:
        rows.append(("`vpngen --help`", "0.2 s", f"{r['help_s']:.2f} s"))
    rows.append(("first render of a process, kernels cached", "2 s", f"{r['cached_first_render_s']:.2f} s"))
    rows.append(("first render ever, compiling", "", f"{r['first_compile_s']:.1f} s"))
    if "scratch_mb" in r:
        rows.append(
            ("rendering, memory a thread beside its output", "20 MB", f"{max(r['scratch_mb'].values()):.1f} MB")
        )
        rows.append(("a whole process that writes a set", "400 MB", f"{max(r['peak_mb'].values()):.0f} MB"))
    return rows


def report(r: dict[str, Any]) -> str:
    rows = [("`python -c pass`", f"{r['python_s']:.3f} s"), ("`python -c 'import vpngen'`", f"{r['import_s']:.3f} s")]
    if "help_s" in r:
        rows.append(("`python -m vpngen --help`", f"{r['help_s']:.3f} s"))
    rows.append(("import and render a video, kernels cached", f"{r['cached_first_render_s']:.2f} s"))
    rows.append(("import and render a video, kernels compiled", f"{r['first_compile_s']:.1f} s"))
    for threads, mb in r.get("scratch_mb", {}).items():
        rows.append((f"memory that rendering adds a thread, threads={threads}", f"{mb:.1f} MB"))
    for codec, mb in r.get("peak_mb", {}).items():
        rows.append((f"peak of a process in `vpngen.write`, codec {codec}, {common.cores()} threads", f"{mb:.0f} MB"))
    return table(("fresh processes, wall seconds and resident memory", "median"), rows)

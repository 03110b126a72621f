"""What the questions share: clocks, the machine, tables, a canvas."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = (
    "vpngen", "numpy", "numba", "zarr", "numcodecs", "crc32c", "torch", "tensorstore", "h5py", "av", "pillow", "webdataset",
    "pyfastnoisesimd", "perlin-numpy", "scikit-image", "scikit-learn", "obstore", "distributed", "localbucket",
)  # fmt: skip


class Cost(NamedTuple):
    """Seconds: on the wall; of the CPUs for this process, all threads; for everybody else; for worker processes.

    `others` also holds what the system did on its own account, such as writing back to disk; 0 where it is not known.
    """

    wall: float
    user: float
    system: float
    others: float
    workers: float = 0.0

    @property
    def cpu(self) -> float:
        return self.user + self.system + self.workers

    @property
    def left(self) -> float:
        """The CPU seconds that others left to this process."""
        return self.wall * cores() - self.others

    @property
    def quiet(self) -> bool:
        return self.others < 0.1 * self.wall * cores()


def cost(call: Callable[[], Any]) -> Cost:
    """What a call costs. Worker processes count that multiprocessing started here and that live before and after it."""
    workers, before = _workers(), resource.getrusage(resource.RUSAGE_SELF)
    busy, start = _busy(), time.perf_counter()
    call()
    wall, busy, after = time.perf_counter() - start, _busy() - busy, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    theirs = sum(seconds - workers[pid] for pid, seconds in _workers().items() if pid in workers)
    return Cost(wall, user, system, max(0.0, busy - user - system - theirs), theirs)


def _workers() -> dict[int, float]:
    """Processor seconds of each living worker process, all threads, since it started."""
    seconds = {}
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            seconds[child.pid] = time.clock_gettime(~child.pid << 3 | 2)  # clock_getcpuclockid(3) of Linux
    return seconds


def _busy() -> float:
    """Seconds in which any CPU of the machine was not idle, since it started."""
    try:
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of all threads, to the microsecond: for what takes milliseconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


def wait_until_quiet(until: float) -> None:
    """Come back when others use less than a tenth of the CPUs, or the clock `time.monotonic` shows `until`."""
    while time.monotonic() < until and not cost(partial(time.sleep, 0.5)).quiet:
        pass


def alternate(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    prepare: Callable[[], Any] = lambda: None,
    patience: float = 0,
) -> dict[str, list[Cost]]:
    """Every contestant once a round, in an order that turns, so that a noisy minute or a warm disk favours nobody.

    A round starts when the machine is quiet; over all rounds at most `patience` seconds are spent waiting for that.
    """
    names, costs = list(contestants), {name: [] for name in contestants}
    for turn in range(rounds):
        start = time.monotonic()
        wait_until_quiet(start + patience)
        patience -= time.monotonic() - start
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            prepare()
            costs[name].append(cost(contestants[name]))
    return costs


def spread(values: Iterable[float]) -> dict[str, float]:
    values = sorted(values)
    return {"median": statistics.median(values), "least": values[0], "most": values[-1], "runs": len(values)}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The date, the CPU and the versions; no name, no path."""
    cpu: dict[str, str] = {}
    memory = None
    if Path("/proc/cpuinfo").exists():
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        cpu = {key.strip(): value.strip() for key, _, value in lines}
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    if versions["vpngen"] == "not installed":
        import vpngen

        versions["vpngen"] = vpngen.__version__
    features = f"{cpu.get('flags')} {cpu.get('Features')}".split()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "vectors": next((name for name in ("avx512f", "avx2", "asimd") if name in features), "vectors unknown"),
        "cores": cores(),
        "memory_gb": memory,
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def canvas(columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes side by side, drawn without a screen; `figure.savefig(path)` writes it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 100}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")
    return figure, axes

"""How much does a finished video cost? 240^3 pixels, three terms, all 400 categories at D = 8, beside the peers."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vpngen
from benchmarks import common, peers
from benchmarks.common import Cost, cost, cpu_seconds, spread, table, wait_until_quiet

TITLE = "Rendering whole videos"
PEER, SLABS = "pyfastnoisesimd", "pyfastnoisesimd, 4 frames at a time"
BATCH = 32
Chosen = npt.NDArray[np.int64]


def run(quick: bool, folder: Path) -> dict[str, Any]:
    instances, frames = (1, 24) if quick else (16, 240)
    spec = vpngen.perlin(categories=400, instances=instances)
    out = np.empty(spec.shape, np.uint8)
    vpngen.render(spec, 0, threads=1, out=out)

    fill = peers.fastnoise()
    contestants: dict[str, Any] = {}
    if fill is not None:

        def slabs() -> None:
            for t in range(0, spec.shape[0], 4):
                fill(out[t : t + 4], (t, 0, 0))

        contestants = {PEER: lambda: fill(out), SLABS: slabs}
        for call in contestants.values():
            call()

    seconds = np.empty((instances, spec.n_categories))
    costs: dict[str, list[float]] = {name: [] for name in contestants}
    order = np.random.default_rng(0).permutation(spec.n_categories)
    for instance in range(instances):
        for category in order:
            index = int(instance * spec.n_categories + category)
            seconds[instance, category] = cpu_seconds(lambda i=index: vpngen.render(spec, i, threads=1, out=out))
        for name, call in contestants.items():
            costs[name] += [cpu_seconds(call) for _ in range(3)]

    numpy_peer = peers.perlin_numpy()
    if numpy_peer is not None:  # a tenth of the frames in a quick run: its cost is proportional
        part = np.empty((peers.SIDE, peers.SIDE, frames), np.uint8)
        costs["perlin-numpy"] = [cpu_seconds(lambda: numpy_peer(part)) * spec.shape[0] / frames]
    window = vpngen.Window(t=(0, frames))
    reference = cpu_seconds(lambda: vpngen.render(spec, 210, window, backend="reference")) * spec.shape[0] / frames

    by_category = seconds.mean(axis=0)
    mean = float(by_category.mean())
    slowest = int(by_category.argmax())
    return {
        "videos": seconds.size,
        "instances": instances,
        "mean_ms": mean * 1e3,
        "median_ms": float(np.median(seconds)) * 1e3,
        "ns_a_pixel": mean / spec.video_bytes * 1e9,
        "slowest_category": {"whd": spec.category(slowest), "ms": float(by_category[slowest]) * 1e3},
        "slowest_ratio": float(by_category[slowest]) / mean,
        "slowest_video_ms": float(seconds.max()) * 1e3,
        "fastest_category_ms": float(by_category.min()) * 1e3,
        "peers_ms": {name: spread(1e3 * s for s in times) for name, times in costs.items()},
        "ratios": {name: float(np.median(times)) / mean for name, times in costs.items()},
        "reference_ms": reference * 1e3,
        "threads": _threads(spec, quick),
        "divisions": spec.generator.divisions_x,
        "ms_by_w_h": (by_category.reshape(20, 20) * 1e3).round(3).tolist(),
    }


def _threads(spec: vpngen.Spec, quick: bool) -> dict[str, Any]:
    """Wall seconds of one thread over those of two, for 32 videos a call and for one, which is five tasks.

    Counted are the pairs in which others left the machine alone; all of them where there were hardly any.
    """
    rng = np.random.default_rng(1)
    out = np.ones((BATCH, *spec.shape), np.uint8)

    def batch(chosen: Chosen, threads: int) -> None:
        vpngen.render(spec, chosen, threads=threads, out=out)

    def singly(chosen: Chosen, threads: int) -> None:
        for index, video in zip(chosen, out, strict=True):
            vpngen.render(spec, index, threads=threads, out=video)

    found = {}
    for name, how in ((f"{BATCH} videos a call", batch), ("one video a call", singly)):
        pairs: list[tuple[Cost, Cost]] = []
        until = time.monotonic() + (0 if quick else 30)
        for turn in range(4 if quick else 30):
            wait_until_quiet(until)
            chosen = rng.integers(0, spec.n_videos(), BATCH)
            costs = {n: cost(partial(how, chosen, n)) for n in ((1, 2), (2, 1))[turn % 2]}
            pairs.append((costs[1], costs[2]))
        quiet = [pair for pair in pairs if all(each.quiet for each in pair)]
        used = quiet if len(quiet) >= 3 else pairs
        found[name] = {
            "speedup": spread(one.wall / two.wall for one, two in used),
            "cpu_ratio": spread(two.cpu / one.cpu for one, two in used),
            "pairs": len(pairs),
            "quiet_pairs": len(quiet),
        }
    return found


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    ratio = {name: f"{value:,.1f} x" if value < 100 else f"{value:,.0f} x" for name, value in r["ratios"].items()}
    none = "not installed"
    two = r["threads"][f"{BATCH} videos a call"]
    calm = f"{two['quiet_pairs']} of {two['pairs']} pairs quiet"
    two = two["speedup"]
    return [
        ("a finished 240^3 video, mean of 400 categories", "", f"{r['mean_ms']:.2f} ms of one core"),
        ("fewer CPU seconds than pyfastnoisesimd", "8 x, aim 12 x", ratio.get(PEER, none)),
        ("... used as well as it can be, 4 frames at a time", "", ratio.get(SLABS, none)),
        ("fewer CPU seconds than perlin-numpy", "1,000 x", ratio.get("perlin-numpy", none)),
        ("slowest category over the mean", "at most 2", f"{r['slowest_ratio']:.2f}"),
        (
            f"two threads over one, {BATCH} videos a call", "1.8 x, quiet machine",
            f"{two['median']:.2f} x ({two['least']:.2f} to {two['most']:.2f}; {calm})",
        ),
    ]  # fmt: skip


def report(r: dict[str, Any]) -> str:
    rows = [("vpngen, numba", f"{r['mean_ms']:.2f}", "1")]
    rows += [(name, f"{ms['median']:,.1f}", f"{r['ratios'][name]:,.1f}") for name, ms in r["peers_ms"].items()]
    rows.append(("vpngen, NumPy reference", f"{r['reference_ms']:,.0f}", f"{r['reference_ms'] / r['mean_ms']:,.0f}"))
    lines = [table(("one thread", "CPU ms a video", "times vpngen"), rows), ""]
    slow = r["slowest_category"]
    lines.append(
        f"{r['videos']:,} videos, {r['instances']} of each category: mean {r['mean_ms']:.2f} ms "
        f"({r['ns_a_pixel']:.2f} ns a pixel for all three terms), median {r['median_ms']:.2f} ms; categories from "
        f"{r['fastest_category_ms']:.2f} ms to {slow['ms']:.2f} ms, the slowest (W, H, D) = {tuple(slow['whd'])}, "
        f"{r['slowest_ratio']:.2f} times the mean; slowest single video {r['slowest_video_ms']:.2f} ms.\n"
    )
    rows = []
    for name, t in r["threads"].items():
        s, c, calm = t["speedup"], t["cpu_ratio"], f"{t['quiet_pairs']} of {t['pairs']}"
        rows.append((name, f"{s['median']:.2f} ({s['least']:.2f} to {s['most']:.2f})", f"{c['median']:.2f}", calm))
    lines.append(table(("two threads against one", "wall, times faster", "CPU seconds, ratio", "quiet pairs"), rows))
    lines.append("\nOne video is five tasks, so two threads make it at most 1.67 times faster.")
    return "\n".join(lines)


def plot(r: dict[str, Any], path: Path) -> None:
    figure, (left, right) = common.canvas(2, 10, 4.2)
    image = left.imshow(r["ms_by_w_h"], origin="lower", cmap="viridis", vmin=0)
    for ticks, labels in ((left.set_xticks, left.set_xticklabels), (left.set_yticks, left.set_yticklabels)):
        ticks(range(20))
        labels(r["divisions"], fontsize=7)
    left.tick_params(axis="x", rotation=90)
    left.set_xlabel("H, cells down")
    left.set_ylabel("W, cells across")
    left.set_title("CPU ms a video by category (D = 8)")
    figure.colorbar(image, ax=left)
    bars = {"vpngen": r["mean_ms"]}
    bars |= {name.replace(", ", ",\n"): ms["median"] for name, ms in r["peers_ms"].items()}
    bars["vpngen,\nNumPy reference"] = r["reference_ms"]
    bars = dict(sorted(bars.items(), key=lambda item: -item[1]))
    drawn = right.barh(list(bars), list(bars.values()), color=["#9aa5b1" if n != "vpngen" else "#2a6f97" for n in bars])
    right.bar_label(drawn, [f"{ms:,.1f} ms" if ms < 1000 else f"{ms / 1000:,.1f} s" for ms in bars.values()], padding=3)
    right.set_xscale("log")
    right.set_xlim(1, max(bars.values()) * 8)
    right.set_xlabel("CPU ms a video, one thread, log scale")
    right.set_title("A finished 240^3 video of three terms")
    figure.savefig(path)

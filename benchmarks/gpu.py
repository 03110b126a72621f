"""Everything that needs a card: are the bytes right, does the sanitizer find fault, how fast is it.

    python -m benchmarks.gpu [--quick] [--device N] [--out FOLDER]

It needs the repository, a card, CuPy and NumPy; numba for the equality checks, torch for the peer. Checks come first: where
one fails, nothing is timed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vpngen
from benchmarks import common
from vpngen import Window
from vpngen.backends.base import WHOLE
from vpngen.backends.cuda import Batch, Cuda

EXTENT = (240, 240, 240)
CLIP = (16, 112, 112)
PAIRS = 2000
VIDEOS = 24
"""Whole videos of a timed batch: 332 MB, several times the L2 of any card."""


# --- are the bytes right


def check_pairs(card: Cuda, pairs: int) -> int:
    """Random categories, windows, flips and specs against numba; returns the number of windows compared."""
    rng = np.random.default_rng(1)
    kinds: list[dict[str, Any]] = [
        {}, {"gradients": "sphere"}, {"fade": "linear"}, {"phase": "centre"}, {"loop": True},
        {"temporal_unit": "divisions"}, {"noise_terms": 0}, {"temporal": "full"}, {"grey": "stretch", "instances": 1},
    ]  # fmt: skip
    done = turn = 0
    while done < pairs:
        spec = vpngen.perlin(**{"categories": 400, "instances": 8, **kinds[turn % len(kinds)]})
        n = 4 if spec.generator.needs_extremes else 64
        step = int(rng.integers(1, 4))
        frames, height, width = int(rng.integers(1, 40)), int(rng.integers(1, 241)), int(rng.integers(1, 241))
        windows = []
        for _ in range(n):
            t = int(rng.integers(0, 240 - (frames - 1) * step))
            y, x = int(rng.integers(0, 241 - height)), int(rng.integers(0, 241 - width))
            windows.append(
                Window((t, t + (frames - 1) * step + 1, step), (y, y + height), (x, x + width), bool(rng.integers(2)))
            )
        videos = rng.integers(spec.n_videos(), size=n)
        ours = vpngen.render(spec, videos, windows, backend=f"cuda:{card.device}")
        theirs = vpngen.render(spec, videos, windows, backend="numba")
        if not np.array_equal(ours, theirs):
            bad = [i for i in range(n) if not np.array_equal(ours[i], theirs[i])]
            raise SystemExit(
                f"WRONG: {len(bad)} of {n}, first video {videos[bad[0]]} of {spec.to_json()} {windows[bad[0]]}"
            )
        done, turn = done + n, turn + 1
    return done


def check_videos(card: Cuda, count: int) -> int:
    """Whole videos over the category plane against numba."""
    spec = vpngen.perlin(categories=400, instances=1)
    for index in np.linspace(0, 399, count).astype(int):
        ours = vpngen.render(spec, int(index), backend=f"cuda:{card.device}")
        if not np.array_equal(ours, vpngen.render(spec, int(index), backend="numba")):
            raise SystemExit(f"WRONG: whole video {index}")
    return count


def sanitizer(tool: str, device: int) -> str:
    """What compute-sanitizer says of a small run, or that it is not here."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "compute-sanitizer is not here"
    quiet = ["--report-api-errors", "no"] if tool == "memcheck" else []  # CuPy asks things that may be answered no
    command = [
        program,
        "--tool",
        tool,
        *quiet,
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--small",
    ]
    done = subprocess.run([*command, "--device", str(device)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool}: {done.stdout[-4000:]}{done.stderr[-2000:]}")
    return next((line.strip("= ") for line in done.stdout.splitlines() if "SUMMARY" in line), "no complaint")


def small(card: Cuda) -> None:
    """A few blocks of every kind, for the sanitizer: narrow, wide, flipped, with tails; and the extremes."""
    import cupy

    cupy.cuda.set_allocator(None)  # a pool would hide an overrun in its slack
    spec = vpngen.perlin(categories=400, instances=1)
    for width, flip in ((240, False), (113, True), (7, False)):
        w = Window((3, 22), (5, 31), (0, width), flip)
        vpngen.render(spec, [0, 139, 399], w, backend=f"cuda:{card.device}")
    tiny = vpngen.perlin(
        divisions_x=(2, 48), divisions_y=(3,), shape=(9, 24, 48), noise_frequencies=(1, 2, 4, 8), grey="stretch"
    )
    vpngen.render(tiny, [0, 1], backend=f"cuda:{card.device}")


# --- how fast


def device_seconds(cupy: Any, work: Callable[[int], None], repeats: int, rounds: int = 5) -> float:
    """The median over rounds of the device time of one call, events around `repeats` calls on a warm card."""
    stream = cupy.cuda.get_current_stream()
    for i in range(max(3, repeats // 4)):
        work(i)
    times = []
    for _ in range(rounds):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record(stream)
        for i in range(repeats):
            work(i)
        stop.record(stream)
        stop.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3 / repeats)
    return float(np.median(times))


def rotating(cupy: Any, shape: tuple[int, ...]) -> list[Any]:
    """Buffers that together are much larger than the L2 cache, so that no write is absorbed by it."""
    size = int(np.prod(shape))
    return [cupy.empty(shape, np.uint8) for _ in range(max(2, -(-(1 << 30) // size)))]


def floors(cupy: Any) -> dict[str, float]:
    """Bytes a second of a plain memset, and of a copy counted both ways."""
    buffers = rotating(cupy, (1 << 28,))
    fill = device_seconds(cupy, lambda i: buffers[i % len(buffers)].data.memset_async(i % 251, 1 << 28), 20)
    copy = device_seconds(cupy, lambda i: cupy.copyto(buffers[i % len(buffers)], buffers[(i + 1) % len(buffers)]), 20)
    return {"memset": (1 << 28) / fill, "copy_both_ways": 2 * (1 << 28) / copy}


def whole_videos(cupy: Any, card: Cuda, categories: int) -> dict[str, Any]:
    """Bytes a second of whole videos: all categories mixed, and each category on its own."""
    spec = vpngen.perlin(categories=400, instances=64)
    outs = rotating(cupy, (VIDEOS, *EXTENT))
    rng = np.random.default_rng(2)

    def batch(videos: Any) -> Batch:
        return card.prepare(spec.rows(videos), np.repeat(WHOLE, len(videos), axis=0), EXTENT)

    mixed = [batch(rng.permutation(spec.n_videos())[:VIDEOS]) for _ in range(17)]
    seconds = device_seconds(cupy, lambda i: card.launch(mixed[i % len(mixed)], outs[i % len(outs)]), 34)
    rates = {}
    for category in np.linspace(0, 399, categories).astype(int):
        one = batch(category + 400 * rng.integers(64, size=VIDEOS))
        took = device_seconds(cupy, lambda i, b=one: card.launch(b, outs[i % len(outs)]), 4, 3)  # type: ignore[misc]
        rates["x".join(map(str, spec.category(int(category))[:2]))] = VIDEOS * spec.video_bytes / took
    mean = 1 / np.mean([1 / r for r in rates.values()])
    slowest = min(rates, key=lambda k: rates[k])
    return {
        "mixed": VIDEOS * spec.video_bytes / seconds,
        "mean_of_categories": float(mean),
        "slowest": slowest,
        "slowest_over_mean": rates[slowest] / float(mean),
        "by_category": rates,
        "seconds_for_131072_videos": 131072 * spec.video_bytes / (VIDEOS * spec.video_bytes / seconds),
    }


def clips(cupy: Any, card: Cuda, n: int = 128) -> dict[str, float]:
    """Microseconds of a training batch of random clips, launch included: on its own, and in a CUDA graph."""
    spec = vpngen.perlin(categories=400, instances=64)
    rng = np.random.default_rng(3)
    outs = rotating(cupy, (n, *CLIP))
    batches = []
    for _ in range(32):
        origin = rng.integers([225, 129, 129], size=(n, 3))
        windows = np.stack([origin[:, 0], np.ones(n, int), origin[:, 1], origin[:, 2], rng.integers(2, size=n)], axis=1)
        batches.append(card.prepare(spec.rows(rng.integers(spec.n_videos(), size=n)), windows.astype(np.int32), CLIP))
    plain = device_seconds(cupy, lambda i: card.launch(batches[i % 32], outs[i % len(outs)]), 512)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for i in range(32):
            card.launch(batches[i], outs[i % len(outs)])
        graph = stream.end_capture()
        captured = device_seconds(cupy, lambda i: graph.launch(stream), 16) / 32
    start = time.perf_counter()
    for i in range(256):
        card.launch(batches[i % 32], outs[i % len(outs)])
    issued = (time.perf_counter() - start) / 256
    cupy.cuda.Device().synchronize()
    return {"microseconds": plain * 1e6, "in_a_graph": captured * 1e6, "host_microseconds_to_launch": issued * 1e6}


def torch_peer(device: int) -> float | None:
    """Bytes a second of perlin-numpy's algorithm written with torch tensors on the card: what one would write today."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    where = torch.device("cuda", device)

    def noise(res: tuple[int, int, int]) -> Any:
        axes = [torch.arange(240, device=where) for _ in range(3)]
        cells = [240 // r for r in res]
        theta, phi = (2 * torch.pi * torch.rand([r + 1 for r in res], device=where) for _ in range(2))
        gradients = torch.stack([phi.sin() * theta.cos(), phi.sin() * theta.sin(), phi.cos()], dim=-1)
        low = [a // c for a, c in zip(axes, cells, strict=True)]
        inside = [(a % c) / c for a, c in zip(axes, cells, strict=True)]
        fades = [f * f * f * (f * (f * 6 - 15) + 10) for f in inside]
        total = torch.zeros(EXTENT, device=where)
        for corner in np.ndindex(2, 2, 2):
            at = torch.meshgrid(*[i + c for i, c in zip(low, corner, strict=True)], indexing="ij")
            away = torch.meshgrid(*[f - c for f, c in zip(inside, corner, strict=True)], indexing="ij")
            weight = torch.meshgrid(*[s if c else 1 - s for s, c in zip(fades, corner, strict=True)], indexing="ij")
            g = gradients[at]
            dots = g[..., 0] * away[0] + g[..., 1] * away[1] + g[..., 2] * away[2]
            total += dots * weight[0] * weight[1] * weight[2]
        return total

    def video() -> Any:
        v = 0.8 * noise((30, 16, 16)) + 0.1 * noise((15, 4, 8)) + 0.1 * noise((60, 2, 16))
        return (127.5 * v + 128).floor().clamp(0, 255).to(torch.uint8)

    with torch.cuda.device(where):
        for _ in range(3):
            video()
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(10):
            video()
        stop.record()
        stop.synchronize()
    return 10 * float(np.prod(EXTENT)) / (start.elapsed_time(stop) / 1e3)


def run(card: Cuda, quick: bool) -> dict[str, Any]:
    """Checks, then figures."""
    import cupy

    device = card.device
    properties = cupy.cuda.runtime.getDeviceProperties(device)
    results: dict[str, Any] = {
        "machine": common.machine(),
        "card": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cupy": cupy.__version__,
        "windows_equal_to_numba": check_pairs(card, 256 if quick else PAIRS),
        "videos_equal_to_numba": check_videos(card, 4 if quick else 20),
    }
    say(results)
    if not quick:
        results["sanitizer"] = {tool: sanitizer(tool, device) for tool in ("memcheck", "racecheck")}
        say(results["sanitizer"])
    with cupy.cuda.Device(device):
        results["floors"] = floors(cupy)
        results["whole_videos"] = whole_videos(cupy, card, 20 if quick else 100)
        results["clips"] = clips(cupy, card)
    peer = torch_peer(device)
    if peer is not None:
        results["torch_peer"] = peer
        results["times_the_peer"] = results["whole_videos"]["mixed"] / peer
    return results


def say(what: object) -> None:
    """A line at once, so that a run that is cut off has said what it knew."""
    print(json.dumps(what, default=str), flush=True)


def report(results: dict[str, Any]) -> str:
    """The short table."""
    whole, clip, floor = results["whole_videos"], results["clips"], results["floors"]
    rows = [
        ("bytes equal to numba", f"{results['windows_equal_to_numba']} windows, {results['videos_equal_to_numba']} videos", "all"),
        ("sanitizer", "; ".join(f"{k}: {v}" for k, v in results.get("sanitizer", {"not run": "quick"}).items()), "no complaint"),
        ("plain memset", f"{floor['memset'] / 1e12:.2f} TB/s", "the bound"),
        ("whole videos, categories mixed", f"{whole['mixed'] / 1e12:.2f} TB/s", "1, aim 2"),
        ("whole videos, mean over categories", f"{whole['mean_of_categories'] / 1e12:.2f} TB/s", "1, aim 2"),
        ("slowest category", f"{whole['slowest']}: {whole['slowest_over_mean']:.2f} of the mean", "0.25"),
        ("the 131,072-video set", f"{whole['seconds_for_131072_videos']:.2f} s of kernel time", "2"),
        ("128 clips of 16 x 112 x 112", f"{clip['microseconds']:.0f} us, {clip['in_a_graph']:.0f} us in a graph", "60"),
        ("perlin-numpy's algorithm in torch", f"{results.get('times_the_peer', float('nan')):.0f} times slower", "100"),
    ]  # fmt: skip
    head = f"{results['card']}, driver {results['driver']}, NVRTC {results['nvrtc']}, CuPy {results['cupy']}\n\n"
    return head + common.table(("question", "answer", "target"), rows)


def plot(results: dict[str, Any], folder: Path) -> None:
    """The rate of each category over the plane of (W, H)."""
    figure, axes = common.canvas(1, 6, 5)
    rates = results["whole_videos"]["by_category"]
    w, h = (np.array([int(k.split("x")[i]) for k in rates]) for i in range(2))
    dots = axes.scatter(w, h, c=np.array(list(rates.values())) / 1e12, s=60)
    axes.set(xscale="log", yscale="log", xlabel="W", ylabel="H", title=results["card"])
    figure.colorbar(dots, label="TB/s of pixels")
    figure.savefig(folder / "gpu.png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer checks and categories")
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    try:
        card = Cuda(options.device)
    except vpngen.VpngenError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if options.small:
        small(card)
        return
    results = run(card, options.quick)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    (options.out / "gpu.md").write_text(text + "\n")
    print(text)
    try:
        plot(results, options.out)
    except ImportError:
        print("no plot: matplotlib is not here")


if __name__ == "__main__":
    main()

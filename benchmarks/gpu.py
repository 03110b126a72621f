"""Everything that needs a GPU: are the bytes right, does the sanitizer find fault, how fast is it.

    python -m benchmarks.gpu [--quick] [--device N] [--out FOLDER]
    python -m benchmarks.gpu --host         # the part about streams, gone through without a GPU: no figures
    python -m benchmarks.gpu --count        # instructions that the kernels issue, counted without a GPU (counts.py)

It needs the repository, a GPU, CuPy and NumPy; numba for the equality checks, torch for the peer and the streams. Checks
come first: where one fails, nothing is timed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
BATCH = 128
CYCLES_A_MILLISECOND = 1.5e6
"""Of a GPU's clock, roughly."""
VIDEOS = 24
"""Whole videos of a timed batch: 332 MB, several times the L2 of any GPU."""


# --- are the bytes right


def check_pairs(gpu: Cuda, pairs: int) -> int:
    """Random categories, windows, flips and specs of all generators against numba; returns the number of windows compared."""
    rng = np.random.default_rng(1)
    perlins: list[dict[str, Any]] = [
        {}, {"gradients": "sphere"}, {"fade": "linear"}, {"phase": "centre"}, {"loop": True},
        {"temporal_unit": "divisions"}, {"noise_terms": 0}, {"temporal": "full"}, {"grey": "stretch", "instances": 1},
    ]  # fmt: skip
    fractals: list[dict[str, Any]] = [
        {}, {"trail": 1}, {"trail": 5}, {"trail": 254}, {"draw": "point"}, {"points_per_frame": 1}, {"points_per_frame": 257},
        {"points_per_frame": 3000}, {"pad": 0}, {"flips": False}, {"shape": (61, 113, 251)},
    ]  # fmt: skip
    specs = [vpngen.perlin(**{"categories": 400, "instances": 8, **kind}) for kind in perlins]
    specs += [vpngen.fractal(**{"categories": 100, "instances": 100, **kind}) for kind in fractals]
    specs.append(vpngen.mixed(vpngen.perlin(64, 8), vpngen.fractal(64, 8, shape=(240, 240, 240))))
    done = turn = 0
    while done < pairs:
        spec = specs[turn % len(specs)]
        n = 4 if spec.generator.needs_extremes else 64
        step = int(rng.integers(1, 4))
        longest, tallest, widest = spec.shape
        frames = int(rng.integers(1, min(40, (longest - 1) // step + 2)))
        height, width = int(rng.integers(1, tallest + 1)), int(rng.integers(1, widest + 1))
        windows = []
        for _ in range(n):
            t = int(rng.integers(0, longest - (frames - 1) * step))
            y, x = int(rng.integers(0, tallest + 1 - height)), int(rng.integers(0, widest + 1 - width))
            windows.append(
                Window((t, t + (frames - 1) * step + 1, step), (y, y + height), (x, x + width), bool(rng.integers(2)))
            )
        videos = rng.integers(spec.n_videos(), size=n)
        ours = vpngen.render(spec, videos, windows, backend=f"cuda:{gpu.device}")
        theirs = vpngen.render(spec, videos, windows, backend="numba")
        if not np.array_equal(ours, theirs):
            bad = [i for i in range(n) if not np.array_equal(ours[i], theirs[i])]
            raise SystemExit(
                f"WRONG: {len(bad)} of {n}, first video {videos[bad[0]]} of {spec.to_json()} {windows[bad[0]]}"
            )
        done, turn = done + n, turn + 1
    return done


def check_videos(gpu: Cuda, count: int) -> int:
    """Whole videos over the category plane, and as many fractals, against numba."""
    for spec in (vpngen.perlin(categories=400, instances=1), vpngen.fractal(categories=400, instances=1)):
        for index in np.linspace(0, 399, count).astype(int):
            ours = vpngen.render(spec, int(index), backend=f"cuda:{gpu.device}")
            if not np.array_equal(ours, vpngen.render(spec, int(index), backend="numba")):
                raise SystemExit(f"WRONG: whole video {index} of {spec.generator.name}")
    return 2 * count


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
    try:
        done = subprocess.run([*command, "--device", str(device)], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "did not end within two minutes"
    if done.returncode not in (
        0,
        9,
    ):  # its own troubles, as on GPUs that it does not know or machines that do not let it
        return f"did not run: {(done.stdout.strip() or done.stderr.strip() or 'it said nothing').splitlines()[-1]}"
    if done.returncode:
        raise SystemExit(f"{tool}: {done.stdout[-4000:]}{done.stderr[-2000:]}")
    return next((line.strip("= ") for line in done.stdout.splitlines() if "SUMMARY" in line), "no complaint")


def small(gpu: Cuda) -> None:
    """A few blocks of every kind, for the sanitizer: narrow, wide, flipped, with tails; and the extremes."""
    import cupy

    cupy.cuda.set_allocator(None)  # a pool would hide an overrun in its slack
    spec = vpngen.perlin(categories=400, instances=1)
    for width, flip in ((240, False), (113, True), (7, False)):
        w = Window((3, 22), (5, 31), (0, width), flip)
        vpngen.render(spec, [0, 139, 399], w, backend=f"cuda:{gpu.device}")
    tiny = vpngen.perlin(
        divisions_x=(2, 48), divisions_y=(3,), shape=(9, 24, 48), noise_frequencies=(1, 2, 4, 8), grey="stretch"
    )
    vpngen.render(tiny, [0, 1], backend=f"cuda:{gpu.device}")
    for trail, width, flip in ((0, 362, False), (3, 113, True), (0, 7, False)):
        spec = vpngen.fractal(categories=3, instances=2, shape=(12, 362, 362), trail=trail)
        vpngen.render(spec, [0, 4, 5], Window((2, 11), (5, 31), (0, width), flip), backend=f"cuda:{gpu.device}")


# --- how fast


def device_seconds(cupy: Any, work: Callable[[int], None], repeats: int, rounds: int = 5) -> float:
    """The median over rounds of the device time of one call, events around `repeats` calls on a warm GPU."""
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


def whole_videos(cupy: Any, gpu: Cuda, categories: int) -> dict[str, Any]:
    """Bytes a second of whole videos: all categories mixed, and each category on its own."""
    spec = vpngen.perlin(categories=400, instances=64)
    outs = rotating(cupy, (VIDEOS, *EXTENT))
    rng = np.random.default_rng(2)

    def batch(videos: Any) -> Batch:
        return gpu.prepare("perlin", spec.params(videos), np.repeat(WHOLE, len(videos), axis=0), EXTENT)

    mixed = [batch(rng.permutation(spec.n_videos())[:VIDEOS]) for _ in range(17)]
    seconds = device_seconds(cupy, lambda i: gpu.launch(mixed[i % len(mixed)], outs[i % len(outs)]), 34)
    rates = {}
    for category in np.linspace(0, 399, categories).astype(int):
        one = batch(category + 400 * rng.integers(64, size=VIDEOS))
        took = device_seconds(cupy, lambda i, b=one: gpu.launch(b, outs[i % len(outs)]), 4, 3)  # type: ignore[misc]
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


def clips(cupy: Any, gpu: Cuda, n: int = 128) -> dict[str, float]:
    """Microseconds of a training batch of random clips, launch included: on its own, and in a CUDA graph."""
    spec = vpngen.perlin(categories=400, instances=64)
    rng = np.random.default_rng(3)
    outs = rotating(cupy, (n, *CLIP))
    batches = []
    for _ in range(32):
        origin = rng.integers([225, 129, 129], size=(n, 3))
        windows = np.stack([origin[:, 0], np.ones(n, int), origin[:, 1], origin[:, 2], rng.integers(2, size=n)], axis=1)
        rows = spec.params(rng.integers(spec.n_videos(), size=n))
        batches.append(gpu.prepare("perlin", rows, windows.astype(np.int32), CLIP))
    plain = device_seconds(cupy, lambda i: gpu.launch(batches[i % 32], outs[i % len(outs)]), 512)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for i in range(32):
            gpu.launch(batches[i], outs[i % len(outs)])
        graph = stream.end_capture()
        captured = device_seconds(cupy, lambda i: graph.launch(stream), 16) / 32
    start = time.perf_counter()
    for i in range(256):
        gpu.launch(batches[i % 32], outs[i % len(outs)])
    issued = (time.perf_counter() - start) / 256
    cupy.cuda.Device().synchronize()
    return {"microseconds": plain * 1e6, "in_a_graph": captured * 1e6, "host_microseconds_to_launch": issued * 1e6}


def fractals(cupy: Any, gpu: Cuda) -> dict[str, dict[str, float]]:
    """Fractals a second: whole videos and random clips, by what is drawn; and bytes a second of their pixels."""
    rng, found = np.random.default_rng(4), {}
    for name, choices in (("patches", {}), ("points", {"draw": "point"}), ("trail of 5", {"trail": 5})):
        spec = vpngen.fractal(categories=1000, instances=100, **choices)
        for what, n, extent in (("videos", 64, spec.shape), ("clips", 128, CLIP), ("many clips", 1024, CLIP)):
            outs = rotating(cupy, (n, *extent))
            room = np.array(spec.shape) - extent + 1
            batches = []
            for _ in range(8):
                t0, y0, x0 = rng.integers(room, size=(n, 3)).T
                windows = np.stack([t0, np.ones(n, int), y0, x0, rng.integers(2, size=n)], axis=1).astype(np.int32)
                rows = spec.params(rng.integers(spec.n_videos(), size=n))
                batches.append(gpu.prepare("fractal", rows, windows, (extent[0], extent[1], extent[2])))
            took = device_seconds(cupy, lambda i, b=batches, o=outs: gpu.launch(b[i % 8], o[i % len(o)]), 16)  # type: ignore[misc]
            found[f"{what}, {name}"] = {"a_second": n / took, "bytes_a_second": n * float(np.prod(extent)) / took}
    return found


def torch_peer(device: int) -> float | None:
    """Bytes a second of perlin-numpy's algorithm written with torch tensors on the GPU: what one would write today."""
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


# --- the stream. `device` is a torch.device: that of a GPU, or the CPU, to go through all of it without one


def on_card(device: int) -> Any:
    """The GPU as torch names it; None where torch is missing or cannot use it."""
    try:
        import torch
    except ImportError:
        return None
    return torch.device("cuda", device) if torch.cuda.is_available() else None


def synchronize(device: Any) -> None:
    """Wait for all that was given to a GPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def busy(device: Any, milliseconds: float) -> None:
    """Keep the current stream of a GPU from going on for about as long."""
    import torch

    if device.type == "cuda" and milliseconds:
        with torch.cuda.device(device):
            torch.cuda._sleep(int(milliseconds * CYCLES_A_MILLISECOND))


def stream_of(device: Any, batch: int, **options: Any) -> vpngen.ClipStream:
    """An endless stream over the set of the paper; with a GPU it is rendered there."""
    return vpngen.ClipStream(
        vpngen.Spec.preset("vpn-256x512"), batch, device=device, length="infinite", clip=CLIP, **options
    )


def stream_versions(device: Any) -> dict[str, str]:
    """What the figures depend on, beside the GPU."""
    import torch

    driver = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={device.index or 0}"]
        driver = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "torch": torch.__version__,
        "cuda_of_torch": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "driver_release": driver,
    }


def check_stream(device: Any, batches: int, batch: int = BATCH) -> int:
    """Batches of each kind, their labels and parameters against those of the CPU; returns how many were compared."""
    import torch

    kinds: list[dict[str, Any]] = [
        {"parameters": True}, {"channels": 1, "augment": "random"}, {"dtype": "bfloat16"},
        {"dtype": "float32", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)},
    ]  # fmt: skip
    for kind in kinds:
        ours, theirs = (iter(stream_of(where, batch, **kind)) for where in (device, torch.device("cpu")))
        for number in range(batches):
            for got, expected in zip(next(ours), next(theirs), strict=True):
                pairs = [(got, expected)] if not isinstance(got, dict) else [(got[k], expected[k]) for k in expected]
                for a, b in pairs:
                    if a.device != device or a.dtype != b.dtype or not torch.equal(a.cpu(), b):
                        raise SystemExit(f"WRONG: batch {number} of a stream with {kind} is not that of the CPU")
    return batches * len(kinds)


def check_consumers(device: Any, batches: int, batch: int = BATCH) -> int:
    """Batches used on a stream of the consumer's own; returns how many were compared.

    A slow consumer has given a batch up long before its GPU reads it; a fast one reads while it is still being made. A wait
    that is missing, or memory that is used again too early, shows as wrong bytes.
    """
    import torch

    reference = iter(stream_of(torch.device("cpu"), batch))
    expected = [next(reference) for _ in range(batches)]
    for slow in (True, False):
        stream = stream_of(device, batch)
        if not slow:

            def late(*arguments: Any, fill: Callable[..., None] = stream.content.fill) -> None:
                busy(device, 5)
                fill(*arguments)

            object.__setattr__(stream.content, "fill", late)
        own = torch.cuda.Stream(device) if device.type == "cuda" else None
        kept = []
        with torch.cuda.stream(own):  # which does nothing with None
            iterator = iter(stream)
            for _ in range(batches):
                clips, labels = next(iterator)
                if slow:
                    busy(device, 5)
                kept.append((clips[:, 0].clone(), labels.clone()))
                del clips, labels
        synchronize(device)
        for number, ((clips, labels), (pixels, classes)) in enumerate(zip(kept, expected, strict=True)):
            if not torch.equal(clips.cpu(), pixels[:, 0]) or not torch.equal(labels.cpu(), classes):
                raise SystemExit(f"WRONG: batch {number}, {'a slow consumer' if slow else 'a late producer'}")
    return 2 * batches


def stream_rate(device: Any, batches: int, rounds: int = 5, batch: int = BATCH, **options: Any) -> dict[str, float]:
    """Clips a second on the wall, nothing done with them; the first batches are not counted."""
    iterator = iter(stream_of(device, batch, **options))
    rates = []
    for turn in range(rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(batches):
            next(iterator)
        synchronize(device)
        if turn:
            rates.append(batches * batch / (time.perf_counter() - start))
    return common.spread(rates)


def stream_memory(device: Any, batches: int, wait: float, batch: int = BATCH) -> dict[str, float]:
    """Bytes that torch has reserved after a tenth of the batches and after all, read by a consumer that is never waited for.

    `wait` is in milliseconds a batch: with it the GPU falls behind, and what was made ahead piles up if nothing holds it back.
    """
    import torch

    cuda = device.type == "cuda"
    synchronize(device)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    iterator = iter(stream_of(device, batch))
    total = torch.zeros((), dtype=torch.int64, device=device)
    early = 0
    for number in range(batches):
        clips, _ = next(iterator)
        busy(device, wait)
        total += clips[0, 0, 0].sum()
        if number == batches // 10:
            early = torch.cuda.memory_reserved(device) if cuda else 0
    reserved = torch.cuda.memory_reserved(device) if cuda else 0
    synchronize(device)
    return {
        "batches": batches,
        "early_bytes": early,
        "late_bytes": reserved,
        "most_bytes_in_use": torch.cuda.max_memory_allocated(device) if cuda else 0,
    }


def network(classes: int) -> Any:
    """A residual network as R3D-18: a stem of 7 x 7 x 7, eight basic blocks of 3 x 3 x 3, 64 to 512 channels."""
    import torch
    from torch import nn

    def convolution(before: int, after: int, size: int, stride: int | tuple[int, ...]) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(before, after, size, stride, padding=size // 2, bias=False), nn.BatchNorm3d(after)
        )

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = convolution(before, after, 3, stride), convolution(after, after, 3, 1)
            self.past = convolution(before, after, 1, stride) if stride > 1 else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.first(x))
            return torch.relu(self.second(y) + self.past(x))

    layers: list[nn.Module] = [convolution(3, 64, 7, (1, 2, 2)), nn.ReLU(), nn.MaxPool3d(3, 2, 1)]
    before = 64
    for after in (64, 128, 256, 512):
        layers += [Block(before, after, 1 if after == 64 else 2), Block(after, after, 1)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(512, classes))


def trainer(device: Any) -> Callable[[Any, Any], None]:
    """One step of SGD on clips and labels: bfloat16 by autocast, channels last. Returns without waiting for the GPU."""
    import torch

    layout = torch.channels_last_3d
    torch.backends.cudnn.benchmark = True
    model = network(256).to(device, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)

    def step(clips: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(clips.contiguous(memory_format=layout)), labels)
        loss.backward()
        optimizer.step()

    return step


def training(device: Any, steps: int, rounds: int, batch: int = BATCH) -> dict[str, Any]:
    """Steps a second fed by the stream over those on one constant batch that lies ready, pair by pair."""
    import torch

    step, iterator = trainer(device), iter(stream_of(device, batch, dtype="bfloat16", channels=3))
    clips, labels = next(iterator)
    constant = (clips.clone(memory_format=torch.channels_last_3d), labels.clone())

    def forever() -> Iterator[Any]:
        while True:
            yield constant

    def seconds(source: Iterator[Any]) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            step(*next(source))
        synchronize(device)
        return time.perf_counter() - start

    feeds: dict[str, Iterator[Any]] = {"constant": forever(), "stream": iterator}
    for feed in feeds.values():
        seconds(feed)
    times: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(rounds):
        for name in list(feeds) if turn % 2 else reversed(feeds):
            times[name].append(seconds(feeds[name]))
    ratios = [a / b for a, b in zip(times["constant"], times["stream"], strict=True)]
    return {
        "ratio": common.spread(ratios),
        "milliseconds": {name: 1e3 * float(np.median(each)) / steps for name, each in times.items()},
    }


def streams(device: Any, quick: bool) -> dict[str, Any]:
    """Checks of the stream, then its figures; on the CPU a short walk through the same code."""
    gpu = device.type == "cuda"
    batch, few = (BATCH, 4 if quick else 32) if gpu else (2, 2)
    many, rounds = (500 if quick else 4000, 5) if gpu else (2, 1)
    found: dict[str, Any] = {
        "versions": stream_versions(device),
        "batches_equal": check_stream(device, few, batch),
        "batches_equal_on_other_streams": check_consumers(device, few, batch),
    }
    say(found)
    found["uint8"] = stream_rate(device, many, rounds, batch)
    found["bfloat16"] = stream_rate(device, many, rounds, batch, dtype="bfloat16", channels=3)
    found["memory"] = stream_memory(device, many, 0.0, batch)
    found["memory_behind"] = stream_memory(device, max(many // 4, 1), 1.0, batch)
    found["training"] = training(device, *((5 if quick else 20, rounds) if gpu else (1, 1)), batch)
    return found


def stream_rows(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The lines about streams of the short table."""
    memory, behind, train = r["memory"], r["memory_behind"], r["training"]

    def reserved(m: dict[str, float]) -> str:
        return f"{m['early_bytes'] / 1e6:,.0f} MB, {m['late_bytes'] / 1e6:,.0f} MB after {m['batches']:,} batches"

    return [
        ("stream: batches equal to the CPU's", str(r["batches_equal"]), "all"),
        ("... slow consumer or late producer, another stream", str(r["batches_equal_on_other_streams"]), "all"),
        ("... uint8 delivered", f"{r['uint8']['median']:,.0f} clips/s", "500,000"),
        ("... bfloat16 in three channels delivered", f"{r['bfloat16']['median']:,.0f} clips/s", "200,000"),
        ("... memory reserved early and late", reserved(memory), "no growth"),
        ("... the same with the GPU behind by 1 ms a batch", reserved(behind), "no growth"),
        ("training step fed by the stream, over a constant batch",
         f"{train['ratio']['median']:.1%} of {1 / train['milliseconds']['constant'] * 1e3:.1f} steps/s", "99 %"),
    ]  # fmt: skip


def run(gpu: Cuda, quick: bool) -> dict[str, Any]:
    """Checks, then figures."""
    import cupy

    device = gpu.device
    properties = cupy.cuda.runtime.getDeviceProperties(device)
    results: dict[str, Any] = {
        "machine": common.machine(),
        "gpu": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cupy": cupy.__version__,
        "windows_equal_to_numba": check_pairs(gpu, 256 if quick else PAIRS),
        "videos_equal_to_numba": check_videos(gpu, 4 if quick else 20),
    }
    say(results)
    if not quick:
        results["sanitizer"] = {tool: sanitizer(tool, device) for tool in ("memcheck", "racecheck")}
        say(results["sanitizer"])
    with cupy.cuda.Device(device):
        results["floors"] = floors(cupy)
        results["whole_videos"] = whole_videos(cupy, gpu, 20 if quick else 100)
        results["clips"] = clips(cupy, gpu)
        results["fractals"] = fractals(cupy, gpu)
    peer = torch_peer(device)
    if peer is not None:
        results["torch_peer"] = peer
        results["times_the_peer"] = results["whole_videos"]["mixed"] / peer
    if (where := on_card(device)) is not None:
        results["streams"] = streams(where, quick)
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
    for what, r in results["fractals"].items():
        rows.append(
            (f"fractals: {what}", f"{r['a_second']:,.0f} a second, {r['bytes_a_second'] / 1e12:.2f} TB/s", "the memset")
        )
    head = f"{results['gpu']}, driver {results['driver']}, NVRTC {results['nvrtc']}, CuPy {results['cupy']}"
    if "streams" in results:
        rows += stream_rows(results["streams"])
        versions = results["streams"]["versions"]
        head += f", driver release {versions['driver_release']}, torch {versions['torch']}, cuDNN {versions['cudnn']}"
    head += "\n\n"
    return head + common.table(("question", "answer", "target"), rows)


def plot(results: dict[str, Any], folder: Path) -> None:
    """The rate of each category over the plane of (W, H)."""
    figure, axes = common.canvas(1, 6, 5)
    rates = results["whole_videos"]["by_category"]
    w, h = (np.array([int(k.split("x")[i]) for k in rates]) for i in range(2))
    dots = axes.scatter(w, h, c=np.array(list(rates.values())) / 1e12, s=60)
    axes.set(xscale="log", yscale="log", xlabel="W", ylabel="H", title=results["gpu"])
    figure.colorbar(dots, label="TB/s of pixels")
    figure.savefig(folder / "gpu.png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer checks and categories")
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--host", action="store_true", help="go through the part about streams on the CPU")
    parser.add_argument("--count", action="store_true", help="count the instructions of the kernels, without a GPU")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.count:
        from benchmarks import counts

        counts.main(options.quick, options.out)
        return
    if options.host:
        import torch

        found = streams(torch.device("cpu"), quick=True)
        stream_rows(found)
        print("all of it ran; what it measured here says nothing of a GPU")
        return
    try:
        gpu = Cuda(options.device)
    except vpngen.VpngenError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if options.small:
        small(gpu)
        return
    results = run(gpu, options.quick)
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

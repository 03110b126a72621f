"""What does a part of a video cost? Windows at random positions over all 400 categories, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vpngen
from benchmarks import common, peers
from benchmarks.common import cpu_seconds, spread, table

TITLE = "Rendering windows"
CLIP = (16, 112, 112)
MOST_BYTES = 2**27
SIZES = (
    (2, 112, 112), (4, 112, 112), CLIP, (64, 112, 112), (16, 28, 28), (16, 56, 56), (16, 120, 120), (16, 192, 192),
    (16, 240, 240), (64, 240, 240), (240, 240, 240),
)  # fmt: skip


def run(quick: bool, folder: Path) -> dict[str, Any]:
    spec = vpngen.perlin(categories=400, instances=64)
    rng = np.random.default_rng(0)
    fill = peers.fastnoise()
    memory = np.ones(MOST_BYTES, np.uint8)  # written once before the clock starts: the cost of fresh pages is not ours
    clips = memory[: 256 * int(np.prod(CLIP))].reshape(-1, *CLIP)

    def peer_batch() -> None:
        for clip in clips:
            fill(clip, tuple(rng.integers(0, 129, 3)))

    _batch(spec, rng, clips[:1])
    ours, flipped, theirs = [], [], []
    for turn in range(4 if quick else 40):
        ours.append(len(clips) / _batch(spec, rng, clips))
        flipped.append(len(clips) / _batch(spec, rng, clips, flip=True))
        if fill is not None and turn % 4 == 0:
            theirs.append(len(clips) / cpu_seconds(peer_batch))

    sweep = []
    for size in SIZES:
        pixels = int(np.prod(size))
        out = memory[: min(512, MOST_BYTES // pixels) * pixels].reshape(-1, *size)
        seconds = [_batch(spec, rng, out) / len(out) for _ in range(2 if quick else 12)]
        sweep.append({"size": size, "pixels": pixels, "us": float(np.mean(seconds)) * 1e6})
    return {
        "batch": len(clips),
        "clip": CLIP,
        "clips_a_second": spread(ours),
        "flipped_clips_a_second": spread(flipped),
        "peer_clips_a_second": spread(theirs) if theirs else None,
        "sweep": sweep,
    }


def _batch(spec: vpngen.Spec, rng: np.random.Generator, out: npt.NDArray[np.uint8], flip: bool = False) -> float:
    """CPU seconds of the call that fills `out` (N, t, y, x): random videos, a random window of each."""
    count, size = len(out), out.shape[1:]
    indices = rng.integers(0, spec.n_videos(), count)
    starts = rng.integers(0, np.array(spec.shape) - size + 1, (count, 3)).tolist()
    ends = [[a + s for a, s in zip(start, size, strict=True)] for start in starts]
    windows = [vpngen.Window(*zip(a, b, strict=True), flip=flip) for a, b in zip(starts, ends, strict=True)]
    return cpu_seconds(lambda: vpngen.render(spec, indices, windows, threads=1, out=out))


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    ours, peer = r["clips_a_second"]["median"], r["peer_clips_a_second"]
    return [
        ("windows of 16 x 112 x 112 a second on one core", "3,000, aim 6,000", f"{ours:,.0f}"),
        ("... all of them mirrored", "", f"{r['flipped_clips_a_second']['median']:,.0f}"),
        ("... against pyfastnoisesimd", "", f"{ours / peer['median']:.1f} x" if peer else "not installed"),
        (
            "cost of a pixel in such a window over that in a whole video", "about 1",
            f"{_per_pixel(r, CLIP) / _per_pixel(r, (240, 240, 240)):.2f}",
        ),
    ]  # fmt: skip


def _per_pixel(r: dict[str, Any], size: tuple[int, int, int]) -> float:
    return next(1e3 * s["us"] / s["pixels"] for s in r["sweep"] if tuple(s["size"]) == size)


def report(r: dict[str, Any]) -> str:
    ours, peer = r["clips_a_second"], r["peer_clips_a_second"]
    rows = [("vpngen", f"{ours['median']:,.0f}", f"{ours['least']:,.0f} to {ours['most']:,.0f}")]
    flipped = r["flipped_clips_a_second"]
    rows.append(("vpngen, mirrored", f"{flipped['median']:,.0f}", f"{flipped['least']:,.0f} to {flipped['most']:,.0f}"))
    if peer:
        rows.append(("pyfastnoisesimd", f"{peer['median']:,.0f}", f"{peer['least']:,.0f} to {peer['most']:,.0f}"))
    whole = _per_pixel(r, (240, 240, 240))
    sweep = [
        (" x ".join(map(str, s["size"])), f"{s['us']:,.0f}", f"{1e3 * s['us'] / s['pixels']:.2f}",
         f"{1e3 * s['us'] / s['pixels'] / whole:.2f}")
        for s in sorted(r["sweep"], key=lambda s: s["pixels"])
    ]  # fmt: skip
    return "\n".join([
        f"Batches of {r['batch']} random videos of 400 categories, each at a random position, one thread.\n",
        table(("16 x 112 x 112", "clips a CPU second", "range"), rows),
        "\nCost against the size of the window (frames x rows x columns):\n",
        table(("window", "CPU microseconds", "ns a pixel", "relative to a whole video"), sweep),
    ])  # fmt: skip


def plot(r: dict[str, Any], path: Path) -> None:
    figure, axes = common.canvas(1, 6, 4)
    pixels = [s["pixels"] for s in r["sweep"]]
    whole = max(r["sweep"], key=lambda s: s["pixels"])
    ends = np.array([min(pixels), max(pixels)])
    axes.plot(ends, ends * whole["us"] / whole["pixels"], color="#9aa5b1", zorder=1)
    middle = ends[0] * 4
    axes.annotate(
        "in proportion", (middle, middle * 0.7 * whole["us"] / whole["pixels"]), color="#6b7785", fontsize=8, va="top"
    )
    axes.scatter(pixels, [s["us"] for s in r["sweep"]], color="#2a6f97", s=22, zorder=2)
    for s in r["sweep"]:
        label, side = "x".join(map(str, s["size"])), {"xytext": (-5, 4), "ha": "right"}
        if s["size"][0] < CLIP[0] or s["size"][2] > 160:
            side = {"xytext": (5, -9), "ha": "left"}
        axes.annotate(label, (s["pixels"], s["us"]), textcoords="offset points", fontsize=7, **side)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(ends[0] / 4, ends[1] * 4)
    axes.set_xlabel("pixels of the window")
    axes.set_ylabel("CPU microseconds a window, one thread")
    axes.set_title("What a window costs, against its size")
    figure.savefig(path)

"""What do generators of motion cost? All categories of each by default, beside Video Perlin Noise in the same turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

import vpngen
from benchmarks import peers
from benchmarks.common import cpu_seconds, table

TITLE = "Rendering motion"
TARGETS: Final = {"drift": 5, "clouds": 4, "leaves": 6}
"""Of each generator: how many times the CPU seconds of Video Perlin Noise a video may take."""
CLIP, CLIPS = (16, 112, 112), 64
NOISE: Final = "perlin"
PEERS: Final = {
    "clouds": ("MotionClouds", peers.motion_clouds, 240, 50),
    "leaves": ("a NumPy loop over 300 discs", peers.dead_leaves, 12, 200),
}
"""Generator -> another that makes such a video, frames of it that are timed, and how many times fewer CPU seconds ours shall take."""


def run(quick: bool, folder: Path) -> dict[str, Any]:
    specs = {name: vpngen.Spec.make(name, instances=64) for name in (NOISE, *TARGETS)}
    step, turns = (8, 1) if quick else (1, 4)
    rng = np.random.default_rng(0)
    video, clips = np.ones((240, 240, 240), np.uint8), np.ones((CLIPS, *CLIP), np.uint8)
    most = max(spec.n_categories for spec in specs.values())
    videos: dict[str, dict[int, list[float]]] = {name: {} for name in specs}
    batches: dict[str, list[float]] = {name: [] for name in specs}
    for spec in specs.values():
        vpngen.render(spec, 0, threads=1, out=video)
    for turn in range(turns):
        for category in rng.permutation(most)[::step]:
            for name, spec in specs.items():
                if category < spec.n_categories:
                    index = int(turn * spec.n_categories + category)
                    seconds = cpu_seconds(lambda s=spec, i=index: vpngen.render(s, i, threads=1, out=video))
                    videos[name].setdefault(int(category), []).append(seconds)
        for _ in range(2 if quick else 8):
            for name, spec in specs.items():
                chosen = rng.integers(0, spec.n_videos(), CLIPS)
                starts = rng.integers(0, np.array(spec.shape) - CLIP + 1, (CLIPS, 3)).tolist()
                windows = [vpngen.Window(*((a, a + n) for a, n in zip(at, CLIP, strict=True))) for at in starts]
                batches[name].append(
                    cpu_seconds(lambda s=spec, c=chosen, w=windows: vpngen.render(s, c, w, threads=1, out=clips))
                )
    results: dict[str, Any] = {
        name: {
            "categories": len(found),
            "ms": 1e3 * float(np.mean([np.mean(seconds) for seconds in found.values()])),
            "slowest_ms": 1e3 * max(float(np.mean(seconds)) for seconds in found.values()),
            "clip_ms": 1e3 * float(np.median(batches[name])) / CLIPS,
        }
        for name, found in videos.items()
    }
    for name, (_, make, frames, _) in PEERS.items():
        if (theirs := make()) is not None:
            part = np.ones((frames, 240, 240), np.uint8)
            seconds = min(cpu_seconds(lambda f=theirs, p=part: f(p)) for _ in range(1 if quick else 3))
            results[name]["peer_ms"] = 1e3 * seconds * 240 / frames
    return results


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [
        (
            f"a finished {name} video over one of VPN, CPU",
            f"at most {most} x",
            f"{r[name]['ms'] / r[NOISE]['ms']:.1f} x",
        )
        for name, most in TARGETS.items()
    ]
    for name, (other, _, _, fewer) in PEERS.items():
        if "peer_ms" in r[name]:
            ratio = r[name]["peer_ms"] / r[name]["ms"]
            rows.append((f"fewer CPU seconds for {name} than {other}", f"{fewer} x", f"{ratio:,.0f} x"))
    return rows


def report(r: dict[str, Any]) -> str:
    whole, part = 240**3, int(np.prod(CLIP))
    rows = [
        (name, of["categories"], f"{of['ms']:.1f}", f"{of['ms'] / r[NOISE]['ms']:.1f}", f"{of['slowest_ms']:.1f}",
         f"{of['clip_ms']:.3f}", f"{of['clip_ms'] / part / (of['ms'] / whole):.2f}")
        for name, of in r.items()
    ]  # fmt: skip
    header = (
        "generator", "categories", "ms a video", "over VPN", "slowest category", "ms a clip", "its pixel over a video's",
    )  # fmt: skip
    about = f"Videos of 240 x 240 x 240, {' x '.join(map(str, CLIP))} clips in batches of {CLIPS}; one thread, CPU seconds.\n"
    beside = [
        f"A video of {other} takes {r[name]['peer_ms']:,.0f} ms{f', by {frames} of its 240 frames' if frames < 240 else ''}."
        for name, (other, _, frames, _) in PEERS.items()
        if "peer_ms" in r[name]
    ]
    return "\n\n".join([f"{about}\n{table(header, rows)}".rstrip(), *beside]) + "\n"

"""How much does a finished fractal video cost? 100 frames of 362 x 362, beside the loop of FractalDB and one in numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numba
import numpy as np
import numpy.typing as npt
from PIL import Image

import vpngen
from benchmarks import common
from benchmarks.common import cost, cpu_seconds, spread, table
from vpngen import systems

TITLE = "Rendering fractals"
LOOP, TUNED, PLAIN = "FractalDB's loop in Python", "the same loop, tuned", "chaos game in numba"
CLIP, CLIPS = (16, 112, 112), 256
POINTS, PAD, LEVEL = 1000, 6, 127
FRESH_SEED = 2026
"""Of a search that does not come with the package."""
Video = npt.NDArray[np.uint8]


def run(quick: bool, folder: Path) -> dict[str, Any]:
    categories, rounds = (6, 1) if quick else (40, 3)
    spec = vpngen.fractal(categories=categories, instances=25)
    out = np.ones(spec.shape, np.uint8)  # written once before the clock starts
    row = spec.params(np.arange(spec.n_videos()))
    contestants: dict[str, Callable[[int], None]] = {
        "vpngen": lambda i: vpngen.render(spec, i, threads=1, out=out),
        PLAIN: lambda i: chaos_game(*_system(row[i]), out),
        TUNED: lambda i: python_loop(*_system(row[i]), out, tuned=True),
        LOOP: lambda i: python_loop(*_system(row[i]), out),
    }
    for call in contestants.values():
        call(0)

    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    filled: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        for category in range(categories):
            # Variants, and in the first turn at last the system itself, of which all must fill as much.
            indices = [(8 * turn + i) * categories + category for i in reversed(range(8))]
            for name in names[category % 4 :] + names[: category % 4]:
                some = indices[-1:] if name in (LOOP, TUNED) else indices
                seconds[name].append(cpu_seconds(partial(_all, contestants[name], some)) / len(some))
                if turn == 0:
                    filled[name].append(float((out[-1] > 0).mean()))
                if not 0 < (out[0] > 0).sum() < (out[-1] > 0).sum():
                    raise RuntimeError(f"{name} made no video that grows")
    shares = {name: float(np.mean(found)) for name, found in filled.items()}
    for name, least in ((PLAIN, 0.97), (TUNED, 0.4), (LOOP, 0.4)):  # black pixels of patches cover what was there
        if not least < shares[name] / shares["vpngen"] < 1.03:
            raise RuntimeError(f"the contestants do not draw the same: they fill {shares}")

    ours = np.array(seconds["vpngen"])
    return {
        "categories": categories,
        "turns": len(ours),
        "ms": {name: spread(1e3 * s for s in found) for name, found in seconds.items()},
        "mean_ms": {name: 1e3 * float(np.mean(found)) for name, found in seconds.items()},
        "ratios": {name: spread((np.array(seconds[name]) / ours).tolist()) for name in (PLAIN, TUNED, LOOP)},
        "filled": shares,
        "clips_a_second": _clips(spec, 3 if quick else 20),
        "search": _search(20 if quick else 1000),
    }


def _all(call: Callable[[int], None], indices: list[int]) -> None:
    for index in indices:
        call(index)


def _clips(spec: vpngen.Spec, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    out = np.ones((CLIPS, *CLIP), np.uint8)
    found = []
    for _ in range(rounds):
        indices = rng.integers(0, spec.n_videos(), CLIPS)
        starts = rng.integers(0, np.array(spec.shape) - CLIP + 1, (CLIPS, 3)).tolist()
        windows = [vpngen.Window(*((a, a + s) for a, s in zip(start, CLIP, strict=True))) for start in starts]
        found.append(CLIPS / cpu_seconds(partial(vpngen.render, spec, indices, windows, threads=1, out=out)))
    return spread(found)


def _search(categories: int) -> dict[str, float]:
    """A search of its own, on two threads; nothing is read from a cache or left in one."""
    systems._search(0, 2, FRESH_SEED + 1, None)
    with mock.patch.object(systems, "usable_cpus", return_value=2):
        spent = cost(partial(systems._search, 0, categories, FRESH_SEED, None))
    return {"categories": categories, "wall": spent.wall, "cpu": spent.cpu, "others": spent.others}


# --- the contestants


def _system(row: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The maps of a video (count, 6), and their probabilities added up."""
    count = int(row["count"])
    ends = np.append(row["thresholds"][: count - 1] / 2**32, 1.0)
    return row["maps"][:count].astype(np.float64), ends


def python_loop(maps: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], out: Video, tuned: bool = False) -> None:
    """What the program of FractalDB does for an image, step by step, and a frame kept every 1,000 points.

    All uniform numbers are drawn at once; a loop chooses the map by its cumulated probability and steps; the points are
    scaled to the canvas; a loop makes a random 3 x 3 patch for each and pastes it through PIL, black pixels included.
    `tuned`, all patches are there before, the image is grey, and the loops run over plain numbers.
    """
    frames, height, width = out.shape
    rng = np.random.default_rng()
    draws, steps, limits = rng.random(frames * POINTS), maps.tolist(), ends.tolist()
    x = y = 0.0
    xs, ys = [], []
    for draw in draws.tolist() if tuned else draws:
        for chosen, limit in enumerate(limits):  # noqa: B007
            if draw <= limit:
                break
        a, b, c, d, e, f = steps[chosen]
        x, y = a * x + b * y + e, c * x + d * y + f
        xs.append(x)
        ys.append(y)
    across, down = (
        (PAD - 1 + (values - values.min()) * ((size - 2 * PAD) / np.ptp(values))).astype(int)
        for values, size in ((np.array(xs), width), (np.array(ys), height))
    )
    image = Image.new("L" if tuned else "RGB", (width, height))
    made = [make_patch(number).convert("L") for number in range(512)] if tuned else []
    numbers = rng.integers(1, 512, len(xs)).tolist()
    places = zip(numbers, *((across.tolist(), down.tolist()) if tuned else (across, down)), strict=True)
    for p, (number, column, row) in enumerate(places):
        image.paste(made[number] if tuned else make_patch(number), (column, row))
        if (p + 1) % POINTS == 0:
            pixels = np.asarray(image)
            out[p // POINTS] = pixels if tuned else pixels[:, :, 0]


def make_patch(number: int) -> Image.Image:
    """The 3 x 3 pixels of the bits of a number."""
    patch = np.zeros((3, 3, 3), np.uint8)
    for row in range(3):
        for column in range(3):
            patch[row, column] = LEVEL * (number >> 3 * row + column & 1)
    return Image.fromarray(patch)


@numba.njit
def chaos_game(maps, ends, out):  # type: ignore[no-untyped-def]
    """The same as one would write it in numba: numbers of np.random, arrays of points, an image that is copied as it grows."""
    frames, height, width = out.shape
    points = frames * POINTS
    xs, ys = np.empty(points), np.empty(points)
    x = y = 0.0
    left = low = np.inf
    right = high = -np.inf
    for p in range(points):
        draw, m = np.random.random(), 0  # noqa: NPY002
        while draw > ends[m]:
            m += 1
        x, y = maps[m, 0] * x + maps[m, 1] * y + maps[m, 4], maps[m, 2] * x + maps[m, 3] * y + maps[m, 5]
        xs[p], ys[p] = x, y
        left, right, low, high = min(left, x), max(right, x), min(low, y), max(high, y)
    across, down = (width - 2 * PAD) / (right - left), (height - 2 * PAD) / (high - low)
    image = np.zeros((height, width), np.uint8)
    for p in range(points):
        column, row = PAD + int((xs[p] - left) * across), PAD + int((ys[p] - low) * down)
        mask = np.random.randint(1, 512)  # noqa: NPY002
        for bit in range(9):
            if mask >> bit & 1:
                image[row + bit // 3 - 1, column + bit % 3 - 1] = LEVEL
        if (p + 1) % POINTS == 0:
            out[p // POINTS] = image


# --- in words


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    plain, tuned, loop = (r["ratios"][name] for name in (PLAIN, TUNED, LOOP))
    search = r["search"]
    return [
        ("a finished fractal video, 100 frames of 362 x 362", "", f"{r['ms']['vpngen']['median']:.2f} ms of one core"),
        ("fewer CPU seconds than FractalDB's loop in Python", "500 x, aim 1,000 x", f"{loop['median']:,.0f} x"),
        ("... its patches made before, and grey", "", f"{tuned['median']:,.0f} x"),
        ("fewer CPU seconds than a chaos game in numba", "3 x, aim 5 x", f"{plain['median']:.1f} x"),
        ("windows of 16 x 112 x 112 of fractals a second on one core", "", f"{r['clips_a_second']['median']:,.0f}"),
        (
            f"search for {search['categories']:,} categories, two threads", "",
            f"{search['wall']:.1f} s, {search['cpu']:.1f} s of CPU",
        ),
    ]  # fmt: skip


def report(r: dict[str, Any]) -> str:
    rows = []
    for name, ms in sorted(r["ms"].items(), key=lambda item: item[1]["median"]):
        ratio = r["ratios"].get(name, {"median": 1, "least": 1, "most": 1})
        times = f"{ratio['median']:,.1f} ({ratio['least']:,.1f} to {ratio['most']:,.1f})" if name != "vpngen" else "1"
        span = f"{ms['least']:,.2f} to {ms['most']:,.2f}"
        rows.append((name, f"{ms['median']:,.2f}", span, times, f"{r['filled'][name]:.0%}"))
    clips, search = r["clips_a_second"], r["search"]
    return "\n".join([
        f"{r['turns']} turns, {r['categories']} categories: eight videos a turn, one where a loop of Python draws it, of 100,000 "
        "points and 100 frames; one thread.\n",
        table(("one thread", "CPU ms a video", "range", "times vpngen", "canvas filled"), rows),
        "\nThe loops paste the black pixels of their patches as well, as FractalDB does, and so fill less.\n",
        f"Random windows of 16 x 112 x 112, {CLIPS} a call: {clips['median']:,.0f} a CPU second "
        f"({clips['least']:,.0f} to {clips['most']:,.0f}); each begins with all points of its video.\n",
        f"The search for {search['categories']:,} categories and their variants, on two threads: {search['wall']:.1f} s on the "
        f"wall, {search['cpu']:.1f} s of CPU; others used {search['others']:.1f} s of the CPUs meanwhile.",
    ])  # fmt: skip


def plot(r: dict[str, Any], path: Path) -> None:
    figure, (left, right) = common.canvas(2, 10, 3.2)
    bars = {name: ms["median"] for name, ms in sorted(r["ms"].items(), key=lambda item: -item[1]["median"])}
    colours = ["#2a6f97" if name == "vpngen" else "#9aa5b1" for name in bars]
    drawn = left.barh(
        [name.replace(" in ", "\nin ").replace(", ", ",\n") for name in bars], list(bars.values()), color=colours
    )
    left.bar_label(drawn, [f"{ms:,.1f} ms" for ms in bars.values()], padding=3)
    left.set_xscale("log")
    left.set_xlim(min(bars.values()) / 2, max(bars.values()) * 8)
    left.set_xlabel("CPU ms a video, one thread, log scale")
    left.set_title("100 frames of 362 x 362")
    videos = vpngen.render(vpngen.fractal(4, 1), range(4))[:, [0, 9, 99], ::3, ::3]
    right.imshow(np.concatenate(np.concatenate(videos, axis=2), axis=0), cmap="gray", vmin=0, vmax=LEVEL)
    right.set_axis_off()
    right.set_title("Frames 0, 9 and 99 of four categories")
    figure.savefig(path)

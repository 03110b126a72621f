"""Pictures of training: first-layer filters over time, curves of runs, accuracy against the size of a set.

The first are figure 5 of Kataoka et al., WACV 2022, the others figures 4 and 3. Nothing here needs a screen.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vpngen import checks
from vpngen.errors import ArgumentError, MissingError
from vpngen.files import replace
from vpngen.spec import Spec
from vpngen.train.evaluation import Evaluation, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpngen.train.evaluation import Summary

Kernel = npt.NDArray[np.float64]
"""The weights of a first convolution (F, C, T, Y, X)."""
Tiles = npt.NDArray[np.uint8]
Files = str | os.PathLike[str]

PAPER, INK, FAINT = (246, 246, 246), (32, 32, 32), (112, 112, 112)
ZERO: Final = 128
"""The grey of a weight that is zero."""
MARGIN, GUTTER, TEXT, SMALL, LEAD = 20, 2, 17, 13, 6
BETWEEN: Final = 14
"""Pixels between two panels."""

COLOURS: Final = ("#2a6f97", "#c8553d", "#e3a72f", "#4b1528", "#b0b4ba", "#34108a", "#6cc0f5", "#8f6fe0")
"""Of lines, in this order. Any two stay apart for people who lack one kind of cones."""
DASHES: Final = ("-", "--", ":", "-.")
MARKERS: Final = "osD^vPX*"
STYLE: Final[dict[Any, Any]] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#3d3d3d",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "legend.labelspacing": 0.35,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 150,
    "svg.fonttype": "none",
}
PLOTS: Final = (".png", ".svg", ".pdf")

# --- filters


def first_kernel(state: Mapping[str, Any], layer: str | None = None) -> tuple[str, Kernel]:
    """The first convolution in time and space among the weights of a network.

    `conv1.weight` where there is one. For R(2+1)D the product of conv1_s and conv1_t, with the scale that the batch
    normalisation between them gives each of its channels: what a clip meets if all of those are above zero. Else, of the
    convolutions that see an image (one or three channels, or the fewest there are), the one of the most frames.

    Args:
        state: name -> weights, as tensors or arrays.
        layer: the name of the weights to take instead.

    Returns:
        The name, and (F, C, T, Y, X).

    Raises:
        ArgumentError: there is none.
    """
    convolutions = {n: tuple(v.shape) for n, v in state.items() if len(v.shape) == 5 and math.prod(v.shape[2:]) > 1}
    if layer is not None:
        if layer not in convolutions:
            raise ArgumentError(
                f"must name the weights of a convolution in time and space: "
                f"{', '.join(list(convolutions)[:8]) or 'there are none'}",
                "layer",
                layer,
            )
        return layer, _array(state[layer])
    if "conv1.weight" in convolutions:
        return "conv1.weight", _array(state["conv1.weight"])
    if "conv1_s.weight" in convolutions and "conv1_t.weight" in state:
        space, time = _array(state["conv1_s.weight"]), _array(state["conv1_t.weight"])
        scale = np.ones(len(space))
        if {"bn1_s.weight", "bn1_s.running_var"} <= set(state):
            scale = _array(state["bn1_s.weight"]) / np.sqrt(_array(state["bn1_s.running_var"]) + 1e-5)
        return "conv1_s x conv1_t", np.einsum("fmt,m,mcyx->fctyx", time[..., 0, 0], scale, space[:, :, 0])
    if not convolutions:
        raise ArgumentError("there is no convolution in time and space among these weights, so no first one")
    fewest = min(shape[1] for shape in convolutions.values())
    seeing = [n for n, s in convolutions.items() if s[1] in (1, 3)] or [
        n for n, s in convolutions.items() if s[1] == fewest
    ]
    name = max(seeing, key=lambda n: convolutions[n][2])
    return name, _array(state[name])


def _array(tensor: Any) -> Kernel:
    return np.asarray(tensor.double() if hasattr(tensor, "double") else tensor, np.float64)


def tiles(kernel: Kernel) -> Tiles:
    """Filters as pictures: uint8 RGB (F, T, Y, X, 3).

    Each filter by itself: its largest weight of all colours, places and times goes to 1 or 255, zero to 128.

    Args:
        kernel: (F, C, T, Y, X) with C = 3 for red, green and blue, or 1 for grey.

    Raises:
        ArgumentError: other channels, or weights that are no numbers.
    """
    if kernel.shape[1] not in (1, 3):
        raise ArgumentError(f"filters over {kernel.shape[1]} channels have no colours; those of 1 or 3 do")
    if not np.isfinite(kernel).all():
        raise ArgumentError("the filters hold weights that are no numbers; the training diverged")
    largest = np.abs(kernel).max(axis=(1, 2, 3, 4), keepdims=True)
    shares = np.divide(kernel, largest, out=np.zeros_like(kernel), where=largest > 0)
    made = np.rint(ZERO + (ZERO - 1) * shares).astype(np.uint8)
    return np.moveaxis(np.broadcast_to(made, (len(made), 3, *made.shape[2:])), 1, -1)


def filters(
    weights: Files | Sequence[Files],
    out: Files,
    *,
    titles: Sequence[str] | None = None,
    layer: str | None = None,
    columns: int | None = None,
    scale: int | None = None,
    fps: float = 6,
) -> None:
    """Draw the first convolution of networks over time, figure 5 of the paper: a .png of all frames, or a .gif that plays.

    In a .png a network is a row of panels, one for each frame of its filters; in a .gif it is one panel, beside the others.

    Args:
        weights: .safetensors or .pth files, see `vpngen.models.weights.read_weights`.
        out: ends in .png or .gif.
        titles: what stands above each; None for the names of the files, or of their folders where those are all alike.
        layer: the name of other weights than those `first_kernel` finds.
        columns: filters in a row of a panel; None for about as many as rows.
        scale: pixels of a weight on each side; None for 4 in a .png and 7 in a .gif.
        fps: frames a second of a .gif.

    Raises:
        ArgumentError: another suffix, no file, no convolution in a file, not one title each.
        ConflictError: a damaged file, or one that holds no weights.
        MissingError: safetensors is not installed, or no space is left.
    """
    paths = _paths("weights", weights)
    target = _target(out, (".png", ".gif"))
    names = _titles(titles, _names(paths), "weights")
    still = target.suffix.lower() == ".png"
    scale = checks.integer("scale", (4 if still else 7) if scale is None else scale, 1, 64)
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0.1 <= fps <= 50:
        raise ArgumentError("must be from 0.1 to 50", "fps", fps)
    panels: list[tuple[str, str, Tiles]] = []
    for path, title in zip(paths, names, strict=True):
        name, kernel = _read_kernel(path, layer)
        drawn = _grid(tiles(kernel), columns, scale)
        size = " x ".join(map(str, kernel.shape[2:]))
        panels.append((title, f"{name}, {len(kernel)} filters of {size}", drawn))
    pictures = [_sheet(panels)] if still else list(_played(panels))
    with replace(target) as partial:
        if still:
            pictures[0].save(partial, format="PNG", optimize=True)
        else:
            _save_gif(partial, pictures, [drawn for *_, drawn in panels], fps)


def _read_kernel(path: Path, layer: str | None) -> tuple[str, Kernel]:
    from vpngen.models.weights import read_weights

    state, _ = read_weights(path)
    try:
        return first_kernel(state, layer)
    except ArgumentError as error:
        raise ArgumentError(f"{str(path)!r}: {error}") from None


def _grid(drawn: Tiles, columns: int | None, scale: int) -> Tiles:
    """Tiles (F, T, Y, X, 3) as one picture for each frame: (T, Y', X', 3), each pixel `scale` wide, with gaps."""
    count, frames, height, width, _ = drawn.shape
    columns = (
        math.ceil(math.sqrt(count)) if columns is None else min(checks.integer("columns", columns, 1, 4096), count)
    )
    rows = -(-count // columns)
    high, wide = height * scale + GUTTER, width * scale + GUTTER
    picture = np.empty((frames, rows * high - GUTTER, columns * wide - GUTTER, 3), np.uint8)
    picture[:] = PAPER
    large = drawn.repeat(scale, axis=2).repeat(scale, axis=3)
    for i, tile in enumerate(large):
        y, x = i // columns * high, i % columns * wide
        picture[:, y : y + high - GUTTER, x : x + wide - GUTTER] = tile
    return picture


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _write(at: Image.Image, x: float, y: float, text: str, size: int, colour: tuple[int, int, int] = INK) -> None:
    ImageDraw.Draw(at).text((x, y), text, fill=colour, font=_font(size), anchor="la")


def _sheet(panels: Sequence[tuple[str, str, Tiles]]) -> Image.Image:
    """All frames from left to right, a row for each network."""
    head = TEXT + LEAD + SMALL + 2 * LEAD
    heights = [head + drawn.shape[1] + LEAD + SMALL for *_, drawn in panels]
    pitches = [drawn.shape[2] + BETWEEN for *_, drawn in panels]
    widths = [
        max(len(drawn) * pitch - BETWEEN, _length(title, TEXT), _length(about, SMALL))
        for (title, about, drawn), pitch in zip(panels, pitches, strict=True)
    ]
    sheet = Image.new("RGB", (2 * MARGIN + max(widths), MARGIN + sum(h + MARGIN for h in heights)), PAPER)
    y = MARGIN
    for (title, about, drawn), height, pitch in zip(panels, heights, pitches, strict=True):
        _write(sheet, MARGIN, y, title, TEXT)
        _write(sheet, MARGIN, y + TEXT + LEAD, about, SMALL, FAINT)
        for t, picture in enumerate(drawn):
            x = MARGIN + t * pitch
            sheet.paste(Image.fromarray(picture), (x, y + head))
            text = f"frame {t}" if drawn.shape[2] > 60 else str(t)
            _write(sheet, x, y + head + drawn.shape[1] + LEAD, text, SMALL, FAINT)
        y += height + MARGIN
    return sheet


def _played(panels: Sequence[tuple[str, str, Tiles]]) -> Iterator[Image.Image]:
    """One frame after the other, the networks side by side; each goes round in its own number of frames."""
    head = TEXT + LEAD + SMALL + 2 * LEAD
    widths = [max(drawn.shape[2], _length(t, TEXT), _length(about, SMALL)) for t, about, drawn in panels]
    high = max(drawn.shape[1] for *_, drawn in panels)
    size = (MARGIN + sum(w + MARGIN for w in widths), MARGIN + head + high + LEAD + SMALL + MARGIN)
    for frame in range(math.lcm(*(len(drawn) for *_, drawn in panels))):
        picture = Image.new("RGB", size, PAPER)
        x = MARGIN
        for (title, about, drawn), width in zip(panels, widths, strict=True):
            t = frame % len(drawn)
            _write(picture, x, MARGIN, title, TEXT)
            _write(picture, x, MARGIN + TEXT + LEAD, about, SMALL, FAINT)
            picture.paste(Image.fromarray(drawn[t]), (x, MARGIN + head))
            _write(picture, x, MARGIN + head + drawn.shape[1] + LEAD, f"frame {t}", SMALL, FAINT)
            x += width + MARGIN
        yield picture


def _save_gif(path: Path, pictures: Sequence[Image.Image], drawn: Sequence[Tiles], fps: float) -> None:
    """One palette for all frames, so that nothing flickers: greys for paper, text and zero, the rest for the filters."""
    greys = np.unique(np.append(np.linspace(INK[0], PAPER[0], 15).astype(np.uint8), ZERO))
    colours = np.concatenate([d.reshape(-1, 3) for d in drawn])
    colours = np.unique(colours, axis=0)
    if len(colours) > 256 - len(greys):
        strip = Image.fromarray(colours[None])
        reduced = strip.quantize(256 - len(greys), method=Image.Quantize.MEDIANCUT, kmeans=2)
        colours = np.array(reduced.getpalette()).reshape(-1, 3)[: 256 - len(greys)]
    table = Image.new("P", (1, 1))
    table.putpalette(np.concatenate([greys[:, None].repeat(3, 1), colours]).astype(np.uint8).tobytes())
    frames = [p.quantize(palette=table, dither=Image.Dither.NONE) for p in pictures]
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, optimize=False
    )


# --- curves

METRICS: Final[dict[str, tuple[str, bool]]] = {
    "train_loss": ("training loss", False),
    "val_loss": ("validation loss", False),
    "train_top1": ("training top-1, %", True),
    "val_top1": ("validation top-1, %", True),
    "val_top5": ("validation top-5, %", True),
    "lr": ("learning rate", False),
    "clips_per_second": ("clips a second", False),
    "data_wait": ("waiting for data, %", True),
    "seconds": ("seconds of an epoch", False),
}
"""Column of log.csv -> what the axis says, and whether it is a share that is shown in percent."""
MOST_DROPS: Final = 12
"""Of the learning rate, in one picture; a rate that falls all the time is not marked."""


@dataclass(frozen=True)
class _Log:
    """The table of a run: column -> (epochs,), NaN where nothing was written."""

    path: Path
    columns: dict[str, npt.NDArray[np.float64]]

    def has(self, metric: str) -> bool:
        return metric in self.columns and not np.isnan(self.columns[metric]).all()

    def shown(self, metric: str) -> npt.NDArray[np.float64]:
        return self.columns[metric] * (100 if METRICS[metric][1] else 1)

    @property
    def epochs(self) -> npt.NDArray[np.float64]:
        return self.columns["epoch"]

    @property
    def drops(self) -> list[tuple[float, float]]:
        """(epoch, rate) of each first epoch at a lower learning rate."""
        if not self.has("lr"):
            return []
        rates = self.columns["lr"]
        found = [
            (float(self.epochs[i]), float(rates[i])) for i in range(1, len(rates)) if rates[i] < 0.999 * rates[i - 1]
        ]
        return found if len(found) <= MOST_DROPS else []


def curves(
    runs: Files | Sequence[Files],
    out: Files,
    metric: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Draw what runs logged, epoch by epoch; of several the validation accuracy, figure 4 of the paper.

    Args:
        runs: folders with a log.csv, or such files.
        out: ends in .png, .svg or .pdf.
        metric: a column of `METRICS`; None for `val_top1` of several runs, and for losses beside accuracies of one, with a
            mark where the learning rate went down.
        labels: the name of each run; None for the `label` in its run.json, or the name of its folder.
        title: what stands above; None for nothing, or the name of the one run.

    Raises:
        ArgumentError: another suffix, no log, an empty or damaged one, a metric that there is not, or not in a log.
        MissingError: matplotlib is not installed, or no space is left.
    """
    paths = _paths("runs", runs)
    target = _target(out, PLOTS)
    if metric is not None and metric not in METRICS:
        raise ArgumentError(f"must be one of {', '.join(METRICS)}", "metric", metric)
    logs = [_read_log(path) for path in paths]
    names = _titles(labels, _run_labels(logs), "runs")
    if metric is None and len(logs) > 1:
        metric = "val_top1"
    if metric is None:
        with _canvas(target, 2, 9.6, 3.7) as (left, right):
            _draw_one(logs[0], left, right)
            left.set_title(names[0] if title is None else title, loc="left", pad=20, fontsize=11)
    else:
        for log in logs:
            if not log.has(metric):
                known = [m for m in METRICS if log.has(m)]
                raise ArgumentError(
                    f"is not in {str(log.path)!r}, which has {', '.join(known) or 'nothing'}", "metric", metric
                )
        with _canvas(target, 1, 6.4, 4.2) as (axes,):
            for i, (log, name) in enumerate(zip(logs, names, strict=True)):
                _line(axes, log.epochs, log.shown(metric), name, i)
            _epoch_axis(axes, logs)
            axes.set_ylabel(METRICS[metric][0])
            if title is not None:
                axes.set_title(title, loc="left")
            _legend(axes)


def _draw_one(log: _Log, left: Axes, right: Axes) -> None:
    """Losses to the left, accuracies to the right; the drops of the learning rate in both."""
    _line(left, log.epochs, log.shown("train_loss"), "training", 0)
    _line(left, log.epochs, log.shown("val_loss"), "validation", 1)
    left.set_ylabel("cross entropy, nats")
    _line(right, log.epochs, log.shown("train_top1"), "training top-1", 0)
    _line(right, log.epochs, log.shown("val_top1"), "validation top-1", 1)
    _line(right, log.epochs, log.shown("val_top5"), "validation top-5", 1, ls="--", lw=1.1, mfc="white")
    right.set_ylabel("right answers, %")
    right.set_ylim(bottom=0)
    if log.has("val_top1"):
        best = int(np.nanargmax(log.columns["val_top1"]))
        at, value = log.epochs[best], log.shown("val_top1")[best]
        right.plot(at, value, "o", ms=4.5, color=COLOURS[1])
        right.annotate(
            f"{value:.1f}", (at, value), xytext=(0, -6), textcoords="offset points", ha="center", va="top", color=COLOURS[1],
        )  # fmt: skip
    for axes in (left, right):
        _epoch_axis(axes, [log])
        _mark_drops(axes, log)
        _legend(axes)


def _mark_drops(axes: Axes, log: _Log) -> None:
    """A line where an epoch began at a lower learning rate; above it the rate, where there is room."""
    low, high = axes.get_xlim()
    free = low
    for number, (epoch, rate) in enumerate(log.drops):
        at = epoch - 0.5
        axes.axvline(at, color="#9aa5b1", lw=0.9, ls=(0, (2, 2)), zorder=0.5)
        if at >= free:
            axes.annotate(
                f"{rate:.2g}" if number else f"lr {rate:.2g}", (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color="#5c6670",
            )  # fmt: skip
            free = at + 0.09 * (high - low)


def _line(
    axes: Axes, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], name: str, number: int, **style: Any
) -> None:
    """One line, in the colour of its number; nothing where there is nothing to show."""
    known = np.isfinite(ys)
    if not known.any():
        return
    look = {"ls": DASHES[number // len(COLOURS) % len(DASHES)], "marker": "o" if known.sum() < 3 else None, "ms": 4}
    axes.plot(xs, ys, color=COLOURS[number % len(COLOURS)], label=name, **{**look, **style})


def _legend(axes: Axes) -> None:
    """Names of the lines, beside them where they are many; none for a single line that the axis names."""
    names = axes.get_legend_handles_labels()[1]
    if len(names) > 6:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    elif len(names) > 1:
        axes.legend(loc="best")


def _epoch_axis(axes: Axes, logs: Sequence[_Log]) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = min(log.epochs[0] for log in logs), max(log.epochs[-1] for log in logs)
    pad = max(0.02 * (last - first), 0.5)
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")


def _read_log(path: Path) -> _Log:
    file = path / "log.csv" if path.is_dir() or not path.suffix else path
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise ArgumentError(f"{str(file)!r} cannot be read: {error.strerror}; give the folder of a run") from None
    if not rows:
        raise ArgumentError(f"{str(file)!r} holds no epoch yet; wait for the first")
    if "epoch" not in rows[0]:
        raise ArgumentError(f"{str(file)!r} is no log of a run: it has no column `epoch`")
    columns = {}
    for name in ("epoch", *METRICS):
        try:
            columns[name] = np.array([float(row.get(name) or "nan") for row in rows])
        except ValueError as error:
            raise ArgumentError(f"{str(file)!r} is damaged: `{name}` is no number: {error}") from None
    return _Log(file, columns)


def _run_labels(logs: Sequence[_Log]) -> list[str]:
    names = _names([log.path for log in logs], always_folder=True)
    for i, log in enumerate(logs):
        try:
            told = json.loads((log.path.parent / "run.json").read_text(encoding="utf-8")).get("label")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(told, str) and told:
            names[i] = told
    return names


# --- sweeps

TARGETS: Final = {
    "ucf101": "UCF-101",
    "hmdb51": "HMDB-51",
    "activitynet": "ActivityNet",
    "kinetics": "Kinetics",
}
SIZES: Final = ("categories", "instances")


@dataclass(frozen=True)
class _Point:
    """One evaluation, and where it belongs in a sweep."""

    path: Path
    evaluation: Evaluation
    series: str
    size: Mapping[str, int] | None  # of the set it was initialized from; None for scratch
    split: int
    seed: int


def sweep(
    points: Files | Sequence[Files],
    out: Files,
    *,
    x: str = "categories",
    series: str = "target",
    figure: str = "top1",
    title: str | None = None,
) -> None:
    """Draw the accuracy against the size of the set that networks were initialized from, figure 3 of the paper.

    A point is the mean over splits and seeds of the evaluations that belong to it, its bar the sample standard deviation
    over the seeds. Videos and split are those that the metadata of an evaluation have as `source`. The size is that of the
    spec in the metadata of the weights, or of those they were made from; what was trained from scratch stands at 0. Where the
    other size varies too, a line is drawn for each of its values.

    Args:
        points: evaluation.json files, or folders that are searched for them.
        out: ends in .png, .svg or .pdf.
        x: `categories`, or `instances` of each.
        series: what the lines are: `target`, the videos that were evaluated, or `model`.
        figure: one of those of an evaluation: `top1`, `top5`, `average`, and of single windows `window_top1` and so on.
        title: what stands above; None for nothing.

    Raises:
        ArgumentError: another suffix, no evaluation, two of the same point, split and seed, a split that a seed lacks.
        MissingError: matplotlib is not installed, or no space is left.
    """
    if x not in SIZES:
        raise ArgumentError(f"must be one of {', '.join(SIZES)}", "x", x)
    if series not in ("target", "model"):
        raise ArgumentError("must be target or model", "series", series)
    target = _target(out, PLOTS)
    found = [_point(path, series) for path in _evaluations(_paths("points", points))]
    if found and figure not in found[0].evaluation.figures:
        raise ArgumentError(f"must be one of {', '.join(found[0].evaluation.figures)}", "figure", figure)
    lines = _lines(found, x, figure)
    with _canvas(target, 1, 6.4, 4.2) as (axes,):
        _draw_sweep(axes, lines, x, figure)
        if title is not None:
            axes.set_title(title, loc="left")


def _evaluations(paths: Sequence[Path]) -> list[Path]:
    """The files that `paths` are or hold."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("evaluation.json")) if path.is_dir() else [path]
        if not inside:
            raise ArgumentError(f"{str(path)!r} holds no evaluation.json; `vpngen evaluate` writes one")
        found += [p for p in inside if p not in found]
    return found


def _point(path: Path, series: str) -> _Point:
    evaluation = Evaluation.load(path)
    about = evaluation.metadata
    videos = _mapping(about.get("source"))
    kind = str(videos.get("kind", "videos"))
    name = TARGETS.get(kind, kind) if series == "target" else str(_mapping(about.get("model")).get("name", "model"))
    return _Point(
        path, evaluation, name, _initialized(path, about), int(videos.get("split") or 1), int(about.get("seed") or 0)
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _initialized(path: Path, metadata: Mapping[str, Any]) -> Mapping[str, int] | None:
    """How large the set was that the weights, or those they come from, were initialized from; None for scratch."""
    node: Any = metadata
    while isinstance(node, Mapping):
        spec = _mapping(node.get("source")).get("spec")
        if spec is not None:
            try:
                made = Spec.from_dict(spec)
            except ArgumentError as error:
                raise ArgumentError(f"{str(path)!r} names weights of a spec that is none: {error}") from None
            return {"categories": made.n_categories, "instances": made.instances}
        node = node.get("parent")
    return None


def _lines(points: Sequence[_Point], x: str, figure: str) -> dict[str, list[tuple[int, float, float | None]]]:
    """Name -> (size, mean, deviation) of each of its points, in rising order of size; 0 is scratch."""
    other = SIZES[1 - SIZES.index(x)]
    lines: dict[str, list[tuple[int, float, float | None]]] = {}
    usual = [*TARGETS.values()]
    for series in sorted({p.series for p in points}, key=lambda s: (usual.index(s) if s in usual else len(usual), s)):
        mine = [p for p in points if p.series == series]
        others = sorted({p.size[other] for p in mine if p.size is not None})
        values: list[int | None] = [*others] or [None]
        for value in values:
            name = f"{series}, {value} {other}" if len(others) > 1 else series
            groups: dict[int, list[_Point]] = {}
            for point in mine:
                if point.size is None or point.size[other] == value:
                    groups.setdefault(0 if point.size is None else point.size[x], []).append(point)
            lines[name] = [(size, *_spread(name, size, x, groups[size], figure)) for size in sorted(groups)]
    return lines


def _spread(name: str, size: int, x: str, points: Sequence[_Point], figure: str) -> tuple[float, float | None]:
    where = f"{name}, {'scratch' if not size else f'{size} {x}'}"
    runs: dict[tuple[int, int], _Point] = {}
    for point in points:
        key = point.split, point.seed
        if key in runs:
            raise ArgumentError(
                f"two evaluations are of {where}, split {key[0]}, seed {key[1]}: {str(runs[key].path)!r} and "
                f"{str(point.path)!r}; give one"
            )
        runs[key] = point
    try:
        result: Summary = summary({key: p.evaluation for key, p in runs.items()})
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    mean = result.mean(figure)
    if mean is None:
        raise ArgumentError(f"{where}: the evaluations have no `{figure}`, as no window was scored")
    return mean, result.deviation(figure)


def _draw_sweep(
    axes: Axes, lines: Mapping[str, Sequence[tuple[int, float, float | None]]], x: str, figure: str
) -> None:
    """Sizes double from tick to tick; 0, which has no logarithm, stands one step before the least of them."""
    sizes = sorted({size for line in lines.values() for size, *_ in line})
    least = math.log2(min((s for s in sizes if s), default=1))

    def place(size: int) -> float:
        return math.log2(size) if size else least - 1

    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        xs, ys = [place(size) for size, *_ in line], [100 * mean for _, mean, _ in line]
        bars = [100 * (spread or 0.0) for *_, spread in line]
        axes.errorbar(
            xs, ys, yerr=bars if any(bars) else None, fmt=MARKERS[i % len(MARKERS)] + "-", color=colour, label=name, ms=5.5,
            capsize=3, elinewidth=1.2, mec="white", mew=0.7,
        )  # fmt: skip
        if line[0][0] == 0 and len(line) > 1:  # how far above scratch a point is
            axes.plot([xs[0], xs[-1]], [ys[0]] * 2, ls=(0, (1, 2)), lw=1.1, color=colour, zorder=1)
    axes.set_xticks([place(size) for size in sizes], [str(size) if size else "0\nscratch" for size in sizes])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(place(sizes[0]) - 0.35, place(sizes[-1]) + 0.35)
    axes.set_xlabel(f"{x}{' of each category' if x == 'instances' else ''} of the initialization, log scale")
    what = {"top1": "top-1", "top5": "top-5", "average": "mean of top-1 and top-5"}[figure.removeprefix("window_")]
    axes.set_ylabel(f"{what} of {'windows' if figure.startswith('window_') else 'videos'}, %")
    if len(lines) > 1:
        _legend(axes)
    else:
        axes.set_title(next(iter(lines)), loc="right", color=COLOURS[0])


# --- what the pictures share


@contextlib.contextmanager
def _canvas(target: Path, columns: int, width: float, height: float) -> Iterator[list[Axes]]:
    """Axes side by side, in inches, of a figure that is written once they are drawn."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingError("curves and sweeps need matplotlib; install it with: pip install 'vpngen[train]'") from None
    kind = target.suffix.lower().removeprefix(".")
    # Without a date or random names the same numbers give the same file.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "vpngen"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
        with replace(target) as partial:
            figure.savefig(partial, format=kind, metadata=dates)


def _paths(name: str, given: Files | Sequence[Files]) -> list[Path]:
    paths = [Path(given)] if isinstance(given, (str, os.PathLike)) else [Path(p) for p in given]
    if not paths:
        raise ArgumentError("is empty; give at least one", name)
    return paths


def _target(out: Files, suffixes: Sequence[str]) -> Path:
    target = Path(out)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(f"must end in one of {', '.join(suffixes)}", "out", str(target))
    if target.is_dir():
        raise ArgumentError("is a folder; give a file in it", "out", str(target))
    return target


def _titles(given: Sequence[str] | None, usual: list[str], of: str) -> list[str]:
    if given is None:
        return usual
    if len(given) != len(usual):
        raise ArgumentError(f"{len(given)} names are given for {len(usual)} `{of}`; give one each")
    return list(given)


def _names(paths: Sequence[Path], always_folder: bool = False) -> list[str]:
    """Short names that tell files apart: their own, or as much of the folders above them as it takes."""
    parts = [p.absolute().parts for p in paths]
    stems = [Path(own[-1]).stem for own in parts]
    if not always_folder and (len(set(stems)) == len(stems) and not re.fullmatch("weights|checkpoint", stems[0])):
        return stems
    folders = [own[:-1] for own in parts]
    for depth in range(1, max(map(len, folders)) + 1):
        names = ["/".join(own[-depth:]) for own in folders]
        if len(set(names)) == len(names):
            return names
    return ["/".join(own) for own in parts]

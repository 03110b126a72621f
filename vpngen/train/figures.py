"""Pictures of training: curves of runs, sweeps over sizes of a set, confused classes.

Curves and sweeps are figures 4 and 3 of Kataoka et al., WACV 2022. Nothing here needs a screen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError, MissingError
from vpngen.files import read, replace
from vpngen.models import MODELS, read_weights
from vpngen.models.base import Network
from vpngen.models.filters import Files, given_paths, picture_file, titles_of
from vpngen.models.selectivity import DIRECTIONS, Selectivity
from vpngen.models.selectivity import selectivity as measure
from vpngen.models.weights import make_with, recognize
from vpngen.spec import Spec
from vpngen.train.evaluation import METRICS, Evaluation, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#2a6f97", "#c8553d", "#e3a72f", "#4b1528", "#b0b4ba", "#34108a", "#6cc0f5", "#8f6fe0")
"""Of lines, in this order. Any two stay apart for people who lack one kind of cones."""
STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True, "axes.grid": True, "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left",
    "axes.prop_cycle": f"cycler(linestyle=['-', '--', ':', '-.']) * cycler(color={list(COLOURS)})",
    "font.size": 9, "grid.color": "#e6e8eb", "legend.edgecolor": "none", "lines.markersize": 2.2, "savefig.dpi": 150,
    "lines.marker": "o",  # a line of one epoch is seen
    "svg.fonttype": "none", "svg.hashsalt": "vpngen",
}  # fmt: skip
PLOTS: Final = (".png", ".svg", ".pdf")

# --- curves

AXES: Final = {
    "train_loss": "training loss", "val_loss": "validation loss", "train_top1": "training top-1", "val_top1": "validation top-1",
    "val_top5": "validation top-5", "lr": "learning rate", "clips_per_second": "clips per second", "data_wait": "waiting for data",
    "seconds": "seconds per epoch",
}  # fmt: skip
"""Column of log.csv -> its words; others are shown under their own names."""
SHARES: Final = ("top1", "top5", "accuracy", "data_wait")
"""Ends of the names of columns that are shown in percent."""

MOST_LOG: Final = 2**22
"""Bytes of log.csv: some 40,000 epochs."""
MOST_COLUMNS: Final = 100

Log = dict[str, npt.NDArray[np.float64]]
"""The table of a run: column -> (epochs,); NaN where nothing was written, and no columns of nothing else."""


def curves(
    runs: Files | Sequence[Files], out: Files, metric: str | None = None, *, labels: Sequence[str] | None = None
) -> None:
    """Draw what runs logged, epoch by epoch; of several the validation accuracy, figure 4 of the paper.

    Args:
        runs: folders with a log.csv, or such files.
        out: ends in .png, .svg or .pdf.
        metric: a column of log.csv; None for `val_top1` of several runs, and of one run for losses, metrics and learning rate
            side by side.
        labels: the name of each run; None for the name of its folder.

    Raises:
        ArgumentError: another suffix, no log, an empty or damaged one, a metric that is not in a log.
        MissingError: matplotlib is not installed, or no space is left.
    """
    paths, target = given_paths("runs", runs), picture_file(out, PLOTS)
    paths = [path / "log.csv" if path.is_dir() or not path.suffix else path for path in paths]
    names = [*map(_plain, titles_of("labels", labels, paths))]
    logs = [_read_log(path) for path in paths]
    if metric is None and len(logs) == 1:
        with _canvas(target, 11.5, 3.4) as figure:
            _draw_run(figure, logs[0], names[0])
        return
    metric = metric or "val_top1"
    with _canvas(target, 6.4, 4.2) as figure:
        axes = figure.subplots()
        for log, path, name in zip(logs, paths, names, strict=True):
            if metric not in log:
                there = ", ".join(list(log)[1:]) or "nothing"
                raise ArgumentError(f"is not in {str(path)!r}, which has {there}", "metric", metric)
            axes.plot(log["epoch"], log[metric], label=name)
        _finish(axes, AXES.get(metric, metric), metric.endswith(SHARES))


def _draw_run(figure: Figure, log: Log, name: str) -> None:
    left, middle, right = figure.subplots(1, 3)
    for column, values in log.items():
        if column.startswith(("train_", "val_")):
            (left if column.endswith("loss") else middle).plot(log["epoch"], values, label=AXES.get(column, column))
    if "lr" in log:
        right.plot(log["epoch"], log["lr"], drawstyle="steps-mid")
        right.set_yscale("log")
        right.yaxis.set_major_formatter("{x:g}")
    _finish(left, "loss", title=name)
    shares = [values for column, values in log.items() if column.startswith("val_") and column.endswith(SHARES)]
    _finish(middle, "metrics", percent=bool(shares), title=f"best: {np.nanmax(shares[0]):.1%}" if shares else "")
    _finish(right, AXES["lr"])


def _finish(axes: Axes, words: str, percent: bool = False, title: str = "") -> None:
    """What all axes of epochs share."""
    axes.set(xlabel="epoch", ylabel=words, title=title)
    axes.locator_params("x", integer=True, min_n_ticks=1)
    if percent:
        axes.yaxis.set_major_formatter("{x:.0%}")
    _legend(axes)


def _legend(axes: Axes, below: bool = False) -> None:
    """Names of the lines, beside them where they are many, or below; none for a single line."""
    names = axes.get_legend_handles_labels()[1]
    if below:
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2, fontsize=8, handlelength=1.2, columnspacing=1
        )
    elif len(names) > 6:
        axes.figure.legend(loc="outside right upper")
    elif len(names) > 1:
        axes.legend()


def _read_log(path: Path) -> Log:
    try:
        lines = read(path, MOST_LOG).decode().splitlines()
        if any(line.count(",") > MOST_COLUMNS for line in lines):
            raise ValueError("it has too many columns")
        table: Any = np.genfromtxt(lines, delimiter=",", names=True, ndmin=1) if len(lines) > 1 else np.empty(0)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{str(path)!r} is no log of a run: {error}; give its folder") from None
    log = {name: np.where(abs(table[name]) < 1e30, table[name], np.nan) for name in table.dtype.names or ()}
    log = {name: values for name, values in log.items() if not np.isnan(values).all()}
    if "epoch" not in log:
        raise ArgumentError(f"{str(path)!r} holds no column `epoch`, or no epoch yet; give the folder of a run")
    return log


# --- sweeps and confusion

TARGETS: Final = {"ucf101": "UCF-101", "hmdb51": "HMDB-51", "activitynet": "ActivityNet", "kinetics": "Kinetics"}
SIZES: Final = ("categories", "instances")


class _Point(NamedTuple):
    """One evaluation, and where it belongs in a sweep."""

    path: Path
    evaluation: Evaluation
    series: str
    size: Mapping[str, int]  # of the set it was initialized from; empty for scratch
    run: tuple[int, int]  # split and seed


def sweep(
    points: Files | Sequence[Files], out: Files, *, x: str = "categories", series: str = "target", metric: str = "top1"
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
        metric: one of those of an evaluation: `top1`, `top5`, `average`, and of single windows `window_top1` and so on.

    Raises:
        ArgumentError: another suffix, no evaluation, two of the same point, split and seed, a split that a seed lacks.
        MissingError: matplotlib is not installed, or no space is left.
    """
    checks.one_of("x", x, SIZES)
    checks.one_of("series", series, ("target", "model"))
    checks.one_of("metric", metric, METRICS)
    target = picture_file(out, PLOTS)
    found = _points(given_paths("points", points), series)
    other = SIZES[1 - SIZES.index(x)]
    with _canvas(target, 6.4, 4.2) as figure:
        axes = figure.subplots()
        sizes = sorted({p.size.get(x, 0) for p in found})
        # Sizes double from step to step; 0 stands one step before the least of them.
        least = next(filter(None, sizes), 1)
        axes.set_xscale("symlog", base=2, linthresh=least, linscale=0.5)
        axes.set_xticks(sizes, [str(size) if size else "0\nscratch" for size in sizes])
        axes.minorticks_off()
        size = f"{x}{' of each category' if x == 'instances' else ''} of the initialization, log scale"
        what = {"top1": "top-1", "top5": "top-5", "average": "mean of top-1 and top-5"}[metric.removeprefix("window_")]
        axes.set(xlabel=size, ylabel=f"{what} of {'windows' if metric.startswith('window_') else 'videos'}")
        axes.yaxis.set_major_formatter("{x:.0%}")
        for name in sorted({p.series for p in found}):
            mine = [p for p in found if p.series == name]
            others = sorted({p.size[other] for p in mine if p.size})
            for value in others or [0]:
                label = f"{name}, {value} {other}" if len(others) > 1 else name
                _draw_line(axes, _plain(label), [p for p in mine if p.size.get(other, value) == value], x, metric)
        _legend(axes)


def _points(paths: Sequence[Path], series: str) -> list[_Point]:
    """The evaluations that `paths` are or hold."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("evaluation.json")) if path.is_dir() else [path]
        if not inside:
            raise ArgumentError(f"{str(path)!r} holds no evaluation.json; `vpngen finetune` writes one")
        files |= dict.fromkeys(inside)
    found = []
    for path in files:
        evaluation = Evaluation.load(path)
        about = evaluation.metadata
        videos = about.get("source") or {}
        kind = str(videos.get("kind", "videos"))
        name = TARGETS.get(kind, kind) if series == "target" else str((about.get("model") or {}).get("name", "model"))
        run = int(videos.get("split") or 1), int(about.get("seed") or 0)
        found.append(_Point(path, evaluation, name, _size(about), run))
    return found


def _size(metadata: Mapping[str, Any] | None) -> Mapping[str, int]:
    """How large the set was that the weights, or those they come from, were initialized from; nothing for scratch."""
    while metadata:
        fields = (metadata.get("source") or {}).get("spec")
        if fields is not None:
            spec = Spec.from_dict(fields)
            return {"categories": spec.n_categories, "instances": spec.instances}
        metadata = metadata.get("parent")
    return {}


def _draw_line(axes: Axes, name: str, points: Sequence[_Point], x: str, metric: str) -> None:
    """A line of a sweep: mean and std at each size; dotted, the height of scratch."""
    groups: dict[int, dict[tuple[int, int], _Point]] = {}
    for point in points:
        size = point.size.get(x, 0)
        if (twin := groups.setdefault(size, {}).setdefault(point.run, point)) is not point:
            what = f"{name}, {size or 'no'} {x}, split {point.run[0]}, seed {point.run[1]}"
            raise ArgumentError(f"two evaluations are of {what}: {str(twin.path)!r} and {str(point.path)!r}; give one")
    means, stds = [], []
    for size, group in sorted(groups.items()):
        try:
            found = Summary({run: point.evaluation for run, point in group.items()})
            if (mean := found.mean(metric)) is None:
                raise ArgumentError("is of no window that was scored", "metric", metric)
        except ArgumentError as error:
            raise ArgumentError(f"{name}, {size or 'no'} {x}: {error}") from None
        means.append(mean)
        stds.append(found.std(metric) or 0.0)
    drawn = axes.errorbar(sorted(groups), means, yerr=stds if any(stds) else None, label=name, capsize=3, markersize=5)
    if 0 in groups and len(groups) > 1:
        axes.axhline(means[0], linestyle=":", linewidth=1, marker="", color=drawn.lines[0].get_color(), zorder=1)


def confusion(evaluation: Files, out: Files) -> None:
    """Draw how often the videos of a class, the row, were given a class, the column, as a share of the row.

    Args:
        evaluation: an evaluation.json file, or the folder of a run.
        out: ends in .png, .svg or .pdf.

    Raises:
        ArgumentError: another suffix, or no evaluation.
        MissingError: matplotlib is not installed, or no space is left.
    """
    path, target = Path(evaluation), picture_file(out, PLOTS)
    found = Evaluation.load(path / "evaluation.json" if path.is_dir() else path)
    table, count = found.confusion, len(found.classes)
    side = min(4 + 0.18 * count, 14)
    with _canvas(target, side + 1, side) as figure:
        axes = figure.subplots()
        drawn = axes.imshow(table / np.maximum(table.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(drawn, label="share of the videos of a class", shrink=0.8)
        axes.grid(visible=False)
        if count <= 60:
            axes.set_xticks(range(count), map(_plain, found.classes), rotation=90)
            axes.set_yticks(range(count), map(_plain, found.classes))
        axes.set(xlabel="predicted class", ylabel="class")


def selectivity(
    weights: Files | Sequence[Files], out: Files, *, titles: Sequence[str] | None = None, layers: Sequence[str] | None = None,
    directions: int = DIRECTIONS, clip: Shape | None = None, progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw how selective the units of networks are for orientation and direction: see `vpngen.models.selectivity`.

    A row for each layer: the share of its units whose index is at least so large, for orientation and for direction, and how many
    units prefer each direction.

    Args:
        weights: files, see `vpngen.models.read_weights`; of networks that vpngen has.
        out: ends in .png, .svg or .pdf.
        titles: the name of each; None for names of their files or folders.
        layers: names of layers; None for the first convolution.
        directions: how many, a multiple of 4.
        clip: (t, y, x) of the gratings.
        progress: called with (networks done, networks).

    Returns:
        The numbers, as JSON has them: title -> layers, see `Selectivity.to_dict`.

    Raises:
        ArgumentError: another suffix, a network that is not one of vpngen's, no such layer.
        ConflictError: a damaged file, or one that holds no weights.
        MissingError: matplotlib is not installed, or no space is left.
    """
    paths, target = given_paths("weights", weights), picture_file(out, PLOTS)
    names = titles_of("titles", titles, paths)
    found: dict[str, list[Selectivity]] = {}
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        if progress is not None:
            progress(number, len(paths))
        made = recognize(*read_weights(path))
        if made is None or made["name"] not in MODELS:
            raise ArgumentError(
                "are of no network of vpngen, so that it is not known how clips go through it", "weights", str(path)
            )
        network = make_with(
            made["name"],
            made["num_classes"] or 1,
            made["options"],
            path,
            head="keep" if made["num_classes"] else "replace",
        )
        chosen = layers if layers is not None else [network.stem] if isinstance(network, Network) else None
        found[name] = measure(network, chosen, directions=directions, clip=clip)
    rows = max(map(len, found.values()))
    with _canvas(target, 10.5, 0.5 + 2.9 * rows) as figure:
        grid = figure.add_gridspec(rows, 3)
        for row in range(rows):
            of_row = {name: layers[row] for name, layers in found.items() if row < len(layers)}
            where = ", ".join(dict.fromkeys(one.layer for one in of_row.values()))
            for column, (index, words) in enumerate(INDICES.items()):
                axes = figure.add_subplot(grid[row, column])
                for name, one in of_row.items():
                    values = np.sort(vars(one)[index][~np.isnan(vars(one)[index])])
                    label = (
                        f"{_plain(name)}: median {np.median(values):.2f}" if len(values) else f"{_plain(name)}: silent"
                    )
                    axes.plot(values, 1 - np.arange(len(values)) / max(len(values), 1), label=label, marker="")
                axes.set(
                    xlabel=words, ylabel="share of units at or above", xlim=(0, 1), ylim=(0, 1.02), title=_plain(where)
                )
                _legend(axes, below=len(of_row) > 3)  # lines that fall from 1 to 0 leave room for a few
            axes = figure.add_subplot(grid[row, 2], projection="polar")
            for name, one in of_row.items():
                loud = one.direction[~np.isnan(one.dsi)]
                turns = np.arange(directions + 1) / directions
                share = [(loud == 360 * turn % 360).mean() if len(loud) else 0.0 for turn in turns]
                axes.plot(2 * np.pi * turns, share, label=_plain(name), marker="")
            axes.set(title="preferred directions", yticklabels=[])
    return {name: [one.to_dict() for one in layers] for name, layers in found.items()}


INDICES: Final = {"osi": "orientation selectivity index", "dsi": "direction selectivity index"}
"""What is drawn of `Selectivity`, with its words."""

# --- what the pictures share


def _plain(name: str) -> str:
    """A name as text: to matplotlib dollars begin mathematics, and an underscore at its beginning hides it."""
    return name.replace("$", r"\$").replace("_", " _", name[:1] == "_")


@contextlib.contextmanager
def _canvas(target: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure, in inches, that is written once it is drawn."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingError("curves and sweeps need matplotlib; install it with: pip install 'vpngen[train]'") from None
    kind = target.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})  # the same numbers, the same file
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what a matplotlibrc in the current folder says
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replace(target) as partial:
            figure.savefig(partial, format=kind, metadata=undated)

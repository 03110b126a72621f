"""How well a network classifies videos: the scores of all windows of each, averaged; tables over splits and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vpngen import checks
from vpngen.datasets import VideoSet
from vpngen.datasets.clips import DAMAGED, WindowLoader
from vpngen.datasets.sets import labelled
from vpngen.datasets.workers import lost_worker
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.files import parse_json, read, write_json
from vpngen.models.initial import placed
from vpngen.models.metadata import Every, check, check_about, within
from vpngen.stream.tensors import renormalised
from vpngen.stream.waiting import asking
from vpngen.train import ranks
from vpngen.train.fitting import PRECISIONS, bfloat16, normalised

FORM: Final = 1
SHOWN: Final = 5
"""Classes that are kept for each video, and the k of top-k."""
METRICS: Final = ("top1", "top5", "average", "window_top1", "window_top5", "window_average")
MOST_CLASSES: Final = 2**12
"""Of an evaluation that is read: what is computed of it takes their square."""
COUNT: Final = within(0, 2**40)
FIELDS: Final[dict[str, Any]] = {
    "classes": lambda classes: len(classes) <= MOST_CLASSES and all(isinstance(name, str) and len(name) <= 200 and name.isprintable() for name in classes),
    "videos": Every({"windows": COUNT, "top": [(list, tuple)], "rank": COUNT, "problem": str}),
    "windows": [COUNT], "short": [str],
}  # fmt: skip
NO_WINDOW: Final = "gave no window"

Shares = tuple[float, float, float]
"""(top-1, top-5, the mean of both), in [0, 1]."""


@dataclass(frozen=True)
class Outcome:
    """The result of a video.

    Attributes:
        label: the number of its class.
        windows: how many were scored; 0 where it could not be read.
        top: (class, mean score) of the best `SHOWN` classes, the best first.
        rank: how many classes come before its own, see `ranks_of`; None where it could not be read.
        problem: why it, or a part of it, could not be read.
    """

    label: int
    windows: int
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of a network on a set of videos. All but the attributes is computed from them.

    A video that gave no window counts as wrong; `read` holds the shares without those. One that is damaged in places is scored
    by the windows that it gave.

    Attributes:
        classes: names, in the order of the labels.
        videos: id -> result, in the order of the set.
        windows: (scored, right, right among the best `k`) over all videos.
        short: ids of videos that were looped, as they are shorter than a window.
        metadata: JSON that says where this comes from: the metadata of the weights, and under `source` the videos.
    """

    classes: tuple[str, ...]
    videos: Mapping[str, Outcome] = field(repr=False)
    windows: tuple[int, int, int]
    short: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def k(self) -> int:
        """The k of what is called top-5: fewer where there are fewer classes."""
        return min(SHOWN, len(self.classes))

    @property
    def unreadable(self) -> dict[str, str]:
        """id -> why it could not be read."""
        return {name: v.problem or NO_WINDOW for name, v in self.videos.items() if not v.windows}

    @property
    def damaged(self) -> dict[str, str]:
        """id -> what of it could not be read, of those that were scored by the rest."""
        problems = {name: v.problem for name, v in self.videos.items() if v.windows}
        return {name: why.removeprefix(DAMAGED) for name, why in problems.items() if why is not None}

    @property
    def all(self) -> Shares:
        """The shares of all videos."""
        return self._shares(len(self.videos))

    @property
    def read(self) -> Shares | None:
        """The shares of the videos that could be read; None where none could."""
        count = len(self.videos) - len(self.unreadable)
        return self._shares(count) if count else None

    @property
    def by_window(self) -> Shares | None:
        """The shares of single windows, none of them weighted; None where there are none."""
        scored, first, among = self.windows
        return (first / scored, among / scored, (first / scored + among / scored) / 2) if scored else None

    def _shares(self, count: int) -> Shares:
        found = [v.rank for v in self.videos.values() if v.rank is not None]
        first, among = sum(r == 0 for r in found) / count, sum(r < self.k for r in found) / count
        return first, among, (first + among) / 2

    @property
    def metrics(self) -> dict[str, float | None]:
        """`METRICS` by name, in [0, 1]; None for those of windows where there are none."""
        return dict(zip(METRICS, (*self.all, *(self.by_window or (None,) * 3)), strict=True))

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """How often the videos of a class, the row, were given a class, the column: (classes, classes), of those read."""
        table = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for video in self.videos.values():
            if video.windows:
                table[video.label, video.top[0][0]] += 1
        return table

    def results(self) -> dict[str, Any]:
        """What 3D-ResNets-PyTorch writes after inference, and its eval_accuracy.py reads.

        Videos that could not be read are left out: there they count as wrong, or not at all with its `--ignore`. The ids of
        UCF-101, HMDB-51 and Kinetics, known from `metadata`, are those of its converters: the names of the files. Segments of
        a video keep theirs, <id>/0, <id>/1, ..., as it has nothing equal: it scores ActivityNet on whole videos.

        Raises:
            ArgumentError: it has one id for two of the videos.
        """
        kind = (self.metadata.get("source") or {}).get("kind")
        owners: dict[str, str] = {}
        for name, video in self.videos.items():
            theirs = name.removeprefix(f"{self.classes[video.label]}/") if kind in ("hmdb51", "kinetics") else name
            theirs = theirs.split(".")[0] if kind in ("ucf101", "hmdb51") else theirs  # as its converters do
            if (other := owners.setdefault(theirs, name)) != name:
                why = f"3D-ResNets-PyTorch calls both {theirs!r}; use the metrics of vpngen"
                raise ArgumentError(f"cannot tell the videos {other!r} and {name!r} apart: {why}", "results")
        found = {
            theirs: [{"label": self.classes[c], "score": score} for c, score in self.videos[name].top]
            for theirs, name in owners.items()
            if self.videos[name].windows
        }
        return {"results": found}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `from_dict` takes back; `metrics` are for other readers."""
        counts = {
            "k": self.k, "videos": len(self.videos), "unreadable": len(self.unreadable), "damaged": len(self.damaged),
            "windows": self.windows[0], "read": self.read and dict(zip(METRICS[:3], self.read, strict=True)),
        }  # fmt: skip
        return {"format": FORM, "metrics": {**self.metrics, **counts}, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ArgumentError where the fields are not those of an evaluation."""
        if not isinstance(fields, Mapping) or fields.get("format") != FORM:
            raise ArgumentError(f"these are not the fields of an evaluation of form {FORM}: {str(fields)[:100]}")
        try:
            check_about(fields["metadata"])
            check(fields, FIELDS, "")
            classes, videos = tuple(fields["classes"]), {}
            label = within(0, len(classes) - 1)
            for name, video in fields["videos"].items():
                pair = {"label": label, "top": [lambda pair: len(pair) == 2 and label(pair[0])]}
                check(video, pair, f"videos.{name}")
                top = tuple((int(c), float(score)) for c, score in video["top"])
                videos[name] = Outcome(**{**video, "top": top})
                if bool(top) != bool(videos[name].windows):
                    raise ValueError(f"`videos.{name}.top` is not of its `windows`")
            scored, first, among = fields["windows"]
            return cls(classes, videos, (scored, first, among), tuple(fields["short"]), fields["metadata"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"the evaluation is damaged: {type(error).__name__}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Write `to_dict` as JSON; what exists is replaced once all is written. Raises MissingError for a full disk."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The evaluation that `write` wrote. Raises ArgumentError where there is none."""
        try:
            return cls.from_dict(parse_json(read(path)))
        except RecursionError:
            raise ArgumentError(f"{str(path)!r} is no evaluation: it has too many levels") from None
        except (OSError, ValueError) as error:  # ArgumentError is a ValueError as well
            raise ArgumentError(f"{str(path)!r} is no evaluation: {error}") from None


def score(
    model: nn.Module,
    windows: WindowLoader,
    *,
    device: str | torch.device,
    mean: Sequence[float],
    std: Sequence[float],
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score videos by the mean, over their windows, of the softmax of the logits.

    Ranks of torch.distributed take `windows` of their own, every window of a video once over all of them, and each returns
    the whole. They need not have equally many.

    Args:
        model: gives logits (N, classes) for clips (N, 3, T, H, W); put on `device` and left in the mode it was in.
        windows: of the videos. One that gave a window is scored, and listed as damaged if `failures` of the loader names it;
            one that gave none is unreadable, named there or not.
        device: `auto` for a GPU if there is one.
        mean: of red, green and blue in [0, 1]: the network sees (x / 255 - mean) / std.
        std: likewise.
        precision: `bf16`, `fp32`, or `auto`: bf16 on a GPU that has it. Scores are float32 all the same.
        progress: called with the videos of this rank that were scored, and about how many it has; also while it waits.
        metadata: kept with the metrics, as JSON.

    Raises:
        ArgumentError: no videos, or an unknown precision.
        ConflictError: videos without labels.
        MissingError: no such device, or no memory on it for a batch.
        RunError: scores that are not finite, here or on another rank, or another rank that is gone.

    The mean is that of Hara et al., CVPR 2018, section 3.3, "Recognition", the softmax that of 3D-ResNets-PyTorch.
    """
    videos = windows.videos
    sums = _Sums(videos, ranks.choose_device(device))
    levels = {"mean": mean, "std": std}
    failures, looped = shown_to(
        model, windows, sums.add, sums.check, device=device, **levels, precision=precision, progress=progress
    )
    with ranks.listening():
        outcomes, hits = sums.outcomes(failures)
    shorter = tuple(name for name in outcomes if name in looped)
    return Evaluation(videos.classes, outcomes, hits, shorter, dict(metadata or {}))


def shown_to(
    model: nn.Module,
    windows: WindowLoader,
    take: Callable[[Tensor, Tensor], object],
    check: Callable[[], object],
    *,
    device: str | torch.device,
    mean: Sequence[float],
    std: Sequence[float],
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, str], set[str]]:
    """Show all windows to a network that does not learn; each rank of torch.distributed shows its own.

    `take` gets what the network gives for a batch, on the device, and int64 (n,) on the host, which video of the set each is of.
    `check` is called in the end; what it raises, as all else that fails, is raised here, and the other ranks learn of it. The other
    arguments, and errors, are those of `score`.

    Returns:
        `failures` and `short` of the loaders of all ranks.
    """
    checks.one_of("precision", precision, PRECISIONS)
    if not windows.videos.videos:
        raise ArgumentError("holds no videos", "windows")
    labelled(windows.videos)
    where = ranks.choose_device(device)
    bf16 = bfloat16(where) if precision == "auto" else precision == "bf16"
    failure: Exception | None = None
    try:
        _show(model, windows, take, where, (tuple(mean), tuple(std)), bf16, progress)
        check()
    except torch.OutOfMemoryError as error:
        why = f"give a smaller batch: {str(error).splitlines()[0]}"
        failure = MissingError(f"the GPU has too little memory for so many windows; {why}")
    except Exception as error:
        failure = lost_worker(error) or error
    try:
        # A rank that fails must say so: the others would wait for what it has.
        message = failure and f"{type(failure).__name__}: {failure}"
        with ranks.listening():
            found = ranks.gathered((message, windows.failures, windows.short))
        if failure is not None:
            raise failure
    finally:
        failure = None  # else it and this frame hold each other, and the workers of `windows`
    for rank, (message, *_) in enumerate(found):
        if message is not None:
            raise RunError(f"rank {rank} failed: {message}")
    failures = {name: why for _, some, _ in found for name, why in some.items()}
    return failures, set().union(*(short for *_, short in found))


def _show(
    model: nn.Module, windows: WindowLoader, take: Callable[[Tensor, Tensor], object], device: torch.device,
    levels: tuple[tuple[float, ...], tuple[float, ...]], bf16: bool, progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    if isinstance(model, DistributedDataParallel):
        model = model.module  # whose forward waits for no other rank, which may have no window
    modes = {module: module.training for module in model.modules()}
    seen: set[int] = set()
    count = -(-len(windows.videos.videos) // ranks.world()[1])
    tell: Callable[[], object] = lambda: progress and progress(min(len(seen), count), count)  # noqa: E731
    try:
        placed(model, device).eval()
        with torch.inference_mode(), asking(tell):
            for clips, numbers in windows:
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    outputs = model(normalised(clips, device, *levels))
                take(outputs, numbers)
                seen.update(numbers.tolist())
                tell()
    finally:
        for module, training in modes.items():
            module.training = training


class Ensemble(nn.Module):
    """Several networks as one: the logarithm of the mean of the softmax of their logits, so that `score` takes that mean.

    What Kim et al., AAAI 2019, call a score ensemble, of networks of puzzles in space and in time; how they average is open.

    Args:
        networks: each from clips to logits of the same classes.
        levels: mean and std of the clips of each; all are shown clips of the first.
    """

    def __init__(
        self, networks: Sequence[nn.Module], levels: Sequence[tuple[Sequence[float], Sequence[float]]]
    ) -> None:
        super().__init__()
        self.networks, self.levels = nn.ModuleList(networks), tuple(levels)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) to the logarithms (N, classes)."""
        each = [
            network(renormalised(clips, self.levels[0], wanted)).float().log_softmax(1)
            for network, wanted in zip(self.networks, self.levels, strict=True)
        ]
        return torch.stack(each).logsumexp(0) - math.log(len(each))


def ranks_of(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the right one: those with a higher score, and of equal ones those with a lower number.

    So a network that scores all classes alike gives the first, and gets no credit for a tie.

    Args:
        scores: (N, classes).
        labels: int64 (N,).

    Returns:
        int64 (N,), 0 where the right class comes first.
    """
    right = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > right) | ((scores == right) & before)).sum(1)


def check_finite(rows: Tensor, names: Sequence[str], what: str) -> None:
    """Raises RunError for the first of the rows (N, M), each of the video of that name, that is not finite."""
    good = rows.isfinite().all(1).tolist()
    if not all(good):
        why = "its training has diverged, its weights are damaged, or bf16 is too coarse for it (`precision`)"
        name = names[good.index(False)]
        raise RunError(f"the network gives {what} that are not finite for a window of video {name!r}; {why}")


class _Sums:
    """Sums of scores on the device: one row for a video, however many windows it has."""

    def __init__(self, videos: VideoSet, device: torch.device) -> None:
        self.names = [video.id for video in videos.videos]
        self.labels = torch.tensor([video.label for video in videos.videos], device=device)
        # In double precision, so that the order of the windows does not matter.
        self.scores = torch.zeros(len(self.names), len(videos.classes), dtype=torch.float64, device=device)
        self.counts = torch.zeros_like(self.labels)
        self.hits = self.labels.new_zeros(3)

    def add(self, logits: Tensor, numbers: Tensor) -> None:
        """Those of some windows, of these videos."""
        scores, rows = logits.float().softmax(1), numbers.to(self.labels.device, non_blocking=True)
        self.scores.index_add_(0, rows, scores.double())
        self.counts.index_add_(0, rows, torch.ones_like(rows))
        found = ranks_of(scores, self.labels[rows])
        among = (found < min(SHOWN, scores.shape[1])).sum()
        self.hits += torch.stack([among.new_tensor(len(found)), (found == 0).sum(), among])

    def check(self) -> None:
        """Raises RunError for scores that are not finite."""
        check_finite(self.scores, self.names, "scores")

    def outcomes(self, problems: Mapping[str, str]) -> tuple[dict[str, Outcome], tuple[int, int, int]]:
        """The result of each video, and the `windows` of an evaluation, over all ranks."""
        for values in (self.scores, self.counts, self.hits):
            ranks.total(values)
        means = self.scores / self.counts.clamp(min=1)[:, None]
        best = means.sort(dim=1, descending=True, stable=True)  # of equal scores the lower class first
        places, classes, scores = ranks_of(means, self.labels), best.indices[:, :SHOWN], best.values[:, :SHOWN]
        columns = (values.tolist() for values in (self.labels, self.counts, places, classes, scores))
        made = {}
        for name, label, count, place, *top in zip(self.names, *columns, strict=True):
            made[name] = Outcome(label, 0, problem=problems.get(name, NO_WINDOW))
            if count:
                made[name] = Outcome(label, count, tuple(zip(*top, strict=True)), place, problems.get(name))
        scored, first, among = self.hits.tolist()
        return made, (scored, first, among)


# --- over splits and seeds


@dataclass(frozen=True)
class Summary:
    """Metrics over splits and seeds: for each seed the mean over the splits; of these the mean and the std.

    Attributes:
        evaluations: (split, seed) -> evaluation, one of each split with each seed.

    Raises:
        ArgumentError: no evaluations, other classes in one than in another, or a split that a seed lacks, without which the
            means could not be compared.
    """

    evaluations: Mapping[tuple[int, int], Evaluation]

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ArgumentError("is empty; give at least one", "evaluations")
        first = next(iter(self.evaluations.values())).classes
        for seed, split in itertools.product(self.seeds, self.splits):
            if (one := self.evaluations.get((split, seed))) is None:
                why = f"a mean over splits needs the same ones for every seed: {', '.join(map(str, self.splits))}"
                raise ArgumentError(f"lacks split {split} of seed {seed}; {why}", "evaluations")
            if one.classes != first:
                why = f"{len(first)} in one, {len(one.classes)} in that of split {split}, seed {seed}"
                raise ArgumentError(f"are of different classes: {why}; give those of one set", "evaluations")

    @property
    def splits(self) -> list[int]:
        """In rising order."""
        return sorted({split for split, _ in self.evaluations})

    @property
    def seeds(self) -> list[int]:
        """In rising order."""
        return sorted({seed for _, seed in self.evaluations})

    @property
    def k(self) -> int:
        """The k of what is called top-5."""
        return next(iter(self.evaluations.values())).k

    def table(self, metric: str) -> npt.NDArray[np.float64]:
        """A metric of all evaluations: (seeds, splits), NaN where one lacks it."""
        return np.array([[self.evaluations[p, n].metrics[metric] for p in self.splits] for n in self.seeds], float)

    def mean(self, metric: str) -> float | None:
        """The mean of a metric; None where an evaluation lacks it."""
        found = float(self.table(metric).mean())
        return None if math.isnan(found) else found

    def std(self, metric: str) -> float | None:
        """The sample standard deviation (n - 1) over the seeds, of means over the splits; None for one seed, which has none."""
        if len(self.seeds) < 2 or self.mean(metric) is None:
            return None
        return float(self.table(metric).mean(1).std(ddof=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        seen = [
            {"split": split, "seed": seed, **one.metrics, "unreadable": len(one.unreadable)}
            for (split, seed), one in sorted(self.evaluations.items())
        ]
        metrics = {m: {"mean": self.mean(m), "std": self.std(m), "n": len(self.seeds)} for m in METRICS}
        return {"splits": self.splits, "seeds": self.seeds, "k": self.k, "metrics": metrics, "runs": seen}

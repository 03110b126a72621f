"""How well a network names videos: the scores of all windows of each, averaged; tables over splits and seeds."""

from __future__ import annotations

import json
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vpngen.datasets.clips import DAMAGED
from vpngen.datasets.workers import lost_worker
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.files import write_json
from vpngen.train import ranks
from vpngen.train.fitting import normalised, placed

FORM: Final = 1
SHOWN: Final = 5
"""Classes that are kept for each video, and the k of top-k."""
FIGURES: Final = ("top1", "top5", "average", "window_top1", "window_top5", "window_average")
NO_WINDOW: Final = "gave no window"

Scores = npt.NDArray[np.float64]
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        label: the number of its class.
        windows: how many were scored.
        top: (class, mean score) of the best `SHOWN` classes, the best first; empty where it could not be read.
        rank: how many classes come before its own, see `ranks_of`; None where it could not be read.
        fault: why it could not be read.
        note: what of it could not be read, where the rest gave the windows.
    """

    label: int
    windows: int
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None
    fault: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of a network on a set of videos. Everything but the attributes is reckoned from them.

    A video that gave no window counts as wrong; `read` holds the shares without those. One that is damaged in places is scored
    by the windows that it gave.

    Attributes:
        classes: names, in the order of the labels.
        videos: id -> what became of it, in the order of the set.
        windows: (scored, right, right among the best `k`) over all videos.
        short: ids of videos that were looped, as they are shorter than a window.
        metadata: whatever JSON says where this comes from: that of the weights, and under `source` the videos.
    """

    classes: tuple[str, ...]
    videos: Mapping[str, Outcome]
    windows: tuple[int, int, int]
    short: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    # --- figures

    @property
    def k(self) -> int:
        """The k of what is called top-5: fewer where there are fewer classes."""
        return min(SHOWN, len(self.classes))

    @property
    def broken(self) -> dict[str, str]:
        """id -> why it could not be read."""
        return {name: v.fault for name, v in self.videos.items() if v.fault is not None}

    @property
    def damaged(self) -> dict[str, str]:
        """id -> what of it could not be read, of those that were scored by the rest."""
        return {name: v.note for name, v in self.videos.items() if v.note is not None}

    @property
    def all(self) -> Shares:
        """(top-1, top-5, the mean of both) of all videos, in [0, 1]."""
        return self._shares(len(self.videos))

    @property
    def read(self) -> Shares | None:
        """The same of the videos that could be read; None where none could."""
        count = len(self.videos) - len(self.broken)
        return self._shares(count) if count else None

    @property
    def by_window(self) -> Shares | None:
        """The same of single windows, none of them weighed; None where there are none."""
        scored, first, among = self.windows
        return _with_mean(first / scored, among / scored) if scored else None

    def _shares(self, count: int) -> Shares:
        found = [v.rank for v in self.videos.values() if v.rank is not None]
        return _with_mean(sum(r == 0 for r in found) / count, sum(r < self.k for r in found) / count)

    @property
    def figures(self) -> dict[str, float | None]:
        """`FIGURES` by name, in [0, 1]; None for those of windows where there are none."""
        windows = self.by_window or (None, None, None)
        return dict(zip(FIGURES, (*self.all, *windows), strict=True))

    @property
    def by_class(self) -> dict[str, dict[str, Any]]:
        """Class -> `videos`, how many of them are `broken`, and `top1`, a share of all of them; None where there are none."""
        found: dict[str, dict[str, Any]] = {name: {"videos": 0, "broken": 0, "top1": 0.0} for name in self.classes}
        for video in self.videos.values():
            row = found[self.classes[video.label]]
            row["videos"] += 1
            row["broken"] += video.fault is not None
            row["top1"] += video.rank == 0
        for row in found.values():
            row["top1"] = row["top1"] / row["videos"] if row["videos"] else None
        return found

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """How often the videos of a class, the row, were given a class, the column: (classes, classes), of those read."""
        table = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for video in self.videos.values():
            if video.rank is not None:
                table[video.label, video.top[0][0]] += 1
        return table

    @property
    def predictions(self) -> dict[str, dict[str, Any]]:
        """id -> its class as `label`, and as `top` the best classes with their mean scores; of the videos that were read."""
        return {
            name: {
                "label": self.classes[video.label],
                "top": [{"label": self.classes[c], "score": score} for c, score in video.top],
            }
            for name, video in self.videos.items()
            if video.rank is not None
        }

    # --- files

    def results(self) -> dict[str, Any]:
        """What 3D-ResNets-PyTorch writes after inference, and its eval_accuracy.py reads.

        Videos that could not be read are left out: they count as wrong there, or not at all with its `--ignore`. The ids of
        UCF-101, HMDB-51 and Kinetics, told by `metadata`, are those of its converters: the names of the files. Segments of a
        video keep theirs, <id>/0, <id>/1, ..., as there is no such thing to be equal to: it scores ActivityNet on whole films.

        Raises:
            ArgumentError: it has one id for two of the videos.
        """
        source = self.metadata.get("source")
        kind = source.get("kind") if isinstance(source, Mapping) else None
        owners: dict[str, str] = {}
        named = {}
        predictions = self.predictions
        for name, video in self.videos.items():
            known = name.removeprefix(f"{self.classes[video.label]}/") if kind in ("hmdb51", "kinetics") else name
            if kind in ("ucf101", "hmdb51"):
                known = known.split(".")[0]  # as they do
            if (other := owners.setdefault(known, name)) != name:
                raise ArgumentError(
                    f"cannot tell the videos {other!r} and {name!r} apart: 3D-ResNets-PyTorch calls both {known!r}; "
                    f"take the figures of vpngen",
                    "results",
                )
            if name in predictions:
                named[known] = predictions[name]["top"]
        return {"results": named}

    def write_results(self, path: str | Path) -> None:
        """Write `results` as JSON; what exists is replaced once all is written. Raises MissingError for a full disk."""
        write_json(Path(path), self.results())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `from_dict` takes back; `figures`, `classes` and `confusion` are for other readers."""
        names = self.classes
        confusion = {
            names[row]: {names[int(c)]: int(counts[c]) for c in np.flatnonzero(counts)}
            for row, counts in enumerate(self.confusion)
            if counts.any()
        }
        read = self.read
        return {
            "format": FORM,
            "figures": {
                **self.figures, "k": self.k, "videos": len(self.videos), "broken": len(self.broken),
                "damaged": len(self.damaged), "windows": self.windows[0],
                "read": None if read is None else dict(zip(FIGURES[:3], read, strict=True)),
            },
            "metadata": dict(self.metadata),
            "window_hits": list(self.windows),
            "short": list(self.short),
            "broken": self.broken,
            "damaged": self.damaged,
            "classes": self.by_class,
            "confusion": confusion,
            "videos": {
                name: {
                    "label": names[v.label], "windows": v.windows, "rank": v.rank,
                    "top": [{"label": names[c], "score": score} for c, score in v.top],
                }
                for name, v in self.videos.items()
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ArgumentError where the fields are not those of an evaluation."""
        if not isinstance(fields, Mapping) or "window_hits" not in fields:
            raise ArgumentError(f"these are not the fields of an evaluation: {str(fields)[:100]}")
        if fields.get("format") != FORM:
            raise ArgumentError(
                f"the evaluation is of form {fields.get('format')!r}, which this vpngen does not know; upgrade with: "
                f"pip install --upgrade vpngen"
            )
        try:
            classes = tuple(fields["classes"])
            number = {name: i for i, name in enumerate(classes)}
            videos = {
                name: Outcome(
                    number[v["label"]], v["windows"], tuple((number[t["label"]], float(t["score"])) for t in v["top"]),
                    v["rank"], fields["broken"].get(name), fields["damaged"].get(name),
                )
                for name, v in fields["videos"].items()
            }  # fmt: skip
            scored, first, among = fields["window_hits"]
            return cls(classes, videos, (scored, first, among), tuple(fields["short"]), fields["metadata"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"the evaluation is damaged: {type(error).__name__}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Write `to_dict` as JSON; what exists is replaced once all is written. Raises MissingError for a full disk."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The evaluation that `write` wrote. Raises ArgumentError where there is none."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise ArgumentError(f"{str(path)!r} cannot be read: {error.strerror}") from None
        except ValueError as error:  # ArgumentError is one as well
            raise ArgumentError(f"{str(path)!r} is no evaluation: {error}") from None

    # --- text

    def text(self) -> str:
        """The figures as a table, in percent, and what there is to say about single videos."""
        rows = [("%", "top-1", f"top-{self.k}", "average", "of")]
        counted = f"{len(self.videos):,}"
        rows.append(("videos", *_percents(self.all), counted))
        broken = self.broken
        if broken:
            rows.append(("videos read", *_percents(self.read), f"{len(self.videos) - len(broken):,}"))
        rows.append(("windows", *_percents(self.by_window), f"{self.windows[0]:,}"))
        lines = [aligned(rows)]
        if broken:
            lines.append(f"{_videos(len(broken))} of {counted} could not be read and count as wrong:")
            lines += _some(broken)
        if damaged := self.damaged:
            verbs = ("is", "was") if len(damaged) == 1 else ("are", "were")
            lines.append(
                f"{_videos(len(damaged))} {verbs[0]} damaged in places and {verbs[1]} scored by what could be read:"
            )
            lines += _some({name: note.removeprefix(DAMAGED) for name, note in damaged.items()})
        if self.short:
            lines.append(f"{_videos(len(self.short))} shorter than a window: looped")
        return "\n".join(lines)


def evaluate(
    model: nn.Module,
    windows: Iterable[tuple[torch.Tensor, torch.Tensor]],
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    device: str | torch.device,
    mean: Sequence[float],
    std: Sequence[float],
    ids: Sequence[str] | None = None,
    faults: Mapping[str, str] | None = None,
    short: Iterable[str] | None = None,
    amp: bool | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score videos by the mean over their windows of the softmax of what the network says.

    Ranks of torch.distributed take `windows` of their own, every window of a video once over all of them, and each returns
    the whole. They need not have equally many.

    Args:
        model: gives logits (N, classes) for clips (N, 3, T, H, W); put on `device` and left in the mode it was in.
        windows: batches of clips, uint8 (N, 3, T, H, W) or floating and normalised already, and for each the number of its
            video, int64 (N,). In any order.
        labels: the class of each video.
        classes: names, in the order of the labels.
        device: `auto` for a card if there is one.
        mean: of red, green and blue in [0, 1]: the network sees (x / 255 - mean) / std.
        std: likewise.
        ids: the name of each video; None for its number.
        faults: id -> what is wrong with a video; looked at once `windows` has ended, so it may fill meanwhile. A video that
            gave a window is scored all the same, and listed as damaged; one that gave none is broken, told here or not.
        short: ids of looped videos, likewise.
        amp: whether the network reckons in bfloat16; None for yes on a card that can. Scores are float32 all the same.
        metadata: kept with the figures, as JSON.

    Raises:
        ArgumentError: labels, names, windows or what the model returns do not fit together.
        MissingError: no such device, or no memory on it for a batch.
        RunError: scores that are no numbers, here or on another rank, or another rank that is gone.

    The mean is that of Hara et al., CVPR 2018, section 3.3, "Recognition", the softmax that of 3D-ResNets-PyTorch.
    """
    names = tuple(map(str, range(len(labels)))) if ids is None else tuple(ids)
    answers = np.array([int(label) for label in labels], np.int64)
    _check(answers, classes, names, ids is None and (faults is not None or short is not None))
    where = ranks.choose_device(device)
    if amp is None:
        amp = where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    sums = _Sums(answers, len(classes), names)
    failure: Exception | None = None
    try:
        _score(model, windows, sums, where, tuple(mean), tuple(std), amp)
    except torch.OutOfMemoryError as error:
        failure = MissingError(
            f"the card has too little memory for so many windows at once; give a smaller batch: {str(error).splitlines()[0]}"
        )
    except Exception as error:
        killed = lost_worker(error)
        failure = error if killed is None else RunError(killed)
    told: dict[str, str] = {}
    looped: set[str] = set()
    try:
        # A rank that fails must say so: the others would wait for its sums.
        found = ranks.gathered(
            (failure and f"{type(failure).__name__}: {failure}", dict(faults or {}), set(short or ()))
        )
        if failure is not None:
            raise failure
        for rank, (message, their_faults, their_short) in enumerate(found):
            if message is not None:
                raise RunError(f"rank {rank} failed: {message}")
            told |= their_faults
            looped |= their_short
        outcomes = sums.outcomes(told, where)
    except RuntimeError as error:
        if ranks.world()[1] > 1 and ranks.lost(error) and error is not failure:
            raise RunError(f"another rank is gone: {str(error).splitlines()[0]}") from error
        raise
    finally:
        failure = (
            None  # else it and this frame hold each other, and the workers of `windows`, until garbage is collected
        )
    scored, first, among = (int(n) for n in sums.hits)
    return Evaluation(
        tuple(classes),
        outcomes,
        (scored, first, among),
        tuple(name for name in names if name in looped),
        dict(metadata or {}),
    )


def ranks_of(scores: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many classes come before the right one: those with a higher score, and of equal ones those with a lower number.

    So a network that scores all classes alike names the first, and gets no credit for a tie.

    Args:
        scores: (N, classes).
        labels: (N,).

    Returns:
        (N,), 0 where the right class comes first.
    """
    right = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    found: npt.NDArray[np.int64] = ((scores > right) | ((scores == right) & before)).sum(1)
    return found


class _Sums:
    """Sums of scores: one row for a video, however many windows it has."""

    def __init__(self, labels: npt.NDArray[np.int64], classes: int, names: tuple[str, ...]) -> None:
        self.labels, self.names = labels, names
        self.scores: Scores = np.zeros((len(labels), classes))
        self.counts = np.zeros(len(labels), np.int64)
        self.hits = np.zeros(3, np.int64)

    def add(self, scores: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64]) -> None:
        """Add windows: scores (N, classes) and the numbers (N,) of their videos."""
        good = np.isfinite(scores).all(1)
        if not good.all():
            raise RunError(
                f"the network gives scores that are no numbers for a window of video "
                f"{self.names[int(numbers[~good][0])]!r}; its training has diverged, its weights are damaged, or "
                f"bfloat16 is too coarse for it (`amp`)"
            )
        np.add.at(self.scores, numbers, scores)  # in double precision, so that no order of the windows matters
        np.add.at(self.counts, numbers, 1)
        found = ranks_of(scores, self.labels[numbers])
        self.hits += (len(found), int((found == 0).sum()), int((found < min(SHOWN, scores.shape[1])).sum()))

    def outcomes(self, faults: Mapping[str, str], device: torch.device) -> dict[str, Outcome]:
        """What became of each video, on all ranks."""
        for values in (self.scores, self.counts, self.hits):
            values[...] = ranks.total(torch.from_numpy(values).to(device)).cpu().numpy()
        means = self.scores / np.maximum(self.counts, 1)[:, None]
        found = ranks_of(means, self.labels)
        best = np.argsort(-means, axis=1, kind="stable")[:, :SHOWN]  # of equal scores the lower class first
        made = {}
        for i, name in enumerate(self.names):
            label, count = int(self.labels[i]), int(self.counts[i])
            if count:
                top = tuple((int(c), float(means[i, c])) for c in best[i])
                made[name] = Outcome(label, count, top, int(found[i]), note=faults.get(name))
            else:
                made[name] = Outcome(label, 0, fault=faults.get(name, NO_WINDOW))
        return made


def _score(
    model: nn.Module,
    windows: Iterable[tuple[torch.Tensor, torch.Tensor]],
    sums: _Sums,
    device: torch.device,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    amp: bool,
) -> None:
    """Add the scores of all windows of this rank to `sums`."""
    if isinstance(model, DistributedDataParallel):
        model = model.module  # whose forward waits for no other rank, which may have no window
    modes = {module: module.training for module in model.modules()}
    flying: deque[tuple[torch.Tensor, npt.NDArray[np.int64], torch.cuda.Event | None]] = deque()

    def land() -> None:
        scores, numbers, event = flying.popleft()
        if event is not None:
            event.synchronize()
        sums.add(scores.numpy(), numbers)

    try:
        placed(model, device).eval()
        with torch.inference_mode():
            for clips, numbers in windows:
                if clips.ndim != 5 or numbers.shape != (len(clips),) or numbers.dtype != torch.int64:
                    raise ArgumentError(
                        f"must give clips (N, 3, T, H, W) and int64 numbers (N,), not {tuple(clips.shape)} and "
                        f"{numbers.dtype} {tuple(numbers.shape)}",
                        "windows",
                    )
                if not len(clips):
                    continue
                if numbers.min() < 0 or numbers.max() >= len(sums.names):
                    raise ArgumentError(
                        f"gives numbers from {int(numbers.min())} to {int(numbers.max())}, and there are "
                        f"{len(sums.names)} videos, numbered from 0",
                        "windows",
                    )
                with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                    logits = model(normalised(clips, device, mean, std))
                wanted = (len(clips), sums.scores.shape[1])
                if not isinstance(logits, torch.Tensor) or logits.shape != wanted:
                    what = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
                    raise ArgumentError(
                        f"must give logits (N, classes), here {wanted}, and gives {what}; is its head made for "
                        f"these classes?",
                        "model",
                    )
                scores = logits.float().softmax(1).to("cpu", non_blocking=True)
                event = None
                if device.type == "cuda":
                    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    event.record()
                flying.append((scores, numbers.numpy().copy(), event))
                if len(flying) > 1:  # the scores of the batch before are read while this one runs
                    land()
            while flying:
                land()
    finally:
        for module, training in modes.items():
            module.training = training


def _check(labels: npt.NDArray[np.int64], classes: Sequence[str], names: tuple[str, ...], unnamed: bool) -> None:
    if not len(labels):
        raise ArgumentError("is empty; there must be a video at least", "labels")
    if not classes or len(set(classes)) != len(classes) or not all(isinstance(c, str) for c in classes):
        raise ArgumentError(f"must be different names, one at least, not {list(classes)[:10]}", "classes")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ArgumentError(
            f"must be from 0 to {len(classes) - 1}, as there are {len(classes)} classes; they are from "
            f"{labels.min()} to {labels.max()}",
            "labels",
        )
    if len(names) != len(labels):
        raise ArgumentError(f"has {len(names)} names for {len(labels)} videos; give one each", "ids")
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ArgumentError(f"names two videos {twice!r}; give each a name of its own", "ids")
    if unnamed:
        raise ArgumentError("and `short` name videos by their ids; give `ids` too", "faults")


# --- over splits and seeds


@dataclass(frozen=True)
class Summary:
    """Figures over splits and seeds: for each seed the mean over the splits, of these the mean and the deviation.

    Attributes:
        splits: in rising order.
        seeds: likewise.
        runs: (split, seed) -> its figures, see `Evaluation.figures`.
        k: the k of what is called top-5.
        broken: (split, seed) -> how many videos could not be read and count as wrong; only where there are any.
    """

    splits: tuple[int, ...]
    seeds: tuple[int, ...]
    runs: Mapping[tuple[int, int], Mapping[str, float | None]]
    k: int
    broken: Mapping[tuple[int, int], int]

    def of_seed(self, figure: str, seed: int) -> float | None:
        """The mean of a figure over the splits; None where a run lacks it."""
        values = [self.runs[split, seed][figure] for split in self.splits]
        known = [v for v in values if v is not None]
        return statistics.fmean(known) if len(known) == len(values) else None

    def mean(self, figure: str) -> float | None:
        """The mean of a figure over the seeds."""
        values = self._seeds(figure)
        return None if values is None else statistics.fmean(values)

    def deviation(self, figure: str) -> float | None:
        """The sample standard deviation (n - 1) of a figure over the seeds; None for one seed, which has none."""
        values = self._seeds(figure)
        return None if values is None or len(values) < 2 else statistics.stdev(values)

    def _seeds(self, figure: str) -> list[float] | None:
        values = [self.of_seed(figure, seed) for seed in self.seeds]
        known = [v for v in values if v is not None]
        return known if len(known) == len(values) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "splits": list(self.splits),
            "seeds": list(self.seeds),
            "k": self.k,
            "figures": {
                name: {"mean": self.mean(name), "deviation": self.deviation(name), "n": len(self.seeds)} for name in FIGURES
            },
            "runs": [
                {"split": split, "seed": seed, **figures, "broken": self.broken.get((split, seed), 0)}
                for (split, seed), figures in sorted(self.runs.items())
            ],
        }  # fmt: skip

    def write(self, path: str | Path) -> None:
        """Write `to_dict` as JSON; what exists is replaced once all is written. Raises MissingError for a full disk."""
        write_json(Path(path), self.to_dict())

    def text(self) -> str:
        """The figures as tables, in percent."""
        several = len(self.seeds) > 1
        rows: list[tuple[str, ...]] = [("%", "top-1", f"top-{self.k}", "average")]
        for what, some in (("videos", FIGURES[:3]), ("windows", FIGURES[3:])):
            rows.append((what, *(self._entry(name) for name in some)))
        lines = [aligned(rows), self._about()]
        if len(self.runs) > 1:
            header = ["top-1 of videos, %", *(f"split {s}" for s in self.splits)]
            by_seed: list[tuple[str, ...]] = []
            for seed in self.seeds:
                values = [self.runs[split, seed]["top1"] for split in self.splits]
                row = [f"seed {seed}", *map(_percent, values)]
                by_seed.append((*row, _percent(self.of_seed("top1", seed))) if len(self.splits) > 1 else tuple(row))
            if len(self.splits) > 1:
                header.append("mean")
            if several:
                means = [statistics.fmean(self.runs[s, n]["top1"] or 0.0 for n in self.seeds) for s in self.splits]
                last = ["mean", *map(_percent, means)]
                by_seed.append((*last, _percent(self.mean("top1"))) if len(self.splits) > 1 else tuple(last))
            lines += ["", aligned([tuple(header), *by_seed])]
        if self.broken:
            lines.append("")
            lines += [
                f"{_videos(n)} of split {split}, seed {seed} could not be read and count as wrong"
                for (split, seed), n in sorted(self.broken.items())
            ]
        return "\n".join(lines)

    def _entry(self, name: str) -> str:
        spread = self.deviation(name)
        return _percent(self.mean(name)) + ("" if spread is None else f" ± {_percent(spread)}")

    def _about(self) -> str:
        splits = f"the mean of {len(self.splits)} splits" if len(self.splits) > 1 else f"split {self.splits[0]}"
        if len(self.seeds) == 1:
            return f"n = 1: {splits}, seed {self.seeds[0]}; a deviation needs two seeds"
        each = f"each {splits}" if len(self.splits) > 1 else f"all of {splits}"
        return f"n = {len(self.seeds)} seeds, {each}: mean ± sample standard deviation"


def summary(evaluations: Mapping[tuple[int, int], Evaluation]) -> Summary:
    """The figures of evaluations over splits and seeds.

    Args:
        evaluations: (split, seed) -> evaluation, one of each split with each seed.

    Raises:
        ArgumentError: no evaluations, other classes in one than in another, or a split that a seed lacks, without which their
            means could not be compared.
    """
    if not evaluations:
        raise ArgumentError("is empty; give at least one", "evaluations")
    splits, seeds = (tuple(sorted({key[i] for key in evaluations})) for i in range(2))
    missing = [(split, seed) for seed in seeds for split in splits if (split, seed) not in evaluations]
    if missing:
        raise ArgumentError(
            f"lacks split {missing[0][0]} of seed {missing[0][1]}; a mean over splits needs the same ones for "
            f"every seed: {', '.join(map(str, splits))}",
            "evaluations",
        )
    first = next(iter(evaluations.values()))
    for (split, seed), one in evaluations.items():
        if one.classes != first.classes:
            raise ArgumentError(
                f"are of different classes: {len(first.classes)} in one, {len(one.classes)} in that of split "
                f"{split}, seed {seed}; give those of one set",
                "evaluations",
            )
    return Summary(
        splits,
        seeds,
        {key: one.figures for key, one in evaluations.items()},
        first.k,
        {key: len(one.broken) for key, one in evaluations.items() if one.broken},
    )


# --- text


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _percents(shares: Shares | None) -> tuple[str, str, str]:
    first, among, mean = shares or (None, None, None)
    return _percent(first), _percent(among), _percent(mean)


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count:,} videos"


def _some(videos: Mapping[str, str]) -> list[str]:
    """A line for each of the first ten."""
    more = [f"  and {len(videos) - 10:,} more"] if len(videos) > 10 else []
    return [f"  {name}: {why}" for name, why in list(videos.items())[:10]] + more


def _with_mean(first: float, among: float) -> Shares:
    return first, among, (first + among) / 2

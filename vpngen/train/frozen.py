"""What the features of a network are worth as they are: the nearest videos, and a linear classifier."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vpngen.datasets import VideoSet, WindowLoader
from vpngen.datasets.sets import hold_out
from vpngen.errors import ArgumentError, RunError
from vpngen.files import write_json
from vpngen.train import ranks
from vpngen.train.evaluation import NO_WINDOW, check_finite, shown_to

KS: Final = (1, 5, 10, 20, 50)
"""Nearest videos that are looked at, as Xu et al., CVPR 2019, do."""
EQUAL: Final = 2.0**40
"""Cosines are rounded to a multiple of the inverse: what differs by less than a computer's arithmetic is a tie."""
L2: Final = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Strengths of the penalty of a linear classifier that are tried, the strongest first."""
HELD_OUT: Final = 0.2
"""Part of the training videos, by group, on which they are."""
MOST_STEPS: Final = 200
"""Of LBFGS, for each of them."""


@dataclass(frozen=True)
class Features:
    """The features of all windows of some videos.

    Attributes:
        videos: the set.
        values: float32 (windows, features), on the host, in the order of the videos, and there of the windows.
        numbers: int64 (windows,), which video each is of.
        failures: id of a video -> why it could not be read, or what of it is damaged.
        short: ids of videos that have fewer frames than a window.
    """

    videos: VideoSet
    values: Tensor
    numbers: Tensor
    failures: Mapping[str, str] = field(default_factory=dict)
    short: tuple[str, ...] = ()

    @property
    def labels(self) -> Tensor:
        """int64 (windows,), the class of each."""
        return torch.tensor([video.label for video in self.videos.videos])[self.numbers]

    def means(self) -> tuple[Tensor, Tensor]:
        """The mean of the windows of each video that gave one, float64 (n, features); which video that is, int64 (n,)."""
        count = len(self.videos.videos)
        sums = self.values.new_zeros(count, self.values.shape[1], dtype=torch.float64)
        sums.index_add_(0, self.numbers, self.values.double())
        counts = torch.bincount(self.numbers, minlength=count)
        there = counts.nonzero()[:, 0]
        return sums[there] / counts[there, None], there

    @property
    def unreadable(self) -> dict[str, str]:
        """id -> why it could not be read."""
        there = set(self.numbers.tolist())
        names = (video.id for i, video in enumerate(self.videos.videos) if i not in there)
        return {name: self.failures.get(name, NO_WINDOW) for name in names}


def features(trunk: nn.Module, windows: WindowLoader, **how: Any) -> Features:
    """What a network gives for windows of videos, which its training has left: see `vpngen.tasks.trunk.Trunk`.

    Args:
        trunk: from clips (N, 3, T, H, W) to features (N, C); put on the device, and left in the mode that it was in.
        windows: of the videos; ranks of torch.distributed take their own, and each returns the whole.
        how: `device`, `mean`, `std`, `precision` and `progress`, see `vpngen.train.evaluation.score`.

    Raises:
        ArgumentError, MissingError, RunError: see `score`; features that are not finite.
    """
    names = [video.id for video in windows.videos.videos]
    values, numbers = list[Tensor](), list[Tensor]()

    def add(outputs: Tensor, some: Tensor) -> None:
        values.append(outputs.float().cpu())
        numbers.append(some.clone())

    def check() -> None:
        for rows, some in zip(values, numbers, strict=True):
            check_finite(rows, [names[i] for i in some.tolist()], "features")

    failures, short = shown_to(trunk, windows, add, check, **how)
    with ranks.listening():
        found = ranks.gathered((torch.cat(values), torch.cat(numbers)) if values else None)
    there = [one for one in found if one is not None]
    if not there:
        said = next(iter(failures.values()), NO_WINDOW)
        raise RunError(f"none of the {len(names):,} videos to take features of gave a window: {said}")
    every, each = (torch.cat(parts) for parts in zip(*there, strict=True))
    order = each.argsort(stable=True)  # a video is of one rank, which has its windows in order
    shorter = tuple(name for name in names if name in short)
    return Features(windows.videos, every[order], each[order], failures, shorter)


# --- the nearest videos


@dataclass(frozen=True)
class Query:
    """What is nearest to a test video.

    Attributes:
        label: the number of its class.
        rank: how many training videos come before the first of its class; None where there is none, or it could not be read.
        clips: likewise for each of its clips.
        problem: why it, or a part of it, could not be read.
    """

    label: int
    rank: int | None = None
    clips: tuple[int | None, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Retrieval:
    """How often one of the k training videos that are nearest to a test video is of its class.

    What could not be read counts as wrong; training videos that could not are not there.

    Attributes:
        classes: names, in the order of the labels.
        videos: id of a test video -> what was found, in the order of the set.
        gallery: how many training videos of each class there are.
        clips: of a test video.
        unreadable_gallery: id of a training video -> why it could not be read.
        short: ids of videos, of training and test, that were looped, as they are shorter than a window.
        metadata: as of `Evaluation`.
    """

    classes: tuple[str, ...]
    videos: Mapping[str, Query] = field(repr=False)
    gallery: tuple[int, ...]
    clips: int
    unreadable_gallery: Mapping[str, str] = field(default_factory=dict, repr=False)
    short: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def unreadable(self) -> dict[str, str]:
        """id -> why it could not be read."""
        return {name: query.problem or NO_WINDOW for name, query in self.videos.items() if not query.clips}

    @property
    def damaged(self) -> dict[str, str]:
        """id -> what of it could not be read, of those that gave clips."""
        return {name: query.problem for name, query in self.videos.items() if query.clips and query.problem}

    @property
    def by_video(self) -> dict[int, float]:
        """k -> share of the videos, each by the mean of its clips, which is what public code of Xu et al. counts."""
        found = [query.rank for query in self.videos.values()]
        return {k: sum(r is not None and r < k for r in found) / len(found) for k in KS}

    @property
    def by_clip(self) -> dict[int, float]:
        """k -> share of the clips, each by itself."""
        found = [r for query in self.videos.values() for r in query.clips]
        return {k: sum(r is not None and r < k for r in found) / (len(self.videos) * self.clips) for k in KS}

    @property
    def chance(self) -> dict[int, float]:
        """k -> share that is expected of training videos in a random order, of videos as of clips."""
        total = sum(self.gallery)
        shares = {}
        for k in KS:
            # None of the first k is of the class: a product over those, each drawn from what is left.
            missed = [
                math.prod(max(total - n - i, 0) / (total - i) for i in range(min(k, total))) for n in self.gallery
            ]
            right = [1 - missed[query.label] for query in self.videos.values() if query.clips]
            shares[k] = math.fsum(right) / len(self.videos)
        return shares

    @property
    def metrics(self) -> dict[str, float]:
        """`r1` to `r50` of videos, `clip_r1` ... of clips, `chance_r1` ..., in [0, 1]."""
        parts = {"": self.by_video, "clip_": self.by_clip, "chance_": self.chance}
        return {f"{name}r{k}": share for name, part in parts.items() for k, share in part.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {
            "videos": len(self.videos), "clips": len(self.videos) * self.clips, "unreadable": len(self.unreadable),
            "damaged": len(self.damaged), "gallery": sum(self.gallery), "gallery_unreadable": len(self.unreadable_gallery),
        }  # fmt: skip
        return {"format": 1, "metrics": {**self.metrics, **counts}, **dataclasses.asdict(self)}

    def write(self, path: str | Path) -> None:
        """Write `to_dict` as JSON; what exists is replaced once all is written. Raises MissingError for a full disk."""
        write_json(Path(path), self.to_dict())


def retrieval(gallery: Features, queries: Features, clips: int, metadata: Mapping[str, Any] | None = None) -> Retrieval:
    """Look for the training videos that are nearest to test clips by the cosine of features, each the mean of its clips.

    As Xu et al., CVPR 2019 (video clip order prediction), and their code, with ten clips of each video, but for the last videos of each list, which
    that leaves out, and for the features: it takes the largest of each quarter of a frame.

    Args:
        gallery: of training videos.
        queries: of test videos of the same classes.
        clips: how many each of these has, where all of it can be read.
        metadata: kept with the result, as JSON.
    """
    near, there = gallery.means()
    theirs = torch.tensor([video.label for video in gallery.videos.videos])[there]
    whole, which = queries.means()
    labels = torch.tensor([video.label for video in queries.videos.videos])
    of_videos = dict(zip(which.tolist(), ranks_among(whole, labels[which], near, theirs), strict=True))
    of_clips: dict[int, list[int | None]] = {}
    for i, found in zip(
        queries.numbers.tolist(), ranks_among(queries.values, queries.labels, near, theirs), strict=True
    ):
        of_clips.setdefault(i, []).append(found)
    videos = {
        video.id: Query(video.label, of_videos.get(i), tuple(of_clips.get(i, ())), queries.failures.get(video.id))
        for i, video in enumerate(queries.videos.videos)
    }
    classes = queries.videos.classes
    counts = torch.bincount(theirs, minlength=len(classes)).tolist()
    short = gallery.short + queries.short
    return Retrieval(classes, videos, tuple(counts), clips, gallery.unreadable, short, dict(metadata or {}))


def mean_metrics(found: Sequence[Retrieval]) -> dict[str, float]:
    """The mean of each of `Retrieval.metrics`."""
    every = [one.metrics for one in found]
    return {name: math.fsum(metrics[name] for metrics in every) / len(every) for name in every[0]}


def ranks_among(queries: Tensor, labels: Tensor, near: Tensor, theirs: Tensor) -> list[int | None]:
    """How many rows come before the first of its class, for each query; None where there is none.

    Of rows that are equally near, the first comes first.

    Args:
        queries: features (N, C).
        labels: int64 (N,).
        near: features (M, C).
        theirs: int64 (M,), the classes of those.
    """
    places, made = torch.arange(len(near)), list[int | None]()
    near = nn.functional.normalize(near.double())
    size = max(1, 2**22 // len(near))  # a table of 32 MB at a time
    for first in range(0, len(queries), size):
        some, own = queries[first : first + size], labels[first : first + size]
        cosines = (nn.functional.normalize(some.double()) @ near.T * EQUAL).round()
        mine = own[:, None] == theirs
        best = cosines.where(mine, -torch.inf).amax(1, keepdim=True)
        at = places.where(mine & (cosines == best), len(near)).amin(1, keepdim=True)
        before = ((cosines > best) | ((cosines == best) & (places < at))).sum(1)
        made += [n if any_there else None for n, any_there in zip(before.tolist(), mine.any(1).tolist(), strict=True)]
    return made


# --- a linear classifier


class Probe(nn.Module):
    """A network up to its features, and a linear layer: clips (N, 3, T, H, W) to logits (N, classes)."""

    def __init__(self, trunk: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        found = self.trunk(clips)
        with torch.autocast(
            found.device.type, enabled=False
        ):  # what is learned is no coarser than what it is learned of
            logits: Tensor = self.linear(found.float())
        return logits


def linear_probe(
    trunk: nn.Module, found: Features, *, device: str | torch.device = "cpu", ask: Callable[[], object] | None = None
) -> tuple[Probe, dict[str, Any]]:
    """A linear classifier of frozen features: multinomial logistic regression with a penalty on its squared weights.

    Each feature is centred and divided by its std over all clips, a feature that never changes is left out. The strength of the penalty
    is that of `L2` which classifies most clips of held-out videos, the stronger one of two alike; then all videos are learned from. The
    minimum is that of LBFGS in double precision, so that nothing is drawn at random and no rate is to be chosen. Han et al., NeurIPS
    2020 (CoCLR), train such a layer by SGD, behind batch normalization.

    Args:
        trunk: gives the features.
        found: those of training videos.
        device: where it is computed.
        ask: called now and then; what it raises ends the work.

    Returns:
        The network, and what is to be said of it: `l2`, and `held_out`, the share of those clips that each of `L2` has right; without
        it, where the videos have no two groups in a class, the strength is the middle one.
    """
    where = ranks.choose_device(device)
    x, y = found.values.to(where, torch.float64), found.labels.to(where)
    std, mean = torch.std_mean(x, 0, correction=0)
    std = std.where(std > 1e-6 * mean.abs() + 1e-12, torch.inf)
    x, classes = (x - mean) / std, len(found.videos.classes)
    about: dict[str, Any] = {"l2": L2[len(L2) // 2]}
    try:
        names = {video.id for video in hold_out(found.videos, HELD_OUT, 0)[1].videos}
    except ArgumentError:
        names = set()
    held = torch.tensor([video.id in names for video in found.videos.videos])[found.numbers].to(where)
    if 0 < int(held.sum()) < len(held):
        shares, start = list[float](), None
        for l2 in L2:
            start = logistic(x[~held], y[~held], classes, l2, start, ask)
            shares.append(float(((x[held] @ start[0].T + start[1]).argmax(1) == y[held]).double().mean()))
        about = {"l2": L2[shares.index(max(shares))], "held_out": dict(zip(map(str, L2), shares, strict=True))}
    weight, bias = logistic(x, y, classes, about["l2"], None, ask)
    with ranks.listening():  # one classifier for all ranks
        weight, bias, about = ranks.gathered(((weight / std).cpu(), (bias - (weight / std) @ mean).cpu(), about))[0]
    return Probe(trunk, weight, bias), about


def logistic(
    x: Tensor, y: Tensor, classes: int, l2: float, start: tuple[Tensor, Tensor] | None = None, ask: Callable[[], object] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The weights (classes, C) and biases (classes,) that minimize the mean cross entropy + l2 / 2 |weights|^2.

    Args:
        x: float64 (N, C).
        y: int64 (N,), the classes.
        classes: how many there are.
        l2: above 0.
        start: weights and biases to begin with; None for zeros.
        ask: called at each step; what it raises ends the work.
    """
    begun = start or (x.new_zeros(classes, x.shape[1]), x.new_zeros(classes))
    weight, bias = (part.detach().clone().requires_grad_() for part in begun)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_STEPS,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        if ask is not None:
            ask()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(x @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()

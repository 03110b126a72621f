"""Sets of videos: named, read from a folder and its annotations, and divided."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vpngen import files, rng
from vpngen.checks import SEEDS, integer, number, one_of
from vpngen.datasets import LAYOUTS, folder
from vpngen.datasets.base import Video, VideoSet
from vpngen.errors import ArgumentError, ConflictError
from vpngen.units import count_text

VAL_SHARE: Final = 16
"""One video in so many is for validation, where nothing else is asked for; of rendered ones it is one more instance."""


def read_videos(
    kind: str, root: str | Path, annotations: str | Path | None = None, *, subset: str = "train", split: int = 1
) -> VideoSet:
    """The videos of a set. None of them is opened; those that are listed and not there stay, and who reads them reports them.

    Args:
        kind: one of `KINDS`: how the videos lie in folders and are listed. The module of each says it, such as
            `vpngen.datasets.ucf101`.
        root: the folder of the videos.
        annotations: the file or folder that lists them; None looks in `root`, under the names that they come with.
        subset: `train`, or `val`, which is also what some call validation or test.
        split: which of the three of `ucf101` and `hmdb51`; of others 1.

    Raises:
        ArgumentError: a kind, subset, split, `root` or `annotations` that there is not; a URL; no `annotations` where they cannot be found.
        ConflictError: annotations that are malformed or contradict the folder; none of the videos is there; two
            files that could be the same video, or two videos that could be the same file.
    """
    layout = LAYOUTS[one_of("kind", kind, LAYOUTS)]
    one_of("subset", subset, ("train", "val"))
    split = integer("split", split, 1, layout.splits)
    root = files.local(root, "root")
    if not root.is_dir():
        raise ArgumentError("is not a folder; give the one that holds the videos", "root", root)
    given = None if annotations is None else files.local(annotations, "annotations")
    if given is not None and not given.exists():
        raise ArgumentError("is not there", "annotations", given)
    classes, videos = layout.read(root, given, subset, split)
    found = VideoSet(kind, subset, split, tuple(classes), tuple(videos))
    source, known = given or root, dict[str, Video]()
    if not found.videos:
        raise ConflictError(f"{source} lists no videos of the subset {subset!r}")
    for video in found.videos:
        if (other := known.setdefault(video.id, video)) is not video:
            raise ConflictError(f"{source} lists two videos {video.id!r} for {subset}, {other.path} and {video.path}")
    if not any(os.path.exists(video.path) for video in found.videos):
        gone = f"none of the {count_text(len(found.videos), 'video')} that {source} lists for {subset} is there"
        raise ConflictError(f"{gone}, not even {found.videos[0].path}; is `root` the folder of the videos?")
    return found


def labelled(videos: VideoSet) -> VideoSet:
    """The same, for what cannot do without labels. Raises ConflictError where it has none."""
    if videos.classes:
        return videos
    where = f"the videos in {videos.videos[0].path.parent}" if videos.videos else "the videos"
    remedy = "put them into a folder for each class, such as class/1.mp4, or learn without labels: vpngen train --task"
    raise ConflictError(f"{where} have no labels: they lie in no folders of classes; {remedy} order")


def missing_videos(**sets: VideoSet) -> str | None:
    """How many of the videos of some sets, by what they are called, are not there, and one of those; None for whole sets."""
    listed: dict[Path, set[str]] = {}
    found, example = [], None
    for name, videos in sets.items():
        count = 0
        for path in (video.path for video in videos.videos):
            if (folder := path.parent) not in listed:  # a list of a folder is had at once, where the disk is far away
                listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            if path.name not in listed[folder] and not os.path.exists(path):
                count, example = count + 1, example or path
        if count:
            found.append(f"{count:,} of {len(videos.videos):,} to {name}")
    return f"videos that are not there: {', '.join(found)}; the first is {example}" if found else None


def hold_out(videos: VideoSet, val_fraction: float, seed: int) -> tuple[VideoSet, VideoSet]:
    """The set in two: to train with, and to validate with. A group goes to one side as a whole.

    Of each class that has two groups or more, both sides have one.

    Args:
        videos: to divide.
        val_fraction: of the groups of each class, between 0 and 1.
        seed: which ones, in [0, 2**64).

    Returns:
        What stays, of the same subset; and what is held out, as `val`.

    Raises:
        ArgumentError: a fraction or a seed out of range; nothing that could be held out.
    """
    number("val_fraction", val_fraction, lambda v: 0 < v < 1, "between 0 and 1")
    seed = integer("seed", seed, 0, SEEDS)
    labels: dict[str, set[int]] = defaultdict(set)
    for video in videos.videos:
        labels[video.group].add(video.label)
    groups = sorted(labels)
    left = Counter(label for group in groups for label in labels[group])
    wanted = Counter({label: max(round(val_fraction * n), 1) for label, n in left.items()})
    held = set()
    for i in rng.permute(range(len(groups)), len(groups), seed).tolist() if groups else ():
        mine = labels[groups[i]]
        if any(wanted[label] > 0 for label in mine) and all(left[label] > 1 for label in mine):
            held.add(groups[i])
            left.subtract(mine)
            wanted.subtract(mine)
    if not held:
        raise ArgumentError("has no class of two groups, so nothing of it can be held out", "videos")
    stays, val = (tuple(v for v in videos.videos if (v.group in held) is side) for side in (False, True))
    return dataclasses.replace(videos, videos=stays), dataclasses.replace(videos, subset="val", videos=val)


def fraction_of(videos: VideoSet, fraction: float, seed: int) -> VideoSet:
    """A share of the videos of each class, and at least one, in the order of the set, as the 1/8, 1/4 and 1/2 of Kim et al., AAAI 2019.

    A smaller share is a part of every larger one of the same seed.

    Args:
        videos: to take from.
        fraction: of the videos of each class, above 0 and up to 1.
        seed: which ones, in [0, 2**64).

    Raises:
        ArgumentError: a fraction or a seed out of range.
    """
    number("train_fraction", fraction, lambda v: 0 < v <= 1, "above 0 and up to 1")
    seed = integer("seed", seed, 0, SEEDS)
    classes: dict[int, list[int]] = defaultdict(list)
    for i, video in enumerate(videos.videos):
        classes[video.label].append(i)
    chosen = [
        members[i]
        for label, members in classes.items()
        for i in rng.permute(range(len(members)), len(members), seed, label)[
            : max(round(fraction * len(members)), 1)
        ].tolist()
    ]
    return dataclasses.replace(videos, videos=tuple(videos.videos[i] for i in sorted(chosen)))


@dataclass(frozen=True)
class DataConfig:
    """A set of real videos.

    Attributes:
        kind: one of `vpngen.datasets.KINDS`.
        root: the folder of the videos.
        annotations: the folder or file that lists them; None for what lies in `root`.
        split: which of the official splits.
        val_fraction: the share of the training videos that validation takes, in [0, 1); 0 to validate on the test videos of
            the split, as the papers do.
        train_fraction: the share of the videos left for training that is used, in (0, 1], see `fraction_of`.

    Raises:
        ArgumentError: a fraction out of range.
    """

    kind: str
    root: Path
    annotations: Path | None = None
    split: int = 1
    val_fraction: float = 0.0
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        number("val_fraction", self.val_fraction, lambda v: 0 <= v < 1, "in [0, 1)")
        number("train_fraction", self.train_fraction, lambda v: 0 < v <= 1, "above 0 and up to 1")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DataConfig:
        """The inverse of `to_dict`."""
        annotations = fields["annotations"] and Path(fields["annotations"])
        return cls(**{**fields, "root": Path(fields["root"]), "annotations": annotations})

    def sets(self, seed: int, labels: bool = True) -> tuple[VideoSet, VideoSet, VideoSet]:
        """The videos to train on, to validate on after each epoch, and to test on.

        What validation takes is drawn by `seed`; of a plain folder it is the test, and the same for every seed.

        Args:
            seed: in [0, 2**64).
            labels: whether a set without them is an error.

        Raises:
            ArgumentError, ConflictError: see `read_videos`, `hold_out`, `fraction_of` and `labelled`.
        """
        read = functools.partial(read_videos, self.kind, self.root, self.annotations, split=self.split)
        train = labelled(read(subset="train")) if labels else read(subset="train")
        part = functools.partial(fraction_of, fraction=self.train_fraction, seed=seed)
        if not self.val_fraction:
            test = read(subset="val")
            return part(train), test, test
        plain = self._plain()
        rest, held = hold_out(train, self.val_fraction, 0 if plain else seed)
        return part(rest), held, held if plain else read(subset="val")

    def _plain(self) -> bool:
        """Whether it is a folder that has no videos apart to validate on."""
        return self.kind == "folder" and self.root.is_dir() and "val" not in folder.parts(self.root)

    def validated(self) -> DataConfig:
        """The same, for training alone: of a plain folder one video in `VAL_SHARE` is held out, where it does not say how many are."""
        if self.val_fraction or not self._plain():
            return self
        return dataclasses.replace(self, val_fraction=1 / VAL_SHARE)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them, with absolute paths."""
        annotations = self.annotations and str(self.annotations.absolute())
        return {**dataclasses.asdict(self), "root": str(self.root.absolute()), "annotations": annotations}

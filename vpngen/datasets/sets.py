"""Sets of videos: read from a folder and its annotations, and divided."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from vpngen import rng
from vpngen.checks import SEEDS, integer, number, one_of
from vpngen.datasets import LAYOUTS
from vpngen.datasets.base import SUBSETS, Video, VideoSet
from vpngen.errors import ArgumentError, ConflictError


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
        ArgumentError: a kind, subset or split that there is not; no `annotations` where they cannot be found.
        ConflictError: annotations that are not there, malformed or contradict the folder; none of the videos is there; two
            files that could be the same video, or two videos that could be the same file.
    """
    layout = LAYOUTS[one_of("kind", kind, LAYOUTS)]
    one_of("subset", subset, SUBSETS)
    split = integer("split", split, 1, layout.splits)
    root = Path(root)
    if not root.is_dir():
        raise ConflictError(f"`root` (={str(root)!r}) is not a folder; give the one that holds the videos")
    given = None if annotations is None else Path(annotations)
    if given is not None and not given.exists():
        raise ConflictError(f"`annotations` (={str(given)!r}) is not there")
    classes, videos = layout.read(root, given, subset, split)
    found = VideoSet(kind, subset, split, tuple(classes), tuple(videos))
    if not found.videos:
        raise ConflictError(f"{given or root} lists no videos of the subset {subset!r}")
    known: dict[str, Video] = {}
    for video in found.videos:
        if (other := known.setdefault(video.id, video)) is not video:
            raise ConflictError(
                f"{given or root} lists two videos {video.id!r} for {subset}, {other.path} and {video.path}; remove one of them"
            )
    if not any(video.path.exists() for video in found.videos):
        raise ConflictError(
            f"none of the {len(found.videos)} videos that {given or root} lists for {subset} is there, not even "
            f"{found.videos[0].path}; is `root` (={str(root)!r}) the folder of the videos?"
        )
    return found


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
    left: dict[int, int] = defaultdict(int)
    for group in groups:
        for label in labels[group]:
            left[label] += 1
    wanted = {label: max(round(val_fraction * n), 1) for label, n in left.items()}
    held = set()
    for i in rng.permute(range(len(groups)), len(groups), seed).tolist() if groups else ():
        mine = labels[groups[i]]
        if any(wanted[label] > 0 for label in mine) and all(left[label] > 1 for label in mine):
            held.add(groups[i])
            for label in mine:
                left[label] -= 1
                wanted[label] -= 1
    if not held:
        raise ArgumentError("has no class of two groups, so nothing of it can be held out", "videos")
    stays, val = (tuple(v for v in videos.videos if (v.group in held) is side) for side in (False, True))
    return replace(videos, videos=stays), replace(videos, subset="val", videos=val)

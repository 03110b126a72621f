"""A folder of folders of videos: each is a class.

There are no annotations. Files are <root>/train/<class>/... and <root>/val/<class>/... (or training, validation, test, however
they are capitalized), or <root>/<class>/..., which is all `train`, and of which `hold_out` puts a part aside. What lies deeper in
the folder of a class belongs to that; a folder of numbered images is a video. Folders without a video are no classes.

Where no folder is a class, the videos right in <root>/train and <root>/val, or right in <root>, are a set without labels.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vpngen.datasets.base import Layout, Listed, Video, content, folders, nfc, same_classes, some, videos_below
from vpngen.errors import ArgumentError, ConflictError

NAMES: Final[dict[str, list[tuple[str, ...]]]] = {
    "train": [("train", "training")],
    "val": [("val", "valid", "validate", "validation"), ("test", "testing")],
}
"""Subset -> what its folder may be called; those of the first group that is there."""
HOLD_OUT: Final = "if all of it is `train`, give `val_fraction`, the fraction of the training videos to hold out"


def parts(root: Path) -> dict[str, Path]:
    """Subset -> the folder that is called so, where there is one. Raises ConflictError where it could be several."""
    there, found = folders(root), dict[str, Path]()
    for subset, names in ((subset, names) for subset, groups in NAMES.items() for names in groups):
        could_be = [root / name for name in there if name.lower() in names]
        if len(could_be) > 1:  # logs of training are none
            classes = [p for p in could_be if any(videos for _, videos in classes_in(p).values())]
            could_be = classes or [p for p in could_be if videos_below(p)] or could_be[:1]
        if could_be and subset not in found:
            found[subset] = could_be[0]
            if len({path.resolve() for path in could_be}) > 1:
                either = " or ".join(map(str, could_be))
                raise ConflictError(
                    f"the videos of the subset {subset} could be in {either}; leave one of them in the folder"
                )
    return found


def classes_in(top: Path) -> dict[str, tuple[str, list[str]]]:
    """Name of a class -> that of its folder, and its videos, of all folders in a folder. Raises ConflictError."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name in folders(top):
        if (other := found.setdefault(nfc(name), (name, videos_below(top / name)))[0]) != name:
            two = f"{other!r} and {name!r}"
            raise ConflictError(f"{top} has two folders that are called alike, {two!a}; put their videos into one")
    return found


def unlabelled(root: Path, places: Mapping[str, Path]) -> dict[str, tuple[Path, list[str]]]:
    """Subset -> its folder and the videos right in that, of a set without labels; empty where a folder is a class.

    Args:
        root: the folder of the set.
        places: `parts` of it, none of which holds a class.
    """
    if any(videos for name, (_, videos) in classes_in(root).items() if root / name not in places.values()):
        return {}
    found = {subset: (top, videos) for subset, top in places.items() if (videos := videos_below(top))}
    return found or ({"train": (root, videos)} if (videos := videos_below(root)) else {})


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a subset; the classes are in the order of their names, and those of `train` where that is there.

    There are none in a set without labels.
    """
    if annotations is not None:
        raise ArgumentError("are not for the kind `folder`, whose folders say all", "annotations", str(annotations))
    places = parts(root)
    found = {name: classes_in(path) for name, path in places.items()}
    found = {name: inside for name, inside in found.items() if any(videos for _, videos in inside.values())}
    if not found and (loose := unlabelled(root, places)):
        if subset not in loose:
            raise ConflictError(f"{root} has no videos in a folder `{subset}`; it has {content(root)}; {HOLD_OUT}")
        top, videos = loose[subset]
        return (), [Video(file, top / file, 0, file) for file in videos]
    if not found and subset == "train":
        places, found = {"train": root}, {"train": classes_in(root)}
    if subset not in found:
        raise ConflictError(
            f"{root} has no videos in folders of a folder `{subset}`; it has {content(root)}; {HOLD_OUT}"
        )
    if not any(videos for _, videos in found[subset].values()):
        below = (os.path.relpath(Path(top, file), root) for top, _, names in os.walk(root) for file in names)
        raise ConflictError(
            f"{root} has no folders of classes with videos in them, such as class/1.mp4 or numbered .jpg or .png in class/1; "
            f"the first files there: {some(itertools.islice(below, 3))}"
        )
    every = {name: videos for inside in found.values() for name, (_, videos) in inside.items() if videos}
    lists = [f"{folder}/{file}" for folder, videos in found[subset].values() for file in videos]
    if all("/" in file for inside in found.values() for _, videos in inside.values() for file in videos):
        what = f"all videos in {places[subset]} lie in folders of folders, such as {some(lists, 2)}, so it is open which are the classes"
        raise ConflictError(
            f"{what}; give as `root` the folder whose folders are the classes, or put videos right into those"
        )
    named = {part: {name for name in inside if name in every} for part, inside in found.items()}
    first = named.get("train", named[subset])
    if not named[subset] <= first or not named.get("val", first) <= first:
        between = f"{places['train']} and {places['val']}"
        same_classes(between, first, named["val"], "in the first", "in the second")
    classes = sorted(first)
    return classes, [
        Video(f"{name}/{file}", places[subset] / folder / file, label, f"{name}/{file}")
        for label, name in enumerate(classes)
        for folder, videos in [found[subset].get(name, ("", []))]
        for file in videos
    ]


FOLDER = Layout("folder", "", read)

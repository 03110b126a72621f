"""A folder of folders of videos: each is a class.

There are no annotations. Files are <root>/train/<class>/... and <root>/val/<class>/... (or test), or <root>/<class>/..., which is
all `train`, and of which `hold_out` puts a part aside. Folders without a video are no classes.
"""

from __future__ import annotations

from pathlib import Path

from vpngen.datasets.base import Layout, Listed, Video, class_folders, content, same_classes, video_files
from vpngen.errors import ArgumentError, ConflictError


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a subset; the classes are in the order of their names."""
    if annotations is not None:
        raise ArgumentError("are not for the kind `folder`, whose folders say all", "annotations", str(annotations))
    val = next((path for path in (root / "val", root / "test") if path.is_dir()), root / "val")
    parts = {"train": root / "train", "val": val}
    divided = {name: path for name, path in parts.items() if path.is_dir() and class_folders(path)}
    top = divided.get(subset) if divided or subset != "train" else root
    if top is None:
        remedy = "if all of it is `train`, give `val_fraction`, the fraction of the training videos to hold out"
        raise ConflictError(f"{root} has no videos in folders of a folder `{subset}`; it has {content(root)}; {remedy}")
    known = set().union(*map(class_folders, divided.values() or [root]))
    if len(divided) == 2:
        train, other = (class_folders(path, known) for path in divided.values())
        same_classes(f"{parts['train']} and {parts['val']}", train, other, "in the first", "in the second")
    classes = sorted(class_folders(top, known))
    return classes, [
        Video(f"{name}/{file}", top / name / file, label, f"{name}/{file}")
        for label, name in enumerate(classes)
        for file in video_files(top / name)
    ]


FOLDER = Layout("folder", "", read)

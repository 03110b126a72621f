"""HMDB-51, as its makers publish it.

Annotations are a folder with <class>_test_split1.txt, ... Files are <root>/<class>/<video>.avi; other suffixes, and
folders of images, are found too. Folders without a video are no classes.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from vpngen.datasets.base import (
    Layout,
    Listed,
    Video,
    below,
    class_folders,
    find_lists,
    lines,
    listed_file,
    located,
    malformed,
    nfc,
    same_classes,
    videos_in,
)  # fmt: skip

PUBLISHED = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
"""What the folder of the lists is called."""


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a split; the classes are in the order of their names."""
    found = find_lists(root, annotations, "*_test_split[0-9].txt", PUBLISHED)
    classes, lists, videos = sorted({path.name[: -len("_test_split1.txt")] for path in found}), found[0].parent, []
    same_classes(f"{lists} and {root}", set(map(nfc, classes)), class_folders(root, classes))
    look = functools.cache(videos_in)
    for label, name in enumerate(classes):
        for where, text in lines(lists / f"{name}_test_split{split}.txt"):
            # 1 is for training, 2 for testing, 0 for neither.
            file, *use = text.rsplit(None, 1)
            if use not in (["0"], ["1"], ["2"]):
                raise malformed(where, text, "`<video>.avi <0, 1 or 2>`")
            if use == (["1"] if subset == "train" else ["2"]):
                stem = Path(below(where, file)).stem
                film, named, _ = file.partition(f"_{name}_")
                group = film if named else re.sub(r"_\d+$", "", stem)
                videos.append(
                    Video(f"{name}/{stem}", listed_file(located(root, name), file, look), label, f"{name}/{group}")
                )
    return classes, videos


HMDB51 = Layout("hmdb51", "folder of <class>_test_split1.txt, ...", read, splits=3)

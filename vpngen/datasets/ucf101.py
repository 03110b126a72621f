"""UCF-101, as its makers publish it.

Annotations are a folder with classInd.txt, trainlist01.txt, testlist01.txt, ... Files are <root>/<class>/v_<class>_g01_c01.avi;
those of a group, such as g01, were cut from the same film. Other suffixes, and folders of images, are found too. Folders without
a video are no classes.
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

PUBLISHED = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask")
"""What the folder of the lists is called."""
_LINE = re.compile(r"(.*?)(?:\s+([0-9]+))?")
"""Of a list, after the class: the video, and the number of the class."""


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a split, and the classes as classInd.txt numbers them."""
    (index,) = find_lists(root, annotations, "classInd.txt", PUBLISHED)
    classes: dict[str, int] = {}
    for where, text in lines(index):
        number, title = (*text.split(None, 1), "")[:2]
        if not title or number != str(len(classes) + 1) or title in classes:
            raise malformed(where, text, f"`{len(classes) + 1} <name of a class>`")
        classes[below(where, title)] = len(classes)
    same_classes(f"{index.parent} and {root}", set(map(nfc, classes)), class_folders(root, classes))
    labels, look, videos = {nfc(name): (name, label) for name, label in classes.items()}, functools.cache(videos_in), []
    for where, text in lines(index.parent / f"{'train' if subset == 'train' else 'test'}list{split:02d}.txt"):
        title, _, rest = text.partition("/")
        name, number = _LINE.fullmatch(rest).groups()  # type: ignore[union-attr]  # any text
        if not name or (subset == "train" and number is None):
            raise malformed(where, text, "`<class>/<video>.avi <number of the class>`")
        folder, label = labels.get(nfc(title), ("", -1))
        if label < 0 or number not in (None, str(label + 1)):
            raise malformed(where, text, "of a class as classInd.txt numbers it")
        stem, found = Path(below(where, name)).stem, re.search(r"_(g\d+)_c\d+", name)
        group = f"{folder}/{found[1] if found else stem}"
        videos.append(Video(stem, listed_file(located(root, folder), name, look), label, group))
    return list(classes), videos


UCF101 = Layout("ucf101", "folder of classInd.txt, trainlist01.txt, testlist01.txt, ...", read, splits=3)

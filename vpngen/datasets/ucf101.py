"""UCF-101, as its makers publish it.

Annotations are a folder with classInd.txt, trainlist01.txt, testlist01.txt, ... Files are <root>/<class>/v_<class>_g01_c01.avi;
those of a group, such as g01, were cut from the same film. Folders without a video are no classes.
"""

from __future__ import annotations

import re
from pathlib import Path

from vpngen.datasets.base import Layout, Listed, Video, below, class_folders, find_lists, lines, malformed, same_classes

PUBLISHED = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask")
"""What the folder of the lists is called."""


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a split, and the classes as classInd.txt numbers them."""
    (index,) = find_lists(root, annotations, "classInd.txt", PUBLISHED)
    classes: dict[str, int] = {}
    for where, words in lines(index):
        if len(words) != 2 or words[0] != str(len(classes) + 1) or words[1] in classes:
            raise malformed(where, " ".join(words), f"`{len(classes) + 1} <name of a class>`")
        classes[below(where, words[1])] = len(classes)
    same_classes(f"{index.parent} and {root}", set(classes), class_folders(root, classes))
    videos = []
    for where, words in lines(index.parent / f"{'train' if subset == 'train' else 'test'}list{split:02d}.txt"):
        folder, _, name = words[0].partition("/")
        if not name or len(words) > 2 or (subset == "train" and len(words) != 2):
            raise malformed(where, " ".join(words), "`<class>/<video>.avi <number of the class>`")
        if folder not in classes or (len(words) == 2 and words[1] != str(classes[folder] + 1)):
            raise malformed(where, " ".join(words), "of a class as classInd.txt numbers it")
        stem, found = Path(below(where, name)).stem, re.search(r"_(g\d+)_c\d+", name)
        group = f"{folder}/{found[1] if found else stem}"
        videos.append(Video(stem, root / folder / name, classes[folder], group))
    return list(classes), videos


UCF101 = Layout("ucf101", "folder of classInd.txt, trainlist01.txt, testlist01.txt, ...", read, splits=3)

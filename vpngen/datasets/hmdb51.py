"""HMDB-51, as its makers publish it.

Annotations are a folder with <class>_test_split1.txt, ... Files are <root>/<class>/<video>.avi. Folders without a video are no
classes.
"""

from __future__ import annotations

import re
from pathlib import Path

from vpngen.datasets.base import Layout, Listed, Video, below, class_folders, find_lists, lines, malformed, same_classes

PUBLISHED = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
"""What the folder of the lists is called."""


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a split; the classes are in the order of their names."""
    found = find_lists(root, annotations, "*_test_split[0-9].txt", PUBLISHED)
    classes, lists, videos = sorted({path.name[: -len("_test_split1.txt")] for path in found}), found[0].parent, []
    same_classes(f"{lists} and {root}", set(classes), class_folders(root, classes))
    for label, name in enumerate(classes):
        for where, words in lines(lists / f"{name}_test_split{split}.txt"):
            # Names hold no blanks; 1 is for training, 2 for testing, 0 for neither.
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise malformed(where, " ".join(words), "`<video>.avi <0, 1 or 2>`")
            if words[1] == ("1" if subset == "train" else "2"):
                stem = Path(below(where, words[0])).stem
                film, named, _ = words[0].partition(f"_{name}_")
                group = film if named else re.sub(r"_\d+$", "", stem)
                videos.append(Video(f"{name}/{stem}", root / name / words[0], label, f"{name}/{group}"))
    return classes, videos


HMDB51 = Layout("hmdb51", "folder of <class>_test_split1.txt, ...", read, splits=3)

"""ActivityNet: each segment is a video.

Annotations are the JSON file of version 1.3. Files are v_<id>.mp4 and the like in <root>, or in folders of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from vpngen import files
from vpngen.datasets.base import (
    Layout,
    Listed,
    Video,
    below,
    find_lists,
    folders,
    malformed,
    nfc,
    only,
    pair,
    videos_in,
)
from vpngen.errors import ArgumentError, ConflictError

NAMES: Final = {"train": "training", "val": "validation"}
"""Subset -> what the database calls it."""


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The segments of a subset; the classes are the leaves of the taxonomy, in its order."""
    path, content = database(root, annotations, "activity_net*.json")
    classes = leaves(path, content)
    labels = {name: number for number, name in reversed([*enumerate(classes)])}
    stems = {stem for name in content["database"] for stem in (f"v_{name}", name)}
    # The archives have folders of folders: v1-3/train_val.
    places = [root]
    for place in (root, *(root / name for name in folders(root) if name not in stems)):
        places += [place / name for name in folders(place) if name not in stems]
    there: dict[str, list[Path]] = {}
    for place in places:
        for stem, names in videos_in(place, False).items():
            there.setdefault(stem, []).extend(place / name for name in names)
    videos = []
    for name, entry in content["database"].items():
        where = f"{path}, video {name}"
        if not isinstance(entry, dict) or entry.get("subset") not in (*NAMES.values(), "testing"):
            raise malformed(where, entry, "of a subset training, validation or testing")
        if entry["subset"] != NAMES[subset]:
            continue
        below(where, name)
        found = [file for stem in (f"v_{name}", name) for file in there.get(nfc(stem), ())]
        path_of = only(found, name) or root / f"v_{name}.mp4"
        given = entry.get("annotations") or []
        if not isinstance(given, list):
            raise malformed(where, given, "a list of annotations")
        for k, annotation in enumerate(given):
            label = annotation.get("label") if isinstance(annotation, dict) else None
            if not isinstance(label, str) or label not in labels:
                raise malformed(where, label, "the name of a class of the taxonomy")
            segment = pair(where, annotation.get("segment"), float)
            videos.append(Video(f"{name}/{k}", path_of, labels[label], name, segment))
    return classes, videos


def database(root: Path, given: Path | None, pattern: str) -> tuple[Path, dict[str, Any]]:
    """The file that was given, or the only one of a pattern, and its content, whose `database` has the videos.

    Raises ArgumentError where there is none, or several; ConflictError where it cannot be read, or has no database.
    """
    found = [given] if given is not None and given.is_file() else find_lists(root, given, pattern)
    if len(found) > 1:
        raise ArgumentError(f"must be one of {', '.join(map(str, found))}", "annotations")
    (path,) = found
    try:
        content = files.parse_json(files.read(path, files.MOST_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ConflictError(f"{path} is not JSON that can be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise malformed(str(path), content, "a `database` of videos")
    return path, content


def leaves(path: Path, content: dict[str, Any]) -> list[str]:
    """The classes of a taxonomy, in its order. Raises ConflictError."""
    nodes, keys, simple = content.get("taxonomy"), ("nodeId", "nodeName", "parentId"), (str, int, type(None))
    if not isinstance(nodes, list) or not all(
        isinstance(n, dict) and all(isinstance(n.get(key, ...), simple) for key in keys) for n in nodes
    ):
        raise malformed(str(path), "taxonomy", "a list of nodes with nodeId, nodeName and parentId")
    parents = {node["parentId"] for node in nodes}
    return [str(node["nodeName"]) for node in nodes if node["nodeId"] not in parents]


ACTIVITYNET = Layout("activitynet", "the JSON file of version 1.3", read)

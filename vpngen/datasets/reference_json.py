"""The JSON files of 3D-ResNets-PyTorch, whose videos are folders of images.

Files are <root>/<class>/<id>/image_00001.jpg, ..., or <root>/<video_path>/... where an entry has that. Of ActivityNet with `fps`
entered they are <root>/v_<id>/..., and each segment is a video.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vpngen.datasets.activitynet import NAMES, database, leaves
from vpngen.datasets.base import Layout, Listed, Video, below, located, malformed, only, pair
from vpngen.errors import ConflictError


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The videos of a subset; the classes are `labels`, in their order, or the leaves of the taxonomy."""
    path, content = database(root, annotations, "*.json")
    flat = "labels" in content or "taxonomy" not in content
    classes = content.get("labels") if flat else leaves(path, content)
    if not isinstance(classes, list) or not classes or not all(isinstance(c, str) for c in classes):
        raise malformed(str(path), classes, "a list of `labels`")
    numbers = {name: k for k, name in reversed([*enumerate(classes)])}
    videos = []
    for name, entry in content["database"].items():
        where = f"{path}, video {name}"
        if isinstance(entry, dict) and entry.get("subset", "") not in ("", NAMES[subset]):
            continue
        given = entry.get("annotations") if isinstance(entry, dict) else None
        several: list[Any] = given if isinstance(given, list) else [given]
        if not several or not all(isinstance(annotation, Mapping) for annotation in several):
            raise malformed(where, entry, "a video with `subset` and `annotations`")
        labels = [a.get("label") for a in several]
        if wrong := [label for label in labels if not isinstance(label, str) or label not in numbers]:
            raise malformed(where, wrong[0], "one of the `labels`")
        for part in (name, *labels, *([str(entry["video_path"])] if "video_path" in entry else ())):
            below(where, part)
        # A list is of ActivityNet, whose segments are in seconds; else they are numbers of images.
        images = isinstance(given, Mapping) or (flat and "fps" not in entry)
        number = operator.index if images else _image_at(where, entry)
        folder = _folder(root, name, entry, labels, flat)
        film = re.match(r"(.*_g\d+)_c\d+$", name)
        group = f"{several[0]['label']}/{film[1] if film else name}"
        for k, annotation in enumerate(several):
            segment = annotation.get("segment")
            frames = None if segment is None and len(several) == 1 else pair(where, segment, number)
            title = f"{name}/{k}" if len(several) > 1 else name
            videos.append(Video(title, folder, numbers[annotation["label"]], group, frames=frames))
    return classes, videos


def _image_at(where: str, entry: Mapping[str, Any]) -> Callable[[Any], int]:
    """What makes of seconds the number of an image, as the reference does."""
    fps = entry.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
        remedy = "add_fps_into_activitynet_json.py of 3D-ResNets-PyTorch enters it"
        raise ConflictError(f"{where}: `fps` (={fps!r}) must be images a second, for segments in seconds; {remedy}")
    return lambda seconds: math.floor(float(seconds) * fps) + 1


def _folder(root: Path, name: str, entry: Mapping[str, Any], labels: Iterable[str], flat: bool) -> Path:
    if "video_path" in entry:
        return located(root, str(entry["video_path"]))
    places = [] if flat else [root / f"v_{name}", root / name]
    places += [located(root, label, name) for label in dict.fromkeys(labels)]
    found = [place for place in places if place.is_dir()] if len(places) > 1 else []
    return only(found, name) or places[0]


JSON = Layout("json", "the JSON file of 3D-ResNets-PyTorch", read)

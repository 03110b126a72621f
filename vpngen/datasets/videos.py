"""Which videos a data set has, and of which class each is: the annotation files as their makers publish them.

A reader opens no video. Videos that are listed and not there stay in the set: who reads them reports them.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vpngen import rng
from vpngen.errors import ArgumentError, ConflictError

SUBSETS: Final = ("train", "val")
SUFFIXES: Final = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv",
)  # fmt: skip
"""Of video files."""
BESIDE: Final = (
    ".part", ".ytdl", ".json", ".txt", ".description", ".vtt", ".srt", ".jpg", ".jpeg", ".png", ".wav", ".mp3", ".npy", ".pkl",
)  # fmt: skip
"""Of files that lie beside videos of the same name. Any other suffix, or none, may be a video too."""
SYSTEM: Final = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
"""Folders that no one put there."""
SPLITS: Final = 3
"""Of UCF-101 and HMDB-51, numbered from 1."""


@dataclass(frozen=True)
class Video:
    """One video, or one segment of one.

    Attributes:
        id: unlike that of any other of its set.
        path: a file, or a folder of JPEGs.
        label: the number of its class.
        group: what was cut from the same film has the same group, and should not be on both sides of a division.
        segment: (start, end) in seconds; None for all of it.
        frames: of a folder of JPEGs, the number of the first image and one after the last; None for all of them.
    """

    id: str
    path: Path
    label: int
    group: str
    segment: tuple[float, float] | None = None
    frames: tuple[int, int] | None = None


@dataclass(frozen=True)
class VideoSet:
    """A list of labelled videos.

    Attributes:
        kind: one of `KINDS`.
        subset: `train` or `val`.
        split: from 1, of sets that are split more than once; else 1.
        classes: names, in the order of their labels.
        videos: in the order of the list.
    """

    kind: str
    subset: str
    split: int
    classes: tuple[str, ...]
    videos: tuple[Video, ...]


def read_videos(
    kind: str, root: str | Path, annotations: str | Path | None = None, *, subset: str = "train", split: int = 1
) -> VideoSet:
    """The videos of a data set.

    Args:
        kind: how they are listed:
            `ucf101`: a folder with classInd.txt, trainlist01.txt, testlist01.txt, ...; files <root>/<class>/v_....avi.
            `hmdb51`: a folder with <class>_test_split1.txt, ...; files <root>/<class>/....avi.
            `activitynet`: the JSON of version 1.3; files v_<id>.mp4 and the like in <root> or in folders of it, of which each
            segment is a video.
            `kinetics`: a CSV of 400, 600 or 700 classes, or a folder with one of each subset, in it or one level below; files
            <id>_<start>_<end>.mp4 and the like in <root>, <root>/<class>, <root>/train or <root>/train/<class>, where the
            folder may also be train_256 and the like; with times as 000010 or 10, or none where one clip alone can be meant.
            `json`: that of 3D-ResNets-PyTorch; folders of JPEGs <root>/<class>/<id>. Of ActivityNet with `fps` entered,
            folders of JPEGs <root>/v_<id>, of which each segment is a video.
            `folder`: none; files <root>/train/<class>/... and <root>/val/<class>/... (or test), or <root>/<class>/...,
            which is all `train`, and of which `hold_out` puts a part aside.
            Of `ucf101`, `hmdb51` and `folder`, folders without a video are no classes.
        root: the folder of the videos.
        annotations: the file or folder that lists them; None looks in `root`, under the names that they come with.
        subset: `train`, or `val`, which is also what some call validation or test.
        split: which of the three of `ucf101` and `hmdb51`.

    Raises:
        ArgumentError: a kind, subset or split that there is not; no `annotations` where they cannot be found.
        ConflictError: annotations that are not there, malformed or contradict the folder; none of the videos is there; two
            files that could be the same video, or two videos that could be the same file.
    """
    if kind not in READERS:
        raise ArgumentError(f"must be one of {', '.join(KINDS)}", "kind", kind)
    if subset not in SUBSETS:
        raise ArgumentError(f"must be one of {', '.join(SUBSETS)}", "subset", subset)
    most = SPLITS if kind in ("ucf101", "hmdb51") else 1
    if isinstance(split, bool) or not isinstance(split, int) or not 1 <= split <= most:
        raise ArgumentError(f"of {kind} must be {f'from 1 to {most}' if most > 1 else '1'}", "split", split)
    root = Path(root)
    if not root.is_dir():
        raise ConflictError(f"`root` (={str(root)!r}) is not a folder; give the one that holds the videos")
    given = None if annotations is None else Path(annotations)
    if given is not None and not given.exists():
        raise ConflictError(f"`annotations` (={str(given)!r}) is not there")
    found = READERS[kind](root, given, subset, split)
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


def hold_out(videos: VideoSet, share: float, seed: int) -> tuple[VideoSet, VideoSet]:
    """The set in two: what stays, and what is put aside to validate with. A group goes to one side as a whole.

    Of each class that has two groups or more, both sides have one.

    Args:
        videos: to divide.
        share: of the groups of each class that is put aside, between 0 and 1.
        seed: which ones, in [0, 2**64).

    Returns:
        What stays, of the same subset; and what is put aside, as `val`.

    Raises:
        ArgumentError: a share or a seed out of range; nothing that could be put aside.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ArgumentError("must be between 0 and 1", "share", share)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ArgumentError("must be an integer in [0, 2**64)", "seed", seed)
    labels: dict[str, set[int]] = defaultdict(set)
    for video in videos.videos:
        labels[video.group].add(video.label)
    groups = sorted(labels)
    left: dict[int, int] = defaultdict(int)
    for group in groups:
        for label in labels[group]:
            left[label] += 1
    owed = {label: min(max(round(share * n), 1), n - 1) for label, n in left.items()}
    aside = set()
    for i in rng.permute(range(len(groups)), len(groups), seed).tolist() if groups else ():
        mine = labels[groups[i]]
        if any(owed[label] > 0 for label in mine) and all(left[label] > 1 for label in mine):
            aside.add(groups[i])
            for label in mine:
                left[label] -= 1
                owed[label] -= 1
    if not aside:
        raise ArgumentError("no class of the set has two groups, so nothing of it can be put aside")
    stays = tuple(video for video in videos.videos if video.group not in aside)
    return (
        replace(videos, videos=stays),
        replace(videos, subset="val", videos=tuple(video for video in videos.videos if video.group in aside)),
    )


# --- what the readers share


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(file:line, words) of each line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConflictError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            yield f"{path}:{number}", words


def _malformed(where: str, what: object, wanted: str) -> ConflictError:
    return ConflictError(f"{where}: {what!r} is not {wanted}; get the file anew")


def _folder_of(root: Path, given: Path | None, names: Sequence[str], file: str) -> Path:
    """The folder with the lists: the one that was given, or `root` or one of `names` in or beside it that has `file`."""
    places = [given] if given is not None else [root, *(root / n for n in names), *(root.parent / n for n in names)]
    for place in places:
        if any(place.glob(file)):
            return place
    if given is None:
        raise ArgumentError(f"must be given: there is no {file} in {', '.join(map(str, places))}", "annotations")
    raise ConflictError(f"`annotations` (={str(given)!r}) has no {file}; it has {_listed(given)}")


def _listed(folder: Path) -> str:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return (", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")) or "nothing"


def _folders(root: Path) -> list[str]:
    """Names of the folders in a folder, but for those of the system."""
    return sorted(e.name for e in _entries(root) if e.name not in SYSTEM and not e.name.startswith(".") and e.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ConflictError(f"{folder} cannot be read: {error.strerror}") from None


def _is_video(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _classes(root: Path, known: Collection[str] = ()) -> set[str]:
    """Names of the folders in a folder that hold a video, and of the `known` ones that may hold none."""
    return {name for name in _folders(root) if name in known or any(_is_video(e.name) for e in _entries(root / name))}


def _check_classes(listed: set[str], lists: Path, file: Path, root: Path) -> None:
    """Raises ConflictError where the lists, `file` in the folder `lists`, and the folder of videos have different classes."""
    there = _classes(root, listed) - {lists.name}
    if listed != there:
        raise ConflictError(
            f"{file} and {root} have different classes: {_some(listed - there)} in the lists alone, "
            f"{_some(there - listed)} in the folder alone; give the folder and the lists of one and the same set"
        )


def _some(names: set[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "") if some else "none"


def _json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConflictError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConflictError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise _malformed(
            str(path), sorted(content)[:5] if isinstance(content, dict) else content, "a `database` of videos"
        )
    return content


class _Files:
    """Finds videos by the names of their files without suffix, looking once into each folder.

    A file with the suffix of a video goes before what may be one, such as a folder of JPEGs.

    Args:
        folders: whether a folder may be a video.
    """

    def __init__(self, folders: bool) -> None:
        self._folders = folders
        self._known: dict[Path, dict[str, str]] = {}

    def _names(self, folder: Path) -> dict[str, str]:
        """Name without suffix -> the names with it, parted by slashes."""
        if folder not in self._known:
            files: dict[str, str] = {}
            others: dict[str, str] = {}
            for entry in _entries(folder):
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() in BESIDE or (not self._folders and entry.is_dir()):
                    continue
                kind = files if suffix.lower() in SUFFIXES else others
                kind[stem] = f"{kind[stem]}/{entry.name}" if stem in kind else entry.name
            self._known[folder] = others | files
        return self._known[folder]

    def find(self, folders: Iterable[Path], stems: Iterable[str], video: str) -> Path | None:
        """The file of a video with one of these names; None for none. Raises ConflictError for several."""
        found = [
            folder / name
            for folder in folders
            for stem in stems
            for name in self._names(folder).get(stem, "").split("/")
            if name
        ]
        _check_single(found, video)
        return found[0] if found else None


def _check_single(found: Sequence[Path], video: str) -> None:
    """Raises ConflictError where a video could be several files; links to the same one are not several."""
    if len(found) > 1 and len({path.resolve() for path in found}) > 1:
        raise ConflictError(
            f"the video {video} could be {' or '.join(map(str, found))}; leave one of them in the folder"
        )


# --- the readers


def _ucf101(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    lists = _folder_of(root, given, ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask"), "classInd.txt")
    classes: list[str] = []
    for where, words in _lines(lists / "classInd.txt"):
        if len(words) != 2 or words[0] != str(len(classes) + 1) or words[1] in classes:
            raise _malformed(where, " ".join(words), f"`{len(classes) + 1} <name of a class>`")
        classes.append(words[1])
    path = lists / f"{'train' if subset == 'train' else 'test'}list{split:02d}.txt"
    if not path.is_file():
        raise ConflictError(f"there is no {path}; {lists} has {_listed(lists)}")
    _check_classes(set(classes), lists, lists / "classInd.txt", root)
    videos = []
    for where, words in _lines(path):
        folder, _, name = words[0].partition("/")
        if not name or len(words) > 2 or (subset == "train" and len(words) != 2):
            raise _malformed(where, " ".join(words), "`<class>/<video>.avi <number of the class>`")
        if folder not in classes or (len(words) == 2 and words[1] != str(classes.index(folder) + 1)):
            raise _malformed(where, " ".join(words), "of a class as classInd.txt numbers it")
        label = classes.index(folder)
        videos.append(Video(Path(name).stem, root / folder / name, label, _ucf_group(folder, name)))
    return VideoSet("ucf101", subset, split, tuple(classes), tuple(videos))


def _ucf_group(folder: str, name: str) -> str:
    found = re.search(r"_(g\d+)_c\d+", name)
    return f"{folder}/{found[1] if found else Path(name).stem}"


def _hmdb51(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    names = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
    lists = _folder_of(root, given, names, "*_test_split[0-9].txt")
    every = {
        re.sub(r"_test_split\d\.txt$", "", path.name)
        for path in lists.glob("*_test_split[0-9].txt")
        if not path.name.startswith(".")
    }
    paths = {name: path for name in every if (path := lists / f"{name}_test_split{split}.txt").is_file()}
    for name in sorted(every - set(paths)):
        raise ConflictError(f"there is no {lists / f'{name}_test_split{split}.txt'}; {lists} has {_listed(lists)}")
    _check_classes(every, lists, lists, root)
    classes, videos = sorted(paths), []
    for label, name in enumerate(classes):
        for where, words in _lines(paths[name]):
            # Names hold no blanks; 1 is for training, 2 for testing, 0 for neither.
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise _malformed(where, " ".join(words), "`<video>.avi <0, 1 or 2>`")
            if words[1] == ("1" if subset == "train" else "2"):
                source, found, _ = words[0].partition(f"_{name}_")
                group = source if found else re.sub(r"_\d+$", "", Path(words[0]).stem)
                videos.append(Video(f"{name}/{Path(words[0]).stem}", root / name / words[0], label, f"{name}/{group}"))
    return VideoSet("hmdb51", subset, split, tuple(classes), tuple(videos))


def _activitynet(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    path = _file_of(root, given, "activity_net*.json")
    content = _json(path)
    classes = _leaves(path, content)
    labels = {name: i for i, name in enumerate(classes)}
    wanted = {"train": "training", "val": "validation"}[subset]
    owners: dict[str, str] = {}
    for name in content["database"]:
        for stem in (f"v_{name}", name):
            if owners.setdefault(stem, name) != name:
                raise ConflictError(f"{path}: a file {stem} could be the video {owners[stem]} or {name}")
    # The archives have folders of folders: v1-3/train_val.
    places = [root]
    for place in (root, *(root / name for name in _folders(root) if name not in owners)):
        places += [place / name for name in _folders(place) if name not in owners]
    files, videos = _Files(folders=False), []
    for name, entry in content["database"].items():
        where = f"{path}, video {name}"
        if not isinstance(entry, dict) or entry.get("subset") not in ("training", "validation", "testing"):
            raise _malformed(where, entry, "of a subset training, validation or testing")
        if entry["subset"] != wanted:
            continue
        file = files.find(places, (f"v_{name}", name), name) or root / f"v_{name}.mp4"
        for k, annotation in enumerate(entry.get("annotations") or ()):
            label = annotation.get("label") if isinstance(annotation, dict) else None
            if label not in labels:
                raise _malformed(where, label, "the name of a class of the taxonomy")
            start, end = _pair(where, annotation.get("segment"), float)
            videos.append(Video(f"{name}/{k}", file, labels[label], name, segment=(start, end)))
    return VideoSet("activitynet", subset, split, classes, tuple(videos))


def _leaves(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of a taxonomy, in its order."""
    nodes = content.get("taxonomy")
    if not isinstance(nodes, list) or not all(
        isinstance(n, dict) and {"nodeId", "nodeName", "parentId"} <= set(n) for n in nodes
    ):
        raise _malformed(str(path), "taxonomy", "a list of nodes with nodeId, nodeName and parentId")
    parents = {node["parentId"] for node in nodes}
    return tuple(str(node["nodeName"]) for node in nodes if node["nodeId"] not in parents)


def _file_of(root: Path, given: Path | None, pattern: str) -> Path:
    """The file that was given, or the only one of this pattern in the folder that was given, or in `root` or above."""
    if given is not None and given.is_file():
        return given
    places = [given] if given is not None else [root, root.parent]
    for place in places:
        found = sorted(path for path in place.glob(pattern) if not path.name.startswith("."))
        if len(found) == 1:
            return found[0]
        if found:
            raise ArgumentError(f"must be one of {', '.join(map(str, found))}", "annotations")
    if given is None:
        raise ArgumentError(f"must be given: there is no {pattern} in {', '.join(map(str, places))}", "annotations")
    raise ConflictError(f"`annotations` (={str(given)!r}) has no {pattern}; it has {_listed(given)}")


def _pair(where: str, value: Any, number: Callable[[Any], Any]) -> tuple[Any, Any]:
    try:
        first, last = map(number, value)
    except (TypeError, ValueError, OverflowError):
        raise _malformed(where, value, "a segment of two numbers") from None
    return first, last


NAMES: Final = {"train": ("train", "training"), "val": ("val", "validate", "validation", "valid")}
"""Subset -> what the annotations of Kinetics call it."""
PARTS: Final = {name: re.compile(rf"(^|[_-]){name}[^ ]*$") for name in SUBSETS}
"""Subset -> what copies of Kinetics call its folder: train, training, train_256, videos_train, ..."""
TABLES: Final = re.compile(r"(^|[_-])(train|val)|kinetics|annot|csv|list|[467]00")
"""What folders of annotations are called: others, which may be hundreds of classes, are not looked into."""


def _kinetics(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    place = given or root
    rows: dict[str, list[tuple[str, str, str, str]]] = {}
    if place.is_file():
        rows = _kinetics_rows(place, subset)
        sources = str(place)
    else:
        chosen = _kinetics_tables(place)
        if subset not in chosen:
            raise ConflictError(
                f"there is no {' or '.join(f'{w}.csv' for w in NAMES[subset])} in {place}, nor kinetics-400_{NAMES[subset][0]}.csv "
                f"and the like, nor one level below; it has {_listed(place)}"
            )
        for name, path in chosen.items():
            rows[name] = _kinetics_rows(path, name).get(name, [])
        sources = " and ".join(map(str, chosen.values()))
        train, val = ({label for label, *_ in rows.get(name, [])} for name in SUBSETS)
        if train and val and train != val:
            raise ConflictError(
                f"{sources} have different classes: {_some(train - val)} to train with alone, {_some(val - train)} to "
                f"validate with alone"
            )
    classes = tuple(sorted({label for some in rows.values() for label, *_ in some}))
    labels = {name: i for i, name in enumerate(classes)}
    forms = {name: {name} | ({name.replace(" ", "_")} - set(classes)) for name in classes}
    known = {form for some in forms.values() for form in some}
    parts = [name for name in _folders(root) if name not in known]  # "training dog" is a class
    tops = {name: [root, *(root / p for p in parts if PARTS[name].search(p.lower()))] for name in SUBSETS}
    there = {top: set(_folders(top)) for some in tops.values() for top in some}
    strange = {
        name
        for top in tops[subset][1:] or [root]
        for name in there[top] - known
        if there[top] & known
        if top != root or (name != "test" and not any(part.search(name.lower()) for part in PARTS.values()))
    }
    missing = {name for name in classes if not any(forms[name] & there[top] for top in tops[subset])}
    if strange and missing:
        # Copies with a class missing are common, and so are folders of something else; both at once is another set.
        raise ConflictError(
            f"{sources} and {root} have different classes: {_some(missing)} in the lists alone, {_some(strange)} in the folder "
            f"alone; are these annotations of the same Kinetics?"
        )
    files = _Files(folders=True)
    places = {
        (part, name): [top / form for top in some for form in sorted(forms[name] & there[top])] + some
        for part, some in tops.items()
        for name in classes
    }

    def file_of(part: str, row: tuple[str, str, str, str]) -> Path | None:
        label, name, stem, short = row
        return files.find(places[part, label], dict.fromkeys((stem, short, name)), f"{label}/{stem}")

    videos, loose = {}, False
    for row in rows.get(subset, []):
        label, name, stem, _ = row
        file, here = file_of(subset, row), places[subset, label]
        loose = loose or (file is not None and not file.name.startswith(stem))
        if file is None:
            file = here[0 if len(here) > len(tops[subset]) else -1] / f"{stem}.mp4"
        videos[label, stem] = Video(f"{label}/{stem}", file, labels[label], name)
    if loose:
        # A name without times could be that of any clip of a film.
        owners: dict[Path, str] = {}
        for part, some in rows.items():
            for row in some:
                file = file_of(part, row)
                if file is not None and owners.setdefault(file, row[2]) != row[2]:
                    raise ConflictError(
                        f"{file} could be the clip {owners[file]} or {row[2]}, which {sources} list; give it that name"
                    )
    return VideoSet("kinetics", subset, split, classes, tuple(videos.values()))


def _kinetics_tables(place: Path) -> dict[str, Path]:
    """Subset -> its CSV, in a folder or, where it is not there, one level below."""
    chosen: dict[str, Path] = {}
    for level in range(2):
        folders = [place / name for name in _folders(place) if TABLES.search(name.lower())] if level else [place]
        tables = sorted(p for folder in folders for p in folder.glob("*.csv") if p.is_file() and p.name[0] != ".")
        for name, words in NAMES.items():
            of_it = [p for p in tables if re.search(rf"(^|[_-])({'|'.join(words)})([_.-]|$)", p.name.lower())]
            if name not in chosen and len(of_it) > 1:
                raise ArgumentError(f"must be one of {', '.join(map(str, of_it))}", "annotations")
            if of_it:
                chosen.setdefault(name, of_it[0])
        if len(chosen) == len(NAMES):
            break
    return chosen


def _kinetics_rows(path: Path, subset: str) -> dict[str, list[tuple[str, str, str, str]]]:
    """Subset -> (label, YouTube id, name of the file without suffix, the same with times of fewest digits) of each row.

    Params without a subset are of `subset`.
    """
    rows: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            needed = {"label", "youtube_id", "time_start", "time_end"}
            if not needed <= set(table.fieldnames or ()):
                raise _malformed(
                    f"{path}:1", ",".join(table.fieldnames or ()), "label,youtube_id,time_start,time_end,split"
                )
            for row in table:
                where = f"{path}:{table.line_num}"
                if not row["label"] or not row["youtube_id"]:
                    raise _malformed(where, ",".join(str(v) for v in row.values()), "a label and a youtube_id")
                start, end = _pair(where, (row["time_start"], row["time_end"]), lambda t: int(float(t)))
                part = (row.get("split") or subset).strip().lower()
                for name, words in NAMES.items():
                    part = name if part in words else part
                if part not in (*SUBSETS, "test", "testing"):
                    raise _malformed(where, part, "a split: train, val or test")
                name = row["youtube_id"]
                rows[part].append((row["label"], name, f"{name}_{start:06d}_{end:06d}", f"{name}_{start}_{end}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConflictError(f"{path} cannot be read: {error}") from None
    return {name: some for name, some in rows.items() if name in SUBSETS}


def _reference(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    path = _file_of(root, given, "*.json")
    content = _json(path)
    flat = "labels" in content or "taxonomy" not in content
    if flat:
        named = content.get("labels")
        if not isinstance(named, list) or not named or not all(isinstance(c, str) for c in named):
            raise _malformed(str(path), named, "a list of `labels`")
        classes = tuple(named)
    else:
        classes = _leaves(path, content)
    labels = {name: i for i, name in enumerate(classes)}
    wanted = {"train": "training", "val": "validation"}[subset]
    videos = []
    for name, entry in content["database"].items():
        where = f"{path}, video {name}"
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(annotations, (Mapping, list)):
            raise _malformed(where, entry, "a video with `subset` and `annotations`")
        if entry.get("subset") != wanted:
            continue
        several = annotations if isinstance(annotations, list) else [annotations]
        if not several or not all(isinstance(a, Mapping) for a in several):
            raise _malformed(where, annotations, "a video with `subset` and `annotations`")
        for annotation in several:
            if annotation.get("label") not in labels:
                raise _malformed(where, annotation.get("label"), "one of the `labels`")
        # A list is of ActivityNet, whose segments are in seconds; else they are numbers of images.
        number = (
            _whole if isinstance(annotations, Mapping) or (flat and "fps" not in entry) else _image_at(where, entry)
        )
        folder = _images_of(root, name, entry, [a["label"] for a in several], flat)
        found = re.search(r"_g\d+(?=_c\d+$)", name)
        group = f"{several[0]['label']}/{name[: found.end()] if found else name}"
        for k, annotation in enumerate(several):
            segment = annotation.get("segment")
            frames = None if segment is None and len(several) == 1 else _pair(where, segment, number)
            title = f"{name}/{k}" if len(several) > 1 else name
            videos.append(Video(title, folder, labels[annotation["label"]], group, frames=frames))
    return VideoSet("json", subset, split, classes, tuple(videos))


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _image_at(where: str, entry: Mapping[str, Any]) -> Callable[[Any], int]:
    """What makes of seconds the number of an image, as the reference does."""
    fps = entry.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
        raise ConflictError(
            f"{where}: its segments are in seconds, and `fps` (={fps!r}) must say how many images a second has; "
            f"add_fps_into_activitynet_json.py of 3D-ResNets-PyTorch enters it"
        )
    return lambda seconds: math.floor(float(seconds) * fps) + 1


def _images_of(root: Path, name: str, entry: Mapping[str, Any], labels: Iterable[str], flat: bool) -> Path:
    """The folder of the JPEGs of a video."""
    if "video_path" in entry:
        return root / str(entry["video_path"])
    places = [root / label / name for label in dict.fromkeys(labels)]
    if not flat:
        places = [root / f"v_{name}", root / name, *places]
    found = [place for place in places if place.is_dir()] if len(places) > 1 else []
    _check_single(found, name)
    return (found or places)[0]


def _folder(root: Path, given: Path | None, subset: str, split: int) -> VideoSet:
    if given is not None:
        raise ArgumentError("are not for the kind `folder`, whose folders say all", "annotations", str(given))
    parts = {
        "train": root / "train",
        "val": next((p for p in (root / "val", root / "test") if p.is_dir()), root / "val"),
    }
    filled = {name: _classes(path) for name, path in parts.items() if path.is_dir()}
    divided = {name: parts[name] for name, some in filled.items() if some}
    if not divided and subset != "train":
        raise ConflictError(
            f"{root} has no folder `val` or `test`, so all of it is `train`; give `holdout`, a share of the training videos to put "
            f"aside"
        )
    top = divided.get(subset) if divided else root
    if top is None:
        raise ConflictError(
            f"{root} has no folder `{subset}`{' or `test`' * (subset == 'val')} with videos in folders of it; it has {_listed(root)}"
        )
    known = set().union(*filled.values()) if divided else _classes(root)
    if len(divided) == 2:
        train, val = (_classes(path, known) for path in divided.values())
        if train != val:
            raise ConflictError(
                f"{parts['train']} and {parts['val']} have different classes: {_some(train - val)} in the first alone, "
                f"{_some(val - train)} in the second alone"
            )
    classes = tuple(sorted(_classes(top, known)))
    videos = [
        Video(f"{name}/{file}", top / name / file, label, f"{name}/{file}")
        for label, name in enumerate(classes)
        for file in sorted(os.listdir(top / name))
        if _is_video(file)
    ]
    return VideoSet("folder", subset, split, classes, tuple(videos))


READERS: Final[dict[str, Callable[[Path, Path | None, str, int], VideoSet]]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "activitynet": _activitynet,
    "kinetics": _kinetics,
    "json": _reference,
    "folder": _folder,
}
KINDS: Final = tuple(READERS)

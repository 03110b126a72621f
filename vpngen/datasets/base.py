"""What a set of videos is, and what the readers of published layouts share.

Needs no NumPy, so that the command line can list the layouts at once.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from vpngen import files
from vpngen.errors import ArgumentError, ConflictError, shown
from vpngen.units import count_text

SUFFIXES: Final = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".ts", ".vob", ".3gp", ".ogv",
    ".mts", ".m2ts", ".m2t", ".gif", ".mpg2", ".mpeg2", ".mpe", ".m1v", ".m2v", ".mpv", ".mod", ".tod", ".mxf", ".f4v", ".y4m",
    ".3g2", ".3gpp", ".qt", ".divx", ".xvid", ".ogg", ".ogm", ".mk3d", ".dv", ".rm", ".rmvb", ".nut", ".ivf", ".h264", ".264",
    ".h265", ".265", ".hevc", ".wtv",
)  # fmt: skip
"""Of video files."""
IMAGE: Final = re.compile(r"((?!\.).*?)([0-9]{1,18})(\.(?:jpe?g|png))", re.IGNORECASE)
"""The name of a frame: what all begin with, its number, the suffix."""

MOST_PART: Final = 200
"""Bytes of a name, or of a part between slashes; systems take 255, and a suffix may be added."""
MOST_NAME: Final = 1000


@dataclass(frozen=True)
class Video:
    """One video, or one segment of one.

    Attributes:
        id: unlike that of any other of its set.
        path: a file, or a folder of JPEGs or PNGs.
        label: the number of its class; 0 in a set without labels.
        group: what was cut from the same film has the same group, and should not be on both sides of a division.
        segment: (start, end) in seconds; None for all of it.
        frames: of such a folder, the number of the first image and one after the last; None for all of them.
    """

    id: str
    path: Path
    label: int
    group: str
    segment: tuple[float, float] | None = None
    frames: tuple[int, int] | None = None


@dataclass(frozen=True)
class VideoSet:
    """A list of videos, with their labels or without.

    Attributes:
        kind: one of `KINDS`.
        subset: `train` or `val`.
        split: from 1, of sets that are split more than once; else 1.
        classes: names, in the order of their labels; none of a set without labels.
        videos: in the order of the list.
    """

    kind: str
    subset: str
    split: int
    classes: tuple[str, ...]
    videos: tuple[Video, ...]

    def __repr__(self) -> str:
        labels = f"of {count_text(len(self.classes), 'class')}" if self.classes else "without labels"
        return (
            f"VideoSet({self.kind} {self.subset}, split {self.split}: {count_text(len(self.videos), 'video')} {labels})"
        )


Listed = tuple[Sequence[str], Iterable[Video]]
"""Names of the classes, in the order of their labels, none without labels; and the videos of a subset."""


@dataclass(frozen=True)
class Layout:
    """A way in which the videos of a set lie in folders and are listed.

    Attributes:
        name: the `kind` of `read_videos`.
        annotations: what must be given as `annotations`, for help; empty where there is nothing to give.
        read: a function of `root`, `annotations` (None to look for them in and beside `root`), `subset` and `split`. It opens
            no video, and keeps those that are listed and not there. Raises ArgumentError where the annotations cannot be
            found, ConflictError where they are malformed or contradict the folder.
        splits: how many there are, numbered from 1.
    """

    name: str
    annotations: str
    read: Callable[[Path, Path | None, str, int], Listed]
    splits: int = 1


def malformed(where: str, what: object, wanted: str) -> ConflictError:
    """The error that `what`, found at `where`, is not what was `wanted`."""
    return ConflictError(f"{where}: {shown(what)} is not {wanted}; get the file anew")


def below(where: str, name: str) -> str:
    """`name`, found at `where`, if it can only be that of something below a folder. Raises ConflictError."""
    parts = name.split("/")
    try:
        long = len(os.fsencode(name)) > MOST_NAME or any(len(os.fsencode(part)) > MOST_PART for part in parts)
    except UnicodeEncodeError:
        long = True
    if long or "\0" in name or not parts[0] or ".." in parts:
        raise malformed(where, name, "a name below a folder: not absolute, without `..`, not too long")
    return name


def find_lists(root: Path, given: Path | None, pattern: str, names: Collection[str] = ()) -> list[Path]:
    """The files of a pattern, sorted, in the folder that was given, or in the first that has any.

    Those are `root` and, in it and beside it, the folders called `names`; without names the parent of `root`. Raises ArgumentError
    or ConflictError where there is none.
    """
    near = [top / name for top in (root, root.parent) for name in names] or [root.parent]
    places = [root, *near] if given is None else [given]
    for place in places:
        if found := sorted(path for path in place.glob(pattern) if path.name[0] != "."):
            return found
    if given is None:
        raise ArgumentError(f"must be given: there is no {pattern} in {', '.join(map(str, places))}", "annotations")
    raise ConflictError(f"`annotations` (={str(given)!r}) has no {pattern}; it has {content(given)}")


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file:line, text) of each line that is not empty. Raises ConflictError."""
    try:
        for number, line in enumerate(text_of(path), 1):
            if text := line.strip():
                yield f"{path}:{number}", text
    except (OSError, UnicodeDecodeError) as error:
        raise ConflictError(f"{path} cannot be read ({error}); its folder has {content(path.parent)}") from None


def text_of(path: Path) -> TextIO:
    """A list or table, its lines as they end; decoded as they are read. Raises OSError."""
    return io.TextIOWrapper(io.BytesIO(files.read(path)), encoding="utf-8-sig", newline="")


def pair(where: str, value: Any, number: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Both ends of a segment, each made by `number`. Raises ConflictError."""
    try:
        first, last = map(number, value)
    except (TypeError, ValueError, OverflowError):
        raise malformed(where, value, "a segment of two numbers") from None
    return first, last


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder. Raises ConflictError."""
    try:
        with files.enough_files(), os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise ConflictError(f"{folder} cannot be read: {error.strerror}") from None


def content(folder: Path) -> str:
    """Names of what is in a folder, some of them, for a message."""
    return some(os.listdir(folder) if folder.is_dir() else [], 20, "nothing")


def some(names: Iterable[str], most: int = 5, nothing: str = "none") -> str:
    """The first names, in order, for a message."""
    every = sorted(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "") or nothing


def folders(root: Path) -> list[str]:
    """Names of the folders in a folder, but for those of the system."""
    return sorted(e.name for e in entries(root) if e.name not in files.SYSTEM and e.name[0] != "." and e.is_dir())


def nfc(name: str) -> str:
    """A name as the same text always is: systems write letters with accents as one character or as two."""
    return unicodedata.normalize("NFC", name)


def located(top: Path, *names: str) -> Path:
    """The path of names, one within the other, however their accents are written there."""
    for name in "/".join(names).split("/"):
        inner = top / name
        if not name.isascii() and not os.path.exists(inner) and top.is_dir():
            inner = next((top / e.name for e in entries(top) if nfc(e.name) == nfc(name)), inner)
        top = inner
    return top


def video_files(folder: Path) -> list[str]:
    """Names of the videos in a folder, in order. A GIF beside a video of its name is a picture of that."""
    names = sorted(e.name for e in entries(folder) if e.name.lower().endswith(SUFFIXES) and e.name[0] != ".")
    stems = {os.path.splitext(name)[0] for name in names if not name.lower().endswith(".gif")}
    return [name for name in names if not (name.lower().endswith(".gif") and name[:-4] in stems)]


def videos_below(folder: Path, levels: int = files.DEEPEST) -> list[str]:
    """Names of the videos in a folder and its folders, such as `a.mp4` and `more/b.mp4`, in order.

    A folder of numbered images is a video too. Raises ConflictError where there are more than `levels` of folders.
    """
    names = video_files(folder)
    stems = {os.path.splitext(name)[0] for name in names}
    for name in folders(folder):
        inner = folder / name
        if name in names or name in stems or folder.resolve().is_relative_to(inner.resolve()):
            continue  # the last is a link to where we are
        if not levels:
            raise ConflictError(
                f"{inner}: too many folders within folders; put the videos nearer to the folder of their class"
            )
        if below := videos_below(inner, levels - 1):
            names += [f"{name}/{one}" for one in below]
        elif any(IMAGE.fullmatch(e.name) for e in entries(inner)):
            names.append(name)
    return sorted(names)


def class_folders(root: Path, known: Collection[str] = ()) -> set[str]:
    """Names, see `nfc`, of the folders in a folder that hold a video, and of the `known` ones that may hold none."""
    names = {nfc(name) for name in known}
    return {nfc(name) for name in folders(root) if nfc(name) in names or video_files(root / name)}


def same_classes(
    between: str, one: set[str], other: set[str], first: str = "in the lists", second: str = "in the folder"
) -> None:
    """Raises ConflictError where two places `between` them have different classes: which the `first` alone has, which the `second`."""
    if one != other:
        alone = f"{some(one - other)} {first} alone, {some(other - one)} {second} alone"
        raise ConflictError(f"{between} have different classes: {alone}; give what belongs to one and the same set")


def videos_in(folder: Path, folders: bool) -> dict[str, list[str]]:
    """Names without suffix, see `nfc` -> the names of the videos in a folder; with `folders`, of folders of images too.

    A file with the suffix of a video goes before what has none, and a GIF, often a picture of a video, comes last.
    """
    tables: tuple[dict[str, list[str]], ...] = ({}, {}, {})
    for entry in entries(folder):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in ("", *SUFFIXES) and (folders or not entry.is_dir()):
            table = tables[{".gif": 0, "": 1}.get(suffix.lower(), 2)]
            table.setdefault(nfc(stem), []).append(entry.name)
    return tables[0] | tables[1] | tables[2]


def listed_file(folder: Path, name: str, look: Callable[[Path, bool], Mapping[str, Sequence[str]]]) -> Path:
    """The path of a video that a list names; encoded anew, it has another suffix. `look` is `videos_in`. Raises ConflictError."""
    path = located(folder, name)
    if os.path.exists(path) or not path.parent.is_dir():
        return path
    return only([path.parent / file for file in look(path.parent, True).get(nfc(path.stem), ())], name) or path


def only(paths: Sequence[Path], video: str) -> Path | None:
    """The one path of a video, or None; links to the same one are not several. Raises ConflictError."""
    if len(paths) > 1 and len({path.resolve() for path in paths}) > 1:
        either = " or ".join(map(str, paths))
        raise ConflictError(f"the video {video} could be {either}; leave one of them in the folder")
    return paths[0] if paths else None

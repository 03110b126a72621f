"""Kinetics-400, -600 and -700.

Annotations are one CSV file, or a folder with one of each subset, in it or one level below. Files are <id>_000001_000011.mp4 and
the like in <root>, <root>/<class>, <root>/train or <root>/train/<class>, where the folder may also be train_256 and the like. Their
times may be of fewest digits, as in <id>_1_11.mp4, or left out where one clip alone can be meant.
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import Final, NamedTuple

from vpngen.datasets import base
from vpngen.datasets.base import (
    Layout,
    Listed,
    Video,
    content,
    folders,
    malformed,
    nfc,
    only,
    pair,
    same_classes,
    videos_in,
)
from vpngen.errors import ArgumentError, ConflictError

NAMES: Final = {"train": ("train", "training"), "val": ("val", "validate", "validation", "valid")}
"""Subset -> what the annotations of Kinetics call it."""
PARTS: Final = {name: re.compile(rf"(^|[_-]){name}[^ ]*$") for name in NAMES}
"""Subset -> what copies of Kinetics call its folder: train, training, train_256, videos_train, ..."""
TABLES: Final = re.compile(r"(^|[_-])(train|val)|kinetics|annot|csv|list|[467]00")
"""What folders of annotations are called: others, which may be hundreds of classes, are not looked into."""


MOST_TOPS: Final = 64
"""Folders of videos of one subset: each is looked into for each class."""


class Row(NamedTuple):
    """A clip that is listed: its class, and its names: with times of six digits, with times of fewest, and the id of its film."""

    label: str
    stem: str
    short: str
    film: str


def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
    """The clips of a subset; the classes are in the order of their names."""
    place = annotations or root
    tables = {subset: place} if place.is_file() else _tables(place)
    if subset not in tables:
        names = " or ".join(f"{word}.csv" for word in NAMES[subset])
        raise ConflictError(f"there is no {names} in {place}, nor one level below; it has {content(place)}")
    sources = " and ".join(map(str, tables.values()))
    if place.is_file():
        rows = _rows(place, subset)
    else:
        rows = {name: _rows(path, name)[name] for name, path in tables.items()}
        train, val = ({row.label for row in rows.get(name, [])} for name in NAMES)
        if train and not val <= train:
            same_classes(sources, train, val, "to train with", "to validate with")
    classes = sorted({row.label for part in rows.values() for row in part})
    labels = {name: i for i, name in enumerate(classes)}
    forms = {name: {nfc(name)} | ({nfc(name.replace(" ", "_"))} - set(map(nfc, classes))) for name in classes}
    known = set().union(*forms.values())
    parts = [name for name in folders(root) if nfc(name) not in known]  # "training dog" is a class
    tops = {name: [root, *(root / p for p in parts if PARTS[name].search(p.lower()))] for name in NAMES}
    if max(map(len, tops.values())) > MOST_TOPS:
        raise ConflictError(
            f"{root} has more than {MOST_TOPS} folders that could be those of a subset; it has {content(root)}"
        )
    there = {top: {nfc(name): name for name in folders(top)} for part in tops.values() for top in part}
    strange = {
        name
        for top in tops[subset][1:] or [root]
        for name in there[top].keys() - known
        if there[top].keys() & known
        and name != "test"
        and not any(part.search(name.lower()) for part in PARTS.values())
    }
    missing = {name for name in classes if not any(forms[name] & there[top].keys() for top in tops[subset])}
    if strange and missing:
        # Copies with a class missing are common, and so are folders of something else; both at once is another set.
        same_classes(f"{sources} and {root}", missing, strange)
    look = functools.cache(videos_in)
    places = {
        (part, name): [top / there[top][form] for top in some for form in sorted(forms[name] & there[top].keys())]
        + some[::-1]
        for part, some in tops.items()
        for name in classes
    }

    def file_of(part: str, row: Row) -> Path | None:
        tops, stems = places[part, row.label], dict.fromkeys(row[1:])
        found = [top / name for top in tops for stem in stems for name in look(top, True).get(nfc(stem), ())]
        return only(found, f"{row.label}/{row.stem}")

    videos, loose = {}, False
    for row in rows.get(subset, []):
        file, name = file_of(subset, row), f"{row.label}/{row.stem}"
        loose = loose or (file is not None and not file.name.startswith(row.stem))
        file = file or places[subset, row.label][0] / f"{row.stem}.mp4"
        videos[name] = Video(name, file, labels[row.label], row.film)
    if loose:
        # A name without times could be that of any clip of a film.
        owners: dict[Path, str] = {}
        for part, row in ((part, row) for part, some in rows.items() for row in some):
            file = file_of(part, row)
            if file is not None and owners.setdefault(file, row.stem) != row.stem:
                either = f"{owners[file]} or {row.stem}"
                raise ConflictError(f"{file} could be the clip {either}, which {sources} list; give it that name")
    return classes, videos.values()


def _tables(place: Path) -> dict[str, Path]:
    """Subset -> its CSV, in a folder or, where it is not there, one level below."""
    chosen: dict[str, Path] = {}
    for tops in ([place], [place / name for name in folders(place) if TABLES.search(name.lower())]):
        tables = sorted(p for top in tops for p in top.glob("*.csv") if p.is_file() and p.name[0] != ".")
        for name, words in NAMES.items():
            of_it = [p for p in tables if re.search(rf"(^|[_-])({'|'.join(words)})([_.-]|$)", p.name.lower())]
            if name not in chosen and len(of_it) > 1:
                raise ArgumentError(f"must be one of {', '.join(map(str, of_it))}", "annotations")
            if of_it:
                chosen.setdefault(name, of_it[0])
    return chosen


def _rows(path: Path, subset: str) -> dict[str, list[Row]]:
    """Subset -> its rows in a table; those that do not say theirs are of `subset`. Raises ConflictError."""
    rows: dict[str, list[Row]] = {name: [] for name in (*NAMES, "test", "testing")}
    words = {word: name for name, words in NAMES.items() for word in words}
    needed = ("label", "youtube_id", "time_start", "time_end")
    try:
        with base.text_of(path) as file:
            table = csv.DictReader(file)
            if not set(needed) <= set(table.fieldnames or ()):
                raise malformed(f"{path}:1", ",".join(table.fieldnames or ()), f"{','.join(needed)},split")
            for row in table:
                where, label, film = f"{path}:{table.line_num}", row["label"], row["youtube_id"]
                if not label or not film:
                    raise malformed(where, ",".join(map(str, row.values())), "a label and a youtube_id")
                start, end = pair(where, (row["time_start"], row["time_end"]), lambda t: int(float(t)))
                stem = f"{film}_{start:06d}_{end:06d}"
                for name in (label, stem):
                    base.below(where, name)
                part = (row.get("split") or subset).strip().lower()
                if (part := words.get(part, part)) not in rows:
                    raise malformed(where, part, "a split: train, val or test")
                rows[part].append(Row(label, stem, f"{film}_{start}_{end}", film))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConflictError(f"{path} cannot be read: {error}") from None
    return {name: rows[name] for name in NAMES}


KINETICS = Layout("kinetics", "the CSV file, or the folder of those of train and val", read)

"""Sets as files that everybody opens: videos in folders of classes, or WebDataset shards, and a table of labels and parameters.

    OUT/export.json                                   what is exported, and how
    OUT/metadata.csv, metadata.parquet                a row for each video
    OUT/train/005_D8_W1_H16/00000005.mp4              layout `folders`, of which the folder of a class says its label
    OUT/videos/005_D8_W1_H16/v_005_D8_W1_H16_g0001_c01.mp4, OUT/lists/classInd.txt, trainlist01.txt, testlist01.txt
                                                      layout `ucf101`; a group is an instance
    OUT/train-000000.tar                              `webdataset`: 00000005.npy, .cls and .json of each video

A file has its name once it is whole, so a run that was stopped goes on. All bytes are a function of the set and the options, but those
of mp4, which are libx264's.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from vpngen import checks, files, preview
from vpngen.checks import MAX_SIDE, integer, one_of, thread_count
from vpngen.errors import ArgumentError, ConflictError
from vpngen.fields import keep
from vpngen.generators import Pixels
from vpngen.preview import Source
from vpngen.rendering import Window
from vpngen.spec import Spec
from vpngen.store.layout import checked_slice, differences
from vpngen.store.targets.local import disk_errors

MANIFEST: Final = "export.json"
WEBDATASET: Final = "webdataset"
LAYOUTS: Final = ("folders", "ucf101")
ROWS: Final = 4096
"""Rows of the table that are made at once."""
SHARD_VIDEOS: Final = 32
"""Videos in a WebDataset shard where nothing is said."""


# --- kinds of files


def _frames(path: Path, frames: Pixels, fps: float) -> None:
    partial = files.partial_of(path)
    partial.mkdir()
    try:
        for number, frame in enumerate(frames, 1):
            with (partial / f"{number:05d}.png").open("wb") as file:
                Image.fromarray(frame).save(file, format="PNG")
                file.flush()
                os.fsync(file.fileno())
        files.sync_folder(partial)
        with contextlib.suppress(FileExistsError):  # another process made it
            os.rename(partial, path)
        files.sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _npz(path: Path, frames: Pixels, fps: float) -> None:
    with files.replace(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, video=frames)


_ffmpeg = functools.partial(preview.save, threads=1)


class Format(NamedTuple):
    """A kind of file: its suffix, what writes a video, and how many frames a second it may have at most, where it says any."""

    suffix: str
    write: Callable[[Path, Pixels, float], None]
    most_fps: float | None = None


FORMATS: Final = {
    "mp4": Format(".mp4", _ffmpeg, 1000.0),
    "ffv1": Format(".mkv", _ffmpeg, 1000.0),
    "gif": Format(".gif", _ffmpeg, 50.0),
    "frames": Format("", _frames),
    "npz": Format(".npz", _npz),
    WEBDATASET: Format(".tar", _npz),
}
"""All are lossless but mp4, which is H.264. Frames are numbered PNG files in a folder; an npz has `video`, uint8 (T, Y, X)."""


# --- what is exported


class Job(NamedTuple):
    """Videos of a split that are written into one file, whose path is below the folder of the export."""

    split: str
    indices: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Export:
    """What of a set is exported, and how.

    Attributes:
        spec: the set.
        to: a key of `FORMATS`.
        splits: which, in order; all where none is named.
        indices: which videos of each split; None for all.
        clip: (t, y, x) of the part that is cut from the middle of each; None for all of it.
        size: (height, width) to which that is resized; None as it is.
        fps: frames a second, where files say any.
        layout: one of `LAYOUTS`; WebDataset has its own.
        shard_videos: of a WebDataset shard.

    Raises:
        ArgumentError: anything out of range.
    """

    spec: Spec
    to: str = "mp4"
    splits: tuple[str, ...] = ()
    indices: Sequence[int] | None = None
    clip: tuple[int, int, int] | None = None
    size: tuple[int, int] | None = None
    fps: float = 25.0
    layout: str = "folders"
    shard_videos: int = SHARD_VIDEOS

    def __post_init__(self) -> None:
        one_of("to", self.to, FORMATS)
        one_of("layout", self.layout, LAYOUTS)
        if self.layout == "ucf101" and self.to == WEBDATASET:
            raise ArgumentError("cannot be given beside webdataset, which has no folders", "layout", self.layout)
        most = FORMATS[self.to].most_fps or 1000.0
        checks.number("fps", self.fps, lambda v: 0.1 <= v <= most, f"from 0.1 to {most:g} for {self.to}")
        integer("shard_videos", self.shard_videos, 1, MAX_SIDE)
        splits = tuple(dict.fromkeys(self.splits or self.spec.splits))
        for split in splits:
            if split not in self.spec.splits:
                raise ArgumentError(f"is empty in this set; it has {', '.join(self.spec.splits)}", "split", split)
        if self.indices is not None:
            for split in splits:
                found = self.spec.indices(self.indices, split).reshape(-1)
            if not len(found) or len(np.unique(found)) != len(found):
                raise ArgumentError("must name a video, and none twice", "indices", few(found.tolist()))
            keep(self, indices=tuple(found.tolist()))
        keep(self, splits=splits, clip=_sides("clip", self.clip, 3), size=_sides("size", self.size, 2))
        for side, whole in zip(self.clip or (), self.spec.shape, strict=False):
            if side > whole:
                shape = "x".join(map(str, self.spec.shape))
                raise ArgumentError(f"is larger than the videos, {shape}", "clip", "x".join(map(str, self.clip or ())))

    @property
    def window(self) -> Window:
        """The part of each video."""
        cut = self.clip or self.spec.shape
        starts = [(whole - side) // 2 for whole, side in zip(self.spec.shape, cut, strict=True)]
        t, y, x = ((start, start + side) for start, side in zip(starts, cut, strict=True))
        return Window(t, y, x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, Y, X) of what is written."""
        t, y, x = self.clip or self.spec.shape
        return (t, *self.size) if self.size else (t, y, x)

    @property
    def together(self) -> int:
        """Videos in a file."""
        return self.shard_videos if self.to == WEBDATASET else 1

    def of(self, split: str) -> Sequence[int]:
        """The videos of a split."""
        return range(self.spec.n_videos(split)) if self.indices is None else self.indices

    @property
    def n_videos(self) -> int:
        """How many."""
        return sum(len(self.of(split)) for split in self.splits)

    @functools.cached_property
    def names(self) -> list[str]:
        """The name of the folder of each class."""
        return [class_name(self.spec, label) for label in range(self.spec.n_categories)]

    def jobs(self, slice: tuple[int, int] = (1, 1)) -> Iterator[Job]:
        """What is written one by one, files of one video, or shards: every N-th from the I-th on, of `slice` (I, N)."""
        i, n = checked_slice(slice)
        return itertools.islice(itertools.chain.from_iterable(map(self._jobs, self.splits)), i - 1, None, n)

    def _jobs(self, split: str) -> Iterator[Job]:
        indices, suffix, size = self.of(split), FORMATS[self.to].suffix, self.together
        if self.to == WEBDATASET:
            for number, first in enumerate(range(0, len(indices), size)):
                yield Job(split, tuple(indices[first : first + size]), f"{split}-{number:06d}{suffix}")
            return
        before = self.spec.instances + 1 if split == "val" else 1
        for first in range(0, len(indices), ROWS):
            some = indices[first : first + ROWS]
            for index, label in zip(some, self.spec.labels(some, split).tolist(), strict=True):
                name = self.names[label]
                if self.layout == "folders":
                    path = f"{split}/{name}/{key(index)}{suffix}"
                else:
                    path = f"videos/{name}/v_{name}_g{index // self.spec.n_categories + before:04d}_c01{suffix}"
                yield Job(split, (index,), path)

    def identity(self) -> dict[str, Any]:
        """What makes it another export, as JSON: without what says nothing of its files."""
        said: dict[str, Any] = {"splits": list(self.splits), "to": self.to, "layout": self.layout}
        said |= {"indices": None if self.indices is None else few(self.indices, len(self.indices))}
        said |= {name: None if (sides := getattr(self, name)) is None else list(sides) for name in ("clip", "size")}
        said |= {"fps": self.fps} if FORMATS[self.to].most_fps else {}
        said |= {"shard_videos": self.shard_videos} if self.to == WEBDATASET else {}
        return {"format": 1, **said, "spec": self.spec.to_dict()}


def _sides(name: str, sides: Any, count: int) -> Any:
    if sides is None:
        return None
    if not isinstance(sides, (tuple, list)) or len(sides) != count:
        raise ArgumentError(f"must be {count} numbers of pixels or frames", name, sides)
    return tuple(integer(name, side, 1, MAX_SIDE) for side in sides)


def few(numbers: Sequence[int], most: int = 8) -> str:
    """The first of numbers in order, as 0,5,8-11."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:most]]
    return ",".join([*shown, *(["..."] if len(runs) > most else [])])


class Exported(NamedTuple):
    """What a run did: videos written, videos that were there, bytes written."""

    written: int
    kept: int
    nbytes: int


def key(index: int) -> str:
    """What a video is called."""
    return f"{index:08d}"


def class_name(spec: Spec, label: int) -> str:
    """The name of the folder of a class: its label, and what it is made of."""
    factors, width = spec.generator.factors, len(str(spec.n_categories - 1))
    if [f.name for f in factors] == ["category"]:
        words = [str(value) for value in spec.category(label)]
    else:
        values = [f.values[i] for f, i in zip(factors, spec.generator.factor_ids(np.array([label]))[0], strict=True)]
        words = [v if isinstance(v, str) else f"{f.name}{v}" for f, v in zip(factors, values, strict=True)]
    return "_".join([f"{label:0{width}d}", *(re.sub(r"[^A-Za-z0-9.]+", "-", word) for word in words)])


# --- the table


def columns(export: Export, split: str, indices: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """The table of some videos of a split, (N,) each; parameters of several numbers have a column for each: velocity_0, velocity_1."""
    labels = np.asarray(export.spec.labels(indices, split))
    found: dict[str, npt.NDArray[Any]] = {
        "split": np.full(len(indices), split),
        "index": np.asarray(indices, np.int64),
        "label": labels.astype(np.int64),
        "category": np.array([export.names[label] for label in labels.tolist()]),
    }
    for name, parameter in export.spec.parameters(indices, split).items():
        values = parameter.values.reshape(len(indices), -1)
        names = [name] if parameter.values.ndim == 1 else [f"{name}_{i}" for i in range(values.shape[1])]
        found |= dict(zip(names, values.T, strict=True))
    return found


def rows(export: Export) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The table of an export, some thousand rows at a time; `file` is where each is, within the folder, and in a shard its `key`."""
    for split in export.splits:
        jobs = (job for job in export.jobs() if job.split == split)
        while some := list(itertools.islice(jobs, -(-ROWS // export.together))):
            indices = [index for job in some for index in job.indices]
            where = {"file": np.array([job.path for job in some for _ in job.indices])}
            if export.to == WEBDATASET:
                where["key"] = np.array([key(index) for index in indices])
            yield where | columns(export, split, indices)


def write_csv(export: Export, path: Path) -> None:
    """Write the table as CSV."""
    with files.replace(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, part in enumerate(rows(export)):
            if not number:
                writer.writerow(part)
            writer.writerows(zip(*(column.tolist() for column in part.values()), strict=True))


def write_parquet(export: Export, path: Path) -> None:
    """Write the table as Parquet, where pyarrow is there."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return
    with files.replace(path) as partial:
        tables = (pyarrow.table(part) for part in rows(export))
        first = next(tables)
        with parquet.ParquetWriter(partial, first.schema) as written:
            for table in itertools.chain([first], tables):
                written.write_table(table)


def write_classes(export: Export, path: Path) -> None:
    """UCF-101's classInd.txt: the classes of an export follow each other."""
    files.write(path, "".join(f"{i} {name}\n" for name, i in _numbers(export).items()).encode())


def write_list(split: str, export: Export, path: Path) -> None:
    """UCF-101's list of the videos of a split, of those to train on with the number of their class."""
    number, lines = _numbers(export), []
    for job in export.jobs():
        if job.split == split:
            _, name, file = job.path.split("/")
            lines.append(f"{name}/{file} {number[name]}\n" if split == "train" else f"{name}/{file}\n")
    files.write(path, "".join(lines).encode())


def _numbers(export: Export) -> dict[str, int]:
    """Name of a class -> its number, from 1."""
    labels = set().union(*(np.unique(export.spec.labels(export.of(split), split)).tolist() for split in export.splits))
    return {export.names[label]: i for i, label in enumerate(sorted(labels), 1)}


TABLES: Final[dict[str, Callable[[Export, Path], None]]] = {
    "metadata.csv": write_csv, "metadata.parquet": write_parquet,
}  # fmt: skip
LISTS: Final[dict[str, Callable[[Export, Path], None]]] = {
    "lists/classInd.txt": write_classes, "lists/trainlist01.txt": functools.partial(write_list, "train"),
    "lists/testlist01.txt": functools.partial(write_list, "val"),
}  # fmt: skip


# --- writing


def _cut(export: Export, source: Source, index: int, split: str) -> Pixels:
    """What is written of a video."""
    pixels = np.asarray(source(index, export.window, split=split))
    if export.size is None or export.size == pixels.shape[1:]:
        return pixels
    height, width = export.size
    resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in pixels]
    return np.stack([np.asarray(frame) for frame in resized])


def _write(export: Export, source: Source, job: Job, path: Path) -> int:
    """Write the file of a job; gives its bytes."""
    if export.to != WEBDATASET:
        (index,) = job.indices
        FORMATS[export.to].write(path, _cut(export, source, index, job.split), export.fps)
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    table = columns(export, job.split, job.indices)
    with files.replace(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for at, index in enumerate(job.indices):
            pixels = io.BytesIO()
            np.save(pixels, _cut(export, source, index, job.split))
            about = {name: column[at].item() for name, column in table.items()}
            for suffix, data in (
                ("npy", pixels.getvalue()),
                ("cls", str(about["label"]).encode()),
                ("json", json.dumps(about).encode()),
            ):
                entry = tarfile.TarInfo(f"{key(index)}.{suffix}")  # of no time and nobody: the same bytes everywhere
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path.stat().st_size


def check(export: Export, out: str | Path) -> Path:
    """`out`, if an export may be written there, or go on there; changes nothing.

    Raises:
        ArgumentError: it can be no folder.
        ConflictError: it holds something else.
    """
    out = files.local(out, "out")
    if out.exists() and not out.is_dir():
        raise ArgumentError("is a file, not a folder", "out", str(out))
    if not out.exists() or all(name.startswith(f".{MANIFEST}.") for name in files.names_in(out)):
        return out
    try:
        there = files.parse_json(files.read(out / MANIFEST))
        there["spec"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConflictError(f"{str(out)!r} is not empty, and no export of vpngen; it was left untouched") from None
    if there != (wanted := json.loads(json.dumps(export.identity()))):
        lines = "\n  ".join(differences(there, wanted))
        what = f"{str(out)!r} holds another export; it was left untouched. The difference:\n  {lines}"
        raise ConflictError(f"{what}\n  Choose another folder, or remove it")
    return out


def _begin(export: Export, out: Path) -> None:
    """Make the folder and its manifest; of several runs that begin at once, one does."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / MANIFEST).exists():
        partial = files.partial_of(out / MANIFEST)
        partial.write_text(json.dumps(export.identity(), indent=1) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(partial, out / MANIFEST)
        partial.unlink()
        files.sync_folder(out)
    check(export, out)


def pending(export: Export, out: Path, slice: tuple[int, int] = (1, 1)) -> Iterator[Job]:
    """What of a slice is not there yet."""
    return (job for job in export.jobs(slice) if not (out / job.path).exists())


def write(
    export: Export,
    out: str | Path,
    sources: Callable[[str], Source],
    *,
    slice: tuple[int, int] = (1, 1),
    threads: int | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Exported:
    """Write an export, or what is left of it.

    Args:
        export: what, and how.
        out: a folder, made where it is not there.
        sources: of a split, what gives the pixels of a window of a video.
        slice: (I, N): do every N-th file from the I-th on; slices may run at the same time, in processes of their own.
        threads: files that are made at once; None for all that this process may use.
        progress: called with videos done, videos to do, and bytes.

    Raises:
        ArgumentError, ConflictError: as `check`.
        MissingError: no ffmpeg, no space.
        RunError: a file could not be written; what was written stays, and the same call goes on.
    """
    out, threads, jobs = check(export, out), thread_count(threads), export.jobs(slice)
    of = {split: sources(split) for split in export.splits}
    every = sum(len(job.indices) for job in jobs)
    with disk_errors(out):
        _begin(export, out)
        for name, make_table in (TABLES | (LISTS if export.layout == "ucf101" else {})).items():
            if not (out / name).exists():
                make_table(export, out / name)
    total, done, nbytes = sum(len(job.indices) for job in pending(export, out, slice)), 0, 0
    stopped = threading.Event()

    def make(job: Job) -> int:
        if stopped.is_set():
            return 0
        with disk_errors(out / job.path):
            (out / job.path).parent.mkdir(parents=True, exist_ok=True)
            return _write(export, of[job.split], job, out / job.path)

    waiting, running = pending(export, out, slice), dict[Future[int], Job]()
    with ThreadPoolExecutor(threads, "vpngen-export") as pool:
        try:
            while True:
                for job in itertools.islice(waiting, threads + 1 - len(running)):
                    running[pool.submit(make, job)] = job
                if not running:
                    break
                for future in wait(running, timeout=0.2, return_when=FIRST_COMPLETED)[0]:
                    job = running.pop(future)
                    nbytes, done = nbytes + future.result(), done + len(job.indices)
                    if progress is not None:
                        progress(done, total, nbytes)
        except BaseException:
            stopped.set()
            raise
    return Exported(done, every - done, nbytes)


def estimate(export: Export, sources: Callable[[str], Source], folder: Path, videos: int = 4) -> tuple[float, float]:
    """Bytes and CPU seconds of a video, from writing some into a folder. Raises as `write`."""
    split = export.splits[0]
    source, indices = sources(split), export.of(split)
    some = [indices[i] for i in np.linspace(0, len(indices) - 1, min(videos, len(indices))).astype(int).tolist()]
    nbytes, start = 0, time.monotonic()
    for index in some:
        name = f"{key(index)}{FORMATS[export.to].suffix}"
        nbytes += _write(export, source, Job(split, (index,), name), folder / name)
    return nbytes / len(some), (time.monotonic() - start) / len(some)


__all__ = ["FORMATS", "LAYOUTS", "Export", "Exported", "Job", "check", "class_name", "estimate", "pending", "write"]

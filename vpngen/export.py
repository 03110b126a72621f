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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from vpngen import checks, files, preview
from vpngen.checks import MAX_SIDE, integer, one_of, thread_count
from vpngen.errors import ArgumentError, ConflictError
from vpngen.generators import Pixels
from vpngen.preview import Source
from vpngen.rendering import Window
from vpngen.spec import Spec
from vpngen.store.layout import differences
from vpngen.store.targets.local import disk_errors

MANIFEST: Final = "export.json"
LAYOUTS: Final = ("folders", "ucf101")
ROWS: Final = 4096
"""Rows of the table that are made at once."""
SHARD_VIDEOS: Final = 32
"""Videos in a WebDataset shard where nothing is said."""


# --- kinds of files


def _frames(path: Path, frames: Pixels, fps: float) -> None:
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        for number, frame in enumerate(frames, 1):
            Image.fromarray(frame).save(partial / f"{number:05d}.png", format="PNG")
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _npz(path: Path, frames: Pixels, fps: float) -> None:
    with files.replace(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, video=frames)


@dataclass(frozen=True)
class Format:
    """A way to write a video: the suffix of its files, what writes one, and how many frames a second it may have at most."""

    about: str
    suffix: str
    write: Callable[[Path, Pixels, float], None]
    most_fps: float = 1000.0


FORMATS: Final = {
    "mp4": Format("H.264, slightly lossy, which everything plays", ".mp4", preview.save),
    "ffv1": Format("FFV1 in Matroska, lossless", ".mkv", preview.save),
    "gif": Format("lossless, large", ".gif", preview.save, 50.0),
    "frames": Format("a folder of numbered PNG files", "", _frames),
    "npz": Format("a compressed NumPy array `video`, uint8 (T, Y, X)", ".npz", _npz),
    "webdataset": Format("tar files of .npy, .cls and .json", ".tar", _npz),
}


# --- what is exported


@dataclass(frozen=True)
class Export:
    """What of a set is exported, and how.

    Attributes:
        spec: the set.
        to: a key of `FORMATS`.
        splits: which, in order.
        indices: which videos of each split; None for all.
        clip: (t, y, x) of the part that is cut from the middle of each; None for all of it.
        size: (height, width) to which that is resized; None as it is.
        fps: frames a second.
        layout: one of `LAYOUTS`; WebDataset has its own.
        shard_videos: of a WebDataset shard.

    Raises:
        ArgumentError: anything out of range.
    """

    spec: Spec
    to: str = "mp4"
    splits: tuple[str, ...] = ()
    indices: tuple[int, ...] | None = None
    clip: tuple[int, int, int] | None = None
    size: tuple[int, int] | None = None
    fps: float = 25.0
    layout: str = "folders"
    shard_videos: int = SHARD_VIDEOS

    def __post_init__(self) -> None:
        one_of("to", self.to, FORMATS)
        one_of("layout", self.layout, LAYOUTS)
        if self.layout == "ucf101" and self.to == "webdataset":
            raise ArgumentError("cannot be given beside webdataset, which has no folders", "layout", self.layout)
        most = FORMATS[self.to].most_fps
        checks.number("fps", self.fps, lambda v: 0.1 <= v <= most, f"from 0.1 to {most:g} for {self.to}")
        integer("shard_videos", self.shard_videos, 1, MAX_SIDE)
        object.__setattr__(self, "splits", tuple(self.splits or self.spec.splits))
        for split in self.splits:
            if split not in self.spec.splits:
                raise ArgumentError(f"is empty in this set; it has {', '.join(self.spec.splits)}", "split", split)
            if self.indices is not None:
                self.spec.indices(self.indices, split)
        if self.indices is not None and len(set(self.indices)) != len(self.indices):
            raise ArgumentError("has a video twice", "indices")
        for name, sides in (("clip", self.clip), ("size", self.size)):
            for side in sides or ():
                integer(name, side, 1, MAX_SIDE)
        if self.clip is not None:
            for side, most_side in zip(self.clip, self.spec.shape, strict=True):
                if side > most_side:
                    shape = "x".join(map(str, self.spec.shape))
                    raise ArgumentError(f"is larger than the videos, {shape}", "clip", "x".join(map(str, self.clip)))

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

    def videos(self) -> list[tuple[str, Sequence[int]]]:
        """Each split and the indices of its videos."""
        return [(s, range(self.spec.n_videos(s)) if self.indices is None else self.indices) for s in self.splits]

    @property
    def n_videos(self) -> int:
        """How many."""
        return sum(len(indices) for _, indices in self.videos())

    def jobs(self) -> list[Job]:
        """What is written one by one: files of one video, or shards."""
        size = self.shard_videos if self.to == "webdataset" else 1
        return [
            Job(split, tuple(indices[first : first + size]), first // size)
            for split, indices in self.videos()
            for first in range(0, len(indices), size)
        ]  # fmt: skip

    def path(self, job: Job) -> str:
        """Where a job is written, below the folder of the export."""
        if self.to == "webdataset":
            return f"{job.split}-{job.number:06d}.tar"
        (index,) = job.indices
        label, suffix = int(self.spec.label(index, job.split)), FORMATS[self.to].suffix
        name = class_name(self.spec, label)
        if self.layout == "folders":
            return f"{job.split}/{name}/{key(index)}{suffix}"
        group = index // self.spec.n_categories + (self.spec.instances if job.split == "val" else 0) + 1
        return f"videos/{name}/v_{name}_g{group:04d}_c01{suffix}"

    def identity(self) -> dict[str, Any]:
        """What makes it another export, as JSON."""
        fields = {name: value for name, value in asdict(self).items() if name != "spec"}
        return {"format": 1, "spec": self.spec.to_dict(), **json.loads(json.dumps(fields))}


@dataclass(frozen=True)
class Job:
    """Videos of a split that are written into one file."""

    split: str
    indices: tuple[int, ...]
    number: int


@dataclass(frozen=True)
class Exported:
    """What a run did: videos written, videos that were there, bytes written."""

    written: int
    kept: int
    nbytes: int


def key(index: int) -> str:
    """What a video is called."""
    return f"{index:08d}"


@functools.lru_cache(4096)
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


def columns(spec: Spec, split: str, indices: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """The table of some videos of a split, (N,) each; parameters of several numbers have a column for each: velocity_0, velocity_1."""
    labels = np.asarray(spec.labels(indices, split))
    found: dict[str, npt.NDArray[Any]] = {
        "split": np.full(len(indices), split),
        "index": np.asarray(indices, np.int64),
        "label": labels.astype(np.int64),
        "category": np.array([class_name(spec, label) for label in labels.tolist()]),
    }
    for name, parameter in spec.parameters(indices, split).items():
        values = parameter.values.reshape(len(indices), -1)
        names = [name] if parameter.values.ndim == 1 else [f"{name}_{i}" for i in range(values.shape[1])]
        found |= dict(zip(names, values.T, strict=True))
    return found


def rows(export: Export) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The table of an export, some thousand rows at a time; `file` is where each is, within the folder, and in a shard its `key`."""
    size = export.shard_videos if export.to == "webdataset" else 1
    for split, indices in export.videos():
        for first in range(0, len(indices), ROWS):
            some = indices[first : first + ROWS]
            paths = [export.path(Job(split, (index,), at // size)) for at, index in enumerate(some, first)]
            where = {"file": np.array(paths)}
            if export.to == "webdataset":
                where["key"] = np.array([key(index) for index in some])
            yield where | columns(export.spec, split, some)


def write_tables(export: Export, out: Path) -> bool:
    """Write metadata.csv and, where pyarrow is there, metadata.parquet. Whether it was."""
    with files.replace(out / "metadata.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, part in enumerate(rows(export)):
            if not number:
                writer.writerow(part)
            writer.writerows(zip(*(column.tolist() for column in part.values()), strict=True))
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return False
    with files.replace(out / "metadata.parquet") as partial:
        tables = (pyarrow.table(part) for part in rows(export))
        first = next(tables)
        with parquet.ParquetWriter(partial, first.schema) as written:
            for table in itertools.chain([first], tables):
                written.write_table(table)
    return True


def _write_lists(export: Export, out: Path) -> None:
    """UCF-101's: classes by number, and the videos of each split; the classes of one export follow each other."""
    labels = sorted(
        {int(label) for split, some in export.videos() for label in np.unique(export.spec.labels(some, split))}
    )
    number = {class_name(export.spec, label): i for i, label in enumerate(labels, 1)}
    files.write(out / "lists/classInd.txt", "".join(f"{i} {name}\n" for name, i in number.items()).encode())
    for split, title in (("train", "trainlist01.txt"), ("val", "testlist01.txt")):
        listed = [export.path(job).split("/")[1:] for job in export.jobs() if job.split == split]
        lines = (f"{name}/{file} {number[name]}\n" if split == "train" else f"{name}/{file}\n" for name, file in listed)
        files.write(out / "lists" / title, "".join(lines).encode())


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
    if export.to != "webdataset":
        (index,) = job.indices
        FORMATS[export.to].write(path, _cut(export, source, index, job.split), export.fps)
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    table = columns(export.spec, job.split, job.indices)
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


def _there(export: Export, out: Path, job: Job) -> bool:
    return (out / export.path(job)).exists()


def check(export: Export, out: str | Path) -> Path:
    """`out`, if an export may be written there, or go on there; changes nothing.

    Raises:
        ArgumentError: it can be no folder.
        ConflictError: it holds something else.
    """
    out = files.local(out, "out")
    if out.exists() and not out.is_dir():
        raise ArgumentError("is a file, not a folder", "out", str(out))
    if not out.exists() or not files.names_in(out):
        return out
    try:
        there = files.parse_json((out / MANIFEST).read_bytes())
        there["spec"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConflictError(f"{str(out)!r} is not empty, and no export of vpngen; it was left untouched") from None
    if there != export.identity():
        lines = "\n  ".join(differences(there, export.identity()))
        what = f"{str(out)!r} holds another export; it was left untouched. The difference:\n  {lines}"
        raise ConflictError(f"{what}\n  Choose another folder, or remove it")
    return out


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
        slice: (I, N): do every N-th file from the I-th on; slices may run at the same time. Each writes the whole table.
        threads: files that are made at once; None for all that this process may use.
        progress: called with videos done, videos to do, and bytes.

    Raises:
        ArgumentError, ConflictError: as `check`.
        MissingError: no ffmpeg, no space.
        RunError: a file could not be written; what was written stays, and the same call goes on.
    """
    out, threads = check(export, out), thread_count(threads)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / MANIFEST).exists():
            files.write_json(out / MANIFEST, export.identity())
    jobs = export.jobs()[slice[0] - 1 :: slice[1]]
    pending = [job for job in jobs if not _there(export, out, job)]
    if not (out / "metadata.csv").exists():
        write_tables(export, out)
        if export.layout == "ucf101":
            _write_lists(export, out)
    total, done, nbytes = sum(len(job.indices) for job in pending), 0, 0
    of = {split: sources(split) for split in export.splits}
    stopped = threading.Event()

    def make(job: Job) -> int:
        if stopped.is_set():
            return 0
        path = out / export.path(job)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return _write(export, of[job.split], job, path)

    waiting, running = iter(pending), dict[Future[int], Job]()
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
    kept = sum(len(job.indices) for job in jobs) - total
    return Exported(total, kept, nbytes)


def estimate(export: Export, sources: Callable[[str], Source], folder: Path, videos: int = 3) -> float:
    """Bytes a video, from writing some into a folder that is removed afterwards. Raises as `write`."""
    split, indices = export.videos()[0]
    some = [indices[i] for i in np.linspace(0, len(indices) - 1, min(videos, len(indices))).astype(int)]
    found = [
        _write(export, sources(split), Job(split, (index,), at), folder / f"{at}{FORMATS[export.to].suffix}")
        for at, index in enumerate(some)
    ]
    return sum(found) / len(found)


__all__ = ["FORMATS", "LAYOUTS", "Export", "Exported", "check", "class_name", "columns", "estimate", "write"]

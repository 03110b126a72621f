"""How fast do labelled clips reach a training loop? Streams, and the formats in which people keep the same videos.

All deliver the same batches: random videos, each at a random time and place, mirrored or not, as torch tensors of uint8
with their labels. What is exact is compared byte for byte before it is timed, what is lossy by its mean difference.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

import vpngen
from benchmarks import common, objects, peers
from benchmarks.common import Cost, cost, spread, table
from vpngen import backends, store
from vpngen.sampling import Sampling, augmentation

TITLE = "Delivering random clips"
NEEDS = ("torch",)
CLIP = (16, 112, 112)
BATCH, QUICK_BATCH = 128, 32
PLANNED = 4096
"""Samples of the plan that the formats follow over and over; as many as a stream works out at once."""
WORKERS = 2
FULL_SET = 256 * 512
RATE = 25
JPEG_QUALITY = 90
SHARD_VIDEOS = 9
STREAM, BARE, THREADS = "ClipStream", "bare rendering, the same videos and windows", "ClipStream, two threads"
HDF5, FORMULA = "HDF5, uncompressed", "formula store by zarr-python"
Pixels = npt.NDArray[np.uint8]


class Plan(NamedTuple):
    """Samples in the order of a stream: videos (N,), packed windows (N, 5) and labels (N,), to be cut in batches of a size."""

    index: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int64]
    size: int

    @property
    def batches(self) -> int:
        return len(self.index) // self.size

    def batch(self, number: int) -> Plan:
        """Batch `number`, from the beginning again after the last."""
        first = number % self.batches * self.size
        return Plan(*(each[first : first + self.size] for each in self[:3]), self.size)


def plan(spec: vpngen.Spec, size: int, first: int = 0) -> Plan:
    """PLANNED samples of an endless stream from `first` on, or of one of any length while its first epoch lasts."""
    sampling = Sampling(spec.n_videos(), spec.shape, CLIP, augmentation("random"), None, shuffle=True, seed=0)
    numbers = sampling.numbers(0, np.arange(first, first + PLANNED))
    index = sampling.indices(numbers)
    return Plan(index, sampling.windows(numbers)[0], spec.labels(index), size)


# --- the formats


class Format:
    """Videos in some kind of file, and how a clip is cut from them. Opened by the process that reads."""

    package: ClassVar[str | None] = None
    exact: ClassVar[bool] = True

    def __init__(self, folder: Path, spec: vpngen.Spec) -> None:
        self.folder, self.spec = folder, spec
        self.handle: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "handle": None}

    def write(self, videos: Pixels) -> None:
        """Write videos (N, T, Y, X)."""
        raise NotImplementedError

    def open(self) -> Any:
        """What `cut` reads from."""
        raise NotImplementedError

    def ready(self) -> None:
        """Open it, once, in the process that reads."""
        if self.handle is None:
            np.ones(
                30 << 20, np.uint8
            )  # once freed, glibc keeps arrays of up to this size, as in a process that runs long
            self.handle = self.open()

    def cut(self, video: int, t: int, y: int, x: int) -> Pixels:
        """A clip of CLIP that begins there; it may be a view."""
        part: Pixels = self.handle[video, t : t + CLIP[0], y : y + CLIP[1], x : x + CLIP[2]]
        return part

    def fill(self, batch: Plan, out: Pixels) -> Plan:
        """Write the clips of a batch to `out` (N, *CLIP) and return what they are, which is `batch` where it can be."""
        self.ready()
        for i, (video, window) in enumerate(zip(batch.index.tolist(), batch.windows.tolist(), strict=True)):
            t, _, y, x, flip = window
            part = self.cut(video, t, y, x)
            out[i] = part[:, :, ::-1] if flip else part
        return batch


class Memmap(Format):
    def write(self, videos: Pixels) -> None:
        np.save(self.folder / "videos.npy", videos)

    def open(self) -> Any:
        return np.load(self.folder / "videos.npy", mmap_mode="r")


class Hdf5(Format):
    package = "h5py"
    compression: ClassVar[str | None] = None

    def write(self, videos: Pixels) -> None:
        import h5py

        with h5py.File(self.folder / "videos.h5", "w") as file:
            chunks = (1, CLIP[0], *videos.shape[2:])
            file.create_dataset("video", data=videos, chunks=chunks, compression=self.compression)

    def open(self) -> Any:
        import h5py

        return h5py.File(self.folder / "videos.h5", "r")["video"]


class Hdf5Lzf(Hdf5):
    compression = "lzf"


class ZarrPython(Format):
    codec: ClassVar[str] = "none"

    @property
    def path(self) -> Path:
        """The store; the other readers of the same codec share it."""
        return self.folder.parent / f"{self.codec}.zarr"

    def write(self, videos: Pixels) -> None:
        if not self.path.exists():
            vpngen.write(self.spec, self.path, codec=self.codec)

    def open(self) -> Any:
        import zarr

        zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
        return zarr.open_array(self.path, path="train/video", mode="r")


class ZarrPythonZstd(ZarrPython):
    codec = "zstd"


class ZarrPythonFormula(ZarrPython):
    codec = "formula"


class TensorStore(ZarrPython):
    package = "tensorstore"

    def open(self) -> Any:
        import tensorstore

        limits = {name: {"limit": 1} for name in ("data_copy_concurrency", "file_io_concurrency")}
        root = f"file://{self.path.absolute()}/train/video/"
        return tensorstore.open({"driver": "zarr3", "kvstore": root, "context": limits}, open=True, read=True).result()

    def fill(self, batch: Plan, out: Pixels) -> Plan:
        """All reads of a batch at once, as tensorstore likes it."""
        self.ready()
        reads = [
            super(TensorStore, self).cut(video, t, y, x).read()  # type: ignore[attr-defined]
            for video, (t, _, y, x, _) in zip(batch.index.tolist(), batch.windows.tolist(), strict=True)
        ]
        for i, (read, flip) in enumerate(zip(reads, batch.windows[:, 4].tolist(), strict=True)):
            part = read.result()
            out[i] = part[:, :, ::-1] if flip else part
        return batch


class TensorStoreZstd(TensorStore):
    codec = "zstd"


class H264(Format):
    """One mp4 a video as libx264 makes it where nothing is asked for: crf 23, a keyframe every 250 frames at most."""

    package = "av"
    exact = False
    keyframes: ClassVar[int | None] = None

    def write(self, videos: Pixels) -> None:
        with concurrent.futures.ThreadPoolExecutor(common.cores()) as pool:
            list(pool.map(self._encode, range(len(videos)), videos))

    def _encode(self, number: int, video: Pixels) -> None:
        import av

        with av.open(str(self.folder / f"{number:06d}.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=RATE, options={"g": str(self.keyframes)} if self.keyframes else {})
            stream.height, stream.width = video.shape[1:]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1  # each video has a thread already
            for at, grey in enumerate(video):
                frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
                lines = np.full((stream.height, frame.planes[0].line_size), 128, np.uint8)
                lines[:, : stream.width] = grey
                frame.planes[0].update(lines)
                for plane in frame.planes[1:]:
                    plane.update(np.full(plane.buffer_size, 128, np.uint8))
                frame.pts = at
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))

    def open(self) -> Any:
        return self.folder

    def cut(self, video: int, t: int, y: int, x: int) -> Pixels:
        return decode_h264(str(self.folder / f"{video:06d}.mp4"), t, y, x)


class H264Seekable(H264):
    """The same with a keyframe every 16 frames, as those do who want to begin anywhere."""

    keyframes = 16


def decode_h264(file: Any, t: int, y: int, x: int) -> Pixels:
    """The clip from the luma of an mp4: from the last keyframe before it, with one thread."""
    import av

    clip = np.empty(CLIP, np.uint8)
    with av.open(file) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        container.seek(round(t / RATE / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            at = round(frame.pts * stream.time_base * RATE) - t
            if at < 0:
                continue
            plane = frame.planes[0]
            lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            clip[at] = lines[y : y + CLIP[1], x : x + CLIP[2]]
            if at == CLIP[0] - 1:
                break
    return clip


class Jpeg(Format):
    """A folder a video and a file a frame, which is what the scripts of 3D-ResNets-PyTorch make; grey."""

    package = "PIL"
    exact = False

    def write(self, videos: Pixels) -> None:
        with concurrent.futures.ThreadPoolExecutor(common.cores()) as pool:
            list(pool.map(self._encode, range(len(videos)), videos))

    def _encode(self, number: int, video: Pixels) -> None:
        from PIL import Image

        folder = self.folder / f"{number:06d}"
        folder.mkdir()
        for at, grey in enumerate(video):
            Image.fromarray(grey).save(folder / f"image_{at + 1:05d}.jpg", quality=JPEG_QUALITY)

    def open(self) -> Any:
        return self.folder

    def cut(self, video: int, t: int, y: int, x: int) -> Pixels:
        from PIL import Image

        folder, clip = self.folder / f"{video:06d}", np.empty(CLIP, np.uint8)
        for i in range(CLIP[0]):
            with Image.open(folder / f"image_{t + i + 1:05d}.jpg") as image:
                clip[i] = np.asarray(image)[y : y + CLIP[1], x : x + CLIP[2]]
        return clip


class Tar(H264):
    """Shards of mp4 files and labels for WebDataset: read in sequence, shards drawn at random, videos through a buffer."""

    package = "webdataset"

    def write(self, videos: Pixels) -> None:
        super().write(videos)
        for first in range(0, len(videos), SHARD_VIDEOS):
            with tarfile.open(self.folder / f"shard-{first // SHARD_VIDEOS:04d}.tar", "w") as shard:
                for number in range(first, min(first + SHARD_VIDEOS, len(videos))):
                    mp4 = self.folder / f"{number:06d}.mp4"
                    shard.add(mp4, mp4.name)
                    label = str(self.spec.label(number)).encode()
                    entry = tarfile.TarInfo(f"{number:06d}.cls")
                    entry.size = len(label)
                    shard.addfile(entry, io.BytesIO(label))
                    mp4.unlink()

    def open(self) -> Iterator[dict[str, Any]]:
        import webdataset

        shards = sorted(map(str, self.folder.glob("*.tar")))
        return iter(webdataset.WebDataset(shards, resampled=True, shardshuffle=False).shuffle(SHARD_VIDEOS))

    def fill(self, batch: Plan, out: Pixels) -> Plan:
        """The next videos of the shards, whichever they are, through the windows of the batch."""
        self.ready()
        index, labels = batch.index.copy(), batch.labels.copy()
        for i, (t, _, y, x, flip) in enumerate(batch.windows.tolist()):
            sample = next(self.handle)
            part = decode_h264(io.BytesIO(sample["mp4"]), t, y, x)
            out[i] = part[:, :, ::-1] if flip else part
            index[i], labels[i] = int(sample["__key__"]), int(sample["cls"])
        return Plan(index, batch.windows, labels, batch.size)


class Fastnoise(Format):
    """No file at all: each clip is rendered by pyfastnoisesimd, with noise of its own."""

    package = "pyfastnoisesimd"

    def write(self, videos: Pixels) -> None:
        pass

    def open(self) -> Any:
        return peers.fastnoise()

    def fill(self, batch: Plan, out: Pixels) -> Plan:
        self.ready()
        for clip, (t, _, y, x, flip) in zip(out, batch.windows.tolist(), strict=True):
            self.handle(clip, (t, y, x))
            if flip:
                clip[:] = clip[:, :, ::-1].copy()
        return batch


FORMATS: dict[str, type[Format]] = {
    "raw .npy, memmap: the bound": Memmap,
    HDF5: Hdf5,
    "HDF5, lzf": Hdf5Lzf,
    "Zarr, none, by zarr-python": ZarrPython,
    "Zarr, zstd, by zarr-python": ZarrPythonZstd,
    "Zarr, none, by tensorstore": TensorStore,
    "Zarr, zstd, by tensorstore": TensorStoreZstd,
    "JPEG frames by Pillow": Jpeg,
    "mp4 h264 by PyAV": H264,
    "mp4 h264, a keyframe every 16 frames": H264Seekable,
    "WebDataset of mp4, sequential": Tar,
    "pyfastnoisesimd on the fly": Fastnoise,
    FORMULA: ZarrPythonFormula,
}
STREAMS = {STREAM: None, "ClipStream of the Zarr, none": "none", "ClipStream of the Zarr, zstd": "zstd"}


class Batches:
    """The batches of a plan from a format, as a map-style dataset for a DataLoader with `batch_size=None`.

    Memory is spared as in the streams: used again within a process, shared from the start where a batch goes to another.
    """

    def __init__(self, source: Format, samples: Plan, count: int) -> None:
        self.source, self.samples, self.count = source, samples, count
        self.own: list[Any] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        import torch

        shape = (self.samples.size, *CLIP)
        if torch.utils.data.get_worker_info() is not None:
            storage: Any = torch.UntypedStorage._new_shared(int(np.prod(shape)))  # as torch's own collation
            clips = torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
        else:
            if not self.own:
                self.own = [torch.ones(shape, dtype=torch.uint8) for _ in range(2)]
            clips = self.own[number % 2]
        batch = self.source.fill(self.samples.batch(number), clips.numpy())
        return clips, torch.from_numpy(batch.labels.copy())


# --- the question


def run(quick: bool, folder: Path) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    spec = vpngen.perlin(categories=4 if quick else 36, instances=1)
    samples = plan(spec, QUICK_BATCH if quick else BATCH)
    formats, made, missing = _make(spec, folder.absolute())
    os.sync()
    rounds, seconds = (1, 0.05) if quick else (6, 0.4)

    differences, single, one = {}, {}, {}
    for name, each in formats.items():
        if name in made:
            differences[name] = _difference(each, spec, samples)
        batches = Batches(each, samples, samples.batches)
        one[name] = _count(partial(batches.__getitem__, 0), seconds, samples)
        single[name] = partial(_take, _forever(batches), one[name])
    for name, codec in STREAMS.items():
        source = spec if codec is None else folder / f"{codec}.zarr"
        stream = vpngen.ClipStream(source, length="infinite", threads=1, prefetch=0, **_options(samples))
        iterator = iter(stream)
        _expect(next(iterator), spec, samples, name)
        one[name] = samples.batches if codec is None else _count(partial(next, iterator), seconds, samples)
        single[name] = partial(_take, iterator, one[name])
    alone = common.alternate(single, rounds)
    overhead = _overhead(spec, samples.size, 2 if quick else 12)
    two, counts = _two(spec, folder, formats, samples, one, rounds=1 if quick else 4)

    return {
        "videos": spec.n_videos(),
        "gigabytes": spec.nbytes / 1e9,
        "batch": samples.size,
        "cores": common.cores(),
        "missing": missing,
        "made": made,
        "mean_difference": differences,
        "single": {name: _rates(each, one[name] * samples.size) for name, each in alone.items()},
        "two": {name: _rates(each, counts[name] * samples.size) for name, each in two.items()},
        "two_over_one": {
            name: (counts[name] / median(c.wall for c in two[name])) / (one[name] / median(c.wall for c in alone[name]))
            for name in two
            if name in alone
        },
        "over_hdf5": _ratio(alone, one, STREAM, HDF5),
        "overhead": overhead,
        "first_batch": _first_batches(folder, quick),
        "formula_bytes": _stored(folder / "first.zarr"),
        "objects": objects.reading(quick, folder / "objects")
        if all(map(importlib.util.find_spec, objects.NEEDS))
        else None,
    }


def _options(samples: Plan) -> dict[str, Any]:
    return {"batch_size": samples.size, "augment": "random", "channels": 1, "device": "cpu"}


def _make(spec: vpngen.Spec, folder: Path) -> tuple[dict[str, Format], dict[str, dict[str, float]], list[str]]:
    """The formats that can be had, what writing them took and takes, and the names of what is missing."""
    videos = np.ones((spec.n_videos(), *spec.shape), np.uint8)
    vpngen.render(spec, 0)  # kernels loaded
    rendering = cost(partial(vpngen.render, spec, range(len(videos)), out=videos)).wall
    formats, made, missing = {}, {}, []
    for number, (name, kind) in enumerate(FORMATS.items()):
        needs = [package for package in (kind.package, *(["av"] if kind is Tar else [])) if package]
        absent = [package for package in needs if not importlib.util.find_spec(package)]
        if kind is ZarrPythonFormula and kind.codec not in store.CODECS:
            absent.append("codec formula")
        if absent:
            missing.append(f"{name} (needs {', '.join(absent)})")
            continue
        place = folder / str(number)
        place.mkdir()
        each = formats[name] = kind(place, spec)
        if isinstance(each, ZarrPython):
            if (shared := next((n for n in made if getattr(formats[n], "path", None) == each.path), None)) is not None:
                made[name] = made[shared]
                continue
            seconds, where = cost(partial(each.write, videos)).wall, each.path  # renders what it writes
        else:
            seconds, where = rendering + cost(partial(each.write, videos)).wall, place
        if stored := _stored(where):
            made[name] = {"seconds": seconds, "bytes": stored}
    return formats, made, missing


def _stored(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _difference(source: Format, spec: vpngen.Spec, samples: Plan) -> float:
    """The mean difference of a batch from the formula, in grey levels. Ends the run where it should be none and is not."""
    clips = np.empty((samples.size, *CLIP), np.uint8)
    got = source.fill(samples.batch(0), clips)
    truth = _render(spec, got, np.empty_like(clips))
    if not np.array_equal(got.labels, spec.labels(got.index)) or (source.exact and not np.array_equal(clips, truth)):
        raise SystemExit(f"WRONG: {type(source).__name__} does not give what was written")
    return float(np.abs(clips.astype(np.int16) - truth).mean())


def _render(spec: vpngen.Spec, samples: Plan, out: Pixels) -> Pixels:
    backends.choose("numba").render(spec.generator.name, spec.params(samples.index), samples.windows, out, 1)
    return out


def _expect(batch: Any, spec: vpngen.Spec, samples: Plan, name: str) -> None:
    """End the run if this is not the first batch of the plan."""
    one = samples.batch(0)
    truth = _render(spec, one, np.empty((samples.size, *CLIP), np.uint8))
    if not np.array_equal(batch[0][:, 0].numpy(), truth) or not np.array_equal(batch[1].numpy(), one.labels):
        raise SystemExit(f"WRONG: the first batch of {name} is not that of its plan")


def _forever(batches: Batches) -> Iterator[Any]:
    number = 0
    while True:
        yield batches[number]
        number += 1


def _take(iterator: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(iterator)


def _count(call: Callable[[], Any], seconds: float, samples: Plan) -> int:
    """How many batches take about as long as that, one at least."""
    took = cost(call).wall
    if took < seconds:  # or it was the first call that took so long
        took = cost(call).wall
    return int(np.clip(seconds / took, 1, samples.batches))


def _overhead(spec: vpngen.Spec, size: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of a stream over those of rendering the same windows, which are known to it: pair by pair."""
    taken = 2 * PLANNED - size  # from here on a stream works out PLANNED samples at a time
    same = plan(spec, size, taken)
    stream = iter(vpngen.ClipStream(spec, length="infinite", threads=1, prefetch=0, **_options(same)))
    _take(stream, taken // size)
    out, backend = np.ones((size, *CLIP), np.uint8), backends.choose("numba")
    pairs: dict[str, list[Cost]] = {STREAM: [], BARE: []}
    for turn in range(rounds):
        same = plan(spec, size, taken + turn * PLANNED)
        parts = [same.batch(k) for k in range(same.batches)]
        known = [(spec.params(part.index), part.windows) for part in parts]

        def bare(known: list[Any] = known) -> None:
            for rows, windows in known:
                backend.render(spec.generator.name, rows, windows, out, 1)

        calls = {STREAM: partial(_take, stream, same.batches), BARE: bare}
        for name in (STREAM, BARE) if turn % 2 else (BARE, STREAM):
            pairs[name].append(cost(calls[name]))
    ratios = [own.cpu / other.cpu for own, other in zip(pairs[STREAM], pairs[BARE], strict=True)]
    return {**{name: _rates(each, PLANNED) for name, each in pairs.items()}, "ratio": spread(ratios)}


def _two(
    spec: vpngen.Spec, folder: Path, formats: dict[str, Format], samples: Plan, one: dict[str, int], rounds: int
) -> tuple[dict[str, list[Cost]], dict[str, int]]:
    """Whole epochs through a DataLoader with two workers, from the call that begins them to their last batch.

    The workers are there already and have files and kernels open; between epochs they make nothing ahead. They come from a
    process that has opened nothing, since not every library survives a fork.
    """
    import torch

    multiprocessing.set_forkserver_preload(["torch", "benchmarks.__main__", "benchmarks.delivery"])
    counts = {name: max(2, 2 * n // 2 * 2) for name, n in one.items()}
    counts[THREADS] = 2 * samples.batches
    loaders: dict[str, Any] = {}
    for name, each in formats.items():
        batches = Batches(each, samples, counts[name])
        loaders[name] = torch.utils.data.DataLoader(
            batches,  # type: ignore[arg-type]
            batch_size=None,
            num_workers=WORKERS,
            persistent_workers=True,
            multiprocessing_context="forkserver",
        )
    for name, codec in STREAMS.items():
        source, length = spec if codec is None else folder / f"{codec}.zarr", counts[name] * samples.size
        loaders[name] = vpngen.loader(
            source, num_workers=WORKERS, multiprocessing_context="forkserver", length=length, **_options(samples)
        )  # fmt: skip
    loaders[THREADS] = vpngen.loader(spec, threads=WORKERS, length=counts[THREADS] * samples.size, **_options(samples))
    for name, loader in loaders.items():
        epoch = iter(loader)  # the first epoch is not timed
        first = next(epoch)
        if name not in formats:
            _expect(first, spec, samples, name)
        del first
        for _ in epoch:
            pass
    try:
        return common.alternate({name: partial(_epoch, loader) for name, loader in loaders.items()}, rounds), counts
    finally:
        loaders.clear()


def _epoch(loader: Any) -> None:
    for _ in loader:
        pass


# --- from nothing to the first batch, for a set of 256 x 512

STREAM_FIRST = """
import vpngen
clips, labels = next(iter(vpngen.ClipStream(vpngen.Spec.preset("vpn-256x512"), device="cpu")))
"""
FORMULA_FIRST = """
import random, sys, numpy, vpngen, zarr
vpngen.write(vpngen.Spec.preset("vpn-256x512"), sys.argv[1], codec="formula", overwrite=True)
train = zarr.open_group(sys.argv[1], mode="r")["train"]
label, video, clips, labels = train["label"][:], train["video"], [], []
for _ in range(128):
    i, t, y, x = random.randrange(len(label)), random.randrange(225), random.randrange(129), random.randrange(129)
    clips.append(video[i, t : t + 16, y : y + 112, x : x + 112])
    labels.append(label[i])
clips, labels = numpy.stack(clips), numpy.stack(labels)
"""


def _first_batches(folder: Path, quick: bool) -> dict[str, float]:
    """Wall seconds of fresh processes that end when they have their first batch; compiled kernels are cached, or not."""
    found = {}
    programs = {STREAM: [sys.executable, "-c", STREAM_FIRST]}
    if "formula" in store.CODECS:
        programs[FORMULA] = [sys.executable, "-c", FORMULA_FIRST, str(folder / "first.zarr")]
    for name, command in programs.items():
        runs = [_wall(command, os.environ) for _ in range(1 if quick else 4)]
        found[name] = median(runs[1:] or runs)
    if not quick:
        fresh = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels")}
        found["ClipStream, kernels compiled first"] = _wall(programs[STREAM], fresh)
    return found


def _wall(command: list[str], environment: Any) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


# --- what comes out


def _rates(costs: list[Cost], clips: int) -> dict[str, Any]:
    return {"wall": spread(clips / c.wall for c in costs), "cpu": spread(clips / c.cpu for c in costs)}


def _ratio(costs: dict[str, list[Cost]], counts: dict[str, int], own: str, other: str) -> dict[str, float] | None:
    """Clips a CPU second of one over another, round by round."""
    if other not in costs:
        return None
    return spread(
        (b.cpu / counts[other]) / (a.cpu / counts[own]) for a, b in zip(costs[own], costs[other], strict=True)
    )


def _range(values: dict[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    stream, first, over = r["single"][STREAM], r["first_batch"], r["over_hdf5"]
    rows = [
        ("`ClipStream`, random clips a second on one core", "3,000", f"{stream['wall']['median']:,.0f}"),
        ("... over uncompressed HDF5, in CPU seconds", "aim above 1", f"{_range(over, '.2f')} x" if over else "not installed"),
        ("... CPU seconds over bare rendering of the same windows", "at most 1.15", _range(r["overhead"]["ratio"], ".3f")),
        ("... two workers over one process", "", f"{r['two_over_one'][STREAM]:.2f} x"),
        ("... two threads over one", "", f"{_threads(r):.2f} x"),
    ]  # fmt: skip
    if FORMULA in r["single"]:
        rate = r["single"][FORMULA]["wall"]["median"]
        rows.append(("a random clip of the formula store by plain zarr", "1.5 ms, aim 1.2 ms", f"{1e3 / rate:.2f} ms"))
    for name, seconds in first.items():
        rows.append((f"from nothing to the first batch of 256 x 512 videos, {name}", "", f"{seconds:.1f} s"))
    return rows


def _threads(r: dict[str, Any]) -> float:
    return float(r["two"][THREADS]["wall"]["median"] / r["single"][STREAM]["wall"]["median"])


def report(r: dict[str, Any]) -> str:
    rows = []
    for name in dict.fromkeys((*r["single"], *r["two"])):
        cells = [name]
        for found in (r["single"].get(name), r["two"].get(name)):
            if found is None:
                cells += ["", "", ""]
            else:
                wall, cpu = found["wall"], found["cpu"]
                cells += [f"{wall['median']:,.0f}", f"{wall['least']:,.0f} to {wall['most']:,.0f}"]
                cells.append(f"{cpu['median']:,.0f}")
        rows.append(cells)
    header = ("clips/s", "range", "a CPU second", f"{WORKERS} workers: clips/s", "range", "a CPU second")
    videos, bare = r["videos"], r["overhead"][BARE]["cpu"]["median"]
    files = [
        (name, f"{m['bytes'] / 1e6:,.1f}", f"{m['bytes'] / r['gigabytes'] / 1e9:.4f}", f"{m['seconds']:.2f}",
         "below" if name == FORMULA else _hours(m["seconds"] * FULL_SET / videos), f"{r['mean_difference'][name]:.2f}")
        for name, m in r["made"].items()
    ]  # fmt: skip
    parts = [
        f"Batches of {r['batch']} clips of {' x '.join(map(str, CLIP))} with labels from {videos} videos, each its own "
        f"category, {r['gigabytes']:.2f} GB of pixels; files in the page cache. One process with one thread, and a DataLoader with "
        f"{WORKERS} workers (for two threads: none), {r['cores']} cores. CPU seconds are those of all threads and workers.\n",
        table(("one process", *header), rows),
        f"\nA stream took {_range(r['overhead']['ratio'], '.3f')} times the CPU seconds of rendering the same windows and "
        f"nothing else, which alone runs at {bare:,.0f} clips a CPU second; it gave "
        + (f"{_range(r['over_hdf5'], '.2f')} times the clips of uncompressed HDF5 a CPU second. " if r["over_hdf5"] else "")
        + f"Two workers gave {r['two_over_one'][STREAM]:.2f} times what one process does, two threads {_threads(r):.2f}.\n",
        "WebDataset reads its shards in sequence, so its videos come in an order of its own. h264 is opened and sought for each "
        "clip, and its luma taken as it is. Exact formats gave the same bytes before they were timed.\n",
        table(
            ("files", "MB", "of the pixels", f"s to make {videos} videos",
             f"extrapolated to {FULL_SET:,}", "mean difference in grey levels"),
            files,
        ),
        f"\nMaking includes rendering, on {r['cores']} cores; nothing was waited for on the disk. The last column but one is an "
        "extrapolation, in proportion to the number of videos, not a measurement. From nothing to the first batch of a set of "
        "256 x 512 videos, in a fresh process with kernels cached unless it says otherwise: "
        + "; ".join(f"{name} {seconds:.1f} s" for name, seconds in r["first_batch"].items())
        + (f". That formula store has {r['formula_bytes'] / 1e6:.0f} MB." if r["formula_bytes"] else "."),
    ]  # fmt: skip
    if r.get("objects"):
        parts.append(
            "\nOut of a bucket, by a server on loopback and a wire that is late or not; exact, and compared before it was timed:\n"
        )
        parts.append(objects.reading_report(r["objects"]))
    if r["missing"]:
        parts.append(f"\nLeft out: {'; '.join(r['missing'])}.")
    return "\n".join(parts)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def plot(r: dict[str, Any], path: Path) -> None:
    figure, axes = common.canvas(1, 8, 5)
    names = sorted(r["single"], key=lambda name: r["single"][name]["wall"]["median"])
    ours = [name.startswith(("ClipStream", "formula")) for name in names]
    rates = [r["single"][name]["wall"] for name in names]
    middle = np.array([rate["median"] for rate in rates])
    ends = np.array([[rate["least"], rate["most"]] for rate in rates]).T
    axes.barh(names, middle, color=["#2a6f97" if own else "#9aa5b1" for own in ours], label="one process")
    axes.errorbar(middle, range(len(names)), xerr=abs(ends - middle), fmt="none", ecolor="#333", capsize=2, lw=1)
    two = [(r["two"][name]["wall"]["median"], at) for at, name in enumerate(names) if name in r["two"]]
    axes.plot(*zip(*two, strict=True), "D", color="#c8553d", ms=5, label=f"{WORKERS} workers")
    axes.axvline(3000, color="#333", lw=1, ls=":")
    axes.set_xscale("log")
    axes.set_xlim(10)
    for at, value in enumerate(middle):
        axes.annotate(f"{value:,.0f}", (11, at), color="white", fontsize=8, va="center")
    axes.set_xlabel("random clips of 16 x 112 x 112 a second: median and range; dotted: 3,000")
    axes.set_title(TITLE)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path)

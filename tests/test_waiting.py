"""Waiting for worker processes: shared memory that is too small, or not there, and an end that is asked for meanwhile."""

from __future__ import annotations

import dataclasses
import math
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import vpngen
from vpngen.datasets import Video, VideoLoader, VideoSet, WindowLoader, clips, decoding
from vpngen.datasets.workers import lost_worker
from vpngen.errors import MissingError, RunError
from vpngen.stream import memory
from vpngen.train import Progress, Recipe, StoppedError, fit
from vpngen.train.checkpoint import CHECKPOINT, Folder
from vpngen.train.evaluation import score

CLIP = (4, 64, 64)
VIDEOS = VideoSet("folder", "train", 1, ("a", "b"), tuple(Video(str(i), Path(f"{i}.mkv"), i % 2, str(i)) for i in range(32)))  # fmt: skip
SPEC = vpngen.perlin(categories=2, instances=32, shape=(4, 64, 64), divisions=[2])
NO_SPACE = RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")
BUS = RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.")  # fmt: skip


def black(_: Any, video: Video, number: int) -> tuple[torch.Tensor, list[str]]:
    return torch.zeros((3, *CLIP), dtype=torch.uint8), []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos without files."""
    monkeypatch.setattr(clips._Clips, "cut", black)
    monkeypatch.setattr(clips._Windows, "_of", lambda _, video, notes: iter([(black(_, video, 0)[0], False)] * 4))


def stream_loader(num_workers: int, batch_size: int) -> Any:
    return vpngen.loader(SPEC, batch_size, clip=CLIP, num_workers=num_workers, device="cpu")


LOADERS: dict[str, Callable[..., Any]] = {
    "train": lambda num_workers, batch_size: VideoLoader(VIDEOS, batch_size, clip=CLIP, num_workers=num_workers),
    "evaluate": lambda num_workers, batch_size: WindowLoader(VIDEOS, batch_size, clip=CLIP, num_workers=num_workers),
    "stream": stream_loader,
}


@pytest.mark.parametrize(
    ("kind", "room", "said"),
    [
        ("train", (3e6, 64e6), "2 x 786 kB, which takes 2.62 MB"),  # there is no third batch
        ("train", (1e6, 64e6), "2.62 MB, and /dev/shm has 1 MB free of 64 MB; give fewer `num_workers` (=2) or 0, a smaller `batch_size`, or a larger /dev/shm, as with docker run --shm-size=1g"),
        ("stream", (1e6, 64e6), "2 x 262 kB, which takes 1.57 MB, and /dev/shm has 1 MB free"),
        *((kind, "cannot be written", "/dev/shm cannot be written; give fewer `num_workers`") for kind in LOADERS),
    ],
)  # fmt: skip
def test_too_little_is_said_before_anything_is_read(
    kind: str, room: Any, said: str, read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "shm_room", lambda: room)
    assert len(list(LOADERS[kind](0, 16))) in (2, 8)  # who needs none does not ask
    if room == (3e6, 64e6):
        assert said in str(memory.Sharing.of(2, 1, 2, 786432).error())
        assert len(list(LOADERS[kind](2, 16))) == 2
        return
    with pytest.raises(MissingError) as caught:
        list(LOADERS[kind](2, 16))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def full(read: None) -> Iterator[None]:
    """Nobody can make a file of more than 256 kB, nor shared memory."""
    heard, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, heard)


@pytest.mark.parametrize("kind", LOADERS)
def test_what_is_used_up_meanwhile_is_said_and_not_waited_for(kind: str, full: None) -> None:
    said = r"^[^\n]* through shared memory, \d x [^\n]*; give fewer `num_workers` \(=1\) or 0, [^\n]*$"
    with pytest.raises(MissingError, match=said):
        list(LOADERS[kind](1, 32))


def test_a_dataloader_of_ones_own_over_a_stream_says_it_too(full: None) -> None:
    stream = vpngen.ClipStream(SPEC, 32, clip=CLIP, device="cpu")
    batches: Any = iter(DataLoader(stream, batch_size=None, num_workers=1))
    with pytest.raises(MissingError, match=r"1 x 524 kB, which takes .* MB, and /dev/shm has"):
        next(batches)
    batches._shutdown_workers()  # which torch would do when garbage is collected


def test_a_stream_without_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: torch.Tensor) -> None:
        raise RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: Read-only file system (30)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", none)
    assert len(list(vpngen.ClipStream(SPEC, 16, clip=CLIP, device="cpu"))) == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BUS, MissingError), (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), RunError), (NO_SPACE, type(None))],
)  # fmt: skip
def test_workers_that_are_lost(error: RuntimeError, kind: type) -> None:
    assert type(lost_worker(error)) is kind
    many = RuntimeError("unable to open shared memory object </torch_1>: Too many open files (24)")
    assert memory.lacks_shm(NO_SPACE) and not memory.lacks_shm(many)


# --- an end that is asked for


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("phase", "where"), [("train", "step 1"), ("val", "step 8"), ("evaluate", "evaluation")])
def test_an_end_is_heard_while_there_is_no_batch(
    phase: str, where: str, num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that never answer, or one process that takes long; in training after a step."""
    seconds = 60 if num_workers else 0.2

    def slow(of: Any, video: Video, number: int) -> tuple[torch.Tensor, list[str]]:
        if of.videos.subset == phase and (phase != "train" or number >= 4):
            time.sleep(seconds)
        return black(of, video, number)

    def frames(*_: Any) -> Iterator[Any]:
        while True:
            time.sleep(seconds)
            yield np.zeros((1, 8, 3), np.uint8)

    monkeypatch.setattr(clips._Clips, "cut", slow)
    monkeypatch.setattr(decoding, "stream", frames)
    monkeypatch.setattr(Folder, "open_board", lambda *_: None)  # which takes seconds to import
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * math.prod(CLIP), 2))
    asked: list[bool] = []

    def progress(p: Progress) -> None:
        if p.step == {"train": 1, "val": 8}[phase]:  # from now on
            asked.append(True)

    def scored(*_: int) -> None:
        raise StoppedError("evaluation")

    def run() -> None:
        if phase == "evaluate":
            windows, grey = WindowLoader(VIDEOS, 4, clip=(999, 8, 8), num_workers=num_workers), (0.5, 0.5, 0.5)
            score(model, windows, device="cpu", mean=grey, std=grey, progress=scored)
        train, val = (
            VideoLoader(dataclasses.replace(VIDEOS, subset=name), 4, clip=CLIP, shuffle=False, num_workers=num_workers)
            for name in ("train", "val")
        )
        how = Recipe(batch_size=4, epochs=1, clip=CLIP, lr=1e-4)
        fit(model, train, val, how, device="cpu", out=tmp_path, progress=progress, should_stop=lambda: bool(asked))

    begun = time.monotonic()
    with pytest.raises(StoppedError, match=rf"{where}\b"):
        run()
    assert time.monotonic() - begun < 30, "somebody waited for a worker that sleeps for a minute"
    assert (tmp_path / CHECKPOINT).exists() == (phase != "evaluate")

"""Clips of real files: which, where and when, as told by what is painted into them, on any number of workers and ranks."""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import gc
import itertools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tblib.pickling_support
import torch
from filming import Pixels, ffmpeg, film, jpegs, plate
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import vpngen
from vpngen.datasets import Video, VideoLoader, VideoSet, WindowLoader, clips, decoding, read_videos, workers
from vpngen.errors import ArgumentError, ConflictError, RunError
from vpngen.sampling import QUARTER_OCTAVES, Augment

pytest.importorskip("av")

FRAMES = (24, 40, 5, 16, 17, 30, 1, 33)
"""Of each video: shorter than a clip, as long, longer."""
SIZES = ((48, 64), (64, 48), (50, 50), (36, 90))
"""(height, width) of each, in turn."""


def as_set(paths: list[Path], **changes: Any) -> VideoSet:
    videos = tuple(Video(f"v{i}", path, i % 3, str(i), **changes) for i, path in enumerate(paths))
    return VideoSet("folder", "train", 1, ("a", "b", "c"), videos)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    folder = tmp_path_factory.mktemp("filmed")
    return as_set([film(folder / f"{i}.mkv", plate(i, n, *SIZES[i % 4])) for i, n in enumerate(FRAMES)])


@pytest.fixture
def painted(filmed: VideoSet, monkeypatch: pytest.MonkeyPatch) -> VideoSet:
    """The same videos without their files: a decoder that is fast."""
    frames = {
        video.path: plate(i, n, *SIZES[i % 4]) for i, (video, n) in enumerate(zip(filmed.videos, FRAMES, strict=True))
    }

    def some(info: Any, wanted: Any, _: Any) -> Iterator[tuple[int, Pixels]]:
        yield from ((n, frames[info.path][n]) for n in sorted(set(wanted)))

    monkeypatch.setattr(
        decoding, "probe", lambda video: decoding.VideoInfo(video.path, 0, *frames[video.path].shape[:3])
    )
    monkeypatch.setattr(decoding, "frames", some)
    monkeypatch.setattr(decoding, "stream", lambda video, _: iter(frames[video.path]))
    return filmed


@pytest.fixture(scope="module")
def tiny() -> VideoSet:
    """Videos for those who read none."""
    return as_set([Path(f"{i}.mkv") for i in range(23)])


class Told(clips._Clips):
    """Reads no file: a clip tells its video and the number of its sample."""

    def cut(self, video: Video, number: int) -> tuple[torch.Tensor, list[str]]:
        values = torch.tensor([number % 251, 4 * int(video.path.stem), number // 251 % 251], dtype=torch.uint8)
        return values[:, None, None, None].expand(3, *self.clip).clone(), []


def quick(*arguments: Any, **options: Any) -> VideoLoader:
    """A loader of `Told`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "_Clips", Told)
        return VideoLoader(*arguments, **{"clip": (2, 8, 8), **options})


def part(videos: VideoSet, n: int) -> VideoSet:
    return VideoSet("folder", "train", 1, videos.classes, videos.videos[:n])


def which(batch: torch.Tensor) -> list[int]:
    """The numbers of the videos that clips (N, 3, T, H, W) are of."""
    return [int(n) // 4 for n in batch[:, 1, 0, 0, 0]]


def times(clip: torch.Tensor) -> list[int]:
    """The numbers of the frames of a clip (3, T, H, W)."""
    assert (clip[0].amax((1, 2)) == clip[0].amin((1, 2))).all()
    return [int(n) // 4 for n in clip[0, :, 0, 0]]


def seen(loader: VideoLoader, most: int | None = None) -> list[tuple[list[int], list[int]]]:
    """(videos, labels) of each batch."""
    return [(which(batch), labels.tolist()) for batch, labels in islice(loader, most)]


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


# --- where and when


def cut_by_pillow(frame: Pixels, scale: float, corner: str, flip: bool, size: int) -> Pixels:
    """A square part of the short side of a frame (H, W, 3), resized."""
    height, width = frame.shape[:2]
    side = int(min(height, width) * scale + 1e-9)
    y, x = {"tl": (0, 0), "tr": (0, width - side), "bl": (height - side, 0), "br": (height - side, width - side),
            "c": ((height - side) // 2, (width - side) // 2)}[corner]  # fmt: skip
    image = Image.fromarray(frame).crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)


CORNERS = ("tl", "tr", "bl", "br", "c")


@pytest.mark.parametrize(
    ("augment", "scales"), [("x10", (7 / 8,)), ("multiscale", QUARTER_OCTAVES), (Augment(scales=(0.5,)), (0.5,))]
)
def test_crops_are_those_of_pillow(augment: Any, scales: tuple[float, ...], painted: VideoSet) -> None:
    """Corners and centre at parts of the short side, mirrored or not; each comes up, and nothing else does."""
    found: set[Any] = set()
    every = list(itertools.product(scales, CORNERS, (False, True)))
    frames = [plate(i, 1, *SIZES[i % 4])[0] for i in range(len(FRAMES))]
    theirs = [np.stack([cut_by_pillow(frame, *way, 20)[..., 2].astype(int) for way in every]) for frame in frames]
    loader = VideoLoader(painted, 8, clip=(2, 20, 20), augment=augment, seed=3)
    for _ in range(40 if len(scales) > 1 else 12):
        for batch, _ in loader:
            for video, clip in zip(which(batch), batch, strict=True):
                near = np.abs(theirs[video] - clip[2, 0].numpy().astype(int)).max((1, 2)) <= 1
                assert near.any()
                found.add(every[int(near.argmax())])
    # at all of the short side one corner looks like another
    assert found == set(every) - {(1, "br", False), (1, "br", True)}


def test_crops_without_scales_are_those_of_x10(tiny: VideoSet) -> None:
    a, b = (VideoLoader(tiny, 4, augment=augment) for augment in (Augment(), "x10"))
    assert a._clips == b._clips and a._clips.order.augment.scales == (clips.X10_SCALE,)


def test_none_is_the_middle(filmed: VideoSet) -> None:
    loader = VideoLoader(filmed, 1, clip=(16, 20, 20), augment="none", shuffle=False)
    for _ in range(2):
        for number, (batch, labels) in enumerate(loader):
            assert which(batch) == [number] and labels.tolist() == [number % 3]
            n = FRAMES[number]
            start = max(n - 16, 0) // 2
            assert times(batch[0]) == [(start + k) % n for k in range(16)]
            for k, frame in enumerate(plate(number, n, *SIZES[number % 4])[times(batch[0])]):
                mine = batch[0, :, k].permute(1, 2, 0).numpy().astype(int)
                assert np.abs(mine - cut_by_pillow(frame, 1, "c", False, 20)).max() <= 1


def test_clips_begin_at_any_time_and_short_videos_loop(painted: VideoSet) -> None:
    loader = VideoLoader(painted, 8, clip=(16, 4, 4), seed=5)
    starts: dict[int, Counter[int]] = {i: Counter() for i in range(len(FRAMES))}
    for _ in range(60):
        for batch, _ in loader:
            for video, clip in zip(which(batch), batch, strict=True):
                told = times(clip)
                assert told == [(told[0] + k) % FRAMES[video] for k in range(16)]
                starts[video][told[0]] += 1
    for video, n in enumerate(FRAMES):
        every = range(max(n - 15, 1))  # the last start too
        assert set(starts[video]) <= set(every) and len(starts[video]) > 0.7 * len(every)
    assert set(starts[0]) == set(range(9)) and set(starts[4]) == {0, 1}
    assert not loader.failures


@pytest.mark.parametrize("step", [3, (1, 2, 5)])
def test_steps_between_frames(step: Any, painted: VideoSet) -> None:
    loader = VideoLoader(painted, 8, clip=(6, 4, 4), augment=Augment(step=step), seed=5)
    found = set()
    for _ in range(12):
        for batch, _ in loader:
            for video, clip in zip(which(batch), batch, strict=True):
                told, n = times(clip), FRAMES[video]
                steps = {s for s in np.ravel(step).tolist() if told == [(told[0] + k * s) % n for k in range(6)]}
                assert steps
                # nothing is looped that need not be
                assert any(told[0] + 5 * s < n or (told[0] == 0 and 5 * s >= n) for s in steps)
                found |= steps if n > 26 else set()
    assert found == set(np.ravel(step).tolist())


def test_random_crops_reach_everywhere(painted: VideoSet) -> None:
    loader = VideoLoader(part(painted, 1), 1, clip=(1, 42, 42), augment="random", seed=1)  # 42 is 7/8 of 48
    places = set()
    for number in range(300):
        clip, _ = loader._clips.cut(painted.videos[0], number)
        blue = clip[2, 0].numpy().astype(int)
        flat = blue if blue[0, 0] < blue[0, -1] else blue[:, ::-1]
        x, y = flat[0, 0] // 3, flat[0, 0] % 3
        assert np.array_equal(flat, plate(0, 1, 48, 64)[0, :42, :42, 2].astype(int) + flat[0, 0])
        places.add((x, y))
    assert len(places) > 50 and max(x for x, _ in places) >= 21


def test_wide_clips_keep_their_shape(filmed: VideoSet) -> None:
    loader = VideoLoader(part(filmed, 1), 1, clip=(2, 24, 32), augment="none")
    ((batch, _),) = loader
    mine, frame = batch[0, :, 0].permute(1, 2, 0).numpy().astype(int), plate(0, 24, 48, 64)[11]
    assert np.abs(mine - np.asarray(Image.fromarray(frame).resize((32, 24), Image.Resampling.BILINEAR))).max() <= 1


def test_pixels_are_what_the_design_says(filmed: VideoSet) -> None:
    batch, labels = next(iter(VideoLoader(filmed, 3)))
    assert batch.shape == (3, 3, 16, 112, 112) and batch.dtype == torch.uint8 and batch.is_contiguous()
    assert labels.dtype == torch.int64 and labels.shape == (3,)


def test_segments_and_folders(tmp_path: Path) -> None:
    path, folder = film(tmp_path / "a.mkv", plate(0, 40)), jpegs(tmp_path / "j", plate(1, 20, 64, 64))
    videos = (Video("a/0", path, 0, "a", (0.4, 0.8)), Video("a/1", path, 1, "a", (1.0, 1.2)),
              Video("j", folder, 2, "j", frames=(3, 8)))  # fmt: skip
    loader = VideoLoader(VideoSet("x", "train", 1, ("a", "b", "c"), videos), 3, clip=(8, 4, 4), shuffle=False)
    for _ in range(5):
        ((batch, labels),) = loader
        assert labels.tolist() == [0, 1, 2]
        assert set(times(batch[0])) <= set(range(10, 20))
        assert times(batch[1]) == [25, 26, 27, 28, 29, 25, 26, 27]
        reds = batch[2, 0].float().mean((1, 2)) / 4
        assert (reds - torch.tensor([2, 3, 4, 5, 6, 2, 3, 4])).abs().max() < 1


# --- order, ranks, resuming


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(1, 9), st.integers(1, 4), st.integers(1, 23), st.booleans(), st.data())
def test_an_epoch_shows_each_video_once_and_ranks_share_it(
    tiny: VideoSet, seed: int, batch: int, ranks: int, n: int, drop_last: bool, data: st.DataObject
) -> None:
    def loaders(size: int, count: int) -> list[VideoLoader]:
        options: dict[str, Any] = {"seed": seed, "drop_last": drop_last, "world_size": count}
        return [quick(part(tiny, n), size, rank=r, **options) for r in range(count)]

    try:
        mine = loaders(batch, ranks)
    except ArgumentError:
        assert (drop_last and batch * ranks > n) or (not drop_last and 0 < n % (batch * ranks) < ranks)
        return
    orders = []
    for epoch in range(2):
        parts = [list(loader) for loader in mine]
        assert {len(p) for p in parts} == {len(mine[0])}
        dealt = [[which(b) for b, _ in p] for p in parts]
        samples = [v for step in zip(*dealt, strict=True) for rank in step for v in rank]
        assert len(samples) == len(set(samples)) and (drop_last or set(samples) == set(range(n)))
        assert n - len(samples) < batch * ranks
        assert all(lab.tolist() == [v % 3 for v in which(b)] for p in parts for b, lab in p)
        orders.append(samples)
        # the same samples, in the same order and with the same windows, on one rank
        alone = quick(part(tiny, n), n, seed=seed, rank=0, world_size=1)
        alone.set_epoch(epoch)
        every = next(iter(alone))[0]
        there = torch.cat([parts[r][k][0] for k in range(len(dealt[0])) for r in range(ranks)])
        assert torch.equal(every[: len(there)], there)
    # taken up on another number of ranks
    done = data.draw(st.integers(0, len(mine[0])))
    for loader in mine:
        loader.set_epoch(1)
        seen(loader, done)
    states = [loader.state_dict() for loader in mine]
    assert all(state == states[0] for state in states)
    other = data.draw(st.integers(1, 3))
    assume(
        drop_last
        or n - states[0]["sample"] >= other * batch
        or (n - states[0]["sample"]) % (other * batch) in (0, *range(other, 99))
    )
    try:
        again = loaders(batch, other)
    except ArgumentError:
        return
    rest = []
    for loader in again:
        loader.load_state_dict(json.loads(json.dumps(states[0])))
        rest.append(seen(loader))
    if states[0]["epoch"] == 1:
        samples = [v for step in zip(*rest, strict=True) for videos, _ in step for v in videos]
        shown = orders[1] if drop_last is False else None
        at = states[0]["sample"]
        assert (orders[1][at : at + len(samples)] == samples[: len(orders[1]) - at]) and (
            shown is None or samples == shown[at:]
        )


def test_without_shuffle_the_order_is_that_of_the_set(tiny: VideoSet) -> None:
    loader = quick(tiny, 5, shuffle=False, drop_last=False)
    for _ in range(2):
        assert [v for videos, _ in seen(loader) for v in videos] == list(range(23))


def test_seeds_and_epochs_differ(tiny: VideoSet) -> None:
    loader = quick(tiny, 23)
    orders = [seen(loader)[0][0] for _ in range(3)] + [seen(quick(tiny, 23, seed=1))[0][0]]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("first", [0, 2])
def test_resuming_twice_with_other_workers(first: int, tiny: VideoSet) -> None:
    def loader(num_workers: int) -> VideoLoader:
        return quick(tiny, 4, seed=9, num_workers=num_workers)

    def take(from_: Any, n: int) -> list[Any]:
        return [next(from_) for _ in range(n)]

    whole = loader(0)
    every = [*list(whole), *list(whole)]
    assert len(every) == 10
    a = loader(first)
    got = take(iter(a), 2)
    b = loader(2 - first)
    b.load_state_dict(a.state_dict())
    it = iter(b)
    got += take(it, 1)
    c = loader(first)
    c.load_state_dict(json.loads(json.dumps(b.state_dict())))
    got += list(c)
    assert c.state_dict()["epoch"] == 1 and c.state_dict()["sample"] == 0
    got += list(c)
    assert same(got, every)


def test_workers_change_nothing(filmed: VideoSet, tmp_path: Path) -> None:
    """Other ways to start them are below, with signals."""
    (tmp_path / "empty.mkv").write_bytes(b"no video")
    videos = VideoSet("x", "train", 1, filmed.classes, (*filmed.videos, Video("bad", tmp_path / "empty.mkv", 0, "bad")))
    options: dict[str, Any] = {"clip": (4, 8, 8), "seed": 2, "drop_last": False}
    alone, several = VideoLoader(videos, 2, **options), VideoLoader(videos, 2, num_workers=2, **options)
    for _ in range(2):
        assert same(list(alone), list(several))
    next(iter(several))  # an iteration that is left in the middle is over
    next(iter(alone))
    assert same(list(alone), list(several)) and several.failures == alone.failures and set(alone.failures) == {"bad"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_numbers_are_those_of_the_samples_over_all_ranks(num_workers: int, tiny: VideoSet) -> None:
    options: dict[str, Any] = {
        "seed": 9,
        "drop_last": False,
        "numbers": True,
        "num_workers": num_workers,
        "world_size": 2,
    }
    loaders = [quick(tiny, 4, rank=rank, **options) for rank in range(2)]
    for epoch in range(2):
        parts = [list(loader) for loader in loaders]
        labels, told = (torch.cat([each[k] for step in zip(*parts, strict=True) for each in step]) for k in (1, 2))
        assert told.dtype == torch.int64 and told[:, :2].tolist() == [[epoch, sample] for sample in range(23)]
        # Of a video that cannot be read another one is shown, and that is told.
        assert labels.tolist() == [tiny.videos[k].label for k in told[:, 2].tolist()]
        for batch, _, numbers in parts[0] + parts[1]:
            assert torch.equal(batch[:, 0, 0, 0, 0].long(), epoch * 23 + numbers[:, 1])
    loaders[0].set_epoch(3)
    next(it := iter(loaders[0]))
    state = loaders[0].state_dict()
    del it
    loaders[1].load_state_dict(state)
    assert next(iter(loaders[1]))[2][:, :2].tolist() == [[3, sample] for sample in range(12, 16)]


def test_the_random_numbers_of_the_model_are_left_alone(painted: VideoSet) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(VideoLoader(painted, 4, clip=(2, 4, 4)))
    list(WindowLoader(painted, 4, clip=(2, 4, 4)))
    assert torch.equal(torch.get_rng_state(), before)


# --- worker processes


@pytest.mark.parametrize("make", [VideoLoader, WindowLoader])
def test_workers_go_with_who_wants_their_batches(make: Any, filmed: VideoSet) -> None:
    """Without delay, and with no need of the garbage collector."""
    gc.collect()
    before, picklers = set(multiprocessing.active_children()), dict(copyreg.dispatch_table)
    gc.disable()
    try:
        for taken in (1, 3):
            loader = make(filmed, 2, clip=(4, 8, 8), num_workers=2)
            it = iter(loader)
            for _ in range(taken):
                next(it)
            mine = set(multiprocessing.active_children()) - before
            assert len(mine) == 2
            if make is WindowLoader:
                it.close()
                assert not set(multiprocessing.active_children()) - before
            del it, loader
            assert not set(multiprocessing.active_children()) - before
            assert {worker.exitcode for worker in mine} == {0}
        nothing = as_set([Path("nowhere") / str(i) for i in range(3)])
        if make is VideoLoader:  # of which the other makes no error
            tblib.pickling_support.install()  # as Dask does: tracebacks are sent with errors
            with contextlib.suppress(RunError):
                next(iter(make(nothing, 2, num_workers=1, multiprocessing_context="fork")))
            assert not set(multiprocessing.active_children()) - before
    finally:
        gc.enable()
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(picklers)


ALONE = """
import json, signal, sys
from pathlib import Path
from vpngen.datasets import Video, VideoLoader, VideoSet, WindowLoader

if __name__ == "__main__":
    heard = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: heard.add(n))
    paths = json.loads(sys.argv[1])
    videos = VideoSet("x", "train", 1, ("a",), tuple(Video(p, Path(p), 0, p) for p in paths))
    how = {"clip": (4, 8, 8)}
    loaders = [
        VideoLoader(videos, 2, num_workers=2, multiprocessing_context="fork", **how),
        WindowLoader(videos, 2, num_workers=2, multiprocessing_context="fork", **how),
        VideoLoader(videos, 2, num_workers=1, multiprocessing_context="forkserver", **how),
    ]
    def told(batches):
        return [[len(batch), int(batch.sum())] for batch, _ in batches]
    print("ready", flush=True)
    every = [told(loader) for loader in loaders]
    its = [iter(loader) for loader in loaders]
    print(json.dumps([every, [told([next(it)]) for it in its], sorted(heard)]), flush=True)
    sys.stdin.readline()
    rests = [told(it) for it in its]
    its = [iter(loader) for loader in loaders]
    print(json.dumps([rests, [told([next(it)]) for it in its]]), flush=True)
    sys.exit(0)  # in the middle of an epoch
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals to a group")
def test_signals_to_the_group_are_for_the_parent(filmed: VideoSet, tmp_path: Path) -> None:
    """They come all the time, while workers begin too, and all batches come as well; at the end all is quiet and nobody left."""
    (tmp_path / "alone.py").write_text(ALONE)
    paths = [str(v.path) for v in filmed.videos]
    command = [sys.executable, "-W", "error", str(tmp_path / "alone.py"), json.dumps(paths)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    enough = threading.Event()
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:

        def send() -> None:
            while not enough.wait(0.003):
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.killpg(process.pid, number)

        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        sender = threading.Thread(target=send)
        sender.start()
        try:
            first = process.stdout.readline()
        finally:
            enough.set()
            sender.join()
        try:
            said, complained = process.communicate("\n", timeout=120)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, complained) == (0, "")
    (every, begun, heard), (rests, again) = json.loads(first), json.loads(said)
    assert heard == [signal.SIGINT, signal.SIGTERM]
    clips_of, windows_of = VideoLoader(filmed, 2, clip=(4, 8, 8)), WindowLoader(filmed, 2, clip=(4, 8, 8))
    epochs = [[[len(batch), int(batch.sum())] for batch, _ in clips_of] for _ in range(3)]
    for k in (0, 2):
        assert [every[k], begun[k] + rests[k], again[k]] == [epochs[0], epochs[1], epochs[2][:1]]
    # with workers, the windows of different videos alternate
    count = sum(len(batch) for batch, _ in windows_of)
    assert sum(n for n, _ in every[1]) == sum(n for n, _ in begun[1] + rests[1]) == count and again[1] == begun[1]
    with contextlib.suppress(ProcessLookupError):
        for _ in range(600):  # the server of a forkserver looks for its parent when it pleases
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        pytest.fail("somebody is left")


@pytest.mark.parametrize("make", [VideoLoader, WindowLoader])
def test_few_batches_wait_in_memory(make: Any, tiny: VideoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """About as many as there are workers; and they are pinned where that is asked for."""
    made: list[Any] = []
    monkeypatch.setattr(workers, "iteration", lambda reader: made.append(reader) or iter(()))
    for count in (0, 1, 2):
        list(make(tiny, 2, num_workers=count))
        assert not made[-1].pin_memory and made[-1].prefetch_factor == {0: None, 1: 2, 2: 1}[count]
    list(make(tiny, 2, pin_memory=True))
    assert made[-1].pin_memory


class Blind(vpngen.ClipStream):
    """A stream that renders nothing."""

    def _fill(self, *arguments: Any) -> None:
        pass


@settings(max_examples=15)
@given(st.lists(st.one_of(
    st.tuples(st.just("take"), st.integers(0, 7)), st.tuples(st.just("set"), st.integers(0, 3)),
    st.tuples(st.just("save"), st.just(0)), st.tuples(st.just("load"), st.integers(0, 5)),
    st.tuples(st.just("on"), st.integers(0, 3))), max_size=12))  # fmt: skip
def test_it_is_where_a_stream_would_be(tiny: VideoSet, acts: list[tuple[str, int]]) -> None:
    """Whatever is done to both."""
    spec = vpngen.perlin(
        shape=(4, 8, 8), instances=1, divisions_x=[1], divisions_y=[1, 2, 4, 8], temporal=[4], noise_frequencies=[1]
    )
    n = spec.n_videos("train")
    loader = quick(part(tiny, n), 1, clip=(1, 8, 8))
    stream = Blind(spec, 1, clip=(1, 8, 8), device="cpu", drop_last=True, prefetch=0)
    both: tuple[Any, Any] = (loader, stream)
    iterators: list[Iterator[Any]] = [iter(loader), iter(stream)]
    states = []

    def place() -> None:
        a, b = loader.state_dict(), stream.state_dict()
        assert (a["epoch"], a["sample"]) == (b["epoch"], b["sample"])
        states.append((a, b))

    for act, number in acts:
        if act == "take":
            iterators = [iter(one) for one in both]
        if act in ("take", "on"):
            for _ in range(number):
                ended = [next(one, None) is None for one in iterators]
                assert ended[0] == ended[1]
                place()
        elif act == "set":
            for one in both:
                one.set_epoch(number)
        elif act == "load" and states:
            for one, state in zip(both, states[number % len(states)], strict=True):
                one.load_state_dict(state)
        place()


def test_setting_the_epoch_that_was_loaded_keeps_its_place(tiny: VideoSet) -> None:
    """As `fit` does after it has loaded a checkpoint."""
    a, b = (quick(tiny, 4) for _ in range(2))
    a.set_epoch(3)
    every = list(a)
    a.set_epoch(3)
    seen(a, 2)
    b.load_state_dict(a.state_dict())
    b.set_epoch(3)
    assert same(list(b), every[2:])
    b.load_state_dict(a.state_dict())
    b.set_epoch(2)
    b.set_epoch(3)
    assert same(list(b), every)


def test_ranks_are_read_when_an_iteration_begins(
    tiny: VideoSet, painted: VideoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = quick(tiny, 4)
    every = [which(b) for b, _ in loader]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader.set_epoch(0)
    assert [which(b) for b, _ in loader] == every[1::2][:2] and len(loader) == 2
    assert {int(n) for _, numbers in WindowLoader(painted, 4, clip=(2, 8, 8)) for n in numbers} == {1, 3, 5, 7}
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ArgumentError, match=r"RANK \(=.2.\) and WORLD_SIZE .* of the environment"):
        list(loader)


# --- what cannot be read


@pytest.fixture(scope="module")
def patchy(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    """Every other video cannot be read, and two in a row."""
    tmp_path = tmp_path_factory.mktemp("patchy")
    paths = [film(tmp_path / f"{i}.mkv", plate(i, 3, 16, 16)) for i in range(9)]
    for i in (1, 2, 5, 7):
        paths[i].write_bytes(b"no") if i % 2 else paths[i].unlink()
    return as_set(paths)


def test_what_cannot_be_read_is_replaced_by_the_next_of_the_order(patchy: VideoSet) -> None:
    loader = VideoLoader(patchy, 9, clip=(2, 8, 8), shuffle=False)
    ((batch, labels),) = loader
    assert which(batch) == [0, 3, 3, 3, 4, 6, 6, 8, 8] and labels.tolist() == [v % 3 for v in which(batch)]
    assert set(loader.failures) == {"v1", "v2", "v5", "v7"}
    assert "No such file" in loader.failures["v2"] and str(patchy.videos[1].path) in loader.failures["v1"]
    # pixel for pixel as if the one that was read had stood there
    there = as_set([patchy.videos[i].path for i in which(batch)])
    ((other, _),) = VideoLoader(there, 9, clip=(2, 8, 8), shuffle=False)
    assert torch.equal(batch, other)
    loader = VideoLoader(patchy, 4, clip=(2, 8, 8), drop_last=False, seed=4)
    order = [int(i) for i in loader._clips.order.indices(np.arange(9))]
    told = [v for videos, _ in seen(loader) for v in videos]
    good = {0, 3, 4, 6, 8}
    assert told == [next(order[(k + j) % 9] for j in range(9) if order[(k + j) % 9] in good) for k in range(9)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_that_can_be_read_is_said(num_workers: int, tmp_path: Path) -> None:
    videos = as_set([tmp_path / f"{i}.mkv" for i in range(300)])
    with pytest.raises(RunError, match="none of 100 videos in a row can be read") as error:
        next(iter(VideoLoader(videos, 2, num_workers=num_workers)))
    with pytest.raises(RunError, match="none of 300 videos in a row can be read"):
        next(iter(VideoLoader(videos, 2, num_workers=num_workers, shuffle=False)))
    assert "Traceback" not in str(error.value) and ".mkv cannot be read: No such file" in str(error.value)


def test_a_list_of_which_little_is_there_is_gone_through(tmp_path: Path) -> None:
    """As a set that is not wholly downloaded has it, in validation."""
    there = film(tmp_path / "250.mkv", plate(25, 3, 16, 16))
    loader = VideoLoader(
        as_set([tmp_path / f"{i}.mkv" for i in range(300)]), 90, clip=(2, 8, 8), shuffle=False, drop_last=False
    )
    batches = list(loader)
    assert [len(clips) for clips, _ in batches] == [90, 90, 90, 30] and {v for c, _ in batches for v in which(c)} == {
        25
    }
    assert len(loader.failures) == 299 and there.exists()


def test_a_damaged_clip_loops_what_is_left(tmp_path: Path) -> None:
    folder = jpegs(tmp_path / "j", plate(0, 10, 32, 32))
    for number in (3, 4):
        (folder / f"image_{number:05d}.jpg").write_bytes(b"no")
    loader = VideoLoader(as_set([folder], frames=(1, 11)), 1, clip=(10, 4, 4))
    ((batch, _),) = loader
    reds = batch[0, 0].float().mean((1, 2)) / 4
    assert (reds - torch.tensor([0, 1, 4, 5, 6, 7, 8, 9, 0, 1])).abs().max() < 1
    assert loader.failures["v0"].startswith("damaged: ") and "image_00003.jpg" in loader.failures["v0"]


def test_failures_depend_on_no_earlier_reading(tmp_path: Path) -> None:
    """A clip that cannot be read says nothing about the other clips of its video."""
    folder = jpegs(tmp_path / "j", plate(0, 40, 16, 16))
    for number in range(1, 20):
        (folder / f"image_{number:05d}.jpg").write_bytes(b"no")
    good = jpegs(tmp_path / "g", plate(1, 8, 16, 16))
    videos = as_set([folder, good])
    loader = VideoLoader(videos, 1, clip=(2, 4, 4), seed=1)
    every = [list(loader) for _ in range(8)]
    for epoch in reversed(range(8)):
        other = VideoLoader(videos, 1, clip=(2, 4, 4), seed=1)
        other.set_epoch(epoch)
        assert same(list(other), every[epoch])


# --- states and arguments


def test_states_of_others_are_refused(tiny: VideoSet) -> None:
    loader = quick(tiny, 4)
    state = loader.state_dict()
    for other in ({}, None, {"vpngen_stream": 1}, {**state, "vpngen_videos": 2}):
        with pytest.raises(ArgumentError, match="not that of a VideoLoader"):
            loader.load_state_dict(other)  # type: ignore[arg-type]
    for changes in ({"sample": -1}, {"sample": 24}, {"epoch": "1"}, {"settings": {}}):
        with pytest.raises(ArgumentError, match="damaged"):
            loader.load_state_dict({**state, **changes})
    with pytest.raises(ArgumentError, match="damaged"):
        loader.load_state_dict({k: v for k, v in state.items() if k != "epoch"})
    with pytest.raises(ConflictError, match="seed: 1 there, 0 here"):
        loader.load_state_dict(quick(tiny, 4, seed=1).state_dict())
    with pytest.raises(ConflictError, match="another set"):
        loader.load_state_dict(quick(part(tiny, 20), 4).state_dict())


def test_a_state_goes_with_the_set_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is moved, and one that is named from elsewhere, are the set they were."""
    for i in range(6):
        (path := tmp_path / "here" / "train" / "ab"[i % 2] / f"{i}.mkv").parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def loader(root: Path) -> VideoLoader:
        return quick(read_videos("folder", root), 2)

    one = loader(tmp_path / "here")
    every = list(one)
    one.set_epoch(0)
    next(it := iter(one))
    state = json.loads(json.dumps(one.state_dict()))
    it.close()  # type: ignore[attr-defined]
    assert str(tmp_path) not in json.dumps(state)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "else" / "where").mkdir(parents=True)
    loader(Path("here")).load_state_dict(state)
    (tmp_path / "here").rename(tmp_path / "else" / "where" / "there")
    other = loader(tmp_path / "else" / "where" / "there")
    other.load_state_dict(state)
    assert same(list(other), every[1:])


@pytest.mark.parametrize(
    "changes", [{"id": "other"}, {"label": 2}, {"segment": (0.0, 1.0)}, {"segment": (0.0, 2.0)}, {"frames": (1, 3)}]
)
def test_a_fingerprint_tells_what_the_videos_are(changes: dict[str, Any], tiny: VideoSet) -> None:
    others = (dataclasses.replace(tiny.videos[0], **changes), *tiny.videos[1:])
    prints = {
        VideoLoader(dataclasses.replace(tiny, **c), 4).fingerprint
        for c in ({}, {"videos": others}, {"classes": ("a",)})
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"batch_size": 0}, "`batch_size`"),
        ({"batch_size": 24}, "more than the 23 videos"),
        ({"clip": (16, 112)}, "`clip`"),
        ({"clip": (0, 1, 1)}, "`clip`"),
        ({"augment": "x11"}, "`augment`"),
        ({"seed": -1}, "`seed`"),
        ({"shuffle": 1}, "`shuffle`"),
        ({"drop_last": None}, "`drop_last`"),
        ({"pin_memory": None}, "`pin_memory`"),
        ({"num_workers": -1}, "`num_workers`"),
        ({"num_workers": 1, "multiprocessing_context": "thread"}, "`multiprocessing_context`"),
        ({"rank": 0}, "go together"),
        ({"rank": 2, "world_size": 2}, "`rank`"),
        ({"rank": 0, "world_size": 8}, "on each of 8 ranks"),
    ],
)
def test_arguments_are_checked(changes: dict[str, Any], match: str, tiny: VideoSet) -> None:
    with pytest.raises(ArgumentError, match=match):
        VideoLoader(tiny, **{"batch_size": 4, **changes})
    if (
        set(changes) <= {"clip", "num_workers", "multiprocessing_context", "pin_memory", "rank", "world_size"}
        and "8" not in match
    ):
        with pytest.raises(ArgumentError, match=match):
            WindowLoader(tiny, **{"batch_size": 4, **changes})


def test_an_empty_set_is_refused(tiny: VideoSet) -> None:
    with pytest.raises(ArgumentError, match="empty"):
        VideoLoader(part(tiny, 0), 1)


# --- windows


def sliding(n: int, size: int, stride: int) -> list[list[int]]:
    """The frames of the windows of a video of `n`, as SlidingWindow of 3D-ResNets-PyTorch has them."""
    found = []
    for begin in range(0, n, stride):
        window = list(range(begin, min(begin + size, n)))
        found.append([window[k % len(window)] for k in range(size)])
        if begin + size > n:
            break
    return found


def windows(batches: Iterable[Any]) -> list[tuple[int, list[int]]]:
    """(video, frames) of each window."""
    return [(int(n), times(clip)) for batch, indices in batches for clip, n in zip(batch, indices, strict=True)]


@pytest.mark.parametrize("stride", [None, 4, 7, 20])
@pytest.mark.parametrize("size", [16, 8])
def test_windows_are_all_of_every_video(size: int, stride: int | None, painted: VideoSet) -> None:
    loader = WindowLoader(painted, 5, clip=(size, 12, 12), stride=stride)
    batches = list(loader)
    expected = [(i, w) for i, n in enumerate(FRAMES) for w in sliding(n, size, stride or size)]
    assert windows(batches) == expected
    assert loader.short == {f"v{i}" for i, n in enumerate(FRAMES) if n < size} and not loader.failures
    sizes = [len(indices) for _, indices in batches]
    assert sizes[:-1] == [5] * (len(sizes) - 1) and 1 <= sizes[-1] <= 5


def spread(n: int, size: int, step: int, count: int) -> list[list[int]]:
    """The frames of so many windows of a video of `n`, as public code of video clip order prediction begins them."""
    half = ((size - 1) * step + 1) / 2
    begins = [int(middle - half) for middle in np.linspace(half, max(n, 2 * half) - half, count)]
    return [[(begin + k * step) % n for k in range(size)] for begin in begins]


@pytest.mark.parametrize(("size", "step", "count"), [(16, 1, 10), (8, 2, 7), (4, 3, 1)])
def test_so_many_windows_are_spread_evenly(size: int, step: int, count: int, painted: VideoSet) -> None:
    loader = WindowLoader(painted, 5, clip=(size, 12, 12), frame_step=step, clips=count)
    assert windows(loader) == [(i, w) for i, n in enumerate(FRAMES) for w in spread(n, size, step, count)]
    assert loader.short == {f"v{i}" for i, n in enumerate(FRAMES) if n < (size - 1) * step + 1} and not loader.failures


def test_windows_that_are_spread_are_the_same_on_workers(filmed: VideoSet) -> None:
    expected = [(i, w) for i, n in enumerate(FRAMES) for w in spread(n, 8, 1, 3)]
    loader = WindowLoader(filmed, 2, clip=(8, 4, 4), clips=3, num_workers=2, rank=0, world_size=1)
    assert sorted(windows(loader)) == sorted(expected)
    others: list[dict[str, Any]] = [{"stride": 8}, {"segments": 3}]
    for other in others:
        with pytest.raises(ArgumentError, match=r"`clips` \(=3\) say which windows there are"):
            WindowLoader(filmed, 2, clips=3, **other)
    with pytest.raises(ArgumentError, match=r"`clips` \(=0\) must be"):
        WindowLoader(filmed, 2, clips=0)


def test_windows_are_the_middle_of_the_short_side(filmed: VideoSet) -> None:
    for batch, numbers in WindowLoader(filmed, 3, clip=(8, 20, 20)):
        assert batch.dtype == torch.uint8 and batch.is_contiguous() and numbers.dtype == torch.int64
        for clip, number in zip(batch, numbers.tolist(), strict=True):
            frames = plate(number, 64, *SIZES[number % 4])[times(clip)]
            for k, frame in enumerate(frames):
                mine = clip[:, k].permute(1, 2, 0).numpy().astype(int)
                assert np.abs(mine - cut_by_pillow(frame, 1, "c", False, 20)).max() <= 1


def test_ranks_and_workers_share_the_videos(filmed: VideoSet, painted: VideoSet) -> None:
    expected = [(i, w) for i, n in enumerate(FRAMES) for w in sliding(n, 8, 8)]

    def found(rank: int, ranks: int, num_workers: int) -> list[tuple[int, list[int]]]:
        loader = WindowLoader(filmed, 3, clip=(8, 4, 4), rank=rank, world_size=ranks, num_workers=num_workers)
        first = windows(loader)
        assert windows(loader) == first
        return first

    every = [found(rank, 3, 0) for rank in range(3)]
    assert [w for mine in every for w in mine] == [w for rank in range(3) for w in expected if w[0] % 3 == rank]
    two = found(1, 2, 2)
    assert sorted(two) == [w for w in expected if w[0] % 2] and two != sorted(
        two
    )  # those of different videos alternate
    for i in range(1, len(FRAMES), 2):
        assert [w for w in two if w[0] == i] == [w for w in expected if w[0] == i]  # in order
    assert found(3, 8, 2) == [w for w in expected if w[0] == 3]  # with nothing for the other worker


@pytest.mark.parametrize("num_workers", [0, 1])
def test_windows_of_a_patchy_set(num_workers: int, patchy: VideoSet) -> None:
    loader = WindowLoader(patchy, 4, clip=(3, 8, 8), num_workers=num_workers)
    assert [i for i, _ in windows(loader)] == [0, 3, 4, 6, 8]
    assert set(loader.failures) == {"v1", "v2", "v5", "v7"} and "No such file" in loader.failures["v2"]
    nothing = WindowLoader(VideoSet("x", "val", 1, ("a",), patchy.videos[1:3]), 4, num_workers=num_workers)
    assert list(nothing) == [] and set(nothing.failures) == {"v1", "v2"}


def test_windows_of_segments_and_folders(tmp_path: Path) -> None:
    path, folder = film(tmp_path / "a.mkv", plate(0, 40)), jpegs(tmp_path / "j", plate(1, 20, 64, 64))
    videos = (Video("a/0", path, 0, "a", (0.4, 0.8)), Video("a/1", path, 1, "a", (9.0, 10.0)),
              Video("a/2", path, 1, "a", (1.0, 1.08)), Video("j", folder, 2, "j", frames=(3, 13)))  # fmt: skip
    loader = WindowLoader(VideoSet("x", "val", 1, ("a", "b", "c"), videos), 99, clip=(8, 4, 4))
    ((batch, numbers),) = loader
    assert numbers.tolist() == [0, 0, 2, 3, 3]
    assert [times(clip) for clip in batch[:3]] == [
        [*range(10, 18)], [18, 19, 18, 19, 18, 19, 18, 19], [25, 26, 25, 26, 25, 26, 25, 26],
    ]  # fmt: skip
    reds = batch[3, 0].float().mean((1, 2)) / 4
    assert (reds - torch.arange(2, 10)).abs().max() < 1
    assert loader.short == {"a/2"} and set(loader.failures) == {"a/1"} and "holds no frame" in loader.failures["a/1"]


def test_windows_of_a_damaged_video(tmp_path: Path) -> None:
    import av

    pictures = plate(0, 30)
    pictures[..., 2] = np.random.default_rng(0).integers(0, 256, pictures.shape[:3])  # so that a packet is large
    path = film(tmp_path / "a.mkv", pictures, "-c:v", "png", "-pix_fmt", "rgb24")
    with av.open(str(path)) as container:
        at, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][12]
    content = bytearray(path.read_bytes())
    content[at + size // 4 : at + size // 2] = bytes(size // 2 - size // 4)
    path.write_bytes(content)
    left = [n for n in range(30) if n != 12]
    loader = WindowLoader(as_set([path]), 9, clip=(8, 4, 4), clips=3)
    assert windows(loader) == [(0, [*range(8)]), (0, [11, *range(13, 19), 11]), (0, [*range(22, 30)])]
    assert loader.failures["v0"].startswith("damaged: ")
    for segment in (None, (0.0, 9.0)):
        loader = WindowLoader(as_set([path], segment=segment), 9, clip=(8, 4, 4))
        assert windows(loader) == [(0, [left[k] for k in w]) for w in sliding(29, 8, 8)]
        assert loader.failures["v0"].startswith("damaged: ")
    ffmpeg(
        "-i",
        film(tmp_path / "b.mkv", plate(0, 30)),
        "-c:v",
        "mpeg4",
        "-q:v",
        1,
        "-movflags",
        "+faststart",
        tmp_path / "b.mp4",
    )
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) // 2])
    loader = WindowLoader(as_set([tmp_path / "b.mp4"]), 9, clip=(8, 4, 4))
    assert 1 <= len(torch.cat([b for b, _ in loader])) < 4 and loader.failures["v0"].startswith("damaged: ")


def test_each_file_is_decoded_once_and_no_further_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mkv", plate(0, 200, 16, 16))
    decoded, original = 0, decoding._decoded

    def counting(*arguments: Any) -> Iterator[Any]:
        nonlocal decoded
        for frame in original(*arguments):
            decoded += 1
            yield frame

    monkeypatch.setattr(decoding, "_decoded", counting)
    it = iter(WindowLoader(as_set([path]), 2, clip=(8, 4, 4)))
    for k in range(1, 13):
        next(it)
        assert decoded == 16 * k
    assert len(list(it)) == 1 and decoded == 200
    decoded = 0
    assert len(list(WindowLoader(as_set([path]), 2, clip=(8, 4, 4), clips=60))) == 30 and decoded == 200


def test_a_clip_larger_than_its_video_is_enlarged(painted: VideoSet) -> None:
    ((batch, _),) = VideoLoader(part(painted, 1), 1, clip=(2, 80, 80))
    assert batch.shape == (1, 3, 2, 80, 80)
    assert math.isclose(float(batch[0, 1].float().mean()), 0)


def test_numbers_of_the_seed_recipe() -> None:
    """7/8 is 112 of 128; the scales of section 3.3 on the short side of UCF-101."""
    assert clips.X10_SCALE * 128 == 112
    videos = as_set([Path("x")])
    of = VideoLoader(videos, 1, augment="multiscale")._clips.order
    of = dataclasses.replace(of, shape=(16, 240, 320))
    assert of.sides == ((240, 240), (201, 201), (169, 169), (142, 142), (120, 120))

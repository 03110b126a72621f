"""Streams: the right pixels in the right order, on any ranks and workers, from any state; real loaders, real processes."""

from __future__ import annotations

import copy
import functools
import gc
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import small, tiny
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import vpngen
from vpngen import ArgumentError, ClipStream, ConflictError, MissingError, RunError, Spec, Window
from vpngen.datasets import Video, VideoLoader, VideoSet, WindowLoader
from vpngen.sampling import Augment
from vpngen.stream import ClipLoader

multiprocessing.set_forkserver_preload(["torch", "vpngen.stream.dataset"])  # what takes a worker most of its time

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than cores, on purpose
    pytest.mark.filterwarnings("ignore::UserWarning:torchdata"),
]
SPEC = small(instances=5)  # 30 videos of 20 x 48 x 48
CLIP = (6, 20, 24)
SOME_AUGMENT = Augment(crop="random", step=(1, 2, 3))


def stream(source: Spec | Path = SPEC, batch_size: int = 4, **options: Any) -> ClipStream:
    return ClipStream(
        source, batch_size, **{"clip": CLIP, "device": "cpu", "threads": 1, "parameters": True, **options}
    )


def seen(batches: Iterable[Any]) -> list[tuple[int, ...]]:
    """What samples there were, in order: their videos and windows."""
    return [
        (int(i), *map(int, w)) for b in batches for i, w in zip(b[2]["index"], b[2]["window"], strict=True)
    ]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Whether two lists of batches are the same to the byte."""
    return len(a) == len(b) and all(
        torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) and all(torch.equal(x[2][k], y[2][k]) for k in x[2])
        for x, y in zip(a, b, strict=True)
    )


@functools.cache
def videos(split: str) -> Any:
    """All videos of a split, as the reference renders them."""
    return vpngen.render(SPEC, list(range(SPEC.n_videos(split))), split=split, backend="reference")


# --- what it says of itself


SHOWN = f"Spec(perlin: 6 categories, train 30 videos, val 6 of (20, 48, 48), seed {SPEC.seed}, fingerprint {SPEC.fingerprint[:8]})"
FILMS = VideoSet("folder", "val", 1, ("a", "b"), (Video("v", Path("v"), 0, "g"),) * 1200)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: SPEC, SHOWN),
        (lambda: small(val_instances=200), ", train 18 videos, val 1,200 of (20, 48, 48), seed "),
        (stream, "ClipStream(perlin train, 30 videos of 6 categories: clips uint8 (4, 3, 6, 20, 24) on cpu, epochs of 30 samples)"),
        (
            lambda: vpngen.loader(stream(channels=1, dtype="float16", length="infinite"), num_workers=2),
            "ClipLoader(ClipStream(perlin train, 30 videos of 6 categories: clips float16 (4, 1, 6, 20, 24) on cpu, endless), num_workers=2)",
        ),
        (lambda: vpngen.open(SPEC), f"View(train of {SHOWN} in no store: video uint8 (30, 20, 48, 48), label, "),
        (lambda: FILMS, "VideoSet(folder val, split 1: 1,200 videos of 2 classes)"),
        (lambda: VideoLoader(FILMS, 8), "VideoLoader(VideoSet(folder val, split 1: 1,200 videos of 2 classes): clips uint8 (8, 3, 16, 112, 112), num_workers=0)"),
        (lambda: WindowLoader(FILMS, 8, num_workers=2), "clips uint8 (8, 3, 16, 112, 112), num_workers=2)"),
    ],
)  # fmt: skip
def test_what_users_hold_says_what_it_is(
    made: Callable[[], object], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "nonsense")  # it never fails
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert text in repr(made()) and len(repr(made())) < 250


@pytest.mark.parametrize(("name", "value"), [("pin_memory", True), ("workers", 2), ("collate_fn", None)])
def test_a_loader_names_what_it_does_not_take(name: str, value: Any) -> None:
    with pytest.raises(
        ArgumentError, match=f"`{name}` is no argument of vpngen.loader; it has .*num_workers, .*threads"
    ):
        vpngen.loader(SPEC, 4, device="cpu", **{name: value})


# --- pixels


@given(
    batch_size=st.integers(1, 9), channels=st.sampled_from((1, 3)), threads=st.integers(1, 2), prefetch=st.integers(0, 3),
    seed=st.integers(0, 2**64 - 1), shuffle=st.booleans(), split=st.sampled_from(("train", "val")),
)  # fmt: skip
@settings(max_examples=12)
def test_clips_are_windows_of_the_videos(
    batch_size: int, channels: int, threads: int, prefetch: int, seed: int, shuffle: bool, split: str
) -> None:
    assume(batch_size <= SPEC.n_videos(split))
    clips = stream(
        batch_size=batch_size, channels=channels, threads=threads, prefetch=prefetch, seed=seed, shuffle=shuffle,
        split=split, augment=SOME_AUGMENT,
    )  # fmt: skip
    count = 0
    for pixels, labels, recipe in clips:
        assert pixels.shape == (len(labels), channels, *CLIP) and pixels.dtype == torch.uint8
        assert labels.dtype == torch.int64 and labels.tolist() == (recipe["index"] % SPEC.n_categories).tolist()
        for i, (t0, step, y0, x0, flip) in enumerate(recipe["window"].tolist()):
            window = Window((t0, t0 + 5 * step + 1, step), (y0, y0 + 20), (x0, x0 + 24), bool(flip))
            cut = window.of(videos(split)[int(recipe["index"][i])])
            assert all(np.array_equal(channel.numpy(), cut) for channel in pixels[i])
        count += len(labels)
    assert count == SPEC.n_videos(split)


def test_channels_of_grey_take_no_memory() -> None:
    pixels = next(iter(stream()))[0]
    assert pixels.stride(1) == 0 and pixels.untyped_storage().nbytes() == 4 * np.prod(CLIP)


def test_recipes_are_those_of_the_spec() -> None:
    recipe = next(iter(stream(batch_size=9)))[2]
    for name, parameter in SPEC.parameters(recipe["index"].numpy()).items():
        assert np.array_equal(recipe[name].numpy(), parameter.values), name
    assert len(next(iter(stream(parameters=False)))) == 2


@pytest.mark.parametrize("method", [None, "fork"])
def test_numbers_say_which_sample_of_which_epoch(method: str | None) -> None:
    """Of all ranks, from the middle of an epoch and after it, whatever comes beside them; the state is that without them."""
    for rank in range(2):
        plain = stream(rank=rank, world_size=2)
        known = stream(rank=rank, world_size=2, numbers=True, parameters=method is None)
        for state in (plain.state_dict(), {**plain.state_dict(), "epoch": 3, "sample": 12}):
            plain.load_state_dict(state)
            known.load_state_dict(state)
            assert known.state_dict() == plain.state_dict() == state
            loader = vpngen.loader(known, num_workers=0 if method is None else 2, multiprocessing_context=method)
            for expected, (clips, labels, *more, numbers) in zip(plain, loader, strict=True):
                assert torch.equal(clips, expected[0]) and torch.equal(labels, expected[1])
                assert len(more) == (method is None) and numbers.dtype == torch.int64
                assert (numbers[:, 0] == state["epoch"]).all() and numbers.shape == (len(clips), 3)
                drawn = plain.sampling.numbers(state["epoch"], numbers[:, 1].numpy())
                assert np.array_equal(plain.sampling.indices(drawn), expected[2]["index"])
                assert torch.equal(numbers[:, 2], expected[2]["index"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", torch.float32])
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.1, (0.3, 0.2, 0.1)), ((0.4, 0.5, 0.6), 0.25)])
def test_normalised_clips(dtype: Any, mean: Any, std: Any) -> None:
    grey = next(iter(stream()))[0].numpy().astype(np.float64)
    clips = next(iter(stream(dtype=dtype, mean=mean, std=std)))[0]
    assert str(clips.dtype).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    axis = (1, -1, 1, 1, 1)
    expected = (grey / 255 - np.reshape(mean, axis if np.ndim(mean) else ())) / np.reshape(
        std, axis if np.ndim(std) else ()
    )
    tolerance = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[str(clips.dtype).removeprefix("torch.")]
    assert np.allclose(clips.double().numpy(), expected, rtol=tolerance, atol=tolerance)
    assert (clips.stride(1) == 0) == (np.ndim(mean) == np.ndim(std) == 0)


def test_scaled_clips_are_resized_as_pillow_does_it() -> None:
    augment = Augment(scales=(1.0, 0.8, 0.5), crop="random")
    scaled = stream(batch_size=7, augment=augment, clip=(6, 20, 20))
    sides = dict.fromkeys((48, 38, 24), 0)
    for pixels, _, recipe in scaled:
        numbers = scaled.sampling.numbers(0, np.arange(sum(sides.values()), sum(sides.values()) + len(pixels)))
        for i, side in enumerate(scaled.sampling.windows(numbers)[1]):
            side = (48, 38, 24)[side]
            sides[side] += 1
            t0, step, y0, x0, flip = recipe["window"][i].tolist()
            window = Window((t0, t0 + 6, step), (y0, y0 + side), (x0, x0 + side), bool(flip))
            cut = vpngen.render(SPEC, int(recipe["index"][i]), window, backend="reference")
            frames = [np.asarray(Image.fromarray(f).resize((20, 20), Image.Resampling.BILINEAR)) for f in cut]
            assert np.abs(np.stack(frames).astype(int) - pixels[i, 0].numpy()).max() <= 1
    assert all(sides.values())


def test_scaled_clips_do_not_depend_on_their_batch() -> None:
    by_batch = [
        torch.cat([b[0] for b in stream(batch_size=n, augment="multiscale", clip=(5, 17, 19))]) for n in (1, 4, 30)
    ]  # fmt: skip
    assert torch.equal(by_batch[0], by_batch[1]) and torch.equal(by_batch[0], by_batch[2])


@pytest.mark.parametrize("codec", ["none", "zstd", "formula"])
@pytest.mark.parametrize("augment", [SOME_AUGMENT, "x10", "multiscale"])
def test_a_store_gives_the_same_batches(codec: str, augment: Any, tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    vpngen.write(SPEC, path, codec=codec, shard_videos=4, backend="numba")
    for split, threads in (("train", 3), ("val", 1)):
        options = {"augment": augment, "split": split, "clip": (17, 20, 24) if augment == "x10" else CLIP}
        assert same(list(stream(path, threads=threads, **options)), list(stream(**options)))


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("forkserver", 1)])
def test_workers_read_a_store(method: str, workers: int, tmp_path: Path) -> None:
    vpngen.write(SPEC, tmp_path / "set.zarr", codec="zstd", shard_videos=4, backend="numba")
    reading = stream(str(tmp_path / "set.zarr"))
    next(iter(reading))  # with files open
    reading.set_epoch(0)
    loader: DataLoader[Any] = DataLoader(reading, batch_size=None, num_workers=workers, multiprocessing_context=method)
    assert same(list(loader), list(stream()))


def test_stretched_grey_is_rendered_and_read_alike(tmp_path: Path) -> None:
    spec = tiny(grey="stretch")
    vpngen.write(spec, tmp_path / "set.zarr", backend="numba")
    clips = {"clip": (9, 8, 8), "batch_size": 3}
    assert same(list(stream(tmp_path / "set.zarr", **clips)), list(stream(spec, **clips)))


def test_memory_is_lent_again_only_when_nobody_holds_it() -> None:
    kept, copies = [], []
    for i, (clips, _, _) in enumerate(stream(length=400, prefetch=2)):
        if i % 3 == 0:
            kept.append(clips[1, 0, 2:].numpy() if i % 2 else clips[:, :1])
            copies.append(torch.as_tensor(kept[-1]).clone())
    assert all(torch.equal(torch.as_tensor(k), c) for k, c in zip(kept, copies, strict=True))
    addresses = {clips.data_ptr() for clips, _, _ in stream(length=400, prefetch=2)}
    assert len(addresses) < 8


@pytest.mark.parametrize(
    ("method", "workers", "options"),
    [("fork", 2, {}), ("forkserver", 1, {"dtype": "float32", "mean": (0.1, 0.2, 0.3)}), ("fork", 2, {"channels": 1})],
)
def test_memory_of_workers_is_lent_again_only_when_nobody_holds_it(
    method: str, workers: int, options: dict[str, Any]
) -> None:
    expected = list(stream(length=200, **options))
    loader = vpngen.loader(stream(length=200, **options), num_workers=workers, multiprocessing_context=method)
    kept = [clips[:, :, 1:].numpy() if i % 2 else clips[1:] for i, (clips, _, _) in enumerate(loader)]
    for i, part in enumerate(kept):
        whole = expected[i][0]
        assert torch.equal(torch.as_tensor(part), whole[:, :, 1:] if i % 2 else whole[1:])
    addresses = set()
    for clips, _, _ in loader:
        addresses.add(clips.data_ptr())
    assert len(addresses) <= workers * 5 + 1  # slots; those in `kept` are not lent again
    assert loader.dataset._ring is not None and clips.stride(1) == (0 if not options else clips[0, 0].numel())


def test_too_little_shared_memory_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpngen.stream.memory.MOST_BYTES", 1)
    assert same(list(vpngen.loader(stream(), num_workers=2)), list(stream()))


# --- epochs


def test_epochs_follow_each_other_and_can_be_set() -> None:
    one = stream()
    epochs = [seen(one) for _ in range(3)]
    assert len({tuple(e) for e in epochs}) == 3
    for epoch in epochs:
        assert sorted(s[0] for s in epoch) == list(range(30))
    one.set_epoch(1)
    assert seen(one) == epochs[1] and seen(one) == epochs[2]
    fresh = stream()
    fresh.set_epoch(2)
    assert seen(fresh) == epochs[2]


def test_a_break_ends_an_epoch() -> None:
    one, other = stream(), stream()
    for _ in one:
        break
    list(other)
    assert seen(one) == seen(other)


@pytest.mark.parametrize(("method", "persistent"), [("fork", False), ("fork", True), ("forkserver", True)])
def test_workers_give_what_one_process_gives(method: str, persistent: bool) -> None:
    expected = stream()
    workers: DataLoader[Any] = DataLoader(
        stream(), batch_size=None, num_workers=2 if method == "forkserver" else 3, multiprocessing_context=method,
        persistent_workers=persistent,
    )  # fmt: skip
    assert len(workers) == 8
    for _ in range(2):  # epochs advance of themselves
        assert same(list(workers), list(expected))
    for epoch in (1, 7):
        expected.set_epoch(epoch)
        workers.dataset.set_epoch(epoch)  # type: ignore[attr-defined]
        assert same(list(workers), list(expected))
    assert same(list(workers), list(expected))


def test_spawned_workers_of_each_epoch_agree_on_it() -> None:
    expected = stream()
    how: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "forkserver"}
    workers: DataLoader[Any] = DataLoader(stream(), batch_size=None, **how)
    for _ in range(2):
        assert same(list(workers), list(expected))


def late(worker: int) -> None:
    """Worker 1 is slow to start."""
    if worker == 1:
        time.sleep(1.0)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_worker_that_comes_late_belongs_to_its_own_iteration(resumed: bool) -> None:
    reference = stream()
    epochs = [seen(reference) for _ in range(3)]
    loader = ClipLoader(
        stream(), num_workers=2, multiprocessing_context="fork", persistent_workers=True, worker_init_fn=late
    )
    state = loader.state_dict()
    next(iter(loader))
    if resumed:
        loader.load_state_dict({**state, "epoch": 2, "sample": 12})
        assert seen(loader) == epochs[2][12:]
    else:
        assert seen(loader) == epochs[1]
        assert seen(loader) == epochs[2]


def test_seeding_torch_before_every_epoch_does_not_repeat_it() -> None:
    expected = stream()
    loader: DataLoader[Any] = DataLoader(stream(), batch_size=None, num_workers=2)
    for _ in range(3):
        torch.manual_seed(0)
        assert seen(loader) == seen(expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_set_within_a_loop_is_the_next(workers: int) -> None:
    reference = stream()
    reference.set_epoch(3)
    expected = seen(reference)
    loader = vpngen.loader(stream(), num_workers=workers)
    for i, _ in enumerate(loader):
        if i == 2:
            loader.set_epoch(3)
    assert loader.state_dict()["epoch"] == 3
    assert seen(loader) == expected


def test_a_default_device_changes_nothing() -> None:
    expected = list(stream())
    torch.set_default_device("meta")
    try:
        assert same(list(stream()), expected)
    finally:
        torch.set_default_device(None)


def test_batches_made_under_inference_mode_can_be_trained_on() -> None:
    batches = iter(stream(dtype="float32", prefetch=0))
    with torch.inference_mode():
        clips = next(batches)[0]
    weight = torch.ones(1, requires_grad=True)
    (clips * weight).sum().backward()
    assert weight.grad is not None


def test_without_its_own_order_val_comes_the_same_each_time() -> None:
    val = stream(split="val", augment="none", shuffle=False)
    assert seen(val) == seen(val)
    assert [s[0] for s in seen(val)] == list(range(6))


# --- lengths, ranks and workers


def can_be_shared(left: int, batch_size: int, world: int) -> bool:
    """Whether every rank can have the same number of batches of what is left, none of them empty or too large."""
    steps = -(-left // (batch_size * world))
    return left >= steps * world


@given(
    batch_size=st.integers(1, 6), world=st.integers(1, 4), length=st.integers(1, 80), drop_last=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=15)
def test_ranks_share_an_epoch(batch_size: int, world: int, length: int, drop_last: bool, seed: int) -> None:
    options = {"length": length, "batch_size": batch_size, "drop_last": drop_last, "seed": seed, "clip": (1, 2, 2)}
    if batch_size * world > length or not (drop_last or can_be_shared(length, batch_size, world)):
        with pytest.raises(ArgumentError, match=r"is more than the epoch holds|drop_last"):
            len(stream(rank=0, world_size=world, **options))
        return
    ranks = [stream(rank=r, world_size=world, **options) for r in range(world)]
    lengths = {len(r) for r in ranks}
    whole = seen(stream(**{**options, "drop_last": False}))
    batches = [list(r) for r in ranks]
    assert {len(b) for b in batches} == lengths and len(lengths) == 1
    together = [s for step in zip(*batches, strict=True) for s in seen(step)]
    assert together == whole[: len(together)]
    assert len(together) == (length // (batch_size * world) * batch_size * world if drop_last else length)


def test_ranks_and_workers_together() -> None:
    whole = seen(stream(length=50))
    parts = []
    for rank in range(2):
        loader: DataLoader[Any] = DataLoader(stream(length=50, rank=rank, world_size=2), batch_size=None, num_workers=2)
        parts.append(list(loader))
    assert [s for step in zip(*parts, strict=True) for s in seen(step)] == whole


def test_rank_is_read_when_an_iteration_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = stream(), stream(rank=1, world_size=3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert len(one) == 3 and seen(one) == seen(other)
    spawned: DataLoader[Any] = DataLoader(stream(), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    other.set_epoch(0)
    assert seen(spawned) == seen(other)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ArgumentError, match=r"RANK \(='3'\).* of the environment"):
        next(iter(stream()))
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ArgumentError, match="must be integers"):
        next(iter(stream()))


def test_a_length_is_given_only_where_it_is_exact() -> None:
    assert len(stream()) == 8 and len(stream(drop_last=True)) == 7 and len(stream(length=100)) == 25
    endless = stream(length="infinite")
    with pytest.raises(TypeError, match="infinite"):
        len(endless)
    batches = iter(endless)
    videos = [s[0] for s in seen(next(batches) for _ in range(45))]
    for first in range(0, 180, 30):
        assert sorted(videos[first : first + 30]) == list(range(30))


# --- state


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(state))
    return loaded


def take(source: Iterable[Any], count: int) -> list[Any]:
    """The first batches of an iteration; the iterator is left where it is, as by a process that stops."""
    batches = iter(source)
    return [next(batches) for _ in range(count)]


@given(
    first=st.integers(1, 3), second=st.integers(1, 3), batches=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    worlds=st.tuples(*[st.integers(1, 3)] * 3), epoch=st.integers(0, 3), prefetch=st.integers(0, 2),
)  # fmt: skip
@settings(max_examples=20)
def test_resuming_twice_gives_the_samples_that_were_left(
    first: int, second: int, batches: tuple[int, int], worlds: tuple[int, int, int], epoch: int, prefetch: int
) -> None:
    """On other numbers of ranks, with other batch sizes."""
    options: dict[str, Any] = {"length": 61, "clip": (1, 2, 2), "prefetch": prefetch}
    whole = stream(**options)
    whole.set_epoch(epoch)
    expected, following = seen(whole), seen(whole)

    state: dict[str, Any] | None = None
    got: list[tuple[int, ...]] = []
    sizes = (first, second, 2)
    for k, world in enumerate(worlds):
        ranks = [stream(batch_size=sizes[k], rank=r, world_size=world, **options) for r in range(world)]
        for r in ranks:
            if state is None:
                r.set_epoch(epoch)
            else:
                r.load_state_dict(through_json(state))
                r.set_epoch(epoch)  # as loops do: it must not lose the place
        if not can_be_shared(61 - len(got), sizes[k], world):
            with pytest.raises(ArgumentError, match="drop_last"):
                list(ranks[0])
            return
        parts = [list(r) if k == 2 else take(r, batches[k]) for r in ranks]
        got += [s for step in zip(*parts, strict=True) for s in seen(step)]
        states = [r.state_dict() for r in ranks]
        assert all(s == states[0] for s in states)
        state = states[0]
    assert got == expected
    again = stream(**options)
    again.load_state_dict(state)
    assert seen(again) == following


def test_at_the_end_of_an_epoch_the_state_is_its_end_and_then_the_next_one() -> None:
    one = stream()
    batches = iter(one)
    for _ in range(8):
        next(batches)
    last = one.state_dict()
    assert (last["epoch"], last["sample"]) == (0, 30)
    assert next(batches, None) is None
    over = one.state_dict()
    assert (over["epoch"], over["sample"]) == (1, 0)
    following = seen(one)
    for state, expected in ((last, [[], following]), (over, [following])):
        resumed = stream()
        resumed.load_state_dict(state)
        assert [seen(resumed) for _ in expected] == expected


def test_epochs_after_a_resume_are_whole() -> None:
    one, resumed = stream(), stream()
    take(one, 5)
    resumed.load_state_dict(one.state_dict())
    assert len(resumed) == 8
    assert len(list(resumed)) == 3 and len(list(resumed)) == 8
    one.set_epoch(1)
    resumed.set_epoch(1)
    assert seen(one) == seen(resumed)


def test_set_epoch_keeps_a_place_only_in_its_own_epoch() -> None:
    one = stream()
    whole = seen(one)
    take(one, 2)
    state = one.state_dict()
    assert (state["epoch"], state["sample"]) == (1, 8)
    one.load_state_dict(state)
    one.set_epoch(0)
    assert seen(one) == whole
    one.load_state_dict(state)
    one.set_epoch(1)
    rest = seen(one)
    assert len(rest) == 22
    one.set_epoch(1)  # taken up once, it is the whole epoch again
    assert seen(one)[8:] == rest


def test_a_state_before_the_first_batch_and_the_place_of_the_next() -> None:
    one = stream()
    assert one.state_dict()["epoch"] == 0
    one.set_epoch(4)
    batches = iter(one)
    assert (one.state_dict()["epoch"], one.state_dict()["sample"]) == (4, 0)
    next(batches)
    assert one.state_dict()["sample"] == 4
    iter(one)
    assert (one.state_dict()["epoch"], one.state_dict()["sample"]) == (5, 0)


@pytest.mark.parametrize(
    ("workers", "persistent", "at"),
    [(0, False, 5), (0, False, "over"), (2, False, 0), (2, False, 5), (2, False, "over"), (3, True, 5), (3, True, 8)],
)
def test_stateful_dataloader(workers: int, persistent: bool, at: int | str) -> None:
    """Resumed twice, in the middle and at the end; the epochs that follow are those that would have followed."""

    def loader() -> Any:
        options = {"multiprocessing_context": "fork", "persistent_workers": persistent} if workers else {}
        return StatefulDataLoader(stream(), batch_size=None, num_workers=workers, **options)

    reference = stream()
    epochs = [seen(reference) for _ in range(3)]
    first = loader()
    if at == "over":
        assert seen(first) == epochs[0]
        state = first.state_dict()
        second = loader()
        second.load_state_dict(state)
        assert [seen(second), seen(second)] == epochs[1:]
        return
    assert isinstance(at, int)
    got = seen(take(first, at))
    second = loader()
    second.load_state_dict(first.state_dict())
    if at < 6:
        got += seen(take(second, 2))
        third = loader()
        third.load_state_dict(second.state_dict())
    else:
        third = second
    got += seen(third)
    assert got == epochs[0]
    assert seen(third) == epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_is_resumed_on_other_workers(workers: int) -> None:
    reference = stream()
    epochs = [seen(reference) for _ in range(3)]
    first = vpngen.loader(stream(), num_workers=workers)
    assert len(first) == 8 and seen(first) == epochs[0]
    got = seen(take(first, 3))
    state = through_json(first.state_dict())
    assert (state["epoch"], state["sample"]) == (1, 12) and "worker" not in state
    second = vpngen.loader(stream(), num_workers=2 - workers)
    second.load_state_dict(state)
    got += seen(take(second, 2))
    third = vpngen.loader(stream(), num_workers=3)
    third.load_state_dict(second.state_dict())
    third.set_epoch(1)
    got += seen(third)
    assert got == epochs[1]
    assert seen(third) == epochs[2]
    third.set_epoch(0)
    assert seen(third) == epochs[0]
    assert third.state_dict()["epoch"] == 1


def test_the_process_that_started_workers_does_not_make_up_a_place() -> None:
    one = stream()
    loader: DataLoader[Any] = DataLoader(one, batch_size=None, num_workers=1)
    list(loader)
    with pytest.raises(ConflictError, match=r"vpngen\.loader"):
        one.state_dict()
    one.set_epoch(3)
    assert one.state_dict()["epoch"] == 3


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_their_own_way(duplicate: Callable[[ClipStream], ClipStream]) -> None:
    one = stream()
    list(one)
    other = duplicate(one)
    other.set_epoch(5)
    assert one.state_dict()["epoch"] == 1 and other.state_dict()["epoch"] == 5
    one.set_epoch(5)
    assert seen(one) == seen(other)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"source": small(instances=5, seed=1)}, "another set"),
        ({"augment": "none"}, "augment: "),
        ({"clip": (5, 20, 24)}, "clip: "),
        ({"split": "val"}, "split: "),
        ({"length": 29}, "length: "),
        ({"shuffle": False}, "shuffle: True there, False here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
    ],
)
def test_a_state_of_something_else_is_refused(changes: dict[str, Any], match: str) -> None:
    one, other = stream(), stream(**changes)
    take(one, 3)
    with pytest.raises(ConflictError, match=match):
        other.load_state_dict(one.state_dict())
    assert other.state_dict()["sample"] == 0


def _without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda s: 3, "not that of a ClipStream"),
        (lambda s: {}, "not that of a ClipStream"),
        (lambda s: {**s, "vpngen_stream": 2}, "ClipStream of this vpngen"),
        (lambda s: _without(s, "sample"), "damaged"),
        (lambda s: {**s, "sample": -1}, "damaged"),
        (lambda s: {**s, "sample": 31}, "damaged"),
        (lambda s: {**s, "epoch": "1"}, "damaged"),
        (lambda s: {**s, "settings": None}, "damaged"),
        (lambda s: {**s, "worker": {"id": 0, "of": 2, "ranks": 1, "batches": 3}}, "worker 0 of 2"),
        (lambda s: {**s, "worker": 5}, "damaged"),
    ],
)
def test_damaged_states_are_refused(spoil: Callable[[dict[str, Any]], Any], match: str) -> None:
    one = stream()
    with pytest.raises(ArgumentError, match=match):
        one.load_state_dict(spoil(one.state_dict()))


# --- frameworks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("saving", "checkpoint"), [({}, "epoch=0-step=8"), ({"every_n_train_steps": 11}, "epoch=1-step=11")]
)
def test_lightning_goes_on_from_its_checkpoints(saving: dict[str, Any], checkpoint: str, tmp_path: Path) -> None:
    import lightning

    class Net(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def training_step(self, batch: Any, step: int) -> Any:
            self.seen += seen([batch])
            return self.layer(batch[0].float().mean().reshape(1))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(net: Any, checkpoint: Path | None, *callbacks: Any) -> list[tuple[int, ...]]:
        trainer = lightning.Trainer(
            max_epochs=3, use_distributed_sampler=False, callbacks=list(callbacks), logger=False, accelerator="cpu",
            enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(net, vpngen.loader(stream()), ckpt_path=checkpoint)
        return net.seen  # type: ignore[no-any-return]

    saver = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, **saving)
    whole = fit(Net(), None, saver)
    reference = stream()
    assert whole == [s for _ in range(3) for s in seen(reference)]
    steps = int(checkpoint.rpartition("=")[2])
    assert (
        fit(Net(), tmp_path / f"{checkpoint}.ckpt")
        == whole[len(whole) - 90 + sum(min(4, 30 - 4 * (k % 8)) for k in range(steps)) :]
    )


@pytest.mark.filterwarnings("ignore")
def test_accelerate_leaves_the_loader_as_it_is() -> None:
    import accelerate

    loader = vpngen.loader(stream())
    assert accelerate.Accelerator(cpu=True).prepare(loader) is loader


WHOLE_BATCHES = r"`batch_size` of a DataLoader must be None.*vpngen.loader"


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"batch_size": 4}, {"batch_size": 2, "drop_last": True}])
def test_batches_of_batches_are_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=WHOLE_BATCHES):
        next(iter(DataLoader(stream(), **options)))


def test_batches_that_are_taken_one_by_one_are_right() -> None:
    one_by_one: Any = DataLoader(stream(), batch_size=1, collate_fn=lambda batches: batches[0])
    assert seen(one_by_one) == seen(stream())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [None, "fork", "forkserver"])
@pytest.mark.parametrize("dispatch", [True, False])
def test_what_is_shared_among_ranks_is_not_shared_again(
    dispatch: bool, method: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Accelerate does it on two ranks: one takes batches for all, or each takes every second of its own."""
    from accelerate import data_loader

    def prepared(**ranks: int) -> Any:
        workers = {} if method is None else {"num_workers": 1, "multiprocessing_context": method}
        if dispatch:
            return data_loader.DataLoaderDispatcher(stream(**ranks), batch_size=None, **workers)
        shard: Any = data_loader.IterableDatasetShard(stream(**ranks), batch_size=1, num_processes=2)
        return DataLoader(shard, batch_size=None, **workers)

    with pytest.raises(ArgumentError, match=r"shared among 2 ranks already.*vpngen.loader"):
        list(prepared(rank=0, world_size=2))
    if method != "forkserver":
        assert len(list(prepared(rank=0, world_size=1))) > 1


def test_the_channels_of_grey_are_three_once_they_are_cloned() -> None:
    clips = next(iter(stream(dtype="float32")))[0]
    grey, own = clips[:, 1].clone(), clips.clone()
    own[:, 0] += 1
    assert torch.equal(own[:, 1], grey) and not torch.equal(own[:, 0], grey)
    assert "in all; `clone()`" in str(vpngen.ClipStream.__doc__)


# --- nothing leaks


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_early_breaks_leak_nothing() -> None:
    one = stream(clip=(16, 40, 40), batch_size=4, length="infinite")

    def breaks(n: int) -> None:
        for _ in range(n):
            for _ in one:
                break

    breaks(50)
    threads, files, before = threading.active_count(), len(os.listdir("/proc/self/fd")), resident()
    breaks(150)
    assert threading.active_count() <= threads and len(os.listdir("/proc/self/fd")) <= files
    assert resident() - before < 8 * 2**20  # one batch kept of each would be 15 MB


def test_early_breaks_of_workers_leak_nothing() -> None:
    before = workers_since(set())
    loader = vpngen.loader(stream(), num_workers=2)
    for _ in range(3):
        take(loader, 1)
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        take(loader, 1)
    assert len(os.listdir("/proc/self/fd")) < files + 40  # those of batches on their way; one left by each would be 60
    assert len(workers_since(before)) == 2


def workers_since(before: set[int]) -> set[int]:
    """The worker processes that live and did not then."""
    return {child.pid for child in torch.multiprocessing.active_children()} - before  # type: ignore[no-untyped-call]


def test_a_loader_that_nobody_holds_takes_its_workers_with_it() -> None:
    before = workers_since(set())
    loader = vpngen.loader(stream(length="infinite"), num_workers=2)
    batches = iter(loader)
    next(batches)
    gc.disable()
    try:
        del loader, batches
        assert not workers_since(before)
    finally:
        gc.enable()


def test_long_runs_do_not_grow() -> None:
    batches: Iterator[Any] = iter(stream(length="infinite", clip=(2, 4, 4), batch_size=2))
    for _ in range(500):
        next(batches)
    before = resident()
    for _ in range(2500):
        next(batches)
    assert resident() - before < 3 * 2**20


# --- faults


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 31}, r"`batch_size` \(=31\) is more than the epoch holds, which is 30"),
        ({"batch_size": 6, "rank": 0, "world_size": 6}, "more than the epoch holds on each of 6 ranks"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"clip": (21, 20, 24)}, r"`clip` \(=\(21, 20, 24\)\) is larger than the videos"),
        ({"clip": (6, 20)}, "must be .frames, height, width."),
        ({"clip": (0, 20, 24)}, "`clip`"),
        ({"augment": "x11"}, "`augment` .='x11'. must be one of x10, multiscale"),
        ({"length": "once"}, "epoch, infinite or a number"),
        ({"length": 0}, "`length`"),
        ({"split": "test"}, "`split`"),
        ({"channels": 2}, "`channels`"),
        ({"dtype": "int8"}, "`dtype` .='int8'. must be one of uint8, float16"),
        ({"mean": (0.5, 0.5)}, "`mean`"),
        ({"std": 0}, "`std`"),
        ({"std": float("nan")}, "`std`"),
        ({"seed": -1}, "`seed`"),
        ({"threads": 0}, "`threads`"),
        ({"prefetch": -1}, "`prefetch`"),
        ({"rank": 1}, "give both or neither"),
        ({"rank": 3, "world_size": 3}, r"`rank` \(=3\) must be an integer from 0 to 2"),
        ({"rank": -1, "world_size": 3}, "`rank`"),
        ({"rank": 0, "world_size": 0}, "`world_size`"),
        ({"device": "tpu"}, "`device`"),
        ({"device": 3.5}, "`device`"),
        ({"shuffle": 1}, "`shuffle`"),
        ({"drop_last": None}, "`drop_last`"),
        ({"source": 5}, "`source`"),
        ({"source": Path("nowhere.zarr")}, "is not there"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        stream(**options)


def test_an_empty_split_is_named() -> None:
    with pytest.raises(ArgumentError, match="holds no videos; this set has train"):
        stream(small(val_instances=0), split="val")


@pytest.mark.parametrize("epoch", [-1, 1.5, 2**40])
def test_bad_epochs_are_named(epoch: Any) -> None:
    with pytest.raises(ArgumentError, match="`epoch`"):
        stream().set_epoch(epoch)


def test_a_batch_larger_than_the_epoch_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = stream(batch_size=20)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for use in (len, lambda s: next(iter(s))):
        with pytest.raises(ArgumentError, match="on each of 2 ranks"):
            use(one)


def test_stores_that_are_unfinished_or_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    vpngen.write(SPEC, path, shard_videos=4, backend="numba", slice=(1, 2))
    with pytest.raises(ConflictError, match="is not finished"):
        stream(path)
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(ConflictError, match="not a Zarr v3 store"):
        stream(tmp_path / "other.zarr")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_card_that_is_not_there() -> None:
    assert ClipStream(SPEC, 4, clip=CLIP).device.type == "cpu"
    with pytest.raises(MissingError, match="finds no GPU; install its CUDA build"):
        stream(device="cuda")


def test_a_card_cannot_be_used_in_a_worker() -> None:
    on_card = stream()
    on_card.device = torch.device("cuda", 0)  # as on a machine with a card
    loader: DataLoader[Any] = DataLoader(on_card, batch_size=None, num_workers=1)
    with pytest.raises(MissingError, match="num_workers=0"):
        next(iter(loader))
    with pytest.raises(MissingError, match="must be 0 on cuda:0"):
        vpngen.loader(on_card, num_workers=1)


def test_loader_refuses_what_belongs_to_the_stream() -> None:
    with pytest.raises(ArgumentError, match="give `augment`"):
        vpngen.loader(stream(), augment="none")
    with pytest.raises(ArgumentError, match="give `batch_size`"):
        vpngen.loader(stream(), 128)
    with pytest.raises(ArgumentError, match="`multiprocessing_context`"):
        vpngen.loader(stream(), num_workers=1, multiprocessing_context="thread")
    with pytest.raises(ArgumentError, match="`num_workers`"):
        vpngen.loader(stream(), num_workers=-1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_store_is_told_with_its_cause(workers: int, tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    vpngen.write(SPEC, path, shard_videos=4, backend="numba")
    reading = stream(path, shuffle=False)
    shard = path / "train/video/c.2.0.0.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    loader: DataLoader[Any] = DataLoader(reading, batch_size=None, num_workers=workers)
    with pytest.raises(RunError, match=r"c\.2\.0\.0\.0.*video 8 of the train split.*checksum does not match"):
        list(loader)


def test_a_worker_that_is_killed_is_an_error() -> None:
    loader: DataLoader[Any] = DataLoader(stream(length="infinite"), batch_size=None, num_workers=1, prefetch_factor=1)
    batches = iter(loader)
    next(batches)
    os.kill(batches._workers[0].pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="worker"):
        list(batches)


def test_without_torch_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = "import vpngen\ntry: vpngen.ClipStream\nexcept vpngen.MissingError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert "pip install 'vpngen[torch]'" in done.stdout

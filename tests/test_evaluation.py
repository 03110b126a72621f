"""Scores of videos: against a second implementation, in any order, on several ranks, with what could not be read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filming import film
from hypothesis import given
from hypothesis import strategies as st
from pairs import two_ranks
from torch import nn

from vpngen import ArgumentError, MissingError, RunError
from vpngen.datasets import Video, VideoSet, WindowLoader
from vpngen.terminal import aligned, evaluation_text, summary_text
from vpngen.train.evaluation import METRICS, NO_WINDOW, Evaluation, Summary, ranks_of, score

Window = tuple[int, list[float]]
"""The number of its video, and the logits that the network gives for it."""


class Echo(nn.Module):
    """Gives back the logits that a clip is made of."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips[:, 0, 0, 0]


def batches(windows: Sequence[Window], sizes: Sequence[int] = (3,)) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Clips (N, 3, 1, 1, classes) of floats, in batches of these sizes, over and over."""
    first, turn = 0, 0
    while first < len(windows):
        some = windows[first : first + sizes[turn % len(sizes)]]
        logits = torch.tensor([w[1] for w in some], dtype=torch.float32)
        yield logits[:, None, None, None].repeat(1, 3, 1, 1, 1), torch.tensor([w[0] for w in some])
        first, turn = first + len(some), turn + 1


class Windows:
    """Batches of windows of made-up videos, and what a loader says of those."""

    def __init__(
        self, batches: Any, labels: Sequence[int], classes: Sequence[str], ids: Sequence[str] | None = None,
        failures: Mapping[str, str] | None = None, short: Sequence[str] = (),
    ) -> None:  # fmt: skip
        names = [f"v{i}" for i in range(len(labels))] if ids is None else ids
        videos = tuple(Video(name, Path(name), label, name) for name, label in zip(names, labels, strict=True))
        self.videos = VideoSet("x", "val", 1, tuple(classes), videos)
        self.failures, self.short, self._batches = dict(failures or {}), set(short), batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


PLAIN: dict[str, Any] = {"device": "cpu", "mean": (0.5,) * 3, "std": (0.5,) * 3}


def scored(
    windows: Sequence[Window], labels: Sequence[int], classes: int, sizes: Sequence[int] = (3,), metadata: Any = None, **more: Any,
) -> Evaluation:  # fmt: skip
    names = [f"class {i}" for i in range(classes)]
    return score(Echo(), Windows(batches(windows, sizes), labels, names, **more), metadata=metadata, **PLAIN)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Window], list[int], int, dict[str, str]]:
    """Windows in any order, with many ties; some videos without any, some reported as damaged or broken."""
    classes = draw(st.integers(1, 8))
    videos = draw(st.integers(1, 6))
    logit = st.integers(-3, 3).map(float)
    window = st.tuples(st.integers(0, videos - 1), st.lists(logit, min_size=classes, max_size=classes))
    windows = draw(st.lists(window, max_size=20))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=videos, max_size=videos))
    faulty = draw(st.sets(st.integers(0, videos - 1), max_size=3))
    return windows, labels, classes, {f"v{i}": f"reason {i}" for i in faulty}


def by_hand(windows: Sequence[Window], labels: Sequence[int], classes: int) -> dict[str, Any]:
    """The same metrics, a window and a video at a time, from sorted lists."""

    def softmax(logits: list[float]) -> list[float]:
        return [float(s) for s in torch.tensor(logits).softmax(0)]

    def place(scores: list[float], label: int) -> int:
        return sorted(range(classes), key=lambda c: (-scores[c], c)).index(label)

    k = min(5, classes)
    clip = [place(softmax(logits), labels[video]) for video, logits in windows]
    whole: list[int | None] = []
    mistakes = np.zeros((classes, classes), int)
    for video, label in enumerate(labels):
        mine = [softmax(logits) for number, logits in windows if number == video]
        if not mine:
            whole.append(None)
            continue
        mean = [math.fsum(column) / len(mine) for column in zip(*mine, strict=True)]
        whole.append(place(mean, label))
        mistakes[label, min(range(classes), key=lambda c: (-mean[c], c))] += 1
    read = [place for place in whole if place is not None]

    def shares(places: Sequence[int], count: int) -> tuple[float, float, float] | None:
        if not count:
            return None
        one, five = sum(p == 0 for p in places) / count, sum(p < k for p in places) / count
        return one, five, (one + five) / 2

    return {
        "all": shares(read, len(labels)),
        "read": shares(read, len(read)),
        "by_window": shares(clip, len(clip)),
        "ranks": whole,
        "confusion": mistakes,
    }


# --- against the second implementation


@given(cases(), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_metrics_are_those_computed_by_hand(case: Any, sizes: list[int]) -> None:
    windows, labels, classes, faults = case
    found, wanted = scored(windows, labels, classes, sizes, failures=faults), by_hand(windows, labels, classes)
    for name in ("all", "read", "by_window"):
        assert getattr(found, name) == wanted[name]
    assert [v.rank for v in found.videos.values()] == wanted["ranks"]
    assert np.array_equal(found.confusion, wanted["confusion"])
    for i, video in enumerate(found.videos.values()):
        logits = np.array([w[1] for w in windows if w[0] == i])
        assert video.windows == len(logits)
        if len(logits):
            e = np.exp(logits)
            means = (e / e.sum(1, keepdims=True)).mean(0)
            np.testing.assert_allclose([s for _, s in video.top], np.sort(means)[::-1][:5], rtol=1e-5)
            np.testing.assert_allclose([means[c] for c, _ in video.top], [s for _, s in video.top], rtol=1e-5)
    seen = {f"v{video}" for video, _ in windows}
    assert found.damaged == {name: why for name, why in faults.items() if name in seen}
    assert found.unreadable == {
        name: faults.get(name, NO_WINDOW) for name in (f"v{i}" for i in range(len(labels))) if name not in seen
    }


@given(cases(), st.randoms(use_true_random=False), st.integers(1, 9), st.integers(1, 9))
def test_neither_order_nor_batches_matter(case: Any, random: Any, one: int, other: int) -> None:
    windows, labels, classes, faults = case
    shuffled = random.sample(windows, len(windows))
    assert scored(windows, labels, classes, [one], failures=faults) == scored(
        shuffled, labels, classes, [other, one], failures=faults
    )


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_rank_is_the_place_in_a_sorted_list(n: int, classes: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=classes, max_size=classes), min_size=n, max_size=n))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    order = [sorted(range(classes), key=lambda c: (-row[c], c)) for row in rows]
    found = ranks_of(torch.tensor(rows), torch.tensor(labels))
    assert found.tolist() == [o.index(label) for o, label in zip(order, labels, strict=True)]


def test_a_network_that_knows_nothing_gets_no_credit_for_ties() -> None:
    labels = list(range(8))
    found = scored([(i, [0.0] * 8) for i in labels], labels, 8)
    assert [v.rank for v in found.videos.values()] == labels
    assert found.all == found.by_window == (1 / 8, 5 / 8, 3 / 8)


def test_the_mean_is_over_scores_not_votes() -> None:
    """Two windows that lean to class 0, and one that is sure of class 1."""
    found = scored([(0, [0.1, 0.0]), (0, [0.1, 0.0]), (0, [-9.0, 9.0])], [1], 2)
    assert found.all[0] == 1 and found.by_window is not None and found.by_window[0] == 1 / 3


def test_tiny_scores_keep_their_order() -> None:
    found = scored([(0, [0.0, -40.0, -60.0, -50.0, -70.0, -80.0])], [3], 6)
    assert found.videos["v0"].rank == 2 and found.all == (0, 1, 0.5)


# --- the network


class Seen(nn.Module):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.9)
        self.clips: list[torch.Tensor] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        assert not self.training and not self.drop.training and torch.is_inference_mode_enabled()
        self.clips.append(clips)
        logits: torch.Tensor = self.layer(self.drop(clips.mean((2, 3, 4))))
        self.dtypes.add(logits.dtype)
        return logits


def test_bytes_are_normalised_and_the_network_is_left_as_it_was() -> None:
    model = Seen()
    model.train()
    model.drop.eval()  # as a frozen part would be
    clips = torch.randint(0, 256, (5, 3, 2, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.5)
    options: dict[str, Any] = {"device": "cpu", "mean": mean, "std": std}

    def windows() -> Windows:
        return Windows([(clips, torch.arange(5))], [0] * 5, "abcd")

    score(model, windows(), **options)
    wanted = (clips.numpy() / 255 - np.reshape(mean, (1, 3, 1, 1, 1))) / np.reshape(std, (1, 3, 1, 1, 1))
    np.testing.assert_allclose(model.clips[0].numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert model.training and model.layer.training and not model.drop.training
    assert model.dtypes == {torch.float32} and all(p.grad is None for p in model.parameters())
    score(model, windows(), precision="bf16", **options)
    assert torch.bfloat16 in model.dtypes
    with pytest.raises(ArgumentError, match=r"`precision` \(='half'\) must be one of auto, bf16, fp32"):
        score(model, windows(), precision="half", **options)


def test_scores_are_single_precision_whatever_the_network_computes_in() -> None:
    """Two logits that differ, and whose softmax in bfloat16 would not."""

    class Half(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return clips[:, 0, 0, 0].bfloat16()

    logits = [8.0, 7.96875, 0.0]
    found = score(Half(), Windows(batches([(0, logits)]), [0], "abc"), **PLAIN)
    np.testing.assert_allclose([s for _, s in found.videos["v0"].top], torch.tensor(logits).softmax(0), rtol=1e-6)


def test_one_buffer_for_all_batches_will_do() -> None:
    """A loader may fill the same memory again for its next batch."""

    def reused() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        clips, numbers = torch.zeros(1, 3, 1, 1, 3), torch.zeros(1, dtype=torch.int64)
        for i in range(3):
            clips.zero_()[..., i] = 5.0
            numbers.fill_(i)
            yield clips, numbers

    found = score(Echo(), Windows(reused(), [0, 1, 2], "abc"), **PLAIN)
    assert found.all[0] == 1 and [v.windows for v in found.videos.values()] == [1, 1, 1]


# --- what cannot be read


def test_unreadable_videos_are_listed_and_count_as_wrong() -> None:
    sure = [5.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    told: list[tuple[int, int]] = []

    def found_while_read() -> Iterator[Any]:
        yield from batches([(0, sure), (0, sure), (2, sure), (3, sure)])
        windows.failures.update(v2="damaged: cut off after 20 frames", v4="no such file")

    windows = Windows(found_while_read(), [0, 0, 0, 1, 0], "abcdef", short=["v3", "v0"])
    found = score(Echo(), windows, progress=lambda *p: told.append(p), **PLAIN)
    assert told == [(2, 5), (3, 5)]
    assert found.unreadable == {"v1": NO_WINDOW, "v4": "no such file"}
    assert found.damaged == {"v2": "cut off after 20 frames"}
    assert found.all == (2 / 5, 3 / 5, 1 / 2) and found.read == (2 / 3, 1, (2 / 3 + 1) / 2)
    assert found.by_window == (3 / 4, 1, 7 / 8)
    assert set(found.results()["results"]) == {"v0", "v2", "v3"}
    assert found.short == ("v0", "v3") and found.confusion.sum() == 3
    assert evaluation_text(found) == (
        "%            top-1  top-5  average  of\n"
        "videos        40.0   60.0     50.0   5\n"
        "videos read   66.7  100.0     83.3   3\n"
        "windows       75.0  100.0     87.5   4\n"
        "2 videos of 5 could not be read and count as wrong:\n"
        "  v1: gave no window\n"
        "  v4: no such file\n"
        "1 video damaged in places, scored by what could be read:\n"
        "  v2: cut off after 20 frames\n"
        "2 videos shorter than a window: looped"
    )


class Redness(nn.Module):
    """Sees red frames as class 0."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        red = clips[:, 0].mean((1, 2, 3))
        return torch.stack([red, -red], 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_real_files_that_are_damaged_are_scored_by_what_could_be_read(workers: int, tmp_path: Path) -> None:
    """One whole, one with a hole, one cut off, one with a flipped byte, one that is none, one that is gone."""
    av = pytest.importorskip("av")
    red, green = np.zeros((40, 32, 32, 3), np.uint8), np.zeros((40, 32, 32, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    green[..., 2] = np.random.default_rng(0).integers(0, 256, green.shape[:3])  # so that a packet is large
    encoded = ("-c:v", "png", "-pix_fmt", "rgb24")
    paths = [film(tmp_path / f"{i}.mkv", red if i < 1 else green, *encoded) for i in range(6)]
    paths[2] = film(tmp_path / "2.mp4", green, "-c:v", "mpeg4", "-q:v", 2, "-movflags", "+faststart")

    def packet(path: Path, number: int) -> tuple[int, int]:
        with av.open(str(path)) as container:
            return [(int(p.pos), int(p.size)) for p in container.demux(video=0) if p.size][number]

    def write(path: Path, at: int, content: bytes) -> None:
        with path.open("rb+") as file:
            file.seek(at)
            file.write(content)

    at, size = packet(paths[1], 12)
    write(paths[1], at + size // 4, bytes(size // 2))
    os.truncate(paths[2], packet(paths[2], 20)[0] + 99)
    at, size = packet(paths[3], 5)
    write(paths[3], at + size // 2, bytes([paths[3].read_bytes()[at + size // 2] ^ 255]))
    paths[4].write_bytes(b"no video")
    paths[5].unlink()
    videos = VideoSet("x", "val", 1, ("red", "other"), tuple(
        Video(f"v{i}", path, int(i > 0), str(i)) for i, path in enumerate(paths)))  # fmt: skip
    windows = WindowLoader(videos, 3, clip=(8, 16, 16), num_workers=workers)
    found = score(Redness(), windows, **PLAIN)
    assert set(found.damaged) == {"v1", "v2", "v3"} and set(found.unreadable) == {"v4", "v5"}
    assert [v.windows for v in found.videos.values()] == [5, 5, 3, 5, 0, 0]
    assert [v.rank for v in found.videos.values()] == [0, 0, 0, 0, None, None]
    assert found.all[0] == 4 / 6 and found.read is not None and found.read[0] == 1
    assert "3 videos damaged in places, scored by what could be read:\n  v1: after" in evaluation_text(found)
    assert "No such file" in found.unreadable["v5"] and Evaluation.from_dict(found.to_dict()) == found


def test_nothing_could_be_read() -> None:
    found = scored([], [0, 1], 3)
    assert found.all == (0, 0, 0) and found.read is None and found.by_window is None and len(found.unreadable) == 2
    assert "windows          -" in evaluation_text(found) and Evaluation.from_dict(found.to_dict()) == found


def test_many_unreadable_videos_do_not_flood_the_table() -> None:
    text = evaluation_text(scored([], [0] * 1234, 1))
    assert "1,234 videos of 1,234" in text and text.endswith("and 1,224 more") and "top-1  top-1" in text


def test_videos_that_a_probe_could_not_learn_from_are_told() -> None:
    """Whatever a file says there."""
    found = scored([], [0, 1], 3)
    for said, there in (({"a/1": "no frames"}, True), ({}, False), (["a/1"], False), (None, False)):
        told = dataclasses.replace(found, metadata={"evaluated": {"linear": {"unreadable": said}}})
        assert ("\n1 training video could not be read:\n  a/1: no frames\n" in evaluation_text(told)) == there


# --- errors


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite(bad: float) -> None:
    with pytest.raises(RunError, match="not finite for a window of video 'v1'"):
        scored([(0, [0.0, 1.0]), (1, [0.0, bad]), (0, [0.0, 1.0])], [0, 1], 2)
    found = scored([(0, [0.0, -math.inf])], [0], 2)
    assert found.videos["v0"].top == ((0, 1.0), (1, 0.0)), "a class that is ruled out is no error"


def test_no_videos_and_no_such_device() -> None:
    with pytest.raises(ArgumentError, match="`windows` holds no videos"):
        scored([], [], 2)
    with pytest.raises(ArgumentError, match="`device`"):
        score(Echo(), Windows([], [0], "a"), device="tpu", mean=(0,) * 3, std=(1,) * 3)


def test_a_gpu_that_is_too_small() -> None:
    class Greedy(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB.")

    with pytest.raises(MissingError, match="give a smaller batch: CUDA out of memory"):
        score(Greedy(), Windows(batches([(0, [1.0])]), [0], "a"), **PLAIN)


# --- files


@given(cases())
def test_json_takes_everything_there_and_back(case: Any) -> None:
    windows, labels, classes, faults = case
    found = scored(windows, labels, classes, failures=faults, short=["v0"], metadata={"seed": 3, "parent": None})
    fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Evaluation.from_dict(fields) == found
    metrics = fields["metrics"]
    assert metrics["damaged"] == len(found.damaged) and metrics["unreadable"] == len(found.unreadable)
    assert metrics["top1"] == found.all[0] and metrics["videos"] == len(labels)


def test_files(tmp_path: Path) -> None:
    found = scored([(0, [3.0, 1.0, 2.0]), (1, [0.0, 0.0, 9.0])], [0, 1], 3, metadata={"Ä": 1})
    found.write(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == found
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evaluation.json"]
    with pytest.raises(ArgumentError, match="No such file"):
        Evaluation.load(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text((tmp_path / "evaluation.json").read_text()[:99])
    with pytest.raises(ArgumentError, match=r"cut\.json' is no evaluation"):
        Evaluation.load(tmp_path / "cut.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 2}, "not the fields of an evaluation of form 1"),
        ({"videos": {"v0": {}}}, "damaged: KeyError: 'top'"),
        ({"windows": [1]}, "damaged: ValueError"),
    ],
)
def test_damaged_fields(change: dict[str, Any], match: str) -> None:
    fields = scored([(0, [1.0, 0.0])], [0], 2).to_dict()
    with pytest.raises(ArgumentError, match=match):
        Evaluation.from_dict({**fields, **change})
    with pytest.raises(ArgumentError, match="not the fields"):
        Evaluation.from_dict({"results": {}})


@given(cases(), st.integers(1, 5))
def test_the_form_of_the_reference(case: Any, k: int) -> None:
    """Computed as 3D-ResNets-PyTorch does from its result file: missing videos are wrong, unless they are ignored."""
    windows, labels, classes, faults = case
    found = scored(windows, labels, classes, failures=faults)
    results = json.loads(json.dumps(found.results()))["results"]
    hits = [
        f"class {label}"
        in [entry["label"] for entry in sorted(results[name], key=lambda e: e["score"], reverse=True)[:k]]
        for name, label in zip((f"v{i}" for i in range(len(labels))), labels, strict=True)
        if name in results
    ]
    for wanted, which in ((1, 0), (found.k, 1)):
        if k == wanted:
            assert sum(hits) / len(labels) == found.all[which]
            assert found.read is None if not hits else sum(hits) / len(hits) == (found.read or ())[which]


@pytest.mark.parametrize(
    ("kind", "ids", "wanted"),
    [
        ("ucf101", ["v_YoYo_g01_c01", "v_YoYo_g01.x"], ["v_YoYo_g01_c01", "v_YoYo_g01"]),
        ("hmdb51", ["class 0/April_09_0", "class 1/#20_(x).y_1"], ["April_09_0", "#20_(x)"]),
        ("kinetics", ["class 0/a_000001_000011", "class 1/-b_000000_000010"], ["a_000001_000011", "-b_000000_000010"]),
        ("activitynet", ["a/0", "a/1"], ["a/0", "a/1"]),
        ("json", ["class 0/a", "b.c"], ["class 0/a", "b.c"]),
        ("folder", ["class 0/a.mp4", "class 1/a.mp4"], ["class 0/a.mp4", "class 1/a.mp4"]),
        (None, ["class 0/a", "class 1/a"], ["class 0/a", "class 1/a"]),
    ],
)
def test_results_have_the_ids_of_the_reference(kind: str | None, ids: list[str], wanted: list[str]) -> None:
    metadata = {} if kind is None else {"source": {"kind": kind}}
    found = scored([(0, [1.0, 0.0]), (1, [0.0, 2.0])], [0, 1], 2, ids=ids, metadata=metadata)
    best = [[{"label": f"class {c}", "score": share} for c, share in v.top] for v in found.videos.values()]
    assert found.results() == {"results": dict(zip(wanted, best, strict=True))}
    assert Evaluation.from_dict(found.to_dict()).results() == found.results() and list(found.videos) == ids


@pytest.mark.parametrize("kind", ["hmdb51", "kinetics"])
def test_results_that_would_be_of_two_videos(kind: str) -> None:
    """Also where one of them is unreadable: the reference would take the other's scores for both."""
    for windows in ([(0, [1.0, 0.0]), (1, [0.0, 2.0])], [(0, [1.0, 0.0])]):
        found = scored(windows, [0, 1], 2, ids=["class 0/a", "class 1/a"], metadata={"source": {"kind": kind}})
        with pytest.raises(ArgumentError, match=r"the videos 'class 0/a' and 'class 1/a' apart: .* calls both 'a'"):
            found.results()


# --- several ranks

RANKS = """
import json, os, sys
from pathlib import Path
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
torch.distributed.init_process_group("gloo")
from test_evaluation import Echo, Windows, batches
from vpngen.train.evaluation import score

class Net(Echo):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))  # which DistributedDataParallel shares before the first forward

    def forward(self, clips):
        return super().forward(clips) + self.bias

model = DistributedDataParallel(Net())
def scored(windows, failures, short):
    windows = Windows(batches(windows, [2]), case["labels"], case["classes"], case["ids"], failures, short)
    return score(model, windows, device="cpu", mean=(0,) * 3, std=(1,) * 3)

scored([] if rank == 0 else case["windows"], {}, []).write(folder / f"all{rank}.json")
mine = case["windows"][: case["cut"]] if rank == 0 else case["windows"][case["cut"] :]
scored(mine, case["faults"][rank], case["short"][rank]).write(folder / f"rank{rank}.json")
try:
    scored([[0, [float("nan")] * len(case["classes"])]] if rank == 1 else mine, {}, [])
except Exception as error:
    (folder / f"error{rank}").write_text(f"{type(error).__name__}: {error}")
torch.distributed.destroy_process_group()
"""


def test_two_ranks_are_one(tmp_path: Path) -> None:
    """Windows of a video on both ranks, unequal numbers of batches, a rank that has none, and a failure of one that reaches the other."""
    rng = np.random.default_rng(0)
    windows = [(int(rng.integers(5)), rng.integers(-3, 4, 7).astype(float).tolist()) for _ in range(23)]
    labels = [0, 1, 2, 6, 5, 3]  # the last has no window
    ids = [f"v{i}" for i in range(6)]
    faults = [{"v1": "damaged"}, {"v4": "damaged too", "v5": "no such file"}]
    case = {
        "windows": windows, "labels": labels, "ids": ids, "classes": [f"class {i}" for i in range(7)], "cut": 6,
        "faults": faults, "short": [["v3"], ["v0", "v3"]],
    }  # fmt: skip
    (tmp_path / "case.json").write_text(json.dumps(case))
    for rank in two_ranks(RANKS, tmp_path):
        assert rank.code == 0, rank.err
    whole = scored(windows, labels, 7, failures=faults[0] | faults[1], short=["v0", "v3"])
    assert whole.damaged == {"v1": "damaged", "v4": "damaged too"} and whole.unreadable == {"v5": "no such file"}
    for rank in range(2):
        assert Evaluation.load(tmp_path / f"rank{rank}.json") == whole
        assert Evaluation.load(tmp_path / f"all{rank}.json") == scored(windows, labels, 7)
    assert (tmp_path / "error0").read_text().startswith("RunError: rank 1 failed: RunError: the network gives")
    assert (tmp_path / "error1").read_text().startswith("RunError: the network gives")


# --- over splits and seeds


def having(right: int, of: int = 10, **metadata: Any) -> Evaluation:
    windows = [(i, [1.0, 0.0] if i < right else [0.0, 1.0]) for i in range(of)]
    return scored(windows, [0] * of, 2, metadata=metadata)


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_a_summary_is_mean_and_std_over_seeds_of_means_over_splits(
    splits: int, seeds: int, data: st.DataObject
) -> None:
    right = data.draw(
        st.lists(st.lists(st.integers(0, 10), min_size=splits, max_size=splits), min_size=seeds, max_size=seeds)
    )
    found = Summary({(s + 1, n): having(right[n][s]) for s in range(splits) for n in range(seeds)})
    means = (np.array(right) / 10).mean(1)
    assert found.mean("top1") == pytest.approx(means.mean())
    assert f"n = {seeds}" in summary_text(found)
    if seeds == 1:
        assert found.std("top1") is None and "±" not in summary_text(found)
    else:
        assert found.std("top1") == pytest.approx(means.std(ddof=1), abs=1e-12)
    fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(fields["metrics"]) == set(METRICS) and fields["metrics"]["top1"]["n"] == seeds
    assert len(fields["runs"]) == splits * seeds and fields["runs"][0]["top1"] == right[0][0] / 10


def test_splits_and_seeds_as_a_table() -> None:
    found = Summary({(s, n): having(s + 2 * n) for s in (1, 2, 3) for n in (0, 1)})
    assert summary_text(found) == (
        "%              top-1        top-2     average\n"
        "videos   30.0 ± 14.1  100.0 ± 0.0  65.0 ± 7.1\n"
        "windows  30.0 ± 14.1  100.0 ± 0.0  65.0 ± 7.1\n"
        "n = 2 seeds, each the mean of 3 splits: mean ± sample standard deviation\n"
        "\n"
        "top-1 of videos, %  split 1  split 2  split 3  mean\n"
        "seed 0                 10.0     20.0     30.0  20.0\n"
        "seed 1                 30.0     40.0     50.0  40.0\n"
        "mean                   20.0     30.0     40.0  30.0"
    )


def test_a_summary_says_what_was_unreadable_and_what_is_not_known() -> None:
    found = Summary({(1, 0): having(4), (1, 1): scored([], [0, 0], 2)})
    assert summary_text(found).endswith("2 videos of split 1, seed 1 could not be read and count as wrong")
    assert found.mean("window_top1") is None and found.std("window_top1") is None and "windows  " in summary_text(found)
    assert found.to_dict()["metrics"]["window_top1"]["mean"] is None


def test_summaries_that_make_no_sense() -> None:
    with pytest.raises(ArgumentError, match="is empty"):
        Summary({})
    with pytest.raises(ArgumentError, match="lacks split 2 of seed 1"):
        Summary({(1, 0): having(1), (2, 0): having(1), (1, 1): having(1)})
    with pytest.raises(ArgumentError, match="different classes: 2 in one, 3 in that of split 1, seed 1"):
        Summary({(1, 0): having(1), (1, 1): scored([(0, [1.0, 0.0, 0.0])], [0], 3)})


def test_tables_are_aligned() -> None:
    assert aligned([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc   d"

"""What frozen features are worth, and several networks as one: against second implementations, in any order, on two ranks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from filming import film, plate
from hypothesis import given
from hypothesis import strategies as st
from pairs import two_ranks
from test_evaluation import PLAIN, Windows
from torch import nn

import vpngen
from vpngen import RunError
from vpngen.datasets import Video, VideoSet, WindowLoader
from vpngen.stream.tensors import normalised, renormalised
from vpngen.tasks.trunk import Trunk
from vpngen.terminal import retrieval_text, retrievals_text
from vpngen.train.evaluation import NO_WINDOW, Ensemble, score
from vpngen.train.frozen import KS, L2, Features, features, linear_probe, logistic, mean_metrics, ranks_among, retrieval

Clips = list[list[list[int]]]
"""The features of the clips of each video."""


def set_of(labels: Sequence[int], classes: int, subset: str = "val", groups: Sequence[str] | None = None) -> VideoSet:
    names = [f"{subset}{i}" for i in range(len(labels))]
    rows = zip(names, labels, groups or names, strict=True)
    videos = tuple(Video(name, Path(name), label, group) for name, label, group in rows)
    return VideoSet("x", subset, 1, tuple(f"class {i}" for i in range(classes)), videos)


def known(clips: Clips, labels: Sequence[int], classes: int, subset: str = "val", **more: Any) -> Features:
    rows = [(i, clip) for i, some in enumerate(clips) for clip in some]
    values = torch.tensor([clip for _, clip in rows], dtype=torch.float32).view(len(rows), -1)
    numbers = torch.tensor([i for i, _ in rows], dtype=torch.int64)
    return Features(set_of(labels, classes, subset), values, numbers, **more)


# --- the nearest videos


@st.composite
def searches(draw: st.DrawFn) -> tuple[Clips, list[int], Clips, list[int], int]:
    """Training and test videos whose features are small integers, with many ties; some have no clips."""
    classes, most = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    clip = st.lists(st.integers(0, 2), min_size=2, max_size=2)
    some = st.lists(st.lists(clip, max_size=most), min_size=1, max_size=8)
    near, far = draw(some.filter(any)), draw(some.filter(any))
    label = st.integers(0, classes - 1)
    theirs, mine = (draw(st.lists(label, min_size=len(v), max_size=len(v))) for v in (near, far))
    return near, theirs, far, mine, most


def by_hand(near: Clips, theirs: list[int], far: Clips, mine: list[int], most: int) -> dict[str, float]:
    """The same shares, a query at a time, from sorted lists."""
    gallery = [(np.mean(clips, 0), label) for clips, label in zip(near, theirs, strict=True) if clips]

    def cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
        length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
        return round(float(a @ b) / length, 10) if length else 0.0

    def right(query: Any, label: int, k: int) -> bool:
        order = np.argsort([-cosine(np.asarray(query, float), row) for row, _ in gallery], kind="stable")
        return any(gallery[i][1] == label for i in order[:k])

    found = {}
    for k in KS:
        videos = [right(np.mean(clips, 0), label, k) for clips, label in zip(far, mine, strict=True) if clips]
        clips = [right(clip, label, k) for some, label in zip(far, mine, strict=True) for clip in some]
        found[f"r{k}"], found[f"clip_r{k}"] = sum(videos) / len(far), sum(clips) / (len(far) * most)
    return found


@given(searches())
def test_retrieval_is_that_by_hand(case: Any) -> None:
    near, theirs, far, mine, most = case
    classes = max(theirs + mine) + 1
    found = retrieval(known(near, theirs, classes, "train"), known(far, mine, classes), most)
    assert {name: share for name, share in found.metrics.items() if "chance" not in name} == by_hand(*case)
    assert set(found.unreadable) == {f"val{i}" for i, clips in enumerate(far) if not clips}
    assert set(found.unreadable_gallery) == {f"train{i}" for i, clips in enumerate(near) if not clips}
    fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert fields["metrics"]["r5"] == found.by_video[5] and fields["metrics"]["videos"] == len(far)
    assert fields["metrics"]["gallery"] == sum(map(bool, near)) and len(fields["videos"]) == len(far)


def test_features_of_one_direction_are_equally_near() -> None:
    """However arithmetic rounds their lengths."""
    near = torch.tensor([[1, 2, 3, 5, 7, 11, 13]]) * torch.arange(1, 60)[:, None]
    labels = torch.tensor([1] + [0] * 58)
    assert ranks_among(near, labels, near, labels) == [0] + [1] * 58


@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_chance_is_the_mean_over_all_orders(theirs: list[int], mine: list[int]) -> None:
    """The last of the test videos cannot be read, which chance does not make up for."""
    clips: Clips = [[[1, 0]] for _ in mine]
    found = retrieval(known([[[1, 0]]] * len(theirs), theirs, 3, "train"), known([*clips, []], [*mine, 0], 3), 1)
    for k in KS:
        orders = list(itertools.permutations(theirs))
        right = sum(label in order[:k] for order in orders for label in mine)
        assert found.chance[k] == pytest.approx(right / len(orders) / (len(mine) + 1))


def test_features_that_are_the_class_find_all_and_what_is_lost_is_said() -> None:
    labels = [0, 1, 2, 1, 0, 2]
    clips: Clips = [[[int(label == c) for c in range(3)]] * 2 for label in labels]
    whole = retrieval(known(clips, labels, 3, "train"), known(clips, labels, 3), 2)
    assert whole.by_video == whole.by_clip == dict.fromkeys(KS, 1.0)
    told: dict[str, Any] = {"failures": {"val5": "no such file", "val1": "cut off"}, "short": ("val0",)}
    lost = retrieval(known([*clips[:5], []], labels, 3, "train"), known([*clips[:5], []], labels, 3, **told), 2)
    assert lost.unreadable == {"val5": "no such file"} and lost.unreadable_gallery == {"train5": NO_WINDOW}
    assert retrieval_text(lost) == (
        "%        R@1   R@5  R@10  R@20  R@50  of\n"
        "videos  83.3  83.3  83.3  83.3  83.3   6\n"
        "clips   83.3  83.3  83.3  83.3  83.3  12\n"
        "chance  30.0  83.3  83.3  83.3  83.3\n"
        "among 5 training videos\n"
        "1 training video could not be read, and nobody finds them:\n"
        "  train5: gave no window\n"
        "1 video of 6 could not be read and count as wrong:\n"
        "  val5: no such file\n"
        "1 video damaged in places, scored by what could be read:\n"
        "  val1: cut off\n"
        "1 video shorter than a window: looped"
    )
    text = retrievals_text({"split 1, seed 0": whole, "split 2, seed 0": lost}, mean_metrics([whole, lost]))
    assert text.startswith("videos, %          R@1") and "\nmean              91.7   91.7" in text
    assert text.endswith("1 training video of split 2, seed 0 could not be read")


# --- a linear classifier


@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_the_gradient_is_zero_at_the_minimum(l2: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    weight, bias = (part.numpy() for part in logistic(torch.from_numpy(x), torch.from_numpy(y), 3, l2))
    e = np.exp(x @ weight.T + bias)
    wrong = (e / e.sum(1, keepdims=True) - np.eye(3)[y]) / 40
    np.testing.assert_allclose(wrong.T @ x + l2 * weight, 0, atol=1e-6)
    np.testing.assert_allclose(wrong.sum(0), 0, atol=1e-6)


class Pixel(nn.Module):
    """The colours of a clip are its features."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.mean((2, 3, 4))


def test_a_probe_classifies_features_as_they_are() -> None:
    """Three classes apart in two features of very different size; a third never changes."""
    rng = np.random.default_rng(1)
    labels, groups = [i % 3 for i in range(30)], [f"g{i // 3 % 5}" for i in range(30)]
    centres = np.array([[0, 0, 7], [1000, 0, 7], [0, 0.001, 7]])
    values = np.stack([centres[label] + rng.normal(size=3) * [50, 5e-5, 0] for label in labels]).astype(np.float32)
    found = Features(set_of(labels, 3, "train", groups), torch.from_numpy(values), torch.arange(30))
    probe, about = linear_probe(Pixel(), found)
    assert set(about["held_out"]) == set(map(str, L2)) and about["held_out"][str(about["l2"])] == 1
    clips = torch.from_numpy(values)[:, :, None, None, None]
    logits = probe(clips).detach().numpy()
    assert (logits.argmax(1) == labels).all()
    x = (values - values.mean(0)) / [*values.std(0)[:2], np.inf]
    weight, bias = logistic(torch.from_numpy(x), torch.tensor(labels), 3, about["l2"])
    np.testing.assert_allclose(logits, x @ weight.numpy().T + bias.numpy(), atol=1e-3)
    alone = Features(set_of(labels[:3], 3, "train"), torch.from_numpy(values[:3]), torch.arange(3))
    assert linear_probe(Pixel(), alone)[1] == {"l2": 0.01}  # nothing can be held out
    shown: Any = Windows([(clips, torch.arange(30))], labels, found.videos.classes)
    assert score(probe, shown, **PLAIN).all[0] == 1


def test_the_penalty_is_that_which_is_best_on_other_groups() -> None:
    """Noise in many features is learned by heart where the penalty is weak."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 60)
    values = rng.normal(size=(60, 50)).astype(np.float32)
    values[:, 0] += labels
    found = Features(set_of(labels.tolist(), 2, "train"), torch.from_numpy(values), torch.arange(60))
    about = linear_probe(Pixel(), found)[1]
    shares = about["held_out"]
    assert about["l2"] == max(L2, key=lambda l2: (shares[str(l2)], l2)) and len(set(shares.values())) > 1


# --- several networks as one


def test_clips_change_from_one_normalization_to_another() -> None:
    clips = torch.randint(0, 256, (2, 3, 2, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one, other = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.5)), ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    made = renormalised(normalised(clips, *one), one, other)
    torch.testing.assert_close(made, normalised(clips, *other), atol=1e-5, rtol=1e-5)
    same = normalised(clips, *one)
    assert renormalised(same, one, ([0.4, 0.5, 0.6], [0.2, 0.3, 0.5])) is same


def test_an_ensemble_is_the_mean_of_the_scores() -> None:
    torch.manual_seed(0)
    a, b = (nn.Sequential(Pixel(), nn.Linear(3, 4)) for _ in range(2))
    clips = torch.randint(0, 256, (9, 3, 2, 4, 4), dtype=torch.uint8)
    numbers, labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2]), [1, 3, 0]
    levels = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.5)), ((0.1, 0.2, 0.3), (1.0, 0.5, 0.02))

    def of(network: nn.Module, mean: Any, std: Any) -> list[Any]:
        windows: Any = Windows([(clips, numbers)], labels, "abcd")
        return [v.top for v in score(network, windows, device="cpu", mean=mean, std=std).videos.values()]

    alone, twice = of(a, *levels[0]), of(Ensemble([a, a], [levels[0]] * 2), *levels[0])
    for one, other in zip(alone, twice, strict=True):
        assert [c for c, _ in one] == [c for c, _ in other]
        np.testing.assert_allclose([s for _, s in one], [s for _, s in other], atol=1e-6)
    softmax = [net(normalised(clips, *level)).softmax(1) for net, level in zip((a, b), levels, strict=True)]
    mean = torch.stack(softmax).mean(0).detach()
    for video, top in enumerate(of(Ensemble([a, b], levels), *levels[0])):
        wanted = mean[numbers == video].mean(0)
        np.testing.assert_allclose([wanted[c] for c, _ in top], [s for _, s in top], atol=1e-6)
        assert top[0][0] == int(wanted.argmax())


# --- features of a network


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    """Five files, one of them gone, one shorter than a window."""
    folder = tmp_path_factory.mktemp("plates")
    paths = [film(folder / f"{i}.mkv", plate(i, 5 if i == 1 else 20)) for i in range(5)]
    paths[3].unlink()
    videos = (Video(f"v{i}", path, i % 2, str(i)) for i, path in enumerate(paths))
    return VideoSet("x", "val", 1, ("a", "b"), tuple(videos))


def trunk() -> Trunk:
    torch.manual_seed(0)
    return Trunk(vpngen.create_model("r3d10", 2, width=0.125), (8, 16, 16))


def taken(videos: VideoSet, **how: Any) -> Features:
    return features(trunk(), WindowLoader(videos, 3, clip=(8, 16, 16), clips=4, **how), **PLAIN)


def test_features_are_those_of_the_trunk_in_the_order_of_the_videos(plates: VideoSet) -> None:
    found, network = taken(plates), trunk().eval()
    assert found.numbers.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [4] * 4 and found.short == ("v1",)
    assert set(found.unreadable) == {"v3"} and "No such file" in found.unreadable["v3"]
    with torch.no_grad():
        for clips, numbers in WindowLoader(plates, 99, clip=(8, 16, 16), clips=4):
            assert torch.equal(numbers, found.numbers)
            torch.testing.assert_close(network(normalised(clips, (0.5,) * 3, (0.5,) * 3)), found.values)
    assert found.values.dtype == torch.float32 and found.means()[1].tolist() == [0, 1, 2, 4]
    nothing = VideoSet("x", "val", 1, ("a", "b"), plates.videos[3:4])
    with pytest.raises(RunError, match=r"none of the 1 videos to take features of gave a window: .*No such file"):
        taken(nothing)
    with pytest.raises(RunError, match="features that are not finite for a window of video 'v0'"):
        features(nn.Sequential(Pixel(), nn.Threshold(9, math.nan)), WindowLoader(plates, 3, clip=(8, 9, 9)), **PLAIN)


RANK = """
import sys, torch
from test_frozen import *
from vpngen.train import ranks
videos = torch.load(sys.argv[1] + "/videos", weights_only=False)
with ranks.joined("cpu", timeout=60):
    found = taken(videos)
    probe, about = linear_probe(Pixel(), found)
    said = retrieval(found, found, 4).to_dict()
    torch.save((found.values, found.numbers, found.failures, found.short, probe.linear.weight, said), f"{sys.argv[1]}/{ranks.world()[0]}")
"""


def test_two_ranks_are_one(plates: VideoSet, tmp_path: Path) -> None:
    torch.save(plates, tmp_path / "videos")
    for ended in two_ranks(RANK, tmp_path):
        assert ended.code == 0, ended.err
    whole = taken(plates)
    weight = linear_probe(Pixel(), whole)[0].linear.weight
    for rank in range(2):
        values, numbers, failures, short, theirs, said = torch.load(tmp_path / str(rank), weights_only=False)
        torch.testing.assert_close(values, whole.values, atol=1e-5, rtol=1e-5)
        assert torch.equal(numbers, whole.numbers) and (failures, short) == (whole.failures, whole.short)
        torch.testing.assert_close(theirs, weight, atol=1e-3, rtol=1e-3)
        assert said == retrieval(whole, whole, 4).to_dict()

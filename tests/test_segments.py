"""Clips in segments and steps: what is cut, what the network is shown, what is learned, kept and evaluated."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Run
from filming import film
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import vpngen
from vpngen import ArgumentError
from vpngen.datasets import VideoLoader, WindowLoader, read_videos
from vpngen.datasets.sets import fraction_of
from vpngen.models import create_model, read_weights
from vpngen.models.base import parameter_groups
from vpngen.sampling import Augment, Sampling
from vpngen.tasks import Segments
from vpngen.train import RECIPES, Recipe, fit


@given(
    st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 40), st.sampled_from(["random", "center", "start"]),
    st.integers(0, 2**63),
)  # fmt: skip
def test_segments_share_the_video(k: int, t: int, step: int, more: int, time: str, seed: int) -> None:
    """Each part lies in its span of the video, none overlaps another, all have the same crop; one segment is what it was."""
    frames = ((t - 1) * step + 1) * k + more
    sampling = Sampling(9, (frames, 40, 50), (t * k, 20, 30), Augment(time=time, step=step, segments=k), 9, True, seed)
    numbers = np.arange(7) + 2**40
    windows, side = sampling.windows(numbers)
    assert side.shape == (7,) and windows.shape == ((7, k, 5) if k > 1 else (7, 5))
    parts = windows.reshape(7, k, 5)
    assert (parts[:, :, 1:] == parts[:, :1, 1:]).all()
    for i in range(k):
        begin, end = frames * i // k, frames * (i + 1) // k
        assert (parts[:, i, 0] >= begin).all() and (parts[:, i, 0] + sampling.span(step) <= end).all()
    alone, _ = Sampling(9, (frames, 40, 50), (t, 20, 30), Augment(time=time, step=step), 9, True, seed).windows(numbers)
    assert (alone[:, 1:] == parts[:, 0, 1:]).all()
    if k == 1:
        assert (alone == windows).all()


def test_starts_of_segments_are_drawn_apart() -> None:
    sampling = Sampling(1, (60, 8, 8), (12, 8, 8), Augment(segments=6), 1000, True, 3)
    starts = sampling.windows(np.arange(1000))[0][:, :, 0] - np.arange(0, 60, 10)
    for column in starts.T:
        assert set(column.tolist()) == set(range(9)) and max(Counter(column.tolist()).values()) < 170
    for a, b in itertools.combinations(starts.T, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.15


@pytest.mark.parametrize("scales", [None, (0.5, 1.0)])
def test_a_stream_gives_the_parts_one_behind_the_other(scales: tuple[float, ...] | None) -> None:
    spec = vpngen.perlin(categories=4, instances=2, shape=(30, 24, 24), divisions=[1, 2], noise_terms=0)
    how: dict[str, Any] = {"clip": (6, 12, 12), "device": "cpu", "threads": 1, "parameters": True}
    augment = Augment(step=2, segments=3, scales=scales)
    for clips, _, about in vpngen.loader(spec, 4, augment=augment, **how):
        assert clips.shape == (4, 3, 6, 12, 12) and about["window"].shape == (4, 3, 5)
        for clip, index, windows in zip(clips, about["index"], about["window"], strict=True):
            video = vpngen.render(spec, [int(index)])[0]
            for k, (t0, step, y0, x0, flip) in enumerate(windows.tolist()):
                cut = video[t0 : t0 + 3 : step][:, y0 : y0 + 12, x0 : x0 + 12]
                if scales is None:
                    assert np.array_equal(cut[:, :, ::-1] if flip else cut, clip[0, 2 * k : 2 * k + 2])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of videos whose frames are as bright as their number: two classes, train and val."""
    root = tmp_path_factory.mktemp("films")
    for subset, name, i in itertools.product(("train", "val"), "ab", range(4)):
        folder = root / subset / name
        folder.mkdir(parents=True, exist_ok=True)
        grey = np.arange(24 + i, dtype=np.uint8)[:, None, None, None] * (8 if name == "a" else 4)
        film(folder / f"{i}.mkv", np.broadcast_to(grey, (24 + i, 32, 32, 3)).copy())
    return root


def levels(clip: torch.Tensor) -> list[int]:
    return [round(float(frame.float().mean())) for frame in clip[0]]


def test_real_videos_are_cut_in_steps_and_segments(clips: Path) -> None:
    """Against the numbers that the frames show."""
    videos = read_videos("folder", clips, subset="val")
    stepped = list(WindowLoader(videos, 64, clip=(4, 16, 16), frame_step=3))
    frames = [levels(clip) for clip in stepped[0][0]]
    assert [round(v / 8) for v in frames[0]] == [0, 3, 6, 9] and [round(v / 8) for v in frames[1]] == [12, 15, 18, 21]
    whole = list(WindowLoader(videos, 64, clip=(2, 16, 16), frame_step=3, segments=4))
    assert len(whole[0][0]) == len(videos.videos)  # one window each
    assert [round(v / 8) for v in levels(whole[0][0][0])] == [1, 4, 7, 10, 13, 16, 19, 22]
    loader = VideoLoader(videos, 4, clip=(6, 16, 16), augment=Augment(step=2, segments=3))
    for batch, labels in loader:
        for clip, label in zip(batch, labels.tolist(), strict=True):
            found = np.array(levels(clip)).reshape(3, 2) / (4 if label else 8)
            assert (abs(np.diff(found, axis=1) - 2) < 0.5).all() and (np.diff(found[:, 0]) > 1.5).all()
    long = WindowLoader(videos, 64, clip=(3, 16, 16), segments=20)
    assert len(next(iter(long))[0]) == 8 and len(long.short) == 8  # shown again from the beginning
    with pytest.raises(ArgumentError, match=r"`stride` \(=4\) must be a multiple of `frame_step` \(=3\)"):
        WindowLoader(videos, 4, clip=(4, 16, 16), stride=4, frame_step=3)


class Mean(nn.Module):
    """Logits that are the mean of a clip, and its square."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        mean = clips.mean((1, 2, 3, 4))
        return torch.stack([mean, mean**2], 1) * self.scale


@pytest.mark.parametrize("consensus", ["mean", "max", "weighted"])
def test_the_consensus_is_that_of_each_part_by_itself(consensus: str) -> None:
    weights = (0.5, 2.0, -1.0) if consensus == "weighted" else ()
    task, network = Segments(3, consensus, weights), Mean()
    x = torch.rand(4, 3, 6, 2, 2)
    each = torch.stack([network(x[:, :, 2 * k : 2 * k + 2]) for k in range(3)], 1)
    combine = {
        "mean": each.mean(1), "max": each.amax(1), "weighted": (each * torch.tensor([0.5, 2, -1])[:, None]).sum(1),
    }  # fmt: skip
    module = task.around(network)
    assert torch.allclose(module(x), combine[consensus])
    assert list(task.kept(module).get("weights", ())) == list(weights)
    assert task.shape(Recipe(clip=(2, 8, 8))) == (6, 8, 8)
    with pytest.raises(
        ArgumentError, match=r"`clip` \(=\(5, 2, 2\)\) must have frames for each of the 3 segments alike"
    ):
        module(x[:, :, :5])
    fresh = Segments(3, "weighted").around(network)
    assert torch.allclose(fresh(x), each.mean(1))


@pytest.mark.parametrize("consensus", ["mean", "weighted"])
def test_segments_are_trained_kept_and_evaluated(consensus: str, clips: Path, tmp_path: Path, run: Run) -> None:
    how = (
        "--model", "r3d10", "--model-option", "width=0.0625", "--clip", "2x16x16", "--frame-step", "2", "--segments", "3",
        "--consensus", consensus, "--batch-size", "4", "--epochs", "1", "--lr", "0.01", "--num-workers", "0",
        "--lr-scales", "head=10,layer4=2", "--no-norm-decay", "--recipe", "t3d2017-transfer", "--schedule", "cosine", "--optimizer", "adamw",
    )  # fmt: skip
    out = tmp_path / "run"
    done = run("finetune", out, "--dataset", "folder", "--root", clips, "--train-fraction", "1/2", *how)
    assert done.code == 0, done.err
    about = read_weights(out / "weights.safetensors")[1]
    assert about["task"]["segments"] == 3 and about["source"]["train_fraction"] == 0.5
    assert about["recipe"]["frame_step"] == 2 and about["recipe"]["lr_scales"] == {"head": 10, "layer4": 2}
    # What belongs to another schedule or optimizer goes with it; the rest is the recipe's.
    kept = [about["recipe"][name] for name in ("schedule", "lr_steps", "nesterov", "augment", "weight_decay")]
    assert kept == ["cosine", [], False, "random", 1e-4]
    assert (len(about["task"]["weights"]) == 3) == (consensus == "weighted")
    told = json.loads((out / "evaluation.json").read_text())
    again = run("evaluate", out, "--num-workers", "0", "--format", "json")
    assert again.code == 0 and json.loads(again.out)["metrics"] == told["metrics"], again.err
    assert json.loads(again.out)["metrics"].keys() == told["metrics"].keys()
    other = run("evaluate", out, "--num-workers", "0", "--segments", "2", "--format", "json")
    assert consensus == "weighted" or json.loads(other.out)["metadata"]["evaluated"] == {"segments": 2}
    assert other.code == (3 if consensus == "weighted" else 0), other.err
    assert (
        consensus == "mean"
        or "run/weights.safetensors' has learned a weight for each of 3 segments, and not of 2" in other.err
    )


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ({"segments": 0}, "`segments`"), ({"frame_step": 0}, "`frame_step`"), ({"consensus": "median"}, "`consensus`"),
        ({"lr_scales": {"head": 0}}, "above 0"), ({"lr_scales": [("head", 1), ("head", 2)]}, "each layer once"),
        ({"lr_scales": "head"}, "by the names of layers"), ({"norm_decay": 1}, "`norm_decay`"),
    ],
)  # fmt: skip
def test_bad_recipes(recipe: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError, match=error):
        Recipe(**recipe)


NESTEROV = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "lr_factor": 0.1}


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("i3d2017", {"momentum": 0.9, "lr_factor": 0.1, "clip": (64, 224, 224), "augment": "random"}),
        ("slowfast2019", {"momentum": 0.9, "weight_decay": 1e-4, "schedule": "cosine", "clip": (32, 224, 224), "frame_step": 2}),
        ("videoorder2018", {"lr": 1e-4, "lr_scales": (("head", 10),), "batch_size": 64, "clip": (8, 224, 224)}),
        ("t3d2017", NESTEROV | {"batch_size": 64, "epochs": 200, "clip": (32, 224, 224), "frame_step": 2, "augment": "x10"}),
        ("t3d2017-transfer", NESTEROV | {"batch_size": 32, "epochs": 150, "lr_steps": (30, 60, 90, 120), "augment": "random"}),
    ],
)  # fmt: skip
def test_recipes_are_what_the_papers_print(name: str, printed: dict[str, Any]) -> None:
    """Where public code has other values than the paper, as the batches of SlowFast, docs/training.md says so."""
    assert {field: getattr(RECIPES[name], field) for field in printed} == printed


def test_a_set_too_short_for_its_segments_is_said(run: Run) -> None:
    size = ("--shape", "8x16x16", "--divisions", "1,4", "--categories", "2", "--instances", "8", "--clip", "4x16x16")
    done = run("train", "out", "--model", "r3d10", *size, "--segments", "3", "--batch-size", "4")
    assert done.code == 2 and "take 12 frames of each video, and they have 8" in done.err and not Path("out").exists()


def test_all_that_is_new_in_fine_tuning_has_the_rate_of_the_head() -> None:
    """Suzuki et al. begin fc1 to fc3 anew: 0.001 for these, 0.0001 for conv1 to pool3."""
    recipe, model = RECIPES["videoorder2018"], create_model("alexnet3d", 4, width=0.0625, pooled=1)
    names = {id(p): name for name, p in model.named_parameters()}
    new = {"fc1", "fc2", "fc3", "bn1", "bn2"}
    for scales, fast in ((dict(recipe.lr_scales), new), ({"head": 10, "fc1": 1}, new - {"fc1"})):
        groups = parameter_groups(model, scales)
        assert {names[id(p)].split(".")[0] for g in groups if g["lr_scale"] == 10 for p in g["params"]} == fast


def test_rates_of_layers(tmp_path: Path) -> None:
    """Each parameter moves as one step of plain SGD at its own rate, and normalization is decayed only where asked; plateaus keep the factors."""
    torch.manual_seed(0)
    model = create_model("r3d10", 4, width=0.0625)
    groups = parameter_groups(model, {"head": 10, "layer4": 2, "layer4.0.bn1": 5, "stem": 3}, norm_decay=False)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: (g["lr_scale"], g.get("weight_decay")) for g in groups for p in g["params"]}
    assert found.keys() == set(names.values()) and groups[0]["lr_scale"] == 1
    assert found["fc.weight"] == (10, None) and found["layer4.0.conv1.weight"] == (2, None)
    assert found["layer4.0.bn1.weight"] == (5, 0) and found["bn1.bias"] == (1, 0) and found["conv1.weight"] == (3, None)
    with pytest.raises(
        ArgumentError,
        match=r"names 'layer9', which is no layer of ResNet with weights; it has head, conv1, bn1, layer1",
    ):
        parameter_groups(model, {"layer9": 1})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x, y = torch.randint(0, 256, (4, 3, 4, 16, 16), dtype=torch.uint8), torch.arange(4)

    class Once:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            yield x, y

        set_epoch = load_state_dict = lambda self, _: None
        state_dict = lambda self: {}  # noqa: E731

    plain = Recipe(lr=0.01, momentum=0, weight_decay=0, batch_size=4, epochs=1, clip=(4, 16, 16), schedule="cosine")
    moved = []
    for scales in ({}, {"head": 10, "layer4": 2}):
        model.load_state_dict({**model.state_dict(), **before})
        rows = fit(model, Once(), None, Recipe(**{**plain.to_dict(), "lr_scales": scales}), device="cpu")
        assert rows[0]["lr"] == 0.01
        moved.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for name, step in moved[0].items():
        factor = 10 if name.startswith("fc") else 2 if name.startswith("layer4") else 1
        assert torch.allclose(moved[1][name], factor * step, rtol=1e-2, atol=1e-6), name
    last = {"lr": 3e-8, "lr_scales": {"head": 100}, "schedule": "plateau", "lr_patience": 1, "epochs": 4, "segments": 2}
    rows = fit(model, Once(), None, Recipe(**{**plain.to_dict(), **last}), device="cpu", out=tmp_path)
    kept = torch.load(tmp_path / "checkpoint.pt")
    groups, told = kept["optimizer"]["param_groups"], kept["settings"]
    assert told["task.name"] == "segments" and told["task.segments"] == 2  # as the recipe says
    assert rows[-1]["lr"] == pytest.approx(3e-9) and groups[1]["lr"] == pytest.approx(100 * groups[0]["lr"])


@given(st.integers(0, 2**64 - 1), st.lists(st.fractions(0, 1).filter(lambda f: f > 0), min_size=2, max_size=4))
def test_shares_of_a_set_are_nested(seed: int, shares: list[Any]) -> None:
    videos = tuple(
        vpngen.datasets.Video(f"{label}-{i}", Path(f"{i}"), label, f"{i}") for i in range(24) for label in range(3) if i < 8 * (label + 1)
    )  # fmt: skip
    whole = vpngen.datasets.VideoSet("x", "train", 1, ("a", "b", "c"), videos)
    parts = [fraction_of(whole, float(share), seed).videos for share in sorted(shares)]
    for part, share in zip(parts, sorted(shares), strict=True):
        count = Counter(video.label for video in part)
        assert count == {label: max(round(float(share) * 8 * (label + 1)), 1) for label in range(3)}
        assert list(part) == [video for video in videos if video in part]
    for small, large in itertools.pairwise(parts):
        assert set(small) <= set(large)

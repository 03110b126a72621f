"""Tasks without labels: what is drawn for a sample, what the network is shown, and what can be learned."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Run
from filming import jpegs
from hypothesis import given
from hypothesis import strategies as st
from networks import shallow
from PIL import Image
from torch import nn

import vpngen
from vpngen import ArgumentError, MissingError
from vpngen.models import create_model, read_weights
from vpngen.models.densenet import Average
from vpngen.tasks import Correspond, Order, Puzzle, Reconstruct, Task
from vpngen.tasks.correspond import Teacher, others
from vpngen.tasks.trunk import Trunk, order_of, orders, shuffles, some
from vpngen.train import Recipe, fit


def samples(n: int, epoch: int = 3) -> torch.Tensor:
    """Numbers of n samples, int64 (N, 3)."""
    return torch.stack([torch.full((n,), epoch), torch.arange(n) + 2**33, torch.arange(n)], 1)


def even(found: Any, kinds: int) -> bool:
    """Whether counts are those of draws that are equally likely: chi-square within four of its standard deviations."""
    seen = Counter(found)
    counts = np.array([*seen.values(), *[0] * (kinds - len(seen))])
    expected = counts.sum() / kinds
    return bool(((counts - expected) ** 2 / expected).sum() <= kinds - 1 + 4 * math.sqrt(2 * (kinds - 1)))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_orders_are_all_there_in_the_order_of_the_alphabet(n: int) -> None:
    every = order_of(np.arange(math.factorial(n)), n)
    assert [tuple(row) for row in every.tolist()] == list(itertools.permutations(range(n)))
    if n > 1:
        words = np.linspace(0, 2**32 - 1, 997).astype(np.uint32)
        assert (orders(words, n, first=1) != np.arange(n)).any(1).all()


def test_longer_clips_are_shuffled_too() -> None:
    """C3D takes 16 frames; of so many things a word does not say the order."""
    words = np.random.default_rng(0).integers(0, 2**32, (2400, 16), dtype=np.uint32)
    words[0] = 0  # draws that leave all in place
    made = shuffles(words[:, 0], words)
    assert (np.sort(made) == np.arange(16)).all() and (made != np.arange(16)).any(1).all()
    assert all(even(column, 16) for column in made.T.tolist())
    shown, wrong = Order(frames=16, odd_clips=2).drawn(samples(40))
    odd = shown[np.arange(40), wrong]
    assert (np.diff(odd) != 1).any(1).all() and (np.ptp(odd, 1) == 15).all()


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_some_are_different(k: int, more: int, seed: int) -> None:
    words = np.random.default_rng(seed).integers(0, 2**32, (5, k), dtype=np.uint32)
    found = some(words, k + more)
    assert found.min() >= 0 and found.max() < k + more and all(len(set(row)) == k for row in found.tolist())


@pytest.mark.parametrize("wrong", ["shuffle", "swap", "reverse"])
def test_one_clip_of_the_window_is_wrong(wrong: str) -> None:
    """Equations 2 and 3 of the paper on frames that are their numbers; and every draw is as likely as its likes."""
    task = Order(wrong=wrong, window=9, odd_clips=3, frames=4, seed=5)
    n = 2400
    window = torch.arange(9.0)[None, None, :, None, None].expand(n, 3, 9, 2, 2)
    clips, target = task.prepare(window, None, samples(n))
    assert clips.shape == (n, 3, 3, 4, 2, 2)
    frames, place = clips[:, :, 0, :, 0, 0].long().numpy(), target.numpy()
    right = np.ones((n, 3), bool)
    right[np.arange(n), place] = False
    assert (np.diff(frames[right]) == 1).all()
    odd = frames[np.arange(n), place]
    starts = np.where(right, frames[:, :, 0], odd.min(1)[:, None])
    own = [tuple(row) for row in (odd - odd.min(1)[:, None]).tolist()]
    assert all(len(set(row)) == 3 for row in starts.tolist()) and even(map(tuple, starts.tolist()), 6 * 5 * 4)
    assert even(place.tolist(), 3)
    wanted = {
        "shuffle": set(itertools.permutations(range(4))) - {(0, 1, 2, 3)},
        "swap": {(1, 2, 3, 0), (2, 3, 0, 1)},  # the second part begins at frame 2 or 3 of 4
        "reverse": {(3, 2, 1, 0)},
    }[wrong]
    assert set(own) == wanted and even(own, len(wanted))
    assert even(zip(place.tolist(), own, strict=True), 3 * len(wanted))
    again, same = task.prepare(window[:7], None, samples(7))
    assert torch.equal(again, clips[:7]) and torch.equal(same, target[:7])
    other = task.prepare(window, None, samples(n, epoch=4))[1]
    assert 0.2 < float((other == target).double().mean()) < 0.5
    title = [name for name, _ in task.shown(clips, target, 0)]
    assert title[int(target[0])] == wrong and title.count("") == 2


def test_clips_begin_alike_where_the_window_has_no_room() -> None:
    shown, _ = Order(window=5, odd_clips=6, frames=4).drawn(samples(400))
    assert set(shown.min(2).ravel().tolist()) == {0, 1} and shown.max() == 4


@pytest.mark.parametrize(
    ("options", "recipe", "match"),
    [
        ({"wrong": "none"}, {}, "`wrong`"),
        ({"window": 1}, {}, "`window`"),
        ({"odd_clips": 1}, {}, "`odd_clips`"),
        ({"window": 7}, {"clip": (8, 16, 16)}, r"`clip` \(=8\) must be 2 to 7 frames, to be one of a window of 7"),
        ({}, {"clip": (21, 16, 16)}, "must be 2 to 20 frames"),
        ({"wrong": "swap"}, {"clip": (2, 16, 16)}, "must be 3 to 20 frames"),
        ({"wrong": "reverse"}, {"clip": (1, 16, 16)}, "must be 2 to 20 frames"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], recipe: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        Order(**options).of(Recipe(**recipe))


@pytest.mark.parametrize("grid", ["space", "time", "space-time"])
@pytest.mark.parametrize("jitter", [False, True])
def test_pieces_come_from_their_cells(grid: str, jitter: bool) -> None:
    """Voxels that are their places say where each piece was; all orders, cells and places are as likely as their likes."""
    recipe = Recipe(clip=(2, 3, 3))
    task = Puzzle(grid=grid, gap=2, gap_frames=1, jitter=jitter, replicate=False, rotation="none").of(recipe)
    t, y, x = task.shape(recipe)
    assert (t, y, x) == {"space": (3, 10, 10), "time": (12, 5, 5), "space-time": (12, 10, 10)}[grid]
    n = 2000
    whole = torch.stack(torch.meshgrid(torch.arange(t), torch.arange(y), torch.arange(x), indexing="ij")).float()
    pieces, target = task.prepare(whole.expand(n, 3, t, y, x), None, samples(n))
    first = pieces[:, :, :, 0, 0, 0].long().numpy()  # (t, y, x) of each
    assert torch.equal(pieces - pieces[:, :, :, :1, :1, :1], whole[:, :2, :3, :3].expand(n, 4, 3, 2, 3, 3))
    cell, within = np.divmod(first, np.array([3, 5, 5]))
    assert (within == ([0, 1, 1] if not jitter else within)).all() and (within <= [1, 2, 2]).all()
    if jitter:
        assert even(map(tuple, within.reshape(-1, 3).tolist()), 2 * 3 * 3)
    in_time = (cell[:, :, 0] != cell[:, :1, 0]).any(1)
    assert in_time.all() if grid == "time" else not in_time.any() if grid == "space" else even(in_time.tolist(), 2)
    place = cell[:, :, 1] * 2 + cell[:, :, 2]
    piece, other = np.where(in_time[:, None], cell[:, :, 0], place), np.where(in_time[:, None], place, cell[:, :, 0])
    assert (other == other[:, :1]).all() and (order_of(target[:, 0].numpy(), 4) == piece).all()
    assert even(target[:, 0].tolist(), 24)
    for kind, cells in ((True, 4), (False, 4)):
        if grid == "space-time":
            assert even(other[in_time == kind, 0].tolist(), cells)
    upside = ", upside down"
    assert [title for title, _ in task.shown(pieces, target, 0)] == [
        f"piece {k + 1}{upside * int(target[0, 1])}" for k in piece[0]
    ]


@pytest.mark.parametrize("rotation", ["none", "joint", "head"])
def test_pieces_are_replicated_and_turned(rotation: str) -> None:
    recipe = Recipe(clip=(2, 3, 3))
    task = Puzzle(grid="space", gap=0, gap_frames=0, rotation=rotation).of(recipe)
    n = 600
    x = torch.rand(1, 3, *task.shape(recipe)).expand(n, 3, 2, 6, 6)
    pieces, target = task.prepare(x, None, samples(n))
    assert (pieces == pieces[:, :, :1]).all()
    upright = torch.where(target[:, 1, None, None, None, None, None] == 1, pieces.flip(4, 5), pieces)
    order = order_of(target[:, 0].numpy(), 4)
    chosen = []
    for i, k in np.ndindex(n, 4):
        row, column = divmod(int(order[i, k]), 2)
        cut = x[i, :, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        chosen.append(int((cut == upright[i, k, :1]).flatten(1).all(1).nonzero()[0, 0]))
    assert even(chosen, 3) and (even(target[:, 1].tolist(), 2) if rotation != "none" else not target[:, 1].any())
    outputs = {"none": 24, "joint": 48, "head": 26}[rotation]
    perfect = torch.full((n, outputs), -50.0)
    perfect[torch.arange(n), target[:, 0] + 24 * target[:, 1] * (rotation == "joint")] = 50
    if rotation == "head":
        perfect[torch.arange(n), 24 + target[:, 1]] = 50
    assert float(task.score(perfect, target)) == n and float(task.loss(perfect, target)) < 1e-3
    guess = torch.zeros(n, outputs)
    assert float(task.loss(guess, target)) / n == pytest.approx(task.chance(guess)["loss"])


TOUCHING = {"space": ((0, 1, 4), (2, 3, 4), (0, 2, 3), (1, 3, 3)), "time": ((0, 1, 2), (1, 2, 2), (2, 3, 2))}
"""Grid -> cells that are neighbours, and the axis of pieces (N, 3, t, y, x) along which they are."""


def by_borders(pieces: torch.Tensor, grid: str) -> torch.Tensor:
    """The order of pieces (N, 4, 3, t, y, x), of 24, in which the voxels at borders that would touch differ least; it sees no others."""
    steps = {}
    for axis in {axis for *_, axis in TOUCHING[grid]}:
        last, first = pieces.select(axis + 1, -1), pieces.select(axis + 1, 0)
        steps[axis] = (last[:, :, None] - first[:, None]).square().flatten(3).sum(3)
    places = [order.index for order in itertools.permutations(range(4))]  # where the piece of a cell stands
    costs = [torch.stack([steps[axis][:, at(a), at(b)] for a, b, axis in TOUCHING[grid]]).sum(0) for at in places]
    return torch.stack(costs, 1).argmin(1)


@pytest.mark.parametrize("grid", ["space", "time"])
def test_the_borders_of_pieces_tell_nothing_where_there_are_gaps(grid: str) -> None:
    """On noise whose lattice is finer than the gap; cut side by side, borders tell nearly all orders."""
    n, period, recipe = 480, 4, Recipe(clip=(4, 8, 8))
    bare: dict[str, Any] = {"gap": 0, "gap_frames": 0, "jitter": False, "replicate": False, "rotation": "none"}
    for options, least, most in ((bare, 0.95, 1.0), ({"gap": 2 * period, "gap_frames": 2 * period}, 0.0, None)):
        task = Puzzle(grid=grid, **options).of(recipe)
        whole = task.shape(recipe)
        size: dict[str, Any] = {"shape": (whole[0] + period, 64, 64), "divisions": [64 // period], "temporal": [period]}
        spec = vpngen.perlin(1, n, noise_terms=0, **size)
        how: dict[str, Any] = {"augment": "random", "device": "cpu", "threads": 1, "numbers": True}
        clips, _, numbers = next(iter(vpngen.loader(spec, n, clip=whole, **how)))
        pieces, target = task.prepare(clips.float(), None, numbers)
        upright = torch.where(target[:, 1, None, None, None, None, None] == 1, pieces.flip(4, 5), pieces)
        found = float((by_borders(upright, grid) == target[:, 0]).double().mean())
        chance = 1 / 24 + 4 * math.sqrt(1 / 24 * 23 / 24 / n)
        assert least <= found <= (chance if most is None else most), (grid, options, found)


@pytest.mark.parametrize("target", ["same", "future", "hole"])
def test_what_is_drawn_again(target: str) -> None:
    """What counts, and how much: against a second look at each voxel."""
    recipe = Recipe(clip=(4, 8, 6))
    task = Reconstruct(target=target, hole=0.5).of(recipe)
    n, (t, y, x) = 5, task.shape(recipe)
    assert (t, y, x) == ((8 if target == "future" else 4), 8, 6)
    clips = torch.randn(n, 3, t, y, x, generator=torch.Generator().manual_seed(0))
    seen, (wanted, weight) = task.prepare(clips, None, samples(n))
    masked = (seen != clips[:, :, :4]).any(2).any(1)
    assert torch.equal(wanted[:, 0], clips[:, :, :4]) and (target == "hole") == bool(masked.any())
    if target == "future":
        assert torch.equal(wanted[:, 1], clips[:, :, 4:])
        assert weight[0, 1, 0, :, 0, 0].tolist() == [1, 0.75, 0.5, 0.25] and (weight[:, 0] == 1).all()
    if target == "hole":
        assert (masked.sum((1, 2)) == 4 * 3).all() and torch.equal(masked, task.block(samples(n)))
        assert torch.equal(weight[:, 0, 0, 0] > 0, masked) and len({tuple(m.nonzero()[0].tolist()) for m in masked}) > 1
    assert float(task.loss(wanted, (wanted, weight))) == 0 and float(task.score(wanted, (wanted, weight))) == n
    means = torch.empty_like(wanted)
    for i in range(n):
        counts = weight[i].expand_as(wanted[i])
        means[i] = (counts * wanted[i]).sum() / counts.sum()
    assert float(task.loss(means, (wanted, weight))) / n == pytest.approx(task.chance(means)["loss"], rel=1e-5)
    assert float(task.score(means, (wanted, weight))) == pytest.approx(0, abs=1e-5)
    black, nothing = torch.full_like(wanted, -1.0), torch.zeros_like(wanted)
    assert float(task.loss(nothing, (black, weight))) / n <= 101  # a black clip does not end a run as one that diverges
    network = create_model("r3d10", 4, width=0.0625)
    module = task.around(network, recipe)
    drawn = module(seen)
    assert drawn.shape == wanted.shape
    task.loss(drawn, (wanted, weight)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())
    assert [title for title, _ in task.shown(seen, (wanted, weight), 1)][:2] == ["seen", "to draw"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 5))
def test_negatives_are_never_positives(videos: list[int], first: int) -> None:
    """A clip is told from one of another video wherever the batch has one: from its neighbour by number, if that is of another."""
    n = len(videos)
    numbers = torch.stack([torch.zeros(n, dtype=torch.int64), torch.arange(first, first + n), torch.tensor(videos)], 1)
    for i, found in enumerate(others(numbers).tolist()):
        assert (found == -1) == (len({*videos} - {videos[i]}) == 0)
        assert found == -1 or videos[found] != videos[i]
        beside = ((first + i) ^ 1) - first
        if 0 <= beside < n and videos[beside] != videos[i]:
            assert found == beside


def image_weights(path: Path, name: str = "r3d10", **options: Any) -> nn.Module:
    """A network whose layers are two-dimensional, made of torch's own; its weights are saved."""
    torch.manual_seed(3)
    network = create_model(name, 5, **options)
    for parent in list(network.modules()):
        for key, child in list(parent.named_children()):
            made: nn.Module | None = None
            if isinstance(child, nn.Conv3d):
                size = (
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size[1:],
                    child.stride[1:],
                    child.padding[1:],
                )
                made = nn.Conv2d(*size, bias=child.bias is not None)  # type: ignore[arg-type]
            elif isinstance(child, nn.BatchNorm3d):
                made = nn.BatchNorm2d(child.num_features)
                nn.init.uniform_(made.running_var, 0.5, 2.0)  # type: ignore[arg-type]
                nn.init.normal_(made.running_mean)  # type: ignore[arg-type]
            elif isinstance(child, nn.MaxPool3d):
                made = nn.MaxPool2d(3, 2, 1)
            elif isinstance(child, nn.AdaptiveAvgPool3d):
                made = nn.AdaptiveAvgPool2d(1)
            elif isinstance(child, Average):
                made = nn.AvgPool2d(2)
            if made is not None:
                setattr(parent, key, made)
    torch.save(network.state_dict(), path)
    return network.eval()


@pytest.mark.parametrize("name", ["r3d10", "densenet121"])
def test_a_teacher_is_the_network_of_images(name: str, tmp_path: Path) -> None:
    """Its features are the mean over the frames of what the classifier of the 2-D network takes, of frames normalised as ImageNet's."""
    with shallow():
        network = image_weights(tmp_path / "images.pth", name, width=0.125)
        recipe = Recipe(clip=(3, 40, 34), mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
        teacher = Teacher(name, tmp_path / "images.pth", recipe)
    pixels = torch.rand(2, 3, 3, 40, 34)
    as_recipe, as_images = (
        (pixels - torch.tensor(mean).view(1, 3, 1, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1, 1)
        for mean, std in ((recipe.mean, recipe.std), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    )
    with torch.no_grad():
        expected = torch.stack([network.features(as_images[:, :, t]) for t in range(3)]).mean(0)  # type: ignore[operator]
    torch.testing.assert_close(teacher(as_recipe), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_teacher_does_not_change_by_a_bit(foreign: bool, tmp_path: Path) -> None:
    """Neither weights nor statistics; and it is not part of what is trained and saved."""
    image_weights(tmp_path / "images.pth", width=0.0625)
    task: Task = Correspond("networks:Images") if foreign else Correspond("r3d10", tmp_path / "images.pth")
    recipe = Recipe(clip=(2, 12, 12), batch_size=4)
    task = task.of(recipe)
    module: Any = task.around(create_model("r3d10", 4, width=0.0625, max_pool=False), recipe).train()
    teacher = module._teacher[0]
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    assert not any("teacher" in key for key in module.state_dict())
    sizes = [(each.in_features, each.out_features) for each in module.modules() if isinstance(each, nn.Linear)]
    assert sizes[-3:] == [(2 * teacher.features, 512), (512, 128), (128, 2)] and (32, teacher.features) in sizes
    assert teacher(torch.randn(5, 3, 20, 12, 12)).shape == (5, teacher.features)  # more frames than go through at once
    optimizer = torch.optim.SGD(module.parameters(), 0.1, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        inputs, targets = task.prepare(torch.randn(4, 3, 2, 12, 12), None, samples(4, epoch=step))
        outputs = module.train()(inputs)
        assert outputs.shape == (4, 2, 2)
        task.loss(outputs, targets).backward()
        assert all((p.grad is not None) == p.requires_grad for p in module.parameters())
        optimizer.step()
    after = teacher.state_dict()
    assert len(before) > 5 and all(torch.equal(value, after[key]) for key, value in before.items())


def test_pairs_count_alike() -> None:
    """One positive and one negative for each clip, which is a guess where the batch has no other video."""
    task = Correspond()
    sure = torch.tensor([[[-9.0, 9.0], [9.0, -9.0]], [[9.0, -9.0], [9.0, -9.0]]])  # all right; the positive pair wrong
    assert (
        task.score(sure, torch.tensor([1, 0])).item() == 1.5 and task.score(sure, torch.tensor([1, -1])).item() == 1.5
    )
    assert task.loss(sure, torch.tensor([1, 0])).item() == pytest.approx(9, abs=1e-3)
    assert task.loss(sure, torch.tensor([1, -1])).item() == pytest.approx(math.log(2), abs=1e-3)
    positive = torch.tensor(
        [[[-9.0, 9.0], [-9.0, 9.0]]]
    )  # whatever the batch is, to take all for positive is no better
    assert task.score(positive, torch.tensor([0])).item() == task.score(positive, torch.tensor([-1])).item() == 0.5
    guess = torch.zeros(3, 2, 2)
    assert task.loss(guess, torch.tensor([1, 0, -1])).item() / 3 == pytest.approx(task.chance(guess)["loss"])


@pytest.mark.parametrize(
    ("teacher", "kind", "what"),
    [
        ("c3d", ArgumentError, r"`teacher` \(='c3d'\) is a network for clips without one for images"),
        ("torch.nn:Identity", ArgumentError, "`teacher` .*has neither a torch.nn.Linear"),
        ("test_pretext:Foreign", ArgumentError, "`teacher` .*does not take images of 12 x 12"),
        ("densenet121", MissingError, "torchvision, which is not installed.*give a file of weights"),
    ],
)
def test_a_teacher_without_features_is_named(teacher: str, kind: type[Exception], what: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(kind, match=what):
        Correspond(teacher).of(Recipe(clip=(2, 12, 12)))


class Foreign(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Conv3d(3, 5, 3, padding=1)
        self.fc = nn.Linear(5, num_classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(clips).mean((2, 3, 4)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["r3d10", "alexnet3d", "foreign"])
def test_a_trunk_is_what_comes_below_the_classifier(name: str) -> None:
    small = {"r3d10": {"width": 0.125}, "alexnet3d": {"width": 0.0625, "pooled": 2}}
    clip = (8, 63, 63) if name == "alexnet3d" else (4, 16, 16)
    network = Foreign(4) if name == "foreign" else create_model(name, 4, **small[name])
    trunk = Trunk(network, clip).train()
    features = trunk(torch.rand(2, 3, *clip))
    assert (
        features.shape == (2, trunk.features) and trunk.features == {"r3d10": 64, "alexnet3d": 64, "foreign": 5}[name]
    )
    features.square().sum().backward()
    above = ("fc", "bn1", "bn2") if name == "alexnet3d" else ("fc",)
    for key, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (not key.startswith(above)), key


NET = ("--model", "r3d10", "--model-option", "width=0.0625", "--epochs", "1")
SIZE = ("--shape", "6x16x16", "--divisions", "1", "--categories", "2", "--instances", "4", "--noise-terms", "0")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes of real videos, one of which is shorter than the window; what is in the folder of one class has no labels."""
    rng = np.random.default_rng(0)
    for name, i in itertools.product("ab", range(4)):
        frames = rng.integers(0, 256, (12 if (name, i) != ("a", 0) else 5, 24, 24, 3), dtype=np.uint8)
        jpegs(tmp_path / "clips" / name / str(i), frames)
    return tmp_path / "clips"


def test_the_command_line_learns_without_labels_and_finetune_begins_with_it(
    run: Run, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real videos without labels; and on rendered ones, with the options of a task in place."""
    small = ("--clip", "3x16x16", "--batch-size", "2", "--dataset", "folder", "--num-workers", "0")
    done = run("train", "pre", "--task", "order", "--wrong", "swap", "--window", "9", *NET, *small, "--root", "clips/a")
    assert done.code == 0 and "could not be read, or not whole: 1, of which 1 too short" in done.err, done.err
    assert re.search(r"accuracy [0-9.]+% \(chance: 16.7%\)", done.out), done.out
    assert "5 frames, and 9 are needed" in Path("pre/failures.json").read_text()
    state, about = read_weights("pre/weights.safetensors")
    assert about["task"] == {"name": "order", "wrong": "swap", "window": 9, "odd_clips": 6, "frames": 3, "seed": 0}
    assert about["chance"]["accuracy"] == pytest.approx(1 / 6) and "fc.weight" in state
    assert about["classes"] == [] and about["source"]["val_fraction"] == 1 / 16
    tuned = run("finetune", "fine", "--init-from", "pre", *NET[4:], *small, "--root", "clips", "--val-fraction", "0.4")
    assert tuned.code == 0, tuned.err
    pieces = ("--task", "puzzle", "--gap", "2", "--gap-frames", "0", "--grid", "space", "--clip", "3x6x6")
    puzzled = run("train", "pieces", *pieces, *NET, "--batch-size", "4", *SIZE)
    assert puzzled.code == 0, puzzled.err
    assert read_weights("pieces/weights.safetensors")[1]["task"]["piece"] == [3, 6, 6]
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("my_images.py").write_text("from networks import Images")  # code is looked for where the command is given
    frames = ("--task", "correspond", "--teacher", "my_images:Images", "--clip", "3x16x16", "--frame-step", "1")
    taught = run("train", "taught", *frames, *NET, "--batch-size", "4", *SIZE)
    assert taught.code == 0 and "accuracy" in taught.out, taught.err
    assert len(read_weights("taught/weights.safetensors")[1]["task"]["teacher_sha256"]) == 64
    future = ("--task", "reconstruct", "--target", "future", "--clip", "3x16x16")
    redrawn = run("train", "redrawn", *future, *NET, "--batch-size", "4", *SIZE)
    assert redrawn.code == 0 and "explained" in redrawn.out, redrawn.err
    again = run("train", "pre", "--format", "json")  # a run goes on with the options of its task
    assert again.code == 0 and "--task order --wrong swap --window 9" in again.err, again.err
    assert again.json["chance"]["accuracy"] == about["chance"]["accuracy"]
    assert run("train", "pre", "--wrong", "swap").code == 0
    other = run("train", "pre", "--task", "puzzle", "--grid", "time")
    assert other.code == 3 and "task.name: order there, puzzle here" in other.err, other.err
    mixed = run("train", "pre", "--task", "puzzle", "--wrong", "swap")
    assert mixed.code == 2 and "`--wrong` (='swap') is of --task order, and the task is puzzle" in mixed.err
    code = run("train", "taught")
    assert code.code == 3 and "give --teacher my_images:Images if you trust it" in code.err, code.err
    assert run("train", "taught", "--teacher", "my_images:Images").code == 0


def test_pictures_of_tasks(run: Run, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = (
        "--gap",
        "20",
        "--grid",
        "space",
        "--clip",
        "3x6x6",
        "--gap-frames",
        "0",
    )  # than the videos: they are enlarged
    drawing = run("figure", "task", "puzzle", *wide, *SIZE, "-o", "pieces.png")
    assert drawing.code == 0 and Image.open("pieces.png").size[1] > 4 * 96, drawing.err
    real = ("--dataset", "folder", "--root", clips / "a")
    assert run("figure", "task", "order", "--window", "9", "--clip", "3x8x8", *real).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(
            "vpngen.tasks.correspond.Teacher", None
        )  # frames are drawn as they are: its weights may lie elsewhere
        assert run("figure", "task", "correspond", "--clip", "3x8x8", *real).code == 0


def test_help_shows_the_defaults_of_a_task(run: Run) -> None:
    text = " ".join(run("train", "--task", "order", "--help").out.split())
    for part in (
        "shown are those of --task order",
        "warm-up. [default: 0.0001]",
        "[default: 8x224x224]",
        "With --task order",
    ):
        assert part in text, part
    assert "shown are those of wacv2022" in " ".join(run("train", "--help").out.split())


CANNOT = {
    # vpngen ...: exit code, what is said
    "train out --wrong swap": (2, "No such option '--wrong'"),
    "train order --wrong swap": (2, "No such option '--wrong'"),
    "train out --task order --segments 2": (2, "`--segments` (=2) are of videos that are classified"),
    "train out --task order --clip 21x16x16": (2, "`--clip` (=21) must be 2 to 20 frames"),
    "train out --task order --wrong swap --window 2": (2, "`--window` (=2) must be an integer from 3"),
    "train out --val-fraction 0.5": (2, "`--val-fraction` (=0.5) is of real videos: give --dataset"),
    "train out --task order --clip 3x8x8": (2, "`--window` (=20) makes order take 20 frames of each video, and they have 6"),
    "train out --task order --clip 3x8x8 --window 4 --frame-step 2": (2, "7 frames of each video, and they have 6; give a smaller `window` or `frame_step`"),
    "train out --task puzzle --clip 2x8x8": (2, "`--clip` (=(2, 8, 8)) makes puzzle take 24 frames of each video, and they have 6; give a smaller `clip` or `gap_frames`"),
    "train out --task reconstruct --target future --clip 4x8x8": (2, "`--clip` (=(4, 8, 8)) makes reconstruct take 8 frames of each video"),
    "figure task puzzle --clip 2x8x8": (2, "makes puzzle take 24 frames of each video, and they have 6"),
    "figure task correspond --clip 4x8x8": (2, "makes correspond take 7 frames of each video, and they have 6; give a smaller `clip` or `frame_step`"),
    "train out --task puzzle --grid space --gap-frames 0 --model c3d --clip 2x80x80": (2, "`--clip`"),
    "train out --dataset folder --root clips/a": (3, "the videos in clips/a have no labels"),
    "finetune out --dataset folder --root clips/a": (3, "the videos in clips/a have no labels"),
    "figure task classify --dataset folder --root clips/a": (3, "the videos in clips/a have no labels"),
    "train out --task order --window 13 --clip 3x8x8 --dataset folder --root clips/a": (1, "3 are too short, so take fewer frames of each (a shorter clip or window), or longer videos"),
    "train out --task correspond --teacher networks:Images --clip 3x8x8 --dataset folder --root clips/a": (2, "`--val-fraction` (=0.0625) leaves 1 video to train or to validate on, and correspond needs 2"),
    "train out --task correspond --teacher r3d10 --teacher-weights kernels.pth": (2, "`--teacher-weights` (='kernels.pth') has kernels in time, and is no network for images"),
}  # fmt: skip


@pytest.mark.parametrize("words", CANNOT)
def test_what_cannot_be_learned_from_is_said(words: str, run: Run, request: pytest.FixtureRequest) -> None:
    code, what = CANNOT[words]
    if "kernels" in words:
        torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7, 7)}, "kernels.pth")
    if "clips" in words:
        request.getfixturevalue("clips")
    more = ("--batch-size", "2", "--num-workers", "0", *(() if "--model" in words else NET)) * ("figure" not in words)
    wrong = run(*words.split(), *more, *(() if "clips" in words else SIZE))
    assert (wrong.code, Path("out").exists(), wrong.err.count("Error")) == (code, code == 1, 1), wrong.err
    assert what in wrong.err, wrong.err


def test_a_rendered_store_too_short_is_said_too(run: Run) -> None:
    assert run("render", "s.zarr", *SIZE, "--codec", "none").code == 0
    wrong = run("train", "out", "--store", "s.zarr", "--task", "order", "--window", "7", "--clip", "3x8x8", *NET)
    assert wrong.code == 2 and not Path("out").exists()
    assert (
        "`--window` (=7) makes order take 7 frames of each video, and they have 6; give a smaller `window`" in wrong.err
    )


@pytest.mark.parametrize(
    ("wrong", "generator", "least", "most"),
    [("shuffle", "perlin", 0.8, 1.0), ("reverse", "perlin", 0.3, 0.7), ("reverse", "fractal", 0.85, 1.0)],
)
def test_what_can_be_learned(wrong: str, generator: str, least: float, most: float) -> None:
    """Of two clips one is shuffled, or backward: fractals grow, but Perlin noise is the same forward and backward."""
    size: dict[str, Any] = {"categories": 4, "instances": 64, "val_instances": 16}
    if generator == "perlin":  # of many frames, so that where the lattice lies in a clip says nothing of its direction
        spec = vpngen.perlin(**size, shape=(44, 16, 16), divisions=[1, 2], noise_terms=0)
    else:
        spec = vpngen.fractal(**size, shape=(12, 16, 16), points_per_frame=10)
    task = Order(wrong=wrong, window=12, odd_clips=2)
    assert least < learned(task, spec, (8, 14, 14), lr=0.008, epochs=4 if generator == "fractal" else 5) <= most


def learned(task: Task, spec: vpngen.Spec, clip: tuple[int, int, int], batch_size: int = 32, **options: Any) -> float:
    """The first metric that a small network comes to on the val clips of a set."""
    torch.manual_seed(0)
    model = create_model("r3d10", 4, width=0.0625, max_pool=False)
    recipe = Recipe(
        optimizer="adamw", weight_decay=0.01, batch_size=batch_size, clip=clip, augment="random", schedule="cosine", **options
    )  # fmt: skip
    how: dict[str, Any] = {"clip": task.of(recipe).shape(recipe), "device": "cpu", "threads": 1, "numbers": True}
    train = vpngen.loader(spec, batch_size, augment="random", drop_last=True, **how)
    val = vpngen.loader(spec, batch_size, split="val", length=128, augment="random", **how)
    found: float = fit(model, train, val, recipe, task=task, device="cpu")[-1][f"val_{task.metrics[0]}"]
    return found


@pytest.mark.parametrize("grid", ["space", "time"])
def test_puzzles_of_growing_fractals_are_learned(grid: str) -> None:
    """Chance is 0.042."""
    piece, size = {"space": ((2, 8, 8), (16, 20, 20)), "time": ((2, 12, 12), (12, 14, 14))}[grid]
    more: dict[str, Any] = {"points_per_frame": 20} if grid == "space" else {"points_per_frame": 3, "pad": 1}
    spec = vpngen.fractal(4, 64, val_instances=16, shape=size, **more)
    task = Puzzle(grid=grid, gap=2 * (grid == "space"), gap_frames=1, jitter=False, replicate=False, rotation="none")
    assert learned(task, spec, piece, lr=0.01, epochs=3 if grid == "space" else 5) > 0.4


def test_clips_are_drawn_again_from_their_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better than by the mean picture of the set, which needs no features; the decoder is small."""
    monkeypatch.setattr("vpngen.tasks.reconstruct.CHANNELS", (16, 12, 8))
    spec = vpngen.fractal(4, 64, val_instances=16, shape=(8, 10, 10), points_per_frame=5, pad=1)
    task = Reconstruct().of(Recipe(clip=(4, 8, 8)))
    how: dict[str, Any] = {"device": "cpu", "threads": 1, "augment": "random"}
    clips, _ = next(iter(vpngen.loader(spec, 64, split="val", clip=(4, 8, 8), **how)))
    _, (wanted, weight) = task.prepare(clips.float() / 127.5 - 1, None, samples(64))
    picture = wanted.mean(0, keepdim=True).expand_as(wanted)
    mean = float(task.score(picture, (wanted, weight))) / 64
    assert learned(task, spec, (4, 8, 8), batch_size=16, lr=0.01, epochs=5) > mean + 0.03 > 0.05

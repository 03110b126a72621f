"""Every task that needs no labels, with a network of vpngen: runs that go on, ranks and workers change nothing.

One list for all: a new task is a line in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from filming import jpegs
from pairs import two_ranks
from torch import nn

import vpngen
from vpngen.datasets import VideoLoader, read_videos
from vpngen.models import create_model
from vpngen.tasks import Correspond, Order, Puzzle, Reconstruct, Task
from vpngen.train import Recipe, StoppedError, fit, ranks

TASKS: Final[dict[str, tuple[Task, tuple[int, int, int]]]] = {
    "order": (Order(window=8, odd_clips=3), (3, 12, 12)),
    "puzzle": (Puzzle(grid="space-time", gap=2, gap_frames=0), (2, 4, 4)),
    "reconstruct": (Reconstruct(target="hole"), (8, 12, 12)),
    "correspond": (Correspond(teacher="networks:Images"), (8, 12, 12)),
}
"""Name -> a task and the clip of its network. All take windows of 8 x 12 x 12."""
WINDOW: Final = (8, 12, 12)
SPEC: Final = vpngen.perlin(4, 6, val_instances=1, shape=(10, 16, 16), divisions=[4, 8], noise_terms=0)


def recipe_of(name: str, optimizer: str = "adamw") -> Recipe:
    lr = 0.001 if optimizer == "adamw" else 0.01
    return Recipe(optimizer=optimizer, lr=lr, batch_size=8, epochs=2, clip=TASKS[name][1], weight_decay=0)


def run(
    name: str, out: Path | None = None, batch_size: int = 8, optimizer: str = "adamw", **options: Any
) -> dict[str, np.ndarray]:
    """Train a small network by a task; its weights, and what the epochs came to."""
    recipe, task = recipe_of(name, optimizer), TASKS[name][0]
    torch.manual_seed(0)
    network = create_model("r3d10", 4, width=0.0625, max_pool=False)
    how: dict[str, Any] = {"clip": task.of(recipe).shape(recipe), "device": "cpu", "threads": 1, "numbers": True}
    train = vpngen.loader(SPEC, batch_size, augment="random", drop_last=True, **how)
    val = vpngen.loader(SPEC, 4 * batch_size // 8, split="val", shuffle=False, **how)
    rows = fit(network, train, val, recipe, task=task, out=out, device="cpu", **options)
    found = {key: value.numpy() for key, value in network.state_dict().items()}
    return found | {"rows": np.array([[row["train_loss"], row["val_loss"]] for row in rows])}


def after(steps: int) -> Callable[[], bool]:
    left = iter(range(steps))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("name", TASKS)
def test_a_stop_within_an_epoch_changes_nothing(name: str, tmp_path: Path) -> None:
    whole = run(name)
    with pytest.raises(StoppedError, match="stopped after step 3"):
        run(name, tmp_path, should_stop=after(3))
    resumed = run(name, tmp_path)
    assert all(np.array_equal(value, resumed[key]) for key, value in whole.items())


RANK = """
import sys
from pathlib import Path
from tests.test_task_runs import trained
trained(Path(sys.argv[1]), 4)
"""


def trained(out: Path, batch_size: int) -> None:
    """Train by each task, and keep what came of it.

    Batch normalization stays as in evaluation: the batch that it would be shown is another one on each rank.
    """
    with pytest.MonkeyPatch.context() as patch, ranks.joined("cpu", timeout=60):
        still: Any = lambda module, mode=True: nn.Module.train(module, False)  # noqa: E731
        patch.setattr(nn.modules.batchnorm._BatchNorm, "train", still)
        for name in TASKS:
            found = run(name, batch_size=batch_size, optimizer="sgd")
            if ranks.is_main():
                np.savez(out / f"{name}-{batch_size}.npz", **found)  # type: ignore[arg-type]


def test_two_ranks_are_one(tmp_path: Path) -> None:
    for rank in two_ranks(RANK, tmp_path):
        assert rank.code == 0, rank.err
    trained(tmp_path, 8)
    torch.manual_seed(0)
    begun = create_model("r3d10", 4, width=0.0625, max_pool=False).state_dict()
    for name in TASKS:
        two, one = (np.load(tmp_path / f"{name}-{batch_size}.npz") for batch_size in (4, 8))
        for key in one:
            np.testing.assert_allclose(two[key], one[key], rtol=1e-4, atol=2e-6, err_msg=f"{name} {key}")
        moved = max(float(np.abs(one[key] - value.numpy()).max()) for key, value in begun.items())
        assert moved > 1e-5, name


def test_the_numbers_of_samples_decide(tmp_path: Path) -> None:
    """And neither workers nor ranks, nor the batch that a sample is in; the videos have no labels."""
    noise = np.random.default_rng(0)
    for i in range(8):
        jpegs(tmp_path / f"{i}", noise.integers(0, 256, (10, 14, 14, 3), dtype=np.uint8))
    videos = read_videos("folder", tmp_path)

    def batches(batch_size: int, **options: Any) -> list[Any]:
        loader = VideoLoader(videos, batch_size, clip=WINDOW, augment="random", numbers=True, **options)
        loader.set_epoch(1)
        return list(loader)

    whole = batches(4)
    assert all(labels is None for _, labels, _ in whole)
    by_workers = batches(4, num_workers=2)
    by_ranks = [
        [torch.cat(pair) for pair in zip(one[::2], two[::2], strict=True)]
        for one, two in zip(*(batches(2, rank=rank, world_size=2) for rank in range(2)), strict=True)
    ]
    for name, (task, _) in TASKS.items():
        recipe = recipe_of(name)
        task = task.of(recipe)
        assert task.shape(recipe) == WINDOW

        def prepared(clips: torch.Tensor, numbers: torch.Tensor, task: Task = task) -> list[torch.Tensor]:
            inputs, targets = task.prepare(clips.float() / 255, None, numbers)
            if task.name == "correspond":  # each clip, and the one whose frames it is told from
                return [inputs[0], inputs[0][targets]]
            return [inputs, *(targets if isinstance(targets, tuple) else (targets,))]

        def joined(parts: list[Any]) -> list[torch.Tensor]:
            return [torch.cat(some) for some in zip(*(prepared(*part) for part in parts), strict=True)]

        expected = joined([(clips, numbers) for clips, _, numbers in whole])
        for found in (joined([(clips, numbers) for clips, _, numbers in by_workers]), joined(by_ranks)):
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)), name
        other = joined([(clips, numbers + 1) for clips, _, numbers in whole])
        assert not all(torch.equal(a, b) for a, b in zip(expected, other, strict=True)), name

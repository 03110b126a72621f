"""The door for tasks: one that is defined here, without labels, trains, and goes on after a stop; tests/test_task_runs.py has ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import vpngen
from vpngen import ArgumentError, ConflictError, Recipe, fit, rng
from vpngen.models import read_weights
from vpngen.tasks import Classify, Task
from vpngen.train import StoppedError

CLIP = (2, 12, 12)
SPEC = vpngen.perlin(categories=4, instances=12, val_instances=2, shape=(24, 48, 48), divisions=[1, 2])
RECIPE = Recipe(optimizer="adamw", lr=0.1, batch_size=8, epochs=6, clip=CLIP, weight_decay=0)


@dataclass(frozen=True)
class Brighter(Task):
    """Which half of a clip is brighter, left (0) or right (1); the clip is mirrored at random."""

    name: ClassVar[str] = "brighter"
    metrics: ClassVar[tuple[str, ...]] = ("right", "sure")
    needs_numbers: ClassVar[bool] = True
    seed: int = 0

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(network, nn.Linear(6, 2))

    def prepare(
        self, clips: torch.Tensor, labels: torch.Tensor | None, numbers: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert labels is None and numbers is not None and clips.shape[1:] == (3, *CLIP)
        mirrored = torch.from_numpy(rng.choose(self.words(self.seed, numbers)[:, 0], 2) == 1)
        shown = torch.where(mirrored[:, None, None, None, None], clips.flip(-1), clips)
        left, right = (half.mean((1, 2, 3, 4)) for half in shown.chunk(2, -1))
        return shown, (right > left).long()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs.float(), targets, reduction="sum")

    def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        right = outputs.argmax(1) == targets
        return torch.stack([right.sum(), (outputs.softmax(1).amax(1) > 0.75).sum()])

    def chance(self, outputs: torch.Tensor) -> Mapping[str, float]:
        return {"loss": float(np.log(2)), "right": 0.5, "sure": 0.0}


class Unlabelled:
    """The loader of a stream, without its labels."""

    def __init__(self, split: str = "train", batch_size: int = 8, **options: Any) -> None:
        how = {"augment": "none", "shuffle": False} if split == "val" else {"drop_last": True}
        self.loader = vpngen.loader(
            SPEC, batch_size, clip=CLIP, split=split, device="cpu", threads=1, **{"numbers": True, **how, **options}
        )
        self.set_epoch, self.state_dict = self.loader.set_epoch, self.loader.state_dict
        self.load_state_dict = self.loader.load_state_dict

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return ((clips, None, *numbers) for clips, _, *numbers in self.loader)


def trunk() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 3, 1), nn.AdaptiveAvgPool3d((1, 1, 2)), nn.Flatten())


def run(
    out: Path | None = None, task: Task = Brighter(), batch_size: int = 8, **options: Any
) -> tuple[nn.Module, list[dict[str, Any]]]:
    network = trunk()
    train, val = Unlabelled(batch_size=batch_size), Unlabelled("val", batch_size)
    return network, fit(network, train, val, RECIPE, task=task, out=out, device="cpu", **options)


def after(steps: int) -> Callable[[], bool]:
    left = iter(range(steps))
    return lambda: next(left, None) is None


def test_it_trains_and_the_trunk_is_kept(tmp_path: Path) -> None:
    network, rows = run(tmp_path)
    assert list(rows[0]) == [
        "epoch", "step", "lr", "train_loss", "train_right", "val_loss", "val_right", "val_sure", "clips_per_second",
        "data_wait", "seconds",
    ]  # fmt: skip
    assert rows[0]["train_loss"] > 0.6 > 0.45 > rows[-1]["train_loss"] and rows[-1]["val_right"] > 0.8
    state, about = read_weights(tmp_path / "weights.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    assert about["task"] == {"name": "brighter", "seed": 0} and about["chance"]["right"] == 0.5
    again, same = run(tmp_path)  # it is finished, and its module is restored
    assert same == rows and all(
        torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True)
    )


def test_a_stop_within_an_epoch_changes_nothing(tmp_path: Path) -> None:
    """And the draws matter: with another seed, or the same in each epoch, it would be another run."""
    whole, rows = run()
    with pytest.raises(StoppedError):
        run(tmp_path, should_stop=after(9))
    parts, resumed = run(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert [row["val_loss"] for row in rows] == [row["val_loss"] for row in resumed]
    other, _ = run(task=Brighter(seed=1))
    assert not torch.equal(next(whole.parameters()), next(other.parameters()))


def test_parts_of_a_batch_draw_as_the_batch() -> None:
    whole, _ = run()
    parts, _ = run(grad_accum_steps=3)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_draws_belong_to_the_samples() -> None:
    numbers = torch.tensor([[0, 1], [1, 0], [0, 0], [0, 1 + 2**32], [2, 5]])
    words = Task.words(3, numbers)
    assert words.dtype == np.uint32 and words.shape == (5, 4) and len(np.unique(words)) == 20
    assert np.array_equal(Task.words(3, numbers[[2, 0]]), words[[2, 0]])
    for seed, draw in ((4, 0), (3 + 2**40, 0), (3, 1)):
        assert not (Task.words(seed, numbers, draw) == words).any()


def test_what_a_task_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`train` gives no sample numbers.*numbers=True"):
        fit(trunk(), Unlabelled(numbers=False), None, RECIPE, task=Brighter(), device="cpu")
    with pytest.raises(ArgumentError, match="`val` gives no sample numbers"):
        fit(trunk(), Unlabelled(), Unlabelled("val", numbers=False), RECIPE, task=Brighter(), device="cpu")
    with pytest.raises(ArgumentError, match="no labels"):
        fit(trunk(), Unlabelled(), None, RECIPE, task=Classify(), device="cpu")


def test_another_task_in_the_folder_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, should_stop=after(2))
    for task, what in (
        (Brighter(seed=1), "task.seed: 0 there, 1 here"),
        (Classify(), "task.name: brighter there, classify"),
    ):
        with pytest.raises(ConflictError, match=what):
            run(tmp_path, task)

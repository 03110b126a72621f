"""`fit`: what it learns, what it writes, and that a run that was stopped anywhere ends as one that was not."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import two_ranks
from torch import nn

import vpngen
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
from vpngen.models import freeze, read_weights
from vpngen.models.initial import try_recipe
from vpngen.stream.waiting import arrived
from vpngen.tasks import Classify
from vpngen.train import Progress, Recipe, StoppedError, fit
from vpngen.train.checkpoint import CHECKPOINT, alone
from vpngen.train.fitting import columns, normalised

CLIP = (4, 16, 16)
SPEC = vpngen.perlin(categories=4, instances=12, val_instances=2, shape=(24, 48, 48), divisions=[1, 12])
TIMES = ("clips_per_second", "data_wait", "seconds")
FORK = multiprocessing.get_context("fork")
METADATA = {
    "model": {"name": "tests:net", "options": {}, "num_classes": 4},
    "seed": 0,
    "stage": "train",
    "parent": None,
}


def net(classes: int = 4, *, norm: type[nn.Module] = nn.BatchNorm3d, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(5)
    middle = nn.GroupNorm(2, 6) if norm is nn.GroupNorm else norm(6)
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, stride=(1, 2, 2)), middle, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout),
        nn.Linear(6, classes),
    )  # fmt: skip


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"lr": 0.05, "batch_size": 8, "epochs": 3, "lr_patience": 1, "clip": CLIP, **changes})


def clips(split: str = "train", batch: int = 8, **options: Any) -> Any:
    how = {"augment": "none", "shuffle": False} if split == "val" else {"drop_last": True}
    return vpngen.loader(SPEC, batch, clip=CLIP, split=split, device="cpu", threads=1, **{**how, **options})


class Batches:
    """Clips in memory, the same each epoch."""

    def __init__(self, *batches: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.batches, self.at = batches, (0, 0)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        epoch, first = self.at
        for i in range(first, len(self)):
            self.at = (epoch, i + 1)
            yield self.batches[i]
        self.at = (epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        self.at = (epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.at[0], "sample": self.at[1]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.at = (state["epoch"], state["sample"])


def after(steps: int) -> Callable[[], bool]:
    """`should_stop` that says yes from that step on."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def table(out: Path) -> list[dict[str, str]]:
    """log.csv without the columns of times."""
    with (out / "log.csv").open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def board(out: Path) -> Any:
    """What TensorBoard reads, file by file as they were written: their names tell runs of one second apart by chance."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as ordered:
        files = sorted((out / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for i, path in enumerate(files):
            shutil.copy(path, Path(ordered) / f"events.out.tfevents.{i:04d}")
        events = EventAccumulator(ordered)
        events.Reload()
    return events


def steps_on_board(out: Path) -> list[int]:
    return [event.step for event in board(out).Scalars("step/loss")]


def run(
    out: Path | None, should_stop: Callable[[], bool] | None = None, **options: Any
) -> tuple[nn.Module, list[dict[str, Any]]]:
    model = options.pop("model", None) or net()
    how = {"recipe": recipe(), "device": "cpu", "metadata": METADATA, **options}
    train, val = how.pop("train", None) or clips(), how.pop("val", False)
    rows = fit(
        model, train, clips("val") if val is False else val, how.pop("recipe"), out=out, should_stop=should_stop, **how
    )
    return model, rows


# --- what it does


def test_a_network_of_the_paper_learns_a_few_clips_by_heart() -> None:
    rng = np.random.default_rng(0)
    shown = torch.from_numpy(rng.integers(0, 256, (8, 3, 8, 32, 32), np.uint8))
    labels = torch.arange(8) % 4
    torch.manual_seed(0)
    model = vpngen.create_model("r3d10", 4, width=0.125)
    few = Batches((shown, labels))
    rows = fit(model, few, None, recipe(lr=0.1, epochs=25, lr_patience=25, weight_decay=0), device="cpu")
    assert rows[0]["train_loss"] > 1 and rows[-1]["train_loss"] < 0.05 and rows[-1]["train_top1"] == 1
    model.eval()


def test_a_row_says_what_an_independent_loop_finds() -> None:
    """One epoch against a loop of its own, without momentum's memory, chunks or late sums."""
    model, (row,) = run(None, recipe=recipe(epochs=1, lr=0.03), model=net(dropout=0.0))
    twin = net(dropout=0.0)
    optimiser = torch.optim.SGD(twin.parameters(), 0.03, 0.9, weight_decay=1e-3)
    losses, right = [], 0
    for shown, labels in clips():
        logits = twin((shown.float() / 255 - 0.5) / 0.5)
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        right += int((logits.argmax(1) == labels).sum())
    twin.eval()
    with torch.no_grad():
        logits, named = (
            torch.cat(v) for v in zip(*[(twin((c.float() / 255 - 0.5) / 0.5), n) for c, n in clips("val")], strict=True)
        )
    assert row["epoch"] == 1 and row["step"] == 6 and row["lr"] == 0.03
    assert row["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert row["train_top1"] == right / 48
    assert row["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, named).item(), rel=1e-4)
    assert row["val_top1"] == (logits.argmax(1) == named).double().mean().item()
    assert row["val_top5"] == 1  # of four classes
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("parts", [3, 100])
def test_a_batch_in_parts_is_the_batch(parts: int) -> None:
    """Where no layer looks at a whole batch."""
    whole, rows = run(None, model=net(norm=nn.GroupNorm, dropout=0))
    model, again = run(None, grad_accum_steps=parts, model=net(norm=nn.GroupNorm, dropout=0))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    assert [r["train_top1"] for r in rows] == [r["train_top1"] for r in again]


@pytest.mark.parametrize(
    ("size", "parts", "last", "match"),
    [
        (
            1,
            1,
            1,
            r"^`batch_size` \(=1\) leaves each rank one clip: of one clip of 8x32x32 batch normalization has a single",
        ),
        (1, 5, 1, r"^`batch_size` \(=1\) leaves each rank one clip"),
        (
            4,
            4,
            4,
            r"^`grad_accum_steps` \(=4\) cuts the 4 clips of a batch into parts of one.*; give 3 or less, or a larger",
        ),
        (4, 9, 4, r"^`grad_accum_steps` \(=9\) cuts the 4 clips of a batch into parts of one"),
        (5, 3, 5, r"^`grad_accum_steps` \(=3\) cuts the 5 clips of a batch into parts of one.*; give 2 or less"),
        (4, 1, 1, "^`train` ends an epoch with a batch of 1: of one clip.*; make it with drop_last=True$"),
        (4, 2, 2, ""),
        (7, 3, 7, ""),  # 3, 2, 2
        (10, 6, 10, ""),  # five of 2
    ],
)
def test_a_part_of_one_clip_is_too_small_for_batch_normalization(size: int, parts: int, last: int, match: str) -> None:
    shown, labels = torch.zeros((size, 3, 8, 32, 32), dtype=torch.uint8), torch.arange(size) % 4
    given = Batches((shown, labels), (shown[:last], labels[:last]))
    model, how = vpngen.create_model("r3d10", 4, width=0.125), recipe(epochs=1, batch_size=size, clip=(8, 32, 32))
    before, random = weights(model), torch.get_rng_state()
    freeze(model, 1)
    said = contextlib.nullcontext() if not match else pytest.raises(ArgumentError, match=match)
    with said if size == last else contextlib.nullcontext():  # before there is a first batch
        try_recipe(model, how, size, parts, torch.device("cpu"))
    assert same(weights(model), before) and torch.equal(torch.get_rng_state(), random)
    with said:
        fit(model, given, None, how, device="cpu", grad_accum_steps=parts)


@pytest.mark.parametrize(
    ("size", "parts", "match"),
    [
        (1, 1, r"^`batch_size` \(=1\) leaves each rank one clip.*; give at least two for each$"),
        (4, 4, r"^`grad_accum_steps` \(=4\) cuts the 4 clips of a batch into parts of one.*; give 3 or less$"),
    ],
)
def test_features_are_normalized_over_more_than_one_clip(size: int, parts: int, match: str) -> None:
    """Of any size: 3D-AlexNet averages what it normalizes. Evaluated, one is enough."""
    model, how = vpngen.create_model("alexnet3d", 4, width=0.0625), recipe(batch_size=size, clip=(8, 63, 63))
    with pytest.raises(ArgumentError, match=match):
        try_recipe(model, how, size, parts, torch.device("cpu"))
    assert model.eval()(torch.zeros(1, 3, 8, 63, 63)).shape == (1, 4)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_rate_is_lowered_after_so_many_epochs_without_a_better_loss(patience: int) -> None:
    still = Batches((torch.zeros((2, 3, *CLIP), dtype=torch.uint8), torch.tensor([0, 1])))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * math.prod(CLIP), 2))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model[1].weight.requires_grad_(False)  # equal classes: the loss is log 2 for ever
    rows = fit(model, still, still, recipe(epochs=8, batch_size=2, lr_patience=patience, lr_factor=0.5), device="cpu")
    assert [row["val_loss"] for row in rows] == pytest.approx([math.log(2)] * 8)
    assert [row["lr"] for row in rows] == [0.05 * 0.5 ** (max(0, epoch - 1) // patience) for epoch in range(8)]


def test_rates_of_schedules() -> None:
    """Against their formulas, over epochs of two steps."""
    halves = [k / 2 for k in range(8)]
    how: dict[str, Any] = {"lr": 0.8, "epochs": 4, "clip": CLIP}
    cosine = [0.4 * (1 + math.cos(math.pi * at / 4)) for at in halves]
    assert [Recipe(**how, schedule="cosine").rate(at) for at in halves] == pytest.approx(cosine)
    warm = Recipe(**how, schedule="cosine", warmup_epochs=1, warmup_lr=0.1)
    assert [warm.rate(at) for at in halves] == pytest.approx([0.1, (0.1 + cosine[2]) / 2, *cosine[2:]])
    steps = Recipe(**how, schedule="step", lr_steps=(3, 1), lr_factor=0.5)
    assert [steps.rate(at) for at in halves] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2])
    plateau = Recipe(**how, warmup_epochs=2)
    assert [plateau.rate(at) for at in halves] == [
        0,
        pytest.approx(0.2),
        0.4,
        pytest.approx(0.6),
        0.8,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "how",
    [
        {"schedule": "cosine", "warmup_epochs": 1, "optimizer": "adamw", "lr": 0.01},
        {"schedule": "step", "lr_steps": (2,), "nesterov": True},
        {"warmup_epochs": 1, "lr_factor": 0.5, "lr": 0.9},
    ],
)
def test_schedules_go_on_where_they_were(tmp_path: Path, how: dict[str, Any]) -> None:
    """Each step at its own rate, also of a run that was stopped in the warm-up, in an epoch and after one."""
    rates: list[float] = []
    plan = recipe(epochs=4, **how)
    whole, rows = run(None, recipe=plan, progress=lambda p: rates.append(p.lr) if p.phase == "train" else None)
    known = [plan.rate(k // 6 + k % 6 / 6) for k in range(24)]
    assert all(rate is None or rate == given for rate, given in zip(known, rates, strict=True))
    assert [row["lr"] for row in rows] == rates[5::6]
    for count in (2, 5, 6):
        with pytest.raises(StoppedError):
            run(tmp_path, after(count), recipe=plan)
    model, again = run(tmp_path, recipe=plan)
    assert same(weights(model), weights(whole)) and [r["lr"] for r in again] == [r["lr"] for r in rows]


def test_a_plateau_begins_after_the_warm_up() -> None:
    """Without a better loss for one epoch in a row, from the third on."""
    batch = torch.zeros((2, 3, *CLIP), dtype=torch.uint8), torch.tensor([0, 1])
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * math.prod(CLIP), 2)).requires_grad_(False)
    model[1].bias.requires_grad_(True)
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    how = recipe(epochs=5, batch_size=2, lr=0.8, lr_factor=0.5, warmup_epochs=2, weight_decay=0)
    rows = fit(model, Batches(batch, batch), None, how, device="cpu")
    assert [row["lr"] for row in rows] == pytest.approx([0.2, 0.6, 0.8, 0.8, 0.4])


def test_progress_tells_every_step_and_every_epoch() -> None:
    seen: list[Progress] = []
    _, rows = run(None, progress=seen.append)
    assert [(p.epoch, p.step) for p in seen if p.phase == "train"] == [(e, s) for e in (1, 2, 3) for s in range(1, 7)]
    assert [p.row for p in seen if p.phase == "done"] == rows
    assert all(p.epochs == 3 and p.lr > 0 and 0 <= p.data_wait <= 1 for p in seen)
    assert {p.phase for p in seen} == {"train", "val", "done"}


def test_bytes_become_numbers_around_zero() -> None:
    shown = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1, 1).expand(1, 3, 256, 1, 1)
    made = normalised(shown, torch.device("cpu"), (0.5, 0.4, 0.3), (0.5, 0.25, 1.0)).numpy()
    levels = np.arange(256) / 255
    for channel, (mean, std) in enumerate([(0.5, 0.5), (0.4, 0.25), (0.3, 1.0)]):
        np.testing.assert_allclose(made[0, channel, :, 0, 0], (levels - mean) / std, atol=1e-6)
    floats = torch.rand(2, 3, 4, 5, 6)
    assert torch.equal(normalised(floats, torch.device("cpu"), (0.5,) * 3, (0.5,) * 3), floats)


# --- files


def test_what_a_run_leaves(tmp_path: Path) -> None:
    model, rows = run(tmp_path)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {CHECKPOINT, "log.csv", "tensorboard", "weights.safetensors", "weights.pth"}
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        logged = list(csv.DictReader(file))
    assert tuple(logged[0]) == columns(Classify()) and [int(r["epoch"]) for r in logged] == [1, 2, 3]
    assert [float(r["val_loss"]) for r in logged] == pytest.approx([r["val_loss"] for r in rows], rel=1e-5)
    assert [e.value for e in board(tmp_path).Scalars("epoch/val_loss")] == pytest.approx([r["val_loss"] for r in rows])
    assert steps_on_board(tmp_path) == list(range(1, 19))
    for name in ("weights.safetensors", "weights.pth", CHECKPOINT):  # a checkpoint is as good as weights
        state, _ = read_weights(tmp_path / name)
        assert same({k: v.numpy() for k, v in state.items()}, weights(model))
    _, metadata = read_weights(tmp_path / "weights.safetensors")
    assert metadata["metrics"]["val_loss"] == pytest.approx(rows[-1]["val_loss"])
    assert {k: metadata[k] for k in METADATA} == METADATA


# --- going on

Whole = tuple[dict[str, np.ndarray], list[dict[str, str]]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped; not to be written to."""
    out = tmp_path_factory.mktemp("ended") / "run"
    run(out)
    return out


@pytest.fixture
def finished(ended: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(ended, tmp_path / "finished")


@pytest.fixture(scope="module")
def whole(ended: Path) -> Whole:
    """Weights and log of a run that nothing stopped."""
    state, _ = read_weights(ended / "weights.safetensors")
    return {name: value.numpy() for name, value in state.items()}, table(ended)


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


@pytest.mark.parametrize("steps", [[6], [16], [2, 6, 1]])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, whole: Whole, steps: list[int]) -> None:
    for count in steps:
        with pytest.raises(StoppedError, match="the same command goes on"):
            run(tmp_path / "parts", after(count))
    model, _ = run(tmp_path / "parts")
    assert same(weights(model), whole[0])
    assert table(tmp_path / "parts") == whole[1]
    run(tmp_path / "parts")  # finished: nothing is done again, and nothing is lost
    assert steps_on_board(tmp_path / "parts") == list(range(1, 19))
    assert [e.step for e in board(tmp_path / "parts").Scalars("epoch/val_loss")] == [6, 12, 18]


def test_a_stop_at_the_only_step_of_an_epoch(tmp_path: Path) -> None:
    one = Batches(next(iter(clips())))
    how: dict[str, Any] = {"device": "cpu", "metadata": METADATA}
    whole = net()
    fit(whole, one, one, recipe(), out=tmp_path / "whole", **how)
    for count in (0, 1, 2):  # before training, after the step of an epoch, after its validation
        with pytest.raises(StoppedError, match=r"stopped after step \d"):
            fit(net(), one, one, recipe(), out=tmp_path / "parts", should_stop=after(count), **how)
        assert len(table(tmp_path / "parts")) < 3
    model = net()
    fit(model, one, one, recipe(), out=tmp_path / "parts", **how)
    assert same(weights(model), weights(whole))
    assert table(tmp_path / "parts") == table(tmp_path / "whole")


def test_a_stop_in_validation_keeps_the_epoch(tmp_path: Path, whole: Whole) -> None:
    """Validation is asked after each of its batches; the epoch that was trained is not trained again."""
    seen: list[Progress] = []
    stop: list[bool] = []

    def watch(p: Progress) -> None:
        seen.append(p)
        stop[:] = [p.phase == "val"]

    with pytest.raises(StoppedError, match="of epoch 1 before validation"):
        run(tmp_path, lambda: bool(stop and stop[0]), progress=watch)
    assert [p.phase for p in seen] == ["train"] * 6 + ["val"]
    model, _ = run(tmp_path)
    assert same(weights(model), whole[0]) and table(tmp_path) == whole[1]


def test_a_validation_that_fails_keeps_the_epoch(tmp_path: Path, whole: Whole) -> None:
    val, phases = clips("val"), list[str]()
    broken = type("Broken", (type(val),), {"__iter__": lambda _: iter([None])})
    kind, val.__class__ = val.__class__, broken
    with pytest.raises(TypeError):
        run(tmp_path, val=val)
    val.__class__ = kind
    model, _ = run(tmp_path, val=val, progress=lambda p: phases.append(p.phase))
    assert phases[0] == "val" and same(weights(model), whole[0]) and table(tmp_path) == whole[1]


def test_a_finished_run_is_left_as_it_is_and_more_epochs_go_on(finished: Path, whole: Whole) -> None:
    longest, _ = run(None, recipe=recipe(epochs=4))
    again, rows = run(finished)
    assert same(weights(again), whole[0]) and [r["epoch"] for r in rows] == [1, 2, 3]
    content = torch.load(finished / CHECKPOINT)  # as from before there were such settings
    for name in ("lr_scales", "norm_decay", "frame_step", "segments", "consensus"):
        del content["settings"][f"recipe.{name}"]
    del content["optimizer"]["param_groups"][0]["lr_scale"]
    torch.save(content, finished / CHECKPOINT)
    longer, more = run(finished, recipe=recipe(epochs=4))
    assert same(weights(longer), weights(longest)) and [r["epoch"] for r in more] == [1, 2, 3, 4]


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, whole: Whole) -> None:
    """SIGKILL wherever it strikes, checkpoints after every step; then the same command again."""
    ended, path = 0, tmp_path / "killed" / CHECKPOINT
    for seconds in (0.0, 0.03, None):
        before = path.stat().st_mtime_ns if path.exists() else 0
        running = FORK.Process(target=run, args=(tmp_path / "killed",), kwargs={"checkpoint_minutes": 0})
        running.start()
        if seconds is not None:
            while running.is_alive() and (not path.exists() or path.stat().st_mtime_ns == before):
                time.sleep(0.002)
            time.sleep(seconds)
            running.kill()
        running.join(120)
        ended += running.exitcode == 0
        assert running.exitcode in (0, -signal.SIGKILL)
    assert ended >= 1
    state, _ = read_weights(tmp_path / "killed" / "weights.safetensors")
    assert same({k: v.numpy() for k, v in state.items()}, whole[0])
    assert table(tmp_path / "killed") == whole[1]
    assert not list((tmp_path / "killed").glob(".*.partial"))  # what was half written when it was killed
    assert steps_on_board(tmp_path / "killed") == list(range(1, 19))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"recipe": recipe(weight_decay=0.2)}, "recipe.weight_decay: 0.001 there, 0.2 here"),
        ({"recipe": recipe(batch_size=4)}, "recipe.batch_size: 8 there, 4 here"),
        ({"model": net(classes=5)}, "model: "),
        ({"metadata": {**METADATA, "model": {**METADATA["model"], "options": {"stem_stride": 2}}}}, "model.options: "),
        ({"recipe": recipe(optimizer="adamw")}, "recipe.optimizer: sgd there, adamw here"),
        ({"metadata": {**METADATA, "seed": 1}}, "seed: 0 there, 1 here"),
        ({"metadata": {**METADATA, "parent": {"stage": "train"}}}, "initialized from: nothing there, "),
    ],
)
def test_another_run_in_the_folder_is_a_conflict(ended: Path, changes: dict[str, Any], what: str) -> None:
    before = files(ended)
    with pytest.raises(ConflictError, match=what):
        run(ended, **changes)
    assert files(ended) == before


def test_another_stream_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, after(2))
    with pytest.raises(ConflictError, match=r"train\.seed: 0 there, 3 here"):
        fit(net(), clips(seed=3), clips("val"), recipe(), out=tmp_path, device="cpu", metadata=METADATA)


def test_other_clips_in_a_finished_folder_are_a_conflict(ended: Path) -> None:
    """At the end of an epoch, too, where no place in a stream would tell."""
    before = files(ended)
    fewer = dataclasses.replace(SPEC, instances=8)
    for train, val, what in (
        (vpngen.loader(fewer, 8, clip=CLIP, device="cpu", drop_last=True), clips("val"), "train.set: "),
        (clips(), clips("val", seed=1), "val.seed: 0 there, 1 here"),
        (clips(), None, "val.seed: 0 there, nothing here"),
    ):
        with pytest.raises(ConflictError, match=what):
            fit(net(), train, val, recipe(), out=ended, device="cpu", metadata=METADATA)
    assert files(ended) == before


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"half"])
def test_a_damaged_checkpoint_is_named_and_kept(finished: Path, content: bytes) -> None:
    path = finished / CHECKPOINT
    content = path.read_bytes()[: path.stat().st_size // 2] if content == b"half" else content
    path.write_bytes(content)
    with pytest.raises(ConflictError, match="no checkpoint of a run, or damaged; move it away"):
        run(finished)
    assert path.read_bytes() == content


# --- faults


def test_a_rate_that_diverges_names_step_and_last_good_checkpoint_and_a_lower_one_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, after(7), recipe=recipe(epochs=5))
    good = read_weights(tmp_path / CHECKPOINT)[0]
    with pytest.raises(RunError) as failed:
        run(tmp_path, recipe=recipe(epochs=5, lr=1e38))
    assert re.search(
        r"the loss is \S+ at step 1[01] \(epoch 2\): the learning rate, 1e\+38, may be too high; the last good checkpoint is "
        r"'\S+', of epoch 1, step 2 of the next; give an `lr` below 1e\+38 to go on from there",
        str(failed.value),
    )
    kept = read_weights(tmp_path / CHECKPOINT)[0]
    assert all(torch.equal(good[name], kept[name]) for name in good)
    _, rows = run(tmp_path, recipe=recipe(epochs=5, lr=0.01))
    assert [row["lr"] for row in rows[:2]] == [0.05, 0.01] and len(rows) == 5


@pytest.mark.parametrize("steps", [1, 3, 30])
def test_a_loss_that_is_absurd_is_one_that_diverged(tmp_path: Path, steps: int) -> None:
    """It is a number all along, and no checkpoint of after it takes the place of the one before."""
    batch = torch.zeros((8, 3, *CLIP)), torch.arange(8) % 4
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * math.prod(CLIP), 4))
    given = {"out": tmp_path, "device": "cpu", "metadata": METADATA}
    fit(model, Batches(*[batch] * steps), None, recipe(epochs=1, lr=1e-3), **given)
    far = {"a step": 20_000 * math.log(4), "their mean": 2_000 * math.log(4)}
    for what, loss in far.items():
        with torch.no_grad():
            model[1].bias.copy_(torch.tensor([0, 2 * loss, 0, 0]))  # wrong for three of four clips
        with (tmp_path / CHECKPOINT).open("rb") as file:
            state = torch.load(file, weights_only=True)
        state["state_dict"] = model.state_dict()
        torch.save(state, tmp_path / CHECKPOINT)
        good = (tmp_path / CHECKPOINT).read_bytes()
        first = 1 if what == "a step" else min(20, steps)
        said = rf"loss( of epoch 2)? is \S+ at step {steps + first}\b.*may be too high; the last good checkpoint is \S+ of epoch 1"
        with pytest.raises(RunError, match=said):
            fit(model, Batches(*[batch] * steps), None, recipe(epochs=2, lr=1e-3), **given)
        assert (tmp_path / CHECKPOINT).read_bytes() == good


def test_without_a_checkpoint_divergence_says_so() -> None:
    with pytest.raises(
        RunError, match=r"at step \d \(epoch 1\): .*no checkpoint was written yet; give an `lr` below 1e\+38$"
    ):
        run(None, recipe=recipe(lr=1e38))


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    """The step that ruins them may have had a good loss, and be the last before a checkpoint."""
    one = Batches((torch.zeros((2, 3, *CLIP), dtype=torch.uint8), torch.tensor([0, 1])))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * math.prod(CLIP), 2))
    with pytest.raises(RunError, match="weights are not finite any more at step 1"):
        fit(
            model,
            one,
            None,
            recipe(lr=1e38, batch_size=2, weight_decay=1e3),
            out=tmp_path,
            device="cpu",
            metadata=METADATA,
        )
    assert not (tmp_path / CHECKPOINT).exists()


def with_files_up_to(size: int, folder: Path) -> str:
    """The error of `run` in a process of its own with a limit on the size of files, which fails as a full disk does."""
    ours, theirs = FORK.Pipe()

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        with pytest.raises(MissingError) as failed:
            run(folder)
        theirs.send(str(failed.value))

    running = FORK.Process(target=limited)
    running.start()
    running.join(120)
    assert running.exitcode == 0
    return str(ours.recv())


def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path / "run", after(7))
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    text = with_files_up_to(len(before) // 2, tmp_path / "run")
    assert "no space is left to write" in text and CHECKPOINT in text
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before
    assert not list((tmp_path / "run").glob(".*partial"))
    model, _ = run(tmp_path / "run")
    assert same(weights(model), weights(run(None)[0]))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


class Murdered(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Clips, the ninth of which ends its process as the kernel does when memory is short."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros((3, *CLIP), dtype=torch.uint8), i % 4


class Loaded(Batches):
    """Batches of a DataLoader."""

    def __init__(self, loader: Any) -> None:
        super().__init__(*[None] * len(loader))  # type: ignore[arg-type]
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


def test_a_worker_that_is_killed_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    run(tmp_path, train=Batches((torch.zeros((8, 3, *CLIP)), torch.arange(8) % 4)), recipe=recipe(epochs=1))
    lost = Loaded(torch.utils.data.DataLoader(Murdered(), 8, num_workers=1))
    with pytest.raises(RunError, match=r"a worker process ended.* the last good checkpoint is .* of epoch 1"):
        run(tmp_path, train=lost)


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(ConflictError, match="another process trains in"), alone(tmp_path, 0.2):
        pass
    held, ends = alone(tmp_path), []
    held.__enter__()

    def let_go() -> None:
        ends.append(not (tmp_path / CHECKPOINT).exists())
        held.__exit__(None, None, None)

    later = threading.Timer(1, let_go)
    later.start()
    run(tmp_path)  # waits for whoever is about to end
    later.join()
    assert ends == [True] and (tmp_path / CHECKPOINT).exists()


def test_waiting_hears_a_wish_to_stop() -> None:
    answers = iter([False, False, True])
    assert arrived(lambda: next(answers), lambda: False)
    assert not arrived(lambda: False, lambda: True, 0.05)
    slow = iter([False] * 30 + [True])
    assert arrived(lambda: next(slow), lambda: True, 60)


@pytest.mark.parametrize("grad_accum_steps", [0, -1, 1.5, True])
def test_parts_that_make_no_sense(grad_accum_steps: Any) -> None:
    with pytest.raises(ArgumentError, match="`grad_accum_steps`"):
        run(None, grad_accum_steps=grad_accum_steps)


def test_a_network_with_nothing_to_train() -> None:
    model = net().requires_grad_(False)
    with pytest.raises(ArgumentError, match="leaves nothing to train"):
        run(None, model=model)


def test_the_recipe_freezes_stages() -> None:
    model = vpngen.create_model("r3d10", 4, width=0.125)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(None, model=model, recipe=recipe(epochs=1, freeze=3))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("layer4.", "fc.")) for name in changed)


def test_the_mode_of_a_model_stays() -> None:
    for val in (clips("val"), None):
        for mode in (True, False):
            model, _ = run(None, model=net().train(mode), val=val, recipe=recipe(epochs=1))
            assert {module.training for module in model.modules()} == {mode}


def test_batches_of_another_size_than_the_recipe_says() -> None:
    with pytest.raises(
        ArgumentError, match="`train` gives batches of 8 on each of 1 ranks, and the `batch_size` of the recipe is 16"
    ) as held:
        run(None, recipe=recipe(batch_size=16))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("vpngen-stream")], held


def test_loaders_that_cannot_go_on_are_named() -> None:
    plain = torch.utils.data.DataLoader(Murdered(), 8)
    for given in ({"train": plain}, {"val": plain}):
        with pytest.raises(ArgumentError, match=f"`{next(iter(given))}` .DataLoader. has no set_epoch, state_dict"):
            run(None, **given)


def test_what_was_done_is_what_the_weights_say(finished: Path) -> None:
    """A finished run is not changed by a command with another rate; one that goes on at another says so."""
    path = finished / "weights.safetensors"
    whole = path.read_bytes()
    run(finished, recipe=recipe(lr=0.001))
    run(finished, recipe=recipe(lr=0.001, epochs=2))
    assert path.read_bytes() == whole
    about = read_weights(path)[1]
    assert about["recipe"] == recipe().to_dict() and "rates" not in about
    run(finished, recipe=recipe(lr=0.001, epochs=4))
    about = read_weights(path)[1]
    assert about["recipe"] == recipe(epochs=4).to_dict()
    assert about["rates"] == [{"step": 0, "lr": 0.05}, {"step": 18, "lr": 0.001}]


def test_an_epoch_without_a_batch() -> None:
    with pytest.raises(ArgumentError, match="leaves no whole batch"):
        fit(net(), Batches(), None, recipe(), device="cpu")


def test_a_card_that_there_is_not() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(MissingError, match="finds no GPU"):
        run(None, device="cuda")


# --- ranks


RANK = """
import json, os, sys
from pathlib import Path
from torch import nn
from tests.test_fit import after, clips, net, recipe, METADATA
from vpngen.train import fit, ranks

out, wish = Path(sys.argv[1]), sys.argv[2]

def leave():  # the second rank dies at its third step
    if ranks.world()[0] == 1 and not next(left, False):
        os._exit(9)
    return False

left = iter([True, True])
with ranks.joined("cpu", timeout=30):
    rank, size = ranks.world()
    stops = {"end": [None, after(4) if rank == 1 else None], "die": [leave]}[wish]
    for number, stop in enumerate(stops):
        try:
            rows = fit(net(norm=nn.GroupNorm, dropout=0), clips(batch=8 // size), clips("val", batch=8 // size), recipe(),
                       out=out / str(number), device="cpu", metadata=METADATA, should_stop=stop)
            print(json.dumps([rows[-1]["train_loss"], rows[-1]["val_loss"], rows[-1]["val_top1"]]), flush=True)
        except Exception as error:
            print(json.dumps([type(error).__name__, str(error)]), flush=True)
            sys.exit(1)
"""


def test_two_ranks_are_one_stop_together_and_one_goes_on(tmp_path: Path) -> None:
    """The second run ends where the second rank alone is asked to stop; one process goes on, with two halves of each batch."""
    pair = two_ranks(RANK, tmp_path, "end")
    assert [rank.code for rank in pair] == [1, 1], pair[0].err
    said = [[json.loads(line) for line in rank.out.splitlines()] for rank in pair]
    assert said[0][0] == said[1][0]
    assert [(name, text.split(";")[0]) for _, (name, text) in said] == [("StoppedError", "stopped after step 6")] * 2
    model, rows = run(tmp_path / "one", model=net(norm=nn.GroupNorm, dropout=0))
    state, _ = read_weights(tmp_path / "0" / "weights.safetensors")
    for name, value in weights(model).items():
        np.testing.assert_allclose(state[name].numpy(), value, atol=1e-5, err_msg=name)
    for mine, theirs in zip(table(tmp_path / "one"), table(tmp_path / "0"), strict=True):
        assert {k: float(v) for k, v in theirs.items()} == pytest.approx(
            {k: float(v) for k, v in mine.items()}, rel=1e-3
        )
    assert [r["epoch"] for r in rows] == [1, 2, 3]
    again, _ = run(tmp_path / "1", model=net(norm=nn.GroupNorm, dropout=0), grad_accum_steps=2)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_a_rank_that_dies_is_an_error_of_the_others(tmp_path: Path) -> None:
    """Without torchrun, which would end the others before they find out."""
    first, second = two_ranks(RANK, tmp_path, "die")
    assert (first.code, second.code) == (1, 9), first.err
    name, text = json.loads(first.out)
    assert name == "RunError" and "another rank is gone; no checkpoint was written yet" in text

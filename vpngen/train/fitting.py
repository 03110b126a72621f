"""`fit`: the one loop that trains, for initialization and for everything after it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import importlib.util
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vpngen import checks
from vpngen.datasets.workers import lost_worker
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
from vpngen.files import replace
from vpngen.models.weights import freeze
from vpngen.store.locks import try_lock
from vpngen.train import ranks
from vpngen.train.recipes import Recipe

Row = dict[str, Any]
COLUMNS: Final = (
    "epoch", "step", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "clips_per_second", "data_wait",
    "seconds",
)  # fmt: skip
"""What a row of log.csv says: losses in nats, shares in [0, 1], seconds of training without validation."""
CHECKPOINT: Final = "checkpoint.pt"
CHECKPOINT_FORM: Final = 1
ABSURD: Final = (10_000, 1_000)
"""Losses that nothing comes back from, of a step and in the mean of an epoch: so many times that of a guess among all classes."""
SETTLED: Final = 20
"""Steps from which the mean of an epoch is one."""


class Batches(Protocol):
    """What `fit` trains on: `vpngen.loader`, `vpngen.train.VideoLoader`, or anything like them.

    Each iteration is an epoch of (clips, labels): uint8 (N, 3, T, H, W), or floating and normalised already; int64 (N,).
    All ranks have equally many batches of the same sizes.
    """

    def __len__(self) -> int:
        """The batches of a whole epoch on this rank."""

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch, or of what is left of one."""

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Where this is, as plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class StoppedError(RunError):
    """`should_stop` asked for an end; what was trained is in the checkpoint."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: `train` or `val` in the epoch under way, over all ranks; `done` at its end, with its row."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    lr: float
    loss: float
    top1: float
    clips_per_second: float
    data_wait: float
    seconds: float
    row: Row | None = None

    @property
    def step_seconds(self) -> float:
        """Of a step, in the mean of this epoch."""
        return self.seconds / max(self.step, 1)


@dataclass
class _Sums:
    """What was seen of an epoch of training."""

    steps: int = 0
    loss: float = 0.0
    right: float = 0.0
    clips: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def mean_loss(self) -> float:
        return self.loss / self.clips if self.clips else math.nan

    @property
    def top1(self) -> float:
        return self.right / self.clips if self.clips else math.nan

    @property
    def rate(self) -> float:
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def wait(self) -> float:
        return self.waited / self.seconds if self.seconds else 0.0


@dataclass
class _Seen:
    """Figures of a step on their way from the device, and when they and its batch were there."""

    values: torch.Tensor
    classes: int
    landed: torch.cuda.Event | None
    data: tuple[torch.cuda.Event, torch.cuda.Event] | None


@dataclass(frozen=True)
class _Watch:
    """Who looks on: see `fit`."""

    progress: Callable[[Progress], None]
    stop: Callable[[], bool]
    pause: float


def fit(
    model: nn.Module,
    train: Batches,
    val: Batches | None,
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    grad_accum_steps: int = 1,
    compile: bool = False,
    precision: str = "auto",
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    log: Callable[[str], None] | None = None,
    checkpoint_minutes: float = 10.0,
) -> list[Row]:
    """Train `model`, and go on from the checkpoint in `out` where there is one; at the rate of the recipe, if that is another.

    A step is one batch of every rank. Batch normalization looks at each part of a batch by itself, be it that of a rank or one
    of `accumulate`, and the statistics of the first rank are kept. The checkpoint holds weights, optimiser, schedule, random states and the place in the
    stream, so that a run that was stopped anywhere ends with the weights of one that was not; on a card up to rounding, since
    some of its sums have no order.

    Args:
        model: gives logits (N, classes) for clips (N, 3, T, H, W); trained in place.
        train: batches of this rank.
        val: likewise, looked at after each epoch; None to lower the rate by the training loss.
        recipe: learning rate and its schedule, weight decay, momentum, epochs, mean and std; `freeze` is done here, clips are
            cut by whoever makes `train`.
        out: folder for checkpoint.pt, log.csv, tensorboard/, and at the end weights.safetensors, weights.pth and curves.png; None
            to write nothing.
        device: `auto` for a card if there is one; a rank of torchrun has its own.
        grad_accum_steps: parts in which the batch of a rank goes through the network, where memory is short.
        compile: whether torch.compile makes the network faster, after a minute of its own.
        precision: `bf16`, `fp32`, or `auto`: bf16 on a GPU that has it.
        metadata: what weights.safetensors is to say beside the figures.
        progress: called after every step.
        should_stop: asked after every step, of validation too; once it says yes on any rank the run is saved and ended.
        log: gets what people want to know once: what is trained, from where a run goes on, what is not there. On the first rank.
        checkpoint_minutes: between two checkpoints inside an epoch.

    Returns:
        A row for each epoch, as in log.csv; see `COLUMNS`. The model is left in the mode it was in.

    Raises:
        ArgumentError: `accumulate` out of range; `train` or `val` lack what `Batches` asks for, or give batches of another size
            than the recipe says.
        ConflictError: the checkpoint in `out` is of another model, recipe or stream, or another process trains there.
        MissingError: no space for a checkpoint, or no memory for a batch.
        RunError: the loss is no number any more or absurd, another rank is gone, or a process that makes batches; the
            checkpoint stays.
        StoppedError: `should_stop` said so.

    The recipe is section 4 of Kataoka et al., WACV 2022: SGD, cross entropy, and a rate that is lowered when the validation
    loss did not improve for 10 epochs in a row.
    """
    checks.integer("grad_accum_steps", grad_accum_steps, 1, 2**20)
    checks.one_of("precision", precision, ("auto", "bf16", "fp32"))
    for name, batches in (("train", train), ("val", val)):
        wanted = ("__len__", "__iter__", "set_epoch", "state_dict", "load_state_dict")
        if batches is not None and (lacking := [each for each in wanted if not hasattr(batches, each)]):
            raise ArgumentError(
                f"({type(batches).__name__}) has no {', '.join(lacking)}, which `vpngen.loader` and VideoLoader have, so that "
                f"a run can go on where it was stopped; see `vpngen.train.fitting.Batches`",
                name,
            )
    where, mode = ranks.choose_device(device), model.training
    run = _Run(
        model, recipe, where, grad_accum_steps, _bfloat16(where) if precision == "auto" else precision == "bf16", compile,
        None if out is None else Path(out), dict(metadata or {}), log if log is not None and ranks.is_main() else lambda _: None,
    )  # fmt: skip
    try:
        with run:
            watch = _Watch(progress or (lambda _: None), should_stop or (lambda: False), 60 * checkpoint_minutes)
            return run.all_epochs(train, val, watch)
    except torch.OutOfMemoryError as error:
        raise MissingError(
            f"the card has too little memory for {recipe.batch_size} clips of {recipe.clip} at once; give a larger `grad_accum_steps` "
            f"(={grad_accum_steps}), or a smaller `batch_size`: {str(error).splitlines()[0]}"
        ) from error
    except RuntimeError as error:
        if (killed := lost_worker(error)) is not None:
            raise RunError(f"{killed}; {run.remedy}") from error
        if "Expected to have finished reduction" in str(error):
            raise ArgumentError(
                "some weights play no part in the logits, so that ranks cannot share their gradients; freeze or remove them: "
                f"{' '.join(str(error).split())}"
            ) from error
        if ranks.world()[1] > 1 and ranks.lost(error):
            raise RunError(f"another rank is gone; {run.remedy}: {str(error).splitlines()[0]}") from error
        raise
    finally:
        model.train(mode)


class _Run:
    """The state of one call of `fit`: what a checkpoint holds, and the tools to go on with."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, device: torch.device, accumulate: int, amp: bool, compiled: bool,
        out: Path | None, metadata: dict[str, Any], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.recipe, self.device, self.accumulate, self.amp = recipe, device, accumulate, amp
        self.out, self.metadata, self.say = out, metadata, say
        freeze(model, recipe.freeze)
        self.model = placed(model, device)
        if compiled:
            self.model.compile(dynamic=False)  # batches have one or two sizes, and the first may be that of validation
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise ArgumentError("leaves nothing to train", "freeze", recipe.freeze)
        self.optimiser = torch.optim.SGD(
            trained, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            factor=recipe.lr_factor,
            patience=recipe.lr_patience - 1,  # torch lowers at the epoch after those it is patient for
        )
        self.wrapped: nn.Module = self.model
        if ranks.world()[1] > 1:
            on = [device] if device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.model, device_ids=on)
            # The statistics of batches are not what training looks at: those of the first rank are shared when they are needed.
            # As an argument it has another name from torch 2.13 on.
            self.wrapped.broadcast_buffers = False
        self.rows: list[Row] = []
        self.epoch, self.sums, self.trained = 0, _Sums(), False
        self.step = 0
        self.rates: list[dict[str, Any]] = [{"step": 0, "lr": recipe.lr}]
        self.known: dict[str, Any] = {}
        self.random: Mapping[str, torch.Tensor] | None = None
        self.board: Any = None
        self.saved: str | None = None
        self.guess = 1.0
        self.open = contextlib.ExitStack()

    # --- files

    @property
    def checkpoint(self) -> Path | None:
        return None if self.out is None else self.out / CHECKPOINT

    @property
    def remedy(self) -> str:
        """How one goes on after a failure."""
        return f"{self.last_good}; the same command goes on from there" if self.saved else self.last_good

    @property
    def last_good(self) -> str:
        """Where the last checkpoint is."""
        if self.saved is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {str(self.checkpoint)!r}, of {self.saved}"

    def diverged(self, what: str) -> RunError:
        """What there is to say where numbers end."""
        rate = self.optimiser.param_groups[0]["lr"]
        lower = f"give an `lr` below {rate:g}" + (" to go on from there" if self.saved else "")
        return RunError(f"{what}: the learning rate, {rate:g}, may be too high; {self.last_good}; {lower}")

    def __enter__(self) -> None:
        if self.out is None:
            return
        try:
            json.dumps(self.metadata)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"must be plain JSON: {error}", "metadata") from None
        if importlib.util.find_spec("safetensors") is None:
            raise MissingError("weights are written by safetensors; install it with: pip install 'vpngen[train]'")
        self.out.mkdir(parents=True, exist_ok=True)
        ranks.on_main(partial(self.open.enter_context, alone(self.out)))

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()
        self.open.close()

    def open_board(self) -> None:
        """TensorBoard's events, where that is installed; those after the checkpoint are taken back."""
        if self.out is None or not ranks.is_main() or self.epoch >= self.recipe.epochs:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("without TensorBoard's files, since tensorboard is not installed; log.csv holds the same")
        else:
            self.board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)

    def log(self, prefix: str, values: Mapping[str, Any]) -> None:
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self.board.add_scalar(f"{prefix}/{name}", value, self.step)

    def settings(self, train: Batches, val: Batches | None) -> dict[str, Any]:
        """What must be the same for a run to go on; more epochs, or another rate, are no other run."""
        shape = "\n".join(f"{name} {tuple(value.shape)}" for name, value in self.model.state_dict().items())
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        recipe = {k: v for k, v in self.recipe.to_dict().items() if k not in ("epochs", "lr")}
        return {
            "model": hashlib.sha256(shape.encode()).hexdigest()[:16],
            "frozen": len(frozen),
            **{f"recipe.{name}": value for name, value in recipe.items()},
            **{key: self.metadata[key] for key in ("stage", "seed") if key in self.metadata},
            **{f"model.{key}": value for key, value in (self.metadata.get("model") or {}).items()},
            "initialized from": _origin(self.metadata.get("parent")),
            **_identity("train", train),
            **({} if val is None else _identity("val", val)),
        }

    def save(self, train: Batches, random: dict[str, torch.Tensor] | None = None) -> None:
        """Write the checkpoint, with these random states or those of now. All ranks call it at the same step."""
        if self.checkpoint is None:
            return
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if self.agreed(not all(bool(torch.isfinite(value).all()) for value in values)):  # statistics differ by rank
            raise self.diverged(f"weights are no numbers any more at step {self.step}")
        states = ranks.gathered(_random_state(self.device) if random is None else random)
        place = train.state_dict() if self.sums.steps else None
        from vpngen.models.resnet import reference_arch

        content = {
            "vpngen_checkpoint": CHECKPOINT_FORM,
            "arch": reference_arch(str(self.metadata.get("model", {}).get("name", "unknown"))),
            "epoch": self.epoch,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "settings": self.known,
            "lr": self.recipe.lr,
            "rates": self.rates,
            "step": self.step,
            "sums": dataclasses.asdict(self.sums),
            "trained": self.trained,
            "stream": place,
            "random": states,
            "rows": self.rows,
        }

        def write(path: Path) -> None:
            with replace(path) as partial, partial.open("wb") as file:  # by a path, torch hides why it failed
                torch.save(content, file)

        ranks.on_main(partial(write, self.checkpoint))
        self.saved = self.at

    @property
    def at(self) -> str:
        if self.trained:
            return f"epoch {self.epoch + 1} before validation"
        return f"epoch {self.epoch}" + (f", step {self.sums.steps} of the next" if self.sums.steps else "")

    def load(self, train: Batches) -> None:
        """Go on from the checkpoint, where there is one."""
        path = self.checkpoint
        if path is None:
            return
        found = ranks.gathered(path.exists())
        if not any(found):
            return
        if not all(found):
            raise ConflictError(
                f"{str(path)!r} is seen by {sum(found)} of {len(found)} ranks; `out` must be a folder that all of them share"
            )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            form = state["vpngen_checkpoint"]
        except Exception as error:
            raise ConflictError(
                f"{str(path)!r} is no checkpoint of a run, or damaged; move it away to begin again"
            ) from error
        if form != CHECKPOINT_FORM:
            raise ConflictError(f"{str(path)!r} is of form {form!r}, which this vpngen does not know; upgrade it")
        there, here = state["settings"], self.known
        different = [
            f"{key}: {there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
            for key in sorted({*there, *here})
            if there.get(key) != here.get(key)
        ]
        if different:
            raise ConflictError(
                f"the run in {str(path.parent)!r} is another one:\n  " + "\n  ".join(different) + "\n"
                "give its own options to go on with it, or another folder"
            )
        self.model.load_state_dict(state["state_dict"])
        self.optimiser.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        self.rates = state.get("rates", [{"step": 0, "lr": state["lr"]}])
        if state["lr"] != self.recipe.lr and self.epoch < self.recipe.epochs:
            for group in self.optimiser.param_groups:
                group["lr"] = self.recipe.lr
            self.rates.append({"step": self.step, "lr": self.recipe.lr})
        self.sums, self.trained = _Sums(**state["sums"]), state["trained"]
        self.saved = self.at
        self.say(f"going on from the checkpoint of {self.at}")
        if state["stream"] is not None:
            train.load_state_dict(state["stream"])
        rank, states = ranks.world()[0], state["random"]
        self.random = states[rank if rank < len(states) else 0]

    def restore_random(self) -> None:
        """Random numbers go on where they were when the checkpoint was written."""
        if self.random is not None:
            _set_random_state(self.random, self.device)
            self.random = None

    def write_log(self) -> None:
        """Write log.csv, on the first rank."""
        if self.out is not None:
            ranks.on_main(partial(self._write_log, self.out))

    def _write_log(self, out: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows)
        with replace(out / "log.csv") as path:
            path.write_text(text.getvalue(), encoding="utf-8")

    def finish(self) -> None:
        """Write what a run leaves for others, on the first rank."""
        if self.out is not None:
            ranks.on_main(partial(self._finish, self.out))

    def _finish(self, out: Path) -> None:
        from vpngen.models import weights
        from vpngen.models.resnet import reference_arch

        metrics = {k: v for k, v in self.rows[-1].items() if v is not None} if self.rows else {}
        # What was done, which another rate or fewer epochs of a command that came after the end do not change.
        done = {"lr": self.rates[0]["lr"], "epochs": self.epoch}
        told = {
            **self.metadata,
            "recipe": {**self.recipe.to_dict(), **self.metadata.get("recipe", {}), **done},
            "metrics": metrics,
        }
        if len(self.rates) > 1:
            told["rates"] = self.rates
        weights.save_weights(out / "weights.safetensors", self.model, told)
        arch = reference_arch(str(self.metadata.get("model", {}).get("name", "unknown")))
        weights.save_reference(out / "weights.pth", self.model, arch, self.epoch, self.optimiser, self.schedule, told)

    # --- epochs

    def all_epochs(self, train: Batches, val: Batches | None, watch: _Watch) -> list[Row]:
        """Train and validate until the last epoch; see `fit`."""
        steps = len(train)
        if val is not None:
            len(val)  # a stream that cannot be dealt to the ranks says so now
        self.known = self.settings(train, val)
        count = sum(p.numel() for p in self.model.parameters())
        size = ranks.world()[1]
        self.say(
            f"{self.metadata.get('model', {}).get('name', 'a network')} of {count:,} parameters on {self.device}"
            + (f" and {size - 1} more ranks" if size > 1 else "")
            + f", {steps:,} steps of {self.recipe.batch_size} clips an epoch"
        )
        self.load(train)
        self.open_board()
        self.write_log()
        while self.epoch < self.recipe.epochs:
            if not self.trained:
                if not self.sums.steps:
                    train.set_epoch(self.epoch)
                stopped = self.train_epoch(train, steps, watch)
                self.trained = True
                if stopped:
                    self.stop(train)
            self.restore_random()
            sums = self.sums
            row: Row = {
                "epoch": self.epoch + 1,
                "step": self.step,
                "lr": self.optimiser.param_groups[0]["lr"],
                "train_loss": sums.mean_loss,
                "train_top1": sums.top1,
                "val_loss": None,
                "val_top1": None,
                "val_top5": None,
                "clips_per_second": sums.rate,
                "data_wait": sums.wait,
                "seconds": sums.seconds,
            }
            if val is not None:
                row |= self.validate(train, val, watch)
            self.schedule.step(row["train_loss"] if val is None else row["val_loss"])
            self.rows.append(row)
            self.log("epoch", row)
            watch.progress(self.progress("done", sums.steps, sums.steps, row))
            self.epoch, self.sums, self.trained = self.epoch + 1, _Sums(), False
            self.save(train)
            self.write_log()
        ranks.share_buffers(self.model)
        self.finish()
        return self.rows

    def stop(self, train: Batches, random: dict[str, torch.Tensor] | None = None) -> NoReturn:
        """Save, and end because somebody said so."""
        self.save(train, random)
        raise StoppedError(f"stopped after step {self.step}" + (f"; {self.remedy}" if self.saved else ""))

    def train_epoch(self, train: Batches, steps: int, watch: _Watch) -> bool:
        """Train on what is left of an epoch. Returns whether it was the last step that was to be followed by a stop."""
        self.model.train()
        begun = last = saved = time.perf_counter()
        before = self.sums.seconds
        flying: _Seen | None = None
        if not self.sums.steps:
            self.restore_random()
        for batch, asked, given in self.fed(train):
            if not self.sums.steps and batch is not None and len(batch[1]) * ranks.world()[1] != self.recipe.batch_size:
                raise ArgumentError(
                    f"gives batches of {len(batch[1])} on each of {ranks.world()[1]} ranks, and the `batch_size` of the recipe is "
                    f"{self.recipe.batch_size} over all",
                    "train",
                )
            self.restore_random()  # a DataLoader drew a number to begin with, which in the middle of an epoch it had before
            now = time.perf_counter()
            if asked is None:
                self.sums.waited += now - last
            if batch is None:
                break
            seen = self.one_step(batch, (ranks.is_main() and now - saved > watch.pause, bool(watch.stop())))
            seen.data = None if asked is None or given is None else (asked, given)
            # The figures of the step before are read while this one runs, so that a card is never waited for.
            wishes = self.read(flying, watch)
            flying = seen
            self.sums.steps += 1
            self.step += 1
            if any(wishes):
                self.read(flying, watch)
                flying = None
                saving = time.perf_counter()
                self.sums.seconds = before + saving - begun
                if wishes[1]:
                    self.stop(train)
                self.save(train)
                saved = time.perf_counter()
                begun += saved - saving
            self.sums.seconds = before + time.perf_counter() - begun
            watch.progress(self.progress("train", self.sums.steps, steps))
            last = time.perf_counter()
        stopped = self.read(flying, watch)[1]
        self.sums.seconds = before + time.perf_counter() - begun
        if not self.sums.clips:
            raise ArgumentError("leaves no whole batch in an epoch", "batch_size", self.recipe.batch_size)
        self.check_mean()
        return stopped

    def fed(self, train: Batches) -> Iterator[tuple[Any, Any, Any]]:
        """Batches, each with the moments when it was asked for and there; at the end None.

        Here and not in a variable of whoever trains: an error would hold that, and so the threads that make batches.
        """
        batches = iter(train)
        while True:
            asked = self.marked()
            batch = next(batches, None)
            yield batch, asked, self.marked()
            if batch is None:
                return

    def marked(self) -> torch.cuda.Event | None:
        """This moment, as a card comes to it; None on a processor, which has clocks for that."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def progress(self, phase: str, step: int, steps: int, row: Row | None = None) -> Progress:
        """What `fit` tells whoever watches."""
        sums = self.sums
        lr = self.optimiser.param_groups[0]["lr"] if row is None else row["lr"]
        return Progress(
            phase, self.epoch + 1, self.recipe.epochs, step, steps, lr, sums.mean_loss, sums.top1, sums.rate, sums.wait,
            sums.seconds, row,
        )  # fmt: skip

    def one_step(self, batch: Any, wishes: tuple[bool, bool]) -> _Seen:
        """One step; its sum of losses, right answers, clips, wishes to save and to stop, of all ranks."""
        clips, labels = batch[0], batch[1].to(self.device, non_blocking=True)
        self.optimiser.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        parts = list(zip(clips.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True))
        for i, (some, named) in enumerate(parts):
            net, last = self.wrapped, i == len(parts) - 1
            waits = isinstance(net, DistributedDataParallel) and not last  # gradients travel once a step
            with net.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                with self.autocast():
                    logits = net(self.prepared(some))
                loss = nn.functional.cross_entropy(logits.float(), named, reduction="sum")
                (loss / len(labels)).backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.detach()
            right += (logits.detach().argmax(1) == named).sum()
        self.optimiser.step()
        rest = torch.tensor([float(len(labels)), *map(float, wishes)]).to(self.device, non_blocking=True)
        values = ranks.total(torch.cat([torch.stack([loss_sum, right]), rest]))
        if self.device.type != "cuda":
            return _Seen(values, logits.shape[1], None, None)
        values = values.to("cpu", non_blocking=True)
        return _Seen(values, logits.shape[1], self.marked(), None)

    def read(self, seen: _Seen | None, watch: _Watch) -> tuple[bool, bool]:
        """Add the figures of a step to those of the epoch. Returns the wishes to save and to stop."""
        if seen is None:
            return False, False
        if seen.landed is not None and not arrived(seen.landed.query, watch.stop):
            raise RunError(f"the card, or another rank, did not answer after step {self.step}; {self.remedy}")
        if seen.data is not None:
            self.sums.waited += seen.data[0].elapsed_time(seen.data[1]) / 1000
        loss, right, clips, save, stop = seen.values.tolist()
        mean, self.guess = loss / clips, max(1.0, math.log(seen.classes))
        if not mean <= ABSURD[0] * self.guess:
            raise self.diverged(f"the loss is {mean:g} at step {self.step} (epoch {self.epoch + 1})")
        self.sums.loss += loss
        self.sums.right += right
        self.sums.clips += clips
        if self.sums.steps >= SETTLED:
            self.check_mean()
        self.log("step", {"loss": mean})
        return save > 0, stop > 0

    def check_mean(self) -> None:
        """Raises RunError where the mean loss of the epoch is absurd; the checkpoint of before stays."""
        if not self.sums.mean_loss <= ABSURD[1] * self.guess:
            raise self.diverged(
                f"the mean loss of epoch {self.epoch + 1} is {self.sums.mean_loss:g} at step {self.step}"
            )

    def prepared(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips (N, 3, T, H, W) on the device, as floats: (x / 255 - mean) / std."""
        return normalised(clips, self.device, self.recipe.mean, self.recipe.std)

    def autocast(self) -> Any:
        """bfloat16, where it is wanted."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def validate(self, train: Batches, val: Batches, watch: _Watch) -> Row:
        """Loss and shares of right answers on the validation clips."""
        ranks.share_buffers(self.model)
        self.model.eval()
        random = _random_state(self.device)
        sums, clips_seen = torch.zeros(3, dtype=torch.float64, device=self.device), 0
        val.set_epoch(0)
        steps = len(val)
        with torch.inference_mode():
            for i, batch in enumerate(val):
                clips, labels = batch[0], batch[1].to(self.device, non_blocking=True)
                for some, named in zip(clips.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True):
                    with self.autocast():
                        logits = self.model(self.prepared(some))
                    logits = logits.float()
                    best = logits.topk(min(5, logits.shape[1])).indices == named[:, None]
                    sums += torch.stack([
                        nn.functional.cross_entropy(logits, named, reduction="sum").double(), best[:, 0].sum(), best.sum(),
                    ])  # fmt: skip
                clips_seen += len(clips)
                watch.progress(self.progress("val", i + 1, steps))
                if self.agreed(watch.stop()):
                    self.stop(train, random)
        loss, top1, top5, clips_seen = ranks.total(torch.cat([sums, sums.new_tensor([clips_seen])])).tolist()
        if not clips_seen:
            raise ArgumentError("gives no batches", "val")
        if not math.isfinite(loss):
            raise self.diverged(f"the validation loss is {loss} after epoch {self.epoch + 1}")
        return {"val_loss": loss / clips_seen, "val_top1": top1 / clips_seen, "val_top5": top5 / clips_seen}

    def agreed(self, wish: bool) -> bool:
        """Whether any rank wishes it."""
        if ranks.world()[1] == 1:
            return wish
        return bool(ranks.total(torch.tensor(float(wish), device=self.device)).item())


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device, on a card with its kernels in the order in which cuDNN is fastest."""
    model.to(device)
    if device.type == "cuda":
        for parameter in model.parameters():
            if (
                parameter.ndim == 5
            ):  # contiguous() would leave the strides of 1 x 1 x 1 kernels, and DDP copy their gradients
                parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last_3d).copy_(parameter.data)
        torch.backends.cudnn.benchmark = True
    return model


@contextlib.contextmanager
def alone(folder: Path, patience: float = 10.0) -> Iterator[None]:
    """Hold the lock of a run's folder. What decoded for a run that was killed may hold it for some seconds more.

    Raises:
        ConflictError: another process has it.
    """
    fd = None
    with contextlib.suppress(OSError):  # systems where folders cannot be opened, or locked
        fd = os.open(folder, os.O_RDONLY)
        last = time.monotonic() + patience
        while not try_lock(fd):
            if time.monotonic() > last:
                os.close(fd)
                raise ConflictError(f"another process trains in {str(folder)!r}; wait for it, or give another folder")
            time.sleep(0.1)
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def arrived(there: Callable[[], bool], stop: Callable[[], bool], patience: float = 60.0) -> bool:
    """Wait until `there`; once `stop` is wished for, `patience` seconds at most.

    A card is asked time and again, since whoever waits in its driver hears no signal, and waits forever if another rank is gone.
    """
    wished = math.inf
    while not there():
        now = time.monotonic()
        if wished == math.inf and stop():
            wished = now
        if now - wished > patience:
            return False
        time.sleep(0.0005)
    return True


def normalised(
    clips: torch.Tensor, device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Clips (N, 3, T, H, W) on `device`: bytes as (x / 255 - mean) / std in float32, floats as they are."""
    if clips.is_floating_point():
        made = clips.to(device, non_blocking=True)
    else:
        levels = [(1 / (255 * s), -m / s) for m, s in zip(mean, std, strict=True)]
        alike = len(set(levels)) == 1
        seen = clips[:, :1] if alike and clips.stride(1) == 0 else clips  # grey that is shown three times travels once
        seen = seen.to(device, non_blocking=True)
        made = torch.empty_like(seen, dtype=torch.float32)
        for channels, (scale, shift) in [(slice(None), levels[0])] if alike else [*enumerate(levels)]:
            torch.add(torch.tensor(shift), seen[:, channels], alpha=scale, out=made[:, channels])  # rounded once
        made = made.expand(clips.shape)
    return made.contiguous(memory_format=torch.channels_last_3d) if made.is_cuda else made


def _bfloat16(device: torch.device) -> bool:
    """Whether a device reckons in bfloat16 by itself."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _origin(parent: Any) -> str:
    """What weights were initialized from, in a word."""
    if parent is None:
        return "nothing"
    about = {key: value for key, value in parent.items() if key != "file"}  # the same file in another place is the same
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _identity(name: str, batches: Batches) -> dict[str, Any]:
    """What the state of batches says of what they are, and not of where they are."""
    state = batches.state_dict()
    settings = state.get("settings")
    known = {f"{name}.{key}": value for key, value in settings.items()} if isinstance(settings, Mapping) else {}
    return known | ({f"{name}.set": str(state["fingerprint"])[:16]} if "fingerprint" in state else {})


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)

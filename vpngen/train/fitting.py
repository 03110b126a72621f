"""`fit`: the one loop that trains, for initialization and for everything after it."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vpngen.checks import integer, one_of
from vpngen.datasets.workers import lost_worker
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.models.base import freeze, parameter_groups
from vpngen.models.initial import LONE, lone_clip, parts, placed
from vpngen.models.metadata import check
from vpngen.stream import tensors
from vpngen.stream.waiting import arrived, asking
from vpngen.tasks import Task
from vpngen.tasks.segments import task_of
from vpngen.train import ranks
from vpngen.train.checkpoint import Folder, Row, identity, of_stream, random_state, set_random_state
from vpngen.train.recipes import Recipe

PRECISIONS: Final = ("auto", "bf16", "fp32")
ABSURD: Final = (10_000, 1_000)
"""Losses that nothing comes back from, of a step and in the mean of an epoch: so many times that of a guess."""
TIMES: Final = ("clips_per_second", "data_wait", "seconds")
"""Columns of log.csv that differ from run to run."""
LAST_WAIT: Final = 10.0
"""Seconds that a rank which is to stop waits for a batch, so that all stop after the same step."""
SETTLED: Final = 20
"""Steps from which on the mean of an epoch says something."""


class Batches(Protocol):
    """What `fit` trains on: `vpngen.loader`, `vpngen.datasets.VideoLoader`, or anything like them.

    Each iteration is an epoch of (clips, labels): uint8 (N, 3, T, H, W), or floating and normalised already; int64 (N,), or
    None where there are none. For a task that needs numbers, the last entry is int64 (N, 3): the epoch of each sample, its
    number in that epoch over all ranks, and which video it is of. All ranks have equally many batches of the same sizes.
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
    """How far a run is, over all ranks: `train` or `val` in the epoch under way; `done` at its end, with its row.

    Epochs count from 1. The loss and `metrics`, the first of the task by its name, are means over the epoch so far, in
    training. `data_wait` is the share of `seconds` in which there was no batch.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    lr: float
    loss: float
    metrics: Mapping[str, float]
    clips_per_second: float
    data_wait: float
    seconds: float
    row: Row | None = None

    @property
    def step_seconds(self) -> float:
        """Mean seconds per step in this epoch."""
        return self.seconds / max(self.step, 1)


_Moment = float | torch.cuda.Event
"""Seconds of a clock, or what a GPU comes to."""


class _Seen(NamedTuple):
    """Sums of a step on their way from the device, when they have landed, and when its batch was asked for and there."""

    sums: torch.Tensor
    landed: _Moment
    asked: _Moment
    given: _Moment

    @property
    def waited(self) -> float:
        """Seconds without a batch."""
        if isinstance(self.asked, torch.cuda.Event):
            return float(self.asked.elapsed_time(self.given)) / 1000  # type: ignore[arg-type]
        return self.given - self.asked  # type: ignore[operator]


def columns(task: Task) -> tuple[str, ...]:
    """The columns of log.csv: losses as the task has them, metrics in [0, 1], seconds of training without validation."""
    return (
        "epoch", "step", "lr", "train_loss", f"train_{task.metrics[0]}", "val_loss", *(f"val_{name}" for name in task.metrics),
        *TIMES,
    )  # fmt: skip


@dataclass
class _State:
    """Where a run is, in plain values that the checkpoint holds."""

    epoch: int = 0  # epochs that are over
    step: int = 0  # of the whole run
    trained: bool = False  # whether the epoch under way lacks only its validation
    # of the epoch under way: its steps, and sums over the clips of all ranks
    steps: int = 0
    loss: float = 0.0
    metric: float = 0.0  # the first of the task
    clips: float = 0.0
    seconds: float = 0.0  # of training
    waited: float = 0.0  # seconds of these without a batch
    rows: list[Row] = field(default_factory=list)  # of the epochs that are over
    rates: list[dict[str, Any]] = field(default_factory=list)  # the `lr` of the recipe from a step on
    chance: dict[str, float] = field(default_factory=dict)  # see `Task.chance`; empty before the first step

    def mean(self, total: float) -> float:
        """A sum over the clips of the epoch, by clip."""
        return total / self.clips if self.clips else math.nan

    def absurd(self, loss: float, times: float) -> bool:
        """Whether a loss is not finite, or so many times that of a guess, or of 1 where that is more."""
        return not loss <= times * max(1.0, self.chance.get("loss", 1.0))

    @property
    def speed(self) -> tuple[float, float, float]:
        """Clips per second, the share of time without a batch, seconds."""
        spent = self.seconds or math.inf
        return self.clips / spent, self.waited / spent, self.seconds

    def __str__(self) -> str:
        if self.trained:
            return f"epoch {self.epoch + 1} before validation"
        return f"epoch {self.epoch}" + (f", step {self.steps} of the next" if self.steps else "")


def fit(
    model: nn.Module,
    train: Batches,
    val: Batches | None,
    recipe: Recipe,
    *,
    task: Task | None = None,
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

    A step is one batch of every rank. Batch normalization sees each part of a batch by itself, be it that of a rank or one
    of `grad_accum_steps`, and the statistics of the first rank are kept. The checkpoint holds weights, optimizer, schedule,
    random states and the place in the stream, so that a run that was stopped anywhere ends with the weights of one that was
    not; on a GPU up to rounding, since some of its sums have no order.

    Args:
        model: the network, which takes clips (N, 3, T, H, W); to classify it gives logits (N, classes). Trained in place.
        train: batches of this rank.
        val: likewise, for the validation after each epoch; None to lower the rate by the training loss.
        recipe: optimizer, learning rate and its schedule, epochs, mean and std; `freeze` is done here, clips are cut by whoever
            makes `train`.
        task: what to learn; None for `vpngen.tasks.Classify()`, or `Segments` where the recipe has several.
        out: folder for checkpoint.pt, log.csv, tensorboard/, and at the end weights.safetensors and weights.pth; None to write
            nothing.
        device: `auto` for a GPU if there is one; a rank of torchrun has its own.
        grad_accum_steps: parts in which the batch of a rank goes through the network, where memory is short.
        compile: whether torch.compile makes the network faster, after a minute of its own.
        precision: `bf16` or `fp32`, in which the network computes; `auto` for bf16 on a GPU that has it.
        metadata: what weights.safetensors says beside the recipe, the task and the metrics. How long it took stands in log.csv alone.
        progress: called after every step.
        should_stop: asked after every step, of validation too, and while there is no batch; once it says yes on any rank the run is saved and ended.
        log: gets messages for people: what is trained, from where a run goes on, what is missing. On the first rank.
        checkpoint_minutes: between two checkpoints inside an epoch.

    Returns:
        A row for each epoch, as in log.csv; see `columns`. The model is left in the mode it was in.

    Raises:
        ArgumentError: `grad_accum_steps` or `precision` out of range; `train` or `val` lack what `Batches` or the task asks for,
            or give batches of another size than the recipe says.
        ConflictError: the checkpoint in `out` is of another model, task, recipe or stream, or another process trains there.
        MissingError: no space for a checkpoint, or no memory for a batch.
        RunError: the loss is not finite or absurd, another rank is gone, or a process that makes batches; the checkpoint stays.
        StoppedError: `should_stop` said so.

    The default recipe is section 4 of Kataoka et al., WACV 2022: SGD, cross entropy, and a rate that is lowered when the
    validation loss did not improve for 10 epochs in a row.
    """
    integer("grad_accum_steps", grad_accum_steps, 1, 2**20)
    one_of("precision", precision, PRECISIONS)
    for name, batches in (("train", train), ("val", val)):
        wanted = ("__len__", "__iter__", "set_epoch", "state_dict", "load_state_dict")
        if batches is not None and (lacking := [each for each in wanted if not hasattr(batches, each)]):
            problem = f"({type(batches).__name__}) has no {', '.join(lacking)}, by which a stopped run goes on"
            raise ArgumentError(f"{problem}; see `vpngen.train.fitting.Batches`", name)
    where, mode = ranks.choose_device(device), model.training
    main_log = log if log is not None and ranks.is_main() else lambda _: None
    folder = Folder(None if out is None else Path(out), metadata or {}, main_log)
    run = _Run(
        model, train, val, recipe, task_of(recipe, task), folder, where, grad_accum_steps,
        bfloat16(where) if precision == "auto" else precision == "bf16", progress or (lambda _: None),
        should_stop or (lambda: False), 60 * checkpoint_minutes,
    )  # fmt: skip
    if compile:
        run.module.compile(dynamic=False)  # batches have one or two sizes, and the first may be that of validation
    try:
        with folder:
            return run.all_epochs()
    except (RuntimeError, ValueError) as error:
        why, text = str(error).partition("\n")[0], " ".join(str(error).split())
        if LONE in text and not isinstance(error, ArgumentError):
            raise lone_clip(
                error, recipe, run.size, grad_accum_steps, run.size * ranks.world()[1] < recipe.batch_size
            ) from error
        if isinstance(error, torch.OutOfMemoryError):
            size = f"{recipe.batch_size} clips of {recipe.clip} at once"
            remedy = f"give more `grad_accum_steps` (={grad_accum_steps}), or a smaller `batch_size`"
            raise MissingError(f"the GPU has too little memory for {size}; {remedy}: {why}") from error
        if (killed := lost_worker(error)) is not None:
            raise type(killed)(f"{killed}; {folder.remedy}") from error
        if "Expected to have finished reduction" in text:
            problem = "some weights play no part in the outputs, so that ranks cannot share their gradients"
            raise ArgumentError(f"{problem}; freeze or remove them: {text}") from error
        if ranks.world()[1] > 1 and ranks.lost(error):
            raise RunError(f"another rank is gone; {folder.remedy}: {why}") from error
        raise
    finally:
        model.train(mode)


@dataclass
class _Run:
    """One call of `fit`: its arguments, what trains, and where it is."""

    network: nn.Module
    train: Batches
    val: Batches | None
    recipe: Recipe
    task: Task
    folder: Folder
    device: torch.device
    grad_accum_steps: int
    bf16: bool
    progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    pause: float

    def __post_init__(self) -> None:
        recipe = self.recipe
        freeze(self.network, recipe.freeze)
        self.module = placed(self.task.around(self.network, recipe), self.device)
        groups = parameter_groups(self.network, dict(recipe.lr_scales), recipe.norm_decay)
        own = {p for group in groups for p in group["params"]}
        if around := [p for p in self.module.parameters() if p.requires_grad and p not in own]:
            groups.append({"params": around, "lr_scale": 1.0})
        if not groups:
            raise ArgumentError("leaves nothing to train", "freeze", recipe.freeze)
        self.optimizer: torch.optim.Optimizer
        momentum, decay = recipe.momentum, recipe.weight_decay
        if recipe.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, recipe.lr, momentum, 0, decay, recipe.nesterov)
        else:
            self.optimizer = torch.optim.AdamW(groups, recipe.lr, (momentum, 0.999), weight_decay=decay)
        self.lr = recipe.lr
        self.plateau = None
        if recipe.schedule == "plateau":
            patience = recipe.lr_patience - 1  # torch lowers at the epoch after those it is patient for
            self.plateau = ReduceLROnPlateau(self.optimizer, factor=recipe.lr_factor, patience=patience)
        self.wrapped = self.module
        if ranks.world()[1] > 1:
            gpus = [self.device] if self.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.module, device_ids=gpus)
            # Training does not need the statistics of batches: those of the first rank are shared when somebody does.
            # As an argument it has another name from torch 2.13 on.
            self.wrapped.broadcast_buffers = False
        self.state = _State(rates=[{"step": 0, "lr": recipe.lr}])
        self.settings: dict[str, Any] = {}
        self.random: Mapping[str, torch.Tensor] = {}
        self.wished = math.inf  # when an end was first asked for while there was no batch

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        first = self.optimizer.param_groups[0]
        return float(first["lr"] / first["lr_scale"])

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

    # --- going on

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on; another rate is no other run, nor are more epochs, but for a cosine."""
        free = {"lr"} if self.recipe.schedule == "cosine" else {"lr", "epochs"}
        recipe = {k: v for k, v in self.recipe.to_dict().items() if k not in free}
        parts = {"recipe": recipe, "task": self.task.to_dict(), "train": of_stream(self.train.state_dict())}
        if self.val is not None:
            parts["val"] = of_stream(self.val.state_dict())
        return identity(self.module, parts, self.folder.metadata)

    def save(self, random: dict[str, torch.Tensor] | None = None) -> None:
        """Write the checkpoint, with these random states or those of now. All ranks call it at the same step."""
        if self.folder.path is None:
            return
        values = [value for value in self.module.state_dict().values() if value.is_floating_point()]
        if self.agreed(not all(bool(torch.isfinite(value).all()) for value in values)):  # statistics differ by rank
            raise self.diverged(f"weights are not finite any more at step {self.state.step}")
        states = ranks.gathered(random_state(self.device) if random is None else random)
        content: dict[str, Any] = {"epoch": self.state.epoch, "settings": self.settings, "lr": self.recipe.lr}
        content["state"] = vars(self.state)
        modules: dict[str, Any] = {"state_dict": self.module, "optimizer": self.optimizer, "scheduler": self.plateau}
        content |= {name: None if module is None else module.state_dict() for name, module in modules.items()}
        content |= {"random": states, "stream": self.train.state_dict() if self.state.steps else None}
        self.folder.save(content, str(self.state))

    def load(self) -> None:
        """Go on from the checkpoint, where there is one."""
        content = self.folder.load(self.settings, {f"recipe.{k}": v for k, v in Recipe().to_dict().items()})
        if content is None:
            return
        with self.folder.reading():
            self.module.load_state_dict(content["state_dict"])
            self.load_optimizer(content["optimizer"])
            if self.plateau is not None:
                own, there = self.plateau.state_dict(), content["scheduler"]
                check(there, {name: type(value) for name, value in own.items()}, "scheduler")
                self.plateau.load_state_dict({name: there[name] for name in own})
            self.state = _State(**content["state"])
            rank, states = ranks.world()[0], content["random"]
            self.random = states[rank if rank < len(states) else 0]
            torch.Generator().set_state(self.random["cpu"])  # to see whether it is one
        if content["lr"] != self.recipe.lr and self.state.epoch < self.recipe.epochs:
            self.lr = self.recipe.lr
            self.state.rates.append({"step": self.state.step, "lr": self.lr})
        self.folder.saved = str(self.state)
        self.folder.log(f"going on from the checkpoint of {self.state}")
        if content["stream"] is not None:
            with self.folder.reading():
                self.train.load_state_dict(content["stream"])

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an optimizer: its numbers for each parameter, and its rate. Raises ValueError for another's."""
        groups = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in self.optimizer.param_groups]
        check([group["lr"] for group in state["param_groups"]], [(int, float)], "lr")
        self.optimizer.load_state_dict(dict(state))
        for group, own in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(own)  # as the recipe says, which is the same
        for parameter, kept in self.optimizer.state.items():
            if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != parameter.shape for v in kept.values()):
                raise ValueError("the optimizer is that of another network")

    def restore_random(self) -> None:
        """Random numbers go on where they were when the checkpoint was written."""
        set_random_state(self.random, self.device)
        self.random = {}

    def waiting(self, stop: Callable[[], object]) -> None:
        """While there is no batch: `stop` once an end is asked for. Of several ranks the others may wait for this one, and cannot save."""
        if self.wished == math.inf and self.should_stop():
            self.wished = time.monotonic()
        if time.monotonic() - self.wished >= (0 if (alone := ranks.world()[1] == 1) else LAST_WAIT):
            stop() if alone else self.stop(saves=False)

    def stop(self, random: dict[str, torch.Tensor] | None = None, saves: bool = True) -> NoReturn:
        """Save, and end as `should_stop` asked."""
        if saves:
            self.save(random)
        remedy = f"; {self.folder.remedy}" if self.folder.saved else ""
        raise StoppedError(f"stopped after step {self.state.step}{remedy}")

    def diverged(self, what: str) -> RunError:
        """The error for numbers that are not finite, or absurd."""
        lower = f"give an `lr` below {self.lr:g}" + (" to go on from there" if self.folder.saved else "")
        return RunError(f"{what}: the learning rate, {self.lr:g}, may be too high; {self.folder.last_good}; {lower}")

    def finish(self) -> None:
        """Write the weights of the network, and what was done, without how long that took: the same run leaves the same bytes.

        A command that came after the end, with another rate or fewer epochs, does not change them.
        """
        done, rows = {"lr": self.state.rates[0]["lr"], "epochs": self.state.epoch}, self.state.rows
        about: dict[str, Any] = {
            "recipe": {**self.recipe.to_dict(), **self.folder.metadata.get("recipe", {}), **done},
            "task": {**self.task.to_dict(), **self.task.kept(self.module)},
            "metrics": {k: v for k, v in rows[-1].items() if v is not None and k not in TIMES} if rows else {},
            "chance": self.state.chance,
        }
        if len(self.state.rates) > 1:
            about["rates"] = self.state.rates
        self.folder.finish(self.network, about, self.state.epoch, self.optimizer, self.plateau)

    # --- epochs

    def all_epochs(self) -> list[Row]:
        """Train and validate until the last epoch; see `fit`."""
        steps = len(self.train)
        if self.val is not None:
            len(self.val)  # a stream that cannot be dealt to the ranks says so now
        self.settings = self.identity()
        count, size = sum(p.numel() for p in self.module.parameters()), ranks.world()[1]
        self.folder.log(
            f"{self.folder.metadata.get('model', {}).get('name', 'a network')} of {count:,} parameters on {self.device}"
            + (f" and {size - 1} more ranks" if size > 1 else "")
            + f", {steps:,} steps of {self.recipe.batch_size} clips an epoch"
        )
        self.load()
        if self.state.epoch < self.recipe.epochs:
            self.folder.open_board(self.state.step + 1)
        self.folder.write_log(columns(self.task), self.state.rows)
        while self.state.epoch < self.recipe.epochs:
            if not self.state.trained:
                if not self.state.steps:
                    self.train.set_epoch(self.state.epoch)
                stopped = self.train_epoch(steps)
                self.state.trained = True
                if stopped:
                    self.stop()
                if not self.state.rows:  # the first validation may fail
                    self.save()
            self.restore_random()
            self.end_epoch()
        ranks.share_buffers(self.module)
        self.finish()
        return self.state.rows

    def end_epoch(self) -> None:
        """Validate, lower the rate, and write the row of the epoch."""
        state = self.state
        numbers = [state.epoch + 1, state.step, self.lr, state.mean(state.loss), state.mean(state.metric)]
        found = self.validate() if self.val is not None else [None] * (1 + len(self.task.metrics))
        row: Row = dict(zip(columns(self.task), [*numbers, *found, *state.speed], strict=True))
        if self.plateau is not None and state.epoch >= self.recipe.warmup_epochs:
            self.plateau.step(row["train_loss"] if self.val is None else row["val_loss"])
            self.lr = self.lr  # of all layers alike: torch lowers no rate by less than 1e-8
        state.rows.append(row)
        self.folder.add("epoch", row, state.step)
        self.tell("done", state.steps, state.steps, row)
        self.state = _State(state.epoch + 1, state.step, rows=state.rows, rates=state.rates, chance=state.chance)
        self.save()
        self.folder.write_log(columns(self.task), state.rows)

    def train_epoch(self, steps: int) -> bool:
        """Train on what is left of an epoch. Returns whether it was the last step that was to be followed by a stop."""
        self.module.train()
        state = self.state
        saved = time.perf_counter()
        begun = saved - state.seconds  # as if no time was spent outside of training
        flying: _Seen | None = None
        first = state.step

        def stop() -> None:
            self.read(flying)
            state.seconds = time.perf_counter() - begun
            self.stop(saves=state.step > first)  # what was saved before is whole

        if not state.steps:
            self.restore_random()
        for batch, asked, given in self.fed(stop):
            self.restore_random()  # a DataLoader drew a number to begin with, which in the middle of an epoch it had before
            self.size, wanted = len(batch[0]), self.recipe.batch_size
            if not state.steps and self.size * ranks.world()[1] != wanted:
                held = f"gives batches of {self.size} on each of {ranks.world()[1]} ranks"
                raise ArgumentError(f"{held}, and the `batch_size` of the recipe is {wanted} over all", "train")
            if (rate := self.recipe.rate(state.epoch + state.steps / steps)) is not None:
                self.lr = rate
            due = ranks.is_main() and time.perf_counter() - saved > self.pause
            seen = _Seen(*self.one_step(batch, due, self.should_stop()), asked, given)
            # The sums of the step before are read while this one runs, so that a GPU is never waited for.
            wishes = self.read(flying)
            flying = seen
            state.steps += 1
            state.step += 1
            if any(wishes):
                self.read(flying)
                flying = None
                state.seconds = time.perf_counter() - begun
                if wishes[1]:
                    self.stop()
                self.save()
                saved = time.perf_counter()
                begun = saved - state.seconds
            state.seconds = time.perf_counter() - begun
            self.tell("train", state.steps, steps)
        stopped = self.read(flying)[1]
        state.seconds = time.perf_counter() - begun
        if not state.clips:
            raise ArgumentError("leaves no whole batch in an epoch", "batch_size", self.recipe.batch_size)
        self.check_mean()
        return stopped

    def fed(self, stop: Callable[[], object]) -> Iterator[tuple[Any, _Moment, _Moment]]:
        """Batches, each with the moments when it was asked for and there.

        Here and not in a variable of whoever trains: an error would hold that, and so the threads that make batches.
        """
        batches, asked = iter(self.train), self.moment()
        pull: Callable[[], Any] = asking(lambda: self.waiting(stop))(functools.partial(next, batches, None))
        while (batch := pull()) is not None:
            yield batch, asked, self.moment()
            asked = self.moment()

    def moment(self) -> _Moment:
        """Now, or when a GPU comes to it."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def tell(self, phase: str, step: int, steps: int, row: Row | None = None) -> None:
        """Call `progress`."""
        state = self.state
        self.progress(
            Progress(
                phase, state.epoch + 1, self.recipe.epochs, step, steps, self.lr if row is None else row["lr"],
                state.mean(state.loss), {self.task.metrics[0]: state.mean(state.metric)}, *state.speed, row,
            )
        )  # fmt: skip

    # --- steps

    def parts(self, name: str, batch: Any) -> list[tuple[Any, Any, Any]]:
        """Clips, labels and numbers of the parts in which a batch goes through the network."""
        clips, labels = batch[:2]
        numbers = batch[-1] if self.task.needs_numbers else None
        if self.task.needs_numbers and (len(batch) < 3 or getattr(numbers, "shape", None) != (len(clips), 3)):
            raise ArgumentError(
                f"gives no sample numbers, which {self.task.name} draws by; make it with numbers=True", name
            )
        if labels is not None:
            labels = labels.to(self.device, non_blocking=True)
        whole = max(self.recipe.batch_size // ranks.world()[1], len(clips))
        count = parts(len(clips), whole, self.grad_accum_steps)
        each = ((None,) * count if part is None else part.tensor_split(count) for part in (clips, labels, numbers))
        return list(zip(*each, strict=True))

    def forward(self, module: nn.Module, part: tuple[Any, Any, Any]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Outputs, and the sums of the loss and of each metric."""
        clips, labels, numbers = part
        clips = normalised(clips, self.device, self.recipe.mean, self.recipe.std)
        inputs, targets = self.task.prepare(clips, labels, numbers)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outputs = module(inputs)
        loss = self.task.loss(outputs, targets)
        with torch.no_grad():
            return outputs, loss, self.task.score(outputs, targets)

    def one_step(self, batch: Any, *wishes: bool) -> tuple[torch.Tensor, _Moment]:
        """One step; sums of loss, metric, clips and of wishes to save and to stop, of all ranks, and when they have landed."""
        self.optimizer.zero_grad(set_to_none=True)
        size, sums = len(batch[0]), torch.zeros(2, device=self.device)
        pieces = self.parts("train", batch)
        for i, part in enumerate(pieces):
            net, last = self.wrapped, i == len(pieces) - 1
            waits = isinstance(net, DistributedDataParallel) and not last  # gradients travel once a step
            with net.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                outputs, loss, score = self.forward(net, part)
                (loss / size).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.detach(), score[0].to(loss.dtype)])
        self.optimizer.step()
        self.state.chance = self.state.chance or dict(self.task.chance(outputs))
        rest = torch.tensor([float(size), *map(float, wishes)]).to(self.device, non_blocking=True)
        values = ranks.total(torch.cat([sums, rest]))
        return values.to("cpu", non_blocking=True), self.moment()

    def read(self, seen: _Seen | None) -> tuple[bool, bool]:
        """Add the sums of a step to those of the epoch. Returns the wishes to save and to stop."""
        if seen is None:
            return False, False
        state = self.state
        if isinstance(seen.landed, torch.cuda.Event) and not arrived(seen.landed.query, self.should_stop):
            raise RunError(f"the GPU, or another rank, did not answer after step {state.step}; {self.folder.remedy}")
        state.waited += seen.waited
        loss, metric, clips, save, stop = seen.sums.tolist()
        mean = loss / clips
        if state.absurd(mean, ABSURD[0]):
            raise self.diverged(f"the loss is {mean:g} at step {state.step} (epoch {state.epoch + 1})")
        state.loss += loss
        state.metric += metric
        state.clips += clips
        if state.steps >= SETTLED:
            self.check_mean()
        self.folder.add("step", {"loss": mean}, state.step)
        return save > 0, stop > 0

    def check_mean(self) -> None:
        """Raises RunError where the mean loss of the epoch is absurd; the checkpoint of before stays."""
        state = self.state
        mean = state.mean(state.loss)
        if state.absurd(mean, ABSURD[1]):
            raise self.diverged(f"the mean loss of epoch {state.epoch + 1} is {mean:g} at step {state.step}")

    def validate(self) -> list[float]:
        """Loss and metrics on the validation clips."""
        assert self.val is not None
        ranks.share_buffers(self.module)
        self.module.eval()
        random = random_state(self.device)
        sums, clips = torch.zeros(1 + len(self.task.metrics), dtype=torch.float64, device=self.device), 0
        self.val.set_epoch(0)
        steps = len(self.val)
        with torch.inference_mode(), asking(lambda: self.waiting(lambda: self.stop(random))):
            for i, batch in enumerate(self.val):
                for part in self.parts("val", batch):
                    _, loss, score = self.forward(self.module, part)
                    sums += torch.cat([loss[None].double(), score.double()])
                clips += len(batch[0])
                self.tell("val", i + 1, steps)
                if self.agreed(self.should_stop()):
                    self.stop(random)
        *found, count = ranks.total(torch.cat([sums, sums.new_tensor([clips])])).tolist()
        if not count:
            raise ArgumentError("gives no batches", "val")
        if not math.isfinite(found[0]):
            raise self.diverged(f"the validation loss is {found[0]} after epoch {self.state.epoch + 1}")
        return [total / count for total in found]

    def agreed(self, wish: bool) -> bool:
        """Whether any rank wishes it."""
        if ranks.world()[1] == 1:
            return wish
        return bool(ranks.total(torch.tensor(float(wish), device=self.device)).item())


def normalised(
    clips: torch.Tensor, device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Clips (N, 3, T, H, W) on `device`: bytes as (x / 255 - mean) / std in float32, floats as they are."""
    grey = clips.stride(1) == 0
    made = (clips[:, :1] if grey else clips).to(device, non_blocking=True)  # grey that is repeated travels once
    made = made.expand(clips.shape)
    if not made.is_floating_point():
        made = tensors.normalised(made, mean, std)
    return made.contiguous(memory_format=torch.channels_last_3d) if made.is_cuda else made


def bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 of its own."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

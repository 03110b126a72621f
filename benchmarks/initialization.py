"""Does VPN initialization beat training from scratch, and inflation, where no action-recognition set is at hand?

    python -m benchmarks.initialization [--quick] [--device cpu] [--seeds 5] [--imagenet resnet18.pth] [--out FOLDER]
    python -m benchmarks.initialization --plan small --arms "scratch; VPN; order; puzzle; reconstruct; correspond" --name tasks
    python -m benchmarks.initialization --plan study --name study --minutes 55 [--continue]      # what motion with labels teaches
    python -m benchmarks.initialization --plan orderings --name orderings --minutes 55 [--continue]     # the paper's orderings

A network is initialized in some way, and learns a target from few clips: sixteen motions of real pictures (`benchmarks.motions`),
of which the test shows other pictures, or fifteen human actions (`benchmarks.actions`), of which it shows other views too. All ways
of initialization have the same network, and are fine-tuned on the same clips for as many steps. What each learns from before that
has as many clips and steps too, unless its name says more. Whatever comes out is written down.

What is compared stands in `benchmarks.arms`, the tables and pictures in `benchmarks.initialization_report`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a CPU, jobs run side by side with a thread each

import torch
from torch import nn
from torch.nn import functional

import vpngen
from benchmarks import actions, common, motions, orderings
from benchmarks.arms import (
    BASES,
    BEST,
    CORRESPOND,
    DRIFT,
    DROP,
    IMAGENET,
    MOVING,
    ORDER,
    PLANS,
    PUZZLE,
    SCRATCH,
    STILLS,
    TARGETS,
    TASKS,
    Arm,
    Plan,
    arm_of,
    before_of,
    missing,
    once,
    rates_before,
    single,
    slow_first,
    spec_of,
)  # fmt: skip
from benchmarks.initialization_report import look, ordered, picture, plot, report
from vpngen import files
from vpngen.models import create_model, inflate, read_weights, replace_head
from vpngen.models.base import Network, find_head
from vpngen.models.images import flat
from vpngen.models.selectivity import selectivity
from vpngen.sampling import AUGMENTATIONS, QUARTER_OCTAVES
from vpngen.tasks import Classify, Factors, Task
from vpngen.train import Recipe, fit
from vpngen.train.fitting import Batches

HOME = Path(__file__).parent
CHOOSING = 1000
"""The seed of the runs that choose learning rates; its clips and weights are in no other run."""
NORMAL: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
EPOCHS = 8
"""Parts that the clips of an initialization come in, for each budget."""


# --- clips


class Memory:
    """Clips that are in memory already, as `fit` wants them; for training in an order and from crops of each epoch's own.

    `clips` are uint8 (N, 3, T, Y, X), `clip` is (t, y, x) of what is cut from them, in the middle where nothing is drawn.
    """

    def __init__(
        self, clips: Any, labels: Any, clip: tuple[int, int, int], batch: int, seed: int | None = None
    ) -> None:
        self.clips, self.labels, self.clip, self.batch, self.seed = clips, labels, clip, batch, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.labels) // self.batch if self.seed is not None else -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[Any]:
        room = np.array(self.clips.shape[2:], np.int64) - self.clip
        order, starts = np.arange(len(self.labels)), np.tile(room // 2, (len(self.labels), 1))
        if self.seed is not None:
            draw = np.random.Generator(np.random.Philox(key=[self.seed, self.epoch]))
            order, starts = draw.permutation(order), draw.integers(room + 1, size=starts.shape)
        self.epoch += 1
        for number in range(len(self)):
            some = order[number * self.batch : (number + 1) * self.batch]
            cut = [
                self.clips[i][(slice(None), *(slice(a, a + n) for a, n in zip(starts[i], self.clip, strict=True)))]
                for i in some
            ]
            yield torch.stack(cut), self.labels[some]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]


class FirstFrame:
    """Batches of another source, whose clips show their first frame all the time."""

    def __init__(self, source: Batches) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        for clips, labels in self.source:
            yield clips[:, :, :1].expand_as(clips), labels

    def set_epoch(self, epoch: int) -> None:
        self.source.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.source.load_state_dict(state)


@functools.lru_cache(maxsize=4)
def clips_of(target: str, plan: Plan, seed: int, split: str, device: torch.device, cache: Path) -> tuple[Memory, str]:
    """The clips of a split, on the device, and the sha256 of their pixels. Those of training are drawn by `seed`, and larger."""
    frames, size = plan.clip[:2]
    if split == "train":
        size, frames = size + plan.margin, frames + plan.margin // 2
    count = plan.count(target, split)
    if target == "actions":  # the renderer is a program of others, and has one world for all threads
        clips, labels, digest = actions.cached(cache, seed, split, count, frames=frames, size=size)
    else:
        with concurrent.futures.ThreadPoolExecutor(common.cores() if device.type == "cuda" else 1) as pool:
            clips = np.stack(list(pool.map(partial(motions.clip, seed, split, frames=frames, size=size), range(count))))
        labels = np.array([motions.label(number) for number in range(count)])
        digest = hashlib.sha256(clips.tobytes()).hexdigest()
    pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).contiguous().to(device)
    return Memory(pixels, torch.from_numpy(labels), plan.clip, plan.batch, seed if split == "train" else None), digest


def pretext(learns: str, plan: Plan, budget: int, teacher: Path | None) -> tuple[Task, Recipe, int]:
    """A task without labels, its recipe, and its steps: as many frames go through the network as those of VPN."""
    clip = (8, *plan.clip[1:]) if learns in (ORDER, PUZZLE) else plan.clip
    made = TASKS[learns](**({"teacher": plan.model, "teacher_weights": teacher} if learns == CORRESPOND else {}))
    batch = plan.pretext_batch if made.clips == 1 else plan.pretext_batch // 4
    steps = budget * plan.pretext_clips * plan.clip[0] // (clip[0] * made.clips * batch)
    recipe = Recipe(
        optimizer="adamw", lr=0.002, weight_decay=0.01, batch_size=batch, epochs=EPOCHS, schedule="cosine", clip=clip, augment="random",
        **NORMAL,
    )  # fmt: skip
    return made.of(recipe), recipe, steps


def rendered(
    arm: Arm, plan: Plan, seed: int, split: str, device: torch.device, task: tuple[Task, Recipe, int] | None = None
) -> Batches:
    """Labelled clips of the set that an initialization learns from: all of them in training, one of each instance otherwise."""
    spec, cpu = spec_of(arm, plan, seed), device.type != "cuda"
    where: dict[str, Any] = {"device": str(device), "seed": seed} | ({"threads": 1, "prefetch": 0} if cpu else {})
    if task is not None:
        shape, recipe, steps = task[0].shape(task[1]), task[1], task[2]
        length = steps // EPOCHS * recipe.batch_size if split == "train" else "epoch"
        made: Batches = vpngen.loader(
            spec,
            recipe.batch_size,
            clip=shape,
            split=split,
            length=length,
            drop_last=True,
            augment="random",
            numbers=True,
            **where,
        )
        return made
    clip, augment = plan.clip, AUGMENTATIONS["x10" if split == "train" else "none"]
    if spec.generator.handed:
        augment = dataclasses.replace(augment, flip=0.0)
    if arm.learns == "stills":
        clip = (1, *plan.clip[1:])
        augment = dataclasses.replace(augment, scales=QUARTER_OCTAVES[:3] if split == "train" else (1.0,))
    batches: Any = vpngen.loader(
        spec, plan.pretext_batch, clip=clip, split=split, augment=augment, shuffle=split == "train", drop_last=True,
        length=plan.pretext_clips // EPOCHS if split == "train" else "epoch", **where,
    )  # fmt: skip
    return FirstFrame(batches) if arm.still else batches


def shown(plan: Plan, names: Sequence[str], cache: Path) -> dict[str, Any]:
    """Three clips of what each initialization learns from that looks like no other, and of each target: (3, 3, T, Y, X)."""
    found: dict[str, Any] = {}
    cpu = torch.device("cpu")
    for name in dict.fromkeys(once(name) for name in names if BEST not in name):
        arm = arm_of(name)
        if arm.learns == "stills":
            clips = next(iter(rendered(arm, plan, 0, "val", cpu)))[0].expand(-1, 3, plan.clip[0], -1, -1)
        elif arm.learns == "categories" and not arm.heads:
            clips = next(iter(rendered(dataclasses.replace(arm), plan, 0, "train", cpu)))[0].expand(-1, 3, -1, -1, -1)
        else:
            continue
        found[name] = clips[:3].numpy()
    for target in plan.targets:
        memory = clips_of(target, plan, 0, "test", cpu, cache)[0]
        found[TARGETS[target].title] = memory.clips[[0, 8, 11]].numpy()
    return found


# --- training


class Stem(nn.Conv3d):
    """A first layer of stride 1 in time that takes the three equal channels of grey clips for one, and frames for channels.

    What comes out and all gradients are those of the layer itself, but for rounding; a CPU has a third of the work.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grey = torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
        if not grey or self.stride[0] != 1 or self.bias is not None:
            return super().forward(x)
        (n, _, t), k, channels = x.shape[:3], self.kernel_size[0], torch.channels_last
        frames = functional.pad(x[:, 0], (0, 0, 0, 0, self.padding[0], self.padding[0])).unfold(1, k, 1)
        frames = frames.permute(0, 1, 4, 2, 3).reshape(n * t, k, *x.shape[3:]).contiguous(memory_format=channels)
        weight = self.weight.sum(1).contiguous(memory_format=channels)
        made = functional.conv2d(frames, weight, None, self.stride[1:], self.padding[1:])
        return made.view(n, t, *made.shape[1:]).transpose(1, 2)


def network(plan: Plan, outputs: int) -> nn.Module:
    """The network of a plan, in the form in which a CPU trains one of few channels fastest."""
    model = create_model(plan.model, outputs, width=plan.width).to(memory_format=torch.channels_last_3d)
    model.conv1.__class__ = Stem
    return model


class Trunk:
    """The steps of an initialization at its first learning rate, kept at some epochs: larger budgets go on from there.

    Attributes:
        cpu_seconds: what the steps took that came from files.
    """

    def __init__(self, folder: Path, arm: Arm, rate: float, seed: int) -> None:
        about = repr((dataclasses.replace(arm, budget=1, freeze=0), rate, seed))
        self.stem, self.cpu_seconds = folder / f"trunk-{hashlib.sha256(about.encode()).hexdigest()[:20]}", 0.0
        self.since = time.process_time()

    def load(self, epoch: int, model: nn.Module) -> bool:
        """Give a model its weights after so many epochs, if they are kept."""
        if not (path := self.stem.with_suffix(f".{epoch}.pth")).exists():
            return False
        kept = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(kept["state"])
        self.cpu_seconds, self.since = kept["cpu_seconds"], time.process_time()
        return True

    def save(self, epoch: int, model: nn.Module) -> None:
        """Keep them."""
        with files.replace(self.stem.with_suffix(f".{epoch}.pth")) as partial:
            torch.save(
                {"state": {n: v.cpu() for n, v in model.state_dict().items()}, "cpu_seconds": self.spent}, partial
            )

    @property
    def spent(self) -> float:
        """CPU seconds of all steps so far."""
        return self.cpu_seconds + time.process_time() - self.since


def train(
    model: nn.Module, batches: Batches, val: Batches | None, rate: float, epochs: int, device: torch.device, batch: int, *,
    task: Task | None = None, freeze: int = 0, trunk: Trunk | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Steps of SGD at a rate, and the last of them at a tenth of it; the weight decay is the paper's.

    With a trunk the first part is that of each smaller budget and then the rest, so that it is the same whatever was kept.
    """
    first = round(DROP * epochs)
    halves = [round(DROP * EPOCHS) << k for k in range(16)] if trunk else []
    stops, begin, rows = [*(stop for stop in halves if stop < first), first], 0, []
    for stop, count, lr in (*((s, s, rate) for s in stops), (epochs, epochs - first, rate / 10)):
        last = stop == epochs
        if not last and trunk is not None and trunk.load(stop, model):
            begin = stop
            continue
        recipe = Recipe(
            lr=lr, epochs=count if last else stop - begin, batch_size=batch, lr_patience=10**6, augment="none", freeze=freeze, **NORMAL
        )  # fmt: skip
        rows = fit(model, Later(batches, begin), val if last else None, recipe, task=task, device=device)
        if not last and trunk is not None:
            trunk.save(stop, model)
        begin = stop
    return rows


class Later:
    """Batches whose epochs are counted from a later one."""

    def __init__(self, source: Batches, first: int) -> None:
        self.source, self.first = source, first

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source)

    def set_epoch(self, epoch: int) -> None:
        self.source.set_epoch(self.first + epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.source.load_state_dict(state)


def categories(
    arm: Arm, model: nn.Module, plan: Plan, rate: float, seed: int, device: torch.device, task: Task, work: Path
) -> tuple[dict[str, Any], nn.Module]:  # fmt: skip
    """Name the categories of a rendered set: what that took and what was learned, and the network."""
    trunk, epochs = Trunk(work, arm, rate, seed), EPOCHS * arm.budget
    batches, val = (rendered(arm, plan, seed, split, device) for split in ("train", "val"))
    rows = train(
        model, batches, val, rate * plan.pretext_batch / 128, epochs, device, plan.pretext_batch, task=task, trunk=trunk
    )
    steps = epochs * len(batches)
    clips, spec = steps * plan.pretext_batch, spec_of(arm, plan, seed)
    return {
        "clips": clips, "frames": clips * (1 if arm.learns == "stills" else plan.clip[0]), "steps": steps, "metric": "top1",
        "val_metric": rows[-1]["val_top1"], "chance": 1 / spec.n_categories, "fingerprint": spec.fingerprint,
        "cpu_seconds": trunk.spent,
    }, model  # fmt: skip


def stills(
    plan: Plan, rate: float, seed: int, device: torch.device, work: Path, arm: Arm = BASES[STILLS]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a 2-D network learned that named the categories of formula-made stills, and its weights."""
    network = create_model(plan.model, plan.categories, width=plan.width)
    assert isinstance(network, Network)
    about, learner = categories(arm, flat(network), plan, rate, seed, device, Classify(), work)
    return about, {n: v[:, :, 0] if v.ndim == 5 else v for n, v in learner.cpu().state_dict().items()}


def initialized(
    arm: Arm, plan: Plan, rate: float, seed: int, device: torch.device, place: Place
) -> tuple[nn.Module, dict[str, Any]]:
    """The network before fine-tuning, and what its initialization took and learned."""
    torch.manual_seed(seed)
    task: Task = Classify()
    outputs = plan.categories
    if arm.learns == "categories":
        generator = spec_of(arm, plan, seed).generator
        task = Factors().labelled([len(f.values) for f in generator.factors]) if arm.heads else task
        outputs = task.outputs(generator.n_categories)
    model = network(plan, outputs)
    about: dict[str, Any] = {"clips": 0, "frames": 0, "steps": 0, "cpu_seconds": 0.0}
    if arm.learns == "stills":
        about, state = stills(plan, rate, seed, device, place.work, arm)
        inflate(model, state)
    elif arm.learns == "categories":
        about, model = categories(arm, model, plan, rate, seed, device, task, place.work)
    elif arm.learns in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            teacher = Path(folder) / "stills.pth"
            if arm.learns == CORRESPOND:
                torch.save(stills(plan, rate, seed, device, place.work)[1], teacher)
            begun = time.process_time()
            made, recipe, steps = pretext(arm.learns, plan, arm.budget, teacher)
            batches, val = (
                rendered(arm, plan, seed, split, device, (made, recipe, steps)) for split in ("train", "val")
            )
            rows = fit(model, batches, val, recipe, task=made, device=device)
        samples, metric = EPOCHS * len(batches) * recipe.batch_size, made.metrics[0]
        about = {"clips": samples, "frames": samples * made.clips * recipe.clip[0], "steps": EPOCHS * len(batches),
                 "metric": metric, "val_metric": rows[-1][f"val_{metric}"], "cpu_seconds": time.process_time() - begun,
                 "chance": made.chance(torch.zeros(1, 2, 2))[metric]}  # fmt: skip
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    elif arm.learns == "imagenet":
        assert place.imagenet is not None
        inflate(model, read_weights(place.imagenet)[0])
    return model, about


def selective(model: nn.Module, layers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Layer -> the median of its units' orientation and direction selectivity indices."""
    found = selectivity(model, layers)
    return {s.layer: {name: float(np.nanmedian(getattr(s, name))) for name in ("osi", "dsi")} for s in found}


def answers(model: nn.Module, batches: Memory, device: torch.device) -> tuple[list[int], list[int]]:
    """Labels and what the network takes the clips for."""
    from vpngen.train.fitting import normalised

    model.eval()
    said = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for clips, _ in batches:
            said.append(model(normalised(clips, device, **NORMAL)).argmax(1).cpu())
    return batches.labels.tolist(), torch.cat(said).tolist()


# --- jobs


class Job(NamedTuple):
    """One thing to do, whose result is a function of it and the plan.

    Attributes:
        target: a key of `TARGETS` to fine-tune on; empty for the initialization itself.
        arm: its name, budget and all.
        before: the learning rate of the initialization, for 128 clips.
        rate: that of fine-tuning; 0 of the initialization.
        seed: of weights, sets and training clips; with `CHOOSING` fine-tuning is judged on validation clips, else on the test.
    """

    target: str
    arm: str
    before: float
    rate: float
    seed: int

    @property
    def first(self) -> Job:
        """The initialization that fine-tuning begins with."""
        return Job("", before_of(self.arm), self.before, 0.0, self.seed)

    @property
    def weights(self) -> str:
        """The name of the file of the weights of an initialization."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:20] + ".pth"


@dataclass(frozen=True)
class Place:
    """Where jobs run, and where they leave files.

    Attributes:
        device: such as cpu or cuda:1.
        work: a folder for weights that wait for their fine-tuning, and for rendered clips.
        imagenet: a file of weights.
    """

    device: str
    work: Path
    imagenet: str | None = None


def do(job: Job, plan: Plan, place: Place) -> dict[str, Any]:
    """Initialize, and leave the weights in a file; or fine-tune and tell which part of the clips is right."""
    device = torch.device(place.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(device.index or 0)
    start, arm, path = time.perf_counter(), arm_of(job.arm), place.work / job.first.weights
    if not job.target:
        model, about = initialized(arm, plan, job.before, job.seed, device, place)
        if plan.looked_into:
            about["selectivity"] = selective(model.to(device), plan.looked_into)
        with files.replace(path) as partial:
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            torch.save({"outputs": state[f"{find_head(model)[0]}.weight"].shape[0], "state": state}, partial)
        return {**about, "seconds": time.perf_counter() - start}
    target = TARGETS[job.target]
    kept = torch.load(path, map_location="cpu", weights_only=True)
    model = network(plan, kept["outputs"])
    model.load_state_dict(kept["state"])
    torch.manual_seed(job.seed + 1)
    replace_head(model, len(target.classes))
    clips, train_digest = clips_of(job.target, plan, job.seed, "train", device, place.work)
    judged, digest = clips_of(
        job.target, plan, 0, "val" if job.seed == CHOOSING else "test", device, place.work
    )  # the same for all seeds
    rows = train(model, clips, None, job.rate, plan.epochs, device, plan.batch, freeze=arm.freeze)
    truth, said = answers(model, judged, device)
    right = [a == b for a, b in zip(truth, said, strict=True)]
    return {
        "top1": statistics.mean(right), "train_top1": rows[-1]["train_top1"],
        "kinds": {kind: statistics.mean(r for r, t in zip(right, truth, strict=True) if t in labels) for kind, labels in target.kinds.items()},
        "digests": [train_digest, digest], "seconds": time.perf_counter() - start,
    }  # fmt: skip


class TimeIsUp(Exception):
    """Jobs are left that would not end in time."""


class Kept:
    """Results of jobs in a file, a line each, so that a run that was stopped goes on; without a path they are kept nowhere.

    Raises SystemExit where the file is of another plan, or where there is one and nobody asked to go on.
    """

    def __init__(self, path: Path | None, plan: Plan, goes_on: bool) -> None:
        self.path, self.start = path, time.monotonic()
        self.results: dict[Job, dict[str, Any]] = {}
        self.before = 0.0
        fixed = json.loads(
            json.dumps({k: v for k, v in dataclasses.asdict(plan).items() if k not in ("seeds", "arms", "targets")})
        )
        if path is None:
            return
        if path.exists() and not goes_on:
            raise SystemExit(f"{path} holds results of a run: --continue goes on with it; remove it to begin again")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"plan": fixed}) + "\n")
            return
        first, *lines = path.read_text().splitlines() or [""]
        with contextlib.suppress(ValueError, KeyError):
            if json.loads(first)["plan"] == fixed:
                fixed = {}
        if fixed:
            raise SystemExit(
                f"{path} is of another plan, whose results do not compare; give another --name, or remove it"
            )
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line, if it was stopped in the middle of it
                found = json.loads(line)
                self.results[Job(*found["job"])] = found["result"]
                self.before = found["seconds"]
        if not path.read_bytes().endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")
        print(f"{len(self.results)} jobs were done before, as {path} says", file=sys.stderr)

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """Keep the result of a job."""
        self.results[job] = result
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"job": job, "seconds": self.seconds, "result": result}) + "\n")

    def guess(self, job: Job) -> float:
        """Seconds that a job will take: the median of its kind, in proportion to their budgets; 0 where nobody knows."""
        kind = [
            (j, r["seconds"]) for j, r in self.results.items() if bool(j.target) == bool(job.target) and r["seconds"]
        ]
        same = [(j, s) for j, s in kind if once(j.arm) == once(job.arm)] or kind
        share = arm_of(job.arm).budget if not job.target else 1
        took = [s * share / (arm_of(j.arm).budget if not job.target else 1) for j, s in same]
        return statistics.median(took) if took else 0.0

    @property
    def seconds(self) -> float:
        """What this run and those that it goes on from took."""
        return self.before + time.monotonic() - self.start


class Workers:
    """Processes that do jobs side by side, until time is up."""

    def __init__(self, plan: Plan, place: Place, workers: int, kept: Kept, minutes: float | None) -> None:
        self.plan, self.place, self.workers, self.kept = plan, place, workers, kept
        self.end = float("inf") if minutes is None else time.monotonic() + 60 * minutes

    def all(self, jobs: Sequence[Job]) -> None:
        """Do all jobs that have no result, those first whose turn it is in the list, and before each its initialization.

        Raises TimeIsUp, once those that were begun are done, where others are left.
        """
        results = self.kept.results
        tuning = [job for job in dict.fromkeys(jobs) if job.target and job not in results]
        needs = {job.first for job in tuning}
        queue = [job for job in dict.fromkeys(job for each in jobs for job in (each.first, each))
                 if (job in tuning or (not job.target and self._lacking(job, needs, jobs)))]  # fmt: skip
        todo = {job for job in queue if not job.target}
        pool = (
            concurrent.futures.ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
            if self.workers > 1
            else None
        )
        running: dict[concurrent.futures.Future[dict[str, Any]], Job] = {}
        late: list[Job] = []
        with pool or contextlib.nullcontext():
            while queue or running:
                for job in [j for j in queue if not (j.target and j.first in todo)]:
                    if len(running) == self.workers:
                        break
                    queue.remove(job)
                    if time.monotonic() + self.kept.guess(job) > self.end:
                        late.append(job)
                        continue
                    running[self._begin(pool, job)] = job
                if not running:
                    break
                for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)[0]:
                    job = running.pop(future)
                    self.kept.add(job, future.result())
                    todo.discard(job)
                    self._say(job)
                    if job.target and not any(
                        j.target and j.first == job.first for j in (*queue, *late, *running.values())
                    ):
                        (self.place.work / job.first.weights).unlink(missing_ok=True)
        if left := len(queue) + len(late):
            raise TimeIsUp(f"{left} jobs of this stage are left; go on with --continue")

    def _lacking(self, job: Job, needs: set[Job], jobs: Sequence[Job]) -> bool:
        """Whether an initialization is to be done: its result is asked for and is not there, or its weights are and are not."""
        there = job in self.kept.results
        return (job in needs and not (there and (self.place.work / job.weights).exists())) or (
            job in jobs and not there
        )

    def _begin(
        self, pool: concurrent.futures.ProcessPoolExecutor | None, job: Job
    ) -> concurrent.futures.Future[dict[str, Any]]:
        if pool is not None:
            return pool.submit(do, job, self.plan, self.place)
        future: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        future.set_result(do(job, self.plan, self.place))
        return future

    def _say(self, job: Job) -> None:
        result = self.kept.results[job]
        what = f"{job.target}, rate {job.rate:g}: {result['top1']:.1%}" if job.target else (
            f"before, rate {job.before:g}: {result['val_metric']:.1%}" if "val_metric" in result else "fresh"
        )  # fmt: skip
        seed = "choosing" if job.seed == CHOOSING else f"seed {job.seed}"
        print(f"  {job.arm}, {seed}, {what}, {result['seconds']:.0f} s", file=sys.stderr, flush=True)


class Choice:
    """The learning rates of each arm, chosen on validation clips."""

    def __init__(self, workers: Workers) -> None:
        self.workers, self.plan, self.results = workers, workers.plan, workers.kept.results
        self.before: dict[str, float] = {}

    def of(self, arms: Sequence[str]) -> None:
        """Choose for these arms; one that has a larger budget takes over the rates of the same with a budget of 1."""
        plan = self.plan
        several = [name for name in dict.fromkeys(map(once, arms)) if len(rates_before(name, plan)) > 1]
        self.workers.all([Job("", name, rate, 0.0, CHOOSING) for name in several for rate in plan.pretext_rates])
        for name in (*arms, *map(single, arms)):
            rates = rates_before(once(name), plan)
            self.before[name] = rates[0] if len(rates) == 1 else max(rates, key=partial(self.learned, name))
        names = dict.fromkeys(map(single, arms))
        self.workers.all([self.job(t, name, rate) for name in names for t in plan.targets for rate in plan.rates])

    def learned(self, name: str, rate: float) -> float:
        """The validation metric of an initialization at a rate."""
        value: float = self.results[Job("", once(name), rate, 0.0, CHOOSING)]["val_metric"]
        return value

    def job(self, target: str, name: str, rate: float) -> Job:
        return Job(target, single(name), self.before[name], rate, CHOOSING)

    def rate(self, target: str, name: str) -> float:
        """That of fine-tuning."""
        return max(self.plan.rates, key=lambda rate: self.results[self.job(target, name, rate)]["top1"])

    def best(self, arms: Sequence[str]) -> str:
        """The arm that is best on validation clips, in the mean of the targets."""
        targets = self.plan.targets
        return max(
            arms, key=lambda name: sum(self.results[self.job(t, name, self.rate(t, name))]["top1"] for t in targets)
        )


def run(plan: Plan, place: Place, workers: int, kept: Kept, minutes: float | None = None) -> dict[str, Any]:
    """Choose the rates of each arm, then do all again with every seed.

    Raises TimeIsUp where `minutes` were not enough.
    """
    crew = Workers(plan, place, workers, kept, minutes)
    choice = Choice(crew)
    moving, left_out = [m for m in MOVING if not missing(m)], {}
    for name in plan.arms:
        lacking = missing(name) if BEST not in name else None if moving else " or ".join(MOVING)
        if lacking:
            left_out[name] = f"this vpngen has no generator {lacking}"
            print(f"{name}: left out, {left_out[name]}", file=sys.stderr)
    arms, best = [name for name in plan.arms if name not in left_out], None
    print("learning rates, on validation clips", file=sys.stderr)
    choice.of([name for name in arms if BEST not in name])
    if any(BEST in name for name in arms):
        choice.of(moving)
        best = choice.best(moving)
        arms = list(dict.fromkeys(name.replace(BEST, best) for name in arms))
        choice.of(arms)
    print(f"{kept.seconds:.0f} s; now {plan.seeds} seeds, on test clips", file=sys.stderr)
    jobs = {(t, name, seed): Job(t, name, choice.before[name], choice.rate(t, name), seed)
            for seed in range(plan.seeds) for name in slow_first(arms) for t in plan.targets}  # fmt: skip
    crew.all(list(jobs.values()))
    for path in place.work.glob("*.pth"):  # those of rates that were not chosen
        path.unlink()
    results = kept.results
    before, targets = {}, {}
    for name in arms:
        own = [results[jobs[plan.targets[0], name, seed].first] for seed in range(plan.seeds)]
        before[name] = {
            "about": arm_of(name).about, "rate": choice.before[name],
            "val_metric_by_rate": {str(rate): choice.learned(name, rate) for rate in plan.pretext_rates if len(rates_before(once(name), plan)) > 1},
            **{key: [r[key] for r in own] for key in own[0]},
        }  # fmt: skip
    for target in plan.targets:
        found: dict[str, Any] = {}
        digests: dict[str, str] = {}
        for name in arms:
            own = [results[jobs[target, name, seed]] for seed in range(plan.seeds)]
            digests |= {f"train, seed {seed}": r["digests"][0] for seed, r in enumerate(own)} | {
                "test": own[0]["digests"][1]
            }
            found[name] = {
                "rate": choice.rate(target, name),
                "val_top1_by_rate": {str(rate): results[choice.job(target, name, rate)]["top1"] for rate in plan.rates},
                "test_top1": [r["top1"] for r in own], "train_top1": [r["train_top1"] for r in own],
                "kinds": {kind: [r["kinds"][kind] for r in own] for kind in TARGETS[target].kinds},
                "finetune_seconds": [r["seconds"] for r in own],
            }  # fmt: skip
        for name in arms:
            against = zip(found[name]["test_top1"], found[SCRATCH]["test_top1"], strict=True)
            found[name]["over_scratch"] = [a - b for a, b in against]
        classes = len(TARGETS[target].classes)
        targets[target] = {
            "parameters": sum(p.numel() for p in create_model(plan.model, classes, width=plan.width).parameters()),
            "finetune_steps": plan.count(target, "train") // plan.batch * plan.epochs, "sha256": digests, "arms": found,
        }  # fmt: skip
    device = place.device
    return {
        "machine": {**common.machine(), "gpu": torch.cuda.get_device_name(device) if device != "cpu" else None},
        "plan": dataclasses.asdict(plan), "minutes": kept.seconds / 60, "best": best, "left_out": left_out, "before": before,
        "targets": targets,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.initialization", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes, printed: that it runs, not a measurement")
    parser.add_argument("--plan", choices=list(PLANS), help="the sizes; cpu, or gpu where there is one")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU if there is one")
    parser.add_argument("--seeds", type=int, help="how many; those of the plan")
    parser.add_argument("--targets", help=f"some of {', '.join(TARGETS)}, separated by commas; those of the plan")
    parser.add_argument("--processes", type=int, help="jobs side by side; one for each core, on a GPU four at most")
    parser.add_argument("--imagenet", help="a file of 2-D ResNet weights of that depth and width, as torchvision's")
    parser.add_argument("--arms", help="names of arms, separated by semicolons, scratch among them; those of the plan")
    parser.add_argument("--name", default="initialization", help="what the files of the report are called")
    parser.add_argument("--out", type=Path, help="folder for the report; benchmarks/results, or with --quick none")
    parser.add_argument(
        "--work", type=Path, help="folder for weights and rendered clips; NAME.work in that of the report"
    )
    parser.add_argument(
        "--continue", action="store_true", dest="goes_on", help="go on with the jobs that an earlier run has not done"
    )
    parser.add_argument(
        "--look", type=Path, help="draw clips of all that is learned from into this picture, and train nothing"
    )
    parser.add_argument("--minutes", type=float, help="begin no job that would not end by then")
    options = parser.parse_args()
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    plan = PLANS["quick" if options.quick else options.plan or ("cpu" if device == "cpu" else "gpu")]
    changes: dict[str, Any] = {"seeds": options.seeds} if options.seeds else {}
    if options.targets:
        changes["targets"] = tuple(target.strip() for target in options.targets.split(","))
    if options.arms:
        changes["arms"] = tuple(arm.strip() for arm in options.arms.split(";"))
    elif options.imagenet:
        changes["arms"] = tuple(IMAGENET if arm == STILLS else arm for arm in plan.arms)
    plan = dataclasses.replace(plan, **changes)
    if options.imagenet and plan.width != 1:
        parser.error("the weights of ImageNet are those of a network of full width: run it on a GPU")
    if not set(plan.targets) <= TARGETS.keys():
        parser.error(f"--targets: must be of {', '.join(TARGETS)}")
    for target in plan.targets:
        if lacking := [name for name in TARGETS[target].home.NEEDS if not importlib.util.find_spec(name)]:
            need = f"{target} needs {', '.join(lacking)}: pip install 'vpngen[bench,bench-actions]'"
            parser.error(f"--targets: {need}; or give others")
    try:
        learns = {arm_of(arm.replace(BEST, DRIFT)).learns for arm in plan.arms}
    except ValueError as error:
        parser.error(f"--arms: {error}")
    if SCRATCH not in plan.arms:
        parser.error(f"--arms: {SCRATCH} must be among them")
    if "imagenet" in learns and not options.imagenet:
        parser.error(f"--arms: {IMAGENET} needs --imagenet")
    workers = options.processes or (common.cores() if device == "cpu" else min(4, common.cores()))
    out = options.out or (None if options.quick else HOME / "results")
    with contextlib.ExitStack() as stack:
        work = options.work or (
            out / f"{options.name}.work" if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        )
        if options.look:
            work.mkdir(parents=True, exist_ok=True)
            look(shown(plan, plan.arms, work), options.look)
            return
        kept = Kept(None if out is None else out / f"{options.name}.jobs.jsonl", plan, options.goes_on)
        try:
            found = run(plan, Place(device, work, options.imagenet), workers, kept, options.minutes)
        except TimeIsUp as left:
            raise SystemExit(f"{left}") from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{options.name}.json").write_text(json.dumps({**found, "quick": options.quick}, indent=1) + "\n")
        (out / f"{options.name}.md").write_text(report(found, options.name))
        for target in plan.targets:
            plot(found, target, out / picture(found, target, options.name))
        if ordered(found):
            classes = {target: len(TARGETS[target].classes) for target in plan.targets}
            orderings.plot(found["targets"], classes, out / f"{options.name}-orderings.png")
    print(report(found, options.name))


if __name__ == "__main__":
    main()

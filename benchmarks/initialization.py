"""Does VPN initialization beat training from scratch, and inflation, where no action-recognition set is at hand?

    python -m benchmarks.initialization [--quick] [--device cpu] [--seeds 5] [--imagenet resnet18.pth] [--out FOLDER]
    python -m benchmarks.initialization --plan small --arms "scratch; VPN; order; puzzle; reconstruct; correspond" --name tasks
    python -m benchmarks.initialization --plan study --name study --minutes 55 [--continue]      # what motion with labels teaches
    python -m benchmarks.initialization --plan orderings --name orderings --minutes 55 [--continue]     # the paper's orderings

A network is initialized in some way, and learns a target from few clips: sixteen motions of real pictures (`benchmarks.motions`),
of which the test shows other pictures, or fifteen human actions (`benchmarks.actions`), of which it shows other views too. All ways
of initialization have the same network, and are fine-tuned on the same clips for as many steps. What each learns from before that
has as many clips and steps too, unless its name says more. Whatever comes out is written down.

An arm is named by what it learns from, and by how: `VPN`, `drift, heads`, `VPN + drift, 2 x`, `VPN, slow, no noise`. See `BASES` and
`WAYS`. `best` stands for the generator of motion that does best on validation clips.
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
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a CPU, jobs run side by side with a thread each

import torch
from torch import nn

import vpngen
from benchmarks import actions, common, motions, orderings
from vpngen import files
from vpngen.generators import GENERATORS
from vpngen.models import create_model, inflate, read_weights, replace_head
from vpngen.models.base import Network, find_head
from vpngen.models.images import flat
from vpngen.sampling import AUGMENTATIONS, QUARTER_OCTAVES
from vpngen.tasks import Classify, Correspond, Factors, Order, Puzzle, Reconstruct, Task
from vpngen.train import Recipe, fit
from vpngen.train.fitting import Batches

HOME = Path(__file__).parent
SCRATCH, VPN, FROZEN, STILLS, IMAGENET = (
    "scratch",
    "VPN",
    "VPN, frozen in time",
    "inflated, fractal stills",
    "inflated, ImageNet",
)
ORDER, PUZZLE, RECONSTRUCT, CORRESPOND = "order", "puzzle", "reconstruct", "correspond"
FRACTAL, CLOUDS, DRIFT, LEAVES, BEST = "Video Fractal", "clouds", "drift", "leaves", "best"
CHOOSING = 1000
"""The seed of the runs that choose learning rates; its clips and weights are in no other run."""
DROP = 0.75
"""The part of the steps after which the learning rate falls to a tenth."""
NORMAL: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
EPOCHS = 8
"""Parts that the clips of an initialization come in."""


# --- targets, arms, plans


@dataclass(frozen=True)
class Target:
    """What networks are fine-tuned on.

    Attributes:
        title: what a report calls it.
        home: the module whose clips these are.
        classes: labels in their order.
        kinds: labels that are shown together in a report.
        about: what it shares with what networks learn from before.
    """

    title: str
    home: ModuleType
    classes: tuple[str, ...]
    kinds: Mapping[str, tuple[int, ...]]
    about: str


TARGETS = {
    "motions": Target(
        "sixteen motions of real pictures", motions, motions.MOTIONS,
        {"directions": tuple(range(8)), "rotation": (8, 9), "zoom": (10, 11), "shear": (12, 13), "flicker, rest": (14, 15)},
        "clouds, drift and leaves have labels of the same kind, directions, and drift and leaves rotation, zoom and shear too",
    ),
    "actions": Target(
        "fifteen human actions", actions, actions.ACTIONS,
        {"walk, run": (0, 1), "jump, flip, roll, wheel": (2, 7, 8, 9), "kick, punch": (3, 4, 6), "spin, dance": (5, 11, 12),
         "crawl, get up": (10, 13, 14)},
        "no initialization shares labels with it; each is one capture, so it tests views and backgrounds, not persons",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A way of initialization.

    Attributes:
        about: what a report says of it.
        learns: `categories` of rendered sets, of `stills`, from `imagenet`, a key of `TASKS`, or `nothing`.
        sets: generators of the rendered set, names of `vpngen.generators.GENERATORS`; several are mixed.
        options: of `Spec.make`, for each.
        still: whether clips show their first frame all the time.
        heads: whether there is a head for each factor of the label.
        budget: how many times as many clips and steps.
        freeze: stages that fine-tuning leaves as they are; see `Recipe`.
    """

    about: str
    learns: str = "categories"
    sets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    still: bool = False
    heads: bool = False
    budget: int = 1
    freeze: int = 0


TASKS: dict[str, Callable[..., Task]] = {
    ORDER: Order, PUZZLE: partial(Puzzle, gap=8, gap_frames=2), RECONSTRUCT: partial(Reconstruct, target="future"), CORRESPOND: Correspond,
}  # fmt: skip
BASES = {
    SCRATCH: Arm("fresh weights", "nothing"),
    VPN: Arm("named the categories of Video Perlin Noise, `vpngen.ClipStream`", sets=("perlin",)),
    STILLS: Arm(
        "a 2-D ResNet of the same depth and width that named the categories of formula-made stills (what a Video Fractal has "
        "drawn by its last frame, as FractalDB), its kernels repeated along time", "stills", ("fractal",),
    ),
    IMAGENET: Arm("a 2-D ResNet of the same depth and width trained on ImageNet, its kernels repeated along time", "imagenet"),
    ORDER: Arm("without labels: which of 6 clips of 8 frames, of a window of 20 of a VPN video, is shuffled (Suzuki et al. 2018)", ORDER, ("perlin",)),
    PUZZLE: Arm(
        "without labels: the order of 4 pieces of a Video Fractal, which grows, in space or in time, and whether they are upside down "
        "(Kim et al. 2019)", PUZZLE, ("fractal",),
    ),
    RECONSTRUCT: Arm(
        "without labels: a clip of VPN drawn again, and the frames that follow, from its features (an alternative of Kim et al. 2019)",
        RECONSTRUCT, ("perlin",),
    ),
    CORRESPOND: Arm(
        "without labels: whether frames, as the stills' 2-D ResNet sees them, and a clip of VPN belong together (Diba et al. 2017); "
        "that the teacher learned from stills is not counted", CORRESPOND, ("perlin",),
    ),
    FRACTAL: Arm("named the categories of Video Fractals, which grow", sets=("fractal",)),
    CLOUDS: Arm("named direction, speed and frequency of sums of waves", sets=("clouds",)),
    DRIFT: Arm("named flow, speed and size of noise that is carried along", sets=("drift",)),
    LEAVES: Arm("named the common motion, its speed and the size of opaque shapes", sets=("leaves",)),
}  # fmt: skip
"""What arms are named by first."""
MOVING = (CLOUDS, DRIFT, LEAVES)
"""Those that `best` is one of."""
WAYS: tuple[tuple[str, str, Callable[[str], dict[str, Any]]], ...] = (
    ("frozen in time", "the same clips, but of each its first frame alone, repeated: no motion to learn from", lambda _: {"still": True}),
    ("random grey", "contrast and mean of each video at random, as those of clouds, drift and leaves: a control", lambda _: {"grey": "random"}),
    ("heads", "a head for each factor of the label", lambda _: {"heads": True}),
    (r"(\d+) x", "{} times the clips and steps", lambda n: {"budget": int(n)}),
    ("(slow|fast|full)", "temporal categories: {}", lambda name: {"temporal": name}),
    ("(low|high)", "the {}est spatial divisions", lambda rule: {"divisions": rule}),
    ("no noise", "without random frequency noise", lambda _: {"noise_terms": 0}),
    (r"(\d+) categories", "{} categories", lambda n: {"categories": int(n)}),
    (r"frozen to stage (\d)", "stem and stages up to {} stay as they were initialized", lambda n: {"freeze": int(n)}),
)  # fmt: skip
"""What follows, by commas: a pattern, what a report says, and fields of `Arm` or else options."""


@functools.cache
def arm_of(name: str) -> Arm:
    """The arm of a name. Raises ValueError."""
    base = max((b for b in BASES if name == b or name.startswith((f"{b}, ", f"{b} + "))), key=len, default=None)
    if base is None:
        raise ValueError(f"{name!r} is no initialization; they begin with {'; '.join(BASES)}; {BEST}")
    arm, rest = BASES[base], name[len(base) :]
    if rest.startswith(" + "):
        other, comma, rest = rest[3:].partition(", ")
        if other not in BASES or {arm.learns, BASES[other].learns} != {"categories"}:
            raise ValueError(f"{name!r}: categories of generators alone are mixed, and {other!r} has none")
        arm = dataclasses.replace(
            arm, about=f"categories of both: {arm.about}; {BASES[other].about}", sets=arm.sets + BASES[other].sets
        )
        rest = comma + rest
    for way in filter(None, rest.split(", ")):
        for pattern, about, change in WAYS:
            if found := re.fullmatch(pattern, way):
                value = found[1] if found.groups() else ""
                fields = {f.name for f in dataclasses.fields(Arm)}
                changes = change(value)
                options = {k: v for k, v in changes.items() if k not in fields}
                own = {k: v for k, v in changes.items() if k in fields}
                arm = dataclasses.replace(
                    arm, about=f"{arm.about}; {about.format(value)}", options={**arm.options, **options}, **own
                )
                break
        else:
            raise ValueError(
                f"{name!r}: {way!r} is no way to be initialized; there are {'; '.join(p for p, *_ in WAYS)}"
            )
    return arm


def before_of(name: str) -> str:
    """The arm whose weights an arm begins with: what only fine-tuning knows left out."""
    return ", ".join(way for way in name.split(", ") if not way.startswith("frozen to stage"))


def once(name: str) -> str:
    """The arm of the budget of 1, whose learning rate before one of a larger budget takes over."""
    return ", ".join(way for way in before_of(name).split(", ") if not re.fullmatch(r"\d+ x", way))


@dataclass(frozen=True)
class Plan:
    """Everything that is fixed before a run.

    Attributes:
        model: the network, a name of `vpngen.train.MODELS`.
        width: what its planes are multiplied by.
        clip: (t, y, x), of all clips.
        side: height and width of the rendered videos that clips are cut from.
        categories: of the rendered sets.
        pretext_clips: that each initialization is trained on.
        pretext_batch: its batch; the learning rate is that of the paper, 0.3 for 128 clips, in proportion.
        pretext_rates: learning rates before, for 128 clips, to choose from.
        per_class: training clips of each class.
        batch: of fine-tuning.
        epochs: of fine-tuning.
        rates: learning rates to choose from.
        val: clips that they are chosen on, at most: as many of each class.
        test: clips of the test, likewise.
        seeds: how many times all is done with the chosen rates.
        targets: keys of `TARGETS`.
        arms: what is compared where nothing is said.
    """

    model: str = "r3d18"
    width: float = 0.25
    clip: tuple[int, int, int] = (16, 32, 32)
    side: int = 80
    categories: int = 64
    pretext_clips: int = 16384
    pretext_batch: int = 32
    pretext_rates: tuple[float, ...] = (0.3,)
    per_class: int = 16
    batch: int = 32
    epochs: int = 30
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    val: int = 480
    test: int = 800
    seeds: int = 5
    targets: tuple[str, ...] = ("motions",)
    arms: tuple[str, ...] = (SCRATCH, VPN, FROZEN, STILLS)

    @property
    def margin(self) -> int:
        """Pixels that training clips are larger by, and frames that they are longer by: room for random crops."""
        return max(self.clip[1] // 8, 1)

    def count(self, target: str, split: str) -> int:
        """Clips of a split: a multiple of the classes."""
        classes = len(TARGETS[target].classes)
        return classes * (self.per_class if split == "train" else getattr(self, split) // classes)


STUDY = (
    SCRATCH, VPN, FROZEN, STILLS, FRACTAL, CLOUDS, DRIFT, LEAVES, f"{VPN}, random grey", f"{VPN} + {BEST}", f"{BEST}, heads",
    f"{VPN}, 2 x", f"{VPN}, 4 x", f"{BEST}, 2 x", f"{BEST}, 4 x",
)  # fmt: skip
BOTH = tuple(TARGETS)
PLANS = {
    "cpu": Plan(),
    "gpu": Plan(
        width=1.0, clip=(16, 56, 56), side=144, pretext_clips=98304, pretext_batch=64, epochs=60, val=960, test=1920
    ),
    "small": Plan(model="r3d10", pretext_clips=8192, rates=(0.01, 0.03, 0.1), seeds=3),
    "quick": Plan(
        model="r3d10", width=0.125, clip=(8, 24, 24), side=80, pretext_clips=2048, epochs=8, rates=(0.03, 0.1), val=160,
        test=320, seeds=2,
    ),
    "study": Plan(pretext_clips=32768, pretext_rates=(0.3, 0.03), rates=(0.01, 0.03, 0.1), targets=BOTH, arms=STUDY),
    "orderings": Plan(side=120, rates=(0.01, 0.03, 0.1), seeds=3, targets=BOTH, arms=orderings.ARMS),
    "trial": Plan(
        model="r3d10", width=0.0625, clip=(8, 24, 24), side=120, pretext_clips=256, epochs=4, rates=(0.1,), val=32, test=32,
        per_class=2, batch=16, seeds=2, targets=BOTH,
    ),
}  # fmt: skip


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


def spec_of(arm: Arm, plan: Plan, seed: int) -> vpngen.Spec:
    """The set that an initialization learns from.

    Videos of clouds, drift and leaves are little larger than clips, so that a clip shows the motion about their centre, and there
    are as many of them as clips; so it is for a mixture with them. Of the others there are 512 in a category at most.
    """
    moving = not {"clouds", "drift", "leaves"}.isdisjoint(arm.sets)
    t, side = plan.clip[0], plan.clip[1] + 2 * plan.margin
    shapes = {"perlin": (240, plan.side, plan.side), "fractal": (100, plan.side, plan.side)}
    made = []
    categories = arm.options.get("categories", plan.categories)
    videos = arm.budget * plan.pretext_clips // (categories * len(arm.sets))
    for name in arm.sets:
        shape = (t * 3 // 2, side, side) if moving else shapes[name]
        options: dict[str, Any] = {}
        if arm.learns == PUZZLE:
            shape, options = (48, plan.side, plan.side), {"points_per_frame": 20}
        elif arm.learns == "stills":  # FractalDB draws 100,000 points on 362 x 362, and cuts 224 of 256 in training
            wide = 4 * plan.clip[1]
            shape, options = (1, wide, wide), {"points_per_frame": int(100_000 * (wide / 362) ** 2)}
        elif name == "perlin":  # random noise of the paper's frequencies, as far as they divide the sides
            options = {"noise_frequencies": tuple(f for f in (1, 2, 4, 8, 16) if shape[1] % f == 0)}
        elif name == "fractal":  # as many to the area
            options = {"points_per_frame": max(1, int(1000 * (shape[1] / 362) ** 2))}
        made.append(vpngen.Spec.make(name, **{
            "categories": categories, "instances": max(1, videos if moving else min(videos, 512)), "val_instances": 8,
            "seed": seed, "shape": shape, **options, **arm.options,
        }))  # fmt: skip
    return vpngen.mixed(*made) if len(made) > 1 else made[0]


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
        length=arm.budget * plan.pretext_clips // EPOCHS if split == "train" else "epoch", **where,
    )  # fmt: skip
    return FirstFrame(batches) if arm.still else batches


# --- training


def train(
    model: nn.Module, batches: Batches, val: Batches | None, rate: float, epochs: int, device: torch.device, batch: int, *,
    task: Task | None = None, freeze: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Steps of SGD at a rate, and the last of them at a tenth of it; the weight decay is the paper's."""
    first = round(DROP * epochs)
    rows = []
    for begin, count, lr in ((0, first, rate), (first, epochs - first, rate / 10)):
        recipe = Recipe(
            lr=lr, epochs=count, batch_size=batch, lr_patience=10**6, augment="none", freeze=freeze, **NORMAL
        )
        rows += fit(model, Later(batches, begin), val if begin else None, recipe, task=task, device=device)
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
    arm: Arm, model: nn.Module, plan: Plan, rate: float, seed: int, device: torch.device, task: Task
) -> tuple[dict[str, Any], nn.Module]:  # fmt: skip
    """Name the categories of a rendered set: what that took and what was learned, and the network."""
    begun = time.process_time()
    batches, val = (rendered(arm, plan, seed, split, device) for split in ("train", "val"))
    rows = train(model, batches, val, rate * plan.pretext_batch / 128, EPOCHS, device, plan.pretext_batch, task=task)
    steps = EPOCHS * len(batches)
    clips = steps * plan.pretext_batch
    return {
        "clips": clips, "frames": clips * (1 if arm.learns == "stills" else plan.clip[0]), "steps": steps, "metric": "top1",
        "val_metric": rows[-1]["val_top1"], "chance": 1 / spec_of(arm, plan, seed).n_categories,
        "cpu_seconds": time.process_time() - begun,
    }, model  # fmt: skip


def stills(
    plan: Plan, rate: float, seed: int, device: torch.device, arm: Arm = BASES[STILLS]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a 2-D network learned that named the categories of formula-made stills, and its weights."""
    network = create_model(plan.model, plan.categories, width=plan.width)
    assert isinstance(network, Network)
    about, learner = categories(arm, flat(network), plan, rate, seed, device, Classify())
    return about, {n: v[:, :, 0] if v.ndim == 5 else v for n, v in learner.cpu().state_dict().items()}


def initialized(
    arm: Arm, plan: Plan, rate: float, seed: int, device: torch.device, imagenet: str | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network before fine-tuning, and what its initialization took and learned."""
    torch.manual_seed(seed)
    task: Task = Classify()
    outputs = plan.categories
    if arm.learns == "categories":
        generator = spec_of(arm, plan, seed).generator
        task = Factors().labelled([len(f.values) for f in generator.factors]) if arm.heads else task
        outputs = task.outputs(generator.n_categories)
    model = create_model(plan.model, outputs, width=plan.width)
    about: dict[str, Any] = {"clips": 0, "frames": 0, "steps": 0, "cpu_seconds": 0.0}
    if arm.learns == "stills":
        about, state = stills(plan, rate, seed, device, arm)
        inflate(model, state)
    elif arm.learns == "categories":
        about, model = categories(arm, model, plan, rate, seed, device, task)
    elif arm.learns in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            teacher = Path(folder) / "stills.pth"
            if arm.learns == CORRESPOND:
                torch.save(stills(plan, rate, seed, device)[1], teacher)
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
        assert imagenet is not None
        inflate(model, read_weights(imagenet)[0])
    return model, about


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
        model, about = initialized(arm, plan, job.before, job.seed, device, place.imagenet)
        with files.replace(path) as partial:
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            torch.save({"outputs": state[f"{find_head(model)[0]}.weight"].shape[0], "state": state}, partial)
        return {**about, "seconds": time.perf_counter() - start}
    target = TARGETS[job.target]
    kept = torch.load(path, map_location="cpu", weights_only=True)
    model = create_model(plan.model, kept["outputs"], width=plan.width)
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
        """Seconds that a job will take: the most that one of its kind took, in proportion to their budgets; 0 where nobody knows."""
        kind = [
            (j, r["seconds"]) for j, r in self.results.items() if bool(j.target) == bool(job.target) and r["seconds"]
        ]
        same = [(j, s) for j, s in kind if once(j.arm) == once(job.arm)] or kind
        share = arm_of(job.arm).budget if not job.target else 1
        return max((s * share / (arm_of(j.arm).budget if not job.target else 1) for j, s in same), default=0.0)

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


def missing(name: str) -> str | None:
    """The generator that an arm lacks here, if any."""
    sets = arm_of(name).sets
    return next((generator for generator in sets if generator not in GENERATORS), None)


def slow_first(arms: Sequence[str]) -> list[str]:
    """Arms in the order in which they are best done, so that no long job is left for the end."""
    return sorted(arms, key=lambda name: -arm_of(name).budget)


def rates_before(name: str, plan: Plan) -> tuple[float, ...]:
    """Learning rates of an initialization to choose from; the tasks without labels have one of their own."""
    return plan.pretext_rates if arm_of(name).learns in ("categories", "stills") else plan.pretext_rates[:1]


class Choice:
    """The learning rates of each arm, chosen on validation clips."""

    def __init__(self, workers: Workers) -> None:
        self.workers, self.plan, self.results = workers, workers.plan, workers.kept.results
        self.before: dict[str, float] = {}

    def of(self, arms: Sequence[str]) -> None:
        """Choose for these arms; one that has a larger budget takes over the rate before of the same with a budget of 1."""
        plan = self.plan
        several = [name for name in dict.fromkeys(map(once, arms)) if len(rates_before(name, plan)) > 1]
        self.workers.all([Job("", name, rate, 0.0, CHOOSING) for name in several for rate in plan.pretext_rates])
        for name in arms:
            rates = rates_before(once(name), plan)
            self.before[name] = rates[0] if len(rates) == 1 else max(rates, key=partial(self.learned, name))
        self.workers.all(
            [self.job(t, name, rate) for name in slow_first(arms) for t in plan.targets for rate in plan.rates]
        )

    def learned(self, name: str, rate: float) -> float:
        """The validation metric of an initialization at a rate."""
        value: float = self.results[Job("", once(name), rate, 0.0, CHOOSING)]["val_metric"]
        return value

    def job(self, target: str, name: str, rate: float) -> Job:
        return Job(target, name, self.before[name], rate, CHOOSING)

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


# --- what comes out


def spread(values: Sequence[float], form: str = ".1%") -> str:
    """Mean and, of several, standard deviation."""
    mean, sign, unit = 100 * statistics.mean(values), *(("", " %") if form == ".1%" else ("+", ""))
    sd = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean:{sign}.1f}{sd}{unit}"


def title(r: dict[str, Any]) -> str:
    """The heading of a report."""
    return f"Initialization: {' and '.join(TARGETS[t].title for t in r['targets'])} from few clips"


def report(r: dict[str, Any], name: str = "initialization") -> str:
    """The question, the answer, and the protocol."""
    plan, machine, before = r["plan"], r["machine"], r["before"]
    seeds, clip = plan["seeds"], " x ".join(map(str, plan["clip"]))
    where = machine["gpu"] or f"{machine['cores']} cores of {machine['cpu']}"
    parameters = next(iter(r["targets"].values()))["parameters"]
    rows = []
    for arm, b in before.items():
        learned = f"{b['metric'][0]} {spread(b['val_metric'])} ({b['chance'][0]:.1%})" if "metric" in b else ""
        rate = f"{b['rate']:g}" if "metric" in b and arm_of(arm).learns not in TASKS else ""
        rows.append((
            arm, f"{b['clips'][0]:,}", f"{b['frames'][0]:,}", f"{b['steps'][0]:,}", rate,
            f"{statistics.mean(b['cpu_seconds']) / 60:.1f}", learned,
        ))  # fmt: skip
    header = ("initialization", "clips", "frames", "steps", "learning rate", "CPU minutes", "learned before (chance)")
    lines = [
        f"# {title(r)}\n",
        f"{machine['date']}, {where}, torch {machine['versions']['torch']}, {r['minutes']:.0f} minutes. "
        f"{plan['model'].upper()} at {plan['width']:g} of its width, {parameters:,} parameters, clips of {clip}. "
        f"Mean and standard deviation over {seeds} seeds.\n",
        *[line for target in r["targets"] for line in _answer(r, target, name)],
        "## What is learned before\n",
        common.table(header, rows),
        "",
        "\n".join(f"- {arm}: {b['about']}." for arm, b in before.items()),
    ]
    lines += [f"- {arm}: left out, {why}." for arm, why in r["left_out"].items()]
    if r["best"]:
        lines.append(
            f"\n`{r['best']}` is the generator of motion that is best on validation clips, in the mean of the targets."
        )
    lines.append("")
    if set(before) >= {SCRATCH, *orderings.PANELS["temporal"]}:
        lines += [orderings.text(r["targets"]), f"![As figure 3 of the paper]({name}-orderings.png)\n"]
    return "\n".join([*lines, *_protocol(r)])


def _answer(r: dict[str, Any], target: str, name: str) -> list[str]:
    """The tables of a target."""
    seeds, arms, about = r["plan"]["seeds"], r["targets"][target]["arms"], TARGETS[target]
    rows = []
    for arm, a in arms.items():
        wins = sum(d > 0 for d in a["over_scratch"])
        rows.append((
            arm, f"{a['rate']:g}", spread(a["train_top1"]), f"**{spread(a['test_top1'])}**",
            "" if arm == SCRATCH else f"{spread(a['over_scratch'], '+')}", "" if arm == SCRATCH else f"{wins} of {seeds}",
        ))  # fmt: skip
    kinds = [
        (arm, *[f"{100 * statistics.mean(a['kinds'][kind]):.1f} %" for kind in about.kinds]) for arm, a in arms.items()
    ]
    return [
        f"## {about.title.capitalize()}\n",
        f"Chance is {1 / len(about.classes):.1%}; {about.about}.\n",
        common.table(("initialization", "learning rate", "training clips", "test clips", "points over scratch", "seeds better"), rows),
        f"\n![Share of test clips that are right]({name}-{target}.png)\n",
        "Test clips that are right, by what moves:\n",
        common.table(("initialization", *about.kinds), kinds),
        "",
    ]  # fmt: skip


def _protocol(r: dict[str, Any]) -> list[str]:
    plan, made = r["plan"], Plan(**r["plan"])
    lines = ["## How\n", "Fixed before the run.\n"]
    for target, found in r["targets"].items():
        pictures = {split: len(names) for split, names in TARGETS[target].home.SPLITS.items()}
        n = {split: made.count(target, split) for split in ("train", "val", "test")}
        chosen = [
            (arm, *[f"{100 * a['val_top1_by_rate'][str(rate)]:.1f} %" for rate in plan["rates"]]) for arm, a in found["arms"].items()
        ]  # fmt: skip
        lines += [
            f"{TARGETS[target].title.capitalize()}: {n['train']} training clips ({plan['per_class']} of each class, of {pictures['train']} "
            f"pictures), {n['val']} validation clips ({pictures['val']} other pictures), {n['test']} test clips ({pictures['test']} others again). "
            f"Fine-tuning is {found['finetune_steps']:,} steps of {plan['batch']} clips ({plan['epochs']} epochs) for every initialization. "
            f"Pixels of the test clips have the sha256 {found['sha256']['test'][:16]}. Validation clips that are right, by learning rate:\n",
            common.table(("initialization", *[f"{rate:g}" for rate in plan["rates"]]), chosen),
            "",
        ]  # fmt: skip
    several = [
        (arm, *[f"{100 * b['val_metric_by_rate'][str(rate)]:.1f} %" for rate in plan["pretext_rates"]])
        for arm, b in r["before"].items()
        if b["val_metric_by_rate"]
    ]  # fmt: skip
    scaled = ", ".join(f"{rate * plan['pretext_batch'] / 128:g}" for rate in plan["pretext_rates"])
    papers = " or ".join(f"{rate:g}" for rate in plan["pretext_rates"])
    lines += [
        f"Fine-tuning: SGD, momentum 0.9, weight decay 0.001, the learning rate falls to a tenth after {DROP:.0%} of the steps, random crops "
        "in place and time, all weights trained but those that are frozen, a fresh head. The learning rate of each initialization is the best "
        "on the validation clips, by one run of a seed of its own. A best rate at the end of its row means that one beyond might be better. "
        "Sizes and the speed of the motions were chosen before, by looking at validation clips of other seeds, so that fresh weights come "
        "above chance.\n",
        "Then each seed draws fresh weights, the set and order that the initialization learns from, and the training clips; these are the "
        "same for all initializations of a seed, so differences are taken within a seed. Test clips are the same throughout and are looked at "
        "once, after the last step.\n",
        f"What is learned from before: {plan['categories']} categories, {plan['pretext_clips']:,} clips in batches of "
        f"{plan['pretext_batch']}, a learning rate of {scaled} ({papers} for 128 clips, in proportion; the paper's is 0.3) "
        f"with the same fall; videos of VPN are 240 x {plan['side']} x {plan['side']} at D = 8, of Video Fractals 100 x {plan['side']} x "
        f"{plan['side']}; those of clouds, drift and leaves are little larger than clips, and as many, also where VPN is mixed with them. Four "
        "corners and centre, mirrored or not, but for categories that a mirror changes. Stills are drawn on "
        f"{4 * plan['clip'][1]} x {4 * plan['clip'][1]} with as many points to the area as FractalDB. `learned before` is measured on clips of "
        f"instances never trained on. Arms without labels have as many frames through the network as VPN, AdamW at 0.002 (VPN has SGD, as its "
        f"paper), a cosine, and {plan['pretext_batch'] // 4} samples of several clips a step.\n",
    ]  # fmt: skip
    if several:
        lines += [
            "The learning rate before is the one that learns most, on clips of instances never trained on, by the seed that chooses; a larger "
            "budget takes over that of the same with a budget of 1:\n",
            common.table(("initialization", *[f"{rate:g}" for rate in plan["pretext_rates"]]), several),
            "",
        ]
    return lines


def plot(r: dict[str, Any], target: str, path: Path) -> None:
    arms, about = r["targets"][target]["arms"], TARGETS[target]
    figure, (left, right) = common.canvas(2, max(10, 1.2 * len(arms)), 4 + 0.1 * max(0, len(arms) - 6))
    from matplotlib import colormaps

    few = ("#9aa5b1", "#2a6f97", "#89b6d1", "#c8553d", "#e0a458", "#6a994e", "#7b5ea7", "#444")
    colours = dict(zip(arms, few if len(arms) <= len(few) else colormaps["tab20"](range(20)), strict=False))
    width = 0.8 / len(arms)
    for at, (arm, a) in enumerate(arms.items()):
        scores = [100 * value for value in a["test_top1"]]
        left.bar(at, statistics.mean(scores), 0.6, color=colours[arm], alpha=0.6)
        left.plot(at + np.linspace(-0.15, 0.15, len(scores)), scores, "o", color=colours[arm], mec="#333", ms=5)
        kinds = [100 * statistics.mean(a["kinds"][kind]) for kind in about.kinds]
        right.bar(
            np.arange(len(kinds)) + width * (at - (len(arms) - 1) / 2), kinds, width, color=colours[arm], label=arm
        )
    for axis in (left, right):
        axis.axhline(100 / len(about.classes), color="#333", lw=1, ls=":")
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if len(arms) > 6 else {}
    left.set_xticks(
        range(len(arms)), [arm if turned else arm.replace(", ", ",\n") for arm in arms], fontsize=8, **turned
    )
    left.set_ylabel("test clips right, %")
    left.set_title(f"{about.title}, {r['plan']['seeds']} seeds: each, and their mean; dotted: chance", fontsize=9)
    right.set_xticks(range(len(about.kinds)), about.kinds)
    right.set_title("by what moves", fontsize=9)
    right.legend(frameon=False, fontsize=8 if len(arms) < 9 else 6)
    figure.savefig(path)


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
            plot(found, target, out / f"{options.name}-{target}.png")
        if set(found["before"]) >= {SCRATCH, *orderings.PANELS["temporal"]}:
            classes = {target: len(TARGETS[target].classes) for target in plan.targets}
            orderings.plot(found["targets"], classes, out / f"{options.name}-orderings.png")
    print(report(found, options.name))


if __name__ == "__main__":
    main()

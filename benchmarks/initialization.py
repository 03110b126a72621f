"""Does VPN initialization beat training from scratch, and inflation, where no action-recognition set is at hand?

    python -m benchmarks.initialization [--quick] [--device cpu] [--seeds 5] [--imagenet resnet18.pth] [--out FOLDER]
    python -m benchmarks.initialization --plan small --arms "scratch; VPN; order; puzzle; reconstruct; correspond" --name tasks

A network is initialized in some way, and learns sixteen motions of real pictures from few clips; the test shows other
pictures (`benchmarks.motions`). All ways of initialization have the same network, and are fine-tuned on the same clips for
as many steps. What each learns from before that has as many clips and steps too. Whatever comes out is written down.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a CPU, jobs run side by side with a thread each

import torch
from torch import nn

import vpngen
from benchmarks import common, motions
from vpngen.models import create_model, inflate, read_weights, replace_head
from vpngen.models.base import Network
from vpngen.models.images import flat
from vpngen.sampling import QUARTER_OCTAVES, Augment
from vpngen.tasks import Correspond, Order, Puzzle, Reconstruct, Task
from vpngen.train import Recipe, fit
from vpngen.train.fitting import Batches

TITLE = "Initialization: sixteen motions of real pictures from few clips"
HOME = Path(__file__).parent
SCRATCH, VPN, FROZEN, STILLS, IMAGENET = (
    "scratch",
    "VPN",
    "VPN, frozen in time",
    "inflated, fractal stills",
    "inflated, ImageNet",
)
ORDER, PUZZLE, RECONSTRUCT, CORRESPOND = "order", "puzzle", "reconstruct", "correspond"
TASKS = (ORDER, PUZZLE, RECONSTRUCT, CORRESPOND)
ABOUT = {
    SCRATCH: "fresh weights",
    VPN: "named the categories of Video Perlin Noise, `vpngen.ClipStream`",
    FROZEN: "the same clips, but of each its first frame alone, repeated: no motion to learn from",
    STILLS: "a 2-D ResNet of the same depth and width that named the categories of formula-made stills (what a Video Fractal has "
    "drawn by its last frame, as FractalDB), its kernels repeated along time",
    IMAGENET: "a 2-D ResNet of the same depth and width trained on ImageNet, its kernels repeated along time",
    ORDER: "without labels: which of 6 clips of 8 frames, of a window of 20 of a VPN video, is shuffled (Suzuki et al. 2018)",
    PUZZLE: "without labels: the order of 4 pieces of a Video Fractal, which grows, in space or in time, and whether they are upside down (Kim et al. 2019)",
    RECONSTRUCT: "without labels: a clip of VPN drawn again, and the frames that follow, from its features (an alternative of Kim et al. 2019)",
    CORRESPOND: "without labels: whether frames, as the stills' 2-D ResNet sees them, and a clip of VPN belong together (Diba et al. 2017); "
    "that the teacher learned from stills is not counted",
}  # fmt: skip
CHOOSING = 1000
"""The seed of the runs that choose learning rates; its clips and weights are in no other run."""
DROP = 0.75
"""The part of the steps after which the learning rate falls to a tenth."""
NORMAL: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
KINDS = {
    "directions": tuple(range(8)), "rotation": (8, 9), "zoom": (10, 11), "shear": (12, 13), "flicker, rest": (14, 15),
}  # fmt: skip
"""Labels that are shown together in the report."""


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
        per_class: training clips of each motion.
        batch: of fine-tuning.
        epochs: of fine-tuning.
        rates: learning rates to choose from.
        val: clips that they are chosen on.
        test: clips of the test.
        seeds: how many times all is done with the chosen rates.
    """

    model: str = "r3d18"
    width: float = 0.25
    clip: tuple[int, int, int] = (16, 32, 32)
    side: int = 80
    categories: int = 64
    pretext_clips: int = 16384
    pretext_batch: int = 32
    per_class: int = 16
    batch: int = 32
    epochs: int = 30
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    val: int = 480
    test: int = 800
    seeds: int = 5

    @property
    def margin(self) -> int:
        """Pixels that training clips are larger by, and frames that they are longer by: room for random crops."""
        return max(self.clip[1] // 8, 1)


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


@functools.cache
def moving(plan: Plan, seed: int, split: str, device: torch.device) -> Memory:
    """The clips of a split, on the device. Those of training are drawn by `seed`, and larger than the clips cut from them."""
    frames, size = plan.clip[:2]
    if split == "train":
        size, frames = size + plan.margin, frames + plan.margin // 2
    numbers = range({"train": plan.per_class * len(motions.MOTIONS), "val": plan.val, "test": plan.test}[split])
    with concurrent.futures.ThreadPoolExecutor(common.cores() if device.type == "cuda" else 1) as pool:
        clips = np.stack(list(pool.map(partial(motions.clip, seed, split, frames=frames, size=size), numbers)))
    pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).contiguous().to(device)
    labels = torch.tensor([motions.label(number) for number in numbers])
    return Memory(pixels, labels, plan.clip, plan.batch, seed if split == "train" else None)


def pretext(arm: str, plan: Plan, teacher: Path | None) -> tuple[Task, Recipe, int]:
    """The task of an arm without labels, its recipe, and its steps: as many frames go through the network as those of VPN."""
    clip = (8, *plan.clip[1:]) if arm in (ORDER, PUZZLE) else plan.clip
    kind: dict[str, Callable[..., Task]] = {
        ORDER: Order, PUZZLE: partial(Puzzle, gap=8, gap_frames=2), RECONSTRUCT: partial(Reconstruct, target="future"),
        CORRESPOND: partial(Correspond, teacher=plan.model, teacher_weights=teacher),
    }  # fmt: skip
    made = kind[arm]()
    batch = plan.pretext_batch if made.clips == 1 else plan.pretext_batch // 4
    steps = plan.pretext_clips * plan.clip[0] // (clip[0] * made.clips * batch)
    recipe = Recipe(
        optimizer="adamw", lr=0.002, weight_decay=0.01, batch_size=batch, epochs=EPOCHS, schedule="cosine", clip=clip, augment="random",
        **NORMAL,
    )  # fmt: skip
    return made.of(recipe), recipe, steps


def rendered(
    arm: str, plan: Plan, seed: int, split: str, device: torch.device, task: tuple[Task, Recipe, int] | None = None
) -> Batches:
    """Labelled clips of the set that an initialization learns from: all of them in training, one of each instance otherwise."""
    instances = max(1, plan.pretext_clips // plan.categories)
    about: dict[str, Any] = {
        "categories": plan.categories,
        "instances": min(instances, 512),
        "val_instances": 8,
        "seed": seed,
    }
    clip, augment = plan.clip, Augment() if split == "train" else Augment(time="center", crop="center", flip=0.0)
    if arm == STILLS:
        side = 4 * plan.clip[1]  # FractalDB draws 100,000 points on 362 x 362, and cuts 224 of 256 in training
        spec = vpngen.fractal(**about, shape=(1, side, side), points_per_frame=int(100_000 * (side / 362) ** 2))
        clip = (1, *plan.clip[1:])
        augment = dataclasses.replace(augment, scales=QUARTER_OCTAVES[:3] if split == "train" else (1.0,))
    elif arm == PUZZLE:
        spec = vpngen.fractal(**about, shape=(48, plan.side, plan.side), points_per_frame=20)
    else:
        spec = vpngen.perlin(**about, shape=(240, plan.side, plan.side))
    if task is not None:
        shape, recipe, steps = task[0].shape(task[1]), task[1], task[2]
        how: dict[str, Any] = {"augment": "random", "numbers": True, "seed": seed, "device": str(device)}
        length = steps // EPOCHS * recipe.batch_size if split == "train" else "epoch"
        how |= {} if device.type == "cuda" else {"threads": 1, "prefetch": 0}
        made: Batches = vpngen.loader(
            spec, recipe.batch_size, clip=shape, split=split, length=length, drop_last=True, **how
        )
        return made
    batches: Any = vpngen.loader(
        spec, plan.pretext_batch, clip=clip, split=split, augment=augment, seed=seed, shuffle=split == "train", drop_last=True,
        length=plan.pretext_clips // EPOCHS if split == "train" else "epoch", device=str(device), threads=None if device.type == "cuda" else 1,
        prefetch=None if device.type == "cuda" else 0,
    )  # fmt: skip
    return FirstFrame(batches) if arm == FROZEN else batches


EPOCHS = 8
"""Parts that `pretext_clips` come in."""


# --- training


def train(
    model: nn.Module, batches: Batches, val: Batches | None, rate: float, epochs: int, device: torch.device, batch: int
) -> list[dict[str, Any]]:
    """Steps of SGD at a rate, and the last of them at a tenth of it; the weight decay is the paper's."""
    first = round(DROP * epochs)
    rows = []
    for begin, count, lr in ((0, first, rate), (first, epochs - first, rate / 10)):
        recipe = Recipe(lr=lr, epochs=count, batch_size=batch, lr_patience=10**6, augment="none", **NORMAL)
        rows += fit(model, Later(batches, begin), val if begin else None, recipe, device=device)
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


def stills(plan: Plan, seed: int, device: torch.device) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a 2-D network learned that named the categories of formula-made stills, and its weights."""
    network = create_model(plan.model, plan.categories, width=plan.width)
    assert isinstance(network, Network)
    about, learner = categories(STILLS, flat(network), plan, seed, device)
    return about, {n: v[:, :, 0] if v.ndim == 5 else v for n, v in learner.cpu().state_dict().items()}


def categories(
    arm: str, model: nn.Module, plan: Plan, seed: int, device: torch.device
) -> tuple[dict[str, Any], nn.Module]:
    """Name the categories of a rendered set: what that took and what was learned, and the network."""
    begun = time.process_time()
    batches, val = (rendered(arm, plan, seed, split, device) for split in ("train", "val"))
    rows = train(model, batches, val, 0.3 * plan.pretext_batch / 128, EPOCHS, device, plan.pretext_batch)
    steps = EPOCHS * len(batches)
    clips = steps * plan.pretext_batch
    return {
        "clips": clips, "frames": clips * (1 if arm == STILLS else plan.clip[0]), "steps": steps, "metric": "top1",
        "val_metric": rows[-1]["val_top1"], "chance": 1 / plan.categories, "cpu_seconds": time.process_time() - begun,
    }, model  # fmt: skip


def initialized(
    arm: str, plan: Plan, seed: int, device: torch.device, imagenet: str | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network before fine-tuning, with a head for the motions, and what its initialization took and learned."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    model = create_model(plan.model, plan.categories, width=plan.width)
    about: dict[str, Any] = {"clips": 0, "frames": 0, "steps": 0, "cpu_seconds": 0.0}
    if arm == STILLS:
        about, state = stills(plan, seed, device)
        inflate(model, state)
    elif arm in (VPN, FROZEN):
        about, model = categories(arm, model, plan, seed, device)
    elif arm in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            teacher = Path(folder) / "stills.pth"
            if arm == CORRESPOND:
                torch.save(stills(plan, seed, device)[1], teacher)
            begun = time.process_time()
            task = pretext(arm, plan, teacher)
            train_batches, val = (rendered(arm, plan, seed, split, device, task) for split in ("train", "val"))
            rows = fit(model, train_batches, val, task[1], task=task[0], device=device)
        samples, metric = EPOCHS * len(train_batches) * task[1].batch_size, task[0].metrics[0]
        about = {"clips": samples, "frames": samples * task[0].clips * task[1].clip[0], "steps": EPOCHS * len(train_batches),
                 "metric": metric, "val_metric": rows[-1][f"val_{metric}"], "cpu_seconds": time.process_time() - begun,
                 "chance": task[0].chance(torch.zeros(1, 2, 2))[metric]}  # fmt: skip
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    elif arm == IMAGENET:
        assert imagenet is not None
        inflate(model, read_weights(imagenet)[0])
    torch.manual_seed(seed + 1)
    replace_head(model, len(motions.MOTIONS))
    return model, {**about, "seconds": time.perf_counter() - start}


def answers(model: nn.Module, batches: Memory, device: torch.device) -> tuple[list[int], list[int]]:
    """Labels and what the network takes the clips for."""
    from vpngen.train.fitting import normalised

    model.eval()
    said = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for clips, _ in batches:
            said.append(model(normalised(clips, device, **NORMAL)).argmax(1).cpu())
    return batches.labels.tolist(), torch.cat(said).tolist()


def job(arm: str, seed: int, rates: Sequence[float], plan: Plan, where: str, imagenet: str | None) -> dict[str, Any]:
    """Initialize once and fine-tune at each rate.

    With several rates: the share of validation clips that each has right. With one: what was said of each clip of the test.
    """
    device = torch.device(where)
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(device.index or 0)
    model, about = initialized(arm, plan, seed, device, imagenet)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    clips = moving(plan, seed, "train", device)
    judged = moving(plan, 0, "test" if len(rates) == 1 else "val", device)  # the same for all seeds
    found: dict[str, Any] = {"arm": arm, "seed": seed, "pretext": about, "rates": {}}
    start = time.perf_counter()
    for rate in rates:
        model.load_state_dict(state)
        rows = train(model, clips, None, rate, plan.epochs, device, plan.batch)
        truth, said = answers(model, judged, device)
        right = [a == b for a, b in zip(truth, said, strict=True)]
        found["rates"][str(rate)] = {"top1": statistics.mean(right), "train_top1": rows[-1]["train_top1"]}
        if len(rates) == 1:
            found["said"] = said
            found["kinds"] = {
                kind: statistics.mean(r for r, t in zip(right, truth, strict=True) if t in labels)
                for kind, labels in KINDS.items()
            }
    found["finetune_seconds"] = time.perf_counter() - start
    return found


class Kept:
    """Results of jobs in a file, a line each, so that a run that was stopped goes on; without a path they are kept nowhere."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.start = path, time.monotonic()
        self.results: dict[str, dict[str, Any]] = {}
        self.before = 0.0
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the last line, if it was stopped in the middle of it
                    found = json.loads(line)
                    self.results[found["job"]] = found["result"]
                    self.before = found["seconds"]
            print(f"{len(self.results)} jobs were done before, as {path} says", file=sys.stderr)

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keep the result of a job."""
        self.results[name] = result
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"job": name, "seconds": self.seconds, "result": result}) + "\n")

    @property
    def seconds(self) -> float:
        """What this run and those that it goes on from took."""
        return self.before + time.monotonic() - self.start


def everybody(jobs: list[tuple[Any, ...]], workers: int, kept: Kept) -> list[dict[str, Any]]:
    """The results of all jobs in their order; with several workers each job has a process of its own among them."""
    left = {repr(each): each for each in jobs if repr(each) not in kept.results}
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        calls: Callable[..., Any] = pool.map if workers > 1 else map
        for name, result in zip(left, calls(job, *zip(*left.values(), strict=True)) if left else (), strict=True):
            kept.add(name, result)
            scores = ", ".join(f"{rate}: {found['top1']:.1%}" for rate, found in result["rates"].items())
            learned = f"pretext {result['pretext']['val_metric']:.1%}, " if "val_metric" in result["pretext"] else ""
            print(f"  {result['arm']}, seed {result['seed']}: {learned}{scores}", file=sys.stderr, flush=True)
    return [kept.results[repr(each)] for each in jobs]


def run(plan: Plan, arms: Sequence[str], device: str, workers: int, imagenet: str | None, kept: Kept) -> dict[str, Any]:
    """Choose the rate of each arm, then do all again with every seed."""
    slow_first = [*[arm for arm in arms if arm != SCRATCH], SCRATCH]
    print("learning rates, on validation clips", file=sys.stderr)
    choice = {
        r["arm"]: r
        for r in everybody([(a, CHOOSING, plan.rates, plan, device, imagenet) for a in slow_first], workers, kept)
    }
    rates = {arm: max(plan.rates, key=lambda rate: choice[arm]["rates"][str(rate)]["top1"]) for arm in arms}
    print(f"{kept.seconds:.0f} s; now {plan.seeds} seeds, on test clips", file=sys.stderr)
    jobs = [(a, seed, (rates[a],), plan, device, imagenet) for a in slow_first for seed in range(plan.seeds)]
    results = everybody(jobs, workers, kept)
    found: dict[str, Any] = {}
    for arm in arms:
        own = [r for r in results if r["arm"] == arm]
        found[arm] = {
            "rate": rates[arm],
            "val_top1_by_rate": {rate: r["top1"] for rate, r in choice[arm]["rates"].items()},
            "pretext": {key: [r["pretext"][key] for r in own] for key in own[0]["pretext"]},
            "test_top1": [r["rates"][str(rates[arm])]["top1"] for r in own],
            "train_top1": [r["rates"][str(rates[arm])]["train_top1"] for r in own],
            "kinds": {kind: [r["kinds"][kind] for r in own] for kind in KINDS},
            "finetune_seconds": [r["finetune_seconds"] for r in own],
        }
    for arm in arms:
        against = zip(found[arm]["test_top1"], found[SCRATCH]["test_top1"], strict=True)
        found[arm]["over_scratch"] = [a - b for a, b in against]
    steps = plan.per_class * len(motions.MOTIONS) // plan.batch * plan.epochs
    return {
        "machine": {**common.machine(), "gpu": torch.cuda.get_device_name(device) if device != "cpu" else None},
        "plan": dataclasses.asdict(plan),
        "parameters": sum(p.numel() for p in create_model(plan.model, len(motions.MOTIONS), width=plan.width).parameters()),
        "finetune_steps": steps,
        "minutes": kept.seconds / 60,
        "arms": found,
    }  # fmt: skip


# --- what comes out


def spread(values: Sequence[float], form: str = ".1%") -> str:
    """Mean and standard deviation."""
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    if form == ".1%":
        return f"{100 * statistics.mean(values):.1f} ± {100 * sd:.1f} %"
    return f"{100 * statistics.mean(values):+.1f} ± {100 * sd:.1f}"


def report(r: dict[str, Any], name: str = "initialization") -> str:
    """The question, the answer, and the protocol."""
    plan, arms, machine = r["plan"], r["arms"], r["machine"]
    seeds, clip = plan["seeds"], " x ".join(map(str, plan["clip"]))
    rows = []
    for arm, a in arms.items():
        pretext = {key: values[0] for key, values in a["pretext"].items()}
        learned = (
            f"{pretext['metric']} {spread(a['pretext']['val_metric'])} ({pretext['chance']:.1%})"
            if "metric" in pretext
            else ""
        )
        wins = sum(d > 0 for d in a["over_scratch"])
        rows.append((
            arm, f"{pretext['clips']:,}", f"{pretext['frames']:,}", f"{pretext['steps']:,}",
            f"{statistics.mean(a['pretext']['cpu_seconds']) / 60:.1f}", learned,
            f"{a['rate']:g}", spread(a["train_top1"]), f"**{spread(a['test_top1'])}**",
            "" if arm == SCRATCH else f"{spread(a['over_scratch'], '+')}", "" if arm == SCRATCH else f"{wins} of {seeds}",
        ))  # fmt: skip
    header = ("initialization", "clips before", "frames", "steps", "CPU minutes", "learned before (chance)", "learning rate", "training clips", "test clips",
              "points over scratch", "seeds better")  # fmt: skip
    kinds = [(arm, *[f"{100 * statistics.mean(a['kinds'][kind]):.1f} %" for kind in KINDS]) for arm, a in arms.items()]
    chosen = [
        (arm, *[f"{100 * a['val_top1_by_rate'][str(rate)]:.1f} %" for rate in plan["rates"]]) for arm, a in arms.items()
    ]
    n = plan["per_class"] * len(motions.MOTIONS)
    pictures = {split: len(names) for split, names in motions.SPLITS.items()}
    where = machine["gpu"] or f"{machine['cores']} cores of {machine['cpu']}"
    return "\n".join([
        f"# {TITLE}\n",
        f"{machine['date']}, {where}, torch {machine['versions']['torch']}, {r['minutes']:.0f} minutes. "
        f"{plan['model'].upper()} at {plan['width']:g} of its width, {r['parameters']:,} parameters, clips of {clip}. Chance is "
        f"{1 / len(motions.MOTIONS):.1%}. Mean and standard deviation over {seeds} seeds.\n",
        common.table(header, rows),
        f"\n![Share of test clips that are right]({name}.png)\n",
        "\n".join(f"- {arm}: {ABOUT[arm]}." for arm in arms),
        "\nTest clips that are right, by what moves:\n",
        common.table(("initialization", *KINDS), kinds),
        "\n## How\n",
        f"Fixed before the run: {n} training clips ({plan['per_class']} of each motion, of {pictures['train']} pictures), "
        f"{plan['val']} validation clips ({pictures['val']} other pictures), {plan['test']} test clips ({pictures['test']} others again). "
        f"Fine-tuning is {r['finetune_steps']:,} steps of {plan['batch']} clips ({plan['epochs']} epochs) for every initialization: SGD, "
        f"momentum 0.9, weight decay 0.001, the learning rate falls to a tenth after {DROP:.0%} of the steps, random crops in place "
        f"and time, all weights trained, a fresh head. The learning rate of each initialization is the best of "
        f"{', '.join(f'{rate:g}' for rate in plan['rates'])} on the validation clips, by one run of a seed of its own:\n",
        common.table(("initialization", *[f"{rate:g}" for rate in plan["rates"]]), chosen),
        "\nA best rate at the end of its row means that one beyond might be better. Sizes and the speed of the motions were chosen "
        "before, by looking at validation clips of other seeds, so that fresh weights come above chance; how VPN did at "
        "slower motions was known by then.\n",
        f"\nThen each seed draws fresh weights, the set and order that the initialization learns from, and the training clips; these "
        f"are the same for all initializations of a seed, so differences are taken within a seed. Test clips are the same "
        f"throughout and are looked at once, after the last step.\n\n"
        f"What is learned from before: {plan['categories']} categories, "
        f"{plan['pretext_clips']:,} clips in batches of {plan['pretext_batch']}, a learning rate of {0.3 * plan['pretext_batch'] / 128:g} "
        f"(the paper's 0.3 for 128 clips, in proportion) with the same fall; videos of 240 x {plan['side']} x {plan['side']} at D = 8, four "
        f"corners and centre, mirrored or not; stills drawn on {4 * plan['clip'][1]} x {4 * plan['clip'][1]} with as many points to the "
        f"area as FractalDB. `learned before` is measured on clips of instances never trained on. Arms without labels have as many frames "
        f"through the network as VPN, AdamW at 0.002 (VPN has SGD, as its paper), a cosine, and {plan['pretext_batch'] // 4} samples of several clips a step.\n",
    ])  # fmt: skip


def plot(r: dict[str, Any], path: Path) -> None:
    figure, (left, right) = common.canvas(2, 10, 4)
    arms = r["arms"]
    colours = dict(
        zip(arms, ("#9aa5b1", "#2a6f97", "#89b6d1", "#c8553d", "#e0a458", "#6a994e", "#7b5ea7", "#444"), strict=False)
    )
    width = 0.8 / len(arms)
    for at, (arm, a) in enumerate(arms.items()):
        scores = [100 * value for value in a["test_top1"]]
        left.bar(at, statistics.mean(scores), 0.6, color=colours[arm], alpha=0.6)
        left.plot(at + np.linspace(-0.15, 0.15, len(scores)), scores, "o", color=colours[arm], mec="#333", ms=5)
        kinds = [100 * statistics.mean(a["kinds"][kind]) for kind in KINDS]
        right.bar(
            np.arange(len(KINDS)) + width * (at - (len(arms) - 1) / 2), kinds, width, color=colours[arm], label=arm
        )
    left.axhline(100 / len(motions.MOTIONS), color="#333", lw=1, ls=":")
    left.set_xticks(range(len(arms)), [arm.replace(", ", ",\n") for arm in arms], fontsize=8)
    left.set_ylabel("test clips right, %")
    left.set_title(f"{r['plan']['seeds']} seeds: each, and their mean; dotted: chance", fontsize=9)
    right.axhline(100 / len(motions.MOTIONS), color="#333", lw=1, ls=":")
    right.set_xticks(range(len(KINDS)), KINDS)
    right.set_title("by what moves", fontsize=9)
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.initialization", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes, printed: that it runs, not a measurement")
    parser.add_argument("--plan", choices=list(PLANS), help="the sizes; cpu, or gpu where there is one")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU if there is one")
    parser.add_argument("--seeds", type=int, help="how many; 5, and with --quick 2")
    parser.add_argument("--processes", type=int, help="jobs side by side; one for each core, on a GPU four at most")
    parser.add_argument("--imagenet", help="a file of 2-D ResNet weights of that depth and width, as torchvision's")
    parser.add_argument(
        "--arms", help=f"some of: {'; '.join(ABOUT)}, separated by semicolons; without, those without tasks"
    )
    parser.add_argument("--name", default="initialization", help="what the files of the report are called")
    parser.add_argument("--out", type=Path, help="folder for the report; benchmarks/results, or with --quick none")
    options = parser.parse_args()
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    plan = PLANS["quick" if options.quick else options.plan or ("cpu" if device == "cpu" else "gpu")]
    if options.seeds:
        plan = dataclasses.replace(plan, seeds=options.seeds)
    if options.imagenet and plan.width != 1:
        parser.error("the weights of ImageNet are those of a network of full width: run it on a GPU")
    out = options.out or (None if options.quick else HOME / "results")
    kept = Kept(None if out is None else out / f"{options.name}.jobs.jsonl")
    usual = [SCRATCH, VPN, FROZEN, IMAGENET if options.imagenet else STILLS]
    arms = [arm.strip() for arm in options.arms.split(";")] if options.arms else usual
    if SCRATCH not in arms or not set(arms) <= ABOUT.keys():
        parser.error(f"--arms: must be of {'; '.join(ABOUT)}, {SCRATCH} among them")
    workers = options.processes or (common.cores() if device == "cpu" else min(4, common.cores()))
    found = run(plan, arms, device, workers, options.imagenet, kept)
    if out is None:
        print(report(found))
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{options.name}.json").write_text(json.dumps({**found, "quick": options.quick}, indent=1) + "\n")
    (out / f"{options.name}.md").write_text(report(found, options.name))
    plot(found, out / f"{options.name}.png")
    if kept.path is not None:
        kept.path.unlink(missing_ok=True)
    print(report(found))


if __name__ == "__main__":
    main()

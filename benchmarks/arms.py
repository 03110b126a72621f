"""What `benchmarks.initialization` compares: targets, ways of initialization by their names, and plans of sizes.

An arm is named by what it learns from, and by how: `VPN`, `drift, heads`, `VPN + drift, 2 x`, `VPN, slow, no noise`. See `BASES` and
`WAYS`. `best` stands for the generator of motion that does best on validation clips.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import vpngen
from benchmarks import actions, motions, orderings
from vpngen.generators import GENERATORS
from vpngen.tasks import Correspond, Order, Puzzle, Reconstruct, Task

SCRATCH, VPN, FROZEN, STILLS, IMAGENET = (
    "scratch",
    "VPN",
    "VPN, frozen in time",
    "inflated, fractal stills",
    "inflated, ImageNet",
)
ORDER, PUZZLE, RECONSTRUCT, CORRESPOND = "order", "puzzle", "reconstruct", "correspond"
FRACTAL, CLOUDS, DRIFT, LEAVES, BEST = "Video Fractal", "clouds", "drift", "leaves", "best"
LARGEST = 4
"""The largest budget that sets of motion have a video of its own for each clip of."""
DROP = 0.75
"""The part of the steps after which the learning rate falls to a tenth."""


# --- targets


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


# --- arms


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
    while rest.startswith(" + "):
        other = re.split(r" \+ |, ", rest[3:], maxsplit=1)[0]
        if other not in BASES or {arm.learns, BASES[other].learns} != {"categories"}:
            raise ValueError(f"{name!r}: categories of generators alone are mixed, and {other!r} has none")
        about = f"{arm.about}; {BASES[other].about}".removeprefix("categories of all: ")
        arm = dataclasses.replace(arm, about=f"categories of all: {about}", sets=arm.sets + BASES[other].sets)
        rest = rest[3 + len(other) :]
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


def single(name: str) -> str:
    """The arm of the budget of 1, whose learning rates one of a larger budget takes over."""
    return ", ".join(way for way in name.split(", ") if not re.fullmatch(r"\d+ x", way))


def once(name: str) -> str:
    """The arm whose initialization chooses the learning rate before: of the budget of 1, and without what only fine-tuning knows."""
    return single(before_of(name))


# --- plans


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
        looked_into: layers whose units are asked what they prefer among drifting gratings, before fine-tuning.
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
    looked_into: tuple[str, ...] = ()

    @property
    def margin(self) -> int:
        """Pixels that training clips are larger by, and frames that they are longer by: room for random crops."""
        return max(self.clip[1] // 8, 1)

    def count(self, target: str, split: str) -> int:
        """Clips of a split: a multiple of the classes."""
        classes = len(TARGETS[target].classes)
        return classes * (self.per_class if split == "train" else getattr(self, split) // classes)


STUDY = (
    SCRATCH, VPN, FROZEN, STILLS, FRACTAL, CLOUDS, DRIFT, LEAVES, f"{VPN}, random grey", f"{VPN} + {BEST}", f"{VPN} + {' + '.join(MOVING)}",
    f"{BEST}, heads",
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
    "study": Plan(pretext_clips=32768, pretext_rates=(0.3, 0.03), rates=(0.01, 0.03, 0.1), targets=BOTH, arms=STUDY, looked_into=("conv1", "layer1")),
    "orderings": Plan(side=120, rates=(0.01, 0.03, 0.1), seeds=3, targets=BOTH, arms=orderings.ARMS),
    "trial": Plan(
        model="r3d10", width=0.0625, clip=(8, 24, 24), side=120, pretext_clips=256, epochs=4, rates=(0.1,), val=32, test=32,
        per_class=2, batch=16, seeds=2, targets=BOTH,
    ),
}  # fmt: skip


def spec_of(arm: Arm, plan: Plan, seed: int) -> vpngen.Spec:
    """The set that an initialization learns from.

    Videos of clouds, drift and leaves are little larger than clips, so that a clip shows the motion about their centre, and there
    are as many of them as clips of the largest budget; so it is for a mixture with them. Of the others there are 512 in a category at
    most. A set is the same for all budgets.
    """
    moving = not {"clouds", "drift", "leaves"}.isdisjoint(arm.sets)
    t, side = plan.clip[0], plan.clip[1] + 2 * plan.margin
    shapes = {"perlin": (240, plan.side, plan.side), "fractal": (100, plan.side, plan.side)}
    made = []
    categories = arm.options.get("categories", plan.categories)
    videos = (LARGEST if moving else 1) * plan.pretext_clips // (categories * len(arm.sets))
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

"""The report and the pictures of `benchmarks.initialization`."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, orderings
from benchmarks.arms import DROP, SCRATCH, TARGETS, TASKS, Plan, arm_of


def spread(values: Sequence[float], form: str = ".1%") -> str:
    """Mean and, of several, standard deviation: parts of one in per cent, or differences of them with `+`, or numbers with `.2`."""
    if form == ".2":
        return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")
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
    lines += ["", *_selective(before)]
    if ordered(r):
        lines += [orderings.text(r["targets"]), f"![As figure 3 of the paper]({name}-orderings.png)\n"]
    return "\n".join([*lines, *_protocol(r)])


def picture(r: dict[str, Any], target: str, name: str) -> str:
    """The file of the picture of a target."""
    return f"{name}-{target}.png" if len(r["targets"]) > 1 else f"{name}.png"


def ordered(r: dict[str, Any]) -> bool:
    """Whether the paper's orderings are among what was compared."""
    return set(r["before"]) >= {SCRATCH, *orderings.PANELS["temporal"]}


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
        f"\n![Share of test clips that are right]({picture(r, target, name)})\n",
        "Test clips that are right, by what moves:\n",
        common.table(("initialization", *about.kinds), kinds),
        "",
    ]  # fmt: skip


def _selective(before: Mapping[str, Any]) -> list[str]:
    """What units prefer, a row for each initialization; nothing where they were not asked."""
    asked = {arm: b["selectivity"] for arm, b in before.items() if "selectivity" in b}
    if not asked:
        return []
    indices = {"osi": "orientation", "dsi": "direction"}
    columns = [(layer, index) for layer in next(iter(asked.values()))[0] for index in indices]
    rows = [
        (arm, *[spread([one[layer][index] for one in of], ".2") for layer, index in columns])
        for arm, of in asked.items()
    ]
    return [
        "## What units prefer\n",
        common.table(("initialization", *[f"{layer}: {indices[index]}" for layer, index in columns]), rows),
        "\nOrientation and direction selectivity indices before fine-tuning, medians of the units of a layer, from 0 to 1: responses to "
        "gratings that drift in 16 directions, see `vpngen.models.selectivity`. A direction selectivity of 0 is as strong a response to the "
        "opposite direction.\n",
    ]


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
        "on the validation clips, by one run of a seed of its own; a larger budget takes over that of the same with a budget of 1. A best rate at the end of its row means that one beyond might be better. "
        "Sizes and the speed of the motions were chosen before, by looking at validation clips of other seeds, so that fresh weights come "
        "above chance.\n",
        "Then each seed draws fresh weights, the set and order that the initialization learns from, and the training clips; these are the "
        "same for all initializations of a seed, so differences are taken within a seed. Test clips are the same throughout and are looked at "
        "once, after the last step.\n",
        f"What is learned from before: {plan['categories']} categories, {plan['pretext_clips']:,} clips in batches of "
        f"{plan['pretext_batch']}, a learning rate of {scaled} ({papers} for 128 clips, in proportion; the paper's is 0.3) "
        f"with the same fall; videos of VPN are 240 x {plan['side']} x {plan['side']} at D = 8, of Video Fractals 100 x {plan['side']} x "
        f"{plan['side']}; those of clouds, drift and leaves are little larger than clips, and at least as many, also where VPN is mixed with them. Budgets of one "
        "initialization have one set and one run before the fall of the learning rate, which comes earlier for smaller ones. Four "
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
    right.legend(frameon=False, fontsize=8, **({"loc": "upper left", "bbox_to_anchor": (1, 1.05)} if turned else {}))
    figure.savefig(path, bbox_inches="tight")


def look(shown: Mapping[str, Any], path: Path) -> None:
    """A picture of clips: for each name three clips (3, C, T, Y, X) in a row, of each four frames from its first to its last."""
    frames, names = np.linspace(0, 1, 4), list(shown)
    figure, axes = common.canvas(1, 9, 0.62 * len(names))
    rows = []
    for clips in shown.values():
        strips = []
        for clip in np.asarray(clips):
            for t in np.rint(frames * (clip.shape[1] - 1)).astype(int):
                strips += [
                    clip[:, t].transpose(1, 2, 0).astype(np.uint8),
                    np.full((clip.shape[2], 1, 3), 255, np.uint8),
                ]
            strips.append(np.full((clip.shape[2], 7, 3), 255, np.uint8))
        row = np.concatenate(strips[:-2], axis=1)
        rows += [row, np.full((3, row.shape[1], 3), 255, np.uint8)]
    made = np.concatenate(rows[:-1])
    axes.imshow(made.repeat(3, axis=0).repeat(3, axis=1), interpolation="nearest", aspect="equal")
    step = 3 * (np.asarray(next(iter(shown.values()))).shape[3] + 3)
    axes.set_yticks([step * i + step / 2 for i in range(len(names))], [textwrap.fill(name, 18) for name in names])
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.savefig(path, bbox_inches="tight")

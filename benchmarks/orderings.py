"""What Kataoka et al., WACV 2022, section 5.1, find among sets of VPN, and whether it is so where `benchmarks.initialization` looks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common

BASE = "VPN"
"""Middle, divisions spread over all, 64 categories, with noise, all weights fine-tuned."""
COUNTS = (16, 32, 64, 128, 256)
PANELS: dict[str, dict[str, str]] = {
    "categories": {"scratch": "0", **{BASE if n == 64 else f"{BASE}, {n} categories": str(n) for n in COUNTS}},
    "temporal": {f"{BASE}, slow": "slow", BASE: "middle", f"{BASE}, fast": "fast"},
    "spatial": {f"{BASE}, low": "low", BASE: "spread", f"{BASE}, high": "high"},
    "noise": {f"{BASE}, no noise": "without", BASE: "with"},
    "frozen stages": {BASE: "none", **{f"{BASE}, frozen to stage {k}": f"to {k}" for k in (1, 2, 3, 4)}},
}
"""Panels of the figure: what is varied -> arm -> what its place on the axis says."""
ARMS = tuple(dict.fromkeys(arm for panel in PANELS.values() for arm in panel))


class Claim(NamedTuple):
    """The paper has one arm above another."""

    better: str
    worse: str
    place: str


CLAIMS = (
    Claim(BASE, "scratch", "table 2, VPN above scratch"),
    Claim(f"{BASE}, 256 categories", f"{BASE}, 16 categories", "figure 3, 256 above 16 categories"),
    Claim(BASE, f"{BASE}, slow", "table 3, middle above slow"),
    Claim(BASE, f"{BASE}, fast", "table 3, middle above fast"),
    Claim(BASE, f"{BASE}, no noise", "table 4, with noise above without"),
    Claim(f"{BASE}, low", f"{BASE}, high", "table 6, low above high frequencies"),
    *(Claim(BASE, f"{BASE}, frozen to stage {k}", f"section 5.1 (iv), all fine-tuned above frozen to stage {k}") for k in (1, 2, 3, 4)),
)  # fmt: skip


def verdict(differences: Sequence[float]) -> str:
    """What differences within seeds say of a claim: it is so, or the other way round, in all of them, or it is open."""
    if all(d > 0 for d in differences):
        return "agrees"
    return "the other way round" if all(d < 0 for d in differences) else "open"


def text(targets: Mapping[str, Any]) -> str:
    """A table: the claims, and the differences on each target."""
    rows = []
    for better, worse, place in CLAIMS:
        cells = []
        for found in targets.values():
            arms = found["arms"]
            if better not in arms or worse not in arms:
                cells += ["", "left out"]
                continue
            d = [a - b for a, b in zip(arms[better]["test_top1"], arms[worse]["test_top1"], strict=True)]
            sd = f" ± {100 * statistics.stdev(d):.1f}" if len(d) > 1 else ""
            cells += [f"{100 * statistics.mean(d):+.1f}{sd}", verdict(d)]
        rows.append((place, *cells))
    header = ("the paper", *(cell for name in targets for cell in (f"{name}: points", "here")))
    return "\n".join([
        "## The paper's orderings\n",
        common.table(header, rows),
        "\n`agrees` where the difference has the paper's sign in every seed, `the other way round` where it has the opposite one in "
        "every seed, else `open`. The paper freezes a layer or all before it, which it does not say; here it is the stem and all stages "
        "up to it.\n",
    ])  # fmt: skip


def plot(targets: Mapping[str, Any], classes: Mapping[str, int], path: Path) -> None:
    """As figure 3 of the paper, a panel for each of `PANELS`: mean and standard deviation of the test clips that are right."""
    figure, axes = common.canvas(len(PANELS), 15, 3.4)
    colours = dict(zip(targets, ("#2a6f97", "#c8553d"), strict=False))
    for axis, (title, panel) in zip(axes, PANELS.items(), strict=True):
        if axis is not axes[0]:
            axis.sharey(axes[0])
        for target, found in targets.items():
            shown = [(at, arm) for at, arm in enumerate(panel) if arm in found["arms"]]
            scores = [100 * np.array(found["arms"][arm]["test_top1"]) for _, arm in shown]
            sd = [s.std(ddof=1) if len(s) > 1 else 0.0 for s in scores]
            places = [at for at, _ in shown]
            axis.errorbar(
                places, [s.mean() for s in scores], sd, marker="o", capsize=3, color=colours[target], label=target
            )
            axis.axhline(100 / classes[target], color=colours[target], lw=1, ls=":")
        axis.set_xticks(range(len(panel)), panel.values())
        axis.set_title(title, fontsize=9)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("test clips right, %")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)

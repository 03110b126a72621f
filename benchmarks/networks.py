"""What does a training step of each network take? Parameters, multiply-adds, clips a second, CPU time and the peak of memory.

    python -m benchmarks.networks [--quick] [--models r3d18 t3d121] [--batch N] [--device cpu] [--out FOLDER]

Each network is fed a batch of its paper's clips that lies on the device already, by `vpngen.train.fit`: on a GPU in bfloat16, channels
last. Each has a process of its own, so that its peak is its own, and what is known is written after each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import common
from benchmarks.training import Constant, driver
from vpngen.models import MODELS
from vpngen.models.base import make, outline
from vpngen.train import Recipe, fit

TITLE = "Networks: what a training step of each takes"
HOME = Path(__file__).parent
CATEGORIES = 400
CLIPS = {
    "": (16, 112, 112), "alexnet3d": (8, 224, 224), "densenet3d": (32, 224, 224), "fast": (32, 224, 224), "i3d": (64, 224, 224),
    "inception3d": (32, 224, 224), "slow": (8, 224, 224), "slowfast": (32, 224, 224), "t3d": (32, 224, 224),
}  # fmt: skip
"""How the names of a family begin -> the clip (t, y, x) of its paper; the longest that fits counts."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run.

    Attributes:
        batch: clips of a step; one is too few where the last batch normalization sees a single number of each clip.
        steps: of a turn.
        rounds: turns that count; one before them does not.
        width: what all channels are multiplied by; the least width of a network, where that is more.
        clip: (t, y, x); None for that of each paper. The least clip of a network, where that is more.
    """

    batch: int = 2
    steps: int = 1
    rounds: int = 3
    width: float = 1.0
    clip: tuple[int, int, int] | None = None


PLANS = {
    "gpu": Plan(batch=8, steps=20),
    "cpu": Plan(),
    "quick": Plan(rounds=1, width=0.25, clip=(8, 32, 32)),
}  # fmt: skip


def clip_of(name: str, plan: Plan, least: Sequence[int]) -> tuple[int, ...]:
    """The clip (t, y, x) that a network is measured with."""
    clip = plan.clip or CLIPS[max((family for family in CLIPS if name.startswith(family)), key=len)]
    return tuple(map(max, clip, least))


def families() -> list[str]:
    """The first network of each class."""
    return list({home: name for name, (home, _) in reversed(MODELS.items())}.values())[::-1]


def resident(field: str) -> float:
    """`VmRSS` or its peak, `VmHWM`, of this process in GB; the latter is all that is known where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e9


def gmacs(name: str, width: float, clip: Sequence[int]) -> float:
    """Billions of multiply-adds for one clip: half of what `torch.utils.flop_counter` counts, without any numbers."""
    model = outline(name, CATEGORIES, {"width": width}).eval()
    with FlopCounterMode(display=False) as counted:
        model(torch.empty(1, 3, *clip, device="meta"))
    return counted.get_total_flops() / 2e9


def measure(name: str, plan: Plan, device: str) -> dict[str, Any]:
    """One network, in the process that this is called in."""
    where, before = torch.device(device), resident("VmRSS")
    if where.type == "cuda":
        torch.cuda.set_device(where.index or 0)
    torch.manual_seed(0)
    clip = clip_of(name, plan, outline(name, CATEGORIES, {"width": plan.width}).least)
    model = make(name, CATEGORIES, {"width": plan.width})
    clips = torch.randint(256, (plan.batch, 3, *clip), dtype=torch.uint8).to(where)
    feed = Constant((clips, torch.arange(plan.batch, device=where)), plan.steps)
    recipe = Recipe(lr=0.001, epochs=1, batch_size=plan.batch, clip=clip)
    turns = [common.cost(lambda: fit(model, feed, None, recipe, device=where)) for _ in range(1 + plan.rounds)][1:]
    count = plan.steps * plan.batch
    return {
        "clip": clip, "parameters": sum(p.numel() for p in model.parameters()), "gmacs": gmacs(name, plan.width, clip),
        "rate": common.spread(count / turn.wall for turn in turns), "cpu": common.spread(turn.cpu / count for turn in turns),
        "quiet": sum(turn.quiet for turn in turns), "peak_gb": resident("VmHWM"), "before_gb": before,
        "gpu_gb": torch.cuda.max_memory_allocated(where) / 1e9 if where.type == "cuda" else None,
    }  # fmt: skip


def run(models: Sequence[str], plan: Plan, device: str) -> Iterator[dict[str, Any]]:
    """What is known after each network. One that fails, for want of memory above all, has its error in place of figures."""
    gpu = device.startswith("cuda")
    about = {**common.machine(), "gpu": torch.cuda.get_device_name(device) if gpu else None, "driver": driver(gpu)}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.training"])  # torch is there already, and has allocated nothing
    found: dict[str, Any] = {}
    for name in models:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            try:
                found[name] = pool.submit(measure, name, plan, device).result()
            except Exception as error:  # whatever a network may raise, or a process that the system killed
                found[name] = {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
        yield {"machine": about, "plan": dataclasses.asdict(plan), "threads": torch.get_num_threads(), "models": found}


def report(r: dict[str, Any]) -> str:
    plan, machine = r["plan"], r["machine"]
    gpu = machine["gpu"] is not None
    good = {name: m for name, m in r["models"].items() if "error" not in m}
    rows = [
        (
            f"`{name}`", " x ".join(map(str, m["clip"])), f"{m['parameters']:,}", f"{m['gmacs']:.3g}", f"{m['rate']['median']:.3g}",
            f"{m['cpu']['median']:.3g}", f"{m['gpu_gb' if gpu else 'peak_gb']:.2f}",
        )
        for name, m in good.items()
    ]  # fmt: skip
    header = ("network", "clip", "parameters", "GMACs a clip", "clips/s", "CPU s a clip", "peak GB")
    where = (
        f"{machine['gpu']}, driver {machine['driver']}; bfloat16, channels last"
        if gpu
        else f"{machine['cores']} cores of {machine['cpu']}, {r['threads']} threads of torch; load at the start {machine['load']}"
    )
    memory = (
        "what torch allocated on the GPU"
        if gpu
        else "the resident memory of the process, with weights, gradients and momentum"
    )
    if good and not gpu:
        memory += (
            f"; {statistics.median(m['before_gb'] for m in good.values()):.2f} GB of it before the network is made"
        )
    quiet, turns = sum(m["quiet"] for m in good.values()), plan["rounds"] * len(good)
    parts = [
        f"# {TITLE}\n",
        f"{machine['date']}, {where}. torch {machine['versions']['torch']}. Batches of {plan['batch']}, {CATEGORIES} classes"
        + (f", at {plan['width']:g} of their width" if plan["width"] != 1 else "") + ".\n",
        common.table(header, rows),
        f"\nMedians of turns ({plan['rounds']}, of steps: {plan['steps']}) of `vpngen.train.fit` on one batch, forward, backward and SGD; a turn "
        f"before them does not count. {quiet} of {turns} turns were quiet. GMACs are multiply-adds of the forward pass, by "
        f"`torch.utils.flop_counter`. The peak is {memory}. Clips are those of the papers"
        + (", made small" if plan["clip"] else "") + ".",
        *[f"\n`{name}` has no figures: {m['error']}" for name, m in r["models"].items() if "error" in m],
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one of each family, small, printed: that it runs, no measurement"
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=MODELS, help="which; all unless given")
    parser.add_argument("--batch", type=int, help="clips of a step; 2, on a GPU 8")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU if there is one")
    parser.add_argument(
        "--out", type=Path, help="folder for the report; benchmarks/results, or with --quick or --models none"
    )
    options = parser.parse_args()
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    plan = PLANS["quick" if options.quick else "gpu" if device.startswith("cuda") else "cpu"]
    if options.batch is not None:
        if options.batch < 1:
            parser.error("--batch must be at least 1")
        plan = dataclasses.replace(plan, batch=options.batch)
    models = options.models or (families() if options.quick else list(MODELS))
    out = options.out or (None if options.quick or options.models else HOME / "results")
    found: dict[str, Any] = {}
    for found in run(models, plan, device):
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "networks.json").write_text(json.dumps({**found, "quick": options.quick}, indent=1) + "\n")
            (out / "networks.md").write_text(report(found))
    print(report(found))


if __name__ == "__main__":
    main()

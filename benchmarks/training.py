"""How long does training wait for its clips? Steps fed by the stream, by one constant batch, and by decoded mp4.

    python -m benchmarks.training [--quick] [--device cpu] [--workers N] [--out FOLDER]

What is known is written after each network. Where PyAV, ffmpeg or the pictures are not installed no files are read. The loop is `vpngen.train.fit` itself: on a GPU 16 x 112 x 112, batches of 128, bfloat16, channels last. The constant batch
lies on the device already, and is the bound. Feeds take turns, each turn a whole epoch from the call that begins it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import vpngen
from benchmarks import common, motions
from vpngen.datasets import VideoLoader, read_videos
from vpngen.models import create_model
from vpngen.train import Recipe, fit

TITLE = "Training: steps fed by the stream, by a constant batch and by decoded mp4"
HOME = Path(__file__).parent
STREAM, CONSTANT, FILES = "the stream", "a constant batch", "decoded mp4"
FEEDS = (STREAM, CONSTANT, FILES)
CATEGORIES = 256


@dataclass(frozen=True)
class Plan:
    """Sizes of a run.

    Attributes:
        models: names of `vpngen.train.MODELS`.
        width: what their planes are multiplied by.
        clip: (t, y, x).
        batch: clips of a step.
        steps: of a turn.
        file_steps: of a turn fed by files.
        rounds: turns of each feed that count; one before them does not.
        films: mp4 files of each of the sixteen motions.
        film: (frames, side) of them.
    """

    models: tuple[str, ...] = ("r3d18", "r3d50")
    width: float = 1.0
    clip: tuple[int, int, int] = (16, 112, 112)
    batch: int = 128
    steps: int = 100
    file_steps: int = 48
    rounds: int = 5
    films: int = 4
    film: tuple[int, int] = (96, 192)


PLANS = {
    "gpu": Plan(),
    "gpu, quick": Plan(models=("r3d18",), steps=20, file_steps=5, rounds=2, films=1),
    "cpu": Plan(
        width=0.25, clip=(16, 56, 56), batch=8, steps=8, file_steps=8, rounds=5, films=1, film=(64, 128)
    ),
    "cpu, quick": Plan(
        models=("r3d18",), width=0.125, clip=(8, 32, 32), batch=8, steps=4, file_steps=4, rounds=2, films=1, film=(24, 64)
    ),
}  # fmt: skip


class Constant:
    """One batch that lies on the device, over and over, as `fit` wants its batches."""

    def __init__(self, batch: tuple[torch.Tensor, torch.Tensor], steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.steps):
            yield self.batch

    def set_epoch(self, epoch: int) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Gpu:
    """What nvidia-smi says of a GPU while something runs: the mean of its utilisation, in percent; None where it is not."""

    def __init__(self, device: torch.device) -> None:
        self.index = None if device.type != "cuda" else device.index or 0
        self.utilisation: float | None = None

    def __enter__(self) -> Gpu:
        self.process: Any = None
        if self.index is not None and shutil.which("nvidia-smi"):
            ask = ["nvidia-smi", f"--id={self.index}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self.process = subprocess.Popen([*ask, "--loop-ms=100"], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            said, _ = self.process.communicate()
            numbers = [float(line) for line in said.split("\n") if line.strip().isdigit()]
            self.utilisation = statistics.mean(numbers) if numbers else None


def feeds(plan: Plan, folder: Path, device: torch.device, workers: int) -> dict[str, Any]:
    """Everything that a step can be fed by, of as many steps as a turn has; by no files if `folder` is not there."""
    stream = vpngen.loader(
        vpngen.Spec.preset("vpn-256x512"),
        plan.batch,
        clip=plan.clip,
        device=str(device),
        length=plan.steps * plan.batch,
        drop_last=True,
    )
    clips, labels = next(iter(stream))
    # One channel that is shown three times, as in what the stream gives: what follows costs the same.
    constant = clips[:, :1].to(device).clone().expand(clips.shape), labels.to(device).clone()
    made = {STREAM: stream, CONSTANT: Constant(constant, plan.steps)}
    if not folder.exists():
        return made
    films = read_videos("ucf101", folder, folder.parent / "lists")
    wanted = plan.file_steps * plan.batch
    videos = [
        dataclasses.replace(film, id=f"{film.id} again {turn}")
        for turn in range(-(-wanted // len(films.videos)))
        for film in films.videos
    ]
    again = dataclasses.replace(films, videos=tuple(videos[:wanted]))
    decoded = VideoLoader(
        again, plan.batch, clip=plan.clip, augment="multiscale", num_workers=workers, multiprocessing_context="forkserver",
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    return {**made, FILES: decoded}


def measure(
    name: str, plan: Plan, sources: dict[str, Any], device: torch.device, rounds: int, patience: float
) -> dict[str, Any]:
    """Turns of all feeds with one network."""
    torch.manual_seed(0)
    model = create_model(name, CATEGORIES, width=plan.width)
    recipe = Recipe(lr=0.001, epochs=1, batch_size=plan.batch, clip=plan.clip)
    turns: dict[str, list[dict[str, Any]]] = {feed: [] for feed in sources}
    for turn in range(-1, rounds):
        begin = time.monotonic()
        if device.type == "cpu":
            common.wait_until_quiet(begin + patience)
            patience -= time.monotonic() - begin
        order = list(sources)[turn % len(sources) :] + list(sources)[: turn % len(sources)]
        for feed in order:
            rows: list[dict[str, Any]] = []
            with Gpu(device) as gpu:
                spent = common.cost(lambda: rows.extend(fit(model, sources[feed], None, recipe, device=device)))  # noqa: B023
            clips = len(sources[feed]) * plan.batch
            if turn >= 0:
                turns[feed].append({
                    "rate": rows[0]["clips_per_second"], "waited": rows[0]["data_wait"], "wall": 1e3 * spent.wall / clips,
                    "cpu": 1e3 * spent.cpu / clips, "busy": gpu.utilisation, "quiet": spent.quiet,
                })  # fmt: skip
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters()), "feeds": {}}
    for feed, each in turns.items():
        busy = [t["busy"] for t in each if t["busy"] is not None]
        found["feeds"][feed] = {
            **{key: common.spread(t[key] for t in each) for key in ("rate", "waited", "wall", "cpu")},
            "over_constant": common.spread(
                a["rate"] / b["rate"] for a, b in zip(each, turns[CONSTANT], strict=True)
            ),
            "cpu_over_constant": common.spread(
                a["cpu"] / b["cpu"] for a, b in zip(each, turns[CONSTANT], strict=True)
            ),
            "utilisation": common.spread(busy) if busy else None,
            "quiet": sum(t["quiet"] for t in each),
        }  # fmt: skip
    return found


def run(plan: Plan, folder: Path, device: torch.device, workers: int, patience: float) -> Iterator[dict[str, Any]]:
    """What is known after each model."""
    frames, size = plan.film
    count = len(motions.MOTIONS)
    lacking = [
        name for name in ("av", "imageio_ffmpeg", "skimage", "sklearn") if importlib.util.find_spec(name) is None
    ]
    if lacking:
        print(f"without files, as {', '.join(lacking)} is not installed", file=sys.stderr, flush=True)
    else:
        count = motions.write_ucf101(
            folder / "films", folder / "lists", clips_per_class=plan.films, test_clips_per_class=1, frames=frames, size=size,
            suffix=".mp4",
        )  # fmt: skip
    plan = dataclasses.replace(
        plan, file_steps=-(-plan.file_steps // workers) * workers
    )  # each worker decodes whole batches
    sources = feeds(plan, folder / "films", device, workers)
    rendered = str(next(iter(sources[STREAM]))[0].device)
    gpu = device.type == "cuda"
    found: dict[str, Any] = {}
    for name in plan.models:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = measure(name, plan, sources, device, plan.rounds, patience)
        yield {
            "machine": {**common.machine(), "gpu": torch.cuda.get_device_name(device) if gpu else None, "driver": driver(gpu)},
            "plan": dataclasses.asdict(plan), "workers": workers, "rendered_on": rendered, "threads": torch.get_num_threads(),
            "films": count - len(motions.MOTIONS), "models": found,
        }  # fmt: skip


def driver(gpu: bool) -> str | None:
    """The release of the GPU's driver, and what torch was built with."""
    if not gpu:
        return None
    said = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        said = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    return f"{said}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]


def _range(values: Mapping[str, float] | None, form: str) -> str:
    if values is None:
        return "not known"
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def report(r: dict[str, Any]) -> str:
    plan, machine = r["plan"], r["machine"]
    rows = [
        (
            f"{name}, {feed}", _range(f["rate"], ",.0f" if f["rate"]["median"] > 99 else ".1f"), _range(f["over_constant"], ".1%"),
            _range(f["waited"], ".1%"), f"{f['wall']['median']:.2f}", f"{f['cpu']['median']:.2f}",
            *([_range(f["utilisation"], ".0f")] if machine["gpu"] else []),
        )
        for name, model in r["models"].items()
        for feed, f in model["feeds"].items()
    ]  # fmt: skip
    header = ["fed by", "clips/s", "of the constant batch", "time spent waiting", "wall ms a clip", "CPU ms a clip"]
    where = (
        f"{machine['gpu']}, driver {machine['driver']}; bfloat16, channels last"
        if machine["gpu"]
        else f"{machine['cores']} cores of {machine['cpu']}, {r['threads']} threads of torch; load at the start {machine['load']}"
    )
    frames, side = plan["film"]
    sizes = "; ".join(f"{name} {model['parameters']:,} parameters" for name, model in r["models"].items())
    what, form = ("over_constant", ".1%") if machine["gpu"] else ("cpu_over_constant", ".3f")
    answers = "; ".join(f"{name} {_range(model['feeds'][STREAM][what], form)}" for name, model in r["models"].items())
    answer = (
        f"Of the rate on a constant batch, the stream reaches: {answers}. The aim is 99 %."
        if machine["gpu"]
        else f"CPU time of a clip fed by the stream over that of the constant batch: {answers}. What makes clips and what trains "
        f"share the same cores here, so that is what to compare, and no wall clock; it says nothing of a GPU, where the aim is 99 % "
        f"of the rate on a constant batch."
    )
    parts = [
        f"# {TITLE}\n",
        f"{machine['date']}, {where}. torch {machine['versions']['torch']}. Batches of {plan['batch']} clips of "
        f"{' x '.join(map(str, plan['clip']))}; {sizes}" + (f", at {plan['width']:g} of their width" if plan["width"] != 1 else "") + ".\n",
        f"{answer}\n",
        common.table([*header, *(["utilisation, %"] if machine["gpu"] else [])], rows),
        f"\nMedians and ranges of {plan['rounds']} turns of {plan['steps']} steps ({plan['file_steps']} fed by files) of `vpngen.train.fit`, "
        f"the feeds in turns, ratios within a round; each turn is an epoch from the call that begins it, its first batch included. "
        f"The stream was rendered on {r['rendered_on']}."
        + (f" The mp4 files are {r['films']} moving pictures of {frames} x {side} x {side}, H.264, in the page cache, read by "
        f"{r['workers']} worker processes, which are there before the clock starts." if r["films"] else " Without files.")
        + " CPU time is that of all threads and workers.",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute or so, printed: a first look, not a measurement")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU if there is one")
    parser.add_argument("--workers", type=int, default=common.cores(), help="processes that decode; one for each core")
    parser.add_argument("--out", type=Path, help="folder for the report; benchmarks/results, or with --quick none")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error("--workers must be at least 1")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else torch.device(options.device)  # fmt: skip
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    plan = PLANS[("gpu" if device.type == "cuda" else "cpu") + (", quick" if options.quick else "")]
    out = options.out or (None if options.quick else HOME / "results")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix=".benchmark-") as folder:
        for found in run(plan, Path(folder), device, options.workers, 0 if options.quick else 120):
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                (out / "training.json").write_text(json.dumps({**found, "quick": options.quick}, indent=1) + "\n")
                (out / "training.md").write_text(report(found))
    print(report(found))


if __name__ == "__main__":
    main()

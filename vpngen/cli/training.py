"""`vpngen train`, `finetune`, `evaluate` and `figure`: networks that are initialized, fine-tuned, evaluated and drawn."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpngen.cli.base import (
    EXIT_CODES,
    Group,
    Noted,
    SectionOption,
    Stop,
    bundle,
    cli,
    complete,
    format_option,
    noted_signals,
    numbers,
    shape_of,
    show,
)  # fmt: skip
from vpngen.cli.dataset import no_dataset, take_spec, training_dataset_options, warm
from vpngen.errors import ArgumentError, MissingError

if TYPE_CHECKING:
    from vpngen.train.evaluation import Evaluation
    from vpngen.train.recipes import Recipe
    from vpngen.train.runs import Data, Machine, Start

KINDS = ("ucf101", "hmdb51", "activitynet", "kinetics", "json", "folder")
AUGMENTATIONS = ("x10", "multiscale", "random", "none")
RECIPES = ("wacv2022", "cvpr2018", "cvpr2018-finetune")
LEVELS = ("half", "kinetics", "activitynet", "imagenet")
RESUMES = " It goes on from its last checkpoint when the same command is given again."


def _settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """key=value, the value as JSON or else a word."""
    made: dict[str, Any] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise click.BadParameter(f"{text!r} must be NAME=VALUE, such as shortcut=A", ctx, param)
        try:
            made[key] = json.loads(value)
        except ValueError:
            made[key] = value
    return made or None


_path = click.Path(path_type=Path)
_three = numbers(float, f"one of {', '.join(LEVELS)}, or three numbers")


def _levels(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """One of LEVELS, or three numbers."""
    return value if value in LEVELS else _three(ctx, param, value)


_network = functools.partial(click.option, cls=SectionOption, section="Which network")
_how = functools.partial(click.option, cls=SectionOption, section="How it is trained")
_machine = functools.partial(click.option, cls=SectionOption, section="Where it runs")
_data = functools.partial(click.option, cls=SectionOption, section="Which videos")
model_options = bundle(
    _network("--model", metavar="NAME", help="Such as r3d18, r2p1d50, preact200, wide50, resnext101, densenet121, or package.module:callable.  [default: that of the weights of --from, or r3d50]"),
    _network("--set", "options", multiple=True, callback=_settings, metavar="NAME=VALUE", help="An option of the model: shortcut=A, width=0.5, max_pool=false ..."),
    _network("--from", "from_", type=_path, metavar="FILE", help="Weights to begin with, .safetensors or .pth, or the folder of a run; the head is a new one."),
    _network("--inflate", type=_path, metavar="FILE", help="Weights of a 2-D ResNet to begin with, repeated along time."),
)  # fmt: skip
recipe_options = bundle(
    _how("--recipe", type=click.Choice(RECIPES), default=RECIPES[0], show_default=True, help="What the options below are by default."),
    _how("--epochs", type=int, help="At most.  [default: 200]"),
    _how("--batch", type=int, help="Clips of a step, over all ranks.  [default: 128]"),
    _how("--lr", type=float, help="The learning rate at the start.  [default: 0.3, 0.1, 0.001]"),
    _how("--patience", type=int, help="Epochs in a row without a better validation loss, after which it is lowered.  [default: 10]"),
    _how("--factor", type=float, help="What it is multiplied by then.  [default: 0.1]"),
    _how("--momentum", type=float, help="Of the gradients.  [default: 0.9]"),
    _how("--nesterov/--no-nesterov", default=None, help="Nesterov's momentum.  [default: no-nesterov]"),
    _how("--weight-decay", type=float, help="Per step and rate.  [default: 0.001, 0.001, 0.00001]"),
    _how("--clip", callback=shape_of, metavar="TxHxW", help="Frames, height, width.  [default: 16x112x112]"),
    _how("--augment", type=click.Choice(AUGMENTATIONS), help="How clips are cut.  [default: x10, multiscale, multiscale]"),
    _how("--freeze", type=int, help="Stages that stay as they are; 3 trains conv5_x and the head alone.  [default: 0, 0, 3]"),
    _how("--mean", callback=_levels, shell_complete=complete(*LEVELS), metavar="R,G,B|NAME", help="Subtracted from levels in [0, 1]; half, kinetics, activitynet and imagenet say --std too.  [default: that of --from; with --inflate imagenet; or half]"),
    _how("--std", callback=_levels, shell_complete=complete(*LEVELS), metavar="R,G,B|NAME", help="What they are divided by then; likewise."),
)  # fmt: skip
RECIPE_FIELDS = (
    "epochs", "batch", "lr", "patience", "factor", "momentum", "nesterov", "weight_decay", "clip", "augment", "freeze", "mean", "std",
)  # fmt: skip
machine_options = bundle(
    _machine("--device", default="auto", show_default=True, shell_complete=complete("auto", "cpu", "cuda"), help="auto, cpu, cuda or cuda:N; a rank of torchrun has its own card."),
    _machine("--accumulate", type=int, default=1, show_default=True, help="Parts in which a batch goes through the network, where memory is short."),
    _machine("--compile/--no-compile", "compiled", default=False, help="torch.compile.  [default: no-compile]"),
    _machine("--amp/--no-amp", default=None, help="bfloat16.  [default: on a card that can]"),
)  # fmt: skip
decoders_option = _machine(
    "--decoders",
    type=int,
    help="Processes that decode videos; 0 for none of their own.  [default: the processors that a rank has, 8 at most]",
)
data_options = bundle(
    _data("--data", "kind", type=click.Choice(KINDS), help="What kind of set it is."),
    _data("--videos", "root", type=_path, metavar="FOLDER", help="Where its videos are; json: its folders of frames."),
    _data("--annotations", type=_path, metavar="PATH", help="ucf101, hmdb51: the folder of split files; activitynet, json: the file; kinetics: the folder of CSV files."),
)  # fmt: skip


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=_path, required=False)
@click.option("--store", "store_path", type=_path, metavar="STORE", help="Read the clips of a rendered set.")
@model_options
@recipe_options
@click.option("--samples", type=int, help="Clips of an epoch.  [default: one of every video]")
@click.option("--run-seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and crops.")
@machine_options
@click.option("--threads", type=int, help="That render on a CPU.  [default: all processors]")
@format_option
@training_dataset_options
def train(
    out: Path | None,
    store_path: Path | None,
    samples: int | None,
    run_seed: int,
    threads: int | None,
    form: str,
    **options: Any,
) -> None:
    """Initialize a 3-D CNN with clips that are rendered on the fly.

    It learns to name the category of each.

    OUT is the folder of the run, by default runs/SET-MODEL, with -from-... or -inflated behind it where it begins with
    weights. It holds weights.safetensors, weights.pth in the form of 3D-ResNets-PyTorch, log.csv, curves.png, tensorboard/
    and the checkpoint that a stopped or killed run goes on from when the same command is given again. On several cards:
    torchrun --nproc-per-node 8 -m vpngen train ..., where every rank takes its share of each batch.

    Examples:
      vpngen train vpn                R3D-50, the paper's recipe and set
      vpngen train --preset vpn-low-freq --model r2p1d50
      vpngen train --categories 16 --instances 64 --model r3d10
      vpngen train --model r3d50 --clip 64x224x224 --accumulate 4
      vpngen train --model torchvision.models.video:r3d_18
    """
    begin, machine = _take_start(options), _take_machine(options)
    recipe = _take_recipe(options, begin)
    if store_path is not None:
        no_dataset(options, "`store`")
        source: Any = store_path
        name = store_path.stem
    else:
        source, name = take_spec(options)
        _warmed(source, machine)
    from vpngen.train import runs

    out = _run_folder(name, begin) if out is None else out
    with _watched(RESUMES) as watched:
        rows = runs.initialize(
            source, out, begin, recipe, machine, seed=run_seed, samples=samples, backend_threads=threads,
            progress=watched.progress, stop=watched.stop, say=_say_so,
        )  # fmt: skip
    if _main_rank():
        last = rows[-1]
        text = (
            f"{click.format_filename(out)}: {len(rows)} epochs, val loss {last['val_loss']:.3f}, top-1 {last['val_top1']:.1%}; "
            f"weights.safetensors and weights.pth hold the network"
        )
        show(form, {"path": str(out), **last}, text)


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=_path, required=False)
@data_options
@click.option(
    "--splits",
    callback=numbers(int, "whole numbers"),
    default="1",
    show_default=True,
    metavar="N,...",
    help="Official splits; each is a run of its own.",
)
@click.option(
    "--seeds",
    callback=numbers(int, "whole numbers"),
    default="0",
    show_default=True,
    metavar="N,...",
    help="Of head, order and crops; each is a run of its own.",
)
@click.option(
    "--holdout",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of the training videos, by group, that takes the place of the test videos in lowering the learning rate; "
    "of a plain folder it is the test, the same for all seeds.",
)
@model_options
@recipe_options
@machine_options
@decoders_option
@format_option
def finetune(
    out: Path | None, splits: tuple[int, ...], seeds: tuple[int, ...], form: str, **options: Any
) -> None:  # fmt: skip
    """Train a network on filmed videos, and evaluate it.

    OUT is the folder of the run, or of one folder for each split and seed; by default runs/ucf101-r3d50, say, or
    runs/ucf101-r3d50-from-vpn with --from vpn, runs/ucf101-r3d50-inflated with --inflate. A stopped run goes on when the
    same command is given again. The procedures of Table 1 are one such command each, or several, each from the weights of
    the one before.

    Examples:
      vpngen finetune --data ucf101 --videos ucf --annotations lists
      vpngen finetune --from vpn --data ucf101 --videos ucf --annotations lists
      vpngen finetune k4 --data kinetics --videos k400 --annotations lists
      vpngen finetune --inflate resnet50.pth --data folder --videos clips
      vpngen finetune --from k4 --data folder --videos clips --seeds 0,1,2
      vpngen finetune --from k4 --freeze 3 --lr 0.001 --data folder --videos clips
    """
    begin, machine = _take_start(options), _take_machine(options)
    recipe = _take_recipe(options, begin)
    holdout = options.pop("holdout")
    base = _take_data(options)
    if not 0 <= holdout < 1:
        raise ArgumentError("must be a share in [0, 1)", "holdout", holdout)
    if min(seeds) < 0:
        raise ArgumentError("must be at least 0", "seeds", seeds)
    if len(set(splits)) != len(splits) or len(set(seeds)) != len(seeds):
        raise ArgumentError(f"and `seeds` (={seeds}) must each be different numbers", "splits", splits)
    from dataclasses import replace

    from vpngen.train import runs
    from vpngen.train.evaluation import summary

    out = _run_folder(base.kind, begin) if out is None else out
    several = len(splits) * len(seeds) > 1
    sets = {split: replace(base, split=split, holdout=holdout) for split in splits}
    for split in splits[1:]:  # what is wrong with a list is said before the first run trains
        sets[split].sets(seeds[0])
    found: dict[tuple[int, int], Evaluation] = {}
    for seed in seeds:
        for split, data in sets.items():
            folder = out / f"split{split}-seed{seed}" if several else out
            if several and _main_rank():
                click.echo(f"split {split}, seed {seed}: {click.format_filename(folder)}", err=True)
            with _watched(RESUMES) as watched:
                found[split, seed] = runs.finetune(
                    data,
                    folder,
                    begin,
                    recipe,
                    machine,
                    seed=seed,
                    progress=watched.progress,
                    scored=watched.scored,
                    stop=watched.stop,
                    say=_say_so,
                )
    if _main_rank():
        _say(form, out, found, summary(found))


@cli.command(epilog=EXIT_CODES)
@click.argument("weights", type=_path, nargs=-1, required=True)
@data_options
@click.option(
    "--splits",
    callback=numbers(int, "whole numbers"),
    metavar="N,...",
    help="Of which split the test videos are, for each of WEIGHTS.  [default: that it was trained on]",
)
@click.option(
    "--clip", callback=shape_of, metavar="TxHxW", help="Frames, height, width.  [default: those it was trained on]"
)
@click.option("--batch", type=int, default=32, show_default=True, help="Windows that go through the network at once.")
@click.option("-o", "--out", type=_path, metavar="FILE", help="Write the figures as JSON.")
@click.option(
    "--results", type=_path, metavar="FILE", help="Write the scores of one of WEIGHTS as 3D-ResNets-PyTorch does."
)
@machine_options
@decoders_option
@format_option
def evaluate(
    weights: tuple[Path, ...], splits: tuple[int, ...] | None, clip: tuple[int, int, int] | None, batch: int, out: Path | None,
    results: Path | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Evaluate fine-tuned networks on test videos.

    Windows side by side, the centre of each, scores averaged over a video.

    WEIGHTS are files that `vpngen finetune` wrote, or folders of its runs. Of several splits and seeds the mean and the
    deviation are shown; other networks of one split and seed stand side by side.

    Examples:
      vpngen evaluate vpn-ucf
      vpngen evaluate ucf/split1-seed0 ucf/split2-seed0 ucf/split3-seed0
      vpngen evaluate vpn-ucf -o figures.json --results scores.json
    """
    machine = _take_machine(options)
    if any(options[name] is not None for name in ("kind", "root", "annotations")):
        base: Data | None = _take_data(options)
    else:
        base = None
    if splits is not None and len(splits) not in (1, len(weights)):
        raise ArgumentError(f"must be one for all, or one for each of {len(weights)} WEIGHTS", "splits", splits)
    if results is not None and len(weights) > 1:
        raise ArgumentError(f"are those of one network, and {len(weights)} are given", "results")
    from dataclasses import replace

    from vpngen.files import write_json
    from vpngen.models.weights import read_weights
    from vpngen.train import runs
    from vpngen.train.evaluation import summary

    wanted = []
    for i, given in enumerate(weights):
        file = _weights_of(given)
        data = base or runs.data_of(file)
        data = data if splits is None else replace(data, split=splits[i % len(splits)])
        about = read_weights(file)[1]
        seen = about.get("source", {})
        if seen.get("kind") == data.kind and seen.get("split") != data.split and _main_rank():
            there = f"{click.format_filename(given)} was trained on split {seen.get('split')}"
            _say_so(f"{there}, and has seen many of the videos that split {data.split} tests")
        wanted.append((file, data, (data.split, about.get("seed", 0))))
    keys = [key for *_, key in wanted]
    found = []
    for file, data, _ in wanted:
        with _watched() as watched:
            found.append(runs.assess(file, machine, data=data, clip=clip, batch=batch, scored=watched.scored))
    if not _main_rank():
        return
    if len(set(keys)) == len(keys):
        together = dict(zip(keys, found, strict=True))
        _say(form, out, together, summary(together))
    else:  # networks of the same split and seed are other networks, of which there is no mean
        pairs = list(zip(weights, found, strict=True))
        if out is not None:
            write_json(out, {str(given): one.to_dict() for given, one in pairs})
        text = "\n\n".join(f"{click.format_filename(given)}\n{one.text()}" for given, one in pairs)
        show(form, {str(given): one.to_dict() for given, one in pairs}, text)
    if results is not None:  # last, as names there may clash
        found[0].write_results(results)


def _say(form: str, out: Path | None, found: dict[tuple[int, int], Evaluation], whole: Any) -> None:
    """Show one evaluation, or the figures of several; write them beside the runs, or to the file asked for."""
    one = next(iter(found.values())) if len(found) == 1 else None
    if out is not None:
        target = out / ("summary.json" if one is None else "evaluation.json") if out.is_dir() else out
        (whole if one is None else one).write(target)
    fields = whole.to_dict() if one is None else one.to_dict()
    show(form, fields, whole.text() if one is None else one.text())


# --- figures


@cli.group(cls=Group)
def figure() -> None:
    """Draw what runs came to: filters, curves, sweeps.

    Examples:
      vpngen figure filters scratch vpn -o figure5.gif
      vpngen figure curves scratch vpn-ucf i3d-ucf -o figure4.png
      vpngen figure sweep runs -o figure3.png
    """


@figure.command()
@click.argument("weights", type=_path, nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=_path,
    default="filters.png",
    show_default=True,
    help=".png: the frames in a row; .gif: playing.",
)
@click.option(
    "--titles", callback=numbers(str, "words"), metavar="TEXT,...", help="Of each network.  [default: its file]"
)
@click.option("--layer", metavar="NAME", help="Another layer than the first convolution.")
def filters(weights: tuple[Path, ...], out: Path, titles: tuple[str, ...] | None, layer: str | None) -> None:
    """Draw the filters of first convolutions over time: Figure 5.

    Examples:
      vpngen figure filters vpn/weights.safetensors -o filters.gif
      vpngen figure filters scratch/weights.pth vpn/weights.pth
    """
    from vpngen.train import figures

    figures.filters([_weights_of(path) for path in weights], out, titles=titles, layer=layer)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("runs", type=_path, nargs=-1, required=True)
@click.option("-o", "--out", type=_path, default="curves.png", show_default=True, help=".png, .svg or .pdf.")
@click.option("--metric", help="A column of log.csv.  [default: val_top1; all of them for one run]")
@click.option(
    "--labels", callback=numbers(str, "words"), metavar="TEXT,...", help="Of each run.  [default: its folder]"
)
def curves(runs: tuple[Path, ...], out: Path, metric: str | None, labels: tuple[str, ...] | None) -> None:
    """Draw what runs logged, epoch by epoch: Figure 4.

    Examples:
      vpngen figure curves scratch vpn-ucf i3d-ucf -o figure4.png
      vpngen figure curves vpn --metric train_loss
    """
    from vpngen.train import figures

    figures.curves(runs, out, metric, labels=labels)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("evaluations", type=_path, nargs=-1, required=True)
@click.option("-o", "--out", type=_path, default="sweep.png", show_default=True, help=".png, .svg or .pdf.")
@click.option(
    "--x",
    type=click.Choice(["categories", "instances"]),
    default="categories",
    show_default=True,
    help="Of the set that was initialized from.",
)
@click.option(
    "--series",
    type=click.Choice(["target", "model"]),
    default="target",
    show_default=True,
    help="What has a line of its own.",
)
@click.option("--metric", default="top1", show_default=True, help="Of the evaluations.")
def sweep(evaluations: tuple[Path, ...], out: Path, x: str, series: str, metric: str) -> None:
    """Draw accuracy against the size of the set that networks were initialized from: Figure 3.

    EVALUATIONS are folders of `vpngen finetune`, searched for evaluation.json. What was trained from scratch stands at 0.

    Examples:
      vpngen figure sweep sweeps/ -o figure3.png
      vpngen figure sweep sweeps/ --x instances
    """
    from vpngen.train import figures

    figures.sweep(evaluations, out, x=x, series=series, figure=metric)
    click.echo(click.format_filename(out))


# --- what the options mean


def _weights_of(path: Path) -> Path:
    return path / "weights.safetensors" if path.is_dir() else path


def _take_start(options: dict[str, Any]) -> Start:
    from vpngen.train.runs import Start

    begin = options.pop("from_")
    return Start(
        options.pop("model"),
        options.pop("options"),
        None if begin is None else _weights_of(begin),
        options.pop("inflate"),
    )


def _take_machine(options: dict[str, Any]) -> Machine:
    from vpngen.train.runs import Machine

    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # where package.module:callable may be; `python -m` finds it there as well
    return Machine(
        options.pop("device"), options.pop("accumulate"), options.pop("compiled"), options.pop("amp"), _decoders(options.pop("decoders", 0))
    )  # fmt: skip


def _decoders(asked: int | None) -> int:
    """Processes that decode: as asked, or what processors a rank has."""
    from vpngen.units import usable_cpus

    if asked is not None and asked < 0:
        raise ArgumentError("must be at least 0", "decoders", asked)
    return min(8, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if asked is None else asked


def _take_recipe(options: dict[str, Any], begin: Start) -> Recipe:
    """The recipe, with mean and deviation as the weights are used to, where nobody says others."""
    import dataclasses

    from vpngen.train.recipes import RECIPES as KNOWN

    recipe = KNOWN[options.pop("recipe")]
    given = {name: value for name in RECIPE_FIELDS if (value := options.pop(name)) is not None}
    levels = _take_levels(given, begin)
    recipe = dataclasses.replace(recipe, **given, **levels)
    if begin.weights is not None and len(levels) < 2 and _main_rank():
        taken = " and ".join(",".join(f"{level:g}" for level in three) for three in (recipe.mean, recipe.std))
        _say_so(
            f"{click.format_filename(begin.weights)} does not say which mean and deviation it was trained with: {taken} are taken; "
            f"give others as --mean and --std, or by name, as --mean kinetics"
        )
    return recipe


def _take_levels(given: dict[str, Any], begin: Start) -> dict[str, Any]:
    """Mean and deviation, as far as they are said or known of the weights. A name says both, unless the other is said too."""
    from vpngen.train.runs import LEVELS as KNOWN

    said = {name: given.pop(name) for name in ("mean", "std") if name in given}
    levels = dict(next((KNOWN[word] for word in said.values() if word in LEVELS), begin.levels))
    levels |= {name: KNOWN[value][name] if value in LEVELS else value for name, value in said.items()}
    for name, three in levels.items():
        if len(three) != 3:
            raise ArgumentError("must be three numbers, of red, green and blue", name, three)
    return levels


def _take_data(options: dict[str, Any]) -> Data:
    from vpngen.train.runs import Data

    kind, root, annotations = (options.pop(name) for name in ("kind", "root", "annotations"))
    for name, value in (("data", kind), ("videos", root)):
        if value is None:
            raise ArgumentError("is missing: give --data KIND and --videos FOLDER", name)
    return Data(kind, root, annotations)


def _run_folder(what: str, begin: Start) -> Path:
    """Where a run goes that is not told: it is named by what it sees, its network, and where its weights come from."""
    name = f"{what}-{begin.network[0].rpartition(':')[2]}"
    if begin.inflate is not None:
        name += "-inflated"
    if begin.weights is not None:
        file = Path(os.path.abspath(begin.weights))
        name += f"-from-{file.parent.name if file.stem == 'weights' else file.stem}"
    return Path("runs") / name


def _say_so(text: str) -> None:
    click.echo(text, err=True)


def _main_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _warmed(spec: Any, machine: Machine) -> None:
    """Compile kernels before progress is shown, and for all ranks at once."""
    from vpngen.terminal import compiling

    own = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "auto"
    wanted = {"cpu": ("numba",), "auto": (own, "auto"), "cuda": (own,)}.get(machine.device, (machine.device,))
    with compiling():
        for name in wanted:
            with contextlib.suppress(MissingError):
                warm(spec, name)
                break


class _Watched:
    """What a run shows, one thing after the other: how training goes, then how many videos were evaluated."""

    def __init__(self, shown: contextlib.ExitStack, stop: Noted) -> None:
        self.stop = stop
        self._shown, self._what = shown, ""
        self._show: Any = lambda *_: None

    def _open(self, what: str) -> None:
        from vpngen import terminal

        if what != self._what and _main_rank():
            self._shown.close()
            opened = terminal.training_progress() if what == "training" else terminal.scoring_progress()
            self._show = self._shown.enter_context(opened)
        self._what = what

    def progress(self, p: Any) -> None:
        """As `vpngen.train.fit` tells it."""
        self._open("training")
        self._show(p)

    def scored(self, done: int, total: int) -> None:
        """As an evaluation tells it; also where one is stopped."""
        if self.stop.number is not None:
            raise Stop(self.stop.number)
        self._open("scoring")
        self._show(done, total)


@contextlib.contextmanager
def _watched(advice: str = "") -> Iterator[_Watched]:
    """Progress, and whether a signal has come; a run that stopped for one ends as signals do."""
    from vpngen.train.fitting import StoppedError

    with noted_signals() as stop, contextlib.ExitStack() as shown:
        try:
            yield _Watched(shown, stop)
        except StoppedError:
            end = Stop(stop.number or signal.SIGTERM)
            end.advice = advice
            raise end from None
        except Stop as end:
            end.advice = advice
            raise

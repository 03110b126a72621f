"""`vpngen train`, `finetune` and `evaluate`: networks that are initialized, fine-tuned and evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pkgutil
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vpngen import files
from vpngen.cli import base
from vpngen.cli.base import (
    EXIT_CODES,
    LocalPath,
    OptionsOf,
    Real,
    SectionOption,
    StorePath,
    Whole,
    cli,
    complete,
    field_options,
    format_option,
    no_storage_options,
    numbers,
    place,
    reader,
    real,
    shape_of,
    share,
    show,
    storage_option,
    whole,
)
from vpngen.cli.dataset import advise, no_dataset, take_spec, training_dataset_options, warm
from vpngen.cli.runs import RunCommand, advice, command_line, run_name, runs_of, weights_of
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError, plain, quoted, renamed
from vpngen.units import count_text

if TYPE_CHECKING:
    from vpngen.tasks import Task
    from vpngen.train import DataConfig, Evaluation, ModelInit, Recipe, Retrieval, Runtime

_path = LocalPath(path_type=Path)
_integers = numbers(whole, "whole numbers")


def _settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """key=value, the value as JSON or else a word."""
    made: dict[str, Any] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise click.BadParameter(f"{text!r} must be NAME=VALUE, such as shortcut=A", ctx, param)
        made[key] = value
        with contextlib.suppress(ValueError):
            made[key] = files.parse_json(value)
    return made or None


def _normalization(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A name, or three numbers."""
    from vpngen.sampling import NORMALIZATIONS

    parse = numbers(real, f"one of {', '.join(NORMALIZATIONS)}, or three numbers")
    return value if value in NORMALIZATIONS else parse(ctx, param, value)


def _recipe_options(typed: tuple[str, ...]) -> list[click.Parameter]:
    """Those of a recipe; help shows the defaults of the first one, or of the task that is asked for."""
    from vpngen.fields import described
    from vpngen.sampling import NORMALIZATIONS
    from vpngen.train.recipes import RECIPES, Recipe

    option = functools.partial(SectionOption, section="How it is trained")
    level = functools.partial(option, callback=_normalization, metavar="R,G,B|NAME")
    first, *_ = recipes = list(RECIPES)
    names, shown, usual = complete(*NORMALIZATIONS), first, dict[str, Any]()
    for task in _spoken_of(typed):
        shown, usual = f"--task {task}", dict(_task_kind(task).defaults)
    fields = [f._replace(default=usual.get(f.name, f.default)) for f in described(Recipe)]
    return [
        option(["--recipe"], type=click.Choice(recipes), metavar="NAME", default=first, help=f"The defaults of the options below: one of {', '.join(recipes)}; shown are those of {shown}."),
        *field_options([f for f in fields if f.name not in ("mean", "std")], SectionOption, section="How it is trained"),
        level(["--mean"], shell_complete=names, help=f"Subtracted from pixel values in [0, 1]; {', '.join(NORMALIZATIONS)} set --std too.  [default: that of --init-from; with --inflate imagenet, for i3d half; or half]"),
        level(["--std"], shell_complete=names, help="What they are divided by then; likewise."),
    ]  # fmt: skip


class TaskOption(SectionOption):
    """An option of a task."""

    def __init__(self, *args: Any, task: str, **fields: Any) -> None:
        super().__init__(*args, section=f"With --task {task}", **fields)
        self.task = task


def task_options(typed: tuple[str, ...], named: bool = False) -> list[click.Parameter]:
    """`--task`, and the options of those tasks that are spoken of: those of others would need torch to be known.

    Args:
        typed: the arguments; a task is spoken of behind `--task`.
        named: whether it is by any argument.
    """
    from vpngen.fields import described
    from vpngen.tasks import TASKS

    options: list[click.Parameter] = [
        SectionOption(["--task"], section="How it is trained", type=click.Choice(list(TASKS)), default="classify", show_default=True, help="What it learns; others than classify need no labels. Their options: --task NAME --help.")
    ]  # fmt: skip
    for name in _spoken_of(typed, named):
        options += field_options(described(_task_kind(name)), TaskOption, task=name)
    return options


def _spoken_of(typed: tuple[str, ...], named: bool = False) -> list[str]:
    """The tasks with options of their own that arguments speak of, see `task_options`, in the order of the last time."""
    from vpngen.tasks import TASKS

    words = [part for word in typed for part in word.split("=", 1)]  # nothing is parsed yet
    asked = [word for before, word in itertools.pairwise(["", *words]) if named or before == "--task"]
    return [*dict.fromkeys(word for word in reversed(asked) if word in TASKS and word != "classify")][::-1]


def _task_kind(name: str) -> type[Task]:
    from vpngen.tasks import TASKS

    with base.needs_extras():
        kind: type[Task] = pkgutil.resolve_name(TASKS[name])
    return kind


def data_parameters() -> list[click.Parameter]:
    """The options that say which real videos."""
    from vpngen.datasets import ANNOTATIONS, KINDS

    option = functools.partial(SectionOption, section="Which videos")
    return [
        option(["--dataset", "kind"], type=click.Choice(KINDS), help="What kind of set it is."),
        option(["--root"], type=_path, metavar="FOLDER", help="The folder of its videos; json: of its folders of frames."),
        option(["--annotations"], type=_path, metavar="PATH", help=f"What lists them. {ANNOTATIONS}.  [default: in or beside --root]"),
    ]  # fmt: skip


_network = functools.partial(click.option, cls=SectionOption, section="Which network")
option_option = _network("--model-option", "options", multiple=True, callback=_settings, metavar="NAME=VALUE", help="An option of the network: shortcut=A, width=0.5, max_pool=false ...")  # fmt: skip
_features = functools.partial(click.option, cls=SectionOption, section="What its features are worth")
_runtime = functools.partial(click.option, cls=SectionOption, section="Where it runs")
runtime_options = base.bundle(
    _runtime("--device", default="auto", show_default=True, shell_complete=complete("auto", "cpu", "cuda"), help="auto, cpu, cuda or cuda:N; a rank of torchrun has its own GPU."),
    _runtime("--grad-accum-steps", type=Whole(), default=1, show_default=True, help="Parts in which a batch goes through the network, where memory is short."),
    _runtime("--compile/--no-compile", default=False, help="torch.compile.  [default: no-compile]"),
    _runtime("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True, help="auto: bf16 on a GPU that has it."),
    format_option,
)  # fmt: skip
run_options = base.bundle(
    _network("--model", metavar="NAME", help="Such as r3d18, r2p1d50, preact200, wide50, resnext101, densenet121, slowfast50, slow50, i3d, c3d, alexnet3d, t3d121, or package.module:callable.  [default: that of --init-from, of the paper of a --task, or r3d50]"),
    option_option,
    _network("--init-from", type=_path, callback=lambda ctx, param, path: path and weights_of(path), metavar="FILE", help="Weights to begin with, .safetensors or .pth, or the folder of a run; the head is a new one."),
    _network("--inflate", type=_path, metavar="FILE", help="Weights of a 2D network to begin with, such as a ResNet or DenseNet, GoogLeNet (i3d) or AlexNet (alexnet3d), repeated along time."),
    click.option("--recipe", cls=OptionsOf, made=_recipe_options),
    runtime_options,
)  # fmt: skip
data_options = base.bundle(
    click.option("--dataset", cls=OptionsOf, made=lambda _: data_parameters()),
    _runtime("--num-workers", type=Whole(0, 1024), help="Processes that decode videos; 0 for none.  [default: the CPUs of a rank, at most 8]"),
)  # fmt: skip


@cli.command(cls=RunCommand, epilog=EXIT_CODES)
@click.argument("out", type=_path, required=False)
@click.option("--store", "path", type=StorePath(), metavar="STORE", help="Read the clips of a rendered set.")
@storage_option
@run_options
@click.option("--task", cls=OptionsOf, made=task_options)
@data_options
@click.option("--val-fraction", type=Real(), help="Share of the training videos, by group, that validation takes; of real videos.  [default: none, or 1/16 of a folder without others]")  # fmt: skip
@click.option("--heads", cls=SectionOption, section="How it is trained", type=click.Choice(["category", "factors"]), default="category", show_default=True, help="Of a network that classifies rendered clips: one for the category, or one for each factor of it, such as direction and speed.")  # fmt: skip
@click.option("--samples-per-epoch", type=Whole(1, 2**48), help="Clips of an epoch.  [default: one of every video]")
@click.option("--seed", type=Whole(0, 2**64 - 1), default=0, show_default=True, help="Of weights, order and crops.")
@click.option("--threads", type=Whole(), help="CPU threads that render.  [default: all CPUs]")
@training_dataset_options
def train(
    out: Path | None, path: str | None, val_fraction: float | None, heads: str, samples_per_epoch: int | None, seed: int,
    threads: int | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Initialize a 3D CNN with clips that are rendered on the fly, or with real videos.

    It learns to classify them: the category of each is its label. Or it learns by another --task, without labels.

    OUT is the folder of the run, by default runs/SET-MODEL, with -from-... or -inflated behind it where it begins with
    weights. It holds weights.safetensors, weights.pth in the form of 3D-ResNets-PyTorch, log.csv, curves.png, tensorboard/
    and the checkpoint that a stopped or killed run goes on from when the same command is given again, or OUT alone, which
    takes the options of the run. On several GPUs:
    torchrun --nproc-per-node 8 -m vpngen train ..., where every rank takes its share of each batch.

    Examples:
      vpngen train vpn                R3D-50, the paper's recipe and set
      vpngen train --preset vpn-low-freq --model r2p1d50
      vpngen train --categories 16 --instances 64 --model r3d10
      vpngen train --model r3d50 --clip 64x224x224 --grad-accum-steps 4
      vpngen train --model torchvision.models.video:r3d_18
      vpngen train --task order --wrong swap --dataset ucf101 --root ucf
      vpngen train --task puzzle --dataset folder --root clips
    """
    task = take_task(options, seed)
    begin, recipe, runtime = _take_run(options, task)
    source: Any = take_videos(options, val_fraction)
    if heads == "factors":
        task = _with_heads(task, source is not None)
    if source is not None:
        if path is not None:
            raise ArgumentError("cannot be given beside `--dataset`; leave one of them out", "path")
        name = source.kind
    elif path is None:
        no_storage_options()
        source, name = take_spec(options)
        advise(source)
        _warm(source, runtime)
    else:
        no_dataset(options, "`--store`")
        source, name = place(path), Path(path).stem
    from vpngen.models import read_weights
    from vpngen.train import runs

    out = _run_folder(name, begin) if out is None else out
    with _watched(advice()) as (progress, _, stop):
        rows = runs.initialize(
            source, out, begin, recipe, runtime, task=task, seed=seed, samples_per_epoch=samples_per_epoch, threads=threads,
            progress=progress, should_stop=lambda: bool(stop), log=_log, command=command_line(),
        )  # fmt: skip
    if _main_rank():
        last, where, first = rows[-1], "weights.safetensors and weights.pth hold the network", task.metrics[0]
        reached = f"val loss {last['val_loss']:.3f}, {first.replace('top1', 'top-1')} {last[f'val_{first}']:.1%}"
        chance = read_weights(out / "weights.safetensors")[1].get("chance") or {}
        reached += f" (chance: {chance[first]:.1%})" if first in chance else ""
        text = f"{count_text(len(rows), 'epoch')}, {reached}; {where}"
        show(form, {"path": str(out), **last, "chance": chance}, f"{click.format_filename(out)}: {text}")


@cli.command(cls=RunCommand, epilog=EXIT_CODES)
@click.argument("out", type=_path, required=False)
@data_options
@click.option("--splits", "split", callback=_integers, default="1", show_default=True, metavar="N,...", help="Official splits; each is a run of its own.")  # fmt: skip
@click.option("--seeds", "seed", callback=_integers, default="0", show_default=True, metavar="N,...", help="Of head, order and crops; each is a run of its own.")  # fmt: skip
@click.option("--val-fraction", type=Real(), default=0.0, show_default=True, help="Share of the training videos, by group, that validation takes in place of the test videos; of a plain folder it is the test, the same for all seeds.")  # fmt: skip
@click.option("--train-fraction", default="1", show_default=True, callback=reader(share, "a share, such as 1/8 or 0.125"), metavar="SHARE", help="Share of the training videos of each class that is used; those of 1/8 are among those of 1/4, seed by seed.")  # fmt: skip
@run_options
def finetune(
    out: Path | None, split: tuple[int, ...], seed: tuple[int, ...], val_fraction: float, train_fraction: float, form: str,
    **options: Any,
) -> None:  # fmt: skip
    """Train a network on real videos, and evaluate it.

    OUT is the folder of the run, or of one folder for each split and seed; by default runs/ucf101-r3d50, say, or
    runs/ucf101-r3d50-from-vpn with --init-from vpn, runs/ucf101-r3d50-inflated with --inflate. A stopped run goes on when
    the same command is given again, or OUT alone, which takes the options of the run. The procedures of Table 1 are one such command each, or several, each from the weights
    of the one before.

    Examples:
      vpngen finetune --dataset ucf101 --root ucf --annotations lists
      vpngen finetune --init-from vpn --dataset ucf101 --root ucf --annotations lists
      vpngen finetune k4 --dataset kinetics --root k400 --annotations lists
      vpngen finetune --inflate resnet50.pth --dataset folder --root clips
      vpngen finetune --init-from k4 --dataset folder --root clips --seeds 0,1,2
      vpngen finetune --init-from k4 --freeze 3 --lr 0.001 --dataset folder --root clips
    """
    begin, recipe, runtime = _take_run(options)
    first = _take_data(options, val_fraction=val_fraction, train_fraction=train_fraction)
    from vpngen.checks import SEEDS

    for name, given in (("seed", seed), ("split", split)):
        if not all(0 <= number <= SEEDS for number in given) or len(set(given)) != len(given):
            raise ArgumentError(f"must be different numbers from 0 to {SEEDS}", name, given)
    from vpngen.train import runs

    out = _run_folder(first.kind, begin) if out is None else out
    planned = [(dataclasses.replace(first, split=number), each) for each in seed for number in split]
    for data, number in planned[1 : len(split)]:  # what is wrong with a list is said before the first run trains
        data.sets(number)
    found: dict[tuple[int, int], Evaluation] = {}
    for data, number in planned:
        folder = out if len(planned) == 1 else out / run_name(data.split, number)
        if folder != out and folder.is_symlink():
            raise ConflictError(f"{str(folder)!r} is a link, which is not followed; remove it, or give another folder")
        if folder != out:
            _log(f"split {data.split}, seed {number}: {click.format_filename(folder)}")
        with _watched(advice()) as (progress, scored, stop):
            found[data.split, number] = runs.finetune(
                data, folder, begin, recipe, runtime, seed=number, progress=progress, scored=scored, should_stop=lambda: bool(stop),
                log=_log, command=command_line(),
            )  # fmt: skip
    if _main_rank():
        _show_evaluations(form, out / "summary.json" if len(planned) > 1 else None, found)


@cli.command(epilog=EXIT_CODES)
@click.argument("weights", type=_path, nargs=-1, required=True)
@_network("--model", metavar="NAME", help="The network, where it is package.module:callable; that is code, which no file may name.  [default: what WEIGHTS say]")  # fmt: skip
@option_option
@data_options
@click.option("--splits", "split", callback=_integers, metavar="N,...", help="Of which split the test videos are, for each of WEIGHTS.  [default: that it was trained on]")  # fmt: skip
@click.option("--val-fraction", type=Real(), help="Of a plain --dataset folder: share of its videos that is the test, as `finetune` has it.")  # fmt: skip
@click.option("--clip", callback=shape_of, metavar="TxHxW", help="Frames, height, width.  [default: those it was trained on]")  # fmt: skip
@click.option("--frame-step", type=Whole(), help="Frames of the video from one frame of a clip to the next.  [default: that it was trained on]")  # fmt: skip
@click.option("--segments", type=Whole(), help="Clips of a video that are classified together; 1: window by window.  [default: that it was trained on]")  # fmt: skip
@click.option("--batch-size", type=Whole(1, 2**20), default=32, show_default=True, help="Windows that go through the network at once.")  # fmt: skip
@click.option("--ensemble", is_flag=True, help="Evaluate the mean of the scores of all WEIGHTS, split by split.")
@_features("--retrieval", is_flag=True, help="Look for the training videos whose features are nearest to those of test clips.")  # fmt: skip
@_features("--linear", is_flag=True, help="Train a linear classifier on the features of the training videos, and evaluate it.")  # fmt: skip
@_features("--clips", type=Whole(1, 2**16), help="Clips of each video whose features are taken, evenly from its beginning to its end.  [default: 10]")  # fmt: skip
@click.option("-o", "--out", type=base.OutFile(), metavar="FILE", help="Write the metrics as JSON.")
@click.option("--results", type=base.OutFile(), metavar="FILE", help="Write the scores of one of WEIGHTS as 3D-ResNets-PyTorch does.")  # fmt: skip
@runtime_options
def evaluate(
    weights: tuple[Path, ...], split: tuple[int, ...] | None, val_fraction: float | None, clip: tuple[int, int, int] | None,
    frame_step: int | None, segments: int | None, batch_size: int, ensemble: bool, retrieval: bool, linear: bool, clips: int | None,
    out: Path | None, results: Path | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Evaluate networks on test videos.

    Windows side by side, the centre of each, scores averaged over a video.

    WEIGHTS are files that `vpngen finetune` wrote, folders of its runs, or what holds those of its --splits and --seeds. Of
    several splits and seeds mean and std are shown; other networks of one split and seed stand side by side, or are one with
    --ensemble.

    With --retrieval and --linear they may be of any run, with any task, or weights of others. They stay as they are; what their
    features tell of the classes is shown.

    Examples:
      vpngen evaluate vpn-ucf
      vpngen evaluate ucf                 all its splits and seeds
      vpngen evaluate ucf/split1-seed0 ucf/split2-seed0 ucf/split3-seed0
      vpngen evaluate vpn-ucf -o metrics.json --results scores.json
      vpngen evaluate space-ucf time-ucf --ensemble
      vpngen evaluate order --retrieval --dataset ucf101 --root ucf
      vpngen evaluate order puzzle --linear --dataset ucf101 --root ucf
    """
    runtime = _take_runtime(options)
    network: dict[str, Any] = {name: options.pop(name) for name in ("model", "options")}
    named = any(options[name] is not None for name in ("kind", "root", "annotations"))
    if val_fraction is not None and not named:
        raise ArgumentError(
            "is of the videos of --dataset; give that as well, or leave it out", "val_fraction", val_fraction
        )
    asked = _take_data(options, val_fraction=val_fraction or 0.0) if named else None
    how = "retrieval" if retrieval else "linear" if linear else None
    _check_how(retrieval, linear, ensemble, clips, segments, results)
    folders, weights = weights, tuple(runs_of(weights))
    if how is not None and split is not None and len(weights) == 1:  # it has seen no labels, and may do for all splits
        folders = weights = weights * len(split)
    if split is not None and len(split) not in (1, len(weights)):
        raise ArgumentError(f"must be one for all, or one for each of {len(weights)} WEIGHTS", "split", split)
    from vpngen.files import write_json
    from vpngen.train import runs

    wanted = []
    for i, given in enumerate(weights):
        about, trained = _said_by(weights_of(given), network, how, asked)
        data = asked or trained
        assert data is not None  # one of them there is
        data = data if split is None else dataclasses.replace(data, split=split[i % len(split)])
        if trained is not None and trained.kind == data.kind and trained.split != data.split:
            there = f"{click.format_filename(given)} was trained on split {trained.split}"
            _log(f"{there}, and has seen many of the videos that split {data.split} tests")
        wanted.append((data, (data.split, about.get("seed") or 0)))
    grid = itertools.product(*({key[i] for _, key in wanted} for i in (0, 1)))
    if (whole := next((f for f in folders if f not in weights), None)) and (
        gone := {*grid} - {key for _, key in wanted}
    ):
        there = f"{click.format_filename(whole)} lacks {', '.join(run_name(*key) for key in sorted(gone))}"
        raise ArgumentError(f"{there}; go on with: vpngen finetune {quoted(whole)}, or give the runs to compare")
    chosen = asked is not None or split is not None
    rows = [
        (key, [weights_of(given)], data if chosen else None) for given, (data, key) in zip(weights, wanted, strict=True)
    ]
    rows = _ensembles(rows) if ensemble else rows
    if results is not None and len(rows) > 1:
        raise ArgumentError(f"are those of one network, and {len(rows)} are given", "results")
    common: dict[str, Any] = {**network, "clip": clip, "frame_step": frame_step, "batch_size": batch_size}
    found: list[Any] = []
    for _, paths, source in rows:
        with _watched() as (_, progress, _):
            if how is not None:
                one = runs.evaluate_frozen(
                    paths[0],
                    runtime,
                    how,
                    **common,
                    data=source,
                    clips=10 if clips is None else clips,
                    progress=progress,
                )
            else:
                one = runs.evaluate(paths, runtime, **common, data=source, segments=segments, progress=progress)
        found.append(one)
    if not _main_rank():
        return
    together: dict[Any, Any] = {key: one for (key, *_), one in zip(rows, found, strict=True)}
    if len(together) < len(found):  # networks of the same split and seed are other networks, of which there is no mean
        together = dict(zip(map(click.format_filename, weights), found, strict=True))
    show_all = _show_retrievals if how == "retrieval" else _show_evaluations
    show_all(form, out, together)
    if results is not None:  # last, as names there may clash
        write_json(results, found[0].results())


def _check_how(
    retrieval: bool, linear: bool, ensemble: bool, clips: int | None, segments: int | None, results: Path | None
) -> None:
    """Raises ArgumentError where options of `evaluate` do not go together."""
    frozen = "--retrieval" if retrieval else "--linear"
    if retrieval and linear:
        raise ArgumentError("cannot be given beside --linear; leave one of them out", "--retrieval")
    if clips is not None and not (retrieval or linear):
        raise ArgumentError("is for --retrieval and --linear; leave it out, or give one of them", "clips", clips)
    if ensemble and (retrieval or linear):
        raise ArgumentError(f"is of scores, and {frozen} is of features; leave one of them out", "ensemble")
    if segments is not None and (retrieval or linear):
        raise ArgumentError(
            f"are of networks that classify, and {frozen} is of features; leave it out", "segments", segments
        )
    if results is not None and retrieval:
        raise ArgumentError("are scores of classes, and --retrieval gives none; leave it out, or give -o", "results")


def _said_by(
    path: Path, network: Mapping[str, Any], how: str | None, asked: DataConfig | None
) -> tuple[dict[str, Any], DataConfig | None]:
    """What weights say of themselves, and the videos they were trained on. Raises ArgumentError where nobody says which to take."""
    from vpngen.train import ModelInit, runs

    if how is None:
        return runs.fine_tuned(path)[:2]
    begin = ModelInit(**network, init_from=path)
    with renamed(init_from="weights"):
        about, trained, recipe = runs.pretrained(begin)
    if trained is None and asked is None:
        why = f"is missing, as {click.format_filename(path)} does not say which videos to take"
        raise ArgumentError(f"{why}: give --dataset KIND and --root FOLDER", "kind")
    _tell_levels(begin, recipe)
    return about, trained


def _ensembles(rows: list[tuple[Any, list[Path], Any]]) -> list[tuple[Any, list[Path], Any]]:
    """Those of one split together; of several splits, those of each split and seed. Raises ArgumentError for one alone."""
    several = len({split for (split, _), *_ in rows}) > 1
    groups: dict[Any, tuple[Any, list[Path], Any]] = {}
    for key, paths, data in rows:
        groups.setdefault(key if several else None, (key, [], data))[1].extend(paths)
    for key, paths, _ in groups.values():
        if len(paths) < 2:
            what = f" of each split and seed, and of split {key[0]}, seed {key[1]} there is one" if several else ""
            raise ArgumentError(f"takes two networks or more{what}; give more WEIGHTS", "ensemble")
    return list(groups.values())


def _show_retrievals(form: str, out: Path | None, found: Mapping[Any, Retrieval]) -> None:
    """Show what was retrieved with one network, or with several by name, or by split and seed, with their mean."""
    from vpngen.files import write_json
    from vpngen.terminal import retrieval_text, retrievals_text
    from vpngen.train.frozen import mean_metrics

    first, *others = found
    if not others:
        fields, text = found[first].to_dict(), retrieval_text(found[first])
    elif isinstance(first, str):
        fields, text = {name: one.to_dict() for name, one in found.items()}, retrievals_text(found)
    else:
        mean = mean_metrics([*found.values()])
        each = [{"split": split, "seed": seed, **one.to_dict()} for (split, seed), one in found.items()]
        fields = {"metrics": mean, "runs": each}
        text = retrievals_text({f"split {split}, seed {seed}": one for (split, seed), one in found.items()}, mean)
    if out is not None:
        write_json(out, fields)
    show(form, fields, text)


def _show_evaluations(form: str, out: Path | None, found: Mapping[Any, Evaluation]) -> None:
    """Show one evaluation, the summary of several by split and seed, or several by name; write it to a file if one is given."""
    from vpngen.files import write_json
    from vpngen.terminal import evaluation_text, summary_text
    from vpngen.train import Summary

    first = next(iter(found))
    if isinstance(first, str):
        fields = {name: one.to_dict() for name, one in found.items()}
        text = "\n\n".join(f"{name}\n{evaluation_text(one)}" for name, one in found.items())
    elif len(found) == 1:
        fields, text = found[first].to_dict(), evaluation_text(found[first])
    else:
        whole = Summary(found)
        fields, text = whole.to_dict(), summary_text(whole)
    if out is not None:
        write_json(out, fields)
    show(form, fields, text)


# --- what the options mean


def _take_runtime(options: dict[str, Any]) -> Runtime:
    from vpngen.train import Runtime
    from vpngen.units import usable_cpus

    _find_here(options.get("model"))
    given = {f.name: options.pop(f.name) for f in dataclasses.fields(Runtime) if f.name in options}
    if given.get("num_workers", 0) is None:
        given["num_workers"] = min(8, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return Runtime(**given)


def _find_here(name: object) -> None:
    """What is package.module:callable may be in the folder where the command is given, where `python -m` finds it as well."""
    if ":" in str(name) and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def take_task(options: dict[str, Any], seed: int) -> Task:
    """The task that is asked for; takes the options of all tasks out of `options`.

    Raises:
        ArgumentError: there is no such task, or an option is of another one.
        ConflictError: the run that goes on names code, and not who gives the command.
    """
    from vpngen.checks import one_of
    from vpngen.models.base import is_foreign
    from vpngen.tasks import TASKS

    ctx, asked, given = click.get_current_context(), one_of("task", options.pop("task"), TASKS), dict[str, Any]()
    for option in [option for option in ctx.command.get_params(ctx) if isinstance(option, TaskOption)]:
        name, word = str(option.name), option.opts[0]
        value, told = options.pop(name), ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        if value is None or (
            told and option.task != asked
        ):  # of what the folder holds: whoever reads it finds the conflict
            continue
        if option.task != asked:
            raise ArgumentError(f"is of --task {option.task}, and the task is {asked}; leave it out", name, value)
        if told and is_foreign(value):
            file, text = str(ctx.params["out"] / "run.json"), shlex.join([word, value])
            raise ConflictError(f"{file!r} names {value!r}, which is code from elsewhere; give {text} if you trust it")
        _find_here(value)
        given[name] = value
    if asked != "classify":
        given["seed"] = seed
    task: Task = pkgutil.resolve_name(TASKS[asked])(**given)
    return task


def _with_heads(task: Task, real: bool) -> Task:
    """A head for each factor. Raises ArgumentError where the task does not classify, or the videos are real."""
    from vpngen.tasks import Factors

    if real or task.name != "classify":
        problem = "are of rendered clips" if real else f"are of --task classify, and the task is {task.name}"
        raise ArgumentError(f"{problem}; leave it out", "heads", "factors")
    return Factors()


def _take_run(options: dict[str, Any], task: Task | None = None) -> tuple[ModelInit, Recipe, Runtime]:
    """The network, how it is trained and where; mean and std are those of its weights, where no others are given.

    What a recipe has for its own schedule or optimizer goes where another is given.
    """
    from vpngen.sampling import NORMALIZATIONS
    from vpngen.train import RECIPES, ModelInit, Recipe

    _trust(options)
    runtime = _take_runtime(options)
    usual = dict(task.defaults) if task is not None else {}
    model = usual.pop("model", None)
    if all(options[name] is None for name in ("model", "init_from", "inflate")):
        options["model"] = model
    if click.get_current_context().get_parameter_source("recipe") is not ParameterSource.DEFAULT:
        usual = {}
    begin = ModelInit(**{f.name: options.pop(f.name) for f in dataclasses.fields(ModelInit)})
    given = {f.name: value for f in dataclasses.fields(Recipe) if (value := options.pop(f.name)) is not None}
    for name, own, rest in (("schedule", "step", {"lr_steps": ()}), ("optimizer", "sgd", {"nesterov": False})):
        given = given if given.get(name, own) == own else rest | given
    said = {name: given.pop(name) for name in ("mean", "std") if name in given}
    # A name says both, unless the other is said too.
    named = next((NORMALIZATIONS[word] for word in said.values() if isinstance(word, str)), begin.normalization)
    taken: dict[str, Any] = dict(named)
    taken |= {name: NORMALIZATIONS[value][name] if isinstance(value, str) else value for name, value in said.items()}
    recipe = dataclasses.replace(RECIPES[options.pop("recipe")], **{**usual, **given, **taken})
    if len(taken) < 2:
        _tell_levels(begin, recipe, "; give others, as with --mean kinetics")
    return begin, recipe, runtime


def _tell_levels(begin: ModelInit, recipe: Recipe, remedy: str = "") -> None:
    """Say which mean and std are taken, where weights do not tell theirs."""
    if begin.init_from is not None and len(begin.normalization) < 2:
        shown = " and ".join(",".join(f"{value:g}" for value in three) for three in (recipe.mean, recipe.std))
        why = f"does not say which mean and std it was trained with: {shown} are taken"
        _log(f"{click.format_filename(begin.init_from)} {why}{remedy}")


def _trust(options: Mapping[str, Any]) -> None:
    """Raise ConflictError where a network that is code is named by the run that goes on, and not by who gives the command."""
    from vpngen.models.initial import trusted

    ctx = click.get_current_context()
    told = [name for name in ("model", "options") if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP]
    if told and options["model"] is not None:
        model, extra = (None if name in told else options[name] for name in ("model", "options"))
        known = {"name": options["model"], "options": options["options"]}
        trusted(known, model, extra, ctx.params["out"] / "run.json")


def take_videos(options: dict[str, Any], val_fraction: float | None = None) -> DataConfig | None:
    """The real videos that are asked for in place of rendered ones; takes all options of both out of `options` then."""
    given = {name: options.pop(name) for name in ("kind", "root", "annotations")}
    if all(value is None for value in given.values()):
        if val_fraction is not None:
            raise ArgumentError(
                "is of real videos: give --dataset KIND and --root FOLDER", "val_fraction", val_fraction
            )
        return None
    no_dataset(options, "`--dataset`")
    return _take_data(given, val_fraction=val_fraction or 0.0)


def _take_data(options: dict[str, Any], **fractions: Any) -> DataConfig:
    from vpngen.train import DataConfig

    kind, root, annotations = (options.pop(name) for name in ("kind", "root", "annotations"))
    if kind is None or root is None:
        raise ArgumentError("is missing: give --dataset KIND and --root FOLDER", "kind" if kind is None else "root")
    return DataConfig(kind, root, annotations, **fractions)


def _run_folder(what: str, begin: ModelInit) -> Path:
    """The folder of a run that is not given: named by what it sees, its network, and where its weights come from."""
    name = f"{what}-{begin.network[0].rpartition(':')[2]}"
    if begin.inflate is not None:
        name += "-inflated"
    if begin.init_from is not None:
        file = Path(os.path.abspath(begin.init_from))
        name += f"-from-{file.parent.name if file.stem == 'weights' else file.stem}"
    return Path("runs") / name


def _log(text: str) -> None:
    if _main_rank():
        click.echo(plain(text), err=True)


def _main_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _warm(spec: Any, runtime: Runtime) -> None:
    """Compile kernels before progress is shown, and for all ranks at once."""
    from vpngen.terminal import compiling

    own = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "auto"
    wanted = {"cpu": ("numba",), "auto": (own, "auto"), "cuda": (own,)}.get(runtime.device, (runtime.device,))
    with compiling():
        for name in wanted:
            with contextlib.suppress(MissingError):
                warm(spec, name)
                break


@contextlib.contextmanager
def _watched(advice: str = "") -> Iterator[tuple[Callable[..., None], Callable[..., None], list[int]]]:
    """Progress of training, then of an evaluation, and whether a signal has come; a run that stopped for one ends as signals do."""
    from vpngen.terminal import counted, training_progress
    from vpngen.train import StoppedError

    with base.noted_signals() as stop, contextlib.ExitStack() as shown:

        @functools.cache
        def opened(display: Callable[..., contextlib.AbstractContextManager[Any]], *what: str) -> Any:
            shown.close()  # what was shown before
            return shown.enter_context(display(*what)) if _main_rank() else lambda *_: None

        def scored(done: int, total: int) -> None:
            if stop:
                raise base.Stop(stop[0])
            opened(counted, "videos")(done, total)

        try:
            yield lambda p: opened(training_progress)(p), scored, stop
        except (StoppedError, base.Stop) as error:
            end = error if isinstance(error, base.Stop) else base.Stop(stop[0] if stop else signal.SIGTERM)
            end.advice = advice
            raise end from None
        except (MissingError, RunError):
            if advice:
                _log(f"The command was: {command_line()}")
            raise

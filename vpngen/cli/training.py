"""`vpngen train`, `finetune` and `evaluate`: networks that are initialized, fine-tuned and evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
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
    OptionsOf,
    SectionOption,
    Stop,
    bundle,
    cli,
    complete,
    field_options,
    format_option,
    noted_signals,
    numbers,
    shape_of,
    show,
)
from vpngen.cli.dataset import no_dataset, take_spec, training_dataset_options, warm
from vpngen.errors import ArgumentError, MissingError

if TYPE_CHECKING:
    from vpngen.train import DataConfig, Evaluation, ModelInit, Recipe, Runtime

RESUMES = " It goes on from its last checkpoint when the same command is given again."
_path = click.Path(path_type=Path)
_integers = numbers(int, "whole numbers")


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


def _normalization(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A name, or three numbers."""
    from vpngen.sampling import NORMALIZATIONS

    known = ", ".join(NORMALIZATIONS)
    return value if value in NORMALIZATIONS else numbers(float, f"one of {known}, or three numbers")(ctx, param, value)


def _recipe_options() -> list[click.Parameter]:
    from vpngen.fields import described
    from vpngen.sampling import NORMALIZATIONS
    from vpngen.train.recipes import RECIPES, Recipe

    option = functools.partial(SectionOption, section="How it is trained")
    names = list(NORMALIZATIONS)
    level = functools.partial(option, callback=_normalization, shell_complete=complete(*names), metavar="R,G,B|NAME")
    first = next(iter(RECIPES))
    fields = [f for f in described(Recipe) if f.name not in ("mean", "std")]
    return [
        option(["--recipe"], type=click.Choice(list(RECIPES)), default=first, help=f"The defaults of the options below; shown are those of {first}."),
        *field_options(fields, SectionOption, section="How it is trained"),
        level(["--mean"], help=f"Subtracted from pixel values in [0, 1]; {', '.join(names)} set --std too.  [default: that of --init-from; with --inflate imagenet; or half]"),
        level(["--std"], help="What they are divided by then; likewise."),
    ]  # fmt: skip


def _data_options() -> list[click.Parameter]:
    from vpngen.datasets import KINDS

    option = functools.partial(SectionOption, section="Which videos")
    return [
        option(["--dataset", "kind"], type=click.Choice(KINDS), help="What kind of set it is."),
        option(["--root"], type=_path, metavar="FOLDER", help="The folder of its videos; json: of its folders of frames."),
        option(["--annotations"], type=_path, metavar="PATH", help="ucf101, hmdb51: the folder of split files; activitynet, json: the file; kinetics: the folder of CSV files."),
    ]  # fmt: skip


_network = functools.partial(click.option, cls=SectionOption, section="Which network")
_runtime = functools.partial(click.option, cls=SectionOption, section="Where it runs")
model_options = bundle(
    _network("--model", metavar="NAME", help="Such as r3d18, r2p1d50, preact200, wide50, resnext101, densenet121, or package.module:callable.  [default: that of --init-from, or r3d50]"),
    _network("--model-option", "options", multiple=True, callback=_settings, metavar="NAME=VALUE", help="An option of the network: shortcut=A, width=0.5, max_pool=false ..."),
    _network("--init-from", type=_path, metavar="FILE", help="Weights to begin with, .safetensors or .pth, or the folder of a run; the head is a new one."),
    _network("--inflate", type=_path, metavar="FILE", help="Weights of a 2D ResNet to begin with, repeated along time."),
)  # fmt: skip
runtime_options = bundle(
    _runtime("--device", default="auto", show_default=True, shell_complete=complete("auto", "cpu", "cuda"), help="auto, cpu, cuda or cuda:N; a rank of torchrun has its own GPU."),
    _runtime("--grad-accum-steps", type=int, default=1, show_default=True, help="Parts in which a batch goes through the network, where memory is short."),
    _runtime("--compile/--no-compile", default=False, help="torch.compile.  [default: no-compile]"),
    _runtime("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True, help="auto: bf16 on a GPU that has it."),
)  # fmt: skip
num_workers_option = _runtime(
    "--num-workers", type=click.IntRange(0), help="Processes that decode videos; 0 for none.  [default: the CPUs of a rank, at most 8]"
)  # fmt: skip
split_options = bundle(
    click.option("--splits", "split", callback=_integers, default="1", show_default=True, metavar="N,...", help="Official splits; each is a run of its own."),
    click.option("--seeds", "seed", callback=_integers, default="0", show_default=True, metavar="N,...", help="Of head, order and crops; each is a run of its own."),
    click.option("--val-fraction", type=float, default=0.0, show_default=True, help="Share of the training videos, by group, that validation takes in place of the test videos; of a plain folder it is the test, the same for all seeds."),
)  # fmt: skip
window_options = bundle(
    click.option("--splits", "split", callback=_integers, metavar="N,...", help="Of which split the test videos are, for each of WEIGHTS.  [default: that it was trained on]"),
    click.option("--clip", callback=shape_of, metavar="TxHxW", help="Frames, height, width.  [default: those it was trained on]"),
    click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Windows that go through the network at once."),
    click.option("-o", "--out", type=_path, metavar="FILE", help="Write the metrics as JSON."),
    click.option("--results", type=_path, metavar="FILE", help="Write the scores of one of WEIGHTS as 3D-ResNets-PyTorch does."),
)  # fmt: skip
recipe_options = click.option("--recipe", cls=OptionsOf, made=lambda _: _recipe_options())
data_options = click.option("--dataset", cls=OptionsOf, made=lambda _: _data_options())


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=_path, required=False)
@click.option("--store", "path", type=_path, metavar="STORE", help="Read the clips of a rendered set.")
@model_options
@recipe_options
@click.option("--samples-per-epoch", type=click.IntRange(1), help="Clips of an epoch.  [default: one of every video]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and crops.")
@runtime_options
@click.option("--threads", type=int, help="CPU threads that render.  [default: all CPUs]")
@format_option
@training_dataset_options
def train(
    out: Path | None, path: Path | None, samples_per_epoch: int | None, seed: int, threads: int | None, form: str,
    **options: Any,
) -> None:  # fmt: skip
    """Initialize a 3D CNN with clips that are rendered on the fly.

    It learns to classify them: the category of each is its label.

    OUT is the folder of the run, by default runs/SET-MODEL, with -from-... or -inflated behind it where it begins with
    weights. It holds weights.safetensors, weights.pth in the form of 3D-ResNets-PyTorch, log.csv, curves.png, tensorboard/
    and the checkpoint that a stopped or killed run goes on from when the same command is given again. On several GPUs:
    torchrun --nproc-per-node 8 -m vpngen train ..., where every rank takes its share of each batch.

    Examples:
      vpngen train vpn                R3D-50, the paper's recipe and set
      vpngen train --preset vpn-low-freq --model r2p1d50
      vpngen train --categories 16 --instances 64 --model r3d10
      vpngen train --model r3d50 --clip 64x224x224 --grad-accum-steps 4
      vpngen train --model torchvision.models.video:r3d_18
    """
    begin, runtime = _take_model_init(options), _take_runtime(options)
    recipe = _take_recipe(options, begin)
    source: Any
    if path is not None:
        no_dataset(options, "`--store`")
        source, name = path, path.stem
    else:
        source, name = take_spec(options)
        _warm(source, runtime)
    from vpngen.train import runs

    out = _run_folder(name, begin) if out is None else out
    with _watched(RESUMES) as watched:
        rows = runs.initialize(
            source, out, begin, recipe, runtime, seed=seed, samples_per_epoch=samples_per_epoch, threads=threads,
            progress=watched.progress, should_stop=lambda: bool(watched.stop), log=_log,
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
@split_options
@model_options
@recipe_options
@runtime_options
@num_workers_option
@format_option
def finetune(
    out: Path | None, split: tuple[int, ...], seed: tuple[int, ...], val_fraction: float, form: str, **options: Any
) -> None:  # fmt: skip
    """Train a network on real videos, and evaluate it.

    OUT is the folder of the run, or of one folder for each split and seed; by default runs/ucf101-r3d50, say, or
    runs/ucf101-r3d50-from-vpn with --init-from vpn, runs/ucf101-r3d50-inflated with --inflate. A stopped run goes on when
    the same command is given again. The procedures of Table 1 are one such command each, or several, each from the weights
    of the one before.

    Examples:
      vpngen finetune --dataset ucf101 --root ucf --annotations lists
      vpngen finetune --init-from vpn --dataset ucf101 --root ucf --annotations lists
      vpngen finetune k4 --dataset kinetics --root k400 --annotations lists
      vpngen finetune --inflate resnet50.pth --dataset folder --root clips
      vpngen finetune --init-from k4 --dataset folder --root clips --seeds 0,1,2
      vpngen finetune --init-from k4 --freeze 3 --lr 0.001 --dataset folder --root clips
    """
    begin, runtime = _take_model_init(options), _take_runtime(options)
    recipe = _take_recipe(options, begin)
    base = _take_data(options, val_fraction)
    if min(seed) < 0 or len(set(seed)) != len(seed):
        raise ArgumentError("must be different numbers of at least 0", "seed", seed)
    if len(set(split)) != len(split):
        raise ArgumentError("must be different numbers", "split", split)
    from vpngen.train import runs

    out = _run_folder(base.kind, begin) if out is None else out
    several = len(split) * len(seed) > 1
    sets = [dataclasses.replace(base, split=number) for number in split]
    for data in sets[1:]:  # what is wrong with a list is said before the first run trains
        data.sets(seed[0])
    found: dict[tuple[int, int], Evaluation] = {}
    for number in seed:
        for data in sets:
            folder = out / f"split{data.split}-seed{number}" if several else out
            if several:
                _log(f"split {data.split}, seed {number}: {click.format_filename(folder)}")
            with _watched(RESUMES) as watched:
                found[data.split, number] = runs.finetune(
                    data, folder, begin, recipe, runtime, seed=number, progress=watched.progress, scored=watched.scored,
                    should_stop=lambda: bool(watched.stop), log=_log,
                )  # fmt: skip
    if _main_rank():
        _show_evaluations(form, out / "summary.json" if several else None, found)


@cli.command(epilog=EXIT_CODES)
@click.argument("weights", type=_path, nargs=-1, required=True)
@data_options
@window_options
@runtime_options
@num_workers_option
@format_option
def evaluate(
    weights: tuple[Path, ...], split: tuple[int, ...] | None, clip: tuple[int, int, int] | None, batch_size: int,
    out: Path | None, results: Path | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Evaluate fine-tuned networks on test videos.

    Windows side by side, the centre of each, scores averaged over a video.

    WEIGHTS are files that `vpngen finetune` wrote, or folders of its runs. Of several splits and seeds mean and std are
    shown; other networks of one split and seed stand side by side.

    Examples:
      vpngen evaluate vpn-ucf
      vpngen evaluate ucf/split1-seed0 ucf/split2-seed0 ucf/split3-seed0
      vpngen evaluate vpn-ucf -o metrics.json --results scores.json
    """
    runtime = _take_runtime(options)
    base = _take_data(options) if any(options[name] is not None for name in ("kind", "root", "annotations")) else None
    if split is not None and len(split) not in (1, len(weights)):
        raise ArgumentError(f"must be one for all, or one for each of {len(weights)} WEIGHTS", "split", split)
    if results is not None and len(weights) > 1:
        raise ArgumentError(f"are those of one network, and {len(weights)} are given", "results")
    from vpngen.files import write_json
    from vpngen.terminal import evaluation_text
    from vpngen.train import DataConfig, runs

    wanted = []
    for i, given in enumerate(weights):
        about = runs.fine_tuned(weights_of(given))
        trained = DataConfig.from_dict(about["source"])
        data = base or trained
        data = data if split is None else dataclasses.replace(data, split=split[i % len(split)])
        if trained.kind == data.kind and trained.split != data.split:
            there = f"{click.format_filename(given)} was trained on split {trained.split}"
            _log(f"{there}, and has seen many of the videos that split {data.split} tests")
        wanted.append((data, (data.split, about.get("seed", 0))))
    found = []
    for given, (data, _) in zip(weights, wanted, strict=True):
        with _watched() as watched:
            found.append(
                runs.evaluate(weights_of(given), runtime, data=data, clip=clip, batch_size=batch_size, progress=watched.scored)
            )  # fmt: skip
    if not _main_rank():
        return
    together = {key: one for (_, key), one in zip(wanted, found, strict=True)}
    if len(together) == len(found):
        _show_evaluations(form, out, together)
    else:  # networks of the same split and seed are other networks, of which there is no mean
        named = dict(zip(map(click.format_filename, weights), found, strict=True))
        fields = {name: one.to_dict() for name, one in named.items()}
        if out is not None:
            write_json(out, fields)
        show(form, fields, "\n\n".join(f"{name}\n{evaluation_text(one)}" for name, one in named.items()))
    if results is not None:  # last, as names there may clash
        write_json(results, found[0].results())


def _show_evaluations(form: str, out: Path | None, found: dict[tuple[int, int], Evaluation]) -> None:
    """Show one evaluation, or the summary of several, and write it to a file if one is given."""
    from vpngen.files import write_json
    from vpngen.terminal import evaluation_text, summary_text
    from vpngen.train import Summary

    whole: Any = Summary(found)
    text = summary_text(whole)
    if len(found) == 1:
        whole = next(iter(found.values()))
        text = evaluation_text(whole)
    if out is not None:
        write_json(out, whole.to_dict())
    show(form, whole.to_dict(), text)


# --- what the options mean


def weights_of(path: Path) -> Path:
    """The file of weights that is given, by itself or by the folder of its run."""
    return path / "weights.safetensors" if path.is_dir() else path


def _take_model_init(options: dict[str, Any]) -> ModelInit:
    from vpngen.train import ModelInit

    begin = options.pop("init_from")
    fields = {name: options.pop(name) for name in ("model", "options", "inflate")}
    return ModelInit(init_from=begin and weights_of(begin), **fields)


def _take_runtime(options: dict[str, Any]) -> Runtime:
    from vpngen.train import Runtime
    from vpngen.units import usable_cpus

    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # where package.module:callable may be; `python -m` finds it there as well
    given = {f.name: options.pop(f.name) for f in dataclasses.fields(Runtime) if f.name in options}
    if given.get("num_workers", 0) is None:
        given["num_workers"] = min(8, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return Runtime(**given)


def _take_recipe(options: dict[str, Any], begin: ModelInit) -> Recipe:
    """The recipe, with mean and std as the weights are used to, where no others are given."""
    from vpngen.sampling import NORMALIZATIONS
    from vpngen.train import RECIPES

    recipe = RECIPES[options.pop("recipe")]
    given = {f.name: options.pop(f.name) for f in dataclasses.fields(recipe)}
    said = {name: given.pop(name) for name in ("mean", "std") if given[name] is not None}
    # A name says both, unless the other is said too.
    taken = dict(next((NORMALIZATIONS[word] for word in said.values() if isinstance(word, str)), begin.normalization))
    taken |= {name: NORMALIZATIONS[value][name] if isinstance(value, str) else value for name, value in said.items()}
    recipe = dataclasses.replace(recipe, **{k: v for k, v in given.items() if v is not None} | taken)
    if begin.init_from is not None and len(taken) < 2:
        shown = " and ".join(",".join(f"{value:g}" for value in three) for three in (recipe.mean, recipe.std))
        _log(
            f"{click.format_filename(begin.init_from)} does not say which mean and std it was trained with: {shown} are taken; "
            f"give others as --mean and --std, or by name, as --mean kinetics"
        )
    return recipe


def _take_data(options: dict[str, Any], val_fraction: float = 0.0) -> DataConfig:
    from vpngen.train import DataConfig

    kind, root, annotations = (options.pop(name) for name in ("kind", "root", "annotations"))
    for name, value in (("kind", kind), ("root", root)):
        if value is None:
            raise ArgumentError("is missing: give --dataset KIND and --root FOLDER", name)
    return DataConfig(kind, root, annotations, val_fraction=val_fraction)


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
        click.echo(text, err=True)


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


class _Watched:
    """What a run shows, one thing after the other: how training goes, then how many videos were evaluated."""

    def __init__(self, shown: contextlib.ExitStack, stop: list[int]) -> None:
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
        """Of `vpngen.train.fit`."""
        self._open("training")
        self._show(p)

    def scored(self, done: int, total: int) -> None:
        """Of an evaluation; also where one is stopped."""
        if self.stop:
            raise Stop(self.stop[0])
        self._open("scoring")
        self._show(done, total)


@contextlib.contextmanager
def _watched(advice: str = "") -> Iterator[_Watched]:
    """Progress, and whether a signal has come; a run that stopped for one ends as signals do."""
    from vpngen.train import StoppedError

    with noted_signals() as stop, contextlib.ExitStack() as shown:
        try:
            yield _Watched(shown, stop)
        except StoppedError:
            raise Stop(stop[0] if stop else signal.SIGTERM, advice) from None
        except Stop as end:
            end.advice = advice
            raise

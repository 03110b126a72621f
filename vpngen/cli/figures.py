"""`vpngen figure`: pictures of networks, runs and evaluations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vpngen.cli.base import Group, LocalPath, OptionsOf, OutFile, Whole, cli, format_option, numbers, shape_of, show
from vpngen.cli.dataset import take_spec, training_dataset_options
from vpngen.cli.runs import one_run, runs_of, weights_of
from vpngen.cli.training import data_parameters, take_task, take_videos, task_options

_path = LocalPath(path_type=Path)
_words = numbers(str, "words")


@cli.group(cls=Group)
def figure() -> None:
    """Draw filters, selectivity, curves, sweeps, confusion of runs; what tasks show.

    Examples:
      vpngen figure filters scratch vpn -o figure5.gif
      vpngen figure selectivity scratch vpn
      vpngen figure curves scratch vpn-ucf i3d-ucf -o figure4.png
      vpngen figure sweep runs -o figure3.png
      vpngen figure confusion vpn-ucf
      vpngen figure task puzzle
    """


def _out(name: str, help: str = ".png, .svg or .pdf.") -> Callable[[Any], Any]:
    return click.option("-o", "--out", type=OutFile(), default=name, show_default=True, help=help)


@figure.command()
@click.argument("weights", type=_path, nargs=-1, required=True)
@_out("filters.png", ".png: the frames in a row; .gif: playing.")
@click.option("--titles", callback=_words, metavar="TEXT,...", help="Of each network.  [default: its file]")
@click.option("--layer", metavar="NAME", help="Another layer than the first convolution.")
def filters(weights: tuple[Path, ...], out: Path, titles: tuple[str, ...] | None, layer: str | None) -> None:
    """Draw the filters of first convolutions over time: Figure 5.

    Examples:
      vpngen figure filters vpn/weights.safetensors -o filters.gif
      vpngen figure filters scratch/weights.pth vpn/weights.pth
    """
    from vpngen.models.filters import filters

    filters([weights_of(path) for path in runs_of(weights)], out, titles=titles, layer=layer)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("runs", type=_path, nargs=-1, required=True)
@_out("curves.png")
@click.option("--metric", help="A column of log.csv.  [default: val_top1; all of them for one run]")
@click.option("--labels", callback=_words, metavar="TEXT,...", help="Of each run.  [default: its folder]")
def curves(runs: tuple[Path, ...], out: Path, metric: str | None, labels: tuple[str, ...] | None) -> None:
    """Draw what runs logged, epoch by epoch: Figure 4.

    Examples:
      vpngen figure curves scratch vpn-ucf i3d-ucf -o figure4.png
      vpngen figure curves vpn --metric train_loss
    """
    from vpngen.train import figures

    figures.curves(runs_of(runs), out, metric, labels=labels)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("points", metavar="EVALUATIONS...", type=_path, nargs=-1, required=True)
@_out("sweep.png")
@click.option("--x", type=click.Choice(["categories", "instances"]), default="categories", show_default=True, help="Of the set that was initialized from.")  # fmt: skip
@click.option("--series", type=click.Choice(["target", "model"]), default="target", show_default=True, help="What has a line of its own.")  # fmt: skip
@click.option("--metric", default="top1", show_default=True, help="Of the evaluations.")
def sweep(points: tuple[Path, ...], out: Path, x: str, series: str, metric: str) -> None:
    """Draw accuracy against the size of the set that networks were initialized from: Figure 3.

    EVALUATIONS are folders of `vpngen finetune`, searched for evaluation.json. What was trained from scratch stands at 0.

    Examples:
      vpngen figure sweep sweeps/ -o figure3.png
      vpngen figure sweep sweeps/ --x instances
    """
    from vpngen.train import figures

    figures.sweep(points, out, x=x, series=series, metric=metric)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("name", metavar="NAME")
@_out("task.png", ".png.")
@click.option(
    "--clip",
    callback=shape_of,
    metavar="TxHxW",
    help="Frames, height and width of what the network sees.  [default: those of the paper]",
)
@click.option("--frame-step", type=Whole(), help="Frames of the video from one frame of a clip to the next.  [default: that of the paper]")  # fmt: skip
@click.option("--samples", type=Whole(1, 16), default=2, show_default=True, help="How many are drawn, side by side.")
@click.option("--seed", type=Whole(0, 2**64 - 1), default=0, show_default=True, help="Of order, crops and draws.")
@click.option("--task", "_", cls=OptionsOf, made=lambda typed: task_options(typed, named=True)[1:])
@click.option("--dataset", "__", cls=OptionsOf, made=lambda _: data_parameters())
@training_dataset_options
def task(
    name: str,
    out: Path,
    clip: tuple[int, int, int] | None,
    frame_step: int | None,
    samples: int,
    seed: int,
    **options: Any,
) -> None:
    """Draw what a task shows a network: clips of rendered or real videos, and which of them are wrong.

    NAME is a task of `vpngen train --task`; its options, and those of the set, are as there.

    Examples:
      vpngen figure task order --wrong swap -o order.png
      vpngen figure task puzzle --generator fractal
      vpngen figure task order --dataset folder --root clips
    """
    options["task"] = name
    chosen = take_task(options, seed)
    videos = take_videos(options)
    spec = None if videos is not None else take_spec(options)[0]
    from vpngen import loader
    from vpngen.datasets import VideoLoader
    from vpngen.tasks.pictures import sheet
    from vpngen.train import Recipe
    from vpngen.train.runs import rendered

    usual = {key: value for key, value in chosen.defaults.items() if key != "model"}
    given = {"clip": clip, "frame_step": frame_step}
    recipe = Recipe(**usual | {key: value for key, value in given.items() if value is not None})
    chosen = chosen.drawn_of(recipe)
    how: dict[str, Any] = {"clip": chosen.shape(recipe), "numbers": True, "seed": seed}
    if videos is not None:
        train = videos.validated().sets(seed, chosen.needs_labels)[0]
        batches: Any = VideoLoader(train, samples, augment=recipe.cut(), loop=chosen.loops, **how)
    else:
        assert spec is not None
        batches = loader(spec, samples, device="cpu", augment=rendered(spec, recipe, chosen), **how)
    clips, labels, numbers = next(iter(batches))
    inputs, targets = chosen.prepare(clips.float() / 127.5 - 1, labels, numbers)  # grey is 0, as in training
    drawn = [[(title, (clip + 1) / 2) for title, clip in chosen.shown(inputs, targets, k)] for k in range(len(clips))]
    words = ", ".join(
        f"{key} {value}" for key, value in chosen.to_dict().items() if key not in ("name", "seed", "teacher_sha256")
    )
    sheet(drawn, out, f"{name}: {words}" if words else name)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("evaluation", type=_path)
@_out("confusion.png")
def confusion(evaluation: Path, out: Path) -> None:
    """Draw which classes are taken for which.

    EVALUATION is an evaluation.json, or the folder of a run of `vpngen finetune`.

    Examples:
      vpngen figure confusion vpn-ucf -o confusion.svg
    """
    from vpngen.train import figures

    figures.confusion(one_run(evaluation), out)
    click.echo(click.format_filename(out))


@figure.command()
@click.argument("weights", type=_path, nargs=-1, required=True)
@_out("selectivity.png")
@click.option("--titles", callback=_words, metavar="TEXT,...", help="Of each network.  [default: its file]")
@click.option("--layers", callback=_words, metavar="NAME,...", help="Other layers than the first convolution.")
@click.option("--directions", type=Whole(4, 360), default=16, show_default=True, help="Of gratings; a multiple of 4.")
@click.option("--clip", callback=shape_of, metavar="TxHxW", help="Of gratings.  [default: 32x64x64]")
@format_option
def selectivity(
    weights: tuple[Path, ...], out: Path, titles: tuple[str, ...] | None, layers: tuple[str, ...] | None, directions: int,
    clip: tuple[int, int, int] | None, form: str,
) -> None:  # fmt: skip
    """Draw how selective units are for orientation and direction: their responses to drifting gratings.

    The indices, and what each unit prefers, are printed as JSON with --format json.

    Examples:
      vpngen figure selectivity scratch vpn -o selectivity.png
      vpngen figure selectivity vpn --layers conv1,layer1 --format json
    """
    from vpngen.train import figures

    paths = [weights_of(path) for path in runs_of(weights)]
    found = figures.selectivity(paths, out, titles=titles, layers=layers, directions=directions, clip=clip)
    show(form, {"path": str(out), "networks": found}, click.format_filename(out))

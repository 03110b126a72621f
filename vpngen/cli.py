"""The command line. Everything heavy is imported inside the commands, so that help and completion answer at once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from vpngen import __version__
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError, VpngenError

if TYPE_CHECKING:
    from vpngen.backends import Backend
    from vpngen.preview import Source
    from vpngen.spec import Spec
    from vpngen.store import Plan

DEFAULT_GENERATOR = "perlin"
NAMES = {"perlin": "vpn", "fractal": "vf"}
"""Generator -> what the names of its sets begin with."""
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad argument, 3 conflict with what is on disk, 4 something is missing here."
)


class _Stop(BaseException):
    """SIGINT or SIGTERM, raised in the main thread; `advice` says how to go on."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.advice = ""


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _stop(number: int, _: object) -> NoReturn:
    """The first signal: stop in good order."""
    for each in _SIGNALS:
        if signal.getsignal(each) is _stop:
            signal.signal(each, _leave)
    raise _Stop(number)


def _leave(number: int, _: object) -> NoReturn:
    """The next signal: leave at once, as if killed."""
    with contextlib.suppress(OSError):
        os.write(2, b"\x1b[?25hStopped at once.\n" if os.isatty(2) else b"Stopped at once.\n")  # a bar hides the cursor
    os._exit(128 + number)


def main() -> NoReturn:
    """Run the command line; every expected error is one message and an exit code."""
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and job control may have set it
                signal.signal(number, _stop)
        sys.exit(cli.main(prog_name="vpngen", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VpngenError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # of a disk or a path that nobody foresaw
        where = f"{error.filename!r}: " if error.filename is not None else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        sys.exit(RunError.exit_code)
    except _Stop as stop:
        click.echo(f"{'Stopped' if stop.number == signal.SIGINT else 'Terminated'}.{stop.advice}", err=True)
        sys.exit(128 + stop.number)


_EXAMPLES = "Examples:\n"


class _Help:
    """The examples of a docstring are shown line by line, as they stand."""

    help: str | None

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        if self.help is not None:
            self.help = inspect.cleandoc(self.help).replace(_EXAMPLES, f"\b\n{_EXAMPLES}")


class _Command(_Help, click.Command):
    """A command that lists the options naming a dataset apart, and speaks of its arguments as they are typed."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options: those of the command, those of every dataset, those of each generator."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Which dataset": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                section = "Options"
                if isinstance(param, _DatasetOption):
                    section = f"With --generator {param.of}" if param.of else "Which dataset"
                sections.setdefault(section, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that names an argument of the library names the option instead."""
        try:
            return super().invoke(ctx)
        except VpngenError as error:
            typed = {_key(p): p.opts[-1] if isinstance(p, click.Option) else _word(p) for p in self.get_params(ctx)}
            typed["path"] = typed.get("out") or typed.get("store_path", "path")
            if ctx.params.get("show_d") is not None:
                typed["temporal"] = "--show-d"
            error.args = (re.sub(r"`(\w+)`", lambda m: f"`{typed.get(m[1], m[1])}`", str(error)),)
            raise


def _key(param: click.Parameter) -> str:
    """What the library calls an option or argument."""
    return param.opts[-1].lstrip("-").replace("-", "_")


def _word(argument: click.Parameter) -> str:
    return (argument.metavar or str(argument.name).upper()).strip("[]")


class _DatasetOption(click.Option):
    """An option that is part of the name of a dataset; `of` is the generator that it belongs to, None for all."""

    def __init__(self, *args: Any, of: str | None = None, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.of = of


class _Group(_Help, click.Group):
    """Commands in the order in which one meets them."""

    command_class = _Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(self.commands)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="vpngen")
def cli() -> None:
    """Videos for training, made by formula: Video Perlin Noise and Video Fractal as labelled, sharded Zarr.

    Examples:
      vpngen render small.zarr --categories 16 --instances 4 --codec zstd
      vpngen render --categories 256 --instances 512  the main set, 1.8 TB
      vpngen render --preset vf-1000x1000 --dry-run   how large, how long
      vpngen info --presets                           every set of the paper
      vpngen mosaic -o mosaic.png                     all categories in a picture
      vpngen preview --generator fractal -o some.png  fractals that grow
    """


# --- which dataset


def _numbers(kind: Callable[[str], Any], what: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} must be {what} separated by commas", ctx, param) from None

    return parse


def _words_or_integers(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A name is left to the spec to judge; anything with a digit is a list of numbers."""
    if value is None or not any(c.isdigit() for c in value):
        return value
    return _numbers(int, "a name, or whole numbers")(ctx, param, value)


def _shape(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() for p in parts):
        raise click.BadParameter(f"{value!r} must be FRAMESxHEIGHTxWIDTH, such as 240x240x240", ctx, param)
    return tuple(int(p) for p in parts)


def _complete_presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from vpngen.spec import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def _complete_backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from vpngen.backends import BACKENDS

    return [name for name in ("auto", *BACKENDS) if name.startswith(incomplete)]


def _complete(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    return lambda ctx, param, incomplete: [word for word in words if word.startswith(incomplete)]


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


_CHOICES = {
    "temporal_unit": (("period", "divisions"), "D is the frames of a lattice cell, or the cells over the video."),
    "gradients": (("angles", "sphere"), "Gradients with uniform angles, or uniform on the sphere."),
    "fade": (("quintic", "linear"), "How lattice cells are interpolated."),
    "phase": (("corner", "centre"), "Where a pixel samples its cell."),
    "grey": (("fixed", "stretch"), "Grey levels of all videos alike, or each stretched to 0 to 255."),
}

_option = functools.partial(click.option, cls=_DatasetOption)
_perlin_option = functools.partial(_option, of="perlin")
_fractal_option = functools.partial(_option, of="fractal")
_integers = _numbers(int, "whole numbers")

dataset_options = _options(
    _option("--preset", metavar="NAME", shell_complete=_complete_presets, help="A set of the paper, see `vpngen info --presets`; options beside it override it."),
    _option("--spec", "spec_files", multiple=True, type=click.File(encoding="utf-8"), help="A spec as JSON, as `vpngen info --format json` prints it; - for stdin. Several are mixed: the labels of the first, then those of the next."),
    _option("--generator", type=click.Choice(list(NAMES)), help=f"The formula.  [default: {DEFAULT_GENERATOR}]"),
    _option("--categories", type=int, help="perlin: (W, H) pairs, a x b with both up to 20; fractal: systems.  [default: 256; fractal: 1000, or all of --ifs-dir]"),
    _option("--instances", type=int, help="Videos of each category.  [default: 512; fractal: 1000]"),
    _option("--val-instances", type=int, help="Videos of each category in the val split.  [default: 0]"),
    _option("--seed", type=int, help="Another seed, other videos.  [default: 0]"),
    _option("--shape", callback=_shape, metavar="TxHxW", help="Frames, height, width.  [default: 240x240x240; fractal: 100x362x362]"),
    _perlin_option("--temporal", callback=_words_or_integers, metavar="NAME|D,...", shell_complete=_complete("fast", "middle", "slow", "full"), help="fast, middle, slow, full, or values of D.  [default: middle]"),
    _perlin_option("--divisions", callback=_words_or_integers, metavar="RULE|N,...", shell_complete=_complete("spread", "low", "high"), help="spread, low, high, or the divisions of both axes.  [default: spread]"),
    _perlin_option("--divisions-x", callback=_integers, metavar="N,...", help="W of the categories."),
    _perlin_option("--divisions-y", callback=_integers, metavar="N,...", help="H of the categories."),
    _perlin_option("--noise-terms", type=int, help="Random noises added to the primal one: 0, 1 or 2.  [default: 2]"),
    _perlin_option("--noise-frequencies", callback=_integers, metavar="N,...", help="What their frequencies are drawn from.  [default: 1,2,4,8,16]"),
    _perlin_option("--noise-amplitudes", callback=_numbers(float, "numbers"), metavar="A,...", help="What their amplitudes are drawn from.  [default: 0.01,0.02,0.05,0.1,0.2]"),
    _perlin_option("--loop/--no-loop", default=None, help="Close the motion: frame t equals frame t + D.  [default: no-loop]"),
    *(_perlin_option(f"--{name.replace('_', '-')}", type=click.Choice(values), help=f"{about}  [default: {values[0]}]") for name, (values, about) in _CHOICES.items()),
    _fractal_option("--ifs-dir", type=click.Path(), metavar="FOLDER", help="FractalDB's category files in place of a search: a CSV for each, a row of a, b, c, d, e, f, probability for each map."),
    _fractal_option("--search-seed", type=int, help="Another seed, other categories.  [default: 0]"),
    _fractal_option("--weight", type=float, help="Instances multiply a parameter by 1 - 2w, 1 - w, 1 + w or 1 + 2w.  [default: 0.4]"),
    _fractal_option("--draw", type=click.Choice(["patch", "point"]), help="Random 3 x 3 pixels around each point, or the point.  [default: patch]"),
    _fractal_option("--flips/--no-flips", default=None, help="Instances are also mirrored.  [default: flips]"),
    _fractal_option("--points-per-frame", type=int, help="How fast it grows.  [default: 1000]"),
    _fractal_option("--trail", type=int, help="A frame shows the points of the last so many; 0 for all until then.  [default: 0]"),
    _fractal_option("--pad", type=int, help="Pixels between the fractal and the edge.  [default: 6]"),
    _fractal_option("--level", type=int, help="The grey level of what is drawn.  [default: 127]"),
)  # fmt: skip
_OWNERS: dict[str, str | None] = {p.name: p.of for p in dataset_options(lambda: None).__click_params__}
"""Dataset option -> the generator that it belongs to, None for all."""
_SOURCES: dict[str, Any] = {"search_seed": 0, "ifs_dir": None}
"""Options that say where categories come from; anything but these values is another set, and takes time to make."""


def _take_given(options: dict[str, Any]) -> dict[str, Any]:
    """The dataset options that were given; takes all of them out of `options`."""
    taken = {name: options.pop(name) for name in _OWNERS}
    return {name: value for name, value in taken.items() if value is not None and value != ()}


def _no_dataset(options: dict[str, Any], beside: str) -> None:
    """Raise ArgumentError if there is a dataset option beside something that says itself what the dataset is."""
    for name in _take_given(options):
        option = "spec" if name == "spec_files" else name
        raise ArgumentError(f"`{option}` cannot be given beside {beside}; leave one of them out")


def _take_spec(options: dict[str, Any]) -> tuple[Spec, str]:
    """The spec that the dataset options ask for, and a name for it; takes them out of `options`."""
    from vpngen.spec import mixed

    given = _take_given(options)
    files, preset = given.pop("spec_files", ()), given.pop("preset", None)
    if files:
        if preset is not None or given:
            other = "preset" if preset is not None else next(iter(given))
            raise ArgumentError(f"`spec` names the whole dataset, so `{other}` cannot be given beside it")
        specs = [_read_spec(file) for file in files]
        spec = mixed(*specs) if len(specs) > 1 else specs[0]
        return spec, f"{spec.generator.name}-{spec.fingerprint[:8]}"
    generator = _generator(preset, given)
    spec = _made(generator, preset, given)
    if preset is not None and not given:
        return spec, preset
    name = f"{NAMES[generator]}-{spec.n_categories}x{spec.instances}"
    counts: dict[str, Any] = {key: given[key] for key in ("categories", "instances") if key in given}
    plain = preset is None and given == counts
    if not plain and all(given.get(key, usual) == usual for key, usual in _SOURCES.items()):
        plain = spec == _made(generator, None, counts)
    return spec, name if plain else f"{name}-{spec.fingerprint[:8]}"


def _generator(preset: str | None, given: dict[str, Any]) -> str:
    """The generator of a set; takes it out of `given`, and raises ArgumentError where the options are of another."""
    from vpngen.spec import PRESETS

    asked = given.pop("generator", None)
    own: str = PRESETS.get(preset, {}).get("generator", DEFAULT_GENERATOR) if preset else asked or DEFAULT_GENERATOR
    if preset is not None and preset not in PRESETS:
        return own  # whoever makes it says so
    if asked not in (None, own):
        raise ArgumentError(f"`generator` (={asked!r}) cannot be given beside `preset` (={preset!r}), a set of {own!r}")
    for name in given:
        if (of := _OWNERS[name]) not in (None, own):
            remedy = f"give `--generator {of}`, or leave it out" if preset is None else "leave one of them out"
            raise ArgumentError(f"`{name}` is an option of the {of} generator, and this set is of {own!r}; {remedy}")
    if "ifs_dir" in given and "search_seed" in given:
        raise ArgumentError("`search_seed` is of a search, and `ifs_dir` takes its place; leave one of them out")
    return own


def _made(generator: str, preset: str | None, given: dict[str, Any]) -> Spec:
    """The spec, with progress where its categories have to be searched for."""
    from vpngen.spec import Spec, make
    from vpngen.terminal import systems_progress

    maker = make(generator) if preset is None else functools.partial(Spec.preset, preset)
    if "progress" not in inspect.signature(make(generator)).parameters:
        return maker(**given)
    with systems_progress() as progress:
        return maker(**given, progress=progress)


def _read_spec(file: TextIO) -> Spec:
    """The spec in a JSON file: alone, or where `vpngen info --format json` puts it."""
    from vpngen.spec import Spec

    try:
        fields = json.load(file)
        if isinstance(fields, dict) and isinstance(fields.get("spec"), dict):
            fields = fields["spec"]
        return Spec.from_dict(fields)
    except (ValueError, TypeError, RecursionError) as error:  # ArgumentError among them
        raise ArgumentError(f"`spec` (={file.name!r}) holds no spec as JSON: {error}") from None


format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or machines."
)  # fmt: skip
backend_option = click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    show_default=True,
    shell_complete=_complete_backends,
    help="One that `vpngen doctor` lists, or auto: the fastest here.",
)
workers_option = click.option("--workers", type=int, help="Threads.  [default: all processors]")


def _show(form: str, fields: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(fields, indent=1) if form == "json" else text)


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


# --- commands


@cli.command(epilog=EXIT_CODES)
@click.argument("out", type=click.Path(), required=False)
@dataset_options
@click.option(
    "--codec",
    type=click.Choice(["none", "zstd", "formula"]),
    default="none",
    show_default=True,
    help="zstd packs the pixels; formula stores recipes, which readers with vpngen render.",
)
@backend_option
@workers_option
@click.option(
    "--slice", "part", default="1/1", metavar="I/N", help="Do part I of N; the parts may run anywhere, at once."
)
@click.option("--shard-videos", type=int, help="Videos in a shard file.  [default: 32; formula: 1024]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, in videos, bytes and time, and do nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the store at OUT.")
@format_option
def render(
    out: str | None, codec: str, backend: str, workers: int | None, part: str, shard_videos: int | None, dry_run: bool,
    overwrite: bool, form: str, **options: Any,
) -> None:  # fmt: skip
    """Write a labelled dataset as sharded Zarr, or complete it.

    OUT is the store, by default named after the dataset, in the current folder. A stopped or killed run goes on where
    it was when the same command is given again.

    Examples:
      vpngen render                                     the paper's main set
      vpngen render --preset vpn-low-freq --codec zstd  144 categories, compressed
      vpngen render --codec formula                     its recipes, 18 MB
      vpngen render --preset vf-1000x1000               a million fractals, 13 TB
      vpngen render big.zarr --slice 3/8                one of eight jobs
      vpngen render --categories 64 --dry-run           how large, how long
    """
    from vpngen import store
    from vpngen.terminal import compiling, videos_progress
    from vpngen.units import number_text

    spec, name = _take_spec(options)
    path = Path(f"{name}.zarr" if out is None else out)
    slices = store.parse_slice(part)
    plan = store.store_plan(spec, store.Layout(codec, shard_videos), slices)
    crew = store.worker_count(workers)
    if dry_run:
        store.check_place(path, plan, overwrite)
    with compiling():
        renderer = _warm(spec, backend)
    if dry_run:
        _dry_run(path, plan, renderer, crew, overwrite, form)
        return
    try:
        with videos_progress() as progress:
            done = store.write(
                spec, path, codec=codec, backend=backend, workers=crew, part=slices, overwrite=overwrite,
                shard_videos=shard_videos, progress=progress,
            )  # fmt: skip
    except _Stop as stop:
        again = "the same command without --overwrite" if overwrite else "the same command again"
        stop.advice = f" What was finished stays; give {again} to go on."
        raise
    finished = store.is_complete(path)
    fields = {
        "path": str(path), "fingerprint": spec.fingerprint, "rendered": done.rendered, "kept": done.kept,
        "elsewhere": done.elsewhere, "bytes": done.nbytes, "seconds": round(done.seconds, 3), "finished": finished,
    }  # fmt: skip
    text = "nothing to do" if not done.rendered else (
        f"{done.rendered:,} videos rendered ({store.size_text(done.nbytes)} in {done.seconds:.1f} s, "
        f"{number_text(done.rendered / max(done.seconds, 1e-9))} a second)"
    )  # fmt: skip
    kept = f", {done.kept:,} were there" if done.kept else ""
    kept += (
        f", {done.elsewhere:,} were rendered meanwhile by another process on the same store" if done.elsewhere else ""
    )
    owed = "" if finished else "; the store is not complete yet: other slices are owed"
    _show(form, fields, f"{click.format_filename(path)}: {text}{kept}{owed}")


def _warm(spec: Spec, backend: str) -> Backend:
    """The backend, its kernels compiled or loaded."""
    import numpy as np

    from vpngen import backends
    from vpngen.looks import looks
    from vpngen.rendering import Window, render

    frame = Window(t=(0, 1), y=(0, 1), x=(0, 1))
    for first, _ in looks(spec.generator):
        render(spec, first, frame, backend=backend, threads=1, out=np.empty((1, 1, 1), np.uint8))
    return backends.choose(backend)


def _dry_run(path: Path, plan: Plan, renderer: Backend, workers: int, overwrite: bool, form: str) -> None:
    from vpngen import store
    from vpngen.units import duration_text

    owed = store.owed(path, plan) if path.is_dir() and not overwrite else list(plan.shards)
    videos = sum(s.count for s in owed)
    kept = plan.videos - videos
    raw = videos * plan.spec.video_bytes
    guess = store.estimate(plan, owed, renderer, workers)
    reclaimed = store.stored_bytes(path) if overwrite else 0
    free = store.free_bytes(path)
    try:
        store.check_space(path, plan, owed, guess.nbytes, reclaimed)
        problem = None
    except VpngenError as error:
        problem = str(error)
    fields = {
        "path": str(path), "fingerprint": plan.spec.fingerprint, "videos": videos, "kept": kept, "raw_bytes": raw,
        "estimated_bytes": guess.nbytes, "estimated_seconds": round(guess.seconds, 1), "free_bytes": free,
        "reclaimed_bytes": reclaimed, "workers": workers, "fits": problem is None, "problem": problem,
    }  # fmt: skip
    replaced = f", {store.size_text(reclaimed)} are replaced" if reclaimed else ""
    rows = [
        ("store", click.format_filename(path)),
        ("videos", f"{videos:,} to render" + (f", {kept:,} are there" if kept else "")),
        ("pixels", store.size_text(raw)),
        ("on disk", f"about {store.size_text(guess.nbytes)}; {store.size_text(free)} are free{replaced}"),
        ("fits", "yes" if problem is None else f"NO: {problem}"),
        ("time", f"about {duration_text(guess.seconds)} with {workers} workers, if the disk keeps up"),
    ]
    _show(form, fields, _table(rows))


@cli.command()
@click.argument("store_path", metavar="[STORE]", required=False, type=click.Path())
@dataset_options
@click.option("--presets", is_flag=True, help="List the presets.")
@format_option
def info(store_path: str | None, presets: bool, form: str, **options: Any) -> None:
    """Say what a store, a preset or any options of `render` hold.

    Examples:
      vpngen info --presets
      vpngen info --preset vpn-256x512
      vpngen info vpn-256x512.zarr
      vpngen info vpn-256x512.zarr --format json > set.json
      vpngen info --spec set.json
    """
    from vpngen.spec import PRESETS, Spec

    if presets:
        if store_path is not None:
            raise ArgumentError("STORE cannot be given beside `presets`; leave one of them out")
        _no_dataset(options, "`presets`")
        known = {name: Spec.preset(name) for name in PRESETS}
        listed = {n: {**_facts(s), "about": PRESETS[n]["about"]} for n, s in known.items()}
        head = ("preset", f"{'labels':>6}  {'instances':>9}  {'videos':>9}  {'pixels':>8}  place in the paper")
        _show(form, listed, _table([head, *((n, _preset_line(s, PRESETS[n]["about"])) for n, s in known.items())]))
        return
    if store_path is None:
        spec, _ = _take_spec(options)
        _show(form, {**_facts(spec), "spec": spec.to_dict()}, _table(_fact_rows(spec)))
        return
    _no_dataset(options, "STORE")
    from vpngen import store

    spec, layout = store.read_spec(store_path)
    plan = store.store_plan(spec, layout)
    left = store.owed(Path(store_path), plan)
    size = store.stored_bytes(Path(store_path))
    state = (
        "complete" if not left else f"{len(left):,} of {len(plan.shards):,} shards are owed: give `vpngen render` again"
    )
    fields = {
        **_facts(spec), "spec": spec.to_dict(), "path": store_path, "codec": layout.codec, "stored_bytes": size,
        "shards": len(plan.shards), "shards_owed": len(left), "finished": not left,
    }  # fmt: skip
    rows = [
        ("store", f"{click.format_filename(store_path)}: {state}"),
        *_fact_rows(spec),
        ("on disk", f"{store.size_text(size)}, codec {layout.codec}, {layout.shard_videos} videos a shard"),
    ]
    _show(form, fields, _table(rows))


def _facts(spec: Spec) -> dict[str, Any]:
    return {
        "generator": spec.generator.name,
        "categories": spec.n_categories,
        "instances": spec.instances,
        "val_instances": spec.val_instances,
        "videos": spec.n_videos("train") + spec.n_videos("val"),
        "bytes": spec.nbytes,
        "fingerprint": spec.fingerprint,
    }


def _preset_line(spec: Spec, about: str) -> str:
    from vpngen.units import size_text

    return f"{spec.n_categories:>6,}  {spec.instances:>9,}  {spec.n_videos():>9,}  {size_text(spec.nbytes):>8}  {about}"


def _fact_rows(spec: Spec) -> list[tuple[str, str]]:
    from vpngen.looks import facts
    from vpngen.units import size_text

    frames, height, width = spec.shape
    val = f"; val {spec.n_videos('val'):,} ({spec.val_instances:,} a category)" if spec.val_instances else ""
    return [
        ("generator", f"{spec.generator.name}, format version {spec.format_version}, seed {spec.seed}"),
        ("categories", f"{spec.n_categories:,}"),
        ("videos", f"train {spec.n_videos():,} ({spec.instances:,} a category){val}"),
        ("video", f"{frames} frames of {height} x {width} pixels, uint8, {size_text(spec.video_bytes)}"),
        ("bytes", f"{size_text(spec.nbytes)} of pixels ({spec.nbytes:,})"),
        ("fingerprint", spec.fingerprint),
        *facts(spec),
    ]


@cli.command(epilog=EXIT_CODES)
@click.argument("store_path", metavar="STORE", type=click.Path())
@click.option("--render", "compare", is_flag=True, help="Also render every video and compare the pixels.")
@click.option("--repair", is_flag=True, help="Render the damaged videos again and mend the files.")
@backend_option
@workers_option
@format_option
def verify(store_path: str, compare: bool, repair: bool, backend: str, workers: int | None, form: str) -> None:
    """Check every file of a store, and mend what is damaged.

    Metadata, labels, completion records, digests, and the checksum of each chunk; with --render every pixel.

    Examples:
      vpngen verify vpn-256x512.zarr
      vpngen verify vpn-256x512.zarr --render --repair
    """
    from vpngen import store
    from vpngen.terminal import shards_progress

    with shards_progress() as progress:
        found = store.verify(
            store_path, render=compare, repair=repair, backend=backend, workers=workers, progress=progress
        )
    fields = {
        "path": store_path, "videos": found.videos, "bytes": found.nbytes, "whole": found.whole,
        "problems": [{"path": p.path, "what": p.what, "split": p.split, "videos": list(p.videos), "repaired": p.repaired}
                     for p in found.problems],
    }  # fmt: skip
    lines = []
    for p in found.problems:
        videos = f" (videos {_ranges(p.videos)} of {p.split})" if p.videos else ""
        lines.append(f"{'repaired' if p.repaired else 'damaged '}  {p.path}: {p.what}{videos}")
    verdict = "whole" if found.whole else "NOT whole" if repair else "NOT whole; --repair mends what was rendered here"
    lines.append(
        f"{click.format_filename(store_path)}: {found.videos:,} videos, {store.size_text(found.nbytes)} read; {verdict}"
    )
    _show(form, fields, "\n".join(lines))
    if not found.whole:
        sys.exit(RunError.exit_code)


def _ranges(numbers: tuple[int, ...]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _source(store_path: str | None, backend: str, split: str, options: dict[str, Any]) -> tuple[Spec, Source]:
    """Where a picture takes its pixels from: a store, or the formula."""
    import functools

    import numpy as np

    from vpngen.rendering import render as render_pixels
    from vpngen.terminal import compiling

    if store_path is None:
        spec, _ = _take_spec(options)
        if split not in spec.splits:
            raise ArgumentError(f"`split` (={split!r}) holds no videos; give `val_instances`")
        with compiling():
            _warm(spec, backend)
        return spec, functools.partial(render_pixels, spec, backend=backend)
    _no_dataset(options, "STORE")
    from vpngen import store

    view = store.open(store_path, split)
    if not view.finished():
        raise ConflictError(f"{store_path!r} is not complete: complete it with `vpngen render`, or preview the options")

    def stored(index: int, window: Any, *, split: str) -> Any:
        (t0, _, y0, x0, _), (t, y, x) = window.pack(view.spec.shape)
        return np.asarray(view.video[index, t0 : t0 + t, y0 : y0 + y, x0 : x0 + x])

    return view.spec, stored


def _frames(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    start, _, stop = value.partition(":")
    if not (start.isascii() and start.isdigit() and stop.isascii() and stop.isdigit()):
        raise click.BadParameter(f"{value!r} must be START:STOP, such as 0:64", ctx, param)
    return int(start), int(stop)


picture_options = _options(
    click.argument("store_path", metavar="[STORE]", required=False, type=click.Path()),
    click.option("--frames", callback=_frames, metavar="START:STOP", help="Which frames.  [default: all; mosaic of perlin: the first 64]"),
    click.option("--fps", type=float, default=25, show_default=True, help="Frames a second."),
    click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True, help="Of which split."),
    backend_option,
    dataset_options,
)  # fmt: skip


@cli.command()
@picture_options
@click.option(
    "-o",
    "--out",
    default="preview.png",
    show_default=True,
    type=click.Path(),
    help=".png contact sheet, .mp4, .gif, or .mkv: lossless FFV1.",
)
@click.option(
    "--videos",
    callback=_numbers(int, "whole numbers"),
    metavar="I,...",
    help="Which videos.  [default: 8 over the set]",
)
@click.option("--columns", type=int, help="Frames in a strip of a sheet, or videos in a row.")
def preview(
    store_path: str | None, frames: tuple[int, int] | None, fps: float, split: str, backend: str, out: str,
    videos: tuple[int, ...] | None, columns: int | None, **options: Any,
) -> None:  # fmt: skip
    """Show chosen videos of a store, or straight from the formula.

    Examples:
      vpngen preview vpn-256x512.zarr --videos 0,17,255 -o three.png
      vpngen preview --preset vpn-slow -o slow.mp4 --frames 0:96
    """
    from vpngen import preview as pictures

    pictures.check(out, fps)
    spec, source = _source(store_path, backend, split, options)
    if videos is None:
        n = spec.n_videos(split)
        videos = tuple(sorted({i * (min(n, spec.n_categories) - 1) // 7 for i in range(8)}))
    pictures.preview(out, spec, source, videos, split=split, frames=frames, columns=columns, fps=fps)
    click.echo(f"{click.format_filename(out)}: videos {', '.join(map(str, videos))} of {split}")


@cli.command()
@picture_options
@click.option(
    "-o", "--out", default="mosaic.png", show_default=True, type=click.Path(), help=".png still, .mp4, .gif or .mkv."
)
@click.option("--instance", type=int, default=0, show_default=True, help="Which instance of each category.")
@click.option("--show-d", type=int, help="Which D, where a perlin set has several.")
@click.option("--tile", type=int, help="Pixels of a tile.  [default: 60; fractal: what fills the page]")
@click.option(
    "--crop", is_flag=True, help="Tiles show a corner of the frame pixel by pixel, not the whole of it reduced."
)
@click.option("--columns", type=int, help="Tiles in a row of a page of fractals.")
@click.option("--per-page", type=int, help="Fractals on a page.  [default: 400]")
@click.option("--page", type=int, help="Which page, where there are more.  [default: 1]")
def mosaic(
    store_path: str | None, frames: tuple[int, int] | None, fps: float, split: str, backend: str, out: str,
    instance: int, show_d: int | None, tile: int | None, crop: bool, columns: int | None, per_page: int | None,
    page: int | None, **options: Any,
) -> None:  # fmt: skip
    """Draw all categories: a tile for each.

    Those of perlin lie on a plane, W growing to the right, H downward: Figure 2 of the paper. Those of fractal fill
    pages, and a mixture has both.

    Examples:
      vpngen mosaic --categories 400 -o figure2.png
      vpngen mosaic --categories 64 -o figure2.mp4
      vpngen mosaic --generator fractal -o fractals.png
      vpngen mosaic --generator fractal --categories 16 -o growing.mp4
    """
    from vpngen import preview as pictures
    from vpngen.looks import looks

    pictures.check(out, fps)
    spec, source = _source(store_path, backend, split, options)
    drawn = pictures.preview_mosaic(
        out, spec, source, frames=frames, split=split, instance=instance, temporal=show_d, tile=tile, crop=crop,
        columns=columns, page=page, per_page=per_page, fps=fps,
    )  # fmt: skip
    left = ""
    if drawn < spec.n_categories:
        paged = any(look.plane(None) is None for _, look in looks(spec.generator))
        more = "--page and --per-page show others" if paged else "--show-d shows those of another D"
        left = f" of {spec.n_categories:,}; {more}"
    click.echo(f"{click.format_filename(out)}: {drawn:,} categories{left}")


@cli.command()
@format_option
def doctor(form: str) -> None:
    """Show what this machine has, and whether its pixels are right.

    Exit code 4 if something is missing or wrong.
    """
    from vpngen import health
    from vpngen.spec import make
    from vpngen.terminal import compiling

    with compiling():
        for generator in NAMES:
            _warm(make(generator)(categories=1), "auto")
    findings = health.examine()
    rows = [(f.name, f.value if f.good else f"{f.value}  <- {f.remedy}") for f in findings]
    fields = {f.name: {"value": f.value, "good": f.good, "remedy": f.remedy} for f in findings}
    _show(form, fields, _table(rows))
    if not all(f.good for f in findings):
        sys.exit(MissingError.exit_code)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Examples:
      vpngen completion bash >> ~/.bashrc
      vpngen completion zsh >> ~/.zshrc
      vpngen completion fish > ~/.config/fish/completions/vpngen.fish
    """
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(cli, {}, "vpngen", "_VPNGEN_COMPLETE").source())

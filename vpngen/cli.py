"""The command line. Everything heavy is imported inside the commands, so that help and completion answer at once."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from vpngen import __version__
from vpngen.errors import ArgumentError, ConflictError, RunError, VpngenError

if TYPE_CHECKING:
    from vpngen.preview import Source
    from vpngen.spec import Spec

DEFAULT_PRESET = "vpn-256x512"
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad argument, 3 conflict with what is on disk, 4 something is missing here."
)


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread."""


def main() -> NoReturn:
    """Run the command line; every expected error is one message and an exit code."""
    try:
        sys.exit(cli.main(prog_name="vpngen", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except VpngenError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"Stopped.{_hint()}", err=True)
        sys.exit(128 + signal.SIGINT)
    except _Terminated:
        click.echo(f"Terminated.{_hint()}", err=True)
        sys.exit(128 + signal.SIGTERM)


_go_on = False


def _hint() -> str:
    return " What was finished stays; give the same command again to go on." if _go_on else ""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="vpngen")
def cli() -> None:
    r"""Videos for training, made by formula: Video Perlin Noise as labelled, sharded Zarr.

    \b
    vpngen render --categories 256 --instances 512     the set of the paper, 1.8 TB
    vpngen render small.zarr --categories 16 --instances 4 --codec zstd
    vpngen info --preset vpn-low-freq                  what a set holds
    vpngen mosaic -o mosaic.png                        all categories in one picture
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


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


_CHOICES = {
    "temporal_unit": ("period", "divisions"),
    "gradients": ("angles", "sphere"),
    "fade": ("quintic", "linear"),
    "phase": ("corner", "centre"),
    "grey": ("fixed", "stretch"),
}

dataset_options = _options(
    click.option("--preset", metavar="NAME", shell_complete=_complete_presets, help="A set of the paper; see `vpngen info --presets`. Options beside it override it."),
    click.option("--spec", "spec_file", type=click.Path(dir_okay=False), help="A spec as JSON, as `vpngen info --format json` prints it."),
    click.option("--generator", type=click.Choice(["perlin"]), help="The formula.  [default: perlin]"),
    click.option("--categories", type=int, help="(W, H) pairs: a x b with both up to 20.  [default: 256]"),
    click.option("--instances", type=int, help="Videos of each category.  [default: 512]"),
    click.option("--val-instances", type=int, help="Videos of each category in the val split.  [default: 0]"),
    click.option("--temporal", callback=_words_or_integers, metavar="NAME|D,...", help="fast, middle, slow, full, or values of D.  [default: middle]"),
    click.option("--seed", type=int, help="[default: 0]"),
    click.option("--shape", callback=_shape, metavar="TxHxW", help="Frames, height, width.  [default: 240x240x240]"),
    click.option("--divisions", callback=_words_or_integers, metavar="RULE|N,...", help="spread, low, high, or the divisions of both axes."),
    click.option("--divisions-x", callback=_numbers(int, "whole numbers"), metavar="N,...", help="W of the categories."),
    click.option("--divisions-y", callback=_numbers(int, "whole numbers"), metavar="N,...", help="H of the categories."),
    click.option("--noise-terms", type=int, help="Random frequency noises added to the primal one: 0, 1 or 2."),
    click.option("--noise-frequencies", callback=_numbers(int, "whole numbers"), metavar="N,..."),
    click.option("--noise-amplitudes", callback=_numbers(float, "numbers"), metavar="A,..."),
    click.option("--loop/--no-loop", default=None, help="Close the motion: frame t equals frame t + D."),
    *(click.option(f"--{name.replace('_', '-')}", type=click.Choice(values)) for name, values in _CHOICES.items()),
)  # fmt: skip
_DATASET = (
    "preset", "spec_file", "generator", "categories", "instances", "val_instances", "temporal", "seed", "shape",
    "divisions", "divisions_x", "divisions_y", "noise_terms", "noise_frequencies", "noise_amplitudes", "loop", *_CHOICES,
)  # fmt: skip


def _take_spec(options: dict[str, Any]) -> tuple[Spec, str]:
    """The spec that the dataset options ask for, and a name for it; takes them out of `options`."""
    from vpngen.spec import Spec

    given = {name: options.pop(name) for name in _DATASET}
    given = {name: value for name, value in given.items() if value is not None}
    given.pop("generator", None)
    preset, spec_file = given.pop("preset", None), given.pop("spec_file", None)
    if spec_file is not None:
        if preset is not None or given:
            raise ArgumentError("`--spec` names the whole dataset; give no other dataset option beside it")
        try:
            text = Path(spec_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArgumentError(f"`--spec` (={spec_file!r}) cannot be read: {error}") from None
        spec = Spec.from_json(text)
        return spec, f"{spec.generator.name}-{spec.fingerprint[:8]}"
    spec = Spec.preset(preset or DEFAULT_PRESET, **given)
    changed = set(given) - {"categories", "instances"}
    if preset is not None and not given:
        return spec, preset
    stem = "vpn" if spec.generator.name == "perlin" else spec.generator.name
    name = f"{stem}-{spec.n_categories}x{spec.instances}"
    return spec, f"{name}-{spec.fingerprint[:8]}" if changed or preset else name


format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or machines."
)  # fmt: skip
backend_option = click.option(
    "--backend", metavar="NAME", default="auto", show_default=True, help="numba, reference, or auto: the fastest here."
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
    "--codec", type=click.Choice(["none", "zstd"]), default="none", show_default=True, help="zstd halves the bytes."
)
@backend_option
@workers_option
@click.option(
    "--slice", "part", default="1/1", metavar="I/N", help="Do part I of N; the parts may run anywhere, at once."
)
@click.option("--shard-videos", type=int, default=32, show_default=True, help="Videos in a shard file.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, in videos, bytes and time, and do nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the store at OUT.")
@format_option
def render(
    out: str | None, codec: str, backend: str, workers: int | None, part: str, shard_videos: int, dry_run: bool,
    overwrite: bool, form: str, **options: Any,
) -> None:  # fmt: skip
    r"""Write a labelled dataset as sharded Zarr, or complete the one at OUT.

    A stopped or killed run goes on where it was when the same command is given again.

    \b
    vpngen render                                      the paper's main set into vpn-256x512.zarr
    vpngen render --preset vpn-low-freq --codec zstd   144 low-frequency categories, compressed
    vpngen render big.zarr --slice 3/8                 one of eight jobs
    vpngen render --categories 64 --dry-run            how large, how long
    """
    global _go_on
    from vpngen import store
    from vpngen.terminal import compiling, progress_of

    spec, name = _take_spec(options)
    path = Path(out or f"{name}.zarr")
    slices = store.parse_slice(part)
    plan = store.store_plan(spec, store.Layout(codec, shard_videos), slices)
    with compiling():
        renderer = _warm(spec, backend)
    if dry_run:
        _dry_run(spec, path, plan, renderer, workers, form)
        return
    _go_on = True
    signal.signal(signal.SIGTERM, _terminate)
    with progress_of(plan.videos, spec.video_bytes) as progress:
        done = store.write(
            spec, path, codec=codec, backend=backend, workers=workers, part=slices, overwrite=overwrite,
            shard_videos=shard_videos, progress=progress,
        )  # fmt: skip
    _go_on = False
    fields = {
        "path": str(path), "fingerprint": spec.fingerprint, "rendered": done.rendered, "kept": done.kept,
        "bytes": done.nbytes, "seconds": round(done.seconds, 3), "finished": store.is_complete(path),
    }  # fmt: skip
    kept = f", {done.kept:,} were there" if done.kept else ""
    part_of = "" if fields["finished"] else "; the store is not complete yet: other slices are owed"
    rate = done.rendered / done.seconds if done.seconds else 0
    _show(
        form, fields,
        f"{path}: {done.rendered:,} videos rendered ({store.size_text(done.nbytes)} in {done.seconds:.1f} s, "
        f"{rate:.0f} a second){kept}{part_of}",
    )  # fmt: skip


def _terminate(*_: object) -> None:
    raise _Terminated


def _warm(spec: Spec, backend: str) -> Any:
    """The backend, its kernels compiled or loaded."""
    import numpy as np

    from vpngen import backends
    from vpngen.rendering import Window, render

    frame = Window(t=(0, 1), y=(0, 1), x=(0, 1))
    render(spec, 0, frame, backend=backend, threads=1, out=np.empty((1, 1, 1), np.uint8))
    return backends.choose(backend)


def _dry_run(spec: Spec, path: Path, plan: Any, renderer: Any, workers: int | None, form: str) -> None:
    from vpngen import store
    from vpngen.units import duration_text

    owed = store.owed(path, plan) if path.is_dir() else list(plan.shards)
    videos = sum(s.count for s in owed)
    crew = store.worker_count(workers)
    guess = store.estimate(plan, owed, renderer, crew)
    free = store.free_bytes(path)
    try:
        store.check_space(path, plan, owed, guess.nbytes)
        fits = "it fits"
    except VpngenError as error:
        fits = f"it does not fit. {error}"
    fields = {
        "path": str(path), "fingerprint": spec.fingerprint, "videos": videos, "kept": plan.videos - videos,
        "raw_bytes": videos * spec.video_bytes, "estimated_bytes": guess.nbytes, "estimated_seconds": round(guess.seconds, 1),
        "free_bytes": free, "workers": crew, "fits": fits == "it fits",
    }  # fmt: skip
    rows = [
        ("store", str(path)),
        ("videos", f"{videos:,} to render" + (f", {plan.videos - videos:,} are there" if plan.videos > videos else "")),
        ("pixels", store.size_text(videos * spec.video_bytes)),
        ("on disk", f"about {store.size_text(guess.nbytes)}; {store.size_text(free)} are free: {fits}"),
        (
            "time",
            f"about {duration_text(guess.seconds)} of rendering and packing with {crew} workers, if the disk keeps up",
        ),
    ]
    _show(form, fields, _table(rows))


@cli.command()
@click.argument("store_path", metavar="[STORE]", required=False, type=click.Path())
@dataset_options
@click.option("--presets", is_flag=True, help="List the presets.")
@format_option
def info(store_path: str | None, presets: bool, form: str, **options: Any) -> None:
    r"""Say what a dataset holds: a store, a preset, or any options of `render`.

    \b
    vpngen info --presets
    vpngen info --preset vpn-256x512
    vpngen info vpn-256x512.zarr --format json
    """
    from vpngen.spec import PRESETS, Spec

    if presets:
        known = {name: Spec.preset(name) for name in PRESETS}
        listed = {n: {**_facts(s), "about": PRESETS[n]["about"]} for n, s in known.items()}
        head = ("preset", f"{'labels':>6}  {'instances':>9}  {'videos':>9}  {'pixels':>8}  place in the paper")
        _show(form, listed, _table([head, *((n, _preset_line(s, PRESETS[n]["about"])) for n, s in known.items())]))
        return
    if store_path is None:
        spec, _ = _take_spec(options)
        _show(form, {**_facts(spec), "spec": spec.to_dict()}, _table(_fact_rows(spec)))
        return
    if any(options.get(name) is not None for name in _DATASET):
        raise ArgumentError("give a store or dataset options, not both")
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
        ("store", f"{store_path}: {state}"),
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
    from vpngen.units import size_text

    frames, height, width = spec.shape
    val = f"; val {spec.n_videos('val'):,} ({spec.val_instances:,} a category)" if spec.val_instances else ""
    rows = [
        ("generator", f"{spec.generator.name}, format version {spec.format_version}, seed {spec.seed}"),
        ("categories", f"{spec.n_categories:,}"),
        ("videos", f"train {spec.n_videos():,} ({spec.instances:,} a category){val}"),
        ("video", f"{frames} frames of {height} x {width} pixels, uint8, {size_text(spec.video_bytes)}"),
        ("bytes", f"{size_text(spec.nbytes)} of pixels ({spec.nbytes:,})"),
        ("fingerprint", spec.fingerprint),
    ]
    for name, value in spec.generator.to_dict().items():
        rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


@cli.command(epilog=EXIT_CODES)
@click.argument("store_path", metavar="STORE", type=click.Path())
@click.option("--render", "compare", is_flag=True, help="Also render every video and compare the pixels.")
@click.option("--repair", is_flag=True, help="Render the damaged videos again and mend the files.")
@backend_option
@workers_option
@format_option
def verify(store_path: str, compare: bool, repair: bool, backend: str, workers: int | None, form: str) -> None:
    r"""Check every file of a store: metadata, labels, records, digests, the checksum of each chunk.

    \b
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
    lines.append(f"{store_path}: {found.videos:,} videos, {store.size_text(found.nbytes)} read; {verdict}")
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
        with compiling():
            _warm(spec, backend)
        return spec, functools.partial(render_pixels, spec, backend=backend)
    if any(options.get(name) is not None for name in _DATASET):
        raise ArgumentError("give a store or dataset options, not both")
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
    click.option("--frames", callback=_frames, metavar="START:STOP", help="Which frames.  [default: all; mosaic: the first 64]"),
    click.option("--fps", type=float, default=25, show_default=True, help="Frames a second."),
    click.option("--split", default="train", show_default=True),
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
    r"""Show chosen videos, labelled, of a store or straight from the formula.

    \b
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
    click.echo(f"{out}: videos {', '.join(map(str, videos))} of {split}")


@cli.command()
@picture_options
@click.option(
    "-o", "--out", default="mosaic.png", show_default=True, type=click.Path(), help=".png still, .mp4, .gif or .mkv."
)
@click.option("--instance", type=int, default=0, show_default=True, help="Which instance of each category.")
@click.option("--show-d", type=int, help="Which D, where the set has several.")
@click.option("--tile", type=int, default=60, show_default=True, help="Pixels of a tile.")
@click.option(
    "--crop", is_flag=True, help="Tiles show a corner of the frame pixel by pixel, not the whole of it reduced."
)
def mosaic(
    store_path: str | None, frames: tuple[int, int] | None, fps: float, split: str, backend: str, out: str,
    instance: int, show_d: int | None, tile: int, crop: bool, **options: Any,
) -> None:  # fmt: skip
    r"""Draw the category plane, Figure 2 of the paper: W to the right, H downward.

    \b
    vpngen mosaic --categories 400 -o figure2.png
    vpngen mosaic --categories 64 -o figure2.mp4
    """
    from vpngen import preview as pictures

    pictures.check(out, fps)
    spec, source = _source(store_path, backend, split, options)
    pictures.preview_mosaic(
        out, spec, source, frames=frames, split=split, instance=instance, temporal=show_d, tile=tile, crop=crop, fps=fps
    )
    click.echo(f"{out}: {spec.n_categories} categories")


@cli.command()
@format_option
def doctor(form: str) -> None:
    """Show what this machine has, and test that its pixels are right."""
    from vpngen import health

    findings = health.examine()
    rows = [(f.name, f.value if f.good else f"{f.value}  <- {f.remedy}") for f in findings]
    fields = {f.name: {"value": f.value, "good": f.good, "remedy": f.remedy} for f in findings}
    _show(form, fields, _table(rows))
    if not all(f.good for f in findings):
        sys.exit(4)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    vpngen completion bash >> ~/.bashrc
    vpngen completion zsh >> ~/.zshrc
    vpngen completion fish > ~/.config/fish/completions/vpngen.fish
    """
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(cli, {}, "vpngen", "_VPNGEN_COMPLETE").source())

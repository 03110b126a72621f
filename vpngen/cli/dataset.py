"""The options that say which dataset is meant, and the spec that they make."""

from __future__ import annotations

import functools
import inspect
import json
from typing import TYPE_CHECKING, Any, TextIO

import click

from vpngen.cli.base import DatasetOption, bundle, complete, numbers, shape_of
from vpngen.errors import ArgumentError

if TYPE_CHECKING:
    from vpngen.backends import Backend
    from vpngen.spec import Spec

DEFAULT_GENERATOR = "perlin"
NAMES = {"perlin": "vpn", "fractal": "vf"}
"""Generator -> what the names of its sets begin with."""


def _words_or_integers(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A name is left to the spec to judge; anything with a digit is a list of numbers."""
    if value is None or not any(c.isdigit() for c in value):
        return value
    return numbers(int, "a name, or whole numbers")(ctx, param, value)


def _complete_presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from vpngen.spec import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


_CHOICES = {
    "temporal_unit": (("period", "divisions"), "D is the frames of a lattice cell, or the cells over the video."),
    "gradients": (("angles", "sphere"), "Gradients with uniform angles, or uniform on the sphere."),
    "fade": (("quintic", "linear"), "How lattice cells are interpolated."),
    "phase": (("corner", "centre"), "Where a pixel samples its cell."),
    "grey": (("fixed", "stretch"), "Grey levels of all videos alike, or each stretched to 0 to 255."),
}

_option = functools.partial(click.option, cls=DatasetOption)
_perlin_option = functools.partial(_option, of="perlin")
_fractal_option = functools.partial(_option, of="fractal")
_integers = numbers(int, "whole numbers")

dataset_options = bundle(
    _option("--preset", metavar="NAME", shell_complete=_complete_presets, help="A set of the paper, see `vpngen info --presets`; options beside it override it."),
    _option("--spec", "spec_files", multiple=True, type=click.File(encoding="utf-8"), help="A spec as JSON, as `vpngen info --format json` prints it; - for stdin. Several are mixed: the labels of the first, then those of the next."),
    _option("--generator", type=click.Choice(list(NAMES)), help=f"The formula.  [default: {DEFAULT_GENERATOR}]"),
    _option("--categories", type=int, help="perlin: (W, H) pairs, a x b with both up to 20; fractal: systems.  [default: 256; fractal: 1000, or all of --ifs-dir]"),
    _option("--instances", type=int, help="Videos of each category.  [default: 512; fractal: 1000]"),
    _option("--val-instances", type=int, help="Videos of each category in the val split.  [default: 0]"),
    _option("--seed", type=int, help="Another seed, other videos.  [default: 0]"),
    _option("--shape", callback=shape_of, metavar="TxHxW", help="Frames, height, width.  [default: 240x240x240; fractal: 100x362x362]"),
    _perlin_option("--temporal", callback=_words_or_integers, metavar="NAME|D,...", shell_complete=complete("fast", "middle", "slow", "full"), help="fast, middle, slow, full, or values of D.  [default: middle]"),
    _perlin_option("--divisions", callback=_words_or_integers, metavar="RULE|N,...", shell_complete=complete("spread", "low", "high"), help="spread, low, high, or the divisions of both axes.  [default: spread]"),
    _perlin_option("--divisions-x", callback=_integers, metavar="N,...", help="W of the categories."),
    _perlin_option("--divisions-y", callback=_integers, metavar="N,...", help="H of the categories."),
    _perlin_option("--noise-terms", type=int, help="Random noises added to the primal one: 0, 1 or 2.  [default: 2]"),
    _perlin_option("--noise-frequencies", callback=_integers, metavar="N,...", help="What their frequencies are drawn from.  [default: 1,2,4,8,16]"),
    _perlin_option("--noise-amplitudes", callback=numbers(float, "numbers"), metavar="A,...", help="What their amplitudes are drawn from.  [default: 0.01,0.02,0.05,0.1,0.2]"),
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
OWNERS: dict[str, str | None] = {p.name: p.of for p in dataset_options(lambda: None).__click_params__}
"""Dataset option -> the generator that it belongs to, None for all."""
_SOURCES: dict[str, Any] = {"search_seed": 0, "ifs_dir": None}
"""Options that say where categories come from; anything but these values is another set, and takes time to make."""


def take_given(options: dict[str, Any]) -> dict[str, Any]:
    """The dataset options that were given; takes all of them out of `options`."""
    taken = {name: options.pop(name) for name in OWNERS}
    return {name: value for name, value in taken.items() if value is not None and value != ()}


def no_dataset(options: dict[str, Any], beside: str) -> None:
    """Raise ArgumentError if there is a dataset option beside something that says itself what the dataset is."""
    for name in take_given(options):
        option = "spec" if name == "spec_files" else name
        raise ArgumentError(f"cannot be given beside {beside}; leave one of them out", option)


def take_spec(options: dict[str, Any]) -> tuple[Spec, str]:
    """The spec that the dataset options ask for, and a name for it; takes them out of `options`."""
    from vpngen.spec import mixed

    given = take_given(options)
    files, preset = given.pop("spec_files", ()), given.pop("preset", None)
    if files:
        if preset is not None or given:
            other = "preset" if preset is not None else next(iter(given))
            raise ArgumentError(f"names the whole dataset, so `{other}` cannot be given beside it", "spec")
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
        raise ArgumentError(f"cannot be given beside `preset` (={preset!r}), a set of {own!r}", "generator", asked)
    for name in given:
        if (of := OWNERS[name]) not in (None, own):
            remedy = f"give `--generator {of}`, or leave it out" if preset is None else "leave one of them out"
            raise ArgumentError(f"is an option of the {of} generator, and this set is of {own!r}; {remedy}", name)
    if "ifs_dir" in given and "search_seed" in given:
        raise ArgumentError("is of a search, and `ifs_dir` takes its place; leave one of them out", "search_seed")
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
        raise ArgumentError(f"holds no spec as JSON: {error}", "spec", file.name) from None


def warm(spec: Spec, backend: str) -> Backend:
    """The backend, its kernels compiled or loaded."""
    import numpy as np

    from vpngen import backends
    from vpngen.looks import looks
    from vpngen.rendering import Window, render

    frame = Window(t=(0, 1), y=(0, 1), x=(0, 1))
    for first, _ in looks(spec.generator):
        render(spec, first, frame, backend=backend, threads=1, out=np.empty((1, 1, 1), np.uint8))
    return backends.choose(backend)

"""The options that say which dataset is meant, and the spec that they make."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from vpngen.cli.base import LocalPath, OptionsOf, Row, SectionOption, complete, field_options
from vpngen.errors import ArgumentError, renamed
from vpngen.fields import Field, described

if TYPE_CHECKING:
    from vpngen.backends import Backend
    from vpngen.generators import Generator
    from vpngen.spec import Spec


class DatasetOption(SectionOption):
    """An option that says which dataset; `of` is its generator, None for all; `key` is what `Spec.make` calls it."""

    def __init__(self, *args: Any, of: str | None = None, key: str | None = None, **fields: Any) -> None:
        super().__init__(*args, section=f"With --generator {of}" if of else "Which dataset", **fields)
        self.of, self.key = of, key or self.name


TAKEN: Final = ("seed", "mean")
"""What `vpngen train` calls something else of its own."""


def _made(typed: tuple[str, ...], train: bool = False) -> list[click.Parameter]:
    """All of them: those of the generator that is asked for are shown, those of others known.

    With `train`, help shows those that all generators have, and those of `TAKEN` begin with `--data-`.
    """
    from vpngen.spec import presets as all_presets

    kinds, presets = _kinds(), all_presets()
    first = next(iter(kinds.values()))
    words = [part for word in typed for part in word.split("=", 1)]  # nothing is parsed yet
    given = dict(itertools.pairwise([*words, ""]))
    named = presets.get(given.get("--preset", ""), {}).get("generator", given.get("--generator", ""))
    kind = kinds.get(named, first)
    more = "`vpngen render --generator NAME --help`" if train else "--generator NAME --help"
    options: list[click.Parameter] = [
        DatasetOption(["--preset"], metavar="NAME", shell_complete=complete(*presets), help="A set of the paper, see `vpngen info --presets`; options beside it override it."),
        DatasetOption(["--spec", "spec_files"], multiple=True, type=LocalPath(allow_dash=True), metavar="FILE", help="A spec as JSON, as `vpngen info --format json` prints it; - for stdin. Several are mixed: the labels of the first, then those of the next."),
        DatasetOption(["--generator"], type=click.Choice(list(kinds)), help=f"The formula. Its options: {more}.  [default: {first.name}]"),
    ]  # fmt: skip
    known: set[str] = set()

    def add(fields: Iterable[Field], **more: Any) -> None:
        for field in fields:
            if field.name not in known:
                known.add(field.name)
                name = f"data_{field.name}" if train and field.name in TAKEN else field.name
                options.extend(field_options([field._replace(name=name)], DatasetOption, key=field.name, **more))

    add(kind.counts)
    add(kind.options(), of=kind.name, hidden=train)
    for other in kinds.values():
        add(other.options(), of=other.name, hidden=True)
    return options


def _kinds() -> dict[str, type[Generator]]:
    from vpngen.generators import kinds

    return {kind.name: kind for kind in kinds()}


dataset_options = click.option("--generator", cls=OptionsOf, made=_made)
training_dataset_options = click.option("--generator", cls=OptionsOf, made=functools.partial(_made, train=True))


def _options() -> dict[str, DatasetOption]:
    """Those of the command that runs, by the name under which it gets their values."""
    ctx = click.get_current_context()
    return {str(p.name): p for p in ctx.command.get_params(ctx) if isinstance(p, DatasetOption)}


def _named(key: str | None) -> str | None:
    """What the command calls an option that `Spec.make` calls `key`."""
    return next((name for name, option in _options().items() if option.key == key), key)


def take_given(options: dict[str, Any]) -> dict[str, Any]:
    """The dataset options that were given; takes all of them out of `options`."""
    taken = {option.key: options.pop(name) for name, option in _options().items()}
    return {name: value for name, value in taken.items() if value is not None and value != ()}


def no_dataset(options: dict[str, Any], beside: str) -> None:
    """Raise ArgumentError if there is a dataset option beside something that says itself what the dataset is."""
    for key in take_given(options):
        raise ArgumentError(f"cannot be given beside {beside}; leave one of them out", _named(key))


def take_spec(options: dict[str, Any]) -> tuple[Spec, str]:
    """The spec that the dataset options ask for, and a name for it; takes them out of `options`."""
    from vpngen.spec import Spec, mixed
    from vpngen.terminal import systems_progress

    given = take_given(options)
    files, preset = given.pop("spec_files", ()), given.pop("preset", None)
    if files:
        if preset is not None or given:
            other = "preset" if preset is not None else _named(next(iter(given)))
            raise ArgumentError("cannot be given beside --spec, which names the whole dataset", other)
        specs = [read_spec_file(file) for file in files]
        spec = mixed(*specs, names=[repr(file) for file in files]) if len(specs) > 1 else specs[0]
        return spec, f"{spec.generator.name}-{spec.fingerprint[:8]}"
    generator = _generator(preset, given)
    make = functools.partial(Spec.preset, preset) if preset is not None else functools.partial(Spec.make, generator)
    with systems_progress() as progress, renamed(**{str(option.key): name for name, option in _options().items()}):
        spec = make(**given, progress=progress)
        if preset is not None and not given:
            return spec, preset
        name = f"{spec.generator.short}-{spec.n_categories}x{spec.instances}"
        return spec, name if _plain(spec, preset, given) else f"{name}-{spec.fingerprint[:8]}"


def _generator(preset: str | None, given: dict[str, Any]) -> str:
    """The generator of a set; takes it out of `given`, and raises ArgumentError where the options are of another."""
    from vpngen.generators import GENERATORS
    from vpngen.spec import presets

    asked = given.pop("generator", None)
    own: str = asked or next(iter(_kinds()))
    if preset is not None:
        if preset not in presets():
            return own  # whoever makes it says so
        own = presets()[preset]["generator"]
    if asked not in (None, own):
        raise ArgumentError(f"cannot be given beside --preset {preset}, a set of {own!r}", "generator", asked)
    known = {f.name for f in GENERATORS[own].options()}
    for name in given:
        if name not in known:
            of = next(option.of for option in _options().values() if option.key == name)
            if of is None:
                raise ArgumentError(f"is no option of a set of {own!r}; leave one of them out", name)
            remedy = f"give `--generator {of}`, or leave it out" if preset is None else "leave one of them out"
            raise ArgumentError(f"is an option of the {of} generator, and this set is of {own!r}; {remedy}", name)
    return own


def _plain(spec: Spec, preset: str | None, given: dict[str, Any]) -> bool:
    """Whether a set is the usual one of its counts. It is not made again where that could take a search."""
    from vpngen.spec import Spec

    counts = {key: given[key] for key in ("categories", "instances") if key in given}
    if preset is None and given == counts:
        return True
    kind = type(spec.generator)
    if not any(f.name == "categories" for f in kind.counts):  # a mixture
        return False
    as_usual = all(getattr(spec.generator, f.name) == f.default for f in described(kind) if f.name in given)
    made_of_files = any(f.default is None and f.name in given for f in kind.made_from)
    return as_usual and not made_of_files and spec == Spec.make(kind.name, **counts)


def read_spec_file(path: str) -> Spec:
    """The spec in a JSON file: alone, or where `vpngen info --format json` puts it."""
    from vpngen import files
    from vpngen.spec import Spec

    try:
        data = sys.stdin.buffer.read(files.MOST_BYTES) if path == "-" else files.read(path)
        fields = files.parse_json(data)
        if isinstance(fields, dict) and isinstance(fields.get("spec"), dict):
            fields = fields["spec"]
        return Spec.from_dict(fields)
    except OSError as error:
        raise ArgumentError(f"cannot be read: {error.strerror}; - stands for stdin", "spec", path) from None
    except (ValueError, TypeError) as error:  # ArgumentError among them
        raise ArgumentError(f"holds no spec as JSON: {error}", "spec", path) from None


def advice_rows(spec: Spec) -> list[Row]:
    """What of the options is probably not meant."""
    said = spec.generator.advice(spec.shape)
    return [("advice", "; ".join(said), {"advice": said})] if said else []


def advise(spec: Spec) -> None:
    """Say on stderr what of the options is probably not meant."""
    for said in spec.generator.advice(spec.shape):
        click.echo(f"advice: {said}", err=True)


def warm(spec: Spec, backend: str) -> Backend:
    """The backend, its kernels compiled or loaded."""
    import numpy as np

    from vpngen import backends
    from vpngen.rendering import Window, render

    frame = Window(t=(0, 1), y=(0, 1), x=(0, 1))
    for first, _ in spec.generator.members():
        render(spec, first, frame, backend=backend, threads=1, out=np.empty((1, 1, 1), np.uint8))
    return backends.choose(backend, spec.generator)

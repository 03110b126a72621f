"""What all commands share: signals, errors and exit codes, how help looks, options that many have."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import inspect
import itertools
import json
import os
import re
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from vpngen import __version__
from vpngen.errors import ArgumentError, MissingError, RunError, VpngenError, plain, quoted, renamed, shown
from vpngen.fields import WORD_OR_INTEGERS, Field
from vpngen.files import FEW_FILES, local, url_of

if TYPE_CHECKING:
    from vpngen.store import Place


EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad argument, 3 conflict with what is stored, 4 something is missing here."
)


class Stop(BaseException):
    """SIGINT, SIGTERM or SIGHUP, raised in the main thread; `advice` says how to go on."""

    def __init__(self, number: int, advice: str = "") -> None:
        self.number, self.advice = number, advice


_SIGNALS = {signal.SIGINT: "Stopped", signal.SIGTERM: "Terminated", signal.SIGHUP: "Hung up"}
"""Each with what is said of it."""


def _change(handler: Any, to: Any) -> list[signal.Signals]:
    """Handle the signals that one function handles by another; gives those signals."""
    found = [each for each in _SIGNALS if signal.getsignal(each) is handler]
    for each in found:
        signal.signal(each, to)
    return found


def _stop(number: int, _: object) -> NoReturn:
    """The first signal: stop in good order."""
    _change(_stop, _leave)
    _let_go()
    raise Stop(number)


def _let_go() -> None:
    """Whoever writes to a terminal that was closed gets an error, in the middle of a stop in good order: it goes nowhere instead."""
    for fd in (1, 2):
        try:
            termios.tcgetattr(fd)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), fd)


_leaving = itertools.count()


def _leave(number: int, _: object) -> None:
    """The next signal: leave at once, as if killed; one that comes while this runs lets it finish, so that it says so once.

    SIGHUP is no wish to hurry: a closed terminal sends it twice, by its shell and by the kernel.
    """
    if number == signal.SIGHUP or next(_leaving):
        return
    with contextlib.suppress(OSError):
        os.write(2, b"\x1b[?25hStopped at once.\n" if os.isatty(2) else b"Stopped at once.\n")  # a bar hides the cursor
    os._exit(128 + number)


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """A list that gets the signal that comes, for work that asks between its steps; a second one stops at once."""
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        noted.append(number)
        _change(note, _leave)
        _let_go()

    held = _change(_stop, note)
    try:
        yield noted
    finally:
        for each in held:
            signal.signal(each, _stop)


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """Say in a line why a thread of a package ended, such as TensorBoard's where no file can be opened; whoever waits for it says more."""
    if isinstance(ended.exc_value, OSError):
        click.echo(plain(f"a thread that writes has ended: {ended.exc_value}"), err=True)
    else:
        threading.__excepthook__(ended)


def main() -> NoReturn:
    """Run the command line; every expected error is one message and an exit code, see `_fail`."""
    sys.unraisablehook, threading.excepthook = _unraisable, _thread_ended
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and job control may have set it
                signal.signal(number, _stop)
        sys.exit(cli.main(prog_name="vpngen", standalone_mode=False) or 0)
    except click.ClickException as error:
        param = getattr(error, "param", None)
        at_fault = getattr(error, "option_name", None) or (param and (param.metavar or param.opts[-1]).strip("[]"))
        _fail(ArgumentError.kind, error.format_message(), error.exit_code, at_fault, error.show)
    except VpngenError as error:
        _fail(error.kind, str(error), error.exit_code, getattr(error, "argument", None))
    except Stop as stop:
        said = f"{_SIGNALS[signal.Signals(stop.number)]}.{stop.advice}"
        _fail("stopped", said, 128 + stop.number, show=lambda: click.echo(said, err=True))
    except Exception as error:
        if (short := scarce(error)) is not None:
            _fail(MissingError.kind, short, MissingError.exit_code)
        if not isinstance(error, OSError):
            raise
        where = f"{error.filename!r}: " if error.filename is not None else ""  # of a disk or a path that nobody foresaw
        _fail(RunError.kind, f"{where}{error.strerror or error}", RunError.exit_code)


def _fail(
    kind: str, message: str, code: int, argument: str | None = None, show: Callable[[], object] | None = None
) -> NoReturn:
    """End with an error. stderr gets its message; where --format json is given, one line of JSON, and nothing else is shown of it."""
    given = itertools.takewhile(lambda word: word != "--", sys.argv[1:])
    if re.search(r"(?<!\S)--format[ =]json(?!\S)", " ".join(given)):
        fields = {"kind": kind, "message": message, "argument": argument, "exit_code": code}
        click.echo(json.dumps({"error": fields}), err=True)
    elif show is not None:
        show()
    else:
        click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _unraisable(what: Any) -> None:
    """Python can only print some errors. One for want of memory is left out: the error of what failed says it already."""
    if not isinstance(what.exc_value, MemoryError):
        sys.__unraisablehook__(what)


def scarce(error: BaseException | None) -> str | None:
    """What the machine has too little of, and what to do, where an error or what caused it says so; None for any other."""
    while error is not None:
        text, number = str(error).lower(), error.errno if isinstance(error, OSError) else None
        if number in (errno.EMFILE, errno.ENFILE) or any(words in text for words in _NO_FILES):
            return FEW_FILES
        if number == errno.EAGAIN or any(words in text for words in _NO_THREADS):
            return "no more threads or processes can be started here; give fewer --threads, or raise `ulimit -u`"
        if isinstance(error, MemoryError) or number == errno.ENOMEM or any(words in text for words in _NO_MEMORY):
            return "not enough memory; give fewer --threads, smaller batches or videos, or use a machine with more"
        error = error.__cause__ or error.__context__
    return None


_NO_FILES = ("too many open files", "no file descriptors", "items of ancdata")
_NO_THREADS = ("can't start new thread", "cannot create thread", "resource temporarily unavailable")
_NO_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "unable to allocate", "allocation error", "out of memory", "bad_alloc",
    "failed to map segment", "cannot create decompression context", "not enough memory", "unable to mmap",
    "could not execute a primitive", "could not create a primitive", "error return without exception set",
)  # fmt: skip


TYPED, _SAID, _PARAMS = "vpngen.typed", "vpngen.said", "vpngen.params"
MEANT = {"--videos": ("--root", "--indices"), "--workers": ("--num-workers", "--threads")}
"""What people type, whose nearest word is another -> the options that may be meant."""
TRAINING = ("av", "matplotlib", "safetensors", "tensorboard", "torch")
"""Packages that come with the extra `train`."""


def word_of(param: click.Parameter) -> str:
    """What a command calls an argument or an option."""
    return (
        param.opts[-1] if isinstance(param, click.Option) else (param.metavar or str(param.name).upper()).strip("[].")
    )


@contextlib.contextmanager
def needs_extras() -> Iterator[None]:
    """A package of the extra `train` that cannot be imported is said. Raises MissingError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (name := (error.name or "").partition(".")[0]) not in TRAINING:
            raise
        raise MissingError(f"{name} is not installed; give: pip install 'vpngen[train]'") from None


class _Help:
    """The examples of a docstring are shown line by line, as they stand."""

    help: str | None

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        if self.help is not None:
            self.help = inspect.cleandoc(self.help).replace("Examples:\n", "\b\nExamples:\n")


class Command(_Help, click.Command):
    """A command that lists its options in sections, and speaks of its arguments as they are typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; they also say which options there are."""
        ctx.meta[TYPED] = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = {word for p in self.get_params(ctx) for word in p.opts}
            meant = " or ".join(repr(word) for word in MEANT.get(error.option_name, ()) if word in known)
            if not meant:
                raise
            text = f"No such option {error.option_name!r}. Did you mean {meant}?"
            raise click.NoSuchOption(error.option_name, text, ctx=ctx) from None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its arguments and options, those that `OptionsOf` stands for among them."""
        if _PARAMS not in ctx.meta:
            typed = *ctx.meta.get(_SAID, ()), *ctx.meta.get(TYPED, ())
            own = [p.made(typed) if isinstance(p, OptionsOf) else [p] for p in super().get_params(ctx)]
            ctx.meta[_PARAMS] = list(itertools.chain.from_iterable(own))
        found: list[click.Parameter] = ctx.meta[_PARAMS]
        return found

    def hear(self, ctx: click.Context, words: Iterable[str]) -> None:
        """From now on these say which options there are, before what is typed."""
        ctx.meta[_SAID] = tuple(words)
        ctx.meta.pop(_PARAMS, None)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options: those of the command, then those of each section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                section = param.section if isinstance(param, SectionOption) else "Options"
                sections.setdefault(section, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that names an argument of the library names the option instead."""
        try:
            with needs_extras():
                return super().invoke(ctx)
        except ArgumentError as error:
            typed: dict[str | None, str] = {}  # what the library calls an argument -> what the command calls it
            for p in self.get_params(ctx):
                typed |= dict.fromkeys((p.name, p.opts[-1].lstrip("-").replace("-", "_")), word_of(p))
            typed.setdefault("path", typed.get("out") or typed.get("store_path", "path"))
            typed.setdefault("store", typed.get("store_path", "store"))
            if ctx.params.get("show_d") is not None:
                typed["temporal"] = "--show-d"
            raise ArgumentError(error.problem, typed.get(error.argument, error.argument), error.value) from error


class SectionOption(click.Option):
    """An option that help lists in a section of its own."""

    def __init__(self, *args: Any, section: str, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.section = section


class OptionsOf(click.Option):
    """Stands for options that `made` makes, of the arguments typed, once a command is used."""

    def __init__(self, *args: Any, made: Callable[[tuple[str, ...]], list[click.Parameter]], **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.made = made


class Group(_Help, click.Group):
    """Commands in the order in which one meets them."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(self.commands)


@click.group(
    cls=Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
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


# --- options


def whole(text: str) -> int:
    """An integer in the digits 0 to 9. Raises ValueError."""
    return int(_plain(text))


def real(text: str) -> float:
    """A number in the digits 0 to 9. Raises ValueError."""
    return float(_plain(text))


def _plain(text: str) -> str:
    if not text.isascii() or "_" in text:  # which Python would take
        raise ValueError(text)
    return text


class Whole(click.types.IntParamType):
    """The type of an option that takes an integer from `least` to `most`; None for no limit. See `whole`."""

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The integer. Raises BadParameter."""
        try:
            number = whole(value) if isinstance(value, str) else int(value)
        except ValueError:
            self.fail(f"{shown(value, 40)} is not a valid integer, in digits from 0 to 9.", param, ctx)
        least, most = self.least, self.most
        if (least is not None and number < least) or (most is not None and number > most):
            limits = f"x>={least}" if most is None else f"{least}<=x<={most}"
            self.fail(f"{shown(number, 40)} is not in the range {limits}.", param, ctx)
        return number


class LocalPath(click.Path):
    """The type of whatever takes a path of this machine.

    `~` and `~user` are home folders, in quotes and behind `=` too, where shells leave them as they are; a folder of that name is
    `./~`. In Python a path is what it says.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter, and ArgumentError for a URL."""
        if isinstance(value, str):
            local(value, "path" if param is None else word_of(param))
        if isinstance(value, str) and value.startswith("~"):
            given, value = value, os.path.expanduser(value)
            if value == given:
                user = given.partition(os.sep)[0][1:]
                whose = f"there is no user {shown(user, 40)} here" if user else "nothing says where your home folder is"
                self.fail(
                    f"{shown(given)}: {whose}; give the whole path, or {quoted(f'./{given}')} for what is called so.",
                    param,
                    ctx,
                )
        return super().convert(value, param, ctx)


class StorePath(LocalPath):
    """The type of what takes a store: a path of this machine, or a URL. `place` gives what it names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or the URL. Raises BadParameter."""
        return value if isinstance(value, str) and url_of(value) is not None else super().convert(value, param, ctx)


def _storage_options(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
    pairs = [value.partition("=") for value in values]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:  # without the values: they may be secret
        raise click.BadParameter(f"{shown(wrong[0], 40)} is not NAME=VALUE, such as region=eu-central-1.", ctx, param)
    ctx.meta[_STORAGE] = {name: value for name, _, value in pairs}


_STORAGE: Final = "vpngen.storage_options"
storage_option = click.option(
    "--storage-option",
    multiple=True,
    metavar="NAME=VALUE",
    expose_value=False,
    callback=_storage_options,
    help="Of a URL, as obstore names it: endpoint, region, allow_http. What is not given comes from the environment.",
)


def storage_options() -> dict[str, str]:
    """Those of the command that runs."""
    found: dict[str, str] = click.get_current_context().meta.get(_STORAGE, {})
    return found


def no_storage_options() -> None:
    """Raise ArgumentError where some are given to a command that reads no store."""
    if storage_options():
        raise ArgumentError("is of the URL of a store, and none is given", "--storage-option")


def place(path: str | Path) -> Place:
    """The place of a store that a command takes, with its storage options. Raises as `place_of`."""
    from vpngen.store.places import place_of

    with renamed(storage_options="--storage-option"):
        return place_of(path, storage_options())


class OutFile(LocalPath):
    """The type of an option that takes a file to write."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter."""
        if isinstance(value, str) and value.endswith(os.sep):
            self.fail(f"{shown(value)} names a folder; give a file.", param, ctx)
        return super().convert(value, param, ctx)


class Real(click.types.FloatParamType):
    """The type of an option that takes a number; see `real`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises BadParameter."""
        try:
            return real(value) if isinstance(value, str) else float(value)
        except ValueError:
            self.fail(f"{shown(value, 40)} is not a valid float, in digits from 0 to 9.", param, ctx)


def reader(read: Callable[[str], Any], form: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that reads what is given; where `read` raises ValueError, `form` says what it must be."""

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else read(value)
        except ValueError:
            raise click.BadParameter(f"{shown(value)} must be {form}", ctx, param) from None

    return parse


def numbers(kind: Callable[[str], Any], what: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that reads what is given between commas, as `kind`; `what` says in an error what it should be."""
    return reader(lambda value: tuple(map(kind, value.split(","))), f"{what} separated by commas")


def digits(value: str, sign: str, count: int) -> tuple[int, ...]:
    """So many whole numbers, as people type them, with signs between them. Raises ValueError."""
    if not re.fullmatch(sign.join([r"[0-9]+"] * count), value):
        raise ValueError(value)
    return tuple(map(int, value.split(sign)))


shape_of = reader(lambda value: digits(value.lower(), "x", 3), "FRAMESxHEIGHTxWIDTH, such as 240x240x240")


def _word_or_integers(value: str) -> str | tuple[int, ...]:
    """A word is left to the library to judge; anything with a digit is a list of numbers."""
    return tuple(map(whole, value.split(","))) if any(c.isdigit() for c in value) else value


def _factors(value: str) -> tuple[tuple[str, float], ...]:
    """NAME=X between commas. Raises ValueError."""
    pairs = [part.split("=") for part in value.split(",")]
    return tuple((name, real(factor)) for name, factor in pairs)


def share(text: str) -> float:
    """A number, or one divided by another, such as 1/8. Raises ValueError."""
    above, sign, below = text.partition("/")
    if not sign:
        return real(text)
    if not whole(below):
        raise ValueError(text)
    return whole(above) / whole(below)


_KINDS: dict[str, dict[str, Any]] = {
    "int": {"type": Whole()},
    "float": {"type": Real()},
    "Path": {"type": LocalPath(), "metavar": "FOLDER"},
    "Shape": {"callback": shape_of, "metavar": "TxHxW"},
    "tuple[int, ...]": {"callback": numbers(whole, "whole numbers"), "metavar": "N,..."},
    "tuple[float, ...]": {"callback": numbers(real, "numbers"), "metavar": "X,..."},
    "Scales": {"callback": reader(_factors, "factors by name, such as head=10,layer4=0.5"), "metavar": "NAME=X,..."},
    "tuple[float, float, float]": {"callback": numbers(real, "three numbers"), "metavar": "R,G,B"},
    WORD_OR_INTEGERS: {
        "callback": reader(_word_or_integers, "a name, or whole numbers separated by commas"),
        "metavar": "NAME|N,...",
    },
}
"""Annotation of a field -> how its option reads a value."""


def field_options(
    fields: Iterable[Field], cls: type[click.Option] = click.Option, **more: Any
) -> list[click.Parameter]:
    """An option for each field of a dataclass, None unless it is given; `cls` and `more` say of which kind."""
    options: list[click.Parameter] = []
    for field in fields:
        word, kind, value = field.name.replace("_", "-"), field.type.removesuffix(" | None"), field.default
        if isinstance(value, tuple):
            value = ("x" if kind == "Shape" else ",").join(map(str, value))
        elif isinstance(value, bool):
            value = f"{'' if value else 'no-'}{word}"
        shown = dict(_KINDS.get(kind, {}))
        if kind == "str" and field.choices:
            shown["type"] = click.Choice(field.choices)
        elif field.choices:
            shown["shell_complete"] = complete(*field.choices)
        if field.metavar is not None:
            shown["metavar"] = field.metavar
        unsaid = value is dataclasses.MISSING or value in (None, "")
        shown["help"] = field.help if unsaid else f"{field.help}  [default: {value}]"
        names = [f"--{word}/--no-{word}" if kind == "bool" else f"--{word}", field.name]
        options.append(cls(names, default=None, **shown, **more))
    return options


def complete(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What completes an option that takes one of these words."""
    return lambda ctx, param, incomplete: [word for word in words if word.startswith(incomplete)]


def _backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from vpngen.backends import BACKENDS

    return complete("auto", *BACKENDS)(ctx, param, incomplete)


def _backend(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """The name of a backend, also where none is needed."""
    from vpngen.backends import known

    with renamed(backend="--backend"):
        return known(name)


def bundle(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""
    return lambda function: functools.reduce(lambda made, decorator: decorator(made), reversed(decorators), function)


format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or machines: an error, too, is a line of JSON then, on stderr."
)  # fmt: skip
backend_option = click.option(
    "--backend", metavar="NAME", default="auto", show_default=True, shell_complete=_backends, callback=_backend,
    help="One that `vpngen doctor` lists, or auto: the fastest here.",
)  # fmt: skip
threads_option = click.option("--threads", type=Whole(), help="CPU threads.  [default: all CPUs]")


def show(form: str, fields: dict[str, Any], text: str) -> None:
    """Print what was found, for people or machines."""
    click.echo(json.dumps(fields, indent=1) if form == "json" else text)


Row = tuple[str, str, dict[str, Any]]
"""What is found, in one line: its name and text for people, and its fields for machines."""


def report(form: str, rows: list[Row]) -> None:
    """Print what was found, for people or machines."""
    show(form, fields_of(rows), table([(name, text) for name, text, _ in rows if name]))


def fields_of(rows: list[Row]) -> dict[str, Any]:
    """The fields of all rows."""
    return {key: value for _, _, fields in rows for key, value in fields.items()}


def table(rows: list[tuple[str, str]]) -> str:
    """Names and values, aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

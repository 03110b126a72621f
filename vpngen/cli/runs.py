"""Folders of runs, as the command line takes them: which weights they hold, and with which options a run goes on."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from vpngen import files
from vpngen.cli import base
from vpngen.cli.dataset import DatasetOption
from vpngen.errors import ArgumentError, ConflictError, plain, quoted

STAGES: Final = ("train", "finetune")
MOST: Final = 1000
"""Commands of a run that are looked at, the last ones."""
MOST_WORDS: Final = 2**16
"""Characters of each."""
RESUMES: Final = " It goes on from its last checkpoint when the same command is given again."
_NAME: Final = re.compile(r"split([0-9]{1,20})-seed([0-9]{1,20})")


def run_name(split: int, seed: int) -> str:
    """The folder of one run of several."""
    return f"split{split}-seed{seed}"


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder that `vpngen finetune` made for several splits or seeds, in its order; none in any other."""
    if not folder.is_dir() or any((folder / name).exists() for name in ("run.json", "weights.safetensors")):
        return []
    found = [
        (int(name[2]), int(name[1]), folder / name[0]) for name in map(_NAME.fullmatch, os.listdir(folder)) if name
    ]
    return [path for *_, path in sorted(found) if path.is_dir()]


def runs_of(paths: Iterable[Path]) -> list[Path]:
    """Paths, with the runs in a folder, see `runs_in`, in its place."""
    return [run for path in paths for run in runs_in(path) or [path]]


def one_run(path: Path) -> Path:
    """A path, if it holds no more than one run. Raises ArgumentError."""
    if runs := runs_in(path):
        raise ArgumentError(
            f"{str(path)!r} holds the runs of several splits or seeds; give one of them, such as {quoted(runs[0])}"
        )
    return path


def weights_of(path: Path) -> Path:
    """The file of weights that is given, by itself or by the folder of its run. Raises ArgumentError where that has none."""
    if not one_run(path).is_dir():
        return path
    weights = path / "weights.safetensors"
    if not weights.exists() and (stage := _about(path).get("command")) in STAGES:
        raise ArgumentError(f"the run in {str(path)!r} has not ended; go on with: vpngen {stage} {quoted(path)}")
    return weights


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    ctx = click.get_current_context()
    words = ["vpngen"]
    if os.path.basename(sys.argv[0]) == "__main__.py" or shutil.which("vpngen") is None:
        size = os.environ.get("LOCAL_WORLD_SIZE")
        words = [*(["torchrun", "--nproc-per-node", size] if size else [sys.executable]), "-m", "vpngen"]
    return shlex.join([*words, str(ctx.info_name), *ctx.meta[base.TYPED]])


def advice() -> str:
    """How a run that was stopped goes on."""
    nodes = os.environ.get("WORLD_SIZE") != os.environ.get("LOCAL_WORLD_SIZE")
    if nodes or "-" in click.get_current_context().params.get("spec_files", ()):  # what stdin gave is gone
        return RESUMES
    return f" Go on from the last checkpoint with: {plain(command_line())}"


class RunCommand(base.Command):
    """A command whose first argument is the folder of a run. One that exists goes on with its own options, where no others are given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; what they leave open is as the run was begun. Raises ConflictError."""
        ctx.meta[base.TYPED] = tuple(args)
        if ctx.resilient_parsing or {"-h", "--help"} & {*args}:
            return super().parse_args(ctx, args)
        self.hear(ctx, self._heard(ctx, args))
        try:
            given = self._typed(ctx, args)
        except click.UsageError:
            return super().parse_args(ctx, args)  # which says so
        told = {}
        if "out" in given:
            param = next(p for p in self.get_params(ctx) if p.name == "out")
            out = Path(param.type.convert(given["out"], param, ctx))
            told = self._of_run(ctx, out)
            told = {name: value for name, value in self._joined(ctx, told, given).items() if name not in given}
        ctx.default_map = told
        try:
            rest = super().parse_args(ctx, args)
        except click.BadParameter as error:
            if error.param is None or error.param.name not in told:
                raise
            raise ConflictError(f"{str(out / 'run.json')!r} is damaged: {error.format_message()}") from None
        if told and os.environ.get("RANK", "0") == "0":
            click.echo(plain(f"{click.format_filename(out)} goes on with {self._words(ctx, told)}"), err=True)
        return rest

    def _heard(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The words of the commands of the run that goes on: of a task that they name, they have options of its own."""
        parser, words = self.make_parser(ctx), list[str]()
        parser.ignore_unknown_options = True
        with contextlib.suppress(click.UsageError):
            values, *_ = parser.parse_args(list(args))
            param = next(p for p in self.get_params(ctx) if p.name == "out")
            out = Path(param.type.convert(values["out"], param, ctx)) if isinstance(values["out"], str) else None
            for line, _ in _commands(_about(out)) if out is not None else ():
                with contextlib.suppress(ValueError):  # `_told` says so
                    words += shlex.split(line) if "--task" in line and len(line) <= MOST_WORDS else ()
        return words

    def _typed(self, ctx: click.Context, args: list[str]) -> dict[str, Any]:
        """The options that are given, by name, as they are typed."""
        values, *_ = self.make_parser(ctx).parse_args(list(args))
        return {name: value for name, value in values.items() if isinstance(value, (str, bool, list))}

    def _of_run(self, ctx: click.Context, out: Path) -> dict[str, Any]:
        """The options with which a run, or those of several splits and seeds, were begun and went on."""
        if not (runs := runs_in(out)):
            own, about = self._told(ctx, out)
            source = about.get("source")
            if self.name == "finetune" and own and isinstance(source, dict):  # its command may have begun others too
                its = {"split": source.get("split"), "seed": about.get("seed")}
                own |= {name: str(number) for name, number in its.items() if isinstance(number, int)}
            return own
        found = [self._told(ctx, run)[0] for run in runs]
        return max(found, key=lambda one: [str(one.get(name, "")).count(",") for name in ("seed", "split")])

    def _told(self, ctx: click.Context, run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of the commands of a run, and what its run.json says. It may be a stranger's, and is no more than words here."""
        about, told = _about(run), dict[str, Any]()
        if (stage := about.get("command")) in STAGES and stage != self.name:
            remedy = f"go on with: vpngen {stage} {quoted(run)}, or give another folder"
            raise ConflictError(f"{str(run)!r} holds a run of `vpngen {stage}`; {remedy}")
        for line, folder in _commands(about):
            try:
                if len(line) > MOST_WORDS:
                    raise ValueError("a command is too long")
                words = shlex.split(line)
                given = self._typed(ctx, words[words.index(str(self.name)) + 1 :])
            except (ValueError, click.UsageError) as error:
                why = error.format_message() if isinstance(error, click.UsageError) else error
                raise ConflictError(
                    f"{str(run / 'run.json')!r} is damaged, or of another vpngen: {why}; move it away"
                ) from None
            paths = {p.name for p in self.get_params(ctx) if isinstance(p.type, click.Path)} & {*given}
            given |= {name: _from(folder, given[name]) for name in paths}
            told = self._joined(ctx, told if "out" in given else {}, given) | given
        return {name: value for name, value in told.items() if name not in ("form", "help", "out")}, about

    def _joined(self, ctx: click.Context, told: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run that others leave to it: who says what the set is, or where weights come from, says all of it."""
        left = {"path", *(str(p.name) for p in self.get_params(ctx) if isinstance(p, DatasetOption))}
        leave = {"spec_files": left, "path": left, "preset": left, "init_from": {"inflate"}, "inflate": {"init_from"}}
        gone = {one for name, rest in leave.items() if name in given and name not in told for one in rest}
        kept = {name: value for name, value in told.items() if name not in gone}
        if "-" in kept.get("spec_files", ()) and "spec_files" not in given:
            raise ArgumentError("of the run came from stdin; give it again", "--spec")
        return kept

    def _words(self, ctx: click.Context, told: Mapping[str, Any]) -> str:
        """Options as a shell takes them."""
        words = []
        for param in self.get_params(ctx):
            value = told.get(str(param.name))
            if isinstance(value, bool):
                words.append((param.opts if value else param.secondary_opts)[-1])
            for one in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
                words += [param.opts[0], one]
        return shlex.join(words)


def _about(run: Path) -> dict[str, Any]:
    return files.read_object(run / "run.json")


def _commands(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The commands that a run.json tells of, and the folder that each was given in; what Python began has none."""
    found, entries = [], about.get("commands")
    for entry in entries[-MOST:] if isinstance(entries, list) else ():
        line, folder = (entry.get("command"), entry.get("folder")) if isinstance(entry, dict) else (None, None)
        if isinstance(line, str) and isinstance(folder, str):
            found.append((line, folder))
    return found


def _from(folder: str, paths: str | list[str]) -> Any:
    """What a path meant, or several, where a command was given in a folder."""
    if isinstance(paths, list):
        return [_from(folder, path) for path in paths]
    return paths if folder == os.getcwd() or paths[:1] in ("~", "-") else os.path.join(folder, paths)

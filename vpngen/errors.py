"""The four kinds of error a user can meet, and the exit code the command line gives each.

Every message names the argument, its value, what is allowed, and what to do about it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator


def shown(value: object, most: int = 400) -> str:
    """How a value looks in a message, cut short: those of others may be long, deep, or integers of any length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a long {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


_UNPRINTABLE = re.compile(r"\n(?!  )|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """A message as it may go to a terminal: names of strangers in it cannot colour, move or begin a line. Ours are indented."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def quoted(path: object) -> str:
    """A path or URL as a command of the shell takes it, whatever its characters."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class VpngenError(Exception):
    """Base of all errors raised on purpose by vpngen; `exit_code` is what the command line exits with, `kind` a word for it."""

    exit_code = 1
    kind = "run"

    def __str__(self) -> str:
        return plain(super().__str__())


class ArgumentError(VpngenError, ValueError):
    """An argument that cannot be honoured: wrong value, wrong type, or a combination that makes no sense.

    >>> print(ArgumentError("must be at least 1", "epochs", 0))
    `epochs` (=0) must be at least 1

    Attributes:
        problem: what is wrong, what is allowed, what to do; it follows the name and the value in the message.
        argument: the name of the argument; None where no single one is at fault.
        value: what was given; `...` where the message shows none.
    """

    exit_code = 2
    kind = "argument"

    def __init__(self, problem: str, argument: str | None = None, value: object = ...) -> None:
        super().__init__(problem, argument, value)
        self.problem, self.argument, self.value = problem, argument, value

    def __str__(self) -> str:
        if self.argument is None:
            return plain(self.problem)
        value = os.fspath(self.value) if isinstance(self.value, os.PathLike) else self.value
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            value = value.item()  # of NumPy and torch
        return plain(f"`{self.argument[:100]}`{'' if value is ... else f' (={shown(value)})'} {self.problem}")


@contextlib.contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Errors name arguments as the caller knows them: `names` maps those of the functions called to its own."""
    try:
        yield
    except ArgumentError as error:
        raise ArgumentError(error.problem, names.get(error.argument or "", error.argument), error.value) from error


class ConflictError(VpngenError):
    """What is stored contradicts what was asked for; nothing of it was changed."""

    exit_code = 3
    kind = "conflict"


class MissingError(VpngenError):
    """A part of the machine is missing: a backend, an optional package, or disk space."""

    exit_code = 4
    kind = "missing"


class RunError(VpngenError):
    """A run that started well and failed: a full disk, damaged data found by `verify`."""

    exit_code = 1


class UnreachableError(RunError):
    """A server that does not answer."""

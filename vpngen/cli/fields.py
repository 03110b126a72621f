"""Options made from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import click

from vpngen.cli.base import complete, numbers, shape_of
from vpngen.fields import WORD_OR_INTEGERS, Field


def _word_or_integers(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A word is left to the library to judge; anything with a digit is a list of numbers."""
    if value is None or not any(c.isdigit() for c in value):
        return value
    return numbers(int, "a name, or whole numbers")(ctx, param, value)


_KINDS: dict[str, dict[str, Any]] = {
    "int": {"type": int},
    "float": {"type": float},
    "Path": {"type": click.Path(), "metavar": "FOLDER"},
    "Shape": {"callback": shape_of, "metavar": "TxHxW"},
    "tuple[int, ...]": {"callback": numbers(int, "whole numbers"), "metavar": "N,..."},
    "tuple[float, ...]": {"callback": numbers(float, "numbers"), "metavar": "X,..."},
    "tuple[float, float, float]": {"callback": numbers(float, "three numbers"), "metavar": "R,G,B"},
    WORD_OR_INTEGERS: {"callback": _word_or_integers, "metavar": "NAME|N,..."},
}
"""Annotation of a field -> how its option reads a value."""


def field_options(
    fields: Iterable[Field], cls: type[click.Option] = click.Option, **more: Any
) -> list[click.Parameter]:
    """An option for each field, None unless it is given; `cls` and `more` say of which kind."""
    return [cls(_names(f), default=None, **_reads(f), **more) for f in fields]


def _names(field: Field) -> list[str]:
    word = field.name.replace("_", "-")
    return [f"--{word}/--no-{word}" if field.type == "bool" else f"--{word}", field.name]


def _reads(field: Field) -> dict[str, Any]:
    """What the option of a field shows, and how it reads a value."""
    value = field.default
    if isinstance(value, tuple):
        value = ("x" if field.type == "Shape" else ",").join(map(str, value))
    elif isinstance(value, bool):
        value = f"{'' if value else 'no-'}{field.name.replace('_', '-')}"
    unsaid = value is dataclasses.MISSING or value in (None, "")
    shown: dict[str, Any] = {"help": field.help if unsaid else f"{field.help}  [default: {value}]"}
    kind = field.type.removesuffix(" | None")
    if kind == "str" and field.choices:
        return shown | {"type": click.Choice(field.choices)}
    shown |= _KINDS.get(kind, {})
    if field.choices:
        shown["shell_complete"] = complete(*field.choices)
    return shown if field.metavar is None else shown | {"metavar": field.metavar}

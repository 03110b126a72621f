"""Options made from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import click

from vpngen.cli.base import numbers, shape_of
from vpngen.fields import Field

_KINDS: dict[str, dict[str, Any]] = {
    "int": {"type": int},
    "float": {"type": float},
    "str": {},
    "Shape": {"callback": shape_of, "metavar": "TxHxW"},
    "tuple[int, ...]": {"callback": numbers(int, "whole numbers"), "metavar": "N,..."},
    "tuple[float, ...]": {"callback": numbers(float, "numbers"), "metavar": "X,..."},
    "tuple[float, float, float]": {"callback": numbers(float, "three numbers"), "metavar": "R,G,B"},
}
"""Annotation of a field -> how its option reads a value."""


def field_options(
    fields: Iterable[Field], cls: type[click.Option] = click.Option, **more: Any
) -> Iterable[Callable[[Any], Any]]:
    """An option for each field, None unless it is given; `cls` and `more` go to `click.option`."""
    for f in fields:
        word = f.name.replace("_", "-")
        shown = f"{f.help}{_default(f)}"
        if f.type == "bool":
            yield click.option(f"--{word}/--no-{word}", f.name, default=None, cls=cls, help=shown, **more)
            continue
        kind: dict[str, Any] = (
            {"type": click.Choice(f.choices)} if f.choices else dict(_KINDS[f.type.removesuffix(" | None")])
        )
        if f.metavar is not None:
            kind["metavar"] = f.metavar
        yield click.option(f"--{word}", f.name, default=None, cls=cls, help=shown, **kind, **more)


def _default(field: Field) -> str:
    if field.default is dataclasses.MISSING or field.default is None:
        return ""
    if isinstance(field.default, bool):
        word = field.name.replace("_", "-")
        return f"  [default: {word if field.default else f'no-{word}'}]"
    if field.type == "Shape":
        return f"  [default: {'x'.join(map(str, field.default))}]"
    shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"  [default: {shown}]"

"""Fields of a frozen dataclass that say what they mean, so that help, options and documents are made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Final, NamedTuple

WORD_OR_INTEGERS: Final = "str | tuple[int, ...]"
"""The type of a field that takes a word or integers."""


class Field(NamedTuple):
    """What people need to know of a field.

    Attributes:
        name: as it is in Python; the option is `--` and the name with hyphens.
        type: its annotation, as text.
        default: its value where nothing is given; `dataclasses.MISSING` where there is none.
        help: one sentence.
        choices: the words that it takes, alone or beside numbers as the type says; empty for any value of its type.
        metavar: what stands for the value in help, such as N,...; None for what is usual for the type.
    """

    name: str
    type: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None


def field(
    default: Any = dataclasses.MISSING, help: str = "", *, choices: Collection[str] = (), metavar: str | None = None
) -> Any:
    """A dataclass field with its help; without help no option is made of it."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": tuple(choices), "metavar": metavar})


def keep(value: Any, **fields: Any) -> None:
    """Put `fields` in place of those of a frozen dataclass, whose `__post_init__` has checked them."""
    for name, field in fields.items():
        object.__setattr__(value, name, field)


def described(cls: type) -> list[Field]:
    """The fields of a dataclass that have help, in their order."""
    fields = [f for f in dataclasses.fields(cls) if f.metadata.get("help")]
    return [Field(f.name, str(f.type), f.default, **f.metadata) for f in fields]

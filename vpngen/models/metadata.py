"""What a file says of itself: plain values of a few levels, and the fields that anybody looks at, each of its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vpngen import checks
from vpngen.checks import SEEDS
from vpngen.errors import ConflictError
from vpngen.models import MODELS
from vpngen.models.base import MOST, find

MOST_LEVELS: Final = 64
MOST_VALUES: Final = 2**18
PLAIN: Final = (str, int, float, bool, type(None))

Rule = Any
"""A type or several; [a rule] for a list; {name: rule} for fields that may be there, and not be None; `Every`; or a function that says whether a value
will do."""


@dataclass(frozen=True)
class Every:
    """A dictionary of any names, of values that have a rule."""

    rule: Rule


def within(least: int, most: int) -> Callable[[Any], bool]:
    """The rule of an integer from `least` to `most`."""
    return lambda value: checks.is_integer(value) and least <= value <= most


def _three(value: Any) -> bool:
    return checks.is_list(value) and len(value) == 3 and all(map(checks.is_number, value))


def _option(value: Any) -> bool:
    """A plain value, or a list of them, or of lists of them."""
    level = [value]
    for _ in range(2):
        level = [each for one in level for each in (one if checks.is_list(one) else [one])]
    return all(isinstance(each, PLAIN) for each in level)


RULES: Final[dict[str, Rule]] = {
    "stage": str,
    "seed": within(0, SEEDS),
    "classes": [str],
    "model": {
        "name": lambda name: isinstance(name, str) and len(name) <= 200,
        "num_classes": within(1, MOST),
        "options": Every(_option),
    },
    "recipe": {"mean": _three, "std": _three},
    "task": {"weights": [checks.is_number]},
    "source": {
        "kind": str, "root": str, "annotations": str, "split": within(0, MOST), "val_fraction": checks.is_number,
        "spec": dict,
    },
    "file": str,
    "sha256": str,
}  # fmt: skip
"""Of metadata, and of that of their `parent`."""


def check(value: Any, rule: Rule, where: str) -> None:
    """That a value has its rule. Raises ValueError, which names the field."""
    good, inner = True, list[tuple[str, Any, Rule]]()
    if isinstance(rule, (type, tuple)):
        good = isinstance(value, rule) and not (isinstance(value, bool) and rule in (int, float))
    elif isinstance(rule, list):
        if good := isinstance(value, (list, tuple)):
            inner = [(f"{where}[{i}]", each, rule[0]) for i, each in enumerate(value)]
    elif isinstance(rule, Every):
        if good := isinstance(value, Mapping):
            inner = [(f"{where}.{name}", each, rule.rule) for name, each in value.items()]
    elif isinstance(rule, Mapping):
        if good := isinstance(value, Mapping):
            inner = [
                (f"{where}.{name}", value[name], each) for name, each in rule.items() if value.get(name) is not None
            ]
    else:
        good = rule(value)
    if not good:
        shown = repr(value)[:40] if isinstance(value, PLAIN) else f"a {type(value).__name__}"
        raise ValueError(f"`{where.lstrip('.')[:80]}` cannot be {shown}")
    for each in inner:
        check(each[1], each[2], each[0])


def plain(value: Any) -> None:
    """That a value is what JSON can hold, of a bounded depth and size. Raises ValueError."""
    left, level = MOST_VALUES, [value]
    for _ in range(MOST_LEVELS):
        below = list[Any]()
        for each in level:
            if isinstance(each, Mapping):
                if not all(isinstance(key, str) for key in each):
                    raise ValueError("a name in its metadata is no text")
                below += each.values()
            elif isinstance(each, (list, tuple)):
                below += each
            elif not isinstance(each, PLAIN):
                raise ValueError(f"its metadata hold a {type(each).__name__}")
            if len(below) > left:
                raise ValueError(f"its metadata hold more than {MOST_VALUES:,} values")
        left -= len(below)
        level = below
        if not level:
            return
    raise ValueError(f"its metadata have more than {MOST_LEVELS} levels")


def check_about(metadata: Any) -> None:
    """That metadata, and those of what they come from, are such as anybody may look at. Raises ValueError, which names the field."""
    check(metadata, dict, "metadata")
    plain(metadata)
    about, where = metadata, ""
    while about:
        check(about, RULES, where)
        model = about.get("model") or {}
        if model.get("name") in MODELS:
            network, _ = find(model["name"])
            options = model.get("options") or {}
            allowed = [field.name for field in dataclasses.fields(network.options)]
            checks.known("option", options, allowed, model["name"])
            network.options(**options)
        about, where = about.get("parent"), f"{where}.parent"
        check(about, (dict, type(None)), where)


def checked(path: Path, metadata: Any) -> dict[str, Any]:
    """Metadata that a file gives, if they are such. Raises ConflictError, which names the file and the field."""
    try:
        check_about(metadata)
    except ValueError as error:  # ArgumentError is one as well
        raise ConflictError(
            f"what {str(path)!r} says of itself is damaged, or from a stranger: {error}; copy or make it again"
        ) from error
    return dict(metadata)

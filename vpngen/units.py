"""Small things that every layer may use: numbers for people, the CPUs at hand, public names that are imported late."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def number_text(value: float) -> str:
    """Three digits at least, never an exponent for large ones: 0.125, 12.3, 3,296."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def size_text(nbytes: float) -> str:
    """Bytes in decimal units, three digits: 1.81 TB."""
    units = iter(("B", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while nbytes >= 999.5 and unit != "EB":
        nbytes, unit = nbytes / 1000, next(units)
    return f"{number_text(nbytes)} {unit}"


def duration_text(seconds: float) -> str:
    """Seconds as the two largest units: 3 h 20 min."""
    whole = round(seconds)
    if whole < 1:
        return "under a second"
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def count_text(count: int, noun: str) -> str:
    """How many of something: 1 video, 3,296 videos, 16 categories."""
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else several}"


def usable_cpus() -> int:
    """The CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lazy(
    package: str, homes: Mapping[str, Collection[str]], submodules: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that costs nothing until a public name is used.

    `homes` maps its modules to the names they hold.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        elif name in submodules:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *home, *submodules})

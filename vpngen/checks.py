"""Checks of arguments: each takes a name and a value, and gives the value in its proper type or raises ArgumentError."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np

from vpngen.errors import ArgumentError
from vpngen.units import usable_cpus

Shape = tuple[int, int, int]
"""(t, y, x) of a video or clip: frames, height and width in pixels."""
MAX_SIDE: Final = 2**16
"""The most frames, rows or columns of a video."""
SEEDS: Final = 2**64 - 1
"""The largest seed."""


def is_integer(value: Any) -> bool:
    """Whether `value` is an integer, of Python or NumPy, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an integer from `least` to `most`; None for no upper limit. Raises ArgumentError."""
    if not is_integer(value) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"must be an integer {allowed}", name, value)
    return int(value)


def is_list(values: Any) -> bool:
    """Whether `values` is a list, a tuple, or an array with one axis."""
    return isinstance(values, (tuple, list)) or (isinstance(values, np.ndarray) and values.ndim == 1)


def integers(name: str, values: Any, least: int, most: int) -> tuple[int, ...]:
    """`values`, a list, tuple or array, as integers from `least` to `most`. Raises ArgumentError."""
    if not is_list(values) or not all(is_integer(v) and least <= v <= most for v in values):
        raise ArgumentError(f"must be a list of integers from {least} to {most}", name, values)
    return tuple(map(int, values))


def thread_count(value: Any) -> int:
    """The argument `threads`, from 1 to 1024; None for all CPUs that this process may use. Raises ArgumentError."""
    return usable_cpus() if value is None else integer("threads", value, 1, 1024)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number, of Python or NumPy, and no truth value."""
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def number(name: str, value: Any, good: Callable[[float], bool], allowed: str) -> float:
    """`value` if it is a finite number and `good`; `allowed` says in an error what would be. Raises ArgumentError."""
    if not is_number(value) or not good(value):
        raise ArgumentError(f"must be a number {allowed}", name, value)
    return float(value)


def numbers(name: str, values: Any) -> tuple[float, ...]:
    """`values`, a list, tuple or array, as finite numbers. Raises ArgumentError."""
    if not is_list(values) or not all(map(is_number, values)):
        raise ArgumentError("must be a list of finite numbers", name, values)
    return tuple(map(float, values))


def flag(name: str, value: Any) -> bool:
    """`value`, if it is true or false. Raises ArgumentError."""
    if not isinstance(value, (bool, np.bool)):
        raise ArgumentError("must be true or false", name, value)
    return bool(value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """`value`, if it is one of the words that are `allowed`. Raises ArgumentError."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"must be one of {', '.join(allowed)}", name, value)
    return value


def shape(name: str, value: Any) -> Shape:
    """`value` as (frames, height, width), each from 1 to 65,536. Raises ArgumentError."""
    sides = value if isinstance(value, (tuple, list)) and len(value) == 3 else (0,)
    if not all(is_integer(side) and 1 <= side <= MAX_SIDE for side in sides):
        raise ArgumentError(f"must be (frames, height, width), integers from 1 to {MAX_SIDE}", name, value)
    t, y, x = map(int, value)
    return t, y, x


def three(name: str, value: Any) -> tuple[float, float, float]:
    """`value` as finite numbers of red, green and blue. Raises ArgumentError."""
    if not isinstance(value, (tuple, list)) or len(value) != 3 or not all(map(is_number, value)):
        raise ArgumentError("must be three numbers, of red, green and blue", name, value)
    red, green, blue = map(float, value)
    return red, green, blue


def known(name: str, given: Collection[str], allowed: Collection[str], of: str) -> None:
    """That the keyword arguments `given` are among those `allowed`; `of` is what takes them. Raises ArgumentError."""
    if unknown := sorted(set(given) - set(allowed)):
        raise ArgumentError(f"is no {name} of {of}; it has {', '.join(sorted(allowed)) or 'none'}", unknown[0])

"""The one list of backends, and the choice among them. Importing this imports none of them."""

from __future__ import annotations

import functools
import importlib

from vpngen.backends.base import Backend
from vpngen.errors import ArgumentError, MissingError

BACKENDS: dict[str, str] = {
    "numba": "vpngen.backends.cpu:Numba",
    "reference": "vpngen.backends.reference:Reference",
}
"""Name -> where it lives, fastest first: the order in which `auto` looks for one that runs here."""


@functools.cache
def load(name: str) -> Backend:
    """The backend of that name. Raises MissingError where this machine cannot run it."""
    module, cls = BACKENDS[name].split(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), cls)()
    except ImportError as error:
        raise MissingError(
            f"backend {name!r} needs the package {error.name or error}, which cannot be imported: {error}; "
            f"install it with: pip install {error.name or name}"
        ) from None
    return backend


def choose(name: str) -> Backend:
    """The backend of that name, or for `auto` the fastest one that this machine has.

    Raises:
        ArgumentError: no such backend.
        MissingError: the one asked for cannot run here; there is no silent fall-back.
    """
    if name == "auto":
        for candidate in BACKENDS:
            try:
                return load(candidate)
            except MissingError:
                continue
    if name not in BACKENDS:
        raise ArgumentError(f"`backend` (={name!r}) must be auto or one of {', '.join(BACKENDS)}")
    return load(name)


__all__ = ["BACKENDS", "Backend", "choose", "load"]

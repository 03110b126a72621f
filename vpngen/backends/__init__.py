"""The one list of backends, and the choice among them. Importing this imports none of them."""

from __future__ import annotations

import functools
import importlib
import os

from vpngen.backends.base import Backend
from vpngen.errors import ArgumentError, MissingError

BACKENDS: dict[str, str] = {
    "cuda": "vpngen.backends.cuda:Cuda",
    "numba": "vpngen.backends.cpu:Numba",
    "reference": "vpngen.backends.reference:Reference",
}
"""Name -> where it lives, fastest first: the order in which `auto` looks for one that runs here."""
WITH_DEVICES = ("cuda",)
"""Those that take the number of a device: cuda:1."""


def load(name: str) -> Backend:
    """The backend of that name, or name:device. Raises MissingError where this machine cannot run it."""
    return _load(name, os.getpid())


@functools.cache
def _load(name: str, process: int) -> Backend:
    base, _, device = name.partition(":")
    module, cls = BACKENDS[base].split(":")
    try:
        make = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise MissingError(
            f"backend {name!r} needs the package {error.name or error}, which cannot be imported: {error}; "
            f"install it with: pip install {error.name or name}"
        ) from None
    backend: Backend = make(int(device)) if device else make()
    return backend


@functools.cache
def _fastest(process: int) -> Backend:
    """The first of the list that runs in this process; asked again after a fork, which a card does not survive."""
    for candidate in BACKENDS:
        try:
            return load(candidate)
        except MissingError:
            continue
    raise MissingError(f"no backend runs here; vpngen has {', '.join(BACKENDS)}")


def choose(name: str) -> Backend:
    """The backend of that name, or for `auto` the fastest one that this machine has.

    Raises:
        ArgumentError: no such backend or device.
        MissingError: the one asked for cannot run here; there is no silent fall-back.
    """
    if name == "auto":
        return _fastest(os.getpid())
    base, colon, device = name.partition(":") if isinstance(name, str) else ("", "", "")
    numbered = base in WITH_DEVICES and device.isascii() and device.isdigit() and len(device) < 4
    if base not in BACKENDS or (colon and not numbered):
        raise ArgumentError(f"must be auto or one of {', '.join(BACKENDS)}, or cuda:N for card N", "backend", name)
    return load(name)


__all__ = ["BACKENDS", "Backend", "choose", "load"]

"""The one list of backends, and the choice among them. Importing this imports none of them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy.typing as npt

from vpngen.backends.base import Backend, Windows, kernels
from vpngen.errors import ArgumentError, MissingError
from vpngen.floats import F32
from vpngen.generators import Generator, Params, Pixels, Shape

BACKENDS: dict[str, str] = {
    "cuda": "vpngen.backends.cuda:Cuda",
    "numba": "vpngen.backends.cpu:Numba",
    "reference": "vpngen.backends.reference:Reference",
}
"""Name -> where it lives, fastest first: the order in which `auto` looks for one that runs here."""
WITH_DEVICES = ("cuda",)
"""Those that take the number of a device: cuda:1."""


class Auto(Backend):
    """Renders each generator with the fastest backend that runs here and has it: those of a mixture with several."""

    name: ClassVar[str] = "auto"

    def __init__(self, devices: bool) -> None:
        """With `devices`, those of `WITH_DEVICES` count too."""
        self.devices = devices

    def of(self, generator: str) -> Backend:
        """The backend for a generator. Raises MissingError."""
        return _fastest(tuple(n for n in BACKENDS if self.devices or n not in WITH_DEVICES), generator, os.getpid())

    def require(self, generator: str) -> None:
        """See `Backend.require`."""
        self.of(generator)

    def render(self, generator: str, params: Params, windows: Windows, out: Pixels, threads: int | None) -> None:
        """See `Backend.render`."""
        self.of(generator).render(generator, params, windows, out, threads)

    def render_device(self, generator: str, params: Params, windows: Windows, out: Any, shape: tuple[int, ...]) -> None:
        """See `Backend.render_device`."""
        self.of(generator).render_device(generator, params, windows, out, shape)

    def extremes(self, generator: str, params: Params, shape: Shape, threads: int | None) -> tuple[F32, F32]:
        """See `Backend.extremes`."""
        return self.of(generator).extremes(generator, params, shape, threads)

    def known(self, generator: Generator, *about: Any) -> npt.NDArray[Any]:
        """See `Backend.known`."""
        return self.of(generator.name).known(generator, *about)

    def videos(self, generator: str, params: Params, shape: Shape, threads: int | None) -> Iterator[Pixels]:
        """See `Backend.videos`."""
        return self.of(generator).videos(generator, params, shape, threads)


def load(name: str) -> Backend:
    """The backend of that name, or name:device; `auto` for the fastest for each generator, `cpu` for the fastest without a GPU.

    Raises:
        MissingError: this machine cannot run it.
    """
    return Auto(devices=name == "auto") if name in ("auto", "cpu") else _load(name, os.getpid())


@functools.cache
def _load(name: str, process: int) -> Backend:
    base, _, device = name.partition(":")
    module, cls = BACKENDS[base].split(":")
    try:
        make = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        problem = f"needs the package {error.name}, which cannot be imported: {error}; give: pip install {error.name}"
        raise MissingError(f"backend {name!r} {problem}") from None
    backend: Backend = make(int(device)) if device else make()
    return backend


@functools.cache
def _fastest(names: tuple[str, ...], generator: str, process: int) -> Backend:
    """The first that runs in this process and has the generator; asked again after a fork, which a GPU does not survive."""
    for name in names:
        with contextlib.suppress(MissingError):
            backend = load(name)
            backend.require(generator)
            return backend
    raise MissingError(f"no backend for the {generator} generator runs here; vpngen has {', '.join(names)}")


def known(name: str) -> str:
    """`name`, if there is such a backend, whether it runs here or not. Raises ArgumentError."""
    base, colon, device = name.partition(":") if isinstance(name, str) else ("", "", "")
    numbered = base in WITH_DEVICES and device.isascii() and device.isdigit() and len(device) < 4
    if name != "auto" and (base not in BACKENDS or (colon and not numbered)):
        raise ArgumentError(f"must be auto or one of {', '.join(BACKENDS)}, or cuda:N for GPU N", "backend", name)
    return name


def choose(name: str, generator: Generator | None = None) -> Backend:
    """The backend of that name; for `auto` the fastest one that this machine has for each generator.

    Args:
        name: `auto`, or one of `BACKENDS`, or cuda:N for GPU N.
        generator: what it must be able to render; None if that is not known yet.

    Raises:
        ArgumentError: no such backend or device.
        MissingError: the one asked for cannot run here, or not that generator; there is no silent fall-back.
    """
    backend = load(known(name))
    for _, member in generator.members() if generator is not None else ():
        backend.require(member.name)
    return backend


__all__ = ["BACKENDS", "Auto", "Backend", "choose", "kernels", "known", "load"]

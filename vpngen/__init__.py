"""vpngen: videos for training, made by formula. Video Perlin Noise as pixels, as sharded Zarr, as a stream.

The public names are listed here and imported when first used, so that `import vpngen` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError, VpngenError
    from vpngen.rendering import Window, render
    from vpngen.spec import Spec, mixed, perlin
    from vpngen.store import open, verify, write
    from vpngen.stream import ClipStream, loader
    from vpngen.systems import fractal
    from vpngen.train import create_model

_HOME = {
    "Spec": "spec",
    "perlin": "spec",
    "mixed": "spec",
    "fractal": "systems",
    "Window": "rendering",
    "render": "rendering",
    "write": "store",
    "open": "store",
    "verify": "store",
    "ClipStream": "stream",
    "loader": "stream",
    "create_model": "train",
    "VpngenError": "errors",
    "ArgumentError": "errors",
    "ConflictError": "errors",
    "MissingError": "errors",
    "RunError": "errors",
}

__all__ = [
    "ArgumentError", "ClipStream", "ConflictError", "MissingError", "RunError", "Spec", "VpngenError", "Window",
    "create_model", "fractal", "loader", "mixed", "open", "perlin", "render", "verify", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"vpngen.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'vpngen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

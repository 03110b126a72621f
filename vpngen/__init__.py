"""vpngen: videos for training, made by formula. Video Perlin Noise as pixels, as sharded Zarr, as a stream.

The public names are listed here and imported when first used, so that `import vpngen` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.units import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError, VpngenError
    from vpngen.executors import write
    from vpngen.models import create_model
    from vpngen.rendering import Window, motion, render
    from vpngen.sampling import Augment
    from vpngen.spec import Spec, clouds, drift, fractal, leaves, mixed, perlin
    from vpngen.store import open, verify
    from vpngen.stream import ClipStream, loader
    from vpngen.train import Recipe, fit

__all__ = [
    "ArgumentError", "Augment", "ClipStream", "ConflictError", "MissingError", "Recipe", "RunError", "Spec", "VpngenError",
    "Window", "clouds", "create_model", "drift", "fit", "fractal", "leaves", "loader", "mixed", "motion", "open", "perlin", "render",
    "verify", "write",
]  # fmt: skip

__getattr__, __dir__ = lazy(__name__, {
    "errors": ("ArgumentError", "ConflictError", "MissingError", "RunError", "VpngenError"),
    "models": ("create_model",),
    "rendering": ("Window", "motion", "render"),
    "sampling": ("Augment",),
    "spec": ("Spec", "clouds", "drift", "fractal", "leaves", "mixed", "perlin"),
    "store": ("open", "verify"),
    "stream": ("ClipStream", "loader"),
    "train": ("Recipe", "fit"),
    "executors": ("write",),
}, submodules=("datasets", "generators", "models", "sampling", "store", "stream", "tasks", "train"))  # fmt: skip

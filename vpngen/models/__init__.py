"""The one list of 3-D CNNs, and their weights. A new network is a new module here and a line in `MODELS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.models.base import create_model
    from vpngen.models.inflate import inflate
    from vpngen.models.parts import freeze, replace_head
    from vpngen.models.weights import load_weights, read_weights, save_reference, save_weights


def _depths(prefix: str, home: str, depths: Iterable[int]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {f"{prefix}{depth}": (home, {"depth": depth}) for depth in depths}


MODELS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    **_depths("r3d", "vpngen.models.resnet:ResNet", (10, 18, 34, 50, 101, 152, 200)),
    **_depths("r2p1d", "vpngen.models.resnet:R2Plus1D", (10, 18, 34, 50, 101, 152, 200)),
    **_depths("preact", "vpngen.models.resnet:PreActivation", (10, 18, 34, 50, 101, 152, 200)),
    **_depths("wide", "vpngen.models.resnet:Wide", (50,)),
    **_depths("resnext", "vpngen.models.resnet:ResNeXt", (50, 101, 152)),
    **_depths("densenet", "vpngen.models.densenet:DenseNet", (121, 169, 201, 264)),
}
"""Name -> where its `Network` is, as module:class, and what it takes beside the number of classes and the options."""

__all__ = [
    "MODELS",
    "create_model",
    "freeze",
    "inflate",
    "load_weights",
    "read_weights",
    "replace_head",
    "save_reference",
    "save_weights",
]

__getattr__, __dir__ = lazy(__name__, {
    "base": ("create_model",),
    "inflate": ("inflate",),
    "parts": ("freeze", "replace_head",),
    "weights": ("load_weights", "read_weights", "save_reference", "save_weights",),
})  # fmt: skip

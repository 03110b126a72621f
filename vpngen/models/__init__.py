"""The one list of 3-D CNNs, and their weights. A new network is a new module here and a line in `MODELS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.models.base import create_model, freeze, replace_head
    from vpngen.models.weights import inflate, load_weights, read_weights, save_reference, save_weights

_DEPTHS: Final = (10, 18, 34, 50, 101, 152, 200)
MODELS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    **{f"r3d{depth}": ("vpngen.models.resnet:ResNet", {"depth": depth}) for depth in _DEPTHS},
    **{f"r2p1d{depth}": ("vpngen.models.resnet:R2Plus1D", {"depth": depth}) for depth in _DEPTHS},
    **{f"preact{depth}": ("vpngen.models.resnet:PreActivation", {"depth": depth}) for depth in _DEPTHS},
    "wide50": ("vpngen.models.resnet:Wide", {"depth": 50}),
    **{f"resnext{depth}": ("vpngen.models.resnet:ResNeXt", {"depth": depth}) for depth in (50, 101, 152)},
    **{f"t3d{depth}": ("vpngen.models.densenet:T3D", {"depth": depth}) for depth in (121, 169)},
    **{f"densenet3d{depth}": ("vpngen.models.densenet:DenseNet3D", {"depth": depth}) for depth in (121, 169)},
    **{f"densenet{depth}": ("vpngen.models.densenet:DenseNet", {"depth": depth}) for depth in (121, 169, 201, 264)},
    **{f"slowfast{depth}": ("vpngen.models.slowfast:SlowFast", {"depth": depth}) for depth in (50, 101)},
    **{f"slow{depth}": ("vpngen.models.slowfast:Slow", {"depth": depth}) for depth in (50, 101)},
    **{f"fast{depth}": ("vpngen.models.slowfast:Fast", {"depth": depth}) for depth in (50, 101)},
    "i3d": ("vpngen.models.i3d:I3D", {}),
    "inception3d": ("vpngen.models.i3d:I3D", {"t3d": True}),
    "c3d": ("vpngen.models.c3d:C3D", {}),
    "c3d_bn": ("vpngen.models.c3d:C3DBatchNorm", {}),
    "alexnet3d": ("vpngen.models.alexnet3d:AlexNet3D", {}),
}
"""Name -> where its `Network` is, as module:class, and what it takes beside the number of classes and the options."""

__all__ = [
    "MODELS", "create_model", "freeze", "inflate", "load_weights", "read_weights", "replace_head", "save_reference",
    "save_weights",
]  # fmt: skip

__getattr__, __dir__ = lazy(__name__, {
    "base": ("create_model", "freeze", "replace_head"),
    "weights": ("inflate", "load_weights", "read_weights", "save_reference", "save_weights"),
})  # fmt: skip

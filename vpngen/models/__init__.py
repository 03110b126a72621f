"""3-D CNNs, and weights: to disk and back, recognized, inflated, frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.lazy import lazy

if TYPE_CHECKING:
    from vpngen.models.resnet import MODELS, create_model
    from vpngen.models.weights import (
        freeze,
        inflate,
        load_weights,
        read_weights,
        recognize,
        replace_head,
        save_reference,
        save_weights,
    )

__all__ = [
    "MODELS",
    "create_model",
    "freeze",
    "inflate",
    "load_weights",
    "read_weights",
    "recognize",
    "replace_head",
    "save_reference",
    "save_weights",
]

__getattr__, __dir__ = lazy(__name__, {
    "resnet": ("MODELS", "create_model",),
    "weights": ("freeze", "inflate", "load_weights", "read_weights", "recognize", "replace_head", "save_reference", "save_weights",),
})  # fmt: skip

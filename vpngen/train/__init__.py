"""The slim training companion: 3D CNNs that are initialized from the stream, fine-tuned and evaluated.

    model = vpngen.create_model("r3d50", num_classes=256)
    rows = vpngen.train.fit(model, train, val, vpngen.train.RECIPES["wacv2022"], out="vpn")

The public names are listed here and imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpngen.train.clips import VideoLoader, WindowLoader
    from vpngen.train.evaluation import Evaluation, evaluate, summary
    from vpngen.train.fitting import Batches, Progress, StoppedError, fit
    from vpngen.train.models import MODELS, create_model
    from vpngen.train.recipes import RECIPES, Recipe
    from vpngen.train.runs import Data, Machine, Start, assess, finetune, initialize
    from vpngen.train.videos import KINDS, Video, VideoSet, hold_out, read_videos
    from vpngen.train.weights import (
        freeze,
        inflate,
        load_weights,
        read_weights,
        replace_head,
        save_reference,
        save_weights,
    )  # fmt: skip

_HOME = {
    name: module
    for module, names in {
        "clips": ("VideoLoader", "WindowLoader"),
        "evaluation": ("Evaluation", "evaluate", "summary"),
        "fitting": ("Batches", "Progress", "StoppedError", "fit"),
        "models": ("MODELS", "create_model"),
        "recipes": ("RECIPES", "Recipe"),
        "runs": ("Data", "Machine", "Start", "assess", "finetune", "initialize"),
        "videos": ("KINDS", "Video", "VideoSet", "hold_out", "read_videos"),
        "weights": (
            "freeze", "inflate", "load_weights", "read_weights", "replace_head", "save_reference", "save_weights",
        ),
    }.items()
    for name in names
}  # fmt: skip

__all__ = [
    "KINDS", "MODELS", "RECIPES", "Batches", "Data", "Evaluation", "Machine", "Progress", "Recipe", "Start", "StoppedError",
    "Video", "VideoLoader", "VideoSet", "WindowLoader", "assess", "create_model", "evaluate", "finetune", "fit", "freeze",
    "hold_out", "inflate", "initialize", "load_weights", "read_videos", "read_weights", "replace_head", "save_reference",
    "save_weights", "summary",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"vpngen.train.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'vpngen.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

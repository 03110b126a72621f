"""The slim training companion: one loop, its recipes, evaluation and figures.

model = vpngen.create_model("r3d50", num_classes=256)
rows = vpngen.train.fit(model, train, val, vpngen.train.RECIPES["wacv2022"], out="vpn")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.lazy import lazy

if TYPE_CHECKING:
    from vpngen.train.evaluation import Evaluation, evaluate, summary
    from vpngen.train.fitting import Progress, StoppedError, fit
    from vpngen.train.recipes import RECIPES, Recipe
    from vpngen.train.runs import Data, Machine, Start, assess, finetune, initialize

__all__ = [
    "RECIPES",
    "Data",
    "Evaluation",
    "Machine",
    "Progress",
    "Recipe",
    "Start",
    "StoppedError",
    "assess",
    "evaluate",
    "finetune",
    "fit",
    "initialize",
    "summary",
]

__getattr__, __dir__ = lazy(__name__, {
    "evaluation": ("Evaluation", "evaluate", "summary",),
    "fitting": ("Progress", "StoppedError", "fit",),
    "recipes": ("RECIPES", "Recipe",),
    "runs": ("Data", "Machine", "Start", "assess", "finetune", "initialize",),
})  # fmt: skip

"""The slim training companion: one loop, its recipes, whole runs, evaluation and figures.

model = vpngen.create_model("r3d50", num_classes=256)
rows = vpngen.train.fit(model, train, val, vpngen.train.RECIPES["wacv2022"], out="vpn")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.train.evaluation import Evaluation, Summary
    from vpngen.train.fitting import Progress, StoppedError, fit
    from vpngen.train.frozen import Retrieval
    from vpngen.train.recipes import RECIPES, Recipe
    from vpngen.train.runs import DataConfig, ModelInit, Runtime, evaluate, evaluate_frozen, finetune, initialize

__all__ = [
    "RECIPES", "DataConfig", "Evaluation", "ModelInit", "Progress", "Recipe", "Retrieval", "Runtime", "StoppedError", "Summary",
    "evaluate", "evaluate_frozen", "finetune", "fit", "initialize",
]  # fmt: skip

__getattr__, __dir__ = lazy(__name__, {
    "evaluation": ("Evaluation", "Summary"),
    "fitting": ("Progress", "StoppedError", "fit"),
    "frozen": ("Retrieval",),
    "recipes": ("RECIPES", "Recipe"),
    "runs": ("DataConfig", "ModelInit", "Runtime", "evaluate", "evaluate_frozen", "finetune", "initialize"),
})  # fmt: skip

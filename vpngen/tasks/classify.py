"""Name the class of a clip: cross entropy, as all papers on video recognition have it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vpngen.errors import ArgumentError
from vpngen.tasks.base import Task


@dataclass(frozen=True)
class Classify(Task):
    """Name the class of a clip by the largest of the logits (N, classes); top-5 is top-n where there are n < 5 classes."""

    name: ClassVar[str] = "classify"
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    needs_labels: ClassVar[bool] = True

    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
        """Clips and labels as they are. Raises ArgumentError where there are no labels."""
        if labels is None:
            raise ArgumentError("is the task, and the batches have no labels", "classify")
        return clips, labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of the cross entropies."""
        return nn.functional.cross_entropy(outputs.float(), targets, reduction="sum")

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many samples are right, and how many have the right class among the best five."""
        best = outputs.float().topk(min(5, outputs.shape[1])).indices == targets[:, None]
        return torch.stack([best[:, 0].sum(), best.sum()])

    def chance(self, outputs: Tensor) -> Mapping[str, float]:
        """Of a guess among all classes."""
        classes = outputs.shape[1]
        return {"loss": math.log(classes), "top1": 1 / classes, "top5": min(5, classes) / classes}

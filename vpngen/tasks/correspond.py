"""Do these frames and this clip belong together? Diba et al., arXiv:1711.08200: supervision of a 3-D network by a 2-D one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from vpngen import checks
from vpngen.checks import SEEDS
from vpngen.errors import ArgumentError, renamed
from vpngen.fields import field
from vpngen.models.base import Network
from vpngen.models.images import image_network, normalization
from vpngen.stream.tensors import renormalised
from vpngen.tasks.base import Task
from vpngen.tasks.trunk import Trunk, layer

HIDDEN: Final = (512, 128)
"""Features of the layers that decide: section 4.5."""
MOST_IMAGES: Final = 64
"""Frames that go through the teacher at once."""


@dataclass(frozen=True)
class Correspond(Task):
    """Tell the frames of a clip from those of another video: sections 3.2 and 4.5.

    A 2-D network, the teacher, sees each frame of the clip by itself; the mean of its features stands beside those of the 3-D
    network, brought to the same number. Every clip makes a positive pair, with its own frames, and a negative one, with those of
    another video of the batch: sample 2 i has those of sample 2 i + 1 and the other way round, or, where these are of one video or
    apart, those of the next in the batch that are of another. A clip that has no other video beside it counts as a guess: a network
    that takes all for positive would be right of it. The teacher stays as it is, to the bit.

    The paper leaves open how many pairs of each kind there are, here one to one, and what is between its layers, here batch
    normalization and ReLU; the features of the teacher are normalised likewise, by batch.

    Raises:
        ArgumentError: a value out of range.
    """

    name: ClassVar[str] = "correspond"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    needs_numbers: ClassVar[bool] = True
    least: ClassVar[int] = 2
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "t3d121", "lr": 0.1, "nesterov": True, "weight_decay": 1e-4, "batch_size": 32, "epochs": 150, "schedule": "step",
        "lr_steps": (30, 60, 90, 120), "clip": (32, 224, 224), "frame_step": 2, "augment": "random",
    }  # fmt: skip
    teacher: str = field(
        "densenet121", "2-D network whose features are compared: the name of one with weights of images, or package.module:callable.", metavar="NAME"
    )  # fmt: skip
    teacher_weights: Path | None = field(
        None, "Its weights, a file for images.  [default: those of ImageNet that torchvision has, or what the callable gives]", metavar="FILE"
    )  # fmt: skip
    teacher_sha256: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str):
            raise ArgumentError("must be the name of a network", "teacher", self.teacher)
        checks.integer("seed", self.seed, 0, SEEDS)

    def to_dict(self) -> dict[str, Any]:
        """The name and the fields; of the teacher's weights their digest, wherever they lie."""
        return {name: value for name, value in super().to_dict().items() if name != "teacher_weights"}

    def of(self, recipe: Any) -> Correspond:
        """With the digest of the teacher's weights. Raises ArgumentError, ConflictError, MissingError for one that cannot be had."""
        if recipe.batch_size < 2:
            raise ArgumentError("must be 2 or more, so that there is another video", "batch_size", recipe.batch_size)
        return dataclasses.replace(self, teacher_sha256=self._teacher(recipe).sha256)

    def drawn_of(self, recipe: Any) -> Correspond:
        """Without the teacher, of which a picture shows nothing."""
        return self

    def _teacher(self, recipe: Any) -> Teacher:
        with renamed(name="teacher", model="teacher", weights="teacher_weights"):
            return Teacher(self.teacher, self.teacher_weights, recipe)

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        """The trunk, the teacher beside it, and the layers that decide."""
        return Pairs(Trunk(network, recipe.clip), self._teacher(recipe))

    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Any, Any]:
        """Clips (N, 3, T, Y, X), and which of them has the frames of the negative pair of each, int64 (N,); -1 where none has."""
        assert numbers is not None  # fit has asked for them
        wrong = others(numbers).to(clips.device)
        return (clips, wrong), wrong

    def shown(self, inputs: Any, targets: Any, k: int) -> list[tuple[str, Tensor]]:
        """A clip, and the frames that belong to another."""
        clips, wrong = inputs
        return [("clip", clips[k]), *([("another", clips[int(wrong[k])])] if wrong[k] >= 0 else [])]

    def _sum(self, each: Tensor, wrong: Tensor, guess: float) -> Tensor:
        """Of pairs (N, 2) the sum over the clips of their mean, of those that have both; of the others that of a guess."""
        return each.mean(1).where(wrong >= 0, guess).sum()

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The sum over the clips of the mean cross entropy of their pairs."""
        kind = torch.tensor([1, 0], device=outputs.device).repeat(len(outputs))
        each = nn.functional.cross_entropy(outputs.float().flatten(0, 1), kind, reduction="none")
        return self._sum(each.view(-1, 2), targets, math.log(2))

    def score(self, outputs: Any, targets: Any) -> Tensor:
        """The sum over the clips of the share of their pairs that are told right."""
        right = outputs.argmax(2) == torch.tensor([1, 0], device=outputs.device)
        return self._sum(right.float(), targets, 0.5)[None]

    def chance(self, outputs: Any) -> Mapping[str, float]:
        """Of two."""
        return {"loss": math.log(2), "accuracy": 0.5}


def others(numbers: Tensor) -> Tensor:
    """For each sample of a batch one that is of another video, see `Correspond`: int64 (N,), -1 where there is none.

    Args:
        numbers: int64 (N, 3): epoch, sample, video.
    """
    sample, video = numbers.numpy().T[1:]
    n = np.arange(len(sample))
    behind = (n - n[:, None]) % len(n)
    behind[sample ^ 1 == sample[:, None]] = 0
    behind[video == video[:, None]] = len(n)
    found = behind.argmin(1)
    return torch.from_numpy(np.where(behind[n, found] < len(n), found, -1))


class Teacher(nn.Module):
    """Clips (N, 3, T, Y, X), normalised as a recipe says, to the mean over the frames of the features of each, (N, `features`).

    Args:
        name: see `image_network`.
        weights: likewise.
        recipe: its clips and their mean and std.

    Raises:
        ArgumentError: a network without a classifier, below which features are, or that does not take frames of that size; or see
            `image_network`.
    """

    def __init__(self, name: str, weights: Path | None, recipe: Any) -> None:
        super().__init__()
        network, self.sha256 = image_network(name, weights)
        self._frames, size = isinstance(network, Network), tuple(recipe.clip[1:])
        try:
            self.trunk = Trunk(network, (1, *size) if self._frames else size)
        except ArgumentError:
            raise
        except Exception as error:  # whatever a network may raise
            problem = f"does not take images of {size[0]} x {size[1]} ({type(error).__name__}: {error})"
            raise ArgumentError(problem, "name", name) from error
        self.features = self.trunk.features
        seen = normalization(network)
        self._levels = (recipe.mean, recipe.std), (seen["mean"], seen["std"])

    def train(self, mode: bool = True) -> Teacher:
        """It stays as it is."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        images = renormalised(clips, *self._levels).transpose(1, 2).flatten(0, 1)
        found = [self.trunk(some[:, :, None] if self._frames else some) for some in torch.split(images, MOST_IMAGES)]
        mean: Tensor = torch.cat(found).view(len(clips), -1, self.features).mean(1)
        return mean


class Pairs(nn.Module):
    """Clips (N, 3, T, Y, X) and the others of each (N,) to (N, 2, 2): for the positive and the negative pair, whether they belong together.

    The teacher is no part of the module: it does not learn, and is not in its state.
    """

    def __init__(self, trunk: Trunk, teacher: Teacher) -> None:
        super().__init__()
        self.trunk, self._teacher = trunk, [teacher]
        self.branch = layer(trunk.features, teacher.features)
        self.seen = nn.BatchNorm1d(teacher.features, affine=False)
        first, second = HIDDEN
        self.fusion = nn.Sequential(*layer(2 * teacher.features, first), *layer(first, second), nn.Linear(second, 2))

    def forward(self, given: tuple[Tensor, Tensor]) -> Tensor:
        """See the class."""
        clips, wrong = given
        frames = self.seen(self._teacher[0].to(clips.device)(clips))
        own = self.branch(self.trunk(clips))
        pairs = torch.stack([torch.cat([own, seen], 1) for seen in (frames, frames[wrong.clamp(min=0)])], 1)
        outputs: Tensor = self.fusion(pairs.flatten(0, 1)).view(-1, 2, 2)
        return outputs

"""Which of several clips has its frames in another order: Suzuki et al., ECCV Workshops 2018."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpngen import checks, rng
from vpngen.checks import SEEDS, Shape
from vpngen.errors import ArgumentError
from vpngen.fields import field
from vpngen.tasks.base import Task
from vpngen.tasks.trunk import Siamese, Trunk, shuffles, some, words

WRONG: Final = ("shuffle", "swap", "reverse")


@dataclass(frozen=True)
class Order(Task):
    """Find the one of `clips` clips of a window whose frames are in a wrong order; where it stands is drawn.

    Each clip has as many frames as `Recipe.clip` says, 8 in the paper. Clips begin at different frames of the window where it
    has enough of them, else some begin at the same. The wrong one has its frames shuffled in any other order (RP), its two parts
    swapped (SS, equation 2), or is played backward (PB, equation 3).

    The paper leaves open what is between its layers; here batch normalization and ReLU are, as OPN (Lee et al., ICCV 2017) has it.

    Raises:
        ArgumentError: a value out of range.
    """

    name: ClassVar[str] = "order"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    needs_numbers: ClassVar[bool] = True
    spans: ClassVar[tuple[str, ...]] = ("window",)
    loops: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "alexnet3d", "lr": 1e-4, "weight_decay": 5e-4, "batch_size": 64, "clip": (8, 224, 224), "augment": "random",
    }  # fmt: skip
    wrong: str = field("shuffle", "How the frames of the wrong clip stand.", choices=WRONG)
    window: int = field(20, "Frames that the clips are taken from.")
    odd_clips: int = field(6, "Clips among which one is wrong.")
    frames: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of("wrong", self.wrong, WRONG)
        least = 3 if self.wrong == "swap" else 2
        checks.integer("window", self.window, least, checks.MAX_SIDE)
        checks.integer("odd_clips", self.odd_clips, 2, 1024)
        checks.integer("seed", self.seed, 0, SEEDS)
        if self.frames is None:  # the recipe says
            return
        if not least <= checks.integer("frames", self.frames, 1) <= self.window:
            problem = f"must be {least} to {self.window} frames, to be one of a window of {self.window}"
            raise ArgumentError(problem, "clip", self.frames)

    @property
    def clips(self) -> int:
        """All of them."""
        return self.odd_clips

    def of(self, recipe: Any) -> Order:
        """With as many frames as its clips have. Raises ArgumentError where they are more than the window, or too few to be wrong."""
        return dataclasses.replace(self, frames=recipe.clip[0])

    def shape(self, recipe: Any) -> Shape:
        """(window, y, x)."""
        return self.window, *recipe.clip[1:]

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        """Table 1: the trunk, fc4 to 128 features of each clip, fc5 and fc6 on all of them."""
        n = self.odd_clips
        return Siamese(Trunk(network, recipe.clip), n, 128, 128 * n, n)

    def drawn(self, numbers: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which frames of its window each clip of a sample shows, (N, odd_clips, frames), and which clip is wrong, (N,)."""
        n, k, frames = len(numbers), self.odd_clips, self.frames
        assert frames is not None  # `of` has said
        starts = self.window - frames + 1
        word = words(self.seed, numbers, k)
        begin = some(word, starts) if k <= starts else rng.choose(word, starts)
        place, split, number = words(self.seed, numbers, 3, draw=1).T
        wrong = rng.choose(place, k)
        own = np.tile(np.arange(frames), (n, k, 1))
        if self.wrong == "shuffle":
            own[np.arange(n), wrong] = shuffles(number, words(self.seed, numbers, frames, draw=2))
        elif self.wrong == "swap":  # the split is at 2 to D - 1, counted from 1
            first = rng.choose(split, frames - 2) + 1
            own[np.arange(n), wrong] = (np.arange(frames) + first[:, None]) % frames
        else:
            own[np.arange(n), wrong] = np.arange(frames)[::-1]
        return begin[:, :, None] + own, wrong

    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Tensor, Any]:
        """The clips (N, odd_clips, 3, frames, Y, X) of the windows, and which of them is wrong, int64 (N,)."""
        assert numbers is not None  # fit has asked for them
        shown, wrong = self.drawn(numbers)
        each = torch.arange(len(clips), device=clips.device)[:, None, None]
        made = clips.transpose(1, 2)[each, torch.from_numpy(shown).to(clips.device)].transpose(2, 3)
        return made, torch.from_numpy(wrong).to(clips.device)

    def shown(self, inputs: Any, targets: Any, k: int) -> list[tuple[str, Tensor]]:
        """The clips of a sample; which is wrong is said."""
        return [(self.wrong if place == int(targets[k]) else "", clip) for place, clip in enumerate(inputs[k])]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The sum of the cross entropies."""
        return nn.functional.cross_entropy(outputs.float(), targets, reduction="sum")

    def score(self, outputs: Any, targets: Any) -> Tensor:
        """How many are found."""
        found: Tensor = outputs.argmax(1) == targets
        return found.sum()[None]

    def chance(self, outputs: Any) -> Mapping[str, float]:
        """One of all clips."""
        return {"loss": math.log(self.odd_clips), "accuracy": 1 / self.odd_clips}

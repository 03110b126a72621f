"""Draw the clip again from its features: the alternatives that Kim et al., AAAI 2019, compare their puzzles with."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen import checks, rng
from vpngen.checks import SEEDS, Shape
from vpngen.fields import field
from vpngen.tasks.base import Task
from vpngen.tasks.trunk import Trunk, words

PARTS: Final = ("same", "future", "hole")
CHANNELS: Final = (64, 32, 16)
"""Of the decoder, from coarse to fine."""
FLAT: Final = 0.01
"""The least variance, of pixels as the network sees them, that errors are a share of: of a black clip nothing else would be learned."""


@dataclass(frozen=True)
class Reconstruct(Task):
    """Draw a clip from the features of one.

    It is an autoencoder (`same`), one that also draws the frames that come next (`future`), or paints a block that is masked (`hole`).
    The paper leaves everything but the names open. Here the decoder is a map of an eighth of the size, made of the features, twice a
    convolution at twice the size, and a linear enlargement. The loss is the squared error, as a share of the variance of the clip: 1 for
    a decoder that draws its mean. Of the future the i-th of T frames counts (T - i) / T, i from 0: Zhao et al., ACM Multimedia 2017 (STAE). Of `hole` only the block counts.

    Raises:
        ArgumentError: a value out of range.
    """

    name: ClassVar[str] = "reconstruct"
    metrics: ClassVar[tuple[str, ...]] = ("explained",)
    needs_numbers: ClassVar[bool] = True
    loops: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "r3d18", "augment": "random", "optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 16,
    }  # fmt: skip
    target: str = field("same", "What is drawn: the clip, the clip and its future, or a hole in it.", choices=PARTS)
    hole: float = field(0.5, "Side of the block that is masked, in height and width, as a share of the clip's.")
    clip: Shape = (16, 112, 112)
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of("target", self.target, PARTS)
        checks.number("hole", self.hole, lambda v: 0 < v < 1, "between 0 and 1")
        object.__setattr__(self, "clip", checks.shape("clip", self.clip))
        checks.integer("seed", self.seed, 0, SEEDS)

    def of(self, recipe: Any) -> Reconstruct:
        """For its clips."""
        return dataclasses.replace(self, clip=recipe.clip)

    def shape(self, recipe: Any) -> Shape:
        """That of the clip; of `future` twice as long."""
        frames, height, width = recipe.clip
        return frames * (2 if self.target == "future" else 1), height, width

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        """The trunk, and a decoder for each clip that is drawn."""
        return Autoencoder(Trunk(network, self.clip), self.clip, 2 if self.target == "future" else 1)

    def block(self, numbers: Tensor) -> Tensor:
        """Which pixels of each sample are masked: bool (N, Y, X), a block at a place that is drawn."""
        _, height, width = self.clip
        sides = [max(1, min(size - 1, round(size * self.hole))) if size > 1 else 1 for size in (height, width)]
        at = [
            rng.choose(word, size - side + 1)
            for word, size, side in zip(words(self.seed, numbers, 2).T, (height, width), sides, strict=True)
        ]
        y, x = (torch.from_numpy(first)[:, None] for first in at)
        rows, columns = torch.arange(height)[None], torch.arange(width)[None]
        within = (rows >= y) & (rows < y + sides[0]), (columns >= x) & (columns < x + sides[1])
        return within[0][:, :, None] & within[1][:, None, :]

    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Tensor, Any]:
        """What the network sees, (N, 3, t, y, x); and what it should draw, (N, 1 or 2, 3, t, y, x), with how much each voxel counts."""
        assert numbers is not None  # fit has asked for them
        frames = self.clip[0]
        wanted = clips.unflatten(2, (-1, frames)).transpose(1, 2) if self.target == "future" else clips[:, None]  # type: ignore[no-untyped-call]
        weight = torch.ones_like(wanted[:, :, :1])
        seen = wanted[:, 0]
        if self.target == "future":
            weight[:, 1] = ((frames - torch.arange(frames, device=clips.device)) / frames)[None, None, :, None, None]
        elif self.target == "hole":
            masked = self.block(numbers).to(clips.device)[:, None, None]
            weight *= masked[:, None]
            seen = seen.masked_fill(masked, 0.0)
        return seen, (wanted, weight)

    def shown(self, inputs: Any, targets: Any, k: int) -> list[tuple[str, Tensor]]:
        """What is seen of a sample, and what is to be drawn."""
        return [("seen", inputs[k]), *zip(("to draw", "and then"), targets[0][k], strict=False)]

    def _errors(self, outputs: Tensor, targets: Any) -> Tensor:
        """Of each sample the squared error as a share of the variance, (N,)."""
        wanted, weight = (part.float() for part in targets)
        share = weight / weight.sum((1, 2, 3, 4, 5), keepdim=True)
        mean = (share * wanted).mean(2, keepdim=True).sum((1, 3, 4, 5), keepdim=True)
        variance = (share * (wanted - mean) ** 2).mean(2).sum((1, 2, 3, 4))
        error = (share * (outputs.float() - wanted) ** 2).mean(2).sum((1, 2, 3, 4))
        relative: Tensor = error / variance.clamp_min(FLAT)
        return relative

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The sum over the samples of the error as a share of the variance."""
        return self._errors(outputs, targets).sum()

    def score(self, outputs: Any, targets: Any) -> Tensor:
        """How much of the variance is drawn, from 0 to 1."""
        return (1 - self._errors(outputs, targets)).clamp(0, 1).sum()[None]

    def chance(self, outputs: Any) -> Mapping[str, float]:
        """What the mean of a clip gets."""
        return {"loss": 1.0, "explained": 0.0}


class Autoencoder(nn.Module):
    """Clips (N, C, t, y, x) to (N, clips, 3, t, y, x)."""

    def __init__(self, trunk: Trunk, clip: Shape, clips: int) -> None:
        super().__init__()
        self.trunk, self.clip = trunk, clip
        self.coarse = [max(1, math.ceil(size / 2 ** len(CHANNELS))) for size in clip]
        self.decoders = nn.ModuleList(self._decoder(trunk.features) for _ in range(clips))

    def _decoder(self, features: int) -> nn.Sequential:
        layers: list[nn.Module] = [
            nn.Linear(features, CHANNELS[0] * math.prod(self.coarse)), nn.Unflatten(1, (CHANNELS[0], *self.coarse)), nn.ReLU(),
        ]  # fmt: skip
        for before, after in itertools.pairwise(CHANNELS):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv3d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm3d(after),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Conv3d(CHANNELS[-1], 3, 3, padding=1))

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        features = self.trunk(clips)
        drawn = [decoder(features) for decoder in self.decoders]
        return torch.stack([F.interpolate(one, self.clip, mode="trilinear") for one in drawn], 1)

"""A small one of each family of networks, for what all of them go through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn

from vpngen.checks import Shape
from vpngen.models import densenet, resnet, slowfast


class Small(NamedTuple):
    """A network, and a clip that it takes."""

    name: str
    options: dict[str, Any]
    clip: Shape = (8, 32, 32)
    batch_size: int = 8
    """Clips that it learns by heart: fewer, and an even number, where a clip must be large."""

    def __str__(self) -> str:
        return "-".join([self.name, *(str(value) for name, value in self.options.items() if name != "width")])


FAMILIES = [
    Small("r3d10", {"width": 0.125}),
    Small("r2p1d10", {"width": 0.125}),
    Small("preact10", {"width": 0.125}),
    Small("wide50", {"width": 0.0625}),
    Small("resnext50", {"width": 0.25}),
    Small("densenet121", {"width": 0.125}),
    Small("densenet3d121", {"width": 0.125}, (8, 16, 16)),
    Small("t3d121", {"width": 0.125}, (8, 16, 16)),
    Small("slowfast50", {"width": 0.125}),
    Small("slow50", {"width": 0.0625}),
    Small("fast50", {"width": 0.5}),
    Small("i3d", {"width": 0.0625}, (9, 16, 16)),
    Small("c3d", {"width": 0.0625}, (16, 112, 112), batch_size=2),
    Small("c3d_bn", {"width": 0.0625}),
    Small("alexnet3d", {"width": 0.0625, "pooled": 1}, (8, 63, 63)),
]
"""Every class of `vpngen.models.MODELS` has a line."""


@contextmanager
def shallow() -> Iterator[None]:
    """While this lasts, the deepest of them have a block of each kind and few more."""
    with (
        mock.patch.dict(densenet.BLOCKS, {121: (4, 4, 3, 2)}),
        mock.patch.dict(resnet.BLOCKS, {50: (2, 1, 1, 1)}),
        mock.patch.dict(slowfast.BLOCKS, {50: (2, 1, 1, 1)}),
    ):
        yield


class Images(nn.Module):
    """A network for images, as other packages have them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(6, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, Y, X) to (N, num_classes)."""
        logits: torch.Tensor = self.fc(self.layers(images))
        return logits

"""C3D: eight convolutions of 3 x 3 x 3, with and without batch normalization."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen.models.base import STEM, DropoutOptions, Network, Options, State

CHANNELS: Final = {"1": 64, "2": 128, "3a": 256, "3b": 256, "4a": 512, "4b": 512, "5a": 512, "5b": 512}
"""Convolution -> channels that leave it: Tran et al., ICCV 2015, figure 3."""
POOLED: Final = ("1", "2", "3b", "4b", "5b")
"""The convolutions that a pooling follows, called after their number."""
SEQUENTIAL: Final = {
    **{f"features.{i}": f"conv{name}" for i, name in zip((0, 3, 6, 8, 11, 13, 16, 18), CHANNELS, strict=True)},
    "classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8",
}  # fmt: skip
"""Layer of the weights that jfzhang95/pytorch-video-recognition begins with -> layer here."""


class C3D(Network):
    """Tran et al., ICCV 2015, section 3.3: eight convolutions, five poolings, three linear layers.

    Names and shapes are those of the common port, conv1 to conv5b, fc6, fc7 and fc8. Its linear layers take clips of 16 x 112 x 112
    alone. `width` is also that of fc6 and fc7. The Sports-1M weights of DavideA/c3d-pytorch, and those of jfzhang95, saw pixel values from
    0 to 255: a mean of 0, and a std of 1 / 255.
    """

    head = "fc8"
    stem = "conv1"
    options: ClassVar[type] = DropoutOptions
    least = (16, 112, 112)
    exact = True
    above: ClassVar[tuple[str, ...]] = ("fc6", "fc7")
    batch_norm: ClassVar[bool] = False

    def __init__(self, num_classes: int, options: Options) -> None:
        super().__init__()
        inputs = options.in_channels
        for name, count in CHANNELS.items():
            channels = options.channels(count)
            self.add_module(f"conv{name}", nn.Conv3d(inputs, channels, 3, padding=1))
            if self.batch_norm:
                self.add_module(f"bn{name}", nn.BatchNorm3d(channels))
            if name in POOLED:
                self.add_module(f"pool{name[0]}", self._pool(name))
            inputs = channels
        self._classifier(inputs, num_classes, options)

    def _pool(self, name: str) -> nn.Module:
        size = (1 if name == "1" else 2, 2, 2)
        return nn.MaxPool3d(size, padding=(0, 1, 1) if name == "5b" else 0)

    def _classifier(self, channels: int, num_classes: int, options: Any) -> None:
        hidden = options.channels(4096)
        self.fc6, self.fc7 = nn.Linear(channels * 4 * 4, hidden), nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(options.dropout)
        self.fc8 = nn.Linear(hidden, num_classes)

    def trunk(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to what leaves pool5, (N, C)."""
        x = clips
        for name in CHANNELS:
            x = getattr(self, f"conv{name}")(x)
            if self.batch_norm:
                x = getattr(self, f"bn{name}")(x)
            x = F.relu(x, inplace=True)
            if name in POOLED:
                x = getattr(self, f"pool{name[0]}")(x)
        return torch.flatten(x, 1)

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, 16, 112, 112) to what leaves fc7, (N, 4096), a part of it left out in training."""
        x = self.dropout(F.relu(self.fc6(self.trunk(clips))))
        return self.dropout(F.relu(self.fc7(x)))  # type: ignore[no-any-return]

    def stages(self) -> tuple[str, ...]:
        """`conv2` to `conv5a`, each with the second of its number and the pooling, then `fc6` and `fc7`."""
        return "conv2", "conv3a", "conv4a", "conv5a", "fc6", "fc7"

    @classmethod
    def own_name(cls, name: str) -> str:
        """Those of the file of jfzhang95 are known, as features.0, classifier.0."""
        return re.sub(r"^(features|classifier)\.\d+(?=\.)", lambda found: SEQUENTIAL.get(found[0], found[0]), name)

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state["conv1.weight"]
        if ("bn1.weight" in state) != cls.batch_norm or "conv5b.weight" not in state:
            return None
        found = {"in_channels": first.shape[1], "width": len(first) / STEM}
        return {name: value for name, value in found.items() if value != getattr(Options, name)}


class C3DBatchNorm(C3D):
    """C3D with batch normalization after each convolution, and the mean over the clip in place of pool5, fc6 and fc7.

    Xu et al., CVPR 2019, and their names: bn1 to bn5b, linear. It takes larger clips too. Kay et al. 2017 ("C3D w/ BN") normalize behind linear
    layers as well, and published no code.
    """

    head = "linear"
    options = Options
    least = (8, 16, 16)
    exact = False
    above = ()
    batch_norm = True

    def _pool(self, name: str) -> nn.Module:
        return nn.AdaptiveAvgPool3d(1) if name == "5b" else super()._pool(name)

    def _classifier(self, channels: int, num_classes: int, options: Any) -> None:
        self.linear = nn.Linear(channels, num_classes)

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, 512)."""
        return self.trunk(clips)

    def stages(self) -> tuple[str, ...]:
        """`conv2` to `conv5a`, each with the second of its number and the pooling."""
        return super().stages()[:4]

"""3D-AlexNet: AlexNet with kernels and poolings in time, and batch normalization where it has dropout."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen import checks
from vpngen.fields import field
from vpngen.models.base import STEM, Network, Options, State

CONVOLUTIONS: Final = {
    "conv1": (64, (5, 11, 11), 4, (2, 2, 2)), "conv2": (192, (3, 5, 5), 1, (1, 2, 2)), "conv3": (384, (3, 3, 3), 1, (1, 1, 1)),
    "conv4": (256, (3, 3, 3), 1, (1, 1, 1)), "conv5": (256, (3, 3, 3), 1, (1, 1, 1)),
}  # fmt: skip
"""Name -> channels, kernel, stride of height and width, padding. The paddings are those of torchvision's AlexNet; in time half the kernel."""
POOLED: Final = ("conv1", "conv2", "conv5")
"""A pooling of 2 x 3 x 3 with stride 2 follows these."""
FLAT: Final = {
    **{f"features.{i}": name for i, name in zip((0, 3, 6, 8, 10), CONVOLUTIONS, strict=True)},
    "classifier.1": "fc1", "classifier.4": "fc2", "classifier.6": "fc3",
}  # fmt: skip
"""Layer of torchvision's AlexNet -> layer here."""


@dataclass(frozen=True)
class AlexNetOptions(Options):
    """What can be chosen of a 3D-AlexNet.

    Table 1 prints 9,216 features, which are 256 x 6 x 6, and a stride of 2 in conv2. At 224 pixels that stride leaves 2 x 2. The defaults
    give the features that are printed. `conv2_stride=2 pooled=2` is the printed stride, with 1,024 features; at 112 pixels 2 x 2 are left
    with a stride of 1, and one with 2.
    """

    conv2_stride: int = field(1, "Stride of height and width of conv2. The paper prints 2, and features that need 1.")
    pooled: int = field(6, "Height and width that what leaves pool3 is averaged to, as torchvision does.")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("conv2_stride", self.conv2_stride, 1, 4)
        checks.integer("pooled", self.pooled, 1, 64)


class AlexNet3D(Network):
    """Suzuki et al., ECCV workshops 2018, table 1: five convolutions, three poolings, three linear layers.

    At 8 x 224 x 224 what leaves pool3 is 1 x 6 x 6, and is not averaged. Larger and smaller clips are brought to that size. Batch
    normalization is where torchvision's AlexNet has dropout, before fc1 and fc2; the paper does not say whether it is before or after
    their ReLU. fc2 takes the 4,096 features of fc1, where the table prints 9,216. `width` is also that of fc1 and fc2.
    """

    head = "fc3"
    stem = "conv1"
    options = AlexNetOptions
    inflates = True
    unlike_images = ("bn1", "bn2")
    above = ("bn1", "fc1", "bn2", "fc2")

    def __init__(self, num_classes: int, options: AlexNetOptions) -> None:
        super().__init__()
        channels, least = options.in_channels, 1
        strides = {name: options.conv2_stride if name == "conv2" else s for name, (_, _, s, _) in CONVOLUTIONS.items()}
        for name, (count, kernel, _, padding) in CONVOLUTIONS.items():
            stride = (1, strides[name], strides[name])
            self.add_module(name, nn.Conv3d(channels, options.channels(count), kernel, stride, padding))
            if name in POOLED:
                self.add_module(f"pool{POOLED.index(name) + 1}", nn.MaxPool3d((2, 3, 3), stride=2))
            channels = options.channels(count)
        for name, (_, kernel, _, padding) in reversed(CONVOLUTIONS.items()):
            least = 2 * least + 1 if name in POOLED else least
            least = strides[name] * (least - 1) + kernel[2] - 2 * padding[2]
        self.least = (2 ** len(POOLED), least, least)
        self.average = nn.AdaptiveAvgPool3d((1, options.pooled, options.pooled))
        inputs, hidden = channels * options.pooled**2, options.channels(4096)
        self.bn1, self.fc1 = nn.BatchNorm1d(inputs), nn.Linear(inputs, hidden)
        self.bn2, self.fc2 = nn.BatchNorm1d(hidden), nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, num_classes)

    def trunk(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to what leaves pool3, (N, 256 * pooled * pooled)."""
        x = clips
        for name in CONVOLUTIONS:
            x = F.relu(getattr(self, name)(x), inplace=True)
            if name in POOLED:
                x = getattr(self, f"pool{POOLED.index(name) + 1}")(x)
        return torch.flatten(self.average(x), 1)

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to what leaves fc2, (N, 4096); in training at least two."""
        x = F.relu(self.fc1(self.bn1(self.trunk(clips))))
        return F.relu(self.fc2(self.bn2(x)))

    def stages(self) -> tuple[str, ...]:
        """`conv2` to `conv5`, `fc1` and `fc2`, each with what is between it and the next."""
        return "conv2", "conv3", "conv4", "conv5", "fc1", "fc2"

    @classmethod
    def own_name(cls, name: str) -> str:
        """Those of torchvision's AlexNet are known, as features.0, classifier.1."""
        return re.sub(r"^(features|classifier)\.\d+(?=\.)", lambda found: FLAT.get(found[0], found[0]), name)

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`. No shape tells of `conv2_stride`."""
        first, features = state["conv1.weight"], state["fc1.weight"].shape[1] // len(state["conv5.weight"])
        found = {"in_channels": first.shape[1], "width": len(first) / STEM, "pooled": math.isqrt(features)}
        return {name: value for name, value in found.items() if value != getattr(AlexNetOptions, name)}

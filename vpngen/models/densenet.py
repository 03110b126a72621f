"""DenseNets for video, with the names and shapes of 3D-ResNets-PyTorch."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen.models.base import STEM, Network, State, StemOptions, convolution, guess_options

BLOCKS: Final = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}
"""Depth -> layers of each block: Huang et al., CVPR 2017, table 1."""
STAGES: Final = tuple(f"features.denseblock{number}" for number in (1, 2, 3, 4))
GROWTH: Final = 32
"""Channels that each layer adds, and a quarter of those within the layer."""


class DenseLayer(nn.Module):
    """Two convolutions, each behind normalization and ReLU; what comes out is put behind what goes in."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(inputs)
        self.conv1 = convolution(inputs, 4 * growth, (1, 1, 1))
        self.norm2 = nn.BatchNorm3d(4 * growth)
        self.conv2 = convolution(4 * growth, growth, (3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, inputs + growth, T, Y, X)."""
        new = self.conv1(F.relu(self.norm1(x), inplace=True))
        new = self.conv2(F.relu(self.norm2(new), inplace=True))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """From one block to the next: half the channels, and half of each axis."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(inputs)
        self.conv = convolution(inputs, outputs, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T // 2, Y // 2, X // 2)."""
        x = self.conv(F.relu(self.norm(x), inplace=True))
        # An axis of one stays as it is, where the reference stops: clips of fewer than 16 frames come to that.
        return F.avg_pool3d(x, [min(2, size) for size in x.shape[2:]])


class DenseNet(Network):
    """Stem, four blocks of dense layers with transitions between, mean over the clip, classifier.

    Hara et al., CVPR 2018, table 1, with the 1 x 1 x 1 convolution in the transitions that their code has, and Huang et al.,
    CVPR 2017, have; the caption of the table says 3 x 3 x 3.
    """

    head = "classifier"
    stem = "features.conv1"
    options = StemOptions
    reference = "densenet"

    def __init__(self, num_classes: int, options: StemOptions, depth: int) -> None:
        super().__init__()
        channels, growth = options.channels(STEM), options.channels(GROWTH)
        kernel, stride = (options.stem_frames, 7, 7), (options.stem_stride, 2, 2)
        features: dict[str, nn.Module] = {"conv1": convolution(options.in_channels, channels, kernel, stride)}
        features |= {"norm1": nn.BatchNorm3d(channels), "relu1": nn.ReLU(inplace=True)}
        if options.max_pool:
            features["pool1"] = nn.MaxPool3d(3, stride=2, padding=1)
        for number, layers in enumerate(BLOCKS[depth], 1):
            inputs = range(channels, channels + layers * growth, growth)
            block = {f"denselayer{layer}": DenseLayer(count, growth) for layer, count in enumerate(inputs, 1)}
            features[f"denseblock{number}"] = nn.Sequential(OrderedDict(block))
            channels += layers * growth
            if number < len(BLOCKS[depth]):
                features[f"transition{number}"] = Transition(channels, channels // 2)
                channels //= 2
        features |= {"norm5": nn.BatchNorm3d(channels), "relu5": nn.ReLU(inplace=True)}
        features |= {"pool5": nn.AdaptiveAvgPool3d(1), "flatten": nn.Flatten()}
        self.features = nn.Sequential(OrderedDict(features))
        self.classifier = nn.Linear(channels, num_classes)

    def stages(self) -> tuple[str, ...]:
        """`features.denseblock1` to `features.denseblock4`, each with what is between it and the next."""
        return STAGES

    def initialize_head(self, head: nn.Module) -> None:
        """Its bias begins at zero."""
        if isinstance(head.bias, Tensor):
            nn.init.zeros_(head.bias)

    @classmethod
    def own_name(cls, name: str) -> str:
        """Those of the CVPR 2018 branch of the reference are known, as features.norm0, features.denseblock1.denselayer1.norm.1."""
        name = re.sub(r"^features\.(conv|norm)0\.", r"features.\g<1>1.", name)
        return re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        return guess_options(state, STAGES, BLOCKS[arguments["depth"]], first, first)

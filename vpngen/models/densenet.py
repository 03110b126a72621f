"""DenseNets for video, with the names and shapes of 3D-ResNets-PyTorch; DenseNet3D and T3D, with those of the file of their authors."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen import checks
from vpngen.errors import ArgumentError
from vpngen.fields import field, keep
from vpngen.models.base import MOST, STEM, Network, State, StemOptions, convolution, guess_options

BLOCKS: Final = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}
"""Depth -> layers of each block: Huang et al., CVPR 2017, table 1."""
STAGES: Final = tuple(f"features.denseblock{number}" for number in (1, 2, 3, 4))
GROWTH: Final = 32
"""Channels that each layer adds, and a quarter of those within the layer."""
TRANSITIONS: Final = ("conv", "ttl", "ttl+conv")
MOST_BRANCHES: Final = 8


@dataclass(frozen=True)
class DenseNetOptions(StemOptions):
    """What can be chosen of a DenseNet.

    Diba et al., section 3.1 and table 1, leave open how many channels each kernel of a temporal transition layer gives, and how even depths
    are padded. What is here leaves as many channels as the convolution in its place, and has 1.31 times the parameters of DenseNet3D, where
    they state 1.3; equal thirds would have 2.2 times. An even depth sees one frame more of what comes than of what was.
    """

    pool_stride: int = field(2, "Frames from one place of the stem's pooling to the next.")
    transition: str = field(
        "conv",
        "What is between blocks, before the average: conv for a convolution of 1 x 1 x 1, ttl for a temporal transition layer, "
        "ttl+conv for both, as in the file that the authors of T3D withdrew.",
    )
    ttl_depths: Sequence[Sequence[int]] = field(
        ((1, 3, 6), (1, 3, 4)),
        "Frames that each kernel of a temporal transition layer spans: a list for each, the last for all that follow.",
    )
    ttl_channels: Sequence[int] = field(
        (0, GROWTH, GROWTH),
        "Channels of each of these kernels; 0 for a share of what is left of half the channels that come in.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("pool_stride", self.pool_stride, 1, MOST)
        checks.one_of("transition", self.transition, TRANSITIONS)
        channels = checks.integers("ttl_channels", self.ttl_channels, 0, MOST)
        if not 0 < len(channels) <= MOST_BRANCHES:
            raise ArgumentError(f"must be one to {MOST_BRANCHES} numbers", "ttl_channels", self.ttl_channels)
        lists = self.ttl_depths if checks.is_list(self.ttl_depths) else ()
        if not 0 < len(lists) < len(STAGES) or not all(checks.is_list(n) and len(n) == len(channels) for n in lists):
            allowed = f"must be one to {len(STAGES) - 1} lists of {len(channels)} depths each, as ttl_channels has"
            raise ArgumentError(f"{allowed}: [[1, 3, 6], [1, 3, 4]]", "ttl_depths", self.ttl_depths)
        depths = tuple(checks.integers("ttl_depths", each, 1, MOST) for each in lists)
        keep(self, ttl_channels=channels, ttl_depths=depths)
        for name in ("ttl_depths", "ttl_channels"):
            if self.transition == "conv" and getattr(self, name) != getattr(DenseNetOptions, name):
                raise ArgumentError(
                    "is of temporal transition layers; give transition=ttl with it", name, getattr(self, name)
                )

    def branches(self, number: int, inputs: int) -> list[tuple[int, int]]:
        """Depth and channels of each kernel of the temporal transition layer `number`, from 1. Raises ArgumentError."""
        given = [self.channels(count) if count else 0 for count in self.ttl_channels]
        rest, shares = inputs // 2 - sum(given), given.count(0)
        if shares and rest < shares:
            problem = f"leaves no channels for the zeros in it: {inputs // 2} are shared in the transition {number}"
            raise ArgumentError(problem, "ttl_channels", self.ttl_channels)
        parts = iter([rest // shares + (part < rest % shares) for part in range(shares)])
        depths = self.ttl_depths[min(number, len(self.ttl_depths)) - 1]
        return [(depth, count or next(parts)) for depth, count in zip(depths, given, strict=True)]


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


class Composite(nn.Module):
    """Normalization, ReLU and a convolution that keeps the size of a clip, whatever its depth."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(inputs)
        self.conv = convolution(inputs, outputs, (1, 1, 1) if depth == 1 else (depth, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T, Y, X)."""
        out: Tensor = self.conv(F.relu(self.norm(x), inplace=True))
        return out[:, :, -x.shape[2] :]  # an even depth makes one more


class TemporalTransition(nn.Module):
    """Kernels of several depths side by side: Diba et al., Temporal 3D ConvNets, section 3.1."""

    def __init__(self, inputs: int, branches: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        for number, (depth, channels) in enumerate(branches, 1):
            self.add_module(f"b{number}", Composite(inputs, channels, depth))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, channels of all branches, T, Y, X)."""
        return torch.cat([branch(x) for branch in self.children()], 1)


class Average(nn.Module):
    """Means of 2 x 2 x 2."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, Y, X) to (N, C, T // 2, Y // 2, X // 2)."""
        # An axis of one stays as it is, where the references stop: clips of fewer than 16 frames come to that.
        return F.avg_pool3d(x, [min(2, size) for size in x.shape[2:]])


class DenseNet(Network):
    """Stem, four blocks of dense layers with transitions between, mean over the clip, classifier.

    Hara et al., CVPR 2018, table 1, with the 1 x 1 x 1 convolution in the transitions that their code has, and Huang et al.,
    CVPR 2017, have; the caption of the table says 3 x 3 x 3.
    """

    head = "classifier"
    stem = "features.conv1"
    options = DenseNetOptions
    reference = "densenet"
    inflates = True

    def __init__(self, num_classes: int, options: DenseNetOptions, depth: int) -> None:
        super().__init__()
        channels, growth = options.channels(STEM), options.channels(GROWTH)
        kernel, stride = (options.stem_frames, 7, 7), (options.stem_stride, 2, 2)
        first = self.stem[-1]
        features: dict[str, nn.Module] = {f"conv{first}": convolution(options.in_channels, channels, kernel, stride)}
        features |= {f"norm{first}": nn.BatchNorm3d(channels), f"relu{first}": nn.ReLU(inplace=True)}
        if options.max_pool:
            features[f"pool{first}"] = nn.MaxPool3d(3, stride=(options.pool_stride, 2, 2), padding=1)
        for number, layers in enumerate(BLOCKS[depth], 1):
            inputs = range(channels, channels + layers * growth, growth)
            block = {f"denselayer{layer}": DenseLayer(count, growth) for layer, count in enumerate(inputs, 1)}
            features[f"denseblock{number}"] = nn.Sequential(OrderedDict(block))
            channels += layers * growth
            if number == len(BLOCKS[depth]):
                break
            outputs = channels // 2
            if options.transition != "conv":
                branches = options.branches(number, channels)
                features[f"ttl{number}"] = TemporalTransition(channels, branches)
                channels = outputs = sum(count for _, count in branches)
            if options.transition != "ttl":
                features[f"transition{number}"] = Composite(channels, outputs)
                channels = outputs
            features[f"average{number}"] = Average()
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
        """Those of torchvision, of the CVPR 2018 branch of the reference, and of the authors of DenseNet3D are known.

        They are as features.norm0, and the latter two as features.denseblock1.denselayer1.norm.1.
        """
        name = re.sub(r"^features\.(conv|norm)0\.", rf"features.\g<1>{cls.stem[-1]}.", name)
        return re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        found = guess_options(state, STAGES, BLOCKS[arguments["depth"]], first, first, cls.options)
        if found is None:
            return None
        shown = _shown(state, len(first) / STEM)
        made = cls.options(**found, **shown)
        return found | {n: v for n, v in shown.items() if getattr(made, n) != getattr(cls.options, n)}


def _shown(state: State, width: float) -> dict[str, Any]:
    """The options of `DenseNetOptions` that the kernels of transitions show."""
    names = sorted(n for n in state if re.fullmatch(r"features\.ttl\d\.b\d\.conv\.weight", n))
    if not names:
        return {"transition": "conv"}
    layers = [[state[n] for n in names if n.startswith(f"features.ttl{number}.")] for number in range(1, len(STAGES))]
    depths = [[kernel.shape[2] for kernel in kernels] for kernels in layers]
    while len(depths) > 1 and depths[-1] == depths[-2]:
        depths.pop()
    channels = []
    for kernels in zip(*layers, strict=False):
        counts = {len(kernel) for kernel in kernels}
        count = GROWTH if counts == {int(GROWTH * width)} else math.ceil(max(counts) / width)
        channels.append(count if len(counts) == 1 else 0)  # shares of the rest grow from layer to layer
    transition = "ttl+conv" if "features.transition1.conv.weight" in state else "ttl"
    return {"transition": transition, "ttl_depths": depths, "ttl_channels": channels}


@dataclass(frozen=True)
class DenseNet3DOptions(DenseNetOptions):
    """What can be chosen of DenseNet3D; `pool_stride` 2 is the code of its authors, and 1 gives the sizes that their table prints."""

    stem_frames: int = field(3, "Frames that the first kernel spans. Even numbers lengthen the clip by one frame.")
    stem_stride: int = field(2, "Frames from one place of the first kernel to the next.")
    pool_stride: int = field(1, "Frames from one place of the stem's pooling to the next.")


class DenseNet3D(DenseNet):
    """Diba et al., Temporal 3D ConvNets, table 1.

    The pooling of the stem is printed with stride 1, and halves height and width alone. The last average is over all that is left, which
    is 2 x 7 x 7 for clips of 32 x 224 x 224; in the code of the authors, with its `pool_stride`, it is 1 x 7 x 7.
    """

    stem = "features.conv0"
    options = DenseNet3DOptions
    reference = ""

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        found = super().guess(state, **arguments)
        # T3D without its layers is DenseNet3D, and files of Hara et al. have these names too, with their own stem.
        others = {"transition": "conv", "stem_frames": StemOptions.stem_frames}
        return None if found is None or others.items() & found.items() else found


@dataclass(frozen=True)
class T3DOptions(DenseNet3DOptions):
    """What can be chosen of T3D."""

    transition: str = field(
        "ttl", "What is between blocks, before the average: ttl, or ttl+conv as in the file that the authors withdrew."
    )


class T3D(DenseNet3D):
    """DenseNet3D with temporal transition layers: Diba et al., Temporal 3D ConvNets, table 1.

    The file that its authors withdrew is `transition="ttl+conv"`, `ttl_channels=(128, 128, 128)`, `ttl_depths=((1, 3, 4),)` and
    `pool_stride=2`; it pads nothing in time, so that what it concatenates is not of one size.
    """

    options = T3DOptions

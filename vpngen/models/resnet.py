"""ResNets for video, with the names and shapes of 3D-ResNets-PyTorch, so that weights go both ways.

All are one network: a stem, four stages of residual blocks, a mean, a classifier. A family says what its blocks are made of, and a depth
how many there are. Clips are (N, C, T, Y, X), of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen import checks
from vpngen.checks import Shape
from vpngen.fields import field
from vpngen.models.base import STEM, Network, State, StemOptions, convolution, guess_options

BLOCKS: Final = {
    10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}  # fmt: skip
"""Depth -> blocks of each stage: He et al., CVPR 2016, table 1."""
LAYERS: Final = ("layer1", "layer2", "layer3", "layer4")

Convolutions = dict[str, nn.Conv3d]
"""In the order they are applied in, by what follows `conv` and `bn` in their names: `1`, or `1_s` and `1_t`."""


@dataclass(frozen=True)
class ResNetOptions(StemOptions):
    """What can be chosen of a ResNet."""

    # Hara et al. use A for R3D-18 and 34 in table 1, B elsewhere.
    shortcut: str = field("B", "Where the shape changes: B for a convolution, A for zeros in the new channels.")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("shortcut", self.shortcut, ("A", "B"))


class Zeros(nn.Module):
    """Shortcut A: every `stride`-th voxel, and zeros in the new channels. It has no parameters.

    The reference cuts the gradient here, so that what lies below learns through the blocks alone. That is no part of the
    published method (He et al., CVPR 2016, section 3.3); here it flows. What comes out is the same.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T / stride, ...), rounded up."""
        s = self.stride
        return F.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, self.new))


class Block(nn.Module):
    """A few convolutions, and what goes in added to what comes out.

    After each convolution normalization and ReLU, the last ReLU behind the sum. Or, with `pre_activation`, both before each,
    and the sum as it is (He et al., ECCV 2016).
    """

    def __init__(self, convolutions: Convolutions, shortcut: nn.Module, pre_activation: bool) -> None:
        super().__init__()
        self.order = tuple(convolutions)
        self.pre_activation = pre_activation
        for name, conv in convolutions.items():
            norm = nn.BatchNorm3d(conv.in_channels if pre_activation else conv.out_channels)
            layers = {f"conv{name}": conv, f"bn{name}": norm}
            for key in reversed(layers) if pre_activation else layers:
                self.add_module(key, layers[key])
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T / stride, ...), rounded up."""
        out = x
        for name in self.order:
            conv, norm = getattr(self, f"conv{name}"), getattr(self, f"bn{name}")
            if self.pre_activation:
                out = conv(F.relu(norm(out), inplace=True))
            else:
                out = norm(conv(out))
                if name != self.order[-1]:
                    out = F.relu(out, inplace=True)
        out = out + self.downsample(x)
        return out if self.pre_activation else F.relu(out, inplace=True)


class ResNet(Network):
    """Stem, four stages of blocks, mean over the clip, classifier: Hara et al., CVPR 2018, table 1."""

    head = "fc"
    stem = "conv1"
    options = ResNetOptions
    reference = "resnet"
    inflates = True
    channels: ClassVar[int] = 64
    """Within a block of the first stage; they double from stage to stage."""
    expansion: ClassVar[int] = 4
    """Channels that leave a bottleneck block for each one within. Below 50 layers blocks are basic, and it is 1."""
    groups: ClassVar[int] = 1
    """Into how many the 3 x 3 x 3 convolution of a bottleneck is divided."""
    split: ClassVar[bool] = False
    """Whether convolutions are factorized into one over space and one over time, (2+1)D."""
    pre_activation: ClassVar[bool] = False
    """Whether normalization and ReLU come before each convolution."""

    def __init__(self, num_classes: int, options: ResNetOptions, depth: int) -> None:
        super().__init__()
        make, expansion = (self._bottleneck, self.expansion) if depth >= 50 else (self._basic, 1)
        inputs = options.channels(STEM)
        kernel, strides = (options.stem_frames, 7, 7), (options.stem_stride, 2, 2)
        # The reference counts for 3 channels, whatever a clip has.
        convolutions = self._convolutions(1, options.in_channels, inputs, kernel, strides, counted=3)
        self.order = tuple(convolutions)
        for name, conv in convolutions.items():
            self.add_module(f"conv{name}", conv)
            self.add_module(f"bn{name}", nn.BatchNorm3d(conv.out_channels))
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1) if options.max_pool else nn.Identity()
        for stage, (name, blocks) in enumerate(zip(LAYERS, BLOCKS[depth], strict=True)):
            channels = options.channels(self.channels * 2**stage, self.groups)
            layer = nn.Sequential()
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                shortcut = _shortcut(inputs, channels * expansion, stride, options.shortcut)
                layer.append(Block(make(inputs, channels, stride), shortcut, self.pre_activation))
                inputs = channels * expansion
            self.add_module(name, layer)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, C)."""
        x = clips
        for name in self.order:
            x = F.relu(getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(x)), inplace=True)
        x = self.maxpool(x)
        for name in LAYERS:
            x = getattr(self, name)(x)
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[str, ...]:
        """`layer1` to `layer4`."""
        return LAYERS

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        shortcut = {} if any(".downsample." in name for name in state) else {"shortcut": "A"}
        found = guess_options(state, LAYERS, BLOCKS[arguments["depth"]], first, state.get("conv1_t.weight", first))
        return None if found is None else found | shortcut

    def _convolutions(
        self, number: int, inputs: int, outputs: int, kernel: Shape, stride: Shape = (1, 1, 1), groups: int = 1,
        counted: int = 0,
    ) -> Convolutions:  # fmt: skip
        """One convolution; or one over space and one over time, with channels between that leave the parameters about as many.

        Tran et al., CVPR 2018, section 3.5. `counted` are the inputs that this is computed for, where they are not `inputs`.
        """
        if not self.split:
            return {f"{number}": convolution(inputs, outputs, kernel, stride, groups)}
        t, y, x = kernel
        counted = counted or inputs
        middle = counted * outputs * t * y * x // (counted * y * x + t * outputs)
        return {
            f"{number}_s": convolution(inputs, middle, (1, y, x), (1, *stride[1:])),
            f"{number}_t": convolution(middle, outputs, (t, 1, 1), (stride[0], 1, 1)),
        }

    def _basic(self, inputs: int, channels: int, stride: int) -> Convolutions:
        first = self._convolutions(1, inputs, channels, (3, 3, 3), (stride,) * 3)
        return first | self._convolutions(2, channels, channels, (3, 3, 3))

    def _bottleneck(self, inputs: int, channels: int, stride: int) -> Convolutions:
        inner = channels // self.groups * self.groups
        middle = self._convolutions(2, inner, inner, (3, 3, 3), (stride,) * 3, self.groups)
        first, last = convolution(inputs, inner, (1, 1, 1)), convolution(inner, channels * self.expansion, (1, 1, 1))
        return {"1": first, **middle, "3": last}


def _shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return Zeros(inputs, outputs, stride)
    return nn.Sequential(convolution(inputs, outputs, (1, 1, 1), (stride,) * 3), nn.BatchNorm3d(outputs))


class R2Plus1D(ResNet):
    """Tran et al., CVPR 2018."""

    reference = "resnet2p1d"
    stem = "conv1_s"
    inflates = False
    split = True


class PreActivation(ResNet):
    """Hara et al., CVPR 2018, table 1, after He et al., ECCV 2016."""

    reference = "preresnet"
    pre_activation = True


class Wide(ResNet):
    """Hara et al., CVPR 2018, table 1, with k = 2, and the stem and outer channels of the CVPR 2018 branch of the reference."""

    reference = "wideresnet"
    channels = 128
    expansion = 2


class ResNeXt(Wide):
    """The same with its channels divided into groups."""

    reference = "resnext"
    groups = 32

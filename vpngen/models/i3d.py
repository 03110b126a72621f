"""Inception-v1 with kernels in time: I3D, with the names of piergiaj/pytorch-i3d, and the Inception3D of T3D."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen.checks import Shape
from vpngen.models.base import STEM, DropoutOptions, Network, State

MIXED: Final = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64), "Mixed_4c": (160, 112, 224, 24, 64, 64), "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64), "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Module -> channels of b0, b1a, b1b, b2a, b2b, b3b: Szegedy et al., CVPR 2015, table 1."""
POOLS: Final[dict[str, tuple[str, Shape, Shape]]] = {
    "Conv3d_2b_1x1": ("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2)), "Mixed_3b": ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)), "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}  # fmt: skip
"""What a pooling comes before -> its name, kernel and stride: Carreira and Zisserman, CVPR 2017, figure 3."""
STEM_KERNELS: Final = (7, 3)
"""Size of the first kernel of I3D, and of Inception3D."""
GOOGLENET: Final = {
    "conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3", "branch1": "b0", "branch2.0": "b1a",
    "branch2.1": "b1b", "branch3.0": "b2a", "branch3.1": "b2b", "branch4.1": "b3b",
}  # fmt: skip
"""Layer of torchvision's GoogLeNet -> layer here. Its 5 x 5 kernels are 3 x 3, as those of I3D are."""


def pad(x: Tensor, kernel: Shape, stride: Shape) -> Tensor:
    """(N, C, T, Y, X) with zeros around it, so that ceil(size / stride) places of a kernel fit: the padding SAME of TensorFlow.

    Where the zeros are odd in number, there is one more behind than in front.
    """
    sides: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        zeros = max(k - (size % s or s), 0)
        sides += [zeros // 2, zeros - zeros // 2]
    return F.pad(x, sides)


class Pool(nn.Module):
    """The largest value under a kernel. Around the clip there are zeros, as in front of it: all comes from a ReLU."""

    def __init__(self, kernel: Shape, stride: Shape) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, Y, X) to (N, C, T / stride, ...), rounded up."""
        return F.max_pool3d(pad(x, self.kernel, self.stride), self.kernel, self.stride)


class Unit(nn.Module):
    """Convolution, normalization, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, bias: bool, eps: float, momentum: float
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=bias)
        self.bn = nn.BatchNorm3d(outputs, eps, momentum)
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T / stride, ...), rounded up."""
        x = x if self.stride == (1, 1, 1) else pad(x, self.kernel, self.stride)
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class Mixed(nn.Module):
    """Four branches side by side: Szegedy et al., CVPR 2015, figure 2 (b)."""

    def __init__(self, inputs: int, channels: list[int], unit: Callable[..., Unit], twice: bool) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = unit(inputs, b0)
        self.b1a, self.b1b = unit(inputs, b1a), unit(b1a, b1b, 3)
        self.b2a, self.b2b = unit(inputs, b2a), unit(b2a, b2b, 3)
        self.b2c = unit(b2b, b2b, 3) if twice else nn.Identity()
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), unit(inputs, b3b)
        self.outputs = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T, Y, X)."""
        third = self.b2c(self.b2b(self.b2a(x)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), third, self.b3b(self.b3a(x))], 1)


class I3D(Network):
    """Carreira and Zisserman, CVPR 2017, figure 3. Inputs are in [-1, 1]: a mean of 0.5 and a std of 0.5 of pixel values in [0, 1].

    The average pooling spans two frames, as there, and all of height and width, which are 7 x 7 at 224 pixels, and 4 x 4 at 112. The logits
    of its places in time are averaged. The momentum of batch normalization is that of the port; the paper says nothing of it.

    With `t3d` it is the Inception3D of Diba et al. 2017, "same as I3D" (section 4.6). As in the file that its authors published, the first
    kernel is 3 x 3 x 3 in spite of its name here, a second one of 3 x 3 x 3 in each module stands for one of 5 x 5 x 5, convolutions have
    a bias, batch normalization is as torch has it, and the average spans one frame. Paddings and dropout are those of I3D: with
    the paddings of that file there are more logits than classes.
    """

    head = "logits.conv3d"
    stem = "Conv3d_1a_7x7.conv3d"
    options = DropoutOptions
    inflates = True
    images = "half"  # torchvision's GoogLeNet takes ImageNet's, and makes [-1, 1] of it
    least = (9, 1, 1)

    def __init__(self, num_classes: int, options: DropoutOptions, t3d: bool = False) -> None:
        super().__init__()
        first, second = options.channels(STEM), options.channels(192)
        unit: Callable[..., Unit] = functools.partial(Unit, bias=False, eps=0.001, momentum=0.01)
        self.window = 2
        if t3d:
            unit, self.window, self.least = functools.partial(Unit, bias=True, eps=1e-5, momentum=0.1), 1, (1, 1, 1)
        units: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": unit(options.in_channels, first, STEM_KERNELS[t3d], 2),
            "Conv3d_2b_1x1": unit(first, first),
            "Conv3d_2c_3x3": unit(first, second, 3),
        }
        inputs = second
        for name, channels in MIXED.items():
            units[name] = mixed = Mixed(inputs, [options.channels(count) for count in channels], unit, twice=t3d)
            inputs = mixed.outputs
        self.order: list[str] = []
        for name, layer in units.items():
            if name in POOLS:
                pool, kernel, stride = POOLS[name]
                self.add_module(pool, Pool(kernel, stride))
                self.order.append(pool)
            self.add_module(name, layer)
            self.order.append(name)
        self.dropout = nn.Dropout(options.dropout)
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(inputs, num_classes, 1)})

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, 1024), a part of it left out in training."""
        x = clips
        for name in self.order:
            x = getattr(self, name)(x)
        # The classifier is linear: the mean of its logits is the logits of the mean.
        frames = F.avg_pool3d(x, (min(self.window, x.shape[2]), *x.shape[3:]), stride=1)
        return self.dropout(frames).mean((2, 3, 4))  # type: ignore[no-any-return]

    def stages(self) -> tuple[str, ...]:
        """`Mixed_3b` to `Mixed_5c`."""
        return tuple(MIXED)

    @classmethod
    def own_name(cls, name: str) -> str:
        """Those of torchvision's GoogLeNet are known, as inception3a.branch1.conv. Its classifiers for training alone have no place."""
        if re.match(r"aux[12]\.", name):
            return ""
        name = re.sub(r"^fc\.(weight|bias)$", r"logits.conv3d.\1", name)
        if found := re.fullmatch(r"(?:inception(\d)([a-e])\.)?(conv[123]|branch\d(?:\.\d)?)\.(conv|bn)\.(\w+)", name):
            block, letter, layer, kind, leaf = found.groups()
            mixed = f"Mixed_{block}{chr(ord(letter) + 1)}." if block else ""
            name = f"{mixed}{GOOGLENET.get(layer, layer)}.{kind.replace('conv', 'conv3d')}.{leaf}"
        return name

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        if first.shape[-1] != STEM_KERNELS[arguments.get("t3d", False)]:
            return None
        found = {"in_channels": first.shape[1], "width": len(first) / STEM}
        return {name: value for name, value in found.items() if value != getattr(DropoutOptions, name)}

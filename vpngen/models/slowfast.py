"""SlowFast networks and their paths alone, with the names and shapes of pytorchvideo's hub models, so that weights go both ways.

Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019. A path is a ResNet of bottlenecks that keep all its frames. The
slow path has few frames and many channels, the fast one all frames and few channels, and lateral convolutions go from the fast one to the
slow one. `slowfast50` is SlowFast 8 x 8, R50, for clips of 32 frames: alpha is 4, beta 1/8.

One clip goes in. Of its T frames the slow path takes n = T / alpha, rounded up. Frame k of them is frame k (T - 1) / (n - 1), rounded
down: 0, 4, 8, 13, 17, 22, 26, 31 of 32, and 0, 5, 10, 15 of 16. That is the truncated linspace of PySlowFast, where a stride would leave
out the end. So a clip may have any number of frames, and PySlowFast's multiples of alpha are a case of it: alpha, as it comes out, is
T / n, and tau, frames of the clip from one of the slow path to the next, (T - 1) / (n - 1). The numbers are exact; torch.linspace, in
float32, now and then takes the frame before, in clips of more than 100.

What a path alone is given, the paper leaves open. The fast one sees all frames of the clip. So does the slow one, as in PySlowFast, whose
clips for it are 8 frames at a step of 8; with `alpha=4` it takes those that it has in SlowFast.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import field
from vpngen.models.base import MOST, STEM, Network, Options, State, convolution, has_blocks, unusual

BLOCKS: Final = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Depth -> blocks of each stage: He et al., CVPR 2016, table 1."""
LATERAL: Final = {50: 7, 101: 5}
"""Depth -> frames of the lateral kernels of the published 8 x 8 networks. Section 3.4 of the paper prints 5."""
SLOW: Final = (1, 1, 3, 3)
"""Frames that the first kernel of each block of the slow path spans, by stage: table 1."""
FAST: Final = (3, 3, 3, 3)
EXPANSION: Final = 4
"""Channels that leave a block for each one within."""
FUSION: Final = 2
"""Channels that leave a lateral convolution for each one of the fast path: section 4.1."""
WINDOW: Final = 7
"""Height and width that the classifier looks at: those of the features of 224 pixels."""
STAGES: Final = ("blocks.1", "blocks.2", "blocks.3", "blocks.4")
_FIRST: Final = "branch2.conv_a.weight"
_LAYERS: Final = {
    "conv_f2s": "conv_fast_to_slow",
    "bn": "norm",
    "branch1": "branch1_conv",
    "branch1_bn": "branch1_norm",
}
_COUNTS: Final = ("alpha", "beta", "temporal_blocks")
_KERNELS: Final = ("lateral_frames", "stem_frames", "stem_size")


@dataclass(frozen=True)
class PathOptions(Options):
    """What can be chosen of every path."""

    dropout: float = field(0.5, "Probability of dropout before the classifier.")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("dropout", self.dropout, lambda v: 0 <= v < 1, "in [0, 1)")
        for name, value in vars(self).items():
            if name in (*_COUNTS, *_KERNELS) and value is not None:
                checks.integer(name, value, 1, MOST)
            if name in _KERNELS and value is not None and value % 2 == 0:
                raise ArgumentError("must be odd, so that what comes out has the size of what goes in", name, value)


# Kataoka et al., WACV 2022, section 5.2, print stems of (x, y, t) = (7, 7, 5) and (3, 3, 1), and no strides: here that of the slow one
# stays 2 with `stem_size=3`.
@dataclass(frozen=True)
class SlowOptions(PathOptions):
    """What can be chosen of the slow path."""

    alpha: int = field(1, "Frames of a clip for each one that is taken; 4 takes those of SlowFast 8 x 8.")
    stem_size: int = field(7, "Height and width of the first kernel, which spans one frame.")


@dataclass(frozen=True)
class FastOptions(PathOptions):
    """What can be chosen of the fast path."""

    beta: int = field(8, "Channels of a slow path for each one here: the inverse of the paper's beta.")
    stem_frames: int = field(5, "Frames that the first kernel spans.")


@dataclass(frozen=True)
class SlowFastOptions(PathOptions):
    """What can be chosen of a SlowFast."""

    alpha: int = field(4, "Frames of the fast path for each one of the slow path; 8 for SlowFast 4 x 16.")
    beta: int = field(8, "Channels of the slow path for each one of the fast path: the inverse of the paper's beta.")
    lateral_frames: int | None = field(None, "Frames that the lateral kernels span; None for 7 of R50, 5 of R101.")
    stem_frames: int = field(5, "Frames that the first kernel of the fast path spans.")
    stem_size: int = field(7, "Height and width of the first kernel of the slow path, which spans one frame.")
    temporal_blocks: int = field(23, "Blocks of conv4_x, from the first on, that span 3 frames; 6 for R101-50-50.")


class Block(nn.Module):
    """Three convolutions, the first over time and the second over space, and what goes in added to what comes out: table 1."""

    def __init__(self, inputs: int, channels: int, frames: int, stride: int) -> None:
        super().__init__()
        outputs, strides = channels * EXPANSION, (1, stride, stride)
        same = stride == 1 and inputs == outputs
        self.branch1_conv = nn.Identity() if same else convolution(inputs, outputs, (1, 1, 1), strides)
        self.branch1_norm = nn.Identity() if same else nn.BatchNorm3d(outputs)
        self.branch2 = _named(
            conv_a=convolution(inputs, channels, (frames, 1, 1)),
            norm_a=nn.BatchNorm3d(channels),
            act_a=nn.ReLU(inplace=True),
            conv_b=convolution(channels, channels, (1, 3, 3), strides),
            norm_b=nn.BatchNorm3d(channels),
            act_b=nn.ReLU(inplace=True),
            conv_c=convolution(channels, outputs, (1, 1, 1)),
            norm_c=nn.BatchNorm3d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T, Y / stride, X / stride), rounded up."""
        return F.relu(self.branch2(x) + self.branch1_norm(self.branch1_conv(x)), inplace=True)


class Pair(nn.Module):
    """The stem or a stage of both paths, and what goes from the fast one to the slow one behind it."""

    def __init__(self, slow: nn.Module, fast: nn.Module, lateral: nn.Module | None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = lateral

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Both (N, C, T, Y, X), each with C and T of its own, to what the next stage takes."""
        slow, fast = self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)
        if self.multipathway_fusion is not None:
            slow = torch.cat([slow, self.multipathway_fusion(fast)], 1)
        return slow, fast


class Head(nn.Module):
    """Means over all frames and 7 x 7 places, dropout, and the classifier, as pytorchvideo has them.

    Clips of 224 pixels have one such mean. Larger ones have several, side by side, and the mean of their logits is taken: at 256 pixels of
    2 x 2, so that places in the middle count more than those at the border. Of smaller ones it is the mean over the places there are,
    where pytorchvideo fails.
    """

    def __init__(self, inputs: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(inputs, num_classes)

    def forward(self, *paths: Tensor) -> Tensor:
        """What leaves the paths, each (N, C, T, Y, X) with C and T of its own, to what `proj` takes (N, C of all).

        The mean of what it takes gives the mean of the logits, for it is linear.
        """
        means = [F.avg_pool3d(x, (x.shape[2], min(WINDOW, x.shape[3]), min(WINDOW, x.shape[4])), 1) for x in paths]
        return cast(Tensor, self.dropout(torch.cat(means, 1))).mean((2, 3, 4))


class Pathways(Network):
    """What SlowFast and its paths alone have in common."""

    def initialize(self) -> None:
        """See `Network`; and blocks begin as their shortcuts: section 4, after Goyal et al., arXiv:1706.02677, section 5.1."""
        super().initialize()
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.branch2.get_parameter("norm_c.weight"))

    def initialize_head(self, head: nn.Module) -> None:
        """Normal with a std of 0.01, and zero: Goyal et al., section 5.1."""
        nn.init.normal_(head.get_parameter("weight"), std=0.01)
        nn.init.zeros_(head.get_parameter("bias"))

    def stages(self) -> tuple[str, ...]:
        """`blocks.1` to `blocks.4`, of a SlowFast both paths, each with the lateral convolution behind it."""
        return STAGES

    @classmethod
    def own_name(cls, name: str) -> str:
        """Those of PySlowFast are known, as s1.pathway0_stem.bn.weight, s2_fuse.conv_f2s.weight, s3.pathway1_res0.branch2.a_bn.weight.

        So are those of pytorchvideo's networks within PySlowFast, as model.blocks.0.conv.weight.
        """
        name = re.sub(r"^head\.projection\.", f"{cls.head}.", name.removeprefix("model."))
        match = re.fullmatch(r"s([1-5])(?:_fuse|\.pathway([01])_(?:stem|res(\d+)))\.(.+)", name)
        both = ".multipathway_blocks." in cls.stem
        if match is None or not (both or match[2] == "0"):
            return name
        stage, path, block, layer = match.groups()
        part = ".multipathway_fusion" if path is None else f".multipathway_blocks.{path}" if both else ""
        part += "" if block is None else f".res_blocks.{block}"
        layer = re.sub(r"^branch2\.([abc])(_bn)?\.", lambda m: f"branch2.{'norm' if m[2] else 'conv'}_{m[1]}.", layer)
        for theirs, ours in _LAYERS.items():
            layer = re.sub(rf"^{theirs}\.", f"{ours}.", layer)
        return f"blocks.{int(stage) - 1}{part}.{layer}"


class SlowFast(Pathways):
    """Both paths: table 1, with the lateral convolutions of section 3.4, strided in time.

    Shapes do not show alpha. It is taken to be 4; and 8 with lateral kernels of 5 frames in R50, which is SlowFast 4 x 16.
    """

    head = "blocks.6.proj"
    stem = "blocks.0.multipathway_blocks.1.conv"
    options = SlowFastOptions

    def __init__(self, num_classes: int, options: SlowFastOptions, depth: int) -> None:
        super().__init__()
        slow = options.channels(STEM, options.beta)
        fast, size = slow // options.beta, options.stem_size
        spans = [_spans(depth, frames, options.temporal_blocks) for frames in (SLOW, FAST)]
        paths = (
            _path(options.in_channels, slow, (1, size, size), spans[0], FUSION * fast),
            _path(options.in_channels, fast, (options.stem_frames, 7, 7), spans[1]),
        )
        laterals = [
            _named(
                conv_fast_to_slow=convolution(
                    channels, FUSION * channels, (options.lateral_frames or LATERAL[depth], 1, 1), (options.alpha, 1, 1)
                ),
                norm=nn.BatchNorm3d(FUSION * channels),
                act=nn.ReLU(inplace=True),
            )
            for channels in (fast, *(fast * EXPANSION * 2**stage for stage in range(3)))
        ]
        self.alpha = options.alpha
        self.blocks = nn.ModuleList([Pair(*parts) for parts in zip(*paths, [*laterals, None], strict=True)])
        self.blocks.append(nn.Identity())  # the pooling has this number in pytorchvideo, and no weights
        self.blocks.append(Head((slow + fast) * EXPANSION * 8, num_classes, options.dropout))

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, C), the slow path first."""
        paths = sampled(clips, self.alpha), clips
        for pair in self.blocks[:5]:
            paths = pair(*paths)
        return cast(Tensor, self.blocks[6](*paths))

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        depth = arguments["depth"]
        stages = [f"{stage}.multipathway_blocks.0.res_blocks" for stage in STAGES]
        if not has_blocks(state, stages, BLOCKS[depth]):
            return None
        slow, fast = (state[f"blocks.0.multipathway_blocks.{path}.conv.weight"] for path in (0, 1))
        lateral = state["blocks.0.multipathway_fusion.conv_fast_to_slow.weight"].shape[2]
        temporal = sum(state[f"{stages[2]}.{number}.{_FIRST}"].shape[2] > 1 for number in range(BLOCKS[depth][2]))
        found = {
            "in_channels": slow.shape[1], "width": len(slow) / STEM, "alpha": 8 if (depth, lateral) == (50, 5) else 4,
            "beta": _beta(len(slow), len(fast)), "lateral_frames": None if lateral == LATERAL[depth] else lateral,
            "stem_frames": fast.shape[2], "stem_size": slow.shape[3],
            "temporal_blocks": temporal if temporal < BLOCKS[depth][2] else SlowFastOptions.temporal_blocks,
        }  # fmt: skip
        return unusual(cls.options, found)


class Slow(Pathways):
    """The slow path alone: the `slow_r50` of pytorchvideo."""

    head = "blocks.5.proj"
    stem = "blocks.0.conv"
    options = SlowOptions
    inflates = True

    def __init__(self, num_classes: int, options: SlowOptions, depth: int) -> None:
        super().__init__()
        channels, kernel = options.channels(STEM), (1, options.stem_size, options.stem_size)
        self.alpha = options.alpha
        self.blocks = nn.ModuleList(_path(options.in_channels, channels, kernel, _spans(depth, SLOW)))
        self.blocks.append(Head(channels * EXPANSION * 8, num_classes, options.dropout))

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, C)."""
        x = sampled(clips, self.alpha)
        for block in self.blocks:
            x = block(x)
        return x

    @classmethod
    def own_name(cls, name: str) -> str:
        """See `Pathways`; and those of the ResNets of torchvision are known, for inflation."""
        name = re.sub(r"^fc\.", f"{cls.head}.", super().own_name(name))
        name = re.sub(r"^(conv|bn)1\.", lambda m: f"blocks.0.{_LAYERS.get(m[1], m[1])}.", name)
        match = re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn|downsample\.)([0-3])\.(.+)", name)
        if match is None:
            return name
        stage, block, kind, number, rest = match.groups()
        layer = (
            f"branch1_{('conv', 'norm')[int(number) % 2]}"
            if kind[0] == "d"
            else f"branch2.{_LAYERS.get(kind, kind)}_{'-abc'[int(number)]}"
        )
        return f"blocks.{stage}.res_blocks.{block}.{layer}.{rest}"

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        if not _is_path(state, arguments["depth"], SLOW[0]):
            return None
        found = {"in_channels": first.shape[1], "width": len(first) / STEM, "stem_size": first.shape[-1]}
        return unusual(cls.options, found)


class Fast(Pathways):
    """The fast path alone, of which no weights are published. Shapes do not tell beta from width: beta is taken to be 8."""

    head = "blocks.5.proj"
    stem = "blocks.0.conv"
    options = FastOptions

    def __init__(self, num_classes: int, options: FastOptions, depth: int) -> None:
        super().__init__()
        channels, kernel = options.channels(STEM, options.beta) // options.beta, (options.stem_frames, 7, 7)
        self.blocks = nn.ModuleList(_path(options.in_channels, channels, kernel, _spans(depth, FAST)))
        self.blocks.append(Head(channels * EXPANSION * 8, num_classes, options.dropout))

    def features(self, clips: Tensor) -> Tensor:
        """Clips (N, in_channels, T, Y, X) to (N, C)."""
        x = clips
        for block in self.blocks:
            x = block(x)
        return x

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """See `Network`."""
        first = state[f"{cls.stem}.weight"]
        if not _is_path(state, arguments["depth"], FAST[0]):
            return None
        found = {
            "in_channels": first.shape[1],
            "width": len(first) * FastOptions.beta / STEM,
            "stem_frames": first.shape[2],
        }
        return unusual(cls.options, found)


def sampled(clips: Tensor, alpha: int) -> Tensor:
    """Of the frames of clips (N, C, T, Y, X) those that the slow path takes: T / alpha, rounded up, from the first to the last."""
    frames = clips.shape[2]
    count = -(-frames // alpha)
    if count == frames:
        return clips
    return torch.stack([clips[:, :, k * (frames - 1) // max(count - 1, 1)] for k in range(count)], 2)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _spans(depth: int, frames: Sequence[int], temporal_blocks: int = MOST) -> list[list[int]]:
    """Frames that the first kernel of each block spans, by stage; in conv4_x those of the first `temporal_blocks`, and one in others."""
    return [
        [span if stage != 2 or number < temporal_blocks else 1 for number in range(count)]
        for stage, (count, span) in enumerate(zip(BLOCKS[depth], frames, strict=True))
    ]


def _path(inputs: int, channels: int, kernel: Shape, spans: list[list[int]], lateral: int = 0) -> list[nn.Module]:
    """The stem and the stages of a path; `lateral` are the channels that join the `channels` of its stem, and then in proportion."""
    conv, pool = convolution(inputs, channels, kernel, (1, 2, 2)), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    parts: list[nn.Module] = [_named(conv=conv, norm=nn.BatchNorm3d(channels), act=nn.ReLU(inplace=True), pool=pool)]
    inputs = channels + lateral
    for stage, frames in enumerate(spans):
        blocks = nn.Sequential()
        for number, span in enumerate(frames):
            blocks.append(Block(inputs, channels * 2**stage, span, 2 if stage and not number else 1))
            inputs = channels * 2**stage * EXPANSION
        inputs += lateral * 2**stage * EXPANSION
        parts.append(_named(res_blocks=blocks))
    return parts


def _is_path(state: State, depth: int, frames: int) -> bool:
    """Whether this may be a path alone of so many blocks, whose first kernel over time spans so many frames."""
    first = state[f"{STAGES[0]}.res_blocks.0.{_FIRST}"]
    return has_blocks(state, [f"{stage}.res_blocks" for stage in STAGES], BLOCKS[depth]) and (
        first.ndim == 4 or first.shape[2] == frames
    )


def _beta(slow: int, fast: int) -> int:
    """That of so many channels: the usual one where it may be."""
    return SlowFastOptions.beta if slow // SlowFastOptions.beta == fast else slow // fast

"""3D CNNs for video, with the names and shapes of 3D-ResNets-PyTorch, so that weights go both ways.

All but DenseNet are one network: a stem, four stages of residual blocks, a mean, a classifier. A family says what its blocks are
made of, and a depth how many there are. Clips are (N, C, T, Y, X) throughout, of any size.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import nn

from vpngen.errors import ArgumentError, MissingError
from vpngen.generators import Shape

BLOCKS: Final[dict[int, tuple[int, ...]]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}
"""Depth -> blocks of each stage: He et al., CVPR 2016, table 1, and from 121 on Huang et al., CVPR 2017, table 1."""
STEM: Final = 64
"""Planes of the stem."""
GROWTH: Final = 32
"""Planes that each layer of a DenseNet adds, and a quarter of those within the layer."""
MOST: Final = 2**20
"""No count of an argument is larger."""
CLASS_COUNTS: Final = ("num_classes", "n_classes", "model_num_class", "class_count")
"""What the factories of other packages call the number of classes."""


@dataclass(frozen=True)
class Family:
    """What the blocks of a network are made of.

    Attributes:
        reference: its name in 3D-ResNets-PyTorch.
        depths: those there are, keys of `BLOCKS`.
        planes: within a block of the first stage; they double from stage to stage.
        expansion: planes that leave a bottleneck block for each one within. Below 50 layers blocks are basic, and it is 1.
        groups: into how many the 3 x 3 x 3 convolution of a bottleneck is divided.
        split: whether convolutions are factorized into one over space and one over time, (2+1)D.
        pre_activation: whether normalization and ReLU come before each convolution.
        dense: whether it is a DenseNet, to which of the above only the depths matter.
    """

    reference: str
    depths: tuple[int, ...] = (10, 18, 34, 50, 101, 152, 200)
    planes: int = 64
    expansion: int = 4
    groups: int = 1
    split: bool = False
    pre_activation: bool = False
    dense: bool = False


FAMILIES: Final[dict[str, Family]] = {
    "r3d": Family("resnet"),
    "r2p1d": Family("resnet2p1d", split=True),
    "preact": Family("preresnet", pre_activation=True),
    "wide": Family("wideresnet", (50,), planes=128, expansion=2),
    "resnext": Family("resnext", (50, 101, 152), planes=128, expansion=2, groups=32),
    "densenet": Family("densenet", (121, 169, 201, 264), dense=True),
}
"""Hara et al., CVPR 2018, table 1, and Tran et al., CVPR 2018, for (2+1)D. `wide` has k = 2 and, like `resnext`, the stem and the
outer planes of the CVPR 2018 branch of 3D-ResNets-PyTorch."""

MODELS: Final[tuple[str, ...]] = tuple(f"{name}{depth}" for name, family in FAMILIES.items() for depth in family.depths)


@dataclass(frozen=True)
class Options:
    """What can be chosen of every network here.

    Attributes:
        shortcut: where the shape changes, `B` for a convolution beside the block, `A` for zeros in the planes that are new;
            DenseNets have none. Hara et al. use A for R3D-18 and 34 in table 1, B elsewhere.
        in_channels: channels of a clip.
        stem_frames: frames that the first kernel spans. Even numbers lengthen the clip by one frame.
        stem_stride: frames from one place of the first kernel to the next.
        max_pool: whether the stem ends with the pooling that halves frames, height and width.
        width: what all planes are multiplied by, rounded down.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    shortcut: str = "B"
    in_channels: int = 3
    stem_frames: int = 7
    stem_stride: int = 1
    max_pool: bool = True
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.shortcut not in ("A", "B"):
            raise ArgumentError("must be A (zeros) or B (a convolution)", "shortcut", self.shortcut)
        for name in ("in_channels", "stem_frames", "stem_stride"):
            check_count(name, getattr(self, name))
        if not isinstance(self.max_pool, bool):
            raise ArgumentError("must be True or False", "max_pool", self.max_pool)
        numeric = isinstance(self.width, (int, float)) and not isinstance(self.width, bool)
        if not numeric or not 0 < self.width <= STEM:
            raise ArgumentError(f"must be a number above 0 and up to {STEM}", "width", self.width)

    def planes(self, count: int, groups: int = 1) -> int:
        """`count` at this width, and at least one for each group. Raises ArgumentError where that leaves none."""
        planes = int(count * self.width)
        if planes < groups:
            raise ArgumentError(f"must be at least {groups / count:g} for this model", "width", self.width)
        return planes


def create_model(name: str, num_classes: int = 400, **options: Any) -> nn.Module:
    """A network with fresh weights.

    >>> create_model("r3d18", num_classes=256)(torch.zeros(1, 3, 16, 112, 112)).shape
    torch.Size([1, 256])

    Args:
        name: one of `MODELS`, or `package.module:callable` for one of another package. That is called with the class count, under
            whichever of `num_classes`, `n_classes`, `model_num_class` and `class_count` it knows, or takes as a keyword to pass
            on, and with the options.
        num_classes: how many the network tells apart.
        options: for one of `MODELS` the fields of `Options`.

    Returns:
        A module from clips, float (N, in_channels, T, Y, X), to logits (N, num_classes).

    Raises:
        ArgumentError: there is no such model or option, or a value is not allowed.
        MissingError: the package of `package.module:callable` cannot be imported.

    Weights of convolutions are drawn as He et al., ICCV 2015, have it, for as many planes as leave.
    """
    check_count("num_classes", num_classes)
    if ":" in str(name):
        return _foreign(name, num_classes, options)
    family, depth = _find(name)
    known = [field for field in Options.__dataclass_fields__ if not (family.dense and field == "shortcut")]
    if unknown := [option for option in options if option not in known]:
        raise ArgumentError(f"{name} has no option `{unknown[0]}`; it has {', '.join(known)}")
    chosen = Options(**options)
    model = DenseNet(depth, num_classes, chosen) if family.dense else ResNet(family, depth, num_classes, chosen)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def reference_arch(name: str) -> str:
    """What 3D-ResNets-PyTorch calls a model, as `resnet-50` for `r3d50`; any other name stays as it is."""
    if name not in MODELS:
        return name
    family, depth = _find(name)
    return f"{family.reference}-{depth}"


def _find(name: str) -> tuple[Family, int]:
    """Family and depth of one of `MODELS`. Raises ArgumentError for another name."""
    for prefix, family in FAMILIES.items():
        for depth in family.depths:
            if name == f"{prefix}{depth}":
                return family, depth
    raise ArgumentError(f"must be one of {', '.join(MODELS)}, or of the form package.module:callable", "name", name)


def check_count(name: str, value: Any) -> None:
    """Raises ArgumentError unless `value` is a count."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise ArgumentError(f"must be an integer from 1 to {MOST:,}", name, value)


def _foreign(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """What `package.module:callable` makes. Raises as `create_model`."""
    home, _, path = name.partition(":")
    if not all(part.isidentifier() for part in (*home.split("."), *path.split("."))):
        raise ArgumentError("must be one of MODELS, or of the form package.module:callable", "name", name)
    try:
        factory: Any = importlib.import_module(home)
    except Exception as error:  # whatever a module may do when it is imported
        raise MissingError(
            f"`name` (={name!r}): {home} cannot be imported ({type(error).__name__}: {error}); install it, or add the folder "
            f"that it is in to PYTHONPATH"
        ) from error
    for part in path.split("."):
        if not hasattr(factory, part):
            raise ArgumentError(f"is not there: {home} has no {path}", "name", name)
        factory = getattr(factory, part)
    if not callable(factory):
        raise ArgumentError("cannot be called; it must be a function or class that makes a model", "name", name)
    signature = inspect.signature(factory)
    taken = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    counts = [c for c in CLASS_COUNTS if c in taken][:1] or list(CLASS_COUNTS if open_ended else ())
    if not counts:
        raise ArgumentError(
            "takes no class count; it needs a parameter called {', '.join(CLASS_COUNTS[:-1])} or "
            f"{CLASS_COUNTS[-1]}, and has {', '.join(taken) or 'none'}",
            "name",
            name,
        )
    for count in counts:
        if count in options:
            raise ArgumentError(f"option `{count}` of {name} is its class count; give it as `num_classes`")
        try:
            signature.bind(**{count: num_classes}, **options)
            model = factory(**{count: num_classes}, **options)
            break
        except TypeError as error:
            if count != counts[-1] and f"keyword argument '{count}'" in str(error):
                continue  # whoever the keywords are passed on to calls it otherwise
            raise ArgumentError(
                f"{name} cannot be called with `{count}` and the options {', '.join(options) or '(none)'}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"{name} must return a torch.nn.Module, and returned a {type(model).__name__}")
    return model


# --- the vocabulary: convolutions, one whole or two in its place, and blocks of them

Convolutions = dict[str, nn.Conv3d]
"""In the order they are applied in, by what follows `conv` and `bn` in their names: `1`, or `1_s` and `1_t`."""


def _convolution(inputs: int, outputs: int, kernel: Shape, stride: Shape = (1, 1, 1), groups: int = 1) -> nn.Conv3d:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def _split(number: int, inputs: int, outputs: int, kernel: Shape, stride: Shape, reckoned: int = 0) -> Convolutions:
    """One convolution over space and one over time, with as many planes between as leave the parameters as many.

    Tran et al., CVPR 2018, section 3.5. `reckoned` are the inputs that this count is for, where they are not `inputs`.
    """
    t, y, x = kernel
    wanted = reckoned or inputs
    middle = wanted * outputs * t * y * x // (wanted * y * x + t * outputs)
    return {
        f"{number}_s": _convolution(inputs, middle, (1, y, x), (1, *stride[1:])),
        f"{number}_t": _convolution(middle, outputs, (t, 1, 1), (stride[0], 1, 1)),
    }


def _stem(family: Family, planes: int, options: Options) -> Convolutions:
    kernel, stride = (options.stem_frames, 7, 7), (options.stem_stride, 2, 2)
    if family.split:
        # The reference counts for 3 channels, whatever a clip has.
        return _split(1, options.in_channels, planes, kernel, stride, reckoned=3)
    return {"1": _convolution(options.in_channels, planes, kernel, stride)}


def _basic(family: Family, inputs: int, planes: int, stride: int) -> Convolutions:
    kernel, strides = (3, 3, 3), (stride,) * 3
    if family.split:
        return _split(1, inputs, planes, kernel, strides) | _split(2, planes, planes, kernel, (1, 1, 1))
    return {"1": _convolution(inputs, planes, kernel, strides), "2": _convolution(planes, planes, kernel)}


def _bottleneck(family: Family, inputs: int, planes: int, stride: int) -> Convolutions:
    kernel, strides = (3, 3, 3), (stride,) * 3
    inner = planes // family.groups * family.groups
    if family.split:
        middle = _split(2, inner, inner, kernel, strides)
    else:
        middle = {"2": _convolution(inner, inner, kernel, strides, family.groups)}
    first, last = _convolution(inputs, inner, (1, 1, 1)), _convolution(inner, planes * family.expansion, (1, 1, 1))
    return {"1": first, **middle, "3": last}


class Zeros(nn.Module):
    """Shortcut A: every `stride`-th voxel, and zeros in the planes that are new. It has no parameters.

    The reference cuts the gradient here, so that what lies below learns through the blocks alone. That is no part of the
    published method (He et al., CVPR 2016, section 3.3); here it flows. What comes out is the same.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = outputs - inputs, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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
            if pre_activation:
                self.add_module(f"bn{name}", nn.BatchNorm3d(conv.in_channels))
                self.add_module(f"conv{name}", conv)
            else:
                self.add_module(f"conv{name}", conv)
                self.add_module(f"bn{name}", nn.BatchNorm3d(conv.out_channels))
        self.downsample = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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


class ResNet(nn.Module):
    """Stem, four stages of blocks, mean over the clip, classifier: Hara et al., CVPR 2018, table 1."""

    def __init__(self, family: Family, depth: int, num_classes: int, options: Options) -> None:
        super().__init__()
        make, expansion = (_bottleneck, family.expansion) if depth >= 50 else (_basic, 1)
        inputs = options.planes(STEM)
        stem = _stem(family, inputs, options)
        self.stem = tuple(stem)
        for name, conv in stem.items():
            self.add_module(f"conv{name}", conv)
            self.add_module(f"bn{name}", nn.BatchNorm3d(conv.out_channels))
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1) if options.max_pool else nn.Identity()
        for stage, blocks in enumerate(BLOCKS[depth]):
            planes = options.planes(family.planes * 2**stage, family.groups)
            layer = nn.Sequential()
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                shortcut = _shortcut(inputs, planes * expansion, stride, options.shortcut)
                layer.append(Block(make(family, inputs, planes, stride), shortcut, family.pre_activation))
                inputs = planes * expansion
            self.add_module(f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, in_channels, T, Y, X) to logits (N, num_classes)."""
        for name in self.stem:
            x = F.relu(getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(x)), inplace=True)
        x = self.maxpool(x)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return cast(torch.Tensor, self.fc(self.avgpool(x).flatten(1)))


def _shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module:
    """What leads past a block."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return Zeros(inputs, outputs, stride)
    return nn.Sequential(_convolution(inputs, outputs, (1, 1, 1), (stride,) * 3), nn.BatchNorm3d(outputs))


class DenseLayer(nn.Module):
    """Two convolutions, each behind normalization and ReLU; what comes out is put behind what goes in."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(inputs)
        self.conv1 = _convolution(inputs, 4 * growth, (1, 1, 1))
        self.norm2 = nn.BatchNorm3d(4 * growth)
        self.conv2 = _convolution(4 * growth, growth, (3, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, T, Y, X) to (N, inputs + growth, T, Y, X)."""
        new = self.conv1(F.relu(self.norm1(x), inplace=True))
        new = self.conv2(F.relu(self.norm2(new), inplace=True))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """From one block of a DenseNet to the next: half the planes, and half of each axis."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(inputs)
        self.conv = _convolution(inputs, outputs, (1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, T, Y, X) to (N, outputs, T // 2, Y // 2, X // 2)."""
        x = self.conv(F.relu(self.norm(x), inplace=True))
        # An axis of one stays as it is, where the reference stops: clips of fewer than 16 frames come to that.
        return F.avg_pool3d(x, [min(2, size) for size in x.shape[2:]])


class DenseNet(nn.Module):
    """Stem, four blocks of dense layers with transitions between, mean over the clip, classifier.

    Hara et al., CVPR 2018, table 1, with the 1 x 1 x 1 convolution in the transitions that their code has, and Huang et al.,
    CVPR 2017, have; the caption of the table says 3 x 3 x 3.
    """

    def __init__(self, depth: int, num_classes: int, options: Options) -> None:
        super().__init__()
        planes, growth = options.planes(STEM), options.planes(GROWTH)
        self.features = nn.Sequential()
        kernel, stride = (options.stem_frames, 7, 7), (options.stem_stride, 2, 2)
        self.features.add_module("conv1", _convolution(options.in_channels, planes, kernel, stride))
        self.features.add_module("norm1", nn.BatchNorm3d(planes))
        self.features.add_module("relu1", nn.ReLU(inplace=True))
        if options.max_pool:
            self.features.add_module("pool1", nn.MaxPool3d(3, stride=2, padding=1))
        for number, layers in enumerate(BLOCKS[depth], 1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                block.add_module(f"denselayer{layer}", DenseLayer(planes, growth))
                planes += growth
            self.features.add_module(f"denseblock{number}", block)
            if number < len(BLOCKS[depth]):
                self.features.add_module(f"transition{number}", Transition(planes, planes // 2))
                planes //= 2
        self.features.add_module("norm5", nn.BatchNorm3d(planes))
        self.classifier = nn.Linear(planes, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, in_channels, T, Y, X) to logits (N, num_classes)."""
        x = F.relu(self.features(x), inplace=True)
        return cast(torch.Tensor, self.classifier(F.adaptive_avg_pool3d(x, 1).flatten(1)))

"""What a network promises to the rooms around it, and how one is made by its name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from torch import Tensor, nn

from vpngen import checks
from vpngen.errors import ArgumentError
from vpngen.fields import field
from vpngen.models import MODELS, foreign

STEM: Final = 64
"""Channels of the stem."""
MOST: Final = 2**20
"""The largest count in an argument."""

State = dict[str, Tensor]
"""Weights and statistics by name."""


@dataclass(frozen=True)
class Options:
    """What can be chosen of the networks of 3D-ResNets-PyTorch. Another network may have other options.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    in_channels: int = field(3, "Channels of a clip.")
    stem_frames: int = field(7, "Frames that the first kernel spans. Even numbers lengthen the clip by one frame.")
    stem_stride: int = field(1, "Frames from one place of the first kernel to the next.")
    max_pool: bool = field(True, "Whether the stem ends with the pooling that halves frames, height and width.")
    width: float = field(1.0, "What all channels are multiplied by, rounded down.")

    def __post_init__(self) -> None:
        for name in ("in_channels", "stem_frames", "stem_stride"):
            checks.integer(name, getattr(self, name), 1, MOST)
        checks.flag("max_pool", self.max_pool)
        checks.number("width", self.width, lambda v: 0 < v <= STEM, f"above 0 and up to {STEM}")

    def channels(self, count: int, groups: int = 1) -> int:
        """`count` at this width, and at least one for each group. Raises ArgumentError where that leaves none."""
        channels = int(count * self.width)
        if channels < groups:
            raise ArgumentError(f"must be at least {groups / count:g} for this model", "width", self.width)
        return channels


class Network(nn.Module):
    """A network from clips, float (N, C, T, Y, X), to logits (N, num_classes).

    A subclass takes `num_classes`, `options` and the arguments in `MODELS` by keyword, and registers its layers in the order in which
    it applies them. It must have `head`, `stem`, `features` and `stages`. No layer can be called `head`, `stem` or `stages`.
    """

    head: ClassVar[str]
    """Name of the classifier: a linear layer, or a 1 x 1 x 1 convolution."""
    stem: ClassVar[str]
    """Name of the first convolution; where there are several paths, of the one that sees motion."""
    features: Callable[[Tensor], Tensor]
    """From clips to features (N, C), what the classifier takes: a method, or a layer where the names of others have such a one."""
    options: ClassVar[type] = Options
    """A frozen dataclass: its fields are the options."""
    reference: ClassVar[str] = ""
    """What 3D-ResNets-PyTorch calls the family; empty where it has none."""
    inflates: ClassVar[bool] = False
    """Whether the weights of a 2-D network can be repeated along time; `own_name` knows its names."""

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, Y, X) to logits (N, num_classes)."""
        return cast(Tensor, self.get_submodule(self.head)(self.features(clips)))

    def stages(self) -> Sequence[str]:
        """Names of the layers that freezing counts, in order. What comes before the first is the stem."""
        raise NotImplementedError

    def initialize_head(self, head: nn.Module) -> None:
        """Change the weights of a fresh classifier, where they are not to be those that torch draws."""

    @classmethod
    def own_name(cls, name: str) -> str:
        """The name here of weights that others publish as `name`. Names of ours stay as they are."""
        return name

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        """The options that weights of such shapes are of; None where `arguments`, those in `MODELS`, cannot be right.

        The names are those here, `stem` and `head` among them. The weights may be those of a 2-D network.
        """
        return {}


def create_model(name: str, num_classes: int = 400, **options: Any) -> nn.Module:
    """A network with fresh weights.

    >>> create_model("r3d18", num_classes=256)(torch.zeros(1, 3, 16, 112, 112)).shape
    torch.Size([1, 256])

    Args:
        name: one of `MODELS`, or `package.module:callable` for one of another package. That is called with the class count, under
            whichever of `num_classes`, `n_classes`, `model_num_class` and `class_count` it knows, or takes as a keyword to pass
            on, and with the options.
        num_classes: how many the network tells apart.
        options: those of the network, see `Options`.

    Returns:
        A module from clips, float (N, in_channels, T, Y, X), to logits (N, num_classes): a `Network` for one of `MODELS`.

    Raises:
        ArgumentError: there is no such model or option, or a value is not allowed.
        MissingError: the package of `package.module:callable` cannot be imported.

    Weights of convolutions are drawn as He et al., ICCV 2015, have it, for as many channels as leave.
    """
    num_classes = checks.integer("num_classes", num_classes, 1, MOST)
    if ":" in str(name):
        return foreign.make(name, num_classes, options)
    network, arguments = find(name)
    checks.known("option", options, [field.name for field in dataclasses.fields(network.options)], name)
    model = network(num_classes=num_classes, options=network.options(**options), **arguments)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    model.initialize_head(model.get_submodule(model.head))
    return model


def find(name: str) -> tuple[type[Network], dict[str, Any]]:
    """Class and arguments of one of `MODELS`. Raises ArgumentError for another name."""
    if not isinstance(name, str) or name not in MODELS:
        raise ArgumentError(f"must be one of {', '.join(MODELS)}, or of the form package.module:callable", "name", name)
    home, arguments = MODELS[name]
    module, _, path = home.partition(":")
    return cast(type[Network], getattr(importlib.import_module(module), path)), arguments


def reference_arch(name: str) -> str:
    """What 3D-ResNets-PyTorch calls a model, as `resnet-50` for `r3d50`; a name that it does not have stays as it is."""
    if name not in MODELS:
        return name
    network, arguments = find(name)
    return f"{network.reference}-{arguments['depth']}" if network.reference else name


# --- what the networks of 3D-ResNets-PyTorch share


def convolution(
    inputs: int, outputs: int, kernel: checks.Shape, stride: checks.Shape = (1, 1, 1), groups: int = 1
) -> nn.Conv3d:
    """One without bias that keeps the size of a clip, where the kernel is odd and the stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def count_blocks(names: Iterable[str], stages: Iterable[str]) -> tuple[int, ...]:
    """How many blocks each of the stages has, among the names of weights."""
    return tuple(len({n.removeprefix(f"{s}.").split(".")[0] for n in names if n.startswith(f"{s}.")}) for s in stages)


def guess_options(first: Tensor, last: Tensor) -> dict[str, Any]:
    """The `Options` that the first and last kernel of a stem show, without those that have their defaults."""
    found = {"in_channels": first.shape[1], "width": len(last) / STEM}
    if last.ndim == 5:
        found["stem_frames"] = last.shape[2]
    return {name: value for name, value in found.items() if value != getattr(Options, name)}

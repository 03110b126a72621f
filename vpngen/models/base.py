"""What a network promises to the rooms around it, how one is made by its name, its classifier replaced and its stages frozen."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError, MissingError
from vpngen.fields import field
from vpngen.models import MODELS

STEM: Final = 64
"""Channels of the stem."""
MOST: Final = 2**20
"""The largest count in an argument."""
MOST_PARAMETERS: Final = 2**30
"""The largest network of ours: 4.3 GB of weights."""
NORMALIZATION: Final = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
CLASS_COUNTS: Final = ("num_classes", "n_classes", "model_num_class", "class_count")
"""What the factories of other packages call the number of classes."""

State = dict[str, Tensor]
"""Weights and statistics by name."""


@dataclass(frozen=True)
class Options:
    """What can be chosen of a network. A family adds fields of its own, each with its default and its help.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    in_channels: int = field(3, "Channels of a clip.")
    width: float = field(1.0, "What all channels are multiplied by, rounded down.")

    def __post_init__(self) -> None:
        checks.integer("in_channels", self.in_channels, 1, MOST)
        checks.number("width", self.width, lambda v: 0 < v <= STEM, f"above 0 and up to {STEM}")

    def channels(self, count: int, groups: int = 1) -> int:
        """`count` at this width, and at least one for each group. Raises ArgumentError where that leaves none."""
        channels = int(count * self.width)
        if channels < groups:
            raise ArgumentError(f"must be at least {groups / count:g} for this model", "width", self.width)
        return channels


@dataclass(frozen=True)
class StemOptions(Options):
    """What can be chosen of the networks of 3D-ResNets-PyTorch."""

    stem_frames: int = field(7, "Frames that the first kernel spans. Even numbers lengthen the clip by one frame.")
    stem_stride: int = field(1, "Frames from one place of the first kernel to the next.")
    max_pool: bool = field(True, "Whether the stem ends with the pooling that halves frames, height and width.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("stem_frames", "stem_stride"):
            checks.integer(name, getattr(self, name), 1, MOST)
        checks.flag("max_pool", self.max_pool)


@dataclass(frozen=True)
class DropoutOptions(Options):
    """What can be chosen of the networks that drop features at random."""

    dropout: float = field(0.5, "Part of the features that each training step leaves out before the classifier.")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("dropout", self.dropout, lambda v: 0 <= v < 1, "from 0 to below 1")


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
    images: ClassVar[str] = "imagenet"
    """Which of `vpngen.sampling.NORMALIZATIONS` the images of that 2-D network had."""
    unlike_images: ClassVar[tuple[str, ...]] = ()
    """Layers that the 2-D network does not have. They stay as they are when its weights come in."""
    above: ClassVar[tuple[str, ...]] = ()
    """Layers between `trunk` and the classifier, which serve classification alone; most families have none."""
    least: Shape = (1, 1, 1)
    """Frames, height and width of the smallest clip that it takes; may depend on the options."""
    exact: ClassVar[bool] = False
    """Whether it takes clips of the size `least` alone."""

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, Y, X) to logits (N, num_classes). Raises ArgumentError for clips that are too small."""
        self.check_clip(clips.shape[2:])
        features, head = self.features(clips), self.get_submodule(self.head)
        if isinstance(head, nn.Conv3d):
            return cast(Tensor, head(features[:, :, None, None, None])).flatten(1)
        return cast(Tensor, head(features))

    def trunk(self, clips: Tensor) -> Tensor:
        """From clips to the features (N, C) that other tasks than classification learn from: what `above` takes, or `features`."""
        return self.features(clips)

    def check_clip(self, clip: Sequence[int]) -> None:
        """Raises ArgumentError unless it takes clips of so many frames, of such a height and width."""
        if any(have < need or (self.exact and have != need) for have, need in zip(clip, self.least, strict=True)):
            wanted = f"{'' if self.exact else 'at least '}{'x'.join(map(str, self.least))} for {type(self).__name__}"
            raise ArgumentError(f"must be {wanted}", "clip", "x".join(map(str, clip)))

    def initialize(self) -> None:
        """Draw fresh weights: of convolutions as He et al., ICCV 2015, for as many channels as leave; of the rest as torch does."""
        head = self.get_submodule(self.head)
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module is not head:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.initialize_head(head)

    def stages(self) -> Sequence[str]:
        """Names of the layers that freezing counts, in order. What comes before the first is the stem."""
        raise NotImplementedError

    def initialize_head(self, head: nn.Module) -> None:
        """Change the weights of a fresh classifier, where they are not to be those that torch draws."""

    @classmethod
    def own_name(cls, name: str) -> str:
        """The name here of weights that others publish as `name`. Names of ours stay as they are.

        Empty for weights that have no place here, such as those of classifiers that only training has.
        """
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

    Weights are drawn as `Network.initialize` says.
    """
    return make(name, num_classes, options)


def make(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """`create_model` for options of any names."""
    num_classes = checks.integer("num_classes", num_classes, 1, MOST)
    if is_foreign(name):
        return _make_foreign(name, num_classes, options)
    outline(name, num_classes, options)
    network, arguments = find(name)
    model = network(num_classes=num_classes, options=network.options(**options), **arguments)
    model.initialize()
    return model


def outline(name: str, num_classes: int, options: Mapping[str, Any]) -> Network:
    """One of `MODELS` without any numbers, on the meta device: it takes no memory, and draws nothing. Arguments and errors are those of `create_model`."""
    network, arguments = find(name)
    checks.integer("num_classes", num_classes, 1, MOST)
    checks.known("option", options, [field.name for field in dataclasses.fields(network.options)], name)
    with torch.device("meta"):
        model = network(num_classes=num_classes, options=network.options(**options), **arguments)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_PARAMETERS:
        what = f"of {num_classes:,} classes has {count:,} parameters with these options, and {MOST_PARAMETERS:,} are allowed"
        raise ArgumentError(f"{what}; give a smaller `width`, or fewer classes", "name", name)
    return model


def is_foreign(name: object) -> bool:
    """Whether this is `package.module:callable`."""
    return re.fullmatch(r"[\w.]+:[\w.]+", str(name)) is not None


def _make_foreign(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """What `package.module:callable` makes. Arguments and errors are those of `create_model`."""
    home, _, path = name.partition(":")
    try:
        module: Any = importlib.import_module(home)
    except Exception as error:  # whatever a module may do when it is imported
        problem = f"{name!r}: {home} cannot be imported ({type(error).__name__}: {error})"
        raise MissingError(f"{problem}; install it, or add the folder that it is in to PYTHONPATH") from error
    factory: Any = functools.reduce(lambda owner, part: getattr(owner, part, None), path.split("."), module)
    if not callable(factory):
        problem = f"must name a function or class that makes a model; {home} has no {path} that can be called"
        raise ArgumentError(problem, "name", name)
    signature = inspect.signature(factory)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    counts = [c for c in CLASS_COUNTS if c in signature.parameters][:1] or list(CLASS_COUNTS if open_ended else ())
    if not counts:
        wanted, has = " or ".join(CLASS_COUNTS), ", ".join(signature.parameters) or "none"
        raise ArgumentError(f"takes no class count; it needs a parameter called {wanted}, and has {has}", "name", name)
    for count in counts:
        if count in options:
            raise ArgumentError(f"is the class count of {name}; give it as `num_classes`", count)
        try:
            model = factory(**{count: num_classes}, **options)
            break
        except TypeError as error:
            if count != counts[-1] and f"keyword argument '{count}'" in str(error):
                continue  # whoever the keywords are passed on to calls it otherwise
            problem = f"cannot be called with `{count}` and the options {', '.join(options) or '(none)'}: {error}"
            raise ArgumentError(problem, "name", name) from error
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"must make a torch.nn.Module, and made a {type(model).__name__}", "name", name)
    return model


def find(name: str) -> tuple[type[Network], dict[str, Any]]:
    """Class and arguments of one of `MODELS`. Raises ArgumentError for another name."""
    if not isinstance(name, str) or name not in MODELS:
        raise ArgumentError(f"must be one of {', '.join(MODELS)}, or of the form package.module:callable", "name", name)
    home, arguments = MODELS[name]
    return cast(type[Network], pkgutil.resolve_name(home)), arguments


def reference_arch(name: str) -> str:
    """What 3D-ResNets-PyTorch calls a model, as `resnet-50` for `r3d50`; a name that it does not have stays as it is."""
    if name not in MODELS:
        return name
    network, arguments = find(name)
    return f"{network.reference}-{arguments['depth']}" if network.reference else name


def bare(model: nn.Module) -> nn.Module:
    """The model within what DistributedDataParallel, DataParallel and torch.compile put around it."""
    parallel = isinstance(model, (DataParallel, DistributedDataParallel))
    inner = getattr(model, "module" if parallel else "_orig_mod", None)
    return bare(inner) if isinstance(inner, nn.Module) else model


def head_name(model: nn.Module) -> str | None:
    """Name of the classifier of a bare model, see `find_head`; None where none is found."""
    if isinstance(model, Network):
        return model.head
    named = [(name, module) for name, module in model.named_modules() if name]
    linear = [name for name, module in named if isinstance(module, nn.Linear)]
    points = [n for n, m in named if isinstance(m, nn.Conv3d) and m.kernel_size == (1, 1, 1) and m.groups == 1]
    return next(reversed(linear or points), None)


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    """Name and layer of what gives the logits: `head` of a `Network`.

    Of another model it is the last linear layer; in a model without one, as S3D and many an I3D, the last 1 x 1 x 1 convolution.

    Raises:
        ArgumentError: `model` has neither.
    """
    model = bare(model)
    name = head_name(model)
    layer = None if name is None else model.get_submodule(name)
    if name is None or not isinstance(layer, (nn.Linear, nn.Conv3d)):
        raise ArgumentError(f"({type(model).__name__}) has neither a torch.nn.Linear nor a 1 x 1 x 1 Conv3d", "model")
    return name, layer


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a fresh classifier of `num_classes` in place of the one that is there, initialized as a new model's is.

    Raises:
        ArgumentError: `num_classes` is not a positive integer, or `model` has no classifier, see `find_head`.
    """
    num_classes = checks.integer("num_classes", num_classes, 1, MOST)
    model = bare(model)
    name, old = find_head(model)
    inputs, bias = old.weight.shape[1], old.bias is not None
    linear = isinstance(old, nn.Linear)
    new = nn.Linear(inputs, num_classes, bias) if linear else nn.Conv3d(inputs, num_classes, 1, bias=bias)
    if isinstance(model, Network):
        model.initialize_head(new)
    new.to(old.weight.device, old.weight.dtype)
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new.train(old.training))


def freeze(model: nn.Module, stages: int) -> None:
    """Leave the stem and the first `stages` stages as they are: no gradients, and no statistics of batches, for good.

    Their modules stay in evaluation mode whatever `model.train()` says. 3D-ResNets-PyTorch goes on gathering batch statistics
    in layers that it does not train.

    Args:
        model: its stages are those of `Network.stages`, such as `layer1` to `layer4` of a ResNet. In a model of another package they
            are the numbered children of one name of which there are most, in the order in which the model has them.
        stages: 0 for none, k for all that comes before stage k + 1; as many as there are for all but the classifier.

    Raises:
        ArgumentError: `stages` is negative or more than there are, or no stages are found.
    """
    stages = checks.integer("stages", stages, 0)
    if stages == 0:
        return
    model = bare(model)
    head = find_head(model)[0]
    names = model.stages() if isinstance(model, Network) else _guess_stages(model, head)
    if stages > len(names):
        there = f"has {len(names)}: {', '.join(names)}" if names else "has no numbered stages, as layer1, layer2"
        raise ArgumentError(f"is more than {type(model).__name__} has to freeze; it {there}", "stages", stages)
    # The classifier with whatever layers lead to it: as much of its branch as the stages have no part in.
    branch = next(b for b in itertools.accumulate(head.split("."), "{}.{}".format) if not within(names[-1], b))
    end = [*names, branch][stages]
    for name, module in model.named_modules():
        if name == end:
            break
        if within(name, branch):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if not within(end, name) and not within(branch, name):
            module.eval()
            # Not a hook, which would run at each step and break the graph of torch.compile, nor a class of its own, which
            # could not be pickled.
            setattr(module, "train", functools.partial(_stay, module))  # noqa: B010


def parameter_groups(model: nn.Module, scales: Mapping[str, float], norm_decay: bool = True) -> list[dict[str, Any]]:
    """The parameters that learn, in groups for an optimizer.

    Args:
        model: the network.
        scales: what the learning rate is multiplied by, by the name of a layer, `head` for the classifier and what is `above` the
            trunk, `stem` for the first convolution. The longest name counts that a parameter lies within; 1 elsewhere.
        norm_decay: whether weight decay applies to normalization.

    Returns:
        Groups with their `lr_scale`, and a `weight_decay` of 0 where there is to be none; that of factor 1 first.

    Raises:
        ArgumentError: a name that is none of a layer with weights, or a second name of one.
    """
    model = bare(model)
    named = dict(model.named_modules())
    special = {"head": find_head(model)[0]} if "head" in scales and "head" not in named else {}
    if isinstance(model, Network):
        special |= {"stem": model.stem} if "stem" not in named else {}
    factors = {special.get(name, name): factor for name, factor in scales.items()}
    layers = {name for name, module in named.items() if name and any(True for _ in module.parameters())}
    if wrong := [name for name in scales if special.get(name, name) not in layers]:
        near = ", ".join(name for name, _ in model.named_children() if name in layers)
        problem = f"names {', '.join(map(repr, wrong))}, which is no layer of {type(model).__name__} with weights"
        raise ArgumentError(f"{problem}; it has head, {near}", "lr_scales")
    if len(factors) < len(scales):
        names = ", ".join(f"{name} is {layer}" for name, layer in special.items())
        raise ArgumentError(f"names a layer twice: {names}", "lr_scales", dict(scales))
    if "head" in scales and isinstance(model, Network):
        factors = dict.fromkeys(model.above, scales["head"]) | factors
    normal = {
        f"{name}.{each}".removeprefix(".") for name, module in named.items() for each, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMALIZATION)
    }  # fmt: skip
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = max((layer for layer in factors if within(name, layer)), key=len, default=None)
            key = (1.0 if inside is None else factors[inside], norm_decay or name not in normal)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": groups[key], "lr_scale": key[0], **({} if key[1] else {"weight_decay": 0.0})}
        for key in sorted(groups, key=lambda key: (key[0] != 1, key))
    ]  # fmt: skip


def _guess_stages(model: nn.Module, head: str) -> list[str]:
    """Names of the numbered children of one name, of the outermost module that has two or more; empty where there are none."""
    for name, module in sorted(model.named_modules(), key=lambda item: item[0].count(".") + bool(item[0])):
        groups: dict[str, list[str]] = {}
        for child, part in module.named_children():
            full = f"{name}.{child}" if name else child
            trained = any(True for _ in part.parameters())
            if (match := re.fullmatch(r"(.*?)_?\d+[a-z]?", child)) and trained and not within(head, full):
                groups.setdefault(match[1], []).append(full)
        most = max(groups.values(), key=len, default=[])
        if len(most) > 1:
            return most
    return []


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def within(name: str, ancestor: str) -> bool:
    """Whether `name` is that of `ancestor` or of something in it."""
    return ancestor in ("", name) or name.startswith(f"{ancestor}.")


def convolution(inputs: int, outputs: int, kernel: Shape, stride: Shape = (1, 1, 1), groups: int = 1) -> nn.Conv3d:
    """One without bias that keeps the size of a clip, where the kernel is odd and the stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def guess_options(
    state: State, stages: Iterable[str], blocks: tuple[int, ...], first: Tensor, last: Tensor, options: type = StemOptions
) -> dict[str, Any] | None:  # fmt: skip
    """The `options` that the first and last kernel of a stem show, but defaults; None where stages have other than `blocks`."""
    if not has_blocks(state, stages, blocks):
        return None
    found = {"in_channels": first.shape[1], "width": len(last) / STEM}
    if last.ndim == 5:
        found["stem_frames"] = last.shape[2]
    return unusual(options, found)


def has_blocks(state: State, stages: Iterable[str], blocks: tuple[int, ...]) -> bool:
    """Whether the layers of these names have so many children with weights each."""
    return blocks == tuple(len({n[len(s) :].split(".")[1] for n in state if n.startswith(f"{s}.")}) for s in stages)


def unusual(options: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options `found` that are not the defaults of a dataclass."""
    return {name: value for name, value in found.items() if value != getattr(options, name)}

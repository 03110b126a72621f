"""A network with its weights, as people name both: a model, its options, and files to begin with."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from vpngen.checks import Shape
from vpngen.errors import ArgumentError, ConflictError, renamed
from vpngen.files import open_regular
from vpngen.models import MODELS
from vpngen.models.base import Network, find, freeze, make, parameter_groups
from vpngen.models.weights import inflate, make_with, read_weights, recognize
from vpngen.sampling import NORMALIZATIONS

LONE: Final = "Expected more than 1 value per channel"
"""How torch begins what it says where batch normalization has a single value to train on."""
DEFAULT_MODEL: Final = "r3d50"
"""That of Kataoka et al., WACV 2022, section 4."""


@dataclass(frozen=True)
class ModelInit:
    """What a network is, and where its weights come from.

    Attributes:
        model: a name of `vpngen.models.MODELS`, or package.module:callable; None for that of `init_from`, or R3D-50.
        options: of the model; None for those of `init_from`.
        init_from: a file of weights to begin with, all but the head.
        inflate: a file of a 2D network, as a ResNet or DenseNet, whose kernels are repeated along time.

    Raises:
        ArgumentError: both files are given.
    """

    model: str | None = None
    options: Mapping[str, Any] | None = None
    init_from: Path | None = None
    inflate: Path | None = None

    def __post_init__(self) -> None:
        if self.init_from is not None and self.inflate is not None:
            raise ArgumentError("and `inflate` both say what the weights are; leave one of them out", "init_from")

    @functools.cached_property
    def parent(self) -> dict[str, Any]:
        """The metadata of `init_from`, which file it is, and under `model` what it is recognized as; empty without a file."""
        if self.init_from is None:
            return {}
        with renamed(path="init_from"):
            state, metadata = read_weights(self.init_from)
        return {**metadata, "model": recognize(state, metadata) or {}, **origin(self.init_from)}

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """Name and options of the model.

        Raises:
            ArgumentError: nothing says what `init_from` is of.
            ConflictError: `init_from` says so, and is not to be trusted in it, see `trusted`.
        """
        known = self.parent.get("model", {"name": DEFAULT_MODEL, "options": {}})
        if (self.model or known.get("name")) is None:
            problem = "holds weights of none of the networks here; give `model`, or `inflate` if they are of images"
            raise ArgumentError(problem, "init_from", self.init_from)
        return trusted(known, self.model, self.options, self.init_from)

    @property
    def normalization(self) -> dict[str, tuple[float, ...]]:
        """The `mean` and `std` of the clips that the weights were trained with, as far as they are known."""
        seen = self.parent.get("recipe") or {}
        if self.inflate is not None:
            name, _ = self.network
            seen = NORMALIZATIONS[find(name)[0].images if name in MODELS else "imagenet"]
        return {name: tuple(seen[name]) for name in ("mean", "std") if seen.get(name) is not None}

    def build(
        self, num_classes: int, seed: int, stages: int, clip: Shape, device: torch.device
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The network with its weights on the device, its first stages frozen, and its metadata.

        Raises:
            ArgumentError, ConflictError: the network does not take such weights, clips or stages.
        """
        name, options = self.network
        if name in MODELS and options.get("in_channels", 3) != 3:
            raise ArgumentError("must be 3: clips are red, green and blue", "in_channels", options["in_channels"])
        torch.manual_seed(seed)
        parent, path = self.parent or None, "inflate" if self.inflate else "init_from"
        with renamed(name="model", stages="freeze", path=path, state=path):
            if self.init_from is not None:
                with said_by(self.init_from, self.model is None and self.options is None):
                    model = make_with(name, num_classes, options, self.init_from, head="replace")
            else:
                model = make(name, num_classes, options)
            if self.inflate is not None:
                inflate(model, read_weights(self.inflate)[0], self.inflate)
                parent = {"stage": "inflation", **origin(self.inflate)}
            freeze(model, stages)
        model.to(device)
        about = {"name": name, "options": options, "num_classes": num_classes}
        try_clip(model, about, clip, device)
        return model, {"model": about, "parent": parent, "seed": seed}


def trusted(
    known: Mapping[str, Any], model: str | None, options: Mapping[str, Any] | None, path: Path | None
) -> tuple[str, dict[str, Any]]:
    """Name and options of a network: those that are given, else those `known` from the metadata of a file.

    `package.module:callable` is code, which no file may name: it is taken from who calls, and so are its options.

    Raises:
        ConflictError: the file names such a network, or options of one, and they are not given.
    """
    name = model or known["name"]
    usual = known.get("options") or {} if name == known.get("name") else {}
    if name not in MODELS and (model is None or (options is None and usual)):
        wanted = ["--model", name] * (model is None)
        wanted += [word for k, v in (options or usual).items() for word in ("--model-option", f"{k}={json.dumps(v)}")]
        what = f"the network {name!r}" if model is None else f"options of {name}"
        text = shlex.join(wanted)
        text = text if text.isprintable() and len(text) < 400 else "them as --model and --model-option"
        raise ConflictError(f"{str(path)!r} names {what}, which is code from elsewhere; give {text} if you trust it")
    return name, dict(usual if options is None else options)


@contextlib.contextmanager
def said_by(path: Path, file: bool) -> Iterator[None]:
    """A network that cannot be made is the fault of the `file`, where that names it. Raises ConflictError."""
    try:
        yield
    except ArgumentError as error:
        if not file or error.argument not in ("name", "width"):
            raise
        raise ConflictError(f"the network that {str(path)!r} names cannot be made: {error}") from error


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device, on a GPU with its kernels in the order in which cuDNN is fastest."""
    model.to(device)
    if device.type == "cuda":
        for parameter in model.parameters():
            if parameter.ndim == 5:
                # contiguous() would leave the strides of 1 x 1 x 1 kernels, and DDP copy their gradients
                parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last_3d).copy_(parameter.data)
        torch.backends.cudnn.benchmark = True
    return model


def try_clip(model: nn.Module, about: Mapping[str, Any], clip: Shape, device: torch.device) -> None:
    """Raises ArgumentError unless a network takes such clips."""
    if isinstance(model, Network):
        model.check_clip(clip)
        return
    name, shape, mode = about["name"], "x".join(map(str, clip)), model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, 3, *clip, device=device))
    except Exception as error:  # whatever a network may raise
        problem = f"is a shape of clips that {name} cannot take ({type(error).__name__}: {error})"
        raise ArgumentError(problem, "clip", shape) from error
    finally:
        model.train(mode)
    wanted = (1, about["num_classes"])
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    if found != wanted:
        raise ArgumentError(f"must give logits {wanted} for a clip of {shape}, and gives {found}", "model", name)


def parts(size: int, whole: int, grad_accum_steps: int) -> int:
    """In how many parts, as even as can be, a batch goes through a network that takes a `whole` one in `grad_accum_steps`."""
    return -(-size // -(-whole // grad_accum_steps))


def try_recipe(
    model: nn.Module, recipe: Any, size: int, grad_accum_steps: int, device: torch.device, clips: int = 1
) -> None:
    """Raises ArgumentError where a network has no layers of `lr_scales`, or parts of a batch of `size` on each rank are too small.

    Too small is one clip that leaves batch normalization a single value; `clips` go through the network for each sample.
    """
    parameter_groups(model, dict(recipe.lr_scales))
    if size // parts(size, size, grad_accum_steps) * clips > 1:
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        try:
            copy.deepcopy(model).train()(torch.zeros(1, 3, *recipe.clip, device=device))
        except Exception as error:  # any other is met in training
            if LONE in str(error):
                raise lone_clip(error, recipe, size, grad_accum_steps) from error


def lone_clip(error: Exception, recipe: Any, size: int, grad_accum_steps: int, last: bool = False) -> ArgumentError:
    """What torch's error means for a batch of `size` on each rank, of which a part is one clip.

    Features (1, C) stay one value a channel at any size of the clip. `last`: the batch is the rest of an epoch.
    """
    clip = "x".join(map(str, recipe.clip))
    larger = "" if re.search(r"\[1, \d+\]", str(error)) else ", or a larger `clip`"
    why = f"of one clip of {clip} batch normalization has a single value to train on, and needs two"
    if last:
        return ArgumentError(f"ends an epoch with a batch of {size}: {why}; make it with drop_last=True", "train")
    if size == 1:
        problem = f"leaves each rank one clip: {why}; give at least two for each{larger}"
        return ArgumentError(problem, "batch_size", recipe.batch_size)
    most = max(k for k in range(1, size) if size // parts(size, size, k) > 1)
    problem = f"cuts the {size} clips of a batch into parts of one: {why}; give {most} or less{larger}"
    return ArgumentError(problem, "grad_accum_steps", grad_accum_steps)


def origin(path: Path) -> dict[str, str]:
    """Which file weights were in, for metadata."""
    with open(open_regular(path), "rb") as file:
        return {"file": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

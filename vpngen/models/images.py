"""Networks for images: those of `MODELS` with kernels that see one frame, and those of other packages."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vpngen.errors import ArgumentError, MissingError, renamed
from vpngen.models.base import Network, find, is_foreign, make
from vpngen.models.initial import origin
from vpngen.models.weights import inflate, make_with, read_weights
from vpngen.sampling import NORMALIZATIONS

CLASSES: Final = 1000
"""Of ImageNet. The classifier of a network for images is made for as many, and plays no part in its features."""
TORCHVISION: Final = {"r3d": "resnet", "densenet": "densenet"}
"""What a name here begins with -> what that of torchvision begins with."""


def flat(network: Network) -> Network:
    """A 3-D network as the 2-D one of the same names: kernels of one frame, strides in time of 1, weights drawn anew.

    It takes images as clips of one frame, (N, C, 1, Y, X), and `inflate` gives it the weights of a 2-D network as they are.

    Args:
        network: one that `inflates`, just made; it is changed in place.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight = nn.Parameter(torch.empty_like(module.weight[:, :, :1]).contiguous())
        if hasattr(module, "kernel_size") or hasattr(module, "kernel"):  # of torch, or one that pads by itself
            for name, one in (("kernel_size", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
                if hasattr(module, name):
                    size = getattr(module, name)
                    setattr(module, name, (one, *(tuple(size)[1:] if isinstance(size, Sequence) else (size, size))))
    network.least = (1, *network.least[1:])
    network.initialize()
    return network


def image_network(name: str, weights: Path | None = None) -> tuple[nn.Module, str]:
    """A network for images that is trained already, in evaluation mode, and nothing of it learns.

    Args:
        name: one of `vpngen.models.MODELS` that inflates, as `densenet121` or `r3d50`, for the 2-D network of its layers; or
            package.module:callable, called with a count of classes, for what takes images (N, 3, Y, X).
        weights: its file, as torchvision publishes it; None for those that torchvision has of ImageNet, or that the callable gives.

    Returns:
        The network, a `Network` for clips of one frame (N, 3, 1, Y, X), or the other; and the sha256 of its weights.

    Raises:
        ArgumentError: no such network, or none for images.
        ConflictError: weights of another network.
        MissingError: torchvision is not installed, has no such network, or cannot fetch its weights.
    """
    with torch.random.fork_rng([]), renamed(path="weights", state="weights"):
        torch.manual_seed(0)
        if not is_foreign(name):
            network = _of_ours(name, weights)
        elif weights is not None:
            network = make_with(name, CLASSES, {}, weights, head="replace")
        else:
            network = make(name, CLASSES, {})
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval(), _digest(network) if weights is None else origin(weights)["sha256"]


def _of_ours(name: str, weights: Path | None) -> nn.Module:
    """One of `MODELS` for images, with the options that the shapes of its weights show."""
    kind, arguments = find(name)
    if not kind.inflates:
        problem = "is a network for clips without one for images, as r3d50 and densenet121 have it"
        raise ArgumentError(problem, "name", name)
    state = _imagenet(name) if weights is None else read_weights(weights)[0]
    if any(value.ndim == 5 for value in state.values()):
        raise ArgumentError("has kernels in time, and is no network for images; give weights of one", "path", weights)
    options = None
    with contextlib.suppress(ArgumentError, LookupError, TypeError):  # weights of another: `inflate` says so
        options = kind.guess({kind.own_name(each): value for each, value in state.items()}, **arguments)
    network = make(name, CLASSES, options or {})
    assert isinstance(network, Network)
    inflate(flat(network), state, weights)
    return network


def normalization(network: nn.Module) -> Mapping[str, tuple[float, ...]]:
    """`mean` and `std` of the images that a network of `image_network` takes: those of ImageNet, but for GoogLeNet."""
    return NORMALIZATIONS[network.images if isinstance(network, Network) else "imagenet"]


def _imagenet(name: str) -> dict[str, Tensor]:
    """The weights that torchvision has of ImageNet."""
    there = next((new + name.removeprefix(old) for old, new in TORCHVISION.items() if name.startswith(old)), name)
    remedy = "give a file of weights for images"
    try:
        library: Any = importlib.import_module("torchvision.models")
    except Exception as error:  # one for another torch fails in other ways
        raise MissingError(
            f"the weights of ImageNet are those of torchvision, which is not installed: {error}; {remedy}"
        ) from error
    if not hasattr(library, there):
        raise MissingError(f"torchvision has no {there}; {remedy}")
    try:
        state: dict[str, Tensor] = getattr(library, there)(weights="DEFAULT").state_dict()
    except Exception as error:  # whatever stands between here and its server
        why = " ".join(str(error).split())
        raise MissingError(f"torchvision cannot fetch its weights of {there} ({why}); {remedy}") from error
    return state


def _digest(network: nn.Module) -> str:
    """The sha256 of weights and statistics."""
    made = hashlib.sha256()
    for name, value in network.state_dict().items():
        made.update(f"{name} {tuple(value.shape)} {value.dtype} ".encode())
        made.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()

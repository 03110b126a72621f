"""The parts of a network: its classifier, for another number of classes, and its stages, for freezing."""

from __future__ import annotations

import functools
import itertools

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vpngen import checks
from vpngen.errors import ArgumentError
from vpngen.models import foreign
from vpngen.models.base import MOST, Network
from vpngen.models.foreign import within


def bare(model: nn.Module) -> nn.Module:
    """The model within what DistributedDataParallel, DataParallel and torch.compile put around it."""
    while True:
        parallel = isinstance(model, (DataParallel, DistributedDataParallel))
        inner = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def head_name(model: nn.Module) -> str | None:
    """Name of the classifier of a bare model; None where none is found."""
    return model.head if isinstance(model, Network) else foreign.guess_head(model)


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
        raise ArgumentError(
            f"({type(model).__name__}) has neither a torch.nn.Linear nor a 1 x 1 x 1 convolution that could be its classifier",
            "model",
        )
    return name, layer


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a fresh classifier of `num_classes` in place of the one that is there, initialized as a new model's is.

    Raises:
        ArgumentError: `num_classes` is not a positive integer, or `model` has no classifier, see `find_head`.
    """
    num_classes = checks.integer("num_classes", num_classes, 1, MOST)
    model = bare(model)
    name, old = find_head(model)
    new: nn.Linear | nn.Conv3d
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, old.bias is not None)
    else:
        new = nn.Conv3d(old.in_channels, num_classes, 1, bias=old.bias is not None)
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
    names = model.stages() if isinstance(model, Network) else foreign.guess_stages(model, head)
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


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """The `train` of a frozen module."""
    return module

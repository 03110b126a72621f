"""Weights: to disk and back, from one class count to another, from images to video, and those that training leaves alone.

`.safetensors` is our own form, `.pth` that of 3D-ResNets-PyTorch; either says in JSON where the weights come from. Both are read, and
loaded strictly: what does not fit is an error that says why, never a layer left as it was.
"""

from __future__ import annotations

import functools
import itertools
import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vpngen.errors import ArgumentError, ConflictError, MissingError
from vpngen.files import replace
from vpngen.models.resnet import BLOCKS, FAMILIES, MODELS, STEM, DenseNet, check_count, create_model, reference_arch

METADATA: Final = "vpngen"
"""The key that our metadata is under, in the header of a .safetensors file and in a .pth file."""
HEADS: Final = ("keep", "replace")
STATES: Final = ("state_dict", "model_state", "model_state_dict", "model")
"""What checkpoints call the weights they hold among other things."""
COUNTED: Final = ".num_batches_tracked"
SHOWN: Final = 3
"""Differences of each kind that an error lists."""

State = dict[str, Tensor]


class Stateful(Protocol):
    """An optimizer or schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Its state, as plain values and tensors."""


# --- heads and stages


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    """Name and layer of what gives the logits: the last linear layer of `model`, `fc` or `classifier` of ours.

    In a model without one, as S3D and many an I3D, it is the last 1 x 1 x 1 convolution.

    Raises:
        ArgumentError: `model` has neither.
    """
    head = _head(_bare(model))
    if head is None:
        raise ArgumentError(
            f"({type(model).__name__}) has neither a torch.nn.Linear nor a 1 x 1 x 1 convolution that could be its classifier",
            "model",
        )
    return head


def _head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d] | None:
    named = [(name, module) for name, module in model.named_modules() if name]
    linear = [(name, module) for name, module in named if isinstance(module, nn.Linear)]
    points = [(n, m) for n, m in named if isinstance(m, nn.Conv3d) and m.kernel_size == (1, 1, 1) and m.groups == 1]
    return linear[-1] if linear else points[-1] if points else None


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a fresh classifier of `num_classes` in place of the one that is there, initialized as a new model's is.

    Raises:
        ArgumentError: `num_classes` is not a positive integer, or `model` has no classifier, see `find_head`.
    """
    check_count("num_classes", num_classes)
    name, old = find_head(model)
    new: nn.Linear | nn.Conv3d
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, old.bias is not None)
    else:
        new = nn.Conv3d(old.in_channels, num_classes, 1, bias=old.bias is not None)
    if isinstance(_bare(model), DenseNet) and new.bias is not None:
        nn.init.zeros_(new.bias)
    new.to(old.weight.device, old.weight.dtype)
    parent, _, leaf = name.rpartition(".")
    setattr(_bare(model).get_submodule(parent), leaf, new.train(old.training))


def freeze(model: nn.Module, stages: int) -> None:
    """Leave the stem and the first `stages` stages as they are: no gradients, and no statistics of batches, for good.

    Their modules stay in evaluation mode whatever `model.train()` says. 3D-ResNets-PyTorch goes on gathering batch statistics
    in layers that it does not train.

    Args:
        model: stages are `layer1` to `layer4` of the ResNets here, `denseblock1` to `denseblock4` with the transition behind each
            of the DenseNets. In other models they are the numbered children of one name of which there are most, in the
            order in which the model has them.
        stages: 0 for none, k for all that comes before stage k + 1; as many as there are for all but the classifier.

    Raises:
        ArgumentError: `stages` is negative or more than there are, or no stages are found.
    """
    if isinstance(stages, bool) or not isinstance(stages, int) or stages < 0:
        raise ArgumentError("must be 0 for none, or a number of stages", "stages", stages)
    if stages == 0:
        return
    model = _bare(model)
    head = find_head(model)[0]
    names = _stages(model, head)
    if stages > len(names):
        there = f"has {len(names)}: {', '.join(names)}" if names else "has no numbered stages, as layer1, layer2"
        raise ArgumentError(f"is more than {type(model).__name__} has to freeze; it {there}", "stages", stages)
    # The classifier with whatever layers lead to it: as much of its branch as the stages have no part in.
    branch = next(b for b in itertools.accumulate(head.split("."), "{}.{}".format) if not _within(names[-1], b))
    end = [*names, branch][stages]
    for name, module in model.named_modules():
        if name == end:
            break
        if _within(name, branch):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if not _within(end, name) and not _within(branch, name):
            module.eval()
            # Not a hook, which would run at each step and break the graph of torch.compile, nor a class of its own, which
            # could not be pickled.
            setattr(module, "train", functools.partial(_stay, module))  # noqa: B010


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """The `train` of a frozen module."""
    return module


def _within(name: str, ancestor: str) -> bool:
    return ancestor in ("", name) or name.startswith(f"{ancestor}.")


def _stages(model: nn.Module, head: str) -> list[str]:
    """Names of the stages of `model`: numbered children of one name, of the outermost module that has two or more."""
    for name, module in sorted(model.named_modules(), key=lambda item: item[0].count(".") + bool(item[0])):
        groups: dict[str, list[str]] = {}
        for child, part in module.named_children():
            full = f"{name}.{child}" if name else child
            trained = any(True for _ in part.parameters())
            if (match := re.fullmatch(r"(.*?)_?\d+[a-z]?", child)) and trained and not _within(head, full):
                groups.setdefault(match[1], []).append(full)
        most = max(groups.values(), key=len, default=[])
        if len(most) > 1:
            return most
    return []


# --- to disk


def save_weights(path: str | Path, model: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write weights and statistics as .safetensors, whole or not at all, with `metadata` as JSON in the header.

    The same weights with the same metadata are the same bytes.

    Raises:
        ArgumentError: `metadata` is not JSON.
        MissingError: safetensors is not installed, or no space is left.
    """
    about = {"format": "pt", METADATA: _json(metadata)}
    data = _safetensors().save(_tensors(model), about)  # its save_file makes files that nobody else may read
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]) | {"__metadata__": about}).encode()  # it leaves their order to chance
    header += b" " * (-len(header) % 8)
    with replace(Path(path)) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(data)[end:])


def save_reference(
    path: str | Path,
    model: nn.Module,
    arch: str,
    epoch: int,
    optimizer: Stateful | None = None,
    scheduler: Stateful | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint as 3D-ResNets-PyTorch does, which takes it for `--pretrain_path` and `--resume_path`.

    Args:
        path: where to.
        model: its names are those of a model that is neither parallel nor compiled.
        arch: see `vpngen.models.resnet.reference_arch`; who resumes must have the same.
        epoch: that was finished last, counted from 1.
        optimizer: for who resumes.
        scheduler: likewise.
        metadata: kept under `METADATA`, which it does not look at.

    Raises:
        ArgumentError: `metadata` is not JSON.
        MissingError: no space is left.
    """
    content: dict[str, Any] = {"epoch": epoch, "arch": arch, "state_dict": OrderedDict(_tensors(model))}
    if metadata is not None:
        content[METADATA] = json.loads(_json(metadata))
    if optimizer is not None:
        content["optimizer"] = on_cpu(optimizer.state_dict())
    if scheduler is not None:
        content["scheduler"] = scheduler.state_dict()
    with replace(Path(path)) as partial, partial.open("wb") as file:  # by a path, torch hides why it failed
        torch.save(content, file)


def _json(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"must be what JSON can hold: {error}", "metadata") from error


def on_cpu(value: Any) -> Any:
    """The same with every tensor in it on the CPU, so that a machine without a card reads it."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: on_cpu(each) for key, each in value.items()}
    return [on_cpu(each) for each in value] if isinstance(value, list) else value


def _tensors(model: nn.Module) -> State:
    """The state of a model on the host, each tensor contiguous and with memory of its own, by the names of the bare model."""
    found: State = {}
    seen: set[int] = set()
    for name, value in _plain(_bare(model).state_dict()).items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() > tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        found[name] = tensor
    return found


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingError(
            ".safetensors files need safetensors; install it with: pip install 'vpngen[train]'"
        ) from error
    return safetensors.torch


# --- and back


def read_weights(path: str | Path) -> tuple[State, dict[str, Any]]:
    """What a file of weights holds, on the host.

    .safetensors, or whatever torch.save wrote: a state dict, or a checkpoint with one in it. Which of them it is, its first bytes
    say. Nothing in the file is executed.

    Returns:
        Name -> tensor, without what DataParallel and torch.compile put before the names. And the metadata: ours as it was
        written, else `arch` and `epoch` of a checkpoint of 3D-ResNets-PyTorch, or nothing.

    Raises:
        ArgumentError: there is no such file, or it cannot be read.
        ConflictError: it is not a file of weights, is damaged, or holds more than weights.
        MissingError: safetensors is not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise ArgumentError("does not exist", "path", path) from None
    except OSError as error:
        raise ArgumentError(f"cannot be read: {error.strerror}", "path", str(path)) from None
    if start[8:] == b"{":  # behind the length of the header
        state, metadata = _read_safetensors(path)
    elif start.startswith((b"PK", b"\x80")):
        state, metadata = _read_torch(path)
    elif not start:
        raise ConflictError(f"{str(path)!r} is empty; it was cut short when it was written or copied")
    else:
        raise ConflictError(
            f"{str(path)!r} is not a file of weights: neither .safetensors nor written by torch.save, or it is damaged"
        )
    return _plain(state), metadata


def _read_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
            header = file.metadata() or {}
        metadata = json.loads(header.get(METADATA, "{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a JSON object")
    except (SafetensorError, ValueError) as error:
        raise ConflictError(f"{str(path)!r} is damaged: {error}; copy or make it again") from error
    return state, metadata


def _read_torch(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes it raise whatever the part that stumbles raises
        refused = re.search(r"GLOBAL ([A-Za-z_][\w.]*) (?:was not an allowed|whose module)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise ConflictError(
                f"{str(path)!r} holds more than weights, or is damaged: it names {refused[1]}, and unpickling that could run any "
                f"code. Where you trust it: saved = torch.load({str(path)!r}, weights_only=False), and torch.save its state dict"
            ) from error
        # What torch advises before that, to load without `weights_only`, helps nobody here.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
        raise ConflictError(
            f"{str(path)!r} is damaged, or not a file of weights: {reason.splitlines()[0][:200]}; copy or make it again"
        ) from error
    metadata: dict[str, Any] = {}
    state = saved
    if isinstance(saved, Mapping):
        state = next((saved[key] for key in STATES if isinstance(saved.get(key), Mapping)), saved)
        if state is not saved:
            metadata = {k: saved[k] for k in ("arch", "epoch") if isinstance(saved.get(k), (str, int))}
            metadata = saved[METADATA] if isinstance(saved.get(METADATA), dict) else metadata
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConflictError(
            f"{str(path)!r} holds no state dict: it must map names to tensors, or do so under one of {', '.join(STATES)}"
        )
    return {name: value.detach() for name, value in state.items()}, metadata


def load_weights(model: nn.Module, path: str | Path, *, head: str = "keep") -> dict[str, Any]:
    """Put the weights of a file into `model`: all of them, into all of it.

    Args:
        model: changed in place; left as it was when an error is raised.
        path: see `read_weights`. Two old forms are understood: files without `num_batches_tracked`, and DenseNets by the names of
            the CVPR 2018 branch of 3D-ResNets-PyTorch.
        head: `keep` loads the classifier with the rest; `replace` leaves that of the file out, and that of `model` as it is.

    Returns:
        The metadata of the file, see `read_weights`.

    Raises:
        ArgumentError: `head` is neither, or as `read_weights`.
        ConflictError: the weights are those of another model or class count, or as `read_weights`.
        MissingError: as `read_weights`.
    """
    if head not in HEADS:
        raise ArgumentError(f"must be one of {', '.join(HEADS)}", "head", head)
    model = _bare(model)
    state, metadata = read_weights(path)
    real = model.state_dict()
    names = dict(zip(_plain(real), real, strict=True))
    wanted = _plain(real)
    found = state if _fits(state, wanted) else _today(state, wanted)
    top = _head(model)
    if head == "replace":
        name, _ = find_head(model)
        found, wanted = ({n: v for n, v in s.items() if not _within(n, name)} for s in (found, wanted))
    differing = _differences(found, wanted)
    if differing and top is not None and all(_within(name, top[0]) for name, _ in differing):
        there, here = (_classes(s, top[0]) for s in (found, wanted))
        if None not in (there, here) and there != here:
            raise ConflictError(
                f"{str(path)!r} is for {there} classes, and this model for {here}; give head='replace' to leave its classifier out "
                f"and begin with a fresh one, or make the model with num_classes={there}"
            )
    if differing:
        raise ConflictError(
            f"{str(path)!r} {_described(found, metadata)}, which does not fit this model"
            + ("" if head == "keep" else " apart from the classifier")
            + ":\n  "
            + "\n  ".join(_shown(text for _, text in differing))
        )
    # Not strict, for the head may be left out; that nothing else is missing has been seen to.
    model.load_state_dict({names[name]: value for name, value in found.items()}, strict=False)
    return metadata


def _bare(model: nn.Module) -> nn.Module:
    """The model within what DistributedDataParallel, DataParallel and torch.compile put around it."""
    while True:
        parallel = isinstance(model, (DataParallel, DistributedDataParallel))
        inner = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _plain(state: Mapping[str, Tensor]) -> State:
    """A state by the names of the bare model: parts may have been compiled, and the whole been parallel."""
    found = {".".join(part for part in name.split(".") if part != "_orig_mod"): v for name, v in state.items()}
    while found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): v for name, v in found.items()}
    return found


def _fits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return {n: v.shape for n, v in state.items()} == {n: v.shape for n, v in wanted.items()}


def _today(state: State, wanted: Mapping[str, Tensor]) -> State:
    """A state of an old form by the names of today, as far as `wanted` has them."""
    if "features.conv0.weight" in state and "features.conv0.weight" not in wanted:
        state = {
            re.sub(
                r"\.(norm|conv)\.([12])\.", r".\1\2.", re.sub(r"^features\.(conv|norm)0\.", r"features.\g<1>1.", name)
            ): v
            for name, v in state.items()
        }
    if not any(name.endswith(COUNTED) for name in state):  # torch below 0.4.1 did not count
        state = state | {
            name: torch.zeros_like(v, device="cpu") for name, v in wanted.items() if name.endswith(COUNTED)
        }
    return state


def _classes(state: Mapping[str, Tensor], head: str) -> int | None:
    weight = state.get(f"{head}.weight")
    return len(weight) if weight is not None and weight.ndim else None


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Name and description of whatever is not the same in both."""
    missing = [(name, f"`{name}` is not in the file") for name in wanted if name not in found]
    extra = [(name, f"`{name}` is in the file, but not in the model") for name in found if name not in wanted]
    shapes = [
        (name, f"`{name}` is {tuple(found[name].shape)} in the file, {tuple(v.shape)} in the model")
        for name, v in wanted.items()
        if name in found and v.shape != found[name].shape
    ]
    # The first of each kind in front: they tell more than a hundred of one.
    parts = (shapes, missing, extra)
    return list(itertools.chain(*(part[:SHOWN] for part in parts), *(part[SHOWN:] for part in parts)))


def _shown(lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    yield from lines[: 3 * SHOWN]
    if len(lines) > 3 * SHOWN:
        yield f"and {len(lines) - 3 * SHOWN} more"


def _described(state: State, metadata: Mapping[str, Any]) -> str:
    """What is known of the weights of another model and how it can be made, as said of the file."""
    made = _named(metadata) or _fitting(state)
    if made is not None:
        arguments = {"name": made["name"], "num_classes": made["num_classes"], **made["options"]}
        call = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        return f"holds weights of {made['name']}, as made by create_model({call})"
    arch = metadata.get("arch")
    return f"holds weights of {arch}" if isinstance(arch, str) and arch else "holds weights of another model"


def recognize(state: State, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """`name`, `options` and `num_classes` of the network that weights are of; None where nothing tells.

    Our metadata tell, or else names and shapes, or else the `arch` of 3D-ResNets-PyTorch, which says no options.

    Args:
        state: as `read_weights` gives it.
        metadata: likewise.
    """
    if made := _named(metadata) or _fitting(state):
        return made
    name = {reference_arch(name): name for name in MODELS}.get(str(metadata.get("arch")))
    return None if name is None else {"name": name, "options": {}, "num_classes": None}


def _named(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The network that our metadata says, see `recognize`; None where it says nothing."""
    model = metadata.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
        return None
    options = model.get("options")
    options = dict(options) if isinstance(options, Mapping) else {}
    return {"name": model["name"], "options": options, "num_classes": model.get("num_classes")}


def _fitting(state: State, flat: bool = False) -> dict[str, Any] | None:
    """The one of MODELS whose names and shapes are those of `state`, see `recognize`; None where there is none.

    With `flat` the one that `state` can be inflated into: its shapes are the same but for time.
    """
    state = _today(state, {})
    shapes = {n: v.shape for n, v in state.items() if not n.endswith(COUNTED)}
    stems = ("conv1.weight", "conv1_s.weight", "features.conv1.weight")
    stem: tuple[int, ...] = next((shapes[n] for n in stems if n in shapes), ())
    last: tuple[int, ...] = shapes.get("conv1_t.weight", stem)
    head = next((shapes[n] for n in ("fc.weight", "classifier.weight") if n in shapes), ())
    if not len(stem) == len(last) == (4 if flat else 5) or len(head) != 2:
        return None
    usual = {"in_channels": 3, "stem_frames": 7, "width": 1.0}
    found = {"in_channels": stem[1], "stem_frames": 7 if flat else last[2], "width": last[0] / STEM}
    chosen: dict[str, Any] = {k: v for k, v in found.items() if v != usual[k]}
    for prefix, family in FAMILIES.items():
        for depth in family.depths:
            if BLOCKS[depth] != _blocks(state) or (flat and family.dense):
                continue
            for shortcut in ({},) if family.dense else ({}, {"shortcut": "A"}):
                name, options = f"{prefix}{depth}", {**chosen, **shortcut}
                try:
                    with torch.device("meta"):
                        made = create_model(name, head[0], **options).state_dict()
                except ArgumentError:  # no model has such options
                    continue
                made = _flattened(made) if flat else made
                if {n: v.shape for n, v in made.items() if not n.endswith(COUNTED)} == shapes:
                    return {"name": name, "options": options, "num_classes": head[0]}
    return None


def _flattened(state: Mapping[str, Tensor]) -> State:
    """A state of the shapes that it has without time."""
    return {name: value[:, :, 0] if value.ndim == 5 else value for name, value in state.items()}


def _blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many blocks each stage of a ResNet or DenseNet has."""
    stages = [re.match(r"(?:layer|features\.denseblock)([1-4])\.(\w+)\.", name) for name in state]
    blocks = {(match[1], match[2]) for match in stages if match}
    return tuple(sum(stage == number for stage, _ in blocks) for number in "1234")


# --- from images to video


def inflate(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Begin a 3D ResNet with the weights of a 2D one for images: Carreira & Zisserman, CVPR 2017, section 2.4.

    Each kernel is repeated along time and divided by how often, so that a video that does not move gives what its image gave.
    Normalization is copied. The classifier is copied where it has the same size, and stays as it is elsewhere.

    Args:
        model: a ResNet whose convolutions are whole; changed in place, left as it was when an error is raised.
        state: name -> tensor of a ResNet of torchvision or timm of the same depth, as `read_weights` gives it.

    Raises:
        ArgumentError: the two do not go together.
    """
    model = _bare(model)
    flat, solid = _plain(state), model.state_dict()
    head = find_head(model)[0]
    if any(v.ndim == 5 for v in flat.values()):
        raise ArgumentError("has kernels in time already; `load_weights` takes it as it is", "state")
    if any(n.startswith("conv1_s.") for n in solid):
        raise ArgumentError(
            "has its convolutions split into space and time, (2+1)D, and a 2D network has no kernels of such shapes; "
            "inflate into one of r3d",
            "model",
        )
    if not any(n.startswith("layer1.") for n in solid) or not any(n.startswith("layer1.") for n in flat):
        raise ArgumentError("and `state` must both be ResNets, with names as conv1, bn1, layer1.0.conv1", "model")
    wanted = {n: v for n, v in solid.items() if not _within(n, head) and not n.endswith(COUNTED)}
    given = {n: v for n, v in flat.items() if not _within(n, head) and not n.endswith(COUNTED)}
    projected = [n for n in given if ".downsample." in n]
    if projected and not any(".downsample." in n for n in wanted):
        raise ArgumentError(f"has shortcuts A, with no place for `{projected[0]}`; it needs shortcut=B", "model")
    if differing := _differences(given, _flattened(wanted)):
        made = _fitting(flat, flat=True)
        options = "" if made is None else "".join(f", {k}={v}" for k, v in made["options"].items())
        raise ArgumentError(
            "`state` does not fit `model`"
            + ("" if made is None else f"; it would fit {made['name']}{options}")
            + ". Time aside:\n  "
            + "\n  ".join(_shown(text for _, text in differing))
        )
    inflated: State = {}
    for name, target in wanted.items():
        frames = target.shape[2] if target.ndim == 5 else 0
        still = given[name]
        inflated[name] = (still / frames).unsqueeze(2).expand(target.shape) if frames else still
    ours, theirs = ({n: v for n, v in s.items() if _within(n, head)} for s in (solid, flat))
    if _fits(ours, theirs):
        inflated |= theirs
    inflated |= {n: flat.get(n, torch.zeros_like(v)) for n, v in solid.items() if n.endswith(COUNTED)}
    model.load_state_dict(inflated, strict=False)

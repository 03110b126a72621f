"""Weights: to disk and back, from images to video, and what network they are of.

`.safetensors` is our own form, `.pth` that of 3D-ResNets-PyTorch; either says in JSON where the weights come from. Both are read, and
loaded strictly: what does not fit is an error that says why, never a layer left as it was.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vpngen import checks, files
from vpngen.errors import ArgumentError, ConflictError, MissingError
from vpngen.files import replace
from vpngen.models import MODELS, pickles
from vpngen.models.base import (
    Network,
    State,
    bare,
    find,
    find_head,
    head_name,
    is_foreign,
    make,
    outline,
    reference_arch,
    within,
)
from vpngen.models.metadata import checked
from vpngen.units import count_text

METADATA: Final = "vpngen"
"""The key that our metadata is under, in the header of a .safetensors file and in a .pth file."""
STATES: Final = ("state_dict", "model_state", "model_state_dict", "model")
"""What checkpoints call the weights they hold among other things."""
COUNTED: Final = ".num_batches_tracked"
MOST_HEADER: Final = 2**24
"""Bytes of the header of a file."""
MOST_TENSORS: Final = 2**15
DTYPES: Final = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
SHOWN: Final = 9
"""Differences that an error lists."""
MOST_PREFIXES: Final = 4
"""Names of modules that may stand before all names of a file."""


def save_weights(path: str | Path, model: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write weights and statistics as .safetensors, whole or not at all, with `metadata` as JSON in the header.

    The same weights with the same metadata are the same bytes.

    Raises:
        ArgumentError: `metadata` is not JSON.
        MissingError: safetensors is not installed, or no space is left.
    """
    about = {"format": "pt", METADATA: _json(metadata)}
    data = _safetensors().torch.save(_tensors(model), about)  # its save_file makes files that nobody else may read
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]) | {"__metadata__": about}).encode()  # it leaves their order to chance
    header += b" " * (-len(header) % 8)
    with replace(Path(path)) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(data)[end:])


def save_reference(
    path: str | Path, model: nn.Module, arch: str, epoch: int, optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None, metadata: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint as 3D-ResNets-PyTorch does, which takes it for `--pretrain_path` and `--resume_path`.

    Args:
        path: where to.
        model: its names are those of a model that is neither parallel nor compiled.
        arch: see `vpngen.models.reference_arch`; who resumes must have the same.
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
        content["optimizer"] = _on_cpu(optimizer.state_dict())
    if scheduler is not None:
        content["scheduler"] = scheduler.state_dict()
    with replace(Path(path)) as partial, partial.open("wb") as file:  # by a path, torch hides why it failed
        torch.save(content, file)


def _json(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"must be what JSON can hold: {error}", "metadata") from error


def _on_cpu(value: Any) -> Any:
    """The same with every tensor in it on the CPU, so that a machine without a GPU reads it."""
    if isinstance(value, dict):
        return {key: _on_cpu(each) for key, each in value.items()}
    return value.cpu() if isinstance(value, Tensor) else value


def _tensors(model: nn.Module) -> State:
    """The state of a model, by the names of the bare model, each tensor contiguous and in memory of its own on the CPU."""
    state = _plain(bare(model).state_dict())
    return {n: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for n, v in state.items()}


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingError(".safetensors files need safetensors; pip install 'vpngen[train]'") from error
    return safetensors


def read_weights(path: str | Path) -> tuple[State, dict[str, Any]]:
    """What a file of weights holds, on the host.

    .safetensors, or whatever torch.save wrote: a state dict, or a checkpoint with one in it. Which of them it is, its first bytes
    say. Nothing in the file is executed, or imported; what it says of itself is checked; it takes memory in proportion to its size.

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
        with open(files.open_regular(path), "rb") as file:
            start, size = file.read(9), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ArgumentError(f"cannot be read: {error.strerror}", "path", path) from None
    name = repr(str(path))
    if start[8:] == b"{":  # behind the length of the header
        library = _safetensors()
        try:
            if int.from_bytes(start[:8], "little") > min(MOST_HEADER, size):
                raise ValueError("its header is longer than it can be")
            with library.safe_open(path, "pt") as file:
                keys = file.keys()
                _few(keys)
                state = {key: file.get_tensor(key) for key in keys}
                metadata = files.parse_json((file.metadata() or {}).get(METADATA, "{}"))
        except (library.SafetensorError, TypeError, ValueError, RecursionError) as error:
            raise ConflictError(f"{name} is damaged: {error}; copy or make it again") from error
    elif start.startswith((b"PK", b"\x80")):
        state, metadata = _read_torch(path)
    else:
        raise ConflictError(f"{name} is damaged, or is neither .safetensors nor written by torch.save")
    if other := sorted({str(v.dtype) for v in state.values() if v.dtype not in DTYPES}):
        raise ConflictError(f"{name} holds numbers of {', '.join(other)}, which no network here has")
    return _plain(state), checked(path, metadata)


def _few(names: Collection[str]) -> None:
    """That a network may have so many tensors. Raises ValueError."""
    if len(names) > MOST_TENSORS:
        raise ValueError(f"it holds {len(names):,} tensors, and no network here has more than {MOST_TENSORS:,}")


def read_torch(path: Path, what: str) -> Any:
    """What a file of torch.save holds, see `vpngen.models.pickles`; `what` it should be of, for errors. Raises ConflictError."""
    try:
        return pickles.read(path)
    except pickles.NamedError as error:
        raise ConflictError(
            f"{str(path)!r} holds more than {what}, or is damaged: it names {error.named[:80]}, and unpickling that could run any "
            f"code. Where you trust it: saved = torch.load({str(path)!r}, weights_only=False), and torch.save its state dict"
        ) from error
    except Exception as error:  # a damaged file makes whatever part stumbles raise whatever it raises
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ConflictError(f"{str(path)!r} is damaged, or not of {what}: {reason}; make it again") from error


def _read_torch(path: Path) -> tuple[State, dict[str, Any]]:
    saved = read_torch(path, "weights")
    state, metadata = saved, {}
    if isinstance(saved, Mapping):
        state = next((saved[key] for key in STATES if isinstance(saved.get(key), Mapping)), saved)
        if state is not saved:
            metadata = {k: saved[k] for k in ("arch", "epoch") if isinstance(saved.get(k), (str, int))}
            metadata = saved[METADATA] if isinstance(saved.get(METADATA), dict) else metadata
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConflictError(f"{str(path)!r} holds no state dict of tensors, nor has one as {' or '.join(STATES)}")
    try:
        _few(state)
    except ValueError as error:
        raise ConflictError(f"{str(path)!r} is damaged, or not of weights: {error}") from None
    return {name: value.detach() for name, value in state.items()}, metadata


def make_with(
    name: str, num_classes: int, options: Mapping[str, Any], path: str | Path, *, head: str = "keep"
) -> nn.Module:
    """The network of `create_model` with the weights of a file, see `load_weights`; made only if they fit.

    Raises:
        ArgumentError, ConflictError, MissingError: see both.
    """
    read = read_weights(path)
    if not is_foreign(name):
        _fitted(outline(name, num_classes, options), *read, path, head)  # a small file may speak of a large network
    model = make(name, num_classes, options)
    _load(model, *read, path, head)
    return model


def load_weights(model: nn.Module, path: str | Path, *, head: str = "keep") -> dict[str, Any]:
    """Put the weights of a file into `model`: all of them, into all of it.

    Args:
        model: changed in place; left as it was when an error is raised.
        path: see `read_weights`. Files without `num_batches_tracked` are understood, the names under which others publish
            the weights of a `Network`, and those of a module that the network was part of, as `model.` or `net.backbone.`.
        head: `keep` loads the classifier with the rest; `replace` leaves that of the file out, and that of `model` as it is.

    Returns:
        The metadata of the file, see `read_weights`.

    Raises:
        ArgumentError: `head` is neither, or as `read_weights`.
        ConflictError: the weights are those of another model or class count, or not finite, or as `read_weights`.
        MissingError: as `read_weights`.
    """
    checks.one_of("head", head, ("keep", "replace"))
    state, metadata = read_weights(path)
    _load(model, state, metadata, path, head)
    return metadata


def _load(model: nn.Module, state: State, metadata: Mapping[str, Any], path: str | Path, head: str) -> None:
    found, model = _fitted(model, state, metadata, path, head), bare(model)
    own = model.state_dict()
    names = dict(zip(_plain(own), own, strict=True))
    if problem := _not_finite(found, {name: own[names[name]] for name in found}):
        raise ConflictError(f"{str(path)!r} {problem}")
    # Not strict, for the head may be left out; that nothing else is missing has been seen to.
    model.load_state_dict({names[name]: value for name, value in found.items()}, strict=False)


def _fitted(model: nn.Module, state: State, metadata: Mapping[str, Any], path: str | Path, head: str) -> State:
    """The weights that go into a model, by its names. Raises ConflictError where they are those of another."""
    model = bare(model)
    wanted = _plain(model.state_dict())
    found = _named(model, state, wanted)
    if not any(name.endswith(COUNTED) for name in found):  # torch below 0.4.1 did not count
        found = found | {n: torch.zeros_like(v, device="cpu") for n, v in wanted.items() if n.endswith(COUNTED)}
    top = head_name(model) or ""
    if head == "replace":
        top, _ = find_head(model)
        found, wanted = ({n: v for n, v in s.items() if not within(n, top)} for s in (found, wanted))
    differing, text = _differences(found, wanted)
    there, here = (_classes(s, top) for s in (found, wanted))
    if there and here and there != here and all(within(name, top) for name in differing):
        remedy = f"give head='replace' to begin with a fresh classifier, or make the model with num_classes={there}"
        raise ConflictError(f"{str(path)!r} is for {there} classes, and this model for {here}; {remedy}")
    if differing:
        made, what = recognize(state, metadata), _printable(str(metadata.get("arch") or "another model"))
        if made is not None:
            options = {"name": made["name"], "num_classes": made["num_classes"], **made["options"]}
            call = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
            what = f"{_printable(made['name'])}, as made by create_model({_printable(call)})"
        apart = "" if head == "keep" else " apart from the classifier"
        raise ConflictError(f"{str(path)!r} holds weights of {what}, which does not fit this model{apart}:{text}")
    return found


def _printable(text: str) -> str:
    """A text of a file as it may stand in a message."""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return text if text.isprintable() else repr(text)


def inflate(model: nn.Module, state: Mapping[str, Tensor], path: str | Path | None = None) -> None:
    """Begin a 3-D network with the weights of a 2-D one for images: Carreira & Zisserman, CVPR 2017, section 2.4.

    Each kernel is repeated along time and divided by how often, so that a video that does not move gives what its image gave.
    Normalization is copied. The classifier is copied where it has the same size, and stays as it is elsewhere.

    Args:
        model: a `Network` that `inflates`, as a ResNet whose convolutions are whole, or one of another package that has the names of the
            2-D network. It is changed in place, and left as it was when an error is raised.
        state: name -> tensor of that network, as `read_weights` gives it; for a ResNet or DenseNet one of torchvision or timm of the same depth.
        path: the file it is of, for errors.

    Raises:
        ArgumentError: the two do not go together, or weights are not finite.
    """
    given_as = ... if path is None else Path(path)
    model = bare(model)
    flat, own = _plain(state), model.state_dict()
    head = find_head(model)[0]
    if any(v.ndim == 5 for v in flat.values()):
        raise ArgumentError("has kernels in time already; give it as `init_from` (`--init-from`)", "state", given_as)
    if isinstance(model, Network) and not model.inflates:
        other = _would_fit(flat, model) or "; inflate into one of r3d"
        raise ArgumentError(f"({type(model).__name__}) takes no weights of images{other}", "model")
    apart = [head, *(model.unlike_images if isinstance(model, Network) else ())]
    found = _named(model, flat, own)
    given, wanted = (
        {n: v for n, v in s.items() if not (n.endswith(COUNTED) or any(within(n, a) for a in apart))}
        for s in (found, own)
    )
    differing, text = _differences(given, _flattened(wanted))
    if differing:
        raise ArgumentError(f"does not fit `model`{_would_fit(flat, model)}. Time aside:{text}", "state", given_as)
    for name, target in wanted.items():
        if target.ndim == 5:
            given[name] = (given[name] / target.shape[2]).unsqueeze(2).expand(target.shape)
    ours, theirs = ({n: v for n, v in s.items() if within(n, head)} for s in (own, found))
    if not _differences(theirs, _flattened(ours, head))[0]:
        given |= {n: v.reshape(ours[n].shape) for n, v in theirs.items()}
    given |= {n: found.get(n, torch.zeros_like(v)) for n, v in own.items() if n.endswith(COUNTED)}
    if problem := _not_finite(given, own):
        raise ArgumentError(problem, "state", given_as)
    model.load_state_dict(given, strict=False)


def _not_finite(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """What is wrong with weights of which a model, whose tensors are `own`, would get NaN or infinity; None where all is well."""
    bad = [n for n, v in found.items() if v.is_floating_point() and not v.to(own[n].dtype).isfinite().all()]
    if not bad:
        return None
    more = f" and {count_text(len(bad) - 1, 'more tensor')}" if len(bad) > 1 else ""
    why = "their training diverged, or the file is damaged; give those of an earlier epoch, or others"
    return f"holds weights that are not finite (NaN or infinity), in `{_printable(bad[0])}`{more}: {why}"


def _named(model: nn.Module, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> State:
    """A state by the names of a bare model, `wanted`: without the prefix that leaves most of them."""
    own_name = model.own_name if isinstance(model, Network) else str
    return max(_readings(state, own_name, head_name(model)), key=lambda found: len(found.keys() & wanted.keys()))


def _readings(state: Mapping[str, Tensor], own_name: Callable[[str], str], head: str | None) -> list[State]:
    """A state by the names it has, then without each of the modules that it was part of, as `model.` or `net.backbone.`.

    All names begin with them, but perhaps those of the classifier, `head`. What is left of them are names of `own_name`.
    """
    body = [name for name in state if head is None or not within(own_name(name), head)]
    ends = zip(min(body).split("."), max(body).split("."), strict=False) if body else ()
    common = (part for part, _ in itertools.takewhile(lambda both: both[0] == both[1], ends))
    prefixes = ["", *itertools.accumulate(f"{part}." for part in common)]
    found = []
    for prefix in prefixes[: MOST_PREFIXES + 1]:
        own = {n: name for n in state if (name := own_name(n.removeprefix(prefix)))}  # some have no place here
        if not prefix or len(set(own.values())) == len(own):  # no two names become one
            found.append({name: state[n] for n, name in own.items()})
    return found


def _plain(state: Mapping[str, Tensor]) -> State:
    """A state by the names of the bare model: parts may have been compiled, and the whole been parallel."""
    found = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    while found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _classes(state: Mapping[str, Tensor], head: str) -> int | None:
    weight = state.get(f"{head}.weight")
    return len(weight) if weight is not None and weight.ndim else None


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[list[str], str]:
    """Names of whatever is not the same in both, and text that describes the first of them, a line each.

    Other shapes, what is missing and what is too much take turns: a hundred of one kind tell no more than one.
    """
    theirs, ours = ({name: tuple(value.shape) for name, value in state.items()} for state in (found, wanted))
    shapes = [name for name in ours if theirs.get(name, ours[name]) != ours[name]]
    missing, extra = ([name for name in a if name not in b] for a, b in ((ours, theirs), (theirs, ours)))
    names = [name for turn in itertools.zip_longest(shapes, missing, extra) for name in turn if name is not None]
    lines = [
        f"`{_printable(n)}` is {theirs.get(n, 'not')} in the file, {ours.get(n, 'not')} in the model"
        for n in names[:SHOWN]
    ]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return names, "".join(f"\n  {line}" for line in lines + more)


def recognize(state: State, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """`name`, `options` and `num_classes` of the network that weights are of; None where nothing tells.

    Our metadata tell, or else names and shapes, or else the `arch` of 3D-ResNets-PyTorch, which says no options. `state` and
    `metadata` are as `read_weights` gives them.
    """
    model = metadata.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("name"), str):
        options = dict(model.get("options") or {})
        return {"name": model["name"], "options": options, "num_classes": model.get("num_classes")}
    name = {reference_arch(name): name for name in MODELS}.get(str(metadata.get("arch")))
    return _fitting(state) or (None if name is None else {"name": name, "options": {}, "num_classes": None})


def _fitting(state: State, flat: bool = False, first: type | None = None) -> dict[str, Any] | None:
    """The one of MODELS whose names and shapes are those of `state`, see `recognize`; None where there is none.

    With `flat` the one that `state`, of a 2-D network, can be inflated into: its shapes are the same but for time. Of several the first
    of the class `first`, or of all. Where there is no classifier, as in many a published file, `num_classes` is None.
    """
    for name in sorted(MODELS, key=lambda name: first is not None and find(name)[0] is not first):
        network, arguments = find(name)
        for own in _readings(state, network.own_name, network.head):
            stem, num_classes = own.get(f"{network.stem}.weight"), _classes(own, network.head)
            if stem is None or stem.ndim != (4 if flat else 5) or num_classes == 0 or (flat and not network.inflates):
                continue
            apart = network.unlike_images if flat else ()
            if num_classes is None:
                if any(within(n, network.head) for n in own):
                    continue
                apart += (network.head,)
            # No model may have such options, or no layer such tensors.
            with contextlib.suppress(ArgumentError, LookupError, TypeError):
                if (options := network.guess(own, **arguments)) is None:
                    continue
                made = outline(name, num_classes or 1, options).state_dict()
                differing, _ = _differences(own, _flattened(made, network.head) if flat else made)
                if all(n.endswith(COUNTED) or any(within(n, a) for a in apart) for n in differing):
                    return {"name": name, "options": options, "num_classes": num_classes}
    return None


def _would_fit(flat: State, model: nn.Module) -> str:
    """Which network, best one like `model`, the weights of a 2-D one can be inflated into, for an error; empty where there is none."""
    made = _fitting(flat, flat=True, first=type(model))
    options = "" if made is None else "".join(f", {k}={v}" for k, v in made["options"].items())
    return "" if made is None else f"; it would fit {made['name']}{options}"


def _flattened(state: Mapping[str, Tensor], head: str | None = None) -> State:
    """The shapes of a 2-D network of the same layers; what is a convolution here as classifier is a linear layer there."""
    return {
        name: value if value.ndim < 5 else value.flatten(1) if name == f"{head}.weight" else value[:, :, 0]
        for name, value in state.items()
    }

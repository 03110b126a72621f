"""Networks of other packages: how they are made, and where their classifier, stages and first convolution are likely to be."""

from __future__ import annotations

import importlib
import inspect
import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import nn

from vpngen.errors import ArgumentError, MissingError

CLASS_COUNTS: Final = ("num_classes", "n_classes", "model_num_class", "class_count")
"""What the factories of other packages call the number of classes."""


def make(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """What `package.module:callable` makes, see `create_model`.

    Raises:
        ArgumentError: there is no such callable, or it takes no class count or not these options, or makes no module.
        MissingError: the package cannot be imported.
    """
    home, _, path = name.partition(":")
    try:
        module = importlib.import_module(home)
    except Exception as error:  # whatever a module may do when it is imported
        raise MissingError(
            f"`name` (={name!r}): {home} cannot be imported ({type(error).__name__}: {error}); install it, or add the folder "
            f"that it is in to PYTHONPATH"
        ) from error
    try:
        factory = operator.attrgetter(path)(module)
    except AttributeError:
        raise ArgumentError(f"does not exist: {home} has no {path}", "name", name) from None
    if not callable(factory):
        raise ArgumentError("must name a function or class that makes a model; this cannot be called", "name", name)
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
            given = ", ".join(options) or "(none)"
            raise ArgumentError(
                f"cannot be called with `{count}` and the options {given}: {error}", "name", name
            ) from error
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"must make a torch.nn.Module, and made a {type(model).__name__}", "name", name)
    return model


def guess_head(model: nn.Module) -> str | None:
    """The last linear layer; without one, as in S3D and many an I3D, the last 1 x 1 x 1 convolution; None without either."""
    named = [(name, module) for name, module in model.named_modules() if name]
    linear = [name for name, module in named if isinstance(module, nn.Linear)]
    points = [n for n, m in named if isinstance(m, nn.Conv3d) and m.kernel_size == (1, 1, 1) and m.groups == 1]
    return next(reversed(linear or points), None)


def guess_stages(model: nn.Module, head: str) -> list[str]:
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


def guess_stem(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The name of weights, given the shapes of all: those of a convolution over space or time; None where there is none.

    Of those that see an image (one or three channels, or the fewest there are) the one of the most frames.
    """
    found = {name: tuple(s) for name, s in shapes.items() if len(s) == 5 and math.prod(s[2:]) > 1}
    fewest = min((s[1] for s in found.values()), default=0)
    seeing = [n for n, s in found.items() if s[1] in (1, 3)] or [n for n, s in found.items() if s[1] == fewest]
    return max(seeing, key=lambda name: found[name][2], default=None)


def within(name: str, ancestor: str) -> bool:
    """Whether `name` is that of `ancestor` or of something in it."""
    return ancestor in ("", name) or name.startswith(f"{ancestor}.")

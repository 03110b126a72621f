"""From images to video: the weights of a 2-D network, repeated along time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vpngen.errors import ArgumentError
from vpngen.models.base import Network, State, bare, find_head, within
from vpngen.models.weights import COUNTED, differences, fitting, flattened, own_names, plain


def inflate(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Begin a 3-D network with the weights of a 2-D one for images: Carreira & Zisserman, CVPR 2017, section 2.4.

    Each kernel is repeated along time and divided by how often, so that a video that does not move gives what its image gave.
    Normalization is copied. The classifier is copied where it has the same size, and stays as it is elsewhere.

    Args:
        model: a `Network` that `inflates`, as a ResNet whose convolutions are whole, or one of another package that has the names of the
            2-D network. It is changed in place, and left as it was when an error is raised.
        state: name -> tensor of that network, as `read_weights` gives it; for a ResNet one of torchvision or timm of the same depth.

    Raises:
        ArgumentError: the two do not go together.
    """
    model = bare(model)
    flat, solid = plain(state), model.state_dict()
    head = find_head(model)[0]
    if any(v.ndim == 5 for v in flat.values()):
        raise ArgumentError("has kernels in time already; `load_weights` takes it as it is", "state")
    if isinstance(model, Network) and not model.inflates:
        raise ArgumentError(f"({type(model).__name__}) takes no weights of images; inflate into one of r3d", "model")
    found = own_names(model, flat)
    given, wanted = (
        {n: v for n, v in s.items() if not within(n, head) and not n.endswith(COUNTED)} for s in (found, solid)
    )
    differing, text = differences(given, flattened(wanted))
    if differing:
        made, other = fitting(flat, flat=True), ""
        if made is not None:
            other = f"; it would fit {made['name']}" + "".join(f", {k}={v}" for k, v in made["options"].items())
        raise ArgumentError(f"does not fit `model`{other}. Time aside:{text}", "state")
    inflated: State = {}
    for name, target in wanted.items():
        frames = target.shape[2] if target.ndim == 5 else 0
        still = given[name]
        inflated[name] = (still / frames).unsqueeze(2).expand(target.shape) if frames else still
    ours, theirs = ({n: v for n, v in s.items() if within(n, head)} for s in (solid, found))
    if {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}:
        inflated |= theirs
    inflated |= {n: found.get(n, torch.zeros_like(v)) for n, v in solid.items() if n.endswith(COUNTED)}
    model.load_state_dict(inflated, strict=False)

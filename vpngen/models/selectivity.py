"""How selective the units of a network are for orientation and direction: responses to drifting gratings.

Kataoka et al., WACV 2022, say of networks that were initialized with VPN that their first filters become selective for
orientation and direction (figure 1a, section 6), and give no number. The usual ones of visual neuroscience are here, as Mazurek,
Kager, Van Hooser, "Robust quantification of orientation selectivity and direction selectivity", Frontiers in Neural Circuits 2014,
compare them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.models.base import Network

F64 = npt.NDArray[np.float64]

DIRECTIONS: Final = 16
SPATIAL: Final = (1 / 28, 1 / 14, 1 / 7, 1 / 4)
"""Cycles a pixel, where nothing else is asked for."""
TEMPORAL: Final = (1 / 16, 1 / 8, 1 / 4)
"""Cycles a frame."""
CLIP: Final[Shape] = (32, 64, 64)
"""Of which the middle half is looked at, along each axis: what is outside of a clip is no grating."""
SILENT: Final = 1e-6
"""A unit whose largest response is so small a part of that of the layer's strongest has no preference."""


@dataclass(frozen=True)
class Selectivity:
    """What the units of a layer prefer among drifting gratings, and how strongly.

    Attributes:
        layer: its name.
        direction: in which the best grating of each unit drifts, degrees counter-clockwise from +x, (units,).
        spatial: the frequency of that grating, cycles a pixel, (units,).
        temporal: likewise, cycles a frame, (units,).
        osi: (R_pref - R_orth) / (R_pref + R_orth), R_pref being the mean of the responses to the best grating and to the one that
            drifts the other way, R_orth that of the two across, (units,).
        dsi: (R_pref - R_null) / (R_pref + R_null), of the best grating and the one that drifts the other way, (units,).
        vector_osi: |sum R exp(2 i direction)| / sum R over all directions, at the frequencies of the best grating, (units,).
        vector_dsi: |sum R exp(i direction)| / sum R, (units,).

    Indices are between 0 and 1; those of a unit that answers to no grating are NaN.
    """

    layer: str
    direction: F64
    spatial: F64
    temporal: F64
    osi: F64
    dsi: F64
    vector_osi: F64
    vector_dsi: F64

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the units, NaN as null, and the median and share above 1/2 of each index."""
        units = {
            k: [round(v, 5) if v == v else None for v in vars(self)[k].tolist()] for k in vars(self) if k != "layer"
        }
        summary: dict[str, Any] = {"units": len(self.osi), "silent": int(np.isnan(self.osi).sum())}
        for name in ("osi", "dsi", "vector_osi", "vector_dsi"):
            found = vars(self)[name][~np.isnan(vars(self)[name])]
            half = (
                {"median": float(np.median(found)), "above_half": float((found > 0.5).mean())} if len(found) else None
            )
            summary[name] = half
        return {"layer": self.layer, **summary, "of_units": units}


def grating(direction: float, spatial: float, temporal: float, clip: Shape = CLIP) -> npt.NDArray[np.float32]:
    """A grating that drifts in `direction`: float32 (T, Y, X) from -1 to 1.

    Args:
        direction: degrees counter-clockwise from +x, as one sees it.
        spatial: cycles a pixel.
        temporal: cycles a frame.
        clip: (t, y, x).
    """
    t, y, x = np.meshgrid(*map(np.arange, clip), indexing="ij", sparse=True)
    angle = np.deg2rad(direction)
    along = x * np.cos(angle) - y * np.sin(angle)
    return np.asarray(np.cos(2 * np.pi * (spatial * along - temporal * t)), np.float32)


def tuning(
    responses: F64, layer: str, spatial: Sequence[float] = SPATIAL, temporal: Sequence[float] = TEMPORAL
) -> Selectivity:
    """The preferences of units from their responses (units, directions, spatial, temporal), which are not negative.

    Raises:
        ArgumentError: the number of directions is no multiple of 4, so that no grating drifts across.
    """
    units, count = responses.shape[:2]
    if count % 4 or not count:
        raise ArgumentError("must be a multiple of 4, so that some are across others", "directions", count)
    best = responses.reshape(units, -1).argmax(1)
    d, s, t = np.unravel_index(best, responses.shape[1:])
    of_best = responses[np.arange(units), :, s, t]
    at = (d[:, None] + np.arange(4) * count // 4) % count
    pref, left, null, right = np.take_along_axis(of_best, at, 1).T
    silent = pref <= SILENT * max(float(pref.max(initial=0)), np.finfo(np.float64).tiny)
    turns = np.arange(count) / count
    with np.errstate(invalid="ignore", divide="ignore"):
        both, across = (pref + null) / 2, (left + right) / 2
        osi, dsi = (both - across) / (both + across), (pref - null) / (pref + null)
        vectors = [np.abs(of_best @ np.exp(2j * np.pi * k * turns)) / of_best.sum(1) for k in (2, 1)]
    indices = [np.where(silent, np.nan, np.clip(v, 0, 1)) for v in (osi, dsi, *vectors)]
    return Selectivity(layer, 360 * turns[d], np.asarray(spatial)[s], np.asarray(temporal)[t], *indices)


def selectivity(
    network: nn.Module,
    layers: Sequence[str] | None = None,
    *,
    directions: int = DIRECTIONS,
    spatial: Sequence[float] = SPATIAL,
    temporal: Sequence[float] = TEMPORAL,
    clip: Shape | None = None,
    contrast: float = 1.0,
    batch_size: int = 8,
) -> list[Selectivity]:
    """What the units of layers prefer among drifting gratings.

    The response of a unit, a channel, is the root mean square of what it gives in the middle half of the clip, less what it gives there
    for a grey one: the amplitude of a unit that follows the grating, the level of one that answers to it steadily.

    Args:
        network: from clips, float (N, 3, T, Y, X), to logits; it is left as it was.
        layers: names of its layers, each with channels as axis 1; None for its first convolution, and then every stage.
        directions: how many, a multiple of 4, evenly spaced from +x.
        spatial: frequencies, cycles a pixel.
        temporal: frequencies, cycles a frame.
        clip: (t, y, x) of the gratings; None for 32 x 64 x 64, or what the network takes alone.
        contrast: of gratings, as a part of what pixel values can be, which the network sees as -1 to 1.
        batch_size: gratings that go through the network at once.

    Raises:
        ArgumentError: no such layer, one whose outputs are no volume, or a number out of range.
    """
    modules = dict(network.named_modules())
    if layers is None:
        layers = [network.stem, *network.stages()] if isinstance(network, Network) else [_first_convolution(network)]
    if unknown := [name for name in layers if name not in modules]:
        raise ArgumentError(
            f"is no layer of this network, which has {', '.join([*filter(None, modules)][:12])} ...",
            "layers",
            unknown[0],
        )
    checks.integer("directions", directions, 4, 360)
    for name, some, most in (("spatial", spatial, 0.5), ("temporal", temporal, 0.5)):
        if not checks.numbers(name, some) or not all(0 < v <= most for v in some):
            raise ArgumentError(f"must be numbers above 0 and up to {most}", name, some)
    if clip is None:
        exact = isinstance(network, Network) and network.exact
        least = network.least if isinstance(network, Network) else CLIP
        clip = least if exact else (max(CLIP[0], least[0]), max(CLIP[1], least[1]), max(CLIP[2], least[2]))
    sweep = [*itertools.product((360 * k / directions for k in range(directions)), spatial, temporal)]
    shown = (contrast * grating(*one, clip) for one in sweep)
    answers = _responses(network, layers, itertools.chain([np.zeros(clip, np.float32)], shown), batch_size)
    shape = directions, len(spatial), len(temporal)
    return [tuning(found.T.reshape(-1, *shape), name, spatial, temporal) for name, found in answers.items()]


def _first_convolution(network: nn.Module) -> str:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d):
            return str(name)
    raise ArgumentError("has no convolution in time and space", "network")


class _Done(Exception):
    """The last layer that is looked at has answered."""


def _responses(
    network: nn.Module, layers: Sequence[str], clips: Iterable[npt.NDArray[np.float32]], batch_size: int
) -> Mapping[str, F64]:
    """Of each layer, float64 (clips - 1, units): see `selectivity`; the first clip is the grey one."""
    was_training, seen = network.training, dict[str, Tensor]()
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 5:
            raise ArgumentError("gives no volume (N, C, T, Y, X); name another layer", "layers", name)
        middle = (slice(n // 4, n - n // 4) for n in output.shape[2:])
        seen[name] = output[(slice(None), slice(None), *middle)].double()
        if len(seen) == len(found):
            raise _Done

    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: keep(name, output)) for name in layers
    ]  # fmt: skip
    grey: dict[str, Tensor] = {}
    try:
        network.eval()
        with torch.no_grad():
            for batch in _batches(clips, batch_size):
                seen.clear()
                with contextlib.suppress(_Done):
                    network(torch.from_numpy(batch)[:, None].expand(-1, 3, -1, -1, -1))
                for name, output in seen.items():
                    grey.setdefault(name, output[:1])
                    found[name].append((output - grey[name]).square().mean((2, 3, 4)).sqrt())
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return {name: torch.cat(parts)[1:].numpy() for name, parts in found.items()}


def _batches(clips: Iterable[npt.NDArray[np.float32]], size: int) -> Iterator[npt.NDArray[np.float32]]:
    rest = iter(clips)
    while some := [*itertools.islice(rest, size)]:
        yield np.stack(some)

"""Pictures of the first convolution of networks over time: figure 5 of Kataoka et al., WACV 2022."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vpngen.errors import ArgumentError, renamed
from vpngen.files import replace
from vpngen.models import MODELS
from vpngen.models.base import State, find
from vpngen.models.weights import read_weights, recognize

Kernel = npt.NDArray[np.float64]
"""The weights of a first convolution (F, C, T, Y, X)."""
Files = str | os.PathLike[str]

PAPER, INK, ZERO = 246, 32, 128
"""Greys of the paper, of text, and of a weight that is zero."""
MARGIN, GAP, GUTTER, SCALE, TEXT = 20, 14, 2, 5, 14
"""Pixels around a sheet, between panels, between filters, of a weight on each side, and of a line of text."""


MOST_DRAWN: Final = 2**22
"""Numbers of a kernel that is drawn: a thousand filters of three channels and 11 x 11 x 11."""
MOST_FRAMES: Final = 64


def first_kernel(state: State, metadata: Mapping[str, Any], layer: str | None = None) -> tuple[str, Kernel]:
    """The first convolution in time and space among the weights of a network.

    That is the `stem` of the network that `recognize` finds. Else, of the convolutions that see an image (one or three channels, or
    the fewest there are), it is the one of the most frames.

    Where that is one in space, followed by one in time, as in R(2+1)D, it is the product of both, with the scale that the batch
    normalization between them gives each of its channels: what a clip meets if all of those are above zero.

    Args:
        state: name -> weights.
        metadata: what is known of the network, see `vpngen.models.weights.read_weights`.
        layer: the name of the weights to take instead.

    Returns:
        The name, and (F, C, T, Y, X).

    Raises:
        ArgumentError: there is none.
    """
    shapes = {n: tuple(v.shape) for n, v in state.items() if v.ndim == 5 and math.prod(v.shape[2:]) > 1}
    if not shapes:
        raise ArgumentError("has no convolution in time and space", "state")
    stem, model = layer, (recognize(state, metadata) or {}).get("name")
    if stem is None and model in MODELS:
        network, _ = find(model)
        stem = next((n for n in state if network.own_name(n) == f"{network.stem}.weight"), None)
    fewest = {1, 3} & {s[1] for s in shapes.values()} or {min(s[1] for s in shapes.values())}
    name = stem or max((n for n, s in shapes.items() if s[1] in fewest), key=lambda n: shapes[n][2])
    if name not in shapes:
        raise ArgumentError(f"is none of the convolutions in time and space: {', '.join([*shapes][:8])}", "layer", name)
    kernel = state[name].double()
    later, norm = name.replace("_s.", "_t."), name.replace("conv", "bn").removesuffix("weight")
    if layer is None and later != name and later in state:
        if {f"{norm}weight", f"{norm}running_var"} <= state.keys():
            scale = state[f"{norm}weight"] / (state[f"{norm}running_var"] + 1e-5).sqrt()
            kernel = kernel * scale.view(-1, 1, 1, 1, 1)
        kernel = torch.einsum("fmt,mcyx->fctyx", state[later].double()[..., 0, 0], kernel[:, :, 0])
        name = " x ".join(each.removesuffix(".weight") for each in (name, later))
    return name, kernel.numpy()


def tiles(kernel: Kernel) -> npt.NDArray[np.uint8]:
    """Filters as pictures: uint8 RGB (F, T, Y, X, 3).

    Each filter by itself: its largest weight of all colours, places and times goes to 1 or 255, zero to 128.

    Args:
        kernel: (F, C, T, Y, X) with C = 3 for red, green and blue, or 1 for grey.

    Raises:
        ArgumentError: other channels, or weights that are not finite.
    """
    if kernel.shape[1] not in (1, 3):
        raise ArgumentError(f"must be of 1 or 3 channels, not {kernel.shape[1]}", "kernel")
    if not np.isfinite(kernel).all():
        raise ArgumentError("is not finite; the training diverged", "kernel")
    largest = np.abs(kernel).max(axis=(1, 2, 3, 4), keepdims=True)
    shares = kernel / np.where(largest > 0, largest, 1)
    made = np.rint(ZERO + (ZERO - 1) * shares).astype(np.uint8)
    return np.moveaxis(np.broadcast_to(made, (len(made), 3, *made.shape[2:])), 1, -1)


def filters(
    weights: Files | Sequence[Files], out: Files, *, titles: Sequence[str] | None = None, layer: str | None = None
) -> None:
    """Draw the first convolution of networks over time, figure 5 of the paper: a .png of all frames, or a .gif that plays.

    In a .png a network is a row of panels, one for each frame of its filters; in a .gif it is one panel, beside the others.

    Args:
        weights: .safetensors or .pth files, see `vpngen.models.weights.read_weights`.
        out: ends in .png or .gif.
        titles: what stands above each; None for the names of the files or of their folders.
        layer: the name of other weights than those `first_kernel` finds.

    Raises:
        ArgumentError: another suffix, no file, no convolution in a file, not one title each.
        ConflictError: a damaged file, or one that holds no weights.
        MissingError: safetensors is not installed, or no space is left.
    """
    paths, target = given_paths("weights", weights), picture_file(out, (".png", ".gif"))
    still, networks = target.suffix.lower() == ".png", []
    for path, title in zip(paths, titles_of("titles", titles, paths), strict=True):
        with renamed(path="weights", state=str(path), kernel=str(path)):
            name, kernel = first_kernel(*read_weights(path), layer)
            if not 0 < kernel.size <= MOST_DRAWN or kernel.shape[2] > MOST_FRAMES:
                raise ArgumentError(
                    f"has a kernel {kernel.shape}, which is too large to be drawn, or has nothing to draw", "kernel"
                )
            large = tiles(kernel).repeat(SCALE, axis=2).repeat(SCALE, axis=3).swapaxes(0, 1)
        text = f"{title}\n{name}, {len(kernel)} filters of {' x '.join(map(str, kernel.shape[2:]))}\n"
        later, columns = "\n\n" if still else text, math.ceil(math.sqrt(len(kernel)))
        panels = [_grid([Image.fromarray(tile) for tile in frame], columns, GUTTER) for frame in large]
        networks.append([_captioned(panel, f"{later if t else text}frame {t}") for t, panel in enumerate(panels)])
    if still:
        columns, blank = max(map(len, networks)), Image.new("RGB", (1, 1), (PAPER,) * 3)
        cells = [panel for panels in networks for panel in [*panels, *[blank] * (columns - len(panels))]]
        pictures = [_grid(cells, columns)]
    else:  # each goes round in its own number of frames
        times = range(math.lcm(*map(len, networks)))
        pictures = [_grid([frames[t % len(frames)] for frames in networks], len(networks)) for t in times]
    pictures = [ImageOps.expand(picture, MARGIN, (PAPER,) * 3) for picture in pictures]
    with replace(target) as partial:
        if still:
            pictures[0].save(partial, format="PNG", optimize=True)
            return
        palette = _grid(pictures, 1).quantize(256)  # one for all frames, so that nothing flickers
        first, *rest = (each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures)
        first.save(partial, format="GIF", save_all=True, append_images=rest, duration=160, loop=0)  # ms


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    font = ImageFont.load_default(TEXT)
    *_, wide, high = map(math.ceil, ImageDraw.Draw(picture).multiline_textbbox((0, 0), text, font=font))
    sheet = Image.new("RGB", (max(picture.width, wide), picture.height + high + TEXT // 2), (PAPER,) * 3)
    ImageDraw.Draw(sheet).multiline_text((0, 0), text, fill=(INK,) * 3, font=font)
    sheet.paste(picture, (0, sheet.height - picture.height))
    return sheet


def _grid(pictures: Sequence[Image.Image], columns: int, gap: int = GAP) -> Image.Image:
    """Pictures in rows, each as much room as the largest."""
    wide, high = (max(picture.size[axis] for picture in pictures) + gap for axis in (0, 1))
    sheet = Image.new("RGB", (columns * wide - gap, -(-len(pictures) // columns) * high - gap), (PAPER,) * 3)
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * wide, number // columns * high))
    return sheet


def given_paths(name: str, given: Files | Sequence[Files]) -> list[Path]:
    """The files that a picture is made of. Raises ArgumentError where there are none."""
    paths = [Path(p) for p in ([given] if isinstance(given, (str, os.PathLike)) else given)]
    if not paths:
        raise ArgumentError("is empty; give at least one", name)
    return paths


def picture_file(out: Files, suffixes: Sequence[str]) -> Path:
    """The file that a picture goes to. Raises ArgumentError for another suffix or a folder."""
    target = Path(out)
    if target.suffix.lower() not in suffixes or target.is_dir():
        raise ArgumentError(f"must be a file, and must end in one of {', '.join(suffixes)}", "out", target)
    return target


def titles_of(name: str, given: Sequence[str] | None, paths: Sequence[Path]) -> list[str]:
    """The titles that are given, or names that tell the files apart: as much of their paths as it takes."""
    if given is not None:
        if len(given) != len(paths):
            raise ArgumentError(f"must be one for each of {len(paths)}, not {len(given)}", name)
        return list(given)
    parts = [path.absolute().with_suffix("").parts for path in paths]
    parts = [own[:-1] if own[-1] in ("weights", "checkpoint", "log") else own for own in parts]
    tries = (["/".join(own[-depth:]) for own in parts] for depth in itertools.count(1))
    return next(made for made in tries if len(set(made)) == len(set(parts)))

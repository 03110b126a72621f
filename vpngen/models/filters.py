"""Pictures of the first convolution of networks over time: figure 5 of Kataoka et al., WACV 2022."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from vpngen.errors import ArgumentError, renamed
from vpngen.files import replace
from vpngen.models.base import State
from vpngen.models.weights import first_convolution, read_weights

Kernel = npt.NDArray[np.float64]
"""The weights of a first convolution (F, C, T, Y, X)."""
Pixels = npt.NDArray[np.uint8]
Files = str | os.PathLike[str]

PAPER, INK, ZERO = 246, 32, 128
"""Greys of the paper, of text, and of a weight that is zero."""
MARGIN, GAP, GUTTER, SCALE, TEXT = 20, 14, 2, 5, 14
"""Pixels around a sheet, between panels, between filters, of a weight on each side, and of a line of text."""
MILLISECONDS: Final = 160
"""Of a frame of a .gif."""


def first_kernel(state: State, metadata: Mapping[str, Any], layer: str | None = None) -> tuple[str, Kernel]:
    """The first convolution in time and space among the weights of a network.

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
    convolutions = [n for n, v in state.items() if len(v.shape) == 5 and math.prod(v.shape[2:]) > 1]
    name = layer or first_convolution(state, metadata)
    if name is None:
        raise ArgumentError("has no convolution in time and space", "state")
    if name not in convolutions:
        known = ", ".join(convolutions[:8]) or "there are none"
        raise ArgumentError(f"must name the weights of a convolution in time and space: {known}", "layer", name)
    kernel = _array(state[name])
    later = name.replace("_s.", "_t.")
    if layer is not None or later == name or later not in state:
        return name, kernel
    norm = name.replace("conv", "bn").removesuffix("weight")
    scale = np.ones(len(kernel))
    if {f"{norm}weight", f"{norm}running_var"} <= set(state):
        scale = _array(state[f"{norm}weight"]) / np.sqrt(_array(state[f"{norm}running_var"]) + 1e-5)
    both = " x ".join(each.removesuffix(".weight") for each in (name, later))
    return both, np.einsum("fmt,m,mcyx->fctyx", _array(state[later])[..., 0, 0], scale, kernel[:, :, 0])


def _array(tensor: Tensor) -> Kernel:
    return tensor.double().numpy()


def tiles(kernel: Kernel) -> Pixels:
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
    shares = np.divide(kernel, largest, out=np.zeros_like(kernel), where=largest > 0)
    made = np.rint(ZERO + (ZERO - 1) * shares).astype(np.uint8)
    return np.moveaxis(np.broadcast_to(made, (len(made), 3, *made.shape[2:])), 1, -1)


def filters(
    weights: Files | Sequence[Files],
    out: Files,
    *,
    titles: Sequence[str] | None = None,
    layer: str | None = None,
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
    names = titles_of("titles", titles, paths)
    still = target.suffix.lower() == ".png"
    panels: list[tuple[str, list[Image.Image]]] = []
    for path, title in zip(paths, names, strict=True):
        with renamed(path="weights", state=str(path), kernel=str(path)):
            name, kernel = first_kernel(*read_weights(path), layer)
            frames = _grids(tiles(kernel))
        panels.append((f"{title}\n{name}, {len(kernel)} filters of {' x '.join(map(str, kernel.shape[2:]))}", frames))
    with replace(target) as partial:
        if still:
            rows = [
                _captioned(_joined([_captioned(each, f"frame {t}") for t, each in enumerate(frames)]), text)
                for text, frames in panels
            ]
            ImageOps.expand(_joined(rows, down=True), MARGIN, (PAPER,) * 3).save(partial, format="PNG", optimize=True)
            return
        count = math.lcm(*(len(frames) for _, frames in panels))  # each goes round in its own number of frames
        pictures = [
            _joined([_captioned(f[t % len(f)], f"{text}\nframe {t % len(f)}") for text, f in panels])
            for t in range(count)
        ]
        palette = _joined(pictures, down=True).quantize(256)  # one for all frames, so that nothing flickers
        pictures = [ImageOps.expand(each, MARGIN, (PAPER,) * 3) for each in pictures]
        first, *rest = (each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures)
        first.save(partial, format="GIF", save_all=True, append_images=rest, duration=MILLISECONDS, loop=0)


def _grids(drawn: Pixels) -> list[Image.Image]:
    """Tiles (F, T, Y, X, 3) as one picture for each of T frames, each weight `SCALE` pixels wide, with gaps."""
    columns = math.ceil(math.sqrt(len(drawn)))
    rows = -(-len(drawn) // columns)
    spare = [(0, rows * columns - len(drawn)), (0, 0), (0, GUTTER), (0, GUTTER), (0, 0)]
    large = np.pad(drawn.repeat(SCALE, axis=2).repeat(SCALE, axis=3), spare, constant_values=PAPER)
    _, frames, high, wide, _ = large.shape
    large = large.reshape(rows, columns, frames, high, wide, 3).transpose(2, 0, 3, 1, 4, 5)
    large = large.reshape(frames, rows * high, columns * wide, 3)[:, :-GUTTER, :-GUTTER]
    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in large]


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    """A picture with text above it."""
    font = ImageFont.load_default(TEXT)
    *_, wide, high = map(math.ceil, ImageDraw.Draw(picture).multiline_textbbox((0, 0), text, font=font))
    sheet = Image.new("RGB", (max(picture.width, wide), picture.height + high + TEXT // 2), (PAPER,) * 3)
    ImageDraw.Draw(sheet).multiline_text((0, 0), text, fill=(INK,) * 3, font=font)
    sheet.paste(picture, (0, sheet.height - picture.height))
    return sheet


def _joined(pictures: Sequence[Image.Image], down: bool = False) -> Image.Image:
    """Pictures side by side, or one below the other."""
    size = np.array([picture.size for picture in pictures])
    ends = np.cumsum(size[:, int(down)] + GAP)
    wide, high = (size[:, 0].max(), ends[-1] - GAP) if down else (ends[-1] - GAP, size[:, 1].max())
    sheet = Image.new("RGB", (int(wide), int(high)), (PAPER,) * 3)
    for picture, at in zip(pictures, [0, *ends.tolist()], strict=False):
        sheet.paste(picture, (0, at) if down else (at, 0))
    return sheet


def given_paths(name: str, given: Files | Sequence[Files]) -> list[Path]:
    """The files that a picture is made of. Raises ArgumentError where there are none."""
    paths = [Path(given)] if isinstance(given, (str, os.PathLike)) else [Path(p) for p in given]
    if not paths:
        raise ArgumentError("is empty; give at least one", name)
    return paths


def picture_file(out: Files, suffixes: Sequence[str]) -> Path:
    """The file that a picture goes to. Raises ArgumentError for another suffix or a folder."""
    target = Path(out)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(f"must end in one of {', '.join(suffixes)}", "out", target)
    if target.is_dir():
        raise ArgumentError("is a folder; give a file in it", "out", target)
    return target


def titles_of(name: str, given: Sequence[str] | None, paths: Sequence[Path]) -> list[str]:
    """The titles that are given, or names that tell the files apart: as much of their paths as it takes."""
    if given is not None:
        if len(given) != len(paths):
            raise ArgumentError(f"must be one for each of {len(paths)}, not {len(given)}", name)
        return list(given)
    parts = [path.absolute().with_suffix("").parts for path in paths]
    parts = [own[:-1] if own[-1] in ("weights", "checkpoint", "log") else own for own in parts]
    made: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        made = ["/".join(own[-depth:]) for own in parts]
        if len(set(made)) == len(made):
            break
    return made

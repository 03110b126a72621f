"""Pictures of what a task shows a network."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vpngen.errors import ArgumentError
from vpngen.files import replace
from vpngen.models.filters import picture_file

PAPER, INK, MARKED = (246, 246, 246), (32, 32, 32), (190, 40, 30)
MARGIN, GAP, TEXT, SIDE, FRAMES = 16, 4, 16, 96, 8
"""Pixels around a sheet, between pictures, of a line of text, of a frame at most; and frames of a strip at most."""

Sample = Sequence[tuple[str, Tensor]]
"""Titles and clips (3, T, Y, X), see `Task.shown`."""


def sheet(samples: Sequence[Sample], out: str | os.PathLike[str], title: str = "") -> None:
    """Draw samples of a task, float clips in [0, 1], as a .png: a strip of frames for each clip, the title of a clip above it.

    Args:
        samples: what `Task.shown` gives for each.
        out: the file.
        title: what stands above all.

    Raises:
        ArgumentError: another suffix, or no samples.
        MissingError: no space is left.
    """
    target = picture_file(out, (".png",))
    if not samples:
        raise ArgumentError("are none", "samples")
    strips = [[(name, _strip(clip)) for name, clip in sample] for sample in samples]
    width = max(strip.width for sample in strips for _, strip in sample)
    column = max(width, 200) + 2 * MARGIN
    height = max(sum(strip.height + TEXT + GAP for _, strip in sample) for sample in strips)
    image = Image.new("RGB", (column * len(strips), height + 2 * MARGIN + TEXT), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT - 4)
    draw.text((MARGIN, MARGIN // 2), title, INK, font)
    for number, sample in enumerate(strips):
        left, top = number * column + MARGIN, MARGIN + TEXT
        for name, strip in sample:
            draw.text((left, top), name, MARKED, font)
            image.paste(strip, (left, top + TEXT))
            top += strip.height + TEXT + GAP
    with replace(target) as partial:
        image.save(partial, "png")


def _strip(clip: Tensor) -> Image.Image:
    """Up to FRAMES frames of a clip, evenly from the first to the last, side by side."""
    frames = clip.shape[1]
    chosen = np.linspace(0, frames - 1, min(frames, FRAMES)).round().astype(int)
    pixels = (clip[:, chosen].clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
    scale = SIDE / max(pixels.shape[1:3])
    size = max(1, round(pixels.shape[2] * scale)), max(1, round(pixels.shape[1] * scale))
    strip = Image.new("RGB", (len(chosen) * (size[0] + GAP) - GAP, size[1]), PAPER)
    for k, frame in enumerate(pixels):
        strip.paste(Image.fromarray(frame).resize(size), (k * (size[0] + GAP), 0))
    return strip

"""Clips as tensors: the device that is asked for, normalization, another size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vpngen.errors import ArgumentError, MissingError

Take = Callable[[tuple[int, ...], torch.dtype], torch.Tensor]
"""Gives a tensor of a shape and dtype, its contents undefined."""


def device_of(value: Any) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means; `auto` is the GPU where torch finds one.

    Raises:
        ArgumentError: `value` names no such device.
        MissingError: this machine has no such GPU.
    """
    if value == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError("must be auto, cpu, cuda or cuda:N", "device", value)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            remedy = "install its CUDA build and the driver, or give cpu"
            raise MissingError(f"`device` (={str(value)!r}): this torch ({torch.__version__}) finds no GPU; {remedy}")
        if (device.index or 0) >= (count := torch.cuda.device_count()):
            there = f"this machine has {count} GPUs; give a lower number"
            raise MissingError(f"`device` (={str(value)!r}) is not there: {there}")
    return device


def to_device(part: Any, device: torch.device) -> Any:
    """A tensor, or each of a dictionary, on that device; the host does not wait."""
    if isinstance(part, dict):
        return {name: to_device(value, device) for name, value in part.items()}
    return part.to(device, non_blocking=True)


def normalised(
    clips: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    take: Take | None = None,
) -> torch.Tensor:
    """(x / 255 - mean) / std, as one product and one sum in float32 that is rounded once.

    Grey that three channels share takes the memory of one, unless `mean` or `std` differ between channels.

    Args:
        clips: uint8 (N, C, T, Y, X).
        mean: of each channel, in [0, 1].
        std: of each channel, above 0.
        dtype: of the result.
        take: gives its memory; None for new memory on the device of `clips`.

    Returns:
        `dtype` (N, C, T, Y, X).
    """
    levels = [(1 / (255 * s), -m / s) for m, s in zip(mean, std, strict=True)]
    alike = len(set(levels)) == 1
    source = clips[:, :1] if alike and clips.stride(1) == 0 else clips
    shape = tuple(source.shape)
    out = torch.empty(shape, dtype=dtype, device=clips.device) if take is None else take(shape, dtype)
    step = max(len(clips), 1) if clips.is_cuda else 1  # on a CPU clip by clip, which stays in its cache
    for channel, (scale, shift) in [(slice(None), levels[0])] if alike else [*enumerate(levels)]:
        base = torch.tensor(shift, dtype=torch.float32, device="cpu")  # a number, wherever it is
        for i in range(0, len(clips), step):
            torch.add(base, source[i : i + step, channel], alpha=scale, out=out[i : i + step, channel])
    return out.expand(clips.shape)


def renormalised(
    clips: torch.Tensor,
    was: tuple[Sequence[float], Sequence[float]],
    wanted: tuple[Sequence[float], Sequence[float]],
) -> torch.Tensor:
    """Clips that were normalised by one mean and std as another network wants them: (x s + m - m') / s'.

    Args:
        clips: floating (N, C, T, Y, X).
        was: mean and std, each of every channel, by which they are normalised.
        wanted: those by which they are to be.

    Returns:
        The same, as they are where nothing is to be done.
    """
    (mean, std), (new_mean, new_std) = ([tuple(map(float, part)) for part in pair] for pair in (was, wanted))
    if (mean, std) == (new_mean, new_std):
        return clips
    columns = zip(mean, std, new_mean, new_std, strict=True)
    pairs = [(s / new_s, (m - new_m) / new_s) for m, s, new_m, new_s in columns]
    table = clips.new_tensor(pairs)[:, :, None, None, None]
    return clips * table[:, 0] + table[:, 1]


def resized(clips: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (N, T, Y, X) at another size (y, x): bilinear with antialiasing, as image libraries do it.

    A GPU rounds pixel values once and not after each axis: they may differ by one from those of a CPU.
    """
    n, frames, *there = clips.shape
    if tuple(there) == size:
        return clips

    def scaled(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(images, list(size), mode="bilinear", antialias=True)

    if clips.is_cuda:
        return scaled(clips.float()).round_().clamp_(0, 255).to(torch.uint8)
    flat = clips.reshape(n * frames, *there)
    most = n * frames // 4 * 4
    # four frames as the channels of one image: 7 times faster
    fours = scaled(flat[:most].view(-1, 4, *there)).view(-1, *size)
    rest = scaled(flat[most:].view(-1, 1, *there)).view(-1, *size)
    return torch.cat([fours, rest]).view(n, frames, *size)

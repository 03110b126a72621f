"""Small real video files, for tests: frames that tell their numbers, and the decoder of the command line as a second opinion."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

EXACT = ("-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-pix_fmt", "bgr0", "-g", "5")
"""RGB as it is, in Matroska."""
BITS = 8


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    """What ffmpeg writes to its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def film(path: Path, frames: Pixels, *arguments: object, rate: float = 25, before: Sequence[object] = ()) -> Path:
    """Write frames (T, H, W, 3) to a file, with the arguments of ffmpeg for its output; EXACT without any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    given = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, *before, "-i", "-")
    ffmpeg(*given, *(arguments or EXACT), path, data=np.ascontiguousarray(frames).tobytes())
    return path


def by_command_line(path: Path, height: int, width: int) -> Pixels:
    """All frames of a file (T, H, W, 3), as ffmpeg decodes them, none left out or shown twice for the sake of the rate."""
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def scene(frames: int = 40, height: int = 48, width: int = 64) -> Pixels:
    """A moving texture (T, H, W, 3), and in its upper part eight bars that are the bits of the number of the frame."""
    t, y, x = np.ogrid[:frames, :height, :width]
    waves = [128 + 90 * np.sin((y + k * t) / 5) * np.cos((x - 2 * t + 9 * k) / 7) for k in range(3)]
    pictures = np.stack([np.broadcast_to(w, (frames, height, width)) for w in waves], -1).astype(np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        lit = (np.arange(frames) >> bit & 1) * 255
        pictures[:, : height // 3, bit * bar : (bit + 1) * bar] = lit[:, None, None, None]
    return pictures


def numbers(pictures: Pixels) -> list[int]:
    """The numbers that the bars of frames (T, H, W, 3) tell."""
    height, bar = pictures.shape[1] // 3, pictures.shape[2] // BITS
    levels = [pictures[:, 2 : height - 2, b * bar + 2 : (b + 1) * bar - 2].mean((1, 2, 3)) for b in range(BITS)]
    return [int(n) for n in sum((level > 128).astype(int) << bit for bit, level in enumerate(levels))]


def plate(video: int, frames: int = 24, height: int = 48, width: int = 64) -> Pixels:
    """Frames (T, H, W, 3) that tell everywhere which they are.

    Red is four times the number of the frame, green four times that of the video, and blue grows to the right and down, so
    that crops tell where they were cut.
    """
    pictures = np.zeros((frames, height, width, 3), np.uint8)
    pictures[..., 0] = 4 * np.arange(frames)[:, None, None] % 256
    pictures[..., 1] = 4 * video % 256
    pictures[..., 2] = np.arange(width)[None, None] * 3 + np.arange(height)[None, :, None]
    return pictures


def jpegs(folder: Path, frames: Pixels, first: int = 1) -> Path:
    """Frames (T, H, W, 3) as a folder of image_00001.jpg, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / f"image_{number:05d}.jpg", quality=95)
    return folder

"""Sixteen motions of real pictures: an action-recognition set for where none is at hand, and no download.

Eight directions, and rotation, zoom and shear both ways, flicker and rest: 8 + 2 + 2 + 2 + 1 + 1. The pictures ship inside
the wheels of scikit-image and scikit-learn, and each belongs to one split, so that no picture of a test was trained on.

What one frame tells. A picture goes on beyond its borders as in mirrors, and a clip starts anywhere on that plane, turned
by any angle, so that every frame of a clip that moves straight, turns, flickers or rests has the same distribution. So has
the first frame of every motion: it is the same, byte by byte, whatever the motion of that clip is. What is left: late
frames of zooms are larger or smaller, and those of shears more slanted, by no more than clips differ among themselves at
the start. From the blur, slant and brightness of the last of 16 frames a linear classifier is right in 11 % of 1,600 test
clips, where chance is 6 % (zoom in or out: 71 %, shear right or left: 79 %, where chance is 50 %), from its pixels in 6 %.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

NEEDS = ("skimage", "sklearn", "imageio_ffmpeg")
DIRECTIONS: Final = {
    "Right": (1, 0), "DownRight": (1, 1), "Down": (0, 1), "DownLeft": (-1, 1),
    "Left": (-1, 0), "UpLeft": (-1, -1), "Up": (0, -1), "UpRight": (1, -1),
}  # fmt: skip
"""Motion -> (x, y) of where the picture goes; y points down."""
MOTIONS: Final = (
    *DIRECTIONS, "RotateRight", "RotateLeft", "ZoomIn", "ZoomOut", "ShearRight", "ShearLeft", "Flicker", "Static",
)  # fmt: skip
"""Labels in their order. Right is clockwise; of a shear it is where the upper edge goes."""
SPLITS: Final = {
    "train": (
        "astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "ihc.png", "motorcycle_left.png",
        "rocket.jpg",
    ),
    "val": ("grass.png", "page.png", "retina.jpg"),
    "test": ("camera.png", "china.jpg", "flower.jpg", "gravel.png", "text.png"),
}  # fmt: skip
"""Split -> pictures. Left out: drawings, charts, what is mostly of one colour, and the other view of the motorcycle."""
PICTURES: Final = tuple(name for names in SPLITS.values() for name in names)

SHORT_SIDE: Final = 2.5
"""Of a picture, in sides of a clip."""
SPEED: Final = (0.03, 0.07)
"""Of a direction: sides of the clip a frame."""
TURN: Final = (0.05, 0.12)
"""Radians a frame."""
ZOOM: Final = (0.015, 0.035)
"""Logarithm of the scale a frame."""
SHEAR: Final = (0.025, 0.05)
"""How far a frame moves the upper edge against the lower one, in sides."""
FLICKER: Final = (0.1, 0.25)
"""Periods a frame."""
BRIGHTNESS: Final = (0.4, 1.0)
CONTRAST: Final = (0.6, 1.0)
SCALE: Final = 0.6
"""A clip starts with a picture enlarged by exp(-SCALE) to exp(SCALE)."""
STRETCH: Final = 0.6
"""It is stretched by up to exp(STRETCH) along some axis, and shrunk as much across."""
OFF_CENTRE: Final = 0.15
"""Rotations, zooms and shears leave a point in place that lies as far from the centre, in sides."""
RATE: Final = 25

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """What is drawn for a clip, whatever its motion. Of `speed`, all in [0, 1)."""

    picture: float
    x: float
    y: float
    angle: float
    axis: float
    stretch: float
    scale: float
    mirror: float
    speed: float
    centre_x: float
    centre_y: float
    contrast: float
    phase: float


def label(number: int) -> int:
    """The label of a clip, as an index of `MOTIONS`: every sixteen clips in a row have them all."""
    return number % len(MOTIONS)


def picture(seed: int, split: str, number: int) -> str:
    """The picture that a clip shows."""
    names = SPLITS[split]
    return names[int(_draws(seed, split, number)[0].picture * len(names))]


def clip(seed: int, split: str, number: int, *, frames: int = 16, size: int = 56, motion: str | None = None) -> Pixels:
    """A clip, which is a function of these arguments alone.

    Args:
        seed: in [0, 2**64).
        split: a key of `SPLITS`.
        number: of the clip in the split, in [0, 2**64).
        frames: how many.
        size: height and width.
        motion: one of `MOTIONS`, in place of that of the label; the first frame is the same for all.

    Returns:
        uint8 RGB (frames, size, size, 3).
    """
    motion = motion or MOTIONS[label(number)]
    draw, words = _draws(seed, split, number)
    pixels = pixels_of(picture(seed, split, number), size)
    time = np.arange(frames)

    # A point q of a frame, in sides from its centre, is the point start + size * first @ back(t) @ q of the plane.
    back, shift = (part.astype(np.float32) for part in _motion(motion, draw, time))
    mirror = np.diag([1.0 if draw.mirror < 0.5 else -1.0, 1.0])
    stretch = np.diag(np.exp([STRETCH * draw.stretch, -STRETCH * draw.stretch]))
    first = math.exp(SCALE * (1 - 2 * draw.scale)) * _turn(math.tau * draw.axis) @ stretch
    first = first @ _turn(math.tau * draw.angle) @ mirror
    at = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    frame = np.stack(np.broadcast_arrays(at[None, :], at[:, None]), axis=-1)
    points = (frame.reshape(-1, 2) @ back.transpose(0, 2, 1)).reshape(frames, size, size, 2) + shift[:, None, None]
    start = 2 * np.array([draw.x * pixels.shape[1], draw.y * pixels.shape[0]])
    grey = look_up(pixels, start + size * (points @ first.T.astype(np.float32)))

    contrast, brightness = between(CONTRAST, draw.contrast), _brightness(motion, draw, time)[:, None, None, None]
    grey = (128 + contrast * (grey - 128)) * brightness.astype(np.float32)
    return np.clip(grey + grain(words, grey.shape), 0, 255).astype(np.uint8)


def clips(seed: int, split: str, numbers: Iterable[int], *, frames: int = 16, size: int = 56) -> tuple[Pixels, Labels]:
    """Clips uint8 RGB (N, frames, size, size, 3) and their labels (N,)."""
    numbers = list(numbers)
    made = np.empty((len(numbers), frames, size, size, 3), np.uint8)
    for i, number in enumerate(numbers):
        made[i] = clip(seed, split, number, frames=frames, size=size)
    return made, np.array([label(number) for number in numbers], np.int64)


def words_of(seed: int, split: str, number: int, kind: int = 0) -> np.random.Philox:
    """Random words of a clip; `kind` tells apart those who draw."""
    return np.random.Philox(key=[seed, kind], counter=[0, 0, number, list(SPLITS).index(split)])


def uniform(words: np.random.Philox, count: int) -> list[float]:
    """The next numbers in [0, 1)."""
    drawn: list[float] = ((words.random_raw(count) >> np.uint64(11)) * 2.0**-53).tolist()
    return drawn


def between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def grain(words: np.random.Philox, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Noise of a few grey levels, so that frames at rest are not equal to the byte."""
    size = math.prod(shape)
    drawn = words.random_raw(-(-size // 8)).astype("<u8").view(np.uint8)[:size].reshape(shape)
    return (drawn >> 5).astype(np.float32) - 3


def _draws(seed: int, split: str, number: int) -> tuple[Draw, np.random.Philox]:
    """What is drawn for a clip, and the words that follow. Split and number are a counter of their own, in its upper half."""
    words = words_of(seed, split, number)
    return Draw(*uniform(words, len(Draw._fields))), words


def _turn(angle: float) -> npt.NDArray[np.float64]:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _motion(motion: str, draw: Draw, time: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where a point of frame t was in the first frame: back (T, 2, 2) and shift (T, 2), in sides."""
    back, shift = np.tile(np.eye(2), (len(time), 1, 1)), np.zeros((len(time), 2))
    if motion in DIRECTIONS:
        towards = np.array(DIRECTIONS[motion]) / math.hypot(*DIRECTIONS[motion])
        shift = -between(SPEED, draw.speed) * time[:, None] * towards
    elif motion.startswith("Rotate"):
        way = 1 if motion == "RotateRight" else -1
        back = np.array([_turn(-way * between(TURN, draw.speed) * t) for t in time.tolist()])
    elif motion.startswith("Zoom"):
        way = 1 if motion == "ZoomIn" else -1
        back *= np.exp(-way * between(ZOOM, draw.speed) * time)[:, None, None]
    elif motion.startswith("Shear"):
        way = 1 if motion == "ShearRight" else -1
        back[:, 0, 1] = way * between(SHEAR, draw.speed) * time
    elif motion not in ("Flicker", "Static"):
        raise ValueError(f"`motion` (={motion!r}) must be one of {', '.join(MOTIONS)}")
    centre = OFF_CENTRE * (2 * np.array([draw.centre_x, draw.centre_y]) - 1)
    return back, shift + centre - back @ centre


def _brightness(motion: str, draw: Draw, time: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The brightness of each frame. That of a flicker is as likely to be any as that of the others is, at any time."""
    periods = draw.phase + (time * between(FLICKER, draw.speed) if motion == "Flicker" else 0 * time)
    wave: npt.NDArray[Any] = BRIGHTNESS[0] + (BRIGHTNESS[1] - BRIGHTNESS[0]) * abs(2 * (periods % 1) - 1)
    return wave


def look_up(pixels: npt.NDArray[Any], points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bilinear values (..., 3) of a picture (Y, X, 3) at points (..., 2) as (x, y), beyond its borders as in mirrors."""
    low, part = [], []
    for axis, length in enumerate((pixels.shape[1], pixels.shape[0])):
        place = points[..., axis].astype(np.float32)
        place -= 2 * length * np.floor(place / (2 * length))
        inside = np.clip(np.minimum(place, 2 * length - place) - 0.5, 0, length - 1)
        low.append(np.minimum(inside.astype(np.int32), length - 2))
        part.append((inside - low[-1])[..., None])
    flat, row = pixels.reshape(-1, 3), pixels.shape[1]
    corner = low[1] * row + low[0]

    def along(corner: npt.NDArray[Any]) -> Any:
        left = flat.take(corner, axis=0)
        return left + (flat.take(corner + 1, axis=0) - left) * part[0]

    upper = along(corner)
    value: npt.NDArray[Any] = upper + (along(corner + row) - upper) * part[1]
    return value


@functools.cache
def pixels_of(name: str, size: int) -> npt.NDArray[np.float32]:
    """RGB (Y, X, 3) of a picture, its short side in proportion to clips of a size, so that these need no filter of their own."""
    from PIL import Image

    with Image.open(_find(name)) as file:
        image = file.convert("RGB")
        scale = SHORT_SIDE * size / min(image.size)
        sides = round(image.width * scale), round(image.height * scale)
        return np.asarray(image.resize(sides, Image.Resampling.LANCZOS), np.float32)


@functools.cache
def _find(name: str) -> Path:
    """The file of a picture, which is one of those that the wheel brought."""
    package, folder = ("scikit-learn", "images") if name in ("china.jpg", "flower.jpg") else ("scikit-image", "data")
    try:
        shipped = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"the motions show pictures of {package}, which is not here: pip install {package}") from None
    for file in shipped:
        if file.parts[-2:] == (folder, name):
            return Path(str(file.locate()))
    raise SystemExit(f"{package} {importlib.metadata.version(package)} does not bring {name}; pip install -U {package}")


# --- as files


def write_ucf101(
    root: Path,
    annotations: Path,
    *,
    clips_per_class: int = 8,
    test_clips_per_class: int = 4,
    frames: int = 32,
    size: int = 64,
    classes: Sequence[str] = MOTIONS,
    seed: int = 0,
    suffix: str = ".avi",
) -> int:
    """Write the motions as video files, in the layout of UCF-101 with the lists of its first split.

    `root` gets a folder for each class with v_<Class>_g<NN>_c<NN>.avi, `annotations` gets classInd.txt, trainlist01.txt and
    testlist01.txt. A group is a picture, so that training, what is held out of it by group, and test share none.

    Args:
        root: a folder for the videos.
        annotations: a folder for the lists.
        clips_per_class: of training, shared evenly among the pictures of `train`.
        test_clips_per_class: of the test, shared evenly among the pictures of `test`.
        frames: of a video.
        size: its height and width, which are even.
        classes: which of `MOTIONS`; they are numbered from 1 in alphabetical order, as those of UCF-101.
        seed: in [0, 2**64).
        suffix: .avi, which is MPEG-4 as that of UCF-101, or .mp4, which is H.264.

    Returns:
        The number of files.
    """
    classes = sorted(classes)
    jobs: list[tuple[Path, str, int]] = []
    annotations.mkdir(parents=True, exist_ok=True)
    (annotations / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(classes, 1)))
    for split, count in (("train", clips_per_class), ("test", test_clips_per_class)):
        lines = []
        for which, name in enumerate(classes, 1):
            (root / name).mkdir(parents=True, exist_ok=True)
            number, quota = MOTIONS.index(name), dict.fromkeys(SPLITS[split], 0)
            while sum(quota.values()) < count:
                shown = picture(seed, split, number)
                if quota[shown] == min(quota.values()):
                    quota[shown] += 1
                    file = f"{name}/v_{name}_g{1 + PICTURES.index(shown):02d}_c{quota[shown]:02d}{suffix}"
                    jobs.append((root / file, split, number))
                    lines.append(f"{file} {which}\n" if split == "train" else f"{file}\n")
                number += len(MOTIONS)
        (annotations / f"{split}list01.txt").write_text("".join(lines))

    def one(job: tuple[Path, str, int]) -> None:
        write_video(job[0], clip(seed, *job[1:], frames=frames, size=size))

    with ThreadPoolExecutor(2) as pool:  # one of them waits for its encoder most of the time
        list(pool.map(one, jobs))
    return len(jobs)


def write_video(path: Path, pixels: Pixels) -> None:
    """Write a clip (T, Y, X, 3) of even sides as MPEG-4 or, for .mp4, as H.264."""
    import imageio_ffmpeg

    height, width = pixels.shape[1:3]
    codec, options = ("libx264", ["-crf", "18"]) if path.suffix == ".mp4" else ("mpeg4", ["-q:v", "2"])
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=RATE, codec=codec, quality=None, macro_block_size=2,
        output_params=[*options, "-threads", "1"],
    )  # fmt: skip
    writer.send(None)
    try:
        for frame in np.ascontiguousarray(pixels):
            writer.send(frame)
    finally:
        writer.close()

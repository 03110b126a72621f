"""Fifteen human actions: motion capture that ships with pybullet, rendered on a CPU over pictures that were not seen before.

    pip install pybullet                            # 3.2.7 has wheels for CPython 3.10 and 3.11; others build it
    python -m benchmarks.actions sheet.png          # all of them at a glance

A person of fourteen spheres and capsules follows a capture of DeepMimic (Peng et al. 2018) and is drawn by pybullet's
TinyRenderer. Where the camera stands, how the person is coloured and lit, when the clip begins and how fast it goes are drawn
for each clip, from the same ranges for all actions, and so is the picture behind, which shifts a little by itself.

Splits share no picture (those of `benchmarks.motions`) and no view. A view is how far the camera is turned from the side of the
person to the front or the back, 0 to 90 degrees, on the left or on the right alike: as a mirrored picture of a view is one of the
other side, views that differ by their side alone are one. Those of two splits are 3 degrees apart or more.

What it does not test. Each action is one capture of one person, the same in all splits, so this is about views, tempo and
backgrounds, never about persons or ways of doing something. Views are counted from where a person faces as the capture
begins, and those who spin or roll show other sides later. A frame alone may tell the action: who stands on the hands turns a cartwheel.
Linear classifiers are right in 9 % of 900 test clips from the pixels of the first frame, and in 11 % from its blur, slant and brightness,
where chance is 7 %.

Licences. The captures are files of DeepMimic (MIT), which pybullet (zlib) ships. Neither they nor code of the two are copied here:
what is used are pixels that are rendered from them.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.metadata
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks import motions
from benchmarks.motions import Labels, Pixels, between
from vpngen import files

NEEDS = ("pybullet", "skimage", "sklearn")
FILES: Final = {
    "Walk": "walk", "Run": "run", "Jump": "jump", "Kick": "kick", "Punch": "punch", "Spin": "spin", "SpinKick": "spinkick",
    "Cartwheel": "cartwheel", "Backflip": "backflip", "Roll": "roll", "Crawl": "crawl", "DanceA": "dance_a", "DanceB": "dance_b",
    "GetUpFromBack": "getup_faceup", "GetUpFromFront": "getup_facedown",
}  # fmt: skip
"""Action -> what the file of its capture is called."""
ACTIONS: Final = tuple(FILES)
"""Labels in their order."""
SPLITS: Final = motions.SPLITS
VIEWS: Final = {
    "train": ((0.0, 24.0), (50.0, 66.0)),
    "val": ((27.0, 32.0), (69.0, 74.0)),
    "test": ((35.0, 47.0), (77.0, 90.0)),
}
"""Split -> ranges of degrees from the side of a person (0) to the front or the back (90)."""

ELEVATION: Final = (0.0, 35.0)
"""Degrees by which the camera looks down."""
DISTANCE: Final = (2.0, 2.7)
"""Metres from the camera to where it looks."""
FIELD: Final = (45.0, 60.0)
"""Degrees of what it sees."""
OFF_CENTRE: Final = 0.15
"""Metres by which it looks past the person, at most, to either side."""
LAG: Final = 0.35
"""Metres that a person gets ahead of the camera, at most, in either half of 16 frames."""
TEMPO: Final = (0.05, 0.093)
"""Seconds a frame."""
COLOUR: Final = (0.15, 1.0)
SHADE: Final = (0.7, 1.3)
"""Of the parts of a person, times its colour."""
PAN: Final = 0.012
"""How far the picture behind shifts a frame, at most, in sides of a clip."""
ZOOM: Final = (0.6, 1.4)
"""Of the picture behind."""
CONTRAST: Final = (0.15, 0.6)
"""Of the picture behind."""
BRIGHTNESS: Final = (0.5, 1.0)
"""Of the picture behind."""
USUAL: Final = 16
"""Frames for which the camera is set up, whatever is asked for."""
JOINTS: Final = (
    "chest", "neck", "right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow", "left_hip", "left_knee", "left_ankle",
    "left_shoulder", "left_elbow",
)  # fmt: skip
"""In the order of the captures: knees and elbows have an angle, the others a quaternion (w, x, y, z)."""
Numbers = npt.NDArray[np.float64]


class Draw(NamedTuple):
    """What is drawn for a clip, whatever its action; all in [0, 1)."""

    picture: float
    x: float
    y: float
    zoom: float
    contrast: float
    brightness: float
    pan: float
    pan_angle: float
    view: float
    back: float
    other: float
    elevation: float
    distance: float
    field: float
    off_x: float
    off_y: float
    lag: float
    start: float
    tempo: float
    mirror: float
    light_x: float
    light_y: float
    light_z: float
    red: float
    green: float
    blue: float


class Capture(NamedTuple):
    """Poses of an action, `rate` of them a second: the root's place (N, 3) in metres, and rotations (N, 40) as in the file.

    `cyclic` says that the last pose is the first one, but for the place.
    """

    rate: float
    places: Numbers
    rotations: Numbers
    cyclic: bool

    @property
    def seconds(self) -> float:
        return (len(self.places) - 1) / self.rate

    def at(self, seconds: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
        """Places (T, 3) and rotations (T, 40) at times, between two poses in proportion; it rests where it ends, unless it is cyclic."""
        rounds = np.floor(seconds / self.seconds) if self.cyclic else np.zeros_like(seconds)
        at = np.clip(seconds - rounds * self.seconds, 0, self.seconds) * self.rate
        low = np.minimum(at.astype(np.int64), len(self.places) - 2)
        part = (at - low)[:, None]
        step = (self.places[-1] - self.places[0]) * (1, 0, 1)
        place, rotation = (v[low] + part * (v[low + 1] - v[low]) for v in (self.places, self.rotations))
        return place + rounds[:, None] * step, rotation


def label(number: int) -> int:
    """The label of a clip, as an index of `ACTIONS`: every fifteen clips in a row have them all."""
    return number % len(ACTIONS)


def picture(seed: int, split: str, number: int) -> str:
    """The picture behind."""
    names = SPLITS[split]
    return names[int(_draws(seed, split, number)[0].picture * len(names))]


def view(seed: int, split: str, number: int) -> float:
    """Degrees from the side of the person to the front or the back."""
    left = _draws(seed, split, number)[0].view * sum(high - low for low, high in VIEWS[split])
    for low, high in VIEWS[split]:
        if left < high - low:
            return low + left
        left -= high - low
    return VIEWS[split][-1][1]


def clip(seed: int, split: str, number: int, *, frames: int = 16, size: int = 56, action: str | None = None) -> Pixels:
    """A clip, which is a function of these arguments alone, as far as the renderer is one.

    Args:
        seed: in [0, 2**64).
        split: a key of `SPLITS`.
        number: of the clip in the split, in [0, 2**64).
        frames: how many; more of them go on where fewer end.
        size: height and width.
        action: one of `ACTIONS`, in place of that of the label, all else being equal.

    Returns:
        uint8 RGB (frames, size, size, 3).
    """
    action = action or ACTIONS[label(number)]
    if action not in FILES:
        raise ValueError(f"`action` (={action!r}) must be one of {', '.join(ACTIONS)}")
    draw, words = _draws(seed, split, number)
    capture, tempo = _capture(action), between(TEMPO, draw.tempo)
    room = capture.seconds if capture.cyclic else max(0.0, capture.seconds - USUAL * tempo)
    begin = draw.start * room
    places, rotations = capture.at(begin + tempo * np.arange(frames))

    # The camera goes with the person, who gets ahead of it by no more than LAG.
    first, middle, last = capture.at(begin + tempo * np.array([0.0, USUAL / 2, USUAL], np.float64))[0][:, [0, 2]]
    ahead = max(math.dist(first, middle), math.dist(middle, last))
    lag = draw.lag * min(1.0, LAG / ahead if ahead else 1.0)
    turn = (-1 if draw.other < 0.5 else 1) * view(seed, split, number) + (180 if draw.back < 0.5 else 0)
    past = OFF_CENTRE * (2 * np.array([draw.off_x, draw.off_y]) - 1)
    camera = _Camera(
        turn, -between(ELEVATION, draw.elevation), between(DISTANCE, draw.distance), between(FIELD, draw.field),
        (2 * draw.light_x - 1, 2 * draw.light_y - 1, 0.2 + draw.light_z), 2 * size,
    )  # fmt: skip
    base = between(COLOUR, draw.red), between(COLOUR, draw.green), between(COLOUR, draw.blue)
    person = _person()
    person.paint([[c * between(SHADE, shade) for c in base] for shade in motions.uniform(words, person.parts)])

    behind = _behind(draw, picture(seed, split, number), frames, 2 * size)
    made = np.empty((frames, size, size, 3), np.float32)
    for t, (place, rotation) in enumerate(zip(places, rotations, strict=True)):
        x, z = place[[0, 2]] + lag * (middle - place[[0, 2]])
        look_at = [x + past[0], -z, 0.45 + 0.4 * place[1] + past[1]]
        seen, mask = person.seen(place, rotation, look_at, camera)
        both = np.where(mask[..., None], seen, behind[t])
        made[t] = both.reshape(size, 2, size, 2, 3).mean((1, 3))
    if draw.mirror < 0.5:
        made = made[:, :, ::-1]
    finished: Pixels = np.clip(made + motions.grain(words, made.shape), 0, 255).astype(np.uint8)
    return finished


def clips(seed: int, split: str, numbers: Iterable[int], *, frames: int = 16, size: int = 56) -> tuple[Pixels, Labels]:
    """Clips uint8 RGB (N, frames, size, size, 3) and their labels (N,)."""
    numbers = list(numbers)
    made = np.empty((len(numbers), frames, size, size, 3), np.uint8)
    for i, number in enumerate(numbers):
        made[i] = clip(seed, split, number, frames=frames, size=size)
    return made, np.array([label(number) for number in numbers], np.int64)


def cached(
    folder: Path, seed: int, split: str, count: int, *, frames: int = 16, size: int = 56
) -> tuple[Pixels, Labels, str]:
    """The first `count` clips of a split, their labels and the sha256 of the pixels; from a file in `folder` once they are there.

    The file is named by all that they depend on: the arguments, this module and the version of pybullet.
    """
    code = hashlib.sha256(b"".join(Path(str(module)).read_bytes() for module in (__file__, motions.__file__)))
    made_by = f"{importlib.metadata.version('pybullet')}-{code.hexdigest()[:8]}"
    path = folder / f"actions-{split}-{seed}-{count}x{frames}x{size}-{made_by}.npz"
    if path.exists():
        with np.load(path) as kept:
            pixels, labels = kept["clips"], kept["labels"]
    else:
        pixels, labels = clips(seed, split, range(count), frames=frames, size=size)
        data = io.BytesIO()
        np.savez(data, clips=pixels, labels=labels)
        files.write(path, data.getvalue())
    return pixels, labels, hashlib.sha256(pixels.tobytes()).hexdigest()


def _draws(seed: int, split: str, number: int) -> tuple[Draw, np.random.Philox]:
    words = motions.words_of(seed, split, number, kind=1)
    return Draw(*motions.uniform(words, len(Draw._fields))), words


def _behind(draw: Draw, name: str, frames: int, side: int) -> npt.NDArray[np.float32]:
    """The picture behind, (frames, side, side, 3)."""
    pixels = motions.pixels_of(name, side)
    shift = draw.pan * PAN * side * np.array([math.cos(math.tau * draw.pan_angle), math.sin(math.tau * draw.pan_angle)])
    start = 2 * np.array([draw.x * pixels.shape[1], draw.y * pixels.shape[0]]) + shift * np.arange(frames)[:, None]
    at = between(ZOOM, draw.zoom) * (np.arange(side) + 0.5 - side / 2)
    grid = np.stack(np.broadcast_arrays(at[None, :], at[:, None]), axis=-1)
    grey = motions.look_up(pixels, (start[:, None, None] + grid).astype(np.float32))
    contrast, brightness = between(CONTRAST, draw.contrast), between(BRIGHTNESS, draw.brightness)
    made: npt.NDArray[np.float32] = ((128 + contrast * (grey - 128)) * brightness).astype(np.float32)
    return made


# --- the person


def _root() -> Path:
    """The folder of the data that pybullet brings."""
    try:
        import pybullet_data
    except ImportError:
        raise SystemExit(
            "the actions are captures that pybullet ships, which is not here: pip install pybullet"
        ) from None
    return Path(pybullet_data.getDataPath())


@functools.cache
def _capture(action: str) -> Capture:
    found = json.loads((_root() / "data" / "motions" / f"humanoid3d_{FILES[action]}.txt").read_text())
    rows = np.array(found["Frames"])
    rotations, begin = rows[:, 4:].copy(), 0
    for joint in ("root", *JOINTS):  # a quaternion and its negative are one rotation: neighbours are on one side
        if joint.endswith(("knee", "elbow")):
            begin += 1
            continue
        four = rotations[:, begin : begin + 4]
        four *= np.cumprod(np.r_[1.0, np.where((four[1:] * four[:-1]).sum(1) < 0, -1.0, 1.0)])[:, None]
        begin += 4
    rate = 1 / rows[0, 0]
    short = (len(rows) - 1) / rate < USUAL * TEMPO[1]
    return Capture(rate, rows[:, 1:4], rotations, found["Loop"] == "wrap" and short)


class _Camera(NamedTuple):
    yaw: float
    pitch: float
    distance: float
    field: float
    light: tuple[float, float, float]
    side: int


class _Person:
    """A figure in a world of its own, z upwards, that faces +x."""

    def __init__(self) -> None:
        import pybullet

        self.bullet, self.world = pybullet, pybullet.connect(pybullet.DIRECT)
        urdf = str(_root() / "humanoid" / "humanoid.urdf")
        self.body = pybullet.loadURDF(urdf, globalScaling=0.25, useFixedBase=True, physicsClientId=self.world)
        count = pybullet.getNumJoints(self.body, physicsClientId=self.world)
        names = [pybullet.getJointInfo(self.body, i, physicsClientId=self.world)[1].decode() for i in range(count)]
        self.joints = [names.index(name) for name in JOINTS]
        self.parts = count + 1
        self.upright = pybullet.getQuaternionFromEuler([math.pi / 2, 0, 0])

    def paint(self, colours: list[list[float]]) -> None:
        """Give each part a colour in [0, 1]."""
        for part, colour in enumerate(colours, -1):
            rgba = [*np.clip(colour, 0, 1).tolist(), 1.0]
            self.bullet.changeVisualShape(self.body, part, rgbaColor=rgba, physicsClientId=self.world)

    def seen(self, place: Numbers, rotation: Numbers, look_at: list[float], camera: _Camera) -> tuple[Any, Any]:
        """Pixels (side, side, 3) and where the person is (side, side), of a pose."""
        bullet, world = self.bullet, {"physicsClientId": self.world}
        angles = iter(rotation.tolist())

        def four() -> list[float]:
            w, x, y, z = (next(angles) for _ in range(4))
            norm = math.hypot(w, x, y, z)
            return [x / norm, y / norm, z / norm, w / norm]

        where = bullet.multiplyTransforms([0, 0, 0], self.upright, place.tolist(), four())
        bullet.resetBasePositionAndOrientation(self.body, *where, **world)
        for name, joint in zip(JOINTS, self.joints, strict=True):
            if name.endswith(("knee", "elbow")):
                bullet.resetJointState(self.body, joint, next(angles), **world)
            else:
                bullet.resetJointStateMultiDof(self.body, joint, four(), **world)
        at = bullet.computeViewMatrixFromYawPitchRoll(look_at, camera.distance, camera.yaw, camera.pitch, 0, 2)
        lens = bullet.computeProjectionMatrixFOV(camera.field, 1, 0.1, 20)
        side = camera.side
        *_, rgba, _, parts = bullet.getCameraImage(
            side, side, at, lens, lightDirection=camera.light, shadow=0, renderer=bullet.ER_TINY_RENDERER, **world
        )
        pixels = np.reshape(rgba, (side, side, 4))[..., :3].astype(np.float32)
        return pixels, np.reshape(parts, (side, side)) >= 0


@functools.cache
def _person() -> _Person:
    """The one of this process."""
    _root()
    return _Person()


def sheet(size: int = 72, columns: int = 8) -> Pixels:
    """All actions, a row each: every other frame of a training clip, and beside it of a test clip."""
    rows = []
    for number in range(len(ACTIONS)):
        pair = [clip(0, split, number, frames=2 * columns, size=size)[::2] for split in ("train", "test")]
        rows.append(np.concatenate([*pair[0], np.full((size, 8, 3), 255, np.uint8), *pair[1]], axis=1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.actions", description=__doc__.split("\n")[0])
    parser.add_argument(
        "path", type=Path, help="a picture to write: all actions, training on the left, test on the right"
    )
    parser.add_argument("--size", type=int, default=72, help="height and width of a frame")
    options = parser.parse_args()
    from PIL import Image

    Image.fromarray(sheet(options.size)).save(options.path)


if __name__ == "__main__":
    main()

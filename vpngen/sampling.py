"""Which videos a stream shows, in which order and through which windows: a function of (seed, epoch, sample).

Nothing is stored and nothing is drawn in sequence, so a stream can start at any sample, on any number of ranks and
workers, and go on as if it had never stopped. Needs no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import MAX_SIDE, Shape
from vpngen.errors import ArgumentError
from vpngen.fields import keep
from vpngen.rng import Integers

QUARTER_OCTAVES: Final = tuple(2 ** (-i / 4) for i in range(5))
"""The scales of Hara, Kataoka, Satoh, CVPR 2018, section 3.3."""
MOST_SAMPLES: Final = 2**62
MOST_SEGMENTS: Final = 1024
CONSENSUS: Final = ("mean", "max", "weighted")
"""How the logits of several segments become those of their video, see `vpngen.tasks.Segments`."""


@dataclass(frozen=True)
class Augment:
    """How a clip is cut from its video. Every choice is a window, so it costs nothing.

    Attributes:
        time: where the clip starts: `random` (any start, the last one included), `center` or `start`.
        crop: where it lies: `corners` (one of the four corners and the centre), `random` or `center`.
        flip: the probability of mirroring it left to right, from 0 to 1.
        step: frames from one frame of the clip to the next, or several of them to draw from.
        scales: None cuts the clip at its own size. Numbers in (0, 1], one of which is drawn for each clip, cut that part of
            the largest crop of the clip's shape that fits the video, and resize it; a clip may then be wider than its video.
        segments: the video is divided into so many spans of time, as equal as they can be, and each gives a part of the clip, from
            a place in it that `time` says: Wang et al., ECCV 2016, section 3.1. All have the same crop.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    time: str = "random"
    crop: str = "corners"
    flip: float = 0.5
    step: int | tuple[int, ...] = 1
    scales: tuple[float, ...] | None = None
    segments: int = 1

    def __post_init__(self) -> None:
        checks.integer("segments", self.segments, 1, MOST_SEGMENTS)
        checks.one_of("time", self.time, ("random", "center", "start"))
        checks.one_of("crop", self.crop, ("corners", "random", "center"))
        keep(self, flip=checks.number("flip", self.flip, lambda v: 0 <= v <= 1, "from 0 to 1"))
        if not isinstance(self.step, (list, tuple)):
            keep(self, step=checks.integer("step", self.step, 1, MAX_SIDE))
        elif steps := checks.integers("step", self.step, 1, MAX_SIDE):
            keep(self, step=steps if len(steps) > 1 else steps[0])
        else:
            raise ArgumentError("must be a positive integer, or several", "step", self.step)
        if self.scales is not None:
            scales = checks.numbers("scales", self.scales if isinstance(self.scales, (list, tuple)) else (self.scales,))
            if not scales or not all(0 < scale <= 1 for scale in scales):
                raise ArgumentError("must be numbers above 0 and up to 1, or None", "scales", self.scales)
            keep(self, scales=scales)

    @property
    def steps(self) -> tuple[int, ...]:
        """The frame steps to draw from."""
        return self.step if isinstance(self.step, tuple) else (self.step,)


NORMALIZATIONS: Final = {
    "half": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "kinetics": {"mean": (0.4345, 0.4051, 0.3775), "std": (0.2768, 0.2713, 0.2737)},
    "activitynet": {"mean": (0.4477, 0.4209, 0.3906), "std": (0.2767, 0.2695, 0.2714)},
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}
"""Mean and std of red, green and blue in [0, 1]: mean.py of 3D-ResNets-PyTorch, and ImageNet's as torchvision has them."""
AUGMENTATIONS: Final[dict[str, Augment]] = {
    "x10": Augment(),
    "multiscale": Augment(scales=QUARTER_OCTAVES),
    "random": Augment(crop="random"),
    "jitter": Augment(crop="random", scales=tuple(224 / side for side in range(320, 255, -1))),
    "none": Augment(time="center", crop="center", flip=0.0),
}
"""Named augmentations: that of Kataoka et al., WACV 2022, section 4 (corners and centre, each mirrored or not), that of Hara et al., CVPR
2018, section 3.3, any window, that of 224 pixels of a short side of 256 to 320 (Feichtenhofer et al., ICCV 2019, section 4), and the one
clip in the middle."""


def augmentation(value: str | Mapping[str, Any] | Augment | None, handed: bool = False) -> Augment:
    """`value` as an Augment: a name of `AUGMENTATIONS`, its fields, or None for `none`. Raises ArgumentError.

    Where labels are `handed`, so that a mirrored clip would be of another category, named ones do not mirror, nor fields among
    which `flip` is not given; an Augment is taken as it is.
    """
    known = [f.name for f in dataclasses.fields(Augment)]
    if isinstance(value, Mapping):
        checks.known("field", list(map(str, value)), known, "an augmentation")
        return Augment(**{**({"flip": 0.0} if handed else {}), **value})
    if value is None or (isinstance(value, str) and value in AUGMENTATIONS):
        named = AUGMENTATIONS[value or "none"]
        return dataclasses.replace(named, flip=0.0) if handed else named
    if not isinstance(value, Augment):
        others = f"a vpngen.sampling.Augment or a dictionary of its fields ({', '.join(known)})"
        raise ArgumentError(f"must be one of {', '.join(AUGMENTATIONS)}, {others}", "augment", value)
    return value


@dataclass(frozen=True)
class Sampling:
    """Sample number -> video and window.

    Attributes:
        videos: the number of videos to draw from.
        shape: (t, y, x) of a video.
        clip: (t, y, x) of a clip; of several segments, t counts the frames of all.
        augment: how clips are cut.
        length: samples in an epoch; None for an endless one.
        shuffle: whether each pass over the videos has an order of its own; else they come in the order of the set.
        seed: in [0, 2**64).

    Raises:
        ArgumentError: a clip that does not fit the video.
    """

    videos: int
    shape: Shape
    clip: Shape
    augment: Augment
    length: int | None
    shuffle: bool
    seed: int

    def __post_init__(self) -> None:
        frames, height, width = self.shape
        segments = self.augment.segments
        if self.clip[0] % segments:
            raise ArgumentError(f"must have frames for each of the {segments} segments alike", "clip", self.clip)
        longest = self.span(max(self.augment.steps)) * segments
        wider = self.augment.scales is None and (self.clip[1] > height or self.clip[2] > width)
        if longest > frames or wider:
            stepped = f"at a step of {max(self.augment.steps)} " if max(self.augment.steps) > 1 else ""
            stepped += f"in {segments} segments " if segments > 1 else ""
            remedy = "; `augment` with `scales` enlarges them" if longest <= frames else ""
            problem = f"{stepped}is larger than the videos, which are {self.shape}{remedy}"
            raise ArgumentError(problem, "clip", self.clip)

    @property
    def part(self) -> Shape:
        """(t, y, x) of what each segment gives."""
        return (self.clip[0] // self.augment.segments, *self.clip[1:])

    def span(self, step: int) -> int:
        """The frames of a video from the first to the last of a segment's part, at a step."""
        return (self.part[0] - 1) * step + 1

    @property
    def scaled(self) -> bool:
        """Whether clips are cut at other sizes than their own."""
        return self.augment.scales is not None

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of what is cut at each scale, before it is resized to that of the clip."""
        _, height, width = self.clip
        if self.augment.scales is None:
            return ((height, width),)
        fit = min(self.shape[1] / height, self.shape[2] / width)
        tall, wide = height * fit, width * fit
        return tuple((max(int(tall * s + 1e-9), 1), max(int(wide * s + 1e-9), 1)) for s in self.augment.scales)

    @property
    def epochs(self) -> int:
        """The number of epochs that can be told apart."""
        return MOST_SAMPLES // self._epoch_samples

    @property
    def _epoch_samples(self) -> int:
        # Endless ones are set 2**48 samples aside, in whole passes, so that each begins with a pass over the videos.
        return self.length or 2**48 // self.videos * self.videos

    def settings(self) -> dict[str, Any]:
        """What decides which samples come, as JSON has it."""
        augment = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self.augment).items()}
        if self.augment.segments == 1:  # which states from before there were segments do not name
            del augment["segments"]
        order = {"length": self.length, "shuffle": self.shuffle, "seed": self.seed}
        return {"clip": list(self.clip), "augment": augment, **order}

    def numbers(self, epoch: int, samples: npt.ArrayLike) -> Integers:
        """The number of each sample (N,) of an epoch among all samples of all epochs."""
        return epoch * self._epoch_samples + np.asarray(samples, np.int64)

    def indices(self, numbers: Integers) -> Integers:
        """The videos (N,) of samples (N,): each pass shows every video once before any comes again."""
        passes, positions = np.divmod(numbers, self.videos)
        return rng.permute(positions, self.videos, self.seed, passes) if self.shuffle else positions

    def windows(self, numbers: Integers) -> tuple[npt.NDArray[np.int32], Integers]:
        """The packed windows (N, 5) of samples (N,), or (N, segments, 5) of several; and which of `sides` each sample has (N,)."""
        n, augment = len(numbers), self.augment
        slots = np.arange(2 if len(augment.steps) > 1 or len(self.sides) > 1 else 1)[:, None]
        counter = rng.counters(rng.PURPOSE_CLIP, 0, numbers & 0xFFFFFFFF, numbers >> 32, slots)
        words = rng.philox4x32(counter, [self.seed & 0xFFFFFFFF, self.seed >> 32])
        time, place, place_2, mirror = np.moveaxis(words[0], -1, 0)
        side = rng.choose(words[1, :, 0], len(self.sides)) if len(self.sides) > 1 else np.zeros(n, np.int64)
        steps = np.array(augment.steps)
        step = steps[rng.choose(words[1, :, 1], len(steps)) if len(steps) > 1 else side * 0]

        frames, height, width = self.shape
        room_y, room_x = (np.array([height, width]) - np.array(self.sides)[side]).T
        starts = []
        if augment.segments > 1:  # each has a draw of its own, four to a slot
            slots = np.arange(2, 2 + -(-augment.segments // 4))[:, None]
            counter = rng.counters(rng.PURPOSE_CLIP, 0, numbers & 0xFFFFFFFF, numbers >> 32, slots)
            times = rng.philox4x32(counter, [self.seed & 0xFFFFFFFF, self.seed >> 32]).swapaxes(1, 2).reshape(-1, n)
        else:
            times = time[None]
        for k in range(augment.segments):
            begin, end = (frames * i // augment.segments for i in (k, k + 1))
            room_t = end - begin - (self.part[0] - 1) * step - 1
            if augment.time == "random":
                t0 = rng.choose(times[k], room_t + 1)
            else:
                t0 = room_t // 2 if augment.time == "center" else np.zeros(n, np.int64)
            starts.append(begin + t0)
        if augment.crop == "random":
            y0, x0 = rng.choose(place, room_y + 1), rng.choose(place_2, room_x + 1)
        else:
            corner = rng.choose(place, 5) if augment.crop == "corners" else np.full(n, 4)
            y0 = np.where(corner == 4, room_y // 2, corner // 2 * room_y)
            x0 = np.where(corner == 4, room_x // 2, corner % 2 * room_x)
        flip = mirror < augment.flip * 2**32
        windows = np.stack([np.stack([t0, step, y0, x0, flip], axis=1) for t0 in starts], axis=1).astype(np.int32)
        return windows if augment.segments > 1 else windows[:, 0], side


@dataclass(frozen=True)
class Deal:
    """How the samples from `start` to `stop` are dealt to ranks, step by step: each step is one batch for every rank.

    Every rank gets the same number of batches, and no sample goes to two. Full steps take `batch` samples a rank. What is
    left at the end makes one smaller step, shared evenly; where it has fewer samples than there are ranks, the last full
    step is shared out over two.

    Attributes:
        start: the first sample.
        stop: the end of the epoch; None for an endless one.
        batch: samples of a batch.
        ranks: the number of ranks.
        drop_last: leave out what does not make a full step.

    Raises:
        ArgumentError: the rest cannot be dealt so that every rank gets a batch.
    """

    start: int
    stop: int | None
    batch: int
    ranks: int
    drop_last: bool

    def __post_init__(self) -> None:
        if self.stop is None or self.drop_last:
            return
        full, rest = divmod(self.stop - self.start, self.whole)
        if 0 < rest < self.ranks and (not full or self.whole + rest < 2 * self.ranks):
            problem = f"the last {rest} samples of the epoch cannot give each of {self.ranks} ranks a batch"
            raise ArgumentError(f"{problem}; give drop_last=True, or another `batch_size` (={self.batch})")

    @property
    def whole(self) -> int:
        """Samples of a full step."""
        return self.batch * self.ranks

    @property
    def steps(self) -> int | None:
        """The number of batches of every rank; None for an endless epoch."""
        if self.stop is None:
            return None
        full, rest = divmod(self.stop - self.start, self.whole)
        return full + (rest > 0 and not self.drop_last)

    def bound(self, step: int) -> int:
        """The first sample of a step; that of step `steps` is the end."""
        at = self.start + step * self.whole
        if self.stop is None or self.drop_last:
            return at
        if 0 < self.stop - at < self.ranks:  # the last step: it takes half of the one before
            return at - self.whole + (self.whole + self.stop - at + 1) // 2
        return min(at, self.stop)

    def batch_of(self, step: int, rank: int) -> tuple[int, int]:
        """Samples [first, last) of the batch of a rank in a step."""
        low, high = self.bound(step), self.bound(step + 1)
        return low + (high - low) * rank // self.ranks, low + (high - low) * (rank + 1) // self.ranks

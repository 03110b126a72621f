"""Motion clouds: a sum of waves that travel with about one velocity, so that a label says where a texture goes.

Source: Leon, Vanzetta, Masson, Perrinet, "Motion Clouds: model-based stimulus synthesis of natural-like random textures for
the study of motion perception", J. Neurophysiol. 2012; theirs are a filtered noise, a cube at a time. Here a video is a sum of
few waves, so that each pixel stands alone.

The formula, in the order in which it is computed (float32; `fma` is the fused multiply-add; angles are unsigned 32-bit turns,
whose sums and products wrap, so that no place or time is too far):

    waves k = 0 ... K - 1                            drawn from the key of the video, see `waves`
    f_k, theta_k; v_k                                frequency and orientation; velocity
    kx_k, ky_k = f_k (cos theta_k, -sin theta_k)     cycles a pixel, y downwards
    w_k = -(kx_k, ky_k) . v_k + change               cycles a frame
    v = sum_k cos 2 pi (phi_k + kx_k x + ky_k y + w_k t) / sqrt(K / 2)        of variance 1

    columns lie in blocks j of 2 HALF; d is how far one is from the middle of its block, a multiple of half a pixel
    row:     A_k, B_k = cos, sin (phi_k + ky_k y + w_k t)
    block:   A_jk = gain cos(kx_k 2 HALF j) A_k - gain sin(kx_k 2 HALF j) B_k,  B_jk likewise
    sums:    even = bias + sum_k A_jk cos(kx_k d),   odd = sum_k B_jk sin(kx_k d)
    grey:    even + odd to the left of the middle, even - odd to the right, clamped to [0, 255]

Two columns that are as far from the middle share both sums: a wave costs one multiply-add a pixel. The tables of columns are
those of all blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, field, keep
from vpngen.floats import F32, exp2, fma, turn
from vpngen.generators.base import Factor, Parameter, Params, Progress, uniform
from vpngen.generators.motion import (
    MOST_CHOICES,
    Moving,
    angle,
    around,
    check_counts,
    motion_counts,
    towards,
    values,
    view,
)
from vpngen.rng import Integers, Words

HALF: Final = 16
"""Columns of half a block."""
LEAST_WAVES: Final = 8
MOST_WAVES: Final = 64
STD: Final = 147.80054127099805
"""The std of the sum of four bytes, sqrt((256**2 - 1) / 3): see `scores`."""
MOST_STDS: Final = 510 / STD
"""The sum of four bytes is no farther from its mean."""
MOST_FREQUENCY: Final = 0.35
"""Cycles a pixel: what pixels still show of a wave, whatever its orientation."""
MOST_TURN: Final = 0.5
"""Cycles a frame: a wave that is faster seems to go back."""
MOST_SPREAD: Final = 45.0
"""Degrees."""
SPEEDS: Final = (0.6, 1.4)
PERIODS: Final = (24.0, 15.5, 10.0, 6.5)
"""Pixels a frame, and pixels, where videos are seen 32 pixels at a time."""
SMALLEST: Final = 20
"""Pixels: videos smaller than that have the lengths of these, since waves cannot be shorter."""


@dataclass(frozen=True, kw_only=True)
class Clouds(Moving):
    """Motion clouds; a category is direction x speed x frequency, and orientation where it is asked for.

    Attributes:
        frequencies: cycles a pixel, each a value of the factor.
        frequency_jitter: a video's own frequency lies between frequency / jitter and frequency * jitter.
        frequency_spread: of the waves of a video about its own, in octaves (std).
        orientations: how many orientations of stripes are a further factor, evenly spaced over half a turn, each with the jitter of
            directions; 0: no such factor.
        oriented: without that factor, the share of videos whose waves have about one orientation, drawn at random; the waves of
            others have any.
        orientation_spread: of the waves of a video that has an orientation, in degrees.
        direction_spread: of the velocities of the waves of a video, in degrees.
        speed_spread: of the velocities of the waves of a video, in octaves.
        change: how fast a wave changes beside its motion, in parts of the cycles a frame that its motion could make of it.
        boiling: how fast it changes in any case, in cycles a frame.
        waves: of a video, from 8 to 64.

    All spreads and changes are stds of a law that ends at 3.45 of them. What would alias does not: a wave
    whose frequency comes out above 0.35 cycles a pixel, or above half a period a frame, is as many octaves below the video's
    own as it would have been above.

    Raises:
        ArgumentError: any field outside its range, speeds that alias, directions that coincide.
    """

    name: ClassVar[str] = "clouds"
    short: ClassVar[str] = "clouds"
    title: ClassVar[str] = "Motion Clouds"
    counts: ClassVar[tuple[Field, ...]] = motion_counts("direction x speed x frequency, x orientation where asked for")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "clouds-64x512": {"about": "8 directions x 2 speeds x 4 frequencies"},
        "clouds-256x512": {"orientations": 4, "about": "8 directions x 2 speeds x 4 frequencies x 4 orientations"},
    }
    trial: ClassVar[Mapping[str, Any]] = {"instances": 1, "orientations": 2}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            ("key", "<u4", (2,)), ("gain", "<f4"), ("bias", "<f4"), ("waves", "<i4"), ("oriented", "<i4"),
            ("orientation", "<u4"), ("orientation_spread", "<i4"), ("direction", "<u4"), ("direction_spread", "<i4"),
            ("frequency", "<f4"), ("frequency_spread", "<f4"), ("speed", "<f4"), ("speed_spread", "<f4"), ("change", "<f4"),
            ("boiling", "<f4"),
        ]
    )  # fmt: skip
    """One video: `orientation` is that of the wave vectors where `oriented` is 1, `direction` that of the velocity, both in
    turns; spreads, `change` and `boiling` are those of a unit of `scores`, in turns, octaves or as the field says."""

    frequencies: tuple[float, ...] = field(help="Cycles a pixel, each a value of the label.")
    frequency_jitter: float = field(1.2, "A video's frequency lies between frequency / jitter and frequency * jitter.")
    frequency_spread: float = field(0.5, "Of the waves of a video about its frequency, in octaves.")
    orientations: int = field(0, "Orientations as a further factor of the label; 0 for none.")
    oriented: float = field(0.5, "Without them, the share of videos that have an orientation, at random.")
    orientation_spread: float = field(20.0, "Of the waves of a video that has an orientation, in degrees.")
    direction_spread: float = field(8.0, "Of the velocities of the waves of a video, in degrees.")
    speed_spread: float = field(0.1, "Of the velocities of the waves of a video, in octaves.")
    change: float = field(0.03, "How fast waves change beside their motion, in parts of what it makes of them.")
    boiling: float = field(0.004, "How fast waves change in any case, in cycles a frame.")
    waves: int = field(32, "Waves of a video.")

    def __post_init__(self) -> None:
        super().__post_init__()
        number, most = checks.number, MOST_FREQUENCY
        good = f"from 0.0001 to {most:g}"
        keep(
            self,
            frequencies=values("frequencies", self.frequencies, lambda v: 1e-4 <= v <= most, good),
            frequency_jitter=number("frequency_jitter", self.frequency_jitter, lambda v: 1 <= v <= 16, "from 1 to 16"),
            frequency_spread=number("frequency_spread", self.frequency_spread, lambda v: 0 <= v <= 4, "from 0 to 4"),
            orientations=checks.integer("orientations", self.orientations, 0, MOST_CHOICES),
            oriented=number("oriented", self.oriented, lambda v: 0 <= v <= 1, "from 0 to 1"),
            speed_spread=number("speed_spread", self.speed_spread, lambda v: 0 <= v <= 2, "from 0 to 2"),
            change=number("change", self.change, lambda v: 0 <= v <= 0.5, "from 0 to 0.5"),
            boiling=number("boiling", self.boiling, lambda v: 0 <= v <= 0.1, "from 0 to 0.1"),
            waves=checks.integer("waves", self.waves, LEAST_WAVES, MOST_WAVES),
            **{
                name: number(name, getattr(self, name), lambda v: 0 <= v <= MOST_SPREAD, f"from 0 to {MOST_SPREAD:g}")
                for name in ("orientation_spread", "direction_spread")
            },
        )
        if 0 in self.speeds and self.directions > 1:
            rest = "the directions of a texture that rests coincide; leave 0 out, or give directions=1"
            raise ArgumentError(rest, "speeds", self.speeds)
        highest, spread = max(self.frequencies) * self.frequency_jitter, 2.0 ** (MOST_STDS * self.speed_spread)
        if highest > most:
            problem = f"times the jitter is more than {most:g} cycles a pixel: give {below(most / self.frequency_jitter)} at most"
            raise ArgumentError(problem, "frequencies", self.frequencies)
        allowed = MOST_TURN / highest / self.speed_jitter / spread
        if max(self.speeds) > allowed:
            why = "with its jitter and spread is more than half a period of the highest frequency in a frame, and would alias"
            raise ArgumentError(f"{why}: give {below(allowed)} at most, or lower frequencies", "speeds", self.speeds)

    @classmethod
    def from_counts(
        cls,
        categories: int | None,
        shape: Shape,
        progress: Progress | None = None,
        *,
        speeds: Any = None,
        frequencies: Any = None,
        **fields: Any,
    ) -> Self:
        """See `Generator.from_counts`.

        Args:
            categories: as many as the factors make; only a check.
            shape: video shape (t, y, x); speeds and frequencies that are not given are in proportion to what is seen of it at once.
            progress: never called.
            speeds: pixels a frame.
            frequencies: cycles a pixel.
            fields: the other fields of `Clouds`.

        Raises:
            ArgumentError: a value that is not allowed, or another number of categories.
        """
        scale = max(view(shape), SMALLEST) / 32
        speeds = tuple(rounded(scale * speed) for speed in SPEEDS) if speeds is None else speeds
        frequencies = tuple(rounded(1 / (scale * p)) for p in PERIODS) if frequencies is None else frequencies
        made = cls(speeds=speeds, frequencies=frequencies, **fields)
        check_counts(categories, made)
        return made

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Direction, speed and frequency, and orientation where there are some, in the order of the labels."""
        three = self.direction_factor(), self.speed_factor(), Factor("frequency", self.frequencies, "cycles a pixel")
        if not self.orientations:
            return three
        turned = tuple(180 * k / self.orientations for k in range(self.orientations))
        return *three, Factor("orientation", turned, "degrees")

    def check(self, shape: Shape) -> None:
        """Nothing: waves fill frames of any shape."""

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        """See `Generator.params`; the instances of a category differ by their keys alone."""
        n, ids = len(keys), self.factor_ids(category_ids)
        u, more = (uniform(keys, rng.PURPOSE_PARAMETERS, slot) for slot in (0, 1))
        params = np.zeros(n, self.params_dtype)
        std, mean = self.greys(keys)
        params["key"], params["waves"] = keys, self.waves
        params["gain"], params["bias"] = std / np.sqrt(self.waves / 2), mean
        params["direction"] = angle(self.drawn_directions(ids[:, 0], u[:, 0]))
        params["speed"] = self.drawn_speeds(ids[:, 1], u[:, 1])
        params["frequency"] = around(np.asarray(self.frequencies)[ids[:, 2]], self.frequency_jitter, u[:, 2])
        if self.orientations:
            stripes = (ids[:, 3] + self.direction_jitter * (2 * more[:, 0] - 1)) / self.orientations / 2
            params["oriented"] = 1
        else:
            stripes = more[:, 0] / 2
            params["oriented"] = u[:, 3] < self.oriented
        params["orientation"] = np.where(params["oriented"] == 1, angle(stripes + 0.25), 0)
        for name in ("orientation_spread", "direction_spread"):
            params[name] = np.floor(getattr(self, name) / 360 * 2.0**32 / STD + 0.5)
        for name in ("frequency_spread", "speed_spread", "change", "boiling"):
            params[name] = getattr(self, name) / STD
        return params

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """`direction`, `speed`, `frequency`, `orientation`, `contrast`, `mean` and `key` of each video."""
        direction, normal = (params[name] / 2.0**32 * 360 for name in ("direction", "orientation"))
        turned = np.where(params["oriented"] == 1, (normal - 90) % 180, -1)
        contrast = params["gain"].astype(np.float64) * np.sqrt(self.waves / 2)
        return {
            "direction": Parameter(
                direction.astype(np.float32), (), "of its velocity, degrees counter-clockwise from +x"
            ),
            "speed": Parameter(params["speed"].copy(), (), "pixels a frame"),
            "frequency": Parameter(params["frequency"].copy(), (), "cycles a pixel, the middle of those of its waves"),
            "orientation": Parameter(
                turned.astype(np.float32), (), "of its stripes, degrees counter-clockwise from +x; -1 where there are none",
            ),
            "contrast": Parameter(contrast.astype(np.float32), (), "the std of grey levels"),
            "mean": Parameter(params["bias"].copy(), (), "the mean grey level"),
            "key": Parameter(params["key"].copy(), ("word",), "the Philox key of the video"),
        }  # fmt: skip

    @classmethod
    def check_params(cls, params: Params) -> None:
        """See `Generator.check_params`."""
        for one in params.tolist():
            fields = dict(zip(cls.params_dtype.names or (), one, strict=True))
            good = LEAST_WAVES <= fields["waves"] <= MOST_WAVES and fields["oriented"] in (0, 1)
            for name, least, most in LIMITS:
                good = good and least <= fields[name] <= most  # which no NaN is
            fastest = fields["speed"] * 2.0 ** (510 * fields["speed_spread"]) if good else 0
            if not good or fields["frequency"] * fastest > 1.001 * MOST_TURN:
                raise ArgumentError(f"params of the {cls.name} generator have values that they never have: {fields}")

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The mean velocity of the waves, the same everywhere; see `Generator.motion`."""
        found = np.zeros((len(params), 2, 3))
        velocity = params["speed"].astype(np.float64)[:, None] * towards(params["direction"] / 2.0**32)
        found[:, :, 2] = velocity * np.broadcast_to(np.asarray(steps, np.int64), len(params))[:, None]
        return found

    def advice(self, shape: Shape) -> list[str]:
        """What is longer than a frame, what hardly moves, and which categories have videos in common."""
        said, side = [], min(shape[1:])
        for name, jitter in (("speed", self.speed_jitter), ("frequency", self.frequency_jitter)):
            found = sorted(self.speeds if name == "speed" else self.frequencies)
            for a, b in itertools.pairwise(found):
                if b < a * jitter**2:
                    problem = f"{name}_jitter: with {jitter:g}, videos of {a:g} and of {b:g} overlap"
                    said.append(f"{problem}; give at most {below(math.sqrt(b / a))}")
        if min(self.frequencies) * side < 1:
            longest = 1 / min(self.frequencies)
            low = f"frequencies: a wave of {longest:.4g} pixels is longer than a side of {side}"
            said.append(f"{low}, and such videos are nearly flat; give at least {above(1 / side)}")
        if 0 in self.speeds and self.boiling * shape[0] < 1:
            rest = f"boiling: at speed 0 waves go through {self.boiling * shape[0]:.2g} of a cycle in {shape[0]} frames"
            said.append(f"{rest}; give about {above(2 / shape[0])}")
        return said

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        """The clouds of one video at frames `t`, rows `y`, columns `x`: float32 (T, Y, X)."""
        phase, kx_half, ky, w = waves(params)
        across = x % (2 * HALF) - HALF
        d = np.where(across < 0, -1 - across, across)  # in pixels, less half of one
        block, of_block = np.unique(x // (2 * HALF), return_inverse=True)
        place, of = np.unique(of_block * HALF + d, return_inverse=True)  # what two columns share
        in_block, d = place // HALF, words(place % HALF)

        B, A = turn(phase + ky * words(y)[:, None] + w * words(t)[:, None, None])
        A, B = A[:, :, None], B[:, :, None]  # (T, Y, blocks, K)
        sine, cosine = turn(kx_half * (np.uint32(4 * HALF) * words(block))[:, None])
        sine, cosine = params["gain"] * sine, params["gain"] * cosine
        A, B = fma(A, cosine, -(B * sine)), fma(B, cosine, A * sine)
        sine, cosine = turn(kx_half * (np.uint32(2) * d + np.uint32(1))[:, None])  # (places, K)

        even = np.full((len(t), len(y), len(place)), params["bias"], np.float32)
        odd = np.zeros_like(even)
        for k in range(params["waves"]):
            even = fma(A[..., in_block, k], cosine[:, k], even)
            odd = fma(B[..., in_block, k], sine[:, k], odd)
        even, odd = even[..., of], odd[..., of]
        return np.where(across < 0, even + odd, even - odd)


LIMITS: Final = (
    ("gain", 0, 256), ("bias", 0, 256), ("orientation_spread", 0, 2**22), ("direction_spread", 0, 2**22),
    ("frequency", 0, MOST_FREQUENCY * 1.001), ("frequency_spread", 0, 0.03), ("speed", 0, 5001), ("speed_spread", 0, 0.02),
    ("change", 0, 0.0034), ("boiling", 0, 0.00068),
)  # fmt: skip
"""Between which numbers of params lie, so that no wave turns by 2 cycles a frame: see `turns`."""


class Waves(NamedTuple):
    """The waves of a video, uint32 (K,): phase in turns, frequencies in turns for half a pixel along x, a pixel along y, a frame."""

    phase: Words
    kx_half: Words
    ky: Words
    w: Words


def words(numbers: npt.ArrayLike) -> Words:
    """Integers as unsigned 32-bit ones."""
    return np.asarray(numbers).astype(np.uint32)


def scores(word: Words) -> npt.NDArray[np.int32]:
    """A number in -510 to 510 from each word, nearly normal about 0: the sum of its bytes."""
    a, b, c, d = ((word >> np.uint32(8 * i)) & np.uint32(255) for i in range(4))
    total: Words = a + b + c + d
    return total.astype(np.int32) - np.int32(510)


def turns(cycles: F32) -> Words:
    """Cycles between -2 and 2 as turns, to a multiple of 2**-30."""
    return (cycles * np.float32(2**30)).astype(np.int32).astype(np.uint32) << np.uint32(2)


def waves(params: np.void) -> Waves:
    """The waves of a video: two hashes for each give its phase, and its orientation, octaves, velocity and change."""
    k = np.arange(params["waves"])
    first, second = (rng.philox4x32(rng.counters(rng.PURPOSE_CLOUDS, 0, k, i), params["key"]) for i in (0, 1))
    spread = scores(first[:, 1]).astype(np.uint32) * np.uint32(params["orientation_spread"])
    theta = params["orientation"] + spread if params["oriented"] else first[:, 1]
    sway = scores(second[:, 1]).astype(np.uint32) * np.uint32(params["direction_spread"])
    speed = params["speed"] * exp2(scores(second[:, 0]).astype(np.float32) * params["speed_spread"])
    octaves = scores(first[:, 2]).astype(np.float32) * params["frequency_spread"]
    f = params["frequency"] * exp2(octaves)
    aliases = (f > np.float32(MOST_FREQUENCY)) | (f * speed > np.float32(MOST_TURN))
    f = params["frequency"] * exp2(np.where(aliases, -octaves, octaves))

    sine, cosine = turn(theta)
    kx, ky = f * cosine, -(f * sine)
    sine, cosine = turn(params["direction"] + sway)
    across = fma(kx, speed * cosine, ky * -(speed * sine))
    change = fma(params["change"], f * speed, params["boiling"])
    w = fma(scores(second[:, 2]).astype(np.float32), change, -across)
    return Waves(first[:, 0], turns(np.float32(0.5) * kx), turns(ky), turns(w))


def rounded(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")


def below(value: float) -> float:
    """The next number of three digits that is no greater."""
    near = rounded(value)
    return near if near <= value else rounded(near - 10.0 ** (math.floor(math.log10(value)) - 2))


def above(value: float) -> float:
    """The next number of three digits that is no less."""
    near = rounded(value)
    return near if near >= value else rounded(near + 10.0 ** (math.floor(math.log10(value)) - 2))

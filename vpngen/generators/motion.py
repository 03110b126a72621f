"""What generators of motion share: kinds of motion, their labels, and the laws by which a video draws its own.

A motion is an affine map that is applied once a frame about a fixed point, so that the flow of a video is the same in all
frames. Numbers of a video are drawn by Philox and computed by sums, products, quotients and `vpngen.floats` alone, without
libm, so that they are the same everywhere.

Units: lengths in pixels, speeds in pixels a frame, frequencies in cycles a pixel, directions in degrees counter-clockwise from
+x as one sees it. Flow is (dx, dy) with y downwards, as arrays have it: the direction of 90 degrees is (0, -1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, field, keep
from vpngen.floats import exp2, turn
from vpngen.generators.base import Factor, Generator, Params, uniform, usual_counts
from vpngen.rng import Integers, Words

F64 = npt.NDArray[np.float64]

GREYS: Final = ("random", "fixed")
OWN_KINDS: Final = (
    "rotate left", "rotate right", "zoom in", "zoom out", "shear right", "shear left", "shear down", "shear up",
)  # fmt: skip
"""Motions beside translations; rotate left is counter-clockwise, shear right moves what is below the middle to the right, shear
down what is to the right of it downwards."""
MOTIONS: Final = ("affine", "directions")
VIEW: Final = 112
"""The side of the clips for which lengths are chosen where nothing is said; those of smaller videos are in proportion."""
TAU: Final = 6.283185307179586
ROOT_2: Final = 1.4142135623730951
LN_2: Final = 0.6931471805599453
MOST_CHOICES: Final = 64
"""Values of a factor, at most."""


def view(shape: Shape) -> int:
    """The side, in pixels, of what is seen of videos of `shape` (t, y, x) at once."""
    return min(VIEW, *shape[1:])


def around(value: npt.ArrayLike, jitter: float, u: F64) -> F64:
    """A number between value / jitter and value * jitter for u in [0, 1); as often above `value` as below."""
    middle, s = np.asarray(value, np.float64), 2 * u - 1
    spread = 1 + (jitter - 1) * np.abs(s)
    return np.where(s < 0, middle / spread, middle * spread)


def angle(turns: F64) -> Words:
    """Angles in turns as unsigned 32-bit ones."""
    return np.floor((turns - np.floor(turns)) * 2.0**32).astype(np.uint64).astype(np.uint32)


def towards(turns: F64) -> F64:
    """The unit vector (N, 2) of a direction, in turns counter-clockwise from +x, y downwards."""
    sine, cosine = turn(angle(turns))
    return np.stack([cosine, -sine], axis=-1).astype(np.float64)


class Motion(NamedTuple):
    """Affine motions of videos, each about a point of its own, for a frame.

    Attributes:
        velocity: pixels, (N, 2).
        spin: units of 2**-32 turns, counter-clockwise, int64 (N,).
        zoom: base-2 logarithm of the growth, float32 (N,).
        shear: d(dx)/dy and d(dy)/dx, float32 (N, 2).

    At most one of the last three is not 0.
    """

    velocity: F64
    spin: Integers
    zoom: npt.NDArray[np.float32]
    shear: npt.NDArray[np.float32]

    def linear(self, steps: npt.ArrayLike) -> F64:
        """What so many frames, also negative ones, make of an offset from the fixed point: (N, 2, 2)."""
        steps = np.broadcast_to(np.asarray(steps, np.int64), len(self.spin))
        sine, cosine = turn((self.spin * steps).astype(np.uint32))
        growth = exp2(self.zoom * steps.astype(np.float32)).astype(np.float64)
        shear = self.shear.astype(np.float64) * steps[:, None]
        rotated = np.stack([cosine, sine, -sine, cosine], axis=-1).astype(np.float64).reshape(-1, 2, 2)
        found = rotated * growth[:, None, None]
        found[:, 0, 1] += shear[:, 0]
        found[:, 1, 0] += shear[:, 1]
        return found

    def about(self, centre: npt.ArrayLike, steps: npt.ArrayLike) -> F64:
        """The change of place of a pixel (x, y) in so many frames, `centre` (N, 2) being the fixed point: see `Generator.motion`."""
        steps = np.broadcast_to(np.asarray(steps, np.int64), len(self.spin))
        change, (x, y) = self.linear(steps) - np.eye(2), np.asarray(centre, np.float64).T
        offset = self.velocity * steps[:, None] - (change[:, :, 0] * x[:, None] + change[:, :, 1] * y[:, None])
        return np.concatenate([change, offset[..., None]], axis=-1)


def motion_counts(kinds: str) -> tuple[Field, ...]:
    """The counts of a generator of motion; `kinds` are the factors of its categories."""
    return usual_counts(None, f"{kinds}: follows from these, and may be given as a check.", 512, (240,) * 3)


@dataclass(frozen=True)
class Moving(Generator):
    """Videos of which each has a motion; categories are products of factors, of which direction is one.

    Attributes:
        speeds: pixels a frame, each a value of the factor.
        speed_jitter: a video's own speed lies between speed / jitter and speed * jitter.
        directions: how many, evenly spaced over the circle from +x on.
        direction_jitter: how far a video's own direction is from it, at most, as a part of the angle between two.
        grey: `random`: contrast and mean of each video are drawn from its key; `fixed`: they are the middle of their ranges.
        contrast: the range of the std of grey levels.
        mean: the range of their mean. What leaves 0 to 255 is clamped.

    Raises:
        ArgumentError: any field outside its range.
    """

    speeds: tuple[float, ...] = field(help="Pixels a frame, each a value of the label.")
    speed_jitter: float = field(1.5, "A video's speed lies between speed / jitter and speed * jitter.")
    directions: int = field(8, "Directions of translation, evenly spaced.")
    direction_jitter: float = field(0.35, "How far a video's direction may be off, in parts of the angle between two.")
    grey: str = field(
        "random", "Contrast and mean of each video at random, or the middle of their ranges.", choices=GREYS
    )
    contrast: tuple[float, ...] = field((25.0, 70.0), "Range of the std of grey levels.")
    mean: tuple[float, ...] = field((93.0, 163.0), "Range of the mean grey level.")

    def __post_init__(self) -> None:
        keep(
            self,
            speeds=values("speeds", self.speeds, lambda v: v >= 0, "of at least 0"),
            speed_jitter=checks.number("speed_jitter", self.speed_jitter, lambda v: 1 <= v <= 16, "from 1 to 16"),
            directions=checks.integer("directions", self.directions, 1, MOST_CHOICES),
            direction_jitter=checks.number("direction_jitter", self.direction_jitter, lambda v: 0 <= v < 0.5, "from 0 to below 0.5"),
            grey=checks.one_of("grey", self.grey, GREYS),
            contrast=span("contrast", self.contrast, 0, 255),
            mean=span("mean", self.mean, 0, 255),
        )  # fmt: skip

    @property
    def truth(self) -> tuple[str, ...]:
        """See `Generator.truth`."""
        return ("motion",)

    @property
    def handed(self) -> bool:
        """Yes: what goes to the left goes to the right in a mirror."""
        return True

    @property
    def n_categories(self) -> int:
        """The product of the values of all factors."""
        return math.prod(len(factor.values) for factor in self.factors)

    def category(self, category_id: int) -> tuple[Any, ...]:
        """The value of each factor. Raises ArgumentError outside [0, n_categories)."""
        ids = self.factor_ids(np.array([self.label(category_id)]))[0]
        return tuple(factor.values[i] for factor, i in zip(self.factors, ids, strict=True))

    def category_id(self, category: tuple[Any, ...]) -> int:
        """The inverse of `category`. Raises ArgumentError where this set has no such category."""
        factors = self.factors
        try:
            ids = [factor.values.index(value) for factor, value in zip(factors, category, strict=True)]
        except (ValueError, TypeError):
            allowed = "; ".join(f"{f.name} of {', '.join(map(str, f.values))}" for f in factors)
            raise ArgumentError(f"must have a {allowed}", "category", category) from None
        return int(np.ravel_multi_index(ids, [len(factor.values) for factor in factors]))

    def caption(self, category_id: int, params: np.void) -> str:
        """The factors with their units."""
        found = zip(self.factors, self.category(category_id), strict=True)
        return ",  ".join(f"{f.name} {v:g} {f.unit}" if not isinstance(v, str) else v for f, v in found)

    def direction_factor(self) -> Factor:
        """The directions, in degrees."""
        return Factor("direction", tuple(360 * k / self.directions for k in range(self.directions)), "degrees")

    def speed_factor(self) -> Factor:
        """The speeds."""
        return Factor("speed", self.speeds, "pixels a frame")

    def greys(self, keys: Words) -> tuple[F64, F64]:
        """The std and mean (N,) of grey levels of videos with keys (N, 2)."""
        u = uniform(keys, rng.PURPOSE_GREY) if self.grey == "random" else np.full((len(keys), 4), 0.5)
        (low, high), (least, most) = self.contrast, self.mean
        return low + (high - low) * u[:, 0], least + (most - least) * u[:, 1]

    def drawn_speeds(self, ids: Integers, u: F64) -> F64:
        """The speeds of videos (N,), by the numbers of their values and u in [0, 1)."""
        return around(np.asarray(self.speeds)[ids], self.speed_jitter, u)

    def drawn_directions(self, ids: Integers, u: F64) -> F64:
        """The directions of videos (N,), in turns, by their numbers and u in [0, 1)."""
        return (ids + self.direction_jitter * (2 * u - 1)) / self.directions


@dataclass(frozen=True)
class Affine(Moving):
    """Videos that are moved as a whole: by translations alone, or also by rotation, zoom and shear.

    Attributes:
        motions: `affine`: the first factor is the motion, translations in all directions, rotation, zoom and shear along x and
            y, each both ways; `directions`: translations alone.
        radius: pixels from the fixed point at which rotation and zoom have the speed of the category; shear has it there in the
            mean over directions (root of the mean square).

    Raises:
        ArgumentError: any field outside its range.
    """

    radius: float = field(
        VIEW * 3 / 8, "Pixels from the fixed point at which rotation, zoom and shear have their speed."
    )
    motions: str = field("affine", "Also rotation, zoom and shear, or translations alone.", choices=MOTIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(
            self,
            motions=checks.one_of("motions", self.motions, MOTIONS),
            radius=checks.number("radius", self.radius, lambda v: 1 <= v <= checks.MAX_SIDE, f"from 1 to {checks.MAX_SIDE}"),
        )  # fmt: skip

    def motion_factor(self) -> Factor:
        """The directions, or these and the other motions, as words."""
        directions = self.direction_factor()
        if self.motions == "directions":
            return directions
        return Factor("motion", (*(f"translate {d:g}" for d in directions.values), *OWN_KINDS))

    def drawn_motions(self, kinds: Integers, speeds: F64, u: F64) -> Motion:
        """The motions of videos (N,) by the numbers of their kinds, their speeds and u in [0, 1) for their directions."""
        own = kinds - self.directions
        turns = np.where(own < 0, self.drawn_directions(kinds, u), 0)
        velocity = np.where(own[:, None] < 0, speeds[:, None] * towards(turns), 0.0)
        way, rate = 1 - 2 * (own % 2), speeds / self.radius
        shear = np.zeros((len(own), 2), np.float32)
        of_both = rate * way * ROOT_2
        shear[:, 0], shear[:, 1] = np.where(own // 2 == 2, of_both, 0), np.where(own // 2 == 3, of_both, 0)
        spin = np.floor(rate * way / TAU * 2.0**32 + 0.5).astype(np.int64)
        return Motion(
            velocity,
            np.where(own // 2 == 0, spin, 0),
            np.where(own // 2 == 1, rate * way / LN_2, 0).astype(np.float32),
            shear,
        )


def values(name: str, given: Any, good: Callable[[float], bool], allowed: str) -> tuple[float, ...]:
    """`given` as different numbers, one at least. Raises ArgumentError."""
    found = checks.numbers(name, given)
    if not 1 <= len(found) <= MOST_CHOICES or len(set(found)) != len(found) or not all(map(good, found)):
        raise ArgumentError(f"must be 1 to {MOST_CHOICES} different numbers {allowed}", name, given)
    return found


def span(name: str, given: Any, least: float, most: float) -> tuple[float, float]:
    """`given` as (low, high) between `least` and `most`. Raises ArgumentError."""
    found = checks.numbers(name, given)
    if len(found) != 2 or not least <= found[0] <= found[1] <= most:
        raise ArgumentError(f"must be two numbers, low and high, from {least:g} to {most:g}", name, given)
    return found[0], found[1]


def check_counts(categories: int | None, made: Moving) -> None:
    """Raise ArgumentError where so many `categories` were asked for and others were made."""
    if categories is not None and checks.integer("categories", categories, 1) != made.n_categories:
        product = " x ".join(f"{len(f.values)} ({f.name})" for f in made.factors)
        raise ArgumentError(
            f"must be {made.n_categories}, the product of {product}; leave it out", "categories", categories
        )


__all__ = ["Affine", "Motion", "Moving", "Params", "check_counts", "motion_counts"]

"""Video Fractal (VF): iterated function systems that grow point by point, and the reference formula.

Source: Kataoka et al., "Spatiotemporal Initialization for 3D CNNs with Generated Motion Patterns", WACV 2022, section
5.4: "a checkpoint frame every 1,000 points rendered, of a total of 100k points"; and FractalDB, which it extends:
Kataoka et al., "Pre-training without Natural Images", ACCV 2020, section 3, and the program that its authors published.
Where they leave a choice open it is a field of `Fractal`.

The formula, in the order in which it is computed (float32; `fma` is the fused multiply-add):

    (a, b, c, d, e, f)_m                     the maps of the system, m < n, each parameter times its weight
    p = 0 ... N - 1                          the points, N = frames * points_per_frame; frame p // points_per_frame
    chunk = p // CHUNK, i = p % CHUNK        a chunk starts at (0, 0) and takes WARM_UP steps before its first point

    a step:    m = the number of thresholds that are <= a hashed word
               x, y = fma(a, x, fma(b, y, e)), fma(c, x, fma(d, y, f));  (0, 0) again where |x| or |y| reaches BOUND
    place:     X = pad + floor((x - min x) * ((width - 2 pad) / (max x - min x))), at most width - 1; Y likewise, upwards
    patch:     the point at (X, Y), or those of the 3 x 3 pixels around it whose bit is set in a hashed mask

    first hit: for each pixel, the least frame of a point that draws it
    frame k:   level where a point of the frames that it shows draws, else 0: of all until k, or of the last `window`

FractalDB pastes its patches, black pixels included, over what is there; here a pixel that is drawn stays. It draws all
points of all images with one sequence of random numbers; here each video has its own, cut into chunks that can be drawn in
parallel.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib  # of `vpngen.systems`, which searches with a backend and so lies above this module
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, field, keep
from vpngen.floats import F32, fma
from vpngen.generators.base import Generator, Parameter, Params, Progress, uniform, usual_counts
from vpngen.rng import Integers, Words

MOST_MAPS: Final = 7
"""A system has 2 to 7 maps."""
CHUNK: Final = 256
"""Points that follow one another; chunks are drawn side by side."""
WARM_UP: Final = 32
"""Steps from (0, 0) to the first point of a chunk, a multiple of 4."""
BOUND: Final = np.float32(1024)
"""Where an orbit has left: accepted systems stay within a few units of (0, 0)."""
MOST_CATEGORIES: Final = 100_000
MOST_PARAMETER: Final = 16
"""Of systems from elsewhere, beside at most 1 here; twice as much where it is weighted. No number can overflow."""
FULL: Final = (100_000, 362 * 362)
"""Points of a video of section 5.4, and pixels of its frames. Its second half draws 12 % of what it draws in all. That share
depends on points a pixel alone: with twice as many it is 8 %, with six times 4 %."""
LEAST_EXTENT: Final = np.float32(2**-100)
"""Of the points in x or y: below it their places could not be computed, and they are all one."""
MOST_POINTS: Final = 2**24
MOST_TRAIL: Final = 254
DRAWS: Final = ("patch", "point")
GREYS: Final = ("fixed", "random")
LEAST_LEVEL: Final = 64
"""Of a level that is drawn; what is behind it is 0."""
FLIPS: Final = ("", "mirrored left to right", "mirrored top to bottom", "mirrored both ways")
VARIANTS: Final = 25
"""Instances of FractalDB: the system itself, and one of its six parameters, in all maps, times one of four weights."""

SEARCH_POINTS: Final = 100_000
SEARCH_SHAPE: Final = (100, 512, 512)
SEARCH_PAD: Final = 6
"""The points, and the canvas on which a candidate must fill `FILL_RATE` with them: those of FractalDB's search."""
FILL_RATE: Final = 0.2
VARIANT_RATE: Final = 0.01
"""What a weighted variant must fill, or it is left out: less is an orbit that collapsed, or nearly left."""


@dataclass(frozen=True)
class Systems:
    """Iterated function systems, one a category.

    Attributes:
        count: maps of each, int64 (N,).
        maps: their parameters a, b, c, d, e, f, float32 (N, 7, 6); zero beyond `count`.
        thresholds: where the words of each map end but the last, uint32 (N, 6).
    """

    count: Integers
    maps: F32
    thresholds: Words


def candidates(seed: int, categories: npt.ArrayLike, attempts: npt.ArrayLike) -> tuple[Systems, Words]:
    """The systems that a search tries, and the keys (N, 2) of their orbits: functions of (seed, category, attempt).

    FractalDB's law: 2 to 7 maps, parameters uniform in [-1, 1), probabilities in proportion to |ad - bc|.
    """
    counter = rng.counters(rng.PURPOSE_SYSTEM, 0, attempts, categories)
    keys = rng.philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])[:, :2]
    slots = rng.counters(rng.PURPOSE_PARAMETERS, 0, np.arange(12)[:, None])
    words = np.moveaxis(rng.philox4x32(slots, keys), 1, 0).reshape(len(keys), 48)
    count = 2 + rng.choose(words[:, 0], MOST_MAPS - 1)
    maps = (words[:, 4:46] >> np.uint32(8)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    maps = maps.reshape(-1, MOST_MAPS, 6)
    maps[np.arange(MOST_MAPS) >= count[:, None]] = 0
    wide = maps.astype(np.float64)
    weights = np.abs(wide[..., 0] * wide[..., 3] - wide[..., 1] * wide[..., 2])
    return Systems(count, maps, thresholds(weights)), keys


def thresholds(weights: npt.NDArray[np.float64]) -> Words:
    """uint32 (N, 6) from the weights (N, 7) of maps: map m is chosen by the words from threshold m - 1 up to threshold m."""
    total = np.cumsum(weights, axis=1)
    whole = np.where(total[:, -1:] > 0, total[:, -1:], 1)
    return np.minimum(np.floor(total[:, :-1] / whole * 2**32), 2**32 - 1).astype(np.uint32)


def trials(systems: Systems, keys: Words) -> Params:
    """Params (N,) that draw systems (N,) as the search does: points on the canvas of `SEARCH_SHAPE`."""
    params = np.zeros(len(keys), Fractal.params_dtype)
    params["key"], params["maps"] = keys, systems.maps
    params["thresholds"], params["count"] = systems.thresholds, systems.count
    params["frames"], params["height"], params["width"] = SEARCH_SHAPE
    params["points_per_frame"], params["pad"], params["level"] = SEARCH_POINTS // SEARCH_SHAPE[0], SEARCH_PAD, 255
    return params


def filled(params: np.void) -> tuple[int, int]:
    """How often an orbit left the bound, and how many pixels its points fill, or 0 where it left."""
    left = orbit(params)[2]
    return left, 0 if left else len(np.unique(drawn(params.tobytes())[0]))


def factors(weight: float) -> F32:
    """What each variant multiplies the six parameters by: float32 (VARIANTS, 6); variant 0 is the system itself."""
    table, variant = np.ones((VARIANTS, 6), np.float32), np.arange(1, VARIANTS)
    table[variant, (variant - 1) // 4] = [1 - 2 * weight, 1 - weight, 1 + weight, 1 + 2 * weight] * 6
    return table


@dataclass(frozen=True)
class Fractal(Generator):
    """The Video Fractal formula with FractalDB's rules as fields.

    Attributes:
        variants: for each category, the bits of the variants that make instances. Bit 0, the system itself, is always set.
        attempts: for each category, which candidate of the search it is; empty where `table` gives the systems.
        search_seed: of the candidates, in [0, 2**64).
        table: systems from elsewhere: base64 of little-endian float32, seven numbers a map: a, b, c, d, e, f and its
            probability. Empty where they were searched for.
        sizes: with `table`, the number of maps of each category.
        weight: the weights of an instance are 1 - 2 w, 1 - w, 1 + w, 1 + 2 w; FractalDB's best set has 0.4.
        flips: whether instances are also turned over, left to right, top to bottom and both.
        draw: `patch`, random 3 x 3 pixels around each point, or `point`.
        points_per_frame: section 5.4: 1,000, for 100 frames of 362 x 362. More frames, or smaller ones, with as many hardly grow in
            the end. `advice` has the number for those, and nothing else does: a spec is what it was given.
        trail: the frames whose points a frame shows: 0 for all until then (section 5.4), or the last few, itself included.
        pad: pixels between the fractal and the edge.
        level: the grey level of what is drawn, from 1 to 255; FractalDB's is 127.
        grey: `fixed`: that level; `random`: each video has a level of its own, drawn from its key, from 64 to 255.

    Instance i of a category has variant i mod V of its V variants, then flip i div V mod 4, and an orbit and patches of its own.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    name: ClassVar[str] = "fractal"
    short: ClassVar[str] = "vf"
    title: ClassVar[str] = "Video Fractal"
    counts: ClassVar[tuple[Field, ...]] = usual_counts(
        None, "Iterated function systems; where nothing is said 1,000, or all in the folder.", 1000, (100, 362, 362)
    )
    made_from: ClassVar[tuple[Field, ...]] = (
        Field("ifs_dir", "Path", None, "In place of a search: FractalDB's CSV files of a, b, c, d, e, f, probability."),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vf-1000x1000": {"about": "Video Fractal, section 5.4 (tables 9 and 10): a million videos of 100 frames"}
    }
    later: ClassVar[tuple[str, ...]] = ("grey",)
    trial: ClassVar[Mapping[str, Any]] = {"categories": 8, "instances": 5, "shape": (240,) * 3, "points_per_frame": 400}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            ("key", "<u4", (2,)), ("maps", "<f4", (MOST_MAPS, 6)), ("thresholds", "<u4", (MOST_MAPS - 1,)), ("count", "<i4"),
            ("frames", "<i4"), ("height", "<i4"), ("width", "<i4"), ("points_per_frame", "<i4"), ("trail", "<i4"),
            ("pad", "<i4"), ("patch", "<i4"), ("level", "<i4"), ("flips", "<i4"), ("variant", "<i4"), ("reserved", "<i4", (3,)),
        ]
    )  # fmt: skip

    variants: tuple[int, ...]
    attempts: tuple[int, ...] = ()
    search_seed: int = field(0, "Another seed, other categories.")
    table: str = ""
    sizes: tuple[int, ...] = ()
    weight: float = field(0.4, "Instances multiply a parameter by 1 - 2w, 1 - w, 1 + w or 1 + 2w.")
    flips: bool = field(True, "Instances are also mirrored.")
    draw: str = field("patch", "Random 3 x 3 pixels around each point, or the point.", choices=DRAWS)
    points_per_frame: int = field(
        1000, "How fast it grows; for more frames, or smaller ones, give fewer, or it stands still in the end."
    )
    trail: int = field(0, "A frame shows the points of the last so many; 0 for all until then.")
    pad: int = field(6, "Pixels between the fractal and the edge.")
    level: int = field(127, "The grey level of what is drawn.")
    grey: str = field("fixed", "That level, or one at random for each video.", choices=GREYS)

    def __post_init__(self) -> None:
        one, several = checks.integer, checks.integers
        for name, check, least, most in (
            ("search_seed", one, 0, checks.SEEDS), ("points_per_frame", one, 1, MOST_POINTS), ("trail", one, 0, MOST_TRAIL),
            ("pad", one, 0, 32767), ("level", one, 1, 255), ("variants", several, 1, 2**VARIANTS - 1),
            ("attempts", several, 0, 2**32 - 1), ("sizes", several, 1, MOST_MAPS),
        ):  # fmt: skip
            keep(self, **{name: check(name, getattr(self, name), least, most)})
        if len(self.variants) > MOST_CATEGORIES:
            raise ArgumentError(
                f"has {len(self.variants):,} categories; at most {MOST_CATEGORIES:,} can be", "variants"
            )
        if not self.variants or not all(v & 1 for v in self.variants):
            raise ArgumentError("must have an odd number for each category: bit 0 is the system itself", "variants")
        if not isinstance(self.table, str):
            raise ArgumentError("must be text: base64 of float32 numbers", "table", self.table)
        single = bool(self.attempts) != bool(self.table) == bool(self.sizes)
        if not single or len(self.attempts or self.sizes) != len(self.variants):
            raise ArgumentError("`attempts`, or `table` and `sizes`, must give one system for each of `variants`")
        weight = checks.number("weight", self.weight, lambda v: 0 <= v < 0.5, "from 0 to below 0.5")
        keep(self, weight=weight, flips=checks.flag("flips", self.flips), draw=checks.one_of("draw", self.draw, DRAWS))
        keep(self, grey=checks.one_of("grey", self.grey, GREYS))
        if self.table:
            self._given()  # raises where it cannot be read

    @classmethod
    def from_counts(cls, categories: int | None, shape: Shape, progress: Progress | None, **options: Any) -> Self:
        """See `Generator.from_counts` and `vpngen.systems.make`; None stands for 1,000 categories, or all in `ifs_dir`."""
        made: Self = importlib.import_module("vpngen.systems").make(categories, shape, progress, **options)
        return made

    @classmethod
    def missing(cls) -> str | None:
        systems = importlib.import_module("vpngen.systems")
        lacking = not systems.read_found(systems.SHIPPED, 0)
        return "damaged or missing: pip install --force-reinstall vpngen" if lacking else None

    @property
    def n_categories(self) -> int:
        return len(self.variants)

    def category(self, category_id: int) -> tuple[int, ...]:
        """(category_id,): the number of the system. Raises ArgumentError outside [0, n_categories)."""
        return (self.label(category_id),)

    def category_id(self, category: tuple[int, ...]) -> int:
        if not isinstance(category, tuple) or len(category) != 1:
            raise ArgumentError("must be (number of the system,)", "category", category)
        return self.label(category[0])

    @functools.cached_property
    def systems(self) -> Systems:
        """The system of each category."""
        if self.table:
            return self._given()
        return candidates(self.search_seed, np.arange(self.n_categories), self.attempts)[0]

    def _given(self) -> Systems:
        try:
            numbers = np.frombuffer(base64.b64decode(self.table, validate=True), "<f4")
        except (TypeError, ValueError, binascii.Error):
            raise ArgumentError("must be base64 of float32 numbers", "table") from None
        if len(numbers) != 7 * sum(self.sizes) or not np.isfinite(numbers).all():
            raise ArgumentError(f"must hold seven finite numbers for each of the {sum(self.sizes)} maps", "table")
        table = np.zeros((len(self.sizes), MOST_MAPS, 7), np.float32)
        table[np.arange(MOST_MAPS) < np.array(self.sizes)[:, None]] = numbers.reshape(-1, 7)
        maps, chances = table[..., :6], table[..., 6].astype(np.float64)
        if np.abs(maps).max() > MOST_PARAMETER:
            raise ArgumentError(f"must hold parameters between -{MOST_PARAMETER} and {MOST_PARAMETER}", "table")
        if (chances < 0).any() or not (chances.sum(axis=1) > 0).all():
            raise ArgumentError("must hold probabilities that are positive", "table")
        return Systems(np.array(self.sizes), maps, thresholds(chances))

    def check(self, shape: Shape) -> None:
        frames, height, width = shape
        if min(height, width) <= 2 * self.pad:
            raise ArgumentError(f"leaves nothing of frames of {height} x {width}", "pad", self.pad)
        if frames * self.points_per_frame > MOST_POINTS:
            much = f"is more than {MOST_POINTS:,} points in {frames} frames"
            raise ArgumentError(much, "points_per_frame", self.points_per_frame)

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        systems = self.systems
        bits = (np.array(self.variants)[category_ids, None] >> np.arange(VARIANTS)) & 1
        flips, nth = np.divmod(instances, bits.sum(axis=1))
        params = np.zeros(len(keys), self.params_dtype)
        params["variant"] = np.argmax((np.cumsum(bits, axis=1) == nth[:, None] + 1), axis=1)
        params["flips"] = flips % 4 if self.flips else 0
        params["key"] = keys
        params["maps"] = systems.maps[category_ids] * factors(self.weight)[params["variant"]][:, None, :]
        params["thresholds"], params["count"] = systems.thresholds[category_ids], systems.count[category_ids]
        params["frames"], params["height"], params["width"] = shape
        params["points_per_frame"], params["trail"], params["pad"] = self.points_per_frame, self.trail, self.pad
        params["patch"], params["level"] = self.draw == "patch", self.level
        if self.grey == "random":
            params["level"] = LEAST_LEVEL + (256 - LEAST_LEVEL) * uniform(keys, rng.PURPOSE_GREY)[:, 0]
        return params

    @classmethod
    def check_params(cls, params: Params) -> None:
        for one in params:
            sizes = [int(one[name]) for name in ("frames", "height", "width", "points_per_frame")]
            good = all(1 <= s <= MOST_POINTS for s in sizes) and max(sizes[:3]) <= 65536
            good = good and sizes[0] * sizes[3] <= MOST_POINTS and 1 <= one["count"] <= MOST_MAPS
            good = good and 0 <= 2 * int(one["pad"]) < min(sizes[1:3]) and 0 <= one["trail"] <= MOST_TRAIL
            good = good and 0 <= one["flips"] < 4 and one["patch"] in (0, 1) and 1 <= one["level"] <= 255
            good = good and bool((one["thresholds"][1:] >= one["thresholds"][:-1]).all())
            if not good or not (np.abs(one["maps"]) <= 2 * MOST_PARAMETER).all():
                raise ArgumentError(f"params of the {cls.name} generator have values that they never have: {one}")

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """`variant`, `flips`, `maps` (number of them) and `key` (sample, word) of each video."""
        about = "0 the system itself; 1 + 4 p + w: parameter p of a, b, c, d, e, f times weight w of four"
        drawn = {"level": Parameter(params["level"].copy(), (), "the grey level of what is drawn")}
        return {
            "variant": Parameter(params["variant"].copy(), (), about),
            "flips": Parameter(params["flips"].copy(), (), "1 left to right, 2 top to bottom, 3 both"),
            "maps": Parameter(params["count"].copy(), (), "affine maps of the system"),
            "key": Parameter(params["key"].copy(), ("word",), "the Philox key of the video"),
            **(drawn if self.grey == "random" else {}),
        }

    @property
    def grows(self) -> bool:
        return self.trail == 0

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """Where the systems come from, what makes instances of them, and how they are drawn."""
        source = "from files" if self.table else f"of search seed {self.search_seed}"
        usable = [bits.bit_count() for bits in self.variants]
        *some, last = (f"{f:g}" for f in factors(self.weight)[1:5, 0])
        varied = f"itself, and a to f times {', '.join(some)} or {last}"
        flipped = "each as it is and mirrored three ways" if self.flips else "none is mirrored"
        pattern = "random 3 x 3 pixels around each point" if self.draw == "patch" else "a pixel for each point"
        shown = f"the last {self.trail} frames" if self.trail else "all frames until then"
        every, points = self.points_per_frame, shape[0] * self.points_per_frame
        level = f"{LEAST_LEVEL} to 255 at random" if self.grey == "random" else str(self.level)
        return [
            ("systems", f"{len(usable):,} {source}, of {_span(self.systems.count.tolist())} maps"),
            ("variants", f"{_span(usable)} of {VARIANTS} a system: {varied}"),
            ("flips", f"{'yes' if self.flips else 'no'}: {flipped}"),
            ("draw", f"{self.draw}: {pattern}, grey {level} on 0, with a margin of {self.pad}"),
            ("points", f"{every:,} a frame, {points:,} a video; a frame shows those of {shown}"),
        ]

    def advice(self, shape: Shape) -> list[str]:
        """How many points a frame let videos grow to the end, where they have more points a pixel than those of section 5.4.

        Videos with a trail move to the end anyway.
        """
        frames, height, width = shape
        points, pixels = FULL
        full = points * height * width // pixels
        each = max(full // frames, 1)
        if self.trail or frames == 1 or self.points_per_frame <= each:
            return []
        filled = f"when {full:,} points fill {height} x {width} pixels as densely as those of the paper"
        return [
            f"fractals hardly grow after frame {max(full // self.points_per_frame, 1):,} of {frames:,}, {filled}; "
            f"--points-per-frame {each} (in Python points_per_frame={each}) lets them grow to the end"
        ]

    def caption(self, category_id: int, params: np.void) -> str:
        """The variant, and how it is mirrored."""
        variant, flips = int(params["variant"]), int(params["flips"])
        parameter = (variant - 1) // 4
        weighted = f"{'abcdef'[parameter]} x {factors(self.weight)[variant, parameter]:g}"
        return ", ".join(filter(None, [weighted if variant else "the system itself", FLIPS[flips]]))

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """The last frame."""
        return (frames[1] if frames is not None else shape[0]) - 1

    def moving(self, shape: Shape) -> int:
        """All frames."""
        return shape[0]

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        at, frame = drawn(params.tobytes())
        lit = np.zeros((len(t), int(params["height"]) * int(params["width"])), bool)
        for k, now in enumerate(t):
            shown = (frame <= now) & ((params["trail"] == 0) | (frame > now - params["trail"]))
            lit[k, at[shown]] = True
        video = lit.reshape(len(t), params["height"], params["width"])[:, y[:, None], x]
        return np.where(video, np.float32(params["level"]), np.float32(0))


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def orbit(params: np.void) -> tuple[F32, F32, int]:
    """x and y (N,) of the points of a video, and how often its chunks left the bound."""
    points = int(params["frames"]) * int(params["points_per_frame"])
    chunks = -(-points // CHUNK)
    x, y = np.zeros(chunks, np.float32), np.zeros(chunks, np.float32)
    xs, ys = np.empty((chunks, CHUNK), np.float32), np.empty((chunks, CHUNK), np.float32)
    left = 0
    for i in range(WARM_UP + CHUNK):
        if i % 4 == 0:
            words = rng.philox4x32(rng.counters(rng.PURPOSE_ORBIT, 0, i // 4, np.arange(chunks)), params["key"])
        m = (words[:, i % 4, None] >= params["thresholds"][: params["count"] - 1]).sum(axis=1)
        a, b, c, d, e, f = params["maps"][m].T
        x, y = fma(a, x, fma(b, y, e)), fma(c, x, fma(d, y, f))
        stays = (np.abs(x) < BOUND) & (np.abs(y) < BOUND)
        left += int((~stays).sum())
        x, y = np.where(stays, x, np.float32(0)), np.where(stays, y, np.float32(0))
        if i >= WARM_UP:
            xs[:, i - WARM_UP], ys[:, i - WARM_UP] = x, y
    return xs.ravel()[:points], ys.ravel()[:points], left


def place(values: F32, pad: int, size: int) -> Integers:
    """The pixel of each coordinate (N,), from `pad` to `size - pad`, or all at `pad` where they do not differ."""
    extent = values.max() - values.min()
    scale = np.float32(size - 2 * pad) / extent if extent > LEAST_EXTENT else np.float32(0)
    steps: Integers = np.floor((values - values.min()) * scale).astype(np.int64)
    return np.minimum(pad + steps, size - 1)


@functools.lru_cache(maxsize=2)  # of one video, frames are asked for some at a time
def drawn(record: bytes) -> tuple[Integers, Integers]:
    """What the points of a video draw: pixels, as row * width + column, and the frames that draw them."""
    params = np.frombuffer(record, Fractal.params_dtype)[0]
    xs, ys, _ = orbit(params)
    height, width, flips = int(params["height"]), int(params["width"]), int(params["flips"])
    point = np.arange(len(xs))
    frame = point // int(params["points_per_frame"])
    X, Y = place(xs, int(params["pad"]), width), height - 1 - place(ys, int(params["pad"]), height)
    X, Y = width - 1 - X if flips & 1 else X, height - 1 - Y if flips & 2 else Y
    if not params["patch"]:
        return Y * width + X, frame
    counter = rng.counters(rng.PURPOSE_PATCH, 0, point % CHUNK // 8, point // CHUNK)
    words = rng.philox4x32(counter, params["key"])[point, point % 8 // 2]
    half = np.where(point % 2, words >> np.uint32(16), words & np.uint32(0xFFFF)).astype(np.int64)
    mask = 1 + (half * 511 >> 16)  # from 1 to 511: no patch is empty
    pixels, frames = [], []
    for bit in range(9):
        r, c = Y + bit // 3 - 1, X + bit % 3 - 1
        on = (mask >> bit & 1 == 1) & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        pixels.append((r * width + c)[on])
        frames.append(frame[on])
    return np.concatenate(pixels), np.concatenate(frames)

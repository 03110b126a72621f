"""Video Perlin Noise (VPN): categories, params and the reference formula.

Source: Kataoka, Hara, Hayashi, Yamagata, Inoue, "Spatiotemporal Initialization for 3D CNNs with Generated Motion
Patterns", WACV 2022, sections 3.2 and 5.1; equation numbers below are that paper's. Where the paper leaves a choice
open it is a field of `Perlin`, named after what it chooses.

The formula, in the order in which it is computed (float32; `fma` is the fused multiply-add; lerp(a, b, s) is
fma(s, b - a, a)):

    f_k = [W_k, H_k, D_k]                            the frequencies of term k; k = 1 is the primal term, the category
    p, q, r                                          the lattice cell of pixel (x, y, t); fx, fy, ft in [0, 1) within it
    v[p, q, r] = (gx, gy, gt)                        a unit gradient for each lattice point, hashed, never stored
    u, v, s = fade(fx), fade(fy), fade(ft)

    along y, for each lattice column:   A = lerp(gx0, gx1, v)
                                        B = lerp(gy0 * fy, gy1 * (fy - 1), v)
                                        C = lerp(gt0, gt1, v)
    along x, for each pixel:            P = lerp(A0 fx + B0, A1 (fx - 1) + B1, u)
                                          = fma(u, fma(A1 - A0, fx, B1 - A1 - B0), fma(A0, fx, B0))
                                        Q = lerp(C0, C1, u)
    along t, for each frame:            n_k = (1 - s) (P0 + ft Q0) + s (P1 + (ft - 1) Q1)
    equation (1):                       grey = floor(bias + sum_k gain a_k n_k)

P and Q depend on the lattice plane r and the pixel, not on the frame: they are shared by the D frames of a period, which
leaves four multiply-adds a term for each pixel of each frame, whatever W and H are. No clamp is needed: a noise of
unit gradients stays within sqrt(3) / 2 of zero, so grey levels lie in [17, 238].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import MAX_SIDE, Shape
from vpngen.errors import ArgumentError
from vpngen.fields import WORD_OR_INTEGERS, Field, described, field, keep
from vpngen.floats import F32, fma, lerp, sine_cosine
from vpngen.generators.base import Factor, Generator, Parameter, Params, Plane, Progress, uniform, usual_counts
from vpngen.rng import Integers, Words

DIVISIONS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 40, 48, 60, 80, 120, 240)
"""The spatial divisions of section 3.2: the 20 divisors of 240."""
TEMPORAL: Final = {"fast": (4,), "middle": (8,), "slow": (16,), "full": (4, 8, 16)}
"""The temporal sets of section 5.1 (ii)."""
MAX_TERMS: Final = 3
GRADIENTS: Final = ("angles", "sphere")
FADES: Final = ("quintic", "linear")
PHASES: Final = ("corner", "centre")
GREYS: Final = ("fixed", "stretch", "random")
RANDOM_MEAN: Final = (88, 168)
"""Between which the mean of a video lies, where it is drawn."""
RANDOM_CONTRAST: Final = (0.3, 1.0)
"""Its gain, as a part of the largest that cannot carry grey levels out of [0, 256)."""
MOST_NOISE: Final = 0.8675
"""No noise of unit gradients is farther from 0 than sqrt(3) / 2, nor by its rounding."""
UNITS: Final = ("period", "divisions")
RULES: Final = ("spread", "low", "high")


def pick_divisions(rule: str, n: int, size: int) -> tuple[int, ...]:
    """`n` of the divisions of section 3.2 that divide `size` pixels, in ascending order.

    Rule `low` takes the lowest, `high` the highest, `spread` evenly spaced ones with both ends.

    Raises:
        ArgumentError: there are fewer than `n` to pick from.
    """
    pool = [d for d in DIVISIONS if size % d == 0]
    if n > len(pool):
        lack = f"{n} divisions are needed along {size} pixels, and only {', '.join(map(str, pool))} divide it"
        raise ArgumentError(f"{lack}; ask for fewer categories, a multiple of 240 pixels, or give a list of divisions")
    if rule != "spread":
        return tuple(pool[:n] if rule == "low" else pool[-n:])
    last, gaps = len(pool) - 1, n - 1
    return tuple(pool[(2 * i * last + gaps) // (2 * gaps) if gaps else last // 2] for i in range(n))


def factor_categories(n: int) -> tuple[int, int]:
    """The most nearly square a x b = n with b <= a <= 20; a divisions along x and b along y.

    Raises:
        ArgumentError: `n` has no such factors; the nearest counts that have are named.
    """
    most = len(DIVISIONS)
    pairs = {a * b: (a, b) for b in range(1, most + 1) for a in range(b, most + 1)}  # the last of those of one product
    if n not in pairs:
        near = ", ".join(map(str, sorted(sorted(pairs, key=lambda m: (abs(m - n), m))[:4])))
        must = f"must be a x b with both up to {most}, the numbers of divisions along x and y"
        raise ArgumentError(f"{must}; the nearest that are: {near}", "categories", n)
    return pairs[n]


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "vpn-256x512": {"about": "the set of the main experiments, section 5.1 (ii)"},
    "vpn-400x200": {"categories": 400, "instances": 200, "about": "table 2; figure 3, 400 categories"},
    **{
        f"vpn-{n}x200": {"categories": n, "instances": 200, "about": f"figure 3, {n} categories"}
        for n in (16, 32, 64, 128, 256)
    },
    **{f"vpn-256x{n}": {"instances": n, "about": f"figure 3, {n} instances"} for n in (16, 32, 64, 128, 256)},
    **{f"vpn-{name}": {"temporal": name, "about": f"table 3, {name}"} for name in TEMPORAL},
    "vpn-no-noise": {"noise_terms": 0, "about": "table 4, without randomly generated frequency noise"},
    "vpn-low-freq": {"categories": 144, "instances": 200, "divisions": "low", "about": "table 6, 12 lowest divisions"},
    "vpn-high-freq": {"categories": 144, "instances": 200, "divisions": "high", "about": "table 6, 12 highest"},
}
"""Every set that the paper trains on, as options of `vpngen.perlin`; `about` names the place in the paper.

Table 3's row Middle and table 4's row "w/o frequency" are equal in all three columns, so the temporal sets were probably
made without the random noises; add `noise_terms=0` to get them that way.
"""


def _distinct(name: str, values: Any) -> tuple[int, ...]:
    """`values` as different positive integers, one at least. Raises ArgumentError."""
    found = checks.integers(name, values, 1, MAX_SIDE)
    if not found or len(set(found)) != len(found):
        raise ArgumentError("must have a value, and none twice", name, found)
    return found


@dataclass(frozen=True)
class Perlin(Generator):
    """The VPN formula with every choice that the paper leaves open as a field.

    Attributes:
        divisions_x: W of the categories, lattice cells across the width (section 3.2).
        divisions_y: H of the categories, lattice cells across the height.
        temporal: D of the categories (section 3.2: {4, 8, 16}).
        temporal_unit: `period`: D is the number of frames of one lattice cell ("16 frames per motion loop");
            `divisions`: D is the number of cells over the whole video, the meaning of `res` in perlin-numpy.
        loop: close the motion. With `period` frame t equals frame t + D, and the random terms draw their period from
            the noise frequencies that divide D; the primal noise then has one lattice plane and moves little, with the linear
            fade not at all. With `divisions` the video as a whole loops, as perlin-numpy's `tileable`.
        noise_terms: the random frequency noises added to the primal one: 2, or 0 for the ablation of table 4, or 1.
        noise_frequencies: the components of f_2 and f_3 are drawn from these, independently, for x, y and t.
        noise_amplitudes: a_2 and a_3 are drawn from these; a_1 = 1 - a_2 - a_3 by equation (2).
        gradients: `angles`: theta and phi uniform, as perlin-numpy, with cos(phi) along t; `sphere`: uniform on it.
        fade: `quintic` (Perlin 2002, as perlin-numpy) or `linear` (the wording of section 3.2).
        phase: where a pixel samples its cell: `corner`, as perlin-numpy, or `centre`. At the corner a category whose W and H are
            the width and height of its frames flickers: every D frames all its pixels lie on lattice points, where noise is 0.
            See `flat_frames`.
        grey: `fixed`: floor(128 + 127.5 v); `stretch`: the least and greatest v of each video become 0 and 255, which
            makes any window of it cost a pass over the whole video; `random`: mean and gain of each video are drawn from its
            key, the mean from 88 to 168, the gain from 0.3 to 1 times the largest that leaves all levels in range.

    Raises:
        ArgumentError: any field outside its range.
    """

    name: ClassVar[str] = "perlin"
    short: ClassVar[str] = "vpn"
    title: ClassVar[str] = "Video Perlin Noise"
    counts: ClassVar[tuple[Field, ...]] = usual_counts(256, "(W, H) pairs, a x b, each up to 20.", 512, (240,) * 3)
    made_from: ClassVar[tuple[Field, ...]] = (
        Field("temporal", WORD_OR_INTEGERS, "middle", "A name, or values of D.", tuple(TEMPORAL), "NAME|D,..."),
        Field("divisions", WORD_OR_INTEGERS, "spread", "A rule, or the divisions of both axes.", RULES, "RULE|N,..."),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    trial: ClassVar[Mapping[str, Any]] = {"categories": 400, "instances": 1}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            ("key", "<u4", (2,)), ("gain", "<f4"), ("bias", "<f4"), ("gradients", "<i4"), ("fade", "<i4"), ("phase", "<f4"),
            ("terms", "<i4"), ("amplitude", "<f4", (MAX_TERMS,)), ("cell", "<i4", (MAX_TERMS, 3)),
            ("wrap", "<i4", (MAX_TERMS,)), ("unused", "<i4"),
        ],
        align=True,
    )  # fmt: skip
    """One video: `cell` is (pixels, pixels, frames) of a lattice cell along (x, y, t), `wrap` the number of lattice
    planes along t after which the gradients repeat (0: never), `gain` and `bias` map noise to grey levels, `gradients`
    and `fade` index `GRADIENTS` and `FADES`, `phase` is the offset of a sample in its pixel."""

    divisions_x: tuple[int, ...] = field(help="W of the categories.")
    divisions_y: tuple[int, ...] = field(help="H of the categories.")
    temporal: tuple[int, ...] = (8,)
    temporal_unit: str = field("period", "D is frames of a lattice cell, or cells over the video.", choices=UNITS)
    loop: bool = field(False, "Close the motion: frame t equals frame t + D.")
    noise_terms: int = field(2, "Random noises added to the primal one: 0, 1 or 2.")
    noise_frequencies: tuple[int, ...] = field((1, 2, 4, 8, 16), "What their frequencies are drawn from.")
    noise_amplitudes: tuple[float, ...] = field((0.01, 0.02, 0.05, 0.1, 0.2), "What their amplitudes are drawn from.")
    gradients: str = field("angles", "Gradients with uniform angles, or uniform on the sphere.", choices=GRADIENTS)
    fade: str = field("quintic", "How lattice cells are interpolated.", choices=FADES)
    phase: str = field(
        "corner",
        "Where a pixel samples its cell; at the corner, W = width and H = height flicker to grey every D frames.",
        choices=PHASES,
    )
    grey: str = field(
        "fixed",
        "Grey levels of all videos alike, each stretched to 0 to 255, or mean and contrast at random.",
        choices=GREYS,
    )

    def __post_init__(self) -> None:
        for name in ("divisions_x", "divisions_y", "temporal", "noise_frequencies"):
            keep(self, **{name: _distinct(name, getattr(self, name))})
        for f in described(Perlin):
            if f.choices:
                checks.one_of(f.name, getattr(self, f.name), f.choices)
        terms = checks.integer("noise_terms", self.noise_terms, 0, MAX_TERMS - 1)
        amplitudes = checks.numbers("noise_amplitudes", self.noise_amplitudes)
        keep(self, loop=checks.flag("loop", self.loop), noise_terms=terms, noise_amplitudes=amplitudes)
        good = bool(amplitudes) and len(set(amplitudes)) == len(amplitudes)
        if not good or not all(0 < a and (terms + 1) * a < 1 for a in amplitudes):
            must = f"must be given, none twice, above 0 and below 1 / {terms + 1}, so that 0 < a_k < a_1 = 1 - sum a_k (equation 2)"
            raise ArgumentError(must, "noise_amplitudes", amplitudes)
        alone = [d for d in self.temporal if all(d % f for f in self.noise_frequencies)]
        if self.loop and self.temporal_unit == "period" and self.noise_terms and alone:
            problem = f"with D = {alone[0]} needs one of `noise_frequencies` {self.noise_frequencies} that divides it"
            raise ArgumentError(problem, "loop")

    @classmethod
    def from_counts(
        cls,
        categories: int | None,
        shape: Shape,
        progress: Progress | None = None,
        *,
        divisions: str | Sequence[int] = "spread",
        divisions_x: Sequence[int] | None = None,
        divisions_y: Sequence[int] | None = None,
        temporal: str | int | Sequence[int] = "middle",
        **fields: Any,
    ) -> Self:
        """See `Generator.from_counts`; `categories` are the (W, H) pairs, the labels this times the values of D.

        Args:
            categories: a x b with both up to 20; not asked for where the divisions of both axes are listed.
            shape: video shape (t, y, x); without a list, only divisions that divide it are picked.
            progress: never called.
            divisions: rule for both axes (`spread`, `low`, `high`), or a list of divisions to take the place of the 20.
            divisions_x: the W of the categories, in place of rule and count.
            divisions_y: the H of the categories, in place of rule and count.
            temporal: `fast`, `middle`, `slow`, `full`, a value of D, or a list of them.
            fields: the other fields of `Perlin`.

        Raises:
            ArgumentError: counts that cannot be made, unknown names, divisions that do not divide the shape.
        """
        if isinstance(temporal, str):
            temporal = TEMPORAL[checks.one_of("temporal", temporal, TEMPORAL)]
        both = None if isinstance(divisions, str) else _distinct("divisions", divisions)
        listed = {"divisions_x": divisions_x, "divisions_y": divisions_y}
        listed = {axis: both if given is None else given for axis, given in listed.items()}
        axes = {axis: _distinct(axis, given) for axis, given in listed.items() if given is not None}
        if len(axes) < 2:
            rule, n = checks.one_of("divisions", divisions, RULES), checks.integer("categories", categories, 1)
            if axes:
                (given,) = axes.values()
                if n % len(given):
                    raise ArgumentError(f"must be a multiple of the {len(given)} divisions listed", "categories", n)
                a = b = n // len(given)
            else:
                a, b = factor_categories(n)
            for axis, count, size in (("divisions_x", a, shape[2]), ("divisions_y", b, shape[1])):
                axes[axis] = axes.get(axis) or pick_divisions(rule, count, size)
        values = (temporal,) if checks.is_integer(temporal) else temporal
        return cls(axes["divisions_x"], axes["divisions_y"], _distinct("temporal", values), **fields)

    # --- categories: id = (index of D * number of W + index of W) * number of H + index of H

    @property
    def n_categories(self) -> int:
        """The number of labels: W x H x D."""
        return len(self.temporal) * len(self.divisions_x) * len(self.divisions_y)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """D, W and H, in the order of the labels."""
        unit = "frames a cell" if self.temporal_unit == "period" else "cells along t"
        across, down = Factor("W", self.divisions_x, "cells along x"), Factor("H", self.divisions_y, "cells along y")
        return Factor("D", self.temporal, unit), across, down

    def category(self, category_id: int) -> tuple[int, int, int]:
        """(W, H, D) of a label. Raises ArgumentError outside [0, n_categories)."""
        rest, h = divmod(self.label(category_id), len(self.divisions_y))
        d, w = divmod(rest, len(self.divisions_x))
        return self.divisions_x[w], self.divisions_y[h], self.temporal[d]

    def category_id(self, category: tuple[int, ...]) -> int:
        """The label of (W, H, D). Raises ArgumentError where this set has no such category."""
        try:
            w, h, d = category
            i, j, k = self.divisions_x.index(w), self.divisions_y.index(h), self.temporal.index(d)
        except (ValueError, TypeError):
            must = f"must be (W, H, D) with W in {self.divisions_x}, H in {self.divisions_y}, D in {self.temporal}"
            raise ArgumentError(must, "category", category) from None
        return (k * len(self.divisions_x) + i) * len(self.divisions_y) + j

    def check(self, shape: Shape) -> None:
        """Raise ArgumentError unless every lattice divides videos of `shape` (t, y, x)."""
        frames, height, width = shape
        noise = self.noise_frequencies if self.noise_terms else ()
        axes = [("divisions_x", "width", width), ("divisions_y", "height", height), ("temporal", "frames", frames)]
        for name, axis, size in axes if self.temporal_unit == "divisions" else axes[:2]:
            for at_fault, values in ((name, getattr(self, name)), ("noise_frequencies", noise)):
                if bad := ", ".join(str(v) for v in values if size % v):
                    problem = f"has {bad}, which does not divide the {axis} of {size}; change one, or leave it out"
                    raise ArgumentError(problem, at_fault)

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        """See `Generator.params`; the instances of a category differ by their keys alone."""
        n = len(keys)
        rest, h = np.divmod(np.asarray(category_ids, np.int64), len(self.divisions_y))
        d, w = np.divmod(rest, len(self.divisions_x))
        period = np.asarray(self.temporal)[d]
        frequency = np.empty((n, MAX_TERMS, 3), np.int64)
        frequency[:, 0] = np.stack([np.asarray(self.divisions_x)[w], np.asarray(self.divisions_y)[h], period], axis=1)
        amplitude = np.zeros((n, MAX_TERMS), np.float64)
        noise = np.asarray(self.noise_frequencies)
        slots = [[k, 0, 0, rng.purpose_word(rng.PURPOSE_PARAMETERS, 0)] for k in range(1, self.noise_terms + 1)]
        for k, words in enumerate(rng.philox4x32(np.reshape(slots, (-1, 1, 4)), keys), start=1):
            frequency[:, k, :2] = noise[rng.choose(words[:, :2], len(noise))]
            for value in np.unique(period):
                some = period == value
                closed = self.loop and self.temporal_unit == "period"
                pool = noise[value % noise == 0] if closed else noise
                frequency[some, k, 2] = pool[rng.choose(words[some, 2], len(pool))]
            amplitude[:, k] = np.asarray(self.noise_amplitudes)[rng.choose(words[:, 3], len(self.noise_amplitudes))]
        amplitude[:, 0] = 1 - amplitude[:, 1:].sum(axis=1)

        params = np.zeros(n, self.params_dtype)
        params["key"] = keys
        params["gain"], params["bias"] = (1, 0) if self.needs_extremes else (127.5, 128)
        if self.grey == "random":
            params["gain"], params["bias"] = random_grey(keys)
        params["gradients"], params["fade"] = GRADIENTS.index(self.gradients), FADES.index(self.fade)
        params["phase"] = 0.5 * PHASES.index(self.phase)
        params["terms"] = 1 + self.noise_terms
        params["amplitude"] = amplitude
        frames, height, width = shape
        for k in range(1 + self.noise_terms):
            w, h, d = frequency[:, k].T
            cell, planes = (d, period // d) if self.temporal_unit == "period" else (frames // d, d)
            params["cell"][:, k] = np.stack([width // w, height // h, cell], axis=1)
            params["wrap"][:, k] = planes if self.loop else 0
        return params

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """`frequency` (sample, term, axis), `amplitude` (sample, term) and `key` (sample, word) of each video."""
        terms = 1 + self.noise_terms
        cell = params["cell"][:, :terms].astype(np.int64)
        frames, height, width = shape
        frequency = np.array([width, height, frames]) // cell
        if self.temporal_unit == "period":
            frequency[..., 2] = cell[..., 2]
        unit = "frames in a period" if self.temporal_unit == "period" else "cells over the video"
        drawn = {
            "gain": Parameter(params["gain"].copy(), (), "grey levels of a unit of noise"),
            "mean": Parameter(params["bias"].copy(), (), "the grey level of noise 0"),
        }
        return {
            "frequency": Parameter(
                frequency.astype(np.int32), ("term", "axis"),
                f"f_k = [W, H, D] of each term, the primal one first: cells across x, cells across y, {unit} along t",
            ),
            "amplitude": Parameter(params["amplitude"][:, :terms].copy(), ("term",), "a_k of equation (1)"),
            "key": Parameter(params["key"].copy(), ("word",), "the Philox key of the video"),
            **(drawn if self.grey == "random" else {}),
        }  # fmt: skip

    @classmethod
    def check_params(cls, params: Params) -> None:
        for one in params.tolist():
            fields = dict(zip(cls.params_dtype.names or (), one, strict=True))
            cells = fields["cell"][: fields["terms"]].ravel().tolist()
            good = 1 <= fields["terms"] <= MAX_TERMS and all(1 <= size <= MAX_SIDE for size in cells)
            good = good and min(fields["wrap"].tolist()) >= 0
            good = good and 0 <= fields["gradients"] < len(GRADIENTS) and 0 <= fields["fade"] < len(FADES)
            good = good and 0 <= fields["phase"] < 1
            if not good or not all(map(math.isfinite, (fields["gain"], fields["bias"], *fields["amplitude"].tolist()))):
                raise ArgumentError(f"params of the {cls.name} generator have values that they never have: {fields}")

    @property
    def needs_extremes(self) -> bool:
        return self.grey == "stretch"

    def with_extremes(self, params: Params, low: F32, high: F32) -> Params:
        """`params` with the gain and bias that map the extremes `low` and `high` (N,) of v to grey levels 0 and 255.

        A video without contrast becomes grey 128 throughout; so does one whose contrast is under 1/1024, an eighth of a
        grey level before it is stretched: what is left there is rounding, and more of it would carry v out of [0, 256).
        """
        span = high - low
        flat = span < np.float32(1 / 1024)
        gain = np.where(flat, np.float32(0), np.float32(255) / np.where(flat, np.float32(1), span))
        out = params.copy()
        out["gain"] = gain
        out["bias"] = np.where(flat, np.float32(128), np.float32(0.5) - low * gain)
        return out

    def flat_frames(self, shape: Shape) -> dict[tuple[int, int, int], int]:
        """The categories (W, H, D) whose primal noise is 0 in whole frames: n for frames 0, n, 2 n, ... of a video.

        In such a frame all pixels lie on lattice points, along x, y and t; what is left are the random noises. That takes the
        phase `corner`, one cell a pixel (W = width, H = height), and a frame on a lattice plane. Where a loop has a single plane,
        the temporal gradients also cancel half a cell later, with the linear fade in all frames; up to rounding, one grey level.
        """
        frames, height, width = shape
        if self.phase != "corner" or width not in self.divisions_x or height not in self.divisions_y:
            return {}
        found = {}
        for d in self.temporal:
            cell, planes = (d, 1) if self.temporal_unit == "period" else (frames // d, d)
            if self.loop and planes == 1:
                cell = 1 if self.fade == "linear" else cell // 2 if cell % 2 == 0 else cell
            found[width, height, d] = cell
        return found

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """The fields, and which categories flicker."""
        flat = [
            f"W={w} H={h} D={d} every {'frame' if n == 1 else f'{n} frames'}"
            for (w, h, d), n in self.flat_frames(shape).items()
        ]
        if not flat:
            return super().facts(shape)
        left = "show the random noises alone" if self.noise_terms else "are flat grey"
        why = "all pixels lie on lattice points, where the primal noise is 0; phase centre has none"
        return [*super().facts(shape), ("flicker", f"{', '.join(flat)}: such frames {left}, as {why}")]

    def caption(self, category_id: int, params: np.void) -> str:
        """W, H and D."""
        return "  ".join(f"{name}={n}" for name, n in zip("WHD", self.category(category_id), strict=True))

    def _d(self, temporal: int | None) -> int:
        if temporal is None:
            return sorted(self.temporal)[len(self.temporal) // 2]
        if temporal not in self.temporal:
            raise ArgumentError(f"must be one of the D of this set: {self.temporal}", "temporal", temporal)
        return int(temporal)

    def plane(self, temporal: int | None) -> Plane:
        """The category plane of figure 2: W to the right, H downwards."""
        d, xs, ys = self._d(temporal), sorted(self.divisions_x), sorted(self.divisions_y)
        title = f"{len(xs)} x {len(ys)} categories of {self.title}, D = {d}"
        categories = [[self.category_id((x, y, d)) for x in xs] for y in ys]
        return Plane(title, "W, lattice cells along x", "H, lattice cells along y", xs, ys, categories)

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """Half a lattice cell into the video.

        On a lattice plane the temporal gradients vanish, and the categories whose cells are single pixels are flat.
        """
        if frames is not None:
            return frames[0]
        d = self._d(temporal)
        cell = d if self.temporal_unit == "period" else shape[0] // d
        return min(cell // 2, shape[0] - 1)

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        """bias + gain * v of equation (1) at frames `t`, rows `y`, columns `x`: float32 (T, Y, X)."""
        grey = np.full((len(t), len(y), len(x)), params["bias"], np.float32)
        for k in range(params["terms"]):
            st = int(params["cell"][k, 2])
            r, ft = t // st, fraction(params, t, st)
            used = np.unique(np.concatenate([r, r + 1]))
            P, Q = planes(params, k, used, y, x)
            at = np.searchsorted(used, r)
            whole = params["gain"] * params["amplitude"][k]
            w2 = whole * fade(params, ft)
            w0 = whole - w2
            for weight, part in ((w0, P[at]), (w0 * ft, Q[at]), (w2, P[at + 1]), (w2 * (ft - 1), Q[at + 1])):
                grey = fma(weight[:, None, None], part, grey)
        return grey


def random_grey(keys: Words) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gain and mean (N,) of videos with keys (N, 2), so that no grey level leaves [0, 256)."""
    of_mean, of_gain = uniform(keys, rng.PURPOSE_GREY)[:, :2].T
    mean = RANDOM_MEAN[0] + (RANDOM_MEAN[1] - RANDOM_MEAN[0]) * of_mean
    part = RANDOM_CONTRAST[0] + (RANDOM_CONTRAST[1] - RANDOM_CONTRAST[0]) * of_gain
    return part * np.minimum(mean, 256 - mean) / MOST_NOISE, mean


def fraction(params: np.void, i: Integers, size: int) -> F32:
    """Where sample `i` lies in its cell of `size` samples: float32 in [0, 1)."""
    return (np.asarray(i % size, np.float32) + np.float32(params["phase"])) / np.float32(size)


def fade(params: np.void, f: F32) -> F32:
    """6 f^5 - 15 f^4 + 10 f^3 (Perlin, "Improving noise", 2002), or f itself."""
    if FADES[params["fade"]] == "linear":
        return f
    return f * f * f * fma(f, fma(f, np.float32(6), np.float32(-15)), np.float32(10))


def gradients(params: np.void, k: int, p: int, count: int, q: npt.ArrayLike, r: npt.ArrayLike) -> tuple[F32, F32, F32]:
    """The unit gradients (gx, gy, gt) of `count` lattice points from (p, q, r) along x, each of shape (..., count).

    One hash serves the four points with the same p // 4; of each 32-bit word the low half is theta, the high half phi.
    """
    first, last = p // 4, (p + count - 1) // 4
    q, r = np.broadcast_arrays(q, r)
    counter = rng.counters(rng.PURPOSE_LATTICE, k, np.arange(first, last + 1), q[..., None], r[..., None])
    words = rng.philox4x32(counter, params["key"])
    words = words.reshape(*q.shape, -1)[..., p - 4 * first :][..., :count]
    sin_theta, cos_theta = sine_cosine(words & np.uint32(0xFFFF))
    if GRADIENTS[params["gradients"]] == "sphere":
        cos_phi = fma(np.asarray(words >> 16, np.float32), np.float32(2**-15), np.float32(2**-16 - 1))
        sin_phi = np.sqrt(fma(-cos_phi, cos_phi, np.float32(1)))
    else:
        sin_phi, cos_phi = sine_cosine(words >> np.uint32(16))
    return sin_phi * cos_theta, sin_phi * sin_theta, cos_phi


def planes(params: np.void, k: int, r: Integers, y: Integers, x: Integers) -> tuple[F32, F32]:
    """P and Q of lattice planes `r` of term `k` at rows `y`, columns `x`: float32 (R, Y, X) each.

    P is the noise of the plane's spatial gradients, Q the interpolation of its temporal ones.
    """
    sx, sy, _ = (int(s) for s in params["cell"][k])
    wrap = int(params["wrap"][k])
    p, q = x // sx, y // sy
    p0, q0 = int(p.min()), int(q.min())
    lines = np.arange(q0, int(q.max()) + 2)
    layers = (r % wrap if wrap else r)[:, None]
    gx, gy, gt = gradients(params, k, p0, int(p.max()) + 2 - p0, lines, layers)  # each (R, lattice lines, columns)

    fy = fraction(params, y, sy)[:, None]
    v = fade(params, fy)
    low, high = q - q0, q - q0 + 1
    A = lerp(gx[:, low], gx[:, high], v)
    B = lerp(gy[:, low] * fy, gy[:, high] * (fy - 1), v)
    C = lerp(gt[:, low], gt[:, high], v)

    fx = fraction(params, x, sx)
    u = fade(params, fx)
    cell = p - p0
    slope, step = (A[..., 1:] - A[..., :-1])[..., cell], ((B[..., 1:] - A[..., 1:]) - B[..., :-1])[..., cell]
    P = fma(u, fma(slope, fx, step), fma(A[..., cell], fx, B[..., cell]))
    Q = lerp(C[..., cell], C[..., cell + 1], u)
    return P, Q

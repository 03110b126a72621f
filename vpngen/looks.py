"""What people are shown of a generator: facts, captions, and how its categories are laid out in a picture.

A generator without a look of its own has the plain one: its fields as facts, its categories in a list.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from vpngen.errors import ArgumentError
from vpngen.generators import Fractal, Generator, Mixed, Perlin, Shape, mixed
from vpngen.generators.fractal import VARIANTS, factors
from vpngen.spec import Spec

MOVING_FRAMES: Final = 64
"""Frames that show how noise moves; what grows is shown to its end."""
FLIPS: Final = ("", "mirrored left to right", "mirrored top to bottom", "mirrored both ways")


class Plane(NamedTuple):
    """Categories on a plane, x growing to the right and y downwards.

    `xs` and `ys` are the numbers along its axes, `categories` the label for each y and x.
    """

    title: str
    x_axis: str
    y_axis: str
    xs: list[int]
    ys: list[int]
    categories: list[list[int]]


class Look:
    """What people are shown of one generator. Labels and rows are those of the generator itself, not of a mixture."""

    title = ""
    """What its videos are called; empty for the name of the generator."""
    grows = False
    """Whether a video adds to what its frames showed before."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.title = self.title or f"the {generator.name} generator"

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """What there is to know beside the counts: (name, value)."""
        fields = self.generator.to_dict().items()
        return [(name, ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for name, v in fields]

    def caption(self, category_id: int, row: np.void) -> str:
        """What a video shows, where that is more than its label."""
        return str(self.generator.category(category_id))

    def plane(self, temporal: int | None) -> Plane | None:
        """The plane on which its categories lie, at one value of D; None where they are a list.

        Raises:
            ArgumentError: no such D.
        """
        return None

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """The frame that shows most: of `frames` (start, stop), or of the whole video."""
        return frames[0] if frames is not None else shape[0] // 2

    def moving(self, shape: Shape) -> int:
        """How many frames from the beginning show how it moves."""
        return min(MOVING_FRAMES, shape[0])


class PerlinLook(Look):
    """The category plane of the paper's figure 2."""

    title = "Video Perlin Noise"

    def caption(self, category_id: int, row: np.void) -> str:
        """W, H and D."""
        values = zip("WHD", self.generator.category(category_id), strict=True)
        return "  ".join(f"{name}={n}" for name, n in values)

    def _d(self, temporal: int | None) -> int:
        g: Perlin = self.generator
        if temporal is None:
            return sorted(g.temporal)[len(g.temporal) // 2]
        if temporal not in g.temporal:
            raise ArgumentError(f"must be one of the D of this set: {g.temporal}", "temporal", temporal)
        return int(temporal)

    def plane(self, temporal: int | None) -> Plane:
        """W to the right, H downwards."""
        g, d = self.generator, self._d(temporal)
        xs, ys = sorted(g.divisions_x), sorted(g.divisions_y)
        return Plane(
            f"{len(xs)} x {len(ys)} categories of {self.title}, D = {d}",
            "W, lattice cells along x", "H, lattice cells along y",
            xs, ys, [[g.category_id((x, y, d)) for x in xs] for y in ys],
        )  # fmt: skip

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """Half a lattice cell into the video.

        On a lattice plane the temporal gradients vanish, and the categories whose cells are single pixels are flat.
        """
        if frames is not None:
            return frames[0]
        d = self._d(temporal)
        cell = d if self.generator.temporal_unit == "period" else shape[0] // d
        return min(cell // 2, shape[0] - 1)


class FractalLook(Look):
    """Systems in a list, grown to the end."""

    title = "Video Fractal"

    def __init__(self, generator: Fractal) -> None:
        super().__init__(generator)
        self.grows = generator.trail == 0

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """Where the systems come from, what makes instances of them, and how they are drawn."""
        g: Fractal = self.generator
        source = "from files" if g.table else f"of search seed {g.search_seed}"
        usable = [bin(bits).count("1") for bits in g.variants]
        flipped = "each as it is and mirrored three ways" if g.flips else "none is mirrored"
        pattern = "random 3 x 3 pixels around each point" if g.draw == "patch" else "a pixel for each point"
        shown = f"the last {g.trail} frames" if g.trail else "all frames until then"
        points = shape[0] * g.points_per_frame
        return [
            ("systems", f"{len(usable):,} {source}, of {_span(g.systems.count.tolist())} maps"),
            ("variants", f"{_span(usable)} of {VARIANTS} a system: itself, and a to f times {_factors(g)}"),
            ("flips", f"{'yes' if g.flips else 'no'}: {flipped}"),
            ("draw", f"{g.draw}: {pattern}, grey {g.level} on 0, with a margin of {g.pad}"),
            ("points", f"{g.points_per_frame:,} a frame, {points:,} a video; a frame shows those of {shown}"),
        ]

    def caption(self, category_id: int, row: np.void) -> str:
        """The variant, and how it is mirrored."""
        variant = int(row["variant"])
        words = "the system itself"
        if variant:
            parameter = (variant - 1) // 4
            words = f"{'abcdef'[parameter]} x {factors(self.generator.weight)[variant, parameter]:g}"
        return f"{words}, {FLIPS[row['flips']]}" if row["flips"] else words

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """The last."""
        return (frames[1] if frames is not None else shape[0]) - 1

    def moving(self, shape: Shape) -> int:
        """All."""
        return shape[0]


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _factors(g: Fractal) -> str:
    *some, last = (f"{f:g}" for f in factors(g.weight)[1:5, 0])
    return f"{', '.join(some)} or {last}"


LOOKS: Final[dict[type[Generator], type[Look]]] = {Perlin: PerlinLook, Fractal: FractalLook}
"""Generators that have a look of their own."""


def looks(generator: Generator) -> list[tuple[int, Look]]:
    """The look of a generator, or of each part of a mixture, and the first of its labels."""
    found, first = [], 0
    for part in generator.parts if isinstance(generator, Mixed) else (generator,):
        found.append((first, LOOKS.get(type(part), Look)(part)))
        first += part.n_categories
    return found


def look_of(generator: Generator, label: int) -> tuple[int, Look]:
    """The look that a label belongs to, and the first of its labels."""
    return [(first, look) for first, look in looks(generator) if first <= label][-1]


def facts(spec: Spec) -> list[tuple[str, str]]:
    """What there is to know of the generator of a set: (name, value); of a mixture, of each part."""
    if not isinstance(spec.generator, Mixed):
        return [fact for _, look in looks(spec.generator) for fact in look.facts(spec.shape)]
    found = []
    for first, look in looks(spec.generator):
        part = look.generator
        found.append((part.name, f"categories {first:,} to {first + part.n_categories - 1:,}"))
        found += [(f"  {name}", value) for name, value in look.facts(spec.shape)]
    return found


def caption(spec: Spec, index: int, split: str = "train") -> tuple[str, str]:
    """Which video it is; which category, and what it shows.

    >>> import vpngen
    >>> caption(vpngen.perlin(categories=16, instances=1), 5)
    ('train 5', 'category 5:  W=6  H=6  D=8')

    Raises:
        ArgumentError: no such split or video.
    """
    label = int(spec.indices(index, split)) % spec.n_categories
    first, look = look_of(spec.generator, label)
    rows, whose = spec.params(index, split), ""
    if isinstance(spec.generator, Mixed):
        rows = mixed.unpack(rows, type(look.generator))
        whose = f"{look.generator.name} {label - first},  "
    return f"{split} {index}", f"category {label}:  {whose}{look.caption(label - first, rows[0])}"

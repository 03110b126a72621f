"""Several generators in one label space: the categories of the first, then those of the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError, shown
from vpngen.fields import Field
from vpngen.floats import F32
from vpngen.generators.base import GENERATORS, Generator, Parameter, Params, Progress, named, usual_counts
from vpngen.rng import Integers, Words

MOST_BYTES: Final = 256
"""Of the params of one generator."""
MOST_PARTS: Final = 1024


def kinds() -> list[type[Generator]]:
    """The generators that stand for themselves, which is all but `Mixed`: those that can be mixed.

    Params of a mixture hold the place of their own generator in this list, which therefore only grows.
    """
    return [kind for kind in GENERATORS.values() if kind is not Mixed]


@dataclass(frozen=True)
class Mixed(Generator):
    """The categories of several generators, one after the other; params hold those of their generator.

    Attributes:
        parts: the generators.

    Raises:
        ArgumentError: no parts, or parts that cannot be mixed.
    """

    name: ClassVar[str] = "mixed"
    short: ClassVar[str] = "mixed"
    title: ClassVar[str] = "a mixture"
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [("kind", "<i4"), ("part", "<i4"), ("reserved", "<i4", (2,)), ("row", f"V{MOST_BYTES}")]
    )

    parts: tuple[Generator, ...]

    def __post_init__(self) -> None:
        allowed = kinds()
        few = isinstance(self.parts, tuple) and 1 <= len(self.parts) <= MOST_PARTS
        if not few or not all(type(p) in allowed for p in self.parts):
            names = " or ".join(kind.name for kind in allowed)
            raise ArgumentError(f"must be a list of {names} generators, {MOST_PARTS:,} at most", "parts")

    counts: ClassVar[tuple[Field, ...]] = usual_counts(None, "", 512, (240, 240, 240))[
        1:
    ]  # its parts say how many categories
    made_from: ClassVar[tuple[Field, ...]] = (
        Field("parts", "parts", None, "Each what `Spec.make` is given of a generator."),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "motion-256x512": {
            "parts": (
                {"generator": "perlin", "categories": 128},
                {"generator": "leaves", "sizes": (26.6, 18.8, 13.3, 9.4)},
            ),
            "about": "half perlin, half leaves of four sizes",
        }
    }

    @classmethod
    def from_counts(
        cls, categories: int | None, shape: Shape, progress: Progress | None, *, parts: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Self:  # fmt: skip
        """Of `parts`, each the name of a `generator` and options of it; `vpngen.mixed` makes one of other sets."""
        if not parts:
            raise ArgumentError("is made of other sets, by `vpngen.mixed`", "generator", cls.name)
        made = []
        for part in parts:
            kind = GENERATORS[part["generator"]]
            usual = {f.name: f.default for f in kind.counts}["categories"]
            own = {name: value for name, value in part.items() if name not in ("generator", "categories")}
            made.append(kind.from_counts(part.get("categories", usual), shape, progress, **own))
        return cls(tuple(made))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        parts = fields.get("parts")
        if set(fields) != {"parts"} or not isinstance(parts, list):
            raise ArgumentError(
                f"the mixed generator has `parts`, a list, and nothing else, not {shown(sorted(fields))}"
            )
        if len(parts) > MOST_PARTS:
            raise ArgumentError(f"has {len(parts):,} parts; at most {MOST_PARTS:,} can be mixed", "generator", cls.name)
        return cls(tuple(named(part, [kind.name for kind in kinds()]) for part in parts))

    def to_dict(self) -> dict[str, Any]:
        return {"parts": [{"name": part.name, **part.to_dict()} for part in self.parts]}

    @property
    def n_categories(self) -> int:
        return sum(part.n_categories for part in self.parts)

    def part(self, category_id: int) -> tuple[int, int]:
        """The number of the part that a label belongs to, and its label there. Raises ArgumentError."""
        label = self.label(category_id)
        return [(n, label - first) for n, (first, _) in enumerate(self.members()) if first <= label][-1]

    def category(self, category_id: int) -> tuple[Any, ...]:
        """(number of the part, then what its category means there). Raises ArgumentError outside [0, n_categories)."""
        number, rest = self.part(category_id)
        return number, *self.parts[number].category(rest)

    def category_id(self, category: tuple[Any, ...]) -> int:
        known = isinstance(category, tuple) and len(category) > 1 and checks.is_integer(category[0])
        if not known or category[0] not in range(len(self.parts)):
            raise ArgumentError("must be (number of the part, then its category there)", "category", category)
        first, part = self.members()[int(category[0])]
        label: int = first + part.category_id(category[1:])
        return label

    def members(self) -> list[tuple[int, Generator]]:
        """The parts, each with the first of its labels."""
        sizes = [part.n_categories for part in self.parts]
        return list(zip(itertools.accumulate(sizes, initial=0), self.parts, strict=False))

    def check(self, shape: Shape) -> None:
        for part in self.parts:
            part.check(shape)

    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        params, of = np.zeros(len(keys), self.params_dtype), kinds()
        for number, (first, part) in enumerate(self.members()):
            mine = (category_ids >= first) & (category_ids < first + part.n_categories)
            theirs = part.params(shape, keys[mine], category_ids[mine] - first, instances[mine])
            params["kind"][mine], params["part"][mine] = of.index(type(part)), number
            pack(params, mine, theirs)
        return params

    @classmethod
    def check_params(cls, params: Params) -> None:
        if not np.isin(params["kind"], range(len(kinds()))).all():
            raise ArgumentError(f"params of the mixed generator are of kind {params['kind'].tolist()}")
        for kind, _, part in split(params):
            kind.check_params(part)

    @property
    def needs_extremes(self) -> bool:
        return any(part.needs_extremes for part in self.parts)

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """Those of each part under its name, zero where a video is of another: perlin_frequency, fractal_variant, ..."""
        names = [part.name for part in self.parts]
        found = {"part": Parameter(params["part"].copy(), (), ", ".join(f"{i} {name}" for i, name in enumerate(names)))}
        for number, part in enumerate(self.parts):
            prefix = part.name if names.count(part.name) == 1 else f"{part.name}_{number}"
            mine = params["part"] == number
            for name, (values, dims, about) in part.parameters(shape, unpack(params[mine], type(part))).items():
                all_values = np.zeros((len(params), *values.shape[1:]), values.dtype)
                all_values[mine] = values
                found[f"{prefix}_{name}"] = Parameter(all_values, dims, about)
        return found

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """Those of each part, below its labels."""
        found = []
        for first, part in self.members():
            found.append((part.name, f"categories {first:,} to {first + part.n_categories - 1:,}"))
            found += [(f"  {name}", value) for name, value in part.facts(shape)]
        return found

    def advice(self, shape: Shape) -> list[str]:
        """That of each part, once."""
        return list(dict.fromkeys(said for part in self.parts for said in part.advice(shape)))

    def caption(self, category_id: int, params: np.void) -> str:
        """The generator, its own label, and what it says of it."""
        number, label = self.part(category_id)
        part = self.parts[number]
        return f"{part.name} {label},  {part.caption(label, unpack(np.array([params]), type(part))[0])}"

    @property
    def handed(self) -> bool:
        return any(part.handed for part in self.parts)

    @property
    def truth(self) -> tuple[str, ...]:
        """What is known of the videos of every part."""
        return tuple(name for name in self.parts[0].truth if all(name in part.truth for part in self.parts))

    def check_moves(self) -> None:
        for part in self.parts:
            part.check_moves()

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """That of each video's own part. Raises ArgumentError where one of them has none."""
        found, steps = np.zeros((len(params), 2, 3)), np.broadcast_to(steps, len(params))
        for number in np.unique(params["part"]):
            mine = params["part"] == number
            theirs = unpack(params[mine], type(self.parts[number]))
            found[mine] = self.parts[number].motion(shape, theirs, steps[mine])
        return found

    def part_of(self, params: np.void) -> tuple[Generator, np.void]:
        """The part that a video is of, and its parameters for that."""
        part: Generator = self.parts[params["part"]]
        return part, unpack(np.array([params]), type(part))[0]

    @staticmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        kind = kinds()[params["kind"]]
        grey: F32 = kind.reference(unpack(np.array([params]), kind)[0], t, y, x)
        return grey


def pack(params: Params, which: npt.NDArray[Any], theirs: Params) -> None:
    """Put the params of one generator into some of those of the mixture."""
    packed = np.zeros((len(theirs), MOST_BYTES), np.uint8)
    packed[:, : theirs.dtype.itemsize] = np.ascontiguousarray(theirs).view(np.uint8).reshape(-1, theirs.dtype.itemsize)
    params["row"][which] = packed.view(f"V{MOST_BYTES}")[:, 0]


def unpack(params: Params, kind: type[Generator]) -> Params:
    """The params of one generator that those of the mixture hold."""
    bytes_ = np.ascontiguousarray(params["row"]).view(np.uint8).reshape(len(params), MOST_BYTES)
    return np.ascontiguousarray(bytes_[:, : kind.params_dtype.itemsize]).view(kind.params_dtype)[:, 0]


def split(params: Params) -> Iterator[tuple[type[Generator], Integers, Params]]:
    """Each generator that params of the mixture are of, which they are, and its own params."""
    for number in np.unique(params["kind"]):
        which = np.flatnonzero(params["kind"] == number)
        yield kinds()[number], which, unpack(params[which], kinds()[number])

"""Several generators in one label space: the categories of the first, then those of the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.generators.base import Generator, Parameter, Params
from vpngen.generators.fractal import Fractal
from vpngen.generators.perlin import Perlin

KINDS: Final[tuple[type[Generator], ...]] = (Perlin, Fractal)
"""Generators that can be mixed; a row holds the place of its own in this list, which therefore only grows."""
MOST_BYTES: Final = 256


@dataclass(frozen=True)
class Mixed(Generator):
    """The categories of several generators, one after the other; a row holds that of its generator.

    Attributes:
        parts: the generators.

    Raises:
        ArgumentError: no parts, or parts that cannot be mixed.
    """

    name: ClassVar[str] = "mixed"
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        {
            "names": ["kind", "part", "reserved", "row"],  # a gap would not be copied, and bytes are a promise
            "formats": ["<i4", "<i4", ("<i4", (2,)), f"V{MOST_BYTES}"],
            "offsets": [0, 4, 8, 16],
            "itemsize": 16 + MOST_BYTES,
        }
    )

    parts: tuple[Generator, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not self.parts or not all(isinstance(p, KINDS) for p in self.parts):
            raise ArgumentError(f"must be a list of {' or '.join(kind.name for kind in KINDS)} generators", "parts")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ArgumentError."""
        parts, known = fields.get("parts"), {kind.name: kind for kind in KINDS}
        if set(fields) != {"parts"} or not isinstance(parts, list):
            raise ArgumentError(
                f"the mixed generator has `parts`, a list, and nothing else; it was given {sorted(fields)}"
            )
        made = []
        for part in parts:
            name = part.get("name") if isinstance(part, Mapping) else None
            if not isinstance(name, str) or name not in known:
                raise ArgumentError(f"a part of the mixed generator is {name!r}; it must be one of {', '.join(known)}")
            made.append(known[name].from_dict({k: v for k, v in part.items() if k != "name"}))
        return cls(tuple(made))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, that of each part with its name."""
        return {"parts": [{"name": part.name, **part.to_dict()} for part in self.parts]}

    # --- categories

    @property
    def n_categories(self) -> int:
        """The number of labels of all parts."""
        return sum(part.n_categories for part in self.parts)

    def part(self, category_id: int) -> tuple[int, int]:
        """The number of the part that a label belongs to, and its label there. Raises ArgumentError."""
        number, rest = 0, self.label(category_id)
        while rest >= self.parts[number].n_categories:
            rest -= self.parts[number].n_categories
            number += 1
        return number, rest

    def category(self, category_id: int) -> tuple[int, ...]:
        """(number of the part, then what its category means there). Raises ArgumentError outside [0, n_categories)."""
        number, rest = self.part(category_id)
        return number, *self.parts[number].category(rest)

    def category_id(self, category: tuple[int, ...]) -> int:
        """The inverse of `category`. Raises ArgumentError where this set has no such category."""
        known = isinstance(category, tuple) and len(category) > 1 and isinstance(category[0], (int, np.integer))
        if not known or isinstance(category[0], bool) or category[0] not in range(len(self.parts)):
            raise ArgumentError("must be (number of the part, then its category there)", "category", category)
        before = sum(part.n_categories for part in self.parts[: category[0]])
        return before + self.parts[category[0]].category_id(category[1:])

    def members(self) -> list[tuple[int, Generator]]:
        """The parts, each with the first of its labels."""
        sizes = [part.n_categories for part in self.parts]
        return list(zip(itertools.accumulate(sizes, initial=0), self.parts, strict=False))

    def check(self, shape: Shape) -> None:
        """Raise ArgumentError unless all parts can make videos of `shape` (t, y, x)."""
        for part in self.parts:
            part.check(shape)

    # --- recipes

    def params(
        self,
        shape: Shape,
        keys: npt.NDArray[np.uint32],
        category_ids: npt.NDArray[np.int64],
        instances: npt.NDArray[np.int64],
    ) -> Params:
        """See `Generator.params`."""
        rows, first = np.zeros(len(keys), self.params_dtype), 0
        for number, part in enumerate(self.parts):
            mine = (category_ids >= first) & (category_ids < first + part.n_categories)
            theirs = part.params(shape, keys[mine], category_ids[mine] - first, instances[mine])
            rows["kind"][mine], rows["part"][mine] = KINDS.index(type(part)), number
            pack(rows, mine, theirs)
            first += part.n_categories
        return rows

    @classmethod
    def check_params(cls, rows: Params) -> None:
        """See `Generator.check_params`."""
        if not np.isin(rows["kind"], range(len(KINDS))).all():
            raise ArgumentError(f"a recipe of the mixed generator is of kind {rows['kind'].tolist()}")
        for kind, _, part in split(rows):
            kind.check_params(part)

    @property
    def needs_extremes(self) -> bool:
        """Whether any part needs them."""
        return any(part.needs_extremes for part in self.parts)

    def parameters(self, shape: Shape, rows: Params) -> dict[str, Parameter]:
        """Those of each part under its name, zero where a video is of another: perlin_frequency, fractal_variant, ..."""
        names = [part.name for part in self.parts]
        found = {"part": Parameter(rows["part"].copy(), (), ", ".join(f"{i} {name}" for i, name in enumerate(names)))}
        for number, part in enumerate(self.parts):
            prefix = part.name if names.count(part.name) == 1 else f"{part.name}_{number}"
            mine = rows["part"] == number
            for name, (values, dims, about) in part.parameters(shape, unpack(rows[mine], type(part))).items():
                all_values = np.zeros((len(rows), *values.shape[1:]), values.dtype)
                all_values[mine] = values
                found[f"{prefix}_{name}"] = Parameter(all_values, dims, about)
        return found

    @staticmethod
    def reference(row: np.void, t: npt.NDArray[np.int64], y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> Any:
        """That of the row's generator."""
        kind = KINDS[row["kind"]]
        return kind.reference(np.frombuffer(row["row"].tobytes(), kind.params_dtype, 1)[0], t, y, x)


def pack(rows: Params, which: npt.NDArray[Any], theirs: Params) -> None:
    """Put rows of one generator into those rows of the mixture."""
    packed = np.zeros((len(theirs), MOST_BYTES), np.uint8)
    packed[:, : theirs.dtype.itemsize] = np.ascontiguousarray(theirs).view(np.uint8).reshape(-1, theirs.dtype.itemsize)
    rows["row"][which] = packed.view(f"V{MOST_BYTES}")[:, 0]


def unpack(rows: Params, kind: type[Generator]) -> Params:
    """The rows of one generator that rows of the mixture hold."""
    bytes_ = np.ascontiguousarray(rows["row"]).view(np.uint8).reshape(len(rows), MOST_BYTES)
    return np.ascontiguousarray(bytes_[:, : kind.params_dtype.itemsize]).view(kind.params_dtype)[:, 0]


def split(rows: Params) -> Iterator[tuple[type[Generator], npt.NDArray[np.int64], Params]]:
    """Each generator that rows of the mixture are of, which they are, and its own rows."""
    for number in np.unique(rows["kind"]):
        which = np.flatnonzero(rows["kind"] == number)
        yield KINDS[number], which, unpack(rows[which], KINDS[number])

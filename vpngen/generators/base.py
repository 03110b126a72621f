"""What every generator of videos provides: a frozen, validated value that turns indices into params and params into pixels.

All that the rest of vpngen asks of a generator stands on its class. A new one is a module with a subclass, and a line in
the list of `vpngen.generators`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vpngen import checks, rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.fields import Field, described
from vpngen.floats import F32
from vpngen.rng import Integers, Words

Pixels = npt.NDArray[np.uint8]
Params = np.ndarray[Any, np.dtype[np.void]]
"""The numbers that make videos, one packed record a video; the dtype is the generator's `params_dtype`."""
Progress = Callable[[int, int], None]
"""Called with (done, of) while something takes long."""


class Parameter(NamedTuple):
    """One array of per-video parameters, stored beside the pixels.

    `values` has shape (sample, *dims), `dims` names the axes after the sample, `about` says what it holds.
    """

    values: npt.NDArray[Any]
    dims: tuple[str, ...]
    about: str


class Factor(NamedTuple):
    """One of the numbers that a category is made of, of which a network can have a head each.

    `values` are what it can be, numbers or words, in order; `unit` says what they are.
    """

    name: str
    values: tuple[Any, ...]
    unit: str = ""


class Seen(NamedTuple):
    """Which shape each pixel shows, and whether the next frame hides what it shows.

    `shapes` is int32 (T, Y, X), -1 for what lies behind all of them; `hidden` is bool (T, Y, X).
    """

    shapes: npt.NDArray[np.int32]
    hidden: npt.NDArray[np.bool]


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


def uniform(keys: Words, purpose: int, slot: int = 0) -> npt.NDArray[np.float64]:
    """Four numbers for each video, uniform in [0, 1): (N, 4) for keys (N, 2). By a division alone, so alike everywhere."""
    return rng.philox4x32(rng.counters(purpose, 0, slot), keys) / 2.0**32


def usual_counts(categories: int | None, about: str, instances: int, shape: Shape) -> tuple[Field, ...]:
    """The options that all generators have, with the defaults of one; `about` says what its categories are."""
    return (
        Field("categories", "int", categories, about),
        Field("instances", "int", instances, "Videos of each category."),
        Field("val_instances", "int", 0, "Videos of each category in the val split."),
        Field("seed", "int", 0, "Another seed, other videos."),
        Field("shape", "Shape", shape, "Frames, height, width."),
    )


@dataclasses.dataclass(frozen=True)
class Generator(ABC):
    """A family of formulas. Subclasses are frozen dataclasses; their fields are the parameters.

    A field made by `vpngen.fields.field` with help is an option of `vpngen.Spec.make` and of the command line.

    Attributes:
        name: in specs, stores and on the command line.
        short: what the names of its sets begin with.
        title: what people call its videos.
        params_dtype: the record of one video, little-endian and without gaps, of at most 256 bytes.
        counts: what `usual_counts` makes: how many categories, instances and pixels a set has where nothing is said.
        made_from: options of `from_counts` that are no fields, or that take other values than the field.
        presets: named sets: what `Spec.make` is given, and `about`, their place in a paper.
        later: fields that came after the first sets of the generator were made. Specs do not name them where they have their
            default, so that the fingerprints of those sets stay.
        trial: a small set of videos of at least 64 x 80 x 200, on which `vpngen doctor` compares the backends: what
            `Spec.make` is given.
    """

    name: ClassVar[str]
    short: ClassVar[str]
    title: ClassVar[str]
    params_dtype: ClassVar[np.dtype[np.void]]
    counts: ClassVar[tuple[Field, ...]] = ()
    made_from: ClassVar[tuple[Field, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    trial: ClassVar[Mapping[str, Any]] = {}
    later: ClassVar[tuple[str, ...]] = ()

    # --- how one is made

    @classmethod
    def options(cls) -> list[Field]:
        """What a set is made from: the counts, what `from_counts` takes, and the fields that have help."""
        own = {f.name: f for f in (*cls.counts, *cls.made_from)}
        return [*own.values(), *(f for f in described(cls) if f.name not in own)]

    @classmethod
    @abstractmethod
    def from_counts(cls, categories: int | None, shape: Shape, progress: Progress | None, **options: Any) -> Self:
        """One with `categories` for videos of `shape` (t, y, x), from the `options` that were given, others at their defaults.

        Raises:
            ArgumentError: a value that is not allowed.
        """

    @classmethod
    def missing(cls) -> str | None:
        """What of the files that come with it is damaged or missing, and what to do; None where all is well."""
        return None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: an unknown field, or a value that the generator does not allow.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        checks.known("parameter", fields, defaults, f"the {cls.name} generator")
        if lacking := [k for k, default in defaults.items() if default is dataclasses.MISSING and k not in fields]:
            raise ArgumentError(f"the {cls.name} generator needs `{lacking[0]}`, which is missing")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, one entry a field; see `later`."""
        fields = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        values = {name: value for name, value, default in fields if name not in self.later or value != default}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    # --- its categories

    @property
    @abstractmethod
    def n_categories(self) -> int:
        """The number of labels."""

    @abstractmethod
    def category(self, category_id: int) -> tuple[Any, ...]:
        """What a label means; `category_id` in [0, n_categories)."""

    @abstractmethod
    def category_id(self, category: tuple[Any, ...]) -> int:
        """The inverse of `category`. Raises ArgumentError where this set has no such category."""

    def label(self, category_id: int) -> int:
        """`category_id` as one of the labels. Raises ArgumentError outside [0, n_categories)."""
        return checks.integer("category_id", category_id, 0, self.n_categories - 1)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What categories are made of, the first one varying slowest from label to label: the product of their values."""
        return (Factor("category", tuple(range(self.n_categories))),)

    def factor_ids(self, category_ids: Integers) -> Integers:
        """Which value of each factor labels (N,) have: int64 (N, factors)."""
        sizes = [len(factor.values) for factor in self.factors]
        return np.stack(np.unravel_index(np.asarray(category_ids, np.int64), sizes), axis=-1)

    @property
    def handed(self) -> bool:
        """Whether the mirror image of a video may be of another category."""
        return False

    def members(self) -> list[tuple[int, Generator]]:
        """The generators whose labels these are, each with the first of them: of a mixture its parts."""
        return [(0, self)]

    # --- from indices to pixels

    @abstractmethod
    def check(self, shape: Shape) -> None:
        """Raise ArgumentError unless videos of `shape` (t, y, x) can be made."""

    @abstractmethod
    def params(self, shape: Shape, keys: Words, category_ids: Integers, instances: Integers) -> Params:
        """The params of videos: a record of `params_dtype` for each key (N, 2), category id (N,) and number within it (N,)."""

    @abstractmethod
    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        """The parameters of videos in the words of the paper, for storing beside the pixels; axis 0 is the sample."""

    @classmethod
    @abstractmethod
    def check_params(cls, params: Params) -> None:
        """Raise ArgumentError unless params (N,) that came from outside are safe to hand to a compiled kernel."""

    @property
    def needs_extremes(self) -> bool:
        """Whether params are complete only after `with_extremes`."""
        return False

    def with_extremes(self, params: Params, low: F32, high: F32) -> Params:
        """`params` completed by the least and greatest value (N,) of each video, as `params` without them give it."""
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def reference(params: np.void, t: Integers, y: Integers, x: Integers) -> F32:
        """The grey levels of one video before rounding down, at frames `t`, rows `y`, columns `x`: float32 (T, Y, X).

        This is the definition of the format: other backends must give its bytes.
        """

    # --- where things go

    @property
    def truth(self) -> tuple[str, ...]:
        """What is known of every pixel beside its grey: nothing, `motion`, or `motion`, `shape` and `hidden`; see `known`."""
        return ()

    def check_moves(self) -> None:
        """Raise ArgumentError where videos of this generator have no motion that is known."""
        if "motion" not in self.truth:
            raise ArgumentError(f"has no motion that is known: {self.title} changes in place", "generator", self.name)

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where the common motion takes a pixel (x, y) of videos `params` (N,) of `shape` in `steps` (N,) frames, less where it was.

        float64 (N, 2, 3): (dx, dy) = motion @ (x, y, 1) in pixels, x to the right and y downwards from (0, 0), the first pixel.

        Raises:
            ArgumentError: videos of this generator have no motion that is known.
        """
        self.check_moves()
        raise NotImplementedError

    def known(
        self, name: str, shape: Shape, params: np.void, t: Integers, y: Integers, x: Integers, step: int
    ) -> npt.NDArray[Any]:
        """What is known of pixels at frames `t`, rows `y`, columns `x` of a video of `shape`: `name` is one of `truth`.

        `motion` is where what is seen there is `step` frames later, less where it is: float32 (T, Y, X, 2), (dx, dy) in pixels, x to
        the right and y downwards; here that is the common motion, the same in all frames. `shape` is which shape is seen, int32
        (T, Y, X), -1 for what lies behind all; `hidden` is whether it is hidden `step` frames later, bool (T, Y, X).

        Raises:
            ArgumentError: that is not known of videos of this generator.
        """
        if name != "motion":
            raise ArgumentError("has no shapes that hide each other", "generator", self.name)
        m = self.motion(shape, np.array([params]), step)[0]
        one = np.stack([row[0] * x + (row[1] * y[:, None] + row[2]) for row in m], axis=-1).astype(np.float32)
        return np.broadcast_to(one, (len(t), *one.shape))

    # --- how it is looked at

    @property
    def grows(self) -> bool:
        """Whether a video adds to what its frames showed before."""
        return False

    def facts(self, shape: Shape) -> list[tuple[str, str]]:
        """What there is to know beside the counts: (name, value)."""
        fields = self.to_dict().items()
        return [(name, ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for name, v in fields]

    def advice(self, shape: Shape) -> list[str]:
        """What of the options is probably not meant for videos of `shape` (t, y, x), and what to give instead."""
        return []

    def caption(self, category_id: int, params: np.void) -> str:
        """What a video shows: its category, or more than that."""
        return str(self.category(category_id))

    def plane(self, temporal: int | None) -> Plane | None:
        """The plane on which the categories lie, at one value of D; None where they are a list.

        Raises:
            ArgumentError: no such D.
        """
        return None

    def still(self, shape: Shape, frames: tuple[int, int] | None, temporal: int | None) -> int:
        """The frame that shows most: of `frames` (start, stop), or of the whole video."""
        return frames[0] if frames is not None else shape[0] // 2

    def moving(self, shape: Shape) -> int:
        """How many frames from the beginning show how a video moves."""
        return min(64, shape[0])


GENERATORS: Final[dict[str, type[Generator]]] = {}
"""Name -> generator; `vpngen.generators` holds the list that fills it."""


def named(fields: Any, allowed: Collection[str]) -> Generator:
    """The generator that `fields` are the `name` and the parameters of. Raises ArgumentError where it is not `allowed`."""
    name = fields.get("name") if isinstance(fields, Mapping) else None
    if not isinstance(name, str) or name not in allowed:
        must = f"must have the name of {' or '.join(allowed)}, and parameters"
        raise ArgumentError(must, "generator", fields if name is None else name)
    return GENERATORS[name].from_dict({k: v for k, v in fields.items() if k != "name"})

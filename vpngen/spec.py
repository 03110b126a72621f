"""A spec names a whole dataset: generator, counts, shape, seed, format version. It is a value and reads and writes JSON."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from vpngen import checks, files, rng
from vpngen.errors import ArgumentError, shown
from vpngen.fields import keep
from vpngen.generators import GENERATORS, Generator, Mixed, Parameter, Params, Progress, Shape
from vpngen.generators.base import named
from vpngen.units import count_text

FORMAT_VERSION: Final = 1
"""The version of the byte contract. A change of any golden digest is a new version; old ones keep rendering."""
SPLITS: Final = ("train", "val")
MAX_VIDEOS: Final = 2**48

_Maker = TypeVar("_Maker", bound=Callable[..., Any])


def check_version(value: Any) -> int:
    """`value` as a format version that this vpngen renders. Raises ArgumentError."""
    version = checks.integer("format_version", value, 1, 2**16 - 1)
    if version > FORMAT_VERSION:
        problem = f"is newer than this vpngen knows ({FORMAT_VERSION}); upgrade with: pip install --upgrade vpngen"
        raise ArgumentError(problem, "format_version", version)
    return version


def _counted(categories: int, instances: Any, val_instances: Any, seed: Any) -> dict[str, Any]:
    """The counts of a set of so many categories at least, and its seed, as integers. Raises ArgumentError."""
    most = MAX_VIDEOS // categories
    return {
        "instances": checks.integer("instances", instances, 1, most),
        "val_instances": checks.integer("val_instances", val_instances, 0, most),
        "seed": checks.integer("seed", seed, 0, checks.SEEDS),
    }


@dataclass(frozen=True)
class Spec:
    """A dataset as a formula: the bytes of every video are a function of (format version, spec, split, index).

    Videos are in instance-major order: index = instance * n_categories + category, so any run of n_categories indices
    holds every class once, and the first instances of a larger set are those of a smaller one.

    Attributes:
        generator: the formula and its parameters.
        instances: videos of each category in the train split.
        val_instances: videos of each category in the val split; they are other videos than those of train.
        shape: (t, y, x) of a video: frames, height, width; each from 1 to 65,536.
        seed: in [0, 2**64).
        format_version: of the byte contract.

    Raises:
        ArgumentError: a value out of range, or a generator that cannot make this shape.
    """

    generator: Generator
    instances: int = 512
    val_instances: int = 0
    shape: Shape = (240, 240, 240)
    seed: int = 0
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.generator, Generator):
            raise ArgumentError("must be a generator such as that of vpngen.perlin()", "generator", self.generator)
        checked = _counted(self.generator.n_categories, self.instances, self.val_instances, self.seed)
        version, shape = check_version(self.format_version), checks.shape("shape", self.shape)
        keep(self, format_version=version, shape=shape, **checked)
        self.generator.check(self.shape)

    def __repr__(self) -> str:
        counts = f"{count_text(self.n_categories, 'category')}, train {count_text(self.n_videos(), 'video')}"
        val = f", val {self.n_videos('val'):,}" if self.val_instances else ""
        return f"Spec({self.generator.name}: {counts}{val} of {self.shape}, seed {self.seed}, fingerprint {self.fingerprint[:8]})"

    # --- JSON both ways

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `from_dict` takes back."""
        return {
            "format_version": self.format_version,
            "generator": {"name": self.generator.name, **self.generator.to_dict()},
            "instances": self.instances,
            "val_instances": self.val_instances,
            "shape": list(self.shape),
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ArgumentError where the fields are not those of a spec."""
        known = {f.name for f in dataclasses.fields(cls)}
        if (
            isinstance(fields, Mapping) and "format_version" in fields
        ):  # before its fields: a newer format may have others
            check_version(fields["format_version"])
        if not isinstance(fields, Mapping) or set(fields) != known:
            raise ArgumentError(
                f"a spec has the fields {sorted(known)}, not {shown(list(fields) if isinstance(fields, Mapping) else fields)}"
            )
        return cls(**{**fields, "generator": named(fields["generator"], GENERATORS)})

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises ArgumentError where `text` is not a spec."""
        try:
            fields = files.parse_json(text)
        except ValueError as error:
            raise ArgumentError(f"a spec must be JSON: {error}") from None
        return cls.from_dict(fields)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    # --- from counts

    @classmethod
    def make(cls, generator: str, *, progress: Progress | None = None, **options: Any) -> Spec:
        """A set made from counts and other options of its generator; those that are not given have its defaults.

        >>> Spec.make("perlin", categories=16, instances=4).n_videos()
        64

        Args:
            generator: its name, one of `vpngen.generators.GENERATORS`.
            progress: called with (categories found, categories) while categories are searched for.
            options: what `options` of the generator's class lists: categories, instances, val_instances, seed, shape, ...

        Raises:
            ArgumentError: an unknown generator or option, or a value that is not allowed.
        """
        checks.one_of("generator", generator, GENERATORS)
        kind = GENERATORS[generator]
        checks.known("argument", options, [f.name for f in kind.options()], f"the {generator} generator")
        given = {**{f.name: f.default for f in kind.counts}, **options}
        categories, shape = given.pop("categories", None), checks.shape("shape", given.pop("shape"))
        counts = {f.name: given.pop(f.name) for f in kind.counts if f.name in given}
        few = categories if checks.is_integer(categories) and 0 < categories <= MAX_VIDEOS else 1
        _counted(few, **counts)  # before a search, which can take minutes
        return cls(kind.from_counts(categories, shape, progress, **given), shape=shape, **counts)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Spec:
        """One of the sets the papers train on; `changes` are options of `make`.

        >>> Spec.preset("vpn-400x200").n_videos("train")
        80000

        Raises:
            ArgumentError: an unknown name, with the known ones.
        """
        options = presets()[checks.one_of("preset", name, presets())]
        return cls.make(**{**{k: v for k, v in options.items() if k != "about"}, **changes})

    # --- what is in the set

    @property
    def n_categories(self) -> int:
        """The number of labels."""
        return self.generator.n_categories

    def n_videos(self, split: str = "train") -> int:
        """The number of videos of a split."""
        return self.n_categories * (self.instances, self.val_instances)[self.split_id(split)]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold videos."""
        return tuple(s for s in SPLITS if self.n_videos(s))

    @staticmethod
    def split_id(split: str) -> int:
        """0 for train, 1 for val. Raises ArgumentError for any other."""
        return SPLITS.index(checks.one_of("split", split, SPLITS))

    @functools.cached_property
    def family(self) -> str:
        """The fingerprint of this set with one instance: that of all sets of which one is the beginning of another."""
        return dataclasses.replace(self, instances=1, val_instances=0).fingerprint

    def begins(self, other: Spec) -> bool:
        """Whether the videos of this set are the first ones of another, in each split; so are all of them of the set itself."""
        fewer = self.instances <= other.instances and self.val_instances <= other.val_instances
        return self == other or (fewer and self.family == other.family)

    @property
    def video_bytes(self) -> int:
        """Bytes of one video: one a pixel."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of all splits."""
        return sum(self.n_videos(s) for s in SPLITS) * self.video_bytes

    def indices(self, indices: npt.ArrayLike, split: str = "train") -> npt.NDArray[np.int64]:
        """`indices` as an int64 array, checked to be within the split. Raises ArgumentError."""
        array = np.asarray(indices)
        if array.dtype.kind not in "iu":
            raise ArgumentError(f"video indices must be integers, not {array.dtype}")
        n = self.n_videos(split)
        if array.size and not (array.min() >= 0 and array.max() < n):
            bad = array[(array < 0) | (array >= n)].flat[0]
            raise ArgumentError(f"video index {bad} is outside the {split} split of {n} videos (0 to {n - 1})")
        return array.astype(np.int64)

    def label(self, index: int, split: str = "train") -> int:
        """The category id of a video of a split. Raises ArgumentError where the split has no such video."""
        return int(self.labels(index, split))

    def labels(self, indices: npt.ArrayLike, split: str = "train") -> npt.NDArray[np.int64]:
        """The category ids of videos of a split, of the shape of `indices`. Raises ArgumentError as `label`."""
        return self.indices(indices, split) % self.n_categories

    def category(self, category_id: int) -> tuple[Any, ...]:
        """What a label means: (W, H, D) for perlin; numbers or words."""
        return self.generator.category(category_id)

    def category_id(self, category: tuple[Any, ...]) -> int:
        """The inverse of `category`."""
        return self.generator.category_id(category)

    def params(self, indices: npt.ArrayLike, split: str = "train") -> Params:
        """The params of videos: records (N,) of the generator's `params_dtype` for indices (N,)."""
        checked = np.atleast_1d(self.indices(indices, split))
        keys = rng.video_keys(self.seed, self.split_id(split), checked, self.format_version)
        return self.generator.params(self.shape, keys, checked % self.n_categories, checked // self.n_categories)

    def parameters(self, indices: npt.ArrayLike, split: str = "train") -> dict[str, Parameter]:
        """The drawn parameters of videos in the words of the paper, arrays with the sample as axis 0."""
        return self.generator.parameters(self.shape, self.params(indices, split))


def presets() -> dict[str, dict[str, Any]]:
    """Name -> what `Spec.make` is given for it, with the `generator`, and `about`: its place in the paper."""
    kinds = GENERATORS.values()
    return {name: {"generator": kind.name, **options} for kind in kinds for name, options in kind.presets.items()}


def _documented(make: _Maker) -> _Maker:
    """`make`, whose docstring lists all options of the generator of its name."""
    options = GENERATORS[make.__name__].options()
    lines = [f"{f.name}: {f.help}" + f" One of {', '.join(f.choices)}." * bool(f.choices) for f in options]
    lines.append("progress: called with (categories found, categories) while they are searched for.\n\n    Raises:")
    lines.append("ArgumentError: an unknown option, a value that is not allowed, or counts that cannot be made.")
    make.__doc__ = "\n        ".join([f"{make.__doc__}\n\n    Args:", *lines])
    return make


@_documented
def perlin(
    categories: int = 256,
    instances: int = 512,
    *,
    val_instances: int = 0,
    shape: Shape = (240, 240, 240),
    seed: int = 0,
    **options: Any,
) -> Spec:
    """A set of Video Perlin Noise; where nothing is said, that of the paper. See `Spec.make`."""
    counts: Any = {"categories": categories, "instances": instances, "val_instances": val_instances, "shape": shape}
    return Spec.make("perlin", **counts, seed=seed, **options)


@_documented
def fractal(
    categories: int | None = None,
    instances: int = 1000,
    *,
    val_instances: int = 0,
    shape: Shape = (100, 362, 362),
    seed: int = 0,
    **options: Any,
) -> Spec:
    """A set of Video Fractal; where nothing is said, that of the paper. See `Spec.make`."""
    counts: Any = {"categories": categories, "instances": instances, "val_instances": val_instances, "shape": shape}
    return Spec.make("fractal", **counts, seed=seed, **options)


@_documented
def drift(
    categories: int | None = None,
    instances: int = 512,
    *,
    val_instances: int = 0,
    shape: Shape = (240, 240, 240),
    seed: int = 0,
    **options: Any,
) -> Spec:
    """A set of noise that an affine motion carries along; the motion is the label. See `Spec.make`."""
    counts: Any = {"categories": categories, "instances": instances, "val_instances": val_instances, "shape": shape}
    return Spec.make("drift", **counts, seed=seed, **options)


@_documented
def clouds(
    categories: int | None = None,
    instances: int = 512,
    *,
    val_instances: int = 0,
    shape: Shape = (240, 240, 240),
    seed: int = 0,
    **options: Any,
) -> Spec:
    """A set of Motion Clouds: textures that go in a direction. See `Spec.make`."""
    counts: Any = {"categories": categories, "instances": instances, "val_instances": val_instances, "shape": shape}
    return Spec.make("clouds", **counts, seed=seed, **options)


@_documented
def leaves(
    categories: int | None = None,
    instances: int = 512,
    *,
    val_instances: int = 0,
    shape: Shape = (240, 240, 240),
    seed: int = 0,
    **options: Any,
) -> Spec:
    """A set of dead leaves in motion: shapes that hide each other. See `Spec.make`."""
    counts: Any = {"categories": categories, "instances": instances, "val_instances": val_instances, "shape": shape}
    return Spec.make("leaves", **counts, seed=seed, **options)


def mixed(*specs: Spec, names: Sequence[str] | None = None) -> Spec:
    """The categories of several specs in one label space: those of the first, then those of the next.

    >>> both = mixed(perlin(4, 10, shape=(96, 240, 240)), perlin(9, 10, shape=(96, 240, 240), temporal="slow"))
    >>> both.n_categories, both.category(4)
    (13, (1, 1, 1, 16))

    Fractals that have the shape of noise, which is longer and smaller than theirs, hardly grow in the end unless they are made with
    fewer `points_per_frame`; their generator's `advice(shape)` says how many.

    Args:
        specs: one or more, which differ in nothing but their generators.
        names: what errors call each of them, such as its file; None for its place among them.

    Raises:
        ArgumentError: specs that differ in anything else.
    """
    if not specs or not all(isinstance(spec, Spec) for spec in specs):
        raise ArgumentError("must be one spec or more", "specs")
    parts: list[Generator] = []
    for number, spec in enumerate(specs):
        for field in ("instances", "val_instances", "shape", "seed", "format_version"):
            here, first = getattr(spec, field), getattr(specs[0], field)
            if here != first:
                this, that = (names[i] if names is not None else f"spec {i}" for i in (number, 0))
                what = f"the specs must have one `{field}`, and {this} has {here}, {that} {first}"
                raise ArgumentError(f"{what}; make them with the same")
        parts += spec.generator.parts if isinstance(spec.generator, Mixed) else [spec.generator]
    return dataclasses.replace(specs[0], generator=Mixed(tuple(parts)))

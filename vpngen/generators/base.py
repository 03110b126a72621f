"""What every generator of videos provides: a frozen, validated value that turns indices into rows and rows into pixels."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vpngen.checks import Shape
from vpngen.errors import ArgumentError

Pixels = npt.NDArray[np.uint8]
Params = np.ndarray[Any, np.dtype[np.void]]
"""Recipes, one packed record a video; the dtype is the generator's `params_dtype`."""


class Parameter(NamedTuple):
    """One array of per-video parameters, stored beside the pixels.

    `values` has shape (sample, *dims), `dims` names the axes after the sample, `about` says what it holds.
    """

    values: npt.NDArray[Any]
    dims: tuple[str, ...]
    about: str


@dataclasses.dataclass(frozen=True)
class Generator(ABC):
    """A family of formulas. Subclasses are frozen dataclasses; their fields are the parameters."""

    name: ClassVar[str]
    params_dtype: ClassVar[np.dtype[np.void]]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: an unknown field, or a value that the generator does not allow.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ArgumentError(
                f"`{unknown[0]}` is not a parameter of the {cls.name} generator; known: {sorted(known)}"
            )
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if missing := sorted(needed - set(fields)):
            raise ArgumentError(f"the {cls.name} generator needs `{missing[0]}`, which is missing")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, one entry a field."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    @abstractmethod
    def n_categories(self) -> int:
        """The number of labels."""

    @abstractmethod
    def category(self, category_id: int) -> tuple[int, ...]:
        """What a label means; `category_id` in [0, n_categories)."""

    @abstractmethod
    def category_id(self, category: tuple[int, ...]) -> int:
        """The inverse of `category`. Raises ArgumentError where this set has no such category."""

    def label(self, category_id: int) -> int:
        """`category_id` as one of the labels. Raises ArgumentError outside [0, n_categories)."""
        integer = isinstance(category_id, (int, np.integer)) and not isinstance(category_id, bool)
        if not integer or not 0 <= category_id < self.n_categories:
            raise ArgumentError(f"must be an integer in [0, {self.n_categories})", "category_id", category_id)
        return int(category_id)

    def members(self) -> list[tuple[int, Generator]]:
        """The generators whose labels these are, each with the first of them: of a mixture its parts."""
        return [(0, self)]

    @abstractmethod
    def check(self, shape: Shape) -> None:
        """Raise ArgumentError unless videos of `shape` (t, y, x) can be made."""

    @abstractmethod
    def params(
        self,
        shape: Shape,
        keys: npt.NDArray[np.uint32],
        category_ids: npt.NDArray[np.int64],
        instances: npt.NDArray[np.int64],
    ) -> Params:
        """The recipes of videos: a record of `params_dtype` for each key (N, 2), category id (N,) and number within it (N,)."""

    @abstractmethod
    def parameters(self, shape: Shape, rows: Params) -> dict[str, Parameter]:
        """The parameters of videos in the words of the paper, for storing beside the pixels; axis 0 is the sample."""

    @classmethod
    @abstractmethod
    def check_params(cls, rows: Params) -> None:
        """Raise ArgumentError unless rows (N,) that came from outside are safe to hand to a compiled kernel."""

    @property
    def needs_extremes(self) -> bool:
        """Whether rows are complete only after `with_extremes`."""
        return False

    def with_extremes(self, rows: Params, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> Params:
        """`rows` completed by the least and greatest value (N,) that each video takes at gain 1 and bias 0."""
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def reference(
        row: np.void, t: npt.NDArray[np.int64], y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """The grey levels of one video before rounding down, at frames `t`, rows `y`, columns `x`: float32 (T, Y, X).

        This is the definition of the format: other backends must give its bytes.
        """

"""A set of real videos as people name it: what kind, where it is, which split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpngen import checks
from vpngen.datasets import VideoSet, hold_out, read_videos


@dataclass(frozen=True)
class DataConfig:
    """A labelled set of real videos.

    Attributes:
        kind: one of `vpngen.datasets.KINDS`.
        root: the folder of the videos.
        annotations: the folder or file that lists them; None for what lies in `root`.
        split: which of the official splits.
        val_fraction: the share of the training videos that validation takes, in [0, 1); 0 to validate on the test videos of
            the split, as the papers do.

    Raises:
        ArgumentError: `val_fraction` out of range.
    """

    kind: str
    root: Path
    annotations: Path | None = None
    split: int = 1
    val_fraction: float = 0.0

    def __post_init__(self) -> None:
        checks.number("val_fraction", self.val_fraction, lambda v: 0 <= v < 1, "in [0, 1)")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DataConfig:
        """The inverse of `to_dict`."""
        annotations = fields["annotations"] and Path(fields["annotations"])
        return cls(**{**fields, "root": Path(fields["root"]), "annotations": annotations})

    def sets(self, seed: int) -> tuple[VideoSet, VideoSet, VideoSet]:
        """The videos to train on, to validate on after each epoch, and to test on.

        What validation takes is drawn by `seed`; of a plain folder it is the test, and the same for every seed.
        """
        read = functools.partial(read_videos, self.kind, self.root, self.annotations, split=self.split)
        train = read(subset="train")
        if not self.val_fraction:
            test = read(subset="val")
            return train, test, test
        plain = self.kind == "folder" and not any((self.root / name).is_dir() for name in ("val", "test"))
        rest, held = hold_out(train, self.val_fraction, 0 if plain else seed)
        return rest, held, held if plain else read(subset="val")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them, with absolute paths."""
        annotations = self.annotations and str(self.annotations.absolute())
        return {**dataclasses.asdict(self), "root": str(self.root.absolute()), "annotations": annotations}

"""A store, opened for reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from vpngen.errors import ArgumentError
from vpngen.spec import Spec
from vpngen.store.layout import Layout, all_shards, is_finished, read_spec, store_plan


@dataclass(frozen=True)
class View:
    """One split of a store.

    Attributes:
        path: the store.
        spec: the dataset it holds.
        layout: how it is laid into files.
        split: `train` or `val`.
        video: uint8 (sample, t, y, x).
        label: category ids (sample,).
        parameters: the other arrays by name, with the sample as axis 0.
    """

    path: Path
    spec: Spec
    layout: Layout
    split: str
    video: zarr.Array[Any]
    label: zarr.Array[Any]
    parameters: dict[str, zarr.Array[Any]]

    def finished(self) -> bool:
        """Whether every shard of this split is there; videos of the others would read as zeros."""
        plan = store_plan(self.spec, self.layout)
        shards = (s for s in all_shards(self.spec, self.layout) if s.split == self.split)
        return all(is_finished(self.path, plan, s) for s in shards)


def open(path: str | Path, split: str = "train") -> View:
    """A split of the store at `path`, read through zarr-python.

    Raises:
        ArgumentError: nothing there, or no such split.
        ConflictError: not a store of vpngen, a damaged one, or one of a newer format version.
    """
    spec, layout = read_spec(path)
    spec.split_id(split)
    if split not in spec.splits:
        raise ArgumentError(f"`split` (={split!r}) is empty in {str(path)!r}; it has {', '.join(spec.splits)}")
    group = zarr.open_group(str(path), path=split, mode="r")
    arrays = dict(group.arrays())
    video, label = arrays.pop("video"), arrays.pop("label")
    return View(Path(path), spec, layout, split, video, label, arrays)

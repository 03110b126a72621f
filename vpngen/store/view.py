"""A dataset, opened for reading: a store, or a spec that is rendered as it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from vpngen.errors import ArgumentError
from vpngen.spec import Spec
from vpngen.store.layout import Layout, all_shards, is_finished, read_spec, store_plan
from vpngen.store.virtual import LAYOUT, SpecStore


@dataclass(frozen=True)
class View:
    """One split of a dataset.

    Attributes:
        path: the store; None where there is none, and everything is made as it is read.
        spec: the dataset it holds.
        layout: how it is laid into files.
        split: `train` or `val`.
        video: uint8 (sample, t, y, x).
        label: category ids (sample,).
        parameters: the other arrays by name, with the sample as axis 0.
    """

    path: Path | None
    spec: Spec
    layout: Layout
    split: str
    video: zarr.Array[Any]
    label: zarr.Array[Any]
    parameters: dict[str, zarr.Array[Any]]

    def finished(self) -> bool:
        """Whether every shard of this split is there; videos of the others would read as zeros."""
        if self.path is None:
            return True
        plan = store_plan(self.spec, self.layout)
        shards = (s for s in all_shards(self.spec, self.layout) if s.split == self.split)
        return all(is_finished(self.path, plan, s) for s in shards)


def open(path_or_spec: str | Path | Spec, split: str = "train") -> View:
    """A split of a dataset as zarr arrays: of the store at a path, or of a spec with no store at all.

    >>> import vpngen
    >>> view = vpngen.open(vpngen.perlin(categories=16, instances=2))
    >>> view.video.shape, view.video[31, :16, 64:176, 64:176].shape, int(view.label[31])
    ((32, 240, 240, 240), (16, 112, 112), 15)

    Args:
        path_or_spec: a store, or a spec: its videos are rendered when they are read, by the codec of formula stores.
        split: `train` or `val`.

    Raises:
        ArgumentError: nothing there, or no such split.
        ConflictError: not a store of vpngen, a damaged one, or one of a newer format version.
    """
    if isinstance(path_or_spec, Spec):
        path, (spec, layout), where = None, (path_or_spec, LAYOUT), "the spec"
        store: SpecStore | str = SpecStore(spec)
    else:
        path, (spec, layout), where = Path(path_or_spec), read_spec(path_or_spec), repr(str(path_or_spec))
        store = str(path)
    spec.split_id(split)
    if split not in spec.splits:
        raise ArgumentError(f"is empty in {where}; it has {', '.join(spec.splits)}", "split", split)
    arrays = dict(zarr.open_group(store, path=split, mode="r").arrays())
    video, label = arrays.pop("video"), arrays.pop("label")
    return View(path, spec, layout, split, video, label, arrays)

"""Sets that store where their pixels go: what is in them, whoever writes them, and what becomes of damage."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import zarr
from stores import tiny as still
from stores import tree

import vpngen
from vpngen import ArgumentError, ConflictError, RunError, Spec, Window
from vpngen.files import Folder
from vpngen.rendering import places, truth
from vpngen.store import Layout, read_spec, store_plan
from vpngen.store.layout import SHARDED, _checksum

SHAPE = (20, 8, 12)
ARRAYS = {"drift": ("motion",), "leaves": ("motion", "shape", "hidden")}
each_generator = pytest.mark.parametrize("generator", ARRAYS)


def moving(generator: str, **changes: Any) -> Spec:
    """Two directions of noise, or ten motions of shapes: shards of 4 videos, and a last one that is not full."""
    own = (
        {"motions": "directions", "cells": (6.0,), "octaves": (1,)}
        if generator == "drift"
        else {"sizes": (2.0,), "size_range": 1.5}
    )
    few = {
        "directions": 2,
        "speeds": (1.0,),
        "instances": 3 if generator == "drift" else 1,
        "val_instances": 1,
        "shape": SHAPE,
    }
    return Spec.make(generator, **{**few, **own, **changes})


def write(spec: Spec, path: Path, **options: Any) -> None:
    stores.write(spec, path, **{"backend": "numba", "with_motion": True, **options})


@pytest.fixture(scope="module", params=[("drift", "none"), ("leaves", "zstd")], ids="-".join)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Path]:
    """A finished store, for tests that change none of it."""
    generator, codec = request.param
    spec, path = moving(generator), tmp_path_factory.mktemp("whole") / "set.zarr"
    write(spec, path, codec=codec)
    return spec, path


def test_what_is_stored_is_what_motion_says(whole: tuple[Spec, Path]) -> None:
    spec, path = whole
    names = ARRAYS[spec.generator.name]
    for split in spec.splits:
        view, group = vpngen.open(path, split), zarr.open_group(path / split, mode="r")
        assert tuple(view.truth) == names and view.parameters.keys().isdisjoint(names)
        for index in range(spec.n_videos(split)):
            flow = vpngen.motion(spec, index, split=split)
            assert np.array_equal(view.truth["motion"][index], flow) and np.abs(np.asarray(flow)).max() > 0.3
        params = spec.params([index], split)[0]  # of the last one also what the reference has
        for name in names:
            known = spec.generator.known(name, SHAPE, params, *places((0, 1, 0, 0, 0), SHAPE), 1)
            stored: Any = group[name]
            assert np.array_equal(stored[index], known) and stored.dtype == known.dtype == SHARDED[name].dtype
        assert view.truth["motion"].metadata.dimension_names == ("sample", "t", "y", "x", "axis")  # type: ignore[union-attr]
    assert vpngen.verify(path, render=True).problems == ()


def test_other_readers_open_it(whole: tuple[Spec, Path]) -> None:
    xarray, tensorstore = pytest.importorskip("xarray"), pytest.importorskip("tensorstore")
    spec, path = whole
    flow = np.stack([np.asarray(vpngen.motion(spec, index)) for index in range(spec.n_videos())])
    data = xarray.open_zarr(path / "train")
    assert np.array_equal(data.motion.isel(axis=0), flow[..., 0]) and data.motion.dims == (
        "sample",
        "t",
        "y",
        "x",
        "axis",
    )
    kvstore = f"file://{path.absolute()}/train/motion/"
    assert np.array_equal(tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result(), flow)


# --- whoever writes it, and however often they are stopped


def test_slices_and_growth_come_to_the_same_store(whole: tuple[Spec, Path], tmp_path: Path) -> None:
    spec, path = whole
    codec = read_spec(path)[1].codec
    sliced, grown = tmp_path / "sliced.zarr", tmp_path / "grown.zarr"
    for part in ((2, 3), (1, 3), (3, 3)):
        write(spec, sliced, codec=codec, slice=part)
    for counts in ({"instances": 1, "val_instances": 0}, {"val_instances": 0}, {}):
        write(Spec.from_dict({**spec.to_dict(), **counts}), grown, codec=codec)
    assert tree(sliced) == tree(grown) == tree(path)


@pytest.mark.parametrize("call", ["rename", "open"])
def test_a_writer_that_is_stopped_anywhere_goes_on(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two files of a shard: what has a record is whole, and the same command gives the store that one run does."""
    spec, path = moving("drift", instances=2, val_instances=0), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole.zarr")
    before, real, stopped = tree(tmp_path / "whole.zarr"), getattr(Folder, call), 0
    for after in range(50):
        calls = iter(range(after))

        def stop(self: Folder, name: str, *more: Any, calls: Iterator[int] = calls) -> Any:
            if "/c." in name and next(calls, None) is None:
                raise OSError(5, "the disk is gone", name)
            return real(self, name, *more)

        with monkeypatch.context() as patch:
            patch.setattr(Folder, call, stop)
            with contextlib.suppress(RunError):
                write(spec, path)
                break
        stopped += 1
        there = tree(path)
        assert not any(name.endswith(".done") for name in there) or there == before
        write(spec, path)
        assert tree(path) == before
        shutil.rmtree(path)
    assert stopped > 2 and tree(path) == before


# --- damage


@pytest.mark.parametrize("repair", [False, True])
def test_damage_of_any_file_is_found_and_repaired(whole: tuple[Spec, Path], repair: bool, tmp_path: Path) -> None:
    spec, path = whole
    before = tree(path)
    for array in ("video", *ARRAYS[spec.generator.name]):
        store = stores.copy(path, tmp_path / "set.zarr")
        shard = store_plan(*read_spec(store)).shards[1]
        file = store / shard.file(array)
        data = bytearray(file.read_bytes())
        data[5] ^= 1  # of the first chunk
        file.write_bytes(data)
        (problem,) = vpngen.verify(store, repair=repair, backend="numba").problems
        assert (problem.path, problem.videos, problem.repaired) == (shard.file(array), (shard.first,), repair)
        if not repair:
            view = vpngen.open(store, shard.split)
            stored = (view.truth | {"video": view.video})[array]
            with pytest.raises(ValueError, match=r"checksum|zstd frame"):
                stored[shard.first]
        file.unlink() if not repair else file.write_bytes(b"")
        (problem,) = vpngen.verify(store, repair=repair, backend="numba").problems
        assert (problem.videos, problem.repaired) == (tuple(shard.videos), repair)
        if not repair:
            write(spec, store, codec=read_spec(store)[1].codec)  # a run mends what is not there
        assert tree(store) == before


def test_wrong_flow_under_right_checksums_is_found_by_rendering(tmp_path: Path) -> None:
    spec, other, path = moving("drift"), moving("drift", seed=1), tmp_path / "set.zarr"
    for each, to in ((spec, path), (other, tmp_path / "other.zarr")):
        write(each, to)
    before, shard = tree(path), store_plan(*read_spec(path)).shards[0]
    shutil.copy(tmp_path / "other.zarr" / shard.file("motion"), path / shard.file("motion"))
    assert [p.what for p in vpngen.verify(path).problems] == [
        "the digest does not match the record: a shard of another place or dataset"
    ]
    (problem,) = vpngen.verify(path, render=True, repair=True, backend="numba").problems
    assert problem.path == shard.file("motion") and len(problem.videos) > 1 and tree(path) == before


# --- what is refused


def test_sets_with_and_without_motion_are_different_ones(tmp_path: Path) -> None:
    spec = moving("drift")
    write(spec, tmp_path / "set.zarr", with_motion=False)
    plain = tree(tmp_path / "set.zarr")
    assert b"motion" not in plain["zarr.json"].split(b'"layout"')[1].split(b"}")[0]
    with pytest.raises(ConflictError, match=r"motion: False there, True asked for"):
        write(spec, tmp_path / "set.zarr")
    assert tree(tmp_path / "set.zarr") == plain
    write(spec, tmp_path / "set.zarr", overwrite=True)
    with pytest.raises(ConflictError, match=r"motion: True there, False asked for"):
        write(spec, tmp_path / "set.zarr", with_motion=False)


def test_what_has_no_motion_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    noise = still()
    both = vpngen.mixed(moving("drift"), noise)
    for spec, options, said in (
        (noise, {}, "perlin.* no motion that is known"),
        (both, {}, "perlin.* no motion that is known"),
        (moving("drift"), {"codec": "formula"}, "`with_motion` cannot be given with codec formula"),
        (moving("drift"), {"with_motion": 1}, "`with_motion` .=1. must be true or false"),
    ):
        with pytest.raises(ArgumentError, match=said):
            write(spec, tmp_path / "set.zarr", **options)
    assert not (tmp_path / "set.zarr").exists()
    mixture = vpngen.mixed(moving("drift", instances=1), moving("leaves"))  # what all parts know
    write(mixture, tmp_path / "set.zarr")
    view = vpngen.open(tmp_path / "set.zarr")
    assert tuple(view.truth) == ("motion",)
    assert all(np.array_equal(view.truth["motion"][i], vpngen.motion(mixture, i)) for i in range(mixture.n_videos()))


def test_a_layout_that_claims_motion_where_there_is_none(tmp_path: Path) -> None:
    """Of a store that somebody changed: a clear error, for every reader."""
    spec, path = still(), tmp_path / "set.zarr"
    write(spec, path, with_motion=False)
    text, claimed = (path / "zarr.json").read_text(), Layout("none", stores.SHARD_VIDEOS, motion=True)
    text = text.replace('"shard_videos": 4', '"shard_videos": 4,\n "motion": true')
    text = text.replace(_checksum(spec, Layout("none", stores.SHARD_VIDEOS)), _checksum(spec, claimed))
    (path / "zarr.json").write_text(text)
    for look in (vpngen.open, vpngen.verify):
        with pytest.raises(ConflictError, match=r"cannot be used.*no motion that is known"):
            look(path)


# --- dead leaves, whose truth has a second implementation


@pytest.mark.parametrize(
    "changes", [{}, {"stretch": 4, "growth": 1, "coverage": 3}, {"coverage": 0}, {"textured": 0, "own": 2.0, "turning": 40}], ids=str
)  # fmt: skip
def test_the_fast_way_finds_what_the_reference_does(changes: dict[str, Any]) -> None:
    pytest.importorskip("numba")
    shape = (30, 25, 33)
    spec = vpngen.leaves(instances=1, shape=shape, **changes)
    some = False
    for index in range(0, spec.n_videos(), 23):
        for window in (Window(t=(3, 6)), Window(t=(0, 29, 14), y=(5, 21), x=(3, 22))):
            packed, extent = window.pack(shape)
            params = spec.params([index])[0]
            for name in spec.generator.truth:
                fast = truth(spec, name, params, packed, extent)
                slow = spec.generator.known(name, shape, params, *places(packed, extent), packed[1])
                assert fast.dtype == slow.dtype and np.array_equal(fast, slow), (name, index, window)
                some |= name == "hidden" and bool(fast.any()) and not fast.all()
    assert some or changes.get("coverage") == 0

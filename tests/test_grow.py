"""A set that is asked for with more instances than there are: those that are there are its beginning, and stay."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from commands import Run
from stores import pixels, plan_of, tiny, tree, write

import vpngen
from vpngen import ConflictError, RunError, Spec
from vpngen.store import ClipReader, is_complete
from vpngen.store.layout import GROWN, read_store

KINDS = {
    "perlin": tiny(instances=7, val_instances=3),
    "fractal": vpngen.fractal(2, 7, val_instances=3, shape=(4, 32, 32), points_per_frame=100),
    "mixed": vpngen.mixed(
        tiny(instances=7, val_instances=3, shape=(20, 16, 16)),
        vpngen.fractal(1, 7, val_instances=3, shape=(20, 16, 16)),
    ),
}


def fewer(spec: Spec, instances: int, val_instances: int) -> Spec:
    return dataclasses.replace(spec, instances=instances, val_instances=val_instances)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("perlin", "none"), ("perlin", "formula"), ("fractal", "formula"), ("mixed", "zstd")],
)
def test_a_grown_store_is_the_one_that_is_rendered_at_once(kind: str, codec: str, tmp_path: Path) -> None:
    """Step by step, from shards that are full and not, with a split that was not there; unfinished in between, too."""
    spec, path = KINDS[kind], tmp_path / "set.zarr"
    write(spec, tmp_path / "whole", codec=codec)
    write(fewer(spec, 3, 0), path, codec=codec)
    first = plan_of(fewer(spec, 3, 0), codec).shards[0]
    kept = (path / first.key).stat()
    for counts in ((4, 1), (5, 1)):
        write(fewer(spec, *counts), path, codec=codec, slice=(2, 2))
        assert not is_complete(path)
    done = write(spec, path, codec=codec)
    assert done.kept >= first.count and done.rendered + done.kept == spec.n_videos() + spec.n_videos("val")
    assert tree(path) == tree(tmp_path / "whole")
    assert (path / first.key).stat().st_mtime_ns == kept.st_mtime_ns
    assert write(spec, path, codec=codec).rendered == 0


def test_slices_grow_it_together(tmp_path: Path) -> None:
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(fewer(spec, 3, 1), path)
    for i in (3, 1, 2):
        assert vpngen.verify(path, backend="reference").damaged is False
        write(spec, path, slice=(i, 3))
    assert tree(path) == tree(tmp_path / "whole")


def test_two_runs_grow_it_to_different_sizes(tmp_path: Path) -> None:
    """The smaller one began first, and goes on while the larger one has changed what the store holds."""
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(fewer(spec, 3, 1), path)
    grown: list[int] = []

    def grow(_: Any) -> None:
        if not grown:
            grown.append(1)
            with contextlib.suppress(ConflictError):  # the first run may hold a shard
                write(spec, path, slice=(1, 2))

    write(fewer(spec, 5, 2), path, progress=grow)
    assert vpngen.verify(path, backend="reference").damaged is False
    write(spec, path)
    assert tree(path) == tree(tmp_path / "whole")


@pytest.mark.parametrize("codec", ["zstd", "formula"])
def test_who_reads_the_smaller_set_goes_on(codec: str, tmp_path: Path) -> None:
    """Opened before it grew, and first read when it is half grown, and when it is grown."""
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    small = fewer(spec, 3, 1)
    write(small, path, codec=codec)
    views = [vpngen.open(path) for _ in range(2)]
    readers = [ClipReader(path, "train") for _ in range(2)] if codec != "formula" else []
    for view, slices in zip(views, ((99, 99), (1, 1)), strict=True):
        write(spec, path, codec=codec, slice=slices)
        np.testing.assert_array_equal(view.video[...], pixels(small))
        np.testing.assert_array_equal(view.label[...], small.labels(np.arange(6)))
        if readers:
            out, windows = np.empty((6, *small.shape), np.uint8), np.array([[0, 1, 0, 0, 0]] * 6, np.int32)
            readers.pop().read(np.arange(6), windows, out)
            np.testing.assert_array_equal(out, pixels(small))
        assert vpngen.open(path).finished() is (slices == (1, 1))
        np.testing.assert_array_equal(vpngen.open(path).video[:6], pixels(small))


def test_a_reader_waits_for_a_shard_that_is_between_two_records(tmp_path: Path) -> None:
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(fewer(spec, 3, 0), path)
    record = stores.record_file(path, plan_of(spec).shards[1])
    data = record.read_bytes()
    record.unlink()
    with pytest.raises(RunError, match="completion record"):
        vpngen.open(path).video[4]
    record.write_bytes(data)
    write(spec, path, slice=(99, 99))
    record.unlink()
    timer = threading.Timer(0.05, record.write_bytes, [data])
    timer.start()
    np.testing.assert_array_equal(vpngen.open(path).video[4], pixels(spec)[4])
    timer.join()


def test_while_it_grows_what_is_missing_is_pending_and_damage_is_damage(tmp_path: Path) -> None:
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(fewer(spec, 3, 0), path)
    write(spec, path, slice=(99, 99))
    found = vpngen.verify(path, backend="reference", render=True)
    assert not found.damaged and found.videos_of(pending=True) == 2 * (4 + 3)
    assert found.problems[0].what == "the set is being grown from 3 to 7 instances"
    assert [e.instances for e in read_store(path)[2]] == [3] and GROWN in (path / "zarr.json").read_text()
    shard = plan_of(spec).shards[1]
    data = bytearray((path / shard.key).read_bytes())
    data[0] ^= 1
    (path / shard.key).write_bytes(data)
    (hit,) = [p for p in vpngen.verify(path, backend="reference").problems if not p.pending]
    assert (hit.path, hit.videos) == (shard.key, (4,))
    assert vpngen.verify(path, backend="reference", repair=True).whole
    assert tree(path) == tree(tmp_path / "whole")


def test_while_it_grows_it_does_not_shrink(tmp_path: Path) -> None:
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(fewer(spec, 3, 1), path)
    write(fewer(spec, 5, 1), path, slice=(99, 99))
    before = tree(path)
    with pytest.raises(ConflictError, match=r"instances: 5 there, 3 asked for\n.*does not shrink"):
        write(fewer(spec, 3, 1), path)
    assert tree(path) == before


def test_the_first_moment_changes_nothing(tmp_path: Path) -> None:
    """What a run leaves that was killed before the root metadata had its name is no damage, and goes."""
    spec, path = KINDS["perlin"], tmp_path / "set.zarr"
    write(fewer(spec, 3, 1), path)
    before = tree(path)
    (path / "zarr.json.partial").write_bytes(b"{")
    found = vpngen.verify(path, backend="reference")
    assert not found.damaged and [p.path for p in found.problems] == ["zarr.json.partial"]
    write(fewer(spec, 3, 1), path)
    assert tree(path) == before


def test_the_command_says_what_it_adds(run: Run, tmp_path: Path) -> None:
    args = ["set.zarr", "--divisions", "1,2", "--shape", "16x16x16", "--shard-videos", "3", "--backend", "reference"]
    args += ["--noise-frequencies", "1"]
    assert run("render", *args, "--instances", "4").code == 0
    before = tree(tmp_path)
    dry = run("render", *args, "--instances", "5", "--dry-run")
    assert dry.code == 0 and tree(tmp_path) == before
    assert "grows   from 4 to 5 instances: 4 videos more; a last shard" in dry.out
    fields = run("render", *args, "--instances", "5", "--dry-run", "--format", "json").json
    assert fields["grows_from"] == {"instances": 4, "val_instances": 0}
    assert (fields["new_videos"], fields["videos"], fields["kept"]) == (4, 5, 15)
    assert run("render", *args, "--instances", "5").code == 0
    assert run("verify", "set.zarr", "--backend", "reference").code == 0
    assert run("render", *args, "--instances", "5", "--dry-run", "--format", "json").json["grows_from"] is None
    shrunk = run("render", *args, "--instances", "4")
    assert shrunk.code == 3 and "a set grows, but does not shrink" in shrunk.err

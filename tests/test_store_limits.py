"""Limits of the system that a store meets: reads that end early, few open files, folders that others own."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpngen
from vpngen.errors import ConflictError, RunError
from vpngen.store import ClipReader

SPEC = vpngen.perlin(2, 20, shape=(4, 6, 8), temporal=2, divisions=[1, 2], noise_terms=0)
WHOLE = np.array([[0, 1, 0, 0, 0]], np.int32)


def pixels_of(reader: ClipReader, video: int) -> Any:
    out = np.empty((1, *SPEC.shape), np.uint8)
    reader.read(np.array([video]), WHOLE, out)
    return out[0]


@pytest.mark.parametrize("codec", ["none", "zstd", "formula"])
def test_a_read_that_ends_early_goes_on(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one above 2 GiB does: the system gives 2,147,479,552 bytes at a time."""
    vpngen.write(SPEC, tmp_path / "a.zarr", codec=codec)
    pread, preadv, calls = os.pread, os.preadv, list[int]()

    def little(fd: int, size: int, offset: int) -> bytes:
        calls.append(size)
        return pread(fd, min(size, 50), offset)

    monkeypatch.setattr(os, "pread", little)
    monkeypatch.setattr(os, "preadv", lambda fd, to, offset: preadv(fd, [to[0][:50]], offset))
    expected = vpngen.render(SPEC, 5)
    assert vpngen.verify(tmp_path / "a.zarr", render=True).whole
    assert np.array_equal(vpngen.open(tmp_path / "a.zarr").video[5], expected)
    if codec != "formula":
        assert np.array_equal(pixels_of(ClipReader(tmp_path / "a.zarr", "train"), 5), expected)
    assert max(calls) > 50


def test_readers_share_the_files_that_a_process_may_open(tmp_path: Path) -> None:
    vpngen.write(SPEC, tmp_path / "a.zarr", codec="none", shard_videos=1)
    limits, used = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd"))
    early = [ClipReader(tmp_path / "a.zarr", "train") for _ in range(2)]
    expected = vpngen.render(SPEC, list(range(80)))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, limits[1]))
        late = [ClipReader(tmp_path / "a.zarr", "train") for _ in range(2)]
        for video in range(80):
            for reader in early + late:
                assert np.array_equal(pixels_of(reader, video), expected[video])
        assert len({reader._shard.cache_info().maxsize for reader in early + late}) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


REFUSED = {
    "parent of others": errno.EACCES,
    "read-only parent": errno.EROFS,
    "mount point": errno.EBUSY,
    "overlay": errno.EXDEV,
}


@pytest.fixture(params=REFUSED)
def fixed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that cannot be renamed, or in whose parent nothing can be made."""
    number, root = REFUSED[request.param], tmp_path / "mine"
    root.mkdir()
    mkdir, rename = Path.mkdir, os.rename

    def refused_mkdir(path: Path, *given: Any, **options: Any) -> None:
        if "parent" in request.param and path.parent == tmp_path and path != root:
            raise OSError(number, os.strerror(number), str(path))
        mkdir(path, *given, **options)

    def refused_rename(source: Any, target: Any, **options: Any) -> None:
        if root in (Path(source), Path(target)):
            raise OSError(number, os.strerror(number), str(source))
        rename(source, target, **options)

    monkeypatch.setattr(Path, "mkdir", refused_mkdir)
    monkeypatch.setattr(os, "rename", refused_rename)
    return root


THIRD, OTHER = (
    vpngen.perlin(2, 1, shape=(4, 6, 8), temporal=2, divisions=[1, 2], noise_terms=0, seed=seed) for seed in (1, 2)
)


def test_a_folder_that_is_there_and_empty_takes_a_store(fixed: Path) -> None:
    beside = set(fixed.parent.iterdir())
    assert vpngen.write(OTHER, fixed).rendered == 4 and vpngen.write(OTHER, fixed).kept == 4
    assert vpngen.verify(fixed, render=True).whole and set(fixed.parent.iterdir()) == beside
    with pytest.raises(ConflictError, match="another dataset"):
        vpngen.write(SPEC, fixed)
    assert vpngen.write(SPEC, fixed, overwrite=True).rendered == 80
    assert vpngen.verify(fixed).whole and set(fixed.parent.iterdir()) == beside


@pytest.mark.parametrize("fixed", ["parent of others"], indirect=True)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_that_is_built_in_its_folder_survives_being_stopped(
    fixed: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of the moving; another set may follow, and what is in the end there is that of an undisturbed run."""
    replace, rmtree, left = os.replace, shutil.rmtree, 0

    def stop(*given: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        replace(*given, **options)

    for step in range(3):
        left = step
        if overwrite:
            vpngen.write(OTHER, fixed, overwrite=step > 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            patch.setattr(shutil, "rmtree", lambda path, **options: None if options else rmtree(path))  # as if killed
            with pytest.raises(KeyboardInterrupt):
                vpngen.write(OTHER, fixed, overwrite=overwrite)
        vpngen.write(THIRD, fixed, overwrite=overwrite or (fixed / "zarr.json").exists())
        assert vpngen.verify(fixed).whole and not list(fixed.glob(".*"))
        if not overwrite:
            rmtree(fixed)
            os.mkdir(fixed)


def test_what_others_keep_in_a_folder_stays(fixed: Path) -> None:
    (fixed / "train").mkdir()
    (fixed / "train/mine").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises((ConflictError, RunError)):
            vpngen.write(OTHER, fixed, overwrite=overwrite)
    assert (fixed / "train/mine").read_text() == "precious"

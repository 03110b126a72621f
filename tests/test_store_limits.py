"""Limits of the system that a store meets: reads that end early, few open files, folders that others own."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpngen
from vpngen.store import ClipReader

SPEC = vpngen.perlin(2, 40, shape=(4, 6, 8), temporal=2, divisions=[1, 2], noise_terms=0)
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

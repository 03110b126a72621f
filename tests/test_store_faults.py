"""Disks that are full, small or read-only, and memory: the run stops with one clear sentence, and goes on afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import pending, plan_of, small, tiny, tree, write

import vpngen
from vpngen import ConflictError, MissingError, RunError, executors
from vpngen.executors import check_space
from vpngen.store import CODECS, LocalTarget
from vpngen.store.targets import local
from vpngen.store.targets.local import SPARE_BYTES

SPEC = small()
MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes a small disk of its own, where this process may mount one."""
    mounted: list[Path] = []

    def make(size: int, options: str = "") -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "vpngen-test", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small disk cannot be mounted here: {getattr(error, 'stderr', error)!r}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Take all room of a disk but `leave` bytes."""
    status = os.statvfs(folder)
    filler = folder / "filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave)
    return filler


# --- a disk that is too small is found out before the run


@pytest.mark.parametrize("codec", CODECS)
def test_a_disk_that_is_too_small(codec: str, disk: Callable[..., Path]) -> None:
    folder = disk(2 * MB)
    with pytest.raises(
        MissingError, match=r"are needed for 24 videos \(1\.11 MB of pixels\), but 0 B are free"
    ) as told:
        write(SPEC, folder / "set.zarr", codec=codec)
    assert str(folder) in str(told.value)
    assert ("zstd" in str(told.value)) == (codec == "none")
    assert ("--codec formula takes 2.98 kB" in str(told.value)) == (codec != "formula")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("codec", "instances", "shard_videos"), [("none", 50, 4), ("zstd", 50, 4), ("formula", 6000, 1024)]
)
def test_what_would_fit_fits(
    codec: str, instances: int, shard_videos: int, disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of instances that the message names is taken, and is not far from all that would be."""
    monkeypatch.setattr(local, "SPARE_BYTES", MB)
    monkeypatch.setattr(executors, "TRIAL_SECONDS", 100)  # also on a busy machine
    folder = disk(4 * MB)
    with pytest.raises(MissingError, match="are needed") as told:
        write(small(instances=instances, val_instances=0), folder / "set.zarr", codec=codec, shard_videos=shard_videos)
    fits = int(re.findall(r"--instances (\d+) fits", str(told.value))[0])
    assert list(folder.iterdir()) == []
    with pytest.raises(MissingError, match="are needed"):
        write(small(instances=fits + 2, val_instances=0), folder / "set.zarr", codec=codec, shard_videos=shard_videos)
    write(small(instances=fits, val_instances=0), folder / "set.zarr", codec=codec, shard_videos=shard_videos)
    used = sum(p.stat().st_size for p in folder.rglob("c.*"))
    assert used > 0.7 * 3 * MB


def test_padding_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """17 frames take as much as 32."""
    spec = small(shape=(17, 48, 48))
    plan, target = plan_of(spec), LocalTarget(tmp_path)
    write(spec, tmp_path / "set.zarr")
    used = sum((tmp_path / "set.zarr" / s.key).stat().st_size for s in plan.shards)

    def free(nbytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": nbytes}))

    free(used + SPARE_BYTES)
    check_space(target, plan, plan.shards)
    free(int(0.98 * used) + SPARE_BYTES)
    with pytest.raises(MissingError):
        check_space(target, plan, plan.shards)
    check_space(target, plan, plan.shards, reclaimed=used)
    check_space(target, plan, plan.shards[:3])
    free(0)
    check_space(target, plan, [])


def test_a_finished_store_on_a_full_disk_is_no_error(
    disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk(4 * MB)
    monkeypatch.setattr(local, "SPARE_BYTES", 0)
    write(SPEC, folder / "set.zarr")
    monkeypatch.undo()
    assert write(SPEC, folder / "set.zarr").rendered == 0
    assert vpngen.verify(folder / "set.zarr", backend="reference").problems == ()


# --- a disk that fills up during the run


@pytest.mark.parametrize(
    ("leave", "threads", "codec"),
    [
        (0, 1, "none"),  # no room for a single file
        (20_000, 1, "none"),  # nor for the metadata
        (200_000, 2, "none"),  # nor for a shard
        (500_000, 1, "none"),  # room for one of them, not for the next
        (520_000, 1, "zstd"),
        (900_000, 2, "none"),
        (1_000_000, 1, "none"),
    ],
)
def test_a_disk_that_fills_up(
    leave: int, threads: int, codec: str, disk: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = disk(6 * MB), tmp_path / "disk0" / "set.zarr"
    monkeypatch.setattr(executors, "check_space", lambda *_, **__: None)
    spec = small(seed=leave)
    filler = fill(folder, leave)
    with pytest.raises(RunError, match=r"is full.*give the same command again"):
        write(spec, path, codec=codec, threads=threads)
    assert not [t for t in threading.enumerate() if t.name.startswith(("vpngen-render", "vpngen-sync"))]
    assert not list(folder.rglob("*.partial"))
    filler.unlink()
    if leave < 100_000:  # not even room for the metadata
        assert list(folder.iterdir()) == []
    left = pending(path, plan_of(spec, codec))
    assert 0 < len(left) and (threads == 2 or leave < 300_000 or len(left) < len(plan_of(spec).shards))
    assert write(spec, path, codec=codec).rendered == sum(s.count for s in left)
    write(spec, tmp_path / "whole", codec=codec)
    assert tree(path) == tree(tmp_path / "whole")
    assert [p.name for p in folder.iterdir()] == ["set.zarr"]


LIMITED = """
import resource, sys
import stores, vpngen
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    stores.write(stores.small(), sys.argv[1])
except vpngen.RunError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """What a quota or an old file system does; needs no disk of its own."""
    path = tmp_path / "set.zarr"
    done = python(LIMITED, str(path))
    assert "c.0.0.0.0" in done and "File too large" in done and "same command again to go on" in done
    assert not list(tmp_path.rglob("*.partial"))
    left = pending(path, plan_of(SPEC))
    assert left
    assert write(SPEC, path).rendered == sum(s.count for s in left)
    write(SPEC, tmp_path / "whole")
    assert tree(path) == tree(tmp_path / "whole")


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- a place where nothing can be written


def test_a_read_only_disk(disk: Callable[..., Path]) -> None:
    folder = disk(MB, ",ro")
    for path in (folder / "set.zarr", folder / "a" / "b" / "set.zarr", folder):
        with pytest.raises(MissingError, match=r"`path`.*no permission to write") as told:
            write(SPEC, path)
        assert str(folder) in str(told.value)


def test_a_store_on_a_disk_that_became_read_only(disk: Callable[..., Path]) -> None:
    folder = disk(200 * MB)
    path = folder / "set.zarr"
    write(tiny(), path, slice=(1, 2))
    before = tree(path)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(MissingError, match="no permission to write"):
        write(tiny(), path)
    with pytest.raises((MissingError, RunError)):
        write(tiny(), path, overwrite=True)
    assert len(vpngen.verify(path, backend="reference").problems) == 1
    with pytest.raises(RunError, match="Read-only"):
        vpngen.verify(path, backend="reference", repair=True)
    assert tree(path) == before
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    assert write(tiny(), path).rendered


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for path in (tmp_path / "locked" / "set.zarr", tmp_path / "locked"):
        with pytest.raises(MissingError, match="no permission to write"):
            write(SPEC, path)
    assert list((tmp_path / "locked").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no such place")
def test_a_place_that_takes_no_files() -> None:
    with pytest.raises((MissingError, RunError), match="/proc"):
        write(SPEC, Path("/proc/set.zarr"))
    with pytest.raises(ConflictError, match=r"/proc.*untouched"):
        write(SPEC, Path("/proc/self"), overwrite=True)


def test_another_file_system_gives_the_same_files(disk: Callable[..., Path], tmp_path: Path) -> None:
    """Another order of the entries of a folder changes nothing."""
    folder = disk(200 * MB)
    write(SPEC, folder / "set.zarr")
    write(SPEC, tmp_path / "set.zarr")
    assert tree(folder / "set.zarr") == tree(tmp_path / "set.zarr")


# --- memory

MEASURE = """
import json, resource, sys
from pathlib import Path
import numpy as np
import stores, vpngen
from vpngen import backends
from vpngen.backends import Backend

class Stub(Backend):
    name = "stub"
    def render(self, generator, rows, windows, out, threads):
        out[...] = np.random.default_rng(0).integers(0, 256, out.shape[-1], np.uint8)
    def extremes(self, *_):
        raise NotImplementedError

backends.choose = lambda name, generator=None: Stub()

def peak():
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

home, codec = Path(sys.argv[1]), sys.argv[2]
one = vpngen.perlin(1, 1, shape=(16, 240, 240), divisions="low")
vpngen.write(one, home / "warm", codec=codec, threads=1)
vpngen.verify(home / "warm", threads=1)
before = peak()
big = vpngen.perlin(1, 80, shape=(16, 240, 240), divisions="low")
vpngen.write(big, home / "set", codec=codec, threads=1, shard_videos=80)
written = peak()
problems = vpngen.verify(home / "set", threads=1).problems
print(json.dumps({"write": written - before, "verify": peak() - before, "problems": len(problems)}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="memory is measured otherwise there")
@pytest.mark.parametrize("codec", CODECS)
def test_a_shard_is_never_held_in_memory(codec: str, tmp_path: Path) -> None:
    shard = 80 * 16 * 240 * 240
    grown = json.loads(python(MEASURE, str(tmp_path), codec))
    if codec == "none":
        assert (tmp_path / "set" / "train" / "video" / "c.0.0.0.0").stat().st_size > shard
    assert grown["problems"] == 0
    assert grown["write"] < shard / 8
    assert grown["verify"] < shard / 8

"""Whatever stops a run, the next one completes the set, to the byte, and does nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import pending, plan_of, tiny, tree, write

import vpngen
from vpngen import RunError, Spec
from vpngen.backends.reference import Reference
from vpngen.executors.base import Progress
from vpngen.executors.threads import _Run
from vpngen.store import CODECS

linux = pytest.mark.skipif(sys.platform != "linux", reason="follows open files through /proc")


def crashing(folder: Path, spec: Spec, scene: str, codec: str, threads: int, **options: Any) -> dict[str, Any]:
    """The report of tests/crashing.py."""
    config = {"spec": spec.to_dict(), "scene": scene, "codec": codec, "threads": threads, **options}
    done = subprocess.run(
        [sys.executable, "-W", "error", "crashing.py", json.dumps({**config, "folder": str(folder)})],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


# --- killed


@linux
@pytest.mark.parametrize(
    ("scene", "codec", "thin"),
    [
        pytest.param("fresh", "none", 24, id="from nothing"),
        pytest.param("rubbish", "zstd", 24, id="with files of the right size in the place of shards"),
        pytest.param("overwrite", "none", 48, id="while it replaces another set"),
        pytest.param("repair", "none", 24, id="while it repairs"),
    ],
)
def test_killed_at_each_step(scene: str, codec: str, thin: int, tmp_path: Path) -> None:
    """A power cut at each thing that is done to the disk: see crashing.py."""
    spec = tiny(val_instances=0)
    report = crashing(tmp_path, spec, scene, codec, 1, thin=thin)
    assert report["killed"] >= 0.9 * report["trials"] > 15
    steps = report["events"]
    for shard in plan_of(spec).shards:
        order = [
            f"fsync set.zarr/{shard.key}.partial",
            f"os.rename set.zarr/{shard.key}.partial",
            f"fsync set.zarr/{shard.key}.done.partial",
            f"os.rename set.zarr/{shard.key}.done.partial",
        ]
        assert [s for s in steps if s in order] == order


@linux
def test_killed_at_each_step_while_it_grows(tmp_path: Path) -> None:
    """From shards of 4 and 2 videos to two of 4, and a split that was not there."""
    report = crashing(tmp_path, tiny(instances=4), "grow", "none", 1, thin=48)
    assert report["killed"] >= 0.9 * report["trials"] > 9


@linux
@pytest.mark.parametrize("codec", CODECS)
def test_killed_again_and_again_at_any_moment(codec: str, tmp_path: Path) -> None:
    report = crashing(tmp_path, tiny(), "fresh", codec, 2, trials=3)
    assert report["killed"] >= report["trials"]


# --- finished is finished


@pytest.mark.parametrize("codec", CODECS)
def test_a_finished_store_renders_nothing(codec: str, tmp_path: Path) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    first = write(spec, path, codec=codec)
    assert (first.rendered, first.kept) == (plan_of(spec).videos, 0)
    before, times = tree(path), stores.mtimes(path)
    again = write(spec, path, codec=codec, threads=2, progress=lambda _: pytest.fail("something was rendered"))
    assert (again.rendered, again.kept, again.nbytes) == (0, plan_of(spec).videos, 0)
    assert tree(path) == before
    assert stores.mtimes(path) == times
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_only_what_is_missing_is_rendered(threads: int, tmp_path: Path) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, path)
    whole, times = tree(path), stores.mtimes(path)
    for shard in plan_of(spec).shards:
        file, record = path / shard.key, stores.record_file(path, shard)
        for damage in (file.unlink, record.unlink, lambda file=file: os.truncate(file, file.stat().st_size - 1)):
            damage()
            seen: list[Progress] = []
            done = write(spec, path, threads=threads, progress=seen.append)
            assert (done.rendered, done.kept) == (shard.count, plan_of(spec).videos - shard.count)
            assert [(p.done, p.total) for p in seen] == [(n, shard.count) for n in range(1, shard.count + 1)]
            assert tree(path) == whole
    others = {k for k in times if "/video/c." not in k and not k.endswith("/video")}
    assert {k: v for k, v in stores.mtimes(path).items() if k in others} == {k: times[k] for k in others}


@pytest.mark.parametrize(
    "record",
    [
        b"", b"{", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b'{"size": 1}', b"[" * 100_000,
        b'{"size": {}, "digest": []}', b'{"size": 1e999, "digest": NaN}',
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_counts_for_nothing(record: bytes, tmp_path: Path) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, path)
    whole = tree(path)
    shard = plan_of(spec).shards[1]
    stores.record_file(path, shard).write_bytes(record)
    assert pending(path, plan_of(spec)) == [shard]
    assert write(spec, path).rendered == shard.count
    assert tree(path) == whole


def test_records_of_other_sets_count_for_nothing(tmp_path: Path) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    plan = plan_of(spec)
    write(spec, path)
    whole = tree(path)
    write(tiny(seed=1), tmp_path / "seed")
    write(spec, tmp_path / "shards", shard_videos=2)
    write(spec, tmp_path / "zstd", codec="zstd")
    for other in ("seed", "shards", "zstd"):
        for shard in plan.shards[:2]:
            for name in (shard.key, f"{shard.key}.done"):
                (path / name).write_bytes((tmp_path / other / name).read_bytes())
        assert pending(path, plan) == list(plan.shards[:2])
        assert write(spec, path).rendered == 6
        assert tree(path) == whole


# --- stopped from within


class Stop(BaseException):
    """What no code expects."""


def our_threads() -> list[str]:
    """Those of a writer."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("vpngen-render", "vpngen-sync"))]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("error", "at"), [(KeyboardInterrupt, 1), (ValueError, 3), (Stop, 5), (SystemExit, 6)])
def test_an_exception_in_progress(
    threads: int, error: type[BaseException], at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    rendered, released = [], threading.Event()
    real_render, real_stop = Reference.render, _Run.stop

    def render(*args: Any) -> None:
        rendered.append(args)
        assert len(rendered) <= at or released.wait(60)
        real_render(*args)

    def stop(run: _Run) -> None:
        threading.Timer(0.2, released.set).start()  # by then the threads have been told to stop
        real_stop(run)

    monkeypatch.setattr(Reference, "render", render)
    monkeypatch.setattr(_Run, "stop", stop)

    def progress(p: Progress) -> None:
        if p.done == at:
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write(spec, path, threads=threads, progress=progress)
    assert our_threads() == []
    assert not list(tmp_path.rglob("*.partial"))
    assert len(rendered) <= at + threads
    monkeypatch.undo()
    left = pending(path, plan_of(spec))
    assert left
    assert write(spec, path).rendered == sum(s.count for s in left)
    assert tree(path) == tree(tmp_path / "whole")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_a_renderer_that_fails(threads: int, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    real, calls = Reference.render, []

    def render(*args: Any) -> None:
        calls.append(args)
        if len(calls) == at:
            raise MemoryError("no more")
        real(*args)

    monkeypatch.setattr(Reference, "render", render)
    with pytest.raises(MemoryError, match="no more"):
        write(spec, path, threads=threads)
    monkeypatch.undo()
    assert our_threads() == []
    assert not list(tmp_path.rglob("*.partial"))
    write(spec, path)
    assert tree(path) == tree(tmp_path / "whole")


def test_a_worker_that_fails_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, path = tiny(instances=40), tmp_path / "set.zarr"
    failing = spec.params([0])[0].tobytes()
    real = Reference.render

    def render(self: Reference, generator: str, rows: Any, *rest: Any) -> None:
        if rows[0].tobytes() == failing:
            raise MemoryError("no more")
        real(self, generator, rows, *rest)

    monkeypatch.setattr(Reference, "render", render)
    with pytest.raises(MemoryError):
        write(spec, path, threads=2)
    assert len(pending(path, plan_of(spec))) > len(plan_of(spec).shards) // 2


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_disk_that_fails(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call that the operating system may refuse: one clear error, nothing half-made, and the next run goes on."""
    spec = tiny()
    write(spec, tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    write(spec, tmp_path / "empty", slice=(99, 99))
    real = getattr(os, call)
    failed, at = 0, 0
    while True:
        at += 7 if call == "write" else 1
        path = stores.copy(tmp_path / "empty", tmp_path / "set.zarr")
        calls: list[str] = []

        def refuse(*args: Any, **options: Any) -> Any:
            where = args[0] if isinstance(args[0], (str, Path)) else os.readlink(f"/proc/self/fd/{args[0]}")
            if (folder := options.get("dir_fd", options.get("src_dir_fd"))) is not None:
                where = f"{os.readlink(f'/proc/self/fd/{folder}')}/{where}"
            if call == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return real(*args, **options)
            if str(where).startswith(str(path)) and not os.path.isdir(where):  # noqa: B023 (called before it changes)
                calls.append(str(where))  # noqa: B023
                if len(calls) == at:  # noqa: B023
                    raise OSError(5, "Input/output error", str(where))
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            try:
                write(spec, path, threads=1 + at % 2)
            except RunError as error:
                said = str(error)
            else:
                assert len(calls) < at
                break
        assert "Input/output error" in said and "same command again to go on" in said
        failed += 1
        assert our_threads() == []
        assert not list(tmp_path.rglob("*.partial"))
        left = pending(path, plan_of(spec))
        assert left
        assert write(spec, path).rendered == sum(s.count for s in left)
        assert tree(path) == whole
    assert failed >= 3


# --- what a killed run leaves beside the store


def leftovers(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.name.startswith(".")}


def test_what_a_killed_run_left_beside_the_store_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "set[1].zarr"
    stale = [".set[1].zarr.0123abcd.vpngen", ".set[1].zarr.0123abcd.vpngen.old"]
    foreign = [
        ".set[1].zarr.0123abcd", ".set[1].zarr.0123ABCD.vpngen", ".set1.zarr.0123abcd.vpngen", ".other.0123abcd.vpngen",
        ".set[1].zarr.0123abcd.vpngen.bak", "set[1].zarr.0123abcd.vpngen",
    ]  # fmt: skip
    for name in (*stale, *foreign):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / "zarr.json").write_text("{}")
    write(tiny(), path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *foreign}
    (tmp_path / stale[1]).mkdir()
    assert write(tiny(), path).rendered == 0
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *foreign}


def test_what_a_living_run_has_beside_the_store_stays(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    living = tmp_path / ".set.zarr.0123abcd.vpngen"
    living.mkdir()
    fd = os.open(living, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    write(tiny(), tmp_path / "set.zarr")
    assert leftovers(tmp_path) == {living.name}
    os.close(fd)
    write(tiny(), tmp_path / "set.zarr")
    assert leftovers(tmp_path) == set()


def test_the_store_is_whole_after_verify(tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    write(tiny(), path)
    before = tree(path)
    assert vpngen.verify(path, backend="reference", render=True, repair=True).problems == ()
    assert tree(path) == before

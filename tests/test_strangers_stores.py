"""Stores of strangers: links, things that are no files, claims out of proportion. Nothing is written elsewhere, nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import stores
from click.testing import CliRunner, Result
from numcodecs import zstd
from stores import plan_of, tiny, tree, write

import vpngen
from vpngen import ConflictError, RunError
from vpngen.cli import cli
from vpngen.files import Folder
from vpngen.store import ClipReader, Layout, store_plan
from vpngen.store.formula import DamageError, crc32c
from vpngen.store.layout import all_shards, record, skeleton
from vpngen.store.packing import ShardData, decode_chunk, read_index, shard_record

SPEC = tiny()
SHARD = plan_of(SPEC).shards[0]
FILES = (SHARD.key, SHARD.record, "train/label/c.0", "train/zarr.json", "train/video/zarr.json")


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "set.zarr"
    write(SPEC, path, codec=getattr(request, "param", "zstd"))
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return stores.copy(whole, tmp_path / "set.zarr")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder and a file of the user's, which stay as they are."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_bytes(b"of the user")
    yield folder
    assert tree(folder) == {"file": b"of the user"}


def run(*args: object) -> Result:
    """A command, which answers within some seconds."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(CliRunner().invoke(cli, list(map(str, args)))), daemon=True)
    thread.start()
    thread.join(10)
    assert found, f"{args} hangs"
    return found[0]


def message(result: Result) -> str:
    """The one line of an expected error."""
    assert isinstance(result.exception, vpngen.errors.VpngenError), result.exception
    text = str(result.exception)
    assert "\n" not in text
    return text


def check(path: Path, **options: object) -> vpngen.store.Verified:
    return vpngen.verify(path, **{"backend": "reference", "threads": 1, **options})  # type: ignore[arg-type]


# --- writing: no link is followed, and no other name of a file is written through


@pytest.mark.parametrize("what", ["link", "hard link", "fifo", "folder"])
@pytest.mark.parametrize("name", [f"{SHARD.key}.partial", f"{SHARD.record}.partial", "train/label/c.0.partial"])
@pytest.mark.parametrize("repair", [False, True])
def test_a_partial_file_that_is_none(name: str, what: str, repair: bool, store: Path, elsewhere: Path) -> None:
    place, victim = store / name, elsewhere / "file"
    whole = tree(store)
    for damaged in (SHARD.key, SHARD.record, "train/label/c.0"):
        (store / damaged).unlink()
    {"link": place.symlink_to, "hard link": place.hardlink_to}.get(what, lambda _: None)(victim)
    if what == "fifo":
        os.mkfifo(place)
    elif what == "folder":
        place.mkdir()
    if repair:
        problems = check(store, repair=True).problems
        left = [p.what for p in problems if not p.repaired]
        assert (left == []) == (what == "hard link") and all("remove it by hand" in text for text in left)
    elif what == "hard link" or "label" in name:
        write(SPEC, store, codec="zstd")
    else:
        with pytest.raises(RunError, match=r"partial.*(link|regular file|directory)"):
            write(SPEC, store, codec="zstd")
    if what == "hard link" and repair:
        assert tree(store) == whole


@pytest.mark.parametrize("folder", ["train", "train/video", "train/label"])
def test_a_folder_that_is_a_link(folder: str, store: Path, elsewhere: Path) -> None:
    shutil.rmtree(store / folder)
    (store / folder).symlink_to(elsewhere)
    found = check(store, repair=True)
    assert not found.whole
    assert any(p.path == folder and "link" in p.what for p in found.problems)
    if folder != "train/label":
        with pytest.raises(RunError, match="link, which is not followed"):
            write(SPEC, store, codec="zstd")
        with pytest.raises(DamageError, match="link"):
            vpngen.open(store).video[0]
    assert run("info", store).exit_code == 0


def test_what_lies_beside_a_store_is_not_followed(store: Path, elsewhere: Path) -> None:
    beside = store.parent / ".new.zarr.00000000.vpngen"
    beside.symlink_to(elsewhere)
    os.mkfifo(store.parent / ".new.zarr.00000001.vpngen")
    write(SPEC, store.parent / "new.zarr")
    assert beside.is_symlink()


# --- reading: no file, no bytes


@pytest.mark.parametrize("what", ["fifo", "device", "endless link", "folder", "socket"])
@pytest.mark.parametrize("name", [*FILES, "zarr.json"])
def test_what_is_no_file(name: str, what: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = store / name
    place.unlink()
    if what == "fifo":
        os.mkfifo(place)
    elif what == "folder":
        place.mkdir()
    elif what == "socket":
        monkeypatch.chdir(place.parent)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name)
    else:
        place.symlink_to("/dev/zero" if what == "endless link" else "/dev/tty")
    for command in (("info", store), ("preview", store, "-o", store.parent / "a.png"), ("verify", store)):
        done = run(*command)
        assert done.exception is None or done.exit_code == 1 or message(done)
    if name == "zarr.json":
        with pytest.raises(ConflictError, match=r"zarr\.json"):
            check(store)
        return
    problems = check(store).problems
    assert problems and {p.path for p in problems} <= {name, SHARD.key}
    broken = check(store, repair=True)
    assert {p.repaired for p in broken.problems} == {what != "folder"}
    assert check(store).whole == (what != "folder")


# --- claims out of proportion


def claim(path: Path, codec: str, instances: int, shard_videos: int | None) -> Path:
    spec = vpngen.perlin(1, instances, shape=(16, 16, 16), noise_frequencies=(1,), noise_terms=1)
    for name, data in skeleton(spec, Layout(codec, shard_videos))[0].items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("codec", "instances", "shard_videos"),
    [("formula", 10**9, 65536), ("formula", 2**32, 1024), ("none", 2**22, 1), ("zstd", 2**22 * 32, None)],
)
def test_many_videos_that_are_not_there(codec: str, instances: int, shard_videos: int | None, tmp_path: Path) -> None:
    store = claim(tmp_path / "set.zarr", codec, instances, shard_videos)
    plan = store_plan(*vpngen.store.read_spec(store))
    problems = check(store).problems
    shards = [p for p in problems if p.videos]
    assert [(p.path, len(p.videos)) for p in shards] == [("train/video/c.0.0.0.0", instances)]
    assert f"{len(plan.shards):,} shards are not rendered yet" in shards[0].what and len(problems) < 20
    done = run("info", store, "--format", "json")
    assert json.loads(done.output)["shards_pending"] == len(plan.shards)
    assert json.loads(run("verify", store, "--format", "json").output)["problems"][-1]["last_video"] == instances - 1
    assert "not complete" in message(run("preview", store, "-o", tmp_path / "a.png"))
    assert not vpngen.open(store).finished()


def test_a_lazy_plan_is_that_of_a_list() -> None:
    for instances, val, n, size in [(3, 1, 1, 4), (5, 0, 2, 3), (7, 2, 3, 1), (4, 4, 5, 100)]:
        spec = tiny(instances=instances, val_instances=val)
        shards = all_shards(spec, Layout("none", size))
        listed = [
            vpngen.store.Shard(split, number, first, min(size, spec.n_videos(split) - first))
            for split in spec.splits
            for number, first in enumerate(range(0, spec.n_videos(split), size))
        ]
        assert shards == listed and listed == list(shards)
        for i in range(1, n + 1):
            part = store_plan(spec, Layout("none", size), (i, n))
            assert part.shards == listed[i - 1 :: n] and part.videos == sum(s.count for s in listed[i - 1 :: n])
        there = {"train": {0, 2, 99}, "val": {0}}
        runs = list(shards.runs(there))
        assert [s for _, run in runs for s in run] == listed
        assert {s for found, run in runs for s in run if found} == {s for s in listed if s.number in there[s.split]}


HUGE = zstd.compress(bytes(2**22), 1)
UNSAID = bytes.fromhex("28b52ffd0058") + bytes(8)


@pytest.mark.parametrize(
    "frame", [HUGE, UNSAID, b"", bytes.fromhex("502a4d1804000000") + bytes(4) + HUGE], ids=range(4)
)
def test_a_zstd_frame_takes_no_more_than_its_chunk(frame: bytes, store: Path) -> None:
    plan = plan_of(SPEC, "zstd")
    with pytest.raises(DamageError, match="zstd frame says"):
        decode_chunk(frame + crc32c(frame), "zstd", plan.chunk_bytes())
    good = zstd.compress(bytes(plan.chunk_bytes()), 1)
    videos = [[(part, crc32c(part))] * plan.chunks_a_video for part in (good, frame or b"x", good, good)]
    data = ShardData(plan, lambda: videos)
    (store / SHARD.key).write_bytes(stores.taken(data))
    (store / SHARD.record).write_bytes(shard_record(plan, SHARD, {"video": data}))
    assert [p.videos for p in check(store).problems] == [(1,)]
    with pytest.raises(DamageError, match=r"c\.0\.0\.0\.0.*zstd frame.*vpngen verify"):
        vpngen.open(store).video[1]
    with pytest.raises(RunError, match="zstd frame"):
        read(store, 1)
    (store / "train/label/c.0").write_bytes(HUGE + crc32c(HUGE))
    with pytest.raises(DamageError, match="label"):
        vpngen.open(store).label[0]


def read(store: Path, video: int) -> None:
    window = np.array([[0, 1, 0, 0, 0]], np.int32)
    ClipReader(store, "train").read(np.array([video]), window, np.empty((1, 4, 4, 4), np.uint8))


def test_an_index_that_claims_more_than_its_file(store: Path) -> None:
    """A sparse file is as large as one likes."""
    plan = plan_of(SPEC, "zstd")
    with Folder(store).file(SHARD.key) as file:
        index = read_index(file, plan)[0].copy()
    data = (store / SHARD.key).read_bytes()
    index[0, 0] = 0, 2**34
    end = index.tobytes()
    end += crc32c(end)
    for size in (0, 2**36):
        with open(store / SHARD.key, "wb") as file:
            file.write(data)
            file.seek(max(size, len(data)))
            file.write(end)
            nbytes = file.tell()
        (store / SHARD.record).write_bytes(record(plan, SHARD, {"video": (nbytes, "0" * 64)}))
        assert [p.path for p in check(store).problems] == [SHARD.key]
        for look in (lambda: vpngen.open(store).video[0], lambda: read(store, 0)):
            with pytest.raises(RunError, match=r"at most|larger than the file|missing"):
                look()


# --- damage that ordinary users meet


@pytest.mark.parametrize("whole", vpngen.store.CODECS, indirect=True)
def test_a_flipped_bit_in_a_picture(whole: Path, store: Path, tmp_path: Path) -> None:
    data = bytearray((store / SHARD.key).read_bytes())
    data[60] ^= 4
    (store / SHARD.key).write_bytes(data)
    for command, name in (("preview", "a.png"), ("mosaic", "a.png"), ("mosaic", "a.mp4")):
        done = run(command, store, "-o", tmp_path / name)
        assert SHARD.key in message(done) and "vpngen verify" in message(done)
        assert isinstance(done.exception, RunError)


@pytest.mark.parametrize("gone", [False, True])
def test_the_root_metadata_is_mended(gone: bool, store: Path, tmp_path: Path) -> None:
    whole, root = tree(store), store / "zarr.json"

    def damage() -> None:
        root.unlink() if gone else root.write_bytes(whole["zarr.json"][:99])

    damage()
    with pytest.raises(ConflictError, match=r"vpngen render.*--repair --spec"):
        check(store, repair=True)
    for other, codec in ((tiny(seed=1), "zstd"), (SPEC, "none")):
        with pytest.raises(ConflictError, match="untouched"):
            write(other, store, codec=codec)
    with pytest.raises(ConflictError, match="of another spec"):
        check(store, repair=True, spec=tiny(seed=1))
    assert {p.path for p in check(store, spec=SPEC).problems} == {"zarr.json"}
    assert write(SPEC, store, codec="zstd").rendered == 0 and tree(store) == whole
    with pytest.raises(ConflictError, match="another dataset"):
        check(store, spec=tiny(seed=1))
    damage()
    (tmp_path / "spec.json").write_text(SPEC.to_json())
    assert run("verify", store, "--repair", "--spec", tmp_path / "spec.json", "--backend", "reference").exit_code == 0
    assert tree(store) == whole


def test_links_and_folders_that_do_not_belong(store: Path, elsewhere: Path) -> None:
    (store / "link").symlink_to(elsewhere)
    (store / "train/empty").mkdir()
    os.mkfifo(store / "val/pipe")
    (store / "train/notes.partial").write_bytes(b"mine")
    found = check(store, repair=True)
    assert [p.path for p in found.problems] == ["link", "train/empty", "train/notes.partial", "val/pipe"]
    assert not any(p.repaired for p in found.problems) and (store / "train/notes.partial").exists()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda p: (p / SHARD.key).unlink(), "No such file"),
        (lambda p: (p / SHARD.record).unlink(), "record is missing"),
        (lambda p: os.truncate(p / SHARD.key, 900), "its record says"),
        (lambda p: shutil.copy(p / "val/video/c.0.0.0.0.done", p / SHARD.record), "of another dataset"),
    ],
)
def test_a_shard_is_that_of_its_record_when_it_is_read(harm: Callable[[Path], object], told: str, store: Path) -> None:
    harm(store)
    with pytest.raises(RunError, match=rf"c\.0\.0\.0\.0.*{told}.*vpngen verify"):
        vpngen.open(store).video[0]
    with pytest.raises(RunError, match=told):
        read(store, 0)


# --- small


@pytest.mark.parametrize("args", [("verify", "STORE"), ("preview", "STORE"), ("render", "STORE", "--dry-run")])
def test_a_backend_that_there_is_not(args: tuple[str, ...], store: Path) -> None:
    done = run(*(store if arg == "STORE" else arg for arg in args), "--backend", "nonsense")
    assert "--backend" in message(done) and isinstance(done.exception, vpngen.ArgumentError)


@pytest.mark.parametrize("command", ["preview", "mosaic"])
def test_a_picture_that_is_to_be_a_folder(command: str, store: Path, tmp_path: Path) -> None:
    done = run(command, store, "-o", f"{tmp_path}/p.png/")
    assert "names a folder" in message(done) and isinstance(done.exception, vpngen.ArgumentError)


def test_a_folder_follows_no_link_below_it(tmp_path: Path) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "real/in/file").write_bytes(b"12")
    (tmp_path / "to").symlink_to("real")
    (tmp_path / "real/way").symlink_to("in")
    (tmp_path / "real/file").symlink_to("in/file")
    folder = Folder(tmp_path / "to")
    assert folder.read("in/file") == b"12" and folder.names("in") == ["file"]
    for name in ("way/file", "file"):
        for look in (folder.read, folder.open, lambda name: folder.open(name, os.O_WRONLY | os.O_CREAT)):
            with pytest.raises(OSError, match="link"):
                look(name)
    with pytest.raises(OSError, match="link"):
        folder.make_way("way/new/file")
    with pytest.raises(OSError, match="Larger than the 1 bytes"):
        folder.read("in/file", 1)
    folder.rename("in/file", "in/new")
    assert {name for name, _ in folder.walk()} == {"in", "in/new", "way", "file"}
    folder.unlink("in/new")
    assert folder.names("in") == []

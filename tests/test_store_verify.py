"""`verify` finds whatever is wrong and says which videos; `repair` renders just those, and the files are as new."""

from __future__ import annotations

import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st
from stores import pending, plan_of, record_file, tiny, tree, write
from strategies import brief

import vpngen
from vpngen import ConflictError, RunError
from vpngen.backends.reference import Reference
from vpngen.store import CODECS, Plan, Problem, Shard, Verified, read_spec
from vpngen.store.packing import Chunk, ShardData, crc32c, encode_video, encoding, shard_record

SPEC = tiny()
SHARD = plan_of(SPEC).shards[0]
"""Videos 0 to 3 of train; 4 and 5 are in the next one, and those of val in a third."""


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The codec, `none` where a test does not ask for each, and a finished store."""
    codec = getattr(request, "param", "none")
    path = tmp_path_factory.mktemp("whole") / "set.zarr"
    write(SPEC, path, codec=codec)
    return codec, path


each_codec = pytest.mark.parametrize("whole", CODECS, indirect=True)


@pytest.fixture
def store(whole: tuple[str, Path], tmp_path: Path) -> Path:
    return stores.copy(whole[1], tmp_path / "set.zarr")


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Grows by the parameters of every video that the reference renders."""
    found: list[bytes] = []
    real = Reference.render

    def render(self: Reference, generator: str, rows: Any, *rest: Any) -> None:
        found.extend(row.tobytes() for row in rows)
        real(self, generator, rows, *rest)

    monkeypatch.setattr(Reference, "render", render)
    return found


def check(path: Path, **options: Any) -> Verified:
    return vpngen.verify(path, **{"backend": "reference", "threads": 1, **options})


def flip(path: Path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def params_of(shard: Shard, videos: tuple[int, ...]) -> list[bytes]:
    return [row.tobytes() for row in SPEC.params(np.array(videos, np.int64), shard.split)]


def videos_of(shard: Shard) -> tuple[int, ...]:
    return tuple(range(shard.first, shard.first + shard.count))


@each_codec
def test_a_whole_store_is_whole(whole: tuple[str, Path]) -> None:
    _, path = whole
    before, times = tree(path), stores.mtimes(path)
    seen: list[tuple[int, int]] = []
    for options in ({}, {"render": True}, {"repair": True}, {"render": True, "repair": True, "threads": 3}):
        found = check(path, progress=lambda *at: seen.append(at), **options)
        assert found.problems == () and found.whole
        assert found.videos == plan_of(SPEC).videos
        assert found.nbytes == sum((path / s.key).stat().st_size for s in plan_of(SPEC).shards)
    assert seen == [(1, 3), (2, 3), (3, 3)] * 4
    assert (tree(path), stores.mtimes(path)) == (before, times)


# --- a flipped bit


def what_a_bit_damages(path: Path, name: str, bit: int) -> tuple[str, tuple[int, ...]]:
    """The file that is to be named, and the videos."""
    for shard in plan_of(SPEC).shards:
        if name == f"{shard.key}.done":
            return shard.key, videos_of(shard)
        if name == shard.key:
            index, data = stores.index_of(path, plan_of(SPEC, read_spec(path)[1].codec), shard)
            if bit // 8 >= (path / name).stat().st_size - len(data):
                return name, videos_of(shard)
            return name, (shard.videos[bisect_right(index[: shard.count, 0, 0].tolist(), bit // 8) - 1],)
    return name, ()


@each_codec
@brief
@given(data=st.data())
def test_every_flipped_bit_is_found(whole: tuple[str, Path], data: st.DataObject) -> None:
    _, path = whole
    files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(files))
    bit = data.draw(st.integers(0, 8 * (path / name).stat().st_size - 1))
    named, videos = what_a_bit_damages(path, name, bit)
    flip(path / name, bit)
    try:
        problems = check(path).problems
    except ConflictError:
        assert name == "zarr.json"
        problems = (Problem(named, "", videos=videos),)
    finally:
        flip(path / name, bit)
    assert [(p.path, p.videos, p.repaired) for p in problems] == [(named, videos, False)]
    assert all(p.what or name == "zarr.json" for p in problems)


@each_codec
def test_flipped_bits_are_repaired(store: Path, whole: tuple[str, Path], rendered: list[bytes]) -> None:
    """One in each file but zarr.json, and all at once; only the videos that were hit are rendered."""
    names = sorted(str(p.relative_to(store)) for p in store.rglob("*") if p.is_file())
    expected: dict[str, set[int]] = {}
    for name in names:
        if name == "zarr.json":
            continue
        bit = 8 * ((store / name).stat().st_size // 3)
        named, videos = what_a_bit_damages(store, name, bit)
        expected.setdefault(named, set()).update(videos)
        flip(store / name, bit)
    found = check(store, repair=True)
    assert {p.path: set(p.videos) for p in found.problems} == expected
    assert found.whole and all(p.repaired for p in found.problems)
    assert tree(store) == tree(whole[1])


@pytest.mark.parametrize("render", [False, True])
@each_codec
@pytest.mark.parametrize("hit", [(0,), (1, 2), (0, 1, 2, 3)])
def test_only_damaged_videos_are_rendered(
    hit: tuple[int, ...], render: bool, store: Path, whole: tuple[str, Path], rendered: list[bytes]
) -> None:
    index, _ = stores.index_of(store, plan_of(SPEC, whole[0]), SHARD)
    for video in hit:
        start, size = (int(x) for x in index[video, video % index.shape[1]])
        flip(store / SHARD.key, 8 * (start + size // 2))
    assert [p.videos for p in check(store).problems] == [hit]
    assert rendered == []
    found = check(store, repair=True, render=render)
    assert [(p.path, p.split, p.videos, p.repaired) for p in found.problems] == [(SHARD.key, "train", hit, True)]
    if not render:
        assert sorted(rendered) == sorted(params_of(SHARD, hit) if whole[0] != "formula" else [])
    assert tree(store) == tree(whole[1])
    assert check(store, render=True).problems == ()


@each_codec
def test_a_damaged_checksum_hits_its_video_alone(store: Path, whole: tuple[str, Path], rendered: list[bytes]) -> None:
    """Then the digest says nothing of the other videos, until the repaired shard comes to it."""
    index, _ = stores.index_of(store, plan_of(SPEC, whole[0]), SHARD)
    flip(store / SHARD.key, 8 * (int(index[2, -1].sum()) - 1))
    assert [p.videos for p in check(store, repair=True).problems] == [(2,)]
    assert rendered == (params_of(SHARD, (2,)) if whole[0] != "formula" else [])
    assert tree(store) == tree(whole[1])


# --- whole files


Damage = Callable[[Path, Path], object]
"""Does harm to the store, given another one of the same layout."""


def cut(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def take(path: Path, other: Path, shard: Shard, record: bool) -> None:
    """The shard of another store, with its record or without it."""
    shutil.copyfile(other / shard.key, path / shard.key)
    if record:
        shutil.copyfile(record_file(other, shard), record_file(path, shard))


def both_missing(path: Path) -> None:
    (path / SHARD.key).unlink()
    record_file(path, SHARD).unlink()


def swap_within(path: Path, record: bool) -> None:
    """A shard of the same size copied over another: only with as many videos could it pass."""
    other = Shard("train", 1, 4, 4)
    write(tiny(instances=4), path.parent / "longer", codec=read_spec(path)[1].codec)
    shutil.copyfile(path.parent / "longer" / other.key, path / SHARD.key)
    if record:
        shutil.copyfile(record_file(path.parent / "longer", other), record_file(path, SHARD))


def foreign_and_damaged(path: Path, other: Path) -> None:
    """The shard of another seed under our record, and one bit of it flipped: the rest of it is intact, and not ours."""
    take(path, other, SHARD, record=False)
    flip(path / SHARD.key, 8 * 10)


ALL = videos_of(SHARD)
DAMAGES: dict[str, tuple[Damage, str, tuple[int, ...]]] = {
    "missing shard": (lambda p, _: (p / SHARD.key).unlink(), "missing", ALL),
    "missing record": (lambda p, _: record_file(p, SHARD).unlink(), "record", ALL),
    "both missing": (lambda p, _: both_missing(p), "not rendered yet", ALL),
    "empty shard": (lambda p, _: cut(p / SHARD.key, 0), "0 bytes", ALL),
    "cut by a byte": (lambda p, _: cut(p / SHARD.key, -1), "index", ALL),
    "cut in half": (lambda p, _: cut(p / SHARD.key, 2000), "", ALL),
    "only the index": (lambda p, _: (p / SHARD.key).write_bytes((p / SHARD.key).read_bytes()[-132:]), "", ALL),
    "bytes before": (lambda p, _: (p / SHARD.key).write_bytes(b"x" + (p / SHARD.key).read_bytes()), "", ALL),
    "bytes after": (lambda p, _: (p / SHARD.key).write_bytes((p / SHARD.key).read_bytes() + b"x"), "index", ALL),
    "zeros": (lambda p, _: (p / SHARD.key).write_bytes(bytes((p / SHARD.key).stat().st_size)), "", ALL),
    "empty record": (lambda p, _: record_file(p, SHARD).write_bytes(b""), "record", ALL),
    "record of another shard": (
        lambda p, _: shutil.copyfile(record_file(p, plan_of(SPEC).shards[1]), record_file(p, SHARD)), "record", ALL
    ),
    "shard of another seed": (lambda p, o: take(p, o, SHARD, False), "", ALL),
    "shard and record of another seed": (lambda p, o: take(p, o, SHARD, True), "record", ALL),
    "another shard": (lambda p, _: swap_within(p, False), "", ALL),
    "another shard and its record": (lambda p, _: swap_within(p, True), "record", ALL),
}  # fmt: skip


@pytest.fixture(scope="module")
def other(whole: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of another seed, in the same layout."""
    path = tmp_path_factory.mktemp("other") / "set.zarr"
    write(tiny(seed=5), path, codec=whole[0])
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(damage: str, store: Path, other: Path, whole: tuple[str, Path], rendered: list[bytes]) -> None:
    do, message, videos = DAMAGES[damage]
    do(store, other)
    (problem,) = check(store).problems
    assert (problem.path, problem.split, problem.videos, problem.repaired) == (SHARD.key, "train", videos, False)
    assert message in problem.what and problem.pending is (damage in ("missing record", "both missing"))
    rendered.clear()
    found = check(store, repair=True)
    assert found.whole and [p.videos for p in found.problems] == [videos]
    assert sorted(rendered) == sorted(params_of(SHARD, videos))
    assert tree(store) == tree(whole[1])
    assert check(store, render=True).problems == ()


@pytest.mark.parametrize("render", [False, True])
def test_what_is_intact_but_foreign_is_not_kept(
    render: bool, store: Path, other: Path, whole: tuple[str, Path]
) -> None:
    foreign_and_damaged(store, other)
    (problem,) = check(store, repair=True, render=render).problems
    assert problem.repaired and 0 in problem.videos
    assert tree(store) == tree(whole[1])


def test_an_index_that_is_not_ours(store: Path, whole: tuple[str, Path]) -> None:
    """With a right checksum, and where no video is: of the last shard, half is unused."""
    file = store / plan_of(SPEC).shards[1].key
    _, data = stores.index_of(store, plan_of(SPEC, whole[0]), plan_of(SPEC).shards[1])
    with open(file, "r+b") as opened:
        changed = bytearray(data[:-4])
        changed[-16:] = changed[:16]
        opened.seek(-len(data), os.SEEK_END)
        opened.write(changed + crc32c(bytes(changed)))
    assert [(p.path, p.videos) for p in check(store, repair=True).problems] == [("train/video/c.1.0.0.0", (4, 5))]
    assert tree(store) == tree(whole[1])


def test_a_folder_in_the_place_of_a_shard(store: Path) -> None:
    (store / SHARD.key).unlink()
    (store / SHARD.key).mkdir()
    (problem,) = check(store).problems
    assert (problem.path, problem.videos) == (SHARD.key, ALL)
    assert pending(store, plan_of(SPEC, read_spec(store)[1].codec))[0] == SHARD
    (store / plan_of(SPEC).shards[1].key).unlink()
    there, other = check(store, repair=True).problems
    assert "in the way" in there.what and "directory" in there.what and not there.repaired and other.repaired
    assert [p.path for p in check(store).problems] == [SHARD.key]
    assert not list(store.rglob("*.partial"))


def test_an_unfinished_store(tmp_path: Path, rendered: list[bytes]) -> None:
    path = tmp_path / "set.zarr"
    write(SPEC, path, slice=(2, 3))
    found = check(path)
    shards = [s for s in plan_of(SPEC).shards if s.number != 1]
    assert [(p.path, p.what, p.videos, p.pending) for p in found.problems] == [
        (s.key, "not rendered yet", videos_of(s), True) for s in shards
    ]
    assert not found.whole and not found.damaged and found.videos_of(pending=True) == sum(s.count for s in shards)
    rendered.clear()
    assert check(path, repair=True).whole
    assert len(rendered) == sum(s.count for s in shards)
    write(SPEC, tmp_path / "whole")
    assert tree(path) == tree(tmp_path / "whole")


# --- metadata, labels, parameters


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "of another set", "text"])
def test_everything_that_is_no_shard(
    how: str, store: Path, other: Path, whole: tuple[str, Path], rendered: list[bytes]
) -> None:
    codec, _ = whole
    names = sorted(set(tree(store)) - {"zarr.json"})
    names = [n for n in names if "video/c." not in n]
    assert {n.split("/")[1] for n in names} >= {"label", "frequency", "amplitude", "key", "video", "zarr.json"}
    for name in names:
        file = store / name
        if how == "missing":
            file.unlink()
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "cut":
            cut(file, file.stat().st_size // 2)
        elif how == "text":
            file.write_bytes(b"not what it was")
        else:
            longer = store.parent / "longer"
            if not longer.exists():
                write(tiny(instances=9, val_instances=9), longer, codec=codec, slice=(99, 99))
            shutil.copyfile(longer / name, file)
    found = check(store)
    assert {p.path for p in found.problems} == set(names) and not found.whole
    assert {p.videos for p in found.problems} == {()}
    assert check(store, repair=True).whole
    assert rendered == []
    assert tree(store) == tree(whole[1])


def test_wrong_labels_are_found_also_where_zarr_wrote_them(store: Path, whole: tuple[str, Path]) -> None:
    """With a right checksum; and a small array that an editor touched through zarr."""
    import zarr

    for name, value in (("label", 1), ("amplitude", 0.5), ("key", 7)):
        array = zarr.open_array(store / "train" / name, mode="r+")
        array[2] = value
        assert [p.what for p in check(store).problems] == ["labels or parameters are damaged"]
        assert check(store, repair=True).whole
        assert tree(store) == tree(whole[1])
    zarr.open_group(store, mode="r+").attrs["licence"] = "mine"
    assert "zarr.json" in {p.path for p in check(store).problems}
    assert check(store, repair=True).whole
    assert check(store).problems == ()


def test_other_spacing_of_the_metadata_is_no_damage(store: Path) -> None:
    for file in store.rglob("zarr.json"):
        file.write_text(json.dumps(json.loads(file.read_text()), indent=7, sort_keys=True))
    assert check(store).problems == ()


# --- files that do not belong there


def test_foreign_files_are_named_and_left(store: Path) -> None:
    names = ["notes.txt", "train/video/c.7.0.0.0", "train/video/c.7.0.0.0.done", "train/.hidden", "deep/er/file"]
    for name in names:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(b"mine")
    (store / "broken").symlink_to("nowhere")
    before = tree_without_links(store)
    for repair in (False, True):
        found = check(store, repair=repair)
        assert {p.path for p in found.problems} == {*names, "broken"}
        assert not any(p.repaired or p.videos for p in found.problems) and not found.whole
        assert all("does not belong" in p.what for p in found.problems)
    assert tree_without_links(store) == before and (store / "broken").is_symlink()


def tree_without_links(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and not p.is_symlink()}


def test_what_killed_writers_left(store: Path, whole: tuple[str, Path]) -> None:
    names = {"train/video/c.0.0.0.0.partial", "val/video/c.0.0.0.0.partial", "train/video/c.1.0.0.0.done.partial"}
    for name in names:
        (store / name).write_bytes(b"half")
    found = check(store)
    assert {(p.path, p.what, p.repaired) for p in found.problems} == {
        (name, "left by a writer that was killed", False) for name in names
    }
    found = check(store, repair=True)
    assert {p.path for p in found.problems} == names and found.whole
    assert tree(store) == tree(whole[1])


def test_what_a_living_writer_has_in_hand_stays(store: Path) -> None:
    with stores.hold(store, SHARD) as file:
        file.write(b"half a shard")
        file.flush()
        for repair in (False, True):
            (problem,) = check(store, repair=repair).problems
            assert problem.path == f"{SHARD.key}.partial" and "running" in problem.what and not problem.repaired
        assert (store / problem.path).read_bytes() == b"half a shard"
        (store / SHARD.key).unlink()
        with pytest.raises(ConflictError, match="another process is writing"):
            check(store, repair=True)
        assert (store / problem.path).read_bytes() == b"half a shard"


# --- with rendering: pixels that are wrong, though every checksum, the digest and the record are right


def forge(path: Path, plan: Plan, shard: Shard, change: Callable[[int, npt.NDArray[Any]], object]) -> None:
    """Write a shard of changed videos, or of changed parameters, as this program would."""

    def changed(video: int, content: npt.NDArray[Any]) -> list[Chunk]:
        content = content.copy()
        change(video, content)
        return encoding(plan).encode(content)

    contents = encoding(plan).contents(shard.split, shard.videos, Reference())
    store_shard(path, plan, shard, map(changed, shard.videos, contents))


def store_shard(path: Path, plan: Plan, shard: Shard, videos: Iterable[list[Chunk]]) -> None:
    data = ShardData(plan, lambda: videos)
    (path / shard.key).write_bytes(stores.taken(data))
    record_file(path, shard).write_bytes(shard_record(plan, shard, {"video": data}))


@each_codec
@pytest.mark.parametrize("shard", plan_of(SPEC).shards, ids=lambda s: s.key)
def test_wrong_pixels_are_found_by_rendering(
    shard: Shard, store: Path, whole: tuple[str, Path], rendered: list[bytes]
) -> None:
    plan = plan_of(SPEC, whole[0])
    last = shard.first + shard.count - 1

    def one_bit(video: int, content: npt.NDArray[Any]) -> None:
        if video == last:
            content.view(np.uint8).reshape(-1)[-1 if whole[0] != "formula" else 0] ^= 1

    forge(store, plan, shard, lambda *_: None)
    assert tree(store) == tree(whole[1])
    forge(store, plan, shard, one_bit)
    assert check(store).problems == ()
    (problem,) = check(store, render=True).problems
    assert (problem.path, problem.videos) == (shard.key, (last,))
    rendered.clear()
    assert check(store, render=True, repair=True).whole
    assert len(rendered) == (plan.videos + 1 if whole[0] != "formula" else 0)
    assert tree(store) == tree(whole[1])


def test_videos_that_changed_places_are_found_by_rendering(store: Path, whole: tuple[str, Path]) -> None:
    def swap(video: int, pixels: npt.NDArray[np.uint8]) -> None:
        if video in (1, 2):
            pixels[:] = stores.pixels(SPEC)[3 - video]

    forge(store, plan_of(SPEC, whole[0]), SHARD, swap)
    assert check(store).problems == ()
    assert [p.videos for p in check(store, render=True, repair=True).problems] == [(1, 2)]
    assert tree(store) == tree(whole[1])


def test_padding_that_is_not_zero_is_found_by_rendering(store: Path, whole: tuple[str, Path]) -> None:
    plan = plan_of(SPEC, whole[0])
    padded = np.zeros((4, 32, *SPEC.shape[1:]), np.uint8)
    padded[:, :20] = stores.pixels(SPEC)[:4]
    padded[3, -1, -1, -1] = 9
    store_shard(store, plan, SHARD, (encode_video(video, plan.layout.codec, 16) for video in padded))
    assert check(store).problems == ()
    assert [p.videos for p in check(store, render=True, repair=True).problems] == [(3,)]
    assert tree(store) == tree(whole[1])


def test_two_backends_find_the_same(store: Path) -> None:
    flip(store / SHARD.key, 800)
    assert check(store, render=True, backend="numba", threads=2) == check(store, render=True)


# --- a repair that fails


def test_a_repair_that_fails_leaves_what_was_there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(store / SHARD.key, 800)
    (store / "train" / "label" / "zarr.json").unlink()
    before = tree(store)
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.fstat(fd).st_mode & 0o100000:  # a file, not a folder
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunError, match="is full"):
        check(store, repair=True)
    assert tree(store) == before
    (store / "train" / "label" / "zarr.json").write_bytes(b"")
    monkeypatch.undo()
    assert check(store, repair=True).whole

"""What is at the path already: another set, somebody's files, a damaged store. It is said clearly, and nothing is touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import plan_of, tiny, tree, write

import vpngen
from vpngen import ArgumentError, ConflictError, RunError, Spec
from vpngen.errors import VpngenError
from vpngen.store import Layout, read_spec
from vpngen.store.layout import differences

SPEC = tiny()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "set.zarr"
    write(SPEC, path)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return stores.copy(whole, tmp_path / "set.zarr")


# --- another set


@pytest.mark.parametrize(
    ("changes", "options", "lines"),
    [
        ({"seed": 7}, {}, ["seed: 0 there, 7 asked for"]),
        ({"instances": 2}, {}, ["instances: 3 there, 2 asked for"]),
        ({"instances": 4, "val_instances": 0}, {}, ["instances: 3 there, 4 asked for", "val_instances: 1 there, 0 asked for"]),
        ({"instances": 4}, {"codec": "zstd"}, ["instances: 3 there, 4 asked for", "codec: none there, zstd asked for"]),
        ({"val_instances": 0}, {}, ["val_instances: 1 there, 0 asked for"]),
        ({}, {"codec": "zstd"}, ["codec: none there, zstd asked for"]),
        ({}, {"shard_videos": 5}, ["shard_videos: 4 there, 5 asked for"]),
        (
            {"shape": (20, 8, 24), "seed": 1, "fade": "linear"},
            {"codec": "zstd"},
            [
                "shape: [20, 8, 12] there, [20, 8, 24] asked for", "seed: 0 there, 1 asked for",
                "generator.fade: quintic there, linear asked for", "codec: none there, zstd asked for",
            ],
        ),
        ({"divisions_x": (4,)}, {}, ["generator.divisions_x: [2] there, [4] asked for"]),
    ],
)  # fmt: skip
def test_another_set_is_refused_with_the_difference(
    changes: dict[str, Any], options: dict[str, Any], lines: list[str], store: Path
) -> None:
    before, times = tree(store), stores.mtimes(store)
    with pytest.raises(ConflictError, match="another dataset") as told:
        write(tiny(**changes), store, **options)
    shown = [line.strip() for line in str(told.value).splitlines() if " there, " in line]
    assert sorted(shown) == sorted(lines)
    fewer = changes in ({"instances": 2}, {"val_instances": 0})
    assert ("a set grows, but does not shrink" in str(told.value)) is fewer
    assert "--overwrite" in str(told.value) and "untouched" in str(told.value) and str(store) in str(told.value)
    assert (tree(store), stores.mtimes(store)) == (before, times)
    assert list(store.parent.iterdir()) == [store]


def test_differences_of_nested_fields() -> None:
    there = {"same": 1, "a": {"x": 1, "y": 2}, "only here": 0}
    wanted = {"same": 1, "a": {"x": 1, "y": 3}, "only there": [1]}
    assert differences(there, wanted) == [
        "a.y: 2 there, 3 asked for",
        "only here: 0 there, None asked for",
        "only there: None there, [1] asked for",
    ]


def test_options_that_change_no_byte_are_no_conflict(store: Path) -> None:
    assert write(SPEC, store, backend="numba", threads=2, slice=(2, 3)).rendered == 0


# --- overwrite


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_overwrite_replaces_a_store(codec: str, store: Path, tmp_path: Path) -> None:
    (store / "notes.txt").write_text("of the old one")
    (store / "train" / "video" / "c.9.0.0.0.partial").write_bytes(b"killed")
    done = write(tiny(seed=7), store, codec=codec, overwrite=True)
    assert (done.rendered, done.kept) == (plan_of(SPEC).videos, 0)
    write(tiny(seed=7), tmp_path / "fresh", codec=codec)
    assert tree(store) == tree(tmp_path / "fresh")
    assert {p.name for p in tmp_path.iterdir()} == {"set.zarr", "fresh"}


def test_overwrite_of_the_same_set_renders_it_again(store: Path) -> None:
    before = tree(store)
    assert write(SPEC, store, overwrite=True).rendered == plan_of(SPEC).videos
    assert tree(store) == before


def test_overwrite_where_there_is_nothing(tmp_path: Path) -> None:
    assert write(SPEC, tmp_path / "set.zarr", overwrite=True).rendered == plan_of(SPEC).videos


def test_overwrite_is_refused_while_another_process_writes(store: Path) -> None:
    for shard in plan_of(SPEC).shards:
        with stores.hold(store, shard):
            before = tree(store)
            with pytest.raises(ConflictError, match="another process is writing"):
                write(tiny(seed=7), store, overwrite=True)
            assert tree(store) == before
    write(tiny(seed=7), store, overwrite=True)
    assert read_spec(store)[0].seed == 7


def test_overwrite_of_a_slice_is_refused(store: Path) -> None:
    """It would remove what the other slices have done."""
    before = tree(store)
    for part in ((1, 2), (2, 2)):
        with pytest.raises(ArgumentError, match=r"`overwrite`.*`slice` \(=[12]/2\)"):
            write(SPEC, store, overwrite=True, slice=part)
    assert tree(store) == before


# --- what is no store of ours


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def hidden_files(path: Path) -> None:
    path.mkdir()
    (path / ".git").mkdir()


def a_folder_in_a_folder(path: Path) -> None:
    (path / "train" / "video").mkdir(parents=True)


def a_file(path: Path) -> None:
    path.write_bytes(b"not a folder")


def a_zarr_group(path: Path) -> None:
    zarr.create_group(path, attributes={"mine": 1})


def a_zarr_array(path: Path) -> None:
    zarr.create_array(path, shape=(4,), dtype="u1")[...] = 3


def a_zarr_v2_group(path: Path) -> None:
    zarr.create_group(path, zarr_format=2)


def with_metadata(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(SPEC, path, slice=(99, 99))
        (path / "zarr.json").write_bytes(data)

    return make


def with_attributes(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(SPEC, path, slice=(99, 99))
        fields = json.loads((path / "zarr.json").read_text())
        change(fields["attributes"])
        (path / "zarr.json").write_text(json.dumps(fields))

    return make


def without_metadata(path: Path) -> None:
    write(SPEC, path, slice=(99, 99))
    (path / "zarr.json").unlink()


def with_a_folder_for_metadata(path: Path) -> None:
    write(SPEC, path, slice=(99, 99))
    (path / "zarr.json").unlink()
    (path / "zarr.json").mkdir()


def truncated(path: Path) -> None:
    write(SPEC, path, slice=(99, 99))
    data = (path / "zarr.json").read_bytes()
    (path / "zarr.json").write_bytes(data[: len(data) // 2])


def set_spec(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda attributes: attributes["vpngen"]["spec"].update(fields)


def set_ours(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda attributes: attributes["vpngen"].update(fields)


def set_layout(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda attributes: attributes["vpngen"]["layout"].update(fields)


FOREIGN: list[tuple[str, Callable[[Path], None], str]] = [
    ("a folder", a_folder, "not a Zarr v3 store"),
    ("hidden files", hidden_files, "not a Zarr v3 store"),
    ("a folder in a folder", a_folder_in_a_folder, "not a Zarr v3 store"),
    ("a file", a_file, "Not a directory"),
    ("a zarr group", a_zarr_group, "vpngen did not make it"),
    ("a zarr array", a_zarr_array, "vpngen did not make it"),
    ("a zarr v2 group", a_zarr_v2_group, "not a Zarr v3 store"),
    ("no zarr.json", without_metadata, "not a Zarr v3 store"),
    ("a folder zarr.json", with_a_folder_for_metadata, "not a Zarr v3 store"),
    ("a truncated zarr.json", truncated, "damaged"),
    ("an empty zarr.json", with_metadata(b""), "damaged"),
    ("a binary zarr.json", with_metadata(bytes(range(256))), "damaged"),
    ("a zarr.json of zeros", with_metadata(bytes(1000)), "damaged"),
    ("a deep zarr.json", with_metadata(b"[" * 100_000), "damaged"),
    ("a list", with_metadata(b"[1, 2]"), "damaged"),
    ("null", with_metadata(b"null"), "damaged"),
    ("a string", with_metadata(b'"attributes"'), "damaged"),
    ("no attributes", with_metadata(b"{}"), "damaged"),
    ("null attributes", with_metadata(b'{"attributes": null}'), "damaged"),
    ("a string of attributes", with_metadata(b'{"attributes": "vpngen"}'), "damaged"),
    ("empty attributes", with_metadata(b'{"attributes": {"vpngen": {}}}'), "damaged"),
    ("a fingerprint of another set", with_attributes(set_ours(fingerprint="0" * 64)), "fingerprint"),
    ("no fingerprint", with_attributes(lambda a: a["vpngen"].pop("fingerprint")), "fingerprint"),
    ("another seed", with_attributes(set_spec(seed=1)), "fingerprint"),
    ("a seed that is none", with_attributes(set_spec(seed=-1)), "`seed`"),
    ("a seed that is text", with_attributes(set_spec(seed="0")), "`seed`"),
    ("a generator of text", with_attributes(set_spec(generator="perlin")), "cannot be used"),
    ("a generator of pairs", with_attributes(set_spec(generator=[["name", "perlin"]])), "damaged|cannot be used"),
    ("an unknown generator", with_attributes(set_spec(generator={"name": "plasma"})), "'plasma'. must have the name"),
    ("an unknown field", with_attributes(set_spec(colour=3)), "colour"),
    ("a shape of text", with_attributes(set_spec(shape="abc")), "shape"),
    ("an endless shape", with_attributes(set_spec(shape=[float("inf"), 8, 12])), "shape"),
    ("a newer format", with_attributes(set_spec(format_version=2)), "newer.*pip install --upgrade"),
    ("a far newer format", with_attributes(set_spec(format_version=10**9)), "format_version"),
    ("another layout", with_attributes(set_layout(shard_videos=5)), "checksum"),
    ("other chunks", with_attributes(set_layout(chunk_frames=8)), "checksum"),
    ("another codec", with_attributes(set_layout(codec="zstd")), "checksum"),
    ("an unknown codec", with_attributes(set_layout(codec="blosc")), "`codec`"),
    ("an unknown layout", with_attributes(set_layout(rows=8)), "damaged"),
    ("no videos in a shard", with_attributes(set_layout(shard_videos=0)), "`shard_videos`"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), [(m, t) for _, m, t in FOREIGN], ids=[name for name, _, _ in FOREIGN])
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_what_is_not_ours_is_left_alone(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    make(path)
    before = path.read_bytes() if path.is_file() else tree(path)
    for overwrite in (False, True):
        with pytest.raises(ConflictError, match=f"(?s){message}.*untouched") as told:
            write(SPEC, path, overwrite=overwrite)
        assert "set.zarr" in str(told.value)
    for look in (vpngen.open, vpngen.verify, read_spec, lambda p: vpngen.verify(p, repair=True, backend="reference")):
        with pytest.raises(ConflictError, match=message):
            look(path)
    assert (path.read_bytes() if path.is_file() else tree(path)) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("metadata") / "set.zarr"
    write(SPEC, path, slice=(99, 99))
    return path, (path / "zarr.json").read_bytes()


def spec_or_conflict(path: Path, data: bytes) -> None:
    (path / "zarr.json").write_bytes(data)
    try:
        found = read_spec(path)
    except ConflictError:
        return
    assert found == (SPEC, Layout("none", stores.SHARD_VIDEOS))


@settings(max_examples=6 * settings().max_examples)
@given(data=st.data())
def test_no_flipped_bit_makes_another_set(data: st.DataObject, metadata: tuple[Path, bytes]) -> None:
    path, whole = metadata
    end = whole.index(b'"consolidated_metadata"')
    bit = data.draw(st.one_of(st.integers(0, 8 * end - 1), st.integers(0, 8 * len(whole) - 1)))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    spec_or_conflict(path, bytes(damaged))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=4 * settings().max_examples)
@given(data=st.data())
def test_no_value_in_the_metadata_breaks_the_reader(data: st.DataObject, metadata: tuple[Path, bytes]) -> None:
    path, whole = metadata
    fields = json.loads(whole)
    del fields["consolidated_metadata"]
    at: Any = fields
    key: Any = "attributes"
    while isinstance(at[key], (dict, list)) and at[key] and data.draw(st.integers(0, 5)):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
    at[key] = data.draw(JSON)
    spec_or_conflict(path, json.dumps(fields).encode())


# --- the path


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "set.zarr", tmp_path / "file" / "a" / "set.zarr"):
        for overwrite in (False, True):
            with pytest.raises(VpngenError, match="file") as told:
                write(SPEC, path, overwrite=overwrite)
            assert told.value.exit_code in (2, 3, 4)
        for look in (vpngen.open, vpngen.verify):
            with pytest.raises(VpngenError, match=r"set\.zarr"):
                look(path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="file names are text there")
def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    for name in (os.fsdecode(b"bad\xff.zarr"), os.fsdecode(b"bad\xff") + "/set.zarr"):
        with pytest.raises(ArgumentError, match=r"`path`.*not valid UTF-8") as told:
            write(SPEC, tmp_path / name)
        str(told.value).encode()  # can be printed
        with pytest.raises(ArgumentError, match="is not there"):
            vpngen.verify(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_a_zero_byte(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`path`"):
        write(SPEC, tmp_path / "a\0b")
    with pytest.raises(ArgumentError, match="is not there"):
        vpngen.open(tmp_path / "a\0b")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    for length in (250, 400):  # the first is a name, but no room is left for that of the folder beside it
        with pytest.raises(VpngenError, match=r"(?i)name too long|cannot be used"):
            write(SPEC, tmp_path / ("a" * length))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["set.zarr", "a name with blanks", "\u30d1\u30fc\u30ea\u30f3.zarr", "-x", "*?[a]", "a/b/c/set.zarr"]
)
def test_names_that_are_fine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(SPEC, tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    for path in (name, f"{name}/"):
        write(SPEC, Path(path))
    vpngen.write(SPEC, name, backend="reference", shard_videos=stores.SHARD_VIDEOS, codec="none")
    assert tree(Path(name)) == tree(tmp_path / "whole")
    assert vpngen.verify(name, backend="reference").problems == ()


def test_an_empty_folder_becomes_the_store(tmp_path: Path) -> None:
    (tmp_path / "set.zarr").mkdir()
    write(SPEC, tmp_path / "set.zarr")
    write(SPEC, tmp_path / "whole")
    assert tree(tmp_path / "set.zarr") == tree(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_stays_a_link(there: bool, tmp_path: Path) -> None:
    """The disk with room is often somewhere else."""
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk" / "real").mkdir()
    link = tmp_path / "set.zarr"
    link.symlink_to(tmp_path / "disk" / "real")
    write(SPEC, link)
    write(tiny(seed=7), link, overwrite=True)
    write(tiny(seed=7), tmp_path / "whole")
    assert link.is_symlink() and tree(tmp_path / "disk" / "real") == tree(tmp_path / "whole")
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["real"]
    assert write(tiny(seed=7), link).rendered == 0


# --- arguments


def test_arguments_out_of_range(tmp_path: Path, store: Path) -> None:
    before = tree(store)
    for name, values, message in (
        ("shard_videos", (0, 65537, 4.0, True), "must be an integer from 1 to 65536"),
        ("threads", (0, 1025, 1.5, True), "must be an integer from 1 to 1024"),
        ("codec", ("gzip", "", None), "must be one of none, zstd, formula"),
        ("backend", ("cudaa",), ""),
        ("slice", ((0, 1), (2, 1), (-1, 3), (1, 0), (1.0, 2), ("1", "2")), "must be .I, N."),
    ):
        for value in values:
            for path in (tmp_path / "new.zarr", store):
                with pytest.raises(ArgumentError, match=f"`{name}` .*{message}"):
                    write(SPEC, path, **{"overwrite": True, name: value})
    assert tree(store) == before
    assert list(tmp_path.iterdir()) == [store]


@pytest.mark.parametrize("shard_videos", [1, 2, 7, 8, 65536])
def test_any_size_of_shard(shard_videos: int, tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    done = write(SPEC, path, shard_videos=shard_videos, threads=3)
    assert done.rendered == SPEC.n_videos("train") + SPEC.n_videos("val")
    assert vpngen.verify(path, backend="reference", render=True).problems == ()
    np.testing.assert_array_equal(vpngen.open(path).video[...], stores.pixels(SPEC))


def test_a_store_of_which_a_folder_is_gone(store: Path) -> None:
    shutil.rmtree(store / "train" / "video")
    with pytest.raises(RunError, match=r"train/video.*No such file"):
        write(SPEC, store)
    assert vpngen.verify(store, repair=True, backend="reference").whole
    assert Spec.from_dict(json.loads((store / "zarr.json").read_text())["attributes"]["vpngen"]["spec"]) == SPEC
    assert write(SPEC, store).rendered == 0

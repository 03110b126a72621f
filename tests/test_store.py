"""What is written is plain Zarr v3: zarr-python, xarray and tensorstore read it back byte for byte, and find damage."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import stores
import tensorstore
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import SHARD_VIDEOS, pixels, small, tiny, tree, write
from strategies import SPECS, spans

import vpngen
from vpngen import ArgumentError, Spec
from vpngen.files import Folder
from vpngen.store import CODECS, ClipReader, Layout, clips, is_complete, read_spec, store_plan
from vpngen.store.layout import all_shards
from vpngen.store.packing import MISSING, decode_chunk, read_chunks

SETS = {
    "padded": small(),  # 20 frames are two chunks of 16, and the last shard of each split is not full
    "whole chunks": small(shape=(32, 48, 48), instances=2, val_instances=0),
    "one short chunk": small(shape=(5, 48, 48)),
    "one video": small(divisions_x=(4,), divisions_y=(3,), instances=1, val_instances=0),
    "one frame of one row": tiny(shape=(1, 2, 12)),
}


OF_PIXELS = [
    ("padded", "none"),
    ("padded", "zstd"),
    ("whole chunks", "none"),
    ("one short chunk", "zstd"),
    ("one video", "zstd"),
    ("one frame of one row", "none"),
]
OF_PARAMS = [("padded", "formula"), ("one video", "formula"), ("one frame of one row", "formula")]
of_pixels = pytest.mark.parametrize("stored", OF_PIXELS, indirect=True, ids="-".join)


@pytest.fixture(scope="module", params=OF_PIXELS + OF_PARAMS, ids="-".join)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, str, Path]:
    name, codec = request.param
    path = tmp_path_factory.mktemp("stored") / "set.zarr"
    write(SETS[name], path, codec=codec)
    return SETS[name], codec, path


def opened_by_tensorstore(path: Path) -> Any:
    return tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, read=True).result()


def read_by_zarr(path: Path, split: str, name: str) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_array(path / split / name, mode="r")[...])


def read_by_xarray(path: Path, split: str, name: str) -> npt.NDArray[Any]:
    with xarray.open_zarr(path, group=split) as data:
        return np.asarray(data[name].values)


def read_by_tensorstore(path: Path, split: str, name: str) -> npt.NDArray[Any]:
    return np.asarray(opened_by_tensorstore(path / split / name).read().result())


READERS: list[Callable[[Path, str, str], npt.NDArray[Any]]] = [read_by_zarr, read_by_xarray, read_by_tensorstore]
"""Of a formula, tensorstore reads the arrays beside the pixels."""
each_reader = pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__.removeprefix("read_by_"))


# --- every reader sees what the formula says


@each_reader
def test_pixels(stored: tuple[Spec, str, Path], read: Callable[[Path, str, str], npt.NDArray[Any]]) -> None:
    spec, codec, path = stored
    for split in spec.splits:
        if codec == "formula" and read is read_by_tensorstore:
            with pytest.raises(ValueError, match=r"vpngen\.formula"):
                read(path, split, "video")
            continue
        video = read(path, split, "video")
        assert video.dtype == np.uint8
        np.testing.assert_array_equal(video, pixels(spec, split))


@each_reader
def test_labels_and_parameters(
    stored: tuple[Spec, str, Path], read: Callable[[Path, str, str], npt.NDArray[Any]]
) -> None:
    spec, _, path = stored
    for split in spec.splits:
        indices = np.arange(spec.n_videos(split))
        np.testing.assert_array_equal(read(path, split, "label"), spec.labels(indices, split))
        parameters = spec.parameters(indices, split)
        assert {"frequency", "amplitude", "key"} <= set(parameters)
        for name, parameter in parameters.items():
            values = read(path, split, name)
            assert values.dtype == parameter.values.dtype
            np.testing.assert_array_equal(values, parameter.values)


@settings(max_examples=max(1, settings().max_examples // 5))  # three readers each
@given(data=st.data())
def test_a_part_is_a_slice_of_the_whole(data: st.DataObject, big: tuple[Path, npt.NDArray[np.uint8]]) -> None:
    path, video = big
    part = tuple(slice(*(data.draw(spans(n)) or (None,))) for n in video.shape)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[part], video[part])
    if read_spec(path.parents[1])[1].codec != "formula":
        np.testing.assert_array_equal(opened_by_tensorstore(path)[part].read().result(), video[part])
    with xarray.open_zarr(path.parents[1], group=path.parent.name) as opened:
        at = dict(zip(("sample", "t", "y", "x"), part, strict=True))
        np.testing.assert_array_equal(opened["video"].isel(at).values, video[part])


@pytest.fixture(scope="module", params=CODECS)
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, npt.NDArray[np.uint8]]:
    path = tmp_path_factory.mktemp("parts") / "set.zarr"
    write(small(), path, codec=request.param)
    return path / "train" / "video", pixels(small())


def test_every_backend_writes_the_same_files(tmp_path: Path) -> None:
    for codec in CODECS:
        write(small(), tmp_path / f"reference-{codec}", codec=codec)
        write(small(), tmp_path / f"numba-{codec}", codec=codec, backend="numba", threads=2)
        assert tree(tmp_path / f"reference-{codec}") == tree(tmp_path / f"numba-{codec}")


@given(spec=st.one_of(*SPECS.values()), codec=st.sampled_from(CODECS), shard_videos=st.integers(1, 40))
@settings(max_examples=max(1, settings().max_examples // 4))
def test_any_spec(spec: Spec, codec: str, shard_videos: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "set.zarr"
    write(spec, path, codec=codec, shard_videos=shard_videos, backend="numba")
    assert read_spec(path) == (spec, Layout(codec, shard_videos))
    last = spec.n_videos("train") - 1
    open_array = functools.partial(zarr.open_array, mode="r") if codec == "formula" else opened_by_tensorstore
    np.testing.assert_array_equal(
        open_array(path / "train" / "video")[last], vpngen.render(spec, last, backend="numba")
    )
    assert vpngen.verify(path, backend="numba", render=True, threads=1).problems == ()
    shutil.rmtree(path)


# --- names, dimensions, attributes


def test_every_array_names_its_dimensions_and_none_is_named_like_one(stored: tuple[Spec, str, Path]) -> None:
    spec, codec, path = stored
    for split in spec.splits:
        arrays = dict(zarr.open_group(path / split, mode="r").arrays())
        names = {
            name: json.loads((path / split / name / "zarr.json").read_text())["dimension_names"] for name in arrays
        }
        assert names["video"] == ["sample", "t", "y", "x"]
        assert names["label"] == ["sample"]
        for name, array in arrays.items():
            assert all(names[name]) and len(names[name]) == array.ndim
            assert array.attrs["about"]
        assert not set(names) & set(chain.from_iterable(names.values()))
        with xarray.open_zarr(path, group=split) as data:
            assert not data.coords
            assert data["video"].dims == ("sample", "t", "y", "x")
        if codec != "formula":
            assert opened_by_tensorstore(path / split / "video").domain.labels == ("sample", "t", "y", "x")


def test_attributes_are_the_spec(stored: tuple[Spec, str, Path]) -> None:
    spec, codec, path = stored
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    ours = attributes["vpngen"]
    assert Spec.from_dict(ours["spec"]) == spec
    assert ours["fingerprint"] == spec.fingerprint
    assert ours["format_version"] == spec.format_version
    assert Layout(**ours["layout"]) == Layout(codec, SHARD_VIDEOS)
    assert attributes["licence"] == "CC0-1.0"
    assert "Kataoka" in attributes["citation"]
    assert read_spec(path) == (spec, Layout(codec, SHARD_VIDEOS))
    group = zarr.open_group(path, mode="r")
    assert group.attrs.asdict() == attributes
    assert set(group.group_keys()) == set(spec.splits)


def test_chunks_and_codecs_are_those_of_the_design(stored: tuple[Spec, str, Path]) -> None:
    spec, codec, path = stored
    frames, height, width = spec.shape
    video = zarr.open_array(path / "train" / "video", mode="r")
    assert video.chunks == (1, frames if codec == "formula" else min(16, frames), height, width)
    assert video.shards == (SHARD_VIDEOS, -(-frames // video.chunks[1]) * video.chunks[1], height, width)
    fields = json.loads((path / "train" / "video" / "zarr.json").read_text())
    (sharding,) = fields["codecs"]
    inner = [c["name"] for c in sharding["configuration"]["codecs"]]
    assert inner == (
        ["vpngen.formula"] if codec == "formula" else ["bytes", *(["zstd"] if codec == "zstd" else []), "crc32c"]
    )
    assert [c["name"] for c in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    files = {p.name for p in (path / "train" / "video").iterdir()}
    keys = {f"c.{n}.0.0.0" for n in range(-(-spec.n_videos() // SHARD_VIDEOS))}
    assert files == {"zarr.json"} | keys | {f"{k}.done" for k in keys}


def test_open(stored: tuple[Spec, str, Path]) -> None:
    spec, codec, path = stored
    for split in spec.splits:
        view = vpngen.open(path, split)
        assert (view.spec, view.layout, view.split, view.path) == (spec, Layout(codec, SHARD_VIDEOS), split, path)
        np.testing.assert_array_equal(view.video[-1], pixels(spec, split)[-1])
        np.testing.assert_array_equal(view.label[...], spec.labels(np.arange(spec.n_videos(split)), split))
        assert set(view.parameters) == set(spec.parameters([0], split))
        assert view.finished()
    assert is_complete(path)
    if "val" not in spec.splits:
        with pytest.raises(ArgumentError, match=r"`split`.*empty"):
            vpngen.open(path, "val")
    with pytest.raises(ArgumentError, match="`split`"):
        vpngen.open(path, "test")
    with pytest.raises(ArgumentError, match="is not there"):
        vpngen.open(path / "nothing")


def test_an_unfinished_split_says_so(tmp_path: Path) -> None:
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, path, slice=(1, 3))
    assert not vpngen.open(path).finished() and not vpngen.open(path, "val").finished()
    assert not is_complete(path)
    write(spec, path, slice=(2, 3))
    assert vpngen.open(path).finished() and not vpngen.open(path, "val").finished()
    assert not is_complete(path)
    write(spec, path, slice=(3, 3))
    assert vpngen.open(path, "val").finished()
    assert is_complete(path)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_clip_reader_keeps_few_shards_open(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones read last; and what is read is right after a shard was closed and opened again, by several threads too."""
    spec, path = tiny(), tmp_path / "set.zarr"
    write(spec, path, codec=codec, shard_videos=1)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest, **more: opened.append(str(name)) or real(name, *rest, **more))
    monkeypatch.setattr(clips, "OPEN_SHARDS", 2)
    reader, window = ClipReader(path, "train"), np.array([[3, 2, 1, 4, 1]], np.int32)

    def read(*videos: int, threads: int = 1) -> None:
        found = np.empty((len(videos), 8, 6, 7), np.uint8)
        reader.read(np.array(videos), window.repeat(len(videos), 0), found, threads)
        np.testing.assert_array_equal(found, pixels(spec)[list(videos), 3:19:2, 1:7, 4:11][..., ::-1])

    for video in (0, 1, 0, 2, 0, 1):
        read(video)
    assert [name[2] for name in opened if re.fullmatch(r"c\.\d\.0\.0\.0", name)] == ["0", "1", "2", "1"]
    read(*[v % 6 for v in range(0, 60, 7)], threads=4)
    for links in (Path("/proc/self/fd"),) if Path("/proc/self/fd").is_dir() else ():
        held = [os.readlink(link) for link in links.iterdir() if link.is_symlink()]
        assert len([name for name in held if str(path) in name]) == 2


# --- zarr-python as the second writer


def stored_chunks(path: Path, spec: Spec) -> dict[str, list[bytes | None]]:
    """Every chunk of every shard as it is stored, in the order of the index; None where there is none."""
    found: dict[str, list[bytes | None]] = {}
    plan = store_plan(spec, read_spec(path)[1])
    for shard in plan.shards:
        index, _ = stores.index_of(path, plan, shard)
        with Folder(path).file(shard.key) as file:
            chunks = [
                None if e[0, 0] == MISSING else read_chunks(file, e, plan.most_chunk())[0]
                for e in index.reshape(-1, 1, 2)
            ]
            found[shard.key] = chunks
    return found


@of_pixels
def test_zarr_itself_writes_the_same_chunks(stored: tuple[Spec, str, Path], tmp_path: Path) -> None:
    spec, codec, path = stored
    theirs = stores.copy(path, tmp_path / "theirs.zarr")
    for shard in all_shards(spec, Layout(codec, SHARD_VIDEOS)):
        (theirs / shard.key).unlink()
    for split in spec.splits:
        array = zarr.open_array(theirs / split / "video", mode="r+", config={"write_empty_chunks": True})
        array[...] = pixels(spec, split)
    ours, other = stored_chunks(path, spec), stored_chunks(theirs, spec)
    for shard in all_shards(spec, Layout(codec, SHARD_VIDEOS)):
        used = shard.count * -(-spec.shape[0] // 16)
        assert ours[shard.key][:used] == other[shard.key][:used]
        assert all(chunk is None for chunk in ours[shard.key][used:])  # zarr stores what is beyond the last video too
        nbytes = min(16, spec.shape[0]) * spec.shape[1] * spec.shape[2]
        for chunk in other[shard.key][used:]:
            assert chunk is None or not decode_chunk(chunk, codec, nbytes).any()
    assert {k: v for k, v in tree(theirs).items() if k not in ours} == {
        k: v for k, v in tree(path).items() if k not in ours
    }


def test_shards_are_packed_without_gaps(stored: tuple[Spec, str, Path]) -> None:
    spec, _, path = stored
    for key, chunks in stored_chunks(path, spec).items():
        joined = b"".join(chunk for chunk in chunks if chunk is not None)
        data = (path / key).read_bytes()
        assert data[: len(joined)] == joined
        assert len(data) == len(joined) + len(chunks) * 16 + 4


# --- a flipped bit is an error, whoever reads


@pytest.mark.parametrize("codec", CODECS)
def test_a_flipped_bit_is_never_read(codec: str, tmp_path: Path) -> None:
    spec, path, plan = tiny(), tmp_path / "set.zarr", stores.plan_of(tiny(), codec)
    write(spec, path, codec=codec)
    file = path / plan.shards[1].key
    whole = file.read_bytes()
    size = int(stores.index_of(path, plan, plan.shards[1])[0][0, 0, 1])
    for read in READERS[:2] if codec == "formula" else READERS:
        np.testing.assert_array_equal(read(path, "train", "video"), pixels(spec))
        for place in (0, size // 2, size - 1, len(whole) - 30):  # two in a chunk, its checksum, the index
            data = bytearray(whole)
            data[place] ^= 4
            file.write_bytes(data)
            with pytest.raises(ValueError, match=r"(?i)checksum|crc|digest|zstd"):
                read(path, "train", "video")
        file.write_bytes(whole)


def test_a_flipped_bit_in_a_label_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "set.zarr"
    write(tiny(), path)
    for name in ("label", "frequency", "amplitude", "key"):
        (file,) = (path / "train" / name).glob("c.*")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        for read in READERS:
            with pytest.raises(ValueError, match=r"(?i)checksum|crc|digest|zstd"):
                read(path, "train", name)

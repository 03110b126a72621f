"""`vpngen export`: what is written is the set, real readers open it, and a run that was stopped goes on."""

from __future__ import annotations

import contextlib
import csv
import functools
import gc
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run, end_of, process
from PIL import Image
from stores import tree

import vpngen
from vpngen import ArgumentError, ConflictError, RunError, Spec, files
from vpngen import export as exporting
from vpngen.cli.exporting import KINDS, LAYOUTS
from vpngen.datasets import read_videos
from vpngen.export import Export, class_name

SHAPE = (6, 20, 25)
SPEC = vpngen.drift(
    motions="directions", directions=2, speeds=(0.5,), cells=(8.0,), octaves=(1,), instances=3, val_instances=1, shape=SHAPE
)  # fmt: skip
NOISE = vpngen.perlin(4, 2, divisions=(1, 5), noise_terms=1, noise_frequencies=(1, 5), shape=(6, 20, 25))
EXACT = ("ffv1", "gif", "frames", "npz")


def sources(spec: Spec) -> Any:
    return lambda split: functools.partial(vpngen.render, spec, backend="reference")


def write(export: Export, out: Path, **options: Any) -> exporting.Exported:
    return exporting.write(export, out, sources(export.spec), **{"threads": 2, **options})


def decoded(path: Path) -> Any:
    """The grey frames of a file, by a reader that is not ours."""
    if path.is_dir():
        return np.stack([np.asarray(Image.open(p)) for p in sorted(path.iterdir())])
    if path.suffix == ".npz":
        return np.load(path)["video"]
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(20)
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


# --- what is written


@pytest.mark.parametrize("to", [*EXACT, "mp4"])
def test_files_are_the_videos_and_folders_their_labels(to: str, tmp_path: Path) -> None:
    done = write(Export(SPEC, to, fps=20), tmp_path / "out")
    assert (done.written, done.kept) == (8, 0) and done.nbytes > 0
    names = [class_name(SPEC, label) for label in range(2)]
    assert names == ["0_direction0.0_speed0.5_cell8.0", "1_direction180.0_speed0.5_cell8.0"]
    for subset, split in (("train", "train"), ("val", "val")):
        if to == "npz":
            paths = [(p, int(p.parent.name[0])) for p in (tmp_path / "out" / split).rglob("*.npz")]
        else:  # our own reader of other people's sets
            found = read_videos("folder", tmp_path / "out", subset=subset)
            assert list(found.classes) == names
            paths = [(Path(video.path), video.label) for video in found.videos]
        assert len(paths) == SPEC.n_videos(split)
        for path, label in paths:
            index = int(path.name[:8])
            assert label == SPEC.label(index, split)
            pixels, frames = vpngen.render(SPEC, index, split=split), decoded(path)
            if to == "mp4":  # of odd sizes: a row and a column more
                assert frames.shape == (6, 20, 26) and np.abs(frames[:, :, :25] - pixels.astype(float)).mean() < 2
            else:
                assert np.array_equal(frames, pixels)


def test_a_part_and_a_size(tmp_path: Path) -> None:
    write(Export(SPEC, "npz", ("val",), (1,), clip=(2, 10, 12), fps=20), tmp_path / "cut")
    write(Export(SPEC, "npz", ("val",), (1,), clip=(2, 10, 12), size=(5, 6)), tmp_path / "small")
    (cut,), (small,) = (list((tmp_path / name).rglob("*.npz")) for name in ("cut", "small"))
    middle = vpngen.render(SPEC, 1, split="val")[2:4, 5:15, 6:18]
    assert np.array_equal(decoded(cut), middle)
    assert decoded(small).shape == (2, 5, 6)
    boxes = middle.reshape(2, 5, 2, 6, 2).mean(axis=(2, 4))
    assert np.abs(decoded(small) - boxes).mean() < 6


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves the last shard open
def test_webdataset_reads_its_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write(Export(NOISE, "webdataset", shard_videos=3), tmp_path)
    shards = sorted(str(p) for p in tmp_path.glob("*.tar"))
    assert [Path(p).name for p in shards] == [f"train-{n:06d}.tar" for n in range(3)]
    samples: list[dict[str, Any]] = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    gc.collect()
    assert [s["__key__"] for s in samples] == [f"{i:08d}" for i in range(8)]
    for index, sample in enumerate(samples):
        assert np.array_equal(sample["npy"], vpngen.render(NOISE, index)) and sample["cls"] == NOISE.label(index)
        assert sample["json"]["index"] == index and sample["json"]["category"] == class_name(NOISE, NOISE.label(index))


def test_other_peoples_code_for_ucf101_takes_it(tmp_path: Path) -> None:
    write(Export(SPEC, "ffv1", layout="ucf101", fps=20), tmp_path)
    groups = []
    for subset in ("train", "val"):
        found = read_videos("ucf101", tmp_path / "videos", tmp_path / "lists", subset=subset)
        assert list(found.classes) == [class_name(SPEC, label) for label in range(2)]
        assert sorted(v.label for v in found.videos) == sorted(
            SPEC.labels(np.arange(SPEC.n_videos(subset)), subset).tolist()
        )
        groups.append({v.group for v in found.videos})
        for video in found.videos:
            instance = int(Path(video.path).stem.split("_g")[1][:4]) - 1 - (3 if subset == "val" else 0)
            index = instance * SPEC.n_categories + video.label
            assert np.array_equal(decoded(Path(video.path)), vpngen.render(SPEC, index, split=subset))
    assert not groups[0] & groups[1]  # no group is in both, as in UCF-101


@pytest.mark.parametrize("spec", [SPEC, NOISE], ids=["drift", "perlin"])
def test_the_table_has_every_parameter(spec: Spec, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(Export(spec, "npz"), tmp_path)
    with (tmp_path / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "metadata.parquet").to_pylist()
    assert [{k: str(v) for k, v in row.items()} for row in table] == rows and len(
        rows
    ) == spec.n_videos() + spec.n_videos("val")
    for row in table:
        one = spec.parameters([row["index"]], row["split"])
        for name, parameter in one.items():
            values = parameter.values.reshape(-1)
            found = [row[name]] if parameter.values.ndim == 1 else [row[f"{name}_{i}"] for i in range(len(values))]
            assert np.array_equal(np.array(found, values.dtype), values), name
        assert row["label"] == spec.label(row["index"], row["split"]) and (tmp_path / row["file"]).exists()


# --- runs that are stopped, and slices


@pytest.mark.parametrize(("to", "layout"), [("npz", "folders"), ("frames", "ucf101"), ("webdataset", "folders")])
@pytest.mark.parametrize("call", ["publish", "rename", "link", "fsync", "cut"])
def test_a_run_that_was_stopped_anywhere_goes_on(
    to: str, layout: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps: what has its name is whole, and the same call writes what one run does."""
    export = Export(SPEC, to, ("train",), (0, 1, 2), layout=layout, shard_videos=2)
    write(export, tmp_path / "whole")
    whole, left = tree(tmp_path / "whole"), [0]
    owner = {"publish": files, "cut": exporting}.get(call, os)
    name = {"cut": "_cut"}.get(call, call)
    real = getattr(owner, name)

    def stop(*about: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "the disk is gone")
        return real(*about)

    stopped = 0
    for after in range(60):
        left[0] = after
        with monkeypatch.context() as patch, contextlib.suppress(RunError):
            patch.setattr(owner, name, stop)
            write(export, tmp_path / "cut", threads=1)
            break
        stopped += 1
        there = tree(tmp_path / "cut") if (tmp_path / "cut").exists() else {}
        assert all(whole[n] == data for n, data in there.items() if "partial" not in n and not n.endswith("/"))
        if after % 2:
            done = write(export, tmp_path / "cut")
            assert done.kept + done.written == 3 and tree(tmp_path / "cut") == whole
            shutil.rmtree(tmp_path / "cut")
    assert tree(tmp_path / "cut") == whole and write(export, tmp_path / "cut") == (0, 3, 0)
    assert stopped or (call, to) in {("rename", "npz"), ("rename", "webdataset"), ("fsync", "npz"), ("link", to)}


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    export, out = Export(SPEC, "frames", ("val",)), tmp_path / "out"
    out.mkdir()
    (out / ".export.json.elsewhere.1.partial").write_text("{")
    write(export, out)
    (whole,) = {path.parent for path in out.rglob("00000000/00001.png")}
    before = tree(whole)
    left = files.partial_of(whole)  # of this host; of a process that is no more
    shutil.move(whole, left.with_name(left.name.replace(f".{os.getpid()}.", ".4194304.")))
    for name in ("metadata.parquet", "metadata.csv"):
        (out / name).unlink()
    assert write(export, out).written == 1 and tree(whole) == before
    assert {"metadata.csv", "metadata.parquet"} <= {p.name for p in out.iterdir()}
    assert not list(whole.parent.glob(".*"))


def test_slices_at_once_are_the_whole(tmp_path: Path) -> None:
    """In processes of their own, which begin together."""
    (tmp_path / "spec.json").write_text(SPEC.to_json())
    options = ("--to", "frames", "--backend", "reference", "--format", "json")
    assert end_of(process("export", "spec.json", "whole", *options, cwd=tmp_path)).code == 0
    running = [process("export", "spec.json", "out", *options, "--slice", f"{i}/3", cwd=tmp_path) for i in (2, 1, 3)]
    ended = [end_of(each) for each in running]
    assert [each.code for each in ended] == [0, 0, 0] and [each.json["written"] for each in ended] == [3, 3, 2]
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# --- the command, and what it refuses


def test_the_command_exports_stores_specs_presets_and_options(run: Run, tmp_path: Path) -> None:
    vpngen.write(NOISE, tmp_path / "set.zarr", codec="zstd", backend="reference")
    (tmp_path / "spec.json").write_text(NOISE.to_json())
    for source in ("set.zarr", "spec.json"):
        done = run("export", tmp_path / source, tmp_path / f"of-{source}", "--to", "npz", "--format", "json")
        assert done.json["written"] == 8
    assert tree(tmp_path / "of-set.zarr") == tree(tmp_path / "of-spec.json")
    options = (
        "--categories",
        "4",
        "--instances",
        "2",
        "--shape",
        "6x20x25",
        "--divisions",
        "1,5",
        "--noise-terms",
        "1",
    )
    few = ("--noise-frequencies", "1,5", "--indices", "0,2-3", "--to", "npz")
    assert "3 videos written" in run("export", tmp_path / "few", *options, *few).out
    (tmp_path / "few" / "metadata.csv").unlink()
    part = run("export", tmp_path / "few", *options, *few, "--dry-run", "--slice", "1/2", "--format", "json").json
    assert (part["videos"], part["kept"]) == (0, 2) and not (tmp_path / "few" / "metadata.csv").exists()
    dry = run(
        "export",
        "drift-64x512",
        tmp_path / "dry",
        "--dry-run",
        "--clip",
        "4x32x32",
        "--indices",
        "0-9",
        "--format",
        "json",
    )
    assert dry.json["videos"] == 10 and not (tmp_path / "dry").exists()


def test_what_is_refused(run: Run, tmp_path: Path) -> None:
    for changes, said in (
        ({"to": "avi"}, "`to` .='avi'. must be one of"),
        ({"layout": "hmdb"}, "`layout` .=.hmdb.. must be one of folders, ucf101"),
        ({"to": "webdataset", "layout": "ucf101"}, "`layout` .='ucf101'. cannot be given beside webdataset"),
        ({"to": "gif", "fps": 60}, "`fps` .=60. must be a number from 0.1 to 50 for gif"),
        ({"clip": (7, 8, 8)}, "`clip` .='7x8x8'. is larger than the videos, 6x20x25"),
        ({"size": (0, 8)}, "`size` .=0. must be an integer from 1"),
        ({"size": (5,)}, "`size` .=.5,.. must be 2 numbers"),
        ({"clip": (1, 2)}, "`clip` .=.1, 2.. must be 3 numbers"),
        ({"indices": (0, 6)}, "outside"),
        ({"indices": (2,)}, "outside"),  # of val
        ({"indices": (1, 1)}, "`indices` .=.1,1.. must name a video, and none twice"),
        ({"splits": ("test",)}, "`split` .='test'. is empty in this set; it has train, val"),
    ):
        with pytest.raises(ArgumentError, match=said):
            Export(SPEC, **{"to": "npz", **changes})  # type: ignore[arg-type]
    write(Export(SPEC, "npz", ("val",)), tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(ConflictError, match=r"(?s)another export.*\n  to: npz there, ffv1 asked for"):
        write(Export(SPEC, "ffv1", ("val",)), tmp_path / "out")
    assert tree(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConflictError, match="not empty, and no export of vpngen"):
        write(Export(SPEC, "npz"), tmp_path / "mine")
    with pytest.raises(ArgumentError, match="is a file"):
        write(Export(SPEC, "npz"), tmp_path / "mine" / "thesis.tex")
    assert (KINDS, LAYOUTS) == (tuple(exporting.FORMATS), exporting.LAYOUTS)
    assert "SOURCE and OUT" in run("export", "drift-64x512").err and not (tmp_path / "drift-64x512").exists()
    vpngen.write(NOISE, tmp_path / "set.zarr", backend="reference", slice=(1, 2), shard_videos=4)
    for wrong, said in ((("--instances", "3"), "beside SOURCE"), ((), "is not complete")):
        assert said in run("export", "set.zarr", "new", *wrong).err and not (tmp_path / "new").exists()
    assert "SOURCE and OUT" in run("export").err
    assert "leave one of them out" in run("export", "drift-64x512", tmp_path / "x", "--instances", "3").err

"""Annotations as their makers publish them: what a reader finds in them, and what it says when they are wrong."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpngen.datasets import ANNOTATIONS, KINDS, LAYOUTS, Layout, Video, VideoSet, hold_out, read_videos
from vpngen.datasets.base import Listed
from vpngen.datasets.sets import DataConfig, labelled
from vpngen.errors import ArgumentError, ConflictError


def put(path: Path, text: str = "x") -> Path:
    """A file with its folders; of videos the readers only ask whether they are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def seen(found: VideoSet, root: Path) -> list[tuple[str, str, str, str]]:
    """id, path below the root, class, group."""
    return [(v.id, v.path.relative_to(root).as_posix(), found.classes[v.label], v.group) for v in found.videos]


# --- UCF-101

UCF = {
    "ApplyEyeMakeup": ["v_ApplyEyeMakeup_g08_c01", "v_ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g01_c02"],
    "HandstandPushups": ["v_HandStandPushups_g08_c01", "v_HandStandPushups_g01_c03"],  # the two spellings are theirs
    "YoYo": ["v_YoYo_g08_c02", "v_YoYo_g25_c05"],
}


@pytest.fixture
def ucf(tmp_path: Path) -> tuple[Path, Path]:
    root, lists = tmp_path / "UCF-101", tmp_path / "ucfTrainTestlist"
    for name, videos in UCF.items():
        for video in videos:
            put(root / name / f"{video}.avi")
    put(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n2\tHandstandPushups\r\n3 YoYo\r\n")
    for split in (1, 2, 3):
        put(
            lists / f"trainlist{split:02d}.txt",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n"
            "YoYo/v_YoYo_g08_c02.avi 3\r\n\r\n",
        )
        put(
            lists / f"testlist{split:02d}.txt",
            "".join(f"{n}/{v}.avi\n" for n, vs in UCF.items() for v in vs if "_g08_" not in v or split == 3),
        )
    return root, lists


def test_ucf101(ucf: tuple[Path, Path]) -> None:
    root, lists = ucf
    found = read_videos("ucf101", root, lists)
    assert (found.kind, found.subset, found.split) == ("ucf101", "train", 1) and found.classes == tuple(UCF)
    assert seen(found, root) == [
        ("v_ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup", "ApplyEyeMakeup/g08"),
        ("v_HandStandPushups_g08_c01", "HandstandPushups/v_HandStandPushups_g08_c01.avi", "HandstandPushups",
         "HandstandPushups/g08"),
        ("v_YoYo_g08_c02", "YoYo/v_YoYo_g08_c02.avi", "YoYo", "YoYo/g08"),
    ]  # fmt: skip
    test = read_videos("ucf101", root, lists, subset="val", split=1)
    assert [v.id for v in test.videos] == [v for vs in UCF.values() for v in vs if "_g08_" not in v]
    assert [test.classes[v.label] for v in test.videos] == ["ApplyEyeMakeup"] * 2 + ["HandstandPushups", "YoYo"]
    assert len(read_videos("ucf101", root, lists, subset="val", split=3).videos) == 7
    # found by themselves beside or in the folder of the videos
    assert read_videos("ucf101", root) == found
    lists.rename(root / lists.name)
    assert read_videos("ucf101", root) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_ucf101_says_what_is_wrong(ucf: tuple[Path, Path]) -> None:
    root, lists = ucf
    (lists / "trainlist02.txt").unlink()
    with pytest.raises(
        ConflictError, match=r"trainlist02.txt cannot be read .* has classInd.txt, testlist01.txt, .*trainlist03.txt"
    ):
        read_videos("ucf101", root, lists, split=2)
    for text, match in (
        ("ApplyEyeMakeup/v_a.avi 1\nYoYo/v_b.avi\n", "trainlist01.txt:2: 'YoYo/v_b.avi'"),
        ("v_a.avi 1\n", "trainlist01.txt:1"),
        ("ApplyEyeMakeup/v_a.avi 2\n", "of a class as classInd.txt numbers it"),
        ("Archery/v_a.avi 1\n", "of a class as classInd.txt numbers it"),
        ("YoYo/v_a.avi three\n", "trainlist01.txt:1"),
        ("YoYo/ 3\n", "trainlist01.txt:1"),
    ):
        put(lists / "trainlist01.txt", text)
        with pytest.raises(ConflictError, match=match):
            read_videos("ucf101", root, lists)
    put(lists / "trainlist01.txt", "YoYo/v_gone.avi 3\n")
    with pytest.raises(ConflictError, match=r"none of the 1 video .* is there, not even .*v_gone.avi"):
        read_videos("ucf101", root, lists)
    put(lists / "trainlist01.txt", "")
    with pytest.raises(ConflictError, match="lists no videos of the subset 'train'"):
        read_videos("ucf101", root, lists)
    (root / "YoYo").rename(root / "Zumba")
    with pytest.raises(ConflictError, match="YoYo in the lists alone, Zumba in the folder alone"):
        read_videos("ucf101", root, lists)
    for text in ("1 ApplyEyeMakeup\n3 YoYo\n", "ApplyEyeMakeup\n", "1 A\n2 A\n"):
        put(lists / "classInd.txt", text)
        with pytest.raises(ConflictError, match=r"classInd.txt:\d"):
            read_videos("ucf101", root, lists)
    (lists / "classInd.txt").unlink()
    with pytest.raises(ConflictError, match=r"has no classInd.txt; it has testlist01.txt"):
        read_videos("ucf101", root, lists)
    with pytest.raises(ArgumentError, match="`annotations` must be given"):
        read_videos("ucf101", root)


def test_videos_that_are_not_there_stay_in_the_set(ucf: tuple[Path, Path]) -> None:
    root, lists = ucf
    (root / "YoYo" / "v_YoYo_g08_c02.avi").unlink()
    assert len(read_videos("ucf101", root, lists).videos) == 3


def test_a_list_that_has_a_video_twice(ucf: tuple[Path, Path]) -> None:
    root, lists = ucf
    put(lists / "trainlist01.txt", "YoYo/v_YoYo_g08_c02.avi 3\nApplyEyeMakeup/v_YoYo_g08_c02.avi 1\n")
    with pytest.raises(
        ConflictError, match=r"two videos 'v_YoYo_g08_c02' for train, .*/YoYo/.* and .*/ApplyEyeMakeup/"
    ):
        read_videos("ucf101", root, lists)


def litter(root: Path) -> None:
    """Folders that are no classes: of archives, of disks, of other things."""
    put(root / "__MACOSX" / "._v_a.avi"), put(root / "__MACOSX" / "a.avi"), put(root / ".cache" / "a.avi")
    put(root / "lost+found" / "a.avi"), put(root / "notes" / "read.txt"), put(root / "made" / "._a.avi")


def test_folders_without_videos_are_no_classes(ucf: tuple[Path, Path], hmdb: tuple[Path, Path]) -> None:
    wanted = [read_videos("ucf101", *ucf, subset="val"), read_videos("hmdb51", *hmdb, subset="val")]
    for root, lists in (ucf, hmdb):
        litter(root)
        put(lists / "._catch_test_split1.txt", "binary")
    assert [read_videos("ucf101", *ucf, subset="val"), read_videos("hmdb51", *hmdb, subset="val")] == wanted
    for path in (ucf[0] / "YoYo").iterdir():  # which is listed, so it is a class with its videos missing
        path.unlink()
    assert read_videos("ucf101", *ucf, subset="val") == wanted[0]
    for kind, (root, lists) in (("ucf101", ucf), ("hmdb51", hmdb)):
        put(root / "notes" / "a.AVI")
        with pytest.raises(ConflictError, match="none in the lists alone, notes in the folder alone"):
            read_videos(kind, root, lists)


# --- HMDB-51

HMDB = {
    "brush_hair": [
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 1), ("April_09_brush_hair_u_nm_np1_ba_goo_1.avi", 1),
        ("Brushing_Hair_with_Beth_brush_hair_h_nm_np1_le_goo_0.avi", 2),
    ],
    "catch": [("Faith_Rewarded_catch_f_cm_np1_fr_med_10.avi", 2), ("96-_Torwarttraining_1_catch_f_cm_np1_le_bad_0.avi", 0),
              ("#20_catch_(x)_&_y_catch_f_nm_np1_fr_med_3.avi", 1)],
}  # fmt: skip


@pytest.fixture
def hmdb(tmp_path: Path) -> tuple[Path, Path]:
    root, lists = tmp_path / "hmdb51", tmp_path / "testTrainMulti_7030_splits"
    for name, rows in HMDB.items():
        for video, _ in rows:
            put(root / name / video)
        for split in (1, 2, 3):
            put(lists / f"{name}_test_split{split}.txt", "".join(f"{v} {n} \n" for v, n in rows))
    return root, lists


def test_hmdb51(hmdb: tuple[Path, Path]) -> None:
    root, lists = hmdb
    found = read_videos("hmdb51", root, lists, split=2)
    assert (found.split, found.classes) == (2, ("brush_hair", "catch"))
    assert [(v.path.name, v.label) for v in found.videos] == [
        (v, k) for k, rows in enumerate(HMDB.values()) for v, n in rows if n == 1
    ]
    assert [v.group for v in found.videos][:2] == ["brush_hair/April_09"] * 2
    test = read_videos("hmdb51", root, subset="val")
    assert [(v.path.name, v.label) for v in test.videos] == [
        (v, k) for k, rows in enumerate(HMDB.values()) for v, n in rows if n == 2
    ]
    assert all(v.path.is_file() for v in (*found.videos, *test.videos))


def test_hmdb51_says_what_is_wrong(hmdb: tuple[Path, Path]) -> None:
    root, lists = hmdb
    put(lists / "catch_test_split1.txt", "a.avi 1\nb.avi 3\n")
    with pytest.raises(ConflictError, match=r"catch_test_split1.txt:2: 'b.avi 3'"):
        read_videos("hmdb51", root, lists)
    (lists / "catch_test_split1.txt").unlink()
    with pytest.raises(ConflictError, match=r"catch_test_split1.txt cannot be read .* has brush_hair_test_split1.txt"):
        read_videos("hmdb51", root, lists)
    put(root / "chew" / "a.avi")
    with pytest.raises(ConflictError, match="none in the lists alone, chew in the folder alone"):
        read_videos("hmdb51", root, lists, split=2)


# --- ActivityNet


def activitynet() -> dict[str, Any]:
    nodes = [
        ("Root", 0, None),
        ("Sports", 5, 0),
        ("Zumba", 7, 5),
        ("Archery", 2, 5),
        ("Household", 3, 0),
        ("Ironing", 9, 3),
    ]
    names = {number: name for name, number, _ in nodes}
    return {
        "version": "VERSION 1.3",
        "taxonomy": [
            {"parentName": names.get(p), "nodeName": n, "nodeId": i, "parentId": p}  # type: ignore[arg-type]
            for n, i, p in nodes
        ],
        "database": {
            "sJFgo9H6zNo": {"duration": 10.0, "subset": "training", "resolution": "320x240", "url": "https://x",
                            "annotations": [{"segment": [0, 2.5], "label": "Ironing"}, {"segment": [4.5, 9], "label": "Zumba"}]},
            "-p--hiYCb3k": {"duration": 5.0, "subset": "training", "resolution": "320x240", "url": "https://x",
                            "annotations": [{"segment": [3.0, 3.0], "label": "Archery"}]},
            "abc": {"duration": 5.0, "subset": "validation", "resolution": "320x240", "url": "https://x",
                    "annotations": [{"segment": [1.0, 3.0], "label": "Archery"}]},
            "def": {"duration": 5.0, "subset": "testing", "resolution": "320x240", "url": "https://x", "annotations": []},
        },
    }  # fmt: skip


def test_activitynet(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    path = put(tmp_path / "activity_net.v1-3.min.json", json.dumps(activitynet()))
    put(root / "v_sJFgo9H6zNo.mkv"), put(root / "-p--hiYCb3k.webm"), put(root / "v_abc.mp4")
    (
        put(root / "v_sJFgo9H6zNo.mp4.part"),
        put(root / "v_abc.info.json"),
        put(root / "v_abc.json"),
        put(root / "v_abc.wav"),
    )
    found = read_videos("activitynet", root, path)
    assert found.classes == ("Zumba", "Archery", "Ironing")  # the leaves, in the order they are listed
    assert found.videos == (
        Video("sJFgo9H6zNo/0", root / "v_sJFgo9H6zNo.mkv", 2, "sJFgo9H6zNo", (0.0, 2.5)),
        Video("sJFgo9H6zNo/1", root / "v_sJFgo9H6zNo.mkv", 0, "sJFgo9H6zNo", (4.5, 9.0)),
        Video("-p--hiYCb3k/0", root / "-p--hiYCb3k.webm", 1, "-p--hiYCb3k", (3.0, 3.0)),
    )
    (video,) = read_videos("activitynet", root, subset="val").videos
    assert video == Video("abc/0", root / "v_abc.mp4", 1, "abc", (1.0, 3.0))


def test_activitynet_in_folders(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    path = put(tmp_path / "activity_net.v1-3.min.json", json.dumps(activitynet()))
    put(root / "train" / "v_sJFgo9H6zNo.mp4"), put(root / "v1-3" / "train_val" / "-p--hiYCb3k.webm")
    put(root / "val" / "v_abc.mp4"), put(root / "__MACOSX" / "v_abc.mp4"), put(root / ".trash" / "v_abc.mp4")
    (
        put(root / "jpg" / "v_abc" / "image_00001.jpg"),
        put(root / "v_abc" / "abc.mp4"),
        put(root / "v_abc" / "x" / "abc.mp4"),
    )
    put(root / "val" / "._v_abc.mp4")
    (root / "more").mkdir()
    (root / "more" / "v_abc.mp4").symlink_to(root / "val" / "v_abc.mp4")  # another way to the same file
    assert [v.path for v in read_videos("activitynet", root, path).videos] == [
        *[root / "train" / "v_sJFgo9H6zNo.mp4"] * 2, root / "v1-3" / "train_val" / "-p--hiYCb3k.webm"
    ]  # fmt: skip
    (video,) = read_videos("activitynet", root, path, subset="val").videos
    assert video.path.samefile(root / "val" / "v_abc.mp4")


def test_what_lies_beside_a_video_is_none(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    path = put(tmp_path / "a.json", json.dumps(activitynet()))
    put(root / "v_sJFgo9H6zNo.mp4"), put(root / "v_-p--hiYCb3k.json"), put(root / "v_-p--hiYCb3k.wav")
    put(root / "v_-p--hiYCb3k.mp4.part"), put(root / "v_-p--hiYCb3k.VTT")
    found = read_videos("activitynet", root, path)
    assert [v.path for v in found.videos] == [root / "v_sJFgo9H6zNo.mp4"] * 2 + [root / "v_-p--hiYCb3k.mp4"]
    put(root / "v_-p--hiYCb3k")  # as some are downloaded
    assert read_videos("activitynet", root, path).videos[2].path == root / "v_-p--hiYCb3k"


@pytest.mark.parametrize(("one", "other"), [("v_abc.mp4", "v_abc.mkv"), ("v_abc.mp4", "abc.mp4"), ("v_abc.mp4", "v_abc.MP4"),
                                            ("v_abc.mp4", "val/v_abc.mp4"), ("train/v_abc.mp4", "val/abc.webm")])  # fmt: skip
def test_activitynet_with_two_files_of_a_video(one: str, other: str, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    path = put(tmp_path / "a.json", json.dumps(activitynet()))
    put(root / one), put(root / other)
    with pytest.raises(ConflictError, match=r"the video abc could be .*abc.* or .*abc") as caught:
        read_videos("activitynet", root, path, subset="val")
    assert str(root / one) in str(caught.value) and str(root / other) in str(caught.value)


def changed(content: dict[str, Any], where: list[Any], value: Any) -> dict[str, Any]:
    at: Any = content
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    return content


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        (["database", "abc", "subset"], "vali", r"video abc: .* of a subset training, validation or testing"),
        (
            ["database", "abc", "annotations", 0, "label"],
            "Knitting",
            "video abc: 'Knitting' is not the name of a class",
        ),
        (["database", "abc", "annotations", 0, "segment"], [1.0], "is not a segment of two numbers"),
        (["database", "abc", "annotations", 0], None, "is not the name of a class"),
        (["taxonomy"], {}, "a list of nodes"),
        (["taxonomy", 0], {"nodeId": 3}, "a list of nodes"),
        (["database"], [], "a `database` of videos"),
    ],
)
def test_activitynet_says_what_is_wrong(where: list[Any], value: Any, match: str, tmp_path: Path) -> None:
    put(tmp_path / "v" / "v_abc.mp4")
    path = put(tmp_path / "a.json", json.dumps(changed(activitynet(), where, value)))
    with pytest.raises(ConflictError, match=match):
        read_videos("activitynet", tmp_path / "v", path, subset="val")


# --- Kinetics

HEAD = "label,youtube_id,time_start,time_end,split\n"
TRAIN = HEAD + "\n".join(["zumba,aaaaaaaaaaa,1,11,train", "\"massaging person's head\",--bbbbbbbbb,4,14,train",
                          "tai chi,ccccccccccc,120,130,train", "tai chi,ccccccccccc,220,230,train"]) + "\n"  # fmt: skip
VAL = HEAD + 'tai chi,ddddddddddd,12,22,val\nzumba,eeeeeeeeeee,0,10,val\n"massaging person\'s head",f,0,10,val\n'
STEMS = {
    "train": {"aaaaaaaaaaa_000001_000011": "zumba", "--bbbbbbbbb_000004_000014": "massaging person's head",
              "ccccccccccc_000120_000130": "tai chi", "ccccccccccc_000220_000230": "tai chi"},
    "val": {"ddddddddddd_000012_000022": "tai chi", "eeeeeeeeeee_000000_000010": "zumba",
            "f_000000_000010": "massaging person's head"},
}  # fmt: skip
LONG = {"train": "train", "val": "validate"}


def few(stem: str) -> str:
    """aaaaaaaaaaa_000001_000011 with times as they are spoken."""
    name, start, end = stem.rsplit("_", 2)
    return f"{name}_{int(start)}_{int(end)}"


PLACES = {
    "classes": lambda subset, label, stem: f"{label}/{stem}.mp4",
    "underscores": lambda subset, label, stem: f"{label.replace(' ', '_')}/{stem}.mkv",
    "flat": lambda subset, label, stem: f"{stem}.webm",
    "subsets": lambda subset, label, stem: f"{subset}/{stem}.mp4",
    "subsets and classes": lambda subset, label, stem: f"{subset}/{label}/{stem}.mp4",
    "long names": lambda subset, label, stem: f"{LONG[subset]}/{label.replace(' ', '_')}/{stem}.avi",
    "resized": lambda subset, label, stem: f"{subset}_256/{label.replace(' ', '_')}/{stem}.mp4",
    "named behind": lambda subset, label, stem: f"Videos_{subset}/{label}/{stem}.mp4",
    "times of few digits": lambda subset, label, stem: f"{subset}/{label}/{few(stem)}.mp4",
    "times of few digits, flat": lambda subset, label, stem: f"{few(stem)}.mkv",
}


TABLES = [
    ("train.csv", "val.csv"), ("kinetics-700_train.csv", "kinetics-700_val.csv"),
    ("kinetics_train/kinetics_train.csv", "kinetics_val/kinetics_val.csv"), ("train/train.csv", "val/validate.csv"),
    ("kinetics400/train.csv", "kinetics400/validate.csv"), ("train.csv", "kinetics_val/kinetics_val.csv"),
    ("kinetics_train.csv", "kinetics_validate.csv"), None,
]  # fmt: skip
"""Where the lists are; None for one file."""


@pytest.mark.parametrize(
    ("layout", "names"), [*((place, TABLES[0]) for place in PLACES), *(("flat", names) for names in TABLES[1:])]
)
def test_kinetics(layout: str, names: tuple[str, str] | None, tmp_path: Path) -> None:
    root = tmp_path / "k"
    for subset, stems in STEMS.items():
        for stem, label in stems.items():
            put(root / PLACES[layout](subset, label, stem))
    if names is None:
        tables = put(tmp_path / "both.csv", TRAIN + VAL.removeprefix(HEAD))
    else:
        tables = tmp_path / "csv"
        put(tables / names[0], TRAIN), put(tables / names[1], VAL)
        put(tables / "._train.csv", "binary"), put(tables / "._kinetics_val.csv", "binary")
        put(tables / "kinetics_test.csv", "youtube_id,time_start,time_end,split\nx,1,2,test\n")
    for subset, stems in STEMS.items():
        found = read_videos("kinetics", root, tables, subset=subset)
        assert found.classes == ("massaging person's head", "tai chi", "zumba")
        assert [(v.id, found.classes[v.label]) for v in found.videos] == [(f"{c}/{s}", c) for s, c in stems.items()]
        assert [v.path for v in found.videos] == [root / PLACES[layout](subset, c, s) for s, c in stems.items()]
        assert [v.group for v in found.videos] == [s[:-14] for s in stems]


def test_kinetics_with_its_lists_among_the_videos(tmp_path: Path) -> None:
    put(tmp_path / "train" / "train.csv", TRAIN), put(tmp_path / "val" / "validate.csv", VAL)
    for subset, stems in STEMS.items():
        for stem, label in stems.items():
            put(tmp_path / subset / label / f"{stem}.mp4")
    found = [read_videos("kinetics", tmp_path, subset=subset) for subset in ("train", "val")]
    assert [v.path.parent.parent.name for part in found for v in part.videos] == ["train"] * 4 + ["val"] * 3
    assert all(v.path.exists() for part in found for v in part.videos)
    put(tmp_path / "zumba" / "train.csv", TRAIN)  # which is no folder of lists
    assert [read_videos("kinetics", tmp_path, subset=subset) for subset in ("train", "val")] == found
    put(tmp_path / "kinetics600" / "train.csv", TRAIN)
    with pytest.raises(ArgumentError, match=r"must be one of .*kinetics600/train.csv, .*train/train.csv"):
        read_videos("kinetics", tmp_path)
    put(tmp_path / "train.csv", TRAIN)  # what is in the folder itself goes before
    assert read_videos("kinetics", tmp_path) == found[0]
    (tmp_path / "train" / "train.csv").unlink()
    put(tmp_path / "kinetics600" / "train.csv", HEAD + "knitting,a,1,2,train\n")
    assert read_videos("kinetics", tmp_path) == found[0]


SHORT = (
    HEAD + "zumba,aaaaaaaaaaa,1,11,train\ntraining dog,bbbbbbbbbbb,4,14,train\ntraining dog,ccccccccccc,0,10,train\n"
)


@pytest.mark.parametrize("layout", PLACES)
def test_kinetics_named_by_id_alone(layout: str, tmp_path: Path) -> None:
    """And a class whose name begins as a subset does."""
    root, path = tmp_path / "k", put(tmp_path / "train.csv", SHORT)
    names = {"aaaaaaaaaaa": "zumba", "bbbbbbbbbbb": "training dog"}
    for name, label in names.items():
        put(root / PLACES[layout]("train", label, f"{name}_0_0").replace("_0_0", ""))
    found = read_videos("kinetics", root, path)
    assert [v.path for v in found.videos][:2] == [
        root / PLACES[layout]("train", label, f"{name}_0_0").replace("_0_0", "") for name, label in names.items()
    ]
    assert [found.classes[v.label] for v in found.videos] == ["zumba", "training dog", "training dog"]
    assert [v.id for v in found.videos][:2] == [
        "zumba/aaaaaaaaaaa_000001_000011",
        "training dog/bbbbbbbbbbb_000004_000014",
    ]
    assert not found.videos[2].path.exists()


def test_kinetics_a_class_that_begins_as_a_subset_does(tmp_path: Path) -> None:
    """A file in the folder of another class is not looked at."""
    for name in ("training dog", "training_dog"):
        root, path = tmp_path / name, put(tmp_path / "train.csv", SHORT)
        put(root / name / "aaaaaaaaaaa_000001_000011.mp4"), put(root / name / "bbbbbbbbbbb_000004_000014.mp4")
        (root / "zumba").mkdir()
        found = read_videos("kinetics", root, path)
        assert [v.path.exists() for v in found.videos] == [False, True, False]


@pytest.mark.parametrize(
    ("rows", "file", "clash"),
    [
        ("zumba,a,1,11,train\nzumba,a,21,31,train\n", "zumba/a.mp4", True),
        ("zumba,a,1,11,train\ntai chi,a,21,31,train\n", "a.mp4", True),
        ("zumba,a,1,11,train\ntai chi,a,21,31,val\n", "a.mp4", True),
        ("zumba,a,1,11,train\ntai chi,a,21,31,val\n", "train/a.mp4", False),
        ("zumba,a,1,11,train\ntai chi,a,21,31,train\n", "zumba/a.mp4", False),
        ("zumba,a,1,11,train\nzumba,a_1,11,12,train\n", "a_1_11.mp4", False),
        ("zumba,a,1,11,train\ntai chi,a_1_11,5,15,train\n", "a_1_11.mp4", True),
        ("zumba,a,1,11,train\nzumba,a,1,11,val\n", "a.mp4", False),
    ],
)
def test_kinetics_with_a_file_that_could_be_two_clips(rows: str, file: str, clash: bool, tmp_path: Path) -> None:
    root, path = tmp_path / "k", put(tmp_path / "both.csv", HEAD + rows)
    put(root / file)
    if clash:
        with pytest.raises(ConflictError, match=rf"{file} could be the clip a_000001_000011 or a\w+, which .*both.csv"):
            read_videos("kinetics", root, path)
    else:
        found = read_videos("kinetics", root, path)
        assert [(v.id, v.path) for v in found.videos if v.path.exists()] == [("zumba/a_000001_000011", root / file)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("zumba/a_000001_000011.mp4", "zumba/a_1_11.mp4"),
        ("zumba/a_000001_000011.mp4", "zumba/a.mp4"),
        ("zumba/a_000001_000011.mp4", "zumba/a_000001_000011.webm"),
        ("zumba/a_000001_000011.mp4", "a_000001_000011.mp4"),
        ("train/zumba/a_000001_000011.mp4", "train_256/zumba/a_000001_000011.mp4"),
        ("zumba_x/a.mp4", "zumba x/a.mp4"),
    ],
)
def test_kinetics_with_two_files_of_a_clip(one: str, other: str, tmp_path: Path) -> None:
    root, path = tmp_path / "k", put(tmp_path / "t.csv", HEAD + "zumba,a,1,11,train\nzumba x,a,1,11,train\n")
    put(root / one), put(root / other)
    with pytest.raises(ConflictError, match=r"the video zumba.*/a_000001_000011 could be ") as caught:
        read_videos("kinetics", root, path)
    assert str(root / one) in str(caught.value) and str(root / other) in str(caught.value)


def test_kinetics_where_a_file_and_images_are(tmp_path: Path) -> None:
    root, path = tmp_path / "k", put(tmp_path / "t.csv", HEAD + "zumba,a,1,11,train\n")
    put(root / "a_000001_000011" / "image_00001.jpg")
    assert read_videos("kinetics", root, path).videos[0].path == root / "a_000001_000011"
    put(root / "a_000001_000011.mp4")
    assert read_videos("kinetics", root, path).videos[0].path == root / "a_000001_000011.mp4"


def test_kinetics_with_names_that_differ_in_a_blank(tmp_path: Path) -> None:
    root, path = (
        tmp_path / "k",
        put(tmp_path / "t.csv", HEAD + "a b,x,1,11,train\na_b,y,1,11,train\nc d,z,1,11,train\n"),
    )
    put(root / "a_b" / "x.mp4"), put(root / "a_b" / "y.mp4"), put(root / "c_d" / "z.mp4")
    assert [v.path.exists() for v in read_videos("kinetics", root, path).videos] == [False, True, True]


def test_kinetics_where_what_is_missing_should_be(tmp_path: Path) -> None:
    """With a folder of something else beside, whose name begins as a subset does."""
    root, path = tmp_path / "k", put(tmp_path / "train.csv", TRAIN)
    put(root / "train_256" / "tai_chi" / "ccccccccccc_000120_000130.mp4"), put(root / "train-logs" / "old" / "log.txt")
    assert [v.path.relative_to(root).as_posix() for v in read_videos("kinetics", root, path).videos] == [
        "train_256/aaaaaaaaaaa_000001_000011.mp4", "train_256/--bbbbbbbbb_000004_000014.mp4",
        "train_256/tai_chi/ccccccccccc_000120_000130.mp4", "train_256/tai_chi/ccccccccccc_000220_000230.mp4",
    ]  # fmt: skip


def test_kinetics_with_folders_of_other_subsets(tmp_path: Path) -> None:
    root, path = tmp_path / "k", put(tmp_path / "train.csv", TRAIN)
    put(root / "zumba" / "aaaaaaaaaaa_000001_000011.mp4")
    put(root / "test" / "x.mp4"), put(root / "val_256" / "tai_chi" / "ccccccccccc_000120_000130.mp4")
    assert [v.path.exists() for v in read_videos("kinetics", root, path).videos] == [True, False, False, False]


def test_kinetics_linked_under_two_names(tmp_path: Path) -> None:
    root, path = tmp_path / "k", put(tmp_path / "t.csv", HEAD + "tai chi,a,1,11,train\n")
    put(root / "train_256" / "tai_chi" / "a_000001_000011.mp4")
    (root / "train").symlink_to("train_256"), (root / "train_256" / "tai chi").symlink_to("tai_chi")
    (video,) = read_videos("kinetics", root, path).videos
    assert video.path.samefile(root / "train_256" / "tai_chi" / "a_000001_000011.mp4")


def test_kinetics_says_what_is_wrong(tmp_path: Path) -> None:
    root, tables = tmp_path / "k", tmp_path / "csv"
    put(root / "zumba" / "aaaaaaaaaaa_000001_000011.mp4")
    with pytest.raises(ArgumentError, match=r"`annotations` .* is not there"):
        read_videos("kinetics", root, tables)
    put(tables / "val.csv", VAL)
    with pytest.raises(ConflictError, match=r"there is no train.csv or training.csv in .*; it has val.csv"):
        read_videos("kinetics", root, tables)
    path = put(tables / "train.csv", TRAIN)
    assert [v.path.exists() for v in read_videos("kinetics", root, tables).videos] == [True, False, False, False]
    put(root / "knitting" / "a.mp4")
    for name in ("tai_chi", "massaging person's head"):  # of all classes something is there, so the rest may be
        (root / name).mkdir()
    assert len(read_videos("kinetics", root, tables).videos) == 4
    (root / "tai_chi").rmdir(), (root / "massaging person's head").rmdir()
    with pytest.raises(
        ConflictError, match="massaging person's head, tai chi in the lists alone, knitting in the folder"
    ):
        read_videos("kinetics", root, tables)
    (root / "knitting").rename(root / ".knitting")
    put(tables / "val.csv", VAL + "knitting,a,1,2,val\n")
    with pytest.raises(ConflictError, match="none to train with alone, knitting to validate with alone"):
        read_videos("kinetics", root, tables)
    for text, match in (
        ("id,start\n", r"train.csv:1: 'id,start' is not label,youtube_id,time_start"),
        (HEAD + "zumba,a,1,2,train\nzumba,b,one,2,train\n", r"train.csv:3: .* is not a segment of two numbers"),
        (HEAD + ",a,1,2,train\n", r"train.csv:2: .* is not a label and a youtube_id"),
        (HEAD + "zumba,a,1,2,holdout\n", r"train.csv:2: 'holdout' is not a split"),
        (HEAD + "zumba,a\n", r"train.csv:2"),
    ):
        put(path, text)
        with pytest.raises(ConflictError, match=match):
            read_videos("kinetics", root, path)


# --- JSON and JPEGs


def reference() -> dict[str, Any]:
    return {
        "labels": ["YoYo", "Archery"],
        "database": {
            "v_YoYo_g01_c02": {"subset": "training", "annotations": {"label": "YoYo", "segment": [1, 41]}},
            "abc": {
                "subset": "training",
                "annotations": {"label": "Archery", "segment": [3, 9]},
                "video_path": "else/where",
            },
            "def": {"subset": "validation", "annotations": {"label": "Archery"}},
            "ghi": {"subset": "testing", "annotations": {}},
        },
    }


def test_json_of_3d_resnets(tmp_path: Path) -> None:
    root = tmp_path / "jpg"
    path = put(tmp_path / "ucf101_01.json", json.dumps(reference()))
    for folder in ("YoYo/v_YoYo_g01_c02", "else/where", "Archery/def"):
        (root / folder).mkdir(parents=True)
    found = read_videos("json", root, path)
    assert found.classes == ("YoYo", "Archery")
    assert found.videos == (
        Video("v_YoYo_g01_c02", root / "YoYo/v_YoYo_g01_c02", 0, "YoYo/v_YoYo_g01", frames=(1, 41)),
        Video("abc", root / "else/where", 1, "Archery/abc", frames=(3, 9)),
    )
    assert read_videos("json", root, path, subset="val").videos == (
        Video("def", root / "Archery/def", 1, "Archery/def"),
    )


def test_json_with_a_list_of_annotations(tmp_path: Path) -> None:
    """One of the list is as one without it; of several each is a video, and none is parted from the others."""
    content = reference()
    root, path = tmp_path / "jpg", tmp_path / "a.json"
    put(root / "YoYo" / "v_YoYo_g01_c02" / "image_00001.jpg")
    wanted = read_videos("json", root, put(path, json.dumps(content)))
    for entry in content["database"].values():
        entry["annotations"] = [entry["annotations"]] if entry["annotations"] else []
    assert read_videos("json", root, put(path, json.dumps(content))) == wanted
    content["database"]["abc"]["annotations"].append({"label": "YoYo", "segment": [9, 30]})
    assert read_videos("json", root, put(path, json.dumps(content))).videos[1:] == (
        Video("abc/0", root / "else/where", 1, "Archery/abc", frames=(3, 9)),
        Video("abc/1", root / "else/where", 0, "Archery/abc", frames=(9, 30)),
    )
    content["database"]["abc"]["annotations"][1].pop("segment")
    with pytest.raises(ConflictError, match="video abc: None is not a segment of two numbers"):
        read_videos("json", root, put(path, json.dumps(content)))
    content["database"]["abc"]["annotations"][1]["segment"] = [9, 30]
    content["database"]["abc/0"] = {"subset": "training", "annotations": {"label": "YoYo"}}
    with pytest.raises(ConflictError, match=r"two videos 'abc/0' for train, .*else/where and .*YoYo/abc/0"):
        read_videos("json", root, put(path, json.dumps(content)))


def test_json_of_activitynet(tmp_path: Path) -> None:
    """As its add_fps_into_activitynet_json.py leaves it, and its loader reads it: seconds made numbers of images."""
    content = activitynet()
    root, path = tmp_path / "jpg", tmp_path / "activity_net.v1-3.min.json"
    content["database"]["sJFgo9H6zNo"]["fps"], content["database"]["-p--hiYCb3k"]["fps"] = 29.97, 25
    put(root / "v_sJFgo9H6zNo" / "image_00001.jpg"), put(root / "-p--hiYCb3k" / "image_00001.jpg")
    found = read_videos("json", root, put(path, json.dumps(content)))
    assert found.classes == ("Zumba", "Archery", "Ironing")
    assert found.videos == (
        Video("sJFgo9H6zNo/0", root / "v_sJFgo9H6zNo", 2, "Ironing/sJFgo9H6zNo", frames=(1, 75)),
        Video("sJFgo9H6zNo/1", root / "v_sJFgo9H6zNo", 0, "Ironing/sJFgo9H6zNo", frames=(135, 270)),
        Video("-p--hiYCb3k", root / "-p--hiYCb3k", 1, "Archery/-p--hiYCb3k", frames=(76, 76)),
    )
    with pytest.raises(ConflictError, match=r"video abc: `fps` \(=None\) must be"):
        read_videos("json", root, path, subset="val")
    for fps in (0, -1, "25", True, float("nan"), float("inf")):
        content["database"]["abc"]["fps"] = fps
        with pytest.raises(ConflictError, match=r"video abc: `fps` \(=.*\) must be"):
            read_videos("json", root, put(path, json.dumps(content)), subset="val")
    put(root / "Ironing" / "sJFgo9H6zNo" / "image_00001.jpg")
    with pytest.raises(ConflictError, match=r"video sJFgo9H6zNo could be .*/v_sJFgo9H6zNo or .*/Ironing/sJFgo9H6zNo"):
        read_videos("json", root, path)


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        (["database", "abc", "annotations", "segment"], [0.5, 9], r"video abc: \[0.5, 9\] is not a segment"),
        (["database", "abc", "annotations"], ["YoYo"], "video abc: .* `subset` and `annotations`"),
        (["database", "abc", "annotations"], [{"label": "YoYo"}, {"label": "Knitting"}], "'Knitting' is not one of"),
        (["labels"], "YoYo", "a list of `labels`"),
        (["database", "abc", "annotations"], [], "video abc: .* `subset` and `annotations`"),
        (["database", "abc", "annotations", "label"], "Knitting", "video abc: 'Knitting' is not one of the `labels`"),
        (["database", "abc", "annotations", "segment"], 5, "video abc: 5 is not a segment of two numbers"),
    ],
)
def test_json_says_what_is_wrong(where: list[Any], value: Any, match: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", json.dumps(changed(reference(), where, value)))
    with pytest.raises(ConflictError, match=match):
        read_videos("json", tmp_path, path)
    put(path, "{")
    with pytest.raises(ConflictError, match="is not JSON"):
        read_videos("json", tmp_path, path)


# --- folders


def test_folder(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name in ("train/run/a.mp4", "train/run/B.AVI", "train/run/notes.txt", "train/run/.hidden.mp4", "train/jump/c.webm",
                 "test/run/d.mp4", "test/jump/e.mp4"):  # fmt: skip
        put(root / name)
    found = read_videos("folder", root)
    assert found.classes == ("jump", "run")
    assert seen(found, root) == [
        ("jump/c.webm", "train/jump/c.webm", "jump", "jump/c.webm"),
        ("run/B.AVI", "train/run/B.AVI", "run", "run/B.AVI"),
        ("run/a.mp4", "train/run/a.mp4", "run", "run/a.mp4"),
    ]
    assert [v.id for v in read_videos("folder", root, subset="val").videos] == ["jump/e.mp4", "run/d.mp4"]
    (root / "test").rename(root / "val")
    assert [v.id for v in read_videos("folder", root, subset="val").videos] == ["jump/e.mp4", "run/d.mp4"]
    (root / "val" / "run").rename(root / "val" / "walk")
    for subset in ("train", "val"):
        with pytest.raises(ConflictError, match="run in the first alone, walk in the second alone"):
            read_videos("folder", root, subset=subset)


def test_folders_without_videos_in_a_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    put(one / "run" / "a.mp4"), put(one / "train" / "b.mp4"), litter(one), litter(one / "train")
    assert read_videos("folder", one).classes == ("run", "train")  # as there is no class in `train`, it is one
    put(two / "train" / "run" / "a.mp4"), put(two / "train" / "jump" / "b.mp4"), put(two / "val" / "run" / "c.mp4")
    litter(two), litter(two / "train"), litter(two / "val")
    # there is nothing to validate the class `jump` with
    for subset, ids in (("train", ["jump/b.mp4", "run/a.mp4"]), ("val", ["run/c.mp4"])):
        found = read_videos("folder", two, subset=subset)
        assert found.classes == ("jump", "run") and [v.id for v in found.videos] == ids
        assert [v.label for v in found.videos] == [("jump", "run").index(i.split("/")[0]) for i in ids]


def test_a_folder_without_subsets_is_all_train(tmp_path: Path) -> None:
    put(tmp_path / "run" / "a.mp4"), put(tmp_path / "jump" / "b.mp4")
    assert [v.id for v in read_videos("folder", tmp_path).videos] == ["jump/b.mp4", "run/a.mp4"]
    with pytest.raises(ConflictError, match="give `val_fraction`, the fraction of the training videos to hold"):
        read_videos("folder", tmp_path, subset="val")
    with pytest.raises(ArgumentError, match="are not for the kind `folder`"):
        read_videos("folder", tmp_path, tmp_path)


ACCENT = ("caf\u00e9", "cafe\u0301")
"""The same name, as one system writes it and as another does."""
PATHS = {
    # files of a plain folder: ids of train, ids of val
    "a/1.MTS a/2.m2ts a/3.gif a/4.asf a/5.vob a/6.mpg2 a/7.mxf a/8.f4v a/9.y4m": (
        "a/1.MTS a/2.m2ts a/3.gif a/4.asf a/5.vob a/6.mpg2 a/7.mxf a/8.f4v a/9.y4m", None),
    "a/1.mp4 a/1.gif a/2.gif": ("a/1.mp4 a/2.gif", None),
    "a/1.mp4 a/more/2.mp4 a/more/yet/3.mp4 b/x/1.mp4": ("a/1.mp4 a/more/2.mp4 a/more/yet/3.mp4 b/x/1.mp4", None),
    "a/one/img_0001.jpg a/one/img_0002.jpg a/2.mp4 a/2/img_0001.jpg": ("a/2.mp4 a/one", None),
    "training/a/1.mp4 validation/a/2.mp4": ("a/1.mp4", "a/2.mp4"),
    "Train/a/1.mp4 Val/a/2.mp4 test/a/3.mp4": ("a/1.mp4", "a/2.mp4"),
    "TRAIN/a/1.mp4 Testing/a/2.mp4 training/logs/x.txt": ("a/1.mp4", "a/2.mp4"),
    "train/a/1.mp4 train/b/2.mp4 val/b/3.mp4": ("a/1.mp4 b/2.mp4", "b/3.mp4"),
    "train/a/1.mp4 train/b/2.mp4 val/b/x/3.mp4": ("a/1.mp4 b/2.mp4", "b/x/3.mp4"),
    f"train/{ACCENT[0]}/1.mp4 val/{ACCENT[1]}/2.mp4": (f"{ACCENT[0]}/1.mp4", f"{ACCENT[0]}/2.mp4"),
}  # fmt: skip


@pytest.mark.parametrize("paths", PATHS)
def test_a_folder_takes_what_is_unambiguous(paths: str, tmp_path: Path) -> None:
    for path in paths.split():
        put(tmp_path / path)
    for subset, ids in zip(("train", "val"), PATHS[paths], strict=True):
        if ids is not None:
            found = read_videos("folder", tmp_path, subset=subset)
            assert [v.id for v in found.videos] == ids.split() and all(v.path.exists() for v in found.videos)
            assert [found.classes[v.label] for v in found.videos] == [i.split("/")[0] for i in ids.split()]
            assert found.classes == read_videos("folder", tmp_path).classes


@pytest.mark.parametrize(
    ("paths", "match"),
    [
        (
            "set/a/1.mp4 set/b/2.mp4",
            "lie in folders of folders, such as set/a/1.mp4, set/b/2.mp4, .* give as `root` the folder",
        ),
        ("Train/a/1.mp4 training/a/2.mp4", "subset train could be in .*Train or .*training; leave one"),
        (f"{ACCENT[0]}/1.mp4 {ACCENT[1]}/2.mp4", "two folders that are called alike"),
        ("train/a/1.mp4 val/b/2.mp4", "a in the first alone, b in the second alone"),
        ("training/a/1/f1.webp", r"no folders of classes with videos .* the first files there: training/a/1/f1.webp$"),
        ("1.txt", "no folders of classes with videos .* such as class/1.mp4 .* the first files there: 1.txt$"),
        ("Train/1.mp4 training/2.mp4", "subset train could be in .*Train or .*training; leave one"),
        ("a/1.mp4 a/" + "b/" * 12 + "2.mp4", "too many folders within folders"),
    ],
)
def test_a_folder_names_what_is_ambiguous(paths: str, match: str, tmp_path: Path) -> None:
    for path in paths.split():
        put(tmp_path / path)
    with pytest.raises(ConflictError, match=match):
        read_videos("folder", tmp_path)


UNLABELLED = {
    # files without folders of classes: ids of train, ids of val
    "b.mp4 a.webm notes.txt": ("a.webm b.mp4", None),
    "one/1.jpg one/2.jpg two/7.png c.mp4": ("c.mp4 one two", None),
    "train/1.mp4 val/2.mp4": ("1.mp4", "2.mp4"),
    "Training/1.mp4 Training/one/1.jpg test/2.mp4 stray.mp4": ("1.mp4 one", "2.mp4"),
    "train/1.mp4 training/logs/x.txt": ("1.mp4", None),
}


@pytest.mark.parametrize("paths", UNLABELLED)
def test_videos_in_no_folder_of_a_class_have_no_labels(paths: str, tmp_path: Path) -> None:
    for path in paths.split():
        put(tmp_path / path)
    for subset, ids in zip(("train", "val"), UNLABELLED[paths], strict=True):
        if ids is None:
            with pytest.raises(ConflictError, match=r"no videos in a folder `val`.* give `val_fraction`"):
                read_videos("folder", tmp_path, subset=subset)
            continue
        found = read_videos("folder", tmp_path, subset=subset)
        assert found.classes == () and "without labels" in repr(found)
        assert [v.id for v in found.videos] == ids.split() and all(v.path.exists() for v in found.videos)
        assert {v.label for v in found.videos} == {0} and len({v.group for v in found.videos}) == len(found.videos)
        with pytest.raises(ConflictError, match=r"have no labels: .* class/1\.mp4, or learn .*--task order"):
            labelled(found)
    data = DataConfig("folder", tmp_path)
    with pytest.raises(ConflictError, match="have no labels"):
        data.sets(0)
    if UNLABELLED[paths][0].count(" "):
        train, held, _ = data.validated().sets(0, labels=False)
        assert {v.id for v in (*train.videos, *held.videos)} >= set(UNLABELLED[paths][0].split()) and held.videos


def test_loose_videos_beside_folders_of_classes_are_none_of_the_set(tmp_path: Path) -> None:
    for path in ("loose.mp4", "run/a.mp4", "train/b.mp4", "val/loose.mp4"):
        put(tmp_path / path)
    found = read_videos("folder", tmp_path)
    assert found.classes == ("run", "train", "val") and labelled(found) is found
    assert [v.id for v in found.videos] == ["run/a.mp4", "train/b.mp4", "val/loose.mp4"]


def test_links_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.mp4")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "a")
    assert [v.id for v in read_videos("folder", tmp_path).videos] == ["a/1.mp4"]


@pytest.mark.parametrize("kind", ["ucf101", "hmdb51"])
@pytest.mark.parametrize("name", ["YoYo", "Apply Eye  Makeup", *ACCENT])
@pytest.mark.parametrize(
    "file", ["v_x_g01_c01.avi", "v_x_g01_c01.mp4", "v_x_g01_c01/image_00001.jpg", "v_x_g01_c01.MKV"]
)
def test_lists_of_videos_encoded_anew_and_of_names_with_blanks(kind: str, name: str, file: str, tmp_path: Path) -> None:
    lists, there = tmp_path / "lists", tmp_path / "root" / {ACCENT[0]: ACCENT[1], ACCENT[1]: ACCENT[0]}.get(name, name)
    put(there / file)
    if kind == "ucf101":
        put(lists / "classInd.txt", f"1 {name}\n")
        (
            put(lists / "trainlist01.txt", f"{name}/v_x_g01_c01.avi 1\n"),
            put(lists / "testlist01.txt", f"{name}/v_x_g01_c01.avi\n"),
        )
    else:
        put(lists / f"{name}_test_split1.txt", "v_x_g01_c01.avi 1 \nv_y.avi 0\n")
    for subset in ("train", "val") if kind == "ucf101" else ("train",):
        found = read_videos(kind, tmp_path / "root", lists, subset=subset)
        assert found.classes == (name,) and [v.path for v in found.videos] == [there / file.split("/")[0]]
    put(there / "v_x_g01_c01.webm")
    if not file.endswith(("avi", "jpg")):
        with pytest.raises(ConflictError, match=r"could be .* or .*; leave one"):
            read_videos(kind, tmp_path / "root", lists)


@pytest.mark.parametrize("listed", ACCENT)
@pytest.mark.parametrize("there", ACCENT)
def test_accents_in_names_of_classes(listed: str, there: str, tmp_path: Path) -> None:
    put(tmp_path / "k" / there / "x_000001_000011.mp4"), put(tmp_path / "j" / there / "x" / "image_00001.jpg")
    table = put(tmp_path / "t.csv", HEAD + f"{listed},x,1,11,train\n")
    entry = {"subset": "training", "annotations": {"label": listed}}
    content = put(tmp_path / "j.json", json.dumps({"labels": [listed], "database": {"x": entry}}))
    for kind, root, path in (("kinetics", "k", table), ("json", "j", content)):
        found = read_videos(kind, tmp_path / root, path)
        assert found.classes == (listed,) and found.videos[0].path.exists()


def test_kinetics_where_a_class_is_not_validated(tmp_path: Path) -> None:
    (
        put(tmp_path / "train.csv", HEAD + "a,x,1,11,train\nb,y,1,11,train\n"),
        put(tmp_path / "val.csv", HEAD + "b,z,1,11,val\n"),
    )
    put(tmp_path / "k" / "b" / "z_000001_000011.mp4")
    assert read_videos("kinetics", tmp_path / "k", tmp_path, subset="val").classes == ("a", "b")


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "ucf"}, "`kind` .*'ucf'.* must be one of ucf101, hmdb51, activitynet, kinetics, json, folder"),
        ({"subset": "test"}, "`subset` .*'test'.* must be one of train, val"),
        ({"split": 4}, "`split` .*4.* must be an integer from 1 to 3"),
        ({"split": 0}, "from 1 to 3"),
        ({"split": True}, "from 1 to 3"),
        ({"kind": "kinetics", "split": 2}, "`split` .*2.* must be an integer from 1 to 1"),
    ],
)
def test_arguments_that_there_are_not(arguments: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=match):
        read_videos(**{"kind": "ucf101", "root": tmp_path, **arguments})


def test_the_list_of_layouts() -> None:
    assert KINDS == ("ucf101", "hmdb51", "activitynet", "kinetics", "json", "folder")
    for kind, layout in LAYOUTS.items():
        assert layout.name == kind and layout.splits == (3 if kind in ("ucf101", "hmdb51") else 1)
        assert bool(layout.annotations) == (f"{kind}: {layout.annotations}" in ANNOTATIONS) == (kind != "folder")


def test_another_layout_is_a_line_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it lists: what is asked for, and what is found, is checked as of the others."""

    def read(root: Path, annotations: Path | None, subset: str, split: int) -> Listed:
        names = [f"{subset}{split}", *(annotations.read_text().split() if annotations else ())]
        return ["only"], (Video(name, root / name, 0, name) for name in names)

    monkeypatch.setitem(LAYOUTS, "toy", Layout("toy", "a file of names", read, splits=2))
    put(tmp_path / "val2")
    found = read_videos("toy", tmp_path, put(tmp_path / "names", "a b"), subset="val", split=2)
    assert (found.kind, found.subset, found.split, found.classes) == ("toy", "val", 2, ("only",))
    assert [v.id for v in found.videos] == ["val2", "a", "b"]
    with pytest.raises(ConflictError, match="lists two videos 'a' for val"):
        read_videos("toy", tmp_path, put(tmp_path / "names", "a a"), subset="val", split=2)
    with pytest.raises(ConflictError, match="none of the 1 video"):
        read_videos("toy", tmp_path, split=2)
    with pytest.raises(ArgumentError, match="`split`"):
        read_videos("toy", tmp_path, split=3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_that_is_not_there(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is not a folder"):
        read_videos(kind, tmp_path / "gone")
    with pytest.raises((ConflictError, ArgumentError)):
        read_videos(kind, tmp_path)


# --- parts held out


@st.composite
def sets(draw: st.DrawFn) -> VideoSet:
    """Groups of one class each, as in UCF-101, or of several, as in ActivityNet."""
    classes, groups = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    videos = []
    for group in range(groups):
        first = draw(st.integers(0, classes - 1))
        for k in range(draw(st.integers(1, 4))):
            label = draw(st.integers(0, classes - 1)) if draw(st.integers(0, 9)) == 0 else first
            videos.append(Video(f"{group}-{k}", Path(f"{group}-{k}.mp4"), label, str(group)))
    return VideoSet("folder", "train", 1, tuple(map(str, range(classes))), tuple(videos))


@settings(max_examples=30)
@given(sets(), st.floats(0.01, 0.99), st.integers(0, 2**64 - 1))
def test_groups_stay_together(videos: VideoSet, fraction: float, seed: int) -> None:
    of = {label: {v.group for v in videos.videos if v.label == label} for label in {v.label for v in videos.videos}}
    single = all(len({v.label for v in videos.videos if v.group == g}) == 1 for gs in of.values() for g in gs)
    try:
        stays, aside = hold_out(videos, fraction, seed)
    except ArgumentError:
        assert not single or all(len(groups) < 2 for groups in of.values())
        return
    assert (stays.subset, aside.subset) == ("train", "val") and stays.classes == aside.classes == videos.classes
    assert {v.id for v in stays.videos} | {v.id for v in aside.videos} == {v.id for v in videos.videos}
    assert not {v.group for v in stays.videos} & {v.group for v in aside.videos}
    assert {v.label for v in stays.videos} == set(of)  # no class is lost to train with
    if single:
        for label, groups in of.items():
            n = len({v.group for v in aside.videos if v.label == label})
            assert n == (min(max(round(fraction * len(groups)), 1), len(groups) - 1))
    assert hold_out(videos, fraction, seed) == (stays, aside)
    shuffled = VideoSet("folder", "train", 1, videos.classes, tuple(reversed(videos.videos)))
    assert {v.id for v in hold_out(shuffled, fraction, seed)[1].videos} == {v.id for v in aside.videos}


def test_groups_of_several_classes_take_the_last_of_none() -> None:
    videos = tuple(Video(f"{g}{k}", Path("x"), k, g) for g, k in (("a", 0), ("a", 1), ("b", 0), ("c", 1)))
    for seed in range(8):
        for part in hold_out(VideoSet("x", "train", 1, ("a", "b"), videos), 0.9, seed):
            assert {v.label for v in part.videos} == {0, 1} or part.subset == "val"


def test_every_group_is_held_out_alike() -> None:
    videos = VideoSet("x", "train", 1, ("a",), tuple(Video(str(i), Path(str(i)), 0, str(i)) for i in range(10)))
    counts = Counter(v.group for seed in range(80) for v in hold_out(videos, 0.2, seed)[1].videos)
    assert set(counts) == set(map(str, range(10))) and all(5 < n < 30 for n in counts.values())


@pytest.mark.parametrize(
    ("fraction", "seed"), [(0, 0), (1, 0), (1.5, 0), (True, 0), (0.1, -1), (0.1, 2**64), (float("nan"), 0), ("a", 0)]
)
def test_fractions_and_seeds_out_of_range(fraction: Any, seed: int) -> None:
    videos = VideoSet("x", "train", 1, ("a",), tuple(Video(str(i), Path(str(i)), 0, str(i)) for i in range(10)))
    with pytest.raises(ArgumentError, match=r"`val_fraction`|`seed`"):
        hold_out(videos, fraction, seed)

"""The pictures: exact where they say so, each video under its own caption, each category in its own tile."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import vpngen
from vpngen import preview
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.generators import Generator, Perlin, Pixels

# Height, width, the numbers of W, H and D all differ, and W is not in order, so that nothing can be swapped unseen.
SPEC = vpngen.perlin(
    instances=2, val_instances=1, shape=(9, 48, 36),
    divisions_x=(4, 2, 6), divisions_y=(3, 8), temporal=(4, 8), noise_terms=0,
)  # fmt: skip
NOISE = np.random.default_rng(0).integers(0, 256, (7, 37, 23), np.uint8)


FRACTALS = vpngen.fractal(7, 30, val_instances=1, shape=(9, 48, 36), points_per_frame=40)
BOTH = vpngen.mixed(dataclasses.replace(SPEC, instances=30), FRACTALS)
"""Labels 0 to 11 are those of SPEC, 12 to 18 those of FRACTALS."""


@functools.cache
def video(index: int, split: str = "train", spec: vpngen.Spec = SPEC) -> Pixels:
    return vpngen.render(spec, index, split=split, backend="reference")


def source(spec: vpngen.Spec) -> preview.Source:
    return lambda index, window, /, *, split: window.of(video(index, split, spec))


SOURCE = source(SPEC)


def decode(path: Path) -> tuple[tuple[str, str, float], Pixels]:
    """What ffmpeg says of a file, (codec, pixel format, frames a second), and its frames (T, Y, X)."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    to_gray = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    done = subprocess.run([ffmpeg, "-i", f"file:{path}", *to_gray], capture_output=True, check=True)
    stream = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    found = re.search(r"Video: (\w+).*?, (\w+)[(,].* (\d+)x(\d+)[, ].* ([\d.]+) fps", stream)
    assert found is not None, stream
    codec, pixel_format, width, height, fps = found.groups()
    return (codec, pixel_format, float(fps)), np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width))


def find(picture: Pixels, part: Pixels, within: int = 0) -> tuple[int, int]:
    """The one place (y, x) where `part` (T, Y, X) is seen in all frames of `picture`, to `within` grey levels."""

    def alike(a: Pixels, b: Pixels) -> npt.NDArray[np.bool_]:
        return np.abs(a.astype(np.int16) - b) <= within

    _, height, width = part.shape
    first_rows = np.lib.stride_tricks.sliding_window_view(picture[0, : picture.shape[1] - height + 1], width, axis=1)
    places = [
        (int(y), int(x))
        for y, x in np.argwhere(alike(first_rows, part[0, 0]).all(axis=-1))
        if alike(picture[:, y : y + height, x : x + width], part).all()
    ]
    assert len(places) == 1
    return places[0]


def is_written(picture: Pixels, y: int, x: int, height: int, width: int) -> bool:
    """Whether there is text here, on paper."""
    area = picture[0, y : y + height, x : x + width]
    assert area.shape == (height, width)
    return bool((area == preview.PAPER).mean() > 0.5 and area.min() < preview.PAPER - 80)


# --- files


@pytest.mark.parametrize("size", [(37, 23), (1, 1), (2, 5), (16, 1), (3, 3)])
def test_ffv1_gives_back_every_byte(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = NOISE[:, : size[0], : size[1]]
    preview.save(tmp_path / "v.mkv", noise, fps=10)
    about, frames = decode(tmp_path / "v.mkv")
    assert np.array_equal(frames, noise)
    assert about == ("ffv1", "gray", 10)


@pytest.mark.parametrize("fps", [50, 30, 12.5, 7])
def test_gif_gives_back_every_byte_at_its_pace_for_ever(tmp_path: Path, fps: float) -> None:
    still = NOISE.copy()
    still[3] = still[2]  # an encoder may merge equal frames
    preview.save(tmp_path / "v.gif", still, fps)
    with Image.open(tmp_path / "v.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (len(still), 0)
        elapsed = 0.0
        for k, frame in enumerate(still):
            gif.seek(k)
            assert np.array_equal(np.asarray(gif.convert("L")), frame)
            assert abs(elapsed - 1000 * k / fps) <= 10  # a GIF counts hundredths of a second
            elapsed += gif.info["duration"]
        assert abs(elapsed - 1000 * len(still) / fps) <= 10


def test_mp4_is_h264_that_any_player_takes_and_close(tmp_path: Path) -> None:
    clip = video(3)[:, :37, :35].copy()
    clip[:, :8], clip[:, -8:] = 0, 255
    preview.save(tmp_path / "v.mp4", clip, fps=24)
    about, frames = decode(tmp_path / "v.mp4")
    assert about == ("h264", "yuv420p", 24)
    assert frames.shape == (9, 38, 36)
    assert np.abs(frames[:, :37, :35].astype(int) - clip).mean() < 1.5
    # The whole range of greys, neither clipped nor washed out, and no border where an odd size was padded.
    assert frames[:, :6].max() <= 3 and frames[:, -6:].min() >= 252
    assert np.abs(frames[:, :, -1].astype(int) - frames[:, :, -2]).mean() < 4


def test_png_gives_back_every_byte(tmp_path: Path) -> None:
    preview.save(tmp_path / "v.PNG", NOISE[:1])
    with Image.open(tmp_path / "v.PNG") as png:
        assert png.format == "PNG" and np.array_equal(np.asarray(png), NOISE[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".png"])
def test_the_least_picture(tmp_path: Path, suffix: str) -> None:
    preview.save(tmp_path / f"v{suffix}", NOISE[:1, :1, :1])
    frames = decode(tmp_path / f"v{suffix}")[1]
    assert frames.shape[0] == 1 and abs(int(frames[0, 0, 0]) - int(NOISE[0, 0, 0])) <= 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".png"])
def test_odd_names_and_arrays_that_are_not_contiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{name}{suffix}" for name in ("-y", "a b", "cache:a", "v.old")]
    for name in names:
        preview.save(name, NOISE[:1, ::-2, ::3])
        if suffix != ".mp4":
            assert np.array_equal(decode(Path(name))[1], NOISE[:1, ::-2, ::3])
    assert sorted(os.listdir()) == sorted(names)


def test_what_exists_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    path.write_text("old")
    preview.save(path, NOISE)
    assert np.array_equal(decode(path)[1], NOISE)


def fail_to_start(patch: pytest.MonkeyPatch, _: Path) -> tuple[type[BaseException], str]:
    patch.setitem(preview.FORMATS, ".mkv", ("-c:v", "no-such-codec", "-f", "matroska"))
    return RunError, r"v\.mkv could not be written: ffmpeg .*no-such-codec"


def fail_midway(patch: pytest.MonkeyPatch, folder: Path) -> tuple[type[BaseException], str]:
    script = folder / "ffmpeg"
    script.write_text('#!/bin/sh\nfor last; do :; done\necho part > "${last#file:}"\necho disk full >&2\nexit 9\n')
    script.chmod(0o755)
    patch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(script))
    return RunError, r"v\.mkv could not be written: ffmpeg ended with 9: disk full"


def fail_interrupted(patch: pytest.MonkeyPatch, _: Path) -> tuple[type[BaseException], str]:
    def replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent and source.stat().st_size
        raise KeyboardInterrupt

    patch.setattr(os, "replace", replace)
    return KeyboardInterrupt, "^$"


def fail_absent(patch: pytest.MonkeyPatch, _: Path) -> tuple[type[BaseException], str]:
    def absent() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    patch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    return MissingError, "install ffmpeg"


@pytest.mark.parametrize("fail", [fail_to_start, fail_midway, fail_interrupted, fail_absent])
def test_a_failed_write_leaves_what_exists(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[pytest.MonkeyPatch, Path], tuple[type[BaseException], str]],
) -> None:
    path = tmp_path / "out" / "v.mkv"
    path.parent.mkdir()
    path.write_text("old")
    error, message = fail(monkeypatch, tmp_path)
    with pytest.raises(error, match=message):
        preview.save(path, np.zeros((20, 256, 256), np.uint8))  # more than a pipe holds
    assert os.listdir(path.parent) == ["v.mkv"] and path.read_text() == "old"


def test_a_failed_png_leaves_what_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Image.Image, path: Path, **__: object) -> None:
        path.write_bytes(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    (tmp_path / "v.png").write_text("old")
    with pytest.raises(MissingError, match=r"no space is left to write .*v\.png"):
        preview.save(tmp_path / "v.png", NOISE[:1])
    assert os.listdir(tmp_path) == ["v.png"] and (tmp_path / "v.png").read_text() == "old"


# --- layout


def test_captions_name_split_index_and_category() -> None:
    n = SPEC.n_categories
    assert n == 12
    assert preview.caption(SPEC, n + 4) == ("train 16", "category 4:  W=6  H=3  D=4")
    assert preview.caption(SPEC, 9, "val") == ("val 9", "category 9:  W=2  H=8  D=8")


def test_captions_of_fractals_say_the_variant_and_the_flip_in_words() -> None:
    wide = vpngen.fractal(7, 120, shape=(2, 20, 20), points_per_frame=9, weight=0.1)
    words = [preview.caption(wide, 7 * i + 3)[1] for i in range(120)]
    assert preview.caption(wide, 3) == ("train 3", "category 3:  the system itself")
    rows = wide.params(np.arange(3, 7 * 120, 7))
    flips = {0: "", 1: ", mirrored left to right", 2: ", mirrored top to bottom", 3: ", mirrored both ways"}
    for text, variant, flip in zip(words, rows["variant"], rows["flips"], strict=True):
        factor = ("0.8", "0.9", "1.1", "1.2")[(variant - 1) % 4]
        meaning = f"{'abcdef'[(variant - 1) // 4]} x {factor}" if variant else "the system itself"
        assert text == f"category 3:  {meaning}{flips[flip]}"
    assert set(rows["flips"]) == set(flips) and len(set(words)) > 80


def test_captions_of_a_mixture_name_the_generator() -> None:
    assert preview.caption(BOTH, 19 + 4) == ("train 23", "category 4:  perlin 4,  W=6  H=3  D=4")
    assert preview.caption(BOTH, 14, "val") == ("val 14", "category 14:  fractal 2,  the system itself")
    assert preview.caption(FRACTALS, 7 * 29 + 2)[1].partition(":  ")[2] in preview.caption(BOTH, 19 * 29 + 14)[1]


@pytest.mark.parametrize("columns", [None, 1, 2, 9])
def test_a_grid_holds_each_video_below_its_caption_in_reading_order(columns: int | None) -> None:
    indices = [7, 0, 16, 3, 11]
    captions = [preview.caption(SPEC, i) for i in indices]
    picture = preview.grid([video(i) for i in indices], captions, columns)
    places = [find(picture, video(i)) for i in indices]
    assert places == sorted(places)
    assert max(sum(b == y for b, _ in places) for y, _ in places) == min(columns or 3, 5)
    for y, x in places:  # two lines that begin above the corner of the video
        assert is_written(picture, y - 45, x, 22, 16) and is_written(picture, y - 22, x, 22, 16)
    # A changed caption changes the picture above its own video and nowhere else.
    captions[2] = ("train 999", captions[2][1])
    changed = np.argwhere((preview.grid([video(i) for i in indices], captions, columns) != picture).any(axis=0))
    y, x = places[2]
    assert y - 45 <= changed[:, 0].min() and changed[:, 0].max() < y
    assert x <= changed[:, 1].min() and changed[:, 1].max() < x + 100


def test_a_contact_sheet_is_a_strip_for_each_video() -> None:
    indices, numbers = [5, 2, 8], [1, 4, 8]
    strips = [video(i)[numbers] for i in indices]
    picture = preview.contact_sheet(strips, [preview.caption(SPEC, i) for i in indices], numbers)
    assert len(picture) == 1
    places = np.array([[find(picture, frame[None]) for frame in strip] for strip in strips])
    assert (np.diff(places[:, :, 0], axis=0) > 48).all() and (np.diff(places[:, :, 0], axis=1) == 0).all()
    assert (np.diff(places[:, :, 1], axis=1) >= 36).all() and (np.diff(places[:, :, 1], axis=0) == 0).all()
    for y, x in places.reshape(-1, 2):
        assert is_written(picture, y + 48, x, 22, 10)
    for y, x in places[:, 0]:
        assert is_written(picture, y - 25, x, 25, 50) and is_written(picture, y - 25, x + 80, 25, 120)


def test_wide_captions_make_room_for_themselves() -> None:
    tiny = [video(i)[:, :6, :5] for i in (0, 7)]
    wide = ("train 0", "category 0:  " + "W=240  " * 9)
    for picture in (
        preview.grid(tiny, [wide, wide]),
        preview.contact_sheet([t[:2] for t in tiny], [wide, wide], [0, 1]),
    ):
        assert (picture[:, :, -10:] == preview.PAPER).all() and (picture[:, -10:] == preview.PAPER).all()
        for v in tiny:
            find(picture, v[: len(picture)])


@pytest.mark.parametrize(("split", "instance", "temporal"), [("train", 0, 8), ("train", 1, 4), ("val", 0, 8)])
def test_the_mosaic_shows_each_category_at_its_place(split: str, instance: int, temporal: int) -> None:
    picture = preview.mosaic(
        SPEC, SOURCE, frames=(2, 7), split=split, instance=instance, temporal=temporal, tile=48
    )  # fmt: skip
    places = {
        (w, h): find(picture, video(instance * 12 + SPEC.category_id((w, h, temporal)), split)[2:7])
        for w, h in itertools.product((2, 4, 6), (3, 8))
    }
    xs = [{places[w, h][1] for h in (3, 8)} for w in (2, 4, 6)]
    ys = [{places[w, h][0] for w in (2, 4, 6)} for h in (3, 8)]
    assert all(len(same) == 1 for same in xs + ys)
    (left, *_), (top, *_) = sorted(map(min, xs)), sorted(map(min, ys))
    assert [min(x) - left for x in xs] == [0, 38, 76] and [min(y) - top for y in ys] == [0, 50]
    assert all(is_written(picture, top - 20, min(x), 20, 36) for x in xs)
    assert all(is_written(picture, min(y), left - 15, 48, 13) for y in ys)
    assert is_written(picture, 18, 20, 22, 150) and is_written(picture, 43, 20, 16, 150)  # what it is, which part


def test_reduced_tiles_are_means_over_the_whole_frame() -> None:
    picture = preview.mosaic(SPEC, SOURCE, frames=(0, 3), tile=24)
    for w, h in itertools.product((2, 4, 6), (3, 8)):
        blocks = video(SPEC.category_id((w, h, 8)))[:3].reshape(3, 24, 2, 18, 2)
        find(picture, blocks.mean(axis=(2, 4)).round().astype(np.uint8), within=1)


def test_small_videos_are_not_enlarged() -> None:
    picture = preview.mosaic(SPEC, SOURCE, frames=(0, 3), tile=480)
    find(picture, video(SPEC.category_id((6, 3, 8)))[:3])


def test_cropped_tiles_are_the_first_pixels() -> None:
    picture = preview.mosaic(SPEC, SOURCE, frames=(4, 5), tile=20, crop=True)
    for w, h in itertools.product((2, 4, 6), (3, 8)):
        find(picture, video(SPEC.category_id((w, h, 8)))[4:5, :20, :20])


def test_the_mosaic_of_all_categories_of_the_paper() -> None:
    spec = vpngen.Spec.preset("vpn-400x200")
    asked = []

    def flat(index: int, window: vpngen.Window, *, split: str) -> Pixels:
        asked.append((index, window, split))
        return np.full((1, 240, 240), index % 200 + 20, np.uint8)

    picture = preview.mosaic(spec, flat, frames=(4, 5), tile=30)
    assert sorted(i for i, _, _ in asked) == list(range(400))
    assert {(w, s) for _, w, s in asked} == {(vpngen.Window(t=(4, 5)), "train")}
    tiles = picture[0, -20 - 20 * 32 :, -20 - 20 * 32 :][16:-20:32, 16:-20:32]
    assert np.array_equal(tiles, (np.arange(400).reshape(20, 20).T % 200 + 20))


@pytest.mark.parametrize(("split", "instance"), [("train", 0), ("train", 29), ("val", 0)])
def test_a_page_shows_each_category_once_below_its_number(split: str, instance: int) -> None:
    picture = preview.mosaic(FRACTALS, source(FRACTALS), split=split, instance=instance, frames=(2, 7), tile=48)
    places = [find(picture, video(instance * 7 + i, split, FRACTALS)[2:7]) for i in range(7)]
    assert places == sorted(places)
    assert [sum(y == there for y, _ in places) for there in sorted({y for y, _ in places})] == [3, 3, 1]
    assert all(is_written(picture, y - 14, x, 14, 10) for y, x in places)
    assert is_written(picture, 18, 20, 22, 150) and is_written(picture, 43, 20, 16, 150)


def test_a_page_numbers_its_tiles_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[float, float, str]] = []
    write = preview._write

    def spy(at: Image.Image, x: float, y: float, text: str, *rest: object, **more: object) -> None:
        written.append((y, x, text))
        write(at, x, y, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(preview, "_write", spy)
    picture = preview.mosaic(BOTH, source(BOTH), still=True, tile=48, per_page=4, page=2)
    for label in range(16, 19):
        y, x = find(picture, video(label, spec=BOTH)[8:])
        head = y - (picture.shape[1] - 48 - preview.MARGIN) + max(y for y, _, t in written if t == str(label))
        assert [t for wy, wx, t in written if wx == x and -8 <= wy - head < 8 and t.isdigit()] == [str(label)]
    assert "3 of 7 categories of Video Fractal" in [text for *_, text in written]
    assert "3 x 2 categories of Video Perlin Noise, D = 8" in [text for *_, text in written]


def test_pages_hold_every_category_once() -> None:
    seen = []
    for page in (1, 2, 3):
        asked: list[int] = []

        def note(index: int, window: vpngen.Window, *, split: str, asked: list[int] = asked) -> Pixels:
            asked.append(index)
            return video(index, split, FRACTALS)[window.t[0] : window.t[1]]  # type: ignore[index]

        preview.mosaic(FRACTALS, note, instance=2, per_page=3, page=page, still=True)
        seen.append(asked)
    assert seen == [[14, 15, 16], [17, 18, 19], [20]]


@pytest.mark.parametrize(("columns", "rows"), [(None, 3), (1, 7), (5, 2), (99, 1)])
def test_columns_of_a_page(columns: int | None, rows: int) -> None:
    picture = preview.mosaic(FRACTALS, source(FRACTALS), frames=(8, 9), columns=columns, tile=48)
    assert len({find(picture, video(i, spec=FRACTALS)[8:])[0] for i in range(7)}) == rows


def test_a_mixture_shows_the_plane_and_the_page() -> None:
    still = preview.mosaic(BOTH, source(BOTH), still=True, tile=48)
    moving = preview.mosaic(BOTH, source(BOTH), tile=48)
    assert len(still) == 1 and len(moving) == 9
    ends = []
    for label in range(19):
        if label < 12 and BOTH.category(label)[3] != 8:
            continue
        one = video(label, spec=BOTH)
        ends.append(find(moving, one))
        assert find(still, one[4:5] if label < 12 else one[8:]) == ends[-1]
    assert max(y for y, _ in ends[:6]) < min(y for y, _ in ends[6:])
    plane = preview.mosaic(SPEC, SOURCE, still=True, tile=48)
    alone = still[:, : plane.shape[1], : plane.shape[2]]
    tiles = plane.copy()
    tiles[:, 80:] = alone[:, 80:]  # the videos are others
    assert np.array_equal(alone, tiles) and (still[:, : plane.shape[1], plane.shape[2] :] == preview.PAPER).all()


def test_tiles_of_a_page_fill_it_and_are_not_reduced_for_little() -> None:
    def width(categories: int, side: int) -> int:
        spec = vpngen.fractal(categories, 1, shape=(1, side, side), points_per_frame=9)
        flat = np.zeros((1, side, side), np.uint8)
        picture = preview.mosaic(spec, lambda *_, **__: flat, still=True)
        return int((picture[0] == 0).any(axis=0).sum() / math.ceil(math.sqrt(categories)))

    assert [width(n, 362) for n in (1, 4, 100, 400)] == [240, 240, 116, 60]
    assert [width(4, side) for side in (30, 240, 300, 301)] == [30, 240, 300, 240]


def test_a_generator_without_a_look_of_its_own_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("caption", "plane", "still"):
        monkeypatch.setattr(Perlin, name, getattr(Generator, name))
    assert preview.caption(SPEC, 5) == ("train 5", "category 5:  (6, 8, 4)")
    picture = preview.mosaic(SPEC, SOURCE, still=True, tile=48)
    for i in range(12):
        find(picture, video(i)[4:5])
    facts = SPEC.generator.facts(SPEC.shape)
    assert ("noise_terms", "0") in facts and ("divisions_x", "4, 2, 6") in facts


# --- both at once


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".png"])
def test_preview_and_mosaic_write_every_format(tmp_path: Path, suffix: str) -> None:
    a, b = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    preview.preview(a, SPEC, SOURCE, [0, 5], split="val", frames=(1, 7), columns=3)
    preview.preview_mosaic(b, SPEC, SOURCE, temporal=4)
    videos = [video(0, "val")[1:7], video(5, "val")[1:7]]
    captions = [preview.caption(SPEC, i, "val") for i in (0, 5)]
    if suffix == ".png":
        want = preview.contact_sheet([v[[0, 2, 5]] for v in videos], captions, [1, 3, 6])
        still = preview.mosaic(SPEC, SOURCE, temporal=4, frames=(2, 3))
        with Image.open(a) as left, Image.open(b) as right:
            assert np.array_equal(np.asarray(left), want[0])
            assert np.array_equal(np.asarray(right), still[0])
        return
    for path, want in ((a, preview.grid(videos, captions, 3)), (b, preview.mosaic(SPEC, SOURCE, temporal=4))):
        got = decode(path)[1][:, : want.shape[1], : want.shape[2]]
        assert got.shape == want.shape
        if suffix == ".mp4":
            assert np.abs(got.astype(int) - want).mean() < 1.5
        else:
            assert np.array_equal(got, want)


def test_strips_take_both_ends_and_no_more_frames_than_there_are(tmp_path: Path) -> None:
    for columns, want in ((None, [0, 1, 2, 3, 5, 6, 7, 8]), (2, [0, 8]), (1, [0]), (50, list(range(9)))):
        preview.preview(tmp_path / "v.png", SPEC, SOURCE, [4], columns=columns)
        sheet = preview.contact_sheet([video(4)[want]], [preview.caption(SPEC, 4)], want)
        with Image.open(tmp_path / "v.png") as png:
            assert np.array_equal(np.asarray(png), sheet[0])


def test_strips_of_what_grows_show_ever_longer_steps(tmp_path: Path) -> None:
    def drawn(spec: vpngen.Spec, numbers: list[int], indices: list[int], **options: object) -> None:
        preview.preview(tmp_path / "v.png", spec, source(spec), indices, **options)  # type: ignore[arg-type]
        strips = [video(i, spec=spec)[numbers] for i in indices]
        sheet = preview.contact_sheet(strips, [preview.caption(spec, i) for i in indices], numbers)
        with Image.open(tmp_path / "v.png") as png:
            assert np.array_equal(np.asarray(png), sheet[0])

    drawn(FRACTALS, [0, 1, 3, 8], [0, 5], columns=4)
    drawn(FRACTALS, [8], [3], columns=1)
    drawn(FRACTALS, [3, 4, 6], [3], columns=3, frames=(3, 7))
    drawn(FRACTALS, list(range(9)), [3], columns=50)
    drawn(BOTH, [0, 1, 3, 8], [12, 18], columns=4)
    drawn(BOTH, [0, 3, 5, 8], [0, 12], columns=4)
    trail = vpngen.fractal(2, 1, shape=(9, 48, 36), points_per_frame=40, trail=2)
    drawn(trail, [0, 3, 5, 8], [0], columns=4)


@pytest.mark.parametrize("start", [0, 1, 50])
@pytest.mark.parametrize("length", [1, 2, 9, 100, 1000])
def test_strips_have_distinct_frames_and_both_ends(start: int, length: int) -> None:
    for grow, count in itertools.product((False, True), range(2, min(length, 40) + 1)):
        chosen = preview._strip(start, start + length, count, grow)
        assert (len(chosen), chosen[0], chosen[-1]) == (count, 0, length - 1)
        assert (np.diff(chosen) > 0).all()


def test_a_still_of_fractals_is_the_last_frame(tmp_path: Path) -> None:
    for frames, want in ((None, 8), ((2, 5), 4)):
        drawn = preview.preview_mosaic(tmp_path / "v.png", FRACTALS, source(FRACTALS), frames=frames, per_page=5)
        assert drawn == 5
        with Image.open(tmp_path / "v.png") as png:
            find(np.asarray(png)[None], video(4, spec=FRACTALS)[want : want + 1])


def test_a_still_mosaic_takes_the_first_of_the_frames_asked_for(tmp_path: Path) -> None:
    preview.preview_mosaic(tmp_path / "v.png", SPEC, SOURCE, frames=(5, 9), tile=30)
    with Image.open(tmp_path / "v.png") as png:
        assert np.array_equal(np.asarray(png), preview.mosaic(SPEC, SOURCE, frames=(5, 6), tile=30)[0])


def test_stored_pixels_give_the_same_picture(tmp_path: Path) -> None:
    stored = {split: np.stack([video(i, split) for i in range(SPEC.n_videos(split))]) for split in SPEC.splits}

    def read(index: int, window: vpngen.Window, *, split: str) -> Pixels:
        return window.of(stored[split][index])

    for source in (SOURCE, read):
        name = tmp_path / f"{source is read}"
        preview.preview(name.with_suffix(".mkv"), SPEC, source, [3, 1], split="val", frames=(2, 6))
        preview.preview_mosaic(name.with_suffix(".png"), SPEC, source, split="val", crop=True, tile=20)
    assert np.array_equal(decode(tmp_path / "True.mkv")[1], decode(tmp_path / "False.mkv")[1])
    assert (tmp_path / "True.png").read_bytes() == (tmp_path / "False.png").read_bytes()


# --- bad arguments


NAMES = [("a", "b")]


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"`path` .*\.avi.* must end in one of \.mp4, \.mkv, \.gif, \.png", lambda p: preview.check(p / "v.avi")),
        (r"must end in one of", lambda p: preview.save(p / "v", NOISE)),
        (r"`path` .*folder that does not exist; create .*none", lambda p: preview.save(p / "none" / "v.mkv", NOISE)),
        (r"`path` .*is a folder", lambda p: ((p / "v.gif").mkdir(), preview.save(p / "v.gif", NOISE))),
        (r"`fps` \(=0\) must be a number from 0\.1 to 1000", lambda p: preview.save(p / "v.mkv", NOISE, 0)),
        (r"`fps` \(=-5\)", lambda p: preview.save(p / "v.mp4", NOISE, -5)),
        (r"`fps` \(=nan\)", lambda p: preview.save(p / "v.mp4", NOISE, float("nan"))),
        (r"`fps` \(=inf\)", lambda p: preview.save(p / "v.mp4", NOISE, float("inf"))),
        (r"`fps` \(='25'\)", lambda p: preview.save(p / "v.mp4", NOISE, "25")),
        (r"`fps` \(=60\) must be a number from 0\.1 to 50 in a \.gif", lambda p: preview.save(p / "v.gif", NOISE, 60)),
        (r"`picture` .*not float64", lambda p: preview.save(p / "v.mkv", NOISE / 255)),
        (r"`picture` .*\(37, 23\)", lambda p: preview.save(p / "v.mkv", NOISE[0])),
        (r"`picture` .*\(0, 37, 23\)", lambda p: preview.save(p / "v.mkv", NOISE[:0])),
        (r"`picture` has 7 frames; a png takes 1", lambda p: preview.save(p / "v.png", NOISE)),
        (r"`indices` is empty", lambda p: preview.preview(p / "v.png", SPEC, SOURCE, [])),
        (r"index 24 is outside the train split", lambda p: preview.preview(p / "v.png", SPEC, SOURCE, [0, 24])),
        (r"index 12 is outside the val", lambda p: preview.preview(p / "v.png", SPEC, SOURCE, [12], split="val")),
        (r"`split` \(='test'\)", lambda p: preview.preview(p / "v.png", SPEC, SOURCE, [0], split="test")),
        (r"`frames` \(=\(3, 10\)\)", lambda p: preview.preview(p / "v.gif", SPEC, SOURCE, [0], frames=(3, 10))),
        (r"`frames` \(=\(3, 3\)\)", lambda p: preview.preview(p / "v.gif", SPEC, SOURCE, [0], frames=(3, 3))),
        (r"`frames` \(=\(-1, 3\)\)", lambda p: preview.preview_mosaic(p / "v.png", SPEC, SOURCE, frames=(-1, 3))),
        (r"`frames` \(=5\)", lambda p: preview.mosaic(SPEC, SOURCE, frames=5)),
        (r"`columns` \(=0\)", lambda p: preview.preview(p / "v.png", SPEC, SOURCE, [0], columns=0)),
        (r"`columns` \(=1\.5\)", lambda p: preview.grid([NOISE], NAMES, 1.5)),
        (r"`videos` is empty", lambda p: preview.grid([], [])),
        (r"`videos` is empty", lambda p: preview.contact_sheet([], [], [])),
        (r"`captions` has 1 entries for 2 videos", lambda p: preview.grid([NOISE, NOISE], NAMES)),
        (r"`videos` must be uint8", lambda p: preview.grid([NOISE, NOISE[:3]], NAMES * 2)),
        (r"`videos` must be uint8", lambda p: preview.grid([NOISE.astype(int)], NAMES)),
        (r"`numbers` has 2 entries for strips of 7", lambda p: preview.contact_sheet([NOISE], NAMES, [0, 1])),
        (r"`temporal` \(=16\) .*\(4, 8\)", lambda p: preview.preview_mosaic(p / "v.png", SPEC, SOURCE, temporal=16)),
        (r"`instance` \(=2\) must be an integer from 0 to 1", lambda p: preview.mosaic(SPEC, SOURCE, instance=2)),
        (
            r"`instance` \(=1\) must be an integer from 0 to 0",
            lambda p: preview.mosaic(SPEC, SOURCE, instance=1, split="val"),
        ),
        (r"`tile` \(=0\)", lambda p: preview.mosaic(SPEC, SOURCE, tile=0)),
        (r"`tile` \(=0\)", lambda p: preview.mosaic(FRACTALS, SOURCE, tile=0)),
        (r"`page` \(=0\) must be an integer of at least 1", lambda p: preview.mosaic(FRACTALS, SOURCE, page=0)),
        (r"`page` \(=2\) must be from 1 to 1", lambda p: preview.mosaic(FRACTALS, SOURCE, page=2)),
        (r"`page` \(=4\) must be from 1 to 3: 3 .* fit on", lambda p: preview.mosaic(BOTH, SOURCE, page=4, per_page=3)),
        (r"`per_page` \(=1\.5\)", lambda p: preview.mosaic(FRACTALS, SOURCE, per_page=1.5)),
        (r"`columns` \(=0\)", lambda p: preview.mosaic(FRACTALS, SOURCE, columns=0)),
        (r"`columns` \(=3\) is of pages", lambda p: preview.mosaic(SPEC, SOURCE, columns=3)),
        (r"`page` \(=1\) is of pages", lambda p: preview.preview_mosaic(p / "v.png", SPEC, SOURCE, page=1)),
        (r"`temporal` \(=8\) .* Video Fractal has none", lambda p: preview.mosaic(FRACTALS, SOURCE, temporal=8)),
        (r"`temporal` \(=16\) .*\(4, 8\)", lambda p: preview.mosaic(BOTH, SOURCE, temporal=16)),
        (
            r"`instance` \(=30\) must be an integer from 0 to 29",
            lambda p: preview.mosaic(FRACTALS, SOURCE, instance=30),
        ),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, message: str, call: Callable[[Path], object]) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_a_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ArgumentError, match=r"cannot be written: .*its folder is read-only"):
        preview.check(tmp_path / "v.png")


def test_arguments_are_checked_before_anything_is_rendered(tmp_path: Path) -> None:
    def never(index: int, window: vpngen.Window, *, split: str) -> Pixels:
        raise AssertionError("rendered for nothing")

    with pytest.raises(ArgumentError, match="fps"):
        preview.preview(tmp_path / "v.gif", SPEC, never, [0], fps=60)
    with pytest.raises(ArgumentError, match="columns"):
        preview.preview(tmp_path / "v.gif", SPEC, never, [0], columns=-1)
    with pytest.raises(ArgumentError, match="path"):
        preview.preview_mosaic(tmp_path / "v.tif", SPEC, never)

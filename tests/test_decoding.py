"""Frames by number: equal to those of decoding the whole file, and to those of the ffmpeg of the command line."""

from __future__ import annotations

import functools
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filming import EXACT, Pixels, ffmpeg, film, jpegs, numbers, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vpngen.datasets import Video, decoding
from vpngen.datasets.decoding import Frames, UnreadableError, VideoInfo
from vpngen.errors import MissingError

pytest.importorskip("av")

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
OPEN = (*X264, "-x264-params", "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0")
FILES: dict[str, tuple[Any, ...]] = {
    # name of the file: arguments of ffmpeg, whether the packets tell the frames, keyframes at least
    "b.mp4": (*X264, "-bf", "3", "-g", "12"),
    "b.mkv": (*X264, "-bf", "3", "-g", "12"),
    "b.ts": (*X264, "-bf", "3", "-g", "12"),
    "b.flv": (*X264, "-bf", "3", "-g", "12"),
    "open.mp4": OPEN,
    "open.ts": OPEN,
    "leaves.mp4": (*X264, "-x264-params", "bframes=8:b-pyramid=none:b-adapt=0:keyint=24"),
    "altref.webm": ("-c:v", "libvpx-vp9", "-speed", "5", "-lag-in-frames", "25", "-auto-alt-ref", "1", "-b:v", "99k", "-g", "24"),
    "refresh.mp4": (*X264, "-x264-params", "intra-refresh=1:keyint=12"),
    "fragments.mp4": (*X264, "-g", "12", "-movflags", "frag_keyframe+empty_moov"),
    "delayed.mp4": (*X264, "-bf", "2", "-g", "12", "-output_ts_offset", "3.5"),
    "wide.mp4": (*X264, "-colorspace", "bt709", "-color_range", "tv", "-g", "12"),
    "444.mkv": ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "12"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params",
                 "log-level=none:keyint=12:open-gop=1:bframes=3:pools=1"),
    "plain.avi": ("-c:v", "mpeg4", "-q:v", "3", "-g", "12", "-vtag", "XVID"),
    "xvid.avi": ("-c:v", "libxvid", "-bf", "0", "-q:v", "3", "-g", "12"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3", "-g", "12"),
    "b.avi": ("-c:v", "mpeg4", "-q:v", "3", "-g", "12", "-bf", "2"),
    "packed.avi": ("-c:v", "libxvid", "-bf", "2", "-q:v", "3", "-g", "12"),
    "h264.avi": (*X264, "-bf", "3", "-g", "12"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", "-g", "9", "-q:v", "3"),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-bf", "2", "-g", "9", "-q:v", "3"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-speed", "8", "-b:v", "300k", "-g", "12"),
    "vp8.webm": ("-c:v", "libvpx", "-speed", "8", "-b:v", "300k", "-g", "12"),
    "av1.mkv": ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-g", "12"),
    "wmv2.wmv": ("-c:v", "wmv2", "-g", "12", "-q:v", "3"),
    "flv1.flv": ("-c:v", "flv1", "-g", "12", "-q:v", "3"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"),
    "ffv1.mkv": EXACT,
    "some.gif": (),
    "raw.y4m": ("-pix_fmt", "yuv420p"),
    "mpeg2.mxf": ("-c:v", "mpeg2video", "-q:v", "3", "-pix_fmt", "yuv420p", "-g", "9"),
    "b.MTS": (*X264, "-g", "12", "-f", "mpegts"),
    "b.f4v": (*X264, "-g", "12"),
    "mpeg2.vob": ("-c:v", "mpeg2video", "-q:v", "3", "-g", "9"),
    "flv1.nut": ("-c:v", "flv1", "-q:v", "3", "-g", "9"),
    # one palette for all frames, or a header that changes within the file, is lost to who begins later
    "palette.avi": ("-vf", "format=gray,format=pal8", "-c:v", "rawvideo", "-pix_fmt", "pal8"),
    "palette.mov": ("-vf", "format=gray,format=pal8", "-c:v", "rawvideo", "-pix_fmt", "pal8"),
}  # fmt: skip
COUNTED = {"b.avi", "packed.avi", "h264.avi", "mpeg4.mp4", "some.gif", "palette.avi", "palette.mov", "header.flv"}
"""Of these the packets do not tell the frames."""
SIZE = (48, 64)


def probe(path: Path, segment: Any = None, images: Any = None) -> VideoInfo:
    return decoding.probe(Video("", path, 0, "", segment, images))


def stream(path: Path, notes: list[str]) -> Iterator[Frames]:
    return decoding.stream(Video("", path, 0, ""), notes)


def frames(info: VideoInfo, first: int, last: int, step: int = 1, notes: Any = None) -> Iterator[tuple[int, Frames]]:
    return decoding.frames(info, range(first, min(last, info.frames), step), [] if notes is None else notes)


def read(info: VideoInfo, first: int, last: int, step: int = 1) -> Pixels:
    """Frames of a video as one array (T, H, W, 3)."""
    return np.stack([frame for _, frame in frames(info, first, last, step)])


SEI = "h264_metadata=display_orientation=insert:"
TURNED: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    **{f"turned{angle}.mp4": (("-display_rotation", angle), ()) for angle in (90, 180, -90)},
    **{f"mirrored{angle}.mp4": (("-display_hflip", "-display_rotation", angle), ()) for angle in (0, 90, 180, -90)},
    **{f"sei{k}.{end}": ((), ("-bsf:v", SEI + how))
       for end in ("mp4", "mkv") for k, how in enumerate(("rotate=90", "flip=horizontal", "rotate=270:flip=vertical"))},
}  # fmt: skip
"""Name of a file -> what ffmpeg is told before and after its input, so that its frames are turned to be seen."""


def _joined(one: bytes, other: bytes) -> bytes:
    """Two FLVs, the second after the first."""
    made, at = bytearray(one), 13
    while at < len(other):
        size = 15 + int.from_bytes(other[at + 1 : at + 4], "big")
        tag, when = bytearray(other[at : at + size]), int.from_bytes(other[at + 4 : at + 7], "big") + 3000
        tag[4:7] = when.to_bytes(3, "big")
        made += tag if tag[0] == 9 else b""
        at += size
    return bytes(made)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    made = {name: folder / name for name in FILES}
    *outputs, last = [part for name, how in FILES.items() for part in (*(how or ("-f", "gif")), made[name])]
    film(last, scene(), *outputs)  # all at once, which saves the start of a program for each
    # what cutting without encoding anew leaves: frames that serve to predict others and are not shown
    made["edit.mp4"] = folder / "edit.mp4"
    ffmpeg("-ss", "0.3", "-i", made["b.mp4"], "-c", "copy", made["edit.mp4"])
    made["rates.mp4"] = folder / "rates.mp4"
    ffmpeg(
        "-i", made["b.mp4"], "-vf", "select='not(mod(n,3))+not(mod(n,5))'", "-fps_mode", "vfr", *X264, made["rates.mp4"]
    )
    for name, how in TURNED.items():
        made[name] = folder / name
        ffmpeg(*how[0], "-i", made["b.mp4"], "-c", "copy", *how[1], made[name])
    # a file whose header changes between frames, as a stream that was interrupted leaves it
    made["header.flv"] = folder / "header.flv"
    ffmpeg(
        "-i", made["b.mp4"], "-c:v", "libx264", "-g", "12", "-crf", 40, "-profile:v", "baseline", folder / "more.flv"
    )
    made["header.flv"].write_bytes(_joined(made["b.flv"].read_bytes(), (folder / "more.flv").read_bytes()))
    # a recording that was begun in the middle of a group of pictures
    made["begun.ts"] = folder / "begun.ts"
    content = made["open.ts"].read_bytes()
    made["begun.ts"].write_bytes(content[len(content) // 3 // 188 * 188 :])
    made["noindex.avi"] = folder / "noindex.avi"
    made["noindex.avi"].write_bytes(made["plain.avi"].read_bytes().replace(b"idx1", b"JUNK"))
    made["sound.mp4"] = folder / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-i", made["b.mp4"], "-c:v", "copy", made["sound.mp4"])
    return made


EVERY = [
    *FILES,
    "header.flv",
    "edit.mp4",
    "rates.mp4",
    *TURNED,
    "begun.ts",
    "noindex.avi",
    "sound.mp4",
]


@functools.cache
def whole(path: Path) -> Pixels:
    """All frames of a file, decoded once."""
    return np.stack(list(stream(path, [])))


@pytest.fixture(scope="module")
def theirs(films: dict[str, Path]) -> dict[str, Path]:
    """Files of the raw frames that the command line decodes, none left out or shown twice for the sake of the rate."""
    raw = {name: path.with_suffix(f"{path.suffix}.raw") for name, path in films.items()}
    inputs = [part for path in films.values() for part in ("-threads", 1, "-i", path)]
    how = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24")
    ffmpeg(*inputs, *(part for k, path in enumerate(raw.values()) for part in ("-map", f"{k}:v", *how, path)))
    return raw


@pytest.mark.parametrize("name", EVERY)
def test_any_frames_are_those_of_decoding_all(name: str, films: dict[str, Path]) -> None:
    path = films[name]
    info, every = probe(path), whole(path)
    assert every.shape == (info.frames, info.height, info.width, 3)
    assert (decoding._index(path).stamps is None) == (name in COUNTED | {"begun.ts"})
    draw = random.Random(name)
    for first in [*range(0, info.frames, 7), info.frames - 1]:
        last = min(first + draw.randrange(1, 30), info.frames)
        step = draw.choice((1, 1, 2, 5))
        found = dict(frames(info, first, last, step))
        assert list(found) == list(range(first, last, step))
        assert np.array_equal(np.stack(list(found.values())), every[first:last:step])


@pytest.mark.parametrize("name", EVERY)
def test_the_command_line_decodes_the_same(name: str, films: dict[str, Path], theirs: dict[str, Path]) -> None:
    mine, others = whole(films[name]), np.fromfile(theirs[name], np.uint8)
    others = others.reshape(-1, *mine.shape[1:])
    if name == "begun.ts":  # it shows what it cannot predict, damaged
        assert len(mine) and np.array_equal(mine[-5:], others[-5:])
        return
    assert mine.shape == others.shape
    # decoders of another version may differ by a rounding
    assert np.abs(mine.astype(int) - others).max() <= 2


@pytest.mark.parametrize("name", list(FILES))
def test_the_numbers_painted_into_the_frames_are_theirs(name: str, films: dict[str, Path]) -> None:
    """Some encoders leave a frame out at the end, or show one twice; none turns the order."""
    told = numbers(whole(films[name]))
    if name == "packed.avi":
        assert told == sorted(told) and len(told) >= 36
    else:
        assert told == list(range(40))
    assert numbers(read(probe(films[name]), 17, 33)) == told[17:33]


def test_keyframes_are_used(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few frames before those asked for are decoded, where there are keyframes and the packets tell the frames."""
    decoded = 0
    original = decoding._decoded

    def counting(*arguments: Any) -> Any:
        nonlocal decoded
        for frame in original(*arguments):
            decoded += 1
            yield frame

    monkeypatch.setattr(decoding, "_decoded", counting)
    for name in EVERY:
        if name in COUNTED | {"refresh.mp4", "begun.ts", "rates.mp4", "edit.mp4", "xvid.avi"}:
            continue
        info = probe(films[name])
        decoded = 0
        read(info, 37, 39)
        assert decoded <= 16, name


def test_frames_that_only_predict_are_not_counted(tmp_path: Path) -> None:
    path, log = tmp_path / "a.webm", tmp_path / "log"
    source = film(tmp_path / "s.mkv", scene(60))
    for which, out in ((1, "-"), (2, path)):
        ffmpeg("-i", source, "-c:v", "libvpx", "-b:v", "200k", "-auto-alt-ref", 1, "-lag-in-frames", 25, "-arnr-maxframes", 7,
               "-pass", which, "-passlogfile", log, *(("-f", "null") if which == 1 else ()), out)  # fmt: skip
    assert probe(path).frames == 60 and decoding._index(path).stamps is not None
    assert numbers(read(probe(path), 20, 50)) == list(range(20, 50))
    import av

    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 60  # it has such frames


def test_recordings_that_were_joined(films: dict[str, Path], tmp_path: Path) -> None:
    """Their stamps begin anew, or their pictures have another size."""
    now, other = films["b.ts"], film(tmp_path / "other.ts", scene(15, 36, 50), *X264, "-g", "6")
    late, middle, short = tmp_path / "late.ts", tmp_path / "middle.ts", tmp_path / "short.ts"
    for path, *how in ((late, "-output_ts_offset", 100), (middle, "-output_ts_offset", 50),
                       (short, "-output_ts_offset", 20, "-frames:v", 9)):  # fmt: skip
        ffmpeg("-i", now, "-c", "copy", *how, path)
    for parts in ((late, now), (now, late), (now, late, middle), (now, late, short), (now, other)):
        (path := tmp_path / "joined.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
        info, every = probe(path), np.stack(list(stream(path, [])))
        assert len(every) == info.frames and every.shape[1:] == (*SIZE, 3)
        assert numbers(every[:40]) == list(range(40))
        if parts[-1] not in (short, other):
            assert numbers(every[-35:]) == list(range(5, 40))
        for first in range(0, len(every) - 5, 13):
            found = dict(frames(info, first, first + 5))
            assert list(found) == list(range(first, first + 5))
            assert np.array_equal(np.stack(list(found.values())), every[first : first + 5])


# --- seconds


def test_seconds_are_those_of_the_frames_on_screen(films: dict[str, Path]) -> None:
    for name in ("b.mp4", "delayed.mp4", "b.ts", "packed.avi", "h264.avi"):  # at 25 frames a second
        assert (found := probe(films[name], (0.4, 0.8))).first == 10 and found.frames == 10, name
        assert (found := probe(films[name], (0.41, 0.81))).first == 10 and found.frames == 11, name
        assert (found := probe(films[name], (0.0, 99.0))).first == 0 and found.frames == probe(films[name]).frames
        assert probe(films[name], (0.5, 0.501)).frames == 1
    told = numbers(read(probe(films["b.mp4"], (0.4, 0.8)), 0, 10))
    assert told == list(range(10, 20))


def test_seconds_of_a_variable_rate(films: dict[str, Path]) -> None:
    kept = [n for n in range(40) if n % 3 == 0 or n % 5 == 0]
    whole = probe(films["rates.mp4"])
    assert numbers(read(whole, 0, whole.frames)) == kept
    part = probe(films["rates.mp4"], (0.5, 1.0))  # 12.5 to 25 of the original: 12 is still on screen
    assert numbers(read(part, 0, part.frames)) == [n for n in kept if 12 <= n < 25]


@pytest.mark.parametrize("segment", [(1.0, 1.0), (1.5, 1.0), (7.0, 9.0), (-3.0, -1.0), (float("nan"), 1.0)])
def test_a_segment_without_frames_is_said(segment: tuple[float, float], films: dict[str, Path]) -> None:
    with pytest.raises(UnreadableError, match=r"the segment .* of 1.60 seconds holds no frame"):
        probe(films["b.mp4"], segment)


@settings(max_examples=20)
@given(st.floats(0, 1.5), st.floats(0.01, 2))
def test_a_segment_holds_what_is_on_screen(films: dict[str, Path], start: float, length: float) -> None:
    found = probe(films["rates.mp4"], (start, start + length))
    times = [n / 25 for n in range(40) if n % 3 == 0 or n % 5 == 0]
    shown = [
        k
        for k, (a, b) in enumerate(zip(times, [*times[1:], 99], strict=True))
        if a < start + length - 1e-6 and b > start + 1e-6
    ]
    assert (found.first, found.first + found.frames) == (shown[0], shown[-1] + 1)


# --- damage


def test_a_file_that_ends_early_gives_what_it_has(films: dict[str, Path], tmp_path: Path) -> None:
    for name in ("b.ts", "plain.avi", "packed.avi", "ffv1.mkv", "vp9.webm", "mpeg1.mpg"):
        content = films[name].read_bytes()
        path = tmp_path / name
        path.write_bytes(content[: len(content) * 2 // 3])
        info = probe(path)
        assert 5 < info.frames < 40
        found = numbers(read(info, 0, info.frames - 3))  # the last ones may be damaged
        assert found == numbers(read(probe(films[name]), 0, 40))[: len(found)]
        path.write_bytes(content[:30])
        with pytest.raises(UnreadableError, match=str(path)):
            probe(path)


def test_a_short_mp4_is_said_to_be(films: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg("-i", films["b.mp4"], "-c", "copy", "-movflags", "+faststart", whole := tmp_path / "whole.mp4")
    (path := tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    notes: list[str] = []
    found = list(stream(path, notes))
    assert 5 < len(found) < 40 and any("the file ends after" in note and "of 40 frames" in note for note in notes)
    notes = []
    assert len(list(stream(whole, notes))) == 40 and not notes


def damaged(path: Path, number: int) -> Path:
    """A copy of a file with a hole in the packet of this number."""
    import av

    with av.open(str(path)) as container:
        at, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][number]
    content = bytearray(path.read_bytes())
    content[at + size // 4 : at + size // 2] = bytes(size // 2 - size // 4)
    (copy := path.with_name(f"hole-{path.name}")).write_bytes(content)
    return copy


def test_damaged_frames_are_left_out_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mkv", scene(), "-c:v", "png", "-pix_fmt", "rgb24")
    info, notes = probe(damaged(whole, 12)), list[str]()
    assert info.frames == 40
    found = dict(frames(info, 5, 30, notes=notes))
    assert list(found) == [5, 6, 7, 8, 9, 10, 11, *range(13, 30)]
    assert np.array_equal(np.stack(list(found.values())), np.delete(scene()[5:30], 7, axis=0))
    assert len(notes) == 1
    assert len(list(stream(info.path, notes))) == 39
    assert not dict(frames(info, 12, 13))


@pytest.mark.parametrize("name", ["b.mp4", "plain.avi"])
def test_what_a_decoder_repairs_is_noted(name: str, films: dict[str, Path]) -> None:
    path, notes = damaged(films[name], 12), list[str]()
    assert len(list(stream(path, notes))) == 40
    assert "the picture at 0.48 seconds is damaged" in notes
    notes = []
    assert dict(frames(probe(path), 26, 40, notes=notes)) and not notes  # beyond the next keyframe all is well


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(5000), b"RIFF" + bytes(2000)])
def test_what_is_no_video_is_said(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "a.avi").write_bytes(content)
    for act in (probe, lambda p: list(stream(p, []))):
        with pytest.raises(UnreadableError, match=str(path)):
            act(path)


def test_a_file_without_a_picture_is_said(films: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path := tmp_path / "a.m4a")
    with pytest.raises(UnreadableError, match="has no video"):
        probe(path)
    with pytest.raises(UnreadableError, match=r"gone.mp4.* No such file"):
        probe(tmp_path / "gone.mp4")
    shutil.copy(films["b.mp4"], path := tmp_path / "b.mp4")
    info = probe(path)
    path.unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        read(info, 0, 5)


def test_a_file_that_changed_is_looked_at_again(films: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(films["b.mp4"], path := tmp_path / "a.mkv")
    assert probe(path).frames == 40
    film(path, scene(7))
    assert probe(path).frames == 7


def test_what_is_kept_is_bounded(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "KEPT_BYTES", 5_000)
    monkeypatch.setattr(decoding, "_INDEXES", type(decoding._INDEXES)())
    for name in EVERY[::2] * 2:
        probe(films[name])
        kept = decoding._INDEXES.values()
        assert kept and sum(16 * len(index.times) + 100 * len(index.keys) for index in kept) <= 5_000


def test_without_pyav_it_says_what_to_install(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    decoding._av.cache_clear()
    monkeypatch.setattr(decoding, "_INDEXES", type(decoding._INDEXES)())
    with pytest.raises(MissingError, match=r"pip install 'vpngen\[train\]'"):
        probe(films["b.mp4"])
    decoding._av.cache_clear()


# --- folders


def test_a_folder_of_jpegs_is_a_video(tmp_path: Path) -> None:
    folder = jpegs(tmp_path / "v", scene(12))
    info = probe(folder)
    assert (info.first, info.frames, info.height, info.width) == (1, 12, *SIZE)
    assert numbers(read(info, 0, 12)) == list(range(12))
    part = probe(folder, images=(4, 9))
    assert (part.first, part.frames) == (4, 5) and numbers(read(part, 1, 5, 2)) == [4, 6]
    with Image.open(folder / "image_00005.jpg") as image:
        assert np.array_equal(read(part, 1, 2)[0], np.asarray(image.convert("RGB")))
    assert [numbers(frame[None])[0] for frame in stream(folder, [])] == list(range(12))


def test_images_that_are_missing_or_unreadable_are_left_out(tmp_path: Path) -> None:
    folder = jpegs(tmp_path / "v", scene(8))
    (folder / "image_00001.jpg").unlink()
    (folder / "image_00004.jpg").write_bytes(b"no")
    Image.new("L", (30, 20), 200).save(folder / "image_00006.jpg")
    info, notes = probe(folder, images=(1, 9)), list[str]()
    found = dict(frames(info, 0, 8, notes=notes))
    assert list(found) == [1, 2, 4, 5, 6, 7] and {f.shape for f in found.values()} == {(*SIZE, 3)}
    assert len(notes) == 2 and "image_00004.jpg" in notes[1]
    with pytest.raises(UnreadableError, match="none of the images 20 to 29 can be read"):
        probe(folder, images=(20, 30))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="holds no images"):
        probe(tmp_path / "empty")
    with pytest.raises(UnreadableError, match="holds no images"):
        probe(folder, images=(1, 1))


@pytest.mark.parametrize(
    "names",
    [
        "image_000001.jpg",
        "img_00001.jpg",
        "000001.jpg",
        "7.png",
        "frame-0001.PNG",
        "image_00001.JPG",
        "x2_1.jpeg",
        "img_00099.jpg",
    ],
)
def test_images_by_any_unambiguous_name(names: str, tmp_path: Path) -> None:
    begin, digits, suffix = re.fullmatch(r"(.*?)(\d+)(\.\w+)", names).groups()  # type: ignore[union-attr]
    pictures = scene(4)
    for k, picture in enumerate(pictures, int(digits)):
        path = tmp_path / f"{begin}{k:0{len(digits)}}{suffix}"
        Image.fromarray(picture).save(path, quality=95)
    (tmp_path / f"._{names}").write_bytes(b"of another system")
    (tmp_path / "flow.txt").write_bytes(b"")
    if begin == "img_":
        Image.fromarray(pictures[0]).save(tmp_path / "flow_x_00001.jpg")
    info, parts = probe(tmp_path), probe(tmp_path, images=(int(digits) + 1, int(digits) + 3))
    assert (info.first, info.frames, parts.frames) == (int(digits), 4, 2)
    assert numbers(read(info, 0, 4)) == [0, 1, 2, 3] and numbers(read(parts, 0, 2)) == [1, 2]
    assert len(list(stream(tmp_path, []))) == 4


@pytest.mark.parametrize("names", ["a1.jpg b1.jpg", "1.jpg 2.png", "1.jpg 01.jpg", "x.jpg cover.png"])
def test_images_of_several_names_are_said(names: str, tmp_path: Path) -> None:
    for name in names.split():
        Image.fromarray(scene(1)[0]).save(tmp_path / name)
    with pytest.raises(UnreadableError, match=f"images .*{names.split()[-1]}"):
        probe(tmp_path)

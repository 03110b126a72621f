"""The moving pictures of benchmarks/motions.py: each moves as its name says, no frame tells which, and no split shares a picture."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("sklearn")
motions = pytest.importorskip("benchmarks.motions")

MOTIONS, SPLITS = motions.MOTIONS, motions.SPLITS
LINEAR = [k for k, name in enumerate(MOTIONS) if name.startswith(("Zoom", "Shear"))]
"""Those that change a picture for good: its scale, or its slant."""


def grey(clip: Any) -> Any:
    return clip.astype(float).mean(-1)


# --- what a clip is a function of


def test_there_are_sixteen_motions_and_labels_take_turns() -> None:
    assert len(MOTIONS) == len(set(MOTIONS)) == 16
    _, labels = motions.clips(3, "val", range(48), frames=1, size=8)
    assert (np.bincount(labels) == 3).all() and MOTIONS[labels[15]] == "Static"


def test_a_clip_is_a_function_of_its_arguments() -> None:
    many, labels = motions.clips(3, "test", [40, 7], frames=4, size=16)
    assert many.shape == (2, 4, 16, 16, 3) and many.dtype == np.uint8 and labels.tolist() == [8, 7]
    for made, number in zip(many, (40, 7), strict=True):
        assert np.array_equal(made, motions.clip(3, "test", number, frames=4, size=16))


def test_seeds_splits_and_numbers_all_matter() -> None:
    base = (3, "train", 0)
    others = [
        (4, "train", 0),
        (3, "val", 0),
        (3, "test", 0),
        (3, "train", 16),
        (3, "train", 2**40),
        (2**63, "train", 0),
    ]
    made = [motions.clip(*which, frames=2, size=16).tobytes() for which in (base, *others)]
    assert len(set(made)) == len(made)
    assert len({motions._draws(3, split, number)[0] for split in SPLITS for number in range(9)}) == 27


def test_a_longer_clip_begins_as_the_shorter() -> None:
    for number in range(16):
        long, short = (grey(motions.clip(1, "train", number, frames=n, size=24)) for n in (12, 5))
        assert abs(long[:5] - short).max() <= 1


def test_splits_share_no_picture_and_clips_show_those_of_their_split() -> None:
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(SPLITS[one]) & set(SPLITS[other])
    for split, names in SPLITS.items():
        shown = Counter(motions.picture(0, split, number) for number in range(800))
        assert set(shown) == set(names) and min(shown.values()) > 0.6 * 800 / len(names)


def test_pictures_come_out_of_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    motions._find.cache_clear()
    monkeypatch.setattr(motions.importlib.metadata, "files", lambda package: [])
    with pytest.raises(SystemExit, match="does not bring"):
        motions._find("camera.png")


def test_an_unknown_motion_is_named() -> None:
    with pytest.raises(ValueError, match="`motion` \\(='Jump'\\) must be one of Right"):
        motions.clip(0, "train", 0, motion="Jump")


# --- it moves as its name says

MANY = range(24)


def shift(before: Any, after: Any) -> Any:
    """Where a picture went, (x, y) in pixels: the peak of the phase correlation."""
    window = np.hanning(before.shape[0])[:, None] * np.hanning(before.shape[1])
    one, two = (np.fft.fft2((frame - frame.mean()) * window) for frame in (before, after))
    cross = two * one.conj()
    surface = np.fft.ifft2(cross / (abs(cross) + 50 * np.median(abs(cross)) + 1e-9)).real
    peak = np.array(np.unravel_index(int(surface.argmax()), surface.shape))
    sides = np.array(surface.shape)
    return ((peak + sides // 2) % sides - sides // 2)[::-1]


@pytest.mark.parametrize("motion", [m for m in MOTIONS if re.fullmatch("(Up|Down)?(Right|Left)?", m)])
def test_directions_go_where_they_say(motion: str) -> None:
    """By phase correlation of frames that are a few apart."""
    way = complex(("Right" in motion) - ("Left" in motion), ("Down" in motion) - ("Up" in motion))
    right = 0
    for number in MANY:
        frames = grey(motions.clip(2, "train", number, frames=9, size=72, motion=motion))
        went = sum(shift(frames[t], frames[t + 4]) for t in (0, 2, 4)) / 3 / 4 / 72
        angle = np.angle(complex(*went) / way)
        right += abs(angle) < np.pi / 8 and 0.5 * motions.SPEED[0] < np.hypot(*went) < 1.5 * motions.SPEED[1]
    assert right >= 0.8 * len(MANY)


def linear(frames: Any) -> dict[str, float]:
    """Rotation to the right, growth and shear to the right, by frame: least squares on the brightness constancy of all frames."""
    from scipy.ndimage import gaussian_filter

    frames = gaussian_filter(frames, (0, 2, 2))
    y, x = np.mgrid[-1 : 1 : frames.shape[1] * 1j, -1 : 1 : frames.shape[2] * 1j] / 2
    middle = (frames[1:] + frames[:-1]) / 2
    by_y, by_x = np.gradient(middle, axis=(1, 2))
    columns = [by_x, by_y, by_x * x, by_x * y, by_y * x, by_y * y]
    rows = np.stack([(c * frames.shape[1])[:, 3:-3, 3:-3].ravel() for c in columns], axis=1)
    _, _, xx, xy, yx, yy = np.linalg.lstsq(rows, -np.diff(frames, axis=0)[:, 3:-3, 3:-3].ravel(), rcond=None)[0]
    return {"Rotate": (yx - xy) / 2, "Zoom": (xx + yy) / 2, "Shear": -xy, "up and down": yx}


@pytest.mark.parametrize(
    ("motion", "way", "between"),
    [
        ("RotateRight", 1, motions.TURN), ("RotateLeft", -1, motions.TURN), ("ZoomIn", 1, motions.ZOOM),
        ("ZoomOut", -1, motions.ZOOM), ("ShearRight", 1, motions.SHEAR), ("ShearLeft", -1, motions.SHEAR),
    ],
)  # fmt: skip
def test_turns_zooms_and_shears_do_what_they_say(motion: str, way: int, between: tuple[float, float]) -> None:
    """By a linear field of motion that is fitted to the frames, which knows nothing of how they were made."""
    right = []
    for number in MANY:
        found = linear(grey(motions.clip(2, "train", number, frames=5, size=64, motion=motion)))
        kind = re.sub("Right|Left|In|Out", "", motion)
        rate = way * found[kind]
        others = {"Rotate": ("Zoom",), "Zoom": ("Rotate",), "Shear": ("Zoom", "up and down")}[kind]
        right.append(0.6 * between[0] < rate < 1.4 * between[1] and all(abs(found[o]) < 0.6 * rate for o in others))
    assert np.mean(right) >= 0.75


def test_what_rests_rests_and_what_flickers_goes_up_and_down_in_place() -> None:
    for number in MANY:
        rest, flicker = (
            grey(motions.clip(2, "train", number, frames=12, size=32, motion=m)) for m in ("Static", "Flicker")
        )
        assert abs(np.diff(rest, axis=0)).max() < 8 and abs(np.diff(rest, axis=0)).max() > 0  # noise of a few levels
        level = flicker.mean((1, 2))
        ups = np.diff(level) > 0
        assert level.max() > 1.5 * level.min() and ups.any() and not ups.all()
        normal = flicker / level[:, None, None] * level.mean()
        assert abs(normal - normal.mean(0)).mean() < 3


# --- no frame tells


def test_the_first_frame_is_the_same_whatever_the_motion() -> None:
    for number in (0, 17):
        firsts = {motions.clip(9, "train", number, frames=2, size=24, motion=m)[0].tobytes() for m in MOTIONS}
        seconds = {motions.clip(9, "train", number, frames=2, size=24, motion=m)[1].tobytes() for m in MOTIONS}
        assert len(firsts) == 1 and len(seconds) == 16


def features(frames: Any) -> Any:
    """Of frames (N, Y, X, 3): the pixels, and what blur, slant and brightness would show in."""
    g = grey(frames)
    edges = [np.log1p(abs(np.diff(g, n, axis=axis)).mean((1, 2))) for axis in (1, 2) for n in (1, 2)]
    diagonal = [
        np.log1p(abs(part).mean((1, 2))) for part in (g[:, 1:, 1:] - g[:, :-1, :-1], g[:, :-1, 1:] - g[:, 1:, :-1])
    ]
    more = np.stack([g.mean((1, 2)), g.std((1, 2)), *edges, *diagonal], axis=1)
    return g[:, ::4, ::4].reshape(len(g), -1), more


def share_right(train: Any, labels: Any, test: Any, truth: Any) -> float:
    """How often the better one of the nearest class mean and ridge regression is right."""
    centre, scale = train.mean(0), train.std(0) + 1e-6
    train, test = (train - centre) / scale, (test - centre) / scale
    kinds = np.unique(labels)
    means = np.stack([train[labels == k].mean(0) for k in kinds])
    nearest = kinds[((test[:, None] - means) ** 2).sum(-1).argmin(1)]
    ones = np.equal.outer(labels, kinds) - 1 / len(kinds)
    weights = np.linalg.solve(train.T @ train + 0.1 * len(train) * np.eye(train.shape[1]), train.T @ ones)
    return float(max((nearest == truth).mean(), (kinds[(test @ weights).argmax(1)] == truth).mean()))


def test_one_frame_does_not_tell_the_motion() -> None:
    """Chance is 1 in 16, and 0.09 is 3.2 standard deviations above it; late frames of zooms and shears tell a little."""
    (train, labels), (test, truth) = (
        motions.clips(5, split, range(n), frames=12, size=32) for split, n in (("train", 960), ("test", 800))
    )
    for at in (0, 6, 11):
        (pixels, more), (test_pixels, test_more) = features(train[:, at]), features(test[:, at])
        assert share_right(pixels, labels, test_pixels, truth) < 0.09
        straight, truly_straight = ~np.isin(labels, LINEAR), ~np.isin(truth, LINEAR)
        score = share_right(more[straight], labels[straight], test_more[truly_straight], truth[truly_straight])
        assert score < 0.12, at  # twelve motions, and 600 clips: chance is 0.083
        assert share_right(more, labels, test_more, truth) < (0.13 if at else 0.09), at
    # The same classifiers see what there is to see: frames that say it by their brightness, and the change between two.
    told = train[:, 0] // 2 + (7 * labels)[:, None, None, None].astype(np.uint8)
    tell = test[:, 0] // 2 + (7 * truth)[:, None, None, None].astype(np.uint8)
    assert share_right(features(told)[0], labels, features(tell)[0], truth) > 0.13
    pairs = [
        np.concatenate([features(c[:, t])[1] - features(c[:, 0])[1] for t in (4, 8, 11)], 1) for c in (train, test)
    ]
    assert share_right(pairs[0], labels, pairs[1], truth) > 0.15


# --- as files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ucf")
    kept = ("Static", "ZoomIn", "Left")
    count = motions.write_ucf101(
        folder / "videos", folder / "lists", clips_per_class=9, test_clips_per_class=2, frames=11, size=48, classes=kept
    )
    assert count == 33
    return folder


def test_files_are_laid_out_as_ucf101(written: Path) -> None:
    assert (written / "lists" / "classInd.txt").read_text() == "1 Left\n2 Static\n3 ZoomIn\n"
    train = [line.split() for line in (written / "lists" / "trainlist01.txt").read_text().splitlines()]
    test = (written / "lists" / "testlist01.txt").read_text().splitlines()
    listed = [name for name, _ in train] + test
    assert len(train) == 27 and len(test) == 6 and len(set(listed)) == 33
    assert {path.relative_to(written / "videos").as_posix() for path in written.rglob("*.avi")} == set(listed)
    groups: dict[str, set[str]] = {"train": set(), "test": set()}
    for kind, names in (("train", [name for name, _ in train]), ("test", test)):
        for name in names:
            found = re.fullmatch(r"(\w+)/v_\1_g(\d\d)_c(\d\d)\.avi", name)
            assert found is not None
            groups[kind].add(found[2])
    assert not groups["train"] & groups["test"] and len(groups["train"]) == len(SPLITS["train"])
    assert {name.split("/")[0]: number for name, number in train} == {"Left": "1", "Static": "2", "ZoomIn": "3"}


def frames_of(file: Any) -> Any:
    """(T, Y, X, 3). PyAV 19 keeps what converts for as long as the thread lives: with threads of its own, a fork hangs."""
    return np.stack([frame.to_ndarray(format="rgb24", threads=1) for frame in file.decode(video=0)])


def test_files_decode_to_the_clips(written: Path) -> None:
    av = pytest.importorskip("av")
    for path in sorted(written.rglob("*.avi")):
        with av.open(str(path)) as file:
            decoded = frames_of(file)
            assert float(file.streams.video[0].average_rate) == motions.RATE
        assert decoded.shape == (11, 48, 48, 3)
        if path.parent.name == "Left":
            continue
        moved = abs(np.diff(grey(decoded), axis=0)).mean()
        assert (moved < 2) if path.parent.name == "Static" else (moved > 0.5)
    number, split = MOTIONS.index("Left"), "train"
    which = 1 + motions.PICTURES.index(motions.picture(0, split, number))
    with av.open(str(written / "videos" / "Left" / f"v_Left_g{which:02d}_c01.avi")) as file:
        decoded = frames_of(file)
    made = motions.clip(0, split, number, frames=11, size=48)
    assert abs(decoded.astype(float) - made).mean() < 6


def test_files_are_h264_where_that_is_asked_for(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    motions.write_video(tmp_path / "a.mp4", motions.clip(0, "train", 4, frames=20, size=32))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "h264" and sum(1 for _ in file.decode(video=0)) == 20

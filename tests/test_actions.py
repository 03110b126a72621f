"""benchmarks/actions.py: splits share no view, captures move on evenly, and a clip is a function of its arguments."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skimage")
actions = pytest.importorskip("benchmarks.actions")

ACTIONS, SPLITS = actions.ACTIONS, actions.SPLITS


def test_there_are_fifteen_actions_and_labels_take_turns() -> None:
    assert len(set(ACTIONS)) == 15
    assert Counter(map(actions.label, range(45))) == dict.fromkeys(range(15), 3)


def test_splits_share_no_view() -> None:
    """Those of two splits are 3 degrees apart or more; each has some near the side and some near the front."""
    views = {split: np.array([actions.view(7, split, number) for number in range(300)]) for split in SPLITS}
    for one, other in itertools.combinations(views.values(), 2):
        assert abs(one[:, None] - other[None]).min() >= 2.9
    for split, found in views.items():
        for low, high in actions.VIEWS[split]:
            inside = found[(found >= low) & (found <= high)]
            assert (
                len(inside) > 60
                and inside.min() < low + 0.1 * (high - low)
                and inside.max() > high - 0.1 * (high - low)
            )
        assert sum(((found >= low) & (found <= high)).sum() for low, high in actions.VIEWS[split]) == len(found)


def test_views_and_pictures_have_nothing_to_do_with_the_action() -> None:
    """Numbers of one label draw as those of another do."""
    drawn = [
        np.mean([actions._draws(1, "train", 15 * k + label)[0] for k in range(200)], axis=0) for label in range(15)
    ]
    assert abs(np.array(drawn) - 0.5).max() < 0.11  # 5 standard deviations


def test_a_capture_goes_on_evenly() -> None:
    places = np.array([[0.0, 1, 0], [1, 1, 0], [2, 1, 0]])
    capture = actions.Capture(2.0, places, np.array([[0.0], [1], [0]]), cyclic=True)
    at, turned = capture.at(np.array([0.0, 0.25, 0.5, 1.25, 2.5]))
    assert at[:, 0].tolist() == [0, 0.5, 1, 2.5, 5] and turned[:, 0].tolist() == [0, 0.5, 1, 0.5, 1]
    rests = capture._replace(cyclic=False).at(np.array([0.75, 1.0, 9.0]))
    assert rests[0][:, 0].tolist() == [1.5, 2, 2] and rests[1][:, 0].tolist() == [0.5, 0, 0]


def test_clips_come_from_the_file_once_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def clips(seed: int, split: str, numbers: Any, *, frames: int, size: int) -> tuple[Any, Any]:
        made.append((seed, split))
        return np.full((len(numbers), frames, size, size, 3), seed, np.uint8), np.arange(len(numbers))

    monkeypatch.setattr(actions, "clips", clips)
    monkeypatch.setattr(actions.importlib.metadata, "version", lambda name: "1")
    first = actions.cached(tmp_path, 3, "val", 2, frames=2, size=4)
    again = actions.cached(tmp_path, 3, "val", 2, frames=2, size=4)
    assert np.array_equal(first[0], again[0]) and first[2] == again[2] and made == [(3, "val")]
    assert actions.cached(tmp_path, 4, "val", 2, frames=2, size=4)[2] != first[2]
    monkeypatch.setattr(actions.importlib.metadata, "version", lambda name: "2")
    actions.cached(tmp_path, 3, "val", 2, frames=2, size=4)
    assert made == [(3, "val"), (4, "val"), (3, "val")]  # of another renderer they are made again


# --- with the renderer


def test_a_clip_is_a_function_of_its_arguments() -> None:
    pytest.importorskip("pybullet")
    many, labels = actions.clips(3, "test", [40, 7], frames=4, size=16)
    assert many.shape == (2, 4, 16, 16, 3) and many.dtype == np.uint8 and labels.tolist() == [10, 7]
    assert np.array_equal(many[1], actions.clip(3, "test", 7, frames=4, size=16))
    assert np.array_equal(many[1, :3], actions.clip(3, "test", 7, frames=3, size=16))
    others = [actions.clip(*which, frames=2, size=16) for which in ((4, "test", 7), (3, "val", 7), (3, "test", 22))]
    assert len({clip.tobytes() for clip in (many[1, :2], *others)}) == 4


def test_it_is_the_person_who_moves() -> None:
    """Of two actions all that lies behind is the same; who gets up from the floor fills other rows than who jumps."""
    pytest.importorskip("pybullet")
    one, other = (actions.clip(0, "train", 4, frames=3, size=32, action=name).astype(int) for name in ("Jump", "Crawl"))
    changed = abs(one - other).max(-1) > 12
    assert 0.02 < changed.mean() < 0.6
    border = np.concatenate([changed[:, :, 0].ravel(), changed[:, :, -1].ravel()])
    assert border.mean() < 0.05
    with pytest.raises(ValueError, match="`action` \\(='Fly'\\) must be one of Walk"):
        actions.clip(0, "train", 0, action="Fly")

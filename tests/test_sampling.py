"""Order and windows of a stream: bijections, fair draws, shares that are disjoint and complete, and the same for ever."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chi2
from strategies import thorough

from vpngen import ArgumentError, rng
from vpngen.sampling import AUGMENTATIONS, Augment, Deal, Sampling, augmentation

SEEDS = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))


def fair(counts: Any) -> bool:
    """Whether counts of outcomes that should be equally likely pass a chi-square test at one in a million."""
    counts = np.asarray(counts, float)
    expected = counts.sum() / counts.size
    return bool(((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, counts.size - 1))


def sampling(**changes: Any) -> Sampling:
    given_: dict[str, Any] = {
        "videos": 100, "shape": (240, 240, 240), "clip": (16, 112, 112), "augment": Augment(), "length": 100,
        "shuffle": True, "seed": 0,
    }  # fmt: skip
    return Sampling(**{**given_, **changes})


# --- order


@thorough
@given(st.integers(1, 3000), SEEDS, st.integers(0, 2**64 - 1))
def test_an_order_is_a_bijection(n: int, seed: int, number: int) -> None:
    assert np.array_equal(np.sort(rng.permute(np.arange(n), n, seed, number)), np.arange(n))


@given(st.integers(1, 2**48), SEEDS, st.data())
def test_an_order_of_any_size_is_computed_per_position(n: int, seed: int, data: st.DataObject) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20, unique=True)))
    there = rng.permute(positions, n, seed, 3)
    assert ((there >= 0) & (there < n)).all() and len(set(there.tolist())) == len(positions)
    assert [int(rng.permute(p, n, seed, 3)) for p in positions] == there.tolist()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_orders_of_a_few_are_equally_likely(n: int) -> None:
    trials = 200 * math.factorial(n)
    orders = rng.permute(np.tile(np.arange(n), (trials, 1)), n, 1, np.arange(trials)[:, None])
    found = Counter(map(tuple, orders.tolist()))
    assert fair([found[p] for p in itertools.permutations(range(n))])


@pytest.mark.parametrize("n", [7, 20, 64, 65])
def test_any_two_positions_go_to_any_two_places(n: int) -> None:
    trials = 20 * n * (n - 1)
    places = rng.permute(np.tile([0, n - 1], (trials, 1)), n, 2, np.arange(trials)[:, None])
    table = np.zeros((n, n), int)
    np.add.at(table, (places[:, 0], places[:, 1]), 1)
    assert fair(table[~np.eye(n, dtype=bool)])


def test_neighbours_of_a_large_order_are_strangers() -> None:
    order = rng.permute(np.arange(131072), 131072, 0, 0)
    steps = np.diff(order) % 131072
    assert fair(np.histogram(steps, bins=64, range=(0, 131072))[0])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02


@given(SEEDS, SEEDS, st.integers(0, 99), st.integers(0, 99))
def test_orders_of_other_seeds_and_passes_differ(seed: int, other: int, number: int, another: int) -> None:
    assume((seed, number) != (other, another))
    assert not np.array_equal(
        rng.permute(np.arange(50), 50, seed, number), rng.permute(np.arange(50), 50, other, another)
    )


@given(st.integers(1, 300), st.integers(1, 700), SEEDS)
def test_every_video_is_seen_once_before_any_comes_again(videos: int, length: int, seed: int) -> None:
    """Over the boundaries of epochs too, whatever their length."""
    s = sampling(videos=videos, length=length, seed=seed)
    seen = np.concatenate([s.indices(s.numbers(e, np.arange(length))) for e in range(3)])
    for first in range(0, len(seen) // videos * videos, videos):
        assert np.array_equal(np.sort(seen[first : first + videos]), np.arange(videos))


@given(st.integers(1, 300), SEEDS, st.integers(0, 9))
def test_an_endless_epoch_begins_with_a_pass(videos: int, seed: int, epoch: int) -> None:
    s = sampling(videos=videos, length=None, seed=seed)
    assert np.array_equal(np.sort(s.indices(s.numbers(epoch, np.arange(videos)))), np.arange(videos))
    assert s.numbers(s.epochs - 1, [s._epoch_samples - 1])[0] < 2**63 - 1


def test_without_shuffle_the_order_is_that_of_the_set() -> None:
    s = sampling(videos=7, length=20, shuffle=False)
    assert s.indices(s.numbers(0, np.arange(20))).tolist() == [i % 7 for i in range(20)]


# --- windows

AUGMENTS = st.builds(
    Augment,
    time=st.sampled_from(("random", "center", "start")),
    crop=st.sampled_from(("corners", "random", "center")),
    flip=st.floats(0, 1),
    step=st.one_of(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)),
    scales=st.one_of(st.none(), st.lists(st.floats(0.01, 1), min_size=1, max_size=4).map(tuple)),
)


@given(AUGMENTS, st.data())
def test_windows_lie_within_the_video(augment: Augment, data: st.DataObject) -> None:
    clip = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30)))
    longest = (clip[0] - 1) * max(augment.steps) + 1
    shape = (
        longest + data.draw(st.integers(0, 5)),
        clip[1] + data.draw(st.integers(0, 30)),
        clip[2] + data.draw(st.integers(0, 30)),
    )
    s = sampling(shape=shape, clip=clip, augment=augment, seed=data.draw(SEEDS))
    windows, side = s.windows(np.arange(64))
    t0, step, y0, x0, flip = windows.T
    height, width = np.array(s.sides)[side].T
    assert (t0 >= 0).all() and (t0 + (clip[0] - 1) * step < shape[0]).all() and np.isin(step, augment.steps).all()
    assert (y0 >= 0).all() and (y0 + height <= shape[1]).all() and (height >= 1).all()
    assert (x0 >= 0).all() and (x0 + width <= shape[2]).all() and (width >= 1).all()
    assert np.isin(flip, (0, 1)).all()


@given(
    AUGMENTS.filter(lambda a: max(a.steps) * 15 < 240), st.lists(st.integers(0, 2**62), min_size=1, max_size=20), SEEDS
)
def test_a_window_depends_on_its_sample_alone(augment: Augment, numbers: list[int], seed: int) -> None:
    s = sampling(augment=augment, seed=seed)
    windows, side = s.windows(np.array(numbers))
    for i, number in enumerate(numbers):
        alone, alone_side = s.windows(np.array([number]))
        assert np.array_equal(alone[0], windows[i]) and alone_side[0] == side[i]


def test_x10_takes_each_of_the_ten_and_every_start_alike() -> None:
    windows, _ = sampling().windows(np.arange(90000))
    t0, step, y0, x0, flip = windows.T
    places = Counter(zip(y0.tolist(), x0.tolist(), flip.tolist(), strict=True))
    corners = [(0, 0), (0, 128), (128, 0), (128, 128), (64, 64)]
    assert set(places) == {(y, x, f) for y, x in corners for f in (0, 1)} and fair(list(places.values()))
    assert (step == 1).all()
    starts = np.bincount(t0)
    assert len(starts) == 225 and fair(starts)  # 0 to 224, the last start included
    where = sorted(corners).index
    both = Counter((t * 5 // 225, where((y, x))) for t, y, x in zip(t0.tolist(), y0.tolist(), x0.tolist(), strict=True))
    assert len(both) == 25 and fair(list(both.values()))  # time and place are independent


def test_random_crops_reach_every_place() -> None:
    windows, _ = sampling(shape=(20, 20, 18), clip=(16, 16, 16), augment=AUGMENTATIONS["random"]).windows(
        np.arange(30000)
    )
    places = Counter(map(tuple, windows[:, [0, 2, 3]].tolist()))
    assert set(places) == set(itertools.product(range(5), range(5), range(3))) and fair(list(places.values()))


def test_scales_are_those_of_the_recipe() -> None:
    """2^(-i/4) of the short side, which is 240."""
    s = sampling(augment=AUGMENTATIONS["multiscale"])
    assert s.sides == ((240, 240), (201, 201), (169, 169), (142, 142), (120, 120))
    assert fair(np.bincount(s.windows(np.arange(20000))[1]))
    assert sampling(clip=(16, 56, 112), augment=Augment(scales=(1, 0.5))).sides == ((120, 240), (60, 120))


@pytest.mark.parametrize("flip", [0.0, 0.25, 1.0])
def test_clips_are_mirrored_as_often_as_asked(flip: float) -> None:
    flips = sampling(augment=Augment(flip=flip)).windows(np.arange(20000))[0][:, 4]
    assert abs(flips.mean() - flip) < (0.02 if 0 < flip < 1 else 1e-9)


def test_steps_are_drawn_alike_and_none_is_the_middle() -> None:
    windows, _ = sampling(augment=Augment(step=(1, 2, 4))).windows(np.arange(30000))
    assert fair(np.bincount(windows[:, 1])[[1, 2, 4]])
    windows, _ = sampling(augment=augmentation(None)).windows(np.arange(9))
    assert (windows == [112, 1, 64, 64, 0]).all()


def test_orders_and_windows_of_all_releases_are_the_same() -> None:
    """A state that was saved must go on with the same samples years later."""
    s = sampling(videos=131072, length=None, augment=Augment(step=(1, 2), scales=(1.0, 0.5)), seed=2**63 + 5)
    numbers = s.numbers(2, np.arange(1000))
    windows, side = s.windows(numbers)
    text = np.concatenate([s.indices(numbers)[:, None], windows, side[:, None]], axis=1).astype("<i8").tobytes()
    few = rng.permute(np.arange(40), 40, 7, 1).astype("<i8").tobytes()
    assert hashlib.sha256(text + few).hexdigest() == GOLDEN


GOLDEN = "d186a7acb6ca9a8204e0278004817a4b2eb1b120d1b16bac30a44e2c2f46f3e1"


# --- shares


@st.composite
def deals(draw: st.DrawFn) -> Deal:
    batch, ranks = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    start = draw(st.integers(0, 50))
    stop = start + draw(st.integers(0, 300))
    try:
        return Deal(start, stop, batch, ranks, draw(st.booleans()))
    except ArgumentError:
        assume(False)
        raise


@thorough
@given(deals())
def test_shares_are_disjoint_complete_and_equal_in_number(deal: Deal) -> None:
    assert deal.stop is not None and deal.steps is not None
    seen = []
    for step in range(deal.steps):
        shares = [deal.batch_of(step, rank) for rank in range(deal.ranks)]
        sizes = [b - a for a, b in shares]
        assert 1 <= min(sizes) and max(sizes) <= deal.batch and max(sizes) - min(sizes) <= 1
        assert step >= deal.steps - 2 or set(sizes) == {deal.batch}
        assert (shares[0][0], shares[-1][1]) == (deal.bound(step), deal.bound(step + 1))
        seen += [i for a, b in shares for i in range(a, b)]
    left_out = deal.stop - deal.start - len(seen)
    assert seen == list(range(deal.start, deal.start + len(seen)))
    assert 0 <= left_out < deal.batch * deal.ranks if deal.drop_last else left_out == 0


@given(deals(), st.integers(0, 100))
def test_a_deal_that_is_taken_up_again_goes_on_as_before(deal: Deal, step: int) -> None:
    assert deal.steps is not None
    step = min(step, deal.steps)
    again = Deal(deal.bound(step), deal.stop, deal.batch, deal.ranks, deal.drop_last)
    assert again.steps == deal.steps - step
    for k in range(again.steps):
        assert [again.batch_of(k, r) for r in range(deal.ranks)] == [
            deal.batch_of(step + k, r) for r in range(deal.ranks)
        ]


def test_a_rest_that_cannot_be_shared_is_said() -> None:
    with pytest.raises(ArgumentError, match="drop_last=True"):
        Deal(0, 9, 1, 8, False)
    with pytest.raises(ArgumentError, match="the last 3 samples"):
        Deal(97, 100, 4, 8, False)
    assert Deal(0, 9, 1, 8, True).steps == 1


# --- bad input


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("x11", "must be one of x10, multiscale, random, jitter, none"),
        (3, "must be one of"),
        ({"crops": "corners"}, "`crops` is no field of an augmentation; it has crop, flip"),
        ({"crop": "middle"}, "must be one of corners"),
        ({"time": "late"}, "must be one of random"),
        ({"flip": 1.5}, "`flip` .* must be a number from 0 to 1"),
        ({"flip": float("nan")}, "`flip` .* must be a number from 0 to 1"),
        ({"flip": True}, "`flip` .* must be a number from 0 to 1"),
        ({"step": 0}, "`step` .=0. must be an integer from 1"),
        ({"step": ()}, "positive integer"),
        ({"step": [1, 1.5]}, "`step` .* must be a list of integers from 1"),
        ({"scales": (1.5,)}, "above 0 and up to 1"),
        ({"scales": ()}, "above 0 and up to 1"),
        ({"scales": (float("nan"),)}, "`scales` .* must be a list of finite numbers"),
    ],
)
def test_bad_augmentations_are_named(value: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        augmentation(value)


@pytest.mark.parametrize(
    ("clip", "step"), [((241, 1, 1), 1), ((16, 241, 1), 1), ((16, 1, 241), 1), ((16, 1, 1), 16), ((16, 1, 1), (1, 16))]
)
def test_a_clip_larger_than_the_video_is_named(clip: Any, step: Any) -> None:
    with pytest.raises(ArgumentError, match="is larger than the videos, which are"):
        sampling(clip=clip, augment=Augment(step=step))
    assert sampling(clip=(16, 240, 240), augment=Augment(step=15)).windows(np.arange(50))[0][:, 0].max() == 14


def test_a_clip_wider_than_the_video_is_cut_from_what_there_is_and_enlarged() -> None:
    wide = sampling(clip=(16, 256, 256), augment=Augment(scales=(1.0, 0.875)))
    assert wide.sides == ((240, 240), (210, 210))
    windows, side = wide.windows(np.arange(200))
    assert (windows[side == 0, 2:4] == 0).all()
    assert set(map(tuple, windows[side == 1, 2:4])) == {(0, 0), (0, 30), (30, 0), (30, 30), (15, 15)}
    with pytest.raises(ArgumentError, match="larger than the videos"):
        sampling(clip=(241, 256, 256), augment=Augment(scales=(1.0,)))

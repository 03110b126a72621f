"""The Video Fractal formula: a second implementation in plain Python, its laws, its edges, and what videos look like."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import SPECS, brief
from test_perlin import nearest_float32

import vpngen
from vpngen import ArgumentError, Spec, Window, backends, rng
from vpngen.backends import numba_fractal
from vpngen.generators import Fractal, Params, fractal
from vpngen.generators.fractal import BOUND, CHUNK, VARIANTS, WARM_UP, drawn, orbit, thresholds

Pixels = npt.NDArray[np.uint8]
Map = Sequence[float]

UNLIKELY = 1e-5
"""As in test_perlin: the draws are fixed numbers, so a test of randomness passes always or never."""
NUMBA, REFERENCE = backends.load("numba"), backends.load("reference")

TRIANGLE: list[Map] = [(0.5, 0, 0, 0.5, 0, 0, 0.25), (0.5, 0, 0, 0.5, 0.5, 0, 0.25), (0.5, 0, 0, 0.5, 0.25, 0.5, 0.5)]
LEAF: list[Map] = [(0.8, 0.1, -0.1, 0.8, 0.1, 0.2, 0.8), (-0.3, 0.3, 0.2, 0.4, -0.4, 0.1, 0.2)]
LEAVES: list[Map] = [(1.5, 0.4, -0.4, 1.5, 0.3, -0.2, 0.7), (0.5, 0, 0, 0.5, -0.25, 0.5, 0.3)]
"""Its points pass the bound every twenty steps or so."""


def of_table(*systems: Sequence[Map], **fields: Any) -> Fractal:
    """A generator of the systems that are given as maps a, b, c, d, e, f, probability."""
    numbers = np.array([number for system in systems for row in system for number in row], "<f4")
    given = {"variants": (1,) * len(systems), "sizes": tuple(len(s) for s in systems), "pad": 2, "points_per_frame": 50}
    return Fractal(table=base64.b64encode(numbers.tobytes()).decode(), **{**given, **fields})


def spec_of(*systems: Sequence[Map], shape: tuple[int, int, int] = (6, 40, 56), **fields: Any) -> Spec:
    return Spec(of_table(*systems, **fields), 12, 4, shape)


def both(rows: Params, shape: tuple[int, int, int], windows: Any = ((0, 1, 0, 0, 0),)) -> Pixels:
    """Windows of rows (N,), by the reference; numba gives the same."""
    found, expected = (np.full((len(rows), *shape), 99, np.uint8) for _ in range(2))
    packed = np.ascontiguousarray(np.broadcast_to(np.array(windows, np.int32), (len(rows), 5)))
    NUMBA.render("fractal", rows, packed, found, 1)
    REFERENCE.render("fractal", rows, packed, expected, 1)
    np.testing.assert_array_equal(found, expected)
    return found


def changed(rows: Params, **fields: Any) -> Params:
    rows = rows.copy()
    for name, value in fields.items():
        rows[name] = value
    return rows


# --- the formula once more, point by point, in exact arithmetic


def fma(a: float, b: float, c: float) -> float:
    return nearest_float32(Fraction(a) * Fraction(b) + Fraction(c))


def words(key: Sequence[int], purpose: int, chunk: int, block: int) -> list[int]:
    counter = np.array([block, chunk, 0, rng.purpose_word(purpose, 0)], np.uint64)
    found: list[int] = rng.philox4x32(counter, key).tolist()
    return found


def plain_orbit(key: Sequence[int], maps: Sequence[Sequence[float]], limits: Sequence[int], points: int) -> Any:
    """x, y of each point; each step chooses a map by comparing a word with the limits."""
    found: list[tuple[float, float]] = []
    for chunk in range(-(-points // CHUNK)):
        x = y = 0.0
        for i in range(WARM_UP + CHUNK):
            word = words(key, rng.PURPOSE_ORBIT, chunk, i // 4)[i % 4]
            a, b, c, d, e, f = maps[sum(word >= limit for limit in limits)]
            x, y = fma(a, x, fma(b, y, e)), fma(c, x, fma(d, y, f))
            if not (abs(x) < 1024 and abs(y) < 1024):
                x = y = 0.0
            if i >= WARM_UP:
                found.append((x, y))
    return found[:points]


def plain_place(values: list[float], pad: int, size: int) -> list[int]:
    least, most = min(values), max(values)
    extent = nearest_float32(Fraction(most) - Fraction(least))
    if extent <= 2**-100:
        return [pad] * len(values)
    scale = nearest_float32(Fraction(size - 2 * pad) / Fraction(extent))
    steps = [nearest_float32(Fraction(v) - Fraction(least)) for v in values]
    return [min(pad + int(nearest_float32(Fraction(s) * Fraction(scale))), size - 1) for s in steps]


def plain_video(row: np.void) -> Pixels:
    """A whole video, lit pixel by pixel."""
    frames, height, width, per_frame = (int(row[n]) for n in ("frames", "height", "width", "points_per_frame"))
    key, count, pad = row["key"].tolist(), int(row["count"]), int(row["pad"])
    points = plain_orbit(key, row["maps"].tolist()[:count], row["thresholds"].tolist()[: count - 1], frames * per_frame)
    across = plain_place([x for x, _ in points], pad, width)
    down = [height - 1 - y for y in plain_place([y for _, y in points], pad, height)]
    video = np.zeros((frames, height, width), np.uint8)
    for p, (x, y) in enumerate(zip(across, down, strict=True)):
        x, y = width - 1 - x if row["flips"] & 1 else x, height - 1 - y if row["flips"] & 2 else y
        mask = 0b000010000
        if row["patch"]:
            word = words(key, rng.PURPOSE_PATCH, p // CHUNK, p % CHUNK // 8)[p % 8 // 2]
            mask = 1 + ((word >> 16 if p % 2 else word & 0xFFFF) * 511 >> 16)
        first = p // per_frame
        last = min(first + int(row["trail"]), frames) if row["trail"] else frames
        for bit in range(9):
            r, c = y + bit // 3 - 1, x + bit % 3 - 1
            if mask >> bit & 1 and 0 <= r < height and 0 <= c < width:
                video[first:last, r, c] = row["level"]
    return video


@pytest.mark.parametrize("draw", fractal.DRAWS)
@pytest.mark.parametrize("trail", [0, 2])
@pytest.mark.parametrize("system", [TRIANGLE, LEAF, LEAVES], ids=["triangle", "leaf", "leaves"])
def test_videos_are_those_of_the_formula_in_exact_arithmetic(system: list[Map], trail: int, draw: str) -> None:
    spec = spec_of(system, draw=draw, trail=trail, pad=0 if draw == "patch" else 3)
    for index in (0, 2):
        rows = spec.params([index])
        np.testing.assert_array_equal(both(rows, spec.shape)[0], plain_video(rows[0]))


def test_searched_systems_are_drawn_alike() -> None:
    spec = vpngen.fractal(5, 40, shape=(5, 41, 67), points_per_frame=61, weight=0.3)
    seen = set()
    for index in (0, 9, 38, 114, 191):
        rows = spec.params([index])
        seen.add(int(rows["flips"][0]))
        np.testing.assert_array_equal(both(rows, spec.shape)[0], plain_video(rows[0]))
    assert len(seen) > 1


def test_a_video_of_the_paper() -> None:
    """100,000 points on 362 x 362, a frame every 1,000: by the reference as well."""
    spec = vpngen.fractal(3)
    video = both(spec.params([1]), spec.shape)[0]
    lit = (video > 0).sum(axis=(1, 2))
    assert set(np.unique(video)) == {0, 127} and 1000 < lit[0] < 9000
    assert (np.diff(lit) > 0).all() and lit[-1] > 0.2 * 362 * 362


# --- the law of the maps


def chosen(chances: Sequence[float], points: int = 100_000, index: int = 0) -> npt.NDArray[np.int64]:
    """The map that each point of a video was made by: maps that go to a place of their own whatever comes in."""
    maps = [(0, 0, 0, 0, m, -m, p) for m, p in enumerate(chances)]
    spec = spec_of(maps, shape=(points // 100, 9, 9), points_per_frame=100)
    x, y, left = orbit(spec.params([index])[0])
    assert left == 0 and np.array_equal(x, -y)
    return x.astype(np.int64)


@pytest.mark.parametrize(
    "chances",
    [[0.5, 0.5], [0.5, 0.3, 0.15, 0.05], [1 / 7] * 7, [0.9, 0.02, 0.08], [3, 2, 1], [0, 0.25, 0, 0.75, 0]],
    ids=str,
)
def test_maps_are_chosen_with_their_probabilities(chances: list[float]) -> None:
    expected = np.array(chances) / sum(chances)
    some = expected > 0
    for index in (0, 5):
        found = np.bincount(chosen(chances, index=index), minlength=len(chances))
        assert (found[~some] == 0).all()
        assert stats.chisquare(found[some], 100_000 * expected[some]).pvalue > UNLIKELY


def test_choices_are_independent_within_chunks_and_across_them() -> None:
    m = chosen([0.4, 0.3, 0.3], 64_000)
    for lag in (1, 2, 4, CHUNK, 16 * CHUNK):
        pairs = np.bincount(3 * m[lag:] + m[:-lag], minlength=9).reshape(3, 3)
        assert stats.chi2_contingency(pairs[:, :]).pvalue > UNLIKELY, lag
    other = chosen([0.4, 0.3, 0.3], 64_000, index=1)
    assert stats.chi2_contingency(np.bincount(3 * m + other, minlength=9).reshape(3, 3)).pvalue > UNLIKELY


def test_a_map_without_a_rival_is_always_chosen() -> None:
    assert (chosen([1, 0, 0, 0, 0, 0, 0]) == 0).all()
    assert (chosen([0, 0, 0, 1, 0, 0, 0]) == 3).all()
    assert (chosen([1]) == 0).all()
    assert thresholds(np.array([[1.0, 0, 0, 0, 0, 0, 0]])).tolist() == [[2**32 - 1] * 6]
    assert thresholds(np.array([[0, 0, 1.0, 0, 0, 0, 0]])).tolist() == [[0, 0, *[2**32 - 1] * 4]]
    assert thresholds(np.zeros((1, 7))).tolist() == [[0] * 6]  # of maps that are all singular, the last


def test_a_word_at_a_limit_belongs_to_the_map_after_it() -> None:
    maps = [(0, 0, 0, 0, 0, 0, 0.5), (0, 0, 0, 0, 1, 0, 0.5)]
    spec = spec_of(maps, shape=(8, 9, 9), points_per_frame=1, trail=1, draw="point", flips=False)
    rows = spec.params([0])
    drawn_words = [word for block in (8, 9) for word in words(rows["key"][0].tolist(), rng.PURPOSE_ORBIT, 0, block)]
    for word in drawn_words:
        for limit in (word, word + 1):
            expected = [float(w >= limit) for w in drawn_words]
            row = changed(rows, thresholds=[[limit] * 6])
            assert orbit(row[0])[0].tolist() == expected
            both(row, spec.shape)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
def test_a_word_chooses_a_map_that_is_there(weights: list[float], word: int) -> None:
    limits = thresholds(np.array([weights + [0] * (7 - len(weights))]))[0].astype(np.int64)
    assert (np.diff(limits) >= 0).all()
    chosen_map = int((word >= limits[: len(weights) - 1]).sum())
    assert chosen_map < len(weights)
    if sum(weights) > 0 and word < 2**32 - 1:
        assert weights[chosen_map] > 0
    total = sum(weights)
    for m, limit in enumerate(limits[: len(weights) - 1]):
        assert limit == pytest.approx(2**32 * sum(weights[: m + 1]) / total if total else 0, abs=2)


# --- the law of the candidates


N = 20_000


@pytest.fixture(scope="module")
def tried() -> tuple[fractal.Systems, npt.NDArray[np.uint32]]:
    return fractal.candidates(3, 17, np.arange(N))


def test_systems_have_two_to_seven_maps(tried: Any) -> None:
    count = tried[0].count
    assert stats.chisquare(np.bincount(count, minlength=8)[2:]).pvalue > UNLIKELY
    assert count.min() == 2 and count.max() == 7
    unused = np.arange(7) >= count[:, None]
    assert not tried[0].maps[unused].any() and (tried[0].maps[~unused] != 0).any(axis=1).all()


def test_parameters_are_uniform_and_independent(tried: Any) -> None:
    full = tried[0].maps[tried[0].count == 7].reshape(-1, 42).astype(np.float64)
    assert full.min() >= -1 and full.max() < 1
    for column in full.T:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > UNLIKELY
    off = np.corrcoef(full.T)[np.triu_indices(42, 1)]
    assert np.abs(off).max() < 5 / len(full) ** 0.5
    steps = (full + 1) * 2**23
    assert np.array_equal(steps, np.floor(steps)) and (steps % 2 == 1).any()  # of 2**24 values each


def test_probabilities_are_in_proportion_to_the_determinant(tried: Any) -> None:
    systems = tried[0]
    for i in range(200):
        count = int(systems.count[i])
        maps = [[Fraction(float(v)) for v in m] for m in systems.maps[i, :count]]
        areas = [abs(a * d - b * c) for a, b, c, d, _, _ in maps]
        for m in range(count - 1):
            share = sum(areas[: m + 1]) / sum(areas)
            assert abs(int(systems.thresholds[i, m]) - share * 2**32) <= 2


def test_candidates_are_functions_of_seed_category_and_attempt() -> None:
    everything = [
        fractal.candidates(seed, c, np.arange(40)) for seed in (0, 1, 2**32, 2**64 - 1) for c in (0, 1, 2**20)
    ]
    keys = np.concatenate([keys for _, keys in everything])
    assert len(np.unique(keys, axis=0)) == len(keys)
    assert len({systems.maps[i].tobytes() for systems, _ in everything for i in range(40)}) == len(keys)
    systems, keys = fractal.candidates(1, [0, 1, 2**20], [7, 39, 0])
    for i, (at, attempt) in enumerate([(3, 7), (4, 39), (5, 0)]):
        assert systems.maps[i].tobytes() == everything[at][0].maps[attempt].tobytes()
        assert keys[i].tolist() == everything[at][1][attempt].tolist()


# --- a video and its frames


@pytest.mark.parametrize(
    ("shape", "options", "each"),
    [
        ("240x362x362", {}, 416), ("101x362x362", {}, 990), ("100x362x362", {}, None), ("100x240x240", {}, 439),
        ("240x48x48", {}, 7), ("240x48x48", {"points_per_frame": 7}, None), ("240x48x48", {"trail": 8}, None),
        ("101x364x364", {}, None), ("1x48x48", {}, None), ("99x3x3", {"pad": 0, "points_per_frame": 1}, None),
    ],
)  # fmt: skip
def test_what_grows_no_more_is_said(run: Run, shape: str, options: dict[str, int], each: int | None) -> None:
    """By `info`, before `render`, and of parts of a mixture; what is advised needs no advice."""
    words = ["--generator", "fractal", "--categories", "2", "--instances", "1", "--shape", shape]
    words += [word for name, n in options.items() for word in (f"--{name.replace('_', '-')}", str(n))]
    said = run("info", "--format", "json", *words).json
    assert ("advice" in said) is (each is not None)
    if each is not None:
        assert f"--points-per-frame {each} (" in said["advice"][0] in run("info", *words).out.replace("\n", " ")
        assert "advice" not in run("info", "--format", "json", *words, "--points-per-frame", str(each)).json
        spec = Spec.from_dict(said["spec"])
        both = vpngen.mixed(vpngen.perlin(4, 1, shape=spec.shape, noise_terms=0), spec, spec)
        assert both.generator.advice(both.shape) == said["advice"]
    if shape == "240x48x48":
        assert run("render", "--dry-run", "--format", "json", *words).json.get("advice") == said.get("advice")
        written = run("render", "set.zarr", "--codec", "formula", *words).err
        assert (f"advice: {said['advice'][0]}\n" in written) if each is not None else ("advice" not in written)


@pytest.mark.parametrize("side", [48, 120])
def test_growth_depends_on_the_points_a_pixel(side: int) -> None:
    """The second half of a video draws about 12 % of its pixels with the points that are advised, and hardly any with more."""
    usual = vpngen.fractal(4, 1, shape=(120, side, side))
    each = fractal.FULL[0] * side**2 // fractal.FULL[1] // 120
    shares = []
    for spec in (usual, vpngen.fractal(4, 1, shape=usual.shape, points_per_frame=each)):
        halfway, end = ((vpngen.render(spec, range(4), Window(t=(t, t + 1))) > 0).sum() for t in (59, 119))
        shares.append(1 - halfway / end)
    assert f"points_per_frame={each})" in usual.generator.advice(usual.shape)[0]
    assert shares[0] < 0.04 and 0.08 < shares[1] < 0.16


def test_growth_a_trail_and_single_frames_are_one_set_of_points() -> None:
    """What was drawn in each frame alone tells what every other trail shows."""
    spec = spec_of(LEAF, shape=(40, 30, 33), points_per_frame=7)
    rows = spec.params([0])
    alone = both(changed(rows, trail=1), spec.shape)[0] > 0
    assert 0 < alone.sum(axis=(1, 2)).max() <= 9 * 7 and alone.any(axis=(1, 2)).all()
    grown = both(rows, spec.shape)[0] > 0
    assert np.array_equal(grown, np.logical_or.accumulate(alone))
    assert (np.diff(grown.sum(axis=(1, 2))) >= 0).all() and grown[-1].sum() > grown[0].sum()
    for trail in (2, 3, 17, 40, 254):
        shown = both(changed(rows, trail=trail), spec.shape)[0] > 0
        expected = np.array([alone[max(0, k - trail + 1) : k + 1].any(axis=0) for k in range(40)])
        assert np.array_equal(shown, expected), trail


@pytest.mark.parametrize("per_frame", [1, 100, 255, 256, 257, 4096, 5000])
def test_a_frame_shows_the_points_before_its_end(per_frame: int) -> None:
    spec = spec_of(TRIANGLE, shape=(3, 50, 60), points_per_frame=per_frame, draw="point", flips=False)
    rows = spec.params([0])
    video = both(rows, spec.shape)[0] > 0
    x, y, _ = orbit(rows[0])
    at = fractal.place(x, 2, 60), 49 - fractal.place(y, 2, 50)
    for k in range(3):
        expected = np.zeros((50, 60), bool)
        expected[at[1][: (k + 1) * per_frame], at[0][: (k + 1) * per_frame]] = True
        assert np.array_equal(video[k], expected)


@pytest.mark.parametrize("pad", [0, 1, 6, 14])
def test_the_canvas_is_filled_up_to_the_pad(pad: int) -> None:
    spec = spec_of(LEAF, shape=(2, 30, 71), points_per_frame=2000, pad=pad, draw="point", flips=False)
    lit = both(spec.params([0]), spec.shape)[0, -1] > 0
    x, y = np.flatnonzero(lit.any(axis=0)), 29 - np.flatnonzero(lit.any(axis=1))[::-1]
    for found, size in ((x, 71), (y, 30)):
        assert found[0] == pad and min(size - pad, size - 1) - 1 <= found[-1] <= min(size - pad, size - 1)
    wide = both(changed(spec.params([0]), patch=1), spec.shape)[0, -1] > 0
    for lines, size in ((wide.any(axis=0), 71), (wide.any(axis=1), 30)):
        assert max(pad - 1, 0) <= np.flatnonzero(lines)[0] and np.flatnonzero(lines)[-1] <= min(
            size - pad + 1, size - 1
        )


def test_flips_turn_the_points_over() -> None:
    spec = spec_of(LEAF, shape=(4, 31, 42), draw="point")
    rows = spec.params([3])
    plain = both(changed(rows, flips=0), spec.shape)[0]
    for flips, turned in ((1, plain[:, :, ::-1]), (2, plain[:, ::-1]), (3, plain[:, ::-1, ::-1])):
        assert not np.array_equal(turned, plain)
        assert np.array_equal(both(changed(rows, flips=flips), spec.shape)[0], turned)


def test_patches_are_any_but_the_empty_one() -> None:
    """One map, so that all points are one pixel: a trail of one frame of one point shows each patch."""
    spec = spec_of([(0, 0, 0, 0, 0.5, 0.5, 1)], shape=(20_000, 5, 5), pad=2, points_per_frame=1, trail=1)
    video = both(spec.params([0]), spec.shape)[0] > 0
    assert not video[:, [0, 4]].any() and not video[:, :, [0, 4]].any()
    masks = (video[:, 1:4, 1:4].reshape(-1, 9) << np.arange(9)).sum(axis=1)
    counts = np.bincount(masks, minlength=512)
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > UNLIKELY
    pairs = np.corrcoef(video[:, 1:4, 1:4].reshape(-1, 9).T) - np.eye(9)
    assert np.abs(pairs).max() < 5 / 20_000**0.5
    for lag in (1, 2, 8, CHUNK):  # the halves of a word, the words of a block, blocks, chunks
        assert stats.chisquare(np.bincount(masks[lag:] ^ masks[:-lag], minlength=512)).statistic < 5000
        assert abs((masks[lag:] == masks[:-lag]).mean() - 1 / 511) < 0.002


@pytest.mark.parametrize("level", [1, 127, 255])
def test_what_is_drawn_has_the_level(level: int) -> None:
    for trail in (0, 2):
        spec = spec_of(TRIANGLE, level=level, trail=trail)
        assert set(np.unique(both(spec.params([0]), spec.shape))) == {0, level}


# --- instances


@given(variants=st.integers(0, 2**24 - 1).map(lambda v: 2 * v + 1), instances=st.integers(1, 400), flips=st.booleans())
@brief
def test_instances_are_the_usable_variants_in_turn_then_their_flips(variants: int, instances: int, flips: bool) -> None:
    generator = of_table(TRIANGLE, LEAF, variants=(variants, 1), flips=flips)
    spec = Spec(generator, instances, 0, (2, 9, 9))
    usable = [v for v in range(VARIANTS) if variants >> v & 1]
    rows = spec.params(np.arange(0, 2 * instances, 2))
    for i, row in enumerate(rows):
        assert int(row["variant"]) == usable[i % len(usable)]
        assert int(row["flips"]) == (i // len(usable) % 4 if flips else 0)
    plain = spec.params(np.arange(1, 2 * instances, 2))
    assert not plain["variant"].any() and np.array_equal(plain["flips"], np.arange(instances) % 4 * flips)


def test_a_variant_multiplies_one_parameter_of_all_maps() -> None:
    generator = of_table(LEAF, variants=(2**25 - 1,), weight=0.4)
    rows = Spec(generator, 25, 0, (2, 9, 9)).params(np.arange(25))
    assert rows["variant"].tolist() == list(range(25))
    maps = generator.systems.maps[0]
    assert np.array_equal(rows["maps"][0], maps)
    for parameter, (w, weight) in itertools.product(range(6), enumerate((0.2, 0.6, 1.4, 1.8))):
        expected = maps.copy()
        expected[:, parameter] *= np.float32(weight)
        np.testing.assert_allclose(rows["maps"][1 + 4 * parameter + w], expected, rtol=1e-6)
        assert (rows["thresholds"][1 + 4 * parameter + w] == rows["thresholds"][0]).all()


def test_every_video_has_points_of_its_own() -> None:
    """Instances that share variant and flip, categories, splits and seeds."""
    first = spec_of(TRIANGLE, LEAF, shape=(1, 60, 60), points_per_frame=300)
    seen = {}
    for seed in (0, 1):
        spec = replace(first, seed=seed)
        for split in spec.splits:
            for i in range(spec.n_videos(split)):
                seen[seed, split, i] = vpngen.render(spec, i, split=split, backend="numba").tobytes()
    assert len(set(seen.values())) == len(seen) == 64


def test_more_points_begin_with_those_of_fewer() -> None:
    """A chunk depends on nothing but key, system and its number: frames and points may be added, seen at another scale."""
    spec = spec_of(LEAF, shape=(30, 40, 40), points_per_frame=151)
    long = orbit(spec.params([1])[0])
    for frames, per_frame in ((1, 151), (3, 85), (2, 256), (30, 150), (1, 4500)):
        short = orbit(changed(spec.params([1]), frames=frames, points_per_frame=per_frame)[0])
        for one, other in zip(short[:2], long[:2], strict=True):
            assert len(one) == frames * per_frame and np.array_equal(one, other[: len(one)])


# --- orbits that leave, collapse, or lie on a line


def reference_fill(rows: Params) -> npt.NDArray[np.int64]:
    return np.array([fractal.filled(row) for row in rows])


def test_points_that_leave_begin_again() -> None:
    spec = spec_of(LEAVES, shape=(20, 30, 30), points_per_frame=500)
    rows = spec.params([0])
    x, y, left = orbit(rows[0])
    assert left > 100 and np.isfinite(x).all() and np.isfinite(y).all()
    assert np.abs(x).max() < BOUND and np.abs(y).max() < BOUND and np.abs(x).max() > 500
    assert ((x == 0) & (y == 0)).sum() > 100
    assert (
        fractal.filled(rows[0])[1] == 0 and numba_fractal.fill(rows)[0, 1] == 0 and numba_fractal.fill(rows)[0, 0] > 0
    )
    both(rows, spec.shape)


def test_a_point_at_the_bound_has_left() -> None:
    steps = [(1, 0, 0, 1, 16, 0, 1)]  # 16, 32, ..., 1008, and 1024 is (0, 0) again
    row = spec_of(steps, points_per_frame=CHUNK, shape=(1, 9, 9)).params([0])
    x, y, left = orbit(row[0])
    assert x.tolist() == [16.0 * ((i + WARM_UP + 1) % 64) for i in range(CHUNK)] and not y.any()
    assert left == (WARM_UP + CHUNK) // 64 == numba_fractal.fill(row)[0, 0]
    down = [(0, 0, 0, 1, 3, -16, 1)]
    x, y, _ = orbit(spec_of(down, points_per_frame=CHUNK, shape=(1, 9, 9)).params([0])[0])
    assert y.tolist() == [-16.0 * ((i + WARM_UP + 1) % 64) for i in range(CHUNK)]
    assert x.tolist() == [3.0 * (v != 0) for v in y]


DEGENERATE: dict[str, list[Map]] = {
    "the origin": [(0.5, 0, 0, 0.5, 0, 0, 1)],
    "a point": [(0, 0, 0, 0, 0.3, 0.2, 1), (0, 0, 0, 0, 0.3, 0.2, 1)],
    "a line": [(0.5, 0, 0, 0.5, 0.3, 0, 0.5), (0.5, 0, 0, 0.5, -0.3, 0, 0.5)],
    "singular maps": [(0.5, 0.5, 0.5, 0.5, 0.1, 0, 0.5), (0.2, 0.2, 0.4, 0.4, -0.1, 0.3, 0.5)],
    "too near for float32 to scale": [(0.5, 0, 0, 0.5, 1e-38, 1e-38, 0.5), (0.5, 0, 0, 0.5, -1e-38, 1e-38, 0.5)],
    "just far enough": [(0, 0, 0, 0, 2.0**-99, 0, 0.5), (0, 0, 0, 0, 0, 2.0**-99, 0.5)],
    "as far as may be": [(16, -16, 16, 16, 16, -16, 0.5), (-16, 16, 16, -16, -16, 16, 0.5)],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_systems_are_drawn_without_complaint(name: str) -> None:
    spec = spec_of(DEGENERATE[name], variants=(2**25 - 1,), weight=0.49)
    rows = spec.params(np.arange(0, 12, 2))
    Fractal.check_params(rows)
    video = both(rows, spec.shape)
    assert (video.reshape(6, 6, -1).any(axis=2)).all()
    points = changed(rows, patch=0)
    fill = numba_fractal.fill(points)
    assert np.array_equal(fill[:, 1], reference_fill(points)[:, 1])
    if name in ("the origin", "a point", "too near for float32 to scale"):
        assert fill[0].tolist() == [0, 1]
        assert not video[0, :, 0:36].any() and not video[0, :, :, 5:].any()  # the corner, whose place is (pad, pad)
    if name == "just far enough":
        assert fill[0].tolist() == [0, 2]
    if name == "as far as may be":
        assert fill[0, 0] > 0 and fill[0, 1] == 0


def test_fill_counts_the_pixels_of_points() -> None:
    systems, keys = fractal.candidates(0, 0, np.arange(24))
    rows = fractal.trials(systems, keys)
    rows["frames"] = 3  # fewer points, for the reference's sake
    rows["maps"][::3] *= np.float32(1.9)
    found = numba_fractal.fill(rows)
    expected = reference_fill(rows)
    assert np.array_equal(found[:, 1], expected[:, 1])
    assert np.array_equal(found[:, 0] > 0, expected[:, 0] > 0)
    inside = found[:, 0] == 0
    assert 0 < inside.sum() < 24 and (found[~inside, 1] == 0).all() and (found[inside, 1] > 0).all()
    for enough in (1, 500, 10**6):
        first = next((n for n in range(24) if found[n, 1] >= enough), 23)
        some = numba_fractal.fill(rows, enough)
        assert np.array_equal(some[: first + 1, 1], found[: first + 1, 1]) and not some[first + 1 :].any()


# --- long videos: blocks of 254 frames, and trails whose times no byte could count from the beginning


@pytest.mark.parametrize("trail", [0, 1, 2, 100, 253, 254])
def test_long_videos_in_blocks(trail: int) -> None:
    assert numba_fractal.BLOCK == fractal.MOST_TRAIL == 254
    spec = spec_of(LEAF, shape=(900, 40, 57), points_per_frame=1, trail=trail, pad=0)
    video = both(spec.params([0]), spec.shape)[0]
    assert len({frame.tobytes() for frame in video[250:270]}) > 5
    for t, step in ((0, 1), (0, 3), (1, 2), (253, 1), (254, 1), (300, 2), (899, 1), (5, 255), (640, 1)):
        count = len(range(t, 900, step))
        part = both(spec.params([0]), (count, 25, 29), [(t, step, 9, 16, 0)])[0]
        np.testing.assert_array_equal(part, video[t::step, 9:34, 16:45])


def test_windows_at_the_edges_cut_patches() -> None:
    spec = spec_of(TRIANGLE, shape=(3, 20, 40), pad=0, points_per_frame=400)
    for index in range(4):
        video = both(spec.params([index]), spec.shape)[0]
        for y, x, h, w in itertools.product((0, 1, 9, 19), (0, 1, 20, 39), (1, 2, 11), (1, 2, 17, 20)):
            if y + h <= 20 and x + w <= 40:
                window = Window(y=(y, y + h), x=(x, x + w), flip=bool((x + y) % 2))
                part = vpngen.render(spec, index, window, backend="numba", threads=1)
                np.testing.assert_array_equal(part, window.of(video))


# --- the value, its rows and its errors


def test_json_both_ways() -> None:
    for generator in (of_table(TRIANGLE, LEAF, trail=3), vpngen.fractal(4, weight=0.25).generator):
        fields = json.loads(json.dumps(generator.to_dict()))
        assert Fractal.from_dict(fields) == generator
        assert hash(Fractal.from_dict(fields)) == hash(generator)
    assert Fractal([1, 3], attempts=[4, 5]) == Fractal((1, 3), attempts=(4, 5))  # type: ignore[arg-type]


def test_the_table_is_the_system() -> None:
    systems = of_table(TRIANGLE, LEAF).systems
    assert systems.count.tolist() == [3, 2]
    assert np.array_equal(systems.maps[0, :3], np.array(TRIANGLE, np.float32)[:, :6]) and not systems.maps[1, 2:].any()
    assert systems.thresholds[0, :2].tolist() == [2**30, 2**31]


def test_rows_hold_no_stray_bytes() -> None:
    """A gap in a record is not copied with it, and stores hold records."""
    for rows in (data.params([0, 1, 2]) for data in (spec_of(LEAF), vpngen.mixed(spec_of(LEAF), spec_of(TRIANGLE)))):
        fields = rows.dtype.fields
        assert fields is not None
        assert sum(field[0].itemsize for field in fields.values()) == rows.dtype.itemsize
        assert rows[::-1].tobytes() == b"".join(row.tobytes() for row in rows[::-1])


def test_parameters_say_what_was_drawn() -> None:
    spec = vpngen.fractal(3, 200)
    everyone = np.arange(spec.n_videos())
    drawn_ = spec.parameters(everyone)
    assert set(drawn_) == {"variant", "flips", "maps", "key"}
    rows = spec.params(everyone)
    for name, field in (("variant", "variant"), ("flips", "flips"), ("maps", "count"), ("key", "key")):
        assert np.array_equal(drawn_[name].values, rows[field]) and drawn_[name].about
    assert set(np.unique(drawn_["flips"].values)) == {0, 1, 2, 3} and drawn_["variant"].values.max() == 24


def test_categories_are_numbers() -> None:
    generator = of_table(TRIANGLE, LEAF)
    assert [generator.category(i) for i in range(2)] == [(0,), (1,)]
    assert [generator.category_id((i,)) for i in range(2)] == [0, 1]
    for bad in ((2,), (-1,), (True,), (1.0,), (), (0, 0), 1, None, "01"):
        with pytest.raises(ArgumentError, match="`category"):
            generator.category_id(bad)  # type: ignore[arg-type]
    for number in (2, -1, True, 1.0, None, "0"):
        with pytest.raises(ArgumentError, match="`category_id`"):
            generator.category(number)  # type: ignore[arg-type]


GOOD: dict[str, Any] = {"variants": (1, 3), "attempts": (4, 5)}
TABLE = of_table(TRIANGLE, LEAF).table


def table(rows: list[Map]) -> str:
    return base64.b64encode(np.array(rows, "<f4").tobytes()).decode()


WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    *(({"variants": v}, "`variants`") for v in ((), (2, 1), (1, 0), (1, 2**25 + 1), (1, -1), (1.0, 1), (True, 1), 1, "13")),
    ({"variants": (1,)}, "`attempts`.*one system for each of `variants`"),
    *(({"attempts": v}, "`attempts`") for v in ((), (1,), (-1, 1), (2**32, 1), (1.0, 2), (True, 1), 5, None)),
    ({"sizes": (2, 2)}, "`table` and `sizes`"),
    *(({"search_seed": v}, r"`search_seed` \(=.*from 0 to 18446744073709551615") for v in (-1, 2**64, 1.5, True, "0", None)),
    *(({"table": v}, "`table`") for v in (None, 5, b"AAAA", TABLE)),
    *(({"attempts": (), "sizes": (3, 2), "table": v}, "`table`") for v in ("", "AAAA", "AAA", "&", "é" * 4, TABLE[:-8])),
    *(({"attempts": (), "table": TABLE, "sizes": v}, r"(sizes|table)`") for v in ((), (3,), (2, 2), (0, 5), (8, 1), (3.0, 2))),
    (
        {"attempts": (), "sizes": (1, 1), "table": table([(0, 0, 0, 0, 0, np.nan, 1)] * 2)}, "`table`.*finite",
    ),
    ({"attempts": (), "sizes": (1, 1), "table": table([(0, 0, 0, 0, 0, 17, 1)] * 2)}, "`table`.*between -16 and 16"),
    ({"attempts": (), "sizes": (1, 1), "table": table([(0, 0, 0, 0, 0, 0, 0)] * 2)}, "`table` must hold probabilities"),
    ({"attempts": (), "sizes": (1, 1), "table": table([(0, 0, 0, 0, 0, 0, -1)] * 2)}, "`table` must hold probabilities"),
    *(({"weight": v}, r"`weight` \(=.*from 0 to below 0.5") for v in (-0.1, 0.5, 1, np.nan, np.inf, "0.4", None, False)),
    *(({"flips": v}, r"`flips` \(=.*true or false") for v in (1, 0, None, "yes")),
    *(({"draw": v}, r"`draw` \(=.*patch, point") for v in ("dots", "", None, 3, ["patch"])),
    *(({"points_per_frame": v}, r"`points_per_frame` \(=.*from 1 to 16777216") for v in (0, -1, 2**24 + 1, 1.0, True)),
    *(({"trail": v}, r"`trail` \(=.*from 0 to 254") for v in (-1, 255, 1.0, True, None)),
    *(({"pad": v}, r"`pad` \(=.*from 0 to") for v in (-1, 2**15, 1.5, True)),
    *(({"level": v}, r"`level` \(=.*from 1 to 255") for v in (0, 256, -1, 127.0, True)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "says"), WRONG_FIELDS, ids=lambda v: str(v)[:50] if isinstance(v, dict) else "")
def test_a_wrong_field_is_named(fields: dict[str, Any], says: str) -> None:
    Fractal(**GOOD)
    with pytest.raises(ArgumentError, match=says):
        Fractal(**{**GOOD, **fields})


def test_shapes_that_cannot_be_made() -> None:
    for shape in ((4, 12, 40), (4, 40, 12), (4, 1, 1)):
        with pytest.raises(ArgumentError, match=r"`pad` \(=6\) leaves nothing"):
            Spec(Fractal(**GOOD), 1, 0, shape)
    assert Spec(Fractal(**GOOD), 1, 0, (4, 13, 13)).shape == (4, 13, 13)
    with pytest.raises(ArgumentError, match=r"`points_per_frame` \(=5000\).*16,777,216 points"):
        Spec(Fractal(**GOOD, points_per_frame=5000), 1, 0, (65_536, 40, 40))
    assert Spec(Fractal(**GOOD, points_per_frame=256), 1, 0, (65_536, 40, 40)).video_bytes


def test_fields_of_json_that_are_unknown_or_missing() -> None:
    fields = Fractal(**GOOD).to_dict()
    with pytest.raises(ArgumentError, match="`colour` is no parameter of the fractal generator"):
        Fractal.from_dict({**fields, "colour": 1})
    with pytest.raises(ArgumentError, match="needs `variants`"):
        Fractal.from_dict({k: v for k, v in fields.items() if k != "variants"})


# --- the reference and what it keeps


@brief
@given(data=st.data())
def test_what_is_kept_of_one_video_never_shows_in_another(data: st.DataObject) -> None:
    """The reference keeps the points of the last videos; rows that differ in one field have their own."""
    spec = data.draw(SPECS["fractal"])
    rows = spec.params([0])
    first = drawn(rows[0].tobytes())
    for name in ("trail", "level", "flips", "patch"):
        other = changed(rows, **{name: 1 + (rows[name] % 2 if name in ("trail", "level") else -rows[name])})
        both(other, spec.shape)
        both(rows, spec.shape)
    again = drawn(rows[0].tobytes())
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))

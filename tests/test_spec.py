"""The spec: what it accepts and refuses, its JSON, its fingerprint, its order, and the sets of the paper by name."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SPECS

import vpngen
from vpngen import ArgumentError, Spec, Window
from vpngen.generators import (
    GENERATORS,
    Clouds,
    Drift,
    Fractal,
    Generator,
    Leaves,
    Mixed,
    Params,
    Shape,
    fractal,
    mixed,
)
from vpngen.generators.perlin import DIVISIONS, Perlin, factor_categories, pick_divisions
from vpngen.spec import FORMAT_VERSION, MAX_VIDEOS, SPLITS, presets

every_spec = given(st.one_of(*SPECS.values()))

FINGERPRINTS = {
    "vpn-256x512": "b095e43b5e92fa9d4c5af32bb694cc84982421c1cc4778f7040eb7b9f3e98750",
    "vpn-full": "552373a3877ef1d7ad58eb0fad8cd12c1b0e6f88a7f5da9694ab22bcd89bceff",
    "vf-1000x1000": "b99d413d06121236ac64083859d4915677bcfd67577210c9cc5f54b1282fc1d8",
}
"""Pinned: a fingerprint is stored beside pixels, so it must never drift."""


def small(**changes: Any) -> Spec:
    """A quick set of four categories, in two splits."""
    given = {"divisions_x": [2, 3], "divisions_y": [1, 4], "shape": (8, 16, 48), "instances": 3, "val_instances": 2}
    return vpngen.perlin(**{**given, **changes})


# --- a value: frozen, hashable, JSON both ways, one fingerprint


def test_every_generator_has_a_strategy() -> None:
    assert set(SPECS) == set(GENERATORS)


@every_spec
def test_json_round_trip(spec: Spec) -> None:
    again = Spec.from_json(spec.to_json())
    assert again == spec and hash(again) == hash(spec)
    assert again.fingerprint == spec.fingerprint
    assert again.to_json() == spec.to_json()
    assert Spec.from_dict(spec.to_dict()) == spec
    assert again.params([0]).tobytes() == spec.params([0]).tobytes()


@every_spec
def test_json_is_canonical_and_plain(spec: Spec) -> None:
    fields = json.loads(spec.to_json(), parse_constant=pytest.fail)
    assert fields == spec.to_dict()
    assert spec.to_json() == json.dumps(fields, sort_keys=True, separators=(",", ":"))
    shuffled = json.dumps(dict(reversed(fields.items())), indent=3)
    assert Spec.from_json(shuffled).fingerprint == spec.fingerprint


@every_spec
def test_a_copy_is_the_same_value(spec: Spec) -> None:
    for same in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec)), replace(spec)):
        assert same == spec and same.fingerprint == spec.fingerprint


@given(*(st.one_of(*SPECS.values()) for _ in range(2)))
def test_fingerprints_are_equal_where_specs_are(a: Spec, b: Spec) -> None:
    assert (a == b) == (a.fingerprint == b.fingerprint)


def test_spec_is_frozen() -> None:
    spec = small()
    for value, field in ((spec, "seed"), (spec, "shape"), (spec.generator, "loop")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field, 1)
    assert len({spec, small(), small(seed=1)}) == 2


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_pinned_fingerprint(name: str) -> None:
    assert Spec.preset(name).fingerprint == FINGERPRINTS[name]


@pytest.mark.parametrize(
    "change",
    [
        {"instances": 511}, {"val_instances": 1}, {"seed": 1}, {"seed": 2**63}, {"shape": (240, 240, 480)},
        {"shape": (480, 240, 240)}, {"categories": 255}, {"categories": 400}, {"divisions": "low"}, {"temporal": "fast"},
        {"temporal": (8, 4)}, {"temporal": (4, 8)}, {"temporal_unit": "divisions"}, {"loop": True}, {"noise_terms": 1},
        {"noise_frequencies": (1, 2, 4, 8)}, {"noise_frequencies": (16, 8, 4, 2, 1)}, {"noise_amplitudes": (0.01, 0.2)},
        {"gradients": "sphere"}, {"fade": "linear"}, {"phase": "centre"}, {"grey": "stretch"},
    ],
    ids=str,
)  # fmt: skip
def test_every_field_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    spec = vpngen.perlin(**change)
    assert spec != vpngen.perlin() and spec.fingerprint != vpngen.perlin().fingerprint
    assert Spec.from_json(spec.to_json()) == spec


def test_equal_arguments_of_other_types_are_the_same_spec() -> None:
    plain = vpngen.perlin(16, 3, divisions_x=(1, 2), divisions_y=(3, 4), temporal=8, seed=5, shape=(8, 48, 48))
    other = vpngen.perlin(
        16, np.int32(3), divisions_x=np.array([1, 2]), divisions_y=[np.int64(3), 4], temporal=[8], seed=np.uint64(5),
        shape=[8, 48, 48],
    )  # fmt: skip
    assert other == plain and other.to_json() == plain.to_json()


# --- the sets of the paper

PAPER_SETS = {  # name -> (W, H) pairs, values of D, instances a category, videos; SEEDS: figure 3, tables 2, 3, 4, 6
    "vpn-256x512": (256, (8,), 512, 131_072),
    "vpn-400x200": (400, (8,), 200, 80_000),
    "vpn-16x200": (16, (8,), 200, 3_200),
    "vpn-32x200": (32, (8,), 200, 6_400),
    "vpn-64x200": (64, (8,), 200, 12_800),
    "vpn-128x200": (128, (8,), 200, 25_600),
    "vpn-256x200": (256, (8,), 200, 51_200),
    "vpn-256x16": (256, (8,), 16, 4_096),
    "vpn-256x32": (256, (8,), 32, 8_192),
    "vpn-256x64": (256, (8,), 64, 16_384),
    "vpn-256x128": (256, (8,), 128, 32_768),
    "vpn-256x256": (256, (8,), 256, 65_536),
    "vpn-fast": (256, (4,), 512, 131_072),
    "vpn-middle": (256, (8,), 512, 131_072),
    "vpn-slow": (256, (16,), 512, 131_072),
    "vpn-full": (256, (4, 8, 16), 512, 393_216),
    "vpn-no-noise": (256, (8,), 512, 131_072),
    "vpn-low-freq": (144, (8,), 200, 28_800),
    "vpn-high-freq": (144, (8,), 200, 28_800),
}


def test_every_preset_is_checked() -> None:
    assert set(presets()) == {
        *PAPER_SETS, "vf-1000x1000", "drift-64x512", "drift-directions-32x512", "clouds-64x512", "clouds-256x512",
        "leaves-64x512", "motion-256x512",
    }  # fmt: skip


def test_a_preset_of_several_generators_is_their_mixture() -> None:
    two = (vpngen.perlin(128, 512), vpngen.leaves(sizes=(26.6, 18.8, 13.3, 9.4)))
    assert Spec.preset("motion-256x512") == vpngen.mixed(*two) and [s.n_videos() for s in two] == [65_536] * 2
    few = Spec.preset("motion-256x512", instances=2, val_instances=1, shape=(16, 240, 240), seed=3)
    assert few.n_videos() == 512 and few.n_videos("val") == 256 and few.generator.handed
    with pytest.raises(ArgumentError, match=r"`categories`.*is no argument of the mixed"):
        Spec.preset("motion-256x512", categories=4)


def test_the_video_fractals_of_the_paper() -> None:
    """Section 5.4: 1,000 categories x 1,000 instances of 100 frames, one every 1,000 of 100,000 points."""
    spec = Spec.preset("vf-1000x1000")
    assert spec == vpngen.fractal() and isinstance(spec.generator, Fractal)
    assert (spec.n_categories, spec.instances, spec.val_instances) == (1000, 1000, 0)
    assert spec.shape == (100, 362, 362) and spec.generator.points_per_frame == 1000
    assert (spec.generator.trail, spec.generator.weight, spec.generator.draw) == (0, 0.4, "patch")
    assert Spec.preset("vf-1000x1000", categories=5, trail=3) == vpngen.fractal(5, 1000, trail=3)


@pytest.mark.parametrize("name", PAPER_SETS)
def test_preset_has_the_counts_of_the_paper(name: str) -> None:
    pairs, temporal, instances, videos = PAPER_SETS[name]
    spec = Spec.preset(name)
    assert isinstance(spec.generator, Perlin)
    assert spec.n_categories == pairs * len(temporal)
    assert spec.generator.temporal == temporal
    assert spec.instances == instances
    assert spec.n_videos("train") == videos and spec.n_videos("val") == 0 and spec.splits == ("train",)
    assert spec.shape == (240, 240, 240) and spec.nbytes == videos * 240**3
    assert spec.generator.noise_terms == (0 if name == "vpn-no-noise" else 2)
    assert set(spec.generator.divisions_x) | set(spec.generator.divisions_y) <= set(DIVISIONS)


def test_presets_are_different_sets() -> None:
    same = {"vpn-middle": "vpn-256x512"}  # two names in the paper for one set
    specs = {same.get(name, name): Spec.preset(name).fingerprint for name in presets()}
    assert Spec.preset("vpn-middle") == Spec.preset("vpn-256x512") == vpngen.perlin()
    assert len(set(specs.values())) == len(specs)


def test_the_paper_s_lists_of_divisions() -> None:
    assert DIVISIONS == (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 40, 48, 60, 80, 120, 240)
    low, high = Spec.preset("vpn-low-freq").generator, Spec.preset("vpn-high-freq").generator
    assert isinstance(low, Perlin) and isinstance(high, Perlin)
    assert low.divisions_x == low.divisions_y == (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20)
    assert high.divisions_x == high.divisions_y == (12, 15, 16, 20, 24, 30, 40, 48, 60, 80, 120, 240)
    everything = Spec.preset("vpn-400x200").generator
    assert isinstance(everything, Perlin) and everything.divisions_x == everything.divisions_y == DIVISIONS


def test_the_paper_s_random_terms() -> None:
    generator = vpngen.perlin().generator
    assert isinstance(generator, Perlin)
    assert generator.noise_frequencies == (1, 2, 4, 8, 16)
    assert generator.noise_amplitudes == (0.01, 0.02, 0.05, 0.1, 0.2)


def test_options_beside_a_preset_override_it() -> None:
    spec = Spec.preset("vpn-low-freq", instances=7, val_instances=2, seed=3, temporal="slow", noise_terms=0)
    assert spec.n_categories == 144 and (spec.instances, spec.val_instances, spec.seed) == (7, 2, 3)
    assert spec == vpngen.perlin(144, 7, divisions="low", val_instances=2, seed=3, temporal="slow", noise_terms=0)
    assert Spec.preset("vpn-256x512", categories=16).n_categories == 16


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, (1, 1)), (16, (4, 4)), (32, (8, 4)), (64, (8, 8)), (128, (16, 8)), (144, (12, 12)), (256, (16, 16)),
     (400, (20, 20)), (19, (19, 1)), (20, (5, 4)), (380, (20, 19)), (360, (20, 18))],
)  # fmt: skip
def test_factors_are_the_most_nearly_square(n: int, expected: tuple[int, int]) -> None:
    assert factor_categories(n) == expected


def test_every_count_of_categories_that_can_be_made_is_made() -> None:
    made = {a * b for a, b in product(range(1, 21), repeat=2)}
    for n in range(1, 402):
        if n in made:
            assert vpngen.perlin(n, 1).n_categories == n
        else:
            with pytest.raises(ArgumentError, match="`categories`"):
                vpngen.perlin(n, 1)


@given(st.integers(1, 20))
def test_rules_pick_increasing_divisions(n: int) -> None:
    low, high, spread = (pick_divisions(rule, n, 240) for rule in ("low", "high", "spread"))
    assert low == DIVISIONS[:n] and high == DIVISIONS[20 - n :]
    assert len(spread) == n and list(spread) == sorted(set(spread)) and set(spread) <= set(DIVISIONS)
    if n > 1:
        assert (spread[0], spread[-1]) == (1, 240)
        ranks = [DIVISIONS.index(d) for d in spread]
        gaps = {b - a for a, b in pairwise(ranks)}
        assert max(gaps) - min(gaps) <= 1


def test_only_divisions_that_divide_the_shape_are_picked() -> None:
    assert pick_divisions("high", 3, 112) == (4, 8, 16) and pick_divisions("spread", 5, 112) == (1, 2, 4, 8, 16)
    spec = vpngen.perlin(20, 1, shape=(16, 48, 112))
    assert isinstance(spec.generator, Perlin)
    assert all(112 % w == 0 for w in spec.generator.divisions_x)
    assert all(48 % h == 0 for h in spec.generator.divisions_y)


# --- order, labels, splits


@every_spec
def test_categories_and_ids_are_a_bijection(spec: Spec) -> None:
    categories = [spec.category(i) for i in range(spec.n_categories)]
    assert len(set(categories)) == spec.n_categories
    assert [spec.category_id(c) for c in categories] == list(range(spec.n_categories))


def test_category_ids_of_the_whole_grid() -> None:
    spec = Spec.preset("vpn-400x200", temporal="full")
    expected = [(w, h, d) for d in (4, 8, 16) for w in DIVISIONS for h in DIVISIONS]
    assert [spec.category(i) for i in range(1200)] == expected


@every_spec
def test_order_is_instance_major(spec: Spec) -> None:
    n = spec.n_categories
    everyone = np.arange(spec.n_videos())
    assert spec.labels(everyone).reshape(-1, n).tolist() == [list(range(n))] * spec.instances
    assert [spec.label(int(i)) for i in everyone] == (everyone % n).tolist()


@every_spec
def test_rows_are_of_the_category_they_are_labelled_with(spec: Spec) -> None:
    for split in spec.splits:
        everyone = np.arange(spec.n_videos(split))
        are_of(spec.generator, spec.shape, spec.params(everyone, split), spec.labels(everyone, split))


def are_of(generator: Generator, shape: Shape, rows: Params, labels: npt.NDArray[np.int64]) -> None:
    """Assert that the numbers in rows are those of their categories."""
    if isinstance(generator, Perlin):
        primal = generator.parameters(shape, rows)["frequency"].values[:, 0]
        assert [tuple(f) for f in primal.tolist()] == [generator.category(int(c)) for c in labels]
    elif isinstance(generator, Fractal):
        systems = generator.systems
        assert np.array_equal(rows["count"], systems.count[labels])
        assert np.array_equal(rows["thresholds"], systems.thresholds[labels])
        weights = fractal.factors(generator.weight)[rows["variant"], None]
        assert np.array_equal(rows["maps"], systems.maps[labels] * weights)
        assert ((np.array(generator.variants)[labels] >> rows["variant"]) & 1).all()
    elif isinstance(generator, Drift):
        kinds, speeds, cells = generator.factor_ids(labels).T
        drawn, own = generator.parameters(shape, rows), kinds - generator.directions
        for name, given, jitter in (
            ("cell", np.array(generator.cells)[cells], generator.cell_jitter),
            ("velocity", np.array(generator.speeds)[speeds] * (own < 0), generator.speed_jitter),
        ):
            value = drawn[name].values.astype(np.float64)
            value = np.hypot(*value.T) if value.ndim > 1 else value
            assert ((value <= given * jitter * 1.001) & (value * jitter * 1.001 >= given)).all(), name
        for kind, name in enumerate(("rotation", "zoom", "shear")):
            moved = np.abs(drawn[name].values.reshape(len(rows), -1) - (name == "zoom")).max(axis=1) > 0
            assert not moved[(own < 0) | (np.minimum(own // 2, 2) != kind)].any(), name
    elif isinstance(generator, Clouds):
        drawn = generator.parameters(shape, rows)
        direction, speed, frequency = np.array([generator.category(int(c))[:3] for c in labels]).reshape(-1, 3).T
        off = np.abs((drawn["direction"].values - direction + 180) % 360 - 180)
        assert (off <= generator.direction_jitter * 360 / generator.directions + 0.01).all()
        for name, middle, jitter in (
            ("speed", speed, generator.speed_jitter),
            ("frequency", frequency, generator.frequency_jitter),
        ):
            found = drawn[name].values.astype(np.float64)
            assert ((found <= middle * jitter * 1.0001) & (found * jitter * 1.0001 >= middle)).all(), name
    elif isinstance(generator, Leaves):
        speeds, sizes = (np.array([generator.category(int(c))[i] for c in labels]) for i in (1, 2))
        assert (np.abs(np.log(rows["size"] / sizes)) <= np.log(generator.size_jitter) + 1e-6).all()
        moves = np.abs(2 * rows["velocity"]).max(axis=1) > 0
        drawn = np.hypot(*(2.0 * rows["velocity"].T))[moves]
        assert (np.abs(np.log(drawn / speeds[moves])) <= np.log(generator.speed_jitter) + 1e-6).all()
    else:
        assert isinstance(generator, Mixed)
        for number, part in enumerate(generator.parts):
            mine = rows["part"] == number
            theirs = [generator.category(int(c)) for c in labels[mine]]
            assert {c[0] for c in theirs} <= {number}
            ids = np.array([part.category_id(c[1:]) for c in theirs], np.int64)
            are_of(part, shape, mixed.unpack(rows[mine], type(part)), ids)


@every_spec
def test_a_smaller_set_is_the_beginning_of_a_larger_one(spec: Spec) -> None:
    larger = replace(spec, instances=spec.instances + 3, val_instances=spec.val_instances + 2)
    for split in spec.splits:
        everyone = np.arange(spec.n_videos(split))
        assert larger.params(everyone, split).tobytes() == spec.params(everyone, split).tobytes()
        assert larger.labels(everyone, split).tolist() == spec.labels(everyone, split).tolist()


@every_spec
def test_a_row_depends_on_its_own_index_alone(spec: Spec) -> None:
    everyone = np.arange(spec.n_videos())
    rows = spec.params(everyone)
    assert spec.params(everyone[::-1]).tobytes() == rows[::-1].tobytes()
    for i in {0, len(everyone) // 2, len(everyone) - 1}:
        assert spec.params(i).tobytes() == rows[i].tobytes()


def test_train_and_val_hold_different_videos() -> None:
    spec = small(instances=500, val_instances=500)
    assert spec.splits == SPLITS == ("train", "val")
    keys = [spec.parameters(np.arange(spec.n_videos(split)), split)["key"].values for split in spec.splits]
    packed = np.concatenate(keys).astype("<u4").view("<u8")
    assert len(np.unique(packed)) == 2 * 2000
    assert not np.array_equal(vpngen.render(spec, 0, threads=1), vpngen.render(spec, 0, split="val", threads=1))


def test_counts_and_bytes_of_both_splits() -> None:
    spec = small()
    assert (spec.n_videos("train"), spec.n_videos("val")) == (12, 8)
    assert spec.video_bytes == 8 * 16 * 48 and spec.nbytes == 20 * spec.video_bytes


def test_indices_of_any_integer_type_are_one_video() -> None:
    spec = small()
    for dtype in ("u1", "i2", "u4", "i8", "u8"):
        assert spec.params(np.array([3, 11], dtype)).tobytes() == spec.params([3, 11]).tobytes()


# --- refusals: each names the argument and its value, and says what is allowed

BAD_ARGUMENTS: list[tuple[dict[str, Any], list[str]]] = [
    # counts
    *(({"categories": n}, ["`categories`", str(n), "20"]) for n in (23, 401, 10**9, 2**70)),
    *(({"categories": n}, ["`categories`", str(n), "at least 1"]) for n in (0, -1, -(2**70))),
    *(({"categories": v}, ["`categories`", repr(v), "integer"]) for v in (True, 1.5, 256.0, "256", None, math.nan, [4])),
    *(({"instances": n}, ["`instances`", str(n), "1"]) for n in (0, -1, 2**63, MAX_VIDEOS)),
    *(({"instances": v}, ["`instances`", repr(v), "integer"]) for v in (True, 1.5, "512", None, math.nan, math.inf)),
    *(({"val_instances": n}, ["`val_instances`", str(n), "0"]) for n in (-1, 2**70)),
    ({"val_instances": 0.5}, ["`val_instances`", "0.5", "integer"]),
    *(({"seed": n}, ["`seed`", str(n), str(2**64 - 1)]) for n in (-1, 2**64)),
    *(({"seed": v}, ["`seed`", repr(v), "integer"]) for v in (1.5, "0", None, False)),
    # shape
    *(({"shape": v}, ["`shape`", "(frames, height, width)"]) for v in ((240, 240), (1, 2, 3, 4), 240, "240", None)),
    ({"shape": (0, 240, 240)}, ["`shape`", "0", "65536"]),
    ({"shape": (240, 0, 240)}, ["`shape`", "0", "65536"]),
    ({"shape": (240, 240, -240)}, ["`shape`", "-240", "65536"]),
    ({"shape": (2**16 + 1, 240, 240)}, ["`shape`", "65537", "65536"]),
    ({"shape": (240, 240.0, 240)}, ["240.0"]),
    ({"shape": (240, 240, True)}, ["`shape`", "True", "integer"]),
    ({"shape": (240, "240", 240)}, ["'240'"]),
    ({"shape": (240, 240, 100)}, ["16", "100"]),
    ({"shape": (240, 100, 240)}, ["16", "100"]),
    ({"shape": (100, 240, 240), "temporal_unit": "divisions"}, ["`temporal`", "8", "frames", "100"]),
    ({"shape": (8, 240, 240), "temporal_unit": "divisions"}, ["`noise_frequencies`", "16", "frames", "8"]),
    ({"shape": (8, 240, 24), "divisions": [1]}, ["`noise_frequencies`", "16", "width", "24"]),
    # divisions
    ({"divisions": "medium"}, ["divisions", "'medium'", "spread, low, high"]),
    ({"divisions": [7, 8]}, ["`divisions_x`", "7", "width of 240"]),
    ({"divisions": 8}, ["`divisions", "8"]),
    ({"divisions_x": [1, 2], "divisions_y": [9]}, ["`divisions_y`", "9", "height of 240"]),
    ({"divisions_x": [480], "divisions_y": [1]}, ["`divisions_x`", "480", "width of 240"]),
    ({"divisions_x": [2**70], "divisions_y": [1]}, ["`divisions_x`", str(2**70), "65536"]),
    *(
        ({"divisions_x": v, "divisions_y": [1]}, ["`divisions_x`", "integers from 1 to 65536"])
        for v in ([0], [-2], [1.5], ["2"], "12", [None], [math.nan], [[1]], 5, [True])
    ),
    *(({name: []}, [f"`{name}`", "must have a value"]) for name in ("divisions_x", "divisions", "temporal", "noise_frequencies")),
    ({"divisions_x": [2, 2], "divisions_y": [1]}, ["`divisions_x`", "(2, 2)", "twice"]),
    ({"divisions_x": [1, 2, 3]}, ["`categories`", "256", "multiple", "3"]),
    ({"categories": 0, "divisions_x": [1, 2]}, ["`categories`", "0"]),
    # temporal
    ({"temporal": "quick"}, ["`temporal`", "'quick'", "fast, middle, slow, full"]),
    *(
        ({"temporal": v}, ["`temporal`", "integers from 1 to 65536"])
        for v in (0, -8, [8, 0], [2.5], ["8"], None, 2.5, True)
    ),
    *(({"temporal": d}, ["`temporal`", str(d)]) for d in (2**31, 2**40, 2**70)),
    ({"temporal": [8, 8]}, ["`temporal`", "(8, 8)", "twice"]),
    ({"temporal": [7], "temporal_unit": "divisions"}, ["`temporal`", "7", "frames of 240"]),
    # choices
    *(
        ({field: v}, [f"`{field}`", repr(v), allowed])
        for field, allowed in {
            "temporal_unit": "period, divisions", "gradients": "angles, sphere", "fade": "quintic, linear",
            "phase": "corner, centre", "grey": "fixed, stretch",
        }.items()
        for v in ("other", "", None, 0, ["fixed"])
    ),
    *(({"loop": v}, ["`loop`", repr(v), "true or false"]) for v in (1, 0, "yes", None)),
    *(({"noise_terms": v}, ["`noise_terms`", repr(v), "from 0 to 2"]) for v in (-1, 3, 1.5, 2.0, "2", None, True, [1])),
    # noise
    ({"noise_frequencies": [7]}, ["`noise_frequencies`", "7", "width of 240"]),
    *(({"noise_frequencies": v}, ["`noise_frequencies`", "integers from 1 to 65536"]) for v in ([0], ["a"], 4, [1.5])),
    *(  # equation (2): 0 < a_k < a_1 = 1 - sum a_k
        ({"noise_amplitudes": [a]}, ["`noise_amplitudes`", str(float(a)), "equation 2"])
        for a in (0, -0.1, 0.4, 1 / 3, 1)
    ),
    ({"noise_amplitudes": [0.5], "noise_terms": 1}, ["`noise_amplitudes`", "0.5", "equation 2"]),
    ({"noise_amplitudes": [0.1, 0.1]}, ["`noise_amplitudes`", "(0.1, 0.1)", "twice"]),
    *(({"noise_amplitudes": v}, ["`noise_amplitudes`", repr(v), "numbers"]) for v in (0.1, "0.1", None, ["a"], [None], [math.nan], [math.inf], [True])),
    ({"noise_amplitudes": [10**400]}, ["`noise_amplitudes`"]),
    ({"noise_amplitudes": []}, ["`noise_amplitudes`", "()"]),
    ({"loop": True, "temporal": [9], "noise_frequencies": [2, 4]}, ["`loop`", "9", "`noise_frequencies`", "(2, 4)"]),
    # unknown
    ({"colour": True}, ["`colour`"]),
    ({"frequency": 3, "loop": True}, ["`frequency`"]),
]  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("arguments", "words"), BAD_ARGUMENTS, ids=lambda v: str(v)[:60] if isinstance(v, dict) else ""
)
def test_bad_argument_is_named(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        vpngen.perlin(**arguments)
    assert not [w for w in words if w not in str(caught.value)], caught.value
    assert caught.value.exit_code == 2


DEFAULT = vpngen.perlin().to_dict()


def with_fields(**changes: Any) -> str:
    return json.dumps({**DEFAULT, **changes})


def with_generator(**changes: Any) -> str:
    return with_fields(generator={**DEFAULT["generator"], **changes})


def without(field: str) -> str:
    return json.dumps({k: v for k, v in DEFAULT.items() if k != field})


BAD_JSON: list[tuple[str, list[str]]] = [
    ("{", ["JSON"]),
    ("", ["JSON"]),
    *((text, ["spec", "fields"]) for text in ("3", "true", "null", '"perlin"', "[]", '[1, "a"]', "{}")),
    (with_fields(colour=1), ["colour"]),
    (without("seed"), ["seed"]),
    (without("generator"), ["generator"]),
    (without("format_version"), ["format_version"]),
    *((with_fields(format_version=v), ["`format_version`", repr(v)]) for v in (0, -1, 1.5, "1", True, None)),
    (with_fields(seed=-1), ["`seed`", "-1"]),
    (with_fields(instances=0), ["`instances`", "0"]),
    *((with_fields(shape=v), ["`shape`"]) for v in (240, None, [240], "240")),
    (with_fields(shape=[240.0, 240, 240]), ["`shape`", "240.0"]),
    *((with_fields(generator=v), ["generator", repr(v)]) for v in (5, "perlin", None, ["name"])),
    (with_generator(name="worley"), ["generator", "'worley'", "perlin"]),
    (with_generator(name=["perlin"]), ["generator", "perlin"]),
    (with_generator(colour=1), ["`colour`", "perlin"]),
    (with_fields(generator={"name": "perlin"}), ["divisions_x"]),
    (with_generator(divisions_x=5), ["`divisions_x`", "5"]),
    (with_generator(divisions_x=[7]), ["`divisions_x`", "7", "240"]),
    (with_generator(noise_amplitudes=[math.nan]), ["`noise_amplitudes`", "nan"]),
    (with_generator(loop="yes"), ["`loop`", "'yes'"]),
]


@pytest.mark.parametrize(("text", "words"), BAD_JSON, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_json_is_explained(text: str, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        Spec.from_json(text)
    assert not [w for w in words if w not in str(caught.value)], caught.value


@pytest.mark.parametrize("more", [{}, {"colour": "rgb"}], ids=["same fields", "a field of the future"])
def test_a_newer_format_is_refused_with_advice(more: dict[str, Any]) -> None:
    newer = FORMAT_VERSION + 1
    with pytest.raises(ArgumentError, match=rf"`format_version` \(={newer}\).*newer.*{FORMAT_VERSION}.*pip install"):
        Spec.from_json(with_fields(format_version=newer, **more))


def test_a_newer_format_is_refused_by_the_constructor() -> None:
    with pytest.raises(ArgumentError, match="newer"):
        replace(vpngen.perlin(), format_version=FORMAT_VERSION + 1)


REFUSED: dict[str, tuple[Callable[[], object], list[str]]] = {
    "preset": (lambda: Spec.preset("vpn-257x512"), ["`preset`", "'vpn-257x512'", *presets()]),
    "preset type": (lambda: Spec.preset(["vpn-full"]), ["`preset`", "['vpn-full']"]),  # type: ignore[arg-type]
    "window type": (lambda: vpngen.render(small(), 0, 3), ["`window`", "3"]),  # type: ignore[arg-type]
    "windows type": (lambda: vpngen.render(small(), [0, 1], [3, 4]), ["`window`", "[3, 4]"]),  # type: ignore[list-item]
    "flip type": (lambda: vpngen.render(small(), 0, vpngen.Window(flip="no")), ["`flip`", "'no'"]),  # type: ignore[arg-type]
    "preset option": (lambda: Spec.preset("vpn-full", colour=1), ["`colour`"]),
    "generator": (lambda: Spec(None), ["`generator`", "None"]),
    "split": (lambda: small().n_videos("test"), ["`split`", "'test'", "train, val"]),
    "index above": (lambda: small().params([0, 12]), ["12", "train", "0 to 11"]),
    "index below": (lambda: small().params(-1), ["-1", "train", "0 to 11"]),
    "index of val": (lambda: small().params(8, "val"), ["8", "val", "0 to 7"]),
    "index type": (lambda: small().params([0.5]), ["integers", "float64"]),
    "index flag": (lambda: small().params(True), ["integers", "bool"]),
    "index text": (lambda: small().params("3"), ["integers"]),
    "index huge": (lambda: small().params(2**70), ["integers"]),
    "label": (lambda: small().label(12), ["12"]),
    "category above": (lambda: small().category(4), ["`category_id`", "4", "from 0 to 3"]),
    "category below": (lambda: small().category(-1), ["`category_id`", "-1", "from 0 to 3"]),
    "category half": (lambda: small().category(1.5), ["`category_id`", "1.5"]),
    "triple": (lambda: small().category_id((3, 3, 8)), ["`category`", "(3, 3, 8)", "(2, 3)", "(1, 4)", "(8,)"]),
    "pair": (lambda: small().category_id((2, 1)), ["`category`", "(2, 1)"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_request_outside_the_set_is_named(what: str) -> None:
    ask, words = REFUSED[what]
    with pytest.raises(ArgumentError) as caught:
        ask()
    assert not [w for w in words if w not in str(caught.value)], caught.value


BAD_RENDERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"index": 12}, ["12", "0 to 11"]),
    ({"index": [[0, 1], [2, 3]]}, ["index"]),
    ({"index": 0, "split": "test"}, ["`split`", "'test'"]),
    ({"index": 0, "backend": "gpu"}, ["`backend`", "'gpu'", "auto", "numba", "reference"]),
    *(({"index": 0, "backend": "numba", "threads": v}, ["`threads`", repr(v), "at least 1"]) for v in (0, -1, 1.5, True)),
    *(({"index": 0, "backend": "reference", "threads": v}, ["`threads`", repr(v)]) for v in (0, "all")),
    ({"index": [0, 1], "window": [Window()]}, ["`window`", "list of 2"]),
    ({"index": [0, 1], "window": [Window(), Window(t=(0, 2))]}, ["extent", "(8, 16, 48)", "(2, 16, 48)"]),
    *(
        ({"index": 0, "window": Window(**{axis: span})}, [f"`{axis}`", repr(span), word])
        for axis, span, word in [
            ("t", (0, 9), "8"), ("y", (-1, 4), "16"), ("x", (0, 49), "48"), ("x", (3, 3), "<"), ("y", (4, 3), "<"),
            ("t", (0, 8, 0), "step"), ("t", (0, 8, -1), "step"), ("t", (0, 1, 2**40), "step"), ("t", (0.0, 8), "integers"),
            ("x", (0, 8, 2), "(start, stop)"), ("y", 5, "(start, stop)"), ("t", "abcd", "(start, stop)"), ("x", (True, 4), "integ"),
        ]
    ),
    *(
        ({"index": 0, "out": np.zeros(shape, dtype)}, ["`out`", str(dtype), "(8, 16, 48)"])
        for shape, dtype in [((8, 16, 47), "uint8"), ((1, 8, 16, 48), "uint8"), ((8, 16, 48), "int8")]
    ),
    ({"index": 0, "out": np.zeros((8, 16, 96), np.uint8)[:, :, ::2]}, ["`out`", "contiguous"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), BAD_RENDERS, ids=lambda v: str(v)[:70] if isinstance(v, dict) else "")
def test_bad_render_is_named(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        vpngen.render(small(), **arguments)
    assert not [w for w in words if w not in str(caught.value)], caught.value


def test_a_label_is_of_the_split_that_is_asked() -> None:
    spec = small(instances=1, val_instances=2)
    assert spec.label(3) == spec.label(7, "val") == 3 and spec.labels([4, 7], "val").tolist() == [0, 3]
    for ask in (lambda: spec.label(4), lambda: spec.labels([0, 7]), lambda: spec.label(8, "val")):
        with pytest.raises(ArgumentError, match=r"is outside the (train|val) split"):
            ask()

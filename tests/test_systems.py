"""Where the categories of `fractal` come from: the search anybody can repeat, its cache, and FractalDB's own files."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vpngen
from vpngen import ArgumentError, RunError, Spec, Window, backends, systems
from vpngen.generators import Fractal, fractal

ENOUGH = int(np.ceil(0.2 * 512 * 512))
BACKEND = backends.kernels("numba", "fractal")
SHIPPED = systems.read_found(systems.SHIPPED, 0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VPNGEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Grows by (category, seed) of each category that is searched for."""
    found: list[tuple[int, int]] = []
    real = systems.accepted

    def accepted(category: int, seed: int, backend: Any) -> int:
        found.append((category, seed))
        return real(category, seed, backend)

    monkeypatch.setattr(systems, "accepted", accepted)
    return found


@pytest.fixture
def easy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of milliseconds: few points, and a hundredth of the canvas is enough."""
    monkeypatch.setattr(fractal, "SEARCH_POINTS", 5_000)
    monkeypatch.setattr(fractal, "FILL_RATE", 0.01)


# --- the search


def found_afresh(categories: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """What `systems.search` gives, without the cache."""
    return tuple(zip(*systems._search(0, categories, seed, None), strict=True))


def test_the_search_that_is_shipped() -> None:
    assert len(SHIPPED) == 1000
    attempts, variants = np.array(SHIPPED).T
    assert (variants & 1 == 1).all() and variants.max() < 2**25 and 0 <= attempts.min()
    assert attempts.max() < systems.MOST_ATTEMPTS and 30 < attempts.mean() < 80
    usable = np.array([int(v).bit_count() for v in variants])
    assert 20 < usable.mean() <= 25 and usable.min() >= 1


@pytest.mark.parametrize("category", [0, 1, 2, 3, 10, 313, 500, 777, 998, 999])
def test_the_shipped_table_is_what_a_fresh_search_finds(category: int) -> None:
    assert systems._search(category, category + 1, 0, None) == [SHIPPED[category]]


@pytest.mark.parametrize("category", [3, 4])
def test_the_reference_accepts_and_refuses_the_same_candidates(category: int) -> None:
    """Up to the accepted one, all 100,000 points of each."""
    attempt = SHIPPED[category][0]
    assert attempt < 10
    tried, keys = fractal.candidates(0, category, np.arange(attempt + 1))
    rows = fractal.trials(tried, keys)
    assert set(rows["frames"] * rows["points_per_frame"]) == {100_000}
    expected = np.array([fractal.filled(row) for row in rows])
    found = BACKEND.fill(rows)
    assert np.array_equal(found[:, 1], expected[:, 1])
    assert (expected[:-1, 1] < ENOUGH).all() and expected[-1, 1] >= ENOUGH


def test_accepted_systems_fill_and_never_leave() -> None:
    """Of all categories that are shipped; and so do all the variants that make instances."""
    for i in range(0, 1000, 40):
        tried, keys = fractal.candidates(0, [i], [SHIPPED[i][0]])
        assert BACKEND.fill(fractal.trials(tried, keys))[0].tolist()[0] == 0
        assert BACKEND.fill(fractal.trials(tried, keys))[0, 1] >= ENOUGH
    spec = vpngen.fractal(1000, 25)
    rows = spec.params(np.arange(7, spec.n_videos(), 997))
    rows["height"], rows["width"], rows["patch"] = 512, 512, 0
    found = BACKEND.fill(rows)
    assert (found[:, 0] == 0).all() and found[:, 1].min() > 0.009 * 512 * 512


def test_variants_are_those_that_stay_and_fill_a_hundredth() -> None:
    for i in (0, 3, 12):
        tried, keys = fractal.candidates(0, [i], [SHIPPED[i][0]])
        for v in range(fractal.VARIANTS):
            row = fractal.trials(tried, keys)
            row["maps"] *= fractal.factors(0.4)[v]
            left, filled = BACKEND.fill(row)[0]
            assert (SHIPPED[i][1] >> v & 1) == (left == 0 and filled >= 2621.44)


def test_fewer_categories_are_the_first_of_more(searched: list[tuple[int, int]], easy: None) -> None:
    attempts, variants = found_afresh(30, 5)
    for n in (1, 7, 29):
        assert found_afresh(n, 5) == (attempts[:n], variants[:n])
    assert len(set(attempts)) > 3 and found_afresh(30, 6)[0] != attempts
    assert searched[:30] == sorted(searched[:30]) or len(set(searched[:30])) == 30
    more = vpngen.fractal(30, 2, search_seed=5, shape=(4, 40, 40), points_per_frame=50)
    few = vpngen.fractal(7, 2, search_seed=5, shape=(4, 40, 40), points_per_frame=50)
    assert np.array_equal(more.params(np.arange(7))["maps"], few.params(np.arange(7))["maps"])
    assert more.generator.systems.maps[:7].tobytes() == few.generator.systems.maps.tobytes()  # type: ignore[attr-defined]


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, easy: None) -> None:
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(systems, "usable_cpus", lambda n=threads: n)
        found.append(systems._search(0, 25, 9, None))
    assert found[0] == found[1] == found[2]


def test_progress_counts_every_category(easy: None) -> None:
    told: list[tuple[int, int]] = []
    systems.search(12, 5, lambda done, of: told.append((done, of)))
    assert told == [(i, 12) for i in range(1, 13)]
    told.clear()
    systems.search(15, 5, lambda done, of: told.append((done, of)))
    assert told == [(13, 15), (14, 15), (15, 15)]
    told.clear()
    systems.search(15, 5, lambda done, of: told.append((done, of)))
    assert told == []


def test_a_category_that_never_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fractal, "FILL_RATE", 1.5)
    monkeypatch.setattr(fractal, "SEARCH_POINTS", 1_000)
    monkeypatch.setattr(systems, "MOST_ATTEMPTS", 128)
    with pytest.raises(RunError, match=r"none of 128 candidates of category 0, search seed 7, fills the canvas"):
        vpngen.fractal(3, 1, search_seed=7)


def test_the_last_candidate_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt, category = max((a, i) for i, (a, _) in enumerate(SHIPPED[:60]))
    assert attempt > 64
    assert systems.accepted(category, 0, BACKEND) == attempt
    monkeypatch.setattr(systems, "MOST_ATTEMPTS", attempt // 64 * 64)
    with pytest.raises(RunError, match=f"category {category},"):
        systems.accepted(category, 0, BACKEND)


# --- the cache


def test_shipped_categories_need_no_search(searched: list[tuple[int, int]], cache: Path) -> None:
    assert vpngen.fractal(1000, 1).n_categories == 1000
    assert searched == [] and not cache.exists()


def test_what_was_found_is_kept(searched: list[tuple[int, int]], cache: Path, easy: None) -> None:
    first = systems.search(6, 2**64 - 1)
    assert [c for c, _ in sorted(searched)] == list(range(6)) and {s for _, s in searched} == {2**64 - 1}
    assert [p.name for p in cache.iterdir()] == [f"systems-{2**64 - 1}.txt"]
    searched.clear()
    assert systems.search(6, 2**64 - 1) == first and systems.search(2, 2**64 - 1) == (first[0][:2], first[1][:2])
    assert searched == []
    more = systems.search(9, 2**64 - 1)
    assert sorted(c for c, _ in searched) == [6, 7, 8] and more[0][:6] == first[0]
    searched.clear()
    systems.search(9, 4)
    assert len(searched) == 9 and len(list(cache.iterdir())) == 2
    assert found_afresh(9, 2**64 - 1) == more


def test_more_than_is_shipped_goes_to_the_cache(
    searched: list[tuple[int, int]], cache: Path, easy: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systems.write_found(tmp_path / "shipped.txt", 0, SHIPPED[:4])
    monkeypatch.setattr(systems, "SHIPPED", tmp_path / "shipped.txt")
    attempts, _ = systems.search(6, 0)
    assert sorted(searched) == [(4, 0), (5, 0)] and attempts[:4] == tuple(a for a, _ in SHIPPED[:4])
    searched.clear()
    assert systems.search(6, 0)[0] == attempts and searched == []


@pytest.mark.parametrize("damage", ["cut", "a digit", "empty", "not ascii", "another seed", "a folder", "nonsense"])
def test_a_damaged_cache_is_not_believed(damage: str, searched: list[tuple[int, int]], cache: Path, easy: None) -> None:
    first = systems.search(4, 3)
    file = cache / "systems-3.txt"
    good = file.read_text()
    searched.clear()
    if damage == "a folder":
        file.unlink()
        (file / "in the way").mkdir(parents=True)
    elif damage == "another seed":
        systems.search(4, 33)
        file.write_text((cache / "systems-33.txt").read_text())
        searched.clear()
    elif damage == "nonsense":
        body = "1 2 3\nx\n"
        file.write_text(f"{systems.FORM} seed 3 sha256 {hashlib.sha256(body.encode()).hexdigest()}\n{body}")
    else:
        changed = {"cut": good[:-9], "a digit": good[:-3] + chr(ord(good[-3]) ^ 1) + good[-2:], "empty": ""}
        file.write_bytes(changed[damage].encode() if damage in changed else good.encode("utf-16"))
    assert systems.search(4, 3) == first
    assert len(searched) == 4
    if damage != "a folder":
        assert file.read_text() == good


def test_a_cache_that_cannot_be_written_costs_time_alone(
    cache: Path, easy: None, monkeypatch: pytest.MonkeyPatch, searched: list[tuple[int, int]]
) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    first = systems.search(3, 3)
    assert systems.search(3, 3) == first and len(searched) == 6
    monkeypatch.delenv("VPNGEN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "below"))
    assert systems.search(3, 3) == first

    def nobody(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    assert systems.search(3, 3) == first
    assert vpngen.fractal(3, 1).n_categories == 3


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert systems._cache(7) == tmp_path / "cache" / "systems-7.txt"
    monkeypatch.delenv("VPNGEN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert systems._cache(7) == tmp_path / "xdg" / "vpngen" / "systems-7.txt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert systems._cache(7) == tmp_path / "home" / ".cache" / "vpngen" / "systems-7.txt"


def test_no_half_written_cache_is_left(cache: Path) -> None:
    systems.write_found(cache / "x.txt", 1, [(5, 1), (2**32 - 1, 2**25 - 1)])
    assert systems.read_found(cache / "x.txt", 1) == [(5, 1), (2**32 - 1, 2**25 - 1)]
    assert systems.read_found(cache / "x.txt", 2) == [] and [p.name for p in cache.iterdir()] == ["x.txt"]
    assert systems.read_found(cache / "none.txt", 1) == []


# --- other weights


def test_another_weight_has_variants_of_its_own(searched: list[tuple[int, int]]) -> None:
    usual, small, large = (vpngen.fractal(6, 50, weight=w).generator for w in (0.4, 0.05, 0.45))
    assert isinstance(usual, Fractal) and isinstance(small, Fractal) and isinstance(large, Fractal)
    assert usual.attempts == small.attempts == large.attempts and searched == []
    assert small.variants == (2**25 - 1,) * 6  # so near to the system itself they all fill
    assert large.variants != usual.variants != small.variants
    assert vpngen.fractal(6, 50, weight=0.45).generator == large
    spec = vpngen.fractal(6, 25, weight=0.45)
    rows = spec.params(np.arange(150))
    rows["height"], rows["width"], rows["patch"] = 512, 512, 0
    assert (BACKEND.fill(rows)[:, 0] == 0).all()


def test_the_system_itself_is_always_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """An orbit of another key may leave where that of the search did not."""
    monkeypatch.setattr(systems, "usable_variants", lambda *_: 6)
    generator = vpngen.fractal(3, 2, weight=0.2).generator
    assert isinstance(generator, Fractal) and generator.variants == (7, 7, 7)


# --- FractalDB's files


def of_searched(i: int) -> npt.NDArray[np.float64]:
    """A category as FractalDB writes it: a row of a, b, c, d, e, f, probability for each map."""
    tried, _ = fractal.candidates(0, [i], [SHIPPED[i][0]])
    count = int(tried.count[0])
    maps = tried.maps[0, :count].astype(np.float64)
    areas = np.abs(maps[:, 0] * maps[:, 3] - maps[:, 1] * maps[:, 2])
    return np.column_stack([maps, areas / areas.sum()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three of its files, made by `numpy.savetxt` as FractalDB makes them."""
    ifs = tmp_path / "csv_rate0.2_category3"
    ifs.mkdir()
    for i in range(3):
        np.savetxt(ifs / f"{i:05d}.csv", of_searched(i), delimiter=",")
    return ifs


def test_published_categories_render(folder: Path) -> None:
    spec = vpngen.fractal(ifs_dir=folder, instances=4, shape=(10, 64, 64), points_per_frame=500)
    assert isinstance(spec.generator, Fractal)
    assert spec.n_categories == 3 and spec.generator.sizes == tuple(len(of_searched(i)) for i in range(3))
    ours = vpngen.fractal(3, 4, shape=(10, 64, 64), points_per_frame=500).generator
    assert isinstance(ours, Fractal)
    np.testing.assert_array_equal(spec.generator.systems.maps, ours.systems.maps)
    limits = spec.generator.systems.thresholds.astype(np.int64) - ours.systems.thresholds
    assert np.abs(limits).max() < 2**10  # of 2**32: the files' probabilities are kept as float32
    again = Spec.from_json(spec.to_json())
    assert again == spec and again.fingerprint == spec.fingerprint
    np.testing.assert_array_equal(vpngen.render(again, 7), vpngen.render(spec, 7, backend="reference"))
    assert vpngen.render(spec, 7).any()


def test_the_files_may_go_once_the_spec_is_made(folder: Path) -> None:
    spec = vpngen.fractal(ifs_dir=str(folder), instances=2)
    text = spec.to_json()
    before = vpngen.render(spec, 1, Window(t=(90, 100)))
    for file in folder.iterdir():
        file.unlink()
    assert str(folder) not in text
    np.testing.assert_array_equal(vpngen.render(Spec.from_json(text), 1, Window(t=(90, 100))), before)


def test_files_are_taken_in_the_order_of_their_names(folder: Path) -> None:
    (folder / "deeper").mkdir()
    (folder / "00001.csv").rename(folder / "deeper" / "00007.csv")
    (folder / "notes.txt").write_text("no category")
    table, sizes = systems.read_folder(folder)
    assert sizes == tuple(len(of_searched(i)) for i in (0, 2, 1))
    assert systems.read_folder(folder, 2)[1] == sizes[:2] and table.startswith(systems.read_folder(folder, 1)[0][:40])
    assert vpngen.fractal(2, 1, ifs_dir=folder).n_categories == 2


def test_variants_of_files_are_searched_for(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    generator = vpngen.fractal(ifs_dir=folder, instances=1, progress=lambda *t: told.append(t)).generator
    assert isinstance(generator, Fractal) and told == [(1, 3), (2, 3), (3, 3)]
    for mine, (_, shipped) in zip(generator.variants, SHIPPED, strict=False):
        assert (mine ^ shipped).bit_count() <= 1  # another orbit of the same system
    calm = vpngen.fractal(ifs_dir=folder, instances=1, weight=0.0).generator
    assert isinstance(calm, Fractal) and calm.variants == (2**25 - 1,) * 3


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
def test_how_a_file_may_be_written(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "0.csv"
    lines = ["\ufeff0.5,0,0,5e-1,0,0,0.5", " 0.5, 0, 0, 0.5, 0.5, 0, 0.25 ", "", "0.5,0,0,.5,-0.25,+0.5,0.2503", ""]
    file.write_bytes(ending.join(lines).encode())
    table = systems.read_system(file)
    assert table.dtype == "<f4" and table.shape == (3, 7)
    assert table[:, 6].tolist() == [0.5, 0.25, np.float32(0.2503)]


LINE = "0.5,0,0,0.5,0.1,0,"
BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "it has 0 maps; from 1 to 7"),
    "eight maps": (f"{LINE}0.125\n" * 8, "it has 8 maps; from 1 to 7"),
    "six columns": (f"{LINE}0.5\n0.5,0,0,0.5,0.1,0.5\n", "line 2 must have 7 finite numbers"),
    "eight columns": (f"{LINE}1,1\n", "line 1 must have 7 finite numbers"),
    "another separator": ("0.5 0 0 0.5 0.1 0 1\n", "could not convert"),
    "semicolons": ("0.5;0;0;0.5;0.1;0;1\n", "could not convert"),
    "a header": (f"a,b,c,d,e,f,p\n{LINE}1\n", "could not convert"),
    "a hole": ("0.5,0,0,,0.1,0,1\n", "could not convert"),
    "nan": (f"{LINE}0.5\n0.5,0,0,nan,0.1,0,0.5\n", "line 2 must have 7 finite numbers"),
    "inf": ("0.5,0,0,0.5,0.1,-inf,1\n", "line 1 must have 7 finite numbers"),
    "nan probability": (f"{LINE}nan\n", "line 1 must have 7 finite numbers"),
    "beyond": ("17,0,0,0.5,0.1,0,1\n", "beyond 16"),
    "sums to less": (f"{LINE}0.5\n{LINE}0.4\n", "sum to 1, and sum to 0.9"),
    "sums to more": (f"{LINE}0.5\n{LINE}0.502\n", "sum to 1, and sum to 1.002"),
    "no probability": (f"{LINE}0\n", "sum to 1, and sum to 0"),
    "negative": (f"{LINE}1.5\n{LINE}-0.5\n", "must be positive"),
    "binary": (b"\xff\xfe\x00\x01", "decode"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(name: str, folder: Path) -> None:
    content, says = BAD_FILES[name]
    (folder / "00002.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArgumentError) as caught:
        vpngen.fractal(ifs_dir=folder, instances=1)
    assert says in str(caught.value) and "00002.csv" in str(caught.value)
    assert "a, b, c, d, e, f, probability" in str(caught.value)
    assert vpngen.fractal(2, 1, ifs_dir=folder).n_categories == 2  # without it


@pytest.mark.parametrize(
    "maps",
    [
        [(2, 0, 0, 2, 1, 1, 1)],  # leaves
        [(0.5, 0, 0, 0.5, 0, 0, 1)],  # a point
        [(0.5, 0, 0, 0.5, 0.3, 0, 0.5), (0.5, 0, 0, 0.5, -0.3, 0, 0.5)],  # a line
        [(0.5, 0, 0, 0.5, 1e-38, 0, 0.5), (0.5, 0, 0, 0.5, 0, 1e-38, 0.5)],
    ],
    ids=["leaves", "a point", "a line", "nearly a point"],
)
def test_a_published_category_that_never_fills(maps: Any, folder: Path) -> None:
    np.savetxt(folder / "00001.csv", maps, delimiter=",")
    with pytest.raises(ArgumentError, match=r"`ifs_dir` .*never fills, number 1"):
        vpngen.fractal(ifs_dir=folder, instances=1)


def test_folders_that_hold_no_categories(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`ifs_dir` .*is not a folder"):
        vpngen.fractal(ifs_dir=tmp_path / "nothing")
    with pytest.raises(ArgumentError, match=r"`ifs_dir` .*is not a folder"):
        vpngen.fractal(ifs_dir=folder / "00000.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"`ifs_dir` .*holds no \.csv files"):
        vpngen.fractal(ifs_dir=tmp_path / "empty")
    with pytest.raises(ArgumentError, match=r"`categories` \(=4\) is more than the folder holds, which is 3"):
        vpngen.fractal(4, ifs_dir=folder)
    os.mkdir(folder / "00009.csv")
    with pytest.raises(ArgumentError, match=r"00009\.csv.*not a category"):
        vpngen.fractal(ifs_dir=folder)


# --- arguments


def test_the_fields_go_where_they_belong() -> None:
    spec = vpngen.fractal(
        np.int64(2), 3, val_instances=4, shape=(5, 30, 31), seed=6, flips=False, draw="point", points_per_frame=7, trail=8,
        pad=9, level=10,
    )  # fmt: skip
    fields = spec.generator.to_dict()
    assert (spec.instances, spec.val_instances, spec.shape, spec.seed) == (3, 4, (5, 30, 31), 6)
    expected = {
        "flips": False,
        "draw": "point",
        "points_per_frame": 7,
        "trail": 8,
        "pad": 9,
        "level": 10,
        "weight": 0.4,
    }
    assert {k: fields[k] for k in expected} == expected
    assert json.loads(spec.to_json())["generator"]["attempts"] == [a for a, _ in SHIPPED[:2]]
    made = {"variants", "attempts", "table", "sizes"}
    own = {field.name for field in Fractal.options()} - {field.name for field in Fractal.counts}
    assert own - {"ifs_dir"} == {field.name for field in dataclasses.fields(Fractal)} - made


WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"categories": v}, r"`categories` \(=.*from 1 to 100000") for v in (0, -1, 100_001, 2**70, True, 1.5, "9", [3])),
    *(({"search_seed": v}, "`search_seed`") for v in (-1, 2**64, 1.5, None, True, "0")),
    *(({"instances": v}, "`instances`") for v in (0, -1, 2**48, 1.5, None)),
    *(({"val_instances": v}, "`val_instances`") for v in (-1, 2**49, None)),
    *(({"seed": v}, "`seed`") for v in (-1, 2**64)),
    *(({"shape": v}, "`shape`|`frames`|`height`|`pad`") for v in ((1, 2), 5, (0, 40, 40), (4, 2.0, 9), (4, 12, 40))),
    ({"colour": 1}, "`colour` is no argument of the fractal generator; it has categories, draw, flips"),
    ({"variants": (1,)}, "`variants` is no argument"),
    *(({k: -1}, f"`{k}`") for k in ("weight", "flips", "draw", "points_per_frame", "trail", "pad", "level")),
    ({"points_per_frame": 200_000}, "`points_per_frame` .=200000. is more than 16,777,216 points in"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=lambda v: str(v)[:50] if isinstance(v, dict) else "")
def test_what_is_wrong_is_told_before_any_search(
    arguments: dict[str, Any], says: str, searched: list[tuple[int, int]]
) -> None:
    with pytest.raises(ArgumentError, match=says):
        vpngen.fractal(**{"categories": 99_999, "search_seed": 12, **arguments})
    assert searched == []


def test_specs_of_all_kinds_have_their_own_fingerprint(folder: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"categories": 4}, {"instances": 6}, {"val_instances": 1}, {"shape": (9, 40, 40)}, {"seed": 1}, {"weight": 0.3},
        {"flips": False}, {"draw": "point"}, {"points_per_frame": 90}, {"trail": 1}, {"pad": 5}, {"level": 126},
        {"ifs_dir": folder},
    ]  # fmt: skip
    given = {"categories": 3, "instances": 5, "shape": (8, 40, 40), "points_per_frame": 80}
    specs = [vpngen.fractal(**{**given, **change}) for change in changes]
    for a, b in itertools.combinations(specs, 2):
        assert a != b and a.fingerprint != b.fingerprint

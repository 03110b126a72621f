"""Mixtures of generators in one label space: a mixture's videos are its parts' own, wherever they are rendered or stored."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import tree, write
from strategies import SPECS, alike_windows, brief

import vpngen
from vpngen import ArgumentError, Spec, Window, backends, rng
from vpngen.generators import Fractal, Generator, Mixed, Params, Perlin, kinds, mixed
from vpngen.rendering import completed, paint, videos
from vpngen.store import CODECS

BOTH = ("numba", "reference")
NAMES = " or ".join(kind.name for kind in kinds())
SHAPE = (20, 36, 48)
GIVEN: dict[str, Any] = {"instances": 5, "val_instances": 2, "shape": SHAPE, "seed": 11}
NOISE = vpngen.perlin(divisions_x=[2, 6], divisions_y=[1, 4], noise_frequencies=[1, 2], **GIVEN)
STRETCHED = vpngen.perlin(
    divisions_x=[3], divisions_y=[2, 9], temporal="slow", grey="stretch", noise_frequencies=[1], **GIVEN
)
GROWTH = vpngen.fractal(3, points_per_frame=100, pad=3, **GIVEN)
DOTS = vpngen.fractal(2, points_per_frame=40, trail=4, draw="point", search_seed=0, pad=0, **GIVEN)
MIXTURES = {
    "perlin and fractal": vpngen.mixed(NOISE, GROWTH),
    "stretched between fractals": vpngen.mixed(GROWTH, STRETCHED, DOTS),
    "two perlins": vpngen.mixed(STRETCHED, NOISE),
    "one part": vpngen.mixed(DOTS),
    "twice the same": vpngen.mixed(GROWTH, GROWTH),
    "a mixture with more": vpngen.mixed(vpngen.mixed(NOISE, GROWTH), vpngen.mixed(STRETCHED)),
}
each_mixture = pytest.mark.parametrize("spec", MIXTURES.values(), ids=list(MIXTURES))


def parts(spec: Spec) -> tuple[Generator, ...]:
    assert isinstance(spec.generator, Mixed)
    return spec.generator.parts


def own_rows(spec: Spec, index: int, split: str = "train") -> tuple[int, Generator, Params]:
    """The part of a video, its generator, and the row that this makes for the key, category and instance of the video."""
    label, number = index % spec.n_categories, 0
    while label >= parts(spec)[number].n_categories:
        label -= parts(spec)[number].n_categories
        number += 1
    keys = rng.video_keys(spec.seed, spec.split_id(split), np.array([index]), spec.format_version)
    part = parts(spec)[number]
    return number, part, part.params(spec.shape, keys, np.array([label]), np.array([index // spec.n_categories]))


@functools.cache
def own_pixels(spec: Spec, index: int, split: str = "train") -> npt.NDArray[np.uint8]:
    """A video as its part alone renders it."""
    _, part, row = own_rows(spec, index, split)
    backend, out = backends.load("reference"), np.empty((1, *spec.shape), np.uint8)
    if part.needs_extremes:
        row = part.with_extremes(row, *backend.extremes(part.name, row, spec.shape, 1))
    backend.render(part.name, row, np.array([[0, 1, 0, 0, 0]], np.int32), out, 1)
    return out[0]


# --- labels and categories


@each_mixture
def test_labels_are_those_of_the_parts_one_after_the_other(spec: Spec) -> None:
    assert spec.n_categories == sum(part.n_categories for part in parts(spec))
    label = 0
    for number, part in enumerate(parts(spec)):
        for i in range(part.n_categories):
            assert spec.category(label) == (number, *part.category(i))
            assert spec.category_id((number, *part.category(i))) == label
            label += 1
    everyone = np.arange(spec.n_videos())
    assert np.array_equal(spec.labels(everyone), everyone % label)
    assert np.array_equal(spec.params(everyone)["part"][:label], [spec.category(i)[0] for i in range(label)])


def test_a_label_or_category_that_is_not_there() -> None:
    spec = MIXTURES["stretched between fractals"]
    for label in (7, -1, True, 1.0, None, "0"):
        with pytest.raises(ArgumentError, match=r"`category_id` \(=.*from 0 to 6"):
            spec.category(label)  # type: ignore[arg-type]
    for category in ((3, 0), (-1, 0), (0,), (), None, 0, "00", ("0", 0), (None, 0), (True, 0), (0.0, 1), [0, 1]):
        with pytest.raises(ArgumentError, match=r"`category` \(=.*number of the part"):
            spec.category_id(category)  # type: ignore[arg-type]
    for category in ((0, 3), (0, 0, 0), (1, 3, 2, 15), (2, True)):
        with pytest.raises(ArgumentError, match="`category"):
            spec.category_id(category)
    assert spec.category_id((np.int64(1), 3, 2, 16)) == 3


# --- rows


@each_mixture
def test_rows_hold_those_of_the_parts(spec: Spec) -> None:
    for split in spec.splits:
        everyone = np.arange(spec.n_videos(split))
        rows = spec.params(everyone, split)
        for index in everyone:
            number, part, expected = own_rows(spec, int(index), split)
            mine = rows[index : index + 1]
            assert mine["part"] == number and mixed.kinds()[int(mine["kind"][0])] is type(part)
            assert mixed.unpack(mine, type(part)).tobytes() == expected.tobytes()
            assert not mine.tobytes()[16 + expected.dtype.itemsize :].strip(b"\0")
        Mixed.check_params(rows)


@given(data=st.data())
@brief
def test_rows_are_packed_and_unpacked(data: st.DataObject) -> None:
    spec = data.draw(SPECS["mixed"])
    everyone = np.array(data.draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=12)))
    rows = spec.params(everyone)
    again, seen = np.zeros_like(rows), np.zeros(len(rows), int)
    again["kind"], again["part"] = rows["kind"], rows["part"]
    for kind, which, theirs in mixed.split(rows):
        assert theirs.dtype == kind.params_dtype and theirs.flags.c_contiguous and (np.diff(which) > 0).all()
        mixed.pack(again, which, theirs)
        seen[which] += 1
    assert (seen == 1).all() and again.tobytes() == rows.tobytes()


def test_every_kind_fits_a_row() -> None:
    assert mixed.kinds()[:2] == [Perlin, Fractal]  # a row holds the place in this list: stores have it
    assert all(kind.params_dtype.itemsize <= mixed.MOST_BYTES for kind in mixed.kinds())
    assert Mixed.params_dtype.itemsize == 272 and Mixed.params_dtype.fields is not None
    assert [Mixed.params_dtype.fields[name][1] for name in ("kind", "part", "reserved", "row")] == [0, 4, 8, 16]


@each_mixture
def test_parameters_are_those_of_the_parts(spec: Spec) -> None:
    everyone = np.arange(spec.n_videos())
    found = spec.parameters(everyone)
    names = [part.name for part in parts(spec)]
    assert found["part"].values.tolist() == [spec.category(int(c))[0] for c in spec.labels(everyone)]
    for number, part in enumerate(parts(spec)):
        prefix = part.name if names.count(part.name) == 1 else f"{part.name}_{number}"
        theirs = {name for name in found if name.startswith(f"{prefix}_")}
        assert theirs
        for index in everyone:
            of, _, row = own_rows(spec, int(index))
            for name, (values, dims, about) in part.parameters(spec.shape, row).items() if of == number else ():
                parameter = found[f"{prefix}_{name}"]
                assert np.array_equal(parameter.values[index], values[0]) and values.dtype == parameter.values.dtype
                assert (parameter.dims, parameter.about) == (dims, about)
        for name in theirs:
            assert not found[name].values[found["part"].values != number].any()


# --- pixels


@pytest.mark.parametrize("backend", BOTH)
@each_mixture
def test_a_batch_of_all_kinds_is_what_the_parts_render(spec: Spec, backend: str) -> None:
    for split in spec.splits:
        indices = np.random.default_rng(0).permutation(spec.n_videos(split))[:12]
        expected = np.stack([own_pixels(spec, int(index), split) for index in indices])
        for threads in (1, 3):
            batch = vpngen.render(spec, indices, split=split, backend=backend, threads=threads)
            np.testing.assert_array_equal(batch, expected)
    one = vpngen.render(spec, int(indices[0]), split=split, backend=backend)
    np.testing.assert_array_equal(one, batch[0])


@given(data=st.data())
@brief
def test_windows_of_all_kinds(data: st.DataObject) -> None:
    spec = MIXTURES["stretched between fractals"]
    indices = data.draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=9))
    clips = data.draw(alike_windows(spec.shape, len(indices)))
    out = np.full((len(indices), *clips[0].pack(SHAPE)[1]), 77, np.uint8)
    vpngen.render(spec, indices, clips, backend="numba", threads=2, out=out)
    for index, clip, part in zip(indices, clips, out, strict=True):
        np.testing.assert_array_equal(part, clip.of(vpngen.render(spec, index, backend="numba")))


@each_mixture
def test_whole_videos_in_order(spec: Spec) -> None:
    indices = np.array([0, 1, 6, 2, 2, 3, 9, 0]) % spec.n_videos()
    for name in BOTH:
        backend = backends.load(name)
        rows = completed(spec, spec.params(indices), backend, 1)
        for index, video in zip(indices, videos(backend, "mixed", rows, spec.shape, 1), strict=True):
            np.testing.assert_array_equal(video, own_pixels(spec, int(index)))


def test_completing_rows_touches_what_is_stretched_alone() -> None:
    spec = MIXTURES["stretched between fractals"]
    assert spec.generator.needs_extremes and not MIXTURES["perlin and fractal"].generator.needs_extremes
    rows = spec.params(np.arange(spec.n_videos()))
    before = rows.tobytes()
    found = completed(spec, rows, backends.load("numba"), 2)
    assert rows.tobytes() == before
    changed = np.array([a.tobytes() != b.tobytes() for a, b in zip(rows, found, strict=True)])
    assert np.array_equal(changed, rows["part"] == 1)
    assert found.tobytes() == completed(spec, rows, backends.load("reference"), 1).tobytes()
    pixels = vpngen.render(spec, np.flatnonzero(changed), backend="numba")
    assert (pixels.min(axis=(1, 2, 3)) == 0).all() and (pixels.max(axis=(1, 2, 3)) == 255).all()


def test_a_batch_of_one_kind_is_rendered_straight_into_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, backend = MIXTURES["perlin and fractal"], backends.load("numba")
    seen: list[tuple[str, int, bool]] = []
    out = np.empty((4, *SHAPE), np.uint8)
    real = type(backend).render

    def render(self: Any, generator: str, rows: Params, windows: Any, target: Any, threads: Any) -> None:
        seen.append((generator, len(rows), target is out))
        real(self, generator, rows, windows, target, threads)

    monkeypatch.setattr(type(backend), "render", render)
    whole = np.tile(np.array([[0, 1, 0, 0, 0]], np.int32), (4, 1))
    for indices, expected in (
        ([0, 1, 7, 8], [("perlin", 4, True)]),
        ([4, 5, 6, 11], [("fractal", 4, True)]),
        ([4, 0, 5, 1], [("perlin", 2, False), ("fractal", 2, False)]),
    ):
        seen.clear()
        paint(backend, "mixed", spec.params(indices), whole, out, 1)
        assert seen == expected


# --- stores


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["perlin and fractal", "stretched between fractals"])
def test_stores_of_mixtures(name: str, codec: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(MIXTURES[name], instances=2, val_instances=1)
    write(spec, tmp_path / "set.zarr", codec=codec)
    write(spec, tmp_path / "again.zarr", codec=codec, backend="numba", threads=2)
    assert tree(tmp_path / "set.zarr") == tree(tmp_path / "again.zarr")
    for split in spec.splits:
        view = vpngen.open(tmp_path / "set.zarr", split)
        assert view.spec == spec and view.finished()
        for index in range(spec.n_videos(split)):
            np.testing.assert_array_equal(view.video[index], own_pixels(spec, index, split))
        indices = np.arange(spec.n_videos(split))
        np.testing.assert_array_equal(view.label[...], spec.labels(indices))
        for parameter, (values, _, _) in spec.parameters(indices, split).items():
            np.testing.assert_array_equal(view.parameters[parameter][...], values)
    assert vpngen.verify(tmp_path / "set.zarr", backend="numba", render=True, threads=1).problems == ()


def test_a_store_that_is_nowhere() -> None:
    spec = MIXTURES["stretched between fractals"]
    view = vpngen.open(spec)
    for index in (0, 3, 5, spec.n_videos() - 1):
        np.testing.assert_array_equal(view.video[index, 2:9, 3:, ::5], own_pixels(spec, index)[2:9, 3:, ::5])


# --- the value


@each_mixture
def test_json_both_ways(spec: Spec) -> None:
    fields = json.loads(spec.to_json())
    assert [part["name"] for part in fields["generator"]["parts"]] == [part.name for part in parts(spec)]
    again = Spec.from_json(spec.to_json())
    assert again == spec and hash(again) == hash(spec) and again.fingerprint == spec.fingerprint
    window = Window(t=(3, 5))
    np.testing.assert_array_equal(vpngen.render(again, 4, window), vpngen.render(spec, 4, window))


def test_the_order_of_parts_is_in_the_fingerprint() -> None:
    assert len({spec.fingerprint for spec in MIXTURES.values()}) == len(MIXTURES)
    assert vpngen.mixed(GROWTH, NOISE).fingerprint != MIXTURES["perlin and fractal"].fingerprint
    assert vpngen.mixed(NOISE).fingerprint != NOISE.fingerprint


def test_a_mixture_of_mixtures_is_flat() -> None:
    assert MIXTURES["a mixture with more"] == vpngen.mixed(NOISE, GROWTH, STRETCHED)


@pytest.mark.parametrize(
    ("field", "value"),
    [("instances", 6), ("val_instances", 0), ("shape", (24, 36, 48)), ("seed", 12)],
)
def test_specs_that_differ_cannot_be_mixed(field: str, value: Any) -> None:
    other = dataclasses.replace(GROWTH, **{field: value})
    with pytest.raises(ArgumentError) as caught:
        vpngen.mixed(NOISE, NOISE, other)
    for word in (f"`{field}`", "spec 2", str(value), str(getattr(NOISE, field)), "spec 0"):
        assert word in str(caught.value)


def test_what_is_no_spec_cannot_be_mixed() -> None:
    for specs in ((), (NOISE, GROWTH.generator), (None,), ([NOISE, GROWTH],)):
        with pytest.raises(ArgumentError, match="`specs` must be one spec or more"):
            vpngen.mixed(*specs)  # type: ignore[arg-type]
    for given_parts in ((), (MIXTURES["one part"].generator,), [NOISE.generator], (NOISE,), None, (NOISE.generator, 3)):
        with pytest.raises(ArgumentError, match=f"`parts` must be a list of {NAMES} generators"):
            Mixed(given_parts)  # type: ignore[arg-type]


def test_a_shape_must_suit_all_parts() -> None:
    with pytest.raises(ArgumentError, match="40"):
        dataclasses.replace(MIXTURES["perlin and fractal"], shape=(20, 36, 40))
    with pytest.raises(ArgumentError, match=r"`pad` \(=3\)"):
        dataclasses.replace(MIXTURES["perlin and fractal"], shape=(20, 4, 48))


GOOD = MIXTURES["perlin and fractal"].to_dict()


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ({}, "`parts`, a list, and nothing else"),
        ({"parts": {}}, "`parts`, a list"),
        ({"parts": None}, "`parts`, a list"),
        ({"parts": [], "more": 1}, "`parts`, a list, and nothing else.*more"),
        ({"parts": []}, f"`parts` must be a list of {NAMES} generators"),
        ({"parts": [3]}, f"`generator` .=3. must have the name of {NAMES}"),
        ({"parts": [{"name": "worley"}]}, "`generator` .='worley'. must have the name of"),
        ({"parts": [{"name": ["perlin"]}]}, f"must have the name of {NAMES}"),
        ({"parts": [{"name": "mixed", "parts": []}]}, "`generator` .='mixed'. must have the name of"),
        ({"parts": [{"name": "perlin"}]}, "divisions_x"),
        ({"parts": [{**GOOD["generator"]["parts"][1], "trail": -1}]}, "`trail`"),
    ],
    ids=str,
)
def test_json_that_is_no_mixture(generator: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        Spec.from_dict({**GOOD, "generator": {"name": "mixed", **generator}})


def test_hostile_rows_are_refused() -> None:
    rows = MIXTURES["perlin and fractal"].params(np.arange(7))
    Mixed.check_params(rows)
    for kind in (-1, len(kinds()), 2**31 - 1):
        bad = rows.copy()
        bad["kind"][6] = kind
        with pytest.raises(ArgumentError, match="of kind"):
            Mixed.check_params(bad)
    for index in (0, 6):  # the row of one kind under the name of another, or of none
        bad = rows.copy()
        bad["kind"][index] = 1 - bad["kind"][index]
        with pytest.raises(ArgumentError):
            Mixed.check_params(bad)
        bad = rows.copy()
        bad["row"][index] = b""
        with pytest.raises(ArgumentError):
            Mixed.check_params(bad)

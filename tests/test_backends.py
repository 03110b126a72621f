"""One suite over backend x generator: the byte contract. A new backend or generator adds no test here.

A new generator adds its specs to `strategies.py`; a new backend adds nothing. The golden digests are in `golden.json`;
`python tests/test_backends.py` prints what this tree renders, in the same form, and writes no file. A digest that
changes is a new format version, not a new line in that file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SPECS, alike_windows, brief, thorough, windows

import vpngen
from vpngen import ArgumentError, MissingError, Spec, Window, backends, rendering
from vpngen.backends import BACKENDS, Backend
from vpngen.generators import GENERATORS, Mixed, drift, fractal, perlin
from vpngen.spec import SPLITS

Pixels = npt.NDArray[np.uint8]
GOLDEN = Path(__file__).with_name("golden.json")
SLOW_PIXELS = 400_000
"""Golden videos larger than this are left to the fast backends; the reference is compared with parts of such videos."""


def runs_here(name: str) -> bool:
    try:
        return bool(backends.choose(name))
    except MissingError:
        return False


HERE = [name for name in BACKENDS if runs_here(name)]
"""The backends of this machine. What can be proven of `cuda` without a card is in test_cuda.py."""


@pytest.fixture(scope="module", params=HERE)
def backend(request: pytest.FixtureRequest) -> str:
    """Any backend."""
    return str(request.param)


@pytest.fixture(scope="module", params=[name for name in HERE if name != "reference"])
def rival(request: pytest.FixtureRequest) -> str:
    """Any backend but the reference, to compare with it."""
    return str(request.param)


@pytest.fixture(scope="module", params=sorted(set(GENERATORS) - {Mixed.name}))
def formulas(request: pytest.FixtureRequest) -> st.SearchStrategy[Spec]:
    """The specs of one generator that is no mixture of others."""
    return SPECS[request.param]


@pytest.fixture(scope="module", params=sorted(GENERATORS))
def specs(request: pytest.FixtureRequest) -> st.SearchStrategy[Spec]:
    """The specs of one generator."""
    return SPECS[request.param]


def an_index(data: st.DataObject, spec: Spec) -> int:
    return data.draw(st.integers(0, spec.n_videos() - 1), label="index")


def some_indices(data: st.DataObject, spec: Spec, most: int = 4) -> list[int]:
    return data.draw(st.lists(st.integers(0, spec.n_videos() - 1), min_size=1, max_size=most), label="indices")


def reference(spec: Spec, index: Any, window: Any = None, **options: Any) -> Pixels:
    return vpngen.render(spec, index, window, backend="reference", **options)


def digest(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()


# --- the byte contract


@thorough
@given(data=st.data())
def test_bytes_are_those_of_the_reference(rival: str, formulas: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(formulas)
    index = an_index(data, spec)
    video = vpngen.render(spec, index, backend=rival, threads=1)
    assert video.shape == spec.shape and video.dtype == np.uint8
    assert np.array_equal(video, reference(spec, index))


@brief
@given(data=st.data())
def test_val_is_rendered_alike(rival: str, specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(specs.filter(lambda spec: spec.val_instances > 0))
    index = data.draw(st.integers(0, spec.n_videos("val") - 1))
    video = vpngen.render(spec, index, split="val", backend=rival, threads=1)
    assert np.array_equal(video, reference(spec, index, split="val"))


@thorough
@given(data=st.data())
def test_a_window_is_a_slice(rival: str, formulas: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(formulas)
    index = an_index(data, spec)
    whole = vpngen.render(spec, index, backend=rival, threads=1)
    for window in data.draw(st.lists(windows(spec.shape), min_size=1, max_size=4)):
        part = vpngen.render(spec, index, window, backend=rival, threads=1)
        assert np.array_equal(part, window.of(whole)), window


@given(data=st.data())
def test_a_window_of_the_reference_is_a_slice(formulas: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(formulas)
    index, window = an_index(data, spec), data.draw(windows(spec.shape))
    assert np.array_equal(reference(spec, index, window), window.of(reference(spec, index)))


@given(data=st.data())
def test_a_batch_is_its_videos(rival: str, specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(specs)
    indices = some_indices(data, spec)
    clips = data.draw(alike_windows(spec.shape, len(indices)))
    batch = vpngen.render(spec, indices, clips, backend=rival, threads=1)
    for index, clip, rendered in zip(indices, clips, batch, strict=True):
        assert np.array_equal(rendered, vpngen.render(spec, index, clip, backend=rival, threads=1))
        assert np.array_equal(rendered, clip.of(reference(spec, index)))
    shared = vpngen.render(spec, indices, clips[0], backend=rival, threads=1)
    assert np.array_equal(shared, vpngen.render(spec, indices, [clips[0]] * len(indices), backend=rival, threads=1))


@settings(max_examples=max(1, settings().max_examples // 5))
@given(data=st.data())
def test_a_batch_of_the_reference_is_its_videos(specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(specs)
    indices = some_indices(data, spec, most=3)
    clips = data.draw(alike_windows(spec.shape, len(indices)))
    for index, clip, rendered in zip(indices, clips, reference(spec, indices, clips), strict=True):
        assert np.array_equal(rendered, clip.of(reference(spec, index)))


@brief
@given(data=st.data())
def test_threads_change_nothing(rival: str, specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(specs)
    indices = some_indices(data, spec, most=7)
    once = vpngen.render(spec, indices, backend=rival, threads=1)
    for threads in (2, 3, None):
        assert np.array_equal(vpngen.render(spec, indices, backend=rival, threads=threads), once)


@brief
@given(data=st.data())
def test_history_changes_nothing(rival: str, specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec, other = data.draw(specs), data.draw(specs)
    index = an_index(data, spec)
    before = vpngen.render(spec, index, backend=rival, threads=1)
    vpngen.render(other, 0, backend=rival, threads=1)
    assert np.array_equal(vpngen.render(spec, index, backend=rival, threads=1), before)


@given(data=st.data())
def test_out_is_filled_and_nothing_beside_it(rival: str, specs: st.SearchStrategy[Spec], data: st.DataObject) -> None:
    spec = data.draw(specs)
    indices = some_indices(data, spec)
    window = data.draw(windows(spec.shape))
    expected = vpngen.render(spec, indices, window, backend=rival, threads=1)
    margin, guard = 256, data.draw(st.integers(0, 255))
    for single in (True, False):
        wanted = expected[0] if single else expected
        memory = np.full(wanted.size + 2 * margin, guard, np.uint8)
        out = memory[margin:-margin].reshape(wanted.shape)
        got = vpngen.render(spec, indices[0] if single else indices, window, backend=rival, threads=1, out=out)
        assert got is out and np.array_equal(out, wanted)
        assert (memory[:margin] == guard).all() and (memory[-margin:] == guard).all()


@given(data=st.data())
def test_extremes_are_those_of_the_reference(rival: str, data: st.DataObject) -> None:
    spec = data.draw(SPECS["perlin"])
    spec = dataclasses.replace(spec, generator=dataclasses.replace(spec.generator, grey="stretch"))
    rows = spec.params(some_indices(data, spec))
    low, high = backends.choose(rival).extremes(spec.generator.name, rows, spec.shape, 1)
    least, most = backends.choose("reference").extremes(spec.generator.name, rows, spec.shape, 1)
    assert low.dtype == high.dtype == np.float32 and (low <= high).all()
    assert np.array_equal(low, least) and np.array_equal(high, most)


def test_slow_videos_are_stretched_alike(rival: str) -> None:
    """Two frames of a period of D: the contrast is so small beside the level that float32 has few bits for it."""
    for d in (100, 1_000, 10_000, 65_536):
        spec = vpngen.perlin(
            instances=50, divisions_x=[1], divisions_y=[1], temporal=d, shape=(2, 1, 1), phase="centre", grey="stretch",
            noise_terms=0,
        )  # fmt: skip
        everyone = np.arange(50)
        assert np.array_equal(vpngen.render(spec, everyone, backend=rival, threads=1), reference(spec, everyone)), d


@pytest.mark.parametrize("d", [3, 4, 7, 8, 16])
def test_videos_of_rounding_errors_are_stretched_alike(rival: str, d: int) -> None:
    """W = H = width leaves the temporal gradients, which a linear loop of one lattice plane cancels but for rounding."""
    spec = vpngen.perlin(
        instances=4, divisions_x=[24], divisions_y=[24], temporal=d, shape=(16, 24, 24), loop=True, fade="linear",
        grey="stretch", noise_terms=0,
    )  # fmt: skip
    everyone = np.arange(4)
    assert np.array_equal(vpngen.render(spec, everyone, backend=rival, threads=1), reference(spec, everyone))


@pytest.mark.parametrize("noise_terms", [0, 1, 2])
@pytest.mark.parametrize(("frames", "phase"), [(147, "centre"), (166, "centre"), (287, "corner"), (293, "corner")])
def test_frames_whose_fade_is_one(rival: str, frames: int, phase: str, noise_terms: int) -> None:
    """The fade of the last frames of long cells rounds to 1: such a frame has weights on one lattice plane of the term."""
    for unit, temporal in (("period", frames), ("divisions", 1)):
        spec = vpngen.perlin(
            instances=30, divisions_x=[1, 4], divisions_y=[2], temporal=temporal, shape=(frames, 8, 32), phase=phase,
            temporal_unit=unit, noise_terms=noise_terms, noise_frequencies=[1, 8] if unit == "period" else [1],
        )  # fmt: skip
        everyone, last = np.arange(60), Window(t=(frames - 2, frames))
        assert np.array_equal(
            vpngen.render(spec, everyone, last, backend=rival, threads=1), reference(spec, everyone, last)
        )


# --- whole videos of the paper's size

PAPER = vpngen.perlin(400, 2, temporal="full", val_instances=1)


@functools.cache
def paper_video(backend: str, index: int) -> Pixels:
    return vpngen.render(PAPER, index, backend=backend, threads=1)


@pytest.mark.parametrize(
    "category", [(1, 1, 8), (240, 240, 4), (3, 80, 16), (16, 15, 8), (120, 1, 4), (48, 240, 8), (5, 12, 16)], ids=str
)
def test_windows_of_the_paper_s_videos_are_slices(backend: str, category: tuple[int, int, int]) -> None:
    index = PAPER.n_categories + PAPER.category_id(category)
    clips = [
        Window(t=(17, 33), y=(64, 176), x=(64, 176)),
        Window(t=(0, 240, 97), y=(239, 240), x=(1, 240), flip=True),
        Window(t=(233, 240), y=(5, 12), x=(229, 240)),
        Window(t=(90, 139, 7), y=(0, 33), x=(107, 124), flip=True),
    ]
    for clip in clips:
        expected = clip.of(paper_video("numba", index))
        assert np.array_equal(vpngen.render(PAPER, index, clip, backend=backend, threads=1), expected)


@brief
@given(data=st.data())
def test_clips_of_the_paper_s_videos_are_those_of_the_reference(rival: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, PAPER.n_videos() - 1))
    t, y, x = (data.draw(st.integers(0, 240 - size)) for size in (20, 24, 100))
    clip = Window(t=(t, t + 20), y=(y, y + 24), x=(x, x + 100), flip=data.draw(st.booleans()))
    assert np.array_equal(vpngen.render(PAPER, index, clip, backend=rival, threads=1), reference(PAPER, index, clip))


def test_threads_share_a_batch_of_large_videos(backend: str) -> None:
    indices, clip = [0, 399, 570, 1199, 1200, 3], Window(t=(3, 60), y=(40, 64))
    once = vpngen.render(PAPER, indices, clip, backend=backend, threads=1)
    assert digest(vpngen.render(PAPER, indices, clip, backend=backend, threads=4)) == digest(once)


@pytest.mark.parametrize("grey", ["fixed", "stretch"])
@pytest.mark.parametrize("videos", [1, 3, 7, 200])
def test_threads_share_any_number_of_videos(rival: str, videos: int, grey: str) -> None:
    """However the work is cut: few videos in small pieces, many in runs."""
    spec = vpngen.perlin(
        instances=50, divisions_x=[2, 5], divisions_y=[1, 2], shape=(100, 2, 10), noise_frequencies=[1, 2], grey=grey
    )
    indices = np.arange(videos)
    once = vpngen.render(spec, indices, backend=rival, threads=1)
    for threads in (2, 3, 8):
        assert np.array_equal(vpngen.render(spec, indices, backend=rival, threads=threads), once)


def test_several_python_threads_may_render_at_once(backend: str) -> None:
    clip = Window(t=(0, 32), y=(0, 32), x=(0, 96))
    expected = [vpngen.render(PAPER, i, clip, backend=backend, threads=1) for i in range(8)]
    barrier = threading.Barrier(4)

    def work(first: int) -> list[Pixels]:
        barrier.wait(timeout=60)
        return [vpngen.render(PAPER, i, clip, backend=backend, threads=2) for i in range(first, 8, 4)]

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(work, range(4)))
    for i in range(8):
        assert np.array_equal(parts[i % 4][i // 4], expected[i])


def test_every_index_type_names_the_same_video(backend: str) -> None:
    clip = Window(t=(0, 2), y=(0, 8))
    expected = vpngen.render(PAPER, 7, clip, backend=backend)
    for index in (np.int64(7), np.uint8(7), np.array(7)):
        assert np.array_equal(vpngen.render(PAPER, index, clip, backend=backend), expected)
    for several in ([7], (7,), np.array([7], np.uint16), range(7, 8)):
        batch = vpngen.render(PAPER, several, clip, backend=backend)
        assert batch.shape == (1, 2, 8, 240) and np.array_equal(batch[0], expected)


def test_an_empty_batch_is_an_empty_array(backend: str) -> None:
    nobody = np.empty(0, np.int64)
    assert vpngen.render(PAPER, nobody, backend=backend).shape == (0, 240, 240, 240)
    assert vpngen.render(PAPER, nobody, Window(t=(0, 5)), backend=backend).shape == (0, 5, 240, 240)


# --- choosing a backend


FIRST = next(name for name in BACKENDS if runs_here(name))


def test_auto_is_the_first_backend_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {backends.Auto(devices=True).of(name).name for name in ("perlin", "fractal")} == {FIRST}
    assert isinstance(backends.load("cpu"), backends.Auto) and not backends.load("cpu").devices
    monkeypatch.setattr(backends, "WITH_DEVICES", ("cuda", "numba"))
    assert backends.Auto(devices=False).of("perlin").name == "reference"


@pytest.fixture
def broken_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend, first in the list, whose package is not installed."""
    monkeypatch.setattr(backends, "BACKENDS", {"broken": "vpngen_has_no_such_package.backend:Broken", **BACKENDS})
    return "broken"


def test_a_missing_backend_is_an_error_with_advice_and_auto_goes_on_to_the_next(broken_backend: str) -> None:
    with pytest.raises(MissingError, match=r"'broken'.*vpngen_has_no_such_package.*pip install") as caught:
        vpngen.render(PAPER, 0, Window(t=(0, 1)), backend=broken_backend)
    assert caught.value.exit_code == 4
    assert backends.Auto(devices=True).of("perlin").name == FIRST


class Rising:
    """As much of a generator as a backend sees: pixels that say where they are."""

    name = "rising"

    @classmethod
    def members(cls) -> list[tuple[int, Any]]:
        return [(0, perlin.Perlin), (7, cls)]

    @staticmethod
    def reference(row: Any, t: Any, y: Any, x: Any) -> npt.NDArray[np.float32]:
        return (row["start"] + 9 * t[:, None, None] + 4 * y[:, None] + x).astype(np.float32) + np.float32(0.5)


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Params of a generator that no backend but the reference knows."""
    monkeypatch.setitem(GENERATORS, Rising.name, Rising)  # type: ignore[arg-type]
    backends._fastest.cache_clear()
    yield np.array([(20,), (3,)], [("start", "<i4")])
    backends._fastest.cache_clear()


WINDOWS = np.array([[2, 3, 1, 4, 0], [0, 1, 0, 2, 1]], np.int32)


def rendered(backend: Backend, rows: Any, threads: int | None = 1) -> Pixels:
    out = np.zeros((2, 4, 3, 5), np.uint8)
    backend.render(Rising.name, rows, WINDOWS, out, threads)
    return out


def test_a_generator_that_has_only_its_reference(rising: Any) -> None:
    auto = backends.choose("auto", Rising)  # type: ignore[arg-type]
    expected = rendered(backends.load("reference"), rising)
    assert expected[0, 1, 2, 3] == 20 + 9 * 5 + 4 * 3 + 7 and expected[1, 0, 0].tolist() == [9, 8, 7, 6, 5]
    assert np.array_equal(rendered(auto, rising), expected)
    assert np.array_equal(next(auto.videos(Rising.name, rising, (4, 3, 5), 1))[0, 0], np.arange(20, 25))
    low, high = auto.extremes(Rising.name, rising, (40, 3, 5), 1)
    assert low.tolist() == [20.5, 3.5] and high.tolist() == [383.5, 366.5]
    for use in (
        lambda: backends.choose("numba", Rising),  # type: ignore[arg-type]
        lambda: rendered(backends.load("numba"), rising),
        lambda: backends.load("numba").extremes(Rising.name, rising, (4, 3, 5), 1),
    ):
        with pytest.raises(MissingError, match=r"'numba' does not have the rising generator.*auto.*reference"):
            use()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("divisible", [True, False])
def test_kernels_are_found_by_the_name_of_their_generator(
    rising: Any, monkeypatch: pytest.MonkeyPatch, divisible: bool, threads: int
) -> None:
    """Each task of a batch is done once, and none by the reference."""
    expected, done = rendered(backends.load("reference"), rising), []

    def render(rows: Any, windows: Any, out: Any, extent: Any, size: int, first: int, last: int) -> None:
        done.extend(range(first, last))
        blocks, target = -(-extent[0] // size), out.reshape(len(rows), *extent)
        for n, block in (divmod(task, blocks) for task in range(first, last)):
            frames = slice(block * size, (block + 1) * size)
            target[n, frames] = expected[n, frames]

    kernels = SimpleNamespace(BLOCK=3, DIVISIBLE=divisible, render=render)
    monkeypatch.setitem(sys.modules, "vpngen.backends.numba_rising", kernels)  # type: ignore[arg-type]
    monkeypatch.delattr(Rising, "reference")
    backend = backends.choose("auto", Rising)  # type: ignore[arg-type]
    assert np.array_equal(rendered(backend, rising, threads), expected)
    assert sorted(done) == list(range(8 if divisible and threads != 1 else 4))
    with pytest.raises(MissingError, match="'numba' has no extremes of the rising generator"):
        backend.extremes(Rising.name, rising, (4, 3, 5), 1)


def test_an_unknown_backend_is_an_argument_error() -> None:
    with pytest.raises(ArgumentError, match=r"`backend` \(='cobol'\) must be auto or one of cuda, numba, reference"):
        backends.choose("cobol")


def test_backends_say_their_name(backend: str) -> None:
    chosen = backends.choose(backend)
    assert isinstance(chosen, Backend) and chosen.name == backend


@given(data=st.data())
def test_a_window_is_what_numpy_would_cut(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 30)] * 3))
    window = data.draw(windows(shape))
    video = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    t, y, x = (slice(*(span or (None,))) for span in (window.t, window.y, window.x))
    cut = video[t, y, x][:, :, :: -1 if window.flip else 1]
    assert np.array_equal(window.of(video), cut)
    assert window.pack(shape)[1] == cut.shape


def test_packed_windows_are_in_the_documented_order() -> None:
    window = Window(t=(3, 9, 2), y=(4, 6), x=(5, 40), flip=True)
    assert rendering.WINDOW_FIELDS == ("t0", "step", "y0", "x0", "flip")
    assert window.pack((10, 20, 50)) == ((3, 2, 4, 5, 1), (3, 2, 35))
    assert Window().pack((10, 20, 50)) == ((0, 1, 0, 0, 0), (10, 20, 50))


# --- golden digests


def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(GOLDEN.read_text())
    return loaded


def golden_videos(most_pixels: float = float("inf")) -> list[Any]:
    """(spec, split, index, sha256) of the golden videos up to that size."""
    found = []
    for name, entry in golden().items():
        spec = Spec.from_dict(entry["spec"])
        if spec.video_bytes <= most_pixels:
            found += [
                pytest.param(spec, split, index, sha, id=f"{name}-{split}-{index}")
                for split, index, sha in entry["sha256"]
            ]
    return found


@pytest.mark.parametrize(("spec", "split", "index", "sha256"), golden_videos())
def test_golden_digest(rival: str, spec: Spec, split: str, index: int, sha256: str) -> None:
    assert digest(vpngen.render(spec, index, split=split, backend=rival, threads=1)) == sha256


@pytest.mark.parametrize(("spec", "split", "index", "sha256"), golden_videos(SLOW_PIXELS))
def test_golden_digest_of_the_reference(spec: Spec, split: str, index: int, sha256: str) -> None:
    assert digest(reference(spec, index, split=split)) == sha256


def test_golden_digests_cover_every_choice() -> None:
    """Each allowed value of each choice, both splits, and the paper's own size."""
    specs = [Spec.from_dict(entry["spec"]) for entry in golden().values()]
    assert {spec.generator.name for spec in specs} == set(GENERATORS)
    assert {video.values[1] for video in golden_videos()} == set(SPLITS)
    assert any(spec.shape == (240, 240, 240) for spec in specs)
    ours = [spec.generator for spec in specs if isinstance(spec.generator, perlin.Perlin)]
    for field, allowed in {
        "temporal_unit": perlin.UNITS, "gradients": perlin.GRADIENTS, "fade": perlin.FADES, "phase": perlin.PHASES,
        "grey": perlin.GREYS, "loop": (True, False), "noise_terms": (0, 1, 2),
    }.items():  # fmt: skip
        assert {getattr(generator, field) for generator in ours} == set(allowed), field
    theirs = [spec.generator for spec in specs if isinstance(spec.generator, fractal.Fractal)]
    assert any(spec.shape == (100, 362, 362) and spec.instances == 1000 for spec in specs)
    for field, allowed in {
        "draw": fractal.DRAWS,
        "grey": fractal.GREYS,
        "flips": (True, False),
        "trail": (0, 5, 10, 254),
    }.items():
        assert {getattr(generator, field) for generator in theirs} == set(allowed), field
    assert {bool(generator.table) for generator in theirs} == {True, False}
    moved = [spec.generator for spec in specs if isinstance(spec.generator, drift.Drift)]
    assert {(generator.motions, generator.grey) for generator in moved} == {
        ("affine", "random"),
        ("directions", "fixed"),
    }
    (mixture,) = (spec.generator for spec in specs if isinstance(spec.generator, Mixed))
    assert {type(part) for part in mixture.parts} == {perlin.Perlin, fractal.Fractal}


def print_golden() -> None:
    """Print golden.json as this tree would have it; nothing is written."""
    entries = []
    for name, entry in golden().items():
        spec = Spec.from_dict(entry["spec"])
        videos = [[split, i, digest(vpngen.render(spec, i, split=split))] for split, i, _ in entry["sha256"]]
        lines = ",\n".join(f"   {json.dumps(video)}" for video in videos)
        entries.append(f' "{name}": {{\n  "spec": {spec.to_json()},\n  "sha256": [\n{lines}\n  ]\n }}')
    print("{\n" + ",\n".join(entries) + "\n}")


if __name__ == "__main__":
    print_golden()


@pytest.mark.parametrize("t", [(0, 5, 2), (1, 6, 2), (0, 7, 3), (2, 3, 9), (0, 8, 8)])
def test_a_stepped_window_is_the_slice_of_python(t: tuple[int, int, int]) -> None:
    video = np.arange(8 * 3 * 4, dtype=np.uint8).reshape(8, 3, 4)
    assert np.array_equal(Window(t).of(video), video[t[0] : t[1] : t[2]])
    assert np.array_equal(Window(t, flip=True).of(video), video[t[0] : t[1] : t[2], :, ::-1])

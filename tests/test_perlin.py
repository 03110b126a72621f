"""The Perlin formula: its arithmetic, an outside check against perlin-numpy, and what rendered videos look like in numbers."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st
from perlin_numpy import generate_perlin_noise_3d
from scipy import stats

import vpngen
from vpngen import Spec, Window, rng
from vpngen.backends import numba_perlin, simd
from vpngen.generators import perlin
from vpngen.generators.perlin import DIVISIONS, Perlin

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Triples = tuple[F32, F32, F32]

UNLIKELY = 1e-5
"""A test of randomness fails below this p-value. The draws are fixed numbers, so it passes always or never."""
GRIDS = st.sampled_from((1, 2, 4, 8))
"""Cell sizes for which the float64 grid of perlin-numpy is exact."""


# --- fused multiply-add


def nearest_float32(exact: Fraction) -> float:
    """`exact` rounded to the nearest float32, ties to even, in integers."""
    if not exact:
        return 0.0
    exponent = abs(exact).numerator.bit_length() - abs(exact).denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, -126) - 23)
    return float(round(exact / step) * step)


def random_triples(n: int, seed: int, spread: int) -> Triples:
    """a, b, c of random sign and bits, where c is up to 2**spread times larger or smaller than a b."""
    source = np.random.default_rng(seed)

    def floats(exponents: npt.NDArray[np.int64]) -> F32:
        mantissa = source.choice([-1, 1], n) * source.integers(2**23, 2**24, n)
        return np.ldexp(mantissa.astype(np.float64), exponents - 23).astype(np.float32)

    ea, eb = source.integers(-20, 20, (2, n))
    return floats(ea), floats(eb), floats(ea + eb + source.integers(-spread, spread, n))


def adversarial_triples(n: int, seed: int) -> Triples:
    """a b is half a unit in the last place of c, but for a part that float64 cannot hold beside c."""
    source = np.random.default_rng(seed)
    i = source.integers(1, 300, n)  # (1 + i / 2**23) (1 - i / 2**23) = 1 - i**2 / 2**46
    exponent = source.integers(-60, 60, n)
    half = np.ldexp(source.choice([-1.0, 1.0], n), exponent - 24)
    a, b = 1 + i / 2**23, (1 - i / 2**23) * half
    c = np.ldexp(source.choice([-1, 1], n) * source.integers(2**23, 2**24, n).astype(np.float64), exponent - 23)
    return a.astype(np.float32), b.astype(np.float32), c.astype(np.float32)


def twice_rounded(a: F32, b: F32, c: F32) -> F32:
    """The multiply-add that a reader would write first."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


def exactly(a: F32, b: F32, c: F32) -> F32:
    """a b + c by rational arithmetic."""
    triples = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    return np.array([nearest_float32(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in triples], np.float32)


@numba.njit
def compiled_fma(a: F32, b: F32, c: F32, out: F32) -> None:
    for i in range(len(out)):
        out[i] = simd.fma(a[i], b[i], c[i])


@numba.njit
def compiled_vector_fma(a: F32, b: F32, c: F32, out: F32) -> None:
    for i in range(0, len(out), simd.LANES):
        simd.vstore(out, i, simd.vfma(simd.vload(a, i), simd.vload(b, i), simd.vload(c, i)))


def test_rounding_by_integers_is_that_of_the_machine() -> None:
    source = np.random.default_rng(0)
    numbers = np.concatenate([source.normal(size=300) * 10.0 ** source.integers(-50, 38, 300), [2**-149, 2**-150, 0]])
    with np.errstate(under="ignore"):
        assert [nearest_float32(Fraction(x)) for x in numbers.tolist()] == numbers.astype(np.float32).tolist()


@pytest.mark.parametrize("spread", [2, 30, 60])
def test_fma_is_exact_on_random_numbers(spread: int) -> None:
    triples = random_triples(1000, spread, spread)
    assert np.array_equal(perlin.fma(*triples), exactly(*triples))


def test_fma_is_exact_where_rounding_twice_is_wrong() -> None:
    triples = adversarial_triples(2000, 0)
    exact = exactly(*triples)
    assert (twice_rounded(*triples) != exact).mean() > 0.2
    assert np.array_equal(perlin.fma(*triples), exact)
    # one of them by hand: 1 + 2**-23 + 2**-24 (1 - 2**-46) is just below the middle between two float32 numbers
    a, b, c = (np.float32(v) for v in (1 + 2**-23, (1 - 2**-23) * 2**-24, 1 + 2**-23))
    assert twice_rounded(a, b, c) == np.float32(1 + 2**-22)
    assert perlin.fma(a, b, c) == np.float32(1 + 2**-23)


def test_fma_is_exact_at_the_edges() -> None:
    tiny, top = np.float32(2**-126), np.float32(2**64)
    a = np.array([0, 0, 1, -1, tiny, tiny, tiny, top, 1.5, -1.5, 3], np.float32)
    b = np.array([5, -5, 1, 1, 0.5, -0.75, tiny, 1, tiny, tiny, 2**-149], np.float32)
    c = np.array([0, 7, -1, 1, tiny, tiny, tiny, -top, 2**-149, -(2**-149), 2**-140], np.float32)
    assert perlin.fma(a, b, c).tolist() == exactly(a, b, c).tolist()


@pytest.mark.parametrize("compiled", [compiled_fma, compiled_vector_fma], ids=["fma", "vfma"])
def test_fma_of_the_kernel_is_that_of_the_reference(compiled: Callable[..., None]) -> None:
    n = 500_000
    for triples in (random_triples(n, 0, 3), random_triples(n, 1, 60), adversarial_triples(n, 2)):
        out = np.empty(n, np.float32)
        compiled(*triples, out)
        assert out.tobytes() == perlin.fma(*triples).tobytes()


# --- angles, fade, fraction, gradients

ANGLES = np.arange(65536, dtype=np.uint32)
SINE_COSINE_SHA256 = "5f18c8fa61910820803fc0551a26f783a5299ec474c8812bb3c344d68ee553e7"
"""Of the whole table, sines then cosines, little-endian float32."""


@numba.njit
def compiled_sine_cosine(angles: npt.NDArray[np.uint32], sine: F32, cosine: F32) -> None:
    for i in range(0, len(angles), simd.LANES):
        s, c = numba_perlin.sine_cosine(simd.vload(angles, i))
        simd.vstore(sine, i, s)
        simd.vstore(cosine, i, c)


def table_by_reference() -> tuple[F32, F32]:
    return perlin.sine_cosine(ANGLES)


def table_by_kernel() -> tuple[F32, F32]:
    sine, cosine = np.empty(65536, np.float32), np.empty(65536, np.float32)
    compiled_sine_cosine(ANGLES, sine, cosine)
    return sine, cosine


@pytest.mark.parametrize("table", [table_by_reference, table_by_kernel], ids=["reference", "numba"])
def test_sine_and_cosine(table: Callable[[], tuple[F32, F32]]) -> None:
    sine, cosine = table()
    assert sine.dtype == cosine.dtype == np.float32
    angle = 2 * np.pi * (ANGLES.astype(np.float64) - 8192) / 65536
    # the first term of the sine's series that is left out, at the edge of a quadrant: (pi / 4)**9 / 9! = 3.1e-7
    assert np.abs(sine - np.sin(angle)).max() < 3.3e-7
    assert np.abs(cosine - np.cos(angle)).max() < 3.3e-7
    assert (
        hashlib.sha256(sine.astype("<f4").tobytes() + cosine.astype("<f4").tobytes()).hexdigest() == SINE_COSINE_SHA256
    )


def test_fade_is_perlin_s_polynomial() -> None:
    f = np.linspace(0, 1, 1001, dtype=np.float32)
    exact = f.astype(np.float64)
    quintic, linear = (vpngen.perlin(fade=name).params([0])[0] for name in ("quintic", "linear"))
    assert np.abs(perlin.fade(quintic, f) - (6 * exact**5 - 15 * exact**4 + 10 * exact**3)).max() < 6e-7
    assert perlin.fade(quintic, f)[[0, 500, 1000]].tolist() == [0, 0.5, 1]
    assert np.array_equal(perlin.fade(linear, f), f)


@pytest.mark.parametrize(("phase", "offset"), [("corner", 0.0), ("centre", 0.5)])
def test_samples_of_a_cell_are_evenly_spaced(phase: str, offset: float) -> None:
    row = vpngen.perlin(phase=phase).params([0])[0]
    for size in (1, 2, 3, 7, 240, 65536):
        f = perlin.fraction(row, np.arange(2 * size), size)
        assert np.allclose(f[:size], (np.arange(size) + offset) / size, rtol=1e-6)
        assert np.array_equal(f[:size], f[size:]) and 0 <= f.min() and f.max() < 1


@pytest.mark.parametrize("law", perlin.GRADIENTS)
def test_gradients_are_unit_vectors_of_the_named_law(law: str) -> None:
    row = vpngen.perlin(gradients=law).params([7])[0]
    r, q = np.ogrid[:60, :60]
    g = np.stack(perlin.gradients(row, 0, 3, 60, q, r)).astype(np.float64).reshape(3, -1)
    assert np.abs((g**2).sum(axis=0) - 1).max() < 1e-6
    spread = {"angles": (1 / 4, 1 / 4, 1 / 2), "sphere": (1 / 3, 1 / 3, 1 / 3)}[law]
    assert np.abs((g**2).mean(axis=1) - spread).max() < 5e-3
    assert np.abs(g.mean(axis=1)).max() < 5e-3
    covariance = np.cov(g)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 5e-3
    if law == "sphere":  # every component is uniform on [-1, 1]
        assert all(stats.kstest(component, stats.uniform(-1, 2).cdf).pvalue > UNLIKELY for component in g)


def test_any_block_of_the_lattice_has_the_same_gradients() -> None:
    row = vpngen.perlin().params([7])[0]
    r, q = np.ogrid[2:5, 1:4]
    whole = np.stack(perlin.gradients(row, 1, 0, 23, q, r))
    for start, count in ((0, 1), (1, 2), (3, 4), (5, 18), (22, 1)):
        assert np.array_equal(np.stack(perlin.gradients(row, 1, start, count, q, r)), whole[..., start : start + count])


# --- the outside check: perlin-numpy, the authors' tool, given the same gradient angles


class Given:
    """A random generator that returns what it was given: perlin-numpy asks for theta, then for phi, in turns."""

    def __init__(self, *turns: F64) -> None:
        self.turns = list(turns)

    def uniform(self, size: tuple[int, ...]) -> F64:
        turns = self.turns.pop(0)
        assert turns.shape == size
        return turns


def turns_of(row: np.void, k: int, cells: tuple[int, int, int], law: str) -> tuple[F64, F64]:
    """theta and phi of term k, in turns, at the (W + 1, H + 1, R + 1) lattice points, axes (x, y, t).

    Written from the format, not from the code under test: the word of point (p, q, r) is word p % 4 of the hash of
    (p // 4, q, r); its low half is theta, its high half phi; half-words count from -1/8 turn in steps of 1/65536.
    """
    p, q, r = np.meshgrid(*(np.arange(n + 1) for n in cells), indexing="ij")
    counter = np.stack([p // 4, q, r, np.full_like(p, 2 << 16 | k)], axis=-1)
    word = np.take_along_axis(rng.philox4x32(counter, row["key"]), (p % 4)[..., None], axis=-1)[..., 0].astype(
        np.float64
    )
    high, low = np.divmod(word, 65536)
    if law == "sphere":
        return (low - 8192) / 65536, np.arccos((2 * high + 1) / 65536 - 1) / (2 * np.pi)
    return (low - 8192) / 65536, (high - 8192) / 65536


def outside(
    spec: Spec, index: int, k: int, cells: tuple[int, int, int], size: tuple[int, int, int], **options: Any
) -> F64:
    """Noise k of a video by perlin-numpy, (t, y, x), for `cells` lattice cells and `size` samples along (x, y, t)."""
    assert isinstance(spec.generator, Perlin)
    for n, samples in zip(cells, size, strict=True):
        grid = np.mgrid[0 : n : n / samples]
        assert np.array_equal(np.floor(grid), np.arange(samples) // (samples // n)), (
            "perlin-numpy's grid is inexact here"
        )
    turns = turns_of(spec.params(index)[0], k, cells, spec.generator.gradients)
    if spec.generator.fade == "linear":
        options["interpolant"] = lambda f: f
    noise: F64 = generate_perlin_noise_3d(size, cells, rng=Given(*turns), **options)
    return noise.transpose(2, 1, 0)


def ours(spec: Spec, index: int) -> F64:
    """v of equation (1), (t, y, x), from the reference before it is rounded to grey levels."""
    row = spec.params(index)[0]
    grey = Perlin.reference(row, *(np.arange(size) for size in spec.shape))
    return (grey.astype(np.float64) - 128) / 127.5


def primal(cells: tuple[int, int, int], size: tuple[int, int, int], unit: str, **fields: Any) -> Spec:
    """A set of one category without random terms: `cells` and `size` along (x, y, t), D in the meaning of `unit`."""
    d = size[2] // cells[2] if unit == "period" else cells[2]
    return vpngen.perlin(
        instances=9, divisions_x=[cells[0]], divisions_y=[cells[1]], temporal=d, shape=size[::-1], temporal_unit=unit,
        noise_terms=0, **fields,
    )  # fmt: skip


@given(
    st.tuples(*[st.integers(1, 6)] * 3), st.tuples(GRIDS, GRIDS, GRIDS), st.sampled_from(perlin.UNITS),
    st.sampled_from(perlin.GRADIENTS), st.sampled_from(perlin.FADES), st.integers(0, 8), st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_noise_is_perlin_numpy_s(
    cells: tuple[int, int, int], pixels: tuple[int, int, int], unit: str, law: str, fade: str, index: int, seed: int
) -> None:
    size = (cells[0] * pixels[0], cells[1] * pixels[1], cells[2] * pixels[2])
    spec = primal(cells, size, unit, gradients=law, fade=fade, seed=seed)
    assert np.abs(ours(spec, index) - outside(spec, index, 0, cells, size)).max() < 1e-5


@pytest.mark.parametrize("unit", perlin.UNITS)
@pytest.mark.parametrize("division", DIVISIONS)
def test_every_division_of_the_paper_is_perlin_numpy_s(division: int, unit: str) -> None:
    for cells, size in (((division, 3, 2), (240, 12, 16)), ((3, division, 2), (12, 240, 16))):
        spec = primal(cells, size, unit)
        assert np.abs(ours(spec, 5) - outside(spec, 5, 0, cells, size)).max() < 1e-5


@pytest.mark.parametrize("d", [4, 8, 16])
def test_both_meanings_of_d(d: int) -> None:
    size = (24, 16, 48)
    for unit, cells in (("period", 48 // d), ("divisions", d)):
        spec = vpngen.perlin(
            instances=2,
            divisions_x=[3],
            divisions_y=[2],
            temporal=d,
            shape=size[::-1],
            temporal_unit=unit,
            noise_terms=0,
        )
        assert np.abs(ours(spec, 1) - outside(spec, 1, 0, (3, 2, cells), size)).max() < 1e-5


def test_pixel_centres_are_the_odd_samples_of_a_grid_twice_as_fine() -> None:
    cells, size = (3, 5, 2), (24, 20, 16)
    spec = primal(cells, size, "divisions", phase="centre")
    fine = outside(spec, 2, 0, cells, (48, 40, 32))
    assert np.abs(ours(spec, 2) - fine[1::2, 1::2, 1::2]).max() < 1e-5


@pytest.mark.parametrize("index", range(4))
def test_a_looped_video_is_perlin_numpy_s_tileable_one(index: int) -> None:
    cells, size = (3, 2, 5), (24, 16, 40)
    spec = primal(cells, size, "divisions", loop=True)
    assert np.abs(ours(spec, index) - outside(spec, index, 0, cells, size, tileable=(False, False, True))).max() < 1e-5
    assert np.abs(ours(spec, index) - outside(spec, index, 0, cells, size)).max() > 0.01


@pytest.mark.parametrize("unit", perlin.UNITS)
@pytest.mark.parametrize("index", range(6))
def test_equation_1_sums_three_perlin_numpy_noises(index: int, unit: str) -> None:
    frames, height, width = shape = (32, 32, 64)
    spec = vpngen.perlin(
        instances=6, divisions_x=[4], divisions_y=[8], temporal=8, shape=shape, temporal_unit=unit, seed=3
    )
    drawn = spec.parameters(index)
    amplitude, frequency = drawn["amplitude"].values[0].tolist(), drawn["frequency"].values[0].tolist()
    assert len(amplitude) == 3 and frequency[0] == [4, 8, 8]
    v = np.zeros(shape)
    for k, (a, (w, h, d)) in enumerate(zip(amplitude, frequency, strict=True)):
        cells = (w, h, frames // d if unit == "period" else d)
        v += a * outside(spec, index, k, cells, (width, height, frames))
    assert np.abs(ours(spec, index) - v).max() < 1e-5


# --- properties of the picture that hold by construction


def rendered(spec: Spec, indices: Any = 0, **window: Any) -> npt.NDArray[np.uint8]:
    return vpngen.render(spec, indices, Window(**window), threads=1)


def test_lattice_nodes_are_middle_grey() -> None:
    spec = vpngen.perlin(instances=2, divisions_x=[5, 60], divisions_y=[3, 40], temporal=[4, 8], noise_terms=0)
    for index in range(spec.n_categories):
        w, h, d = spec.category(spec.label(index))
        video = rendered(spec, index, t=(0, 48))
        assert (video[::d, :: 240 // h, :: 240 // w] == 128).all()
        assert not (video[d // 2, :: 240 // h, :: 240 // w] == 128).all()


def test_the_readme_says_what_frames_of_other_sizes_hold() -> None:
    table = (
        (Path(__file__).parents[1] / "README.md").read_text().partition("| width and height |")[2].partition("\n\n")[0]
    )
    rows = [
        [[int(n) for n in cell.split(",")] for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]
    ]
    assert {112, 128, 160, 171, 224, 240, 256, 320} <= {size for sizes, *_ in rows for size in sizes}
    for sizes, divisions, (categories,), noise in rows:
        for size in sizes:
            spec = vpngen.perlin(categories, 1, shape=(16, size, size), noise_frequencies=noise)
            assert isinstance(spec.generator, Perlin)
            assert list(spec.generator.divisions_x) == list(spec.generator.divisions_y) == divisions
            assert noise == [n for n in Perlin.noise_frequencies if size % n == 0]
            with pytest.raises(
                vpngen.ArgumentError, match=f"only {', '.join(map(str, divisions))} divide|both up to 20"
            ):
                vpngen.perlin((len(divisions) + 1) ** 2, 1, shape=(16, size, size), noise_frequencies=noise)


FLICKER = (
    "--noise-terms 0", "--noise-terms 0 --phase centre", "--noise-terms 0 --fade linear --grey stretch --gradients sphere",
    "--noise-terms 0 --temporal-unit divisions", "--noise-terms 0 --temporal-unit divisions --loop",
    "--noise-terms 0 --loop", "--noise-terms 0 --loop --fade linear", "--noise-terms 0 --divisions-y 1,4 --divisions-x 4,8",
    "--noise-terms 2 --noise-frequencies 1,2",
)  # fmt: skip
"""Of which some have categories that flicker, on frames of 12 x 8."""


@pytest.mark.parametrize("options", FLICKER)
def test_info_names_the_categories_that_flicker(run: Run, options: str) -> None:
    """Those, and only those, of which whole frames are one grey, to a level; with random noises, frames of those alone."""
    options = f"--instances 1 --divisions-x 1,8 --divisions-y 1,12 --temporal 1,3,4 --shape 24x12x8 {options}"
    said = re.search(r"^flicker +(.*): such frames (.*), as", run("info", *options.split()).out, re.MULTILINE)
    named = re.findall(r"W=(\d+) H=(\d+) D=(\d+) every (?:(\d+) )?frames?(?:, |$)", said[1] if said else "")
    spec = Spec.from_dict(run("info", "--format", "json", *options.split()).json["spec"])
    assert isinstance(spec.generator, Perlin)
    if spec.generator.noise_terms:
        assert said and said[2] == "show the random noises alone"
        spec = replace(spec, generator=replace(spec.generator, noise_terms=0))
    videos = vpngen.render(spec, range(spec.n_categories), backend="reference")
    flat = {spec.category(i): np.flatnonzero(np.ptp(v, axis=(1, 2)) <= 1).tolist() for i, v in enumerate(videos)}
    expected = {(int(w), int(h), int(d)): [*range(0, 24, int(n or 1))] for w, h, d, n in named}
    assert {category: frames for category, frames in flat.items() if frames} == expected
    assert bool(expected) is not options.endswith(("centre", "--divisions-x 4,8"))


def test_lattice_nodes_of_all_terms_are_middle_grey() -> None:
    spec = vpngen.perlin(instances=3)
    for index in (0, 100, 255, 256, 600):
        cells = np.lcm.reduce(spec.params(index)[0]["cell"]).tolist()
        nodes = rendered(spec, index)[:: cells[2], :: cells[1], :: cells[0]]
        assert (nodes == 128).all()


@pytest.mark.parametrize("d", [4, 8, 16])
@pytest.mark.parametrize("noise_terms", [0, 2])
def test_a_loop_repeats_after_d_frames(d: int, noise_terms: int) -> None:
    spec = vpngen.perlin(16, 4, temporal=d, loop=True, noise_terms=noise_terms)
    for index in (0, 5, 31, 63):
        video = rendered(spec, index, y=(60, 120))
        assert np.array_equal(video[d:], video[:-d])
        assert not np.array_equal(video[0], video[1])


def test_without_loop_nothing_repeats() -> None:
    spec = vpngen.perlin(16, 4)
    frames = [frame.tobytes() for frame in rendered(spec, 5)]
    assert len(set(frames[1::8])) == 30


def test_a_looped_set_of_divisions_ends_where_it_begins() -> None:
    for loop in (True, False):
        spec = vpngen.perlin(16, 4, temporal_unit="divisions", loop=loop)
        row = spec.params(3)[0]
        y, x = np.arange(240), np.arange(100, 130)
        first = Perlin.reference(row, np.array([0, 1, 7]), y, x)
        beyond = Perlin.reference(row, np.array([240, 241, 247]), y, x)
        assert np.array_equal(first[1:], beyond[1:]) == loop


@pytest.mark.parametrize("fade", perlin.FADES)
def test_no_noise_can_leave_the_grey_levels(fade: str) -> None:
    """The most that eight unit gradients can give anywhere in a cell, each pointing at the sample or away from it."""
    f = np.linspace(0, 1, 41)
    s = 6 * f**5 - 15 * f**4 + 10 * f**3 if fade == "quintic" else f
    most = np.zeros((41, 41, 41))
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.ones(())
        for axis, c in enumerate(corner):
            weight = weight * np.moveaxis((s if c else 1 - s)[:, None, None], 0, axis)
        steps = [np.moveaxis((f - c)[:, None, None], 0, axis) for axis, c in enumerate(corner)]
        most += weight * np.sqrt(sum(step**2 for step in steps))
    assert most.max() == pytest.approx(3**0.5 / 2)
    assert 17 <= np.floor(128 - 127.5 * most.max()) and np.floor(128 + 127.5 * most.max()) <= 239


@pytest.mark.parametrize("phase", perlin.PHASES)
@pytest.mark.parametrize("fade", perlin.FADES)
def test_fixed_grey_stays_in_range(fade: str, phase: str) -> None:
    spec = vpngen.perlin(16, 4, fade=fade, phase=phase, noise_terms=0)
    for index in range(0, 64, 7):
        video = rendered(spec, index, t=(0, 64))
        assert 17 <= video.min() < 110 and 146 < video.max() <= 239


@pytest.mark.parametrize("noise_terms", [0, 2])
def test_stretched_grey_reaches_both_ends(noise_terms: int) -> None:
    spec = vpngen.perlin(16, 2, shape=(24, 96, 96), divisions=[1, 4, 24, 96], grey="stretch", noise_terms=noise_terms)
    for index in range(32):
        video = rendered(spec, index)
        assert (video.min(), video.max()) == (0, 255)


def test_stretching_keeps_the_order_of_grey_levels() -> None:
    fixed, stretched = (vpngen.perlin(16, 2, shape=(24, 48, 48), grey=grey) for grey in ("fixed", "stretch"))
    for index in range(0, 32, 5):
        a, b = rendered(fixed, index).astype(int), rendered(stretched, index).astype(int)
        gain = 255 / (np.ptp(ours(fixed, index)) * 127.5)
        assert np.abs((b - b.mean()) - gain * (a - a.mean())).max() < gain + 1


def test_random_grey_has_many_means_and_contrasts_and_leaves_no_level_out() -> None:
    spec = vpngen.perlin(4, 500, shape=(16, 48, 48), divisions=[1, 3], grey="random")
    rows = spec.params(range(2000))
    assert (rows["bias"] - 0.86605 * rows["gain"] > 0).all() and (rows["bias"] + 0.86605 * rows["gain"] < 256).all()
    known = spec.parameters(range(2000))
    assert np.array_equal(known["gain"].values, rows["gain"]) and np.array_equal(known["mean"].values, rows["bias"])
    assert "gain" not in vpngen.perlin(4, 1).parameters([0])
    part = rows["gain"] * perlin.MOST_NOISE / np.minimum(rows["bias"], 256 - rows["bias"])
    for drawn, (low, high) in ((rows["bias"], perlin.RANDOM_MEAN), (part, perlin.RANDOM_CONTRAST)):
        assert stats.kstest(drawn, "uniform", (low, high - low)).pvalue > 1e-3
    assert abs(np.corrcoef(rows["bias"], part)[0, 1]) < 0.1
    fixed = replace(spec, generator=replace(spec.generator, grey="fixed"))
    for index in range(12):
        a, b = rendered(fixed, index).astype(float), rendered(spec, index).astype(float)
        assert np.abs((b - rows["bias"][index]) - rows["gain"][index] / 127.5 * (a - 128)).max() < 2.5


@pytest.mark.parametrize("grey", ["fixed", "stretch"])
def test_a_video_without_contrast_is_middle_grey(grey: str) -> None:
    """W = H = 240 with a period of one frame samples nothing but lattice nodes."""
    spec = vpngen.perlin(instances=2, divisions_x=[240], divisions_y=[240], temporal=1, noise_terms=0, grey=grey)
    assert (rendered(spec, [0, 1], t=(0, 40)) == 128).all()


# --- statistics of rendered videos


def levels(video: npt.NDArray[np.uint8]) -> F64:
    """v of equation (1) as far as grey levels tell."""
    return (video.astype(np.float64) - 127.5) / 127.5


def predicted_variance(cell: tuple[int, int, int], law: str, fade: str, phase: str) -> float:
    """The variance of a noise over all samples, from the law of its gradients alone.

    v is a sum of weight * gradient . distance over eight independent corners, and weights and distances are products
    over the axes: so is the sum of their squares.
    """
    plain, ramp = [], []
    for size in cell:
        f = (np.arange(size) + {"corner": 0, "centre": 0.5}[phase]) / size
        s = 6 * f**5 - 15 * f**4 + 10 * f**3 if fade == "quintic" else f
        plain.append(np.mean((1 - s) ** 2 + s**2))
        ramp.append(np.mean((1 - s) ** 2 * f**2 + s**2 * (1 - f) ** 2))
    spread = {"angles": (1 / 4, 1 / 4, 1 / 2), "sphere": (1 / 3, 1 / 3, 1 / 3)}[law]
    (px, py, pt), (rx, ry, rt) = plain, ramp
    return float(spread[0] * rx * py * pt + spread[1] * px * ry * pt + spread[2] * px * py * rt)


@pytest.mark.parametrize("law", perlin.GRADIENTS)
@pytest.mark.parametrize(
    ("noise_terms", "fade", "phase"), [(0, "quintic", "corner"), (0, "linear", "centre"), (2, "quintic", "corner")]
)
def test_mean_and_contrast_by_category(noise_terms: int, fade: str, phase: str, law: str) -> None:
    spec = vpngen.perlin(
        instances=128, divisions_x=[2, 12, 48], divisions_y=[3, 48], temporal=[4, 16], shape=(16, 48, 48),
        noise_terms=noise_terms, gradients=law, fade=fade, phase=phase,
    )  # fmt: skip
    everyone = np.arange(spec.n_videos())
    rows = spec.params(everyone)
    parts = (levels(rendered(spec, some)) for some in np.array_split(everyone, 24))  # all at once are 200 MB
    mean, square = np.concatenate([[v.mean(axis=(1, 2, 3)), (v**2).mean(axis=(1, 2, 3))] for v in parts], axis=1)
    expected = np.zeros(len(rows))
    for n, row in enumerate(rows):
        for a, cell in zip(row["amplitude"].tolist(), row["cell"][: 1 + noise_terms].tolist(), strict=False):
            expected[n] += a**2 * predicted_variance(tuple(cell), law, fade, phase)
    for category in range(spec.n_categories):
        some = spec.labels(everyone) == category
        error = (square - expected)[some]
        assert abs(error.mean()) < 4.5 * error.std() / some.sum() ** 0.5 + 1e-4, spec.category(category)
        assert error.std() / some.sum() ** 0.5 < 0.1 * expected[some].mean(), spec.category(category)
        middle = mean[some]
        assert abs(middle.mean()) < 4.5 * middle.std() / some.sum() ** 0.5 + 1e-3, spec.category(category)


def test_the_law_of_gradients_changes_contrast_by_22_percent_at_240_divisions() -> None:
    contrast = {}
    for law in perlin.GRADIENTS:
        spec = vpngen.perlin(divisions_x=[240], divisions_y=[240], noise_terms=0, gradients=law)
        contrast[law] = levels(rendered(spec, 0, t=(0, 128))).std()
    assert contrast["angles"] / contrast["sphere"] == pytest.approx(1.5**0.5, rel=0.01)


def power(videos: F64, axis: int) -> F64:
    """The mean periodogram of the lines along `axis`, with a Hann window."""
    lines = np.moveaxis(videos, axis, -1).reshape(-1, videos.shape[axis])
    lines = (lines - lines.mean(axis=1, keepdims=True)) * np.hanning(lines.shape[1])
    spectrum: F64 = (np.abs(np.fft.rfft(lines)) ** 2).mean(axis=0)
    return spectrum


def mean_frequency(spectrum: F64) -> float:
    """The mean number of cycles over the video, weighted by power."""
    return float((np.arange(len(spectrum)) * spectrum).sum() / spectrum.sum())


@pytest.mark.parametrize("d", [4, 8, 16])
@pytest.mark.parametrize(("w", "h"), [(5, 40), (10, 10), (20, 8), (60, 30)])
def test_spectrum_lies_where_the_category_says(w: int, h: int, d: int) -> None:
    spec = vpngen.perlin(instances=3, divisions_x=[w], divisions_y=[h], temporal=d, noise_terms=0)
    v = levels(rendered(spec, range(3), t=(0, 192)))
    views = {3: (v[:, ::7, ::7], w), 2: (v[:, ::7, :, ::7], h), 1: (v[:, :, ::11, ::11], 192 // d)}
    for axis, (view, cells) in views.items():
        spectrum = power(view, axis)
        low, high = (0.37, 0.43) if axis == 1 else (0.30, 0.38)
        assert low < mean_frequency(spectrum) / cells < high
        assert spectrum.argmax() / cells < 0.6
        assert spectrum[2 * cells + 1 :].sum() < 0.02 * spectrum.sum()


@pytest.mark.parametrize("axis", [1, 2, 3], ids=["t", "y", "x"])
def test_samples_two_cells_apart_are_uncorrelated(axis: int) -> None:
    spec = vpngen.perlin(
        instances=64, divisions_x=[6], divisions_y=[6], temporal=8, shape=(48, 48, 48), noise_terms=0, phase="centre"
    )
    v = np.moveaxis(levels(rendered(spec, range(64))), axis, 1)

    def correlation(lag: int) -> float:
        return float(np.mean(v[:, lag:] * v[:, :-lag]) / np.mean(v * v))

    assert correlation(1) > 0.8
    assert correlation(1) > correlation(2) > correlation(4) > correlation(8) - 0.03
    assert max(abs(correlation(lag)) for lag in range(16, 40, 3)) < 0.03


SIZE, CELLS, SETS = (32, 32, 32), (8, 8, 8), 24
"""Volumes for comparing spectra: many lattice points, four samples a cell."""


@functools.cache
def spectra_by_perlin_numpy(seed: int) -> list[F64]:
    source = np.random.default_rng(seed)
    noise = [generate_perlin_noise_3d(SIZE, CELLS, rng=source).transpose(2, 1, 0) for _ in range(SETS)]
    volumes = levels(np.floor(128 + 127.5 * np.stack(noise)).astype(np.uint8))
    return [power(volumes, axis) for axis in (1, 2, 3)]


def spectra_by_us(seed: int) -> list[F64]:
    spec = vpngen.perlin(
        instances=SETS, divisions_x=[8], divisions_y=[8], temporal=4, shape=SIZE, noise_terms=0, seed=seed
    )
    volumes = levels(rendered(spec, range(SETS)))
    return [power(volumes, axis) for axis in (1, 2, 3)]


def distance(a: F64, b: F64) -> float:
    return float(np.abs(a - b).sum() / (a + b).sum())


@pytest.mark.parametrize("axis", range(3), ids=["t", "y", "x"])
def test_spectrum_is_as_near_to_perlin_numpy_s_as_that_is_to_itself(axis: int) -> None:
    theirs = [spectra_by_perlin_numpy(seed)[axis] for seed in range(4)]
    within = max(distance(a, b) for a, b in itertools.combinations(theirs, 2))
    for seed in range(4):
        mine = spectra_by_us(seed)[axis]
        assert np.mean([distance(mine, other) for other in theirs]) < 1.5 * within


def test_videos_next_to_each_other_are_uncorrelated() -> None:
    """Next instance, same index of the next seed, same index of the other split."""

    def unit(seed: int, split: str) -> F64:
        spec = vpngen.perlin(
            instances=48, val_instances=48, divisions_x=[8], divisions_y=[8], temporal=4, shape=SIZE, noise_terms=0,
            seed=seed,
        )  # fmt: skip
        v = levels(vpngen.render(spec, np.arange(48), split=split, threads=1)).reshape(48, -1)
        return (v - v.mean(axis=1, keepdims=True)) / v.std(axis=1, keepdims=True)

    home = unit(0, "train")
    for a, b in ((home[1:], home[:-1]), (home, unit(1, "train")), (home, unit(0, "val"))):
        correlation = (a * b).mean(axis=1)
        assert correlation.std() < 0.05
        assert abs(correlation.mean()) < 4.5 * correlation.std() / len(correlation) ** 0.5


# --- drawn parameters


@functools.cache
def drawn() -> tuple[npt.NDArray[np.int32], F32]:
    """Frequencies (sample, term, axis) and amplitudes (sample, term) of 25,600 videos of the main set."""
    values = vpngen.perlin().parameters(np.arange(25_600))
    return values["frequency"].values, values["amplitude"].values


def ranks() -> dict[str, npt.NDArray[np.int64]]:
    """The eight draws of each video as numbers from 0 to 4."""
    frequency, amplitude = drawn()
    found = {
        f"frequency {k} {axis}": np.searchsorted([1, 2, 4, 8, 16], frequency[:, k, i])
        for k in (1, 2)
        for i, axis in enumerate("xyt")
    }
    for k in (1, 2):
        found[f"amplitude {k}"] = np.searchsorted(np.array([0.01, 0.02, 0.05, 0.1, 0.2], np.float32), amplitude[:, k])
    return found


def test_amplitudes_obey_equation_2() -> None:
    _, amplitude = drawn()
    assert np.abs(amplitude.astype(np.float64).sum(axis=1) - 1).max() < 1e-7
    assert (amplitude > 0).all() and (amplitude[:, :1] > amplitude[:, 1:]).all()
    assert amplitude[:, 0].min() == np.float32(0.6) and amplitude[:, 0].max() == np.float32(0.98)


def test_drawn_values_are_those_of_the_paper() -> None:
    frequency, amplitude = drawn()
    assert set(frequency[:, 1:].ravel().tolist()) == {1, 2, 4, 8, 16}
    assert set(amplitude[:, 1:].ravel().tolist()) == {float(np.float32(a)) for a in (0.01, 0.02, 0.05, 0.1, 0.2)}


@pytest.mark.parametrize("name", ranks())
def test_draws_are_uniform(name: str) -> None:
    assert stats.chisquare(np.bincount(ranks()[name], minlength=5)).pvalue > UNLIKELY


def test_draws_are_independent_of_each_other_and_of_the_next_video() -> None:
    columns = ranks()
    for a, b in itertools.product(columns.values(), repeat=2):
        pairs = [(a[1:], b[:-1]), (a[256:], b[:-256])]  # the next category, the next instance
        for one, other in pairs if a is b else [*pairs, (a, b)]:
            table = np.bincount(one * 5 + other, minlength=25)
            assert stats.chisquare(table).pvalue > UNLIKELY


def test_draws_depend_on_the_instance_and_not_on_the_category_alone() -> None:
    frequency, amplitude = drawn()
    recipes = np.concatenate([frequency[:, 1:].reshape(len(frequency), -1), amplitude[:, 1:]], axis=1)
    of_one_category = {tuple(r) for r in recipes[17::256].tolist()}
    assert len(of_one_category) == 100


@pytest.mark.parametrize("noise_terms", [0, 1, 2])
def test_no_two_videos_are_alike(noise_terms: int) -> None:
    digests = set()
    for seed in (0, 1):
        spec = vpngen.perlin(256, 2, val_instances=1, noise_terms=noise_terms, seed=seed)
        for split, n in (("train", 512), ("val", 256)):
            clips = vpngen.render(spec, np.arange(n), Window(t=(3, 5), y=(0, 60)), split=split, threads=1)
            digests |= {hashlib.sha256(clip).digest() for clip in clips}
    assert len(digests) == 2 * (512 + 256)

"""The counter-based random numbers: published vectors, uniformity, and independence of whatever lies next to each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import ceil

import numba
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

import vpngen
from vpngen import rng
from vpngen.backends import numba_perlin, simd
from vpngen.generators import perlin

UNLIKELY = 1e-5
"""A test of randomness fails below this p-value. The draws are fixed numbers, so it passes always or never."""

Words = npt.NDArray[np.uint32]
Philox = Callable[[npt.ArrayLike, npt.ArrayLike], Words]


@numba.njit
def compiled_philox(c0: Words, c1: Words, c2: Words, c3: Words, k0: np.uint32, k1: np.uint32, out: Words) -> None:
    n = len(c0)
    for i in range(0, n, simd.LANES):
        a, b, c, d = numba_perlin.philox(
            simd.vload(c0, i), simd.vload(c1, i), simd.vload(c2, i), simd.vload(c3, i), k0, k1
        )
        simd.vstore(out, i, a)
        simd.vstore(out, n + i, b)
        simd.vstore(out, 2 * n + i, c)
        simd.vstore(out, 3 * n + i, d)


def numba_philox(counter: npt.ArrayLike, key: npt.ArrayLike) -> Words:
    """The kernel's hash, for counters (..., 4) and one key (2,)."""
    counters = np.reshape(np.asarray(counter, np.uint32), (-1, 4))
    lanes = np.zeros((4, -(-len(counters) // simd.LANES) * simd.LANES), np.uint32)
    lanes[:, : len(counters)] = counters.T
    out = np.empty(lanes.size, np.uint32)
    compiled_philox(*lanes, *np.asarray(key, np.uint32), out)
    return out.reshape(4, -1)[:, : len(counters)].T.reshape(np.shape(counter))


both = pytest.mark.parametrize("philox", [rng.philox4x32, numba_philox], ids=["numpy", "numba"])


def p_uniform(values: npt.ArrayLike, bins: int) -> float:
    """The p-value of integers in [0, bins) being uniform and independent draws."""
    return float(stats.chisquare(np.bincount(np.ravel(values), minlength=bins)).pvalue)


def p_independent(a: Words, b: Words) -> float:
    """The p-value of two arrays of 16-bit numbers being independent and uniform, from their 4 x 4 leading bits."""
    return p_uniform((a.ravel() >> 12) * 16 + (b.ravel() >> 12), 256)


def halves(some_words: Words) -> Words:
    """The two 16-bit angles of each word, as a new last axis: theta, phi."""
    return np.stack([some_words & 0xFFFF, some_words >> 16], axis=-1)


def lattice_words(key: npt.ArrayLike, term: int, p4: int, q: int, r: int) -> Words:
    """The hashes (r, q, p) of a block of lattice points of one video, four to a counter."""
    counter = np.zeros((r, q, p4, 4), np.uint64)
    counter[..., 2], counter[..., 1], counter[..., 0] = np.ogrid[:r, :q, :p4]
    counter[..., 3] = rng.purpose_word(rng.PURPOSE_LATTICE, term)
    return rng.philox4x32(counter, key).reshape(r, q, -1)


# --- Philox itself


@both
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_random123(philox: Philox, counter: str, key: str, expected: str) -> None:
    numbers = [[int(w, 16) for w in text.split()] for text in (counter, key, expected)]
    assert philox(numbers[0], numbers[1]).tolist() == numbers[2]


@pytest.mark.parametrize("seed", range(4))
def test_numba_equals_numpy(seed: int) -> None:
    source = np.random.default_rng(seed)
    counters, key = source.integers(0, 2**32, (5000, 4), np.uint64), source.integers(0, 2**32, 2, np.uint64)
    assert np.array_equal(numba_philox(counters, key), rng.philox4x32(counters, key))


def test_broadcasts_counters_against_keys() -> None:
    counters = np.arange(20).reshape(5, 1, 4)
    keys = np.arange(6).reshape(3, 2)
    drawn = rng.philox4x32(counters, keys)
    assert drawn.shape == (5, 3, 4) and drawn.dtype == np.uint32
    for i, counter in enumerate(counters[:, 0].tolist()):
        for j, key in enumerate(keys.tolist()):
            assert drawn[i, j].tolist() == rng.philox4x32(counter, key).tolist()


@pytest.mark.parametrize("place", range(6), ids=["c0", "c1", "c2", "c3", "k0", "k1"])
def test_each_input_bit_flips_each_output_bit_half_the_time(place: int) -> None:
    n = 512
    source = np.random.default_rng(place).integers(0, 2**32, (n, 6), np.uint64)
    before = rng.philox4x32(source[:, :4], source[:, 4:])
    for bit in range(32):
        flipped = source.copy()
        flipped[:, place] ^= np.uint64(1 << bit)
        change = before ^ rng.philox4x32(flipped[:, :4], flipped[:, 4:])
        rate = np.unpackbits(change.view(np.uint8), axis=-1).mean(axis=0)
        assert np.abs(rate - 0.5).max() < 6 * 0.5 / n**0.5


# --- keys of videos


def distinct(keys: Words) -> bool:
    packed = np.ascontiguousarray(keys).view(np.uint64)
    return len(np.unique(packed)) == packed.size


def test_no_two_videos_of_the_largest_set_share_a_key() -> None:
    everyone = np.arange(131_072)
    assert distinct(np.stack([rng.video_keys(0, split, everyone, 1) for split in (0, 1)]))


def test_seed_split_index_and_version_are_mixed_not_added() -> None:
    names = ("seed", "split", "index", "version")
    small = [(s, p, i, v) for s in range(12) for p in range(2) for i in range(12) for v in range(1, 4)]
    large = [(2**32, 0, 0, 1), (0, 0, 2**32, 1), (2**64 - 1, 0, 0, 1), (0, 0, 2**48 - 1, 1), (2**63, 1, 2**32 + 1, 1)]
    keys = np.stack([rng.video_keys(**dict(zip(names, point, strict=True))) for point in small + large])
    assert distinct(keys)


def test_one_seed_is_not_another_shifted() -> None:
    many = np.arange(1024)
    assert distinct(np.stack([rng.video_keys(seed, 0, many, 1) for seed in range(256)]))


def test_keys_are_the_documented_philox_words() -> None:
    seed, index = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    drawn = rng.philox4x32([0x76543210, 0xFEDCBA98, 1, 7], [0x89ABCDEF, 0x01234567])
    assert rng.video_keys(seed, 1, index, 7).tolist() == drawn[:2].tolist()


@pytest.mark.parametrize("word", range(2))
def test_keys_are_uniform(word: int) -> None:
    keys = rng.video_keys(0, 0, np.arange(100_000), 1)[:, word]
    for shift in (0, 8, 16, 24):
        assert p_uniform(keys >> shift & 0xFF, 256) > UNLIKELY


# --- draws of a video: parameters and gradients


@pytest.mark.parametrize("term", range(3))
def test_bytes_and_angles_of_the_lattice_are_uniform(term: int) -> None:
    drawn = lattice_words([0, 0], term, 16, 64, 64)
    for shift in (0, 8, 16, 24):
        assert p_uniform(drawn >> shift & 0xFF, 256) > UNLIKELY
    for angle in range(2):
        assert p_uniform(halves(drawn)[..., angle], 65536) > UNLIKELY
    assert p_independent(*np.moveaxis(halves(drawn), -1, 0)) > UNLIKELY


@pytest.mark.parametrize("angle", range(2), ids=["theta", "phi"])
@pytest.mark.parametrize("axis", range(3), ids=["r", "q", "p"])
@pytest.mark.parametrize("distance", [1, 2, 4])
def test_neighbouring_lattice_points_are_independent(axis: int, distance: int, angle: int) -> None:
    field = np.moveaxis(halves(lattice_words([1, 2], 0, 16, 64, 64))[..., angle], axis, 0)
    assert p_independent(field[distance:], field[:-distance]) > UNLIKELY


def two_neighbours() -> dict[str, tuple[Words, Words]]:
    """Pairs of lattices that differ in one thing by one step."""
    size = (8, 32, 64)

    def of(seed: int, split: int, index: int, term: int) -> Words:
        return lattice_words(rng.video_keys(seed, split, index, 1), term, *size)

    home = of(0, 0, 0, 0)
    return {
        "videos": (home, of(0, 0, 1, 0)),
        "splits": (home, of(0, 1, 0, 0)),
        "seeds": (home, of(1, 0, 0, 0)),
        "terms": (home, of(0, 0, 0, 1)),
        "random terms": (of(0, 0, 0, 1), of(0, 0, 0, 2)),
    }


@pytest.mark.parametrize("what", ["videos", "splits", "seeds", "terms", "random terms"])
def test_lattices_next_to_each_other_are_independent(what: str) -> None:
    a, b = two_neighbours()[what]
    assert not np.any(a == b)
    for i in range(2):
        for j in range(2):
            assert p_independent(halves(a)[..., i], halves(b)[..., j]) > UNLIKELY


def test_parameters_and_gradients_share_no_hash() -> None:
    assert len({rng.PURPOSE_VIDEO, rng.PURPOSE_PARAMETERS, rng.PURPOSE_LATTICE}) == 3
    every = [rng.purpose_word(p, d) for p in range(3) for d in (0, 1, 2, 65535)]
    assert len(set(every)) == len(every) and max(every) < 2**32


@pytest.mark.parametrize("axis", range(3), ids=["t", "y", "x"])
@pytest.mark.parametrize("law", perlin.GRADIENTS)
@pytest.mark.parametrize("component", range(3), ids=["gx", "gy", "gt"])
def test_the_gradient_field_has_a_flat_spectrum(component: int, law: str, axis: int) -> None:
    n = 64
    row = vpngen.perlin(gradients=law).params([0])[0]
    r, q = np.ogrid[:n, :n]
    field = perlin.gradients(row, 0, 0, n, q, r)[component].astype(np.float64)
    lines = np.moveaxis(field, axis, -1).reshape(-1, n)
    power = (np.abs(np.fft.rfft(lines)) ** 2).mean(axis=0)[1:-1] / (n * field.var())
    assert np.abs(power - 1).max() < 4.5 / len(lines) ** 0.5


# --- choosing


@pytest.mark.parametrize("n", [1, 2, 3, 5, 20, 1000])
def test_choose_splits_the_words_evenly(n: int) -> None:
    edges = np.array([ceil(i * 2**32 / n) for i in range(n + 1)])
    assert {b - a for a, b in pairwise(edges.tolist())} <= {2**32 // n, 2**32 // n + 1}
    assert rng.choose(edges[:-1].astype(np.uint32), n).tolist() == list(range(n))
    assert rng.choose((edges[1:] - 1).astype(np.uint32), n).tolist() == list(range(n))


def test_choose_is_uniform_on_hashes() -> None:
    drawn = rng.philox4x32(np.arange(200_000).reshape(-1, 4), [5, 6])
    for n in (2, 3, 5, 20):
        assert p_uniform(rng.choose(drawn, n), n) > UNLIKELY

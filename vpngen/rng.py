"""Counter-based random numbers: every draw is a pure function of a key and a counter.

The hash is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011).
Why this one: it passes BigCrush, its authors publish known-answer vectors (asserted in the tests), it is a
bijection of the 128-bit counter for every key, so distinct lattice points of one video can never share a draw, and
one evaluation serves four lattice points. It is also the generator of cuRAND, PyTorch and JAX's `philox`.

Streams are told apart by the fourth counter word, `purpose`; nothing is ever added to a seed.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint32]
Integers: TypeAlias = npt.NDArray[np.int64]

MULTIPLIER_0: Final = 0xD2511F53
MULTIPLIER_1: Final = 0xCD9E8D57
WEYL_0: Final = 0x9E3779B9
WEYL_1: Final = 0xBB67AE85
ROUNDS: Final = 10

PURPOSE_VIDEO: Final = 0
"""(seed) -> key of one video; counter words: index low, index high, split."""
PURPOSE_PARAMETERS: Final = 1
"""(key of a video) -> its drawn parameters; counter words: slot, 0, 0."""
PURPOSE_LATTICE: Final = 2
"""(key of a video) -> gradients; counter words: p // 4, q, r; the term sits in the low half of the fourth word."""

PURPOSE_ORDER: Final = 3
"""(seed of a stream) -> the order of its samples; counter words: half, pass low, pass high; the round sits in the fourth word."""
PURPOSE_CLIP: Final = 4
"""(seed of a stream) -> window of a sample; counter words: sample low, sample high, slot."""
PURPOSE_ORBIT: Final = 5
"""(key of a video) -> maps of an orbit; counter words: step // 4, chunk, 0."""
PURPOSE_PATCH: Final = 6
"""(key of a video) -> 3 x 3 patches; counter words: point of the chunk // 8, chunk, 0."""
PURPOSE_SYSTEM: Final = 7
"""(seed of a search) -> key of a candidate; counter words: attempt, category, 0."""
PURPOSE_TASK: Final = 8
"""(seed of a task) -> what it draws for a sample; counter words: sample low, sample high, epoch; the draw in the fourth word."""
PURPOSE_GREY: Final = 9
"""(key of a video) -> its contrast and mean, where these are drawn; counter words: 0, 0, 0."""
PURPOSE_DRIFT: Final = 10
"""(key of a video) -> gradients that drift; counter words: p // 4, q, r and the life of the layer; layer and octave in the fourth word."""
PURPOSE_CLOUDS: Final = 11
"""(key of a video) -> waves; counter words: wave, half, 0."""
PURPOSE_LEAVES: Final = 12
"""(key of a video) -> shapes; counter words: slot, generation, third of what is drawn."""
ORDER_ROUNDS: Final = 8
ORDER_ROUNDS_FEW: Final = 24
"""For sets of up to 64, whose halves are so small that 8 rounds leave some orders likelier than others."""


def philox4x32(counter: npt.ArrayLike, key: npt.ArrayLike) -> Words:
    """Four uniform 32-bit words for each counter and key.

    Args:
        counter: integers in [0, 2**32), shape (..., 4).
        key: integers in [0, 2**32), shape (..., 2); broadcasts against `counter`.

    Returns:
        uint32, shape (..., 4).
    """
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c = np.asarray(counter, np.uint64)
    k = np.asarray(key, np.uint64)
    c0, c1, c2, c3 = (c[..., i] for i in range(4))
    k0, k1 = k[..., 0], k[..., 1]
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(MULTIPLIER_0) * c0, np.uint64(MULTIPLIER_1) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & mask, (p0 >> half) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + np.uint64(WEYL_0)) & mask, (k1 + np.uint64(WEYL_1)) & mask
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def purpose_word(purpose: int, detail: int) -> int:
    """The fourth counter word: `purpose` in the high half, `detail` (format version or term) in the low half."""
    return purpose << 16 | detail


def counters(purpose: int, detail: int, *words: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Counters (..., 4) of a purpose from one to three words, which are broadcast; those that are missing are 0."""
    four = np.broadcast_arrays(*(*words, 0, 0)[:3], purpose_word(purpose, detail))
    return np.stack(four, axis=-1, dtype=np.uint64, casting="unsafe")


def video_keys(seed: int, split: int, index: npt.ArrayLike, version: int) -> Words:
    """The 64-bit key of each video, a function of (format version, seed, split, index).

    Args:
        seed: in [0, 2**64).
        split: 0 for train, 1 for val.
        index: videos, in [0, 2**64), any shape (...).
        version: the format version, in [0, 2**16).

    Returns:
        uint32, shape (..., 2).
    """
    i = np.asarray(index, np.uint64)
    counter = counters(PURPOSE_VIDEO, version, i & np.uint64(0xFFFFFFFF), i >> np.uint64(32), split)
    return philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])[..., :2]


def choose(word: Words, n: int | Integers) -> Integers:
    """A number in [0, n) from each 32-bit word, by multiplication and shift; the bias is below n / 2**32."""
    return (word.astype(np.uint64) * np.asarray(n, np.uint64) >> np.uint64(32)).astype(np.int64)


def permute(positions: npt.ArrayLike, n: int, seed: int, number: npt.ArrayLike = 0) -> Integers:
    """Where each position of 0 ... n - 1 goes in a keyed permutation: a bijection computed per position, never stored.

    A Feistel network over the digits of a x b >= n, a = ceil(sqrt(n)), with additions mod a and b and Philox as the round
    function; what falls beyond n is sent through again, which keeps it a bijection (Black and Rogaway, Ciphers with
    Arbitrary Finite Domains, CT-RSA 2002).

    Args:
        positions: in [0, n), shape (...).
        n: from 1 to 2**48.
        seed: in [0, 2**64).
        number: which permutation of that seed, in [0, 2**64); broadcasts against `positions`.

    Returns:
        int64, shape (...).
    """
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    value, numbers = np.broadcast_arrays(np.asarray(positions, np.int64), np.asarray(number, np.uint64))
    shape = value.shape
    value, numbers = value.ravel().copy(), numbers.ravel()
    low, high = numbers & np.uint64(0xFFFFFFFF), numbers >> np.uint64(32)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    todo = np.arange(len(value))
    while len(todo):
        left, right = np.divmod(value[todo], b)
        counter = np.empty((len(todo), 4), np.uint64)
        counter[:, 1], counter[:, 2] = low[todo], high[todo]
        for r in range(ORDER_ROUNDS_FEW if n <= 64 else ORDER_ROUNDS):
            counter[:, 0] = left if r % 2 else right
            counter[:, 3] = purpose_word(PURPOSE_ORDER, r)
            word = philox4x32(counter, key)[:, 0]
            if r % 2:
                right = (right + choose(word, b)) % b
            else:
                left = (left + choose(word, a)) % a
        value[todo] = left * b + right
        todo = todo[value[todo] >= n]
    return value.reshape(shape)

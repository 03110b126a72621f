"""float32 arithmetic that every backend repeats to the last bit: `fma` and what is built of it.

No libm: sine and cosine are polynomials of `fma` alone, so compiled code gives the same bits.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


def fma(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> F32:
    """a * b + c of float32 arrays, rounded once.

    The product is exact in float64. The sum is rounded to odd (Boldo and Melquiond, "Emulation of a FMA and
    correctly rounded sums", 2008): the second rounding, to float32, then gives what hardware gives, without exception.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    outward = np.where((error > 0) == (total > 0), 1, -1)
    odd = np.where((error != 0) & (bits & 1 == 0), bits + outward, bits)
    return np.asarray(odd).view(np.float64).astype(np.float32)


def lerp(a: F32, b: F32, s: npt.ArrayLike) -> F32:
    """a + s (b - a)."""
    return fma(s, b - a, a)


# sin and cos of (pi / 2) f for f in [-1/2, 1/2]: their Taylor coefficients in f, good to 3.3e-7.
SIN: Final = [np.float32((-1) ** i * (math.pi / 2) ** (2 * i + 1) / math.factorial(2 * i + 1)) for i in range(4)]
COS: Final = [np.float32((-1) ** i * (math.pi / 2) ** (2 * i) / math.factorial(2 * i)) for i in range(5)]


def sine_cosine(angle: npt.NDArray[np.uint32]) -> tuple[F32, F32]:
    """Sine and cosine of 2 pi (angle - 8192) / 65536 for integers in [0, 65536): float32, no libm in any backend.

    The top two bits choose the quadrant; the rest is an offset from its middle.
    """
    f = (np.asarray(angle & 16383, np.float32) - np.float32(8192)) * np.float32(1 / 16384)
    return _of_quadrant(f, angle >> np.uint32(14))


def _of_quadrant(f: F32, quadrant: npt.NDArray[np.uint32]) -> tuple[F32, F32]:
    """Sine and cosine of (pi / 2) (f + quadrant), f in [-1/2, 1/2], quadrant in 0 to 3."""
    z = f * f
    s = f * fma(z, fma(z, fma(z, SIN[3], SIN[2]), SIN[1]), SIN[0])
    c = fma(z, fma(z, fma(z, fma(z, COS[4], COS[3]), COS[2]), COS[1]), COS[0])
    quarter, half = quadrant & 1 == 1, quadrant >> 1 == 1
    s, c = np.where(quarter, c, s), np.where(quarter, -s, c)
    return np.where(half, -s, s), np.where(half, -c, c)


def turn(angle: npt.NDArray[np.uint32]) -> tuple[F32, F32]:
    """Sine and cosine of 2 pi angle / 2**32, good to 4e-7: as `sine_cosine`, of angles that are finer."""
    shifted = np.asarray(angle, np.uint32) + np.uint32(1 << 29)
    f = ((shifted & np.uint32(0x3FFFFFFF)).astype(np.int32) - np.int32(1 << 29)).astype(np.float32) * np.float32(2**-30)
    return _of_quadrant(f, shifted >> np.uint32(30))


# 2**f for f in [-1/2, 1/2]: its Taylor coefficients, good to 6e-9.
EXP2: Final = [np.float32(math.log(2) ** i / math.factorial(i)) for i in range(8)]


def exp2(x: npt.ArrayLike) -> F32:
    """2**x of float32 numbers between -100 and 100, good to 2e-7: a polynomial of `fma`, and an exponent set in its bits."""
    x = np.asarray(x, np.float32)
    whole = np.floor(x + np.float32(0.5))
    f = x - whole
    p = EXP2[7] * np.ones_like(f)
    for c in reversed(EXP2[:7]):
        p = fma(p, f, c)
    return p * ((whole.astype(np.int32) + 127) << 23).view(np.float32)

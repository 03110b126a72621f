"""Sixteen lanes as a numba value, so that a kernel says how it is vectorised instead of hoping for it.

Lanes become LLVM vectors (`<16 x float>`, `<16 x i32>`), which the compiler maps to whatever the CPU has: one
register of 512 bits, two of 256, four of 128. Against the same code left to the auto-vectoriser, whose success depends
on what it was inlined into, the inner loop of the Perlin kernel measured 2.1 times as fast and its hashing 3 times. A
fused multiply-add is one instruction where there is one, and a correctly rounded call of the C library elsewhere: slow
there, and the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_WIDE, _BYTES = ir.VectorType(_I64, LANES), ir.VectorType(ir.IntType(8), LANES)
_BYTE_AT = ir.IntType(8).as_pointer()


class _Lanes(types.Type):
    """Sixteen numbers of one kind."""


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _FLOATS if fe_type == floats else _INTS)


floats, ints = _Lanes(f"float32x{LANES}"), _Lanes(f"uint32x{LANES}")
Emit = Callable[..., Any]


def _operation(result: Any, arguments: tuple[Any, ...], emit: Emit) -> Any:
    """An intrinsic that gives what `emit(builder, *values)` gives, or nothing where `result` is void.

    Arguments are types, or classes of types. `emit` has the number of a literal, and the address of the first entry of an
    array; arrays are contiguous. `result` None stands for lanes of what is in the first argument, an array.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = list(args)
        for i, kind in enumerate(signature.args):
            if isinstance(kind, types.Array):
                values[i] = context.make_array(kind)(context, builder, args[i]).data
            elif isinstance(kind, types.IntegerLiteral):
                values[i] = kind.literal_value
        value = emit(builder, *values)
        return context.get_dummy_value() if result is types.void else value

    def typed(typingctx: Any, *given: Any) -> Any:
        pairs = list(zip(arguments, given, strict=True))
        if not all(isinstance(its, kind) for kind, its in pairs if isinstance(kind, type)):
            return None
        lanes = result or (floats if given[0].dtype == types.float32 else ints)
        return lanes(*(its if isinstance(kind, type) else kind for kind, its in pairs)), codegen

    # numba reads the number of arguments off the signature
    names = "typingctx", *(f"argument_{i}" for i in range(len(arguments)))
    typed.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names])  # type: ignore[attr-defined]
    return intrinsic(typed)


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _mirrored(builder: Any, lanes: Any) -> Any:
    return builder.shuffle_vector(lanes, lanes, ir.Constant(_INTS, list(reversed(range(LANES)))))


def _call(builder: Any, name: str, *lanes: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(lanes))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32"), lanes)


def _high_product(builder: Any, a: Any, b: Any) -> Any:
    product = builder.mul(builder.zext(a, _WIDE), builder.zext(b, _WIDE))
    return builder.trunc(builder.lshr(product, ir.Constant(_WIDE, [32] * LANES)), _INTS)


def _is_set(builder: Any, mask: Any) -> Any:
    return builder.icmp_unsigned("!=", mask, ir.Constant(_INTS, [0] * LANES))


def _any(builder: Any, mask: Any) -> Any:
    bits = ir.IntType(LANES)
    return builder.icmp_unsigned("!=", builder.bitcast(_is_set(builder, mask), bits), bits(0))


def _level(builder: Any, value: Any) -> Any:
    return builder.trunc(builder.fptosi(value, _INTS), _BYTES)


def _changed(builder: Any, before: Any, lanes: Any) -> Any:
    shifted = builder.shuffle_vector(before, lanes, ir.Constant(_INTS, list(range(LANES - 1, 2 * LANES - 1))))
    return builder.zext(builder.bitcast(builder.icmp_unsigned("!=", shifted, lanes), ir.IntType(LANES)), _I64)


# the place of the lowest bit of an integer that is set, and how many are
first_bit = _operation(types.int64, (types.int64,), lambda b, word: b.cttz(word, ir.Constant(ir.IntType(1), 0)))
set_bits = _operation(types.int64, (types.int64,), lambda b, word: b.ctpop(word))
# a * b + c of float32 numbers, rounded once
fma = _operation(types.float32, (types.float32,) * 3, lambda b, x, y, z: b.fma(x, y, z))
# float32 lanes
splat = _operation(floats, (types.float32,), lambda b, value: _splat(b, value, _FLOATS))
vfma = _operation(floats, (floats,) * 3, lambda b, x, y, z: _call(b, "fma", x, y, z))
vsqrt = _operation(floats, (floats,), lambda b, x: _call(b, "sqrt", x))  # correctly rounded
vfloor = _operation(floats, (floats,), lambda b, x: _call(b, "floor", x))
vadd = _operation(floats, (floats,) * 2, lambda b, x, y: b.fadd(x, y))
vsub = _operation(floats, (floats,) * 2, lambda b, x, y: b.fsub(x, y))
vmul = _operation(floats, (floats,) * 2, lambda b, x, y: b.fmul(x, y))
vdiv = _operation(floats, (floats,) * 2, lambda b, x, y: b.fdiv(x, y))
vneg = _operation(floats, (floats,), lambda b, x: b.fneg(x))
vabs = _operation(floats, (floats,), lambda b, x: _call(b, "fabs", x))
vmin = _operation(floats, (floats,) * 2, lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
vmax = _operation(floats, (floats,) * 2, lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
vselect = _operation(floats, (ints, floats, floats), lambda b, m, x, y: b.select(_is_set(b, m), x, y))  # m != 0: x
vfloat = _operation(floats, (ints,), lambda b, x: b.sitofp(x, _FLOATS))  # of integers below 2**24
vless = _operation(ints, (floats,) * 2, lambda b, x, y: b.sext(b.fcmp_ordered("<", x, y), _INTS))  # x < y: all ones
vtruncate = _operation(ints, (floats,), lambda b, x: b.fptosi(x, _INTS))  # of numbers in (-2**31, 2**31)
vbits = _operation(floats, (ints,), lambda b, x: b.bitcast(x, _FLOATS))  # the number of which these are the bits
# uint32 lanes
iless = _operation(ints, (ints,) * 2, lambda b, x, y: b.sext(b.icmp_unsigned("<", x, y), _INTS))  # x < y: all ones
iselect = _operation(ints, (ints, ints, ints), lambda b, m, x, y: b.select(_is_set(b, m), x, y))  # m != 0: x
isplat = _operation(ints, (types.uint32,), lambda b, value: _splat(b, value, _INTS))
iota = _operation(ints, (), lambda b: ir.Constant(_INTS, list(range(LANES))))
iadd = _operation(ints, (ints,) * 2, lambda b, x, y: b.add(x, y))
isub = _operation(ints, (ints,) * 2, lambda b, x, y: b.sub(x, y))
iand = _operation(ints, (ints,) * 2, lambda b, x, y: b.and_(x, y))
ior = _operation(ints, (ints,) * 2, lambda b, x, y: b.or_(x, y))
ixor = _operation(ints, (ints,) * 2, lambda b, x, y: b.xor(x, y))
ishl = _operation(ints, (ints,) * 2, lambda b, x, y: b.shl(x, y))
iany = _operation(types.boolean, (ints,), lambda b, x: _any(b, x))  # whether a lane is not 0
ishr = _operation(ints, (ints,) * 2, lambda b, x, y: b.lshr(x, y))
ichanged = _operation(
    types.int64, (ints,) * 2, _changed
)  # bit i: lane i of the second is not the lane before it, of both in a row
imul_low = _operation(ints, (ints,) * 2, lambda b, x, y: b.mul(x, y))
imul_high = _operation(ints, (ints,) * 2, _high_product)


# --- arrays

_PLACE = (types.Array, types.intp)
_STORE = (types.void, (*_PLACE, _Lanes))


def _at(builder: Any, array: Any, index: Any, to: Any) -> Any:
    return builder.bitcast(builder.gep(array, [index]), to.as_pointer())


def _load(builder: Any, array: Any, index: Any) -> Any:
    to = _FLOATS if array.type.pointee == _F32 else _INTS
    return builder.load(_at(builder, array, index, to), align=4)


def _store(builder: Any, array: Any, index: Any, lanes: Any) -> Any:
    return builder.store(lanes, _at(builder, array, index, lanes.type), align=1 if lanes.type == _BYTES else 4)


def vload_cells(size: int) -> Any:
    """An intrinsic: array[index + lane // size] of a float32 array, for each lane."""
    cells = ir.Constant(_INTS, [lane // size for lane in range(LANES)])

    def emit(builder: Any, array: Any, index: Any) -> Any:
        lanes = _load(builder, array, index)
        return builder.shuffle_vector(lanes, lanes, cells)

    return _operation(floats, _PLACE, emit)


def _prefetch(builder: Any, array: Any, index: Any) -> None:
    place, kind = builder.bitcast(builder.gep(array, [index]), _BYTE_AT), [_BYTE_AT, _I32, _I32, _I32]
    call = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kind), "llvm.prefetch.p0i8")
    builder.call(call, [place, _I32(1), _I32(3), _I32(1)])  # to write, into the nearest cache, of data


# the cache line of array[index], which may lie beyond the end: it will be written soon
prefetch = _operation(types.void, _PLACE, _prefetch)
# array[index : index + 16] of float32 or uint32
vload = _operation(None, _PLACE, _load)
# array[index] of a float32 array, in every lane
spread = _operation(floats, _PLACE, lambda b, array, index: _splat(b, b.load(b.gep(array, [index])), _FLOATS))
# array[index : index + 16] = value
vstore = _operation(*_STORE, _store)
# the same with floor(value), of a uint8 array, for values in [0, 256)
vstore_bytes = _operation(*_STORE, lambda b, array, index, value: _store(b, array, index, _level(b, value)))
# the same, the last lane first
vstore_mirrored = _operation(*_STORE, lambda b, out, i, value: _store(b, out, i, _mirrored(b, _level(b, value))))


def vcopy_bytes(mirrored: bool) -> Any:
    """An intrinsic: out[at : at + 16] = array[index : index + 16] of contiguous uint8 arrays, or its mirror image."""

    def emit(builder: Any, out: Any, at: Any, array: Any, index: Any) -> None:
        value = builder.load(_at(builder, array, index, _BYTES), align=1)
        _store(builder, out, at, _mirrored(builder, value) if mirrored else value)

    return _operation(types.void, _PLACE * 2, emit)


def _store_interleaved(builder: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    def join(x: Any, y: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, len(order)), order))

    n = LANES
    ac = join(a, c, [i + n * j for i in range(n) for j in range(2)])
    bd = join(b, d, [i + n * j for i in range(n) for j in range(2)])
    for part in range(4):
        order = [i + 2 * n * j for i in range(part * n // 2, (part + 1) * n // 2) for j in range(2)]
        _store(builder, array, builder.add(index, ir.Constant(index.type, part * n)), join(ac, bd, order))


# array[index : index + 64] = a[0], b[0], c[0], d[0], a[1], ... of a uint32 array
store_interleaved = _operation(types.void, (*_PLACE, ints, ints, ints, ints), _store_interleaved)
# the same of a float32 array
vstore_interleaved = _operation(types.void, (*_PLACE, floats, floats, floats, floats), _store_interleaved)


def _weighted_rows(mirrored: bool) -> Any:
    """An intrinsic: out[at + x] = floor(bias + sum over j < n of weights[first + j] * rows[starts[first + j] + x]), x < width.

    Mirrored, that goes to out[at + width - 1 - x]. The sum is a chain of fused multiply-adds in the order of j. Rows and
    weights are float32, starts int64, out uint8. `n` is a literal; `width` is a multiple of 16; sums lie in [0, 256).
    """

    def emit(
        builder: Any, n: int, rows: Any, starts: Any, weights: Any, first: Any, bias: Any, out: Any, at: Any, width: Any
    ) -> None:
        chain = []
        for j in range(n):
            index = builder.add(first, ir.Constant(first.type, j))
            weight = _splat(builder, builder.load(builder.gep(weights, [index])), _FLOATS)
            chain.append((weight, builder.gep(rows, [builder.load(builder.gep(starts, [index]))])))
        base, begin = _splat(builder, bias, _FLOATS), builder.gep(out, [at])
        zero, by = ir.Constant(first.type, 0), ir.Constant(first.type, LANES)
        with cgutils.for_range_slice(builder, zero, width, by) as (x, _):
            total = base
            for weight, row in chain:
                total = _call(builder, "fma", weight, _load(builder, row, x), total)
            levels = _level(builder, total)
            if mirrored:
                levels, x = _mirrored(builder, levels), builder.sub(builder.sub(width, by), x)
            _store(builder, begin, x, levels)

    sum_of = (types.IntegerLiteral, types.Array, types.Array, types.Array, types.intp, types.float32)
    return _operation(types.void, (*sum_of, *_PLACE, types.intp), emit)


weighted_rows, mirrored_rows = _weighted_rows(False), _weighted_rows(True)


def _clamped(builder: Any, value: Any) -> Any:
    low, high = (ir.Constant(_FLOATS, [float(end)] * LANES) for end in (0, 255))
    value = builder.select(builder.fcmp_ordered(">", value, low), value, low)
    return builder.select(builder.fcmp_ordered("<", value, high), value, high)


def _mirrored_sums(
    builder: Any, n: int, rows: Any, stride: Any, columns: Any, terms: Any, bias: Any, out: Any, at: Any, pitch: Any
) -> None:
    """See `mirrored_sums`."""
    zero, one, two = (ir.Constant(terms.type, i) for i in range(3))
    lanes = ir.Constant(terms.type, LANES)
    starts = [builder.gep(rows, [builder.mul(stride, ir.Constant(stride.type, i))]) for i in range(2 * n)]
    sums = [cgutils.alloca_once_value(builder, _splat(builder, bias, _FLOATS)) for _ in range(n)]
    sums += [cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * LANES)) for _ in range(n)]
    with cgutils.for_range_slice(builder, zero, terms, one) as (k, _):
        place = builder.mul(builder.mul(k, two), lanes)
        for part in range(2):
            column = _load(builder, columns, builder.add(place, lanes) if part else place)
            for i in range(n):
                factor = _splat(builder, builder.load(builder.gep(starts[2 * i + part], [k])), _FLOATS)
                total = sums[part * n + i]
                builder.store(_call(builder, "fma", factor, column, builder.load(total)), total)
    for i in range(n):
        even, odd = builder.load(sums[i]), builder.load(sums[n + i])
        left, right = (
            _level(builder, _clamped(builder, v)) for v in (builder.fadd(even, odd), builder.fsub(even, odd))
        )
        to = builder.add(at, builder.mul(pitch, ir.Constant(pitch.type, i)))
        _store(builder, out, to, _mirrored(builder, left))
        _store(builder, out, builder.add(to, lanes), right)


# n rows of 32 bytes, row i at out[at + i * pitch]. From its middle on to the right and to the left these are floor(even - odd)
# and floor(even + odd), clamped to [0, 255], with even = bias + sum over k < terms of rows[2 i stride + k] * columns[32 k + lane]
# and odd = sum over k of rows[(2 i + 1) stride + k] * columns[32 k + 16 + lane], chains of fused multiply-adds. n is a literal.
mirrored_sums = _operation(
    types.void,
    (types.IntegerLiteral, types.Array, types.intp, types.Array, types.intp, types.float32, *_PLACE, types.intp),
    _mirrored_sums,
)


def _put_bytes(builder: Any, array: Any, index: Any, value: Any, mask: Any) -> None:
    place = _at(builder, array, index, _I32)
    kept = builder.and_(builder.load(place, align=1), builder.not_(mask))
    builder.store(builder.or_(kept, builder.and_(value, mask)), place, align=1)


# array[index : index + 4] = the bytes of `value` that `mask` covers, of a uint8 array
put_bytes = _operation(types.void, (*_PLACE, types.uint32, types.uint32), _put_bytes)


def _bytes_that(predicate: str) -> Any:
    """An intrinsic on uint8 arrays, 64 at a time and then 16, the rest one by one."""

    def emit(builder: Any, out: Any, at: Any, array: Any, index: Any, n: Any, limit: Any, level: Any) -> None:
        target, source = builder.gep(out, [at]), builder.gep(array, [index])
        begin = ir.Constant(n.type, 0)
        for width in (64, 16, 1):
            kind = ir.VectorType(_BYTES.element, width)
            limits, levels = _splat(builder, limit, kind), _splat(builder, level, kind)
            stop = builder.and_(n, ir.Constant(n.type, -width))
            with cgutils.for_range_slice(builder, begin, stop, ir.Constant(n.type, width)) as (x, _):
                lit = builder.icmp_unsigned(predicate, builder.load(_at(builder, source, x, kind), align=1), limits)
                value = builder.select(lit, levels, ir.Constant(kind, [0] * width))
                builder.store(value, _at(builder, target, x, kind), align=1)
            begin = stop

    return _operation(types.void, (*_PLACE, *_PLACE, types.intp, types.uint8, types.uint8), emit)


# out[at : at + n] = level where array[index : index + n] <= limit, else 0
level_until = _bytes_that("<=")
# the same where it is >= limit
level_since = _bytes_that(">=")

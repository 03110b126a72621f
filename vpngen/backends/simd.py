"""Sixteen lanes as a numba value, so that a kernel says how it is vectorised instead of hoping for it.

Lanes become LLVM vectors (`<16 x float>`, `<16 x i32>`), which the compiler maps to whatever the processor has: one
register of 512 bits, two of 256, four of 128. Against the same code left to the auto-vectoriser, whose success depends
on what it was inlined into, the inner loop of the Perlin kernel measured 2.1 times as fast and its hashing 3 times. A
fused multiply-add is one instruction where there is one, and a correctly rounded call of the C library elsewhere: slow
there, and the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_WIDE, _BYTES = ir.VectorType(_I64, LANES), ir.VectorType(ir.IntType(8), LANES)


class _Lanes(types.Type):
    """Sixteen numbers of one kind."""


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _FLOATS if fe_type == floats else _INTS)


floats, ints = _Lanes(f"float32x{LANES}"), _Lanes(f"uint32x{LANES}")
Emit = Callable[..., Any]


def _operation(result: Any, arguments: tuple[Any, ...], emit: Emit) -> Any:
    """An intrinsic of fixed types; `emit(builder, *values)` gives its value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit(builder, *args)

    typed = result(*arguments), codegen
    arities: list[Emit] = [  # numba reads the number of arguments off the function
        lambda typingctx: typed,
        lambda typingctx, a: typed,
        lambda typingctx, a, b: typed,
        lambda typingctx, a, b, c: typed,
    ]
    return intrinsic(arities[len(arguments)])


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _mirrored(builder: Any, lanes: Any) -> Any:
    return builder.shuffle_vector(lanes, lanes, ir.Constant(_INTS, list(reversed(range(LANES)))))


def _call(builder: Any, name: str, *lanes: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(lanes))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32"), lanes)


def _product(builder: Any, a: Any, b: Any) -> Any:
    return builder.mul(builder.zext(a, _WIDE), builder.zext(b, _WIDE))


def _is_set(builder: Any, mask: Any) -> Any:
    return builder.icmp_unsigned("!=", mask, ir.Constant(_INTS, [0] * LANES))


def _lanes_that(builder: Any, condition: Any) -> Any:
    return builder.sext(condition, _INTS)


def _level(builder: Any, value: Any) -> Any:
    return builder.trunc(builder.fptosi(value, _INTS), _BYTES)


# a * b + c of float32 numbers, rounded once
fma = _operation(types.float32, (types.float32,) * 3, lambda b, x, y, z: b.fma(x, y, z))
# float32 lanes
splat = _operation(floats, (types.float32,), lambda b, value: _splat(b, value, _FLOATS))
vfma = _operation(floats, (floats,) * 3, lambda b, x, y, z: _call(b, "fma", x, y, z))
vsqrt = _operation(floats, (floats,), lambda b, x: _call(b, "sqrt", x))  # correctly rounded
vsub = _operation(floats, (floats,) * 2, lambda b, x, y: b.fsub(x, y))
vmul = _operation(floats, (floats,) * 2, lambda b, x, y: b.fmul(x, y))
vneg = _operation(floats, (floats,), lambda b, x: b.fneg(x))
vselect = _operation(floats, (ints, floats, floats), lambda b, m, x, y: b.select(_is_set(b, m), x, y))  # m != 0: x
vfloat = _operation(floats, (ints,), lambda b, x: b.sitofp(x, _FLOATS))  # of integers below 2**24
vless = _operation(
    ints, (floats,) * 2, lambda b, x, y: _lanes_that(b, b.fcmp_ordered("<", x, y))
)  # all ones where x < y
vtruncate = _operation(ints, (floats,), lambda b, x: b.fptosi(x, _INTS))  # of numbers in [0, 2**31)
# uint32 lanes
iless = _operation(
    ints, (ints,) * 2, lambda b, x, y: _lanes_that(b, b.icmp_unsigned("<", x, y))
)  # all ones where x < y
iselect = _operation(ints, (ints, ints, ints), lambda b, m, x, y: b.select(_is_set(b, m), x, y))  # m != 0: x
isplat = _operation(ints, (types.uint32,), lambda b, value: _splat(b, value, _INTS))
iota = _operation(ints, (), lambda b: ir.Constant(_INTS, list(range(LANES))))
iadd = _operation(ints, (ints,) * 2, lambda b, x, y: b.add(x, y))
isub = _operation(ints, (ints,) * 2, lambda b, x, y: b.sub(x, y))
iand = _operation(ints, (ints,) * 2, lambda b, x, y: b.and_(x, y))
ixor = _operation(ints, (ints,) * 2, lambda b, x, y: b.xor(x, y))
ishr = _operation(ints, (ints,) * 2, lambda b, x, y: b.lshr(x, y))
imul_low = _operation(ints, (ints,) * 2, lambda b, x, y: b.mul(x, y))
imul_high = _operation(
    ints, (ints,) * 2, lambda b, x, y: b.trunc(b.lshr(_product(b, x, y), ir.Constant(_WIDE, [32] * LANES)), _INTS)
)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, to: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _loading(emit: Emit) -> Any:
    """An intrinsic of (array, index): the lanes that `emit(builder, place)` gives, `place` being that of array[index].

    The array is one-dimensional and contiguous, of float32 or uint32; `index` counts from its start.
    """

    @intrinsic
    def operation(typingctx: Any, array: Any, index: Any) -> Any:
        kind, to = (floats, _FLOATS) if array.dtype == types.float32 else (ints, _INTS)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, _pointer(context, builder, signature.args[0], args[0], args[1], to))

        return kind(array, types.intp), codegen

    return operation


def _storing(emit: Emit) -> Any:
    """An intrinsic of (array, index, value): stores the lanes that `emit(builder, value)` gives from array[index] on."""

    @intrinsic
    def operation(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = emit(builder, args[2])
            place = _pointer(context, builder, signature.args[0], args[0], args[1], lanes.type)
            builder.store(lanes, place, align=1 if lanes.type == _BYTES else 4)
            return context.get_dummy_value()

        return types.void(array, types.intp, value), codegen

    return operation


def vload_cells(size: int) -> Any:
    """An intrinsic: array[index + lane // size] of a float32 array, for each lane."""
    cells = ir.Constant(_INTS, [lane // size for lane in range(LANES)])

    def emit(builder: Any, place: Any) -> Any:
        lanes = builder.load(place, align=4)
        return builder.shuffle_vector(lanes, lanes, cells)

    return _loading(emit)


# array[index : index + 16]
vload = _loading(lambda b, place: b.load(place, align=4))
# array[index] of a float32 array, in every lane
spread = _loading(lambda b, place: _splat(b, b.load(b.bitcast(place, _F32.as_pointer())), _FLOATS))
# array[index : index + 16] = value
vstore = _storing(lambda b, value: value)
# the same with floor(value), of a uint8 array, for values in [0, 256)
vstore_bytes = _storing(_level)


def vcopy_bytes(mirrored: bool) -> Any:
    """An intrinsic: out[at : at + 16] = array[index : index + 16] of contiguous uint8 arrays, or its mirror image."""

    @intrinsic
    def operation(typingctx: Any, out: Any, at: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_pointer(context, builder, signature.args[2], args[2], args[3], _BYTES), align=1)
            value = _mirrored(builder, value) if mirrored else value
            builder.store(value, _pointer(context, builder, signature.args[0], args[0], args[1], _BYTES), align=1)
            return context.get_dummy_value()

        return types.void(out, types.intp, array, types.intp), codegen

    return operation


@intrinsic
def store_interleaved(typingctx: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """array[index : index + 64] = a[0], b[0], c[0], d[0], a[1], ... of a one-dimensional contiguous uint32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, a, b, c, d = args

        def join(x: Any, y: Any, order: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, len(order)), order))

        n = LANES
        ac = join(a, c, [i + n * j for i in range(n) for j in range(2)])
        bd = join(b, d, [i + n * j for i in range(n) for j in range(2)])
        for part in range(4):
            order = [i + 2 * n * j for i in range(part * n // 2, (part + 1) * n // 2) for j in range(2)]
            place = builder.add(index, ir.Constant(index.type, part * n))
            builder.store(
                join(ac, bd, order), _pointer(context, builder, signature.args[0], array, place, _INTS), align=4
            )
        return context.get_dummy_value()

    return types.void(array, types.intp, ints, ints, ints, ints), codegen


def _weighted_rows(mirrored: bool) -> Any:
    """An intrinsic: out[at + x] = floor(bias + sum over j < n of weights[first + j] * rows[starts[first + j] + x]), x < width.

    Mirrored, that goes to out[at + width - 1 - x]. The sum is a chain of fused multiply-adds in the order of j. All arrays
    are one-dimensional and contiguous: float32 rows and weights, int64 starts, uint8 out. `n` is a literal; `width` is a
    multiple of 16; sums lie in [0, 256).
    """

    @intrinsic
    def operation(
        typingctx: Any,
        n: Any,
        rows: Any,
        starts: Any,
        weights: Any,
        first: Any,
        bias: Any,
        out: Any,
        at: Any,
        width: Any,
    ) -> Any:
        if not isinstance(n, types.IntegerLiteral):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            first, bias, at, width = args[4], args[5], args[7], args[8]

            def place(argument: int, index: Any, to: Any) -> Any:
                return _pointer(context, builder, signature.args[argument], args[argument], index, to)

            chain = []
            for j in range(n.literal_value):
                index = builder.add(first, ir.Constant(first.type, j))
                weight = _splat(builder, builder.load(place(3, index, _F32)), _FLOATS)
                chain.append((weight, place(1, builder.load(place(2, index, _I64)), _F32)))
            base, begin = _splat(builder, bias, _FLOATS), place(6, at, ir.IntType(8))
            zero, by = ir.Constant(first.type, 0), ir.Constant(first.type, LANES)
            with cgutils.for_range_slice(builder, zero, width, by) as (x, _):
                total = base
                for weight, row in chain:
                    lane = builder.load(builder.bitcast(builder.gep(row, [x]), _FLOATS.as_pointer()), align=4)
                    total = _call(builder, "fma", weight, lane, total)
                levels = _level(builder, total)
                if mirrored:
                    levels, x = _mirrored(builder, levels), builder.sub(builder.sub(width, by), x)
                builder.store(levels, builder.bitcast(builder.gep(begin, [x]), _BYTES.as_pointer()), align=1)
            return context.get_dummy_value()

        index = types.intp
        return types.void(n, rows, starts, weights, index, types.float32, out, index, index), codegen

    return operation


weighted_rows, mirrored_rows = _weighted_rows(False), _weighted_rows(True)


@intrinsic
def put_bytes(typingctx: Any, array: Any, index: Any, value: Any, mask: Any) -> Any:
    """array[index : index + 4] = the bytes of `value` that `mask` covers, of a contiguous uint8 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, value, mask = args
        place = _pointer(context, builder, signature.args[0], array, index, _I32)
        there = builder.load(place, align=1)
        builder.store(builder.or_(builder.and_(there, builder.not_(mask)), builder.and_(value, mask)), place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint32, types.uint32), codegen


def _bytes_that(predicate: str) -> Any:
    """An intrinsic on contiguous uint8 arrays, 64 at a time and then 16, the rest one by one."""

    @intrinsic
    def operation(typingctx: Any, out: Any, at: Any, array: Any, index: Any, n: Any, limit: Any, level: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, at, array, index, n, limit, level = args
            byte = ir.IntType(8)
            target = _pointer(context, builder, signature.args[0], out, at, byte)
            source = _pointer(context, builder, signature.args[2], array, index, byte)
            begin = ir.Constant(n.type, 0)
            for width in (64, 16, 1):
                kind = ir.VectorType(byte, width)
                limits, levels, none = (
                    _splat(builder, limit, kind),
                    _splat(builder, level, kind),
                    ir.Constant(kind, [0] * width),
                )
                stop = builder.and_(n, ir.Constant(n.type, -width))
                with cgutils.for_range_slice(builder, begin, stop, ir.Constant(n.type, width)) as (x, _):
                    there = builder.load(builder.bitcast(builder.gep(source, [x]), kind.as_pointer()), align=1)
                    lit = builder.icmp_unsigned(predicate, there, limits)
                    value = builder.select(lit, levels, none)
                    builder.store(value, builder.bitcast(builder.gep(target, [x]), kind.as_pointer()), align=1)
                begin = stop
            return context.get_dummy_value()

        index_type = types.intp
        return types.void(out, index_type, array, index_type, index_type, types.uint8, types.uint8), codegen

    return operation


# out[at : at + n] = level where array[index : index + n] <= limit, else 0
level_until = _bytes_that("<=")
# the same where it is >= limit
level_since = _bytes_that(">=")

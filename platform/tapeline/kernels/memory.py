"""What generated programs and the loops that run them need below numba: addresses of arrays and functions, code kept apart.

A compiled call with arrays copies seven words for each; a plan of 150 outputs makes two dozen such calls a row. Only generated
code, :mod:`tapeline.kernels.driver`, :mod:`tapeline.kernels.copy_rows`, :mod:`tapeline.kernels.packed_values` and
:mod:`tapeline.kernels.redis_reply` use addresses, of what their caller holds.
"""

from __future__ import annotations

from socket import MSG_DONTWAIT
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import extending as _extending
from numba import types
from numba.core import cgutils as _cgutils
from numba.np import arrayobj as _arrayobj

cgutils: Any = _cgutils
arrayobj: Any = _arrayobj
intrinsic: Any = _extending.intrinsic  # its stub gives what it makes one argument too many


@intrinsic
def address_of(_context: Any, array: Any) -> Any:
    """Address of a contiguous array's first value, int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = arrayobj.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(view.data, ir.IntType(64))

    return types.int64(array), generate


def _array_at(dtype: Any, address: Any, size: Any) -> Any:
    vector = types.Array(dtype, 1, "C")
    width = dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = arrayobj.make_array(vector)(context, builder)
        where = builder.inttoptr(arguments[0], view.data.type)
        arrayobj.populate_array(
            view,
            data=where,
            shape=cgutils.pack_array(builder, [arguments[1]]),
            strides=cgutils.pack_array(builder, [ir.Constant(ir.IntType(64), width)]),
            itemsize=ir.Constant(ir.IntType(64), width),
            meminfo=None,
        )
        return view._getvalue()  # noqa: SLF001

    return vector(types.int64, types.int64), generate


@intrinsic
def floats_at(_context: Any, address: Any, size: Any) -> Any:
    """The float64 array of so many values at an address; it does not own them."""
    return _array_at(types.float64, address, size)


@intrinsic
def integers_at(_context: Any, address: Any, size: Any) -> Any:
    """The int64 array of so many values at an address; it does not own them."""
    return _array_at(types.int64, address, size)


@intrinsic
def bytes_at(_context: Any, address: Any, size: Any) -> Any:
    """The uint8 array of so many values at an address; it does not own them."""
    return _array_at(types.uint8, address, size)


@intrinsic
def word_at(_context: Any, address: Any) -> Any:
    """The int64 at any address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=1)

    return types.int64(types.int64), generate


@intrinsic
def float_at(_context: Any, address: Any) -> Any:
    """The float64 at any address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()), align=1)

    return types.float64(types.int64), generate


@intrinsic
def copy_bytes(_context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy bytes between addresses that do not overlap."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        into, of = (builder.inttoptr(argument, byte) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, into, of, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def stack_floats(_context: Any, size: Any) -> Any:
    """Address of room for so many float64 values in the calling function's frame; not to be used in a loop."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(builder.alloca(ir.DoubleType(), size=arguments[0]), ir.IntType(64))

    return types.int64(types.int64), generate


@intrinsic
def call_section(_context: Any, section: Any, state_at: Any, row_at: Any, work_at: Any, out_at: Any) -> Any:
    """Call the section of a program at an address: a C function of four addresses that returns nothing."""
    word = ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [word] * 4)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def call_get_copy_data(_context: Any, function: Any, connection: Any, buffer_at: Any) -> Any:
    """Call libpq's ``int PQgetCopyData(PGconn *, char **, int)`` at an address, without waiting."""
    word, number = ir.IntType(64), ir.IntType(32)
    kind = ir.FunctionType(number, [word, word, number])

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        called = builder.inttoptr(arguments[0], kind.as_pointer())
        length = builder.call(called, [arguments[1], arguments[2], ir.Constant(number, 1)])
        return builder.sext(length, word)

    return types.int64(*[types.int64] * 3), generate


@intrinsic
def call_consume_input(_context: Any, function: Any, connection: Any) -> Any:
    """Call libpq's ``int PQconsumeInput(PGconn *)`` at an address: it takes in what has come, and does not wait."""
    word, number = ir.IntType(64), ir.IntType(32)
    kind = ir.FunctionType(number, [word])

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sext(builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:]), word)

    return types.int64(*[types.int64] * 2), generate


@intrinsic
def call_recv(_context: Any, function: Any, descriptor: Any, address: Any, size: Any) -> Any:
    """Call the C library's ``ssize_t recv(int, void *, size_t, int)`` at an address, without waiting."""
    word, number = ir.IntType(64), ir.IntType(32)
    kind = ir.FunctionType(word, [number, word, word, number])

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        called = builder.inttoptr(arguments[0], kind.as_pointer())
        socket = builder.trunc(arguments[1], number)
        return builder.call(called, [socket, *arguments[2:], ir.Constant(number, MSG_DONTWAIT)])

    return types.int64(*[types.int64] * 4), generate


@intrinsic
def call_free(_context: Any, function: Any, address: Any) -> Any:
    """Call libpq's ``void PQfreemem(void *)`` at an address."""
    word = ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [word])

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), generate


@intrinsic
def keep_apart(_context: Any) -> Any:
    """Keep the function that calls this out of its callers, as one that rarely runs.

    A step is compiled into every place that uses it. The loop that sums a window again would be there with it, unrolled:
    most of a plan's machine code for one row in hundreds, pushing what every row needs out of the instruction cache.
    """

    def generate(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        builder.function.attributes.add("cold")
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(), generate

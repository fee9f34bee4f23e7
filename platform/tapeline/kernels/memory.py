"""Arrays as addresses, so that a section of a plan takes four registers instead of four array structures.

A compiled call with arrays copies seven words for each; a plan of 150 outputs makes a dozen such calls a row. Only generated
code uses these, with addresses of arrays that its caller holds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic
from numba.np import arrayobj as _arrayobj

cgutils: Any = _cgutils
arrayobj: Any = _arrayobj


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def address_of(_context: Any, array: Any) -> Any:
    """Address of a contiguous array's first value, int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = arrayobj.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(view.data, ir.IntType(64))

    return types.int64(array), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def floats_at(_context: Any, address: Any, size: Any) -> Any:
    """The float64 array of so many values at an address; it does not own them."""
    vector = types.Array(types.float64, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = arrayobj.make_array(vector)(context, builder)
        where = builder.inttoptr(arguments[0], view.data.type)
        arrayobj.populate_array(
            view,
            data=where,
            shape=cgutils.pack_array(builder, [arguments[1]]),
            strides=cgutils.pack_array(builder, [ir.Constant(ir.IntType(64), 8)]),
            itemsize=ir.Constant(ir.IntType(64), 8),
            meminfo=None,
        )
        return view._getvalue()  # noqa: SLF001

    return vector(types.int64, types.int64), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator, unused-ignore]
def stack_floats(_context: Any, size: Any) -> Any:
    """Address of room for so many float64 values (a literal number) in the calling function's frame."""
    if not isinstance(size, types.IntegerLiteral):
        return None
    room = ir.ArrayType(ir.DoubleType(), size.literal_value)

    def generate(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once(builder, room), ir.IntType(64))

    return types.int64(size), generate

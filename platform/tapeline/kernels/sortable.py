"""Whole numbers as bytes that sort as the numbers do, so that a script in Redis compares two heads byte by byte.

The first byte says how many follow:

===========  =====  ==========================================================================
first byte   bytes  number
===========  =====  ==========================================================================
00               1  not known: before every number
01 … 08      9 … 2  negative: -1 - n, complemented
09 … 9F          1  0 … 150
A0 … DF          2  151 … 16,534
E0 … F7          3  16,535 … 1,589,398: the microseconds of a second, and some
F8 … FD      4 … 9  any other
===========  =====  ==========================================================================

A number of these loops is a sign and a size, uint64: of a negative one, -1 minus it. Sign 0: not known. So the difference of any
two int64 is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNKNOWN = -(1 << 63)

_ONE_BYTE, _TWO_BYTES, _THREE_BYTES, _MANY_BYTES = 0x09, 0xA0, 0xE0, 0xF8
_FROM_TWO = 0xA0 - 0x09
_FROM_THREE = _FROM_TWO + (0xE0 - 0xA0) * 256
_FROM_MANY = _FROM_THREE + (0xF8 - 0xE0) * 65_536


@njit(error_model="numpy")
def _put_bytes(out: NDArray[np.uint8], at: int, number: Any, count: int, turned: Any) -> int:
    for place in range(count):
        out[at + place] = np.uint8((number >> np.uint64(8 * (count - 1 - place))) & np.uint64(0xFF)) ^ turned
    return at + count


@njit(error_model="numpy")
def put(out: NDArray[np.uint8], at: int, sign: int, size: Any) -> int:
    """Write a number; where it ends."""
    if sign == 0:
        out[at] = 0
        return at + 1
    if sign < 0:
        count = 1
        while count < 8 and size >> np.uint64(8 * count) != np.uint64(0):
            count += 1
        out[at] = np.uint8(9 - count)
        return _put_bytes(out, at + 1, size, count, np.uint8(0xFF))
    if size < np.uint64(_FROM_TWO):
        out[at] = np.uint8(size + np.uint64(_ONE_BYTE))
        return at + 1
    if size < np.uint64(_FROM_THREE):
        rest = size - np.uint64(_FROM_TWO)
        out[at] = np.uint8((rest >> np.uint64(8)) + np.uint64(_TWO_BYTES))
        return _put_bytes(out, at + 1, rest, 1, np.uint8(0))
    if size < np.uint64(_FROM_MANY):
        rest = size - np.uint64(_FROM_THREE)
        out[at] = np.uint8((rest >> np.uint64(16)) + np.uint64(_THREE_BYTES))
        return _put_bytes(out, at + 1, rest, 2, np.uint8(0))
    count = 3
    while count < 8 and size >> np.uint64(8 * count) != np.uint64(0):
        count += 1
    out[at] = np.uint8(_MANY_BYTES + count - 3)
    return _put_bytes(out, at + 1, size, count, np.uint8(0))


@njit(error_model="numpy")
def put_difference(out: NDArray[np.uint8], at: int, time: int, base: int) -> int:
    """Write how far a time lies behind another. The difference of two int64 needs a bit more, which the sign gives."""
    if time == UNKNOWN:
        return put(out, at, 0, np.uint64(0))
    if time >= base:
        return put(out, at, 1, np.uint64(time) - np.uint64(base))
    return put(out, at, -1, np.uint64(base) - np.uint64(time) - np.uint64(1))


@njit(error_model="numpy")
def get(data: NDArray[np.uint8], at: Any, end: int) -> tuple[Any, int, Any]:
    """Where a number ends (-1: nowhere before ``end``), its sign and size."""
    nothing: Any = np.uint64(0)
    if at >= end:
        return -1, 0, nothing
    first: Any = np.int64(data[at])
    at += 1
    if _ONE_BYTE <= first < _TWO_BYTES:
        return at, 1, np.uint64(first - _ONE_BYTE)
    if first == 0:
        return at, 0, nothing
    turned = np.uint8(0)
    sign = 1
    start = nothing
    size = nothing
    if first < _ONE_BYTE:
        count = 9 - first
        sign = -1
        turned = np.uint8(0xFF)
    elif first < _THREE_BYTES:
        count = 1
        start = np.uint64(_FROM_TWO)
        size = np.uint64(first - _TWO_BYTES)
    elif first < _MANY_BYTES:
        count = 2
        start = np.uint64(_FROM_THREE)
        size = np.uint64(first - _THREE_BYTES)
    else:
        count = first - _MANY_BYTES + 3
        if count > 8:
            return -1, 0, nothing
    if at + count > end:
        return -1, 0, nothing
    for place in range(count):
        size = (size << np.uint64(8)) | np.uint64(data[at + place] ^ turned)
    return at + count, sign, start + size


@njit(error_model="numpy")
def get_difference(data: NDArray[np.uint8], at: int, end: int, base: int) -> tuple[Any, Any]:
    """Where a time ends that was written as its distance from another, and the time."""
    at, sign, size = get(data, at, end)
    if sign == 0:
        return at, UNKNOWN
    if sign > 0:
        return at, np.int64(np.uint64(base) + size)
    return at, np.int64(np.uint64(base) - size - np.uint64(1))

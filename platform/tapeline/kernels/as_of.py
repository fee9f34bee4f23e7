"""The point-in-time rule over arrays: which row each request takes, and the values of those rows."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from tapeline.kernels.memory import bytes_at, integers_at

Integers = NDArray[np.int64]

_FEW = 32
_GIVEN = types.Array(types.int64, 1, "C", readonly=True)  # of Arrow memory, too
_MADE = types.int64[::1]


@njit(nogil=True, cache=True)
def _precedes(
    left: int, right: int, event: Integers, sequence: Integers, available: Integers, created: Integers
) -> bool:
    """Whether a row comes before another in the rule's order."""
    if event[left] != event[right]:
        return event[left] < event[right]
    if sequence[left] != sequence[right]:
        return sequence[left] < sequence[right]
    if available[left] != available[right]:
        return available[left] < available[right]
    return created[left] < created[right]


@njit(nogil=True, cache=True)
def _by(values: Integers, rows: Integers) -> None:
    """Put rows in the order of their values; equal ones stay as they are."""
    rows[:] = rows[np.argsort(values[rows], kind="mergesort")]


@njit(nogil=True, cache=True)
def _rank(rows: Integers, event: Integers, sequence: Integers, available: Integers, created: Integers) -> None:
    """Put the rows of one key in the rule's order: event, sequence, available, created."""
    sorted_already = True
    for place in range(1, len(rows)):
        if _precedes(rows[place], rows[place - 1], event, sequence, available, created):
            sorted_already = False
            break
    if sorted_already:
        return
    _by(event, rows)
    begin = 0
    while begin < len(rows):  # only rows of one event need the rest of the order
        end = begin + 1
        while end < len(rows) and event[rows[end]] == event[rows[begin]]:
            end += 1
        tied = rows[begin:end]
        if len(tied) <= _FEW:
            for place in range(1, len(tied)):
                row, back = tied[place], place
                while back > 0 and _precedes(row, tied[back - 1], event, sequence, available, created):
                    tied[back] = tied[back - 1]
                    back -= 1
                tied[back] = row
        else:
            _by(created, tied)
            _by(available, tied)
            _by(sequence, tied)
        begin = end


@njit(nogil=True, cache=True)
def _as_seen(
    rows: Integers,
    moments: Integers,
    event: Integers,
    sequence: Integers,
    available: Integers,
    created: Integers,
    visible: Integers,
) -> None:
    """Put the best row known from each moment on in place of the rows of one key, and the moments beside them."""
    _rank(rows, event, sequence, available, created)
    in_order = True
    for place in range(len(rows)):
        moments[place] = visible[rows[place]]
        in_order = in_order and (place == 0 or moments[place - 1] <= moments[place])
    if in_order:
        return
    ranked, shown = rows.copy(), np.argsort(moments, kind="mergesort")
    moments[:] = moments[shown]
    best = np.int64(0)
    for place in range(len(rows)):
        best = max(best, shown[place])
        rows[place] = ranked[best]


@njit(
    _MADE(*[_MADE] * 6, types.int64, _GIVEN, _GIVEN, types.int64),
    nogil=True,
    cache=True,
)
def latest_visible(
    keys: Integers,
    event: Integers,
    sequence: Integers,
    available: Integers,
    created: Integers,
    visible: Integers,
    key_count: int,
    request_keys: Integers,
    request_times: Integers,
    ttl: int,
) -> Integers:
    """The row that each request takes, or -1.

    The newest event that a request may see is not always the newest event before it: that one may not be available yet, or
    be a correction of an older one. So the rows of a key are walked in the order in which they became visible, and the
    greatest in the rule's order of those seen so far is the best known at each moment. It has the greatest event time of all
    that are visible, so if it is past its time to live, all are. Sorted rows, which is most of them, are not sorted again.

    Parameters
    ----------
    keys, event, sequence, available, created, visible
        int64 (N,): the rows, in any order: key from 0, times, and the first moment at which a request may see them.
    key_count
        Number of keys.
    request_keys, request_times
        int64 (R,): the requests, times ascending.
    ttl
        Greatest age of an event; 0: no limit.
    """
    starts = np.zeros(key_count + 1, dtype=np.int64)
    for key in keys:
        starts[key + 1] += 1
    starts = np.cumsum(starts)
    rows = np.empty(len(keys), dtype=np.int64)
    cursor = starts[:-1].copy()
    for row in range(len(keys)):
        key = keys[row]
        rows[cursor[key]] = row
        cursor[key] += 1

    moments = np.empty(len(keys), dtype=np.int64)
    for key in range(key_count):
        begin, end = starts[key], starts[key + 1]
        _as_seen(rows[begin:end], moments[begin:end], event, sequence, available, created, visible)

    answer = np.full(len(request_keys), -1, dtype=np.int64)
    cursor[:] = starts[:-1]
    for request in range(len(request_keys)):
        key, moment = request_keys[request], request_times[request]
        place = cursor[key]
        while place < starts[key + 1] and moments[place] <= moment:
            place += 1
        cursor[key] = place
        if place > starts[key]:
            row = rows[place - 1]
            if ttl == 0 or event[row] >= moment - ttl:
                answer[request] = row
    return answer


@njit(
    "void(int64[::1], int64[::1], int64[::1], int64, int64, int64[::1], int64[::1], int64[::1], uint8[::1])",
    nogil=True,
    cache=True,
)
def gather(
    values: Integers,
    validities: Integers,
    offsets: Integers,
    block_bits: int,
    row_count: int,
    taken: Integers,
    places: Integers,
    out: Integers,
    valid: NDArray[np.uint8],
) -> None:
    """Values of 64 bits from blocks of rows, by number of row.

    Parameters
    ----------
    values, validities, offsets
        int64 (B,): addresses of each block's values, and of its bitmap of what is not null (0: nothing is), and how many
        values come before its first.
    block_bits, row_count
        Binary logarithm of the rows of every block but the last, and the rows of all together.
    taken, places
        int64 (T,): which row goes where in `out`; -1: none.
    out, valid
        int64, uint8 (N,): the values' bits, and 1 where there is one.
    """
    for number in range(len(taken)):
        row, place = taken[number], places[number]
        if row < 0 or row >= row_count:
            continue
        block = row >> block_bits
        at = row - (block << block_bits) + offsets[block]
        if validities[block] != 0 and (bytes_at(validities[block], (at >> 3) + 1)[at >> 3] >> (at & 7)) & 1 == 0:
            continue
        out[place] = integers_at(values[block], at + 1)[at]
        valid[place] = 1

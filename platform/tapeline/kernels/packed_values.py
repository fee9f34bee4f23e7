"""Loops over packed online values: rows to bytes, bytes to columns, and the values of one ``MGET`` straight to a matrix.

The form is told in :mod:`tapeline.storage.packed`; its whole numbers are those of
:mod:`tapeline.kernels.sortable`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.memory import address_of, copy_bytes, float_at, word_at
from tapeline.kernels.sortable import UNKNOWN, get_difference, put, put_difference

CODEC = 0xFA
"""First byte of every value; with its lowest bit set where a null bitmap follows. No text in UTF-8 begins like this."""

ID_BYTES = 5
HEAD_BYTES_MIN, HEAD_BYTES_MAX = 1 + ID_BYTES + 5, 1 + ID_BYTES + 7 + 3 + 9 + 9 + 9
"""Of everything before the null bitmap."""

LONG = 0xFF
"""First byte of a tail item's length where that does not fit into this byte: four bytes follow."""

EXPECTED, COLUMNS, SLOTS, TTL_US, PICK, PICK_END, TAIL, TAIL_END, IS_RUN, VIEW_SIZE = range(10)
"""Places in a row of what ``read_matrix`` knows of a view: its first six bytes as a number, how many columns and slots it has,
its TTL, its rows in the other tables, and whether its features lie in the matrix as they do in its values, all floats."""

SLOT, COLUMN, PLACE, IS_INTEGER, PICK_SIZE = range(5)
"""Places in a row of what it knows of a feature: its slot and column in the view, and its column in the matrix."""

PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 2, 3, 4

_SECOND_US = 1_000_000
_SECOND_MIN, _SECOND_MAX = -(1 << 63) // _SECOND_US, ((1 << 63) - 1) // _SECOND_US
_HEAD_MASK = (1 << 48) - 1


@njit(nogil=True, cache=True, error_model="numpy")
def encode_rows(
    times: NDArray[np.int64],
    slots: NDArray[np.float64],
    nulls: NDArray[np.uint8],
    layout_id: NDArray[np.uint8],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> None:
    """Write rows one after another, up to their tails.

    Parameters
    ----------
    times
        int64 (N, 4): event, sequence, available, created.
    slots
        float64 (N, S): the number block.
    nulls
        uint8 (N, columns), 1 where null; (N, 0) where nothing is.
    layout_id
        uint8 (``ID_BYTES``,).
    out
        uint8, receives the values: ``HEAD_BYTES_MAX``, a bitmap and the number block a row are enough.
    ends
        int64 (N,), receives where each ends.
    """
    at = 0
    block = 8 * slots.shape[1]
    columns = nulls.shape[1]
    for row in range(len(times)):
        has_null = False
        for column in range(columns):
            has_null |= nulls[row, column] != 0
        out[at] = np.uint8(CODEC + has_null)
        copy_bytes(address_of(out) + at + 1, address_of(layout_id), ID_BYTES)
        at += 1 + ID_BYTES
        event, sequence, available, created = times[row, 0], times[row, 1], times[row, 2], times[row, 3]
        if event == UNKNOWN:
            at = put(out, put(out, at, 0, np.uint64(0)), 1, np.uint64(0))
        else:
            second = event // _SECOND_US
            at = put_difference(out, at, second, 0)
            at = put_difference(out, at, event - second * _SECOND_US, 0)
        at = put_difference(out, at, sequence, 0)
        at = put_difference(out, at, available, event)
        at = put_difference(out, at, created, event if available == UNKNOWN else available)
        if has_null:
            bits = (columns + 7) // 8
            for byte in range(bits):
                packed = 0
                for column in range(8 * byte, min(8 * byte + 8, columns)):
                    packed |= (nulls[row, column] != 0) << (column & 7)
                out[at + byte] = np.uint8(packed)
            at += bits
        copy_bytes(address_of(out) + at, address_of(slots) + row * block, block)
        at += block
        ends[row] = at


@njit(error_model="numpy")
def _get_times(data: NDArray[np.uint8], at: int, end: int) -> tuple[Any, Any, Any, Any, Any]:
    """Where the times end (-1: nowhere), and event, sequence, available, created."""
    at, second = get_difference(data, at, end, 0)
    if at >= 0:
        at, within = get_difference(data, at, end, 0)
        event: Any = UNKNOWN if second == UNKNOWN else np.int64(second * _SECOND_US + within)
        if second != UNKNOWN and not _SECOND_MIN <= second <= _SECOND_MAX:
            at = -1
        if at >= 0 and 0 <= within < _SECOND_US:  # or the head would be longer than any that is written
            at, sequence = get_difference(data, at, end, 0)
            if at >= 0:
                at, available = get_difference(data, at, end, event)
                if at >= 0:
                    at, created = get_difference(data, at, end, event if available == UNKNOWN else available)
                    return at, event, sequence, available, created
    return -1, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN


@njit(cache=True, error_model="numpy")
def read_times(data: NDArray[np.uint8], times: NDArray[np.int64]) -> int:
    """The four times in a value's head; where they end, or -1 where they are cut short."""
    at, times[0], times[1], times[2], times[3] = _get_times(data, 1 + ID_BYTES, len(data))
    return at


@njit(error_model="numpy", forceinline=True)
def _is_null(data: NDArray[np.uint8], bitmap: int, column: int) -> bool:
    return (data[bitmap + (column >> 3)] >> np.uint8(column & 7)) & np.uint8(1) != 0


@njit(error_model="numpy", forceinline=True)
def _item(data: NDArray[np.uint8], at: Any, end: int) -> tuple[Any, Any]:
    """Where a tail item begins and ends; -1, -1 where it does not lie within the value."""
    if at >= end:
        return -1, -1
    size: Any = np.int64(data[at])
    at += 1
    if size == LONG:
        if at + 4 > end:
            return -1, -1
        size = 0
        for place in range(4):
            size |= np.int64(data[at + place]) << (8 * place)
        at += 4
    return (-1, -1) if size > end - at else (at, at + size)


@njit(error_model="numpy", forceinline=True)
def _is_of(data: NDArray[np.uint8], at: int, length: int, expected: int) -> bool:
    """Whether the bytes begin as a value of the layout does."""
    if length < HEAD_BYTES_MIN:
        return False
    return (word_at(address_of(data) + at) & _HEAD_MASK) | 1 == expected | 1


@njit(nogil=True, cache=True, error_model="numpy")
def decode_rows(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    expected: int,
    tail_columns: NDArray[np.int64],
    times: NDArray[np.int64],
    nulls: NDArray[np.uint8],
    slots: NDArray[np.float64],
    items: NDArray[np.int64],
) -> int:
    """Read values of one layout; how many nulls and missing rows there are, or -1 minus the place of the first that is none.

    Parameters
    ----------
    data, starts, lengths
        uint8; int64 (N,), (N,): where each value lies in the data; length -1 where there is none.
    expected
        The first six bytes of every value as a little-endian number, that of one without nulls.
    tail_columns
        int64 (T,): columns that lie in the tail.
    times, nulls, slots
        int64 (N, 4), uint8 (N, columns), float64 (N, S): receive the rows; not known, null and NaN where there is none.
    items
        int64 (N, T, 2), receives where each tail item begins and ends in the data; 0, 0 of a null.
    """
    columns, width = nulls.shape[1], slots.shape[1]
    count = 0
    for row in range(len(starts)):
        at, length = starts[row], lengths[row]
        if length < 0:
            for place in range(4):
                times[row, place] = UNKNOWN
            for column in range(columns):
                nulls[row, column] = 1
            for slot in range(width):
                slots[row, slot] = np.nan
            for item in range(len(tail_columns)):
                items[row, item, 0] = items[row, item, 1] = 0
            count += 1
            continue
        end = at + length
        if not _is_of(data, at, length, expected):
            return -1 - row
        has_null = data[at] & np.uint8(1) != 0
        at, times[row, 0], times[row, 1], times[row, 2], times[row, 3] = _get_times(data, at + 1 + ID_BYTES, end)
        if at < 0:
            return -1 - row
        bitmap = at
        at += (columns + 7) // 8 if has_null else 0
        if at + 8 * width > end:
            return -1 - row
        if has_null:
            for column in range(columns):
                null = _is_null(data, bitmap, column)
                nulls[row, column] = null
                count += null
        else:
            for column in range(columns):
                nulls[row, column] = 0
        copy_bytes(address_of(slots) + 8 * width * row, address_of(data) + at, 8 * width)
        at += 8 * width
        for item in range(len(tail_columns)):
            if has_null and nulls[row, tail_columns[item]]:
                items[row, item, 0] = items[row, item, 1] = 0
                continue
            items[row, item, 0], at = _item(data, at, end)
            if at < 0:
                return -1 - row
            items[row, item, 1] = at
        if at != end:
            return -1 - row
    return count


@njit(error_model="numpy", forceinline=True)
def _status(event: int, available: int, has_clock: int, now_us: int, replays: int, ttl_us: int) -> int:
    """What ``storage.statuses.row_statuses`` says of a row."""
    if has_clock == 0:
        return PRESENT
    if replays != 0 and (available > now_us or event > now_us):
        return NOT_FOUND
    if available > now_us and available > event:
        return NOT_FOUND
    if ttl_us != 0 and event < now_us - ttl_us:
        return OUTSIDE_MAX_AGE
    return PRESENT


@njit(nogil=True, cache=True, error_model="numpy")
def read_matrix(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    views: NDArray[np.int64],
    picks: NDArray[np.int64],
    tail_columns: NDArray[np.int64],
    has_clock: int,
    now_us: int,
    replays: int,
    values: NDArray[np.float64],
    statuses: NDArray[np.uint8],
    times: NDArray[np.int64],
) -> int:
    """Read the values of N entities in V views, view by view; -1, or the place of the first that is none.

    Parameters
    ----------
    data, starts, lengths
        As of ``decode_rows``; V·N values.
    views, picks, tail_columns
        int64 (V, ``VIEW_SIZE``), (F, ``PICK_SIZE``), (T,).
    has_clock, now_us, replays
        Whether there is a clock, its moment, and whether it replays history.
    values, statuses, times
        float64 (N, F), uint8 (N, F), int64 (N, V, 4): receive the rows.
    """
    rows = len(values)
    for view in range(len(views)):
        expected, width, ttl_us = views[view, EXPECTED], views[view, SLOTS], views[view, TTL_US]
        bitmap_bytes = (views[view, COLUMNS] + 7) // 8
        pick, pick_end = views[view, PICK], views[view, PICK_END]
        for row in range(rows):
            place = view * rows + row
            at, length = starts[place], lengths[place]
            status = NOT_FOUND
            bitmap = -1
            if length < 0:
                for number in range(4):
                    times[row, view, number] = UNKNOWN
            else:
                end = at + length
                if not _is_of(data, at, length, expected):
                    return place
                has_null = data[at] & np.uint8(1) != 0
                at, event, sequence, available, created = _get_times(data, at + 1 + ID_BYTES, end)
                if at < 0:
                    return place
                if has_null:
                    bitmap = at
                    at += bitmap_bytes
                tail = at + 8 * width
                if tail > end:
                    return place
                for item in range(views[view, TAIL], views[view, TAIL_END]):
                    if not (has_null and _is_null(data, bitmap, tail_columns[item])):
                        _, tail = _item(data, tail, end)
                        if tail < 0:
                            return place
                if tail != end:
                    return place
                times[row, view, 0], times[row, view, 1] = event, sequence
                times[row, view, 2], times[row, view, 3] = available, created
                status = _status(event, available, has_clock, now_us, replays, ttl_us)
            if status != PRESENT:
                for number in range(pick, pick_end):
                    values[row, picks[number, PLACE]] = np.nan
                    statuses[row, picks[number, PLACE]] = status
                continue
            block = address_of(data) + at
            if views[view, IS_RUN] and bitmap < 0:
                first = picks[pick, PLACE]
                into_run = address_of(values) + 8 * (row * values.shape[1] + first)
                copy_bytes(into_run, block + 8 * picks[pick, SLOT], 8 * (pick_end - pick))
                for into in range(first, first + pick_end - pick):
                    statuses[row, into] = PRESENT
                continue
            for number in range(pick, pick_end):
                into = picks[number, PLACE]
                if bitmap >= 0 and _is_null(data, bitmap, picks[number, COLUMN]):
                    values[row, into] = np.nan
                    statuses[row, into] = NULL_VALUE
                    continue
                word = block + 8 * picks[number, SLOT]
                values[row, into] = word_at(word) if picks[number, IS_INTEGER] else float_at(word)
                statuses[row, into] = PRESENT
    return -1

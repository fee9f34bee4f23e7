"""Decodes ``COPY … TO STDOUT (FORMAT binary)`` into columns, taking each message from libpq as it comes.

A message of libpq is a row. Handing each to Python costs more than decoding it, so this loop calls libpq itself and gives
whole batches back. It never waits: where nothing has come yet, it returns, and the caller waits in a way that signals can
interrupt.

Source of the format: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.memory import address_of, bytes_at, call_consume_input, call_free, call_get_copy_data

FULL, WAIT, DONE, ENDED, NO_ROOM, MALFORMED = 0, 1, 2, 3, 4, 5
"""Why `read_rows` returned: the batch is full, nothing has come yet, the trailer came, the stream ended before it, a text
column needs room (``state[COLUMN]`` says which, ``state[NEEDED]`` how many bytes), or the bytes are no binary COPY."""

CONNECTION, GET_COPY_DATA, CONSUME_INPUT, FREE, BUFFER, LENGTH, ROWS, STARTED, COLUMN, NEEDED, STATE_SIZE = range(11)
"""Places in the state: addresses of the connection and of libpq's functions, the message at hand and its length (0: none),
rows in the batch, whether the header was seen, and what `NO_ROOM` wants."""

BOOLEAN, NUMBER, MOMENT, DAY, TEXT = 0, 1, 2, 3, 4
"""Kinds of columns: one byte; a big-endian number of its width; microseconds and days since 2000-01-01; bytes of any length."""

_EPOCH_US = 946_684_800_000_000
_EPOCH_DAYS = 10_957
_GREATEST = np.int64(2**63 - 1)
_GREATEST_DAY = np.int64(2**31 - 1)
_HEADER = 19


@njit(inline="always")
def _number(data: NDArray[np.uint8], at: int, width: int) -> int:
    """A big-endian integer, its sign extended. The fixed widths let the compiler make one load and one swap of each."""
    if width == 8:
        return np.int64(
            (np.uint64(data[at]) << np.uint64(56)) | (np.uint64(data[at + 1]) << np.uint64(48))
            | (np.uint64(data[at + 2]) << np.uint64(40)) | (np.uint64(data[at + 3]) << np.uint64(32))
            | (np.uint64(data[at + 4]) << np.uint64(24)) | (np.uint64(data[at + 5]) << np.uint64(16))
            | (np.uint64(data[at + 6]) << np.uint64(8)) | np.uint64(data[at + 7])
        )  # fmt: skip
    if width == 4:
        return np.int64(
            np.int32(
                (np.uint32(data[at]) << np.uint32(24)) | (np.uint32(data[at + 1]) << np.uint32(16))
                | (np.uint32(data[at + 2]) << np.uint32(8)) | np.uint32(data[at + 3])
            )
        )  # fmt: skip
    if width == 2:
        return np.int64(np.int16((np.uint16(data[at]) << np.uint16(8)) | np.uint16(data[at + 1])))
    return np.int64(data[at])


@njit(
    "int64(int64[::1], int64[::1], int64[::1], int64[:, ::1], uint8[:, ::1], int64[:, ::1], int64[::1], int64[::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def read_rows(
    state: NDArray[np.int64],
    kinds: NDArray[np.int64],
    widths: NDArray[np.int64],
    values: NDArray[np.int64],
    nulls: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    texts: NDArray[np.int64],
    rooms: NDArray[np.int64],
) -> int:
    """Decode messages until the batch is full or there is a reason to stop; the reason.

    Parameters
    ----------
    state
        int64 (`STATE_SIZE`,); a batch goes on where the last call stopped.
    kinds, widths
        int64 (C,): kind of each column, and the bytes of its values; 0 for text.
    values
        int64 (C, N): values of columns that are no text; the bits of floats.
    nulls
        uint8 (C, N): 1 where a value is NULL.
    offsets
        int64 (C, N + 1): ends of the texts within their column's bytes, the first 0.
    texts, rooms
        int64 (C,): address and size of each text column's bytes.
    """
    cell = address_of(state) + 8 * BUFFER
    columns = len(kinds)
    rows = nulls.shape[1]
    while state[ROWS] < rows:
        if state[LENGTH] == 0:
            length = call_get_copy_data(state[GET_COPY_DATA], state[CONNECTION], cell)
            if length == 0:
                if call_consume_input(state[CONSUME_INPUT], state[CONNECTION]) == 0:
                    return ENDED
                length = call_get_copy_data(state[GET_COPY_DATA], state[CONNECTION], cell)
            if length == 0:
                return WAIT
            if length < 0:
                return ENDED
            state[LENGTH] = length
        length = state[LENGTH]
        data = bytes_at(state[BUFFER], length)
        at = 0
        if state[STARTED] == 0:
            if length < _HEADER:
                return MALFORMED
            at = _HEADER + _number(data, 15, 4)
        row = state[ROWS]
        if at + 2 > length:
            if at != length:
                return MALFORMED
        else:
            fields = _number(data, at, 2)
            at += 2
            if fields == -1:
                return DONE
            if fields != columns:
                return MALFORMED
            for column in range(columns):
                if at + 4 > length:
                    return MALFORMED
                size = _number(data, at, 4)
                at += 4
                if at + size > length:
                    return MALFORMED
                kind = kinds[column]
                if kind == TEXT:
                    start = offsets[column, row]
                    end = start + max(size, 0)
                    if end > rooms[column]:
                        state[COLUMN] = column
                        state[NEEDED] = end
                        return NO_ROOM
                    offsets[column, row + 1] = end
                    if size > 0:
                        bytes_at(texts[column] + start, size)[:] = data[at : at + size]
                if size < 0:
                    nulls[column, row] = 1
                    values[column, row] = 0
                    continue
                nulls[column, row] = 0
                if kind != TEXT:
                    if size != widths[column]:
                        return MALFORMED
                    value = _number(data, at, size)
                    if kind == MOMENT:
                        # `infinity` is the greatest int64 already; adding the epoch would make it a moment long ago.
                        value = value + _EPOCH_US if value <= _GREATEST - _EPOCH_US else _GREATEST
                    elif kind == DAY:
                        value = min(value + _EPOCH_DAYS, _GREATEST_DAY)
                    values[column, row] = value
                at += size
            state[ROWS] = row + 1
        state[STARTED] = 1
        call_free(state[FREE], state[BUFFER])
        state[LENGTH] = 0
    return FULL


@njit("void(int64[::1])", cache=True)
def release(state: NDArray[np.int64]) -> None:
    """Give the message at hand back to libpq."""
    if state[LENGTH] > 0:
        call_free(state[FREE], state[BUFFER])
        state[LENGTH] = 0

"""Where the values of an answer to ``MGET`` lie, found while the answer comes.

Redis answers within some 20 µs, and on a virtual machine waking a sleeping thread takes several times that. So a loop here asks
the socket again and again for a moment, before its caller goes to sleep over it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.memory import address_of, call_recv

WHOLE, PART, OTHER = 0, 1, 2
"""What ``find_values`` found: the whole answer, a part of it, or something else than a list of values."""

AT, FOUND, FILLED, STATE_SIZE = range(4)
"""Places in the state of an answer: where to go on, how many values were found (-1 for an answer that begins there), and how
much has come."""


@njit(error_model="numpy")
def _line(data: NDArray[np.uint8], at: int, filled: int) -> tuple[int, int]:
    """Where a line with a number ends, and the number; -1 if it has not come whole, -2 if it holds something else."""
    sign = 1
    number: Any = 0
    if at < filled and data[at] == ord("-"):
        sign = -1
        at += 1
    first = at
    while at < filled and ord("0") <= data[at] <= ord("9"):
        if at - first > 17:
            return -2, 0
        number = 10 * number + np.int64(data[at]) - ord("0")
        at += 1
    if at + 2 > filled:
        return (-1, 0) if at == filled or data[at] == 13 else (-2, 0)
    if at == first or data[at] != 13 or data[at + 1] != 10:
        return -2, 0
    return at + 2, sign * number


# Compiled when it is imported: at its first use an answer is under way, which must come within its time.
@njit("int64(uint8[::1], int64[::1], int64[::1], int64[::1])", nogil=True, cache=True, error_model="numpy")
def find_values(
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> int:
    """Find where the values of an answer to ``MGET`` lie, as far as it has come: ``WHOLE``, ``PART`` or ``OTHER``.

    Parameters
    ----------
    data
        uint8, the answer in Redis' protocol (either version).
    state
        int64 (`STATE_SIZE`,).
    starts, lengths
        int64 (N,): receive the place and length of each value; length -1 where there is none.
    """
    at, found, filled = state[AT], state[FOUND], state[FILLED]
    if found < 0:
        if at >= filled:
            return PART
        if data[at] != ord("*"):
            return OTHER
        at, count = _line(data, at + 1, filled)
        if at < 0:
            return PART if at == -1 else OTHER
        if count != len(starts):
            return OTHER
        found = 0
        state[AT], state[FOUND] = at, found
    while found < len(starts):
        if at >= filled:
            return PART
        kind = data[at]
        end = at + 1
        if kind == ord("$"):
            begin, size = _line(data, at + 1, filled)
            if begin < 0 or size < -1:
                return PART if begin == -1 else OTHER
            lengths[found] = size
            starts[found] = begin
            end = begin + size if size >= 0 else begin - 2
        elif kind == ord("_"):
            lengths[found] = -1
        else:
            return OTHER
        if end + 2 > filled:
            return PART
        if data[end] != 13 or data[end + 1] != 10:
            return OTHER
        at = end + 2
        found += 1
        state[AT], state[FOUND] = at, found
    return WHOLE


@njit(
    "int64(int64, int64, int64, uint8[::1], int64[::1], int64[::1], int64[::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def receive_values(
    recv: int,
    descriptor: int,
    tries: int,
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> int:
    """``find_values`` of an answer as it comes over a socket; ``PART`` where it does not, or the room is full.

    Parameters
    ----------
    recv
        Address of the C library's function.
    descriptor
        Of the socket.
    tries
        How often to ask for more bytes before giving up; the socket's own errors end it too.
    data, state, starts, lengths
        As of ``find_values``.
    """
    left = tries
    while left > 0 and state[FILLED] < len(data):
        count = call_recv(recv, descriptor, address_of(data) + state[FILLED], len(data) - state[FILLED])
        if count == 0:
            return PART
        if count < 0:
            left -= 1
            continue
        left = tries
        state[FILLED] += count
        outcome = find_values(data, state, starts, lengths)
        if outcome != PART:
            return outcome
    return PART

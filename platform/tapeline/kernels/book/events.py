"""What a book is told and what it answers: actions, the header's words, codes, and the tick row."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.compensated import add

Words = NDArray[np.int64]
Floats = NDArray[np.float64]

ADD, CANCEL, MODIFY, EXECUTE, SET, TRADE, BEGIN_SNAPSHOT, END_SNAPSHOT = range(1, 9)
"""Actions. By order id: ADD, CANCEL, MODIFY, EXECUTE. By price level: SET. Either: TRADE (off the visible book) and the
snapshot's two ends, between which no quote is shown."""

BID, ASK = 1, -1

# The header. Times in µs; the first four words are those of every state of this project.
ROWS, EVENT, SEQUENCE, AVAILABLE = 0, 1, 2, 3
BID_LEVELS, ASK_LEVELS = 4, 5
LEVELS_FREE, LEVELS_USED = 6, 7  # first free slot (1-based, 0: none), slots ever used
ORDERS, ORDERS_FREE, ORDERS_USED = 8, 9, 10
WITHHELD_FIRST, WITHHELD_LAST, WITHHELD_BIDS, WITHHELD_ASKS = 11, 12, 13, 14
LOADING, STALE = 15, 16
CROSSED_LEVELS, CROSSED_ORDERS, CROSSED_SIZE, CROSSED_SIZE_LOW = 17, 18, 19, 20
WITHHELD, GAPS, MISSED, UNKNOWN, DUPLICATE, EXCESS, REFUSED = 21, 22, 23, 24, 25, 26, 27
HEADER = 32

DONE, WRONG_SIZE, NOT_AFTER, NO_EVENT, ORDERS_FULL, LEVELS_FULL = range(6)
"""Codes of an update; after any but DONE the state is as it was."""

DEPTH_MAX = 50


def tick_columns(depth: int = 5) -> tuple[str, ...]:
    """Names of the row's columns for so many levels a side: at 5 the tick row of :mod:`tapeline.indicators.schema`.

    A level that does not exist, or may not be shown, has price and size 0.
    """
    numbers = range(2, depth + 1)
    names = ("bid", "ask", "bid_size", "ask_size")
    deeper = (f"{name}_{number}" for name in names for number in numbers)
    return ("time", "price", "size", "side", *names, *deeper)


@njit(error_model="numpy", forceinline=True)
def columns_of(depth: int) -> int:
    """How many columns the row has."""
    return 4 + 4 * depth


@njit(error_model="numpy", forceinline=True)
def follows(words: Words, event_us: int, sequence: int) -> bool:
    """Whether an event comes after the state's last one."""
    if words[ROWS] == 0 or event_us > words[EVENT]:
        return True
    return event_us == words[EVENT] and sequence > words[SEQUENCE]


@njit(error_model="numpy", forceinline=True)
def advance(words: Words, event_us: int, sequence: int, available_us: int, dense: bool) -> None:
    """Move the header on to an event; a gap in dense sequence numbers makes the book stale until the next snapshot."""
    if words[ROWS] > 0:
        if dense and sequence != words[SEQUENCE] + 1:
            words[GAPS] += 1
            words[MISSED] += max(sequence - words[SEQUENCE] - 1, 0)
            words[STALE] = 1
        available_us = max(available_us, words[AVAILABLE])
    words[ROWS] += 1
    words[EVENT] = event_us
    words[SEQUENCE] = sequence
    words[AVAILABLE] = available_us


@njit(error_model="numpy", forceinline=True)
def is_positive(x: float) -> bool:
    """Whether a price or size can be one."""
    return 0.0 < x < math.inf


@njit(error_model="numpy", forceinline=True)
def write_trade(out: Floats, event_us: int, price: float, size: float, side: float) -> None:
    """The row's first four columns; all but the time are NaN if nothing was traded."""
    out[0] = event_us
    out[1] = price
    out[2] = size
    out[3] = side


@njit(error_model="numpy", forceinline=True)
def count_dropped(words: Words, floats: Floats, size: float, orders: int) -> None:
    """Enter a dropped level into the counters."""
    words[CROSSED_LEVELS] += 1
    words[CROSSED_ORDERS] += orders
    floats[CROSSED_SIZE], floats[CROSSED_SIZE_LOW] = add(floats[CROSSED_SIZE], floats[CROSSED_SIZE_LOW], size)

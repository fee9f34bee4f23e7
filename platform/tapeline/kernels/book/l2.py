"""The book by price level: a level is set to a size; zero removes it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tapeline.kernels.book.events import (
    ASK,
    ASK_LEVELS,
    AVAILABLE,
    BEGIN_SNAPSHOT,
    BID,
    BID_LEVELS,
    DONE,
    END_SNAPSHOT,
    HEADER,
    LEVELS_FULL,
    LOADING,
    NO_EVENT,
    NOT_AFTER,
    REFUSED,
    SET,
    STALE,
    TRADE,
    UNKNOWN,
    WRONG_SIZE,
    Floats,
    Words,
    advance,
    columns_of,
    count_dropped,
    follows,
    is_positive,
    write_trade,
)
from tapeline.kernels.book.sides import count_at, crosses, insert, position_of, remove, side_at


@njit(error_model="numpy", forceinline=True)
def l2_size(levels: int) -> int:
    """Words of a state with room for so many levels a side."""
    return HEADER + 4 * levels


@njit(error_model="numpy", forceinline=True)
def _write_levels(words: Words, floats: Floats, levels: int, depth: int, out: Floats) -> None:
    shown = words[LOADING] == 0 and words[STALE] == 0
    for which in range(2):
        side = BID if which == 0 else ASK
        at, count = side_at(side, levels), words[count_at(side)]
        for number in range(depth):
            price_at = 4 + which if number == 0 else 7 + which * (depth - 1) + number
            size_at = 6 + which if number == 0 else 7 + (2 + which) * (depth - 1) + number
            i = count - 1 - number
            if shown and i >= 0:
                out[price_at] = side * floats[at + i]
                out[size_at] = floats[at + levels + i]
            else:
                out[price_at] = 0.0
                out[size_at] = 0.0


@njit(error_model="numpy", forceinline=True)
def _clear(words: Words, levels: int) -> None:
    words[HEADER : HEADER + 4 * levels] = 0
    words[BID_LEVELS] = 0
    words[ASK_LEVELS] = 0


@njit(error_model="numpy", forceinline=True)
def _step(
    words: Words,
    floats: Floats,
    levels: int,
    depth: int,
    dense: bool,
    event_us: int,
    sequence: int,
    available_us: int,
    action: int,
    side: int,
    price: float,
    size: float,
    out: Floats,
) -> int:
    if words.size != l2_size(levels) or out.size != columns_of(depth):
        return WRONG_SIZE
    if not follows(words, event_us, sequence):
        return NOT_AFTER
    if not SET <= action <= END_SNAPSHOT or not -1 <= side <= 1 or (action == SET and side == 0):
        return NO_EVENT
    key = side * price
    at, count, position = 0, 0, 0
    known = False
    if action == SET:
        at, count = side_at(side, levels), words[count_at(side)]
        position = position_of(floats, at, count, key)
        known = position < count and floats[at + position] == key
        if not known and size > 0.0 and is_positive(price) and count == levels:
            return LEVELS_FULL
    advance(words, event_us, sequence, available_us, dense)
    write_trade(out, event_us, math.nan, math.nan, math.nan)
    if action == SET:
        if not is_positive(price) or not 0.0 <= size < math.inf:
            words[REFUSED] += 1
        elif size == 0.0:
            if known:
                remove(words, side, levels, position)
            else:
                words[UNKNOWN] += 1
        else:
            # Whatever this level crosses or locks on the other side was set before it, and has missed its removal.
            while crosses(words, floats, side, levels, key):
                best = words[count_at(-side)] - 1
                count_dropped(words, floats, floats[side_at(-side, levels) + levels + best], 0)
                remove(words, -side, levels, best)
            value = at + levels + position if known else insert(words, floats, side, levels, position, key)
            floats[value] = size
    elif action == TRADE:
        if is_positive(price) and is_positive(size):
            write_trade(out, event_us, price, size, float(side) if side != 0 else math.nan)
        else:
            words[REFUSED] += 1
    elif action == BEGIN_SNAPSHOT:
        _clear(words, levels)
        words[LOADING] = 1
        words[STALE] = 0
    else:
        words[LOADING] = 0
    _write_levels(words, floats, levels, depth, out)
    return DONE


@njit(error_model="numpy", cache=True, nogil=True)
def l2_update(
    state: Words,
    levels: int,
    depth: int,
    dense: bool,
    event_us: int,
    sequence: int,
    available_us: int,
    action: int,
    side: int,
    price: float,
    size: float,
    out: Floats,
) -> int:
    """Take one event: SET, TRADE, BEGIN_SNAPSHOT or END_SNAPSHOT.

    Parameters
    ----------
    state
        int64 (l2_size(levels),), changed in place.
    levels, depth
        Room for levels on each side; levels of the row.
    dense
        Whether sequence numbers leave nothing out, so that a jump is a loss: no quote is shown until the next snapshot.
    event_us, sequence, available_us
        Its place in time, after the state's; the state keeps the latest availability.
    action, side, price, size
        Side 1 for a bid, −1 for an ask; of a trade, the aggressor's, 0 if unknown. An impossible price or size is
        counted and otherwise ignored.
    out
        float64 (4 + 4·depth,): the row of :func:`tick_columns` after the event.

    Returns
    -------
    int
        DONE, or the code of what was wrong; then the state is as it was.
    """
    return _step(
        state, state.view(np.float64), levels, depth, dense,
        event_us, sequence, available_us, action, side, price, size, out,
    )  # fmt: skip


@njit(error_model="numpy", cache=True, nogil=True)
def l2_batch(
    states: Words,
    levels: int,
    depth: int,
    dense: bool,
    event_us: Words,
    sequence: Words,
    available_us: Words,
    action: Words,
    side: Words,
    price: Floats,
    size: Floats,
    offsets: Words,
    out: Floats,
    available_out: Words,
) -> tuple[int, int]:
    """:func:`l2_update` over many entities' events; returns the first code that is not DONE, and its row."""
    for entity in range(len(offsets) - 1):
        words = states[entity]
        floats = words.view(np.float64)
        for i in range(offsets[entity], offsets[entity + 1]):
            code = _step(
                words, floats, levels, depth, dense,
                event_us[i], sequence[i], available_us[i], action[i], side[i], price[i], size[i], out[i],
            )  # fmt: skip
            if code != DONE:
                return code, i
            available_out[i] = words[AVAILABLE]
    return DONE, len(out)

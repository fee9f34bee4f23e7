"""The book by order: add, cancel, modify, execute.

An order that arrives across the other side is either on its way to trade, and gone within moments, or it shows that what
it crosses is no longer there. So it is withheld from the book for ``patience_us``: if by then it is still there and still
crosses, the older levels that it crosses are dropped. With a patience of 0 they are dropped at once.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tapeline.kernels.book.events import (
    ADD,
    ASK,
    AVAILABLE,
    BEGIN_SNAPSHOT,
    BID,
    CANCEL,
    DONE,
    DUPLICATE,
    END_SNAPSHOT,
    EVENT,
    EXCESS,
    EXECUTE,
    HEADER,
    LEVELS_FULL,
    LOADING,
    MODIFY,
    NO_EVENT,
    NOT_AFTER,
    ORDERS,
    ORDERS_FULL,
    REFUSED,
    SET,
    STALE,
    TRADE,
    UNKNOWN,
    WITHHELD,
    WITHHELD_ASKS,
    WITHHELD_BIDS,
    WITHHELD_FIRST,
    WRONG_SIZE,
    Floats,
    Words,
    advance,
    columns_of,
    follows,
    is_positive,
    write_trade,
)
from tapeline.kernels.book.orders import (
    LEVEL_COUNT,
    LEVEL_SIZE,
    ORDER_AFTER,
    ORDER_ENTERED,
    ORDER_KEY,
    ORDER_LEFT,
    ORDER_LEVEL,
    ORDER_SIDE,
    detach,
    drop_best,
    find,
    free_order,
    l3_size,
    level_at,
    new_order,
    order_at,
    reduce,
    rest,
    withhold,
)
from tapeline.kernels.book.sides import count_at, crosses, position_of, side_at

DUST = 1e-9
"""What may be left of an order, as a part of the last size taken, and count as nothing: 0.3 − 0.1 − 0.1 − 0.1 is not 0."""


@njit(error_model="numpy")
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
                out[size_at] = floats[level_at(levels, words[at + levels + i]) + LEVEL_SIZE]
            else:
                out[price_at] = 0.0
                out[size_at] = 0.0


@njit(error_model="numpy")
def _best(words: Words, floats: Floats, side: int, levels: int) -> float:
    """A side's best key, −∞ if it is empty."""
    count = words[count_at(side)]
    return floats[side_at(side, levels) + count - 1] if count > 0 else -math.inf


@njit(error_model="numpy")
def _enter(words: Words, floats: Floats, levels: int, slot: int, event_us: int) -> None:
    """Rest an order, or withhold it if it crosses the other side."""
    order = order_at(levels, slot)
    words[order + ORDER_ENTERED] = event_us
    if crosses(words, floats, words[order + ORDER_SIDE], levels, floats[order + ORDER_KEY]):
        withhold(words, levels, slot)
        words[WITHHELD] += 1
    else:
        rest(words, floats, levels, slot)


@njit(error_model="numpy")
def _settle(words: Words, floats: Floats, orders: int, levels: int, patience_us: int, event_us: int) -> None:
    """Rest the withheld orders that cross nothing any more, and those whose patience is over, which win."""
    slot = words[WITHHELD_FIRST]
    while slot != 0:
        order = order_at(levels, slot)
        after = words[order + ORDER_AFTER]
        side, key = words[order + ORDER_SIDE], floats[order + ORDER_KEY]
        if event_us - words[order + ORDER_ENTERED] >= patience_us:
            while crosses(words, floats, side, levels, key):
                drop_best(words, floats, orders, levels, -side)
        if not crosses(words, floats, side, levels, key):
            detach(words, floats, levels, slot)
            rest(words, floats, levels, slot)
        slot = after


@njit(error_model="numpy")
def _lacks_room(words: Words, floats: Floats, levels: int, side: int, key: float, leaving: int) -> bool:
    """Whether a level at this price could find its side full. Withheld orders count as levels to come."""
    withheld = words[WITHHELD_BIDS if side > 0 else WITHHELD_ASKS]
    count = words[count_at(side)]
    if count + withheld - leaving < levels:
        return False
    at = side_at(side, levels)
    position = position_of(floats, at, count, key)
    return not (position < count and floats[at + position] == key)


@njit(error_model="numpy")
def _refuses(
    words: Words, floats: Floats, orders: int, levels: int, slot: int, action: int, side: int, price: float, size: float
) -> int:
    """The code of an event that finds no room."""
    if action not in (ADD, MODIFY) or not is_positive(price) or not is_positive(size):
        return DONE
    leaving = 0
    if slot == 0:
        if action == MODIFY:
            return DONE
        if words[ORDERS] == orders:
            return ORDERS_FULL
    else:
        order = order_at(levels, slot)
        number = words[order + ORDER_LEVEL]
        if action == MODIFY:
            side = words[order + ORDER_SIDE]
        alone = number == 0 or words[level_at(levels, number) + LEVEL_COUNT] == 1
        leaving = 1 if alone and words[order + ORDER_SIDE] == side else 0
    return LEVELS_FULL if _lacks_room(words, floats, levels, side, side * price, leaving) else DONE


@njit(error_model="numpy")
def _place(
    words: Words, floats: Floats, orders: int, levels: int, slot: int, action: int, event_us: int, order_id: int,
    side: int, price: float, size: float,
) -> None:  # fmt: skip
    """ADD or MODIFY. A smaller size at the same price keeps the place in the queue, anything else loses it."""
    if not is_positive(price) or not is_positive(size):
        words[REFUSED] += 1
        return
    if slot == 0:
        if action == MODIFY:
            words[UNKNOWN] += 1
            return
        slot = new_order(words, orders, levels, order_id)
    else:
        order = order_at(levels, slot)
        if action == ADD:
            words[DUPLICATE] += 1
        else:
            side = words[order + ORDER_SIDE]
            if floats[order + ORDER_KEY] == side * price and size <= floats[order + ORDER_LEFT]:
                reduce(words, floats, levels, slot, floats[order + ORDER_LEFT] - size)
                floats[order + ORDER_LEFT] = size
                return
        detach(words, floats, levels, slot)
    order = order_at(levels, slot)
    words[order + ORDER_SIDE] = side
    floats[order + ORDER_KEY] = side * price
    floats[order + ORDER_LEFT] = size
    _enter(words, floats, levels, slot, event_us)


@njit(error_model="numpy")
def _lessen(
    words: Words, floats: Floats, orders: int, levels: int, slot: int, action: int, price: float, size: float, out: Floats
) -> None:  # fmt: skip
    """CANCEL or EXECUTE. A trade is told of the resting order only: a withheld one is its other half."""
    if slot == 0:
        words[UNKNOWN] += 1
        return
    order = order_at(levels, slot)
    left, side = floats[order + ORDER_LEFT], words[order + ORDER_SIDE]
    whole = action == CANCEL and size != size
    if not whole and not is_positive(size):
        words[REFUSED] += 1
        return
    if action == EXECUTE and words[order + ORDER_LEVEL] != 0:
        traded = price if is_positive(price) else side * floats[order + ORDER_KEY]
        write_trade(out, words[EVENT], traded, size, float(-side))
    if whole or left - size <= DUST * size:
        words[EXCESS] += 1 if size - left > DUST * size else 0
        detach(words, floats, levels, slot)
        free_order(words, orders, levels, slot)
    else:
        reduce(words, floats, levels, slot, size)


@njit(error_model="numpy")
def _step(
    words: Words, floats: Floats, orders: int, levels: int, depth: int, patience_us: int, dense: bool,
    event_us: int, sequence: int, available_us: int, action: int, order_id: int, side: int, price: float, size: float,
    out: Floats,
) -> int:  # fmt: skip
    if words.size != l3_size(orders, levels) or out.size != columns_of(depth):
        return WRONG_SIZE
    if not follows(words, event_us, sequence):
        return NOT_AFTER
    by_id = ADD <= action <= EXECUTE
    if not ADD <= action <= END_SNAPSHOT or action == SET or not -1 <= side <= 1 or (action == ADD and side == 0):
        return NO_EVENT
    slot = 0
    if by_id:
        slot = find(words, orders, levels, order_id)
        code = _refuses(words, floats, orders, levels, slot, action, side, price, size)
        if code != DONE:
            return code
    advance(words, event_us, sequence, available_us, dense)
    write_trade(out, event_us, math.nan, math.nan, math.nan)
    bid, ask = _best(words, floats, BID, levels), _best(words, floats, ASK, levels)
    if action in (ADD, MODIFY):
        _place(words, floats, orders, levels, slot, action, event_us, order_id, side, price, size)
    elif by_id:
        _lessen(words, floats, orders, levels, slot, action, price, size, out)
    elif action == TRADE:
        if is_positive(price) and is_positive(size):
            write_trade(out, event_us, price, size, float(side) if side != 0 else math.nan)
        else:
            words[REFUSED] += 1
    elif action == BEGIN_SNAPSHOT:
        words[HEADER:] = 0
        words[AVAILABLE + 1 : LOADING] = 0
        words[LOADING] = 1
        words[STALE] = 0
    else:
        words[LOADING] = 0
    first = words[WITHHELD_FIRST]
    # A withheld order can come to rest only if a side has moved away, or if its time is over.
    if first != 0 and (
        event_us - words[order_at(levels, first) + ORDER_ENTERED] >= patience_us
        or _best(words, floats, BID, levels) < bid
        or _best(words, floats, ASK, levels) < ask
    ):
        _settle(words, floats, orders, levels, patience_us, event_us)
    _write_levels(words, floats, levels, depth, out)
    return DONE


@njit(error_model="numpy", cache=True, nogil=True)
def l3_update(
    state: Words, orders: int, levels: int, depth: int, patience_us: int, dense: bool,
    event_us: int, sequence: int, available_us: int, action: int, order_id: int, side: int, price: float, size: float,
    out: Floats,
) -> int:  # fmt: skip
    """Take one event: ADD, CANCEL, MODIFY, EXECUTE, TRADE, BEGIN_SNAPSHOT or END_SNAPSHOT.

    Parameters
    ----------
    state
        int64 (l3_size(orders, levels),), changed in place.
    orders, levels, depth
        Room for orders, and for levels on each side; levels of the row.
    patience_us
        How long an order that crosses the other side is withheld before what it crosses is dropped.
    dense
        Whether sequence numbers leave nothing out, so that a jump is a loss: no quote is shown until the next snapshot.
    event_us, sequence, available_us
        Its place in time, after the state's; the state keeps the latest availability.
    action, order_id, side, price, size
        Side 1 for a bid, −1 for an ask (used by ADD; of a TRADE the aggressor's, 0 if unknown). CANCEL and EXECUTE take
        ``size`` away, a CANCEL of NaN all; EXECUTE at the order's price if none is given. MODIFY sets price and size.
        An impossible price or size, or an unknown id, is counted and otherwise ignored.
    out
        float64 (4 + 4·depth,): the row of :func:`tick_columns` after the event.

    Returns
    -------
    int
        DONE, or the code of what was wrong; then the state is as it was.
    """
    return _step(
        state, state.view(np.float64), orders, levels, depth, patience_us, dense,
        event_us, sequence, available_us, action, order_id, side, price, size, out,
    )  # fmt: skip


@njit(error_model="numpy", cache=True, nogil=True)
def l3_batch(
    states: Words, orders: int, levels: int, depth: int, patience_us: int, dense: bool,
    event_us: Words, sequence: Words, available_us: Words, action: Words, order_id: Words, side: Words, price: Floats,
    size: Floats, offsets: Words, out: Floats, available_out: Words,
) -> tuple[int, int]:  # fmt: skip
    """:func:`l3_update` over many entities' events; returns the first code that is not DONE, and its row."""
    for entity in range(len(offsets) - 1):
        words = states[entity]
        floats = words.view(np.float64)
        for i in range(offsets[entity], offsets[entity + 1]):
            code = _step(
                words, floats, orders, levels, depth, patience_us, dense, event_us[i], sequence[i], available_us[i],
                action[i], order_id[i], side[i], price[i], size[i], out[i],
            )  # fmt: skip
            if code != DONE:
                return code, i
            available_out[i] = words[AVAILABLE]
    return DONE, len(out)

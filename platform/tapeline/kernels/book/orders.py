"""Orders by id and in time order within their level: slots, a hash table, linked lists.

After the two sides, whose values are level slots, a state holds the level slots, the order slots and the table. Slots are
numbered from 1, so that 0 means none. An order is in the queue of its level, or, while it is withheld because it crosses
the other side, in the one queue of withheld orders.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.kernels.book.events import (
    HEADER,
    LEVELS_FREE,
    LEVELS_USED,
    ORDERS,
    ORDERS_FREE,
    ORDERS_USED,
    WITHHELD_ASKS,
    WITHHELD_BIDS,
    WITHHELD_FIRST,
    WITHHELD_LAST,
    Floats,
    Words,
    count_dropped,
)
from tapeline.kernels.book.sides import count_at, insert, position_of, remove, side_at
from tapeline.kernels.compensated import add

# A level's words. Its size is a compensated sum: after a million orders it is what a fresh sum of them would be.
LEVEL_SIZE, LEVEL_SIZE_LOW, LEVEL_COUNT, LEVEL_FIRST, LEVEL_LAST, LEVEL_WORDS = range(6)

# An order's words; key as in the sides, level 0: withheld.
ORDER_ID, ORDER_SIDE, ORDER_KEY, ORDER_LEFT, ORDER_LEVEL, ORDER_BEFORE, ORDER_AFTER, ORDER_ENTERED, ORDER_WORDS = range(
    9
)


@njit(error_model="numpy", forceinline=True)
def table_size(orders: int) -> int:
    """Words of the hash table: a power of two, at most half full."""
    size = 2
    while size < 2 * orders:
        size *= 2
    return size


@njit(error_model="numpy", forceinline=True)
def l3_size(orders: int, levels: int) -> int:
    """Words of a state with room for so many orders, and levels a side."""
    return HEADER + 4 * levels + 2 * levels * LEVEL_WORDS + orders * ORDER_WORDS + table_size(orders)


@njit(error_model="numpy", forceinline=True)
def level_at(levels: int, slot: int) -> int:
    """First word of a level slot."""
    return HEADER + 4 * levels + (slot - 1) * LEVEL_WORDS


@njit(error_model="numpy", forceinline=True)
def order_at(levels: int, slot: int) -> int:
    """First word of an order slot."""
    return HEADER + 4 * levels + 2 * levels * LEVEL_WORDS + (slot - 1) * ORDER_WORDS


@njit(error_model="numpy", forceinline=True)
def _home(order_id: int, mask: int) -> int:
    """Where an id belongs in the table: the finaliser of splitmix64 (Steele, Lea & Flood 2014), as ids come in patterns."""
    x = np.uint64(order_id)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64((x ^ (x >> np.uint64(31))) & np.uint64(mask)))


@njit(error_model="numpy", forceinline=True)
def find(words: Words, orders: int, levels: int, order_id: int) -> int:
    """The slot of an order, or 0."""
    table = order_at(levels, orders + 1)
    mask = table_size(orders) - 1
    place = _home(order_id, mask)
    while True:
        slot = words[table + place]
        if slot == 0 or words[order_at(levels, slot) + ORDER_ID] == order_id:
            return slot
        place = (place + 1) & mask


@njit(error_model="numpy", forceinline=True)
def new_order(words: Words, orders: int, levels: int, order_id: int) -> int:
    """Take an order slot and enter the id; the caller has seen that there is room and no such id."""
    slot = words[ORDERS_FREE]
    if slot != 0:
        words[ORDERS_FREE] = words[order_at(levels, slot) + ORDER_AFTER]
    else:
        words[ORDERS_USED] += 1
        slot = words[ORDERS_USED]
    words[ORDERS] += 1
    words[order_at(levels, slot) + ORDER_ID] = order_id
    table = order_at(levels, orders + 1)
    mask = table_size(orders) - 1
    place = _home(order_id, mask)
    while words[table + place] != 0:
        place = (place + 1) & mask
    words[table + place] = slot
    return slot


@njit(error_model="numpy", forceinline=True)
def free_order(words: Words, orders: int, levels: int, slot: int) -> None:
    """Forget an order that is in no queue: close the gap in the table (Knuth 6.4, algorithm R), free the slot."""
    table = order_at(levels, orders + 1)
    mask = table_size(orders) - 1
    gap = _home(words[order_at(levels, slot) + ORDER_ID], mask)
    while words[table + gap] != slot:
        gap = (gap + 1) & mask
    place = gap
    while True:
        place = (place + 1) & mask
        other = words[table + place]
        if other == 0:
            break
        home = _home(words[order_at(levels, other) + ORDER_ID], mask)
        if ((place - home) & mask) >= ((place - gap) & mask):
            words[table + gap] = other
            gap = place
    words[table + gap] = 0
    at = order_at(levels, slot)
    words[at + ORDER_AFTER] = words[ORDERS_FREE]
    words[ORDERS_FREE] = slot
    words[ORDERS] -= 1


@njit(error_model="numpy", forceinline=True)
def _append(words: Words, levels: int, slot: int, first_at: int, last_at: int) -> None:
    """Put an order at the end of the queue whose ends are kept in these words."""
    at, last = order_at(levels, slot), words[last_at]
    words[at + ORDER_BEFORE] = last
    words[at + ORDER_AFTER] = 0
    if last != 0:
        words[order_at(levels, last) + ORDER_AFTER] = slot
    else:
        words[first_at] = slot
    words[last_at] = slot


@njit(error_model="numpy", forceinline=True)
def _take_out(words: Words, levels: int, slot: int, first_at: int, last_at: int) -> None:
    at = order_at(levels, slot)
    before, after = words[at + ORDER_BEFORE], words[at + ORDER_AFTER]
    if before != 0:
        words[order_at(levels, before) + ORDER_AFTER] = after
    else:
        words[first_at] = after
    if after != 0:
        words[order_at(levels, after) + ORDER_BEFORE] = before
    else:
        words[last_at] = before


@njit(error_model="numpy", forceinline=True)
def withhold(words: Words, levels: int, slot: int) -> None:
    """Put an order into the queue of those that cross the other side."""
    at = order_at(levels, slot)
    words[at + ORDER_LEVEL] = 0
    _append(words, levels, slot, WITHHELD_FIRST, WITHHELD_LAST)
    words[WITHHELD_BIDS if words[at + ORDER_SIDE] > 0 else WITHHELD_ASKS] += 1


@njit(error_model="numpy", forceinline=True)
def rest(words: Words, floats: Floats, levels: int, slot: int) -> None:
    """Put an order at the end of its level's queue; the caller has seen that there is room for the level."""
    order = order_at(levels, slot)
    side, key, size = words[order + ORDER_SIDE], floats[order + ORDER_KEY], floats[order + ORDER_LEFT]
    at, count = side_at(side, levels), words[count_at(side)]
    position = position_of(floats, at, count, key)
    if position < count and floats[at + position] == key:
        number = words[at + levels + position]
    else:
        number = words[LEVELS_FREE]
        if number != 0:
            words[LEVELS_FREE] = words[level_at(levels, number) + LEVEL_FIRST]
        else:
            words[LEVELS_USED] += 1
            number = words[LEVELS_USED]
        fresh = level_at(levels, number)
        words[fresh : fresh + LEVEL_WORDS] = 0
        words[insert(words, floats, side, levels, position, key)] = number
    level = level_at(levels, number)
    words[order + ORDER_LEVEL] = number
    floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW] = add(
        floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW], size
    )
    words[level + LEVEL_COUNT] += 1
    _append(words, levels, slot, level + LEVEL_FIRST, level + LEVEL_LAST)


@njit(error_model="numpy", forceinline=True)
def _free_level(words: Words, levels: int, side: int, position: int) -> None:
    number = words[side_at(side, levels) + levels + position]
    words[level_at(levels, number) + LEVEL_FIRST] = words[LEVELS_FREE]
    words[LEVELS_FREE] = number
    remove(words, side, levels, position)


@njit(error_model="numpy", forceinline=True)
def detach(words: Words, floats: Floats, levels: int, slot: int) -> None:
    """Take an order out of its queue, and its level out of the side if it was the last one there."""
    order = order_at(levels, slot)
    side, number = words[order + ORDER_SIDE], words[order + ORDER_LEVEL]
    if number == 0:
        _take_out(words, levels, slot, WITHHELD_FIRST, WITHHELD_LAST)
        words[WITHHELD_BIDS if side > 0 else WITHHELD_ASKS] -= 1
        return
    level = level_at(levels, number)
    _take_out(words, levels, slot, level + LEVEL_FIRST, level + LEVEL_LAST)
    words[level + LEVEL_COUNT] -= 1
    if words[level + LEVEL_COUNT] > 0:
        floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW] = add(
            floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW], -floats[order + ORDER_LEFT]
        )
    else:
        at = side_at(side, levels)
        _free_level(words, levels, side, position_of(floats, at, words[count_at(side)], floats[order + ORDER_KEY]))


@njit(error_model="numpy", forceinline=True)
def reduce(words: Words, floats: Floats, levels: int, slot: int, size: float) -> None:
    """Take a part of an order's size away; it keeps its place in the queue."""
    order = order_at(levels, slot)
    floats[order + ORDER_LEFT] -= size
    number = words[order + ORDER_LEVEL]
    if number != 0:
        level = level_at(levels, number)
        floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW] = add(
            floats[level + LEVEL_SIZE], floats[level + LEVEL_SIZE_LOW], -size
        )


@njit(error_model="numpy", forceinline=True)
def drop_best(words: Words, floats: Floats, orders: int, levels: int, side: int) -> None:
    """Drop a side's best level with its orders, and count them."""
    position = words[count_at(side)] - 1
    level = level_at(levels, words[side_at(side, levels) + levels + position])
    count_dropped(words, floats, floats[level + LEVEL_SIZE], words[level + LEVEL_COUNT])
    slot = words[level + LEVEL_FIRST]
    while slot != 0:
        after = words[order_at(levels, slot) + ORDER_AFTER]
        free_order(words, orders, levels, slot)
        slot = after
    _free_level(words, levels, side, position)

"""The two sides of a book: price levels sorted so that the best is last, in both.

A side is an array of keys and one of values. A bid's key is its price, an ask's is minus its price: larger is better on
either side, and a bid crosses or locks an ask exactly if the sum of their keys is not negative. Levels come and go near
the best, so that an insertion moves few words.
"""

from __future__ import annotations

from numba import njit

from tapeline.kernels.book.events import ASK_LEVELS, BID_LEVELS, HEADER, Floats, Words


@njit(error_model="numpy", forceinline=True)
def side_at(side: int, levels: int) -> int:
    """First word of a side's keys; its values follow after ``levels`` words."""
    return HEADER if side > 0 else HEADER + 2 * levels


@njit(error_model="numpy", forceinline=True)
def count_at(side: int) -> int:
    """The header word with a side's number of levels."""
    return BID_LEVELS if side > 0 else ASK_LEVELS


@njit(error_model="numpy", forceinline=True)
def position_of(floats: Floats, at: int, count: int, key: float) -> int:
    """Position of the first key that is not smaller. Gallops from the best, where nearly all events are."""
    high, width = count, 1
    while high > 0 and floats[at + high - 1] >= key:
        low = max(high - width, 0)
        if floats[at + low] < key:
            high -= 1
            low += 1
            while low < high:
                middle = (low + high) >> 1
                if floats[at + middle] < key:
                    low = middle + 1
                else:
                    high = middle
            return high
        high = low
        width *= 2
    return high


@njit(error_model="numpy", forceinline=True)
def insert(words: Words, floats: Floats, side: int, levels: int, position: int, key: float) -> int:
    """Make room for a level; returns the word of its value, yet to be written. The caller has seen that there is room."""
    at, count = side_at(side, levels), words[count_at(side)]
    for i in range(at + count, at + position, -1):
        words[i] = words[i - 1]
        words[levels + i] = words[levels + i - 1]
    floats[at + position] = key
    words[count_at(side)] = count + 1
    return at + levels + position


@njit(error_model="numpy", forceinline=True)
def remove(words: Words, side: int, levels: int, position: int) -> None:
    """Take a level out; the words behind the last level are zeros again, so that equal books have equal states."""
    at, count = side_at(side, levels), words[count_at(side)] - 1
    for i in range(at + position, at + count):
        words[i] = words[i + 1]
        words[levels + i] = words[levels + i + 1]
    words[at + count] = 0
    words[levels + at + count] = 0
    words[count_at(side)] = count


@njit(error_model="numpy", forceinline=True)
def crosses(words: Words, floats: Floats, side: int, levels: int, key: float) -> bool:
    """Whether a price on one side reaches the best of the other."""
    count = words[count_at(-side)]
    return count > 0 and key + floats[side_at(-side, levels) + count - 1] >= 0.0

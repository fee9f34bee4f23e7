"""Order statistics of the last n values: a window kept sorted, searched in O(log n).

A window is ``size`` state slots in rising order. A value that leaves and one that enters are found by binary search and
only the values between their places move: few where neighbours in time are neighbours in value, as prices are; n at
worst, which is one copy in cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.memory import keep_apart
from tapeline.kernels.primitive import apart, primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def count_below(state: State, at: int, size: int, x: float) -> int:
    """How many of a sorted window's values are smaller than x.

    The number of steps depends on the size alone and each adds a product instead of taking a branch, which on prices
    would be mispredicted every other time.
    """
    if size == 0:
        return 0
    first = at
    length = size
    while length > 1:
        half = length >> 1
        first += half * int(state[np.uint64(first + half - 1)] < x)
        length -= half
    return first - at + int(state[np.uint64(first)] < x)


@apart
def insert(state: State, at: int, size: int, x: float) -> None:
    """Put a value into a sorted window that has a slot left behind its ``size`` values."""
    keep_apart()
    place = count_below(state, at, size, x)
    for k in range(size, place, -1):
        state[np.uint64(at + k)] = state[np.uint64(at + k - 1)]
    state[np.uint64(at + place)] = x


@apart
def replace(state: State, at: int, size: int, old: float, x: float) -> None:
    """Take one value out of a sorted window and put another in."""
    keep_apart()
    place = count_below(state, at, size, old)
    while place + 1 < size and state[np.uint64(at + place + 1)] < x:
        state[np.uint64(at + place)] = state[np.uint64(at + place + 1)]
        place += 1
    while place > 0 and state[np.uint64(at + place - 1)] > x:
        state[np.uint64(at + place)] = state[np.uint64(at + place - 1)]
        place -= 1
    state[np.uint64(at + place)] = x


@primitive(slots=lambda n, _rank: n, history=lambda n, _rank: n, delay=lambda n, _rank: n - 1)
def order_statistic(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int, rank: int) -> float:
    """The ``rank``-th smallest (from 1) of the last n values. Slots: the window, sorted."""
    if newest < 0:
        return math.nan
    count = int(state[ring + 1])
    if count > n:
        replace(state, at, n, past(state, ring, capacity, newest, n), x)
    else:
        insert(state, at, count - 1, x)
    return state[at + rank - 1] if count >= n else math.nan


@primitive(slots=lambda n: n, history=lambda n: n, delay=lambda n: n)
def share_below(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Which part of the n values before this one is smaller, 0 to 1. Slots: those n values, sorted."""
    if newest < 0:
        return math.nan
    count = int(state[ring + 1])
    if count <= n:
        insert(state, at, count - 1, x)
        return math.nan
    below = count_below(state, at, n, x)
    replace(state, at, n, past(state, ring, capacity, newest, n), x)
    return below / n

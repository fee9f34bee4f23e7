"""History rings, and steps over the last n values of a series.

A ring belongs to a series and is shared by every step that looks back on it: slots ``[next, count, value × capacity]``.
``newest`` is the position of the present value, or −1 on a row where the series is NaN and nothing was pushed. Ring
positions are made unsigned where they index, which spares numba's handling of negative ones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.compensated import add, add_product
from tapeline.kernels.primitive import primitive

RING_HEADER = 2
State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def push(state: State, ring: int, capacity: int, x: float) -> int:
    """Append a value to a ring unless it is NaN; returns its position, or −1."""
    if x != x:
        return -1
    position = int(state[ring])
    state[np.uint64(ring + 2 + position)] = x
    following = position + 1
    state[ring] = following if following < capacity else 0
    state[ring + 1] += 1.0
    return position


@njit(error_model="numpy", forceinline=True)
def past(state: State, ring: int, capacity: int, newest: int, n: int) -> float:
    """The value n rows before the newest one; n < capacity."""
    position = newest - n
    if position < 0:
        position += capacity
    return state[np.uint64(ring + 2 + position)]


@primitive(history=lambda n: n, delay=lambda n: n)
def lag(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """The value n rows ago."""
    if newest < 0 or state[ring + 1] <= n:
        return math.nan
    return past(state, ring, capacity, newest, n)


@primitive(slots=2, history=lambda n: n, delay=lambda n: n - 1)
def rolling_sum(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Sum of the last n values, compensated, so that nothing drifts and no value once seen leaves a trace."""
    if newest < 0:
        return math.nan
    high, low = add(state[at], state[at + 1], x)
    count = state[ring + 1]
    if count > n:
        high, low = add(high, low, -past(state, ring, capacity, newest, n))
    state[at] = high
    state[at + 1] = low
    return high if count >= n else math.nan


@primitive(slots=4, history=lambda n: n, delay=lambda n: n - 1)
def weighted_mean(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Linearly weighted mean of the last n values: weights 1 (oldest) to n (newest)."""
    if newest < 0:
        return math.nan
    total, total_low = state[at], state[at + 1]
    weighted, weighted_low = state[at + 2], state[at + 3]
    count = state[ring + 1]
    if count <= n:
        weighted, weighted_low = add_product(weighted, weighted_low, count, x)
        total, total_low = add(total, total_low, x)
    else:
        weighted, weighted_low = add_product(weighted, weighted_low, float(n), x)
        weighted, weighted_low = add(weighted, weighted_low, -total)
        weighted, weighted_low = add(weighted, weighted_low, -total_low)
        total, total_low = add(total, total_low, x)
        total, total_low = add(total, total_low, -past(state, ring, capacity, newest, n))
    state[at], state[at + 1] = total, total_low
    state[at + 2], state[at + 3] = weighted, weighted_low
    return weighted / (0.5 * n * (n + 1)) if count >= n else math.nan


@primitive(outputs=2, slots=2, history=lambda n: n, delay=lambda n: n - 1)
def highest(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """The largest of the last n values and its age in rows (of equals, the newest).

    The window is scanned again only when its maximum falls out, which on prices happens once in many rows; a falling
    series costs n compares a row, still below 0.1 µs for a year of days, and needs far less state than a deque.
    """
    if newest < 0:
        return math.nan, math.nan
    count = state[ring + 1]
    best, age = state[at], state[at + 1] + 1.0
    if count == 1.0 or x >= best:
        best, age = x, 0.0
    elif age >= n:
        best, age = x, 0.0
        for k in range(1, n):
            value = past(state, ring, capacity, newest, k)
            if value > best:
                best, age = value, float(k)
    state[at], state[at + 1] = best, age
    if count < n:
        return math.nan, math.nan
    return best, age


@primitive(outputs=2, slots=2, history=lambda n: n, delay=lambda n: n - 1)
def lowest(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """The smallest of the last n values and its age in rows (of equals, the newest)."""
    if newest < 0:
        return math.nan, math.nan
    count = state[ring + 1]
    best, age = state[at], state[at + 1] + 1.0
    if count == 1.0 or x <= best:
        best, age = x, 0.0
    elif age >= n:
        best, age = x, 0.0
        for k in range(1, n):
            value = past(state, ring, capacity, newest, k)
            if value < best:
                best, age = value, float(k)
    state[at], state[at + 1] = best, age
    if count < n:
        return math.nan, math.nan
    return best, age

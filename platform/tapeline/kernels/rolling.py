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

from tapeline.kernels.memory import keep_apart
from tapeline.kernels.primitive import apart, primitive

RING_HEADER = 2

# A running sum costs one add and one subtract a row. It also adds up how much rounding that may have left (in units of
# epsilon), and is summed again from the ring once this exceeds so many times the larger of itself and the newest value:
# every few hundred rows on prices, at once when something absurd leaves. Long windows may wait longer, which keeps the
# cost below half an add a row. tests/kernels/test_windows.py and test_nothing_drifts_over_a_million_rows fail without.
RESUM_AT = 200.0
State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def push(state: State, ring: int, capacity: int, x: float) -> int:
    """Append a value to a ring unless it is NaN; returns its position, or −1."""
    if x != x:
        return -1
    # Bits: nothing to convert. That it is never negative spares whoever uses it the question.
    position: int = np.float64(state[ring]).view(np.int64) & 0x7FFF_FFFF  # type: ignore[assignment]
    state[np.uint64(ring + 2 + position)] = x
    following = position + 1
    state[ring] = np.int64(following if following < capacity else 0).view(np.float64)
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


@apart
def window_sum(state: State, ring: int, capacity: int, newest: int, n: int) -> float:
    """Plain sum of the last n values, the newest first."""
    keep_apart()
    total = 0.0
    for k in range(n):
        total += past(state, ring, capacity, newest, k)
    return total


@primitive(slots=2, history=lambda n: n, delay=lambda n: n - 1)
def rolling_sum(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Sum of the last n values, within 1e-13 of the larger of itself and the newest value however many rows there were.

    Slots: sum, rounding budget used.
    """
    if newest < 0:
        return math.nan
    if state[ring + 1] > n:
        old = past(state, ring, capacity, newest, n)
        total = (state[at] + x) - old
        used = state[at + 1] + (abs(total) + abs(old))
        if used <= (RESUM_AT + 2.0 * n) * max(abs(total), abs(x)):
            state[at], state[at + 1] = total, used
            return total
    elif state[ring + 1] < n:
        return math.nan
    state[at], state[at + 1] = window_sum(state, ring, capacity, newest, n), 0.0
    return state[at]


@apart
def weighted_sum(state: State, ring: int, capacity: int, newest: int, n: int) -> tuple[float, float]:
    """Sum of the last n values with weights n (newest) to 1, and their plain sum."""
    keep_apart()
    weighted, plain = 0.0, 0.0
    for k in range(n):
        value = past(state, ring, capacity, newest, k)
        plain += value
        weighted += (n - k) * value
    return weighted, plain


@primitive(slots=3, history=lambda n: n, delay=lambda n: n - 1)
def weighted_mean(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Linearly weighted mean of the last n values: weights 1 (oldest) to n (newest).

    The plain sum's rounding enters the weighted one at every row, so the budget is half of :func:`rolling_sum`'s.
    Slots: weighted sum, plain sum, rounding budget used.
    """
    if newest < 0 or state[ring + 1] < n:
        return math.nan
    plain = state[at + 1]
    weighted = (state[at] - plain) + n * x
    plain = (plain + x) - past(state, ring, capacity, newest, n)
    used = state[at + 2] + (abs(weighted) + abs(state[at + 1]) + n * abs(x))
    if state[ring + 1] <= n or not used <= (0.5 * RESUM_AT + n) * max(abs(weighted), abs(x)):
        weighted, plain = weighted_sum(state, ring, capacity, newest, n)
        used = 0.0
    state[at], state[at + 1], state[at + 2] = weighted, plain, used
    return weighted * (1.0 / (0.5 * n * (n + 1)))


@apart
def find_highest(state: State, ring: int, capacity: int, newest: int, n: int) -> tuple[float, float]:
    """The largest of the last n values and its age (of equals, the newest)."""
    keep_apart()
    best, age = past(state, ring, capacity, newest, 0), 0.0
    for k in range(1, n):
        value = past(state, ring, capacity, newest, k)
        if value > best:
            best, age = value, float(k)
    return best, age


@apart
def find_lowest(state: State, ring: int, capacity: int, newest: int, n: int) -> tuple[float, float]:
    """The smallest of the last n values and its age (of equals, the newest)."""
    keep_apart()
    best, age = past(state, ring, capacity, newest, 0), 0.0
    for k in range(1, n):
        value = past(state, ring, capacity, newest, k)
        if value < best:
            best, age = value, float(k)
    return best, age


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
        best, age = find_highest(state, ring, capacity, newest, n)
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
        best, age = find_lowest(state, ring, capacity, newest, n)
    state[at], state[at + 1] = best, age
    if count < n:
        return math.nan, math.nan
    return best, age

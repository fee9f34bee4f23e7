"""Recursions: exponential averages, Wilder's sums, cumulative sums, Kaufman's average."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.memory import keep_apart
from tapeline.kernels.primitive import apart, primitive
from tapeline.kernels.rolling import RESUM_AT, past

State = NDArray[np.float64]


@apart
def seed(state: State, at: int, count: float, x: float, n: int) -> float:
    """Take the value that is the count-th of n into the plain mean that a recursion begins with; NaN before the nth.

    Slots: sum and at last mean, the sum's low part.
    """
    keep_apart()
    state[at], state[at + 1] = add(state[at], state[at + 1], x)
    if count < n:
        return math.nan
    state[at] /= n
    return state[at]


@primitive(slots=3, delay=lambda n, skip: skip + n - 1)
def exponential_mean(state: State, at: int, x: float, n: int, skip: int) -> float:
    """Exponential mean with factor 2/(n+1), seeded with the plain mean of values skip+1 … skip+n, as TA-Lib does.

    ``skip`` lets two means of different length start on the same row. Slots: count, value or sum, its low part.
    """
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count > skip + n:
        previous = state[at + 1]
        value = previous + (2.0 / (n + 1.0)) * (x - previous)
        state[at + 1] = value
        return value
    return seed(state, at + 1, count - skip, x, n) if count > skip else math.nan


@primitive(slots=2, delay=lambda _n, wait: wait)
def exponential_mean_from_first(state: State, at: int, x: float, n: int, wait: int) -> float:
    """Exponential mean with factor 2/(n+1), seeded with the first value and withheld for ``wait`` rows.

    Slots: count, value.
    """
    if x != x:
        return math.nan
    count = state[at]
    state[at] = count + 1.0
    if count == 0.0:
        state[at + 1] = x
    else:
        state[at + 1] += (2.0 / (n + 1.0)) * (x - state[at + 1])
    return state[at + 1] if count >= wait else math.nan


@primitive(slots=3, delay=lambda n: n - 1)
def wilder_mean(state: State, at: int, x: float, n: int) -> float:
    """Wilder's mean: factor 1/n, seeded with the plain mean of the first n values (Wilder 1978)."""
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count > n:
        state[at + 1] += (x - state[at + 1]) * (1.0 / n)
        return state[at + 1]
    return seed(state, at + 1, count, x, n)


@primitive(slots=2, delay=lambda n: n - 1)
def wilder_sum(state: State, at: int, x: float, n: int) -> float:
    """Wilder's decaying sum, TA-Lib's seed: the plain sum of n−1 values, then ``sum − sum/n + x`` from the nth on."""
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count < n:
        state[at + 1] += x
        return math.nan
    state[at + 1] = state[at + 1] - state[at + 1] * (1.0 / n) + x
    return state[at + 1]


@primitive(slots=2)
def cumulative_sum(state: State, at: int, x: float) -> float:
    """Sum of all values so far, compensated."""
    if x != x:
        return math.nan
    state[at], state[at + 1] = add(state[at], state[at + 1], x)
    return state[at]


@primitive(slots=1)
def last_quotient(state: State, at: int, numerator: float, denominator: float) -> float:
    """Quotient, or the last one that existed where the denominator is 0 (before the first: 0). Slot: the last one."""
    if numerator != numerator or denominator != denominator:
        return math.nan
    if denominator != 0.0:
        state[at] = numerator / denominator
    return state[at]


@apart
def path_length(state: State, ring: int, capacity: int, newest: int, n: int) -> float:
    """Sum of the sizes of the last n changes."""
    keep_apart()
    path = 0.0
    for k in range(n):
        path += abs(past(state, ring, capacity, newest, k) - past(state, ring, capacity, newest, k + 1))
    return path


@primitive(slots=4, history=lambda n: n, delay=lambda n: n)
def adaptive_mean(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> float:
    """Kaufman's adaptive moving average (Kaufman 1995), constants 2 and 30, seeded with the value before the first.

    The path's length is a running sum with a rounding budget, as in :mod:`tapeline.kernels.rolling`. Slots: value, path
    length, rounding budget used, the value before the oldest.
    """
    if newest < 0:
        return math.nan
    count = state[ring + 1]
    if count < 2.0:
        return math.nan
    previous = past(state, ring, capacity, newest, 1)
    if count <= n:
        return math.nan
    oldest = past(state, ring, capacity, newest, n)
    # The ring holds n past values: the step that leaves the window began one row earlier, at the value kept here.
    leaving = abs(oldest - state[at + 3])
    path = (state[at + 1] + abs(x - previous)) - leaving
    used = state[at + 2] + (abs(path) + leaving)
    if count == n + 1 or not used <= (RESUM_AT + 2.0 * n) * path:
        path, used = path_length(state, ring, capacity, newest, n), 0.0
    state[at + 1], state[at + 2], state[at + 3] = path, used, oldest
    change = abs(x - oldest)
    efficiency = 1.0 if path <= change or path == 0.0 else change / path
    smoothing = efficiency * (2.0 / 3.0 - 2.0 / 31.0) + 2.0 / 31.0
    mean = previous if count == n + 1 else state[at]
    state[at] = mean + smoothing * smoothing * (x - mean)
    return state[at]

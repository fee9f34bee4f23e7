"""Averages whose weights are not those of a plain, exponential or linear mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.memory import keep_apart
from tapeline.kernels.primitive import apart, primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]


@apart
def weigh(state: State, at: int, n: int, offset: float, sigma: float) -> None:
    """Write the n weights of a Gaussian bell, that of the newest value first."""
    keep_apart()
    centre, width = offset * (n - 1), n / sigma
    total = 0.0
    for k in range(n):
        distance = ((n - 1 - k) - centre) / width
        state[at + k] = math.exp(-0.5 * distance * distance)
        total += state[at + k]
    for k in range(n):
        state[at + k] /= total


@primitive(
    slots=lambda n, _offset, _sigma: n + 1,
    history=lambda n, _offset, _sigma: n - 1,
    delay=lambda n, _offset, _sigma: n - 1,
)
def gaussian_mean(
    state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int, offset: float, sigma: float
) -> float:
    """Mean of the last n values under a Gaussian bell centred at ``offset`` (0 oldest, 1 newest) of the window.

    The bell's standard deviation is n/sigma rows. Slots: ready, the weights from the newest value back.
    """
    if newest < 0:
        return math.nan
    if state[at] == 0.0:
        state[at] = 1.0
        weigh(state, at + 1, n, offset, sigma)
    if state[ring + 1] < n:
        return math.nan
    shift = 0.0  # from the newest value, so that equal values give that value
    for k in range(1, n):
        shift += state[at + 1 + k] * (past(state, ring, capacity, newest, k) - x)
    return x + shift


@primitive(slots=4, history=lambda _n, m: m, delay=lambda _n, m: m)
def variable_index_mean(
    state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int, m: int
) -> float:
    """Chande's VIDYA: an exponential mean of n rows whose factor is scaled by the size of the momentum oscillator of m.

    That size is the net change over m rows by the path gone. The mean begins at the first value and, while fewer than m
    changes have been seen, takes those. Slots: value, path, its low part, the value before the oldest.
    """
    if newest < 0:
        return math.nan
    count = state[ring + 1]
    if count == 1.0:
        state[at] = state[at + 3] = x
        return math.nan
    high, low = add(state[at + 1], state[at + 2], abs(x - past(state, ring, capacity, newest, 1)))
    oldest = state[at + 3]  # of the first m changes: the first value
    if count > m + 1:
        # The ring holds m past values: the change that leaves began one row earlier, at the value kept here.
        oldest = past(state, ring, capacity, newest, m)
        high, low = add(high, low, -abs(oldest - state[at + 3]))
        state[at + 3] = oldest
    state[at + 1], state[at + 2] = high, low
    change = abs(x - oldest)
    size = 1.0 if high <= change else change / high
    if change > 0.0:
        state[at] += (2.0 / (n + 1.0)) * size * (x - state[at])
    return state[at] if count > m else math.nan


@primitive(slots=3, delay=lambda n: n - 1)
def dynamic_mean(state: State, at: int, x: float, n: int) -> float:
    """McGinley's dynamic: ``mean += (x − mean) / (n·(x/mean)⁴)``, seeded with the plain mean of n values.

    A step never goes beyond the value itself, where the formula would when a value falls below about half the mean (the
    next mean would then be negative and the series lost). Slots: count, value or sum, its low part.
    """
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count > n:
        mean = state[at + 1]
        quotient = x / mean
        square = quotient * quotient
        divisor = n * (square * square)
        state[at + 1] = mean + (x - mean) / divisor if divisor > 1.0 else x
        return state[at + 1]
    state[at + 1], state[at + 2] = add(state[at + 1], state[at + 2], x)
    if count < n:
        return math.nan
    state[at + 1] /= n
    return state[at + 1]


@primitive(slots=3)
def fractal_mean(
    state: State, at: int, x: float, top: float, bottom: float, old_top: float, old_bottom: float, half: int
) -> float:
    """Ehlers' FRAMA from the extremes of the newer and the older half of its window.

    The factor is exp(−4.6·(D − 1)) within 0.01 and 1; D is the fractal dimension, kept where a half has no range. The
    first value is the price. Slots: started, dimension, value.
    """
    if x != x or top != top or bottom != bottom or old_top != old_top or old_bottom != old_bottom:
        return math.nan
    newer, older = (top - bottom) / half, (old_top - old_bottom) / half
    whole = (max(top, old_top) - min(bottom, old_bottom)) / (2 * half)
    if newer > 0.0 and older > 0.0 and whole > 0.0:
        state[at + 1] = math.log((newer + older) / whole) / math.log(2.0)
    factor = min(1.0, max(0.01, math.exp(-4.6 * (state[at + 1] - 1.0))))
    if state[at] == 0.0:
        state[at], state[at + 2] = 1.0, x
    else:
        state[at + 2] += factor * (x - state[at + 2])
    return state[at + 2]

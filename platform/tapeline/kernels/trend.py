"""Steps of trend systems: decaying movement, vortex, trailing stops."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(slots=2, delay=lambda n: n - 2)
def wilder_movement(state: State, at: int, x: float, n: int) -> float:
    """Wilder's decaying sum from the plain sum of n−1 values on, which TA-Lib's PLUS_DM and MINUS_DM show.

    The same recursion as :func:`tapeline.kernels.recursive.wilder_sum`, shown one row earlier. Slots: count, sum.
    """
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count < n:
        state[at + 1] += x
        return state[at + 1] if count == n - 1 else math.nan
    state[at + 1] = state[at + 1] - state[at + 1] * (1.0 / n) + x
    return state[at + 1]


@primitive(outputs=2, slots=3, delay=1)
def vortex_movement(state: State, at: int, high: float, low: float) -> tuple[float, float]:
    """Distances from the previous low to the high and from the previous high to the low. Slots: started, high, low."""
    if high != high or low != low:
        return math.nan, math.nan
    started, last_high, last_low = state[at], state[at + 1], state[at + 2]
    state[at], state[at + 1], state[at + 2] = 1.0, high, low
    if started == 0.0:
        return math.nan, math.nan
    return abs(high - last_low), abs(low - last_high)


@primitive(outputs=2, slots=5)
def super_trend(state: State, at: int, middle: float, reach: float, close: float) -> tuple[float, float]:
    """Trailing band ``reach`` below (1, rising) or above (−1, falling) the bar's middle, and which of them it is.

    A band only moves towards the price until a close has passed it; the first trend rises, as in TA-Lib. Slots:
    started, upper band, lower band, direction, previous close.
    """
    if middle != middle or reach != reach or close != close:
        return math.nan, math.nan
    upper, lower = middle + reach, middle - reach
    direction = 1.0
    if state[at] != 0.0:
        direction = state[at + 3]
        if upper >= state[at + 1] and state[at + 4] <= state[at + 1]:
            upper = state[at + 1]
        if lower <= state[at + 2] and state[at + 4] >= state[at + 2]:
            lower = state[at + 2]
        if direction > 0.0 and close < lower:
            direction = -1.0
        elif direction < 0.0 and close > upper:
            direction = 1.0
    state[at], state[at + 1], state[at + 2], state[at + 3], state[at + 4] = 1.0, upper, lower, direction, close
    return (lower, 1.0) if direction > 0.0 else (upper, -1.0)


@primitive(slots=7, delay=1)
def parabolic_stop(
    state: State,
    at: int,
    high: float,
    low: float,
    start: float,
    offset: float,
    first_long: float,
    step_long: float,
    max_long: float,
    first_short: float,
    step_short: float,
    max_short: float,
) -> float:
    """Wilder's parabolic stop and reverse, negative while short, with acceleration of its own on either side.

    ``start`` is the first stop: long if positive, short if negative; 0 takes the direction of the first directional
    movement. A reversal is moved away from the price by the fraction ``offset``. Slots: rows, long (1) or short (0), next
    stop, extreme, factor, previous high, previous low.
    """
    if high != high or low != low:
        return math.nan
    first_long, step_long = min(first_long, max_long), min(step_long, max_long)
    first_short, step_short = min(first_short, max_short), min(step_short, max_short)
    last_high, last_low = state[at + 5], state[at + 6]
    state[at + 5], state[at + 6] = high, low
    if state[at] == 0.0:
        state[at] = 1.0
        return math.nan
    if state[at] == 1.0:
        state[at] = 2.0
        up, down = high - last_high, last_low - low
        is_long = start > 0.0 or (start == 0.0 and not (down > 0.0 and up < down))
        extreme, stop, factor = (high, last_low, first_long) if is_long else (low, last_high, first_short)
        if start != 0.0:
            stop = abs(start)
        last_high, last_low = high, low
    else:
        is_long = state[at + 1] == 1.0
        stop, extreme, factor = state[at + 2], state[at + 3], state[at + 4]
    if is_long and low <= stop:
        is_long = False
        stop = max(extreme, last_high, high)
        stop += stop * offset
        result = -stop
        extreme, factor = low, first_short
    elif is_long:
        result = stop
        if high > extreme:
            extreme, factor = high, min(factor + step_long, max_long)
    elif high >= stop:
        is_long = True
        stop = min(extreme, last_low, low)
        stop -= stop * offset
        result = stop
        extreme, factor = high, first_long
    else:
        result = -stop
        if low < extreme:
            extreme, factor = low, min(factor + step_short, max_short)
    stop += factor * (extreme - stop)
    stop = min(stop, last_low, low) if is_long else max(stop, last_high, high)
    state[at + 1] = 1.0 if is_long else 0.0
    state[at + 2], state[at + 3], state[at + 4] = stop, extreme, factor
    return result

"""Means, variances, co-moments and regressions over the last n values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.memory import keep_apart
from tapeline.kernels.primitive import apart, primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]

# A window's central moments are updated in O(1) and summed again, exactly, once the rounding that the updates may have
# left exceeds about 2·RESUM_AT·epsilon of the moment itself (4e-14): every few thousand rows on prices, at once when an
# outlier leaves the window or the window has become constant. tests/kernels/test_moments.py fails without it.
RESUM_AT = 200.0


@apart
def exact_moments(state: State, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """Mean of the last n values less x, and their sum of squared deviations from it."""
    keep_apart()
    total = 0.0
    for k in range(n):
        total += past(state, ring, capacity, newest, k) - x
    mean = total / n
    squares = 0.0
    for k in range(n):
        deviation = (past(state, ring, capacity, newest, k) - x) - mean
        squares += deviation * deviation
    return mean, squares


@primitive(outputs=2, slots=4, history=lambda n: n, delay=lambda n: n - 1)
def moments(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """Mean and sum of squared deviations of the last n values; the latter is exactly 0 on a constant window.

    Slots: anchor, mean − anchor, sum of squared deviations, rounding budget used.
    """
    if newest < 0 or state[ring + 1] < n:
        return math.nan, math.nan
    if state[ring + 1] > n:
        anchor, mean, squares, used = state[at], state[at + 1], state[at + 2], state[at + 3]
        old = past(state, ring, capacity, newest, n)
        entering = (x - anchor) - mean
        leaving = (old - anchor) - mean
        shift = (x - old) * (1.0 / n)
        change = (x - old) * (entering + leaving - shift)
        squares += change
        used += entering * entering + leaving * leaving
        mean += shift
        exact = used <= RESUM_AT * squares
    else:
        anchor, mean, squares, used, exact = 0.0, 0.0, 0.0, 0.0, False
    if not exact:
        anchor, used = x, 0.0
        mean, squares = exact_moments(state, ring, capacity, newest, x, n)
    state[at], state[at + 1], state[at + 2], state[at + 3] = anchor, mean, squares, used
    return anchor + mean, squares


@apart
def restart(
    state: State,
    at: int,
    ring_x: int,
    capacity_x: int,
    newest_x: int,
    ring_y: int,
    capacity_y: int,
    newest_y: int,
    x: float,
    y: float,
    n: int,
) -> None:
    """Write the slots of :func:`co_moments`, summed from the rings."""
    keep_apart()
    total_x = 0.0
    total_y = 0.0
    for k in range(n):
        total_x += past(state, ring_x, capacity_x, newest_x, k) - x
        total_y += past(state, ring_y, capacity_y, newest_y, k) - y
    mean_x = total_x / n
    mean_y = total_y / n
    squares_x = 0.0
    products = 0.0
    squares_y = 0.0
    for k in range(n):
        dx = (past(state, ring_x, capacity_x, newest_x, k) - x) - mean_x
        dy = (past(state, ring_y, capacity_y, newest_y, k) - y) - mean_y
        squares_x += dx * dx
        products += dx * dy
        squares_y += dy * dy
    state[at], state[at + 1], state[at + 2], state[at + 3] = x, y, mean_x, mean_y
    state[at + 4], state[at + 5], state[at + 6] = squares_x, products, squares_y
    state[at + 7], state[at + 8] = 0.0, 0.0


@primitive(outputs=5, slots=9, history=lambda n: n, delay=lambda n: n - 1)
def co_moments(
    state: State,
    at: int,
    ring_x: int,
    capacity_x: int,
    newest_x: int,
    ring_y: int,
    capacity_y: int,
    newest_y: int,
    x: float,
    y: float,
    n: int,
) -> tuple[float, float, float, float, float]:
    """Sums of squares of x, of products, of squares of y about the means, and the means, over the last n pairs.

    Both series must be NaN on the same rows. Slots: two anchors, two means less the anchors, three sums, two rounding
    budgets used.
    """
    if newest_x < 0 or newest_y < 0 or state[ring_x + 1] < n:
        return math.nan, math.nan, math.nan, math.nan, math.nan
    exact = False
    if state[ring_x + 1] > n:
        old_x = past(state, ring_x, capacity_x, newest_x, n)
        old_y = past(state, ring_y, capacity_y, newest_y, n)
        in_x = (x - state[at]) - state[at + 2]
        out_x = (old_x - state[at]) - state[at + 2]
        in_y = (y - state[at + 1]) - state[at + 3]
        out_y = (old_y - state[at + 1]) - state[at + 3]
        step_x = (x - old_x) * (1.0 / n)
        step_y = (y - old_y) * (1.0 / n)
        state[at + 4] += (x - old_x) * (in_x + out_x - step_x)
        state[at + 5] += in_x * in_y - out_x * out_y - (x - old_x) * step_y
        state[at + 6] += (y - old_y) * (in_y + out_y - step_y)
        state[at + 2] += step_x
        state[at + 3] += step_y
        state[at + 7] += in_x * in_x + out_x * out_x
        state[at + 8] += in_y * in_y + out_y * out_y
        exact = state[at + 7] <= RESUM_AT * state[at + 4] and state[at + 8] <= RESUM_AT * state[at + 6]
    if not exact:
        restart(state, at, ring_x, capacity_x, newest_x, ring_y, capacity_y, newest_y, x, y, n)
    return (
        state[at + 4], state[at + 5], state[at + 6], state[at] + state[at + 2], state[at + 1] + state[at + 3],
    )  # fmt: skip


@primitive(slots=9, history=lambda n: n, delay=lambda n: n - 1)
def correlation(
    state: State,
    at: int,
    ring_x: int,
    capacity_x: int,
    newest_x: int,
    ring_y: int,
    capacity_y: int,
    newest_y: int,
    x: float,
    y: float,
    n: int,
) -> float:
    """Pearson's correlation of the last n pairs; 0 where either side is constant, as TA-Lib has it.

    Both series must be NaN on the same rows. Slots: those of :func:`co_moments`.
    """
    squares_x, products, squares_y, _, _ = co_moments(
        state, at, ring_x, capacity_x, newest_x, ring_y, capacity_y, newest_y, x, y, n
    )
    if products != products:
        return math.nan
    scale = math.sqrt(squares_x * squares_y)
    if scale == 0.0:
        return 0.0
    return min(1.0, max(-1.0, products / scale))


@primitive(outputs=2, history=lambda n: n - 1, delay=lambda n: n - 1)
def mean_and_deviation(
    state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int
) -> tuple[float, float]:
    """Mean and mean absolute deviation of the last n values, summed about the newest one (exact when constant)."""
    if newest < 0 or state[ring + 1] < n:
        return math.nan, math.nan
    return absolute_deviation(state, ring, capacity, newest, x, n)


@apart
def absolute_deviation(state: State, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """What :func:`mean_and_deviation` gives of a whole window.

    The deviation has no recurrence. Four sums side by side keep the processor's adders busy: one would wait for itself.
    """
    keep_apart()
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n // 4 * 4
    for k in range(0, whole, 4):
        a += past(state, ring, capacity, newest, k) - x
        b += past(state, ring, capacity, newest, k + 1) - x
        c += past(state, ring, capacity, newest, k + 2) - x
        d += past(state, ring, capacity, newest, k + 3) - x
    for k in range(whole, n):
        a += past(state, ring, capacity, newest, k) - x
    offset = ((a + b) + (c + d)) * (1.0 / n)
    mean = x + offset
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(0, whole, 4):
        a += abs((past(state, ring, capacity, newest, k) - x) - offset)
        b += abs((past(state, ring, capacity, newest, k + 1) - x) - offset)
        c += abs((past(state, ring, capacity, newest, k + 2) - x) - offset)
        d += abs((past(state, ring, capacity, newest, k + 3) - x) - offset)
    for k in range(whole, n):
        a += abs((past(state, ring, capacity, newest, k) - x) - offset)
    return mean, ((a + b) + (c + d)) * (1.0 / n)


@apart
def line_sums(state: State, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """Sum of the last n values less x, and of their products with the rows from the window's centre."""
    keep_apart()
    centre = 0.5 * (n - 1)
    total, product = 0.0, 0.0
    for k in range(n):
        value = past(state, ring, capacity, newest, k) - x
        total += value
        product += (centre - k) * value
    return total, product


@primitive(outputs=2, slots=4, history=lambda n: n, delay=lambda n: n - 1)
def line(state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int) -> tuple[float, float]:
    """Least-squares line through the last n values: its value at the newest row and its slope per row.

    Deviations are taken from an anchor near the values and abscissae from their centre, so that little cancels at high
    prices. Slots: anchor, sum of deviations, sum of their products with the abscissae, rounding budget used.
    """
    if newest < 0 or state[ring + 1] < n:
        return math.nan, math.nan
    centre = 0.5 * (n - 1)
    anchor = state[at]
    entering = x - anchor
    leaving = past(state, ring, capacity, newest, n) - anchor
    product = (state[at + 2] - state[at + 1]) + (centre * entering + (centre + 1.0) * leaving)
    total = state[at + 1] + (entering - leaving)
    used = state[at + 3] + (abs(product) + abs(state[at + 1]) + n * (abs(entering) + abs(leaving)))
    if state[ring + 1] == n or not used <= RESUM_AT * abs(product):
        anchor, used = x, 0.0
        total, product = line_sums(state, ring, capacity, newest, x, n)
    state[at], state[at + 1], state[at + 2], state[at + 3] = anchor, total, product, used
    slope = product * (12.0 / (n * (n * n - 1.0)))
    return anchor + (total * (1.0 / n) + slope * centre), slope

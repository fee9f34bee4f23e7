"""Co-moments of two and three series over the last n values, updated in O(1), and what regressions make of them.

As in :mod:`tapeline.kernels.moments`, the sums are made anew once the rounding that the updates may have left exceeds
about 2·RESUM_AT·epsilon of the sums of squares.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.moments import RESUM_AT
from tapeline.kernels.primitive import primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]


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
        step_x = (x - old_x) / n
        step_y = (y - old_y) / n
        state[at + 4] += (x - old_x) * (in_x + out_x - step_x)
        state[at + 5] += in_x * in_y - out_x * out_y - (x - old_x) * step_y
        state[at + 6] += (y - old_y) * (in_y + out_y - step_y)
        state[at + 2] += step_x
        state[at + 3] += step_y
        state[at + 7] += in_x * in_x + out_x * out_x
        state[at + 8] += in_y * in_y + out_y * out_y
        exact = state[at + 7] <= RESUM_AT * state[at + 4] and state[at + 8] <= RESUM_AT * state[at + 6]
    if not exact:
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
    return (
        state[at + 4], state[at + 5], state[at + 6], state[at] + state[at + 2], state[at + 1] + state[at + 3],
    )  # fmt: skip


@primitive()
def second_coefficient(xx: float, xz: float, zz: float, xy: float, zy: float) -> float:
    """Coefficient of z in the regression of y on x and z, from sums about means; NaN where x and z are collinear."""
    determinant = xx * zz - xz * xz
    # Of collinear columns only rounding is left: about epsilon of the product.
    return (xx * zy - xz * xy) / determinant if determinant > 1e-12 * xx * zz else math.nan


@primitive()
def roll_spread_of(products: float, mean: float, mean_before: float, rise: float, n: int) -> float:
    """Roll's spread from the n−1 pairs of n successive price changes; 0 where their autocovariance is not negative.

    ``rise`` is the sum of all n changes: deviations are from their common mean.
    """
    if products != products:
        return math.nan
    common = rise / n
    covariance = products / (n - 1) + (mean - common) * (mean_before - common)
    return 2.0 * math.sqrt(-covariance) if covariance < 0.0 else 0.0

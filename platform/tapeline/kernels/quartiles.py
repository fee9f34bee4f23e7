"""Quartiles of the last n values, from one window that is kept sorted."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.order_statistics import insert, replace
from tapeline.kernels.primitive import primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def interpolated(state: State, at: int, n: int, share: float) -> float:
    """The quantile of a sorted window, linear between order statistics (Hyndman and Fan's definition 7, NumPy's default)."""
    place = (n - 1) * share
    below = int(place)
    low = state[at + below]
    if below + 1 >= n:
        return low
    return low + (state[at + below + 1] - low) * (place - below)


@primitive(outputs=3, slots=lambda n: n, history=lambda n: n, delay=lambda n: n - 1)
def quartiles(
    state: State, at: int, ring: int, capacity: int, newest: int, x: float, n: int
) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the last n values. Slots: the window, sorted."""
    if newest < 0:
        return math.nan, math.nan, math.nan
    count = int(state[ring + 1])
    if count > n:
        replace(state, at, n, past(state, ring, capacity, newest, n), x)
    else:
        insert(state, at, count - 1, x)
    if count < n:
        return math.nan, math.nan, math.nan
    return interpolated(state, at, n, 0.25), interpolated(state, at, n, 0.5), interpolated(state, at, n, 0.75)

"""The last known value of an output within an age limit."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

HOLD_SLOTS = 3
"""State of a held output: whether a value is known, the last one, its row's event time (int64 bits)."""

State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def last_within(state: State, at: int, event_us: int, x: float, limit_us: int) -> tuple[float, float]:
    """The row's value, or the last known one if that row's event lies no longer ago than the limit; and its age in seconds.

    The age is 0 for the row's own value only: of an earlier row of the same microsecond it is one microsecond. Without a
    value both are NaN.
    """
    if x == x:
        state[at] = 1.0
        state[at + 1] = x
        state[at + 2] = np.int64(event_us).view(np.float64)
        return x, 0.0
    if state[at] == 0.0:
        return math.nan, math.nan
    age_us = int(event_us - np.float64(state[at + 2]).view(np.int64))
    if age_us > limit_us:
        return math.nan, math.nan
    return state[at + 1], max(age_us, 1) / 1e6

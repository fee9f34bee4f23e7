"""Realised measures of the last n returns."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.primitive import primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def parzen(x: float) -> float:
    """Parzen's weight, for x from 0 to 1."""
    return 1.0 - 6.0 * x * x * (1.0 - x) if x <= 0.5 else 2.0 * (1.0 - x) * (1.0 - x) * (1.0 - x)


@primitive(slots=2, history=lambda n, _lags: n, delay=lambda n, _lags: n - 1)
def kernel_variance(state: State, at: int, ring: int, capacity: int, newest: int, r: float, n: int, lags: int) -> float:
    """γ₀ + 2 Σ parzen(h/(H+1)) γₕ of the last n returns, with γₕ = Σ rₜ rₜ₋ₕ over the pairs inside the window.

    A return that comes brings its products with the H before it, one that leaves takes those with the H after it. Slots:
    sum, its low part.
    """
    if newest < 0:
        return math.nan
    high, low = add(state[at], state[at + 1], r * r)
    count = state[ring + 1]
    earlier = int(min(float(lags), min(count, float(n)) - 1.0))
    for h in range(1, earlier + 1):
        product = past(state, ring, capacity, newest, h) * r
        high, low = add(high, low, 2.0 * parzen(h / (lags + 1.0)) * product)
    if count > n:
        old = past(state, ring, capacity, newest, n)
        high, low = add(high, low, -(old * old))
        for h in range(1, min(lags, n - 1) + 1):
            product = old * past(state, ring, capacity, newest, n - h)
            high, low = add(high, low, -(2.0 * parzen(h / (lags + 1.0)) * product))
    state[at], state[at + 1] = high, low
    return high if count >= n else math.nan

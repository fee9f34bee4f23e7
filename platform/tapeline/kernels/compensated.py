"""Compensated sums: what keeps a running sum exact over millions of rows and across any price scale."""

from __future__ import annotations

from numba import njit


@njit(error_model="numpy", forceinline=True)
def add(high: float, low: float, x: float) -> tuple[float, float]:
    """Add to an unevaluated sum ``high + low`` (Knuth's two-sum, renormalised), relative error about 1e-32.

    Source: Knuth, The Art of Computer Programming 2, 4.2.2, theorem B.
    """
    total = high + x
    part = total - high
    error = (high - (total - part)) + (x - part) + low
    result = total + error
    return result, error - (result - total)

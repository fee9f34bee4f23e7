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


@njit(error_model="numpy", forceinline=True)
def add_product(high: float, low: float, a: float, b: float) -> tuple[float, float]:
    """Add ``a·b`` without losing the product's rounding error (Dekker's product, Veltkamp's split).

    Source: Dekker 1971, A floating-point technique for extending the available precision.
    """
    product = a * b
    split_a = 134217729.0 * a  # 2**27 + 1
    split_b = 134217729.0 * b
    high_a = split_a - (split_a - a)
    high_b = split_b - (split_b - b)
    low_a = a - high_a
    low_b = b - high_b
    error = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    high, low = add(high, low, product)
    return add(high, low, error)

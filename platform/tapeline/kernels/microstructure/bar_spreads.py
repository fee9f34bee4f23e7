"""Spreads from bars: what one bar, or a pair of bars, says about the spread."""

from __future__ import annotations

import math

from tapeline.kernels.primitive import primitive

_K = 3.0 - 2.0 * math.sqrt(2.0)


@primitive()
def high_low_spread(high_before: float, low_before: float, high: float, low: float) -> float:
    """Corwin and Schultz's spread of two successive bars; 0 where the estimate is negative."""
    if high_before != high_before or low_before != low_before or high != high or low != low:
        return math.nan
    range_before = math.log(high_before / low_before)
    range_now = math.log(high / low)
    both = math.log(max(high_before, high) / min(low_before, low))
    beta = range_before * range_before + range_now * range_now
    alpha = (math.sqrt(2.0 * beta) - math.sqrt(beta)) / _K - abs(both) / math.sqrt(_K)
    return max(0.0, 2.0 * math.tanh(0.5 * alpha))  # 2(e^α − 1)/(1 + e^α)


@primitive()
def close_to_mid_ranges(close_before: float, high_before: float, low_before: float, high: float, low: float) -> float:
    """Abdi and Ranaldo's product: a close's distances from the mid-ranges of its own bar and of the next, in logarithms."""
    if (
        close_before != close_before
        or high_before != high_before
        or low_before != low_before
        or high != high
        or low != low
    ):
        return math.nan
    own = math.log((close_before / high_before) * (close_before / low_before))
    following = math.log((close_before / high) * (close_before / low))
    return 0.25 * own * following


@primitive()
def root_of_positive(x: float) -> float:
    """Square root; 0 below 0."""
    if x != x:
        return math.nan
    return math.sqrt(x) if x > 0.0 else 0.0

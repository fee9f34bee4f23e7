"""The book's depth over its first five levels. A level without a price (NaN or 0) ends its side."""

from __future__ import annotations

import math

from numba import njit

from tapeline.kernels.primitive import primitive


@njit(error_model="numpy", forceinline=True)
def _has(price: float, size: float) -> bool:
    return price > 0.0 and size == size


@primitive(outputs=2)
def side_depth(
    mid: float, p1: float, p2: float, p3: float, p4: float, p5: float,
    s1: float, s2: float, s3: float, s4: float, s5: float,
) -> tuple[float, float]:  # fmt: skip
    """Size queued on all levels of a side, and the same over the last level's distance from the mid, relative to it."""
    if mid != mid or not _has(p1, s1):
        return math.nan, math.nan
    total, last = s1, p1
    if _has(p2, s2):
        total, last = total + s2, p2
        if _has(p3, s3):
            total, last = total + s3, p3
            if _has(p4, s4):
                total, last = total + s4, p4
                if _has(p5, s5):
                    total, last = total + s5, p5
    distance = abs(last - mid) / mid
    return total, total / distance if distance > 0.0 else math.nan


@njit(error_model="numpy", forceinline=True)
def _step(volume: float, volume_before: float, price: float, price_before: float) -> float:
    """Relative growth of a logarithm of accumulated volume, over that of the price; NaN where both levels have one price."""
    if price == price_before:
        return math.nan
    return (math.log(volume) / math.log(volume_before) - 1.0) / abs(price / price_before - 1.0)


@primitive()
def elasticity(
    mid: float, p1: float, p2: float, p3: float, p4: float, p5: float,
    s1: float, s2: float, s3: float, s4: float, s5: float,
) -> float:  # fmt: skip
    """Næs and Skjeltorp's slope of one side: the mean over levels of the growth of ln(accumulated size) per growth of price.

    NaN while the side is empty, in a locked book, or where at most one share waits at the best price (its logarithm is
    what the second level's growth is relative to).
    """
    if mid != mid or not _has(p1, s1) or p1 == mid or not s1 > 1.0:
        return math.nan
    levels, volume, total = 1.0, s1, math.log(s1) / abs(p1 / mid - 1.0)
    if _has(p2, s2):
        total += _step(volume + s2, volume, p2, p1)
        volume, levels = volume + s2, 2.0
        if _has(p3, s3):
            total += _step(volume + s3, volume, p3, p2)
            volume, levels = volume + s3, 3.0
            if _has(p4, s4):
                total += _step(volume + s4, volume, p4, p3)
                volume, levels = volume + s4, 4.0
                if _has(p5, s5):
                    total += _step(volume + s5, volume, p5, p4)
                    levels = 5.0
    return total / levels


@primitive()
def depth_difference(bought: float, sold: float) -> float:
    """2 (D_ask − D_bid) / (D_ask + D_bid); NaN where both are 0."""
    total = bought + sold
    return 2.0 * (sold - bought) / total if total > 0.0 else math.nan

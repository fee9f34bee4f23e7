"""Steps over one moment of the book. A price of 0 is an empty side; a crossed book (bid above ask) has no mid."""

from __future__ import annotations

import math

from tapeline.kernels.primitive import primitive


@primitive()
def mid_of(bid: float, ask: float) -> float:
    """Half-way between the best quotes; NaN while a side is empty or the book is crossed."""
    return 0.5 * (bid + ask) if 0.0 < bid <= ask else math.nan


@primitive()
def relative_spread(bid: float, ask: float) -> float:
    """Ask less bid, over the mid; NaN while a side is empty or the book is crossed."""
    return (ask - bid) / (0.5 * (bid + ask)) if 0.0 < bid <= ask else math.nan


@primitive()
def weighted_mid_of(bid: float, ask: float, bid_size: float, ask_size: float) -> float:
    """Each quote weighted by the size on the other side; the mid where nothing is queued at either."""
    if not 0.0 < bid <= ask or bid_size != bid_size or ask_size != ask_size:
        return math.nan
    total = bid_size + ask_size
    return bid + (ask - bid) * (bid_size / total if total > 0.0 else 0.5)


@primitive()
def imbalance_of(a: float, b: float) -> float:
    """(a − b) / (a + b) of two sizes; NaN where both are 0."""
    total = a + b
    return (a - b) / total if total > 0.0 else math.nan

"""Steps of volume indicators: volume indices, price-weighted volume, Williams' and Klinger's accumulations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(slots=2)
def relative_change(state: State, at: int, x: float) -> float:
    """Relative change since the row before; 0 on the first row. Slots: started, previous."""
    if x != x:
        return math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, x
    return (x - previous) / previous if started != 0.0 and previous != 0.0 else 0.0


@primitive(outputs=2, slots=5)
def volume_indices(state: State, at: int, close: float, volume: float) -> tuple[float, float]:
    """Indices of 1,000 at the first row that compound returns where volume fell, and where it rose.

    Slots: started, previous close, previous volume, index of falling and of rising volume.
    """
    if close != close or volume != volume:
        return math.nan, math.nan
    if state[at] == 0.0:
        state[at], state[at + 3], state[at + 4] = 1.0, 1_000.0, 1_000.0
    elif volume < state[at + 2]:
        state[at + 3] += state[at + 3] * ((close - state[at + 1]) / state[at + 1])
    elif volume > state[at + 2]:
        state[at + 4] += state[at + 4] * ((close - state[at + 1]) / state[at + 1])
    state[at + 1], state[at + 2] = close, volume
    return state[at + 3], state[at + 4]


@primitive(slots=2)
def williams_range(state: State, at: int, high: float, low: float, close: float) -> float:
    """What Williams accumulates: from the true low where the close rose, from the true high where it fell, else 0.

    0 on the first row. Slots: started, previous close.
    """
    if high != high or low != low or close != close:
        return math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, close
    if started == 0.0 or close == previous:
        return 0.0
    return close - min(previous, low) if close > previous else close - max(previous, high)


@primitive(slots=5, delay=2)
def klinger_force(state: State, at: int, high: float, low: float, close: float, volume: float) -> float:
    """Klinger's volume force: volume · |2·(range / range accumulated in this trend − 1)| · trend · 100.

    The trend is 1 where high + low + close rose and −1 where it did not; it has no predecessor on the third row, which
    therefore begins one. Slots: rows (up to 2), previous high + low + close, previous range, trend, accumulated range.
    """
    if high != high or low != low or close != close or volume != volume:
        return math.nan
    rows, level, reach = state[at], high + low + close, high - low
    previous_level, previous_reach, previous_trend = state[at + 1], state[at + 2], state[at + 3]
    state[at], state[at + 1], state[at + 2] = min(rows + 1.0, 2.0), level, reach
    if rows < 2.0:
        return math.nan
    trend = 1.0 if level > previous_level else -1.0
    accumulated = reach + (state[at + 4] if trend == previous_trend else previous_reach)
    state[at + 3], state[at + 4] = trend, accumulated
    if accumulated == 0.0:
        return 0.0
    return volume * abs(2.0 * (reach / accumulated - 1.0)) * trend * 100.0

"""Steps that order rows in time: a late start, and the recursion of averaged candles."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(slots=1, delay=lambda wait: wait)
def withheld(state: State, at: int, x: float, wait: int) -> float:
    """The value, but NaN for the first ``wait`` rows: what follows takes its seed as much later. Slot: rows withheld."""
    if x != x:
        return math.nan
    if state[at] < wait:
        state[at] += 1.0
        return math.nan
    return x


@primitive(slots=3)
def averaged_open(state: State, at: int, open_: float, close: float, averaged_close: float) -> float:
    """Open of a Heikin-Ashi candle: the middle of the previous candle's body, on the first row of the bar's own.

    Slots: started, previous averaged open, previous averaged close.
    """
    if open_ != open_ or close != close or averaged_close != averaged_close:
        return math.nan
    result = 0.5 * (open_ + close) if state[at] == 0.0 else 0.5 * (state[at + 1] + state[at + 2])
    state[at], state[at + 1], state[at + 2] = 1.0, result, averaged_close
    return result

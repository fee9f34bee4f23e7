"""Steps that order rows in time: a late start, averaged candles, a setup that later rows confirm."""

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


@primitive(slots=4)
def confirmed(state: State, at: int, setup: float, close: float, top: float, bottom: float, wait: int) -> float:
    """A setup of +100 or −100 on its row, ±200 on the first of the next ``wait`` rows that closes beyond its level.

    The level is the setup row's top for a rise and its bottom for a fall; 0 on all other rows, and a new setup replaces
    an old one. Slots: rows left, setup, top, bottom.
    """
    if setup != setup or close != close or top != top or bottom != bottom:
        return math.nan
    if setup != 0.0:
        state[at], state[at + 1], state[at + 2], state[at + 3] = wait, setup, top, bottom
        return setup
    if state[at] == 0.0:
        return 0.0
    state[at] -= 1.0
    if (state[at + 1] > 0.0 and close > state[at + 2]) or (state[at + 1] < 0.0 and close < state[at + 3]):
        state[at] = 0.0
        return 2.0 * state[at + 1]
    return 0.0

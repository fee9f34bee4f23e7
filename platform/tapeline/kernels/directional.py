"""Steps of Wilder's systems: true range and directional movement; gains, losses and money flow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(outputs=2, slots=2, delay=1)
def gain_and_loss(state: State, at: int, x: float) -> tuple[float, float]:
    """How far the value rose and fell since the row before, both ≥ 0. Slots: started, previous."""
    if x != x:
        return math.nan, math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, x
    if started == 0.0:
        return math.nan, math.nan
    change = x - previous
    return (max(0.0, change)), (0.0 if change > 0.0 else -change)


@primitive(slots=2, delay=1)
def true_range(state: State, at: int, high: float, low: float, close: float) -> float:
    """Wilder's true range: the range, extended to the previous close. Slots: started, previous close."""
    if high != high or low != low or close != close:
        return math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, close
    if started == 0.0:
        return math.nan
    return max(high - low, abs(high - previous), abs(low - previous))


@primitive(outputs=2, slots=3, delay=1)
def directional_movement(state: State, at: int, high: float, low: float) -> tuple[float, float]:
    """Wilder's +DM and −DM: the larger of the moves beyond the previous bar. Slots: started, previous high and low."""
    if high != high or low != low:
        return math.nan, math.nan
    started = state[at]
    up = high - state[at + 1]
    down = state[at + 2] - low
    state[at], state[at + 1], state[at + 2] = 1.0, high, low
    if started == 0.0:
        return math.nan, math.nan
    # Selected, not branched: which of them it is cannot be predicted, and a wrong guess costs more than all the rest.
    return (up if (up > 0.0) & (up > down) else 0.0), (down if (down > 0.0) & (up < down) else 0.0)


@primitive(outputs=2, slots=2, delay=1)
def signed_flow(state: State, at: int, price: float, amount: float) -> tuple[float, float]:
    """The amount as inflow where the price rose and as outflow where it fell. Slots: started, previous price."""
    if price != price or amount != amount:
        return math.nan, math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, price
    if started == 0.0:
        return math.nan, math.nan
    return (amount if price > previous else 0.0), (amount if price < previous else 0.0)


@primitive(slots=2)
def signed_volume(state: State, at: int, close: float, volume: float) -> float:
    """Volume with the sign of the close's change; the first row counts as a rise, as TA-Lib's OBV has it."""
    if close != close or volume != volume:
        return math.nan
    started, previous = state[at], state[at + 1]
    state[at], state[at + 1] = 1.0, close
    rise = volume if (started == 0.0) | (close > previous) else 0.0
    fall = volume if (started != 0.0) & (close < previous) else 0.0
    return rise - fall


@primitive(outputs=2, slots=4)
def session_sums(state: State, at: int, price: float, volume: float, session: float) -> tuple[float, float]:
    """Sums of price·volume and of volume since the session number last changed. Slots: started, session, two sums."""
    if price != price or volume != volume or session != session:
        return math.nan, math.nan
    if state[at] == 0.0 or state[at + 1] != session:
        state[at], state[at + 1], state[at + 2], state[at + 3] = 1.0, session, 0.0, 0.0
    state[at + 2] += price * volume
    state[at + 3] += volume
    return state[at + 2], state[at + 3]

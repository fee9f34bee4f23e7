"""Who began a trade: +1 the buyer, −1 the seller, 0 where a rule cannot tell. Quotes are those that the trade met."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(slots=3)
def tick_test(state: State, at: int, price: float) -> float:
    """Sign of the step from the last different price; 0 before there was one. Slots: whether any price, last, sign."""
    if price != price:
        return math.nan
    if state[at] == 0.0:
        state[at] = 1.0
    elif price > state[at + 1]:
        state[at + 2] = 1.0
    elif price < state[at + 1]:
        state[at + 2] = -1.0
    state[at + 1] = price
    return state[at + 2]


@primitive()
def quote_or_tick(price: float, tick: float, bid: float, ask: float) -> float:
    """Lee and Ready: above the mid +1, below −1; at the mid, and without one, the tick test."""
    if price != price:
        return math.nan
    if 0.0 < bid <= ask:
        mid = 0.5 * (bid + ask)
        if price > mid:
            return 1.0
        if price < mid:
            return -1.0
    return tick


@primitive()
def touch_or_tick(price: float, tick: float, bid: float, ask: float) -> float:
    """Ellis, Michaely and O'Hara: at the ask +1, at the bid −1, anywhere else the tick test."""
    if price != price:
        return math.nan
    if 0.0 < bid < ask:
        if price == ask:
            return 1.0
        if price == bid:
            return -1.0
    return tick


@primitive()
def near_touch_or_tick(price: float, tick: float, bid: float, ask: float) -> float:
    """Chakrabarty, Li, Nguyen and Van Ness: within 30 % of the spread below the ask +1, above the bid −1, else the tick test."""
    if price != price:
        return math.nan
    if 0.0 < bid < ask:
        if (1.0 - 0.3) * ask + 0.3 * bid <= price <= ask:
            return 1.0
        if bid <= price <= 0.3 * ask + (1.0 - 0.3) * bid:
            return -1.0
    return tick


@primitive()
def told_or_inferred(price: float, side: float, inferred: float) -> float:
    """The side that the venue tells, or else the inferred one; NaN where there is no trade."""
    if price != price:
        return math.nan
    return side if side == side else inferred

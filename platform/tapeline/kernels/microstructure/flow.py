"""Order flow: what each event adds to one side of the book or takes from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive()
def order_flow(
    event: float,
    bid_before: float,
    bid: float,
    bid_size_before: float,
    bid_size: float,
    ask_before: float,
    ask: float,
    ask_size_before: float,
    ask_size: float,
) -> float:
    """Cont, Kukanov and Stoikov's contribution of one change of the book, at one level; NaN where the book did not change.

    An empty level (price 0) is a bid below, or an ask above, every price, with nothing queued.
    """
    if event != event or bid_before != bid_before or ask_before != ask_before:
        return math.nan
    bought = 0.0
    if bid >= bid_before and bid > 0.0:
        bought += bid_size
    if bid <= bid_before and bid_before > 0.0:
        bought -= bid_size_before
    sold = 0.0
    if ask > 0.0 and (ask <= ask_before or ask_before == 0.0):
        sold += ask_size
    if ask_before > 0.0 and (ask >= ask_before or ask == 0.0):
        sold -= ask_size_before
    return bought - sold


@primitive(outputs=2, slots=8, delay=1)
def of_intervals(state: State, at: int, time: float, price: float, flow: float, width_us: float) -> tuple[float, float]:
    """Logarithmic return and sum of flow of the last interval with trades, in the first row after its end; else NaN.

    Intervals are multiples of the width since the epoch; one without trades counts as absent. Price and flow may be NaN;
    such a row brings no trade. Slots: whether an interval is open, its number, last price, sum, its low part, whether
    there was an interval before, its last price, spare.
    """
    if time != time:
        return math.nan, math.nan
    number = math.floor(time / width_us)
    change, total = math.nan, math.nan
    if state[at] != 0.0 and number > state[at + 1]:
        if state[at + 5] != 0.0:
            change, total = math.log(state[at + 2] / state[at + 6]), state[at + 3]
        state[at + 5], state[at + 6] = 1.0, state[at + 2]
        state[at], state[at + 3], state[at + 4] = 0.0, 0.0, 0.0
    if price == price and flow == flow:
        state[at], state[at + 1], state[at + 2] = 1.0, number, price
        state[at + 3], state[at + 4] = add(state[at + 3], state[at + 4], flow)
    return change, total

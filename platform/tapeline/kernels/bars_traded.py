"""Tick, volume and dollar bars: a bar ends with the trade that brings what was traded to a threshold.

López de Prado (2018), *Advances in Financial Machine Learning*, section 2.3. The rule in full:

* A bar sums, over its trades, 1 (tick bars), the size (volume bars), or price × size (dollar bars).
* The trade with which the sum reaches the threshold (≥) belongs to the bar whole and closes it. Trades are never divided.
* Nothing is carried over: the sum begins again at 0 with the next trade, so a bar may exceed the threshold by what its
  last trade brought beyond it, and one large trade makes one bar, not several.
* A bar's time, sequence and availability are those of its closing trade (its availability, of all its trades), so bars
  that close in one microsecond are told apart by their sequence. Bars run on over the end of a session.
* A split between two trades of a bar puts what the bar has so far on the new basis; the sum of a volume bar too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit

from tapeline.core.errors import ParameterError
from tapeline.kernels.bars import (
    AVAILABLE,
    BAD_TRADE,
    BAR_COLUMNS,
    COUNT,
    END,
    OUT_OF_ORDER,
    START,
    SUM,
    TIME,
    Floats,
    Integers,
    bar_refuses,
    bar_take,
    bar_write,
    check_entities,
    check_trades,
    refuse_trade,
)

Measure = Literal["tick", "volume", "dollar"]
MEASURES: tuple[Measure, ...] = ("tick", "volume", "dollar")


@njit(error_model="numpy", cache=True, nogil=True)
def traded_bar_flush(state: Floats, out_bar: Floats) -> int:
    """Write the bar so far and forget it.

    Returns 1, or 0 if no trade has come since the last finished bar. The caller marks such a bar as partial.
    """
    if state[COUNT] == 0.0:
        return 0
    state[END] = state[TIME]
    bar_write(state, state[AVAILABLE], out_bar)
    return 1


@njit(error_model="numpy", cache=True, nogil=True)
def traded_bar_update(
    state: Floats,
    measure: int,
    threshold: float,
    event_us: int,
    available_us: int,
    sequence: int,
    price: float,
    size: float,
    out_bar: Floats,
) -> int:
    """Take one trade.

    Parameters
    ----------
    state
        float64 (BAR_STATE_SIZE,); zeros are a fresh one.
    measure
        What is summed: 0 trades, 1 shares, 2 money.
    threshold
        The sum with which a bar ends, positive.
    event_us, available_us, sequence, price, size
        The trade; its time may equal the one before, and its sequence must then be greater.
    out_bar
        float64 (13,): receives the bar that this trade closes.

    Returns
    -------
    int
        1 if a finished bar was written, 0 if not, −1 if the trade comes before the last one, −2 if its price is not
        positive and finite or its size is negative or not finite; after a negative code the state is as it was.
    """
    if not (0.0 < price < np.inf and 0.0 <= size < np.inf):
        return BAD_TRADE
    if bar_refuses(state, event_us, sequence):
        return OUT_OF_ORDER
    if state[COUNT] == 0.0:
        state[START] = event_us
    bar_take(state, event_us, available_us, sequence, price, size)
    state[SUM] += 1.0 if measure == 0 else size if measure == 1 else price * size
    if state[SUM] >= threshold:
        return int(traded_bar_flush(state, out_bar))
    return 0


@njit(error_model="numpy", cache=True, nogil=True)
def _build(
    measure: int,
    threshold: float,
    event_us: Integers,
    available_us: Integers,
    sequence: Integers,
    price: Floats,
    size: Floats,
    offsets: Integers,
    states: Floats,
    flush: bool,
    bars: Floats,
    ends: Integers,
) -> tuple[int, int]:
    """Write all bars and each entity's end in them; returns a code and the row (or number of bars) it is about."""
    made = 0
    spare = np.empty(13)
    for entity in range(len(offsets) - 1):
        state = states[entity]
        for i in range(offsets[entity], offsets[entity + 1]):
            code = traded_bar_update(
                state, measure, threshold, event_us[i], available_us[i], sequence[i], price[i], size[i], spare
            )
            if code < 0:
                return code, i
            if code > 0:
                bars[made] = spare
                made += 1
        if flush and traded_bar_flush(state, spare) > 0:
            bars[made] = spare
            made += 1
        ends[entity + 1] = made
    return 0, made


def traded_bars_batch(
    measure: Measure,
    threshold: float,
    event_us: Integers,
    available_us: Integers,
    sequence: Integers,
    price: Floats,
    size: Floats,
    offsets: Integers,
    states: Floats | None = None,
    *,
    flush: bool = False,
) -> tuple[Floats, Integers, Floats]:
    """Tick, volume or dollar bars of many entities' trades.

    Parameters
    ----------
    measure
        ``tick``, ``volume`` or ``dollar``.
    threshold
        The number of trades, shares or units of money with which a bar ends; positive and finite.
    event_us, available_us, sequence
        int64 (N,), in order of (event, sequence) within each entity.
    price, size
        float64 (N,).
    offsets
        int64 (E+1,): entity e has trades offsets[e] to offsets[e+1].
    states
        float64 (E, BAR_STATE_SIZE) to continue from, left as they are; None: fresh ones.
    flush
        Whether to write each entity's unfinished last bar too.

    Returns
    -------
    tuple
        Bars (B, 13) with the columns BAR_COLUMNS, their offsets (E+1,), and the states as they end.

    Raises
    ------
    OutOfOrderError
        If trades of an entity are not in order.
    InvalidDataError
        If a price is not positive and finite, or a size negative or not finite.
    ParameterError
        If the measure is unknown, the threshold is not positive, or arrays differ in length.
    """
    trades = check_trades(event_us, available_us, sequence, price, size)
    if measure not in MEASURES or not 0.0 < threshold < np.inf:
        raise ParameterError(
            f"{measure!r} bars of {threshold} cannot be made",
            remedy=f"Give one of {', '.join(MEASURES)} and a positive threshold",
        )
    offsets, last = check_entities(offsets, len(trades[0]), states)
    bars = np.empty((len(trades[0]) + len(offsets), len(BAR_COLUMNS)))
    ends = np.zeros(len(offsets), dtype=np.int64)
    number = MEASURES.index(measure)
    code, place = _build(number, float(threshold), *trades, offsets, last, flush, bars, ends)
    if code:
        refuse_trade(code, place, offsets, *trades)
    return bars[:place].copy(), ends, last

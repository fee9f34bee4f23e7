"""Time bars from trades, by the same contract as the feature plans: a flat state, one step, batch = the step in a loop.

Bars cover [start, end), aligned to multiples of their width since the epoch. An interval without trades makes no bar.
:mod:`tapeline.kernels.bars_traded` closes bars by what was traded, :mod:`tapeline.kernels.bars_longer` makes longer bars
from shorter ones; all share the columns and the state that are laid out here.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.core.timestamps import format_us

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BAR_COLUMNS = (
    "start_us",
    "end_us",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trade_count",
    "first_sequence",
    "last_sequence",
    "available_us",
    "split_ratio",
    "dividend_ratio",
)
"""Columns of a bar, float64; whole numbers are exact below 2**53. The ratios are those of what took effect since the bar
before, 1 without; a bar's values are all in terms of its last trade."""

BAR_STATE_SIZE = 18
"""Slots: the bar so far (13, as in BAR_COLUMNS; trade_count 0: none; a ratio of 0 is 1), then the last row's time and
sequence, the last price (0: none yet), the sum that closes a bar by what was traded, and the number of finished bars."""

START, END, OPEN, HIGH, LOW, CLOSE, VOLUME, COUNT, FIRST, LAST, AVAILABLE, SPLIT, DIVIDEND = range(13)
TIME, SEQUENCE, PRICE, SUM, FINISHED = range(13, 18)

WRITTEN, OUT_OF_ORDER, BAD_TRADE = 1, -1, -2
"""Codes of an update."""


@njit(error_model="numpy", cache=True, nogil=True)
def bar_write(state: Floats, available_us: float, out_bar: Floats) -> None:
    """Write the bar so far and forget it. The first bar has nothing before it to be adjusted to: its ratios are 1."""
    for column in range(13):
        out_bar[column] = state[column]
    out_bar[AVAILABLE] = available_us
    for column in (SPLIT, DIVIDEND):
        if state[column] == 0.0 or state[FINISHED] == 0.0:
            out_bar[column] = 1.0
        state[column] = 0.0
    state[COUNT] = 0.0
    state[FINISHED] += 1.0


@njit(error_model="numpy", cache=True, nogil=True)
def bar_adjust(state: Floats, split_ratio: float, dividend: float, sum_power: float) -> int:
    """Bring the bar so far on the basis of what takes effect before the next trade.

    Parameters
    ----------
    state
        float64 (BAR_STATE_SIZE,) of any kind of bars.
    split_ratio
        New shares for one old one; 1 for none.
    dividend
        Cash for each share on the new basis; 0 for none. Prices before it are multiplied by (C − D)/C, C the last price
        (CRSP's adjustment of prices); volumes stay as they are.
    sum_power
        Power of the split ratio that goes into the sum that closes a bar: 1 if that counts shares, else 0.

    Returns
    -------
    int
        0, or −1 if the dividend is not below the last price; then the state is as it was.
    """
    if state[PRICE] == 0.0:
        return 0
    close = state[PRICE] / split_ratio
    if not dividend < close:
        return -1
    kept = (close - dividend) / close
    for column in (OPEN, HIGH, LOW, CLOSE, PRICE):
        state[column] = state[column] / split_ratio * kept
    state[VOLUME] *= split_ratio
    if sum_power == 1.0:
        state[SUM] *= split_ratio
    state[SPLIT] = split_ratio * (state[SPLIT] if state[SPLIT] > 0.0 else 1.0)
    state[DIVIDEND] = close / (close - dividend) * (state[DIVIDEND] if state[DIVIDEND] > 0.0 else 1.0)
    return 0


@njit(error_model="numpy", forceinline=True)
def bar_refuses(state: Floats, event_us: int, sequence: int) -> bool:
    """Whether a trade does not come after the last one."""
    if state[COUNT] == 0.0 and state[FINISHED] == 0.0:
        return False
    return bool(event_us < state[TIME] or (event_us == state[TIME] and sequence <= state[SEQUENCE]))


@njit(error_model="numpy", forceinline=True)
def bar_take(state: Floats, event_us: int, available_us: int, sequence: int, price: float, size: float) -> None:
    """Put a trade into the open bar; where none is open, it opens one, whose start and end are the caller's."""
    if state[COUNT] == 0.0:
        state[OPEN] = price
        state[HIGH] = price
        state[LOW] = price
        state[VOLUME] = 0.0
        state[SUM] = 0.0
        state[FIRST] = sequence
        state[AVAILABLE] = available_us
    state[HIGH] = max(state[HIGH], price)
    state[LOW] = min(state[LOW], price)
    state[CLOSE] = price
    state[VOLUME] += size
    state[COUNT] += 1.0
    state[LAST] = sequence
    state[AVAILABLE] = max(state[AVAILABLE], available_us)
    state[TIME] = event_us
    state[SEQUENCE] = sequence
    state[PRICE] = price


@njit(error_model="numpy", cache=True, nogil=True)
def time_bar_flush(state: Floats, width_us: int, out_bar: Floats) -> int:
    """Write the bar so far and forget it.

    Returns 1, or 0 if no trade has come since the last finished bar. The caller marks such a bar as partial: it ends,
    and counts as available, at the end of its interval.
    """
    if state[COUNT] == 0.0:
        return 0
    bar_write(state, max(state[AVAILABLE], state[END]), out_bar)
    return 1


@njit(error_model="numpy", cache=True, nogil=True)
def time_bar_update(
    state: Floats,
    width_us: int,
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
    width_us
        Length of a bar.
    event_us, available_us, sequence, price, size
        The trade; its time may equal the one before, and its sequence must then be greater.
    out_bar
        float64 (13,): receives the bar before this trade if the trade finished it.

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
    finished = 0
    if state[COUNT] > 0.0 and event_us >= state[END]:
        finished = time_bar_flush(state, width_us, out_bar)
    if state[COUNT] == 0.0:
        start = event_us // width_us * width_us
        state[START] = start
        state[END] = start + width_us
    bar_take(state, event_us, available_us, sequence, price, size)
    return finished


@njit(error_model="numpy", cache=True, nogil=True)
def _build(
    width_us: int,
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
            code = time_bar_update(state, width_us, event_us[i], available_us[i], sequence[i], price[i], size[i], spare)
            if code < 0:
                return code, i
            if code > 0:
                bars[made] = spare
                made += 1
        if flush and time_bar_flush(state, width_us, spare) > 0:
            bars[made] = spare
            made += 1
        ends[entity + 1] = made
    return 0, made


def time_bars_batch(
    width_us: int,
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
    """Bars of many entities' trades.

    Parameters
    ----------
    width_us
        Length of a bar.
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
        If the width is not positive, or arrays differ in length.
    """
    trades = check_trades(event_us, available_us, sequence, price, size)
    if width_us <= 0:
        raise ParameterError("a bar's width is positive", where=f"width {width_us} µs")
    offsets, last = check_entities(offsets, len(event_us), states)
    entities = len(offsets) - 1
    bars = np.empty((_bars_max(trades[0], width_us, entities), len(BAR_COLUMNS)))
    ends = np.zeros(entities + 1, dtype=np.int64)
    code, place = _build(width_us, *trades, offsets, last, flush, bars, ends)
    if code:
        refuse_trade(code, place, offsets, *trades)
    return bars[:place].copy(), ends, last


def check_trades(
    event_us: Integers, available_us: Integers, sequence: Integers, price: Floats, size: Floats
) -> tuple[Integers, Integers, Integers, Floats, Floats]:
    """Trades as contiguous arrays of one length."""
    whole = (np.ascontiguousarray(array, dtype=np.int64) for array in (event_us, available_us, sequence))
    numbers = (np.ascontiguousarray(array, dtype=np.float64) for array in (price, size))
    trades = (*whole, *numbers)
    if any(array.shape != (len(event_us),) for array in trades):
        raise ParameterError("trades need arrays of one length", where=f"{[array.shape for array in trades]}")
    return trades  # type: ignore[return-value]


def check_entities(offsets: Integers, count: int, states: Floats | None) -> tuple[Integers, Floats]:
    """Offsets that fit a number of rows, and states of as many entities: fresh ones, or a copy of those given."""
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    entities = len(offsets) - 1
    if entities < 0 or offsets[0] != 0 or offsets[-1] != count or bool(np.any(np.diff(offsets) < 0)):
        raise ParameterError("offsets must rise from 0 to the number of rows", where=f"{count} rows")
    if states is None:
        return offsets, np.zeros((entities, BAR_STATE_SIZE))
    last = np.array(states, dtype=np.float64, order="C")
    if last.shape != (entities, BAR_STATE_SIZE):
        raise ParameterError(f"states must have shape ({entities}, {BAR_STATE_SIZE})", where=str(last.shape))
    return offsets, last


def refuse_trade(
    code: int,
    place: int,
    offsets: Integers,
    event_us: Integers,
    available_us: Integers,
    sequence: Integers,
    price: Floats,
    size: Floats,
) -> NoReturn:
    """Raise the error of an update's code."""
    entity = int(np.searchsorted(offsets, place, side="right")) - 1
    where = f"entity {entity}, trade {place}, at {format_us(int(event_us[place]))} #{int(sequence[place])}"
    if code == OUT_OF_ORDER:
        raise OutOfOrderError("trades are not in order", where=where, remedy="Sort them by event time and sequence")
    raise InvalidDataError(f"price {price[place]}, size {size[place]} is no trade", where=where)


def _bars_max(event_us: Integers, width_us: int, entities: int) -> int:
    """No more bars than changes of interval, plus one finished and one flushed for each entity."""
    changes = int(np.count_nonzero(np.diff(event_us // width_us))) if len(event_us) else 0
    return changes + 2 * entities + 1

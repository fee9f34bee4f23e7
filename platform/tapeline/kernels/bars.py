"""Time bars from trades, by the same contract as the feature plans: a flat state, one step, batch = the step in a loop.

Bars cover [start, end), aligned to multiples of their width since the epoch. An interval without trades makes no bar.
"""

from __future__ import annotations

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
)
"""Columns of a bar, float64; whole numbers are exact below 2**53."""

TIME_BAR_STATE_SIZE = 12
"""Slots: the bar so far (11, as in BAR_COLUMNS; trade_count 0: none), then the last trade's time."""

_START, _END, _OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _COUNT, _FIRST, _LAST, _AVAILABLE, _TIME = range(12)

_FINISHED, _OUT_OF_ORDER, _BAD_TRADE = 1, -1, -2


@njit(error_model="numpy", cache=True, nogil=True)
def time_bar_flush(state: Floats, width_us: int, out_bar: Floats) -> int:
    """Write the bar so far and forget it.

    Returns 1, or 0 if no trade has come since the last finished bar. The caller marks such a bar as partial: it ends,
    and counts as available, at the end of its interval.
    """
    if state[_COUNT] == 0.0:
        return 0
    for column in range(11):
        out_bar[column] = state[column]
    out_bar[_AVAILABLE] = max(state[_AVAILABLE], state[_END])
    state[_COUNT] = 0.0
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
        float64 (TIME_BAR_STATE_SIZE,); zeros are a fresh one.
    width_us
        Length of a bar.
    event_us, available_us, sequence, price, size
        The trade; its time may equal the one before, and its sequence must then be greater.
    out_bar
        float64 (11,): receives the bar before this trade if the trade finished it.

    Returns
    -------
    int
        1 if a finished bar was written, 0 if not, −1 if the trade comes before the last one, −2 if its price is not
        positive and finite or its size is negative or not finite; after a negative code the state is as it was.
    """
    if not (0.0 < price < np.inf and 0.0 <= size < np.inf):
        return _BAD_TRADE
    seen = state[_END] > state[_START]
    if seen and (event_us < state[_TIME] or (event_us == state[_TIME] and sequence <= state[_LAST])):
        return _OUT_OF_ORDER
    finished = 0
    if state[_COUNT] > 0.0 and event_us >= state[_END]:
        finished = time_bar_flush(state, width_us, out_bar)
    if state[_COUNT] == 0.0:
        start = event_us // width_us * width_us
        state[_START] = start
        state[_END] = start + width_us
        state[_OPEN] = price
        state[_HIGH] = price
        state[_LOW] = price
        state[_VOLUME] = 0.0
        state[_FIRST] = sequence
        state[_AVAILABLE] = available_us
    state[_HIGH] = max(state[_HIGH], price)
    state[_LOW] = min(state[_LOW], price)
    state[_CLOSE] = price
    state[_VOLUME] += size
    state[_COUNT] += 1.0
    state[_LAST] = sequence
    state[_AVAILABLE] = max(state[_AVAILABLE], available_us)
    state[_TIME] = event_us
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
    spare = np.empty(11)
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
        float64 (E, TIME_BAR_STATE_SIZE) to continue from, left as they are; None: fresh ones.
    flush
        Whether to write each entity's unfinished last bar too.

    Returns
    -------
    tuple
        Bars (B, 11) with the columns BAR_COLUMNS, their offsets (E+1,), and the states as they end.

    Raises
    ------
    OutOfOrderError
        If trades of an entity are not in order.
    InvalidDataError
        If a price is not positive and finite, or a size negative or not finite.
    ParameterError
        If the width is not positive, or arrays differ in length.
    """
    event_us, available_us, sequence = (
        np.ascontiguousarray(array, dtype=np.int64) for array in (event_us, available_us, sequence)
    )
    price, size = (np.ascontiguousarray(array, dtype=np.float64) for array in (price, size))
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    count = len(event_us)
    if width_us <= 0 or any(len(array) != count for array in (available_us, sequence, price, size)):
        raise ParameterError("trades need arrays of one length and a positive bar width", where=f"width {width_us} µs")
    entities = len(offsets) - 1
    if entities < 0 or offsets[0] != 0 or offsets[-1] != count or bool(np.any(np.diff(offsets) < 0)):
        raise ParameterError("offsets must rise from 0 to the number of trades", where=f"{count} trades")
    if states is None:
        last = np.zeros((entities, TIME_BAR_STATE_SIZE))
    else:
        last = np.array(states, dtype=np.float64, order="C")
        if last.shape != (entities, TIME_BAR_STATE_SIZE):
            raise ParameterError(f"states must have shape ({entities}, {TIME_BAR_STATE_SIZE})", where=str(last.shape))
    bars = np.empty((_bars_max(event_us, width_us, entities), len(BAR_COLUMNS)))
    ends = np.zeros(entities + 1, dtype=np.int64)
    code, place = _build(width_us, event_us, available_us, sequence, price, size, offsets, last, flush, bars, ends)
    if code:
        entity = int(np.searchsorted(offsets, place, side="right")) - 1
        where = f"entity {entity}, trade {place}, at {format_us(int(event_us[place]))} #{int(sequence[place])}"
        if code == _OUT_OF_ORDER:
            raise OutOfOrderError("trades are not in order", where=where, remedy="Sort them by event time and sequence")
        raise InvalidDataError(f"price {price[place]}, size {size[place]} is no trade", where=where)
    return bars[:place].copy(), ends, last


def _bars_max(event_us: Integers, width_us: int, entities: int) -> int:
    """No more bars than changes of interval, plus one finished and one flushed for each entity."""
    changes = int(np.count_nonzero(np.diff(event_us // width_us))) if len(event_us) else 0
    return changes + 2 * entities + 1

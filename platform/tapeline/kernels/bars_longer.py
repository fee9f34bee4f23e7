"""Longer bars from shorter ones: hours from minutes, sessions from hours, weeks from days.

Where a row's longer bar ends is given with the row, because sessions come from an exchange calendar. The bar takes its
rows column by column, each where it is valid: a missing close does not cost the bar its high. It is finished by the row
that ends where it ends, at once, or else by the first row after it; a row that comes for a finished bar is left out.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tapeline.core.errors import OutOfOrderError, ParameterError
from tapeline.core.timestamps import format_us
from tapeline.kernels.bars import (
    AVAILABLE,
    BAR_COLUMNS,
    CLOSE,
    COUNT,
    END,
    FINISHED,
    FIRST,
    HIGH,
    LAST,
    LOW,
    OPEN,
    OUT_OF_ORDER,
    PRICE,
    SEQUENCE,
    START,
    TIME,
    VOLUME,
    Floats,
    Integers,
    bar_refuses,
    bar_write,
    check_entities,
)
from tapeline.kernels.frames import NO_BAR, take_first, take_highest, take_last, take_lowest, take_sum

VALUES = ("start_us", "open", "high", "low", "close", "volume")
"""Columns of a shorter bar; a price that is not positive and finite, or a volume that is negative, is missing."""


@njit(error_model="numpy", forceinline=True)
def _price(value: float) -> float:
    """A price, or NaN if it is none."""
    return value if 0.0 < value < np.inf else np.nan


@njit(error_model="numpy", cache=True, nogil=True)
def longer_bar_flush(state: Floats, lag_us: int, out_bar: Floats) -> int:
    """Write the bar so far and forget it; it counts as available no earlier than a lag after its end.

    Returns 1, or 0 if no row has come since the last finished bar. The caller marks such a bar as partial.
    """
    if state[COUNT] == 0.0:
        return 0
    bar_write(state, max(state[AVAILABLE], state[END] + lag_us), out_bar)
    return 1


@njit(error_model="numpy", cache=True, nogil=True)
def longer_bar_update(
    state: Floats,
    lag_us: int,
    end_us: int,
    event_us: int,
    available_us: int,
    sequence: int,
    values: Floats,
    out_bars: Floats,
) -> int:
    """Take one shorter bar.

    Parameters
    ----------
    state
        float64 (BAR_STATE_SIZE,); zeros are a fresh one.
    lag_us
        A bar whose last row is missing counts as available so long after its end.
    end_us
        End of the longer bar that the row belongs to, not before the row's; ``NO_BAR`` if it belongs to none.
    event_us, available_us, sequence
        The row: its end, and when it was known. Its time may equal the one before, with a greater sequence.
    values
        float64 (6,) as in ``VALUES``.
    out_bars
        float64 (2, 13): receives the bar before this row if the row shows that it is over, then the row's own if the
        row ends it.

    Returns
    -------
    int
        How many finished bars were written, or −1 if the row comes before the last one; then the state is as it was.
    """
    if bar_refuses(state, event_us, sequence):
        return OUT_OF_ORDER
    made = 0
    if state[COUNT] > 0.0 and (event_us > state[END] or end_us > state[END]):
        made += longer_bar_flush(state, lag_us, out_bars[made])
    state[TIME] = event_us
    state[SEQUENCE] = sequence
    if end_us == NO_BAR or (state[COUNT] == 0.0 and state[FINISHED] > 0.0 and end_us <= state[END]):
        return made
    opens = state[COUNT] == 0.0
    if opens:
        state[START] = values[0]
        state[END] = end_us
        state[FIRST] = sequence
        state[AVAILABLE] = available_us
    take_first(state, OPEN, opens, _price(values[1]))
    take_highest(state, HIGH, opens, _price(values[2]))
    take_lowest(state, LOW, opens, _price(values[3]))
    take_last(state, CLOSE, opens, _price(values[4]))
    take_last(state, PRICE, False, _price(values[4]))
    take_sum(state, VOLUME, opens, values[5] if 0.0 <= values[5] < np.inf else np.nan)
    state[COUNT] += 1.0
    state[LAST] = sequence
    state[AVAILABLE] = max(state[AVAILABLE], available_us)
    if event_us >= end_us:
        bar_write(state, state[AVAILABLE], out_bars[made])
        made += 1
    return made


@njit(error_model="numpy", cache=True, nogil=True)
def _build(
    lag_us: int,
    end_us: Integers,
    event_us: Integers,
    available_us: Integers,
    sequence: Integers,
    values: Floats,
    offsets: Integers,
    states: Floats,
    flush: bool,
    bars: Floats,
    ends: Integers,
) -> tuple[int, int]:
    """Write all bars and each entity's end in them; returns a code and the row (or number of bars) it is about."""
    made = 0
    spare = np.empty((2, 13))
    for entity in range(len(offsets) - 1):
        state = states[entity]
        for i in range(offsets[entity], offsets[entity + 1]):
            count = longer_bar_update(
                state, lag_us, end_us[i], event_us[i], available_us[i], sequence[i], values[i], spare
            )
            if count < 0:
                return count, i
            for k in range(count):
                bars[made] = spare[k]
                made += 1
        if flush and longer_bar_flush(state, lag_us, spare[0]) > 0:
            bars[made] = spare[0]
            made += 1
        ends[entity + 1] = made
    return 0, made


def longer_bars_batch(
    lag_us: int,
    end_us: Integers,
    event_us: Integers,
    available_us: Integers,
    sequence: Integers,
    values: Floats,
    offsets: Integers,
    states: Floats | None = None,
    *,
    flush: bool = False,
) -> tuple[Floats, Integers, Floats]:
    """Longer bars of many entities' shorter ones.

    Parameters
    ----------
    lag_us
        A bar whose last row is missing counts as available so long after its end, µs; not negative.
    end_us
        int64 (N,): end of the longer bar that each row belongs to, or ``NO_BAR``; see
        :meth:`tapeline.features.timeframes.FrameCalendar.ends`.
    event_us, available_us, sequence
        int64 (N,), in order of (event, sequence) within each entity; ``event_us`` is the end of a shorter bar.
    values
        float64 (N, 6) with the columns ``VALUES``.
    offsets
        int64 (E+1,): entity e has rows offsets[e] to offsets[e+1].
    states
        float64 (E, BAR_STATE_SIZE) to continue from, left as they are; None: fresh ones.
    flush
        Whether to write each entity's unfinished last bar too.

    Returns
    -------
    tuple
        Bars (B, 13) with the columns BAR_COLUMNS, their offsets (E+1,), and the states as they end. ``trade_count``
        counts shorter bars.

    Raises
    ------
    OutOfOrderError
        If rows of an entity are not in order.
    ParameterError
        If the lag is negative, or arrays differ in length.
    """
    ends_of_rows, event, available, number = (
        np.ascontiguousarray(array, dtype=np.int64) for array in (end_us, event_us, available_us, sequence)
    )
    values = np.ascontiguousarray(values, dtype=np.float64)
    count = len(event)
    if (
        lag_us < 0
        or values.shape != (count, len(VALUES))
        or any(len(a) != count for a in (ends_of_rows, available, number))
    ):
        raise ParameterError("bars need arrays of one length and a lag that is not negative", where=f"lag {lag_us} µs")
    offsets, last = check_entities(offsets, count, states)
    bars = np.empty((2 * count + len(offsets), len(BAR_COLUMNS)))
    ends = np.zeros(len(offsets), dtype=np.int64)
    code, place = _build(lag_us, ends_of_rows, event, available, number, values, offsets, last, flush, bars, ends)
    if code:
        entity = int(np.searchsorted(offsets, place, side="right")) - 1
        raise OutOfOrderError(
            "bars are not in order",
            where=f"entity {entity}, row {place}, at {format_us(int(event[place]))} #{int(number[place])}",
            remedy="Sort them by event time and sequence",
        )
    return bars[:place].copy(), ends, last

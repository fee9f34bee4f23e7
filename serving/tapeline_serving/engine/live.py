"""On-the-fly features: a stored state, continued by the rows of a request.

The stored bytes are decoded into arrays of this request's own, so nothing that happens here can touch the store. Rows are
taken only where they directly follow the state; anything else would silently give the features of another history.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import ContinuityError
from tapeline.core.timestamps import format_us
from tapeline.kernels.bars import BAR_COLUMNS
from tapeline.storage.state_codec import SavedState, decode_state

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars, LiveTrades, Origin, ViewUse

_START, _END = BAR_COLUMNS.index("start_us"), BAR_COLUMNS.index("end_us")
_LAST_SEQUENCE, _AVAILABLE = BAR_COLUMNS.index("last_sequence"), BAR_COLUMNS.index("available_us")


def continue_with_bars(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars
) -> tuple[NDArray[np.float64], ViewUse]:
    """Features after the last of some session bars.

    Parameters
    ----------
    view
        A view over session bars.
    symbol
        For messages.
    stored
        The state they continue.
    bars
        At least one. Each must be that of the session after the one before it; the last may be unfinished.

    Returns
    -------
    tuple
        All features of the plan, shape (outputs,), float64; and what they stand on.

    Raises
    ------
    ContinuityError
        If a bar is not the next session's, or the bundle's calendar does not know that session.
    """
    plan = view.spec.plan
    if view.builder is not None:
        raise ContinuityError(
            "the bars of this view are made of shorter ones, which a request cannot bring",
            where=f"{symbol} in {view.name}@{view.version}",
            remedy="Leave the bars out: the view's stored features are served then",
        )
    last_session = _session_of(view, symbol, stored)
    partial = False
    for number in range(len(bars)):
        partial = _check_bar(view, symbol, bars, number, last_session + 1 + number)
    state = plan.restore(stored.plan_state)
    out = np.empty(len(plan.outputs), dtype=np.float64)
    numbers = range(view.session_first + last_session + 1, view.session_first + last_session + 1 + len(bars))
    columns = [numbers if name == "session" else _bar_column(view, bars, name) for name in plan.inputs]
    for event_us, available_us, row in zip(bars.event_us, bars.available_us, zip(*columns, strict=True), strict=True):
        plan.update(state, event_us, 0, available_us, np.array(row, dtype=np.float64), out)
    return out, ViewUse(
        Origin.LIVE,
        event_us=bars.event_us[-1],
        available_us=max(stored.available_us, *bars.available_us),
        sequence=0,
        partial=partial,
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=stored.rows_seen + len(bars),
    )


def continue_with_trades(
    view: PlannedView, symbol: str, stored: SavedState, trades: LiveTrades
) -> tuple[NDArray[np.float64], ViewUse]:
    """Features after some trades: of the bars they finish, and of the bar they leave unfinished.

    Parameters
    ----------
    view
        A view over bars from trades.
    symbol, stored
        As for `continue_with_bars`.
    trades
        At least one; the first must directly follow the last trade in the state, by sequence, and so on.

    Returns
    -------
    tuple
        What the batch gives after the same trades and a final flush, marked partial; and what it stands on.

    Raises
    ------
    ContinuityError
        If a sequence number is missing, or was seen before.
    InvalidDataError
        If a price or size is impossible.
    """
    plan = view.spec.plan
    assert view.builder is not None
    _check_sequence(symbol, stored, trades)
    builder = stored.bar_state if stored.bar_state is not None else view.builder.fresh()
    made, _ = view.builder.advance(
        builder,
        trades.event_us,
        trades.sequence,
        trades.available_us,
        np.column_stack([trades.price, trades.size]),
        flush=True,
    )
    whole = made[:, (_END, _LAST_SEQUENCE, _AVAILABLE)].astype(np.int64)
    start_us = made[:, _START].astype(np.int64)
    columns = [_trade_column(view, made, start_us, whole[:, 0], name) for name in plan.inputs]
    state = plan.restore(stored.plan_state)
    out, ends = plan.batch(
        np.ascontiguousarray(whole[:, 0]),
        np.ascontiguousarray(whole[:, 1]),
        np.ascontiguousarray(whole[:, 2]),
        np.column_stack(columns),
        np.array([0, len(made)], dtype=np.int64),
        state[np.newaxis],
        threads=1,
    )
    return out[-1], ViewUse(
        Origin.LIVE,
        event_us=int(trades.event_us[-1]),
        available_us=max(int(trades.available_us.max()), stored.available_us),
        sequence=int(trades.sequence[-1]),
        partial=True,
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=plan.position(ends[0]).rows_seen,
    )


def decode(view: PlannedView, symbol: str, stored: bytes) -> SavedState:
    """The state of some bytes.

    Raises
    ------
    IntegrityError
        If they are damaged, or of another plan.
    """
    return decode_state(stored, plan_hash=view.plan_hash, where=f"state of {symbol} in {view.name}@{view.version}")


def _session_of(view: PlannedView, symbol: str, stored: SavedState) -> int:
    """Index of the session whose bar the state saw last."""
    closes = view.closes
    index = bisect_left(closes, stored.event_us)
    if index == len(closes) or closes[index] != stored.event_us:
        raise ContinuityError(
            f"the stored state ends at {format_us(stored.event_us)}, which is no session close of the bundle's calendar",
            where=f"{symbol} in {view.name}@{view.version}",
            remedy="Train and deploy the model again, so that its calendar covers this time",
        )
    return index


def _check_bar(view: PlannedView, symbol: str, bars: LiveBars, number: int, session: int) -> bool:
    """Whether the bar is unfinished; refuses one that is not of this session."""
    if session >= len(view.closes):
        raise ContinuityError(
            "the bundle's calendar ends before this bar",
            where=f"{symbol} in {view.name}@{view.version}, bar {number}",
            remedy="Train and deploy the model again, so that its calendar covers this time",
        )
    open_us, close_us = int(view.session_open_us[session]), view.closes[session]
    event_us = bars.event_us[number]
    starts_right = bars.start_us is None or bars.start_us[number] == open_us
    if starts_right and event_us == close_us:
        return False
    if starts_right and open_us < event_us < close_us and number == len(bars) - 1:
        return True
    given = f"ends at {format_us(event_us)}"
    if not starts_right and bars.start_us is not None:
        given = f"starts at {format_us(bars.start_us[number])}"
    raise ContinuityError(
        f"a bar {given}; expected the session {format_us(open_us)} to {format_us(close_us)}",
        where=f"{symbol} in {view.name}@{view.version}, bar {number}",
        remedy="Send every bar after the stored state, one a session; back-fill newer states if bars are missing",
    )


def _check_sequence(symbol: str, stored: SavedState, trades: LiveTrades) -> None:
    expected = np.arange(stored.sequence + 1, stored.sequence + 1 + len(trades))
    wrong = np.flatnonzero(trades.sequence != expected)
    if wrong.size:
        at = int(wrong[0])
        raise ContinuityError(
            f"trade {int(trades.sequence[at])} where trade {int(expected[at])} was expected",
            where=f"trades of {symbol}, row {at}",
            remedy="Send every trade after the stored state, in order",
        )
    if int(trades.event_us[0]) < stored.event_us:
        raise ContinuityError(
            f"a trade at {format_us(int(trades.event_us[0]))}; the stored state ends at {format_us(stored.event_us)}",
            where=f"trades of {symbol}, row 0",
            remedy="Send only trades that are newer than the stored state",
        )


def _bar_column(view: PlannedView, bars: LiveBars, name: str) -> Sequence[float]:
    if name in view.frames:
        return _ends(view, np.array(bars.event_us, dtype=np.int64), name).tolist()
    if name == "dividend_ratio":  # a request brings no dividends
        return [1.0] * len(bars)
    return bars.columns[name]


def _ends(view: PlannedView, event_us: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Ends of a frame's bars that rows of these times belong to."""
    moment_us = event_us if view.spec.plan.moments else event_us - 1
    return view.calendar.column(view.frames[name], moment_us)


def _trade_column(
    view: PlannedView,
    made: NDArray[np.float64],
    start_us: NDArray[np.int64],
    event_us: NDArray[np.int64],
    name: str,
) -> NDArray[np.float64]:
    if name in view.frames:
        return _ends(view, event_us, name)
    if name == "session":
        within = np.searchsorted(view.session_open_us, start_us, side="right") - 1
        if len(within) and (int(within.min()) < 0 or int(start_us.max()) >= int(view.session_close_us[-1])):
            raise ContinuityError(
                "the bundle's calendar does not cover these trades",
                where=f"{view.name}@{view.version}",
                remedy="Train and deploy the model again, so that its calendar covers this time",
            )
        return (view.session_first + within).astype(np.float64)
    return made[:, BAR_COLUMNS.index(name)]

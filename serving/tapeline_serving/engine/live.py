"""On-the-fly features: a stored state, continued by the rows of a request.

The stored bytes are decoded into arrays of this request's own, so nothing that happens here can touch the store. Rows are
taken only where they directly follow the state; anything else would silently give the features of another history.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import ContinuityError
from tapeline.features.builders import column_of
from tapeline.features.versions import Actions, Floats, Integers, naming
from tapeline.features.view import Trades
from tapeline.kernels.bars import BAR_COLUMNS
from tapeline.storage.state_codec import SavedState, decode_state

from tapeline_serving.engine.adjustments import actions_for, bar_ratios, with_named
from tapeline_serving.engine.continuity import check_bar, check_sequence, check_shorter, session_of
from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars, LiveTrades, Origin, ViewUse

_START, _END = BAR_COLUMNS.index("start_us"), BAR_COLUMNS.index("end_us")
_LAST_SEQUENCE, _AVAILABLE = BAR_COLUMNS.index("last_sequence"), BAR_COLUMNS.index("available_us")


def continue_with_bars(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, known: Actions | None
) -> tuple[NDArray[np.float64], ViewUse]:
    """Features after the last of some bars.

    Parameters
    ----------
    view
        A view over session bars, or over longer bars made from its source's bars.
    symbol
        For messages.
    stored
        The state they continue.
    bars
        At least one. For a view over session bars, each must be that of the session after the one before it; the last may
        be unfinished. For one over longer bars, each must start where the one before it ended, or with the next session.
    known
        Splits and dividends known at the request's clock; ``None`` if the symbol never had one.

    Returns
    -------
    tuple
        All features of the plan, shape (outputs,), float64: of longer bars, what the batch gives after the same bars and a
        final flush, marked partial if that leaves an unfinished one; and what they stand on.

    Raises
    ------
    ContinuityError
        If a bar does not follow the one before it, or the bundle's calendar does not know its session.
    InvalidDataError
        If a bar names another ratio or dividend than the known ones that take effect with it, or a dividend is not below
        the close before it.
    """
    if view.builder is not None:
        return _continue_with_shorter(view, symbol, stored, bars, known)
    plan = view.plan
    last_session = session_of(view, symbol, stored)
    partial = False
    for number in range(len(bars)):
        partial = check_bar(view, symbol, bars, number, last_session + 1 + number)
    count = len(bars)
    ratios: dict[str, Any] = {"split_ratio": [1.0] * count, "dividend_ratio": [1.0] * count}
    adjusted = None
    if known is not None or bars.split_ratio is not None or bars.dividend is not None:
        opens = view.session_open_us[last_session + 1 : last_session + 1 + count].tolist()
        previous_us = stored.event_us if stored.rows_seen else None
        actions = with_named(view, symbol, previous_us, bars, opens, known)
        ratios, adjusted = bar_ratios(view, symbol, stored, bars, actions)
    state = plan.restore(stored.plan_state, verify=False)
    out = np.empty(len(plan.outputs))
    first = view.session_first + last_session + 1
    given: dict[str, Any] = {**bars.columns, **ratios, "session": range(first, first + count)}
    given |= {name: _ends(view, np.array(bars.event_us), name) for name in view.frames}
    rows = np.array([given[name] for name in plan.inputs], dtype=np.float64).T
    for number, (event_us, available_us) in enumerate(zip(bars.event_us, bars.available_us, strict=True)):
        plan.update(state, event_us, 0, available_us, rows[number], out)
    return out, ViewUse(
        Origin.LIVE,
        event_us=bars.event_us[-1],
        available_us=max(stored.available_us, *bars.available_us),
        sequence=0,
        partial=partial,
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=stored.rows_seen + count,
        actions=adjusted,
    )


def continue_with_trades(
    view: PlannedView, symbol: str, stored: SavedState, trades: LiveTrades, known: Actions | None
) -> tuple[NDArray[np.float64], ViewUse]:
    """Features after some trades: of the last one, or of the bar that they leave unfinished.

    Parameters
    ----------
    view
        A view over trades, or over bars from them.
    symbol, stored, known
        As for `continue_with_bars`.
    trades
        At least one; the first must directly follow the last trade in the state, by sequence, and so on.

    Returns
    -------
    tuple
        What the batch gives after the same trades and a final flush, marked partial if over bars; and what it stands on.

    Raises
    ------
    ContinuityError
        If a sequence number is missing, or was seen before.
    InvalidDataError
        If a price or size is impossible, or a dividend is not below the price before it.
    """
    check_sequence(symbol, stored, trades)
    values = np.column_stack([trades.price, trades.size])
    times = trades.event_us, trades.sequence, trades.available_us
    out, use, _ = _continue_built(view, symbol, stored, times, values, actions_for(view, known))
    use.partial = not isinstance(view.spec.rows, Trades)
    return out, use


def _continue_with_shorter(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, known: Actions | None
) -> tuple[NDArray[np.float64], ViewUse]:
    start_us = check_shorter(view, symbol, stored, bars)
    actions = with_named(view, symbol, stored.event_us, bars, start_us, known)
    columns = ("open", "high", "low", "close", "volume")
    values = np.column_stack([np.array(start_us, dtype=np.float64), *(bars.columns[name] for name in columns)])
    event_us = np.array(bars.event_us, dtype=np.int64)
    times = event_us, np.zeros(len(bars), dtype=np.int64), np.array(bars.available_us, dtype=np.int64)
    out, use, end_us = _continue_built(view, symbol, stored, times, values, actions)
    use.partial = end_us is not None and end_us > bars.event_us[-1]
    return out, use


def _continue_built(
    view: PlannedView,
    symbol: str,
    stored: SavedState,
    times: tuple[Integers, Integers, Integers],
    values: Floats,
    actions: Actions,
) -> tuple[NDArray[np.float64], ViewUse, int | None]:
    """Features after the bars that rows make, the unfinished one included; and the end of the last, if there is any."""
    plan, builder = view.plan, view.builder
    assert builder is not None
    event_us, sequence, available_us = times
    state = stored.bar_state if stored.bar_state is not None else builder.fresh()
    actions = builder.effective(state, event_us, actions)
    with naming(symbol):
        made, _ = builder.advance_adjusted(state, event_us, sequence, available_us, values, actions, flush=True)
    out, rows_seen = stored.outputs if len(stored.outputs) else np.full(len(plan.outputs), np.nan), stored.rows_seen
    if len(made):
        whole = made[:, (_END, _LAST_SEQUENCE, _AVAILABLE)].astype(np.int64)
        start_us = made[:, _START].astype(np.int64)
        columns = [_built_column(view, made, start_us, whole[:, 0], name) for name in plan.inputs]
        features, ends = plan.batch(
            np.ascontiguousarray(whole[:, 0]),
            np.ascontiguousarray(whole[:, 1]),
            np.ascontiguousarray(whole[:, 2]),
            np.column_stack(columns),
            np.array([0, len(made)], dtype=np.int64),
            plan.restore(stored.plan_state, verify=False)[np.newaxis],
            threads=1,
        )
        out, rows_seen = features[-1], plan.position(ends[0]).rows_seen
    use = ViewUse(
        Origin.LIVE,
        event_us=int(event_us[-1]),
        available_us=max(int(available_us.max()), stored.available_us),
        sequence=int(sequence[-1]),
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=rows_seen,
        actions=actions,
    )
    return out, use, int(made[-1, _END]) if len(made) else None


def decode(view: PlannedView, symbol: str, stored: bytes) -> SavedState:
    """The state of some bytes.

    Raises
    ------
    IntegrityError
        If they are damaged, or of another plan.
    """
    return decode_state(stored, plan_hash=view.plan_hash, where=f"state of {symbol} in {view.name}@{view.version}")


def _ends(view: PlannedView, event_us: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Ends of a frame's bars that rows of these times belong to."""
    moment_us = event_us if view.spec.plan.moments else event_us - 1
    return view.calendar.column(view.frames[name], moment_us)


def _built_column(
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
    return column_of(made, name)

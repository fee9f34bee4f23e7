"""On-the-fly features: a stored state, continued by the rows of a request.

The stored bytes are decoded into arrays of this request's own, so nothing that happens here can touch the store. Rows are
taken only where they directly follow the state; anything else would silently give the features of another history.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import ContinuityError, InvalidDataError
from tapeline.core.timestamps import DAY_US, format_us
from tapeline.features.builders import column_of
from tapeline.features.versions import Actions, Floats, Integers, split_ratios
from tapeline.features.view import Trades
from tapeline.kernels.bars import BAR_COLUMNS
from tapeline.storage.splits import decode_splits
from tapeline.storage.state_codec import SavedState, decode_state

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars, LiveTrades, Origin, ViewUse

_START, _END = BAR_COLUMNS.index("start_us"), BAR_COLUMNS.index("end_us")
_LAST_SEQUENCE, _AVAILABLE = BAR_COLUMNS.index("last_sequence"), BAR_COLUMNS.index("available_us")

_SAME_SPLIT_US = 14 * DAY_US
"""A split of the same ratio so near to a known one is the same one."""

Splits = tuple[Integers, Floats]
"""Effective times and ratios, in order of time, of the splits known at the request's clock."""


def continue_with_bars(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, splits: Splits | None
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
    splits
        Known splits; ``None`` if the symbol never had one.

    Returns
    -------
    tuple
        All features of the plan, shape (outputs,), float64; and what they stand on.

    Raises
    ------
    ContinuityError
        If a bar is not the next session's, or the bundle's calendar does not know that session.
    InvalidDataError
        If a bar names another ratio than the known split that takes effect with it.
    """
    plan = view.plan
    _refuse_dividends(view, symbol)
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
    count = len(bars)
    ratios = [1.0] * count
    adjusted: tuple[tuple[int, float], ...] = ()
    if splits is not None or bars.split_ratio is not None:
        ratios, adjusted = _bar_ratios(view, symbol, stored, bars, splits, last_session + 1)
    state = plan.restore(stored.plan_state, verify=False)
    out = np.empty(len(plan.outputs))
    first = view.session_first + last_session + 1
    given: dict[str, Any] = {**bars.columns, "split_ratio": ratios, "session": range(first, first + count)}
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
        splits=adjusted,
    )


def continue_with_trades(
    view: PlannedView, symbol: str, stored: SavedState, trades: LiveTrades, splits: Splits | None
) -> tuple[NDArray[np.float64], ViewUse]:
    """Features after some trades: of the last one, or of the bar that they leave unfinished.

    Parameters
    ----------
    view
        A view over trades, or over bars from them.
    symbol, stored, splits
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
        If a price or size is impossible.
    """
    plan = view.plan
    assert view.builder is not None
    _refuse_dividends(view, symbol)
    _check_sequence(symbol, stored, trades)
    builder = stored.bar_state if stored.bar_state is not None else view.builder.fresh()
    actions = Actions.none() if splits is None else Actions.of_splits(*splits)
    actions = view.builder.effective(builder, trades.event_us, actions)
    made, _ = view.builder.advance_adjusted(
        builder,
        trades.event_us,
        trades.sequence,
        trades.available_us,
        np.column_stack([trades.price, trades.size]),
        actions,
        flush=True,
    )
    whole = made[:, (_END, _LAST_SEQUENCE, _AVAILABLE)].astype(np.int64)
    start_us = made[:, _START].astype(np.int64)
    state = plan.restore(stored.plan_state, verify=False)
    columns = [_trade_column(view, made, start_us, whole[:, 0], name) for name in plan.inputs]
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
        partial=not isinstance(view.spec.rows, Trades),
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=plan.position(ends[0]).rows_seen,
        splits=tuple(zip(actions.event_us.tolist(), actions.ratio.tolist(), strict=True)),
    )


def known_splits(symbol: str, stored: bytes, now_us: int) -> Splits:
    """The splits of an entity that are known at the request's clock.

    Raises
    ------
    IntegrityError
        If the bytes are damaged.
    """
    return decode_splits(stored, where=f"splits of {symbol}").known_at(now_us)


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


def _bar_ratios(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, splits: Splits | None, session: int
) -> tuple[list[float], tuple[tuple[int, float], ...]]:
    """The ratio of each bar, and the splits behind them: the known ones, and those that only the caller knows."""
    previous_us = stored.event_us if stored.rows_seen else None
    found, adjusted = _ratios_of(previous_us, np.array(bars.event_us), splits)
    ratios = found.tolist()
    known = [] if splits is None else list(zip(splits[0].tolist(), splits[1].tolist(), strict=True))
    for number, given in enumerate(bars.split_ratio or ()):
        event_us = bars.event_us[number]
        since_us = bars.event_us[number - 1] if number else previous_us
        here = since_us is not None and any(since_us <= at < event_us for at, _ in known)
        if math.isnan(given) or (math.isclose(given, ratios[number], rel_tol=1e-9) and (here or given == 1.0)):
            continue
        if here:
            raise _contradiction(symbol, number, given, f"a split of ratio {ratios[number]!r} is known")
        near = [at for at, ratio in known if abs(at - event_us) <= _SAME_SPLIT_US and math.isclose(ratio, given)]
        if near:  # taken for a second one, it would adjust the prices twice
            raise _contradiction(symbol, number, given, f"that split is known to take effect at {format_us(near[0])}")
        ratios[number] = given
        adjusted = (*adjusted, (int(view.session_open_us[session + number]), given))
    return ratios, adjusted


def _contradiction(symbol: str, number: int, given: float, known: str) -> InvalidDataError:
    return InvalidDataError(
        f"split_ratio {given!r}, where {known}",
        where=f"bars of {symbol}, row {number}",
        remedy="Leave split_ratio out, or correct the split by `tapeline ingest` and `tapeline backfill`",
    )


def _ratios_of(
    previous_us: int | None, event_us: Integers, splits: Splits | None
) -> tuple[Floats, tuple[tuple[int, float], ...]]:
    """Ratios of bars with these ends, and the splits that take effect with them."""
    if splits is None:
        return np.ones(len(event_us)), ()
    since_us = int(event_us[0]) if previous_us is None else previous_us
    effective = tuple(
        (at, ratio)
        for at, ratio in zip(splits[0].tolist(), splits[1].tolist(), strict=True)
        if since_us <= at < event_us[-1]
    )
    return split_ratios(previous_us, event_us, *splits), effective


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


def _refuse_dividends(view: PlannedView, symbol: str) -> None:
    """What dividends are known is not kept for requests: rows adjusted for some only would be silently wrong."""
    if view.plan.dividends:
        raise ContinuityError(
            "a request cannot continue a view that is adjusted for dividends",
            where=f"{symbol} in {view.name}@{view.version}",
            remedy="Leave the rows out: the view's stored features are served then",
        )


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
    return column_of(made, name)

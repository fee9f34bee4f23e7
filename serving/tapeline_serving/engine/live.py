"""On-the-fly features: a stored state, continued by the rows of a request.

The stored bytes are decoded into arrays of this request's own, so nothing that happens here can touch the store. Rows are
taken only where they directly follow the state; anything else would silently give the features of another history.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import ContinuityError, InvalidDataError
from tapeline.core.timestamps import DAY_US, format_us
from tapeline.features.versions import Actions, Floats, dividend_ratios, naming, split_ratios
from tapeline.kernels.bars import BAR_COLUMNS
from tapeline.storage.actions import decode_actions
from tapeline.storage.state_codec import SavedState, decode_state

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars, LiveTrades, Origin, ViewUse

_START, _END = BAR_COLUMNS.index("start_us"), BAR_COLUMNS.index("end_us")
_LAST_SEQUENCE, _AVAILABLE = BAR_COLUMNS.index("last_sequence"), BAR_COLUMNS.index("available_us")


@dataclass(frozen=True, slots=True)
class _ActionKind:
    """How callers name a kind of corporate action, and how near to a known one an equal one is the same one."""

    name: str
    column: str
    words: str
    together: Callable[[Sequence[float]], float]
    same_us: int


_SPLIT = _ActionKind("split", "split_ratio", "split of ratio", lambda ratios: math.prod(ratios, start=1.0), 14 * DAY_US)
# Some pay the same every week.
_DIVIDEND = _ActionKind("dividend", "dividend", "dividend of", math.fsum, 5 * DAY_US)


def continue_with_bars(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, known: Actions | None
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
    known
        Splits and dividends known at the request's clock; ``None`` if the symbol never had one.

    Returns
    -------
    tuple
        All features of the plan, shape (outputs,), float64; and what they stand on.

    Raises
    ------
    ContinuityError
        If a bar is not the next session's, or the bundle's calendar does not know that session.
    InvalidDataError
        If a bar names another ratio or dividend than the known ones that take effect with it, or a dividend is not below
        the close before it.
    """
    plan = view.plan
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
    adjustments: dict[str, Any] = {"split_ratio": [1.0] * count, "dividend_ratio": [1.0] * count}
    adjusted = None
    if known is not None or bars.split_ratio is not None or bars.dividend is not None:
        actions = _for_view(view, known)
        adjustments, adjusted = _adjustments(view, symbol, stored, bars, actions, last_session + 1)
    state = plan.restore(stored.plan_state, verify=False)
    out = np.empty(len(plan.outputs))
    first = view.session_first + last_session + 1
    given: dict[str, Any] = {**bars.columns, **adjustments, "session": range(first, first + count)}
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
    """Features after some trades: of the bars they finish, and of the bar they leave unfinished.

    Parameters
    ----------
    view
        A view over bars from trades.
    symbol, stored, known
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
        If a price or size is impossible, or a dividend is not below the price before it.
    """
    plan = view.plan
    assert view.builder is not None
    _check_sequence(symbol, stored, trades)
    builder = stored.bar_state if stored.bar_state is not None else view.builder.fresh()
    actions = view.builder.effective(builder, trades.event_us, _for_view(view, known))
    with naming(symbol):
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
        partial=True,
        state_event_us=stored.event_us,
        state_sequence=stored.sequence,
        rows_seen=plan.position(ends[0]).rows_seen,
        actions=actions,
    )


def known_actions(symbol: str, stored: bytes, now_us: int) -> Actions:
    """The splits and dividends of an entity that are known at the request's clock.

    Raises
    ------
    IntegrityError
        If the bytes are damaged.
    """
    return decode_actions(stored, where=f"corporate actions of {symbol}").known_at(now_us)


def _for_view(view: PlannedView, known: Actions | None) -> Actions:
    """What a view is adjusted for of what is known."""
    if known is None:
        return Actions.none()
    return known if view.plan.dividends else known.splits_only


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


def _adjustments(
    view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars, known: Actions, session: int
) -> tuple[dict[str, Floats], Actions | None]:
    """Split and dividend ratios of each bar, and what is behind them: the known actions, and those that only the caller knows."""
    plan, event_us = view.plan, np.array(bars.event_us)
    previous_us = stored.event_us if stored.rows_seen else None
    splits = _named(view, symbol, previous_us, bars, session, _SPLIT, bars.split_ratio, known.splits)
    dividends = (
        _named(view, symbol, previous_us, bars, session, _DIVIDEND, bars.dividend, known.dividends)
        if plan.dividends
        else []
    )
    actions = known
    if splits or dividends:
        actions = Actions.of([*known.splits, *splits], [*known.dividends, *dividends])
    found = {"split_ratio": split_ratios(previous_us, event_us, actions.event_us, actions.ratio)}
    since_us = bars.event_us[0] if previous_us is None else previous_us
    if plan.dividends:
        last = stored.bar_state
        assert last is not None
        with naming(symbol):
            found["dividend_ratio"], _ = dividend_ratios(
                previous_us, last, event_us, np.array(bars.columns["close"]), actions
            )
        if last[0] > 0.0:  # what takes effect after the last possible close is between it and a dividend
            since_us = min(since_us, int(last[1]))
    effective = (actions.event_us >= since_us) & (actions.event_us < bars.event_us[-1])
    return found, actions.chosen(effective)


def _named(
    view: PlannedView,
    symbol: str,
    previous_us: int | None,
    bars: LiveBars,
    session: int,
    kind: _ActionKind,
    column: Sequence[float] | None,
    known: Sequence[tuple[int, float]],
) -> list[tuple[int, float]]:
    """The actions that only the caller knows; one that contradicts what is known is refused."""
    named = []
    for number, given in enumerate(column or ()):
        event_us = bars.event_us[number]
        since_us = bars.event_us[number - 1] if number else previous_us
        here = [value for at, value in known if since_us is not None and since_us <= at < event_us]
        together = kind.together(here)
        if math.isnan(given) or (math.isclose(given, together, rel_tol=1e-9) and (here or given == together)):
            continue
        if here:
            raise _contradiction(kind, symbol, number, given, f"a {kind.words} {together!r} is known")
        near = [at for at, value in known if abs(at - event_us) <= kind.same_us and math.isclose(value, given)]
        if near:  # taken for a second one, it would adjust the prices twice
            known_at = f"that {kind.name} is known to take effect at {format_us(near[0])}"
            raise _contradiction(kind, symbol, number, given, known_at)
        named.append((int(view.session_open_us[session + number]), given))
    return named


def _contradiction(kind: _ActionKind, symbol: str, number: int, given: float, known: str) -> InvalidDataError:
    return InvalidDataError(
        f"{kind.column} {given!r}, where {known}",
        where=f"bars of {symbol}, row {number}",
        remedy=f"Leave {kind.column} out, or correct it by `tapeline ingest actions` and `tapeline backfill`",
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

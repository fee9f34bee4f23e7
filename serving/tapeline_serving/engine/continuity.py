"""Whether live rows directly follow the state that they continue; anything else would be the features of another history."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from tapeline.core.errors import ContinuityError
from tapeline.core.timestamps import format_us
from tapeline.storage.state_codec import SavedState

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import LiveBars, LiveTrades


def session_of(view: PlannedView, symbol: str, stored: SavedState) -> int:
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


def check_bar(view: PlannedView, symbol: str, bars: LiveBars, number: int, session: int) -> bool:
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


def check_shorter(view: PlannedView, symbol: str, stored: SavedState, bars: LiveBars) -> list[int]:
    """Starts of bars that longer ones are made of; refuses one that does not follow the row before it."""
    where = f"{symbol} in {view.name}@{view.version}"
    if bars.start_us is None:
        raise ContinuityError(
            "the bars of this view are made of others, and without start_us nobody knows whether one is missing",
            where=where,
            remedy="Send start_us with every bar",
        )
    previous_us = stored.event_us
    for number, (start_us, event_us) in enumerate(zip(bars.start_us, bars.event_us, strict=True)):
        session = bisect_left(view.closes, previous_us)
        closed = session < len(view.closes) and view.closes[session] == previous_us
        next_us = int(view.session_open_us[session + 1]) if closed and session + 1 < len(view.closes) else previous_us
        if not view.closes or event_us > view.closes[-1]:
            raise ContinuityError(
                "the bundle's calendar ends before this bar",
                where=f"{where}, bar {number}",
                remedy="Train and deploy the model again, so that its calendar covers this time",
            )
        if start_us not in (previous_us, next_us):
            raise ContinuityError(
                f"a bar starts at {format_us(start_us)}; expected one from {format_us(next_us)}",
                where=f"{where}, bar {number}",
                remedy="Send every bar after the stored state; back-fill newer states if bars are missing",
            )
        previous_us = event_us
    return bars.start_us


def check_sequence(symbol: str, stored: SavedState, trades: LiveTrades) -> None:
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

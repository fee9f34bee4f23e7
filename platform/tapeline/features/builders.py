"""Bar builders: what turns a view's raw rows into the bars that its plan runs over, for back-fill, stream and request.

A builder is immutable; its state is an array that the caller keeps. All three kinds share one state and one set of
columns, laid out in :mod:`tapeline.kernels.bars`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import format_us
from tapeline.features.timeframes import NO_BAR_US, FrameCalendar, TimeFrame
from tapeline.features.versions import CORRECT_IT, Actions, Floats, Integers
from tapeline.features.view import LongerBars, Rows, SessionBars, TradeBars, TradedBars, Trades
from tapeline.indicators.schema import TICK_INPUTS
from tapeline.kernels.bars import (
    AVAILABLE,
    BAR_COLUMNS,
    BAR_STATE_SIZE,
    COUNT,
    END,
    FINISHED,
    TIME,
    bar_adjust,
    time_bar_flush,
    time_bars_batch,
)
from tapeline.kernels.bars_longer import longer_bar_flush, longer_bars_batch
from tapeline.kernels.bars_traded import Measure, traded_bar_flush, traded_bars_batch

NEVER_US = 2**62

_Times = tuple[Integers, Integers, Integers]
"""Event, available and sequence of raw rows, in the order in which the kernels take them."""


@dataclass(frozen=True)
class BarBuilder(ABC):
    """Makes bars of one kind.

    Attributes
    ----------
    lag_us
        The source's declared lag: a bar that ends with a time is over, and available, so long after its end.
    touched_us
        A raw row at e changes bars that end at e + ``touched_us`` or later.
    adjusted_us
        What takes effect at s is in raw rows later than s + ``adjusted_us``.
    ended_by_time
        Whether a bar ends at a time that is known before.
    """

    lag_us: int
    touched_us: ClassVar[int]
    adjusted_us: ClassVar[int]
    ended_by_time: ClassVar[bool] = True

    def fresh(self) -> Floats:
        """The state before any row."""
        return np.zeros(BAR_STATE_SIZE)

    def advance(
        self,
        state: Floats,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        *,
        flush: bool = False,
    ) -> tuple[Floats, Floats]:
        """Take raw rows.

        Parameters
        ----------
        state
            float64 (BAR_STATE_SIZE,), left as it is.
        event_us, sequence, available_us
            int64 (N,), in order of (event, sequence).
        values
            float64 (N, C): price, size of trades; start, open, high, low, close, volume of bars.
        flush
            Whether to write the unfinished last bar too.

        Returns
        -------
        tuple
            Bars (B, 13) with the columns ``BAR_COLUMNS``, their availability with the lag in it, and the state after them.
        """
        offsets = np.array([0, len(event_us)], dtype=np.int64)
        bars, _, ends = self._batch((event_us, available_us, sequence), values, offsets, state[None], flush=flush)
        return self._with_lag(bars), ends[0]

    def advance_many(
        self,
        states: Floats,
        offsets: Integers,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
    ) -> tuple[Floats, Integers, Floats]:
        """:meth:`advance` for many entities at once.

        Parameters
        ----------
        states
            float64 (E, BAR_STATE_SIZE), left as they are.
        offsets
            int64 (E+1,): entity e has rows offsets[e] to offsets[e+1].
        event_us, sequence, available_us, values
            The rows, as of :meth:`advance`.

        Returns
        -------
        tuple
            Bars (B, 13), their offsets (E+1,), and the states after the rows.
        """
        bars, ends, after = self._batch((event_us, available_us, sequence), values, offsets, states, flush=False)
        return self._with_lag(bars), ends, after

    def advance_adjusted(
        self,
        state: Floats,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        actions: Actions,
        *,
        flush: bool = False,
    ) -> tuple[Floats, Floats]:
        """The same, with the splits and dividends that take effect between rows; see :meth:`advance`."""
        made, start = [], 0
        effective = self.effective(state, event_us, actions)
        for at, ratio, dividend in zip(effective.event_us, effective.ratio, effective.dividend, strict=True):
            cut = int(np.searchsorted(event_us, at + self.adjusted_us, side="right"))
            piece = slice(start, cut)
            bars, state = self.advance(state, event_us[piece], sequence[piece], available_us[piece], values[piece])
            over, state = self.before(state, int(event_us[cut]))  # on the basis of its own rows
            made += [bars, over]
            state = self.adjust(state, int(at), float(ratio), float(dividend))
            start = cut
        rest = slice(start, None)
        bars, state = self.advance(state, event_us[rest], sequence[rest], available_us[rest], values[rest], flush=flush)
        return np.concatenate([*made, bars]) if made else bars, state

    def effective(self, state: Floats, event_us: Integers, actions: Actions) -> Actions:
        """The actions that take effect between the rows that a state has seen and the last of some more rows."""
        if len(event_us) == 0:
            return Actions.none()
        seen_us = int(state[TIME]) if state[FINISHED] + state[COUNT] > 0.0 else -NEVER_US
        at = actions.event_us + self.adjusted_us
        chosen = (at >= seen_us) & (at < event_us[-1])
        return actions.chosen(chosen)

    def flush(self, state: Floats) -> tuple[Floats, Floats]:
        """The unfinished bar, (1, 13) or, if there is none, (0, 13), and the state after it."""
        bars, after = np.empty((1, len(BAR_COLUMNS))), state.copy()
        return self._with_lag(bars[: self._flush(after, bars[0])]), after

    @abstractmethod
    def end_us(self, event_us: Integers) -> Integers:
        """Ends of the bars that rows belong to; ``NO_BAR_US`` where there is none or no time ends it."""

    def before(self, state: Floats, event_us: int) -> tuple[Floats, Floats]:
        """The unfinished bar, if a row of a time comes after its end, and the state after it."""
        open_us = self.open_end_us(state)
        if open_us is None or int(self.end_us(np.array([event_us]))[0]) <= open_us >= event_us:
            return np.empty((0, len(BAR_COLUMNS))), state
        return self.flush(state)

    @abstractmethod
    def too_late_us(self, event_us: Integers) -> Integers:
        """From when on raw rows come too late: their bar has been over, and had its row without them."""

    def open_end_us(self, state: Floats) -> int | None:
        """End of the unfinished bar, if there is one and a time ends it."""
        return int(state[END]) if self.ended_by_time and state[COUNT] > 0.0 else None

    def adjust(self, state: Floats, effective_us: int, split_ratio: float, dividend: float) -> Floats:
        """The state on the basis of a split or a dividend that takes effect before the next row.

        Raises
        ------
        InvalidDataError
            If the dividend is not below the last price.
        """
        adjusted = state.copy()
        if bar_adjust(adjusted, split_ratio, dividend, self._sum_power) < 0:
            raise InvalidDataError(
                f"a dividend of {dividend} is not below the last price",
                where=f"effective at {format_us(effective_us)}",
                remedy=CORRECT_IT,
            )
        return adjusted

    @property
    def _sum_power(self) -> float:
        return 0.0

    @abstractmethod
    def _batch(
        self, times: _Times, values: Floats, offsets: Integers, states: Floats, *, flush: bool
    ) -> tuple[Floats, Integers, Floats]:
        """Bars, their offsets and the last states, of the kernels."""

    @abstractmethod
    def _flush(self, state: Floats, out_bar: Floats) -> int:
        """How many bars the kernel wrote and forgot: one or none."""

    def _with_lag(self, bars: Floats) -> Floats:
        """The kernels' bars with the lag in their availability, where these do not put it there."""
        return bars


@dataclass(frozen=True)
class TradeBarBuilder(BarBuilder):
    """Time bars from trades."""

    width_us: int
    touched_us: ClassVar[int] = 1
    adjusted_us: ClassVar[int] = -1

    def _batch(
        self, times: _Times, values: Floats, offsets: Integers, states: Floats, *, flush: bool
    ) -> tuple[Floats, Integers, Floats]:
        price, size = values[:, 0], values[:, 1]
        return time_bars_batch(self.width_us, *times, price, size, offsets, states, flush=flush)

    def _flush(self, state: Floats, out_bar: Floats) -> int:
        return int(time_bar_flush(state, self.width_us, out_bar))

    def _with_lag(self, bars: Floats) -> Floats:
        bars[:, AVAILABLE] = np.maximum(bars[:, AVAILABLE], bars[:, END] + self.lag_us)
        return bars

    def end_us(self, event_us: Integers) -> Integers:
        return event_us // self.width_us * self.width_us + self.width_us

    def too_late_us(self, event_us: Integers) -> Integers:
        return self.end_us(event_us) + self.lag_us


@dataclass(frozen=True)
class TradedBarBuilder(BarBuilder):
    """Tick, volume or dollar bars from trades: no time ends them, and each is available with its closing trade."""

    measure: Measure
    threshold: float
    touched_us: ClassVar[int] = 0
    adjusted_us: ClassVar[int] = -1
    ended_by_time: ClassVar[bool] = False

    def _batch(
        self, times: _Times, values: Floats, offsets: Integers, states: Floats, *, flush: bool
    ) -> tuple[Floats, Integers, Floats]:
        price, size = values[:, 0], values[:, 1]
        return traded_bars_batch(self.measure, self.threshold, *times, price, size, offsets, states, flush=flush)

    def _flush(self, state: Floats, out_bar: Floats) -> int:
        return int(traded_bar_flush(state, out_bar))

    def end_us(self, event_us: Integers) -> Integers:
        return np.full(len(event_us), NO_BAR_US)

    def too_late_us(self, event_us: Integers) -> Integers:
        return np.full(len(event_us), NEVER_US)

    @property
    def _sum_power(self) -> float:
        return float(self.measure == "volume")


@dataclass(frozen=True)
class LongerBarBuilder(BarBuilder):
    """Longer bars from stored shorter ones."""

    frame: TimeFrame
    calendar: FrameCalendar
    touched_us: ClassVar[int] = 0
    adjusted_us: ClassVar[int] = 0

    def _batch(
        self, times: _Times, values: Floats, offsets: Integers, states: Floats, *, flush: bool
    ) -> tuple[Floats, Integers, Floats]:
        ends_us = self.end_us(times[0])
        return longer_bars_batch(self.lag_us, ends_us, *times, values, offsets, states, flush=flush)

    def _flush(self, state: Floats, out_bar: Floats) -> int:
        return int(longer_bar_flush(state, self.lag_us, out_bar))

    def end_us(self, event_us: Integers) -> Integers:
        return self.calendar.ends(self.frame, event_us - 1)

    def too_late_us(self, event_us: Integers) -> Integers:
        # The last row of a bar regularly arrives at the very moment at which the bar is over: one µs later is too late.
        end_us = self.end_us(event_us)
        return np.where(end_us == NO_BAR_US, NEVER_US, end_us + self.lag_us + 1)


_OF_A_TRADE = {"price": "close", "size": "volume", "time": "end_us"}


def column_of(bars: Floats, name: str) -> Floats:
    """A plan's input column, such as ``close``, or ``price`` of bars of one trade; NaN for what trades do not carry.

    Parameters
    ----------
    bars
        float64 (B, 13), the columns ``BAR_COLUMNS``.
    name
        The column.
    """
    name = _OF_A_TRADE.get(name, name)
    if name in TICK_INPUTS:
        return np.full(len(bars), np.nan)
    return np.asarray(bars[:, BAR_COLUMNS.index(name)])


def builder_of(rows: Rows, calendar: FrameCalendar, lag_us: int = 0) -> BarBuilder | None:
    """The builder for a view's rows; None where stored bars go to the plan as they are.

    Parameters
    ----------
    rows
        The view's rows.
    calendar
        Sessions of the view's calendar.
    lag_us
        The source's declared lag.
    """
    match rows:
        case SessionBars():
            return None
        case TradeBars():
            return TradeBarBuilder(lag_us, rows.width_us)
        case TradedBars():
            return TradedBarBuilder(lag_us, rows.measure, rows.threshold)
        case Trades():  # tick bars of one trade
            return TradedBarBuilder(lag_us, "tick", 1.0)
        case LongerBars():
            return LongerBarBuilder(lag_us, rows.frame, calendar)

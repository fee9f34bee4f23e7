"""Labels: what happened after a moment, each with the moment at which it was known.

Horizons count trading sessions (``5d``, ``1w`` of five sessions, ``1mo`` of twenty-one) or hours during which the venue is
open (``1h``). With the n-th session close strictly after the entity row's moment as the end, a label compares the last
price of the session that closed last before the moment with the last price of the session that closes at the end. With
hours, it compares the last prices at or before the two moments. A label whose end lies past the symbol's last price is
none: the price there may not have been recorded yet. Prices are as traded; splits in between are undone as they were
known at the label's end. Dividends are not counted.

Triple barrier: López de Prado, *Advances in Financial Machine Learning* (2018), section 3.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapeline.compute.sessions import SessionTimes
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import HOUR_US, format_us
from tapeline.datasets.prices import NO_PRICES, Prices

Kind = Literal["direction", "forward_return", "volatility", "triple_barrier"]
KINDS: tuple[Kind, ...] = ("direction", "forward_return", "volatility", "triple_barrier")
MISSING_US = np.iinfo(np.int64).min
"""Stands for "no moment" in int64 columns."""
_NEVER_US = np.iinfo(np.int64).max

_SESSIONS = {"d": 1, "w": 5, "mo": 21}
_BARRIER_LOOKBACK = 20
_HORIZON_SESSIONS_MAX = 252
_HORIZON_HOURS_MAX = 1_000


@dataclass(frozen=True)
class LabelSpec:
    """What to predict.

    Attributes
    ----------
    kind
        ``forward_return``: the price's relative change; ``direction``: 1 if that is above zero, else 0;
        ``volatility``: square root of the sum of squared session log returns; ``triple_barrier``: 1 if the upper of two
        barriers is touched first, 0 if the lower one is, else the direction at the end.
    sessions
        Horizon in sessions; 0 for a horizon in hours.
    hours
        Horizon in open hours; 0 for a horizon in sessions.
    width
        Distance of the barriers, in standard deviations of the horizon's return as the last 20 sessions before the
        moment estimate it.
    """

    kind: Kind
    sessions: int = 0
    hours: int = 0
    width: float = 1.0

    @classmethod
    def parse(cls, text: str) -> LabelSpec:
        """Read ``direction:5d``, ``forward_return:1mo``, ``direction:4h``, ``triple_barrier:10d:1.5``.

        Raises
        ------
        UnknownNameError
            If the kind does not exist; the message names the nearest.
        ParameterError
            If the horizon is malformed, too long, or of a kind that this label has no meaning for.
        """
        kind, *rest = text.split(":")
        known = {name: name for name in KINDS}
        if kind not in known:
            raise UnknownNameError("label", kind, KINDS)
        remedy = "Write it like direction:5d, forward_return:1mo, direction:4h or triple_barrier:10d:1.5"
        match = re.fullmatch(r"(\d{1,4})(d|w|mo|h)", rest[0]) if rest else None
        barrier = kind == "triple_barrier"
        if match is None or len(rest) > (2 if barrier else 1):
            raise ParameterError(f"{text!r} is not a label", remedy=remedy)
        amount, unit = int(match[1]), match[2]
        spec = cls(
            known[kind],
            sessions=amount * _SESSIONS.get(unit, 0),
            hours=amount if unit == "h" else 0,
            width=_width(rest[1]) if len(rest) == 2 else 1.0,
        )
        if not (0 < spec.sessions <= _HORIZON_SESSIONS_MAX or 0 < spec.hours <= _HORIZON_HOURS_MAX):
            raise ParameterError(
                f"the horizon of {text!r} is out of range",
                remedy=f"Use 1 to {_HORIZON_SESSIONS_MAX} sessions or 1 to {_HORIZON_HOURS_MAX} hours",
            )
        if spec.hours and kind not in {"direction", "forward_return"}:
            raise ParameterError(f"a {kind} label counts sessions, not hours", remedy=remedy)
        return spec

    def __str__(self) -> str:
        horizon = f"{self.hours}h" if self.hours else f"{self.sessions}d"
        return f"{self.kind}:{horizon}" + (f":{self.width:g}" if self.kind == "triple_barrier" else "")

    @property
    def is_binary(self) -> bool:
        """Whether the label is 0 or 1."""
        return self.kind in {"direction", "triple_barrier"}


def _width(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 0 < width <= 100:
        raise ParameterError(f"{text!r} is no width of barriers", remedy="Use standard deviations, such as 1.5")
    return width


@dataclass(frozen=True)
class Labels:
    """One label per entity row; arrays of shape (rows,).

    Attributes
    ----------
    value, forward_return
        float64; NaN where there is no label.
    end_us
        int64; when the label is known, :data:`MISSING_US` where there is none.
    """

    value: NDArray[np.float64]
    forward_return: NDArray[np.float64]
    end_us: NDArray[np.int64]


def compute_labels(
    spec: LabelSpec,
    symbols: NDArray[Any],
    event_us: NDArray[np.int64],
    prices: Mapping[str, Prices],
    sessions: SessionTimes,
) -> Labels:
    """Label entity rows.

    Parameters
    ----------
    spec
        What to predict.
    symbols, event_us
        The entity rows; shape (rows,).
    prices
        Prices and splits by symbol, over the whole span from the first row's last session to the last label's end.
    sessions
        The venue's sessions.

    Raises
    ------
    EmptyDataError
        If the calendar does not reach back to the first row.
    """
    rows = len(event_us)
    value, change = np.full(rows, np.nan), np.full(rows, np.nan)
    end_us = np.full(rows, MISSING_US, dtype=np.int64)
    earliest_us = (sessions.open_us if spec.hours else sessions.close_us)[0]
    if rows and event_us.min() < earliest_us:
        raise EmptyDataError(
            f"calendar {sessions.calendar} begins after {format_us(int(event_us.min()))}", where="labels"
        )
    for symbol in dict.fromkeys(symbols.tolist()):
        mine = np.flatnonzero(symbols == symbol)
        one = prices.get(symbol, NO_PRICES)
        label = _by_hours if spec.hours else _by_sessions
        value[mine], change[mine], end_us[mine] = label(spec, event_us[mine], one, sessions)
    missing = np.isnan(value)
    change[missing], end_us[missing] = np.nan, MISSING_US
    return Labels(value, change, end_us)


_Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def _by_sessions(spec: LabelSpec, event_us: NDArray[np.int64], prices: Prices, sessions: SessionTimes) -> _Columns:
    last_price, last_event = _per_session(prices, sessions)
    base = np.searchsorted(sessions.close_us, event_us, side="right") - 1
    steps = np.arange(spec.sessions + 1)
    if spec.kind in {"direction", "forward_return"}:
        steps = steps[[0, -1]]
    at = base[:, None] + steps
    outside = at >= len(sessions.close_us)
    at = np.where(outside, 0, at)
    end_us = np.where(outside[:, -1], MISSING_US, sessions.close_us[at[:, -1]])
    path = np.where(outside, np.nan, last_price[at])
    path *= _split_factor(prices, last_event[at[:, :1]], last_event[at], end_us)
    change = path[:, -1] / path[:, 0] - 1.0
    if spec.kind == "volatility":
        return np.sqrt((np.diff(np.log(path), axis=1) ** 2).sum(axis=1)), change, end_us
    if spec.kind == "triple_barrier":
        back = np.maximum(base[:, None] + np.arange(-_BARRIER_LOOKBACK, 1), 0)
        past = last_price[back] * _split_factor(prices, last_event[back[:, :1]], last_event[back], event_us)
        spread = np.diff(np.log(past), axis=1).std(axis=1, ddof=1) * np.sqrt(spec.sessions)
        return _triple_barrier(spec.width * spread, path, sessions.close_us[at])
    return _outcome(spec, change), change, end_us


def _by_hours(spec: LabelSpec, event_us: NDArray[np.int64], prices: Prices, sessions: SessionTimes) -> _Columns:
    start_us, session = _add_open_time(event_us, spec.hours * HOUR_US, sessions)
    end_us = np.where(start_us == MISSING_US, 0, start_us)
    first = np.searchsorted(prices.event_us, event_us, side="right") - 1
    last = np.searchsorted(prices.event_us, end_us, side="right") - 1
    # The base price may be from the last session that was open; the end price must be from the session of the end.
    opened = np.maximum(np.searchsorted(sessions.open_us, event_us, side="right") - 1, 0)
    known = (first >= 0) & (last > first) & (start_us != MISSING_US)
    first, last = np.where(known, first, 0), np.where(known, last, 0)
    if not known.any():
        nothing = np.full(len(event_us), np.nan)
        return nothing, nothing, np.full(len(event_us), MISSING_US, dtype=np.int64)
    base_event, end_event = prices.event_us[first], prices.event_us[last]
    known &= (base_event >= sessions.open_us[opened]) & (end_event >= sessions.open_us[session])
    known &= end_us <= prices.event_us[-1]
    factor = _split_factor(prices, base_event[:, None], end_event[:, None], end_us)[:, 0]
    change = np.where(known, prices.price[last] * factor / prices.price[first] - 1.0, np.nan)
    return _outcome(spec, change), change, start_us


def _outcome(spec: LabelSpec, change: NDArray[np.float64]) -> NDArray[np.float64]:
    if spec.kind == "forward_return":
        return change
    return np.where(np.isnan(change), np.nan, (change > 0).astype(np.float64))


def _per_session(prices: Prices, sessions: SessionTimes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The last price of each session and its event; NaN for a session without one, or one that was not seen to its end."""
    last = np.searchsorted(prices.event_us, sessions.close_us, side="right") - 1
    if len(prices.event_us) == 0:
        return np.full(len(last), np.nan), np.full(len(last), MISSING_US, dtype=np.int64)
    event = prices.event_us[np.maximum(last, 0)]
    before = np.concatenate([[MISSING_US], sessions.close_us[:-1]])
    inside = (last >= 0) & (event > before) & (sessions.close_us <= prices.event_us[-1])
    return np.where(inside, prices.price[np.maximum(last, 0)], np.nan), np.where(inside, event, MISSING_US)


def _split_factor(
    prices: Prices, base_event: NDArray[np.int64], events: NDArray[np.int64], known_by: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What brings prices at `events` to the share of `base_event`: the product of the splits between them."""
    factor = np.ones(events.shape)
    splits = prices.splits
    superseded = np.full(len(splits.ratio), _NEVER_US) if splits.superseded_us is None else splits.superseded_us
    for event, available, replaced, ratio in zip(
        splits.event_us, splits.available_us, superseded, splits.ratio, strict=True
    ):
        known = (available <= known_by) & (known_by < replaced)
        between = (base_event < event) & (event <= events) & known[:, None]
        factor = np.where(between, factor * ratio, factor)
    return factor


def _triple_barrier(distance: NDArray[np.float64], path: NDArray[np.float64], close_us: NDArray[np.int64]) -> _Columns:
    log_path = np.log(path / path[:, :1])
    touched = np.abs(log_path) >= distance[:, None]
    touched[:, 0] = False
    touched[:, -1] = True  # the vertical barrier
    first = touched.argmax(axis=1)
    rows = np.arange(len(path))
    change = path[rows, first] / path[:, 0] - 1.0
    unknown = np.isnan(distance) | np.isnan(path).any(axis=1)
    value = np.where(unknown, np.nan, (change > 0).astype(np.float64))
    return value, change, close_us[rows, first]


def _add_open_time(
    moment_us: NDArray[np.int64], span_us: int, sessions: SessionTimes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The moment after so much open time, and the number of its session; a moment at a close stays there."""
    length = sessions.close_us - sessions.open_us
    total = np.cumsum(length)
    session = np.searchsorted(sessions.open_us, moment_us, side="right") - 1
    inside = np.minimum(moment_us, sessions.close_us[session]) - sessions.open_us[session]
    target = total[session] - length[session] + inside + span_us
    end = np.searchsorted(total, target, side="left")
    beyond = end >= len(total)
    end = np.where(beyond, 0, end)
    moment = sessions.close_us[end] - (total[end] - target)
    return np.where(beyond, MISSING_US, moment), end

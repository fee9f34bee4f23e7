"""Labels: what happened after a moment, each with the moment at which it was known.

Horizons count trading sessions (``5d``, ``1w`` of five sessions, ``1mo`` of twenty-one) or hours during which the venue is
open (``1h``). With the n-th session close strictly after the entity row's moment as the end, a label compares the last
price of the session that closed last before the moment with the last price of the session that closes at the end. With
hours, it compares the last prices at or before the two moments. A label whose end lies past the symbol's last price is
none: the price there may not have been recorded yet. Prices are as traded; splits in between are undone as they were
known at the label's end. Dividends are not counted. Labels of a path (volatility, barriers) see it at session closes or,
with a horizon in hours, every five minutes of open time.

Triple barrier and meta-label: López de Prado, *Advances in Financial Machine Learning* (2018), sections 3.3 and 3.6.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapeline.compute.sessions import SessionTimes
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us
from tapeline.datasets.label_paths import (
    LOOKBACK,
    MISSING_US,
    STEPS_PER_HOUR,
    Columns,
    first_touch,
    hourly_past,
    hourly_path,
    realised,
    split_factor,
    spread,
)  # fmt: skip
from tapeline.datasets.prices import NO_PRICES, Prices

Kind = Literal["direction", "forward_return", "volatility", "triple_barrier", "meta_label"]
KINDS: tuple[Kind, ...] = ("direction", "forward_return", "volatility", "triple_barrier", "meta_label")

_SESSIONS = {"d": 1, "w": 5, "mo": 21}
_HORIZON_SESSIONS_MAX = 252
_HORIZON_HOURS_MAX = 1_000
_CELLS_MAX = 2_000_000
"""Of one piece of the paths that are held at once."""


@dataclass(frozen=True)
class LabelSpec:
    """What to predict.

    Attributes
    ----------
    kind
        ``forward_return``: the price's relative change; ``direction``: 1 if that is above zero, else 0;
        ``volatility``: square root of the sum of squared session log returns; ``triple_barrier``: 1 if the upper of two
        barriers is touched first, 0 if the lower one is, else the direction at the end; ``meta_label``: 1 if a bet on
        the side that a feature names gained by that moment, else 0.
    sessions
        Horizon in sessions; 0 for a horizon in hours.
    hours
        Horizon in open hours; 0 for a horizon in sessions.
    width
        Distance of the barriers, in standard deviations of the horizon's return as the last 20 sessions before the
        moment, or with a horizon in hours the last 20 open hours, estimate it.
    side
        Of a meta-label, the feature whose sign is the side of the bet: a primary model's signal.
    """

    kind: Kind
    sessions: int = 0
    hours: int = 0
    width: float = 1.0
    side: str = ""

    @classmethod
    def parse(cls, text: str) -> LabelSpec:
        """Read ``direction:5d``, ``forward_return:1mo``, ``volatility:4h``, ``triple_barrier:10d:1.5``, ``meta_label:10d:1.5:macd``.

        Raises
        ------
        UnknownNameError
            If the kind does not exist; the message names the nearest.
        ParameterError
            If the horizon is malformed or too long, or a part is missing or too many.
        """
        kind, *rest = text.split(":")
        known = {name: name for name in KINDS}
        if kind not in known:
            raise UnknownNameError("label", kind, KINDS)
        match = re.fullmatch(r"(\d{1,4})(d|w|mo|h)", rest[0]) if rest else None
        fewest, most = {"triple_barrier": (1, 2), "meta_label": (3, 3)}.get(kind, (1, 1))
        if match is None or not fewest <= len(rest) <= most or not all(rest):
            raise ParameterError(
                f"{text!r} is not a label",
                remedy="Write it like direction:5d, forward_return:1mo, volatility:4h, triple_barrier:10d:1.5 or"
                " meta_label:10d:1.5:FEATURE",
            )
        amount, unit = int(match[1]), match[2]
        spec = cls(
            known[kind],
            sessions=amount * _SESSIONS.get(unit, 0),
            hours=amount if unit == "h" else 0,
            width=_width(rest[1]) if len(rest) > 1 else 1.0,
            side=rest[2] if len(rest) > 2 else "",
        )
        if not (0 < spec.sessions <= _HORIZON_SESSIONS_MAX or 0 < spec.hours <= _HORIZON_HOURS_MAX):
            raise ParameterError(
                f"the horizon of {text!r} is out of range",
                remedy=f"Use 1 to {_HORIZON_SESSIONS_MAX} sessions or 1 to {_HORIZON_HOURS_MAX} hours",
            )
        return spec

    def __str__(self) -> str:
        horizon = f"{self.hours}h" if self.hours else f"{self.sessions}d"
        width = f":{self.width!r}".removesuffix(".0") if self.has_barriers else ""
        return f"{self.kind}:{horizon}{width}" + (f":{self.side}" if self.side else "")

    @property
    def has_barriers(self) -> bool:
        """Whether it ends at the first touch of a barrier."""
        return self.kind in {"triple_barrier", "meta_label"}

    @property
    def is_binary(self) -> bool:
        """Whether the label is 0 or 1."""
        return self.kind == "direction" or self.has_barriers


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
    value
        float64; NaN where there is no label.
    forward_return
        float64; what holding one unit until the label's end gave, of a meta-label one unit of the bet; NaN likewise.
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
    side: NDArray[np.float64] | None = None,
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
    side
        Of a meta-label: float64 (rows,), positive for a bet on a rise, negative for one on a fall; where it is 0 or NaN
        there is no bet, and no label.

    Raises
    ------
    EmptyDataError
        If the calendar does not reach back to the first row.
    ParameterError
        If a meta-label has no sides, or another label has.
    """
    if (side is not None) != (spec.kind == "meta_label") or (side is not None and side.shape != event_us.shape):
        raise ParameterError(
            f"a label {spec} with sides of shape {None if side is None else side.shape}", where="labels"
        )
    rows = len(event_us)
    value, change = np.full(rows, np.nan), np.full(rows, np.nan)
    end_us = np.full(rows, MISSING_US, dtype=np.int64)
    earliest_us = (sessions.open_us if spec.hours else sessions.close_us)[0]
    if rows and event_us.min() < earliest_us:
        raise EmptyDataError(
            f"calendar {sessions.calendar} begins after {format_us(int(event_us.min()))}", where="labels"
        )
    for symbol, mine in _rows_of(symbols):
        one = prices.get(symbol, NO_PRICES)
        label = _by_hours if spec.hours else _by_sessions
        value[mine], change[mine], end_us[mine] = label(spec, event_us[mine], one, sessions)
    if side is not None:
        bet = np.where((side > 0) | (side < 0), np.sign(side), np.nan)
        change = np.where(np.isnan(value), np.nan, bet * change)
        value = np.where(np.isnan(change), np.nan, (change > 0).astype(np.float64))
    missing = np.isnan(value)
    change[missing], end_us[missing] = np.nan, MISSING_US
    return Labels(value, change, end_us)


def _rows_of(symbols: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each symbol and the numbers of its rows, ascending."""
    number: dict[str, int] = {}
    codes = np.fromiter((number.setdefault(symbol, len(number)) for symbol in symbols.tolist()), np.int64, len(symbols))
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(number)))
    begins = ends - np.bincount(codes, minlength=len(number))
    yield from ((symbol, order[begin:end]) for symbol, begin, end in zip(number, begins, ends, strict=True))


def _by_sessions(spec: LabelSpec, event_us: NDArray[np.int64], prices: Prices, sessions: SessionTimes) -> Columns:
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
    path *= split_factor(prices, last_event[at[:, :1]], last_event[at], end_us)
    change = path[:, -1] / path[:, 0] - 1.0
    if spec.kind == "volatility":
        return realised(path), change, end_us
    if spec.has_barriers:
        back = np.maximum(base[:, None] + np.arange(-LOOKBACK, 1), 0)
        past = last_price[back] * split_factor(prices, last_event[back[:, :1]], last_event[back], event_us)
        return first_touch(spec.width * spread(past) * math.sqrt(spec.sessions), path, sessions.close_us[at])
    return _outcome(spec, change), change, end_us


def _by_hours(spec: LabelSpec, event_us: NDArray[np.int64], prices: Prices, sessions: SessionTimes) -> Columns:
    steps = spec.hours * STEPS_PER_HOUR
    if spec.kind in {"direction", "forward_return"}:
        path, moments = hourly_path(event_us, spec.hours, 1, prices, sessions)
        change = path[:, -1] / path[:, 0] - 1.0
        return _outcome(spec, change), change, moments[:, -1]
    value, change = np.full(len(event_us), np.nan), np.full(len(event_us), np.nan)
    end_us = np.full(len(event_us), MISSING_US, dtype=np.int64)
    for start in range(0, len(event_us), max(_CELLS_MAX // steps, 1)):
        rows = slice(start, start + max(_CELLS_MAX // steps, 1))
        path, moments = hourly_path(event_us[rows], spec.hours, steps, prices, sessions)
        if spec.kind == "volatility":
            value[rows], change[rows], end_us[rows] = realised(path), path[:, -1] / path[:, 0] - 1.0, moments[:, -1]
        else:
            distance = spec.width * spread(hourly_past(event_us[rows], prices, sessions)) * math.sqrt(steps)
            value[rows], change[rows], end_us[rows] = first_touch(distance, path, moments)
    return value, change, end_us


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

"""The price paths that labels are read from, and what is read from a path.

A path has shape (rows, steps + 1): the price at the row's moment, then at each step. NaN where it is not known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeline.compute.sessions import SessionTimes
from tapeline.core.timestamps import HOUR_US
from tapeline.datasets.prices import Prices

MISSING_US = np.iinfo(np.int64).min
"""Stands for "no moment" in int64 columns."""
LOOKBACK = 20
"""Sessions, or open hours, from which the spread of barriers is estimated."""
STEPS_PER_HOUR = 12
_NEVER_US = np.iinfo(np.int64).max

Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""Value, change and end of labels."""


def hourly_path(
    event_us: NDArray[np.int64], hours: int, steps: int, prices: Prices, sessions: SessionTimes
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Last prices at equal steps of open time from each moment to the end of a horizon, splits undone as known at the end.

    Returns
    -------
    tuple
        Prices and moments, each (rows, steps + 1); a row whose first or last price is not known is all NaN, and has no
        end. The first price may be from the last session that was open, the last one must be from the end's session.
    """
    spans = hours * HOUR_US // steps * np.arange(1, steps + 1)
    moments, session = add_open_time(np.repeat(event_us, steps), np.tile(spans, len(event_us)), sessions)
    moments = np.column_stack([event_us, moments.reshape(-1, steps)])
    end_us = moments[:, -1]
    if len(prices.event_us) == 0:
        moments[:, -1] = MISSING_US
        return np.full(moments.shape, np.nan), moments
    at = np.searchsorted(prices.event_us, moments, side="right") - 1
    opened = np.maximum(np.searchsorted(sessions.open_us, event_us, side="right") - 1, 0)
    known = (at[:, 0] >= 0) & (at[:, -1] > at[:, 0]) & (end_us != MISSING_US) & (end_us <= prices.event_us[-1])
    at = np.maximum(at, 0)
    events = prices.event_us[at]
    known &= events[:, 0] >= sessions.open_us[opened]
    known &= events[:, -1] >= sessions.open_us[session.reshape(-1, steps)[:, -1]]
    path = prices.price[at] * split_factor(prices, events[:, :1], events, end_us)
    moments[~known, -1] = MISSING_US
    return np.where(known[:, None], path, np.nan), moments


def hourly_past(event_us: NDArray[np.int64], prices: Prices, sessions: SessionTimes) -> NDArray[np.float64]:
    """Last prices every five minutes of the open time before each moment, splits undone as known then; oldest first.

    Shape (rows, LOOKBACK · STEPS_PER_HOUR + 1); NaN before the first price or session.
    """
    steps = LOOKBACK * STEPS_PER_HOUR
    spans = HOUR_US // STEPS_PER_HOUR * np.arange(-steps, 1)
    moments, _ = add_open_time(np.repeat(event_us, steps + 1), np.tile(spans, len(event_us)), sessions)
    moments = moments.reshape(-1, steps + 1)
    if len(prices.event_us) == 0:
        return np.full(moments.shape, np.nan)
    at = np.searchsorted(prices.event_us, moments, side="right") - 1
    events = prices.event_us[np.maximum(at, 0)]
    past = prices.price[np.maximum(at, 0)] * split_factor(prices, events[:, :1], events, event_us)
    return np.where(at >= 0, past, np.nan)


def spread(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample standard deviation of a path's log returns, (rows,)."""
    return np.asarray(np.diff(np.log(path), axis=1).std(axis=1, ddof=1))


def realised(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the sum of a path's squared log returns, (rows,)."""
    return np.asarray(np.sqrt((np.diff(np.log(path), axis=1) ** 2).sum(axis=1)))


def first_touch(distance: NDArray[np.float64], path: NDArray[np.float64], moments: NDArray[np.int64]) -> Columns:
    """Direction, change and moment at the first touch of a barrier at a log distance, or at the path's end."""
    log_path = np.log(path / path[:, :1])
    touched = np.abs(log_path) >= distance[:, None]
    touched[:, 0] = False
    touched[:, -1] = True  # the vertical barrier
    first = touched.argmax(axis=1)
    rows = np.arange(len(path))
    change = path[rows, first] / path[:, 0] - 1.0
    unknown = np.isnan(distance) | np.isnan(path).any(axis=1)
    value = np.where(unknown, np.nan, (change > 0).astype(np.float64))
    return value, change, moments[rows, first]


def split_factor(
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


def add_open_time(
    moment_us: NDArray[np.int64], span_us: NDArray[np.int64], sessions: SessionTimes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The moment after so much open time (before, if negative), and the number of its session.

    A moment at a close stays there; the calendar's end and beginning give :data:`MISSING_US` and 0.
    """
    length = sessions.close_us - sessions.open_us
    total = np.cumsum(length)
    session = np.searchsorted(sessions.open_us, moment_us, side="right") - 1
    inside = np.minimum(moment_us, sessions.close_us[session]) - sessions.open_us[session]
    target = total[session] - length[session] + inside + span_us
    end = np.searchsorted(total, target, side="left")
    beyond = (end >= len(total)) | (target < 0)
    end = np.where(beyond, 0, end)
    moment = sessions.close_us[end] - (total[end] - target)
    return np.where(beyond, MISSING_US, moment), end

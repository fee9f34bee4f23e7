"""Exchange calendars as int64 arrays of session opens and closes.

exchange_calendars brings pandas, so it is imported only when a calendar is first asked for; what travels on (into plans,
bundles, the inference server) is the two arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us

# The library begins 20 years ago unless told otherwise; the oldest packaged bars are of 1986.
_FIRST_DAY = "1980-01-01"


@dataclass(frozen=True)
class SessionTimes:
    """A calendar's sessions.

    Attributes
    ----------
    calendar
        Name as exchange_calendars knows it.
    open_us, close_us
        int64 ``(sessions,)``: opens and closes in microseconds since the epoch, UTC, strictly increasing; half days
        have their early close. Read-only.
    """

    calendar: str
    open_us: NDArray[np.int64]
    close_us: NDArray[np.int64]

    def number_of(self, moment_us: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Number of the session that is open at each moment or, between sessions, of the one before.

        Parameters
        ----------
        moment_us
            Moments in microseconds; of a bar, give its start.

        Returns
        -------
        NDArray[np.int64]
            0 for the first session of the calendar, -1 before it.
        """
        return np.searchsorted(self.open_us, moment_us, side="right").astype(np.int64) - 1

    def next_close_us(self, moment_us: int) -> int:
        """The first session close after a moment.

        Raises
        ------
        EmptyDataError
            If the calendar ends before.
        """
        return self._close_at(int(np.searchsorted(self.close_us, moment_us, side="right")), moment_us)

    def close_after_us(self, moment_us: int, sessions: int) -> int:
        """The close that lies a number of closes after the last one at or before a moment.

        ``sessions=1`` is :meth:`next_close_us`; from a daily bar's end, ``sessions=5`` is the end of the bar five
        sessions later.

        Raises
        ------
        ParameterError
            If ``sessions`` is not positive.
        EmptyDataError
            If the calendar ends before.
        """
        if sessions < 1:
            raise ParameterError(f"sessions is {sessions}", remedy="Count forward: give 1 or more")
        at = int(np.searchsorted(self.close_us, moment_us, side="right"))
        return self._close_at(at + sessions - 1, moment_us)

    def _close_at(self, index: int, moment_us: int) -> int:
        if index >= len(self.close_us):
            raise EmptyDataError(
                f"calendar {self.calendar} has no session so long after {format_us(moment_us)}",
                remedy="Its last known close is " + format_us(int(self.close_us[-1])),
            )
        return int(self.close_us[index])


@lru_cache(maxsize=32)
def session_times(calendar: str) -> SessionTimes:
    """All sessions of an exchange calendar from 1980 (or its first) to about a year ahead.

    Parameters
    ----------
    calendar
        Name known to exchange_calendars, such as ``XNYS`` or ``CMES``.

    Raises
    ------
    UnknownNameError
        If there is no such calendar; the message names the nearest.
    """
    import exchange_calendars
    import pandas as pd

    known = exchange_calendars.get_calendar_names(include_aliases=True)
    if calendar not in known:
        raise UnknownNameError("calendar", calendar, known)
    schedule = _calendar(exchange_calendars, pd, calendar).schedule
    open_us = _microseconds(schedule["open"])
    close_us = _microseconds(schedule["close"])
    return SessionTimes(calendar, open_us, close_us)


def next_session_close(calendar: str, moment_us: int) -> int:
    """The first session close of a calendar after a moment, in microseconds.

    Raises
    ------
    UnknownNameError, EmptyDataError
        If there is no such calendar, or it ends before.
    """
    return session_times(calendar).next_close_us(moment_us)


def _calendar(library: Any, pd: Any, name: str) -> Any:
    try:
        return library.get_calendar(name, start=_FIRST_DAY)
    except ValueError:  # a calendar that begins later refuses an earlier start instead of clipping it
        bound = library.get_calendar(name).bound_min()
        return library.get_calendar(name, start=max(pd.Timestamp(_FIRST_DAY), bound))


def _microseconds(column: Any) -> NDArray[np.int64]:
    values = np.ascontiguousarray(column.dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64))
    values.setflags(write=False)
    return values

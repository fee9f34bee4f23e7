"""Time frames: which bar of a longer frame a base row belongs to, and when that bar ends.

A plan makes the bars of a frame from its own base rows, so that one update covers all frames. Frames aligned to the epoch
need nothing but the row's time. Those aligned to sessions take the end of the row's bar from a row column, which
:class:`FrameCalendar` fills; the compiled code knows no calendar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import DAY_US, format_duration_us, parse_duration_us
from tapeline.kernels.frames import NO_BAR

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_BAR_US = NO_BAR
"""The end of a row that belongs to no bar of a frame."""

SESSION_UNITS = ("session", "week", "month")


@dataclass(frozen=True)
class TimeFrame:
    """Bars of a longer time frame over a plan's base rows.

    Written as text, its parts joined by ``/``: ``1h`` (aligned to multiples of an hour since the epoch),
    ``1h/session`` (aligned to the session's open; the last bar ends at its close), ``session``, ``week``, ``month``, and
    any of these with ``/partial``.

    A base row belongs to the frame bar in which it ends: of [10:00, 11:00), the row that ends at 11:00 is the last. The
    bar is finished by the row that ends where it ends or, if that is missing, by the first row after it. Rows between
    sessions belong to no bar of a frame that follows sessions.

    Attributes
    ----------
    width_us
        Length of a bar in microseconds, at most a day; 0 for sessions, weeks and months.
    unit
        ``session``, ``week`` or ``month`` for bars of so many sessions; empty for a width.
    by_session
        Whether bars of a width are aligned to the session's open.
    partial
        Whether features show the unfinished bar as it is. Otherwise they change only when a bar is finished.

    Raises
    ------
    ParameterError
        If the parts do not go together.
    """

    width_us: int = 0
    unit: str = ""
    by_session: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        remedy = "Write it like 5m, 1h, 1d, 1h/session, session, week or month, with /partial behind it or not"
        if self.unit and (self.unit not in SESSION_UNITS or self.width_us or self.by_session):
            raise ParameterError(f"{self.unit!r} is no unit of a time frame, or has a width beside it", remedy=remedy)
        if not self.unit and not 0 < self.width_us <= DAY_US:
            raise ParameterError(f"a time frame of {self.width_us} µs is not between 1 µs and a day", remedy=remedy)

    @classmethod
    def parse(cls, text: str) -> TimeFrame:
        """The frame of a text; see the class.

        Raises
        ------
        ParameterError
            If it is none.

        Examples
        --------
        >>> TimeFrame.parse("60m/session").text
        '1h/session'
        """
        first, *rest = text.strip().split("/")
        extras = set(rest)
        if len(extras) != len(rest) or not extras <= {"session", "partial"}:
            raise ParameterError(
                f"{text!r} is not a time frame", remedy="After the length only /session and /partial may follow"
            )
        partial = "partial" in extras
        if first in SESSION_UNITS:
            return cls(unit=first, by_session="session" in extras, partial=partial)
        return cls(width_us=parse_duration_us(first), by_session="session" in extras, partial=partial)

    @cached_property
    def text(self) -> str:
        """The frame as text, always in one spelling."""
        return "/".join(self._parts)

    @cached_property
    def suffix(self) -> str:
        """What the names of its columns end with, such as ``1h_session``."""
        return "_".join(self._parts)

    @property
    def _parts(self) -> list[str]:
        length = self.unit or format_duration_us(self.width_us)
        return [length, *(["session"] if self.by_session else []), *(["partial"] if self.partial else [])]

    @property
    def finished(self) -> TimeFrame:
        """The frame of the same bars without ``partial``."""
        return replace(self, partial=False)

    @property
    def follows_sessions(self) -> bool:
        """Whether the calendar decides where its bars end."""
        return bool(self.unit) or self.by_session

    @property
    def end_column(self) -> str | None:
        """The row column with the end of each row's bar (µs; NaN: none); None where the row's time tells it."""
        return f"end_{self.finished.suffix}" if self.follows_sessions else None


def frames_of_inputs(inputs: Sequence[str]) -> dict[str, TimeFrame]:
    """The row columns of a plan that hold ends of frame bars, each with its frame."""
    return {
        name: TimeFrame.parse(name.removeprefix("end_").replace("_", "/")) for name in inputs if name.startswith("end_")
    }


@dataclass(frozen=True)
class FrameCalendar:
    """Where the bars of frames end, from a calendar's sessions.

    Attributes
    ----------
    open_us, close_us
        int64 (sessions,): opens and closes in µs since the epoch, UTC, strictly increasing. Half days and daylight
        saving are in them.
    """

    open_us: Integers
    close_us: Integers

    def ends(self, frame: TimeFrame, moment_us: Integers) -> Integers:
        """Ends of the frame's bars that contain each moment, int64 µs; ``NO_BAR_US`` where there is none.

        Parameters
        ----------
        frame
            Any frame.
        moment_us
            int64 (N,): moments. Of a bar over [start, end) give end − 1: it belongs where it ends.
        """
        moment_us = np.asarray(moment_us, dtype=np.int64)
        if not frame.follows_sessions:
            return moment_us // frame.width_us * frame.width_us + frame.width_us
        number = np.searchsorted(self.open_us, moment_us, side="right") - 1
        inside = number >= 0
        number = np.maximum(number, 0)
        if len(self.open_us) == 0:
            return np.full(moment_us.shape, NO_BAR_US, dtype=np.int64)
        inside &= moment_us < self.close_us[number]
        if frame.unit == "session":
            ends = self.close_us[number]
        elif frame.unit:
            ends = (self._week_ends if frame.unit == "week" else self._month_ends)[number]
        else:
            opened = self.open_us[number]
            into = (moment_us - opened) // frame.width_us * frame.width_us + frame.width_us
            ends = np.minimum(opened + into, self.close_us[number])
        return np.where(inside, ends, NO_BAR_US)

    def column(self, frame: TimeFrame, moment_us: Integers) -> Floats:
        """:meth:`ends` as a row column: float64, NaN where there is none."""
        ends = self.ends(frame, moment_us)
        return np.where(ends == NO_BAR_US, np.nan, ends)

    # A bar of many sessions ends at the close of the last one, if that is where the calendar's regular pattern puts it.
    # After an unforeseen closure (2001-09-11) the last session that took place says nothing about the end: nobody could
    # know at its close that there would be no other. Then, and before a holiday at the end, the bar ends with the last
    # regular day, and so is finished by the next row.

    @cached_property
    def _days(self) -> Integers:
        """Day number of each session: that on which its last moment lies, in UTC."""
        return (self.close_us - 1) // DAY_US

    @cached_property
    def _regular(self) -> NDArray[np.bool_]:
        """For Monday to Sunday: whether there regularly is a session."""
        counts = np.bincount((self._days + 3) % 7, minlength=7)
        return np.asarray(2 * counts > counts.max())

    @cached_property
    def _week_ends(self) -> Integers:
        monday = (self._days + 3) // 7 * 7 - 3
        last = monday + int(np.flatnonzero(self._regular)[-1])
        return self._group_ends(monday, last)

    @cached_property
    def _month_ends(self) -> Integers:
        months = self._days.astype("datetime64[D]").astype("datetime64[M]")
        last = (months + 1).astype("datetime64[D]").astype(np.int64) - 1
        for _ in range(7):
            last = np.where(self._regular[(last + 3) % 7], last, last - 1)
        return self._group_ends(months.astype(np.int64), last)

    def _group_ends(self, group: Integers, last_day: Integers) -> Integers:
        """End of the bar of each session's group, whose last regular day is given."""
        final = np.searchsorted(group, group, side="right") - 1
        reached = self._days[final] >= last_day
        return np.where(reached, self.close_us[final], (last_day + 1) * DAY_US)

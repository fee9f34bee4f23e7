"""The one clock, injected wherever "now" matters: TTLs, staleness, request time."""

from __future__ import annotations

import time
from typing import Protocol

from tapeline.core.timestamps import to_us


class Clock(Protocol):
    """Tells the present moment."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...


class LiveClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000


class ReplayClock:
    """A clock that stands at a chosen moment of history until it is moved.

    Parameters
    ----------
    moment_us
        Microseconds since the epoch, UTC.
    """

    def __init__(self, moment_us: int) -> None:
        self._moment_us = moment_us

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return self._moment_us

    def move_to(self, moment_us: int) -> None:
        """Set the present moment."""
        self._moment_us = moment_us


def clock_from(setting: str) -> Clock:
    """The clock a setting asks for: ``live``, or an ISO 8601 moment for a replay clock.

    Raises
    ------
    NaiveTimestampError, ParameterError
        If the setting is neither ``live`` nor an aware timestamp.
    """
    return LiveClock() if setting == "live" else ReplayClock(to_us(setting, where="setting clock"))

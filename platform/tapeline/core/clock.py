"""The one clock, injected wherever "now" matters: TTLs, staleness, request time."""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Protocol, Self

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import to_us

TAPE = "tape:"
_MOMENT_BYTES = 8


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


class TapeClock(ReplayClock):
    """A replay clock that one process moves along a recorded tape and others read: they share a file of eight bytes.

    Parameters
    ----------
    path
        The file, which :meth:`create` made.

    Raises
    ------
    ParameterError
        If there is no such file, or it is no clock.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), _MOMENT_BYTES)
        except (OSError, ValueError) as error:
            raise ParameterError(
                f"no clock can be read: {error}",
                where=str(path),
                remedy="Make it with tapeline.core.clock.TapeClock.create, and move it as the tape is played",
            ) from None
        # An item of a view of 64-bit numbers is read and written in one piece, so no reader sees half of a move.
        self._moment = memoryview(self._map).cast("q")

    @classmethod
    def create(cls, path: Path, moment_us: int) -> Self:
        """Make the file, or set it back, and stand at a moment (microseconds since the epoch, UTC)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size != _MOMENT_BYTES:
            path.write_bytes(bytes(_MOMENT_BYTES))
        clock = cls(path)
        clock.move_to(moment_us)
        return clock

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return self._moment[0]

    def move_to(self, moment_us: int) -> None:
        """Set the present moment for everyone who reads the file."""
        self._moment[0] = moment_us


def clock_from(setting: str) -> Clock:
    """The clock a setting asks for: ``live``, an ISO 8601 moment for a replay clock, or ``tape:FILE`` for one that is moved.

    Raises
    ------
    NaiveTimestampError, ParameterError
        If the setting is none of these, or the file is no clock.
    """
    if setting.startswith(TAPE):
        return TapeClock(Path(setting.removeprefix(TAPE)))
    return LiveClock() if setting == "live" else ReplayClock(to_us(setting, where="setting clock"))

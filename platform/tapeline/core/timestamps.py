"""Moments as int64 microseconds since 1970-01-01 UTC, and the ways in and out of that form."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from tapeline.core.errors import NaiveTimestampError, ParameterError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_UNITS_US = {"us": 1, "ms": 1_000, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}


def to_us(moment: datetime | str, *, where: str | None = None) -> int:
    """Microseconds since the epoch of an aware datetime or an ISO 8601 string.

    Raises
    ------
    NaiveTimestampError
        If the moment carries no time zone.
    ParameterError
        If the text is no ISO 8601 timestamp.
    """
    if isinstance(moment, str):
        try:
            parsed = datetime.fromisoformat(moment)
        except ValueError:
            raise ParameterError(
                f"{moment!r} is not an ISO 8601 timestamp",
                where=where,
                remedy="Write it like 2013-03-01T21:00:00+00:00",
            ) from None
    else:
        parsed = moment
    if parsed.tzinfo is None or parsed.utcoffset() is None:
        raise NaiveTimestampError(moment, where=where)
    return (parsed - EPOCH) // MICROSECOND


def moment_or_day(text: str, where: str, *, last: bool) -> int:
    """A moment as :func:`to_us` reads it, or a day's first or last microsecond, UTC.

    Raises
    ------
    NaiveTimestampError, ParameterError
        As :func:`to_us`.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return to_us(text, where=where)
    start_us = to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return start_us + DAY_US - 1 if last else start_us


def from_us(moment_us: int) -> datetime:
    """The aware UTC datetime of a number of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=int(moment_us))


def format_us(moment_us: int) -> str:
    """ISO 8601 text in UTC, with microseconds only where there are any."""
    return from_us(moment_us).isoformat()


def parse_duration_us(text: str) -> int:
    """Microseconds of a duration such as ``30s``, ``1m``, ``4h`` or ``1d``.

    Raises
    ------
    ParameterError
        If the text is no positive whole number followed by us, ms, s, m, h, d or w.
    """
    body = text.strip()
    digits = len(body) - len(body.lstrip("0123456789"))
    number, unit = body[:digits], body[digits:].strip()
    if not number or unit not in _UNITS_US or int(number) == 0:
        raise ParameterError(f"{text!r} is not a duration", remedy="Write it like 30s, 1m, 4h or 1d")
    return int(number) * _UNITS_US[unit]


def format_duration_us(duration_us: int) -> str:
    """A positive duration as :func:`parse_duration_us` reads it, in the largest unit up to days that divides it."""
    name, unit_us = next((n, us) for n in ("d", "h", "m", "s", "ms", "us") if duration_us % (us := _UNITS_US[n]) == 0)
    return f"{duration_us // unit_us}{name}"

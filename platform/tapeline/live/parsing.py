"""From JSON to exact numbers and times. Everything here refuses rather than guesses: a venue's frame is foreign data."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn

from tapeline.core.errors import InvalidDataError, NaiveTimestampError
from tapeline.core.timestamps import to_us
from tapeline.live.messages import Level

TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]

NUMBER_MAX = 1 << 53
"""Sequences of events stay below it."""
TIME_US_MAX = 1 << 53
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_UNIT_US = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}


def decode(data: bytes) -> Any:
    """A JSON value; numbers with a fraction stay texts, since checksums are taken over what was written.

    Raises
    ------
    InvalidDataError
        If the bytes are no JSON.
    """
    try:
        return _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"the frame is no JSON: {_short(str(error))}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_float=str, parse_constant=_refuse)  # loads() would make one for each frame


def member(value: Any, key: str | int) -> Any:
    """A member of an object or an element of an array.

    Raises
    ------
    InvalidDataError
        If there is none.
    """
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        raise InvalidDataError(f"{key!r} is missing in {_short(json.dumps(value, default=str))}") from None


def text(value: Any, what: str) -> str:
    """A text of 1 to 64 characters.

    Raises
    ------
    InvalidDataError
        If it is something else.
    """
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise InvalidDataError(f"{what} is {_short(repr(value))}, not a short text")
    return value


def rows(value: Any, what: str) -> list[Any]:
    """An array.

    Raises
    ------
    InvalidDataError
        If it is something else.
    """
    if not isinstance(value, list):
        raise InvalidDataError(f"{what} is {_short(repr(value))}, not an array")
    return value


def decimal_text(value: Any, what: str) -> str:
    """A decimal number as it was written.

    Raises
    ------
    InvalidDataError
        If it is none.
    """
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(written, str) or not _DECIMAL.fullmatch(written):
        raise InvalidDataError(f"{what} is {_short(repr(value))}, not a decimal number")
    return written


def number(value: Any, what: str) -> float:
    """A finite number.

    Raises
    ------
    InvalidDataError
        If it is none.
    """
    found = float(decimal_text(value, what))
    if found in (float("inf"), float("-inf")):
        raise InvalidDataError(f"{what} is {value}, which is too large")
    return found


def whole(value: Any, what: str) -> int:
    """A whole number from 0 to 2**53.

    Raises
    ------
    InvalidDataError
        If it is none.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < NUMBER_MAX:
        raise InvalidDataError(f"{what} is {_short(repr(value))}, not a whole number below 2**53")
    return value


def moment_us(value: Any, unit: TimeUnit, what: str) -> int:
    """Microseconds since the epoch; finer digits are cut off.

    Raises
    ------
    InvalidDataError
        If it is no time after 1970.
    """
    if unit == "iso8601":
        try:
            found = to_us(datetime.fromisoformat(text(value, what)), where=what)
        except (ValueError, NaiveTimestampError) as error:
            raise InvalidDataError(f"{what} is no time: {error}") from None
    else:
        found = int(Decimal(decimal_text(value, what)) * _UNIT_US[unit])
    if not 0 < found < TIME_US_MAX:
        raise InvalidDataError(f"{what} is {_short(repr(value))}, no time in {unit}")
    return found


def level(price: Any, size: Any) -> Level:
    """A price level.

    Raises
    ------
    InvalidDataError
        If price or size are no numbers, or the size is negative.
    """
    found = Level(number(price, "a price"), number(size, "a size"), str(price), str(size))
    if found.size < 0:
        raise InvalidDataError(f"the size of a level is {size}")
    return found


def _short(words: str) -> str:
    return words if len(words) <= 80 else f"{words[:80]}…"

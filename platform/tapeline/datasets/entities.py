"""Entity rows: which entities at which moments. Checked as they pass, or generated from the venue's sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.compute.sessions import SessionTimes
from tapeline.core.errors import (
    EmptyDataError,
    InvalidDataError,
    LimitError,
    NaiveTimestampError,
    UnknownNameError,
)
from tapeline.core.timestamps import format_us, parse_duration_us, to_us
from tapeline.datasets.requests import UTC_US, in_microseconds

SESSION = "session"
ENTITY_ROWS_MAX = 1_000_000_000
BATCH_ROWS = 262_144
"""Rows that are generated, or read from a file, at once."""
TIME_COLUMN = "event_timestamp"


def require_columns(schema: pa.Schema, columns: Sequence[str], where: str) -> None:
    """Refuse rows without one of the entity columns or their moment.

    Raises
    ------
    InvalidDataError
        If a column is missing.
    """
    missing = [name for name in (*columns, TIME_COLUMN) if name not in schema.names]
    if missing:
        raise InvalidDataError(
            f"the entity rows lack {', '.join(missing)}",
            where=f"{where}, columns {', '.join(schema.names)}",
            remedy=f"Name the columns {', '.join((*columns, TIME_COLUMN))}",
        )


def checked(
    rows: pa.Table, columns: Sequence[str], *, where: str, first_row: int = 0, allow_null: bool = False
) -> pa.Table:
    """Entity rows in Tapeline's types: the entity columns and ``event_timestamp``; other columns are left out.

    Parameters
    ----------
    rows
        They may lie in any order. Moments have a zone, or are ISO 8601 texts with one; finer ones than microseconds
        are rounded down.
    columns
        The entity columns.
    where, first_row
        Where they come from, and the number of the first, for messages.
    allow_null
        Whether an entity column may be null.

    Raises
    ------
    InvalidDataError
        If a column is missing, or a value is missing or malformed; the message names the row.
    NaiveTimestampError
        If a moment has no time zone.
    """
    require_columns(rows.schema, columns, where)
    for name in (TIME_COLUMN,) if allow_null else (*columns, TIME_COLUMN):
        if rows.column(name).null_count:
            row = first_row + pc.index(rows.column(name).is_null(), value=True).as_py()
            raise InvalidDataError(f"{name} is missing", where=f"{where}, row {row}")
    data = {name: _key(rows.column(name), name, where) for name in columns}
    return pa.table(data | {TIME_COLUMN: _moments(rows.column(TIME_COLUMN), where, first_row)})


def _key(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_timestamp(kind) and kind.tz is None:
        raise NaiveTimestampError(f"of entity column {name}", where=where)
    wanted = {
        pa.types.is_integer(kind): pa.int64(),
        pa.types.is_timestamp(kind): UTC_US,
        pa.types.is_date(kind): pa.date32(),
        pa.types.is_boolean(kind): pa.bool_(),
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind): pa.string(),
        pa.types.is_null(kind): pa.string(),
    }.get(True)
    if wanted is None:
        raise InvalidDataError(
            f"entity column {name} holds {kind}", where=where, remedy="Use text, integers, dates, moments or booleans"
        )
    try:
        return column.cast(kind).cast(wanted)
    except pa.ArrowInvalid as error:
        raise InvalidDataError(f"entity column {name} does not fit {wanted}: {error}", where=where) from None


def _moments(column: pa.ChunkedArray, where: str, first_row: int) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            return column.cast(pa.string()).cast(UTC_US)
        except pa.ArrowInvalid:  # one by one, which also names the row
            texts = column.to_pylist()
            found = [to_us(text, where=f"{where}, row {first_row + row}") for row, text in enumerate(texts)]
            return pa.chunked_array([pa.array(found, pa.int64()).cast(UTC_US)])
    if not pa.types.is_timestamp(kind):
        raise InvalidDataError(f"{TIME_COLUMN} holds {kind}, not timestamps", where=where)
    if kind.tz is None:
        raise NaiveTimestampError(column[0], where=f"{where}, row {first_row}, column {TIME_COLUMN}")
    return in_microseconds(column)


def generate_entities(
    lifetimes: Mapping[str, tuple[int, int]],
    sessions: SessionTimes,
    *,
    symbols: Sequence[str] | None = None,
    every: str = SESSION,
    lag_us: int = 0,
    start_us: int | None = None,
    end_us: int | None = None,
) -> Iterator[pa.Table]:
    """Entity rows at each session's close, or on a grid inside each session, ordered by time, then symbol.

    Parameters
    ----------
    lifetimes
        First and last event of each symbol, microseconds; rows lie between them.
    sessions
        The venue's sessions.
    symbols
        Which symbols; none: all that have a lifetime.
    every
        ``session``, or a duration such as ``5m``: multiples of it since the epoch, after a session's open and up to its
        close.
    lag_us
        Added to each moment, so that the newest row of the source is available at it.
    start_us, end_us
        Only moments from the one to the other, both included.

    Raises
    ------
    UnknownNameError
        If a symbol has no data; the message names the nearest.
    EmptyDataError
        If no row remains.
    LimitError
        If the grid is finer than any session could be read at.
    """
    chosen = sorted(set(symbols)) if symbols is not None else sorted(lifetimes)
    for symbol in chosen:
        if symbol not in lifetimes:
            raise UnknownNameError("symbol", symbol, lifetimes)
    if not chosen:
        raise EmptyDataError("no symbol has data", remedy="Ingest the source first: tapeline ingest --help")
    born, died = (np.array([lifetimes[symbol][side] for symbol in chosen]) for side in (0, 1))
    low = int(born.min()) if start_us is None else max(int(born.min()), start_us - lag_us)
    high = int(died.max()) if end_us is None else min(int(died.max()), end_us - lag_us)
    names = pa.array(chosen, pa.string())
    empty = True
    for grid in _grid(sessions, every, low, high, moments_max=max(1, BATCH_ROWS // len(chosen))):
        row, who = np.nonzero((grid[:, None] >= born) & (grid[:, None] <= died))
        if len(row):
            empty = False
            yield pa.table(
                {"symbol": names.take(pa.array(who)), TIME_COLUMN: pa.array(grid[row] + lag_us).cast(UTC_US)}
            )
    if empty:
        span = f"{format_us(int(born.min()))} to {format_us(int(died.max()))}"
        raise EmptyDataError(
            "no entity row lies in the chosen span", where=f"data from {span}", remedy="Choose another span"
        )


def _grid(
    sessions: SessionTimes, every: str, first_us: int, last_us: int, *, moments_max: int
) -> Iterator[NDArray[np.int64]]:
    """The moments from `first_us` to `last_us`, ascending, so many at a time."""
    here = (sessions.close_us >= first_us) & (sessions.open_us <= last_us)
    opens, closes = sessions.open_us[here], sessions.close_us[here]
    if every == SESSION:
        low, high, width = closes, closes, 1
    else:
        width = parse_duration_us(every)
        low, high = opens // width + 1, closes // width
    steps = np.maximum(high - low + 1, 0)
    if len(steps) and int(steps.max()) > ENTITY_ROWS_MAX:
        raise LimitError(f"a grid of {every} has more than {ENTITY_ROWS_MAX} moments", remedy="Use a wider one")
    ends = np.cumsum(steps)
    total = int(ends[-1]) if len(ends) else 0
    for begin, end in pairwise([*range(0, total, moments_max), total]):
        number = np.arange(begin, end)
        session = np.searchsorted(ends, number, side="right")
        moments = (low[session] + number - (ends[session] - steps[session])) * width
        inside = moments[(moments >= first_us) & (moments <= last_us)]
        if len(inside):
            yield inside


def require_known(symbols: Sequence[str], known: Mapping[str, object], where: str) -> None:
    """Refuse symbols without data.

    Raises
    ------
    UnknownNameError
        If one is not known; the message names the nearest.
    """
    for symbol in symbols:
        if symbol not in known:
            raise UnknownNameError("symbol", symbol, known, where=where)


def too_many(rows: int) -> LimitError:
    """The error of an entity set past its limit."""
    return LimitError(
        f"there are more than {rows:,} entity rows",
        where="export",
        remedy="Export shorter spans into folders of their own",
    )

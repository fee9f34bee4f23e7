"""Entity rows: which symbols at which moments. Read from a file, or generated from the venue's sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.compute.sessions import SessionTimes
from tapeline.core.errors import (
    EmptyDataError,
    InvalidDataError,
    LimitError,
    NaiveTimestampError,
    ParameterError,
    UnknownNameError,
)
from tapeline.core.timestamps import format_us, parse_duration_us, to_us

SESSION = "session"
ENTITY_ROWS_MAX = 50_000_000
TIME_COLUMN = "event_timestamp"
_UTC = pa.timestamp("us", tz="UTC")


def read_entities(path: Path, columns: Sequence[str] = ("symbol",)) -> pa.Table:
    """Entity rows from a Parquet or CSV file with the entity columns and ``event_timestamp``.

    In CSV, moments are ISO 8601 with their zone. Other columns are left out.

    Raises
    ------
    ParameterError
        If the file does not exist or has another ending.
    InvalidDataError
        If a column is missing, or a value is missing or malformed; the message names the row.
    NaiveTimestampError
        If a moment has no time zone.
    EmptyDataError
        If there are no rows.
    """
    if not path.is_file():
        raise ParameterError(f"{path} does not exist", where="--entities", remedy="Give a file, or symbols, or all")
    if path.suffix not in {".parquet", ".csv"}:
        raise ParameterError(f"{path} is neither .parquet nor .csv", where="--entities")
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise EmptyDataError("the entity file is empty", where=str(path)) from None
    except pl.exceptions.PolarsError as error:
        raise InvalidDataError(f"the entity file cannot be read: {error}", where=str(path)) from None
    missing = [name for name in (*columns, TIME_COLUMN) if name not in frame.columns]
    if missing:
        raise InvalidDataError(
            f"the entity file lacks {', '.join(missing)}",
            where=f"{path}, columns {', '.join(frame.columns)}",
            remedy=f"Name its columns {', '.join((*columns, TIME_COLUMN))}",
        )
    frame = frame.select(*columns, TIME_COLUMN)
    if frame.is_empty():
        raise EmptyDataError(
            "the entity file has no rows", where=str(path), remedy="Write a row for each symbol and moment"
        )
    for name in frame.columns:
        if frame[name].null_count():
            row = int(frame[name].is_null().arg_true()[0])
            raise InvalidDataError(f"{name} is missing", where=f"{path}, row {row}")
    kind = frame.schema[TIME_COLUMN]
    if kind == pl.String:
        moments = [to_us(text, where=f"{path}, row {row}") for row, text in enumerate(frame[TIME_COLUMN])]
        frame = frame.with_columns(pl.Series(TIME_COLUMN, moments, pl.Int64).cast(pl.Datetime("us", "UTC")))
    elif not isinstance(kind, pl.Datetime):
        raise InvalidDataError(f"{TIME_COLUMN} holds {kind}, not timestamps", where=str(path))
    elif kind.time_zone is None:
        raise NaiveTimestampError(frame[TIME_COLUMN][0], where=f"{path}, row 0, column {TIME_COLUMN}")
    return _typed(frame.to_arrow(), columns)


def entity_table(rows: pa.Table | pl.DataFrame, columns: Sequence[str] = ("symbol",)) -> pa.Table:
    """Entity rows from a table in memory: entity columns and an aware ``event_timestamp``; other columns are left out.

    Raises
    ------
    InvalidDataError, NaiveTimestampError, EmptyDataError
        As `read_entities`.
    """
    table = rows.to_arrow() if isinstance(rows, pl.DataFrame) else rows
    missing = [name for name in (*columns, TIME_COLUMN) if name not in table.column_names]
    if missing:
        raise InvalidDataError(f"the entity rows lack {', '.join(missing)}", where=f"columns {table.column_names}")
    if table.num_rows == 0:
        raise EmptyDataError("there are no entity rows")
    kind = table.schema.field(TIME_COLUMN).type
    if not pa.types.is_timestamp(kind):
        raise InvalidDataError(f"{TIME_COLUMN} holds {kind}, not timestamps", where="entity rows")
    if kind.tz is None:
        raise NaiveTimestampError(table.column(TIME_COLUMN)[0], where=f"entity rows, column {TIME_COLUMN}")
    for name in (*columns, TIME_COLUMN):
        if table.column(name).null_count:
            raise InvalidDataError(f"{name} is missing in some entity rows", where="entity rows")
    return _typed(table, columns)


def generate_entities(
    lifetimes: Mapping[str, tuple[int, int]],
    sessions: SessionTimes,
    *,
    symbols: Sequence[str] | None = None,
    every: str = SESSION,
    lag_us: int = 0,
    start_us: int | None = None,
    end_us: int | None = None,
) -> pa.Table:
    """Entity rows at each session's close, or on a grid inside each session.

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
        If there would be more than 50 million.
    """
    chosen = list(dict.fromkeys(symbols)) if symbols is not None else sorted(lifetimes)
    for symbol in chosen:
        if symbol not in lifetimes:
            raise UnknownNameError("symbol", symbol, lifetimes)
    if not chosen:
        raise EmptyDataError("no symbol has data", remedy="Ingest the source first: tapeline ingest --help")
    first = min(lifetimes[symbol][0] for symbol in chosen)
    last = max(lifetimes[symbol][1] for symbol in chosen)
    grid = _grid(sessions, every, first, last)
    parts: list[NDArray[np.int64]] = []
    for symbol in chosen:
        born, died = lifetimes[symbol]
        moments = grid[(grid >= born) & (grid <= died)] + lag_us
        if start_us is not None:
            moments = moments[moments >= start_us]
        if end_us is not None:
            moments = moments[moments <= end_us]
        parts.append(moments)
    count = sum(map(len, parts))
    if count > ENTITY_ROWS_MAX:
        raise LimitError(f"{count} entity rows are more than {ENTITY_ROWS_MAX}", remedy="Choose a shorter span")
    if count == 0:
        span = f"{format_us(first)} to {format_us(last)}"
        raise EmptyDataError(
            "no entity row lies in the chosen span", where=f"data from {span}", remedy="Choose another span"
        )
    names = np.repeat(np.asarray(chosen, dtype=object), [len(part) for part in parts])
    table = pa.table(
        {
            "symbol": pa.array(names, pa.string()),
            TIME_COLUMN: pa.array(np.concatenate(parts)).cast(_UTC),
        }
    )
    return _typed(table, ("symbol",))


def _grid(sessions: SessionTimes, every: str, first_us: int, last_us: int) -> NDArray[np.int64]:
    here = (sessions.close_us >= first_us) & (sessions.open_us <= last_us)
    if every == SESSION:
        return sessions.close_us[here]
    width = parse_duration_us(every)
    low = sessions.open_us[here] // width + 1
    high = sessions.close_us[here] // width
    steps = np.maximum(high - low + 1, 0)
    if int(steps.sum()) > ENTITY_ROWS_MAX:
        raise LimitError(f"a grid of {every} has more than {ENTITY_ROWS_MAX} moments", remedy="Use a wider one")
    starts = np.repeat(low - np.concatenate([[0], np.cumsum(steps)[:-1]]), steps)
    return (starts + np.arange(int(steps.sum()))) * width


def _typed(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The entity and time columns in Tapeline's types, ordered by time, then entity."""
    moments = table.column(TIME_COLUMN)
    if moments.type.unit == "ns":
        moments = pa.array(moments.cast(pa.int64()).to_numpy() // 1_000).cast(_UTC)
    data = {name: table.column(name) for name in columns} | {TIME_COLUMN: moments.cast(_UTC)}
    for name in columns:
        kind = data[name].type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind):
            data[name] = data[name].cast(pa.string())
    return pa.table(data).sort_by([(name, "ascending") for name in (TIME_COLUMN, *columns)])

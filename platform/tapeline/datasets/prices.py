"""Prices and splits as they had been recorded by a vintage, for labels and for generated entity rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from tapeline.core.timestamps import from_us
from tapeline.storage.copy_reader import describe, read_copy


@dataclass(frozen=True)
class Splits:
    """Versions of one symbol's splits; arrays of shape (versions,), ordered by event.

    Attributes
    ----------
    event_us
        The first event whose price is on the new basis.
    available_us, superseded_us
        From when on a version was known, and from when on another version of the same split was; the latter is none
        where no split was ever corrected or retracted.
    ratio
        New shares for one old share.
    """

    event_us: NDArray[np.int64]
    available_us: NDArray[np.int64]
    ratio: NDArray[np.float64]
    superseded_us: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Prices:
    """Prices of one symbol as traded; arrays of shape (rows,), ordered by event, and its splits."""

    event_us: NDArray[np.int64]
    price: NDArray[np.float64]
    splits: Splits


_NO_SPLITS = Splits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
NO_PRICES = Prices(np.empty(0, np.int64), np.empty(0), _NO_SPLITS)

_PRICES = """
    SELECT symbol, event_timestamp, price FROM (
        SELECT DISTINCT ON (symbol, event_timestamp, sequence)
            symbol, event_timestamp, sequence, {price} AS price, deleted
        FROM {table}
        WHERE source = {source} AND symbol = ANY({symbols}) AND created_timestamp <= {vintage}
            AND event_timestamp BETWEEN {first} AND {last}
        ORDER BY symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC, available_timestamp DESC) newest
    WHERE NOT deleted AND price > 0 AND price < 'Infinity'
    ORDER BY symbol, event_timestamp, sequence
"""
# A split at s belongs to trades from s on, but to bars that end after s.
_SPLITS = """
    SELECT symbol, event_timestamp + {reach} * interval '1 microsecond' AS event_timestamp, available_timestamp,
        coalesce(superseded, timestamptz '9999-12-31 00:00:00+00') AS superseded, ratio
    FROM (
        SELECT symbol, event_timestamp, sequence, available_timestamp, ratio, deleted,
            lead(available_timestamp) OVER (
                PARTITION BY symbol, event_timestamp, sequence ORDER BY available_timestamp, created_timestamp
            ) AS superseded
        FROM tapeline.corporate_actions
        WHERE kind = 'split' AND symbol = ANY({symbols}) AND created_timestamp <= {vintage}) versions
    WHERE NOT deleted
    ORDER BY symbol, event_timestamp, sequence, available_timestamp
"""
# The newest price of each symbol, by the index: a version counts where no later one of the same row does.
_LAST_PRICES = """
    SELECT wanted.symbol, newest.event_timestamp, newest.price
    FROM unnest({symbols}::text[]) AS wanted(symbol) CROSS JOIN LATERAL (
        SELECT t.event_timestamp, t.{price} AS price FROM {table} t
        WHERE t.source = {source} AND t.symbol = wanted.symbol AND t.created_timestamp <= {vintage}
            AND t.event_timestamp BETWEEN {first} AND {last}
            AND NOT t.deleted AND t.{price} > 0 AND t.{price} < 'Infinity'
            AND NOT EXISTS (
                SELECT FROM {table} n
                WHERE n.source = t.source AND n.symbol = t.symbol AND n.event_timestamp = t.event_timestamp
                    AND n.sequence = t.sequence AND n.created_timestamp <= {vintage}
                    AND (n.created_timestamp, n.available_timestamp) > (t.created_timestamp, t.available_timestamp))
        ORDER BY t.event_timestamp DESC LIMIT 1) newest
    ORDER BY wanted.symbol
"""
_LIFETIMES = """
    SELECT symbol, min(event_timestamp) AS first, max(event_timestamp) AS last FROM {table}
    WHERE source = {source} AND created_timestamp <= {vintage} AND NOT deleted
    GROUP BY symbol ORDER BY symbol
"""
_TABLES = {"bars": ("bars", "close"), "trades": ("trades", "price")}


def read_prices(
    connection: psycopg.Connection[Any],
    kind: str,
    source: str,
    symbols: Sequence[str],
    *,
    vintage_us: int,
    first_us: int,
    last_us: int,
) -> dict[str, Prices]:
    """Prices by symbol: closes of bars, or trades.

    Parameters
    ----------
    connection
        The database.
    kind
        ``bars`` or ``trades``.
    source
        Name of the source.
    symbols
        Which symbols; one without prices is left out of the result.
    vintage_us
        Only rows recorded by this moment count.
    first_us, last_us
        Bounds of the events that are needed, both included.
    """
    parts = _parts(kind, source, symbols, vintage_us, first_us, last_us)
    splits = {
        symbol: Splits(_moments(part[0]), _moments(part[1]), part[3], _moments(part[2]))
        for symbol, part in _by_symbol(connection, sql.SQL(_SPLITS).format(**parts))
    }
    return {
        symbol: Prices(_moments(part[0]), part[1], splits.get(symbol, _NO_SPLITS))
        for symbol, part in _by_symbol(connection, sql.SQL(_PRICES).format(**parts))
    }


def last_prices(
    connection: psycopg.Connection[Any],
    kind: str,
    source: str,
    symbols: Sequence[str],
    *,
    vintage_us: int,
    first_us: int,
    last_us: int,
) -> dict[str, tuple[int, float]]:
    """Event and value of the last price of each symbol that `read_prices` would give for the same choices."""
    parts = _parts(kind, source, symbols, vintage_us, first_us, last_us)
    return {
        symbol: (int(_moments(part[0])[0]), float(part[1][0]))
        for symbol, part in _by_symbol(connection, sql.SQL(_LAST_PRICES).format(**parts))
    }


def _parts(
    kind: str, source: str, symbols: Sequence[str], vintage_us: int, first_us: int, last_us: int
) -> dict[str, Any]:
    table, price = _TABLES[kind]
    return {
        "table": sql.Identifier("tapeline", table),
        "price": sql.Identifier(price),
        "source": sql.Literal(source),
        "symbols": sql.Literal(list(symbols)),
        "vintage": sql.Literal(from_us(vintage_us)),
        "first": sql.Literal(from_us(first_us)),
        "last": sql.Literal(from_us(last_us)),
        "reach": sql.Literal(1 if kind == "bars" else 0),
    }


def lifetimes(
    connection: psycopg.Connection[Any], kind: str, source: str, *, vintage_us: int
) -> dict[str, tuple[int, int]]:
    """First and last event of each symbol of a source, in microseconds, as recorded by a vintage."""
    query = sql.SQL(_LIFETIMES).format(
        table=sql.Identifier("tapeline", _TABLES[kind][0]),
        source=sql.Literal(source),
        vintage=sql.Literal(from_us(vintage_us)),
    )
    return {
        symbol: (int(_moments(part[0])[0]), int(_moments(part[1])[0])) for symbol, part in _by_symbol(connection, query)
    }


def _by_symbol(connection: psycopg.Connection[Any], query: sql.Composable) -> list[tuple[str, list[NDArray[Any]]]]:
    """The other columns of a result that is ordered by its first, ``symbol``, split where that changes."""
    with connection.transaction():
        table = read_copy(connection, query, describe(connection, query))
    if table.num_rows == 0:
        return []
    codes = table.column(0).combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    columns = [column.combine_chunks().to_numpy(zero_copy_only=False) for column in table.columns[1:]]
    names = codes.dictionary.to_pylist()
    return [(names[numbers[start]], [column[start:end] for column in columns]) for start, end in pairwise(bounds)]


def _moments(values: NDArray[Any]) -> NDArray[np.int64]:
    return values.astype("datetime64[us]").astype(np.int64)

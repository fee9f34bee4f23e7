"""Sources and instruments: the tables that raw data refers to. Appended idempotently, like it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from tapeline.core.errors import ConfigurationError
from tapeline.core.timestamps import from_us
from tapeline.storage.raw_tables import RawKind


@dataclass(frozen=True, slots=True)
class Source:
    """Where raw rows come from.

    Parameters
    ----------
    name
        Identifies it in every raw table.
    kind
        The one table its rows go to.
    declared_lag_us
        How long after its event a first sighting was available to a live system, µs. One that was declared too short
        cannot be mended by adding rows: declare a new source.
    calendar
        Exchange calendar of its sessions, for example ``XNYS``; none: its rows are not checked against sessions.
    description
        For people.
    """

    name: str
    kind: RawKind
    declared_lag_us: int = 0
    calendar: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One entry of the instrument master; times in µs since the epoch, UTC."""

    symbol: str
    venue: str
    calendar: str
    asset_class: str
    currency: str
    tick_size: float
    valid_from_us: int
    available_us: int
    multiplier: float = 1.0
    valid_to_us: int | None = None
    previous_symbol: str | None = None


def register_source(connection: psycopg.Connection[Any], source: Source) -> None:
    """Make a source known; nothing happens if it is known already as it is.

    Raises
    ------
    ConfigurationError
        If it is known with another kind, lag or calendar.
    """
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar, description)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (source) DO NOTHING",
            (source.name, source.kind, source.declared_lag_us, source.calendar, source.description),
        )
        cursor.execute("SELECT kind, declared_lag_us, calendar FROM tapeline.sources WHERE source = %s", (source.name,))
        stored = cursor.fetchone()
    declared = (source.kind, source.declared_lag_us, source.calendar)
    if stored != declared:
        names = ("kind", "declared lag in µs", "calendar")
        differences = [
            f"{name} is {old}, not {new}"
            for name, old, new in zip(names, stored or (), declared, strict=True)
            if old != new
        ]
        raise ConfigurationError(
            f"source {source.name} is declared otherwise: {'; '.join(differences)}",
            remedy="Rows already stored rest on that declaration: give the changed source a new name, such as"
            f" {source.name}-2",
        )


def find_source(connection: psycopg.Connection[Any], name: str) -> Source | None:
    """The source of this name, if there is one."""
    with connection.transaction(), connection.cursor(row_factory=class_row(Source)) as cursor:
        return cursor.execute(
            "SELECT source AS name, kind, declared_lag_us, calendar, description FROM tapeline.sources WHERE source = %s",
            (name,),
        ).fetchone()


def source_names(connection: psycopg.Connection[Any]) -> list[str]:
    """Names of all sources, sorted."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        return [row[0] for row in cursor.execute("SELECT source FROM tapeline.sources ORDER BY source")]


_INSTRUMENT_COLUMNS = (
    "symbol", "valid_from", "venue", "calendar", "asset_class", "currency", "tick_size", "multiplier", "valid_to",
    "previous_symbol",
)  # fmt: skip


def append_instruments(connection: psycopg.Connection[Any], instruments: Iterable[Instrument]) -> int:
    """Add the instruments that are new, or newer than what is stored; returns how many rows that were."""
    columns = sql.SQL(", ").join(map(sql.Identifier, _INSTRUMENT_COLUMNS))
    statement = sql.SQL("""
        INSERT INTO tapeline.instruments ({columns}, available_timestamp)
        SELECT v.* FROM (VALUES (%s::text, %s::timestamptz, %s::text, %s::text, %s::text, %s::text, %s::float8,
            %s::float8, %s::timestamptz, %s::text, %s::timestamptz)) v
        WHERE ROW(v.*) IS DISTINCT FROM (
            SELECT ROW({columns}, available_timestamp) FROM tapeline.instruments s
            WHERE s.symbol = v.column1 AND s.valid_from = v.column2 ORDER BY s.created_timestamp DESC LIMIT 1)
    """).format(columns=columns)
    rows = [
        (
            one.symbol, from_us(one.valid_from_us), one.venue, one.calendar, one.asset_class, one.currency,
            one.tick_size, one.multiplier, None if one.valid_to_us is None else from_us(one.valid_to_us),
            one.previous_symbol, from_us(one.available_us),
        )
        for one in instruments
    ]  # fmt: skip
    added = 0
    with connection.transaction(), connection.cursor() as cursor:
        for row in rows:
            added += cursor.execute(statement, row).rowcount
    return added


def read_instruments(connection: psycopg.Connection[Any], symbols: Sequence[str] | None = None) -> list[Instrument]:
    """The instrument master as it stands: of each symbol and validity interval the newest entry, sorted."""
    with connection.transaction(), connection.cursor(row_factory=class_row(Instrument)) as cursor:
        return cursor.execute(
            """
            SELECT DISTINCT ON (symbol, valid_from) symbol, venue, calendar, asset_class, currency, tick_size,
                multiplier, previous_symbol,
                (extract(epoch FROM valid_from) * 1000000)::bigint AS valid_from_us,
                (extract(epoch FROM valid_to) * 1000000)::bigint AS valid_to_us,
                (extract(epoch FROM available_timestamp) * 1000000)::bigint AS available_us
            FROM tapeline.instruments WHERE %(symbols)s::text[] IS NULL OR symbol = ANY(%(symbols)s)
            ORDER BY symbol, valid_from, created_timestamp DESC
            """,
            {"symbols": None if symbols is None else list(symbols)},
        ).fetchall()

"""How late a source's rows really arrive, learned from what was recorded, against the lag that it declares.

Two delays are measured:

- **arrival**: from the event to the moment the row was recorded here, of first sightings that arrived as they happened. Which
  those are, ``tapeline.live_sightings`` in the database decides: the event came after the source was registered, the row no
  more than 7 days after it, and together with none of more than 4 days before or after. So a load of history says nothing;
- **publication**: from the event to the moment that the source itself says it published the row, where it says so. A load of
  history tells that as well as a live feed.

A row *violates* its declared lag if it arrived after it claims to have been available: who trained on it as of that moment used
what nobody had. Adding rows cannot mend that; a new source with a longer lag can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_duration_us
from tapeline.features.versions import Integers
from tapeline.storage.copy_reader import read_query
from tapeline.storage.raw_tables import RAW_TABLES
from tapeline.storage.reference import Source

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
ROWS_MAX = 2_000_000
"""The newest live rows of a source that are looked at, and as many published ones."""
_STEPS_US = (
    *(SECOND_US * n for n in (1, 2, 5, 10, 15, 30)),
    *(MINUTE_US * n for n in (1, 2, 5, 10, 15, 20, 30)),
    *(HOUR_US * n for n in (1, 2, 4, 8, 12)),
)


@dataclass(frozen=True)
class Delay:
    """Delays of a group of rows.

    Attributes
    ----------
    group
        What the rows have in common, such as ``symbol AAPL``.
    rows
        How many.
    quantiles_us
        ``p50`` to ``max`` → µs, nearest rank.
    violations
        Rows that arrived after they claim to have been available; of published rows, those published later than the
        declared lag.
    """

    group: str
    rows: int
    quantiles_us: Mapping[str, int]
    violations: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, delays in seconds."""
        seconds = {f"{name}_s": value / SECOND_US for name, value in self.quantiles_us.items()}
        return {"group": self.group, "rows": self.rows, **seconds, "violations": self.violations}


@dataclass(frozen=True)
class LearnedLag:
    """What was learned of one source.

    Attributes
    ----------
    source
        As it is declared.
    registered
        When it was; only events of after that can be seen to arrive live.
    live, published
        Delays of arrival and of publication over all rows; none if there are no such rows.
    groups
        Delays of arrival, or where there are none of publication, by symbol group and by hour of the session.
    advice, suggested_us
        What to do, and the lag to declare instead; none if the declared lag holds.
    """

    source: Source
    registered: datetime
    live: Delay | None
    published: Delay | None
    groups: tuple[Delay, ...] = ()
    advice: str | None = None
    suggested_us: int | None = None

    @property
    def is_too_short(self) -> bool:
        """Whether rows arrived later than the declared lag lets them claim."""
        return self.live is not None and self.live.violations > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "source": self.source.name,
            "kind": self.source.kind,
            "declared_lag_s": self.source.declared_lag_us / SECOND_US,
            "registered": self.registered,
            "arrival": None if self.live is None else self.live.as_dict(),
            "publication": None if self.published is None else self.published.as_dict(),
            "groups": [group.as_dict() for group in self.groups],
            "too_short": self.is_too_short,
            "suggested_lag_s": None if self.suggested_us is None else self.suggested_us / SECOND_US,
            "advice": self.advice,
        }


def learn_lag(
    connection: psycopg.Connection[Any],
    source: Source,
    *,
    groups: Mapping[str, str] | None = None,
    open_us: Integers | None = None,
    since: datetime | None = None,
) -> LearnedLag:
    """Measure the delays of a source's rows.

    Parameters
    ----------
    connection
        Idle or in a transaction.
    source
        A registered source of bars, trades, quotes or book events.
    groups
        Symbol → group of symbols; each symbol is its own if not given.
    open_us
        int64: when the sessions of its calendar opened, rising; by hour only where given.
    since
        Look at events from here on.
    """
    registered, since = _registered(connection, source), since or datetime.fromisoformat("1980-01-01T00:00:00+00:00")
    live = _live_rows(connection, source, since)
    published = _published_rows(connection, source, since)
    arrival = _delay("all", live.arrival_us, live.late) if len(live) else None
    publication = None
    if len(published):
        publication = _delay("all", published.arrival_us, published.arrival_us > source.declared_lag_us)
    shown = live if len(live) else published
    too_late = live.late if len(live) else published.arrival_us > source.declared_lag_us
    found = [
        *_by_symbol(shown, too_late, groups or {}),
        *_by_hour(shown, too_late, open_us, ends=source.kind == "bars"),
    ]
    suggested, advice = _advice(source, arrival, publication)
    return LearnedLag(source, registered, arrival, publication, tuple(found), advice, suggested)


@dataclass(frozen=True)
class _Sightings:
    symbol: pa.ChunkedArray
    event_us: Integers
    arrival_us: Integers
    late: np.ndarray[Any, np.dtype[np.bool_]]

    def __len__(self) -> int:
        return len(self.event_us)


def _registered(connection: psycopg.Connection[Any], source: Source) -> datetime:
    row = connection.execute(
        "SELECT created_timestamp FROM tapeline.sources WHERE source = %s", (source.name,)
    ).fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def _live_rows(connection: psycopg.Connection[Any], source: Source, since: datetime) -> _Sightings:
    query = sql.SQL(
        "SELECT symbol, event_timestamp, available_timestamp, created_timestamp AS seen"
        " FROM tapeline.live_sightings({source}, {since}::timestamptz) ORDER BY event_timestamp DESC LIMIT {most}"
    )
    words = {"source": source.name, "since": since, "most": ROWS_MAX}
    with connection.transaction():
        rows = read_query(connection, query.format(**{name: sql.Literal(word) for name, word in words.items()}))
    return _sightings(rows)


def _published_rows(connection: psycopg.Connection[Any], source: Source, since: datetime) -> _Sightings:
    """First sightings that are available at another moment than the declared lag says: the source told when."""
    query = sql.SQL(
        "SELECT symbol, event_timestamp, available_timestamp, available_timestamp AS seen FROM ("
        " SELECT DISTINCT ON (symbol, event_timestamp, sequence) symbol, event_timestamp, available_timestamp FROM {table}"
        " WHERE source = {source} AND event_timestamp >= {since}::timestamptz"
        " ORDER BY symbol, event_timestamp, sequence, created_timestamp, available_timestamp) AS sighted"
        " WHERE available_timestamp <> event_timestamp + {lag} * interval '1 us' ORDER BY event_timestamp DESC LIMIT {most}"
    ).format(
        table=sql.Identifier(*RAW_TABLES[source.kind].name.split(".")),
        source=sql.Literal(source.name),
        since=sql.Literal(since.isoformat()),
        lag=sql.Literal(source.declared_lag_us),
        most=sql.Literal(ROWS_MAX),
    )
    with connection.transaction():
        rows = read_query(connection, query)
    return _sightings(rows)


def _sightings(table: pa.Table) -> _Sightings:
    event, available, seen = (
        np.ascontiguousarray(table.column(name).cast(pa.int64()).to_numpy())
        for name in ("event_timestamp", "available_timestamp", "seen")
    )
    return _Sightings(table.column("symbol"), event, seen - event, seen > available)


def _delay(group: str, delays_us: Integers, late: np.ndarray[Any, np.dtype[np.bool_]]) -> Delay:
    ordered = np.sort(delays_us)
    ranks = {name: max(int(np.ceil(at * len(ordered))), 1) - 1 for name, at in QUANTILES.items()}
    return Delay(group, len(ordered), {name: int(ordered[rank]) for name, rank in ranks.items()}, int(late.sum()))


def _by_symbol(rows: _Sightings, late: np.ndarray[Any, np.dtype[np.bool_]], groups: Mapping[str, str]) -> list[Delay]:
    if not len(rows):
        return []
    encoded = rows.symbol.combine_chunks().dictionary_encode()
    names = [groups.get(symbol, f"symbol {symbol}") for symbol in encoded.dictionary.to_pylist()]
    distinct = sorted(set(names))
    place = np.array([distinct.index(name) for name in names])[np.asarray(encoded.indices)]
    return [
        _delay(name, rows.arrival_us[place == number], late[place == number]) for number, name in enumerate(distinct)
    ]


def _by_hour(
    rows: _Sightings, late: np.ndarray[Any, np.dtype[np.bool_]], open_us: Integers | None, *, ends: bool
) -> list[Delay]:
    """By whole hours since the last open at the event; a bar, whose event is its end, belongs to the hour that it ends."""
    if open_us is None or not len(rows):
        return []
    moment_us = rows.event_us - ends
    session = np.searchsorted(open_us, moment_us, side="right") - 1
    inside = session >= 0
    hour = np.minimum((moment_us - open_us[np.maximum(session, 0)]) // HOUR_US, 24)
    return [
        _delay(f"hour {number + 1} of the session" if number < 24 else "later", rows.arrival_us[part], late[part])
        for number in np.unique(hour[inside]).tolist()
        for part in [inside & (hour == number)]
    ]


def _advice(source: Source, arrival: Delay | None, published: Delay | None) -> tuple[int | None, str | None]:
    if arrival is None:
        if published is None:
            return None, None
        return None, "it says itself when a row was published; no row has arrived live yet to compare with"
    if not arrival.violations:
        return None, None
    suggested = rounded_up(arrival.quantiles_us["p99.9"])
    name = f"{source.name}-2"
    return suggested, (
        f"{arrival.violations} of {arrival.rows} live rows arrived after they claim to have been available. A lag cannot be"
        f" mended in place: ingest under a new source with a longer one, such as --source {name} --lag"
        f" {format_duration_us(suggested)}, give the views that read it a new version, and back-fill those"
    )


def rounded_up(delay_us: int) -> int:
    """The next duration that a person would write: 90 s becomes 2 minutes, 50 minutes an hour, 30 hours two days."""
    for step in _STEPS_US:
        if delay_us <= step:
            return step
    return -(-delay_us // DAY_US) * DAY_US


def symbol_groups(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Symbol → venue and asset class, from the instrument master."""
    rows = connection.execute(
        "SELECT DISTINCT ON (symbol) symbol, venue, asset_class FROM tapeline.instruments"
        " ORDER BY symbol, valid_from DESC, created_timestamp DESC"
    ).fetchall()
    return {symbol: f"{venue} {asset_class}" for symbol, venue, asset_class in rows}


def seconds_text(delay_us: int) -> str:
    """A delay for people: ``850 ms``, ``12.4 s``, ``3 h 20 min``."""
    sign, size = ("−", -delay_us) if delay_us < 0 else ("", delay_us)
    if size < SECOND_US:
        return f"{sign}{size / 1000:.3g} ms"
    if size < 2 * MINUTE_US:
        return f"{sign}{size / SECOND_US:.1f} s"
    if size < 2 * HOUR_US:
        return f"{sign}{size // MINUTE_US} min {size % MINUTE_US // SECOND_US} s"
    if size < 2 * DAY_US:
        return f"{sign}{size // HOUR_US} h {size % HOUR_US // MINUTE_US} min"
    return f"{sign}{size / DAY_US:.1f} d"

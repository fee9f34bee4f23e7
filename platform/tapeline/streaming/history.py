"""Rows as events: what was recorded, of any time, in the order in which it became known, and checked rows of a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import from_us, to_us
from tapeline.streaming.codec import TEXTS, VALUES, Change, EventKind, Events, make_events
from tapeline.streaming.producer import Producer

ROWS = 10_000
"""Rows that are read at once."""


def recorded_events(
    connection: psycopg.Connection[Any],
    source: str,
    kind: EventKind,
    *,
    since_us: int,
    until_us: int,
) -> Iterator[Events]:
    """All versions of a source's raw rows that became available in [since, until), in that order.

    The first version of a key is a sighting, later ones are corrections, tombstones retractions.

    Parameters
    ----------
    connection
        Idle; a transaction of it lasts as long as the iterator.
    source, kind
        What to read.
    since_us, until_us
        Range of available times, µs.
    """
    columns = [name if name != "start_us" else "start_timestamp" for name in (*VALUES[kind], *TEXTS.get(kind, ()))]
    columns += ["side"] if kind in {EventKind.trades, EventKind.book_events} else []
    columns += ["action"] if kind is EventKind.book_events else []
    query = sql.SQL(
        "SELECT symbol, event_timestamp, sequence, available_timestamp, deleted,"
        " EXISTS (SELECT FROM {table} o WHERE o.source = r.source AND o.symbol = r.symbol"
        "  AND o.event_timestamp = r.event_timestamp AND o.sequence = r.sequence"
        "  AND (o.created_timestamp, o.available_timestamp) < (r.created_timestamp, r.available_timestamp)) AS known"
        "{columns} FROM {table} r WHERE source = %s AND available_timestamp >= %s AND available_timestamp < %s"
        " ORDER BY available_timestamp, created_timestamp, event_timestamp, sequence"
    ).format(
        table=sql.Identifier("tapeline", kind.name),
        columns=sql.SQL("").join(sql.SQL(", {}").format(sql.Identifier(name)) for name in columns),
    )
    with connection.transaction(), connection.cursor(name="tapeline_replay") as cursor:
        cursor.execute(query, (source, from_us(since_us), from_us(until_us)))
        while rows := cursor.fetchmany(ROWS):
            yield _events(kind, columns, rows)


def _events(kind: EventKind, columns: list[str], rows: list[tuple[Any, ...]]) -> Events:
    by_name = dict(zip(columns, zip(*(row[6:] for row in rows), strict=True), strict=True))
    values = np.empty((len(rows), len(VALUES[kind])))
    for place, name in enumerate(VALUES[kind]):
        if name == "start_us":
            values[:, place] = [to_us(start) for start in by_name["start_timestamp"]]
        else:
            values[:, place] = [np.nan if value is None else value for value in by_name[name]]
    return make_events(
        kind,
        [row[0] for row in rows],
        np.array([to_us(row[1]) for row in rows]),
        np.array([row[2] for row in rows]),
        np.array([to_us(row[3]) for row in rows]),
        values,
        change=np.array([Change.retraction if row[4] else Change.correction if row[5] else 0 for row in rows]),
        side=np.array(by_name["side"]) if "side" in by_name else 0,
        actions=by_name.get("action"),
        texts=[[text or "" for text in by_name[name]] for name in TEXTS.get(kind, ())],
    )


def events_of_rows(kind: EventKind, rows: pl.DataFrame, declared_lag_us: int) -> Events:
    """Checked rows as first sightings, available as `tapeline.storage.raw.append_rows` would say of their first sighting.

    Parameters
    ----------
    kind
        What they are.
    rows
        As `tapeline.ingestion.valid_rows` gives them, none of them a retraction.
    declared_lag_us
        Of their source.
    """
    event_us = rows["event_timestamp"].dt.epoch("us")
    published_us = rows["published_timestamp"].dt.epoch("us").fill_null(event_us + declared_lag_us)
    available_us = np.maximum(published_us.to_numpy(), event_us.to_numpy())
    values = np.empty((len(rows), len(VALUES[kind])))
    for place, name in enumerate(VALUES[kind]):
        column = rows["start_timestamp"].dt.epoch("us") if name == "start_us" else rows[name]
        values[:, place] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return make_events(
        kind,
        rows["symbol"].to_list(),
        event_us.to_numpy(),
        rows["sequence"].to_numpy(),
        available_us,
        values,
        side=rows["side"].fill_null(0).cast(pl.Int64).to_numpy() if "side" in rows.columns else 0,
        actions=rows["action"].to_list() if kind is EventKind.book_events else None,
        texts=[rows[name].fill_null("").to_list() for name in TEXTS.get(kind, ())],
    )


def paced(producer: Producer, events: Iterable[Events], speed: float = 0.0) -> int:
    """Send events of the past into a stream that a worker computes from as if they happened now.

    Parameters
    ----------
    producer
        Of the stream to send to. Where its source has an event already, that changes nothing.
    events
        In the order in which they became available.
    speed
        How much faster than it happened; 0: as fast as workers take it.

    Returns
    -------
    int
        Events sent.

    Raises
    ------
    ParameterError
        If the speed is negative.
    LimitError, UnavailableError
        As :meth:`tapeline.streaming.producer.Producer.send`.
    """
    if speed < 0:
        raise ParameterError(f"speed is {speed}", remedy="Give 0 for no pacing, or more")
    sent = 0
    began_s, began_us = time.monotonic(), None
    for some in events:
        if speed == 0:
            sent += producer.send(some)
            continue
        available = some.records["available_us"]
        began_us = int(available[0]) if began_us is None else began_us
        for moment_us in np.unique(available).tolist():
            pause_s = (moment_us - began_us) / 1e6 / speed - (time.monotonic() - began_s)
            if pause_s > 0:
                time.sleep(pause_s)
            sent += producer.send(some.chosen(np.flatnonzero(available == moment_us)))
    return sent

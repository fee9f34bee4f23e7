"""Writes raw rows and feature rows to PostgreSQL, together with the position in the stream that they reach.

Raw rows of one kind, the feature rows computed from them, the position and the audit of late rows are one transaction. It
compares the epoch of each partition first, so a worker that lost a partition writes nothing more of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from tapeline.core.errors import FencedError
from tapeline.core.timestamps import from_us
from tapeline.storage.feature_tables import append_rows as append_features
from tapeline.storage.following import append_following
from tapeline.storage.keyed_rows import KeyedTable, append_keyed
from tapeline.storage.raw import AppendCounts, append_rows
from tapeline.streaming.batches import Batch, RawRows
from tapeline.streaming.codec import ACTIONS, TEXTS, VALUES, Change, EventKind
from tapeline.streaming.lane import Position
from tapeline.streaming.plan import StreamPlan

_UTC = pl.Datetime("us", "UTC")
_NEWS = KeyedTable(
    "tapeline.news", ("source", "symbol"), "event_timestamp", "available_timestamp", "created_timestamp", "sequence"
)


@dataclass(frozen=True)
class Claim:
    """What PostgreSQL says of a partition: its new epoch, and of each kind the position reached."""

    epoch: int
    positions: Mapping[EventKind, Position]


def claim(connection: psycopg.Connection[Any], plan: StreamPlan, partition: int, incarnation: str) -> Claim:
    """Take a partition over: whoever had it before can write no more.

    Parameters
    ----------
    connection
        Idle.
    plan
        The stream.
    partition
        Which.
    incarnation
        Of the Redis stream; positions of another one are forgotten.
    """
    with connection.transaction():
        rows = connection.execute(
            "INSERT INTO tapeline.stream_positions AS p (stream, partition, kind, incarnation)"
            " SELECT %(stream)s, %(partition)s, kind, %(incarnation)s FROM unnest(%(kinds)s::text[]) AS kind"
            " ON CONFLICT (stream, partition, kind) DO UPDATE SET epoch = p.epoch + 1,"
            " id_ms = CASE WHEN p.incarnation = excluded.incarnation THEN p.id_ms ELSE 0 END,"
            " id_part = CASE WHEN p.incarnation = excluded.incarnation THEN p.id_part ELSE 0 END,"
            " incarnation = excluded.incarnation, updated_timestamp = now()"
            " RETURNING kind, epoch, id_ms, id_part",
            {
                "stream": stream_label(plan),
                "partition": partition,
                "incarnation": incarnation,
                "kinds": [kind.name for kind in EventKind],
            },
        ).fetchall()
    return Claim(max(epoch for _, epoch, _, _ in rows), {EventKind[kind]: (ms, part) for kind, _, ms, part in rows})


def stream_label(plan: StreamPlan) -> str:
    """How PostgreSQL calls a stream: two projects may use one database."""
    return f"{plan.project}/{plan.name}"


def write_batch(
    connection: psycopg.Connection[Any], plan: StreamPlan, batch: Batch, epochs: Mapping[int, int]
) -> AppendCounts | None:
    """Write a batch in one transaction; none if it stands there already.

    Parameters
    ----------
    connection
        Idle.
    plan
        The stream.
    batch
        What to write.
    epochs
        The worker's epoch of each partition.

    Raises
    ------
    FencedError
        If a partition has another owner; nothing is written.
    UnavailableError, DiskFullError
        If the server is away or full; the batch may be written again.
    InvalidDataError
        If the database refuses a row.
    """
    if _is_written(connection, plan, batch, epochs):
        return None

    def also(cursor: psycopg.Cursor[Any], _: AppendCounts) -> None:
        _advance(cursor, plan, batch, epochs)
        for rows in batch.features:
            missing = np.zeros(len(rows.event_us), dtype=np.bool_)
            append_features(
                cursor, rows.spec, rows.names(), rows.event_us, rows.sequence, rows.available_us, missing, rows.outputs
            )
        _write_audits(cursor, plan, batch)

    if batch.following:
        counts = _append_following(connection, plan, batch, also)
        if counts is not None:
            return counts
    frame = _frame(batch)
    if batch.kind is EventKind.news:
        return _append_news(connection, plan, frame, also)
    return append_rows(connection, batch.kind.name, frame, plan.source, also=also)  # type: ignore[arg-type]


def _append_following(
    connection: psycopg.Connection[Any],
    plan: StreamPlan,
    batch: Batch,
    also: Callable[[psycopg.Cursor[Any], AppendCounts], None],
) -> AppendCounts | None:
    """Append rows that continued their symbols, unless others stored such rows meanwhile."""
    rows = RawRows.joined(batch.raw)
    used, first = np.unique(rows.name, return_index=True)
    frame = _piece(batch.kind, rows).drop("deleted").rename({"published_timestamp": "available_timestamp"})
    return append_following(
        connection,
        batch.kind.name,  # type: ignore[arg-type]
        frame.to_arrow(),
        plan.source,
        symbols=[rows.names[place] for place in used.tolist()],
        first_event_us=rows.records["event_us"][first],
        first_sequence=rows.records["sequence"][first],
        also=also,
    )


def _is_written(connection: psycopg.Connection[Any], plan: StreamPlan, batch: Batch, epochs: Mapping[int, int]) -> bool:
    """Whether a commit that was not answered took place after all."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        found = _positions(cursor, plan, batch, epochs, "")
    return all(found[partition] >= position for partition, position in batch.positions.items())


def _positions(
    cursor: psycopg.Cursor[Any], plan: StreamPlan, batch: Batch, epochs: Mapping[int, int], lock: str
) -> dict[int, Position]:
    rows = cursor.execute(
        "SELECT partition, epoch, id_ms, id_part FROM tapeline.stream_positions"
        " WHERE stream = %s AND kind = %s AND partition = ANY(%s) ORDER BY partition" + lock,
        (stream_label(plan), batch.kind.name, list(batch.positions)),
    ).fetchall()
    for partition, epoch, _, _ in rows:
        if epoch != epochs.get(partition):
            raise FencedError(
                f"partition {partition} has another owner, of epoch {epoch}",
                where=f"stream {plan.name}, epoch {epochs.get(partition)} here",
                remedy="Nothing is lost: the new owner goes on where this one was",
            )
    return {partition: (ms, part) for partition, _, ms, part in rows}


def _advance(cursor: psycopg.Cursor[Any], plan: StreamPlan, batch: Batch, epochs: Mapping[int, int]) -> None:
    _positions(cursor, plan, batch, epochs, " FOR UPDATE")
    cursor.executemany(
        "UPDATE tapeline.stream_positions SET id_ms = %s, id_part = %s, updated_timestamp = now()"
        " WHERE stream = %s AND partition = %s AND kind = %s",
        [
            (ms, part, stream_label(plan), partition, batch.kind.name)
            for partition, (ms, part) in batch.positions.items()
        ],
    )


def _write_audits(cursor: psycopg.Cursor[Any], plan: StreamPlan, batch: Batch) -> None:
    if batch.audits:
        cursor.executemany(
            "INSERT INTO tapeline.stream_repairs (stream, partition, kind, symbol, event_timestamp, sequence,"
            " available_timestamp, reason, late_us, id_ms, id_part) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    stream_label(plan),
                    audit.partition,
                    batch.kind.name,
                    audit.symbol,
                    from_us(audit.event_us),
                    audit.sequence,
                    from_us(audit.available_us),
                    audit.reason,
                    audit.late_us,
                    *audit.position,
                )
                for audit in batch.audits
            ],
        )


def _frame(batch: Batch) -> pl.DataFrame:
    """The raw rows with the columns of their table; ``published_timestamp`` is when they count as available."""
    return pl.concat([_piece(batch.kind, rows) for rows in batch.raw])


def _piece(kind: EventKind, rows: RawRows) -> pl.DataFrame:
    records = rows.records
    columns: dict[str, pl.Series | pl.Expr] = {
        "symbol": pl.Series(list(rows.names), dtype=pl.String).gather(rows.name),
        "event_timestamp": pl.Series(np.ascontiguousarray(records["event_us"])).cast(_UTC),
        "sequence": pl.Series(np.ascontiguousarray(records["sequence"])),
        "published_timestamp": pl.Series(rows.available_us).cast(_UTC),
        "deleted": pl.Series(records["change"] == Change.retraction),
    }
    for place, name in enumerate(VALUES[kind]):
        values = pl.Series(np.ascontiguousarray(records["values"][:, place]))
        if name == "start_us":
            columns["start_timestamp"] = values.cast(pl.Int64).cast(_UTC)
        else:
            columns[name] = values
    for name, texts in zip(TEXTS.get(kind, ()), rows.texts, strict=True):
        columns[name] = pl.Series(list(texts), dtype=pl.String)
    if kind in {EventKind.trades, EventKind.book_events}:
        columns["side"] = pl.Series(np.ascontiguousarray(records["side"]))
    if kind is EventKind.book_events:
        columns["action"] = pl.Series([ACTIONS[number] for number in records["extra"].tolist()], dtype=pl.String)
    return pl.DataFrame(columns)


def _append_news(
    connection: psycopg.Connection[Any],
    plan: StreamPlan,
    frame: pl.DataFrame,
    also: Callable[[psycopg.Cursor[Any], AppendCounts], None],
) -> AppendCounts:
    def judge(open_connection: psycopg.Connection[Any], _: pa.Table) -> None:
        with open_connection.cursor(row_factory=tuple_row) as cursor:
            also(cursor, AppendCounts())

    rows = frame.rename({"published_timestamp": "available_timestamp"}).with_columns(source=pl.lit(plan.source))
    return append_keyed(connection, _NEWS, rows.to_arrow(), judge=judge)

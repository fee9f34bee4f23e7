"""Refused rows: kept with the rule they broke, listed, and replayed when the rule or the row has been put right."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
from psycopg.rows import class_row, tuple_row

from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import InvalidDataError, ParameterError, UnknownNameError
from tapeline.core.hashing import canonical_json
from tapeline.ingestion.actions import ActionChecks
from tapeline.ingestion.inputs import Batch
from tapeline.ingestion.layout import COLUMNS, Layout
from tapeline.ingestion.reading import UTC_US
from tapeline.ingestion.validation import Checked, Validator
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.raw import append_rows
from tapeline.storage.raw_tables import RAW_TABLES
from tapeline.storage.reference import Source, find_source, read_instruments

_READING = "reading"  # key in the content: how its values are to be read


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One row in quarantine.

    Parameters
    ----------
    id
        Its number.
    source, table_name
        Where it was to go.
    location
        Input and row.
    rule, reason
        What was wrong.
    content
        Our column → value as it came, as text; and under ``reading`` how to read the values.
    created_timestamp, replayed_timestamp
        When it was refused, and when it was accepted after all.
    """

    id: int
    source: str
    table_name: str
    location: str
    rule: str
    reason: str
    content: dict[str, Any]
    created_timestamp: datetime
    replayed_timestamp: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """JSON form; edited, it can be given to :func:`replay`."""
        return {
            "id": self.id,
            "source": self.source,
            "table": self.table_name,
            "location": self.location,
            "rule": self.rule,
            "reason": self.reason,
            "content": self.content,
            "refused": self.created_timestamp.isoformat(),
            "replayed": None if self.replayed_timestamp is None else self.replayed_timestamp.isoformat(),
        }


@dataclass(slots=True)
class ReplayReport:
    """What a replay did: rows accepted, by what that meant for the table, and those still refused with the reason."""

    accepted: int = 0
    added: int = 0
    corrections: int = 0
    unchanged: int = 0
    refused: dict[int, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "accepted": self.accepted,
            "added": self.added,
            "corrections": self.corrections,
            "unchanged": self.unchanged,
            "refused": {str(place): reason for place, reason in self.refused.items()},
        }


def store_refused(
    connection: psycopg.Connection[Any], source: Source, where: str, layout: Layout, checked: Checked
) -> Counter[str]:
    """Put a batch's bad rows into quarantine; those that are there already are not added again.

    Returns
    -------
    Counter
        Number of bad rows by rule.
    """
    if checked.bad.is_empty():
        return Counter()
    reading = layout.reading()
    contents = {
        row.pop("row"): canonical_json({**{k: v for k, v in row.items() if v is not None}, _READING: reading})
        for row in checked.content.to_dicts()
    }
    ordered = [contents[row] for row in checked.bad["row"]]
    table = pa.table(
        {
            "location": pa.array([f"{where}, row {row}" for row in checked.bad["row"]]),
            "rule": checked.bad["rule"].to_arrow(),
            "reason": checked.bad["reason"].to_arrow(),
            "content": pa.array([content.decode() for content in ordered]),
            "content_sha256": pa.array([hashlib.sha256(content).hexdigest() for content in ordered]),
        }
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE refused (location text, rule text, reason text, content jsonb, content_sha256 text)"
            " ON COMMIT DROP"
        )
        copy_arrow(cursor, table, "pg_temp.refused")
        cursor.execute(
            "INSERT INTO tapeline.quarantine (source, table_name, location, rule, reason, content, content_sha256)"
            " SELECT %s, %s, * FROM pg_temp.refused ON CONFLICT DO NOTHING",
            (source.name, source.kind),
            prepare=False,
        )
        cursor.execute("DROP TABLE pg_temp.refused")
    return Counter(checked.bad["rule"].to_list())


def list_refused(
    connection: psycopg.Connection[Any],
    *,
    source: str | None = None,
    ids: Sequence[int] | None = None,
    replayed: bool = False,
    limit: int = 1_000,
) -> list[RefusedRow]:
    """Rows in quarantine, oldest first.

    Parameters
    ----------
    connection
        To the database.
    source
        Only this source's.
    ids
        Only these.
    replayed
        Whether to list also those that were accepted by a replay.
    limit
        At most so many.
    """
    with connection.transaction(), connection.cursor(row_factory=class_row(RefusedRow)) as cursor:
        return cursor.execute(
            """
            SELECT id, source, table_name, location, rule, reason, content, created_timestamp, replayed_timestamp
            FROM tapeline.quarantine
            WHERE (%(source)s::text IS NULL OR source = %(source)s) AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
              AND (%(replayed)s OR replayed_timestamp IS NULL)
            ORDER BY id LIMIT %(limit)s
            """,
            {"source": source, "ids": None if ids is None else list(ids), "replayed": replayed, "limit": limit},
        ).fetchall()


def replay(
    connection: psycopg.Connection[Any],
    ids: Sequence[int] | None = None,
    *,
    edits: Mapping[int, Mapping[str, str | None]] | None = None,
    clock: Clock | None = None,
) -> ReplayReport:
    """Validate rows in quarantine again, and move those that are good now into their tables.

    A row as it came is available as if it had never been refused. An edited one is available from now on only, unless
    the edit says when it was published: nobody could have used the repaired value before.

    Parameters
    ----------
    connection
        To the database, outside a transaction.
    ids
        Which rows; all that were not replayed yet if none.
    edits
        For some ids, our column → new value as text, or None for a missing one.
    clock
        Says when edited rows arrive.

    Raises
    ------
    UnknownNameError
        If an id is not in quarantine, or an edit names a column that the table does not have.
    """
    edits = edits or {}
    rows = list_refused(connection, ids=ids, limit=2**31)
    found = {row.id for row in rows}
    for wanted in (*(ids or ()), *edits):
        if wanted not in found:
            waiting = [str(row.id) for row in list_refused(connection)]
            raise UnknownNameError("row waiting in quarantine", str(wanted), waiting)
    edits = {
        row.id: {name: value for name, value in edits.get(row.id, {}).items() if row.content.get(name) != value}
        for row in rows
    }
    groups: dict[tuple[str, str, bytes], list[RefusedRow]] = {}
    for row in rows:
        key = (row.source, row.table_name, canonical_json(row.content.get(_READING, {})))
        groups.setdefault(key, []).append(row)
    report = ReplayReport()
    for (name, _, reading), group in groups.items():
        source = find_source(connection, name)
        if source is None:
            raise InvalidDataError(f"source {name} is no longer known", where=f"quarantine {group[0].id}")
        _replay_group(connection, source, Layout(**json.loads(reading)), group, edits, clock or LiveClock(), report)
    return report


def _replay_group(
    connection: psycopg.Connection[Any],
    source: Source,
    layout: Layout,
    rows: Sequence[RefusedRow],
    edits: Mapping[int, Mapping[str, str | None]],
    clock: Clock,
    report: ReplayReport,
) -> None:
    names = COLUMNS[source.kind]
    values: list[dict[str, str | None]] = []
    for row in rows:
        edit = edits[row.id]
        unknown = [name for name in edit if name not in names]
        if unknown:
            raise UnknownNameError(f"column of {source.kind}", unknown[0], names, where=f"quarantine {row.id}")
        content: dict[str, str | None] = {**row.content, **edit}
        values.append({name: content.get(name) for name in names})
    frame = pl.DataFrame(values, schema=dict.fromkeys(names, pl.String))
    ids = np.array([row.id for row in rows], dtype=np.int64)
    instruments = read_instruments(connection, frame["symbol"].drop_nulls().unique().to_list())
    actions = ActionChecks(connection, source, instruments) if source.kind == "actions" else None
    columns = {name: name for name in names}
    validator = Validator(source, columns, layout, instruments, "quarantine", actions=actions, in_order=False)
    checked = validator.check(Batch(ids, frame))
    report.refused.update(dict(checked.bad.select("row", "reason").rows()))
    if checked.good.is_empty():
        return
    edited = pl.col("row").is_in([number for number, edit in edits.items() if edit])
    arrival = pl.lit(clock.now_us()).cast(UTC_US)
    if not RAW_TABLES[source.kind].announced:
        arrival = pl.max_horizontal(arrival, "event_timestamp")
    good = checked.good.with_columns(
        published_timestamp=pl.when(edited & pl.col("published_timestamp").is_null())
        .then(arrival)
        .otherwise("published_timestamp")
    )
    counts = append_rows(
        connection, source.kind, good.drop("row"), source.name, declared_lag_us=source.declared_lag_us, clock=clock
    )
    report.accepted += len(good)
    report.added += counts.added
    report.corrections += counts.corrections
    report.unchanged += counts.unchanged
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "UPDATE tapeline.quarantine SET replayed_timestamp = now() WHERE id = ANY(%s)", (good["row"].to_list(),)
        )


def parse_edits(listed: Any) -> dict[int, dict[str, str | None]]:
    """Edits from the JSON that the listing prints: objects with ``id`` and ``content``.

    Raises
    ------
    ParameterError
        If it is anything else.
    """
    entries = listed if isinstance(listed, list) else [listed]
    edits: dict[int, dict[str, str | None]] = {}
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("id"), int)
            or not isinstance(entry.get("content"), dict)
        ):
            raise ParameterError(
                "an edit is an object with an id and a content", remedy="Start from: tapeline quarantine list --json"
            )
        content = cast("dict[str, Any]", entry["content"])
        edits[entry["id"]] = {
            name: None if value is None else str(value) for name, value in content.items() if name != _READING
        }
    return edits

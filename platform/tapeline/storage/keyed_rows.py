"""Idempotent appends to any table whose rows have a key: entity columns, event time and perhaps a sequence.

A key that the table does not hold is a first sighting. One whose newest stored row says something else gets a correction,
a newer row; one whose newest stored row says the same gets nothing. So a write may be repeated, by its caller or after a
lost connection, and the table comes out the same. All of it happens in the database: COPY to a temporary table, one
statement that finds the newest stored row of each key, one insert, one transaction.

A first sighting is available when it says so, a row that does not say from its arrival. A correction is available when it
says so if that lies after the row it corrects became available, else from its arrival: what was visible before stays.

Several versions of one key in one batch are its history, in the order of their available times. Those before the last are
written if they come after what is stored; else they had been superseded before they arrived.

A table without a created column keeps no order among versions of one available time. There a row that is stored already is
not added again, and everything else is appended as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import InvalidDataError, LimitError, NaiveTimestampError, SchemaError
from tapeline.core.timestamps import from_us
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.keyed_statements import KeyedStatements
from tapeline.storage.raw import AppendCounts
from tapeline.storage.retrying import write_faults
from tapeline.storage.tall_statements import Members, TallStatements
from tapeline.storage.turns import turn

ROWS_MAX = 10_000_000
"""Rows of one append, which is one transaction."""
# The last is raised for a value too long for an index.
_REFUSALS = (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.ProgramLimitExceeded)


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """A table whose rows have a key, by the names of its columns.

    Parameters
    ----------
    table
        Its name, possibly with its schema.
    entity_columns
        What a row is about; may be empty.
    event_column
        The moment that a row describes.
    available_column
        The earliest moment at which a row could have been used.
    created_column
        When a row was written. Where the database has a default for it, that is what counts.
    sequence_column
        What orders rows of one moment.
    members
        If the table holds a row as several, one for each of its members: what these are. It has an available and a created
        column then.
    """

    table: str
    entity_columns: tuple[str, ...]
    event_column: str
    available_column: str | None = None
    created_column: str | None = None
    sequence_column: str | None = None
    members: Members | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        sequence = () if self.sequence_column is None else (self.sequence_column,)
        return (*self.entity_columns, self.event_column, *sequence)


def append_keyed(
    connection: psycopg.Connection[Any],
    target: KeyedTable,
    rows: pa.Table,
    *,
    clock: Clock | None = None,
    rows_max: int = ROWS_MAX,
    lag_us: int | None = None,
    judge: Callable[[psycopg.Connection[Any], pa.Table], None] | None = None,
) -> AppendCounts:
    """Append rows in one transaction, adding only what is new or changed.

    Two writers to one table take turns, so a row that both send is added once.

    Parameters
    ----------
    connection
        Not inside a transaction.
    target
        The table.
    rows
        Columns by their names in the table; those that are left out take their defaults.
    clock
        Says when rows arrive; the machine's clock if none.
    rows_max
        Most rows to take.
    lag_us
        How long after its event a first sighting is available that does not say; none: from its arrival. Microseconds.
    judge
        Asked about the rows in the transaction that writes them; an error of it ends that.

    Raises
    ------
    InvalidDataError
        If a column is unknown, missing or of a wrong type, a key has a NULL, a row is available before its event, one key
        comes twice with different content for one available time, or the table refuses a row.
    NaiveTimestampError
        If a time has no zone.
    LimitError
        If there are too many rows.
    SchemaError
        If the table does not exist.
    ParameterError
        If the connection is inside a transaction, or its role may not write.
    UnavailableError, DiskFullError
        If the server goes away or has no room. As after every error, nothing of the batch is in the table then, unless
        the connection was lost while the commit was on its way; repeating the call is safe.
    """
    _check_size(rows, target, rows_max)
    with write_faults(target.table):
        facts = _column_facts(connection, target)
        if facts.get(target.created_column or "", (None, False))[1]:  # the database sets it
            rows = rows.drop_columns([name for name in (target.created_column,) if name in rows.column_names])
        _check_columns(rows, target, {*facts, *(target.members.kept if target.members else ())})
        if rows.num_rows == 0:
            return AppendCounts()
        statements = _statements(target, rows, facts, lag_us, clock or LiveClock())
        # By its number, as one table has several names.
        with (
            turn(connection, f"append:{facts.oid}"),
            connection.transaction(),
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            if judge is not None:
                judge(connection, rows)
            try:
                return _append(cursor, statements, rows)
            except _REFUSALS as error:
                raise _refused(error, target) from error


def _statements(target: KeyedTable, rows: pa.Table, facts: _Facts, lag_us: int | None, clock: Clock) -> KeyedStatements:
    arguments = (
        target.table,
        target.key,
        target.event_column,
        target.sequence_column,
        target.available_column,
        target.created_column,
        tuple(rows.column_names),
        {name: kind for name, (kind, _) in facts.items()},
        from_us(clock.now_us()),
        lag_us,
    )
    return KeyedStatements(*arguments) if target.members is None else TallStatements(*arguments, target.members)


class _Facts(dict[str, tuple[str, bool]]):
    """Of each column its type's name, and whether the database sets it; and the table's number."""

    oid: int = 0


def _column_facts(connection: psycopg.Connection[Any], target: KeyedTable) -> _Facts:
    name = sql.Identifier(*target.table.split(".")).as_string(connection)
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            "SELECT attrelid::bigint, attname, format_type(atttypid, NULL), atthasdef OR attidentity <> ''"
            " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (name,),
        ).fetchall()
    if not rows:
        raise SchemaError(
            f"table {target.table} does not exist", remedy="Create it first, or check the name in the data source"
        )
    facts = _Facts({column: (kind, by_default) for _, column, kind, by_default in rows})
    facts.oid = rows[0][0]
    return facts


def _check_size(rows: pa.Table, target: KeyedTable, rows_max: int) -> None:
    if rows.num_rows > rows_max:
        raise LimitError(
            f"{rows.num_rows:,} rows in one batch; at most {rows_max:,} can be written together",
            where=target.table,
            remedy="Write them in several batches",
        )


def _check_columns(rows: pa.Table, target: KeyedTable, known: set[str]) -> None:
    names = rows.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidDataError(f"the rows have several columns {', '.join(twice)}", where=target.table)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidDataError(
            f"the table has no column {', '.join(unknown)}",
            where=target.table,
            remedy=f"It has: {', '.join(sorted(known))}",
        )
    missing = [name for name in target.key if name not in names]
    if missing:
        raise InvalidDataError(
            f"the rows lack {', '.join(missing)}, by which a row is known again",
            where=target.table,
            remedy=f"They have: {', '.join(names)}",
        )
    for field in rows.schema:
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            raise NaiveTimestampError(f"of type {field.type}", where=f"{target.table}, column {field.name}")
    for name in (*target.entity_columns, target.event_column):
        if rows.column(name).null_count:
            row = pc.index(pc.is_null(rows.column(name)), True).as_py()
            raise InvalidDataError(f"column {name} has no value", where=f"{target.table}, row {row}")


def _append(cursor: psycopg.Cursor[Any], statements: KeyedStatements, rows: pa.Table) -> AppendCounts:
    cursor.execute(statements.stage(), prepare=False)
    numbered = rows.append_column(statements.place, pa.array(np.arange(rows.num_rows)))
    copy_arrow(cursor, numbered, statements.staged, numbered.column_names)
    cursor.execute(statements.analyze(), prepare=False)
    first, last, early, repeats = cursor.execute(statements.survey(), prepare=False).fetchone() or (None,) * 4
    if early is not None:
        raise InvalidDataError("a row is available before its event", where=_place(cursor, statements, early))
    if repeats:
        conflict = cursor.execute(statements.conflict(), prepare=False).fetchone()
        if conflict is not None:
            raise InvalidDataError(
                "one key comes twice with different content",
                where=_place(cursor, statements, conflict[0]),
                remedy="Send the correction as a batch of its own, or say when each became available",
            )
        cursor.execute(statements.drop_repeats(), prepare=False)
        if statements.created is not None:
            cursor.execute(statements.mark_versions(), prepare=False)
    added, corrections = cursor.execute(statements.append(str(first), str(last)), prepare=False).fetchone() or (0, 0)
    cursor.execute(statements.drop(), prepare=False)
    return AppendCounts(added=added, corrections=corrections, unchanged=rows.num_rows - added - corrections)


def _place(cursor: psycopg.Cursor[Any], statements: KeyedStatements, row: int) -> str:
    """A row of the batch in words."""
    values = cursor.execute(statements.key_of(row), prepare=False).fetchone() or ()
    key = ", ".join(f"{name} {value}" for name, value in zip(statements.key, values, strict=False))
    return f"{statements.table}, row {row}: {key}"


def _refused(error: psycopg.Error, target: KeyedTable) -> InvalidDataError:
    remedy = None
    if isinstance(error, psycopg.errors.UniqueViolation):
        remedy = "Its unique key leaves no room for corrections: add the available or the created column to it"
    detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
    return InvalidDataError(
        f"a row was refused: {error.diag.message_primary or error}{detail}", where=target.table, remedy=remedy
    )

"""What was recorded between two moments: raw rows and corporate actions, each beside the version that it replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from tapeline.core.timestamps import format_us, from_us
from tapeline.storage.copy_reader import read_query
from tapeline.storage.raw_tables import RAW_TABLES

CHANGES_MAX = 500_000
"""Changes of one table that are held at once; of more, those of the newest events."""
_STEPS_MAX = 10_000
"""How far back the search for what a row may have known goes on."""

Integers = NDArray[np.int64]


class Cause(StrEnum):
    """Why a cell of a data set differs between two recording times."""

    LATE_ROW = "late row"
    """A row of an event that had none recorded before."""
    CORRECTION = "correction"
    """A newer row of an event that had one."""
    RETRACTION = "retraction"
    """A row was withdrawn."""
    SPLIT = "split"
    """A split was recorded, corrected or withdrawn."""
    DIVIDEND = "dividend"
    """A dividend was recorded, corrected or withdrawn."""
    BACKFILL = "back-fill"
    """The raw rows had been recorded before, their features have been computed since."""
    VERSION = "version"
    """The two data sets read other versions, or other definitions, of the feature view."""
    ROW_ADDED = "row now in the data set"
    ROW_REMOVED = "row no longer in the data set"
    UNKNOWN = "unknown"
    """Nothing that was recorded in between explains it."""


@dataclass(frozen=True)
class Change:
    """One row that was recorded between the two moments.

    Attributes
    ----------
    cause
        What it is to the row before it.
    table, source
        Where it is stored, and who reported it.
    entity
        Its symbol; of a foreign view, all keys.
    event_us, sequence, available_us, created_us
        Its key and times.
    values
        What it changed: name, value before, value after; before is ``None`` where there was no row, after where it
        was withdrawn.
    """

    cause: Cause
    table: str
    source: str
    entity: str
    event_us: int
    sequence: int | None
    available_us: int | None
    created_us: int | None
    values: tuple[tuple[str, Any, Any], ...] = ()

    def __str__(self) -> str:
        number = "" if self.sequence is None else f" #{self.sequence}"
        recorded = "" if self.created_us is None else f", recorded {format_us(self.created_us)}"
        shown = ", ".join(f"{name} {_text(before)} → {_text(after)}" for name, before, after in self.values)
        return (
            f"{self.cause}: {self.source or self.table} {self.entity} {format_us(self.event_us)}{number}{recorded}"
            + (f", {shown}" if shown else "")
        )

    def as_dict(self) -> dict[str, Any]:
        """The change as JSON data."""
        moments = {
            name: None if moment is None else format_us(moment)
            for name, moment in (
                ("event_timestamp", self.event_us),
                ("available_timestamp", self.available_us),
                ("created_timestamp", self.created_us),
            )
        }
        values = [{"column": name, "before": before, "after": after} for name, before, after in self.values]
        head = {"cause": self.cause.value, "table": self.table, "source": self.source, "entity": self.entity}
        return {**head, **moments, "sequence": self.sequence, "values": values}


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


# The version before is the one recorded before; LIMIT keeps the newest events.
_CHANGES = """
    WITH new AS MATERIALIZED (
        SELECT * FROM {table} r
        WHERE {where} AND r.symbol = ANY({symbols}) AND r.created_timestamp > {since} AND r.created_timestamp <= {until}
            AND r.event_timestamp <= {last}
        ORDER BY r.event_timestamp DESC LIMIT {limit})
    SELECT DISTINCT ON ({key}, n.created_timestamp, n.available_timestamp)
        n.symbol, n.event_timestamp, n.sequence, n.available_timestamp, n.created_timestamp, n.deleted, n.source,
        {kind} AS kind, p.created_timestamp IS NOT NULL AS known, coalesce(p.deleted, false) AS was_deleted, {columns}
    FROM new n LEFT JOIN {table} p ON {same}
        AND (p.created_timestamp, p.available_timestamp) < (n.created_timestamp, n.available_timestamp)
    ORDER BY {key}, n.created_timestamp, n.available_timestamp, p.created_timestamp DESC NULLS LAST,
        p.available_timestamp DESC
"""


class ChangeLog:
    """Rows of one raw table that were recorded in a span of time, ordered by symbol and event.

    Build it with `read`.
    """

    def __init__(self, kind: str, rows: pa.Table, *, complete: bool) -> None:
        self.kind = kind
        self.complete = complete
        """Whether none was left out for `CHANGES_MAX`."""
        self.rows = rows
        self.event_us, self.sequence, self.available_us, self.created_us = (
            np.asarray(rows.column(place).cast(pa.int64()).to_numpy(), dtype=np.int64) for place in range(1, 5)
        )
        symbols = rows.column("symbol").to_numpy(zero_copy_only=False).astype(object)
        first = np.ones(len(symbols), dtype=np.bool_)
        first[1:] = symbols[1:] != symbols[:-1]
        starts: list[int] = np.flatnonzero(first).tolist()
        ends = [*starts[1:], len(symbols)]
        self._parts = {symbols[start]: (start, end) for start, end in zip(starts, ends, strict=False)}

    @classmethod
    def read(
        cls,
        connection: psycopg.Connection[Any],
        kind: str,
        symbols: Sequence[str],
        *,
        source: str | None = None,
        action_kinds: Sequence[str] = (),
        since_us: int,
        until_us: int,
        last_event_us: int | None = None,
    ) -> ChangeLog:
        """Read what was recorded after one moment and up to another.

        Parameters
        ----------
        connection
            The database.
        kind
            ``bars``, ``trades``, … or ``actions``.
        symbols
            Whose rows.
        source
            Of that source only; none for corporate actions.
        action_kinds
            Which corporate actions count.
        since_us, until_us
            The two recording times; the first is excluded.
        last_event_us
            Only events up to then; none: all.
        """
        table = RAW_TABLES[kind]
        key = (*table.key, "source") if table.by_source else table.key
        where = sql.SQL("r.kind = ANY({})").format(sql.Literal(list(action_kinds)))
        if table.by_source:
            where = sql.SQL("r.source = {}").format(sql.Literal(source))
        last = sql.SQL("'infinity'") if last_event_us is None else sql.Literal(from_us(last_event_us))
        query = sql.SQL(_CHANGES).format(
            table=sql.Identifier(*table.name.split(".")),
            where=where,
            symbols=sql.Literal(list(symbols)),
            since=sql.Literal(from_us(since_us)),
            until=sql.Literal(from_us(until_us)),
            last=last,
            limit=sql.Literal(CHANGES_MAX + 1),
            key=sql.SQL(", ").join(sql.Identifier("n", name) for name in key),
            kind=sql.SQL("n.kind") if "kind" in table.key else sql.SQL("''::text"),
            columns=sql.SQL(", ").join(
                sql.SQL("n.{0} AS {1}, p.{0} AS {2}").format(
                    sql.Identifier(name), sql.Identifier(f"new_{name}"), sql.Identifier(f"old_{name}")
                )
                for name in table.content
            ),
            same=sql.SQL(" AND ").join(sql.SQL("p.{0} = n.{0}").format(sql.Identifier(name)) for name in key),
        )
        with connection.transaction():
            rows = read_query(connection, query)
        ordered = rows.sort_by([(name, "ascending") for name in rows.column_names[:3]])
        return cls(kind, ordered, complete=rows.num_rows <= CHANGES_MAX)

    def nearest(
        self,
        symbols: NDArray[Any],
        after_us: Integers,
        upto_us: Integers,
        count: int,
        *,
        sequence: Integers | None = None,
        known_us: Integers | None = None,
        recorded_us: Integers | None = None,
    ) -> Integers:
        """The changes nearest before each of N moments, latest event first.

        Parameters
        ----------
        symbols
            (N,): whose.
        after_us, upto_us
            (N,): range of their events; the first is excluded.
        count
            How many for each.
        sequence
            (N,): of events at ``upto_us`` itself, only those up to this number.
        known_us, recorded_us
            (N,): only those available, or recorded, by then.

        Returns
        -------
        numpy.ndarray
            int64 (N, count): rows of the log; -1 for none.
        """
        found = np.full((len(symbols), count), -1, dtype=np.int64)
        for symbol, (start, end) in self._parts.items():
            mine = np.flatnonzero(symbols == symbol)
            if len(mine) == 0:
                continue
            events = self.event_us[start:end]
            lowest = start + np.searchsorted(events, after_us[mine], side="right")
            place = start + np.searchsorted(events, upto_us[mine], side="right") - 1
            filled = np.zeros(len(mine), dtype=np.int64)
            for _ in range(_STEPS_MAX):
                going = np.flatnonzero((place >= lowest) & (filled < count))
                if len(going) == 0:
                    break
                at, who = place[going], mine[going]
                fits = np.ones(len(going), dtype=np.bool_)
                if sequence is not None:
                    fits &= (self.event_us[at] < upto_us[who]) | (self.sequence[at] <= sequence[who])
                if known_us is not None:
                    fits &= self.available_us[at] <= known_us[who]
                if recorded_us is not None:
                    fits &= self.created_us[at] <= recorded_us[who]
                taken = going[fits]
                found[mine[taken], filled[taken]] = place[taken]
                filled[taken] += 1
                place[going] -= 1
        return found

    def change(self, row: int, cause: Cause | None = None) -> Change:
        """One row of the log, told as a change; `cause` goes before what the row says of itself."""
        one = {name: self.rows.column(name)[row].as_py() for name in self.rows.column_names}
        table = RAW_TABLES[self.kind]
        gone, was_there = one["deleted"], one["known"] and not one["was_deleted"]
        values = [
            (name, one[f"old_{name}"] if was_there else None, None if gone else one[f"new_{name}"])
            for name in table.content
        ]
        return Change(
            cause or self._cause(one),
            table.name,
            one["source"],
            one["symbol"],
            int(self.event_us[row]),
            int(self.sequence[row]),
            int(self.available_us[row]),
            int(self.created_us[row]),
            tuple((name, _plain(before), _plain(after)) for name, before, after in values if before != after),
        )

    @staticmethod
    def _cause(one: dict[str, Any]) -> Cause:
        if one["kind"]:
            return Cause(one["kind"])
        if one["deleted"]:
            return Cause.RETRACTION
        return Cause.CORRECTION if one["known"] else Cause.LATE_ROW


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value

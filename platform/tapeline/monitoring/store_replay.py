"""Finds again what the store should have given a request, by the point-in-time rule, and which rows it may have given instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join, time_columns
from tapeline.monitoring.findings import NO_ROW, RowPlace
from tapeline.monitoring.served import ServedRow

EXPLAINED_AT_ONCE = 500
"""Vectors whose differences are looked into together: each may have several stored rows, all in memory."""
_VERSIONS_MAX = 100
_PLACE = ("event_timestamp", "sequence", "available_timestamp", "created_timestamp")


@dataclass(frozen=True)
class OfflineRow:
    """A row that the point-in-time rule takes; times are ``None`` where no row counts.

    ``values`` has shape (features,), NaN where missing.
    """

    values: NDArray[np.float64]
    place: RowPlace


@dataclass(frozen=True)
class OfflineRows:
    """Rows that the point-in-time rule takes for N requests.

    Attributes
    ----------
    values
        float64 (N, features), NaN where missing.
    times
        Event and available time, created time and sequence, in the order of ``time_columns``; null where no row counts.
    """

    values: NDArray[np.float64]
    times: tuple[pa.ChunkedArray, ...]

    def __getitem__(self, place: int) -> OfflineRow:
        event, available, created, sequence = (column[place].as_py() for column in self.times)
        return OfflineRow(self.values[place], RowPlace(event, sequence, available, created))


@dataclass
class StoreReplay:
    """Point-in-time values of one view.

    Parameters
    ----------
    connection
        The database.
    selection
        The view's table and the features that the model takes of it, in the model's order.
    """

    connection: psycopg.Connection[Any]
    selection: ViewSelection
    _columns: sql.Composable = field(init=False)

    def __post_init__(self) -> None:
        self._columns = sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(n)) for n in self.selection.features)

    def find(self, entities: Sequence[str], moments_us: Sequence[int], *, vintage_us: int | None = None) -> OfflineRows:
        """What the rule takes for each entity at its moment.

        Parameters
        ----------
        entities, moments_us
            N symbols and their moments, microseconds UTC.
        vintage_us
            Only what had been recorded by then; none: all there is now.
        """
        entity_rows = pa.table(
            {
                "symbol": pa.array(entities, pa.string()),
                "event_timestamp": pa.array(moments_us, pa.timestamp("us", tz="UTC")),
            }
        )
        joined = as_of_join(self.connection, [self.selection], entity_rows, vintage_us=vintage_us, with_times=True)
        names = self.selection.output_names
        values = np.empty((len(entities), len(names)))
        for place, name in enumerate(names):
            values[:, place] = joined.column(name).to_numpy(zero_copy_only=False)
        times = tuple(joined.column(name).cast(pa.int64()) for name in time_columns(self.selection))
        return OfflineRows(values, times)

    def recorded_then(self, rows: Sequence[ServedRow]) -> list[OfflineRow]:
        """What the rule took for each served row when it was served: of what had been recorded by that moment."""
        oldest: sql.Composable = sql.SQL("")
        if self.selection.ttl_us:
            oldest = sql.SQL(" AND s.event_timestamp >= q.event - {}::interval").format(
                sql.Literal(f"{self.selection.ttl_us} microseconds")
            )
        found = self._look_up(
            sql.SQL(
                "s.event_timestamp <= q.event AND s.available_timestamp <= q.event AND s.created_timestamp <= q.moment{}"
            ).format(oldest),
            [(row.entity, row.request_us, row.served_us, None) for row in rows],
            1,
        )
        nothing = OfflineRow(np.full(len(self.selection.features), np.nan), NO_ROW)
        return [each[0] if each else nothing for each in found]

    def rows_at(self, entities: Sequence[str], places: Sequence[RowPlace]) -> list[list[OfflineRow]]:
        """The stored rows of some entities that have the times and the sequence given, whenever they were recorded, newest first.

        There are several where a correction of an earlier input did not move the row's own times.
        """
        return self._look_up(
            sql.SQL(
                "s.event_timestamp = q.event AND s.available_timestamp = q.moment"
                " AND s.sequence IS NOT DISTINCT FROM q.sequence"
            ),
            [
                (entity, place.event_us, place.available_us, place.sequence)
                for entity, place in zip(entities, places, strict=True)
            ],
            _VERSIONS_MAX,
        )

    def _look_up(
        self, condition: sql.Composable, asked: Sequence[tuple[str, int | None, int | None, int | None]], limit: int
    ) -> list[list[OfflineRow]]:
        """Rows of symbols that fulfil a condition on two moments and a sequence, the greatest first."""
        order = sql.SQL(", ").join(sql.SQL("s.{} DESC NULLS LAST").format(sql.Identifier(name)) for name in _PLACE)
        statement = sql.SQL(
            "SELECT q.place, {times}, {columns} FROM"
            " unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[])"
            " WITH ORDINALITY AS q(symbol, event, moment, sequence, place) CROSS JOIN LATERAL"
            " (SELECT s.* FROM {table} AS s WHERE s.symbol = q.symbol AND {condition} ORDER BY {order} LIMIT {limit}) AS s"
            " ORDER BY q.place, {order}"
        ).format(
            times=sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in _PLACE),
            columns=self._columns,
            table=sql.SQL(self.selection.table),
            condition=condition,
            order=order,
            limit=sql.Literal(limit),
        )
        symbols, events, moments, sequences = zip(*asked, strict=True)
        found = self.connection.execute(
            statement, (list(symbols), [*map(_moment, events)], [*map(_moment, moments)], list(sequences))
        ).fetchall()
        answers: list[list[OfflineRow]] = [[] for _ in asked]
        for place, event, sequence, available, created, *values in found:
            numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            stored = RowPlace(to_us(event), sequence, to_us(available), to_us(created))
            answers[place - 1].append(OfflineRow(numbers, stored))
        return answers


def _moment(moment_us: int | None) -> datetime | None:
    return None if moment_us is None else from_us(moment_us)

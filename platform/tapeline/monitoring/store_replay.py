"""Finds again what the store should have given a request, by the point-in-time rule, and names why it gave something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from tapeline.core.timestamps import from_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join, time_columns
from tapeline.monitoring.served import ServedRow, ServedView

_VERSIONS_MAX = 1_000


@dataclass(frozen=True)
class OfflineRow:
    """A row that the point-in-time rule takes; times are ``None`` where no row counts.

    ``values`` has shape (features,), NaN where missing.
    """

    values: NDArray[np.float64]
    event_us: int | None
    sequence: int | None
    available_us: int | None


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
    _columns: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._columns = list(self.selection.features)

    def find(self, rows: Sequence[ServedRow], *, vintage_us: int | None = None) -> list[OfflineRow]:
        """What the rule takes for each served row at its request's clock.

        Parameters
        ----------
        rows
            Served rows.
        vintage_us
            Only what had been recorded by then; none: all there is now.
        """
        entity_rows = pa.table(
            {
                "symbol": pa.array([row.entity for row in rows], pa.string()),
                "event_timestamp": pa.array([row.request_us for row in rows], pa.timestamp("us", tz="UTC")),
            }
        )
        joined = as_of_join(self.connection, [self.selection], entity_rows, vintage_us=vintage_us, with_times=True)
        values = np.column_stack([joined.column(n).to_numpy(zero_copy_only=False) for n in self.selection.output_names])
        event, available, _, sequence = time_columns(self.selection)
        times = {name: _whole(joined.column(name)) for name in (event, available, sequence)}
        return [
            OfflineRow(vector, times[event][i], times[sequence][i], times[available][i])
            for i, vector in enumerate(values.astype(np.float64))
        ]

    def rows_at(self, entity: str, used: ServedView, served_us: int) -> list[NDArray[np.float64]]:
        """Values, shape (features,), of the stored rows that the server may have used, newest first.

        They have the times that it says, and had been recorded when it served. There are several where a correction of
        an earlier input did not move the row's own times.
        """
        if used.event_us is None or used.available_us is None:
            return []
        found = self.connection.execute(
            sql.SQL(
                "SELECT {} FROM "
                + self.selection.table
                + " WHERE symbol = %s AND event_timestamp = %s AND sequence = %s AND available_timestamp = %s"
                " AND created_timestamp <= %s ORDER BY created_timestamp DESC LIMIT {}"
            ).format(sql.SQL(", ").join(map(sql.Identifier, self._columns)), sql.Literal(_VERSIONS_MAX)),
            (entity, from_us(used.event_us), used.sequence, from_us(used.available_us), from_us(served_us)),
        ).fetchall()
        return [np.array([np.nan if v is None else v for v in row], dtype=np.float64) for row in found]


def _whole(column: pa.ChunkedArray) -> list[int | None]:
    values: list[int | None] = column.cast(pa.int64()).to_pylist()
    return values

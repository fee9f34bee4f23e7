"""Why cells differ between two vintages: the rows taken at both, and what was recorded in between that they know of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg.rows import tuple_row

from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.changes import Cause, Change, ChangeLog, Integers
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.inputs import PriceSource
from tapeline.datasets.manifest import DatasetView
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join, time_columns
from tapeline.datasets.price_window import LABEL_BACK_US
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.snapshots import action_kinds

CHANGES_NAMED_MAX = 5
"""Changes named for one cell: those of the nearest events before its own."""
_LEAST = np.iinfo(np.int64).min
_MOST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Explanation:
    """Why cells differ, and the recorded rows that made it so, latest event first."""

    cause: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.changes))


class DiffCauses:
    """Finds causes of changed rows between two recording times.

    Parameters
    ----------
    connection
        The database.
    before_us, after_us
        The two recording times, microseconds UTC.
    """

    def __init__(self, connection: psycopg.Connection[Any], before_us: int, after_us: int) -> None:
        self._connection = connection
        self._before_us, self._after_us = before_us, after_us
        self._logs: dict[tuple[Any, ...], tuple[frozenset[str], ChangeLog]] = {}
        self.found: list[Explanation] = []
        self._numbers: dict[Explanation, int] = {}

    def number(self, cause: str, changes: Iterable[Change] = ()) -> int:
        """The place in `found` of an explanation, which is added if it is new."""
        explanation = Explanation(str(cause), tuple(changes))
        if explanation not in self._numbers:
            self._numbers[explanation] = len(self.found)
            self.found.append(explanation)
        return self._numbers[explanation]

    def forget(self) -> None:
        """Drop what was found: a slice of the data set is done."""
        self.found, self._numbers = [], {}

    # Features ---------------------------------------------------------------------------------------------------------

    def of_view(self, selection: ViewSelection, registered: DatasetView | None, rows: pa.Table) -> Integers:
        """Explanations, int64 (N,), of entity rows that take another row of a view than before."""
        bare = replace(selection, features=(), output_names=())
        old, new = (
            _taken(as_of_join(self._connection, [bare], rows, vintage_us=moment_us, with_times=True), bare)
            for moment_us in (self._before_us, self._after_us)
        )
        numbers = np.full(rows.num_rows, -1, dtype=np.int64)
        if registered is not None and registered.definition is not None and selection.join_keys == ("symbol",):
            spec = FeatureViewSpec.from_definition(registered.definition)
            symbols = rows.column(selection.entity_columns[0]).to_numpy().astype(object)
            self._from_raw(numbers, spec, symbols, old, new)
        for row in np.flatnonzero(numbers < 0).tolist():
            numbers[row] = self._from_row(selection, rows, row, old, new)
        return numbers

    def _from_raw(
        self, numbers: Integers, spec: FeatureViewSpec, symbols: NDArray[Any], old: _Taken, new: _Taken
    ) -> None:
        """Explain by the raw rows that the feature row knows and the one before it did not."""
        moved = new.event_us > old.event_us
        self._search(numbers, spec, symbols, np.where(moved, old.event_us, _LEAST), new)
        if (numbers < 0).any():
            self._search(numbers, spec, symbols, np.full(len(symbols), _LEAST), new)
        left = np.flatnonzero(numbers < 0)
        if len(left) == 0:
            return
        computed = self._computed(spec, sorted(set(symbols[left].tolist())))
        for since_us in sorted({moment for moment in computed.values() if moment is not None}):
            mine = np.array([row for row in left.tolist() if computed.get(symbols[row]) == since_us], dtype=np.int64)
            late = np.full(len(mine), -1, dtype=np.int64)
            self._search(late, spec, symbols[mine], np.full(len(mine), _LEAST), new.at(mine), since_us=since_us)
            numbers[mine] = late
        only_since = {symbol for symbol, moment in computed.items() if moment is None}
        for row in left.tolist():
            if symbols[row] in only_since:
                numbers[row] = self.number(Cause.BACKFILL)

    def _search(
        self,
        numbers: Integers,
        spec: FeatureViewSpec,
        symbols: NDArray[Any],
        after_us: Integers,
        new: _Taken,
        *,
        since_us: int | None = None,
    ) -> None:
        """Fill in what rows without a number owe to changes; with `since_us`, to those recorded before the first moment."""
        open_rows = np.flatnonzero(numbers < 0)
        if len(open_rows) == 0:
            return
        span = (self._before_us, self._after_us) if since_us is None else (since_us, self._before_us)
        names = sorted(set(symbols[open_rows].tolist()))
        last_us = int(new.event_us[open_rows].max())
        logs = (
            self._log(spec.rows.raw, spec.rows.source, (), names, span, last_us),
            self._log("actions", None, tuple(action_kinds(spec)), names, span, last_us),
        )
        found = [
            log.nearest(
                symbols[open_rows],
                after_us[open_rows],
                new.event_us[open_rows],
                CHANGES_NAMED_MAX,
                sequence=new.sequence[open_rows] if place == 0 else None,
                known_us=new.available_us[open_rows],
                recorded_us=new.created_us[open_rows],
            )
            for place, log in enumerate(logs)
        ]
        numbers[open_rows] = self._told(logs, found, Cause.BACKFILL if since_us is not None else None)

    def _computed(self, spec: FeatureViewSpec, symbols: list[str]) -> dict[str, int | None]:
        """Of symbols computed by the second moment: up to when raw rows had been at the first; none: only since then."""
        with self._connection.transaction(), self._connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(
                "SELECT entity, max(recorded_timestamp) FILTER (WHERE created_timestamp <= %s)"
                " FROM tapeline.state_snapshots WHERE view = %s AND version = %s AND entity = ANY(%s)"
                " AND created_timestamp <= %s GROUP BY entity",
                (from_us(self._before_us), spec.name, spec.version, symbols, from_us(self._after_us)),
            ).fetchall()
        return {entity: None if recorded is None else to_us(recorded) for entity, recorded in rows}

    def _from_row(self, selection: ViewSelection, rows: pa.Table, row: int, old: _Taken, new: _Taken) -> int:
        """Without raw rows to look at, the feature rows themselves say what happened."""
        if new.event_us[row] == _LEAST or (new.order(row) == old.order(row)):
            return self.number(Cause.UNKNOWN)
        keys = " ".join(str(rows.column(name)[row].as_py()) for name in selection.entity_columns)
        sequence, created = int(new.sequence[row]), int(new.created_us[row])
        change = Change(
            Cause.CORRECTION if new.event_us[row] == old.event_us[row] else Cause.LATE_ROW,
            selection.table,
            "",
            keys,
            int(new.event_us[row]),
            None if sequence == _LEAST else sequence,
            int(new.available_us[row]),
            None if created == _LEAST else created,
        )
        return self.number(change.cause, (change,))

    # Labels -----------------------------------------------------------------------------------------------------------

    def of_labels(
        self, prices: PriceSource, symbols: NDArray[Any], event_us: Integers, end_us: Integers, horizon_us: int
    ) -> Integers:
        """Explanations, int64 (N,), of labels; -1 where no price and no split says why.

        Parameters
        ----------
        prices
            Where the labels' prices are.
        symbols, event_us
            (N,): the entity rows.
        end_us
            (N,): the later of a label's two ends; the least int64 where there is none.
        horizon_us
            The end lies no further than so long after the row, where it is not known.
        """
        span = (self._before_us, self._after_us)
        names = sorted(set(symbols.tolist()))
        end_us = np.where(end_us == _LEAST, event_us + horizon_us, end_us)
        logs = (
            self._log(prices.kind, prices.source, (), names, span, None),
            self._log("actions", None, ("split",), names, span, None),
        )
        since_us = event_us - LABEL_BACK_US
        found = [
            logs[0].nearest(symbols, since_us, end_us, CHANGES_NAMED_MAX),
            logs[1].nearest(symbols, since_us, end_us, CHANGES_NAMED_MAX, known_us=end_us),
        ]
        nothing = (found[0][:, 0] < 0) & (found[1][:, 0] < 0)
        # A later price shows that the session of the label's end was seen to its end.
        found[0][nothing, :1] = logs[0].nearest(
            symbols[nothing], end_us[nothing], np.full(int(nothing.sum()), _MOST), count=1
        )
        return self._told(logs, found, None)

    # Telling ----------------------------------------------------------------------------------------------------------

    def _log(
        self,
        kind: str,
        source: str | None,
        action_kinds_wanted: tuple[str, ...],
        symbols: Sequence[str],
        span: tuple[int, int],
        last_us: int | None,
    ) -> ChangeLog:
        key = (kind, source, action_kinds_wanted, span)
        known = self._logs.get(key)
        if known is not None and known[1].complete and known[0].issuperset(symbols):
            return known[1]
        wanted = sorted({*symbols, *(known[0] if known is not None and known[1].complete else ())})
        read = partial(
            ChangeLog.read, self._connection, kind, wanted, source=source, action_kinds=action_kinds_wanted,
            since_us=span[0], until_us=span[1],
        )  # fmt: skip
        log = read()
        if not log.complete and last_us is not None:  # of these events only: it serves this search alone
            return read(last_event_us=last_us)
        self._logs[key] = (frozenset(wanted), log)
        return log

    def _told(self, logs: Sequence[ChangeLog], found: Sequence[Integers], cause: Cause | None) -> Integers:
        """One explanation for each row of found changes, -1 where there are none."""
        together, which = np.unique(np.hstack(found), axis=0, return_inverse=True)
        numbers = np.full(len(together), -1, dtype=np.int64)
        for place, ids in enumerate(together.tolist()):
            width = found[0].shape[1]
            changes = [logs[at // width].change(row, cause) for at, row in enumerate(ids) if row >= 0]
            if changes:
                changes.sort(key=lambda change: change.event_us, reverse=True)
                causes = dict.fromkeys(change.cause.value for change in changes)
                numbers[place] = self.number(" + ".join(sorted(causes)), changes[:CHANGES_NAMED_MAX])
        return np.asarray(numbers[which.reshape(-1)], dtype=np.int64)


@dataclass(frozen=True)
class _Taken:
    """Times of the rows taken, int64 (N,); the least where there is none, or no such column."""

    event_us: Integers
    available_us: Integers
    created_us: Integers
    sequence: Integers

    def at(self, rows: Integers) -> _Taken:
        return _Taken(self.event_us[rows], self.available_us[rows], self.created_us[rows], self.sequence[rows])

    def order(self, row: int) -> tuple[int, ...]:
        return tuple(int(column[row]) for column in (self.event_us, self.sequence, self.available_us, self.created_us))


def _taken(joined: pa.Table, selection: ViewSelection) -> _Taken:
    event, available, created, sequence = (
        np.asarray(joined.column(name).cast(pa.int64()).fill_null(_LEAST).to_numpy(), dtype=np.int64)
        for name in time_columns(selection)
    )
    return _Taken(event, np.where(available == _LEAST, event, available), created, sequence)


def entity_symbols(rows: pa.Table) -> tuple[NDArray[Any], Integers]:
    """Symbols and moments of entity rows."""
    moments = np.asarray(rows.column(TIME_COLUMN).cast(pa.int64()).to_numpy(), dtype=np.int64)
    return rows.column("symbol").to_numpy().astype(object), moments

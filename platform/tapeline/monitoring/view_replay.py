"""Compares what vectors hold of one view with what the stores give now, and names the cause of each difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from tapeline.datasets.plan import ViewSelection
from tapeline.features.view import FeatureViewSpec
from tapeline.monitoring.findings import Cause, ConsistencyReport, Mismatch, RowPlace, equal
from tapeline.monitoring.live_replay import LiveReplay
from tapeline.monitoring.served import ServedRow, ServedView
from tapeline.monitoring.store_replay import EXPLAINED_AT_ONCE, OfflineRow, OfflineRows, StoreReplay
from tapeline.registry.manifest import BundleManifest, ViewReference


class ViewReplay:
    """Replays what the vectors of one bundle hold of one view.

    Parameters
    ----------
    connection
        The database.
    manifest, reference
        The bundle, and its view.
    as_of_us
        Compare with what had been recorded by this vintage; none: with what is stored now.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        manifest: BundleManifest,
        reference: ViewReference,
        as_of_us: int | None = None,
    ) -> None:
        wanted = [
            (position, feature.name)
            for position, feature in enumerate(manifest.features)
            if (feature.view, feature.version) == (reference.view, reference.version)
        ]
        self._reference = reference
        self._as_of_us = as_of_us
        self._spec = FeatureViewSpec.from_definition(reference.definition)
        self._kind = self._spec.rows.raw
        self._names = tuple(name for _, name in wanted)
        self._positions = np.array([position for position, _ in wanted], dtype=np.intp)
        self._columns = np.array([self._spec.columns.index(name) for name in self._names], dtype=np.intp)
        self._connection = connection
        self._store = StoreReplay(
            connection,
            ViewSelection(
                view=reference.view,
                version=reference.version,
                table=f'features."{self._spec.table}"',
                entity_columns=("symbol",),
                join_keys=("symbol",),
                features=self._names,
                output_names=self._names,
                ttl_us=reference.ttl_us,
            ),
        )
        self._live: LiveReplay | None = None

    def check(self, rows: Sequence[ServedRow], report: ConsistencyReport) -> None:
        """Compare some vectors, and add what is found to a report."""
        width = len(self._positions)
        served_us = np.array([row.served_us for row in rows], dtype=np.int64)
        report.compared(f"{self._reference.view}@{self._reference.version}", served_us, width)
        live: list[ServedRow] = []
        stored: list[ServedRow] = []
        for row in rows:
            report.by_origin[self._used(row).origin] += width
            (live if self._kind in row.live_rows else stored).append(row)
        if stored:
            self._check_stored(stored, report)
        for row in live:
            self._check_live(row, self._used(row), report)

    def forget(self) -> None:
        """Read everything again from now on: the database may hold more than it did."""
        if self._live is not None:
            self._live.forget()

    def _used(self, row: ServedRow) -> ServedView:
        return row.views[self._reference.view, self._reference.version]

    def _check_stored(self, rows: Sequence[ServedRow], report: ConsistencyReport) -> None:
        found = self._store.find(
            [row.entity for row in rows], [row.request_us for row in rows], vintage_us=self._as_of_us
        )
        served = np.stack([row.vector for row in rows])[:, self._positions]
        wrong = np.flatnonzero(~equal(served, found.values).all(axis=1)).tolist()
        for begin in range(0, len(wrong), EXPLAINED_AT_ONCE):
            self._explain_stored(rows, found, wrong[begin : begin + EXPLAINED_AT_ONCE], report)

    def _explain_stored(
        self, rows: Sequence[ServedRow], found: OfflineRows, wrong: Sequence[int], report: ConsistencyReport
    ) -> None:
        some = [rows[place] for place in wrong]
        used = [self._used(row) for row in some]
        then = self._store.recorded_then(some)
        own = self._store.rows_at([row.entity for row in some], [_place(view) for view in used])
        plan = self._table_plan()
        for number, place in enumerate(wrong):
            row, view = some[number], used[number]
            same_plan = view.plan_hash == self._reference.plan_hash == plan
            why, cause = self._cause(row, view, found[place], then[number], own[number], same_plan=same_plan)
            self._report(report, some[number], why.values, cause, why.place)

    def _cause(
        self,
        row: ServedRow,
        used: ServedView,
        now: OfflineRow,
        then: OfflineRow,
        own: Sequence[OfflineRow],
        *,
        same_plan: bool,
    ) -> tuple[OfflineRow, Cause]:
        """The stored row that should have been served, and why it was not.

        Parameters
        ----------
        now, then
            What the rule takes by all that is recorded, and by what had been recorded when the row was served.
        own
            Stored rows of the times that the server said.
        same_plan
            Whether server, bundle and table have the same kernels.
        """
        served = row.vector[self._positions]
        if equal(served, then.values).all():
            same_key = (then.place.event_us, then.place.sequence) == (now.place.event_us, now.place.sequence)
            return now, Cause.CORRECTION if same_key else Cause.LATE_ROW
        if not same_plan:
            return then, Cause.VERSION
        nothing = bool(np.isnan(served).all())
        if nothing and row.ahead(self._positions):
            return then, Cause.AHEAD
        if nothing and used.origin == "none":
            return then, Cause.LAG
        if not _known(used, row.request_us):
            return then, Cause.UNKNOWN
        # What was served is a row that is stored, and one that the rule would have taken earlier: of an earlier place, or of
        # the same place and recorded earlier. Its values were hidden if it was stale, so only its place can be compared then.
        before = [each for each in own if _recorded_by(each, row.served_us)]
        place = _place(used).order
        if place < then.place.order:
            if before and (nothing or any(equal(served, each.values).all() for each in before)):
                return then, Cause.LAG
        elif place == then.place.order and any(equal(served, each.values).all() for each in before[1:]):
            return then, Cause.LAG
        return self._cause_in_stream(row, used, now, then, own)

    def _cause_in_stream(
        self, row: ServedRow, used: ServedView, now: OfflineRow, then: OfflineRow, own: Sequence[OfflineRow]
    ) -> tuple[OfflineRow, Cause]:
        """The same of a row that was online before it was recorded, as a stream's are: what is recorded now must contain it."""
        served = row.vector[self._positions]
        same = [number for number, each in enumerate(own) if equal(served, each.values).all()]
        fresh = self._reference.ttl_us <= 0 or (used.event_us or 0) >= row.request_us - self._reference.ttl_us
        if not same or not fresh or _recorded_by(own[same[-1]], row.served_us):
            return then, Cause.UNKNOWN
        same_key = (used.event_us, used.sequence) == (now.place.event_us, now.place.sequence)
        if same_key and (same[0] > 0 or _place(used).order < now.place.order):
            return now, Cause.CORRECTION
        if _place(used).order < now.place.order:
            return now, Cause.LAG
        return then, Cause.UNKNOWN

    def _check_live(self, row: ServedRow, used: ServedView, report: ConsistencyReport) -> None:
        served = row.vector[self._positions]
        state = RowPlace(used.state_event_us, used.state_sequence)
        if used.origin != "live" or self._is_stale(row, used):
            # Without a state to continue, or too old: the model must have seen nothing.
            self._report(report, row, np.full(len(self._positions), np.nan), Cause.UNKNOWN, state)
            return
        self._live = self._live or LiveReplay(self._connection, self._spec)
        expected = self._live.from_history(row, used)[self._columns]
        if equal(served, expected).all():
            return
        cause = Cause.UNKNOWN
        if self._spec.plan.hash != used.plan_hash:
            cause = Cause.VERSION
        elif equal(served, self._live.from_history(row, used, as_served=True)[self._columns]).all():
            cause = Cause.ACTION
        elif any(equal(served, each[self._columns]).all() for each in self._live.from_snapshots(row, used)):
            cause = Cause.LAG
        self._report(report, row, expected, cause, state)

    def _is_stale(self, row: ServedRow, used: ServedView) -> bool:
        ttl_us = self._reference.ttl_us
        return ttl_us > 0 and used.event_us is not None and used.event_us < row.request_us - ttl_us

    def _report(
        self, report: ConsistencyReport, row: ServedRow, expected: NDArray[np.float64], cause: Cause, recorded: RowPlace
    ) -> None:
        served = row.vector[self._positions]
        used = self._used(row)
        for place in np.flatnonzero(~equal(served, expected)).tolist():
            report.differs(
                Mismatch(
                    request_id=row.request_id,
                    entity=row.entity,
                    view=self._reference.view,
                    version=self._reference.version,
                    feature=self._names[place],
                    served_us=row.served_us,
                    request_us=row.request_us,
                    origin=used.origin,
                    served=float(served[place]),
                    expected=float(expected[place]),
                    cause=cause,
                    used=_place(used),
                    recorded=recorded,
                )
            )

    def _table_plan(self) -> str | None:
        """Hash of the plan whose values the view version's table holds."""
        found = self._connection.execute(
            "SELECT plan_hash FROM tapeline.feature_view_versions WHERE view = %s AND version = %s",
            (self._reference.view, self._reference.version),
        ).fetchone()
        return None if found is None else str(found[0])


def _place(used: ServedView) -> RowPlace:
    return RowPlace(used.event_us, used.sequence, used.available_us)


def _known(used: ServedView, moment_us: int) -> bool:
    """Whether the rule may take a row of these times at a moment at all."""
    return (used.event_us is None or used.event_us <= moment_us) and (
        used.available_us is None or used.available_us <= moment_us
    )


def _recorded_by(row: OfflineRow, moment_us: int) -> bool:
    return row.place.created_us is not None and row.place.created_us <= moment_us

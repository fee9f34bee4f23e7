"""The consistency job: what was served, computed again from what is stored, bit for bit.

Values that came from the online store are looked up offline by the point-in-time rule, at the request's clock and as
recorded by the moment of serving. Values that came from live rows are computed again from raw history, continued by the
rows that the request carried. Every difference gets a cause; one without an explanation means that serving and training
do not see the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from tapeline.core.errors import UnknownNameError
from tapeline.datasets.plan import ViewSelection
from tapeline.features.view import FeatureViewSpec
from tapeline.monitoring.live_replay import LiveReplay
from tapeline.monitoring.served import ServedRow, ServedView, read_served
from tapeline.monitoring.store_replay import OfflineRow, StoreReplay
from tapeline.registry.manifest import BundleManifest, ViewReference

MISMATCHES_KEPT_MAX = 1_000
_LEAST = -(2**63)


class Cause(StrEnum):
    """Why a served value differs from what is stored now."""

    LATE_ROW = "late row"
    """A row that was not recorded when the value was served, but counts at the request's clock."""
    CORRECTION = "correction"
    """The row that was used has been corrected since."""
    VERSION = "version"
    """The value was computed by another version of the kernels than the view's table holds."""
    ACTION = "corporate action"
    """Live rows were adjusted for other splits or dividends than are recorded: one was not yet published, or only the caller
    knew it."""
    LAG = "lag"
    """The online store was behind the offline one: what had been recorded was not materialized yet."""
    AHEAD = "ahead"
    """The online store held values of after the request's clock, and said so; it keeps no older ones."""
    UNKNOWN = "unknown"
    """None of these: served and stored numbers differ, and nothing explains it."""


@dataclass(frozen=True)
class Mismatch:
    """One feature of one served vector that is not what is stored now."""

    request_id: str
    entity: str
    view: str
    version: int
    feature: str
    served_us: int
    origin: str
    served: float
    expected: float
    cause: Cause


@dataclass
class ConsistencyReport:
    """What the job found.

    Attributes
    ----------
    vectors, values
        Served vectors and feature values compared.
    by_origin
        How many values came from the store, from live rows, from nowhere.
    causes
        How many values differ, by cause.
    mismatches
        The first of them, `MISMATCHES_KEPT_MAX` at most.
    """

    vectors: int = 0
    values: int = 0
    by_origin: Counter[str] = field(default_factory=Counter)
    causes: Counter[Cause] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def mismatch_count(self) -> int:
        """Values that differ, whatever the cause."""
        return sum(self.causes.values())

    @property
    def unexplained(self) -> int:
        """Values that differ without an explanation."""
        return self.causes[Cause.UNKNOWN]

    def summary(self) -> dict[str, Any]:
        """The report as JSON data, the mismatches themselves apart."""
        return {
            "vectors": self.vectors,
            "values": self.values,
            "from": dict(sorted(self.by_origin.items())),
            "mismatches": self.mismatch_count,
            "unexplained": self.unexplained,
            "causes": {cause.value: count for cause, count in sorted(self.causes.items())},
        }


def verify(
    connection: psycopg.Connection[Any],
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    as_of_us: int | None = None,
) -> ConsistencyReport:
    """Replay every served vector of a span of time.

    Parameters
    ----------
    connection
        The database, not in a transaction; read only, apart from temporary tables.
    since_us, until_us
        Wall-clock times of serving, microseconds UTC, the end excluded; none: all.
    as_of_us
        Compare with what had been recorded by this vintage, so that the report can be had again: what was served after it
        is left out. None: with what is stored now.

    Raises
    ------
    UnknownNameError
        If a vector was served by a model that is not registered here.
    """
    report = ConsistencyReport()
    models: dict[str, _ModelReplay] = {}
    if as_of_us is not None:
        until_us = as_of_us + 1 if until_us is None else min(until_us, as_of_us + 1)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for rows in read_served(connection, since_us=since_us, until_us=until_us):
            by_bundle: dict[str, list[ServedRow]] = {}
            for row in rows:
                by_bundle.setdefault(row.bundle_sha256, []).append(row)
            for bundle, served in by_bundle.items():
                if bundle not in models:
                    models[bundle] = _ModelReplay(connection, _manifest(connection, bundle), as_of_us)
                models[bundle].check(served, report)
    return report


def _manifest(connection: psycopg.Connection[Any], bundle_sha256: str) -> BundleManifest:
    found = connection.execute(
        "SELECT manifest FROM tapeline.models WHERE bundle_sha256 = %s LIMIT 1", (bundle_sha256,)
    ).fetchone()
    if found is None:
        raise UnknownNameError("bundle", bundle_sha256, (), where="tapeline.served_vectors")
    return BundleManifest.model_validate(found[0])


class _ModelReplay:
    """Replays the vectors of one bundle."""

    def __init__(
        self, connection: psycopg.Connection[Any], manifest: BundleManifest, as_of_us: int | None = None
    ) -> None:
        self._views = [_ViewReplay(connection, manifest, view, as_of_us) for view in manifest.views]

    def check(self, rows: Sequence[ServedRow], report: ConsistencyReport) -> None:
        report.vectors += len(rows)
        for view in self._views:
            view.check(rows, report)


class _ViewReplay:
    """Replays what vectors hold of one view."""

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
        key = (self._reference.view, self._reference.version)
        live = [row for row in rows if self._kind in row.live_rows]
        stored = [row for row in rows if self._kind not in row.live_rows]
        report.values += len(rows) * len(self._positions)
        for row in rows:
            report.by_origin[row.views[key].origin] += len(self._positions)
        if stored:
            for row, found in zip(stored, self._store.find(stored, vintage_us=self._as_of_us), strict=True):
                served = row.vector[self._positions]
                if not _equal(served, found.values).all():
                    expected, cause = self._explain_stored(row, row.views[key], found)
                    self._report(report, row, expected, cause)
        for row in live:
            self._check_live(row, row.views[key], report)

    def _explain_stored(self, row: ServedRow, used: ServedView, now: OfflineRow) -> tuple[NDArray[np.float64], Cause]:
        """What should have been served, and why it was not."""
        served = row.vector[self._positions]
        [then] = self._store.find([row], vintage_us=row.served_us)
        if _equal(served, then.values).all():
            same_key = (then.event_us, then.sequence) == (now.event_us, now.sequence)
            return now.values, Cause.CORRECTION if same_key else Cause.LATE_ROW
        if used.plan_hash != self._reference.plan_hash or self._table_plan() != used.plan_hash:
            return then.values, Cause.VERSION
        nothing = bool(np.isnan(served).all())
        if nothing and row.ahead(self._positions):
            return then.values, Cause.AHEAD
        if nothing and used.origin == "none":
            return then.values, Cause.LAG
        # What was served is a row that is stored, and one that the rule would have taken earlier: of an earlier place, or of
        # the same place and recorded earlier. Its values were hidden if it was stale, so only its place can be compared then.
        may_be_behind = (
            then.event_us is not None and _order(used) <= _order(then) and _known(used.available_us, row.request_us)
        )
        recorded = self._store.rows_at(row.entity, used, row.served_us) if may_be_behind else []
        if _order(used) < _order(then):
            if recorded and (nothing or any(_equal(served, each).all() for each in recorded)):
                return then.values, Cause.LAG
        elif any(_equal(served, each).all() for each in recorded[1:]):
            return then.values, Cause.LAG
        return then.values, Cause.UNKNOWN

    def _check_live(self, row: ServedRow, used: ServedView, report: ConsistencyReport) -> None:
        served = row.vector[self._positions]
        if used.origin != "live" or self._is_stale(row, used):
            # Without a state to continue, or too old: the model must have seen nothing.
            self._report(report, row, np.full(len(self._positions), np.nan), Cause.UNKNOWN)
            return
        self._live = self._live or LiveReplay(self._connection, self._spec)
        expected = self._live.from_history(row, used)[self._columns]
        if _equal(served, expected).all():
            return
        cause = Cause.UNKNOWN
        if self._spec.plan.hash != used.plan_hash:
            cause = Cause.VERSION
        elif _equal(served, self._live.from_history(row, used, as_served=True)[self._columns]).all():
            cause = Cause.ACTION
        elif any(_equal(served, each[self._columns]).all() for each in self._live.from_snapshots(row, used)):
            cause = Cause.LAG
        self._report(report, row, expected, cause)

    def _is_stale(self, row: ServedRow, used: ServedView) -> bool:
        ttl_us = self._reference.ttl_us
        return ttl_us > 0 and used.event_us is not None and used.event_us < row.request_us - ttl_us

    def _report(self, report: ConsistencyReport, row: ServedRow, expected: NDArray[np.float64], cause: Cause) -> None:
        served = row.vector[self._positions]
        used = row.views[(self._reference.view, self._reference.version)]
        for place in np.flatnonzero(~_equal(served, expected)).tolist():
            report.causes[cause] += 1
            if len(report.mismatches) < MISMATCHES_KEPT_MAX:
                report.mismatches.append(
                    Mismatch(
                        request_id=row.request_id,
                        entity=row.entity,
                        view=self._reference.view,
                        version=self._reference.version,
                        feature=self._names[place],
                        served_us=row.served_us,
                        origin=used.origin,
                        served=float(served[place]),
                        expected=float(expected[place]),
                        cause=cause,
                    )
                )

    def _table_plan(self) -> str | None:
        """Hash of the plan whose values the view version's table holds."""
        found = self._connection.execute(
            "SELECT plan_hash FROM tapeline.feature_view_versions WHERE view = %s AND version = %s",
            (self._reference.view, self._reference.version),
        ).fetchone()
        return None if found is None else str(found[0])


def _order(row: ServedView | OfflineRow) -> tuple[int, int, int]:
    """A row's place in the order of the point-in-time rule; what is not known is the least."""
    return tuple(_LEAST if value is None else value for value in (row.event_us, row.sequence, row.available_us))  # type: ignore[return-value]


def _known(available_us: int | None, moment_us: int) -> bool:
    return available_us is None or available_us <= moment_us


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Bit for bit, one NaN like another."""
    return np.asarray((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b)), dtype=np.bool_)

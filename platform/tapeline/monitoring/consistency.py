"""The consistency job: what was served, computed again from what is stored, bit for bit.

Values that came from the online store are looked up offline by the point-in-time rule, at the request's clock and as
recorded by the moment of serving. Values that came from live rows are computed again from raw history, continued by the
rows that the request carried. Every difference gets a cause; one without an explanation means that serving and training
do not see the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from tapeline.core.errors import UnknownNameError
from tapeline.monitoring.findings import Cause, ConsistencyReport, Mismatch
from tapeline.monitoring.served import EVERYTHING, Sampling, ServedRow, read_served
from tapeline.monitoring.view_replay import ViewReplay
from tapeline.registry.manifest import BundleManifest

__all__ = ["Cause", "ConsistencyReport", "Mismatch", "Replay", "verify"]

BUNDLES_MAX = 64
"""Bundles whose replays are kept ready; beyond that, all are forgotten."""


def verify(
    connection: psycopg.Connection[Any],
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    as_of_us: int | None = None,
    sampling: Sampling = EVERYTHING,
) -> ConsistencyReport:
    """Replay the served vectors of a span of time.

    Parameters
    ----------
    connection
        The database, not in a transaction; read only, apart from temporary tables.
    since_us, until_us
        Wall-clock times of serving, microseconds UTC, the end excluded; none: all.
    as_of_us
        Compare with what had been recorded by this vintage, so that the report can be had again: what was served after it
        is left out. None: with what is stored now.
    sampling
        Which of them; by default all.

    Raises
    ------
    UnknownNameError
        If a vector was served by a model that is not registered here.
    """
    report = ConsistencyReport()
    if as_of_us is not None:
        until_us = as_of_us + 1 if until_us is None else min(until_us, as_of_us + 1)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        replay = Replay(connection, as_of_us)
        for rows in read_served(connection, since_us=since_us, until_us=until_us, sampling=sampling):
            replay.check(rows, report)
    return report


class Replay:
    """Replays vectors of any bundles that are registered in a database.

    Parameters
    ----------
    connection
        The database.
    as_of_us
        As of :func:`verify`.
    """

    def __init__(self, connection: psycopg.Connection[Any], as_of_us: int | None = None) -> None:
        self._connection = connection
        self._as_of_us = as_of_us
        self._views: dict[str, list[ViewReplay]] = {}

    def check(self, rows: Iterable[ServedRow], report: ConsistencyReport) -> None:
        """Compare some vectors, and add what is found to a report.

        Raises
        ------
        UnknownNameError
            If a vector was served by a model that is not registered.
        """
        by_bundle: dict[str, list[ServedRow]] = {}
        for row in rows:
            by_bundle.setdefault(row.bundle_sha256, []).append(row)
        for bundle, served in by_bundle.items():
            report.vectors += len(served)
            for view in self._of(bundle):
                view.check(served, report)

    def forget(self) -> None:
        """Read everything again from now on, but for the bundles, which never change."""
        for views in self._views.values():
            for view in views:
                view.forget()

    def _of(self, bundle_sha256: str) -> list[ViewReplay]:
        if bundle_sha256 not in self._views:
            if len(self._views) == BUNDLES_MAX:
                self._views.clear()
            manifest = _manifest(self._connection, bundle_sha256)
            self._views[bundle_sha256] = [
                ViewReplay(self._connection, manifest, view, self._as_of_us) for view in manifest.views
            ]
        return self._views[bundle_sha256]


def _manifest(connection: psycopg.Connection[Any], bundle_sha256: str) -> BundleManifest:
    found = connection.execute(
        "SELECT manifest FROM tapeline.models WHERE bundle_sha256 = %s LIMIT 1", (bundle_sha256,)
    ).fetchone()
    if found is None:
        raise UnknownNameError("bundle", bundle_sha256, (), where="tapeline.served_vectors")
    return BundleManifest.model_validate(found[0])

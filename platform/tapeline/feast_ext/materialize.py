"""Brings a view's newest rows from PostgreSQL to Redis: Arrow batches in, packed values out, no message per row.

A run reads the entities of which anything became visible in its range, in the order of their keys, and while Redis takes
one batch, the next is read and packed. What it has written it notes after each batch, so that a run that was killed goes
on where it stood when it is asked for again. What was recorded after the last run had read is found as well, whenever
it became visible: rows that come late are not missed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
from feast import FeatureView
from feast.repo_config import RepoConfig

from tapeline.core.errors import SchemaError
from tapeline.core.timestamps import format_us, from_us
from tapeline.datasets.vintage import current_vintage, safe_horizon
from tapeline.feast_ext.arrow_rows import SourceColumns
from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig, require_created_column
from tapeline.feast_ext.online_plan import view_version
from tapeline.feast_ext.online_store import PackedRedisOnlineStore
from tapeline.feast_ext.packing import moment_us
from tapeline.feast_ext.pulls import pull_latest
from tapeline.feast_ext.selection import VERSION_TAG
from tapeline.feast_ext.source import TimescaleSource
from tapeline.storage.copy_reader import stream_query
from tapeline.storage.materialized import (
    Materialized,
    Position,
    UnfinishedRun,
    read_materialized,
    write_materialized,
)

logger = logging.getLogger("tapeline.feast")

Show = Callable[[int], Any]
"""Told how many more entities have been written."""


@dataclass
class Written:
    """What a run did: entities read, values that ranked above what was there, and whether it went on from a killed one."""

    entities: int = 0
    values: int = 0
    resumed: bool = False


class Materializer:
    """Materializes views of one repository into one online store.

    Parameters
    ----------
    config
        The repository; its offline store is a ``TimescaleOfflineStore``.
    store
        Its online store.
    """

    def __init__(self, config: RepoConfig, store: PackedRedisOnlineStore) -> None:
        assert isinstance(config.offline_store, TimescaleOfflineStoreConfig)
        self._config = config
        self._offline = config.offline_store
        self._store = store

    def materialize(
        self, view: FeatureView, start: datetime | None, end: datetime, *, show: Show | None = None
    ) -> Written:
        """Bring the newest row of each entity of which anything became visible in a range, or has arrived since.

        Where the store was emptied, or its record lost, everything from the view's first materialization on is brought.
        A run that was killed is ended first, if its range begins before and ends within this one.

        Parameters
        ----------
        view
            A view over a ``TimescaleSource``.
        start, end
            The range; no start: from the beginning, whatever was brought before.

        Raises
        ------
        InvalidDataError
            If a row does not fit the view.
        SchemaError
            If the source cannot be read.
        VintageError
            If a vintage is asked for and the source has no created column.
        UnavailableError
            If one of the servers is away; asked again, the run goes on where it stood.
        """
        known = self._known(view)
        start_us, end_us = None if start is None else moment_us(start), moment_us(end)
        written = Written()
        if start_us is not None and known is None:
            start_us = self._first_start_us(view, start_us)
        known = known or Materialized()
        left = known.run
        if left is not None and _within(left, start_us, end_us):
            written.resumed = True
            known = self._run(view, known, left, written, show)
            if left.end_us == end_us:
                return written
            start_us = left.end_us
        since_us = None if start_us is None else known.recorded_us
        with self._offline.connect() as connection:
            recorded_us = self._recorded(connection, view)
        self._run(view, known, UnfinishedRun(start_us, end_us, since_us, recorded_us), written, show)
        return written

    def _run(
        self, view: FeatureView, known: Materialized, run: UnfinishedRun, written: Written, show: Show | None
    ) -> Materialized:
        columns = SourceColumns.of(view)
        self._keep(view, replace(known, run=run))
        with self._batches(view, columns, run) as batches, ThreadPoolExecutor(1, "materialize") as pool:
            waiting: Future[int] | None = None
            last: pa.RecordBatch | None = None
            for batch in batches:
                items = self._store.pack_table(self._config, view, pa.Table.from_batches([batch]), columns)
                run = self._settled(view, known, run, columns, waiting, last, written, show)
                waiting, last = pool.submit(self._store.write_packed, self._config, view, items), batch
            self._settled(view, known, run, columns, waiting, last, written, show)
        known = known.finished(run)
        self._keep(view, known)
        return known

    def _settled(
        self,
        view: FeatureView,
        known: Materialized,
        run: UnfinishedRun,
        columns: SourceColumns,
        waiting: Future[int] | None,
        batch: pa.RecordBatch | None,
        written: Written,
        show: Show | None,
    ) -> UnfinishedRun:
        """The run once a batch has been written."""
        if waiting is None or batch is None:
            return run
        written.values += waiting.result()
        written.entities += batch.num_rows
        after = _position(batch, columns)
        if after is not None:
            run = replace(run, after=after)
            self._keep(view, replace(known, run=run))
        if show is not None:
            show(batch.num_rows)
        return run

    @contextmanager
    def _batches(self, view: FeatureView, columns: SourceColumns, run: UnfinishedRun) -> Iterator[pa.RecordBatchReader]:
        source = view.batch_source
        assert isinstance(source, TimescaleSource)
        with self._offline.connect() as connection:
            asked_us = current_vintage()
            require_created_column(self._offline, source, columns.created, asked_us)
            statement = pull_latest(
                source,
                columns.join_keys,
                [*columns.features, *columns.more_times],
                columns.event,
                columns.created,
                None if run.start_us is None else from_us(run.start_us),
                from_us(run.end_us),
                self._offline.vintage_us(connection, asked_us) if columns.created else None,
                since_us=run.since_us,
                after=run.after,
                available_after_event=VERSION_TAG in (view.tags or {}),
            )
            with stream_query(connection, statement) as batches:
                yield batches

    def _recorded(self, connection: psycopg.Connection[Any], view: FeatureView) -> int | None:
        """A moment by which everything recorded is visible to what is read from now on; none if nothing tells."""
        if not SourceColumns.of(view).created:
            return None
        asked_us = self._offline.vintage_us(connection, current_vintage())
        if asked_us is not None:
            return asked_us
        try:
            return safe_horizon(connection)
        except (SchemaError, psycopg.Error) as error:
            logger.warning("%s: the next run will not look for rows that arrive late: %s", view.name, error)
            return None

    def _known(self, view: FeatureView) -> Materialized | None:
        version = self._version(view)
        client = self._store.client(self._config)
        return read_materialized(client, self._config.project, view.name, version)

    def _keep(self, view: FeatureView, known: Materialized) -> None:
        client = self._store.client(self._config)
        write_materialized(client, self._config.project, view.name, self._version(view), known)

    def _version(self, view: FeatureView) -> int:
        return view_version(view, versioning=bool(self._config.registry.enable_online_feature_view_versioning))

    def _first_start_us(self, view: FeatureView, start_us: int) -> int:
        """Where Feast first materialized the view, if it did: the store has lost what it held since then."""
        firsts = [moment_us(first) for first, _ in view.materialization_intervals]
        if not firsts or min(firsts) >= start_us:
            return start_us
        logger.warning(
            "%s: the online store does not know what it holds, so everything since %s is brought again",
            view.name,
            format_us(min(firsts)),
        )
        return min(firsts)


def is_plain(view: Any) -> bool:
    """Whether a view's rows can go to Redis as they stand in a ``TimescaleSource``."""
    return (
        type(view) is FeatureView
        and isinstance(view.batch_source, TimescaleSource)
        and bool(view.entity_columns)
        and view.online
        and not view.offline
        and not view.enable_validation
    )


def _within(run: UnfinishedRun, start_us: int | None, end_us: int) -> bool:
    """Whether ending a run is part of bringing a range. Where nothing tells what arrived since, it is begun again."""
    if run.end_us > end_us or run.recorded_us is None:
        return False
    if start_us is None:
        return run.start_us is None and run.end_us == end_us
    return run.start_us is None or run.start_us <= start_us


def _position(batch: pa.RecordBatch, columns: SourceColumns) -> Position | None:
    """Join keys of a batch's last row; none if they are of a type that a record cannot hold."""
    last = batch.slice(batch.num_rows - 1)
    values = tuple(last.column(key)[0].as_py() for key in columns.join_keys)
    return values if all(isinstance(value, str | int) and not isinstance(value, bool) for value in values) else None

"""``TimescaleOfflineStore``: Feast's offline store over PostgreSQL and TimescaleDB, with the point-in-time rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import field_validator, model_validator

from tapeline.core.errors import ConfigurationError, UnavailableError, VintageError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import to_us
from tapeline.datasets.point_in_time import as_of_join
from tapeline.datasets.vintage import current_vintage, require_created, resolve_vintage
from tapeline.feast_ext.entities import EntityInput
from tapeline.feast_ext.promoted import promoted_views
from tapeline.feast_ext.pulls import pull_all, pull_latest
from tapeline.feast_ext.quality import judge_push
from tapeline.feast_ext.retrieval_job import TimescaleRetrievalJob
from tapeline.feast_ext.saved_dataset import TimescaleLoggingDestination
from tapeline.feast_ext.selection import readable_source, select_views
from tapeline.feast_ext.source import TimescaleSource
from tapeline.feast_ext.writing import with_zones, write_log, write_rows
from tapeline.quality.gate import refusals_recorded
from tapeline.storage.copy_reader import read_query
from tapeline.storage.postgres import Connection, connect, watched
from tapeline.storage.view_versions import require_usable

HORIZON = "horizon"


class TimescaleOfflineStoreConfig(FeastConfigBaseModel):
    """Settings of the store, under ``offline_store`` in ``feature_store.yaml``.

    The database is given by ``url``, or by ``host``, ``database`` and so on as for Feast's own PostgreSQL store (so that
    switching to this one is a change of ``type``), or by neither: then it is that of Tapeline's settings.
    """

    type: Literal[
        "tapeline.feast_ext.offline_store.TimescaleOfflineStore", "tapeline.feast_ext.TimescaleOfflineStore"
    ] = "tapeline.feast_ext.offline_store.TimescaleOfflineStore"
    """How ``feature_store.yaml`` names the store."""
    url: str | None = None
    """``postgresql://…``"""
    host: str | None = None
    port: int = 5432
    database: str | None = None
    db_schema: str | None = None
    """Schema in which names without one are looked up; ``public`` comes after it."""
    user: str | None = None
    password: str | None = None
    sslmode: str | None = None
    """As in libpq, whose default, ``prefer``, encrypts where the server can."""
    sslkey_path: str | None = None
    sslcert_path: str | None = None
    sslrootcert_path: str | None = None
    keepalives_idle: int | None = None
    vintage: str | None = None
    """Read as recorded by this moment: ISO 8601 with its zone, or ``horizon``, the latest that can no longer change.
    ``with tapeline.as_of(k):`` goes before it."""

    @field_validator("vintage")
    @classmethod
    def _check_vintage(cls, value: str | None) -> str | None:
        if value is not None and value != HORIZON:
            to_us(value, where="offline_store.vintage")
        return value

    @model_validator(mode="after")
    def _check_address(self) -> TimescaleOfflineStoreConfig:
        if self.url is not None and self.host is not None:
            raise ValueError("give either url or host, not both")
        if self.host is not None and self.database is None:
            raise ValueError("host needs database")
        return self

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection, its session's time zone set to UTC.

        Raises
        ------
        UnavailableError
            If the server cannot be reached, or refuses.
        """
        if self.url is None and self.host is None:
            return connect()
        given = {
            "host": self.host,
            "port": self.port if self.host else None,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "sslkey": self.sslkey_path,
            "sslcert": self.sslcert_path,
            "sslrootcert": self.sslrootcert_path,
            "keepalives_idle": self.keepalives_idle,
        }
        parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        try:
            connection = Connection.connect(watched(make_conninfo(self.url or "", **parameters)), connect_timeout=5)
        except psycopg.OperationalError as error:
            raise UnavailableError(
                f"PostgreSQL does not answer: {str(error).strip()}",
                where="offline_store of feature_store.yaml",
                remedy="Check the address there and that its server runs",
            ) from error
        path = f"{self.db_schema}, public" if self.db_schema else None
        with connection.transaction():
            connection.execute("SELECT set_config('timezone', 'UTC', false)")
            if path:
                connection.execute("SELECT set_config('search_path', %s, false)", (path,))
        return connection

    def reads_the_past(self, asked_us: int | None) -> bool:
        """Whether somebody chose the vintage of a retrieval, by ``as_of`` or the setting: then sources must know it."""
        return asked_us is not None or self.vintage not in {None, HORIZON}

    def vintage_us(self, connection: psycopg.Connection[Any], asked_us: int | None) -> int | None:
        """The vintage of a retrieval: as asked for by ``as_of``, else as set; none: everything recorded so far.

        Raises
        ------
        VintageError
            If it is later than the safe horizon.
        """
        if asked_us is None and self.vintage is None:
            return None
        if asked_us is None and self.vintage != HORIZON:
            asked_us = to_us(str(self.vintage), where="offline_store.vintage")
        return resolve_vintage(connection, asked_us)


class TimescaleOfflineStore(OfflineStore):
    """Point-in-time-correct retrieval from PostgreSQL or TimescaleDB.

    It reads `TimescaleSource` and, as they stand, the sources of Feast's own PostgreSQL store: a repository written for
    that store switches by the ``type`` of its ``offline_store`` alone. There a row counts as available at its event
    time; rows of one moment are ordered by their created time.
    """

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """The features of each entity row, as known at its moment.

        Parameters
        ----------
        config, feature_views, feature_refs, registry, project, full_feature_names
            As Feast hands them over.
        entity_df
            Entity rows; or a SELECT of them; or none for every moment between ``start_date`` and ``end_date`` at which
            a row of one of the views became visible.
        kwargs
            ``start_date``, ``end_date``; ``filter_by_created_timestamp``: only rows that had been recorded by the
            entity row's own moment.

        Raises
        ------
        VintageError
            If a vintage is asked for and a view's source has no created column; when the result is fetched, if the
            vintage lies past the safe horizon.
        VersionStateError
            If a view's promoted version was never applied; when the result is fetched, if a version is retired.
        """
        settings = _settings(config)
        feature_views = promoted_views(feature_views, registry, project, settings.connect)
        entities = EntityInput.of(entity_df, feature_views, kwargs.get("start_date"), kwargs.get("end_date"))
        selections = select_views(feature_refs, feature_views, registry, project, full_feature_names=full_feature_names)
        asked_us = current_vintage()
        if settings.reads_the_past(asked_us):
            require_created(selections)

        def fetch(connection: psycopg.Connection[Any]) -> pa.Table:
            require_usable(connection, tables=[view.table for view in selections], where="historical features")
            vintage_us = settings.vintage_us(connection, asked_us)
            rows, time_column = entities.read(connection, selections, vintage_us)
            connection.commit()  # so that the join takes a snapshot of its own
            return as_of_join(
                connection,
                selections,
                rows,
                vintage_us=vintage_us,
                time_column=time_column,
                created_by_request=bool(kwargs.get("filter_by_created_timestamp")),
            )

        return TimescaleRetrievalJob(
            fetch,
            settings.connect,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            describe=lambda connection: entities.describe(connection, selections, feature_refs),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity, if it became visible within the range; see `pulls`."""
        source = readable_source(data_source, f"data source {data_source.name}")
        statement = partial(
            pull_latest, source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            start_date, end_date,
        )  # fmt: skip
        return _pull(_settings(config), statement, source, created_timestamp_column)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row that became visible within the range; see `pulls`."""
        source = readable_source(data_source, f"data source {data_source.name}")
        statement = partial(
            pull_all, source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            start_date, end_date,
        )  # fmt: skip
        return _pull(_settings(config), statement, source, created_timestamp_column)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the table of a view's source: those that are new or changed, all of them or none.

        A row is known again by its entity, event time and sequence. If the newest stored row of that key says the same,
        nothing happens; if it says something else, the row is a correction: a newer row, available when it says so if that
        comes after what it corrects, else from its arrival. So the same batch may be written again, and is, after
        a lost connection. The created time is left to the database where it has a default for it. A table without a
        created column gets each row that it does not hold yet, as it is.

        Raises
        ------
        ConfigurationError
            If the source reads a query.
        QualityError
            If a rule of the view's quality refuses the rows.
        InvalidDataError, NaiveTimestampError, LimitError
            If a row or a column does not fit the table, or there are too many.
        UnavailableError, DiskFullError
            If the database stays away or has no room; nothing of the batch is written then.
        """
        source = readable_source(feature_view.batch_source, f"feature view {feature_view.name}")
        if source.table is None:
            raise ConfigurationError(
                "rows cannot be written to a query", where=f"data source {source.name}", remedy="Give it a table"
            )
        keys = [name for name in feature_view.join_keys if name != DUMMY_ENTITY_ID]
        connect, clock = _settings(config).connect, get_settings().make_clock()

        def judge(connection: psycopg.Connection[Any], rows: pa.Table) -> None:
            judge_push(connection, feature_view, source, rows)

        with refusals_recorded(connect):
            write_rows(connect, source, source.table, keys, table, clock, judge)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append logged features to their table, which is created if need be; a batch may be written again.

        Raises
        ------
        ConfigurationError
            If the destination is one of another store.
        InvalidDataError, NaiveTimestampError, LimitError, UnavailableError, DiskFullError
            See `write_log`.
        """
        destination = logging_config.destination
        if not isinstance(destination, TimescaleLoggingDestination):
            raise ConfigurationError(
                f"TimescaleOfflineStore cannot log to a {type(destination).__name__}",
                remedy="Use tapeline.feast_ext.TimescaleLoggingDestination",
            )
        rows = with_zones(pq.read_table(data) if isinstance(data, Path) else data)
        write_log(_settings(config).connect, destination.table, source.get_schema(registry), rows)


def require_created_column(
    settings: TimescaleOfflineStoreConfig, source: TimescaleSource, created_column: str | None, asked_us: int | None
) -> None:
    """Refuse to read the past of a source that does not know it.

    Raises
    ------
    VintageError
        If somebody chose a vintage and the source has no created column.
    """
    if not created_column and settings.reads_the_past(asked_us):
        raise VintageError(
            "it has no created column, so nothing tells what had been recorded by a vintage",
            where=f"data source {source.name}",
            remedy="Name the source's created_timestamp_column, or ask for no vintage",
        )


def _settings(config: RepoConfig) -> TimescaleOfflineStoreConfig:
    settings = config.offline_store
    if not isinstance(settings, TimescaleOfflineStoreConfig):
        raise ConfigurationError(
            "the repository's offline store is another one",
            where="offline_store of feature_store.yaml",
            remedy="Set its type to tapeline.feast_ext.offline_store.TimescaleOfflineStore",
        )
    return settings


def _pull(
    settings: TimescaleOfflineStoreConfig,
    statement: Callable[[int | None], sql.Composable],
    source: TimescaleSource,
    created_column: str | None,
) -> TimescaleRetrievalJob:
    asked_us = current_vintage()
    require_created_column(settings, source, created_column, asked_us)
    return TimescaleRetrievalJob(
        lambda connection: read_query(connection, statement(settings.vintage_us(connection, asked_us))),
        settings.connect,
        statement=statement(asked_us).as_string(None),
    )

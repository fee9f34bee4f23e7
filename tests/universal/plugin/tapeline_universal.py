"""The stores that Feast's universal tests are run against: ours with our source, ours with Feast's, and Feast's own.

Feast reads this module by name (``FULL_REPO_CONFIGS_MODULE``); its own folder is on the path, since ``tests`` is the name of
Feast's package there. The database is that of ``UNIVERSAL_URL``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_logging import LoggingDestination
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import PostgreSQLOfflineStoreConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
    SavedDatasetPostgreSQLStorage,
)
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from tapeline.feast_ext import SavedDatasetTimescaleStorage, TimescaleLoggingDestination, TimescaleSource
from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig
from tests.universal.feature_repos.integration_test_repo_config import IntegrationTestRepoConfig
from tests.universal.feature_repos.universal.data_source_creator import DataSourceCreator

URL = os.environ["UNIVERSAL_URL"]

_SCALARS = {
    "bool": "boolean",
    "int32": "integer",
    "int64": "bigint",
    "float": "double precision",  # as Feast's own loader has it: its tests compare doubles that they wrote to such a column
    "double": "double precision",
    "string": "text",
    "binary": "bytea",
}


def _column_type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return "jsonb"
    if pa.types.is_list(kind):
        return f"{_column_type(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        return "timestamptz"
    return _SCALARS[str(kind)]


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return Jsonb(value)
    return None if not isinstance(value, list) and pd.isna(value) else value


def load(frame: pd.DataFrame, table: str) -> None:
    """Create a table for a frame, with a column type for each of Arrow's, and insert its rows."""
    # A column of times in several zones is an object column; Arrow takes the first one's zone for all of them.
    mixed = [name for name in frame.columns if isinstance(frame[name].iloc[0], pd.Timestamp)]
    frame = frame.assign(**{name: pd.to_datetime(frame[name], utc=True) for name in mixed})
    schema = pa.Table.from_pandas(frame, preserve_index=False).schema
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_column_type(field.type))) for field in schema
    )
    name = sql.Identifier(table)
    rows = [[_value(value) for value in row] for row in frame.astype(object).to_numpy().tolist()]
    slots = sql.SQL(", ").join([sql.Placeholder()] * len(schema))
    with psycopg.connect(URL) as connection, connection.cursor() as cursor:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET search_path = public")  # not the schema that is called like the user
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(name, columns))
        cursor.executemany(sql.SQL("INSERT INTO {} VALUES ({})").format(name, slots), rows)


class _PostgresCreator(DataSourceCreator):
    """Tables of one database, named by the project."""

    def __init__(self, project_name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(project_name)
        self.number = 0

    def create_data_source(
        self,
        df: pd.DataFrame,
        destination_name: str,
        created_timestamp_column: str | None = "created_ts",
        field_mapping: dict[str, str] | None = None,
        timestamp_field: str | None = "ts",
    ) -> DataSource:
        """A source over a table with these rows."""
        table = self.get_prefixed_table_name(destination_name)
        load(df, table)
        return self.source(
            table,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping or {"ts_1": "ts"},
        )

    def source(self, table: str, **options: Any) -> DataSource:
        """The kind of source that these tests are about."""
        raise NotImplementedError

    def get_prefixed_table_name(self, suffix: str) -> str:
        """A table name that no other test has."""
        return f"{self.project_name}_{suffix}"

    def new_table(self, kind: str) -> str:
        """The name of a table that is not there yet."""
        self.number += 1
        return f"{self.project_name}_{kind}_{self.number}"

    def teardown(self) -> None:
        """Drop the project's tables."""
        with psycopg.connect(URL) as connection:
            found = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND starts_with(tablename, %s)",
                (f"{self.project_name}_",),
            ).fetchall()
            for (table,) in found:
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))


class TapelineDataSourceCreator(_PostgresCreator):
    """This store with its own source."""

    def source(self, table: str, **options: Any) -> DataSource:
        """A `TimescaleSource`."""
        return TimescaleSource(name=table, table=table, **options)

    def create_offline_store_config(self) -> FeastConfigBaseModel:
        """This store, by its URL."""
        return TimescaleOfflineStoreConfig(url=URL)

    def create_saved_dataset_destination(self) -> SavedDatasetStorage:
        """A new table."""
        return SavedDatasetTimescaleStorage(self.new_table("saved"))

    def create_logged_features_destination(self) -> LoggingDestination:
        """A new table."""
        return TimescaleLoggingDestination(self.new_table("logged"))


def _address() -> dict[str, Any]:
    address = conninfo_to_dict(URL)
    return {
        "host": address["host"],
        "port": int(address.get("port") or 5432),
        "database": address["dbname"],
        "db_schema": "public",
        "user": address["user"],
        "password": address.get("password") or "none",
        "sslmode": "disable",
    }


class TapelineOnFeastsSourceDataSourceCreator(TapelineDataSourceCreator):
    """This store with the sources of Feast's PostgreSQL store, as in a repository that switched."""

    def source(self, table: str, **options: Any) -> DataSource:
        """Feast's ``PostgreSQLSource``."""
        return PostgreSQLSource(name=table, table=table, **options)

    def create_offline_store_config(self) -> FeastConfigBaseModel:
        """This store by host, since Feast's source asks the store's settings for it."""
        return TimescaleOfflineStoreConfig(**_address())


class PostgreSQLDataSourceCreator(TapelineOnFeastsSourceDataSourceCreator):
    """Feast's own store, for comparison."""

    def create_offline_store_config(self) -> FeastConfigBaseModel:
        """Feast's settings."""
        return PostgreSQLOfflineStoreConfig(type="postgres", **_address())

    def create_saved_dataset_destination(self) -> SavedDatasetStorage:
        """A new table."""
        return SavedDatasetPostgreSQLStorage(self.new_table("saved"))

    def create_logged_features_destination(self) -> LoggingDestination:
        """Feast's store has none; its own tests of this store say so in the same way."""
        return None  # type: ignore[return-value]


_CREATORS = {
    "tapeline": TapelineDataSourceCreator,
    "tapeline_on_feasts_source": TapelineOnFeastsSourceDataSourceCreator,
    "feast_postgres": PostgreSQLDataSourceCreator,
}
_ONLINE = json.loads(os.environ.get("UNIVERSAL_ONLINE", '{"type": "sqlite"}'))
FULL_REPO_CONFIGS = [
    IntegrationTestRepoConfig(
        provider="local", offline_store_creator=_CREATORS[os.environ["UNIVERSAL_STORE"]], online_store=_ONLINE
    )
]
"""The one store that ``UNIVERSAL_STORE`` names."""


class _OneStore(dict[str, Any]):
    """The store under test, once, and under the names of Feast's own Redis, SQLite and MongoDB stores: the tests that Feast keeps for
    these are about what any store should do, asynchronous reads among it.
    """

    def get(self, name: str, default: Any = None) -> Any:
        """The store, if it stands in for one of this name."""
        return super().get("redis") if name in self else default

    def __contains__(self, name: object) -> bool:
        return name in ("redis", "sqlite", "mongodb")


if "UNIVERSAL_ONLINE" in os.environ:
    AVAILABLE_ONLINE_STORES = _OneStore(redis=(_ONLINE, None))
    AVAILABLE_OFFLINE_STORES = [("local", _CREATORS[os.environ["UNIVERSAL_STORE"]])]
